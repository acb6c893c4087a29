//! Learning on a simulated task as `hilt-learner hybrid --env` does, and `hilt-learner evaluate` after it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use hilt_learner::{
    checkpoint::{read_tensors, write_tensors},
    config::{Algorithm, DeviceChoice, LearnerConfig},
    evaluation::command::{self, EvaluateOptions, Length},
    hybrid::task::{self, TaskOptions},
    trained::{self, About, Trained},
    vectors::{Affine, Normalizer, Scaling},
};
use hilt_recording::table::{Columns, Table, npz};
use serde_json::Value;
use tch::Device;

/// Fresh networks are drawn from torch's one generator: tests that compare runs must not draw at once.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(sets: &[&str]) -> LearnerConfig {
    let small = [
        "device=\"cpu\"",
        "train.threads=1",
        "train.batch=32",
        "sac.hidden=[16,16]",
        "redq.hidden=[16,16]",
        "rlpd.hidden=[16,16]",
        "cal_ql.cql.actor_hidden=[16]",
        "cal_ql.cql.critic_hidden=[16]",
        "cal_ql.cql.sampled_actions=2",
        "online.random_steps=100",
        "online.num_eval=1",
    ];
    let sets: Vec<String> = small.iter().chain(sets).map(|&set| set.into()).collect();
    LearnerConfig::resolve("lift", None, &sets).unwrap()
}

fn options(out: &Path, sets: &[&str]) -> TaskOptions {
    TaskOptions {
        env: "Pendulum-v1".into(),
        demos: None,
        from: None,
        out: out.to_owned(),
        log: None,
        seed: 3,
        resume: false,
        config: config(sets),
    }
}

/// One episode of the policy in a folder.
fn judge(policy: &Path) -> EvaluateOptions {
    EvaluateOptions {
        policy: policy.to_owned(),
        env: None,
        length: Length::Episodes(1),
        seed: 0,
        stochastic: false,
        log: None,
        video: None,
        device: DeviceChoice::Cpu,
    }
}

fn go(options: &TaskOptions) -> anyhow::Result<()> {
    task::run(options, Instant::now(), &AtomicBool::new(false))
}

fn refused(options: &TaskOptions) -> String {
    format!("{:#}", go(options).unwrap_err())
}

fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word}: {error}");
    }
}

fn lines(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What an agent is made of, in the order of the names.
fn agent(dir: &Path) -> Vec<(String, tch::Tensor)> {
    let mut tensors = read_tensors(&dir.join("agent.safetensors")).unwrap();
    tensors.sort_by_key(|(name, _)| name.clone());
    tensors
}

/// A table of the pendulum's sizes, or of others, with numbers up to `by`.
fn table(path: &Path, (observation, action): (usize, usize), by: f32) -> PathBuf {
    let rows = 64;
    let number = |i: usize| by * ((i * 37 % 101) as f32 - 50.0) / 50.0;
    let numbers = |count: usize| (0..count * rows).map(number).collect::<Vec<_>>();
    let columns = Columns {
        observation,
        action,
        observations: numbers(observation),
        actions: numbers(action),
        rewards: numbers(1),
        next_observations: numbers(observation),
        terminals: vec![false; rows],
        timeouts: (0..rows).map(|row| row % 16 == 15).collect(),
    };
    npz::write(path, &Table::new(columns).unwrap()).unwrap();
    path.to_owned()
}

/// A random policy has about −1200, one that swings up and stays about −150.
#[test]
fn sac_swings_a_pendulum_up_within_five_thousand_steps() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("sac");
    let log = dir.path().join("log.npz");
    let sets = [
        "algorithm=sac",
        "sac.lr=2e-3",
        "sac.hidden=[64,64]",
        "train.batch=128",
        "online.random_steps=1000",
        "online.steps=5000",
        "online.eval_freq=2500",
    ];
    let options = TaskOptions {
        log: Some(log.clone()),
        ..options(&out, &sets)
    };
    go(&options).unwrap();
    let taken = npz::read(&log).unwrap();
    assert_eq!((taken.len(), taken.episodes().count()), (5000, 25));
    assert!(
        !taken.columns().terminals.contains(&true),
        "time ran out, nothing more"
    );

    let mut judge = judge(&out.join("export"));
    judge.length = Length::Episodes(20);
    let evaluate = |judge: &EvaluateOptions| command::run(judge, &AtomicBool::new(false));
    let evaluation = evaluate(&judge).unwrap();
    assert!(
        evaluation.mean() > -200.0,
        "{evaluation}: {:?}",
        evaluation.returns
    );
    assert_eq!(evaluate(&judge).unwrap(), evaluation);

    // As a log, with the folder itself named: its best policy acts.
    judge.policy = out.clone();
    judge.length = Length::Steps(300);
    judge.stochastic = true;
    judge.log = Some(dir.path().join("medium.npz"));
    let evaluation = evaluate(&judge).unwrap();
    let recorded = npz::read(&judge.log.clone().unwrap()).unwrap();
    assert_eq!(recorded.len(), 400);
    let sums: Vec<f64> = recorded
        .episodes()
        .map(|e| recorded.sum_of_rewards(e))
        .collect();
    for (sum, of) in sums.iter().zip(&evaluation.returns) {
        assert!((sum - of).abs() < 1e-2, "{sums:?} {evaluation:?}");
    }
    judge.env = Some("Pendulum-v2".into());
    says(
        &evaluate(&judge).unwrap_err().to_string(),
        &["Pendulum-v2", "Pendulum-v1"],
    );
}

#[cfg(feature = "sim")]
#[test]
fn a_policy_of_another_task_is_named_with_both_sizes() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    go(&options(dir.path(), &["algorithm=sac", "online.steps=1"])).unwrap();
    let mut judge = judge(dir.path());
    judge.env = Some("Hopper-v5".into());
    let error = command::run(&judge, &AtomicBool::new(false)).unwrap_err();
    let words = [
        "observations of 3 numbers and actions of 1",
        "Hopper-v5 has 11 and 3",
    ];
    says(&error.to_string(), &words);
}

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

#[test]
fn recorded_steps_are_learned_from_beside_own_ones() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "algorithm=rlpd",
        "rlpd.update_to_data=2",
        "rlpd.critics=3",
        "online.steps=150",
    ];
    let (with, without) = (dir.path().join("with"), dir.path().join("without"));
    let demos = Some(table(&dir.path().join("log.npz"), (3, 1), 1.0));
    go(&TaskOptions {
        demos,
        ..options(&with, &sets)
    })
    .unwrap();
    go(&options(&without, &sets)).unwrap();
    assert_ne!(agent(&with.join("export")), agent(&without.join("export")));
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
fn what_cannot_be_is_refused_with_the_remedy() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let with = |algorithm: &str| options(&out, &[&format!("algorithm={algorithm}")]);
    says(&refused(&with("bc")), &["recordings alone", "offline"]);
    says(&refused(&with("sac-grasp")), &["--preset sac"]);
    says(&refused(&with("td3-bc")), &["--from"]);
    let unknown = TaskOptions {
        env: "Pendulum-v9".into(),
        ..with("sac")
    };
    says(&refused(&unknown), &["Pendulum-v9", "Pendulum-v1"]);
    let demos = Some(table(&dir.path().join("wide.npz"), (4, 2), 1.0));
    let words = [
        "wide.npz",
        "observations of 4 numbers and actions of 2",
        "Pendulum-v1 has 3 and 1",
    ];
    says(
        &refused(&TaskOptions {
            demos,
            ..with("rlpd")
        }),
        &words,
    );
    // None of them has left anything.
    assert!(!out.exists());
    fs::create_dir(&out).unwrap();
    fs::write(out.join("state.json"), "{}").unwrap();
    says(&refused(&with("sac")), &["another training"]);
}

#[test]
fn a_flag_that_would_do_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = table(&dir.path().join("log.npz"), (3, 1), 1.0);
    let out = dir.path().join("out");
    let refused = |begins: &[&str], flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hilt-learner"));
        command.args(begins).args(flags).arg("--out").arg(&out);
        let done = command.output().unwrap();
        assert!(!done.status.success(), "{flags:?}");
        assert!(!out.exists(), "{flags:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    let robots: [&[&str]; 7] = [
        &["--encoder-weights", "w.pkl"],
        &["--labels", "labels"],
        &["--classifier", "classifier"],
        &["--listen", "tcp/127.0.0.1:0"],
        &["--session", "mine"],
        &["--max-updates", "1"],
        &["--max-seconds", "0"],
    ];
    for flags in robots {
        let task = ["hybrid", "--preset", "sac", "--env", "Pendulum-v1"];
        let error = refused(&task, flags);
        says(&error, &["--env", flags[0], "cannot be used with"]);
    }
    let offline = [
        "offline",
        "--preset",
        "iql",
        "--data",
        log.to_str().unwrap(),
    ];
    let weights = dir.path().join("w.pkl");
    fs::write(&weights, "of whatever").unwrap();
    let error = refused(&offline, &["--encoder-weights", weights.to_str().unwrap()]);
    says(&error, &["--encoder-weights", "log.npz", "leave it out"]);
    for flags in [["--max-steps", "1"], ["--log", "log.npz"]] {
        let error = refused(&["hybrid", "--demos", "demos"], &flags);
        says(&error, &["--env"]);
    }
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

#[test]
fn a_policy_whose_return_is_no_number_is_not_the_best() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    // Every number of it is finite, what they come to is not.
    let wild = dir.path().join("wild");
    fs::create_dir(&wild).unwrap();
    let settings = config(&["algorithm=sac", "online.steps=0"]);
    let fresh = settings.agent(3, 1, Device::Cpu, 9).unwrap();
    let about = About {
        algorithm: Algorithm::Sac,
        observations: 3,
        actions: 1,
        env: None,
        updates: 0,
        scaling: Scaling::default(),
    };
    trained::write(&wild, &*fresh, &about, &settings).unwrap();
    let state: Vec<_> = (fresh.state().into_iter())
        .map(|(name, tensor)| (name, tensor * 1e37))
        .collect();
    write_tensors(&wild.join("agent.safetensors"), &state).unwrap();
    let out = dir.path().join("out");
    go(&TaskOptions {
        from: Some(wild),
        config: settings,
        ..options(&out, &[])
    })
    .unwrap();
    let of = |line: &Value| line.get("evaluation/return").cloned();
    let returns: Vec<Value> = lines(&out).iter().filter_map(of).collect();
    assert_eq!(returns, [Value::Null]);
    assert!(!out.join("best").exists());
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

#[test]
fn a_log_that_cannot_be_written_is_found_before_the_first_step() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let nowhere = dir.path().join("nowhere/log.npz");
    let mut options = options(&out, &["algorithm=sac", "online.steps=1"]);
    options.log = Some(nowhere.clone());
    says(&refused(&options), &["--log", "nowhere/log.npz"]);
    assert!(!out.join("training.json").exists());
    // Without a step there is nothing to write, which is no error.
    options.log = Some(dir.path().join("log.npz"));
    options.config.online.steps = 0;
    go(&options).unwrap();
    assert!(out.join("summary.json").exists());
    assert!(!dir.path().join("log.npz").exists());

    let mut judge = judge(&out);
    judge.log = Some(nowhere);
    let error = command::run(&judge, &AtomicBool::new(false)).unwrap_err();
    says(&format!("{error:#}"), &["--log", "nowhere/log.npz"]);
    judge.log = None;
    for (length, words) in [
        (Length::Episodes(0), "--episodes 0"),
        (Length::Steps(0), "--steps 0"),
    ] {
        judge.length = length;
        let error = command::run(&judge, &AtomicBool::new(false)).unwrap_err();
        says(&error.to_string(), &[words, "at least 1"]);
    }
}

#[test]
fn a_policy_of_another_task_of_the_same_sizes_is_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let settings = config(&["algorithm=sac", "online.steps=1"]);
    let fresh = settings.agent(3, 1, Device::Cpu, 9).unwrap();
    let of = |env: &str| {
        let policy = dir.path().join(env);
        fs::create_dir_all(&policy).unwrap();
        let about = About {
            algorithm: Algorithm::Sac,
            observations: 3,
            actions: 1,
            env: Some(env.into()),
            updates: 0,
            scaling: Scaling::default(),
        };
        trained::write(&policy, &*fresh, &about, &settings).unwrap();
        policy
    };
    let (other, earlier) = (of("Balance-v1"), of("Pendulum-v0"));
    let from = |policy: &Path, name: &str| TaskOptions {
        from: Some(policy.to_owned()),
        ..options(&dir.path().join(name), &["algorithm=sac", "online.steps=1"])
    };
    let words = ["Balance-v1", "Pendulum-v1"];
    says(&refused(&from(&other, "refused")), &words);
    go(&from(&earlier, "taken")).unwrap();
    let evaluate = |policy: &Path| {
        let mut judge = judge(policy);
        judge.env = Some("Pendulum-v1".into());
        command::run(&judge, &AtomicBool::new(false))
    };
    says(&evaluate(&other).unwrap_err().to_string(), &words);
    evaluate(&earlier).unwrap();
}

/// As for a training offline: what the table says holds for what the task gives, too.
#[test]
fn recorded_steps_say_how_rewards_and_observations_are_scaled() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let sets = [
        "algorithm=rlpd",
        "rlpd.update_to_data=1",
        "rlpd.critics=2",
        "online.steps=1",
        "offline.rewards.scale=0.5",
        "offline.rewards.shift=-1",
        "offline.normalize_observations=true",
    ];
    let mut options = options(&out, &sets);
    says(&refused(&options), &["offline.rewards", "--demos"]);
    options.demos = Some(table(&dir.path().join("log.npz"), (3, 1), 1.0));
    go(&options).unwrap();
    let scaling = Trained::open(&out.join("export"), Device::Cpu)
        .unwrap()
        .about
        .scaling;
    let (scale, shift) = (0.5, -1.0);
    assert_eq!(scaling.rewards, Affine { scale, shift });
    let normalizer = scaling.observations.unwrap();
    assert!(normalizer.std.iter().all(|&std| (0.3..0.8).contains(&std)));
}
