//! How a joint swings for its cameras' delay to be measured.

use std::f64::consts::{PI, TAU};

use hilt_kinematics::Chain;
use hilt_protocol::JointVector;

use crate::hand_eye::is_clear;

/// A swing about where the arm is: to and fro, faster and faster, so that no two moments are alike; at
/// rest before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// The joint, base first, from 0.
    pub joint: usize,
    /// How far it goes to either side, radians.
    pub amplitude_rad: f64,
    /// Swings in a second at the beginning …
    pub from_hz: f64,
    /// … and at the end.
    pub to_hz: f64,
    /// How long it swings, seconds.
    pub swing_s: f64,
    /// How long it rests before, and after, seconds.
    pub rest_s: f64,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SweepError {
    /// Joints that are not the arm's.
    #[error(
        "the arm is at joints that are not its own, or beyond their limits; move it inside them by hand"
    )]
    Start,
    /// No joint may swing.
    #[error(
        "no joint can swing by {LEAST_RAD} rad from here, and the hand stay above {lowest_m:.2} m; move the hand higher and the arm away from its limits, or allow more speed or more way"
    )]
    NoRoom {
        /// The lowest height of the hand that is allowed, metres.
        lowest_m: f64,
    },
}

/// A smaller swing is lost between a servo's counts, radians.
const LEAST_RAD: f64 = 0.02;
/// A larger one is not needed.
const MOST_RAD: f64 = 0.35;

/// The swing that moves the hand most without moving it by more than `reach_m` to either side, any joint
/// faster than `speed_rad_s`, one beyond its limits, or the hand below `lowest_m` in the base's frame; if it
/// is below that already, below where it is.
pub fn plan(
    chain: &Chain,
    start: &JointVector,
    reach_m: f64,
    speed_rad_s: f64,
    lowest_m: f64,
) -> Result<Sweep, SweepError> {
    let joints = start.as_slice();
    let within =
        |(q, joint): (&f64, &hilt_kinematics::Joint)| (joint.lower..=joint.upper).contains(q);
    if joints.len() != chain.dof() || !joints.iter().zip(chain.joints()).all(within) {
        return Err(SweepError::Start);
    }
    let (home, jacobian) = chain.jacobian(joints);
    // A turn of the base keeps the height, but for rounding.
    let floor_m = lowest_m.min(home.translation.z) - 1e-6;
    let stays_above = |joint: usize, amplitude_rad: f64| {
        [-amplitude_rad, amplitude_rad].iter().all(|by| {
            let mut side = *start;
            side.as_mut_slice()[joint] += by;
            is_clear(chain, start, &side, floor_m, None)
        })
    };
    let (from_hz, to_hz) = (0.4, 1.4);
    let sweeps = joints.iter().zip(chain.joints()).enumerate();
    let sweeps = sweeps.filter_map(|(i, (q, joint))| {
        let carried_m = jacobian.fixed_view::<3, 1>(0, i).norm();
        let room = (joint.upper - q).min(q - joint.lower);
        let amplitude_rad = (reach_m / carried_m.max(1e-6))
            .min(room)
            .min(speed_rad_s / (TAU * to_hz))
            .min(MOST_RAD);
        (amplitude_rad >= LEAST_RAD && stays_above(i, amplitude_rad)).then_some((
            i,
            amplitude_rad,
            amplitude_rad * carried_m,
        ))
    });
    let most = sweeps.max_by(|(.., a), (.., b)| a.total_cmp(b));
    let (joint, amplitude_rad, _) = most.ok_or(SweepError::NoRoom { lowest_m })?;
    Ok(Sweep {
        joint,
        amplitude_rad,
        from_hz,
        to_hz,
        swing_s: 8.0,
        rest_s: 1.0,
    })
}

impl Sweep {
    /// How long all of it takes, seconds.
    pub fn length_s(&self) -> f64 {
        self.swing_s + 2.0 * self.rest_s
    }

    /// How far from the start the joint is to be at a time after the beginning, radians. Begins and ends
    /// without a jerk.
    pub fn offset_rad(&self, time_s: f64) -> f64 {
        let t = time_s - self.rest_s;
        if !(0.0..=self.swing_s).contains(&t) {
            return 0.0;
        }
        let ramp_s = 0.1 * self.swing_s;
        let ramp = (t.min(self.swing_s - t) / ramp_s).min(1.0);
        let eased = (PI / 2.0 * ramp).sin().powi(2);
        let growth = (self.to_hz - self.from_hz) / self.swing_s;
        self.amplitude_rad * eased * (TAU * (self.from_hz * t + growth * t * t / 2.0)).sin()
    }
}
