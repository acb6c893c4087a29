//! Learning on a simulated task, which stands where the robot would: no link, no process beside this one.
//!
//! [`config`]: what can be chosen. `beginning`: what it stands on. `learner`: the agent in its task. `training`: what
//! drives it: figures, evaluations, checkpoints, the best policy kept.
//!
//! | file in the folder | what it is |
//! |---|---|
//! | `training.json` | what cannot change on the way: algorithm, task, seed, recorded data, scaling, the agent before it |
//! | `config.toml` | the configuration, resolved |
//! | `metrics.jsonl`, `events.*` | figures over the steps, the latter for TensorBoard |
//! | `checkpoint.safetensors` | what a resumed training goes on from, every step that it learned from included |
//! | `best/` | the policy that did best in an evaluation, see [`crate::trained`], and in `score.json` how well |
//! | `export/` | the last one |
//! | `summary.json` | how it ended |

mod beginning;
pub mod config;
mod learner;
mod training;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use anyhow::{Context, Result};

use self::{
    beginning::{Beginning, went_on},
    learner::{Learner, Plan},
    training::Training,
};
use crate::{
    config::{Algorithm, LearnerConfig},
    metrics::check_writable,
    offline::folder::Folder,
    tasks::{self, Task},
    vectors::VectorReplay,
};

/// What to learn on, and where to.
#[derive(Clone, Debug)]
pub struct TaskOptions {
    /// The task, by Gymnasium's name.
    pub env: String,
    /// A table of recorded transitions to learn from beside what the task gives.
    pub demos: Option<PathBuf>,
    /// A folder of a training to go on from: `export` or `best`. A resumed training needs it no more.
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
    let folder = Folder::open(&options.out, options.resume)?;
    let fresh = options.from.is_none() && !went_on(&folder);
    check(options, fresh)?;
    if let Some(log) = &options.log {
        check_writable(log).context("--log")?;
    }
    let (task, judge) = (tasks::open(&options.env)?, tasks::open(&options.env)?);
    let device = config.device.resolve()?;
    tch::set_num_threads(config.train.vector_threads());
    let Beginning {
        agent,
        scaling,
        recorded,
        facts,
    } = Beginning::open(options, &folder, &*task, device)?;
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
        fresh,
        steps: 0,
        episodes: 0,
        open: None,
    };
    Training::begin(options, &folder, &facts, learner, judge)?.run(started, stop)
}

/// Settings that exclude each other.
fn check(options: &TaskOptions, fresh: bool) -> Result<()> {
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
                !fresh,
                "{name} begins with recordings: train it by `hilt-learner offline`, and go on here with --from and \
                 the folder of that; sac, redq and rlpd learn from nothing"
            );
        }
        Algorithm::Sac | Algorithm::Redq | Algorithm::Rlpd => {}
    }
    Ok(())
}

/// Whether what `whose` names has the task's sizes, and is of it: `env` is the task that it is known to be of.
/// Versions of a task count as the same one.
pub(crate) fn fits(
    whose: &str,
    task: &dyn Task,
    env: Option<&str>,
    (observations, actions): (usize, usize),
) -> Result<()> {
    let (o, a) = (task.observations(), task.actions());
    anyhow::ensure!(
        (observations, actions) == (o, a),
        "{whose} has observations of {observations} numbers and actions of {actions}, {} has {o} and {a}: it is of \
         another task",
        task.id()
    );
    if let Some(env) = env {
        anyhow::ensure!(
            name(env) == name(task.id()),
            "{whose} is of {env}, not of {}: their observations and actions have the same sizes, but mean other things",
            task.id()
        );
    }
    Ok(())
}

/// A task's name without its version.
fn name(id: &str) -> &str {
    id.rsplit_once("-v").map_or(id, |(name, _)| name)
}
