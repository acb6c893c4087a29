//! What generative replay stands on beside its diffusion, against recorded numbers of PGR's and SynthER's code: the
//! normalisers. Driven by the files alone: sizes, hyperparameters, which variants there are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;

use common::Golden;
use hilt_learner::generative::normalizer::{Normalizer, Scheme};
use serde_json::Value;
use tch::{Kind, Tensor};

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
