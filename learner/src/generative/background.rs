//! A generation in the background: a thread of its own trains and samples while real updates go on.
//!
//! The thread owns all that it works on; tensors are moved to it and back. It ends when it is done, or soon after
//! [`Background`] is dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::generation::{Job, Made, NotMade};

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What became of it.
pub type Outcome = Result<Made, NotMade>;

/// A generation under way.
#[derive(Debug)]
pub struct Background {
    outcome: Receiver<Outcome>,
    /// Updates of the diffusion model made so far.
    updates: Arc<AtomicU64>,
    give_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Begins.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn begin(job: Job) -> std::io::Result<Self> {
        let (sender, outcome) = channel();
        let (updates, give_up) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, told) = (Arc::clone(&updates), Arc::clone(&give_up));
        let work = move || {
            // Threads of torch are a thread's own.
            tch::set_num_threads(job.threads());
            let go_on = || !told.load(Ordering::Relaxed);
            let made = job.run(
                &|update, _| counted.store(update, Ordering::Relaxed),
                &go_on,
            );
            // Nobody waits for it any more: then it is not needed.
            let _ = sender.send(made);
        };
        let thread = thread::Builder::new()
            .name("generation".into())
            .spawn(work)?;
        Ok(Self {
            outcome,
            updates,
            give_up,
            thread: Some(thread),
        })
    }

    /// Updates of the diffusion model made so far.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// What became of it, once it is done.
    pub fn poll(&self) -> Option<Outcome> {
        match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(NotMade::Panicked)),
        }
    }

    /// The same, waited for; `None` if `stop` was set before.
    pub fn wait(&self, stop: &AtomicBool) -> Option<Outcome> {
        loop {
            match self.outcome.recv_timeout(LOOK) {
                Ok(outcome) => return Some(outcome),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(NotMade::Panicked)),
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.give_up.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
