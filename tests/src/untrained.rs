//! The demo's networks on the demo's rig, untrained: what inference tests and benches run.

use std::{path::Path, sync::Arc};

use hilt_learner::{
    agents::{
        front::{MapFront, Sighted},
        sac_grasp::{SacGrasp, Shapes},
    },
    config::{Algorithm, LearnerConfig},
    encoder::Encoder,
    export::{self, RobotPolicy},
    onnx::Weights,
    presets,
};
use hilt_protocol::{Graph, Image, ModelSnapshot, Observation, RigSpec, noise::Uniforms};
use hilt_runtime::{inference::PolicyFiles, rig::Rig};
use tch::{Device, Kind};

/// The learner of the lift demo before its first update.
pub struct Untrained {
    /// `rigs/lift-sim.toml`.
    pub rig: Rig,
    /// Its spec.
    pub spec: RigSpec,
    /// The encoder of the learner's default configuration.
    pub encoder: Encoder,
    /// The agent of the learner's default configuration.
    pub agent: SacGrasp,
}

impl Untrained {
    /// Weights from `seed`.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        // So small are they that more threads only wait for one another.
        tch::set_num_threads(1);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/lift-sim.toml");
        let rig = Rig::read(&file, &[])?;
        let (spec, config) = (
            rig.spec(),
            LearnerConfig::resolve(presets::DEFAULT, None, &[])?,
        );
        let encoder = Encoder::new(config.encoder, Kind::Float, Device::Cpu, seed);
        let shapes = Shapes::of(&spec, encoder.config().map_shape());
        let agent = SacGrasp::new(config.sac_grasp, shapes, Kind::Float, Device::Cpu, seed);
        Ok(Self {
            rig,
            spec,
            encoder,
            agent,
        })
    }

    /// One of the algorithms on vectors behind a front, for the same rig but for actions of so many columns.
    pub fn sighted(&self, algorithm: Algorithm, actions: usize) -> anyhow::Result<Sighted> {
        let config = LearnerConfig {
            algorithm,
            ..LearnerConfig::resolve(presets::DEFAULT, None, &[])?
        };
        let shapes = self.agent.shapes();
        let options = (Kind::Float, Device::Cpu);
        let front = MapFront::new(
            &config.front,
            &shapes.cameras,
            shapes.proprio,
            options.0,
            options.1,
        );
        let agent = config.agent(front.width(), actions as i64, options.1, 5);
        let agent = agent.ok_or_else(|| anyhow::anyhow!("{} needs no front", algorithm.name()))?;
        Ok(Sighted::new(front, agent))
    }

    /// Encoder and policy as graphs; no classifier.
    pub fn graphs(&self, weights: Weights) -> PolicyFiles {
        self.graphs_of(&self.agent, weights)
    }

    /// The same with another policy.
    pub fn graphs_of(&self, policy: &dyn RobotPolicy, weights: Weights) -> PolicyFiles {
        PolicyFiles {
            encoder: export::encoder(&self.spec, &self.encoder),
            policy: export::policy(&self.spec, policy, weights),
            classifier: None,
        }
    }

    /// The agent's weights for `policy`.
    pub fn snapshot(&self, policy: &Graph, version: u64) -> ModelSnapshot {
        export::policy_snapshot(policy, &self.agent, version)
    }

    /// An observation of random pixels.
    pub fn observation(&self, seed: u64) -> Observation {
        let mut random = Uniforms::new(seed);
        let cameras = self.spec.cameras.iter();
        let images = cameras.map(|camera| Image {
            captured_ns: 0,
            height: camera.height,
            width: camera.width,
            rgb: (0..camera.height * camera.width * 3)
                .map(|_| random.bits() as u8)
                .collect::<Arc<[u8]>>(),
        });
        let images = images.collect();
        let proprio = (0..self.spec.proprio_dim()).map(|_| random.normal() as f32);
        Observation {
            captured_ns: 0,
            proprio: proprio.collect(),
            images,
        }
    }
}
