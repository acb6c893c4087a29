//! The lift scene on one thread: lockstep, as fast as the machine can.

use std::{cell::RefCell, rc::Rc};

use hilt_kinematics::Chain;
use hilt_protocol::{CameraSpec, GripperCommand, Image, JointVector};
use hilt_sim::{OperatorConfig, SceneConfig, SimError, Simulation, Truth};

use super::{Role, SimOperator};
use crate::{
    Arm, ArmError, ArmState, Camera, CameraError, EpisodeStart, Scene, World, WorldError,
    arm::check_target,
};

/// Time that the scene has to come to rest after a reset, nanoseconds.
pub(super) const SETTLE_NS: u64 = 200_000_000;

pub(crate) fn world_error(error: SimError) -> WorldError {
    WorldError(error.to_string())
}

/// The scene and its clock. Devices made from it share it; all stay on one thread.
#[derive(Clone)]
pub struct LiftWorld {
    simulation: Rc<RefCell<Simulation>>,
}

impl LiftWorld {
    /// Builds the scene.
    pub fn new(config: &SceneConfig) -> Result<Self, WorldError> {
        let simulation = Simulation::new(config).map_err(world_error)?;
        Ok(Self {
            simulation: Rc::new(RefCell::new(simulation)),
        })
    }

    /// Its arm.
    pub fn arm(&self) -> SimArm {
        SimArm {
            chain: self.simulation.borrow().chain().clone(),
            simulation: Rc::clone(&self.simulation),
            stopped: false,
        }
    }

    /// Its cameras, in the scene's order.
    pub fn cameras(&self) -> Vec<SimCamera> {
        let simulation = self.simulation.borrow();
        let specs = simulation.config().cameras.iter().map(|camera| CameraSpec {
            name: camera.name.clone(),
            height: camera.height,
            width: camera.width,
        });
        specs
            .enumerate()
            .map(|(index, spec)| SimCamera {
                simulation: Rc::clone(&self.simulation),
                index,
                spec,
            })
            .collect()
    }

    /// An operator who sees the scene. `step_m`: metres of a full motion column.
    pub fn operator(&self, role: Role, config: OperatorConfig, step_m: f64) -> SimOperator {
        let simulation = Rc::clone(&self.simulation);
        let task = *simulation.borrow().task();
        let truth = move || Ok(simulation.borrow().truth());
        SimOperator::new(Box::new(truth), task, role, config, step_m)
    }
}

impl World for LiftWorld {
    fn now_ns(&self) -> u64 {
        self.simulation.borrow().time_ns()
    }

    fn advance_ns(&mut self, duration_ns: u64) -> Result<(), WorldError> {
        self.simulation.borrow_mut().advance_ns(duration_ns);
        Ok(())
    }
}

impl Scene for LiftWorld {
    fn reset(&mut self, start: EpisodeStart) -> Result<(), WorldError> {
        let mut simulation = self.simulation.borrow_mut();
        let start = simulation.task().random_start(start.range_m, start.seed);
        simulation.reset(&start).map_err(world_error)?;
        simulation.advance_ns(SETTLE_NS);
        Ok(())
    }

    fn truth(&self) -> Option<Truth> {
        Some(self.simulation.borrow().truth())
    }
}

/// The scene's arm.
pub struct SimArm {
    simulation: Rc<RefCell<Simulation>>,
    chain: Chain,
    stopped: bool,
}

impl Arm for SimArm {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn read_state(&mut self, now_ns: u64, _until_ns: u64) -> Result<ArmState, ArmError> {
        let state = self.simulation.borrow().arm_state();
        Ok(ArmState {
            captured_ns: state.time_ns.min(now_ns),
            joints: state.q,
            velocities: state.qd,
            gripper_width_m: state.gripper_width_m,
            trouble: None,
        })
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        if self.stopped {
            return Err(ArmError::Stopped);
        }
        check_target(&self.chain, joints)?;
        let closed = gripper == GripperCommand::Closed;
        self.simulation
            .borrow_mut()
            .set_command(joints.as_slice(), closed)
            .map_err(|_| ArmError::Device)
    }

    fn start(&mut self) -> Result<(), ArmError> {
        self.stopped = false;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        if !self.stopped {
            self.stopped = true;
            let mut simulation = self.simulation.borrow_mut();
            let mut here = simulation.arm_state().q;
            // Gravity and inertia may carry a joint a hair past its limit.
            self.chain.clamp(here.as_mut_slice());
            // The fingers keep what they hold.
            let closed = simulation.truth().gripper_closed_command;
            simulation
                .set_command(here.as_slice(), closed)
                .map_err(|_| ArmError::Device)?;
        }
        Ok(())
    }
}

/// One of the scene's cameras: draws when asked, so its newest frame is of now, or for one with a latency
/// says so and shows what was.
pub struct SimCamera {
    simulation: Rc<RefCell<Simulation>>,
    index: usize,
    spec: CameraSpec,
}

impl Camera for SimCamera {
    fn spec(&self) -> &CameraSpec {
        &self.spec
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        let CameraSpec { height, width, .. } = self.spec;
        let mut rgb = vec![0; height as usize * width as usize * 3];
        let mut simulation = self.simulation.borrow_mut();
        simulation
            .render(self.index, &mut rgb)
            .map_err(|e| CameraError::NoFrame {
                name: self.spec.name.clone(),
                reason: e.to_string(),
            })?;
        let captured_ns = simulation.time_ns();
        Ok(Image {
            captured_ns,
            height,
            width,
            rgb: rgb.into(),
        })
    }
}
