//! One servo: its registers and where it is.
//!
//! The motion is kinematic: the joint follows its goal at a bounded speed and acceleration, and
//! nothing pushes it; or it is driven by somebody who has a model of the arm.

use super::factory::{MOST_TORQUE, registers, top_counts_per_s};
use crate::bus::{
    Family, Register, Table,
    dynamixel::ALERT,
    sts3215::{STATUS, TORQUE_LIMIT},
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
    /// The sensor's own counts: see [`Servo::offset`].
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
            counts: self.sensor - self.offset(),
            counts_per_s: self.velocity,
            goal_counts: self.goal() - self.offset(),
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
        self.sensor = counts + self.offset();
        self.velocity = counts_per_s;
        self.feed_back();
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
        let within = if lowest < highest {
            goal.clamp(lowest, highest)
        } else {
            goal
        };
        f64::from(within) + self.offset()
    }

    fn top_speed(&self) -> f64 {
        let top = top_counts_per_s(self.family);
        match self.get(self.table().speed).abs() {
            0 => top,
            speed => (self.table().speed_unit * f64::from(speed)).min(top),
        }
    }

    /// What has to be taken off the sensor's counts.
    fn offset(&self) -> f64 {
        let offset = f64::from(self.get(self.table().offset));
        match self.family {
            Family::Sts3215 => offset,
            Family::DynamixelX => -offset,
        }
    }

    pub(super) fn note_limp(&mut self) {
        let falls = (self.sensor - self.rest).abs() > AT_REST_COUNTS;
        self.went_limp |= self.was_on && !self.is_on() && falls;
    }

    pub(super) fn feed_back(&mut self) {
        let table = self.table();
        let position = self.sensor - self.offset();
        self.set(table.position, position.round() as i32);
        let velocity = self.velocity / table.velocity_unit;
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

#[cfg(test)]
mod tests {
    use super::{
        super::writes::{MIDDLE, refusal},
        *,
    };
    use crate::bus::sts3215::{
        ACCELERATION, GOAL_POSITION, GOAL_SPEED, HIGHEST_POSITION, ID, LOCK, MODEL, MOVING,
        POSITION_OFFSET, PRESENT_POSITION, PRESENT_SPEED, PRESENT_TEMPERATURE, RETURN_DELAY,
        TORQUE_ENABLE,
    };

    const MS: u64 = 1_000_000;

    fn of(family: Family, counts: f64, rest_counts: f64) -> Servo {
        let setup = ServoSetup {
            id: 1,
            counts,
            rest_counts,
        };
        Servo::new(family, setup)
    }

    fn servo(counts: f64, rest_counts: f64) -> Servo {
        of(Family::Sts3215, counts, rest_counts)
    }

    fn on(counts: f64, rest_counts: f64) -> Servo {
        let mut servo = servo(counts, rest_counts);
        tell(&mut servo, TORQUE_ENABLE, 1);
        servo
    }

    /// Writes as a host does.
    fn tell(servo: &mut Servo, register: Register, value: i32) -> u8 {
        let mut room = [0; 4];
        servo.write(register.address.into(), register.encoded(value, &mut room))
    }

    #[test]
    fn it_goes_to_its_goal_at_its_speed_and_stays() {
        let mut servo = on(1000.0, 1000.0);
        tell(&mut servo, GOAL_POSITION, 2000);
        servo.advance(100 * MS);
        assert!((servo.view().counts - 1307.2).abs() < 0.1, "top speed");
        assert_eq!((servo.get(MOVING), servo.get(PRESENT_SPEED)), (1, 3072));
        tell(&mut servo, GOAL_SPEED, 100);
        servo.advance(200 * MS);
        assert!((servo.view().counts - 1317.2).abs() < 0.1, "its own speed");
        servo.advance(20_000 * MS);
        assert_eq!(servo.get(PRESENT_POSITION), 2000);
        assert_eq!((servo.get(MOVING), servo.get(PRESENT_SPEED)), (0, 0));
        tell(&mut servo, GOAL_POSITION, 1990);
        servo.advance(20_001 * MS);
        assert_eq!(servo.get(PRESENT_SPEED), -100);
    }

    #[test]
    fn an_acceleration_bounds_the_change_of_speed_both_ways() {
        let mut servo = on(1000.0, 1000.0);
        tell(&mut servo, ACCELERATION, 50);
        tell(&mut servo, GOAL_POSITION, 2000);
        let (mut last, mut fastest) = (0.0f64, 0.0f64);
        for i in 1..1500 {
            servo.advance(i * MS);
            let speed = servo.view().counts_per_s;
            // 5000 counts/s² are 5 a millisecond; the last step ends at the goal.
            assert!((speed - last).abs() < 10.0, "{last} then {speed}");
            fastest = fastest.max(speed);
            last = speed;
        }
        assert!(fastest > 2000.0, "{fastest}");
        assert_eq!(servo.get(PRESENT_POSITION), 2000);
    }

    #[test]
    fn a_goal_beyond_the_angle_limits_stops_at_them() {
        let mut servo = on(2000.0, 2000.0);
        tell(&mut servo, HIGHEST_POSITION, 2100);
        tell(&mut servo, GOAL_POSITION, 3000);
        servo.advance(1000 * MS);
        assert_eq!(servo.get(PRESENT_POSITION), 2100);
    }

    #[test]
    fn without_torque_it_sinks_and_that_is_noted() {
        let mut servo = on(2000.0, 1000.0);
        servo.advance(1000 * MS);
        assert!(!servo.view().went_limp);
        tell(&mut servo, TORQUE_ENABLE, 0);
        assert!(servo.view().went_limp, "though no time has passed");
        servo.advance(1500 * MS);
        assert!((servo.view().counts - 1800.0).abs() < 1.0);
        servo.advance(60_000 * MS);
        assert_eq!(servo.get(PRESENT_POSITION), 1000);
    }

    #[test]
    fn torque_off_at_rest_is_not_limp_and_before_the_first_torque_it_stands() {
        let mut resting = on(1000.0, 1005.0);
        tell(&mut resting, TORQUE_ENABLE, 0);
        assert!(!resting.view().went_limp);
        let mut new = servo(2000.0, 1000.0);
        new.advance(5000 * MS);
        assert_eq!((new.view().counts, new.view().went_limp), (2000.0, false));
        let mut choked = on(2000.0, 1000.0);
        tell(&mut choked, TORQUE_LIMIT, 0);
        assert!(choked.view().went_limp, "a torque limit of nothing");
    }

    #[test]
    fn stored_registers_outlive_the_power_when_unlocked() {
        let mut servo = on(2000.0, 1000.0);
        tell(&mut servo, RETURN_DELAY, 7);
        tell(&mut servo, LOCK, 0);
        tell(&mut servo, ID, 9);
        assert_eq!((servo.id(), servo.get(RETURN_DELAY)), (9, 7));
        servo.power_cycle();
        assert_eq!((servo.id(), servo.get(RETURN_DELAY)), (9, 250));
        assert!(!servo.view().torque && servo.view().went_limp);
    }

    #[test]
    fn the_middle_is_where_it_is_told_to_be() {
        let mut servo = servo(900.0, 900.0);
        tell(&mut servo, TORQUE_ENABLE, MIDDLE);
        assert_eq!(servo.get(PRESENT_POSITION), 2048);
        assert_eq!(servo.get(POSITION_OFFSET), -1148);
        tell(&mut servo, TORQUE_ENABLE, 1);
        tell(&mut servo, GOAL_POSITION, 2148);
        servo.advance(1000 * MS);
        assert_eq!(servo.get(PRESENT_POSITION), 2148);
        assert_eq!(servo.sensor, 1000.0);
    }

    #[test]
    fn feedback_is_not_written_by_hosts() {
        let mut servo = servo(1000.0, 1000.0);
        tell(&mut servo, PRESENT_TEMPERATURE, 99);
        servo.write(0, &[9; 5]);
        assert_eq!(servo.get(PRESENT_TEMPERATURE), 28);
        assert_eq!(servo.get(MODEL), 777);
        servo.set(PRESENT_TEMPERATURE, 71);
        let address = PRESENT_TEMPERATURE.address.into();
        assert_eq!(servo.read(address, 1), Some(&[71][..]));
        assert_eq!(servo.read(140, 9), None);
    }

    #[test]
    fn an_x_servo_goes_by_its_own_table() {
        let mut servo = of(Family::DynamixelX, 1000.0, 1000.0);
        assert_eq!(tell(&mut servo, x::HOMING_OFFSET, 100), 0);
        assert_eq!(servo.get(x::PRESENT_POSITION), 1100);
        assert_eq!(tell(&mut servo, x::PROFILE_VELOCITY, 100), 0);
        assert_eq!(tell(&mut servo, x::GOAL_POSITION, 2100), 0);
        assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), 0);
        servo.advance(100 * MS);
        let moved = 100.0 * x::COUNTS_PER_S * 0.1;
        assert!((servo.view().counts - 1100.0 - moved).abs() < 0.1);
        assert_eq!(servo.get(x::PRESENT_VELOCITY), 100);
        servo.advance(5_000 * MS);
        assert_eq!((servo.view().counts, servo.sensor), (2100.0, 2000.0));
        // What is kept cannot be written under torque, and goals have limits.
        assert_eq!(tell(&mut servo, x::ID, 5), refusal::ACCESS);
        assert_eq!(tell(&mut servo, x::GOAL_POSITION, 4096), refusal::LIMIT);
        assert_eq!(tell(&mut servo, x::PRESENT_POSITION, 0), refusal::ACCESS);
        assert_eq!((servo.id(), servo.get(x::GOAL_POSITION)), (1, 2100));
        tell(&mut servo, x::TORQUE_ENABLE, 0);
        assert_eq!(tell(&mut servo, x::ID, 5), 0);
        servo.power_cycle();
        assert_eq!((servo.id(), servo.get(x::HOMING_OFFSET)), (5, 100));
    }

    #[test]
    fn an_x_servo_with_a_hardware_error_says_so_and_stays_limp() {
        let mut servo = of(Family::DynamixelX, 1000.0, 1000.0);
        servo.set(x::HARDWARE_ERROR, i32::from(x::hardware::OVERLOAD));
        assert_eq!(servo.error_bits(), ALERT);
        assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), refusal::FAILED);
        servo.power_cycle();
        assert_eq!(servo.error_bits(), 0);
        assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), 0);
    }

    #[test]
    fn the_bus_watchdog_stops_a_servo_that_nobody_speaks_to() {
        let mut servo = of(Family::DynamixelX, 1000.0, 500.0);
        tell(&mut servo, x::TORQUE_ENABLE, 1);
        tell(&mut servo, x::BUS_WATCHDOG, 2);
        tell(&mut servo, x::GOAL_POSITION, 3000);
        for ms in 1..=100 {
            servo.hears((ms - 1) * MS);
            servo.advance(ms * MS);
        }
        assert_eq!(servo.get(x::BUS_WATCHDOG), 2);
        servo.advance(300 * MS);
        assert_eq!(servo.get(x::BUS_WATCHDOG), x::WATCHDOG_TRIPPED);
        let stands = servo.view().counts;
        let expected = 1000.0 + 7031.5 * 0.140;
        assert!((stands - expected).abs() < 8.0, "{stands}");
        assert_eq!(tell(&mut servo, x::GOAL_POSITION, 2500), refusal::RANGE);
        servo.advance(1_000 * MS);
        assert_eq!((servo.view().counts, servo.view().torque), (stands, true));
        assert_eq!(tell(&mut servo, x::BUS_WATCHDOG, 0), 0);
        servo.advance(2_000 * MS);
        assert_eq!(servo.view().counts, 3000.0, "its old goal");
        assert!(!servo.view().went_limp);
    }
}
