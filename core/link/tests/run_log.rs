//! The run log on disk as the link's source.
#![allow(clippy::unwrap_used)]

mod common;

use common::{LONG, RUN, actor_config, endpoint, entry, learner_config};
use hilt_link::{ActorLink, EntrySource, LearnerLink, RunLog};
use hilt_protocol::{Axis, CameraSpec, RigSpec, SetupMode};
use hilt_recording::RunWriter;

fn writer(folder: &std::path::Path) -> RunWriter {
    let spec = RigSpec {
        mode: SetupMode::SingleArmFixedGripper,
        controlled_axes: vec![Axis::X, Axis::Y, Axis::Z],
        cameras: vec![CameraSpec {
            name: "front".to_owned(),
            height: 8,
            width: 8,
        }],
        proprio: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
        policy_hz: 10,
    };
    RunWriter::create(folder, RUN, &spec, Default::default()).unwrap()
}

#[test]
fn a_growing_log_is_read_forward_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("run");
    let mut log = writer(&folder);
    let mut source = RunLog::new(folder);
    let append = |log: &mut RunWriter, sequences: std::ops::Range<u64>| {
        for sequence in sequences {
            log.append(&entry(sequence)).unwrap();
        }
        log.flush().unwrap();
    };
    let mut read = |wanted: std::ops::Range<u64>, max_bytes| {
        let entries = source.read_from(wanted, max_bytes).unwrap();
        for e in &entries {
            assert_eq!(*e, entry(e.sequence));
        }
        entries.iter().map(|e| e.sequence).collect::<Vec<_>>()
    };
    append(&mut log, 0..10);
    assert_eq!(read(0..4, usize::MAX), [0, 1, 2, 3]);
    assert_eq!(read(4..10, 1), [4], "at least one");
    assert_eq!(read(7..9, usize::MAX), [7, 8], "some were sent from memory");
    assert_eq!(read(2..4, usize::MAX), [2, 3], "back");
    assert_eq!(read(8..12, usize::MAX), [8, 9], "two are missing still");
    assert!(read(10..12, usize::MAX).is_empty());
    append(&mut log, 10..12);
    assert_eq!(read(10..12, usize::MAX), [10, 11]);
    append(&mut log, 12..14);
    assert_eq!(read(12..14, usize::MAX), [12, 13]);
}

#[test]
fn a_folder_without_a_log_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = RunLog::new(folder.path().join("nowhere")).read_from(0..1, 1);
    assert!(error.unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn a_run_recorded_while_the_learner_was_away_is_delivered_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("run");
    let mut log = writer(&folder);
    let endpoint = endpoint();
    let source = Box::new(RunLog::new(folder));
    let actor = ActorLink::open(actor_config(&endpoint), source).unwrap();
    for sequence in 0..600 {
        log.append(&entry(sequence)).unwrap();
        log.flush().unwrap();
        actor.notify(entry(sequence));
    }
    let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
    for sequence in 0..600 {
        assert_eq!(learner.recv(LONG), Some(entry(sequence)));
        learner.ack(RUN, sequence);
    }
    assert!(actor.drain(LONG));
    let stats = actor.stats();
    assert!(stats.read_back >= 600 - 256, "{stats:?}");
    assert_eq!(stats.sent, 600, "nothing was sent twice: {stats:?}");
}
