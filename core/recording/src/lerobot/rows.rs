//! Rows of a Parquet file, a few at a time, of the columns that are asked for.

use std::{
    fmt::Display,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, ListArray, RecordBatch, StructArray,
    cast::AsArray,
    types::{
        ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{ArrowError, DataType};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
    },
    errors::ParquetError,
    file::reader::ChunkReader,
};

use super::{error::LeRobotError, pages};

/// The rows of a file, in batches. What its headers say is believed only as far as bytes come.
pub(super) struct Rows {
    path: PathBuf,
    /// `None` after an error.
    batches: Option<ParquetRecordBatchReader>,
    /// Rows that were given out.
    read: u64,
    /// Numbers may be NaN or infinite.
    as_it_is: bool,
}

impl Rows {
    /// Numbers may be NaN or infinite, for who looks at them.
    pub fn looked_at(self, as_it_is: bool) -> Self {
        Self { as_it_is, ..self }
    }

    /// Opens a file of Parquet for these columns; a batch has so many rows. `path` is what errors call it.
    pub fn open(
        file: impl ChunkReader + 'static,
        path: &Path,
        columns: &[&str],
        batch: usize,
    ) -> Result<Self, LeRobotError> {
        let broken = |what: String| LeRobotError::Parquet {
            path: path.to_owned(),
            what,
        };
        let file = SharedFile(Arc::new(file));
        let batches = unbroken(|| Self::batches(file, path, columns, batch)).map_err(broken)??;
        Ok(Self {
            path: path.to_owned(),
            batches: Some(batches),
            read: 0,
            as_it_is: false,
        })
    }

    fn batches(
        file: SharedFile<impl ChunkReader + 'static>,
        path: &Path,
        columns: &[&str],
        batch: usize,
    ) -> Result<ParquetRecordBatchReader, LeRobotError> {
        let broken = |what: String| LeRobotError::Parquet {
            path: path.to_owned(),
            what,
        };
        pages::check_footer(&file).map_err(broken)?;
        // Arrow's own description says nothing that is needed here.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options)
            .map_err(|e| broken(e.to_string()))?;
        let schema = builder.parquet_schema();
        let names: Vec<&str> = (schema.root_schema().get_fields().iter())
            .map(|field| field.name())
            .collect();
        let mut roots = vec![];
        for key in columns {
            match names.iter().position(|name| name == key) {
                Some(at) => roots.push(at),
                None => {
                    return Err(LeRobotError::Column {
                        path: path.to_owned(),
                        key: (*key).to_owned(),
                        keys: names.join(", "),
                    });
                }
            }
        }
        let mask = ProjectionMask::roots(schema, roots);
        for group in builder.metadata().row_groups() {
            for (leaf, chunk) in group.columns().iter().enumerate() {
                if mask.leaf_included(leaf) {
                    pages::check(&file, chunk).map_err(&broken)?;
                }
            }
        }
        (builder.with_projection(mask).with_batch_size(batch).build())
            .map_err(|e| broken(e.to_string()))
    }

    /// The next rows.
    pub fn batch(&mut self) -> Result<Option<Batch>, LeRobotError> {
        let Some(batches) = &mut self.batches else {
            return Ok(None);
        };
        let next = unbroken(|| batches.next().transpose());
        let columns = next.and_then(|next| {
            next.map_err(|error| match error {
                ArrowError::ParquetError(what) => what,
                other => other.to_string(),
            })
        });
        let columns = columns.map_err(|what| {
            // It may be in any state.
            self.batches = None;
            LeRobotError::Parquet {
                path: self.path.clone(),
                what: format!("after row {}: {what}", self.read),
            }
        })?;
        let Some(columns) = columns else {
            return Ok(None);
        };
        let first = self.read;
        self.read += columns.num_rows() as u64;
        Ok(Some(Batch {
            path: self.path.clone(),
            first,
            columns,
            as_it_is: self.as_it_is,
        }))
    }

    /// Rows so far.
    pub fn read(&self) -> u64 {
        self.read
    }
}

/// `parquet` and `arrow` panic over some pages that are broken (a definition level too many, say), where they should give
/// an error. Here it becomes one.
fn unbroken<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What was worked on is not used again.
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        format!(
            "a page is broken ({})",
            said.unwrap_or("no reason is known")
        )
    })
}

/// A file that the check and the reader look into.
struct SharedFile<F>(Arc<F>);

impl<F> Clone for SharedFile<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: ChunkReader> parquet::file::reader::Length for SharedFile<F> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<F: ChunkReader> ChunkReader for SharedFile<F> {
    type T = F::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<prost::bytes::Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}

/// Some rows of a file.
pub(super) struct Batch {
    path: PathBuf,
    /// Row of the file that is the first.
    first: u64,
    columns: RecordBatch,
    as_it_is: bool,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.columns.num_rows()
    }

    /// Row of the file.
    pub fn row(&self, at: usize) -> u64 {
        self.first + at as u64
    }

    /// A column of `width` numbers a row, finite ones but for who looks at them, row by row. Of width 1 it may be of single numbers.
    pub fn numbers(&self, key: &str, width: usize) -> Result<Vec<f32>, LeRobotError> {
        // Only doubles and whole numbers beyond 16 million are rounded, as LeRobot's own tensors would.
        let numbers: Vec<f64> = self.wide(key, width)?;
        let bad = numbers.iter().position(|value| !value.is_finite());
        if let (Some(at), false) = (bad, self.as_it_is) {
            let remedy = "leave that episode out, or mend what wrote it";
            return Err(self.value(key, at / width, at % width, numbers[at].to_string(), remedy));
        }
        Ok(numbers.into_iter().map(|value| value as f32).collect())
    }

    /// A column of times or sizes, as exact as they are written.
    pub fn reals(&self, key: &str) -> Result<Vec<f64>, LeRobotError> {
        let numbers = self.wide(key, 1)?;
        match numbers.iter().position(|value| !value.is_finite()) {
            None => Ok(numbers),
            Some(at) => Err(self.value(key, at, 0, numbers[at].to_string(), "mend what wrote it")),
        }
    }

    /// A column of 0 and 1, or no and yes.
    pub fn flags(&self, key: &str) -> Result<Vec<bool>, LeRobotError> {
        let numbers = self.wide(key, 1)?;
        match numbers
            .iter()
            .position(|&value| value != 0.0 && value != 1.0)
        {
            None => Ok(numbers.into_iter().map(|value| value == 1.0).collect()),
            Some(at) => Err(self.value(key, at, 0, numbers[at].to_string(), "it must be 0 or 1")),
        }
    }

    /// A column of 1, 0 and -1: yes, no, nothing said.
    pub fn labels(&self, key: &str) -> Result<Vec<Option<bool>>, LeRobotError> {
        let labels = self.wide(key, 1)?.into_iter().enumerate();
        let label = |(at, value)| match value {
            1.0 => Ok(Some(true)),
            0.0 => Ok(Some(false)),
            -1.0 => Ok(None),
            value => Err(self.value(key, at, 0, f64::to_string(&value), "it must be -1, 0 or 1")),
        };
        labels.map(label).collect()
    }

    /// A column of counts and indices.
    pub fn counts(&self, key: &str) -> Result<Vec<u64>, LeRobotError> {
        let array = self.column(key)?;
        self.no_holes(key, array, 1)?;
        match array.data_type() {
            DataType::Int64 => self.whole::<Int64Type>(key, array),
            DataType::Int32 => self.whole::<Int32Type>(key, array),
            DataType::UInt64 => self.whole::<UInt64Type>(key, array),
            DataType::UInt32 => self.whole::<UInt32Type>(key, array),
            _ => Err(self.kind(key, array, "a whole number")),
        }
    }

    fn whole<T: ArrowPrimitiveType>(
        &self,
        key: &str,
        array: &ArrayRef,
    ) -> Result<Vec<u64>, LeRobotError>
    where
        T::Native: TryInto<u64> + Display,
    {
        let values = array.as_primitive::<T>().values().iter().enumerate();
        let whole = values.map(|(row, &value)| {
            let below = |_| self.value(key, row, 0, value.to_string(), "it must be 0 or more");
            value.try_into().map_err(below)
        });
        whole.collect()
    }

    /// A column of encoded pictures, as `datasets` stores them: a structure with the file's bytes.
    pub fn pictures(&self, key: &str) -> Result<&BinaryArray, LeRobotError> {
        let array = self.column(key)?;
        let bytes = (array.as_any().downcast_ref::<StructArray>())
            .and_then(|fields| fields.column_by_name("bytes"))
            .and_then(|bytes| bytes.as_any().downcast_ref::<BinaryArray>());
        let Some(bytes) = bytes else {
            return Err(self.kind(key, array, "a structure with `bytes`"));
        };
        match (0..bytes.len()).find(|&row| bytes.is_null(row)) {
            None => Ok(bytes),
            Some(row) => Err(LeRobotError::Picture {
                path: self.path.clone(),
                key: key.to_owned(),
                row: self.row(row),
                what: "it is not in the file; write the dataset with embed_images".into(),
            }),
        }
    }

    fn column(&self, key: &str) -> Result<&ArrayRef, LeRobotError> {
        self.columns
            .column_by_name(key)
            .ok_or_else(|| LeRobotError::Column {
                path: self.path.clone(),
                key: key.to_owned(),
                keys: String::new(),
            })
    }

    /// `width` numbers a row.
    fn wide(&self, key: &str, width: usize) -> Result<Vec<f64>, LeRobotError> {
        let array = self.column(key)?;
        let Some(lists) = array.as_any().downcast_ref::<ListArray>() else {
            if width == 1 {
                return self.reals_of(key, array, 1);
            }
            return Err(self.kind(key, array, "a list of numbers"));
        };
        self.no_holes(key, lists, 1)?;
        for row in 0..lists.len() {
            // No end of a list is before its beginning.
            let got = lists.value_length(row).unsigned_abs() as usize;
            if got != width {
                return Err(LeRobotError::Width {
                    path: self.path.clone(),
                    key: key.to_owned(),
                    row: self.row(row),
                    got,
                    wanted: width,
                });
            }
        }
        // All of `width`, so those of the first row are the first.
        let first = lists
            .value_offsets()
            .first()
            .map_or(0, |&at| at.unsigned_abs() as usize);
        let values = lists.values().slice(first, lists.len() * width);
        self.reals_of(key, &values, width)
    }

    fn reals_of(
        &self,
        key: &str,
        array: &ArrayRef,
        width: usize,
    ) -> Result<Vec<f64>, LeRobotError> {
        self.no_holes(key, array, width)?;
        fn of<T: ArrowPrimitiveType>(array: &ArrayRef, one: fn(T::Native) -> f64) -> Vec<f64> {
            array
                .as_primitive::<T>()
                .values()
                .iter()
                .map(|&v| one(v))
                .collect()
        }
        Ok(match array.data_type() {
            DataType::Float32 => of::<Float32Type>(array, f64::from),
            DataType::Float64 => of::<Float64Type>(array, |value| value),
            DataType::Int8 => of::<Int8Type>(array, f64::from),
            DataType::Int16 => of::<Int16Type>(array, f64::from),
            DataType::Int32 => of::<Int32Type>(array, f64::from),
            DataType::Int64 => of::<Int64Type>(array, |value| value as f64),
            DataType::UInt8 => of::<UInt8Type>(array, f64::from),
            DataType::UInt16 => of::<UInt16Type>(array, f64::from),
            DataType::UInt32 => of::<UInt32Type>(array, f64::from),
            DataType::UInt64 => of::<UInt64Type>(array, |value| value as f64),
            DataType::Boolean => {
                let values: &BooleanArray = array.as_boolean();
                (values.values().iter())
                    .map(|value| f64::from(u8::from(value)))
                    .collect()
            }
            _ => return Err(self.kind(key, array, "a number")),
        })
    }

    /// Whether every value is there; `width` of them are a row.
    fn no_holes(&self, key: &str, array: &dyn Array, width: usize) -> Result<(), LeRobotError> {
        if array.null_count() == 0 {
            return Ok(());
        }
        match (0..array.len()).find(|&at| array.is_null(at)) {
            None => Ok(()),
            Some(at) => {
                let (row, place) = (at / width, at % width);
                Err(self.value(key, row, place, "nothing".into(), "every row needs a value"))
            }
        }
    }

    fn value(
        &self,
        key: &str,
        row: usize,
        place: usize,
        got: String,
        remedy: &'static str,
    ) -> LeRobotError {
        LeRobotError::Value {
            path: self.path.clone(),
            key: key.to_owned(),
            row: self.row(row),
            place,
            got,
            remedy,
        }
    }

    fn kind(&self, key: &str, array: &ArrayRef, wanted: &'static str) -> LeRobotError {
        LeRobotError::Type {
            path: self.path.clone(),
            key: key.to_owned(),
            got: array.data_type().to_string(),
            wanted,
        }
    }
}
