//! What both denoisers end in: residual blocks, and a linear layer to the row's columns.

use tch::Tensor;

use super::{
    activation::Activation,
    layers::{Gradients, bias, column_sums, linear, linear_rounded, linear_specs, weight},
};
use crate::nn::{
    ParamSpec, Params,
    layers::{norm_specs, normalise, normalise_backward},
    product,
};

/// ε of torch's `nn.LayerNorm`.
const EPS: f64 = 1e-5;

/// LayerNorm where there is one, activation, linear.
#[derive(Clone, Debug)]
struct Branch {
    norm: Option<String>,
    linear: String,
    sizes: [i64; 2],
}

/// What goes through the linear layer of a name.
type Linear = fn(&Params, &str, &Tensor) -> Tensor;

/// What a pass through a branch leaves for the way back.
#[derive(Debug)]
struct BranchSeen {
    /// What the norm gave before weight and bias, and 1 / σ.
    norm: Option<(Tensor, Tensor)>,
    /// What the activation took, and gave.
    before: Tensor,
    after: Tensor,
}

impl Branch {
    fn specs(&self) -> Vec<ParamSpec> {
        let norm = self.norm.iter();
        let mut specs: Vec<_> = norm
            .flat_map(|name| norm_specs(name, self.sizes[0]))
            .collect();
        specs.extend(linear_specs(&self.linear, self.sizes[0], self.sizes[1]));
        specs
    }

    fn forward(
        &self,
        params: &Params,
        activation: Activation,
        linear: Linear,
        x: &Tensor,
    ) -> (Tensor, BranchSeen) {
        let (norm, before) = match &self.norm {
            None => (None, x.shallow_clone()),
            Some(name) => {
                let (normed, scale) = normalise(x, EPS);
                let y = bias(params, name).addcmul(&normed, &weight(params, name));
                (Some((normed, scale)), y)
            }
        };
        let after = activation.of(&before);
        let out = linear(params, &self.linear, &after);
        let seen = BranchSeen {
            norm,
            before,
            after,
        };
        (out, seen)
    }

    /// The gradient of what went in.
    fn backward(
        &self,
        params: &Params,
        activation: Activation,
        seen: &BranchSeen,
        grad: &Tensor,
        gradients: &mut Gradients,
    ) -> Tensor {
        gradients.put_linear(&self.linear, grad, &seen.after);
        let weight_of = |name: &str| weight(params, name);
        let grad = match activation {
            // In one walk.
            Activation::Relu => {
                product::of_input(grad, &weight_of(&self.linear), Some(&seen.after))
            }
            other => {
                let grad = product::of_input(grad, &weight_of(&self.linear), None);
                other.backward(&seen.before, &grad)
            }
        };
        match (&self.norm, &seen.norm) {
            (Some(name), Some((normed, scale))) => {
                gradients.put(&format!("{name}.weight"), column_sums(&(&grad * normed)));
                gradients.put(&format!("{name}.bias"), column_sums(&grad));
                normalise_backward(&(grad * weight_of(name)), normed, scale)
            }
            _ => grad,
        }
    }
}

/// h ← h + branch(h), as often as there are blocks; then a last branch without the sum.
#[derive(Clone, Debug)]
pub struct Trunk {
    blocks: Vec<Branch>,
    last: Branch,
    activation: Activation,
}

/// What a pass leaves for the way back: of the blocks, and of the last branch.
#[derive(Debug)]
pub struct Seen(Vec<BranchSeen>);

/// What a trunk is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub width: i64,
    pub depth: i64,
    pub outputs: i64,
    pub activation: Activation,
    /// LayerNorm in the blocks.
    pub norm: bool,
    /// LayerNorm before the last layer too.
    pub last_norm: bool,
    /// What the first block is called in `residual_mlp.network`.
    pub first: i64,
}

impl Trunk {
    pub fn new(shape: Shape) -> Self {
        let name = |i: i64| format!("residual_mlp.network.{i}");
        let block = |i: i64| Branch {
            norm: shape.norm.then(|| format!("{}.ln", name(i))),
            linear: format!("{}.linear", name(i)),
            sizes: [shape.width; 2],
        };
        let end = shape.first + shape.depth;
        Self {
            blocks: (shape.first..end).map(block).collect(),
            last: Branch {
                norm: shape.last_norm.then(|| name(end)),
                linear: "residual_mlp.final_linear".to_owned(),
                sizes: [shape.width, shape.outputs],
            },
            activation: shape.activation,
        }
    }

    pub fn specs(&self) -> Vec<ParamSpec> {
        let all = self.blocks.iter().chain([&self.last]);
        all.flat_map(Branch::specs).collect()
    }

    /// \[B, width\] to \[B, outputs\]; in bf16 if asked.
    pub fn value(&self, params: &Params, x: Tensor, bf16: bool) -> Tensor {
        let of_block = if bf16 { linear_rounded } else { linear };
        self.run(params, x, of_block, &mut |_| ())
    }

    /// The same, and what the way back needs.
    pub fn forward(&self, params: &Params, x: Tensor) -> (Tensor, Seen) {
        let mut seen = Vec::with_capacity(self.blocks.len() + 1);
        let out = self.run(params, x, linear, &mut |branch| seen.push(branch));
        (out, Seen(seen))
    }

    fn run(
        &self,
        params: &Params,
        mut x: Tensor,
        of_block: Linear,
        keep: &mut dyn FnMut(BranchSeen),
    ) -> Tensor {
        for block in &self.blocks {
            let (mut out, seen) = block.forward(params, self.activation, of_block, &x);
            keep(seen);
            x = out.g_add_(&x);
        }
        let (out, seen) = self.last.forward(params, self.activation, linear, &x);
        keep(seen);
        out
    }

    /// From the gradient of what came out that of what went in.
    pub fn backward(
        &self,
        params: &Params,
        Seen(seen): &Seen,
        grad: &Tensor,
        gradients: &mut Gradients,
    ) -> Tensor {
        let (last, blocks) = (&seen[self.blocks.len()], &seen[..self.blocks.len()]);
        let through = |branch: &Branch, seen, grad: &Tensor, gradients: &mut Gradients| {
            branch.backward(params, self.activation, seen, grad, gradients)
        };
        let mut grad = through(&self.last, last, grad, gradients);
        for (block, seen) in self.blocks.iter().zip(blocks).rev() {
            grad = through(block, seen, &grad, gradients).g_add_(&grad);
        }
        grad
    }
}
