//! What a person holds.

use hilt_protocol::{ActionSource, GripperCommand, MAX_ARMS};

/// What a person wants an arm to do now: a newest value, never queued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intent {
    /// Time of capture on the run's clock, nanoseconds.
    pub captured_ns: u64,
    /// Per arm x, y, z, roll, pitch, yaw in [-1, 1]; 1 is one full step of the action.
    pub motion: [[f64; 6]; MAX_ARMS],
    /// Per arm: open, close, or leave it.
    pub gripper: [Option<GripperCommand>; MAX_ARMS],
}

impl Intent {
    /// Hands on, moving nothing.
    pub fn still(captured_ns: u64) -> Self {
        Self {
            captured_ns,
            motion: [[0.0; 6]; MAX_ARMS],
            gripper: [None; MAX_ARMS],
        }
    }
}

/// What a person says: queued, none is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeleopEvent {
    /// The task is done.
    Success,
    /// The task has failed; end the episode.
    Failure,
    /// Throw this episode away and do it again.
    Rerecord,
    /// End the run.
    Stop,
}

/// The device is not there, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("teleop: {0}")]
pub struct TeleopError(pub String);

/// A device in a person's hand, or what stands in for it.
pub trait Teleop {
    /// As whom its actions are recorded.
    fn source(&self) -> ActionSource;

    /// An episode begins; `seed` is for those that draw random numbers.
    fn begin_episode(&mut self, seed: u64);

    /// What is wanted now, asked once per policy step; `None`: hands off, the policy acts.
    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError>;

    /// The oldest thing said that was not taken yet.
    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError>;

    /// The episode has ended: was it a success? `None`: nothing is said. Not waited for.
    fn verdict(&mut self) -> Option<bool>;
}

impl<T: Teleop + ?Sized> Teleop for Box<T> {
    fn source(&self) -> ActionSource {
        (**self).source()
    }

    fn begin_episode(&mut self, seed: u64) {
        (**self).begin_episode(seed);
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        (**self).intent(now_ns)
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        (**self).event()
    }

    fn verdict(&mut self) -> Option<bool> {
        (**self).verdict()
    }
}
