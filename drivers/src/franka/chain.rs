//! The kinematics of a Franka arm.
//!
//! Source: "Robot limits" and "Denavit–Hartenberg parameters" of Franka's FCI documentation. Panda
//! (FER) and FR3 differ in their limits only.

use std::f64::consts::FRAC_PI_2;

use hilt_kinematics::{Chain, ChainError, Joint, JointKind};
use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};

use super::Model;

/// Joints of the arm.
pub const JOINTS: usize = 7;

/// Craig's parameters: a of the link before (m), d (m), α of the link before (rad). θ is the joint.
const DH: [(f64, f64, f64); JOINTS] = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -FRAC_PI_2),
    (0.0, 0.316, FRAC_PI_2),
    (0.0825, 0.0, FRAC_PI_2),
    (-0.0825, 0.384, -FRAC_PI_2),
    (0.0, 0.0, FRAC_PI_2),
    (0.088, 0.0, FRAC_PI_2),
];

/// From the last joint's frame to the flange, along z, metres.
pub(super) const FLANGE_M: f64 = 0.107;

/// Lower and upper limits, radians.
const PANDA: [(f64, f64); JOINTS] = [
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
];

const FR3: [(f64, f64); JOINTS] = [
    (-2.7437, 2.7437),
    (-1.7837, 1.7837),
    (-2.9007, 2.9007),
    (-3.0421, -0.1518),
    (-2.8065, 2.8065),
    (0.5445, 4.5169),
    (-3.0159, 3.0159),
];

/// The arm, with a tool that is placed so in its flange's frame.
pub fn chain(model: Model, flange_from_tool: &Isometry3<f64>) -> Result<Chain, ChainError> {
    let limits = match model {
        Model::Panda => PANDA,
        Model::Fr3 => FR3,
    };
    let joints = DH
        .iter()
        .zip(limits)
        .map(|(&(a, d, alpha), (lower, upper))| {
            let about_x = UnitQuaternion::from_axis_angle(&Vector3::x_axis(), alpha);
            Joint {
                parent_from_joint: Isometry3::from_parts(Translation3::new(a, 0.0, 0.0), about_x)
                    * Translation3::new(0.0, 0.0, d),
                axis: Vector3::z_axis(),
                kind: JointKind::Revolute,
                lower,
                upper,
            }
        });
    let flange = Translation3::new(0.0, 0.0, FLANGE_M);
    Chain::new(joints.collect(), flange * flange_from_tool)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_4, PI};

    use super::*;

    /// The ready pose, and where libfranka, MoveIt and Franka's URDF have the flange there.
    #[test]
    fn the_flange_is_where_franka_says() {
        let ready = [
            0.0,
            -FRAC_PI_4,
            0.0,
            -3.0 * FRAC_PI_4,
            0.0,
            FRAC_PI_2,
            FRAC_PI_4,
        ];
        for model in [Model::Panda, Model::Fr3] {
            let chain = chain(model, &Isometry3::identity()).unwrap();
            let pose = chain.base_from_tool(&ready);
            let expected = Vector3::new(0.306891, 0.0, 0.590282);
            assert!((pose.translation.vector - expected).norm() < 1e-5, "{pose}");
            // Down, and its x axis an eighth of a turn off, which the hand is mounted against.
            let down = UnitQuaternion::from_axis_angle(&Vector3::x_axis(), PI);
            let eighth = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), FRAC_PI_4);
            assert!(pose.rotation.angle_to(&(down * eighth)) < 1e-6, "{pose}");
        }
        let zero = chain(Model::Panda, &Isometry3::identity()).unwrap();
        let pose = zero.base_from_tool(&[0.0; JOINTS]);
        let expected = Vector3::new(0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107);
        assert!(
            (pose.translation.vector - expected).norm() < 1e-12,
            "{pose}"
        );
    }
    /// What the tests and the bench of `core/kinematics` claim of an FR3, they claim of this one.
    #[test]
    fn the_urdf_of_the_kinematics_tests_is_this_arm() {
        let text = include_str!("../../../core/kinematics/tests/arms/fr3.urdf");
        let theirs = Chain::from_urdf(text, "base", "flange").unwrap();
        let ours = chain(Model::Fr3, &Isometry3::identity()).unwrap();
        for (ours, theirs) in ours.joints().iter().zip(theirs.joints()) {
            assert_eq!((ours.lower, ours.upper), (theirs.lower, theirs.upper));
        }
        let q = [0.3, -0.5, 0.7, -1.9, -1.1, 2.0, 0.4];
        let (a, b) = (ours.base_from_tool(&q), theirs.base_from_tool(&q));
        assert!((a.to_homogeneous() - b.to_homogeneous()).amax() < 1e-12);
    }
}
