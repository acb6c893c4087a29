//! A recording as Foxglove and other viewers of MCAP show it: a picture per camera, and numbers that can be plotted.
//!
//! | topic | message | what |
//! |---|---|---|
//! | `/camera/<name>` | `foxglove.CompressedImage` | what the camera saw, PNG |
//! | `/state` | `hilt.State` | a field per number of proprioception |
//! | `/action` | `hilt.Action` | a field per column, at the time of what it answered |
//! | `/step` | `hilt.StepFacts` | whose action it was, reward, how the episode stands |
//!
//! Times are those of the run's clock. Several runs follow each other, each a second after the one before.

use std::{collections::BTreeMap, fs, io, path::Path};

use hilt_protocol::{ActionSource, Entry, Image, Record, RigSpec, RunId, Step};
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use prost::{Message, encoding};
use prost_types::Timestamp;

use crate::{
    Channel, ChannelWriter, NotWritten, RecordingError, WriteError, beside,
    descriptor::{self, Type, enumeration, field, message},
    whole::not_written,
};

const IMAGE: &str = "foxglove.CompressedImage";
/// Between two runs.
const PAUSE_NS: u64 = 1_000_000_000;

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum FoxgloveError {
    /// The recording cannot be read.
    #[error(transparent)]
    Read(#[from] RecordingError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It cannot be put in its place.
    #[error(transparent)]
    Place(#[from] NotWritten),
    /// A picture is none.
    #[error(
        "run {run}, entry {sequence}: the picture of camera `{camera}` cannot be kept: {reason}"
    )]
    Picture {
        /// Which run.
        run: RunId,
        /// Which entry.
        sequence: u64,
        /// Which camera.
        camera: String,
        /// Why.
        reason: String,
    },
}

/// Foxglove's message of this name, as its documentation of schemas has it.
#[derive(Clone, PartialEq, Message)]
struct CompressedImage {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
    #[prost(string, tag = "3")]
    format: String,
    #[prost(string, tag = "4")]
    frame_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct StepFacts {
    #[prost(uint64, tag = "1")]
    episode: u64,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint32, tag = "3")]
    source: u32,
    #[prost(float, tag = "4")]
    reward: f32,
    #[prost(float, tag = "5")]
    grasp_penalty: f32,
    #[prost(bool, tag = "6")]
    terminated: bool,
    #[prost(bool, tag = "7")]
    truncated: bool,
    #[prost(bool, optional, tag = "8")]
    label: Option<bool>,
    #[prost(uint64, tag = "9")]
    policy_version: u64,
}

/// In the order of their numbers.
const SOURCES: [&str; 4] = ["POLICY", "HUMAN", "SCRIPTED_OPERATOR", "RANDOM"];

/// Writes all of a recording to `path`, whole or not at all. How many entries it took.
pub fn write(
    path: &Path,
    spec: &RigSpec,
    entries: impl Iterator<Item = Result<Entry, RecordingError>>,
) -> Result<u64, FoxgloveError> {
    let place = |cause| FoxgloveError::from(not_written(path)(cause));
    if path.exists() {
        return Err(WriteError::Exists(path.to_owned()).into());
    }
    let beside = beside(path);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(place(error)),
        _ => {}
    }
    let written = write_to(&beside, spec, entries)
        .and_then(|count| fs::rename(&beside, path).map(|()| count).map_err(place));
    if written.is_err() {
        // Whatever is there of it is of no use; that it cannot be removed either says nothing more.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_to(
    path: &Path,
    spec: &RigSpec,
    entries: impl Iterator<Item = Result<Entry, RecordingError>>,
) -> Result<u64, FoxgloveError> {
    let (image, state) = (image_schema(), numbers_schema("State", &spec.proprio));
    let (action, step) = (
        numbers_schema("Action", &spec.action_names()),
        step_schema(),
    );
    let names = (spec.cameras.iter()).map(|camera| format!("/camera/{}", camera.name));
    let topics: Vec<String> = names.collect();
    let channel = |topic, message, schema| Channel {
        topic,
        message,
        schema,
        metadata: BTreeMap::new(),
    };
    let mut channels = vec![
        channel("/state", "hilt.State", &state),
        channel("/action", "hilt.Action", &action),
        channel("/step", "hilt.StepFacts", &step),
    ];
    channels.extend((topics.iter()).map(|topic| channel(topic, IMAGE, &image)));
    let about = [("rig".to_owned(), spec.hash().to_string())].into();
    let mut file = ChannelWriter::create(path, about, &channels)?;
    let mut clock = Clock::default();
    let (mut count, mut before) = (0, None::<(RunId, u64, u64)>);
    for entry in entries {
        let entry = entry?;
        let observation = entry.observation();
        let now_ns = clock.time_ns(entry.run, observation.captured_ns);
        let sequence = entry.sequence;
        if let Record::Step(step) = &entry.record {
            // Where what it answered is missing, the time of what it led to.
            let follows =
                before.is_some_and(|(run, last, _)| (run, last + 1) == (entry.run, sequence));
            let decided_ns = before
                .filter(|_| follows)
                .map_or(now_ns, |(.., time_ns)| time_ns);
            file.append(1, sequence, decided_ns, &numbers(&step.action))?;
            let facts = facts(&entry, step).encode_to_vec();
            file.append(2, sequence, now_ns, &facts)?;
        }
        file.append(0, sequence, now_ns, &numbers(&observation.proprio))?;
        for (k, (image, camera)) in observation.images.iter().zip(&spec.cameras).enumerate() {
            let taken_ns = clock.time_ns(entry.run, image.captured_ns);
            let data = png(image).map_err(|reason| FoxgloveError::Picture {
                run: entry.run,
                sequence,
                camera: camera.name.clone(),
                reason,
            })?;
            let image = CompressedImage {
                timestamp: Some(timestamp(taken_ns)),
                data,
                format: "png".into(),
                frame_id: camera.name.clone(),
            };
            file.append(3 + k, sequence, taken_ns, &image.encode_to_vec())?;
        }
        before = Some((entry.run, sequence, now_ns));
        count += 1;
    }
    file.finish()?;
    Ok(count)
}

/// One clock for all runs.
#[derive(Default)]
struct Clock {
    run: Option<RunId>,
    /// Taken off a run's times, and what is put on.
    from_ns: u64,
    to_ns: u64,
    latest_ns: u64,
}

impl Clock {
    fn time_ns(&mut self, run: RunId, captured_ns: u64) -> u64 {
        if self.run != Some(run) {
            if self.run.is_some() {
                self.from_ns = captured_ns;
                self.to_ns = self.latest_ns.saturating_add(PAUSE_NS);
            }
            self.run = Some(run);
        }
        // A frame may be older than the state beside it.
        let time_ns = (captured_ns.saturating_add(self.to_ns)).saturating_sub(self.from_ns);
        self.latest_ns = self.latest_ns.max(time_ns);
        time_ns
    }
}

fn facts(entry: &Entry, step: &Step) -> StepFacts {
    StepFacts {
        episode: entry.episode,
        index: entry.index,
        source: match step.source {
            ActionSource::Policy => 0,
            ActionSource::Human => 1,
            ActionSource::ScriptedOperator => 2,
            ActionSource::Random => 3,
        },
        reward: step.reward,
        grasp_penalty: step.grasp_penalty,
        terminated: step.terminated,
        truncated: step.truncated,
        label: step.label,
        policy_version: step.policy_version,
    }
}

/// A message whose fields are these numbers, from 1 on.
fn numbers(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 6);
    for (tag, value) in (1..).zip(values) {
        encoding::float::encode(tag, value, &mut bytes);
    }
    bytes
}

/// A message with a number for each name, changed to what a field may be called.
fn numbers_schema(name: &str, fields: &[String]) -> Vec<u8> {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut taken: Vec<String> = vec![];
    for name in fields {
        let mut called: String = name.chars().map(legal).collect();
        if !called.starts_with(|c: char| c.is_ascii_alphabetic()) {
            called.insert_str(0, "n_");
        }
        // Protobuf holds names for one that differ in these alone.
        let plain = |name: &str| name.replace('_', "").to_lowercase();
        let same = (taken.iter()).filter(|other| plain(other) == plain(&called));
        if let 1.. = same.count() {
            called = format!("{called}_column{}", taken.len());
        }
        taken.push(called);
    }
    let fields = (1..).zip(&taken);
    let fields = fields.map(|(number, name)| field(number, name, Type::Float));
    descriptor::schema(vec![message(name, fields.collect())], vec![])
}

fn step_schema() -> Vec<u8> {
    use Type::{Bool, Enum, Float, Uint32, Uint64};
    let facts = message(
        "StepFacts",
        vec![
            field(1, "episode", Uint64),
            field(2, "index", Uint32),
            field(3, "source", Enum).of("Source"),
            field(4, "reward", Float),
            field(5, "grasp_penalty", Float),
            field(6, "terminated", Bool),
            field(7, "truncated", Bool),
            field(8, "label", Bool).optional(),
            field(9, "policy_version", Uint64),
        ],
    );
    descriptor::schema(vec![facts], vec![enumeration("Source", SOURCES)])
}

fn image_schema() -> Vec<u8> {
    let timestamp = message(
        "Timestamp",
        vec![
            field(1, "seconds", Type::Int64),
            field(2, "nanos", Type::Int32),
        ],
    );
    let image = message(
        "CompressedImage",
        vec![
            field(1, "timestamp", Type::Message).of_package("google.protobuf", "Timestamp"),
            field(4, "frame_id", Type::String),
            field(2, "data", Type::Bytes),
            field(3, "format", Type::String),
        ],
    );
    let timestamp = descriptor::file("google.protobuf", vec![timestamp], vec![], &[]);
    let image = descriptor::file("foxglove", vec![image], vec![], &[&timestamp]);
    descriptor::set(vec![timestamp, image])
}

fn timestamp(time_ns: u64) -> Timestamp {
    Timestamp {
        // Below 2^35.
        seconds: (time_ns / 1_000_000_000) as i64,
        nanos: (time_ns % 1_000_000_000) as i32,
    }
}

/// A picture as a file.
fn png(image: &Image) -> Result<Vec<u8>, String> {
    let wanted = image.height as usize * image.width as usize * 3;
    if image.rgb.len() != wanted {
        return Err(format!("it has {} bytes, not {wanted}", image.rgb.len()));
    }
    let mut bytes = vec![];
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(
            &image.rgb,
            image.width,
            image.height,
            ExtendedColorType::Rgb8,
        )
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}
