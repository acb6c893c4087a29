//! A policy as it acts: a network, and how actions come from what it gives.

use hilt_protocol::NamedTensor;
use tch::{Tensor, no_grad};

use super::{
    Draws, gaussian,
    net::Net,
    tanh_gaussian::{Squash, TanhGaussian},
};

/// How actions come from the network's output f, and from a standard normal draw ε where it explores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// most · (tanh f + noise · ε), within ±most.
    Tanh {
        /// Bound of the actions.
        most: f64,
        /// Standard deviation of what is added.
        noise: f64,
    },
    /// tanh f + σ ε, within ±1; log σ is [`gaussian::LOG_STD`].
    TanhMean,
    /// f + σ ε, within the bounds; log σ is [`gaussian::LOG_STD`].
    Mean {
        /// Lower bound.
        least: f64,
        /// Upper bound.
        most: f64,
    },
    /// tanh(μ + σ ε): the output is means, then log σ, to be multiplied and moved by the parameters of these
    /// names if given.
    TanhGaussian {
        /// Names of multiplier and offset of log σ.
        scale: Option<(&'static str, &'static str)>,
    },
}

/// A network with its head.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    net: &'a Net,
    head: Head,
}

impl<'a> Policy<'a> {
    /// This network, read in this way.
    pub fn new(net: &'a Net, head: Head) -> Self {
        Self { net, head }
    }

    /// The network.
    pub fn net(&self) -> &'a Net {
        self.net
    }

    /// How its output is read.
    pub fn head(&self) -> Head {
        self.head
    }

    /// A: columns of an action.
    pub fn actions(&self) -> i64 {
        let sizes = self.net.mlp().sizes();
        let outputs = sizes[sizes.len() - 1];
        match self.head {
            Head::TanhGaussian { .. } => outputs / 2,
            _ => outputs,
        }
    }

    /// What acts: f32 copies of the network's parameters.
    pub fn weights(&self) -> Vec<NamedTensor> {
        self.net.params().export(|_| true)
    }

    /// Actions \[B, A\] at observations \[B, O\]: the best it knows, or with `draws` as it explores.
    pub fn act(&self, observations: &Tensor, draws: Option<&mut dyn Draws>) -> Tensor {
        let own = |name: &str| self.net.params().get(name);
        no_grad(|| {
            let out = self.net.value(observations);
            let noise = |like: &Tensor| draws.map(|draws| draws.normal("explore", &like.size()));
            match self.head {
                Head::Tanh { most, noise: std } => {
                    let best = out.tanh();
                    let acted = match noise(&best) {
                        Some(noise) => (best + noise * std).clamp(-1.0, 1.0),
                        None => best,
                    };
                    acted * most
                }
                Head::TanhMean => {
                    spread(own(gaussian::LOG_STD), out.tanh(), noise).clamp(-1.0, 1.0)
                }
                Head::Mean { least, most } => {
                    spread(own(gaussian::LOG_STD), out, noise).clamp(least, most)
                }
                Head::TanhGaussian { scale } => {
                    let scale = scale.map(|(by, offset)| (own(by), own(offset)));
                    let drawn = TanhGaussian::of_head(&out, scale);
                    match noise(&drawn.mean) {
                        Some(noise) => drawn.sample(&noise, Squash::Exact).actions,
                        None => drawn.best(),
                    }
                }
            }
        })
    }
}

/// A mean, or with noise a draw around it.
fn spread(log_std: &Tensor, mean: Tensor, noise: impl FnOnce(&Tensor) -> Option<Tensor>) -> Tensor {
    match noise(&mean) {
        Some(noise) => gaussian::sample(&mean, log_std, &noise),
        None => mean,
    }
}
