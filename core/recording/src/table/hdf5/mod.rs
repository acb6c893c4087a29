//! Tables in HDF5 files, as D4RL keeps its own: a data set per column in the root group, with the names that
//! [`npz`](super::npz) has too. Other groups, as D4RL's `infos` and `metadata`, are left alone.
//!
//! Read are contiguous, compact and chunked data sets with deflate and shuffle, floats, integers and bools (h5py's
//! enumeration) of any size and byte order, with any superblock; what a link leads to in another file is not. Without
//! `next_observations`, as in D4RL's own files, it is the next row's observation.
//!
//! # Why these parts
//!
//! The C library would take a build with cmake of some minutes, and was not written for files that nobody vouches
//! for. `hdf5-reader` is Rust alone, bounds what a file can make it allocate, and knows every index of chunks. What is
//! *written* is so little of the format ([`write()`]: one group, contiguous data) that it is done here, straight
//! from the columns.
//!
//! Memory is that of the table. A file is believed to hold no more than its bytes can: as many where they are stored
//! as they are, 1032 times as many where they are deflated.

mod writer;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hdf5_reader::{
    ByteOrder, Dataset, Datatype, FileStorage, H5Type, Hdf5File, OpenOptions, SliceInfo,
    SliceInfoElem, dtype_element_size, error::Error, group::Group,
};

pub(crate) use self::writer::save;
pub use self::writer::write;
use super::{
    Table,
    named::{self, Arrays, NamedError},
};
use crate::{NotWritten, Opening, pickle::DType};

/// Deflate makes at most so many bytes of one.
const DEFLATED: u64 = 1032;
/// What the index of chunks needs for each, at least.
const INDEXED: u64 = 8;
/// Numbers of a contiguous data set that are read at a time.
const AT_A_TIME: usize = 1 << 16;

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Hdf5Error {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// It is no HDF5 file, or a cut one.
    #[error("{path}: {cause}; it should be a whole HDF5 file: copy it again")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Error,
    },
    /// It is shorter than it says.
    #[error("{path}: it says that it has {wanted} bytes, and has {got}; copy it again")]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        got: u64,
        /// What it says.
        wanted: u64,
    },
    /// A column cannot be read.
    #[error("{path}: `{key}`: {cause}; copy the file again")]
    Array {
        /// The file.
        path: PathBuf,
        /// Which.
        key: String,
        /// Why.
        cause: Error,
    },
    /// Numbers of a kind that is not read.
    #[error(
        "{path}: `{key}`: its type is {dtype}; read are floats, integers and bools: convert it with \
         .astype('float32')"
    )]
    Type {
        /// The file.
        path: PathBuf,
        /// Which.
        key: String,
        /// What it is.
        dtype: String,
    },
    /// Not as much is there as is said.
    #[error(
        "{path}: `{key}`: its header says shape {shape:?}, the file does not hold as much; copy it again"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Which.
        key: String,
        /// The shape.
        shape: Vec<u64>,
    },
    /// Its data sets are no table.
    #[error("{path}: {cause}")]
    Named {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: NamedError,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] NotWritten),
}

/// Reads a table.
pub fn read(path: &Path) -> Result<Table, Hdf5Error> {
    open(path, &Opening::default())
}

pub(crate) fn open(path: &Path, opening: &Opening<'_>) -> Result<Table, Hdf5Error> {
    let io = |cause| Hdf5Error::Io {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let opened = FileStorage::from_file(file)
        .and_then(|storage| Hdf5File::from_storage_with_options(Arc::new(storage), options(bytes)));
    table(opened, bytes, path, opening)
}

/// Reads a table from a file's bytes; `path` is what errors call it.
pub fn read_from(file: Vec<u8>, path: &Path) -> Result<Table, Hdf5Error> {
    let bytes = file.len() as u64;
    let opened = Hdf5File::from_vec_with_options(file, options(bytes));
    table(opened, bytes, path, &Opening::default())
}

/// What a file of so many bytes may ask for. Every chunk is decoded once.
fn options(bytes: u64) -> OpenOptions {
    let most = usize::try_from(bytes.saturating_mul(DEFLATED)).unwrap_or(usize::MAX);
    let options = OpenOptions::default().with_chunk_cache_bytes(0);
    let (chunk, header) = (options.max_chunk_bytes, options.max_object_header_bytes);
    (options.with_max_chunk_bytes(chunk.min(most)))
        .with_max_object_header_bytes(header.min(most))
        .with_max_read_bytes(AT_A_TIME.saturating_mul(16))
}

fn table(
    opened: Result<Hdf5File, Error>,
    bytes: u64,
    path: &Path,
    opening: &Opening<'_>,
) -> Result<Table, Hdf5Error> {
    let whole = |cause| Hdf5Error::File {
        path: path.to_owned(),
        cause,
    };
    let file = opened.map_err(whole)?;
    let end = file.superblock().eof_address;
    if end > bytes {
        return Err(Hdf5Error::Cut {
            path: path.to_owned(),
            got: bytes,
            wanted: end,
        });
    }
    let root = file.root_group().map_err(whole)?;
    let (_, keys) = root.member_names().map_err(whole)?;
    let sets = Sets {
        root,
        keys,
        bytes,
        path,
        go_on: opening.go_on,
    };
    named::table(sets, opening.as_it_is)
}

/// The data sets of the root group.
struct Sets<'a> {
    root: Group,
    keys: Vec<String>,
    /// Of the file.
    bytes: u64,
    path: &'a Path,
    /// Asked before every piece that is read.
    go_on: &'a dyn Fn() -> bool,
}

impl Arrays for Sets<'_> {
    type Error = Hdf5Error;

    fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|there| there == key)
    }

    fn keys(&self) -> Vec<String> {
        self.keys.clone()
    }

    fn array<T: Copy + Default>(
        &mut self,
        key: &'static str,
        fits: impl Fn(&[usize]) -> Result<(), NamedError>,
        one: impl Fn(f64) -> T,
    ) -> Result<(Vec<usize>, Vec<T>), Hdf5Error> {
        let (path, name) = (|| self.path.to_owned(), || key.to_owned());
        let at = |cause| Hdf5Error::Array {
            path: path(),
            key: name(),
            cause,
        };
        let set = self.root.dataset(key).map_err(at)?;
        let size = || Hdf5Error::Size {
            path: path(),
            key: name(),
            shape: set.shape().to_owned(),
        };
        let sides = set.shape().iter().map(|&side| usize::try_from(side));
        let shape: Vec<usize> = sides.collect::<Result<_, _>>().map_err(|_| size())?;
        fits(&shape).map_err(|cause| self.wrong(cause))?;
        let kind = Kind::of(set.dtype()).ok_or_else(|| Hdf5Error::Type {
            path: path(),
            key: name(),
            dtype: describe(set.dtype()),
        })?;
        let count = plausible(&set, kind, self.bytes).ok_or_else(size)?;
        let numbers = match set.chunks() {
            None => stored(&set, count, self.go_on, one).map_err(at)?,
            Some(_) => {
                let (numbers, found) =
                    chunked(&set, kind, &shape, count, self.go_on, one).map_err(at)?;
                if found != count {
                    return Err(size());
                }
                numbers
            }
        };
        match numbers.len() == count {
            true => Ok((shape, numbers)),
            false => Err(size()),
        }
    }

    fn wrong(&self, cause: NamedError) -> Hdf5Error {
        Hdf5Error::Named {
            path: self.path.to_owned(),
            cause,
        }
    }
}

/// How many numbers there are to be, if a file of so many bytes can hold as many.
fn plausible(set: &Dataset, kind: Kind, bytes: u64) -> Option<usize> {
    let sides = set.shape();
    let count = (sides.iter()).try_fold(1u64, |count, &side| count.checked_mul(side))?;
    let size = count.checked_mul(kind.dtype.bytes() as u64)?;
    let most = match set.chunks() {
        None => bytes,
        Some(chunk) => {
            let chunks = (sides.iter().zip(&chunk)).try_fold(1u64, |count, (side, &chunk)| {
                count.checked_mul(side.div_ceil(u64::from(chunk.max(1))))
            })?;
            // A single chunk is in the header.
            if chunks > 1 && chunks.saturating_mul(INDEXED) > bytes {
                return None;
            }
            bytes.saturating_mul(DEFLATED)
        }
    };
    (size <= most).then(|| usize::try_from(count).ok())?
}

/// The numbers of a data set that lies in one piece, some rows at a time.
fn stored<T>(
    set: &Dataset,
    count: usize,
    go_on: &dyn Fn() -> bool,
    one: impl Fn(f64) -> T,
) -> Result<Vec<T>, Error> {
    let mut numbers = Vec::with_capacity(count);
    let (rows, row) = match set.shape() {
        [] => return Ok(numbers),
        [rows, row @ ..] => (*rows, row),
    };
    let width: u64 = row.iter().product();
    let step = (AT_A_TIME as u64 / width.max(1)).max(1);
    let mut start = 0;
    while start < rows {
        ask(go_on)?;
        let end = (start + step).min(rows);
        let mut selections = vec![SliceInfoElem::Slice {
            start,
            end,
            step: 1,
        }];
        selections.extend(row.iter().map(|&side| SliceInfoElem::Slice {
            start: 0,
            end: side,
            step: 1,
        }));
        let block = set.read_slice::<Number>(&SliceInfo { selections })?;
        numbers.extend(block.iter().map(|number| one(number.0)));
        start = end;
    }
    Ok(numbers)
}

/// The numbers of a data set in chunks, and how many of them there were.
fn chunked<T: Copy + Default>(
    set: &Dataset,
    kind: Kind,
    shape: &[usize],
    count: usize,
    go_on: &dyn Fn() -> bool,
    one: impl Fn(f64) -> T,
) -> Result<(Vec<T>, usize), Error> {
    let beyond = || Error::InvalidData("a chunk lies outside the data set".into());
    let size = kind.dtype.bytes();
    let (rows, width) = (shape[0], shape.get(1).copied().unwrap_or(1));
    // Zeros that nobody writes over take no memory yet.
    let (mut numbers, mut found) = (vec![T::default(); count], 0);
    for chunk in set.iter_chunks()? {
        ask(go_on)?;
        let chunk = chunk?;
        let place = |sides: &[u64], axis: usize, missing: usize| match sides.get(axis) {
            Some(&side) => usize::try_from(side).map_err(|_| beyond()),
            None => Ok(missing),
        };
        let (top, left) = (place(chunk.offsets(), 0, 0)?, place(chunk.offsets(), 1, 0)?);
        let (high, wide) = (place(chunk.shape(), 0, 1)?, place(chunk.shape(), 1, 1)?);
        if top >= rows || left >= width || high == 0 || wide == 0 {
            return Err(beyond());
        }
        let (high, inside) = (high.min(rows - top), wide.min(width - left));
        let bytes = chunk.bytes().chunks_exact(wide.saturating_mul(size));
        for (row, bytes) in bytes.take(high).enumerate() {
            let start = (top + row) * width + left;
            let places = &mut numbers[start..start + inside];
            for (place, bytes) in places.iter_mut().zip(bytes.chunks_exact(size)) {
                *place = one(kind.number(bytes));
            }
            found += inside;
        }
    }
    Ok((numbers, found))
}

/// The library reads by itself: it cannot be given a file that asks.
fn ask(go_on: &dyn Fn() -> bool) -> Result<(), Error> {
    match go_on() {
        true => Ok(()),
        false => Err(Error::InvalidData("ended".into())),
    }
}

/// What a number's bytes mean.
#[derive(Clone, Copy, Debug)]
struct Kind {
    dtype: DType,
    order: ByteOrder,
}

impl Kind {
    fn of(datatype: &Datatype) -> Option<Self> {
        let of = |dtype, order: &ByteOrder| {
            Some(Self {
                dtype,
                order: *order,
            })
        };
        match datatype {
            Datatype::FixedPoint {
                size,
                signed,
                byte_order,
            } if matches!(size, 1 | 2 | 4 | 8) => {
                let size = usize::from(*size);
                let dtype = match signed {
                    true => DType::Int(size),
                    false => DType::Unsigned(size),
                };
                of(dtype, byte_order)
            }
            Datatype::FloatingPoint { size, byte_order } if matches!(size, 2 | 4 | 8) => {
                of(DType::Float(usize::from(*size)), byte_order)
            }
            // h5py's bools, of 0 and 1.
            Datatype::Enum { base, .. } => match **base {
                Datatype::FixedPoint { .. } => Self::of(base),
                _ => None,
            },
            // PyTables' bools.
            Datatype::Bitfield {
                size: 1,
                byte_order,
                ..
            } => of(DType::Unsigned(1), byte_order),
            _ => None,
        }
    }

    /// One number from exactly its bytes.
    fn number(self, bytes: &[u8]) -> f64 {
        match self.order {
            ByteOrder::LittleEndian => self.dtype.number(bytes),
            ByteOrder::BigEndian => {
                let mut turned = [0; 8];
                let turned = &mut turned[..bytes.len()];
                turned.copy_from_slice(bytes);
                turned.reverse();
                self.dtype.number(turned)
            }
        }
    }
}

/// Its kind, without what it is made of.
fn describe(datatype: &Datatype) -> String {
    let said = format!("{datatype:?}");
    let end = said.find([' ', '{', '(']).unwrap_or(said.len());
    match dtype_element_size(datatype) {
        Ok(bytes) => format!("{} of {bytes} bytes", &said[..end]),
        Err(_) => said[..end].to_owned(),
    }
}

/// A number of any kind.
#[derive(Clone)]
struct Number(f64);

impl Number {
    fn kind(datatype: &Datatype) -> Result<Kind, Error> {
        Kind::of(datatype).ok_or_else(|| Error::TypeMismatch {
            expected: "a number".into(),
            actual: describe(datatype),
        })
    }
}

impl H5Type for Number {
    fn hdf5_type() -> Datatype {
        f64::hdf5_type()
    }

    fn from_bytes(bytes: &[u8], datatype: &Datatype) -> Result<Self, Error> {
        let kind = Self::kind(datatype)?;
        match bytes.get(..kind.dtype.bytes()) {
            Some(bytes) => Ok(Self(kind.number(bytes))),
            None => Err(Error::InvalidData("half a number".into())),
        }
    }

    fn element_size(datatype: &Datatype) -> usize {
        dtype_element_size(datatype).unwrap_or(1)
    }

    fn decode_vec(
        raw: &[u8],
        datatype: &Datatype,
        count: usize,
    ) -> Option<Result<Vec<Self>, Error>> {
        let kind = Kind::of(datatype)?;
        let bytes = raw.get(..count.checked_mul(kind.dtype.bytes())?)?;
        let numbers = bytes.chunks_exact(kind.dtype.bytes());
        Some(Ok(numbers.map(|bytes| Self(kind.number(bytes))).collect()))
    }
}
