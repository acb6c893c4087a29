//! A learner as the course of a training: what is told of it, and its checkpoint, which says on which steps it stands.

use std::{path::Path, sync::atomic::AtomicBool};

use anyhow::{Context, Result};
use hilt_recording::table::Table;
use tch::{Kind, Tensor};

use super::{REPLAY, learner::Learner, rows::Rows};
use crate::{
    agents::Figures,
    course::{Course, State, named, training::Best},
    generative::replay::Synthetic,
    tasks,
    trained::{self, About},
};

/// Name of what a checkpoint has besides the agent's state.
const PROGRESS: &str = "online.progress";

impl Course for Learner {
    fn unit(&self) -> &'static str {
        "steps"
    }

    fn advance(&mut self, stop: &AtomicBool) -> Result<Vec<(u64, Figures)>> {
        let step = self.steps + 1;
        self.step(stop)
            .with_context(|| format!("in step {step} of {}", self.task.id()))
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn updates(&self) -> u64 {
        self.agent.updates()
    }

    fn told(&mut self, trained_s: f64) -> Vec<(&'static str, f64)> {
        let ended = std::mem::take(&mut self.ended);
        let mut told = vec![("updates", self.updates() as f64), ("wall_s", trained_s)];
        if !ended.returns.is_empty() {
            let (mean, length) = (ended.mean(), ended.mean_length());
            told.extend([("return", mean), ("episode_length", length)]);
        }
        told
    }

    fn words(&self, _: &[(&'static str, f64)], best: Option<Best>) -> String {
        let last = self.ended.returns.last();
        let last = last.map_or(String::new(), |sum| format!(", last return {sum:.1}"));
        let best = best.map_or(String::new(), |best| {
            format!(", best evaluation {:.1} at {}", best.score, best.step)
        });
        format!("{last}{best}")
    }

    fn act(&self, observation: &[f64]) -> Option<Vec<f64>> {
        let (scaling, device) = (&self.about.scaling, self.plan.device);
        Some(trained::act(&*self.agent, scaling, observation, device))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.agent.state()
    }

    fn restore(&mut self, state: &State, updates: u64) {
        self.agent.restore(state, updates);
    }

    fn synthetic(&self) -> Option<&dyn Synthetic> {
        self.generative.as_ref().map(|own| own as _)
    }

    fn synthetic_mut(&mut self) -> Option<&mut dyn Synthetic> {
        self.generative.as_mut().map(|own| own as _)
    }

    fn progress(&self, trained_s: f64) -> Result<Vec<(String, Tensor)>> {
        // A row for each step, of which the newest are learned from.
        let rows = self.replay.len() as u64;
        let counts = [self.steps, self.episodes, self.updates(), rows];
        let [steps, episodes, updates, rows] = counts.map(|count| count as f64);
        let progress = Tensor::from_slice(&[steps, episodes, updates, rows, trained_s]);
        Ok(vec![(PROGRESS.into(), progress)])
    }

    fn keep(&mut self) -> Result<()> {
        Ok(self.rows.keep(self.replay.len())?)
    }

    fn resume(&mut self, checkpoint: &State) -> Result<f64> {
        let Progress {
            steps,
            episodes,
            updates,
            rows,
            trained_s,
        } = Progress::of(checkpoint)?;
        self.restore(checkpoint, updates);
        (self.steps, self.episodes) = (steps, episodes);
        let columns = self.rows.resume(steps - rows..steps)?;
        if !columns.rewards.is_empty() {
            self.replay.extend(&Table::new(columns)?)?;
        }
        Ok(trained_s)
    }

    fn export(&self, dir: &Path) -> Result<()> {
        let about = About {
            updates: self.updates(),
            ..self.about.clone()
        };
        Ok(trained::write(dir, &*self.agent, &about, &self.config)?)
    }
}

/// The steps that a checkpoint of the training in `dir` stands on; `None` before the first. `env` is its task.
///
/// # Errors
/// If the checkpoint is of no such training, or the steps are not there.
pub fn steps(dir: &Path, env: &str, checkpoint: &State) -> Result<Option<Table>> {
    let task = tasks::open(env)?;
    let Progress { steps, rows, .. } = Progress::of(checkpoint)?;
    let mut files = Rows::new(dir.join(REPLAY), (task.observations(), task.actions()));
    let columns = files.resume(steps - rows..steps)?;
    match rows {
        0 => Ok(None),
        _ => Ok(Some(Table::new(columns)?)),
    }
}

/// How far a training was.
struct Progress {
    steps: u64,
    episodes: u64,
    updates: u64,
    /// The newest steps, which are learned from.
    rows: u64,
    trained_s: f64,
}

impl Progress {
    fn of(checkpoint: &State) -> Result<Self> {
        let progress = named(checkpoint, PROGRESS)?.to_kind(Kind::Double);
        let [steps, episodes, updates, rows, trained_s] = Vec::<f64>::try_from(progress)?[..]
        else {
            anyhow::bail!("`{PROGRESS}` is of 5 numbers");
        };
        let [steps, episodes, updates, rows] = [steps, episodes, updates, rows].map(|n| n as u64);
        Ok(Self {
            steps,
            episodes,
            updates,
            rows,
            trained_s,
        })
    }
}
