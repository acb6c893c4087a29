//! Reading a run's log, whole, cut, or still growing.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use hilt_protocol::{Entry, RigSpec, wire};

use crate::{ChannelReader, LOG_FILE, Message, SPEC_FILE, TOPIC, writer};

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The spec is not readable.
    #[error("{path}: {reason}; a run's folder needs the {SPEC_FILE} that was written with it")]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A whole chunk holds something that is no entry.
    #[error("{path}: entry {index} cannot be read: {reason}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Entries before it.
        index: u64,
        /// Why.
        reason: wire::WireError,
    },
    /// The recovered file could not be written.
    #[error(transparent)]
    Write(#[from] writer::WriteError),
    /// There is nothing to recover.
    #[error("{0}: holds no whole entry; nothing was changed")]
    Nothing(PathBuf),
}

/// A run's entries, in order.
pub struct RunReader {
    messages: ChannelReader,
    as_it_is: bool,
    read: u64,
    failed: bool,
}

impl RunReader {
    /// Opens the run in `dir` (or the `.mcap` file itself).
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        Self::open_as(dir, false)
    }

    /// With `as_it_is` also entries that hold NaN or infinities.
    pub(crate) fn open_as(dir: &Path, as_it_is: bool) -> Result<Self, ReadError> {
        let path = if dir.is_dir() {
            dir.join(LOG_FILE)
        } else {
            dir.to_owned()
        };
        Ok(Self {
            messages: ChannelReader::open(&path, &[TOPIC])?,
            as_it_is,
            read: 0,
            failed: false,
        })
    }

    /// Where the file is cut, and why reading stopped there; `None` for a file that ends as it
    /// should (or has not been read to its end).
    pub fn cut(&self) -> Option<&str> {
        self.messages.cut()
    }

    /// Entries from this sequence number on.
    pub fn from_sequence(self, sequence: u64) -> impl Iterator<Item = Result<Entry, ReadError>> {
        self.filter(move |entry| {
            entry
                .as_ref()
                .map_or(true, |entry| entry.sequence >= sequence)
        })
    }

    fn decode(&mut self, message: &Message) -> Result<Entry, ReadError> {
        let decode = match self.as_it_is {
            true => wire::decode_entry_as_it_is,
            false => wire::decode_entry,
        };
        let entry = decode(&message.bytes).map_err(|reason| ReadError::Entry {
            path: self.messages.path().to_owned(),
            index: self.read,
            reason,
        })?;
        self.read += 1;
        Ok(entry)
    }
}

impl Iterator for RunReader {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let message = self.messages.next()?;
        let entry = message.and_then(|message| self.decode(&message));
        self.failed = entry.is_err();
        Some(entry)
    }
}

/// The spec of the run in `dir`, or in that file.
pub fn read_spec(path: &Path) -> Result<RigSpec, ReadError> {
    let path = match path.is_dir() {
        true => path.join(SPEC_FILE),
        false => path.to_owned(),
    };
    let bad = |reason: String| ReadError::Spec {
        path: path.clone(),
        reason,
    };
    let bytes = fs::read(&path).map_err(|e| bad(e.to_string()))?;
    let spec: RigSpec = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    spec.validate().map_err(|e| bad(e.to_string()))?;
    Ok(spec)
}

/// The runs under a folder: itself if it is one, else every folder below that holds a log, sorted.
pub fn find_runs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if dir.join(LOG_FILE).is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let mut runs = Vec::new();
    for entry in fs::read_dir(dir)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.display())))?
    {
        let path = entry?.path();
        // Half a conversion is no run.
        let half = path.extension().is_some_and(|ending| ending == "partial");
        if path.is_dir() && !half {
            runs.extend(find_runs(&path)?);
        }
    }
    runs.sort();
    Ok(runs)
}

/// What [`recover`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Entries in the recovered file.
    pub entries: u64,
    /// Where and why the old file stopped; `None`: it was whole and is untouched.
    pub cut: Option<String>,
}

/// Makes the cut log of the run in `dir` a regular one. The new file is complete before it takes
/// the old one's name.
pub fn recover(dir: &Path) -> Result<RecoveryReport, ReadError> {
    let path = dir.join(LOG_FILE);
    let io = |source| ReadError::Io {
        path: path.clone(),
        source,
    };
    let mut reader = RunReader::open(dir)?;
    let mut entries = 0;
    for entry in &mut reader {
        entry?;
        entries += 1;
    }
    let Some(cut) = reader.cut().map(str::to_owned) else {
        return Ok(RecoveryReport { entries, cut: None });
    };
    let first = RunReader::open(dir)?.next().transpose()?;
    let run = first.ok_or_else(|| ReadError::Nothing(path.clone()))?.run;
    let beside = path.with_extension("recovering");
    let file = File::create(&beside).map_err(io)?;
    let whole = RunReader::open(dir)?.map_while(Result::ok);
    let entries = writer::write_all(&beside, file, run, whole)?;
    fs::rename(&beside, &path).map_err(io)?;
    Ok(RecoveryReport {
        entries,
        cut: Some(cut),
    })
}
