//! Any bytes in the place of an archive, or of the arrays in one, give a table or a message, in memory in proportion
//! to them.
#![no_main]

use std::{
    io::{Cursor, Write},
    path::Path,
};

use hilt_recording::table::{Table, npz};
use libfuzzer_sys::fuzz_target;
use zip::{ZipWriter, write::SimpleFileOptions};

const KEYS: [&str; 6] = [
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminals",
    "timeouts",
];
/// Stands between the arrays of an input.
const BETWEEN: &[u8] = b"----";

fn read(bytes: &[u8]) {
    let length = bytes.len() as u64;
    match npz::read_from(Cursor::new(bytes), length, Path::new("log.npz")) {
        Ok(table) => look(&table),
        Err(error) => assert!(error.to_string().starts_with("log.npz: ")),
    }
}

fn look(table: &Table) {
    let rows: usize = table.episodes().map(|episode| episode.len()).sum();
    assert_eq!(rows, table.len());
}

/// Checksums keep a fuzzer from ever changing an array in an archive: here it changes arrays, and the archive is made
/// round them.
fn wrapped(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(vec![]));
    for key in KEYS {
        let end = bytes.windows(BETWEEN.len()).position(|at| at == BETWEEN);
        let (array, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        bytes = rest.strip_prefix(BETWEEN).unwrap_or_default();
        archive
            .start_file(format!("{key}.npy"), SimpleFileOptions::default())
            .ok()?;
        archive.write_all(array).ok()?;
    }
    Some(archive.finish().ok()?.into_inner())
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    if let Some(archive) = wrapped(bytes) {
        read(&archive);
    }
});
