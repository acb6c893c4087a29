//! Random numbers of updates, from a seed.

use hilt_protocol::noise::{Uniforms, mix};
use tch::{Device, Kind, Tensor};

use super::Draws;

/// Counter-based draws, seeded per update: a resumed run draws the same numbers, on any device and with any
/// number of threads.
#[derive(Debug)]
pub struct Seeded {
    stream: Uniforms,
    options: (Kind, Device),
}

impl Seeded {
    /// The draws of update number `update` of a run with this seed.
    pub fn new(seed: u64, update: u64, options: (Kind, Device)) -> Self {
        let stream = Uniforms::new(mix(seed ^ update.rotate_left(32)));
        Self { stream, options }
    }

    fn tensor(&self, values: &[f32], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values)
            .view(shape)
            .to_device(self.options.1)
            .to_kind(self.options.0)
    }
}

impl Draws for Seeded {
    fn normal(&mut self, _: &'static str, shape: &[i64]) -> Tensor {
        let count = shape.iter().product::<i64>() as usize;
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            values.extend(self.stream.normal_pair().map(|value| value as f32));
        }
        self.tensor(&values[..count], shape)
    }

    fn uniform(&mut self, _: &'static str, shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        let draw = |_| self.stream.range(-1.0, 1.0) as f32;
        let values: Vec<f32> = (0..count).map(draw).collect();
        self.tensor(&values, shape)
    }

    /// The first of a shuffle (Fisher and Yates), which needs no more than them.
    fn members(&mut self, _: &'static str, count: i64, of: i64) -> Tensor {
        assert!(count <= of, "{count} different ones of {of}");
        let mut all: Vec<i64> = (0..of).collect();
        for i in 0..count as usize {
            let left = (all.len() - i) as u64;
            let j = i + self.stream.below(left) as usize;
            all.swap(i, j);
        }
        Tensor::from_slice(&all[..count as usize]).to_device(self.options.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn draws_depend_on_seed_and_update_alone_and_are_what_they_say() {
        let normal = |seed, update| Seeded::new(seed, update, OPTIONS).normal("a", &[10_000, 2]);
        assert_eq!(normal(1, 2), normal(1, 2));
        assert_ne!(normal(1, 2), normal(1, 3));
        assert_ne!(normal(1, 2), normal(2, 2));
        assert!(normal(1, 2).mean(None::<Kind>).double_value(&[]).abs() < 0.03);
        assert!((normal(1, 2).std(true).double_value(&[]) - 1.0).abs() < 0.03);
        let uniform = Seeded::new(1, 2, OPTIONS).uniform("a", &[20_000]);
        let (least, most) = (
            uniform.min().double_value(&[]),
            uniform.max().double_value(&[]),
        );
        assert!(least >= -1.0 && most <= 1.0 && most - least > 1.99);
        assert!(uniform.mean(None::<Kind>).double_value(&[]).abs() < 0.02);
    }

    /// Moments of the standard normal, tails, and nothing in common between neighbours, which come of one pair, nor
    /// between their squares. Bounds are five standard errors or more.
    #[test]
    fn normals_are_normal_and_independent() {
        let rows = 100_000;
        let x = Seeded::new(5, 9, OPTIONS)
            .normal("a", &[rows, 2])
            .to_kind(Kind::Double);
        let mean = |x: &Tensor| x.mean(None::<Kind>).double_value(&[]);
        let power = |p: f64| mean(&x.pow_tensor_scalar(p));
        assert!(power(1.0).abs() < 0.012);
        assert!((power(2.0) - 1.0).abs() < 0.016);
        assert!(power(3.0).abs() < 0.045);
        assert!((power(4.0) - 3.0).abs() < 0.11);
        // Beyond three σ: 0.27 %.
        let far = mean(&x.abs().gt(3.0).to_kind(Kind::Double));
        assert!((far - 0.0027).abs() < 0.0006, "{far}");
        let (a, b) = (x.select(1, 0), x.select(1, 1));
        assert!(mean(&(&a * &b)).abs() < 0.016);
        let squares = (a.square() - 1.0) * (b.square() - 1.0);
        assert!(mean(&squares).abs() < 0.032);
        // An odd number of them is the beginning of more.
        let odd = Seeded::new(5, 9, OPTIONS).normal("a", &[7]);
        assert_eq!(odd.to_kind(Kind::Double), x.flatten(0, 1).narrow(0, 0, 7));
    }

    #[test]
    fn members_differ_from_each_other_and_each_comes_as_often() {
        let mut draws = Seeded::new(3, 0, OPTIONS);
        let mut counts = [0; 5];
        for _ in 0..2000 {
            let two = Vec::<i64>::try_from(draws.members("m", 2, 5)).unwrap();
            assert_ne!(two[0], two[1]);
            two.iter().for_each(|&member| counts[member as usize] += 1);
        }
        assert!(
            counts.iter().all(|&count| (count - 800i32).abs() < 100),
            "{counts:?}"
        );
    }
}
