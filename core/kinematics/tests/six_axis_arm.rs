//! A six-axis arm: Jacobian against differences, inverse against forward.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_kinematics::{Chain, ChainError, Ik, IkOptions, Joint, JointKind};
use hilt_protocol::JointVector;
use nalgebra::{Isometry3, Translation3, Vector3};
use proptest::prelude::*;

fn arm() -> Chain {
    let joint = |z: f64, axis: Vector3<f64>| Joint {
        parent_from_joint: Translation3::new(0.0, 0.0, z).into(),
        axis: nalgebra::Unit::new_normalize(axis),
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
    Chain::new(joints, Translation3::new(0.0, 0.0, 0.1).into()).unwrap()
}

fn joints() -> impl Strategy<Value = [f64; 6]> {
    // Bent at elbow and wrist, as a working arm is: away from the singular straight pose.
    (
        -1.5..1.5f64,
        -0.5..0.8f64,
        0.6..2.0f64,
        -0.8..0.8f64,
        0.6..1.8f64,
        -1.5..1.5f64,
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f])
}

proptest! {
    #[test]
    fn the_jacobian_is_the_derivative(q in joints()) {
        let chain = arm();
        let (tool, jacobian) = chain.jacobian(&q);
        let h = 1e-6;
        for i in 0..6 {
            let mut moved = q;
            moved[i] += h;
            let next = chain.base_from_tool(&moved);
            let linear = (next.translation.vector - tool.translation.vector) / h;
            let angular = (next.rotation * tool.rotation.inverse()).scaled_axis() / h;
            prop_assert!((linear - jacobian.fixed_view::<3, 1>(0, i)).norm() < 1e-5);
            prop_assert!((angular - jacobian.fixed_view::<3, 1>(3, i)).norm() < 1e-5);
        }
        prop_assert_eq!(jacobian.column(6).norm(), 0.0);
    }

    #[test]
    fn a_near_target_is_met(q in joints(), d in prop::array::uniform6(-0.05..0.05f64)) {
        let chain = arm();
        let goal = chain.base_from_tool(&std::array::from_fn::<_, 6, _>(|i| q[i] + d[i]));
        let options = IkOptions { iterations: 40, damping: 1e-6, ..IkOptions::default() };
        let solution = Ik::new(chain, options).solve(&goal, &JointVector::from_slice(&q).unwrap());
        prop_assert!(solution.position_error_m < 1e-4, "{:?}", solution);
        prop_assert!(solution.rotation_error_rad < 1e-3, "{:?}", solution);
    }

    #[test]
    fn an_unreachable_target_ends_within_limits(q in joints(), x in -5.0..5.0f64, y in -5.0..5.0f64, z in -5.0..5.0f64) {
        let ik = Ik::new(arm(), IkOptions::default());
        let goal = Isometry3::translation(x, y, z);
        let solution = ik.solve(&goal, &JointVector::from_slice(&q).unwrap());
        for (q, joint) in solution.joints.as_slice().iter().zip(ik.chain().joints()) {
            prop_assert!(q.is_finite() && (joint.lower..=joint.upper).contains(q));
        }
    }
}

#[test]
fn a_target_that_is_not_a_number_moves_nothing() {
    let q = [0.1, 0.2, 1.0, 0.0, 1.0, 0.0];
    let start = JointVector::from_slice(&q).unwrap();
    let solution = Ik::new(arm(), IkOptions::default())
        .solve(&Isometry3::translation(f64::NAN, 0.0, 0.0), &start);
    assert_eq!(solution.joints, start);
}

#[test]
fn joints_that_make_no_chain_are_refused() {
    let mut joints = arm().joints().to_vec();
    joints[2].lower = 3.0;
    assert_eq!(
        Chain::new(joints, Isometry3::identity()),
        Err(ChainError::Limits(2, 3.0, 2.6))
    );
    assert_eq!(
        Chain::new(Vec::new(), Isometry3::identity()),
        Err(ChainError::Joints(0))
    );
}
