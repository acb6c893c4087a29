//! Evaluates an exported policy: greedy, nobody takes over, judged by the simulator's truth.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use hilt_drivers::EpisodeStart;
use hilt_protocol::{Image, noise::mix};
use hilt_show::percent;
use serde::Serialize;

use crate::{
    brain::Brain,
    cell::{Cell, CellError},
    filmstrip,
    inference::{Engine, OnnxBrain, PolicyFiles},
    rig::{ClockKind, Rig},
    session::SessionError,
};

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Folder with `encoder.onnx` and `policy.onnx`.
    pub policy: PathBuf,
    /// Episodes.
    pub episodes: u32,
    /// Starts are drawn from this.
    pub seed: u64,
    /// Folder of the results.
    pub out: PathBuf,
    /// Worker threads, each with a simulation of its own. The result does not depend on it.
    pub workers: usize,
}

/// One evaluated episode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluated {
    /// 0, 1, 2, …
    pub episode: u32,
    /// The cube was lifted, by the simulator's truth.
    pub success: bool,
    /// Steps until then, or until time was out.
    pub steps: u32,
}

/// `summary.json` of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluateSummary {
    /// Episodes.
    pub episodes: u32,
    /// Share of successes.
    pub success_rate: f64,
    /// Lower end of the 95 % Wilson interval.
    pub success_lower95: f64,
    /// Mean time to success over the successes, seconds on the run's clock.
    pub mean_time_to_success_s: Option<f64>,
    /// Whose time the episodes went by.
    pub clock: ClockKind,
    /// Seed of the starts.
    pub seed: u64,
    /// Side of the square in which the cube begins, metres.
    pub range_m: f64,
    /// Attempts that an unfit input broke off, in real time; each was begun again from the same start.
    pub broken_episodes: u32,
    /// Who judged.
    pub judged_by: &'static str,
}

/// Episodes shown in the filmstrip.
const SHOWN: u32 = 6;

/// Lower end of the 95 % Wilson score interval of `good` out of `all`.
pub fn wilson_lower95(good: u32, all: u32) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let z2 = 1.959_964_f64.powi(2);
    let (n, p) = (f64::from(all), f64::from(good) / f64::from(all));
    let centre = p + z2 / (2.0 * n);
    let spread = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt();
    ((centre - spread) / (1.0 + z2 / n)).max(0.0)
}

/// Start of evaluation episode `episode`: never one that training has drawn from the same seed.
fn start(rig: &Rig, seed: u64, episode: u32) -> EpisodeStart {
    let seed = mix(seed ^ mix(0x6576_616c_0000_0000 + u64::from(episode)));
    EpisodeStart {
        range_m: rig.episode.range_m,
        seed,
    }
}

/// One greedy episode; `frames`: the first camera's, for the filmstrip.
pub fn run_episode(
    cell: &mut Cell,
    brain: &mut dyn Brain,
    rig: &Rig,
    start: EpisodeStart,
    mut frames: Option<&mut Vec<Image>>,
) -> anyhow::Result<(bool, u32)> {
    let mut observation = cell.reset(start)?;
    let mut show = |image: Option<&Image>| {
        if let (Some(frames), Some(image)) = (frames.as_deref_mut(), image) {
            frames.push(image.clone());
        }
    };
    show(observation.images.first());
    for step in 1..=rig.episode.max_steps {
        let action = brain.act(&observation, 0, false)?;
        observation = cell.step(&action)?.next;
        show(observation.images.first());
        let truth = cell.truth().context("this rig has no truth to judge by")?;
        if truth.lifted {
            return Ok((true, step));
        }
    }
    Ok((false, rig.episode.max_steps))
}

/// When an episode is broken off so often on end, the evaluation ends: what is wrong does not pass.
pub(crate) const BROKEN_EPISODES: u32 = 20;

/// Whether the same episode may go well when it is begun again: an input was not fit, and the arms are
/// held until it is.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    if let Some(session) = error.downcast_ref::<SessionError>() {
        return session.is_passing();
    }
    let cell = error.downcast_ref::<CellError>();
    matches!(cell, Some(CellError::Held(_) | CellError::Camera(_)))
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Finished episodes.
    pub episodes: u32,
    /// Successes among them.
    pub successes: u32,
    /// Their steps.
    pub steps: u64,
}

impl SoFar {
    /// In words, on one line, `elapsed` after the beginning.
    pub fn words(&self, elapsed: Duration) -> String {
        let share = f64::from(self.successes) / f64::from(self.episodes.max(1));
        let rate = self.steps as f64 / elapsed.as_secs_f64().max(1e-9);
        format!("success {}, {rate:.0} steps/s", percent(Some(share)))
    }
}

/// Evaluates; `done` hears of every finished episode.
pub fn evaluate(
    rig: &Rig,
    engine: &Engine,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    done: impl Fn(SoFar) + Sync,
) -> anyhow::Result<EvaluateSummary> {
    let files = PolicyFiles::read(&options.policy, &rig.spec())
        .with_context(|| format!("policy folder {}", options.policy.display()))?;
    if options.out.join("summary.json").exists() {
        bail!(
            "--out {} holds the results of an evaluation; choose another folder",
            options.out.display()
        );
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("--out {}", options.out.display()))?;
    let next = AtomicU32::new(0);
    let broken_episodes = AtomicU32::new(0);
    let results: Mutex<Vec<(Evaluated, Vec<Image>)>> = Mutex::default();
    let work = || -> anyhow::Result<()> {
        // Renderers stay on the thread that made them.
        let mut cell = Cell::open(rig)?;
        let mut brain = OnnxBrain::load(engine, &rig.spec(), &files, |_| None)?;
        loop {
            let episode = next.fetch_add(1, Ordering::Relaxed);
            if episode >= options.episodes || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let start = start(rig, options.seed, episode);
            let mut broken = 0;
            let (success, steps, frames) = loop {
                let mut frames = Vec::new();
                let shown = (episode < SHOWN).then_some(&mut frames);
                match run_episode(&mut cell, &mut brain, rig, start, shown) {
                    Ok((success, steps)) => break (success, steps, frames),
                    Err(error) if is_passing(&error) && broken < BROKEN_EPISODES => {
                        tracing::warn!("episode {episode} was broken off: {error}");
                        broken += 1;
                        broken_episodes.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error),
                }
            };
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push((
                Evaluated {
                    episode,
                    success,
                    steps,
                },
                frames,
            ));
            done(SoFar {
                episodes: count(results.len()),
                successes: count(results.iter().filter(|(e, _)| e.success).count()),
                steps: results.iter().map(|(e, _)| u64::from(e.steps)).sum(),
            });
        }
    };
    // In real time there is one rig, and its threads want their cores.
    let workers = match rig.clock {
        ClockKind::Simulated => options.workers.max(1),
        ClockKind::Monotonic => 1,
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|i| {
                let builder = std::thread::Builder::new().name(format!("evaluate-{i}"));
                builder.spawn_scoped(scope, work)
            })
            .collect::<Result<_, _>>()?;
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(_) => bail!("an evaluation thread ended by a panic"),
            }
        }
        Ok(())
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(evaluated, _)| evaluated.episode);
    write(rig, options, results, broken_episodes.into_inner())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn write(
    rig: &Rig,
    options: &EvaluateOptions,
    results: Vec<(Evaluated, Vec<Image>)>,
    broken_episodes: u32,
) -> anyhow::Result<EvaluateSummary> {
    let episodes = count(results.len());
    let (evaluated, frames): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    let times: Vec<f64> = evaluated
        .iter()
        .filter(|e| e.success)
        .map(|e| f64::from(e.steps) / f64::from(rig.policy_hz))
        .collect();
    let good = count(times.len());
    let summary = EvaluateSummary {
        episodes,
        success_rate: f64::from(good) / f64::from(episodes.max(1)),
        success_lower95: wilson_lower95(good, episodes),
        mean_time_to_success_s: (good > 0).then(|| times.iter().sum::<f64>() / f64::from(good)),
        clock: rig.clock,
        seed: options.seed,
        range_m: rig.episode.range_m,
        broken_episodes,
        judged_by: "the simulator's truth",
    };
    let file = |name: &str| options.out.join(name);
    std::fs::write(file("summary.json"), serde_json::to_vec_pretty(&summary)?)?;
    write_rows(&file("episodes.jsonl"), &evaluated)?;
    let shown: Vec<(Vec<Image>, bool)> = (frames.into_iter())
        .zip(evaluated.iter().map(|e| e.success))
        .filter(|(frames, _)| !frames.is_empty())
        .collect();
    filmstrip::write(&file("filmstrip.png"), &shown)?;
    filmstrip::write_film(&file("episodes.gif"), &shown, rig.policy_hz)?;
    Ok(summary)
}

fn write_rows(path: &Path, rows: &[Evaluated]) -> anyhow::Result<()> {
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(row)?;
        text.push('\n');
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wilson_bound_is_the_textbooks() {
        // Newcombe 1998, table I: 81 of 263 gives .2553 to .3662.
        assert!((wilson_lower95(81, 263) - 0.2553).abs() < 5e-5);
        assert_eq!(wilson_lower95(0, 0), 0.0);
        assert!(wilson_lower95(200, 200) > 0.98);
        assert!(wilson_lower95(0, 20).abs() < 1e-12);
    }
}
