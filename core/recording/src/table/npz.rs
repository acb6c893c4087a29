//! Tables in numpy's `.npz` archives, a member per column, with the names of D4RL: `observations`, `actions`,
//! `rewards`, `next_observations`, `terminals`, `timeouts`.
//!
//! Read are also `obs`, `action`, `reward`, `next_obs` and `done` for the first five; stored and deflated members;
//! floats, integers and bools of any size, little-endian; either order of the indices; and columns of \[N, 1\] for
//! \[N\]. Without `timeouts` no row is one, and episodes end where the next row does not continue. Without
//! `next_observations` it is the next row's observation, as in `d4rl.qlearning_dataset`: rows in which time ran out
//! are left out, and the last one. Whatever else is in the archive is left alone.
//!
//! Memory is that of the table: what a header says is believed only as far as numbers come.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
};

use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{
    Table,
    named::{
        self, ACTIONS, Arrays, NEXT_OBSERVATIONS, NamedError, Names, OBSERVATIONS, REWARDS,
        TERMINALS, TIMEOUTS,
    },
    npy::{ArrayError, Header},
};
use crate::{
    NotWritten, Opening,
    asked::Asked,
    pickle::DType,
    whole::{not_written, whole},
};

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// It is no archive, or a cut one.
    #[error(
        "{path}: {cause}; a .npz file is a whole zip archive: copy it again, or write it with numpy.savez"
    )]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: ZipError,
    },
    /// A column cannot be read.
    #[error("{path}: `{key}`: {cause}")]
    Array {
        /// The file.
        path: PathBuf,
        /// Which.
        key: String,
        /// Why.
        cause: ArrayError,
    },
    /// Its arrays are no table.
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
pub fn read(path: &Path) -> Result<Table, NpzError> {
    open(path, &Opening::default())
}

pub(crate) fn open(path: &Path, opening: &Opening<'_>) -> Result<Table, NpzError> {
    let io = |cause| NpzError::Io {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let file = BufReader::new(Asked::new(file, opening.go_on));
    table(file, bytes, path, opening.as_it_is)
}

/// Reads a table from an archive of so many bytes; `path` is what errors call it.
pub fn read_from(archive: impl Read + Seek, bytes: u64, path: &Path) -> Result<Table, NpzError> {
    table(archive, bytes, path, false)
}

fn table(
    archive: impl Read + Seek,
    bytes: u64,
    path: &Path,
    as_it_is: bool,
) -> Result<Table, NpzError> {
    let archive = ZipArchive::new(archive).map_err(|cause| NpzError::Archive {
        path: path.to_owned(),
        cause,
    })?;
    let archive = Archive {
        archive,
        bytes,
        path,
    };
    named::table(archive, as_it_is)
}

struct Archive<'a, R> {
    archive: ZipArchive<R>,
    /// Of the archive.
    bytes: u64,
    path: &'a Path,
}

impl<R: Read + Seek> Arrays for Archive<'_, R> {
    type Error = NpzError;

    fn has(&self, key: &str) -> bool {
        self.archive.index_for_name(&member(key)).is_some()
    }

    fn keys(&self) -> Vec<String> {
        (self.archive.file_names().flatten())
            .map(|name| name.strip_suffix(".npy").unwrap_or(&name).to_owned())
            .collect()
    }

    fn array<T: Copy + Default>(
        &mut self,
        key: &'static str,
        fits: impl Fn(&[usize]) -> Result<(), NamedError>,
        one: impl Fn(f64) -> T,
    ) -> Result<(Vec<usize>, Vec<T>), NpzError> {
        let path = self.path.to_owned();
        let at = |cause| NpzError::Array {
            path: path.clone(),
            key: key.to_owned(),
            cause,
        };
        let mut file = (self.archive.by_name(&member(key))).map_err(|cause| at(io_error(cause)))?;
        let stored = file.compressed_size().min(self.bytes);
        let (header, before) = Header::read(&mut file).map_err(at)?;
        fits(&header.shape).map_err(|cause| NpzError::Named {
            path: path.clone(),
            cause,
        })?;
        let bytes = file.size().saturating_sub(before);
        let numbers = header.numbers(&mut file, bytes, stored, one).map_err(at)?;
        Ok((header.shape, numbers))
    }

    fn wrong(&self, cause: NamedError) -> NpzError {
        NpzError::Named {
            path: self.path.to_owned(),
            cause,
        }
    }
}

/// The archive's member of a key.
fn member(key: &str) -> String {
    format!("{key}.npy")
}

fn io_error(error: ZipError) -> ArrayError {
    ArrayError::Io(error.into())
}

/// Writes a table as `numpy.savez` would: beside its place, then renamed into it.
pub fn write(path: &Path, table: &Table) -> Result<(), NpzError> {
    save(path, table, &|| true)
}

/// [`write()`], unless `go_on` says no.
pub(crate) fn save(path: &Path, table: &Table, go_on: &dyn Fn() -> bool) -> Result<(), NpzError> {
    whole(path, go_on, NpzError::from, |file| {
        Ok(write_to(file, table).map_err(not_written(path))?)
    })
}

fn write_to(out: impl Write + Seek, table: &Table) -> io::Result<()> {
    let columns = table.columns();
    let rows = table.len();
    let mut archive = ZipWriter::new(out);
    let wide = [
        (OBSERVATIONS, &columns.observations, columns.observation),
        (ACTIONS, &columns.actions, columns.action),
        (
            NEXT_OBSERVATIONS,
            &columns.next_observations,
            columns.observation,
        ),
    ];
    for (names, values, width) in wide {
        let bytes = values.iter().map(|value| value.to_le_bytes());
        write_array(
            &mut archive,
            names,
            DType::Float(4),
            vec![rows, width],
            bytes,
        )?;
    }
    let rewards = columns.rewards.iter().map(|value| value.to_le_bytes());
    write_array(&mut archive, REWARDS, DType::Float(4), vec![rows], rewards)?;
    for (names, flags) in [
        (TERMINALS, &columns.terminals),
        (TIMEOUTS, &columns.timeouts),
    ] {
        let bytes = flags.iter().map(|&flag| [u8::from(flag)]);
        write_array(&mut archive, names, DType::Bool, vec![rows], bytes)?;
    }
    archive.finish()?;
    Ok(())
}

fn write_array<const N: usize>(
    archive: &mut ZipWriter<impl Write + Seek>,
    names: Names,
    dtype: DType,
    shape: Vec<usize>,
    values: impl ExactSizeIterator<Item = [u8; N]>,
) -> io::Result<()> {
    // Deflating floats of measurements saves little.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(values.len() * N > u32::MAX as usize / 2);
    archive.start_file(member(names[0]), options)?;
    let header = Header {
        dtype,
        column_major: false,
        shape,
    };
    header.write(archive)?;
    let mut chunk = Vec::with_capacity(1 << 16);
    for value in values {
        chunk.extend_from_slice(&value);
        if chunk.len() + N > chunk.capacity() {
            archive.write_all(&chunk)?;
            chunk.clear();
        }
    }
    archive.write_all(&chunk)
}
