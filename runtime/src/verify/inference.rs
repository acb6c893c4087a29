//! Encoder and policy run again on the logged frames.

use std::{
    collections::HashMap,
    fmt, io,
    path::Path,
    sync::mpsc::{Sender, channel},
    time::{Duration, Instant},
};

use hilt_protocol::{ActionSource, GraphName, ModelSnapshot, Observation, Record, RigSpec};
use hilt_recording::{ReadError, RunReader, read_spec};

use crate::{
    brain::{Brain, BrainError},
    decision::{By, Why},
    inference::{Engine, EngineError, Kept, OnnxBrain},
    tick_log::{Logged, TickLogError, TickLogReader},
};

/// A number of the policy's output may be off by so much of its size …
const RELATIVE: f32 = 1e-4;
/// … and by so much besides. The same library on the same kind of machine is not off at all; another
/// processor, or another number of threads, adds in another order.
const ABSOLUTE: f32 = 1e-5;

/// Weights that were kept are verified within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why inference cannot be rechecked.
#[derive(Debug, thiserror::Error)]
pub enum RecheckError {
    /// The log of decisions.
    #[error(transparent)]
    Ticks(#[from] TickLogError),
    /// The log of entries.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The graphs or weights that the run kept.
    #[error("{0}; without it no policy can be run again")]
    Kept(#[from] io::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The policy.
    #[error(transparent)]
    Brain(#[from] BrainError),
    /// Weights are not taken.
    #[error("the weights of policy {version} that the run kept are refused: {reason}")]
    Refused {
        /// Their version.
        version: u64,
        /// Why.
        reason: String,
    },
}

/// The first step that is off.
#[derive(Clone, Debug, PartialEq)]
pub struct Off {
    /// The step's entry in the run's log.
    pub entry: u64,
    /// The policy that acted.
    pub version: u64,
    /// What the log has.
    pub logged: Vec<f32>,
    /// What comes out now.
    pub recomputed: Vec<f32>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recheck {
    /// Steps of the policy whose output was computed again.
    pub steps: u64,
    /// Steps of the policy whose weights the run has not kept.
    pub not_kept: u64,
    /// Decisions of the policy that have no step in the run's log, because the arms were stopped or
    /// the action was refused.
    pub without_step: u64,
    /// The largest difference of a number.
    pub largest: f32,
    /// Steps that are off by more than is allowed.
    pub off: u64,
    /// The first of them.
    pub first_off: Option<Off>,
}

impl fmt::Display for Recheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "inference: {} steps of the policy rechecked, largest difference {:e} (allowed \
             {ABSOLUTE:e} + {RELATIVE:e} of the value); {} not, as their weights were not kept; {} \
             decisions of the policy without a step",
            self.steps, self.largest, self.not_kept, self.without_step
        )?;
        let Some(off) = &self.first_off else {
            return Ok(());
        };
        writeln!(
            f,
            "inference DIVERGES in {} steps; the first is entry {} of the run's log, policy {}:\n    \
             in the log: {:?}\n    recomputed: {:?}",
            self.off, off.entry, off.version, off.logged, off.recomputed
        )
    }
}

/// The run's policies, one after the other.
struct Policies {
    brain: OnnxBrain,
    snapshots: Sender<ModelSnapshot>,
    kept: Kept,
}

impl Policies {
    fn load(engine: &Engine, spec: &RigSpec, run_dir: &Path) -> Result<Self, RecheckError> {
        let kept = Kept::of_run(run_dir);
        let mut files = kept.graphs(spec)?;
        files.classifier = None;
        let (snapshots, given) = channel::<ModelSnapshot>();
        let mut given = Some(given);
        let brain = OnnxBrain::load(engine, spec, &files, |_| {
            let given = given.take()?;
            Some(Box::new(move |timeout| given.recv_timeout(timeout).ok()))
        })?;
        Ok(Self {
            brain,
            snapshots,
            kept,
        })
    }

    /// Brings a version into force by the way that it came into force in the run. `false`: it was
    /// not kept.
    fn bring(&mut self, version: u64) -> Result<bool, RecheckError> {
        if self.brain.version() == version && self.brain.can_act() {
            return Ok(true);
        }
        let Some(snapshot) = self.kept.snapshot(GraphName::Policy, version)? else {
            return Ok(false);
        };
        let refused = |reason: String| RecheckError::Refused { version, reason };
        // If the loader has ended, the time runs out below.
        let _ = self.snapshots.send(snapshot);
        let until = Instant::now() + PATIENCE;
        while self.brain.version() != version {
            if let Some((_, reason)) = self.brain.swap().into_iter().next() {
                return Err(refused(reason.to_string()));
            }
            if Instant::now() > until {
                return Err(refused("they are not verified in time".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }
}

/// Runs encoder and policy again on the frames of the run in `dir`, for every step of the policy
/// whose weights the run has kept, and compares with what the log of decisions says came out.
pub fn recheck(dir: &Path, engine: &Engine) -> Result<Recheck, RecheckError> {
    // By the seed of the step's noise, which no two steps of a run share.
    let mut outputs: HashMap<u64, (Vec<f32>, u64)> = HashMap::new();
    for logged in TickLogReader::open(dir)? {
        let Logged::Decision(decision) = logged? else {
            continue;
        };
        if let Why::Step { choice, .. } = decision.why
            && let By::Policy(output) = choice.by
        {
            outputs.insert(choice.noise_seed, (output, choice.policy_version));
        }
    }
    let mut found = Recheck::default();
    if outputs.is_empty() {
        return Ok(found);
    }
    let mut policies = Policies::load(engine, &read_spec(dir)?, dir)?;
    let mut before: Option<Observation> = None;
    for entry in RunReader::open(dir)? {
        let entry = entry?;
        let step = match entry.record {
            Record::Reset(observation) => {
                before = Some(observation);
                continue;
            }
            Record::Step(step) => step,
        };
        let seen = before.replace(step.next);
        if step.source != ActionSource::Policy {
            continue;
        }
        let Some((logged, version)) = outputs.remove(&step.noise_seed) else {
            continue;
        };
        // A log whose beginning is lost has no frames for its first step.
        let Some(seen) = seen else {
            found.without_step += 1;
            continue;
        };
        if !policies.bring(version)? {
            found.not_kept += 1;
            continue;
        }
        let recomputed = Brain::act(&mut policies.brain, &seen, step.noise_seed, true)?;
        found.steps += 1;
        let difference = difference(&logged, &recomputed);
        found.largest = found.largest.max(difference);
        if !is_near(&logged, &recomputed) {
            found.off += 1;
            found.first_off.get_or_insert(Off {
                entry: entry.sequence,
                version,
                logged,
                recomputed,
            });
        }
    }
    found.without_step += outputs.len() as u64;
    Ok(found)
}

fn is_near(a: &[f32], b: &[f32]) -> bool {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= ABSOLUTE + RELATIVE * a.abs().max(b.abs());
    a.len() == b.len() && a.iter().zip(b).all(near)
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_and_what_is_not() {
        assert!(is_near(&[0.5, -1.0], &[0.500_05, -1.000_1]));
        assert!(!is_near(&[0.5, -1.0], &[0.5, -1.001]));
        assert!(!is_near(&[0.5], &[0.5, 0.5]), "another length");
        assert!(!is_near(&[f32::NAN], &[f32::NAN]), "no number is near");
        assert_eq!(difference(&[1.0, 2.0], &[1.5, 2.0]), 0.5);
    }
}
