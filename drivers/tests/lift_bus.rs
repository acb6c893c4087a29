//! The lift scene's arm behind an emulated bus: the coupling on a fake clock, the whole of it in real
//! time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{cell::RefCell, rc::Rc};

use hilt_drivers::{
    Arm, Camera, EpisodeStart, Scene,
    bus::{SerialWire, ServoArm, ServoArmConfig},
    conformance,
    emulated::{BusHandle, BusLift, BusServos, MemoryWire, PtyBus, lift_bus, lift_config},
};
use hilt_protocol::{GripperCommand, JointVector};
use hilt_realtime::{Clock, Fake, Monotonic};
use hilt_sim::{ArmKind, SceneConfig, Simulation};

const MS: u64 = 1_000_000;

fn scene(arm: ArmKind) -> SceneConfig {
    SceneConfig {
        arm,
        cameras: Vec::new(),
        ..SceneConfig::default()
    }
}

const ARMS: [ArmKind; 2] = [ArmKind::So101, ArmKind::Koch];

/// A scene whose arm hangs on a bus in memory, all by one fake clock.
struct Stage {
    simulation: Rc<RefCell<Simulation>>,
    bus: BusHandle,
    clock: Fake,
    config: ServoArmConfig,
    arm: ServoArm<MemoryWire>,
}

impl Stage {
    fn new(kind: ArmKind) -> Self {
        let clock = Fake::at(MS);
        let config = lift_config(kind).unwrap();
        let wire = MemoryWire::new(lift_bus(&config), clock.clone());
        let bus = wire.handle();
        let mut simulation = Simulation::new(&scene(kind)).unwrap();
        simulation
            .couple(Box::new(BusServos::new(&config, bus.clone())))
            .unwrap();
        let arm = ServoArm::new(wire, simulation.chain().clone(), config.clone()).unwrap();
        Self {
            simulation: Rc::new(RefCell::new(simulation)),
            bus,
            clock,
            config,
            arm,
        }
    }

    /// Lets time pass, for the bus and the physics.
    fn passing(&self) -> impl FnMut(u64) -> u64 + use<> {
        let (clock, simulation) = (self.clock.clone(), Rc::clone(&self.simulation));
        move |duration_ns| {
            clock.advance_ns(duration_ns);
            let mut simulation = simulation.borrow_mut();
            // What the bus has slept meanwhile has passed as well.
            let behind_ns = clock.now_ns().saturating_sub(simulation.time_ns());
            simulation.advance_ns(behind_ns);
            clock.now_ns()
        }
    }

    /// Ticks of 10 ms with this target.
    fn drive(&mut self, target: &JointVector, gripper: GripperCommand, ticks: u32) {
        let mut pass = self.passing();
        for _ in 0..ticks {
            let now_ns = pass(10 * MS);
            self.arm.read_state(now_ns, now_ns + 5 * MS).unwrap();
            self.arm.write(target, gripper).unwrap();
        }
    }

    fn joints(&self) -> JointVector {
        self.simulation.borrow().arm_state().q
    }
}

fn apart(a: &JointVector, b: &JointVector) -> f64 {
    let pairs = a.as_slice().iter().zip(b.as_slice());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn the_arm_of_a_scene_conforms_over_its_bus() {
    for kind in ARMS {
        let mut stage = Stage::new(kind);
        let pass = stage.passing();
        conformance::arm(&mut stage.arm, pass).unwrap();
        assert!(!stage.bus.look(|bus| bus.went_limp()));
    }
}

#[test]
fn the_joints_go_where_the_bus_sends_them_and_report_where_they_are() {
    for kind in ARMS {
        let mut stage = Stage::new(kind);
        let home = stage.joints();
        stage.arm.start().unwrap();
        let mut target = home;
        for (i, q) in target.as_mut_slice().iter_mut().enumerate() {
            *q += [0.4, -0.2, 0.3, -0.3, 0.5][i];
        }
        stage.drive(&target, GripperCommand::Closed, 150);
        let at = stage.joints();
        assert!(apart(&at, &target) < 0.02, "{at:?} for {target:?}");
        let now_ns = stage.clock.now_ns();
        let told = stage.arm.read_state(now_ns, now_ns + 5 * MS).unwrap();
        // To within a servo's count.
        assert!(apart(&told.joints, &at) < 0.001, "{told:?} for {at:?}");
        let truth = stage.simulation.borrow().truth();
        assert!(truth.gripper_closed_command && truth.gripper_width_m < 0.005);
        assert!((told.gripper_width_m - truth.gripper_width_m).abs() < 0.001);
        stage.drive(&home, GripperCommand::Open, 150);
        let truth = stage.simulation.borrow().truth();
        assert!(!truth.gripper_closed_command && truth.gripper_width_m > 0.07);
        assert!(apart(&stage.joints(), &home) < 0.02);
    }
}

#[test]
fn the_arm_is_held_until_its_torque_is_on_and_falls_when_it_is_off_again() {
    for kind in ARMS {
        let mut stage = Stage::new(kind);
        let home = stage.joints();
        let mut pass = stage.passing();
        pass(500 * MS);
        assert!(
            apart(&stage.joints(), &home) < 0.02,
            "as if somebody held it"
        );
        stage.arm.start().unwrap();
        stage.drive(&home, GripperCommand::Open, 20);
        assert!(apart(&stage.joints(), &home) < 0.02);
        for id in stage.config.ids() {
            let torque = stage.config.family.table().torque;
            stage.bus.look(|bus| bus.poke(id, torque, 0));
        }
        pass(1_000 * MS);
        assert!(apart(&stage.joints(), &home) > 0.1, "{:?}", stage.joints());
    }
}

#[test]
fn an_arm_without_servos_has_no_bus() {
    assert_eq!(lift_config(ArmKind::Desk6), None);
}

#[test]
fn in_real_time_an_episode_begins_with_the_cube_aside_and_the_arm_driven_home() {
    let dir = tempfile::tempdir().unwrap();
    let scene = SceneConfig {
        arm: ArmKind::So101,
        ..SceneConfig::default()
    };
    let config = lift_config(scene.arm).unwrap();
    let bus = PtyBus::start(lift_bus(&config), &dir.path().join("bus")).unwrap();
    let mut lift = BusLift::new(&scene, &config, bus.handle()).unwrap();
    let wire = SerialWire::open(&bus.path().to_string_lossy(), config.baud).unwrap();
    let mut arm = ServoArm::new(wire, lift.chain().clone(), config).unwrap();
    arm.start().unwrap();
    let (range_m, seed) = (0.1, 3);
    let start = EpisodeStart { range_m, seed };
    let (task, cube) = (scene.arm.task(), |lift: &BusLift| {
        lift.truth().unwrap().cube_position_m
    });
    lift.reset(start).unwrap();
    let aside = cube(&lift);
    assert!(aside[1] - task.centre_xy_m[1] > 0.15, "{aside:?}");
    let home = lift.home(start).unwrap().unwrap();
    // Until it is there: a busy machine takes longer.
    let mut tries = 0;
    loop {
        let now_ns = Monotonic.now_ns();
        let state = arm.read_state(now_ns, now_ns + 1_000 * MS).unwrap();
        if apart(&state.joints, &home) < 0.02 {
            break;
        }
        arm.write(&home, GripperCommand::Open).unwrap();
        Monotonic.sleep_until_ns(now_ns + 10 * MS);
        tries += 1;
        assert!(tries < 6_000, "{state:?} for {home:?}");
    }
    lift.arm_is_home(start).unwrap();
    let wanted = task.random_start(range_m, seed).cube_xy_m;
    let at = cube(&lift);
    assert!((0..2).all(|i| (at[i] - wanted[i]).abs() < 1e-3), "{at:?}");
    assert!(!lift.truth().unwrap().lifted);
    for mut camera in lift.live().cameras() {
        let frame = camera.newest().unwrap();
        assert_eq!(frame.rgb.len(), 64 * 64 * 3);
    }
    drop(arm);
    assert!(!bus.handle().look(|bus| bus.went_limp()));
}
