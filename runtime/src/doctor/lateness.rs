//! How late a thread wakes.

use std::fmt;

use hilt_realtime::{Awake, Clock, Missing, Monotonic, Wanted};

/// How late a thread was woken, against absolute deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    /// Deadlines.
    pub ticks: usize,
    /// Between them, nanoseconds.
    pub period_ns: u64,
    /// Half of the wake-ups were no later, nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 were no later, nanoseconds.
    pub p99_ns: u64,
    /// The latest, nanoseconds.
    pub max_ns: u64,
}

/// 2 s at 1 kHz.
const TICKS: usize = 2000;
const PERIOD_NS: u64 = 1_000_000;

impl Lateness {
    /// Measures this machine as it is now, on a thread of its own with as much of `wanted` as there
    /// is to be had; returns what there was not. It takes two seconds.
    pub fn measure(wanted: Wanted) -> std::io::Result<(Self, Vec<Missing>)> {
        let measuring = std::thread::Builder::new().name("lateness".into());
        let measuring = measuring.spawn(move || {
            let mut missing = wanted.apply();
            let _awake = Awake::ask().map_err(|deep| missing.push(deep));
            (Self::sample(&Monotonic, TICKS, PERIOD_NS), missing)
        })?;
        let died = |_| std::io::Error::other("the measuring thread has panicked");
        measuring.join().map_err(died)
    }

    fn sample(clock: &impl Clock, ticks: usize, period_ns: u64) -> Self {
        let mut late_ns = Vec::with_capacity(ticks);
        let mut deadline_ns = clock.now_ns();
        for _ in 0..ticks {
            deadline_ns += period_ns;
            clock.sleep_until_ns(deadline_ns);
            late_ns.push(clock.now_ns().saturating_sub(deadline_ns));
        }
        late_ns.sort_unstable();
        let quantile = |percent: usize| {
            let rank = (ticks * percent).div_ceil(100).max(1);
            late_ns.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            ticks,
            period_ns,
            p50_ns: quantile(50),
            p99_ns: quantile(99),
            max_ns: quantile(100),
        }
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns as f64 / 1e3;
        write!(
            f,
            "p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs ({:.0} s at {:.0} Hz, on this machine as it \
             was just now)",
            us(self.p50_ns),
            us(self.p99_ns),
            us(self.max_ns),
            self.ticks as f64 * self.period_ns as f64 / 1e9,
            1e9 / self.period_ns as f64,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use hilt_realtime::Fake;

    use super::*;

    /// Wakes a microsecond later each time.
    struct Later(Fake, Cell<u64>);

    impl Clock for Later {
        fn now_ns(&self) -> u64 {
            self.0.now_ns()
        }

        fn sleep_until_ns(&self, deadline_ns: u64) {
            self.1.set(self.1.get() + 1000);
            self.0.sleep_until_ns(deadline_ns + self.1.get());
        }
    }

    #[test]
    fn lateness_is_that_of_the_clock_and_does_not_add_up() {
        let clock = Later(Fake::at(77), Cell::new(0));
        let lateness = Lateness::sample(&clock, 200, 1_000_000);
        assert_eq!(
            (lateness.p50_ns, lateness.p99_ns, lateness.max_ns),
            (100_000, 198_000, 200_000)
        );
        let words = lateness.to_string();
        assert!(
            words.starts_with("p50 100 µs, p99 198 µs, max 200 µs"),
            "{words}"
        );
    }

    #[test]
    fn no_ticks_are_no_lateness() {
        let none = Lateness::sample(&Fake::default(), 0, 1);
        assert_eq!((none.p50_ns, none.max_ns), (0, 0));
    }
}
