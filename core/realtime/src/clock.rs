//! Clocks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rustix::{
    io::Errno,
    thread::{ClockId, clock_nanosleep_absolute},
    time::{Timespec, clock_gettime},
};

use crate::vectors;

/// The time that a loop goes by.
pub trait Clock {
    /// Now, nanoseconds since an origin of the clock's own.
    fn now_ns(&self) -> u64;

    /// Returns at `deadline_ns`, or at once when that is past. The deadline is absolute, so that
    /// what a loop needs for its work does not add up over its ticks.
    fn sleep_until_ns(&self, deadline_ns: u64);
}

/// `CLOCK_MONOTONIC`: the time since the machine was started, the same for all its processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monotonic;

const SECOND_NS: u64 = 1_000_000_000;

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        let now = clock_gettime(rustix::time::ClockId::Monotonic);
        // It never runs before the machine's start, and for 584 years after it.
        now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64
    }

    fn sleep_until_ns(&self, deadline_ns: u64) {
        let deadline = Timespec {
            tv_sec: (deadline_ns / SECOND_NS) as i64,
            tv_nsec: (deadline_ns % SECOND_NS) as _,
        };
        vectors::forget();
        // A signal may end the sleep early; nothing else can go wrong with a valid time.
        while clock_nanosleep_absolute(ClockId::Monotonic, &deadline) == Err(Errno::INTR) {}
    }
}

/// A clock that stands still until it is told: sleeping on it takes no time and makes it the time
/// that was slept for. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<AtomicU64>);

impl Fake {
    /// A clock that stands at `now_ns`.
    pub fn at(now_ns: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ns)))
    }

    /// Lets time pass.
    pub fn advance_ns(&self, duration_ns: u64) {
        self.0.fetch_add(duration_ns, Ordering::SeqCst);
    }

    /// Puts it to another time, also an earlier one: what a real clock must not do.
    pub fn set_ns(&self, now_ns: u64) {
        self.0.store(now_ns, Ordering::SeqCst);
    }
}

impl Clock for Fake {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn sleep_until_ns(&self, deadline_ns: u64) {
        self.0.fetch_max(deadline_ns, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_ends_at_the_deadline_and_not_before() {
        let fake = Fake::at(5);
        fake.sleep_until_ns(20);
        fake.sleep_until_ns(10);
        assert_eq!(fake.clone().now_ns(), 20);
        let deadline_ns = Monotonic.now_ns() + 2_000_000;
        Monotonic.sleep_until_ns(deadline_ns);
        assert!(Monotonic.now_ns() >= deadline_ns);
        Monotonic.sleep_until_ns(0);
    }
}
