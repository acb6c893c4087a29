//! A pickle with any bytes in it gives values or a message, in memory in proportion to them.
#![no_main]

use hilt_recording::pickle::{Pickle, Value};
use libfuzzer_sys::fuzz_target;

/// Values may contain themselves: so deep, and no deeper.
const DEPTH: usize = 4;
/// One list may stand in another a million times: so many of each.
const BREADTH: usize = 4;

fn look(value: Value<'_, '_>, depth: usize) {
    assert!(!value.describe().is_empty());
    if let Some(array) = value.array() {
        let numbers: usize = array.shape().iter().product();
        assert_eq!(array.row_major().len() % numbers.max(1), 0);
        if let Some(floats) = array.floats() {
            assert_eq!(floats.len(), numbers);
        }
    }
    if depth == 0 {
        return;
    }
    for item in value.items().into_iter().flatten().take(BREADTH) {
        look(item, depth - 1);
    }
    for (_, item) in value.entries().into_iter().flatten().take(BREADTH) {
        look(item, depth - 1);
    }
}

fuzz_target!(|bytes: &[u8]| {
    match Pickle::read(bytes) {
        Ok(pickle) => look(pickle.root(), DEPTH),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
