//! The control loop: what brings the arms from command to command, tick by tick, and what stops
//! them when something is wrong.
//!
//! - [`faults`]: everything that can go wrong, in one table: when it is seen, what is done.
//! - [`machine`]: the mode of the arms, from idle to fault.
//! - [`mod@reference`]: where an arm is sent, within the velocity and the acceleration of its joints.
//! - [`step`](fn@step): a tick as a pure function of state and inputs, made of these three.
//! - [`tick`]: reads the arms, takes a step, writes the arms: the shell around it. What it saw and
//!   did is one [`TickRecord`], from which the same step can be taken again.
//! - [`ControlLoop`]: ticks at absolute deadlines on a thread of its own, without lock, allocation or
//!   surprise; [`spawn`] starts it.
//!
//! In lockstep [`crate::cell`] calls [`tick`] itself, between two steps of the physics.

mod deadline;
pub mod faults;
mod hash;
pub mod machine;
mod realtime;
pub mod reference;
mod shell;
mod step;
#[cfg(test)]
mod tests;

pub use deadline::{Deadlines, Slot};
pub use faults::{Answer, Fault, FaultKind};
pub use hash::hash_bytes;
pub use machine::{Mode, Wish};
pub use realtime::{
    ControlLoop, ControlThread, FrameTimes, LoopCells, Report, Wills, spawn, timed,
};
pub use reference::{JointBounds, Reference};
pub use shell::{Sent, TickRecord, tick};
pub use step::{
    AgeLimits, ControlConfig, ControlInputs, ControlOutputs, ControlState, Order, Reports, Sending,
    Targets, step,
};
