//! Servo buses over a USB serial adapter.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hilt_drivers::{
    Arm, ArmError, ArmState,
    bus::{self, Family, SerialWire, ServoArm, SetUpError, Wire, WireError, sts3215},
    conformance,
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic};

use crate::{
    adapter::{self, BAUD, DEVICE, HOST, SECOND_NS, Servos, read_all},
    machine::{pass_ns, unload, wait_for},
};

/// Everything that a terminal in its usual mode would change, both ways.
pub fn bytes_unchanged() -> Result<String> {
    adapter::fresh()?;
    let mut device = SerialWire::open(DEVICE, BAUD)?;
    let mut host = SerialWire::open(HOST, BAUD)?;
    let all: Vec<u8> = (0..=255).collect();
    let rounds = 40;
    for _ in 0..rounds {
        host.write(&all)?;
        ensure!(read_all(&mut device, 256)? == all, "host to device");
        device.write(&all)?;
        ensure!(read_all(&mut host, 256)? == all, "device to host");
    }
    Ok(format!("{} bytes each way", rounds * all.len()))
}

/// A second program that opens the same adapter is refused, by name.
pub fn one_program() -> Result<String> {
    adapter::fresh()?;
    let first = SerialWire::open(HOST, BAUD)?;
    let second = SerialWire::open(HOST, BAUD);
    let Err(refusal) = second else {
        anyhow::bail!("the adapter was opened twice");
    };
    let refusal = refusal.to_string();
    ensure!(refusal.contains(HOST), "{refusal}");
    drop(first);
    SerialWire::open(HOST, BAUD)?;
    Ok("the second is refused".into())
}

/// An arm over the adapter passes the suite of every arm.
fn conforms(family: Family) -> Result<String> {
    adapter::fresh()?;
    let servos = Servos::start(family)?;
    let mut arm = adapter::arm(family)?;
    conformance::arm(&mut arm, pass_ns)?;
    ensure!(!servos.look(|bus| bus.went_limp()), "the arm went limp");
    let (heard, noise) = servos.look(|bus| (bus.heard().count(), bus.not_understood()));
    ensure!(noise == 0, "{noise} frames were not understood");
    Ok(format!("{heard} requests heard"))
}

/// As SO-101.
pub fn feetech_conforms() -> Result<String> {
    conforms(Family::Sts3215)
}

/// As Koch, ALOHA or ViperX.
pub fn dynamixel_conforms() -> Result<String> {
    conforms(Family::DynamixelX)
}

/// Asks until a state is whole: the emulated host controller is late now and then.
fn fresh_state(arm: &mut ServoArm<SerialWire>) -> Result<ArmState> {
    let mut last = ArmError::Device;
    for _ in 0..100 {
        let now_ns = Monotonic.now_ns();
        match arm.read_state(now_ns, now_ns + SECOND_NS) {
            Ok(state) if state.captured_ns >= now_ns => return Ok(state),
            Ok(state) => last = state.trouble.unwrap_or(last),
            Err(error) => last = error,
        }
    }
    Err(last).context("no fresh state in 100 tries")
}

/// Targets sent over the adapter are where the servos go, and what is read is where they are.
fn follows(family: Family) -> Result<String> {
    adapter::fresh()?;
    let servos = Servos::start(family)?;
    let mut arm = adapter::arm(family)?;
    arm.start()?;
    let home = fresh_state(&mut arm)?.joints;
    let ticks = 200;
    let mut round_trips_ns = Vec::new();
    let mut target = home;
    for tick in 0..ticks {
        target.as_mut_slice()[0] = home.as_slice()[0] + 0.001 * f64::from(tick);
        arm.write(&target, GripperCommand::Closed)?;
        let asked_ns = Monotonic.now_ns();
        let state = fresh_state(&mut arm)?;
        ensure!(
            state.captured_ns >= asked_ns,
            "a state older than its question"
        );
        round_trips_ns.push(Monotonic.now_ns() - asked_ns);
    }
    pass_ns(SECOND_NS);
    let state = fresh_state(&mut arm)?;
    let config = adapter::config(family);
    for (i, servo) in config.joints.iter().enumerate() {
        let (read, wanted) = (state.joints.as_slice()[i], target.as_slice()[i]);
        ensure!(
            (read - wanted).abs() < 0.01,
            "joint {i} reads {read}, not {wanted}"
        );
        let counts = servos.look(|bus| bus.servo(servo.id).map(|servo| servo.counts));
        let truth = servo.radians(counts.context("the servo is not there")?.round() as i32);
        ensure!(
            (truth - wanted).abs() < 0.01,
            "joint {i} is at {truth}, not {wanted}"
        );
    }
    ensure!(state.gripper_width_m < 0.005, "the gripper is not closed");
    round_trips_ns.sort_unstable();
    Ok(format!(
        "{ticks} ticks, round trip median {:.1} ms, highest {:.1} ms",
        round_trips_ns[round_trips_ns.len() / 2] as f64 * 1e-6,
        round_trips_ns[round_trips_ns.len() - 1] as f64 * 1e-6,
    ))
}

/// The list of ports has the adapter by the name that stays, and on it are the servos that are.
pub fn ports_and_servos() -> Result<String> {
    let mut said = String::new();
    for family in [Family::Sts3215, Family::DynamixelX] {
        adapter::fresh()?;
        let _servos = Servos::start(family)?;
        let ports = bus::ports()?;
        let listed = ports.iter().any(|port| port.path == Path::new(HOST));
        ensure!(listed, "the adapter is not among {ports:?}");
        let expected: Vec<u8> = adapter::config(family).ids().collect();
        // The emulated controller is late now and then; who was not heard is found the next time.
        let mut tries = 0;
        wait_for("not all servos are found", || {
            tries += 1;
            let found = found(family);
            found.map(|ids| (ids == expected).then_some(())).transpose()
        })??;
        said += &format!("{tries} tries for {family:?}; ");
    }
    Ok(said)
}

/// Ids of the servos at the adapter; an error if one is not of this family.
fn found(family: Family) -> Result<Vec<u8>> {
    let open = |baud| SerialWire::open(HOST, baud);
    let both = [Family::Sts3215, Family::DynamixelX];
    let found = bus::find(open, &both, &[BAUD], 1..=12)?;
    let alike = found.iter().all(|servo| {
        (servo.protocol, servo.shared) == (family.protocol(), false) && servo.name.is_some()
    });
    ensure!(alike, "{found:?}");
    Ok(found.iter().map(|servo| servo.id).collect())
}

/// One new servo gets its id over the adapter; of several none is touched.
pub fn servo_set_up() -> Result<String> {
    adapter::fresh()?;
    let open = |baud| SerialWire::open(HOST, baud);
    let to = bus::Settings { id: 6, baud: BAUD };
    let several = Servos::start(Family::Sts3215)?;
    let refused = bus::set_up(open, Family::Sts3215, &[BAUD], to);
    ensure!(
        matches!(refused, Err(SetUpError::Several(_))),
        "{refused:?}"
    );
    drop(several);
    let alone = Servos::start_with(Family::Sts3215, &[(1, 2048, 0)])?;
    let (before, after) = bus::set_up(open, Family::Sts3215, &[BAUD], to)?;
    ensure!((before.id, after.id) == (1, 6), "{before} is now {after}");
    ensure!(
        alone.look(|bus| bus.servo(6).is_some()),
        "there is no servo 6"
    );
    Ok(after.to_string())
}

/// As SO-101.
pub fn feetech_follows() -> Result<String> {
    follows(Family::Sts3215)
}

/// As Koch, ALOHA or ViperX.
pub fn dynamixel_follows() -> Result<String> {
    follows(Family::DynamixelX)
}

/// Pulled in mid-run, the plug is named; plugged in again, the adapter has its old name and the arm
/// stands where it was.
pub fn unplug_and_replug() -> Result<String> {
    adapter::fresh()?;
    let mut servos = Servos::start(Family::Sts3215)?;
    let mut arm = adapter::arm(Family::Sts3215)?;
    arm.start()?;
    let before = fresh_state(&mut arm)?;
    adapter::pull()?;
    let pulled = Instant::now();
    let error = wait_for("the arm does not notice", || {
        let now_ns = Monotonic.now_ns();
        let error = arm.read_state(now_ns, now_ns + 5_000_000).err();
        error.filter(|error| !matches!(error, ArmError::Silent(_)))
    })?;
    let noticed = pulled.elapsed();
    ensure!(error == ArmError::Unplugged, "the error is {error:?}");
    let refused = arm.write(&before.joints, GripperCommand::Open);
    ensure!(
        refused == Err(ArmError::Unplugged),
        "a write is answered by {refused:?}"
    );
    drop(arm);
    wait_for("its name stays", || {
        (!fs::exists(HOST).unwrap_or(true)).then_some(())
    })?;
    let missing = SerialWire::open(HOST, BAUD);
    ensure!(missing.is_err(), "what is not there was opened");
    let limp = servos.look(|bus| bus.went_limp());
    ensure!(!limp, "the arm went limp when the plug was pulled");

    servos.pulled();
    adapter::fresh()?;
    servos.connect()?;
    let mut arm = adapter::arm(Family::Sts3215)?;
    arm.start()?;
    let after = fresh_state(&mut arm)?;
    for (before, after) in before.joints.as_slice().iter().zip(after.joints.as_slice()) {
        ensure!(
            (before - after).abs() < 0.01,
            "a joint moved from {before} to {after}"
        );
    }
    let torque = servos.look(|bus| bus.peek(1, sts3215::TORQUE_ENABLE));
    ensure!(torque == Some(1), "torque is {torque:?}");
    Ok(format!(
        "noticed after {:.1} ms",
        noticed.as_secs_f64() * 1e3
    ))
}

/// The whole device gone, as when a hub loses its power, while a read waits.
pub fn device_removed() -> Result<String> {
    adapter::fresh()?;
    let mut host = SerialWire::open(HOST, BAUD)?;
    let waiting =
        thread::spawn(move || host.read(&mut [0; 8], Monotonic.now_ns() + 30 * SECOND_NS));
    thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    unload("g_serial")?;
    let end = waiting.join().ok().context("the reader panicked")?;
    let took = begin.elapsed();
    ensure!(
        end == Err(WireError::Unplugged),
        "the read ended with {end:?}"
    );
    adapter::plug_in()?;
    SerialWire::open(HOST, BAUD)?;
    Ok(format!(
        "a waiting read ended after {:.1} ms",
        took.as_secs_f64() * 1e3
    ))
}
