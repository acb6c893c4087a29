//! A newest-value cell: one writer, one reader, neither ever waits.
//!
//! Three slots (the *triple buffer*): the writer fills one that nobody else sees and exchanges it
//! for the middle one; the reader exchanges its own for the middle one when that is newer. Values
//! that nobody read in time are overwritten: that is what "newest" means.
//!
//! Under `--cfg loom` the tests are models: loom runs a writer and a reader through every order in
//! which the memory model lets them meet, and fails when both are in one slot. What it cannot show:
//! more threads or writes than the models have; what the compiler makes of the copies, which it
//! takes for one access each; and that neither side waits, which the code shows: one exchange, no
//! loop. `tests/newest.rs` runs the compiled cell on real threads.

use crate::sync::{Arc, AtomicU8, Ordering, UnsafeCell};

/// Set beside the middle slot's index when its value has not been read.
const NEW: u8 = 4;
const INDEX: u8 = 3;

struct Slots<T> {
    slots: [UnsafeCell<T>; 3],
    middle: AtomicU8,
}

// SAFETY: every slot belongs to exactly one of writer, reader and the middle at any time; it changes
// hands by an atomic exchange with acquire and release, so no two threads touch one at once.
unsafe impl<T: Send> Sync for Slots<T> {}

/// Where the newest value is put.
pub struct Writer<T> {
    shared: Arc<Slots<T>>,
    own: u8,
}

/// Where the newest value is taken.
pub struct Reader<T> {
    shared: Arc<Slots<T>>,
    own: u8,
}

/// A cell that holds `value`.
pub fn newest<T: Copy + Send>(value: T) -> (Writer<T>, Reader<T>) {
    let shared = Arc::new(Slots {
        slots: std::array::from_fn(|_| UnsafeCell::new(value)),
        middle: AtomicU8::new(1),
    });
    let writer = Writer {
        shared: Arc::clone(&shared),
        own: 0,
    };
    (writer, Reader { shared, own: 2 })
}

impl<T: Copy + Send> Writer<T> {
    /// Makes `value` the newest.
    pub fn write(&mut self, value: T) {
        self.shared.slots[usize::from(self.own)].with_mut(|slot| {
            // SAFETY: the slot `own` is this writer's alone until the exchange below.
            unsafe { *slot = value }
        });
        let old = self.shared.middle.swap(self.own | NEW, Ordering::AcqRel);
        self.own = old & INDEX;
    }
}

impl<T: Copy + Send> Reader<T> {
    /// The newest value; the same one again when there is no newer.
    pub fn read(&mut self) -> T {
        if self.shared.middle.load(Ordering::Relaxed) & NEW != 0 {
            let old = self.shared.middle.swap(self.own, Ordering::AcqRel);
            self.own = old & INDEX;
        }
        self.shared.slots[usize::from(self.own)].with(|slot| {
            // SAFETY: the slot `own` is this reader's alone since the exchange that gave it.
            unsafe { *slot }
        })
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_reader_sees_the_newest_value_and_keeps_it() {
        let (mut writer, mut reader) = newest(0);
        assert_eq!(reader.read(), 0);
        writer.write(1);
        writer.write(2);
        assert_eq!((reader.read(), reader.read()), (2, 2));
        writer.write(3);
        assert_eq!(reader.read(), 3);
    }
}
