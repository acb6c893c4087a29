//! A servo of the Dynamixel X series.

use super::{Piece, Pieces, holds};
use crate::bus::{
    Register,
    maintenance::turns,
    sts3215::COUNTS_PER_TURN,
    xseries::{
        self as x, BUS_WATCHDOG, DRIVE_MODE, GOAL_POSITION, GOAL_PWM, HARDWARE_ERROR,
        HOMING_OFFSET, OPERATING_MODE, PRESENT_POSITION, PROFILE_ACCELERATION, PROFILE_VELOCITY,
        RETURN_DELAY, TORQUE_ENABLE,
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
    pub offset: i32,
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
    (RETURN_DELAY, RETURN_DELAY.through(HOMING_OFFSET)),
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
            offset: number(HOMING_OFFSET)?,
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

    /// One that counts several turns is brought into the turn of the goals while it is limp.
    pub fn fits(&self, is_gripper: bool) -> bool {
        let several = self.mode == x::MODE_EXTENDED_POSITION
            || is_gripper && self.mode == x::MODE_CURRENT_BASED_POSITION;
        let within = self.torque == 0 || turns(self.position) == 0;
        self.mode == x::MODE_POSITION || several && within
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
        } else if self.mode != x::MODE_POSITION && self.torque == 0 && turns(self.position) != 0 {
            let turn = i32::from(COUNTS_PER_TURN);
            Some((HOMING_OFFSET, self.offset - turns(self.position) * turn))
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
        offset: 0,
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
        let velocity = Registers { mode: 1, ..READY };
        assert!(!velocity.fits(true));
    }

    /// After its power was away it may be a turn off: it knows no more than where its sensor is.
    #[test]
    fn a_servo_of_several_turns_is_brought_into_the_turn_of_its_goals() {
        let mut servo = Registers {
            mode: 4,
            offset: 3000,
            position: 4196,
            goal: 4196,
            ..READY
        };
        assert!(servo.fits(false));
        assert_eq!(servo.next_write(false), Some((HOMING_OFFSET, -1096)));
        (servo.offset, servo.position) = (-1096, 100);
        assert_eq!(servo.next_write(false), Some((GOAL_POSITION, 100)));
        servo.position = -1;
        assert_eq!(servo.next_write(false), Some((HOMING_OFFSET, 3000)));
        // It holds: where it is cannot be changed, and goals would be a turn away.
        servo.torque = 1;
        assert!(!servo.fits(false));
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
