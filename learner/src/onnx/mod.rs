//! Export: the encoder, the policy's head and the classifier as ONNX graphs. What goes in and out
//! is the contract of [`hilt_protocol::GraphName`]; weights keep the names of the parameters.

pub mod builder;
mod graphs;
pub mod proto;

pub use builder::Weights;
pub use graphs::{classifier_graph, encoder_graph, policy_graph};

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
