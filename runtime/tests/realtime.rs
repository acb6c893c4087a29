//! Rigs in real time: the actor, its threads and the serial path, against a learner that is in the
//! test's own process. What is asserted is what happened, never how fast.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::Ordering,
};

use common::{
    acting::Acting,
    learner::{FakeLearner, endpoint},
    read_log, rig_file, until,
};
use hilt_drivers::{
    bus::feetech::Request,
    emulated::{PtyBus, desk_arm},
};
use hilt_protocol::ActionSource;
use hilt_realtime::{Clock, Monotonic, cores};
use hilt_runtime::{rig::Rig, status::Status, tick::Outcome, verify::verify};
use rustix::process::{Pid, Signal, kill_process};

/// Two arms on buses of the test's own, so that it can look at them and pull their plugs.
struct Arms {
    buses: Vec<PtyBus>,
    overrides: Vec<String>,
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
            "ages.loop_ms=5000".to_owned(),
            "ages.jump_ms=20000".to_owned(),
            "realtime.lock_memory=false".to_owned(),
        ];
        all.extend(overrides.iter().map(|&s| s.to_owned()));
        let rig = Rig::read(&rig_file("emulated-dual.toml"), &all).unwrap();
        Self {
            buses,
            overrides: all,
            rig,
        }
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

/// The frames that set goals which the bus has heard since `since_ns`.
fn goals(bus: &PtyBus, since_ns: u64) -> Vec<Vec<u8>> {
    let sets_goals = |request: &Request| matches!(request, Request::SyncWrite { .. });
    bus.handle().look(|bus| {
        bus.heard()
            .filter(|heard| heard.at_ns >= since_ns)
            .filter(|heard| heard.request().as_ref().is_some_and(sets_goals))
            .map(|heard| heard.bytes().to_vec())
            .collect()
    })
}

/// Of all threads of a process the control thread alone may use `core`. The one that waits for
/// Ctrl-C is older than the rig, and sleeps.
fn nobody_else_is_on(core: usize, process: u32) {
    let read =
        |path: &Path, file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
    let mut threads = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let path = task.unwrap().path();
        let status = read(&path, "status");
        let list = |line: &str| {
            line.strip_prefix("Cpus_allowed_list:")
                .map(|l| l.trim().to_owned())
        };
        if let Some(allowed) = status.lines().find_map(list)
            && cores::parse(&allowed).unwrap().contains(&core)
        {
            threads.push(read(&path, "comm").trim().to_owned());
        }
    }
    threads.retain(|name| name != "ctrl-c");
    assert_eq!(threads, ["control"]);
}

#[test]
fn a_killed_actor_leaves_arms_that_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let (out, endpoint) = (dir.path().join("run"), endpoint());
    let arms = Arms::new(dir.path(), &[]);
    let learner = learner(&endpoint, &arms.rig);
    let sets = arms.overrides.iter().flat_map(|set| ["--set", set]);
    let mut actor = Command::new(env!("CARGO_BIN_EXE_hilt"))
        .arg("actor")
        .arg("--rig")
        .arg(rig_file("emulated-dual.toml"))
        .args(sets)
        .args([
            "--operator",
            "none",
            "--session",
            "test",
            "--connect",
            &endpoint,
        ])
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("some steps", || learner.steps().len() > 5);
    let moving = |bus: &PtyBus| {
        let fast = |servo: hilt_drivers::emulated::ServoView| servo.counts_per_s.abs() > 20.0;
        bus.handle().look(|bus| bus.servos().any(fast))
    };
    if let Some(core) = cores::spare_here() {
        nobody_else_is_on(core, actor.id());
    }
    until("both arms move", || arms.buses.iter().all(moving));
    actor.kill().unwrap();
    let killed_ns = Monotonic.now_ns();
    actor.wait().unwrap();
    let heard: Vec<_> = arms.buses.iter().map(|bus| goals(bus, 0)).collect();
    // What the supervisor says to each bus is what the robot said last: again, and nothing else.
    for (bus, before) in arms.buses.iter().zip(&heard) {
        until("the arm is told to hold", || {
            goals(bus, killed_ns).len() > 3
        });
        let told = goals(bus, killed_ns);
        assert!(told.iter().all(|frame| frame == &told[0]), "{told:?}");
        assert!(before.contains(&told[0]), "a goal that nobody had given");
    }
    until("both arms stand", || !arms.buses.iter().any(moving));
    assert!(!arms.went_limp());
    // It says what happened and how to end it, and that is done here.
    let mut words = String::new();
    let mut lines = BufReader::new(actor.stderr.take().unwrap()).lines();
    let id = loop {
        let line = lines.next().unwrap().unwrap();
        words += &line;
        if let Some((_, id)) = line.split_once("kill ") {
            break id.trim().parse().unwrap();
        }
    };
    assert!(words.contains("the robot process is gone"), "{words}");
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    // What was done before is in the log.
    assert!(!read_log(&out).0.is_empty());
}

#[test]
fn faults_on_purpose_break_an_episode_off_and_not_the_run_and_every_tick_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (out, endpoint) = (dir.path().join("run"), endpoint());
    // Again and again: a busy machine may take long until its first episode.
    let frozen: String = (0..10)
        .map(|i| {
            format!(
                r#"{{ kind = "camera-frozen", from_s = {}, for_s = 1.5 }},"#,
                2 + 6 * i
            )
        })
        .collect();
    let faults = ["ages.frame_ms=400", &format!("faults.faults=[{frozen}]")];
    let arms = Arms::new(dir.path(), &faults);
    let learner = learner(&endpoint, &arms.rig);
    let acting = Acting::start(&arms.rig, &endpoint, &out);
    until("it breaks an episode off", || {
        acting.seen.heard("broken off")
    });
    let before = learner.steps().len();
    until("it goes on by itself", || {
        learner.steps().len() > before + 5
    });
    acting.stop.store(true, Ordering::Relaxed);
    let summary = acting.end().unwrap();
    assert!(summary.broken_episodes > 0, "{summary:?}");
    let status = Status::read(&out).unwrap();
    assert!(
        status.faults.contains_key("a camera gives no new frames"),
        "{status:?}"
    );
    assert!(!arms.went_limp());
    let verdict = verify(&out).unwrap();
    assert_eq!(verdict.status(), 0, "{verdict}");
}
