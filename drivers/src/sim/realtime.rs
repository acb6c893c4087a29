//! The lift scene in real time: physics on a thread of its own, arm and cameras on others.

use hilt_protocol::{CameraSpec, GripperCommand, Image};
use hilt_realtime::{Clock, Monotonic};
use hilt_sim::{OperatorConfig, SceneConfig, SimHandle, SimThread, Task, Truth};

use super::{
    Role, SimOperator,
    lockstep::{SETTLE_NS, world_error},
};
use crate::{
    ArmError, ArmState, Camera, CameraError, EpisodeStart, Scene, TeleopError, WorldError,
    remote::{RemoteArm, RemoteCommand, RemoteDevice},
};

/// The scene, following the monotonic clock.
#[derive(Clone)]
pub struct LiveLift {
    handle: SimHandle,
    task: Task,
    cameras: Vec<CameraSpec>,
}

impl LiveLift {
    /// Builds the scene and lets its time run.
    pub fn new(config: &SceneConfig) -> Result<Self, WorldError> {
        let handle = SimThread::spawn(config.clone()).map_err(world_error)?;
        Self::of(handle, config)
    }

    /// The scene of that thread; its time runs from now on.
    pub(crate) fn of(handle: SimHandle, config: &SceneConfig) -> Result<Self, WorldError> {
        handle.run_realtime(true).map_err(world_error)?;
        let cameras = config.cameras.iter().map(|camera| CameraSpec {
            name: camera.name.clone(),
            height: camera.height,
            width: camera.width,
        });
        Ok(Self {
            cameras: cameras.collect(),
            task: config.arm.task(),
            handle,
        })
    }

    /// Its arm, with which the control loop of `period_ns` exchanges once per tick.
    pub fn arm(&self, period_ns: u64) -> Result<RemoteArm, ArmError> {
        let device = SimDevice {
            handle: self.handle.clone(),
            gripper: GripperCommand::Open,
        };
        RemoteArm::start(self.handle.chain().clone(), Box::new(device), period_ns)
    }

    /// Its cameras, in the scene's order.
    pub fn cameras(&self) -> Vec<LiveCamera> {
        let specs = self.cameras.iter().cloned().enumerate();
        specs
            .map(|(index, spec)| LiveCamera {
                handle: self.handle.clone(),
                index,
                spec,
            })
            .collect()
    }

    /// An operator who sees the scene. `step_m`: metres of a full motion column.
    pub fn operator(&self, role: Role, config: OperatorConfig, step_m: f64) -> SimOperator {
        let handle = self.handle.clone();
        let truth = move || handle.truth().map_err(|e| TeleopError(e.to_string()));
        SimOperator::new(Box::new(truth), self.task, role, config, step_m)
    }
}

impl Scene for LiveLift {
    fn reset(&mut self, start: EpisodeStart) -> Result<(), WorldError> {
        let start = self.task.random_start(start.range_m, start.seed);
        self.handle.reset(start).map_err(world_error)?;
        self.handle.advance_ns(SETTLE_NS).map_err(world_error)?;
        Ok(())
    }

    fn truth(&self) -> Option<Truth> {
        self.handle.truth().ok()
    }
}

/// The simulated arm behind its thread.
struct SimDevice {
    handle: SimHandle,
    /// What the fingers were told last: they keep what they hold.
    gripper: GripperCommand,
}

impl RemoteDevice for SimDevice {
    fn exchange(&mut self, command: Option<RemoteCommand>) -> Result<ArmState, ArmError> {
        let state = self.handle.state().map_err(|_| ArmError::Device)?;
        // The simulation follows this clock; its state is of now.
        let captured_ns = Monotonic.now_ns();
        let (joints, velocities) = (state.q, state.qd);
        let target = match command {
            Some(RemoteCommand::Target(joints, gripper)) => {
                self.gripper = gripper;
                Some(joints)
            }
            Some(RemoteCommand::Hold) => {
                let mut here = joints;
                // Gravity and inertia may carry a joint a hair past its limit.
                self.handle.chain().clamp(here.as_mut_slice());
                Some(here)
            }
            None => None,
        };
        if let Some(target) = target {
            let closed = self.gripper == GripperCommand::Closed;
            self.handle
                .command(target.as_slice(), closed)
                .map_err(|_| ArmError::Device)?;
        }
        Ok(ArmState {
            captured_ns,
            joints,
            velocities,
            gripper_width_m: state.gripper_width_m,
            trouble: None,
        })
    }
}

/// One of the scene's cameras. It draws when it is asked: its newest frame is of now, or for one with a
/// latency says so and shows what was.
pub struct LiveCamera {
    handle: SimHandle,
    index: usize,
    spec: CameraSpec,
}

impl Camera for LiveCamera {
    fn spec(&self) -> &CameraSpec {
        &self.spec
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        let (image, seen) = self.handle.render_live(self.index).map_err(|error| {
            let (name, reason) = (self.spec.name.clone(), error.to_string());
            CameraError::NoFrame { name, reason }
        })?;
        // Not when it was asked: the other camera may have been drawn in between.
        let age_ns = u64::try_from(seen.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let captured_ns = Monotonic.now_ns().saturating_sub(age_ns);
        Ok(Image {
            captured_ns,
            ..image
        })
    }
}
