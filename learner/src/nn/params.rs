//! Named parameters that live in one flat buffer.
//!
//! One buffer makes the optimizer a loop over slices, the target network's moving average one
//! operation, and a checkpoint one tensor. The named leaves are views of it: autograd sees them as
//! parameters of their own, an in-place change of the buffer changes them all.

use std::collections::BTreeMap;

use hilt_protocol::NamedTensor;
use tch::{Device, Kind, Tensor, no_grad};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±√(6 / (fan in + fan out)) (Glorot and Bengio 2010), for `[out, in]` matrices, or
    /// `[M, out, in]`, one of each member.
    Xavier,
    /// The same times this.
    XavierTimes(f64),
    /// `[out, in]` matrices, or `[M, out, in]`, one of each member, whose rows or columns, whichever are fewer,
    /// are orthonormal, times this (Saxe et al. 2014, arXiv 1312.6120; torch's `orthogonal_`).
    Orthogonal(f64),
    /// Normal with variance 1 / fan in (LeCun), the fan given.
    Lecun(i64),
    /// Uniform in ±1 / √fan in, the fan given: weights and biases of torch's `nn.Linear`.
    Linear(i64),
    /// One number everywhere.
    Constant(f64),
}

/// One parameter to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name, as in the golden files.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<i64>,
    /// Start value.
    pub init: Init,
}

/// A set of named parameters.
#[derive(Debug)]
pub struct Params {
    flat: Tensor,
    places: BTreeMap<String, usize>,
    names: Vec<String>,
    offsets: Vec<i64>,
    leaves: Vec<Tensor>,
}

fn init(spec: &ParamSpec, options: (Kind, Device)) -> Tensor {
    let xavier = |gain: f64| {
        let fans: i64 = spec.shape.iter().rev().take(2).sum();
        let bound = gain * (6.0 / fans as f64).sqrt();
        Tensor::rand(&spec.shape, options) * (2.0 * bound) - bound
    };
    match spec.init {
        Init::Xavier => xavier(1.0),
        Init::XavierTimes(gain) => xavier(gain),
        Init::Orthogonal(gain) => orthogonal(&spec.shape, options) * gain,
        Init::Lecun(fan_in) => Tensor::randn(&spec.shape, options) * (1.0 / fan_in as f64).sqrt(),
        Init::Linear(fan_in) => {
            let bound = (1.0 / fan_in as f64).sqrt();
            Tensor::rand(&spec.shape, options) * (2.0 * bound) - bound
        }
        Init::Constant(value) => Tensor::full(&spec.shape, value, options),
    }
}

/// Of a normal matrix the Q of its QR decomposition, with the signs that make it unique: so it is uniform over
/// all there are (Mezzadri 2007, arXiv math-ph/0609050).
fn orthogonal(shape: &[i64], options: (Kind, Device)) -> Tensor {
    let normal = Tensor::randn(shape, options);
    let wide = shape[shape.len() - 2] < shape[shape.len() - 1];
    let tall = match wide {
        true => normal.transpose(-2, -1),
        false => normal,
    };
    let (q, r) = Tensor::linalg_qr(&tall, "reduced");
    let q = q * r.diagonal(0, -2, -1).sign().unsqueeze(-2);
    match wide {
        true => q.transpose(-2, -1),
        false => q,
    }
}

impl Params {
    /// Makes and initialises parameters, in the order given, from torch's global generator.
    pub fn new(specs: &[ParamSpec], kind: Kind, device: Device) -> Self {
        let options = (kind, device);
        let values: Vec<Tensor> = specs
            .iter()
            .map(|spec| init(spec, options).reshape([-1]))
            .collect();
        let flat = if values.is_empty() {
            Tensor::zeros([0], options)
        } else {
            Tensor::cat(&values, 0)
        };
        let shapes: Vec<(String, Vec<i64>)> = specs
            .iter()
            .map(|s| (s.name.clone(), s.shape.clone()))
            .collect();
        Self::over(flat, &shapes, true)
    }

    fn over(flat: Tensor, shapes: &[(String, Vec<i64>)], trainable: bool) -> Self {
        let (mut offsets, mut leaves, mut places, mut names) =
            (vec![0], Vec::new(), BTreeMap::new(), Vec::new());
        let mut offset = 0;
        for (i, (name, shape)) in shapes.iter().enumerate() {
            let n: i64 = shape.iter().product();
            let leaf = flat.narrow(0, offset, n).view(shape.as_slice()).detach();
            leaves.push(leaf.set_requires_grad(trainable));
            offset += n;
            offsets.push(offset);
            places.insert(name.clone(), i);
            names.push(name.clone());
        }
        Self {
            flat,
            places,
            names,
            offsets,
            leaves,
        }
    }

    /// A copy of the parameters whose names satisfy `wanted`, that no gradient flows into: a target
    /// network.
    pub fn frozen_copy(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let picked: Vec<usize> = (0..self.names.len())
            .filter(|&i| wanted(&self.names[i]))
            .collect();
        let parts: Vec<Tensor> = picked
            .iter()
            .map(|&i| self.leaves[i].detach().reshape([-1]))
            .collect();
        let shapes: Vec<_> = picked
            .iter()
            .map(|&i| (self.names[i].clone(), self.leaves[i].size()))
            .collect();
        Self::over(Tensor::cat(&parts, 0), &shapes, false)
    }

    /// The leaf of this name. An unknown name is a mistake in the program: it panics.
    pub fn get(&self, name: &str) -> &Tensor {
        &self.leaves[self.place(name)]
    }

    /// Where it is among [`Params::names`]; panics as [`Params::get`].
    pub fn place(&self, name: &str) -> usize {
        match self.places.get(name) {
            Some(&place) => place,
            None => panic!("no parameter is named `{name}`"),
        }
    }

    /// Names in buffer order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Buffer ranges and leaves of the parameters whose names satisfy `wanted`.
    pub fn select(&self, wanted: impl Fn(&str) -> bool) -> Vec<usize> {
        (0..self.names.len())
            .filter(|&i| wanted(&self.names[i]))
            .collect()
    }

    /// The leaf at a place given by [`Params::select`].
    pub fn leaf(&self, place: usize) -> &Tensor {
        &self.leaves[place]
    }

    /// Start and length in the flat buffer of the parameter at a place.
    pub fn range(&self, place: usize) -> (i64, i64) {
        (
            self.offsets[place],
            self.offsets[place + 1] - self.offsets[place],
        )
    }

    /// The whole buffer.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Overwrites the parameter of this name.
    pub fn set(&self, name: &str, value: &Tensor) {
        no_grad(|| self.get(name).detach().copy_(value));
    }

    /// Overwrites the whole buffer (same names, same order).
    pub fn set_flat(&self, flat: &Tensor) {
        no_grad(|| self.flat.shallow_clone().copy_(flat));
    }

    /// Moves these toward `online`: self ← self + τ·(online − self), parameter by parameter where
    /// the online set is larger.
    pub fn track(&self, online: &Params, tau: f64) {
        no_grad(|| {
            if self.names == online.names {
                let _ = self.flat.shallow_clone().lerp_(&online.flat, tau);
                return;
            }
            for (name, leaf) in self.names.iter().zip(&self.leaves) {
                let _ = leaf.detach().lerp_(&online.get(name).detach(), tau);
            }
        });
    }

    /// f32 copies of the parameters whose names satisfy `wanted`.
    pub fn export(&self, wanted: impl Fn(&str) -> bool) -> Vec<NamedTensor> {
        self.select(wanted)
            .into_iter()
            .map(|i| to_named(&self.names[i], &self.leaves[i]))
            .collect()
    }
}

/// An f32 copy of a tensor, with a name.
pub fn to_named(name: &str, tensor: &Tensor) -> NamedTensor {
    let tensor = tensor
        .detach()
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous();
    let mut data = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut data, tensor.numel());
    let shape = tensor.size().iter().map(|&d| d as usize).collect();
    NamedTensor {
        name: name.to_owned(),
        shape,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Params {
        let spec = |name: &str, shape: &[i64], value: f64| ParamSpec {
            name: name.into(),
            shape: shape.into(),
            init: Init::Constant(value),
        };
        Params::new(
            &[spec("a", &[2, 3], 1.0), spec("b", &[4], 2.0)],
            Kind::Float,
            Device::Cpu,
        )
    }

    #[test]
    fn leaves_are_views_of_the_buffer() {
        let p = params();
        p.set("b", &Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]));
        assert_eq!(p.flat().double_value(&[9]), 4.0);
        assert_eq!(p.range(p.select(|n| n == "b")[0]), (6, 4));
    }

    #[test]
    fn a_target_tracks_what_it_shares() {
        let online = params();
        let target = online.frozen_copy(|n| n == "a");
        online.set("a", &Tensor::full([2, 3], 3.0, (Kind::Float, Device::Cpu)));
        target.track(&online, 0.25);
        assert_eq!(target.get("a").double_value(&[1, 2]), 1.5);
        assert!(!target.get("a").requires_grad());
        let whole = params().frozen_copy(|_| true);
        whole.track(&online, 0.25);
        assert_eq!(whole.get("a").double_value(&[1, 2]), 1.5);
        assert_eq!(whole.get("b").double_value(&[3]), 2.0);
    }

    #[test]
    fn orthogonal_matrices_keep_lengths_and_each_member_has_its_own() {
        let spec = |name: &str, shape: &[i64]| ParamSpec {
            name: name.into(),
            shape: shape.into(),
            init: Init::Orthogonal(2.0),
        };
        let specs = [spec("tall", &[7, 4]), spec("wide", &[3, 4, 7])];
        let p = Params::new(&specs, Kind::Double, Device::Cpu);
        let is_four = |x: &Tensor, other: &Tensor| {
            let four = Tensor::eye(4, (Kind::Double, Device::Cpu)) * 4.0;
            assert!(x.matmul(other).allclose(&four, 1e-9, 1e-9, false));
        };
        let tall = p.get("tall").detach();
        is_four(&tall.transpose(0, 1), &tall);
        let members: Vec<Tensor> = (0..3).map(|j| p.get("wide").detach().get(j)).collect();
        for wide in &members {
            is_four(wide, &wide.transpose(0, 1));
        }
        assert_ne!(members[0], members[1]);
    }

    #[test]
    fn gradients_reach_a_leaf() {
        let p = params();
        let loss = (p.get("a") * 2.0).sum(Kind::Float);
        let grads = Tensor::run_backward(&[loss], &[p.get("a")], false, false);
        assert_eq!(grads[0].double_value(&[0, 0]), 2.0);
    }
}
