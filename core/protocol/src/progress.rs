//! What the learner tells the robot besides weights.

use crate::RunId;

/// Everything of a run up to and including `sequence` is on the learner's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which run.
    pub run: RunId,
    /// The last durable sequence number without a hole before it.
    pub sequence: u64,
}

/// How far the learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Identity of the learner's run; kept across resumes.
    pub learner_run: u64,
    /// Gradient updates so far.
    pub updates: u64,
    /// Entries on its disk so far, demonstrations apart.
    pub entries: u64,
    /// In lockstep the actor may have taken at most so many steps.
    pub allowed_steps: u64,
    /// Training is over: the actor may end.
    pub finished: bool,
}
