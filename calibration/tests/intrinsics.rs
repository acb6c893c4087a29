//! The lens is found that the pictures were taken through, and OpenCV finds the same; what does not say
//! which lens it was is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use hilt_calibration::{
    board::{Board, BoardView, Corner},
    detect::detect,
    intrinsics::{
        IntrinsicsError, IntrinsicsReport, LeftOut, Missing, Tilt, Verdict, calibrate, is_new,
        missing,
    },
    picture::Gray,
};
use hilt_protocol::calibration::Intrinsics;
use nalgebra::{Isometry3, Point3, Translation3, UnitQuaternion, Vector3};
use proptest::prelude::*;
use serde::Deserialize;
use support::opencv;
use support::render::{Camera, Look, ORDINARY, Random, lens};

const CHARUCO: fn() -> Board = || Board::charuco(8, 6, 0.03, 0.022);
const CHECKERS: fn() -> Board = || Board::checkerboard(8, 7, 0.03);

/// An ordinary lens, a wide one, one that is neither, whose centre is far off.
fn cameras() -> [Camera; 3] {
    let narrow = lens([640, 480], 620.0, [4.0, -3.0], [0.05, -0.1, 0.0, 0.0, 0.0]);
    let wide = lens(
        [640, 480],
        400.0,
        [-5.0, 6.0],
        [-0.28, 0.09, 1e-3, -1e-3, -0.012],
    );
    let off = lens(
        [640, 480],
        540.0,
        [30.0, -25.0],
        [0.12, -0.2, -2e-3, 2e-3, 0.05],
    );
    [narrow, wide, off].map(Camera::new)
}

/// Greatest error of focal lengths and of the centre's coordinates, in parts of each.
fn error(found: &Intrinsics, truth: &Intrinsics) -> f64 {
    let focal = [0, 1].map(|i| (found.focal_px[i] / truth.focal_px[i] - 1.0).abs());
    let centre = [0, 1].map(|i| (found.centre_px[i] / truth.centre_px[i] - 1.0).abs());
    focal.into_iter().chain(centre).fold(0.0, f64::max)
}

/// The largest distance between where two lenses see a ray, pixels: what focal length, centre and
/// distortion come to together, whose coefficients make up for each other. The rays are those on which a
/// third lens sees the views' corners. Beyond these, in the picture's own corners, where no board with a
/// white rim can be seen, every lens is a guess.
fn apart_px(seen: &Intrinsics, lenses: [&Intrinsics; 2], views: &[BoardView]) -> f64 {
    let corners = views.iter().flat_map(|view| &view.corners);
    let apart = corners.map(|corner| {
        let [x, y] = seen.ray(corner.pixel).unwrap();
        let [a, b] = lenses.map(|lens| lens.project([x, y, 1.0]).unwrap());
        (a[0] - b[0]).hypot(a[1] - b[1])
    });
    apart.fold(0.0, f64::max)
}

#[derive(Deserialize)]
struct Theirs {
    focal_px: [f64; 2],
    centre_px: [f64; 2],
    distortion: [f64; 5],
    rms_px: f64,
}

fn found_from_pictures(camera: &Camera, board: &Board, seed: u64) {
    let poses = camera.poses(board, 14, seed);
    let look = |i: usize| Look {
        blur_px: [0.5, 0.8, 1.1][i % 3],
        noise: [2.0, 4.0][i % 2],
        ..ORDINARY
    };
    let pictures = poses.iter().enumerate();
    let pictures = pictures.map(|(i, pose)| camera.view(board, pose, &look(i), seed + i as u64));
    let pictures: Vec<Gray> = pictures.collect();
    let views: Vec<BoardView> = pictures.iter().map(|p| detect(p, board).unwrap()).collect();
    let report = calibrate(board, &views).unwrap();
    let ours = &report.intrinsics;
    let off = error(ours, &camera.lens);
    let theirs: Theirs = opencv::ask("intrinsics", opencv::board(board), &pictures);
    let theirs = Intrinsics {
        focal_px: theirs.focal_px,
        centre_px: theirs.centre_px,
        distortion: theirs.distortion,
        rms_px: theirs.rms_px,
        ..camera.lens.clone()
    };
    let [apart, off_theirs] = [error(ours, &theirs), error(&theirs, &camera.lens)];
    let [bent_px, bent_theirs_px, bent_apart_px] = [
        [&camera.lens, ours],
        [&camera.lens, &theirs],
        [&theirs, ours],
    ]
    .map(|lenses| apart_px(&camera.lens, lenses, &views));
    let named = format!(
        "{board}: {:.3} % from the truth, OpenCV {:.3} %, apart {:.3} %; where corners are {bent_px:.2} px, OpenCV {bent_theirs_px:.2} px, apart {bent_apart_px:.2} px; left {:.3} px, OpenCV {:.3} px; {}",
        off * 100.0,
        off_theirs * 100.0,
        apart * 100.0,
        ours.rms_px,
        theirs.rms_px,
        report.verdict
    );
    println!("{named}");
    assert!(off < 0.005 && apart < 0.005, "{named}");
    // The centre, known to half a pixel, and the focal length, known to a thousandth, come to one pixel;
    // OpenCV, which always frees k3, is farther from the truth, and so from ours.
    assert!(bent_px < 1.25 && bent_apart_px < 2.5, "{named}");
    assert!(ours.rms_px < 0.3, "{named}");
    // A board that is far away and held steeply may be left out.
    assert!(ours.views >= 12, "{named}");
}

#[test]
fn an_ordinary_lens_is_found_from_pictures() {
    found_from_pictures(&cameras()[0], &CHARUCO(), 1);
    found_from_pictures(&cameras()[0], &CHECKERS(), 2);
}

#[test]
fn a_wide_lens_is_found_from_pictures() {
    found_from_pictures(&cameras()[1], &CHARUCO(), 3);
    found_from_pictures(&cameras()[1], &CHECKERS(), 4);
}

#[test]
fn a_lens_that_is_off_its_middle_is_found_from_pictures() {
    found_from_pictures(&cameras()[2], &CHARUCO(), 5);
    found_from_pictures(&cameras()[2], &CHECKERS(), 6);
}

fn views(camera: &Camera, board: &Board, poses: &[Isometry3<f64>], noise: f64) -> Vec<BoardView> {
    let poses = poses.iter().enumerate();
    poses
        .map(|(i, pose)| camera.corners(board, pose, noise, i as u64 + 1))
        .collect()
}

#[test]
fn its_deviations_are_those_of_many_fits() {
    // How far each value is from the truth, in the deviations that the fit gives, squared.
    let (mut squares, mut values) = (0.0, 0);
    for seed in 0..20 {
        let camera = &cameras()[seed as usize % 3];
        let poses = camera.poses(&CHARUCO(), 15, 100 + seed);
        let views: Vec<BoardView> = (0..15)
            .map(|i| camera.corners(&CHARUCO(), &poses[i], 0.1, 1000 * seed + i as u64))
            .collect();
        let report = calibrate(&CHARUCO(), &views).unwrap();
        // By these corners alone the centre is known to a pixel, which is half a percent of it.
        assert!(
            error(&report.intrinsics, &camera.lens) < 0.0075,
            "seed {seed}"
        );
        // Two numbers to each corner.
        let rms = report.intrinsics.rms_px / std::f64::consts::SQRT_2;
        assert!((rms - 0.1).abs() < 0.01, "seed {seed}: {rms}");
        let (found, truth, deviation) = (&report.intrinsics, &camera.lens, &report.deviation);
        for i in 0..2 {
            for (found, truth, deviation) in [
                (found.focal_px[i], truth.focal_px[i], deviation.focal_px[i]),
                (
                    found.centre_px[i],
                    truth.centre_px[i],
                    deviation.centre_px[i],
                ),
            ] {
                let off = (found - truth) / deviation;
                assert!(
                    off.abs() < 4.5,
                    "seed {seed}: {found} {truth} ± {deviation}"
                );
                squares += off.powi(2);
                values += 1;
            }
        }
    }
    let mean = squares / f64::from(values);
    assert!((0.5..2.0).contains(&mean), "{mean}");
}

#[test]
fn k3_is_found_where_it_is_seen_and_left_alone_where_not() {
    let [narrow, ..] = cameras();
    let strong = Camera::new(lens(
        [640, 480],
        420.0,
        [0.0; 2],
        [-0.3, 0.15, 0.0, 0.0, -0.06],
    ));
    let of = |camera: &Camera| {
        let poses = camera.poses(&CHARUCO(), 20, 3);
        calibrate(&CHARUCO(), &views(camera, &CHARUCO(), &poses, 0.05)).unwrap()
    };
    let report = of(&narrow);
    assert_eq!(
        (
            report.intrinsics.distortion[4],
            report.deviation.distortion[4]
        ),
        (0.0, 0.0)
    );
    let report = of(&strong);
    let (k3, deviation) = (
        report.intrinsics.distortion[4],
        report.deviation.distortion[4],
    );
    assert!(
        deviation > 0.0 && (k3 + 0.06).abs() < 4.0 * deviation,
        "{k3} ± {deviation}"
    );
}

#[test]
fn bad_views_are_named_and_do_no_harm() {
    let [camera, ..] = cameras();
    let board = CHARUCO();
    let poses = camera.poses(&board, 16, 21);
    let mut views = views(&camera, &board, &poses, 0.1);
    let good = calibrate(&board, &views).unwrap();
    assert!(good.views.iter().all(|view| view.left_out.is_none()));
    // The board moved while the sensor was read: lower corners are seen elsewhere.
    for corner in &mut views[3].corners {
        corner.pixel[0] += 2.0 * (0.05 * corner.pixel[1]).sin();
    }
    // A bent board: its middle four millimetres nearer than its edges.
    for corner in &mut views[9].corners {
        let flat = board.corner_m(corner.id);
        let bend = 4e-3 * (flat.x / board.size_m()[0] * std::f64::consts::PI).sin();
        let p = poses[9] * Point3::new(flat.x, flat.y, -bend);
        corner.pixel = camera.lens.project([p.x, p.y, p.z]).unwrap();
    }
    // One corner was taken for another.
    views[12].corners[7].pixel[0] += 9.0;
    // A hand before it.
    views[14].corners.truncate(4);
    // Corners of something else.
    let mut random = Random(5);
    for corner in &mut views[15].corners {
        corner.pixel = [random.between(0.0, 640.0), random.between(0.0, 480.0)];
    }
    let report = calibrate(&board, &views).unwrap();
    for (i, view) in report.views.iter().enumerate() {
        let as_it_should = match (i, view.left_out) {
            (3 | 9 | 12, Some(LeftOut::FarOff { rms_px, others_px })) => {
                rms_px > 2.0 * others_px && view.rms_px > 0.3
            }
            (14, Some(LeftOut::FewCorners { found: 4 })) => true,
            (15, Some(LeftOut::NotTheBoard)) => true,
            (3 | 9 | 12 | 14 | 15, _) => false,
            (_, left_out) => left_out.is_none() && view.rms_px < 0.2,
        };
        assert!(
            as_it_should,
            "view {i}: {:?}, {}",
            view.left_out, view.rms_px
        );
    }
    assert_eq!(report.intrinsics.views, 11);
    assert!(error(&report.intrinsics, &camera.lens) < 0.005);
    let reason = report.views[9].left_out.unwrap().to_string();
    assert!(
        reason.contains("the board moved or was bent, or the picture is blurred"),
        "{reason}"
    );
}

#[test]
fn a_blurred_picture_is_named() {
    let [camera, ..] = cameras();
    let poses = camera.poses(&CHARUCO(), 10, 31);
    let blurred = Look {
        blur_px: 2.2,
        noise: 6.0,
        ..ORDINARY
    };
    let views = poses.iter().enumerate().map(|(i, pose)| {
        let look = if i == 4 { blurred } else { ORDINARY };
        detect(&camera.view(&CHARUCO(), pose, &look, i as u64), &CHARUCO()).unwrap()
    });
    let views: Vec<BoardView> = views.collect();
    let report = calibrate(&CHARUCO(), &views).unwrap();
    for (i, view) in report.views.iter().enumerate() {
        let reason = view.left_out.map(|left_out| left_out.to_string());
        let blurred = reason
            .as_ref()
            .is_some_and(|reason| reason.contains("blurred"));
        assert_eq!(blurred, i == 4, "view {i}: {reason:?}");
    }
    assert!(error(&report.intrinsics, &camera.lens) < 0.005);
}

fn fails(views: &[BoardView]) -> IntrinsicsError {
    calibrate(&CHARUCO(), views).unwrap_err()
}

#[test]
fn views_that_say_too_little_are_named() {
    let [camera, ..] = cameras();
    let board = CHARUCO();
    let poses = camera.poses(&board, 8, 41);
    let all = views(&camera, &board, &poses, 0.1);
    assert_eq!(
        fails(&all[..3]),
        IntrinsicsError::TooFew {
            usable: 3,
            views: 3
        }
    );
    assert_eq!(
        fails(&[]),
        IntrinsicsError::TooFew {
            usable: 0,
            views: 0
        }
    );
    assert_eq!(fails(&vec![all[0].clone(); 8]), IntrinsicsError::SamePose);
    // Parallel to the sensor, near and far and all over the picture.
    let upright = |i: usize| {
        let [x, y] = [(i % 3) as f64, (i / 3) as f64].map(|v| (v - 1.0) * 0.05);
        Isometry3::translation(x - 0.12, y - 0.09, 0.35 + 0.05 * (i % 4) as f64)
    };
    let parallel: Vec<_> = (0..9).map(upright).collect();
    for noise in [0.0, 0.1, 0.3] {
        let error = fails(&views(&camera, &board, &parallel, noise));
        let named = matches!(
            error,
            IntrinsicsError::Parallel { .. } | IntrinsicsError::Undetermined
        );
        assert!(named, "{error}");
        assert!(error.to_string().contains("at an angle"), "{error}");
    }
    // Always tilted the same way.
    let tilt = UnitQuaternion::from_scaled_axis(Vector3::new(0.4, 0.0, 0.0));
    let tilted: Vec<_> = parallel
        .iter()
        .map(|pose| Isometry3::from_parts(pose.translation, tilt))
        .collect();
    let error = fails(&views(&camera, &board, &tilted, 0.1));
    assert!(matches!(error, IntrinsicsError::Parallel { .. }), "{error}");
}

#[test]
fn views_that_do_not_belong_together_are_named() {
    let [camera, ..] = cameras();
    let board = CHARUCO();
    let poses = camera.poses(&board, 8, 51);
    let all = views(&camera, &board, &poses, 0.1);
    let mut other = all.clone();
    other[5].width_px = 1280;
    let error = fails(&other);
    assert!(
        matches!(error, IntrinsicsError::PictureSize { view: 5, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("1280 x 480"), "{error}");
    // Of a board of another size: numbers that this one does not have, or corners in other places.
    let larger = Board::charuco(9, 6, 0.03, 0.022);
    let seen = views(&camera, &larger, &poses, 0.1);
    let error = fails(&seen);
    assert!(
        matches!(
            error,
            IntrinsicsError::NoSuchCorner {
                view: 0,
                corner: 35,
                ..
            }
        ),
        "{error}"
    );
    let narrower = Board::charuco(7, 6, 0.03, 0.022);
    let error = fails(&views(&camera, &narrower, &poses, 0.1));
    assert!(
        matches!(error, IntrinsicsError::OtherBoard { views: 8, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("another size"), "{error}");
    let mut twice = all.clone();
    twice[2].corners[4].id = 3;
    assert_eq!(fails(&twice), IntrinsicsError::BrokenView { view: 2 });
    twice[2].corners[4] = Corner {
        id: 4,
        pixel: [f64::NAN, 0.0],
    };
    assert_eq!(fails(&twice), IntrinsicsError::BrokenView { view: 2 });
    let error = fails(&views(&camera, &board, &poses, 2.0));
    assert!(
        matches!(error, IntrinsicsError::Misfit { rms_px: 2.0.. }),
        "{error}"
    );
    assert_eq!(
        calibrate(&Board::checkerboard(2, 7, 0.03), &all)
            .unwrap_err()
            .to_string(),
        "a board has 3 to 30 squares along each side and at most 50 markers, not 2 x 7"
    );
}

fn verdict(poses: &[Isometry3<f64>], noise: f64) -> IntrinsicsReport {
    let [camera, ..] = cameras();
    calibrate(&CHARUCO(), &views(&camera, &CHARUCO(), poses, noise)).unwrap()
}

#[test]
fn a_person_is_told_what_to_think_and_what_to_do() {
    let [camera, ..] = cameras();
    let poses = camera.poses(&CHARUCO(), 24, 61);
    let good = verdict(&poses, 0.1).verdict;
    assert_eq!(good.to_string(), "good: 0.14 px over 24 views");
    assert!(good.is_good());
    let few = verdict(&poses[..9], 0.1).verdict;
    assert!(few.to_string().contains("3 more views"), "{few}");
    assert!(!few.is_good());
    let rough = verdict(&poses, 0.6).verdict;
    assert!(matches!(rough, Verdict::Rough { .. }), "{rough}");
    // Never near the picture's edge, and hardly tilted.
    let middle: Vec<_> = (0..16)
        .map(|i| {
            let [x, y] = [(i % 4) as f64, (i / 4) as f64].map(|v| (v - 1.5) * 0.1);
            let turn = UnitQuaternion::from_scaled_axis(Vector3::new(x, y, 0.0));
            let place = Translation3::new(0.2 * x, 0.2 * y, 0.9);
            Isometry3::from_parts(place, turn) * Translation3::new(-0.12, -0.09, 0.0)
        })
        .collect();
    let vague = verdict(&middle, 0.2).verdict;
    assert!(matches!(vague, Verdict::Vague { .. }), "{vague}");
    for wanted in ["the picture's top left", "its right nearer to the camera"] {
        assert!(vague.to_string().contains(wanted), "{vague}");
    }
}

#[test]
fn the_guide_leads_to_views_that_are_enough() {
    let [_, camera, _] = cameras();
    let board = CHECKERS();
    let all = missing(&board, &[]);
    assert_eq!(all.len(), 9);
    assert_eq!(all[0].to_string(), "12 more views");
    let mut taken: Vec<BoardView> = vec![];
    let mut offered = 0;
    for pose in camera.poses(&board, 200, 71) {
        let view = camera.corners(&board, &pose, 0.1, offered);
        offered += 1;
        if is_new(&taken, &view) {
            taken.push(view.clone());
            // The next picture of a live camera shows the same.
            assert!(!is_new(&taken, &view));
        }
        if missing(&board, &taken).is_empty() {
            break;
        }
    }
    assert!(
        (12..40).contains(&taken.len()),
        "{} of {offered}",
        taken.len()
    );
    let report = calibrate(&board, &taken).unwrap();
    assert!(report.verdict.is_good(), "{}", report.verdict);
    assert!(error(&report.intrinsics, &camera.lens) < 0.005);
    // A board with its right side nearer, by the formula.
    let turn = UnitQuaternion::from_scaled_axis(Vector3::y() * 0.5);
    let pose = Isometry3::from_parts(Translation3::new(-0.1, -0.1, 0.4), turn);
    assert!((pose * board.corner_m(6)).z < (pose * board.corner_m(0)).z);
    let lacks = missing(&board, &[camera.corners(&board, &pose, 0.0, 1)]);
    assert!(!lacks.contains(&Missing::Tilt(Tilt::Right)), "{lacks:?}");
    assert!(lacks.contains(&Missing::Tilt(Tilt::Left)), "{lacks:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Views of nothing give an error or a lens that can be written down, and never break it.
    #[test]
    fn no_views_break_it(seed in any::<u64>(), count in 0_usize..9, spread in 0.0..600.0) {
        let mut random = Random(seed);
        let board = Board::checkerboard(5, 4, 0.03);
        let view = |random: &mut Random| BoardView {
            width_px: 640,
            height_px: 480,
            corners: (0..12).map(|id| {
                let place = board.corner_m(id) * 5000.0;
                let off = [random.normal(), random.normal()].map(|v| v * spread * random.next());
                Corner { id, pixel: [place.x + off[0], place.y + off[1]] }
            }).collect(),
        };
        let views: Vec<BoardView> = (0..count).map(|_| view(&mut random)).collect();
        let _ = missing(&board, &views);
        if let Ok(report) = calibrate(&board, &views) {
            prop_assert!(report.intrinsics.focal_px.iter().all(|f| f.is_finite()));
        }
    }
}
