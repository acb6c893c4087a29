//! Servos outside of an arm's control loop: who they are, where they stand, and what they keep without
//! power.

use super::{
    Family, Register, Wire,
    family::version,
    line::Line,
    sts3215::{self as sts, COUNTS_PER_TURN},
    xseries as x,
};
use crate::ArmError;

/// The largest offset that a servo of the X series heeds in the mode of one turn.
const MOST_OFFSET_OF_ONE_TURN: i32 = 1024;

/// Bytes that are read to know what a servo keeps: those of the longer table.
const LONGEST: usize = 56;

/// What a servo's positions and goals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// Counts within one turn, 0 to 4095, its goals between its limits.
    One,
    /// Counts over several turns, whatever its limits say. Only servos of the X series do so here.
    Many,
}

/// What a servo keeps without power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub family: Family,
    /// Its model's number.
    pub model: u16,
    /// Version of its firmware.
    pub firmware: String,
    /// Correction of the position, counts.
    pub offset_counts: i32,
    /// Lowest goal, counts.
    pub lowest_counts: i32,
    /// Highest goal, counts.
    pub highest_counts: i32,
    /// What its positions are; `None`: it is set up for something else than going to positions, or counts
    /// turns where it must not.
    pub turns: Option<Turns>,
    /// Its counts grow the other way than its sensor's; servos of the X series alone know this.
    pub reversed: bool,
}

/// What a calibration writes to a servo. Its counts grow with its sensor's then: which way they grow is
/// the calibration's to say, and in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Correction of the position, counts: -2047 to 2047 of an STS3215.
    pub offset_counts: i32,
    /// Lowest goal, counts.
    pub lowest_counts: u16,
    /// Highest goal, counts.
    pub highest_counts: u16,
    /// What its positions are. [`Turns::Many`] is for servos of the X series.
    pub turns: Turns,
}

/// Why a servo does not keep what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The bus, or the servo.
    #[error(transparent)]
    Bus(#[from] ArmError),
    /// It does not take a value.
    #[error("it does not take its {0}; switch it off and on, then begin again")]
    NotTaken(&'static str),
    /// Its torque is on.
    #[error(
        "its torque is on, and only limp servos are written to; hold the arm, switch its power off and on, then begin again"
    )]
    Holds,
    /// There is no such servo.
    #[error("a servo of this family cannot count several turns")]
    Turns,
}

/// Servos of one family on a line. Each call waits for the servo's answer, and asks again where none
/// comes, so none of this is for a tick.
pub struct Maintenance<W> {
    line: Line<W>,
    family: Family,
}

impl<W: Wire> Maintenance<W> {
    /// Servos that answer on `wire` at this rate, bits per second.
    pub fn new(wire: W, family: Family, baud: u32) -> Self {
        let line = Line::new(wire, family.protocol(), baud);
        Self { line, family }
    }

    /// What its servos are.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The time on the wire's clock, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.line.now_ns()
    }

    /// What carries the bytes.
    pub fn wire(&self) -> &W {
        self.line.wire()
    }

    /// Gives back what carries the bytes.
    pub fn into_wire(self) -> W {
        self.line.into_wire()
    }

    /// What a servo keeps: one request.
    pub fn kept(&mut self, id: u8) -> Result<Kept, ArmError> {
        let first = match self.family {
            Family::Sts3215 => sts::FIRMWARE,
            Family::DynamixelX => x::MODEL,
        };
        let last = match self.family {
            Family::Sts3215 => sts::MODE,
            Family::DynamixelX => x::LOWEST_POSITION,
        };
        let mut data = [0; LONGEST];
        let data = &mut data[..usize::from(first.through(last)).min(LONGEST)];
        self.line.read(id, first, data)?;
        Kept::parse(self.family, first, data).ok_or(ArmError::Device)
    }

    /// Where a servo reports to be, counts.
    pub fn position(&mut self, id: u8) -> Result<i32, ArmError> {
        self.line.number(id, self.family.table().position)
    }

    /// Whether a servo holds.
    pub fn holds(&mut self, id: u8) -> Result<bool, ArmError> {
        Ok(self.line.number(id, self.family.table().torque)? != 0)
    }

    /// Makes a servo limp: what it holds falls.
    pub fn let_go(&mut self, id: u8) -> Result<(), KeepError> {
        self.put(id, self.family.table().torque, 0, "torque")
    }

    /// Writes what a limp servo shall keep, reads it back, and gives it. Nothing is written to one that
    /// keeps it already. A gripper that bounds its current goes on to do so.
    pub fn keep(&mut self, id: u8, keep: Keep) -> Result<Kept, KeepError> {
        let kept = self.kept(id)?;
        if kept.holds(&keep) {
            return Ok(kept);
        }
        if self.holds(id)? {
            return Err(KeepError::Holds);
        }
        let written = match self.family {
            Family::Sts3215 => self.keep_sts(id, keep),
            Family::DynamixelX => self.keep_x(id, keep),
        };
        written?;
        // Writing to its flash memory keeps it busy for some milliseconds.
        self.line.settle()?;
        let kept = self.kept(id)?;
        match kept.holds(&keep) {
            true => Ok(kept),
            false => Err(KeepError::NotTaken("calibration")),
        }
    }

    fn keep_sts(&mut self, id: u8, keep: Keep) -> Result<(), KeepError> {
        if keep.turns == Turns::Many {
            return Err(KeepError::Turns);
        }
        // Only what is written while this is 0 outlives the power.
        self.put(id, sts::LOCK, 0, "lock")?;
        let written = self.put_counts(id, keep);
        match self.put(id, sts::LOCK, 1, "lock") {
            // What went wrong first is said.
            Err(error) => written.and(Err(error)),
            Ok(()) => written,
        }
    }

    fn keep_x(&mut self, id: u8, keep: Keep) -> Result<(), KeepError> {
        let drive = self.line.number(id, x::DRIVE_MODE)?;
        self.put(id, x::DRIVE_MODE, drive & !x::DRIVE_REVERSED, "drive mode")?;
        let mode = self.line.number(id, x::OPERATING_MODE)?;
        let wanted = match (keep.turns, mode) {
            (Turns::One, _) => x::MODE_POSITION,
            (Turns::Many, x::MODE_CURRENT_BASED_POSITION) => mode,
            (Turns::Many, _) => x::MODE_EXTENDED_POSITION,
        };
        self.put(id, x::OPERATING_MODE, wanted, "operating mode")?;
        self.put_counts(id, keep)?;
        if keep.turns == Turns::Many {
            // Where it stands, in the turn that goals are in.
            let turns = turns(self.position(id)?);
            let offset = keep.offset_counts - turns * i32::from(COUNTS_PER_TURN);
            self.put(id, x::HOMING_OFFSET, offset, "offset")?;
        }
        Ok(())
    }

    fn put_counts(&mut self, id: u8, keep: Keep) -> Result<(), KeepError> {
        let table = self.family.table();
        self.put(id, table.offset, keep.offset_counts, "offset")?;
        self.put(id, table.lowest, keep.lowest_counts.into(), "lowest goal")?;
        self.put(
            id,
            table.highest,
            keep.highest_counts.into(),
            "highest goal",
        )
    }

    fn put(
        &mut self,
        id: u8,
        register: Register,
        value: i32,
        what: &'static str,
    ) -> Result<(), KeepError> {
        match self.line.put(id, register, value)? {
            true => Ok(()),
            false => Err(KeepError::NotTaken(what)),
        }
    }
}

/// Whole turns in so many counts.
pub(super) fn turns(counts: i32) -> i32 {
    counts.div_euclid(i32::from(COUNTS_PER_TURN))
}

impl Kept {
    fn parse(family: Family, first: Register, data: &[u8]) -> Option<Self> {
        let table = family.table();
        let number = |register: Register| register.decode(first, data);
        let firmware = usize::from(table.firmware.address.checked_sub(first.address)?);
        let firmware = data.get(firmware..firmware + usize::from(table.firmware_bytes))?;
        let mode = number(table.mode)?;
        let (turns, reversed) = match family {
            Family::Sts3215 => {
                let several = number(sts::PHASE)? & i32::from(sts::PHASE_MULTI_TURN) != 0;
                (
                    (mode == table.mode_position && !several).then_some(Turns::One),
                    false,
                )
            }
            Family::DynamixelX => {
                let turns = match mode {
                    x::MODE_POSITION => Some(Turns::One),
                    x::MODE_EXTENDED_POSITION | x::MODE_CURRENT_BASED_POSITION => Some(Turns::Many),
                    _ => None,
                };
                (turns, number(x::DRIVE_MODE)? & x::DRIVE_REVERSED != 0)
            }
        };
        Some(Self {
            family,
            model: number(table.model)? as u16,
            firmware: version(firmware),
            offset_counts: number(table.offset)?,
            lowest_counts: number(table.lowest)?,
            highest_counts: number(table.highest)?,
            turns,
            reversed,
        })
    }

    /// Whether it keeps this already. Where positions are of several turns, offsets that are whole turns
    /// apart are the same. One that is reversed keeps none.
    pub fn holds(&self, keep: &Keep) -> bool {
        let turn = i32::from(COUNTS_PER_TURN);
        let apart = self.offset_counts - keep.offset_counts;
        let same = match keep.turns {
            Turns::One => apart == 0,
            Turns::Many => apart % turn == 0,
        };
        same && !self.reversed
            && self.turns == Some(keep.turns)
            && self.lowest_counts == i32::from(keep.lowest_counts)
            && self.highest_counts == i32::from(keep.highest_counts)
    }

    /// Where the sensor is, counts within its turn, when such a servo reports to be at `reported`.
    pub fn sensor_counts(&self, reported: i32) -> i32 {
        let offset = self.offset_counts;
        let counted = match self.family {
            Family::Sts3215 => reported + offset,
            Family::DynamixelX
                if self.turns == Some(Turns::One) && offset.abs() > MOST_OFFSET_OF_ONE_TURN =>
            {
                reported
            }
            Family::DynamixelX => reported - offset,
        };
        let sensor = if self.reversed { -counted } else { counted };
        sensor.rem_euclid(i32::from(COUNTS_PER_TURN))
    }
}
