//! Tables in numpy's `.npz` archives, a member per column, with the names of D4RL: `observations`, `actions`,
//! `rewards`, `next_observations`, `terminals`, `timeouts`.
//!
//! Read are also `obs`, `action`, `reward`, `next_obs` and `done` for the first five; stored and deflated members;
//! floats, integers and bools of any size, little-endian; either order of the indices; and columns of \[N, 1\] for
//! \[N\]. Without `timeouts` no row is one, and episodes end where the next row does not continue. Whatever else is
//! in the archive is left alone.
//!
//! Memory is that of the table: what a header says is believed only as far as numbers come.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{
    Columns, Table, TableError,
    npy::{ArrayError, Header},
};
use crate::{beside, pickle::DType};

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
    /// A column is missing.
    #[error("{path}: there is no `{key}`; there are {keys}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Its names.
        key: String,
        /// What there is.
        keys: String,
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
    /// A column has another shape.
    #[error("{path}: `{key}` has shape {got:?}, it needs {wanted}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Which.
        key: String,
        /// Its shape.
        got: Vec<usize>,
        /// What it should be.
        wanted: String,
    },
    /// A number that is neither yes nor no.
    #[error("{path}: `{key}` has {value} in row {row}, it must be 0 or 1")]
    Flag {
        /// The file.
        path: PathBuf,
        /// Which.
        key: String,
        /// Row, from 0.
        row: usize,
        /// What is there.
        value: f64,
    },
    /// The columns are no table.
    #[error("{path}: {cause}")]
    Table {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: TableError,
    },
}

/// Names of a column; the first is the one that is written.
type Names = &'static [&'static str];

const OBSERVATIONS: Names = &["observations", "obs"];
const ACTIONS: Names = &["actions", "action"];
const REWARDS: Names = &["rewards", "reward"];
const NEXT_OBSERVATIONS: Names = &["next_observations", "next_obs"];
const TERMINALS: Names = &["terminals", "done"];
const TIMEOUTS: Names = &["timeouts"];

/// Reads a table.
pub fn read(path: &Path) -> Result<Table, NpzError> {
    let io = |cause| NpzError::Io {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    read_from(BufReader::new(file), bytes, path)
}

/// Reads a table from an archive of so many bytes; `path` is what errors call it.
pub fn read_from(archive: impl Read + Seek, bytes: u64, path: &Path) -> Result<Table, NpzError> {
    let archive = ZipArchive::new(archive).map_err(|cause| NpzError::Archive {
        path: path.to_owned(),
        cause,
    })?;
    let mut reader = Reader {
        archive,
        bytes,
        path,
    };
    let (observations, rows, observation) = reader.matrix(OBSERVATIONS, None, None)?;
    let (actions, _, action) = reader.matrix(ACTIONS, Some(rows), None)?;
    let rewards = reader.vector(REWARDS, rows, |value| value as f32)?;
    let (next_observations, ..) =
        reader.matrix(NEXT_OBSERVATIONS, Some(rows), Some(observation))?;
    let terminals = reader.flags(TERMINALS, rows)?;
    let timeouts = match reader.key(TIMEOUTS) {
        Some(_) => reader.flags(TIMEOUTS, rows)?,
        None => vec![false; rows],
    };
    Table::new(Columns {
        observation,
        action,
        observations,
        actions,
        rewards,
        next_observations,
        terminals,
        timeouts,
    })
    .map_err(|cause| NpzError::Table {
        path: path.to_owned(),
        cause,
    })
}

struct Reader<'a, R> {
    archive: ZipArchive<R>,
    /// Of the archive.
    bytes: u64,
    path: &'a Path,
}

impl<R: Read + Seek> Reader<'_, R> {
    /// The name by which a column is there.
    fn key(&self, names: Names) -> Option<&'static str> {
        let there = |key: &&&str| self.archive.index_for_name(&member(key)).is_some();
        names.iter().find(there).copied()
    }

    /// Reads a column: its name, shape and numbers. `fits` says what is wrong with a shape, before
    /// anything is read.
    fn array<T: Copy>(
        &mut self,
        names: Names,
        fits: impl Fn(&[usize]) -> Result<(), String>,
        one: impl Fn(f64) -> T,
    ) -> Result<(&'static str, Vec<usize>, Vec<T>), NpzError> {
        let path = self.path.to_owned();
        let Some(key) = self.key(names) else {
            let stems = (self.archive.file_names().flatten())
                .map(|name| name.strip_suffix(".npy").unwrap_or(&name).to_owned());
            let mut keys: Vec<String> = stems.collect();
            keys.sort();
            return Err(NpzError::Missing {
                path,
                key: names.join("` or `"),
                keys: keys.join(", "),
            });
        };
        let at = |cause| NpzError::Array {
            path: path.clone(),
            key: key.to_owned(),
            cause,
        };
        let mut file = (self.archive.by_name(&member(key))).map_err(|cause| at(io_error(cause)))?;
        let stored = file.compressed_size().min(self.bytes);
        let (header, before) = Header::read(&mut file).map_err(at)?;
        if let Err(wanted) = fits(&header.shape) {
            return Err(NpzError::Shape {
                path,
                key: key.to_owned(),
                got: header.shape,
                wanted,
            });
        }
        let bytes = file.size().saturating_sub(before);
        let numbers = header.numbers(&mut file, bytes, stored, one).map_err(at)?;
        Ok((key, header.shape, numbers))
    }

    /// Numbers, rows and columns of a column of vectors.
    fn matrix(
        &mut self,
        names: Names,
        rows: Option<usize>,
        columns: Option<usize>,
    ) -> Result<(Vec<f32>, usize, usize), NpzError> {
        let fits = |shape: &[usize]| match *shape {
            [r, c] if rows.is_none_or(|rows| rows == r) && columns.is_none_or(|n| n == c) => Ok(()),
            _ => {
                let size = |size: Option<usize>, unknown: &str| {
                    size.map_or(unknown.to_owned(), |size| size.to_string())
                };
                let (rows, columns) = (size(rows, "rows"), size(columns, "numbers per row"));
                Err(format!("[{rows}, {columns}]"))
            }
        };
        let (_, shape, numbers) = self.array(names, fits, |value| value as f32)?;
        Ok((numbers, shape[0], shape[1]))
    }

    /// A column of single numbers.
    fn vector<T: Copy>(
        &mut self,
        names: Names,
        rows: usize,
        one: impl Fn(f64) -> T,
    ) -> Result<Vec<T>, NpzError> {
        let fits = |shape: &[usize]| match *shape {
            [r] | [r, 1] if r == rows => Ok(()),
            _ => Err(format!("[{rows}]")),
        };
        Ok(self.array(names, fits, one)?.2)
    }

    fn flags(&mut self, names: Names, rows: usize) -> Result<Vec<bool>, NpzError> {
        let values = self.vector(names, rows, |value| value)?;
        match values
            .iter()
            .position(|&value| value != 0.0 && value != 1.0)
        {
            None => Ok(values.iter().map(|&value| value == 1.0).collect()),
            Some(row) => Err(NpzError::Flag {
                path: self.path.to_owned(),
                key: self.key(names).unwrap_or(names[0]).to_owned(),
                row,
                value: values[row],
            }),
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
    let beside = beside(path);
    let written = write_whole(&beside, table).and_then(|()| fs::rename(&beside, path));
    written.map_err(|cause| {
        // Whatever is there of it is of no use; that it cannot be removed either says nothing more.
        let _ = fs::remove_file(&beside);
        NpzError::Io {
            path: path.to_owned(),
            cause,
        }
    })
}

fn write_whole(path: &Path, table: &Table) -> io::Result<()> {
    let columns = table.columns();
    let rows = table.len();
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
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
    let file = archive.finish()?.into_inner().map_err(|e| e.into_error())?;
    file.sync_all()
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
