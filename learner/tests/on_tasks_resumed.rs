//! Learning on a simulated task that ends before it is over, in order or not, and goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use common::on_task::{agent, alone, config, go, lines, options, refused, says, table};
use hilt_learner::{
    checkpoint::read_tensors,
    config::Algorithm,
    hybrid::task::{self, TaskOptions},
    trained::{self, About, Trained},
    vectors::{Affine, Normalizer, Scaling},
};
use serde_json::Value;
use tch::Device;

#[test]
fn a_resumed_training_is_the_one_that_was_not_stopped() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "algorithm=redq",
        "redq.update_to_data=2",
        "redq.critics=3",
        "online.eval_freq=200",
    ];
    let whole = dir.path().join("whole");
    let mut options = options(&whole, &sets);
    options.config.online.steps = 600;
    go(&options).unwrap();
    options.out = dir.path().join("parts");
    // An episode is of 200 steps: nothing is cut.
    options.config.online.steps = 400;
    go(&options).unwrap();
    let again = refused(&options);
    says(&again, &["--resume"]);
    options.config.online.steps = 600;
    options.resume = true;
    go(&options).unwrap();
    assert_eq!(
        agent(&whole.join("export")),
        agent(&options.out.join("export"))
    );
    let evaluations = |out: &Path| -> Vec<f64> {
        let of = |line: &Value| line["evaluation/return"].as_f64();
        lines(out).iter().filter_map(of).collect()
    };
    assert_eq!(evaluations(&whole), evaluations(&options.out));
    assert_eq!(evaluations(&whole).len(), 3);
    let summary = fs::read(options.out.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(
        (summary["steps"].as_u64(), summary["updates"].as_u64()),
        (Some(600), Some(500))
    );
    assert_eq!(summary["last_at_step"].as_u64(), Some(600));
    assert_eq!(
        summary["last_return"].as_f64(),
        evaluations(&whole).last().copied()
    );

    // Another seed is another run.
    let other = TaskOptions {
        seed: 4,
        out: dir.path().join("other"),
        resume: false,
        ..options.clone()
    };
    go(&other).unwrap();
    assert_ne!(
        agent(&whole.join("export")),
        agent(&other.out.join("export"))
    );

    // Another seed, or networks of other sizes.
    options.seed = 4;
    says(&refused(&options), &["seed = 3", "4"]);
    options.seed = 3;
    options.config.redq.hidden = vec![8];
    says(
        &refused(&options),
        &["checkpoint.safetensors", "actor.params"],
    );
}

/// As one leaves it that was killed: with more steps than its checkpoint stands on. The replay has gone round by then.
#[test]
fn a_training_killed_after_its_checkpoint_is_the_one_that_was_not_stopped() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let sets = ["algorithm=sac", "train.capacity=150", "online.eval_freq=0"];
    let mut options = options(&whole, &sets);
    options.config.online.steps = 600;
    go(&options).unwrap();
    options.out = dir.path().join("killed");
    // An episode is of 200 steps: nothing is cut.
    options.config.online.steps = 400;
    go(&options).unwrap();
    let checkpoint = options.out.join("checkpoint.safetensors");
    let kept = fs::read(&checkpoint).unwrap();
    options.resume = true;
    options.config.online.steps = 500;
    go(&options).unwrap();
    fs::write(&checkpoint, &kept).unwrap();
    options.config.online.steps = 600;
    go(&options).unwrap();
    assert_eq!(
        agent(&whole.join("export")),
        agent(&options.out.join("export"))
    );
    // A checkpoint holds none of the steps.
    let bytes = fs::metadata(whole.join("checkpoint.safetensors"))
        .unwrap()
        .len();
    assert_eq!(bytes, kept.len() as u64);
}

#[test]
fn told_to_stop_it_keeps_what_it_has() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), &["algorithm=sac"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let training = scope.spawn(|| task::run(&options, Instant::now(), &stop));
        while !dir.path().join("config.toml").exists() && !training.is_finished() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        training.join().unwrap().unwrap();
    });
    Trained::open(&dir.path().join("export"), Device::Cpu).unwrap();
    assert!(dir.path().join("checkpoint.safetensors").exists());
}

/// Episodes without end, of which Ctrl-C comes in the midst.
#[test]
fn told_to_stop_within_an_evaluation_it_keeps_none_and_makes_up_for_it() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let sets = ["algorithm=sac", "online.eval_freq=1000"];
    let mut options = options(dir.path(), &sets);
    options.config.online.random_steps = 990;
    options.config.online.num_eval = 1 << 32;
    let metrics = dir.path().join("metrics.jsonl");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let training = scope.spawn(|| task::run(&options, Instant::now(), &stop));
        // The line of this step comes right before its evaluation.
        let logged = || fs::read_to_string(&metrics).is_ok_and(|lines| !lines.is_empty());
        while !logged() && !training.is_finished() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        training.join().unwrap().unwrap();
    });
    let evaluations = || -> Vec<u64> {
        let evaluated = |line: &&Value| line["evaluation/return"].is_f64();
        let step = |line: &Value| line["step"].as_u64().unwrap();
        lines(dir.path())
            .iter()
            .filter(evaluated)
            .map(step)
            .collect()
    };
    assert_eq!(evaluations(), [0u64; 0]);
    assert!(!dir.path().join("best").exists());
    let trained = Trained::open(&dir.path().join("export"), Device::Cpu).unwrap();
    assert_eq!(trained.about.updates, 10);
    options.resume = true;
    options.config.online.num_eval = 1;
    options.config.online.steps = 1010;
    go(&options).unwrap();
    assert_eq!(evaluations(), [1000, 1010]);
    assert!(dir.path().join("best").exists());
}

/// Cal-QL from offline: what its observations go through stays, and it knows that it is online.
#[test]
fn an_offline_agent_goes_on_online() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let sets = ["algorithm=cal-ql", "online.steps=220", "online.eval_freq=0"];
    let offline = dir.path().join("offline");
    fs::create_dir(&offline).unwrap();
    let about = About {
        algorithm: Algorithm::CalQl,
        observations: 3,
        actions: 1,
        env: None,
        updates: 40,
        scaling: Scaling {
            observations: Some(Normalizer {
                mean: vec![0.1, 0.2, 0.3],
                std: vec![0.5, 0.5, 4.0],
            }),
            rewards: Affine {
                scale: 0.1,
                shift: 0.0,
            },
        },
    };
    let settings = config(&sets);
    let fresh = settings.agent(3, 1, Device::Cpu, 9).unwrap();
    trained::write(&offline, &*fresh, &about, &settings).unwrap();
    let out = dir.path().join("online");
    let options = TaskOptions {
        from: Some(offline.clone()),
        demos: Some(table(&dir.path().join("log.npz"), (3, 1), 1.0)),
        ..options(&out, &sets)
    };
    go(&options).unwrap();
    let lines = lines(&out);
    assert_eq!(
        lines[0]["step"].as_u64(),
        Some(0),
        "what it can before: {lines:?}"
    );
    assert!(lines[0]["evaluation/return"].as_f64().is_some());
    let trained = Trained::open(&out.join("export"), Device::Cpu).unwrap();
    assert_eq!(trained.about.scaling, about.scaling);
    // It acts and learns from the first step on.
    assert_eq!(trained.about.updates, 40 + 220);
    let online = |dir: &Path| {
        let state = agent(dir);
        let (_, online) = state.iter().find(|(name, _)| name == "online").unwrap();
        online.int64_value(&[])
    };
    assert_eq!((online(&offline), online(&out.join("export"))), (0, 1));

    // Resumed it needs no word of what it went on from, but another folder is none to go on from.
    let mut resumed = TaskOptions {
        from: None,
        resume: true,
        ..options.clone()
    };
    resumed.config.online.steps = 230;
    go(&resumed).unwrap();
    let trained = Trained::open(&out.join("export"), Device::Cpu).unwrap();
    assert_eq!(trained.about.scaling, about.scaling);
    assert_eq!(trained.about.updates, 40 + 230);
    resumed.from = Some(offline.clone());
    resumed.config.online.steps = 231;
    go(&resumed).unwrap();
    // Killed before its first checkpoint it has nothing else to begin with.
    let killed = dir.path().join("killed");
    fs::create_dir(&killed).unwrap();
    fs::copy(out.join("training.json"), killed.join("training.json")).unwrap();
    let mut again = TaskOptions {
        out: killed,
        from: None,
        ..resumed.clone()
    };
    says(&refused(&again), &["first checkpoint", "--from"]);
    again.from = Some(offline.clone());
    go(&again).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let fresh = settings.agent(3, 1, Device::Cpu, 10).unwrap();
    trained::write(&elsewhere, &*fresh, &about, &settings).unwrap();
    resumed.from = Some(elsewhere);
    says(&refused(&resumed), &["from.sha256"]);
    resumed.from = None;
    resumed.demos = Some(table(&dir.path().join("wide.npz"), (3, 1), 0.5));
    says(&refused(&resumed), &["demos.sha256"]);
    resumed.demos = None;
    says(&refused(&resumed), &["demos.sha256", "null"]);

    let mut other = TaskOptions {
        out: dir.path().join("other"),
        config: config(&["algorithm=sac"]),
        ..options
    };
    says(&refused(&other), &["cal-ql", "sac"]);
    other.config = config(&[&sets[..], &["cal_ql.cql.critic_hidden=[8]"]].concat());
    says(&refused(&other), &["--from", "critics"]);
}

#[test]
fn a_loss_that_diverges_is_named_and_the_checkpoint_stays_good() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let often = dir.path().join("often");
    let sets = [
        "algorithm=sac",
        "sac.lr=1e18",
        "train.checkpoint_period_s=0.0",
        "online.steps=400",
    ];
    says(
        &refused(&options(&often, &sets)),
        &["diverged", "checkpoint.safetensors"],
    );
    let state = read_tensors(&often.join("checkpoint.safetensors")).unwrap();
    assert!(
        state
            .iter()
            .all(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 1)
    );
    // As it is by default, nothing looks before the agent has nothing to do any more.
    let seldom = dir.path().join("seldom");
    let error = refused(&options(&seldom, &["algorithm=sac", "sac.lr=1e18"]));
    says(
        &error,
        &["diverged", "update", "there is no checkpoint yet"],
    );
    assert!(!error.contains("leave that transition out"), "{error}");
}

/// The best policy's score is with it, so that a checkpoint from before it was found does not let a worse one in.
#[test]
fn a_training_killed_after_its_best_policy_keeps_it() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut options = options(&out, &["algorithm=sac", "online.eval_freq=100"]);
    options.config.online.steps = 100;
    go(&options).unwrap();
    // As if a better policy had been kept since the checkpoint.
    let score = r#"{"return": 1.0, "step": 150}"#;
    fs::write(out.join("best/score.json"), score).unwrap();
    let best = agent(&out.join("best"));
    options.config.online.steps = 300;
    options.resume = true;
    go(&options).unwrap();
    assert_eq!(agent(&out.join("best")), best);
    let summary: Value =
        serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["best_return"].as_f64(), Some(1.0));
    assert_eq!(summary["best_at_step"].as_u64(), Some(150));
}

#[test]
fn killed_at_its_very_beginning_it_can_be_resumed() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut options = options(&out, &["algorithm=sac", "online.steps=1"]);
    // The folder is the training's before there are curves: these cannot be begun here.
    fs::create_dir_all(out.join("metrics.jsonl")).unwrap();
    says(&refused(&options), &["metrics.jsonl"]);
    assert!(out.join("training.json").exists());
    fs::remove_dir(out.join("metrics.jsonl")).unwrap();
    options.resume = true;
    go(&options).unwrap();
}
