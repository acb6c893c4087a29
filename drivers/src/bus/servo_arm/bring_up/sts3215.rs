//! A Feetech STS3215.

use super::{Piece, Pieces, holds};
use crate::bus::{
    Register,
    sts3215::{
        self as sts, ACCELERATION, GOAL_POSITION, GOAL_SPEED, LOCK, PHASE_MULTI_TURN,
        PRESENT_POSITION, RETURN_DELAY, TORQUE_ENABLE, TORQUE_LIMIT,
    },
};

/// The highest acceleration there is: the commands say how the arm moves, not the servo's ramps.
const HIGHEST_ACCELERATION: i32 = 254;

/// Most torque of a gripper, thousandths: it may close on things for long.
const GRIPPER_TORQUE: i32 = 500;

/// What has to be known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Registers {
    pub return_delay: i32,
    pub phase: i32,
    pub mode: i32,
    pub torque: i32,
    pub acceleration: i32,
    pub goal: i32,
    pub speed: i32,
    pub torque_limit: i32,
    pub lock: i32,
    pub position: i32,
}

pub const PIECES: [Piece; 3] = [
    (RETURN_DELAY, RETURN_DELAY.through(sts::MODE)),
    (TORQUE_ENABLE, TORQUE_ENABLE.through(TORQUE_LIMIT)),
    (LOCK, LOCK.through(PRESENT_POSITION)),
];

impl Registers {
    pub(super) fn parse(found: &Pieces<'_>) -> Option<Self> {
        let number = |register: Register| found.number(register);
        Some(Self {
            return_delay: number(RETURN_DELAY)?,
            phase: number(sts::PHASE)?,
            mode: number(sts::MODE)?,
            torque: number(TORQUE_ENABLE)?,
            acceleration: number(ACCELERATION)?,
            goal: number(GOAL_POSITION)?,
            speed: number(GOAL_SPEED)?,
            torque_limit: number(TORQUE_LIMIT)?,
            lock: number(LOCK)?,
            position: number(PRESENT_POSITION)?,
        })
    }

    pub fn fits(&self) -> bool {
        self.mode == 0 && self.phase & i32::from(PHASE_MULTI_TURN) == 0
    }

    /// The lock comes first, so that what follows does not wear the flash memory.
    pub fn next_write(&self, is_gripper: bool) -> Option<(Register, i32)> {
        if self.lock != 1 {
            Some((LOCK, 1))
        } else if self.return_delay != 0 {
            Some((RETURN_DELAY, 0))
        } else if self.acceleration != HIGHEST_ACCELERATION {
            Some((ACCELERATION, HIGHEST_ACCELERATION))
        } else if self.speed != 0 {
            Some((GOAL_SPEED, 0))
        } else if is_gripper && self.torque_limit > GRIPPER_TORQUE {
            Some((TORQUE_LIMIT, GRIPPER_TORQUE))
        } else if !holds(self.goal, self.position, self.torque) {
            Some((GOAL_POSITION, self.position))
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
        phase: 12,
        mode: 0,
        torque: 0,
        acceleration: 254,
        goal: 2000,
        speed: 0,
        torque_limit: 1000,
        lock: 1,
        position: 2001,
    };

    #[test]
    fn a_ready_servo_needs_nothing() {
        assert!(READY.fits());
        assert_eq!(READY.next_write(false), None);
        assert_eq!(READY.next_write(true), Some((TORQUE_LIMIT, 500)));
        let sags = Registers {
            torque: 1,
            position: 1950,
            ..READY
        };
        assert_eq!(sags.next_write(false), None);
    }

    #[test]
    fn a_new_servo_is_locked_first_and_its_goal_comes_last() {
        let mut servo = Registers {
            return_delay: 250,
            acceleration: 0,
            speed: 1000,
            lock: 0,
            goal: 0,
            ..READY
        };
        let mut written = Vec::new();
        while let Some((register, value)) = servo.next_write(false) {
            written.push(register);
            match register {
                LOCK => servo.lock = value,
                RETURN_DELAY => servo.return_delay = value,
                ACCELERATION => servo.acceleration = value,
                GOAL_SPEED => servo.speed = value,
                _ => servo.goal = value,
            }
        }
        let expected = [LOCK, RETURN_DELAY, ACCELERATION, GOAL_SPEED, GOAL_POSITION];
        assert_eq!(written, expected);
        assert_eq!(servo.goal, servo.position);
    }

    #[test]
    fn what_counts_several_turns_or_only_turns_does_not_fit() {
        let turns = Registers {
            phase: 12 | 16,
            ..READY
        };
        let wheel = Registers { mode: 1, ..READY };
        assert!(!turns.fits() && !wheel.fits());
    }

    #[test]
    fn registers_are_found_in_their_pieces() {
        let mut found = Pieces {
            pieces: &PIECES,
            data: Default::default(),
        };
        found.data[0][0] = 250;
        (found.data[0][11], found.data[0][26]) = (12, 3);
        found.data[1][..10].copy_from_slice(&[1, 254, 0xD0, 0x07, 0, 0, 5, 0, 0xE8, 0x03]);
        found.data[2][..3].copy_from_slice(&[1, 0x0A, 0x80]);
        let expected = Registers {
            return_delay: 250,
            phase: 12,
            mode: 3,
            torque: 1,
            acceleration: 254,
            goal: 2000,
            speed: 5,
            torque_limit: 1000,
            lock: 1,
            position: -10,
        };
        assert_eq!(Registers::parse(&found), Some(expected));
    }
}
