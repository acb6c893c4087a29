//! `sac-grasp` against recorded updates of HIL-SERL's agents, driven by the files alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use common::{Golden, error};
use hilt_learner::agents::{
    sac_grasp::{
        Gradients, GripperHead, Loss, Metrics, Noise, SacGrasp, SacGraspConfig, Shapes, Update,
    },
    sight::{Sight, SightTransitions},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The recorded draws of one update.
struct Recorded<'a> {
    golden: &'a Golden,
    step: usize,
    kind: Kind,
}

fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::Critic => "critic",
        Loss::Actor => "actor",
        Loss::Temperature => "temperature",
    }
}

impl Noise for Recorded<'_> {
    fn normal(&mut self, loss: Loss, shape: &[i64]) -> Tensor {
        let t = self
            .golden
            .get(&format!("noise.{}.{}.normal", self.step, name(loss)));
        assert_eq!(t.size(), shape);
        t.to_kind(self.kind)
    }

    fn keep(&mut self, loss: Loss, camera: &str, shape: &[i64]) -> Tensor {
        let t = self.golden.get(&format!(
            "noise.{}.{}.dropout_keep.{camera}",
            self.step,
            name(loss)
        ));
        assert_eq!(t.size(), shape);
        t.to_kind(self.kind)
    }

    fn subsample(&mut self, count: usize, _: usize) -> Vec<usize> {
        let prefix = format!("noise.{}.critic.", self.step);
        let recorded = self
            .golden
            .under(&prefix)
            .find(|(n, _)| n.contains("subsample"));
        let t = recorded.expect("recorded critic indices").1;
        assert_eq!(t.numel(), count);
        (0..count)
            .map(|i| t.int64_value(&[i as i64]) as usize)
            .collect()
    }
}

fn config(h: &Value) -> (SacGraspConfig, Shapes) {
    let number = |key: &str| {
        h[key]
            .as_f64()
            .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
    };
    let integer = |key: &str| {
        h[key]
            .as_i64()
            .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
    };
    let list = |key: &str| {
        h[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let choices = integer("n_grasp");
    let gripper = if choices == 0 {
        GripperHead::Fixed
    } else {
        GripperHead::GraspCritic
    };
    let config = SacGraspConfig {
        gripper,
        discount: number("discount"),
        target_update_rate: number("soft_target_update_rate"),
        lr: number("lr"),
        critics: integer("critic_ensemble_size") as usize,
        critic_subsample: h["critic_subsample_size"].as_u64().map(|n| n as usize),
        backup_entropy: h["backup_entropy"].as_bool().unwrap(),
        temperature_init: number("temperature_init"),
        target_entropy: h["target_entropy_given"].as_f64(),
        reward_bias: number("reward_bias"),
        hidden: list("hidden"),
        spatial_features: integer("sle_features"),
        bottleneck: integer("bottleneck_dim"),
        proprio_latent: integer("proprio_latent_dim"),
        dropout: number("dropout_rate"),
        std_min: number("std_min"),
        std_max: number("std_max"),
    };
    let map: [i64; 3] = list("frozen_map").try_into().unwrap();
    let keys = h["image_keys"].as_array().unwrap();
    let gripper_columns: Vec<i64> = match choices {
        0 => vec![],
        3 => vec![integer("act_dim") - 1],
        9 => vec![integer("act_dim") / 2 - 1, integer("act_dim") - 1],
        n => panic!("{n} grasp outputs"),
    };
    let shapes = Shapes {
        cameras: keys
            .iter()
            .map(|k| (k.as_str().unwrap().to_owned(), map))
            .collect(),
        proprio: integer("obs_state_dim"),
        motion_columns: (0..integer("act_dim"))
            .filter(|c| !gripper_columns.contains(c))
            .collect(),
        gripper_columns,
    };
    (config, shapes)
}

fn batch(g: &Golden, step: usize, shapes: &Shapes, kind: Kind) -> SightTransitions {
    let get = |what: &str| g.get(&format!("batch.{step}.{what}")).to_kind(kind);
    let maps = |side: &str| {
        shapes
            .cameras
            .iter()
            .map(|(c, _)| get(&format!("{side}.{c}")))
            .collect()
    };
    let rewards = get("rewards");
    let grasp_penalty = match shapes.gripper_columns.len() {
        0 => rewards.zeros_like(),
        _ => get("grasp_penalty"),
    };
    let sight = |side: &str| Sight {
        maps: maps(side),
        proprio: get(&format!("{side}.state")),
    };
    SightTransitions {
        observations: sight("observations"),
        next_observations: sight("next_observations"),
        actions: get("actions"),
        masks: get("masks"),
        rewards,
        grasp_penalty,
        returns: None,
    }
}

fn figures(m: &Metrics) -> BTreeMap<&'static str, f64> {
    let mut all = vec![
        ("critic.critic_loss", &m.critic.critic_loss),
        ("critic.predicted_qs", &m.critic.predicted_qs),
        ("critic.target_qs", &m.critic.target_qs),
        ("critic.rewards", &m.critic.rewards),
    ];
    if let Some(g) = &m.grasp {
        all.extend([
            ("grasp_critic.grasp_critic_loss", &g.grasp_critic_loss),
            ("grasp_critic.predicted_grasp_qs", &g.predicted_grasp_qs),
            ("grasp_critic.target_grasp_qs", &g.target_grasp_qs),
            ("grasp_critic.grasp_rewards", &g.grasp_rewards),
        ]);
    }
    if let Some(a) = &m.actor {
        all.extend([
            ("actor.actor_loss", &a.actor_loss),
            ("actor.entropy", &a.entropy),
            ("actor.temperature", &a.temperature),
        ]);
    }
    if let Some(loss) = &m.temperature_loss {
        all.push(("temperature.temperature_loss", loss));
    }
    let value = |figure: &Tensor| figure.double_value(&[]);
    all.into_iter()
        .map(|(name, figure)| (name, value(figure)))
        .collect()
}

/// Every recorded gradient is met, and what the reference leaves at zero we leave at zero.
fn check_gradients(g: &Golden, step: usize, gradients: &Gradients, tolerance: f64) {
    for (loss, ours) in &gradients.of {
        let prefix = format!("expect.{step}.grad_of_{loss}.");
        let theirs: BTreeMap<&str, &Tensor> = g.under(&prefix).collect();
        if theirs.is_empty() {
            continue;
        }
        for (name, want) in &theirs {
            let got = ours.iter().find(|(n, _)| n == name);
            let got = &got
                .unwrap_or_else(|| panic!("no gradient of {loss} for {name}"))
                .1;
            let e = error(got, want);
            assert!(
                e < tolerance,
                "step {step}: gradient of {loss} for {name} is off by {e:.2e}"
            );
        }
        for (name, got) in ours
            .iter()
            .filter(|(n, _)| !theirs.contains_key(n.as_str()))
        {
            let largest = got.abs().max().double_value(&[]);
            assert!(
                largest == 0.0,
                "step {step}: {loss} must not move {name}, gradient {largest:.2e}"
            );
        }
    }
}

fn golden(stem: &str, kind: Kind, tolerance: f64, parameter_tolerance: f64) {
    let g = Golden::read(stem);
    let h = g.hyperparameters();
    let (config, shapes) = config(&h);
    let mut agent = SacGrasp::new(config, shapes.clone(), kind, Device::Cpu, 0);
    let mut loaded = 0;
    for (name, value) in g.under("init.") {
        match name.strip_prefix("target.") {
            Some(name) => agent.set(true, name, value),
            None => agent.set(false, name, value),
        }
        loaded += 1;
    }
    assert_eq!(
        loaded,
        agent.params().names().len() + agent.target().names().len()
    );
    let steps = h["networks_to_update_per_step"].as_array().unwrap();
    for (i, networks) in steps.iter().enumerate() {
        let step = i + 1;
        let actor = networks.as_array().unwrap().iter().any(|n| n == "actor");
        let update = if actor {
            Update::Full
        } else {
            Update::CriticOnly
        };
        let mut noise = Recorded {
            golden: &g,
            step,
            kind,
        };
        let metrics = agent.update_with(
            &batch(&g, step, &shapes, kind),
            update,
            &mut noise,
            |gradients| {
                check_gradients(&g, step, gradients, tolerance);
            },
        );
        let mut met = 0;
        for (name, got) in figures(&metrics) {
            let want = g.get(&format!("expect.{step}.{name}")).double_value(&[]);
            let e = (got - want).abs() / want.abs().max(1e-3);
            assert!(
                e < tolerance,
                "step {step}: {name} is {got}, the reference has {want}"
            );
            met += 1;
        }
        assert!(met >= 4);
        for (name, want) in g.under(&format!("after{step}.")) {
            let got = match name.strip_prefix("target.") {
                Some(name) => agent.target().get(name),
                None => agent.params().get(name),
            };
            let e = error(got, want);
            assert!(
                e < parameter_tolerance,
                "after {step}: {name} is off by {e:.2e}"
            );
        }
    }
}

#[test]
fn golden_serl_sac() {
    golden("serl_sac", Kind::Double, 1e-9, 1e-9);
    golden("serl_sac", Kind::Float, 2e-5, 2e-5);
}

#[test]
fn golden_serl_hybrid_single() {
    golden("serl_hybrid_single", Kind::Double, 1e-9, 1e-9);
    golden("serl_hybrid_single", Kind::Float, 2e-5, 2e-5);
}

#[test]
fn golden_serl_hybrid_dual() {
    golden("serl_hybrid_dual", Kind::Double, 1e-9, 1e-9);
    golden("serl_hybrid_dual", Kind::Float, 2e-5, 2e-5);
}
