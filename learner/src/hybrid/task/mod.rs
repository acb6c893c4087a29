//! Learning on a simulated task, which stands where the robot would: no link, no process beside this one.
//!
//! [`config`]: what can be chosen. `learner`: the agent in its task. `training`: what drives it: figures,
//! evaluations, checkpoints, the best policy kept.
//!
//! | file in the folder | what it is |
//! |---|---|
//! | `training.json` | what cannot change on the way: algorithm, task, seed, recorded data |
//! | `config.toml` | the configuration, resolved |
//! | `metrics.jsonl`, `events.*` | figures over the steps, the latter for TensorBoard |
//! | `checkpoint.safetensors` | what a resumed training goes on from, every step that it learned from included |
//! | `best/` | the policy that did best in an evaluation, see [`crate::trained`] |
//! | `export/` | the last one |
//! | `summary.json` | how it ended |

pub mod config;
mod learner;
mod training;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use anyhow::{Context, Result};
use hilt_recording::table::npz;
use tch::{Device, Kind};

use self::{
    learner::{Learner, Plan},
    training::Training,
};
use crate::{
    agents::{Agent, guard::check_state},
    config::{Algorithm, LearnerConfig},
    offline::folder::Folder,
    tasks::{self, Task},
    trained::Trained,
    vectors::{Scaling, VectorData, VectorReplay},
};

/// What to learn on, and where to.
#[derive(Clone, Debug)]
pub struct TaskOptions {
    /// The task, by Gymnasium's name.
    pub env: String,
    /// A table of recorded transitions to learn from beside what the task gives.
    pub demos: Option<PathBuf>,
    /// A folder of a training to go on from: `export` or `best`.
    pub from: Option<PathBuf>,
    /// Folder for everything that comes out.
    pub out: PathBuf,
    /// Writes the steps that were taken, the newest `train.capacity` of them, as a table.
    pub log: Option<PathBuf>,
    /// Seed of every random draw.
    pub seed: u64,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Hyperparameters.
    pub config: LearnerConfig,
}

/// Learns until the steps are taken or `stop` is set; either way the folder holds what came of it.
pub fn run(options: &TaskOptions, started: Instant, stop: &AtomicBool) -> Result<()> {
    let config = &options.config;
    check(options)?;
    let folder = Folder::open(&options.out, options.resume)?;
    let (task, judge) = (tasks::open(&options.env)?, tasks::open(&options.env)?);
    let device = config.device.resolve()?;
    tch::set_num_threads(config.train.vector_threads());
    let (agent, scaling) = agent(options, &*task, device)?;
    let recorded = recorded(options, &*task, &scaling, device)?;
    let fresh = options.from.is_none();
    let plan = Plan {
        random_steps: if fresh { config.online.random_steps } else { 0 },
        updates_per_step: config.online.updates_per_step,
        batch: config.train.batch,
        recorded_share: config.train.demonstration_share,
        seed: options.seed,
        device,
    };
    let sizes = (task.observations(), task.actions());
    let replay = VectorReplay::new(config.train.capacity, sizes, scaling.clone(), None);
    let learner = Learner {
        task,
        agent,
        scaling,
        replay,
        recorded,
        plan,
        steps: 0,
        episodes: 0,
        open: None,
    };
    Training::begin(options, &folder, learner, judge)?.run(started, stop)
}

/// Settings that exclude each other.
fn check(options: &TaskOptions) -> Result<()> {
    let config = &options.config;
    let name = config.algorithm.name();
    match config.algorithm {
        Algorithm::SacGrasp => anyhow::bail!(
            "--env {}: {name} learns from what a robot sees; choose an algorithm on vectors, as --preset sac",
            options.env
        ),
        Algorithm::Bc => anyhow::bail!(
            "--env {}: {name} learns from recordings alone; train it by `hilt-learner offline`, or choose another \
             algorithm",
            options.env
        ),
        Algorithm::Td3Bc | Algorithm::Iql | Algorithm::Awac | Algorithm::Cql | Algorithm::CalQl => {
            anyhow::ensure!(
                options.from.is_some(),
                "{name} begins with recordings: train it by `hilt-learner offline`, and go on here with --from and \
                 the folder of that; sac, redq and rlpd learn from nothing"
            );
        }
        Algorithm::Sac | Algorithm::Redq | Algorithm::Rlpd => {}
    }
    let share = config.train.demonstration_share;
    anyhow::ensure!(
        (0.0..=1.0).contains(&share),
        "train.demonstration_share = {share}: it lies in 0 to 1"
    );
    Ok(())
}

/// A fresh agent, or that of another folder with what its observations and rewards go through.
fn agent(
    options: &TaskOptions,
    task: &dyn Task,
    device: Device,
) -> Result<(Box<dyn Agent>, Scaling)> {
    let config = &options.config;
    let (o, a) = (task.observations(), task.actions());
    let mut agent = (config.agent(o as i64, a as i64, device, options.seed))
        .with_context(|| format!("{} is none on vectors", config.algorithm.name()))?;
    let Some(from) = &options.from else {
        agent.go_online();
        return Ok((agent, Scaling::default()));
    };
    let trained = Trained::open(from, device)?;
    let about = &trained.about;
    let shown = from.display();
    fits(&shown.to_string(), task, about.observations, about.actions)?;
    anyhow::ensure!(
        about.algorithm == config.algorithm,
        "--from {shown} is of {}, but algorithm = \"{}\": leave the preset out, or choose that of the folder",
        about.algorithm.name(),
        config.algorithm.name()
    );
    let state = trained.agent.state();
    check_state(&agent.state(), &state)
        .with_context(|| format!("--from {shown} was trained with other settings"))?;
    agent.restore(&state, trained.agent.updates());
    agent.go_online();
    Ok((agent, trained.about.scaling))
}

/// The recorded table, through the agent's scaling.
fn recorded(
    options: &TaskOptions,
    task: &dyn Task,
    scaling: &Scaling,
    device: Device,
) -> Result<Option<VectorData>> {
    let Some(path) = &options.demos else {
        return Ok(None);
    };
    let table = npz::read(path)?;
    let shown = path.display().to_string();
    let columns = table.columns();
    fits(&shown, task, columns.observation, columns.action)?;
    let data = VectorData::whole(&table, scaling, (Kind::Float, device)).context(shown)?;
    Ok(Some(data))
}

/// Whether what `whose` names has the task's sizes.
pub(crate) fn fits(
    whose: &str,
    task: &dyn Task,
    observations: usize,
    actions: usize,
) -> Result<()> {
    let (o, a) = (task.observations(), task.actions());
    anyhow::ensure!(
        (observations, actions) == (o, a),
        "{whose} has observations of {observations} numbers and actions of {actions}, {} has {o} and {a}: it is of \
         another task",
        task.id()
    );
    Ok(())
}
