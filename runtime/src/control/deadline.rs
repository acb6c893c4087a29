//! Absolute deadlines on an even grid, and what became of those that were not met. Pure.

/// One slot of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Slots before it that passed without a tick.
    pub missed: u64,
    /// When its tick was due, nanoseconds.
    pub due_ns: u64,
}

/// The grid of a loop: `start + n · period`. What a tick needs for its work moves no deadline.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    next_ns: u64,
    period_ns: u64,
}

impl Deadlines {
    /// The first deadline is at `first_ns`.
    pub fn new(first_ns: u64, period_ns: u64) -> Self {
        Self {
            next_ns: first_ns,
            period_ns: period_ns.max(1),
        }
    }

    /// The deadline to sleep until.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// The deadline to sleep until, seen from `now_ns`: never farther away than a period. If it
    /// was, the clock ran backwards, and a loop that waited for it would stand still for as long as
    /// that was.
    pub fn until_ns(&mut self, now_ns: u64) -> u64 {
        self.next_ns = self.next_ns.min(now_ns.saturating_add(self.period_ns));
        self.next_ns
    }

    /// Time between deadlines.
    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// The loop woke at `now_ns`: the slot that it is in. Slots whose whole period has passed are
    /// missed; nobody makes up for them by haste. After a clock that ran backwards the grid begins
    /// anew.
    pub fn wake(&mut self, now_ns: u64) -> Slot {
        if self.next_ns > now_ns.saturating_add(self.period_ns) {
            self.next_ns = now_ns;
        }
        let missed = now_ns.saturating_sub(self.next_ns) / self.period_ns;
        let due_ns = self.next_ns + missed * self.period_ns;
        self.next_ns = due_ns + self.period_ns;
        Slot { missed, due_ns }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_periods_are_missed_and_parts_are_late() {
        let mut deadlines = Deadlines::new(100, 10);
        let mut at = |now_ns| {
            let slot = deadlines.wake(now_ns);
            (slot.missed, slot.due_ns)
        };
        assert_eq!(at(100), (0, 100));
        assert_eq!(at(119), (0, 110));
        assert_eq!(at(120), (0, 120));
        assert_eq!(at(155), (2, 150));
        assert_eq!(at(160), (0, 160));
        // A clock that ran backwards: the grid begins anew.
        assert_eq!(at(3), (0, 3));
        assert_eq!(deadlines.next_ns(), 13);
        assert_eq!(deadlines.until_ns(12), 13);
        assert_eq!(deadlines.until_ns(1), 11);
    }

    proptest! {
        #[test]
        fn no_deadline_leaves_the_grid_and_every_slot_is_accounted_for(
            late_ns in prop::collection::vec(0u64..55, 1..200)
        ) {
            let mut deadlines = Deadlines::new(1000, 10);
            let mut slots = 0;
            for late_ns in late_ns {
                let slot = deadlines.wake(deadlines.next_ns() + late_ns);
                slots += slot.missed + 1;
                prop_assert_eq!(slot.due_ns % 10, 0);
                prop_assert_eq!(slot.due_ns, 1000 + (slots - 1) * 10);
            }
        }
    }
}
