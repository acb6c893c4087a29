//! The course over a table of state vectors: batches from it, to any of the algorithms.

use std::{path::Path, sync::atomic::AtomicBool};

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
    generative::{
        layout::Layout,
        replay::{Experience, GenerativeReplay, Settled, Synthetic},
    },
    trained::{self, About, act},
    vectors::{Preparation, Prepared, Returns, prepare, summary::sha256},
};

/// Tells the draws of rows from those of noise.
const ROWS: u64 = 0x726f_7773;
const CURIOSITY: u64 = 0x6375_7269;
/// Rows of held-out data in one evaluation of the networks.
const SLICE: i64 = 4096;

/// An algorithm with a table that it learns from.
pub struct VectorCourse {
    agent: Box<dyn Agent>,
    data: Prepared,
    generative: Option<GenerativeReplay>,
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
            returns: calibrated.then_some(Returns {
                discount: config.discount(),
                sparse: offline.sparse_rewards,
            }),
            ..offline.preparation(seed)
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
        let serde_json::Value::Object(mut facts) = facts else {
            anyhow::bail!("a list of facts is an object");
        };
        facts.extend(config.generative_replay.facts());
        let about = About {
            algorithm: config.algorithm,
            observations,
            actions,
            env: env.map(str::to_owned),
            updates: 0,
            scaling: data.scaling.clone(),
        };
        let layout = Layout {
            observations: observations as i64,
            actions: actions as i64,
        };
        let generative = GenerativeReplay::new(
            &config.generative_replay,
            layout,
            config.discount(),
            seed,
            device,
        );
        let course = Self {
            agent,
            data,
            generative,
            about,
            config: config.clone(),
            seed,
            options,
        };
        Ok((course, facts))
    }

    /// Has generative replay do something, if there is any.
    fn generative<T>(
        &mut self,
        act: impl FnOnce(&mut GenerativeReplay, &Experience) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(generative) = &mut self.generative else {
            return Ok(None);
        };
        let (data, seed, number) = (&self.data.train, self.seed, self.agent.updates());
        let batch = || {
            let mut stream = Uniforms::new(mix(seed ^ CURIOSITY ^ number.rotate_left(17)));
            Some(data.batch(&mut stream, self.config.offline.batch))
        };
        let experience = Experience {
            all: &|| Some(data.slice(0, data.rows())),
            batch: &batch,
            critic: &&*self.agent,
        };
        act(generative, &experience).map(Some)
    }

    /// O and A.
    pub fn sizes(&self) -> (usize, usize) {
        (self.about.observations, self.about.actions)
    }
}

impl Course for VectorCourse {
    fn advance(&mut self, stop: &AtomicBool) -> Result<Vec<(u64, Figures)>> {
        let number = self.agent.updates();
        let generative =
            self.generative(|generative, experience| generative.before(number, experience, stop))?;
        if generative == Some(Settled::Stopped) {
            return Ok(vec![]);
        }
        let mut stream = Uniforms::new(mix(self.seed ^ ROWS ^ number.rotate_left(17)));
        let count = self.config.offline.batch * self.agent.parts() as usize;
        let real = |rows, stream: &mut Uniforms| Some(self.data.train.batch(stream, rows));
        let batch = match &self.generative {
            Some(generative) => generative.mixed(count, &mut stream, real),
            None => real(count, &mut stream),
        };
        let batch = batch.context("no row to learn from")?;
        let mut draws = Seeded::new(self.seed, number, self.options);
        let figures = self.agent.update(&batch, &mut draws);
        self.generative(|generative, experience| generative.after(number + 1, experience))?;
        Ok(vec![(number + 1, figures)])
    }

    fn synthetic(&self) -> Option<&dyn Synthetic> {
        self.generative.as_ref().map(|own| own as _)
    }

    fn synthetic_mut(&mut self) -> Option<&mut dyn Synthetic> {
        self.generative.as_mut().map(|own| own as _)
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
