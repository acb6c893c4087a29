//! The lens and all poses of the board at once: a start from homographies (Zhang, "A Flexible New
//! Technique for Camera Calibration", 2000), then the fit.

use hilt_protocol::calibration::Intrinsics;
use nalgebra::{
    DMatrix, DVector, Isometry3, Matrix2, Matrix3, Rotation3, Translation3, UnitQuaternion,
    Vector2, Vector3,
};

use crate::{
    board::{Board, BoardView},
    homography::Homography,
    least_squares::Fit,
    pose::reprojection,
};

/// Unknowns of a lens: focal lengths, centre, k1, k2, p1, p2, and k3 last.
pub const LENS: usize = 9;

/// Of a pose.
const POSE: usize = 6;

/// What is sought.
#[derive(Clone, Debug)]
pub struct State {
    /// The lens.
    pub lens: Intrinsics,
    /// `camera_from_board` of each view.
    pub poses: Vec<Isometry3<f64>>,
}

/// What of the lens is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// All but k3.
    WithoutK3,
    /// All.
    All,
}

/// Corners seen, and what a lens and poses predict.
pub struct Bundle<'a> {
    pub board: &'a Board,
    pub views: Vec<&'a BoardView>,
    pub free: Free,
}

impl Bundle<'_> {
    fn lens_unknowns(&self) -> usize {
        match self.free {
            Free::WithoutK3 => LENS - 1,
            Free::All => LENS,
        }
    }

    /// What is left of one view, as [`left`].
    pub fn left(&self, state: &State, view: usize) -> Vec<[f64; 2]> {
        left(
            &state.lens,
            self.board,
            self.views[view],
            &state.poses[view],
        )
    }
}

/// What is left of a view: seen less predicted, pixels; not finite where nothing is predicted.
pub fn left(
    lens: &Intrinsics,
    board: &Board,
    view: &BoardView,
    camera_from_board: &Isometry3<f64>,
) -> Vec<[f64; 2]> {
    let mut off = vec![0.0; 2 * view.corners.len()];
    reprojection(lens, board, &view.corners, camera_from_board, &mut off);
    off.chunks_exact(2).map(|off| [-off[0], -off[1]]).collect()
}

impl Fit for Bundle<'_> {
    type State = State;

    fn unknowns(&self) -> usize {
        self.lens_unknowns() + POSE * self.views.len()
    }

    fn residuals(&self) -> usize {
        2 * self
            .views
            .iter()
            .map(|view| view.corners.len())
            .sum::<usize>()
    }

    /// Focal lengths and centre change in units of the focal length, so that all unknowns matter alike.
    fn moved(&self, state: &State, change: &DVector<f64>) -> State {
        let mut moved = state.clone();
        let lens = self.lens_unknowns();
        for (i, change) in change.iter().take(lens).enumerate() {
            let focal = state.lens.focal_px;
            match i {
                0 | 1 => moved.lens.focal_px[i] += focal[i] * change,
                2 | 3 => moved.lens.centre_px[i - 2] += focal[i - 2] * change,
                _ => moved.lens.distortion[i - 4] += change,
            }
        }
        for (view, pose) in moved.poses.iter_mut().enumerate() {
            let change = change.fixed_rows::<POSE>(lens + POSE * view);
            let turn = UnitQuaternion::from_scaled_axis(change.fixed_rows::<3>(0).into_owned());
            pose.rotation = turn * pose.rotation;
            // Relative to the distance, for the same reason.
            let far = pose.translation.vector.norm();
            pose.translation.vector += change.fixed_rows::<3>(3) * far;
        }
        moved
    }

    fn residual(&self, state: &State, out: &mut DVector<f64>) {
        let left = (0..self.views.len()).flat_map(|view| self.left(state, view));
        for (i, [x, y]) in left.enumerate() {
            (out[2 * i], out[2 * i + 1]) = (x, y);
        }
    }
}

/// Standard deviations of the lens's unknowns, in their own units: fx, fy, cx, cy, k1, k2, p1, p2, k3.
pub fn deviations(lens: &Intrinsics, covariance: &DMatrix<f64>, free: Free) -> [f64; LENS] {
    let count = if free == Free::All { LENS } else { LENS - 1 };
    let mut deviations = [0.0; LENS];
    for (i, deviation) in deviations.iter_mut().take(count).enumerate() {
        let unit = if i < 4 { lens.focal_px[i % 2] } else { 1.0 };
        *deviation = covariance[(i, i)].max(0.0).sqrt() * unit;
    }
    deviations
}

/// The map from the board, metres, to where its corners are seen, pixels.
pub fn board_to_pixels(board: &Board, view: &BoardView) -> Option<Homography> {
    let pairs = view.corners.iter().map(|corner| {
        let p = board.corner_m(corner.id);
        ([p.x, p.y], corner.pixel)
    });
    Homography::fit(&pairs.collect::<Vec<_>>())
}

/// A lens without distortion and with its centre in the middle, whose focal lengths fit the homographies
/// best: in each, the board's axes must be at right angles and equally long. Where they do not say it (the
/// board is never tilted), an ordinary lens.
pub fn first_lens(width_px: u32, height_px: u32, maps: &[Homography]) -> Intrinsics {
    let centre_px = [width_px, height_px].map(|size| (f64::from(size) - 1.0) / 2.0);
    let (mut normal, mut right) = (Matrix2::zeros(), Vector2::zeros());
    for map in maps {
        // From the middle of the picture, and in units of about the focal length.
        let size = f64::from(width_px.max(height_px));
        let middle = Matrix3::new(
            1.0 / size,
            0.0,
            -centre_px[0] / size,
            0.0,
            1.0 / size,
            -centre_px[1] / size,
            0.0,
            0.0,
            1.0,
        );
        let h = middle * map.0;
        let (a, b) = (h.column(0).into_owned(), h.column(1).into_owned());
        let (a, b) = (a / a.norm(), b / a.norm());
        // With w = (1/fx², 1/fy², 1): a·w·b = 0 and a·w·a = b·w·b.
        for (first, second, rest) in [
            (a.x * b.x, a.y * b.y, a.z * b.z),
            (
                a.x * a.x - b.x * b.x,
                a.y * a.y - b.y * b.y,
                a.z * a.z - b.z * b.z,
            ),
        ] {
            let row = Vector2::new(first, second);
            normal += row * row.transpose();
            right -= row * rest;
        }
    }
    let size = f64::from(width_px.max(height_px));
    let solved = normal.try_inverse().map(|inverse| inverse * right);
    // Lenses of cameras see between 20 and 150 degrees.
    let plausible = 0.15 * size..3.0 * size;
    let focal = solved.map(|w| [w.x, w.y].map(|w| size / w.sqrt()));
    let focal = focal.filter(|focal| focal.iter().all(|f| plausible.contains(f)));
    Intrinsics {
        date: String::new(),
        width_px,
        height_px,
        focal_px: focal.unwrap_or([0.9 * size; 2]),
        centre_px,
        distortion: [0.0; 5],
        rms_px: 0.0,
        views: 0,
    }
}

/// Pose of a board, `camera_from_board`, by its map to the pixels of a lens without distortion.
pub fn first_pose(lens: &Intrinsics, map: &Homography) -> Option<Isometry3<f64>> {
    let ([fx, fy], [cx, cy]) = (lens.focal_px, lens.centre_px);
    let to_rays = Matrix3::new(
        1.0 / fx,
        0.0,
        -cx / fx,
        0.0,
        1.0 / fy,
        -cy / fy,
        0.0,
        0.0,
        1.0,
    );
    let h = to_rays * map.0;
    let (x, y, t): (Vector3<f64>, Vector3<f64>, Vector3<f64>) =
        (h.column(0).into(), h.column(1).into(), h.column(2).into());
    let scale = 2.0 / (x.norm() + y.norm());
    // The board is in front of the camera.
    let scale = if t.z < 0.0 { -scale } else { scale };
    let (x, y) = (x * scale, y * scale);
    let near = Matrix3::from_columns(&[x, y, x.cross(&y)]);
    if !near.iter().all(|v| v.is_finite()) {
        return None;
    }
    let svd = near.svd(true, true);
    let rotation = Rotation3::from_matrix_unchecked(svd.u? * svd.v_t?);
    (rotation.matrix().determinant() > 0.0).then(|| {
        Isometry3::from_parts(
            Translation3::from(t * scale),
            UnitQuaternion::from_rotation_matrix(&rotation),
        )
    })
}
