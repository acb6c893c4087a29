//! What a thread with hard deadlines needs, and nothing else.
//!
//! - [`Clock`]: the time that a loop goes by, passed in: [`Monotonic`] on a robot, [`Fake`] in tests.
//! - [`newest`]: a newest-value cell between two threads, wait-free on both sides.
//! - [`Wanted`]: priority, core and memory, asked of the system once when the thread starts;
//!   [`keep_off`]: everybody else leaves the core; [`cores`]: which one that is; [`Awake`]: no core
//!   sleeps deeply.
//! - [`wills`]: what a process leaves, at every beat, for one that outlives it.
//!
//! Clock, cell and wills lock nothing and allocate nothing after they were made.
#![deny(missing_docs)]

mod awake;
mod clock;
pub mod cores;
pub mod newest;
mod sync;
mod thread;
mod vectors;
pub mod wills;

pub use awake::Awake;
pub use clock::{Clock, Fake, Monotonic};
pub use thread::{Missing, TOUCHED_STACK_BYTES, Wanted, keep_off};
