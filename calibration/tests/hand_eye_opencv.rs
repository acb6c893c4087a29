//! OpenCV finds the same mounting from the same corners.

mod support;

use std::collections::BTreeMap;

use hilt_calibration::{
    board::{Board, BoardView, Corner},
    hand_eye::{View, hand_eye},
};
use hilt_protocol::{
    calibration::{Frame, Intrinsics},
    noise::Uniforms,
};
use nalgebra::{Isometry3, Matrix4, Vector3};
use serde_json::json;
use support::opencv;

fn lens() -> Intrinsics {
    Intrinsics {
        date: String::new(),
        width_px: 640,
        height_px: 480,
        focal_px: [605.0, 603.0],
        centre_px: [322.0, 236.0],
        distortion: [0.08, -0.17, 1e-3, -5e-4, 0.03],
        rms_px: 0.1,
        views: 20,
    }
}

/// Row after row.
fn rows(pose: &Isometry3<f64>) -> Vec<Vec<f64>> {
    let matrix = pose.to_homogeneous();
    let row = |i: usize| matrix.row(i).iter().copied().collect();
    (0..4).map(row).collect()
}

/// Twenty views of a board before the camera, turned at random.
fn views(
    frame: Frame,
    board: &Board,
    truth: &Isometry3<f64>,
    uniforms: &mut Uniforms,
) -> Vec<View> {
    let [width, height] = board.size_m();
    let middle = Isometry3::translation(-width / 2.0, -height / 2.0, 0.0);
    let other_from_board =
        Isometry3::new(Vector3::new(0.1, 0.3, 0.05), Vector3::new(0.4, -0.8, 1.1));
    let views = (0..20).map(|_| {
        let moved = Vector3::new(0.0, 0.0, uniforms.range(0.28, 0.4));
        let turned = Vector3::from_fn(|_, _| uniforms.range(-0.45, 0.45));
        let camera_from_board = Isometry3::new(moved, turned) * middle;
        let motion = truth * camera_from_board * other_from_board.inverse();
        let corners = (0..board.corners()).map(|id| {
            let point = camera_from_board * board.corner_m(id);
            let pixel = lens().project(point.coords.into());
            let pixel = pixel.expect("before the camera");
            let pixel = pixel.map(|at| at + 0.03 * uniforms.normal());
            Corner { id, pixel }
        });
        let seen = BoardView {
            width_px: 640,
            height_px: 480,
            corners: corners.collect(),
        };
        let base_from_hand = match frame {
            Frame::Hand => motion.inverse(),
            Frame::Base => motion,
        };
        View {
            base_from_hand,
            seen,
        }
    });
    views.collect()
}

#[test]
fn opencvs_park_and_tsai_find_the_same_mounting() {
    let board = Board::charuco(9, 6, 0.02, 0.015);
    let mut uniforms = Uniforms::new(11);
    for frame in [Frame::Hand, Frame::Base] {
        let truth = Isometry3::new(
            Vector3::new(0.05, -0.02, 0.06),
            Vector3::new(0.3, 0.1, -1.2),
        );
        let views = views(frame, &board, &truth, &mut uniforms);
        let ours = hand_eye(&lens(), &board, frame, &views)
            .unwrap()
            .frame_from_camera;
        let [fx, fy] = lens().focal_px;
        let [cx, cy] = lens().centre_px;
        let points = (0..board.corners()).map(|id| board.corner_m(id).coords);
        let motions = views.iter().map(|view| match frame {
            Frame::Hand => rows(&view.base_from_hand.inverse()),
            Frame::Base => rows(&view.base_from_hand),
        });
        let pixels = views
            .iter()
            .map(|view| view.seen.corners.iter().map(|corner| corner.pixel));
        let request = json!({
            "camera": [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]],
            "distortion": lens().distortion,
            "points": points.map(|point| [point.x, point.y, point.z]).collect::<Vec<_>>(),
            "motions": motions.collect::<Vec<_>>(),
            "pixels": pixels.map(|view| view.collect()).collect::<Vec<Vec<[f64; 2]>>>(),
        });
        let theirs: BTreeMap<String, Vec<[f64; 4]>> = opencv::ask("hand_eye", request, &[]);
        assert_eq!(theirs.len(), 2);
        for (method, theirs) in theirs {
            let theirs = Matrix4::from_fn(|row, column| theirs[row][column]);
            let off = ours.inverse().to_homogeneous() * theirs;
            let moved = off.fixed_view::<3, 1>(0, 3).norm();
            // Of a rotation matrix the trace is 1 + 2 cos.
            let turned = ((off.fixed_view::<3, 3>(0, 0).trace() - 1.0) / 2.0)
                .min(1.0)
                .acos();
            let what = format!("{frame:?} {method}: {moved} m, {turned} rad");
            assert!(moved < 1e-3 && turned < 0.1f64.to_radians(), "{what}");
        }
        let off = truth.inverse() * ours;
        assert!(
            off.translation.vector.norm() < 1e-4 && off.rotation.angle() < 5e-4,
            "{off}"
        );
    }
}
