//! A Gaussian policy whose log σ is a free vector, the same in every state; nothing squashes its samples.

use tch::{Device, Kind, Tensor};

use super::net::Net;
use crate::nn::{AdamConfig, Init, Mlp, ParamSpec};

/// Bounds of log σ (CORL: `LOG_STD_MIN`, `LOG_STD_MAX`).
pub const LOG_STD_BOUNDS: (f64, f64) = (-20.0, 2.0);

/// Name of log σ \[A\] among the policy's parameters.
pub const LOG_STD: &str = "actor.log_std";

/// A policy's network of these layer sizes, with log σ behind the perceptron's parameters; it starts as CORL's
/// do, log σ at 0.
pub fn net(sizes: &[i64], adam: AdamConfig, kind: Kind, device: Device) -> Net {
    let log_std = ParamSpec {
        name: LOG_STD.to_owned(),
        shape: sizes[sizes.len() - 1..].to_vec(),
        init: Init::Constant(0.0),
    };
    let mlp = Mlp::one("actor", sizes).as_torch();
    Net::new(mlp, &[log_std], adam, kind, device)
}

fn bounded(log_std: &Tensor) -> Tensor {
    log_std.clamp(LOG_STD_BOUNDS.0, LOG_STD_BOUNDS.1)
}

/// log N(a; mean, σ²), summed over the columns: actions and means \[B, A\], log σ \[A\] → \[B\].
pub fn log_prob(mean: &Tensor, log_std: &Tensor, actions: &Tensor) -> Tensor {
    let size = mean.size();
    assert_eq!(size.len(), 2);
    assert_eq!(actions.size(), size);
    assert_eq!(log_std.size(), size[1..]);
    let log_std = bounded(log_std);
    let z = (actions - mean) * (-&log_std).exp();
    let constant = size[1] as f64 * 0.5 * (2.0 * std::f64::consts::PI).ln();
    z.square().sum_dim_intlist(1, false, None::<Kind>) * -0.5 - log_std.sum(None::<Kind>) - constant
}

/// mean + σ ε \[B, A\], without a gradient.
pub fn sample(mean: &Tensor, log_std: &Tensor, noise: &Tensor) -> Tensor {
    assert_eq!(noise.size(), mean.size());
    mean.detach() + noise * bounded(&log_std.detach()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_are_those_of_the_normal_distribution_and_log_std_stops_at_its_bounds() {
        let row = |values: &[f64]| Tensor::from_slice(values).unsqueeze(0);
        let log_std = Tensor::from_slice(&[0.0, 2f64.ln()]);
        let got = log_prob(&row(&[0.0, 1.0]), &log_std, &row(&[1.0, 3.0]));
        // Both are one σ off: −½ − ½ ln 2π each, and −ln 2.
        let wanted = -1.0 - (2.0 * std::f64::consts::PI).ln() - 2f64.ln();
        assert!((got.double_value(&[0]) - wanted).abs() < 1e-12);
        let drawn = sample(&row(&[0.0, 1.0]), &log_std, &row(&[-1.0, 0.5]));
        assert!(drawn.allclose(&row(&[-1.0, 2.0]), 1e-12, 1e-12, false));
        let wide = Tensor::from_slice(&[5.0]);
        let drawn = sample(&row(&[0.0]), &wide, &row(&[1.0]));
        assert!((drawn.double_value(&[0, 0]) - 2f64.exp()).abs() < 1e-12);
    }
}
