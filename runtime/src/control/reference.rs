//! The reference: where an arm is sent from tick to tick, never faster and never harder than its
//! joints may. Pure.
//!
//! Between two policy steps the wanted position walks evenly to the command's target. The reference
//! follows it within the velocity and the acceleration of the joints, early enough on the brake that
//! it does not overshoot the target, and inside the joints' limits.

use hilt_protocol::{GripperCommand, JointVector};

/// What an arm's joints may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointBounds {
    /// Lowest positions, radians.
    pub lower: JointVector,
    /// Highest positions, radians.
    pub upper: JointVector,
    /// Fastest, rad/s.
    pub velocity_rad_s: f64,
    /// Hardest, rad/s²; infinite where only the velocity is bounded.
    pub acceleration_rad_s2: f64,
}

impl JointBounds {
    /// Positions brought inside.
    pub fn clamp(&self, mut joints: JointVector) -> JointVector {
        let limits = self.lower.as_slice().iter().zip(self.upper.as_slice());
        for (q, (lower, upper)) in joints.as_mut_slice().iter_mut().zip(limits) {
            *q = q.clamp(*lower, *upper);
        }
        joints
    }
}

/// Where an arm is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Positions, radians.
    pub joints: JointVector,
    /// Velocities, rad/s.
    pub velocities: JointVector,
    /// What the gripper is told.
    pub gripper: GripperCommand,
}

/// An even walk at exactly the highest speed is not to be bent by the last bit of a division.
const ROUNDING: f64 = 1.0 + 1e-9;
/// Slower than this, rad/s, a joint stands.
const STILL_RAD_S: f64 = 1e-6;

impl Reference {
    /// Standing at `joints`.
    pub fn at(joints: JointVector, gripper: GripperCommand) -> Self {
        let mut velocities = joints;
        velocities.as_mut_slice().fill(0.0);
        Self {
            joints,
            velocities,
            gripper,
        }
    }

    /// No joint moves.
    pub fn is_still(&self) -> bool {
        let joints = self.velocities.as_slice();
        joints.iter().all(|v| v.abs() < STILL_RAD_S)
    }

    /// A tick of `dt_s` toward `wanted`, on the way to `goal`.
    pub fn follow(
        &mut self,
        bounds: &JointBounds,
        wanted: &JointVector,
        goal: &JointVector,
        dt_s: f64,
    ) {
        let both = wanted.as_slice().iter().zip(goal.as_slice());
        for (i, (&wanted, &goal)) in both.enumerate() {
            let (lower, upper) = (bounds.lower.as_slice()[i], bounds.upper.as_slice()[i]);
            let (wanted, goal) = (wanted.clamp(lower, upper), goal.clamp(lower, upper));
            let (q, v) = (self.joints.as_slice()[i], self.velocities.as_slice()[i]);
            let asked = (wanted - q) / dt_s;
            let brake = braking_rad_s(bounds.acceleration_rad_s2, goal - q, dt_s);
            let velocity = (bounds.velocity_rad_s * ROUNDING).min(brake);
            let change = bounds.acceleration_rad_s2 * dt_s;
            let allowed = asked
                .clamp(-velocity, velocity)
                .clamp(v - change, v + change);
            let to = if allowed == asked {
                wanted
            } else {
                q + allowed * dt_s
            };
            self.set(bounds, i, to, dt_s);
        }
    }

    /// A tick of `dt_s` toward a standstill.
    pub fn brake(&mut self, bounds: &JointBounds, dt_s: f64) {
        let change = bounds.acceleration_rad_s2 * dt_s;
        for i in 0..self.joints.as_slice().len() {
            let v = self.velocities.as_slice()[i];
            let slower = v - v.clamp(-change, change);
            let to = self.joints.as_slice()[i] + slower * dt_s;
            self.set(bounds, i, to, dt_s);
        }
    }

    fn set(&mut self, bounds: &JointBounds, i: usize, to: f64, dt_s: f64) {
        let from = self.joints.as_slice()[i];
        let inside = to.clamp(bounds.lower.as_slice()[i], bounds.upper.as_slice()[i]);
        self.joints.as_mut_slice()[i] = inside;
        self.velocities.as_mut_slice()[i] = (inside - from) / dt_s;
    }
}

/// The fastest from which a joint that brakes as hard as it may stops within `way`, when it moves on
/// for a tick before: v·dt + v²/2a = way.
fn braking_rad_s(acceleration_rad_s2: f64, way: f64, dt_s: f64) -> f64 {
    if acceleration_rad_s2.is_infinite() {
        return f64::INFINITY;
    }
    let reach = acceleration_rad_s2 * dt_s;
    (reach * reach + 2.0 * acceleration_rad_s2 * way.abs()).sqrt() - reach
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DT_S: f64 = 0.005;

    fn joints(value: f64) -> JointVector {
        JointVector::from_slice(&[value; 3]).unwrap()
    }

    fn bounds(acceleration_rad_s2: f64) -> JointBounds {
        JointBounds {
            lower: joints(-1.0),
            upper: joints(1.0),
            velocity_rad_s: 2.0,
            acceleration_rad_s2,
        }
    }

    #[test]
    fn what_is_allowed_is_followed_to_the_bit() {
        let mut reference = Reference::at(joints(0.1), GripperCommand::Open);
        for tick in 1..=20 {
            let wanted = joints(0.1 + 0.3 * (f64::from(tick) / 20.0));
            reference.follow(&bounds(f64::INFINITY), &wanted, &joints(0.4), 0.01);
            assert_eq!(reference.joints, wanted);
        }
        reference.brake(&bounds(f64::INFINITY), 0.01);
        assert_eq!(reference.joints, joints(0.4));
        assert!(reference.is_still());
    }

    #[test]
    fn it_arrives_and_does_not_overshoot() {
        let bounds = bounds(10.0);
        let mut reference = Reference::at(joints(0.0), GripperCommand::Open);
        let goal = joints(0.5);
        let mut furthest = 0.0f64;
        for _ in 0..400 {
            reference.follow(&bounds, &goal, &goal, DT_S);
            furthest = furthest.max(reference.joints.as_slice()[0]);
        }
        assert!(
            (reference.joints.as_slice()[0] - 0.5).abs() < 1e-3,
            "{reference:?}"
        );
        assert!(furthest < 0.5 + 1e-3, "{furthest}");
    }

    proptest! {
        #[test]
        fn no_joint_is_ever_too_fast_too_hard_or_outside(
            goals in prop::collection::vec((-3.0f64..3.0, 1usize..40, any::<bool>()), 1..12)
        ) {
            let bounds = bounds(8.0);
            let mut reference = Reference::at(joints(0.0), GripperCommand::Open);
            for (goal, ticks, brakes) in goals {
                let goal = joints(goal);
                for _ in 0..ticks {
                    let before = reference;
                    if brakes {
                        reference.brake(&bounds, DT_S);
                    } else {
                        reference.follow(&bounds, &goal, &goal, DT_S);
                    }
                    let (q, v) = (reference.joints.as_slice()[0], reference.velocities.as_slice()[0]);
                    prop_assert!((-1.0..=1.0).contains(&q));
                    prop_assert!(v.abs() <= 2.0 + 1e-8);
                    let change = (v - before.velocities.as_slice()[0]).abs();
                    // At a joint's limit it stands at once: the limit is a wall, and goals inside
                    // the limits are braked for before they are reached.
                    let at_wall = q.abs() == 1.0;
                    prop_assert!(at_wall || change <= 8.0 * DT_S + 1e-9, "{change}");
                }
            }
            for _ in 0..100 {
                reference.brake(&bounds, DT_S);
            }
            prop_assert!(reference.is_still());
        }
    }
}
