//! How a noise level looks to a denoiser.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    activation::Activation,
    embedding::{self, Embedding},
    layers::{Gradients, column_sums, weight},
};
use crate::nn::{Init, ParamSpec, Params, product};

/// Numbers that a time becomes before the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFeatures {
    /// The time, and sine and cosine of it at frequencies that were drawn once (Tancik et al. 2020,
    /// arXiv 2006.10739).
    RandomFourier,
    /// The same with frequencies that learn.
    LearnedFourier,
    /// Sines and cosines at the frequencies of transformers (Vaswani et al. 2017, arXiv 1706.03762).
    Sinusoidal,
}

/// Frequencies of the Fourier features.
const FREQUENCIES: &str = "time_mlp.0.weights";

/// Features of a time and their embedding.
#[derive(Clone, Debug)]
pub struct TimeNet {
    features: TimeFeatures,
    fourier: i64,
    embedding: Embedding,
}

/// What a pass leaves for the way back.
#[derive(Debug)]
pub struct Seen {
    time: Tensor,
    embedding: embedding::Seen,
}

impl TimeNet {
    /// `fourier` sines and cosines (or, sinusoidal, as many as `width`), embedded in `width` numbers through
    /// `hidden`.
    pub fn new(
        features: TimeFeatures,
        fourier: i64,
        (hidden, width): (i64, i64),
        activation: Activation,
    ) -> Self {
        let inputs = match features {
            TimeFeatures::Sinusoidal => width,
            _ => fourier + 1,
        };
        Self {
            features,
            fourier,
            embedding: Embedding {
                names: ["time_mlp.1", "time_mlp.3"],
                sizes: [inputs, hidden, width],
                activation,
            },
        }
    }

    pub fn specs(&self) -> Vec<ParamSpec> {
        let frequencies = ParamSpec {
            name: FREQUENCIES.to_owned(),
            shape: vec![self.fourier / 2],
            // Standard normal.
            init: Init::Lecun(1),
        };
        let fourier = self.features != TimeFeatures::Sinusoidal;
        let mut specs = Vec::from_iter(fourier.then_some(frequencies));
        specs.extend(self.embedding.specs());
        specs
    }

    /// Whether the parameter of this name learns.
    pub fn learns(&self, name: &str) -> bool {
        name != FREQUENCIES || self.features == TimeFeatures::LearnedFourier
    }

    /// Angles \[B, n\] of times \[B\], of which there are sine and cosine.
    fn angles(&self, params: &Params, time: &Tensor) -> Tensor {
        let time = time.unsqueeze(1);
        match self.features {
            TimeFeatures::Sinusoidal => {
                // In f64, and so not on every device.
                let half = self.embedding.sizes[0] / 2;
                let k = Tensor::arange(half, (Kind::Double, Device::Cpu));
                let rate = -(1e4f64.ln()) / (half - 1) as f64;
                let frequencies = (k * rate).exp().to_kind(time.kind());
                frequencies.to_device(time.device()) * time
            }
            _ => time * params.get(FREQUENCIES).detach() * TAU,
        }
    }

    /// What the first layer takes \[B, in\] of times \[B\].
    pub fn features(&self, params: &Params, time: &Tensor) -> Tensor {
        let angles = self.angles(params, time);
        let (sin, cos) = (angles.sin(), angles.cos());
        match self.features {
            TimeFeatures::Sinusoidal => Tensor::cat(&[sin, cos], 1),
            _ => Tensor::cat(&[time.unsqueeze(1), sin, cos], 1),
        }
    }

    /// \[B\] to \[B, width\].
    pub fn forward(&self, params: &Params, time: &Tensor) -> (Tensor, Seen) {
        let features = self.features(params, time);
        let (out, embedding) = self.embedding.forward(params, &features);
        let seen = Seen {
            time: time.shallow_clone(),
            embedding,
        };
        (out, seen)
    }

    /// From the gradient of what came out.
    pub fn backward(&self, params: &Params, seen: &Seen, grad: &Tensor, gradients: &mut Gradients) {
        let grad = (self.embedding).backward(params, &seen.embedding, grad, gradients);
        if self.features != TimeFeatures::LearnedFourier {
            return;
        }
        let grad = product::of_input(&grad, &weight(params, self.embedding.names[0]), None);
        let angles = self.angles(params, &seen.time);
        let half = self.fourier / 2;
        let (of_sin, of_cos) = (grad.narrow(1, 1, half), grad.narrow(1, 1 + half, half));
        let of_angle = of_sin * angles.cos() - of_cos * angles.sin();
        let of_frequency = column_sums(&(of_angle * seen.time.unsqueeze(1) * TAU));
        gradients.put(FREQUENCIES, of_frequency);
    }
}
