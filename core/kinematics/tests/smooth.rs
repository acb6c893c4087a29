//! Where a pose cannot be had, or not without a leap: singular arms, goals out of reach, arms that
//! have too few joints for it, and the freedom of those that have more than enough.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod arms;

use arms::{ARMS, anywhere, arm};
use hilt_kinematics::{Chain, Ik, IkOptions, IkSolution, LEVER_M, LEVER_SHORT_M};
use hilt_protocol::{JointVector, noise::Uniforms};
use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};
use proptest::prelude::*;

fn vector(q: &[f64]) -> JointVector {
    JointVector::from_slice(q).unwrap()
}

fn farthest(a: &JointVector, b: &JointVector) -> f64 {
    let ways = a.as_slice().iter().zip(b.as_slice());
    ways.fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

fn within_limits(chain: &Chain, solution: &IkSolution) -> bool {
    let mut joints = solution.joints.as_slice().iter().zip(chain.joints());
    joints.all(|(q, joint)| (joint.lower..=joint.upper).contains(q))
}

/// What the solver is to make least: metres, and radians by the arm's lever.
fn badness(chain: &Chain, goal: &Isometry3<f64>, q: &JointVector) -> f64 {
    let lever_m = if chain.dof() < 6 {
        LEVER_SHORT_M
    } else {
        LEVER_M
    };
    let tool = chain.base_from_tool(q.as_slice());
    let off_m = (tool.translation.vector - goal.translation.vector).norm();
    off_m.hypot(lever_m * tool.rotation.angle_to(&goal.rotation))
}

fn middle(chain: &Chain) -> JointVector {
    let joints = chain.joints().iter();
    let middle: Vec<f64> = joints
        .map(|joint| (joint.lower + joint.upper) / 2.0)
        .collect();
    vector(&middle)
}

proptest! {
    /// Along a straight line from anywhere to two metres away and back, turning: through whatever
    /// singularities and limits lie there, and out of reach.
    #[test]
    fn no_walk_makes_a_joint_jump(
        which in 0usize..3,
        seed in any::<u64>(),
        along in prop::array::uniform3(-1.0f64..1.0),
        turn in prop::array::uniform3(-1.5f64..1.5),
        with_posture in any::<bool>(),
    ) {
        let chain = arm(ARMS[which].0);
        let posture = with_posture.then(|| middle(&chain));
        let options = IkOptions { posture, ..IkOptions::default() };
        let ik = Ik::new(chain, options);
        let mut q = anywhere(ik.chain(), &mut Uniforms::new(seed));
        let from = ik.chain().base_from_tool(q.as_slice());
        let (along, turn) = (Vector3::from(along), Vector3::from(turn));
        for step in 0..200 {
            let share = f64::from(if step < 100 { step } else { 200 - step }) / 100.0;
            let rotation = UnitQuaternion::from_scaled_axis(turn * share) * from.rotation;
            let at = from.translation.vector + along * 2.0 * share;
            let goal = Isometry3::from_parts(at.into(), rotation);
            let solution = ik.solve(&goal, &q);
            prop_assert!(within_limits(ik.chain(), &solution));
            let moved = farthest(&solution.joints, &q);
            prop_assert!(moved <= options.largest_move + 1e-12, "{moved} rad at step {step}");
            q = solution.joints;
        }
    }
}

/// Desk6 with its wrist at the singularity: roll at a right angle makes pan's, pitch's and yaw's axes
/// dependent. The tool passes it by a hair's breadth, where exact joints would spin by half a turn.
#[test]
fn through_a_singular_wrist_the_tool_goes_on() {
    let ik = Ik::new(arm("desk6"), IkOptions::default());
    let q = |roll: f64| vector(&[0.2, 0.4, 0.3, -0.5, roll, 0.1]);
    let through = ik
        .chain()
        .base_from_tool(q(std::f64::consts::FRAC_PI_2).as_slice());
    let mut joints = q(1.2);
    let from = ik.chain().base_from_tool(joints.as_slice());
    let axis = (through.rotation * from.rotation.inverse()).scaled_axis();
    // Aside of the exact way by 2 mrad.
    let aside = UnitQuaternion::from_scaled_axis(axis.cross(&Vector3::z()).normalize() * 2e-3);
    let (mut worst_m, mut behind) = (0.0f64, 0);
    for step in 0..=80 {
        let share = f64::from(step) / 40.0;
        let rotation = aside * UnitQuaternion::from_scaled_axis(axis * share) * from.rotation;
        let way = through.translation.vector - from.translation.vector;
        let at = from.translation.vector + way * share;
        let solution = ik.solve(&Isometry3::from_parts(at.into(), rotation), &joints);
        assert!(farthest(&solution.joints, &joints) <= 0.5 + 1e-12);
        joints = solution.joints;
        worst_m = worst_m.max(solution.position_error_m);
        behind += usize::from(solution.rotation_error_rad > 1e-3);
    }
    assert!(worst_m < 5e-3, "{worst_m}");
    assert!(behind < 20, "behind in {behind} steps of 81");
}

#[test]
fn out_of_reach_the_tool_is_as_near_as_it_can_be_and_comes_back() {
    for (name, start) in [
        ("so101", &[0.0, 0.3, 0.3, 0.6, 0.0][..]),
        ("desk6", &[0.0, 0.3, 0.6, -0.9, 0.0, 0.0][..]),
        ("fr3", &[0.0, -0.3, 0.0, -2.2, 0.0, 1.9, 0.785][..]),
    ] {
        let ik = Ik::new(arm(name), IkOptions::default());
        let from = ik.chain().base_from_tool(start);
        let mut q = vector(start);
        let mut last_m = f64::INFINITY;
        let mut most = 0.0f64;
        // 1 m forward, and still there for a while.
        let out = (0..250).map(|i| f64::from(i.min(200)) * 0.005);
        for away in out {
            let solution = ik.solve(&(Translation3::new(away, 0.0, 0.0) * from), &q);
            most = most.max(farthest(&solution.joints, &q));
            q = solution.joints;
            last_m = solution.position_error_m;
        }
        assert!(most < 0.35, "{name}: a joint moved by {most} at once");
        // It has come to rest, and nowhere near is it any better.
        let goal = Translation3::new(1.0, 0.0, 0.0) * from;
        let again = ik.solve(&goal, &q);
        assert!(farthest(&again.joints, &q) < 1e-3, "{name}: {again:?}");
        let here = badness(ik.chain(), &goal, &q);
        for (i, joint) in ik.chain().joints().iter().enumerate() {
            for by in [-0.01, 0.01] {
                let mut near = q;
                let value = (near.as_slice()[i] + by).clamp(joint.lower, joint.upper);
                near.as_mut_slice()[i] = value;
                assert!(
                    badness(ik.chain(), &goal, &near) > here - 1e-6,
                    "{name}: joint {i}"
                );
            }
        }
        assert!(last_m > 0.1, "{name} reaches too far for this test");
        for away in (0..=200).rev() {
            let goal = Translation3::new(f64::from(away) * 0.005, 0.0, 0.0) * from;
            let solution = ik.solve(&goal, &q);
            assert!(farthest(&solution.joints, &q) <= 0.5 + 1e-12);
            q = solution.joints;
        }
        let back = ik.chain().base_from_tool(q.as_slice());
        let off_m = (back.translation.vector - from.translation.vector).norm();
        assert!(off_m < 1e-4, "{name}: {off_m}");
    }
}

/// The SO-101 with its tool tilted, told to go aside with its orientation kept: that takes a sixth
/// joint. The policy's columns are x, y and z: they are to be met, and the hand may turn.
#[test]
fn five_joints_put_the_position_first() {
    let ik = Ik::new(arm("so101"), IkOptions::default());
    let mut q = vector(&[0.0, 0.3, 0.3, 0.2, 0.0]);
    let from = ik.chain().base_from_tool(q.as_slice());
    for step in 1..=8 {
        let goal = Translation3::new(0.0, f64::from(step) * 0.01, 0.0) * from;
        let solution = ik.solve(&goal, &q);
        assert!(
            solution.position_error_m < 3e-4,
            "step {step}: {solution:?}"
        );
        q = solution.joints;
    }
    let turned = ik
        .chain()
        .base_from_tool(q.as_slice())
        .rotation
        .angle_to(&from.rotation);
    assert!(
        turned > 0.1,
        "{turned}: this was to be more than it can keep"
    );
}

/// Beyond its reach an arm that could have every pose stops, its tool as it was.
#[test]
fn six_joints_keep_the_orientation_at_the_edge_of_the_reach() {
    let ik = Ik::new(arm("desk6"), IkOptions::default());
    let mut q = vector(&[0.0, 0.6, 0.3, -0.9, 0.0, 0.0]);
    let from = ik.chain().base_from_tool(q.as_slice());
    let mut beyond_m = 0.0;
    for step in 1..=100 {
        let goal = Translation3::new(f64::from(step) * 0.005, 0.0, 0.0) * from;
        let solution = ik.solve(&goal, &q);
        q = solution.joints;
        beyond_m = solution.position_error_m;
        if beyond_m > 0.03 {
            assert!(solution.rotation_error_rad < 0.02, "{solution:?}");
            break;
        }
    }
    assert!(beyond_m > 0.03, "it reaches everywhere");
}

#[test]
fn a_seventh_joint_is_drawn_to_the_posture_and_the_tool_stays() {
    let posture = [0.0, -0.6, 0.0, -2.2, 0.0, 1.9, 0.785];
    let drawn_to = |posture: &[f64]| {
        let options = IkOptions {
            posture: Some(vector(posture)),
            ..IkOptions::default()
        };
        Ik::new(arm("fr3"), options)
    };
    // The elbow aside, and back.
    let mut aside = posture;
    (aside[0], aside[2]) = (0.9, -0.9);
    let goal = arm("fr3").base_from_tool(&posture);
    let mut q = vector(&posture);
    for (ik, least, most) in [
        (drawn_to(&aside), 0.3, 2.0),
        (drawn_to(&posture), 0.0, 1e-3),
    ] {
        for _ in 0..60 {
            let solution = ik.solve(&goal, &q);
            assert!(solution.position_error_m < 1e-5 && solution.rotation_error_rad < 1e-5);
            assert!(farthest(&solution.joints, &q) < 0.35);
            q = solution.joints;
        }
        let off = farthest(&q, &vector(&posture));
        assert!((least..most).contains(&off), "{off}: {q:?}");
    }
}

#[test]
fn where_nothing_is_free_a_posture_changes_nothing() {
    for (name, at) in [
        ("so101", &[0.2, 0.3, 0.5, 0.4, 0.3][..]),
        ("desk6", &[0.2, 0.3, 0.6, -0.9, 0.3, 0.2][..]),
    ] {
        let chain = arm(name);
        let options = IkOptions {
            posture: Some(middle(&chain)),
            ..IkOptions::default()
        };
        let ik = Ik::new(chain, options);
        let goal = ik.chain().base_from_tool(at);
        let mut q = vector(at);
        for _ in 0..50 {
            q = ik.solve(&goal, &q).joints;
        }
        assert!(farthest(&q, &vector(at)) < 1e-4, "{name}: {q:?}");
    }
}

/// At a singularity six joints have freedom too: the wrist may turn against itself.
#[test]
fn what_a_singularity_closes_goes_to_the_posture() {
    let at = [0.2, 0.4, 0.3, -0.5, std::f64::consts::FRAC_PI_2, 0.6];
    let posture = [0.2, 0.4, 0.3, -0.5, std::f64::consts::FRAC_PI_2, 0.1];
    let options = IkOptions {
        posture: Some(vector(&posture)),
        ..IkOptions::default()
    };
    let ik = Ik::new(arm("desk6"), options);
    let goal = ik.chain().base_from_tool(&at);
    let (mut q, before) = (vector(&at), 0.5);
    for _ in 0..40 {
        let solution = ik.solve(&goal, &q);
        assert!(solution.position_error_m < 1e-3, "{solution:?}");
        q = solution.joints;
    }
    let after = (q.as_slice()[5] - posture[5]).abs();
    assert!(after < 0.8 * before, "{q:?}");
}

/// A bound that is none at all: the arm stays where it is, and nothing is said to fail.
#[test]
fn a_largest_move_that_cannot_be_moves_nothing() {
    for largest_move in [-0.1, f64::NEG_INFINITY, f64::NAN] {
        let posture = Some(vector(&[0.4; 6]));
        for posture in [None, posture] {
            let options = IkOptions {
                largest_move,
                posture,
                ..IkOptions::default()
            };
            let ik = Ik::new(arm("desk6"), options);
            let start = vector(&[0.2, 0.3, 0.6, -0.9, 0.3, 0.2]);
            let goal = ik.chain().base_from_tool(&[0.3, 0.3, 0.6, -0.9, 0.3, 0.2]);
            assert_eq!(ik.solve(&goal, &start).joints, start);
        }
    }
}
