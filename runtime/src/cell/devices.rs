//! What a rig in real time is made of: its arms, cameras and scene, opened as the rig's file says.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use hilt_drivers::{
    Arm, Camera, Scene,
    bus::{SerialWire, ServoArm, Wire},
    emulated::{EmulatedCamera, PtyBus, desk_arm},
    sim::LiveLift,
};
use hilt_protocol::JointVector;
use hilt_realtime::Monotonic;

use super::CellError;
use crate::{
    control::{Fault, Wills},
    faulty::Faults,
    rig::{Device, Rig},
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
        match (rig.device, &rig.scene) {
            (Device::LiftSim, Some(scene)) => lift(rig, scene),
            (Device::Emulated, _) => emulated(rig, faults),
            (Device::LiftSim | Device::Fake, _) => {
                let problem = "this rig has no real time; use --set clock=simulated";
                Err(CellError::Rig(problem.to_owned()))
            }
        }
    }
}

fn lift(rig: &Rig, scene: &hilt_sim::SceneConfig) -> Result<Devices, CellError> {
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

fn emulated(rig: &Rig, faults: &Faults<Monotonic>) -> Result<Devices, CellError> {
    let spec = rig.spec();
    let opening = |what: String| {
        move |error: &dyn std::fmt::Display| CellError::Rig(format!("{what}: {error}"))
    };
    let mut buses = Vec::new();
    if rig.ports.is_empty() {
        for arm in 0..spec.mode.arms() {
            let name = format!("hilt-bus-{}-{arm}", std::process::id());
            let link = std::env::temp_dir().join(name);
            let bus = PtyBus::start(desk_arm::bus(), &link).map_err(|source| {
                let what = "starting an emulated bus";
                CellError::System { what, source }
            })?;
            buses.push(bus);
        }
    }
    let own = buses.iter().map(|bus| bus.path().to_owned());
    let ports: Vec<_> = own.chain(rig.ports.iter().cloned()).collect();
    let mut arms: Vec<Box<dyn Arm + Send>> = Vec::new();
    let mut descriptors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let failed = opening(format!("the arm at {}", port.display()));
        let config = desk_arm::config();
        let wire =
            SerialWire::open(&port.to_string_lossy(), config.baud).map_err(|e| failed(&e))?;
        let duplicate = wire.descriptor().map(|line| line.try_clone_to_owned());
        descriptors.extend(duplicate.transpose().map_err(|e| failed(&e))?);
        let wire = faults.wire(wire, index);
        let chain = desk_arm::chain().map_err(|e| failed(&e))?;
        arms.push(Box::new(
            ServoArm::new(wire, chain, config).map_err(|e| failed(&e))?,
        ));
    }
    let (supervised, wills) = supervise(rig, &descriptors)?.unzip();
    let seen: Vec<_> = buses.iter().map(PtyBus::handle).collect();
    let cameras = spec.cameras.into_iter();
    Ok(Devices {
        arms,
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

/// Starts who holds the arms on these buses when this process is gone.
fn supervise(rig: &Rig, buses: &[OwnedFd]) -> Result<Option<(Supervised, WillWriter)>, CellError> {
    let Some(program) = &rig.supervisor else {
        return Ok(None);
    };
    let buses: Vec<_> = buses.iter().map(|bus| bus.as_fd()).collect();
    let stall = Duration::from_micros((rig.ages.loop_ms * 1e3) as u64);
    let started = supervisor::start(program, &buses, stall);
    started.map(Some).map_err(|e| CellError::Rig(e.to_string()))
}
