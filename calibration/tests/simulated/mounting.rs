//! Where a camera is fixed, and how two arms stand to each other.

use std::collections::BTreeMap;

use hilt_calibration::{
    bases::base_to_base,
    board::{Board, BoardView, Corner},
    detect::{DetectError, detect},
    hand_eye::{HandEyeError, View, hand_eye},
    picture::Gray,
};
use hilt_protocol::{
    JointVector,
    calibration::{Frame, Intrinsics},
};
use nalgebra::{Isometry3, Matrix3, Point3, Translation3, UnitQuaternion, Vector3};
use serde_json::json;

use crate::{
    opencv,
    stage::{FRONT, Look, Stage, WRIST, apart, cells, so101, so101_board},
};

/// What is seen in each picture.
pub fn views(board: &Board, looks: &[Look]) -> Vec<View> {
    let view = |look: &Look| View {
        base_from_hand: look.base_from_hand,
        seen: detect(&look.picture, board).unwrap(),
    };
    looks.iter().map(view).collect()
}

/// What OpenCV makes of the same corners, by its methods' names.
pub fn opencvs_mounting(
    lens: &Intrinsics,
    board: &Board,
    frame: Frame,
    views: &[View],
) -> Vec<(String, Isometry3<f64>)> {
    let rows = |pose: &Isometry3<f64>| {
        let matrix = pose.to_homogeneous();
        let row = |i: usize| matrix.row(i).iter().copied().collect();
        (0..4).map(row).collect::<Vec<Vec<f64>>>()
    };
    // It wants all corners in each view.
    let whole = |view: &&View| view.seen.corners.len() == board.corners();
    let views: Vec<_> = views.iter().filter(whole).collect();
    let motions = views.iter().map(|view| match frame {
        Frame::Hand => rows(&view.base_from_hand.inverse()),
        Frame::Base => rows(&view.base_from_hand),
    });
    let pixels = views.iter().map(|view| {
        let corners = view.seen.corners.iter().map(|corner| corner.pixel);
        corners.collect::<Vec<_>>()
    });
    let points = (0..board.corners()).map(|id| <[f64; 3]>::from(board.corner_m(id).coords));
    let ([fx, fy], [cx, cy]) = (lens.focal_px, lens.centre_px);
    let request = json!({
        "camera": [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]],
        "distortion": lens.distortion,
        "points": points.collect::<Vec<_>>(),
        "motions": motions.collect::<Vec<_>>(),
        "pixels": pixels.collect::<Vec<_>>(),
    });
    let theirs: BTreeMap<String, Vec<[f64; 4]>> = opencv::ask("hand_eye", request, &[]);
    let pose = |rows: &[[f64; 4]]| {
        let rotation = Matrix3::from_fn(|row, column| rows[row][column]);
        Isometry3::from_parts(
            Translation3::new(rows[0][3], rows[1][3], rows[2][3]),
            UnitQuaternion::from_matrix(&rotation),
        )
    };
    let poses = theirs
        .into_iter()
        .map(|(method, rows)| (method, pose(&rows)));
    poses.collect()
}

/// The same views, with the corners that OpenCV finds in the pictures.
fn opencvs_views(board: &Board, looks: &[Look]) -> Vec<View> {
    let pictures: Vec<Gray> = looks.iter().map(|look| look.picture.clone()).collect();
    let found: Vec<BTreeMap<usize, [f64; 2]>> =
        opencv::ask("charuco", opencv::board(board), &pictures);
    let view = |(look, corners): (&Look, BTreeMap<usize, [f64; 2]>)| View {
        base_from_hand: look.base_from_hand,
        seen: BoardView {
            width_px: look.picture.width_px(),
            height_px: look.picture.height_px(),
            corners: corners
                .into_iter()
                .map(|(id, pixel)| Corner { id, pixel })
                .collect(),
        },
    };
    looks.iter().zip(found).map(view).collect()
}

fn is_found(mut stage: Stage, camera: usize) {
    let looks = stage.looks(camera, 20, 3);
    let lens = stage.lens(camera);
    let (frame, truth) = stage.mounting(camera);
    let found = hand_eye(&lens, &stage.board, frame, &views(&stage.board, &looks)).unwrap();
    let (off_m, off_deg) = apart(&found.frame_from_camera, &truth);
    let (off_mm, rms_px) = (1e3 * off_m, found.rms_px);
    println!(
        "{off_mm:.3} mm {off_deg:.4}° off, {rms_px:.3} px; {}",
        found.verdict()
    );
    // A lens's centre that is fitted along and the camera's turn are nearly one.
    assert!(off_mm < 0.2 && off_deg < 0.06, "{off_mm} mm, {off_deg}°");
    assert!(found.verdict().is_good());
    let (off_m, off_deg) = apart(&found.other_from_board, &stage.board_pose(camera));
    assert!(off_m < 2e-4 && off_deg < 0.06, "{off_m} m, {off_deg}°");
    // OpenCV by itself, with its own corners: it has nothing of ours but the lens as it is.
    let theirs = opencvs_views(&stage.board, &looks);
    let whole = |view: &&View| view.seen.corners.len() == stage.board.corners();
    let whole = theirs.iter().filter(whole).count();
    assert!(whole >= 15, "OpenCV finds all corners in {whole} pictures");
    for (method, theirs) in opencvs_mounting(&lens, &stage.board, frame, &theirs) {
        let (off_m, off_deg) = apart(&found.frame_from_camera, &theirs);
        let off_mm = 1e3 * off_m;
        println!("OpenCV's {method}: {off_mm:.3} mm, {off_deg:.4}° from ours");
        assert!(
            off_mm < 1.0 && off_deg < 0.1,
            "{method}: {off_mm} mm, {off_deg}°"
        );
    }
}

#[test]
fn a_camera_on_the_hand_of_five_joints() {
    is_found(Stage::so101(), WRIST);
}

#[test]
fn a_camera_on_the_hand_of_six_joints() {
    is_found(Stage::desk6(), WRIST);
}

#[test]
fn a_camera_that_sees_the_hand_of_five_joints() {
    is_found(Stage::so101(), FRONT);
}

#[test]
fn a_camera_that_sees_the_hand_of_six_joints() {
    is_found(Stage::desk6(), FRONT);
}

#[test]
fn two_arms_that_one_camera_sees() {
    // The second arm stands beside the first and looks a little to it; the camera is between them.
    let base0_from_base1 =
        Isometry3::new(Vector3::new(0.02, 0.20, 0.0), Vector3::new(0.0, 0.0, -0.15));
    let camera = |base_from_base0: Isometry3<f64>| {
        let point = |m: [f64; 3]| (base_from_base0 * Point3::from(m)).into();
        let mut scene = so101();
        scene.cameras[FRONT].position_m = point([0.70, 0.10, 0.34]);
        scene.cameras[FRONT].look_at_m = point([0.20, 0.10, 0.27]);
        Stage::new(&scene, so101_board())
    };
    let stages = [
        camera(Isometry3::identity()),
        camera(base0_from_base1.inverse()),
    ];
    let lens = stages[0].lens(FRONT);
    let [first, second] = stages.map(|mut stage| {
        let looks = stage.looks(FRONT, 16, 5);
        views(&stage.board, &looks)
    });
    let board = so101_board();
    let found = base_to_base(&lens, [&board, &board], [&first, &second]).unwrap();
    let (off_m, off_deg) = apart(&found.base0_from_base1, &base0_from_base1);
    let off_mm = 1e3 * off_m;
    println!("{off_mm:.3} mm {off_deg:.4}° off; {}", found.verdict());
    assert!(off_mm < 0.5 && off_deg < 0.05, "{off_mm} mm, {off_deg}°");
    assert!(found.verdict().is_good());
}

#[test]
fn a_board_of_another_size_is_named_with_its_size() {
    let mut stage = Stage::so101();
    let looks = stage.looks(WRIST, 12, 3);
    let said = Board::charuco(8, 6, 0.022, 0.0165);
    let (frame, _) = stage.mounting(WRIST);
    let error = hand_eye(&stage.lens(WRIST), &said, frame, &views(&said, &looks)).unwrap_err();
    let HandEyeError::BoardSize { seems_m, said_m } = error else {
        panic!("{error}");
    };
    assert!((seems_m - 0.020).abs() < 2e-4, "{seems_m}");
    assert_eq!(said_m, 0.022);
    // Of other squares: already the picture says so.
    let other = Board::charuco(7, 5, 0.02, 0.015);
    let error = detect(&looks[0].picture, &other).unwrap_err().to_string();
    assert!(error.contains("board that was described"), "{error}");
}

/// As in a mirror.
fn mirrored(picture: &Gray) -> Gray {
    let (width, height) = (picture.width_px(), picture.height_px());
    let rows = picture.pixels().chunks(width as usize);
    let pixels = rows.flat_map(|row| row.iter().rev().copied()).collect();
    Gray::new(width, height, pixels).unwrap()
}

#[test]
fn mirrored_pictures_are_refused() {
    let mut stage = Stage::so101();
    let joints = stage.poses(WRIST, 12, 3);
    let look = stage.look(WRIST, &joints[0]);
    let error = detect(&mirrored(&look.picture), &stage.board).unwrap_err();
    assert!(matches!(error, DetectError::Mirrored { .. }), "{error}");
    // One picture of a checkerboard does not say that it is mirrored. The arm's motion does.
    let board = Board::checkerboard(8, 5, 0.02);
    let mut scene = so101();
    scene.boards[0].cells = cells(&board);
    scene.boards[0].size_m = board.size_m();
    let mut stage = Stage::new(&scene, board);
    let mut looks: Vec<_> = joints.iter().map(|q| stage.look(WRIST, q)).collect();
    let (frame, truth) = stage.mounting(WRIST);
    let lens = stage.lens(WRIST);
    let found = hand_eye(&lens, &board, frame, &views(&board, &looks)).unwrap();
    assert!(apart(&found.frame_from_camera, &truth).0 < 1e-3);
    for look in &mut looks {
        look.picture = mirrored(&look.picture);
    }
    let error = hand_eye(&lens, &board, frame, &views(&board, &looks)).unwrap_err();
    assert_eq!(error, HandEyeError::Mirrored);
}

#[test]
fn motions_that_say_too_little_are_named() {
    let mut stage = Stage::so101();
    let home = stage
        .simulation
        .home(&stage.simulation.task().start())
        .unwrap();
    let (frame, _) = stage.mounting(WRIST);
    let lens = stage.lens(WRIST);
    let mut error = |moves: &[[f64; 5]]| {
        let looks: Vec<_> = moves
            .iter()
            .map(|by| {
                let joints = home.as_slice().iter().zip(by).map(|(q, by)| q + by);
                let joints: Vec<f64> = joints.collect();
                stage.look(WRIST, &JointVector::from_slice(&joints).unwrap())
            })
            .collect();
        hand_eye(&lens, &stage.board, frame, &views(&stage.board, &looks)).unwrap_err()
    };
    // The tool points down, and is turned about the vertical only.
    let turns = [-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45].map(|roll| [0.0, 0.0, 0.0, 0.0, roll]);
    let text = error(&turns);
    assert!(matches!(text, HandEyeError::OneAxis { .. }), "{text}");
    let still = [[0.0; 5]; 8];
    let text = error(&still);
    assert!(matches!(text, HandEyeError::NotTurned { .. }), "{text}");
    let text = error(&still[..3]);
    assert!(matches!(text, HandEyeError::TooFew { .. }), "{text}");
}

#[test]
fn joints_of_another_arm_are_noticed() {
    let mut stage = Stage::so101();
    let mut looks = stage.looks(WRIST, 12, 3);
    let poses = stage.poses(WRIST, 12, 3);
    let (frame, _) = stage.mounting(WRIST);
    // Two joints whose zeros are an eighth of a turn from where the calibration has them.
    for (look, joints) in looks.iter_mut().zip(poses) {
        let mut q = joints;
        q.as_mut_slice()[1] += 0.8;
        q.as_mut_slice()[3] -= 0.8;
        look.base_from_hand = stage.simulation.chain().base_from_tool(q.as_slice());
    }
    let error = hand_eye(
        &stage.lens(WRIST),
        &stage.board,
        frame,
        &views(&stage.board, &looks),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("hilt calibrate joints"), "{error}");
}
