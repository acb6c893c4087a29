//! Rates from counts.

use std::{collections::VecDeque, time::Duration};

/// Over so much of the newest past.
const WINDOW: Duration = Duration::from_secs(10);
/// Counts nearer to each other than this are taken as one.
const GRAIN: Duration = Duration::from_millis(100);

/// How fast a count grows, over the last ten seconds. Pure: times are passed in.
#[derive(Clone, Debug, Default)]
pub struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// At `at` (from any fixed start) the count is `count`.
    pub fn add(&mut self, at: Duration, count: u64) {
        match self.0.back() {
            // It began anew somewhere: what was before says nothing.
            Some(&(_, last)) if count < last => self.0.clear(),
            Some(&(last, _)) if at.saturating_sub(last) < GRAIN => return,
            _ => {}
        }
        self.0.push_back((at, count));
        while self
            .0
            .get(1)
            .is_some_and(|&(t, _)| at.saturating_sub(t) >= WINDOW)
        {
            self.0.pop_front();
        }
    }

    /// Per second; `None` before there are two counts.
    pub fn per_s(&self) -> Option<f64> {
        let (&(from, first), &(to, last)) = (self.0.front()?, self.0.back()?);
        (to > from).then(|| (last - first) as f64 / (to - from).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_the_newest_past() {
        let at = Duration::from_millis;
        let mut rate = Rate::default();
        assert_eq!(rate.per_s(), None);
        for i in 0..=200u64 {
            rate.add(at(100 * i), i);
        }
        assert!((rate.per_s().unwrap() - 10.0).abs() < 1e-9);
        for i in 0..=200u64 {
            rate.add(at(20_000 + 100 * i), 200 + 3 * i);
        }
        assert!((rate.per_s().unwrap() - 30.0).abs() < 1e-9);
        // It stands still.
        rate.add(at(60_000), 800);
        assert!(rate.per_s().unwrap() < 10.0);
        rate.add(at(71_000), 800);
        assert_eq!(rate.per_s(), Some(0.0));
    }

    #[test]
    fn a_count_that_begins_anew_is_no_negative_rate() {
        let mut rate = Rate::default();
        rate.add(Duration::from_secs(1), 500);
        rate.add(Duration::from_secs(2), 100);
        assert_eq!(rate.per_s(), None);
        rate.add(Duration::from_secs(3), 120);
        assert_eq!(rate.per_s(), Some(20.0));
    }

    #[test]
    fn many_counts_a_second_are_few_samples() {
        let mut rate = Rate::default();
        for i in 0..100_000u64 {
            rate.add(Duration::from_micros(100 * i), i);
        }
        assert!(rate.0.len() <= 102, "{}", rate.0.len());
        assert!((rate.per_s().unwrap() - 10_000.0).abs() < 50.0);
    }
}
