//! The journal of a real run: the log on disk, which is the truth, and the stream to the learner,
//! which is a cursor over it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use hilt_link::ActorLink;
use hilt_protocol::{Entry, Record, RigSpec, RunId};
use hilt_recording::{RunWriter, WriteError};
use hilt_sim::Truth;

use crate::session::Journal;

/// A record could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A new run's identity.
pub fn new_run() -> RunId {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    RunId(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Log and stream of one run.
pub struct RunLog {
    writer: RunWriter,
    link: Option<Arc<ActorLink>>,
    run: RunId,
    sequence: u64,
    /// Episodes begun.
    episodes: u64,
    index: u32,
}

impl RunLog {
    /// Starts the run `run` in `dir`; entries are streamed over `link`, if there is one.
    pub fn create(
        dir: &Path,
        run: RunId,
        spec: &RigSpec,
        metadata: BTreeMap<String, String>,
        link: Option<Arc<ActorLink>>,
    ) -> Result<Self, JournalError> {
        let writer = RunWriter::create(dir, run, spec, metadata)?;
        Ok(Self {
            writer,
            link,
            run,
            sequence: 0,
            episodes: 0,
            index: 0,
        })
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.sequence
    }

    /// Adds a record. Flushed, so that it survives this process from here on.
    pub fn add(&mut self, record: Record) -> Result<(), JournalError> {
        if matches!(record, Record::Reset(_)) {
            self.episodes += 1;
            self.index = 0;
        } else {
            self.index += 1;
        }
        let entry = Entry {
            run: self.run,
            sequence: self.sequence,
            episode: self.episodes.saturating_sub(1),
            index: self.index,
            record,
        };
        self.writer.append(&entry)?;
        self.writer.flush()?;
        self.sequence += 1;
        if let Some(link) = &self.link {
            link.notify(entry);
        }
        Ok(())
    }

    /// Ends the log with its index and waits for the disk.
    pub fn finish(self) -> Result<(), JournalError> {
        Ok(self.writer.finish()?)
    }
}

impl Journal for RunLog {
    fn append(&mut self, record: Record, _truth: Option<Truth>) -> Result<(), JournalError> {
        self.add(record)
    }
}
