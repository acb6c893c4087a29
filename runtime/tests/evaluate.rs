//! Evaluation of an exported policy on the lift scene.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{engine, onnx, rig_file};
use hilt_runtime::{
    evaluate::{EvaluateOptions, EvaluateSummary, SoFar, evaluate},
    rig::Rig,
};
use serde_json::Value;

fn rig(name: &str) -> Rig {
    Rig::read(&rig_file(name), &["episode.max_steps=6".to_owned()]).unwrap()
}

/// A folder with a policy that always does the same.
fn export(rig: &Rig, dir: &Path) -> PathBuf {
    let spec = rig.spec();
    let action = vec![0.2; spec.action_dim()];
    fs::write(dir.join("encoder.onnx"), onnx::encoder(&spec).onnx).unwrap();
    fs::write(
        dir.join("policy.onnx"),
        onnx::policy(&spec, Some(&action)).onnx,
    )
    .unwrap();
    dir.to_owned()
}

fn options(policy: PathBuf, out: PathBuf, workers: usize) -> EvaluateOptions {
    EvaluateOptions {
        policy,
        episodes: 5,
        seed: 7,
        out,
        workers,
    }
}

fn run(workers: usize, out: &Path) -> (EvaluateSummary, Vec<SoFar>) {
    let rig = rig("lift-sim.toml");
    let policy = tempfile::tempdir().unwrap();
    let options = options(export(&rig, policy.path()), out.to_owned(), workers);
    let seen = Mutex::default();
    let note = |so_far| {
        let seen: &Mutex<Vec<SoFar>> = &seen;
        seen.lock().unwrap().push(so_far);
    };
    let summary = evaluate(&rig, engine(), &options, &AtomicBool::new(false), note).unwrap();
    (summary, seen.into_inner().unwrap())
}

#[test]
fn the_result_does_not_depend_on_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let (one, three) = (dir.path().join("one"), dir.path().join("three"));
    let (summary, seen) = run(1, &one);
    assert_eq!(run(3, &three).0, summary);
    assert_eq!(summary.episodes, 5);
    let last = seen.last().unwrap();
    assert_eq!((last.episodes, last.steps), (5, 30));
    let read = |dir: &Path, name: &str| fs::read(dir.join(name)).unwrap();
    for name in [
        "episodes.jsonl",
        "filmstrip.png",
        "episodes.gif",
        "summary.json",
    ] {
        assert!(read(&one, name) == read(&three, name), "{name}");
    }
    let file: Value = serde_json::from_slice(&read(&one, "summary.json")).unwrap();
    assert_eq!(
        (&file["clock"], &file["seed"]),
        (&"simulated".into(), &7.into())
    );
    assert_eq!(file["judged_by"], "the simulator's truth");
    assert_eq!(
        read(&one, "episodes.jsonl")
            .iter()
            .filter(|&&b| b == b'\n')
            .count(),
        5
    );
}

#[test]
fn stopped_it_counts_what_was_finished() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig("lift-sim.toml");
    let options = options(export(&rig, dir.path()), dir.path().join("out"), 1);
    let stop = AtomicBool::new(false);
    let summary = evaluate(&rig, engine(), &options, &stop, |so_far| {
        stop.store(so_far.episodes == 2, Ordering::Relaxed);
    });
    assert_eq!(summary.unwrap().episodes, 2);
}

/// Over the bus of an emulated arm; the cameras freeze again and again.
#[test]
fn in_real_time_an_episode_that_an_input_broke_off_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let frozen: String = (0..20)
        .map(|i| {
            let from_s = 2 + 5 * i;
            format!(r#"{{ kind = "camera-frozen", from_s = {from_s}, for_s = 1.5 }},"#)
        })
        .collect();
    let overrides = [
        "ages.state_ms=2000",
        "ages.frame_ms=600",
        "ages.policy_ms=5000",
        "ages.loop_ms=5000",
        "ages.jump_ms=20000",
        "ages.astray_ms=5000",
        "realtime.lock_memory=false",
        "episode.max_steps=20",
        &format!("faults.faults=[{frozen}]"),
    ];
    let overrides: Vec<_> = overrides.iter().map(|&s| s.to_owned()).collect();
    let rig = Rig::read(&rig_file("so101-emulated.toml"), &overrides).unwrap();
    let options = EvaluateOptions {
        episodes: 3,
        ..options(export(&rig, dir.path()), dir.path().join("out"), 1)
    };
    let never = AtomicBool::new(false);
    let summary = evaluate(&rig, engine(), &options, &never, |_| {}).unwrap();
    assert_eq!(summary.episodes, 3);
    assert!(summary.broken_episodes > 0, "{summary:?}");
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |rig: &Rig, policy: &Path| {
        let options = options(policy.to_owned(), dir.path().join("out"), 1);
        let result = evaluate(rig, engine(), &options, &AtomicBool::new(false), |_| {});
        format!("{:#}", result.unwrap_err())
    };
    let error = run(&rig("lift-sim.toml"), &dir.path().join("nowhere"));
    assert!(
        error.contains("nowhere") && error.contains("encoder.onnx"),
        "{error}"
    );
    let fake = rig("fake-dual.toml");
    let error = run(&fake, &export(&fake, dir.path()));
    assert!(error.contains("no truth to judge by"), "{error}");
}
