//! Data from one form into another and back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path};

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::{
    Data, Opening, Recording, RunWriter,
    convert::{Conversion, ConvertError, Format, convert},
};

fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X],
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: 32,
            width: 48,
        }],
        proprio: ["tool_x", "tool_y"].map(str::to_owned).to_vec(),
        policy_hz: 10,
    }
}

fn observation(run: u64, at: u64) -> Observation {
    let value = |i: usize| (i as u64 * 5 + at * 3 + run) as u8;
    Observation {
        captured_ns: at * 100_000_000,
        proprio: vec![run as f32, at as f32],
        images: vec![Image {
            captured_ns: at * 100_000_000,
            height: 32,
            width: 48,
            rgb: (0..32 * 48 * 3).map(value).collect(),
        }],
    }
}

/// Two episodes of three steps; the second lost an entry.
fn entries(run: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = vec![];
    for at in 0..8 {
        let (episode, index) = (at / 4, at % 4);
        let next = observation(run, at);
        let record = match index {
            0 => Record::Reset(next),
            _ => Record::Step(Step {
                action: vec![at as f32 / 8.0, -1.0],
                source: ActionSource::Human,
                reward: index as f32,
                grasp_penalty: -0.02,
                terminated: at == 3,
                truncated: at == 7,
                label: Some(at == 3),
                policy_version: at,
                noise_seed: at,
                next,
            }),
        };
        entries.push(Entry {
            run: RunId(run),
            sequence: at,
            episode,
            index: index as u32,
            record,
        });
    }
    entries.remove(5);
    entries
}

fn write_run(dir: &Path, run: u64) {
    let mut writer = RunWriter::create(dir, RunId(run), &spec(), BTreeMap::new()).unwrap();
    for entry in entries(run) {
        writer.append(&entry).unwrap();
    }
    writer.finish().unwrap();
}

fn read(path: &Path) -> (RigSpec, Vec<Entry>) {
    let recording = Recording::of_runs(path).unwrap();
    let entries = recording.entries().map(Result::unwrap).collect();
    (recording.spec().clone(), entries)
}

fn asked(from: &Path, to: &Path) -> Conversion {
    Conversion {
        from: from.to_owned(),
        to: to.to_owned(),
        ..Conversion::default()
    }
}

#[test]
fn runs_become_runs_with_everything_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let (from, one) = (dir.path().join("from"), dir.path().join("one"));
    write_run(&from.join("a"), 1);
    let as_runs = |from: &Path, to: &Path| Conversion {
        format: Some(Format::Runs),
        ..asked(from, to)
    };
    as_runs(&from, &one).run(|_| true).unwrap();
    assert!(one.join("run.mcap").exists(), "a single run is the folder");
    assert_eq!(read(&one), (spec(), entries(1)));

    write_run(&from.join("b"), 2);
    let two = dir.path().join("two");
    as_runs(&from, &two).run(|_| true).unwrap();
    assert_eq!(read(&two), (spec(), [entries(1), entries(2)].concat()));
}

#[test]
fn images_are_made_another_size() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    write_run(&from, 1);
    let conversion = Conversion {
        format: Some(Format::Runs),
        image_side: Some(16),
        ..asked(&from, &to)
    };
    conversion.run(|_| true).unwrap();
    let (spec, entries) = read(&to);
    assert_eq!((spec.cameras[0].height, spec.cameras[0].width), (16, 16));
    for entry in entries {
        let image = &entry.observation().images[0];
        assert_eq!((image.height, image.width, image.rgb.len()), (16, 16, 768));
        let mean = |rgb: &[u8]| rgb.iter().map(|&v| f64::from(v)).sum::<f64>() / rgb.len() as f64;
        let whole = &observation(1, entry.sequence).images[0];
        assert!((mean(&image.rgb) - mean(&whole.rgb)).abs() < 3.0);
    }
}

#[test]
fn a_table_has_the_steps_that_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to.npz"));
    write_run(&from, 1);
    let said = asked(&from, &to).run(|_| true).unwrap();
    assert!(said.contains("as npz"), "{said}");
    let Data::Table(table) = Data::open(&to, None).unwrap() else {
        panic!("a table was written");
    };
    // Entry 5 is lost, with it its step and the one that began there.
    let columns = table.columns();
    let at = [1.0, 2.0, 3.0, 7.0];
    assert_eq!(columns.rewards, [1.0, 2.0, 3.0, 3.0]);
    assert_eq!(columns.terminals, [false, false, true, false]);
    assert_eq!(columns.timeouts, [false, false, false, true]);
    for (row, at) in at.into_iter().enumerate() {
        assert_eq!(table.observation(row), [1.0, at - 1.0]);
        assert_eq!(table.next_observation(row), [1.0, at]);
        assert_eq!(table.action(row), [at / 8.0, -1.0]);
    }
    // And back from there is no way to pictures.
    let runs = convert(
        &Data::Table(table),
        &dir.path().join("runs"),
        Format::Runs,
        "",
        |_| true,
    );
    let said = runs.unwrap_err().to_string();
    assert!(said.contains("cameras"), "{said}");
}

#[test]
fn copies_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (run, demos, to) = (path("run"), path("demos"), path("to"));
    write_run(&run, 1);
    fs::create_dir(&demos).unwrap();
    asked(&run, &demos.join("a.pkl")).run(|_| true).unwrap();
    fs::copy(demos.join("a.pkl"), demos.join("b.pkl")).unwrap();
    let as_runs = |from: &Path| Conversion {
        format: Some(Format::Runs),
        ..asked(from, &to)
    };
    let said = as_runs(&demos).run(|_| true).unwrap_err().to_string();
    for words in ["a.pkl", "b.pkl", "take one of them out"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Whoever looks at them sees both.
    let told = spec();
    let opening = Opening {
        told: Some(&told),
        as_it_is: true,
        ..Opening::default()
    };
    let Data::Recording(recording) = Data::open_as(&demos, &opening).unwrap() else {
        panic!("there are pictures");
    };
    let runs = recording.entries().map(|entry| entry.unwrap().run);
    let runs: Vec<RunId> = runs.collect();
    assert_eq!(runs[..runs.len() / 2], runs[runs.len() / 2..]);
    // A folder of runs and its copy, beside each other or with another between them.
    write_run(&path("runs/a"), 1);
    write_run(&path("runs/b"), 1);
    let said = as_runs(&path("runs"))
        .run(|_| true)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("twice") && said.contains("take one"),
        "{said}"
    );
    write_run(&path("others/a"), 1);
    write_run(&path("others/b"), 2);
    write_run(&path("others/c"), 1);
    let said = as_runs(&path("others"))
        .run(|_| true)
        .unwrap_err()
        .to_string();
    assert!(said.contains("twice"), "{said}");
    assert!(!to.exists());
}

#[test]
fn a_table_has_no_rig_and_may_be_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_run(&path("run"), 1);
    for name in ["a.npz", "a.hdf5"] {
        asked(&path("run"), &path(name)).run(|_| true).unwrap();
        let told = Conversion {
            spec: Some(path("run/spec.json")),
            ..asked(&path(name), &path("b.npz"))
        };
        let said = told.run(|_| true).unwrap_err().to_string();
        assert!(
            said.contains(name) && said.contains("leave --spec out"),
            "{said}"
        );
        // While it is read, and while it is written.
        let mut asked_for = 0;
        asked(&path(name), &path("whole.pkl"))
            .run(|_| {
                asked_for += 1;
                true
            })
            .unwrap();
        fs::remove_file(path("whole.pkl")).unwrap();
        for last in 0..asked_for {
            let mut count = 0;
            let ended = asked(&path(name), &path("b.pkl")).run(|_| {
                count += 1;
                count <= last
            });
            let said = ended.unwrap_err().to_string();
            assert_eq!(said, "ended before the recording did", "{name}, {last}");
            assert!(!path("b.pkl").exists() && !path("b.pkl.partial").exists());
        }
        assert!(asked_for >= 2, "{asked_for}");
    }
}

#[test]
fn where_nothing_can_be_written_the_remedy_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_run(&path("run"), 1);
    for name in ["a.npz", "a.hdf5", "a.pkl"] {
        // A folder where the file is to be made.
        fs::create_dir(path(&format!("{name}.partial"))).unwrap();
        let said = asked(&path("run"), &path(name)).run(|_| true).unwrap_err();
        let said = said.to_string();
        for words in [name, "directory", "free some space or choose another place"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}

#[test]
fn what_is_refused_or_ended_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    write_run(&from, 1);
    let there = || {
        let mut names: Vec<_> = (fs::read_dir(dir.path()).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    for (name, format) in [
        ("to", Some(Format::Runs)),
        ("to.mcap", None),
        ("to.npz", None),
    ] {
        let conversion = Conversion {
            format,
            ..asked(&from, &dir.path().join(name))
        };
        let said = conversion.run(|count| count < 3).unwrap_err().to_string();
        assert!(said.contains("ended"), "{name}: {said}");
        assert_eq!(there(), ["from"]);
    }
    let said = asked(&from, &dir.path().join("to"))
        .run(|_| true)
        .unwrap_err();
    assert!(matches!(said, ConvertError::Unsaid(_)) && said.to_string().contains("--to"));
    let said = asked(&from, &from).run(|_| true);
    assert!(said.is_err());
    let said = asked(&dir.path().join("nothing"), &dir.path().join("to.npz")).run(|_| true);
    assert!(said.unwrap_err().to_string().contains("nothing"));
    assert_eq!(read(&from), (spec(), entries(1)));
}
