//! `hilt-learner offline` on three data sets with three seeds: each as by itself, one that fails is named, and what is
//! not finished is gone on with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::AtomicBool,
};

use hilt_learner::{
    checkpoint::read_tensors,
    config::LearnerConfig,
    offline::{
        self, OfflineOptions,
        batch::{self, BatchOptions},
    },
};
use hilt_protocol::noise::Uniforms;
use hilt_recording::table::{Columns, Table, npz};

/// Observations of 20 numbers and actions of 32, as the offline baselines for a recommender have them.
fn data(dir: &Path, name: &str, seed: u64) -> PathBuf {
    const ROWS: usize = 60;
    let mut random = Uniforms::new(seed);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.range(-1.0, 1.0) as f32).collect() };
    let table = Table::new(Columns {
        observation: 20,
        action: 32,
        observations: numbers(ROWS * 20),
        actions: numbers(ROWS * 32),
        rewards: numbers(ROWS),
        next_observations: numbers(ROWS * 20),
        terminals: (0..ROWS).map(|row| row % 6 == 5).collect(),
        timeouts: vec![false; ROWS],
    })
    .unwrap();
    let path = dir.join(name).with_extension("npz");
    npz::write(&path, &table).unwrap();
    path
}

const SETS: [&str; 7] = [
    "offline.updates=6",
    "offline.batch=8",
    "offline.epoch_updates=3",
    "offline.eval_freq=3",
    "offline.held_out=0.25",
    "train.threads=1",
    "td3_bc.hidden=[8]",
];

fn config(updates: &str) -> LearnerConfig {
    let mut sets = SETS.map(str::to_owned).to_vec();
    sets.push(updates.to_owned());
    LearnerConfig::resolve("td3-bc", None, &sets).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The command, with more words.
fn command(data: &[&Path], out: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hilt-learner"));
    command.arg("offline").arg("--out").arg(out);
    for path in data {
        command.arg("--data").arg(path);
    }
    for set in SETS {
        command.args(["--set", set]);
    }
    command.args(words).output().unwrap()
}

#[test]
fn three_data_sets_with_three_seeds_and_one_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (a, c) = (data(dir.path(), "a", 1), data(dir.path(), "c", 3));
    let b = dir.path().join("b.npz");
    fs::write(&b, "no archive").unwrap();
    let out = dir.path().join("out");
    let words = ["--preset", "td3-bc", "--seeds", "1,2,3"];
    let ended = command(&[&a, &b, &c], &out, &words);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("3 of 9 trainings failed"), "{said}");
    assert!(said.contains("b, seed 2: --data: "), "{said}");
    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["finished"], 6);
    assert_eq!(summary["trainings"], 9);
    assert_eq!(summary["failed"].as_array().unwrap().len(), 3);
    let mean = &summary["data"][0]["figures"]["best"]["mean"];
    let seeds = &summary["data"][0]["seeds"];
    let bests = ["1", "2", "3"].map(|seed| seeds[seed]["best"].as_f64().unwrap());
    assert!(bests[0] != bests[1]);
    assert_eq!(seeds["1"]["last_at_update"], 6.0);
    let best_at = seeds["1"]["best_at_update"].as_f64().unwrap();
    assert!([3.0, 6.0].contains(&best_at), "{best_at}");
    assert!((bests.iter().sum::<f64>() / 3.0 - mean.as_f64().unwrap()).abs() < 1e-12);
    let table = fs::read_to_string(out.join("summary.md")).unwrap();
    assert!(table.contains("| b    | 0 of 3 | –"), "{table}");
    assert!(
        table.contains("| c    | 3 of 3 | advantage_weighted_error | "),
        "{table}"
    );
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!(printed.contains(&table), "{printed}");

    // Each is what it is by itself.
    let alone = OfflineOptions {
        data: a.clone(),
        rig: None,
        env: None,
        out: dir.path().join("alone"),
        seed: 2,
        resume: false,
        config: config("offline.updates=6"),
    };
    offline::run(&alone, &AtomicBool::new(false)).unwrap();
    let agent = |out: &Path| {
        let mut tensors = read_tensors(&out.join("export/agent.safetensors")).unwrap();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    assert!(agent(&alone.out) == agent(&out.join("a/seed-2")));

    // Without --resume it is left alone; with it the bad one is made up for, and nothing else is touched.
    let ended = command(&[&a, &b, &c], &out, &words);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("go on with them by --resume"), "{said}");
    data(dir.path(), "b", 2);
    let finished = out.join("a/seed-1/summary.json");
    let before = fs::metadata(&finished).unwrap().modified().unwrap();
    // Its preset and settings it has kept.
    let ended = command(&[&a, &b, &c], &out, &["--seeds", "1,2,3", "--resume"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{said}");
    assert_eq!(json(&out.join("summary.json"))["finished"], 9);
    assert_eq!(before, fs::metadata(&finished).unwrap().modified().unwrap());
}

#[test]
fn a_stopped_batch_ends_in_order_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = BatchOptions {
        data: vec![data(dir.path(), "a", 1)],
        rig: None,
        envs: vec![],
        seeds: vec![1, 2],
        out: dir.path().join("out"),
        resume: false,
        config: config("offline.updates=3"),
    };
    batch::run(&options, &AtomicBool::new(true)).unwrap();
    let summary = options.out.join("summary.json");
    assert_eq!(json(&summary)["finished"], 0);
    options.resume = true;
    batch::run(&options, &AtomicBool::new(false)).unwrap();
    assert_eq!(json(&summary)["finished"], 2);
    // More updates than they had: they go on.
    options.config = config("offline.updates=5");
    batch::run(&options, &AtomicBool::new(false)).unwrap();
    assert_eq!(json(&summary)["finished"], 2);
    assert_eq!(
        json(&options.out.join("a/seed-2/summary.json"))["updates"],
        5
    );
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let a = data(dir.path(), "a", 1);
    fs::create_dir(dir.path().join("other")).unwrap();
    let same = data(&dir.path().join("other"), "a", 2);
    let options = BatchOptions {
        data: vec![a, same],
        rig: None,
        envs: vec![],
        seeds: vec![1, 2],
        out: dir.path().join("out"),
        resume: false,
        config: config("offline.updates=3"),
    };
    let said = |options: &BatchOptions| {
        let error = batch::run(options, &AtomicBool::new(false)).unwrap_err();
        assert!(!options.out.exists());
        format!("{error:#}")
    };
    assert!(said(&options).contains("would both be called a"));
    let twice = BatchOptions {
        seeds: vec![4, 4],
        ..options.clone()
    };
    assert!(said(&twice).contains("--seeds has 4 twice"));
    let envs = BatchOptions {
        envs: vec!["A-v1".into(), "B-v1".into(), "C-v1".into()],
        ..options
    };
    assert!(said(&envs).contains("--env is given 3 times and --data 2 times"));
}
