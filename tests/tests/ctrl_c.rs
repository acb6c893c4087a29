//! Ctrl-C at any moment: the program ends in order, its logs can be read to their end, and a
//! training can be gone on with.
//!
//! Exit status: 0 for an actor and for a training that had begun (what they leave is whole), 130
//! for what was cut short.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::Path, process::Command, time::Duration};

use hilt_protocol::Record;
use hilt_recording::{RunReader, recover};
use hilt_tests::{
    Program, Stage, assert_delivered, entries_of, hilt, learner, lift_rig, one_at_a_time,
    online_entries, until,
};

fn number(file: &Path, key: &str) -> u64 {
    let text = std::fs::read(file).unwrap();
    let values: serde_json::Value = serde_json::from_slice(&text).unwrap();
    values[key].as_u64().unwrap()
}

fn record(stage: &Stage) -> Command {
    let mut command = hilt();
    command
        .args(["record", "--episodes", "500", "--rig"])
        .arg(lift_rig())
        .arg("--out")
        .arg(stage.path("recorded"));
    command
}

#[test]
fn a_recording_keeps_whole_demonstrations() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut program = Program::start("hilt record", &mut record(&stage));
    let log = stage.path("recorded").join("run.mcap");
    // In the middle of the third or so.
    until("two demonstrations", &mut [&mut program], || {
        std::fs::metadata(&log).is_ok_and(|log| log.len() > Stage::bytes_of_steps(60))
    });
    program.interrupt();
    let said = program.ends_with(130);
    assert!(said.contains("before the recording was complete"), "{said}");
    let entries = entries_of(&stage.path("recorded"));
    let last = entries.last().unwrap();
    assert!(matches!(&last.record, Record::Step(step) if step.terminated));
    assert!(!entries_of(&stage.path("recorded-labels")).is_empty());
    let kept = number(&stage.path("recorded").join("summary.json"), "episodes");
    assert_eq!(kept, last.episode + 1);
}

#[test]
fn an_actor_that_waits_for_its_learner_ends() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut actor = stage.start_actor();
    actor.says("waiting for the learner's encoder graph");
    actor.interrupt();
    let said = actor.ends_with(130);
    assert!(said.contains("stopped while waiting"), "{said}");
    assert_eq!(entries_of(&stage.path("actor")).len(), 0);
}

#[test]
fn imitation_that_is_cut_short_leaves_nothing_that_looks_whole() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut command = learner();
    command
        .args(["imitation", "--steps", "1000000", "--demos"])
        .arg(stage.path("demos"))
        .arg("--out")
        .arg(stage.path("imitation"))
        .args(["--set", "imitation.batch=8"]);
    let mut program = Program::start("hilt-learner imitation", &mut command);
    program.says("imitation: ");
    program.interrupt();
    let said = program.ends_with(130);
    assert!(said.contains("stopped before imitation was over"), "{said}");
    assert!(!stage.path("imitation").join("export").exists());
}

/// Interrupts a training in preparation: half-trained networks are not kept, and going on makes
/// them anew.
fn stopped_in_preparation(endless: &str, missing: &str) {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut program = stage.start_learner(&["--set", endless]);
    program.says("imitation: ");
    // By then what is not endless is over.
    std::thread::sleep(Duration::from_secs(1));
    program.interrupt();
    let said = program.ends_with(130);
    assert!(said.contains("the same command starts it again"), "{said}");
    assert!(!stage.path("learner").join(missing).exists());

    let mut learner = stage.start_learner(&["--resume"]);
    let mut actor = stage.start_actor();
    until("steps", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().1 > 0
    });
    actor.interrupt();
    actor.ends_well();
    learner.interrupt();
    let said = learner.ends_well();
    assert!(said.contains("imitation: "), "trained after all: {said}");
}

#[test]
fn a_training_is_stopped_in_imitation() {
    stopped_in_preparation("imitation.steps=1000000", "encoder.safetensors");
}

#[test]
fn a_training_is_stopped_while_its_classifier_trains() {
    stopped_in_preparation("reward.steps=1000000", "classifier.safetensors");
}

#[test]
fn a_training_is_gone_on_with_where_it_was_stopped() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let (out, demos, run) = (
        stage.path("learner"),
        stage.path("demos"),
        stage.path("actor"),
    );
    // While it waits for steps.
    let mut learner = stage.start_learner(&[]);
    learner.says("replay: ");
    until("the checkpointed loop", &mut [&mut learner], || {
        out.join("state.json").exists()
    });
    learner.interrupt();
    learner.ends_well();
    assert_eq!(number(&out.join("summary.json"), "updates"), 0);

    // While it updates, the actor going on.
    let mut learner = stage.start_learner(&["--resume"]);
    let mut actor = stage.start_actor();
    until("updates", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().1 > 5
    });
    learner.interrupt();
    let said = learner.ends_well();
    assert!(said.contains("resumed at 0 updates"), "{said}");
    let updates = number(&out.join("summary.json"), "updates");
    assert!(updates > 5);
    // The learner has said that training is over.
    actor.ends_well();

    // Nothing is lost or doubled, and it counts on.
    let before = online_entries(&out, &demos);
    let mut learner = stage.start_learner(&["--resume"]);
    learner.says(&format!("resumed at {updates} updates"));
    let metrics = out.join("metrics.jsonl");
    let lines = || std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let had = lines();
    until("more updates", &mut [&mut learner], || lines() > had);
    learner.interrupt();
    learner.ends_well();
    assert!(number(&out.join("summary.json"), "updates") > updates);
    assert_eq!(online_entries(&out, &demos), before);
    assert_eq!(number(&out.join("summary.json"), "entries"), before);
    assert_delivered(&out, &demos, &[&run]);
}

#[test]
fn an_evaluation_ends_with_the_episodes_that_it_has() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut command = learner();
    command
        .args(["imitation", "--steps", "5", "--demos"])
        .arg(stage.path("demos"))
        .arg("--out")
        .arg(stage.path("imitation"))
        .args(["--set", "imitation.batch=8"]);
    Program::start("hilt-learner imitation", &mut command).ends_well();
    let out = stage.path("evaluation");
    let mut command = hilt();
    command
        .args([
            "evaluate",
            "--episodes",
            "100000",
            "--workers",
            "1",
            "--rig",
        ])
        .arg(lift_rig())
        .args(["--set", "episode.max_steps=5", "--policy"])
        .arg(stage.path("imitation").join("export"))
        .arg("--out")
        .arg(&out);
    let mut program = Program::start("hilt evaluate", &mut command);
    until("the folder", &mut [&mut program], || out.is_dir());
    program.interrupt();
    let said = program.ends_with(130);
    assert!(said.contains("stopped before all"), "{said}");
    let rows = std::fs::read_to_string(out.join("episodes.jsonl")).unwrap();
    let episodes = number(&out.join("summary.json"), "episodes");
    assert_eq!(rows.lines().count() as u64, episodes);
    assert!(episodes < 100_000);
}

#[test]
fn an_actor_killed_while_it_writes_leaves_a_log_to_recover() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut learner = stage.start_learner(&[]);
    let mut actor = stage.start_actor();
    until("updates", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().1 > 0
    });
    actor.kill();
    let run = stage.path("actor");
    // What the learner has acknowledged it still has when it is back, and the log has all of it.
    learner.interrupt();
    learner.ends_well();
    let (out, demos) = (stage.path("learner"), stage.path("demos"));
    let has = online_entries(&out, &demos);
    let mut learner = stage.start_learner(&["--resume"]);
    learner.says("resumed at ");
    learner.interrupt();
    learner.ends_well();
    assert_eq!(online_entries(&out, &demos), has);
    let mut reader = RunReader::open(&run).unwrap();
    let logged = reader.by_ref().map(Result::unwrap).count() as u64;
    assert!(reader.cut().is_some(), "it was killed");
    assert!(has > 0 && has <= logged, "{has} of {logged}");
    let report = recover(&run).unwrap();
    assert_eq!(report.entries, logged);
    assert_eq!(entries_of(&run).len() as u64, logged);
}
