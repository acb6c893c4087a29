//! What the learner sends to the robot: graphs once, snapshots of their weights often.

use sha2::{Digest, Sha256};

use crate::SpecHash;

/// SHA-256 of some bytes.
pub fn content_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Which of a run's fixed graphs.
///
/// Contract of the graphs (all ONNX, batch 1 but for the encoder):
/// - `Encoder`: input `images` u8 \[N, H, W, 3\]; output `maps` f32 \[N, h, w, C\]. No weight inputs.
/// - `Policy`: inputs `map.<camera>` f32 \[1, h, w, C\] for each camera, `proprio` f32 \[1, P\],
///   `noise` f32 \[1, columns\] (standard normal; as many columns as hold motion, or, where a gripper's
///   command is a number like the others, all A), `gumbel` f32 \[1, 3 for one gripper, 9 for two\]
///   (standard Gumbel; only where a gripper's command is chosen out of three by chance),
///   `explore` f32 \[1\] (0: greedy, 1: sample), and the weights; output `action` f32 \[1, A\].
/// - `Classifier`: inputs `image.<camera>` u8 \[1, H, W, 3\] or `map.<camera>`, and the weights;
///   output `probability` f32 \[1\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GraphName {
    /// The frozen image encoder.
    Encoder,
    /// The policy's head on the encoder's maps.
    Policy,
    /// The reward classifier.
    Classifier,
}

impl GraphName {
    /// All graphs.
    pub const ALL: [Self; 3] = [Self::Encoder, Self::Policy, Self::Classifier];

    /// Name in keys, file names and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Policy => "policy",
            Self::Classifier => "classifier",
        }
    }
}

/// A fixed ONNX graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Which.
    pub name: GraphName,
    /// The spec it was made for.
    pub spec: SpecHash,
    /// The ONNX file's bytes.
    pub onnx: Vec<u8>,
}

/// An f32 tensor with a name, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The graph input (or output) it belongs to.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers: the product of `shape` of them.
    pub data: Vec<f32>,
}

/// Inputs and the output that the graph must give for them: a snapshot whose graph gives something
/// else was not understood and is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Every input of the graph that is not a weight (f32 form; u8 inputs hold whole numbers).
    pub inputs: Vec<NamedTensor>,
    /// What must come out.
    pub output: NamedTensor,
    /// Largest allowed absolute difference.
    pub tolerance: f32,
}

/// New weights for a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSnapshot {
    /// Which graph they belong to.
    pub graph: GraphName,
    /// Hash of that graph's bytes.
    pub graph_hash: [u8; 32],
    /// The spec they were trained for.
    pub spec: SpecHash,
    /// Counts up from 1 within a learner run and across its resumes.
    pub version: u64,
    /// Gradient updates behind these weights.
    pub updates: u64,
    /// One tensor per weight input.
    pub weights: Vec<NamedTensor>,
    /// Proof.
    pub probe: Probe,
}
