use hilt_protocol::{
    JointVector,
    noise::{Uniforms, mix},
};
use hilt_sim::ArmKind;

use super::*;
use crate::synthetic::{World, lens, middle, turn};

const ARMS: [ArmKind; 3] = [ArmKind::Desk6, ArmKind::So101, ArmKind::Koch];
const FRAMES: [Frame; 2] = [Frame::Hand, Frame::Base];

fn solved(world: &World, views: &[View]) -> HandEye {
    hand_eye(&lens(), &world.board, world.frame, views).unwrap()
}

fn refused(world: &World, views: &[View]) -> HandEyeError {
    hand_eye(&lens(), &world.board, world.frame, views).unwrap_err()
}

/// How far from the truth: metres and radians.
fn error(world: &World, found: &HandEye) -> (f64, f64) {
    let off = world.frame_from_camera.inverse() * found.frame_from_camera;
    (off.translation.vector.norm(), off.rotation.angle())
}

#[test]
fn within_a_millimetre_and_a_tenth_of_a_degree_with_every_arm_and_both_ways() {
    for arm in ARMS {
        for frame in FRAMES {
            for seed in 0..3 {
                let world = World::new(arm, frame, seed);
                let found = solved(&world, &world.views(15, seed));
                let (metres, radians) = error(&world, &found);
                let what = format!(
                    "{arm:?} {frame:?} {seed}: {metres} m {radians} rad, {}",
                    found.verdict()
                );
                assert!(metres < 1e-3 && radians < 0.1f64.to_radians(), "{what}");
                assert!(found.verdict().is_good(), "{what}");
                assert_eq!(found.used(), 15, "{what}");
                assert!(
                    (0.3..0.4).contains(&found.rms_px),
                    "{what}: {}",
                    found.rms_px
                );
            }
        }
    }
}

#[test]
fn the_spread_is_that_of_the_true_error_also_of_an_arm_that_is_not_exact() {
    for (frame, arm) in [
        (Frame::Hand, [0.0, 0.0]),
        (Frame::Hand, [0.002, 0.01]),
        (Frame::Base, [0.002, 0.01]),
    ] {
        let (mut chi, mut within, mut noise) = (0.0, 0, [0.0; 2]);
        const SEEDS: u64 = 30;
        for seed in 0..SEEDS {
            let mut world = World::new(ArmKind::Desk6, frame, seed % 4);
            world.arm = arm;
            let found = solved(&world, &world.views(15, seed));
            let off =
                pose::as_change(&(found.frame_from_camera.inverse() * world.frame_from_camera));
            let inverse = found.covariance.try_inverse().unwrap();
            chi += (off.transpose() * inverse * off).x / SEEDS as f64;
            let (metres, radians) = error(&world, &found);
            let spread = found.spread;
            within += u64::from(
                metres < 3.0 * spread.translation_m && radians < 3.0 * spread.rotation_rad,
            );
            noise[0] += found.arm.translation_m / SEEDS as f64;
            noise[1] += found.arm.rotation_rad / SEEDS as f64;
        }
        // Six degrees of freedom: 6 ± 0.6, and a little more because the noise is estimated itself.
        assert!((4.5..9.0).contains(&chi), "{frame:?} {arm:?}: {chi}");
        assert!(within >= SEEDS - 1, "{frame:?} {arm:?}: {within}");
        for i in 0..2 {
            let truth = arm[i] * 3f64.sqrt();
            let near = (noise[i] - truth).abs() < 0.15 * truth + 2e-4;
            assert!(near, "{frame:?} {arm:?}: {noise:?}");
        }
    }
}

#[test]
fn a_lens_that_is_known_to_half_a_percent_is_allowed_for() {
    for frame in FRAMES {
        for seed in 0..6 {
            let world = World::new(ArmKind::So101, frame, seed);
            let mut lens = lens();
            lens.focal_px = lens.focal_px.map(|focal| focal * 1.005);
            lens.centre_px[0] += 2.0;
            let views = world.views(15, seed);
            let found = hand_eye(&lens, &world.board, frame, &views).unwrap();
            let ((metres, radians), spread) = (error(&world, &found), found.spread);
            let what = format!(
                "{frame:?} {seed}: {metres} {radians} {spread:?} {}",
                found.focal()
            );
            assert!(metres < 1e-3 && radians < 0.15f64.to_radians(), "{what}");
            let within = metres < 3.0 * spread.translation_m && radians < 3.0 * spread.rotation_rad;
            assert!(within, "{what}");
            assert!((found.focal() * 1.005 - 1.0).abs() < 0.003, "{what}");
        }
    }
}

#[test]
fn what_the_file_keeps_predicts_the_corners() {
    for frame in FRAMES {
        let world = World::new(ArmKind::So101, frame, 3);
        let mut given = lens();
        given.focal_px = given.focal_px.map(|focal| focal * 1.005);
        given.centre_px[0] += 2.0;
        let views = world.views(15, 3);
        let found = hand_eye(&given, &world.board, frame, &views).unwrap();
        let mounting = found.mounting("2026-11-21T12:00:00Z", 0);
        let camera_from_frame = Isometry3::from(mounting.frame_from_camera).inverse();
        let rms_px = |lens: &Intrinsics| {
            let (mut squares, mut corners) = (0.0, 0);
            for view in &views {
                let motion = match mounting.frame {
                    Frame::Hand => view.base_from_hand.inverse(),
                    Frame::Base => view.base_from_hand,
                };
                let pose = camera_from_frame * motion * found.other_from_board;
                for corner in &view.seen.corners {
                    let point = pose * world.board.corner_m(corner.id);
                    let [u, v] = lens.project(point.coords.into()).unwrap();
                    squares += (u - corner.pixel[0]).powi(2) + (v - corner.pixel[1]).powi(2);
                    corners += 1;
                }
            }
            pose::rms_px(squares, corners)
        };
        assert_eq!(found.used(), views.len());
        let (kept, old) = (rms_px(&found.lens(&given)), rms_px(&given));
        assert!(
            (kept - found.rms_px).abs() < 1e-6,
            "{kept} {}",
            found.rms_px
        );
        // The given lens does not go with this mounting.
        assert!(old > 3.0 * kept, "{frame:?}: {old} {kept}");
    }
}

#[test]
fn a_lens_that_is_off_by_more_than_a_percent_is_to_be_calibrated_again() {
    for (factor, word) in [(1.0 / 1.013, "longer"), (1.013, "shorter")] {
        let world = World::new(ArmKind::So101, Frame::Hand, 3);
        let mut given = lens();
        given.focal_px = given.focal_px.map(|focal| focal * factor);
        let found = hand_eye(&given, &world.board, Frame::Hand, &world.views(15, 3)).unwrap();
        let text = found.verdict().to_string();
        assert!(!found.verdict().is_good(), "{text}");
        let wanted = format!("% {word} than calibrated: calibrate the lens again");
        assert!(
            text.starts_with("the lens seems 1.") && text.contains(&wanted),
            "{text}"
        );
    }
}

#[test]
fn bad_views_are_named_and_left_out() {
    for frame in FRAMES {
        let mut world = World::new(ArmKind::Desk6, frame, 7);
        world.arm = [0.001, 0.005];
        let mut views = world.views(18, 7);
        // The hand was bumped; the arm reported an old pose; a hand in the picture; the board is gone.
        views[2].base_from_hand *= turn([0.0, 0.2, 0.0]);
        views[5].base_from_hand = views[11].base_from_hand;
        views[8].seen.corners.truncate(2);
        for corner in views[13].seen.corners.iter_mut().step_by(3) {
            corner.pixel[1] += 9.0;
        }
        let found = solved(&world, &views);
        let left_out: Vec<_> = found.left_out().collect();
        let numbers: Vec<usize> = left_out.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [3, 6, 9, 14], "{left_out:?}");
        assert!(matches!(left_out[0].1, LeftOut::Disagrees { .. }));
        assert!(
            left_out[1]
                .1
                .to_string()
                .contains("disagrees with the others by"),
            "{}",
            left_out[1].1
        );
        assert_eq!(left_out[2].1, LeftOut::Pose(PoseError::TooFew(2)));
        assert!(matches!(left_out[3].1, LeftOut::Corners { .. }));
        let ((metres, radians), spread) = (error(&world, &found), found.spread);
        let within = metres < 3.0 * spread.translation_m && radians < 3.0 * spread.rotation_rad;
        assert!(
            within && found.verdict().is_good(),
            "{metres} {radians} {spread:?}"
        );
        assert!(found.views[8].predicted.is_empty() && found.views[2].predicted.len() == 40);
    }
}

#[test]
fn numbers_that_are_none_end_in_a_reason() {
    let world = World::new(ArmKind::Desk6, Frame::Base, 2);
    let mut views = world.views(12, 2);
    views[1].base_from_hand.translation.x = f64::NAN;
    views[6].base_from_hand = Isometry3::new(Vector3::repeat(f64::INFINITY), Vector3::zeros());
    views[9].seen.corners[5].pixel = [f64::NAN, 1e300];
    let found = solved(&world, &views);
    let left_out: Vec<_> = found.left_out().collect();
    let why = [
        (2, LeftOut::NoHand),
        (7, LeftOut::NoHand),
        (10, LeftOut::Pose(PoseError::NoFit)),
    ];
    assert_eq!(left_out, why);
    for view in &mut views {
        view.base_from_hand.translation.z = f64::NAN;
    }
    assert!(matches!(
        refused(&world, &views),
        HandEyeError::TooFew { usable: 0, .. }
    ));
    assert!(matches!(
        refused(&world, &[]),
        HandEyeError::TooFew { taken: 0, .. }
    ));
    // All views are one.
    let same = vec![world.views(12, 2)[0].clone(); 12];
    assert!(matches!(
        refused(&world, &same),
        HandEyeError::NotTurned { .. }
    ));
}

#[test]
fn pictures_of_another_size_and_a_board_that_cannot_be_are_refused() {
    let mut world = World::new(ArmKind::Desk6, Frame::Hand, 2);
    let mut views = world.views(8, 2);
    (views[4].seen.width_px, views[4].seen.height_px) = (1280, 960);
    let error = refused(&world, &views).to_string();
    let wanted =
        "view 5 is of a picture of 1280 x 960 pixels, the lens was calibrated with 640 x 480";
    assert!(error.starts_with(wanted), "{error}");
    (views[4].seen.width_px, views[4].seen.height_px) = (640, 480);
    world.board.square_m = 0.0;
    let error = refused(&world, &views);
    assert!(matches!(error, HandEyeError::Board(_)), "{error}");
}

#[test]
fn a_board_that_does_not_move_with_the_arm_is_no_mounting() {
    // It was left on the table before a camera beside the arm.
    let world = World::new(ArmKind::Desk6, Frame::Base, 2);
    let mut views = world.views(12, 2);
    let mut uniforms = Uniforms::new(3);
    let start = world.chain.base_from_tool(middle(&world.chain).as_slice());
    let pose = world.camera_from_board(&start);
    for view in &mut views {
        view.seen = crate::synthetic::look(&lens(), &world.board, &pose, 0.25, &mut uniforms);
    }
    let error = refused(&world, &views);
    assert!(matches!(error, HandEyeError::OtherArm { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("not on what it is said to be on"),
        "{error}"
    );
}

#[test]
fn a_checkerboard_that_is_seen_upside_down_in_some_views_is_turned_round() {
    let mut world = World::new(ArmKind::Desk6, Frame::Hand, 3);
    world.board = Board::checkerboard(9, 6, 0.02);
    let mut views = world.views(15, 3);
    for view in views.iter_mut().step_by(3) {
        for corner in &mut view.seen.corners {
            corner.id = 39 - corner.id;
        }
    }
    let found = solved(&world, &views);
    assert_eq!(found.used(), 15);
    let (metres, radians) = error(&world, &found);
    assert!(
        metres < 1e-3 && radians < 0.1f64.to_radians(),
        "{metres} {radians}"
    );
}

#[test]
fn too_few_views() {
    let world = World::new(ArmKind::Desk6, Frame::Hand, 1);
    let mut views = world.views(6, 1);
    views[3].seen.corners.clear();
    views[4].seen.corners.clear();
    let error = refused(&world, &views).to_string();
    assert!(
        error.contains("4 of 6 views can be used and 5 are the least"),
        "{error}"
    );
    assert!(error.contains("view 4 shows 0 corners"), "{error}");
}

#[test]
fn a_hand_that_is_not_turned_or_about_one_axis_only() {
    let mut uniforms = Uniforms::new(5);
    for (frame, holder) in [
        (Frame::Hand, "the hand was"),
        (Frame::Base, "as the base sees it"),
    ] {
        let world = World::new(ArmKind::Desk6, frame, 2);
        let start = world.chain.base_from_tool(middle(&world.chain).as_slice());
        let mut of = |moved: &dyn Fn(f64) -> Isometry3<f64>| {
            let views = (0..12).map(|i| {
                let base_from_hand = moved(f64::from(i) - 5.5);
                let pose = world.camera_from_board(&base_from_hand);
                let seen =
                    crate::synthetic::look(&lens(), &world.board, &pose, 0.25, &mut uniforms);
                View {
                    base_from_hand,
                    seen,
                }
            });
            refused(&world, &views.collect::<Vec<_>>())
        };
        let error = of(&|i| start * Isometry3::translation(0.004 * i, 0.003 * (i % 3.0), 0.0));
        assert!(matches!(error, HandEyeError::NotTurned { .. }), "{error}");
        assert!(error.to_string().contains("about two axes"), "{error}");
        // About x of the frame in which the camera's place is sought.
        let error = match frame {
            Frame::Hand => of(&|i| start * turn([0.05 * i, 0.0, 0.0])),
            Frame::Base => of(&|i| {
                let place = start.translation;
                place * turn([0.05 * i, 0.0, 0.0]) * start.rotation
            }),
        };
        assert!(matches!(error, HandEyeError::OneAxis { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(holder), "{text}");
        assert!(
            text.contains("about x alone") && text.contains("about y or z as well"),
            "{text}"
        );
    }
}

#[test]
fn a_board_of_another_size_is_measured_by_the_arm() {
    for (frame, arm, really_m) in [
        (Frame::Hand, [0.0, 0.0], 0.0241),
        (Frame::Base, [0.0005, 0.003], 0.0241),
        // A page that was fitted to the printer's margins.
        (Frame::Hand, [0.0005, 0.003], 0.0194),
    ] {
        let mut world = World::new(ArmKind::Desk6, frame, 4);
        world.arm = arm;
        let joints = world.planned(20, 4);
        world.board.square_m = really_m;
        let mut uniforms = Uniforms::new(4);
        let views = joints.iter().map(|q| world.view(q, &mut uniforms));
        let views: Vec<View> = views.collect();
        world.board.square_m = 0.02;
        let HandEyeError::BoardSize { seems_m, said_m } = refused(&world, &views) else {
            panic!("{:?}", refused(&world, &views));
        };
        assert!(
            (seems_m - really_m).abs() < 0.01 * really_m && said_m == 0.02,
            "{seems_m}"
        );
        let text = refused(&world, &views).to_string();
        if arm[0] == 0.0 {
            assert!(text.contains("seem to be 24.1 mm, not 20.0 mm"), "{text}");
        }
    }
}

#[test]
fn mirrored_pictures_are_named_whether_or_not_the_board_knows_its_left() {
    for frame in FRAMES {
        let world = World::new(ArmKind::Desk6, frame, 5);
        let mut views = world.views(15, 5);
        for view in &mut views {
            for corner in &mut view.seen.corners {
                corner.pixel[0] = f64::from(view.seen.width_px) - 1.0 - corner.pixel[0];
            }
        }
        assert_eq!(refused(&world, &views), HandEyeError::Mirrored);
        // A checkerboard's corners are numbered from the left of the picture as it is.
        for view in &mut views {
            for corner in &mut view.seen.corners {
                corner.id = corner.id / 8 * 8 + 7 - corner.id % 8;
            }
        }
        assert_eq!(refused(&world, &views), HandEyeError::Mirrored);
    }
}

#[test]
fn the_calibration_of_another_robot_does_not_fit() {
    for frame in FRAMES {
        let world = World::new(ArmKind::So101, frame, 6);
        let mut uniforms = Uniforms::new(mix(6));
        let joints = world.planned(15, 6);
        let views = joints.iter().map(|joints| {
            let mut view = world.view(joints, &mut uniforms);
            // Zeros of another arm's servos, and two joints that run the other way.
            let mut other = *joints;
            for (i, q) in other.as_mut_slice().iter_mut().enumerate() {
                *q = if i == 1 || i == 3 { -*q } else { *q } + 0.2;
            }
            view.base_from_hand = world.chain.base_from_tool(other.as_slice());
            view
        });
        let error = refused(&world, &views.collect::<Vec<_>>());
        assert!(matches!(error, HandEyeError::OtherArm { .. }), "{error}");
        assert!(
            error.to_string().contains("hilt calibrate joints"),
            "{error}"
        );
    }
}

#[test]
fn the_verdict_says_what_is_missing() {
    // Well turned about the hand's z and hardly about others, with an arm that is not exact.
    let mut world = World::new(ArmKind::Desk6, Frame::Hand, 1);
    world.arm = [0.002, 0.01];
    let mut uniforms = Uniforms::new(8);
    let start = world.chain.base_from_tool(middle(&world.chain).as_slice());
    let views = (0..12).map(|i| {
        let side = [0.05, -0.05][i as usize % 2];
        let i = f64::from(i) - 5.5;
        let base_from_hand = start * turn([side, 0.0, 0.0]) * turn([0.0, 0.0, 0.06 * i]);
        let really = base_from_hand * crate::synthetic::jitter(0.002, 0.01, &mut uniforms);
        let pose = world.camera_from_board(&really);
        let seen = crate::synthetic::look(&lens(), &world.board, &pose, 0.25, &mut uniforms);
        View {
            base_from_hand,
            seen,
        }
    });
    let found = solved(&world, &views.collect::<Vec<_>>());
    let text = found.verdict().to_string();
    assert!(
        !found.verdict().is_good() && text.contains("rotation about x or y of the hand is missing"),
        "{text}"
    );
    // Turned well, and too few for an arm as bad as this.
    world.arm = [0.002, 0.012];
    let text = solved(&world, &world.views(8, 8)).verdict().to_string();
    assert!(
        text.starts_with("take about") && text.contains("more views"),
        "{text}"
    );
    assert!(!text.contains("loose"), "{text}");
    world.arm = [0.006, 0.03];
    let text = solved(&world, &world.views(8, 8)).verdict().to_string();
    assert!(
        text.contains("is something loose, are its joints calibrated"),
        "{text}"
    );
    world.arm = [0.0; 2];
    let text = solved(&world, &world.views(15, 8)).verdict().to_string();
    assert!(
        text.starts_with("good: 0.") && text.ends_with('°'),
        "{text}"
    );
}

#[test]
fn planned_views_keep_the_board_in_the_picture_and_turn_about_two_axes() {
    let lens = lens();
    for arm in ARMS {
        for frame in FRAMES {
            let world = World::new(arm, frame, 9);
            let options = PlanOptions {
                lowest_m: -9.0,
                ..PlanOptions::default()
            };
            let start = middle(&world.chain);
            let plan = |sight| view_poses(&world.chain, &start, &options, sight).unwrap();
            let sight = world.sight(&lens);
            let views = plan(Some(&sight));
            assert_eq!(views.len(), 20);
            assert_eq!(views, plan(Some(&sight)));
            let mut uniforms = Uniforms::new(0);
            for joints in &views {
                let seen = world.view(joints, &mut uniforms).seen;
                assert_eq!(
                    seen.corners.len(),
                    world.board.corners(),
                    "{arm:?} {frame:?}"
                );
                for (q, joint) in joints.as_slice().iter().zip(world.chain.joints()) {
                    assert!((joint.lower..=joint.upper).contains(q));
                }
            }
            // With nothing known of the camera they still turn, and not too far.
            let home = world.chain.base_from_tool(start.as_slice());
            for joints in plan(None) {
                let away = home.inverse() * world.chain.base_from_tool(joints.as_slice());
                assert!(away.rotation.angle() <= options.turn_rad + 1e-9);
                assert!(away.translation.vector.norm() <= options.reach_m + 1e-9);
            }
        }
    }
}

#[test]
fn where_no_views_can_be_planned_it_says_why() {
    let lens = lens();
    let world = World::new(ArmKind::Desk6, Frame::Hand, 9);
    let start = middle(&world.chain);
    let plan = |start: &_, options: &PlanOptions, sight: &Sight| {
        view_poses(&world.chain, start, options, Some(sight)).unwrap_err()
    };
    let free = PlanOptions {
        lowest_m: -9.0,
        ..PlanOptions::default()
    };
    let mut beyond = start;
    beyond.as_mut_slice()[0] = 99.0;
    assert_eq!(plan(&beyond, &free, &world.sight(&lens)), PlanError::Start);
    let mut away = world.sight(&lens);
    away.other_from_board = Isometry3::translation(5.0, 0.0, 0.0) * away.other_from_board;
    assert_eq!(plan(&start, &free, &away), PlanError::Unseen);
    let high = PlanOptions {
        lowest_m: 9.0,
        ..free
    };
    let error = plan(&start, &high, &world.sight(&lens));
    assert!(
        matches!(error, PlanError::TooFew { wanted: 20, .. }),
        "{error}"
    );
    let stiff = PlanOptions {
        turn_rad: 0.05,
        ..free
    };
    let error = plan(&start, &stiff, &world.sight(&lens));
    assert!(matches!(error, PlanError::OneAxis { .. }), "{error}");
}

#[test]
fn a_way_is_clear_if_nothing_that_is_carried_comes_too_low_on_it() {
    let lens = lens();
    let world = World::new(ArmKind::Desk6, Frame::Base, 9);
    let at = |joint: usize, by: f64| {
        let mut joints = middle(&world.chain);
        joints.as_mut_slice()[joint] += by;
        joints
    };
    let height_m = |joints: &JointVector| {
        let pose = world.chain.base_from_tool(joints.as_slice());
        pose.translation.z
    };
    let clear = |from: &_, to: &_, lowest_m| is_clear(&world.chain, from, to, lowest_m, None);
    // The wrist swings the hand from one side to the other, and through below: both ends are high.
    let [from, through, to] = [-0.6, 0.0, 0.6].map(|by| at(4, by));
    let dip_m = height_m(&through);
    assert!(height_m(&from).min(height_m(&to)) > dip_m + 0.02);
    assert!(clear(&from, &to, dip_m - 1e-3));
    assert!(!clear(&from, &to, dip_m + 1e-3));
    // Where the way ends counts, where the arm is already does not.
    let (high, low) = (at(1, 0.0), at(1, 0.3));
    let between_m = height_m(&low) + 0.005;
    assert!(height_m(&high) > between_m + 0.05);
    assert!(!clear(&high, &low, between_m) && clear(&low, &high, between_m));
    // What hangs from the hand comes lower than the hand.
    let sight = world.sight(&lens);
    let lowest = |sight| {
        let mut heights = (0..1000).map(|i| f64::from(i) * 1e-3);
        heights.find(|height| !is_clear(&world.chain, &from, &to, *height, sight))
    };
    assert!(lowest(Some(&sight)).unwrap() < lowest(None).unwrap() - 0.01);
    // A way to nowhere.
    let [none, never] = [f64::NAN, f64::INFINITY].map(|by| at(0, by));
    assert!(!clear(&from, &none, -9.0) && !clear(&none, &to, -9.0));
    assert!(!clear(&from, &never, -9.0));
    let other = JointVector::from_slice(&[0.0; 5]).unwrap();
    assert!(!clear(&from, &other, -9.0) && clear(&from, &to, -9.0));
}
