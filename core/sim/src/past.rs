//! The past, which late cameras see.

use std::collections::VecDeque;

/// Where everything was, as long as the latest camera wants to know.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    longest_ns: u64,
    /// Time and positions, the oldest first.
    states: VecDeque<(u64, Vec<f64>)>,
}

impl Past {
    /// For cameras of these latencies; without any it keeps nothing.
    pub fn new(latencies_ns: impl Iterator<Item = u64>) -> Self {
        Self {
            longest_ns: latencies_ns.max().unwrap_or(0),
            states: VecDeque::new(),
        }
    }

    /// Everything is elsewhere now: what was before is not seen any more.
    pub fn forget(&mut self) {
        self.states.clear();
    }

    /// Keeps where everything is at this time.
    pub fn keep(&mut self, time_ns: u64, qpos: &[f64]) {
        if self.longest_ns == 0 {
            return;
        }
        let oldest_ns = time_ns.saturating_sub(self.longest_ns);
        // One that is as old as that is needed; those before it are not, and their room is used again.
        let mut room = None;
        while self.states.get(1).is_some_and(|next| next.0 <= oldest_ns) {
            room = self.states.pop_front();
        }
        let mut state = room.map_or_else(Vec::new, |(_, state)| state);
        state.clear();
        state.extend_from_slice(qpos);
        self.states.push_back((time_ns, state));
    }

    /// Where everything was then, between two steps on the line between them; before all that is kept the
    /// oldest. `None`: nothing is kept.
    pub fn at(&self, time_ns: u64) -> Option<Vec<f64>> {
        let younger = self.states.partition_point(|state| state.0 <= time_ns);
        let (older, younger) = (
            self.states.get(younger.wrapping_sub(1)),
            self.states.get(younger),
        );
        let (Some((older_ns, older)), Some((younger_ns, younger))) = (older, younger) else {
            return older.or(younger).map(|(_, state)| state.clone());
        };
        let part = (time_ns - older_ns) as f64 / (younger_ns - older_ns) as f64;
        let between = older.iter().zip(younger).map(|(a, b)| a + part * (b - a));
        // A quaternion among them is brought back to unit length by MuJoCo.
        Some(between.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_kept_as_long_as_it_is_wanted() {
        let mut past = Past::new([0, 20].into_iter());
        assert_eq!(past.at(5), None);
        for time in [10, 14, 18, 22, 26, 30, 34, 38, 42] {
            past.keep(time, &[time as f64]);
        }
        let at = |time| past.at(time).map(|state| state[0]);
        assert_eq!([42, 50, 41, 22].map(at), [42.0, 42.0, 41.0, 22.0].map(Some));
        // Older than anybody wants it: the oldest there is.
        assert_eq!(at(3), Some(22.0));
        past.forget();
        assert_eq!(past.at(42), None);
        let mut none = Past::new([0].into_iter());
        none.keep(1, &[1.0]);
        assert_eq!(none.at(1), None);
    }
}
