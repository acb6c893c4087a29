//! All corners of all views, predicted by one mounting and one place of the board.

use hilt_protocol::calibration::Intrinsics;
use nalgebra::{DMatrix, DVector, Isometry3, Matrix6, SMatrix, Vector3};

use super::start::Scale;
use crate::{
    board::{Board, Corner},
    least_squares::Fit,
    pose::{nudged, reprojection},
};

/// The state of the fit.
#[derive(Clone)]
pub(super) struct State {
    pub frame_from_camera: Isometry3<f64>,
    pub other_from_board: Isometry3<f64>,
    /// By how much the board is larger than was said.
    pub scale: f64,
    /// By how much the lens is another than was said: the logarithm of its focal length's factor, and
    /// its centre's way along columns and rows in focal lengths.
    pub lens: [f64; 3],
}

/// One standard deviation of either, of a lens that counts as good. Half a percent of a focal length is
/// two millimetres of a camera that is 0.4 m from the board: a fit that takes the lens for exact is wrong
/// by that, and does not know it.
pub(crate) const LENS: f64 = 0.0025;

/// The lens as the views have it, and how it goes with the camera's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LensKnown {
    /// As [`State::lens`].
    pub lens: Vector3<f64>,
    /// Covariance of the camera's place (six) and of these three.
    pub with_camera: SMatrix<f64, 9, 9>,
}

/// The lens, so much another.
pub(super) fn bent(intrinsics: &Intrinsics, lens: &[f64; 3]) -> Intrinsics {
    let mut bent = intrinsics.clone();
    for i in 0..2 {
        bent.centre_px[i] += lens[1 + i] * intrinsics.focal_px[i];
        bent.focal_px[i] *= lens[0].exp();
    }
    bent
}

/// The board, so many times as large.
pub(super) fn sized(board: &Board, scale: f64) -> Board {
    Board {
        square_m: board.square_m * scale,
        ..*board
    }
}

/// Brings a view's residual to unit covariance: that of the corners' noise and of the hand's error
/// together, Σ = σ² (I + K Kᵀ), of which only six directions are not plain. With K = U S Vᵀ,
/// Σ^-½ = σ⁻¹ (I + K V f(S²) Vᵀ Kᵀ) where f(s²) = ((1 + s²)^-½ - 1) / s².
pub(super) struct Weight {
    /// How the arm's error moves the corners, in units of their own noise.
    moved: DMatrix<f64>,
    /// V f(S²) Vᵀ.
    less: Matrix6<f64>,
    corner_px: f64,
}

impl Weight {
    /// `None`: the board is predicted behind the camera.
    pub(super) fn new(moved_by_hand: DMatrix<f64>, arm: [f64; 2], corner_px: f64) -> Option<Self> {
        let mut moved = moved_by_hand / corner_px;
        for (i, mut column) in moved.column_iter_mut().enumerate() {
            column *= arm[i / 3];
        }
        // The decomposition of what is not finite does not end.
        if !moved.iter().all(|value| value.is_finite()) {
            return None;
        }
        let squares = moved.tr_mul(&moved).fixed_view::<6, 6>(0, 0).into_owned();
        let eigen = squares.symmetric_eigen();
        let less = eigen.eigenvalues.map(|square| {
            let root = (1.0 + square.max(0.0)).sqrt();
            -1.0 / (root * (1.0 + root))
        });
        let axes = eigen.eigenvectors;
        Some(Self {
            moved,
            less: axes * Matrix6::from_diagonal(&less) * axes.transpose(),
            corner_px,
        })
    }

    fn apply(&self, residual: &mut [f64]) {
        let seen = DVector::from_column_slice(residual);
        let along = self.less * self.moved.tr_mul(&seen).fixed_rows::<6>(0);
        let weighed = (seen + &self.moved * along) / self.corner_px;
        residual.copy_from_slice(weighed.as_slice());
    }
}

/// A view, and how it counts.
pub(super) struct Weighed {
    pub motion: Isometry3<f64>,
    pub corners: Vec<Corner>,
    pub weight: Weight,
}

/// All views at once.
pub(super) struct JointFit<'a> {
    pub intrinsics: &'a Intrinsics,
    pub board: &'a Board,
    pub views: Vec<Weighed>,
    pub scale: Scale,
}

impl Fit for JointFit<'_> {
    type State = State;

    fn unknowns(&self) -> usize {
        match self.scale {
            Scale::Said => 15,
            Scale::Sought => 13,
        }
    }

    fn residuals(&self) -> usize {
        let corners: usize = self.views.iter().map(|view| view.corners.len()).sum();
        let lens = match self.scale {
            Scale::Said => 3,
            Scale::Sought => 0,
        };
        2 * corners + lens
    }

    fn moved(&self, state: &State, change: &DVector<f64>) -> State {
        let of = |at: usize| change.fixed_rows::<6>(at).into_owned();
        State {
            frame_from_camera: nudged(&state.frame_from_camera, &of(0)),
            other_from_board: nudged(&state.other_from_board, &of(6)),
            scale: match self.scale {
                Scale::Said => state.scale,
                // As a logarithm, so that it stays above zero.
                Scale::Sought => state.scale * change[12].exp(),
            },
            lens: match self.scale {
                Scale::Said => [0, 1, 2].map(|i| state.lens[i] + change[12 + i]),
                Scale::Sought => state.lens,
            },
        }
    }

    fn residual(&self, state: &State, out: &mut DVector<f64>) {
        let board = sized(self.board, state.scale);
        let intrinsics = bent(self.intrinsics, &state.lens);
        let camera_from_frame = state.frame_from_camera.inverse();
        let mut rest = out.as_mut_slice();
        for view in &self.views {
            let (these, others) = rest.split_at_mut(2 * view.corners.len());
            rest = others;
            let pose = camera_from_frame * view.motion * state.other_from_board;
            reprojection(&intrinsics, &board, &view.corners, &pose, these);
            view.weight.apply(these);
        }
        // What is known of the lens before.
        for (out, lens) in rest.iter_mut().zip(state.lens) {
            *out = lens / LENS;
        }
    }
}
