//! An arm on a bus that is not there: in memory on a fake clock, through the fault decorator, and
//! behind a pseudo-terminal in real time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use std::time::Duration;

use hilt_drivers::{
    Arm, ArmError, ArmState, Camera,
    bus::{Family, SerialWire, ServoArm, Wire, WireError, sts3215::STATUS, xseries},
    conformance,
    emulated::{BusHandle, EmulatedBus, EmulatedCamera, MemoryWire, PtyBus},
    faults::{ERROR_BITS, FaultKind, FaultPlan, FaultSpec, FaultyWire},
};
use hilt_protocol::{CameraSpec, GripperCommand};
use hilt_realtime::{Clock, Fake, Monotonic};

const MS: u64 = 1_000_000;

const FAMILIES: [Family; 2] = [Family::Sts3215, Family::DynamixelX];

fn bus() -> EmulatedBus {
    rig::bus(Family::Sts3215)
}

fn arm<W: Wire>(wire: W) -> ServoArm<W> {
    rig::arm(Family::Sts3215, wire)
}

fn passing<C: Clock>(clock: C) -> impl FnMut(u64) -> u64 {
    move |duration_ns| {
        clock.sleep_until_ns(clock.now_ns() + duration_ns);
        clock.now_ns()
    }
}

/// Does it until it goes well: on a machine that is busy the other end answers late now and then.
fn patiently<T>(mut act: impl FnMut() -> Result<T, ArmError>) -> T {
    let mut tried = 1;
    loop {
        match act() {
            Ok(done) => return done,
            Err(error) => assert!(tried < 50, "{error}"),
        }
        tried += 1;
    }
}

#[test]
fn an_arm_on_a_bus_in_memory_conforms() {
    for family in FAMILIES {
        for old_firmware in [false, true] {
            let clock = Fake::at(MS);
            let wire = MemoryWire::new(rig::bus(family), clock.clone());
            let bus = wire.handle();
            if old_firmware && family == Family::DynamixelX {
                // It knows no fast sync read.
                bus.look(|bus| bus.poke(4, xseries::FIRMWARE, 45));
            }
            let mut arm = rig::arm(family, wire);
            conformance::arm(&mut arm, passing(clock)).unwrap();
            assert!(!bus.look(|bus| bus.went_limp()));
        }
    }
}

#[test]
fn an_arm_whose_adapter_echoes_conforms() {
    for family in FAMILIES {
        let clock = Fake::at(MS);
        let wire = MemoryWire::new(rig::bus(family), clock.clone());
        wire.handle().look(|bus| bus.set_echo(true));
        conformance::arm(&mut rig::arm(family, wire), passing(clock)).unwrap();
    }
}

#[test]
fn the_fault_decorator_without_faults_changes_nothing() {
    let clock = Fake::at(MS);
    let wire = MemoryWire::new(bus(), clock.clone());
    let wire = FaultyWire::new(wire, FaultPlan::default(), 0, 0);
    conformance::arm(&mut arm(wire), passing(clock)).unwrap();
}

/// A line on which every write takes longer than the replies to it.
struct Interrupted(MemoryWire, Fake);

impl Wire for Interrupted {
    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.0.write(bytes)?;
        self.1.advance_ns(5 * MS);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        self.0.read(buffer, until_ns)
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.0.drain()
    }
}

#[test]
fn replies_that_were_there_when_the_write_returned_are_believed() {
    let clock = Fake::at(MS);
    let wire = MemoryWire::new(bus(), clock.clone());
    let mut arm = arm(Interrupted(wire, clock.clone()));
    arm.start().unwrap();
    let now_ns = clock.now_ns();
    let state = arm.read_state(now_ns, now_ns + 6 * MS).unwrap();
    assert_eq!(state.trouble, None);
    assert_eq!(clock.now_ns(), now_ns + 5 * MS, "it was asked once");
}

#[test]
fn an_arm_behind_a_pseudo_terminal_conforms() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let pty = PtyBus::start(rig::bus(family), &folder.path().join("bus")).unwrap();
        let wire = SerialWire::open(pty.path().to_str().unwrap(), 1_000_000).unwrap();
        conformance::arm(&mut rig::arm(family, wire), passing(Monotonic)).unwrap();
        assert!(!pty.handle().look(|bus| bus.went_limp()));
    }
}

#[test]
fn a_camera_of_an_emulated_arm_conforms_and_shows_what_moves() {
    let clock = Fake::at(MS);
    let bus = MemoryWire::new(bus(), clock.clone()).handle();
    let spec = CameraSpec {
        name: "front".into(),
        height: 32,
        width: 24,
    };
    let mut camera = EmulatedCamera::new(vec![bus.clone()], spec);
    conformance::camera(&mut camera, passing(clock)).unwrap();
    let before = camera.newest().unwrap();
    bus.look(|bus| bus.put(3, 3000.0));
    let after = camera.newest().unwrap();
    assert_ne!(before.rgb, after.rgb);
}

#[test]
fn a_pulled_adapter_leaves_the_arm_held_and_can_be_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut pty = PtyBus::start(bus(), &folder.path().join("bus")).unwrap();
    let open = |pty: &PtyBus| SerialWire::open(pty.path().to_str().unwrap(), 1_000_000).unwrap();
    let mut first = arm(open(&pty));
    patiently(|| first.start());
    let mut target = first.chain().zeros();
    target.as_mut_slice()[0] = 0.1;
    first.write(&target, GripperCommand::Open).unwrap();
    // What was written is through when something that was asked after it is answered.
    patiently(|| {
        let now_ns = Monotonic.now_ns();
        let state = first.read_state(now_ns, now_ns + 20 * MS)?;
        let old = state.captured_ns < now_ns;
        state.trouble.filter(|_| old).map_or(Ok(()), Err)
    });
    pty.unplug();
    assert_eq!(first.read_state(0, 0), Err(ArmError::Unplugged));
    assert_eq!(first.stop(), Err(ArmError::Unplugged));
    let held = pty.handle().look(|bus| bus.servo(1)).unwrap();
    assert!(held.torque && held.goal_counts > 2048.0);
    pty.replug().unwrap();
    let mut second = arm(open(&pty));
    patiently(|| second.start());
    assert!(!pty.handle().look(|bus| bus.went_limp()));
}

/// A started arm on a wire with one fault from 1.0 s to 1.1 s after the origin, which is now.
fn faulty(
    family: Family,
    kind: FaultKind,
    servo: Option<u8>,
) -> (Fake, BusHandle, ServoArm<impl Wire>) {
    let clock = Fake::at(MS);
    let wire = MemoryWire::new(rig::bus(family), clock.clone());
    let bus = wire.handle();
    let fault = FaultSpec {
        kind,
        from_s: 1.0,
        for_s: 0.1,
        index: 0,
        servo,
        magnitude: None,
    };
    let plan = FaultPlan {
        seed: 3,
        faults: vec![fault],
    };
    let wire = FaultyWire::new(wire, plan, 0, clock.now_ns());
    let mut arm = rig::arm(family, wire);
    arm.start().unwrap();
    (clock, bus, arm)
}

fn read<W: Wire>(clock: &Fake, arm: &mut ServoArm<W>) -> Result<ArmState, ArmError> {
    let now_ns = clock.now_ns();
    arm.read_state(now_ns, now_ns + 2 * MS)
}

#[test]
fn each_fault_of_the_wire_is_named_by_the_arm_and_passes() {
    for family in FAMILIES {
        let bits = match family {
            Family::Sts3215 => ERROR_BITS,
            Family::DynamixelX => xseries::hardware::UNREAD,
        };
        let error = ArmError::Servo { id: 3, bits };
        let wrong = |e| matches!(e, Some(ArmError::WrongId { .. }));
        let is = |expected| move |e| e == Some(expected);
        type Names<'a> = &'a dyn Fn(Option<ArmError>) -> bool;
        let cases: [(FaultKind, Names); 4] = [
            (FaultKind::ServoSilent, &is(ArmError::Silent(3))),
            (FaultKind::ReplyCorrupted, &is(ArmError::Corrupted(3))),
            (FaultKind::WrongId, &wrong),
            (FaultKind::ErrorByte, &is(error)),
        ];
        for (kind, names) in cases {
            let (clock, bus, mut arm) = faulty(family, kind, Some(3));
            assert_eq!(read(&clock, &mut arm).unwrap().trouble, None);
            clock.set_ns(1001 * MS);
            let trouble = read(&clock, &mut arm).unwrap().trouble;
            assert!(
                names(trouble),
                "{family:?}, {kind:?} was called {trouble:?}"
            );
            clock.set_ns(1200 * MS);
            assert_eq!(read(&clock, &mut arm).unwrap().trouble, None);
            assert!(!bus.look(|bus| bus.went_limp()));
        }
    }
}

#[test]
fn a_pulled_bus_is_named_and_the_servos_hold() {
    let (clock, bus, mut arm) = faulty(Family::Sts3215, FaultKind::BusUnplugged, None);
    clock.set_ns(1001 * MS);
    assert_eq!(read(&clock, &mut arm), Err(ArmError::Unplugged));
    assert_eq!(arm.stop(), Err(ArmError::Unplugged));
    assert!(bus.look(|bus| bus.servos().all(|servo| servo.torque)));
    clock.set_ns(1200 * MS);
    assert_eq!(read(&clock, &mut arm).unwrap().trouble, None);
}

#[test]
fn a_servos_own_error_reaches_the_arm() {
    let (clock, bus, mut arm) = faulty(Family::Sts3215, FaultKind::CameraGone, None);
    bus.look(|bus| bus.poke(2, STATUS, 0b100));
    let expected = ArmError::Servo { id: 2, bits: 0b100 };
    assert_eq!(read(&clock, &mut arm).unwrap().trouble, Some(expected));
}

/// Half an hour of random faults at 100 Hz.
#[test]
fn under_random_faults_no_value_lands_on_a_wrong_joint() {
    FAMILIES.into_iter().for_each(under_random_faults);
}

fn under_random_faults(family: Family) {
    let duration = Duration::from_secs(1800);
    let clock = Fake::at(MS);
    let wire = MemoryWire::new(rig::bus(family), clock.clone());
    let bus = wire.handle();
    let plan = FaultPlan::random(8, duration, 1, 0);
    let wire = FaultyWire::new(wire, plan, 0, clock.now_ns());
    let mut arm = rig::arm(family, wire);
    arm.start().unwrap();
    let mut target = arm.chain().zeros();
    for (i, q) in target.as_mut_slice().iter_mut().enumerate() {
        *q = 0.2 * (i as f64 - 2.0);
    }
    arm.write(&target, GripperCommand::Open).unwrap();
    clock.advance_ns(1000 * MS);
    let (mut good, mut troubled, mut refused) = (0, 0, 0);
    let (mut of_another, mut spoilt) = (0, 0);
    while clock.now_ns() < duration.as_nanos() as u64 {
        match read(&clock, &mut arm) {
            Ok(state) => {
                troubled += u32::from(state.trouble.is_some());
                good += u32::from(state.trouble.is_none());
                for (is, wanted) in state.joints.as_slice().iter().zip(target.as_slice()) {
                    let is_at = |q: &f64| (is - q).abs() < 0.01;
                    if !is_at(wanted) {
                        of_another += u32::from(target.as_slice().iter().any(is_at));
                        spoilt += 1;
                    }
                }
            }
            Err(_) => refused += 1,
        }
        // Servos that watch the bus stand after it was pulled, until somebody starts them.
        if bus.look(|bus| bus.peek(1, xseries::BUS_WATCHDOG)) == Some(xseries::WATCHDOG_TRIPPED)
            && family == Family::DynamixelX
        {
            let _ = arm.stop();
            if arm.start().is_ok() {
                arm.write(&target, GripperCommand::Open).unwrap();
                clock.advance_ns(500 * MS);
            }
        }
        clock.advance_ns(10 * MS);
    }
    assert!(good > 100_000, "{good}");
    assert!(troubled > 1000 && refused > 100, "{troubled}, {refused}");
    assert_eq!(of_another, 0);
    // Of replies with several wrong bytes the checksum lets 2⁻⁸ through, and of those the jump is
    // too small to be noticed in some.
    assert!(spoilt < troubled / 100, "{spoilt} of {troubled}");
    assert!(!bus.look(|bus| bus.went_limp()));
}
