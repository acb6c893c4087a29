//! What only a simulated rig has.

use hilt_protocol::JointVector;
use hilt_sim::Truth;

/// How an episode of a simulated rig begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpisodeStart {
    /// Side of the square in which objects begin, metres.
    pub range_m: f64,
    /// What the start is drawn from: equal seeds, equal starts.
    pub seed: u64,
}

/// The simulated world failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated world failed: {0}")]
pub struct WorldError(pub String);

/// What a simulated rig can do besides: be put at a start, and know the truth.
pub trait Scene {
    /// Puts everything at a start, at rest, and returns when the rig may be used.
    fn reset(&mut self, start: EpisodeStart) -> Result<(), WorldError>;

    /// Where the arm is to be driven before the episode, radians; `None`: [`Scene::reset`] has put it
    /// where it belongs.
    fn home(&self, _start: EpisodeStart) -> Result<Option<JointVector>, WorldError> {
        Ok(None)
    }

    /// The arm has been driven home: what else belongs to the start comes to its place.
    fn arm_is_home(&mut self, _start: EpisodeStart) -> Result<(), WorldError> {
        Ok(())
    }

    /// What only a simulator knows, for the final judge and the reports; `None` where the scene
    /// has no task.
    fn truth(&self) -> Option<Truth>;
}

/// A scene whose time stands still until it is told to pass: lockstep.
pub trait World: Scene {
    /// Simulated time, nanoseconds; goes on across resets.
    fn now_ns(&self) -> u64;

    /// Lets `duration_ns` pass.
    fn advance_ns(&mut self, duration_ns: u64) -> Result<(), WorldError>;
}
