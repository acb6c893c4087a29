//! The arms of the tests and the bench: five, six and seven joints.
#![allow(dead_code, reason = "each test takes what it needs of it")]

use hilt_kinematics::Chain;
use hilt_protocol::{JointVector, noise::Uniforms};
use nalgebra::Isometry3;

/// Name, URDF and tip of each; their base is `base`.
pub const ARMS: [(&str, &str, &str); 3] = [
    ("so101", include_str!("so101.urdf"), "tool"),
    ("desk6", include_str!("desk6.urdf"), "tool"),
    ("fr3", include_str!("fr3.urdf"), "flange"),
];

/// One of them.
pub fn arm(name: &str) -> Chain {
    let (_, urdf, tip) = ARMS.iter().find(|arm| arm.0 == name).unwrap();
    Chain::from_urdf(urdf, "base", tip).unwrap()
}

/// Joints anywhere within their limits.
pub fn anywhere(chain: &Chain, uniforms: &mut Uniforms) -> JointVector {
    let mut q = chain.zeros();
    for (q, joint) in q.as_mut_slice().iter_mut().zip(chain.joints()) {
        *q = uniforms.range(joint.lower, joint.upper);
    }
    q
}

/// A pose that the arm has somewhere within its limits, and a start each of whose joints is off by up
/// to `away`, and within limits too.
pub fn neighbour(
    chain: &Chain,
    away: f64,
    uniforms: &mut Uniforms,
) -> (Isometry3<f64>, JointVector) {
    let there = anywhere(chain, uniforms);
    let mut start = there;
    for q in start.as_mut_slice() {
        *q += uniforms.range(-away, away);
    }
    chain.clamp(start.as_mut_slice());
    (chain.base_from_tool(there.as_slice()), start)
}
