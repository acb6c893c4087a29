//! One servo: its registers and where it is.
//!
//! Factory values: Feetech's memory table of the STS series. The motion is kinematic: the joint
//! follows its goal at a bounded speed and acceleration, and nothing pushes it; or it is driven by
//! somebody who has a model of the arm.

use crate::bus::sts3215::{
    ACCELERATION, COUNTS_PER_TURN, GOAL_POSITION, GOAL_SPEED, HIGHEST_POSITION, ID, LOCK,
    LOWEST_POSITION, MODEL, MOVING, PHASE, POSITION_OFFSET, PRESENT_CURRENT, PRESENT_POSITION,
    PRESENT_SPEED, PRESENT_TEMPERATURE, PRESENT_VOLTAGE, RESPONSE_LEVEL, RETURN_DELAY, Register,
    STATUS, TORQUE_ENABLE, TORQUE_LIMIT,
};

/// Counts per second of an STS3215 at 7.4 V without load: 45 rpm.
pub const TOP_COUNTS_PER_S: f64 = 45.0 / 60.0 * COUNTS_PER_TURN as f64;

/// How fast a joint without torque sinks.
const SAG_COUNTS_PER_S: f64 = 400.0;

/// A joint so near to its rest has nothing to fall.
const AT_REST_COUNTS: f64 = 10.0;

/// The motion is integrated in steps of this length at most.
const STEP_NS: u64 = 1_000_000;

/// Registers there are, bytes.
const SIZE: usize = 128;

/// Registers below this one keep their values without power.
const STORED: usize = TORQUE_ENABLE.address as usize;

/// Written to [`TORQUE_ENABLE`]: here is the middle.
const MIDDLE: i32 = 128;

const fn byte(address: u8) -> Register {
    Register {
        address,
        bytes: 1,
        sign: None,
    }
}

/// The most torque that the torque limit is set to when the power comes.
const MOST_TORQUE: Register = Register {
    address: 16,
    bytes: 2,
    sign: None,
};

/// What a servo has in its registers when it leaves the factory; what is not here is 0.
const FACTORY: [(Register, i32); 22] = [
    // Firmware 3.10.
    (byte(0), 3),
    (byte(1), 10),
    (MODEL, 777),
    // 500 µs.
    (RETURN_DELAY, 250),
    (RESPONSE_LEVEL, 1),
    (HIGHEST_POSITION, 4095),
    // Greatest temperature, highest and lowest voltage.
    (byte(13), 70),
    (byte(14), 80),
    (byte(15), 40),
    (MOST_TORQUE, 1000),
    // Speeds in counts per second, 0 is the top speed, positions within one turn.
    (PHASE, 12),
    // What unloads it and what lights its lamp.
    (byte(19), 44),
    (byte(20), 47),
    // Gains of the position loop, least starting force, dead bands.
    (byte(21), 32),
    (byte(22), 32),
    (byte(24), 16),
    (byte(26), 1),
    (byte(27), 1),
    // Angular resolution.
    (byte(30), 1),
    (LOCK, 1),
    (PRESENT_VOLTAGE, 74),
    (PRESENT_TEMPERATURE, 28),
];

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
    /// Where it was sent last.
    pub goal_counts: f64,
    /// Whether its motor holds it.
    pub torque: bool,
    /// Whether its torque went off where it had something to fall.
    pub went_limp: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Servo {
    registers: [u8; SIZE],
    stored: [u8; STORED],
    /// The sensor's own counts: positions and goals are less the offset.
    sensor: f64,
    velocity: f64,
    rest: f64,
    now_ns: u64,
    was_on: bool,
    went_limp: bool,
    /// Its joint is moved from outside.
    driven: bool,
}

impl Servo {
    pub fn new(setup: ServoSetup) -> Self {
        let mut servo = Self {
            registers: [0; SIZE],
            stored: [0; STORED],
            sensor: setup.counts,
            velocity: 0.0,
            rest: setup.rest_counts,
            now_ns: 0,
            was_on: false,
            went_limp: false,
            driven: false,
        };
        servo.reset();
        servo.set(ID, i32::from(setup.id));
        servo.stored.copy_from_slice(&servo.registers[..STORED]);
        servo.switch_on();
        servo
    }

    /// Power was away and is back: what is not stored is as it left the factory.
    pub fn power_cycle(&mut self) {
        self.reset();
        self.registers[..STORED].copy_from_slice(&self.stored);
        self.switch_on();
        self.note_limp();
    }

    fn reset(&mut self) {
        self.registers = [0; SIZE];
        for (register, value) in FACTORY {
            self.set(register, value);
        }
    }

    fn switch_on(&mut self) {
        self.set(TORQUE_LIMIT, self.get(MOST_TORQUE));
        self.feed_back();
        self.set(GOAL_POSITION, self.get(PRESENT_POSITION));
    }

    pub fn id(&self) -> u8 {
        self.get(ID) as u8
    }

    /// Between a request's end and the begin of the answer.
    pub fn return_delay_ns(&self) -> u64 {
        self.get(RETURN_DELAY) as u64 * 2_000
    }

    /// Whether it answers to more than pings and reads.
    pub fn answers_writes(&self) -> bool {
        self.get(RESPONSE_LEVEL) != 0
    }

    /// What every status of it carries.
    pub fn error_bits(&self) -> u8 {
        self.get(STATUS) as u8
    }

    pub fn view(&self) -> ServoView {
        ServoView {
            id: self.id(),
            counts: self.sensor - self.offset(),
            counts_per_s: self.velocity,
            goal_counts: f64::from(self.get(GOAL_POSITION)),
            torque: self.is_on(),
            went_limp: self.went_limp,
        }
    }

    pub fn read(&self, address: u8, count: u8) -> Option<&[u8]> {
        let from = usize::from(address);
        self.registers.get(from..from + usize::from(count))
    }

    /// What a host writes. Registers that only the servo writes stay as they are.
    pub fn write(&mut self, address: u8, data: &[u8]) {
        let feedback = PRESENT_POSITION.address..PRESENT_CURRENT.address + PRESENT_CURRENT.bytes;
        for (address, value) in (address..SIZE as u8).zip(data) {
            if address < ID.address || feedback.contains(&address) {
                continue;
            }
            let place = usize::from(address);
            self.registers[place] = *value;
            if place < STORED && self.get(LOCK) == 0 {
                self.stored[place] = *value;
            }
        }
        if self.get(TORQUE_ENABLE) == MIDDLE {
            // It finds its offset and lets go.
            let offset = self.sensor - f64::from(COUNTS_PER_TURN) / 2.0;
            self.set(POSITION_OFFSET, offset.round() as i32);
            self.set(TORQUE_ENABLE, 0);
        }
        self.was_on |= self.is_on();
        self.note_limp();
        self.feed_back();
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
        }
        while self.now_ns < now_ns {
            let step_ns = (now_ns - self.now_ns).min(STEP_NS);
            let before = (self.sensor, self.velocity);
            self.step(step_ns as f64 * 1e-9);
            self.now_ns += step_ns;
            // It stands, so it goes on standing.
            if before == (self.sensor, self.velocity) && self.velocity == 0.0 {
                self.now_ns = now_ns;
            }
        }
        self.feed_back();
    }

    fn step(&mut self, dt_s: f64) {
        let (goal, top, acceleration) = if self.is_on() {
            let acceleration = 100.0 * f64::from(self.get(ACCELERATION));
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
    fn is_on(&self) -> bool {
        self.get(TORQUE_ENABLE) == 1 && self.get(TORQUE_LIMIT) > 0
    }

    /// The goal in the sensor's counts, within the angle limits where there are any.
    fn goal(&self) -> f64 {
        let goal = self.get(GOAL_POSITION);
        let (lowest, highest) = (self.get(LOWEST_POSITION), self.get(HIGHEST_POSITION));
        let within = if lowest < highest {
            goal.clamp(lowest, highest)
        } else {
            goal
        };
        f64::from(within) + self.offset()
    }

    fn top_speed(&self) -> f64 {
        match self.get(GOAL_SPEED).abs() {
            0 => TOP_COUNTS_PER_S,
            speed => f64::from(speed).min(TOP_COUNTS_PER_S),
        }
    }

    fn offset(&self) -> f64 {
        f64::from(self.get(POSITION_OFFSET))
    }

    fn note_limp(&mut self) {
        let falls = (self.sensor - self.rest).abs() > AT_REST_COUNTS;
        self.went_limp |= self.was_on && !self.is_on() && falls;
    }

    fn feed_back(&mut self) {
        let position = self.sensor - self.offset();
        self.set(PRESENT_POSITION, position.round() as i32);
        self.set(PRESENT_SPEED, self.velocity.round() as i32);
        self.set(MOVING, i32::from(self.velocity != 0.0));
    }

    pub fn get(&self, register: Register) -> i32 {
        // The table lies within the registers.
        register.decode(byte(0), &self.registers).unwrap_or(0)
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
    use super::*;

    const MS: u64 = 1_000_000;

    fn servo(counts: f64, rest_counts: f64) -> Servo {
        Servo::new(ServoSetup {
            id: 1,
            counts,
            rest_counts,
        })
    }

    fn on(counts: f64, rest_counts: f64) -> Servo {
        let mut servo = servo(counts, rest_counts);
        tell(&mut servo, TORQUE_ENABLE, 1);
        servo
    }

    /// Writes as a host does.
    fn tell(servo: &mut Servo, register: Register, value: i32) {
        let bytes = register.encode(value);
        servo.write(register.address, &bytes[..usize::from(register.bytes)]);
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
        servo.write(0, &[9, 9, 9, 9, 9]);
        assert_eq!(servo.get(PRESENT_TEMPERATURE), 28);
        assert_eq!(servo.get(MODEL), 777);
        servo.set(PRESENT_TEMPERATURE, 71);
        assert_eq!(servo.read(PRESENT_TEMPERATURE.address, 1), Some(&[71][..]));
        assert_eq!(servo.read(120, 9), None);
    }
}
