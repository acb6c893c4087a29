//! A clock that jumps when a plan says so.

use hilt_drivers::faults::FaultKind;
use hilt_realtime::Clock;

use super::Faults;

/// The run's clock with the faults of a plan: [`FaultKind::ClockJump`]. While the fault is on it is
/// ahead, or behind, by the fault's magnitude; it jumps there and jumps back. Does not allocate.
#[derive(Clone, Debug)]
pub struct FaultyClock<C> {
    faults: Faults<C>,
}

impl<C: Clock + Clone> FaultyClock<C> {
    /// The clock of these faults.
    pub fn new(faults: Faults<C>) -> Self {
        Self { faults }
    }

    /// What it shows beyond the time that it is, nanoseconds.
    fn ahead_ns(&self, now_ns: u64) -> i64 {
        let jump = self.faults.active_at(FaultKind::ClockJump, 0, now_ns);
        jump.map_or(0, |jump| (jump.magnitude * 1e9) as i64)
    }
}

impl<C: Clock + Clone> Clock for FaultyClock<C> {
    fn now_ns(&self) -> u64 {
        let now_ns = self.faults.clock.now_ns();
        now_ns.saturating_add_signed(self.ahead_ns(now_ns))
    }

    fn sleep_until_ns(&self, deadline_ns: u64) {
        let clock = &self.faults.clock;
        let ahead_ns = self.ahead_ns(clock.now_ns());
        clock.sleep_until_ns(deadline_ns.saturating_add_signed(-ahead_ns));
    }
}
