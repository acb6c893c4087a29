//! Every device passes the suite of its trait.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::f64::consts::PI;

use hilt_drivers::{
    Arm, ArmError, Camera, EpisodeStart, Scene, Teleop, TeleopEvent, World, conformance,
    fake::FakeArmPair,
    sim::{LiftWorld, LiveLift, Role, SimOperator},
};
use hilt_protocol::{CameraSpec, GripperCommand};
use hilt_realtime::{Clock, Monotonic};
use hilt_sim::{OperatorConfig, SceneConfig, TakeoverConfig};

fn clock<W: World + Clone>(world: &W) -> impl FnMut(u64) -> u64 + use<W> {
    let mut world = world.clone();
    move |duration_ns| {
        world.advance_ns(duration_ns).unwrap();
        world.now_ns()
    }
}

fn lift() -> LiftWorld {
    let mut world = LiftWorld::new(&SceneConfig::default()).unwrap();
    world
        .reset(EpisodeStart {
            range_m: 0.1,
            seed: 1,
        })
        .unwrap();
    world
}

#[test]
fn fake_arms_and_cameras_conform() {
    let pair = FakeArmPair::new(2).unwrap();
    for index in 0..2 {
        conformance::arm(&mut pair.arm(index), clock(&pair)).unwrap();
    }
    let spec = CameraSpec {
        name: "front".into(),
        height: 32,
        width: 24,
    };
    conformance::camera(&mut pair.camera(spec), clock(&pair)).unwrap();
}

#[test]
fn simulated_devices_conform() {
    let world = lift();
    conformance::arm(&mut world.arm(), clock(&world)).unwrap();
    for mut camera in world.cameras() {
        conformance::camera(&mut camera, clock(&world)).unwrap();
    }
    let takeover = TakeoverConfig::default();
    for role in [
        Role::Demonstrate,
        Role::Miss,
        Role::Wander,
        Role::Intervene { takeover, seed: 1 },
    ] {
        let mut operator = world.operator(role, OperatorConfig::default(), 0.025);
        conformance::teleop(&mut operator, clock(&world)).unwrap();
    }
}

#[test]
fn devices_that_follow_the_monotonic_clock_conform() {
    let mut lift = LiveLift::new(&SceneConfig::default()).unwrap();
    let pass = |duration_ns| {
        Monotonic.sleep_until_ns(Monotonic.now_ns() + duration_ns);
        Monotonic.now_ns()
    };
    let (range_m, seed) = (0.1, 1);
    lift.reset(EpisodeStart { range_m, seed }).unwrap();
    conformance::arm(&mut lift.arm(5_000_000).unwrap(), pass).unwrap();
    for mut camera in lift.cameras() {
        conformance::camera(&mut camera, pass).unwrap();
    }
    let mut operator = lift.operator(Role::Demonstrate, OperatorConfig::default(), 0.025);
    conformance::teleop(&mut operator, pass).unwrap();
    assert!(lift.truth().is_some());
}

#[test]
fn a_pulled_cable_is_a_device_error_of_that_arm_only() {
    let pair = FakeArmPair::new(2).unwrap();
    let (mut left, mut right) = (pair.arm(0), pair.arm(1));
    let here = left.read_state(0, 0).unwrap().joints;
    pair.set_faulty(0, true);
    assert_eq!(left.read_state(0, 0), Err(ArmError::Device));
    assert_eq!(
        left.write(&here, GripperCommand::Open),
        Err(ArmError::Device)
    );
    assert!(right.read_state(0, 0).is_ok());
    pair.set_faulty(0, false);
    assert!(left.read_state(0, 0).is_ok());
}

#[test]
fn fake_tools_point_down_at_home() {
    let arm = FakeArmPair::new(1).unwrap().arm(0);
    let mut arm = arm;
    let joints = arm.read_state(0, 0).unwrap().joints;
    let pose = arm.chain().base_from_tool(joints.as_slice());
    let down = pose.rotation * nalgebra::Vector3::z();
    assert!(down.angle(&nalgebra::Vector3::z()) > PI - 1e-6, "{down}");
}

/// An operator who never takes over, and looks at the ends of episodes with this probability.
fn watcher(world: &LiftWorld, least_probability: f64) -> SimOperator {
    let takeover = TakeoverConfig {
        max_interventions: Some(0),
        fade_fraction: 0.0,
        least_probability,
        ..TakeoverConfig::default()
    };
    let role = Role::Intervene { takeover, seed: 3 };
    world.operator(role, OperatorConfig::default(), 0.025)
}

#[test]
fn an_operator_who_watches_judges_only_what_it_looked_at() {
    let world = lift();
    for (looks, verdict) in [(0.0, None), (1.0, Some(false))] {
        let mut operator = watcher(&world, looks);
        operator.begin_episode(1);
        for _ in 0..20 {
            assert_eq!(operator.intent(0).unwrap(), None);
        }
        assert_eq!(operator.event().unwrap(), None::<TeleopEvent>);
        assert_eq!(operator.verdict(), verdict);
    }
}

#[test]
fn frames_show_what_moves() {
    let mut world = lift();
    let mut front = world.cameras().remove(0);
    let before = front.newest().unwrap();
    world
        .reset(EpisodeStart {
            range_m: 0.2,
            seed: 9,
        })
        .unwrap();
    assert_ne!(before.rgb, front.newest().unwrap().rgb);
}
