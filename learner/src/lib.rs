//! The learner process: from entries to better policies.
//!
//! From the ground up:
//! - [`nn`]: named parameters in one flat buffer, layers as pure functions, Adam.
//! - [`encoder`], [`augment`]: the ResNet family, random shifts of images. [`encoder_weights`] reads
//!   weights from elsewhere, with [`pickle`], which runs nothing.
//! - [`agents`]: one file per algorithm. [`classifier`], [`reward_model`]: the learned reward.
//! - [`dataset`]: recorded entries as demonstrations and labelled frames; [`image_folders`]: frames
//!   from elsewhere.
//! - [`replay`]: transitions in memory-mapped segments, each frame once; [`ingest`] fills it from
//!   the link.
//! - [`imitation`], [`reward`]: what is trained before reinforcement learning begins ([`prepare`]).
//! - [`train_classifier`]: the reward classifier by itself; [`trained_classifier`]: the folder that it
//!   leaves.
//! - [`onnx`], [`export`]: what the robot runs.
//! - [`hybrid`]: the loop that drives it all; [`config`]: what can be chosen, with [`presets`] by
//!   name; [`metrics`]: figures; [`show`]: what the user sees; [`memory`]: how the process holds it;
//!   [`stopped`]: Ctrl-C before there is anything to keep.
//!
//! Threads of `hilt-learner hybrid`: the update loop (the main thread), ingest, and the link's own.

pub mod agents;
pub mod augment;
pub mod classifier;
pub mod config;
pub mod dataset;
pub mod encoder;
pub mod encoder_weights;
pub mod export;
pub mod hybrid;
pub mod image_folders;
pub mod imitation;
pub mod ingest;
pub mod memory;
pub mod metrics;
pub mod nn;
pub mod onnx;
pub mod pickle;
pub mod prepare;
pub mod presets;
pub mod replay;
pub mod reward;
pub mod reward_model;
pub mod show;
pub mod stopped;
pub mod train_classifier;
pub mod trained_classifier;
