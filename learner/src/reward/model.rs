//! The learned reward: HIL-SERL's head ([`Classifier`]) on the frozen encoder's maps, or on a trunk
//! of its own that is trained with it.
//!
//! Maps that were made for acting need not show whether a cube is in the hand, and a policy finds
//! every pose in which they do not. A trunk of its own sees the images, costs a few more
//! operations per step on the robot, and nothing per update.

use std::{io, path::Path};

use hilt_protocol::{CameraSpec, NamedTensor};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::classifier::{Classifier, ClassifierConfig, Keep};
use crate::{
    encoder::{Encoder, EncoderConfig},
    nn::{Adam, AdamConfig, Params},
};

/// What the classifier looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RewardInput {
    /// The frozen encoder's maps, as HIL-SERL's.
    Maps,
    /// The images, through a trunk of its own.
    Images,
}

/// Prefix of the trunk's weights among the model's.
pub const TRUNK: &str = "trunk/";

/// Why a classifier cannot look at these cameras.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "camera `{camera}` gives {width}×{height} pixels, but the reward classifier looks at \
     {expected}×{expected}: set reward.trunk.image_size to the cameras' size, or reward.input = \"maps\""
)]
pub struct CameraSize {
    camera: String,
    width: u32,
    height: u32,
    expected: i64,
}

/// A trunk and its optimizer.
#[derive(Debug)]
struct Trunk {
    encoder: Encoder,
    adam: Adam,
}

/// The classifier with what it stands on.
#[derive(Debug)]
pub struct RewardModel {
    trunk: Option<Trunk>,
    head: Classifier,
}

impl RewardModel {
    /// On maps \[h, w, C\], one per camera. Fresh weights.
    pub fn on_maps(
        config: ClassifierConfig,
        cameras: &[CameraSpec],
        map_shape: [i64; 3],
        device: Device,
        seed: u64,
    ) -> Self {
        let shapes = (cameras.iter())
            .map(|c| (c.name.clone(), map_shape))
            .collect();
        Self {
            trunk: None,
            head: Classifier::new(config, shapes, Kind::Float, device, seed),
        }
    }

    /// On the images of these cameras, which must have the trunk's size. Fresh weights.
    pub fn on_images(
        config: ClassifierConfig,
        trunk: EncoderConfig,
        cameras: &[CameraSpec],
        device: Device,
        seed: u64,
    ) -> Result<Self, CameraSize> {
        let expected = trunk.image_size;
        let fits = |side: u32| i64::from(side) == expected;
        if let Some(c) = (cameras.iter()).find(|c| !fits(c.width) || !fits(c.height)) {
            return Err(CameraSize {
                camera: c.name.clone(),
                width: c.width,
                height: c.height,
                expected,
            });
        }
        let adam = AdamConfig::new(config.lr);
        let encoder = Encoder::new(trunk, Kind::Float, device, seed);
        let mut model = Self::on_maps(config, cameras, encoder.config().map_shape(), device, seed);
        let adam = Adam::new(adam, encoder.params(), encoder.params().select(|_| true));
        model.trunk = Some(Trunk { encoder, adam });
        Ok(model)
    }

    /// What it looks at.
    pub fn input(&self) -> RewardInput {
        match self.trunk {
            Some(_) => RewardInput::Images,
            None => RewardInput::Maps,
        }
    }

    /// The trunk of its own, if it has one.
    pub fn trunk(&self) -> Option<&Encoder> {
        self.trunk.as_ref().map(|trunk| &trunk.encoder)
    }

    /// The head.
    pub fn head(&self) -> &Classifier {
        &self.head
    }

    /// Maps of its inputs, with gradients: images \[B, H, W, 3\] (u8, or 0–255 floats) through the
    /// trunk in one pass, or maps as they are.
    fn maps(&self, inputs: &[Tensor]) -> Vec<Tensor> {
        match &self.trunk {
            None => inputs.iter().map(Tensor::shallow_clone).collect(),
            Some(trunk) => {
                let batch = inputs.first().map_or(1, |images| images.size()[0]);
                trunk
                    .encoder
                    .forward(&Tensor::cat(inputs, 0))
                    .split(batch, 0)
            }
        }
    }

    /// One step on inputs, one per camera, and labels \[B, 1\]; returns the loss before it.
    pub fn step(&mut self, inputs: &[Tensor], labels: &Tensor, keep: &Keep) -> f64 {
        let loss = Classifier::loss(&self.head.logits(&self.maps(inputs), Some(keep)), labels);
        let mut leaves = self.head.leaves();
        let heads = leaves.len();
        if let Some(trunk) = &self.trunk {
            leaves.extend(trunk.adam.leaves(trunk.encoder.params()));
        }
        let grads = Tensor::run_backward(&[&loss], &leaves, false, false);
        drop(leaves);
        self.head.apply(&grads[..heads]);
        if let Some(Trunk { encoder, adam }) = &mut self.trunk {
            adam.step(encoder.params(), Some(&grads[heads..]));
        }
        loss.double_value(&[])
    }

    /// Probabilities of success \[B\].
    pub fn probability(&self, inputs: &[Tensor]) -> Tensor {
        no_grad(|| self.head.probability(&self.maps(inputs)))
    }

    /// All weights: the head's under their names, the trunk's below [`TRUNK`].
    pub fn weights(&self) -> Vec<NamedTensor> {
        let mut weights = self.head.params().export(|_| true);
        if let Some(trunk) = &self.trunk {
            weights.extend(
                (trunk.encoder.params().export(|_| true))
                    .into_iter()
                    .map(|tensor| NamedTensor {
                        name: format!("{TRUNK}{}", tensor.name),
                        ..tensor
                    }),
            );
        }
        weights
    }

    /// The parameters with the prefix of their names in a file.
    fn parts(&self) -> Vec<(&'static str, &Params)> {
        let mut parts = vec![("", self.head.params())];
        parts.extend((self.trunk.iter()).map(|trunk| (TRUNK, trunk.encoder.params())));
        parts
    }

    /// Saves the weights by name; beside the place, then renamed.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let tensors: Vec<(String, Tensor)> = (self.parts().into_iter())
            .flat_map(|(prefix, params)| {
                let named = |name: &String| (format!("{prefix}{name}"), params.get(name).detach());
                params.names().iter().map(named).collect::<Vec<_>>()
            })
            .collect();
        let beside = hilt_recording::beside(path);
        Tensor::write_safetensors(&tensors, &beside).map_err(io::Error::other)?;
        std::fs::rename(&beside, path)
    }

    /// Loads weights by name; each must be there in its shape.
    pub fn load(&self, path: &Path) -> io::Result<()> {
        let bad = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let tensors = Tensor::read_safetensors(path).map_err(|e| bad(e.to_string()))?;
        let mut found = Vec::new();
        for (prefix, params) in self.parts() {
            for name in params.names() {
                let full = format!("{prefix}{name}");
                let fits =
                    |(n, t): &&(String, Tensor)| *n == full && t.size() == params.get(name).size();
                let (_, tensor) = (tensors.iter().find(fits))
                    .ok_or_else(|| bad(format!("`{full}` is missing or has another shape")))?;
                found.push((params, name, tensor));
            }
        }
        (found.into_iter()).for_each(|(params, name, tensor)| params.set(name, tensor));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cameras(side: u32) -> [CameraSpec; 2] {
        ["front", "wrist"].map(|name| CameraSpec {
            name: name.into(),
            height: side,
            width: side,
        })
    }

    fn trunk() -> EncoderConfig {
        EncoderConfig {
            image_size: 16,
            stem_kernel: 5,
            stem_pool: false,
            widths: vec![4, 8],
            groups: 4,
        }
    }

    fn model(seed: u64) -> RewardModel {
        let config = ClassifierConfig {
            hidden: 16,
            bottleneck: 16,
            lr: 3e-3,
            ..ClassifierConfig::default()
        };
        RewardModel::on_images(config, trunk(), &cameras(16), Device::Cpu, seed).unwrap()
    }

    /// Success is a small bright square anywhere in the wrist camera's picture.
    fn frames(n: i64) -> (Vec<Tensor>, Tensor) {
        let options = (Kind::Float, Device::Cpu);
        let labels = Tensor::rand([n, 1], options).gt(0.5).to_kind(Kind::Float);
        let front = Tensor::rand([n, 16, 16, 3], options) * 100.0;
        let wrist = Tensor::rand([n, 16, 16, 3], options) * 100.0;
        for i in 0..n {
            let (y, x) = ((i * 7) % 12, (i * 5) % 12);
            let mut patch = wrist.get(i).narrow(0, y, 4).narrow(1, x, 4);
            patch += labels.get(i) * 150.0;
        }
        (vec![front, wrist], labels)
    }

    #[test]
    fn a_trunk_of_its_own_learns_what_to_look_at_and_comes_back_from_a_file() {
        tch::set_num_threads(1);
        let mut model = model(1);
        for _ in 0..150 {
            let (inputs, labels) = frames(32);
            let keep = model.head().draw_keep(32);
            model.step(&inputs, &labels, &keep);
        }
        let (inputs, labels) = frames(300);
        let right = |model: &RewardModel| {
            let said = model.probability(&inputs).gt(0.5).to_kind(Kind::Float);
            said.eq_tensor(&labels.squeeze_dim(1))
                .to_kind(Kind::Float)
                .mean(None::<Kind>)
                .double_value(&[])
        };
        assert!(right(&model) > 0.95, "{}", right(&model));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("classifier.safetensors");
        model.save(&path).unwrap();
        let other = self::model(2);
        assert!(right(&other) < 0.8);
        other.load(&path).unwrap();
        assert_eq!(right(&other), right(&model));
        let maps = RewardModel::on_maps(
            ClassifierConfig::default(),
            &cameras(16),
            [4, 4, 8],
            Device::Cpu,
            1,
        );
        let error = maps.load(&path).unwrap_err().to_string();
        assert!(error.contains("classifier.safetensors"), "{error}");
    }

    #[test]
    fn cameras_of_another_size_are_refused_with_the_remedy() {
        let made = RewardModel::on_images(
            ClassifierConfig::default(),
            trunk(),
            &cameras(64),
            Device::Cpu,
            1,
        );
        let error = made.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.contains("front") && error.contains("reward.trunk.image_size"),
            "{error}"
        );
    }
}
