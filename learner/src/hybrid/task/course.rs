//! A learner as the course of a training: what is told of it, and its checkpoint, with every step that it learned
//! from.

use std::path::Path;

use anyhow::{Context, Result};
use hilt_recording::table::{Columns, Table};
use tch::{Kind, Tensor};

use super::learner::Learner;
use crate::{
    agents::Figures,
    course::{Course, State, named, training::Best},
    trained::{self, About},
};

/// Names of what a checkpoint has besides the agent's state.
const PROGRESS: &str = "online.progress";
const REPLAY: &str = "online.replay.";

impl Course for Learner {
    fn unit(&self) -> &'static str {
        "steps"
    }

    fn advance(&mut self) -> Result<Vec<(u64, Figures)>> {
        let step = self.steps + 1;
        self.step()
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

    fn progress(&self, trained_s: f64) -> Result<Vec<(String, Tensor)>> {
        let counts = [self.steps, self.episodes, self.updates()];
        let [steps, episodes, updates] = counts.map(|count| count as f64);
        let progress = Tensor::from_slice(&[steps, episodes, updates, trained_s]);
        let mut kept = vec![(PROGRESS.into(), progress)];
        if !self.replay.is_empty() {
            kept.extend(tensors(self.replay.table()?.columns()));
        }
        Ok(kept)
    }

    fn resume(&mut self, checkpoint: &State) -> Result<f64> {
        let progress = named(checkpoint, PROGRESS)?.to_kind(Kind::Double);
        let [steps, episodes, updates, trained_s] = Vec::<f64>::try_from(progress)?[..] else {
            anyhow::bail!("`{PROGRESS}` is of 4 numbers");
        };
        self.restore(checkpoint, updates as u64);
        (self.steps, self.episodes) = (steps as u64, episodes as u64);
        let (o, a) = (self.about.observations, self.about.actions);
        if let Some(columns) = columns(checkpoint, o, a) {
            self.replay.extend(&Table::new(columns?)?)?;
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

/// The columns of a table, by name.
fn tensors(columns: &Columns) -> Vec<(String, Tensor)> {
    let flags = |flags: &[bool]| Tensor::from_slice(flags);
    let numbers = |numbers: &[f32]| Tensor::from_slice(numbers);
    let named = [
        ("observations", numbers(&columns.observations)),
        ("actions", numbers(&columns.actions)),
        ("rewards", numbers(&columns.rewards)),
        ("next_observations", numbers(&columns.next_observations)),
        ("terminals", flags(&columns.terminals)),
        ("timeouts", flags(&columns.timeouts)),
    ];
    named
        .map(|(name, tensor)| (format!("{REPLAY}{name}"), tensor))
        .into()
}

/// What [`tensors`] made of them, if there was anything.
fn columns(state: &State, observation: usize, action: usize) -> Option<Result<Columns>> {
    let column = |name: &str| named(state, &format!("{REPLAY}{name}"));
    column("rewards").ok()?;
    let numbers = |name: &str| Ok::<_, anyhow::Error>(Vec::<f32>::try_from(column(name)?)?);
    let flags = |name: &str| Ok::<_, anyhow::Error>(Vec::<bool>::try_from(column(name)?)?);
    let all = || {
        Ok(Columns {
            observation,
            action,
            observations: numbers("observations")?,
            actions: numbers("actions")?,
            rewards: numbers("rewards")?,
            next_observations: numbers("next_observations")?,
            terminals: flags("terminals")?,
            timeouts: flags("timeouts")?,
        })
    };
    Some(all())
}
