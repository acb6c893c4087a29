//! One servo: its registers and where it is.
//!
//! The motion is kinematic: the joint follows its goal at a bounded speed and acceleration, and
//! nothing pushes it; or it is driven by somebody who has a model of the arm.
//!
//! The sensor knows one turn. An STS3215 reports (sensor − offset) within 0 to 4095, however far it was
//! turned. One of the X series counts on beyond a turn while it is limp or in a mode of several turns,
//! and forgets whole turns when its power comes, and in the mode of one turn when its torque or that
//! mode does: what it reports then is (sensor within a turn) + offset, which no offset brings back into
//! 0 to 4095. Where its drive mode says reversed it reports the sensor's counts the other way round, and
//! the offset is added to that.

use super::factory::{MOST_TORQUE, registers, top_counts_per_s};
use crate::bus::{
    Family, Register, Table,
    dynamixel::ALERT,
    sts3215::{COUNTS_PER_TURN, PHASE, PHASE_MULTI_TURN, STATUS, TORQUE_LIMIT},
    xseries as x,
};

/// How fast a joint without torque sinks.
const SAG_COUNTS_PER_S: f64 = 400.0;

/// A joint so near to its rest has nothing to fall.
const AT_REST_COUNTS: f64 = 10.0;

/// The motion is integrated in steps of this length at most.
const STEP_NS: u64 = 1_000_000;

/// Registers there are, bytes.
pub(super) const SIZE: usize = 148;

/// Counts of a turn of the sensor.
const TURN: f64 = COUNTS_PER_TURN as f64;

/// The largest offset that a servo of the X series heeds in the mode of one turn.
const MOST_OFFSET_OF_ONE_TURN: i32 = 1024;

/// Most registers that keep their values without power. They lie before [`Table::torque`].
pub(super) const STORED: usize = 64;

/// A servo before it is switched on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServoSetup {
    /// Its id.
    pub id: u8,
    /// Where it stands, counts. It stays there until its torque was on for the first time, as
    /// if somebody held it.
    pub counts: f64,
    /// Where it sinks to without torque, counts.
    pub rest_counts: f64,
}

/// A servo as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServoView {
    /// Its id.
    pub id: u8,
    /// Where it stands, counts, as it reports it.
    pub counts: f64,
    /// Where its sensor is, counts that go on beyond a turn. Whole turns may be forgotten.
    pub sensor_counts: f64,
    /// Counts per second.
    pub counts_per_s: f64,
    /// Where it goes, counts: its goal within its limits, or where its bus watchdog has stopped it.
    pub goal_counts: f64,
    /// Whether its motor holds it.
    pub torque: bool,
    /// Whether its torque went off where it had something to fall.
    pub went_limp: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Servo {
    pub(super) family: Family,
    pub(super) registers: [u8; SIZE],
    pub(super) stored: [u8; STORED],
    /// The sensor's own counts, as if it counted on beyond a turn: see [`Servo::zero`].
    pub(super) sensor: f64,
    velocity: f64,
    rest: f64,
    now_ns: u64,
    /// When a request was last heard, to whomever.
    heard_ns: u64,
    /// Where the bus watchdog stopped it.
    pub(super) halted: Option<f64>,
    pub(super) was_on: bool,
    went_limp: bool,
    /// Its joint is moved from outside.
    driven: bool,
}

impl Servo {
    pub fn new(family: Family, setup: ServoSetup) -> Self {
        let mut servo = Self {
            family,
            registers: [0; SIZE],
            stored: [0; STORED],
            sensor: setup.counts,
            velocity: 0.0,
            rest: setup.rest_counts,
            now_ns: 0,
            heard_ns: 0,
            halted: None,
            was_on: false,
            went_limp: false,
            driven: false,
        };
        servo.reset();
        servo.set(servo.table().id, i32::from(setup.id));
        servo.stored.copy_from_slice(&servo.registers[..STORED]);
        servo.switch_on();
        servo
    }

    pub(super) fn table(&self) -> &'static Table {
        self.family.table()
    }

    /// Bytes of the registers that keep their values without power.
    pub(super) fn kept(&self) -> usize {
        usize::from(self.table().torque.address)
    }

    /// Power was away and is back: what is not stored is as it left the factory.
    pub fn power_cycle(&mut self) {
        self.reset();
        let kept = self.kept();
        self.registers[..kept].copy_from_slice(&self.stored[..kept]);
        self.switch_on();
        self.note_limp();
    }

    fn reset(&mut self) {
        self.registers = [0; SIZE];
        for (register, value) in registers(self.family) {
            self.set(*register, *value);
        }
        self.halted = None;
    }

    fn switch_on(&mut self) {
        if self.family == Family::Sts3215 {
            self.set(TORQUE_LIMIT, self.get(MOST_TORQUE));
        }
        self.forget_turns();
        self.feed_back();
        self.set(self.table().goal, self.get(self.table().position));
    }

    pub fn id(&self) -> u8 {
        self.get(self.table().id) as u8
    }

    /// Bits per second that it listens at.
    pub fn baud(&self) -> u32 {
        let index = self.get(self.table().baud_rate) as usize;
        self.table().baud_rates.get(index).copied().unwrap_or(0)
    }

    /// Sets the rate that it listens at, as if it had been set up before.
    pub fn set_baud(&mut self, baud: u32) {
        let rates = self.table().baud_rates;
        let index = rates.iter().position(|rate| *rate == baud);
        self.set(self.table().baud_rate, index.unwrap_or(0) as i32);
        self.stored.copy_from_slice(&self.registers[..STORED]);
    }

    /// Between a request's end and the begin of the answer.
    pub fn return_delay_ns(&self) -> u64 {
        self.get(self.table().return_delay) as u64 * 2_000
    }

    /// Whether it answers to more than pings and reads.
    pub fn answers_writes(&self) -> bool {
        self.get(self.table().response_level) >= self.table().answers_writes
    }

    /// What every status of it carries.
    pub fn error_bits(&self) -> u8 {
        match self.family {
            Family::Sts3215 => self.get(STATUS) as u8,
            Family::DynamixelX if self.get(x::HARDWARE_ERROR) != 0 => ALERT,
            Family::DynamixelX => 0,
        }
    }

    /// Whether its firmware knows the fast sync read.
    pub fn knows_fast(&self) -> bool {
        self.get(x::FIRMWARE) >= 46
    }

    /// What it answers to a ping: nothing, or model and firmware.
    pub fn introduction(&self) -> ([u8; 3], usize) {
        let [low, high, ..] = self.table().model.encode(self.get(self.table().model));
        match self.family {
            Family::Sts3215 => ([0; 3], 0),
            Family::DynamixelX => ([low, high, self.get(x::FIRMWARE) as u8], 3),
        }
    }

    pub fn view(&self) -> ServoView {
        ServoView {
            id: self.id(),
            counts: self.reports(self.sensor),
            sensor_counts: self.sensor,
            counts_per_s: self.sign() * self.velocity,
            goal_counts: self.reports(self.goal()),
            torque: self.is_on(),
            went_limp: self.went_limp,
        }
    }

    pub fn read(&self, address: u16, count: u16) -> Option<&[u8]> {
        let from = usize::from(address);
        self.registers.get(from..from + usize::from(count))
    }

    /// Somebody said something to somebody on the bus.
    pub fn hears(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
    }

    /// Somebody puts the joint there.
    pub fn put(&mut self, counts: f64) {
        self.drive(counts, 0.0);
    }

    /// From now on its joint moves by [`Servo::drive`] alone, or again by itself.
    pub fn set_driven(&mut self, driven: bool) {
        self.driven = driven;
    }

    /// The joint is there, and moves so fast.
    pub fn drive(&mut self, counts: f64, counts_per_s: f64) {
        self.sensor = self.sign() * (counts + self.offset());
        self.velocity = self.sign() * counts_per_s;
        self.feed_back();
    }

    /// A hand turns the joint so far: a limp one gives way, one that holds does not.
    pub fn turn(&mut self, by_counts: f64) {
        if !self.is_on() {
            self.sensor += by_counts;
            self.velocity = 0.0;
            self.feed_back();
        }
    }

    /// Lets time pass until `now_ns`; times before the one it has reached change nothing.
    pub fn advance(&mut self, now_ns: u64) {
        if self.driven {
            self.now_ns = self.now_ns.max(now_ns);
            self.watch();
        }
        while self.now_ns < now_ns {
            let step_ns = (now_ns - self.now_ns).min(STEP_NS);
            let before = (self.sensor, self.velocity);
            self.step(step_ns as f64 * 1e-9);
            self.now_ns += step_ns;
            self.watch();
            // It stands, so it goes on standing.
            if before == (self.sensor, self.velocity) && self.velocity == 0.0 {
                self.now_ns = now_ns;
                self.watch();
            }
        }
        self.feed_back();
    }

    /// The bus watchdog.
    fn watch(&mut self) {
        if self.family != Family::DynamixelX || self.halted.is_some() || !self.is_on() {
            return;
        }
        let units = self.get(x::BUS_WATCHDOG);
        let silent_ns = self.now_ns.saturating_sub(self.heard_ns);
        if units > 0 && silent_ns > units as u64 * x::WATCHDOG_UNIT_NS {
            self.halted = Some(self.sensor);
            self.set(x::BUS_WATCHDOG, x::WATCHDOG_TRIPPED);
        }
    }

    fn step(&mut self, dt_s: f64) {
        let (goal, top, acceleration) = if self.is_on() {
            let units = self.get(self.table().acceleration);
            let acceleration = self.table().acceleration_unit * f64::from(units);
            (self.goal(), self.top_speed(), acceleration)
        } else if self.was_on {
            (self.rest, SAG_COUNTS_PER_S, 0.0)
        } else {
            (self.sensor, 0.0, 0.0)
        };
        let error = goal - self.sensor;
        let mut velocity = (error / dt_s).clamp(-top, top);
        if acceleration > 0.0 {
            // No faster than it can brake before the goal, having moved for this step:
            // v²/2a + v·dt = error.
            let change = acceleration * dt_s;
            let brake = (change.powi(2) + 2.0 * acceleration * error.abs()).sqrt() - change;
            let wanted = velocity.clamp(-brake, brake);
            velocity = self.velocity + (wanted - self.velocity).clamp(-change, change);
        }
        let moved = velocity * dt_s;
        let arrives = moved.abs() >= error.abs() && moved * error >= 0.0;
        self.sensor = if arrives { goal } else { self.sensor + moved };
        self.velocity = if arrives { error / dt_s } else { velocity };
    }

    /// The torque is on, and not limited to nothing.
    pub(super) fn is_on(&self) -> bool {
        let limit = match self.family {
            Family::Sts3215 => TORQUE_LIMIT,
            Family::DynamixelX => x::GOAL_PWM,
        };
        self.get(self.table().torque) == 1 && self.get(limit) > 0
    }

    /// Where it goes in the sensor's counts, within the angle limits where there are any.
    fn goal(&self) -> f64 {
        if let Some(halted) = self.halted {
            return halted;
        }
        let goal = self.get(self.table().goal);
        let (lowest, highest) = (
            self.get(self.table().lowest),
            self.get(self.table().highest),
        );
        let within = if lowest < highest && self.is_of_one_turn() {
            goal.clamp(lowest, highest)
        } else {
            goal
        };
        self.sign() * (f64::from(within) + self.zero())
    }

    fn top_speed(&self) -> f64 {
        let top = top_counts_per_s(self.family);
        match self.get(self.table().speed).abs() {
            0 => top,
            speed => (self.table().speed_unit * f64::from(speed)).min(top),
        }
    }

    /// -1: it reports the sensor's counts the other way round.
    fn sign(&self) -> f64 {
        let reversed =
            self.family == Family::DynamixelX && self.get(x::DRIVE_MODE) & x::DRIVE_REVERSED != 0;
        if reversed { -1.0 } else { 1.0 }
    }

    /// What it reports when the sensor is there, in the turn in which it is.
    fn reports(&self, sensor: f64) -> f64 {
        self.sign() * sensor - self.zero()
    }

    /// What has to be taken off the sensor's counts, as it counts them.
    fn offset(&self) -> f64 {
        let offset = self.get(self.table().offset);
        match self.family {
            Family::Sts3215 => f64::from(offset),
            Family::DynamixelX
                if self.is_of_one_turn() && offset.abs() > MOST_OFFSET_OF_ONE_TURN =>
            {
                0.0
            }
            Family::DynamixelX => -f64::from(offset),
        }
    }

    /// Where the sensor is when it reports 0, in the turn in which it is, as it counts.
    fn zero(&self) -> f64 {
        let offset = self.offset();
        let wraps = match self.family {
            Family::Sts3215 => self.is_of_one_turn(),
            Family::DynamixelX => false,
        };
        match wraps {
            true => offset + turns(self.sensor - offset),
            false => offset,
        }
    }

    /// Whether its goals are positions within one turn, between its limits.
    pub(super) fn is_of_one_turn(&self) -> bool {
        match self.family {
            Family::Sts3215 => self.get(PHASE) & i32::from(PHASE_MULTI_TURN) == 0,
            Family::DynamixelX => self.get(x::OPERATING_MODE) == x::MODE_POSITION,
        }
    }

    /// All that it knows is where in a turn it is.
    pub(super) fn forget_turns(&mut self) {
        let turns = self.sign() * turns(self.sign() * self.sensor);
        self.sensor -= turns;
        self.rest -= turns;
    }

    /// Whether it would go to this goal.
    pub(super) fn takes(&self, goal: i32) -> bool {
        let (lowest, highest) = (
            self.get(self.table().lowest),
            self.get(self.table().highest),
        );
        !self.is_of_one_turn() || (lowest..=highest).contains(&goal)
    }

    pub(super) fn note_limp(&mut self) {
        let falls = (self.sensor - self.rest).abs() > AT_REST_COUNTS;
        self.went_limp |= self.was_on && !self.is_on() && falls;
    }

    pub(super) fn feed_back(&mut self) {
        let table = self.table();
        let position = self.reports(self.sensor);
        self.set(table.position, (position + 0.5).floor() as i32);
        let velocity = self.sign() * self.velocity / table.velocity_unit;
        self.set(table.velocity, velocity.round() as i32);
        self.set(table.moving, i32::from(self.velocity != 0.0));
    }

    pub fn get(&self, register: Register) -> i32 {
        // The table lies within the registers.
        register
            .decode(Register::byte(0), &self.registers)
            .unwrap_or(0)
    }

    /// Sets any register, also those that no host can write.
    pub fn set(&mut self, register: Register, value: i32) {
        let from = usize::from(register.address);
        let bytes = register.encode(value);
        for (place, value) in self.registers[from..]
            .iter_mut()
            .zip(&bytes[..usize::from(register.bytes)])
        {
            *place = *value;
        }
    }
}

/// Counts of the whole turns in so many counts, which are rounded.
fn turns(counts: f64) -> f64 {
    ((counts + 0.5).floor() / TURN).floor() * TURN
}

#[cfg(test)]
mod tests;
