//! Tables of transitions on state vectors, as offline reinforcement learning keeps them: a row per step,
//! episode after episode.
//!
//! - [`Table`]: the columns, checked. [`Table::episodes`] finds where one episode ends and the next begins.
//! - One file per format, with the names of D4RL: [`npz`], numpy's archives; [`hdf5`], as D4RL keeps its own.
//!
//! ```
//! # use hilt_recording::table::{Columns, Table, npz};
//! // Two episodes on an observation of 2 numbers and an action of 1: one of two steps, one of a single step.
//! let table = Table::new(Columns {
//!     observation: 2,
//!     action: 1,
//!     observations: vec![0.0, 0.0, 0.1, 0.0, 5.0, 5.0],
//!     actions: vec![1.0, -1.0, 0.0],
//!     rewards: vec![0.0, 1.0, 0.0],
//!     next_observations: vec![0.1, 0.0, 0.2, 0.0, 5.1, 5.0],
//!     terminals: vec![false, true, false],
//!     timeouts: vec![false; 3],
//! })?;
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("log.npz");
//! npz::write(&path, &table)?;
//! let table = npz::read(&path)?;
//! assert_eq!(table.episodes().collect::<Vec<_>>(), [0..2, 2..3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod hdf5;
mod named;
mod npy;
pub mod npz;

pub use self::named::NamedError;

use std::ops::Range;

/// N transitions, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// O, numbers of an observation.
    pub observation: usize,
    /// A, numbers of an action.
    pub action: usize,
    /// Observations, row by row \[N × O\].
    pub observations: Vec<f32>,
    /// Actions, row by row, as they were written: most tasks' lie in ±1 \[N × A\].
    pub actions: Vec<f32>,
    /// Rewards \[N\].
    pub rewards: Vec<f32>,
    /// What the step led to, row by row \[N × O\].
    pub next_observations: Vec<f32>,
    /// The episode came to its end: nothing follows \[N\].
    pub terminals: Vec<bool>,
    /// Time ran out: what would follow is worth what it is worth \[N\].
    pub timeouts: Vec<bool>,
}

/// Why columns are no table.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// Nothing to learn from.
    #[error("the table has no rows, or rows of no numbers")]
    Empty,
    /// Columns of different length.
    #[error(
        "`{column}` holds {got} numbers where {wanted} belong: all columns have a row per transition"
    )]
    Length {
        /// Which.
        column: &'static str,
        /// Its numbers.
        got: usize,
        /// What they should be.
        wanted: usize,
    },
    /// A number is NaN or infinite.
    #[error(
        "`{column}` has {value} in row {row}, place {place}: leave that transition out, or mend what wrote it"
    )]
    NotFinite {
        /// Which.
        column: &'static str,
        /// Row, from 0.
        row: usize,
        /// Place within the row, from 0.
        place: usize,
        /// NaN or infinity.
        value: f32,
    },
}
/// An observation goes on from the row before if it lies within this of what that led to (Euclidean; as in
/// CORL's `get_return_to_go`).
const CONTINUES: f64 = 1e-6;

/// Columns of one length, at least one row; every number finite, unless it is [to be looked at](Table::to_be_looked_at).
#[derive(Clone, Debug, PartialEq)]
pub struct Table(Columns);

impl Table {
    /// Checks the columns.
    pub fn new(columns: Columns) -> Result<Self, TableError> {
        let table = Self::to_be_looked_at(columns)?;
        table.check_numbers()?;
        Ok(table)
    }

    /// [`Table::new`], or with `as_it_is` [`Table::to_be_looked_at`].
    pub(crate) fn of(columns: Columns, as_it_is: bool) -> Result<Self, TableError> {
        match as_it_is {
            true => Self::to_be_looked_at(columns),
            false => Self::new(columns),
        }
    }

    /// A table whose numbers may be NaN or infinite: for whoever counts them. Nobody can learn from it.
    pub fn to_be_looked_at(columns: Columns) -> Result<Self, TableError> {
        let rows = columns.rewards.len();
        let (observation, action) = (columns.observation, columns.action);
        if rows == 0 || observation == 0 || action == 0 {
            return Err(TableError::Empty);
        }
        let numbers = [
            ("observations", &columns.observations, observation),
            ("actions", &columns.actions, action),
            ("rewards", &columns.rewards, 1),
            ("next_observations", &columns.next_observations, observation),
        ];
        let flags = [
            ("terminals", &columns.terminals),
            ("timeouts", &columns.timeouts),
        ];
        let lengths = (numbers
            .iter()
            .map(|(name, c, width)| (*name, c.len(), *width)))
        .chain(flags.iter().map(|(name, c)| (*name, c.len(), 1)));
        for (column, got, width) in lengths {
            let wanted = rows.saturating_mul(width);
            if got != wanted {
                return Err(TableError::Length {
                    column,
                    got,
                    wanted,
                });
            }
        }
        Ok(Self(columns))
    }

    /// The first number that is none.
    fn check_numbers(&self) -> Result<(), TableError> {
        let columns = &self.0;
        for (column, values, width) in [
            ("observations", &columns.observations, columns.observation),
            ("actions", &columns.actions, columns.action),
            ("rewards", &columns.rewards, 1),
            (
                "next_observations",
                &columns.next_observations,
                columns.observation,
            ),
        ] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, place, value) = (at / width, at % width, values[at]);
                return Err(TableError::NotFinite {
                    column,
                    row,
                    place,
                    value,
                });
            }
        }
        Ok(())
    }

    /// N, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.rewards.len()
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.0
    }

    /// The columns, to be changed.
    pub fn into_columns(self) -> Columns {
        self.0
    }

    /// The observation of a row \[O\].
    pub fn observation(&self, row: usize) -> &[f32] {
        let width = self.0.observation;
        &self.0.observations[row * width..(row + 1) * width]
    }

    /// What a row led to \[O\].
    pub fn next_observation(&self, row: usize) -> &[f32] {
        let width = self.0.observation;
        &self.0.next_observations[row * width..(row + 1) * width]
    }

    /// The action of a row \[A\].
    pub fn action(&self, row: usize) -> &[f32] {
        let width = self.0.action;
        &self.0.actions[row * width..(row + 1) * width]
    }

    /// Whether a row is the last of its episode: it terminated, time ran out, the next row does not begin where
    /// this one led to, or there is none.
    pub fn ends(&self, row: usize) -> bool {
        let last = row + 1 == self.len();
        last || self.0.terminals[row] || self.0.timeouts[row] || !self.continues(row)
    }

    /// Whether the row after `row` begins where it led to.
    fn continues(&self, row: usize) -> bool {
        let pairs = (self.next_observation(row).iter()).zip(self.observation(row + 1));
        // What is no number in both is the same.
        let pairs = pairs.filter(|(a, b)| a.is_finite() || b.is_finite());
        let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
        pairs.map(square).sum::<f64>() <= CONTINUES * CONTINUES
    }

    /// The rows of each episode, in order; together they are all rows.
    pub fn episodes(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0;
        (0..self.len())
            .filter(|&row| self.ends(row))
            .map(move |row| {
                let episode = start..row + 1;
                start = row + 1;
                episode
            })
    }

    /// The sum of the rewards of these rows: of an episode's, its return.
    pub fn sum_of_rewards(&self, rows: Range<usize>) -> f64 {
        self.0.rewards[rows]
            .iter()
            .map(|&reward| f64::from(reward))
            .sum()
    }
}
