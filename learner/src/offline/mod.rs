//! Offline training: any algorithm, on data at hand.
//!
//! 1. What is learned from is opened as a [`Course`]: a table of state vectors as a [`vectors::VectorCourse`], a
//!    folder of a robot's runs as a [`runs::RunsCourse`].
//! 2. Updates, and between them figures, evaluations by the [`judge`], checkpoints into the [`folder`].
//! 3. The best policy stays in `best/`, the last one in `export/`, and `summary.json` says how it went.
//!
//! It ends after its updates or when it is told to, and leaves a checkpoint and an export either way. Everything
//! that it draws depends on the seed and the update's number, so that a resumed training goes on as if it had never
//! stopped, on the same machine and number of threads bit for bit.

pub mod config;
pub mod folder;
mod held_out;
pub mod judge;
pub mod runs;
mod survey;
mod training;
pub mod vectors;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context, Result};
use hilt_protocol::RigSpec;
use hilt_recording::Data;
use tch::Device;

pub use self::config::OfflineConfig;
use self::{
    folder::{Facts, Folder},
    judge::Judge,
    runs::RunsCourse,
    training::Training,
    vectors::VectorCourse,
};
use crate::{
    config::{Algorithm, LearnerConfig},
    course::Course,
    metrics::write_atomically,
    show,
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

/// Trains until the updates are made or `stop` is set.
pub fn run(options: &OfflineOptions, stop: &AtomicBool) -> Result<()> {
    let (config, began) = (&options.config, Instant::now());
    let folder = Folder::open(&options.out, options.resume)?;
    let device = config.device.resolve()?;
    let data = Data::open(&options.data, options.rig.as_ref()).context("--data")?;
    tch::set_num_threads(match &data {
        Data::Recording(_) => config.train.sight_threads(),
        Data::Table(_) => config.train.vector_threads(),
    });
    let env = options.env.as_deref();
    let task = (env.map(tasks::open).transpose()).context("--env")?;
    let (mut course, facts) = open(options, data, &folder, task.as_deref(), device, stop)?;
    if stop.load(Ordering::Relaxed) {
        return Err(Stopped("the first update").into());
    }
    folder.check(&facts)?;
    let kept = folder.load(&mut *course)?;
    // Only now: a resumed run that was refused keeps the settings that it had.
    folder.begin(&facts, config)?;
    if course.updates() > 0 {
        println!("resumed at {} updates", course.updates());
    }
    let judge = Judge {
        task,
        episodes: config.offline.num_eval,
        seed: options.seed,
    };
    let mut show = show::Training::new(config.algorithm.name(), config.offline.updates);
    let mut training = Training::new(&mut *course, judge, &folder, &config.offline, kept, began)?;
    let ended = training.run(&mut show, stop);
    show.end();
    ended?;
    println!("{}", training.in_words());
    let mut summary = training.summary();
    summary.insert("seed".into(), options.seed.into());
    summary.insert("algorithm".into(), config.algorithm.name().into());
    write_atomically(
        &folder.file("summary.json"),
        &serde_json::to_vec_pretty(&summary)?,
    )?;
    Ok(())
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
