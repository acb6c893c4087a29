//! Follows one joint by what its servo's sensor says, beyond the sensor's turn.

use hilt_protocol::calibration::COUNTS_PER_TURN;

/// Counts of a sensor's turn, as differences of positions are reckoned with.
pub(super) const TURN: i32 = COUNTS_PER_TURN as i32;

/// A joint that moved so far between two values could have gone either way round.
const MOST_STEP: i32 = TURN / 4;

/// After so long a silence a joint may be anywhere.
const LONGEST_SILENCE_NS: u64 = 500_000_000;

/// So many values say whether a joint stands …
const STILL_VALUES: usize = 8;

/// … when they are so near to each other: a degree, for a hand holds it.
const STILL_COUNTS: i32 = 12;

/// Why a joint is not where it is thought to be any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It moved too far between two values.
    #[error("moved too fast to follow; move it slowly")]
    TooFast,
    /// It was not heard for long.
    #[error("was not heard for half a second, in which it may have moved; check its cable")]
    Silent,
}

/// Where a joint is, was least and was greatest, counts that go on beyond a turn in either direction.
/// They are the sensor's, but for whole turns.
///
/// A wrong value now and then (a spoilt reply whose check is right by chance) does not count: what
/// counts is the middle one of three. So an end of the range counts once the joint was there for two
/// values.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The last values, the newest last: three, once there were so many.
    window: Vec<i32>,
    heard_ns: u64,
    now: Option<i32>,
    /// Where it was of late.
    recent: Vec<i32>,
    least: i32,
    greatest: i32,
    lost: Option<Lost>,
}

impl Recorder {
    /// The sensor's next value, counts, whole turns aside.
    pub fn push(&mut self, now_ns: u64, counts: i32) {
        let near = self.now.or(self.window.last().copied());
        let beyond = match near {
            Some(near) => near + wrapped(counts - near),
            None => counts.rem_euclid(TURN),
        };
        self.hear(now_ns);
        self.window.push(beyond);
        if self.window.len() < 3 {
            return;
        }
        if self.window.len() > 3 {
            self.window.remove(0);
        }
        let mut sorted = [self.window[0], self.window[1], self.window[2]];
        sorted.sort_unstable();
        let middle = sorted[1];
        match self.now {
            None => (self.least, self.greatest) = (middle, middle),
            Some(now) if (middle - now).abs() >= MOST_STEP => self.lose(Lost::TooFast),
            Some(_) => {}
        }
        self.now = Some(middle);
        self.least = self.least.min(middle);
        self.greatest = self.greatest.max(middle);
        self.recent.push(middle);
        if self.recent.len() > STILL_VALUES {
            self.recent.remove(0);
        }
    }

    /// Time passed without a value.
    pub fn silence(&mut self, now_ns: u64) {
        if self.now.is_some() && now_ns.saturating_sub(self.heard_ns) > LONGEST_SILENCE_NS {
            self.lose(Lost::Silent);
        }
    }

    fn hear(&mut self, now_ns: u64) {
        self.silence(now_ns);
        self.heard_ns = now_ns;
    }

    fn lose(&mut self, lost: Lost) {
        self.lost = self.lost.or(Some(lost));
    }

    /// Where it is; `None` before there were three values.
    pub fn now(&self) -> Option<i32> {
        self.now
    }

    /// Where it stands; `None` while it moves.
    pub fn still(&self) -> Option<i32> {
        let (least, greatest) = (self.recent.iter().min()?, self.recent.iter().max()?);
        let stands = self.recent.len() == STILL_VALUES && greatest - least <= STILL_COUNTS;
        self.now.filter(|_| stands)
    }

    /// Least and greatest since it was made or [`Recorder::again`] was said.
    pub fn range(&self) -> (i32, i32) {
        (self.least, self.greatest)
    }

    /// Least and greatest begin anew, where it is.
    pub fn again(&mut self) {
        let now = self.now.unwrap_or(0);
        (self.least, self.greatest) = (now, now);
    }

    /// Why what it says cannot be used, if it cannot; it has to be made anew then.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }
}

/// A difference of positions on the way that is less than half a turn.
pub(super) fn wrapped(counts: i32) -> i32 {
    (counts + TURN / 2).rem_euclid(TURN) - TURN / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Pushes where a joint is, as its sensor says it.
    fn follow(recorder: &mut Recorder, now_ns: &mut u64, path: impl IntoIterator<Item = i32>) {
        for counts in path {
            *now_ns += 10 * MS;
            recorder.push(*now_ns, counts.rem_euclid(TURN));
        }
    }

    fn recorded(path: impl IntoIterator<Item = i32>) -> Recorder {
        let mut recorder = Recorder::default();
        follow(&mut recorder, &mut 0, path);
        recorder
    }

    #[test]
    fn it_counts_on_beyond_the_end_of_the_sensors_turn() {
        for start in [0, 1, 2048, 4095] {
            let path = (0..=1500).step_by(7).chain([1500, 1500]);
            let back = (-1200..=1500).rev().step_by(9).chain([-1200, -1200]);
            let recorder = recorded(path.chain(back).map(|x| x + start));
            assert_eq!(recorder.range(), (start - 1200, start + 1500));
            assert_eq!(recorder.now(), Some(start - 1200));
            assert_eq!(recorder.lost(), None);
        }
    }

    #[test]
    fn more_than_a_turn_is_seen_as_such() {
        let path = [0, 0]
            .into_iter()
            .chain((0..=9000).step_by(100))
            .chain([9000]);
        assert_eq!(recorded(path).range(), (0, 9000));
    }

    #[test]
    fn a_wrong_value_does_not_count() {
        for wrong in [0, 999, 2048, 3100, 4095] {
            let recorder = recorded([1000, 1001, 1002, wrong, 1003, 1003]);
            assert_eq!(recorder.range(), (1001, 1003), "{wrong}");
            assert_eq!(recorder.lost(), None);
        }
    }

    #[test]
    fn what_moves_too_fast_is_lost_and_stays_so() {
        let recorder = recorded([100, 100, 100, 1124, 1124, 1124]);
        assert_eq!(recorder.lost(), Some(Lost::TooFast));
        let recorder = recorded([100, 100, 100, 1123, 1123, 1123]);
        assert_eq!(recorder.lost(), None);
    }

    #[test]
    fn what_was_not_heard_for_long_is_lost() {
        let mut recorder = Recorder::default();
        recorder.silence(900 * MS);
        let mut now_ns = 900 * MS;
        follow(&mut recorder, &mut now_ns, [5; 4]);
        recorder.silence(now_ns + 499 * MS);
        assert_eq!(recorder.lost(), None);
        recorder.push(now_ns + 501 * MS, 5);
        assert_eq!(recorder.lost(), Some(Lost::Silent));
    }

    #[test]
    fn it_stands_when_it_does() {
        assert_eq!(recorded([7; 9]).still(), None, "not for long enough");
        assert_eq!(recorded([4093; 10]).still(), Some(4093));
        assert_eq!(recorded((0..100).step_by(2)).still(), None);
        let mut recorder = recorded([0, 0, 0, 50, 50]);
        recorder.again();
        assert_eq!(recorder.range(), (50, 50));
    }
}
