//! Any bytes in the place of an HDF5 file, and a file of h5py's with some bytes changed, give a table or a message, in
//! memory in proportion to them.
#![no_main]

use std::path::Path;

use hilt_recording::table::hdf5;
use libfuzzer_sys::fuzz_target;

/// Chunked, deflated and contiguous data sets of 24 rows, in a file without checksums.
const FILE: &[u8] = include_bytes!("../../core/recording/tests/fixtures/d4rl_packed.h5");

fn read(bytes: Vec<u8>) {
    match hdf5::read_from(bytes, Path::new("log.h5")) {
        Ok(table) => {
            let rows: usize = table.episodes().map(|episode| episode.len()).sum();
            assert_eq!(rows, table.len());
        }
        Err(error) => assert!(error.to_string().starts_with("log.h5: ")),
    }
}

/// The file with changes of three bytes each: where, and to what.
fn changed(changes: &[u8]) -> Vec<u8> {
    let mut file = FILE.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        file[at % FILE.len()] = change[2];
    }
    file
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    read(changed(bytes));
});
