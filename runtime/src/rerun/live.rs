//! A run that goes on, shown as it happens.
//!
//! Entries go through a bounded queue to a thread of their own. Whoever fills the queue never waits: what finds it
//! full is not shown, and counted. The run's log knows nothing of it.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    time::Duration,
};

use hilt_protocol::{Entry, Record, RigSpec, RunId};
use hilt_sim::Truth;

use super::{
    RerunError, Screen, Target,
    scenes::{self, Scenes},
};
use crate::{
    run_log::{Journal, JournalError},
    tick::Stage,
};

/// The queue holds at most so many messages …
const QUEUE_MESSAGES: usize = 256;
/// … and about so many bytes of images.
const QUEUE_BYTES: usize = 64 << 20;
/// How long the end of a run waits for what is still to be shown.
const PATIENCE: Duration = Duration::from_secs(10);

enum Message {
    Entry(Box<Entry>),
    Took(u64, Stage, u64),
}

/// The way to the screen, of one run. Dropping it ends it.
pub struct Live {
    queue: Option<SyncSender<Message>>,
    /// Hears of the thread's end.
    done: Receiver<()>,
    sent: Cell<u64>,
    shown: Arc<AtomicU64>,
    run: RunId,
    /// Entries, episodes and the newest entry's place in its episode, counted as the run's log does.
    entries: Cell<u64>,
    episodes: Cell<u64>,
    index: Cell<u32>,
}

impl Live {
    /// Opens `target` for a run. A viewer that is not there is no error: `say` hears of it, and the run goes on
    /// without.
    pub fn begin(
        target: &Target,
        spec: &RigSpec,
        run: RunId,
        say: &mut dyn FnMut(&str),
    ) -> Result<Option<Self>, RerunError> {
        match super::open(target) {
            Ok(screen) => Self::on(screen, spec, run).map(Some),
            Err(error @ RerunError::NoViewer { .. }) => {
                say(&format!("{error}. The run goes on without"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// On a screen.
    pub fn on(
        screen: Box<dyn Screen + Send>,
        spec: &RigSpec,
        run: RunId,
    ) -> Result<Self, RerunError> {
        let frames = spec.cameras.iter();
        let entry_bytes: usize = frames.map(|c| (c.height * c.width * 3) as usize).sum();
        let bound = (QUEUE_BYTES / entry_bytes.max(1)).clamp(1, QUEUE_MESSAGES);
        let (queue, messages) = sync_channel(bound);
        let (ended, done) = channel();
        let scenes = Scenes::new(spec);
        let shown = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&shown);
        std::thread::Builder::new()
            .name("rerun".to_owned())
            .spawn(move || {
                if let Err(error) = show(screen, scenes, run, &messages, &count) {
                    tracing::warn!("{error}. Nothing more is shown; the run goes on");
                }
                // Whoever began it may have lost patience.
                let _ = ended.send(());
            })
            .map_err(RerunError::Thread)?;
        Ok(Self {
            queue: Some(queue),
            done,
            sent: Cell::new(0),
            shown,
            run,
            entries: Cell::new(0),
            episodes: Cell::new(0),
            index: Cell::new(0),
        })
    }

    /// Shows a record.
    pub fn record(&self, record: &Record) {
        let sequence = self.entries.replace(self.entries.get() + 1);
        if matches!(record, Record::Reset(_)) {
            self.episodes.set(self.episodes.get() + 1);
            self.index.set(0);
        } else {
            self.index.set(self.index.get().saturating_add(1));
        }
        self.send(Message::Entry(Box::new(Entry {
            run: self.run,
            sequence,
            episode: self.episodes.get().saturating_sub(1),
            index: self.index.get(),
            record: record.clone(),
        })));
    }

    /// Shows what a stage of the newest step took.
    pub fn took(&self, stage: Stage, duration_ns: u64) {
        let step = self.entries.get().saturating_sub(1);
        self.send(Message::Took(step, stage, duration_ns));
    }

    fn send(&self, message: Message) {
        self.sent.set(self.sent.get() + 1);
        if let Some(queue) = &self.queue {
            // What finds it full is lost.
            let _ = queue.try_send(message);
        }
    }

    /// Waits, not for ever, until everything queued is shown. Says how much was not, if anything.
    pub fn end(mut self) -> Option<String> {
        self.close();
        let (lost, sent) = (self.lost(), self.sent.get());
        (lost > 0).then(|| {
            format!(
                "Rerun was shown only {} of {sent} messages; the run's log has everything",
                sent - lost
            )
        })
    }

    /// Entries and stages' times that are not shown: they found the queue full, are in it still, or the screen has
    /// failed.
    pub fn lost(&self) -> u64 {
        let shown = self.shown.load(Ordering::Relaxed);
        self.sent.get().saturating_sub(shown)
    }

    fn close(&mut self) {
        if self.queue.take().is_some()
            && self.done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!(
                "Rerun has not taken the end of the run within {} s; it is not waited for",
                PATIENCE.as_secs()
            );
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

fn show(
    mut screen: Box<dyn Screen + Send>,
    mut scenes: Scenes,
    run: RunId,
    messages: &Receiver<Message>,
    count: &AtomicU64,
) -> Result<(), RerunError> {
    screen.begin(&run.to_string())?;
    for message in messages {
        let shown = match message {
            Message::Entry(entry) => scenes.of_entry(&entry),
            Message::Took(step, stage, ns) => vec![scenes::of_policy_stage(step, stage, ns)],
        };
        for shown in &shown {
            screen.show(shown)?;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    screen.end()
}

/// A journal that shows what passes.
pub struct Watched<'a> {
    /// Takes the records.
    pub journal: &'a mut dyn Journal,
    /// Shows them.
    pub live: Option<&'a Live>,
}

impl Journal for Watched<'_> {
    fn append(&mut self, record: Record, truth: Option<Truth>) -> Result<(), JournalError> {
        if let Some(live) = self.live {
            live.record(&record);
        }
        self.journal.append(record, truth)
    }

    fn took(&mut self, stage: Stage, duration_ns: u64) {
        self.journal.took(stage, duration_ns);
    }
}
