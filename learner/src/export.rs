//! What the robot gets: graphs, snapshots with a probe, and a folder that stands alone.

use std::{io, path::Path};

use hilt_protocol::{
    Graph, GraphName, ModelSnapshot, NamedTensor, Probe, RigSpec, content_hash, noise,
};
use tch::{Kind, Tensor};

use crate::{
    agents::sac_grasp::{GripperHead, SacGrasp},
    encoder::Encoder,
    metrics::write_atomically,
    onnx::{Weights, classifier_graph, encoder_graph, policy_graph},
    reward::model::{RewardInput, RewardModel},
};

/// Largest difference that two runtimes may show on a probe.
const PROBE_TOLERANCE: f32 = 2e-3;

/// The encoder's graph.
pub fn encoder(spec: &RigSpec, encoder: &Encoder) -> Graph {
    Graph {
        name: GraphName::Encoder,
        spec: spec.hash(),
        onnx: encoder_graph(encoder),
    }
}

/// The policy's graph.
pub fn policy(spec: &RigSpec, agent: &SacGrasp, weights: Weights) -> Graph {
    let onnx = policy_graph(
        agent.config(),
        agent.shapes(),
        &agent.policy_weights(),
        weights,
    );
    Graph {
        name: GraphName::Policy,
        spec: spec.hash(),
        onnx,
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
pub fn policy_snapshot(graph: &Graph, agent: &SacGrasp, version: u64) -> ModelSnapshot {
    let shapes = agent.shapes();
    let mut inputs = Vec::new();
    for (i, (camera, [h, w, c])) in shapes.cameras.iter().enumerate() {
        inputs.push(probe_tensor(
            &format!("map.{camera}"),
            &[1, *h, *w, *c],
            version ^ (i as u64 + 1) << 32,
        ));
    }
    inputs.push(probe_tensor(
        "proprio",
        &[1, shapes.proprio],
        version ^ 1 << 48,
    ));
    inputs.push(probe_tensor(
        "noise",
        &[1, shapes.motion_columns.len() as i64],
        version ^ 1 << 49,
    ));
    inputs.push(NamedTensor {
        name: "explore".into(),
        shape: vec![1],
        data: vec![0.0],
    });
    let gumbel = probe_tensor("gumbel", &[1, shapes.choices()], version ^ 1 << 50);
    let maps: Vec<Tensor> = inputs[..shapes.cameras.len()].iter().map(tensor).collect();
    let [.., proprio, normal, _] = &inputs[..] else {
        unreachable!("three inputs were pushed")
    };
    let action = agent.act(
        &maps,
        &tensor(proprio),
        &tensor(normal),
        &tensor(&gumbel),
        0.0,
    );
    if matches!(agent.config().gripper, GripperHead::Categorical { .. }) {
        inputs.push(gumbel);
    }
    ModelSnapshot {
        graph: GraphName::Policy,
        graph_hash: content_hash(&graph.onnx),
        spec: graph.spec,
        version,
        updates: agent.updates(),
        weights: agent.policy_weights(),
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
    let output = model.probability(&inputs.iter().map(tensor).collect::<Vec<_>>());
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
    agent: &SacGrasp,
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
