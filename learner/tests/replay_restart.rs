//! The replay after a crash in the middle of things, and after its oldest rows were dropped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, fs, path::Path};

use hilt_learner::replay::{Identity, Layout, Pushed, Replay, Row, RowFlags, Which};
use hilt_protocol::RunId;

const SMALL: Layout = Layout {
    cameras: 1,
    frame_bytes: 5,
    copies: 1,
    proprio: 1,
    action: 1,
};
/// Rows that fill a segment quickly.
const LARGE: Layout = Layout {
    frame_bytes: 256 << 10,
    ..SMALL
};
const ME: Identity = [7; 64];
const RUN: RunId = RunId(1);

fn open(dir: &Path, layout: Layout) -> Replay {
    Replay::open(dir, layout, ME, 100).unwrap()
}

/// Row `sequence` of one long episode.
fn push(replay: &mut Replay, layout: Layout, sequence: u64) -> Pushed {
    let frame = vec![sequence as u8; layout.frame_bytes];
    let row = Row {
        run: RUN,
        sequence,
        episode: 0,
        flags: RowFlags {
            reset: sequence == 0,
            ..RowFlags::default()
        },
        reward: 0.0,
        grasp_penalty: 0.0,
        action: &[0.0],
        proprio: &[0.0],
        frames: &[&frame],
    };
    replay.push(&row).unwrap()
}

/// The power fails when the pages of rows 0, 2 and 3 are on disk and that of row 1 is not. In
/// whatever order rows come again, and whenever the process ends, each is there once.
#[test]
fn a_hole_is_filled_once() {
    let orders: [&[u64]; 6] = [&[], &[1], &[2], &[3, 2, 1], &[1, 2, 3], &[4, 1]];
    for again in orders {
        let dir = tempfile::tempdir().unwrap();
        {
            let mut replay = open(dir.path(), SMALL);
            (0..4).for_each(|sequence| {
                push(&mut replay, SMALL, sequence);
            });
            replay.sync().unwrap();
        }
        let path = dir.path().join("segment-00000000.replay");
        let mut bytes = fs::read(&path).unwrap();
        let row = SMALL.row_bytes();
        bytes[4096 + row..4096 + 2 * row].fill(0);
        fs::write(&path, bytes).unwrap();

        let mut rows: BTreeSet<u64> = [0, 2, 3].into();
        {
            let mut replay = open(dir.path(), SMALL);
            assert_eq!(replay.next_missing()[&RUN], 1);
            for &sequence in again {
                let new = rows.insert(sequence);
                let pushed = push(&mut replay, SMALL, sequence);
                assert_eq!(pushed == Pushed::New, new, "{sequence} of {again:?}");
            }
        }
        let has_both = |to: &&u64| to.checked_sub(1).is_some_and(|from| rows.contains(&from));
        let transitions = rows.iter().filter(has_both).count();
        let replay = open(dir.path(), SMALL);
        let statistics = replay.statistics();
        assert_eq!(
            (statistics.rows, replay.len(Which::Online)),
            (rows.len(), transitions),
            "{again:?}"
        );
    }
}

/// What a crash leaves of a segment before its first rows were durable: the store opens, and makes
/// it again.
#[test]
fn a_segment_half_made_is_made_again() {
    for left in [vec![], vec![0; 100], vec![0; 1 << 20]] {
        let dir = tempfile::tempdir().unwrap();
        push(&mut open(dir.path(), LARGE), LARGE, 0);
        let half_made = dir.path().join("segment-00000002.replay");
        fs::write(&half_made, left).unwrap();
        {
            let mut replay = open(dir.path(), LARGE);
            assert!(!half_made.exists());
            (1..90).for_each(|sequence| {
                push(&mut replay, LARGE, sequence);
            });
        }
        assert!(half_made.exists());
        assert_eq!(open(dir.path(), LARGE).len(Which::Online), 89);
    }
}

/// The power fails when a segment's rows are on disk and those of the one before it are not: they
/// come again, and everything is there once.
#[test]
fn a_segment_lost_before_a_kept_one_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut replay = open(dir.path(), LARGE);
        (0..90).for_each(|sequence| {
            push(&mut replay, LARGE, sequence);
        });
    }
    let lost = dir.path().join("segment-00000000.replay");
    let bytes = fs::metadata(&lost).unwrap().len() as usize;
    fs::write(&lost, vec![0; bytes]).unwrap();
    let mut replay = open(dir.path(), LARGE);
    assert_eq!(replay.next_missing()[&RUN], 0);
    let again = (0..90).filter(|&sequence| push(&mut replay, LARGE, sequence) == Pushed::New);
    assert!((1..90).contains(&again.count()));
    drop(replay);
    let replay = open(dir.path(), LARGE);
    assert_eq!(replay.next_missing()[&RUN], 90);
    assert_eq!(
        (replay.statistics().rows, replay.len(Which::Online)),
        (90, 89)
    );
}

/// Rows dropped for their age are not asked for again, and not taken again, also by the next process.
#[test]
fn dropped_rows_stay_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut replay = open(dir.path(), LARGE);
    (0..300).for_each(|sequence| assert_eq!(push(&mut replay, LARGE, sequence), Pushed::New));
    assert!(replay.statistics().rows < 300, "nothing was dropped");
    for _ in 0..2 {
        assert_eq!(replay.next_missing()[&RUN], 300);
        assert_eq!(replay.statistics().entries, 300);
        assert!(replay.row(RUN, 0).is_none());
        assert_eq!(replay.row(RUN, 299).unwrap().key(), (RUN.0, 299));
        assert_eq!(push(&mut replay, LARGE, 0), Pushed::Duplicate);
        drop(replay);
        replay = open(dir.path(), LARGE);
    }
}
