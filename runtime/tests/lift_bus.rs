//! The lift scene's SO-101 behind its emulated bus, in real time. What is asserted is what happened, never
//! how fast.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::atomic::Ordering;

use common::{
    acting::Acting,
    learner::{FakeLearner, endpoint},
    rig_file, until,
};
use hilt_drivers::EpisodeStart;
use hilt_runtime::{cell::Cell, operator::Operator, rig::Rig, verify::verify};

/// A simulated SO-101 behind its bus, on a machine that others use as well.
fn so101() -> Rig {
    patient("so101-emulated.toml", &[])
}

fn patient(name: &str, more: &[&str]) -> Rig {
    let overrides = [
        "ages.state_ms=2000",
        "ages.frame_ms=5000",
        "ages.policy_ms=5000",
        "ages.loop_ms=5000",
        "ages.jump_ms=20000",
        "ages.astray_ms=5000",
        "realtime.lock_memory=false",
        "operator.speed=1.0",
        "episode.max_steps=40",
    ];
    let overrides = overrides.iter().chain(more).map(|&s| s.to_owned());
    Rig::read(&rig_file(name), &overrides.collect::<Vec<_>>()).unwrap()
}

/// Servos of either family, struck on their wire.
#[test]
fn a_servo_that_falls_silent_is_named_and_with_it_back_the_arm_goes_on() {
    for name in ["so101-emulated.toml", "koch-emulated.toml"] {
        let fault = "faults.faults=[{kind=\"servo-silent\", from_s=6.0, for_s=6.0, servo=3}]";
        let rig = patient(name, &["faults.seed=1", fault]);
        let mut cell = Cell::open(&rig).unwrap();
        let start = EpisodeStart {
            range_m: 0.1,
            seed: 1,
        };
        cell.reset(start).unwrap();
        let still = vec![0.0; rig.spec().action_dim()];
        let mut error = None;
        until("the fault is told", || {
            error = cell.step(&still).err();
            error.is_some()
        });
        let words = error.unwrap().to_string();
        assert!(words.contains("servo 3"), "{name}: {words}");
        until("the servo is back", || cell.reset(start).is_ok());
        assert!(cell.step(&still).unwrap().followed);
    }
}

#[test]
fn the_first_pictures_of_an_episode_show_the_cube_in_its_place() {
    let mut cell = Cell::open(&so101()).unwrap();
    for seed in 0..3 {
        let range_m = 0.1;
        let seen = cell.reset(EpisodeStart { range_m, seed }).unwrap();
        let red = |p: &&[u8]| p[0] > 90 && u16::from(p[0]) > 3 * u16::from(p[1].max(p[2]));
        let front = &seen.images[0];
        assert!(
            front.rgb.chunks_exact(3).filter(red).count() >= 12,
            "{seed}"
        );
        let truth = cell.truth().unwrap();
        assert!(truth.cube_height_m.abs() < 2e-3, "{truth:?}");
    }
}

/// The episodes begin where the cube is put, and end by the truth.
#[test]
fn an_arm_that_physics_drives_runs_episodes_over_its_bus_and_every_tick_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (out, endpoint) = (dir.path().join("run"), endpoint());
    let rig = so101();
    let learner = FakeLearner::open(&endpoint, &rig.spec(), vec![]);
    learner.publish_classifier(1, 0.1);
    // Up and aside: the operator has to take over.
    learner.publish_policy(1, &[0.0, 0.5, 0.5, 1.0]);
    learner.progress(0, 1_000_000, false);
    let acting = Acting::start_with(&rig, &endpoint, &out, Some(Operator::Scripted));
    let rows = || std::fs::read_to_string(out.join("episodes.jsonl")).unwrap_or_default();
    until("two episodes", || rows().lines().count() > 1);
    acting.stop.store(true, Ordering::Relaxed);
    let summary = acting.end().unwrap();
    assert!(summary.timing.ticks > 100, "{:?}", summary.timing);
    let lifted = rows()
        .lines()
        .filter(|row| row.contains("\"success\":true"))
        .count();
    assert!(lifted > 0, "{}", rows());
    let verdict = verify(&out).unwrap();
    assert_eq!(verdict.status(), 0, "{verdict}");
}

/// Servos whose counts at zero were never measured: nobody may move such an arm.
#[test]
fn an_arm_that_reads_outside_its_limits_is_refused_and_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let bus = hilt_drivers::emulated::desk_arm::bus();
    let pty = hilt_drivers::emulated::PtyBus::start(bus, &folder.path().join("bus")).unwrap();
    let other = hilt_drivers::emulated::desk_arm::bus();
    let other = hilt_drivers::emulated::PtyBus::start(other, &folder.path().join("other")).unwrap();
    pty.handle().look(|bus| bus.put(2, 60.0));
    let ports = format!("ports={:?}", [pty.path(), other.path()]);
    let rig = patient("emulated-dual.toml", &[&ports]);
    let error = Cell::open(&rig).err().unwrap().to_string();
    assert!(error.contains("joint 1 of arm 0 reads"), "{error}");
    let findings = hilt_runtime::doctor::hardware(&rig).unwrap();
    assert!(
        findings[0].says.contains("was not moved: joint 1"),
        "{findings:?}"
    );
    let stood = pty.handle().look(|bus| bus.servo(2).unwrap().counts);
    assert!((stood - 60.0).abs() < 1.0, "{stood}");
}
