//! The MuJoCo lift scene as devices on one thread: lockstep, as fast as the machine can.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use hilt_kinematics::Chain;
use hilt_protocol::{
    ActionSource, CameraSpec, GripperCommand, Image, JointVector,
    noise::{Uniforms, mix},
};
use hilt_sim::{
    Intention, OperatorConfig, SceneConfig, ScriptedOperator, SimError, Simulation, TakeoverConfig,
    TakeoverPolicy, Truth, random_start,
};

use crate::{
    Arm, ArmError, ArmState, Camera, CameraError, EpisodeStart, Intent, Teleop, TeleopError,
    TeleopEvent, World, WorldError, arm::check_target,
};

/// Time that the scene has to come to rest after a reset, nanoseconds.
const SETTLE_NS: u64 = 200_000_000;

fn world_error(error: SimError) -> WorldError {
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
        let act = |intention| ScriptedOperator::new(config, intention, step_m, 0);
        let (takeover, hand) = match role {
            Role::Demonstrate => (None, act(Intention::Lift)),
            Role::Miss => (None, act(Intention::Miss)),
            Role::Wander => (None, act(Intention::Wander)),
            Role::Intervene { takeover, seed } => (
                Some(TakeoverPolicy::new(takeover, seed)),
                act(Intention::Lift),
            ),
        };
        SimOperator {
            simulation: Rc::clone(&self.simulation),
            role,
            config,
            step_m,
            takeover,
            hand,
            random: Uniforms::new(0),
            acting: false,
            acted: false,
            events: VecDeque::new(),
            said: false,
            training_fraction: Rc::new(Cell::new(0.0)),
        }
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

    fn reset(&mut self, start: EpisodeStart) -> Result<(), WorldError> {
        let mut simulation = self.simulation.borrow_mut();
        simulation
            .reset(&random_start(start.range_m, start.seed))
            .map_err(world_error)?;
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
        let vector = |values: &[f64]| JointVector::from_slice(values).ok_or(ArmError::Device);
        Ok(ArmState {
            captured_ns: state.time_ns.min(now_ns),
            joints: vector(&state.q)?,
            velocities: vector(&state.qd)?,
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
            let mut here =
                JointVector::from_slice(&simulation.arm_state().q).ok_or(ArmError::Device)?;
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

/// One of the scene's cameras: draws when asked, so its newest frame is of now.
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

/// What the scripted operator is there for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Every step is the operator's; says success when the cube is up.
    Demonstrate,
    /// Closes on nothing and lifts nothing; says failure when the empty hand is up.
    Miss,
    /// Goes about over the table, opening and closing; says nothing.
    Wander,
    /// Watches the policy and steps in when it is stuck.
    Intervene {
        /// How ready to.
        takeover: TakeoverConfig,
        /// What its chances are drawn from.
        seed: u64,
    },
}

/// The scripted operator as a teleop device: it stands in for a person and sees what a person at
/// the table would see, the truth.
pub struct SimOperator {
    simulation: Rc<RefCell<Simulation>>,
    role: Role,
    config: OperatorConfig,
    step_m: f64,
    takeover: Option<TakeoverPolicy>,
    hand: ScriptedOperator,
    random: Uniforms,
    acting: bool,
    acted: bool,
    events: VecDeque<TeleopEvent>,
    said: bool,
    training_fraction: Rc<Cell<f64>>,
}

impl SimOperator {
    /// Where the caller tells how much of the training has passed, 0 to 1: as training goes on the
    /// operator trusts the policy more.
    pub fn training_fraction(&self) -> Rc<Cell<f64>> {
        Rc::clone(&self.training_fraction)
    }

    fn new_hand(&mut self) {
        let intention = match self.role {
            Role::Miss => Intention::Miss,
            Role::Wander => Intention::Wander,
            Role::Demonstrate | Role::Intervene { .. } => Intention::Lift,
        };
        self.hand = ScriptedOperator::new(self.config, intention, self.step_m, self.random.bits());
    }

    fn say(&mut self, event: TeleopEvent) {
        if !self.said {
            self.said = true;
            self.events.push_back(event);
        }
    }
}

impl Teleop for SimOperator {
    fn source(&self) -> ActionSource {
        ActionSource::ScriptedOperator
    }

    fn begin_episode(&mut self, seed: u64) {
        self.random = Uniforms::new(mix(seed ^ 0x6861_6e64));
        self.events.clear();
        (self.acting, self.acted, self.said) = (false, false, false);
        if let Some(takeover) = &mut self.takeover {
            takeover.begin_episode();
        }
        self.new_hand();
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        let truth = self.simulation.borrow().truth();
        let acts = match &mut self.takeover {
            Some(takeover) => takeover.operator_acts(&truth, self.training_fraction.get()),
            None => true,
        };
        if acts && !self.acting && self.takeover.is_some() {
            self.new_hand();
        }
        self.acting = acts;
        if !acts {
            return Ok(None);
        }
        self.acted = true;
        let action = self.hand.act(&truth);
        let mut intent = Intent::still(now_ns);
        intent.motion[0][..3].copy_from_slice(&action.motion);
        intent.gripper[0] = match action.gripper {
            -1 => Some(GripperCommand::Closed),
            1 => Some(GripperCommand::Open),
            _ => None,
        };
        if self.role == Role::Miss && action.done {
            self.say(TeleopEvent::Failure);
        }
        Ok(Some(intent))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        // The button of a person who has had a hand in this episode and sees the cube up.
        let lifts = matches!(self.role, Role::Demonstrate | Role::Intervene { .. });
        if self.acted && lifts && self.simulation.borrow().truth().lifted {
            self.say(TeleopEvent::Success);
        }
        Ok(self.events.pop_front())
    }

    /// Of an episode with a hand in it always; of the policy's own, as closely as the operator
    /// watches by now.
    fn verdict(&mut self) -> Option<bool> {
        let looks = |takeover: &mut TakeoverPolicy| takeover.looks(self.training_fraction.get());
        let knows = self.acted || self.takeover.as_mut().is_some_and(looks);
        knows.then(|| self.simulation.borrow().truth().lifted)
    }
}
