//! The families of servos: what all of them have, and where.

use serde::{Deserialize, Serialize};

use super::{Protocol, Register, sts3215 as sts, xseries as x};

/// A family of servos: those that share a protocol and a table of registers. All count 4096 a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Feetech STS3215 and its like: SO-100, SO-101.
    Sts3215,
    /// Dynamixel X series: Koch, ALOHA, ViperX, WidowX.
    DynamixelX,
}

/// Where a family keeps what every servo has.
#[derive(Debug)]
pub struct Table {
    /// Model number.
    pub model: Register,
    /// Model numbers and names.
    pub models: &'static [(u16, &'static str)],
    /// First number of the firmware's version, and how many there are, a byte each.
    pub firmware: Register,
    /// See `firmware`.
    pub firmware_bytes: u8,
    /// Id.
    pub id: Register,
    /// Index into `baud_rates`.
    pub baud_rate: Register,
    /// Bits per second.
    pub baud_rates: &'static [u32],
    /// Time from a request to its reply, 2 µs.
    pub return_delay: Register,
    /// How much is answered; at least `answers_writes` where writes are.
    pub response_level: Register,
    /// See `response_level`.
    pub answers_writes: i32,
    /// Lowest goal, counts.
    pub lowest: Register,
    /// Highest goal, counts.
    pub highest: Register,
    /// Correction of the position, counts.
    pub offset: Register,
    /// What goals are.
    pub mode: Register,
    /// The mode whose goals are positions within a turn.
    pub mode_position: i32,
    /// 1: holds and moves.
    pub torque: Register,
    /// Goal, counts.
    pub goal: Register,
    /// Bound of the speed to a goal; 0: none.
    pub speed: Register,
    /// Counts/s of a unit of it.
    pub speed_unit: f64,
    /// Bound of the acceleration to a goal; 0: none.
    pub acceleration: Register,
    /// Counts/s² of a unit of it.
    pub acceleration_unit: f64,
    /// Where it is, counts.
    pub position: Register,
    /// How fast it moves.
    pub velocity: Register,
    /// Counts/s of a unit of it.
    pub velocity_unit: f64,
    /// Whether it moves.
    pub moving: Register,
}

const STS: Table = Table {
    model: sts::MODEL,
    models: &sts::MODELS,
    firmware: sts::FIRMWARE,
    firmware_bytes: 2,
    id: sts::ID,
    baud_rate: sts::BAUD_RATE,
    baud_rates: &sts::BAUD_RATES,
    return_delay: sts::RETURN_DELAY,
    response_level: sts::RESPONSE_LEVEL,
    answers_writes: 1,
    lowest: sts::LOWEST_POSITION,
    highest: sts::HIGHEST_POSITION,
    offset: sts::POSITION_OFFSET,
    mode: sts::MODE,
    mode_position: 0,
    torque: sts::TORQUE_ENABLE,
    goal: sts::GOAL_POSITION,
    speed: sts::GOAL_SPEED,
    speed_unit: 1.0,
    acceleration: sts::ACCELERATION,
    acceleration_unit: 100.0,
    position: sts::PRESENT_POSITION,
    velocity: sts::PRESENT_SPEED,
    velocity_unit: 1.0,
    moving: sts::MOVING,
};

const X: Table = Table {
    model: x::MODEL,
    models: &x::MODELS,
    firmware: x::FIRMWARE,
    firmware_bytes: 1,
    id: x::ID,
    baud_rate: x::BAUD_RATE,
    baud_rates: &x::BAUD_RATES,
    return_delay: x::RETURN_DELAY,
    response_level: x::STATUS_RETURN_LEVEL,
    answers_writes: 2,
    lowest: x::LOWEST_POSITION,
    highest: x::HIGHEST_POSITION,
    offset: x::HOMING_OFFSET,
    mode: x::OPERATING_MODE,
    mode_position: x::MODE_POSITION,
    torque: x::TORQUE_ENABLE,
    goal: x::GOAL_POSITION,
    speed: x::PROFILE_VELOCITY,
    speed_unit: x::COUNTS_PER_S,
    acceleration: x::PROFILE_ACCELERATION,
    acceleration_unit: x::COUNTS_PER_S2,
    position: x::PRESENT_POSITION,
    velocity: x::PRESENT_VELOCITY,
    velocity_unit: x::COUNTS_PER_S,
    moving: x::MOVING,
};

impl Family {
    /// How its servos are spoken to.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Sts3215 => Protocol::Feetech,
            Self::DynamixelX => Protocol::Dynamixel,
        }
    }

    /// Where its servos keep what.
    pub fn table(self) -> &'static Table {
        match self {
            Self::Sts3215 => &STS,
            Self::DynamixelX => &X,
        }
    }

    /// What rigs' and calibration files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sts3215 => "sts3215",
            Self::DynamixelX => "dynamixel-x",
        }
    }

    /// The family that speaks so.
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Feetech => Self::Sts3215,
            Protocol::Dynamixel => Self::DynamixelX,
        }
    }
}

impl Table {
    /// Bytes from the first to the last of position and velocity, and the first.
    pub fn feedback(&self) -> (Register, u8) {
        let (a, b) = (self.position, self.velocity);
        match a.address < b.address {
            true => (a, a.through(b)),
            false => (b, b.through(a)),
        }
    }

    /// The name of a model.
    pub fn name(&self, model: u16) -> Option<&'static str> {
        let known = self.models.iter().find(|(number, _)| *number == model);
        known.map(|(_, name)| *name)
    }
}

/// A firmware's version as people write it.
pub(super) fn version(numbers: &[u8]) -> String {
    let numbers: Vec<_> = numbers.iter().map(u8::to_string).collect();
    numbers.join(".")
}
