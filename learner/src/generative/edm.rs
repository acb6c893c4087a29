//! Elucidated diffusion (Karras et al. 2022, arXiv 2206.00364): what a network sees of a noisy row, what it is to
//! say of it, and how much each noise level counts.
//!
//! A row x ~ data with standard deviation σ_data becomes x + σ ε. The denoiser D(x; σ) = c_skip x + c_out F(c_in x, c_noise)
//! is to find the row again; the four numbers keep what F takes and gives near unit size at every σ.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Noise levels. The default is PGR's and SynthER's (renwang435/pgr@b52b41b, `elucidated_diffusion.py`), from the
/// paper's table 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdmConfig {
    /// Smallest noise of the sampling schedule.
    pub sigma_min: f64,
    /// Largest noise of the sampling schedule.
    pub sigma_max: f64,
    /// Standard deviation of the normalised rows.
    pub sigma_data: f64,
    /// How much more densely the schedule goes through small noise.
    pub rho: f64,
    /// Mean of ln σ in training.
    pub p_mean: f64,
    /// Standard deviation of ln σ in training.
    pub p_std: f64,
}

impl Default for EdmConfig {
    fn default() -> Self {
        Self {
            sigma_min: 0.002,
            sigma_max: 80.0,
            sigma_data: 1.0,
            rho: 7.0,
            p_mean: -1.2,
            p_std: 1.2,
        }
    }
}

/// What stands around the network, for each of some noise levels, in their shape.
#[derive(Debug)]
pub struct Scales {
    /// Of the noisy row in what comes out.
    pub skip: Tensor,
    /// Of what the network says.
    pub out: Tensor,
    /// Of what the network sees.
    pub input: Tensor,
    /// The time that the network sees: ln(σ) / 4.
    pub noise: Tensor,
}

impl Scales {
    /// D(x; σ) from a noisy row and what the network said of it.
    pub fn denoised(&self, x: &Tensor, said: &Tensor) -> Tensor {
        &self.skip * x + &self.out * said
    }
}

impl EdmConfig {
    /// At these noise levels.
    pub fn scales(&self, sigma: &Tensor) -> Scales {
        let data = self.sigma_data;
        let variance = sigma.square() + data * data;
        let root = variance.sqrt();
        Scales {
            skip: data * data / variance,
            out: sigma * data / &root,
            input: 1.0 / root,
            noise: sigma.clamp_min(1e-20).log() / 4.0,
        }
    }

    /// How much a squared error counts at these noise levels.
    pub fn weight(&self, sigma: &Tensor) -> Tensor {
        let data = self.sigma_data;
        (sigma.square() + data * data) / (sigma * data).square()
    }

    /// Noise levels to train at, of standard normals.
    pub fn sigmas(&self, normal: &Tensor) -> Tensor {
        (normal * self.p_std + self.p_mean).exp()
    }

    /// mean over B of weight · mean over d of (D − x)² \[\]: `denoised` and `rows` \[B, d\], `sigma` \[B\].
    pub fn loss(&self, denoised: &Tensor, rows: &Tensor, sigma: &Tensor) -> Tensor {
        let errors = (denoised - rows).square();
        let of_row = errors.mean_dim(1, false, None::<Kind>);
        (of_row * self.weight(sigma)).mean(None::<Kind>)
    }

    /// Noise levels to sample through, from the largest, and 0 behind the last (the paper's equation 5).
    pub fn schedule(&self, steps: usize) -> Vec<f64> {
        let inverse = 1.0 / self.rho;
        let (first, last) = (self.sigma_max.powf(inverse), self.sigma_min.powf(inverse));
        levels(steps, |share| {
            (first + share * (last - first)).powf(self.rho)
        })
    }

    /// The same with even steps of ln σ.
    pub fn even_schedule(&self, steps: usize) -> Vec<f64> {
        let ratio = self.sigma_min / self.sigma_max;
        levels(steps, |share| self.sigma_max * ratio.powf(share))
    }
}

/// `of` 0 to 1 in even steps, and 0 behind.
fn levels(steps: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
    let between = steps.saturating_sub(1).max(1) as f64;
    let of_step = |step: usize| of(step as f64 / between);
    (0..steps).map(of_step).chain([0.0]).collect()
}
