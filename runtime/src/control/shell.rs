//! Reads the arms, takes a step, writes the arms: the thin shell around [`step`].

use hilt_drivers::{Arm, ArmError};
use hilt_protocol::{MAX_ARMS, MAX_CAMERAS};
use hilt_realtime::Clock;

use super::{
    faults::Fault,
    machine::Mode,
    step::{ControlConfig, ControlInputs, ControlState, Order, Reports, Sending, step},
};
use crate::tick::{Outcome, TickTimes};

/// Most bytes that go to an arm in a tick: a target for eight servos, and that twice.
const SENT_BYTES: usize = 191;

/// The bytes that went to one arm in a tick.
#[derive(Clone, Copy)]
pub struct Sent {
    len: u8,
    bytes: [u8; SENT_BYTES],
}

impl Default for Sent {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Sent {
    /// These; what is too long is cut, which a comparison of two runs sees alike in both.
    pub fn new(sent: &[u8]) -> Self {
        let len = sent.len().min(SENT_BYTES);
        let mut bytes = [0; SENT_BYTES];
        bytes[..len].copy_from_slice(&sent[..len]);
        Self {
            len: len as u8,
            bytes,
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// What a tick saw and did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TickRecord {
    /// 0, 1, 2, … within the run; those that were missed have numbers too.
    pub number: u64,
    /// Ticks right before it that were missed.
    pub missed: u64,
    /// When it did what.
    pub times: TickTimes,
    /// What it saw.
    pub inputs: ControlInputs,
    /// How it ended.
    pub outcome: Outcome,
    /// The mode after it.
    pub mode: Mode,
    /// The fault that the mode is about.
    pub fault: Option<Fault>,
    /// What each arm said to what it was sent.
    pub written: [Option<ArmError>; MAX_ARMS],
    /// What went to each arm's wire. When arms were started: what each is held by now, which it was
    /// asked for.
    pub sent: [Sent; MAX_ARMS],
    /// Over everything up to and with this tick; see [`ControlState::hash`].
    pub hash: u64,
}

/// One tick that was due at `due_ns` and began at `woke_ns`. The arms have until `read_until_ns` to
/// answer, in equal shares.
#[expect(clippy::too_many_arguments, reason = "a tick's whole world, by name")]
pub fn tick<A: Arm + ?Sized>(
    config: &ControlConfig,
    state: &mut ControlState,
    arms: &mut [Box<A>],
    clock: &(impl Clock + ?Sized),
    due_ns: u64,
    woke_ns: u64,
    read_until_ns: u64,
    order: Order,
    frames_ns: [u64; MAX_CAMERAS],
    overtaken: bool,
) -> TickRecord {
    let mut reports: Reports = [None; MAX_ARMS];
    // Nothing is asked of buses that somebody else writes to.
    if !overtaken {
        // Each has a share of its own: one that is silent must not make the others stale.
        // It counts from when it is asked: a thread that wakes late is no fault of a servo's.
        let share_ns = read_until_ns.saturating_sub(due_ns) / arms.len().max(1) as u64;
        let mut until_ns = woke_ns;
        for (report, arm) in reports.iter_mut().zip(arms.iter_mut()) {
            until_ns += share_ns;
            *report = Some(arm.read_state(woke_ns, until_ns));
        }
    }
    let read_ns = clock.now_ns();
    let inputs = ControlInputs {
        now_ns: woke_ns,
        order,
        reports,
        frames_ns,
        overtaken,
    };
    let outputs = step(config, state, &inputs);
    let decided_ns = clock.now_ns();
    let (written, sent) = send(state, arms, &outputs.sending);
    TickRecord {
        number: 0,
        missed: 0,
        times: TickTimes {
            due_ns,
            woke_ns,
            read_ns,
            decided_ns,
            written_ns: clock.now_ns(),
        },
        inputs,
        outcome: outputs.outcome,
        mode: state.mode(),
        fault: state.fault(),
        written,
        sent,
        hash: state.hash(),
    }
}

type Written = ([Option<ArmError>; MAX_ARMS], [Sent; MAX_ARMS]);

/// Sends what the step decided; what fails is told to the state, and is a fault from there on.
fn send<A: Arm + ?Sized>(
    state: &mut ControlState,
    arms: &mut [Box<A>],
    sending: &Sending,
) -> Written {
    let mut written = [None; MAX_ARMS];
    let mut sent = [Sent::default(); MAX_ARMS];
    if *sending == Sending::Nothing {
        return (written, sent);
    }
    let slots = written.iter_mut().zip(&mut sent);
    for (index, (arm, (written, sent))) in arms.iter_mut().zip(slots).enumerate() {
        let result = match sending {
            Sending::Targets(targets) => match &targets[index] {
                Some((joints, gripper)) => arm.write(joints, *gripper),
                None => Ok(()),
            },
            Sending::Stop => arm.stop(),
            Sending::Start => arm.start(),
            Sending::Nothing => Ok(()),
        };
        *written = result.err();
        *sent = Sent::new(match sending {
            Sending::Start => arm.will(),
            _ => arm.sent(),
        });
        state.written(index, sent.as_slice(), *written);
    }
    (written, sent)
}
