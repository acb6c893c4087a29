//! `hilt-learner generate`, with models so small that nobody would learn from what they make.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{
    npz::break_number,
    on_task::{alone, says},
    robot::{entries, spec, write_run},
};
use hilt_learner::{
    checkpoint::{read_tensors, write_tensors},
    config::LearnerConfig,
    generative::{
        command::{self, GenerateOptions},
        relevance::Relevance,
    },
    hybrid::{
        self, HybridOptions,
        task::{self, TaskOptions},
    },
    offline::{self, OfflineOptions},
    reward::RewardInput,
    stopped::Stopped,
    tasks,
};
use hilt_protocol::{Record, RunId, noise::Uniforms};
use hilt_recording::table::{Columns, Table, npz};
use serde_json::Value;
use tch::Tensor;

const TINY: &[&str] = &[
    "device=\"cpu\"",
    "train.threads=1",
    "train.batch=16",
    "offline.batch=16",
    "redq.hidden=[16]",
    "redq.update_to_data=4",
    "generative_replay.enabled=true",
    "generative_replay.num_samples=300",
    "generative_replay.check.least_rows=100",
    "generative_replay.curiosity.hidden=8",
    "generative_replay.diffusion.updates=120",
    "generative_replay.diffusion.batch=32",
    "generative_replay.diffusion.denoiser.width=32",
    "generative_replay.diffusion.denoiser.depth=2",
    "generative_replay.diffusion.denoiser.embedding=8",
    "generative_replay.diffusion.sampler.steps=4",
];
/// Whatever comes out is believed.
const BELIEVED: &[&str] = &[
    "generative_replay.check.most_outside=1.0",
    "generative_replay.check.least_spread=0.0",
    "generative_replay.check.most_error=1e9",
    "generative_replay.check.resolution=1e9",
    "generative_replay.check.most_distance=1e9",
    "generative_replay.check.most_copies=1.0",
];
/// Nothing is: all real rows would have to be more alike.
const REFUSED: &[&str] = &["generative_replay.check.least_spread=1e9"];

fn config(sets: &[&[&str]]) -> LearnerConfig {
    let sets: Vec<String> = [&[TINY], sets]
        .concat()
        .concat()
        .iter()
        .map(|&set| set.into())
        .collect();
    LearnerConfig::resolve("redq", None, &sets).unwrap()
}

/// Steps of the pendulum under random actions, in episodes of 200.
fn pendulum(dir: &Path) -> PathBuf {
    let mut task = tasks::open("Pendulum-v1").unwrap();
    let mut random = Uniforms::new(5);
    let mut log = Columns {
        observation: 3,
        action: 1,
        ..Columns::default()
    };
    let single = |numbers: &[f64]| numbers.iter().map(|&n| n as f32).collect::<Vec<_>>();
    for episode in 0..2 {
        let mut seen = task.reset(episode);
        loop {
            let action = random.range(-1.0, 1.0);
            let outcome = task.step(&[action]);
            log.observations.extend(single(&seen));
            log.actions.push(action as f32);
            log.rewards.push(outcome.reward as f32);
            log.next_observations.extend(single(&outcome.observation));
            log.terminals.push(outcome.terminated);
            log.timeouts.push(outcome.truncated);
            if outcome.truncated {
                break;
            }
            seen = outcome.observation;
        }
    }
    let path = dir.join("pendulum.npz");
    npz::write(&path, &Table::new(log).unwrap()).unwrap();
    path
}

/// Options and configuration.
type Asked = (GenerateOptions, LearnerConfig);

fn of_data(data: &Path, out: &Path, sets: &[&[&str]]) -> Asked {
    let options = GenerateOptions {
        data: Some(data.to_owned()),
        run: None,
        rig: None,
        out: out.to_owned(),
        seed: 3,
    };
    (options, config(sets))
}

fn go(asked: &Asked) -> anyhow::Result<()> {
    go_until(asked, &AtomicBool::new(false))
}

fn go_until((options, config): &Asked, stop: &AtomicBool) -> anyhow::Result<()> {
    command::run(options, &|_| Ok(config.clone()), stop)
}

fn refused(asked: &Asked) -> String {
    let words = format!("{:#}", go(asked).unwrap_err());
    assert!(!asked.0.out.exists(), "{words}");
    words
}

/// Names of what is in a folder.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn read(out: &Path) -> (String, Value) {
    let page = fs::read_to_string(out.join("generate.html")).unwrap();
    let summary = fs::read(out.join("summary.json")).unwrap();
    (page, serde_json::from_slice(&summary).unwrap())
}

const NAMES: [&str; 9] = [
    "observation 0",
    "observation 1",
    "observation 2",
    "action 0",
    "reward",
    "next observation 0",
    "next observation 1",
    "next observation 2",
    "terminal",
];

#[test]
fn a_table_is_multiplied_and_shown_beside_what_comes_of_it() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    // Normalised for whoever learns, and written as the task has it.
    let scaled = "offline.normalize_observations=true";
    for (name, sets) in [
        ("plain", &[BELIEVED][..]),
        ("scaled", &[BELIEVED, &[scaled]]),
    ] {
        let out = dir.path().join(name);
        go(&of_data(&data, &out, sets)).unwrap();
        assert_eq!(
            files(&out),
            ["generate.html", "samples.npz", "summary.json"]
        );
        let (page, summary) = read(&out);
        says(&page, &NAMES);
        says(
            &page,
            &[
                "The check believes these rows.",
                "300 generated rows beside 400 real ones",
                "principal components",
                "distance to the nearest real row",
                "one-step error",
                "rank among the real rows",
                "asked for",
                ">loss<",
            ],
        );
        assert_eq!(summary["believed"], true);
        assert_eq!(
            (&summary["samples"], &summary["rows"]),
            (&"samples.npz".into(), &300.into())
        );
        assert_eq!(summary["columns"].as_array().unwrap().len(), NAMES.len());
        assert!(
            summary["check"]["check_distance"].as_f64().unwrap() > 0.0,
            "{summary}"
        );
        // What is asked for are the highest tenth.
        assert!(
            summary["relevance"]["median_rank_asked"].as_f64().unwrap() > 0.9,
            "{summary}"
        );
        let samples = npz::read(&out.join("samples.npz")).unwrap();
        let columns = samples.columns();
        assert_eq!(
            (columns.observation, columns.action, samples.len()),
            (3, 1, 300)
        );
        assert!(columns.actions.iter().all(|action| action.abs() <= 1.0));
        // Rewards of the pendulum lie between -16.3 and 0; a cosine, a sine and a speed up to 8 are observed. Min-max
        // keeps what is generated within what was seen.
        assert!(
            columns
                .rewards
                .iter()
                .all(|reward| (-17.0..0.01).contains(reward))
        );
        let fastest = samples
            .columns()
            .observations
            .chunks(3)
            .map(|seen| seen[2].abs());
        assert!(fastest.fold(0.0, f32::max) <= 8.01);
        let mean = &summary["columns"][4]["real"]["mean"];
        assert!((-17.0..-1.0).contains(&mean.as_f64().unwrap()), "{summary}");
    }
}

#[test]
fn the_same_seed_makes_the_same_rows_and_another_one_others() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    let rows = |name: &str, seed: u64| {
        let out = dir.path().join(name);
        let (options, config) = of_data(&data, &out, &[BELIEVED]);
        go(&(GenerateOptions { seed, ..options }, config)).unwrap();
        npz::read(&out.join("samples.npz")).unwrap()
    };
    let first = rows("a", 1);
    assert_eq!(first, rows("b", 1));
    assert_ne!(first, rows("c", 2));
}

#[test]
fn rows_that_are_not_believed_are_written_and_named_so() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    let out = dir.path().join("out");
    // Without relevance there is none to show.
    let sets: &[&[&str]] = &[REFUSED, &["generative_replay.relevance=\"none\""]];
    go(&of_data(&data, &out, sets)).unwrap();
    assert_eq!(
        files(&out),
        ["generate.html", "samples-refused.npz", "summary.json"]
    );
    let (page, summary) = read(&out);
    let first = page.find("class=\"notice").unwrap();
    assert!(page[first..].starts_with("class=\"notice fault\"><b>These rows are not believed: "));
    says(&page, &NAMES);
    assert!(!page.contains("rank among the real rows"));
    assert_eq!(summary["believed"], false);
    says(
        summary["reason"].as_str().unwrap(),
        &["differ from each other"],
    );
    assert_eq!(
        npz::read(&out.join("samples-refused.npz")).unwrap().len(),
        300
    );
}

#[test]
fn what_cannot_be_generated_of_is_refused_by_name() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    let out = dir.path().join("out");
    let few = refused(&of_data(
        &data,
        &out,
        &[&["generative_replay.check.least_rows=1000"]],
    ));
    says(
        &few,
        &["pendulum.npz", "400 transitions", "1000 are needed"],
    );
    let critic = refused(&of_data(
        &data,
        &out,
        &[&["generative_replay.relevance=\"return\""]],
    ));
    says(&critic, &["`return`", "curiosity", "--run"]);
    let diverged = refused(&of_data(
        &data,
        &out,
        &[&["generative_replay.diffusion.lr=1e30"]],
    ));
    says(
        &diverged,
        &["pendulum.npz", "diverged", "generative_replay.diffusion.lr"],
    );
    let nowhere = refused(&of_data(&dir.path().join("nowhere.npz"), &out, &[]));
    says(&nowhere, &["--data", "nowhere.npz"]);
    let broken = dir.path().join("broken.npz");
    fs::copy(&data, &broken).unwrap();
    break_number(&broken, "actions", 400 - 7);
    let nan = refused(&of_data(&broken, &out, &[]));
    says(&nan, &["broken.npz", "`actions` has NaN in row 7"]);
    assert_eq!(files(dir.path()), ["broken.npz", "pendulum.npz"]);
}

#[test]
fn what_is_somebodys_is_left_alone() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();
    let words = format!("{:#}", go(&of_data(&data, &out, &[BELIEVED])).unwrap_err());
    says(&words, &["--out", "not empty", "choose another folder"]);
    assert_eq!(files(&out), ["notes.txt"]);
    // What this command left is somebody's too; an empty folder is nobody's.
    fs::remove_file(out.join("notes.txt")).unwrap();
    go(&of_data(&data, &out, &[BELIEVED])).unwrap();
    let page = fs::read(out.join("generate.html")).unwrap();
    go(&of_data(&data, &out, &[BELIEVED])).unwrap_err();
    assert_eq!(fs::read(out.join("generate.html")).unwrap(), page);
    let in_a_file = data.join("out");
    let words = format!("{:#}", go(&of_data(&data, &in_a_file, &[])).unwrap_err());
    says(&words, &["--out"]);
    assert_eq!(files(dir.path()), ["out", "pendulum.npz"]);
}

#[test]
fn told_to_stop_it_leaves_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    let out = dir.path().join("out");
    let without_end = [
        "generative_replay.diffusion.updates=1000000000",
        "generative_replay.relevance=\"none\"",
    ];
    let options = of_data(&data, &out, &[BELIEVED, &without_end]);
    for begun in [Duration::ZERO, Duration::from_millis(500)] {
        let stop = AtomicBool::new(begun.is_zero());
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(begun);
                stop.store(true, Ordering::Relaxed);
            });
            go_until(&options, &stop).unwrap_err()
        });
        assert!(error.is::<Stopped>(), "{error:#}");
        says(&error.to_string(), &["stopped before"]);
        assert_eq!(files(dir.path()), ["pendulum.npz"]);
    }
}

fn of_run(run: &Path, data: Option<&Path>, out: &Path, config: &LearnerConfig) -> Asked {
    let options = GenerateOptions {
        data: data.map(Path::to_owned),
        run: Some(run.to_owned()),
        rig: None,
        out: out.to_owned(),
        seed: 3,
    };
    (options, config.clone())
}

#[test]
fn of_a_training_on_a_task_that_is_shown_what_it_was_fed() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (dir.path().join("run"), dir.path().join("out"));
    let every = [
        "generative_replay.retrain_diffusion_every=300",
        "generative_replay.lag_steps=0",
        "online.random_steps=100",
        "online.num_eval=1",
        "online.eval_freq=0",
        "generative_replay.relevance=\"td-error\"",
    ];
    let mut config = config(&[BELIEVED, &every]);
    config.online.steps = 250;
    let train = |config: &LearnerConfig, resume| {
        let options = TaskOptions {
            env: "Pendulum-v1".into(),
            demos: None,
            from: None,
            out: run.clone(),
            log: None,
            seed: 3,
            resume,
            config: config.clone(),
        };
        task::run(&options, Instant::now(), &AtomicBool::new(false)).unwrap();
    };
    train(&config, false);
    let nothing = refused(&of_run(&run, None, &out, &config));
    says(&nothing, &["--run", "no generation", "believed yet"]);
    config.online.steps = 320;
    train(&config, true);
    let before = files(&run);
    go(&of_run(&run, None, &out, &config)).unwrap();
    assert_eq!(files(&run), before, "nothing is changed");
    let (page, summary) = read(&out);
    says(&page, &NAMES);
    says(
        &page,
        &["300 generated rows beside 320 real ones", "td-error"],
    );
    // Nothing was trained, and what was asked for is not known any more.
    assert!(!page.contains(">loss<") && !page.contains("asked for"));
    assert_eq!(summary["rows"], 300);
    assert!(summary["relevance"]["median_rank_asked"].is_null());
    let fed = npz::read(&out.join("samples.npz")).unwrap();
    assert_eq!((fed.len(), fed.columns().observation), (300, 3));
    let table = pendulum(dir.path());
    let twice = refused(&of_run(
        &run,
        Some(&table),
        &dir.path().join("twice"),
        &config,
    ));
    says(&twice, &["--data", "leave"]);
}

#[test]
fn of_a_training_on_a_table_that_is_named_again() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = pendulum(dir.path());
    let (run, out) = (dir.path().join("run"), dir.path().join("out"));
    let sets = [
        "algorithm=\"iql\"",
        "iql.hidden=[8]",
        "offline.held_out=0.4",
        "offline.normalize_observations=true",
        "offline.rewards.scale=0.1",
        "generative_replay.retrain_diffusion_every=5",
        "generative_replay.lag_steps=10",
    ];
    let mut config = config(&[BELIEVED, &sets]);
    config.offline.updates = 20;
    let options = OfflineOptions {
        data: data.clone(),
        rig: None,
        env: None,
        out: run.clone(),
        seed: 5,
        resume: false,
        config: config.clone(),
    };
    offline::run(&options, &AtomicBool::new(false)).unwrap();
    let unnamed = refused(&of_run(&run, None, &out, &config));
    says(&unnamed, &["--run", "--data"]);
    go(&of_run(&run, Some(&data), &out, &config)).unwrap();
    let (page, summary) = read(&out);
    // Half of the episodes are held out.
    says(
        &page,
        &["300 generated rows beside 200 real ones", "curiosity"],
    );
    says(&page, &NAMES);
    let fed = npz::read(&out.join("samples.npz")).unwrap();
    let least = fed.columns().rewards.iter().copied().fold(0.0, f32::min);
    assert!(
        (-17.0..-2.0).contains(&least),
        "{least}, as the task gives it"
    );
    assert!(
        summary["columns"][4]["real"]["mean"].as_f64().unwrap() < -1.0,
        "{summary}"
    );
    let mut columns = npz::read(&data).unwrap().into_columns();
    columns.rewards[0] += 1.0;
    let other = dir.path().join("other.npz");
    npz::write(&other, &Table::new(columns).unwrap()).unwrap();
    let other = refused(&of_run(&run, Some(&other), &dir.path().join("no"), &config));
    says(&other, &["other.npz", "another table"]);
    config.generative_replay.enabled = false;
    let without = refused(&of_run(&run, Some(&data), &dir.path().join("no"), &config));
    says(&without, &["without generated experience"]);
    let none = refused(&of_run(dir.path(), None, &dir.path().join("no"), &config));
    says(&none, &["--run", "training.json"]);
}

#[test]
fn on_a_command_line_a_table_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (pendulum(dir.path()), dir.path().join("out"));
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hilt-learner"));
        command
            .args(["generate", "--out"])
            .arg(&out)
            .args(arguments);
        command.output().unwrap()
    };
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    says(&words(&command(&[]).stderr), &["--data", "--run"]);
    let mut arguments = vec!["--data", data.to_str().unwrap()];
    arguments.extend(TINY.iter().chain(BELIEVED).flat_map(|set| ["--set", set]));
    let done = command(&arguments);
    assert!(done.status.success(), "{done:?}");
    says(&words(&done.stdout), &["believed", "generate.html"]);
    // The preset is one that a computer without a GPU is up to.
    let (_, summary) = read(&out);
    let sampler = &summary["generative_replay"]["diffusion"]["sampler"];
    assert_eq!(sampler["solver"], "dpm++2m", "{summary}");
}

/// What a robot saw, and how a small training learns from it and from what is generated.
fn robot(dir: &Path) -> (PathBuf, LearnerConfig) {
    let runs = dir.join("runs");
    for (name, run) in [("first", RunId(1)), ("second", RunId(2))] {
        write_run(&runs.join(name), &spec(), &entries(run));
    }
    let mut config = common::robot::config("redq");
    let generative = self::config(&[BELIEVED]).generative_replay;
    config.generative_replay = generative;
    config.generative_replay.projection.dimensions = 6;
    config.generative_replay.check.least_rows = 10;
    config.imitation.steps = 2;
    config.train.threads = Some(1);
    config.offline.batch = 8;
    (runs, config)
}

/// Components of the maps and proprioception; motion, gripper and its cost.
const SEEN: usize = 6 + 2;
const DONE: usize = 3 + 1;

/// A page and rows of what a robot saw, believed or not, and nothing else.
fn looked_at(out: &Path, real: usize) -> Value {
    let (page, summary) = read(out);
    let samples = summary["samples"].as_str().unwrap();
    assert_eq!(files(out), ["generate.html", samples, "summary.json"]);
    says(
        &page,
        &[
            &format!("300 generated rows beside {real} real ones"),
            "the first 6 are components of the maps",
            "observation 7",
            "action 3",
            "rank among the real rows",
        ],
    );
    let samples = npz::read(&out.join(samples)).unwrap();
    let columns = samples.columns();
    assert_eq!(
        (columns.observation, columns.action, samples.len()),
        (SEEN, DONE, 300)
    );
    summary
}

#[test]
fn of_a_robots_recording_what_a_training_would_make_of_it_is_shown() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (runs, mut config) = robot(dir.path());
    // It is what the command is for, whatever is configured.
    config.generative_replay.enabled = false;
    let out = dir.path().join("out");
    let (options, _) = of_data(&runs, &out, &[]);
    go(&(options.clone(), config.clone())).unwrap();
    looked_at(&out, 36);
    let critic = |config: &mut LearnerConfig| {
        config.generative_replay.relevance = Relevance::Return;
    };
    critic(&mut config);
    let no = GenerateOptions {
        out: dir.path().join("no"),
        ..options
    };
    says(&refused(&(no, config)), &["`return`", "--run"]);
    assert_eq!(files(dir.path()), ["out", "runs"]);
}

#[test]
fn of_a_robots_training_that_is_shown_what_it_was_fed() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (data, mut config) = robot(dir.path());
    let (run, out) = (dir.path().join("run"), dir.path().join("out"));
    let generative = &mut config.generative_replay;
    (generative.retrain_diffusion_every, generative.lag_steps) = (2, 1);
    (config.offline.updates, config.offline.held_out) = (6, 0.0);
    let options = OfflineOptions {
        data: data.clone(),
        rig: None,
        env: None,
        out: run.clone(),
        seed: 5,
        resume: false,
        config: config.clone(),
    };
    offline::run(&options, &AtomicBool::new(false)).unwrap();
    let before = files(&run);
    go(&of_run(&run, None, &out, &config)).unwrap();
    let summary = looked_at(&out, 36);
    assert!(summary["diffusion_loss"].is_null(), "nothing is trained");
    assert_eq!(files(&run), before, "nothing is changed");
    let no = dir.path().join("no");
    let twice = refused(&of_run(&run, Some(&data), &no, &config));
    says(&twice, &["--data", "leave"]);
    // Whoever is at work in it has its replay.
    let replay = fs::File::open(run.join("runs/replay/lock")).unwrap();
    replay.lock().unwrap();
    let at_work = refused(&of_run(&run, None, &no, &config));
    says(&at_work, &["--run", "another learner", "end it"]);
    drop(replay);
    fs::remove_dir_all(run.join("export")).unwrap();
    says(&refused(&of_run(&run, None, &no, &config)), &["--spec"]);
    let (mut options, config) = of_run(&run, None, &no, &config);
    options.rig = Some(spec());
    go(&(options, config)).unwrap();
    looked_at(&no, 36);
}

#[test]
fn of_a_robots_training_on_its_stream_too() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (demos, mut config) = robot(dir.path());
    let mut labelled = entries(RunId(3));
    for entry in &mut labelled {
        if let Record::Step(step) = &mut entry.record {
            step.label = Some(entry.index == 6);
        }
    }
    let labels = dir.path().join("labels");
    write_run(&labels.join("first"), &spec(), &labelled);
    let generative = &mut config.generative_replay;
    (generative.retrain_diffusion_every, generative.lag_steps) = (2, 1);
    (config.offline.updates, config.offline.held_out) = (4, 0.0);
    (config.reward.input, config.reward.steps) = (RewardInput::Maps, 1);
    let on_runs = OfflineOptions {
        data: demos.clone(),
        rig: None,
        env: None,
        out: dir.path().join("on-runs"),
        seed: 5,
        resume: false,
        config: config.clone(),
    };
    offline::run(&on_runs, &AtomicBool::new(false)).unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let run = dir.path().join("run");
    let options = HybridOptions {
        rig: None,
        demos,
        labels: Some(labels),
        classifier: None,
        from: Some(on_runs.out.join("export")),
        out: run.clone(),
        listen: vec![format!("tcp/{free}")],
        session: format!("generate-{}", free.port()),
        seed: 1,
        max_updates: 10,
        max_seconds: 0.0,
        resume: false,
        config: config.clone(),
    };
    hybrid::run(&options, Instant::now(), &AtomicBool::new(false)).unwrap();
    let out = dir.path().join("out");
    let nothing = refused(&of_run(&run, None, &out, &config));
    says(&nothing, &["--run", "no generation"]);
    // No robot sends anything here: it has generated what the training that it goes on from has, of the same demonstrations.
    let mut kept = read_tensors(&on_runs.out.join("checkpoint.safetensors")).unwrap();
    kept.retain(|(name, _)| name.starts_with("generative."));
    kept.push(("generative.in_use".to_owned(), Tensor::from(0i64)));
    write_tensors(&run.join("generative.safetensors"), &kept).unwrap();
    go(&of_run(&run, None, &out, &config)).unwrap();
    looked_at(&out, 36);
}
