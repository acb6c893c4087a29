//! What stands between linear layers, and its way back.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::nn::activation;

/// A function of single numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x tanh(ln(1 + eˣ)) (Misra 2019, arXiv 1908.08681).
    Mish,
    /// max(x, 0).
    Relu,
    /// x / (1 + e⁻ˣ).
    Silu,
    /// x Φ(x) with the exact distribution function of the standard normal.
    Gelu,
}

impl Activation {
    /// Of every number.
    pub fn of(self, x: &Tensor) -> Tensor {
        match self {
            Self::Mish => activation::mish(x),
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
            Self::Gelu => x.gelu("none"),
        }
    }

    /// The gradient at `x` from that at [`Activation::of`] it.
    pub fn backward(self, x: &Tensor, grad: &Tensor) -> Tensor {
        match self {
            Self::Mish => activation::mish_backward(x, grad),
            Self::Relu => x.threshold_backward(grad, 0),
            Self::Silu => x.silu_backward(grad),
            Self::Gelu => x.gelu_backward(grad, "none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn the_way_back_is_the_slope() {
        let x = Tensor::linspace(-4.0, 4.0, 30, (Kind::Double, Device::Cpu));
        let grad = x.cos();
        for activation in [
            Activation::Mish,
            Activation::Relu,
            Activation::Silu,
            Activation::Gelu,
        ] {
            let h = 1e-6;
            let slope = (activation.of(&(&x + h)) - activation.of(&(&x - h))) / (2.0 * h);
            let off = activation.backward(&x, &grad) - slope * &grad;
            let off = off.abs().max().double_value(&[]);
            assert!(off < 1e-8, "{activation:?}: {off}");
        }
    }
}
