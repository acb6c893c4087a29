//! Whether what the robot logged is what the learner has.

use std::{path::Path, sync::RwLock};

use hilt_learner::{
    config::LearnerConfig, encoder::Encoder, ingest::Ingest, presets, replay::Replay,
};
use hilt_protocol::{Entry, Record};
use hilt_recording::{RunReader, find_runs, read_spec};
use tch::{Device, Kind};

/// Frames are encoded again for every so many rows only: that takes most of the time.
const FRAMES_EVERY: usize = 9;

/// The entries of a run's log, which must end as it should.
pub fn entries_of(run: &Path) -> Vec<Entry> {
    let mut reader = RunReader::open(run).unwrap();
    let entries: Vec<Entry> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!(reader.cut(), None, "{}", run.display());
    for (i, entry) in entries.iter().enumerate() {
        assert_eq!((entry.run, entry.sequence), (entries[0].run, i as u64));
    }
    entries
}

/// Opens the replay of a learner that has ended.
fn open(learner: &Path, spec_of: &Path) -> (Replay, Ingest) {
    tch::set_num_threads(1);
    let spec = read_spec(spec_of).unwrap();
    let text = std::fs::read_to_string(learner.join("config.toml")).unwrap();
    let file = Some(("config.toml", text.as_str()));
    let config = LearnerConfig::resolve(presets::DEFAULT, file, &[]).unwrap();
    let encoder = Encoder::new(config.encoder, Kind::Float, Device::Cpu, 0);
    encoder.load(&learner.join("encoder.safetensors")).unwrap();
    let ingest = Ingest::new(spec, &encoder, &config.train).unwrap();
    let (layout, identity) = (ingest.layout(), ingest.identity());
    let replay = Replay::open(&learner.join("replay"), layout, identity, usize::MAX).unwrap();
    (replay, ingest)
}

/// Rows of robot runs in a learner's replay: all but the demonstrations'.
pub fn online_entries(learner: &Path, demos: &Path) -> u64 {
    let runs = find_runs(demos).unwrap();
    let (replay, _) = open(learner, &runs[0]);
    let demonstrations: usize = runs.iter().map(|run| entries_of(run).len()).sum();
    (replay.statistics().rows - demonstrations) as u64
}

/// Every entry in the logs of `runs` is in the learner's replay once, as it would be had it come
/// without any trouble; and besides them only the demonstrations.
pub fn assert_delivered(learner: &Path, demos: &Path, runs: &[&Path]) {
    let (replay, ingest) = open(learner, runs[0]);
    let mut rows: usize = 0;
    let mut steps = 0;
    for run in find_runs(demos).unwrap() {
        rows += entries_of(&run).len();
    }
    for run in runs {
        let entries = entries_of(run);
        rows += entries.len();
        steps += entries
            .iter()
            .filter(|entry| matches!(entry.record, Record::Step(_)))
            .count();
        assert_rows(&replay, &ingest, &entries);
    }
    let statistics = replay.statistics();
    assert_eq!(statistics.rows, rows, "as many rows as entries");
    // A row that were there twice would make a second transition.
    assert_eq!(statistics.online, steps, "as many transitions as steps");
}

fn assert_rows(replay: &Replay, ingest: &Ingest, entries: &[Entry]) {
    let run = entries[0].run;
    let next = replay.next_missing().get(&run).copied();
    assert_eq!(next, Some(entries.len() as u64), "no entry is missing");
    let dir = tempfile::tempdir().unwrap();
    let store = Replay::open(dir.path(), replay.layout(), [0; 64], usize::MAX).unwrap();
    let fresh = RwLock::new(store);
    for entry in entries.iter().step_by(FRAMES_EVERY) {
        ingest.push(entry, false, &fresh).unwrap();
    }
    let fresh = fresh.into_inner().unwrap();
    for (i, entry) in entries.iter().enumerate() {
        let row = replay.row(run, entry.sequence).unwrap();
        let flags = row.flags();
        assert_eq!(row.episode(), entry.episode);
        assert!(!flags.demonstration);
        let mut proprio = vec![0.0; entry.observation().proprio.len()];
        row.copy_proprio(&mut proprio);
        assert_eq!(proprio, entry.observation().proprio);
        match &entry.record {
            Record::Reset(_) => assert!(flags.reset),
            Record::Step(step) => {
                let mut action = vec![0.0; step.action.len()];
                row.copy_action(&mut action);
                assert_eq!(action, step.action);
                assert_eq!(
                    (row.reward(), row.grasp_penalty()),
                    (step.reward, step.grasp_penalty)
                );
                assert_eq!(
                    (flags.reset, flags.terminated, flags.intervention),
                    (false, step.terminated, step.source.is_intervention())
                );
            }
        }
        if i % FRAMES_EVERY == 0 {
            let again = fresh.row(run, entry.sequence).unwrap();
            let layout = replay.layout();
            for (camera, copy) in
                (0..layout.cameras).flat_map(|k| (0..layout.copies).map(move |c| (k, c)))
            {
                let same = row.frame(camera, copy) == again.frame(camera, copy);
                assert!(same, "camera {camera}, copy {copy}");
            }
        }
    }
}
