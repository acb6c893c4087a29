//! Wills: what a process leaves, at every beat, for a process that outlives it.
//!
//! The two share a memory of words, [`words`] of them, all zero at first. The robot's control
//! thread is the [`Writer`]: each [`beat`](Writer::beat) leaves, per arm, the bytes that make it hold.
//! The supervisor is the [`Reader`]. The writer may stop for ever between any two stores, and the
//! reader must still find a whole beat: there are two pages, a beat fills the one that is not in
//! force, and the count of beats, stored last, puts it in force. It is the heartbeat as well.
//!
//! ```text
//! | beats | taken over | page of even beats            | page of odd beats
//!                      | armed | length, bytes | per arm …
//! ```
//!
//! A beat is plain stores: no lock, no loop, no system call. All of them are atomic, so that a
//! reader beside a living writer reads stale words at worst, never undefined ones, and sees by the
//! count that it has to read again.

use std::ops::Deref;

#[cfg(loom)]
pub use loom::sync::atomic::AtomicU64;
#[cfg(loom)]
use loom::sync::atomic::{Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::{Ordering, fence};

/// The longest will. A model gets through a short one only.
pub const MAX_BYTES: usize = if cfg!(loom) { 8 } else { 128 };

const WORD: usize = size_of::<u64>();
const WILL_WORDS: usize = 1 + MAX_BYTES / WORD;
const BEATS: usize = 0;
const TAKEN_OVER: usize = 1;
const PAGES: usize = 2;

const fn page_words(arms: usize) -> usize {
    1 + arms * WILL_WORDS
}

/// Words of memory that the wills of so many arms need.
pub const fn words(arms: usize) -> usize {
    PAGES + 2 * page_words(arms)
}

fn page(words: &[AtomicU64], beat: u64) -> &[AtomicU64] {
    let (even, odd) = words[PAGES..].split_at((words.len() - PAGES) / 2);
    if beat.is_multiple_of(2) { even } else { odd }
}

/// Why a beat did not count. The wills from before stay in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeatError {
    /// A will is longer than [`MAX_BYTES`].
    #[error(
        "the will of arm {arm} has {bytes} bytes and {MAX_BYTES} fit; its driver must say it shorter"
    )]
    TooLong {
        /// Whose.
        arm: usize,
        /// Its length.
        bytes: usize,
    },
    /// There are more wills than arms in the memory.
    #[error(
        "more wills than the {arms} arms that the supervisor was started with; start it with every bus"
    )]
    TooMany {
        /// The memory's arms.
        arms: usize,
    },
}

/// The robot's end. One per memory.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    beats: u64,
}

impl<M: Deref<Target = [AtomicU64]>> Writer<M> {
    /// Over `memory`, which has [`words`] words, all zero, and no other writer.
    pub fn new(memory: M) -> Self {
        Self { memory, beats: 0 }
    }

    /// Leaves the wills, one per arm and in the order of the buses; an arm beyond them has an empty
    /// one. `armed`: somebody must hold the arms if no other beat follows this one.
    pub fn beat<'a>(
        &mut self,
        armed: bool,
        wills: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), BeatError> {
        self.fill(armed, wills)?;
        self.beats = self.beats.wrapping_add(1);
        self.memory[BEATS].store(self.beats, Ordering::Release);
        Ok(())
    }

    /// Whether the supervisor has taken over: nothing must be written to the buses any more.
    pub fn taken_over(&self) -> bool {
        self.memory[TAKEN_OVER].load(Ordering::Acquire) != 0
    }

    /// Fills the page that is not in force.
    fn fill<'a>(
        &self,
        armed: bool,
        wills: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), BeatError> {
        // Whoever reads one of the words below while it still takes this page for the one in force
        // must see, when it looks again, that the count has gone on.
        fence(Ordering::Release);
        let page = page(&self.memory, self.beats.wrapping_add(1));
        page[0].store(u64::from(armed), Ordering::Relaxed);
        let mut wills = wills.into_iter();
        let slots = page[1..].chunks_exact(WILL_WORDS);
        let arms = slots.len();
        for (arm, slot) in slots.enumerate() {
            let will = wills.next().unwrap_or_default();
            if will.len() > MAX_BYTES {
                let bytes = will.len();
                return Err(BeatError::TooLong { arm, bytes });
            }
            slot[0].store(will.len() as u64, Ordering::Relaxed);
            for (word, bytes) in slot[1..].iter().zip(will.chunks(WORD)) {
                let mut value = [0; WORD];
                value[..bytes.len()].copy_from_slice(bytes);
                word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
            }
        }
        match wills.next() {
            Some(_) => Err(BeatError::TooMany { arms }),
            None => Ok(()),
        }
    }
}

/// The bytes that make one arm hold; empty if it left none.
#[derive(Clone, Copy, Debug)]
pub struct Will {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Will {
    const EMPTY: Self = Self {
        bytes: [0; MAX_BYTES],
        length: 0,
    };

    /// What to write to the arm's bus.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What the last beat left.
#[derive(Clone, Debug)]
pub struct Left {
    /// How many beats there were: stands still when the writer does.
    pub beats: u64,
    /// Whether the arms must be held if no beat follows.
    pub armed: bool,
    /// One per arm.
    pub wills: Vec<Will>,
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
}

impl<M: Deref<Target = [AtomicU64]>> Reader<M> {
    /// Over `memory`, which has [`words`] words.
    pub fn new(memory: M) -> Self {
        Self { memory }
    }

    /// Nothing, with room for what [`Reader::read`] finds.
    pub fn nothing(&self) -> Left {
        let arms = page(&self.memory, 0).len() / WILL_WORDS;
        Left {
            beats: 0,
            armed: false,
            wills: vec![Will::EMPTY; arms],
        }
    }

    /// Reads what the last whole beat left. Reads again when the writer has gone on meanwhile, so it
    /// ends as soon as the writer pauses for the time of one reading.
    pub fn read(&self, left: &mut Left) {
        loop {
            let beats = self.memory[BEATS].load(Ordering::Acquire);
            let page = page(&self.memory, beats);
            left.beats = beats;
            left.armed = page[0].load(Ordering::Relaxed) != 0;
            for (will, slot) in left
                .wills
                .iter_mut()
                .zip(page[1..].chunks_exact(WILL_WORDS))
            {
                let length = slot[0].load(Ordering::Relaxed);
                will.length = usize::try_from(length).map_or(MAX_BYTES, |n| n.min(MAX_BYTES));
                for (bytes, word) in will.bytes.chunks_exact_mut(WORD).zip(&slot[1..]) {
                    bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                }
            }
            fence(Ordering::Acquire);
            if self.memory[BEATS].load(Ordering::Relaxed) == beats {
                return;
            }
        }
    }

    /// Tells the writer that the buses are not its own any more. For good.
    pub fn take_over(&self) {
        self.memory[TAKEN_OVER].store(1, Ordering::Release);
    }

    /// Whether [`Reader::take_over`] was called, on whichever end.
    pub fn taken_over(&self) -> bool {
        self.memory[TAKEN_OVER].load(Ordering::Acquire) != 0
    }
}

#[cfg(test)]
fn memory(arms: usize) -> std::sync::Arc<[AtomicU64]> {
    (0..words(arms)).map(|_| AtomicU64::new(0)).collect()
}

/// A process that is killed is a thread that ends: what it stored is there, the rest is not.
#[cfg(all(test, loom))]
mod models {
    use loom::{model::Builder, thread};

    use super::*;

    /// Every order with at most three switches between the threads where neither has to wait.
    /// Without a bound a model takes longer than anybody waits; with it, each of the orderings and
    /// fences above still fails a model when it is left out.
    fn model(run: impl Fn() + Sync + Send + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(run);
    }

    fn whole(beat: u64) -> (bool, [u8; 8]) {
        (beat % 4 < 2, [beat as u8; 8])
    }

    fn read(reader: &Reader<std::sync::Arc<[AtomicU64]>>) -> u64 {
        let mut left = reader.nothing();
        reader.read(&mut left);
        let (armed, will) = whole(left.beats);
        assert_eq!(left.armed, left.beats > 0 && armed, "of another beat");
        let will = if left.beats > 0 { &will[..] } else { &[] };
        assert_eq!(left.wills[0].bytes(), will, "of another beat");
        left.beats
    }

    #[test]
    fn every_reading_is_one_whole_beat_and_none_goes_back() {
        model(|| {
            let memory = memory(1);
            let mut writer = Writer::new(memory.clone());
            let reader = Reader::new(memory);
            let robot = thread::spawn(move || {
                for beat in 1..=3 {
                    let (armed, will) = whole(beat);
                    writer.beat(armed, [&will[..]]).unwrap();
                }
            });
            let first = read(&reader);
            assert!(read(&reader) >= first);
            robot.join().unwrap();
            assert_eq!(read(&reader), 3);
        });
    }

    #[test]
    fn a_writer_that_dies_in_a_beat_leaves_the_one_before() {
        model(|| {
            let memory = memory(1);
            let mut writer = Writer::new(memory.clone());
            let reader = Reader::new(memory);
            let robot = thread::spawn(move || {
                for beat in 1..=2 {
                    let (armed, will) = whole(beat);
                    writer.beat(armed, [&will[..]]).unwrap();
                }
                let (armed, will) = whole(3);
                writer.fill(armed, [&will[..]]).unwrap();
            });
            assert!(read(&reader) <= 2);
            robot.join().unwrap();
            assert_eq!(read(&reader), 2);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_wills_of_the_last_beat_are_read_back() {
        let memory = memory(2);
        let (mut writer, reader) = (Writer::new(memory.clone()), Reader::new(memory));
        let mut left = reader.nothing();
        reader.read(&mut left);
        assert_eq!((left.beats, left.armed), (0, false));
        assert_eq!(left.wills[1].bytes(), b"");

        let long = [7; MAX_BYTES];
        writer.beat(true, [&long[..], b"hold"]).unwrap();
        reader.read(&mut left);
        assert_eq!((left.beats, left.armed), (1, true));
        assert_eq!(left.wills[0].bytes(), long);
        assert_eq!(left.wills[1].bytes(), b"hold");

        writer.beat(false, [&b"hold!"[..]]).unwrap();
        reader.read(&mut left);
        assert_eq!((left.beats, left.armed), (2, false));
        assert_eq!(left.wills[0].bytes(), b"hold!");
        assert_eq!(left.wills[1].bytes(), b"");
    }

    #[test]
    fn a_beat_that_does_not_fit_leaves_the_one_before() {
        let memory = memory(1);
        let (mut writer, reader) = (Writer::new(memory.clone()), Reader::new(memory));
        writer.beat(true, [&b"hold"[..]]).unwrap();
        assert_eq!(
            writer.beat(true, [&[0; MAX_BYTES + 1][..]]),
            Err(BeatError::TooLong { arm: 0, bytes: 129 })
        );
        assert_eq!(
            writer.beat(true, [&b"one"[..], b"two"]),
            Err(BeatError::TooMany { arms: 1 })
        );
        let mut left = reader.nothing();
        reader.read(&mut left);
        assert_eq!((left.beats, left.wills[0].bytes()), (1, &b"hold"[..]));
    }

    #[test]
    fn a_take_over_is_seen_and_stays() {
        let memory = memory(1);
        let (mut writer, reader) = (Writer::new(memory.clone()), Reader::new(memory));
        assert!(!writer.taken_over() && !reader.taken_over());
        reader.take_over();
        writer.beat(true, []).unwrap();
        assert!(writer.taken_over() && reader.taken_over());
    }

    /// On real threads, with wills of full length.
    #[test]
    fn readings_beside_a_busy_writer_are_whole() {
        let memory = memory(2);
        let mut writer = Writer::new(memory.clone());
        let reader = Reader::new(memory);
        const BEATS: u64 = 200_000;
        let robot = std::thread::spawn(move || {
            for beat in 1..=BEATS {
                let will = [beat as u8; MAX_BYTES];
                let length = beat as usize % MAX_BYTES;
                let wills = [&will[..length], &will[length..]];
                writer.beat(beat.is_multiple_of(2), wills).unwrap();
            }
        });
        let mut left = reader.nothing();
        while left.beats < BEATS {
            let last = left.beats;
            reader.read(&mut left);
            assert!(left.beats >= last);
            if left.beats > 0 {
                let length = left.beats as usize % MAX_BYTES;
                let will = [left.beats as u8; MAX_BYTES];
                assert_eq!(left.armed, left.beats.is_multiple_of(2));
                assert_eq!(left.wills[0].bytes(), &will[..length]);
                assert_eq!(left.wills[1].bytes(), &will[length..]);
            }
        }
        robot.join().unwrap();
    }
}
