//! What a servo needs before it may move an arm: a pure decision, one write at a time.

mod sts3215;
mod xseries;

use crate::bus::{Family, Register};

/// How far a goal may be from the position of a servo that holds it, counts: about 9°. A loaded
/// joint sags below its goal, and a new goal where it is would make it sag once more.
const SAG_COUNTS: i32 = 100;

/// How far a goal may be from a servo that is limp: its noise at rest, counts.
const NOISE_COUNTS: i32 = 2;

/// Writes and checks before a servo is given up, more than there are registers to set.
pub(super) const MOST_WRITES: usize = 24;

/// Registers that are read in contiguous pieces, one by one: first register and bytes. No two pieces
/// have the same size, so that a late answer is not taken for another piece's.
type Piece = (Register, u8);
const MOST_PIECES: usize = 4;

/// Bytes of the longest piece.
pub(super) const LONGEST_PIECE: usize = 27;

/// The bytes of pieces.
struct Pieces<'a> {
    pieces: &'a [Piece],
    data: [[u8; LONGEST_PIECE]; MOST_PIECES],
}

impl Pieces<'_> {
    fn number(&self, register: Register) -> Option<i32> {
        let mut pieces = self.pieces.iter().zip(&self.data);
        pieces.find_map(|((first, count), bytes)| {
            register.decode(*first, bytes.get(..usize::from(*count))?)
        })
    }
}

/// What has to be known of a servo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Registers {
    Sts3215(sts3215::Registers),
    DynamixelX(xseries::Registers),
}

impl Registers {
    /// Reads them: `read` fills bytes from a register on.
    pub fn read<E>(
        family: Family,
        mut read: impl FnMut(Register, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Self>, E> {
        let pieces: &[Piece] = match family {
            Family::Sts3215 => &sts3215::PIECES,
            Family::DynamixelX => &xseries::PIECES,
        };
        let mut data = [[0; LONGEST_PIECE]; MOST_PIECES];
        for ((first, count), bytes) in pieces.iter().zip(&mut data) {
            read(*first, &mut bytes[..usize::from(*count)])?;
        }
        let found = Pieces { pieces, data };
        Ok(match family {
            Family::Sts3215 => sts3215::Registers::parse(&found).map(Self::Sts3215),
            Family::DynamixelX => xseries::Registers::parse(&found).map(Self::DynamixelX),
        })
    }

    /// Whether its positions are those of one turn and its goals positions.
    pub fn fits(&self, is_gripper: bool) -> bool {
        match self {
            Self::Sts3215(registers) => registers.fits(),
            Self::DynamixelX(registers) => registers.fits(is_gripper),
        }
    }

    /// What keeps it from holding anything, until it was switched off: its error bits, 0 for none.
    pub fn errors(&self) -> u8 {
        match self {
            // These pass by themselves, and come with every reply.
            Self::Sts3215(_) => 0,
            Self::DynamixelX(registers) => registers.errors,
        }
    }

    /// The next register to write, until there is none: then it is ready for torque.
    pub fn next_write(&self, is_gripper: bool) -> Option<(Register, i32)> {
        match self {
            Self::Sts3215(registers) => registers.next_write(is_gripper),
            Self::DynamixelX(registers) => registers.next_write(is_gripper),
        }
    }

    /// Its goal, counts.
    pub fn goal(&self) -> i32 {
        match self {
            Self::Sts3215(registers) => registers.goal,
            Self::DynamixelX(registers) => registers.goal,
        }
    }
}

/// Whether a goal is where the servo is, or what it holds.
fn holds(goal: i32, position: i32, torque: i32) -> bool {
    let off = (goal - position).abs();
    off <= if torque == 1 {
        SAG_COUNTS
    } else {
        NOISE_COUNTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pieces_have_the_same_size() {
        for pieces in [&sts3215::PIECES[..], &xseries::PIECES] {
            assert!(pieces.len() <= MOST_PIECES);
            for (i, (_, count)) in pieces.iter().enumerate() {
                assert!(usize::from(*count) <= LONGEST_PIECE);
                // 1 is what is asked for when the torque is read back.
                assert!(*count > 1 && pieces[..i].iter().all(|(_, other)| other != count));
            }
        }
    }
}
