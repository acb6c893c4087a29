//! The scene itself: kinematics against MuJoCo's, pictures, clock, reset.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};

use hilt_kinematics::{Ik, IkOptions};
use hilt_protocol::{noise::Uniforms, settings};
use hilt_sim::{
    ArmKind, Motion, SceneConfig, Servos, SimError, Simulation, Start, Task, base_from_tool_down,
};
use serde::Deserialize;

const TASK: Task = ArmKind::Desk6.task();

/// Without cameras.
fn arm(arm: ArmKind) -> Simulation {
    let config = SceneConfig {
        arm,
        cameras: Vec::new(),
        ..SceneConfig::default()
    };
    Simulation::new(&config).expect("a scene without cameras")
}

fn blind() -> Simulation {
    arm(ArmKind::Desk6)
}

const ARMS: [(ArmKind, usize); 3] = [(ArmKind::Desk6, 6), (ArmKind::So101, 5), (ArmKind::Koch, 5)];

/// Pixels that are the cube's red.
fn red(rgb: &[u8]) -> usize {
    rgb.chunks_exact(3)
        .filter(|p| p[0] > 90 && u16::from(p[0]) > 3 * u16::from(p[1].max(p[2])))
        .count()
}

#[test]
fn the_chain_is_the_models() {
    for (kind, joints) in ARMS {
        let mut simulation = arm(kind);
        let task = *simulation.task();
        assert_eq!((simulation.chain().dof(), kind.joints()), (joints, joints));
        let mut uniforms = Uniforms::new(5);
        for seed in 0..10 {
            // The arm on its way between two places, not at rest in either.
            simulation.reset(&task.random_start(0.1, seed)).unwrap();
            let away: Vec<f64> = simulation
                .arm_state()
                .q
                .as_slice()
                .iter()
                .map(|q| q + uniforms.range(-0.5, 0.5))
                .collect();
            simulation.set_command(&away, false).unwrap();
            simulation.advance_ns(120_000_000);
            let state = simulation.arm_state();
            assert!(state.qd.as_slice().iter().any(|v| v.abs() > 0.01));
            let ours = simulation.chain().base_from_tool(state.q.as_slice());
            let theirs = simulation.world_from_tool();
            let off_m = (ours.translation.vector - theirs.translation.vector).norm();
            assert!(off_m < 1e-9, "{kind:?}: {off_m}");
            assert!(ours.rotation.angle_to(&theirs.rotation) < 1e-7);
            let truth = simulation.truth().tool_position_m;
            assert!((0..3).all(|i| (truth[i] - theirs.translation.vector[i]).abs() < 1e-9));
        }
    }
}

#[test]
fn home_is_above_the_centre_with_the_tool_down() {
    for (kind, _) in ARMS {
        let mut simulation = arm(kind);
        let task = *simulation.task();
        simulation.reset(&task.start()).unwrap();
        let tool = simulation.world_from_tool();
        let [x, y] = task.centre_xy_m;
        let home = base_from_tool_down([x, y, task.home_height_m]);
        assert!((tool.translation.vector - home.translation.vector).norm() < 1e-3);
        assert!(tool.rotation.angle_to(&home.rotation) < 1e-2);
        // At rest it stays there: gravity is compensated, or the servos are stiff.
        simulation.advance_ns(2_000_000_000);
        let later = simulation.world_from_tool();
        let sag_m = (later.translation.vector - tool.translation.vector).norm();
        let most_m = if kind == ArmKind::Desk6 { 1e-3 } else { 3e-3 };
        assert!(sag_m < most_m, "{kind:?}: {sag_m}");
        let cube = simulation.truth();
        assert!(cube.cube_height_m.abs() < 1e-3, "{cube:?}");
    }
}

#[test]
fn one_policy_step_of_inverse_kinematics_suffices_in_the_work_area() {
    // The rig's workspace and step, metres.
    let desk6 = ([[0.28, 0.62], [-0.18, 0.18], [0.01, 0.32]], 0.025);
    let so101 = ([[0.14, 0.27], [-0.075, 0.075], [0.012, 0.13]], 0.02);
    let koch = ([[0.085, 0.185], [-0.065, 0.065], [0.012, 0.11]], 0.018);
    for (kind, (area, step_m)) in [
        (ArmKind::Desk6, desk6),
        (ArmKind::So101, so101),
        (ArmKind::Koch, koch),
    ] {
        let simulation = arm(kind);
        let ik = Ik::new(simulation.chain().clone(), IkOptions::default());
        let mut uniforms = Uniforms::new(9);
        let mut joints = simulation.arm_state().q;
        let mut at = simulation.truth().tool_position_m;
        let mut reached = |at: [f64; 3]| {
            let solution = ik.solve(&base_from_tool_down(at), &joints);
            assert!(solution.position_error_m < 1e-3, "{at:?}: {solution:?}");
            assert!(solution.rotation_error_rad < 1e-2, "{at:?}: {solution:?}");
            joints = solution.joints;
        };
        for _ in 0..2000 {
            for (at, [low, high]) in at.iter_mut().zip(area) {
                *at = (*at + uniforms.range(-step_m, step_m)).clamp(low, high);
            }
            reached(at);
        }
        // Along the edges of it, from corner to corner.
        for corner in 0..8 {
            let goal: [f64; 3] = std::array::from_fn(|i| area[i][corner >> i & 1]);
            while at != goal {
                for (at, goal) in at.iter_mut().zip(goal) {
                    *at += (goal - *at).clamp(-step_m, step_m);
                }
                reached(at);
            }
        }
    }
}

#[test]
fn an_arm_of_servos_without_torque_falls_and_with_it_is_held() {
    struct Fixed(Vec<Option<f64>>, Arc<Mutex<Vec<Motion>>>);
    impl Servos for Fixed {
        fn goals(&mut self, goals: &mut [Option<f64>]) {
            goals.copy_from_slice(&self.0);
        }
        fn moved(&mut self, motions: &[Motion]) {
            *self.1.lock().unwrap() = motions.to_vec();
        }
    }
    let fallen_m = |limp: &[usize]| {
        let mut simulation = arm(ArmKind::So101);
        let state = simulation.arm_state();
        let jaw = ArmKind::So101.jaw().unwrap().open_rad;
        let held = state.q.as_slice().iter().copied().chain([jaw]);
        let mut goals: Vec<_> = held.map(Some).collect();
        limp.iter().for_each(|&i| goals[i] = None);
        let told = Arc::default();
        let servos = Fixed(goals, Arc::clone(&told));
        simulation.couple(Box::new(servos)).unwrap();
        assert_eq!(told.lock().unwrap().len(), 6);
        let before = simulation.world_from_tool().translation.z;
        simulation.advance_ns(1_000_000_000);
        let told = told.lock().unwrap();
        let now = simulation.arm_state();
        assert_eq!(told[1].position, now.q.as_slice()[1]);
        assert_eq!(told[1].velocity, now.qd.as_slice()[1]);
        before - simulation.world_from_tool().translation.z
    };
    assert!(fallen_m(&[]).abs() < 3e-3);
    assert!(fallen_m(&[1, 2]) > 0.02, "{}", fallen_m(&[1, 2]));
    let error = blind().couple(Box::new(Fixed(Vec::new(), Arc::default())));
    assert!(matches!(error, Err(SimError::Model(_))), "{error:?}");
}

#[test]
fn the_cube_alone_is_put_elsewhere() {
    let mut simulation = arm(ArmKind::So101);
    let task = *simulation.task();
    simulation.reset(&task.random_start(0.1, 4)).unwrap();
    simulation.advance_ns(300_000_000);
    let before = simulation.arm_state();
    let start = task.random_start(0.1, 5);
    simulation.put_cube(&start).unwrap();
    assert_eq!(simulation.arm_state(), before);
    let cube = simulation.truth().cube_position_m;
    assert_eq!([cube[0], cube[1]], start.cube_xy_m);
    let far = Start {
        cube_xy_m: [9.0, 0.0],
        ..start
    };
    assert!(simulation.put_cube(&far).is_err());
}

#[test]
fn equal_starts_and_commands_give_equal_runs() {
    let run = |simulation: &mut Simulation| {
        simulation.reset(&TASK.random_start(0.2, 11)).unwrap();
        let mut q = simulation.arm_state().q;
        for step in 0..20 {
            q.as_mut_slice()[0] += 0.02;
            q.as_mut_slice()[1] += 0.03;
            simulation.set_command(q.as_slice(), step > 10).unwrap();
            simulation.advance_ns(100_000_000);
        }
        let truth = simulation.truth();
        (
            truth.cube_position_m,
            truth.cube_yaw_rad,
            simulation.arm_state().q,
        )
    };
    let mut simulation = blind();
    let first = run(&mut simulation);
    // Bit for bit: again after a reset, and in another simulation.
    assert_eq!(run(&mut simulation), first);
    assert_eq!(run(&mut blind()), first);
}

#[test]
fn the_clock_goes_on_and_counts_what_was_asked_for() {
    let mut simulation = blind();
    simulation.advance_ns(1_000_000);
    assert_eq!(simulation.time_ns(), 1_000_000);
    simulation.advance_ns(99_000_000);
    simulation.reset(&TASK.start()).unwrap();
    assert_eq!(simulation.time_ns(), 100_000_000);
    // Ten times 1 ms steps 4 ms physics twice: as much as one 10 ms advance.
    let moved = |parts: u64| {
        let mut simulation = blind();
        let mut q = simulation.arm_state().q;
        q.as_mut_slice()[0] += 0.3;
        simulation.set_command(q.as_slice(), false).unwrap();
        (0..parts).for_each(|_| simulation.advance_ns(10_000_000 / parts));
        simulation.arm_state().q
    };
    assert_eq!(moved(1), moved(10));
    assert_ne!(moved(1), blind().arm_state().q);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut simulation = blind();
    let before = simulation.arm_state();
    for bad in [&[0.0; 5][..], &[f64::NAN; 6], &[f64::INFINITY; 6]] {
        let error = simulation.set_command(bad, true).unwrap_err();
        assert!(
            matches!(error, SimError::Command { expected: 6, .. }),
            "{error}"
        );
    }
    let start = TASK.start();
    for bad in [
        Start {
            cube_xy_m: [5.0, 0.0],
            ..start
        },
        Start {
            cube_xy_m: [f64::NAN, 0.0],
            ..start
        },
        Start {
            cube_yaw_rad: f64::NAN,
            ..start
        },
        Start {
            home_offset_m: [0.0, 0.0, 3.0],
            ..start
        },
        Start {
            home_offset_m: [0.0, f64::NAN, 0.0],
            ..start
        },
    ] {
        assert!(
            matches!(simulation.reset(&bad), Err(SimError::Start(_))),
            "{bad:?}"
        );
    }
    assert_eq!(simulation.arm_state(), before);
    assert!(!simulation.truth().gripper_closed_command);
    let no_camera = simulation.render(0, &mut []);
    assert_eq!(
        no_camera,
        Err(SimError::NoCamera {
            index: 0,
            cameras: 0
        })
    );
}

/// The part of a rig's file that is looked at here.
#[derive(Deserialize)]
struct Rig {
    scene: SceneConfig,
}

fn rig(text: &str) -> SceneConfig {
    settings::parse::<Rig>("rig.toml", text, &[]).unwrap().scene
}

#[test]
fn both_cameras_see_the_cube_wherever_it_starts() {
    let so101 = rig(include_str!("../../../rigs/so101-emulated.toml"));
    let koch = rig(include_str!("../../../rigs/koch-emulated.toml"));
    for (scene, range_m) in [(SceneConfig::default(), 0.2), (so101, 0.1), (koch, 0.07)] {
        let mut simulation = Simulation::new(&scene).unwrap();
        let task = *simulation.task();
        let mut rgb = vec![0; 64 * 64 * 3];
        let wrong = simulation.render(1, &mut rgb[1..]);
        assert_eq!(
            wrong,
            Err(SimError::BufferSize {
                camera: 1,
                expected: 64 * 64 * 3,
                got: 64 * 64 * 3 - 1
            })
        );
        let mut seen = [0, 0];
        let mut starts = 0;
        for i in 0..7 {
            for j in 0..7 {
                let place =
                    |centre: f64, n: u32| centre - range_m / 2.0 + range_m * f64::from(n) / 6.0;
                let [x, y] = task.centre_xy_m;
                let cube_xy_m = [place(x, i), place(y, j)];
                let drawn = task.random_start(range_m, u64::from(7 * i + j));
                simulation.reset(&Start { cube_xy_m, ..drawn }).unwrap();
                starts += 1;
                for (camera, seen) in seen.iter_mut().enumerate() {
                    simulation.render(camera, &mut rgb).unwrap();
                    *seen += usize::from(red(&rgb) >= 12);
                }
            }
        }
        assert_eq!(seen[0], starts, "front, {:?}", scene.arm);
        assert!(
            seen[1] * 100 >= starts * 95,
            "wrist, {:?}: {} of {starts}",
            scene.arm,
            seen[1]
        );
    }
}

#[test]
fn row_zero_is_the_top() {
    let mut simulation = Simulation::new(&SceneConfig::default()).unwrap();
    // Near the front camera is low in its picture, far is high.
    let centre_row = |simulation: &mut Simulation, x: f64| {
        simulation
            .reset(&Start {
                cube_xy_m: [x, 0.0],
                ..TASK.start()
            })
            .unwrap();
        let mut rgb = vec![0; 64 * 64 * 3];
        simulation.render(0, &mut rgb).unwrap();
        let rows: Vec<usize> = (0..64)
            .filter(|&r| red(&rgb[r * 192..(r + 1) * 192]) > 0)
            .collect();
        rows.iter().sum::<usize>() as f64 / rows.len() as f64
    };
    assert!(centre_row(&mut simulation, 0.53) > centre_row(&mut simulation, 0.37) + 5.0);
    // Left in the picture is the robot's left... seen from the front: the cube at +y is right.
    simulation
        .reset(&Start {
            cube_xy_m: [0.45, 0.1],
            ..TASK.start()
        })
        .unwrap();
    let mut rgb = vec![0; 64 * 64 * 3];
    simulation.render(0, &mut rgb).unwrap();
    let right: usize = (0..64)
        .map(|r| red(&rgb[r * 192 + 96..(r + 1) * 192]))
        .sum();
    assert!(right > 10 && right == red(&rgb), "{right}");
}
