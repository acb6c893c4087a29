//! One serial [`Chain`] for every arm: forward kinematics, geometric Jacobian and
//! damped-least-squares inverse kinematics.
//!
//! A chain is a list of [`Joint`]s, each placed in the frame of the one before it, and a fixed tool.
//! Where the joints come from (a MuJoCo model, a URDF) is the caller's matter. Frames are named
//! `parent_from_child`; metres and radians throughout. Nothing here allocates after
//! [`Chain::new`]: joints are at most [`MAX_JOINTS`], so matrices live on the stack.
#![deny(missing_docs)]

mod chain;
mod ik;

pub use chain::{Chain, ChainError, Jacobian, Joint, JointKind};
pub use hilt_protocol::MAX_JOINTS;
pub use ik::{Ik, IkOptions, IkSolution};
