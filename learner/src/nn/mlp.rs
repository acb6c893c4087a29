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

use tch::{Kind, Tensor, no_grad};

use super::{
    layers::LAYER_NORM_EPS,
    params::{Init, ParamSpec, Params},
};

/// ReLU between linear layers; with `norm`, LayerNorm before each ReLU.
///
/// Its parameters: `<name>.<i>.weight` \[out, in\], `<name>.<i>.bias` \[out\], and with `norm`
/// `<name>.<i>.norm.weight` and `.norm.bias` \[out\]; an ensemble's have M before that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    name: String,
    members: Option<i64>,
    /// Stands on this member's part of an ensemble's parameters.
    member: Option<i64>,
    sizes: Vec<i64>,
    norm: bool,
}

/// A forward pass, kept for the backward one.
#[derive(Debug)]
pub struct Pass {
    /// What came out: a leaf, of which a loss takes its gradient.
    pub out: Tensor,
    /// What went into each linear layer.
    inputs: Vec<Tensor>,
    /// Of the layers with a norm: what it gave before weight and bias, and 1 / σ.
    norms: Vec<(Tensor, Tensor)>,
}

/// What a backward pass gives.
#[derive(Debug, Default)]
pub struct Backward {
    /// Gradients in the order of [`Mlp::specs`]; empty where they were not asked for.
    pub params: Vec<Tensor>,
    /// Gradient of the input, for each member; `None` where it was not asked for.
    pub input: Option<Tensor>,
}

/// Which gradients are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of the parameters.
    Params,
    /// Of the input.
    Input,
    /// Of both.
    Both,
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

    /// The same with LayerNorm before each ReLU.
    pub fn normed(self) -> Self {
        Self { norm: true, ..self }
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

    /// What it stands on: weights Xavier-uniform member by member, biases zero.
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
            add("weight", &[outputs, inputs], Init::Xavier);
            add("bias", &[outputs], Init::Constant(0.0));
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

    fn linear(&self, weight: &Tensor, bias: &Tensor, x: &Tensor) -> Tensor {
        match self.members {
            None => x.linear(weight, Some(bias)),
            Some(_) => {
                let x = match x.dim() {
                    2 => (x.unsqueeze(0)).expand([weight.size()[0], -1, -1], true),
                    _ => x.shallow_clone(),
                };
                bias.unsqueeze(1)
                    .baddbmm(&x, &weight.transpose(1, 2), 1.0, 1.0)
            }
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
        let (mut inputs, mut norms) = (Vec::new(), Vec::new());
        let param = |layer, what: &str| self.param(p, layer, what);
        let out = no_grad(|| self.run(param, x, Some((&mut inputs, &mut norms))));
        Pass {
            out: out.detach().set_requires_grad(true),
            inputs,
            norms,
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
            let mut z = self.linear(&param(layer, "weight"), &param(layer, "bias"), &x);
            if let Some((inputs, _)) = &mut kept {
                inputs.push(x);
            }
            if self.has_norm(layer) {
                let (normed, scale) = normalise(&z);
                z = &normed * self.beside_rows(&param(layer, "norm.weight"))
                    + self.beside_rows(&param(layer, "norm.bias"));
                if let Some((_, norms)) = &mut kept {
                    norms.push((normed, scale));
                }
            }
            x = match layer + 1 < self.layers() {
                true => z.relu_(),
                false => z,
            };
        }
        x
    }

    /// The way back to the input alone: its gradient, for each member.
    pub fn backward_input(&self, p: &Params, pass: &Pass, grad: &Tensor) -> Tensor {
        match self.backward(p, pass, grad, Wanted::Input).input {
            Some(input) => input,
            None => unreachable!("it was asked for"),
        }
    }

    /// The way back from `grad`, the gradient of [`Pass::out`].
    pub fn backward(&self, p: &Params, pass: &Pass, grad: &Tensor, wanted: Wanted) -> Backward {
        no_grad(|| {
            let mut grad = grad.shallow_clone();
            let mut params = Vec::new();
            for layer in (0..self.layers()).rev() {
                let mut own = Vec::new();
                if layer + 1 < self.layers() {
                    // What came out of this layer went into the next.
                    grad = pass.inputs[layer + 1].threshold_backward(&grad, 0);
                }
                if self.has_norm(layer) {
                    let (normed, scale) = &pass.norms[layer];
                    if wanted != Wanted::Input {
                        let of_weight = (&grad * normed).sum_dim_intlist(-2, false, None::<Kind>);
                        own = vec![of_weight, grad.sum_dim_intlist(-2, false, None::<Kind>)];
                    }
                    let weight = self.beside_rows(&self.param(p, layer, "norm.weight"));
                    grad = normalise_backward(&(grad * weight), normed, scale);
                }
                let input = &pass.inputs[layer];
                if wanted != Wanted::Input {
                    let rows = grad.transpose(-2, -1);
                    let of_weight = match (self.members, input.dim()) {
                        (Some(members), 2) => {
                            rows.bmm(&input.unsqueeze(0).expand([members, -1, -1], true))
                        }
                        _ => rows.matmul(input),
                    };
                    let of_bias = grad.sum_dim_intlist(-2, false, None::<Kind>);
                    // Collected from the last to the first, turned round at the end.
                    params.extend(own.into_iter().rev());
                    params.extend([of_bias, of_weight]);
                }
                if layer > 0 || wanted != Wanted::Params {
                    grad = grad.matmul(&self.param(p, layer, "weight"));
                }
            }
            params.reverse();
            Backward {
                params,
                input: (wanted != Wanted::Params).then_some(grad),
            }
        })
    }
}

/// Rows with mean 0 and variance 1, and what each was multiplied with.
fn normalise(z: &Tensor) -> (Tensor, Tensor) {
    let centred = z - z.mean_dim(-1, true, None::<Kind>);
    let variance = (&centred * &centred).mean_dim(-1, true, None::<Kind>);
    let scale = (variance + LAYER_NORM_EPS).rsqrt();
    (centred * &scale, scale)
}

fn normalise_backward(grad: &Tensor, normed: &Tensor, scale: &Tensor) -> Tensor {
    let along = (grad * normed).mean_dim(-1, true, None::<Kind>);
    (grad - grad.mean_dim(-1, true, None::<Kind>) - normed * along) * scale
}

#[cfg(test)]
mod tests {
    use tch::Device;

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

    fn agree(mlp: &Mlp, x: &Tensor) {
        let p = Params::new(&mlp.specs(), OPTIONS.0, OPTIONS.1);
        // Biases and norms that are not where they start.
        p.set_flat(&(p.flat() + Tensor::randn(p.flat().size(), OPTIONS) * 0.3));
        let x = x.set_requires_grad(true);
        let theirs = by_autograd(mlp, &p, &x);
        let pass = mlp.forward(&p, &x);
        let near = |a: &Tensor, b: &Tensor| {
            assert_eq!(a.size(), b.size());
            let off = (a.detach() - b.detach()).abs().max().double_value(&[]);
            assert!(off < 1e-11, "{off}");
        };
        near(&pass.out, &theirs);
        near(&mlp.value(&p, &x), &theirs);
        let way = Tensor::randn(theirs.size(), OPTIONS);
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
            agree(&mlp, &rows);
        }
        for mlp in [
            Mlp::ensemble("n", 3, &[5, 8, 6, 1]),
            Mlp::ensemble("n", 3, &[5, 8, 6, 1]).normed(),
        ] {
            agree(&mlp, &rows);
            agree(&mlp, &own_rows);
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
    }
}
