//! Drives a rig through an episode that was recorded: the same actions at the same rate, and nobody
//! who corrects them. It shows whether an arm still does what it did: after it was moved, mended or
//! calibrated, or on another rig of the same kind.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use hilt_drivers::EpisodeStart;
use hilt_protocol::{Axis, Image, Observation, Record, RigSpec};
use hilt_recording::{ReadError, RunReader, read_spec};
use nalgebra::Vector3;

use crate::{
    cell::{Cell, CellError},
    episode::PROPRIO,
    pace::Pace,
    rig::{Limits, Rig, RigError},
};

/// Why an episode cannot be driven again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The rig's file of the recording cannot.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// It holds no such episode.
    #[error("{dir} has no episode {episode} with steps; {there}")]
    NoEpisode {
        /// The run's folder.
        dir: PathBuf,
        /// What was asked for.
        episode: u64,
        /// Which ones there are.
        there: String,
    },
    /// Its actions mean something else on this rig.
    #[error("the recording's {what} is {recorded}, the rig's {here}; {remedy}")]
    Differs {
        /// Of what.
        what: &'static str,
        /// The recording's.
        recorded: String,
        /// The rig's.
        here: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The way to its beginning is not there.
    #[error(
        "arm {arm} stays {off_mm:.0} mm away from where the episode began; it is outside the workspace or the reach of this rig"
    )]
    Away {
        /// Which arm.
        arm: usize,
        /// How far.
        off_mm: f64,
    },
    /// The devices stopped working.
    #[error(transparent)]
    Cell(#[from] CellError),
}

/// An episode as it was recorded.
#[derive(Clone, Debug)]
pub struct Episode {
    spec: RigSpec,
    limits: Option<Limits>,
    home_rad: Vec<f64>,
    first: Observation,
    steps: Vec<(Vec<f32>, Observation)>,
}

/// After each step.
#[derive(Clone, Debug)]
pub struct Stood {
    /// Steps of the episode so far.
    pub step: usize,
    /// Of so many.
    pub of: usize,
    /// The cameras' frames.
    pub images: Vec<Image>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replayed {
    /// Steps driven.
    pub steps: usize,
    /// Steps recorded.
    pub of: usize,
    /// How far the tools were from where they had been, on average over steps and arms, metres.
    pub mean_off_m: f64,
    /// … and at most.
    pub most_off_m: f64,
}

/// So near, metres, the target counts as where the episode began, …
const THERE_M: f64 = 1e-3;
/// … and so far it may stay from it, where the leash or a limit holds it back.
const NEAR_M: f64 = 0.01;
/// Steps that the way there may take.
const APPROACH_STEPS: usize = 300;

impl Episode {
    /// Episode number `wanted` of the run in `dir`; its first one with steps if none is named.
    pub fn read(dir: &Path, wanted: Option<u64>) -> Result<Self, ReplayError> {
        let spec = read_spec(dir)?;
        let mut there: Vec<u64> = Vec::new();
        let mut first = None;
        let mut steps = Vec::new();
        for entry in RunReader::open(dir)?.from_sequence(0) {
            let entry = entry?;
            let is_step = matches!(entry.record, Record::Step(_));
            if is_step && there.last() != Some(&entry.episode) {
                there.push(entry.episode);
            }
            if wanted.is_some_and(|wanted| wanted != entry.episode) {
                continue;
            }
            match entry.record {
                Record::Reset(_) if wanted.is_none() && !steps.is_empty() => break,
                Record::Reset(observation) => first = Some(observation),
                Record::Step(step) => steps.push((step.action, step.next)),
            }
        }
        let Some(first) = first.filter(|_| !steps.is_empty()) else {
            return Err(ReplayError::NoEpisode {
                dir: dir.to_owned(),
                episode: wanted.unwrap_or(0),
                there: match (there.first(), there.last()) {
                    (Some(first), Some(last)) => format!("there are {first} to {last}"),
                    _ => "there is none at all".to_owned(),
                },
            });
        };
        let file = dir.join("rig.toml");
        let recorded = match file.exists() {
            true => Some(Rig::read(&file, &[])?),
            false => None,
        };
        let home_rad = recorded
            .as_ref()
            .map_or(Vec::new(), |rig| rig.home_rad.clone());
        let limits = recorded.map(|rig| rig.limits);
        Ok(Self {
            spec,
            limits,
            home_rad,
            first,
            steps,
        })
    }

    /// Its steps.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Whether its actions mean on `rig` what they meant when they were recorded. What the cameras
    /// see does not matter.
    fn check(&self, rig: &Rig) -> Result<(), ReplayError> {
        let differs = |what, recorded: String, here: String, remedy| match recorded == here {
            true => Ok(()),
            false => Err(ReplayError::Differs {
                what,
                recorded,
                here,
                remedy,
            }),
        };
        let here = rig.spec();
        let another = "name the rig that it was recorded on, or one like it, with --rig";
        let axes = |spec: &RigSpec| {
            let names: Vec<_> = spec.controlled_axes.iter().map(|a| a.name()).collect();
            names.join(", ")
        };
        let (was, is) = (self.spec.mode.to_string(), here.mode.to_string());
        differs("mode", was, is, another)?;
        differs("controlled_axes", axes(&self.spec), axes(&here), another)?;
        let (was, is) = (self.spec.policy_hz, here.policy_hz);
        let remedy = "set it as it was with --set policy_hz=…";
        differs("policy_hz", was.to_string(), is.to_string(), remedy)?;
        if let Some(was) = &self.limits {
            // Actions say nothing of how the tool was turned when the episode began.
            let (home, here) = (
                format!("{:?}", self.home_rad),
                format!("{:?}", rig.home_rad),
            );
            differs(
                "home_rad",
                home,
                here,
                "set it as it was with --set home_rad=[…]",
            )?;
            let step = |limits: &Limits| format!("{} m, {} rad", limits.step_m, limits.step_rad);
            let remedy = "set it as it was with --set limits.step_m=… and limits.step_rad=…";
            differs("full step", step(was), step(&rig.limits), remedy)?;
        }
        Ok(())
    }
}

/// Drives `cell` through `episode`: home, to where it began, and then step by step. `stop` ends it
/// between two steps; `show` sees the rig after every one.
pub fn replay(
    rig: &Rig,
    cell: &mut Cell,
    episode: &Episode,
    pace: &mut Pace,
    stop: &AtomicBool,
    mut show: impl FnMut(&Stood),
) -> Result<Replayed, ReplayError> {
    episode.check(rig)?;
    let arms = rig.mode.arms();
    let mut now = cell.reset(EpisodeStart {
        range_m: 0.0,
        seed: 0,
    })?;
    let goals: Vec<_> = (0..arms).map(|arm| target_m(&episode.first, arm)).collect();
    let away = |now: &Observation| -> Vec<_> {
        let arms = goals.iter().enumerate();
        arms.map(|(arm, goal)| goal - target_m(now, arm)).collect()
    };
    for _ in 0..APPROACH_STEPS {
        let left = away(&now);
        // The tools lag behind their targets, and come to rest where the recorded ones stood.
        let rests = |arm| (tool_m(&now, arm) - tool_m(&episode.first, arm)).norm() < NEAR_M / 10.0;
        let there = left.iter().all(|left| left.norm() < THERE_M) && (0..arms).all(rests);
        if there || stop.load(Ordering::Relaxed) {
            break;
        }
        pace.wait();
        now = cell.step(&towards(rig, &left, &episode.first))?.next;
    }
    let farthest = away(&now).into_iter().map(|left| left.norm()).enumerate();
    if let Some((arm, off_m)) = farthest.max_by(|a, b| a.1.total_cmp(&b.1))
        && off_m > NEAR_M
        && !stop.load(Ordering::Relaxed)
    {
        let off_mm = 1e3 * off_m;
        return Err(ReplayError::Away { arm, off_mm });
    }

    let (mut steps, mut sum_m, mut most_off_m) = (0, 0.0, 0.0_f64);
    for (action, recorded) in &episode.steps {
        pace.wait();
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let next = cell.step(action)?.next;
        steps += 1;
        for arm in 0..arms {
            let off_m = (tool_m(&next, arm) - tool_m(recorded, arm)).norm();
            sum_m += off_m;
            most_off_m = most_off_m.max(off_m);
        }
        show(&Stood {
            step: steps,
            of: episode.steps.len(),
            images: next.images,
        });
    }
    Ok(Replayed {
        steps,
        of: episode.steps.len(),
        mean_off_m: sum_m / (steps * arms).max(1) as f64,
        most_off_m,
    })
}

/// Where an arm's tool was, metres in its base frame; see [`PROPRIO`].
fn tool_m(observation: &Observation, arm: usize) -> Vector3<f64> {
    numbers(observation, arm, 0)
}

/// Where it was being sent.
fn target_m(observation: &Observation, arm: usize) -> Vector3<f64> {
    tool_m(observation, arm) + numbers(observation, arm, 3)
}

fn numbers(observation: &Observation, arm: usize, from: usize) -> Vector3<f64> {
    let at = |i| observation.proprio.get(arm * PROPRIO.len() + from + i);
    Vector3::from_fn(|i, _| at(i).copied().map_or(0.0, f64::from))
}

/// A step of all arms over what is `left` of the way, the grippers as they were at `first`.
fn towards(rig: &Rig, left: &[Vector3<f64>], first: &Observation) -> Vec<f32> {
    /// The gripper's command among [`PROPRIO`]: 1 open, −1 closed.
    const COMMAND: usize = 10;
    let mut action = Vec::new();
    for (arm, left) in left.iter().enumerate() {
        let part = |i: usize| (left[i] / rig.limits.step_m).clamp(-1.0, 1.0) as f32;
        action.extend(rig.controlled_axes.iter().map(|axis| match axis {
            Axis::X => part(0),
            Axis::Y => part(1),
            Axis::Z => part(2),
            Axis::Roll | Axis::Pitch | Axis::Yaw => 0.0,
        }));
        if rig.mode.learned_gripper() {
            let command = first.proprio.get(arm * PROPRIO.len() + COMMAND);
            action.push(command.copied().unwrap_or(0.0));
        }
    }
    action
}
