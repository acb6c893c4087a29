//! The MuJoCo lift scene as devices.
//!
//! - [`LiftWorld`]: everything on one thread, its time passing when it is told to: lockstep.
//! - [`LiveLift`]: the physics on a thread of its own that follows the monotonic clock, arm and
//!   cameras on others: real time.
//! - [`SimOperator`]: the scripted operator of either.

mod lockstep;
mod operator;
mod realtime;

pub(crate) use lockstep::world_error;
pub use lockstep::{LiftWorld, SimArm, SimCamera};
pub use operator::{Role, SimOperator};
pub use realtime::{LiveCamera, LiveLift};
