//! The way back through a perceptron, by hand.

use tch::{Kind, Tensor, no_grad};

use super::{Mlp, Part, Pass};
use crate::nn::{layers::normalise_backward, params::Params, product};

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
            let mut of_members: Vec<Vec<Tensor>> = Vec::new();
            let mut inputs = Vec::new();
            for part in &pass.parts {
                // A member's first rows open its sums.
                if part.first == 0 {
                    of_members.push(Vec::new());
                }
                if let Some(sums) = of_members.last_mut() {
                    let of = self.of_part(part);
                    inputs.extend(of.backward_part(p, part, &part.of(grad), wanted, sums));
                }
            }
            let mut params = match pass.parts[0].member {
                Some(_) => stacked(&of_members),
                None => of_members.remove(0),
            };
            // Collected from the last to the first.
            params.reverse();
            Backward {
                params,
                input: (wanted != Wanted::Params).then(|| self.joined(inputs)),
            }
        })
    }

    /// Adds the gradients of the parameters from a part to `sums`, the last parameter's first.
    fn backward_part(
        &self,
        p: &Params,
        Part { inputs, norms, .. }: &Part,
        grad: &Tensor,
        wanted: Wanted,
        sums: &mut Vec<Tensor>,
    ) -> Option<Tensor> {
        let mut grad = grad.shallow_clone();
        let mut place = 0;
        let mut collect = |part: &dyn Fn(Option<Tensor>) -> Tensor| {
            let there = sums.get(place).map(Tensor::shallow_clone);
            match there {
                Some(_) => sums[place] = part(there),
                None => sums.push(part(None)),
            }
            place += 1;
        };
        let sum = |x: &Tensor, onto: Option<Tensor>| {
            let part = x.sum_dim_intlist(-2, false, None::<Kind>);
            match onto {
                Some(mut onto) => onto.g_add_(&part),
                None => part,
            }
        };
        for layer in (0..self.layers()).rev() {
            let mut of_norm = None;
            if self.has_norm(layer) {
                let (normed, scale) = &norms[layer];
                let weight = self.beside_rows(&self.param(p, layer, "norm.weight"));
                let before = normalise_backward(&(&grad * weight), normed, scale);
                of_norm = Some((std::mem::replace(&mut grad, before), normed));
            }
            let input = &inputs[layer];
            if wanted != Wanted::Input {
                if let Some((grad, normed)) = &of_norm {
                    collect(&|onto| sum(grad, onto));
                    collect(&|onto| sum(&(grad * *normed), onto));
                }
                collect(&|onto| sum(&grad, onto));
                collect(&|onto| product::of_weight(&grad, input, onto));
            }
            if layer > 0 || wanted != Wanted::Params {
                // What goes into an inner layer came out of the ReLU before it.
                let relu = (layer > 0).then_some(input);
                grad = product::of_input(&grad, &self.param(p, layer, "weight"), relu);
            }
        }
        (wanted != Wanted::Params).then_some(grad)
    }
}

/// Each member's tensors \[…\], as those of all \[M, …\].
fn stacked(of_members: &[Vec<Tensor>]) -> Vec<Tensor> {
    let count = of_members[0].len();
    let all = |i: usize| Vec::from_iter(of_members.iter().map(|own| &own[i]));
    (0..count).map(|i| Tensor::stack(&all(i), 0)).collect()
}
