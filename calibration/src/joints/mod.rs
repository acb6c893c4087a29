//! Joints: which counts of its servo are which angle of a joint, written to the servos and to the
//! calibration file, and looked at again at every start.
//!
//! - [`Subject`]: the arm: its servos, its shape, and the pose in which it is held first.
//! - [`Recorder`]: follows one joint by what its servo says, through the end of the sensor's turn.
//! - [`Guide`]: what a person is asked for, step by step: the reference pose, which way is positive, the
//!   ranges, the gripper. Pure; [`View`] is what they see.
//! - [`range`]: whether a range is one of this shape's joint; [`place`]: where it comes to lie in the
//!   servo's turn. What comes of it is a [`Plan`].
//! - [`calibrate`]: the guide with servos and a [`Screen`]; [`write()`]: a plan becomes what the servos keep,
//!   and then the value for the file.
//! - [`check`]: whether servos are those of a file: one question each.
//! - [`lerobot`]: LeRobot's calibration files.

mod check;
mod guide;
mod hint;
pub mod lerobot;
mod place;
mod range;
mod recorder;
mod session;
mod write;

pub use check::{Difference, Mismatch, What, check, known};
pub use guide::{Bar, Do, Event, Guide, NotSetUp, View};
pub use hint::{pose, positive};
pub use place::{Measured, Place, place};
pub use range::{RangeProblem, range};
pub use recorder::{Lost, Recorder};
pub use session::{Key, Screen, SessionError, calibrate};
pub use write::{WriteError, WriteProblem, write};

use hilt_drivers::bus::{Family, Keep, ServoArmConfig};
use hilt_kinematics::Chain;
use hilt_protocol::calibration::Direction;

/// What LeRobot calls the joints of arms of five and of six joints, and so their people do.
const FIVE: [&str; 5] = [
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
];
const SIX: [&str; 6] = [
    "waist",
    "shoulder",
    "elbow",
    "forearm_roll",
    "wrist_angle",
    "wrist_rotate",
];

/// What the gripper is called.
pub const GRIPPER: &str = "gripper";

/// An arm whose joints are calibrated.
#[derive(Clone, Debug)]
pub struct Subject {
    family: Family,
    chain: Chain,
    names: Vec<String>,
    ids: Vec<u8>,
    reference_rad: Vec<f64>,
}

/// Why there is no such arm.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SubjectError {
    /// Servos and joints do not match.
    #[error("the shape has {joints} joints and the rig's file names {servos} servos for them")]
    Joints {
        /// The shape's.
        joints: usize,
        /// The file's.
        servos: usize,
    },
    /// The reference pose has another number of joints, or is outside their limits.
    #[error(
        "the reference pose {0:?} is none of this shape: it needs an angle within its limits for each joint"
    )]
    Reference(Vec<f64>),
}

impl Subject {
    /// The arm of these servos with this shape. `reference_rad`: the pose in which it is held first,
    /// radians, base to tip; the shape's zero where none is given.
    pub fn new(
        servos: &ServoArmConfig,
        chain: Chain,
        reference_rad: Option<&[f64]>,
    ) -> Result<Self, SubjectError> {
        let joints = chain.dof();
        if servos.joints.len() != joints {
            return Err(SubjectError::Joints {
                joints,
                servos: servos.joints.len(),
            });
        }
        let zeros = vec![0.0; joints];
        let reference = reference_rad.unwrap_or(&zeros);
        let inside = reference.iter().zip(chain.joints());
        let inside = inside.filter(|(q, joint)| (joint.lower..=joint.upper).contains(*q));
        if reference.len() != joints || inside.count() != joints {
            return Err(SubjectError::Reference(reference.to_vec()));
        }
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = match joints {
            5 => named(&FIVE),
            6 => named(&SIX),
            _ => (1..=joints).map(|i| format!("joint_{i}")).collect(),
        };
        Ok(Self {
            family: servos.family,
            names,
            ids: servos.ids().collect(),
            reference_rad: reference.to_vec(),
            chain,
        })
    }

    /// What its servos are.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its shape.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Its joints' names, base to tip.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Ids of its servos: the joints', base to tip, then the gripper's.
    pub fn ids(&self) -> &[u8] {
        &self.ids
    }

    /// What servo number `place` turns.
    pub fn name(&self, place: usize) -> &str {
        self.names.get(place).map_or(GRIPPER, String::as_str)
    }

    fn gripper_id(&self) -> u8 {
        self.ids.last().copied().unwrap_or(0)
    }
}

/// What a calibration makes of an arm: what its servos shall keep, and what their counts mean then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What its servos are.
    pub family: Family,
    /// Base to tip.
    pub joints: Vec<PlannedJoint>,
    /// The gripper.
    pub gripper: PlannedGripper,
}

/// One joint of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedJoint {
    /// What people call it.
    pub name: String,
    /// Its servo.
    pub id: u8,
    /// What the servo reports when the joint is at zero, counts.
    pub zero_counts: u16,
    /// Which way its counts grow.
    pub direction: Direction,
    /// What the servo keeps.
    pub keep: Keep,
}

/// The gripper of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedGripper {
    /// Its servo.
    pub id: u8,
    /// What the servo reports when it is open, counts.
    pub open_counts: u16,
    /// The same for closed.
    pub closed_counts: u16,
    /// What the servo keeps.
    pub keep: Keep,
}
