//! A value that callbacks change and a thread waits for.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A mutex with its condition. A thread that panicked while it held the lock does not take the
/// others with it: every change is made by single assignments.
#[derive(Default)]
pub(crate) struct Mailbox<T> {
    value: Mutex<T>,
    rung: Mutex<bool>,
    bell: Condvar,
    changed: Condvar,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            rung: Mutex::new(false),
            bell: Condvar::new(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed: wakes [`Self::sleep`] (also the next one) and all in [`Self::wait`].
    pub(crate) fn notify(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
        self.changed.notify_all();
    }

    /// Until [`Self::notify`] or `timeout`; for the one thread that serves the mailbox.
    pub(crate) fn sleep(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .bell
            .wait_timeout_while(rung, timeout, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }

    /// Until `take` gives something or `timeout` is over.
    pub(crate) fn wait<R>(
        &self,
        timeout: Duration,
        mut take: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let end = Instant::now() + timeout;
        let mut value = self.lock();
        loop {
            if let Some(taken) = take(&mut value) {
                return Some(taken);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            (value, _) = self
                .changed
                .wait_timeout(value, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
