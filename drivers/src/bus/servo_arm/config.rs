//! Which servo is which joint, and what its counts mean there. Pure functions.

use hilt_kinematics::{Chain, ChainError, JointKind};
pub use hilt_protocol::calibration::Direction;
use hilt_protocol::{GripperCommand, MAX_JOINTS, calibration::ArmCalibration};
use serde::{Deserialize, Serialize};

use crate::bus::{
    Family,
    sts3215::{COUNTS_PER_TURN, LAST_COUNT, counts_from_radians, radians_from_counts},
};

/// Most servos of an arm: its joints and the gripper.
pub(super) const MAX_SERVOS: usize = MAX_JOINTS + 1;

/// The servo of a joint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointServo {
    /// Its id on the bus.
    pub id: u8,
    /// What it reports when the joint is at zero, counts; the middle of its turn if not given.
    #[serde(default = "middle_counts")]
    pub zero_counts: u16,
    /// Which way its counts grow; along if not given.
    #[serde(default)]
    pub direction: Direction,
}

fn middle_counts() -> u16 {
    COUNTS_PER_TURN / 2
}

/// The servo of the gripper. Between open and closed the width is taken as linear in the counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GripperServo {
    /// Its id on the bus.
    pub id: u8,
    /// What it reports, and is told, when the gripper is open, counts.
    pub open_counts: u16,
    /// The same for closed.
    pub closed_counts: u16,
    /// Gap between the fingers at `open_counts`, metres.
    pub open_width_m: f64,
    /// Gap at `closed_counts`, metres.
    pub closed_width_m: f64,
}

/// An arm of servos of one family on one bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServoArmConfig {
    /// What its servos are.
    pub family: Family,
    /// One for each of the chain's joints, base to tip.
    pub joints: Vec<JointServo>,
    /// The gripper's.
    pub gripper: GripperServo,
    /// Bits per second of the bus.
    pub baud: u32,
    /// A speed that no joint, nor the gripper's servo, ever reaches, also when pushed by hand: what
    /// goes beyond it was not read right. rad/s.
    pub max_speed_rad_s: f64,
}

/// Why there can be no such arm.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ServoArmConfigError {
    /// Joints and servos do not match.
    #[error("an arm of {joints} joints needs as many servos, not {servos}")]
    Joints {
        /// The chain's joints.
        joints: usize,
        /// The servos named for them.
        servos: usize,
    },
    /// A joint slides.
    #[error("joint {0} slides; a servo can only turn it")]
    Slides(usize),
    /// No id, or one that is named twice.
    #[error(
        "servo id {0} is too high or named twice; give each servo an id of its own, up to 253 (Feetech) or 252 (Dynamixel)"
    )]
    Id(u8),
    /// A joint's limits are outside a servo's turn.
    #[error(
        "joint {joint}: its limits are counts {lower:.0} to {upper:.0}, a servo goes from 0 to 4095; mount or calibrate the servo so that zero is near count 2048, or narrow the limits"
    )]
    Range {
        /// The joint.
        joint: usize,
        /// Its lower limit, counts.
        lower: f64,
        /// Its upper limit, counts.
        upper: f64,
    },
    /// Open and closed are the same, outside a turn, or not finite.
    #[error("the gripper's open and closed counts must differ and be 0 to 4095, its widths finite")]
    Gripper,
    /// A calibration of another arm.
    #[error(
        "the calibration is of {found}, the rig's file says {wanted}; calibrate this arm: hilt calibrate joints"
    )]
    OtherArm {
        /// Family and ids that were calibrated.
        found: String,
        /// Those of the rig.
        wanted: String,
    },
    /// A rate or speed that is not above zero.
    #[error("the bus's baud rate and the highest speed must be above zero")]
    NotPositive,
}

impl JointServo {
    pub(crate) fn sign(&self) -> f64 {
        match self.direction {
            Direction::Along => 1.0,
            Direction::Against => -1.0,
        }
    }

    /// The joint's angle, radians.
    pub fn radians(&self, counts: i32) -> f64 {
        self.sign() * radians_from_counts(f64::from(counts) - f64::from(self.zero_counts))
    }

    /// The joint's velocity, rad/s.
    pub fn radians_per_s(&self, counts_per_s: i32) -> f64 {
        self.sign() * radians_from_counts(f64::from(counts_per_s))
    }

    pub(crate) fn counts(&self, radians: f64) -> f64 {
        f64::from(self.zero_counts) + self.sign() * counts_from_radians(radians)
    }

    /// The goal for an angle, counts; within the servo's turn.
    pub fn goal(&self, radians: f64) -> i32 {
        self.counts(radians)
            .round()
            .clamp(0.0, f64::from(LAST_COUNT)) as i32
    }
}

impl GripperServo {
    /// The gap between the fingers, metres.
    pub fn width_m(&self, counts: i32) -> f64 {
        let closed = f64::from(self.closed_counts);
        let openness = (f64::from(counts) - closed) / (f64::from(self.open_counts) - closed);
        self.closed_width_m + openness * (self.open_width_m - self.closed_width_m)
    }

    /// The goal for a command, counts.
    pub fn goal(&self, command: GripperCommand) -> i32 {
        i32::from(match command {
            GripperCommand::Open => self.open_counts,
            GripperCommand::Closed => self.closed_counts,
        })
    }
}

impl ServoArmConfig {
    /// Servo ids: the joints', base to tip, then the gripper's.
    pub fn ids(&self) -> impl Iterator<Item = u8> + '_ {
        let gripper = self.gripper.id;
        self.joints.iter().map(|j| j.id).chain([gripper])
    }

    /// The same arm with what was measured of it: zeros, directions, open and closed.
    pub fn calibrated(&self, of: &ArmCalibration) -> Result<Self, ServoArmConfigError> {
        let words = |family: &str, ids: Vec<u8>| format!("{family} servos {ids:?}");
        let wanted = words(self.family.name(), self.ids().collect());
        let found = words(&of.family, of.servos().map(|servo| servo.id).collect());
        if found != wanted {
            return Err(ServoArmConfigError::OtherArm { found, wanted });
        }
        let joints = of.joints.iter().map(|joint| JointServo {
            id: joint.servo.id,
            zero_counts: joint.zero_counts,
            direction: joint.direction,
        });
        Ok(Self {
            joints: joints.collect(),
            gripper: GripperServo {
                open_counts: of.gripper.open_counts,
                closed_counts: of.gripper.closed_counts,
                ..self.gripper
            },
            ..self.clone()
        })
    }

    /// The chain with no joint's limits beyond where its servo goes: a servo of the X series refuses goals
    /// beyond its own, and nobody is told.
    ///
    /// # Errors
    /// [`ChainError::Limits`] where a servo goes nowhere within its joint's limits.
    pub fn within_stops(chain: &Chain, of: &ArmCalibration) -> Result<Chain, ChainError> {
        let mut joints = chain.joints().to_vec();
        for (joint, calibrated) in joints.iter_mut().zip(&of.joints) {
            let (least, greatest) = calibrated.range_rad();
            joint.lower = joint.lower.max(least);
            joint.upper = joint.upper.min(greatest);
        }
        Chain::new(joints, *chain.last_from_tool())
    }

    /// Whether there can be such an arm with this chain.
    pub fn check(&self, chain: &Chain) -> Result<(), ServoArmConfigError> {
        if self.joints.len() != chain.dof() {
            return Err(ServoArmConfigError::Joints {
                joints: chain.dof(),
                servos: self.joints.len(),
            });
        }
        for (i, id) in self.ids().enumerate() {
            if id > self.family.protocol().last_id() || self.ids().take(i).any(|other| other == id)
            {
                return Err(ServoArmConfigError::Id(id));
            }
        }
        for (i, (servo, joint)) in self.joints.iter().zip(chain.joints()).enumerate() {
            if joint.kind != JointKind::Revolute {
                return Err(ServoArmConfigError::Slides(i));
            }
            let (lower, upper) = (servo.counts(joint.lower), servo.counts(joint.upper));
            let turn = -0.5..f64::from(LAST_COUNT) + 0.5;
            if !turn.contains(&lower) || !turn.contains(&upper) {
                return Err(ServoArmConfigError::Range {
                    joint: i,
                    lower,
                    upper,
                });
            }
        }
        let g = &self.gripper;
        let apart = g.open_counts != g.closed_counts;
        let finite = g.open_width_m.is_finite() && g.closed_width_m.is_finite();
        if !apart || !finite || g.open_counts.max(g.closed_counts) > LAST_COUNT {
            return Err(ServoArmConfigError::Gripper);
        }
        if self.baud == 0 || !(self.max_speed_rad_s.is_finite() && self.max_speed_rad_s > 0.0) {
            return Err(ServoArmConfigError::NotPositive);
        }
        Ok(())
    }
}
