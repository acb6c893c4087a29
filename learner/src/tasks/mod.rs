//! Tasks to learn and to be judged on, that need no robot.
//!
//! - [`pendulum`]: swing one up, from formulas.

pub mod pendulum;

/// What one step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Observation \[O\].
    pub observation: Vec<f64>,
    /// Reward of the step.
    pub reward: f64,
    /// The episode came to its end: nothing follows.
    pub terminated: bool,
    /// Time ran out: what would follow is worth what it is worth.
    pub truncated: bool,
}

/// A task of episodes.
pub trait Task {
    /// O, numbers of an observation.
    fn observations(&self) -> usize;

    /// A, numbers of an action.
    fn actions(&self) -> usize;

    /// Begins an episode, the same one for the same seed; its first observation \[O\].
    fn reset(&mut self, seed: u64) -> Vec<f64>;

    /// One step with an action in ±1 \[A\].
    fn step(&mut self, action: &[f64]) -> Outcome;
}
