//! From noise to rows: solvers of the equations that lead from [`super::edm`]'s largest noise to none.
//!
//! Karras' second-order scheme with churn, as PGR and SynthER take it, and one that needs the network once per step
//! and far fewer steps, DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095), with noise or without.
//!
//! A network errs, and on a way without noise its errors stay in the rows, however many steps are taken. Noise that
//! is put back on the way, and denoised anew, mends that.
//!
//! Guided by w (Ho and Salimans 2022, arXiv 2207.12598), PGR's scheme goes the first half of a step along
//! u + w (c − u), c and u being where the network points with and without the condition, and the second along c alone.
//! What that comes to in small steps is a guidance of (1 + w) / 2, and so much the other solver takes throughout:
//! both go toward the same rows. A w of 0 is no condition at all, of 1 no guidance.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::edm::EdmConfig;
use crate::agents::Draws;

/// How a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Solver {
    /// Euler's step and its correction by the trapezoid, with churn: the paper's algorithm 2. The network is asked
    /// 2 N − 1 times.
    #[serde(rename = "heun")]
    Heun,
    /// DPM-Solver++(2M), and SDE-DPM-Solver++(2M) where η is more than 0, in even steps of ln σ, as their authors
    /// take them. The network is asked N times.
    #[serde(rename = "dpm++2m")]
    DpmPlusPlus2m,
}

/// How rows are sampled. The default is PGR's (renwang435/pgr@b52b41b, `elucidated_diffusion.py` and its
/// `config/online`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplerConfig {
    /// How a step is taken.
    pub solver: Solver,
    /// N.
    pub steps: usize,
    /// Of DPM-Solver++: η, how much noise is put back on the way. 0: none, and the rows follow from the noise that
    /// they begin as; 1: as much as in the diffusion run backward. What they end as would be distributed alike, if the
    /// network did not err. The default is our own: in 24 steps on a mixture, on Pendulum's and on HalfCheetah's
    /// transitions, guided rows are nearer to those of PGR's scheme than by 0.
    pub eta: f64,
    /// Of Heun's, as all that begin so: how much noise is put back over all steps; 0: none.
    pub churn: f64,
    /// Below this noise none is put back.
    pub churn_min_sigma: f64,
    /// Above this noise none is put back.
    pub churn_max_sigma: f64,
    /// The size of the noise that is put back; somewhat more than 1 makes up for what the network leaves out.
    pub churn_noise: f64,
    /// w.
    #[serde(rename = "cfg_scale")]
    pub guidance: f64,
    /// The network's blocks round rows and weights to bf16, where the processor multiplies those: nearly twice as
    /// fast, and no farther from the data than seeds are from each other.
    pub bf16: bool,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            solver: Solver::Heun,
            steps: 128,
            eta: 1.0,
            churn: 80.0,
            churn_min_sigma: 0.05,
            churn_max_sigma: 50.0,
            churn_noise: 1.003,
            guidance: 2.0,
            bf16: false,
        }
    }
}

/// How the network is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// With the condition.
    Conditional,
    /// Without.
    Unconditional,
}

/// What denoises.
pub trait Model {
    /// D(x; σ) of rows \[B, d\] at one noise level, asked in each of these ways: as many \[B, d\].
    fn denoised(&self, x: &Tensor, sigma: f64, asked: &[Asked]) -> Vec<Tensor>;
}

/// What is sampled with.
pub struct Sampler<'a> {
    /// How.
    pub config: &'a SamplerConfig,
    /// The noise levels.
    pub edm: &'a EdmConfig,
    /// What denoises.
    pub model: &'a dyn Model,
    /// Whether the model has a condition.
    pub conditional: bool,
    /// Normalised rows lie within ± this \[d\], and what the model says is brought there. `None`: nothing is known
    /// of it, as with rows of mean 0 and variance 1, whose tails that would cut off.
    pub limits: Option<&'a Tensor>,
}

impl SamplerConfig {
    /// By what share the noise σ grows before a step of Heun's.
    pub fn churned(&self, sigma: f64) -> f64 {
        let most = 2f64.sqrt() - 1.0;
        match (self.churn_min_sigma..=self.churn_max_sigma).contains(&sigma) {
            true => (self.churn / self.steps as f64).min(most),
            false => 0.0,
        }
    }
}

impl Sampler<'_> {
    /// Rows from standard normals \[B, d\]. Before each step `go_on` is asked, with the rows as they are; `None`: it
    /// said no.
    pub fn run(
        &self,
        normal: &Tensor,
        draws: &mut dyn Draws,
        go_on: &mut dyn FnMut(&Tensor) -> bool,
    ) -> Option<Tensor> {
        let levels = match self.config.solver {
            Solver::Heun => self.edm.schedule(self.config.steps),
            Solver::DpmPlusPlus2m => self.edm.even_schedule(self.config.steps),
        };
        let mut x = normal * levels[0];
        // What the last step was taken with: its noise, and what was said there.
        let mut last = None;
        for pair in levels.windows(2) {
            if !go_on(&x) {
                return None;
            }
            let (sigma, next) = (pair[0], pair[1]);
            x = match self.config.solver {
                Solver::Heun => self.heun(&x, sigma, next, draws),
                Solver::DpmPlusPlus2m => self.multistep(&x, sigma, next, &mut last, draws),
            };
        }
        Some(self.within(x))
    }

    fn within(&self, x: Tensor) -> Tensor {
        match self.limits {
            Some(limits) => x.clamp_tensor(Some(&-limits), Some(limits)),
            None => x,
        }
    }

    /// How the network is asked when the guidance is `weight`.
    fn asked(&self, weight: f64) -> &'static [Asked] {
        match weight {
            _ if !self.conditional => &[Asked::Unconditional],
            0.0 => &[Asked::Unconditional],
            1.0 => &[Asked::Conditional],
            _ => &[Asked::Unconditional, Asked::Conditional],
        }
    }

    /// D(x; σ), guided so.
    fn denoised(&self, x: &Tensor, sigma: f64, weight: f64) -> Tensor {
        let said = self.model.denoised(x, sigma, self.asked(weight));
        let mut said = said.into_iter().map(|said| self.within(said));
        match (said.next(), said.next()) {
            (Some(one), None) => one,
            (Some(without), Some(with)) => &without + (with - &without) * weight,
            (None, _) => unreachable!("a model answers as often as it is asked"),
        }
    }

    fn heun(&self, x: &Tensor, sigma: f64, next: f64, draws: &mut dyn Draws) -> Tensor {
        let config = self.config;
        let (x, from) = match config.churn > 0.0 {
            true => {
                // Drawn at every level, so that what follows does not depend on where noise is put back.
                let noise = draws.normal("eps", &x.size());
                let from = sigma * (1.0 + config.churned(sigma));
                let more = (from * from - sigma * sigma).sqrt();
                (x + noise * (config.churn_noise * more), from)
            }
            false => (x.shallow_clone(), sigma),
        };
        let along =
            |x: &Tensor, sigma: f64, weight: f64| (x - self.denoised(x, sigma, weight)) / sigma;
        let slope = along(&x, from, config.guidance);
        let step = next - from;
        let there = &x + &slope * step;
        if next == 0.0 {
            return there;
        }
        let alone = if config.guidance == 0.0 { 0.0 } else { 1.0 };
        let slope_there = along(&there, next, alone);
        x + (slope + slope_there) * (step / 2.0)
    }

    /// As σ falls the rows follow dx = (1 + η) (x − D) dσ / σ + √(2 η σ) dw, whose distribution at every σ is the same
    /// for every η. With D held, its solution is exact: the way to D is gone by 1 − r^(1 + η), r being the
    /// share of the noise that is left, and noise of variance σ² (1 − r^(2 η)) is put back, σ being that at the end.
    ///
    /// D is taken for the step's middle in −ln σ, as if it went on changing as over the last one (the paper's
    /// algorithm 2, and its appendix where η is 1). The first step takes D as it is, and so does the last, which has
    /// no end in −ln σ.
    fn multistep(
        &self,
        x: &Tensor,
        sigma: f64,
        next: f64,
        last: &mut Option<(f64, Tensor)>,
        draws: &mut dyn Draws,
    ) -> Tensor {
        let weight = match self.config.guidance {
            0.0 => 0.0,
            w => (1.0 + w) / 2.0,
        };
        let denoised = self.denoised(x, sigma, weight);
        let (eta, ratio) = (self.config.eta, next / sigma);
        let toward = match &*last {
            Some((before, of_before)) if next > 0.0 => {
                let (h, h_before) = (-ratio.ln(), (before / sigma).ln());
                &denoised + (&denoised - of_before) * (h / (2.0 * h_before))
            }
            _ => denoised.shallow_clone(),
        };
        *last = Some((sigma, denoised));
        let left = ratio.powf(1.0 + eta);
        let there = x * left + toward * (1.0 - left);
        if eta == 0.0 || next == 0.0 {
            return there;
        }
        let noise = draws.normal("eps", &there.size());
        there + noise * (next * (1.0 - ratio.powf(2.0 * eta)).sqrt())
    }
}
