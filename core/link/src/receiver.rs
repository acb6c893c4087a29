//! The learner's side of reliable delivery as a state machine without I/O: which entries are new,
//! and how far each run is durable.

use std::collections::BTreeMap;

use hilt_protocol::{Ack, RunId};

use crate::frames::Position;

/// What an arriving entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The one that was expected.
    New,
    /// It was here before.
    Duplicate,
    /// Entries before it are missing; it has to be sent again after them.
    GapAhead {
        /// The sequence that is expected.
        expected: u64,
    },
}

/// How far each run has come. Entries are accepted in order only, so that a position is one number.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    runs: BTreeMap<RunId, Position>,
}

impl Receiver {
    /// From a checkpoint: for each run the first sequence that is not on disk.
    pub fn restore(next: &BTreeMap<RunId, u64>) -> Self {
        let at = |&sequence: &u64| Position {
            received: sequence,
            durable: sequence,
        };
        Self {
            runs: next
                .iter()
                .map(|(&run, sequence)| (run, at(sequence)))
                .collect(),
        }
    }

    /// What the entry (`run`, `sequence`) is; changes nothing.
    pub fn judge(&self, run: RunId, sequence: u64) -> Arrival {
        let expected = self.position(run).received;
        match sequence.cmp(&expected) {
            std::cmp::Ordering::Less => Arrival::Duplicate,
            std::cmp::Ordering::Equal => Arrival::New,
            std::cmp::Ordering::Greater => Arrival::GapAhead { expected },
        }
    }

    /// As [`Self::judge`], and a new entry counts as received from now on.
    pub fn accept(&mut self, run: RunId, sequence: u64) -> Arrival {
        let arrival = self.judge(run, sequence);
        if arrival == Arrival::New {
            self.runs.entry(run).or_default().received = sequence + 1;
        }
        arrival
    }

    /// Takes back everything of `run` from `sequence` on that is not durable: it will be accepted
    /// again.
    pub fn take_back(&mut self, run: RunId, sequence: u64) {
        if let Some(position) = self.runs.get_mut(&run) {
            position.received = position.received.min(sequence).max(position.durable);
        }
    }

    /// Everything received of `run` up to and including `sequence` is on disk. `false` if so much
    /// was never received; nothing changes then.
    pub fn durable(&mut self, run: RunId, sequence: u64) -> bool {
        match self.runs.get_mut(&run) {
            Some(position) if sequence < position.received => {
                position.durable = position.durable.max(sequence + 1);
                true
            }
            _ => false,
        }
    }

    /// Where `run` stands; the beginning if it is unknown.
    pub fn position(&self, run: RunId) -> Position {
        self.runs.get(&run).copied().unwrap_or_default()
    }

    /// The acknowledgement for `run`, once something of it is durable.
    pub fn ack(&self, run: RunId) -> Option<Ack> {
        let sequence = self.position(run).durable.checked_sub(1)?;
        Some(Ack { run, sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(7);

    #[test]
    fn tells_new_from_duplicate_from_gap() {
        let mut receiver = Receiver::default();
        assert_eq!(
            receiver.accept(RUN, 1),
            Arrival::GapAhead { expected: 0 },
            "an unknown run begins at 0"
        );
        assert_eq!(receiver.accept(RUN, 0), Arrival::New);
        assert_eq!(receiver.accept(RUN, 0), Arrival::Duplicate);
        assert_eq!(receiver.accept(RunId(8), 0), Arrival::New);
        assert_eq!(receiver.accept(RUN, 1), Arrival::New);
        assert_eq!(receiver.ack(RUN), None);
        assert!(receiver.durable(RUN, 1));
        assert_eq!(
            receiver.ack(RUN),
            Some(Ack {
                run: RUN,
                sequence: 1
            })
        );
        assert!(!receiver.durable(RUN, 2), "never received");
        assert!(receiver.durable(RUN, 0), "old news is no harm");
        assert_eq!(receiver.position(RUN).durable, 2);
    }

    #[test]
    fn a_restored_receiver_goes_on_where_the_disk_ends() {
        let mut receiver = Receiver::restore(&BTreeMap::from([(RUN, 40)]));
        assert_eq!(receiver.accept(RUN, 39), Arrival::Duplicate);
        assert_eq!(receiver.accept(RUN, 40), Arrival::New);
        assert_eq!(receiver.ack(RUN).map(|a| a.sequence), Some(39));
    }

    #[test]
    fn only_what_is_not_durable_can_be_taken_back() {
        let mut receiver = Receiver::default();
        for sequence in 0..5 {
            receiver.accept(RUN, sequence);
        }
        receiver.durable(RUN, 1);
        receiver.take_back(RUN, 3);
        assert_eq!(receiver.judge(RUN, 3), Arrival::New);
        receiver.take_back(RUN, 0);
        assert_eq!(receiver.judge(RUN, 2), Arrival::New);
    }
}
