//! The tables of a dataset that we write, in Parquet: rows of frames, the list of episodes, the tasks.

use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array,
    RecordBatch, StringArray,
    builder::{
        ArrayBuilder, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
    },
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties},
};
use serde_json::{Value, json};

use super::{
    info::{Feature, Kind},
    layout::Place,
    stats::{STATISTICS, Stats},
};

/// The values of a feature, frame after frame.
#[derive(Clone, Debug)]
pub(super) enum Column {
    Float(Vec<f32>),
    /// Counts and indices.
    Int(Vec<u64>),
    Bool(Vec<bool>),
}

impl Column {
    /// One without frames; pictures have none.
    pub fn empty(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Float => Some(Self::Float(vec![])),
            Kind::Int => Some(Self::Int(vec![])),
            Kind::Bool => Some(Self::Bool(vec![])),
            Kind::Video(_) => None,
        }
    }

    /// All its numbers.
    pub fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Float(values) => values.iter().map(|&v| f64::from(v)).collect(),
            // Of counts and indices, far below 2^53.
            Self::Int(values) => values.iter().map(|&v| v as f64).collect(),
            Self::Bool(values) => values.iter().map(|&v| f64::from(u8::from(v))).collect(),
        }
    }

    fn array(&self, width: usize) -> Result<ArrayRef, ArrowError> {
        let values: ArrayRef = match self {
            Self::Float(values) => Arc::new(Float32Array::from(values.clone())),
            Self::Int(values) => Arc::new(whole(values.iter().copied())?),
            Self::Bool(values) => Arc::new(BooleanArray::from(values.clone())),
        };
        if width == 1 {
            return Ok(values);
        }
        let width = i32::try_from(width).map_err(|e| ArrowError::SchemaError(e.to_string()))?;
        let field = Arc::new(element(values.data_type().clone()));
        Ok(Arc::new(FixedSizeListArray::try_new(
            field, width, values, None,
        )?))
    }
}

fn whole(numbers: impl Iterator<Item = u64>) -> Result<Int64Array, ArrowError> {
    let signed = numbers
        .map(|number| i64::try_from(number).map_err(|e| ArrowError::ComputeError(e.to_string())));
    Ok(Int64Array::from(signed.collect::<Result<Vec<_>, _>>()?))
}

fn element(kind: DataType) -> Field {
    Field::new("element", kind, true)
}

/// The rows of some frames; a column for each of the features that are no pictures.
pub(super) fn rows(features: &[&Feature], columns: &[Column]) -> Result<RecordBatch, ArrowError> {
    let arrays = features
        .iter()
        .zip(columns)
        .map(|(feature, column)| Ok((feature.key.as_str(), column.array(feature.width)?)));
    batch(arrays.collect::<Result<Vec<_>, ArrowError>>()?)
}

/// What a program wants to know of a table besides its schema, and under which name it looks for it.
pub(super) type Note = (&'static str, String);

/// What the `datasets` package wants to know of the rows, beside their schema.
pub(super) fn rows_note(features: &[&Feature]) -> Note {
    let described = features.iter().map(|feature| {
        let value = json!({"dtype": feature.kind.dtype(), "_type": "Value"});
        let described = match feature.width {
            1 => value,
            width => json!({"feature": value, "length": width, "_type": "List"}),
        };
        format!("{}:{described}", Value::from(feature.key.as_str()))
    });
    // In the order of the columns, which a map of JSON does not keep.
    let described: Vec<String> = described.collect();
    let note = format!("{{\"info\":{{\"features\":{{{}}}}}}}", described.join(","));
    ("huggingface", note)
}

/// Where the pictures of an episode are in a camera's videos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reel {
    pub place: Place,
    /// Seconds since the video's begin.
    pub from_s: f64,
    pub to_s: f64,
}

/// An episode in the list of them.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub index: u64,
    /// Its first frame, and that after its last.
    pub frames: [u64; 2],
    pub rows: Place,
    /// One for each camera.
    pub reels: Vec<Reel>,
    pub list: Place,
    /// One for each feature.
    pub stats: Vec<Stats>,
}

/// The list of these episodes, all of one task.
pub(super) fn list(
    features: &[Feature],
    task: &str,
    episodes: &[Listed],
) -> Result<RecordBatch, ArrowError> {
    let each = |get: &dyn Fn(&Listed) -> u64| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(whole(episodes.iter().map(get))?))
    };
    let mut tasks = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
    for _ in episodes {
        tasks.values().append_value(task);
        tasks.append(true);
    }
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("episode_index".into(), each(&|e| e.index)?),
        ("tasks".into(), Arc::new(tasks.finish())),
        ("length".into(), each(&|e| e.frames[1] - e.frames[0])?),
        ("data/chunk_index".into(), each(&|e| e.rows.chunk)?),
        ("data/file_index".into(), each(&|e| e.rows.file)?),
        ("dataset_from_index".into(), each(&|e| e.frames[0])?),
        ("dataset_to_index".into(), each(&|e| e.frames[1])?),
    ];
    let cameras = features.iter().filter(|feature| feature.video().is_some());
    for (i, camera) in cameras.enumerate() {
        let name = |what: &str| format!("videos/{}/{what}", camera.key);
        let seconds = |get: fn(&Reel) -> f64| -> ArrayRef {
            let values = episodes.iter().map(|e| get(&e.reels[i]));
            Arc::new(Float64Array::from_iter_values(values))
        };
        columns.push((name("chunk_index"), each(&|e| e.reels[i].place.chunk)?));
        columns.push((name("file_index"), each(&|e| e.reels[i].place.file)?));
        columns.push((name("from_timestamp"), seconds(|reel| reel.from_s)));
        columns.push((name("to_timestamp"), seconds(|reel| reel.to_s)));
    }
    for (i, feature) in features.iter().enumerate() {
        let name = |what: &str| format!("stats/{}/{what}", feature.key);
        let stats = || episodes.iter().map(|e| &e.stats[i]);
        for (place, statistic) in STATISTICS.into_iter().enumerate() {
            let numbers = stats().map(|stats| stats.of_each(place));
            columns.push((
                name(statistic),
                numbers_of(feature.kind, statistic, numbers),
            ));
        }
        let counts = stats().map(|stats| vec![stats.count as f64]);
        columns.push((name("count"), numbers_of(Kind::Int, "min", counts)));
    }
    columns.push(("meta/episodes/chunk_index".into(), each(&|e| e.list.chunk)?));
    columns.push(("meta/episodes/file_index".into(), each(&|e| e.list.file)?));
    batch(columns)
}

/// A list of numbers for each episode, in the types that LeRobot gives a statistic of such a feature.
fn numbers_of(kind: Kind, statistic: &str, rows: impl Iterator<Item = Vec<f64>>) -> ArrayRef {
    let extreme = matches!(statistic, "min" | "max");
    match kind {
        Kind::Video(_) => {
            let leaf =
                ListBuilder::new(Float64Builder::new()).with_field(element(DataType::Float64));
            let inner = nested(leaf);
            let mut lists = nested(inner);
            for row in rows {
                for number in row {
                    lists.values().values().values().append_value(number);
                    lists.values().values().append(true);
                    lists.values().append(true);
                }
                lists.append(true);
            }
            Arc::new(lists.finish())
        }
        Kind::Int if extreme => {
            let mut lists =
                ListBuilder::new(Int64Builder::new()).with_field(element(DataType::Int64));
            for row in rows {
                lists.append_value(row.into_iter().map(|number| Some(number as i64)));
            }
            Arc::new(lists.finish())
        }
        Kind::Bool if extreme => {
            let mut lists =
                ListBuilder::new(BooleanBuilder::new()).with_field(element(DataType::Boolean));
            for row in rows {
                lists.append_value(row.into_iter().map(|number| Some(number != 0.0)));
            }
            Arc::new(lists.finish())
        }
        _ => {
            let mut lists =
                ListBuilder::new(Float64Builder::new()).with_field(element(DataType::Float64));
            for row in rows {
                lists.append_value(row.into_iter().map(Some));
            }
            Arc::new(lists.finish())
        }
    }
}

/// A list of lists, the inner ones made by `inner`.
fn nested<B: ArrayBuilder>(mut inner: ListBuilder<B>) -> ListBuilder<ListBuilder<B>> {
    let kind = inner.finish().data_type().clone();
    ListBuilder::new(inner).with_field(element(kind))
}

/// The one task, as pandas writes a table whose index is its text.
pub(super) fn task(text: &str) -> Result<RecordBatch, ArrowError> {
    let number: ArrayRef = Arc::new(Int64Array::from(vec![0]));
    let name: ArrayRef = Arc::new(StringArray::from(vec![text]));
    batch(vec![("task_index", number), ("task", name)])
}

/// That it is the index.
pub(super) fn task_note() -> Note {
    let column = |name, pandas, numpy| {
        json!({"name": name, "field_name": name, "pandas_type": pandas, "numpy_type": numpy,
               "metadata": null})
    };
    let note = json!({
        "index_columns": ["task"],
        "column_indexes": [{"name": null, "field_name": null, "pandas_type": "unicode",
                            "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "pandas_version": "2.0.0",
    });
    ("pandas", note.to_string())
}

fn batch<N: AsRef<str>>(columns: Vec<(N, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let field =
        |(name, array): &(N, ArrayRef)| Field::new(name.as_ref(), array.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(schema), arrays)
}

/// Writes a file of some tables of the same columns, one after the other and each to be read on its own, with its
/// footer, down to the disk; its size in bytes.
pub(super) fn save(
    path: &Path,
    batches: &[RecordBatch],
    note: Option<Note>,
) -> Result<u64, ParquetError> {
    let Some(first) = batches.first() else {
        return Ok(0);
    };
    // In the file's own notes and in those of the schema: pyarrow looks there alone.
    let keys = (note.iter()).map(|(key, text)| KeyValue::new((*key).to_owned(), text.clone()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(keys.collect()))
        .build();
    let metadata: HashMap<String, String> = note
        .into_iter()
        .map(|(key, text)| (key.to_owned(), text))
        .collect();
    let schema = (*first.schema()).clone().with_metadata(metadata);
    let file = File::create(path)?;
    let mut writer = ArrowWriter::try_new(file, Arc::new(schema), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
        writer.flush()?;
    }
    writer.finish()?;
    let file = writer.inner();
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
