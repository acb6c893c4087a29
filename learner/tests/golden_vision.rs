//! Encoder and reward classifier against recorded numbers of HIL-SERL, driven by the files alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Golden, error};
use hilt_learner::{
    encoder::{Encoder, EncoderConfig},
    nn::layers::{by_channel, spatial_embeddings},
    reward::classifier::{Classifier, ClassifierConfig, Keep},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The file's own formula for a weight: a hash of its place.
fn weight(row: &Value) -> Tensor {
    let shape: Vec<i64> = row["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_i64().unwrap())
        .collect();
    let (seed, offset, amplitude) = (
        row["seed"].as_u64().unwrap() as u32,
        row["offset"].as_f64().unwrap(),
        row["amplitude"].as_f64().unwrap(),
    );
    let value = |i: i64| {
        let mut h = (i as u32 + 1).wrapping_mul(0x9E37_79B1).wrapping_add(seed);
        h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        h ^= h >> 16;
        let u = f64::from(h >> 8) / f64::from(1 << 24) * 2.0 - 1.0;
        f64::from((offset + amplitude * u) as f32)
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
    let first = row["first"].as_f64().unwrap();
    assert!(
        (values[0] - first).abs() < 1e-12,
        "the weight formula is misread"
    );
    Tensor::from_slice(&values).reshape(&shape)
}

fn resnet(kind: Kind, tolerance: f64) {
    let g = Golden::read("resnet10");
    let h = g.hyperparameters();
    let config = EncoderConfig {
        image_size: h["image_size"][0].as_i64().unwrap(),
        groups: h["groupnorm_groups"].as_i64().unwrap(),
        ..EncoderConfig::resnet10()
    };
    let encoder = Encoder::new(config, kind, Device::Cpu, 0);
    let table: Vec<Value> = serde_json::from_str(&g.metadata["weight_table"]).unwrap();
    let mut head = std::collections::BTreeMap::new();
    let mut loaded = 0;
    for row in &table {
        let name = row["name"].as_str().unwrap();
        match name.strip_prefix("resnet/") {
            Some(name) => {
                encoder.params().set(name, &weight(row));
                loaded += 1;
            }
            None => {
                head.insert(name, weight(row).to_kind(kind));
            }
        }
    }
    assert_eq!(loaded, encoder.params().names().len());
    let mut images = 0;
    for (case, image) in g.under("image.") {
        let check = |what: &str, got: &Tensor| {
            let e = error(got, g.get(&format!("expect.{case}.{what}")));
            assert!(
                e < tolerance,
                "{case}: {what} is off by {e:.2e} in {kind:?}"
            );
        };
        let maps = encoder.encode(image);
        check("frozen_map", &maps);
        let features = spatial_embeddings(
            &head["SpatialLearnedEmbeddings_0/kernel"],
            &by_channel(&maps),
        );
        check("sle", &features);
        let dense = features.linear(&head["Dense_0/kernel"], Some(&head["Dense_0/bias"]));
        check("dense", &dense);
        let (scale, bias) = (&head["LayerNorm_0/scale"], &head["LayerNorm_0/bias"]);
        check(
            "bottleneck",
            &dense
                .layer_norm(scale.size(), Some(scale), Some(bias), 1e-6, false)
                .tanh(),
        );
        images += 1;
    }
    assert!(images > 0);
}

#[test]
fn golden_resnet10() {
    resnet(Kind::Double, 1e-9);
    resnet(Kind::Float, 5e-5);
}

fn reward_classifier(kind: Kind, tolerance: f64) {
    let g = Golden::read("reward_classifier");
    let h = g.hyperparameters();
    let integer = |key: &str| h[key].as_i64().unwrap();
    let map: Vec<i64> = h["frozen_map"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_i64().unwrap())
        .collect();
    let keys: Vec<&str> = h["image_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k.as_str().unwrap())
        .collect();
    let config = ClassifierConfig {
        spatial_features: integer("sle_features"),
        bottleneck: integer("bottleneck_dim"),
        hidden: integer("hidden_dim"),
        dropout: h["dropout_rate"].as_f64().unwrap(),
        lr: h["lr"].as_f64().unwrap(),
    };
    let cameras = keys
        .iter()
        .map(|k| ((*k).to_owned(), map.clone().try_into().unwrap()))
        .collect();
    let mut classifier = Classifier::new(config, cameras, kind, Device::Cpu, 0);
    let mut loaded = 0;
    for (name, value) in g.under("init.") {
        classifier.params().set(name, value);
        loaded += 1;
    }
    assert_eq!(loaded, classifier.params().names().len());
    let mut step = 1;
    while g.tensors.contains_key(&format!("batch.{step}.labels")) {
        let get = |name: String| g.get(&name).to_kind(kind);
        let maps: Vec<Tensor> = keys
            .iter()
            .map(|k| get(format!("batch.{step}.observations.{k}")))
            .collect();
        let keep = |what: &str| get(format!("noise.{step}.train.dropout_keep.{what}"));
        let keep = Keep {
            cameras: keys.iter().map(|k| keep(k)).collect(),
            head: keep("head"),
        };
        let labels = get(format!("batch.{step}.labels"));
        let check = |what: &str, got: &Tensor| {
            let e = error(got, g.get(&format!("expect.{step}.{what}")));
            assert!(
                e < tolerance,
                "step {step}: {what} is off by {e:.2e} in {kind:?}"
            );
        };
        check("logits_eval_before_step", &classifier.logits(&maps, None));
        check("logits_train", &classifier.logits(&maps, Some(&keep)));
        let (loss, grads) = classifier.step(&maps, &labels, &keep);
        check("loss", &Tensor::from(loss));
        for (name, want) in g.under(&format!("expect.{step}.grad.")) {
            let (_, got) = grads.iter().find(|(n, _)| n == name).unwrap();
            let e = error(got, want);
            assert!(
                e < tolerance,
                "step {step}: gradient of {name} is off by {e:.2e}"
            );
        }
        for (name, want) in g.under(&format!("after{step}.")) {
            let e = error(classifier.params().get(name), want);
            assert!(e < tolerance, "after {step}: {name} is off by {e:.2e}");
        }
        step += 1;
    }
    assert!(step > 1);
}

#[test]
fn golden_reward_classifier() {
    reward_classifier(Kind::Double, 1e-9);
    reward_classifier(Kind::Float, 2e-5);
}

#[test]
fn golden_random_crop() {
    let g = Golden::read("random_crop");
    let padding = g.hyperparameters()["padding"].as_i64().unwrap();
    let images = g.get("image");
    let [b, t, h, w, c] = images.size()[..] else {
        panic!("images are [B, T, H, W, C]")
    };
    let got = hilt_learner::augment::shift(
        &images.reshape([b * t, h, w, c]),
        g.get("noise.offset_yx"),
        padding,
    );
    assert_eq!(got.reshape([b, t, h, w, c]), *g.get("expect.image"));
}
