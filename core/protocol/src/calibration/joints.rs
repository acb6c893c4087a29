//! Which servo is which joint of one arm, and where it is zero.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::{CalibrationError, value};

/// Counts of a servo's turn, of every family; the highest position is one less.
pub const COUNTS_PER_TURN: u16 = 4096;

/// Which way a servo's counts grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// With the joint's angle.
    #[default]
    Along,
    /// Against it.
    Against,
}

/// By what one servo is told from another. Bus servos have no serial number; what was written to them
/// when they were calibrated stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServoIdentity {
    /// Its id on the bus.
    pub id: u8,
    /// Its model number.
    pub model: u16,
    /// Its firmware, as it says it.
    pub firmware: String,
    /// What its register of the position's correction holds, counts.
    pub offset_counts: i32,
    /// Lowest goal that it takes, counts.
    pub lowest_counts: u16,
    /// Highest goal.
    pub highest_counts: u16,
}

/// One joint and its servo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointCalibration {
    /// What people call it.
    pub name: String,
    /// What the servo reports when the joint is at zero, counts.
    pub zero_counts: u16,
    /// Which way its counts grow.
    pub direction: Direction,
    /// The servo.
    pub servo: ServoIdentity,
}

/// The gripper and its servo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GripperCalibration {
    /// What its servo reports when it is open, counts.
    pub open_counts: u16,
    /// The same for closed.
    pub closed_counts: u16,
    /// The servo.
    pub servo: ServoIdentity,
}

/// What was measured of one arm's joints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmCalibration {
    /// Its number among the rig's arms (or leaders), from 0.
    pub index: usize,
    /// When it was measured: RFC 3339, UTC.
    pub date: String,
    /// What its servos are, as the rig's file calls it.
    pub family: String,
    /// Base to tip.
    pub joints: Vec<JointCalibration>,
    /// The gripper.
    pub gripper: GripperCalibration,
}

impl JointCalibration {
    /// The least and greatest angle that its servo goes to, radians.
    pub fn range_rad(&self) -> (f64, f64) {
        let angle = |counts: u16| {
            let counts = f64::from(counts) - f64::from(self.zero_counts);
            let along = counts * TAU / f64::from(COUNTS_PER_TURN);
            match self.direction {
                Direction::Along => along,
                Direction::Against => -along,
            }
        };
        let ends = [self.servo.lowest_counts, self.servo.highest_counts].map(angle);
        (ends[0].min(ends[1]), ends[0].max(ends[1]))
    }
}

impl ServoIdentity {
    fn check(&self, field: &str) -> Result<(), CalibrationError> {
        let (lowest, highest) = (self.lowest_counts, self.highest_counts);
        if highest >= COUNTS_PER_TURN {
            let problem = format!("is {highest}; a servo goes up to 4095");
            return Err(value(format!("{field}.highest_counts"), problem));
        }
        if lowest >= highest {
            let problem = format!("is {lowest}, not below highest_counts ({highest})");
            return Err(value(format!("{field}.lowest_counts"), problem));
        }
        Ok(())
    }
}

impl ArmCalibration {
    /// All its servos, the joints' base to tip, then the gripper's.
    pub fn servos(&self) -> impl Iterator<Item = &ServoIdentity> {
        let joints = self.joints.iter().map(|joint| &joint.servo);
        joints.chain([&self.gripper.servo])
    }

    pub(super) fn check(&self, field: &str) -> Result<(), CalibrationError> {
        for (place, joint) in self.joints.iter().enumerate() {
            let field = format!("{field}.joints[{place}]");
            if joint.zero_counts >= COUNTS_PER_TURN {
                let problem = format!("is {}; a servo goes up to 4095", joint.zero_counts);
                return Err(value(format!("{field}.zero_counts"), problem));
            }
            joint.servo.check(&format!("{field}.servo"))?;
        }
        let gripper = &self.gripper;
        gripper.servo.check(&format!("{field}.gripper.servo"))?;
        let (open, closed) = (gripper.open_counts, gripper.closed_counts);
        if open == closed || open.max(closed) >= COUNTS_PER_TURN {
            let problem = format!(
                "is open at {open} and closed at {closed}; they must differ and be 0 to 4095"
            );
            return Err(value(format!("{field}.gripper"), problem));
        }
        for (place, servo) in self.servos().enumerate() {
            if self.servos().take(place).any(|other| other.id == servo.id) {
                let problem = format!("has servo id {} twice", servo.id);
                return Err(value(field.to_owned(), problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_angles() {
        let mut joint = JointCalibration {
            name: "pan".into(),
            zero_counts: 2048,
            direction: Direction::Along,
            servo: ServoIdentity {
                id: 1,
                model: 777,
                firmware: "3.10".into(),
                offset_counts: 0,
                lowest_counts: 1024,
                highest_counts: 2560,
            },
        };
        assert_eq!(joint.range_rad(), (-TAU / 4.0, TAU / 8.0));
        joint.direction = Direction::Against;
        assert_eq!(joint.range_rad(), (-TAU / 8.0, TAU / 4.0));
    }
}
