//! The run log as its users would break it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path};

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::{LOG_FILE, RunReader, RunWriter, find_runs, read_spec, recover};
use proptest::prelude::*;

fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X, Axis::Y, Axis::Z],
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: 16,
            width: 16,
        }],
        proprio: vec!["tool_x".into()],
        policy_hz: 10,
    }
}

fn entry(sequence: u64) -> Entry {
    let next = Observation {
        captured_ns: sequence * 100,
        proprio: vec![sequence as f32],
        images: vec![Image {
            captured_ns: sequence,
            height: 2,
            width: 2,
            rgb: vec![sequence as u8; 12].into(),
        }],
    };
    let record = if sequence == 0 {
        Record::Reset(next)
    } else {
        Record::Step(Step {
            action: vec![0.5, -1.0],
            source: ActionSource::Policy,
            reward: 0.0,
            grasp_penalty: -0.02,
            terminated: false,
            truncated: sequence == 3,
            label: (sequence == 2).then_some(true),
            policy_version: 7,
            noise_seed: u64::MAX - sequence,
            next,
        })
    };
    Entry {
        run: RunId(9),
        sequence,
        episode: 0,
        index: sequence as u32,
        record,
    }
}

fn write(dir: &Path, entries: u64, flush_every: u64, finish: bool) {
    let mut writer = RunWriter::create(dir, RunId(9), &spec(), BTreeMap::new()).unwrap();
    for sequence in 0..entries {
        writer.append(&entry(sequence)).unwrap();
        if (sequence + 1) % flush_every == 0 {
            writer.flush().unwrap();
        }
    }
    if finish {
        writer.finish().unwrap();
    } else {
        // As if killed: no destructor runs, nothing more is flushed.
        std::mem::forget(writer);
    }
}

fn read(dir: &Path) -> Vec<Entry> {
    RunReader::open(dir).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 5, 2, true);
    assert_eq!(read(dir.path()), (0..5).map(entry).collect::<Vec<_>>());
    assert_eq!(read_spec(dir.path()).unwrap(), spec());
    let from_three: Vec<_> = RunReader::open(dir.path())
        .unwrap()
        .from_sequence(3)
        .map(|e| e.unwrap().sequence)
        .collect();
    assert_eq!(from_three, [3, 4]);
}

#[test]
fn a_killed_writer_leaves_what_it_flushed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 5, 2, false);
    let mut reader = RunReader::open(dir.path()).unwrap();
    assert_eq!(
        reader
            .by_ref()
            .map(|e| e.unwrap().sequence)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(reader.cut().is_some());
}

#[test]
fn a_writer_killed_between_two_flushes_leaves_a_file_that_knows_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 4, 1, false);
    let mut reader = RunReader::open(dir.path()).unwrap();
    assert_eq!(reader.by_ref().map(Result::unwrap).count(), 4);
    assert!(reader.cut().unwrap().contains("footer"));
    let report = recover(dir.path()).unwrap();
    assert_eq!(report.entries, 4);
    assert!(report.cut.is_some());
    let mut reader = RunReader::open(dir.path()).unwrap();
    assert_eq!(reader.by_ref().map(Result::unwrap).count(), 4);
    assert_eq!(reader.cut(), None);
}

#[test]
fn a_growing_file_is_read_up_to_the_last_flush() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(dir.path(), RunId(9), &spec(), BTreeMap::new()).unwrap();
    for sequence in 0..4 {
        writer.append(&entry(sequence)).unwrap();
        writer.flush().unwrap();
        assert_eq!(read(dir.path()).len() as u64, sequence + 1);
    }
}

#[test]
fn a_file_cut_at_any_byte_gives_every_entry_before_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 6, 1, true);
    let whole = fs::read(dir.path().join(LOG_FILE)).unwrap();
    let cut_dir = tempfile::tempdir().unwrap();
    let mut counts = Vec::new();
    for cut in 0..whole.len() {
        fs::write(cut_dir.path().join(LOG_FILE), &whole[..cut]).unwrap();
        let entries = read(cut_dir.path());
        assert_eq!(
            entries,
            (0..entries.len() as u64).map(entry).collect::<Vec<_>>(),
            "cut at {cut}"
        );
        counts.push(entries.len());
    }
    assert!(counts.is_sorted() && counts[0] == 0 && counts[whole.len() - 1] == 6);
    let distinct: std::collections::BTreeSet<_> = counts.into_iter().collect();
    assert_eq!(
        distinct.len(),
        7,
        "each chunk counts as soon as it is whole"
    );
}

#[test]
fn recovery_makes_a_cut_file_whole_and_leaves_a_whole_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 5, 2, false);
    let report = recover(dir.path()).unwrap();
    assert_eq!(report.entries, 4);
    assert!(report.cut.is_some());
    assert_eq!(read(dir.path()).len(), 4);
    let bytes = fs::read(dir.path().join(LOG_FILE)).unwrap();
    let again = recover(dir.path()).unwrap();
    assert_eq!((again.entries, again.cut), (4, None));
    assert_eq!(fs::read(dir.path().join(LOG_FILE)).unwrap(), bytes);
}

#[test]
fn a_run_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 1, true);
    let error = RunWriter::create(dir.path(), RunId(9), &spec(), BTreeMap::new())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(LOG_FILE) && error.contains("exists"),
        "{error}"
    );
}

#[test]
fn runs_are_found_below_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("b/deep"), 1, 1, true);
    write(&dir.path().join("a"), 1, 1, true);
    assert_eq!(
        find_runs(dir.path()).unwrap(),
        [dir.path().join("a"), dir.path().join("b/deep")]
    );
    assert_eq!(
        find_runs(&dir.path().join("a")).unwrap(),
        [dir.path().join("a")]
    );
}

#[test]
fn a_bad_spec_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 1, true);
    fs::write(dir.path().join("spec.json"), "{}").unwrap();
    let error = read_spec(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("spec.json") && error.contains("mode"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn damage_is_never_a_panic_and_never_another_entry(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 4, 1, true);
        let path = dir.path().join(LOG_FILE);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        // Chunks carry a checksum: what comes out is what went in. A chunk whose kind was damaged is
        // passed over as unknown, which the sequence numbers show.
        let mut last = None;
        for read in RunReader::open(dir.path()).unwrap().filter_map(Result::ok) {
            prop_assert!(last < Some(read.sequence));
            last = Some(read.sequence);
            prop_assert_eq!(&read, &entry(read.sequence));
        }
    }
}
