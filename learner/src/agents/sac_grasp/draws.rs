//! Where an update's random numbers come from.

use hilt_protocol::noise::{Uniforms, mix};
use tch::{Device, Kind, Tensor};

/// A loss, by the name the golden files give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The motion critics.
    Critic,
    /// The actor.
    Actor,
    /// The temperature.
    Temperature,
}

/// Where random draws come from: a generator in training, recorded tensors in tests.
pub trait Noise {
    /// Standard normals \[B, motion columns\].
    fn normal(&mut self, loss: Loss, shape: &[i64]) -> Tensor;
    /// 1 where a spatial feature is kept, else 0 \[B, C·F\].
    fn keep(&mut self, loss: Loss, camera: &str, shape: &[i64]) -> Tensor;
    /// `count` critic indices below `of`, with replacement.
    fn subsample(&mut self, count: usize, of: usize) -> Vec<usize>;
}

/// Counter-based draws, seeded per update: a resumed run draws the same numbers, on any device and
/// with any number of threads.
#[derive(Debug)]
pub struct SeededNoise {
    stream: Uniforms,
    options: (Kind, Device),
    keep: f64,
}

impl SeededNoise {
    /// The draws of update number `update` of a run with this seed.
    pub fn new(seed: u64, update: u64, dropout: f64, options: (Kind, Device)) -> Self {
        Self {
            stream: Uniforms::new(mix(seed ^ update.rotate_left(32))),
            options,
            keep: 1.0 - dropout,
        }
    }

    fn tensor(&self, values: &[f32], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values)
            .view(shape)
            .to_device(self.options.1)
            .to_kind(self.options.0)
    }
}

impl Noise for SeededNoise {
    fn normal(&mut self, _: Loss, shape: &[i64]) -> Tensor {
        let n: i64 = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| self.stream.normal() as f32).collect();
        self.tensor(&values, shape)
    }

    /// Four features from each 64 random bits: a probability in steps of 2⁻¹⁶ is fine enough for
    /// dropout, and a mask has a million of them.
    fn keep(&mut self, _: Loss, _: &str, shape: &[i64]) -> Tensor {
        let below = (self.keep * 65_536.0).round() as u32;
        let n = shape.iter().product::<i64>() as usize;
        let mut values = vec![0f32; n];
        for four in values.chunks_mut(4) {
            let bits = self.stream.bits();
            let parts: [u16; 4] = std::array::from_fn(|i| (bits >> (16 * i)) as u16);
            for (value, part) in four.iter_mut().zip(parts) {
                *value = if u32::from(part) < below { 1.0 } else { 0.0 };
            }
        }
        self.tensor(&values, shape)
    }

    fn subsample(&mut self, count: usize, of: usize) -> Vec<usize> {
        (0..count)
            .map(|_| self.stream.below(of as u64) as usize)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_update_alone_and_keep_the_share_asked_for() {
        let options = (Kind::Float, Device::Cpu);
        let keep = |seed, update| {
            SeededNoise::new(seed, update, 0.1, options).keep(Loss::Actor, "front", &[100, 1000])
        };
        assert_eq!(keep(1, 2), keep(1, 2));
        assert_ne!(keep(1, 2), keep(1, 3));
        let share = keep(1, 2).mean(None::<Kind>).double_value(&[]);
        assert!((share - 0.9).abs() < 0.005, "{share}");
        let normal = SeededNoise::new(1, 2, 0.1, options).normal(Loss::Actor, &[10_000, 2]);
        assert!(normal.mean(None::<Kind>).double_value(&[]).abs() < 0.03);
        assert!((normal.std(true).double_value(&[]) - 1.0).abs() < 0.03);
    }
}
