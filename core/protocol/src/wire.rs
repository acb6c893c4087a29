//! The versioned protobuf form of everything that crosses a process or a disk.
//!
//! Messages are declared with prost's derive, so no compiler of another language is needed; the
//! field tags are the schema. Decoding checks what protobuf cannot say: sizes that fit together,
//! finite numbers, known enumerations. Malformed bytes give a [`WireError`], never a panic, and
//! never allocate more than the bytes themselves hold.

use std::sync::Arc;

use prost::Message;

use crate::{
    Ack, ActionSource, Axis, CameraSpec, Entry, Graph, GraphName, Image, ModelSnapshot,
    NamedTensor, Observation, Probe, Progress, Record, RigSpec, RunId, SetupMode, SpecHash, Step,
};

/// Version of the wire form. A reader refuses any other.
pub const VERSION: u32 = 1;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not protobuf at all, or cut.
    #[error("{message}: not a valid protobuf message ({reason})")]
    Protobuf {
        /// The message's name.
        message: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// Written by another version of hilt.
    #[error(
        "{message}: wire version {found}, this program speaks {VERSION}; use the same hilt on both computers"
    )]
    Version {
        /// The message's name.
        message: &'static str,
        /// What was found.
        found: u32,
    },
    /// A field is absent.
    #[error("{message}: field `{field}` is missing")]
    Missing {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// A field holds something that cannot be.
    #[error("{message}: field `{field}` {problem}")]
    Field {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

type Result<T> = std::result::Result<T, WireError>;

/// The messages as they lie in bytes.
mod pb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Image {
        #[prost(uint64, tag = "1")]
        pub captured_ns: u64,
        #[prost(uint32, tag = "2")]
        pub height: u32,
        #[prost(uint32, tag = "3")]
        pub width: u32,
        #[prost(bytes = "vec", tag = "4")]
        pub rgb: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Observation {
        #[prost(uint64, tag = "1")]
        pub captured_ns: u64,
        #[prost(float, repeated, tag = "2")]
        pub proprio: Vec<f32>,
        #[prost(message, repeated, tag = "3")]
        pub images: Vec<Image>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Step {
        #[prost(float, repeated, tag = "1")]
        pub action: Vec<f32>,
        #[prost(uint32, tag = "2")]
        pub source: u32,
        #[prost(float, tag = "3")]
        pub reward: f32,
        #[prost(float, tag = "4")]
        pub grasp_penalty: f32,
        #[prost(bool, tag = "5")]
        pub terminated: bool,
        #[prost(bool, tag = "6")]
        pub truncated: bool,
        #[prost(bool, optional, tag = "7")]
        pub label: Option<bool>,
        #[prost(uint64, tag = "8")]
        pub policy_version: u64,
        #[prost(fixed64, tag = "9")]
        pub noise_seed: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Entry {
        #[prost(uint32, tag = "1")]
        pub version: u32,
        #[prost(fixed64, tag = "2")]
        pub run: u64,
        #[prost(uint64, tag = "3")]
        pub sequence: u64,
        #[prost(uint64, tag = "4")]
        pub episode: u64,
        #[prost(uint32, tag = "5")]
        pub index: u32,
        /// Absent in a reset.
        #[prost(message, optional, tag = "6")]
        pub step: Option<Step>,
        #[prost(message, optional, tag = "7")]
        pub observation: Option<Observation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tensor {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(uint64, repeated, tag = "2")]
        pub shape: Vec<u64>,
        #[prost(float, repeated, tag = "3")]
        pub data: Vec<f32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Snapshot {
        #[prost(uint32, tag = "1")]
        pub version: u32,
        #[prost(uint32, tag = "2")]
        pub graph: u32,
        #[prost(bytes = "vec", tag = "3")]
        pub graph_hash: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub spec: Vec<u8>,
        #[prost(uint64, tag = "5")]
        pub snapshot_version: u64,
        #[prost(uint64, tag = "6")]
        pub updates: u64,
        #[prost(message, repeated, tag = "7")]
        pub weights: Vec<Tensor>,
        #[prost(message, repeated, tag = "8")]
        pub probe_inputs: Vec<Tensor>,
        #[prost(message, optional, tag = "9")]
        pub probe_output: Option<Tensor>,
        #[prost(float, tag = "10")]
        pub probe_tolerance: f32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Graph {
        #[prost(uint32, tag = "1")]
        pub version: u32,
        #[prost(uint32, tag = "2")]
        pub graph: u32,
        #[prost(bytes = "vec", tag = "3")]
        pub spec: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub onnx: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Camera {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(uint32, tag = "2")]
        pub height: u32,
        #[prost(uint32, tag = "3")]
        pub width: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RigSpec {
        #[prost(uint32, tag = "1")]
        pub version: u32,
        #[prost(string, tag = "2")]
        pub mode: String,
        #[prost(uint32, repeated, tag = "3")]
        pub axes: Vec<u32>,
        #[prost(message, repeated, tag = "4")]
        pub cameras: Vec<Camera>,
        #[prost(string, repeated, tag = "5")]
        pub proprio: Vec<String>,
        #[prost(uint32, tag = "6")]
        pub policy_hz: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Ack {
        #[prost(uint32, tag = "1")]
        pub version: u32,
        #[prost(fixed64, tag = "2")]
        pub run: u64,
        #[prost(uint64, tag = "3")]
        pub sequence: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Progress {
        #[prost(uint32, tag = "1")]
        pub version: u32,
        #[prost(fixed64, tag = "2")]
        pub learner_run: u64,
        #[prost(uint64, tag = "3")]
        pub updates: u64,
        #[prost(uint64, tag = "4")]
        pub entries: u64,
        #[prost(uint64, tag = "5")]
        pub allowed_steps: u64,
        #[prost(bool, tag = "6")]
        pub finished: bool,
    }
}

fn parse<M: Message + Default>(
    message: &'static str,
    bytes: &[u8],
    version: fn(&M) -> u32,
) -> Result<M> {
    let parsed = M::decode(bytes).map_err(|e| WireError::Protobuf {
        message,
        reason: e.to_string(),
    })?;
    match version(&parsed) {
        VERSION => Ok(parsed),
        found => Err(WireError::Version { message, found }),
    }
}

fn field<T>(message: &'static str, field: &'static str, problem: &'static str) -> Result<T> {
    Err(WireError::Field {
        message,
        field,
        problem,
    })
}

fn finite(message: &'static str, name: &'static str, values: &[f32]) -> Result<()> {
    if values.iter().all(|v| v.is_finite()) {
        Ok(())
    } else {
        field(message, name, "holds a number that is not finite")
    }
}

fn hash(message: &'static str, name: &'static str, bytes: &[u8]) -> Result<[u8; 32]> {
    bytes
        .try_into()
        .or_else(|_| field(message, name, "is not 32 bytes long"))
}

const SOURCES: [ActionSource; 4] = [
    ActionSource::Policy,
    ActionSource::Human,
    ActionSource::ScriptedOperator,
    ActionSource::Random,
];

/// A message's number for a member of a closed list: its place, from 1 (0 is protobuf's absence).
fn number<T: PartialEq>(list: &[T], member: &T) -> u32 {
    list.iter()
        .position(|m| m == member)
        .map_or(0, |i| i as u32 + 1)
}

fn member<T: Copy>(
    list: &[T],
    number: u32,
    message: &'static str,
    name: &'static str,
) -> Result<T> {
    match (number as usize).checked_sub(1).and_then(|i| list.get(i)) {
        Some(&member) => Ok(member),
        None => field(message, name, "is not a known value"),
    }
}

/// An entry's bytes.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let (step, observation) = match &entry.record {
        Record::Reset(observation) => (None, observation),
        Record::Step(step) => (Some(step), &step.next),
    };
    let images = observation.images.iter().map(|image| pb::Image {
        captured_ns: image.captured_ns,
        height: image.height,
        width: image.width,
        rgb: image.rgb.to_vec(),
    });
    pb::Entry {
        version: VERSION,
        run: entry.run.0,
        sequence: entry.sequence,
        episode: entry.episode,
        index: entry.index,
        step: step.map(|step| pb::Step {
            action: step.action.clone(),
            source: number(&SOURCES, &step.source),
            reward: step.reward,
            grasp_penalty: step.grasp_penalty,
            terminated: step.terminated,
            truncated: step.truncated,
            label: step.label,
            policy_version: step.policy_version,
            noise_seed: step.noise_seed,
        }),
        observation: Some(pb::Observation {
            captured_ns: observation.captured_ns,
            proprio: observation.proprio.clone(),
            images: images.collect(),
        }),
    }
    .encode_to_vec()
}

/// An entry from its bytes.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry> {
    const M: &str = "entry";
    let entry = decode_entry_as_it_is(bytes)?;
    finite(M, "proprio", &entry.observation().proprio)?;
    if let Record::Step(step) = &entry.record {
        finite(M, "action", &step.action)?;
        finite(M, "reward", &[step.reward, step.grasp_penalty])?;
    }
    Ok(entry)
}

/// [`decode_entry`] of one whose numbers may be NaN or infinite: for whoever counts them.
pub fn decode_entry_as_it_is(bytes: &[u8]) -> Result<Entry> {
    const M: &str = "entry";
    let entry: pb::Entry = parse(M, bytes, |m: &pb::Entry| m.version)?;
    let observation = entry.observation.ok_or(WireError::Missing {
        message: M,
        field: "observation",
    })?;
    let image = |image: pb::Image| {
        let expected = u64::from(image.height) * u64::from(image.width) * 3;
        if image.rgb.len() as u64 != expected {
            return field(M, "images.rgb", "is not height x width x 3 bytes long");
        }
        let (captured_ns, height, width) = (image.captured_ns, image.height, image.width);
        Ok(Image {
            captured_ns,
            height,
            width,
            rgb: Arc::from(image.rgb),
        })
    };
    let observation = Observation {
        captured_ns: observation.captured_ns,
        proprio: observation.proprio,
        images: observation
            .images
            .into_iter()
            .map(image)
            .collect::<Result<_>>()?,
    };
    let record = match entry.step {
        None => Record::Reset(observation),
        Some(step) => Record::Step(Step {
            action: step.action,
            source: member(&SOURCES, step.source, M, "source")?,
            reward: step.reward,
            grasp_penalty: step.grasp_penalty,
            terminated: step.terminated,
            truncated: step.truncated,
            label: step.label,
            policy_version: step.policy_version,
            noise_seed: step.noise_seed,
            next: observation,
        }),
    };
    Ok(Entry {
        run: RunId(entry.run),
        sequence: entry.sequence,
        episode: entry.episode,
        index: entry.index,
        record,
    })
}

fn tensor_out(tensor: &NamedTensor) -> pb::Tensor {
    pb::Tensor {
        name: tensor.name.clone(),
        shape: tensor.shape.iter().map(|&d| d as u64).collect(),
        data: tensor.data.clone(),
    }
}

fn tensor_in(tensor: pb::Tensor) -> Result<NamedTensor> {
    const M: &str = "snapshot";
    let elements = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    if elements != Some(tensor.data.len() as u64) {
        return field(
            M,
            "tensor.data",
            "does not have as many numbers as its shape says",
        );
    }
    // Each dimension is at most the number of elements, or the tensor is empty.
    let shape = tensor
        .shape
        .iter()
        .map(|&d| usize::try_from(d).unwrap_or(usize::MAX))
        .collect();
    Ok(NamedTensor {
        name: tensor.name,
        shape,
        data: tensor.data,
    })
}

/// A snapshot's bytes.
pub fn encode_snapshot(snapshot: &ModelSnapshot) -> Vec<u8> {
    pb::Snapshot {
        version: VERSION,
        graph: number(&GraphName::ALL, &snapshot.graph),
        graph_hash: snapshot.graph_hash.to_vec(),
        spec: snapshot.spec.0.to_vec(),
        snapshot_version: snapshot.version,
        updates: snapshot.updates,
        weights: snapshot.weights.iter().map(tensor_out).collect(),
        probe_inputs: snapshot.probe.inputs.iter().map(tensor_out).collect(),
        probe_output: Some(tensor_out(&snapshot.probe.output)),
        probe_tolerance: snapshot.probe.tolerance,
    }
    .encode_to_vec()
}

/// A snapshot from its bytes. Weights may be NaN here: the loader refuses them by name.
pub fn decode_snapshot(bytes: &[u8]) -> Result<ModelSnapshot> {
    const M: &str = "snapshot";
    let snapshot: pb::Snapshot = parse(M, bytes, |m: &pb::Snapshot| m.version)?;
    let output = snapshot.probe_output.ok_or(WireError::Missing {
        message: M,
        field: "probe_output",
    })?;
    Ok(ModelSnapshot {
        graph: member(&GraphName::ALL, snapshot.graph, M, "graph")?,
        graph_hash: hash(M, "graph_hash", &snapshot.graph_hash)?,
        spec: SpecHash(hash(M, "spec", &snapshot.spec)?),
        version: snapshot.snapshot_version,
        updates: snapshot.updates,
        weights: snapshot
            .weights
            .into_iter()
            .map(tensor_in)
            .collect::<Result<_>>()?,
        probe: Probe {
            inputs: snapshot
                .probe_inputs
                .into_iter()
                .map(tensor_in)
                .collect::<Result<_>>()?,
            output: tensor_in(output)?,
            tolerance: snapshot.probe_tolerance,
        },
    })
}

/// A graph's bytes.
pub fn encode_graph(graph: &Graph) -> Vec<u8> {
    pb::Graph {
        version: VERSION,
        graph: number(&GraphName::ALL, &graph.name),
        spec: graph.spec.0.to_vec(),
        onnx: graph.onnx.clone(),
    }
    .encode_to_vec()
}

/// A graph from its bytes.
pub fn decode_graph(bytes: &[u8]) -> Result<Graph> {
    const M: &str = "graph";
    let graph: pb::Graph = parse(M, bytes, |m: &pb::Graph| m.version)?;
    Ok(Graph {
        name: member(&GraphName::ALL, graph.graph, M, "graph")?,
        spec: SpecHash(hash(M, "spec", &graph.spec)?),
        onnx: graph.onnx,
    })
}

/// A spec's bytes.
pub fn encode_rig_spec(spec: &RigSpec) -> Vec<u8> {
    pb::RigSpec {
        version: VERSION,
        mode: spec.mode.name().to_owned(),
        axes: spec
            .controlled_axes
            .iter()
            .map(|axis| number(&Axis::ALL, axis))
            .collect(),
        cameras: spec
            .cameras
            .iter()
            .map(|c| pb::Camera {
                name: c.name.clone(),
                height: c.height,
                width: c.width,
            })
            .collect(),
        proprio: spec.proprio.clone(),
        policy_hz: spec.policy_hz,
    }
    .encode_to_vec()
}

/// A valid spec from its bytes.
pub fn decode_rig_spec(bytes: &[u8]) -> Result<RigSpec> {
    const M: &str = "rig spec";
    let spec: pb::RigSpec = parse(M, bytes, |m: &pb::RigSpec| m.version)?;
    let mode: std::result::Result<SetupMode, _> = spec.mode.parse();
    let spec = RigSpec {
        mode: mode.or_else(|_| field(M, "mode", "is not a known setup mode"))?,
        controlled_axes: spec
            .axes
            .iter()
            .map(|&n| member(&Axis::ALL, n, M, "axes"))
            .collect::<Result<_>>()?,
        cameras: spec
            .cameras
            .into_iter()
            .map(|c| CameraSpec {
                name: c.name,
                height: c.height,
                width: c.width,
            })
            .collect(),
        proprio: spec.proprio,
        policy_hz: spec.policy_hz,
    };
    match spec.validate() {
        Ok(()) => Ok(spec),
        Err(_) => field(
            M,
            "spec",
            "is not usable (no axis, no camera, a name twice, or a size out of range)",
        ),
    }
}

/// An acknowledgement's bytes.
pub fn encode_ack(ack: &Ack) -> Vec<u8> {
    pb::Ack {
        version: VERSION,
        run: ack.run.0,
        sequence: ack.sequence,
    }
    .encode_to_vec()
}

/// An acknowledgement from its bytes.
pub fn decode_ack(bytes: &[u8]) -> Result<Ack> {
    let ack: pb::Ack = parse("ack", bytes, |m: &pb::Ack| m.version)?;
    Ok(Ack {
        run: RunId(ack.run),
        sequence: ack.sequence,
    })
}

/// A progress message's bytes.
pub fn encode_progress(progress: &Progress) -> Vec<u8> {
    pb::Progress {
        version: VERSION,
        learner_run: progress.learner_run,
        updates: progress.updates,
        entries: progress.entries,
        allowed_steps: progress.allowed_steps,
        finished: progress.finished,
    }
    .encode_to_vec()
}

/// A progress message from its bytes.
pub fn decode_progress(bytes: &[u8]) -> Result<Progress> {
    let p: pb::Progress = parse("progress", bytes, |m: &pb::Progress| m.version)?;
    Ok(Progress {
        learner_run: p.learner_run,
        updates: p.updates,
        entries: p.entries,
        allowed_steps: p.allowed_steps,
        finished: p.finished,
    })
}
