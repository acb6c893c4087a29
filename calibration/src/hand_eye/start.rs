//! A first guess in closed form, whatever a few bad views say.
//!
//! Two views give A X = X B: A the motion of what the camera is fixed to, B the board's in the picture.
//! The rotation is the one that turns all of B's rotation vectors to A's (Park and Martin 1994; here as
//! orthogonal Procrustes, so that two axes are enough); the translation then is linear, and so is a
//! factor on the board's size.

use hilt_protocol::noise::Uniforms;
use nalgebra::{DMatrix, DVector, Isometry3, Matrix3, Translation3, UnitQuaternion, Vector3};

use super::median;
use crate::pose::nearest_rotation;

/// Where things are, by a first guess.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess {
    pub frame_from_camera: Isometry3<f64>,
    pub other_from_board: Isometry3<f64>,
    /// By how much the board is larger than was said. Below zero: the pictures are mirrored.
    pub scale: f64,
    /// How far the middle one of the views is from it: metres, with a radian as long as
    /// [`LEVER_M`].
    pub off_m: f64,
}

/// Whether the board's size is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Said,
    Sought,
}

/// A turn by one radian counts as much as a move by this: about as far as the board is.
pub(crate) const LEVER_M: f64 = 0.3;
/// Subsets that are tried beside all views together.
const SUBSETS: usize = 200;
/// Views of a subset: few, so that some are without a bad one.
const OF_SUBSET: usize = 4;

/// The guess with the least median distance, of all views together and of many small subsets. `None`:
/// no subset determines anything.
pub(crate) fn guess(
    motions: &[Isometry3<f64>],
    boards: &[Isometry3<f64>],
    scale: Scale,
) -> Option<Guess> {
    let all: Vec<usize> = (0..motions.len()).collect();
    let mut uniforms = Uniforms::new(0x6861_6e64_6579_6500);
    let mut best: Option<Guess> = None;
    for number in 0..=SUBSETS {
        let mut subset = all.clone();
        if number > 0 {
            for i in 0..OF_SUBSET.min(all.len()) {
                let from = i + uniforms.below((all.len() - i) as u64) as usize;
                subset.swap(i, from);
            }
            subset.truncate(OF_SUBSET);
        }
        let Some(mut guess) = closed_form(motions, boards, &subset, scale) else {
            continue;
        };
        let offs = motions
            .iter()
            .zip(boards)
            .map(|(motion, board)| guess.off(motion, board));
        guess.off_m = median(offs.map(|off| length(&off)));
        if best.is_none_or(|best| guess.off_m < best.off_m) {
            best = Some(guess);
        }
    }
    best
}

/// How far a pose is from the identity: metres, with a radian as long as [`LEVER_M`].
fn length(pose: &Isometry3<f64>) -> f64 {
    pose.translation.vector.norm() + LEVER_M * pose.rotation.angle()
}

impl Guess {
    /// How far the motion is from where the picture shows it.
    fn off(&self, motion: &Isometry3<f64>, camera_from_board: &Isometry3<f64>) -> Isometry3<f64> {
        let seen = scaled(camera_from_board, self.scale);
        motion.inverse() * self.frame_from_camera * seen * self.other_from_board.inverse()
    }
}

/// The pose of a board that is larger and therefore farther.
fn scaled(camera_from_board: &Isometry3<f64>, scale: f64) -> Isometry3<f64> {
    let translation = camera_from_board.translation.vector * scale;
    Isometry3::from_parts(translation.into(), camera_from_board.rotation)
}

fn closed_form(
    motions: &[Isometry3<f64>],
    boards: &[Isometry3<f64>],
    subset: &[usize],
    scale: Scale,
) -> Option<Guess> {
    let pairs = subset.iter().enumerate().flat_map(|(i, first)| {
        let rest = &subset[i + 1..];
        rest.iter().map(|second| {
            let a = motions[*second] * motions[*first].inverse();
            (a, boards[*second] * boards[*first].inverse())
        })
    });
    let pairs: Vec<(Isometry3<f64>, Isometry3<f64>)> = pairs.collect();
    let mut both = Matrix3::zeros();
    for (a, b) in &pairs {
        let (a, b) = (a.rotation.scaled_axis(), b.rotation.scaled_axis());
        // Near half a turn the vector's sign is chance.
        if a.norm().max(b.norm()) < 3.0 {
            both += a * b.transpose();
        }
    }
    // The decomposition of what is not finite does not end.
    if !both.iter().all(|value| value.is_finite()) {
        return None;
    }
    let singular = both.svd(false, false).singular_values;
    let (most, least) = (singular.max(), singular.min());
    let second = singular.sum() - most - least;
    if second.is_nan() || second < 1e-4 * most || second < 1e-6 {
        return None;
    }
    let rotation = nearest_rotation(&both);
    let mut linear = DMatrix::zeros(3 * pairs.len(), 4);
    let mut wanted = DVector::zeros(3 * pairs.len());
    for (i, (a, b)) in pairs.iter().enumerate() {
        let turned = a.rotation.to_rotation_matrix().into_inner() - Matrix3::identity();
        let moved = -(rotation * b.translation.vector);
        linear.fixed_view_mut::<3, 3>(3 * i, 0).copy_from(&turned);
        let mut target = -a.translation.vector;
        match scale {
            Scale::Sought => linear.fixed_view_mut::<3, 1>(3 * i, 3).copy_from(&moved),
            Scale::Said => target -= moved,
        }
        wanted.fixed_rows_mut::<3>(3 * i).copy_from(&target);
    }
    // The column of a scale that is not sought is zero and stays out of the solution.
    let solution = linear.svd(true, true).solve(&wanted, 1e-9).ok()?;
    let scale = match scale {
        Scale::Said => 1.0,
        Scale::Sought => solution[3],
    };
    if !solution.iter().all(|value| value.is_finite()) || scale == 0.0 {
        return None;
    }
    let translation = Translation3::new(solution[0], solution[1], solution[2]);
    let frame_from_camera =
        Isometry3::from_parts(translation, UnitQuaternion::from_rotation_matrix(&rotation));
    let places = subset
        .iter()
        .map(|i| motions[*i].inverse() * frame_from_camera * scaled(&boards[*i], scale));
    Some(Guess {
        frame_from_camera,
        other_from_board: mean(places)?,
        scale,
        off_m: f64::NAN,
    })
}

/// The mean of poses that are near each other.
fn mean(poses: impl Iterator<Item = Isometry3<f64>>) -> Option<Isometry3<f64>> {
    let (mut moved, mut turned, mut count) = (Vector3::zeros(), Matrix3::zeros(), 0.0);
    for pose in poses {
        moved += pose.translation.vector;
        turned += pose.rotation.to_rotation_matrix().into_inner();
        count += 1.0;
    }
    let rotation = UnitQuaternion::from_rotation_matrix(&nearest_rotation(&turned));
    (count > 0.0).then(|| Isometry3::from_parts((moved / count).into(), rotation))
}
