//! The denoisers of PGR and SynthER against recorded passes and gradients of their references, driven by the files
//! alone: sizes, activation, norms, time features, whether there is a condition.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{
    Golden,
    generative::{compare, denoiser_config},
};
use hilt_learner::{
    generative::denoiser::{Architecture, Condition, Denoiser, DenoiserConfig},
    nn::Params,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// One case: the network of the file, with the recorded parameters.
struct Case {
    golden: Golden,
    denoiser: Denoiser,
    params: Params,
    kind: Kind,
}

impl Case {
    fn new(
        golden: Golden,
        kind: Kind,
        architecture: Architecture,
        config: impl Fn(&Value) -> DenoiserConfig,
    ) -> Self {
        // So small that threads would only wait for each other.
        tch::set_num_threads(1);
        let h = golden.hyper();
        // SynthER's takes a condition only where it was made to.
        let conditions = match golden.tensors.contains_key("batch.cond") {
            true => h["cond_dim"].as_i64().unwrap(),
            false => 0,
        };
        let config = DenoiserConfig {
            architecture,
            ..config(&h)
        };
        let denoiser = Denoiser::new(&config, h["D"].as_i64().unwrap(), conditions);
        let params = Params::new(&denoiser.specs(), kind, Device::Cpu);
        let recorded = golden.under("init.denoiser.");
        let loaded = recorded
            .map(|(name, value)| params.set(name, value))
            .count();
        assert_eq!(loaded, params.names().len());
        Self {
            golden,
            denoiser,
            params,
            kind,
        }
    }

    fn get(&self, name: &str) -> Tensor {
        self.golden.get(name).to_kind(self.kind)
    }

    /// The inputs, in the forms in which the file has outputs: by name, with values and mask of the condition.
    fn forms(&self) -> Vec<(&'static str, Option<Tensor>, Option<Tensor>)> {
        let cond = || Some(self.get("batch.cond"));
        let has = |name: &str| self.golden.tensors.contains_key(name);
        match has("expect.out") {
            true => vec![("out", has("batch.cond").then(cond).flatten(), None)],
            false => vec![
                ("uncond", None, None),
                ("masked", cond(), Some(self.get("noise.cond_mask"))),
                ("cond", cond(), None),
            ],
        }
    }

    /// Outputs against `expect`, in f64 gradients too; the first that is off is an error.
    fn check(&self) -> Result<(), String> {
        let double = self.kind == Kind::Double;
        let (x, t) = (self.get("batch.x"), self.get("batch.t"));
        for (form, values, kept) in self.forms() {
            let condition = values.as_ref().map(|values| Condition {
                values,
                kept: kept.as_ref(),
            });
            let pass = self.denoiser.forward(&self.params, &x, &t, condition);
            let want = if double { "expect" } else { "expect_f32" };
            let want = self.golden.get(&format!("{want}.{form}"));
            compare(form, &pass.out, want, self.kind)?;
            if double && ["out", "cond"].contains(&form) {
                let grad = self.get("batch.grad_out");
                let grads = self.denoiser.backward(&self.params, &pass, &grad);
                self.check_gradients(&grads)?;
            }
            if kept.is_none() {
                self.check_levels(&x, &t, values.as_ref(), &pass.out)?;
            }
        }
        Ok(())
    }

    /// Every parameter has the recorded gradient, and has none where none is recorded.
    fn check_gradients(&self, grads: &[Tensor]) -> Result<(), String> {
        let mut compared = 0;
        for (name, grad) in self.params.names().iter().zip(grads) {
            let key = format!("expect.grad.denoiser.{name}");
            match (self.golden.tensors.get(&key), grad.defined()) {
                (Some(want), true) => compare(name, grad, want, self.kind)?,
                (None, false) => assert!(!self.denoiser.learns(name)),
                (want, _) => return Err(format!("{name}: recorded {}", want.is_some())),
            }
            compared += i32::from(grad.defined());
        }
        let recorded = self.golden.under("expect.grad.denoiser.").count();
        assert_eq!(compared as usize, recorded);
        Ok(())
    }

    /// Sampling's way to the same outputs: row by row, each row's time being that of all.
    fn check_levels(
        &self,
        x: &Tensor,
        t: &Tensor,
        condition: Option<&Tensor>,
        out: &Tensor,
    ) -> Result<(), String> {
        let remembered = self.denoiser.remember(&self.params, condition);
        for row in 0..x.size()[0] {
            let time = t.narrow(0, row, 1);
            let all = (self.denoiser).at_level(&self.params, x, &time, &remembered, false);
            let (one, want) = (all.narrow(0, row, 1), out.narrow(0, row, 1));
            compare("at one level", &one, &want, self.kind)?;
        }
        Ok(())
    }
}

fn golden(stem: &str, architecture: Architecture) {
    for kind in [Kind::Double, Kind::Float] {
        let case = Case::new(Golden::read(stem), kind, architecture, denoiser_config);
        if let Err(difference) = case.check() {
            panic!("{stem}, {kind:?}: {difference}");
        }
    }
}

#[test]
fn golden_denoiser_pgr_rff_mish() {
    golden("denoiser_pgr_rff_mish", Architecture::Pgr);
}

#[test]
fn golden_denoiser_pgr_rff_relu_ln() {
    golden("denoiser_pgr_rff_relu_ln", Architecture::Pgr);
}

#[test]
fn golden_denoiser_pgr_learned_silu_ln() {
    golden("denoiser_pgr_learned_silu_ln", Architecture::Pgr);
}

#[test]
fn golden_denoiser_pgr_sinusoidal_gelu() {
    golden("denoiser_pgr_sinusoidal_gelu", Architecture::Pgr);
}

#[test]
fn golden_denoiser_synther_rff_mish() {
    golden("denoiser_synther_rff_mish", Architecture::Synther);
}

#[test]
fn golden_denoiser_synther_rff_mish_conditional() {
    golden(
        "denoiser_synther_rff_mish_conditional",
        Architecture::Synther,
    );
}

#[test]
fn golden_denoiser_synther_rff_relu_ln() {
    golden("denoiser_synther_rff_relu_ln", Architecture::Synther);
}

#[test]
fn golden_denoiser_synther_learned_silu_ln_conditional() {
    golden(
        "denoiser_synther_learned_silu_ln_conditional",
        Architecture::Synther,
    );
}

#[test]
fn golden_denoiser_synther_sinusoidal_gelu() {
    golden("denoiser_synther_sinusoidal_gelu", Architecture::Synther);
}

/// Another activation in the blocks would be noticed, in the files that are in the repository.
#[test]
fn another_activation_is_noticed() {
    use hilt_learner::generative::denoiser::Activation;
    for (stem, architecture) in [
        ("denoiser_pgr_rff_mish", Architecture::Pgr),
        ("denoiser_synther_sinusoidal_gelu", Architecture::Synther),
    ] {
        let wrong = |h: &Value| DenoiserConfig {
            activation: Activation::Silu,
            ..denoiser_config(h)
        };
        let golden = Golden::read_own(stem);
        let case = Case::new(golden, Kind::Double, architecture, wrong);
        assert!(case.check().is_err(), "{stem}");
    }
}
