//! The learner process: from entries to better policies.
//!
//! - [`dataset`]: recorded entries as demonstrations and labelled frames.
//! - [`encoder`]: the ResNet family; [`classifier`]: the learned reward on its maps.
//! - [`augment`]: random shifts of images.
//! - [`imitation`]: pre-training and baseline.
//! - [`nn`]: named parameters in one flat buffer, layers as pure functions, Adam.
//! - [`replay`]: transitions in memory-mapped segments, each frame once.
//! - [`onnx`]: what the robot runs.
//! - [`agents`]: one file per algorithm.
//! - [`metrics`]: figures over time, and files that are written whole or not at all.

pub mod agents;
pub mod augment;
pub mod classifier;
pub mod dataset;
pub mod encoder;
pub mod imitation;
pub mod metrics;
pub mod nn;
pub mod onnx;
pub mod replay;
