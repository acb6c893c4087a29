//! Real time for a run with a person in it: in lockstep the next step waits until it is due.

use std::time::{Duration, Instant};

use crate::rig::{ClockKind, Rig};

/// Lets a policy step begin every policy period, or at once where nobody lives in real time.
#[derive(Debug)]
pub struct Pace {
    period: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// At the rig's policy rate when there is a `person`, else without any waiting. A rig in real
    /// time keeps its own.
    pub fn of(rig: &Rig, person: bool) -> Self {
        Self {
            period: Duration::from_nanos(rig.policy_period_ns()),
            due: (person && rig.clock == ClockKind::Simulated).then(Instant::now),
        }
    }

    /// Waits until the next step is due.
    pub fn wait(&mut self) {
        if let Some(due) = &mut self.due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            *due = after(*due, self.period, Instant::now());
        }
    }
}

/// When the step after the one that was due at `due` and begins `now` is due: a period later, so
/// that small delays do not add up; but a step that was missed is not made up for by haste.
fn after(due: Instant, period: Duration, now: Instant) -> Instant {
    (due + period).max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_delays_do_not_add_up_and_missed_steps_stay_missed() {
        let (start, period) = (Instant::now(), Duration::from_millis(100));
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(after(at(0), period, at(3)), at(100));
        assert_eq!(after(at(100), period, at(107)), at(200));
        assert_eq!(after(at(200), period, at(950)), at(950));
    }
}
