//! The learner's process dies, without a word, at every stage of a training. The actor goes on,
//! and what it stepped meanwhile reaches the learner's replay once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_learner::{config::LearnerConfig, encoder::Encoder, presets};
use hilt_tests::{Program, Stage, assert_delivered, one_at_a_time, until};
use tch::{Device, Kind};

/// Waits until the actor has taken `steps` more.
fn steps_more(stage: &Stage, actor: &mut Program, steps: u64) {
    let before = stage.log_bytes();
    until("the actor goes on", &mut [actor], || {
        stage.log_bytes() > before + Stage::bytes_of_steps(steps)
    });
}

/// Waits until the actor acts by a policy newer than `version` that has been trained; its version.
fn acts_by_a_newer_policy(stage: &Stage, programs: &mut [&mut Program], version: u64) -> u64 {
    until("the actor takes a newer policy", programs, || {
        let (now, updates) = stage.policy_of_actor();
        now > version && updates > 0
    });
    stage.policy_of_actor().0
}

/// Ends both in order; everything that the actor logged is with the learner.
fn end_and_compare(stage: &Stage, mut learner: Program, mut actor: Program) {
    actor.interrupt();
    actor.ends_well();
    let summary = std::fs::read(stage.path("actor").join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary["entries"], summary["acknowledged"]);
    learner.interrupt();
    learner.ends_well();
    let (demos, run) = (stage.path("demos"), stage.path("actor"));
    assert_delivered(&stage.path("learner"), &demos, &[&run]);
    let summary = std::fs::read(stage.path("learner").join("summary.json")).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    let entries = hilt_tests::entries_of(&run).len();
    assert_eq!(told["entries"], entries, "the learner counts them right");
}

#[test]
fn the_actor_goes_on_and_nothing_is_lost_or_doubled() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut learner = stage.start_learner(&[]);
    let mut actor = stage.start_actor();
    let mut version = acts_by_a_newer_policy(&stage, &mut [&mut learner, &mut actor], 0);
    for _ in 0..2 {
        learner.kill();
        steps_more(&stage, &mut actor, 150);
        learner = stage.start_learner(&["--resume"]);
        // Snapshots of the one that is back count as newer, though its memory ends a while before
        // the one that was killed.
        version = acts_by_a_newer_policy(&stage, &mut [&mut learner, &mut actor], version);
    }
    end_and_compare(&stage, learner, actor);
}

#[test]
fn one_that_goes_on_keeps_its_encoder_and_says_so() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut learner = stage.start_learner(&[]);
    learner.says("reward classifier: ");
    learner.kill();
    let config = LearnerConfig::resolve(presets::DEFAULT, None, &[]).unwrap();
    let other = stage.path("other.safetensors");
    tch::set_num_threads(1);
    let encoder = Encoder::new(config.encoder, Kind::Float, Device::Cpu, 99);
    encoder.save(&other).unwrap();
    let other = other.to_str().unwrap();
    let said = stage
        .start_learner(&["--resume", "--encoder-weights", other])
        .ends_with(1);
    for word in ["--encoder-weights", other, "another encoder", "leave"] {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    let own = stage.path("learner/encoder.safetensors");
    let own = ["--resume", "--encoder-weights", own.to_str().unwrap()];
    stage.start_learner(&own).says("replay: ");
}

#[test]
fn a_learner_that_dies_before_it_has_anything_is_started_again() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut actor = stage.start_actor();
    actor.says("waiting for the learner's encoder graph");
    let mut learner = stage.start_learner(&["--set", "imitation.steps=1000000"]);
    learner.says("imitation: ");
    learner.kill();
    // Killed once more as soon as the first steps are on their way, acknowledged or not.
    let mut learner = stage.start_learner(&["--resume"]);
    until("the first steps", &mut [&mut learner, &mut actor], || {
        stage.log_bytes() > Stage::bytes_of_steps(2)
    });
    learner.kill();
    steps_more(&stage, &mut actor, 20);
    let mut learner = stage.start_learner(&["--resume"]);
    acts_by_a_newer_policy(&stage, &mut [&mut learner, &mut actor], 0);
    end_and_compare(&stage, learner, actor);
}
