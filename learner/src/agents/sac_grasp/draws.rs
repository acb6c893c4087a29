//! Where an update's random numbers come from.

use hilt_protocol::noise::{Uniforms, mix};
use tch::{Device, Kind, Tensor, kind::Element};

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

    fn tensor<T: Element>(&self, values: &[T], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values)
            .view(shape)
            .to_device(self.options.1)
            .to_kind(self.options.0)
    }
}

/// 1 where the 16 bits that belong to a place are below `below`: two places share a counter's 32
/// bits. The mixing is Chris Wellons's `lowbias32`, in 32 bits because AVX2 multiplies eight of them
/// at once.
#[inline(always)]
fn keep_below(kept: &mut [u8], key: u32, below: u32) {
    let half = kept.len().div_ceil(2);
    let (low, high) = kept.split_at_mut(half);
    let mixed = |counter: usize| {
        let mut x = (counter as u32).wrapping_add(key);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    };
    for (i, place) in low.iter_mut().enumerate() {
        *place = u8::from(mixed(i) & 0xffff < below);
    }
    for (i, place) in high.iter_mut().enumerate() {
        *place = u8::from(mixed(i) >> 16 < below);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn keep_avx2(kept: &mut [u8], key: u32, below: u32) {
    keep_below(kept, key, below);
}

impl Noise for SeededNoise {
    fn normal(&mut self, _: Loss, shape: &[i64]) -> Tensor {
        let n: i64 = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| self.stream.normal() as f32).collect();
        self.tensor(&values, shape)
    }

    /// A probability in steps of 2⁻¹⁶ is fine enough for dropout, and a mask has a million of them.
    fn keep(&mut self, _: Loss, _: &str, shape: &[i64]) -> Tensor {
        let below = (self.keep * 65_536.0).round() as u32;
        let mut kept = vec![0u8; shape.iter().product::<i64>() as usize];
        let key = self.stream.bits() as u32;
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { keep_avx2(&mut kept, key, below) };
            return self.tensor(&kept, shape);
        }
        keep_below(&mut kept, key, below);
        self.tensor(&kept, shape)
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
