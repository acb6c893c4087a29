//! What becomes of what a host writes to a servo: each family has rules of its own.

use super::servo::{SIZE, STORED, Servo};
use crate::bus::{
    Family, Register,
    sts3215::{COUNTS_PER_TURN, LOCK, PRESENT_CURRENT, PRESENT_POSITION},
    xseries as x,
};

/// Written to an STS3215's torque register: here is the middle.
pub(super) const MIDDLE: i32 = 128;

/// Why a servo of the X series does not do as it is told: error numbers of protocol 2.0.
pub(super) mod refusal {
    /// It cannot.
    pub const FAILED: u8 = 1;
    /// The value is none that there is.
    pub const RANGE: u8 = 4;
    /// The value is beyond a limit that was set.
    pub const LIMIT: u8 = 6;
    /// The register cannot be written, or not now.
    pub const ACCESS: u8 = 7;
}

impl Servo {
    /// What a host writes; gives the number of the error, 0 for none. Registers that only the servo
    /// writes stay as they are.
    pub fn write(&mut self, address: u16, data: &[u8]) -> u8 {
        let refused = match self.family {
            Family::Sts3215 => self.write_sts(address, data),
            Family::DynamixelX => self.write_x(address, data),
        };
        self.was_on |= self.is_on();
        self.note_limp();
        self.feed_back();
        refused
    }

    fn write_sts(&mut self, address: u16, data: &[u8]) -> u8 {
        let feedback = PRESENT_POSITION.address..PRESENT_CURRENT.address + PRESENT_CURRENT.bytes;
        for (place, value) in (usize::from(address)..SIZE).zip(data) {
            let reads_only = u8::try_from(place).is_ok_and(|place| feedback.contains(&place));
            if place < usize::from(self.table().id.address) || reads_only {
                continue;
            }
            self.registers[place] = *value;
            if place < self.kept() && self.get(LOCK) == 0 {
                self.stored[place] = *value;
            }
        }
        if self.get(self.table().torque) == MIDDLE {
            // It finds its offset and lets go.
            let half = i32::from(COUNTS_PER_TURN) / 2;
            let sensor = (self.sensor.round() as i32).rem_euclid(2 * half);
            self.set(self.table().offset, sensor - half);
            self.set(self.table().torque, 0);
        }
        0
    }

    fn write_x(&mut self, address: u16, data: &[u8]) -> u8 {
        let from = usize::from(address);
        let written = from..from + data.len();
        let touches = |register: Register| {
            let place = usize::from(register.address);
            written.start < place + usize::from(register.bytes) && place < written.end
        };
        let kept = from < self.kept();
        let is_fixed = from < usize::from(x::ID.address)
            || touches(x::HARDWARE_ERROR)
            || written.end > usize::from(x::MOVING.address);
        if is_fixed || kept && self.get(x::TORQUE_ENABLE) == 1 {
            return refusal::ACCESS;
        }
        let before = self.registers;
        self.registers[written.clone()].copy_from_slice(data);
        let refused = if touches(x::GOAL_POSITION) && self.halted.is_some() {
            refusal::RANGE
        } else if touches(x::GOAL_POSITION) && !self.takes(self.get(x::GOAL_POSITION)) {
            refusal::LIMIT
        } else if self.get(x::TORQUE_ENABLE) == 1 && self.get(x::HARDWARE_ERROR) != 0 {
            refusal::FAILED
        } else if kept && !self.has_values_that_exist() {
            refusal::RANGE
        } else {
            0
        };
        if refused != 0 {
            self.registers = before;
            return refused;
        }
        if kept {
            self.stored.copy_from_slice(&self.registers[..STORED]);
        }
        let switched_on = touches(x::TORQUE_ENABLE) && self.is_on();
        if self.is_of_one_turn() && (touches(x::OPERATING_MODE) || switched_on) {
            self.forget_turns();
        }
        if touches(x::BUS_WATCHDOG) && self.get(x::BUS_WATCHDOG) == 0 {
            self.halted = None;
        }
        0
    }

    /// Whether offset and limits are of those that there are.
    fn has_values_that_exist(&self) -> bool {
        let turn = 0..i32::from(COUNTS_PER_TURN);
        self.get(x::HOMING_OFFSET).abs() <= x::MOST_HOMING_OFFSET
            && turn.contains(&self.get(x::LOWEST_POSITION))
            && turn.contains(&self.get(x::HIGHEST_POSITION))
    }
}
