//! What a thread with hard deadlines needs, and nothing else.
//!
//! - [`Clock`]: the time that a loop goes by, passed in: [`Monotonic`] on a robot, [`Fake`] in tests.
//! - [`newest`]: a newest-value cell between two threads, wait-free on both sides.
//!
//! Nothing here locks or allocates after it was made.
#![deny(missing_docs)]

mod clock;
pub mod newest;
mod sync;

pub use clock::{Clock, Fake, Monotonic};
