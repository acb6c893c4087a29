//! The scene itself: kinematics against MuJoCo's, pictures, clock, reset.

use hilt_kinematics::{Ik, IkOptions};
use hilt_protocol::{JointVector, noise::Uniforms};
use hilt_sim::{
    ARM_JOINTS, CENTRE_XY_M, CUBE_HALF_M, HOME_HEIGHT_M, SceneConfig, SimError, Simulation, Start,
    base_from_tool_down, random_start,
};

fn blind() -> Simulation {
    let config = SceneConfig {
        cameras: Vec::new(),
        ..SceneConfig::default()
    };
    Simulation::new(&config).expect("the default scene without cameras")
}

/// Pixels that are the cube's red.
fn red(rgb: &[u8]) -> usize {
    rgb.chunks_exact(3)
        .filter(|p| p[0] > 90 && u16::from(p[0]) > 3 * u16::from(p[1].max(p[2])))
        .count()
}

#[test]
fn the_chain_is_the_models() {
    let mut simulation = blind();
    assert_eq!(simulation.chain().dof(), ARM_JOINTS);
    let mut uniforms = Uniforms::new(5);
    for seed in 0..10 {
        // The arm on its way between two places, not at rest in either.
        simulation.reset(&random_start(0.2, seed)).unwrap();
        let away: Vec<f64> = simulation
            .arm_state()
            .q
            .iter()
            .map(|q| q + uniforms.range(-0.5, 0.5))
            .collect();
        simulation.set_command(&away, false).unwrap();
        simulation.advance_ns(120_000_000);
        let state = simulation.arm_state();
        assert!(state.qd.iter().any(|v| v.abs() > 0.01));
        let ours = simulation.chain().base_from_tool(&state.q);
        let theirs = simulation.world_from_tool();
        let off_m = (ours.translation.vector - theirs.translation.vector).norm();
        assert!(off_m < 1e-9, "{off_m}");
        assert!(ours.rotation.angle_to(&theirs.rotation) < 1e-7);
        let truth = simulation.truth().tool_position_m;
        assert!((0..3).all(|i| (truth[i] - theirs.translation.vector[i]).abs() < 1e-9));
    }
}

#[test]
fn home_is_above_the_centre_with_the_tool_down() {
    let mut simulation = blind();
    simulation.reset(&Start::default()).unwrap();
    let tool = simulation.world_from_tool();
    let [x, y] = CENTRE_XY_M;
    let home = base_from_tool_down([x, y, HOME_HEIGHT_M]);
    assert!((tool.translation.vector - home.translation.vector).norm() < 1e-3);
    assert!(tool.rotation.angle_to(&home.rotation) < 1e-2);
    // At rest it stays there: gravity is compensated.
    simulation.advance_ns(2_000_000_000);
    let later = simulation.world_from_tool();
    assert!((later.translation.vector - tool.translation.vector).norm() < 1e-3);
    let cube = simulation.truth().cube_position_m;
    assert!((cube[2] - CUBE_HALF_M).abs() < 1e-3, "{cube:?}");
}

#[test]
fn one_policy_step_of_inverse_kinematics_suffices_in_the_work_area() {
    let simulation = blind();
    let ik = Ik::new(simulation.chain().clone(), IkOptions::default());
    let mut uniforms = Uniforms::new(9);
    let mut joints = JointVector::from_slice(&simulation.arm_state().q).unwrap();
    let mut at = simulation.truth().tool_position_m;
    for _ in 0..2000 {
        for (i, [low, high]) in [[0.28, 0.62], [-0.18, 0.18], [0.01, 0.32]]
            .into_iter()
            .enumerate()
        {
            at[i] = (at[i] + uniforms.range(-0.025, 0.025)).clamp(low, high);
        }
        let solution = ik.solve(&base_from_tool_down(at), &joints);
        assert!(solution.position_error_m < 1e-3, "{at:?}: {solution:?}");
        assert!(solution.rotation_error_rad < 1e-2, "{at:?}: {solution:?}");
        joints = solution.joints;
    }
}

#[test]
fn equal_starts_and_commands_give_equal_runs() {
    let run = |simulation: &mut Simulation| {
        simulation.reset(&random_start(0.2, 11)).unwrap();
        let mut q = simulation.arm_state().q;
        for step in 0..20 {
            q[0] += 0.02;
            q[1] += 0.03;
            simulation.set_command(&q, step > 10).unwrap();
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
    simulation.reset(&Start::default()).unwrap();
    assert_eq!(simulation.time_ns(), 100_000_000);
    // Ten times 1 ms steps 4 ms physics twice: as much as one 10 ms advance.
    let moved = |parts: u64| {
        let mut simulation = blind();
        let mut q = simulation.arm_state().q;
        q[0] += 0.3;
        simulation.set_command(&q, false).unwrap();
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
    let start = Start::default();
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

#[test]
fn both_cameras_see_the_cube_wherever_it_starts() {
    let mut simulation = Simulation::new(&SceneConfig::default()).unwrap();
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
            let cube_xy_m = [
                CENTRE_XY_M[0] - 0.1 + 0.2 * f64::from(i) / 6.0,
                CENTRE_XY_M[1] - 0.1 + 0.2 * f64::from(j) / 6.0,
            ];
            let drawn = random_start(0.2, u64::from(7 * i as u32 + j as u32));
            simulation.reset(&Start { cube_xy_m, ..drawn }).unwrap();
            starts += 1;
            for (camera, seen) in seen.iter_mut().enumerate() {
                simulation.render(camera, &mut rgb).unwrap();
                *seen += usize::from(red(&rgb) >= 12);
            }
        }
    }
    assert_eq!(seen[0], starts, "front");
    assert!(
        seen[1] * 100 >= starts * 95,
        "wrist: {} of {starts}",
        seen[1]
    );
}

#[test]
fn row_zero_is_the_top() {
    let mut simulation = Simulation::new(&SceneConfig::default()).unwrap();
    // Near the front camera is low in its picture, far is high.
    let centre_row = |simulation: &mut Simulation, x: f64| {
        simulation
            .reset(&Start {
                cube_xy_m: [x, 0.0],
                ..Start::default()
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
            ..Start::default()
        })
        .unwrap();
    let mut rgb = vec![0; 64 * 64 * 3];
    simulation.render(0, &mut rgb).unwrap();
    let right: usize = (0..64)
        .map(|r| red(&rgb[r * 192 + 96..(r + 1) * 192]))
        .sum();
    assert!(right > 10 && right == red(&rgb), "{right}");
}
