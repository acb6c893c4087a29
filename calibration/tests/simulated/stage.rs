//! The simulator as a place to calibrate in: an arm that is put where it is told, cameras, boards.

use hilt_calibration::{
    board::Board,
    hand_eye::{PlanOptions, Sight, view_poses},
    picture::Gray,
};
use hilt_protocol::{
    JointVector,
    calibration::{Frame, Intrinsics},
    noise::Uniforms,
    settings,
};
use hilt_sim::{ArmKind, Mount, SceneBoard, SceneCamera, SceneConfig, Simulation};
use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};
use serde::Deserialize;

/// The camera in the room: it sees the hand's board.
pub const FRONT: usize = 0;
/// The one on the hand: it sees the table's board.
pub const WRIST: usize = 1;

/// A scene, the cube out of the way.
pub struct Stage {
    pub simulation: Simulation,
    /// What its boards are.
    pub board: Board,
}

/// One look through a camera.
pub struct Look {
    /// Where the arm says that its tool is.
    pub base_from_hand: Isometry3<f64>,
    pub picture: Gray,
}

/// The part of a rig's file that is looked at here.
#[derive(Deserialize)]
struct Rig {
    scene: SceneConfig,
}

/// The picture of a board as a scene has it.
pub fn cells(board: &Board) -> Vec<String> {
    let drawn = board.draw(8, 0);
    let cell = |&level: &u8| if level == 0 { '#' } else { '.' };
    let rows = drawn.pixels().chunks(drawn.width_px() as usize);
    rows.map(|row| row.iter().map(cell).collect()).collect()
}

/// The scene of `rigs/so101-calibrate.toml`.
pub fn so101() -> SceneConfig {
    let text = include_str!("../../../rigs/so101-calibrate.toml");
    let rig: Rig = settings::parse("rig.toml", text, &[]).unwrap();
    rig.scene
}

/// The board of that rig.
pub fn so101_board() -> Board {
    Board::charuco(8, 6, 0.02, 0.015)
}

/// The same for an arm of six joints, all of it larger.
pub fn desk6() -> SceneConfig {
    let board = |mount, position_m, facing, up| SceneBoard {
        cells: cells(&desk6_board()),
        size_m: desk6_board().size_m(),
        margin_m: 0.01,
        mount,
        position_m,
        facing,
        up,
    };
    let table = board(
        Mount::World,
        [0.53, 0.02, 0.002],
        [0.0, 0.0, 1.0],
        [1.0, 0.1, 0.0],
    );
    let hand = board(
        Mount::Wrist,
        [0.09, 0.0, -0.12],
        [1.0, 0.1, 0.0],
        [0.0, 0.0, -1.0],
    );
    let scene = so101();
    let camera = |index: usize, position_m, look_at_m| SceneCamera {
        position_m,
        look_at_m,
        ..scene.cameras[index].clone()
    };
    SceneConfig {
        arm: ArmKind::Desk6,
        cameras: vec![
            camera(FRONT, [1.15, 0.06, 0.45], [0.5, 0.0, 0.40]),
            camera(WRIST, [0.07, 0.01, 0.02], [0.08, 0.0, 0.25]),
        ],
        boards: vec![table, hand],
        ..scene
    }
}

/// The board of that scene.
pub fn desk6_board() -> Board {
    Board::charuco(8, 6, 0.03, 0.0225)
}

impl Stage {
    pub fn new(config: &SceneConfig, board: Board) -> Self {
        let mut simulation = Simulation::new(config).unwrap();
        let mut aside = simulation.task().start();
        aside.cube_xy_m[1] += 0.24;
        simulation.put_cube(&aside).unwrap();
        Self { simulation, board }
    }

    pub fn so101() -> Self {
        Self::new(&so101(), so101_board())
    }

    pub fn desk6() -> Self {
        Self::new(&desk6(), desk6_board())
    }

    /// What a camera sees with the joints there.
    pub fn look(&mut self, camera: usize, joints: &JointVector) -> Look {
        self.simulation.put_arm(joints.as_slice()).unwrap();
        let q = self.simulation.arm_state().q;
        Look {
            base_from_hand: self.simulation.chain().base_from_tool(q.as_slice()),
            picture: self.picture(camera),
        }
    }

    /// Looks from where the planner says.
    pub fn looks(&mut self, camera: usize, views: usize, seed: u64) -> Vec<Look> {
        let poses = self.poses(camera, views, seed);
        poses
            .iter()
            .map(|joints| self.look(camera, joints))
            .collect()
    }

    pub fn picture(&mut self, camera: usize) -> Gray {
        let [width, height] = self.size_px(camera);
        let mut rgb = vec![0; (width * height * 3) as usize];
        self.simulation.render(camera, &mut rgb).unwrap();
        Gray::from_rgb(width, height, &rgb).unwrap()
    }

    fn size_px(&self, camera: usize) -> [u32; 2] {
        let camera = &self.simulation.config().cameras[camera];
        [camera.width, camera.height]
    }

    /// The lens as it is.
    pub fn lens(&self, camera: usize) -> Intrinsics {
        self.simulation.config().cameras[camera].intrinsics()
    }

    /// Where the camera is, and in whose frame.
    pub fn mounting(&self, camera: usize) -> (Frame, Isometry3<f64>) {
        let (mount, pose) = self.simulation.frame_from_camera(camera).unwrap();
        match mount {
            Mount::World => (Frame::Base, pose),
            Mount::Wrist => (Frame::Hand, pose),
        }
    }

    /// Where the board that a camera looks at is, in the other frame.
    pub fn board_pose(&self, camera: usize) -> Isometry3<f64> {
        let board = match self.mounting(camera).0 {
            Frame::Hand => 0,
            Frame::Base => 1,
        };
        self.simulation.frame_from_board(board).unwrap().1
    }

    /// Where that board is in the camera's frame when the hand is there.
    pub fn camera_from_board(
        &self,
        camera: usize,
        base_from_hand: &Isometry3<f64>,
    ) -> Isometry3<f64> {
        let (frame, frame_from_camera) = self.mounting(camera);
        let frame_from_other = match frame {
            Frame::Hand => base_from_hand.inverse(),
            Frame::Base => *base_from_hand,
        };
        frame_from_camera.inverse() * frame_from_other * self.board_pose(camera)
    }

    /// Joints to look at the board from: planned by what a ruler says of camera and board.
    pub fn poses(&self, camera: usize, views: usize, seed: u64) -> Vec<JointVector> {
        let (frame, frame_from_camera) = self.mounting(camera);
        let mut uniforms = Uniforms::new(seed);
        let mut roughly = |pose: Isometry3<f64>| {
            let mut some = |most: f64| Vector3::from_fn(|_, _| uniforms.range(-most, most));
            let (by, turn) = (some(0.01), some(0.05));
            pose * Isometry3::from_parts(Translation3::from(by), UnitQuaternion::new(turn))
        };
        let lens = self.lens(camera);
        let sight = Sight {
            intrinsics: &lens,
            board: &self.board,
            frame,
            frame_from_camera: roughly(frame_from_camera),
            other_from_board: roughly(self.board_pose(camera)),
        };
        let options = PlanOptions {
            views,
            seed,
            ..PlanOptions::default()
        };
        let start = self.simulation.home(&self.simulation.task().start());
        view_poses(
            self.simulation.chain(),
            &start.unwrap(),
            &options,
            Some(&sight),
        )
        .unwrap()
    }
}

/// Metres and degrees between two poses.
pub fn apart(a: &Isometry3<f64>, b: &Isometry3<f64>) -> (f64, f64) {
    let off = (a.translation.vector - b.translation.vector).norm();
    (off, a.rotation.angle_to(&b.rotation).to_degrees())
}
