//! Why a dataset cannot be written.

use std::{
    io,
    path::{Path, PathBuf},
};

use arrow_schema::ArrowError;
use hilt_protocol::{RunId, SpecError};
use parquet::errors::ParquetError;

use crate::{NotWritten, RecordingError, film::FilmError, whole::not_written};

/// Why a dataset cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What was to be written cannot be read.
    #[error(transparent)]
    Read(#[from] RecordingError),
    /// There is something already.
    #[error("{0} is not empty: a dataset is written into a new folder")]
    There(PathBuf),
    /// There is nothing to write.
    #[error("{0} was not written: there is no episode with a step in it")]
    Nothing(PathBuf),
    /// The rig is none.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A camera cannot be called so.
    #[error(
        "camera `{0}`: in a dataset of LeRobot's no name has a slash in it; give it another in the spec"
    )]
    Name(String),
    /// An entry is not of the rig, or holds no numbers.
    #[error("run {run}, episode {episode}, index {index}: {what}")]
    Entry {
        /// Of the entry.
        run: RunId,
        /// Of the entry.
        episode: u64,
        /// Of the entry.
        index: u32,
        /// What is wrong with it.
        what: String,
    },
    /// It went wrong before.
    #[error("{0} was given up, as was said")]
    GivenUp(PathBuf),
    /// A video was not made.
    #[error(transparent)]
    Film(#[from] FilmError),
    /// A table was not written.
    #[error("{}: {cause}; free some space or choose another place", path.display())]
    Table {
        /// Its file.
        path: PathBuf,
        /// What happened.
        cause: ParquetError,
    },
    /// The system failed.
    #[error(transparent)]
    Io(#[from] NotWritten),
}

pub(super) fn io_error(path: &Path, cause: io::Error) -> WriteError {
    not_written(path)(cause).into()
}

pub(super) fn table_error(path: &Path, cause: ArrowError) -> WriteError {
    let (path, cause) = (path.to_owned(), cause.into());
    WriteError::Table { path, cause }
}
