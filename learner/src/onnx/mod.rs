//! Export: the encoder, the policy's head and the classifier as ONNX graphs. What goes in and out
//! is the contract of [`hilt_protocol::GraphName`]; weights keep the names of the parameters.

pub mod builder;
mod graphs;
pub mod proto;

pub use builder::Weights;
pub use graphs::{classifier_graph, encoder_graph, policy_graph};
