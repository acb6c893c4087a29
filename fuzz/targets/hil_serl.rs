//! A file with any bytes in it gives entries, a table or a message, in memory in proportion to it; and is the same
//! read at once or as an outline.
#![no_main]

use std::{io::Cursor, path::Path};

use hilt_protocol::Record;
use hilt_recording::{
    hil_serl::{self, Opened},
    pickle::{Outline, OutlineError, Pickle},
};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8]) {
    let length = bytes.len() as u64;
    match hil_serl::read_from(Cursor::new(bytes), length, Path::new("demos.pkl"), None) {
        Ok(Opened::Rig((spec, entries))) => {
            let mut before = None;
            for entry in entries {
                let Ok(entry) = entry else { return };
                let seen = entry.observation();
                assert_eq!(seen.proprio.len(), spec.proprio_dim());
                for (image, camera) in seen.images.iter().zip(&spec.cameras) {
                    let bytes = camera.height as usize * camera.width as usize * 3;
                    assert_eq!(image.rgb.len(), bytes);
                }
                if let Record::Step(step) = &entry.record {
                    assert_eq!(step.action.len(), spec.action_dim());
                    assert!(step.action.iter().all(|number| number.is_finite()));
                }
                assert_eq!(entry.sequence, before.map_or(0, |before: u64| before + 1));
                before = Some(entry.sequence);
            }
        }
        Ok(Opened::Table(table)) => assert!(table.len() > 0),
        Err(error) => assert!(error.to_string().starts_with("demos.pkl")),
    }
}

/// An outline says of a file what the file says of itself, but for what it leaves there.
fn compare(bytes: &[u8]) {
    let whole = Pickle::read(bytes);
    let outline = match Outline::of(Cursor::new(bytes), bytes.len() as u64) {
        Ok(outline) => outline,
        Err(OutlineError::Pickle(_)) => return,
        Err(OutlineError::Io(error)) => panic!("{error}"),
    };
    match (whole, Pickle::of_outline(&outline)) {
        (Ok(whole), Ok(read)) => assert_eq!(whole.root().describe(), read.root().describe()),
        (whole, read) => assert_eq!(whole.err(), read.err()),
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // Long texts are names of nothing in an outline.
    if bytes.len() < 1024 {
        compare(bytes);
    }
});
