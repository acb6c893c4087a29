//! The cell under loom. A slot that both threads are in, or that one is in before the other's
//! access has become visible to it, ends a model by itself.

use loom::{model, thread};

use super::newest;

/// So many values are written. With the first one the cell has more values than slots.
const WRITES: u64 = 5;

/// A value that shows by itself whether it is whole.
fn whole(number: u64) -> [u64; 2] {
    [number, !number]
}

fn number(value: [u64; 2]) -> u64 {
    assert_eq!(value, whole(value[0]), "torn");
    value[0]
}

#[test]
fn values_are_whole_and_never_go_back_and_the_last_one_is_seen() {
    model(|| {
        let (mut writer, mut reader) = newest(whole(0));
        let thread = thread::spawn(move || {
            for number in 1..=WRITES {
                writer.write(whole(number));
            }
        });
        let mut last = 0;
        for _ in 0..5 {
            let seen = number(reader.read());
            assert!(seen >= last, "{seen} after {last}");
            last = seen;
        }
        thread.join().unwrap();
        assert_eq!(number(reader.read()), WRITES);
        assert_eq!(number(reader.read()), WRITES);
    });
}

#[test]
fn a_reader_that_only_looks_gets_to_the_last_value() {
    model(|| {
        let (mut writer, mut reader) = newest(whole(0));
        let thread = thread::spawn(move || {
            for number in 1..=2 {
                writer.write(whole(number));
            }
        });
        // Were the last value never to be seen, loom would end the model for its length.
        while number(reader.read()) != 2 {
            thread::yield_now();
        }
        thread.join().unwrap();
    });
}

#[test]
fn either_end_may_move_to_another_thread_and_be_dropped_first() {
    model(|| {
        let (mut writer, mut reader) = newest(whole(0));
        writer.write(whole(1));
        let reading = thread::spawn(move || number(reader.read()));
        writer.write(whole(2));
        drop(writer);
        assert!((1..=2).contains(&reading.join().unwrap()));
    });
}
