//! Offline training: any algorithm, on data at hand.
//!
//! 1. What is learned from is opened as a [`Course`]: a table of state vectors as a [`vectors::VectorCourse`], a
//!    folder of a robot's runs as a [`runs::RunsCourse`].
//! 2. Updates, and between them figures, evaluations, checkpoints: [`crate::course`].
//! 3. The best policy stays in `best/`, with its score in `score.json`, the last one in `export/`, and `summary.json`
//!    says how it went.
//!
//! [`batch`] does that with every one of several data sets and seeds.
//!
//! It ends after its updates or when it is told to, and leaves a checkpoint and an export either way. Everything
//! that it draws depends on the seed and the update's number, so that a resumed training goes on as if it had never
//! stopped, on the same machine and number of threads bit for bit.

pub mod batch;
pub mod config;
mod held_out;
pub mod runs;
mod survey;
pub mod vectors;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use anyhow::{Context, Result};
use hilt_protocol::{RigSpec, noise::mix};
use hilt_recording::Data;
use serde_json::{Map, Value, json};
use tch::Device;

pub use self::config::OfflineConfig;
use self::{runs::RunsCourse, vectors::VectorCourse};
use crate::{
    config::{Algorithm, LearnerConfig},
    course::{
        Course,
        folder::{Facts, Folder},
        judge::Judge,
        training::{Checkpoints, Pace, Training},
    },
    dataset::open_data,
    generative::replay::Synthetic,
    metrics::write_atomically,
    stopped::Stopped,
    tasks::{self, Task},
    vectors::Summary,
};

/// What to train from, and where to.
#[derive(Clone, Debug)]
pub struct OfflineOptions {
    /// What is learned from: a table, a robot's runs, or data of another program.
    pub data: PathBuf,
    /// The rig of a recording that does not say it itself.
    pub rig: Option<RigSpec>,
    /// The task that the policy is judged in, by its name in Gymnasium; absent: it is judged by held-out data.
    pub env: Option<String>,
    /// Folder for everything that comes out.
    pub out: PathBuf,
    /// Seed of every random draw.
    pub seed: u64,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Hyperparameters.
    pub config: LearnerConfig,
}

/// What Ctrl-C comes before.
const STOPPED: &str = "the first update";

/// Tells the episodes of an evaluation from those of `hilt-learner evaluate`, and of another training.
const EPISODES: u64 = 0x6a75_6467_6531;

/// Trains until the updates are made or `stop` is set.
pub fn run(options: &OfflineOptions, stop: &AtomicBool) -> Result<()> {
    let (config, began) = (&options.config, Instant::now());
    let folder = Folder::open(&options.out, options.resume)?;
    let device = config.device.resolve()?;
    // That somebody ended it is nothing about the data.
    let as_it_was = |error: anyhow::Error| match error.downcast::<Stopped>() {
        Ok(_) if folder.is_begun() => Stopped::Resumed.into(),
        Ok(stopped) => stopped.into(),
        Err(error) => error,
    };
    let data = open_data(&options.data, options.rig.as_ref(), false, (stop, STOPPED));
    let data = data.context("--data").map_err(as_it_was)?;
    tch::set_num_threads(match &data {
        Data::Recording(_) => config.train.sight_threads(),
        Data::Table(_) => config.train.vector_threads(),
    });
    let env = options.env.as_deref();
    let task = (env.map(tasks::open).transpose()).context("--env")?;
    let opened = open(options, data, &folder, task.as_deref(), device, stop);
    let (mut course, facts) = opened
        .and_then(|opened| Ok(Stopped::check(stop, STOPPED).map(|()| opened)?))
        .map_err(as_it_was)?;
    let offline = &config.offline;
    let judge = Judge {
        task,
        episodes: offline.num_eval,
        first: mix(options.seed ^ EPISODES),
    };
    let pace = Pace {
        length: offline.updates,
        log: offline.log_freq,
        evaluate: offline.eval_freq,
        evaluate_first: false,
        checkpoint: Checkpoints::Steps(offline.epoch_updates),
    };
    let of = (&facts, config);
    let mut training = Training::begin(&mut *course, &folder, of, judge, pace, began)?;
    training.run(config.algorithm.name(), stop)?;
    println!("{}", in_words(&training));
    let summary = serde_json::to_vec_pretty(&summary(options, &training))?;
    Ok(write_atomically(&folder.file("summary.json"), &summary)?)
}

/// How it ended.
fn in_words(training: &Training) -> String {
    let (updates, seconds) = (training.course().updates(), training.trained_s());
    let best = training.best().map_or(String::new(), |best| {
        format!("; the best policy, of update {}, is in best", best.step)
    });
    format!("{updates} updates in {seconds:.0} s; the last policy is in export{best}")
}

fn summary(options: &OfflineOptions, training: &Training) -> Value {
    let (best, last) = (training.best(), training.last());
    let criterion = last.and_then(|(_, verdict)| verdict.score);
    let last = last.map(|(updates, verdict)| {
        let mut figures: Map<String, Value> = (verdict.figures.iter())
            .map(|(name, value)| (name.clone(), Value::from(*value)))
            .collect();
        figures.insert("updates".into(), updates.into());
        figures
    });
    json!({
        "algorithm": options.config.algorithm.name(),
        "seed": options.seed,
        "updates": training.course().updates(),
        "training_wall_s": training.trained_s(),
        "criterion": criterion.map(|(criterion, _)| criterion.name()),
        "best": best.map(|best| json!({ "updates": best.step, "score": best.score })),
        "last_evaluation": last,
        "generative_replay": training.course().synthetic().map(Synthetic::account),
    })
}

/// The course that the data is for, and what a training on it stands on.
fn open(
    options: &OfflineOptions,
    data: Data,
    folder: &Folder,
    task: Option<&dyn Task>,
    device: Device,
    stop: &AtomicBool,
) -> Result<(Box<dyn Course>, Facts)> {
    let (name, config) = (options.data.display(), &options.config);
    let table = match data {
        Data::Table(table) => table,
        Data::Recording(recording) => {
            anyhow::ensure!(
                task.is_none(),
                "--env: a policy for a robot acts on more than a task shows; leave --env out"
            );
            let (course, facts) =
                RunsCourse::open(&recording, folder, config, (device, options.seed), stop)
                    .with_context(|| format!("--data {name}"))?;
            return Ok((Box::new(course), facts));
        }
    };
    anyhow::ensure!(
        config.algorithm != Algorithm::SacGrasp,
        "algorithm = sac-grasp learns from what a robot saw; for a table give a --preset that names another one, iql for \
         instance"
    );
    anyhow::ensure!(
        config.encoder_weights.is_none(),
        "--encoder-weights is for what a robot saw, and --data {name} is a table, of state vectors: leave it out"
    );
    println!("{name}: {}", Summary::of(&table));
    let env = options.env.as_deref();
    let (course, facts) = VectorCourse::open(&table, config, env, options.seed, device)
        .with_context(|| format!("--data {name}"))?;
    if let Some(task) = task {
        let (theirs, ours) = ((task.observations(), task.actions()), course.sizes());
        anyhow::ensure!(
            theirs == ours,
            "--env {}: it has observations of {} numbers and actions of {}, {} has {} and {}: is it a log of another \
             task?",
            task.id(),
            theirs.0,
            theirs.1,
            name,
            ours.0,
            ours.1
        );
    }
    Ok((Box::new(course), facts))
}
