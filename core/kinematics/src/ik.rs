//! Damped-least-squares inverse kinematics (Wampler 1986; Nakamura and Hanafusa 1986).
//!
//! Each iteration solves (J Jᵀ + λ²I) y = e and moves by Jᵀ y, clipped to the joint limits. The
//! damping keeps steps bounded near singularities and makes an unreachable target end at the
//! nearest pose instead of a jump. Warm-started from the present joints, so that the solution
//! stays on its branch.

use hilt_protocol::JointVector;
use nalgebra::{Isometry3, Matrix6, Vector3, Vector6};

use crate::Chain;

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IkOptions {
    /// λ².
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

    /// Joints that bring the tool toward `base_from_goal`, from `start`.
    pub fn solve(&self, base_from_goal: &Isometry3<f64>, start: &JointVector) -> IkSolution {
        let mut joints = *start;
        self.chain.clamp(joints.as_mut_slice());
        let mut best = self.rate(base_from_goal, &joints);
        for _ in 0..self.options.iterations {
            if best.position_error_m < self.options.position_tolerance_m
                && best.rotation_error_rad < self.options.rotation_tolerance_rad
            {
                break;
            }
            let (tool, jacobian) = self.chain.jacobian(joints.as_slice());
            let error = twist(&tool, base_from_goal);
            let normal =
                jacobian * jacobian.transpose() + Matrix6::identity() * self.options.damping;
            let Some(y) = normal.cholesky().map(|factor| factor.solve(&error)) else {
                break;
            };
            let mut step = jacobian.transpose() * y;
            let longest = step.amax();
            if !longest.is_finite() {
                break;
            }
            if longest > self.options.largest_step {
                step *= self.options.largest_step / longest;
            }
            for (q, d) in joints.as_mut_slice().iter_mut().zip(step.iter()) {
                *q += d;
            }
            self.chain.clamp(joints.as_mut_slice());
            let next = self.rate(base_from_goal, &joints);
            // Weighs a radian as a third of a metre: what a hand of that length would miss by.
            let cost = |s: &IkSolution| s.position_error_m + s.rotation_error_rad / 3.0;
            if cost(&next) < cost(&best) {
                best = next;
            }
        }
        best
    }

    fn rate(&self, goal: &Isometry3<f64>, joints: &JointVector) -> IkSolution {
        let error = twist(&self.chain.base_from_tool(joints.as_slice()), goal);
        IkSolution {
            joints: *joints,
            position_error_m: error.fixed_rows::<3>(0).norm(),
            rotation_error_rad: error.fixed_rows::<3>(3).norm(),
        }
    }
}
