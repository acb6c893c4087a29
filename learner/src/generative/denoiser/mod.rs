//! The networks of diffusion: PGR's, in which rows meet the embeddings of condition and time, and SynthER's, which
//! adds the time to them. Both end in a residual trunk; what differs is the head before it.
//!
//! Backward passes are by hand, to all parameters that learn and to nothing else: nobody asks for the gradient of
//! a noisy row. When rows are sampled nothing is kept, and what is the same for all of them, or at all noise levels,
//! is reckoned once.
//!
//! Names and shapes of the parameters are the references', so that recorded ones fit. B rows, d columns, C numbers
//! of a condition.

mod activation;
mod embedding;
mod layers;
mod pgr;
mod synther;
mod time;
mod trunk;

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

pub use self::{activation::Activation, time::TimeFeatures};
use self::{
    layers::Gradients,
    pgr::Pgr,
    synther::Synther,
    time::TimeNet,
    trunk::{Shape, Trunk},
};
use crate::nn::{ParamSpec, Params};

/// Whose network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// PGR's.
    Pgr,
    /// SynthER's.
    Synther,
}

/// A denoiser's shape. The default is PGR's; SynthER's has `architecture = "synther"` and `activation = "relu"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DenoiserConfig {
    /// Whose.
    pub architecture: Architecture,
    /// Width of what rows become; in PGR's that of time and condition lies beside it, so that its blocks are twice
    /// as wide.
    pub width: i64,
    /// Residual blocks.
    pub depth: i64,
    /// Between the layers of the blocks.
    pub activation: Activation,
    /// LayerNorm in the blocks.
    pub layer_norm: bool,
    /// What the first layer sees of a noise level.
    pub time_features: TimeFeatures,
    /// Sines and cosines together, where they are Fourier features; even.
    pub time_fourier: i64,
    /// Width of the embedded time, and in PGR's of the embedded condition; even.
    pub embedding: i64,
}

impl Default for DenoiserConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::Pgr,
            width: 1024,
            depth: 6,
            activation: Activation::Mish,
            layer_norm: false,
            time_features: TimeFeatures::RandomFourier,
            time_fourier: 16,
            embedding: 256,
        }
    }
}

impl DenoiserConfig {
    /// SynthER's.
    pub fn synther() -> Self {
        Self {
            architecture: Architecture::Synther,
            activation: Activation::Relu,
            ..Self::default()
        }
    }
}

/// What rows are asked to be like.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    /// \[B, C\].
    pub values: &'a Tensor,
    /// 1 where a row keeps its condition's embedding, 0 where it is dropped \[B, 1\]; `None`: all keep it.
    pub kept: Option<&'a Tensor>,
}

/// From a row with time and condition to what goes into the trunk.
trait Head: std::fmt::Debug + Send + Sync {
    fn specs(&self) -> Vec<ParamSpec>;

    fn time(&self) -> &TimeNet;

    /// For x \[B, d\] and times \[B\].
    fn forward(
        &self,
        params: &Params,
        x: &Tensor,
        time: &Tensor,
        condition: Option<Condition>,
    ) -> (Tensor, Seen);

    fn backward(&self, params: &Params, seen: &Seen, grad: &Tensor, gradients: &mut Gradients);

    /// What of conditions \[B, C\] is the same at all noise levels \[B, n\], or \[1, n\] where there are none.
    fn remember(&self, params: &Params, condition: Option<&Tensor>) -> Tensor;

    /// For x \[B, d\], all at the same time \[1\].
    fn at_level(&self, params: &Params, x: &Tensor, time: &Tensor, remembered: &Tensor) -> Tensor;
}

/// What a head's pass leaves for the way back.
#[derive(Debug)]
struct Seen {
    /// What the rows' layer took.
    rows: Tensor,
    /// What the layer took in which time and condition meet.
    joined: Tensor,
    time: time::Seen,
    /// Of the condition's embedding, with the rows that keep it.
    condition: Option<(embedding::Seen, Option<Tensor>)>,
}

/// A forward pass, kept for the backward one.
#[derive(Debug)]
pub struct Pass {
    /// What came out \[B, d\]: a leaf, of which a loss takes its gradient.
    pub out: Tensor,
    head: Seen,
    trunk: trunk::Seen,
}

/// F(x, t, condition), on parameters of its own.
#[derive(Debug)]
pub struct Denoiser {
    head: Box<dyn Head>,
    trunk: Trunk,
}

impl Denoiser {
    /// For rows of so many columns, and conditions of so many numbers (0: it knows none).
    pub fn new(config: &DenoiserConfig, columns: i64, conditions: i64) -> Self {
        let DenoiserConfig {
            width, embedding, ..
        } = *config;
        let time = |hidden: i64, activation: Activation| {
            let (features, fourier) = (config.time_features, config.time_fourier);
            TimeNet::new(features, fourier, (hidden, embedding), activation)
        };
        let synther = config.architecture == Architecture::Synther;
        let head: Box<dyn Head> = match config.architecture {
            Architecture::Pgr => Box::new(Pgr {
                columns,
                width,
                embedded: embedding,
                time: time(4 * embedding, Activation::Mish),
                condition: Pgr::condition(conditions, embedding),
            }),
            Architecture::Synther => Box::new(Synther {
                columns,
                conditions,
                width,
                embedded: embedding,
                time: time(embedding, Activation::Silu),
            }),
        };
        let trunk = Trunk::new(Shape {
            width: if synther { width } else { 2 * width },
            depth: config.depth,
            outputs: columns,
            activation: config.activation,
            norm: config.layer_norm,
            last_norm: config.layer_norm && synther,
            first: i64::from(synther),
        });
        Self { head, trunk }
    }

    /// What it stands on.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = self.head.specs();
        specs.extend(self.trunk.specs());
        specs
    }

    /// Whether the parameter of this name learns: frequencies that were drawn once do not.
    pub fn learns(&self, name: &str) -> bool {
        self.head.time().learns(name)
    }

    /// For rows \[B, d\] at times \[B\].
    pub fn forward(
        &self,
        params: &Params,
        x: &Tensor,
        time: &Tensor,
        condition: Option<Condition>,
    ) -> Pass {
        no_grad(|| {
            let (inner, head) = self.head.forward(params, x, time, condition);
            let (out, trunk) = self.trunk.forward(params, inner);
            let out = out.set_requires_grad(true);
            Pass { out, head, trunk }
        })
    }

    /// Gradients of all parameters, in their order, from `grad`, that of [`Pass::out`]; undefined where a
    /// parameter had no part in it or does not learn.
    pub fn backward(&self, params: &Params, pass: &Pass, grad: &Tensor) -> Vec<Tensor> {
        no_grad(|| {
            let mut gradients = Gradients::new(params);
            let grad = (self.trunk).backward(params, &pass.trunk, grad, &mut gradients);
            (self.head).backward(params, &pass.head, &grad, &mut gradients);
            gradients.all()
        })
    }

    /// What of conditions \[B, C\] is the same at all noise levels \[B, n\]; of none \[1, n\].
    pub fn remember(&self, params: &Params, condition: Option<&Tensor>) -> Tensor {
        no_grad(|| self.head.remember(params, condition))
    }

    /// F for rows \[B, d\] all at the same time \[1\], with what [`Denoiser::remember`] gave of their conditions.
    /// Keeps nothing. With `bf16` the blocks round rows and weights.
    pub fn at_level(
        &self,
        params: &Params,
        x: &Tensor,
        time: &Tensor,
        remembered: &Tensor,
        bf16: bool,
    ) -> Tensor {
        no_grad(|| {
            let inner = self.head.at_level(params, x, time, remembered);
            self.trunk.value(params, inner, bf16)
        })
    }
}
