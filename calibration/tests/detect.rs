//! Corners are found where they are, and what cannot be found is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{collections::BTreeMap, f64::consts::FRAC_PI_2};

use hilt_calibration::{
    board::{Board, BoardView, Pattern},
    detect::{DetectError, detect},
    picture::Gray,
};
use nalgebra::{Isometry3, Rotation3, Translation3, UnitQuaternion, Vector3};
use proptest::prelude::*;
use support::opencv;
use support::render::{Camera, Look, ORDINARY, Random, lens};

const CHARUCO: fn() -> Board = || Board::charuco(8, 6, 0.03, 0.022);
const CHECKERS: fn() -> Board = || Board::checkerboard(8, 7, 0.03);

fn camera(distortion: [f64; 5]) -> Camera {
    Camera::new(lens([640, 480], 560.0, [6.0, -5.0], distortion))
}

/// Distances of corners found from where they are, pixels: root mean square and the greatest.
fn errors(camera: &Camera, board: &Board, pose: &Isometry3<f64>, view: &BoardView) -> (f64, f64) {
    let off = view.corners.iter().map(|corner| {
        let [x, y] = camera.corner(board, pose, corner.id);
        (corner.pixel[0] - x).hypot(corner.pixel[1] - y)
    });
    let off: Vec<f64> = off.collect();
    let squares: f64 = off.iter().map(|off| off * off).sum();
    let most = off.iter().copied().fold(0.0, f64::max);
    ((squares / off.len() as f64).sqrt(), most)
}

/// Those corners of ours that OpenCV gives too: ours from theirs, theirs from the truth; root mean squares.
fn against_opencv(
    camera: &Camera,
    board: &Board,
    pose: &Isometry3<f64>,
    view: &BoardView,
    theirs: &BTreeMap<usize, [f64; 2]>,
) -> [f64; 2] {
    let mut squares = [0.0; 2];
    let mut both = 0;
    for corner in &view.corners {
        let Some(theirs) = theirs.get(&corner.id) else {
            continue;
        };
        let truth = camera.corner(board, pose, corner.id);
        both += 1;
        for (sum, from) in squares.iter_mut().zip([corner.pixel, truth]) {
            *sum += (theirs[0] - from[0]).powi(2) + (theirs[1] - from[1]).powi(2);
        }
    }
    squares.map(|sum| (sum / f64::from(both)).sqrt())
}

fn opencv_corners(board: &Board, pictures: &[Gray]) -> Vec<BTreeMap<usize, [f64; 2]>> {
    match board.pattern {
        Pattern::Charuco { .. } => opencv::ask("charuco", opencv::board(board), pictures),
        // It sees what ours do half a turn on.
        Pattern::Checkerboard => {
            let all: Vec<Vec<[f64; 2]>> =
                opencv::ask("checkerboard", opencv::board(board), pictures);
            all.into_iter()
                .map(|corners| corners.into_iter().rev().enumerate().collect())
                .collect()
        }
    }
}

#[test]
fn corners_are_found_where_they_are_and_where_opencv_finds_them() {
    for distortion in [[0.0; 5], [-0.32, 0.12, 1e-3, -1e-3, 0.0]] {
        let camera = camera(distortion);
        for board in [CHARUCO(), CHECKERS()] {
            let poses = camera.poses(&board, 6, 3);
            let pictures = poses.iter().enumerate();
            let pictures: Vec<Gray> = pictures
                .map(|(i, pose)| camera.view(&board, pose, &ORDINARY, i as u64))
                .collect();
            let theirs = opencv_corners(&board, &pictures);
            let mut squares = 0.0;
            for (i, (pose, picture)) in poses.iter().zip(&pictures).enumerate() {
                let view = detect(picture, &board).unwrap();
                let (rms, most) = errors(&camera, &board, pose, &view);
                let [apart, off] = against_opencv(&camera, &board, pose, &view, &theirs[i]);
                let named = format!(
                    "{board}, view {i}: {} corners, {rms:.3} px rms, {most:.3} at most; OpenCV {} corners, {off:.3}; apart {apart:.3}",
                    view.corners.len(),
                    theirs[i].len(),
                );
                eprintln!("{named}");
                assert!(view.corners.len() >= theirs[i].len(), "{named}");
                // In these views some squares are twelve pixels wide; OpenCV does no better there.
                assert!(rms < 0.08_f64.max(1.3 * off) && most < 0.75, "{named}");
                squares += apart * apart / poses.len() as f64;
            }
            assert!(
                squares.sqrt() < 0.2,
                "{board}: {} from OpenCV's",
                squares.sqrt()
            );
        }
    }
}

#[test]
fn it_is_found_any_way_up_and_in_large_pictures() {
    let camera = Camera::new(lens([1280, 960], 1100.0, [6.0, -5.0], [0.0; 5]));
    for board in [CHARUCO(), CHECKERS(), Board::checkerboard(7, 5, 0.03)] {
        let [width, height] = board.size_m();
        let middle = Translation3::new(-width / 2.0, -height / 2.0, 0.0);
        for quarters in 0..4 {
            let turn = Rotation3::new(Vector3::new(0.2, 0.3, 0.1))
                * Rotation3::new(Vector3::z() * f64::from(quarters) * FRAC_PI_2);
            let pose = Isometry3::from_parts(
                Translation3::new(0.0, 0.0, 0.4),
                UnitQuaternion::from_rotation_matrix(&turn),
            ) * middle;
            let picture = camera.view(&board, &pose, &ORDINARY, 5);
            let mut view = detect(&picture, &board).unwrap();
            assert_eq!(view.corners.len(), board.corners());
            if board.is_ambiguous() && (2..4).contains(&quarters) {
                // Taken for the other way up.
                let (first, last) = (
                    view.corners[0].pixel,
                    view.corners[board.corners() - 1].pixel,
                );
                assert!(first[0] + first[1] < last[0] + last[1]);
                for corner in &mut view.corners {
                    corner.id = board.corners() - 1 - corner.id;
                }
            }
            let (rms, most) = errors(&camera, &board, &pose, &view);
            assert!(
                rms < 0.1 && most < 0.3,
                "{board}, {quarters} quarters: {rms}, {most}"
            );
        }
    }
}

#[test]
fn it_is_found_in_poor_light_and_before_a_wall_of_squares() {
    let camera = camera([0.05, -0.1, 0.0, 0.0, 0.0]);
    let synthetic = Look {
        blur_px: 0.0,
        noise: 0.0,
        vignette: 0.0,
        gradient: 0.0,
        black: 0.0,
        white: 255.0,
    };
    let [noisy, soft, dim] = [ORDINARY; 3].map(|look| Look { noise: 5.0, ..look });
    let soft = Look {
        blur_px: 1.4,
        ..soft
    };
    let dim = Look {
        black: 15.0,
        white: 75.0,
        noise: 2.5,
        ..dim
    };
    for board in [CHARUCO(), CHECKERS()] {
        for (i, pose) in camera.poses(&board, 4, 9).iter().enumerate() {
            for (kind, look) in [synthetic, noisy, soft, dim].iter().enumerate() {
                let picture = camera.view_of(pose, look, i as u64, |x, y| {
                    let (u, v) = (x / board.square_m, y / board.square_m);
                    let (columns, rows) = (f64::from(board.columns), f64::from(board.rows));
                    if (-0.5..columns + 0.5).contains(&u) && (-0.5..rows + 0.5).contains(&v) {
                        return f64::from(u8::from(board.is_white(u, v)));
                    }
                    // Tiles of any brightness.
                    let (column, row) = ((x / 0.017).floor() as i64, (y / 0.023).floor() as i64);
                    Random((column * 7919 + row * 104_729) as u64).next()
                });
                let view = detect(&picture, &board).unwrap();
                let (rms, most) = errors(&camera, &board, pose, &view);
                let named =
                    format!("{board}, view {i}, look {kind}: {rms:.3} px, {most:.3} at most");
                assert!(rms < 0.25 && most < 1.0, "{named}");
                assert!(view.corners.len() + 2 >= board.corners(), "{named}");
            }
        }
    }
}

#[test]
fn a_part_of_a_charuco_board_is_enough_and_of_a_checkerboard_not() {
    let camera = camera([0.0; 5]);
    let pose = Isometry3::translation(0.02, -0.08, 0.3);
    let view = detect(&camera.view(&CHARUCO(), &pose, &ORDINARY, 1), &CHARUCO()).unwrap();
    assert!(
        view.corners.len() >= 12 && view.corners.len() < 35,
        "{}",
        view.corners.len()
    );
    let (rms, most) = errors(&camera, &CHARUCO(), &pose, &view);
    assert!(rms < 0.1 && most < 0.3, "{rms} {most}");
    let error = detect(&camera.view(&CHECKERS(), &pose, &ORDINARY, 1), &CHECKERS()).unwrap_err();
    assert!(
        matches!(
            error,
            DetectError::OtherSize { .. } | DetectError::TooFew { .. }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("wholly"), "{error}");
    // Far to the side only a row is left.
    let pose = Isometry3::translation(0.15, -0.08, 0.3);
    let error = detect(&camera.view(&CHARUCO(), &pose, &ORDINARY, 1), &CHARUCO()).unwrap_err();
    assert!(!error.to_string().is_empty());
}

/// What is said when this board is seen and that one described.
fn seen(board: &Board, described: &Board, look: &Look) -> DetectError {
    let pose = Isometry3::translation(-0.11, -0.09, 0.4);
    let picture = camera([0.0; 5]).view(board, &pose, look, 1);
    detect(&picture, described).unwrap_err()
}

#[test]
fn another_board_is_named() {
    let error = seen(&CHECKERS(), &Board::checkerboard(7, 5, 0.03), &ORDINARY);
    let wanted = "a board with 7 x 6 inner corners is seen, not one with 6 x 4; hold up the board that was described, wholly, or describe this one";
    assert_eq!(error.to_string(), wanted);
    let error = seen(&Board::checkerboard(7, 5, 0.03), &CHECKERS(), &ORDINARY);
    assert_eq!(
        error,
        DetectError::OtherSize {
            found: [6, 4],
            wanted: [7, 6]
        }
    );
    let error = seen(&CHECKERS(), &CHARUCO(), &ORDINARY);
    assert_eq!(error, DetectError::NoMarkers { corners: 42 });
    let error = seen(&CHARUCO(), &Board::charuco(7, 6, 0.03, 0.022), &ORDINARY);
    assert!(
        matches!(error, DetectError::OtherMarkers { read: 15.., .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("of another size"), "{error}");
    // Its markers are where they should be, but there are more.
    let error = seen(&CHARUCO(), &Board::charuco(8, 4, 0.03, 0.022), &ORDINARY);
    let more = matches!(
        error,
        DetectError::OtherMarkers {
            strange: 7..,
            agree: 15..,
            ..
        }
    );
    assert!(more, "{error:?}");
    let error = seen(&CHARUCO(), &Board::charuco(2, 6, 0.03, 0.022), &ORDINARY);
    assert!(matches!(error, DetectError::Board(_)), "{error}");
}

#[test]
fn a_mirrored_picture_is_named() {
    let pose = Isometry3::translation(-0.11, -0.09, 0.4);
    let picture = camera([0.0; 5]).view(&CHARUCO(), &pose, &ORDINARY, 1);
    assert_eq!(detect(&picture, &CHARUCO()).unwrap().corners.len(), 35);
    let error = detect(&picture.mirrored(), &CHARUCO()).unwrap_err();
    assert!(
        matches!(error, DetectError::Mirrored { markers: 15.. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("switch the camera's mirroring off")
    );
}

#[test]
fn a_dark_a_blurred_and_an_empty_picture_are_named() {
    let dark = Look {
        black: 10.0,
        white: 18.0,
        noise: 1.0,
        ..ORDINARY
    };
    let error = seen(&CHARUCO(), &CHARUCO(), &dark);
    assert!(
        matches!(error, DetectError::Dark { contrast: ..20.0 }),
        "{error:?}"
    );
    let blurred = Look {
        blur_px: 9.0,
        noise: 6.0,
        ..ORDINARY
    };
    let error = seen(&CHARUCO(), &CHARUCO(), &blurred);
    assert!(matches!(error, DetectError::Blurred { .. }), "{error:?}");
    // Stripes: edges enough, and no corner.
    let pose = Isometry3::translation(0.0, 0.0, 0.4);
    let stripes = |x: f64, _: f64| f64::from(u8::from((x / 0.02).floor().rem_euclid(2.0) > 0.5));
    let picture = camera([0.0; 5]).view_of(&pose, &ORDINARY, 1, stripes);
    assert_eq!(detect(&picture, &CHARUCO()), Err(DetectError::NoBoard));
    for (width, height) in [(0, 0), (1, 1), (3, 500), (500, 3)] {
        let picture = Gray::new(width, height, vec![9; (width * height) as usize]).unwrap();
        let error = detect(&picture, &CHECKERS()).unwrap_err();
        let none = matches!(error, DetectError::NoBoard | DetectError::Dark { .. });
        assert!(none, "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Noise, and noise made of squares.
    #[test]
    fn no_picture_breaks_it(
        width in 0_u32..90,
        height in 0_u32..90,
        square in 1_u32..20,
        seed in any::<u64>(),
        charuco in any::<bool>(),
    ) {
        let mut random = Random(seed);
        let squares: Vec<u8> = (0..8100).map(|_| (random.next() * 256.0) as u8).collect();
        let pixel = |i: u32| squares[(i / width / square * 90 + i % width / square) as usize];
        let pixels = (0..width * height).map(pixel).collect();
        let picture = Gray::new(width, height, pixels).unwrap();
        let board = if charuco { CHARUCO() } else { CHECKERS() };
        if let Ok(view) = detect(&picture, &board) {
            prop_assert!(view.corners.iter().all(|corner| corner.id < board.corners()));
        }
    }
}
