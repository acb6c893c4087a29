//! TD3+BC, IQL and AWAC against recorded updates of CORL's classes, driven by the files alone: sizes, layers,
//! hyperparameters, noise and the number of updates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Golden;
use hilt_learner::{
    agents::{
        Agent, Draws, Transitions,
        awac::{Awac, AwacConfig},
        iql::{self, Iql, IqlConfig},
        net::Net,
        td3_bc::{Td3Bc, Td3BcConfig},
    },
    nn::Params,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The recorded draws of one update.
struct Recorded<'a> {
    golden: &'a Golden,
    step: u64,
    kind: Kind,
}

impl Draws for Recorded<'_> {
    fn normal(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        let noise = self.golden.get(&format!("noise.{}.{name}", self.step));
        assert_eq!(noise.size(), shape);
        noise.to_kind(self.kind)
    }

    fn uniform(&mut self, name: &'static str, _: &[i64]) -> Tensor {
        panic!("no uniform draws are recorded, {name} was asked for")
    }

    fn members(&mut self, name: &'static str, _: i64, _: i64) -> Tensor {
        panic!("no members are recorded, {name} was asked for")
    }
}

fn number(h: &Value, key: &str) -> f64 {
    h[key]
        .as_f64()
        .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
}

fn hidden(h: &Value) -> Vec<i64> {
    let widths = h["hidden"].as_array().unwrap();
    widths.iter().map(|width| width.as_i64().unwrap()).collect()
}

/// An agent whose networks can be looked at.
trait Subject: Agent {
    fn net(&self, name: &str) -> &Net;
    fn nets(&self) -> &'static [&'static str];
}

impl Subject for Td3Bc {
    fn net(&self, name: &str) -> &Net {
        match name {
            "actor" => self.actor(),
            "critics" => self.critics(),
            _ => panic!("{name}"),
        }
    }

    fn nets(&self) -> &'static [&'static str] {
        &["actor", "critics"]
    }
}

impl Subject for Iql {
    fn net(&self, name: &str) -> &Net {
        match name {
            "actor" => self.actor(),
            "critics" => self.critics(),
            "v" => self.v(),
            _ => panic!("{name}"),
        }
    }

    fn nets(&self) -> &'static [&'static str] {
        &["actor", "critics", "v"]
    }
}

impl Subject for Awac {
    fn net(&self, name: &str) -> &Net {
        match name {
            "actor" => self.actor(),
            "critics" => self.critics(),
            _ => panic!("{name}"),
        }
    }

    fn nets(&self) -> &'static [&'static str] {
        &["actor", "critics"]
    }
}

fn td3_bc(h: &Value) -> Td3BcConfig {
    Td3BcConfig {
        discount: number(h, "discount"),
        tau: number(h, "tau"),
        policy_noise: number(h, "policy_noise_used"),
        noise_clip: number(h, "noise_clip_used"),
        policy_freq: h["policy_freq"].as_u64().unwrap(),
        alpha: number(h, "alpha"),
        lr_actor: number(h, "lr_actor"),
        lr_critic: number(h, "lr_critic"),
        hidden: hidden(h),
        max_action: number(h, "max_action"),
        ..Td3BcConfig::default()
    }
}

fn iql(h: &Value) -> IqlConfig {
    IqlConfig {
        discount: number(h, "discount"),
        tau: number(h, "tau"),
        expectile: number(h, "iql_tau"),
        beta: number(h, "beta"),
        max_weight: number(h, "exp_adv_max"),
        deterministic: h["deterministic"].as_bool().unwrap(),
        lr_actor: number(h, "lr_actor"),
        actor_updates: h["max_steps"].as_u64(),
        lr_q: number(h, "lr_q"),
        lr_v: number(h, "lr_v"),
        hidden: hidden(h),
        ..IqlConfig::default()
    }
}

fn awac(h: &Value) -> AwacConfig {
    AwacConfig {
        discount: number(h, "discount"),
        tau: number(h, "tau"),
        lambda: number(h, "awac_lambda"),
        max_weight: number(h, "exp_adv_max"),
        lr: number(h, "lr"),
        hidden: hidden(h),
        min_action: number(h, "min_action"),
        max_action: number(h, "max_action"),
    }
}

/// Where a tensor of the file is among ours: the network, whether its target, the parameter's name, and which
/// member of an ensemble.
fn place(name: &str) -> (&str, bool, String, Option<i64>) {
    let (name, target) = match name.strip_prefix("target_") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (net, rest) = name.split_once('.').unwrap();
    match net {
        "critic1" | "q1" => ("critics", target, format!("critics.{rest}"), Some(0)),
        "critic2" | "q2" => ("critics", target, format!("critics.{rest}"), Some(1)),
        _ => (net, target, name.to_owned(), None),
    }
}

fn part(whole: &Tensor, member: Option<i64>) -> Tensor {
    match member {
        Some(member) => whole.detach().get(member),
        None => whole.detach(),
    }
}

fn parameter(agent: &dyn Subject, name: &str) -> Tensor {
    let (net, target, own, member) = place(name);
    let net = agent.net(net);
    let params: &Params = if target { net.target() } else { net.params() };
    part(params.get(&own), member)
}

/// First moments of every optimizer: they tell what gradient a step was made with.
fn moments(agent: &dyn Subject) -> BTreeMap<String, Tensor> {
    let first =
        |(name, tensor): (String, Tensor)| Some((name.strip_suffix(".m")?.to_owned(), tensor));
    agent.state().into_iter().filter_map(first).collect()
}

/// The gradient that a parameter's last step was made with: m ← β₁ m + (1 − β₁) g, solved for g.
fn gradient(
    agent: &dyn Subject,
    before: &BTreeMap<String, Tensor>,
    after: &BTreeMap<String, Tensor>,
    name: &str,
) -> Tensor {
    let (net, _, own, member) = place(name);
    let whole = (&after[net] - &before[net] * 0.9) / (1.0 - 0.9);
    let params = agent.net(net).params();
    let (start, length) = params.range(params.select(|n| n == own)[0]);
    part(
        &whole.narrow(0, start, length).view_as(params.get(&own)),
        member,
    )
}

/// How exact it must be: of the tensor's largest entry (what cancels in a sum was as large), and at least.
#[derive(Clone, Copy)]
struct Exact {
    rtol: f64,
    atol: f64,
}

fn compare(what: &str, got: &Tensor, want: &Tensor, exact: Exact) -> Result<(), String> {
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    if got.size() != want.size() {
        return Err(format!(
            "{what}: shape {:?}, recorded {:?}",
            got.size(),
            want.size()
        ));
    }
    let largest = want.abs().max().double_value(&[]);
    let most = (&got - &want).abs().max().double_value(&[]);
    // Written so that NaN is no agreement.
    match most <= exact.atol + exact.rtol * largest {
        true => Ok(()),
        false => Err(format!(
            "{what} is off by {most:.2e}, its largest entry is {largest:.2e}"
        )),
    }
}

fn load(agent: &dyn Subject, golden: &Golden) {
    let (mut loaded, mut there) = (BTreeSet::new(), BTreeSet::new());
    for (name, value) in golden.under("init.") {
        parameter(agent, name).copy_(value);
        let (net, target, own, member) = place(name);
        loaded.insert((net.to_owned(), target, own, member));
    }
    for &name in agent.nets() {
        let net = agent.net(name);
        let state = net.state(name);
        let has_target = state.iter().any(|(n, _)| n.ends_with(".target"));
        for target in [false, true].into_iter().take(1 + usize::from(has_target)) {
            for own in net.params().names() {
                let members: &[Option<i64>] = if name == "critics" {
                    &[Some(0), Some(1)]
                } else {
                    &[None]
                };
                for &member in members {
                    there.insert((name.to_owned(), target, own.clone(), member));
                }
            }
        }
    }
    assert_eq!(loaded, there);
}

/// Goes through a case's updates; the first thing that is not as recorded is an error.
fn follow(
    golden: &Golden,
    agent: &mut dyn Subject,
    kind: Kind,
    exact: Exact,
) -> Result<(), String> {
    let adam = &golden.hyperparameters()["adam"];
    assert_eq!(adam["betas"], serde_json::json!([0.9, 0.999]));
    assert_eq!(
        (&adam["eps"], &adam["weight_decay"]),
        (&1e-8.into(), &0.0.into())
    );
    load(agent, golden);
    let mut compared = 0;
    let batches = |step: u64| {
        golden
            .tensors
            .contains_key(&format!("batch.{step}.actions"))
    };
    for step in (1..).take_while(|&step| batches(step)) {
        let get = |what: &str| golden.get(&format!("batch.{step}.{what}")).to_kind(kind);
        let batch = Transitions {
            observations: get("observations"),
            actions: get("actions"),
            rewards: get("rewards"),
            next_observations: get("next_observations"),
            masks: 1.0 - get("dones"),
            returns: None,
        };
        let before = moments(agent);
        let figures = agent.update(&batch, &mut Recorded { golden, step, kind });
        assert_eq!(agent.updates(), step);
        let after = moments(agent);
        let mut losses: BTreeMap<&str, Tensor> = (figures.0.into_iter())
            .filter(|(name, _)| ["critic_loss", "actor_loss", "value_loss"].contains(name))
            .collect();
        for (name, want) in golden.under(&format!("expect.{step}.loss.")) {
            let ours = if name == "q" {
                "critic_loss".to_owned()
            } else {
                format!("{name}_loss")
            };
            let got = losses.remove(ours.as_str());
            let got = got.ok_or_else(|| format!("update {step} gave no {ours}"))?;
            compare(&format!("update {step}: {ours}"), &got, want, exact)?;
        }
        if let Some((name, _)) = losses.first_key_value() {
            return Err(format!(
                "update {step} gave a {name}, which is not recorded"
            ));
        }
        for (name, want) in golden.under(&format!("expect.{step}.grad.")) {
            let got = gradient(agent, &before, &after, name);
            compare(
                &format!("update {step}: gradient of {name}"),
                &got,
                want,
                exact,
            )?;
            compared += 1;
        }
        // In f32 a first step of Adam is little more than a gradient's sign.
        for (name, want) in golden
            .under(&format!("after{step}."))
            .filter(|_| kind == Kind::Double)
        {
            compare(
                &format!("after {step}: {name}"),
                &parameter(agent, name),
                want,
                exact,
            )?;
            compared += 1;
        }
    }
    assert!(compared > 0, "the file has nothing to compare with");
    Ok(())
}

fn sizes(h: &Value) -> (i64, i64) {
    (
        h["obs_dim"].as_i64().unwrap(),
        h["act_dim"].as_i64().unwrap(),
    )
}

const F64: (Kind, Exact) = (
    Kind::Double,
    Exact {
        rtol: 1e-9,
        atol: 1e-10,
    },
);
const F32: (Kind, Exact) = (
    Kind::Float,
    Exact {
        rtol: 1e-5,
        atol: 1e-6,
    },
);

/// Goes through a case with this configuration.
fn run<C, S: Subject>(
    golden: &Golden,
    config: C,
    make: impl Fn(C, i64, i64, Kind, Device) -> S,
    (kind, exact): (Kind, Exact),
) -> Result<(), String> {
    tch::set_num_threads(1);
    let (observation, action) = sizes(&golden.hyperparameters());
    let mut agent = make(config, observation, action, kind, Device::Cpu);
    follow(golden, &mut agent, kind, exact)
}

/// The case as recorded.
fn golden<C, S: Subject>(
    stem: &str,
    config: impl Fn(&Value) -> C,
    make: impl Fn(C, i64, i64, Kind, Device) -> S,
) {
    let golden = Golden::read(stem);
    for precision in [F64, F32] {
        let config = config(&golden.hyperparameters());
        if let Err(difference) = run(&golden, config, &make, precision) {
            panic!("{stem}, {:?}: {difference}", precision.0);
        }
    }
}

/// What is wrong, and how to make it so.
type Mistake<C> = (&'static str, fn(&mut C));

/// Each of these would be noticed, in the files that are in the repository.
fn noticed<C, S: Subject>(
    stem: &str,
    config: impl Fn(&Value) -> C,
    make: impl Fn(C, i64, i64, Kind, Device) -> S,
    mistakes: &[Mistake<C>],
) {
    let golden = Golden::read_own(stem);
    for (name, mistake) in mistakes {
        let mut wrong = config(&golden.hyperparameters());
        mistake(&mut wrong);
        let found = run(&golden, wrong, &make, F64);
        assert!(found.is_err(), "{stem}: nobody noticed another {name}");
    }
}

#[test]
fn golden_td3_bc() {
    golden("td3_bc", td3_bc, Td3Bc::new);
}

#[test]
fn golden_iql_gaussian() {
    golden("iql_gaussian", iql, Iql::new);
    step_sizes("iql_gaussian");
}

#[test]
fn golden_iql_deterministic() {
    golden("iql_deterministic", iql, Iql::new);
    step_sizes("iql_deterministic");
}

fn step_sizes(stem: &str) {
    let golden = Golden::read(stem);
    let config = iql(&golden.hyperparameters());
    let mut compared = 0;
    for step in 1.. {
        let Some(want) = golden.tensors.get(&format!("expect.{step}.lr.actor")) else {
            break;
        };
        let got = iql::cosine(config.lr_actor, step, config.actor_updates.unwrap());
        assert!(
            (got - want.double_value(&[])).abs() < 1e-15,
            "update {step}"
        );
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn golden_awac() {
    golden("awac", awac, Awac::new);
}

#[test]
fn mistakes_of_td3_bc_are_noticed() {
    noticed(
        "td3_bc",
        td3_bc,
        Td3Bc::new,
        &[
            ("discount", |c| c.discount += 1e-3),
            ("τ", |c| c.tau *= 1.01),
            ("noise", |c| c.policy_noise *= 1.01),
            ("clip of the noise", |c| c.noise_clip *= 1.01),
            ("frequency", |c| c.policy_freq += 1),
            ("α", |c| c.alpha *= 1.01),
            ("step size of the actor", |c| c.lr_actor *= 1.01),
            ("step size of the critics", |c| c.lr_critic *= 1.01),
            ("bound", |c| c.max_action *= 1.01),
        ],
    );
}

#[test]
fn mistakes_of_iql_are_noticed() {
    for stem in ["iql_gaussian", "iql_deterministic"] {
        noticed(
            stem,
            iql,
            Iql::new,
            &[
                ("discount", |c| c.discount += 1e-3),
                ("τ", |c| c.tau *= 1.01),
                ("expectile", |c| c.expectile += 1e-3),
                ("β", |c| c.beta *= 1.01),
                ("clamp", |c| c.max_weight *= 1.01),
                ("schedule", |c| {
                    c.actor_updates = c.actor_updates.map(|n| n + 1)
                }),
                ("step size of the actor", |c| c.lr_actor *= 1.01),
                ("step size of the critics", |c| c.lr_q *= 1.01),
                ("step size of V", |c| c.lr_v *= 1.01),
            ],
        );
    }
}

#[test]
fn mistakes_of_awac_are_noticed() {
    noticed(
        "awac",
        awac,
        Awac::new,
        &[
            ("discount", |c| c.discount += 1e-3),
            ("τ", |c| c.tau *= 1.01),
            ("λ", |c| c.lambda *= 1.01),
            ("clamp", |c| c.max_weight *= 1.01),
            ("step size", |c| c.lr *= 1.01),
            ("smallest action", |c| c.min_action *= 0.99),
            ("largest action", |c| c.max_action *= 0.99),
        ],
    );
}
