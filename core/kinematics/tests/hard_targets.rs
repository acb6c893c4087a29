//! Inverse kinematics where it is hard: few iterations, out of reach, at limits, bad numbers.

use hilt_kinematics::{Chain, Ik, IkOptions, IkSolution, Joint, JointKind};
use hilt_protocol::JointVector;
use nalgebra::{Isometry3, Translation3, Unit, UnitQuaternion, Vector3};
use proptest::prelude::*;

fn joint(xyz: [f64; 3], axis: Vector3<f64>, lower: f64, upper: f64) -> Joint {
    Joint {
        parent_from_joint: Translation3::from(Vector3::from(xyz)).into(),
        axis: Unit::new_normalize(axis),
        kind: JointKind::Revolute,
        lower,
        upper,
    }
}

/// A tabletop arm whose wrist pitches, rolls and yaws; at zero its tool points down.
fn arm() -> Ik {
    let joints = vec![
        joint([0.0, 0.0, 0.1], Vector3::z(), -2.9, 2.9),
        joint([0.0, 0.0, 0.2], Vector3::y(), -1.8, 1.8),
        joint([0.0, 0.0, 0.36], Vector3::y(), -1.5, 2.2),
        joint([0.34, 0.0, 0.0], Vector3::y(), -2.5, 2.5),
        joint([0.0, 0.0, -0.05], Vector3::x(), -2.0, 2.0),
        joint([0.0, 0.0, -0.05], -Vector3::z(), -2.9, 2.9),
    ];
    let down = UnitQuaternion::from_axis_angle(&Vector3::x_axis(), std::f64::consts::PI);
    let tool = Isometry3::from_parts(Translation3::new(0.0, 0.0, -0.13), down);
    let chain = Chain::new(joints, tool).expect("six joints with limits");
    Ik::new(chain, IkOptions::default())
}

fn vector(q: &[f64]) -> JointVector {
    JointVector::from_slice(q).expect("at most seven joints")
}

fn within_limits(ik: &Ik, solution: &IkSolution) -> bool {
    let q = solution.joints.as_slice();
    q.len() == ik.chain().dof()
        && q.iter()
            .zip(ik.chain().joints())
            .all(|(q, joint)| (joint.lower..=joint.upper).contains(q))
}

fn badness(solution: &IkSolution) -> f64 {
    solution.position_error_m.hypot(solution.rotation_error_rad)
}

#[test]
fn the_tool_is_where_the_drawing_says() {
    let ik = arm();
    let tool = ik.chain().base_from_tool(&[0.0; 6]);
    assert!((tool.translation.vector - Vector3::new(0.34, 0.0, 0.43)).norm() < 1e-12);
    assert!((tool.rotation * Vector3::z() + Vector3::z()).norm() < 1e-12);
    let quarter =
        ik.chain()
            .base_from_tool(&[std::f64::consts::FRAC_PI_2, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert!((quarter.translation.vector - Vector3::new(0.0, 0.34, 0.43)).norm() < 1e-12);
}

#[test]
fn a_slide_and_a_turned_joint_differentiate_too() {
    let mut slide = joint([0.1, 0.0, 0.0], Vector3::new(0.3, -0.2, 1.0), -0.2, 0.4);
    slide.kind = JointKind::Prismatic;
    let mut turned = joint([0.0, 0.1, 0.3], Vector3::new(1.0, 0.5, 0.0), -2.0, 2.0);
    turned.parent_from_joint.rotation = UnitQuaternion::from_euler_angles(0.3, -0.8, 1.1);
    let first = joint([0.0; 3], Vector3::z(), -3.0, 3.0);
    let chain = Chain::new(
        vec![first, slide, turned],
        Isometry3::translation(0.2, -0.1, 0.05),
    )
    .unwrap();
    let q = [0.4, 0.1, -0.9];
    let (_, jacobian) = chain.jacobian(&q);
    let h = 1e-6;
    for i in 0..3 {
        let at = |d: f64| {
            let mut q = q;
            q[i] += d;
            chain.base_from_tool(&q)
        };
        let (minus, plus) = (at(-h), at(h));
        let linear = (plus.translation.vector - minus.translation.vector) / (2.0 * h);
        let angular = (plus.rotation * minus.rotation.inverse()).scaled_axis() / (2.0 * h);
        assert!((jacobian.fixed_view::<3, 1>(0, i) - linear).norm() < 1e-8);
        assert!((jacobian.fixed_view::<3, 1>(3, i) - angular).norm() < 1e-8);
    }
}

proptest! {
    /// A policy step away, within the default's twelve iterations.
    #[test]
    fn a_neighbouring_pose_is_reached(
        pan in -1.0f64..1.0,
        lift in -0.4f64..0.6,
        elbow in -0.3f64..1.0,
        tilt in -0.3f64..0.3,
        roll in -0.4f64..0.4,
        yaw in -1.0f64..1.0,
        away in prop::array::uniform6(-0.08f64..0.08),
    ) {
        let ik = arm();
        let there = [pan, lift, elbow, tilt - lift - elbow, roll, yaw];
        let start: [f64; 6] = std::array::from_fn(|i| there[i] + away[i]);
        let goal = ik.chain().base_from_tool(&there);
        let solution = ik.solve(&goal, &vector(&start));
        prop_assert!(within_limits(&ik, &solution));
        prop_assert!(solution.position_error_m < 1e-4, "{solution:?}");
        prop_assert!(solution.rotation_error_rad < 1e-3, "{solution:?}");
        // The residual is the truth.
        let reached = ik.chain().base_from_tool(solution.joints.as_slice());
        let off = (reached.translation.vector - goal.translation.vector).norm();
        prop_assert!((off - solution.position_error_m).abs() < 1e-9);
    }

    /// Whatever is asked for, the answer is within limits and no worse than the start, and asking
    /// again from it never makes it worse.
    #[test]
    fn whatever_is_asked_for_it_never_gets_worse(
        at in prop::array::uniform3(-3.0f64..3.0),
        turn in prop::array::uniform3(-1.7f64..1.7),
        start in prop::array::uniform6(-4.0f64..4.0),
    ) {
        let ik = arm();
        let goal = Isometry3::new(Vector3::from(at), Vector3::from(turn));
        let start = vector(&start);
        let mut clamped = start;
        ik.chain().clamp(clamped.as_mut_slice());
        let tool = ik.chain().base_from_tool(clamped.as_slice());
        let off = (goal.translation.vector - tool.translation.vector).norm();
        let at_start = off.hypot(goal.rotation.angle_to(&tool.rotation));
        let mut solution = ik.solve(&goal, &start);
        prop_assert!(within_limits(&ik, &solution));
        prop_assert!(badness(&solution) <= at_start + 1e-6);
        for _ in 0..5 {
            let next = ik.solve(&goal, &solution.joints);
            prop_assert!(within_limits(&ik, &next));
            prop_assert!(badness(&next) <= badness(&solution) + 1e-9);
            solution = next;
        }
    }
}

#[test]
fn beyond_the_reach_the_arm_stretches_without_a_jump() {
    let ik = arm();
    let mut q = ik.chain().zeros();
    let mut goal = ik.chain().base_from_tool(q.as_slice());
    let mut left = 0.0;
    for step in 0..60 {
        goal.translation.x += 0.025;
        let solution = ik.solve(&goal, &q);
        let moved = solution
            .joints
            .as_slice()
            .iter()
            .zip(q.as_slice())
            .fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
        assert!(moved < 0.8, "a joint jumped by {moved} rad at step {step}");
        q = solution.joints;
        left = solution.position_error_m;
    }
    // The goal is at x = 1.84; the arm, stretched, ends between 0.6 and 1.
    let tool = ik.chain().base_from_tool(q.as_slice()).translation.vector;
    assert!(tool.x > 0.6 && tool.x < 1.0, "{tool}");
    assert!((left - (goal.translation.vector - tool).norm()).abs() < 1e-9);
}

#[test]
fn a_joint_at_its_limit_leaves_the_work_to_the_others() {
    // Two slides along x, the first nearly at its end.
    let slide = |upper| {
        let mut slide = joint([0.0; 3], Vector3::x(), -1.0, upper);
        slide.kind = JointKind::Prismatic;
        slide
    };
    let chain = Chain::new(vec![slide(0.01), slide(1.0)], Isometry3::identity()).unwrap();
    let ik = Ik::new(chain, IkOptions::default());
    let solution = ik.solve(&Isometry3::translation(0.2, 0.0, 0.0), &vector(&[0.0, 0.0]));
    assert!(solution.position_error_m < 1e-3, "{solution:?}");
    assert_eq!(solution.joints.as_slice()[0], 0.01);
}

#[test]
fn bad_numbers_do_not_spread() {
    let ik = arm();
    let start = vector(&[0.1, 0.2, 0.3, -0.5, 0.0, 0.4]);
    let mut goal = ik.chain().base_from_tool(start.as_slice());
    let solution = ik.solve(&goal, &vector(&[f64::NAN; 6]));
    assert!(within_limits(&ik, &solution));
    // Too short a start counts as zeros.
    assert!(within_limits(&ik, &ik.solve(&goal, &vector(&[0.1]))));
    goal.translation.x = f64::INFINITY;
    let solution = ik.solve(&goal, &start);
    assert_eq!(solution.joints, start);
    assert_eq!(solution.position_error_m, f64::INFINITY);
}
