//! Learning on a simulated task as `hilt-learner hybrid --env` does, and `hilt-learner evaluate` after it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, path::Path, process::Command, sync::atomic::AtomicBool};

use common::on_task::{agent, alone, config, go, judge, lines, options, refused, says, table};
use hilt_learner::{
    checkpoint::write_tensors,
    config::Algorithm,
    evaluation::command::{self, EvaluateOptions, Length},
    hybrid::task::TaskOptions,
    trained::{self, About, Trained},
    vectors::{Affine, Scaling},
};
use hilt_recording::table::npz;
use serde_json::Value;
use tch::Device;

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
