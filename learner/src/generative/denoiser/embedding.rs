//! Two linear layers that make a vector of a condition or a time.

use tch::Tensor;

use super::{
    activation::Activation,
    layers::{Gradients, linear, linear_specs, weight},
};
use crate::nn::{ParamSpec, Params, product};

/// Linear, activation, linear.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Of the two layers.
    pub names: [&'static str; 2],
    /// Input, hidden and output width.
    pub sizes: [i64; 3],
    /// Between them.
    pub activation: Activation,
}

/// What a pass leaves for the way back.
#[derive(Debug)]
pub struct Seen {
    input: Tensor,
    before: Tensor,
    after: Tensor,
}

impl Embedding {
    pub fn specs(&self) -> Vec<ParamSpec> {
        let [inputs, hidden, outputs] = self.sizes;
        let first = linear_specs(self.names[0], inputs, hidden);
        first
            .into_iter()
            .chain(linear_specs(self.names[1], hidden, outputs))
            .collect()
    }

    /// \[B, in\] to \[B, out\].
    pub fn forward(&self, params: &Params, input: &Tensor) -> (Tensor, Seen) {
        let before = linear(params, self.names[0], input);
        let after = self.activation.of(&before);
        let out = linear(params, self.names[1], &after);
        let seen = Seen {
            input: input.shallow_clone(),
            before,
            after,
        };
        (out, seen)
    }

    /// From the gradient of what came out that of what the first layer gave \[B, hidden\].
    pub fn backward(
        &self,
        params: &Params,
        seen: &Seen,
        grad: &Tensor,
        gradients: &mut Gradients,
    ) -> Tensor {
        gradients.put_linear(self.names[1], grad, &seen.after);
        let grad = product::of_input(grad, &weight(params, self.names[1]), None);
        let grad = self.activation.backward(&seen.before, &grad);
        gradients.put_linear(self.names[0], &grad, &seen.input);
        grad
    }
}
