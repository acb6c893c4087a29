//! Rigs in real time: the actor, its threads and the serial path, against a learner that is in the
//! test's own process. What is asserted is what happened, never how fast.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{path::Path, sync::atomic::Ordering};

use common::{
    acting::Acting,
    learner::{FakeLearner, endpoint},
    read_log, rig_file, until,
};
use hilt_drivers::emulated::{PtyBus, desk_arm};
use hilt_protocol::ActionSource;
use hilt_runtime::{rig::Rig, status::Status, tick::Outcome};

/// Two arms on buses of the test's own, so that it can look at them and pull their plugs.
struct Arms {
    buses: Vec<PtyBus>,
    rig: Rig,
}

impl Arms {
    fn new(dir: &Path, overrides: &[&str]) -> Self {
        let buses: Vec<_> = (0..2)
            .map(|i| PtyBus::start(desk_arm::bus(), &dir.join(format!("bus{i}"))).unwrap())
            .collect();
        let ports: Vec<_> = buses.iter().map(|bus| bus.path()).collect();
        let mut all = vec![
            format!("ports={ports:?}"),
            // A machine that others use as well stands still for longer than a robot's should.
            "ages.state_ms=2000".to_owned(),
            "ages.frame_ms=2000".to_owned(),
            "ages.policy_ms=5000".to_owned(),
            "ages.jump_ms=20000".to_owned(),
            "realtime.lock_memory=false".to_owned(),
        ];
        all.extend(overrides.iter().map(|&s| s.to_owned()));
        let rig = Rig::read(&rig_file("emulated-dual.toml"), &all).unwrap();
        Self { buses, rig }
    }

    fn went_limp(&self) -> bool {
        let limp = |bus: &PtyBus| bus.handle().look(|bus| bus.went_limp());
        self.buses.iter().any(limp)
    }
}

fn learner(endpoint: &str, rig: &Rig) -> FakeLearner {
    let learner = FakeLearner::open(endpoint, &rig.spec(), vec![]);
    learner.publish_classifier(1, 0.1);
    learner.publish_policy(1, &[0.3; 10]);
    learner.progress(0, 1_000_000, false);
    learner
}

#[test]
fn two_arms_of_bus_servos_run_episodes_and_every_tick_is_in_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let (out, endpoint) = (dir.path().join("run"), endpoint());
    let arms = Arms::new(
        dir.path(),
        &["episode.max_steps=8", "episode.random_steps=12"],
    );
    let learner = learner(&endpoint, &arms.rig);
    let acting = Acting::start(&arms.rig, &endpoint, &out);
    until("some episodes", || learner.steps().len() > 30);
    let moving = Status::read(&out).unwrap();
    assert!(!moving.ended && moving.timing.ticks > 0, "{moving:?}");
    acting.stop.store(true, Ordering::Relaxed);
    let summary = acting.end().unwrap();
    let steps = learner.steps();
    assert!(steps[..12].iter().all(|s| s.source == ActionSource::Random));
    assert_eq!(steps[12].source, ActionSource::Policy);
    // The arms were really there where they were sent.
    let moved = |step: &hilt_protocol::Step| step.action[..4].iter().any(|v| v.abs() > 0.01);
    assert!(steps.iter().any(moved));
    let timing = &summary.timing;
    let sum: u64 = timing.outcomes.iter().map(|o| o.ticks.unwrap()).sum();
    assert_eq!(sum, timing.ticks);
    assert!(
        timing.ticks > 200 && summary.missed_ticks.is_u64(),
        "{timing:?}"
    );
    for stage in timing.stages.as_ref().unwrap() {
        assert!(stage.count > 0, "{:?} was never measured", stage.stage);
    }
    let on_time = timing
        .outcomes
        .iter()
        .find(|o| o.outcome == Outcome::OnTime);
    assert!(on_time.unwrap().ticks.unwrap() > 0);
    let status = Status::read(&out).unwrap();
    assert!(status.ended && status.fault.is_none(), "{status:?}");
    assert_eq!(status.env_steps, summary.env_steps);
    assert!(!arms.went_limp());
    assert!(read_log(&out).1);
}

#[test]
fn a_pulled_plug_stops_both_arms_ends_the_run_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (out, endpoint) = (dir.path().join("run"), endpoint());
    let mut arms = Arms::new(dir.path(), &[]);
    let learner = learner(&endpoint, &arms.rig);
    let acting = Acting::start(&arms.rig, &endpoint, &out);
    until("some steps", || learner.steps().len() > 3);
    arms.buses[1].unplug();
    let error = acting.end().unwrap_err().to_string();
    assert!(
        error.contains("arm 1") && error.contains("bus is gone") && error.contains("held"),
        "{error}"
    );
    // The other arm was told to hold, both kept their torque, and the log is whole.
    let first = arms.buses[0].handle();
    let still = |servo: hilt_drivers::emulated::ServoView| servo.torque;
    assert!(first.look(|bus| bus.servos().all(still)));
    assert!(!arms.went_limp());
    assert!(read_log(&out).1);
}
