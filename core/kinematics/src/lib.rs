//! One serial [`Chain`] for every arm: forward kinematics, geometric Jacobian and
//! damped-least-squares inverse kinematics.
//!
//! A chain is a list of [`Joint`]s, each placed in the frame of the one before it, and a fixed tool.
//! It comes from a URDF ([`Chain::from_urdf`]), or from whoever knows the joints ([`Chain::new`]), as
//! the simulator does from its MuJoCo model. [`Ik`] solves for the joints of a pose, from where the
//! joints are. Frames are named `parent_from_child`; metres and radians throughout. Nothing here
//! allocates after the chain is made: joints are at most [`MAX_JOINTS`], so matrices live on the
//! stack.
#![deny(missing_docs)]

mod chain;
mod ik;
mod urdf;

pub use chain::{Chain, ChainError, Jacobian, Joint, JointKind};
pub use hilt_protocol::MAX_JOINTS;
pub use ik::{Ik, IkOptions, IkSolution, LEVER_M, LEVER_SHORT_M};
pub use urdf::UrdfError;
