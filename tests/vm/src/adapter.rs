//! The test's side of the USB serial adapter: the kernel's emulated USB host with its own gadget driver
//! behind it, and servos behind that. The host's side is a real `cdc-acm` device, as SO-101's
//! adapter is.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, ensure};
use hilt_drivers::{
    bus::{Family, SerialWire, ServoArm, ServoArmConfig, Wire, WireError},
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, ServoSetup, desk_arm},
};
use hilt_realtime::{Clock, Monotonic};

use crate::machine::{load, unload, wait_for, wait_for_file};

/// The name under which the host finds the adapter wherever it is plugged in.
pub const HOST: &str = "/dev/serial/by-id/usb-hilt_bus_adapter_0042-if00";
/// The adapter's own side.
pub const DEVICE: &str = "/dev/ttyGS0";
/// Bits per second of the servos' bus.
pub const BAUD: u32 = 1_000_000;
/// A second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Pulls the adapter's plug. (This kernel's emulated controller cannot connect it again: it forgets
/// its speed.)
pub fn pull() -> Result<()> {
    fs::write("/sys/class/udc/dummy_udc.0/soft_connect", "disconnect").context("the USB plug")
}

/// Plugs the adapter in.
pub fn plug_in() -> Result<()> {
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
pub fn fresh() -> Result<()> {
    if fs::exists("/sys/module/g_serial")? {
        unload("g_serial")?;
        wait_for("the old adapter stays", || {
            (!fs::exists(HOST).unwrap_or(true)).then_some(())
        })?;
    }
    plug_in()
}

/// Which servo is which joint.
pub fn config(family: Family) -> ServoArmConfig {
    ServoArmConfig {
        family,
        // Above what the quickest of them reach without load.
        max_speed_rad_s: 15.0,
        ..desk_arm::config()
    }
}

/// The arm at the adapter, as a robot's program opens it.
pub fn arm(family: Family) -> Result<ServoArm<SerialWire>> {
    let wire = SerialWire::open(HOST, BAUD)?;
    Ok(ServoArm::new(wire, desk_arm::chain()?, config(family))?)
}

/// Servos at the adapter's side, on a thread of its own. They keep their power when it is unplugged.
pub struct Servos {
    bus: Arc<Mutex<EmulatedBus>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Servos {
    /// Those of an arm at home that falls without torque.
    pub fn start(family: Family) -> Result<Self> {
        let config = config(family);
        let home = desk_arm::home().context("no home")?;
        let joints = config.joints.iter().zip(home.as_slice());
        let joints = joints.map(|(servo, home)| (servo.id, servo.goal(*home), 600));
        let gripper = (config.gripper.id, config.gripper.open_counts.into(), 0);
        let servos: Vec<_> = joints.chain([gripper]).collect();
        Self::start_with(family, &servos)
    }

    /// These: id, position, and how far they fall without torque, counts.
    pub fn start_with(family: Family, servos: &[(u8, i32, i32)]) -> Result<Self> {
        let setup = |(id, counts, falls): &(u8, i32, i32)| ServoSetup {
            id: *id,
            counts: f64::from(*counts),
            rest_counts: f64::from(counts - falls),
        };
        let setups: Vec<_> = servos.iter().map(setup).collect();
        let bus = EmulatedBus::of(family, &setups, BYTE_NS_1M_BAUD);
        let mut servos = Self {
            bus: Arc::new(Mutex::new(bus)),
            stop: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        servos.connect()?;
        Ok(servos)
    }

    /// Joins them to an adapter that was plugged in, until it is pulled.
    pub fn connect(&mut self) -> Result<()> {
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
    pub fn pulled(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Shows them as they are now.
    pub fn look<T>(&self, look: impl FnOnce(&mut EmulatedBus) -> T) -> T {
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

/// An adapter gathers bytes for so long: a frame of the USB.
const FRAME_NS: u64 = 1_000_000;

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
        let due_ns = lock()
            .under_way_ns()
            .map(|(first_ns, last_ns)| last_ns.min(first_ns + FRAME_NS));
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

/// Waits until so many bytes have come.
pub fn read_all(wire: &mut SerialWire, count: usize) -> Result<Vec<u8>> {
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
