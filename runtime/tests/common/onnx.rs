//! The smallest graphs that keep the contract of [`GraphName`]: the encoder's maps are the image,
//! policy and classifier say what their only weight says.

use hilt_protocol::{Graph, GraphName, RigSpec};
use prost::Message;

/// The part of `onnx.proto` that they need.
mod pb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Model {
        #[prost(int64, tag = "1")]
        pub ir_version: i64,
        #[prost(message, optional, tag = "7")]
        pub graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub opset_import: Vec<OperatorSet>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OperatorSet {
        #[prost(int64, tag = "2")]
        pub version: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub node: Vec<Node>,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(message, repeated, tag = "5")]
        pub initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub input: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub output: Vec<ValueInfo>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Node {
        #[prost(string, repeated, tag = "1")]
        pub input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub output: Vec<String>,
        #[prost(string, tag = "4")]
        pub op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub attribute: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Attribute {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int64, tag = "3")]
        pub i: i64,
        #[prost(int32, tag = "20")]
        pub kind: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub dims: Vec<i64>,
        #[prost(int32, tag = "2")]
        pub data_type: i32,
        #[prost(float, repeated, tag = "4")]
        pub float_data: Vec<f32>,
        #[prost(string, tag = "8")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ValueInfo {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub kind: Option<Type>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Type {
        #[prost(message, optional, tag = "1")]
        pub tensor: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TensorType {
        #[prost(int32, tag = "1")]
        pub elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub shape: Option<Shape>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub dim: Vec<Dimension>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Dimension {
        #[prost(int64, tag = "1")]
        pub value: i64,
    }
}

const FLOAT: i32 = 1;
const UINT8: i32 = 2;

fn value(name: &str, elem_type: i32, dims: &[i64]) -> pb::ValueInfo {
    let dim = dims.iter().map(|&value| pb::Dimension { value }).collect();
    let shape = Some(pb::Shape { dim });
    pb::ValueInfo {
        name: name.to_owned(),
        kind: Some(pb::Type {
            tensor: Some(pb::TensorType { elem_type, shape }),
        }),
    }
}

fn model(graph: pb::Graph) -> Vec<u8> {
    let graph = Some(pb::Graph {
        name: "test".to_owned(),
        ..graph
    });
    let opset_import = vec![pb::OperatorSet { version: 17 }];
    pb::Model {
        ir_version: 8,
        graph,
        opset_import,
    }
    .encode_to_vec()
}

fn node(op_type: &str, from: &str, to: &str, attribute: Vec<pb::Attribute>) -> pb::Node {
    pb::Node {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        op_type: op_type.to_owned(),
        attribute,
    }
}

/// Maps that are the image itself.
pub fn encoder(spec: &RigSpec) -> Graph {
    let camera = &spec.cameras[0];
    // 0 is not written: the number of images is free.
    let dims = [0, i64::from(camera.height), i64::from(camera.width), 3];
    let to_float = pb::Attribute {
        name: "to".to_owned(),
        i: i64::from(FLOAT),
        kind: 2,
    };
    let onnx = model(pb::Graph {
        node: vec![node("Cast", "images", "maps", vec![to_float])],
        input: vec![value("images", UINT8, &dims)],
        output: vec![value("maps", FLOAT, &dims)],
        ..pb::Graph::default()
    });
    let (name, spec) = (GraphName::Encoder, spec.hash());
    Graph { name, spec, onnx }
}

/// Its output is `weight`: baked in, or bound as the input `w`.
fn constant(spec: &RigSpec, name: GraphName, dims: &[i64], weight: Option<&[f32]>) -> Graph {
    let output = match name {
        GraphName::Policy => "action",
        _ => "probability",
    };
    let camera = |c: &hilt_protocol::CameraSpec| {
        let dims = [1, i64::from(c.height), i64::from(c.width), 3];
        value(&format!("map.{}", c.name), FLOAT, &dims)
    };
    let mut input: Vec<_> = spec.cameras.iter().map(camera).collect();
    if name == GraphName::Policy {
        input.push(value("proprio", FLOAT, &[1, spec.proprio_dim() as i64]));
    }
    let mut initializer = Vec::new();
    match weight {
        None => input.push(value("w", FLOAT, dims)),
        Some(weight) => initializer.push(pb::Tensor {
            dims: dims.to_vec(),
            data_type: FLOAT,
            float_data: weight.to_vec(),
            name: "w".to_owned(),
        }),
    }
    let onnx = model(pb::Graph {
        node: vec![node("Identity", "w", output, vec![])],
        initializer,
        input,
        output: vec![value(output, FLOAT, dims)],
        ..pb::Graph::default()
    });
    let spec = spec.hash();
    Graph { name, spec, onnx }
}

/// A policy that always acts as `action` says, or as its weight does.
pub fn policy(spec: &RigSpec, action: Option<&[f32]>) -> Graph {
    let dims = [1, spec.action_dim() as i64];
    constant(spec, GraphName::Policy, &dims, action)
}

/// A classifier whose probability is its weight.
pub fn classifier(spec: &RigSpec) -> Graph {
    constant(spec, GraphName::Classifier, &[1], None)
}
