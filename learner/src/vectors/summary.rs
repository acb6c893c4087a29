//! What a person would want to know of a table before training on it.

use std::fmt;

use hilt_recording::table::Table;
use sha2::{Digest, Sha256};

/// The hash of a table's columns, in hexadecimal, whatever file they lie in.
pub fn sha256(table: &Table) -> String {
    let columns = table.columns();
    let mut hash = Sha256::new();
    for size in [columns.observation, columns.action, table.len()] {
        hash.update((size as u64).to_le_bytes());
    }
    let numbers = [
        &columns.observations,
        &columns.actions,
        &columns.rewards,
        &columns.next_observations,
    ];
    for column in numbers {
        hash.update(bytemuck::cast_slice::<f32, u8>(column));
    }
    for column in [&columns.terminals, &columns.timeouts] {
        let bytes: Vec<u8> = column.iter().map(|&flag| u8::from(flag)).collect();
        hash.update(bytes);
    }
    format!("{:x}", hash.finalize())
}

/// Smallest, mean and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Smallest.
    pub least: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut count) = (0.0, 0.0);
        for value in values {
            (least, most) = (least.min(value), most.max(value));
            (sum, count) = (sum + value, count + 1.0);
        }
        Self {
            least,
            mean: sum / count,
            most,
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, mean, most } = self;
        write!(f, "mean {mean:.2} ({least:.2} to {most:.2})")
    }
}

/// Figures of a table, rewards as they were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// N.
    pub rows: usize,
    /// O.
    pub observation: usize,
    /// A.
    pub action: usize,
    /// How many episodes.
    pub episodes: usize,
    /// Of them, those that terminated; the others were cut.
    pub terminated: usize,
    /// Steps of an episode.
    pub steps: Spread,
    /// Sum of an episode's rewards.
    pub returns: Spread,
    /// Reward of a step.
    pub rewards: Spread,
    /// Numbers of the observations that are the same in every row.
    pub constant: Vec<usize>,
}

impl Summary {
    /// Looks at every row.
    pub fn of(table: &Table) -> Self {
        let columns = table.columns();
        let episodes: Vec<_> = table.episodes().collect();
        let terminated = episodes
            .iter()
            .filter(|e| columns.terminals[e.end - 1])
            .count();
        let same = |&place: &usize| {
            let first = table.observation(0)[place];
            (1..table.len()).all(|row| table.observation(row)[place] == first)
        };
        Self {
            rows: table.len(),
            observation: columns.observation,
            action: columns.action,
            episodes: episodes.len(),
            terminated,
            steps: Spread::of(episodes.iter().map(|e| e.len() as f64)),
            returns: Spread::of(episodes.iter().cloned().map(|e| table.sum_of_rewards(e))),
            rewards: Spread::of(columns.rewards.iter().map(|&reward| f64::from(reward))),
            constant: (0..columns.observation).filter(same).collect(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} transitions of {} episodes, observations of {} numbers, actions of {}",
            self.rows, self.episodes, self.observation, self.action
        )?;
        let share = 100.0 * self.terminated as f64 / self.episodes as f64;
        writeln!(f, "  return    {}", self.returns)?;
        writeln!(f, "  reward    {}", self.rewards)?;
        writeln!(f, "  steps     {}", self.steps)?;
        write!(
            f,
            "  ended     {share:.0} % by themselves, the others were cut"
        )?;
        if !self.constant.is_empty() {
            write!(f, "\n  constant  observation's numbers {:?}", self.constant)?;
        }
        Ok(())
    }
}
