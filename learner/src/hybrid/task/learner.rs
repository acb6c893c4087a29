//! An agent in its task: each step acts, keeps what came of it, and learns.
//!
//! Every random number follows from the run's seed and from the number of the episode, step or update that it
//! is for. So the same seed gives the same run, and a resumed one draws what it would have drawn; only the
//! episode that was open is not gone on with, since a task's state cannot be kept.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use hilt_protocol::noise::{Uniforms, mix};
use tch::{Device, Kind};

use super::rows::Rows;
use crate::{
    agents::{Agent, Figures, Transitions, draws::Seeded, guard::BadBatch},
    config::LearnerConfig,
    evaluation::Evaluation,
    generative::replay::{Experience, GenerativeReplay, Settled},
    tasks::Task,
    trained::{self, About},
    vectors::{Step, VectorData, VectorReplay, interleaved},
};

/// What a random number is for.
#[derive(Clone, Copy)]
pub(super) enum For {
    Episodes,
    Actions,
    Rows,
    Evaluation,
    Curiosity,
}

/// Streams of one purpose have no seed in common with those of another.
pub(super) fn seed_for(seed: u64, purpose: For) -> u64 {
    mix(seed ^ mix(0x6f6e_6c69_6e65 + purpose as u64))
}

/// How it acts and learns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// First steps that are random and teach nothing.
    pub random_steps: u64,
    /// Updates after each further one.
    pub updates_per_step: u64,
    /// Transitions of an update's part.
    pub batch: usize,
    /// Share of them that is recorded data, where there is some.
    pub recorded_share: f64,
    pub seed: u64,
    pub device: Device,
}

/// All that changes while an agent learns on a task.
pub(super) struct Learner {
    pub task: Box<dyn Task>,
    pub agent: Box<dyn Agent>,
    /// But for the updates, which the agent counts.
    pub about: About,
    pub config: LearnerConfig,
    pub replay: VectorReplay,
    /// The steps on disk.
    pub rows: Rows,
    pub recorded: Option<VectorData>,
    pub generative: Option<GenerativeReplay>,
    pub plan: Plan,
    /// Steps taken.
    pub steps: u64,
    /// Episodes begun.
    pub episodes: u64,
    /// The one that is open.
    pub open: Option<Open>,
    /// Those that have ended since it was last asked.
    pub ended: Evaluation,
}

/// An episode under way.
pub(super) struct Open {
    observation: Vec<f64>,
    sum: f64,
    steps: u32,
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&number| number as f32).collect()
}

impl Learner {
    /// One step, and the updates that it earns: their numbers and figures. Neither, if a generation has to be waited
    /// for and `stop` is set meanwhile.
    pub fn step(&mut self, stop: &AtomicBool) -> Result<Vec<(u64, Figures)>> {
        let settled = self.generative(|generative, steps, experience| {
            generative.before(steps, experience, stop)
        })?;
        if settled == Some(Settled::Stopped) {
            return Ok(vec![]);
        }
        let seed = self.plan.seed;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let first = seed_for(seed, For::Episodes);
                let observation = self.task.reset(first.wrapping_add(self.episodes));
                self.episodes += 1;
                Open {
                    observation,
                    sum: 0.0,
                    steps: 0,
                }
            }
        };
        let action = self.explore(&open.observation);
        // Before the task has it, which would go where nothing leads back from.
        if let Some(column) = action.iter().position(|number| !number.is_finite()) {
            let bad = BadBatch::NotFinite {
                tensor: "actions",
                row: self.steps as i64,
                column: column as i64,
                value: action[column],
            };
            return Err(bad.into());
        }
        let outcome = self.task.step(&action);
        let step = Step {
            observation: &single(&open.observation),
            action: &single(&action),
            reward: outcome.reward as f32,
            next_observation: &single(&outcome.observation),
            terminated: outcome.terminated,
            truncated: outcome.truncated,
        };
        self.replay.push(step)?;
        self.rows.push(&step)?;
        self.steps += 1;
        open.observation = outcome.observation;
        open.sum += outcome.reward;
        open.steps += 1;
        if outcome.terminated || outcome.truncated {
            self.ended.returns.push(open.sum);
            self.ended.lengths.push(open.steps);
        } else {
            self.open = Some(open);
        }
        if self.steps <= self.plan.random_steps {
            return Ok(vec![]);
        }
        let updates = 0..self.plan.updates_per_step;
        let figures = updates.filter_map(|_| self.update()).collect();
        self.generative(GenerativeReplay::after)?;
        Ok(figures)
    }

    fn options(&self) -> (Kind, Device) {
        (Kind::Float, self.plan.device)
    }

    /// Has generative replay do something, if there is any.
    fn generative<T>(
        &mut self,
        act: impl FnOnce(&mut GenerativeReplay, u64, &Experience) -> Result<T>,
    ) -> Result<Option<T>> {
        let options = self.options();
        let Some(generative) = &mut self.generative else {
            return Ok(None);
        };
        let seed = seed_for(self.plan.seed, For::Curiosity);
        let batch = || {
            let mut stream = Uniforms::new(mix(seed ^ self.steps));
            self.replay.batch(&mut stream, self.plan.batch, options)
        };
        let experience = Experience {
            all: &|| self.replay.all(options),
            batch: &batch,
            critic: &&*self.agent,
        };
        act(generative, self.steps, &experience).map(Some)
    }

    /// What it does next: at first anything, then as the agent explores.
    fn explore(&self, observation: &[f64]) -> Vec<f64> {
        let seed = seed_for(self.plan.seed, For::Actions);
        if self.steps < self.plan.random_steps {
            let mut stream = Uniforms::new(mix(seed ^ self.steps));
            // As a table keeps it.
            let uniform = |_| f64::from(stream.range(-1.0, 1.0) as f32);
            return (0..self.task.actions()).map(uniform).collect();
        }
        let device = self.plan.device;
        let mut draws = Seeded::new(seed, self.steps, (Kind::Float, device));
        let scaling = &self.about.scaling;
        trained::explore(&*self.agent, scaling, observation, &mut draws, device)
    }

    fn update(&mut self) -> Option<(u64, Figures)> {
        let number = self.agent.updates();
        let batch = self.batch(number)?;
        let options = (Kind::Float, self.plan.device);
        let mut draws = Seeded::new(self.plan.seed, number, options);
        Some((number + 1, self.agent.update(&batch, &mut draws)))
    }

    /// The rows of update `number`: generated and real ones in turn, as the share says.
    fn batch(&self, number: u64) -> Option<Transitions> {
        let seed = seed_for(self.plan.seed, For::Rows);
        let mut stream = Uniforms::new(mix(seed ^ number));
        let rows = self.plan.batch * self.agent.parts() as usize;
        let real = |rows, stream: &mut Uniforms| self.real(rows, stream);
        match &self.generative {
            Some(generative) => generative.mixed(rows, &mut stream, real),
            None => real(rows, &mut stream),
        }
    }

    /// Recorded rows and own ones in turn, as the share says.
    fn real(&self, rows: usize, stream: &mut Uniforms) -> Option<Transitions> {
        let (plan, options) = (&self.plan, self.options());
        let Some(recorded) = &self.recorded else {
            return self.replay.batch(stream, rows, options);
        };
        let of_recorded = (rows as f64 * plan.recorded_share).round() as usize;
        match rows - of_recorded {
            0 => Some(recorded.batch(stream, rows)),
            own if own == rows => self.replay.batch(stream, rows, options),
            own => {
                let recorded = recorded.batch(stream, of_recorded);
                let own = self.replay.batch(stream, own, options)?;
                Some(interleaved(&recorded, &own))
            }
        }
    }
}
