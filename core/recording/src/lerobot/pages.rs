//! Whether the pages of a Parquet file can be what they say, before anything is made of them.
//!
//! A page begins with a header in Thrift's compact protocol, which says how large the page is once it is
//! uncompressed and how long the texts in the header are. `parquet` believes both, and takes that much memory before it
//! reads; two bytes can say gigabytes. Here only those pass that lie within the file and can come of their bytes.

use std::io::{self, Read};

use parquet::{
    basic::Compression,
    file::{metadata::ColumnChunkMetaData, reader::ChunkReader},
};

/// Snappy makes at most 64 bytes out of 3.
const MOST_OUT_OF_ONE: u64 = 64 / 3 + 1;
/// A page that is one short run may be a little more.
const SPARE_BYTES: u64 = 64;
/// Numbers of a column in one row group: a million rows of 32. Equal ones need no bytes, but all of them memory.
const MOST_VALUES: u64 = 1 << 25;
/// A list needs a byte or so to say that a new one begins, and is no longer than this.
const MOST_OF_A_BYTE: u64 = 4096;
/// A header is tens of bytes, and the extremes of the page, which may be pictures.
const LONGEST_HEADER: u64 = 1 << 24;
/// No header has structures within structures within …
const DEEPEST: u32 = 8;

/// Whether the pages of a column of a row group are as they can be.
pub(super) fn check(file: &impl ChunkReader, chunk: &ColumnChunkMetaData) -> Result<(), String> {
    let first = chunk
        .dictionary_page_offset()
        .map_or(chunk.data_page_offset(), |at| {
            at.min(chunk.data_page_offset())
        });
    let range = u64::try_from(first)
        .ok()
        .zip(u64::try_from(chunk.compressed_size()).ok())
        .and_then(|(first, bytes)| Some(first..first.checked_add(bytes)?))
        .filter(|range| range.end <= file.len());
    let Some(range) = range else {
        return Err("a column lies beyond its end".into());
    };
    let mut at = range.start;
    let mut values = 0u64;
    while at < range.end {
        let read = file.get_read(at).map_err(|e| e.to_string())?;
        let mut header = Header::new(read.take(LONGEST_HEADER.min(range.end - at)));
        header.read().map_err(|_| broken(at, "ends too early"))?;
        let bytes = header.compressed;
        let content = at.saturating_add(header.at);
        let most = match chunk.compression() {
            Compression::UNCOMPRESSED => bytes,
            _ => bytes
                .saturating_mul(MOST_OUT_OF_ONE)
                .saturating_add(SPARE_BYTES),
        };
        if bytes > range.end - content.min(range.end) || header.uncompressed > most {
            return Err(broken(at, "says more bytes than there are"));
        }
        values = values.saturating_add(header.values);
        if values > MOST_VALUES {
            return Err(format!(
                "a row group has more than {MOST_VALUES} numbers in one column"
            ));
        }
        let lists = chunk.column_descr().max_rep_level() > 0;
        if lists && header.values > header.uncompressed.saturating_mul(MOST_OF_A_BYTE) {
            return Err(broken(at, "says more numbers than it can hold"));
        }
        at = content + bytes;
    }
    Ok(())
}

/// Whether a file's footer says no more elements of its schema than it can hold: memory for all is taken at once.
pub(super) fn check_footer(file: &impl ChunkReader) -> Result<(), String> {
    let cut = || "its footer is not whole".to_owned();
    let end = file.len().checked_sub(8).ok_or_else(cut)?;
    let tail = file.get_bytes(end, 8).map_err(|e| e.to_string())?;
    let Some((length, _)) = tail.split_first_chunk::<4>() else {
        return Err(cut());
    };
    let length = u64::from(u32::from_le_bytes(*length));
    let start = end.checked_sub(length).ok_or_else(cut)?;
    let read = file.get_read(start).map_err(|e| e.to_string())?;
    let mut footer = Header::new(read.take(length));
    footer.is_footer = true;
    footer.read().map_err(|_| cut())?;
    match footer.children > length {
        true => Err("its footer says more columns than it can hold".into()),
        false => Ok(()),
    }
}

fn broken(at: u64, what: &str) -> String {
    format!("the page at byte {at} {what}")
}

/// A page's header as far as it matters here.
struct Header<R> {
    from: R,
    /// Bytes so far.
    at: u64,
    uncompressed: u64,
    compressed: u64,
    values: u64,
    /// It is the file's footer, which is made like a header and has lists.
    is_footer: bool,
    /// The most that an element of the schema has.
    children: u64,
}

/// Where in the header's structures (`PageHeader` of parquet.thrift) a number stands: the field of the header, and
/// the field in that if it is a structure.
const UNCOMPRESSED: (i16, i16) = (2, 0);
const COMPRESSED: (i16, i16) = (3, 0);
/// In a footer (`FileMetaData`): of an element of the schema.
const CHILDREN: (i16, i16) = (2, 5);
/// Of a data page, a dictionary and a data page of version 2.
const VALUES: [(i16, i16); 3] = [(5, 1), (7, 1), (8, 1)];

impl<R: Read> Header<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            at: 0,
            uncompressed: 0,
            compressed: 0,
            values: 0,
            is_footer: false,
            children: 0,
        }
    }

    fn read(&mut self) -> io::Result<()> {
        self.structure(0, 0)
    }

    /// Reads a structure; `within` is the header's field that it is (0: the header itself).
    fn structure(&mut self, within: i16, depth: u32) -> io::Result<()> {
        let mut field = 0i16;
        loop {
            let byte = self.byte()?;
            let kind = byte & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            field = match byte >> 4 {
                0 => i16::try_from(unzigzag(self.varint()?)).map_err(|_| nonsense())?,
                delta => field.checked_add(i16::from(delta)).ok_or_else(nonsense)?,
            };
            let place = match (depth, within) {
                (0, _) => (field, 0),
                (1, _) => (within, field),
                _ => (0, 0),
            };
            self.value(kind, place, depth)?;
        }
    }

    fn value(&mut self, kind: u8, place: (i16, i16), depth: u32) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(nonsense());
        }
        match kind {
            // Yes and no are the kind itself.
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => {
                let value = unzigzag(self.varint()?);
                // Below zero it is no size; and `parquet` looks at 32 bits of it, which may be above.
                self.note(place, u64::try_from(value).unwrap_or(u64::MAX));
                Ok(())
            }
            7 => self.skip(8),
            8 => {
                let bytes = self.varint()?;
                self.skip(bytes)
            }
            12 => self.structure(place.0, depth + 1),
            // Lists stand in no page's header; to `parquet`, one that says a billion items is a billion items, where
            // there is not a byte left.
            9 if self.is_footer => {
                let byte = self.byte()?;
                let items = match byte >> 4 {
                    15 => self.varint()?,
                    few => u64::from(few),
                };
                for _ in 0..items {
                    match byte & 0x0f {
                        // In a list they take a byte each.
                        1 | 2 => self.skip(1)?,
                        // None holds lists, and any number could stand in each other.
                        9 => return Err(nonsense()),
                        kind => self.value(kind, (place.0, 0), depth)?,
                    }
                }
                Ok(())
            }
            _ => Err(nonsense()),
        }
    }

    fn note(&mut self, place: (i16, i16), value: u64) {
        match place {
            UNCOMPRESSED => self.uncompressed = value,
            COMPRESSED => self.compressed = value,
            place if VALUES.contains(&place) => self.values = value,
            CHILDREN if self.is_footer => self.children = self.children.max(value),
            _ => {}
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte)?;
        self.at += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(nonsense())
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.from).take(bytes), &mut io::sink())?;
        self.at += skipped;
        if skipped == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Thrift's signs.
fn unzigzag(value: u64) -> i64 {
    // Both halves fit: one bit less, and all ones or none.
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
