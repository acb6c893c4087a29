//! Tables as other programs might write them.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Makes the number that is so many from the end of a column of an archive NaN, as no table of ours is.
pub fn break_number(path: &Path, column: &str, from_the_end: usize) {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut members = vec![];
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).unwrap();
        let mut bytes = vec![];
        member.read_to_end(&mut bytes).unwrap();
        members.push((member.name().unwrap().into_owned(), bytes));
    }
    let mut damaged = ZipWriter::new(File::create(path).unwrap());
    for (name, mut bytes) in members {
        if name == format!("{column}.npy") {
            let at = bytes.len() - 4 * from_the_end;
            bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        damaged
            .start_file(name, SimpleFileOptions::default())
            .unwrap();
        damaged.write_all(&bytes).unwrap();
    }
    damaged.finish().unwrap();
}
