//! Building a graph node by node. A [`Value`] is the name of a tensor in the graph.

use hilt_protocol::NamedTensor;
use prost::Message;

use super::proto;

/// A tensor in the graph.
#[derive(Clone, Debug)]
pub struct Value(String);

/// Whether weights come from outside at each run, or lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Inputs: a swap of policies binds other tensors and builds no session.
    Inputs,
    /// Initializers: a file that stands alone.
    Baked,
}

/// A graph in the making.
#[derive(Debug, Default)]
pub struct Builder {
    graph: proto::Graph,
    next: usize,
}

/// An attribute of a node.
pub enum Attr<'a> {
    /// A whole number.
    Int(&'a str, i64),
    /// A number.
    Float(&'a str, f32),
    /// Whole numbers.
    Ints(&'a str, &'a [i64]),
    /// A text.
    Text(&'a str, &'a str),
}

impl Attr<'_> {
    fn proto(&self) -> proto::Attribute {
        let (name, mut a) = match self {
            Attr::Int(n, _) | Attr::Float(n, _) | Attr::Ints(n, _) | Attr::Text(n, _) => {
                (*n, proto::Attribute::default())
            }
        };
        a.name = name.to_owned();
        match self {
            Attr::Float(_, v) => (a.f, a.kind) = (Some(*v), 1),
            Attr::Int(_, v) => (a.i, a.kind) = (Some(*v), 2),
            Attr::Text(_, v) => (a.s, a.kind) = (Some(v.as_bytes().to_vec()), 3),
            Attr::Ints(_, v) => (a.ints, a.kind) = (v.to_vec(), 7),
        }
        a
    }
}

/// Opset of GroupNormalization with one scale per channel.
const OPSET: i64 = 21;

fn value_info(name: &str, elem_type: i32, shape: &[Option<i64>]) -> proto::ValueInfo {
    let dimension = |d: &Option<i64>| proto::Dimension {
        value: *d,
        symbol: d.is_none().then(|| "N".to_owned()),
    };
    let shape = Some(proto::Shape {
        dim: shape.iter().map(dimension).collect(),
    });
    let tensor_type = Some(proto::TensorType { elem_type, shape });
    proto::ValueInfo {
        name: name.to_owned(),
        r#type: Some(proto::Type { tensor_type }),
    }
}

impl Builder {
    /// An input; `None` in the shape is the free dimension N.
    pub fn input(&mut self, name: &str, elem_type: i32, shape: &[Option<i64>]) -> Value {
        self.graph.input.push(value_info(name, elem_type, shape));
        Value(name.to_owned())
    }

    /// A weight, as an input or as an initializer.
    pub fn weight(&mut self, tensor: &NamedTensor, weights: Weights) -> Value {
        let dims: Vec<i64> = tensor.shape.iter().map(|&d| d as i64).collect();
        match weights {
            Weights::Inputs => {
                let shape: Vec<Option<i64>> = dims.iter().map(|&d| Some(d)).collect();
                self.input(&tensor.name, proto::FLOAT, &shape)
            }
            Weights::Baked => self.floats(&tensor.name, &dims, &tensor.data),
        }
    }

    fn floats(&mut self, name: &str, dims: &[i64], data: &[f32]) -> Value {
        let raw_data = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (dims, data_type, name) = (dims.to_vec(), proto::FLOAT, name.to_owned());
        self.graph.initializer.push(proto::Tensor {
            dims,
            data_type,
            name: name.clone(),
            raw_data,
        });
        Value(name)
    }

    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("t{}", self.next)
    }

    /// A constant of f32.
    pub fn constant(&mut self, dims: &[i64], data: &[f32]) -> Value {
        let name = self.fresh();
        self.floats(&name, dims, data)
    }

    /// A constant list of i64.
    pub fn integers(&mut self, data: &[i64]) -> Value {
        let name = self.fresh();
        let raw_data = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = proto::Tensor {
            dims: vec![data.len() as i64],
            data_type: proto::INT64,
            name: name.clone(),
            raw_data,
        };
        self.graph.initializer.push(tensor);
        Value(name)
    }

    /// A node with one output.
    pub fn op(&mut self, op_type: &str, inputs: &[&Value], attributes: &[Attr<'_>]) -> Value {
        let name = self.fresh();
        self.graph.node.push(proto::Node {
            input: inputs.iter().map(|v| v.0.clone()).collect(),
            output: vec![name.clone()],
            name: format!("{op_type}_{name}"),
            op_type: op_type.to_owned(),
            attribute: attributes.iter().map(Attr::proto).collect(),
        });
        Value(name)
    }

    /// Reshape to a fixed shape (0 keeps a dimension, −1 infers it).
    pub fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.op("Reshape", &[x, &shape], &[])
    }

    /// The finished file; `output` gets its public name.
    pub fn finish(
        mut self,
        name: &str,
        output: &Value,
        output_name: &str,
        shape: &[Option<i64>],
    ) -> Vec<u8> {
        self.graph.node.push(proto::Node {
            input: vec![output.0.clone()],
            output: vec![output_name.to_owned()],
            name: "output".to_owned(),
            op_type: "Identity".to_owned(),
            attribute: Vec::new(),
        });
        self.graph
            .output
            .push(value_info(output_name, proto::FLOAT, shape));
        self.graph.name = name.to_owned();
        proto::Model {
            ir_version: 10,
            producer_name: "hilt".to_owned(),
            graph: Some(self.graph),
            opset_import: vec![proto::OperatorSet {
                domain: String::new(),
                version: OPSET,
            }],
        }
        .encode_to_vec()
    }
}
