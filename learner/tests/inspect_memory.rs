//! `hilt-learner inspect`, and demonstrations that are imitated, need no more memory for a long recording than for a short one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hilt_learner::{
    dataset::{Demonstrations, LabelledFrames, each_demonstration, open_recording},
    frames::Frames,
    inspect::gather::Gather,
    stopped::Stopped,
};
use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::RunWriter;

/// One test at a time: what others hold counts too.
static ALONE: Mutex<()> = Mutex::new(());

/// Counts what is held, and the most that ever was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's allocator; counting touches no memory of others.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's layout, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: it came from the same allocator by the same layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SIDE: u32 = 64;

fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::SingleArmFixedGripper,
        controlled_axes: vec![Axis::X],
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: SIDE,
            width: SIDE,
        }],
        proprio: vec!["x".into()],
        policy_hz: 10,
    }
}

fn entry(sequence: u64, length: u64) -> Entry {
    let (episode, index) = (sequence / length, (sequence % length) as u32);
    let observation = Observation {
        captured_ns: sequence * 100_000_000,
        proprio: vec![sequence as f32],
        images: vec![Image {
            captured_ns: sequence,
            height: SIDE,
            width: SIDE,
            rgb: vec![sequence as u8; (SIDE * SIDE * 3) as usize].into(),
        }],
    };
    let record = match index {
        0 => Record::Reset(observation),
        _ => Record::Step(Step {
            action: vec![(sequence as f32).sin()],
            source: ActionSource::Policy,
            reward: 0.1,
            grasp_penalty: 0.0,
            terminated: false,
            truncated: u64::from(index) == length - 1,
            label: None,
            policy_version: 0,
            noise_seed: 0,
            next: observation,
        }),
    };
    Entry {
        run: RunId(1),
        sequence,
        episode,
        index,
        record,
    }
}

/// The most that is held at once, bytes, while so many entries of episodes of this length are looked at.
fn most(entries: u64, length: u64) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut gather = Gather::recording("data".into(), &spec(), true);
    (0..entries).for_each(|sequence| gather.entry(entry(sequence, length)));
    let (figures, drawn) = gather.finish();
    assert_eq!(figures.episodes.len() as u64, entries / length);
    assert_eq!(drawn.films.len(), 3);
    MOST.load(Ordering::Relaxed) - before
}

#[test]
fn memory_does_not_grow_with_steps() {
    let _alone = ALONE.lock().unwrap();
    let frame = (SIDE * SIDE * 3) as usize;
    let short = most(3000, 100);
    let long = most(30_000, 100);
    // Its frames alone are 360 MB; a line per episode is what grows.
    let episodes = 300 * 400;
    assert!(long < short + episodes, "{long} after {short} bytes");
    // Frames of three episodes and the one under way, and the table in which periods are counted.
    assert!(short < 200 * frame + 4_000_000, "{short}");
    // Long episodes are as many frames.
    let stretched = most(30_000, 10_000);
    assert!(
        stretched < short + episodes,
        "{stretched} after {short} bytes"
    );
}

/// A run of so many entries, written as they come.
fn write_run(dir: &Path, entries: u64) {
    let mut writer = RunWriter::create(dir, RunId(1), &spec(), BTreeMap::new()).unwrap();
    for sequence in 0..entries {
        writer.append(&entry(sequence, 100)).unwrap();
        if sequence % 20 == 0 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap();
}

/// The most that is held at once, bytes, while so many entries are read to be imitated.
fn most_of_demonstrations(dir: &Path, entries: u64) -> usize {
    write_run(dir, entries);
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let stop = AtomicBool::new(false);
    let until = (&stop, "all was read");
    let recording = open_recording(dir, None, until).unwrap();
    let mut demonstrations = Demonstrations::of(recording.spec());
    let mut frames = Frames::begin(dir, &recording.spec().cameras).unwrap();
    let mut labelled = LabelledFrames::default();
    each_demonstration(&recording, until, |entry| {
        labelled.take(entry);
        if let Some(seen) = demonstrations.take(entry) {
            frames.push(&seen.images)?;
        }
        Ok(())
    })
    .unwrap();
    let samples = entries - entries / 100;
    assert_eq!(
        (demonstrations.len() as u64, frames.len()),
        (samples, samples)
    );
    assert_eq!(labelled.len(), 0);
    // The last but one is what the last step began with.
    let drawn = frames.of(&[samples as i64 - 1]).unwrap();
    let level = i64::from((entries - 2) as u8);
    assert_eq!(drawn[0].get(0).max().int64_value(&[]), level);
    MOST.load(Ordering::Relaxed) - before
}

#[test]
fn demonstrations_are_read_in_the_memory_of_their_numbers_and_until_somebody_ends_it() {
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let short = most_of_demonstrations(&dir.path().join("short"), 500);
    let long = most_of_demonstrations(&dir.path().join("long"), 5000);
    let frame = (SIDE * SIDE * 3) as usize;
    // 4500 frames more are 55 MB; of each step its few numbers stay.
    assert!(
        long < short + 40 * frame + 4500 * 200,
        "{long} after {short} bytes"
    );

    let stop = AtomicBool::new(false);
    let recording = open_recording(&dir.path().join("long"), None, (&stop, "")).unwrap();
    let mut read = 0;
    let ended = each_demonstration(&recording, (&stop, "all was read"), |_| {
        read += 1;
        stop.store(read == 3, Ordering::Relaxed);
        Ok(())
    });
    assert_eq!(read, 3);
    assert!(matches!(
        ended.unwrap_err().downcast::<Stopped>().unwrap(),
        Stopped::Before("all was read")
    ));
    let pickles = open_recording(Path::new("nowhere"), None, (&stop, "all was read"));
    assert!(pickles.unwrap_err().downcast::<Stopped>().is_ok());
}
