//! What is within reach is reached: the claim, for arms of five, six and seven joints.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod arms;

use arms::{ARMS, arm, neighbour};
use hilt_kinematics::{Ik, IkOptions};
use hilt_protocol::noise::Uniforms;

#[test]
fn of_ten_thousand_poses_within_reach_nearly_all_are_met() {
    const TARGETS: usize = 10_000;
    for (name, _, _) in ARMS {
        let ik = Ik::new(arm(name), IkOptions::default());
        for away in [0.1, 0.2] {
            let mut uniforms = Uniforms::new(1);
            let mut solved = 0;
            for _ in 0..TARGETS {
                let (goal, start) = neighbour(ik.chain(), away, &mut uniforms);
                let solution = ik.solve(&goal, &start);
                let joints = solution.joints.as_slice();
                for (q, joint) in joints.iter().zip(ik.chain().joints()) {
                    assert!((joint.lower..=joint.upper).contains(q), "{name}: {q}");
                }
                // By the chain itself, not by what the solver says of itself.
                let reached = ik.chain().base_from_tool(joints);
                let off_m = (reached.translation.vector - goal.translation.vector).norm();
                let off_rad = reached.rotation.angle_to(&goal.rotation);
                solved += usize::from(off_m <= 1e-4 && off_rad <= 0.01_f64.to_radians());
            }
            assert!(
                solved >= TARGETS * 999 / 1000,
                "{name}, {away} rad off: {solved}"
            );
        }
    }
}
