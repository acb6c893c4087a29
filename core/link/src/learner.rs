//! The learner's end: [`LearnerLink`] and its thread.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use hilt_protocol::{Entry, Graph, GraphName, ModelSnapshot, Progress, RunId, keys, wire};
use zenoh::{
    Session, Wait,
    bytes::ZBytes,
    liveliness::LivelinessToken,
    qos::{CongestionControl, Priority},
    query::Query,
};

use crate::{
    Arrival, HEADER_BYTES, LinkError, Receiver,
    mailbox::Mailbox,
    session::{self, End},
    split_first,
};

/// What a [`LearnerLink`] has to know.
#[derive(Clone, Debug)]
pub struct LearnerConfig {
    /// Name that actor and learner share; `default` if nobody minds.
    pub session: String,
    /// Where to listen, for example `tcp/0.0.0.0:7447`.
    pub listen: Vec<String>,
    /// Bytes that may wait for [`LearnerLink::recv`]. With at least the actor's window and one
    /// message more, nothing is ever refused (and sent again later).
    pub queue_bytes: usize,
    /// From the learner's store: for each run, the first sequence that is not on disk.
    pub resume: BTreeMap<RunId, u64>,
}

impl LearnerConfig {
    /// Twice the actor's default window.
    pub const QUEUE_BYTES: usize = 64 << 20;
}

/// Counters of a [`LearnerLink`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnerStats {
    /// Entries handed out.
    pub received: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Entries that were here before.
    pub duplicates: u64,
    /// Entries with one missing before them; they come again.
    pub gaps: u64,
    /// Entries for which the queue had no room; they come again.
    pub refused: u64,
    /// Messages and entries that were not understood.
    pub malformed: u64,
    /// Entries given up, because they came malformed several times. The transition across such a
    /// hole cannot be sampled.
    pub given_up: u64,
    /// Entries that wait for [`LearnerLink::recv`].
    pub waiting: usize,
    /// The last thing that went wrong, in words.
    pub last_error: Option<String>,
}

/// So often a malformed entry is asked for again.
const TRIES: u32 = 3;

/// An entry that was not decoded yet: a part of a message.
struct Waiting {
    run: RunId,
    sequence: u64,
    message: Arc<Vec<u8>>,
    part: Range<usize>,
}

#[derive(Default)]
struct State {
    receiver: Receiver,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// The entry that was malformed last, and how often.
    bad: Option<(RunId, u64, u32)>,
    stats: LearnerStats,
    // From here on: work of the link's thread.
    acks: BTreeSet<RunId>,
    /// Keys in `newest` to be published.
    to_publish: BTreeSet<String>,
    /// Latest message by key, for late joiners as well.
    newest: BTreeMap<String, ZBytes>,
    questions: VecDeque<Query>,
    closing: bool,
}

impl State {
    fn malformed(&mut self, reason: String) {
        tracing::warn!("link: {reason}");
        self.stats.malformed += 1;
        self.stats.last_error = Some(reason);
    }

    fn arrived(&mut self, message: Vec<u8>, limit: usize) {
        self.stats.bytes += message.len() as u64;
        let message = Arc::new(message);
        let mut rest = &message[..];
        while !rest.is_empty() {
            let at = message.len() - rest.len() + HEADER_BYTES;
            let Some((header, entry, after)) = split_first(rest) else {
                let left = rest.len();
                self.malformed(format!("entries: message ends within an entry ({left} B)"));
                return;
            };
            rest = after;
            let (run, sequence) = (header.run, header.sequence);
            match self.receiver.judge(run, sequence) {
                Arrival::Duplicate => {
                    self.stats.duplicates += 1;
                    // The acknowledgement may have been lost.
                    self.acks.insert(run);
                }
                Arrival::GapAhead { .. } => self.stats.gaps += 1,
                Arrival::New
                    if !self.queue.is_empty() && self.queue_bytes + entry.len() > limit =>
                {
                    self.stats.refused += 1;
                }
                Arrival::New => {
                    self.receiver.accept(run, sequence);
                    self.queue_bytes += entry.len();
                    self.queue.push_back(Waiting {
                        run,
                        sequence,
                        message: message.clone(),
                        part: at..at + entry.len(),
                    });
                }
            }
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.queue_bytes -= waiting.part.len();
        Some(waiting)
    }

    /// The entry was not understood: it, and all of its run behind it, are wanted again; but not
    /// for ever.
    fn reject(&mut self, run: RunId, sequence: u64, reason: String) {
        let tries = match self.bad {
            Some((r, s, tries)) if (r, s) == (run, sequence) => tries + 1,
            _ => 1,
        };
        self.bad = Some((run, sequence, tries));
        if tries >= TRIES {
            self.stats.given_up += 1;
            self.malformed(format!("{reason}; given up after {tries} tries"));
            return;
        }
        self.malformed(reason);
        self.queue.retain(|waiting| waiting.run != run);
        self.queue_bytes = self.queue.iter().map(|waiting| waiting.part.len()).sum();
        self.receiver.take_back(run, sequence);
    }
}

/// The learner's end of the wire.
pub struct LearnerLink {
    state: Arc<Mailbox<State>>,
    session: Session,
    name: String,
    thread: Option<JoinHandle<()>>,
    _token: LivelinessToken,
}

impl LearnerLink {
    /// Whether [`Self::open`] can listen there: worth asking before anything that takes long.
    pub fn check(name: &str, listen: &[String]) -> Result<(), LinkError> {
        let session = session::open(End::Learner, name, listen)?;
        let key = keys::learner_alive(name);
        session.close().wait().map_err(LinkError::zenoh(&key))
    }

    /// Listens, and shows itself to actors.
    pub fn open(config: LearnerConfig) -> Result<Self, LinkError> {
        let session = session::open(End::Learner, &config.session, &config.listen)?;
        let state = Arc::new(Mailbox::new(State {
            receiver: Receiver::restore(&config.resume),
            ..State::default()
        }));
        let name = config.session.as_str();
        let limit = config.queue_bytes;

        let key = keys::entries(name);
        let at = state.clone();
        session
            .declare_subscriber(&key)
            .callback(move |sample| {
                let message = sample.payload().to_bytes().into_owned();
                at.lock().arrived(message, limit);
                at.notify();
            })
            .background()
            .wait()
            .map_err(LinkError::zenoh(&key))?;

        let mut asked = vec![keys::acks(name), keys::progress(name)];
        for graph in GraphName::ALL {
            asked.extend([keys::snapshots(name, graph), keys::graph(name, graph)]);
        }
        for key in asked {
            let at = state.clone();
            session
                .declare_queryable(&key)
                .callback(move |query| {
                    // Answered by the link's thread: a large answer must not hold up what arrives.
                    at.lock().questions.push_back(query);
                    at.notify();
                })
                .background()
                .wait()
                .map_err(LinkError::zenoh(&key))?;
        }

        let worker = (state.clone(), session.clone(), keys::acks(name));
        let thread = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || work(&worker.0, &worker.1, &worker.2))?;

        // Last: an actor that sees it finds everything else in place. The name is its own, so that
        // a restarted learner is told from the one before.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let instance = since_epoch.map_or(0, |t| t.as_nanos());
        let key = format!("{}/{instance:x}", keys::learner_alive(name));
        let token = session
            .liveliness()
            .declare_token(&key)
            .wait()
            .map_err(LinkError::zenoh(&key))?;
        Ok(Self {
            state,
            session,
            name: config.session,
            thread: Some(thread),
            _token: token,
        })
    }

    /// The next entry; waits for one up to `timeout`. Each comes once, in the order of its run,
    /// unless it was not acknowledged before a restart.
    pub fn recv(&self, timeout: Duration) -> Option<Entry> {
        let end = std::time::Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let waiting = self.state.wait(left, State::pop)?;
            let (run, sequence) = (waiting.run, waiting.sequence);
            // Decoded here and not on arrival, so that zenoh's thread goes on receiving.
            let reason = match wire::decode_entry(&waiting.message[waiting.part]) {
                Ok(entry) if (entry.run, entry.sequence) == (run, sequence) => {
                    self.state.lock().stats.received += 1;
                    return Some(entry);
                }
                Ok(_) => "the frame says another run or sequence".to_owned(),
                Err(e) => e.to_string(),
            };
            let reason = format!("entry {sequence} of run {run}: {reason}");
            self.state.lock().reject(run, sequence, reason);
        }
    }

    /// Everything of `run` up to and including `sequence` is durably on disk. `false` if so much
    /// was never received.
    pub fn ack(&self, run: RunId, sequence: u64) -> bool {
        let mut state = self.state.lock();
        let known = state.receiver.durable(run, sequence);
        if known {
            state.acks.insert(run);
        }
        drop(state);
        self.state.notify();
        known
    }

    /// Sends a snapshot to the actors; those that come later get the newest.
    pub fn publish_snapshot(&self, snapshot: &ModelSnapshot) {
        let key = keys::snapshots(&self.name, snapshot.graph);
        self.publish(key, wire::encode_snapshot(snapshot), true);
    }

    /// Sends the progress to the actors; those that come later get the newest.
    pub fn publish_progress(&self, progress: Progress) {
        let key = keys::progress(&self.name);
        self.publish(key, wire::encode_progress(&progress), true);
    }

    /// Serves a graph to the actors that ask for it, instead of an earlier one of that name.
    pub fn serve_graph(&self, graph: &Graph) {
        let key = keys::graph(&self.name, graph.name);
        self.publish(key, wire::encode_graph(graph), false);
    }

    fn publish(&self, key: String, message: Vec<u8>, unasked: bool) {
        let mut state = self.state.lock();
        if unasked {
            state.to_publish.insert(key.clone());
        }
        state.newest.insert(key, ZBytes::from(message));
        drop(state);
        self.state.notify();
    }

    /// Counters so far.
    pub fn stats(&self) -> LearnerStats {
        let state = self.state.lock();
        LearnerStats {
            waiting: state.queue.len(),
            ..state.stats.clone()
        }
    }
}

impl Drop for LearnerLink {
    fn drop(&mut self) {
        self.state.lock().closing = true;
        self.state.notify();
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

/// What is to go out.
struct Outgoing {
    messages: Vec<(String, ZBytes, Priority)>,
    answers: Vec<(Query, Option<ZBytes>)>,
    closing: bool,
}

/// The link's thread: everything that may wait for the network.
fn work(state: &Mailbox<State>, session: &Session, acks_key: &str) {
    loop {
        let out = take_work(&mut state.lock(), acks_key);
        let idle = out.messages.is_empty() && out.answers.is_empty();
        for (key, message, priority) in out.messages {
            let put = session
                .put(&key, message)
                .congestion_control(CongestionControl::Block)
                .priority(priority)
                .express(priority != Priority::Data)
                .wait();
            note(state, &key, put);
        }
        for (query, answer) in out.answers {
            // Without an answer the query just ends.
            if let Some(answer) = answer {
                let key = query.key_expr().clone();
                note(state, key.as_str(), query.reply(key.clone(), answer).wait());
            }
        }
        if out.closing {
            return;
        }
        if idle {
            state.sleep(Duration::from_secs(1));
        }
    }
}

fn note(state: &Mailbox<State>, key: &str, result: zenoh::Result<()>) {
    if let Err(e) = result {
        tracing::warn!("link: {key}: {e}");
        state.lock().stats.last_error = Some(format!("{key}: {e}"));
    }
}

fn take_work(state: &mut State, acks_key: &str) -> Outgoing {
    let mut messages = Vec::new();
    for run in std::mem::take(&mut state.acks) {
        if let Some(ack) = state.receiver.ack(run) {
            let message = ZBytes::from(wire::encode_ack(&ack));
            messages.push((acks_key.to_owned(), message, Priority::InteractiveHigh));
        }
    }
    for key in std::mem::take(&mut state.to_publish) {
        if let Some(message) = state.newest.get(&key) {
            messages.push((key, message.clone(), Priority::Data));
        }
    }
    let answers = std::mem::take(&mut state.questions)
        .into_iter()
        .map(|query| {
            let key = query.key_expr().as_str();
            let answer = if key == acks_key {
                let run = query.parameters().get("run").unwrap_or("");
                let run = run.parse::<RunId>().ok();
                run.map(|run| ZBytes::from(state.receiver.position(run).to_bytes().to_vec()))
            } else {
                state.newest.get(key).cloned()
            };
            (query, answer)
        })
        .collect();
    Outgoing {
        messages,
        answers,
        closing: state.closing,
    }
}
