//! What is trained, as those who drive a training see it: an algorithm together with the data that it learns
//! from. `offline` drives one over data at hand, `hybrid` over data that keeps coming.

use std::path::Path;

use anyhow::Result;
use tch::Tensor;

use crate::agents::Figures;

/// An algorithm that goes through its data.
pub trait Course {
    /// One update, from a batch that depends on the run's seed and the update's number alone, so that a resumed
    /// run goes on as if it had never stopped.
    fn update(&mut self) -> Result<Figures>;

    /// Updates made so far.
    fn updates(&self) -> u64;

    /// How well it does on data that it does not learn from; empty where none was held out.
    fn held_out(&self) -> Result<Vec<(&'static str, f64)>>;

    /// Its action in ±1 \[A\] at an observation \[O\] as a task gives it; `None`: it acts on more than that.
    fn act(&self, observation: &[f64]) -> Option<Vec<f64>>;

    /// Everything that the next update depends on, but for the number of updates and the data.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Puts back what [`Course::state`] gave, after it was checked (`agents::guard::check_state`).
    fn restore(&mut self, state: &[(String, Tensor)], updates: u64);

    /// Writes what acts into a folder: graphs that stand alone, with what they need to be read.
    fn export(&self, dir: &Path) -> Result<()>;
}
