//! Where the bases of two arms stand to each other: a camera that stands still sees a board in the hand
//! of the one, then of the other.
//!
//! Each arm's views give the camera in its base's frame ([`crate::hand_eye`], the camera not in the
//! hand). Beside the camera, which must not be moved between them, the two fits share the lens: what one
//! arm's views say of it moves the other's camera. [`joined`] is the one fit of both, put together from
//! the two: with each view of one board, nothing else couples them.

use std::fmt;

use hilt_protocol::calibration::{Bases, Frame, Intrinsics, Spread};
use nalgebra::{Isometry3, Matrix6, SMatrix, SVector};

use crate::{
    board::Board,
    hand_eye::{HandEye, HandEyeError, Known, LENS, View, hand_eye, more, spread_of},
    pose::{adjoint, nudged},
};

/// Good enough for two hands that hold one thing.
pub const GOOD: Spread = Spread {
    translation_m: 0.003,
    rotation_rad: 0.005,
};

/// Bases nearer than this are one base.
const ONE_BASE: Spread = Spread {
    translation_m: 0.03,
    rotation_rad: 0.1,
};

/// What came out.
#[derive(Clone, Debug)]
pub struct BaseToBase {
    /// Pose of arm 1's base in the frame of arm 0's.
    pub base0_from_base1: Isometry3<f64>,
    /// Covariance of a small move (the first three, metres) and turn (radians) of arm 1's base in its own
    /// frame.
    pub covariance: Matrix6<f64>,
    /// The same in two numbers.
    pub spread: Spread,
    /// What each arm's views say of the camera.
    pub arms: [HandEye; 2],
}

/// Why nothing came out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BasesError {
    /// One arm's views do not do.
    #[error("arm {arm}: {source}")]
    Arm {
        /// Its number.
        arm: usize,
        /// Why.
        source: HandEyeError,
    },
    /// Both stand in the same place.
    #[error(
        "arm 1's base is found within {:.0} mm of arm 0's: both lots of views are of one arm; take the second lot with the board in the other hand",
        away_m * 1e3
    )]
    OneArm {
        /// How far apart they are.
        away_m: f64,
    },
}

/// Where arm 1's base stands in the frame of arm 0's, from the views of each; the board in one hand may
/// be another than in the other.
pub fn base_to_base(
    intrinsics: &Intrinsics,
    boards: [&Board; 2],
    views: [&[View]; 2],
) -> Result<BaseToBase, BasesError> {
    let of = |arm: usize| {
        let result = hand_eye(intrinsics, boards[arm], Frame::Base, views[arm]);
        result.map_err(|source| BasesError::Arm { arm, source })
    };
    joined([of(0)?, of(1)?])
}

/// The same from what each arm's views gave; both of the camera not in the hand.
pub fn joined(arms: [HandEye; 2]) -> Result<BaseToBase, BasesError> {
    let (cameras, apart) = with_one_lens(&arms);
    let [first, second] = cameras;
    let base0_from_base1 = first * second.inverse();
    let away_m = base0_from_base1.translation.vector.norm();
    let turned = base0_from_base1.rotation.angle();
    if away_m < ONE_BASE.translation_m && turned < ONE_BASE.rotation_rad {
        return Err(BasesError::OneArm { away_m });
    }
    // Known are moves of the camera in its own frame; seen from the second base they are longer, the
    // farther it is.
    let moves = adjoint(&second);
    let covariance = moves * apart * moves.transpose();
    Ok(BaseToBase {
        base0_from_base1,
        spread: spread_of(&covariance),
        covariance,
        arms,
    })
}

/// The camera in each base's frame when both are seen through one lens, and the covariance of how far
/// apart the two are in the camera's own frame. What either says of both camera and lens is a normal
/// distribution about its own fit; their product, with what was known of the lens before counted once,
/// is that of all views.
fn with_one_lens(arms: &[HandEye; 2]) -> ([Isometry3<f64>; 2], Matrix6<f64>) {
    let mut information = SMatrix::<f64, 15, 15>::zeros();
    let mut pull = SVector::<f64, 15>::zeros();
    let given = arms.each_ref().map(|arm| arm.frame_from_camera);
    let separate = (given, arms[0].covariance + arms[1].covariance);
    for (arm, found) in arms.iter().enumerate() {
        let Some(inverse) = found.lens.with_camera.try_inverse() else {
            return separate;
        };
        let mut at = SVector::<f64, 9>::zeros();
        at.fixed_rows_mut::<3>(6).copy_from(&found.lens.lens);
        let pulled = inverse * at;
        let place = |i: usize| if i < 6 { 6 * arm + i } else { 6 + i };
        for i in 0..9 {
            pull[place(i)] += pulled[i];
            for j in 0..9 {
                information[(place(i), place(j))] += inverse[(i, j)];
            }
        }
    }
    for i in 12..15 {
        information[(i, i)] -= 1.0 / (LENS * LENS);
    }
    let Some(covariance) = information.try_inverse() else {
        return separate;
    };
    let moved = covariance * pull;
    let cameras =
        [0, 1].map(|arm| nudged(&given[arm], &moved.fixed_rows::<6>(6 * arm).into_owned()));
    let block = |i: usize, j: usize| covariance.fixed_view::<6, 6>(6 * i, 6 * j).into_owned();
    (
        cameras,
        block(0, 0) + block(1, 1) - block(0, 1) - block(1, 0),
    )
}

impl BaseToBase {
    /// What the calibration's file keeps of it.
    pub fn bases(&self, date: &str) -> Bases {
        Bases {
            date: date.to_owned(),
            base0_from_base1: self.base0_from_base1.into(),
            spread: self.spread,
        }
    }

    /// What a person has to know.
    pub fn verdict(&self) -> BasesVerdict {
        let spread = self.spread;
        let good =
            spread.translation_m <= GOOD.translation_m && spread.rotation_rad <= GOOD.rotation_rad;
        if good {
            return BasesVerdict::Good(spread);
        }
        let moves = adjoint(&self.arms[1].frame_from_camera);
        let part = |arm: &HandEye| spread_of(&(moves * arm.covariance * moves.transpose()));
        let parts = [part(&self.arms[0]), part(&self.arms[1])];
        let arm = usize::from(parts[1].translation_m > parts[0].translation_m);
        BasesVerdict::More {
            arm,
            views: more(&spread, &GOOD, self.arms[arm].used()),
            spread,
        }
    }
}

/// Whether it is good, and what to do where it is not. Its text is for a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BasesVerdict {
    /// Good.
    Good(Spread),
    /// More views are needed.
    More {
        /// Of the arm whose views say least.
        arm: usize,
        /// About so many.
        views: usize,
        /// Known so far.
        spread: Spread,
    },
}

impl BasesVerdict {
    /// Whether nothing has to be done.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

impl fmt::Display for BasesVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(spread) => write!(f, "good: {}", Known(spread)),
            Self::More { arm, views, spread } => write!(
                f,
                "take about {views} more views of the board in the hand of arm {arm}, turned as far as it stays in the picture, or put the camera nearer: {} so far",
                Known(spread)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use hilt_sim::ArmKind;

    use super::*;
    use crate::{
        pose::as_change,
        synthetic::{World, lens, turn},
    };

    /// Two arms before one camera, and where the second truly stands.
    fn pair(seed: u64, arm: [f64; 2]) -> ([World; 2], Isometry3<f64>) {
        let worlds = [ArmKind::Desk6, ArmKind::So101].map(|kind| {
            let mut world = World::new(kind, Frame::Base, seed % 3);
            world.arm = arm;
            world
        });
        // Each sees the camera where it sees it, so that is where the other one stands.
        let truth = worlds[0].frame_from_camera * worlds[1].frame_from_camera.inverse();
        (worlds, truth)
    }

    fn found(worlds: &[World; 2], seed: u64) -> BaseToBase {
        let views = [0, 1].map(|arm| worlds[arm].views(15, seed + 50 * arm as u64));
        let boards = [&worlds[0].board, &worlds[1].board];
        base_to_base(&lens(), boards, [&views[0], &views[1]]).unwrap()
    }

    #[test]
    fn within_a_millimetre_and_a_tenth_of_a_degree() {
        for seed in 0..3 {
            let (worlds, truth) = pair(seed, [0.0; 2]);
            let found = found(&worlds, seed);
            let off = truth.inverse() * found.base0_from_base1;
            let (metres, radians) = (off.translation.vector.norm(), off.rotation.angle());
            assert!(
                metres < 1e-3 && radians < 0.1f64.to_radians(),
                "{metres} {radians}"
            );
            assert!(found.verdict().is_good(), "{}", found.verdict());
        }
    }

    #[test]
    fn the_spread_is_that_of_the_true_error() {
        const SEEDS: u64 = 20;
        let mut chi = 0.0;
        for seed in 0..SEEDS {
            let (worlds, truth) = pair(seed, [0.001, 0.004]);
            let found = found(&worlds, seed);
            let off = as_change(&(found.base0_from_base1.inverse() * truth));
            let inverse = found.covariance.try_inverse().unwrap();
            chi += (off.transpose() * inverse * off).x / SEEDS as f64;
            let spread = found.spread;
            let moved = off.fixed_rows::<3>(0).norm();
            assert!(
                moved < 3.5 * spread.translation_m,
                "{seed}: {moved} {spread:?}"
            );
        }
        // Six degrees of freedom: 6 ± 0.8.
        assert!((4.0..9.5).contains(&chi), "{chi}");
    }

    #[test]
    fn the_two_share_one_lens_that_is_not_quite_what_was_said() {
        for seed in 0..4 {
            let (worlds, truth) = pair(seed, [0.0; 2]);
            let mut other = lens();
            other.focal_px = other.focal_px.map(|focal| focal * 1.004);
            let views = [0, 1].map(|arm| worlds[arm].views(15, seed));
            let boards = [&worlds[0].board, &worlds[1].board];
            let found = base_to_base(&other, boards, [&views[0], &views[1]]).unwrap();
            let off = truth.inverse() * found.base0_from_base1;
            let (metres, radians) = (off.translation.vector.norm(), off.rotation.angle());
            let spread = found.spread;
            let within = metres < 3.0 * spread.translation_m && radians < 3.0 * spread.rotation_rad;
            assert!(within && metres < 1.5e-3, "{metres} {radians} {spread:?}");
            // Each by itself knows less than both.
            let [a, b] = found.arms.each_ref().map(|arm| arm.spread.rotation_rad);
            assert!(spread.rotation_rad < a.hypot(b), "{spread:?} {a} {b}");
        }
    }

    #[test]
    fn an_arm_whose_views_do_not_do_is_named() {
        let (worlds, _) = pair(1, [0.0; 2]);
        let mut views = [worlds[0].views(15, 1), worlds[1].views(15, 1)];
        views[1].truncate(4);
        let boards = [&worlds[0].board, &worlds[1].board];
        let error = base_to_base(&lens(), boards, [&views[0], &views[1]]).unwrap_err();
        assert!(
            error.to_string().starts_with("arm 1: 4 of 4 views"),
            "{error}"
        );
        let other = worlds[0].views(15, 2);
        let error = base_to_base(&lens(), [boards[0]; 2], [&views[0], &other]).unwrap_err();
        assert!(matches!(error, BasesError::OneArm { .. }), "{error}");
    }

    #[test]
    fn the_verdict_names_the_arm_that_says_least() {
        let (mut worlds, _) = pair(2, [0.0; 2]);
        worlds[1].arm = [0.004, 0.02];
        let verdict = found(&worlds, 2).verdict();
        assert!(
            matches!(verdict, BasesVerdict::More { arm: 1, .. }),
            "{verdict}"
        );
        assert!(
            verdict.to_string().contains("in the hand of arm 1"),
            "{verdict}"
        );
        // Nothing is lost in what the file keeps.
        let found = found(&worlds, 2);
        let kept: Isometry3<f64> = found.bases("2026-11-21T12:00:00Z").base0_from_base1.into();
        let off = kept.inverse() * found.base0_from_base1 * turn([0.0; 3]);
        assert!(off.translation.vector.norm() < 1e-12);
    }
}
