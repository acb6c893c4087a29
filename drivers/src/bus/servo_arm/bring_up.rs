//! What a servo needs before it may move an arm: a pure decision, one write at a time.

use crate::bus::sts3215::{
    self as sts, ACCELERATION, GOAL_POSITION, GOAL_SPEED, LOCK, PHASE_MULTI_TURN, PRESENT_POSITION,
    RETURN_DELAY, Register, TORQUE_ENABLE, TORQUE_LIMIT,
};

/// The highest acceleration there is: the commands say how the arm moves, not the servo's ramps.
const HIGHEST_ACCELERATION: i32 = 254;

/// How far a goal may be from the position of a servo that holds it, counts: about 9°. A loaded
/// joint sags below its goal, and a new goal where it is would make it sag once more.
const SAG_COUNTS: i32 = 100;

/// How far a goal may be from a servo that is limp: its noise at rest, counts.
const NOISE_COUNTS: i32 = 2;

/// Writes and checks before a servo is given up, more than there are registers to set.
pub(super) const MOST_WRITES: usize = 24;

/// What has to be known of a servo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Registers {
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

/// The registers in contiguous pieces, to be read one by one: first register and bytes.
pub(super) const PIECES: [(Register, u8); 5] = [
    (RETURN_DELAY, 1),
    (sts::PHASE, 1),
    (sts::MODE, 1),
    (
        TORQUE_ENABLE,
        TORQUE_LIMIT.address + TORQUE_LIMIT.bytes - TORQUE_ENABLE.address,
    ),
    (
        LOCK,
        PRESENT_POSITION.address + PRESENT_POSITION.bytes - LOCK.address,
    ),
];

/// Bytes of the longest piece.
pub(super) const LONGEST_PIECE: usize = 10;

impl Registers {
    /// From the bytes of [`PIECES`].
    pub fn parse(data: &[[u8; LONGEST_PIECE]; PIECES.len()]) -> Option<Self> {
        let number = |register: Register| {
            PIECES.iter().zip(data).find_map(|((first, count), bytes)| {
                register.decode(*first, &bytes[..usize::from(*count)])
            })
        };
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

    /// Whether its positions are those of one turn and its goals positions.
    pub fn fits(&self) -> bool {
        self.mode == 0 && self.phase & i32::from(PHASE_MULTI_TURN) == 0
    }

    /// The next register to write, until there is none: then it is ready for torque. The lock comes
    /// first, so that what follows does not wear the flash memory.
    pub fn next_write(&self, most_torque: Option<i32>) -> Option<(Register, i32)> {
        let off = (self.goal - self.position).abs();
        let goal_holds = off
            <= if self.torque == 1 {
                SAG_COUNTS
            } else {
                NOISE_COUNTS
            };
        if self.lock != 1 {
            Some((LOCK, 1))
        } else if self.return_delay != 0 {
            Some((RETURN_DELAY, 0))
        } else if self.acceleration != HIGHEST_ACCELERATION {
            Some((ACCELERATION, HIGHEST_ACCELERATION))
        } else if self.speed != 0 {
            Some((GOAL_SPEED, 0))
        } else if let Some(most) = most_torque.filter(|most| self.torque_limit > *most) {
            Some((TORQUE_LIMIT, most))
        } else if !goal_holds {
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
        assert_eq!(READY.next_write(None), None);
        assert_eq!(READY.next_write(Some(500)), Some((TORQUE_LIMIT, 500)));
        let sags = Registers {
            torque: 1,
            position: 1950,
            ..READY
        };
        assert_eq!(sags.next_write(None), None);
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
        while let Some((register, value)) = servo.next_write(None) {
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
        let mut data = [[0; LONGEST_PIECE]; PIECES.len()];
        (data[0][0], data[1][0], data[2][0]) = (250, 12, 3);
        data[3] = [1, 254, 0xD0, 0x07, 0, 0, 5, 0, 0xE8, 0x03];
        data[4][..3].copy_from_slice(&[1, 0x0A, 0x80]);
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
        assert_eq!(Registers::parse(&data), Some(expected));
    }
}
