//! The thread of the robot's end: everything that may wait for the network or the disk.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use hilt_protocol::{Entry, GraphName, RunId, keys, wire};
use zenoh::{Session, Wait, bytes::ZBytes, pubsub::Publisher, query::Reply, sample::Sample};

use crate::{EntrySource, Header, Position, SendWindow, inbound::Shared, source::weight};

/// A message that holds so much takes no further entry.
const MESSAGE_BYTES: usize = 256 << 10;
/// How long the learner has for saying where it stands, and how often a failing log is tried.
const RETRY: Duration = Duration::from_millis(250);

/// The link's thread.
pub(crate) struct Worker {
    pub(crate) window: SendWindow,
    pub(crate) run: RunId,
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Session,
    pub(crate) publisher: Publisher<'static>,
    pub(crate) source: Box<dyn EntrySource + Send>,
    /// From the log, to be sent next.
    pub(crate) read_back: VecDeque<Entry>,
    pub(crate) source_blocked_until: Option<Instant>,
    /// Number of the last question for a position.
    pub(crate) question: u64,
    pub(crate) asked_at: Option<Instant>,
    pub(crate) started: Instant,
}

impl Worker {
    pub(crate) fn run(mut self) {
        loop {
            let (closing, alive) = self.take_events();
            if closing {
                return;
            }
            self.window.check_silence(self.now_ns());
            if self.window.needs_position() {
                let waiting = self.asked_at.is_some_and(|at| at.elapsed() < RETRY);
                if alive && !waiting {
                    self.ask();
                }
            } else if self.send() {
                self.publish_stats();
                continue;
            }
            self.publish_stats();
            self.shared.inbox.sleep(self.nap(alive));
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long there is nothing to do unless something happens.
    fn nap(&self, alive: bool) -> Duration {
        let now = Instant::now();
        let ask = (alive && self.window.needs_position())
            .then(|| RETRY.saturating_sub(self.asked_at.map_or(RETRY, |at| at.elapsed())));
        let silence = self
            .window
            .silent_at()
            .map(|at| Duration::from_nanos(at.saturating_sub(self.now_ns())));
        let source = self
            .source_blocked_until
            .map(|at| at.saturating_duration_since(now));
        let soonest = [ask, silence, source].into_iter().flatten().min();
        soonest
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(1))
    }

    fn take_events(&mut self) -> (bool, bool) {
        let now_ns = self.now_ns();
        let shared = self.shared.clone();
        let mut inbox = shared.inbox.lock();
        if let Some(logged) = inbox.logged {
            self.window.logged_up_to(logged);
        }
        let alive = !inbox.learners.is_empty();
        if std::mem::take(&mut inbox.learners_changed) {
            self.window.lost();
            self.asked_at = None;
            if alive {
                self.ask_newest();
            }
        }
        if let Some((question, position)) = inbox.position.take()
            && question == self.question
            && self.window.needs_position()
        {
            self.window.align(position, now_ns);
            self.asked_at = None;
            shared.stats().aligned += 1;
        }
        if let Some(sequence) = inbox.acked.take() {
            self.window.ack(sequence, now_ns);
        }
        (inbox.closing, alive)
    }

    /// Asks the learner where it stands with the run.
    fn ask(&mut self) {
        self.question += 1;
        self.asked_at = Some(Instant::now());
        let (shared, question) = (self.shared.clone(), self.question);
        let selector = format!("{}?run={}", keys::acks(&self.name), self.run);
        self.get(selector, move |sample| {
            match Position::from_bytes(&sample.payload().to_bytes()) {
                Some(position) => {
                    shared.inbox.lock().position = Some((question, position));
                    shared.inbox.notify();
                }
                None => shared.malformed(sample.key_expr(), "not a position of 16 bytes"),
            }
        });
    }

    /// Asks for what was published before this learner was met.
    fn ask_newest(&self) {
        for graph in GraphName::ALL {
            let shared = self.shared.clone();
            self.get(keys::snapshots(&self.name, graph), move |sample| {
                shared.snapshot(sample, true);
            });
        }
        let shared = self.shared.clone();
        self.get(keys::progress(&self.name), move |sample| {
            shared.progress(sample, true);
        });
    }

    fn get(&self, selector: String, answer: impl Fn(&Sample) + Send + Sync + 'static) {
        let asked = self
            .session
            .get(&selector)
            .callback(move |reply: Reply| {
                if let Ok(sample) = reply.result() {
                    answer(sample);
                }
            })
            .wait();
        if let Err(e) = asked {
            self.failed(&selector, e);
        }
    }

    fn failed(&self, what: &str, reason: impl std::fmt::Display) {
        let words = format!("{what}: {reason}");
        tracing::warn!("link: {words}");
        self.shared.stats().last_error = Some(words);
    }

    /// Sends one message if there is room and something to send; whether it did.
    fn send(&mut self) -> bool {
        let Some(room) = self.window.room() else {
            return false;
        };
        let most = room.bytes.min(MESSAGE_BYTES);
        let mut payload = ZBytes::writer();
        let (mut entries, mut bytes) = (0, 0);
        while entries < room.entries && bytes < most {
            let Some(entry) = self.next_entry(most, entries == 0) else {
                break;
            };
            let body = wire::encode_entry(&entry);
            let Ok(length) = u32::try_from(body.len()) else {
                self.failed("entry", "more than 4 GiB cannot be sent");
                break;
            };
            let header = Header {
                run: entry.run,
                sequence: entry.sequence,
                length,
            };
            let size = header.to_bytes().len() + body.len();
            payload.append(ZBytes::from(header.to_bytes().to_vec()));
            payload.append(ZBytes::from(body));
            self.window.sent(size, self.now_ns());
            bytes += size;
            entries += 1;
        }
        if entries == 0 {
            return false;
        }
        if let Err(e) = self.publisher.put(payload.finish()).wait() {
            self.failed("entries", e);
            self.window.lost();
        }
        let mut stats = self.shared.stats();
        stats.sent += entries as u64;
        stats.messages += 1;
        stats.bytes += bytes as u64;
        true
    }

    /// The window's next entry: from memory, or else (if `may_read`) from the log.
    fn next_entry(&mut self, max_bytes: usize, may_read: bool) -> Option<Entry> {
        let next = self.window.next();
        if self.read_back.front().is_some_and(|e| e.sequence != next) {
            self.read_back.clear();
        }
        if let Some(entry) = self.read_back.pop_front() {
            return Some(entry);
        }
        {
            let mut inbox = self.shared.inbox.lock();
            while inbox.entries.front().is_some_and(|e| e.sequence <= next) {
                let entry = inbox.entries.pop_front()?;
                inbox.bytes -= weight(&entry);
                if entry.sequence == next {
                    return Some(entry);
                }
            }
        }
        let blocked = self
            .source_blocked_until
            .is_some_and(|at| Instant::now() < at);
        if !may_read || blocked {
            return None;
        }
        self.source_blocked_until = None;
        match self.source.read_from(next..self.window.logged(), max_bytes) {
            Ok(entries) => {
                let right = |(i, e): (usize, &Entry)| {
                    e.run == self.run && e.sequence == next.wrapping_add(i as u64)
                };
                if entries.iter().enumerate().all(right) {
                    self.shared.stats().read_back += entries.len() as u64;
                    self.read_back = entries.into();
                } else {
                    self.failed("run log", "entries of another run, or with holes");
                }
            }
            Err(e) => self.failed("run log", e),
        }
        let entry = self.read_back.pop_front();
        if entry.is_none() {
            self.source_blocked_until = Some(Instant::now() + RETRY);
        }
        entry
    }

    fn publish_stats(&self) {
        let mut stats = self.shared.stats();
        stats.logged = self.window.logged();
        stats.acked = self.window.acked();
        stats.in_flight = self.window.in_flight();
    }
}
