//! What the robot gets: graphs, snapshots with a probe, and a folder that stands alone.

use std::{io, path::Path};

use hilt_protocol::{
    Graph, GraphName, ModelSnapshot, NamedTensor, Probe, RigSpec, content_hash, noise,
};
use tch::{Kind, Tensor};

use crate::{
    agents::{
        front::Sighted,
        sac_grasp::{Alternating, GripperHead, SacGrasp},
        sight::{Sight, SightAgent},
    },
    encoder::Encoder,
    metrics::write_atomically,
    onnx::{
        Weights, classifier_graph, encoder_graph, policy_graph, sighted_policy_graph,
        sighted_weights,
    },
    reward::model::{RewardInput, RewardModel},
};

/// Largest difference that two runtimes may show on a probe.
const PROBE_TOLERANCE: f32 = 2e-3;

/// A policy that a robot can run: it acts on maps of the encoder and on proprioception.
pub trait RobotPolicy {
    /// Cameras, each with its map's \[h, w, C\].
    fn cameras(&self) -> &[(String, [i64; 3])];

    /// P: numbers of proprioception.
    fn proprio(&self) -> i64;

    /// Columns of the graph's `noise`.
    fn noise_columns(&self) -> i64;

    /// Columns of the graph's `gumbel`; `None`: it has none.
    fn gumbel_columns(&self) -> Option<i64>;

    /// The graph, by the contract of [`GraphName::Policy`].
    fn graph(&self, weights: Weights) -> Vec<u8>;

    /// A tensor for each weight of the graph.
    fn weights(&self) -> Vec<NamedTensor>;

    /// Updates behind it.
    fn updates(&self) -> u64;

    /// The best action it knows \[1, A\], on maps \[1, h, w, C\], one per camera, and proprioception \[1, P\].
    fn best(&self, maps: &[Tensor], proprio: &Tensor) -> Tensor;
}

impl RobotPolicy for SacGrasp {
    fn cameras(&self) -> &[(String, [i64; 3])] {
        &self.shapes().cameras
    }

    fn proprio(&self) -> i64 {
        self.shapes().proprio
    }

    fn noise_columns(&self) -> i64 {
        self.shapes().motion_columns.len() as i64
    }

    fn gumbel_columns(&self) -> Option<i64> {
        let categorical = matches!(self.config().gripper, GripperHead::Categorical { .. });
        categorical.then(|| self.shapes().choices())
    }

    fn graph(&self, weights: Weights) -> Vec<u8> {
        policy_graph(
            self.config(),
            self.shapes(),
            &self.policy_weights(),
            weights,
        )
    }

    fn weights(&self) -> Vec<NamedTensor> {
        self.policy_weights()
    }

    fn updates(&self) -> u64 {
        SacGrasp::updates(self)
    }

    fn best(&self, maps: &[Tensor], proprio: &Tensor) -> Tensor {
        SacGrasp::best(self, &sight_beside(self.params().flat(), maps, proprio))
    }
}

impl RobotPolicy for Sighted {
    fn cameras(&self) -> &[(String, [i64; 3])] {
        self.front().cameras()
    }

    fn proprio(&self) -> i64 {
        self.front().proprio()
    }

    fn noise_columns(&self) -> i64 {
        self.agent().policy().actions()
    }

    fn gumbel_columns(&self) -> Option<i64> {
        None
    }

    fn graph(&self, weights: Weights) -> Vec<u8> {
        sighted_policy_graph(self, &self.weights(), weights)
    }

    fn weights(&self) -> Vec<NamedTensor> {
        sighted_weights(self)
    }

    fn updates(&self) -> u64 {
        self.agent().updates()
    }

    fn best(&self, maps: &[Tensor], proprio: &Tensor) -> Tensor {
        let own = self.front().params().flat();
        self.act(&sight_beside(own, maps, proprio), None)
    }
}

/// An agent that a robot can run.
pub trait RobotAgent: SightAgent {
    /// What the robot runs of it.
    fn acts(&self) -> &dyn RobotPolicy;
}

impl RobotAgent for Alternating {
    fn acts(&self) -> &dyn RobotPolicy {
        self.agent()
    }
}

impl RobotAgent for Sighted {
    fn acts(&self) -> &dyn RobotPolicy {
        self
    }
}

/// A probe's input where a network's parameters are, and of their kind.
fn beside(params: &Tensor, input: &Tensor) -> Tensor {
    input.to_device(params.device()).to_kind(params.kind())
}

fn sight_beside(params: &Tensor, maps: &[Tensor], proprio: &Tensor) -> Sight {
    Sight {
        maps: maps.iter().map(|map| beside(params, map)).collect(),
        proprio: beside(params, proprio),
    }
}

/// The encoder's graph.
pub fn encoder(spec: &RigSpec, encoder: &Encoder) -> Graph {
    Graph {
        name: GraphName::Encoder,
        spec: spec.hash(),
        onnx: encoder_graph(encoder),
    }
}

/// The policy's graph.
pub fn policy(spec: &RigSpec, policy: &dyn RobotPolicy, weights: Weights) -> Graph {
    Graph {
        name: GraphName::Policy,
        spec: spec.hash(),
        onnx: policy.graph(weights),
    }
}

/// The classifier's graph.
pub fn classifier(spec: &RigSpec, model: &RewardModel, weights: Weights) -> Graph {
    Graph {
        name: GraphName::Classifier,
        spec: spec.hash(),
        onnx: classifier_onnx(model, weights),
    }
}

/// What is in the classifier's graph: it depends on its cameras and on nothing else of a rig.
pub fn classifier_onnx(model: &RewardModel, weights: Weights) -> Vec<u8> {
    classifier_graph(
        model.head().cameras(),
        model.trunk().map(Encoder::config),
        &model.weights(),
        weights,
    )
}

fn probe_tensor(name: &str, shape: &[i64], seed: u64) -> NamedTensor {
    let n = shape.iter().product::<i64>() as usize;
    NamedTensor {
        name: name.to_owned(),
        shape: shape.iter().map(|&d| d as usize).collect(),
        data: noise::normals(seed, n),
    }
}

fn tensor(named: &NamedTensor) -> Tensor {
    let shape: Vec<i64> = named.shape.iter().map(|&d| d as i64).collect();
    Tensor::from_slice(&named.data)
        .view(shape.as_slice())
        .to_kind(Kind::Float)
}

/// A snapshot of the policy for its graph, with what it must answer to a greedy probe.
pub fn policy_snapshot(graph: &Graph, policy: &dyn RobotPolicy, version: u64) -> ModelSnapshot {
    let row = |name, columns, bit: u32| probe_tensor(name, &[1, columns], version ^ 1 << bit);
    let cameras = policy.cameras().iter().enumerate();
    let mut inputs: Vec<NamedTensor> = cameras
        .map(|(i, (camera, [h, w, c]))| {
            let seed = version ^ (i as u64 + 1) << 32;
            probe_tensor(&format!("map.{camera}"), &[1, *h, *w, *c], seed)
        })
        .collect();
    let maps: Vec<Tensor> = inputs.iter().map(tensor).collect();
    let proprio = row("proprio", policy.proprio(), 48);
    let action = policy.best(&maps, &tensor(&proprio));
    inputs.push(proprio);
    inputs.push(row("noise", policy.noise_columns(), 49));
    inputs.push(NamedTensor {
        name: "explore".into(),
        shape: vec![1],
        data: vec![0.0],
    });
    let gumbel = policy.gumbel_columns();
    inputs.extend(gumbel.map(|columns| row("gumbel", columns, 50)));
    ModelSnapshot {
        graph: GraphName::Policy,
        graph_hash: content_hash(&graph.onnx),
        spec: graph.spec,
        version,
        updates: policy.updates(),
        weights: policy.weights(),
        probe: Probe {
            inputs,
            output: crate::nn::params::to_named("action", &action),
            tolerance: PROBE_TOLERANCE,
        },
    }
}

/// An image of random bytes \[1, H, W, 3\].
fn probe_image(name: &str, side: i64, seed: u64) -> NamedTensor {
    let mut probe = probe_tensor(name, &[1, side, side, 3], seed);
    let byte = |v: f32| (128.0 + 64.0 * v).clamp(0.0, 255.0).round();
    probe.data = probe.data.into_iter().map(byte).collect();
    probe
}

/// A snapshot of the classifier for its graph.
pub fn classifier_snapshot(graph: &Graph, model: &RewardModel, version: u64) -> ModelSnapshot {
    let cameras = model.head().cameras().iter().enumerate();
    let inputs: Vec<NamedTensor> = cameras
        .map(
            |(i, (camera, [h, w, c]))| match (model.input(), model.trunk()) {
                (RewardInput::Images, Some(trunk)) => {
                    let side = trunk.config().image_size;
                    probe_image(&format!("image.{camera}"), side, i as u64 + 7)
                }
                _ => probe_tensor(&format!("map.{camera}"), &[1, *h, *w, *c], i as u64 + 7),
            },
        )
        .collect();
    let own = model.head().params().flat();
    let seen: Vec<Tensor> = inputs.iter().map(|x| beside(own, &tensor(x))).collect();
    let output = model.probability(&seen);
    ModelSnapshot {
        graph: GraphName::Classifier,
        graph_hash: content_hash(&graph.onnx),
        spec: graph.spec,
        version,
        updates: 0,
        weights: model.weights(),
        probe: Probe {
            inputs,
            output: crate::nn::params::to_named("probability", &output),
            tolerance: PROBE_TOLERANCE,
        },
    }
}

/// Writes a folder from which a robot can act without a learner: graphs with their weights baked
/// in, and the spec.
pub fn write_folder(
    dir: &Path,
    spec: &RigSpec,
    encoder_of: &Encoder,
    agent: &dyn RobotPolicy,
    reward: Option<&RewardModel>,
) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut graphs = vec![
        encoder(spec, encoder_of),
        policy(spec, agent, Weights::Baked),
    ];
    graphs.extend(reward.map(|model| classifier(spec, model, Weights::Baked)));
    for graph in graphs {
        write_atomically(
            &dir.join(format!("{}.onnx", graph.name.name())),
            &graph.onnx,
        )?;
    }
    write_atomically(&dir.join("spec.json"), &serde_json::to_vec_pretty(spec)?)
}
