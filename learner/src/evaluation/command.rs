//! `hilt-learner evaluate`: a trained policy in a task, judged, filmed and recorded.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result};
use hilt_recording::table::{Columns, Table, npz};
use hilt_show::Show;

use super::{Evaluation, walk};
use crate::{
    config::DeviceChoice,
    metrics::check_writable,
    stopped::Stopped,
    tasks::{self, Outcome, Task, fits},
    trained::{Trained, policy_in},
    video::{FRAMES_PER_S, Filmed},
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

/// The policy of a folder, and the task `env`, or else the one that it was trained on.
pub(super) fn open(
    dir: &Path,
    env: Option<&str>,
    device: DeviceChoice,
) -> Result<(Trained, Box<dyn Task>)> {
    let place = policy_in(dir).unwrap_or_else(|| dir.to_owned());
    let trained = Trained::open(&place, device.resolve()?)?;
    let about = &trained.about;
    let env = env.or(about.env.as_deref()).with_context(|| {
        let ids: Vec<_> = tasks::ids().collect();
        format!("--env: which task? There are {}", ids.join(", "))
    })?;
    let task = tasks::open(env)?;
    let whose = format!("the policy in {}", dir.display());
    let sizes = (about.observations, about.actions);
    fits(&whose, &*task, about.env.as_deref(), sizes)?;
    // A single observation is nothing to share.
    tch::set_num_threads(1);
    Ok((trained, task))
}

/// Goes through the episodes, prints what they came to, and returns it. Where `stop` is set it is what those came to
/// that were over by then.
pub fn run(options: &EvaluateOptions, stop: &AtomicBool) -> Result<Evaluation> {
    match options.length {
        Length::Episodes(0) => anyhow::bail!("--episodes 0: it is at least 1"),
        Length::Steps(0) => anyhow::bail!("--steps 0: it is at least 1"),
        Length::Episodes(_) | Length::Steps(_) => {}
    }
    if let Some(log) = &options.log {
        check_writable(log).context("--log")?;
    }
    let (trained, mut task) = open(&options.policy, options.env.as_deref(), options.device)?;
    let mut judging = Judging::new(options, &trained);
    if let Some(video) = &options.video {
        let mut filmed = Filmed::begin(&mut *task, &video.path, video.size, FRAMES_PER_S)?;
        judging.until(FILMED, &mut filmed, stop);
        if judging.check(stop).is_ok() {
            filmed.end()?;
        }
    }
    judging.until(u64::MAX, &mut *task, stop);
    let (words, ended) = (judging.in_words(), judging.check(stop));
    let Judging {
        evaluation,
        log,
        show,
        ..
    } = judging;
    show.end();
    if let (Some(path), Some(columns)) = (&options.log, log)
        && !columns.rewards.is_empty()
    {
        npz::write(path, &Table::new(columns)?)?;
    }
    ended?;
    println!("{}: {words}", task.id());
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

    /// Episodes until there are so many, or enough, or `stop` is set.
    fn until(&mut self, episodes: u64, task: &mut dyn Task, stop: &AtomicBool) {
        while self.episodes() < episodes && !self.is_over() {
            if self.episode(task, stop).is_none() {
                return;
            }
        }
    }

    /// An error where `stop` was set before there was anything to say.
    fn check(&self, stop: &AtomicBool) -> Result<(), Stopped> {
        match self.episodes() {
            0 => Stopped::check(stop, "the first episode was over"),
            _ => Ok(()),
        }
    }

    fn in_words(&self) -> String {
        let evaluation = &self.evaluation;
        match (self.is_over(), self.options.length) {
            (true, _) => format!("return {evaluation}"),
            (false, Length::Episodes(length)) => {
                format!("cut before {length} episodes were over: return {evaluation}")
            }
            (false, Length::Steps(length)) => {
                format!("cut before {length} steps were taken: return {evaluation}")
            }
        }
    }

    /// `None`: `stop` was set before it was over. What was seen of it is in the log, as an episode that was cut.
    fn episode(&mut self, task: &mut dyn Task, stop: &AtomicBool) -> Option<()> {
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
        let walked = walk(task, seed, &mut act, &mut see, stop);
        if let (None, Some(log)) = (walked, &mut self.log)
            && let (Some(timeout), Some(terminal)) = (log.timeouts.last_mut(), log.terminals.last())
        {
            *timeout = !terminal;
        }
        let (sum, lasted) = walked?;
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
        Some(())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{
        config::{Algorithm, LearnerConfig},
        tasks::PictureError,
        trained::{self, About},
        vectors::Scaling,
    };

    /// A task in which somebody presses Ctrl-C after so many steps.
    struct Stopped<'a> {
        task: Box<dyn Task>,
        left: u32,
        stop: &'a AtomicBool,
    }

    impl Task for Stopped<'_> {
        fn id(&self) -> &'static str {
            self.task.id()
        }

        fn observations(&self) -> usize {
            self.task.observations()
        }

        fn actions(&self) -> usize {
            self.task.actions()
        }

        fn most_steps(&self) -> u32 {
            self.task.most_steps()
        }

        fn step_s(&self) -> f64 {
            self.task.step_s()
        }

        fn reset(&mut self, seed: u64) -> Vec<f64> {
            self.task.reset(seed)
        }

        fn step(&mut self, action: &[f64]) -> Outcome {
            self.left -= 1;
            self.stop.store(self.left == 0, Ordering::Relaxed);
            self.task.step(action)
        }

        fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
            self.task.picture(width, height)
        }
    }

    /// An episode of the pendulum is of 200 steps.
    #[test]
    fn told_to_stop_it_says_what_was_over_and_that_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let sets = ["algorithm=sac", "sac.hidden=[8]"].map(str::to_owned);
        let config = LearnerConfig::resolve("sac", None, &sets).unwrap();
        let agent = config.agent(3, 1, tch::Device::Cpu, 1).unwrap();
        let about = About {
            algorithm: Algorithm::Sac,
            observations: 3,
            actions: 1,
            env: None,
            updates: 0,
            scaling: Scaling::default(),
        };
        trained::write(dir.path(), &*agent, &about, &config).unwrap();
        let (trained, _) = open(dir.path(), Some("Pendulum-v1"), DeviceChoice::Cpu).unwrap();
        let options = EvaluateOptions {
            policy: dir.path().to_owned(),
            env: None,
            length: Length::Episodes(100),
            seed: 1,
            stochastic: false,
            log: Some(dir.path().join("log.npz")),
            video: None,
            device: DeviceChoice::Cpu,
        };
        for (steps, episodes, timeouts) in [(450, 2, 3), (400, 2, 2), (150, 0, 1)] {
            let stop = AtomicBool::new(false);
            let mut task = Stopped {
                task: tasks::open("Pendulum-v1").unwrap(),
                left: steps,
                stop: &stop,
            };
            let mut judging = Judging::new(&options, &trained);
            judging.until(u64::MAX, &mut task, &stop);
            assert_eq!(judging.episodes(), episodes);
            assert_eq!(judging.check(&stop).is_ok(), episodes > 0);
            let said = judging.in_words();
            assert!(
                said.starts_with("cut before 100 episodes were over: return "),
                "{said}"
            );
            assert!(
                said.contains(&format!("over {episodes} episodes")),
                "{said}"
            );
            // All that was seen, the last episode marked for cut.
            let log = judging.log.unwrap();
            assert_eq!(log.rewards.len(), steps as usize);
            assert_eq!(log.timeouts.iter().filter(|&&cut| cut).count(), timeouts);
            assert_eq!(log.timeouts.last(), Some(&true));
        }
    }
}
