//! The journal of a real run: the log on disk, which is the truth, and the stream to the learner,
//! which is a cursor over it.
//!
//! The disk may take its time, the loop that steps the robot may not: entries go through a bounded
//! queue to a thread of the log's own. The queue drops nothing. When it is full the loop waits,
//! which in lockstep costs time and nothing else.
//!
//! What is flushed survives this process. The link hears of an entry only then, so that whatever
//! it promises the learner can be read back from the log.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use hilt_link::ActorLink;
use hilt_protocol::{Entry, Record, RigSpec, RunId};
use hilt_recording::{RunWriter, WriteError};
use hilt_sim::Truth;

use crate::tick::Stage;

/// The queue holds at most so many entries …
const QUEUE_ENTRIES: usize = 256;
/// … and about so many bytes of images.
const QUEUE_BYTES: usize = 64 << 20;

/// A record could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The log's thread cannot be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The log has ended by an error that was reported before.
    #[error("the log has ended; see the error before this one")]
    Ended,
    /// A mistake in hilt.
    #[error("the log's thread ended by a panic; what it had flushed is on disk")]
    Panicked,
}

/// Takes every record of a run in order, as it happens. `truth` is what a simulator knows of the
/// record's observation: for reports, never for the stream.
pub trait Journal {
    /// Takes one.
    fn append(&mut self, record: Record, truth: Option<Truth>) -> Result<(), JournalError>;

    /// A stage of the policy took so long: for reports, never for the stream.
    fn took(&mut self, _stage: Stage, _duration_ns: u64) {}
}

/// A new run's identity.
pub fn new_run() -> RunId {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    RunId(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// What the log's thread writes to: a run's file, or what a test puts in its place.
trait Sink: Send + 'static {
    fn append(&mut self, entry: &Entry) -> Result<(), WriteError>;
    fn flush(&mut self) -> Result<(), WriteError>;
    fn finish(self) -> Result<(), WriteError>;
}

impl Sink for RunWriter {
    fn append(&mut self, entry: &Entry) -> Result<(), WriteError> {
        RunWriter::append(self, entry)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        RunWriter::flush(self)
    }

    fn finish(self) -> Result<(), WriteError> {
        RunWriter::finish(self)
    }
}

/// The log's thread and the way to it.
struct Writer {
    queue: SyncSender<Entry>,
    thread: JoinHandle<Result<(), WriteError>>,
}

impl Writer {
    /// Everything queued is written, or an error says why not.
    fn end(self) -> Result<(), JournalError> {
        drop(self.queue);
        match self.thread.join() {
            Ok(result) => Ok(result?),
            Err(_) => Err(JournalError::Panicked),
        }
    }
}

/// Log and stream of one run. Dropping it, by a panic as well, writes what is queued.
pub struct RunLog {
    writer: Option<Writer>,
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
        let file = RunWriter::create(dir, run, spec, metadata)?;
        let frames = spec.cameras.iter();
        let entry_bytes: usize = frames.map(|c| (c.height * c.width * 3) as usize).sum();
        let queue = (QUEUE_BYTES / entry_bytes.max(1)).clamp(1, QUEUE_ENTRIES);
        Self::over(file, queue, run, move |entry| {
            if let Some(link) = &link {
                link.notify(entry);
            }
        })
    }

    /// Into `sink` through a queue of `queue` entries; `flushed` hears of every flushed entry.
    fn over(
        sink: impl Sink,
        queue: usize,
        run: RunId,
        flushed: impl Fn(Entry) + Send + 'static,
    ) -> Result<Self, JournalError> {
        let (sender, entries) = sync_channel(queue);
        let thread = std::thread::Builder::new()
            .name("run-log".to_owned())
            .spawn(move || write(sink, queue, &entries, &flushed))
            .map_err(JournalError::Thread)?;
        Ok(Self {
            writer: Some(Writer {
                queue: sender,
                thread,
            }),
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

    /// Adds a record; waits only when the disk is a whole queue behind. An error may be about a
    /// record before this one.
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
        let writer = self.writer.as_ref().ok_or(JournalError::Ended)?;
        if writer.queue.send(entry).is_err() {
            // The thread is gone, and its result says why.
            return self.end().and(Err(JournalError::Ended));
        }
        self.sequence += 1;
        Ok(())
    }

    /// Writes what is queued, ends the log with its index and waits for the disk.
    pub fn finish(mut self) -> Result<(), JournalError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), JournalError> {
        self.writer.take().ok_or(JournalError::Ended)?.end()
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.end()
        {
            tracing::error!("{error}");
        }
    }
}

impl Journal for RunLog {
    fn append(&mut self, record: Record, _truth: Option<Truth>) -> Result<(), JournalError> {
        self.add(record)
    }
}

/// The log's thread. What waits is flushed together.
fn write(
    mut sink: impl Sink,
    queue: usize,
    entries: &Receiver<Entry>,
    flushed: &impl Fn(Entry),
) -> Result<(), WriteError> {
    while let Ok(first) = entries.recv() {
        let mut group = vec![first];
        group.extend(entries.try_iter().take(queue));
        for entry in &group {
            sink.append(entry)?;
        }
        sink.flush()?;
        group.into_iter().for_each(flushed);
    }
    sink.finish()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        path::PathBuf,
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use hilt_protocol::Observation;

    use super::*;

    const RUN: RunId = RunId(5);

    fn record() -> Record {
        Record::Reset(Observation {
            captured_ns: 0,
            proprio: vec![],
            images: vec![],
        })
    }

    /// A disk that takes its first entry only when it is told to, and has room for so many.
    #[derive(Clone, Default)]
    struct Disk {
        gate: Arc<Mutex<()>>,
        room: Option<u64>,
        written: Arc<Mutex<Vec<u64>>>,
        flushed: Arc<Mutex<usize>>,
        finished: Arc<Mutex<bool>>,
    }

    impl Sink for Disk {
        fn append(&mut self, entry: &Entry) -> Result<(), WriteError> {
            drop(self.gate.lock().unwrap());
            if self.room.is_some_and(|room| entry.sequence >= room) {
                return Err(WriteError::Io {
                    path: PathBuf::from("run.mcap"),
                    source: io::Error::from(io::ErrorKind::StorageFull),
                });
            }
            self.written.lock().unwrap().push(entry.sequence);
            Ok(())
        }

        fn flush(&mut self) -> Result<(), WriteError> {
            *self.flushed.lock().unwrap() = self.written.lock().unwrap().len();
            Ok(())
        }

        fn finish(self) -> Result<(), WriteError> {
            *self.finished.lock().unwrap() = true;
            Ok(())
        }
    }

    #[test]
    fn a_slow_disk_holds_the_loop_up_and_loses_nothing() {
        const QUEUE: usize = 3;
        let disk = Disk::default();
        let shut = disk.gate.lock().unwrap();
        let mut log = RunLog::over(disk.clone(), QUEUE, RUN, |_| {}).unwrap();
        let added = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&added);
        let robot = std::thread::spawn(move || {
            for _ in 0..50 {
                log.add(record()).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
            log.finish().unwrap();
        });
        while added.load(Ordering::SeqCst) < QUEUE as u64 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50));
        // One group in the thread's hands, and a queue behind it.
        let ahead = added.load(Ordering::SeqCst);
        assert!(ahead <= 2 * QUEUE as u64 + 1, "{ahead}");
        drop(shut);
        robot.join().unwrap();
        let written = disk.written.lock().unwrap().clone();
        assert_eq!(written, (0..50).collect::<Vec<_>>());
        assert!(*disk.finished.lock().unwrap());
    }

    #[test]
    fn the_link_hears_of_an_entry_once_it_is_flushed() {
        let disk = Disk::default();
        let (flushed, heard) = (Arc::clone(&disk.flushed), Arc::new(Mutex::new(Vec::new())));
        let hears = Arc::clone(&heard);
        let mut log = RunLog::over(disk, 8, RUN, move |entry| {
            assert!(entry.sequence < *flushed.lock().unwrap() as u64);
            hears.lock().unwrap().push(entry.sequence);
        })
        .unwrap();
        for _ in 0..40 {
            log.add(record()).unwrap();
        }
        log.finish().unwrap();
        assert_eq!(*heard.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_disk_ends_the_run_with_the_file_and_the_remedy() {
        let disk = Disk {
            room: Some(7),
            ..Disk::default()
        };
        let mut log = RunLog::over(disk.clone(), 2, RUN, |_| {}).unwrap();
        let error = (0..1000).find_map(|_| log.add(record()).err()).unwrap();
        let error = error.to_string();
        assert!(
            error.starts_with("run.mcap: ") && error.contains("--out"),
            "{error}"
        );
        assert!(matches!(log.add(record()), Err(JournalError::Ended)));
        assert_eq!(*disk.written.lock().unwrap(), (0..7).collect::<Vec<_>>());
        // When nothing is added after the error, the end says it.
        let mut log = RunLog::over(disk, 100, RUN, |_| {}).unwrap();
        for _ in 0..8 {
            log.add(record()).unwrap();
        }
        assert!(matches!(log.finish(), Err(JournalError::Write(_))));
    }

    #[test]
    fn a_panic_leaves_everything_that_was_added() {
        let disk = Disk::default();
        let other = disk.clone();
        let panicked = std::thread::spawn(move || {
            let mut log = RunLog::over(other, 100, RUN, |_| {}).unwrap();
            for _ in 0..30 {
                log.add(record()).unwrap();
            }
            panic!("as a driver might");
        });
        assert!(panicked.join().is_err());
        assert_eq!(disk.written.lock().unwrap().len(), 30);
        assert!(*disk.finished.lock().unwrap());
    }
}
