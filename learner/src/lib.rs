//! The learner process: from entries to better policies.
//!
//! From the ground up:
//! - [`nn`]: named parameters in one flat buffer, layers as pure functions, Adam.
//! - [`encoder`], [`augment`]: the ResNet family, with weights from elsewhere, and random shifts of
//!   images.
//! - [`agents`]: one file per algorithm.
//! - [`tasks`]: what they can be tried on without a robot; [`evaluation`]: how well they do there.
//! - [`dataset`]: recorded entries as demonstrations and labelled frames. [`frames`]: more of them than fit into memory.
//! - [`replay`]: transitions in memory-mapped segments, each frame once; [`ingest`] fills it from
//!   the link. [`vectors`]: the same for tasks on state vectors, from tables and from learning on them.
//! - [`generative`]: more of what was experienced, by a diffusion model.
//! - [`imitation`], [`reward`]: what is trained before reinforcement learning begins.
//! - [`onnx`], [`export`]: what the robot runs. [`trained`], [`trained_on_runs`]: what a training leaves to go on
//!   from, on state vectors and on a robot's runs; [`trainings`] finds the newest one.
//! - [`course`]: what is trained, and the loop that drives it: [`offline`] on data at hand, [`hybrid`] in a simulated
//!   task. On a robot's stream [`hybrid`] has a loop of its own.
//! - [`inspect`]: what is in data, and what is wrong with it.
//! - [`config`]: what can be chosen, with [`presets`] by name; [`checkpoint`]: what is kept of a training; [`metrics`]:
//!   figures; [`show`], [`video`]: what the user sees; [`memory`]: how the process holds it; [`stopped`]: Ctrl-C
//!   before there is anything to keep.
//!
//! Threads of `hilt-learner hybrid`: the update loop (the main thread), ingest, and the link's own.

pub mod agents;
pub mod augment;
pub mod checkpoint;
pub mod config;
pub mod course;
pub mod dataset;
pub mod encoder;
pub mod evaluation;
pub mod export;
#[cfg(test)]
#[path = "../../core/recording/tests/support/ffmpeg.rs"]
mod ffmpeg;
pub mod frames;
pub mod generative;
pub mod hybrid;
pub mod imitation;
pub mod ingest;
pub mod inspect;
pub mod memory;
pub mod metrics;
pub mod nn;
pub mod offline;
pub mod onnx;
pub mod presets;
pub mod replay;
pub mod reward;
pub mod show;
pub mod stopped;
pub mod tasks;
pub mod trained;
pub mod trained_on_runs;
pub mod trainings;
pub mod vectors;
pub mod video;
