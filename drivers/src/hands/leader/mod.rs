//! An unpowered arm that a person leads by hand, and an arm of the rig follows.
//!
//! It is any [`Arm`], whose torque is switched off; a thread of its own reads it.
//! What its tool does, through its own kinematics, is the follower's motion ([`Clutch`]), so the two
//! need not be of one kind. Words come from a keyboard beside it
//! ([`WithKeys`](super::WithKeys)).

mod clutch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use hilt_kinematics::Chain;
use hilt_protocol::ActionSource;
use hilt_realtime::{Clock, Monotonic, newest};

use super::HandDevice;
use crate::{Arm, ArmError, ArmState, Intent, Teleop, TeleopError, TeleopEvent};

pub use clutch::{Clutch, FullStep, LeaderConfig, Led, TakeOver, Wanted};

/// Time between two reads, nanoseconds.
const PERIOD_NS: u64 = 10_000_000;
/// A leader of which nothing is heard for so long is gone, nanoseconds. What it says is refused much
/// sooner, by its age.
const GONE_NS: u64 = 2_000_000_000;

/// The newest that was read, and what went wrong since, if it did.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: Option<ArmState>,
    /// When it was read, or when the thread began.
    read_ns: u64,
    error: Option<ArmError>,
}

/// A leader.
pub struct Leader {
    chain: Chain,
    clutch: Clutch,
    widest_m: f64,
    seen: newest::Reader<Seen>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Leader {
    /// Starts the thread that lets go of `arm` and reads it. `widest_m`: between its fingers when they
    /// are open.
    pub fn start(
        arm: Box<dyn Arm + Send>,
        widest_m: f64,
        clutch: Clutch,
    ) -> Result<Self, TeleopError> {
        let chain = arm.chain().clone();
        let (tell, seen) = newest::newest(Seen {
            state: None,
            read_ns: Monotonic.now_ns(),
            error: None,
        });
        let ending = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ending);
        let thread = std::thread::Builder::new()
            .name("leader".to_owned())
            .spawn(move || read(arm, tell, &over))
            .map_err(|e| TeleopError(format!("the leader's thread does not start ({e})")))?;
        Ok(Self {
            chain,
            clutch,
            widest_m,
            seen,
            ending,
            thread: Some(thread),
        })
    }

    /// The newest state, and how old it is, nanoseconds; `None`: there is none yet.
    fn newest(&mut self) -> Result<Option<(ArmState, u64)>, TeleopError> {
        let seen = self.seen.read();
        let age_ns = Monotonic.now_ns().saturating_sub(seen.read_ns);
        if age_ns > GONE_NS || seen.error == Some(ArmError::Unplugged) {
            let error = match seen.error {
                Some(error) => error.to_string(),
                None => "its thread hangs".to_owned(),
            };
            return Err(TeleopError(format!("the leader arm is gone: {error}")));
        }
        Ok(seen.state.map(|state| (state, age_ns)))
    }
}

/// The thread.
fn read(mut arm: Box<dyn Arm + Send>, mut tell: newest::Writer<Seen>, over: &AtomicBool) {
    let mut seen = Seen {
        state: None,
        read_ns: Monotonic.now_ns(),
        error: None,
    };
    let mut limp = false;
    while !over.load(Ordering::Relaxed) {
        let now_ns = Monotonic.now_ns();
        let read = match limp {
            true => Ok(()),
            false => arm.let_go(),
        };
        limp = read.is_ok();
        let read = read.and_then(|()| {
            let now_ns = Monotonic.now_ns();
            arm.read_state(now_ns, now_ns + PERIOD_NS)
        });
        match read {
            // As old as its oldest joint.
            Ok(state) => {
                (seen.state, seen.error) = (Some(state), state.trouble);
                seen.read_ns = state.captured_ns.min(Monotonic.now_ns());
            }
            Err(error) => seen.error = Some(error),
        }
        tell.write(seen);
        Monotonic.sleep_until_ns(now_ns + PERIOD_NS);
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a leader arm ended by a panic");
        }
    }
}

impl Teleop for Leader {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _seed: u64) {
        self.clutch.release();
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        let Some((state, age_ns)) = self.newest()? else {
            return Ok(None);
        };
        let captured_ns = now_ns.saturating_sub(age_ns);
        let led = Led {
            base_from_tool: self.chain.base_from_tool(state.joints.as_slice()),
            opening: state.gripper_width_m / self.widest_m,
            captured_ns,
        };
        Ok(self.clutch.follow(led).map(|wanted| {
            let mut intent = Intent::still(captured_ns);
            (intent.motion[0], intent.gripper[0]) = (wanted.motion, wanted.gripper);
            intent
        }))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        self.newest().map(|_| None)
    }

    fn verdict(&mut self) -> Option<bool> {
        None
    }
}

impl HandDevice for Leader {
    fn take(&mut self, taken: bool) {
        self.clutch.take(taken);
    }
}
