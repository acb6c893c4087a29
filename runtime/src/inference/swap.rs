//! Two heads of one graph: one acts, one is being loaded.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use hilt_protocol::{Graph, ModelSnapshot, wire};

use super::{
    engine::{Engine, EngineError},
    head::{Head, SnapshotRefused},
    kept::Kept,
};

/// What became of a snapshot.
pub type LoadReport = Result<u64, SnapshotRefused>;

/// Where a graph's snapshots come from: waits up to the given time for the next one. Called by the
/// loader thread.
pub type SnapshotSource = Box<dyn FnMut(Duration) -> Option<ModelSnapshot> + Send>;

/// So often the loader thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// The head that does not act. The loader takes it away, and brings it back with a newer snapshot or
/// as it is; the policy thread exchanges it for its own. Locked for a pointer move only, and never
/// by the control thread.
#[derive(Default)]
struct Spare {
    /// `None` while the loader has it.
    head: Option<Box<Head>>,
    /// It is verified and newer than the one that acts.
    ready: bool,
    /// Version of the one that acts.
    active: u64,
}

/// What loader and policy thread share.
#[derive(Default)]
struct Exchange {
    spare: Mutex<Spare>,
    closing: AtomicBool,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Spare> {
        // A pointer move cannot leave the cell half-changed, so a poisoned lock is as good as any.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policy thread's side.
pub struct Swapper {
    active: Box<Head>,
    exchange: Arc<Exchange>,
    reports: mpsc::Receiver<LoadReport>,
    loader: Option<thread::JoinHandle<()>>,
}

impl Swapper {
    /// Loads the graph; with a source of snapshots once more, for the loader thread that starts
    /// then. It ends with the swapper. What it has verified is kept, if there is a place for it.
    pub fn start(
        engine: &Engine,
        graph: &Graph,
        source: Option<SnapshotSource>,
        kept: Option<Kept>,
    ) -> Result<Self, EngineError> {
        let active = Box::new(Head::load(engine, graph, 1)?);
        let exchange = Arc::new(Exchange::default());
        let (sender, reports) = mpsc::sync_channel(64);
        let loader = match source {
            None => None,
            Some(mut source) => {
                exchange.lock().head = Some(Box::new(Head::load(engine, graph, 1)?));
                let shared = Arc::clone(&exchange);
                let work = move || {
                    while !shared.closing.load(Ordering::Relaxed) {
                        let snapshot = source(LOOK);
                        if let Some(report) = snapshot.and_then(|s| load(&shared, s, kept.as_ref()))
                        {
                            // Reports are for the log; when nobody reads them they are dropped.
                            let _ = sender.try_send(report);
                        }
                    }
                };
                let thread = thread::Builder::new().name(format!("load-{}", graph.name.name()));
                Some(thread.spawn(work).map_err(|e| {
                    EngineError::Library(format!("cannot start the loader thread: {e}"))
                })?)
            }
        };
        Ok(Self {
            active,
            exchange,
            reports,
            loader,
        })
    }

    /// Takes the newest verified head, if there is one. Called between two steps; a pointer move.
    pub fn swap(&mut self) -> bool {
        // If the loader holds the lock at this instant, the next step takes it.
        let Ok(mut spare) = self.exchange.spare.try_lock() else {
            return false;
        };
        let spare = &mut *spare;
        match &mut spare.head {
            Some(head) if spare.ready => {
                std::mem::swap(&mut self.active, head);
                spare.ready = false;
                spare.active = self.active.version();
                true
            }
            _ => false,
        }
    }

    /// The head that acts.
    pub fn head(&mut self) -> &mut Head {
        &mut self.active
    }

    /// The head that acts, to look at.
    pub fn active(&self) -> &Head {
        &self.active
    }

    /// What the loader did since the last call.
    pub fn reports(&self) -> impl Iterator<Item = LoadReport> + '_ {
        self.reports.try_iter()
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.exchange.closing.store(true, Ordering::Relaxed);
        if let Some(loader) = self.loader.take()
            && loader.join().is_err()
        {
            tracing::error!("a loader thread ended by a panic");
        }
    }
}

fn load(exchange: &Exchange, snapshot: ModelSnapshot, kept: Option<&Kept>) -> Option<LoadReport> {
    let (mut head, active) = {
        let mut spare = exchange.lock();
        // It may be ready and not yet taken: what it holds is older than this.
        spare.ready = false;
        (spare.head.take()?, spare.active)
    };
    let (graph, version) = (snapshot.graph, snapshot.version);
    // Before the head takes the weights out of it.
    let bytes = kept.map(|_| wire::encode_snapshot(&snapshot));
    let result = head.bind(snapshot, active);
    if let (Ok(()), Some(kept), Some(bytes)) = (&result, kept, bytes)
        && let Err(error) = kept.keep_snapshot(graph, version, &bytes)
    {
        tracing::warn!("{error}; `hilt verify` cannot run this policy again");
    }
    let mut spare = exchange.lock();
    // Refused before it was touched, the head still holds what was ready before.
    spare.ready = head.version() > active;
    spare.head = Some(head);
    match result {
        // The one in force, told again by a learner that is back, is no news.
        Err(SnapshotRefused::Old { version, active }) if version == active => None,
        result => Some(result.map(|()| version)),
    }
}
