//! Boards, lenses, noise and latency: what is drawn is where the truth says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_protocol::calibration::Intrinsics;
use hilt_sim::{
    ArmKind, Mount, SceneBoard, SceneCamera, SceneConfig, SceneLens, SimError, Simulation,
};
use nalgebra::{Isometry3, Matrix4, Point3, Translation3, Vector3, Vector4};

/// Squares in a row and a column, and a square's side, metres.
const SQUARES: [usize; 2] = [8, 6];
const SQUARE_M: f64 = 0.02;

const LENS: SceneLens = SceneLens {
    focal_px: [560.0, 552.0],
    centre_px: [327.0, 231.5],
    distortion: [0.0; 5],
};

fn checkerboard(mount: Mount) -> SceneBoard {
    let cell = |row: usize, column: usize| {
        if (row + column).is_multiple_of(2) {
            '#'
        } else {
            '.'
        }
    };
    let row = |row: usize| (0..SQUARES[0]).map(|column| cell(row, column)).collect();
    SceneBoard {
        cells: (0..SQUARES[1]).map(row).collect(),
        size_m: SQUARES.map(|squares| squares as f64 * SQUARE_M),
        margin_m: 0.01,
        mount,
        position_m: [0.4, 0.02, 0.03],
        facing: [0.1, 0.2, 1.0],
        up: [-1.0, 0.1, 0.0],
    }
}

fn camera(lens: SceneLens) -> SceneCamera {
    SceneCamera {
        name: "front".into(),
        width: 640,
        height: 480,
        mount: Mount::World,
        position_m: [0.62, -0.1, 0.25],
        look_at_m: [0.4, 0.0, 0.0],
        fovy_deg: None,
        lens: Some(lens),
        noise_levels: 0.0,
        latency_ms: 0.0,
    }
}

/// The cube out of the way.
fn scene_of(arm: ArmKind, cameras: Vec<SceneCamera>, boards: Vec<SceneBoard>) -> Simulation {
    let config = SceneConfig {
        arm,
        cameras,
        boards,
        ..SceneConfig::default()
    };
    let mut simulation = Simulation::new(&config).unwrap();
    let mut start = simulation.task().start();
    start.cube_xy_m[1] += 0.24;
    simulation.put_cube(&start).unwrap();
    simulation
}

/// The arm too.
fn scene(cameras: Vec<SceneCamera>, boards: Vec<SceneBoard>) -> Simulation {
    let mut simulation = scene_of(ArmKind::Desk6, cameras, boards);
    let aside = [2.0, -0.5, 0.0, 0.0, 0.0, 0.0];
    simulation.put_arm(&aside).unwrap();
    simulation
}

fn picture(simulation: &mut Simulation, index: usize) -> Vec<f64> {
    let camera = &simulation.config().cameras[index];
    let mut rgb = vec![0; (camera.width * camera.height * 3) as usize];
    simulation.render(index, &mut rgb).unwrap();
    let gray = |p: &[u8]| p.iter().map(|v| f64::from(*v)).sum::<f64>() / 3.0;
    rgb.chunks_exact(3).map(gray).collect()
}

/// How far a corner is drawn from where it should be, pixels: the shift between the picture and a drawing
/// of the checkerboard through the lens, ray by ray, near a pixel.
fn shift(
    gray: &[f64],
    lens: &Intrinsics,
    board_from_camera: &Isometry3<f64>,
    near: [f64; 2],
) -> Option<[f64; 2]> {
    const REACH: i32 = 6;
    const SAMPLES: i32 = 6;
    let (width, height) = (lens.width_px as i32, lens.height_px as i32);
    let [column, row] = near.map(|v| v.round() as i32);
    let inside = |v: i32, size: i32| v > REACH && v + REACH + 1 < size;
    if !inside(column, width) || !inside(row, height) {
        return None;
    }
    let eye = board_from_camera.translation.vector;
    let is_white = |x: f64, y: f64| {
        let [x, y] = lens.ray([x, y]).unwrap();
        let ray = board_from_camera * Vector3::new(x, y, 1.0);
        let at = eye - ray * (eye.z / ray.z);
        let [column, row] = [at.x, at.y].map(|v| (v / SQUARE_M).floor() as i32);
        (column + row) % 2 != 0
    };
    let side = 2 * REACH + 3;
    let drawn: Vec<f64> = (0..side * side)
        .map(|i| {
            let (x, y) = (column - REACH - 1 + i % side, row - REACH - 1 + i / side);
            let sample =
                |v: i32, i: i32| f64::from(v) + (f64::from(i) + 0.5) / f64::from(SAMPLES) - 0.5;
            let whites = (0..SAMPLES * SAMPLES)
                .filter(|i| is_white(sample(x, i % SAMPLES), sample(y, i / SAMPLES)))
                .count();
            whites as f64 / f64::from(SAMPLES * SAMPLES)
        })
        .collect();
    // picture = dark + light * drawing - shift * its slope, by least squares.
    let (mut a, mut b) = (Matrix4::zeros(), Vector4::zeros());
    for y in 1..side - 1 {
        for x in 1..side - 1 {
            let at = |x: i32, y: i32| drawn[(y * side + x) as usize];
            let slope = [at(x + 1, y) - at(x - 1, y), at(x, y + 1) - at(x, y - 1)];
            let line = Vector4::new(1.0, at(x, y), -slope[0] / 2.0, -slope[1] / 2.0);
            let pixel = (row - REACH - 1 + y) * width + column - REACH - 1 + x;
            a += line * line.transpose();
            b += line * gray[pixel as usize];
        }
    }
    let fit = a.try_inverse().unwrap() * b;
    assert!(fit[1] > 60.0, "white is hardly lighter than black: {fit}");
    Some([fit[2] / fit[1], fit[3] / fit[1]])
}

/// Of all corners that camera 0 sees of board 0: root mean square and largest shift, pixels.
fn shifts(simulation: &mut Simulation, camera_from_board: Isometry3<f64>) -> (f64, f64) {
    let gray = picture(simulation, 0);
    let lens = simulation.config().cameras[0].intrinsics();
    let (mut squares, mut largest, mut count) = (0.0, 0.0_f64, 0);
    for row in 1..SQUARES[1] {
        for column in 1..SQUARES[0] {
            let corner = Point3::new(column as f64, row as f64, 0.0) * SQUARE_M;
            let seen = lens.project((camera_from_board * corner).coords.into());
            let Some([x, y]) = shift(&gray, &lens, &camera_from_board.inverse(), seen.unwrap())
            else {
                continue;
            };
            squares += x * x + y * y;
            largest = largest.max(x.hypot(y));
            count += 1;
        }
    }
    assert!(count >= 30, "{count} corners are in the picture");
    let rms = (squares / f64::from(count)).sqrt();
    println!("{count} corners: rms {rms:.4} px, largest {largest:.4} px");
    (rms, largest)
}

fn camera_from_board(simulation: &Simulation) -> Isometry3<f64> {
    let q = simulation.arm_state().q;
    let base_from_tool = simulation.chain().base_from_tool(q.as_slice());
    let in_base = |(mount, pose): (Mount, Isometry3<f64>)| match mount {
        Mount::World => pose,
        Mount::Wrist => base_from_tool * pose,
    };
    let base_from_camera = in_base(simulation.frame_from_camera(0).unwrap());
    base_from_camera.inverse() * in_base(simulation.frame_from_board(0).unwrap())
}

#[test]
fn corners_are_drawn_where_the_lens_says() {
    for distortion in [
        [0.0; 5],
        [-0.28, 0.09, 1e-3, -1.5e-3, 0.0],
        [0.12, -0.05, 0.0, 0.0, 0.01],
    ] {
        let lens = SceneLens { distortion, ..LENS };
        let mut simulation = scene(vec![camera(lens)], vec![checkerboard(Mount::World)]);
        let truth = camera_from_board(&simulation);
        let (rms, largest) = shifts(&mut simulation, truth);
        assert!(
            rms < 0.02 && largest < 0.06,
            "{distortion:?}: {rms} {largest}"
        );
        // The test sees it when the truth is not that: half a millimetre is more than a pixel.
        let wrong = truth * Translation3::new(5e-4, 0.0, 0.0);
        assert!(shifts(&mut simulation, wrong).0 > 0.5);
    }
}

#[test]
fn a_perfect_pinhole_is_as_its_field_of_view_says() {
    let mut camera = camera(LENS);
    (camera.lens, camera.fovy_deg) = (None, Some(46.0));
    let mut simulation = scene(vec![camera], vec![checkerboard(Mount::World)]);
    let truth = camera_from_board(&simulation);
    let (rms, largest) = shifts(&mut simulation, truth);
    // Nothing smooths its edges.
    assert!(rms < 0.05 && largest < 0.15, "{rms} {largest}");
}

#[test]
fn what_is_on_the_hand_is_where_the_tool_says() {
    let seen = |arm, camera, board, joints: &[f64]| {
        let mut simulation = scene_of(arm, vec![camera], vec![board]);
        simulation.put_arm(joints).unwrap();
        let truth = camera_from_board(&simulation);
        let (rms, largest) = shifts(&mut simulation, truth);
        assert!(rms < 0.02 && largest < 0.06, "{rms} {largest}");
    };
    // The camera rides along …
    let wrist = SceneCamera {
        mount: Mount::Wrist,
        position_m: [0.06, 0.01, 0.0],
        look_at_m: [0.03, 0.0, 0.2],
        ..camera(LENS)
    };
    let on_table = SceneBoard {
        position_m: [0.29, 0.02, 0.02],
        facing: [0.0, 0.0, 1.0],
        up: [1.0, 0.0, 0.0],
        ..checkerboard(Mount::World)
    };
    let joints = [0.1, -0.4, 0.2, 1.37, 0.3];
    seen(ArmKind::So101, wrist, on_table, &joints);
    // … or the board does, held out to the front camera.
    let in_hand = SceneBoard {
        position_m: [0.1, 0.0, 0.12],
        facing: [0.4, 0.1, 1.0],
        up: [1.0, 0.0, 0.0],
        ..checkerboard(Mount::Wrist)
    };
    let front = SceneCamera {
        position_m: [0.85, 0.0, 0.4],
        look_at_m: [0.5, 0.0, 0.35],
        ..camera(LENS)
    };
    let joints = [0.1, 0.3, 0.8, -2.5, 0.1, 0.2];
    seen(ArmKind::Desk6, front, in_hand, &joints);
}

#[test]
fn a_late_camera_shows_what_was_and_none_is_late_at_a_reset() {
    let late = |latency_ms| SceneCamera {
        name: format!("late{latency_ms}"),
        width: 64,
        height: 48,
        lens: None,
        fovy_deg: Some(60.0),
        latency_ms,
        ..camera(LENS)
    };
    let mut simulation = scene(vec![late(0.0), late(40.0), late(100.0)], Vec::new());
    let start = simulation.task().start();
    simulation.reset(&start).unwrap();
    let mut seen = Vec::new();
    let mut goal = simulation.arm_state().q;
    goal.as_mut_slice()[0] += 0.8;
    simulation.set_command(goal.as_slice(), false).unwrap();
    for _ in 0..20 {
        let before = simulation.arm_state();
        seen.push([0, 1, 2].map(|camera| picture(&mut simulation, camera)));
        assert_eq!(simulation.arm_state(), before);
        simulation.advance_ns(20_000_000);
    }
    assert_ne!(seen[0][0], seen[5][0]);
    for (i, [now, late40, late100]) in seen.iter().enumerate() {
        assert!(*late40 == seen[i.saturating_sub(2)][0], "picture {i}");
        assert!(*late100 == seen[i.saturating_sub(5)][0], "picture {i}");
        // Then the arm has left the picture.
        assert!(i > 4 || (i == 0) == (now == late40), "picture {i}");
    }
    simulation.reset(&start).unwrap();
    let again = [0, 1, 2].map(|camera| picture(&mut simulation, camera));
    assert!(again == seen[0]);
    // What is put elsewhere is seen there, by all.
    simulation.put_arm(goal.as_slice()).unwrap();
    let [now, late40, late100] = [0, 1, 2].map(|camera| picture(&mut simulation, camera));
    assert!(now == late40 && now == late100 && now != seen[0][0]);
}

#[test]
fn noise_repeats_after_a_reset() {
    let noisy = SceneCamera {
        noise_levels: 3.0,
        ..camera(LENS)
    };
    let mut simulation = scene(vec![noisy], vec![checkerboard(Mount::World)]);
    let start = simulation.task().start();
    let mut pictures = || {
        simulation.reset(&start).unwrap();
        [0, 1].map(|_| picture(&mut simulation, 0))
    };
    let first = pictures();
    assert!(first[0] != first[1]);
    assert!(first == pictures());
}

#[test]
fn an_arm_is_put_and_stays() {
    let mut simulation = scene(Vec::new(), Vec::new());
    let joints = [0.3, -0.2, 0.5, -0.4, 0.2, -1.0];
    simulation.put_arm(&joints).unwrap();
    let state = simulation.arm_state();
    assert_eq!(state.q.as_slice(), joints);
    assert!(state.qd.as_slice().iter().all(|v| *v == 0.0));
    simulation.advance_ns(500_000_000);
    let held = simulation.arm_state().q;
    let off = held
        .as_slice()
        .iter()
        .zip(joints)
        .map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f64::max) < 2e-3, "{held:?}");
    let before = simulation.arm_state();
    assert!(matches!(
        simulation.put_arm(&[f64::NAN; 6]),
        Err(SimError::Command { expected: 6, .. })
    ));
    assert_eq!(simulation.arm_state(), before);
    let error = simulation.frame_from_board(0).unwrap_err().to_string();
    assert!(error.contains("0 boards"), "{error}");
}
