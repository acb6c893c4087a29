//! Reading a run's log, whole, cut, or still growing.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use hilt_protocol::{Entry, RigSpec, wire};
use mcap::{
    parse_record,
    records::{Record, op},
    sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions},
};

use crate::{LOG_FILE, SPEC_FILE, TOPIC, writer};

/// No record of ours is near this; a longer one is a broken length field.
const LONGEST_RECORD: usize = 256 << 20;

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
    path: PathBuf,
    file: BufReader<File>,
    reader: LinearReader,
    channels: Vec<u16>,
    read: u64,
    consumed: u64,
    cut: Option<String>,
    footer: bool,
    done: bool,
}

impl RunReader {
    /// Opens the run in `dir` (or the `.mcap` file itself).
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        let path = if dir.is_dir() {
            dir.join(LOG_FILE)
        } else {
            dir.to_owned()
        };
        let file = File::open(&path).map_err(|source| ReadError::Io {
            path: path.clone(),
            source,
        })?;
        let options = LinearReaderOptions::default()
            .with_skip_end_magic(true)
            // A chunk is checked before any of its messages is given out.
            .with_prevalidate_chunk_crcs(true)
            .with_record_length_limit(LONGEST_RECORD);
        let reader = LinearReader::new_with_options(options);
        let file = BufReader::with_capacity(1 << 20, file);
        Ok(Self {
            path,
            file,
            reader,
            channels: Vec::new(),
            read: 0,
            consumed: 0,
            cut: None,
            footer: false,
            done: false,
        })
    }

    /// Where the file is cut, and why reading stopped there; `None` for a file that ends as it
    /// should (or has not been read to its end).
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// Entries from this sequence number on.
    pub fn from_sequence(self, sequence: u64) -> impl Iterator<Item = Result<Entry, ReadError>> {
        self.filter(move |entry| {
            entry
                .as_ref()
                .map_or(true, |entry| entry.sequence >= sequence)
        })
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let event = match self.reader.next_event() {
                None => {
                    // Killed between two chunks: every entry is whole, the file is not.
                    if !self.footer {
                        let at = self.consumed;
                        self.cut = Some(format!("{at} bytes in: it ends without a footer"));
                    }
                    return Ok(None);
                }
                Some(Ok(event)) => event,
                Some(Err(e)) => {
                    self.cut = Some(format!("{} bytes in: {e}", self.consumed));
                    return Ok(None);
                }
            };
            match event {
                LinearReadEvent::ReadRequest(wanted) => {
                    // Asked for in pieces: a broken length field must not allocate its claim.
                    let buffer = self.reader.insert(wanted.min(1 << 20));
                    let read = self.file.read(buffer);
                    let n = read.map_err(|source| ReadError::Io {
                        path: self.path.clone(),
                        source,
                    })?;
                    self.consumed += n as u64;
                    self.reader.notify_read(n);
                }
                LinearReadEvent::Record {
                    opcode: opcode @ (op::CHANNEL | op::MESSAGE),
                    data,
                } => match parse_record(opcode, data) {
                    Ok(Record::Channel(channel)) if channel.topic == TOPIC => {
                        self.channels.push(channel.id)
                    }
                    Ok(Record::Message { header, data })
                        if self.channels.contains(&header.channel_id) =>
                    {
                        let entry =
                            wire::decode_entry(&data).map_err(|reason| ReadError::Entry {
                                path: self.path.clone(),
                                index: self.read,
                                reason,
                            })?;
                        self.read += 1;
                        return Ok(Some(entry));
                    }
                    Ok(_) => {}
                    Err(e) => {
                        self.cut = Some(format!("{} bytes in: {e}", self.consumed));
                        return Ok(None);
                    }
                },
                LinearReadEvent::Record { opcode, .. } => self.footer |= opcode == op::FOOTER,
            }
        }
    }
}

impl Iterator for RunReader {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_entry().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The spec of the run in `dir`.
pub fn read_spec(dir: &Path) -> Result<RigSpec, ReadError> {
    let path = dir.join(SPEC_FILE);
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
        if path.is_dir() {
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
    let Some(cut) = reader.cut.take() else {
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
