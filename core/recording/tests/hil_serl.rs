//! HIL-SERL's files: there and back with Python's pickle and numpy themselves, and with files that are not what they
//! should be.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/python.rs"]
mod python;

use std::{
    fs,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::{
    Data, Recording,
    hil_serl::{self, HilSerlError, Opened},
    table::{Columns, Table},
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The cameras that `hil_serl.py` has too.
const CAMERAS: [(&str, u32, u32); 2] = [("front", 16, 16), ("wrist", 16, 24)];
const STATE: usize = 19;

fn cameras() -> Vec<CameraSpec> {
    let camera = |&(name, height, width): &(&str, u32, u32)| CameraSpec {
        name: name.into(),
        height,
        width,
    };
    CAMERAS.iter().map(camera).collect()
}

/// The observation that `hil_serl.py` has too.
fn observation(frame: usize, time: u64) -> Observation {
    let image = |camera: CameraSpec| {
        let bytes = camera.height as usize * camera.width as usize * 3;
        let number = |i: usize| ((i + 7 * frame + camera.name.len()) % 251) as u8;
        Image {
            captured_ns: time * 100_000_000,
            height: camera.height,
            width: camera.width,
            rgb: (0..bytes).map(number).collect(),
        }
    };
    Observation {
        captured_ns: time * 100_000_000,
        proprio: (0..STATE).map(|i| frame as f32 + i as f32 / 8.0).collect(),
        images: cameras().into_iter().map(image).collect(),
    }
}

/// The entries that the transitions of `hil_serl.py` are.
fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut frame = 0;
    for (episode, steps) in [3, 2].into_iter().enumerate() {
        let mut push = |index: u32, record: &dyn Fn(u64) -> Record| {
            let sequence = entries.len() as u64;
            entries.push(Entry {
                run: RunId(0),
                sequence,
                episode: episode as u64,
                index,
                record: record(sequence),
            });
        };
        push(0, &|time| Record::Reset(observation(frame, time)));
        for index in 1..=steps {
            let mut action: Vec<f32> = (0..7)
                .map(|i| ((i + frame) % 16) as f32 / 8.0 - 1.0)
                .collect();
            action[6] = [-1.0, 0.0, 1.0][frame % 3];
            let last = index == steps;
            push(index, &|time| {
                Record::Step(Step {
                    action: action.clone(),
                    source: ActionSource::Human,
                    reward: f32::from(u8::from(last && episode == 0)),
                    grasp_penalty: if frame % 2 == 1 { -0.02 } else { 0.0 },
                    terminated: last && episode == 0,
                    truncated: last && episode == 1,
                    label: None,
                    policy_version: 0,
                    noise_seed: 0,
                    next: observation(frame + 1, time),
                })
            });
            frame += 1;
        }
        frame += 1;
    }
    entries
}

/// Entries as they are, but for the run.
fn anonymous(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        entry.run = RunId(0);
    }
    entries
}

fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let recording = Recording::open(path, None).map_err(|e| e.to_string())?;
    let entries = recording.entries().collect::<Result<_, _>>();
    entries.map(anonymous).map_err(|e| e.to_string())
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<Entry>, HilSerlError> {
    let path = Path::new("demos.pkl");
    match hil_serl::read_from(Cursor::new(bytes), bytes.len() as u64, path, None)? {
        Opened::Rig((_, entries)) => entries.collect::<Result<_, _>>().map(anonymous),
        Opened::Table(_) => Ok(vec![]),
    }
}

fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![
            Axis::X,
            Axis::Y,
            Axis::Z,
            Axis::Roll,
            Axis::Pitch,
            Axis::Yaw,
        ],
        cameras: cameras(),
        proprio: (0..STATE).map(|i| format!("state.{i}")).collect(),
        policy_hz: 10,
    }
}

fn write(path: &Path, entries: &[Entry]) -> u64 {
    let entries = entries
        .iter()
        .map(|entry| Ok::<_, HilSerlError>(entry.clone()));
    hil_serl::write(path, &spec(), entries).unwrap()
}

/// A file of the entries.
fn written(entries: &[Entry]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demos.pkl");
    write(&path, entries);
    fs::read(path).unwrap()
}

/// The file that `hil_serl.py` wrote under each name; `None` without Python.
fn of_python() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    python::python("hil_serl.py", &["write".as_ref(), dir.path().as_os_str()])?;
    Some(dir)
}

#[test]
fn what_python_pickled_is_read_whatever_the_protocol() {
    let Some(dir) = of_python() else { return };
    for form in ["protocol", "other"] {
        for protocol in 2..=5 {
            let path = dir.path().join(format!("{form}-{protocol}.pkl"));
            assert!(read(&path).unwrap() == entries(), "{}", path.display());
        }
        for protocol in [0, 1] {
            let path = dir.path().join(format!("{form}-{protocol}.pkl"));
            let error = read(&path).unwrap_err();
            assert!(
                error.contains(".pkl: ") && error.contains("protocol 0 or 1"),
                "{error}"
            );
        }
    }
    assert!(read(&dir.path().join("stacked.pkl")).unwrap() == entries());
}

#[test]
fn names_of_a_state_are_those_of_its_parts() {
    let Some(dir) = of_python() else { return };
    let names = |file: &str| {
        let recording = Recording::open(&dir.path().join(file), None).unwrap();
        recording.spec().proprio.clone()
    };
    assert_eq!(
        names("protocol-4.pkl")[..2],
        ["gripper_pose", "tcp_force.x"]
    );
    assert_eq!(names("other-4.pkl")[..2], ["gripper_pose", "tcp_force.0"]);
}

#[test]
fn an_episode_ends_where_the_next_row_begins_elsewhere() {
    let Some(dir) = of_python() else { return };
    let read = read(&dir.path().join("fragments.pkl")).unwrap();
    let shape: Vec<_> = read
        .iter()
        .map(|entry| match &entry.record {
            Record::Reset(_) => (entry.episode, entry.index, "reset"),
            Record::Step(step) if step.truncated => (entry.episode, entry.index, "cut"),
            Record::Step(step) if step.terminated => (entry.episode, entry.index, "end"),
            Record::Step(_) => (entry.episode, entry.index, "step"),
        })
        .collect();
    let wanted = [
        (0, 0, "reset"),
        (0, 1, "cut"),
        (1, 0, "reset"),
        (1, 1, "end"),
        (2, 0, "reset"),
        (2, 1, "cut"),
    ];
    assert_eq!(shape, wanted);
    assert_eq!(read[2].observation(), &observation(2, 2));
}

#[test]
fn states_without_images_are_a_table() {
    let Some(dir) = of_python() else { return };
    let path = dir.path().join("states.pkl");
    let Data::Table(table) = Data::open(&path, None).unwrap() else {
        panic!("it has no images");
    };
    assert_eq!((table.len(), table.observation(3)[1]), (5, 4.125));
    assert_eq!(table.episodes().collect::<Vec<_>>(), [0..3, 3..5]);
    assert_eq!(
        table.columns().terminals,
        [false, false, true, false, false]
    );
    let error = Recording::open(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("states.pkl: a table of state vectors"),
        "{error}"
    );
}

#[test]
fn frames_have_the_labels_of_their_rows_or_of_their_file() {
    let Some(dir) = of_python() else { return };
    let path = dir.path().join("labels.pkl");
    let labelled = hil_serl::labelled(&path, None).unwrap();
    assert_eq!((labelled.cameras(), labelled.len()), (&cameras()[..], 5));
    let frames: Vec<_> = labelled.frames().collect::<Result<_, _>>().unwrap();
    let labels: Vec<bool> = frames.iter().map(|frame| frame.success).collect();
    assert_eq!(labels, [false, true, false, true, false]);
    // The second episode begins with frame 4.
    assert_eq!(frames[3].images[1].rgb, observation(4, 0).images[1].rgb);

    let all = hil_serl::labelled(&path, Some(true)).unwrap();
    assert!(all.frames().all(|frame| frame.unwrap().success));
    let error = hil_serl::labelled(&dir.path().join("protocol-4.pkl"), None).unwrap_err();
    assert!(error.to_string().contains("--success-dir"), "{error}");

    let (success, failure) = ("task_200_success_images.pkl", "task_failure_images.pkl");
    let both = dir.path().join("classifier_data");
    fs::create_dir(&both).unwrap();
    for name in [success, failure] {
        fs::copy(dir.path().join(name), both.join(name)).unwrap();
    }
    let labelled = hil_serl::labelled(&both, None).unwrap();
    let labels: Vec<bool> = labelled
        .frames()
        .map(|frame| frame.unwrap().success)
        .collect();
    assert_eq!(labels, [true, false, false]);
    let error = hil_serl::labelled(&both, Some(true))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(failure) && error.contains("the other kind"),
        "{error}"
    );
}

#[test]
fn what_a_person_said_of_steps_is_there_for_the_classifier() {
    let mut all = entries();
    for (entry, label) in [(1, false), (3, true)] {
        let Record::Step(step) = &mut all[entry].record else {
            panic!("it is a reset");
        };
        step.label = Some(label);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.pkl");
    write(&path, &all);
    let labelled = hil_serl::labelled(&path, None).unwrap();
    let frames: Vec<_> = labelled.frames().collect::<Result<_, _>>().unwrap();
    assert_eq!((labelled.len(), frames.len()), (2, 2));
    for (frame, (entry, label)) in frames.iter().zip([(1, false), (3, true)]) {
        assert_eq!(frame.success, label);
        assert_eq!(frame.images[0].rgb, all[entry].observation().images[0].rgb);
    }
}

#[test]
fn python_loads_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demos.pkl");
    assert_eq!(write(&path, &entries()), 5);
    let Some(out) = python::python("hil_serl.py", &["read".as_ref(), path.as_os_str()]) else {
        return;
    };
    let read: Value = serde_json::from_slice(&out).unwrap();
    let numbers = |dtype: &str, shape: &[usize], numbers: Vec<Value>| json!({"dtype": dtype, "shape": shape, "numbers": numbers});
    let seen = |seen: &Observation| {
        let floats = |f: &[f32]| f.iter().map(|n| json!(n)).collect();
        let image = |i: &Image| {
            let shape = [1, i.height as usize, i.width as usize, 3];
            numbers("uint8", &shape, i.rgb.iter().map(|n| json!(n)).collect())
        };
        json!({
            "state": numbers("float32", &[1, STATE], floats(&seen.proprio)),
            "front": image(&seen.images[0]),
            "wrist": image(&seen.images[1]),
        })
    };
    let all = entries();
    let wanted: Vec<Value> = (all.windows(2))
        .filter_map(|pair| match &pair[1].record {
            Record::Reset(_) => None,
            Record::Step(step) => Some(json!({
                "observations": seen(pair[0].observation()),
                "actions": numbers("float32", &[7], step.action.iter().map(|n| json!(n)).collect()),
                "next_observations": seen(&step.next),
                "grasp_penalty": step.grasp_penalty,
                "rewards": f64::from(step.reward),
                "masks": if step.terminated { 0.0 } else { 1.0 },
                "dones": step.terminated || step.truncated,
                "infos": {
                    "terminated": step.terminated,
                    "truncated": step.truncated,
                    "source": "human",
                },
            })),
        })
        .skip(1)
        .collect();
    assert!(read == json!(wanted), "{read}");
}

#[test]
fn a_table_comes_back_as_it_was() {
    let table = Table::new(Columns {
        observation: 2,
        action: 1,
        observations: vec![0.0, 0.5, 0.1, 0.0, 5.0, 5.0],
        actions: vec![1.0, -7.0, 0.25],
        rewards: vec![0.0, -3.5, 0.0],
        next_observations: vec![0.1, 0.0, 0.2, 0.0, 5.1, 5.0],
        terminals: vec![false, true, false],
        timeouts: vec![false, false, true],
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("states.pkl");
    hil_serl::write_table(&path, &table).unwrap();
    match hil_serl::open(&path, None).unwrap() {
        Opened::Table(read) => assert_eq!(read, table),
        Opened::Rig(_) => panic!("it has no images"),
    }
}

/// What is told of one file, read and written, and of the folder that it is in.
#[test]
fn every_file_of_a_folder_is_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let all = entries();
    write(&dir.path().join("b.pkl"), &all[4..]);
    write(&dir.path().join("a.pkl"), &all[..4]);
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    let Data::Recording(recording) = Data::open(dir.path(), None).unwrap() else {
        panic!("it has images");
    };
    let read: Vec<Entry> = recording.entries().collect::<Result<_, _>>().unwrap();
    let (first, second) = read.split_at(4);
    assert!(first.iter().all(|entry| entry.run == first[0].run));
    assert!(second.iter().all(|entry| entry.run == second[0].run));
    assert_ne!(first[0].run, second[0].run);
    assert_eq!((second[0].sequence, second[0].episode), (0, 0));
    assert_eq!(anonymous(first.to_vec()), all[..4]);

    // A file by itself is the same run.
    let alone = Recording::open(&dir.path().join("b.pkl"), None).unwrap();
    let alone: Vec<Entry> = alone.entries().collect::<Result<_, _>>().unwrap();
    assert_eq!(alone, second);

    // One of another rig.
    let mut wider = all;
    for entry in &mut wider {
        match &mut entry.record {
            Record::Reset(seen) => seen.proprio.push(0.0),
            Record::Step(step) => step.next.proprio.push(0.0),
        }
    }
    write(&dir.path().join("c.pkl"), &wider);
    let error = Recording::open(dir.path(), None).unwrap_err().to_string();
    assert!(
        error.contains("c.pkl") && error.contains("their states differ"),
        "{error}"
    );
}

#[test]
fn a_told_spec_is_the_rig() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demos.pkl");
    write(&path, &entries());
    let mut told = spec();
    told.cameras.remove(0);
    told.policy_hz = 20;
    let recording = Recording::open(&path, Some(&told)).unwrap();
    assert_eq!(recording.spec(), &told);
    let read: Vec<Entry> = recording.entries().collect::<Result<_, _>>().unwrap();
    let last = read[3].observation();
    assert_eq!((last.images.len(), last.captured_ns), (1, 150_000_000));
    assert_eq!(last.images[0].rgb, observation(3, 0).images[1].rgb);
}

/// What was written once is read once: the images of a step are those that the next begins with, not copies.
#[test]
fn a_file_of_ours_has_each_image_once() {
    let bytes = written(&entries());
    let one: usize = CAMERAS.iter().map(|(_, h, w)| (h * w * 3) as usize).sum();
    assert!(bytes.len() < 7 * one + 7 * 1000, "{} bytes", bytes.len());
}

/// Counts what is read.
struct Counting<'a> {
    file: Cursor<&'a [u8]>,
    read: &'a std::cell::Cell<usize>,
}

impl Read for Counting<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(bytes)?;
        self.read.set(self.read.get() + count);
        Ok(count)
    }
}

impl Seek for Counting<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn images_are_fetched_when_they_are_asked_for() {
    let mut all = entries();
    let large = |seen: &mut Observation| {
        seen.images[1].height = 512;
        seen.images[1].width = 512;
        seen.images[1].rgb = vec![7; 512 * 512 * 3].into();
    };
    for entry in &mut all {
        match &mut entry.record {
            Record::Reset(seen) => large(seen),
            Record::Step(step) => large(&mut step.next),
        }
    }
    let bytes = written(&all);
    let read = std::cell::Cell::new(0);
    let file = Counting {
        file: Cursor::new(&bytes),
        read: &read,
    };
    let path = Path::new("demos.pkl");
    let opened = hil_serl::read_from(file, bytes.len() as u64, path, None).unwrap();
    let Opened::Rig((_, mut entries)) = opened else {
        panic!("it has images");
    };
    let image = 512 * 512 * 3;
    assert!(read.get() < image / 4, "{} bytes to open it", read.get());
    entries.next().unwrap().unwrap();
    let first = read.get();
    assert!((image..image + image / 4).contains(&first));
    entries.next().unwrap().unwrap();
    assert!((image..image + image / 4).contains(&(read.get() - first)));
}

/// The first entry of a file that is damaged like this, or what is said of it.
fn refused(bytes: &[u8], words: &[&str]) {
    let error = read_bytes(bytes).unwrap_err().to_string();
    for word in words.iter().chain(&["demos.pkl"]) {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// Puts one thing in the place of another that is as long, wherever it is from the `nth` on.
fn replaced(bytes: &[u8], nth: usize, old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places = bytes.windows(old.len()).enumerate();
    let place = places.filter(|(_, at)| *at == old.as_bytes()).nth(nth);
    let place = place.expect("it is not there").0;
    let mut bytes = bytes.to_vec();
    bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
    bytes
}

#[test]
fn rows_that_are_no_transitions_are_refused_by_name() {
    let whole = written(&entries());
    let missing = |key: &str| {
        let other = key.to_uppercase();
        refused(
            &replaced(&whole, 0, key, &other),
            &["row 0", key, "is missing"],
        );
    };
    for key in ["actions", "next_observations", "rewards", "dones"] {
        missing(key);
    }
    // The first such name is that of `observations`.
    let without = replaced(&whole, 0, "observations", "Observations");
    refused(&without, &["row 0", "`observations` is missing"]);
    let signed = replaced(&whole, 0, "u1", "i1");
    refused(
        &signed,
        &[
            "row 0",
            "`observations.front`",
            "int8 array of shape [1, 16, 16, 3]",
            "uint8",
        ],
    );

    let damage = |place: usize, change: &dyn Fn(&mut Step)| {
        let mut all = entries();
        let Record::Step(step) = &mut all[place].record else {
            panic!("it is a reset");
        };
        change(step);
        written(&all)
    };
    // Entries 1 to 3 are rows 0 to 2, 5 and 6 are rows 3 and 4.
    refused(
        &damage(2, &|step| step.action[3] = f32::NAN),
        &["row 1", "`actions` has NaN at place 3"],
    );
    refused(
        &damage(6, &|step| step.next.proprio[0] = f32::INFINITY),
        &["row 4", "`next_observations.state` has inf at place 0"],
    );
    refused(
        &damage(5, &|step| step.reward = f32::NAN),
        &["row 3", "`rewards` has NaN"],
    );
    refused(
        &damage(3, &|step| step.grasp_penalty = f32::NAN),
        &["row 2", "`grasp_penalty`"],
    );
    refused(
        &damage(2, &|step| step.action.truncate(6)),
        &["row 1", "`actions` has 6 numbers", "before it has 7"],
    );
    refused(
        &damage(2, &|step| step.next.proprio.truncate(18)),
        &["row 1", "`next_observations` has 18 numbers", "19"],
    );
    let smaller = damage(3, &|step| {
        step.next.images[0].height = 15;
        step.next.images[0].rgb = vec![0; 15 * 16 * 3].into();
    });
    refused(
        &smaller,
        &[
            "row 2",
            "`next_observations.front`",
            "[1, 15, 16, 3]",
            "16 to 4096",
        ],
    );
    let smaller = damage(3, &|step| {
        step.next.images[1].height = 17;
        step.next.images[1].rgb = vec![0; 17 * 24 * 3].into();
    });
    refused(
        &smaller,
        &[
            "row 2",
            "`next_observations` has the cameras",
            "wrist 17×24",
            "wrist 16×24",
        ],
    );
    // Two columns are no rig's that is known.
    let columns = |step: &mut Step| step.action.truncate(2);
    let mut all = entries();
    for entry in &mut all {
        if let Record::Step(step) = &mut entry.record {
            columns(step);
        }
    }
    refused(&written(&all), &["actions of 2 numbers", "--spec"]);
}

#[test]
fn files_that_are_something_else_are_refused() {
    refused(b"\x80\x04].", &["no transition"]);
    refused(b"\x80\x04}.", &["a dictionary", "list of transitions"]);
    refused(b"\x80\x04]\x88a.", &["row 0", "is a bool", "a dictionary"]);
    refused(b"", &["no pickle"]);
    refused(b"PK\x03\x04", &["no pickle"]);
    // 10 GB of bytes, of text and of a list's numbers that are not there.
    let lies = [
        b"\x80\x04]\x8e".as_slice(),
        b"\x80\x04]\x8d",
        b"\x80\x05]\x96",
    ];
    for lie in lies {
        let bytes = [lie, &10_000_000_000u64.to_le_bytes(), &[7; 5000]].concat();
        refused(&bytes, &["ends within a value"]);
    }
    let whole = written(&entries());
    for length in (2..whole.len()).step_by(101) {
        refused(&whole[..length], &["ends within a value"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let error = hil_serl::open(dir.path(), None).unwrap_err().to_string();
    assert!(
        error.ends_with("holds no file of HIL-SERL's (.pkl)"),
        "{error}"
    );
    let error = hil_serl::open(&dir.path().join("no.pkl"), None).unwrap_err();
    assert!(error.to_string().contains("no.pkl: "), "{error}");
}

#[test]
fn nothing_in_a_file_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("it-was-run");
    let command = format!("touch {}", marker.display());
    let text = [&[0x8c, command.len() as u8], command.as_bytes()].concat();
    let path = dir.path().join("demos.pkl");
    for call in [
        b"cos\nsystem\n".as_slice(),
        b"cposix\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93",
    ] {
        fs::write(&path, [b"\x80\x04]", call, &text, b"\x85Ra."].concat()).unwrap();
        let error = Recording::open(&path, None).unwrap_err().to_string();
        assert!(
            error.contains("system`") && error.contains("nothing was run"),
            "{error}"
        );
    }
    assert!(!marker.exists());
    let Some(dir) = of_python() else { return };
    for (name, foreign) in [("class", "_io.StringIO"), ("range", "range")] {
        let error = read(&dir.path().join(format!("{name}.pkl"))).unwrap_err();
        assert!(
            error.contains(foreign) && error.contains("nothing was run"),
            "{error}"
        );
    }
}

/// A stream that fails leaves no file, and no half of one.
#[test]
fn nothing_half_written_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demos.pkl");
    fs::write(&path, "an older one").unwrap();
    let failing = entries()
        .into_iter()
        .map(Ok)
        .chain([Err(HilSerlError::Nothing("runs".into()))]);
    let error = hil_serl::write(&path, &spec(), failing).unwrap_err();
    assert!(matches!(error, HilSerlError::Nothing(_)));
    assert_eq!(fs::read(&path).unwrap(), b"an older one");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn no_camera_is_named_as_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec();
    spec.cameras[1].name = "state".into();
    let none = std::iter::empty::<Result<Entry, HilSerlError>>();
    let error = hil_serl::write(&dir.path().join("demos.pkl"), &spec, none).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("demos.pkl: a camera cannot be named `state`")
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// An episode: what is drawn of each of its steps.
type Drawn = Vec<(Vec<f32>, f32, u8, bool, u8)>;

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let action = prop::collection::vec(-1.0f32..=1.0, 7);
    let step = (action, -1e6f32..1e6, 0u8..4, any::<bool>(), 0u8..3);
    prop::collection::vec(prop::collection::vec(step, 1..5), 1..5)
}

/// Entries of episodes, none of which begins where another ends.
fn story(episodes: &[Drawn]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = vec![];
    for (episode, steps) in episodes.iter().enumerate() {
        for index in 0..=steps.len() {
            let sequence = entries.len() as u64;
            let next = observation(entries.len(), sequence);
            let record = match index.checked_sub(1).map(|i| &steps[i]) {
                None => Record::Reset(next),
                Some((action, reward, source, ends, label)) => {
                    let mut action = action.clone();
                    action[6] = action[6].round() + 0.0;
                    let last = index == steps.len();
                    Record::Step(Step {
                        action,
                        source: [
                            ActionSource::Human,
                            ActionSource::Policy,
                            ActionSource::ScriptedOperator,
                            ActionSource::Random,
                        ][usize::from(*source)],
                        reward: *reward,
                        grasp_penalty: reward / 8.0,
                        terminated: last && *ends,
                        truncated: last && !ends,
                        label: [None, Some(false), Some(true)][usize::from(*label)],
                        policy_version: 0,
                        noise_seed: 0,
                        next,
                    })
                }
            };
            entries.push(Entry {
                run: RunId(0),
                sequence,
                episode: episode as u64,
                index: index as u32,
                record,
            });
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn entries_come_back_as_they_were(episodes in drawn()) {
        let entries = story(&episodes);
        prop_assert!(read_bytes(&written(&entries)).unwrap() == entries);
    }

    /// What is missing of a stream makes no transition; all others are there.
    #[test]
    fn a_gap_makes_no_transition(episodes in drawn(), gap in any::<prop::sample::Index>()) {
        let mut entries = story(&episodes);
        let gap = gap.index(entries.len());
        let steps = |entries: &[Entry]| {
            let pairs = entries.windows(2).filter(|pair| {
                let goes_on = pair[0].sequence + 1 == pair[1].sequence;
                goes_on && matches!(pair[1].record, Record::Step(_))
            });
            pairs.map(|pair| {
                let Record::Step(step) = &pair[1].record else { unreachable!() };
                (step.action.clone(), pair[0].observation().proprio.clone())
            }).collect::<Vec<_>>()
        };
        entries.remove(gap);
        let wanted = steps(&entries);
        prop_assume!(!wanted.is_empty());
        let mut read = read_bytes(&written(&entries)).unwrap();
        for (sequence, entry) in (0..).zip(&mut read) {
            entry.sequence = sequence;
        }
        prop_assert_eq!(steps(&read), wanted);
    }

    #[test]
    fn damage_makes_no_panic(place in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..4)) {
        let mut file = DAMAGED.with(Arc::clone).to_vec();
        let place = place.index(file.len() - bytes.len());
        file[place..place + bytes.len()].copy_from_slice(&bytes);
        let _ = read_bytes(&file);
    }
}

thread_local! {
    static DAMAGED: Arc<[u8]> = written(&entries()).into();
}
