//! The learner process: from entries to better policies.
//!
//! - [`dataset`]: recorded entries as demonstrations and labelled frames.
//! - [`nn`]: named parameters in one flat buffer, layers as pure functions, Adam.
//! - [`replay`]: transitions in memory-mapped segments, each frame once.
//! - [`agents`]: one file per algorithm.
//! - [`metrics`]: figures over time, and files that are written whole or not at all.

pub mod agents;
pub mod dataset;
pub mod metrics;
pub mod nn;
pub mod replay;
