//! Data from one form into another.
//!
//! What a form has no place for is left out: a table has no pictures, no sources and no labels. What comes out is
//! whole or not there at all.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use hilt_protocol::{Entry, Record, RigSpec, RunId};

use crate::{
    Data, DataError, LOG_FILE, NotWritten, Opening, ReadError, RecordingError, RunWriter, Steps,
    WriteError,
    asked::unless_ended,
    beside,
    foxglove::{self, FoxgloveError},
    hil_serl, lerobot, read_spec,
    table::{Columns, Table, TableError, hdf5, npz},
    whole::not_written,
};

/// A form of data that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder with a run of ours in it, or a folder of them.
    Runs,
    /// A table in an archive of numpy.
    Npz,
    /// A dataset of LeRobot's, a folder.
    LeRobot,
    /// HIL-SERL's transitions.
    HilSerl,
    /// A table in an HDF5 file.
    Hdf5,
    /// An MCAP file for Foxglove and other viewers.
    Foxglove,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Runs,
        Self::LeRobot,
        Self::HilSerl,
        Self::Npz,
        Self::Hdf5,
        Self::Foxglove,
    ];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::LeRobot => "lerobot",
            Self::HilSerl => "hil-serl",
            Self::Npz => "npz",
            Self::Hdf5 => "hdf5",
            Self::Foxglove => "foxglove",
        }
    }

    /// What a path of this name is meant to be; a folder may be several things.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "pkl" => Some(Self::HilSerl),
            "npz" => Some(Self::Npz),
            "hdf5" | "h5" => Some(Self::Hdf5),
            "mcap" => Some(Self::Foxglove),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no form of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no form of data; there are {all}", all = names())]
pub struct UnknownFormat(pub String);

fn names() -> String {
    Format::ALL.map(Format::name).join(", ")
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let mut all = Format::ALL.into_iter();
        let found = all.find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// Why data is not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] RecordingError),
    /// A run cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file for viewers cannot be written.
    #[error(transparent)]
    Foxglove(#[from] FoxgloveError),
    /// A dataset of LeRobot's cannot be written.
    #[error(transparent)]
    LeRobot(#[from] lerobot::WriteError),
    /// An archive of numpy cannot be written.
    #[error(transparent)]
    Npz(#[from] npz::NpzError),
    /// An HDF5 file cannot be written.
    #[error(transparent)]
    Hdf5(#[from] hdf5::Hdf5Error),
    /// The steps are no table.
    #[error("the recording's steps are no table: {0}")]
    Table(#[from] TableError),
    /// Something is there already.
    #[error("{0} exists already; nothing is ever written over, choose another name")]
    Exists(PathBuf),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] DataError),
    /// The spec that was named cannot be read.
    #[error(transparent)]
    Spec(#[from] ReadError),
    /// What is to come out is not said.
    #[error(
        "{0}: what is it to be? Say it with --to ({all}), or by an ending: .pkl for hil-serl, .npz for npz, .hdf5 or .h5 for hdf5, .mcap for foxglove",
        all = names()
    )]
    Unsaid(PathBuf),
    /// Nothing would come of what was asked for.
    #[error("{0} is for {1}: leave it out")]
    Idle(&'static str, &'static str),
    /// It would be taken for a run of ours.
    #[error("{0}: a file of that name is taken for a run's log; choose another name")]
    LogFile(PathBuf),
    /// A table has no pictures.
    #[error("a table of state vectors cannot become {0}, which is of a robot with cameras")]
    NoPictures(Format),
    /// The system refused.
    #[error(transparent)]
    Place(#[from] NotWritten),
    /// A run comes twice.
    #[error("run {0} is in it twice, as in a folder and a copy of it: take one of them out")]
    Again(RunId),
}

/// What LeRobot is told where nobody says what the robot was to do.
const TASK: &str = "manipulation";

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// Any data.
    pub from: PathBuf,
    /// Where to; nothing may be there.
    pub to: PathBuf,
    /// What is to come out; absent: what the name says.
    pub format: Option<Format>,
    /// The rig of a recording that does not say it itself: a `spec.json`.
    pub spec: Option<PathBuf>,
    /// Images of so many pixels a side; absent: as they are.
    pub image_side: Option<u32>,
    /// What the robot was to do, in a few words, which LeRobot keeps.
    pub task: Option<String>,
}

impl Conversion {
    /// Does it; see [`convert`]. What was written, in words.
    pub fn run(&self, mut go_on: impl FnMut(u64) -> bool) -> Result<String, ConvertError> {
        let format = self.format.or_else(|| Format::of(&self.to));
        let format = format.ok_or_else(|| ConvertError::Unsaid(self.to.clone()))?;
        let told = self.spec.as_deref().map(read_spec).transpose()?;
        if self.task.is_some() && format != Format::LeRobot {
            return Err(ConvertError::Idle(
                "--task",
                "what becomes a dataset of LeRobot's",
            ));
        }
        let asked = RefCell::new(&mut go_on);
        let opening = Opening {
            told: told.as_ref(),
            go_on: &|| (asked.borrow_mut())(0),
            ..Opening::default()
        };
        let data = Data::open_as(&self.from, &opening)?;
        if let (Data::Table(_), Some(_)) = (&data, self.image_side) {
            return Err(ConvertError::Idle(
                "--image-size",
                "a recording with cameras",
            ));
        }
        let data = match (data, self.image_side) {
            (Data::Recording(recording), Some(side)) => Data::Recording(recording.resized(side)),
            (data, _) => data,
        };
        let task = self.task.as_deref().unwrap_or(TASK);
        let count = convert(&data, &self.to, format, task, go_on)?;
        let unit = match (data, format) {
            (Data::Table(_), _) | (_, Format::Npz | Format::Hdf5 | Format::HilSerl) => {
                "transitions"
            }
            (Data::Recording(_), _) => "observations",
        };
        let (from, to) = (self.from.display(), self.to.display());
        Ok(format!("{to}: {count} {unit} of {from}, as {format}"))
    }
}

/// Writes data to a path in another form. How many entries of a recording, or rows of what holds transitions, were
/// written. Before each entry, and again and again while a table is written, it asks `go_on`, which is told how many entries there
/// were; at a no it ends with [`RecordingError::Ended`] and leaves nothing.
pub fn convert(
    data: &Data,
    to: &Path,
    format: Format,
    task: &str,
    go_on: impl FnMut(u64) -> bool,
) -> Result<u64, ConvertError> {
    if to.exists() {
        return Err(ConvertError::Exists(to.to_owned()));
    }
    if to.file_name().is_some_and(|name| name == LOG_FILE) {
        return Err(ConvertError::LogFile(to.to_owned()));
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(not_written(folder))?;
    }
    let (asked, taken) = (RefCell::new(go_on), Cell::new(0));
    let go_on = || (asked.borrow_mut())(taken.get());
    unless_ended(&go_on, |go_on| match data {
        Data::Table(table) => write_table(table, to, format, go_on),
        Data::Recording(recording) => {
            let entries = recording.entries().map(|entry| match go_on() {
                true => {
                    taken.set(taken.get() + 1);
                    entry
                }
                false => Err(RecordingError::Ended),
            });
            match format {
                Format::Runs => runs(recording.spec(), entries, to),
                Format::Foxglove => Ok(foxglove::write(to, recording.spec(), entries)?),
                Format::LeRobot => {
                    let options = lerobot::Options::of_task(task);
                    in_folder(to, |beside| {
                        Ok(lerobot::write(beside, recording.spec(), entries, options)?)
                    })?;
                    Ok(taken.get())
                }
                Format::HilSerl => Ok(hil_serl::write::<RecordingError>(
                    to,
                    recording.spec(),
                    entries,
                )?),
                Format::Npz | Format::Hdf5 => write_table(&table(entries)?, to, format, go_on),
            }
        }
    })
}

fn write_table(
    table: &Table,
    to: &Path,
    format: Format,
    go_on: &dyn Fn() -> bool,
) -> Result<u64, ConvertError> {
    match format {
        Format::Npz => npz::save(to, table, go_on)?,
        Format::Hdf5 => hdf5::save(to, table, go_on)?,
        Format::HilSerl => {
            hil_serl::save_table(to, table, go_on).map_err(RecordingError::from)?;
        }
        Format::Runs | Format::LeRobot | Format::Foxglove => {
            return Err(ConvertError::NoPictures(format));
        }
    }
    Ok(table.len() as u64)
}

/// The steps of a recording on the numbers of its proprioception. One whose observation is missing, because entries
/// are, is left out.
pub fn table(
    entries: impl Iterator<Item = Result<Entry, RecordingError>>,
) -> Result<Table, ConvertError> {
    let mut columns = Columns::default();
    let mut steps = Steps::default();
    for entry in entries {
        let entry = entry?;
        let Some((before, step)) = steps.next(&entry) else {
            continue;
        };
        (columns.observation, columns.action) = (before.proprio.len(), step.action.len());
        columns.observations.extend(before.proprio);
        columns.actions.extend_from_slice(&step.action);
        columns.rewards.push(step.reward);
        columns
            .next_observations
            .extend_from_slice(&step.next.proprio);
        columns.terminals.push(step.terminated);
        columns.timeouts.push(step.truncated);
    }
    Ok(Table::new(columns)?)
}

/// A folder per run, or the run itself where there is one.
fn runs(
    spec: &RigSpec,
    entries: impl Iterator<Item = Result<Entry, RecordingError>>,
    to: &Path,
) -> Result<u64, ConvertError> {
    in_folder(to, |beside| {
        let (count, runs) = write_runs(spec, entries, beside)?;
        if let [only] = &runs[..] {
            let mut files = fs::read_dir(only).map_err(not_written(only))?;
            let moved = files.try_for_each(|file| {
                file.and_then(|file| fs::rename(file.path(), beside.join(file.file_name())))
            });
            moved
                .and_then(|()| fs::remove_dir(only))
                .map_err(not_written(only))?;
        }
        Ok(count)
    })
}

/// Has a folder written beside its place, which it takes when it is whole.
fn in_folder<T>(
    to: &Path,
    write: impl FnOnce(&Path) -> Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    let beside = beside(to);
    if beside.exists() {
        // Of a conversion that was killed.
        fs::remove_dir_all(&beside).map_err(not_written(&beside))?;
    }
    let written = write(&beside).and_then(|written| {
        fs::rename(&beside, to).map_err(not_written(to))?;
        Ok(written)
    });
    if written.is_err() {
        // Whatever is there of it is of no use; that it cannot be removed either says nothing more.
        let _ = fs::remove_dir_all(&beside);
    }
    written
}

fn write_runs(
    spec: &RigSpec,
    entries: impl Iterator<Item = Result<Entry, RecordingError>>,
    to: &Path,
) -> Result<(u64, Vec<PathBuf>), ConvertError> {
    let (mut writer, mut count, mut runs) = (None, 0, vec![]);
    for entry in entries {
        let entry = entry?;
        let mut current = match writer.take() {
            Some((run, last, _)) if run == entry.run && last >= entry.sequence => {
                return Err(ConvertError::Again(run));
            }
            Some((run, _, current)) if run == entry.run => current,
            other => {
                if let Some((.., ended)) = other {
                    RunWriter::finish(ended)?;
                }
                let run = to.join(entry.run.to_string());
                if runs.contains(&run) {
                    return Err(ConvertError::Again(entry.run));
                }
                let writer = RunWriter::create(&run, entry.run, spec, BTreeMap::new())?;
                runs.push(run);
                writer
            }
        };
        current.append(&entry)?;
        if matches!(entry.record, Record::Reset(_)) {
            current.flush()?;
        }
        writer = Some((entry.run, entry.sequence, current));
        count += 1;
    }
    match writer {
        Some((.., ended)) => ended.finish()?,
        None => return Err(TableError::Empty.into()),
    }
    Ok((count, runs))
}
