//! State vectors to learn from: recorded ones, and those that come while learning.
//!
//! - [`scaling`]: what observations and rewards go through before an agent sees them. It is found on the data,
//!   and stays with the policy: [`Normalizer`], [`RewardScale`], resolved to [`Scaling`].
//! - [`returns`]: what an episode was worth from each of its steps on.
//! - [`dataset`]: a recorded [`Table`](hilt_recording::table::Table), checked, split by whole episodes, scaled, and
//!   on the device: [`prepare`] gives [`VectorData`], which gives batches.
//! - [`replay`]: the newest transitions of a task, [`VectorReplay`]; [`interleaved`] for batches that are half of
//!   one and half of the other.
//! - [`summary`]: what a person would want to know of a table before training on it.

pub mod dataset;
pub mod replay;
pub mod returns;
pub mod scaling;
pub mod summary;

pub use dataset::{Preparation, PrepareError, Prepared, VectorData, prepare};
pub use replay::{Step, VectorReplay, interleaved, turns};
pub use returns::Returns;
pub use scaling::{Affine, Normalizer, RewardScale, Scaling};
pub use summary::Summary;
