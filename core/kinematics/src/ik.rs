//! Damped-least-squares inverse kinematics (Wampler 1986; Nakamura and Hanafusa 1986).
//!
//! Each iteration solves (J Jᵀ + λ²I) y = e and moves by Jᵀ y, with λ² raised when a step did not
//! help and lowered again when it did, as in Levenberg–Marquardt. The damping keeps steps bounded
//! near singularities and makes an unreachable target end at the nearest pose instead of a jump.
//! Warm-started from the present joints, so that the solution stays on its branch.

use hilt_protocol::{JointVector, MAX_JOINTS};
use nalgebra::{Isometry3, Matrix6, SVector, Vector3, Vector6};

use crate::{Chain, Jacobian};

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IkOptions {
    /// Least λ².
    pub damping: f64,
    /// Most iterations.
    pub iterations: usize,
    /// Stop when the position is this close, metres.
    pub position_tolerance_m: f64,
    /// Stop when the orientation is this close, radians.
    pub rotation_tolerance_rad: f64,
    /// Longest move of any joint in one iteration, radians or metres.
    pub largest_step: f64,
}

impl Default for IkOptions {
    fn default() -> Self {
        Self {
            damping: 1e-4,
            iterations: 12,
            position_tolerance_m: 1e-4,
            rotation_tolerance_rad: 1e-3,
            largest_step: 0.3,
        }
    }
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IkSolution {
    /// Joints, always finite and within limits.
    pub joints: JointVector,
    /// What is left of the position error, metres.
    pub position_error_m: f64,
    /// What is left of the orientation error, radians.
    pub rotation_error_rad: f64,
}

/// A solver for one chain.
#[derive(Clone, Debug)]
pub struct Ik {
    chain: Chain,
    options: IkOptions,
}

/// Position and rotation-vector difference in the base frame, from `now` to `goal`.
fn twist(now: &Isometry3<f64>, goal: &Isometry3<f64>) -> Vector6<f64> {
    let linear = goal.translation.vector - now.translation.vector;
    let angular: Vector3<f64> = (goal.rotation * now.rotation.inverse()).scaled_axis();
    Vector6::new(
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z,
    )
}

impl Ik {
    /// A solver.
    pub fn new(chain: Chain, options: IkOptions) -> Self {
        Self { chain, options }
    }

    /// The chain it solves for.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Joints that bring the tool to `base_from_goal`, or as near as was found, from `start`.
    ///
    /// Never allocates, never fails: a start outside the limits (or not finite, or too short) is
    /// moved inside; a goal that is not finite leaves the start as it is, with infinite error.
    pub fn solve(&self, base_from_goal: &Isometry3<f64>, start: &JointVector) -> IkSolution {
        let mut joints = self.chain.zeros();
        for (q, &given) in joints.as_mut_slice().iter_mut().zip(start.as_slice()) {
            *q = if given.is_finite() { given } else { 0.0 };
        }
        self.chain.clamp(joints.as_mut_slice());

        let (tool, mut jacobian) = self.chain.jacobian(joints.as_slice());
        let mut error = twist(&tool, base_from_goal);
        if error.iter().any(|e| !e.is_finite()) {
            return solution(joints, &Vector6::repeat(f64::INFINITY));
        }
        let mut damping = self.options.damping;
        for _ in 0..self.options.iterations {
            if self.good_enough(&error) {
                break;
            }
            let next = self.step(&joints, &jacobian, &error, damping);
            let (tool, next_jacobian) = self.chain.jacobian(next.as_slice());
            let next_error = twist(&tool, base_from_goal);
            if next_error.norm_squared() < error.norm_squared() {
                (joints, jacobian, error) = (next, next_jacobian, next_error);
                damping = (damping * 0.1).max(self.options.damping);
            } else {
                damping *= 10.0;
            }
        }
        solution(joints, &error)
    }

    fn good_enough(&self, error: &Vector6<f64>) -> bool {
        error.fixed_rows::<3>(0).norm() < self.options.position_tolerance_m
            && error.fixed_rows::<3>(3).norm() < self.options.rotation_tolerance_rad
    }

    /// One damped step within the limits. A joint that would leave its range is held at its limit
    /// and the others are solved again for what then is left.
    fn step(
        &self,
        from: &JointVector,
        jacobian: &Jacobian,
        error: &Vector6<f64>,
        damping: f64,
    ) -> JointVector {
        let start = from.as_slice();
        let mut next = *from;
        // Held joints' columns are zeroed, which leaves them out of the solution.
        let mut free = *jacobian;
        let mut held = [false; MAX_JOINTS];
        let mut rest = *error;
        for _ in 0..=self.chain.dof() {
            let normal = free * free.transpose() + Matrix6::identity() * damping;
            // Positive definite for damping > 0; without it a singular pose ends the step.
            let Some(y) = normal.cholesky().map(|factor| factor.solve(&rest)) else {
                return next;
            };
            let mut change: SVector<f64, MAX_JOINTS> = free.transpose() * y;
            let longest = change.amax();
            if longest > self.options.largest_step {
                change *= self.options.largest_step / longest;
            }
            let before = held;
            for (i, joint) in self.chain.joints().iter().enumerate() {
                if before[i] {
                    continue;
                }
                let wanted = start[i] + change[i];
                let q = wanted.clamp(joint.lower, joint.upper);
                next.as_mut_slice()[i] = q;
                if q != wanted {
                    held[i] = true;
                    rest -= jacobian.column(i) * (q - start[i]);
                    free.column_mut(i).fill(0.0);
                }
            }
            if held == before {
                break;
            }
        }
        next
    }
}

fn solution(joints: JointVector, error: &Vector6<f64>) -> IkSolution {
    IkSolution {
        joints,
        position_error_m: error.fixed_rows::<3>(0).norm(),
        rotation_error_rad: error.fixed_rows::<3>(3).norm(),
    }
}
