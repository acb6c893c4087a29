//! A pickle without its large arrays, for files that do not fit into memory.

use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Read, Seek},
};

use sha2::{Digest, Sha256};

use super::{
    PickleError, PickleFault,
    array::{Far, Meaning},
    op,
};

/// Texts and bytes from this length on are left in the file.
const FAR_BYTES: u64 = 1024;
/// An outline that is larger is refused: four million values, with room for each.
pub(super) const MAX_BYTES: usize = 256 << 20;

/// Why there is no outline of a file.
#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no pickle.
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

/// The operations of a pickle, without the bytes of large texts and arrays.
#[derive(Debug)]
pub struct Outline {
    pub(super) bytes: Vec<u8>,
    pub(super) far: Vec<Far>,
    /// The numbers of values that are kept and come again. Python keeps nearly all, and few come again.
    pub(super) recalled: HashSet<usize>,
}

impl Outline {
    /// Goes through a file of `length` bytes from its beginning. What it says of its parts' lengths is believed as
    /// far as there are bytes.
    pub fn of(file: impl Read + Seek, length: u64) -> Result<Self, OutlineError> {
        let mut walk = Walk {
            file: BufReader::new(file),
            left: length,
            at: 0,
            outline: Self {
                bytes: Vec::new(),
                far: Vec::new(),
                recalled: HashSet::new(),
            },
        };
        // The machine will say what is wrong where the walk ends.
        while walk.operation()? {
            if walk.outline.bytes.len() > MAX_BYTES {
                let (at, fault) = (walk.at, PickleFault::Large);
                return Err(PickleError { at, fault }.into());
            }
        }
        Ok(walk.outline)
    }

    /// What tells this file from others: all of it but the large parts, of which it has place and length.
    pub fn identity(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(&self.bytes);
        for far in &self.far {
            hash.update(far.at.to_le_bytes());
            hash.update(far.stored.to_le_bytes());
        }
        hash.finalize().into()
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

struct Walk<R> {
    file: BufReader<R>,
    /// Bytes to come.
    left: u64,
    /// Bytes gone by.
    at: u64,
    outline: Outline,
}

impl<R: Read + Seek> Walk<R> {
    /// Copies so many bytes, or those that there are. Whether all were.
    fn copy(&mut self, count: u64) -> io::Result<bool> {
        let before = self.outline.bytes.len();
        let most = count.min(self.left).min(MAX_BYTES as u64 + 1);
        (&mut self.file)
            .take(most)
            .read_to_end(&mut self.outline.bytes)?;
        let copied = (self.outline.bytes.len() - before) as u64;
        self.went(copied);
        Ok(copied == count)
    }

    fn went(&mut self, count: u64) {
        self.at += count;
        self.left -= count;
    }

    /// One operation with its argument. Whether another may follow.
    fn operation(&mut self) -> io::Result<bool> {
        if !self.copy(1)? {
            return Ok(false);
        }
        let operation = self.outline.bytes.last().copied().unwrap_or(op::STOP);
        match op::argument(operation) {
            op::Argument::Fixed(bytes) => {
                let start = self.outline.bytes.len();
                let whole = self.copy(bytes)?;
                if matches!(operation, op::GET1 | op::GET4) {
                    let number = little_endian(&self.outline.bytes[start..]);
                    self.outline.recalled.extend(usize::try_from(number));
                }
                Ok(whole)
            }
            op::Argument::Counted(width) => self.counted(operation, width),
            op::Argument::Lines => Ok(self.line()? && self.line()?),
            op::Argument::End => {
                // That there is more, if there is.
                self.copy(1)?;
                Ok(false)
            }
        }
    }

    fn line(&mut self) -> io::Result<bool> {
        let most = self.left.min(MAX_BYTES as u64);
        let line = &mut self.outline.bytes;
        let read = (&mut self.file).take(most).read_until(b'\n', line)?;
        let whole = line.last() == Some(&b'\n');
        self.went(read as u64);
        Ok(whole)
    }

    fn counted(&mut self, operation: u8, width: usize) -> io::Result<bool> {
        let start = self.outline.bytes.len();
        if !self.copy(width as u64)? {
            return Ok(false);
        }
        let count = little_endian(&self.outline.bytes[start..]);
        if count < FAR_BYTES || count > self.left {
            return self.copy(count);
        }
        let Ok(length) = usize::try_from(count) else {
            return Ok(false);
        };
        let mut far = Far {
            at: self.at,
            stored: count,
            meaning: Meaning::Bytes,
            length,
            place: self.outline.bytes.len(),
        };
        if op::is_text(operation) {
            let Some(characters) = self.latin_1(count)? else {
                return self.copy(count);
            };
            (far.meaning, far.length) = (Meaning::Text, characters);
        } else {
            self.skip(count)?;
        }
        self.went(count);
        self.outline.far.push(far);
        Ok(true)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(io::Error::other)?;
        self.file.seek_relative(count)
    }

    /// How many characters the next bytes are, all of them below 256: they are gone by then. Else `None`, and they are
    /// still to come.
    fn latin_1(&mut self, count: u64) -> io::Result<Option<usize>> {
        let (mut read, mut characters, mut within) = (0, 0, false);
        while read < count {
            let ahead = self.file.fill_buf()?;
            if ahead.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let most = usize::try_from(count - read).unwrap_or(usize::MAX);
            let ahead = &ahead[..ahead.len().min(most)];
            let fine = ahead.iter().all(|&byte| {
                let (fits, goes_on) = match byte {
                    0..=0x7f => (!within, false),
                    0x80..=0xbf => (within, false),
                    0xc2 | 0xc3 => (!within, true),
                    _ => (false, false),
                };
                characters += usize::from(fits && !within);
                within = goes_on;
                fits
            });
            if !fine {
                let back = i64::try_from(read).map_err(io::Error::other)?;
                self.file.seek_relative(-back)?;
                return Ok(None);
            }
            let length = ahead.len();
            self.file.consume(length);
            read += length as u64;
        }
        if within {
            let back = i64::try_from(read).map_err(io::Error::other)?;
            self.file.seek_relative(-back)?;
            return Ok(None);
        }
        Ok(Some(characters))
    }
}
