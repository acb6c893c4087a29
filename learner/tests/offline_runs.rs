//! `hilt-learner offline` on a robot's runs: any algorithm trains, is judged by held-out episodes, goes on as if it had
//! never stopped, and leaves what `hilt-learner hybrid --from` goes on from.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use common::{
    robot::{ALGORITHMS, config, entries, spec, write_run},
    stage::{Stage, checkpoint},
};
use hilt_learner::{
    config::{FrameStore, LearnerConfig},
    encoder::Encoder,
    offline::{self, OfflineOptions},
    trained_on_runs::TrainedOnRuns,
};
use hilt_protocol::{Entry, Record, RunId};
use tch::{Device, Kind};

fn run(options: &OfflineOptions) -> anyhow::Result<()> {
    offline::run(options, &AtomicBool::new(false))
}

fn error(options: &OfflineOptions) -> String {
    format!("{:#}", run(options).unwrap_err())
}

fn last_evaluation(out: &Path) -> serde_json::Value {
    let text = fs::read(out.join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&text).unwrap();
    summary["last_evaluation"].clone()
}

#[test]
fn each_algorithm_trains_is_judged_and_goes_on_as_if_it_had_never_stopped() {
    let stage = Stage::new();
    for algorithm in ALGORITHMS {
        let straight = stage.options(&format!("{algorithm}-straight"), algorithm);
        run(&straight).unwrap();
        let mut resumed = stage.options(&format!("{algorithm}-resumed"), algorithm);
        resumed.config.offline.updates = 3;
        // Schedules are of the whole training.
        resumed.config.iql.actor_updates = Some(6);
        run(&resumed).unwrap();
        resumed.resume = true;
        resumed.config.offline.updates = 6;
        run(&resumed).unwrap();
        assert!(
            checkpoint(&straight.out) == checkpoint(&resumed.out),
            "{algorithm}"
        );
        let evaluation = last_evaluation(&straight.out);
        assert_eq!(evaluation, last_evaluation(&resumed.out), "{algorithm}");
        assert_eq!(evaluation["updates"], 6);
        for figure in ["q_data", "td_error", "advantage_weighted_error"] {
            let there = evaluation[format!("held_out/{figure}")].is_number();
            assert_eq!(
                there,
                algorithm != "bc",
                "{algorithm}: {figure} in {evaluation}"
            );
        }
        assert!(evaluation["held_out/imitation_error"].as_f64().unwrap() > 0.0);
        for name in ["best", "export"] {
            let dir = straight.out.join(name);
            for file in ["encoder.onnx", "policy.onnx", "spec.json", "config.toml"] {
                assert!(dir.join(file).exists(), "{algorithm}: {name}/{file}");
            }
            let config = &straight.config;
            let trained = TrainedOnRuns::open(&dir, &spec(), config, Device::Cpu).unwrap();
            let map = config.encoder.map_shape();
            let mut agent = config.sight_agent(&spec(), map, Device::Cpu, 9);
            trained.begin(&mut *agent).unwrap();
            let updates = agent.updates();
            assert!([3, 6].contains(&updates), "it counts on from {updates}");
            let last = checkpoint(&straight.out);
            let same = agent.state().iter().all(|tensor| last.contains(tensor));
            assert!(
                same || name == "best",
                "{algorithm}: {name} is of another update"
            );
        }
    }
}

#[test]
fn imitation_makes_the_encoder_and_images_are_shifted_anew() {
    let stage = Stage::new();
    let mut options = stage.options("images", "td3-bc");
    options.config.encoder_weights = None;
    options.config.imitation.steps = 3;
    options.config.imitation.batch = 4;
    options.config.train.store = FrameStore::Images;
    run(&options).unwrap();
    let text = fs::read_to_string(options.out.join("metrics.jsonl")).unwrap();
    assert!(text.contains("critic_loss"), "{text}");
    // It is kept: a resumed training trains no other.
    let encoder = fs::read(options.out.join("runs/encoder.safetensors")).unwrap();
    options.resume = true;
    options.config.offline.updates = 8;
    run(&options).unwrap();
    assert!(fs::read(options.out.join("runs/encoder.safetensors")).unwrap() == encoder);
    options.config.train.store = FrameStore::Maps;
    let other = error(&options);
    assert!(other.contains("train.store"), "{other}");
}

/// Every file in a folder, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![];
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

#[test]
fn a_training_that_is_refused_leaves_what_is_held_out_as_it_was() {
    let stage = Stage::new();
    let options = stage.options("out", "iql");
    run(&options).unwrap();
    let before = files(&options.out);
    let changed = |change: &dyn Fn(&mut OfflineOptions)| {
        let mut other = stage.options("out", "iql");
        other.resume = true;
        change(&mut other);
        let refused = error(&other);
        assert!(files(&options.out) == before, "{refused}");
        refused
    };
    // Another seed holds out other episodes.
    assert!(changed(&|options| options.seed = 4).contains("seed = 3"));
    let more = changed(&|options| options.config.offline.held_out = 0.6);
    assert!(more.contains("offline.held_out = 0.3"), "{more}");
    let others = Encoder::new(config("bc").encoder, Kind::Float, Device::Cpu, 6);
    others.save(&stage.path("others.safetensors")).unwrap();
    let weights = stage.path("others.safetensors");
    let encoder = changed(&|options| options.config.encoder_weights = Some(weights.clone()));
    assert!(encoder.contains("encoder = "), "{encoder}");
    // The same runs by name and length, with another step in one.
    let mut spoiled = entries(RunId(2));
    step(&mut spoiled[5]).reward = 0.5;
    write_run(&stage.path("spoiled/first"), &spec(), &entries(RunId(1)));
    write_run(&stage.path("spoiled/second"), &spec(), &spoiled);
    let data = changed(&|options| options.data = stage.path("spoiled"));
    assert!(data.contains("data.sha256"), "{data}");
    write_run(&stage.path("runs/third"), &spec(), &entries(RunId(3)));
    assert!(changed(&|_| ()).contains("data.runs"));
    // As it began it goes on.
    fs::remove_dir_all(stage.path("runs/third")).unwrap();
    let mut resumed = stage.options("out", "iql");
    resumed.resume = true;
    resumed.config.offline.updates = 8;
    resumed.config.encoder_weights = None;
    run(&resumed).unwrap();
}

/// The words that refuse a run with a spoiled entry, beside a good one.
fn spoiled(stage: &Stage, name: &str, spoil: impl Fn(&mut Entry)) -> String {
    let mut entries = entries(RunId(7));
    spoil(&mut entries[5]);
    let mut options = stage.options(name, "iql");
    options.data = stage.path(&format!("{name}-runs"));
    write_run(
        &options.data.join("good"),
        &spec(),
        &common::robot::entries(RunId(6)),
    );
    write_run(&options.data.join("bad"), &spec(), &entries);
    let refused = error(&options);
    assert!(!options.out.exists(), "{refused}");
    refused
}

/// A training keeps what it sees in a folder of that name, too.
#[test]
fn runs_in_the_folder_for_the_training_stay() {
    let stage = Stage::new();
    let mut options = stage.options("mine", "iql");
    options.data = options.out.join("runs");
    write_run(&options.data.join("first"), &spec(), &entries(RunId(1)));
    let before = files(&options.data);
    let refused = error(&options);
    assert!(refused.contains("runs is not of a training"), "{refused}");
    assert!(files(&options.data) == before);
    options.out = stage.path("out");
    run(&options).unwrap();
}

fn step(entry: &mut Entry) -> &mut hilt_protocol::Step {
    match &mut entry.record {
        Record::Step(step) => step,
        Record::Reset(_) => panic!("a step"),
    }
}

#[test]
fn what_a_run_cannot_hold_is_named_with_run_step_and_tensor() {
    let stage = Stage::new();
    let far = spoiled(&stage, "far", |entry| step(entry).action[2] = 1.5);
    for word in [
        "far-runs/bad",
        "entry 5",
        "`action` has 1.5 in column 2",
        "±1",
    ] {
        assert!(far.contains(word), "{word}: {far}");
    }
    let none = spoiled(&stage, "none", |entry| {
        step(entry).next.proprio[0] = f32::NAN
    });
    for word in ["none-runs/bad", "entry 5", "proprio"] {
        assert!(none.contains(word), "{word}: {none}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let stage = Stage::new();
    let options = stage.options("out", "iql");
    run(&options).unwrap();
    let dir = options.out.join("export");
    let refused = |spec, config: &LearnerConfig| {
        let refused = TrainedOnRuns::open(&dir, &spec, config, Device::Cpu);
        refused.unwrap_err().to_string()
    };
    let mut other = spec();
    other.policy_hz = 20;
    assert!(refused(other, &options.config).contains("another rig"));
    let mut awac = stage.options("other", "awac").config;
    let algorithm = refused(spec(), &awac);
    assert!(
        algorithm.contains("algorithm = iql, and awac"),
        "{algorithm}"
    );
    (awac.algorithm, awac.encoder.groups) = (options.config.algorithm, 4);
    assert!(refused(spec(), &awac).contains("encoder = "));
    let mut given = options.config.clone();
    let encoder = Encoder::new(given.encoder.clone(), Kind::Float, Device::Cpu, 6);
    given.encoder_weights = Some(stage.path("others.safetensors"));
    encoder.save(&stage.path("others.safetensors")).unwrap();
    assert!(refused(spec(), &given).contains("another encoder"));
    let nothing = TrainedOnRuns::open(&stage.path("no"), &spec(), &options.config, Device::Cpu);
    let nothing = nothing.unwrap_err().to_string();
    assert!(
        nothing.contains("no/spec.json") && nothing.contains("`export`"),
        "{nothing}"
    );
    // Wider layers than it was trained with.
    let mut wide = options.config.clone();
    wide.iql.hidden = vec![16];
    let trained = TrainedOnRuns::open(&dir, &spec(), &wide, Device::Cpu).unwrap();
    let mut agent = wide.sight_agent(&spec(), wide.encoder.map_shape(), Device::Cpu, 1);
    let shape = trained.begin(&mut *agent).unwrap_err().to_string();
    assert!(
        shape.contains("agent.safetensors: `") && shape.contains("shape"),
        "{shape}"
    );

    let mut tabular = stage.options("tabular", "iql");
    tabular.config.offline.rewards.scale = 2.0;
    assert!(error(&tabular).contains("offline.rewards"));
    let mut resumed = stage.options("out", "awac");
    resumed.resume = true;
    assert!(error(&resumed).contains("algorithm"));
    let mut tasked = stage.options("tasked", "iql");
    tasked.env = Some("Pendulum-v1".into());
    assert!(error(&tasked).contains("leave --env out"));
}
