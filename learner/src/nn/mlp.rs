//! Multi-layer perceptrons, one or an ensemble of them that is computed together, with the backward pass
//! by hand.
//!
//! Losses are written on the networks' *outputs*, with torch's own gradients: some numbers per row, and
//! they read as in the papers. From the gradient of an output on, [`Mlp::backward`] goes its way without
//! a graph, and takes no gradient that nobody asked for: an actor's loss needs that of the critics'
//! *inputs*, not of their weights.
//!
//! Shapes: B rows, M members of an ensemble. One network maps \[B, in\] to \[B, out\], an ensemble
//! \[B, in\] (the same rows for all) or \[M, B, in\] to \[M, B, out\].

mod backward;

use tch::{Tensor, no_grad};

pub use self::backward::{Backward, Wanted};
use super::{
    layers::{LAYER_NORM_EPS, normalise},
    params::{Init, ParamSpec, Params},
    product,
};

/// ReLU between linear layers; with `norm`, LayerNorm before each ReLU.
///
/// Its parameters: `<name>.<i>.weight` \[out, in\], `<name>.<i>.bias` \[out\], and with `norm`
/// `<name>.<i>.norm.weight` and `.norm.bias` \[out\]; an ensemble's have M before that.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    name: String,
    members: Option<i64>,
    /// Stands on this member's part of an ensemble's parameters.
    member: Option<i64>,
    sizes: Vec<i64>,
    norm: bool,
    start: Start,
}

/// How weights and biases start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Xavier-uniform, biases zero.
    Xavier,
    /// As torch's `nn.Linear`, biases too: uniform in ±1 / √fan in.
    Torch,
    /// So too but for the last layer, whose weights are Xavier-uniform / 100 and whose biases are zero.
    TorchSmallLast,
    /// Orthogonal times √2, in the last layer times `last`; biases zero.
    Orthogonal {
        /// Of the last layer.
        last: f64,
    },
}

impl Start {
    /// Of a layer's weights and biases.
    fn of(self, inputs: i64, is_last: bool) -> (Init, Init) {
        let zero = Init::Constant(0.0);
        match self {
            Self::Xavier => (Init::Xavier, zero),
            Self::TorchSmallLast if is_last => (Init::XavierTimes(0.01), zero),
            Self::Torch | Self::TorchSmallLast => (Init::Linear(inputs), Init::Linear(inputs)),
            Self::Orthogonal { last } if is_last => (Init::Orthogonal(last), zero),
            Self::Orthogonal { .. } => (Init::Orthogonal(std::f64::consts::SQRT_2), zero),
        }
    }
}

/// A forward pass, kept for the backward one.
#[derive(Debug)]
pub struct Pass {
    /// What came out: a leaf, of which a loss takes its gradient.
    pub out: Tensor,
    /// All of it, or member by member some rows at a time.
    parts: Vec<Part>,
}

/// Rows that go through the layers together.
#[derive(Debug)]
struct Part {
    /// The member that they go through; `None`: the whole.
    member: Option<i64>,
    first: i64,
    count: i64,
    /// What went into each linear layer.
    inputs: Vec<Tensor>,
    /// Of the layers with a norm: what it gave before weight and bias, and 1 / σ.
    norms: Vec<(Tensor, Tensor)>,
}

impl Part {
    /// Its part of \[…, B, any\].
    fn of(&self, x: &Tensor) -> Tensor {
        let own = match self.member {
            Some(index) if x.dim() == 3 => x.get(index),
            _ => x.shallow_clone(),
        };
        own.narrow(-2, self.first, self.count)
    }
}

impl Mlp {
    /// One network of these layer sizes, input first.
    pub fn one(name: &str, sizes: &[i64]) -> Self {
        Self {
            name: name.to_owned(),
            members: None,
            member: None,
            sizes: sizes.to_vec(),
            norm: false,
            start: Start::Xavier,
        }
    }

    /// `members` of them.
    pub fn ensemble(name: &str, members: i64, sizes: &[i64]) -> Self {
        Self {
            members: Some(members),
            ..Self::one(name, sizes)
        }
    }

    /// One network of the ensemble by itself, on the ensemble's parameters.
    pub fn member(&self, index: i64) -> Self {
        Self {
            members: None,
            member: Some(index),
            ..self.clone()
        }
    }

    /// The same, starting so.
    pub fn starting(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// The same, starting as torch's `nn.Linear` do.
    pub fn as_torch(self) -> Self {
        self.starting(Start::Torch)
    }

    /// The same with LayerNorm before each ReLU.
    pub fn normed(self) -> Self {
        Self { norm: true, ..self }
    }

    /// What the names of its parameters begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Layer sizes, input first.
    pub fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    fn layers(&self) -> usize {
        self.sizes.len() - 1
    }

    fn has_norm(&self, layer: usize) -> bool {
        self.norm && layer + 1 < self.layers()
    }

    /// What it stands on; an ensemble's weights start member by member.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        for layer in 0..self.layers() {
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            let mut add = |what: &str, shape: &[i64], init: Init| {
                specs.push(ParamSpec {
                    name: format!("{}.{layer}.{what}", self.name),
                    shape: self
                        .members
                        .iter()
                        .copied()
                        .chain(shape.iter().copied())
                        .collect(),
                    init,
                });
            };
            let last = layer + 1 == self.layers();
            let (weight, bias) = self.start.of(inputs, last);
            add("weight", &[outputs, inputs], weight);
            add("bias", &[outputs], bias);
            if self.has_norm(layer) {
                add("norm.weight", &[outputs], Init::Constant(1.0));
                add("norm.bias", &[outputs], Init::Constant(0.0));
            }
        }
        specs
    }

    fn param(&self, p: &Params, layer: usize, what: &str) -> Tensor {
        let whole = p.get(&format!("{}.{layer}.{what}", self.name)).detach();
        match self.member {
            Some(index) => whole.get(index),
            None => whole,
        }
    }

    /// A layer's own numbers, so that they meet rows: \[out\] or \[M, 1, out\].
    fn beside_rows(&self, value: &Tensor) -> Tensor {
        match self.members {
            None => value.shallow_clone(),
            Some(_) => value.unsqueeze(1),
        }
    }

    /// The output alone, with no way back: for targets.
    pub fn value(&self, p: &Params, x: &Tensor) -> Tensor {
        no_grad(|| self.run(|layer, what| self.param(p, layer, what), x, None))
    }

    /// The same of some members of an ensemble: `members` \[M\] gives \[M, B, out\].
    pub fn value_of(&self, p: &Params, members: &Tensor, x: &Tensor) -> Tensor {
        assert!(self.members.is_some(), "{} is no ensemble", self.name);
        let param = |layer, what: &str| self.param(p, layer, what).index_select(0, members);
        no_grad(|| self.run(param, x, None))
    }

    /// The output, and what the way back needs.
    pub fn forward(&self, p: &Params, x: &Tensor) -> Pass {
        let mut parts = self.parts(x);
        let outs = no_grad(|| {
            Vec::from_iter(parts.iter_mut().map(|part| {
                let of = self.of_part(part);
                let x = part.of(x);
                let param = |layer, what: &str| of.param(p, layer, what);
                of.run(param, &x, Some((&mut part.inputs, &mut part.norms)))
            }))
        });
        Pass {
            out: self.joined(outs).detach().set_requires_grad(true),
            parts,
        }
    }

    /// How these rows go. Many on a processor go by themselves through one member after the other, so that what
    /// one layer leaves is near when the next begins.
    fn parts(&self, x: &Tensor) -> Vec<Part> {
        let rows = x.size()[x.dim() - 2];
        let part = |member, first, count| Part {
            member,
            first,
            count,
            inputs: Vec::new(),
            norms: Vec::new(),
        };
        let some = product::rows_together(x);
        if rows <= some {
            return vec![part(None, 0, rows)];
        }
        let members = match self.members {
            Some(members) => Vec::from_iter((0..members).map(Some)),
            None => vec![None],
        };
        let rows_of = |member| {
            let firsts = (0..rows).step_by(some as usize);
            firsts.map(move |first| part(member, first, some.min(rows - first)))
        };
        members.into_iter().flat_map(rows_of).collect()
    }

    fn of_part(&self, part: &Part) -> Self {
        match part.member {
            Some(index) => self.member(index),
            None => self.clone(),
        }
    }

    /// What belongs to each part, as one tensor.
    fn joined(&self, mut parts: Vec<Tensor>) -> Tensor {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let columns = parts[0].size()[parts[0].dim() - 1];
        let all = Tensor::cat(&parts, 0);
        match self.members {
            Some(members) => all.view([members, -1, columns]),
            None => all,
        }
    }

    #[allow(
        clippy::type_complexity,
        reason = "two lists that only this file knows"
    )]
    fn run(
        &self,
        param: impl Fn(usize, &str) -> Tensor,
        x: &Tensor,
        mut kept: Option<(&mut Vec<Tensor>, &mut Vec<(Tensor, Tensor)>)>,
    ) -> Tensor {
        let mut x = x.detach();
        for layer in 0..self.layers() {
            let inner = layer + 1 < self.layers();
            let (weight, bias) = (param(layer, "weight"), param(layer, "bias"));
            let relu = inner && !self.has_norm(layer);
            let mut z = product::forward(&x, &weight, &bias, relu);
            if let Some((inputs, _)) = &mut kept {
                inputs.push(x);
            }
            if self.has_norm(layer) {
                let (normed, scale) = normalise(&z, LAYER_NORM_EPS);
                let [weight, bias] =
                    ["norm.weight", "norm.bias"].map(|what| self.beside_rows(&param(layer, what)));
                z = bias.addcmul(&normed, &weight);
                if let Some((_, norms)) = &mut kept {
                    norms.push((normed, scale));
                }
                z = z.relu_();
            }
            x = z;
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// The same network by torch's own gradients.
    fn by_autograd(mlp: &Mlp, p: &Params, x: &Tensor) -> Tensor {
        let members = mlp.members.unwrap_or(1);
        let outs: Vec<Tensor> = (0..members)
            .map(|member| {
                let of = |layer: usize, what: &str| {
                    let whole = p.get(&format!("{}.{layer}.{what}", mlp.name));
                    match mlp.members {
                        Some(_) => whole.get(member),
                        None => whole.shallow_clone(),
                    }
                };
                let mut h = match x.dim() {
                    3 => x.get(member),
                    _ => x.shallow_clone(),
                };
                for layer in 0..mlp.layers() {
                    h = h.linear(&of(layer, "weight"), Some(&of(layer, "bias")));
                    if mlp.has_norm(layer) {
                        let (w, b) = (of(layer, "norm.weight"), of(layer, "norm.bias"));
                        h = h.layer_norm(w.size(), Some(&w), Some(&b), LAYER_NORM_EPS, false);
                    }
                    if layer + 1 < mlp.layers() {
                        h = h.relu();
                    }
                }
                h
            })
            .collect();
        match mlp.members {
            Some(_) => Tensor::stack(&outs, 0),
            None => outs[0].shallow_clone(),
        }
    }

    /// Within `exact` of torch's own, or within that share of the largest entry.
    fn agree(mlp: &Mlp, x: &Tensor, exact: f64) {
        let options = (x.kind(), x.device());
        let p = Params::new(&mlp.specs(), options.0, options.1);
        // Biases and norms that are not where they start.
        p.set_flat(&(p.flat() + Tensor::randn(p.flat().size(), options) * 0.3));
        let x = x.set_requires_grad(true);
        let theirs = by_autograd(mlp, &p, &x);
        let pass = mlp.forward(&p, &x);
        let near = |a: &Tensor, b: &Tensor| {
            assert_eq!(a.size(), b.size());
            let off = (a.detach() - b.detach()).abs().max().double_value(&[]);
            let largest = b.detach().abs().max().double_value(&[]);
            assert!(off < exact * largest.max(1.0), "{off} of {largest}");
        };
        near(&pass.out, &theirs);
        near(&mlp.value(&p, &x), &theirs);
        let way = Tensor::randn(theirs.size(), options);
        let mut leaves: Vec<&Tensor> = p.names().iter().map(|name| p.get(name)).collect();
        leaves.push(&x);
        let sum = (&theirs * &way).sum(None::<Kind>);
        let wanted = Tensor::run_backward(&[sum], &leaves, false, false);
        let both = mlp.backward(&p, &pass, &way, Wanted::Both);
        assert_eq!(both.params.len(), p.names().len());
        for (ours, theirs) in both.params.iter().zip(&wanted) {
            near(ours, theirs);
        }
        // The rows are shared by the members, so their gradients are added.
        let of_input = |back: &Backward| {
            let own = back.input.as_ref().unwrap().shallow_clone();
            match (mlp.members, x.dim()) {
                (Some(_), 2) => own.sum_dim_intlist(0, false, None::<Kind>),
                _ => own,
            }
        };
        near(&of_input(&both), &wanted[wanted.len() - 1]);
        let input = mlp.backward(&p, &pass, &way, Wanted::Input);
        assert!(input.params.is_empty());
        near(&of_input(&input), &wanted[wanted.len() - 1]);
        let params = mlp.backward(&p, &pass, &way, Wanted::Params);
        assert!(params.input.is_none());
        near(&params.params[0], &wanted[0]);
    }

    #[test]
    fn by_hand_and_by_torch_are_the_same() {
        tch::manual_seed(1);
        let (rows, own_rows) = (
            Tensor::randn([7, 5], OPTIONS),
            Tensor::randn([3, 7, 5], OPTIONS),
        );
        for mlp in [
            Mlp::one("n", &[5, 8, 6, 2]),
            Mlp::one("n", &[5, 8, 6, 2]).normed(),
            Mlp::one("n", &[5, 2]),
        ] {
            agree(&mlp, &rows, 1e-11);
        }
        for mlp in [
            Mlp::ensemble("n", 3, &[5, 8, 6, 1]),
            Mlp::ensemble("n", 3, &[5, 8, 6, 1]).normed(),
        ] {
            agree(&mlp, &rows, 1e-11);
            agree(&mlp, &own_rows, 1e-11);
            // More rows than go back at a time.
            let many = 2 * product::rows_together(&rows) + 9;
            agree(&mlp, &Tensor::randn([many, 5], OPTIONS), 1e-10);
            agree(&mlp, &Tensor::randn([3, many, 5], OPTIONS), 1e-10);
            let one = Mlp {
                members: None,
                ..mlp
            };
            agree(&one, &Tensor::randn([many, 5], OPTIONS), 1e-10);
        }
    }

    #[test]
    fn wide_layers_are_the_same() {
        tch::set_num_threads(1);
        tch::manual_seed(4);
        let options = (Kind::Float, Device::Cpu);
        // The many go through the layers some at a time.
        for (count, tolerance) in [(40, 1e-5), (961, 1e-4)] {
            let (rows, own_rows) = (
                Tensor::randn([count, 5], options),
                Tensor::randn([3, count, 5], options),
            );
            for sizes in [&[5, 80, 96, 2][..], &[5, 80, 8, 72, 64]] {
                for mlp in [Mlp::one("n", sizes), Mlp::one("n", sizes).normed()] {
                    agree(&mlp, &rows, tolerance);
                }
                let all = Mlp::ensemble("n", 3, sizes).normed();
                agree(&all, &rows, tolerance);
                agree(&all, &own_rows, tolerance);
            }
        }
    }

    #[test]
    fn a_member_by_itself_is_what_it_is_among_the_others() {
        tch::manual_seed(2);
        let all = Mlp::ensemble("n", 3, &[5, 8, 6, 2]).normed();
        let p = Params::new(&all.specs(), OPTIONS.0, OPTIONS.1);
        let x = Tensor::randn([7, 5], OPTIONS);
        let way = Tensor::randn([3, 7, 2], OPTIONS);
        let together = all.forward(&p, &x);
        let wanted = all.backward(&p, &together, &way, Wanted::Both);
        for index in 0..3 {
            let one = all.member(index);
            let pass = one.forward(&p, &x);
            let back = one.backward(&p, &pass, &way.get(index), Wanted::Both);
            let near =
                |a: &Tensor, b: &Tensor| assert!(a.allclose(&b.get(index), 1e-12, 1e-12, false));
            near(&pass.out, &together.out);
            near(&back.input.unwrap(), wanted.input.as_ref().unwrap());
            for (own, of_all) in back.params.iter().zip(&wanted.params) {
                near(own, of_all);
            }
        }
    }

    #[test]
    fn some_members_give_what_they_give_among_all() {
        for mlp in [
            Mlp::ensemble("n", 4, &[5, 8, 1]),
            Mlp::ensemble("n", 4, &[5, 8, 1]).normed(),
        ] {
            let p = Params::new(&mlp.specs(), OPTIONS.0, OPTIONS.1);
            let x = Tensor::randn([7, 5], OPTIONS);
            let members = Tensor::from_slice(&[2i64, 0]);
            let some = mlp.value_of(&p, &members, &x);
            let off = some - mlp.value(&p, &x).index_select(0, &members);
            assert!(off.abs().max().double_value(&[]) < 1e-13);
        }
    }

    #[test]
    fn members_start_different_and_within_their_own_bounds() {
        let p = Params::new(
            &Mlp::ensemble("n", 4, &[9, 16, 1]).specs(),
            Kind::Float,
            Device::Cpu,
        );
        let weight = p.get("n.0.weight");
        assert_eq!(weight.size(), [4, 16, 9]);
        let bound = (6.0f64 / (9.0 + 16.0)).sqrt();
        let largest = weight.abs().max().double_value(&[]);
        assert!(
            largest <= bound && largest > 0.9 * bound,
            "{largest} {bound}"
        );
        assert!(weight.get(0) != weight.get(1));
        assert_eq!(p.get("n.1.bias").size(), [4, 1]);
        let torch = Mlp::one("n", &[64, 512, 1]).as_torch();
        let p = Params::new(&torch.specs(), Kind::Float, Device::Cpu);
        for name in ["n.0.weight", "n.0.bias"] {
            let largest = p.get(name).abs().max().double_value(&[]);
            assert!(
                (0.95 / 8.0..=1.0 / 8.0).contains(&largest),
                "{name} {largest}"
            );
        }
    }
}
