//! Data as people bring it, told apart by what lies at a path.

use std::path::{Path, PathBuf};

use hilt_protocol::RigSpec;

use crate::{
    LOG_FILE, Recording, RecordingError,
    asked::unless_ended,
    find_runs,
    hil_serl::{self, Opened},
    lerobot::Dataset,
    table::{Table, hdf5, npz},
};

/// Why data cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A recording cannot.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// An archive of numpy cannot.
    #[error(transparent)]
    Npz(#[from] npz::NpzError),
    /// An HDF5 file cannot.
    #[error(transparent)]
    Hdf5(#[from] hdf5::Hdf5Error),
    /// There is nothing.
    #[error("{0}: there is no such file or folder")]
    Missing(PathBuf),
    /// Two kinds of data lie in one folder.
    #[error("{0} holds runs and .pkl files of HIL-SERL's; put them into folders of their own")]
    Both(PathBuf),
    /// It is a table, and cameras are needed.
    #[error("{0}: a table of state vectors; a recording with cameras is needed here")]
    NoCameras(PathBuf),
    /// It is a table, and a rig was told.
    #[error("{0} is a table of state vectors, which has no rig: leave --spec out")]
    NoRig(PathBuf),
    /// A file of another kind.
    #[error(
        "{0}: data is a table of transitions (.npz, .hdf5, .h5), a folder of a robot's runs, a dataset of LeRobot's, or \
         transitions of HIL-SERL's (.pkl)"
    )]
    Kind(PathBuf),
}

/// How data is opened.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// The rig of a recording that does not say it itself; a run does, and is refused if it says another.
    pub told: Option<&'a RigSpec>,
    /// What nobody should learn from, and is an error else, is read as well, for whoever looks at it: numbers that are NaN
    /// or infinite, files that are copies of others.
    pub as_it_is: bool,
    /// Asked again and again while files are looked through; at a no it ends with [`RecordingError::Ended`].
    pub go_on: &'a dyn Fn() -> bool,
}

impl Default for Opening<'_> {
    fn default() -> Self {
        Self {
            told: None,
            as_it_is: false,
            go_on: &|| true,
        }
    }
}

/// Transitions on state vectors, or what a robot saw and did.
#[derive(Clone, Debug)]
pub enum Data {
    /// Transitions on state vectors, all in memory.
    Table(Table),
    /// What a robot saw and did, read as it is gone through.
    Recording(Recording),
}

impl Data {
    /// Opens what lies at `path`. `told` is the rig of a recording that does not say it itself.
    pub fn open(path: &Path, told: Option<&RigSpec>) -> Result<Self, DataError> {
        let opening = Opening {
            told,
            ..Opening::default()
        };
        Self::open_as(path, &opening)
    }

    /// Opens what lies at `path`.
    pub fn open_as(path: &Path, opening: &Opening<'_>) -> Result<Self, DataError> {
        let opened = unless_ended(opening.go_on, |go_on| {
            Self::look(path, &Opening { go_on, ..*opening })
        })?;
        match opened {
            Self::Table(_) if opening.told.is_some() => Err(DataError::NoRig(path.to_owned())),
            opened => Ok(opened),
        }
    }

    fn look(path: &Path, opening: &Opening<'_>) -> Result<Self, DataError> {
        let told = opening.told;
        if Dataset::is_at(path) {
            let dataset = Dataset::open_as(path, opening.as_it_is);
            let dataset = dataset.map_err(RecordingError::from)?;
            return Ok(match dataset.has_cameras() {
                true => Self::Recording(Recording::of_lerobot(dataset, told)?),
                false => Self::Table(dataset.table().map_err(RecordingError::from)?),
            });
        }
        if !path.exists() {
            return Err(DataError::Missing(path.to_owned()));
        }
        if hil_serl::is_there(path) {
            if path.is_dir() && find_runs(path).is_ok_and(|runs| !runs.is_empty()) {
                return Err(DataError::Both(path.to_owned()));
            }
            return Ok(
                match hil_serl::open_as(path, opening).map_err(RecordingError::from)? {
                    Opened::Rig(demonstrations) => {
                        Self::Recording(Recording::of_hil_serl(demonstrations))
                    }
                    Opened::Table(table) => Self::Table(table),
                },
            );
        }
        // A run's log stands for the run.
        let log = path.file_name().is_some_and(|name| name == LOG_FILE);
        let path = path.parent().filter(|_| log).unwrap_or(path);
        if path.is_dir() {
            let recording = Recording::of_runs_as(path, opening.as_it_is)?;
            if told.is_some_and(|told| told != recording.spec()) {
                return Err(RecordingError::Told(path.to_owned()).into());
            }
            return Ok(Self::Recording(recording));
        }
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npz") => Ok(Self::Table(npz::open(path, opening)?)),
            Some("hdf5" | "h5") => Ok(Self::Table(hdf5::open(path, opening)?)),
            _ => Err(DataError::Kind(path.to_owned())),
        }
    }
}

impl Recording {
    /// As [`Data::open`], of a recording; a table is an error.
    pub fn open(path: &Path, told: Option<&RigSpec>) -> Result<Self, DataError> {
        match Data::open(path, told)? {
            Data::Recording(recording) => Ok(recording),
            Data::Table(_) => Err(DataError::NoCameras(path.to_owned())),
        }
    }
}
