//! Why a dataset cannot be read.

use std::{io, path::PathBuf};

use hilt_protocol::SpecError;

use super::video::VideoError;
use crate::{guess::GuessError, table::TableError};

/// Why a dataset cannot be read. Rows count from 0 in their file, places from 0 in their row.
#[derive(Debug, thiserror::Error)]
pub enum LeRobotError {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// A file that the dataset's own description names is missing.
    #[error("{path} is not there, but {by} names it: copy the whole dataset again")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Who names it.
        by: PathBuf,
    },
    /// The description says something that cannot be.
    #[error("{path}: `{key}` {what}")]
    Info {
        /// The file.
        path: PathBuf,
        /// Where in it.
        key: String,
        /// What is wrong, and what helps.
        what: String,
    },
    /// It was written in another version of the format.
    #[error("{path}: the dataset is of version {version}, read is v3.0{remedy}")]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: String,
        /// What helps.
        remedy: &'static str,
    },
    /// A Parquet file is broken.
    #[error(
        "{path}: {what}; a whole Parquet file is needed: copy it again, or end the recording with finalize()"
    )]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// A column is missing.
    #[error("{path}: there is no column `{key}`; there are {keys}")]
    Column {
        /// The file.
        path: PathBuf,
        /// Its name.
        key: String,
        /// What there is.
        keys: String,
    },
    /// A column holds something else than it should.
    #[error("{path}: `{key}` is of type {got}, it must be {wanted}")]
    Type {
        /// The file.
        path: PathBuf,
        /// Its name.
        key: String,
        /// What is there.
        got: String,
        /// What should be.
        wanted: &'static str,
    },
    /// A row has too few numbers, or too many.
    #[error("{path}: `{key}` has {got} numbers in row {row}, meta/info.json says {wanted}")]
    Width {
        /// The file.
        path: PathBuf,
        /// Column.
        key: String,
        /// Row.
        row: u64,
        /// Numbers that are there.
        got: usize,
        /// Numbers that should be.
        wanted: usize,
    },
    /// A value is missing, not finite or not one that it can be.
    #[error("{path}: `{key}` has {got} in row {row}, place {place}: {remedy}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Column.
        key: String,
        /// Row.
        row: u64,
        /// Place within the row.
        place: usize,
        /// What is there.
        got: String,
        /// What helps.
        remedy: &'static str,
    },
    /// The rows are not those that the list of episodes says.
    #[error(
        "{path}: row {row} is frame {got_frame} of episode {got_episode}, not frame {frame} of episode {episode} as \
         it should be: the dataset is not whole, copy it again"
    )]
    Order {
        /// The file.
        path: PathBuf,
        /// Row.
        row: u64,
        /// Episode that should be there.
        episode: u64,
        /// Its frame that should be there.
        frame: u64,
        /// Episode that is there.
        got_episode: u64,
        /// Its frame.
        got_frame: u64,
    },
    /// There are fewer rows than the list of episodes says.
    #[error(
        "{path}: it ends after {rows} rows, before frame {frame} of episode {episode}: the dataset is not whole, copy \
         it again"
    )]
    Ends {
        /// The file.
        path: PathBuf,
        /// Rows that it has.
        rows: u64,
        /// Episode that should go on.
        episode: u64,
        /// Its frame that should come.
        frame: u64,
    },
    /// An episode without a frame.
    #[error("{path}: episode {episode} has no frame (`length` is 0): leave it out")]
    Empty {
        /// The list of episodes.
        path: PathBuf,
        /// Which.
        episode: u64,
    },
    /// No episode at all.
    #[error("{0} holds no episode; record one, or end the recording with finalize()")]
    Nothing(PathBuf),
    /// A frame of a video cannot be had.
    #[error("`{key}`, frame {frame} of episode {episode}: {cause}")]
    Video {
        /// The camera's feature.
        key: String,
        /// Episode.
        episode: u64,
        /// Frame in the episode.
        frame: u64,
        /// Why.
        cause: VideoError,
    },
    /// A picture in a row cannot be had.
    #[error("{path}: `{key}` in row {row}: {what}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// Column.
        key: String,
        /// Row.
        row: u64,
        /// Why.
        what: String,
    },
    /// No spec comes to mind for these actions.
    #[error("{path}: {cause}")]
    Guess {
        /// The description.
        path: PathBuf,
        /// Why.
        cause: GuessError,
    },
    /// What a gripper's commands mean cannot be told.
    #[error(
        "{path}: `{column}` of `action`, a gripper's column, {what}: write grippers as 0 (close), 1 (stay), 2 (open), \
         and put the rig's spec.json beside as meta/hilt-spec.json, which says that they are; if it is no gripper's, \
         say the rig with --spec spec.json"
    )]
    Gripper {
        /// The description.
        path: PathBuf,
        /// Its name.
        column: String,
        /// What it holds.
        what: String,
    },
    /// The spec beside the dataset is no spec.
    #[error("{path}: {what}; remove it, or export the run again")]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The spec that was told is of another rig.
    #[error(
        "{path}: the rig's spec does not fit: {what}; say another with --spec spec.json, or leave it out"
    )]
    Told {
        /// The description.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A dataset without cameras is no recording of a rig.
    #[error("{0} has no camera (a feature of dtype video or image): it is a table of transitions")]
    NoCamera(PathBuf),
    /// What was read is no table.
    #[error("{path}: {cause}")]
    Table {
        /// The dataset.
        path: PathBuf,
        /// Why.
        cause: TableError,
    },
}

impl LeRobotError {
    /// A spec that is itself wrong.
    pub(super) fn spec(path: PathBuf, cause: SpecError) -> Self {
        let cause = GuessError::Spec(cause);
        Self::Guess { path, cause }
    }
}
