//! The categorical gripper has no reference implementation to record, so its losses are worked out
//! a second time here, in plain loops over the parameters' numbers, and its gradients are compared
//! with central differences of those loops.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use hilt_learner::{
    agents::{
        sac_grasp::{GripperHead, Loss, Noise, SacGrasp, SacGraspConfig, Shapes, Update},
        sight::{Sight, SightTransitions},
    },
    nn::Params,
};
use hilt_protocol::noise::Uniforms;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const MAP: [i64; 3] = [2, 3, 4];
const CELLS: usize = 6;
const CHANNELS: usize = 4;
const ROWS: usize = 5;
const PROPRIO: usize = 3;

fn normals(seed: u64, n: usize) -> Vec<f64> {
    let mut stream = Uniforms::new(seed);
    (0..n).map(|_| stream.normal()).collect()
}

fn kept(seed: u64, n: usize) -> Vec<f64> {
    let mut stream = Uniforms::new(seed);
    (0..n)
        .map(|_| f64::from(u8::from(stream.open01() < 0.8)))
        .collect()
}

fn seed(loss: Loss, camera: &str) -> u64 {
    100 * (loss as u64 + 1) + camera.len() as u64
}

fn tensor(values: &[f64], shape: &[i64]) -> Tensor {
    Tensor::from_slice(values).view(shape)
}

/// Draws that agent and loops both know.
struct Known;

const SUBSAMPLE: [usize; 2] = [2, 0];

impl Noise for Known {
    fn normal(&mut self, loss: Loss, shape: &[i64]) -> Tensor {
        tensor(
            &normals(seed(loss, ""), shape.iter().product::<i64>() as usize),
            shape,
        )
    }

    fn keep(&mut self, loss: Loss, camera: &str, shape: &[i64]) -> Tensor {
        tensor(
            &kept(seed(loss, camera), shape.iter().product::<i64>() as usize),
            shape,
        )
    }

    fn subsample(&mut self, count: usize, of: usize) -> Vec<usize> {
        assert!(count == SUBSAMPLE.len() && of == 3);
        SUBSAMPLE.to_vec()
    }
}

/// Parameters as numbers, and the networks as loops over one row.
#[derive(Clone)]
struct Plain<'a> {
    values: BTreeMap<String, Vec<f64>>,
    config: &'a SacGraspConfig,
    cameras: Vec<String>,
}

impl<'a> Plain<'a> {
    fn of(params: &Params, agent: &'a SacGrasp) -> Self {
        let numbers = |n: &String| {
            Vec::<f64>::try_from(params.get(n).detach().reshape([-1]).contiguous()).unwrap()
        };
        let values = params.names().iter().map(|n| (n.clone(), numbers(n)));
        let cameras = agent.shapes().cameras.iter().map(|c| c.0.clone());
        Self {
            values: values.collect(),
            config: agent.config(),
            cameras: cameras.collect(),
        }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (
            &self.values[&format!("{name}.weight")],
            &self.values[&format!("{name}.bias")],
        );
        let dot = |o: usize| {
            (0..x.len())
                .map(|i| weight[o * x.len() + i] * x[i])
                .sum::<f64>()
        };
        assert_eq!(weight.len(), bias.len() * x.len());
        (0..bias.len()).map(|o| bias[o] + dot(o)).collect()
    }

    fn norm_tanh(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let (scale, shift) = (
            &self.values[&format!("{name}.weight")],
            &self.values[&format!("{name}.bias")],
        );
        (0..x.len())
            .map(|i| ((x[i] - mean) / (variance + 1e-6).sqrt() * scale[i] + shift[i]).tanh())
            .collect()
    }

    /// Camera embeddings of one row; `keep` holds each camera's mask.
    fn cameras(&self, maps: &[Vec<f64>], keep: Option<&[Vec<f64>]>) -> Vec<f64> {
        let features = self.config.spatial_features as usize;
        let mut all = Vec::new();
        for (k, camera) in self.cameras.iter().enumerate() {
            let kernel = &self.values[&format!("encoder.{camera}.sle.kernel_hwcf")];
            let mut embedded = Vec::new();
            for c in 0..CHANNELS {
                for f in 0..features {
                    let cell = |i: usize| {
                        maps[k][i * CHANNELS + c] * kernel[(i * CHANNELS + c) * features + f]
                    };
                    let sum: f64 = (0..CELLS).map(cell).sum();
                    let scale = keep.map_or(1.0, |keep| {
                        keep[k][c * features + f] / (1.0 - self.config.dropout)
                    });
                    embedded.push(sum * scale);
                }
            }
            let dense = self.linear(&format!("encoder.{camera}.dense"), &embedded);
            all.extend(self.norm_tanh(&format!("encoder.{camera}.norm"), &dense));
        }
        all
    }

    fn proprio(&self, x: &[f64]) -> Vec<f64> {
        self.norm_tanh(
            "encoder.proprio.norm",
            &self.linear("encoder.proprio.dense", x),
        )
    }

    fn mlp(&self, name: &str, x: &[f64]) -> Vec<f64> {
        (0..self.config.hidden.len()).fold(x.to_vec(), |x, i| {
            self.norm_tanh(
                &format!("{name}.{i}.norm"),
                &self.linear(&format!("{name}.{i}"), &x),
            )
        })
    }

    /// Motion and its log-probability, by the textbook's change of variables.
    fn act(&self, encoded: &[f64], normal: &[f64]) -> (Vec<f64>, f64) {
        let hidden = self.mlp("actor", encoded);
        let mean = self.linear("actor.mean", &hidden);
        let log_std = self.linear("actor.log_std", &hidden);
        let (mut motion, mut log_prob) = (Vec::new(), 0.0);
        for i in 0..mean.len() {
            let std = log_std[i].exp();
            assert!((self.config.std_min..self.config.std_max).contains(&std));
            let a = (mean[i] + std * normal[i]).tanh();
            log_prob += -0.5 * normal[i].powi(2) - (std * std::f64::consts::TAU.sqrt()).ln();
            log_prob -= (1.0 - a * a).ln();
            motion.push(a);
        }
        (motion, log_prob)
    }

    /// Per critic one value per choice.
    fn critics(&self, encoded: &[f64], motion: &[f64]) -> Vec<Vec<f64>> {
        let input = [encoded, motion].concat();
        (0..self.config.critics)
            .map(|j| {
                self.linear(
                    "critic.shared_out",
                    &self.mlp(&format!("critic{j}"), &input),
                )
            })
            .collect()
    }

    fn temperature(&self) -> f64 {
        self.values["temperature.raw"][0].exp().ln_1p()
    }
}

fn least(qs: &[Vec<f64>]) -> Vec<f64> {
    (0..qs[0].len())
        .map(|k| qs.iter().map(|q| q[k]).fold(f64::INFINITY, f64::min))
        .collect()
}

fn softmax(values: &[f64], entropy: f64) -> Vec<f64> {
    let sum: f64 = values.iter().map(|v| (v / entropy).exp()).sum();
    values.iter().map(|v| (v / entropy).exp() / sum).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The batch as numbers, row by row.
struct Rows {
    maps: [Vec<Vec<Vec<f64>>>; 2],
    proprio: [Vec<Vec<f64>>; 2],
    motion: Vec<Vec<f64>>,
    choices: Vec<usize>,
    rewards: Vec<f64>,
    masks: Vec<f64>,
    penalties: Vec<f64>,
    entropy: f64,
}

impl Rows {
    fn keep(&self, p: &Plain, loss: Loss, row: usize) -> Vec<Vec<f64>> {
        let n = CHANNELS * p.config.spatial_features as usize;
        let mask =
            |camera: &String| kept(seed(loss, camera), ROWS * n)[row * n..(row + 1) * n].to_vec();
        p.cameras.iter().map(mask).collect()
    }

    fn draw(&self, p: &Plain, loss: Loss, next: usize, row: usize) -> (Vec<f64>, f64) {
        let width = self.motion[0].len();
        let normal = &normals(seed(loss, ""), ROWS * width)[row * width..(row + 1) * width];
        let keep = self.keep(p, loss, row);
        let cameras = p.cameras(&self.maps[next][row], Some(&keep));
        p.act(
            &[cameras, p.proprio(&self.proprio[next][row])].concat(),
            normal,
        )
    }

    fn encoded(&self, p: &Plain, next: usize, row: usize) -> Vec<f64> {
        let cameras = p.cameras(&self.maps[next][row], None);
        [cameras, p.proprio(&self.proprio[next][row])].concat()
    }

    fn target(&self, online: &Plain, target: &Plain, row: usize) -> f64 {
        let c = online.config;
        let (motion, log_prob) = self.draw(online, Loss::Critic, 1, row);
        let mut qs = target.critics(&self.encoded(target, 1, row), &motion);
        if c.critic_subsample.is_some() {
            qs = SUBSAMPLE.iter().map(|&j| qs[j].clone()).collect();
        }
        let least = least(&qs);
        let value = dot(&softmax(&least, self.entropy), &least);
        let entropy = if c.backup_entropy {
            online.temperature() * log_prob
        } else {
            0.0
        };
        self.rewards[row]
            + c.reward_bias
            + self.penalties[row]
            + c.discount * self.masks[row] * value
            - entropy
    }

    fn critic_loss(&self, p: &Plain, y: &[f64]) -> f64 {
        let mut sum = 0.0;
        for (row, y) in y.iter().enumerate() {
            for q in p.critics(&self.encoded(p, 0, row), &self.motion[row]) {
                sum += (q[self.choices[row]] - y).powi(2);
            }
        }
        sum / (ROWS * p.config.critics) as f64
    }

    /// The gripper's probabilities at the actor's own draw.
    fn weights(&self, p: &Plain) -> Vec<Vec<f64>> {
        let of = |row| {
            let (motion, _) = self.draw(p, Loss::Actor, 0, row);
            softmax(
                &least(&p.critics(&self.encoded(p, 0, row), &motion)),
                self.entropy,
            )
        };
        (0..ROWS).map(of).collect()
    }

    /// The actor's loss with parameters `p` in the actor's pass and `fixed` in the critics'.
    fn actor_loss(&self, p: &Plain, fixed: &Plain, weights: &[Vec<f64>]) -> f64 {
        let mut sum = 0.0;
        for (row, weights) in weights.iter().enumerate() {
            let (motion, log_prob) = self.draw(p, Loss::Actor, 0, row);
            let qs = fixed.critics(&self.encoded(fixed, 0, row), &motion);
            let value: f64 = qs.iter().map(|q| dot(weights, q)).sum();
            sum += fixed.temperature() * log_prob - value / qs.len() as f64;
        }
        sum / ROWS as f64
    }

    fn temperature_loss(&self, p: &Plain, target_entropy: f64) -> f64 {
        let log_prob = |row| self.draw(p, Loss::Temperature, 1, row).1;
        let entropy = -(0..ROWS).map(log_prob).sum::<f64>() / ROWS as f64;
        p.temperature() * (entropy - target_entropy)
    }
}

/// Central differences of `loss` in every number of the parameter.
fn differences(base: &Plain, name: &str, loss: impl Fn(&Plain) -> f64) -> Vec<f64> {
    const H: f64 = 1e-5;
    let mut moved = base.clone();
    (0..base.values[name].len())
        .map(|i| {
            let mut at = |x: f64| {
                moved.values.get_mut(name).unwrap()[i] = x;
                loss(&moved)
            };
            let x = base.values[name][i];
            let slope = (at(x + H) - at(x - H)) / (2.0 * H);
            at(x);
            slope
        })
        .collect()
}

fn close(what: &str, got: f64, want: f64) {
    assert!(
        (got - want).abs() < 1e-11 * want.abs().max(1.0),
        "{what} is {got}, by hand {want}"
    );
}

fn rows_of(t: &Tensor) -> Vec<Vec<f64>> {
    (0..ROWS as i64)
        .map(|r| Vec::try_from(t.get(r).reshape([-1]).contiguous()).unwrap())
        .collect()
}

fn check(config: SacGraspConfig, motion_columns: &[i64], gripper_columns: &[i64]) {
    let GripperHead::Categorical { entropy } = config.gripper else {
        panic!("this is about the categorical gripper")
    };
    // Torch has one generator per process: the other test must not draw from it meanwhile.
    static TURN: Mutex<()> = Mutex::new(());
    let _alone = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    let shapes = Shapes {
        cameras: vec![("front".into(), MAP), ("left".into(), MAP)],
        proprio: PROPRIO as i64,
        motion_columns: motion_columns.to_vec(),
        gripper_columns: gripper_columns.to_vec(),
    };
    let mut agent = SacGrasp::new(config, shapes, F64.0, F64.1, 3);
    tch::manual_seed(5);
    // Fresh biases are zero and targets are copies; neither would show a mix-up.
    for params in [agent.params(), agent.target()] {
        let flat = params.flat().detach();
        params.set_flat(&(&flat + flat.randn_like() * 0.3));
    }
    // Within the clip of the standard deviation, whose slope is none, and far from where 1 − tanh²
    // loses its digits.
    for part in ["weight", "bias"] {
        let name = format!("actor.log_std.{part}");
        let log_std = agent.params().get(&name).detach() * 0.2;
        agent.params().set(&name, &log_std);
    }
    let maps = || -> Vec<Tensor> {
        let size = [ROWS as i64, MAP[0], MAP[1], MAP[2]];
        (0..2).map(|_| Tensor::randn(size, F64)).collect()
    };
    let action = agent.shapes().action();
    let actions = Tensor::rand([ROWS as i64, action], F64) * 2.0 - 1.0;
    for &c in gripper_columns {
        let digits = Tensor::randint(3, [ROWS as i64], F64) - 1.0;
        actions.select(1, c).copy_(&digits);
    }
    let sight = || Sight {
        maps: maps(),
        proprio: Tensor::randn([ROWS as i64, PROPRIO as i64], F64),
    };
    let batch = SightTransitions {
        observations: sight(),
        next_observations: sight(),
        rewards: Tensor::randn([ROWS as i64], F64),
        masks: Tensor::from_slice(&[1.0, 0.0, 1.0, 1.0, 0.0]),
        grasp_penalty: Tensor::from_slice(&[0.0, -0.3, -0.3, 0.0, 0.0]),
        actions,
        returns: None,
    };
    let (now, next) = (&batch.observations, &batch.next_observations);
    let numbers = |t: &Tensor| Vec::<f64>::try_from(t).unwrap();
    let by_row = |maps: &[Tensor]| {
        let cameras: Vec<_> = maps.iter().map(rows_of).collect();
        (0..ROWS)
            .map(|r| cameras.iter().map(|c| c[r].clone()).collect())
            .collect()
    };
    let actions = rows_of(&batch.actions);
    let pick = |row: &Vec<f64>, columns: &[i64]| -> Vec<f64> {
        columns.iter().map(|&c| row[c as usize]).collect()
    };
    let joint = |row: &Vec<f64>| {
        let digits = pick(row, gripper_columns);
        digits
            .iter()
            .fold(0, |joint, d| 3 * joint + (d + 1.0) as usize)
    };
    let rows = Rows {
        maps: [by_row(&now.maps), by_row(&next.maps)],
        proprio: [rows_of(&now.proprio), rows_of(&next.proprio)],
        motion: actions.iter().map(|a| pick(a, motion_columns)).collect(),
        choices: actions.iter().map(joint).collect(),
        rewards: numbers(&batch.rewards),
        masks: numbers(&batch.masks),
        penalties: numbers(&batch.grasp_penalty),
        entropy,
    };

    let (values, target_values) = {
        let online = Plain::of(agent.params(), &agent);
        (online.values, Plain::of(agent.target(), &agent).values)
    };
    let mut seen = None;
    let metrics = agent.update_with(&batch, Update::Full, &mut Known, |g| {
        let mut by_loss: BTreeMap<&str, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
        for (loss, named) in &g.of {
            for (name, tensor) in named {
                let flat = tensor.reshape([-1]).contiguous();
                let numbers = Vec::try_from(flat).unwrap();
                by_loss
                    .entry(loss)
                    .or_default()
                    .insert(name.clone(), numbers);
            }
        }
        seen = Some(by_loss);
    });
    let gradients = seen.unwrap();

    let mut online = Plain::of(agent.params(), &agent);
    let mut target = online.clone();
    (online.values, target.values) = (values, target_values);
    let y: Vec<f64> = (0..ROWS)
        .map(|r| rows.target(&online, &target, r))
        .collect();
    let weights = rows.weights(&online);
    close(
        "target",
        metrics.critic.target_qs.double_value(&[]),
        y.iter().sum::<f64>() / ROWS as f64,
    );
    close(
        "critic loss",
        metrics.critic.critic_loss.double_value(&[]),
        rows.critic_loss(&online, &y),
    );
    let actor = metrics.actor.unwrap();
    close(
        "actor loss",
        actor.actor_loss.double_value(&[]),
        rows.actor_loss(&online, &online, &weights),
    );
    let target_entropy = agent
        .config()
        .target_entropy
        .unwrap_or(-(motion_columns.len() as f64) / 2.0);
    close(
        "temperature loss",
        metrics.temperature_loss.unwrap().double_value(&[]),
        rows.temperature_loss(&online, target_entropy),
    );

    let critic = |p: &Plain| rows.critic_loss(p, &y);
    let actor = |p: &Plain| rows.actor_loss(p, &online, &weights);
    let temperature = |p: &Plain| rows.temperature_loss(p, target_entropy);
    type Named<'a> = (&'static str, &'a dyn Fn(&Plain) -> f64);
    let losses: [Named; 3] = [
        ("critic", &critic),
        ("actor", &actor),
        ("temperature", &temperature),
    ];
    for (loss, function) in losses {
        for (name, got) in &gradients[loss] {
            let want = differences(&online, name, function);
            let scale = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
            for (g, w) in got.iter().zip(&want) {
                assert!(
                    (g - w).abs() < 1e-6 * scale,
                    "gradient of {loss} for {name} is {g}, by differences {w}"
                );
            }
        }
    }
    // Nothing was left out: every parameter gets a gradient from the loss that should move it.
    for name in agent.params().names() {
        let loss = match name.split('.').next().unwrap() {
            "actor" => "actor",
            "temperature" => "temperature",
            _ => "critic",
        };
        assert!(
            gradients[loss][name].iter().any(|g| *g != 0.0),
            "{loss} does not move {name}"
        );
    }
    assert!(gradients["actor"].contains_key("encoder.proprio.dense.weight"));
}

fn small() -> SacGraspConfig {
    SacGraspConfig {
        gripper: GripperHead::Categorical { entropy: 0.4 },
        temperature_init: 0.2,
        hidden: vec![6, 5],
        spatial_features: 2,
        bottleneck: 4,
        proprio_latent: 3,
        ..SacGraspConfig::default()
    }
}

#[test]
fn one_gripper_is_what_the_hand_computes() {
    check(small(), &[0, 1], &[2]);
}

/// Gripper columns between motion columns, three critics of which two are drawn, entropy in the
/// backup, a reward bias.
#[test]
fn two_grippers_are_what_the_hand_computes() {
    let config = SacGraspConfig {
        critics: 3,
        critic_subsample: Some(2),
        backup_entropy: true,
        reward_bias: -0.1,
        target_entropy: Some(-1.5),
        ..small()
    };
    check(config, &[0, 2], &[1, 3]);
}
