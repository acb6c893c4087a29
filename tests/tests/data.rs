//! A recording in every form in which people keep such, by the programs that they use: from one form into the other and
//! back, looked at and learned from in each. And what goes wrong meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hilt_protocol::{Entry, Record, RigSpec};
use hilt_recording::{
    Recording,
    hil_serl::{self, HilSerlError},
};
use hilt_tests::{Program, hilt, learner, lift_rig, one_at_a_time};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a recording of the simulator's in it.
struct Data(TempDir);

impl Data {
    /// With demonstrations of the scripted operator in `demos`, and frames with labels in `demos-labels`.
    fn record() -> Self {
        let data = Self(tempfile::tempdir().unwrap());
        let mut command = hilt();
        command
            .args(["record", "--episodes", "3", "--rig"])
            .arg(lift_rig())
            .arg("--out")
            .arg(data.path("demos"));
        Program::start("hilt record", &mut command).ends_well();
        data
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `hilt-learner` with this command, on this data, of the recording's rig.
    fn learn(&self, command: &str, option: &str, data: &str, out: &str) -> Command {
        let mut learn = learner();
        learn
            .args([command, option])
            .arg(self.path(data))
            .arg("--spec")
            .arg(self.path("demos/spec.json"))
            .arg("--out")
            .arg(self.path(out));
        for setting in ["imitation.batch=8", "train.threads=1"] {
            learn.args(["--set", setting]);
        }
        learn
    }

    /// `hilt-learner convert`.
    fn convert(&self, from: &str, to: &str, form: Option<&str>) -> Command {
        let mut convert = learner();
        convert
            .arg("convert")
            .arg(self.path(from))
            .arg(self.path(to))
            .arg("--spec")
            .arg(self.path("demos/spec.json"));
        if let Some(form) = form {
            convert.args(["--to", form]);
        }
        convert
    }

    /// The recording in all forms.
    fn export(&self) {
        for (to, form) in [
            ("copy", Some("runs")),
            ("lerobot", Some("lerobot")),
            ("demos.pkl", None),
            ("demos.npz", Some("npz")),
            ("demos.mcap", Some("foxglove")),
        ] {
            let mut export = hilt();
            export
                .arg("export")
                .arg(self.path("demos"))
                .arg(self.path(to));
            if let Some(form) = form {
                export.args(["--to", form]);
            }
            let said = well(&mut export);
            assert!(said.contains(to) && said.contains("demos"), "{said}");
        }
    }

    /// What `hilt-learner inspect` counts of it.
    fn inspect(&self, data: &str) -> Value {
        let mut inspect = learner();
        inspect.arg("inspect").arg(self.path(data)).arg("--json");
        if !data.ends_with(".npz") {
            inspect.arg("--spec").arg(self.path("demos/spec.json"));
        }
        let out = inspect.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{data}: {said}");
        let all: Value = serde_json::from_slice(&out.stdout).unwrap();
        all["figures"].clone()
    }

    fn entries(&self, data: &str) -> (RigSpec, Vec<Entry>) {
        let recording = Recording::open(&self.path(data), None).unwrap();
        let entries = recording.entries().map(Result::unwrap).collect();
        (recording.spec().clone(), entries)
    }

    /// What is in its folder.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn well(command: &mut Command) -> String {
    Program::start("the program", command).ends_well()
}

/// It must be refused with these words.
fn refused(command: &mut Command, words: &[&str]) -> String {
    let said = Program::start("the program", command).ends_with(1);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    said
}

/// Of these columns, names and what they came to.
fn columns(figures: &Value, groups: &[&str]) -> Vec<[Value; 4]> {
    let numbers = figures["numbers"].as_array().unwrap().iter();
    let wanted = numbers.filter(|n| groups.contains(&n["group"].as_str().unwrap()));
    wanted
        .map(|n| ["name", "count", "spread", "not_finite"].map(|key| n[key].clone()))
        .collect()
}

/// Of every episode, how long it was, what it was worth, how it ended and whose it was.
fn episodes(figures: &Value) -> Vec<[Value; 4]> {
    let episodes = figures["episodes"].as_array().unwrap().iter();
    episodes
        .map(|e| ["steps", "return", "end", "intervened_steps"].map(|key| e[key].clone()))
        .collect()
}

#[test]
fn a_recording_says_the_same_in_every_form() {
    let _turn = one_at_a_time();
    let data = Data::record();
    data.export();
    well(&mut data.convert("lerobot", "from-lerobot", Some("runs")));
    well(&mut data.convert("from-lerobot", "lerobot-again", Some("lerobot")));
    well(&mut data.convert("demos.pkl", "from-pkl", Some("runs")));

    let wanted = data.inspect("demos");
    assert_eq!(wanted["episodes"].as_array().unwrap().len(), 3);
    let all = ["observation", "action", "reward"];
    for same in ["copy", "demos.pkl", "from-pkl"] {
        let got = data.inspect(same);
        assert_eq!(columns(&got, &all), columns(&wanted, &all), "{same}");
        assert_eq!(episodes(&got), episodes(&wanted), "{same}");
        assert_eq!(got["sources"], wanted["sources"], "{same}");
        for count in ["labelled_success", "labelled_failure"] {
            assert_eq!(got[count], wanted[count], "{same}: {count}");
        }
        let ours = data.entries("demos").1;
        let theirs = data.entries(same).1;
        let images = |entry: &Entry| -> Vec<_> {
            (entry.observation().images.iter())
                .map(|image| image.rgb.clone())
                .collect()
        };
        assert!(
            ours.iter().map(images).eq(theirs.iter().map(images)),
            "{same}"
        );
    }

    // What was seen after the last step is in no dataset of LeRobot's.
    let dataset = data.inspect("lerobot");
    let done = ["action", "reward"];
    assert_eq!(columns(&dataset, &done), columns(&wanted, &done));
    assert_eq!(episodes(&dataset), episodes(&wanted));
    for again in ["from-lerobot", "lerobot-again"] {
        let got = data.inspect(again);
        assert_eq!(columns(&got, &all), columns(&dataset, &all), "{again}");
        assert_eq!(episodes(&got), episodes(&dataset), "{again}");
        assert_eq!(got["sources"], dataset["sources"], "{again}");
    }
    let table = data.inspect("demos.npz");
    assert_eq!(table["steps"], wanted["steps"]);
    assert_eq!(table["returns"], wanted["returns"]);

    // Video takes little away, and once only where it is not made anew.
    let (_, ours) = data.entries("demos");
    let (spec, theirs) = data.entries("lerobot");
    assert_eq!(spec, data.entries("from-lerobot").0);
    assert_eq!(ours.len(), theirs.len());
    for (one, other) in ours.iter().zip(&theirs).filter(|(one, _)| {
        // The last one stands for what is not there.
        !matches!(&one.record, Record::Step(s) if s.terminated || s.truncated)
    }) {
        assert_eq!(one.observation().proprio, other.observation().proprio);
        for (a, b) in one
            .observation()
            .images
            .iter()
            .zip(&other.observation().images)
        {
            let off = a
                .rgb
                .iter()
                .zip(b.rgb.iter())
                .map(|(&a, &b)| u32::from(a.abs_diff(b)));
            let mean = f64::from(off.sum::<u32>()) / a.rgb.len() as f64;
            assert!(mean < 6.0, "{}: {mean}", one.sequence);
        }
    }
}

/// The figures of a training, by update; but not when, nor how fast.
fn figures(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let fields = row.as_object_mut().unwrap();
        fields.retain(|name, _| name != "time_s" && !name.ends_with("per_s"));
        row
    };
    text.lines().map(row).collect()
}

#[test]
fn the_learner_learns_the_same_from_every_form() {
    let _turn = one_at_a_time();
    let data = Data::record();
    data.export();
    well(&mut data.convert("lerobot", "from-lerobot", Some("runs")));
    let train = |form: &str| {
        let out = format!("trained-{form}");
        let mut offline = data.learn("offline", "--data", form, &out);
        for setting in [
            "imitation.steps=3",
            "offline.updates=4",
            "offline.batch=8",
            "offline.log_freq=1",
            "offline.held_out=0",
        ] {
            offline.args(["--set", setting]);
        }
        well(&mut offline);
        assert!(data.path(&out).join("export/policy.onnx").exists());
        figures(&data.path(&out))
    };
    // Bit for bit: their pictures are the same.
    let ours = train("demos");
    assert!(ours.len() >= 4);
    assert_eq!(ours, train("demos.pkl"));
    let theirs = train("lerobot");
    assert_eq!(theirs, train("from-lerobot"));
    let reward = |row: &Value| row["train/batch_reward"].clone();
    assert!(ours.iter().map(reward).eq(theirs.iter().map(reward)));

    let mut imitation = data.learn("imitation", "--demos", "lerobot", "imitated");
    let said = well(imitation.args(["--set", "imitation.steps=2"]));
    assert!(said.contains(" samples, 2 steps"), "{said}");
    let mut imitation = data.learn("imitation", "--demos", "demos.pkl", "again");
    let said = well(imitation.args(["--set", "imitation.steps=2", "--steps", "1"]));
    assert!(said.contains(" samples, 1 steps"), "{said}");
}

/// Everything that convert writes, and where to.
const FORMS: [(&str, &str); 5] = [
    ("runs", "out"),
    ("lerobot", "out"),
    ("hil-serl", "out.pkl"),
    ("npz", "out.npz"),
    ("foxglove", "out.mcap"),
];

/// The same command where no file may be longer than 64 KiB, as if the disk were full.
fn without_space(command: &Command) -> Command {
    let mut without = Command::new("sh");
    without
        .args(["-c", r#"trap "" XFSZ; ulimit -f 128; exec "$0" "$@""#])
        .arg(command.get_program())
        .args(command.get_args());
    without
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let _turn = one_at_a_time();
    let data = Data::record();
    let before = data.names();
    for (form, to) in FORMS {
        let said = refused(
            &mut data.convert("demos", "demos", Some(form)),
            &["demos", "another name"],
        );
        assert!(!said.contains("panicked"), "{said}");
        if form != "npz" {
            let command = data.convert("demos", to, Some(form));
            refused(&mut without_space(&command), &[to]);
            assert_eq!(data.names(), before, "{form}");
        }
        let within = format!("demos/run.mcap/{to}");
        refused(
            &mut data.convert("demos", &within, Some(form)),
            &["demos/run.mcap", "place"],
        );
        assert_eq!(data.names(), before, "{form}");
    }
    let unknown = data.convert("demos", "out", Some("parquet"));
    let said = Program::start("the program", &mut { unknown }).ends_with(2);
    for (form, _) in FORMS {
        assert!(said.contains(form), "{said}");
    }
    refused(&mut data.convert("demos", "out", None), &["out", "--to"]);
    let mut without_ffmpeg = data.convert("demos", "out", Some("lerobot"));
    refused(
        without_ffmpeg.env("PATH", "/nowhere"),
        &["ffmpeg", "apt install ffmpeg"],
    );
    assert_eq!(data.names(), before);

    // A folder with a slash at its end is the same.
    well(&mut data.convert("demos/", "out/", Some("lerobot")));
    let mut inspect = learner();
    inspect.arg("inspect").arg(data.path("out"));
    refused(
        inspect.env("PATH", "/nowhere"),
        &["ffmpeg", "apt install ffmpeg"],
    );
}

#[test]
fn a_conversion_that_was_killed_is_made_anew_and_has_nothing_of_the_old() {
    let _turn = one_at_a_time();
    let data = Data::record();
    for (form, to) in FORMS.into_iter().filter(|(form, _)| *form != "npz") {
        let target = data.path(to);
        loop {
            let mut killed = data.convert("demos-labels", to, Some(form));
            let mut killed = Program::start("hilt-learner convert", &mut killed);
            let beside = hilt_recording::beside(&target);
            while killed.runs() && !beside.exists() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            killed.kill();
            if !target.exists() {
                assert!(beside.exists());
                break;
            }
            // It was faster.
            match target.is_dir() {
                true => fs::remove_dir_all(&target).unwrap(),
                false => fs::remove_file(&target).unwrap(),
            }
        }
        // Of another recording.
        well(&mut data.convert("demos", to, Some(form)));
        assert!(data.names().iter().all(|name| !name.ends_with(".partial")));
        if form != "foxglove" {
            let (got, wanted) = (data.inspect(to), data.inspect("demos"));
            let done = ["action", "reward"];
            assert_eq!(columns(&got, &done), columns(&wanted, &done), "{form}");
        }
        let gone = data.path("gone");
        fs::rename(&target, &gone).unwrap();
        match gone.is_dir() {
            true => fs::remove_dir_all(&gone).unwrap(),
            false => fs::remove_file(&gone).unwrap(),
        }
    }
}

/// Demonstrations as HIL-SERL keeps them, after a change to one step's action.
fn write_pickle(data: &Data, to: &str, change: impl Fn(&mut Vec<f32>)) {
    let (spec, mut entries) = data.entries("demos");
    let Record::Step(step) = &mut entries[7].record else {
        panic!("a step");
    };
    change(&mut step.action);
    let entries = entries.into_iter().map(Ok::<_, HilSerlError>);
    hil_serl::write(&data.path(to), &spec, entries).unwrap();
}

#[test]
fn what_cannot_be_learned_from_is_refused_with_its_place_and_the_remedy() {
    let _turn = one_at_a_time();
    let data = Data::record();
    well(&mut data.convert("demos", "lerobot", Some("lerobot")));
    well(&mut data.convert("demos", "demos.pkl", None));

    // Another rig than it was.
    let spec = fs::read_to_string(data.path("demos/spec.json")).unwrap();
    let spec: Value = serde_json::from_str(&spec).unwrap();
    let told = data.path("told.json");
    let axes = r#""controlled_axes":["#;
    for (was, is, words) in [
        ("\"front\"", "\"side\"".to_owned(), "camera `side`"),
        (axes, format!("{axes}\"yaw\","), "an action has"),
        ("\"tool_x\"", "\"more\",\"tool_x\"".to_owned(), "12"),
    ] {
        let changed = spec.to_string().replace(was, &is);
        assert_ne!(changed, spec.to_string(), "{was}");
        fs::write(&told, changed).unwrap();
        for (form, words) in [
            ("lerobot", words),
            ("demos.pkl", words),
            ("demos", "its own"),
        ] {
            let mut imitation = learner();
            imitation
                .arg("imitation")
                .arg("--demos")
                .arg(data.path(form));
            imitation
                .arg("--spec")
                .arg(&told)
                .arg("--out")
                .arg(data.path("refused"));
            refused(&mut imitation, &[form, words, "--spec", "leave"]);
        }
    }

    // Images of another size than the encoder's.
    let mut resize = data.convert("demos", "large", Some("lerobot"));
    well(resize.args(["--image-size", "96"]));
    let mut large = learner();
    large.args(["offline", "--data"]).arg(data.path("large"));
    refused(
        large.arg("--out").arg(data.path("refused")),
        &[
            "front",
            "96×96",
            "encoder.image_size",
            "convert DATA OUT --image-size 64",
        ],
    );

    write_pickle(&data, "nan.pkl", |action| action[1] = f32::NAN);
    write_pickle(&data, "beyond.pkl", |action| action[1] = 5.0);
    for (file, words) in [
        ("nan.pkl", ["row 6", "`actions`", "NaN at place 1", "leave"]),
        (
            "beyond.pkl",
            ["entry 7", "`action`", "5 in column 1", "scale"],
        ),
    ] {
        for (command, option) in [("offline", "--data"), ("imitation", "--demos")] {
            let mut learn = data.learn(command, option, file, "refused");
            let said = refused(learn.args(["--set", "imitation.steps=1"]), &words);
            assert!(said.contains(file), "{said}");
        }
    }
    assert!(!data.path("refused/export").exists());
}
