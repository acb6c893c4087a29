//! The course over a table of state vectors: batches from it, to any of the algorithms.

use std::path::Path;

use anyhow::{Context, Result};
use hilt_protocol::noise::{Uniforms, mix};
use hilt_recording::table::Table;
use serde_json::json;
use tch::{Device, Kind, Tensor, no_grad};

use super::held_out::{self, Judged, Values};
use crate::{
    agents::{Agent, Figures, Transitions, draws::Seeded},
    config::{Algorithm, LearnerConfig},
    course::{Course, State, folder::Facts},
    trained::{self, About, act},
    vectors::{Preparation, Prepared, Returns, prepare, summary::sha256},
};

/// Tells the draws of rows from those of noise.
const ROWS: u64 = 0x726f_7773;
/// Rows of held-out data in one evaluation of the networks.
const SLICE: i64 = 4096;

/// An algorithm with a table that it learns from.
pub struct VectorCourse {
    agent: Box<dyn Agent>,
    data: Prepared,
    /// But for the updates, which the agent counts.
    about: About,
    config: LearnerConfig,
    seed: u64,
    options: (Kind, Device),
}

impl VectorCourse {
    /// Makes a fresh agent for a table; `env` is the task that it will be judged in. Also what the
    /// training then stands on.
    pub fn open(
        table: &Table,
        config: &LearnerConfig,
        env: Option<&str>,
        seed: u64,
        device: Device,
    ) -> Result<(Self, Facts)> {
        let offline = &config.offline;
        let calibrated = config.algorithm == Algorithm::CalQl;
        let preparation = Preparation {
            held_out: offline.held_out,
            seed,
            normalize: offline.normalize_observations,
            rewards: offline.rewards,
            returns: calibrated.then_some(Returns {
                discount: config.discount(),
                sparse: offline.sparse_rewards,
            }),
        };
        let options = (Kind::Float, device);
        let data = prepare(table, &preparation, options)?;
        let (observations, actions) = (table.columns().observation, table.columns().action);
        let agent = config.agent(observations as i64, actions as i64, device, seed);
        let agent = agent.context("sac-grasp learns from what a robot sees, not from a table")?;
        let facts = json!({
            "algorithm": config.algorithm,
            "seed": seed,
            "env": env,
            "data.observations": observations,
            "data.actions": actions,
            "data.rows": table.len(),
            "data.sha256": sha256(table),
            "offline.held_out": offline.held_out,
            "offline.normalize_observations": offline.normalize_observations,
            "offline.rewards": offline.rewards,
            "offline.sparse_rewards": offline.sparse_rewards,
        });
        let serde_json::Value::Object(facts) = facts else {
            anyhow::bail!("a list of facts is an object");
        };
        let about = About {
            algorithm: config.algorithm,
            observations,
            actions,
            env: env.map(str::to_owned),
            updates: 0,
            scaling: data.scaling.clone(),
        };
        let course = Self {
            agent,
            data,
            about,
            config: config.clone(),
            seed,
            options,
        };
        Ok((course, facts))
    }

    /// O and A.
    pub fn sizes(&self) -> (usize, usize) {
        (self.about.observations, self.about.actions)
    }
}

impl Course for VectorCourse {
    fn advance(&mut self) -> Result<Vec<(u64, Figures)>> {
        let number = self.agent.updates();
        let mut rows = Uniforms::new(mix(self.seed ^ ROWS ^ number.rotate_left(17)));
        let count = self.config.offline.batch * self.agent.parts() as usize;
        let batch = self.data.train.batch(&mut rows, count);
        let mut draws = Seeded::new(self.seed, number, self.options);
        Ok(vec![(number + 1, self.agent.update(&batch, &mut draws))])
    }

    fn updates(&self) -> u64 {
        self.agent.updates()
    }

    fn held_out(&self) -> Result<Vec<(&'static str, f64)>> {
        let discount = self.config.discount();
        let Some(data) = &self.data.held_out else {
            return Ok(vec![]);
        };
        let starts = (0..data.rows()).step_by(SLICE as usize);
        let slice = |start| judged(&*self.agent, &data.slice(start, SLICE), discount);
        let slices: Vec<Judged> = no_grad(|| starts.map(slice).collect());
        Ok(held_out::figures(&slices))
    }

    fn act(&self, observation: &[f64]) -> Option<Vec<f64>> {
        let scaling = &self.about.scaling;
        Some(act(&*self.agent, scaling, observation, self.options.1))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.agent.state()
    }

    fn restore(&mut self, state: &State, updates: u64) {
        self.agent.restore(state, updates);
    }

    fn export(&self, dir: &Path) -> Result<()> {
        let about = About {
            updates: self.agent.updates(),
            ..self.about.clone()
        };
        Ok(trained::write(dir, &*self.agent, &about, &self.config)?)
    }
}

fn judged(agent: &dyn Agent, rows: &Transitions, discount: f64) -> Judged {
    let policy = agent.act(&rows.observations, None);
    let q = |observations: &Tensor, actions: &Tensor| agent.value(observations, actions);
    let of_data = q(&rows.observations, &rows.actions);
    let of_policy = q(&rows.observations, &policy);
    let next = &rows.next_observations;
    let of_next = q(next, &agent.act(next, None));
    let values = (of_data.zip(of_policy).zip(of_next)).map(|((data, policy), next)| Values {
        td: &rows.rewards + &rows.masks * next * discount - &data,
        data,
        policy,
    });
    Judged::new(&rows.actions, &policy, values)
}
