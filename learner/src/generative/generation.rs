//! One generation: a diffusion model is trained on the real rows, more rows are sampled from it, and they are checked.
//!
//! What it does follows from what it is given and its seed alone, whichever thread does it and however long that takes.

use std::time::Instant;

use hilt_protocol::noise::{Uniforms, mix};
use tch::{Device, Kind, Tensor};

use super::{
    check::{self, CannotCheck, Report},
    config::GenerativeConfig,
    diffusion::{Diffusion, Wanted},
    layout::Layout,
    normalizer::{CannotNormalize, Normalizer, Scheme},
    relevance::Conditions,
};
use crate::agents::{draws::Seeded, guard::Watch};

/// Updates between two looks at their figures.
const LOOK: u64 = 100;
/// Tell draws of one purpose from those of another.
const ROWS: u64 = 0x0067_656e_726f_7773;
const NOISE: u64 = 0x6765_6e6e_6f69_7365;
const SAMPLES: u64 = 0x0067_656e_6d61_6b65;
const CHECK: u64 = 0x6765_6e63_6865_636b;

/// What a generation is made of.
#[derive(Debug)]
pub struct Job {
    /// How.
    pub config: GenerativeConfig,
    /// What a row is.
    pub layout: Layout,
    /// Real rows \[N, d\], f32, on the host.
    pub rows: Tensor,
    /// How much each matters \[N\]; absent: all alike.
    pub scores: Option<Tensor>,
    /// The diffusion model: fresh, or that of an earlier generation.
    pub model: Diffusion,
    /// The run's seed.
    pub seed: u64,
    /// Its number, from 1.
    pub generation: u64,
    /// Where it computes.
    pub device: Device,
}

/// What came out.
#[derive(Debug)]
pub struct Made {
    /// Generated rows \[M, d\], as the model made them.
    pub rows: Tensor,
    /// What they were asked for, where they were: a relevance each, in the model's range \[M\].
    pub asked: Option<Tensor>,
    /// The model that made them.
    pub model: Diffusion,
    /// The loss over the training: after so many updates, its mean since the last time.
    pub losses: Vec<(u64, f64)>,
    /// Whether they are to be believed, and why.
    pub report: Report,
    /// Seconds of training and of sampling.
    pub took_s: [f64; 2],
}

/// Why nothing came out.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    /// The real rows, or what makes them matter, cannot be learned from.
    #[error(transparent)]
    Rows(#[from] CannotNormalize),
    /// Nor be compared with.
    #[error(transparent)]
    Check(#[from] CannotCheck),
    /// Its training left all bounds.
    #[error(
        "the diffusion model diverged: its {figure} was {value} at update {update}; lower generative_replay.diffusion.lr"
    )]
    Diverged {
        /// What left them.
        figure: &'static str,
        /// NaN or infinity.
        value: f64,
        /// When, from 1.
        update: u64,
    },
    /// Nobody wants it any more.
    #[error("given up")]
    GivenUp,
    /// Its thread died.
    #[error("its thread ended without a word, which is a fault of hilt's")]
    Panicked,
}

impl Job {
    /// Threads of torch that it computes with.
    pub fn threads(&self) -> i32 {
        i32::from(self.config.threads)
    }

    fn draws(&self, purpose: u64, number: u64) -> Seeded {
        let seed = mix(self.seed ^ mix(purpose ^ self.generation));
        Seeded::new(seed, number, (Kind::Float, self.device))
    }

    /// Does it. `told` hears how many updates were made, and the mean loss of the last ones; `go_on` is asked again and again.
    ///
    /// # Errors
    /// [`NotMade`].
    pub fn run(
        mut self,
        told: &dyn Fn(u64, f64),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Made, NotMade> {
        let began = Instant::now();
        let (config, samples) = (&self.config, self.config.num_samples as i64);
        check::enough(&config.check, self.rows.size()[0])?;
        let normalizer = Normalizer::fit(config.scheme, &self.rows, &[])?;
        let conditions = (self.scores.as_ref())
            .map(|scores| Conditions::fit(scores, config.cond_top_frac))
            .transpose()?;
        let data = normalizer.normalize(&self.rows).to_device(self.device);
        let of_rows = (conditions.as_ref()).map(|all| all.of_rows().to_device(self.device));
        let losses = self.train(&data, of_rows.as_ref(), told, go_on)?;
        let trained_s = began.elapsed().as_secs_f64();
        let mut draws = self.draws(SAMPLES, 0);
        let asked = conditions.map(|all| all.draw(samples, &mut draws).to_device(self.device));
        // Real rows lie within ±1 by their extremes, and within nothing by their deviation.
        let ones = Tensor::ones([data.size()[1]], (Kind::Float, self.device));
        let wanted = Wanted {
            rows: samples,
            conditions: asked.as_ref(),
            limits: matches!(self.config.scheme, Scheme::MinMax).then_some(&ones),
        };
        let made = self.model.sample(&wanted, &mut draws, go_on);
        let rows = normalizer.unnormalize(&made.ok_or(NotMade::GivenUp)?);
        let rows = of_few_values(&self.rows, &rows.to_device(Device::Cpu));
        let sampled_s = began.elapsed().as_secs_f64() - trained_s;
        let mut draws = self.draws(CHECK, 0);
        let check = &self.config.check;
        let report = check::check(check, self.layout, &self.rows, &rows, &mut draws)?;
        Ok(Made {
            rows,
            asked,
            model: self.model,
            losses,
            report,
            took_s: [trained_s, sampled_s],
        })
    }

    /// Trains the model; how its loss went.
    fn train(
        &mut self,
        data: &Tensor,
        scores: Option<&Tensor>,
        told: &dyn Fn(u64, f64),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<(u64, f64)>, NotMade> {
        let diffusion = &self.config.diffusion;
        let (count, batch, updates) = (data.size()[0] as u64, diffusion.batch, diffusion.updates);
        let seed = mix(self.seed ^ mix(ROWS ^ self.generation));
        let (mut watch, mut losses) = (Watch::default(), vec![]);
        self.model.begin_again();
        for update in 1..=updates {
            if !go_on() {
                return Err(NotMade::GivenUp);
            }
            let mut stream = Uniforms::new(mix(seed ^ update));
            let drawn: Vec<i64> = (0..batch).map(|_| stream.below(count) as i64).collect();
            let drawn = Tensor::from_slice(&drawn).to_device(self.device);
            let of_batch = |all: &Tensor| all.index_select(0, &drawn);
            let (rows, scores) = (of_batch(data), scores.map(of_batch));
            let mut draws = self.draws(NOISE, update);
            let figures = self.model.step(&rows, scores.as_ref(), &mut draws);
            watch.note(update, figures);
            if update.is_multiple_of(LOOK) || update == updates {
                let figures = watch.read().map_err(|diverged| NotMade::Diverged {
                    figure: diverged.figure,
                    value: diverged.value,
                    update: diverged.update,
                })?;
                let loss = figures.iter().find(|(name, _)| *name == "loss");
                let loss = loss.map_or(f64::NAN, |(_, loss)| *loss);
                losses.push((update, loss));
                told(update, loss);
            }
        }
        Ok(losses)
    }
}

/// A column of so few different numbers is no measurement: a reward at the end, what a gripper costs, a command.
const FEW: i64 = 8;

/// Generated rows \[M, d\], where real ones \[N, d\] have few values in a column with the nearest of these. As they come out of a
/// model, rewards of a task that has one at its end only are a little off 0 everywhere, and critics add that up.
fn of_few_values(real: &Tensor, generated: &Tensor) -> Tensor {
    let column = |place: i64| {
        let (real, made) = (real.select(1, place), generated.select(1, place));
        let values = |of: &Tensor| of.sort(0, false).0.unique_consecutive(false, false, None).0;
        // Of most columns the first rows say enough.
        let first = values(&real.narrow(0, 0, real.size()[0].min(1000)));
        if first.size()[0] > FEW {
            return made;
        }
        let values = values(&real);
        let count = values.size()[0];
        if !(2..=FEW).contains(&count) {
            return made;
        }
        let middles = (values.narrow(0, 1, count - 1) + values.narrow(0, 0, count - 1)) / 2.0;
        let nearest = values.index_select(0, &made.contiguous().bucketize(&middles, false, false));
        // What is no number stays for the check to see.
        nearest.where_self(&made.isfinite(), &made)
    };
    let columns: Vec<Tensor> = (0..generated.size()[1]).map(column).collect();
    Tensor::stack(&columns, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_few_values_have_no_others() {
        let options = (Kind::Float, Device::Cpu);
        let count = 2000;
        let all = Tensor::arange(count, options);
        // A reward at the end; three commands; one number; a measurement; one that changes late.
        let real = [
            all.ge((count - 3) as f64).to_kind(Kind::Float),
            all.remainder(3.0) - 1.0,
            all.zeros_like() + 0.3,
            (&all * 0.7).sin(),
            (&all - 1500.0).clamp_min(0.0),
        ];
        let real = Tensor::stack(&real, 1);
        let made = Tensor::from_slice(&[
            0.011f32,
            -0.6,
            0.3,
            0.011,
            0.4, //
            0.49,
            0.2,
            0.3,
            -0.49,
            7.3, //
            0.97,
            f32::INFINITY,
            0.3,
            1.2,
            -1.0, //
            f32::NAN,
            3.0,
            0.3,
            f32::NAN,
            f32::NAN,
        ]);
        let made = made.view([4, 5]);
        let settled = of_few_values(&real, &made);
        let wanted = Tensor::from_slice(&[
            0.0f32,
            -1.0,
            0.3,
            0.011,
            0.4, //
            0.0,
            0.0,
            0.3,
            -0.49,
            7.3, //
            1.0,
            f32::INFINITY,
            0.3,
            1.2,
            -1.0, //
            f32::NAN,
            1.0,
            0.3,
            f32::NAN,
            f32::NAN,
        ]);
        assert!(
            settled.allclose(&wanted.view([4, 5]), 0.0, 0.0, true),
            "{settled}"
        );
    }
}
