//! A training that keeps images, and one that keeps shifted copies of maps, through the real
//! programs: everything is delivered, a resumed one goes on, and one that is resumed with another
//! choice is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_tests::{Stage, assert_delivered, entries_of, one_at_a_time, until};

/// Trains with `setting`, stops, goes on; in between, going on with `other` is refused with `remedy`.
fn trains_and_goes_on(setting: &str, other: &[&str], remedy: &str) {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut learner = stage.start_learner(&["--set", setting]);
    let mut actor = stage.start_actor();
    until("updates", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().1 > 5
    });
    learner.interrupt();
    learner.ends_well();
    actor.ends_well();

    let refused = stage.start_learner(&[&["--resume"], other].concat());
    let said = refused.ends_with(1);
    assert!(said.contains(remedy), "{said}");

    let mut learner = stage.start_learner(&["--resume", "--set", setting]);
    learner.says("resumed at ");
    learner.interrupt();
    learner.ends_well();
    let (out, demos, run) = (
        stage.path("learner"),
        stage.path("demos"),
        stage.path("actor"),
    );
    assert_delivered(&out, &demos, &[&run]);
    let summary = std::fs::read(out.join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary["entries"], entries_of(&run).len());
    assert!(summary["updates"].as_u64().unwrap() > 5);
}

#[test]
fn images_are_shifted_and_encoded_in_every_update() {
    trains_and_goes_on(
        "train.store=images",
        &["--set", "train.store=maps"],
        "go on with train.store = images",
    );
}

#[test]
fn shifted_copies_of_maps_are_kept() {
    trains_and_goes_on(
        "train.shifted_copies=3",
        &["--set", "train.shifted_copies=2"],
        "go on with train.shifted_copies = 3",
    );
}
