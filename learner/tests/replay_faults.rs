//! The replay when the disk is full and when its process is killed.
//!
//! Each test runs itself again as a child, which finds the store's folder in its environment.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hilt_learner::replay::{
    HostBatch, Identity, Layout, Replay, Row, RowFlags, SegmentError, Which,
};
use hilt_protocol::{RunId, noise::Uniforms};

const LAYOUT: Layout = Layout {
    cameras: 2,
    frame_bytes: 64 << 10,
    copies: 1,
    proprio: 1,
    action: 1,
};
const ME: Identity = [7; 64];
const EPISODE_ROWS: u64 = 10;
const FOLDER: &str = "HILT_TEST_REPLAY";

fn open(dir: &Path) -> Replay {
    Replay::open(dir, LAYOUT, ME, 1_000_000).unwrap()
}

/// Row `sequence`: everything in it follows from the number.
fn push(replay: &mut Replay, sequence: u64) -> Result<(), SegmentError> {
    let frame = vec![sequence as u8; LAYOUT.frame_bytes];
    let row = Row {
        run: RunId(1),
        sequence,
        episode: sequence / EPISODE_ROWS,
        flags: RowFlags {
            reset: sequence.is_multiple_of(EPISODE_ROWS),
            ..RowFlags::default()
        },
        reward: sequence as f32,
        grasp_penalty: 0.0,
        action: &[sequence as f32],
        proprio: &[sequence as f32],
        frames: &[&frame, &frame],
    };
    replay.push(&row).map(|_| ())
}

/// The folder, in the child.
fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// Transitions of the rows 0..`rows`.
fn transitions(rows: u64) -> usize {
    (0..rows)
        .filter(|sequence| !sequence.is_multiple_of(EPISODE_ROWS))
        .count()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.file_name().unwrap() != "lock")
        .collect()
}

/// A file that may not grow to a segment's size stands for the full disk: both refuse the blocks.
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    if let Some(dir) = folder() {
        let mut replay = open(&dir);
        let SegmentError::Io { path, bytes, .. } = push(&mut replay, 0).unwrap_err() else {
            panic!("a full disk is an error of the file system")
        };
        let message = push(&mut replay, 0).unwrap_err().to_string();
        assert!(path.starts_with(&dir), "{}", path.display());
        assert!(bytes > LAYOUT.row_bytes() as u64);
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains(&format!("{bytes} bytes")), "{message}");
        assert!(message.contains("free some space"), "{message}");
        assert_eq!(replay.statistics().rows, 0);
        assert_eq!(segments(&dir), Vec::<PathBuf>::new());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The shell sets the limit, and ignores the signal that comes with the refusal, before it
    // becomes the child.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_named_and_loses_nothing"])
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    // There is room again: the same folder goes on.
    let mut replay = open(dir.path());
    push(&mut replay, 0).unwrap();
    assert_eq!(replay.statistics().rows, 1);
}

/// Every row that was durable before the kill is there, whole, and the store goes on behind them.
#[test]
fn a_killed_learner_loses_nothing_durable() {
    if let Some(dir) = folder() {
        let mut replay = open(&dir);
        for sequence in 0.. {
            push(&mut replay, sequence).unwrap();
            if sequence % 7 == 6 {
                replay.sync().unwrap();
                println!("\ndurable {sequence}");
            }
        }
    }
    // Within the first segment, and after several have been filled.
    for wanted in [20, 400] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_killed_learner_loses_nothing_durable"])
            .arg("--nocapture")
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let durable = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok())
            .find(|&sequence| sequence >= wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        let durable = durable.expect("the child ended before it was killed");

        let mut replay = open(dir.path());
        let next = replay.next_missing()[&RunId(1)];
        assert!(next > durable, "{durable} was durable, {next} is missing");
        let statistics = replay.statistics();
        assert_eq!(statistics.rows as u64, next);
        assert_eq!(statistics.online, transitions(next));
        assert!(wanted < 100 || segments(dir.path()).len() > 1);

        let mut batch = HostBatch::new(LAYOUT, 128);
        assert!(replay.sample(Which::Online, 0..128, &mut Uniforms::new(1), &mut batch));
        for (i, &reward) in batch.rewards().iter().enumerate() {
            assert_eq!(batch.next_proprio()[i], reward);
            assert_eq!(batch.proprio()[i], reward - 1.0);
            let frame = i * LAYOUT.frame_bytes..(i + 1) * LAYOUT.frame_bytes;
            let want = (reward as u64 - 1) as u8;
            assert!(batch.frames(1)[frame].iter().all(|&byte| byte == want));
        }
        push(&mut replay, next).unwrap();
        assert_eq!(replay.statistics().online, transitions(next + 1));
    }
}
