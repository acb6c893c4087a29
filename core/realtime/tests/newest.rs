//! The newest-value cell as it was compiled, on real threads.
#![cfg(not(loom))]

use std::thread;

use hilt_realtime::newest::newest;

const WORDS: usize = 32;

/// A value of several cache lines, every word of which follows from its number.
fn whole(number: u64) -> [u64; WORDS] {
    std::array::from_fn(|i| {
        number
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(i as u32)
    })
}

/// The value's number, with the word that tells it in front.
#[derive(Clone, Copy)]
struct Numbered(u64, [u64; WORDS]);

impl Numbered {
    fn new(number: u64) -> Self {
        Self(number, whole(number))
    }

    fn number(&self) -> u64 {
        assert_eq!(self.1, whole(self.0), "the value {} is torn", self.0);
        self.0
    }
}

#[test]
fn under_load_values_are_whole_and_never_go_back_and_the_last_one_is_seen() {
    const WRITES: u64 = 300_000;
    let (mut writer, mut reader) = newest(Numbered::new(0));
    let writing = thread::spawn(move || {
        for number in 1..=WRITES {
            writer.write(Numbered::new(number));
        }
    });
    let (mut last, mut reads) = (0, 0_u64);
    while !writing.is_finished() {
        let seen = reader.read().number();
        assert!(seen >= last, "{seen} after {last}");
        (last, reads) = (seen, reads + 1);
    }
    writing.join().unwrap();
    assert_eq!(reader.read().number(), WRITES, "after {reads} reads");
}
