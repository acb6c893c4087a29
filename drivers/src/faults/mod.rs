//! Faults on purpose: what breaks on a real rig, at times that a plan says, the same at every run.
//!
//! - [`FaultPlan`]: which [`FaultKind`] strikes which device, when and for how long. It is the
//!   `[faults]` table of a rig's file, or drawn from a seed for a soak run.
//! - [`FaultyWire`], [`FaultyCamera`], [`FaultyTeleop`]: decorators that do to a device what the
//!   plan says. A wire's faults are made of bytes, so that everything above the wire is the code
//!   that meets the real ones.
//!
//! Faults of the policy, the learner, the disk and the clock are injected where those are used, by
//! whoever asks [`FaultPlan::active`].

mod camera;
mod plan;
mod teleop;
mod wire;

pub use camera::FaultyCamera;
pub use plan::{Fault, FaultKind, FaultPlan, FaultSpec, PlanError};
pub use teleop::FaultyTeleop;
pub use wire::{ERROR_BITS, FaultyWire};
