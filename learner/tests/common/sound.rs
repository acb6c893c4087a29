//! A recording with nothing wrong with it, and how something is made wrong with it.

use hilt_learner::inspect::figures::Place;
use hilt_protocol::{Entry, Observation, Record, RunId, Step};

use super::robot::entries;

/// 100 ms between observations, as the rig has it.
pub const PERIOD_NS: u64 = 100_000_000;

/// Two runs of three episodes of six steps, on a clock, with nothing wrong with them.
pub fn sound() -> Vec<Entry> {
    let mut all = entries(RunId(1));
    all.extend(entries(RunId(2)));
    for entry in &mut all {
        let time_ns = 5_000_000_000 + entry.sequence * PERIOD_NS;
        // The cameras' frames are a little older.
        change(entry, |observation| {
            observation.captured_ns = time_ns;
            observation.proprio[1] += 0.01 * (time_ns % 7) as f32;
            for image in &mut observation.images {
                image.captured_ns = time_ns - 20_000_000;
            }
        });
        let end_early = entry.episode == 1;
        if let Record::Step(step) = &mut entry.record
            && end_early
            && entry.index == 6
        {
            (step.terminated, step.truncated) = (false, true);
        }
    }
    all
}

/// Changes what an entry has observed.
pub fn change(entry: &mut Entry, how: impl FnOnce(&mut Observation)) {
    match &mut entry.record {
        Record::Reset(observation) => how(observation),
        Record::Step(step) => how(&mut step.next),
    }
}

/// The step that an entry is.
pub fn step(entry: &mut Entry) -> &mut Step {
    match &mut entry.record {
        Record::Step(step) => step,
        Record::Reset(_) => panic!("that one is no step"),
    }
}

/// The entry of the first run with this episode and index.
pub fn at(entries: &mut [Entry], episode: u64, index: u32) -> &mut Entry {
    let mut all = entries.iter_mut();
    all.find(|entry| (entry.run, entry.episode, entry.index) == (RunId(1), episode, index))
        .unwrap()
}

/// A place, by numbers.
pub fn place(run: u64, episode: u64, index: u32) -> Place {
    Place::Entry {
        run: RunId(run).to_string(),
        episode,
        index,
    }
}
