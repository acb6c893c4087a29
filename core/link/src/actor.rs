//! The robot's end: [`ActorLink`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hilt_protocol::{Entry, Graph, GraphName, ModelSnapshot, Progress, RunId, keys, wire};
use zenoh::{Session, Wait, qos::CongestionControl, sample::Sample};

use crate::{
    EntrySource, LinkError, SendWindow, WindowLimits,
    inbound::{Incoming, Shared, place},
    mailbox::Mailbox,
    session::{self, End},
    source::weight,
    worker::Worker,
};

/// What an [`ActorLink`] has to know.
#[derive(Clone, Debug)]
pub struct ActorConfig {
    /// Name that actor and learner share; `default` if nobody minds.
    pub session: String,
    /// Where the learner listens, for example `tcp/192.168.1.20:7447`.
    pub connect: Vec<String>,
    /// The run whose log is streamed.
    pub run: RunId,
    /// How much may be on its way.
    pub window: WindowLimits,
}

/// Whether the learner is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// It is.
    pub alive: bool,
    /// Since when it is, or is not.
    pub since: Instant,
}

/// Counters of an [`ActorLink`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActorStats {
    /// Entries in the log.
    pub logged: u64,
    /// Entries that the learner has durably.
    pub acked: u64,
    /// Entries on their way.
    pub in_flight: usize,
    /// Entries sent, repetitions counted again.
    pub sent: u64,
    /// Zenoh messages that carried them.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were read back from the log.
    pub read_back: u64,
    /// How often the learner said where it stands: once per connection, then only after silence.
    pub aligned: u64,
    /// Messages from the learner that were not understood.
    pub malformed: u64,
    /// The last thing that went wrong, in words.
    pub last_error: Option<String>,
}

/// Entries kept in memory for the link's thread; further ones are read back from the log.
const MEMORY_ENTRIES: usize = 256;
/// The same in bytes.
const MEMORY_BYTES: usize = 32 << 20;
/// The robot's end of the wire. No call waits for the learner but those that take a timeout.
pub struct ActorLink {
    shared: Arc<Shared>,
    session: Session,
    name: String,
    thread: Option<JoinHandle<()>>,
}

impl ActorLink {
    /// Opens the link and starts its thread. Succeeds whether or not the learner is there.
    ///
    /// `source` is the log of `config.run`; it is used on the link's thread only.
    pub fn open(
        config: ActorConfig,
        source: Box<dyn EntrySource + Send>,
    ) -> Result<Self, LinkError> {
        let session = session::open(End::Actor, &config.session, &config.connect)?;
        let shared = Arc::new(Shared {
            inbox: Mailbox::default(),
            incoming: Mailbox::new(Incoming {
                presence: Presence {
                    alive: false,
                    since: Instant::now(),
                },
                learner: None,
                progress: None,
                progress_outdated: false,
                snapshots: Default::default(),
            }),
            stats: Mutex::default(),
        });
        let name = config.session.as_str();
        let run = config.run;
        subscribe(
            &session,
            &keys::acks(name),
            &shared,
            move |shared, sample| {
                shared.ack(run, sample);
            },
        )?;
        subscribe(
            &session,
            &keys::progress(name),
            &shared,
            |shared, sample| {
                shared.progress(sample, false);
            },
        )?;
        for graph in GraphName::ALL {
            let key = keys::snapshots(name, graph);
            subscribe(&session, &key, &shared, |shared, sample| {
                shared.snapshot(sample, false);
            })?;
        }
        let key = keys::entries(name);
        let publisher = session
            .declare_publisher(key.clone())
            .congestion_control(CongestionControl::Block)
            .wait()
            .map_err(LinkError::zenoh(&key))?;
        // Last, because a learner that is there already is reported at once.
        let key = format!("{}/*", keys::learner_alive(name));
        let at = shared.clone();
        session
            .liveliness()
            .declare_subscriber(&key)
            .history(true)
            .callback(move |sample| at.token(&sample))
            .background()
            .wait()
            .map_err(LinkError::zenoh(&key))?;
        let worker = Worker {
            window: SendWindow::new(config.window),
            run,
            name: config.session.clone(),
            shared: shared.clone(),
            session: session.clone(),
            publisher,
            source,
            read_back: VecDeque::new(),
            source_blocked_until: None,
            question: 0,
            asked_at: None,
            started: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            session,
            name: config.session,
            thread: Some(thread),
        })
    }

    /// `entry` is in the log, where it can be read back from; to be called in the order of the log.
    /// Never waits.
    pub fn notify(&self, entry: Entry) {
        let mut inbox = self.shared.inbox.lock();
        inbox.logged = Some(entry.sequence);
        let size = weight(&entry);
        let follows = inbox
            .entries
            .back()
            .is_none_or(|last| last.sequence + 1 == entry.sequence);
        // What does not fit is in the log.
        if follows && inbox.entries.len() < MEMORY_ENTRIES && inbox.bytes + size <= MEMORY_BYTES {
            inbox.bytes += size;
            inbox.entries.push_back(entry);
        }
        drop(inbox);
        self.shared.inbox.notify();
    }

    /// The newest snapshot of `graph` that was not handed out yet; waits for one up to `timeout`.
    pub fn next_snapshot(&self, graph: GraphName, timeout: Duration) -> Option<ModelSnapshot> {
        self.shared.incoming.wait(timeout, |incoming| {
            incoming.snapshots[place(graph)].1.take()
        })
    }

    /// The learner's last word on its progress.
    pub fn progress(&self) -> Option<Progress> {
        self.shared.incoming.lock().progress
    }

    /// Waits up to `timeout` for progress that `wanted` says yes to, and returns the last known.
    pub fn wait_progress(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&Progress) -> bool,
    ) -> Option<Progress> {
        self.shared
            .incoming
            .wait(timeout, |incoming| incoming.progress.filter(&mut wanted))
            .or_else(|| self.progress())
    }

    /// Whether the learner is there, and since when it is or is not.
    pub fn learner(&self) -> Presence {
        self.shared.incoming.lock().presence
    }

    /// Fetches a graph from the learner, asking again until it serves one or `timeout` is over.
    pub fn fetch_graph(&self, graph: GraphName, timeout: Duration) -> Result<Graph, LinkError> {
        let key = keys::graph(&self.name, graph);
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let replies = self
                .session
                .get(&key)
                .timeout(left.max(Duration::from_millis(1)))
                .wait()
                .map_err(LinkError::zenoh(&key))?;
            for reply in replies {
                let Ok(sample) = reply.result() else { continue };
                return match wire::decode_graph(&sample.payload().to_bytes()) {
                    Ok(graph) => Ok(graph),
                    Err(reason) => Err(LinkError::Malformed { key, reason }),
                };
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let waited_s = timeout.as_secs_f64();
                return Err(LinkError::NoAnswer { key, waited_s });
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Waits until the learner has acknowledged everything, for as long as it acknowledges
    /// something every `patience`; whether it has all.
    pub fn drain(&self, patience: Duration) -> bool {
        let logged = self.shared.inbox.lock().logged.map_or(0, |last| last + 1);
        let (mut acked, mut since) = (0, Instant::now());
        loop {
            let now = self.shared.stats().acked;
            if now >= logged {
                return true;
            }
            if now != acked {
                (acked, since) = (now, Instant::now());
            }
            if since.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> ActorStats {
        self.shared.stats().clone()
    }
}

impl Drop for ActorLink {
    fn drop(&mut self) {
        self.shared.inbox.lock().closing = true;
        self.shared.inbox.notify();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the link's thread ended by a panic");
        }
        if let Err(e) = self.session.close().wait() {
            tracing::debug!("closing zenoh: {e}");
        }
    }
}

fn subscribe(
    session: &Session,
    key: &str,
    shared: &Arc<Shared>,
    callback: impl Fn(&Shared, &Sample) + Send + Sync + 'static,
) -> Result<(), LinkError> {
    let shared = shared.clone();
    session
        .declare_subscriber(key)
        .callback(move |sample| callback(&shared, &sample))
        .background()
        .wait()
        .map_err(LinkError::zenoh(key))
}
