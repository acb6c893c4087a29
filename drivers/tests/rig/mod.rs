//! An arm of six emulated servos.

use hilt_drivers::{
    bus::{Direction, Family, GripperServo, JointServo, ServoArm, ServoArmConfig, Wire},
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, ServoSetup},
};
use hilt_kinematics::{Chain, Joint, JointKind};
use nalgebra::{Isometry3, Translation3, Vector3};

/// Servos 1 to 6, bent upright; without torque they would fall.
pub fn bus(family: Family) -> EmulatedBus {
    let setup = |id| ServoSetup {
        id,
        counts: 2048.0,
        rest_counts: 1200.0,
    };
    EmulatedBus::of(family, &[1, 2, 3, 4, 5, 6].map(setup), BYTE_NS_1M_BAUD)
}

/// An arm on such a bus.
pub fn arm<W: Wire>(family: Family, wire: W) -> ServoArm<W> {
    let joint = Joint {
        parent_from_joint: Translation3::new(0.0, 0.0, 0.1).into(),
        axis: Vector3::y_axis(),
        kind: JointKind::Revolute,
        lower: -1.5,
        upper: 1.5,
    };
    let chain = Chain::new(vec![joint; 5], Isometry3::identity()).unwrap();
    let joint = |id| JointServo {
        id,
        zero_counts: 2048,
        direction: Direction::Along,
    };
    let config = ServoArmConfig {
        family,
        joints: (1..=5).map(joint).collect(),
        gripper: GripperServo {
            id: 6,
            open_counts: 3000,
            closed_counts: 2000,
            open_width_m: 0.1,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        max_speed_rad_s: 12.0,
    };
    ServoArm::new(wire, chain, config).unwrap()
}
