//! The policies of the algorithms on vectors, whichever it is: on what a robot sees, and on state vectors.

use hilt_protocol::NamedTensor;

use super::{
    builder::{Builder, Value, Weights},
    proto::FLOAT,
    weight_set::{WeightSet, sight},
};
use crate::agents::{
    front::Sighted,
    gaussian::{self, LOG_STD},
    policy::{Head, Policy},
    tanh_gaussian,
};

/// The policy behind its front, as [`hilt_protocol::GraphName::Policy`] has it; all columns of an action are
/// motion to it, so that `noise` has as many. `tensors` are [`sighted_weights`].
pub fn sighted_policy_graph(
    sighted: &Sighted,
    tensors: &[NamedTensor],
    weights: Weights,
) -> Vec<u8> {
    let (front, policy) = (sighted.front(), sighted.agent().policy());
    let mut w = WeightSet::new(tensors, weights);
    let mut g = Builder::default();
    let features = sight(&mut g, &mut w, "front", front.cameras(), front.proprio());
    let shape = [Some(1), Some(policy.actions())];
    let noise = g.input("noise", FLOAT, &shape);
    let explore = g.input("explore", FLOAT, &[Some(1)]);
    let noise = g.op("Mul", &[&noise, &explore], &[]);
    let out = w.mlp(&mut g, policy.net().mlp(), &features);
    let action = action(&mut g, &mut w, &policy, &out, Some(&noise));
    g.finish("policy", &action, "action", &shape)
}

/// What acts behind a front: its parameters, then the policy's.
pub fn sighted_weights(sighted: &Sighted) -> Vec<NamedTensor> {
    let mut tensors = sighted.front().params().export(|_| true);
    tensors.extend(sighted.agent().policy().weights());
    tensors
}

/// The policy by itself, with its weights in it: `observation` f32 \[N, O\] → `action` f32 \[N, A\], the best it
/// knows. With `normaliser`, μ and divisors \[O\], the graph takes observations as they come from the task.
pub fn vector_policy_graph(policy: &Policy<'_>, normaliser: Option<(&[f32], &[f32])>) -> Vec<u8> {
    let tensors = policy.weights();
    let mut w = WeightSet::new(&tensors, Weights::Baked);
    let mut g = Builder::default();
    let columns = policy.net().mlp().sizes()[0];
    let mut x = g.input("observation", FLOAT, &[None, Some(columns)]);
    if let Some((mean, divisor)) = normaliser {
        let [mean, divisor] = [mean, divisor].map(|row| g.constant(&[columns], row));
        x = g.op("Sub", &[&x, &mean], &[]);
        x = g.op("Div", &[&x, &divisor], &[]);
    }
    let out = w.mlp(&mut g, policy.net().mlp(), &x);
    let action = action(&mut g, &mut w, policy, &out, None);
    let shape = [None, Some(policy.actions())];
    g.finish("policy", &action, "action", &shape)
}

/// [`Policy::act`] on the network's output: with `noise` \[N, A\], which is 0 where it is greedy.
fn action(
    g: &mut Builder,
    w: &mut WeightSet<'_>,
    policy: &Policy<'_>,
    out: &Value,
    noise: Option<&Value>,
) -> Value {
    let tanh = |g: &mut Builder, x: &Value| g.op("Tanh", &[x], &[]);
    match policy.head() {
        Head::Tanh { most, noise: std } => {
            let mut x = tanh(g, out);
            if let Some(noise) = noise {
                let std = number(g, std);
                let spread = g.op("Mul", &[noise, &std], &[]);
                x = g.op("Add", &[&x, &spread], &[]);
                x = clip(g, &x, (-1.0, 1.0));
            }
            let most = number(g, most);
            g.op("Mul", &[&x, &most], &[])
        }
        Head::TanhMean => {
            let mean = tanh(g, out);
            let x = around(g, w, mean, noise);
            clip(g, &x, (-1.0, 1.0))
        }
        Head::Mean { least, most } => {
            let x = around(g, w, out.clone(), noise);
            clip(g, &x, (least, most))
        }
        Head::TanhGaussian { scale } => {
            let columns = policy.actions();
            let part = |g: &mut Builder, from: i64, to: i64| {
                let [from, to, axis] = [from, to, 1].map(|n| g.integers(&[n]));
                g.op("Slice", &[out, &from, &to, &axis], &[])
            };
            let mut x = part(g, 0, columns);
            if let Some(noise) = noise {
                let mut log_std = part(g, columns, 2 * columns);
                if let Some((multiplier, offset)) = scale {
                    let [multiplier, offset] = [multiplier, offset].map(|name| w.get(g, name));
                    log_std = g.op("Mul", &[&log_std, &multiplier], &[]);
                    log_std = g.op("Add", &[&log_std, &offset], &[]);
                }
                x = drawn(g, &x, &log_std, tanh_gaussian::LOG_STD, noise);
            }
            tanh(g, &x)
        }
    }
}

/// The mean, or with noise a draw around it; log σ is a parameter.
fn around(g: &mut Builder, w: &mut WeightSet<'_>, mean: Value, noise: Option<&Value>) -> Value {
    match noise {
        Some(noise) => {
            let log_std = w.get(g, LOG_STD);
            drawn(g, &mean, &log_std, gaussian::LOG_STD_BOUNDS, noise)
        }
        None => mean,
    }
}

/// mean + σ · noise, log σ within its bounds.
fn drawn(
    g: &mut Builder,
    mean: &Value,
    log_std: &Value,
    bounds: (f64, f64),
    noise: &Value,
) -> Value {
    let log_std = clip(g, log_std, bounds);
    let std = g.op("Exp", &[&log_std], &[]);
    let spread = g.op("Mul", &[&std, noise], &[]);
    g.op("Add", &[mean, &spread], &[])
}

fn number(g: &mut Builder, value: f64) -> Value {
    g.constant(&[], &[value as f32])
}

fn clip(g: &mut Builder, x: &Value, (least, most): (f64, f64)) -> Value {
    let [least, most] = [least, most].map(|bound| number(g, bound));
    g.op("Clip", &[x, &least, &most], &[])
}
