//! What a rig in real time is made of: its arms, cameras and scene, opened as the rig's file says.

use std::{
    fmt::Display,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use hilt_calibration::joints;
use hilt_drivers::{
    Arm, Backdated, Camera, Scene,
    bus::{SerialWire, ServoArm, ServoArmConfig, Wire},
    emulated::{BusLift, EmulatedBus, EmulatedCamera, PtyBus, desk_arm, lift_bus, lift_config},
    franka,
    sim::LiveLift,
    v4l2::V4l2Camera,
};
use hilt_kinematics::Chain;
use hilt_protocol::{JointVector, calibration::ArmCalibration};
use hilt_realtime::{Clock, Monotonic};
use hilt_sim::SceneConfig;

use super::CellError;
use crate::{
    control::{Fault, Wills},
    faulty::Faults,
    rig::{ArmSettings, Device, Rig},
    supervisor::{self, Supervised, WillWriter},
};

/// A rig's devices, open.
pub struct Devices {
    /// The arms, in the spec's order; not started.
    pub arms: Vec<Box<dyn Arm + Send>>,
    /// The cameras, in the spec's order.
    pub cameras: Vec<Box<dyn Camera + Send>>,
    /// What resets the scene; `None`: a person does.
    pub scene: Option<Box<dyn Scene>>,
    /// Where the arms begin an episode, radians; `None`: where the scene puts them.
    pub home: Option<JointVector>,
    /// Where the arms' wills go.
    pub wills: Option<Box<dyn Wills>>,
    /// The process that executes them.
    pub supervised: Option<Supervised>,
    /// The simulated scene, for its operator.
    pub lift: Option<LiveLift>,
    /// Emulated buses, which live as long as the arms.
    pub buses: Vec<PtyBus>,
}

impl Devices {
    /// Opens what the rig is made of. `faults` strike the arms' wires.
    pub fn open(rig: &Rig, faults: &Faults<Monotonic>) -> Result<Self, CellError> {
        let mut devices = match (rig.device, &rig.scene) {
            (Device::LiftSim, Some(scene)) => lift(rig, scene),
            (Device::Emulated, Some(scene)) => lift_on_bus(rig, scene, faults),
            (Device::Emulated, None) => emulated(rig, faults),
            (Device::Real, _) => real(rig, faults),
            (Device::LiftSim | Device::Fake, _) => {
                let problem = "this rig has no real time; use --set clock=simulated";
                Err(CellError::Rig(problem.to_owned()))
            }
        }?;
        let cameras = devices.cameras.into_iter();
        devices.cameras = cameras.map(|camera| stamped_right(rig, camera)).collect();
        Ok(devices)
    }
}

fn lift(rig: &Rig, scene: &SceneConfig) -> Result<Devices, CellError> {
    let lift = LiveLift::new(scene)?;
    let tick_ns = rig.policy_period_ns() / u64::from(rig.ticks_per_step());
    let stopped = |error| CellError::Stopped(Fault::of_arm(0, error));
    Ok(Devices {
        arms: vec![Box::new(lift.arm(tick_ns).map_err(stopped)?)],
        cameras: (lift.cameras().into_iter())
            .map(|camera| Box::new(camera) as _)
            .collect(),
        scene: Some(Box::new(lift.clone())),
        home: None,
        wills: None,
        supervised: None,
        lift: Some(lift),
        buses: Vec::new(),
    })
}

/// The desk arms, whose buses this process emulates, or somebody behind the rig's `ports`.
fn emulated(rig: &Rig, faults: &Faults<Monotonic>) -> Result<Devices, CellError> {
    let spec = rig.spec();
    let mut buses = Vec::new();
    if rig.ports.is_empty() {
        for arm in 0..spec.mode.arms() {
            buses.push(plugged_in(desk_arm::bus(), arm)?);
        }
    }
    let own = buses.iter().map(|bus| bus.path().to_owned());
    let mut serial = Serial::default();
    for port in own.chain(rig.ports.iter().cloned()) {
        let chain = desk_arm::chain().map_err(|e| refused(&port, &e))?;
        serial.add(&port, chain, desk_arm::config(), None, faults)?;
    }
    let (supervised, wills) = supervise(rig, &serial.descriptors)?.unzip();
    let seen: Vec<_> = buses.iter().map(PtyBus::handle).collect();
    let cameras = spec.cameras.into_iter();
    Ok(Devices {
        arms: serial.arms,
        cameras: cameras
            .map(|spec| Box::new(EmulatedCamera::new(seen.clone(), spec)) as _)
            .collect(),
        scene: None,
        home: desk_arm::home(),
        wills: wills.map(|wills| Box::new(wills) as _),
        supervised,
        lift: None,
        buses,
    })
}

/// The lift scene, its arm behind a serial path of its own.
fn lift_on_bus(
    rig: &Rig,
    scene: &SceneConfig,
    faults: &Faults<Monotonic>,
) -> Result<Devices, CellError> {
    let config = lift_config(scene.arm).ok_or_else(|| {
        CellError::Rig("the arm of this scene is not of servos; set scene.arm".to_owned())
    })?;
    let bus = plugged_in(lift_bus(&config), 0)?;
    let lift = BusLift::new(scene, &config, bus.handle())?;
    let mut serial = Serial::default();
    serial.add(bus.path(), lift.chain().clone(), config, None, faults)?;
    let (supervised, wills) = supervise(rig, &serial.descriptors)?.unzip();
    let cameras = lift.live().cameras().into_iter();
    Ok(Devices {
        arms: serial.arms,
        cameras: cameras.map(|camera| Box::new(camera) as _).collect(),
        scene: Some(Box::new(lift.clone())),
        home: None,
        wills: wills.map(|wills| Box::new(wills) as _),
        supervised,
        lift: Some(lift.live().clone()),
        buses: vec![bus],
    })
}

/// What the rig's file names.
fn real(rig: &Rig, faults: &Faults<Monotonic>) -> Result<Devices, CellError> {
    if let Some(words) = rig.uncalibrated() {
        return Err(CellError::Rig(words));
    }
    let mut serial = Serial::default();
    for arm in &rig.arms {
        match arm {
            ArmSettings::Servos(arm) => {
                let chain = arm.chain().map_err(|e| refused(&arm.port, &e))?;
                let (servos, measured) = (arm.servos.clone(), arm.measured.as_deref());
                serial.add(&arm.port, chain, servos, measured, faults)?;
            }
            ArmSettings::Franka(config) => {
                let tick_ns = rig.policy_period_ns() / u64::from(rig.ticks_per_step());
                let arm = franka::open(config, tick_ns);
                let arm = arm.map_err(|e| refused(Path::new(&config.url), &e))?;
                serial.arms.push(Box::new(arm));
            }
        }
    }
    let (supervised, wills) = supervise(rig, &serial.descriptors)?.unzip();
    let mut cameras: Vec<Box<dyn Camera + Send>> = Vec::new();
    for camera in &rig.cameras {
        let missing = || CellError::Rig(format!("camera `{}` has no device", camera.name));
        let v4l2 = camera.v4l2.clone().ok_or_else(missing)?;
        let camera = V4l2Camera::open(v4l2, camera.spec());
        cameras.push(Box::new(camera.map_err(|e| CellError::Rig(e.to_string()))?));
    }
    Ok(Devices {
        arms: serial.arms,
        cameras,
        scene: None,
        home: JointVector::from_slice(&rig.home_rad).filter(|home| !home.as_slice().is_empty()),
        wills: wills.map(|wills| Box::new(wills) as _),
        supervised,
        lift: None,
        buses: Vec::new(),
    })
}

/// With the time that its frames are late, where that was measured, taken off their stamps.
fn stamped_right(rig: &Rig, camera: Box<dyn Camera + Send>) -> Box<dyn Camera + Send> {
    match rig.latency_ns(&camera.spec().name) {
        0 => camera,
        latency_ns => Box::new(Backdated::new(camera, latency_ns)),
    }
}

/// An emulated bus behind a serial device of this process.
fn plugged_in(bus: EmulatedBus, arm: usize) -> Result<PtyBus, CellError> {
    // A process may have several rigs, one after the other or beside each other.
    let (process, now_ns) = (std::process::id(), Monotonic.now_ns());
    let name = format!("hilt-bus-{process}-{now_ns}-{arm}");
    PtyBus::start(bus, &std::env::temp_dir().join(name)).map_err(|source| {
        let what = "starting an emulated bus";
        CellError::System { what, source }
    })
}

fn refused(port: &Path, error: &dyn Display) -> CellError {
    CellError::Rig(format!("the arm at {}: {error}", port.display()))
}

/// Arms on serial ports, and duplicates of their descriptors for who guards them.
#[derive(Default)]
struct Serial {
    arms: Vec<Box<dyn Arm + Send>>,
    descriptors: Vec<OwnedFd>,
}

impl Serial {
    /// Opens the next arm's port, and asks whether its servos are those that were measured, before they
    /// are told anything.
    fn add(
        &mut self,
        port: &Path,
        chain: Chain,
        config: ServoArmConfig,
        measured: Option<&ArmCalibration>,
        faults: &Faults<Monotonic>,
    ) -> Result<(), CellError> {
        let wire = SerialWire::open(&port.to_string_lossy(), config.baud);
        let mut wire = wire.map_err(|e| refused(port, &e))?;
        if let Some(measured) = measured {
            wire = joints::known(wire, &config, measured).map_err(|e| refused(port, &e))?;
        }
        let duplicate = wire.descriptor().map(|line| line.try_clone_to_owned());
        (self.descriptors).extend(duplicate.transpose().map_err(|e| refused(port, &e))?);
        let wire = faults.wire(wire, self.arms.len());
        let arm = ServoArm::new(wire, chain, config).map_err(|e| refused(port, &e))?;
        self.arms.push(Box::new(arm));
        Ok(())
    }
}

/// Starts who holds the arms on these buses when this process is gone.
fn supervise(rig: &Rig, buses: &[OwnedFd]) -> Result<Option<(Supervised, WillWriter)>, CellError> {
    let Some(program) = rig.supervisor.as_ref().filter(|_| !buses.is_empty()) else {
        return Ok(None);
    };
    let buses: Vec<_> = buses.iter().map(|bus| bus.as_fd()).collect();
    let stall = Duration::from_micros((rig.ages.loop_ms * 1e3) as u64);
    let started = supervisor::start(program, &buses, stall);
    started.map(Some).map_err(|e| CellError::Rig(e.to_string()))
}
