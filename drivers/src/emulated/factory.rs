//! What servos have in their registers when they leave the factory; what is not here is 0.

use crate::bus::{
    Family, Register,
    sts3215::{
        self as sts, HIGHEST_POSITION, LOCK, MODEL, PHASE, PRESENT_TEMPERATURE, PRESENT_VOLTAGE,
        RESPONSE_LEVEL, RETURN_DELAY,
    },
    xseries as x,
};

const fn byte(address: u8) -> Register {
    Register::byte(address)
}

/// Counts per second of an STS3215 at 7.4 V without load: 45 rpm.
pub const TOP_COUNTS_PER_S: f64 = 45.0 / 60.0 * sts::COUNTS_PER_TURN as f64;

/// The most torque that an STS3215's torque limit is set to when the power comes.
pub(super) const MOST_TORQUE: Register = Register::word(16);

/// Feetech's memory table of the STS series.
const STS: [(Register, i32); 22] = [
    // Firmware 3.10.
    (byte(0), 3),
    (byte(1), 10),
    (MODEL, 777),
    // 500 µs.
    (RETURN_DELAY, 250),
    (RESPONSE_LEVEL, 1),
    (HIGHEST_POSITION, 4095),
    // Greatest temperature, highest and lowest voltage.
    (byte(13), 70),
    (byte(14), 80),
    (byte(15), 40),
    (MOST_TORQUE, 1000),
    // Speeds in counts per second, 0 is the top speed, positions within one turn.
    (PHASE, 12),
    // What unloads it and what lights its lamp.
    (byte(19), 44),
    (byte(20), 47),
    // Gains of the position loop, least starting force, dead bands.
    (byte(21), 32),
    (byte(22), 32),
    (byte(24), 16),
    (byte(26), 1),
    (byte(27), 1),
    // Angular resolution.
    (byte(30), 1),
    (LOCK, 1),
    (PRESENT_VOLTAGE, 74),
    (PRESENT_TEMPERATURE, 28),
];

/// ROBOTIS e-Manual: control table of the XL330-M288.
const X: [(Register, i32); 24] = [
    (x::MODEL, 1200),
    (x::FIRMWARE, 52),
    // 57,600 baud.
    (x::BAUD_RATE, 1),
    // 500 µs.
    (x::RETURN_DELAY, 250),
    (x::OPERATING_MODE, 3),
    // No second id, protocol 2.0, threshold of moving.
    (byte(12), 255),
    (byte(13), 2),
    (byte(24), 10),
    // Greatest temperature, highest and lowest voltage.
    (byte(31), 70),
    (byte(32), 70),
    (byte(34), 35),
    // Limits of duty, current and velocity.
    (Register::word(36), x::WHOLE_PWM),
    (Register::word(38), 1750),
    (Register::word(44), 445),
    (x::HIGHEST_POSITION, 4095),
    (x::SHUTDOWN, 0b11_0101),
    (x::STATUS_RETURN_LEVEL, 2),
    // Gains of the velocity and position loops.
    (Register::word(76), 1600),
    (Register::word(78), 180),
    (Register::word(84), 400),
    (x::GOAL_PWM, x::WHOLE_PWM),
    (Register::word(102), 1750),
    (x::PRESENT_VOLTAGE, 50),
    (x::PRESENT_TEMPERATURE, 28),
];

/// The registers of a family's servo.
pub(super) fn registers(family: Family) -> &'static [(Register, i32)] {
    match family {
        Family::Sts3215 => &STS,
        Family::DynamixelX => &X,
    }
}

/// Counts per second without load: an STS3215 at 7.4 V, an XL330-M288 at 5 V.
pub(super) fn top_counts_per_s(family: Family) -> f64 {
    let rpm = match family {
        Family::Sts3215 => TOP_COUNTS_PER_S / f64::from(sts::COUNTS_PER_TURN) * 60.0,
        Family::DynamixelX => 103.0,
    };
    rpm / 60.0 * f64::from(sts::COUNTS_PER_TURN)
}
