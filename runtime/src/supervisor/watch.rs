//! When the supervisor takes over. Pure.

/// Time between two looks.
pub(super) const PERIOD_NS: u64 = 5_000_000;

/// What one look adds to the time that the robot has stood still, at most. Who was away for longer
/// himself (a loaded or suspended computer) cannot blame the robot for all of that.
const LOOK_MAX_NS: u64 = 2 * PERIOD_NS;

/// The robot process at a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its end of the line is closed.
    pub gone: bool,
    /// Beats so far.
    pub beats: u64,
    /// Whether the last one left arms to hold.
    pub armed: bool,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again.
    Wait,
    /// The robot process is gone and nothing was armed: so is the supervisor.
    End,
    /// Hold the arms.
    TakeOver(Cause),
}

/// Why the supervisor holds the arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The robot process is gone.
    Gone,
    /// It has not ticked for so long.
    Stalled { for_ns: u64 },
}

/// Watches a robot process.
#[derive(Debug)]
pub(super) struct Watch {
    stall_ns: u64,
    looked_ns: u64,
    beats: u64,
    still_ns: u64,
}

impl Watch {
    /// From `now_ns` on. An armed robot that stands still for `stall_ns` has stalled.
    pub fn new(stall_ns: u64, now_ns: u64) -> Self {
        Self {
            stall_ns,
            looked_ns: now_ns,
            beats: 0,
            still_ns: 0,
        }
    }

    /// Judges one look.
    pub fn look(&mut self, now_ns: u64, seen: Seen) -> Verdict {
        let since_ns = now_ns.saturating_sub(self.looked_ns).min(LOOK_MAX_NS);
        self.looked_ns = now_ns;
        self.still_ns = match seen.beats == self.beats {
            true => self.still_ns.saturating_add(since_ns),
            false => 0,
        };
        self.beats = seen.beats;
        let for_ns = self.still_ns;
        match seen {
            Seen {
                armed: false, gone, ..
            } if gone => Verdict::End,
            Seen { armed: false, .. } => Verdict::Wait,
            Seen { gone: true, .. } => Verdict::TakeOver(Cause::Gone),
            _ if for_ns >= self.stall_ns => Verdict::TakeOver(Cause::Stalled { for_ns }),
            _ => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(beats: u64, armed: bool) -> Seen {
        let gone = false;
        Seen { gone, beats, armed }
    }

    #[test]
    fn a_robot_that_ticks_is_left_alone() {
        let mut watch = Watch::new(50 * MS, 0);
        for look in 1..1000 {
            assert_eq!(
                watch.look(look * 5 * MS, seen(look / 9, true)),
                Verdict::Wait
            );
        }
    }

    #[test]
    fn an_armed_robot_that_stands_still_for_the_bound_has_stalled() {
        let mut watch = Watch::new(50 * MS, 0);
        assert_eq!(watch.look(5 * MS, seen(7, true)), Verdict::Wait);
        for ms in (10..55).step_by(5) {
            assert_eq!(watch.look(ms * MS, seen(7, true)), Verdict::Wait);
        }
        let stalled = Cause::Stalled { for_ns: 50 * MS };
        assert_eq!(
            watch.look(55 * MS, seen(7, true)),
            Verdict::TakeOver(stalled)
        );
    }

    #[test]
    fn an_idle_robot_may_stand_still_and_stalls_only_once_it_was_armed() {
        let mut watch = Watch::new(50 * MS, 0);
        for ms in (0..1000).step_by(5) {
            assert_eq!(watch.look(ms * MS, seen(7, false)), Verdict::Wait);
        }
        assert_eq!(watch.look(1000 * MS, seen(8, true)), Verdict::Wait);
        assert_eq!(watch.look(1005 * MS, seen(8, true)), Verdict::Wait);
    }

    #[test]
    fn a_supervisor_that_was_away_itself_does_not_blame_the_robot() {
        let mut watch = Watch::new(50 * MS, 0);
        assert_eq!(watch.look(5 * MS, seen(1, true)), Verdict::Wait);
        assert_eq!(watch.look(900 * MS, seen(1, true)), Verdict::Wait);
        assert_eq!(watch.look(905 * MS, seen(2, true)), Verdict::Wait);
    }

    #[test]
    fn a_robot_that_is_gone_is_held_at_once_if_it_was_armed() {
        let gone = |armed| Seen {
            gone: true,
            beats: 3,
            armed,
        };
        let mut watch = Watch::new(50 * MS, 0);
        assert_eq!(watch.look(MS, gone(true)), Verdict::TakeOver(Cause::Gone));
        let mut watch = Watch::new(50 * MS, 0);
        assert_eq!(watch.look(MS, gone(false)), Verdict::End);
    }
}
