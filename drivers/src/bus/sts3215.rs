//! The registers of a Feetech STS3215 and what their numbers mean. The other servos of the STS and
//! SMS series share the table.
//!
//! Two-byte registers have their low byte first. Signed ones are *sign-magnitude*: one bit says the
//! direction, the bits below it how much. Source: Feetech's memory table of the STS3215, with the
//! sign bits of the maker's own library (`sms_sts.py`).

use std::f64::consts::TAU;

pub use super::register::{Register, Sign};
pub use hilt_protocol::calibration::COUNTS_PER_TURN;

/// The highest position that a servo goes to; the lowest is 0.
pub const LAST_COUNT: u16 = COUNTS_PER_TURN - 1;

/// Models that share the table, by the number in [`MODEL`].
pub const MODELS: [(u16, &str); 3] = [(777, "STS3215"), (2825, "STS3250"), (11272, "SM8512BL")];

/// Bits per second by the number in [`BAUD_RATE`].
pub const BAUD_RATES: [u32; 8] = [
    1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400,
];

/// Bit of [`PHASE`] that lets positions count on beyond a turn. It must be clear, or a position
/// may be off by whole turns.
pub const PHASE_MULTI_TURN: u8 = 1 << 4;

/// Bits of [`STATUS`], and of the error byte in every reply.
pub mod status {
    /// The supply is above or below its limits.
    pub const VOLTAGE: u8 = 1 << 0;
    /// The position sensor fails.
    pub const SENSOR: u8 = 1 << 1;
    /// Too hot.
    pub const TEMPERATURE: u8 = 1 << 2;
    /// Too much current.
    pub const CURRENT: u8 = 1 << 3;
    /// Outside its angle limits.
    pub const ANGLE: u8 = 1 << 4;
    /// Too much load for too long: it lets go, down to its protective torque.
    pub const OVERLOAD: u8 = 1 << 5;
}

const fn byte(address: u8) -> Register {
    Register::byte(address)
}

const fn word(address: u8, sign: Option<u8>) -> Register {
    let sign = match sign {
        Some(bit) => Sign::Bit(bit),
        None => Sign::Unsigned,
    };
    Register::new(address, 2, sign)
}

// Kept without power. They are written to the flash memory while `LOCK` is 0, for now else.

/// Version of the firmware: two numbers.
pub const FIRMWARE: Register = byte(0);
/// Model; 777 for an STS3215.
pub const MODEL: Register = word(3, None);
/// Id, 0 to 253.
pub const ID: Register = byte(5);
/// Index into [`BAUD_RATES`].
pub const BAUD_RATE: Register = byte(6);
/// Time from a request to its reply, 2 µs.
pub const RETURN_DELAY: Register = byte(7);
/// 0: only reads and pings are answered. 1: everything that is not for all.
pub const RESPONSE_LEVEL: Register = byte(8);
/// Lowest goal that is gone to, counts.
pub const LOWEST_POSITION: Register = word(9, None);
/// Highest goal that is gone to, counts.
pub const HIGHEST_POSITION: Register = word(11, None);
/// Special functions, among them [`PHASE_MULTI_TURN`].
pub const PHASE: Register = byte(18);
/// Counts that are taken off the sensor's.
pub const POSITION_OFFSET: Register = word(31, Some(11));
/// 0: goes to positions. 1: turns. 2: open loop. 3: steps.
pub const MODE: Register = byte(33);

// Forgotten without power.

/// 1: holds and moves. 0: limp.
pub const TORQUE_ENABLE: Register = byte(40);
/// Acceleration to a goal, 100 counts/s².
pub const ACCELERATION: Register = byte(41);
/// Goal, counts.
pub const GOAL_POSITION: Register = word(42, Some(15));
/// Duty in the open-loop mode; unused here.
pub const GOAL_TIME: Register = word(44, Some(10));
/// Speed to a goal, counts/s; 0: as fast as it can.
pub const GOAL_SPEED: Register = word(46, Some(15));
/// Most torque, thousandths of the stall torque.
pub const TORQUE_LIMIT: Register = word(48, None);
/// 1: what is written to the registers that are kept does not go to the flash memory.
pub const LOCK: Register = byte(55);

// To be read only.

/// Position, counts.
pub const PRESENT_POSITION: Register = word(56, Some(15));
/// Speed, counts/s.
pub const PRESENT_SPEED: Register = word(58, Some(15));
/// Duty of the motor's voltage, thousandths.
pub const PRESENT_LOAD: Register = word(60, Some(10));
/// Supply, 0.1 V.
pub const PRESENT_VOLTAGE: Register = byte(62);
/// Temperature, °C.
pub const PRESENT_TEMPERATURE: Register = byte(63);
/// What is wrong: bits of [`status`].
pub const STATUS: Register = byte(65);
/// 1 while it moves.
pub const MOVING: Register = byte(66);
/// Current, 6.5 mA.
pub const PRESENT_CURRENT: Register = word(69, Some(15));

/// The angle of so many counts, radians; also counts/s to rad/s.
pub fn radians_from_counts(counts: f64) -> f64 {
    counts * TAU / f64::from(COUNTS_PER_TURN)
}

/// The counts of an angle in radians; also rad/s to counts/s.
pub fn counts_from_radians(radians: f64) -> f64 {
    radians * f64::from(COUNTS_PER_TURN) / TAU
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sign_magnitude_where_the_table_says_so() {
        let data = [0x18, 0x85, 0x05, 0x00, 0x32, 0x04, 121, 40];
        let read = |register: Register| register.decode(PRESENT_POSITION, &data);
        assert_eq!(read(PRESENT_POSITION), Some(-0x518));
        assert_eq!(read(PRESENT_SPEED), Some(5));
        assert_eq!(read(PRESENT_LOAD), Some(-50));
        assert_eq!(read(PRESENT_VOLTAGE), Some(121));
        assert_eq!((read(STATUS), read(LOCK)), (None, None));
        assert_eq!(GOAL_POSITION.encode(-0x518)[..2], [0x18, 0x85]);
        assert_eq!(POSITION_OFFSET.encode(-100)[..2], [0x64, 0x08]);
        assert_eq!(POSITION_OFFSET.encode(9000)[..2], [0xFF, 0x07]);
    }

    #[test]
    fn counts_and_radians() {
        assert_eq!(radians_from_counts(2048.0), TAU / 2.0);
        assert!((counts_from_radians(radians_from_counts(-777.0)) + 777.0).abs() < 1e-9);
    }
}
