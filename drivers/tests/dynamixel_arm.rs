//! What an arm of Dynamixel servos has beside one of Feetech's: one answer of all, a bus watchdog,
//! errors that have to be asked for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use hilt_drivers::{
    Arm, ArmError, ArmState,
    bus::{Family, Protocol, Request, ServoArm, Wire, WireError, xseries as x},
    emulated::{BusHandle, MemoryWire},
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Fake};

const MS: u64 = 1_000_000;

struct Rig {
    clock: Fake,
    bus: BusHandle,
    arm: ServoArm<MemoryWire>,
}

impl Rig {
    fn new(prepare: impl FnOnce(&BusHandle)) -> Self {
        let clock = Fake::at(MS);
        let wire = MemoryWire::new(rig::bus(Family::DynamixelX), clock.clone());
        let bus = wire.handle();
        prepare(&bus);
        let arm = rig::arm(Family::DynamixelX, wire);
        Self { clock, bus, arm }
    }

    fn running() -> Self {
        let mut rig = Self::new(|_| ());
        rig.arm.start().unwrap();
        rig
    }

    /// A tick of 10 ms.
    fn tick(&mut self) -> ArmState {
        let now_ns = self.clock.now_ns();
        let state = self.arm.read_state(now_ns, now_ns + 8 * MS).unwrap();
        self.clock.set_ns(now_ns + 10 * MS);
        state
    }

    fn go(&mut self, radians: f64) {
        let mut target = self.arm.chain().zeros();
        target.as_mut_slice().fill(radians);
        self.arm.write(&target, GripperCommand::Open).unwrap();
    }

    fn peek(&self, id: u8, register: hilt_drivers::bus::Register) -> i32 {
        self.bus.look(|bus| bus.peek(id, register)).unwrap()
    }

    /// How often each kind of question was asked: fast or not.
    fn questions(&self) -> (usize, usize) {
        let count = |is: fn(&Request<'_>) -> bool| {
            let asks = |heard: &&hilt_drivers::emulated::Heard| {
                let mut room = [0; 80];
                let said = heard.said(Protocol::Dynamixel, &mut room);
                said.is_some_and(|request| is(&request))
            };
            self.bus.look(|bus| bus.heard().filter(asks).count())
        };
        (
            count(|request| matches!(request, Request::FastSyncRead { .. })),
            count(|request| matches!(request, Request::SyncRead { .. })),
        )
    }
}

#[test]
fn servos_that_know_it_answer_together() {
    let mut rig = Rig::running();
    for _ in 0..10 {
        assert_eq!(rig.tick().trouble, None);
    }
    // One was to see whether they know it.
    assert_eq!(rig.questions(), (11, 0));

    let mut old = Rig::new(|bus| bus.look(|bus| bus.poke(5, x::FIRMWARE, 44)));
    old.arm.start().unwrap();
    for _ in 0..10 {
        assert_eq!(old.tick().trouble, None);
    }
    assert_eq!(old.questions(), (3, 10));
}

/// A position with four bytes, below zero and with a header's bytes among them.
#[test]
fn positions_are_read_as_they_are_written() {
    let mut rig = Rig::running();
    for counts in [-3.0, 2048.0, 4095.0] {
        rig.bus.look(|bus| {
            bus.set_driven(true);
            bus.drive(2, counts, -900.0);
        });
        // As far as it could have come meanwhile.
        rig.clock.advance_ns(1000 * MS);
        let state = rig.tick();
        assert_eq!(state.trouble, None);
        let radians = (counts - 2048.0) * std::f64::consts::TAU / 4096.0;
        assert!((state.joints.as_slice()[1] - radians).abs() < 1e-9);
        let speed = -900.0 * std::f64::consts::TAU / 4096.0;
        assert!((state.velocities.as_slice()[1] - speed).abs() < 0.02);
    }
}

#[test]
fn it_moves_only_what_is_told_and_wears_nothing_twice() {
    let mut rig = Rig::running();
    let held: Vec<_> = rig.bus.look(|bus| bus.servos().collect());
    for servo in held {
        assert!(servo.torque);
        assert_eq!((servo.counts, servo.goal_counts), (2048.0, 2048.0));
        assert_eq!(rig.peek(servo.id, x::RETURN_DELAY), 0);
    }
    assert_eq!(rig.peek(6, x::GOAL_PWM), x::WHOLE_PWM / 2);
    assert_eq!(rig.peek(5, x::GOAL_PWM), x::WHOLE_PWM);
    // Started by another process, while it holds: nothing that is kept is written again.
    rig.tick();
    let before = rig.bus.look(|bus| bus.heard().count());
    let clock = rig.clock.clone();
    let wire = rig.bus.wire();
    let mut second = rig::arm(Family::DynamixelX, wire);
    second.start().unwrap();
    let kept = |heard: &&hilt_drivers::emulated::Heard| {
        let mut room = [0; 80];
        let said = heard.said(Protocol::Dynamixel, &mut room);
        matches!(said, Some(Request::Write { address, .. }) if address < 64)
    };
    let written = rig
        .bus
        .look(|bus| bus.heard().skip(before).filter(kept).count());
    assert_eq!(written, 0);
    let now_ns = clock.now_ns();
    assert!(second.read_state(now_ns, now_ns + 8 * MS).is_ok());
}

/// The process is gone in mid-motion: the servos stand within 120 ms and hold. The next one starts
/// them without a jump.
#[test]
fn when_nobody_speaks_the_servos_stand() {
    let mut rig = Rig::running();
    assert_eq!(rig.peek(1, x::BUS_WATCHDOG), 0, "before the first target");
    // Slow enough to be on its way for 200 ms.
    rig.bus.look(|bus| bus.poke(1, x::PROFILE_VELOCITY, 200));
    rig.go(1.0);
    for _ in 0..3 {
        assert_eq!(rig.tick().trouble, None);
    }
    assert_eq!(rig.peek(1, x::BUS_WATCHDOG), 5);
    let silent_ns = rig.clock.now_ns();
    let at = |rig: &Rig| rig.bus.look(|bus| bus.servo(1).unwrap().counts);
    rig.clock.set_ns(silent_ns + 60 * MS);
    let moving = at(&rig);
    rig.clock.set_ns(silent_ns + 120 * MS);
    let stands = at(&rig);
    assert!(stands > moving && stands < 2500.0, "{moving}, {stands}");
    rig.clock.advance_ns(10_000 * MS);
    assert_eq!(at(&rig), stands);
    assert!(rig.bus.look(|bus| bus.servos().all(|servo| servo.torque)));
    assert_eq!(rig.peek(1, x::BUS_WATCHDOG), x::WATCHDOG_TRIPPED);

    let mut next = rig::arm(Family::DynamixelX, rig.bus.wire());
    next.start().unwrap();
    rig.clock.advance_ns(1_000 * MS);
    let moved = (at(&rig) - stands).abs();
    assert!(moved < 10.0, "{moved} counts on the way to its old goal");
    let now_ns = rig.clock.now_ns();
    let state = next.read_state(now_ns, now_ns + 8 * MS).unwrap();
    assert_eq!(state.trouble, None);
    next.write(&state.joints, GripperCommand::Open).unwrap();
    assert!(!rig.bus.look(|bus| bus.went_limp()));
}

/// The same process was held up: it says so, and goes on when it is started again.
#[test]
fn an_arm_that_was_silent_knows_that_it_stands() {
    let mut rig = Rig::running();
    rig.go(1.0);
    rig.tick();
    rig.clock.advance_ns(150 * MS);
    let expected = ArmError::Servo {
        id: 1,
        bits: x::hardware::SILENCE,
    };
    for _ in 0..100 {
        assert_eq!(rig.tick().trouble, Some(expected));
    }
    rig.arm.stop().unwrap();
    rig.arm.start().unwrap();
    rig.go(0.5);
    for _ in 0..200 {
        assert_eq!(rig.tick().trouble, None);
    }
    let state = rig.tick();
    assert!((state.joints.as_slice()[0] - 0.5).abs() < 0.001);
}

#[test]
fn a_hardware_error_is_read_and_named() {
    let mut rig = Rig::running();
    assert_eq!(rig.tick().trouble, None);
    let overload = x::hardware::OVERLOAD;
    let bus = rig.bus.clone();
    bus.look(|bus| bus.poke(3, x::HARDWARE_ERROR, overload.into()));
    // Every reply says that there is one; which, is asked in the same tick.
    let named = |bits| Some(ArmError::Servo { id: 3, bits });
    assert_eq!(rig.tick().trouble, named(x::hardware::UNREAD));
    assert_eq!(rig.tick().trouble, named(overload));
    assert_eq!(rig.arm.health(3).unwrap().errors, overload);
    rig.arm.stop().unwrap();
    assert_eq!(
        rig.arm.start(),
        Err(ArmError::Servo {
            id: 3,
            bits: overload
        })
    );
    bus.look(|bus| bus.poke(3, x::HARDWARE_ERROR, 0));
    rig.arm.start().unwrap();
    assert_eq!(rig.tick().trouble, None);
}

#[test]
fn how_the_servos_are_is_learnt_beside_the_ticks() {
    let mut rig = Rig::running();
    for id in 1..=6 {
        rig.bus
            .look(|bus| bus.poke(id, x::PRESENT_TEMPERATURE, 30 + i32::from(id)));
    }
    assert_eq!(rig.arm.healths().count(), 0);
    for _ in 0..32 * 3 * 6 {
        assert_eq!(rig.tick().trouble, None);
    }
    let healths: Vec<_> = rig.arm.healths().collect();
    assert_eq!(healths.len(), 6);
    for (id, health) in (1..).zip(healths) {
        assert_eq!((health.id, health.errors), (id, 0));
        assert_eq!(health.temperature_c, 30.0 + f64::from(id));
        assert_eq!(health.supply_v, 5.0);
    }
}

/// A line that holds back the first answer to a question, and lets it go when another was asked.
struct Late(MemoryWire, Vec<u8>, bool);

impl Wire for Late {
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.0.write(bytes)
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        if !self.1.is_empty() {
            let late = std::mem::take(&mut self.1);
            buffer[..late.len()].copy_from_slice(&late);
            return Ok(late.len());
        }
        let count = self.0.read(buffer, until_ns)?;
        if count > 0 && !self.2 {
            self.2 = true;
            self.1 = buffer[..count].to_vec();
            // Nothing within its time.
            return self.0.read(buffer, until_ns);
        }
        Ok(count)
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.0.drain()
    }
}

/// What comes after its time is not taken for the answer to what was asked next.
#[test]
fn a_late_answer_does_not_spoil_the_start() {
    for family in [Family::Sts3215, Family::DynamixelX] {
        let clock = Fake::at(MS);
        let wire = MemoryWire::new(rig::bus(family), clock);
        let bus = wire.handle();
        let mut arm = rig::arm(family, Late(wire, Vec::new(), false));
        arm.start().unwrap();
        let standing = |bus: &mut hilt_drivers::emulated::EmulatedBus| {
            let mut servos = bus.servos();
            servos.all(|servo| servo.torque && servo.goal_counts == 2048.0)
        };
        assert!(bus.look(standing));
    }
}
