//! The registers of the Dynamixel X series and what their numbers mean: XL330 and XL430 (Koch v1.1),
//! XM430, XM540 and XL430 (ALOHA, ViperX, WidowX). The models share the table but for a few registers,
//! which are not here: the current that some have is a load in others.
//!
//! Negative numbers are in two's complement. A position is a turn's 4096 counts, the same as a
//! Feetech servo's. Source: ROBOTIS e-Manual, control tables of XL330-M288 and XL430-W250.

pub use super::register::{Register, Sign};
use hilt_protocol::calibration::COUNTS_PER_TURN;

/// Counts/s of one unit of velocity: 0.229 rpm.
pub const COUNTS_PER_S: f64 = 0.229 / 60.0 * COUNTS_PER_TURN as f64;

/// Counts/s² of one unit of acceleration: 214.577 rev/min².
pub const COUNTS_PER_S2: f64 = 214.577 / 3600.0 * COUNTS_PER_TURN as f64;

/// [`GOAL_PWM`] and [`PRESENT_PWM`] of the whole supply: a unit is 0.113 %.
pub const WHOLE_PWM: i32 = 885;

/// Nanoseconds of one unit of [`BUS_WATCHDOG`].
pub const WATCHDOG_UNIT_NS: u64 = 20_000_000;

/// What [`BUS_WATCHDOG`] says when it has stopped the servo.
pub const WATCHDOG_TRIPPED: i32 = -1;

/// Bits per second by the number in [`BAUD_RATE`].
pub const BAUD_RATES: [u32; 8] = [
    9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000,
];

/// The mode that goes to positions within one turn.
pub const MODE_POSITION: i32 = 3;

/// The mode that goes to positions over several turns, whatever the limits are.
pub const MODE_EXTENDED_POSITION: i32 = 4;

/// The mode that goes to positions, over several turns, with a bounded current: for grippers.
pub const MODE_CURRENT_BASED_POSITION: i32 = 5;

/// The largest [`HOMING_OFFSET`], either way. In [`MODE_POSITION`] one beyond 1024 is not heeded, and one
/// within it does not move the place where the sensor's turn ends: a servo that is switched on just
/// beyond that place reports a turn less.
pub const MOST_HOMING_OFFSET: i32 = 1_044_479;

/// Bit of [`DRIVE_MODE`]: counts grow the other way. [`HOMING_OFFSET`] is added to them as they grow then.
pub const DRIVE_REVERSED: i32 = 1 << 0;

/// Bit of [`DRIVE_MODE`]: the profile is in times, milliseconds, and not in velocities.
pub const DRIVE_TIME_BASED: i32 = 1 << 2;

/// Bits of [`HARDWARE_ERROR`].
pub mod hardware {
    /// The supply is above or below its limits.
    pub const VOLTAGE: u8 = 1 << 0;
    /// Too hot.
    pub const TEMPERATURE: u8 = 1 << 2;
    /// The position sensor fails.
    pub const ENCODER: u8 = 1 << 3;
    /// A short circuit, or too little power for the motor.
    pub const SHOCK: u8 = 1 << 4;
    /// Too much load for too long.
    pub const OVERLOAD: u8 = 1 << 5;
    /// Not the register's: the bus watchdog has stopped it, because nobody spoke.
    pub const SILENCE: u8 = 1 << 6;
    /// Not the register's: there is an error, and which was not read yet.
    pub const UNREAD: u8 = 1 << 7;
}

/// Models that share the table, by the number in [`MODEL`].
pub const MODELS: [(u16, &str); 24] = [
    (1000, "XH430-W350"),
    (1010, "XH430-W210"),
    (1020, "XM430-W350"),
    (1030, "XM430-W210"),
    (1040, "XH430-V350"),
    (1050, "XH430-V210"),
    (1060, "XL430-W250"),
    (1070, "XC430-W150"),
    (1080, "XC430-W240"),
    (1090, "2XL430-W250"),
    (1100, "XH540-W270"),
    (1110, "XH540-W150"),
    (1120, "XM540-W270"),
    (1130, "XM540-W150"),
    (1140, "XH540-V270"),
    (1150, "XH540-V150"),
    (1160, "2XC430-W250"),
    (1190, "XL330-M077"),
    (1200, "XL330-M288"),
    (1210, "XC330-T181"),
    (1220, "XC330-T288"),
    (1230, "XC330-M181"),
    (1240, "XC330-M288"),
    (1280, "XW430-T200"),
];

const fn byte(address: u8) -> Register {
    Register::byte(address)
}

const fn word(address: u8) -> Register {
    Register::word(address)
}

const fn long(address: u8) -> Register {
    Register::new(address, 4, Sign::Complement)
}

// Kept without power. They can be written while the torque is off, and each write wears the memory.

/// Model: see [`MODELS`].
pub const MODEL: Register = word(0);
/// Version of the firmware.
pub const FIRMWARE: Register = byte(6);
/// Id, 0 to 252.
pub const ID: Register = byte(7);
/// Index into [`BAUD_RATES`].
pub const BAUD_RATE: Register = byte(8);
/// Time from a request to its reply, 2 µs.
pub const RETURN_DELAY: Register = byte(9);
/// Bits: [`DRIVE_REVERSED`], [`DRIVE_TIME_BASED`].
pub const DRIVE_MODE: Register = byte(10);
/// What goals are: [`MODE_POSITION`] and others.
pub const OPERATING_MODE: Register = byte(11);
/// Counts that are added to the sensor's.
pub const HOMING_OFFSET: Register = long(20);
/// Highest goal that is taken, counts.
pub const HIGHEST_POSITION: Register = long(48);
/// Lowest goal that is taken, counts.
pub const LOWEST_POSITION: Register = long(52);
/// Which bits of [`HARDWARE_ERROR`] switch the torque off.
pub const SHUTDOWN: Register = byte(63);

// Forgotten without power.

/// 1: holds and moves. 0: limp.
pub const TORQUE_ENABLE: Register = byte(64);
/// 0: only pings are answered. 1: reads too. 2: everything that is not for all.
pub const STATUS_RETURN_LEVEL: Register = byte(68);
/// What is wrong: bits of [`hardware`]. Cleared by switching it off and on.
pub const HARDWARE_ERROR: Register = byte(70);
/// Stops the servo when no request, to whomever, was heard for so many times 20 ms while its torque
/// is on: it stands, holds, and refuses goals until a 0 is written. 0: off. [`WATCHDOG_TRIPPED`].
pub const BUS_WATCHDOG: Register = Register::new(98, 1, Sign::Complement);
/// Most duty of the motor's voltage in the position modes: see [`WHOLE_PWM`].
pub const GOAL_PWM: Register = Register::new(100, 2, Sign::Complement);
/// Acceleration to a goal: see [`COUNTS_PER_S2`]. 0: at once.
pub const PROFILE_ACCELERATION: Register = long(108);
/// Speed to a goal: see [`COUNTS_PER_S`]. 0: as fast as it can.
pub const PROFILE_VELOCITY: Register = long(112);
/// Goal, counts.
pub const GOAL_POSITION: Register = long(116);

// To be read only.

/// 1 while it moves.
pub const MOVING: Register = byte(122);
/// Duty of the motor's voltage: see [`WHOLE_PWM`].
pub const PRESENT_PWM: Register = Register::new(124, 2, Sign::Complement);
/// Speed: see [`COUNTS_PER_S`].
pub const PRESENT_VELOCITY: Register = long(128);
/// Position, counts.
pub const PRESENT_POSITION: Register = long(132);
/// Supply, 0.1 V.
pub const PRESENT_VOLTAGE: Register = word(144);
/// Temperature, °C.
pub const PRESENT_TEMPERATURE: Register = byte(146);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_manual() {
        // 265 units are the XL430's velocity limit: 61 rpm.
        let turns_per_s = 265.0 * COUNTS_PER_S / f64::from(COUNTS_PER_TURN);
        assert!((turns_per_s * 60.0 - 60.685).abs() < 1e-3);
        assert!((COUNTS_PER_S2 - 244.14).abs() < 0.01);
    }

    #[test]
    fn feedback_is_contiguous() {
        assert_eq!(PRESENT_VELOCITY.through(PRESENT_POSITION), 8);
        let data = [0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0x08, 0, 0];
        let read = |register: Register| register.decode(PRESENT_VELOCITY, &data);
        assert_eq!(read(PRESENT_VELOCITY), Some(-1));
        assert_eq!(read(PRESENT_POSITION), Some(2079));
        assert_eq!(BUS_WATCHDOG.decode(BUS_WATCHDOG, &[0xFF]), Some(-1));
    }
}
