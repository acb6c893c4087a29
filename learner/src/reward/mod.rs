//! The learned reward: a classifier of success, from labelled frames.
//!
//! - [`classifier`]: HIL-SERL's head on maps. [`model`]: that head on the encoder's maps, or on a
//!   trunk of its own that looks at the images.
//! - [`training`]: training, measuring, and correcting it by a person's words.
//! - [`image_folders`]: frames from folders of images. `pickles`: from HIL-SERL's files. [`command`]: `hilt-learner classifier`.
//!   [`trained`]: the folder that this leaves, and `hybrid` starts from.

pub mod classifier;
pub mod command;
pub mod image_folders;
pub mod model;
mod pickles;
pub mod trained;
pub mod training;

pub use model::{RewardInput, RewardModel};
pub use training::{Confusion, RewardTraining};
