//! What generative replay stands on beside its diffusion, against recorded numbers of PGR's and SynthER's code: the
//! normalisers, the curiosity model, the conditions. Driven by the files alone: sizes, hyperparameters, which variants there are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;

use common::Golden;
use hilt_learner::{
    agents::{Draws, Transitions},
    generative::{
        curiosity::{Curiosity, CuriosityConfig},
        normalizer::{Normalizer, Scheme},
        relevance::{Conditions, Judge},
    },
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The files are f64 and promise so much, relative to 1 + the value.
const EXACT: f64 = 1e-9;

fn hyper(golden: &Golden) -> Value {
    serde_json::from_str(&golden.metadata["hyper"]).unwrap()
}

fn number(h: &Value, key: &str) -> f64 {
    h[key]
        .as_f64()
        .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
}

#[track_caller]
fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), want.size(), "{what}");
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    let off = (&got - &want).abs() / (want.abs() + 1.0);
    let most = off.max().double_value(&[]);
    // Written so that NaN is no agreement.
    assert!(most <= tolerance, "{what} is off by {most:.2e}");
}

/// A variant is what its recorded statistics say: smallest and largest values, or means and deviations, which are 0
/// and 1 in columns that were skipped. What standard deviation it aims at follows from one normalised number.
fn scheme(golden: &Golden, variant: &str, skip: &[i64]) -> (Scheme, Vec<i64>) {
    let get = |what: &str| golden.tensors.get(&format!("expect.{variant}.{what}"));
    let Some(mean) = get("mean") else {
        return (Scheme::MinMax, vec![]);
    };
    let std = get("std").unwrap();
    let skipped =
        |&&column: &&i64| mean.double_value(&[column]) == 0.0 && std.double_value(&[column]) == 1.0;
    let skip = Vec::from_iter(skip.iter().filter(skipped).copied());
    let column = (0..mean.size()[0])
        .find(|column| !skip.contains(column) && std.double_value(&[*column]) > 1e-2)
        .unwrap();
    let at = |tensor: &Tensor| tensor.double_value(&[0, column]);
    let probe = at(golden.get("in.probe")) - mean.double_value(&[column]);
    let target = at(get("normalize").unwrap()) * std.double_value(&[column]) / probe;
    let known = [1.0, number(&hyper(golden), "target_std")];
    let target = known.into_iter().find(|t| (t - target).abs() < 1e-6);
    (Scheme::Standard(target.unwrap()), skip)
}

#[test]
fn golden_edm_normalizer() {
    let golden = Golden::read("edm_normalizer");
    let h = hyper(&golden);
    let integers = |key: &str| h[key].as_array().unwrap().iter();
    let skip = Vec::from_iter(integers("skip_dims").map(|d| d.as_i64().unwrap()));
    let (rows, probe) = (golden.get("in.dataset"), golden.get("in.probe"));
    let normalized = golden.get("in.normalized");
    let constant = h["constant_column"].as_i64().unwrap();
    let eps = number(&h, "eps");
    let variants: BTreeSet<&str> = (golden.under("expect."))
        .map(|(name, _)| name.split_once('.').unwrap().0)
        .collect();
    assert!(variants.len() >= 2, "{variants:?}");
    for variant in variants {
        let (scheme, skip) = scheme(&golden, variant, &skip);
        let want = |what: &str| golden.get(&format!("expect.{variant}.{what}"));
        let ours = Normalizer::fit(scheme, rows, &skip).unwrap();
        let what = |part: &str| format!("{variant} {part}");
        close(
            &what("normalize"),
            &ours.normalize(probe),
            want("normalize"),
            EXACT,
        );
        let parts = [
            ("unnormalize", normalized.shallow_clone()),
            ("clamp_unnormalize", normalized.clamp(-1.0, 1.0)),
        ];
        for (part, normalized) in parts {
            let got = ours.unnormalize(&normalized);
            // A column of one number comes back as that number; the recorded one is off it by ε times what the
            // model said.
            let (own, recorded) = (got.select(1, constant), want(part).select(1, constant));
            assert_eq!(
                own,
                rows.select(1, constant).get(0).expand_as(&own),
                "{variant}"
            );
            let allowed = eps * 4.0 * (normalized.abs().max().double_value(&[]) + 1.0);
            let off = (&recorded - &own).abs().max().double_value(&[]);
            assert!(off < allowed, "{variant} {part} {off:e}");
            got.select(1, constant).copy_(&recorded);
            close(&what(part), &got, want(part), EXACT);
        }
        let state = ours.state("n");
        let of = |part: &str| &state.iter().find(|(n, _)| n == part).unwrap().1;
        let (from, gain) = (of("n.from"), of("n.gain"));
        match scheme {
            Scheme::MinMax => {
                close(&what("min"), from, want("min"), EXACT);
                close(&what("max"), &(from + 2.0 / gain), want("max"), EXACT);
            }
            Scheme::Standard(target) => {
                // A skipped column is not brought to anything.
                let target = Tensor::full_like(gain, target);
                for &column in &skip {
                    let _ = target.get(column).fill_(1.0);
                }
                close(&what("mean"), from, want("mean"), EXACT);
                close(&what("std"), &(target / gain), want("std"), EXACT);
            }
        }
    }
}

/// What BatchNorm remembers lies under these names there and here.
const REMEMBERED: [(&str, &str); 2] = [
    ("running_mean", "running_mean"),
    ("running_var", "running_variance"),
];

/// A curiosity model as the file has it at first.
fn recorded(golden: &Golden, kind: Kind) -> Curiosity {
    let h = hyper(golden);
    let integer = |key: &str| h[key].as_i64().unwrap();
    let config = CuriosityConfig {
        hidden: integer("hid"),
        rounds: h["resnet_time"]
            .as_i64()
            .unwrap_or(CuriosityConfig::default().rounds),
        lr: number(&h, "lr"),
    };
    let mut curiosity = Curiosity::new(&config, integer("S"), integer("A"), (kind, Device::Cpu));
    let mut loaded = BTreeSet::new();
    for name in curiosity.params().names() {
        let value = golden.get(&format!("init.icm.{name}"));
        curiosity.params().set(name, value);
        loaded.insert(name.clone());
    }
    let mut state = curiosity.state();
    for (there, here) in REMEMBERED {
        for (name, value) in golden.under("init.icm.") {
            if let Some(norm) = name.strip_suffix(there) {
                let own = format!("curiosity.{norm}{here}");
                let place = state.iter().position(|(n, _)| *n == own).unwrap();
                state[place].1 = value.to_kind(kind);
                loaded.insert(name.to_owned());
            }
        }
    }
    for (name, _) in golden.under("init.icm.") {
        let counts = name.ends_with("num_batches_tracked");
        assert!(counts || loaded.contains(name), "`{name}` was left out");
    }
    curiosity.restore(&state);
    curiosity
}

fn transitions(observations: &Tensor, actions: &Tensor, next_observations: &Tensor) -> Transitions {
    let rows = actions.size()[0];
    let options = (actions.kind(), actions.device());
    Transitions {
        observations: observations.shallow_clone(),
        actions: actions.shallow_clone(),
        rewards: Tensor::zeros([rows], options),
        next_observations: next_observations.shallow_clone(),
        masks: Tensor::ones([rows], options),
        returns: None,
    }
}

#[test]
fn golden_icm() {
    let golden = Golden::read("icm");
    let mut curiosity = recorded(&golden, Kind::Double);
    let get = |name: &str| golden.get(name);
    let batch = transitions(
        get("batch.state"),
        get("batch.action"),
        get("batch.next_state"),
    );
    let relevance = |curiosity: &Curiosity| curiosity.relevance(&batch).unsqueeze(1);
    close(
        "relevance",
        &relevance(&curiosity),
        get("expect.relevance"),
        EXACT,
    );
    close(
        "told actions",
        &curiosity.actions(&batch),
        get("expect.eval.pred_action"),
        EXACT,
    );
    let figures = curiosity.step(&batch);
    let figure = |name: &str| {
        let (_, value) = figures.0.iter().find(|(n, _)| *n == name).unwrap();
        value.shallow_clone()
    };
    let (forward, inverse) = (
        figure("curiosity_forward_loss"),
        figure("curiosity_inverse_loss"),
    );
    close("forward", &forward, get("expect.train.forward_loss"), EXACT);
    close("inverse", &inverse, get("expect.train.inverse_loss"), EXACT);
    close(
        "loss",
        &(forward + inverse),
        get("expect.train.loss"),
        EXACT,
    );
    let state = curiosity.state();
    let kept = |name: &str| {
        let wanted = format!("curiosity.{name}");
        &state.iter().find(|(n, _)| *n == wanted).unwrap().1
    };
    // The first moment after one step is the gradient times 1 − β₁.
    let beta1 = hyper(&golden)["adam"]["betas"][0].as_f64().unwrap();
    let gradients = kept("m") / (1.0 - beta1);
    let params = curiosity.params();
    for name in params.names() {
        let (start, length) = params.range(params.select(|n| n == name)[0]);
        let gradient = gradients.narrow(0, start, length);
        let want = get(&format!("expect.grad.icm.{name}"));
        close(
            &format!("gradient of {name}"),
            &gradient.view_as(want),
            want,
            EXACT,
        );
        let want = get(&format!("expect.after_step.icm.{name}"));
        close(name, params.get(name), want, EXACT);
    }
    let mut remembered = 0;
    for (there, here) in REMEMBERED {
        for (name, want) in golden.under("expect.after_step.icm.") {
            if let Some(norm) = name.strip_suffix(there) {
                close(name, kept(&format!("{norm}{here}")), want, EXACT);
                remembered += 1;
            }
        }
    }
    assert_eq!(remembered, 4);
    close(
        "relevance after the step",
        &relevance(&curiosity),
        get("expect.after_step.relevance"),
        EXACT,
    );
}

/// Recorded positions in the top fraction, as the uniform numbers that lead there.
struct Positions {
    positions: Tensor,
    of: i64,
}

impl Draws for Positions {
    fn normal(&mut self, name: &'static str, _: &[i64]) -> Tensor {
        panic!("no normal draws are recorded, {name} was asked for")
    }

    fn uniform(&mut self, _: &'static str, shape: &[i64]) -> Tensor {
        assert_eq!(self.positions.size(), shape);
        (self.positions.to_kind(Kind::Double) + 0.5) * (2.0 / self.of as f64) - 1.0
    }

    fn members(&mut self, name: &'static str, _: i64, _: i64) -> Tensor {
        panic!("no members are recorded, {name} was asked for")
    }
}

/// The file is f32, and so is what it is compared with.
#[test]
fn golden_icm_conditioning() {
    const F32: f64 = 1e-5;
    let golden = Golden::read("icm_conditioning");
    let curiosity = recorded(&golden, Kind::Float);
    let h = hyper(&golden);
    let get = |name: &str| golden.get(name);
    let batch = transitions(get("batch.obs"), get("batch.action"), get("batch.next_obs"));
    let scores = Judge::Curiosity(&curiosity).scores(&batch).unwrap();
    let size = h["size"].as_i64().unwrap();
    let filled = get("expect.scores_buffer").narrow(0, 0, size);
    close("scores", &scores, &filled, F32);
    // From the recorded scores on: they lie so near to each other that the last digits decide.
    let conditions = Conditions::fit(&filled, number(&h, "top_frac")).unwrap();
    let order = get("expect.top_frac_indices_argsort_order");
    assert_eq!(conditions.top(), order);
    assert_eq!(order.size(), [h["n_top"].as_i64().unwrap()]);
    let sorted = get("expect_corrected.top_frac_indices_sorted");
    assert_eq!(&conditions.top().sort(0, false).0, sorted);
    let [least, most] = ["min", "max"].map(|end| get(&format!("expect_corrected.cond_norm.{end}")));
    // Scores near to each other leave few digits of f32 to their differences.
    let spread = (most - least).double_value(&[0]);
    let exact = F32 + 4.0 * f64::from(f32::EPSILON) * most.double_value(&[0]).abs() / spread;
    let want = get("expect_corrected.normalized_top").squeeze_dim(1);
    let of_sorted = conditions.of_rows().index_select(0, sorted);
    close("normalised", &of_sorted, &want, exact);
    // So far as normalising by them goes.
    for (what, at, value) in [("least", least, -1.0), ("most", most, 1.0)] {
        let value = Tensor::full([1], value, (Kind::Float, Device::Cpu));
        close(what, &conditions.normalize(at), &value, exact);
    }
    let positions = get("noise.draw_positions").shallow_clone();
    let of = order.size()[0];
    let rows = order.index_select(0, &positions);
    let drawn = conditions.draw(positions.size()[0], &mut Positions { positions, of });
    let recorded = get("expect.sample_cond").squeeze_dim(1);
    close(
        "drawn scores",
        &filled.index_select(0, &rows),
        &recorded,
        0.0,
    );
    close("drawn", &drawn, &conditions.normalize(&recorded), 0.0);
}
