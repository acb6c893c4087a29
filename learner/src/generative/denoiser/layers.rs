//! Linear layers of a denoiser by their names, and the gradients of its parameters as the way back comes
//! across them.

use tch::{Kind, Tensor};

use crate::nn::{Init, ParamSpec, Params, product};

/// A linear layer's parameters, which start as torch's `nn.Linear` do.
pub fn linear_specs(name: &str, inputs: i64, outputs: i64) -> [ParamSpec; 2] {
    let spec = |what: &str, shape: &[i64]| ParamSpec {
        name: format!("{name}.{what}"),
        shape: shape.into(),
        init: Init::Linear(inputs),
    };
    [spec("weight", &[outputs, inputs]), spec("bias", &[outputs])]
}

/// The weight of the layer `<name>`.
pub fn weight(params: &Params, name: &str) -> Tensor {
    params.get(&format!("{name}.weight")).detach()
}

/// The bias of the layer `<name>`.
pub fn bias(params: &Params, name: &str) -> Tensor {
    params.get(&format!("{name}.bias")).detach()
}

/// x Wᵀ + b of the linear layer `<name>`, for x \[B, in\].
pub fn linear(params: &Params, name: &str, x: &Tensor) -> Tensor {
    product::forward(x, &weight(params, name), &bias(params, name), false)
}

/// The same of rounded numbers: see [`product::forward_rounded`].
pub fn linear_rounded(params: &Params, name: &str, x: &Tensor) -> Tensor {
    product::forward_rounded(x, &weight(params, name), &bias(params, name))
}

/// One gradient for each parameter; undefined as long as it is not known.
#[derive(Debug)]
pub struct Gradients<'a> {
    params: &'a Params,
    all: Vec<Tensor>,
}

impl<'a> Gradients<'a> {
    /// None known.
    pub fn new(params: &'a Params) -> Self {
        let all = params.names().iter().map(|_| Tensor::new()).collect();
        Self { params, all }
    }

    /// That of the parameter of this name.
    pub fn put(&mut self, name: &str, gradient: Tensor) {
        self.all[self.params.place(name)] = gradient;
    }

    /// Those of the linear layer `<name>`, from the gradient of what came out \[B, out\] and what went in \[B, in\].
    pub fn put_linear(&mut self, name: &str, grad: &Tensor, input: &Tensor) {
        let of_weight = product::of_weight(grad, input, None);
        self.put(&format!("{name}.weight"), of_weight);
        self.put(&format!("{name}.bias"), column_sums(grad));
    }

    /// All, in the order of the parameters.
    pub fn all(self) -> Vec<Tensor> {
        self.all
    }
}

/// \[B, n\] to \[n\].
pub fn column_sums(rows: &Tensor) -> Tensor {
    rows.sum_dim_intlist(0, false, None::<Kind>)
}
