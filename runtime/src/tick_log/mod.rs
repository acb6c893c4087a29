//! What every tick saw and did and what every policy step decided: `ticks.mcap`, from which a run is
//! [verified](crate::verify).
//!
//! A thread of its own writes it, behind a bounded queue. Whoever fills the queue never waits: what
//! finds it full, or a disk that refuses, is dropped and counted, and the run goes on. Every number
//! is kept to the last bit, and the file says itself what it is made of.

mod began;
mod convert;
mod pb;
mod read;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{Seek, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hilt_recording::{Channel, ChannelWriter, WriteError};

pub use began::{ArmAbout, Began};
pub use convert::{decode_decision, decode_tick, encode_decision, encode_tick};
pub use read::{Logged, TickLogError, TickLogReader};

use crate::{
    control::{TickRecord, hash_bytes},
    decision::Decision,
};

/// The file, in the run's folder.
pub const TICKS_FILE: &str = "ticks.mcap";
/// Topic of the one message that says how the control loop began.
pub const BEGAN_TOPIC: &str = "/hilt/began";
/// Topic of the ticks.
pub const TICKS_TOPIC: &str = "/hilt/ticks";
/// Topic of the decisions.
pub const DECISIONS_TOPIC: &str = "/hilt/decisions";

/// The channels' places in the file, in the order of [`schema::NAMES`].
const TOPICS: [&str; 3] = [BEGAN_TOPIC, TICKS_TOPIC, DECISIONS_TOPIC];
const BEGAN: usize = 0;
const TICKS: usize = 1;
const DECISIONS: usize = 2;

/// The queue holds at most so many ticks, sixteen seconds of a loop at 1 kHz …
const QUEUE_TICKS: u64 = 16_384;
/// … in so many messages, decisions among them.
const QUEUE_MESSAGES: usize = 4096;
/// What comes within so long is written together, up to a number of messages: the most that a killed
/// process loses.
const GATHER: Duration = Duration::from_millis(100);
const GATHER_MESSAGES: usize = 1024;

/// What a log tells of its run.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The rig, as TOML.
    pub rig: String,
    /// How its control loop began.
    pub began: Began,
}

/// What was dropped, because the queue was full or the disk refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Ticks.
    pub ticks: u64,
    /// Decisions.
    pub decisions: u64,
}

impl Losses {
    /// All of it.
    pub fn total(self) -> u64 {
        self.ticks + self.decisions
    }
}

enum Message {
    Ticks(Vec<TickRecord>),
    Decision(Box<Decision>),
    End,
}

#[derive(Default)]
struct Counts {
    /// Ticks in the queue.
    waiting: AtomicU64,
    lost_ticks: AtomicU64,
    lost_decisions: AtomicU64,
}

impl Counts {
    fn lose(&self, message: &Message) {
        match message {
            Message::Ticks(records) => {
                let n = records.len() as u64;
                self.lost_ticks.fetch_add(n, Ordering::Relaxed);
            }
            Message::Decision(_) => {
                self.lost_decisions.fetch_add(1, Ordering::Relaxed);
            }
            Message::End => {}
        }
    }
}

/// The way into the log, from any thread but the control thread: it takes memory, and no time to
/// speak of.
#[derive(Clone)]
pub struct TickLogSender {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

impl TickLogSender {
    /// Ticks on end.
    pub fn ticks(&self, records: Vec<TickRecord>) {
        let n = records.len() as u64;
        let message = Message::Ticks(records);
        let waiting = self.counts.waiting.fetch_add(n, Ordering::Relaxed) + n;
        if waiting > QUEUE_TICKS || !self.send(message) {
            self.counts.waiting.fetch_sub(n, Ordering::Relaxed);
            self.counts.lost_ticks.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// A decision; its hash is made here.
    pub fn decision(&self, decision: Decision) {
        if !self.send(Message::Decision(Box::new(sealed(decision)))) {
            self.counts.lost_decisions.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, message: Message) -> bool {
        self.queue.try_send(message).is_ok()
    }

    /// Ticks that wait to be written.
    pub fn waiting(&self) -> u64 {
        self.counts.waiting.load(Ordering::Relaxed)
    }

    /// What was dropped so far.
    pub fn losses(&self) -> Losses {
        Losses {
            ticks: self.counts.lost_ticks.load(Ordering::Relaxed),
            decisions: self.counts.lost_decisions.load(Ordering::Relaxed),
        }
    }
}

/// A decision with the hash over all of it.
pub fn sealed(decision: Decision) -> Decision {
    let bare = Decision {
        hash: 0,
        ..decision
    };
    let hash = hash_bytes(&encode_decision(&bare));
    Decision { hash, ..bare }
}

/// A run's log of ticks and decisions, while it is written. Dropping it, by a panic as well, writes
/// what is queued.
pub struct TickLog {
    sender: TickLogSender,
    thread: Option<JoinHandle<()>>,
}

impl TickLog {
    /// Starts the log in the folder `dir`, which is there.
    pub fn create(dir: &Path, about: &About) -> Result<Self, TickLogError> {
        let schema = schema::bytes();
        let path = dir.join(TICKS_FILE);
        let writer = ChannelWriter::create(&path, metadata(about), &channels(&schema))?;
        Self::over(writer, about)
    }

    fn over<W>(mut writer: ChannelWriter<W>, about: &About) -> Result<Self, TickLogError>
    where
        W: Write + Seek + Send + 'static,
    {
        writer.append(BEGAN, 0, 0, &about.began.encode())?;
        writer.flush()?;
        let (queue, messages) = sync_channel(QUEUE_MESSAGES);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("tick-log".to_owned())
            .spawn(move || write(writer, &messages, &shared))
            .map_err(TickLogError::Thread)?;
        Ok(Self {
            sender: TickLogSender { queue, counts },
            thread: Some(thread),
        })
    }

    /// The way into it.
    pub fn sender(&self) -> TickLogSender {
        self.sender.clone()
    }

    /// What was dropped so far.
    pub fn losses(&self) -> Losses {
        self.sender.losses()
    }

    /// Writes what is queued and ends the file; what comes later is dropped and counted. Gives what
    /// was dropped in the whole run.
    pub fn finish(mut self) -> Losses {
        self.end();
        self.losses()
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // Waits for a place in the queue; if the thread is gone, its end is no news.
        let _ = self.sender.queue.send(Message::End);
        if thread.join().is_err() {
            tracing::error!(
                "the tick log's thread ended by a panic; what it had flushed is on disk"
            );
        }
    }
}

impl Drop for TickLog {
    fn drop(&mut self) {
        self.end();
    }
}

fn channels(schema: &[u8]) -> Vec<Channel<'_>> {
    let channels = TOPICS.into_iter().zip(schema::NAMES);
    channels
        .map(|(topic, message)| Channel {
            topic,
            message,
            schema,
            metadata: BTreeMap::new(),
        })
        .collect()
}

fn metadata(about: &About) -> BTreeMap<String, String> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    [
        ("hilt_version".to_owned(), version),
        ("rig".to_owned(), about.rig.clone()),
    ]
    .into()
}

/// The log's thread.
fn write<W: Write + Seek>(writer: ChannelWriter<W>, messages: &Receiver<Message>, counts: &Counts) {
    let mut writer = Some(writer);
    loop {
        let (group, ended) = gather(messages);
        for message in &group {
            if let Message::Ticks(records) = message {
                let n = records.len() as u64;
                counts.waiting.fetch_sub(n, Ordering::Relaxed);
            }
        }
        let result = match &mut writer {
            Some(writer) => append(writer, &group),
            None => Ok(false),
        };
        match result {
            Ok(true) => {}
            Ok(false) => group.iter().for_each(|message| counts.lose(message)),
            Err(error) => {
                group.iter().for_each(|message| counts.lose(message));
                tracing::error!("{error}; the run goes on without its log of ticks");
                writer = None;
            }
        }
        if ended {
            break;
        }
    }
    if let Some(Err(error)) = writer.map(ChannelWriter::finish) {
        tracing::error!("{error}; the log of ticks has no index");
    }
}

/// What comes within [`GATHER`] of its first, as far as it is not too much, and whether that was all.
fn gather(messages: &Receiver<Message>) -> (Vec<Message>, bool) {
    let mut group = Vec::new();
    let Ok(first) = messages.recv() else {
        return (group, true);
    };
    let until = Instant::now() + GATHER;
    let mut next = Ok(first);
    loop {
        match next {
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return (group, true),
            Err(RecvTimeoutError::Timeout) => return (group, false),
            Ok(message) => group.push(message),
        }
        if group.len() == GATHER_MESSAGES {
            return (group, false);
        }
        next = messages.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Writes a group and hands it to the system.
fn append<W: Write + Seek>(
    writer: &mut ChannelWriter<W>,
    group: &[Message],
) -> Result<bool, WriteError> {
    for message in group {
        match message {
            Message::Ticks(records) => {
                for record in records {
                    let time_ns = record.inputs.now_ns;
                    writer.append(TICKS, record.number, time_ns, &encode_tick(record))?;
                }
            }
            Message::Decision(decision) => {
                let sequence = decision.command.map_or(0, |command| command.sequence);
                let bytes = encode_decision(decision);
                writer.append(DECISIONS, sequence, decision.now_ns, &bytes)?;
            }
            Message::End => {}
        }
    }
    writer.flush()?;
    Ok(true)
}
