//! One servo: its registers and where it is.
//!
//! Addresses, factory values and units: Feetech's memory table of the STS series. The motion is
//! kinematic: the joint follows its goal at a bounded speed and acceleration, and nothing pushes it.

/// Encoder steps of a full turn.
pub const TICKS_PER_TURN: f64 = 4096.0;

/// Steps per second of an STS3215 at 7.4 V without load: 45 rpm.
pub const TOP_TICKS_PER_S: f64 = 45.0 / 60.0 * TICKS_PER_TURN;

/// How fast a joint without torque sinks.
const SAG_TICKS_PER_S: f64 = 400.0;

/// A joint so near to its rest has nothing to fall.
const AT_REST_TICKS: f64 = 10.0;

/// The motion is integrated in steps of this length at most.
const STEP_NS: u64 = 1_000_000;

/// Registers there are.
pub(super) const SIZE: usize = 128;

/// Registers below this one keep their values without power.
const STORED: usize = 40;

/// Addresses; `W` in a name: two bytes, the low one first.
pub(super) mod register {
    pub const MODEL_W: usize = 3;
    pub const ID: usize = 5;
    pub const RETURN_DELAY: usize = 7;
    pub const RESPONSE_LEVEL: usize = 8;
    pub const LEAST_ANGLE_W: usize = 9;
    pub const GREATEST_ANGLE_W: usize = 11;
    pub const OFFSET_W: usize = 31;
    pub const TORQUE: usize = 40;
    pub const ACCELERATION: usize = 41;
    pub const GOAL_W: usize = 42;
    pub const GOAL_SPEED_W: usize = 46;
    pub const TORQUE_LIMIT_W: usize = 48;
    pub const LOCK: usize = 55;
    pub const POSITION_W: usize = 56;
    pub const SPEED_W: usize = 58;
    pub const VOLTAGE: usize = 62;
    pub const TEMPERATURE: usize = 63;
    pub const STATUS: usize = 65;
    pub const MOVING: usize = 66;
    /// From here to the end of feedback hosts do not write.
    pub const FEEDBACK: std::ops::Range<usize> = POSITION_W..71;
}
use register as r;

/// What a servo has in its registers when it leaves the factory; what is not here is 0.
const FACTORY: [(usize, u8); 28] = [
    (0, 3),
    (1, 10),
    (r::MODEL_W, 9),
    (r::MODEL_W + 1, 3),
    // 500 µs, in units of 2 µs.
    (r::RETURN_DELAY, 250),
    (r::RESPONSE_LEVEL, 1),
    (r::GREATEST_ANGLE_W, 0xFF),
    (r::GREATEST_ANGLE_W + 1, 0x0F),
    // Greatest temperature, highest and lowest voltage, greatest torque.
    (13, 70),
    (14, 80),
    (15, 40),
    (16, 0xE8),
    (17, 0x03),
    // Phase: speeds in steps per second, 0 is the top speed, positions within one turn.
    (18, 12),
    // What unloads it and what lights its lamp.
    (19, 44),
    (20, 47),
    // Gains of the position loop, least starting force, dead bands.
    (21, 32),
    (22, 32),
    (24, 16),
    (26, 1),
    (27, 1),
    // Angular resolution; torque, time and load of the overload protection.
    (30, 1),
    (34, 20),
    (35, 200),
    (36, 80),
    (r::LOCK, 1),
    (r::VOLTAGE, 74),
    (r::TEMPERATURE, 28),
];

/// A servo before it is switched on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServoSetup {
    /// Its id.
    pub id: u8,
    /// Where it stands, encoder steps. It stays there until its torque was on for the first time, as
    /// if somebody held it.
    pub ticks: f64,
    /// Where it sinks to without torque, encoder steps.
    pub rest_ticks: f64,
}

/// A servo as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServoView {
    /// Its id.
    pub id: u8,
    /// Where it stands, encoder steps as it reports them.
    pub ticks: f64,
    /// Steps per second.
    pub ticks_per_s: f64,
    /// Where it was sent last.
    pub goal_ticks: f64,
    /// Whether its motor holds it.
    pub torque: bool,
    /// Whether its torque went off where it had something to fall.
    pub went_limp: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Servo {
    registers: [u8; SIZE],
    stored: [u8; STORED],
    /// The encoder's own steps: positions and goals are less the offset.
    encoder: f64,
    velocity: f64,
    rest: f64,
    now_ns: u64,
    was_on: bool,
    went_limp: bool,
}

/// Sign and magnitude, the sign in bit `sign`: how these servos say negative numbers.
fn signed(word: u16, sign: u32) -> f64 {
    let magnitude = f64::from(word & ((1 << sign) - 1));
    if word >> sign & 1 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// The reverse of [`signed`], rounded.
fn sign_magnitude(value: f64, sign: u32) -> u16 {
    let most = (1u16 << sign) - 1;
    let magnitude = (value.abs().round() as u16).min(most);
    magnitude | u16::from(value < 0.0 && magnitude > 0) << sign
}

impl Servo {
    pub fn new(setup: ServoSetup) -> Self {
        let mut registers = [0; SIZE];
        for (address, value) in FACTORY {
            registers[address] = value;
        }
        registers[r::ID] = setup.id;
        let mut stored = [0; STORED];
        stored.copy_from_slice(&registers[..STORED]);
        let mut servo = Self {
            registers,
            stored,
            encoder: setup.ticks,
            velocity: 0.0,
            rest: setup.rest_ticks,
            now_ns: 0,
            was_on: false,
            went_limp: false,
        };
        servo.switch_on();
        servo
    }

    /// Power was away and is back: what is not stored is as it left the factory.
    pub fn power_cycle(&mut self) {
        self.registers = [0; SIZE];
        for (address, value) in FACTORY {
            self.registers[address] = value;
        }
        self.registers[..STORED].copy_from_slice(&self.stored);
        self.switch_on();
        self.note_limp();
    }

    fn switch_on(&mut self) {
        let torque_limit = self.word(16);
        self.set_word(r::TORQUE_LIMIT_W, torque_limit);
        self.feed_back();
        let here = self.word(r::POSITION_W);
        self.set_word(r::GOAL_W, here);
    }

    pub fn id(&self) -> u8 {
        self.registers[r::ID]
    }

    /// Between a request's end and the begin of the answer.
    pub fn return_delay_ns(&self) -> u64 {
        u64::from(self.registers[r::RETURN_DELAY]) * 2_000
    }

    /// Whether it answers to more than pings and reads.
    pub fn answers_writes(&self) -> bool {
        self.registers[r::RESPONSE_LEVEL] != 0
    }

    /// What every status of it carries.
    pub fn error_bits(&self) -> u8 {
        self.registers[r::STATUS]
    }

    pub fn view(&self) -> ServoView {
        ServoView {
            id: self.id(),
            ticks: self.encoder - self.offset(),
            ticks_per_s: self.velocity,
            goal_ticks: signed(self.word(r::GOAL_W), 15),
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
        for (place, value) in (usize::from(address)..SIZE).zip(data) {
            if place < r::ID || r::FEEDBACK.contains(&place) {
                continue;
            }
            self.registers[place] = *value;
            if place < STORED && self.registers[r::LOCK] == 0 {
                self.stored[place] = *value;
            }
        }
        if self.registers[r::TORQUE] == 128 {
            // "Here is the middle": it finds its offset and lets go.
            let offset = sign_magnitude(self.encoder - TICKS_PER_TURN / 2.0, 11);
            self.set_word(r::OFFSET_W, offset);
            self.registers[r::TORQUE] = 0;
        }
        self.was_on |= self.is_on();
        self.note_limp();
        self.feed_back();
    }

    /// Sets registers that no host can write: temperature, status, ….
    pub fn poke(&mut self, address: u8, data: &[u8]) {
        for (place, value) in (usize::from(address)..SIZE).zip(data) {
            self.registers[place] = *value;
        }
    }

    /// Somebody puts the joint there.
    pub fn put(&mut self, ticks: f64) {
        self.encoder = ticks + self.offset();
        self.velocity = 0.0;
        self.feed_back();
    }

    /// Lets time pass until `now_ns`; times before the one it has reached change nothing.
    pub fn advance(&mut self, now_ns: u64) {
        while self.now_ns < now_ns {
            let step_ns = (now_ns - self.now_ns).min(STEP_NS);
            let before = (self.encoder, self.velocity);
            self.step(step_ns as f64 * 1e-9);
            self.now_ns += step_ns;
            // It stands, so it goes on standing.
            if before == (self.encoder, self.velocity) && self.velocity == 0.0 {
                self.now_ns = now_ns;
            }
        }
        self.feed_back();
    }

    fn step(&mut self, dt_s: f64) {
        let (goal, top, acceleration) = if self.is_on() {
            let unit = 100.0;
            let acceleration = f64::from(self.registers[r::ACCELERATION]) * unit;
            (self.goal(), self.top_speed(), acceleration)
        } else if self.was_on {
            (self.rest, SAG_TICKS_PER_S, 0.0)
        } else {
            (self.encoder, 0.0, 0.0)
        };
        let error = goal - self.encoder;
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
        self.encoder = if arrives { goal } else { self.encoder + moved };
        self.velocity = if arrives { error / dt_s } else { velocity };
    }

    /// The torque is on, and not limited to nothing.
    fn is_on(&self) -> bool {
        self.registers[r::TORQUE] == 1 && self.word(r::TORQUE_LIMIT_W) > 0
    }

    /// The goal in the encoder's steps, within the angle limits where there are any.
    fn goal(&self) -> f64 {
        let limits = (self.word(r::LEAST_ANGLE_W), self.word(r::GREATEST_ANGLE_W));
        let goal = signed(self.word(r::GOAL_W), 15);
        let (least, greatest) = (f64::from(limits.0), f64::from(limits.1));
        let within = if least < greatest {
            goal.clamp(least, greatest)
        } else {
            goal
        };
        within + self.offset()
    }

    fn top_speed(&self) -> f64 {
        match signed(self.word(r::GOAL_SPEED_W), 15).abs() {
            0.0 => TOP_TICKS_PER_S,
            speed => speed.min(TOP_TICKS_PER_S),
        }
    }

    fn offset(&self) -> f64 {
        signed(self.word(r::OFFSET_W), 11)
    }

    fn note_limp(&mut self) {
        let falls = (self.encoder - self.rest).abs() > AT_REST_TICKS;
        self.went_limp |= self.was_on && !self.is_on() && falls;
    }

    fn feed_back(&mut self) {
        let position = sign_magnitude(self.encoder - self.offset(), 15);
        let speed = sign_magnitude(self.velocity, 15);
        self.set_word(r::POSITION_W, position);
        self.set_word(r::SPEED_W, speed);
        self.registers[r::MOVING] = u8::from(self.velocity != 0.0);
    }

    fn word(&self, address: usize) -> u16 {
        u16::from_le_bytes([self.registers[address], self.registers[address + 1]])
    }

    fn set_word(&mut self, address: usize, word: u16) {
        self.registers[address..address + 2].copy_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn servo(ticks: f64, rest_ticks: f64) -> Servo {
        Servo::new(ServoSetup {
            id: 1,
            ticks,
            rest_ticks,
        })
    }

    fn on(ticks: f64, rest_ticks: f64) -> Servo {
        let mut servo = servo(ticks, rest_ticks);
        servo.write(r::TORQUE as u8, &[1]);
        servo
    }

    fn send(servo: &mut Servo, goal: u16) {
        servo.write(r::GOAL_W as u8, &goal.to_le_bytes());
    }

    #[test]
    fn numbers_have_a_sign_and_a_magnitude() {
        for value in [-2047.0, -1.0, 0.0, 1.0, 2047.0] {
            assert_eq!(signed(sign_magnitude(value, 11), 11), value);
            assert_eq!(signed(sign_magnitude(value, 15), 15), value);
        }
        assert_eq!(sign_magnitude(-3.0, 11), 0x803);
    }

    #[test]
    fn it_goes_to_its_goal_at_its_speed_and_stays() {
        let mut servo = on(1000.0, 1000.0);
        send(&mut servo, 2000);
        servo.advance(100 * MS);
        assert!((servo.view().ticks - 1307.2).abs() < 0.1, "top speed");
        assert_eq!(servo.registers[r::MOVING], 1);
        assert_eq!(servo.word(r::SPEED_W), 3072);
        servo.write(r::GOAL_SPEED_W as u8, &100u16.to_le_bytes());
        servo.advance(200 * MS);
        assert!((servo.view().ticks - 1317.2).abs() < 0.1, "its own speed");
        servo.advance(20_000 * MS);
        assert_eq!(servo.word(r::POSITION_W), 2000);
        assert_eq!(
            (servo.view().ticks_per_s, servo.registers[r::MOVING]),
            (0.0, 0)
        );
    }

    #[test]
    fn an_acceleration_bounds_the_change_of_speed_both_ways() {
        let mut servo = on(1000.0, 1000.0);
        servo.write(r::ACCELERATION as u8, &[50]);
        send(&mut servo, 2000);
        let (mut last, mut fastest) = (0.0f64, 0.0f64);
        for i in 1..1500 {
            servo.advance(i * MS);
            let speed = servo.view().ticks_per_s;
            // 5000 steps/s² are 5 a millisecond; the last step ends at the goal.
            assert!((speed - last).abs() < 10.0, "{last} then {speed}");
            fastest = fastest.max(speed);
            last = speed;
        }
        assert!(fastest > 2000.0, "{fastest}");
        assert_eq!(servo.word(r::POSITION_W), 2000);
    }

    #[test]
    fn a_goal_beyond_the_angle_limits_stops_at_them() {
        let mut servo = on(2000.0, 2000.0);
        servo.write(r::GREATEST_ANGLE_W as u8, &2100u16.to_le_bytes());
        send(&mut servo, 3000);
        servo.advance(1000 * MS);
        assert_eq!(servo.word(r::POSITION_W), 2100);
    }

    #[test]
    fn without_torque_it_sinks_and_that_is_noted() {
        let mut servo = on(2000.0, 1000.0);
        servo.advance(1000 * MS);
        assert!(!servo.view().went_limp);
        servo.write(r::TORQUE as u8, &[0]);
        assert!(servo.view().went_limp, "though no time has passed");
        servo.advance(1500 * MS);
        assert!((servo.view().ticks - 1800.0).abs() < 1.0);
        servo.advance(60_000 * MS);
        assert_eq!(servo.word(r::POSITION_W), 1000);
    }

    #[test]
    fn torque_off_at_rest_is_not_limp_and_before_the_first_torque_it_stands() {
        let mut resting = on(1000.0, 1005.0);
        resting.write(r::TORQUE as u8, &[0]);
        assert!(!resting.view().went_limp);
        let mut new = servo(2000.0, 1000.0);
        new.advance(5000 * MS);
        assert_eq!((new.view().ticks, new.view().went_limp), (2000.0, false));
        let mut choked = on(2000.0, 1000.0);
        choked.write(r::TORQUE_LIMIT_W as u8, &[0, 0]);
        assert!(choked.view().went_limp, "a torque limit of nothing");
    }

    #[test]
    fn stored_registers_outlive_the_power_when_unlocked() {
        let mut servo = on(2000.0, 1000.0);
        servo.write(r::RETURN_DELAY as u8, &[7]);
        servo.write(r::LOCK as u8, &[0]);
        servo.write(r::ID as u8, &[9]);
        assert_eq!((servo.id(), servo.registers[r::RETURN_DELAY]), (9, 7));
        servo.power_cycle();
        assert_eq!((servo.id(), servo.registers[r::RETURN_DELAY]), (9, 250));
        assert!(!servo.view().torque && servo.view().went_limp);
    }

    #[test]
    fn the_middle_is_where_it_is_told_to_be() {
        let mut servo = servo(900.0, 900.0);
        servo.write(r::TORQUE as u8, &[128]);
        assert_eq!(servo.word(r::POSITION_W), 2048);
        assert_eq!(signed(servo.word(r::OFFSET_W), 11), -1148.0);
        servo.write(r::TORQUE as u8, &[1]);
        send(&mut servo, 2148);
        servo.advance(1000 * MS);
        assert_eq!((servo.word(r::POSITION_W), servo.encoder), (2148, 1000.0));
    }

    #[test]
    fn feedback_is_not_written_by_hosts() {
        let mut servo = servo(1000.0, 1000.0);
        servo.write(r::TEMPERATURE as u8, &[99]);
        servo.write(0, &[9, 9, 9, 9, 9]);
        assert_eq!(servo.registers[r::TEMPERATURE], 28);
        assert_eq!(servo.word(r::MODEL_W), 777);
        servo.poke(r::TEMPERATURE as u8, &[71]);
        assert_eq!(servo.read(r::TEMPERATURE as u8, 1), Some(&[71][..]));
        assert_eq!(servo.read(120, 9), None);
    }
}
