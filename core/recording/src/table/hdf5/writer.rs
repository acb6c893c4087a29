//! The HDF5 file that a table becomes, as the library writes by default: superblock 0, one group with a symbol table,
//! version 1 object headers, contiguous data (HDF5 File Format Specification 3.0, II.A, III.A–D, IV.A).

use std::{
    io::{self, Write},
    path::Path,
};

use super::{
    super::{
        Columns, Table,
        named::{ACTIONS, NEXT_OBSERVATIONS, OBSERVATIONS, REWARDS, TERMINALS, TIMEOUTS},
    },
    Hdf5Error,
};
use crate::whole::{not_written, whole};

/// There is nothing at this address.
const NOWHERE: u64 = u64::MAX;
/// Links that a node of the symbol table has at most, half of them.
const LEAF_HALF: u16 = 4;
/// Children that a node of the B-tree has at most, half of them.
const NODE_HALF: u16 = 16;
const SUPERBLOCK: u64 = 96;
const TREE: u64 = 24 + (4 * NODE_HALF as u64 + 1) * 8;
const HEAP: u64 = 32;
const SYMBOLS: u64 = 8 + 2 * LEAF_HALF as u64 * 40;
/// Of an object header, without messages.
const HEADER: usize = 16;

/// Writes a table as h5py would: beside its place, then renamed into it.
pub fn write(path: &Path, table: &Table) -> Result<(), Hdf5Error> {
    save(path, table, &|| true)
}

/// [`write()`], unless `go_on` says no.
pub(crate) fn save(path: &Path, table: &Table, go_on: &dyn Fn() -> bool) -> Result<(), Hdf5Error> {
    whole(path, go_on, Hdf5Error::from, |file| {
        Ok(write_to(file, table).map_err(not_written(path))?)
    })
}

/// A data set.
struct Set<'a> {
    name: &'static str,
    shape: Vec<u64>,
    numbers: Numbers<'a>,
}

enum Numbers<'a> {
    Floats(&'a [f32]),
    Bools(&'a [bool]),
}

impl Numbers<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Floats(numbers) => 4 * numbers.len() as u64,
            Self::Bools(flags) => flags.len() as u64,
        }
    }
}

/// The data sets in the order of their names, which a symbol table has.
fn sets(columns: &Columns) -> Vec<Set<'_>> {
    let rows = columns.rewards.len() as u64;
    let wide = |name, numbers, width: usize| Set {
        name,
        shape: vec![rows, width as u64],
        numbers: Numbers::Floats(numbers),
    };
    let flags = |name, flags| Set {
        name,
        shape: vec![rows],
        numbers: Numbers::Bools(flags),
    };
    let (observation, action) = (columns.observation, columns.action);
    let mut sets = vec![
        wide(OBSERVATIONS[0], &columns.observations, observation),
        wide(ACTIONS[0], &columns.actions, action),
        Set {
            name: REWARDS[0],
            shape: vec![rows],
            numbers: Numbers::Floats(&columns.rewards),
        },
        wide(
            NEXT_OBSERVATIONS[0],
            &columns.next_observations,
            observation,
        ),
        flags(TERMINALS[0], &columns.terminals),
        flags(TIMEOUTS[0], &columns.timeouts),
    ];
    sets.sort_by_key(|set| set.name);
    sets
}

fn write_to(mut file: impl Write, table: &Table) -> io::Result<()> {
    let sets = sets(table.columns());
    file.write_all(&front(&sets))?;
    for set in &sets {
        match set.numbers {
            Numbers::Floats(numbers) => {
                for number in numbers {
                    file.write_all(&number.to_le_bytes())?;
                }
            }
            Numbers::Bools(flags) => {
                for &flag in flags {
                    file.write_all(&[u8::from(flag)])?;
                }
            }
        }
        file.write_all(&vec![0; padding(set.numbers.bytes()) as usize])?;
    }
    Ok(())
}

/// What comes up to the next multiple of 8.
fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(8) - bytes
}

/// Everything before the data.
fn front(sets: &[Set<'_>]) -> Vec<u8> {
    // Names in the heap: the empty one first, each ended by a zero and filled up to 8 bytes.
    let mut names = vec![0; 8];
    let mut offsets = vec![];
    for set in sets {
        offsets.push(names.len() as u64);
        names.extend(set.name.as_bytes());
        names.push(0);
        names.resize(names.len().next_multiple_of(8), 0);
    }
    let tree = SUPERBLOCK + (HEADER + 8 + 16) as u64;
    let heap = tree + TREE;
    let symbols = heap + HEAP + names.len() as u64;
    let first = symbols + SYMBOLS;
    // The size of a header does not depend on where its data lies.
    let sizes = sets.iter().map(|set| header(set, 0).len() as u64);
    let mut data = first + sizes.sum::<u64>();
    let (mut headers, mut addresses) = (vec![], vec![]);
    for set in sets {
        addresses.push(first + headers.len() as u64);
        headers.extend(header(set, data));
        data += set.numbers.bytes().next_multiple_of(8);
    }

    let mut bytes = Bytes(vec![]);
    bytes.raw(b"\x89HDF\r\n\x1a\n");
    // Versions of superblock, free space, root group and shared messages; 8 bytes for addresses and for lengths.
    bytes.raw(&[0, 0, 0, 0, 0, 8, 8, 0]);
    bytes.u16(LEAF_HALF).u16(NODE_HALF).u32(0);
    // Base, free space, end of file, driver.
    bytes.u64(0).u64(NOWHERE).u64(data).u64(NOWHERE);
    // The root's link: its header, whose tree and heap are named here too.
    bytes
        .u64(0)
        .u64(SUPERBLOCK)
        .u32(1)
        .u32(0)
        .u64(tree)
        .u64(heap);

    let mut table = Bytes(vec![]);
    table.u64(tree).u64(heap);
    bytes.raw(&object(&[(0x11, table.0)]));

    bytes.raw(b"TREE").raw(&[0, 0]).u16(1);
    bytes.u64(NOWHERE).u64(NOWHERE);
    // All names lie above the empty one, and none above the last.
    let last = offsets.last().copied().unwrap_or_default();
    bytes.u64(0).u64(symbols).u64(last);
    bytes.fill_to(heap);

    // The heap's free list is empty.
    bytes.raw(b"HEAP").u32(0);
    bytes.u64(names.len() as u64).u64(1).u64(heap + HEAP);
    bytes.raw(&names);

    bytes.raw(b"SNOD").raw(&[1, 0]).u16(sets.len() as u16);
    for (offset, address) in offsets.iter().zip(&addresses) {
        bytes.u64(*offset).u64(*address).u64(0).u64(0).u64(0);
    }
    bytes.fill_to(first);
    bytes.raw(&headers);
    bytes.0
}

/// The object header of a data set whose numbers lie at an address.
fn header(set: &Set<'_>, data: u64) -> Vec<u8> {
    let mut space = Bytes(vec![]);
    space.raw(&[1, set.shape.len() as u8, 0, 0]).u32(0);
    for &side in &set.shape {
        space.u64(side);
    }
    let mut datatype = Bytes(vec![]);
    match set.numbers {
        // IEEE, little-endian: where sign, exponent and mantissa lie.
        Numbers::Floats(_) => {
            datatype.raw(&[0x11, 0x20, 31, 0]).u32(4).u16(0).u16(32);
            datatype.raw(&[23, 8, 0, 23]).u32(127);
        }
        // h5py's bool: an enumeration of two signed bytes.
        Numbers::Bools(_) => {
            datatype.raw(&[0x18, 2, 0, 0]).u32(1);
            datatype.raw(&[0x10, 8, 0, 0]).u32(1).u16(0).u16(8);
            datatype.raw(b"FALSE\0\0\0TRUE\0\0\0\0").raw(&[0, 1]);
        }
    }
    // Space is taken late, written if a value is set; the value is the default one.
    let mut fill = Bytes(vec![]);
    fill.raw(&[2, 2, 2, 1]).u32(0);
    let mut layout = Bytes(vec![]);
    layout.raw(&[3, 1]).u64(data).u64(set.numbers.bytes());
    object(&[
        (0x01, space.0),
        (0x03, datatype.0),
        (0x05, fill.0),
        (0x08, layout.0),
    ])
}

/// A version 1 object header of these messages.
fn object(messages: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Bytes(vec![]);
    for (kind, message) in messages {
        let padding = message.len().next_multiple_of(8) - message.len();
        body.u16(*kind).u16((message.len() + padding) as u16).u32(0);
        body.raw(message).raw(&vec![0; padding]);
    }
    let mut bytes = Bytes(vec![]);
    bytes.raw(&[1, 0]).u16(messages.len() as u16).u32(1);
    bytes.u32(body.0.len() as u32).u32(0);
    bytes.raw(&body.0);
    bytes.0
}

/// Bytes, little-endian.
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn fill_to(&mut self, address: u64) {
        self.0.resize(address as usize, 0);
    }
}
