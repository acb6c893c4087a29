//! What reaches the robot's end: from callbacks and callers for the link's thread ([`Inbox`]), and
//! from the learner for the rest of the program ([`Incoming`]).

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hilt_protocol::{Entry, GraphName, ModelSnapshot, Progress, RunId, wire};
use zenoh::sample::{Sample, SampleKind};

use crate::{ActorStats, Position, Presence, mailbox::Mailbox};

/// What callbacks and callers leave for the link's thread.
#[derive(Default)]
pub(crate) struct Inbox {
    /// In order, without holes.
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) bytes: usize,
    pub(crate) logged: Option<u64>,
    pub(crate) acked: Option<u64>,
    /// The answer to the question of this number.
    pub(crate) position: Option<(u64, Position)>,
    /// Tokens of learners, by key.
    pub(crate) learners: BTreeSet<String>,
    /// A learner appeared or went.
    pub(crate) learners_changed: bool,
    pub(crate) closing: bool,
}

pub(crate) struct Incoming {
    pub(crate) presence: Presence,
    /// Key of the token of the learner that was met last.
    pub(crate) learner: Option<String>,
    pub(crate) progress: Option<Progress>,
    /// `progress` is of a learner that was there before the present one.
    pub(crate) progress_outdated: bool,
    /// By `GraphName::ALL`: version seen last, and the snapshot if nobody has taken it.
    pub(crate) snapshots: [(u64, Option<ModelSnapshot>); GraphName::ALL.len()],
}

pub(crate) struct Shared {
    pub(crate) inbox: Mailbox<Inbox>,
    pub(crate) incoming: Mailbox<Incoming>,
    pub(crate) stats: Mutex<ActorStats>,
}

impl Shared {
    pub(crate) fn stats(&self) -> MutexGuard<'_, ActorStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn malformed(&self, key: &str, reason: impl std::fmt::Display) {
        tracing::warn!("link: {key}: {reason}; it is left out");
        let mut stats = self.stats();
        stats.malformed += 1;
        stats.last_error = Some(format!("{key}: {reason}"));
    }

    pub(crate) fn token(&self, sample: &Sample) {
        let key = sample.key_expr().as_str().to_owned();
        let put = sample.kind() == SampleKind::Put;
        let alive = {
            let mut inbox = self.inbox.lock();
            if put {
                inbox.learners.insert(key.clone());
            } else {
                inbox.learners.remove(&key);
            }
            inbox.learners_changed = true;
            !inbox.learners.is_empty()
        };
        self.inbox.notify();
        let mut incoming = self.incoming.lock();
        if incoming.presence.alive != alive {
            let since = Instant::now();
            incoming.presence = Presence { alive, since };
        }
        if put && incoming.learner.as_ref() != Some(&key) {
            // Versions of another learner say nothing about those of this one.
            incoming.learner = Some(key);
            incoming.progress_outdated = true;
            for (version, _) in &mut incoming.snapshots {
                *version = 0;
            }
        }
        drop(incoming);
        self.incoming.notify();
    }

    pub(crate) fn ack(&self, run: RunId, sample: &Sample) {
        match wire::decode_ack(&sample.payload().to_bytes()) {
            Ok(ack) if ack.run == run => {
                let mut inbox = self.inbox.lock();
                inbox.acked = inbox.acked.max(Some(ack.sequence));
                drop(inbox);
                self.inbox.notify();
            }
            Ok(_) => {} // another actor's
            Err(e) => self.malformed(sample.key_expr(), e),
        }
    }

    /// `asked`: the answer to a question, which may be older than what was published meanwhile.
    pub(crate) fn snapshot(&self, sample: &Sample, asked: bool) {
        let snapshot = match wire::decode_snapshot(&sample.payload().to_bytes()) {
            Ok(snapshot) => snapshot,
            Err(e) => return self.malformed(sample.key_expr(), e),
        };
        let mut incoming = self.incoming.lock();
        let (version, slot) = &mut incoming.snapshots[place(snapshot.graph)];
        if asked && snapshot.version <= *version {
            return;
        }
        *version = snapshot.version;
        *slot = Some(snapshot);
        drop(incoming);
        self.incoming.notify();
    }

    pub(crate) fn progress(&self, sample: &Sample, asked: bool) {
        let progress = match wire::decode_progress(&sample.payload().to_bytes()) {
            Ok(progress) => progress,
            Err(e) => return self.malformed(sample.key_expr(), e),
        };
        let mut incoming = self.incoming.lock();
        let older = incoming.progress.is_some_and(|known| {
            known.learner_run == progress.learner_run
                && (progress.updates, progress.entries) < (known.updates, known.entries)
        });
        if asked && older && !incoming.progress_outdated {
            return;
        }
        incoming.progress = Some(progress);
        incoming.progress_outdated = false;
        drop(incoming);
        self.incoming.notify();
    }
}

/// A graph's place in `GraphName::ALL`.
pub(crate) fn place(graph: GraphName) -> usize {
    GraphName::ALL.iter().position(|&g| g == graph).unwrap_or(0)
}
