//! What tests look at: corners as a known camera sees a board in a known pose, with noise.

use hilt_kinematics::Chain;
use hilt_protocol::{
    JointVector,
    calibration::{Frame, Intrinsics},
    noise::{Uniforms, mix},
};
use hilt_sim::ArmKind;
use nalgebra::{Isometry3, Point3, Translation3, UnitQuaternion, Vector3};

use crate::{
    board::{Board, BoardView, Corner},
    hand_eye::{PlanOptions, Sight, View, view_poses},
};

/// A camera of 640 × 480 with a lens that bends.
pub fn lens() -> Intrinsics {
    Intrinsics {
        date: "2026-11-21T12:00:00Z".into(),
        width_px: 640,
        height_px: 480,
        focal_px: [605.0, 603.0],
        centre_px: [322.0, 236.0],
        distortion: [0.08, -0.17, 1e-3, -5e-4, 0.03],
        rms_px: 0.2,
        views: 20,
    }
}

/// A rotation by a vector.
pub fn turn(scaled_axis: [f64; 3]) -> Isometry3<f64> {
    Isometry3::rotation(Vector3::from(scaled_axis))
}

/// A pose of so much noise: standard deviation along and about each axis.
pub fn jitter(move_m: f64, turn_rad: f64, uniforms: &mut Uniforms) -> Isometry3<f64> {
    let mut draw = |of: f64| Vector3::from_fn(|_, _| of * uniforms.normal());
    let (moved, turned) = (draw(move_m), draw(turn_rad));
    Isometry3::from_parts(moved.into(), UnitQuaternion::from_scaled_axis(turned))
}

/// A pose of the board whose middle is in the picture's middle, so far away, turned at random by at most
/// so much.
pub fn facing(
    board: &Board,
    away_m: f64,
    turn_rad: f64,
    uniforms: &mut Uniforms,
) -> Isometry3<f64> {
    let turned = [0, 1, 2].map(|_| uniforms.range(-turn_rad, turn_rad) / 1.8);
    let [width, height] = board.size_m();
    let aside = [0, 1].map(|_| uniforms.range(-0.03, 0.03));
    Isometry3::translation(aside[0], aside[1], away_m)
        * turn(turned)
        * Translation3::new(-width / 2.0, -height / 2.0, 0.0)
}

/// The corners that fall into the picture, each moved by normal noise of so many pixels.
pub fn look(
    intrinsics: &Intrinsics,
    board: &Board,
    camera_from_board: &Isometry3<f64>,
    noise_px: f64,
    uniforms: &mut Uniforms,
) -> BoardView {
    let (width, height) = (intrinsics.width_px, intrinsics.height_px);
    let corners = (0..board.corners()).filter_map(|id| {
        let point: Point3<f64> = camera_from_board * board.corner_m(id);
        let [u, v] = intrinsics.project(point.coords.into())?;
        let pixel = [u, v].map(|at| at + noise_px * uniforms.normal());
        let inside = [(pixel[0], width), (pixel[1], height)];
        let inside = inside.map(|(at, size)| at >= 0.0 && at <= f64::from(size - 1));
        (inside == [true; 2]).then_some(Corner { id, pixel })
    });
    BoardView {
        width_px: width,
        height_px: height,
        corners: corners.collect(),
    }
}

/// An arm, a camera and a board that are known.
pub struct World {
    pub chain: Chain,
    pub frame: Frame,
    pub board: Board,
    pub frame_from_camera: Isometry3<f64>,
    pub other_from_board: Isometry3<f64>,
    /// The arm's own error of each view, along and about each axis of the hand.
    pub arm: [f64; 2],
    pub noise_px: f64,
}

impl World {
    /// The arm in the middle of its joints' ranges; the board before the camera, which is where it may
    /// be at this seed.
    pub fn new(arm: ArmKind, frame: Frame, seed: u64) -> Self {
        let chain = hilt_sim::chain(arm).unwrap();
        let mut uniforms = Uniforms::new(mix(seed));
        let board = Board::charuco(9, 6, 0.02, 0.015);
        let camera_from_board = facing(&board, 0.3, 0.3, &mut uniforms);
        let base_from_hand = chain.base_from_tool(middle(&chain).as_slice());
        let (frame_from_camera, other_from_board) = match frame {
            Frame::Hand => {
                let x =
                    Isometry3::translation(0.04, -0.03, -0.06) * jitter(0.01, 0.3, &mut uniforms);
                (x, base_from_hand * x * camera_from_board)
            }
            Frame::Base => {
                let y =
                    Isometry3::translation(-0.05, 0.02, 0.05) * jitter(0.01, 0.3, &mut uniforms);
                (base_from_hand * y * camera_from_board.inverse(), y)
            }
        };
        Self {
            chain,
            frame,
            board,
            frame_from_camera,
            other_from_board,
            arm: [0.0; 2],
            noise_px: 0.25,
        }
    }

    /// What may be known of it before.
    pub fn sight<'a>(&'a self, lens: &'a Intrinsics) -> Sight<'a> {
        Sight {
            intrinsics: lens,
            board: &self.board,
            frame: self.frame,
            frame_from_camera: self.frame_from_camera * turn([0.03, -0.02, 0.02]),
            other_from_board: self.other_from_board * Isometry3::translation(0.005, 0.005, -0.01),
        }
    }

    /// Joints that the planner gives.
    pub fn planned(&self, views: usize, seed: u64) -> Vec<JointVector> {
        let options = PlanOptions {
            views,
            lowest_m: -9.0,
            seed,
            ..PlanOptions::default()
        };
        let lens = lens();
        view_poses(
            &self.chain,
            &middle(&self.chain),
            &options,
            Some(&self.sight(&lens)),
        )
        .unwrap()
    }

    /// Where the board is in the camera's frame when the hand is there.
    pub fn camera_from_board(&self, base_from_hand: &Isometry3<f64>) -> Isometry3<f64> {
        let motion = match self.frame {
            Frame::Hand => base_from_hand.inverse(),
            Frame::Base => *base_from_hand,
        };
        self.frame_from_camera.inverse() * motion * self.other_from_board
    }

    /// A view at these joints.
    pub fn view(&self, joints: &JointVector, uniforms: &mut Uniforms) -> View {
        let base_from_hand = self.chain.base_from_tool(joints.as_slice());
        let really = base_from_hand * jitter(self.arm[0], self.arm[1], uniforms);
        let pose = self.camera_from_board(&really);
        View {
            base_from_hand,
            seen: look(&lens(), &self.board, &pose, self.noise_px, uniforms),
        }
    }

    /// Views where the planner says.
    pub fn views(&self, views: usize, seed: u64) -> Vec<View> {
        let mut uniforms = Uniforms::new(mix(seed ^ 0x7669_6577));
        let joints = self.planned(views, seed);
        joints
            .iter()
            .map(|joints| self.view(joints, &mut uniforms))
            .collect()
    }
}

/// All joints in the middle of their ranges.
pub fn middle(chain: &Chain) -> JointVector {
    let mut middle = chain.zeros();
    for (q, joint) in middle.as_mut_slice().iter_mut().zip(chain.joints()) {
        *q = (joint.lower + joint.upper) / 2.0;
    }
    middle
}
