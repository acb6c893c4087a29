//! Any bytes in the place of a dataset's rows, of a page of them, or of its description, give a table or a message, in
//! memory in proportion to them.
#![no_main]

use std::{path::Path, sync::Once};

use hilt_recording::lerobot::read_from;
use libfuzzer_sys::fuzz_target;

/// Numbers of every kind that is read.
const DESCRIPTION: &[u8] = br#"{"codebase_version": "v3.0", "fps": 10, "total_episodes": 1, "features": {
    "action": {"dtype": "float32", "shape": [2]},
    "observation.state": {"dtype": "float64", "shape": [1]},
    "next.reward": {"dtype": "float32", "shape": [1]},
    "next.done": {"dtype": "bool", "shape": [1]}}}"#;
/// Two rows of it, as `pyarrow` writes them.
const ROWS: &[u8] = include_bytes!("../seeds/lerobot.parquet");

fn read(description: &[u8], rows: &[u8]) {
    match read_from(description, rows.to_vec(), Path::new("rows")) {
        Ok(table) => assert!(table.len() > 0),
        Err(error) => assert!(error.to_string().starts_with("rows: ")),
    }
}

/// A place in the rows, and what is there instead: no fuzzer finds a footer that fits from nothing.
fn changed(input: &[u8]) -> Option<Vec<u8>> {
    let (place, with) = input.split_first_chunk::<2>()?;
    let mut rows = ROWS.to_vec();
    let at = usize::from(u16::from_le_bytes(*place)) % rows.len();
    for (old, new) in rows[at..].iter_mut().zip(with) {
        *old = *new;
    }
    Some(rows)
}

/// `parquet` panics over some broken pages, which is caught and becomes a message. The fuzzer's own hook would end
/// the process before; what nobody catches ends it anyway.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    read(DESCRIPTION, bytes);
    read(bytes, ROWS);
    if let Some(rows) = changed(bytes) {
        read(DESCRIPTION, &rows);
    }
});
