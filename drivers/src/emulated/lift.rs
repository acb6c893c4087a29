//! The lift scene in real time with an arm of bus servos: MuJoCo moves the joints, the servos on an
//! emulated bus say where to.
//!
//! Whoever drives the arm has nothing but the bus, as with a real one. So an episode does not begin
//! with an arm that is suddenly elsewhere: the cube is taken away, the arm is driven home, the cube
//! comes to its place.

use hilt_kinematics::Chain;
use hilt_protocol::JointVector;
use hilt_sim::{ArmKind, Motion, SceneConfig, Servos, SimHandle, SimThread, Start, Truth};

use super::{BYTE_NS_1M_BAUD, BusHandle, EmulatedBus, ServoSetup};
use crate::{
    EpisodeStart, Scene, WorldError,
    bus::{
        Direction, Family, GripperServo, JointServo, ServoArmConfig, sts3215::counts_from_radians,
    },
    sim::{LiveLift, world_error},
};

/// Joints at zero, and the jaw closed: the middle of a turn.
const ZERO_COUNTS: u16 = 2048;

/// How far aside the cube waits while the arm is driven home, metres from the centre of the work area.
const ASIDE_M: f64 = 0.24;

/// Which servo is which joint of a scene's arm; `None`: it is not of servos. Ids are those of LeRobot's
/// SO-101 and Koch: 1 to 5 base to tip, 6 the gripper.
pub fn lift_config(arm: ArmKind) -> Option<ServoArmConfig> {
    let family = match arm {
        ArmKind::Desk6 => return None,
        ArmKind::So101 => Family::Sts3215,
        ArmKind::Koch => Family::DynamixelX,
    };
    let jaw = arm.jaw()?;
    let joint = |id| JointServo {
        id,
        zero_counts: ZERO_COUNTS,
        direction: Direction::Along,
    };
    let last = u8::try_from(arm.joints()).ok()?;
    let open = counts_from_radians(jaw.open_rad).round();
    Some(ServoArmConfig {
        family,
        joints: (1..=last).map(joint).collect(),
        gripper: GripperServo {
            id: last + 1,
            open_counts: ZERO_COUNTS + open as u16,
            closed_counts: ZERO_COUNTS,
            open_width_m: jaw.open_width_m,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        // The physics may stand still while it draws a picture, and then catches up.
        max_speed_rad_s: 30.0,
    })
}

/// The bus of such an arm, at 1 Mbaud, its joints at zero until somebody drives them.
pub fn lift_bus(config: &ServoArmConfig) -> EmulatedBus {
    let setup = |id| ServoSetup {
        id,
        counts: f64::from(ZERO_COUNTS),
        rest_counts: 0.0,
    };
    let setups: Vec<_> = config.ids().map(setup).collect();
    let mut bus = EmulatedBus::of(config.family, &setups, BYTE_NS_1M_BAUD);
    bus.set_driven(true);
    bus
}

/// The servos of an emulated bus, as the physics sees them.
pub struct BusServos {
    bus: BusHandle,
    servos: Vec<Placed>,
}

struct Placed {
    joint: JointServo,
    /// Where somebody holds the joint until its torque is on for the first time, radians.
    held: Option<f64>,
    was_on: bool,
}

impl BusServos {
    /// The servos of `bus`, which are `config`'s.
    pub fn new(config: &ServoArmConfig, bus: BusHandle) -> Self {
        let jaw = JointServo {
            id: config.gripper.id,
            zero_counts: config.gripper.closed_counts,
            direction: Direction::Along,
        };
        let joints = config.joints.iter().copied().chain([jaw]);
        let servos = joints.map(|joint| Placed {
            joint,
            held: None,
            was_on: false,
        });
        Self {
            bus,
            servos: servos.collect(),
        }
    }
}

impl Servos for BusServos {
    fn goals(&mut self, goals: &mut [Option<f64>]) {
        let servos = &mut self.servos;
        self.bus.look(|bus| {
            for (goal, servo) in goals.iter_mut().zip(servos) {
                *goal = match bus.servo(servo.joint.id) {
                    Some(view) if view.torque => {
                        servo.was_on = true;
                        Some(servo.joint.radians(view.goal_counts as i32))
                    }
                    _ if servo.was_on => None,
                    _ => servo.held,
                };
            }
        });
    }

    fn moved(&mut self, motions: &[Motion]) {
        let servos = &mut self.servos;
        self.bus.look(|bus| {
            for (motion, servo) in motions.iter().zip(servos) {
                let counts = servo.joint.counts(motion.position);
                let sign = servo.joint.sign();
                let counts_per_s = sign * counts_from_radians(motion.velocity);
                bus.drive(servo.joint.id, counts, counts_per_s);
                servo.held.get_or_insert(motion.position);
            }
        });
    }
}

/// The lift scene in real time, its arm driven by the servos of an emulated bus.
#[derive(Clone)]
pub struct BusLift {
    live: LiveLift,
    handle: SimHandle,
    arm: ArmKind,
}

impl BusLift {
    /// Builds the scene and lets its time run. The servos of `bus` are `servos`'.
    pub fn new(
        scene: &SceneConfig,
        servos: &ServoArmConfig,
        bus: BusHandle,
    ) -> Result<Self, WorldError> {
        let servos = Box::new(BusServos::new(servos, bus));
        let handle = SimThread::spawn_with(scene.clone(), servos).map_err(world_error)?;
        Ok(Self {
            live: LiveLift::of(handle.clone(), scene)?,
            handle,
            arm: scene.arm,
        })
    }

    /// The arm's kinematics.
    pub fn chain(&self) -> &Chain {
        self.handle.chain()
    }

    /// The same scene, for its cameras and its operator.
    pub fn live(&self) -> &LiveLift {
        &self.live
    }

    fn start(&self, start: EpisodeStart) -> Start {
        self.arm.task().random_start(start.range_m, start.seed)
    }
}

impl Scene for BusLift {
    fn reset(&mut self, start: EpisodeStart) -> Result<(), WorldError> {
        let mut aside = self.start(start);
        let [x, y] = self.arm.task().centre_xy_m;
        aside.cube_xy_m = [x, y + ASIDE_M];
        self.handle.put_cube(aside).map_err(world_error)
    }

    fn home(&self, start: EpisodeStart) -> Result<Option<JointVector>, WorldError> {
        let home = self.handle.home(self.start(start)).map_err(world_error)?;
        Ok(Some(home))
    }

    fn arm_is_home(&mut self, start: EpisodeStart) -> Result<(), WorldError> {
        let start = self.start(start);
        self.handle.put_cube(start).map_err(world_error)
    }

    fn truth(&self) -> Option<Truth> {
        self.handle.truth().ok()
    }
}
