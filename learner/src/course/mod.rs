//! What is trained, as those who drive a training see it, and how it is driven. `offline` gives one over data at hand,
//! `hybrid::task` one in a simulated task.
//!
//! - [`Course`]: an algorithm together with what it learns from.
//! - [`training`]: the loop: steps, and what goes out in between.
//! - [`folder`]: what a training stands on, and its checkpoint.
//! - [`judge`]: how good a policy is, and which of two is the better one.

pub mod folder;
pub mod judge;
pub mod training;

use std::{path::Path, sync::atomic::AtomicBool};

use anyhow::{Context, Result};
use tch::Tensor;

use self::training::Best;
use crate::{agents::Figures, generative::replay::Synthetic, show::loss_words};

/// Tensors by name.
pub type State = [(String, Tensor)];

/// One of a [`State`].
pub fn named<'a>(state: &'a State, name: &str) -> Result<&'a Tensor> {
    let found = state.iter().find(|(own, _)| own == name);
    let (_, tensor) = found.with_context(|| format!("there is no `{name}`"))?;
    Ok(tensor)
}

const UPDATES: &str = "training.updates";
const TRAINED_S: &str = "training.trained_s";

/// Updates and seconds of training, as a checkpoint has them.
fn so_far(updates: u64, trained_s: f64) -> Vec<(String, Tensor)> {
    vec![
        (UPDATES.into(), Tensor::from(updates as i64)),
        (TRAINED_S.into(), Tensor::from(trained_s)),
    ]
}

/// What [`so_far`] made of them.
fn read_so_far(checkpoint: &State) -> Result<(u64, f64)> {
    let updates = named(checkpoint, UPDATES)?.int64_value(&[]) as u64;
    Ok((updates, named(checkpoint, TRAINED_S)?.double_value(&[])))
}

/// An algorithm that goes through its data.
pub trait Course {
    /// What its steps are.
    fn unit(&self) -> &'static str {
        "updates"
    }

    /// One step: an update, or a step in a task and the updates that it earns; their numbers and figures. What it
    /// draws depends on the run's seed and the numbers of steps and updates alone, so that a resumed run goes on as if
    /// it had never stopped. Where it has to wait and `stop` is set meanwhile it does nothing.
    fn advance(&mut self, stop: &AtomicBool) -> Result<Vec<(u64, Figures)>>;

    /// Steps made so far.
    fn steps(&self) -> u64 {
        self.updates()
    }

    /// Updates made so far.
    fn updates(&self) -> u64;

    /// What else is to be told of the steps since the last time, `trained_s` seconds after the training began.
    fn told(&mut self, _trained_s: f64) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// How it goes, in words, by the newest figures of updates and the best evaluation.
    fn words(&self, figures: &[(&'static str, f64)], _best: Option<Best>) -> String {
        loss_words(figures)
    }

    /// How well it does on data that it does not learn from; empty where none was held out.
    fn held_out(&self) -> Result<Vec<(&'static str, f64)>> {
        Ok(vec![])
    }

    /// Its action in ±1 \[A\] at an observation \[O\] as a task gives it; `None`: it acts on more than that.
    fn act(&self, observation: &[f64]) -> Option<Vec<f64>>;

    /// Everything that the next update depends on, but for the number of updates and the data.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Puts back what [`Course::state`] gave, after it was checked (`agents::guard::check_state`).
    fn restore(&mut self, state: &State, updates: u64);

    /// What it generates beside its data, if it does. A checkpoint has that too.
    fn synthetic(&self) -> Option<&dyn Synthetic> {
        None
    }

    /// The same, to be changed.
    fn synthetic_mut(&mut self) -> Option<&mut dyn Synthetic> {
        None
    }

    /// What a checkpoint has besides, `trained_s` seconds after the training began.
    fn progress(&self, trained_s: f64) -> Result<Vec<(String, Tensor)>> {
        Ok(so_far(self.updates(), trained_s))
    }

    /// Brings to disk what the next checkpoint stands on and does not hold.
    fn keep(&mut self) -> Result<()> {
        Ok(())
    }

    /// Goes on from a checkpoint, which has the state and the progress of this course by name and shape; seconds of
    /// training until then.
    fn resume(&mut self, checkpoint: &State) -> Result<f64> {
        let (updates, trained_s) = read_so_far(checkpoint)?;
        self.restore(checkpoint, updates);
        Ok(trained_s)
    }

    /// Writes what acts into a folder: graphs that stand alone, with what they need to be read.
    fn export(&self, dir: &Path) -> Result<()>;
}
