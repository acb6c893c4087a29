//! `hilt-learner evaluate`: a trained policy in a task, judged, filmed and recorded.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use hilt_recording::table::{Columns, Table, npz};
use hilt_show::Show;

use super::{Evaluation, walk};
use crate::{
    config::DeviceChoice,
    hybrid::task::fits,
    metrics::check_writable,
    stopped::Stopped,
    tasks::{self, Outcome, Task},
    trained::Trained,
    video::Filmed,
};

/// What to judge, and how.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// The folder of a training, or of a policy in it.
    pub policy: PathBuf,
    /// The task; absent, the one that the policy was trained for.
    pub env: Option<String>,
    /// How long.
    pub length: Length,
    /// Seed of the first episode; the others count on from it.
    pub seed: u64,
    /// Whether it acts as it explores.
    pub stochastic: bool,
    /// Writes the steps as a table.
    pub log: Option<PathBuf>,
    /// Films the first episodes.
    pub video: Option<Video>,
    /// Where tensors live.
    pub device: DeviceChoice,
}

/// A video to make.
#[derive(Clone, Debug)]
pub struct Video {
    /// An `.mp4` file.
    pub path: PathBuf,
    /// Width and height, pixels.
    pub size: [u32; 2],
}

/// So many episodes are filmed at most: as many as anybody looks at.
const FILMED: u64 = 3;

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// After so many episodes.
    Episodes(u64),
    /// With the episode in which so many steps are reached.
    Steps(u64),
}

/// The policy of a folder: its own, or its best, or its last.
fn open(dir: &Path, device: DeviceChoice) -> Result<Trained> {
    let is_policy = |dir: &PathBuf| dir.join("policy.json").exists();
    let places = [dir.to_owned(), dir.join("best"), dir.join("export")];
    let place = places
        .iter()
        .find(|dir| is_policy(dir))
        .unwrap_or(&places[0]);
    Ok(Trained::open(place, device.resolve()?)?)
}

/// Goes through the episodes, prints what they came to, and returns it. Where `stop` is set it is what came
/// until then.
pub fn run(options: &EvaluateOptions, stop: &AtomicBool) -> Result<Evaluation> {
    match options.length {
        Length::Episodes(0) => anyhow::bail!("--episodes 0: it is at least 1"),
        Length::Steps(0) => anyhow::bail!("--steps 0: it is at least 1"),
        Length::Episodes(_) | Length::Steps(_) => {}
    }
    if let Some(log) = &options.log {
        check_writable(log).context("--log")?;
    }
    let trained = open(&options.policy, options.device)?;
    let about = &trained.about;
    let env = (options.env.as_ref().or(about.env.as_ref())).with_context(|| {
        let ids: Vec<_> = tasks::ids().collect();
        format!("--env: which task? There are {}", ids.join(", "))
    })?;
    let mut task = tasks::open(env)?;
    let whose = format!("the policy in {}", options.policy.display());
    let sizes = (about.observations, about.actions);
    fits(&whose, &*task, about.env.as_deref(), sizes)?;
    // A single observation is nothing to share.
    tch::set_num_threads(1);
    let mut judging = Judging::new(options, &trained);
    let ended = |judging: &Judging| judging.is_over() || stop.load(Ordering::Relaxed);
    if let Some(video) = &options.video {
        let mut filmed = Filmed::begin(&mut *task, &video.path, video.size)?;
        while judging.episodes() < FILMED && !ended(&judging) {
            judging.episode(&mut filmed);
        }
        filmed.end()?;
    }
    while !ended(&judging) {
        judging.episode(&mut *task);
    }
    let Judging {
        evaluation,
        log,
        show,
        ..
    } = judging;
    show.end();
    if evaluation.returns.is_empty() {
        Stopped::check(stop, "the first episode was over")?;
    }
    println!("{env}: return {evaluation}");
    if let (Some(path), Some(columns)) = (&options.log, log) {
        npz::write(path, &Table::new(columns)?)?;
    }
    Ok(evaluation)
}

/// A policy under way through its episodes.
struct Judging<'a> {
    options: &'a EvaluateOptions,
    trained: &'a Trained,
    evaluation: Evaluation,
    steps: u64,
    log: Option<Columns>,
    show: Show,
}

impl<'a> Judging<'a> {
    fn new(options: &'a EvaluateOptions, trained: &'a Trained) -> Self {
        let (Length::Episodes(length) | Length::Steps(length)) = options.length;
        let log = options.log.as_ref().map(|_| Columns {
            observation: trained.about.observations,
            action: trained.about.actions,
            ..Columns::default()
        });
        Self {
            options,
            trained,
            evaluation: Evaluation::default(),
            steps: 0,
            log,
            show: Show::new("evaluate", Some(length)),
        }
    }

    fn episodes(&self) -> u64 {
        self.evaluation.returns.len() as u64
    }

    fn is_over(&self) -> bool {
        match self.options.length {
            Length::Episodes(length) => self.episodes() >= length,
            Length::Steps(length) => self.steps >= length,
        }
    }

    fn episode(&mut self, task: &mut dyn Task) {
        let Self {
            options, trained, ..
        } = self;
        let seed = options
            .seed
            .wrapping_add(self.evaluation.returns.len() as u64);
        let (mut taken, log) = (self.steps, &mut self.log);
        let mut act = |observation: &[f64]| {
            taken += 1;
            match options.stochastic {
                true => trained.explore(observation, options.seed, taken),
                false => trained.act(observation),
            }
        };
        let mut see = |observation: &[f64], action: &[f64], outcome: &Outcome| {
            if let Some(log) = log {
                keep(log, observation, action, outcome);
            }
        };
        let (sum, lasted) = walk(task, seed, &mut act, &mut see);
        self.steps += u64::from(lasted);
        self.evaluation.returns.push(sum);
        self.evaluation.lengths.push(lasted);
        let (position, unit) = match options.length {
            Length::Episodes(_) => (self.episodes(), "episodes"),
            Length::Steps(_) => (self.steps, "steps"),
        };
        let evaluation = &self.evaluation;
        self.show
            .stand(position, || format!("{unit}, return {evaluation}"));
    }
}

fn keep(log: &mut Columns, observation: &[f64], action: &[f64], outcome: &Outcome) {
    let single = |numbers: &[f64]| numbers.iter().map(|&n| n as f32).collect::<Vec<_>>();
    log.observations.extend(single(observation));
    log.actions.extend(single(action));
    log.rewards.push(outcome.reward as f32);
    log.next_observations.extend(single(&outcome.observation));
    log.terminals.push(outcome.terminated);
    log.timeouts.push(outcome.truncated && !outcome.terminated);
}
