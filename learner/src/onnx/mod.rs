//! Export: the encoder, a policy and the classifier as ONNX graphs. What goes in and out is the contract of
//! [`hilt_protocol::GraphName`]; weights keep the names of the parameters. A policy on state vectors, which no
//! robot runs, is a graph of its own form.

pub mod builder;
mod graphs;
mod policies;
pub mod proto;
mod weight_set;

pub use builder::Weights;
pub use graphs::{classifier_graph, encoder_graph, policy_graph};
pub use policies::{sighted_policy_graph, sighted_weights, vector_policy_graph};

/// A finished file with words in it that change nothing but its hash (`ModelProto.doc_string`).
pub fn with_note(mut onnx: Vec<u8>, words: &str) -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Note {
        #[prost(string, tag = "6")]
        doc_string: String,
    }
    // Two messages in a row are one with the fields of both: so protobuf defines it.
    onnx.extend(prost::Message::encode_to_vec(&Note {
        doc_string: words.to_owned(),
    }));
    onnx
}
