//! The course over a table of state vectors: batches from it, to any of the algorithms.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result};
use hilt_protocol::noise::{Uniforms, mix};
use hilt_recording::table::npz;
use serde_json::json;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    folder::Facts,
    judge::{ADVANTAGE_WEIGHTED_ERROR, IMITATION_ERROR},
};
use crate::{
    agents::{Figures, Transitions, draws::Seeded, front::Teaches},
    config::{Algorithm, LearnerConfig},
    course::Course,
    trained::{self, About, act},
    vectors::{Preparation, Prepared, Returns, Summary, VectorData, prepare},
};

/// Tells the draws of rows from those of noise.
const ROWS: u64 = 0x726f_7773;
/// Rows of held-out data in one evaluation of the networks.
const SLICE: i64 = 4096;
/// A weight exp(advantage) is clamped there, as IQL and AWAC do.
const MOST_WEIGHT: f64 = 100.0;

/// An algorithm with a table that it learns from.
pub struct VectorCourse {
    agent: Box<dyn Teaches>,
    data: Prepared,
    /// But for the updates, which the agent counts.
    about: About,
    config: LearnerConfig,
    seed: u64,
    options: (Kind, Device),
}

impl VectorCourse {
    /// Reads a table and makes a fresh agent for it; `env` is the task that it will be judged in. Also what the
    /// training then stands on.
    pub fn open(
        path: &Path,
        config: &LearnerConfig,
        env: Option<&str>,
        seed: u64,
        device: Device,
    ) -> Result<(Self, Facts)> {
        let named = || format!("--data {}", path.display());
        let table = npz::read(path).with_context(named)?;
        println!("{}: {}", path.display(), Summary::of(&table));
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
        let data = prepare(&table, &preparation, options).with_context(named)?;
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
            "data.sha256": sha256(path).with_context(named)?,
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

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            bytes => hash.update(&piece[..bytes]),
        }
    }
}

impl Course for VectorCourse {
    fn update(&mut self) -> Result<Figures> {
        let number = self.agent.updates();
        let mut rows = Uniforms::new(mix(self.seed ^ ROWS ^ number.rotate_left(17)));
        let count = self.config.offline.batch * self.agent.parts() as usize;
        let batch = self.data.train.batch(&mut rows, count);
        let mut draws = Seeded::new(self.seed, number, self.options);
        Ok(self.agent.update(&batch, &mut draws))
    }

    fn updates(&self) -> u64 {
        self.agent.updates()
    }

    fn held_out(&self) -> Result<Vec<(&'static str, f64)>> {
        let discount = self.config.discount();
        Ok(match &self.data.held_out {
            Some(data) => no_grad(|| held_out(&*self.agent, data, discount)),
            None => vec![],
        })
    }

    fn act(&self, observation: &[f64]) -> Option<Vec<f64>> {
        let scaling = &self.about.scaling;
        Some(act(&*self.agent, scaling, observation, self.options.1))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.agent.state()
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
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

/// How an agent does on data that it does not learn from. π(s) is its best action, Q its own judgement:
/// - `q_data`, `q_policy`: mean Q(s, a) and mean Q(s, π(s));
/// - `td_error`: mean |r + γ m Q(s', π(s')) − Q(s, a)|;
/// - `advantage_weighted_error`: mean over columns of (π(s) − a)², weighted by exp of the advantage Q(s, a) −
///   Q(s, π(s)) in standard deviations from its mean, at most 100; weights sum up to 1. The scale of rewards does not
///   matter to it;
/// - `imitation_error`: the same with equal weights.
///
/// Without a critic the last alone.
fn held_out(agent: &dyn Teaches, data: &VectorData, discount: f64) -> Vec<(&'static str, f64)> {
    let starts = (0..data.rows()).step_by(SLICE as usize);
    let of_slices: Vec<Judged> = starts
        .map(|start| Judged::of(agent, &data.slice(start, SLICE), discount))
        .collect();
    let column = |of: &dyn Fn(&Judged) -> Option<&Tensor>| {
        let parts: Option<Vec<&Tensor>> = of_slices.iter().map(of).collect();
        parts.map(|parts| Tensor::cat(&parts, 0).to_kind(Kind::Double))
    };
    let mean = |x: &Tensor| x.mean(None::<Kind>).double_value(&[]);
    let Some(errors) = column(&|judged| Some(&judged.error)) else {
        return vec![];
    };
    let mut figures = vec![];
    let q = |which: usize| column(&|judged| judged.q.as_ref().map(|q| &q[which]));
    if let (Some(data), Some(policy), Some(td)) = (q(0), q(1), q(2)) {
        let advantage = &data - &policy;
        let spread = advantage
            .std(false)
            .double_value(&[])
            .max(f64::MIN_POSITIVE);
        let standard = (&advantage - mean(&advantage)) / spread;
        let weights = standard.exp().clamp_max(MOST_WEIGHT);
        let weights = &weights / weights.sum(Kind::Double);
        figures.extend([
            ("q_data", mean(&data)),
            ("q_policy", mean(&policy)),
            ("td_error", mean(&td)),
            (
                ADVANTAGE_WEIGHTED_ERROR,
                (weights * &errors).sum(Kind::Double).double_value(&[]),
            ),
        ]);
    }
    figures.push((IMITATION_ERROR, mean(&errors)));
    figures
}

/// Of each row \[B\].
struct Judged {
    /// Mean squared error of the policy's action.
    error: Tensor,
    /// Q(s, a), Q(s, π(s)), and the size of the temporal difference.
    q: Option<[Tensor; 3]>,
}

impl Judged {
    fn of(agent: &dyn Teaches, rows: &Transitions, discount: f64) -> Self {
        let policy = agent.act(&rows.observations, None);
        let error = (&policy - &rows.actions).square();
        let q = |observations: &Tensor, actions: &Tensor| agent.value(observations, actions);
        let of_data = q(&rows.observations, &rows.actions);
        let of_policy = q(&rows.observations, &policy);
        let next = &rows.next_observations;
        let of_next = q(next, &agent.act(next, None));
        let all = of_data.zip(of_policy).zip(of_next);
        Self {
            error: error.mean_dim(1, false, None::<Kind>),
            q: all.map(|((data, policy), next)| {
                let off = &rows.rewards + &rows.masks * next * discount - &data;
                [data, policy, off.abs()]
            }),
        }
    }
}
