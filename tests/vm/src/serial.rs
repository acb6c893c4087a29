//! A USB serial adapter: the kernel's emulated USB host with its own gadget driver behind it. The
//! host's side is a real `cdc-acm` device, as SO-101's adapter is.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hilt_drivers::{
    Arm, ArmError,
    bus::{SerialWire, ServoArm, Wire, WireError, sts3215},
    conformance,
    emulated::{EmulatedBus, desk_arm},
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic};

use crate::machine::{load, pass_ns, unload, wait_for, wait_for_file};

/// The name under which the host finds the adapter wherever it is plugged in.
const HOST: &str = "/dev/serial/by-id/usb-hilt_bus_adapter_0042-if00";
/// The adapter's own side.
const DEVICE: &str = "/dev/ttyGS0";
const BAUD: u32 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Pulls the adapter's plug. (This kernel's emulated controller cannot connect it again: it forgets
/// its speed.)
fn pull() -> Result<()> {
    fs::write("/sys/class/udc/dummy_udc.0/soft_connect", "disconnect").context("the USB plug")
}

fn plug_in_gadget() -> Result<()> {
    load("cdc_acm", "")?;
    load("dummy_hcd", "")?;
    load("usb_f_acm", "")?;
    load(
        "g_serial",
        "iManufacturer=hilt iProduct=bus_adapter iSerialNumber=0042",
    )?;
    wait_for_file(HOST)?;
    wait_for_file(DEVICE)
}

/// Both sides of the adapter; what was there before is gone.
fn fresh_adapter() -> Result<()> {
    if fs::exists("/sys/module/g_serial")? {
        unload("g_serial")?;
        wait_for("the old adapter stays", || {
            (!fs::exists(HOST).unwrap_or(true)).then_some(())
        })?;
    }
    plug_in_gadget()
}

fn read_all(wire: &mut SerialWire, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let until_ns = wire.now_ns() + 10 * SECOND_NS;
    let mut came = 0;
    while came < count {
        let more = wire.read(&mut bytes[came..], until_ns)?;
        ensure!(more > 0, "{came} of {count} bytes came");
        came += more;
    }
    Ok(bytes)
}

/// Everything that a terminal in its usual mode would change, both ways.
pub fn bytes_unchanged() -> Result<String> {
    fresh_adapter()?;
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
    fresh_adapter()?;
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

/// Servos at the adapter's side, on a thread of its own. They keep their power when it is unplugged.
struct Servos {
    bus: Arc<Mutex<EmulatedBus>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Servos {
    fn start() -> Result<Self> {
        let mut servos = Self {
            bus: Arc::new(Mutex::new(desk_arm::bus())),
            stop: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        servos.connect()?;
        Ok(servos)
    }

    /// Joins them to an adapter that was plugged in, until it is pulled.
    fn connect(&mut self) -> Result<()> {
        let mut wire = SerialWire::open(DEVICE, BAUD)?;
        let (bus, stop) = (self.bus.clone(), self.stop.clone());
        let carry = move || {
            // It ends with an error when the plug is pulled.
            let _ = carry(&mut wire, &bus, &stop);
        };
        let thread = thread::Builder::new().name("servos".into()).spawn(carry)?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Waits until the adapter's side is closed.
    fn pulled(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn look<T>(&self, look: impl FnOnce(&mut EmulatedBus) -> T) -> T {
        let mut bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        bus.advance(Monotonic.now_ns());
        look(&mut bus)
    }
}

impl Drop for Servos {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.pulled();
    }
}

/// Carries bytes between the adapter and its servos.
fn carry(
    wire: &mut SerialWire,
    bus: &Mutex<EmulatedBus>,
    stopped: &AtomicBool,
) -> Result<(), WireError> {
    let lock = || bus.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = [0; 512];
    while !stopped.load(Ordering::Relaxed) {
        let now_ns = wire.now_ns();
        let due_ns = lock().under_way_ns().map(|(_, last_ns)| last_ns);
        if due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            let count = lock().say(now_ns, &mut bytes);
            wire.write(&bytes[..count])?;
            continue;
        }
        let came = wire.read(&mut bytes, due_ns.unwrap_or(now_ns + 20_000_000))?;
        lock().hear(wire.now_ns(), &bytes[..came]);
    }
    Ok(())
}

fn arm() -> Result<ServoArm<SerialWire>> {
    let wire = SerialWire::open(HOST, BAUD)?;
    Ok(ServoArm::new(wire, desk_arm::chain()?, desk_arm::config())?)
}

/// The arm over the adapter passes the suite of every arm.
pub fn arm_conforms() -> Result<String> {
    fresh_adapter()?;
    let servos = Servos::start()?;
    let mut arm = arm()?;
    conformance::arm(&mut arm, pass_ns)?;
    ensure!(!servos.look(|bus| bus.went_limp()), "the arm went limp");
    Ok(format!(
        "{} requests heard",
        servos.look(|bus| bus.heard().count())
    ))
}

/// Asks until a state is whole: the emulated host controller is late now and then.
fn fresh_state(arm: &mut ServoArm<SerialWire>) -> Result<hilt_drivers::ArmState> {
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
pub fn arm_follows() -> Result<String> {
    fresh_adapter()?;
    let servos = Servos::start()?;
    let mut arm = arm()?;
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
    let config = desk_arm::config();
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

/// Pulled in mid-run, the plug is named; plugged in again, the adapter has its old name and the arm
/// stands where it was.
pub fn unplug_and_replug() -> Result<String> {
    fresh_adapter()?;
    let mut servos = Servos::start()?;
    let mut arm = arm()?;
    arm.start()?;
    let before = fresh_state(&mut arm)?;
    pull()?;
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
    fresh_adapter()?;
    servos.connect()?;
    let mut arm = self::arm()?;
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
    fresh_adapter()?;
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
    plug_in_gadget()?;
    SerialWire::open(HOST, BAUD)?;
    Ok(format!(
        "a waiting read ended after {:.1} ms",
        took.as_secs_f64() * 1e3
    ))
}
