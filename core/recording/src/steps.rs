//! Steps that are whole: what was seen before, what was done, and what it led to.

use hilt_protocol::{Entry, Observation, Record, RunId, Step};

/// Goes over entries in the order in which they were recorded, and puts to each step what was seen before it.
///
/// An entry has only what a step led to; what it began with is in the one before. Where that is missing the step is
/// none that can be learned from.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    last: Option<(Place, Observation)>,
}

/// Run, episode, sequence and index of an entry.
type Place = (RunId, u64, u64, u32);

impl Steps {
    /// The next entry. What was seen before it, and the step, if it is a whole one.
    pub fn next<'e>(&mut self, entry: &'e Entry) -> Option<(Observation, &'e Step)> {
        let here = (entry.run, entry.episode, entry.sequence, entry.index);
        // Images are shared, not copied.
        let before = self.last.replace((here, entry.observation().clone()));
        let ((run, episode, sequence, index), seen) = before?;
        // The largest numbers, which a file can say, have nothing after them.
        let after = (sequence.checked_add(1)).zip(index.checked_add(1));
        let follows =
            after.is_some_and(|(sequence, index)| (run, episode, sequence, index) == here);
        match &entry.record {
            Record::Step(step) if follows => Some((seen, step)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::ActionSource;

    use super::*;

    fn seen(captured_ns: u64) -> Observation {
        Observation {
            captured_ns,
            proprio: vec![],
            images: vec![],
        }
    }

    /// The entry of this place, which saw something at a time of its own.
    fn entry((run, episode, sequence, index): (u64, u64, u64, u32)) -> Entry {
        let next = seen(1000 * run + sequence);
        let record = match index {
            0 => Record::Reset(next),
            _ => Record::Step(Step {
                action: vec![],
                source: ActionSource::Policy,
                reward: 0.0,
                grasp_penalty: 0.0,
                terminated: false,
                truncated: false,
                label: None,
                policy_version: 0,
                noise_seed: sequence,
                next,
            }),
        };
        Entry {
            run: RunId(run),
            sequence,
            episode,
            index,
            record,
        }
    }

    #[test]
    fn a_step_goes_with_what_was_seen_before_it_unless_that_is_missing() {
        let mut steps = Steps::default();
        let whole = |place| {
            let entry = entry(place);
            let step = steps.next(&entry);
            step.map(|(before, step)| (before.captured_ns, step.noise_seed))
        };
        let places = [
            (1, 0, 0, 0),
            (1, 0, 1, 1),
            (1, 0, 2, 2),
            // Two are missing.
            (1, 0, 5, 5),
            (1, 0, 6, 6),
            // The next episode; it lost its beginning, and later it goes on under another count.
            (1, 1, 7, 0),
            (1, 2, 8, 1),
            (1, 2, 9, 2),
            (1, 2, 10, 4),
            // Another run that happens to go on with the count.
            (2, 2, 11, 5),
            (2, 2, 12, 6),
            // Once more.
            (2, 2, 12, 6),
        ];
        let found: Vec<_> = places.map(whole).into_iter().flatten().collect();
        let wanted = [(1000, 1), (1001, 2), (1005, 6), (1008, 9), (2011, 12)];
        assert_eq!(found, wanted);
    }
}
