//! The actor against a learner that is in the test's own process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use common::{
    acting::Acting,
    engine,
    learner::{FakeLearner, endpoint, snapshot},
    onnx,
    pty::{AtTerminal, CTRL_C},
    read_log, rig_file, until,
};
use hilt_protocol::{ActionSource, Entry, GraphName, Record, wire};
use hilt_runtime::{
    inference::Kept,
    rig::Rig,
    verify::{recheck, verify},
};
use serde_json::Value;

fn rig(overrides: &[&str]) -> Rig {
    let overrides: Vec<String> = overrides.iter().map(|&s| s.to_owned()).collect();
    Rig::read(&rig_file("fake-dual.toml"), &overrides).unwrap()
}

/// The log is whole, and the learner has received it, each entry once.
fn assert_delivered(out: &Path, received: &[Entry]) {
    let (log, whole) = read_log(out);
    assert!(whole);
    let numbers: Vec<u64> = received.iter().map(|e| e.sequence).collect();
    assert_eq!(numbers, (0..log.len() as u64).collect::<Vec<_>>());
    assert!(received == log);
}

fn rows(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("episodes.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_actor_keeps_the_learners_pace_takes_its_weights_and_refuses_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let rig = rig(&["episode.max_steps=5"]);
    let endpoint = endpoint();
    let acting = Acting::start(&rig, &endpoint, &out);
    until("it waits for a graph", || {
        acting.seen.heard("encoder graph")
    });
    let learner = FakeLearner::open(&endpoint, &rig.spec(), vec![]);
    learner.publish_classifier(1, 0.1);
    until("it waits for weights", || {
        acting.seen.heard("first snapshot")
    });
    assert!(learner.entries().is_empty());
    let still = vec![0.0; 10];
    learner.publish_policy(1, &still);
    learner.progress(10, 12, false);
    until("twelve steps", || learner.steps().len() == 12);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(learner.steps().len(), 12, "no step more than allowed");

    // Weights that must not be taken.
    let graph = onnx::policy(&rig.spec(), None);
    let good = snapshot(&graph, 2, vec![1, 10], &still);
    let mut other_spec = good.clone();
    other_spec.spec.0[0] ^= 1;
    let mut not_finite = good.clone();
    not_finite.weights[0].data[3] = f32::NAN;
    let mut wrong_probe = good.clone();
    wrong_probe.probe.output.data[0] = 0.5;
    for (bad, allowed) in [(other_spec, 14), (not_finite, 16), (wrong_probe, 18)] {
        learner.publish(&bad);
        std::thread::sleep(Duration::from_millis(100));
        learner.progress(11, allowed, false);
        until("the steps allowed", || {
            learner.steps().len() as u64 == allowed
        });
    }
    let steps = learner.steps();
    assert!(
        steps.iter().all(|s| s.policy_version == 1),
        "the old policy stays"
    );
    assert!(steps.iter().all(|s| s.source == ActionSource::Policy));
    let moves = |v: &f32| v.abs() > 0.01;
    assert!(!steps.iter().any(|s| s.action.iter().any(moves)));

    // Good ones; the loader needs a moment.
    let mut forth = still.clone();
    forth[0] = 0.5;
    learner.publish_policy(4, &forth);
    let mut allowed = 18;
    until("a step of the new policy", || {
        allowed += 1;
        learner.progress(40, allowed, false);
        learner.steps().last().unwrap().policy_version == 4
    });
    let steps = learner.steps();
    let moved = steps.last().unwrap().action[0];
    assert!((moved - 0.5).abs() < 0.01, "{moved}");
    // The classifier sees success everywhere: reward, and the episode's end.
    learner.publish_classifier(2, 0.99);
    until("a success", || {
        allowed += 1;
        learner.progress(50, allowed, false);
        learner.steps().last().unwrap().terminated
    });
    assert_eq!(learner.steps().last().unwrap().reward, 1.0);
    until("the progress is shown", || {
        learner.progress(60, allowed + 1, false);
        acting.seen.standing().updates >= 50
    });
    let standing = acting.seen.standing();
    assert_eq!(standing.policy_version, 4);
    assert!(
        standing.words().contains("policy 4"),
        "{}",
        standing.words()
    );

    learner.progress(70, allowed, true);
    let summary = acting.end().unwrap();
    assert_delivered(&out, &learner.entries());
    let entries = learner.entries();
    assert_eq!(summary.entries, entries.len() as u64);
    assert_eq!(summary.acknowledged, summary.entries);
    assert_eq!(summary.env_steps, learner.steps().len() as u64);
    let ended = |e: &&Entry| matches!(&e.record, Record::Step(s) if s.terminated || s.truncated);
    let rows = rows(&out);
    assert_eq!(rows.len(), entries.iter().filter(ended).count());
    assert_eq!(rows.len() as u64, summary.episodes);
    assert_eq!(
        (&rows[0]["steps"], &rows[0]["reward"]),
        (&5.into(), &0.0.into())
    );
    assert_eq!(rows[0]["intervened_steps"], 0);
    let file = std::fs::read(out.join("summary.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file["missed_ticks"], "not measured");
    assert_eq!(file["clock"], "simulated");

    // Recomputed from its log, the run is the same, and so is what its two policies said.
    let verdict = verify(&out).unwrap();
    assert_eq!(verdict.status(), 0, "{verdict}");
    assert!(verdict.lockstep);
    assert_eq!((verdict.decisions, verdict.swaps), (summary.env_steps, 1));
    let inference = recheck(&out, engine()).unwrap();
    assert_eq!(inference.steps, summary.env_steps, "{inference}");
    assert_eq!((inference.off, inference.not_kept), (0, 0), "{inference}");
    // Other weights in place of those that acted; and none.
    let kept = Kept::of_run(&out);
    let mut other = snapshot(&graph, 4, vec![1, 10], &still);
    other.weights[0].data[1] = 0.25;
    other.probe.output.data[1] = 0.25;
    let bytes = wire::encode_snapshot(&other);
    kept.keep_snapshot(GraphName::Policy, 4, &bytes).unwrap();
    let inference = recheck(&out, engine()).unwrap();
    let off = inference.first_off.clone().unwrap();
    assert_eq!((off.version, off.recomputed[1]), (4, 0.25), "{inference}");
    std::fs::remove_file(out.join("weights/policy-000000000004.snapshot")).unwrap();
    let inference = recheck(&out, engine()).unwrap();
    assert!(inference.not_kept > 0 && inference.off == 0, "{inference}");
}

#[test]
fn a_learner_that_dies_and_comes_back_has_every_entry_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let rig = rig(&["episode.max_steps=7"]);
    let endpoint = endpoint();
    let first = FakeLearner::open(&endpoint, &rig.spec(), vec![]);
    first.publish_classifier(1, 0.1);
    first.publish_policy(1, &[0.1; 10]);
    first.progress(0, 20, false);
    let acting = Acting::start(&rig, &endpoint, &out);
    until("the first entries", || !first.steps().is_empty());
    // It dies somewhere in the middle of what it has allowed.
    let received = first.entries();
    drop(first);
    until("the actor says so", || {
        acting.seen.heard("the learner is gone")
    });
    until("the actor has used up what was allowed", || {
        acting.seen.standing().env_steps == 19 || acting.seen.standing().env_steps == 20
    });
    assert!(!acting.is_finished());

    let mut allowed = 20;
    let second = FakeLearner::open(&endpoint, &rig.spec(), received);
    until("more steps than before", || {
        allowed += 1;
        second.progress(5, allowed, false);
        second.steps().len() > 30
    });
    second.progress(5, allowed, true);
    let summary = acting.end().unwrap();
    assert_eq!(summary.acknowledged, summary.entries);
    assert_delivered(&out, &second.entries());
}

#[test]
fn a_run_begins_with_random_steps_without_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(&["episode.max_steps=5", "episode.random_steps=8"]);
    let endpoint = endpoint();
    let learner = FakeLearner::open(&endpoint, &rig.spec(), vec![]);
    learner.publish_classifier(1, 0.1);
    learner.progress(0, 1000, false);
    let acting = Acting::start(&rig, &endpoint, &dir.path().join("run"));
    until("it waits for weights", || {
        acting.seen.heard("first snapshot")
    });
    until("the random steps", || learner.steps().len() == 8);
    assert!(
        learner
            .steps()
            .iter()
            .all(|s| { s.source == ActionSource::Random && s.policy_version == 0 })
    );
    learner.publish_policy(1, &[0.0; 10]);
    until("a step of the policy", || learner.steps().len() > 8);
    assert_eq!(learner.steps()[8].source, ActionSource::Policy);
    acting.stop.store(true, Ordering::Relaxed);
    acting.end().unwrap();
}

#[test]
fn stopped_in_the_middle_it_leaves_a_whole_log_and_a_summary() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let rig = rig(&["episode.max_steps=100000"]);
    let endpoint = endpoint();
    let learner = FakeLearner::open(&endpoint, &rig.spec(), vec![]);
    learner.publish_classifier(1, 0.1);
    learner.publish_policy(1, &[0.1; 10]);
    learner.progress(0, 1_000_000, false);
    let acting = Acting::start(&rig, &endpoint, &out);
    until("some steps", || learner.steps().len() > 20);
    acting.stop.store(true, Ordering::Relaxed);
    let summary = acting.end().unwrap();
    assert_eq!(summary.episodes, 0, "the episode did not end");
    assert_delivered(&out, &learner.entries());
    assert!(out.join("summary.json").is_file());
}

#[test]
fn a_learner_of_another_rig_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = endpoint();
    let theirs = rig(&["controlled_axes=[\"x\", \"y\"]"]).spec();
    let _learner = FakeLearner::open(&endpoint, &theirs, vec![]);
    let acting = Acting::start(&rig(&[]), &endpoint, &dir.path().join("run"));
    let error = acting.end().unwrap_err().to_string();
    let ours = rig(&[]).spec().hash().to_string();
    let theirs = theirs.hash().to_string();
    for part in [GraphName::Encoder.name(), &ours, &theirs, "the same rig"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_person_takes_over_and_hands_back_in_real_time() {
    const POLICY_HZ: f64 = 50.0;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let overrides = ["policy_hz=50", "episode.max_steps=100000"];
    let endpoint = endpoint();
    let learner = FakeLearner::open(&endpoint, &rig(&overrides).spec(), vec![]);
    learner.publish_classifier(1, 0.1);
    learner.publish_policy(1, &[0.0; 10]);
    learner.progress(0, 1_000_000, false);
    let mut args = vec!["actor".to_owned(), "--rig".to_owned()];
    args.push(rig_file("fake-dual.toml").display().to_string());
    for set in overrides {
        args.extend(["--set".to_owned(), set.to_owned()]);
    }
    for (key, value) in [
        ("--operator", "keyboard"),
        ("--session", "test"),
        ("--connect", &endpoint),
        ("--out", &out.display().to_string()),
    ] {
        args.extend([key.to_owned(), value.to_owned()]);
    }
    let began = Instant::now();
    let mut person = AtTerminal::hilt(&args);
    let last = || learner.steps().last().map(|step| step.source);
    until("the policy acts", || last() == Some(ActionSource::Policy));
    person.press("d");
    until("the person acts", || last() == Some(ActionSource::Human));
    let steps = learner.steps();
    assert!(steps.iter().any(|s| s.action[1] < -0.1), "to the right");
    person.press("h");
    until("the policy acts again", || {
        last() == Some(ActionSource::Policy)
    });
    // The arm is the policy's while nothing is pressed, and real time passes.
    let (from, begin) = (learner.steps().len(), Instant::now());
    until("a second's steps", || learner.steps().len() >= from + 50);
    let took_s = begin.elapsed().as_secs_f64();
    assert!(took_s > 0.8 * 50.0 / POLICY_HZ, "50 steps in {took_s} s");
    person.press(CTRL_C);
    let (status, screen) = person.end();
    assert!(status.success(), "{screen}");
    let steps = learner.steps().len() as f64;
    assert!(began.elapsed().as_secs_f64() > steps / POLICY_HZ);
    assert!(
        screen.contains("h hand back") && screen.contains("interventions"),
        "{screen}"
    );
    assert_delivered(&out, &learner.entries());
}
