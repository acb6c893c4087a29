//! One fixed graph whose weights are bound inputs.

use hilt_protocol::{Graph, GraphName, ModelSnapshot, NamedTensor, SpecHash, content_hash};
use ort::{
    memory::Allocator,
    session::{IoBinding, Session},
    value::{Tensor, TensorElementType, ValueType},
};

use super::engine::{Engine, EngineError};

/// Why a snapshot was not taken. The policy in force stays.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SnapshotRefused {
    /// It was trained for another rig.
    #[error("snapshot {version} was made for spec {theirs}, this rig is {ours}")]
    Spec {
        /// The snapshot's version.
        version: u64,
        /// Its spec.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// It belongs to another graph.
    #[error(
        "snapshot {version} belongs to another {graph} graph; restart the actor to fetch the learner's graphs"
    )]
    Graph {
        /// The snapshot's version.
        version: u64,
        /// Which graph.
        graph: &'static str,
    },
    /// It is not newer than what is there.
    #[error("snapshot {version} is not newer than {active}, which is in force")]
    Old {
        /// The snapshot's version.
        version: u64,
        /// The version in force.
        active: u64,
    },
    /// A tensor is missing, or of another shape.
    #[error("snapshot {version} has no tensor `{name}` of shape {shape:?}")]
    Tensor {
        /// The snapshot's version.
        version: u64,
        /// The weight.
        name: String,
        /// What the graph asks for.
        shape: Vec<usize>,
    },
    /// A weight is NaN or infinite.
    #[error("snapshot {version}: tensor `{name}` holds a number that is not finite")]
    NotFinite {
        /// The snapshot's version.
        version: u64,
        /// The weight.
        name: String,
    },
    /// The graph does not give what the probe says.
    #[error("snapshot {version} failed its probe: off by {difference}, allowed {tolerance}")]
    Probe {
        /// The snapshot's version.
        version: u64,
        /// Largest difference (NaN if the output is not finite).
        difference: f32,
        /// What the snapshot allows.
        tolerance: f32,
    },
    /// The library failed.
    #[error("snapshot {version}: {reason}")]
    Library {
        /// The snapshot's version.
        version: u64,
        /// Its words.
        reason: String,
    },
}

enum Buffer {
    F32(Tensor<f32>),
    U8(Tensor<u8>),
}

/// A session, its input buffers and the weights bound to it.
pub struct Head {
    name: GraphName,
    graph_hash: [u8; 32],
    spec: SpecHash,
    session: Session,
    binding: IoBinding,
    inputs: Vec<(String, Buffer)>,
    weights: Vec<(String, Vec<usize>)>,
    output: String,
    version: u64,
    updates: u64,
}

/// Inputs of the contract; any other input of a graph is a weight.
fn is_data_input(name: &str) -> bool {
    name.starts_with("map.")
        || name.starts_with("image.")
        || matches!(name, "images" | "proprio" | "noise" | "gumbel" | "explore")
}

fn library(e: ort::Error) -> EngineError {
    EngineError::Library(e.to_string())
}

impl Head {
    /// Loads a graph; `batch` takes the place of a free dimension of its inputs. It acts only after
    /// [`Head::bind`] — or at once, when its weights are baked in.
    pub fn load(engine: &Engine, graph: &Graph, batch: usize) -> Result<Self, EngineError> {
        let label = graph.name.name();
        let session = engine.session(label, &graph.onnx)?;
        let contract = |what, name: &str| EngineError::Contract {
            graph: label,
            what,
            name: name.to_owned(),
        };
        let allocator = Allocator::default();
        let (mut inputs, mut weights) = (Vec::new(), Vec::new());
        for input in session.inputs() {
            let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
                return Err(contract("input", input.name()));
            };
            let dims: Vec<usize> = shape
                .iter()
                .map(|&d| usize::try_from(d).unwrap_or(batch))
                .collect();
            if !is_data_input(input.name()) {
                weights.push((input.name().to_owned(), dims));
                continue;
            }
            let buffer = match ty {
                TensorElementType::Float32 => {
                    Buffer::F32(Tensor::new(&allocator, dims).map_err(library)?)
                }
                TensorElementType::Uint8 => {
                    Buffer::U8(Tensor::new(&allocator, dims).map_err(library)?)
                }
                _ => return Err(contract("input", input.name())),
            };
            inputs.push((input.name().to_owned(), buffer));
        }
        let output = session
            .outputs()
            .first()
            .ok_or_else(|| contract("output", "action"))?;
        let output = output.name().to_owned();
        let mut binding = session.create_binding().map_err(library)?;
        binding
            .bind_output_to_device(output.as_str(), session.allocator().memory_info())
            .map_err(library)?;
        let graph_hash = content_hash(&graph.onnx);
        let (name, spec) = (graph.name, graph.spec);
        let mut head = Self {
            name,
            graph_hash,
            spec,
            session,
            binding,
            inputs,
            weights,
            output,
            version: 0,
            updates: 0,
        };
        head.bind_inputs().map_err(library)?;
        Ok(head)
    }

    fn bind_inputs(&mut self) -> Result<(), ort::Error> {
        for (name, buffer) in &self.inputs {
            match buffer {
                Buffer::F32(tensor) => self.binding.bind_input(name.as_str(), tensor)?,
                Buffer::U8(tensor) => self.binding.bind_input(name.as_str(), tensor)?,
            }
        }
        Ok(())
    }

    /// Version of the bound snapshot; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Gradient updates behind the bound snapshot.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Whether it can act: weights are bound, or none are needed.
    pub fn is_ready(&self) -> bool {
        self.version > 0 || self.weights.is_empty()
    }

    /// Whether the graph has this input.
    pub fn has_input(&self, name: &str) -> bool {
        self.inputs.iter().any(|(n, _)| n == name)
    }

    /// How many numbers this f32 input takes; `None`: the graph has no such input.
    pub fn f32_input_len(&self, name: &str) -> Option<usize> {
        let mut inputs = self.inputs.iter();
        inputs.find_map(|(n, buffer)| match buffer {
            Buffer::F32(tensor) if n == name => Some(tensor.extract_tensor().1.len()),
            _ => None,
        })
    }

    /// Fills an f32 input. Unknown name or another length: an error that names both.
    pub fn set_f32(&mut self, name: &str, values: &[f32]) -> Result<(), EngineError> {
        let missing = || EngineError::Contract {
            graph: self.name.name(),
            what: "input",
            name: name.to_owned(),
        };
        let slot = self
            .inputs
            .iter_mut()
            .find(|(n, _)| n == name)
            .map(|(_, b)| b);
        match slot {
            Some(Buffer::F32(tensor)) => {
                let (_, data) = tensor.extract_tensor_mut();
                if data.len() != values.len() {
                    return Err(missing());
                }
                data.copy_from_slice(values);
                Ok(())
            }
            _ => Err(missing()),
        }
    }

    /// Fills a u8 input with images, one after the other.
    pub fn set_u8<'a>(
        &mut self,
        name: &str,
        images: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), EngineError> {
        let missing = || EngineError::Contract {
            graph: self.name.name(),
            what: "input",
            name: name.to_owned(),
        };
        let slot = self
            .inputs
            .iter_mut()
            .find(|(n, _)| n == name)
            .map(|(_, b)| b);
        let Some(Buffer::U8(tensor)) = slot else {
            return Err(missing());
        };
        let (_, mut rest) = tensor.extract_tensor_mut();
        for image in images {
            let (place, after) = rest.split_at_mut_checked(image.len()).ok_or_else(missing)?;
            place.copy_from_slice(image);
            rest = after;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(missing())
        }
    }

    /// Runs the graph on the inputs as set.
    pub fn run(&mut self) -> Result<Vec<f32>, EngineError> {
        // On a device with memory of its own, binding is what copies an input over.
        self.bind_inputs().map_err(library)?;
        let outputs = self.session.run_binding(&self.binding).map_err(library)?;
        let value = outputs
            .get(self.output.as_str())
            .ok_or_else(|| EngineError::Contract {
                graph: self.name.name(),
                what: "output",
                name: self.output.clone(),
            })?;
        let (_, data) = value.try_extract_tensor::<f32>().map_err(library)?;
        Ok(data.to_vec())
    }

    fn set_probe_input(&mut self, input: &NamedTensor) -> Result<(), EngineError> {
        let is_u8 = self
            .inputs
            .iter()
            .any(|(n, b)| *n == input.name && matches!(b, Buffer::U8(_)));
        if is_u8 {
            // Whole numbers 0..=255 by contract; `as` saturates on anything else.
            let bytes: Vec<u8> = input.data.iter().map(|&v| v as u8).collect();
            self.set_u8(&input.name, [&bytes[..]])
        } else {
            self.set_f32(&input.name, &input.data)
        }
    }

    /// Checks a snapshot against this graph, binds its weights and runs its probe. `active` is the
    /// version in force. On an error this head must not act; it can be bound again.
    pub fn bind(
        &mut self,
        mut snapshot: ModelSnapshot,
        active: u64,
    ) -> Result<(), SnapshotRefused> {
        let version = snapshot.version;
        if snapshot.spec != self.spec {
            let (theirs, ours) = (snapshot.spec.to_string(), self.spec.to_string());
            return Err(SnapshotRefused::Spec {
                version,
                theirs,
                ours,
            });
        }
        if snapshot.graph != self.name || snapshot.graph_hash != self.graph_hash {
            return Err(SnapshotRefused::Graph {
                version,
                graph: self.name.name(),
            });
        }
        if version <= active {
            return Err(SnapshotRefused::Old { version, active });
        }
        self.version = 0;
        let failed = |reason: String| SnapshotRefused::Library { version, reason };
        for (name, shape) in &self.weights {
            let tensor = snapshot
                .weights
                .iter_mut()
                .find(|t| t.name == *name && t.shape == *shape)
                .ok_or_else(|| SnapshotRefused::Tensor {
                    version,
                    name: name.clone(),
                    shape: shape.clone(),
                })?;
            if !tensor.data.iter().all(|v| v.is_finite()) {
                return Err(SnapshotRefused::NotFinite {
                    version,
                    name: name.clone(),
                });
            }
            let value = Tensor::from_array((shape.clone(), std::mem::take(&mut tensor.data)))
                .map_err(|e| failed(e.to_string()))?;
            self.binding
                .bind_input(name.as_str(), &value)
                .map_err(|e| failed(e.to_string()))?;
        }
        for input in &snapshot.probe.inputs {
            self.set_probe_input(input)
                .map_err(|e| failed(e.to_string()))?;
        }
        let got = self.run().map_err(|e| failed(e.to_string()))?;
        let want = &snapshot.probe.output.data;
        let difference = if got.len() == want.len() && !want.is_empty() {
            // f32::max would drop a NaN: fold by hand.
            got.iter()
                .zip(want)
                .map(|(g, w)| (g - w).abs())
                .fold(0.0, |worst: f32, d| {
                    if d.is_nan() || worst.is_nan() {
                        f32::NAN
                    } else {
                        worst.max(d)
                    }
                })
        } else {
            f32::NAN
        };
        let tolerance = snapshot.probe.tolerance;
        // `false` where either is NaN.
        let passed = difference <= tolerance;
        if !passed {
            return Err(SnapshotRefused::Probe {
                version,
                difference,
                tolerance,
            });
        }
        self.version = version;
        self.updates = snapshot.updates;
        Ok(())
    }
}
