//! The arm of emulated rigs: six axes and a gripper, seven servos, of about human reach.

use hilt_kinematics::{Chain, ChainError};
use hilt_protocol::JointVector;

use super::{BYTE_NS_1M_BAUD, EmulatedBus, ServoSetup};
use crate::{
    bus::{Direction, Family, GripperServo, JointServo, ServoArmConfig},
    fake,
};

/// Servos 1 to 6 are the joints, base to tip.
const JOINT_IDS: std::ops::RangeInclusive<u8> = 1..=6;
const GRIPPER_ID: u8 = 7;
/// Joints at zero: the middle of a turn.
const ZERO_COUNTS: u16 = 2048;
/// Where a joint falls without torque: a good way below home.
const FALL_COUNTS: f64 = 600.0;

/// Its kinematics: those of the fake arms.
pub fn chain() -> Result<Chain, ChainError> {
    fake::chain()
}

/// Bent, tool down, away from singular poses; radians.
pub fn home() -> Option<JointVector> {
    JointVector::from_slice(&fake::HOME)
}

/// Which servo is which joint.
pub fn config() -> ServoArmConfig {
    let joint = |id| JointServo {
        id,
        zero_counts: ZERO_COUNTS,
        direction: Direction::Along,
    };
    ServoArmConfig {
        family: Family::Sts3215,
        joints: JOINT_IDS.map(joint).collect(),
        gripper: GripperServo {
            id: GRIPPER_ID,
            open_counts: 3000,
            closed_counts: 2000,
            open_width_m: 0.08,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        max_speed_rad_s: 10.0,
    }
}

/// Its bus, at 1 Mbaud: the arm stands at home, the gripper open.
pub fn bus() -> EmulatedBus {
    let config = config();
    let joints = config.joints.iter().zip(fake::HOME).map(|(joint, home)| {
        let counts = f64::from(joint.goal(home));
        ServoSetup {
            id: joint.id,
            counts,
            rest_counts: counts - FALL_COUNTS,
        }
    });
    let counts = f64::from(config.gripper.open_counts);
    let gripper = ServoSetup {
        id: GRIPPER_ID,
        counts,
        // Fingers without torque stay.
        rest_counts: counts,
    };
    let setups: Vec<_> = joints.chain([gripper]).collect();
    EmulatedBus::new(&setups, BYTE_NS_1M_BAUD)
}
