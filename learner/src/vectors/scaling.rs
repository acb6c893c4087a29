//! What observations and rewards go through before an agent sees them.

use std::ops::Range;

use hilt_recording::table::Table;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::agents::Transitions;

/// Added to every standard deviation, so that a number that never changes stays finite (CORL: 1e-3).
pub const EPSILON: f64 = 1e-3;

/// Brings observations to mean 0 and standard deviation 1: (s − mean) / std.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    /// Taken off \[O\].
    pub mean: Vec<f32>,
    /// Divided by: the standard deviation and [`EPSILON`] \[O\].
    pub std: Vec<f32>,
}

impl Normalizer {
    /// Mean and deviation over these rows of a table, as numpy's `mean(0)` and `std(0)` give them.
    pub fn over(table: &Table, episodes: &[Range<usize>]) -> Self {
        let width = table.columns().observation;
        let rows = || (episodes.iter().cloned().flatten()).map(|row| table.observation(row));
        let count = rows().count().max(1) as f64;
        let mut mean = vec![0f64; width];
        for row in rows() {
            for (sum, &value) in mean.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut square = vec![0f64; width];
        for row in rows() {
            for ((sum, &value), mean) in square.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(value) - mean).powi(2);
            }
        }
        let std = |sum: f64| ((sum / count).sqrt() + EPSILON) as f32;
        Self {
            std: square.into_iter().map(std).collect(),
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
        }
    }

    /// Normalises observations where they are, row by row \[N × O\].
    pub fn apply(&self, observations: &mut [f32]) {
        for row in observations.chunks_exact_mut(self.mean.len()) {
            for ((value, mean), std) in row.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = (*value - mean) / std;
            }
        }
    }

    /// Normalised observations \[..., O\].
    pub fn applied(&self, observations: &Tensor) -> Tensor {
        (observations - like(&self.mean, observations)) / like(&self.std, observations)
    }

    /// Observations \[..., O\] of normalised ones.
    fn undone(&self, normalized: &Tensor) -> Tensor {
        normalized * like(&self.std, normalized) + like(&self.mean, normalized)
    }
}

/// Numbers on the device and in the kind of others.
fn like(values: &[f32], others: &Tensor) -> Tensor {
    (Tensor::from_slice(values).to_device(others.device())).to_kind(others.kind())
}

/// Steps of a whole episode of the locomotion tasks: normalised returns are spread over so much.
const STEPS: f64 = 1000.0;

/// How rewards are scaled, as it is configured. As they are by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardScale {
    /// Divides by the spread of the data's episode returns and multiplies by 1000, as CORL's `modify_reward` does for
    /// locomotion.
    pub normalize: bool,
    /// Multiplied by then.
    pub scale: f64,
    /// Added then: −1 for antmaze (CORL).
    pub shift: f64,
}

impl Default for RewardScale {
    fn default() -> Self {
        Self {
            normalize: false,
            scale: 1.0,
            shift: 0.0,
        }
    }
}

/// Why rewards cannot be scaled.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "every whole episode has the return {0}, so that rewards cannot be divided by their spread: do not normalize them"
)]
pub struct OneReturn(pub f64);

impl RewardScale {
    /// The scale and shift for this data.
    ///
    /// The last episode does not count toward the spread if the data merely ends there, unless it is all there is:
    /// it has less return for not having been recorded. (CORL leaves it out too, but finds episodes by counting
    /// steps.)
    pub fn resolve(self, table: &Table) -> Result<Affine, OneReturn> {
        let by = if self.normalize {
            STEPS / spread(table)?
        } else {
            1.0
        };
        Ok(Affine {
            scale: by * self.scale,
            shift: self.shift,
        })
    }
}

/// Largest less smallest episode return.
fn spread(table: &Table) -> Result<f64, OneReturn> {
    let columns = table.columns();
    let whole =
        |row: usize| row + 1 < table.len() || columns.terminals[row] || columns.timeouts[row];
    let all: Vec<_> = table.episodes().collect();
    let count = all.len();
    let counted = (all.into_iter()).filter(|episode| count == 1 || whole(episode.end - 1));
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = (counted.map(|episode| table.sum_of_rewards(episode)))
        .fold(ends, |(low, high), value| (low.min(value), high.max(value)));
    if high > low {
        Ok(high - low)
    } else {
        Err(OneReturn(low))
    }
}

/// reward × scale + shift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// Multiplied by.
    pub scale: f64,
    /// Added then.
    pub shift: f64,
}

impl Default for Affine {
    fn default() -> Self {
        Self {
            scale: 1.0,
            shift: 0.0,
        }
    }
}

impl Affine {
    /// The scaled reward.
    pub fn of(self, reward: f32) -> f32 {
        (f64::from(reward) * self.scale + self.shift) as f32
    }
}

/// All that data goes through; what is learned later on the same task goes through the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Of observations; `None`: as they are.
    pub observations: Option<Normalizer>,
    /// Of rewards.
    pub rewards: Affine,
}

impl Scaling {
    /// Observations as the agent sees them, where they are \[N × O\].
    pub fn observe(&self, observations: &mut [f32]) {
        if let Some(normalizer) = &self.observations {
            normalizer.apply(observations);
        }
    }

    /// What an agent sees, as the task gave it. Returns are not known.
    pub fn undone(&self, seen: &Transitions) -> Transitions {
        let observed = |observations: &Tensor| match &self.observations {
            Some(normalizer) => normalizer.undone(observations),
            None => observations.shallow_clone(),
        };
        let Affine { scale, shift } = self.rewards;
        Transitions {
            observations: observed(&seen.observations),
            actions: seen.actions.shallow_clone(),
            rewards: (&seen.rewards - shift) / scale,
            next_observations: observed(&seen.next_observations),
            masks: seen.masks.shallow_clone(),
            returns: None,
        }
    }
}
