//! To read a long recording takes no more memory than a short one, in whatever form it is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use hilt_protocol::{Entry, RunId};
use hilt_recording::{
    Data, Recording, RunWriter,
    convert::{Format, convert},
};

#[path = "support/ffmpeg.rs"]
mod ffmpeg;
#[path = "support/rig.rs"]
mod rig;

use rig::{End, spec};

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

/// A run of such entries, in a new folder.
fn run(dir: &Path, entries: &[Entry]) -> PathBuf {
    let run = dir.join("run");
    let mut writer = RunWriter::create(&run, RunId(7), &spec(), BTreeMap::new()).unwrap();
    for entry in entries {
        writer.append(entry).unwrap();
        // As the robot does: what is read at once is what was written at once.
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    run
}

/// The most that is held at once, bytes, while all of it is opened and read.
fn most(path: &Path, entries: usize) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let recording = Recording::open(path, Some(&spec())).unwrap();
    let read = recording.entries().map(Result::unwrap).count();
    assert_eq!(read, entries, "{}", path.display());
    MOST.load(Ordering::Relaxed) - before
}

#[test]
fn reading_needs_the_memory_of_some_frames_however_many_there_are() {
    if !ffmpeg::has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lengths = [[60, 40], [300, 200]];
    let mut sizes = vec![];
    for (lengths, name) in lengths.into_iter().zip(["short", "long"]) {
        let place = dir.path().join(name);
        let [first, last] = lengths;
        let episodes = [(first, End::Terminated), (last, End::Open)];
        let entries = rig::entries(&spec(), &episodes);
        let count = entries.len();
        let run = run(&place, &entries);
        drop(entries);
        let data = Data::open(&run, None).unwrap();
        let forms = [(Format::LeRobot, "lerobot"), (Format::HilSerl, "demos.pkl")];
        let mut paths = vec![run];
        for (format, file) in forms {
            paths.push(place.join(file));
            convert(&data, &place.join(file), format, "lift", |_| true).unwrap();
        }
        let of_all: Vec<usize> = paths.iter().map(|path| most(path, count)).collect();
        sizes.push(of_all);
    }
    let frame: usize = spec()
        .cameras
        .iter()
        .map(|camera| (camera.height * camera.width * 3) as usize)
        .sum();
    println!("run, LeRobot, HIL-SERL: {sizes:?} bytes; a frame is {frame}");
    // How much more 400 more frames may need: nothing; as many decoded ones as may wait, by how the threads happen to
    // run; the numbers of a pickle's rows, which are one list.
    let more = [frame, 40 * frame, 400 * (4 << 10)];
    for (form, more) in more.into_iter().enumerate() {
        let [short, long] = [sizes[0][form], sizes[1][form]];
        assert!(long < short + more, "{form}: {long} after {short} bytes");
    }
}
