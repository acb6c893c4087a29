//! `hilt-learner offline` on a small table: it trains, keeps what is good, goes on as if it had never stopped, and
//! refuses by name what cannot be.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

use common::{
    npz::break_number,
    onnx::{close, run as run_graph},
};
use hilt_learner::{
    checkpoint::read_tensors,
    config::LearnerConfig,
    nn::params::to_named,
    offline::{self, OfflineOptions},
    trained::Trained,
};
use hilt_protocol::noise::Uniforms;
use hilt_recording::table::{Columns, Table, npz};
use tch::{Device, Tensor};

/// Twelve episodes of ten steps: what is right is to do as the first numbers of the observation say.
fn columns(observation: usize) -> Columns {
    let mut random = Uniforms::new(7);
    let mut columns = Columns {
        observation,
        action: 2,
        ..Columns::default()
    };
    for _ in 0..12 {
        let mut seen: Vec<f32> = (0..observation).map(|_| random.normal() as f32).collect();
        for step in 0..10 {
            let action: Vec<f32> = (0..2).map(|_| random.range(-1.0, 1.0) as f32).collect();
            let off = |(a, s): (&f32, &f32)| (a - s.tanh()).powi(2);
            let reward = -action.iter().zip(&seen).map(off).sum::<f32>();
            let next: Vec<f32> = seen.iter().map(|s| 0.9 * s + 0.1).collect();
            columns.observations.extend(&seen);
            columns.actions.extend(action);
            columns.rewards.push(reward);
            columns.next_observations.extend(&next);
            columns.terminals.push(false);
            columns.timeouts.push(step == 9);
            seen = next;
        }
    }
    columns
}

fn table(dir: &Path, columns: Columns) -> PathBuf {
    let path = dir.join("log.npz");
    npz::write(&path, &Table::new(columns).unwrap()).unwrap();
    path
}

const SMALL: [&str; 17] = [
    "offline.updates=40",
    "offline.batch=16",
    "offline.epoch_updates=10",
    "offline.eval_freq=10",
    "offline.log_freq=4",
    "offline.num_eval=2",
    "offline.held_out=0.25",
    "train.threads=1",
    "bc.hidden=[8]",
    "td3_bc.hidden=[8]",
    "iql.hidden=[8]",
    "awac.hidden=[8]",
    "cql.critic_hidden=[8]",
    "cal_ql.cql.critic_hidden=[8]",
    "sac.hidden=[8]",
    "redq.hidden=[8]",
    "rlpd.hidden=[8]",
];

fn options(data: &Path, out: &Path, preset: &str, sets: &[&str]) -> OfflineOptions {
    let sets: Vec<String> = SMALL.iter().chain(sets).map(|s| s.to_string()).collect();
    OfflineOptions {
        rig: None,
        data: data.to_owned(),
        env: None,
        out: out.to_owned(),
        seed: 3,
        resume: false,
        config: LearnerConfig::resolve(preset, None, &sets).unwrap(),
    }
}

/// Fresh networks are drawn from torch's one generator: trainings that are compared must not draw at once.
fn run(options: &OfflineOptions) -> anyhow::Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    offline::run(options, &AtomicBool::new(false))
}

fn error(options: &OfflineOptions) -> String {
    format!("{:#}", run(options).unwrap_err())
}

/// A file's tensors by name, but for how long it took.
fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    let mut tensors = read_tensors(path).unwrap();
    tensors.retain(|(name, _)| name != "training.trained_s");
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn checkpoint(out: &Path) -> Vec<(String, Tensor)> {
    tensors(&out.join("checkpoint.safetensors"))
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn updates(out: &Path) -> i64 {
    let state = checkpoint(out);
    let (_, updates) = state
        .iter()
        .find(|(name, _)| name == "training.updates")
        .unwrap();
    updates.int64_value(&[])
}

#[test]
fn every_algorithm_trains_and_a_stopped_one_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = table(dir.path(), columns(3));
    let algorithms = [
        "bc",
        "td3-bc",
        "iql",
        "awac",
        "cql",
        "cql-antmaze",
        "cal-ql",
        "sac",
        "redq",
        "rlpd",
    ];
    for preset in algorithms {
        let few = ["offline.eval_freq=10", "offline.num_eval=2"];
        let (whole, parts) = (
            dir.path().join(preset),
            dir.path().join(format!("{preset}-2")),
        );
        run(&options(&data, &whole, preset, &few)).unwrap();
        let mut stopped = options(&data, &parts, preset, &few);
        stopped.config.offline.updates = 20;
        // The end of a training must not be in the schedule of one that goes on.
        stopped.config.iql.actor_updates = Some(40);
        run(&stopped).unwrap();
        assert_eq!(updates(&parts), 20);
        stopped.config.offline.updates = 40;
        stopped.resume = true;
        run(&stopped).unwrap();
        assert_eq!(updates(&parts), 40, "{preset}");
        assert_eq!(checkpoint(&whole), checkpoint(&parts), "{preset}");
        let exported = |out: &Path| tensors(&out.join("export/agent.safetensors"));
        assert_eq!(exported(&whole), exported(&parts), "{preset}");

        let trained = Trained::open(&whole.join("export"), Device::Cpu).unwrap();
        assert_eq!(trained.about.updates, 40);
        let observation = [0.5, -0.5, 0.0];
        let action = trained.act(&observation);
        let onnx = fs::read(whole.join("export/policy.onnx")).unwrap();
        let observation = to_named(
            "observation",
            &Tensor::from_slice(&observation).unsqueeze(0),
        );
        close(
            preset,
            &run_graph(&onnx, &[observation]),
            &Tensor::from_slice(&action),
            1e-5,
        );
        assert!(action.len() == 2 && action.iter().all(|a| a.abs() <= 1.0));
        let summary = json(&whole.join("summary.json"));
        let criterion = match preset {
            "bc" => "imitation_error",
            _ => "advantage_weighted_error",
        };
        assert_eq!(summary["criterion"], criterion);
        assert_eq!(summary["updates"], 40);
        let best = Trained::open(&whole.join("best"), Device::Cpu).unwrap();
        assert_eq!(summary["best"]["updates"], best.about.updates);
    }
}

#[test]
fn metrics_checkpoints_and_configuration_are_where_people_look_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = table(dir.path(), columns(3));
    let out = dir.path().join("out");
    run(&options(&data, &out, "iql", &["iql.beta=5"])).unwrap();
    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let with = |name: &str| -> Vec<u64> {
        let has = lines.iter().filter(|line| line[name].is_f64());
        has.map(|line| line["step"].as_u64().unwrap()).collect()
    };
    let logged = [4, 8, 10, 12, 16, 20, 24, 28, 30, 32, 36, 40];
    assert_eq!(with("train/actor_loss"), logged);
    for name in ["q_data", "q_policy", "td_error", "imitation_error"] {
        assert_eq!(
            with(&format!("held_out/{name}")),
            [10, 20, 30, 40],
            "{name}"
        );
    }
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    let config: LearnerConfig = toml::from_str(&config).unwrap();
    assert_eq!(config.iql.beta, 5.0);
    assert_eq!(json(&out.join("training.json"))["data.rows"], 120);
    let policy = json(&out.join("export/policy.json"));
    assert_eq!(
        policy["scaling"]["observations"]["mean"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_task_judges_and_the_best_return_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut columns = columns(3);
    columns.action = 1;
    columns.actions = columns.actions.chunks(2).map(|a| a[0]).collect();
    let data = table(dir.path(), columns);
    let out = dir.path().join("out");
    let mut options = options(&data, &out, "td3-bc", &["offline.held_out=0"]);
    options.env = Some("Pendulum-v1".into());
    run(&options).unwrap();
    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["criterion"], "return");
    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let returns: Vec<(u64, f64)> = (lines.lines())
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| Some((line["step"].as_u64()?, line["evaluation/return"].as_f64()?)))
        .collect();
    assert_eq!(returns.len(), 4);
    // The first of those that are as good.
    let best = returns
        .iter()
        .rev()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    assert_eq!(summary["best"]["updates"], best.0);
    assert_eq!(summary["best"]["score"], best.1);
    let kept = Trained::open(&out.join("best"), Device::Cpu).unwrap();
    assert_eq!(
        (kept.about.updates, kept.about.env.as_deref()),
        (best.0, Some("Pendulum-v1"))
    );

    options.out = dir.path().join("other");
    options.env = Some("Pendulum-v2".into());
    assert!(error(&options).contains("there is no task `Pendulum-v2`"));
    options.env = Some("Pendulum-v1".into());
    options.data = table(dir.path(), self::columns(3));
    let apart = error(&options);
    assert!(
        apart.contains("actions of 1") && apart.contains("has 3 and 2"),
        "{apart}"
    );
}

#[test]
fn a_folder_is_one_trainings_and_a_resumed_one_stands_on_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = table(dir.path(), columns(3));
    let out = dir.path().join("out");
    let begun = options(&data, &out, "td3-bc", &[]);
    run(&begun).unwrap();
    let before = checkpoint(&out);
    assert!(error(&begun).contains("holds a training; go on with it by --resume"));
    let resumed = OfflineOptions {
        rig: None,
        resume: true,
        ..begun.clone()
    };
    let refused = |options: OfflineOptions, words: &[&str]| {
        let said = error(&options);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(checkpoint(&out), before);
    };
    let with = |preset: &str, set: &str| OfflineOptions {
        rig: None,
        resume: true,
        ..options(&data, &out, preset, &[set])
    };
    refused(
        with("iql", "iql.beta=1"),
        &["algorithm = \"td3-bc\"", "\"iql\""],
    );
    refused(
        with("td3-bc", "td3_bc.hidden=[9]"),
        &["checkpoint.safetensors", "shape"],
    );
    refused(
        with("td3-bc", "offline.held_out=0.5"),
        &["offline.held_out = 0.25", "0.5"],
    );
    let seed = OfflineOptions {
        rig: None,
        seed: 4,
        ..resumed.clone()
    };
    refused(seed, &["seed = 3", "this command has 4"]);
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(config.contains("hidden = [8]") && !config.contains("hidden = [9]"));

    // Other data of the same shape, of fewer rows, of another width.
    let mut other = columns(3);
    other.rewards[5] += 1.0;
    table(dir.path(), other);
    refused(resumed.clone(), &["data.sha256"]);
    table(dir.path(), columns(4));
    refused(
        resumed.clone(),
        &["data.observations = 3", "this command has 4"],
    );
    table(dir.path(), columns(3));
    // What one that was killed may have left.
    fs::write(out.join("checkpoint.partial"), "half").unwrap();
    fs::create_dir(out.join("best.partial")).unwrap();
    let on = |updates: u64| {
        let mut on = resumed.clone();
        on.config.offline.updates = updates;
        run(&on).unwrap();
    };
    on(40);
    assert_eq!(checkpoint(&out), before);
    on(50);
    assert_eq!(updates(&out), 50);

    let another = dir.path().join("another");
    fs::create_dir(&another).unwrap();
    fs::write(another.join("state.json"), "{}").unwrap();
    let said = error(&options(&data, &another, "td3-bc", &[]));
    assert!(said.contains("another training"), "{said}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let said = error(&options(&data, &file, "td3-bc", &[]));
    assert!(said.contains("creating") && said.contains("file"), "{said}");
}

#[test]
fn bad_data_is_named_before_it_does_harm() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let data = table(dir.path(), columns(3));
    // As another program would write it.
    // Of 120 rows of 3 numbers, the last of row 117.
    break_number(&data, "next_observations", 2 * 3 + 1);
    let said = error(&options(&data, &out, "bc", &[]));
    let words = ["log.npz", "`next_observations` has NaN in row 117, place 2"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    let mut beyond = columns(3);
    beyond.actions[2 * 17 + 1] = 1.5;
    let data = table(dir.path(), beyond);
    let said = error(&options(&data, &out, "bc", &[]));
    assert!(
        said.contains("`actions` has 1.5 in row 17, column 1"),
        "{said}"
    );
    let said = error(&options(&dir.path().join("nowhere.npz"), &out, "bc", &[]));
    assert!(said.contains("nowhere.npz"), "{said}");
    let said = error(&options(dir.path(), &out, "bc", &[]));
    assert!(said.contains("holds no run"), "{said}");
    assert!(said.contains(".npz"), "{said}");
    let data = table(dir.path(), columns(3));
    let said = error(&options(&data, &out, "lift", &[]));
    assert!(
        said.contains("sac-grasp") && said.contains("--preset"),
        "{said}"
    );
    let mut unknown = options(&data, &out, "bc", &[]);
    unknown.env = Some("Pendulum-v9".into());
    let said = error(&unknown);
    assert!(said.contains("Pendulum-v9"), "{said}");
    assert!(!out.exists(), "what is refused leaves nothing");
    run(&options(&data, &out, "bc", &[])).unwrap();
}

/// Before there is a checkpoint there is nothing to go on from.
#[test]
fn what_diverged_at_once_gives_way_to_a_new_training() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut wild = columns(3);
    wild.rewards.fill(1e30);
    let data = table(dir.path(), wild);
    let said = error(&options(&data, &out, "iql", &[]));
    assert!(
        said.contains("diverged") && said.contains("no checkpoint"),
        "{said}"
    );
    // What it wrote is there to be looked at.
    assert!(out.join("training.json").exists() && out.join("metrics.jsonl").exists());
    let data = table(dir.path(), columns(3));
    run(&options(&data, &out, "iql", &[])).unwrap();
    assert_eq!(updates(&out), 40);
    let names = fs::read_dir(&out)
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let events = names.filter(|name| name.to_string_lossy().starts_with("events."));
    assert_eq!(events.count(), 1);
    assert!(error(&options(&data, &out, "iql", &[])).contains("--resume"));
}

#[test]
fn a_training_that_diverges_says_where_and_leaves_its_last_checkpoint_good() {
    let dir = tempfile::tempdir().unwrap();
    let data = table(dir.path(), columns(3));
    let out = dir.path().join("out");
    let mut options = options(&data, &out, "td3-bc", &["offline.updates=20"]);
    run(&options).unwrap();
    let before = checkpoint(&out);
    options.resume = true;
    options.config.offline.updates = 400;
    options.config.td3_bc.lr_critic = 1e30;
    let said = error(&options);
    assert!(
        said.contains("_loss` is") && said.contains("at update 2"),
        "{said}"
    );
    assert!(said.contains("checkpoint.safetensors is good"), "{said}");
    assert_eq!(checkpoint(&out), before);
    options.config.td3_bc.lr_critic = 3e-4;
    options.config.offline.updates = 24;
    run(&options).unwrap();
    assert_eq!(updates(&out), 24);
}

#[test]
fn told_to_stop_it_leaves_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let data = table(dir.path(), columns(3));
    let out = dir.path().join("out");
    let mut options = options(&data, &out, "bc", &[]);
    let stopped = |options: &OfflineOptions| {
        let error = offline::run(options, &AtomicBool::new(true)).unwrap_err();
        error.to_string()
    };
    let said = stopped(&options);
    assert!(said.contains("stopped before the first update"), "{said}");
    assert!(said.contains("starts it again"), "{said}");
    assert!(!out.join("training.json").exists());
    // One that has begun is nothing new.
    options.config.offline.updates = 20;
    run(&options).unwrap();
    let kept = checkpoint(&out);
    options.config.offline.updates = 40;
    options.resume = true;
    let said = stopped(&options);
    assert!(
        said.contains("as it was") && said.contains("goes on"),
        "{said}"
    );
    assert_eq!(checkpoint(&out), kept);
}

#[test]
fn the_command_ends_with_a_status_that_says_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let data = table(dir.path(), columns(3));
    let command = |preset: &str, out: &str, set: &str| {
        let out = dir.path().join(out);
        let mut command = Command::new(env!("CARGO_BIN_EXE_hilt-learner"));
        command
            .arg("offline")
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(out);
        command.args(["--preset", preset]);
        for set in SMALL.iter().chain([&set]) {
            command.args(["--set", set]);
        }
        let done = command.output().unwrap();
        let words = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(words).unwrap())
    };
    let (code, words) = command("iql", "good", "iql.beta=2");
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.contains("40 updates") && words.contains("120 transitions"),
        "{words}"
    );
    let (code, words) = command("iq", "bad", "iql.beta=2");
    assert_eq!(code, Some(1), "{words}");
    assert!(
        words.contains("--preset iq: there are") && words.contains("td3-bc"),
        "{words}"
    );
    let (code, words) = command("iql", "bad", "iql.bta=2");
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("iql.bta=2"), "{words}");
    let (code, words) = command("iql", "bad", "iql.lr_q=1e30");
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("the training diverged"), "{words}");
}
