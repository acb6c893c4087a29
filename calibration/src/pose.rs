//! Where a board is, from the corners that one picture shows of it.
//!
//! A flat board seen from afar looks almost the same in two poses, mirrored at the plane across the line
//! of sight. Both are started from, in closed form (Collins and Bartoli, "Infinitesimal plane-based pose
//! estimation", IJCV 2014), both are refined by the pixels' error, and the better one is given.

use hilt_protocol::calibration::Intrinsics;
use nalgebra::{
    DVector, Isometry3, Matrix2, Matrix2x3, Matrix3, Matrix6, Point3, Rotation3, Translation3,
    UnitQuaternion, Vector2, Vector3, Vector6,
};

use crate::{
    board::{Board, BoardError, BoardView, Corner},
    homography::Homography,
    least_squares::{self, Fit},
};

/// Where a board is.
#[derive(Clone, Debug, PartialEq)]
pub struct BoardPose {
    /// Pose of the board's frame in the camera's.
    pub camera_from_board: Isometry3<f64>,
    /// Root mean square distance between corners seen and corners predicted, pixels.
    pub rms_px: f64,
    /// The other pose in which a flat board looks alike, and what it leaves, pixels: when that is not
    /// clearly more, this one picture does not tell which it is.
    pub other: Option<(Isometry3<f64>, f64)>,
}

/// Why a picture gives no pose.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PoseError {
    /// The board cannot be.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The picture is not of the size that the lens was measured with.
    #[error(
        "is of a picture of {} x {} pixels, the lens was calibrated with {} x {}; use the same mode of the camera, or calibrate the lens in this one",
        found[0], found[1], lens[0], lens[1]
    )]
    PictureSize {
        /// Columns and rows of the picture.
        found: [u32; 2],
        /// Of the lens's.
        lens: [u32; 2],
    },
    /// A pose needs four corners.
    #[error(
        "shows {0} corners of the board; at least 4 are needed: bring the board into the picture"
    )]
    TooFew(usize),
    /// A corner that the board does not have.
    #[error(
        "has a corner number {0}, which this board does not have; it was found with another board"
    )]
    Foreign(usize),
    /// They say nothing of the direction across.
    #[error("shows corners of one line of the board alone; show more of it")]
    Line,
    /// The order of the corners is that of a board seen from behind.
    #[error(
        "shows the board mirrored: as if seen from behind; switch off the camera's mirror (horizontal flip)"
    )]
    Mirrored,
    /// No pose predicts them.
    #[error(
        "has corners that fit no pose of a flat board; it is another board, or another camera's calibration"
    )]
    NoFit,
}

/// A pose of the board, six numbers about it, and how sure the corners make it.
#[derive(Clone, Debug)]
pub(crate) struct Refined {
    pub camera_from_board: Isometry3<f64>,
    pub rms_px: f64,
    /// JᵀJ, per pixel²: of changes by [`nudged`].
    pub information: Matrix6<f64>,
}

/// The pose, moved by a small translation (the first three) and turned by a small rotation vector (the
/// last three), both in its own, the child's, frame.
pub(crate) fn nudged(pose: &Isometry3<f64>, change: &Vector6<f64>) -> Isometry3<f64> {
    let (moved, turned) = (
        change.fixed_rows::<3>(0).into_owned(),
        change.fixed_rows::<3>(3).into_owned(),
    );
    pose * Isometry3::from_parts(
        Translation3::from(moved),
        UnitQuaternion::from_scaled_axis(turned),
    )
}

/// The change that [`nudged`] makes of the identity.
pub(crate) fn as_change(pose: &Isometry3<f64>) -> Vector6<f64> {
    let (moved, turned) = (pose.translation.vector, pose.rotation.scaled_axis());
    Vector6::new(moved.x, moved.y, moved.z, turned.x, turned.y, turned.z)
}

/// How a small change in a child's frame looks in its parent's: the adjoint of `parent_from_child`.
pub(crate) fn adjoint(parent_from_child: &Isometry3<f64>) -> Matrix6<f64> {
    let rotation = parent_from_child.rotation.to_rotation_matrix().into_inner();
    let mut adjoint = Matrix6::zeros();
    adjoint.fixed_view_mut::<3, 3>(0, 0).copy_from(&rotation);
    adjoint.fixed_view_mut::<3, 3>(3, 3).copy_from(&rotation);
    let arm = parent_from_child.translation.vector.cross_matrix() * rotation;
    adjoint.fixed_view_mut::<3, 3>(0, 3).copy_from(&arm);
    adjoint
}

/// Where the board is that this picture shows.
pub fn board_pose(
    intrinsics: &Intrinsics,
    board: &Board,
    view: &BoardView,
) -> Result<BoardPose, PoseError> {
    board.check()?;
    check_size(intrinsics, view)?;
    let (best, other) = poses(intrinsics, board, &view.corners)?;
    Ok(BoardPose {
        camera_from_board: best.camera_from_board,
        rms_px: best.rms_px,
        other: other.map(|other| (other.camera_from_board, other.rms_px)),
    })
}

/// Refuses a picture of another size than the lens's: its pixels are others.
pub(crate) fn check_size(intrinsics: &Intrinsics, view: &BoardView) -> Result<(), PoseError> {
    let lens = [intrinsics.width_px, intrinsics.height_px];
    let found = [view.width_px, view.height_px];
    match found == lens {
        true => Ok(()),
        false => Err(PoseError::PictureSize { found, lens }),
    }
}

/// The pose that these corners fit best, and the other one that a flat board looks alike in.
pub(crate) fn poses(
    intrinsics: &Intrinsics,
    board: &Board,
    corners: &[Corner],
) -> Result<(Refined, Option<Refined>), PoseError> {
    if corners.len() < 4 {
        return Err(PoseError::TooFew(corners.len()));
    }
    if let Some(corner) = corners.iter().find(|corner| corner.id >= board.corners()) {
        return Err(PoseError::Foreign(corner.id));
    }
    let points = corners.iter().map(|corner| board.corner_m(corner.id));
    let points: Vec<Point3<f64>> = points.collect();
    let rays = corners.iter().map(|corner| intrinsics.ray(corner.pixel));
    // What lies outside the lens's model is outside it for every pose.
    let rays: Option<Vec<[f64; 2]>> = rays.collect();
    let rays = rays.ok_or(PoseError::NoFit)?;
    let starts = closed_form(&points, &rays)?;
    let refined = starts.iter().filter_map(|start| {
        let fit = refined(intrinsics, board, corners, start)?;
        fit.rms_px.is_finite().then_some(fit)
    });
    let mut refined: Vec<Refined> = refined.collect();
    refined.sort_by(|a, b| a.rms_px.total_cmp(&b.rms_px));
    let mut refined = refined.into_iter();
    let best = refined.next().ok_or(PoseError::NoFit)?;
    // A board's z goes away from whoever sees its front.
    let camera_m = best.camera_from_board.inverse().translation.vector;
    if camera_m.z >= 0.0 {
        return Err(PoseError::Mirrored);
    }
    let other = refined.find(|other| {
        let apart = best.camera_from_board.inverse() * other.camera_from_board;
        apart.rotation.angle() > 1e-3
    });
    Ok((best, other))
}

/// Refines one pose by the pixels' error. `None`: it does not predict the corners at all.
pub(crate) fn refined(
    intrinsics: &Intrinsics,
    board: &Board,
    corners: &[Corner],
    start: &Isometry3<f64>,
) -> Option<Refined> {
    let fit = PoseFit {
        intrinsics,
        board,
        corners,
    };
    let fitted = least_squares::fit(&fit, *start).ok()?;
    let mut information = Matrix6::zeros();
    let (mut ahead, mut behind) = (fitted.residual.clone(), fitted.residual.clone());
    let mut columns: Vec<DVector<f64>> = Vec::with_capacity(6);
    for i in 0..6 {
        let mut change = Vector6::zeros();
        change[i] = STEP;
        fit.at(&nudged(&fitted.state, &change), &mut ahead);
        fit.at(&nudged(&fitted.state, &-change), &mut behind);
        columns.push((&ahead - &behind) / (2.0 * STEP));
    }
    for (i, row) in columns.iter().enumerate() {
        for (j, column) in columns.iter().enumerate() {
            information[(i, j)] = row.dot(column);
        }
    }
    Some(Refined {
        camera_from_board: fitted.state,
        rms_px: rms_px(fitted.residual.norm_squared(), corners.len()),
        information,
    })
}

/// Root mean square distance, from the sum of squares of both coordinates of so many corners.
pub(crate) fn rms_px(squares: f64, corners: usize) -> f64 {
    (squares / corners.max(1) as f64).sqrt()
}

/// Differences between where a board's corners are predicted and where they were seen, two per corner,
/// pixels. NaN for what is behind the camera.
pub(crate) fn reprojection(
    intrinsics: &Intrinsics,
    board: &Board,
    corners: &[Corner],
    camera_from_board: &Isometry3<f64>,
    out: &mut [f64],
) {
    for (corner, out) in corners.iter().zip(out.chunks_exact_mut(2)) {
        let point = camera_from_board * board.corner_m(corner.id);
        let seen = intrinsics.project([point.x, point.y, point.z]);
        let [u, v] = seen.unwrap_or([f64::NAN; 2]);
        out[0] = u - corner.pixel[0];
        out[1] = v - corner.pixel[1];
    }
}

const STEP: f64 = 1e-6;

struct PoseFit<'a> {
    intrinsics: &'a Intrinsics,
    board: &'a Board,
    corners: &'a [Corner],
}

impl PoseFit<'_> {
    fn at(&self, pose: &Isometry3<f64>, out: &mut DVector<f64>) {
        let (intrinsics, board) = (self.intrinsics, self.board);
        reprojection(intrinsics, board, self.corners, pose, out.as_mut_slice());
    }
}

impl Fit for PoseFit<'_> {
    type State = Isometry3<f64>;

    fn unknowns(&self) -> usize {
        6
    }

    fn residuals(&self) -> usize {
        2 * self.corners.len()
    }

    fn moved(&self, state: &Isometry3<f64>, change: &DVector<f64>) -> Isometry3<f64> {
        nudged(state, &change.fixed_rows::<6>(0).into_owned())
    }

    fn residual(&self, state: &Isometry3<f64>, out: &mut DVector<f64>) {
        self.at(state, out);
    }
}

/// Both poses of a plane that is seen as the rays say, by the homography's first derivatives at the
/// middle of the points.
fn closed_form(
    points: &[Point3<f64>],
    rays: &[[f64; 2]],
) -> Result<[Isometry3<f64>; 2], PoseError> {
    let sum: Vector3<f64> = points.iter().map(|point| point.coords).sum();
    let middle = sum / points.len() as f64;
    let pairs = points.iter().zip(rays);
    let pairs = pairs.map(|(point, ray)| ([point.x - middle.x, point.y - middle.y], *ray));
    let h = Homography::fit(&pairs.collect::<Vec<_>>())
        .ok_or(PoseError::Line)?
        .0;
    let (p, q) = (h[(0, 2)], h[(1, 2)]);
    let slope = Matrix2::new(
        h[(0, 0)] - h[(2, 0)] * p,
        h[(0, 1)] - h[(2, 1)] * p,
        h[(1, 0)] - h[(2, 0)] * q,
        h[(1, 1)] - h[(2, 1)] * q,
    );
    // Turned so that the middle is straight ahead, the rotation's upper left is `slope`, scaled.
    let sight = Vector3::new(p, q, 1.0);
    let ahead = Rotation3::rotation_between(&Vector3::z(), &sight).ok_or(PoseError::NoFit)?;
    let across = Matrix2x3::new(1.0, 0.0, -p, 0.0, 1.0, -q) * ahead.matrix().fixed_columns::<2>(0);
    let scaled = across.try_inverse().ok_or(PoseError::NoFit)? * slope;
    let nearness = scaled.svd(false, false).singular_values.max();
    if nearness.is_nan() || nearness <= 1e-12 {
        return Err(PoseError::Line);
    }
    let upper = scaled / nearness;
    let rest = Matrix2::identity() - upper.tr_mul(&upper);
    let (b0, b1) = (rest[(0, 0)].max(0.0).sqrt(), rest[(1, 1)].max(0.0).sqrt());
    let b = Vector2::new(b0, if rest[(0, 1)] < 0.0 { -b1 } else { b1 });
    Ok([b, -b].map(|b| {
        let first = Vector3::new(upper[(0, 0)], upper[(1, 0)], b.x);
        let second = Vector3::new(upper[(0, 1)], upper[(1, 1)], b.y);
        let columns = Matrix3::from_columns(&[first, second, first.cross(&second)]);
        let rotation = nearest_rotation(&(ahead.matrix() * columns));
        let translation = sight / nearness - rotation * middle;
        Isometry3::from_parts(translation.into(), rotation.into())
    }))
}

/// The rotation that is nearest to a matrix.
pub(crate) fn nearest_rotation(matrix: &Matrix3<f64>) -> Rotation3<f64> {
    let svd = matrix.svd(true, true);
    let (Some(u), Some(v_t)) = (svd.u, svd.v_t) else {
        return Rotation3::identity();
    };
    let sign = (u * v_t).determinant().signum();
    let flip = Matrix3::from_diagonal(&Vector3::new(1.0, 1.0, sign));
    Rotation3::from_matrix_unchecked(u * flip * v_t)
}

#[cfg(test)]
mod tests {
    use hilt_protocol::noise::Uniforms;

    use super::*;
    use crate::synthetic::{facing, lens, look, turn};

    fn board() -> Board {
        Board::charuco(9, 6, 0.03, 0.022)
    }

    #[test]
    fn exact_corners_give_the_exact_pose() {
        let mut uniforms = Uniforms::new(1);
        for _ in 0..200 {
            let pose = facing(&board(), 0.5, 1.0, &mut uniforms);
            let view = look(&lens(), &board(), &pose, 0.0, &mut uniforms);
            let found = board_pose(&lens(), &board(), &view).unwrap();
            let off = pose.inverse() * found.camera_from_board;
            assert!(off.translation.vector.norm() < 1e-7, "{off}");
            assert!(off.rotation.angle() < 1e-7 && found.rms_px < 1e-6, "{off}");
        }
    }

    #[test]
    fn with_noise_the_error_is_what_the_corners_allow() {
        let mut uniforms = Uniforms::new(2);
        let (mut squares, mut wrong) = (0.0, 0);
        for _ in 0..200 {
            let pose = facing(&board(), 0.6, 0.7, &mut uniforms);
            let view = look(&lens(), &board(), &pose, 0.25, &mut uniforms);
            let found = board_pose(&lens(), &board(), &view).unwrap();
            let start = found.camera_from_board;
            let refined = refined(&lens(), &board(), &view.corners, &start).unwrap();
            let off = as_change(&(found.camera_from_board.inverse() * pose));
            if off.fixed_rows::<3>(3).norm() > 0.1 {
                wrong += 1;
                continue;
            }
            squares += (off.transpose() * refined.information * off).x / (0.25 * 0.25);
        }
        // Chi squared of six degrees of freedom, over two hundred draws: 6 ± 0.25.
        assert_eq!(wrong, 0);
        let mean = squares / 200.0;
        assert!((5.0..7.0).contains(&mean), "{mean}");
    }

    #[test]
    fn of_two_that_look_alike_the_right_one_is_found_and_the_other_given() {
        let mut uniforms = Uniforms::new(3);
        let small = Board::checkerboard(5, 5, 0.01);
        let mut right = 0;
        for _ in 0..100 {
            // Far, small, and turned by a third of a radian.
            let pose = Isometry3::translation(0.0, 0.0, 0.8) * turn([0.35, 0.1, 0.3]);
            let view = look(&lens(), &small, &pose, 0.02, &mut uniforms);
            let found = board_pose(&lens(), &small, &view).unwrap();
            let (other, rms_px) = found.other.unwrap();
            let off = |found: &Isometry3<f64>| (pose.inverse() * found).rotation.angle();
            let (best, worse) = (off(&found.camera_from_board), off(&other));
            assert!(rms_px >= found.rms_px);
            assert!(
                best.min(worse) < 0.1 && best.max(worse) > 0.3,
                "{best} {worse}"
            );
            right += usize::from(best < worse);
        }
        assert!(right >= 95, "{right}");
    }

    #[test]
    fn what_is_no_view_of_the_board_is_named() {
        let mut uniforms = Uniforms::new(4);
        let pose = facing(&board(), 0.5, 0.5, &mut uniforms);
        let view = look(&lens(), &board(), &pose, 0.2, &mut uniforms);
        let of = |view: &BoardView| board_pose(&lens(), &board(), view).unwrap_err();
        let mut few = view.clone();
        few.corners.truncate(3);
        assert_eq!(of(&few), PoseError::TooFew(3));
        let mut line = view.clone();
        line.corners.truncate(board().inner_columns());
        assert_eq!(of(&line), PoseError::Line);
        let mut foreign = view.clone();
        foreign.corners[0].id = 40;
        assert_eq!(of(&foreign), PoseError::Foreign(40));
        let mut mirrored = view.clone();
        for corner in &mut mirrored.corners {
            corner.pixel[0] = f64::from(view.width_px) - 1.0 - corner.pixel[0];
        }
        assert_eq!(of(&mirrored), PoseError::Mirrored);
        let mut halved = view.clone();
        (halved.width_px, halved.height_px) = (320, 240);
        let error = of(&halved);
        assert_eq!(
            error,
            PoseError::PictureSize {
                found: [320, 240],
                lens: [640, 480]
            }
        );
        let text = error.to_string();
        assert!(
            text.contains("320 x 240 pixels, the lens was calibrated with 640 x 480"),
            "{text}"
        );
        let none = Board::charuco(9, 6, 0.03, 0.04);
        let error = board_pose(&lens(), &none, &view).unwrap_err();
        assert!(
            matches!(error, PoseError::Board(BoardError::Lengths { .. })),
            "{error}"
        );
        let mut blind = lens();
        blind.distortion = [-9.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(board_pose(&blind, &board(), &view), Err(PoseError::NoFit));
    }
}
