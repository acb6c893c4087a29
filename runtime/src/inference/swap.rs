//! Two heads of one graph: one acts, one is being loaded.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use hilt_protocol::{Graph, ModelSnapshot};

use super::{
    engine::{Engine, EngineError},
    head::{Head, SnapshotRefused},
};

/// What became of a snapshot.
pub type LoadReport = Result<u64, SnapshotRefused>;

/// The exchange between loader and policy thread. `ready` holds a verified head until the policy
/// thread takes it (newest wins); `idle` holds the one to load the next snapshot into. Each is
/// locked for the time of a pointer move only, and never by the control thread.
#[derive(Default)]
struct Exchange {
    ready: Mutex<Option<Box<Head>>>,
    idle: Mutex<Option<Box<Head>>>,
    active_version: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A pointer move cannot leave the cell half-changed, so a poisoned lock is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where snapshots are handed in; cheap to clone.
#[derive(Clone)]
pub struct SnapshotInbox {
    sender: mpsc::SyncSender<ModelSnapshot>,
}

impl SnapshotInbox {
    /// Hands a snapshot to the loader. `false`: the loader is busy with an older one and this one
    /// was left out; a newer one follows in seconds.
    pub fn offer(&self, snapshot: ModelSnapshot) -> bool {
        self.sender.try_send(snapshot).is_ok()
    }
}

/// The policy thread's side.
pub struct Swapper {
    active: Box<Head>,
    exchange: Arc<Exchange>,
    reports: mpsc::Receiver<LoadReport>,
}

impl Swapper {
    /// Loads the graph twice and starts the loader thread, which ends when the last inbox is gone.
    pub fn start(engine: &Engine, graph: &Graph) -> Result<(Self, SnapshotInbox), EngineError> {
        let active = Box::new(Head::load(engine, graph)?);
        let exchange = Arc::new(Exchange::default());
        *lock(&exchange.idle) = Some(Box::new(Head::load(engine, graph)?));
        let (sender, snapshots) = mpsc::sync_channel::<ModelSnapshot>(2);
        let (report_sender, reports) = mpsc::sync_channel(64);
        let shared = Arc::clone(&exchange);
        thread::Builder::new()
            .name(format!("load-{}", graph.name.name()))
            .spawn(move || {
                for snapshot in snapshots {
                    if let Some(report) = load(&shared, &snapshot) {
                        // Reports are for the log; when nobody reads them they are dropped.
                        let _ = report_sender.try_send(report);
                    }
                }
            })
            .map_err(|e| EngineError::Library(format!("cannot start the loader thread: {e}")))?;
        Ok((
            Self {
                active,
                exchange,
                reports,
            },
            SnapshotInbox { sender },
        ))
    }

    /// Takes the newest verified head, if there is one. Called between two steps; a pointer move.
    pub fn swap(&mut self) -> bool {
        // If the loader holds the cell at this instant, the next step takes it.
        let Ok(mut ready) = self.exchange.ready.try_lock() else {
            return false;
        };
        let Some(head) = ready.take() else {
            return false;
        };
        drop(ready);
        let old = std::mem::replace(&mut self.active, head);
        self.exchange
            .active_version
            .store(self.active.version(), Ordering::Release);
        *lock(&self.exchange.idle) = Some(old);
        true
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

fn load(exchange: &Exchange, snapshot: &ModelSnapshot) -> Option<LoadReport> {
    // The idle head, or the verified one that nobody has taken yet: it is older than this.
    let mut head = lock(&exchange.idle)
        .take()
        .or_else(|| lock(&exchange.ready).take())?;
    match head.bind(snapshot, exchange.active_version.load(Ordering::Acquire)) {
        Ok(()) => {
            *lock(&exchange.ready) = Some(head);
            Some(Ok(snapshot.version))
        }
        Err(refused) => {
            *lock(&exchange.idle) = Some(head);
            Some(Err(refused))
        }
    }
}
