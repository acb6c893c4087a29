//! The replay against a plain model of it, and as its users would break it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path};

use hilt_learner::replay::{HostBatch, Identity, Layout, Pushed, Replay, Row, RowFlags, Which};
use hilt_protocol::{RunId, noise::Uniforms};
use proptest::prelude::*;

const LAYOUT: Layout = Layout {
    cameras: 2,
    frame_bytes: 5,
    copies: 1,
    proprio: 2,
    action: 3,
};
const ME: Identity = [7; 64];

/// What row (run, sequence) holds: everything follows from the two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spec {
    run: u64,
    sequence: u64,
}

impl Spec {
    /// Episodes of five observations.
    fn episode(self) -> u64 {
        self.sequence / 5
    }

    fn flags(self) -> RowFlags {
        RowFlags {
            reset: self.sequence.is_multiple_of(5),
            terminated: self.sequence % 5 == 4 && self.episode().is_multiple_of(2),
            intervention: self.sequence.is_multiple_of(3),
            demonstration: self.run == 0,
            ..RowFlags::default()
        }
    }

    fn number(self) -> f32 {
        (self.run * 1000 + self.sequence) as f32
    }

    fn push(self, replay: &mut Replay) -> Pushed {
        let n = self.number();
        let frames: [[u8; 5]; 2] = [[self.run as u8, self.sequence as u8, 1, 1, 1], [2; 5]];
        let row = Row {
            run: RunId(self.run),
            sequence: self.sequence,
            episode: self.episode(),
            flags: self.flags(),
            reward: n,
            grasp_penalty: -n,
            action: &[n, n + 0.25, n + 0.5],
            proprio: &[n, -n],
            frames: &[&frames[0], &frames[1]],
        };
        replay.push(&row).unwrap()
    }
}

fn open(dir: &Path) -> Replay {
    Replay::open(dir, LAYOUT, ME, 1_000_000).unwrap()
}

/// The transitions that a set of rows has.
fn expected(rows: &[Spec]) -> (usize, usize) {
    let is_transition = |to: &&Spec| {
        !to.flags().reset
            && rows.contains(&Spec {
                sequence: to.sequence - 1,
                ..**to
            })
    };
    let all: Vec<&Spec> = rows.iter().filter(is_transition).collect();
    let online = all.iter().filter(|s| !s.flags().demonstration).count();
    let demonstrations = all
        .iter()
        .filter(|s| s.flags().demonstration || s.flags().intervention)
        .count();
    (online, demonstrations)
}

/// Every draw is a true transition: observation and next observation in place, numbers of the step.
fn check_draws(replay: &Replay, which: Which) {
    let mut batch = HostBatch::new(LAYOUT, 64);
    let mut random = Uniforms::new(5);
    if !replay.sample(which, 0..64, &mut random, &mut batch) {
        assert!(replay.is_empty(which));
        return;
    }
    for i in 0..64 {
        let to = batch.rewards()[i];
        let spec = Spec {
            run: to as u64 / 1000,
            sequence: to as u64 % 1000,
        };
        assert!(!spec.flags().reset);
        assert_eq!(batch.proprio()[2 * i], to - 1.0);
        assert_eq!(batch.next_proprio()[2 * i..2 * i + 2], [to, -to]);
        assert_eq!(batch.actions()[3 * i..3 * i + 3], [to, to + 0.25, to + 0.5]);
        assert_eq!(
            batch.masks()[i],
            if spec.flags().terminated { 0.0 } else { 1.0 }
        );
        assert_eq!(
            batch.frames(0)[5 * i..5 * i + 2],
            [spec.run as u8, (spec.sequence - 1) as u8]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]
    /// Loss, repetition and any order of arrival; then again after reopening.
    #[test]
    fn the_store_is_its_model(pushes in prop::collection::vec((0..3u64, 0..23u64), 0..80)) {
        let dir = tempfile::tempdir().unwrap();
        let mut replay = open(dir.path());
        let mut rows: Vec<Spec> = Vec::new();
        for (run, sequence) in pushes {
            let spec = Spec { run, sequence };
            let known = rows.contains(&spec);
            prop_assert_eq!(spec.push(&mut replay), if known { Pushed::Duplicate } else { Pushed::New });
            if !known {
                rows.push(spec);
            }
        }
        replay.sync().unwrap();
        for round in 0..2 {
            let (online, demonstrations) = expected(&rows);
            let statistics = replay.statistics();
            prop_assert_eq!((statistics.rows, statistics.online, statistics.demonstrations), (rows.len(), online, demonstrations));
            check_draws(&replay, Which::Online);
            check_draws(&replay, Which::Demonstrations);
            let mut next = BTreeMap::new();
            for spec in &rows {
                let missing = (0..).find(|&sequence| !rows.contains(&Spec { sequence, ..*spec })).unwrap();
                next.insert(RunId(spec.run), missing);
            }
            prop_assert_eq!(replay.next_missing(), next);
            if round == 0 {
                drop(replay);
                replay = open(dir.path());
            }
        }
    }
}

fn only_segment(dir: &Path) -> std::path::PathBuf {
    let mut paths = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    paths
        .find(|p| p.extension().is_some_and(|e| e == "replay"))
        .unwrap()
}

/// A crash leaves the last row cut at any byte: it is gone, those before it stay, and the place is
/// used again.
#[test]
fn a_torn_row_is_cut() {
    let source = tempfile::tempdir().unwrap();
    {
        let mut replay = open(source.path());
        (0..3).for_each(|sequence| {
            assert_eq!(Spec { run: 1, sequence }.push(&mut replay), Pushed::New)
        });
        replay.sync().unwrap();
    }
    let bytes = fs::read(only_segment(source.path())).unwrap();
    let row = LAYOUT.row_bytes();
    let last = 4096 + 2 * row;
    // The row's payload ends before its padding.
    for kept in 0..row - 8 {
        let dir = tempfile::tempdir().unwrap();
        let mut torn = bytes.clone();
        torn[last + kept..last + row].fill(0xee);
        fs::write(dir.path().join("segment-00000000.replay"), torn).unwrap();
        let mut replay = open(dir.path());
        assert_eq!(replay.statistics().rows, 2, "cut after {kept} bytes");
        assert_eq!(
            Spec {
                run: 1,
                sequence: 2
            }
            .push(&mut replay),
            Pushed::New
        );
        assert_eq!(replay.len(Which::Online), 2);
    }
}

#[test]
fn a_store_of_something_else_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    Spec {
        run: 1,
        sequence: 0,
    }
    .push(&mut open(dir.path()));
    let refuse = |layout, identity| {
        Replay::open(dir.path(), layout, identity, 1000)
            .unwrap_err()
            .to_string()
    };
    let mut other_encoder = ME;
    other_encoder[40] = 0;
    let mut other_rig = ME;
    other_rig[3] = 0;
    assert!(
        refuse(
            Layout {
                action: 4,
                ..LAYOUT
            },
            ME
        )
        .contains("another layout")
    );
    assert!(refuse(LAYOUT, other_rig).contains("another rig"));
    assert!(refuse(LAYOUT, other_encoder).contains("another encoder"));
}

#[test]
fn a_row_of_another_size_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let row = Row {
        run: RunId(1),
        sequence: 4,
        episode: 0,
        flags: RowFlags::default(),
        reward: 0.0,
        grasp_penalty: 0.0,
        action: &[0.0; 2],
        proprio: &[0.0; 2],
        frames: &[&[0; 5], &[0; 5]],
    };
    let mut replay = open(dir.path());
    assert!(
        replay
            .push(&row)
            .unwrap_err()
            .to_string()
            .contains("action")
    );
    let row = Row {
        action: &[0.0; 3],
        frames: &[&[0; 5]],
        ..row
    };
    assert!(
        replay
            .push(&row)
            .unwrap_err()
            .to_string()
            .contains("frames")
    );
    assert_eq!(replay.statistics().rows, 0);
}

#[test]
fn two_learners_cannot_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let error = Replay::open(dir.path(), LAYOUT, ME, 1000)
        .unwrap_err()
        .to_string();
    assert!(error.contains("another learner"), "{error}");
}

/// Segments are 16 MiB: rows of a quarter of that fill them quickly.
#[test]
fn the_oldest_experience_goes_and_demonstrations_stay() {
    let layout = Layout {
        cameras: 1,
        frame_bytes: 256 << 10,
        copies: 1,
        proprio: 1,
        action: 1,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut replay = Replay::open(dir.path(), layout, ME, 100).unwrap();
    let frame = vec![0; layout.frame_bytes];
    for (run, rows) in [(0, 10), (1, 300)] {
        for sequence in 0..rows {
            let flags = RowFlags {
                reset: sequence == 0,
                demonstration: run == 0,
                ..RowFlags::default()
            };
            let row = Row {
                run: RunId(run),
                sequence,
                episode: 0,
                flags,
                reward: 0.0,
                grasp_penalty: 0.0,
                action: &[0.0],
                proprio: &[0.0],
                frames: &[&frame],
            };
            replay.push(&row).unwrap();
        }
    }
    let statistics = replay.statistics();
    assert_eq!(statistics.demonstrations, 9);
    assert!((100..300).contains(&statistics.online), "{statistics:?}");
    assert!(replay.sample(
        Which::Online,
        0..32,
        &mut Uniforms::new(1),
        &mut HostBatch::new(layout, 32)
    ));
}

/// One thread pushes while another draws: every draw is whole.
#[test]
fn pushing_and_drawing_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let replay = std::sync::RwLock::new(open(dir.path()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..900).for_each(|sequence| {
                Spec { run: 1, sequence }.push(&mut replay.write().unwrap());
            })
        });
        scope.spawn(|| (0..200).for_each(|_| check_draws(&replay.read().unwrap(), Which::Online)));
    });
    assert_eq!(replay.read().unwrap().statistics().rows, 900);
}
