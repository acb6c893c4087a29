//! Learning on a simulated task, which stands where the robot would: no link, no process beside this one.
//!
//! [`config`]: what can be chosen. `beginning`: what it stands on. `learner`: the agent in its task. `course`: as what
//! drives it sees it ([`crate::course`]). `rows`: its steps on disk.
//!
//! | file in the folder | what it is |
//! |---|---|
//! | `training.json` | what cannot change on the way: algorithm, task, seed, recorded data, scaling, the agent before it |
//! | `config.toml` | the configuration, resolved |
//! | `metrics.jsonl`, `events.*` | figures over the steps, the latter for TensorBoard |
//! | `checkpoint.safetensors`, `replay/` | what a resumed training goes on from, and the steps that it learned from |
//! | `best/` | the policy that did best in an evaluation, see [`crate::trained`], and in `score.json` how well |
//! | `export/` | the last one |
//! | `summary.json` | how it ended |

mod beginning;
pub mod config;
mod course;
mod learner;
mod rows;

use std::{
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hilt_recording::table::npz;
use serde_json::{Value, json};

pub use self::course::steps;
use self::{
    beginning::{Beginning, went_on},
    learner::{For, Learner, Plan, seed_for},
    rows::Rows,
};
use crate::{
    config::{Algorithm, LearnerConfig},
    course::{
        folder::Folder,
        judge::Judge,
        training::{Checkpoints, Pace, Training},
    },
    evaluation::Evaluation,
    generative::{
        layout::Layout,
        replay::{GenerativeReplay, Synthetic},
    },
    metrics::{check_writable, write_atomically},
    tasks,
    trained::About,
    vectors::VectorReplay,
};

/// Where the steps are.
const REPLAY: &str = "replay";
/// A line of figures is written once in so many steps.
const LOG_STEPS: u64 = 1000;

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
    let about = About {
        algorithm: config.algorithm,
        observations: task.observations(),
        actions: task.actions(),
        env: Some(options.env.clone()),
        updates: 0,
        scaling,
    };
    let sizes = (about.observations, about.actions);
    let generative = GenerativeReplay::new(
        &config.generative_replay,
        Layout {
            observations: sizes.0 as i64,
            actions: sizes.1 as i64,
        },
        config.discount(),
        options.seed,
        device,
    );
    let scaling = about.scaling.clone();
    let mut learner = Learner {
        task,
        agent,
        about,
        config: config.clone(),
        replay: VectorReplay::new(config.train.capacity, sizes, scaling, None),
        rows: Rows::new(folder.file(REPLAY), sizes),
        recorded,
        generative,
        plan,
        steps: 0,
        episodes: 0,
        open: None,
        ended: Evaluation::default(),
    };
    let online = &config.online;
    let judge = Judge {
        task: Some(judge),
        episodes: online.num_eval,
        first: seed_for(options.seed, For::Evaluation),
    };
    let pace = Pace {
        length: online.steps,
        log: LOG_STEPS,
        evaluate: online.eval_freq,
        evaluate_first: !fresh,
        checkpoint: Checkpoints::Time(Duration::from_secs_f64(config.train.checkpoint_period_s)),
    };
    let begun = folder.has_checkpoint();
    anyhow::ensure!(
        begun || !folder.is_begun() || options.from.is_some() || fresh,
        "--out {}: the training there was stopped before its first checkpoint; name what it goes on from once more, by \
         --from",
        options.out.display()
    );
    let of = (&facts, config);
    let mut training = Training::begin(&mut learner, &folder, of, judge, pace, started)?;
    if !begun && !fresh {
        // Whoever resumes it need not name again what it went on from.
        training.save()?;
    }
    training.run(&options.env, stop)?;
    let summary = serde_json::to_vec_pretty(&summary(options, &training))?;
    write_atomically(&folder.file("summary.json"), &summary)?;
    match &options.log {
        None => Ok(()),
        Some(log) if learner.replay.is_empty() => {
            println!("no step was taken: {} is not written", log.display());
            Ok(())
        }
        Some(log) => Ok(npz::write(log, &learner.replay.table()?)?),
    }
}

/// How it ended.
fn summary(options: &TaskOptions, training: &Training) -> Value {
    let (course, best) = (training.course(), training.best());
    let (last_at, last) = training.last().unzip();
    let last = |name: &str| last.and_then(|verdict| verdict.figure(name));
    json!({
        "env": options.env,
        "algorithm": options.config.algorithm.name(),
        "seed": options.seed,
        "steps": course.steps(),
        "updates": course.updates(),
        "training_wall_s": training.trained_s(),
        "best_return": best.map(|best| best.score),
        "best_at_step": best.map(|best| best.step),
        "last_return": last("evaluation/return"),
        "last_return_std": last("evaluation/return_std"),
        "last_at_step": last_at,
        "generative_replay": course.synthetic().map(Synthetic::account),
    })
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
