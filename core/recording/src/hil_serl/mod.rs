//! HIL-SERL's files, and SERL's: a pickled list with a dictionary per transition.
//!
//! | key | value |
//! |---|---|
//! | `observations`, `next_observations` | a dictionary: per camera a uint8 array \[1, height, width, 3\] or \[height, width, 3\], and `state`, \[1, n\] or \[n\] |
//! | `actions` | \[columns\], in ±1 |
//! | `rewards`, `masks`, `dones` | numbers; the mask of a last step is 0 |
//! | `grasp_penalty` (also in `infos`) | a number, if grippers are learned |
//! | `infos`, `labels` | optional: a dictionary of anything; a person's word on the observation, 0 or 1 |
//!
//! - [`open`]: a file, or a folder of them, as [`Opened`]: what a robot saw and did, or, without images, a [`crate::table::Table`].
//! - [`labelled`]: frames with a person's word, for the reward classifier.
//! - [`write()`], [`write_table`]: a file that HIL-SERL and Python's `pickle` load.
//!
//! How their words become ours:
//!
//! - Each file is a run, its identity is the SHA-256 of its numbers. Ten steps a second, as HIL-SERL has it, unless
//!   the spec says otherwise. Cameras are those of the told spec, else all, sorted by name.
//! - An episode ends where a row is done, and where the next row does not begin with what it led to. A last step is
//!   terminated if it is done, has mask 0, and `infos.succeed` or, without that, a reward above 0. Else it is
//!   truncated: HIL-SERL writes a time-out as if the task had ended. Files that say `terminated` and `truncated` in
//!   `infos`, as ours do, are believed.
//! - Steps are a person's, unless `infos.source` says otherwise, as ours do. `actions` are what was executed:
//!   HIL-SERL puts an intervention's there itself.
//! - HIL-SERL records what it asks for and executes what is left of it: motion that is at most [`NOISE`] beyond ±1 is
//!   cut to ±1, and a gripper's number is rounded to what it did, -1 close, 0 stay or 1 open.
//! - Of several stacked frames the last is the image. A `state` that is a dictionary of vectors is flattened in the
//!   order of its keys.
//!
//! Nothing in a file is executed, see [`crate::pickle`]; images are fetched one by one. What is kept of a file at a
//! time is everything but its images.

mod reader;
mod rows;
mod spec;
mod writer;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use hilt_protocol::ActionSource;

pub(crate) use self::{reader::open_as, writer::save_table};
pub use self::{
    reader::{Demonstrations, Entries, Labelled, LabelledFrame, Opened, labelled, open, read_from},
    spec::NOISE,
    writer::{write, write_table},
};
use crate::{
    NotWritten,
    guess::GuessError,
    pickle::{OutlineError, PickleError},
    table::TableError,
};

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HilSerlError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] NotWritten),
    /// It is no pickle of plain data.
    #[error("{path}: {source}")]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PickleError,
    },
    /// It is a pickle of something else.
    #[error("{path}: it holds {found}, where a list of transitions belongs")]
    NoList {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// A list without a row.
    #[error("{0}: it holds no transition; record one, or leave the file out")]
    Empty(PathBuf),
    /// A folder without a file.
    #[error("{0} holds no file of HIL-SERL's (.pkl)")]
    Nothing(PathBuf),
    /// A file is there twice.
    #[error(
        "{copy} holds the same transitions as {first}: take one of them out of the folder, or each would count twice"
    )]
    Copy {
        /// The first file.
        first: PathBuf,
        /// The one that is like it.
        copy: PathBuf,
    },
    /// A row is not what it should be.
    #[error("{path}: row {row}: `{key}` {fault}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Row, from 0.
        row: usize,
        /// Which part, keys joined by points.
        key: String,
        /// Why.
        fault: Fault,
    },
    /// Files of several rigs.
    #[error("{other} was recorded on another rig than {first}: their {what} differ")]
    Rigs {
        /// The first file.
        first: PathBuf,
        /// The first that differs.
        other: PathBuf,
        /// In what.
        what: &'static str,
    },
    /// Its rig is not known.
    #[error("{path}: {source}")]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GuessError,
    },
    /// It is not of the rig that it is said to be of.
    #[error(
        "{path} does not fit the spec that was given: {reason}; give another by --spec spec.json, or leave it out"
    )]
    Told {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// State-only files that are no table.
    #[error("{path}: {source}")]
    Table {
        /// The file, or the folder.
        path: PathBuf,
        /// Why.
        source: TableError,
    },
    /// Images were asked for.
    #[error(
        "{0} holds no images; as a table of states it is learned from with `hilt-learner offline`"
    )]
    NoImages(PathBuf),
    /// The name is taken.
    #[error(
        "{0}: a camera cannot be named `state` there, for that is what the arm's numbers are called"
    )]
    Camera(PathBuf),
    /// Nobody said what the frames show.
    #[error(
        "{0}: nothing says what its frames show: neither `labels`, 0 or 1, nor `success` or `failure` in the name of \
         the file; give those of successes by --success-dir and the others by --failure-dir"
    )]
    NoLabels(PathBuf),
    /// A file is said to be one thing and named as the other.
    #[error("{0}: by its name it is of the other kind; rename it, or give it as that")]
    Named(PathBuf),
}

/// What is wrong with a part of a row.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It is something else.
    #[error("is {1}, it must be {0}")]
    Kind(&'static str, String),
    /// NaN or infinity, at a place from 0.
    #[error("has {1} at place {0}: leave that transition out, or mend what wrote it")]
    NotFinite(usize, f64),
    /// Neither yes nor no.
    #[error("is {0}, it must be 0 or 1")]
    Flag(f64),
    /// Another length than in the rows before.
    #[error("has {1} numbers, in the rows before it has {0}")]
    Width(usize, usize),
    /// Other parts than in the rows before.
    #[error("has other parts than in the rows before")]
    Names,
    /// Other cameras than in the rows before.
    #[error("has the cameras {1}, in the rows before {0}")]
    Cameras(String, String),
}

/// Where in a file.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p Path,
    row: usize,
}

impl Place<'_> {
    fn error(&self, key: &str, fault: Fault) -> HilSerlError {
        HilSerlError::Row {
            path: self.path.to_owned(),
            row: self.row,
            key: key.to_owned(),
            fault,
        }
    }

    fn io(&self, source: io::Error) -> HilSerlError {
        in_file(self.path)(source)
    }
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> HilSerlError {
    move |source| HilSerlError::Io {
        path: path.to_owned(),
        source,
    }
}

fn in_outline(path: &Path) -> impl Fn(OutlineError) -> HilSerlError {
    let path = path.to_owned();
    move |error| match error {
        OutlineError::Io(source) => HilSerlError::Io {
            path: path.clone(),
            source,
        },
        OutlineError::Pickle(source) => HilSerlError::Pickle {
            path: path.clone(),
            source,
        },
    }
}

/// Whether there is something of HIL-SERL's at a path: a `.pkl` file, or a folder with such files.
pub fn is_there(path: &Path) -> bool {
    files(path).is_ok_and(|files| !files.is_empty())
}

/// The file, or those in the folder, by name.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_pickle = |path: &Path| path.extension().is_some_and(|ending| ending == "pkl");
    if !path.is_dir() {
        return Ok(match is_pickle(path) {
            true => vec![path.to_owned()],
            false => vec![],
        });
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if is_pickle(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn opened(path: &Path) -> Result<(File, u64), HilSerlError> {
    let file = File::open(path).map_err(in_file(path))?;
    let length = file.metadata().map_err(in_file(path))?.len();
    Ok((file, length))
}

/// What the numbers of an observation are called, beside its cameras.
const STATE: &str = "state";

/// The names of sources in `infos.source`.
const SOURCES: [(&str, ActionSource); 4] = [
    ("human", ActionSource::Human),
    ("policy", ActionSource::Policy),
    ("scripted", ActionSource::ScriptedOperator),
    ("random", ActionSource::Random),
];

fn source_named(name: &str) -> Option<ActionSource> {
    let found = SOURCES.iter().find(|(known, _)| *known == name);
    found.map(|(_, source)| *source)
}
