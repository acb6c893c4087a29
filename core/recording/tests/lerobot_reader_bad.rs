//! Datasets of LeRobot's that something is wrong with: each is refused with the file, the key and the place, and none
//! takes more memory than it has bytes for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/ffmpeg.rs"]
mod ffmpeg;

use std::{
    fs::{self, File},
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, types::Float32Type,
};
use arrow_schema::{DataType, Field};
use ffmpeg::has_ffmpeg;
use hilt_protocol::{Entry, Record};
use hilt_recording::{Data, Opening, Recording};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::WriterProperties,
};
use serde_json::{Value, json};

const CAMERA: &str = "observation.images.front";
const SIDE: u32 = 16;
const DATA: &str = "data/chunk-000/file-000.parquet";
const LIST: &str = "meta/episodes/chunk-000/file-000.parquet";
const VIDEO: &str = "videos/observation.images.front/chunk-000/file-000.mp4";

/// A dataset of two episodes, of 3 frames and 2, before it is written.
struct Made {
    dir: tempfile::TempDir,
    info: Value,
    rows: Vec<(String, ArrayRef)>,
    list: Vec<(String, ArrayRef)>,
}

fn whole(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn vectors(rows: &[&[f32]]) -> ArrayRef {
    let rows = rows
        .iter()
        .map(|row| Some(row.iter().map(|&value| Some(value))));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

fn png(width: u32, height: u32, colours: ExtendedColorType) -> Vec<u8> {
    let bits = u32::from(colours.bits_per_pixel());
    let bytes = vec![100; (width * height * bits / 8) as usize];
    let mut png = Cursor::new(vec![]);
    PngEncoder::new(&mut png)
        .write_image(&bytes, width, height, colours)
        .unwrap();
    png.into_inner()
}

fn pictures(files: &[Vec<u8>]) -> ArrayRef {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(files));
    let path: ArrayRef = Arc::new(StringArray::from(vec!["frame.png"; files.len()]));
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
    Arc::new(StructArray::from(vec![
        (field("bytes", DataType::Binary), bytes),
        (field("path", DataType::Utf8), path),
    ]))
}

impl Made {
    fn new() -> Self {
        let number = json!({"dtype": "float32", "shape": [1], "names": null});
        let info = json!({
            "codebase_version": "v3.0",
            "fps": 10,
            "total_episodes": 2,
            "total_frames": 5,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            "features": {
                "action": {"dtype": "float32", "shape": [3], "names": null},
                "observation.state": {"dtype": "float32", "shape": [2], "names": null},
                "next.reward": number,
                "next.done": {"dtype": "bool", "shape": [1], "names": null},
                (CAMERA): {
                    "dtype": "image",
                    "shape": [SIDE, SIDE, 3],
                    "names": ["height", "width", "channels"],
                },
            },
        });
        let picture = png(SIDE, SIDE, ExtendedColorType::Rgb8);
        let (action, state): (&[f32], &[f32]) = (&[0.5, -0.5, 0.25], &[1.0, 2.0]);
        let rows: [(&str, ArrayRef); 8] = [
            ("episode_index", whole(&[0, 0, 0, 1, 1])),
            ("frame_index", whole(&[0, 1, 2, 0, 1])),
            (
                "timestamp",
                Arc::new(Float32Array::from(vec![0.0, 0.1, 0.2, 0.0, 0.1])),
            ),
            ("action", vectors(&[action; 5])),
            ("observation.state", vectors(&[state; 5])),
            (
                "next.reward",
                Arc::new(Float32Array::from(vec![0.0, 0.0, 1.0, 0.0, 0.0])),
            ),
            (
                "next.done",
                Arc::new(BooleanArray::from(vec![false, false, true, false, true])),
            ),
            (CAMERA, pictures(&vec![picture; 5])),
        ];
        let list: [(&str, ArrayRef); 4] = [
            ("episode_index", whole(&[0, 1])),
            ("length", whole(&[3, 2])),
            ("data/chunk_index", whole(&[0, 0])),
            ("data/file_index", whole(&[0, 0])),
        ];
        Self {
            dir: tempfile::tempdir().unwrap(),
            info,
            rows: rows.map(|(name, column)| (name.to_owned(), column)).into(),
            list: list.map(|(name, column)| (name.to_owned(), column)).into(),
        }
    }

    /// The same, with a video of 5 frames as its camera.
    fn filmed() -> Self {
        let mut made = Self::new();
        made.info["features"][CAMERA]["dtype"] = "video".into();
        let key = |what: &str| format!("videos/{CAMERA}/{what}");
        made.list.push((key("chunk_index"), whole(&[0, 0])));
        made.list.push((key("file_index"), whole(&[0, 0])));
        let from: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 0.3]));
        made.list.push((key("from_timestamp"), from));
        let path = made.path(VIDEO);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let done = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "lavfi", "-i"])
            .arg(format!("testsrc=s={SIDE}x{SIDE}:r=10:d=0.5"))
            .args(["-c:v", "libx264", "-pix_fmt", "yuv420p"])
            .args(["-movflags", "+faststart"])
            .arg(path)
            .status()
            .unwrap();
        assert!(done.success());
        made
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn replace(mut self, key: &str, with: ArrayRef) -> Self {
        let mut columns = self.rows.iter_mut().chain(&mut self.list);
        columns.find(|(name, _)| name == key).unwrap().1 = with;
        self
    }

    fn write(self) -> Self {
        self.write_with(Compression::SNAPPY)
    }

    fn write_with(self, compression: Compression) -> Self {
        let info = serde_json::to_vec(&self.info).unwrap();
        for (path, columns) in [(DATA, &self.rows), (LIST, &self.list)] {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let batch = RecordBatch::try_from_iter(columns.clone()).unwrap();
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .build();
            let file = File::create(path).unwrap();
            let writer = ArrowWriter::try_new(file, batch.schema(), Some(properties));
            let mut writer = writer.unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        fs::write(self.path("meta/info.json"), info).unwrap();
        self
    }

    /// What is wrong with it, after it was written. It says where.
    fn error(&self) -> String {
        let message = read(self.dir.path()).expect_err("it was read");
        let folder = self.dir.path().to_string_lossy().into_owned();
        assert!(message.contains(&folder), "{message}");
        message.replace(&folder, "")
    }
}

fn read(dir: &Path) -> Result<Vec<Entry>, String> {
    let recording = Recording::open(dir, None).map_err(|e| e.to_string())?;
    recording
        .entries()
        .map(|entry| entry.map_err(|e| e.to_string()))
        .collect()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_is_made_here_is_whole() {
    let entries = read(Made::new().write().dir.path()).unwrap();
    assert_eq!(entries.len(), 7);
    let seen_late = |made: Made| {
        let recording = Recording::open(made.write().dir.path(), None).unwrap();
        recording.seen_late()
    };
    assert!(seen_late(Made::new()));
    let mut other = Made::new();
    other.info["features"]["next.truncated"] = other.info["features"]["next.done"].clone();
    assert!(!seen_late(other));
    let mut other = Made::new();
    (other.info["features"].as_object_mut().unwrap()).remove("next.done");
    assert!(!seen_late(other));
    let plain = Made::new().write_with(Compression::UNCOMPRESSED);
    assert_eq!(read(plain.dir.path()).unwrap().len(), 7);
    if has_ffmpeg() {
        assert_eq!(read(Made::filmed().write().dir.path()).unwrap().len(), 7);
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    let with = |bad: f32| {
        let rows: [&[f32]; 5] = [&[0.0; 3], &[0.0; 3], &[0.0, bad, 0.0], &[0.0; 3], &[0.0; 3]];
        Made::new().replace("action", vectors(&rows)).write()
    };
    let bad = |bad: f32| with(bad).error();
    says(
        &bad(f32::NAN),
        &[DATA, "`action` has NaN in row 2, place 1"],
    );
    says(&bad(f32::INFINITY), &["`action` has inf in row 2, place 1"]);
    // Who looks at data is shown them.
    let (made, looking) = (
        with(f32::NAN),
        Opening {
            as_it_is: true,
            ..Opening::default()
        },
    );
    let Data::Recording(seen) = Data::open_as(made.dir.path(), &looking).unwrap() else {
        panic!("it has a camera")
    };
    let nan = |entry: &Entry| match &entry.record {
        Record::Step(step) => step.action[1].is_nan(),
        Record::Reset(_) => false,
    };
    let seen: Vec<Entry> = seen.entries().map(Result::unwrap).collect();
    assert_eq!(seen.iter().filter(|entry| nan(entry)).count(), 1);
    let reward = Float32Array::from(vec![Some(0.0), None, Some(0.0), Some(0.0), Some(0.0)]);
    let error = Made::new()
        .replace("next.reward", Arc::new(reward))
        .write()
        .error();
    says(&error, &[DATA, "`next.reward` has nothing in row 1"]);
    let done = Made::new()
        .replace("next.done", whole(&[0, 0, 2, 0, 1]))
        .write();
    says(&done.error(), &["`next.done` has 2 in row 2", "0 or 1"]);
    let index = Made::new()
        .replace("frame_index", whole(&[0, -1, 2, 0, 1]))
        .write();
    says(&index.error(), &["`frame_index` has -1 in row 1"]);
    let label = "complementary_info.success_label";
    let mut made = Made::new();
    made.info["features"][label] = json!({"dtype": "int64", "shape": [1], "names": null});
    made.rows.push((label.into(), whole(&[-1, 0, 1, 2, 0])));
    says(
        &made.write().error(),
        &[&format!("`{label}` has 2 in row 3"), "-1, 0 or 1"],
    );
}

/// The grippers' commands in the five rows, each with three columns of motion before.
fn commanded(grippers: [&[f32]; 5]) -> Made {
    let arm = |command: &f32| [0.5, -0.5, 0.25, *command];
    let rows = grippers.map(|commands| commands.iter().flat_map(arm).collect::<Vec<f32>>());
    let mut made = Made::new();
    made.info["features"]["action"]["shape"] = json!([rows[0].len()]);
    made.replace("action", vectors(&rows.each_ref().map(Vec::as_slice)))
}

/// What the only gripper was told to do, by the reader.
fn commands(made: &Made) -> Vec<f32> {
    let entries = read(made.dir.path()).unwrap().into_iter();
    let command = |entry: Entry| match entry.record {
        Record::Step(step) => Some(step.action[3]),
        Record::Reset(_) => None,
    };
    entries.filter_map(command).collect()
}

#[test]
fn what_grippers_were_told_is_known_or_refused() {
    let one = |values: [f32; 5]| commanded(values.each_ref().map(std::slice::from_ref)).write();
    assert_eq!(
        commands(&one([0.0, 1.0, 2.0, 1.0, 0.0])),
        [-1.0, 0.0, 1.0, 0.0, -1.0]
    );
    for ours in [[-1.0, 0.0, 1.0, 1.0, 0.0], [0.5, 0.0, 1.0, -0.25, -1.0]] {
        assert_eq!(commands(&one(ours)), ours);
    }
    let either = [0.0, 1.0, 1.0, 0.0, 1.0];
    let made = one(either);
    says(
        &made.error(),
        &[
            "meta/info.json",
            "`action_3`",
            "0 and 1 alone",
            "meta/hilt-spec.json",
            "--spec",
        ],
    );
    // The remedy helps.
    let spec = Recording::open(made.dir.path(), None)
        .unwrap()
        .spec()
        .clone();
    let spec = serde_json::to_vec(&spec).unwrap();
    fs::write(made.path("meta/hilt-spec.json"), &spec).unwrap();
    assert_eq!(commands(&made), either.map(|value| value - 1.0));

    for bad in [3.0, -1.5] {
        let error = one([0.0, 1.0, bad, 0.0, 1.0]).error();
        says(
            &error,
            &[
                DATA,
                &format!("`action` has {bad} in row 2, place 3"),
                "0 (close)",
            ],
        );
    }
    for bad in [-1.0, 0.5] {
        let made = one([0.0, 1.0, 2.0, bad, 1.0]);
        says(&made.error(), &["`action_3`", "holds 2, and also"]);
        fs::write(made.path("meta/hilt-spec.json"), &spec).unwrap();
        let place = format!("`action` has {bad} in row 3, place 3");
        says(&made.error(), &[DATA, &place]);
    }
    let mixed = commanded([
        &[0.0, 0.1],
        &[1.0, 0.2],
        &[2.0, 0.3],
        &[1.0, 0.4],
        &[0.0, 0.5],
    ]);
    says(
        &mixed.write().error(),
        &["`action_3`", "holds 0, 1 and 2, another numbers between"],
    );
}

#[test]
fn columns_of_another_kind_are_named() {
    let rows: [&[f32]; 5] = [&[0.0; 3], &[0.0; 3], &[0.0; 3], &[0.0; 4], &[0.0; 3]];
    let error = Made::new()
        .replace("action", vectors(&rows))
        .write()
        .error();
    says(&error, &[DATA, "`action` has 4 numbers in row 3", "says 3"]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["up"; 5]));
    for key in [
        "action",
        "next.reward",
        "next.done",
        "episode_index",
        CAMERA,
    ] {
        let error = Made::new().replace(key, texts.clone()).write().error();
        says(&error, &[DATA, &format!("`{key}` is of type Utf8")]);
    }
    let error = Made::new()
        .replace("action", whole(&[1; 5]))
        .write()
        .error();
    says(
        &error,
        &["`action` is of type Int64, it must be a list of numbers"],
    );
    let mut made = Made::new();
    made.rows.retain(|(name, _)| name != "next.done");
    says(
        &made.write().error(),
        &["no column `next.done`", "episode_index, frame_index"],
    );
    let mut made = Made::new();
    made.list.retain(|(name, _)| name != "length");
    says(&made.write().error(), &[LIST, "no column `length`"]);
}

#[test]
fn rows_that_are_not_those_of_the_list_are_named() {
    let error = Made::new()
        .replace("length", whole(&[3, 3]))
        .write()
        .error();
    says(&error, &[DATA, "ends after 5 rows", "frame 2 of episode 1"]);
    let error = Made::new()
        .replace("length", whole(&[2, 3]))
        .write()
        .error();
    says(
        &error,
        &["row 2 is frame 2 of episode 0, not frame 0 of episode 1"],
    );
    let error = Made::new()
        .replace("length", whole(&[3, 0]))
        .write()
        .error();
    says(&error, &[LIST, "episode 1 has no frame"]);
    let error = Made::new()
        .replace("data/file_index", whole(&[0, 7]))
        .write()
        .error();
    says(
        &error,
        &[
            "data/chunk-000/file-007.parquet is not there",
            "meta/episodes names it",
        ],
    );
    let mut made = Made::new();
    made.info["total_episodes"] = 3.into();
    says(
        &made.write().error(),
        &["`total_episodes` is 3", "lists 2", "not whole"],
    );
    let mut made = Made::new();
    made.info["total_episodes"] = 0.into();
    says(&made.write().error(), &["holds no episode"]);
    let made = Made::new().write();
    fs::remove_dir_all(made.path("meta/episodes")).unwrap();
    says(&made.error(), &["meta/episodes"]);
}

#[test]
fn descriptions_of_other_versions_and_what_cannot_be_are_named() {
    let error = |change: &dyn Fn(&mut Value)| {
        let mut made = Made::new();
        change(&mut made.info);
        let message = made.write().error();
        says(&message, &["meta/info.json"]);
        message
    };
    let version = |version: &str| error(&|info| info["codebase_version"] = version.into());
    says(&version("v2.1"), &["v2.1", "convert_dataset_v21_to_v30"]);
    says(&version("v4.0"), &["v4.0", "later LeRobot"]);
    says(&version(""), &["codebase_version"]);
    says(
        &error(&|info| info["fps"] = 0.into()),
        &["`fps`", "1 to 1000"],
    );
    says(&error(&|info| info["fps"] = "ten".into()), &["`fps`"]);
    says(
        &error(&|info| info["features"] = json!([])),
        &["`features`"],
    );
    let action = error(&|info| info["features"]["action"]["shape"] = json!([3, 2]));
    says(&action, &["`features.action` has shape [3, 2]"]);
    let none = error(&|info| drop(info["features"].as_object_mut().unwrap().remove("action")));
    says(&none, &["holds no `action`", "next.reward"]);
    let float = error(&|info| info["features"][CAMERA]["dtype"] = "float32".into());
    says(&float, &[CAMERA, "float32", "8 bits"]);
    let grey = error(&|info| info["features"][CAMERA]["shape"] = json!([16, 16, 1]));
    says(&grey, &[CAMERA, "[16, 16, 1]", "3 channels"]);
    for outside in [
        "../{file_index}.parquet",
        "/etc/{chunk_index}",
        "",
        "{x}",
        "{",
    ] {
        says(
            &error(&|info| info["data_path"] = outside.into()),
            &["`data_path`"],
        );
    }
    let made = Made::new().write();
    fs::write(
        made.path("meta/info.json"),
        r#"{"codebase_version": "v3.0", "#,
    )
    .unwrap();
    says(&made.error(), &["meta/info.json", "cannot be read"]);
    let many = error(&|info| info["features"]["action"]["shape"] = json!([5]));
    says(&many, &["actions of 5 numbers", "--spec spec.json"]);
}

#[test]
fn pictures_of_another_kind_are_named() {
    let good = png(SIDE, SIDE, ExtendedColorType::Rgb8);
    let error = |bad: Vec<u8>| {
        let files = [good.clone(), good.clone(), bad, good.clone(), good.clone()];
        let message = Made::new()
            .replace(CAMERA, pictures(&files))
            .write()
            .error();
        says(&message, &[DATA, &format!("`{CAMERA}` in row 2")]);
        message
    };
    says(
        &error(png(32, 16, ExtendedColorType::Rgb8)),
        &["it is 32×16", "says 16×16"],
    );
    says(
        &error(png(SIDE, SIDE, ExtendedColorType::L8)),
        &["it is of L8"],
    );
    error(good[..good.len() / 2].to_vec());
    error(b"GIF89a".to_vec());
    // A small file that says that it is a large picture.
    let mut large = good.clone();
    large[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    error(large);
}

#[test]
fn a_video_that_is_cut_missing_or_of_other_times_is_named() {
    if !has_ffmpeg() {
        return;
    }
    let made = Made::filmed().write();
    let film = fs::read(made.path(VIDEO)).unwrap();
    fs::write(made.path(VIDEO), &film[..film.len() - 200]).unwrap();
    says(&made.error(), &[VIDEO, CAMERA, "is cut"]);
    fs::write(made.path(VIDEO), &film[..100]).unwrap();
    says(
        &made.error(),
        &[VIDEO, "frame 0 of episode 0", "ffmpeg says"],
    );
    fs::remove_file(made.path(VIDEO)).unwrap();
    says(
        &made.error(),
        &[VIDEO, "is not there", "meta/episodes names it"],
    );
    let late: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 0.33]));
    let key = format!("videos/{CAMERA}/from_timestamp");
    let error = Made::filmed().replace(&key, late).write().error();
    says(
        &error,
        &[VIDEO, "frame 0 of episode 1", "0.3300 s", "0.4000 s"],
    );
    let mut made = Made::filmed();
    made.info["features"][CAMERA]["shape"] = json!([32, 16, 3]);
    says(&made.write().error(), &[VIDEO, "16×16", "16×32"]);
}

#[test]
fn a_parquet_file_that_is_cut_is_named() {
    for file in [DATA, LIST] {
        let made = Made::new().write();
        let bytes = fs::read(made.path(file)).unwrap();
        for length in [0, 3, 8, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
            fs::write(made.path(file), &bytes[..length]).unwrap();
            says(&made.error(), &[file, "copy it again"]);
        }
        // A footer of 4 GB.
        let mut lying = bytes.clone();
        let length = lying.len() - 8;
        lying[length..length + 4].copy_from_slice(&[0xff; 4]);
        fs::write(made.path(file), &lying).unwrap();
        says(&made.error(), &[file, "copy it again"]);
    }
}

/// Where the pages of a file begin.
fn pages(path: &Path) -> Vec<usize> {
    let file = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let groups = file.metadata().row_groups().iter();
    let chunks = groups.flat_map(|group| group.columns());
    chunks
        .map(|chunk| usize::try_from(chunk.byte_range().0).unwrap())
        .collect()
}

#[test]
fn a_page_that_says_more_than_it_can_hold_is_refused_before_memory_is_taken() {
    let made = Made::new().write();
    let bytes = fs::read(made.path(DATA)).unwrap();
    for page in pages(&made.path(DATA)) {
        // The header: its kind, then the bytes that it says the page has uncompressed, then compressed.
        assert_eq!([bytes[page], bytes[page + 2]], [0x15; 2]);
        let end = (page + 3..).find(|&at| bytes[at] & 0x80 == 0).unwrap() + 1;
        let mut lying = bytes[..page + 3].to_vec();
        // Nearly 2 GB.
        lying.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
        lying.extend(&bytes[end..]);
        // What lies behind has moved by a few bytes, but this page is looked at before. (One of a few bits is shorter
        // than its header has become.)
        fs::write(made.path(DATA), lying).unwrap();
        says(&made.error(), &[DATA, &format!("the page at byte {page}")]);
    }
}

#[test]
fn any_byte_may_be_another() {
    let made = Made::new().write();
    for file in [DATA, LIST] {
        let bytes = fs::read(made.path(file)).unwrap();
        // Some are enough here, the fuzz target has the rest.
        for at in (0..bytes.len()).step_by(11) {
            for change in [0x01, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= change;
                fs::write(made.path(file), &other).unwrap();
                // Numbers may be others; nothing else may happen.
                if let Err(message) = read(made.dir.path()) {
                    assert!(!message.is_empty());
                }
            }
        }
        fs::write(made.path(file), &bytes).unwrap();
    }
}

#[test]
fn a_dataset_without_cameras_is_a_table_and_no_recording() {
    let mut made = Made::new();
    made.info["features"]
        .as_object_mut()
        .unwrap()
        .remove(CAMERA);
    made.rows.retain(|(name, _)| name != CAMERA);
    let made = made.write();
    says(&made.error(), &["a table of state vectors", "cameras"]);
    let Data::Table(table) = Data::open(made.dir.path(), None).unwrap() else {
        panic!("it is a table");
    };
    assert_eq!(table.episodes().collect::<Vec<_>>(), [0..3, 3..5]);
    assert_eq!(
        table.columns().terminals,
        [false, false, true, false, false]
    );
}
