//! The demo's networks on the demo's rig, untrained: what inference tests and benches run.

use std::{path::Path, sync::Arc};

use hilt_learner::{
    agents::sac_grasp::{SacGrasp, Shapes},
    config::LearnerConfig,
    encoder::Encoder,
    export,
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

    /// Encoder and policy as graphs; no classifier.
    pub fn graphs(&self, weights: Weights) -> PolicyFiles {
        PolicyFiles {
            encoder: export::encoder(&self.spec, &self.encoder),
            policy: export::policy(&self.spec, &self.agent, weights),
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
