//! Datasets that we write: LeRobot itself loads and uses them, they are whole whenever the writer dies, and what cannot be
//! written is said by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/ffmpeg.rs"]
mod ffmpeg;
#[path = "support/python.rs"]
mod python;
#[path = "support/rig.rs"]
mod rig;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ffmpeg::has_ffmpeg;
use hilt_protocol::{Entry, Record, RigSpec};
use hilt_recording::{
    Recording,
    lerobot::{self, Options, WriteError, Writer, Written},
};
use rig::{End, entries, spec};
use serde_json::{Value, json};

fn write(dir: &Path, spec: &RigSpec, entries: &[Entry]) -> Result<Written, WriteError> {
    lerobot::write(
        dir,
        spec,
        entries.iter().cloned().map(Ok),
        Options::of_task("lift the cube"),
    )
}

/// What LeRobot sees in these datasets; its pictures are in `place`.
fn load(place: &Path, datasets: &[PathBuf]) -> Option<Vec<Value>> {
    let mut arguments = vec![place.to_owned()];
    arguments.extend(datasets.iter().cloned());
    let said = python::python("lerobot_load.py", &arguments)?;
    Some(serde_json::from_slice(&said).unwrap())
}

/// Each step with what was seen before it.
fn steps(entries: &[Entry]) -> Vec<(&Entry, &Entry)> {
    let pairs = entries.windows(2).map(|pair| (&pair[0], &pair[1]));
    pairs
        .filter(|(_, entry)| matches!(entry.record, Record::Step(_)))
        .collect()
}

/// Peak signal-to-noise ratio of pictures, dB.
fn psnr_db<'a>(a: impl Iterator<Item = &'a u8>, b: &[u8]) -> f64 {
    let squares: f64 = a
        .zip(b)
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum();
    20.0 * 255_f64.log10() - 10.0 * (squares / b.len() as f64).log10()
}

fn close(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b, tolerance))
        }
        (Value::Number(a), Value::Number(b)) => {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= tolerance
        }
        _ => ours == theirs,
    }
}

/// The largest number less the smallest, at any depth.
fn range(stats: &Value) -> f64 {
    fn flat(value: &Value, into: &mut Vec<f64>) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| flat(value, into)),
            Value::Bool(yes) => into.push(f64::from(u8::from(*yes))),
            number => into.push(number.as_f64().unwrap()),
        }
    }
    let (mut low, mut high) = (vec![], vec![]);
    flat(&stats["min"], &mut low);
    flat(&stats["max"], &mut high);
    low.iter()
        .zip(high)
        .map(|(low, high)| high - low)
        .fold(0.0, f64::max)
}

#[test]
fn lerobot_sees_every_frame_as_it_was() {
    if !has_ffmpeg() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (dir, spec) = (place.path().join("written"), spec());
    let episodes = [
        (7, End::Terminated),
        (0, End::Open),
        (12, End::Truncated),
        (1, End::Terminated),
        (5, End::Open),
    ];
    let entries = entries(&spec, &episodes);
    let written = write(&dir, &spec, &entries).unwrap();
    // That without a step is none.
    assert_eq!((written.episodes, written.frames), (4, 25));
    let steps = steps(&entries);
    for (i, camera) in spec.cameras.iter().enumerate() {
        let file = format!("written-observation.images.{}.seen", camera.name);
        let seen = steps
            .iter()
            .flat_map(|(before, _)| before.observation().images[i].rgb.to_vec());
        fs::write(place.path().join(file), seen.collect::<Vec<u8>>()).unwrap();
    }
    let Some(seen) = load(place.path(), &[dir]) else {
        return;
    };
    let seen = &seen[0];
    assert_eq!(seen["fps"], 10);
    assert_eq!(seen["total"], json!([4, 25, 25]));
    assert_eq!(
        seen["policy"]["observation.images.front"],
        json!([3, 64, 96])
    );
    assert_eq!(seen["policy"]["action"], json!([4]));

    let ours: Vec<u64> = [0, 2, 3, 4].to_vec();
    for (index, (before, entry)) in steps.iter().enumerate() {
        let Record::Step(step) = &entry.record else {
            continue;
        };
        let mut action = step.action.clone();
        action[3] += 1.0;
        let frame = before.index;
        let wanted = json!({
            "observation.state": before.observation().proprio,
            "action": action,
            "next.reward": step.reward,
            "next.done": step.terminated,
            "next.truncated": step.truncated,
            "complementary_info.discrete_penalty": step.grasp_penalty,
            "complementary_info.is_intervention": step.source.is_intervention(),
            "complementary_info.success_label": step.label.map_or(-1.0, |yes| f64::from(u8::from(yes))),
            "timestamp": frame as f32 / 10.0,
            "frame_index": frame,
            "episode_index": ours.iter().position(|&episode| episode == entry.episode),
            "index": index,
            "task_index": 0,
            "task": "lift the cube",
        });
        let got = &seen["frames"][index];
        assert_eq!(
            got.as_object().unwrap().len(),
            wanted.as_object().unwrap().len()
        );
        for (key, wanted) in wanted.as_object().unwrap() {
            // Printed as 64 bits, read as the same 32.
            let same = match (wanted, &got[key]) {
                (Value::Array(a), Value::Array(b)) => {
                    a.iter().zip(b).all(|(a, b)| single(a) == single(b))
                }
                (Value::Number(a), Value::Number(b)) if a.is_f64() => {
                    single(wanted) == single(&json!(b))
                }
                (wanted, got) => wanted == got,
            };
            assert!(same, "frame {index}: {key} is {}, not {wanted}", got[key]);
        }
    }
    for (camera, name) in spec.cameras.iter().map(|camera| &camera.name).enumerate() {
        let file = place
            .path()
            .join(format!("written-observation.images.{name}.rgb"));
        let seen = fs::read(file).unwrap();
        let bytes = seen.len() / steps.len();
        for (i, ((before, _), seen)) in steps.iter().zip(seen.chunks(bytes)).enumerate() {
            let db = psnr_db(before.observation().images[camera].rgb.iter(), seen);
            // From 32.6 to 36 dB with SVT-AV1 1.4.
            assert!(db > 30.0, "frame {i} of {name}: {db} dB");
        }
    }
    let all = seen["episodes"].as_array().unwrap();
    for (number, episode) in all.iter().enumerate() {
        for (key, theirs) in episode["stats"].as_object().unwrap() {
            // Theirs are means and squares in 32 bits, and quantiles in bins of a 5,000th of the range.
            let range = range(theirs);
            for (name, theirs) in theirs.as_object().unwrap() {
                let ours = &episode["episode"][format!("stats/{key}/{name}")];
                let tolerance = match name.as_str() {
                    "std" => 1e-3 * (1.0 + range),
                    quantile if quantile.starts_with('q') => 1e-6 + range / 4999.0,
                    _ => 1e-5 * (1.0 + range),
                };
                assert!(
                    close(ours, theirs, tolerance),
                    "episode {number}: {name} of {key} is {ours}, theirs {theirs}"
                );
            }
        }
    }
    // Of all episodes together.
    assert_eq!(seen["stats"]["index"]["max"], json!([24]));
    assert_eq!(seen["stats"]["next.done"]["max"], json!([true]));
    assert_eq!(
        seen["stats"]["observation.images.wrist"]["mean"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert!(close(&seen["stats"]["index"]["mean"], &json!([12.0]), 1e-9));
}

fn single(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

#[test]
fn lerobot_fills_its_replay_and_records_on() {
    if !has_ffmpeg() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("written");
    let entries = entries(&spec(), &[(4, End::Terminated), (5, End::Truncated)]);
    write(&dir, &spec(), &entries).unwrap();
    let Some(said) = python::python("lerobot_use.py", &[&dir]) else {
        return;
    };
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["size"], 9);
    assert_eq!(
        said["rewards"],
        json!([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    );
    // That time ran out is no end of the task.
    let ends: Vec<bool> = (0..9).map(|i| i == 3).collect();
    assert_eq!(said["dones"], json!(ends));
    assert_eq!(said["info"]["is_intervention"].as_array().unwrap().len(), 9);
    let labels = said["info"]["success_label"].as_array().unwrap();
    assert_eq!(labels[..3], [json!(0.0), json!(1.0), json!(-1.0)]);
    let penalty: Vec<f64> = said["info"]["discrete_penalty"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert!((penalty[3] + 0.02).abs() < 1e-6, "{penalty:?}");
    assert_eq!(
        said["sampled"]["observation.images.wrist"],
        json!([4, 3, 80, 64])
    );
    assert_eq!(said["longer"], json!([3, 3, "another"]));
    // A column of another type in its file would not go with ours.
    assert_eq!(said["other_types"], json!([]));
}

#[test]
fn what_is_written_is_read_back() {
    if !has_ffmpeg() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (dir, spec) = (place.path().join("written"), spec());
    let mut all = entries(
        &spec,
        &[
            (6, End::Terminated),
            (3, End::Truncated),
            (9, End::Terminated),
        ],
    );
    // Where one is missing, the step after it is none, and what follows is an episode of its own.
    all.retain(|entry| (entry.episode, entry.index) != (2, 4));
    write(&dir, &spec, &all).unwrap();
    let recording = Recording::open(&dir, None).unwrap();
    assert_eq!(recording.spec(), &spec);
    let read: Vec<Entry> = recording.entries().map(Result::unwrap).collect();
    let wanted: Vec<_> = steps(&all)
        .into_iter()
        .filter(|(before, entry)| before.index + 1 == entry.index)
        .collect();
    let read = steps(&read);
    assert_eq!(read.len(), wanted.len());
    let lengths: Vec<u32> = read.iter().map(|(_, entry)| entry.index).collect();
    assert_eq!(lengths, [1, 2, 3, 4, 5, 6, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4]);
    for ((before, entry), (before_was, was)) in read.iter().zip(&wanted) {
        assert_eq!(
            before.observation().proprio,
            before_was.observation().proprio
        );
        let (Record::Step(step), Record::Step(was)) = (&entry.record, &was.record) else {
            continue;
        };
        assert_eq!(step.action, was.action);
        assert_eq!(
            (step.reward, step.grasp_penalty),
            (was.reward, was.grasp_penalty)
        );
        assert_eq!((step.terminated, step.label), (was.terminated, was.label));
        assert_eq!(step.source.is_intervention(), was.source.is_intervention());
    }
}

/// Episodes and frames that our reader finds, and that it can read all of them.
fn found(dir: &Path) -> (u64, u64) {
    let recording = Recording::open(dir, None).unwrap();
    let (mut episodes, mut frames) = (0, 0);
    for entry in recording.entries() {
        match entry.unwrap().record {
            Record::Reset(_) => episodes += 1,
            Record::Step(_) => frames += 1,
        }
    }
    (episodes, frames)
}

#[test]
fn a_writer_that_is_dropped_leaves_the_episodes_that_ended() {
    if !has_ffmpeg() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("written");
    let entries = entries(
        &spec(),
        &[
            (3, End::Terminated),
            (4, End::Truncated),
            (6, End::Terminated),
        ],
    );
    let mut writer = Writer::begin(&dir, &spec(), Options::of_task("lift")).unwrap();
    for entry in &entries[..entries.len() - 2] {
        writer.add(entry).unwrap();
    }
    drop(writer);
    assert_eq!(found(&dir), (2, 7));
    assert!(!dir.join(".writing").exists());
    // None ended: nothing is left.
    let dir = place.path().join("none");
    let mut writer = Writer::begin(&dir, &spec(), Options::of_task("lift")).unwrap();
    entries[..3]
        .iter()
        .for_each(|entry| writer.add(entry).unwrap());
    drop(writer);
    assert!(!dir.exists());
}

/// What `whenever_the_program_is_killed…` kills: it writes until then.
#[test]
#[ignore = "it does not end; another test runs it"]
fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os("HILT_TEST_DATASET") else {
        return;
    };
    let (spec, some) = (
        spec(),
        entries(&spec(), &[(5, End::Terminated), (3, End::Truncated)]),
    );
    let endless = (0..).step_by(2).flat_map(|first| {
        some.clone().into_iter().map(move |entry| {
            let episode = first + entry.episode;
            Ok(Entry { episode, ..entry })
        })
    });
    lerobot::write(Path::new(&dir), &spec, endless, Options::of_task("lift")).unwrap();
}

#[test]
fn whenever_the_program_is_killed_a_whole_dataset_is_left() {
    if !has_ffmpeg() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mut dirs = vec![];
    for kill in 0..6_u64 {
        let dir = place.path().join(format!("killed-{kill}"));
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["writes_until_it_is_killed", "--exact", "--ignored"])
            .env("HILT_TEST_DATASET", &dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Some moment after there is something to be left: each time another.
        while !dir.join("meta/info.json").exists() {
            assert!(writer.try_wait().unwrap().is_none(), "the writer ended");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::sleep(std::time::Duration::from_millis(37 * kill));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let (episodes, frames) = found(&dir);
        assert!(episodes > 0);
        assert_eq!(frames, episodes / 2 * 8 + episodes % 2 * 5);
        dirs.push(dir);
    }
    let Some(seen) = load(place.path(), &dirs) else {
        return;
    };
    for (seen, dir) in seen.iter().zip(&dirs) {
        let (episodes, frames) = found(dir);
        assert_eq!(seen["total"], json!([episodes, frames, frames]));
    }
}

#[test]
fn files_are_rolled_when_they_are_full() {
    if !has_ffmpeg() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("written");
    let mut spec = spec();
    spec.proprio = (0..600).map(|i| format!("sensor {i}")).collect();
    let mut entries = entries(&spec, &[(150, End::Terminated); 6]);
    // What does not become small.
    let mut noise = 1_u64;
    let mut random = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (noise >> 33) as u32
    };
    for entry in &mut entries {
        let seen = match &mut entry.record {
            Record::Reset(seen) => seen,
            Record::Step(step) => &mut step.next,
        };
        seen.proprio
            .iter_mut()
            .for_each(|value| *value = random() as f32);
        for image in &mut seen.images {
            image.rgb = image.rgb.iter().map(|_| random() as u8).collect();
        }
    }
    let options = Options {
        data_files_size_in_mb: 1,
        video_files_size_in_mb: 1,
        ..Options::of_task("lift")
    };
    lerobot::write(&dir, &spec, entries.iter().cloned().map(Ok), options).unwrap();
    let files = |folder: &str| {
        let files = fs::read_dir(dir.join(folder).join("chunk-000")).unwrap();
        let sizes: Vec<u64> = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert!(
            sizes.iter().all(|&bytes| bytes < 5 << 19),
            "{folder}: {sizes:?}"
        );
        sizes.len()
    };
    let counts = ["data", "videos/observation.images.front"].map(files);
    println!("{counts:?} files of rows and of videos");
    // More than one, and fewer than episodes.
    assert!(
        counts.iter().all(|count| (2..=6).contains(count)),
        "{counts:?}"
    );
    assert_eq!(found(&dir), (6, 900));
    if let Some(seen) = load(place.path(), &[dir]) {
        assert_eq!(seen[0]["total"], json!([6, 900, 900]));
    }
}

fn refused(entries: &[Entry]) -> (String, PathBuf, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("written");
    let error = write(&dir, &spec(), entries).unwrap_err();
    (error.to_string(), dir, place)
}

#[test]
fn an_entry_that_is_not_of_the_rig_is_named() {
    if !has_ffmpeg() {
        return;
    }
    let spoiled = |spoil: &dyn Fn(&mut Entry)| {
        let mut entries = entries(&spec(), &[(3, End::Terminated), (3, End::Terminated)]);
        spoil(&mut entries[6]);
        let (error, dir, _place) = refused(&entries);
        // What was before it stays.
        assert_eq!(found(&dir), (1, 3));
        error
    };
    let at = |error: String, part: &str| {
        let place = "run 0000000000000007, episode 1, index 2: ";
        assert!(error.contains(place) && error.contains(part), "{error}");
    };
    fn step(entry: &mut Entry) -> &mut hilt_protocol::Step {
        match &mut entry.record {
            Record::Step(step) => step,
            Record::Reset(_) => panic!("no step"),
        }
    }
    at(
        spoiled(&|e| step(e).next.proprio[3] = f32::NAN),
        "number 3 of proprio is NaN",
    );
    at(
        spoiled(&|e| step(e).action[0] = f32::INFINITY),
        "number 0 of action is inf",
    );
    at(spoiled(&|e| step(e).reward = f32::NAN), "reward");
    at(
        spoiled(&|e| step(e).action.truncate(3)),
        "action has 3 numbers, by the spec it has 4",
    );
    at(
        spoiled(&|e| step(e).next.images.truncate(1)),
        "1 pictures, by the spec 2",
    );
    at(
        spoiled(&|e| step(e).next.images[1].height = 40),
        "camera `wrist` is 64×40",
    );
}

#[test]
fn where_nothing_can_be_written_nothing_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let some = entries(&spec(), &[(2, End::Terminated)]);
    let dir = place.path().join("there");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "kept").unwrap();
    let error = write(&dir, &spec(), &some).unwrap_err();
    assert!(matches!(error, WriteError::There(_)), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    // Below a file nobody can write, not even root.
    let error = write(&dir.join("file/dataset"), &spec(), &some).unwrap_err();
    assert!(error.to_string().contains("there/file/dataset"), "{error}");
    let (error, dir, _place) = refused(&entries(&spec(), &[(0, End::Open), (0, End::Open)]));
    assert!(error.contains("no episode with a step"), "{error}");
    assert!(!dir.exists());
    let mut slash = spec();
    slash.cameras[0].name = "a/b".into();
    let error = write(&place.path().join("new"), &slash, &some).unwrap_err();
    assert!(error.to_string().contains("`a/b`"), "{error}");
    assert!(!place.path().join("new").exists());
}

#[test]
fn a_full_disk_is_heard_and_what_was_written_stays() {
    if !has_ffmpeg() {
        return;
    }
    for file in ["rows.parquet", "episodes.parquet", "info.json"] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("written");
        let entries = entries(&spec(), &[(3, End::Terminated); 4]);
        let mut writer = Writer::begin(&dir, &spec(), Options::of_task("lift")).unwrap();
        entries[..4]
            .iter()
            .for_each(|entry| writer.add(entry).unwrap());
        // It is put there in the background.
        while !dir.join("meta/info.json").exists() {
            std::thread::yield_now();
        }
        std::os::unix::fs::symlink("/dev/full", dir.join(".writing").join(file)).unwrap();
        // It goes wrong in the background too: with one of the next entries, or at the end.
        let error = entries[4..]
            .iter()
            .find_map(|entry| writer.add(entry).err());
        let error = error.unwrap_or_else(|| writer.finish().unwrap_err());
        let error = error.to_string();
        assert!(
            error.contains("No space left") && error.contains("written/"),
            "{error}"
        );
        assert_eq!(found(&dir), (1, 3));
    }
}
