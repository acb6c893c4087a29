//! LeRobot's calibration files (`~/.cache/huggingface/lerobot/calibration/…/NAME.json`), in and out.
//!
//! What they say: of each motor its id, the correction that its servo keeps (taken off the sensor's
//! position by Feetech's, added by Dynamixel's), and the range, in positions so corrected. LeRobot
//! counts degrees from the middle of the range, and opens the gripper from `range_min` (0) to `range_max`
//! (100). A `drive_mode` of 1 turns that around for Feetech's, where LeRobot does not count in degrees. Of
//! Dynamixel's it is the servo's own reversed mode (that of a Koch leader's elbow): the numbers are as the
//! servo counted then, and LeRobot turns nothing around.
//!
//! What they do not say is where the joints are zero and which way they grow: the middle of a range is
//! taken for the middle of the shape's limits, and a motor to grow along its joint unless its `drive_mode`
//! is 1. That holds for an arm that is built as LeRobot's people build it; so an import is to be looked at
//! (`hilt teleoperate`, slowly) before it is trusted. Nor do they say which servo it was: model and
//! firmware are asked when the [`Plan`] is [written](super::write()), which changes nothing on servos that
//! LeRobot has written to, but for Dynamixel's that are reversed: those count with their sensor again, their
//! range comes to lie as it was from the other end of the turn, and the joint's direction is the other one.
//! LeRobot finds its own calibration no more in such a servo, and asks for one.

pub mod file;

use hilt_drivers::bus::{
    Family, Keep, Turns,
    sts3215::{counts_from_radians, radians_from_counts},
};
use hilt_protocol::calibration::{ArmCalibration, Direction, ServoIdentity};

use super::{
    GRIPPER, Plan, PlannedGripper, PlannedJoint, RangeProblem, Subject,
    range::{fits, sign},
    recorder::TURN,
};
use file::{FormError, Motor, Motors};

/// The largest correction of an STS3215.
const MOST_STS_OFFSET: i32 = 2047;
/// The same of a servo of the X series.
const MOST_X_OFFSET: i32 = 1_044_479;

/// Why a file is not this arm's.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not such a file.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A motor is not there.
    #[error("has no motor `{0}`: it is another kind of robot's file, or damaged")]
    Missing(String),
    /// A motor that this arm has not.
    #[error(
        "has a motor `{0}`, which this arm has not: it is another kind of robot's file; give the one of this arm"
    )]
    Unknown(String),
    /// Its id is another.
    #[error("`{name}` has id {file}, and {rig} in the rig's file: make them the same")]
    Id {
        /// The motor.
        name: String,
        /// In LeRobot's file.
        file: u8,
        /// In the rig's.
        rig: u8,
    },
    /// A number that cannot be.
    #[error("`{name}` has {field} {value}, which cannot be: {right}")]
    Value {
        /// The motor.
        name: String,
        /// Which.
        field: &'static str,
        /// What it is.
        value: i32,
        /// What it may be.
        right: &'static str,
    },
    /// Its range is not one of this shape.
    #[error("`{name}` {problem} (by LeRobot's file)")]
    Range {
        /// The motor.
        name: String,
        /// Why.
        problem: RangeProblem,
    },
    /// Its zero lies outside of its servo's turn.
    #[error("`{0}`: the middle of its range is not where this shape's can be; calibrate it here")]
    Zero(String),
}

/// What a file of LeRobot's says about this arm.
pub fn import(text: &str, subject: &Subject) -> Result<Plan, ImportError> {
    let motors = file::parse(text)?;
    for (name, _) in &motors.0 {
        if name != GRIPPER && !subject.names().contains(name) {
            return Err(ImportError::Unknown(name.clone()));
        }
    }
    let mut joints = Vec::new();
    for (place, name) in subject.names().iter().enumerate() {
        joints.push(joint(subject, place, find(&motors, subject, place, name)?)?);
    }
    let (motor, _) = find(&motors, subject, joints.len(), GRIPPER)?;
    let (motor, keep) = keep(subject.family(), GRIPPER, motor)?;
    let (closed, open) = match motor.drive_mode {
        0 => (keep.lowest_counts, keep.highest_counts),
        _ => (keep.highest_counts, keep.lowest_counts),
    };
    Ok(Plan {
        family: subject.family(),
        joints,
        gripper: PlannedGripper {
            id: motor.id,
            open_counts: open,
            closed_counts: closed,
            keep,
        },
    })
}

/// The file that says the same to LeRobot. Where the joints are zero is lost: LeRobot takes the middle of
/// their ranges. Of Dynamixel's so is which way they grow: their `drive_mode` is 0, as in the servos.
pub fn export(arm: &ArmCalibration) -> String {
    let says_way = arm.family == Family::Sts3215.name();
    let motor = |servo: &ServoIdentity, turned: bool| Motor {
        id: servo.id,
        drive_mode: (says_way && turned).into(),
        homing_offset: servo.offset_counts,
        range_min: servo.lowest_counts.into(),
        range_max: servo.highest_counts.into(),
    };
    let joints = arm.joints.iter().map(|joint| {
        let turned = joint.direction == Direction::Against;
        (joint.name.clone(), motor(&joint.servo, turned))
    });
    let gripper = &arm.gripper;
    let turned = gripper.open_counts < gripper.closed_counts;
    let gripper = (GRIPPER.to_owned(), motor(&gripper.servo, turned));
    file::text(&Motors(joints.chain([gripper]).collect()))
}

fn find<'a>(
    motors: &Motors,
    subject: &'a Subject,
    place: usize,
    name: &'a str,
) -> Result<(Motor, &'a str), ImportError> {
    let found = motors.0.iter().find(|(other, _)| other == name);
    let (_, motor) = found.ok_or_else(|| ImportError::Missing(name.to_owned()))?;
    let rig = subject.ids().get(place).copied().unwrap_or_default();
    if motor.id != rig {
        return Err(ImportError::Id {
            name: name.to_owned(),
            file: motor.id,
            rig,
        });
    }
    Ok((*motor, name))
}

fn joint(
    subject: &Subject,
    place: usize,
    (motor, name): (Motor, &str),
) -> Result<PlannedJoint, ImportError> {
    let (motor, keep) = keep(subject.family(), name, motor)?;
    let zero = || ImportError::Zero(name.to_owned());
    let shape = subject.chain().joints().get(place).ok_or_else(zero)?;
    let (low, high) = (
        f64::from(keep.lowest_counts),
        f64::from(keep.highest_counts),
    );
    let moved = fits(shape, radians_from_counts(high - low));
    moved.map_err(|problem| ImportError::Range {
        name: name.to_owned(),
        problem,
    })?;
    let direction = match motor.drive_mode {
        0 => Direction::Along,
        _ => Direction::Against,
    };
    let middle = counts_from_radians((shape.lower + shape.upper) / 2.0);
    let zero_counts = ((low + high) / 2.0 - sign(direction) * middle).round();
    if !(0.0..f64::from(TURN)).contains(&zero_counts) {
        return Err(zero());
    }
    Ok(PlannedJoint {
        name: name.to_owned(),
        id: motor.id,
        zero_counts: zero_counts as u16,
        direction,
        keep,
    })
}

/// What the servo has to keep, and the motor so. Of the X series LeRobot counts turns, so its ranges may
/// lie in any; goals here lie within 0 to 4095, and grow with the sensor.
fn keep(family: Family, name: &str, mut motor: Motor) -> Result<(Motor, Keep), ImportError> {
    let refuse = |field, value, right| ImportError::Value {
        name: name.to_owned(),
        field,
        value,
        right,
    };
    if motor.drive_mode > 1 {
        return Err(refuse(
            "drive_mode",
            motor.drive_mode.into(),
            "it is 0 or 1",
        ));
    }
    if motor.range_min >= motor.range_max {
        return Err(refuse(
            "range_min",
            motor.range_min,
            "it is below range_max",
        ));
    }
    let turns = match family {
        Family::Sts3215 => {
            if motor.homing_offset.abs() > MOST_STS_OFFSET {
                return Err(refuse(
                    "homing_offset",
                    motor.homing_offset,
                    "it is -2047 to 2047",
                ));
            }
            Turns::One
        }
        Family::DynamixelX => {
            let within = -MOST_X_OFFSET..=MOST_X_OFFSET;
            for (field, value) in [
                ("homing_offset", motor.homing_offset),
                ("range_min", motor.range_min),
                ("range_max", motor.range_max),
            ] {
                if !within.contains(&value) {
                    return Err(refuse(field, value, "it is within 255 turns"));
                }
            }
            if motor.drive_mode == 1 {
                // What was `r` is `TURN - 1 - r`: the ends of a whole turn stay its ends.
                let last = TURN - 1;
                (motor.range_min, motor.range_max) =
                    (last - motor.range_max, last - motor.range_min);
                motor.homing_offset = last - motor.homing_offset;
            }
            let moved = into_turn(motor.range_min, motor.range_max);
            motor.range_min += moved;
            motor.range_max += moved;
            // Whole turns are nothing to a servo that counts them.
            motor.homing_offset += moved % TURN;
            Turns::Many
        }
    };
    let counts = |field, value: i32| match u16::try_from(value) {
        Ok(counts) if value < TURN => Ok(counts),
        _ => Err(refuse(field, value, "it is 0 to 4095")),
    };
    let keep = Keep {
        offset_counts: motor.homing_offset,
        lowest_counts: counts("range_min", motor.range_min)?,
        highest_counts: counts("range_max", motor.range_max)?,
        turns,
    };
    Ok((motor, keep))
}

/// What brings a range into 0 to 4095: whole turns if they do, else what centres it.
fn into_turn(low: i32, high: i32) -> i32 {
    let turns = -low.div_euclid(TURN) * TURN;
    match high + turns < TURN {
        true => turns,
        false => (TURN - 1 - low - high).div_euclid(2),
    }
}

#[cfg(test)]
mod tests;
