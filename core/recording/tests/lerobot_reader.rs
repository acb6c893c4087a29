//! Datasets that LeRobot wrote are read as LeRobot itself reads them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/ffmpeg.rs"]
mod ffmpeg;
#[path = "support/python.rs"]
mod support;

use std::{fs, path::Path};

use ffmpeg::has_ffmpeg;
use hilt_protocol::{ActionSource, Entry, Observation, Record, RigSpec, SetupMode};
use hilt_recording::{Data, Recording};
use serde_json::Value;

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;
const PICTURE_BYTES: usize = WIDTH as usize * HEIGHT as usize * 3;
/// As two decoders may differ in how they round colours, levels.
const MOST_MEAN: f64 = 1.0;
const MOST: u8 = 6;

fn numbers(row: &Value, key: &str) -> Vec<f32> {
    let number = |value: &Value| match value {
        Value::Bool(flag) => f32::from(u8::from(*flag)),
        value => value.as_f64().unwrap() as f32,
    };
    match &row[key] {
        Value::Array(values) => values.iter().map(number).collect(),
        value => vec![number(value)],
    }
}

/// What LeRobot read of a dataset.
struct Read<'a> {
    rows: &'a [Value],
    pictures: Vec<u8>,
    /// Of a picture, in levels.
    tolerated: (f64, u8),
}

impl Read<'_> {
    /// Checks what was seen at a row.
    fn check(&self, row: usize, sequence: u64, seen: &Observation) {
        assert_eq!(seen.captured_ns, sequence * 100_000_000);
        assert_eq!(seen.proprio, numbers(&self.rows[row], "observation.state"));
        assert_eq!(seen.images.len(), 2);
        for (camera, image) in seen.images.iter().enumerate() {
            assert_eq!((image.height, image.width), (HEIGHT, WIDTH));
            assert_eq!(image.captured_ns, seen.captured_ns);
            let at = (row * 2 + camera) * PICTURE_BYTES;
            let wanted = &self.pictures[at..at + PICTURE_BYTES];
            let pairs = image.rgb.iter().zip(wanted);
            let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
            let most = *differences.iter().max().unwrap();
            let sum: u64 = differences.iter().map(|&level| u64::from(level)).sum();
            let mean = sum as f64 / PICTURE_BYTES as f64;
            let (most_mean, most_at_all) = self.tolerated;
            assert!(
                mean <= most_mean && most <= most_at_all,
                "row {row}, camera {camera}: {mean} levels, {most} at most"
            );
        }
    }

    /// The rows of each episode.
    fn episodes(&self) -> Vec<Vec<usize>> {
        let mut episodes: Vec<Vec<usize>> = vec![];
        for (at, row) in self.rows.iter().enumerate() {
            if row["frame_index"] == 0 {
                episodes.push(vec![]);
            }
            episodes.last_mut().unwrap().push(at);
        }
        episodes
    }

    fn check_all(&self, entries: &[Entry], terminated: impl Fn(usize) -> bool) {
        let mut entries = entries.iter();
        let mut sequence = 0;
        for (episode, rows) in self.episodes().iter().enumerate() {
            let entry = entries.next().unwrap();
            let check = |entry: &Entry, sequence, index| {
                let place = (entry.sequence, entry.episode, entry.index);
                assert_eq!(place, (sequence, episode as u64, index));
            };
            check(entry, sequence, 0);
            let Record::Reset(seen) = &entry.record else {
                panic!("{entry:?} is no reset");
            };
            self.check(rows[0], sequence, seen);
            sequence += 1;
            for (place, &row) in rows.iter().enumerate() {
                let entry = entries.next().unwrap();
                check(entry, sequence, place as u32 + 1);
                let Record::Step(step) = &entry.record else {
                    panic!("{entry:?} is no step");
                };
                let mut action = numbers(&self.rows[row], "action");
                // Ours are -1, 0 and 1.
                action[3] -= 1.0;
                assert_eq!(step.action, action);
                assert_eq!(step.reward, numbers(&self.rows[row], "next.reward")[0]);
                let last = place + 1 == rows.len();
                assert_eq!(step.terminated, last && terminated(episode));
                assert_eq!(step.truncated, last && !terminated(episode));
                let penalty = "complementary_info.discrete_penalty";
                if self.rows[row].get(penalty).is_some() {
                    assert_eq!(step.grasp_penalty, numbers(&self.rows[row], penalty)[0]);
                }
                let intervention = self.rows[row].get("complementary_info.is_intervention");
                let source = match intervention.map(|flag| flag == &Value::Bool(true)) {
                    Some(false) => ActionSource::Policy,
                    _ => ActionSource::Human,
                };
                assert_eq!(step.source, source);
                self.check(if last { row } else { row + 1 }, sequence, &step.next);
                sequence += 1;
            }
        }
        assert!(entries.next().is_none());
    }
}

fn entries(recording: &Recording) -> Vec<Entry> {
    recording.entries().collect::<Result<_, _>>().unwrap()
}

#[test]
fn datasets_that_lerobot_wrote_are_read_as_it_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let Some(out) = support::python("lerobot_write.py", &[dir.path()]) else {
        return;
    };
    let written: Value = serde_json::from_slice(&out).unwrap();
    let read = |name: &str, tolerated| Read {
        rows: written[name].as_array().unwrap(),
        pictures: fs::read(dir.path().join(format!("{name}.rgb"))).unwrap(),
        tolerated,
    };
    let recording = |name: &str| Recording::open(&dir.path().join(name), None).unwrap();

    let images = recording("image");
    check_spec(images.spec());
    // `next.truncated` says it, of the first: and the second ended without one.
    read("image", (0.0, 0)).check_all(&entries(&images), |episode| episode == 1);

    states_are_a_table(
        &dir.path().join("states"),
        written["states"].as_array().unwrap(),
    );

    if !has_ffmpeg() {
        return;
    }
    let videos = recording("video");
    check_spec(videos.spec());
    let first = entries(&videos);
    let reward = |episode: usize| episode.is_multiple_of(2);
    read("video", (MOST_MEAN, MOST)).check_all(&first, reward);
    // Again and again, and the run is the data set's.
    assert_eq!(entries(&videos), first);
    assert_eq!(entries(&recording("video")), first);
    assert_ne!(first[0].run, entries(&images)[0].run);

    let many = recording("many-files");
    assert!(
        dir.path()
            .join("many-files/data/chunk-000/file-001.parquet")
            .is_file()
    );
    let videos = dir
        .path()
        .join("many-files/videos/observation.images.front/chunk-000");
    assert!(videos.join("file-001.mp4").is_file());
    read("many-files", (MOST_MEAN, MOST)).check_all(&entries(&many), reward);

    // A rig told may have fewer cameras, in another order.
    let mut told = recording("video").spec().clone();
    told.cameras.remove(0);
    let one = Recording::open(&dir.path().join("video"), Some(&told)).unwrap();
    for (entry, both) in entries(&one).iter().zip(&first) {
        assert_eq!(entry.observation().images, both.observation().images[1..]);
    }
    told.cameras[0].width = 65;
    let message = Recording::open(&dir.path().join("video"), Some(&told));
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("`wrist` (65×48) is not in the dataset"),
        "{message}"
    );
}

fn check_spec(spec: &RigSpec) {
    assert_eq!(spec.mode, SetupMode::SingleArmLearnedGripper);
    let cameras: Vec<&str> = spec
        .cameras
        .iter()
        .map(|camera| camera.name.as_str())
        .collect();
    assert_eq!(cameras, ["front", "wrist"]);
    assert_eq!(spec.proprio, ["a", "b", "c"]);
    assert_eq!(spec.policy_hz, 10);
}

fn states_are_a_table(path: &Path, rows: &[Value]) {
    let Data::Table(table) = Data::open(path, None).unwrap() else {
        panic!("a dataset without cameras is a table");
    };
    assert_eq!(table.len(), rows.len());
    let ends: Vec<usize> = table.episodes().map(|rows| rows.end).collect();
    assert_eq!(ends, [3, 5, 9]);
    let observation = |row: usize| {
        let parts = ["observation.state", "observation.environment_state"];
        parts.map(|key| numbers(&rows[row], key)).concat()
    };
    for (row, written) in rows.iter().enumerate() {
        assert_eq!(table.observation(row), observation(row));
        assert_eq!(table.action(row), numbers(written, "action"));
        let next = if ends.contains(&(row + 1)) {
            row
        } else {
            row + 1
        };
        assert_eq!(table.next_observation(row), observation(next));
    }
    let columns = table.columns();
    assert_eq!(
        columns.rewards,
        [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    );
    let at = |flags: &[bool]| (0..9).filter(|&row| flags[row]).collect::<Vec<_>>();
    assert_eq!(at(&columns.terminals), [2, 8]);
    assert_eq!(at(&columns.timeouts), [4]);
}
