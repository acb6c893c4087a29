//! Inverse kinematics by damped least squares (Wampler 1986; Nakamura and Hanafusa 1986).
//!
//! Each iteration solves (JᵀJ + λ²I) δ = Jᵀe for the joints' step δ, with λ² in proportion to the
//! squared error |e|² (Sugihara 2011: a long way is gone with care, also through a singularity, and
//! near the goal the steps are Newton's), and raised when a step did not help, as in
//! Levenberg–Marquardt. A joint that would leave its range is held at its end and the others are
//! solved again. Warm-started from the present joints, so that the solution stays on its branch.
//!
//! **Smooth where it cannot be exact.** The damping keeps steps bounded near singularities and makes
//! a goal out of reach end at the nearest pose. Beside that no joint ends farther from its start
//! than [`IkOptions::largest_move`]: where a small step of the goal asks for half a turn of the
//! wrist, the wrist makes it over several calls, and the tool is off meanwhile.
//!
//! **Position first, or not.** Fewer than six joints cannot give a tool every orientation. There a
//! goal is a wish for the position, and for the orientation as far as the position leaves it free: a
//! radian weighs no more than [`LEVER_SHORT_M`] metres. Six joints and more can do both; at the edge
//! of the reach they stop with the tool upright, rather than lean it for the last centimetre
//! ([`LEVER_M`]).
//!
//! **Freedom that the tool leaves** (a seventh joint, or directions that a singularity closed) is
//! drawn to [`IkOptions::posture`], if there is one, along the null space of the Jacobian: a bit with
//! every call, and then the tool is put where it belongs.

use hilt_protocol::{JointVector, MAX_JOINTS};
use nalgebra::{Isometry3, SMatrix, SVector, Vector3, Vector6};

use crate::{Chain, Jacobian};

/// So many metres off weigh as much as a radian, for an arm that can have every pose.
pub const LEVER_M: f64 = 1.0;
/// … and for an arm of fewer than six joints: 0.1 rad that it cannot turn cost it less than 0.1 mm.
pub const LEVER_SHORT_M: f64 = 0.01;
/// λ² is this share of |e|². Of 0.001 to 0.5, and the factors below of 2.5 to 10 and 0.1 to 0.7, these
/// left the fewest of 10,000 neighbouring poses unsolved.
const SHARE: f64 = 0.02;
/// After a step that did not help λ² is so many times as large …
const HARDER: f64 = 4.0;
/// … and after one that did, back by this factor.
const EASIER: f64 = 0.5;
/// Share of the way to the posture in one call.
const PULL: f64 = 0.2;
/// λ² of the null space: what a tool cannot do better than this is free for the posture.
const FREE: f64 = 1e-6;
/// A step that moves no joint by so much (radians or metres) ends the solution: nothing is left to win.
const STILL: f64 = 1e-9;

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IkOptions {
    /// Least λ², in units of the Jacobian's rows: radians, and metres by the lever.
    pub damping: f64,
    /// Most iterations.
    pub iterations: usize,
    /// Stop when the position is this close, metres.
    pub position_tolerance_m: f64,
    /// Stop when the orientation is this close, radians.
    pub rotation_tolerance_rad: f64,
    /// Longest move of any joint in one iteration, radians or metres.
    pub largest_step: f64,
    /// Longest move of any joint in one call, radians or metres, 0 or more; infinite for a start that
    /// is not where the arm is.
    pub largest_move: f64,
    /// Where joints are drawn to that the tool leaves free; nowhere if not given.
    pub posture: Option<JointVector>,
}

impl Default for IkOptions {
    /// What a control loop takes. It stops at a tenth of what a servo of 4,096 counts resolves at the
    /// end of an arm (0.1 mm and more): a tolerance is a dead zone too, in which a policy's small
    /// steps would be swallowed, and as the last iteration takes an error to its square, the
    /// tenth costs little. Half a radian in one call is more than servos move between two actions.
    fn default() -> Self {
        Self {
            damping: 1e-6,
            iterations: 24,
            position_tolerance_m: 1e-5,
            rotation_tolerance_rad: 1e-5,
            largest_step: 0.3,
            largest_move: 0.5,
            posture: None,
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
    /// What one metre of position error counts, in radians.
    rad_per_m: f64,
}

/// Lowest and highest value of each joint in one call.
type Range = [(f64, f64); MAX_JOINTS];

/// The view from some joints to the goal.
struct View {
    joints: JointVector,
    /// Weighted: all rows in radians.
    jacobian: Jacobian,
    /// Weighted likewise.
    error: Vector6<f64>,
    position_error_m: f64,
    rotation_error_rad: f64,
}

impl Ik {
    /// A solver. A [`IkOptions::largest_move`] that is below zero or no number is taken for 0: no joint
    /// moves then.
    pub fn new(chain: Chain, mut options: IkOptions) -> Self {
        // A range whose ends are crossed is none. `max` gives the 0 for what is no number.
        options.largest_move = options.largest_move.max(0.0);
        let lever_m = if chain.dof() < 6 {
            LEVER_SHORT_M
        } else {
            LEVER_M
        };
        Self {
            chain,
            options,
            rad_per_m: 1.0 / lever_m,
        }
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
        let start = self.inside(start);
        let range = self.range_about(&start);
        let mut at = self.view(start, base_from_goal);
        if !at.error.iter().all(|e| e.is_finite()) {
            return IkSolution {
                joints: start,
                position_error_m: f64::INFINITY,
                rotation_error_rad: f64::INFINITY,
            };
        }
        if let Some(posture) = &self.options.posture {
            at = self.view(self.pulled(&at, posture, &range), base_from_goal);
        }
        let mut times = 1.0;
        for _ in 0..self.options.iterations {
            if self.good_enough(&at) {
                break;
            }
            let error = at.error.norm_squared();
            let damping = (self.options.damping + SHARE * error) * times;
            let joints = self.step(&at, damping, &range);
            if farthest(&joints, &at.joints) < STILL {
                break;
            }
            let next = self.view(joints, base_from_goal);
            if next.error.norm_squared() < error {
                at = next;
                times = f64::max(times * EASIER, 1.0);
            } else {
                times *= HARDER;
            }
        }
        IkSolution {
            joints: at.joints,
            position_error_m: at.position_error_m,
            rotation_error_rad: at.rotation_error_rad,
        }
    }

    /// One finite value per joint, within limits.
    fn inside(&self, given: &JointVector) -> JointVector {
        let mut joints = self.chain.zeros();
        for (q, &given) in joints.as_mut_slice().iter_mut().zip(given.as_slice()) {
            *q = if given.is_finite() { given } else { 0.0 };
        }
        self.chain.clamp(joints.as_mut_slice());
        joints
    }

    fn range_about(&self, start: &JointVector) -> Range {
        let most = self.options.largest_move;
        let mut range = [(0.0, 0.0); MAX_JOINTS];
        let joints = self.chain.joints().iter().zip(start.as_slice());
        for (range, (joint, &q)) in range.iter_mut().zip(joints) {
            *range = ((q - most).max(joint.lower), (q + most).min(joint.upper));
        }
        range
    }

    fn view(&self, joints: JointVector, base_from_goal: &Isometry3<f64>) -> View {
        let (tool, mut jacobian) = self.chain.jacobian(joints.as_slice());
        let linear = base_from_goal.translation.vector - tool.translation.vector;
        let angular: Vector3<f64> =
            (base_from_goal.rotation * tool.rotation.inverse()).scaled_axis();
        let weighted = linear * self.rad_per_m;
        jacobian.fixed_rows_mut::<3>(0).scale_mut(self.rad_per_m);
        View {
            joints,
            jacobian,
            error: Vector6::new(
                weighted.x, weighted.y, weighted.z, angular.x, angular.y, angular.z,
            ),
            position_error_m: linear.norm(),
            rotation_error_rad: angular.norm(),
        }
    }

    fn good_enough(&self, at: &View) -> bool {
        at.position_error_m < self.options.position_tolerance_m
            && at.rotation_error_rad < self.options.rotation_tolerance_rad
    }

    /// The joints a bit nearer to the posture, along directions in which the tool does not move.
    fn pulled(&self, at: &View, posture: &JointVector, range: &Range) -> JointVector {
        let mut wish: SVector<f64, MAX_JOINTS> = SVector::zeros();
        let posture = self.inside(posture);
        let ways = posture.as_slice().iter().zip(at.joints.as_slice());
        for (wish, (to, from)) in wish.iter_mut().zip(ways) {
            *wish = PULL * (to - from);
        }
        // What the tool sees of the wish is taken out of it.
        let seen = least_squares(&at.jacobian, &(at.jacobian * wish), FREE);
        let Some(seen) = seen else {
            return at.joints;
        };
        let mut change = wish - seen;
        shorten(&mut change, self.options.largest_step);
        let mut joints = at.joints;
        for (i, q) in joints.as_mut_slice().iter_mut().enumerate() {
            *q = (*q + change[i]).clamp(range[i].0, range[i].1);
        }
        joints
    }

    /// One damped step within the range. A joint that would leave it is held at its end and the
    /// others are solved again for what then is left.
    fn step(&self, at: &View, damping: f64, range: &Range) -> JointVector {
        let start = at.joints.as_slice();
        let mut next = at.joints;
        // Held joints' columns are zeroed, which leaves them out of the solution.
        let mut free = at.jacobian;
        let mut held = [false; MAX_JOINTS];
        let mut rest = at.error;
        for _ in 0..=self.chain.dof() {
            let Some(mut change) = least_squares(&free, &rest, damping) else {
                return next;
            };
            shorten(&mut change, self.options.largest_step);
            let before = held;
            for (i, q) in next.as_mut_slice().iter_mut().enumerate() {
                if before[i] {
                    continue;
                }
                let wanted = start[i] + change[i];
                *q = wanted.clamp(range[i].0, range[i].1);
                if *q != wanted {
                    held[i] = true;
                    rest -= at.jacobian.column(i) * (*q - start[i]);
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

/// δ that makes |e − J δ|² + λ²|δ|² least. Columns of zeros get zero. Without damping a singular J
/// gives `None`.
fn least_squares(
    jacobian: &Jacobian,
    error: &Vector6<f64>,
    damping: f64,
) -> Option<SVector<f64, MAX_JOINTS>> {
    let transposed = jacobian.transpose();
    let mut normal: SMatrix<f64, MAX_JOINTS, MAX_JOINTS> = transposed * jacobian;
    for i in 0..MAX_JOINTS {
        normal[(i, i)] += damping;
    }
    let factor = normal.cholesky()?;
    Some(factor.solve(&(transposed * error)))
}

/// Brings the longest component down to `most`, and the others with it.
fn shorten(change: &mut SVector<f64, MAX_JOINTS>, most: f64) {
    let longest = change.amax();
    if longest > most {
        *change *= most / longest;
    }
}

/// The longest way that a joint goes from one to the other.
fn farthest(a: &JointVector, b: &JointVector) -> f64 {
    let ways = a.as_slice().iter().zip(b.as_slice());
    ways.fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}
