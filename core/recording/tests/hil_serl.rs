//! HIL-SERL's files, there and back with Python's pickle and numpy themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/python.rs"]
mod python;
#[path = "support/transitions.rs"]
mod transitions;

use std::{
    fs,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use hilt_protocol::{Entry, Image, Observation, Record};
use hilt_recording::{
    Data, Recording,
    hil_serl::{self, HilSerlError, Opened},
    table::{Columns, Table},
};
use serde_json::{Value, json};

use self::transitions::{
    CAMERAS, STATE, anonymous, cameras, entries, observation, spec, write, written,
};

fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let recording = Recording::open(path, None).map_err(|e| e.to_string())?;
    let entries = recording.entries().collect::<Result<_, _>>();
    entries.map(anonymous).map_err(|e| e.to_string())
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

#[test]
fn what_is_no_plain_data_is_refused_by_name() {
    let Some(dir) = of_python() else { return };
    for (name, foreign) in [("class", "_io.StringIO"), ("range", "range")] {
        let error = read(&dir.path().join(format!("{name}.pkl"))).unwrap_err();
        assert!(
            error.contains(foreign) && error.contains("nothing was run"),
            "{error}"
        );
    }
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
