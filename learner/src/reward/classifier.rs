//! The reward classifier's head on maps, as HIL-SERL's (`reward_classifier.py`): spatial
//! embeddings per camera, a hidden layer, one logit. Trained with binary cross-entropy. Whose maps
//! they are is `reward_model`'s.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use crate::nn::{
    Adam, AdamConfig, Init, ParamSpec, Params,
    layers::{by_channel, layer_norm, linear, linear_specs, norm_specs, spatial_embeddings},
};

/// Hyperparameters; the default is HIL-SERL's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierConfig {
    /// Spatial features per channel.
    pub spatial_features: i64,
    /// Width of a camera's embedding.
    pub bottleneck: i64,
    /// Width of the hidden layer.
    pub hidden: i64,
    /// Dropout of the spatial features and of the hidden layer.
    pub dropout: f64,
    /// Adam's step size.
    pub lr: f64,
}

impl Default for ClassifierConfig {
    fn default() -> Self {
        Self {
            spatial_features: 8,
            bottleneck: 256,
            hidden: 256,
            dropout: 0.1,
            lr: 1e-4,
        }
    }
}

/// Dropout masks, 1 where kept: recorded in tests, drawn in training.
#[derive(Debug)]
pub struct Keep {
    /// Per camera \[B, C·F\].
    pub cameras: Vec<Tensor>,
    /// Of the hidden layer, before its norm \[B, hidden\].
    pub head: Tensor,
}

/// The classifier and its optimizer.
#[derive(Debug)]
pub struct Classifier {
    config: ClassifierConfig,
    cameras: Vec<(String, [i64; 3])>,
    params: Params,
    adam: Adam,
}

impl Classifier {
    /// Fresh weights from torch's generator seeded with `seed`; `cameras` are names and map shapes.
    pub fn new(
        config: ClassifierConfig,
        cameras: Vec<(String, [i64; 3])>,
        kind: Kind,
        device: Device,
        seed: u64,
    ) -> Self {
        tch::manual_seed(seed as i64);
        let mut specs = Vec::new();
        for (camera, [h, w, c]) in &cameras {
            specs.push(ParamSpec {
                name: format!("encoder.{camera}.sle.kernel_hwcf"),
                shape: vec![*h, *w, *c, config.spatial_features],
                init: Init::Lecun(h * w * c),
            });
            let name = format!("encoder.{camera}");
            specs.extend(linear_specs(
                &format!("{name}.dense"),
                c * config.spatial_features,
                config.bottleneck,
            ));
            specs.extend(norm_specs(&format!("{name}.norm"), config.bottleneck));
        }
        specs.extend(linear_specs(
            "head.0",
            cameras.len() as i64 * config.bottleneck,
            config.hidden,
        ));
        specs.extend(norm_specs("head.0.norm", config.hidden));
        specs.extend(linear_specs("head.1", config.hidden, 1));
        let params = Params::new(&specs, kind, device);
        let adam = Adam::new(AdamConfig::new(config.lr), &params, params.select(|_| true));
        Self {
            config,
            cameras,
            params,
            adam,
        }
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Logits \[B, 1\] of maps \[B, h, w, C\], one per camera.
    pub fn logits(&self, maps: &[Tensor], keep: Option<&Keep>) -> Tensor {
        let p = &self.params;
        let scale = 1.0 - self.config.dropout;
        let embed = |(k, (camera, _)): (usize, &(String, [i64; 3]))| {
            let kernel = p.get(&format!("encoder.{camera}.sle.kernel_hwcf"));
            let mut features = spatial_embeddings(kernel, &by_channel(&maps[k]));
            if let Some(keep) = keep {
                features = features * &keep.cameras[k] / scale;
            }
            layer_norm(
                p,
                &format!("encoder.{camera}.norm"),
                &linear(p, &format!("encoder.{camera}.dense"), &features),
            )
            .tanh()
        };
        let cameras: Vec<Tensor> = self.cameras.iter().enumerate().map(embed).collect();
        let mut hidden = linear(p, "head.0", &Tensor::cat(&cameras, 1));
        if let Some(keep) = keep {
            hidden = hidden * &keep.head / scale;
        }
        linear(p, "head.1", &layer_norm(p, "head.0.norm", &hidden).relu())
    }

    /// Mean sigmoid binary cross-entropy of logits and labels \[B, 1\].
    pub fn loss(logits: &Tensor, labels: &Tensor) -> Tensor {
        assert_eq!(logits.size(), labels.size());
        logits.binary_cross_entropy_with_logits(
            labels,
            None::<&Tensor>,
            None::<&Tensor>,
            Reduction::Mean,
        )
    }

    /// One step; returns the loss before it and the gradients by name.
    pub fn step(
        &mut self,
        maps: &[Tensor],
        labels: &Tensor,
        keep: &Keep,
    ) -> (f64, Vec<(String, Tensor)>) {
        let loss = Self::loss(&self.logits(maps, Some(keep)), labels);
        let grads = Tensor::run_backward(&[&loss], &self.leaves(), false, false);
        self.apply(&grads);
        let names = self
            .adam
            .places()
            .iter()
            .map(|&i| self.params.names()[i].clone());
        (loss.double_value(&[]), names.zip(grads).collect())
    }

    /// Names of the cameras and shapes of their maps \[h, w, C\].
    pub fn cameras(&self) -> &[(String, [i64; 3])] {
        &self.cameras
    }

    /// The leaves to ask gradients for, in the order that [`Classifier::apply`] takes them.
    pub fn leaves(&self) -> Vec<&Tensor> {
        self.adam.leaves(&self.params)
    }

    /// Steps with these gradients, one per leaf.
    pub fn apply(&mut self, grads: &[Tensor]) {
        self.adam.step(&self.params, Some(grads));
    }

    /// Dropout masks for a batch, from torch's generator.
    pub fn draw_keep(&self, batch: i64) -> Keep {
        let flat = self.params.flat();
        let draw = |width: i64| {
            let uniform = Tensor::rand([batch, width], (flat.kind(), flat.device()));
            uniform.lt(1.0 - self.config.dropout).to_kind(flat.kind())
        };
        let features = |(_, [_, _, c]): &(String, [i64; 3])| draw(c * self.config.spatial_features);
        Keep {
            cameras: self.cameras.iter().map(features).collect(),
            head: draw(self.config.hidden),
        }
    }

    /// Probabilities of success \[B\].
    pub fn probability(&self, maps: &[Tensor]) -> Tensor {
        no_grad(|| self.logits(maps, None).sigmoid().squeeze_dim(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Success is a bright patch in one camera: learned from a few hundred frames.
    #[test]
    fn it_learns_what_success_looks_like() {
        // A small net on a small batch: more threads would only wait for each other.
        tch::set_num_threads(1);
        let cameras = vec![
            ("front".to_owned(), [4, 4, 8]),
            ("wrist".to_owned(), [4, 4, 8]),
        ];
        let config = ClassifierConfig {
            hidden: 32,
            bottleneck: 32,
            lr: 3e-3,
            ..ClassifierConfig::default()
        };
        let mut classifier = Classifier::new(config, cameras, Kind::Float, Device::Cpu, 3);
        let frames = |n: i64| {
            let options = (Kind::Float, Device::Cpu);
            let labels = Tensor::rand([n, 1], options).gt(0.5).to_kind(Kind::Float);
            let front = Tensor::rand([n, 4, 4, 8], options);
            let wrist = Tensor::rand([n, 4, 4, 8], options);
            let _ = wrist.select(1, 2).select(1, 2).g_add_(&labels);
            ([front, wrist], labels)
        };
        for _ in 0..150 {
            let (maps, labels) = frames(64);
            let keep = classifier.draw_keep(64);
            classifier.step(&maps, &labels, &keep);
        }
        let (maps, labels) = frames(500);
        let right = classifier
            .probability(&maps)
            .gt(0.5)
            .to_kind(Kind::Float)
            .eq_tensor(&labels.squeeze_dim(1));
        let accuracy = right
            .to_kind(Kind::Double)
            .mean(Kind::Double)
            .double_value(&[]);
        assert!(accuracy > 0.95, "{accuracy}");
    }
}
