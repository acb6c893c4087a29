//! A table from arrays with names, as D4RL's files have them: which names stand for which column, what shapes fit,
//! and what a file without `next_observations` means. Where the arrays lie is a matter of the format.

use super::{Columns, Table, TableError};

/// Names of a column; the first is the one that is written.
pub(super) type Names = &'static [&'static str];

pub(super) const OBSERVATIONS: Names = &["observations", "obs"];
pub(super) const ACTIONS: Names = &["actions", "action"];
pub(super) const REWARDS: Names = &["rewards", "reward"];
pub(super) const NEXT_OBSERVATIONS: Names = &["next_observations", "next_obs"];
pub(super) const TERMINALS: Names = &["terminals", "done"];
pub(super) const TIMEOUTS: Names = &["timeouts"];

/// Why arrays are no table.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NamedError {
    /// A column is missing.
    #[error("there is no `{key}`; there are {keys}")]
    Missing {
        /// Its names.
        key: String,
        /// What there is.
        keys: String,
    },
    /// Where episodes were cut cannot be told.
    #[error("there is no `next_observations`, or else `timeouts`; there are {keys}")]
    Unfinished {
        /// What there is.
        keys: String,
    },
    /// A column has another shape.
    #[error("`{key}` has shape {got:?}, it needs {wanted}")]
    Shape {
        /// Which.
        key: String,
        /// Its shape.
        got: Vec<usize>,
        /// What it should be.
        wanted: String,
    },
    /// A number that is neither yes nor no.
    #[error("`{key}` has {value} in row {row}, it must be 0 or 1")]
    Flag {
        /// Which.
        key: String,
        /// Row, from 0.
        row: usize,
        /// What is there.
        value: f64,
    },
    /// The columns are no table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A file's arrays by their names.
pub(super) trait Arrays {
    /// What is said of the file.
    type Error;

    /// Whether there is one of this name.
    fn has(&self, key: &str) -> bool;

    /// The names that there are.
    fn keys(&self) -> Vec<String>;

    /// The shape and numbers, in row-major order and each put through `one`, of an array that is there. `fits` is
    /// asked about the shape before anything is read; what it refuses is handed to [`Arrays::wrong`].
    fn array<T: Copy + Default>(
        &mut self,
        key: &'static str,
        fits: impl Fn(&[usize]) -> Result<(), NamedError>,
        one: impl Fn(f64) -> T,
    ) -> Result<(Vec<usize>, Vec<T>), Self::Error>;

    /// The error of the file whose arrays are no table.
    fn wrong(&self, error: NamedError) -> Self::Error;
}

/// The table of a file.
///
/// Without `timeouts` no row is one. Without `next_observations`, where there are `timeouts`, it is the next row's observation, as in
/// `d4rl.qlearning_dataset`: the last row, and rows in which time ran out, have none and are left out; a terminal
/// row has that of the next episode, from which nothing is learned.
///
/// With `as_it_is` it is a table to be looked at, see [`Table::to_be_looked_at`].
pub(super) fn table<A: Arrays>(mut arrays: A, as_it_is: bool) -> Result<Table, A::Error> {
    let (observations, rows, observation) = matrix(&mut arrays, OBSERVATIONS, None, None)?;
    let (actions, _, action) = matrix(&mut arrays, ACTIONS, Some(rows), None)?;
    let rewards = vector(&mut arrays, REWARDS, rows, |value| value as f32)?;
    let next_observations = match found(&arrays, NEXT_OBSERVATIONS) {
        Some(_) => Some(
            matrix(
                &mut arrays,
                NEXT_OBSERVATIONS,
                Some(rows),
                Some(observation),
            )?
            .0,
        ),
        None => None,
    };
    let terminals = flags(&mut arrays, TERMINALS, rows)?;
    let timeouts = match found(&arrays, TIMEOUTS) {
        Some(_) => flags(&mut arrays, TIMEOUTS, rows)?,
        None => vec![false; rows],
    };
    let unfinished = next_observations.is_none();
    if unfinished && found(&arrays, TIMEOUTS).is_none() {
        // Where an episode was cut could not be told.
        return Err(arrays.wrong(NamedError::Unfinished {
            keys: arrays.keys().join(", "),
        }));
    }
    let columns = Columns {
        observation,
        action,
        observations,
        actions,
        rewards,
        next_observations: next_observations.unwrap_or_default(),
        terminals,
        timeouts,
    };
    let columns = match unfinished {
        true => followed(columns),
        false => columns,
    };
    Table::of(columns, as_it_is).map_err(|error| arrays.wrong(error.into()))
}

/// Each row's next observation is the next row's observation; rows that have none are left out.
fn followed(mut columns: Columns) -> Columns {
    let (rows, observation, action) = (columns.rewards.len(), columns.observation, columns.action);
    let kept = |row: usize| row + 1 < rows && !columns.timeouts[row];
    let kept: Vec<usize> = (0..rows).filter(|&row| kept(row)).collect();
    let wide = |values: &[f32], width: usize, after: usize| -> Vec<f32> {
        let of = |&row: &usize| &values[(row + after) * width..(row + after + 1) * width];
        kept.iter().flat_map(of).copied().collect()
    };
    columns.next_observations = wide(&columns.observations, observation, 1);
    columns.observations = wide(&columns.observations, observation, 0);
    columns.actions = wide(&columns.actions, action, 0);
    columns.rewards = wide(&columns.rewards, 1, 0);
    columns.terminals = kept.iter().map(|&row| columns.terminals[row]).collect();
    columns.timeouts = vec![false; kept.len()];
    columns
}

/// The name by which a column is there.
fn found(arrays: &impl Arrays, names: Names) -> Option<&'static str> {
    names.iter().find(|key| arrays.has(key)).copied()
}

/// As [`found`], of a column that must be there.
fn key<A: Arrays>(arrays: &A, names: Names) -> Result<&'static str, A::Error> {
    found(arrays, names).ok_or_else(|| {
        let mut keys = arrays.keys();
        keys.sort();
        arrays.wrong(NamedError::Missing {
            key: names.join("` or `"),
            keys: keys.join(", "),
        })
    })
}

/// Numbers, rows and columns of a column of vectors.
fn matrix<A: Arrays>(
    arrays: &mut A,
    names: Names,
    rows: Option<usize>,
    columns: Option<usize>,
) -> Result<(Vec<f32>, usize, usize), A::Error> {
    let key = key(arrays, names)?;
    let fits = |shape: &[usize]| match *shape {
        [r, c] if rows.is_none_or(|rows| rows == r) && columns.is_none_or(|n| n == c) => Ok(()),
        _ => {
            let size = |size: Option<usize>, unknown: &str| {
                size.map_or(unknown.to_owned(), |size| size.to_string())
            };
            let (rows, columns) = (size(rows, "rows"), size(columns, "numbers per row"));
            Err(shape_error(key, shape, format!("[{rows}, {columns}]")))
        }
    };
    let (shape, numbers) = arrays.array(key, fits, |value| value as f32)?;
    Ok((numbers, shape[0], shape[1]))
}

/// A column of single numbers.
fn vector<A: Arrays, T: Copy + Default>(
    arrays: &mut A,
    names: Names,
    rows: usize,
    one: impl Fn(f64) -> T,
) -> Result<Vec<T>, A::Error> {
    let key = key(arrays, names)?;
    let fits = |shape: &[usize]| match *shape {
        [r] | [r, 1] if r == rows => Ok(()),
        _ => Err(shape_error(key, shape, format!("[{rows}]"))),
    };
    Ok(arrays.array(key, fits, one)?.1)
}

fn flags<A: Arrays>(arrays: &mut A, names: Names, rows: usize) -> Result<Vec<bool>, A::Error> {
    let values = vector(arrays, names, rows, |value| value)?;
    match values
        .iter()
        .position(|&value| value != 0.0 && value != 1.0)
    {
        None => Ok(values.iter().map(|&value| value == 1.0).collect()),
        Some(row) => Err(arrays.wrong(NamedError::Flag {
            key: key(arrays, names)?.to_owned(),
            row,
            value: values[row],
        })),
    }
}

fn shape_error(key: &str, got: &[usize], wanted: String) -> NamedError {
    NamedError::Shape {
        key: key.to_owned(),
        got: got.to_owned(),
        wanted,
    }
}
