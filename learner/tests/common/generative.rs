//! What golden files of diffusion models say of networks and noise, and how near one must come to them.

use hilt_learner::generative::{
    denoiser::{Activation, DenoiserConfig, TimeFeatures},
    edm::EdmConfig,
};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::Golden;

impl Golden {
    /// The hyperparameters of these files.
    pub fn hyper(&self) -> Value {
        serde_json::from_str(&self.metadata["hyper"]).unwrap()
    }

    /// Normalised by the file's normaliser of this name, min-max or standard.
    pub fn normalized(&self, which: &str, raw: &Tensor) -> Tensor {
        let (x, (from, gain, to)) = (raw.to_kind(Kind::Double), self.normalizer(which));
        (x - from) * gain + to
    }

    /// The other way.
    pub fn unnormalized(&self, which: &str, x: &Tensor) -> Tensor {
        let (x, (from, gain, to)) = (x.to_kind(Kind::Double), self.normalizer(which));
        (x - to) / gain + from
    }

    /// y = (x − first) × second + third.
    fn normalizer(&self, which: &str) -> (Tensor, Tensor, f64) {
        let part = |name: &str| self.get(&format!("norm.{which}.{name}")).shallow_clone();
        match self.tensors.contains_key(&format!("norm.{which}.min")) {
            true => (part("min"), 2.0 / (part("max") - part("min")), -1.0),
            false => (part("mean"), 1.0 / part("std"), 0.0),
        }
    }
}

/// A hyperparameter.
pub fn number(h: &Value, key: &str) -> f64 {
    (h[key].as_f64()).unwrap_or_else(|| panic!("hyperparameter `{key}`"))
}

/// A network's shape, by whichever names the file has for it.
pub fn denoiser_config(h: &Value) -> DenoiserConfig {
    let count = |key: &str| number(h, key) as i64;
    let first = |keys: [&str; 2]| keys.iter().find_map(|&key| h.get(key)).unwrap();
    let is = |key: &str| h.get(key).is_some_and(|value| value == true);
    DenoiserConfig {
        width: count("width"),
        depth: count("depth"),
        activation: match first(["activation", "act"]).as_str().unwrap() {
            "mish" => Activation::Mish,
            "relu" => Activation::Relu,
            "silu" => Activation::Silu,
            "gelu" => Activation::Gelu,
            other => panic!("{other}"),
        },
        layer_norm: first(["layer_norm", "ln"]).as_bool().unwrap(),
        time_features: match h.get("random_fourier_features") {
            None | Some(Value::Bool(true)) => TimeFeatures::RandomFourier,
            _ if is("learned_sinusoidal_cond") => TimeFeatures::LearnedFourier,
            _ => TimeFeatures::Sinusoidal,
        },
        time_fourier: count("fdim"),
        embedding: count("dim_t"),
        ..DenoiserConfig::default()
    }
}

/// Noise levels.
pub fn edm_config(h: &Value) -> EdmConfig {
    EdmConfig {
        sigma_min: number(h, "sigma_min"),
        sigma_max: number(h, "sigma_max"),
        sigma_data: number(h, "sigma_data"),
        rho: number(h, "rho"),
        p_mean: number(h, "P_mean"),
        p_std: number(h, "P_std"),
    }
}

/// Against a recorded tensor: in f64 every number within 1e-9 (1 + |value|), in f32 within 1e-5 of the tensor's
/// largest.
pub fn compare(what: &str, got: &Tensor, want: &Tensor, kind: Kind) -> Result<(), String> {
    let wanted = want.to_kind(Kind::Double);
    let allowed = match kind {
        Kind::Double => (wanted.abs() + 1.0) * 1e-9,
        _ => wanted.abs().max() * 1e-5,
    };
    within(what, got, &wanted, &allowed)
}

/// Each number within `allowed`.
pub fn within(what: &str, got: &Tensor, want: &Tensor, allowed: &Tensor) -> Result<(), String> {
    let (got, want) = (
        got.detach().to_kind(Kind::Double),
        want.to_kind(Kind::Double),
    );
    if got.size() != want.size() {
        let (got, want) = (got.size(), want.size());
        return Err(format!("{what}: shape {got:?}, recorded {want:?}"));
    }
    let off = (got - want).abs();
    // Written so that NaN is no agreement.
    match off.le_tensor(allowed).all().int64_value(&[]) {
        1 => Ok(()),
        _ => Err(format!(
            "{what} is off by {:.2e}",
            off.max().double_value(&[])
        )),
    }
}
