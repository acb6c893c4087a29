//! A servo of the Dynamixel X series.

use super::{Piece, Pieces, holds};
use crate::bus::{
    Register,
    xseries::{
        self as x, BUS_WATCHDOG, DRIVE_MODE, GOAL_POSITION, GOAL_PWM, HARDWARE_ERROR,
        OPERATING_MODE, PRESENT_POSITION, PROFILE_ACCELERATION, PROFILE_VELOCITY, RETURN_DELAY,
        TORQUE_ENABLE,
    },
};

/// Most duty of a gripper's motor: it may close on things for long.
const GRIPPER_PWM: i32 = x::WHOLE_PWM / 2;

/// What has to be known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Registers {
    pub return_delay: i32,
    pub drive_mode: i32,
    pub mode: i32,
    pub torque: i32,
    pub errors: u8,
    pub watchdog: i32,
    pub pwm: i32,
    pub acceleration: i32,
    pub velocity: i32,
    pub goal: i32,
    pub position: i32,
}

pub const PIECES: [Piece; 4] = [
    (RETURN_DELAY, RETURN_DELAY.through(OPERATING_MODE)),
    (TORQUE_ENABLE, TORQUE_ENABLE.through(HARDWARE_ERROR)),
    (BUS_WATCHDOG, BUS_WATCHDOG.through(GOAL_POSITION)),
    (PRESENT_POSITION, PRESENT_POSITION.bytes),
];

impl Registers {
    pub(super) fn parse(found: &Pieces<'_>) -> Option<Self> {
        let number = |register: Register| found.number(register);
        Some(Self {
            return_delay: number(RETURN_DELAY)?,
            drive_mode: number(DRIVE_MODE)?,
            mode: number(OPERATING_MODE)?,
            torque: number(TORQUE_ENABLE)?,
            errors: number(HARDWARE_ERROR)? as u8,
            watchdog: number(BUS_WATCHDOG)?,
            pwm: number(GOAL_PWM)?,
            acceleration: number(PROFILE_ACCELERATION)?,
            velocity: number(PROFILE_VELOCITY)?,
            goal: number(GOAL_POSITION)?,
            position: number(PRESENT_POSITION)?,
        })
    }

    pub fn fits(&self, is_gripper: bool) -> bool {
        self.mode == x::MODE_POSITION || is_gripper && self.mode == x::MODE_CURRENT_BASED_POSITION
    }

    /// A servo that its watchdog stopped may go on to its old goal when the watchdog is cleared, and
    /// takes no other before: so it is made slow first, and fast again when its goal is where it is.
    pub fn next_write(&self, is_gripper: bool) -> Option<(Register, i32)> {
        let slowest = match self.drive_mode & x::DRIVE_TIME_BASED {
            0 => 1,
            // Milliseconds for the way.
            _ => 30_000,
        };
        if self.watchdog == x::WATCHDOG_TRIPPED && self.velocity != slowest {
            Some((PROFILE_VELOCITY, slowest))
        } else if self.watchdog != 0 {
            Some((BUS_WATCHDOG, 0))
        } else if self.return_delay != 0 && self.torque == 0 {
            // It is kept without power, and can be written only while there is no torque.
            Some((RETURN_DELAY, 0))
        } else if self.acceleration != 0 {
            Some((PROFILE_ACCELERATION, 0))
        } else if is_gripper && self.pwm > GRIPPER_PWM {
            Some((GOAL_PWM, GRIPPER_PWM))
        } else if !holds(self.goal, self.position, self.torque) {
            Some((GOAL_POSITION, self.position))
        } else if self.velocity != 0 {
            Some((PROFILE_VELOCITY, 0))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Registers = Registers {
        return_delay: 0,
        drive_mode: 0,
        mode: 3,
        torque: 0,
        errors: 0,
        watchdog: 0,
        pwm: 885,
        acceleration: 0,
        velocity: 0,
        goal: 2000,
        position: 2001,
    };

    fn written(mut servo: Registers) -> Vec<(Register, i32)> {
        let mut written = Vec::new();
        while let Some((register, value)) = servo.next_write(false) {
            written.push((register, value));
            match register {
                BUS_WATCHDOG => servo.watchdog = value,
                RETURN_DELAY => servo.return_delay = value,
                PROFILE_ACCELERATION => servo.acceleration = value,
                PROFILE_VELOCITY => servo.velocity = value,
                _ => servo.goal = value,
            }
        }
        written
    }

    #[test]
    fn a_ready_servo_needs_nothing_and_a_gripper_is_bounded() {
        assert!(READY.fits(false));
        assert_eq!(READY.next_write(false), None);
        assert_eq!(READY.next_write(true), Some((GOAL_PWM, 442)));
        let gripper = Registers { mode: 5, ..READY };
        assert!(gripper.fits(true) && !gripper.fits(false));
        let several_turns = Registers { mode: 4, ..READY };
        assert!(!several_turns.fits(true));
    }

    #[test]
    fn a_new_servo_gets_its_goal_before_it_is_fast() {
        let servo = Registers {
            return_delay: 250,
            acceleration: 10,
            velocity: 100,
            goal: 0,
            ..READY
        };
        let expected = [
            (RETURN_DELAY, 0),
            (PROFILE_ACCELERATION, 0),
            (GOAL_POSITION, 2001),
            (PROFILE_VELOCITY, 0),
        ];
        assert_eq!(written(servo), expected);
    }

    #[test]
    fn a_servo_that_its_watchdog_stopped_is_slow_while_it_has_its_old_goal() {
        let servo = Registers {
            watchdog: x::WATCHDOG_TRIPPED,
            torque: 1,
            return_delay: 250,
            goal: 3000,
            ..READY
        };
        let expected = [
            (PROFILE_VELOCITY, 1),
            (BUS_WATCHDOG, 0),
            (GOAL_POSITION, 2001),
            (PROFILE_VELOCITY, 0),
        ];
        assert_eq!(written(servo), expected);
        let not_tripped = Registers {
            watchdog: 5,
            torque: 1,
            ..READY
        };
        assert_eq!(written(not_tripped), [(BUS_WATCHDOG, 0)]);
        let time_based = Registers {
            drive_mode: x::DRIVE_TIME_BASED,
            ..servo
        };
        assert_eq!(written(time_based)[0], (PROFILE_VELOCITY, 30_000));
    }
}
