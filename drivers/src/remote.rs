//! A *remote* arm: one behind something that takes its time, a network or a simulation.
//!
//! A thread of its own exchanges commands and states with the device at the control loop's rate;
//! the loop sees an arm whose calls return at once, and whose states say how old they are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector, MAX_JOINTS};
use hilt_realtime::{Clock, Monotonic, newest};

use crate::{Arm, ArmError, ArmState, Encoding, arm::check_target};

/// What a remote device is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RemoteCommand {
    /// To hold where it is.
    Hold,
    /// To go there.
    Target(JointVector, GripperCommand),
}

/// A float per joint and a byte for the gripper.
pub(crate) const SENT_BYTES: usize = 8 * MAX_JOINTS + 1;

impl RemoteCommand {
    /// As bytes, for logs: a target's joints and whether the gripper is closed. Gives how many.
    pub(crate) fn encode(&self, out: &mut [u8; SENT_BYTES]) -> usize {
        let Self::Target(joints, gripper) = self else {
            return 0;
        };
        let mut len = 0;
        for q in joints.as_slice() {
            out[len..len + 8].copy_from_slice(&q.to_le_bytes());
            len += 8;
        }
        out[len] = u8::from(*gripper == GripperCommand::Closed);
        len + 1
    }
}

/// What is at the other end. Its calls may wait.
pub trait RemoteDevice: Send {
    /// The arm was started: the next exchanges make the device ready, before its first target.
    fn start(&mut self) {}

    /// Hands over the newest command, if there is a new one, and brings the newest state, stamped on
    /// the monotonic clock.
    fn exchange(&mut self, command: Option<RemoteCommand>) -> Result<ArmState, ArmError>;
}

/// The newest that the thread is told.
#[derive(Clone, Copy)]
struct Told {
    /// How often the arm was started.
    starts: u64,
    /// How many commands there were, and the last of them.
    commands: u64,
    command: RemoteCommand,
}

impl Told {
    /// Nothing yet.
    const NOTHING: Self = Self {
        starts: 0,
        commands: 0,
        command: RemoteCommand::Hold,
    };
}

/// The newest of an exchange.
type Newest = Option<Result<ArmState, ArmError>>;

/// The loop's side of the arm.
pub struct RemoteArm {
    chain: Chain,
    commands: newest::Writer<Told>,
    told: Told,
    states: newest::Reader<Newest>,
    stopped: bool,
    sent: [u8; SENT_BYTES],
    sent_len: usize,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// So long, nanoseconds, until the first state has to be there.
const FIRST_NS: u64 = 5_000_000_000;

impl RemoteArm {
    /// Starts the thread, which exchanges once per `period_ns`, and waits for the first state.
    pub fn start(
        chain: Chain,
        mut device: Box<dyn RemoteDevice>,
        period_ns: u64,
    ) -> Result<Self, ArmError> {
        let (commands, mut newest_told) = newest::newest(Told::NOTHING);
        let (mut newest_state, mut states) = newest::newest::<Newest>(None);
        let ending = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ending);
        let work = move || {
            let (mut due_ns, mut done) = (Monotonic.now_ns(), Told::NOTHING);
            while !over.load(Ordering::Relaxed) {
                let told = newest_told.read();
                if told.starts > done.starts {
                    device.start();
                }
                let new = (told.commands > done.commands).then_some(told.command);
                done = told;
                newest_state.write(Some(device.exchange(new)));
                due_ns = (due_ns + period_ns).max(Monotonic.now_ns());
                Monotonic.sleep_until_ns(due_ns);
            }
        };
        let thread = std::thread::Builder::new()
            .name("remote-arm".to_owned())
            .spawn(work)
            .map_err(|_| ArmError::Device)?;
        let until_ns = Monotonic.now_ns() + FIRST_NS;
        while states.read().is_none() && Monotonic.now_ns() < until_ns {
            Monotonic.sleep_until_ns(Monotonic.now_ns() + period_ns);
        }
        Ok(Self {
            chain,
            commands,
            told: Told::NOTHING,
            states,
            stopped: true,
            sent: [0; SENT_BYTES],
            sent_len: 0,
            ending,
            thread: Some(thread),
        })
    }

    fn send(&mut self, command: RemoteCommand) {
        self.told.commands += 1;
        self.told.command = command;
        self.commands.write(self.told);
        self.sent_len = command.encode(&mut self.sent);
    }
}

impl Drop for RemoteArm {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a remote arm ended by a panic");
        }
    }
}

impl Arm for RemoteArm {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn read_state(&mut self, _now_ns: u64, _until_ns: u64) -> Result<ArmState, ArmError> {
        self.sent_len = 0;
        self.states.read().unwrap_or(Err(ArmError::Device))
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        if self.stopped {
            return Err(ArmError::Stopped);
        }
        check_target(&self.chain, joints)?;
        self.send(RemoteCommand::Target(*joints, gripper));
        Ok(())
    }

    fn start(&mut self) -> Result<(), ArmError> {
        if std::mem::take(&mut self.stopped) {
            self.told.starts += 1;
            self.commands.write(self.told);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        self.stopped = true;
        self.send(RemoteCommand::Hold);
        Ok(())
    }

    fn sent(&self) -> &[u8] {
        &self.sent[..self.sent_len]
    }

    fn encoding(&self) -> Encoding {
        Encoding::Remote
    }
}
