//! Another algorithm than the demo's, from recordings to a robot that acts: trained offline, gone on with online, its
//! policy taken over by the actor; and what diverges ends the learner, not the robot.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use hilt_tests::{Program, Stage, assert_delivered, hilt, learner, lift_rig, one_at_a_time, until};

/// Networks that are made for this test.
const NARROW: [&str; 9] = [
    "front.bottleneck=16",
    "front.spatial_features=2",
    "rlpd.hidden=[16]",
    "rlpd.critics=3",
    "rlpd.update_to_data=2",
    "cal_ql.cql.critic_hidden=[16]",
    "cal_ql.cql.actor_hidden=[16]",
    "cal_ql.cql.sampled_actions=2",
    "sac.hidden=[16]",
];

/// The settings for an algorithm.
fn arguments(algorithm: &str) -> Vec<String> {
    let sets = NARROW.iter().map(|set| (*set).to_owned());
    let named = sets.chain([format!("algorithm={algorithm}")]);
    named.flat_map(|set| ["--set".to_owned(), set]).collect()
}

fn start(stage: &Stage, algorithm: &str, more: &[&str]) -> Program {
    let arguments = arguments(algorithm);
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    stage.start_learner(&arguments)
}

/// Waits until the actor acts by a trained policy.
fn acts_by_a_trained_policy(stage: &Stage, learner: &mut Program, actor: &mut Program) {
    until(
        "the actor takes a trained policy",
        &mut [learner, actor],
        || stage.policy_of_actor().1 > 0,
    );
}

/// The exported folder is one that the robot's program acts from.
fn evaluates(stage: &Stage, policy: &Path, out: &str) {
    let mut command = hilt();
    command
        .args([
            "evaluate",
            "--episodes",
            "1",
            "--set",
            "episode.max_steps=5",
            "--rig",
        ])
        .arg(lift_rig())
        .arg("--policy")
        .arg(policy)
        .arg("--out")
        .arg(stage.path(out));
    Program::start("hilt evaluate", &mut command).ends_well();
}

#[test]
fn rlpd_learns_from_the_robots_stream() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut learner = start(&stage, "rlpd", &[]);
    let mut actor = stage.start_actor();
    acts_by_a_trained_policy(&stage, &mut learner, &mut actor);
    // Killed, it goes on; the robot takes its policies again.
    learner.kill();
    let mut learner = start(&stage, "rlpd", &["--resume"]);
    let before = stage.policy_of_actor().0;
    until("a newer policy", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().0 > before
    });
    actor.interrupt();
    actor.ends_well();
    learner.interrupt();
    learner.ends_well();
    let (demos, run) = (stage.path("demos"), stage.path("actor"));
    assert_delivered(&stage.path("learner"), &demos, &[&run]);
    evaluates(&stage, &stage.path("learner").join("export"), "evaluated");
}

#[test]
fn cal_ql_goes_on_online_from_its_training_on_runs() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let trained = stage.path("trained");
    let mut offline = learner();
    offline
        .args(["offline", "--data"])
        .arg(stage.path("demos"))
        .arg("--out")
        .arg(&trained)
        .args(arguments("cal-ql"));
    for set in [
        "offline.updates=6",
        "offline.batch=8",
        "offline.eval_freq=3",
        "offline.epoch_updates=3",
        "offline.held_out=0.25",
        "imitation.steps=5",
        "imitation.batch=8",
        "train.threads=1",
    ] {
        offline.args(["--set", set]);
    }
    Program::start("hilt-learner offline", &mut offline).ends_well();
    let export = trained.join("export");
    evaluates(&stage, &export, "evaluated-offline");
    let from = export.display().to_string();
    // Another algorithm does not go on from it.
    let other = start(&stage, "rlpd", &["--from", &from]).ends_with(1);
    assert!(other.contains("algorithm = cal-ql, and rlpd"), "{other}");
    let mut learner = start(&stage, "cal-ql", &["--from", &from]);
    let mut actor = stage.start_actor();
    learner.says("going on from");
    acts_by_a_trained_policy(&stage, &mut learner, &mut actor);
    actor.interrupt();
    actor.ends_well();
    learner.interrupt();
    let said = learner.ends_well();
    assert!(
        !said.contains("imitation:"),
        "the encoder was there already: {said}"
    );
    let encoder = |dir: &Path| std::fs::read(dir.join("encoder.safetensors")).unwrap();
    assert!(encoder(&export) == encoder(&stage.path("learner")));
}

#[test]
fn what_diverges_ends_the_learner_with_its_name_and_the_robot_waits_for_a_better_one() {
    let _turn = one_at_a_time();
    for (algorithm, key) in [("sac", "sac.lr"), ("sac-grasp", "sac_grasp.lr")] {
        let stage = Stage::new();
        let mut learner = start(&stage, algorithm, &["--set", &format!("{key}=1e30")]);
        let mut actor = stage.start_actor();
        until("the learner ends", &mut [&mut actor], || !learner.runs());
        let said = learner.ends_with(1);
        let words = ["the training diverged", "at update"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!stage.path("learner").join("export").exists());
        // What it wrote is good: with another step size it goes on.
        let before = stage.policy_of_actor().0;
        let smaller = format!("{key}=3e-4");
        let mut learner = start(&stage, algorithm, &["--resume", "--set", &smaller]);
        until("a newer policy", &mut [&mut learner, &mut actor], || {
            let (version, updates) = stage.policy_of_actor();
            version > before && updates > 0
        });
        actor.interrupt();
        actor.ends_well();
        learner.interrupt();
        learner.ends_well();
    }
}
