//! Whether what a joint reached is the range of this shape's joint.

use hilt_drivers::bus::sts3215::{counts_from_radians, radians_from_counts};
use hilt_kinematics::Joint;
use hilt_protocol::calibration::Direction;

use super::{
    place::Measured,
    recorder::{Recorder, TURN},
};

/// The least share of the shape's range that has to be reached, and the most. Arms of one shape whose
/// owners recorded them were within 0.97 and 1.14.
const LEAST_SHARE: f64 = 0.8;
const MOST_SHARE: f64 = 1.25;

/// How far the middle of the range may be from the shape's, radians.
const MOST_SHIFT_RAD: f64 = 0.35;

/// A joint with so wide limits may turn on and on: nothing stops it.
const ENDLESS_RAD: f64 = 1.5 * std::f64::consts::PI;

/// Why a range is not that of the joint. Angles in degrees.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RangeProblem {
    /// It was not moved, or not all the way.
    #[error(
        "was moved over {moved:.0}° of about {shape:.0}°: move it from one stop to the other; if it cannot go farther, it is another arm's shape"
    )]
    TooSmall {
        /// What it reached.
        moved: f64,
        /// What the shape has.
        shape: f64,
    },
    /// It goes farther than the shape.
    #[error(
        "was moved over {moved:.0}°, and this shape's goes over {shape:.0}°: is this another arm, or is the shape in the rig's file another?"
    )]
    TooLarge {
        /// What it reached.
        moved: f64,
        /// What the shape has.
        shape: f64,
    },
    /// It lies elsewhere.
    #[error(
        "goes from {from:.0}° to {to:.0}°, and this shape's from {lower:.0}° to {upper:.0}°: either the arm was not in the reference pose, or the joint was turned against its positive direction"
    )]
    Shifted {
        /// Its least angle.
        from: f64,
        /// Its greatest.
        to: f64,
        /// The shape's least.
        lower: f64,
        /// The shape's greatest.
        upper: f64,
    },
}

/// What was measured of a joint that was at the angle `reference.0`, radians, when its servo's sensor was
/// at `reference.1`, counts, and has been followed by `recorder` since. Also how far the middle of what it
/// reached is from the middle of the shape's range, radians: the reference pose is not off by much more.
pub fn range(
    joint: &Joint,
    direction: Direction,
    reference: (f64, i32),
    recorder: &Recorder,
) -> Result<(Measured, f64), RangeProblem> {
    let sign = sign(direction);
    let zero = reference.1 - (sign * counts_from_radians(reference.0)).round() as i32;
    let (least, greatest) = recorder.range();
    let angle = |counts: i32| sign * radians_from_counts(f64::from(counts - zero));
    let (a, b) = (angle(least), angle(greatest));
    let (from, to) = (a.min(b), a.max(b));
    let moved = to - from;
    fits(joint, moved)?;
    if is_endless(joint)
        && (moved > MOST_SHARE * (joint.upper - joint.lower) || greatest - least >= TURN)
    {
        // It has no stops that could say anything.
        let (a, b) = counts_of(joint, direction);
        let measured = Measured {
            zero,
            least: zero + a.min(b),
            greatest: zero + a.max(b),
        };
        return Ok((measured, 0.0));
    }
    let shift = (from + to - joint.lower - joint.upper) / 2.0;
    if shift.abs() > MOST_SHIFT_RAD {
        return Err(RangeProblem::Shifted {
            from: from.to_degrees(),
            to: to.to_degrees(),
            lower: joint.lower.to_degrees(),
            upper: joint.upper.to_degrees(),
        });
    }
    let measured = Measured {
        zero,
        least,
        greatest,
    };
    Ok((measured, shift))
}

/// Whether a joint of this shape moves over so much, radians.
pub(super) fn fits(joint: &Joint, moved: f64) -> Result<(), RangeProblem> {
    let shape = joint.upper - joint.lower;
    let (moved_deg, shape_deg) = (moved.to_degrees(), shape.to_degrees());
    if moved < LEAST_SHARE * shape {
        return Err(RangeProblem::TooSmall {
            moved: moved_deg,
            shape: shape_deg,
        });
    }
    if moved > MOST_SHARE * shape && !is_endless(joint) {
        return Err(RangeProblem::TooLarge {
            moved: moved_deg,
            shape: shape_deg,
        });
    }
    Ok(())
}

fn is_endless(joint: &Joint) -> bool {
    joint.upper - joint.lower >= ENDLESS_RAD
}

/// The shape's limits, counts from zero: lower, then upper.
pub(super) fn counts_of(joint: &Joint, direction: Direction) -> (i32, i32) {
    let counts = |angle: f64| (sign(direction) * counts_from_radians(angle)).round() as i32;
    (counts(joint.lower), counts(joint.upper))
}

pub(super) fn sign(direction: Direction) -> f64 {
    match direction {
        Direction::Along => 1.0,
        Direction::Against => -1.0,
    }
}

#[cfg(test)]
mod tests {
    use hilt_kinematics::JointKind;
    use nalgebra::{Isometry3, Vector3};

    use super::*;

    fn joint(lower: f64, upper: f64) -> Joint {
        Joint {
            parent_from_joint: Isometry3::identity(),
            axis: Vector3::z_axis(),
            kind: JointKind::Revolute,
            lower,
            upper,
        }
    }

    /// Followed from 0 to `low`, to `high`, and back.
    fn moved(low: i32, high: i32) -> Recorder {
        let mut recorder = Recorder::default();
        let path = (low..=0).rev().step_by(20).chain([low; 3]);
        let path = path.chain((low..=high).step_by(20)).chain([high; 3]);
        for (i, counts) in path.enumerate() {
            recorder.push(i as u64 * 1_000_000, counts);
        }
        recorder
    }

    #[test]
    fn what_was_measured_counts_from_zero() {
        let joint = joint(-1.0, 2.0);
        // 0.5 rad are 326 counts. Along: it reaches from -0.9 to 2.1 rad.
        let recorder = moved(-913, 1043);
        let (measured, shift) = range(&joint, Direction::Along, (0.5, 0), &recorder).unwrap();
        assert_eq!(
            (measured.zero, measured.least, measured.greatest),
            (-326, -913, 1043)
        );
        assert!((shift - 0.1).abs() < 1e-3, "{shift}");
        let recorder = moved(-1043, 913);
        let (measured, _) = range(&joint, Direction::Against, (0.5, 0), &recorder).unwrap();
        assert_eq!(measured.zero, 326);
    }

    #[test]
    fn what_is_no_range_of_this_joint_is_named() {
        let joint = joint(-1.5, 1.0);
        let of = |direction, low, high| range(&joint, direction, (0.0, 0), &moved(low, high));
        let along = Direction::Along;
        // 2.5 rad are 1630 counts.
        assert!(of(along, -978, 652).is_ok());
        let words = |problem: Result<_, RangeProblem>| problem.unwrap_err().to_string();
        assert!(words(of(along, -10, 10)).contains("over 2° of about 143°"));
        assert!(words(of(along, -1200, 1200)).contains("over 211°"));
        let turned = words(of(Direction::Against, -978, 652));
        assert!(turned.contains("from -57° to 86°"), "{turned}");
    }

    #[test]
    fn an_endless_joint_has_the_shapes_range() {
        let joint = joint(-2.8, 2.8);
        let (measured, _) =
            range(&joint, Direction::Against, (0.0, 0), &moved(-5000, 3000)).unwrap();
        assert_eq!((measured.least, measured.greatest), (-1825, 1825));
        // With its stops it keeps what it reached.
        let (measured, _) = range(&joint, Direction::Along, (0.0, 0), &moved(-1900, 1850)).unwrap();
        assert_eq!((measured.least, measured.greatest), (-1900, 1850));
    }
}
