//! What tests and benches across crates share. The end-to-end tests run the real programs, `hilt` and `hilt-learner`, as
//! child processes that talk over TCP on this machine, do to them what happens on a bad day, and
//! look at what is left on disk.
//!
//! - [`Program`]: a child process with its output. Whatever becomes of a test, no child outlives
//!   it.
//! - [`hilt`], [`learner`]: the programs, found beside the test's own executable.
//! - [`Stage`]: a folder with demonstrations and an endpoint, and the commands of a small training
//!   on it: the same code as the demo's, with everything that takes time made small.
//! - [`assert_delivered`]: a run's log is in a learner's replay, each entry once.
//! - [`Untrained`]: the demo's networks, for tests and benches of inference.
//! - [`statistics`]: what benches compute from what they measured.
//! - [`until`]: waiting for something to happen. The one bound in it is there to end a test that
//!   hangs, and is far beyond what anything here takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod delivered;
mod program;
mod stage;
pub mod statistics;
mod untrained;

pub use delivered::{assert_delivered, entries_of, online_entries};
pub use program::{Program, hilt, learner, one_at_a_time, until};
pub use stage::{Stage, lift_rig, write_demonstrations};
pub use untrained::Untrained;
