//! A Franka behind a server of HIL-SERL's kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod server;

use std::time::Duration;

use hilt_drivers::{
    Arm, ArmError, ArmState, conformance,
    franka::{FrankaConfig, JOINTS, Model, OpenError, open},
    remote::RemoteArm,
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic};
use nalgebra::{Isometry3, Translation3};
use server::{Mood, Server, hand};

const PERIOD_NS: u64 = 5_000_000;

fn pass(duration_ns: u64) -> u64 {
    Monotonic.sleep_until_ns(Monotonic.now_ns() + duration_ns);
    Monotonic.now_ns()
}

/// Waits until something is so.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        pass(2_000_000);
    }
}

fn config(url: String) -> FrankaConfig {
    FrankaConfig {
        url,
        model: Model::Panda,
        gripper_unit_m: 1.0,
    }
}

fn arm(server: &Server) -> RemoteArm {
    open(&config(server.url()), PERIOD_NS).unwrap()
}

/// One that is started, and knows it.
fn started(server: &Server) -> RemoteArm {
    let mut arm = arm(server);
    arm.start().unwrap();
    until(|| (server.times("/clearerr") > 0).then_some(()));
    arm
}

fn read(arm: &mut RemoteArm) -> Result<ArmState, ArmError> {
    let now_ns = Monotonic.now_ns();
    arm.read_state(now_ns, now_ns)
}

#[test]
fn it_conforms() {
    let server = Server::start(&hand());
    let mut arm = arm(&server);
    conformance::arm_by_pose(&mut arm, pass).unwrap();
    assert_eq!(arm.chain().dof(), JOINTS);
    let asked = server.asked();
    let first = |route: &str| asked.iter().position(|asked| asked == route).unwrap();
    assert!(first("/clearerr") < first("/pose"), "{asked:?}");
    let known = ["/getstate", "/pose", "/clearerr", "/open_gripper"];
    assert!(
        asked.iter().all(|route| known.contains(&&**route)),
        "{asked:?}"
    );
}

#[test]
fn the_tool_is_the_one_that_the_robot_reports() {
    let tool = Isometry3::translation(0.01, -0.02, 0.3) * hand();
    let server = Server::start(&tool);
    let mut arm = arm(&server);
    let state = read(&mut arm).unwrap();
    let pose = arm.chain().base_from_tool(state.joints.as_slice());
    assert!((pose.inverse() * server.tool()).translation.vector.norm() < 1e-9);
    // And so it stays elsewhere.
    let mut joints = state.joints;
    for q in joints.as_mut_slice() {
        *q += 0.2;
    }
    arm.start().unwrap();
    arm.write(&joints, GripperCommand::Open).unwrap();
    let goal = arm.chain().base_from_tool(joints.as_slice());
    until(|| {
        let apart = goal.inverse() * server.tool();
        (apart.translation.vector.norm() < 1e-3 && apart.rotation.angle() < 1e-2).then_some(())
    });
}

/// Also when it takes its time, during which the arm moves on.
#[test]
fn the_gripper_is_told_when_its_command_changes_and_nobody_waits_for_it() {
    let server = Server::start(&hand());
    let mut arm = started(&server);
    let home = read(&mut arm).unwrap().joints;
    let mut joints = home;
    let mut write = |arm: &mut RemoteArm, gripper| {
        joints.as_mut_slice()[0] += 1e-4;
        arm.write(&joints, gripper).unwrap();
    };
    write(&mut arm, GripperCommand::Open);
    until(|| (server.times("/open_gripper") == 1).then_some(()));
    server.set(Mood::SlowGripper(Duration::from_millis(600)));
    server.asked();
    write(&mut arm, GripperCommand::Closed);
    // Meanwhile many poses are sent: the gripper's answer comes last.
    while server.times("/close_gripper") == 0 {
        write(&mut arm, GripperCommand::Closed);
        pass(PERIOD_NS);
    }
    assert!(server.times("/pose") >= 3);
    until(|| (read(&mut arm).unwrap().gripper_width_m == 0.0).then_some(()));
    for _ in 0..20 {
        write(&mut arm, GripperCommand::Closed);
        pass(PERIOD_NS);
    }
    assert_eq!(server.times("/close_gripper"), 1);
    assert_eq!(server.times("/open_gripper"), 0);
}

/// Whatever is wrong with the answers: what is read is the last good state with its own time, with
/// a word that something is wrong; soon it is an error; and it is well again when the server is.
#[test]
fn bad_answers_are_no_states() {
    let server = Server::start(&hand());
    let mut arm = started(&server);
    let mut warned = false;
    for mood in [
        Mood::Failing,
        Mood::Garbled,
        Mood::NotFinite,
        Mood::Cut,
        Mood::Slow(Duration::from_millis(400)),
    ] {
        let well = until(|| read(&mut arm).ok().filter(|state| state.trouble.is_none()));
        assert!(well.joints.as_slice().iter().all(|q| q.is_finite()));
        server.set(mood);
        let mut last_ns = None;
        until(|| match read(&mut arm) {
            Ok(state) if state.trouble.is_none() => None,
            Ok(state) => {
                assert_eq!(state.trouble, Some(ArmError::Device));
                let last_ns = *last_ns.get_or_insert(state.captured_ns);
                assert_eq!(state.captured_ns, last_ns, "{mood:?}");
                warned = true;
                None
            }
            Err(error) => {
                assert_eq!(error, ArmError::Device);
                Some(())
            }
        });
        server.set(Mood::Well);
    }
    assert!(warned);
    until(|| read(&mut arm).ok().filter(|state| state.trouble.is_none()));
}

#[test]
fn a_start_that_fails_is_tried_again_before_the_arm_is_sent_anywhere() {
    let server = Server::start(&hand());
    let mut arm = arm(&server);
    let home = read(&mut arm).unwrap().joints;
    server.set(Mood::Failing);
    arm.start().unwrap();
    arm.write(&home, GripperCommand::Open).unwrap();
    until(|| (server.times("/clearerr") >= 3).then_some(()));
    assert_eq!(server.times("/pose"), 0);
    server.set(Mood::Well);
    until(|| (server.times("/pose") > 0).then_some(()));
}

#[test]
fn a_server_that_ends_is_a_fault() {
    let server = Server::start(&hand());
    let mut arm = started(&server);
    drop(server);
    let error = until(|| read(&mut arm).err());
    assert_eq!(error, ArmError::Device);
    // Commands are accepted as ever: what they lead to, the state says.
    let joints = arm.chain().zeros();
    assert!(
        arm.write(&joints, GripperCommand::Open).is_err(),
        "out of limits"
    );
    arm.stop().unwrap();
}

/// A server whose robot is gone answers with the last state for ever. At rest that may be right.
#[test]
fn a_state_that_stands_still_while_the_tool_is_sent_on_is_none() {
    let server = Server::start(&hand());
    let mut arm = started(&server);
    let home = read(&mut arm).unwrap().joints;
    arm.write(&home, GripperCommand::Open).unwrap();
    until(|| (server.times("/pose") > 0).then_some(()));
    server.set(Mood::Deaf);
    let asked = server.times("/getstate");
    until(|| (server.times("/getstate") > asked + 20).then_some(()));
    // It was sent nowhere else.
    until(|| read(&mut arm).ok().filter(|state| state.trouble.is_none()));
    let mut goal = home;
    goal.as_mut_slice()[0] += 0.1;
    arm.write(&goal, GripperCommand::Open).unwrap();
    let error = until(|| read(&mut arm).err());
    assert_eq!(error, ArmError::Device);
}

/// What is read is stamped with a time at which it cannot yet have been otherwise.
#[test]
fn a_slow_answer_is_as_old_as_its_question() {
    let server = Server::start(&hand());
    let mut arm = arm(&server);
    server.set(Mood::Slow(Duration::from_millis(60)));
    let mut last_ns = Monotonic.now_ns();
    for _ in 0..3 {
        let state = until(|| {
            read(&mut arm)
                .ok()
                .filter(|state| state.captured_ns > last_ns)
        });
        last_ns = state.captured_ns;
        let age_ns = Monotonic.now_ns() - state.captured_ns;
        assert!(age_ns >= 60_000_000, "{age_ns}");
    }
}

#[test]
fn a_pose_that_was_not_taken_is_sent_again_and_none_after_a_stop() {
    let server = Server::start(&hand());
    let mut arm = started(&server);
    let mut goal = read(&mut arm).unwrap().joints;
    let at = |server: &Server, joints: &hilt_protocol::JointVector, arm: &RemoteArm| {
        let goal = arm.chain().base_from_tool(joints.as_slice());
        (goal.inverse() * server.tool()).translation.vector.norm() < 1e-3
    };
    goal.as_mut_slice()[0] += 0.05;
    server.set(Mood::Failing);
    server.asked();
    arm.write(&goal, GripperCommand::Open).unwrap();
    until(|| (server.times("/pose") > 0).then_some(()));
    server.set(Mood::Well);
    until(|| at(&server, &goal, &arm).then_some(()));

    let held = goal;
    goal.as_mut_slice()[0] += 0.05;
    server.set(Mood::Failing);
    server.asked();
    arm.write(&goal, GripperCommand::Open).unwrap();
    until(|| (server.times("/pose") > 0).then_some(()));
    arm.stop().unwrap();
    // The stop has been heard of when only states are asked for.
    server.asked();
    until(|| {
        let asked = server.asked();
        (asked == ["/getstate"]).then_some(())
    });
    server.set(Mood::Well);
    until(|| read(&mut arm).ok().filter(|state| state.trouble.is_none()));
    assert!(at(&server, &held, &arm));
    assert_eq!(server.times("/pose"), 0);
}

#[test]
fn who_does_not_answer_is_named() {
    let url = Server::start(&hand()).url();
    let error = open(&config(url.clone()), PERIOD_NS)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(&url) && error.contains("does not answer"),
        "{error}"
    );

    let server = Server::start(&Isometry3::from(Translation3::new(0.0, 0.0, 1.2)));
    let error = open(&config(server.url()), PERIOD_NS).err().unwrap();
    assert!(matches!(error, OpenError::Tool(_)), "{error}");

    server.set(Mood::Failing);
    let error = open(&config(server.url()), PERIOD_NS)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("/getstate answers with status 500"),
        "{error}"
    );

    let config = FrankaConfig {
        gripper_unit_m: 0.0,
        ..config(server.url())
    };
    let error = open(&config, PERIOD_NS).err().unwrap().to_string();
    assert!(error.contains("gripper_unit_m"), "{error}");
}

#[test]
fn the_rig_file_names_what_it_does_not_know() {
    let parse = |text: &str| toml::from_str::<FrankaConfig>(text);
    let config = parse("url = \"http://172.16.0.1:5000\"").unwrap();
    assert_eq!((config.model, config.gripper_unit_m), (Model::Panda, 1.0));
    assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    let fr3 = parse("url = \"http://172.16.0.1:5000\"\nmodel = \"fr3\"").unwrap();
    assert_eq!(fr3.model, Model::Fr3);
    for text in [
        "model = \"fr3\"",
        "url = \"\"\nhost = 1",
        "url = \"\"\nmodel = \"fr4\"",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
