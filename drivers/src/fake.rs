//! Arms that follow commands exactly and a camera that draws where they are: two arms can be
//! walked through the whole robot process without hardware and without physics.

use std::{
    cell::RefCell,
    f64::consts::{PI, TAU},
    rc::Rc,
};

use hilt_kinematics::{Chain, ChainError, Joint, JointKind};
use hilt_protocol::{CameraSpec, GripperCommand, Image, JointVector, noise::Uniforms};
use hilt_sim::Truth;
use nalgebra::{Translation3, Unit, Vector3};

use crate::{
    Arm, ArmError, ArmState, Camera, CameraError, EpisodeStart, Scene, World, WorldError,
    arm::check_target, bars::draw,
};

/// Joints of a fake arm.
const JOINTS: usize = 6;
/// Bent, tool down, away from singular poses.
pub(crate) const HOME: [f64; JOINTS] = [0.0, 0.4, 1.3, 0.0, PI - 0.4 - 1.3, 0.0];
const OPEN_WIDTH_M: f64 = 0.08;
/// Fingers need half a second from open to closed.
const FINGER_M_PER_S: f64 = 0.16;

/// A six-axis arm of about human reach whose tool points down at its home.
pub(crate) fn chain() -> Result<Chain, ChainError> {
    let joint = |z: f64, axis: Vector3<f64>| Joint {
        parent_from_joint: Translation3::new(0.0, 0.0, z).into(),
        axis: Unit::new_normalize(axis),
        kind: JointKind::Revolute,
        lower: -2.6,
        upper: 2.6,
    };
    let (y, z) = (Vector3::y(), Vector3::z());
    let joints = vec![
        joint(0.1, z),
        joint(0.1, y),
        joint(0.3, y),
        joint(0.14, z),
        joint(0.14, y),
        joint(0.05, z),
    ];
    Chain::new(joints, Translation3::new(0.0, 0.0, 0.1).into())
}

#[derive(Clone, Debug)]
struct Body {
    joints: JointVector,
    velocities: JointVector,
    target: JointVector,
    gripper: GripperCommand,
    gripper_width_m: f64,
    faulty: bool,
}

#[derive(Debug)]
struct State {
    now_ns: u64,
    bodies: Vec<Body>,
}

/// A pair (or one, or more) of fake arms on one simulated clock.
#[derive(Clone, Debug)]
pub struct FakeArmPair {
    state: Rc<RefCell<State>>,
    chain: Chain,
    home: JointVector,
}

/// One of the arms.
#[derive(Debug)]
pub struct FakeArm {
    state: Rc<RefCell<State>>,
    chain: Chain,
    index: usize,
    stopped: bool,
}

/// A camera that draws each arm's joints as bars.
#[derive(Debug)]
pub struct FakeCamera {
    state: Rc<RefCell<State>>,
    spec: CameraSpec,
}

impl FakeArmPair {
    /// `arms` arms at home, grippers open.
    pub fn new(arms: usize) -> Result<Self, WorldError> {
        let chain = chain().map_err(|e| WorldError(e.to_string()))?;
        let vector = |values: &[f64]| {
            JointVector::from_slice(values).ok_or_else(|| WorldError("too many joints".to_owned()))
        };
        let home = vector(&HOME)?;
        let body = Body {
            joints: home,
            velocities: vector(&[0.0; JOINTS])?,
            target: home,
            gripper: GripperCommand::Open,
            gripper_width_m: OPEN_WIDTH_M,
            faulty: false,
        };
        let state = State {
            now_ns: 0,
            bodies: vec![body; arms],
        };
        Ok(Self {
            state: Rc::new(RefCell::new(state)),
            chain,
            home,
        })
    }

    /// The devices of arm `index`.
    pub fn arm(&self, index: usize) -> FakeArm {
        FakeArm {
            state: Rc::clone(&self.state),
            chain: self.chain.clone(),
            index,
            stopped: false,
        }
    }

    /// A camera of that name and size.
    pub fn camera(&self, spec: CameraSpec) -> FakeCamera {
        FakeCamera {
            state: Rc::clone(&self.state),
            spec,
        }
    }

    /// From now on the arm answers nothing (or answers again): a pulled cable.
    pub fn set_faulty(&self, index: usize, faulty: bool) {
        if let Some(body) = self.state.borrow_mut().bodies.get_mut(index) {
            body.faulty = faulty;
        }
    }
}

impl World for FakeArmPair {
    fn now_ns(&self) -> u64 {
        self.state.borrow().now_ns
    }

    fn advance_ns(&mut self, duration_ns: u64) -> Result<(), WorldError> {
        let state = &mut *self.state.borrow_mut();
        let dt_s = duration_ns as f64 * 1e-9;
        for body in &mut state.bodies {
            if dt_s > 0.0 {
                let moved = body.joints.as_slice().iter().zip(body.target.as_slice());
                for (velocity, (from, to)) in body.velocities.as_mut_slice().iter_mut().zip(moved) {
                    *velocity = (to - from) / dt_s;
                }
            }
            body.joints = body.target;
            let goal = match body.gripper {
                GripperCommand::Open => OPEN_WIDTH_M,
                GripperCommand::Closed => 0.0,
            };
            let reach = FINGER_M_PER_S * dt_s;
            body.gripper_width_m += (goal - body.gripper_width_m).clamp(-reach, reach);
        }
        state.now_ns += duration_ns;
        Ok(())
    }
}

impl Scene for FakeArmPair {
    fn reset(&mut self, start: EpisodeStart) -> Result<(), WorldError> {
        let mut random = Uniforms::new(start.seed);
        let state = &mut *self.state.borrow_mut();
        for body in &mut state.bodies {
            let mut joints = self.home;
            for q in joints.as_mut_slice() {
                *q += random.range(-0.05, 0.05);
            }
            body.joints = joints;
            body.target = joints;
            body.velocities.as_mut_slice().fill(0.0);
            body.gripper = GripperCommand::Open;
            body.gripper_width_m = OPEN_WIDTH_M;
        }
        Ok(())
    }

    fn truth(&self) -> Option<Truth> {
        None
    }
}

impl FakeArm {
    fn with_body<T>(&self, f: impl FnOnce(&mut Body, u64) -> T) -> Result<T, ArmError> {
        let state = &mut *self.state.borrow_mut();
        let now_ns = state.now_ns;
        match state.bodies.get_mut(self.index) {
            Some(body) if !body.faulty => Ok(f(body, now_ns)),
            _ => Err(ArmError::Device),
        }
    }
}

impl Arm for FakeArm {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn read_state(&mut self, now_ns: u64, _until_ns: u64) -> Result<ArmState, ArmError> {
        self.with_body(|body, world_ns| ArmState {
            captured_ns: world_ns.min(now_ns),
            joints: body.joints,
            velocities: body.velocities,
            gripper_width_m: body.gripper_width_m,
            trouble: None,
        })
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        if self.stopped {
            return Err(ArmError::Stopped);
        }
        check_target(&self.chain, joints)?;
        self.with_body(|body, _| {
            body.target = *joints;
            body.gripper = gripper;
        })
    }

    fn start(&mut self) -> Result<(), ArmError> {
        self.with_body(|_, _| ())?;
        self.stopped = false;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        self.stopped = true;
        self.with_body(|body, _| body.target = body.joints)
    }
}

impl Camera for FakeCamera {
    fn spec(&self) -> &CameraSpec {
        &self.spec
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        let state = self.state.borrow();
        let turns = state.bodies.iter().flat_map(|body| body.joints.as_slice());
        let bars: Vec<f64> = turns.map(|q| q / TAU + 0.5).collect();
        Ok(draw(&self.spec, &bars, state.now_ns))
    }
}
