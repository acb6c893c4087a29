//! Reading entries back that are not in memory any more.

use std::{ops::Range, path::PathBuf};

use hilt_protocol::Entry;
use hilt_recording::RunReader;

/// Why a log cannot be read back.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A run's log, which may still grow.
pub trait EntrySource {
    /// Entries from `wanted.start` on, in order and without holes: at least one, no more than about
    /// `max_bytes` of them, none at or after `wanted.end`, which is the log's end as far as the
    /// link was told of it. Empty if the log does not hold `wanted.start` (yet): asked again soon.
    fn read_from(
        &mut self,
        wanted: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SourceError>;
}

/// The run log in a folder, as [`hilt_recording::RunWriter`] writes it.
///
/// Reads on where it stopped. Going back, or coming to the end of the file before the entries that
/// were promised, costs a scan from the file's beginning; so the writer should flush before it
/// calls [`crate::ActorLink::notify`].
pub struct RunLog {
    folder: PathBuf,
    /// With the sequence that comes next.
    reader: Option<(RunReader, u64)>,
}

impl RunLog {
    /// The run in `folder`; nothing is opened before something is asked for.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            reader: None,
        }
    }
}

impl EntrySource for RunLog {
    fn read_from(
        &mut self,
        wanted: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SourceError> {
        let (mut reader, mut next) = match self.reader.take() {
            Some((reader, next)) if next <= wanted.start => (reader, next),
            _ => (RunReader::open(&self.folder)?, 0),
        };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while next < wanted.end && bytes < max_bytes {
            // A reader that came to the end of the file stays there: it is not kept.
            let Some(entry) = reader.next().transpose()? else {
                return Ok(entries);
            };
            next = entry.sequence + 1;
            if entry.sequence >= wanted.start {
                bytes += weight(&entry);
                entries.push(entry);
            }
        }
        self.reader = Some((reader, next));
        Ok(entries)
    }
}

/// What an entry takes in memory, about.
pub(crate) fn weight(entry: &Entry) -> usize {
    let images = &entry.observation().images;
    256 + images.iter().map(|image| image.rgb.len()).sum::<usize>()
}
