//! BC, TD3+BC, IQL and AWAC against what can be worked out by hand, and what all of them owe whoever trains.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_learner::agents::{
    Agent, Draws, Figures, Transitions,
    awac::{self, Awac, AwacConfig},
    bc::{Bc, BcConfig},
    front::{FrontConfig, MapFront, Sighted},
    gaussian, gradients,
    guard::{BadState, Watch, check_state},
    iql::{self, Iql, IqlConfig},
    sight::{Sight, SightAgent, SightTransitions},
    td3_bc::{Td3Bc, Td3BcConfig},
};
use hilt_protocol::noise::Uniforms;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Draws from a seed.
struct Seeded(Uniforms);

impl Seeded {
    fn new(seed: u64) -> Self {
        Self(Uniforms::new(seed))
    }

    fn tensor(&mut self, shape: &[i64], mut draw: impl FnMut(&mut Uniforms) -> f64) -> Tensor {
        let count = shape.iter().product::<i64>();
        let values: Vec<f64> = (0..count).map(|_| draw(&mut self.0)).collect();
        Tensor::from_slice(&values).view(shape)
    }
}

impl Draws for Seeded {
    fn normal(&mut self, _: &'static str, shape: &[i64]) -> Tensor {
        self.tensor(shape, Uniforms::normal)
    }

    fn uniform(&mut self, _: &'static str, shape: &[i64]) -> Tensor {
        self.tensor(shape, |uniforms| uniforms.range(-1.0, 1.0))
    }

    fn members(&mut self, _: &'static str, _: i64, _: i64) -> Tensor {
        panic!("none of these asks for members")
    }
}

fn one_thread() {
    // So small that threads would only wait for each other.
    tch::set_num_threads(1);
}

/// Rows that are 1 at their state and 0 elsewhere.
fn one_hot(states: &[i64], of: i64) -> Tensor {
    Tensor::from_slice(states).one_hot(of).to_kind(Kind::Double)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.reshape([-1])).unwrap()
}

/// A batch without a next state: every episode terminates at once.
fn bandit(observations: Tensor, actions: Tensor, rewards: Tensor) -> Transitions {
    Transitions {
        next_observations: observations.zeros_like(),
        masks: rewards.zeros_like(),
        observations,
        actions,
        rewards,
        returns: None,
    }
}

/// With a number for each state the least squares are the states' means.
#[test]
fn bc_on_a_table_is_the_mean_of_the_actions() {
    one_thread();
    let states = [0, 0, 0, 1, 1, 2];
    let actions = [0.9, -0.3, 0.0, -0.8, -0.6, 0.5];
    let rewards = Tensor::zeros([6], F64);
    let batch = bandit(
        one_hot(&states, 3),
        Tensor::from_slice(&actions).unsqueeze(1),
        rewards,
    );
    let config = BcConfig {
        lr: 0.05,
        hidden: vec![],
    };
    let mut bc = Bc::new(config, 3, 1, F64.0, F64.1);
    for _ in 0..1000 {
        bc.update(&batch, &mut Seeded::new(0));
    }
    let learned = values(&bc.act(&one_hot(&[0, 1, 2], 3), None));
    for (learned, mean) in learned.iter().zip([0.2, -0.7, 0.5]) {
        assert!((learned - mean).abs() < 1e-4, "{learned} {mean}");
    }
}

/// What a linear policy did, a linear policy finds again.
#[test]
fn bc_finds_a_linear_policy_again() {
    one_thread();
    let mut draws = Seeded::new(1);
    let observations = draws.normal("", &[64, 3]);
    let weight = Tensor::from_slice(&[0.5, -1.0, 0.3, 0.2, 0.0, -0.7]).view([2, 3]);
    let bias = Tensor::from_slice(&[0.1, -0.4]);
    let actions = observations.linear(&weight, Some(&bias)).tanh();
    let batch = bandit(observations, actions, Tensor::zeros([64], F64));
    let config = BcConfig {
        lr: 0.02,
        hidden: vec![],
    };
    let mut bc = Bc::new(config, 3, 2, F64.0, F64.1);
    // Where it starts decides how long it takes.
    let params = bc.actor().params();
    params.set_flat(&params.flat().zeros_like());
    for _ in 0..2000 {
        bc.update(&batch, &mut draws);
    }
    let params = bc.actor().params();
    for (name, truth) in [("actor.0.weight", weight), ("actor.0.bias", bias)] {
        let off = (params.get(name).detach() - truth)
            .abs()
            .max()
            .double_value(&[]);
        assert!(off < 1e-3, "{name} {off}");
    }
}

/// Where Σ |τ − [q < v]| (q − v) is 0.
fn expectile(q: &[f64], tau: f64) -> f64 {
    let (mut low, mut high) = (-100.0, 100.0);
    for _ in 0..200 {
        let v = 0.5 * (low + high);
        let weighted = |q: &f64| (if *q < v { 1.0 - tau } else { tau }) * (q - v);
        match q.iter().map(weighted).sum::<f64>() > 0.0 {
            true => low = v,
            false => high = v,
        }
    }
    low
}

#[test]
fn iql_s_value_is_the_mean_at_one_half_and_the_largest_at_one() {
    let q = [3.0, -1.0, 0.5, 0.5];
    let of = |tau: f64| {
        let v = Tensor::zeros([1], F64).set_requires_grad(true);
        for _ in 0..4000 {
            let (loss, _) = iql::value_loss(tau, &v.expand([4], false), &Tensor::from_slice(&q));
            let step = &gradients(&loss, &[&v])[0] * 0.5;
            let _ = tch::no_grad(|| v.shallow_clone().g_sub_(&step));
        }
        v.double_value(&[0])
    };
    for tau in [0.3, 0.5, 0.7, 0.9] {
        let (got, want) = (of(tau), expectile(&q, tau));
        assert!((got - want).abs() < 1e-9, "τ {tau}: {got}, {want}");
    }
    assert!((of(0.5) - 0.75).abs() < 1e-9);
    assert!((of(0.999) - 3.0).abs() < 0.02);
}

/// The same through the whole agent: two states, three actions in each, rewards alone.
#[test]
fn iql_learns_expectiles_of_a_bandit() {
    one_thread();
    let (states, actions) = ([0, 0, 0, 1, 1, 1], [-0.8, 0.0, 0.8, -0.8, 0.0, 0.8]);
    let rewards = [1.0, 0.0, 2.0, -1.0, 1.0, 0.0];
    for (expectile_wanted, near) in [(0.5, 0.02), (0.99, 0.1)] {
        let config = IqlConfig {
            expectile: expectile_wanted,
            lr_q: 3e-3,
            lr_v: 1e-2,
            tau: 0.05,
            hidden: vec![32],
            ..IqlConfig::default()
        };
        let mut iql = Iql::new(config, 2, 1, F64.0, F64.1);
        let batch = bandit(
            one_hot(&states, 2),
            Tensor::from_slice(&actions).unsqueeze(1),
            Tensor::from_slice(&rewards),
        );
        for _ in 0..2000 {
            iql.update(&batch, &mut Seeded::new(0));
        }
        let learned = values(&iql.v().value(&one_hot(&[0, 1], 2)));
        let wanted = [&rewards[..3], &rewards[3..]].map(|q| expectile(q, expectile_wanted));
        for (learned, wanted) in learned.iter().zip(wanted) {
            assert!((learned - wanted).abs() < near, "{learned} {wanted}");
        }
    }
}

/// States A, B, C, γ = ½. A goes to itself with reward 1, time running out now and then: worth 2. B does the
/// same and the task ends: worth 1. C goes to A with reward 0: worth 1. What ends matters, not what stops.
fn chain(mut agent: impl Agent, name: &str) {
    let states: Vec<i64> = (0..96).map(|row| row % 3).collect();
    let of = |table: [f64; 3]| {
        let rows: Vec<f64> = states.iter().map(|&state| table[state as usize]).collect();
        Tensor::from_slice(&rows)
    };
    let mut draws = Seeded::new(2);
    for _ in 0..1500 {
        let batch = Transitions {
            observations: one_hot(&states, 3),
            actions: draws.uniform("", &[96, 1]),
            rewards: of([1.0, 1.0, 0.0]),
            next_observations: one_hot(&vec![0; 96], 3),
            masks: of([1.0, 0.0, 1.0]),
            returns: None,
        };
        agent.update(&batch, &mut draws);
    }
    let at = one_hot(&[0, 1, 2], 3);
    let worth = values(&agent.value(&at, &agent.act(&at, None)).unwrap());
    for (state, (worth, wanted)) in worth.iter().zip([2.0, 1.0, 1.0]).enumerate() {
        assert!(
            (worth - wanted).abs() < 0.05,
            "{name}, state {state}: {worth}, not {wanted}"
        );
    }
}

#[test]
fn an_episode_that_ran_out_of_time_goes_on_and_one_that_terminated_does_not() {
    one_thread();
    let (discount, tau, hidden) = (0.5, 0.05, vec![32]);
    let config = Td3BcConfig {
        discount,
        tau,
        hidden: hidden.clone(),
        lr_critic: 3e-3,
        ..Td3BcConfig::default()
    };
    chain(Td3Bc::new(config, 3, 1, F64.0, F64.1), "TD3+BC");
    let config = AwacConfig {
        discount,
        tau,
        hidden: hidden.clone(),
        lr: 3e-3,
        ..AwacConfig::default()
    };
    chain(Awac::new(config, 3, 1, F64.0, F64.1), "AWAC");
    let config = IqlConfig {
        discount,
        tau,
        hidden,
        expectile: 0.5,
        lr_q: 3e-3,
        lr_v: 3e-3,
        ..IqlConfig::default()
    };
    chain(Iql::new(config, 3, 1, F64.0, F64.1), "IQL");
}

/// A weighted imitation by a Gaussian is best at the weighted mean and deviation of the actions.
#[test]
fn weighted_imitation_is_stationary_at_the_weighted_moments() {
    let actions = Tensor::from_slice(&[0.5, -0.2, 0.9, 0.1]).unsqueeze(1);
    let advantages = Tensor::from_slice(&[0.2, -0.5, 0.4, 3.0]);
    let config = AwacConfig {
        lambda: 0.5,
        max_weight: 20.0,
        ..AwacConfig::default()
    };
    // The last one's weight, e⁶, is clamped.
    let weights = [0.4f64.exp(), (-1f64).exp(), 0.8f64.exp(), 20.0];
    let total: f64 = weights.iter().sum();
    let of = |power: &dyn Fn(f64) -> f64| -> f64 {
        weights
            .iter()
            .zip(values(&actions))
            .map(|(w, a)| w * power(a))
            .sum::<f64>()
            / total
    };
    let mean = of(&|a| a);
    let log_std = of(&|a| (a - mean).powi(2)).sqrt().ln();
    let mean = Tensor::from_slice(&[mean]).set_requires_grad(true);
    let log_std = Tensor::from_slice(&[log_std]).set_requires_grad(true);
    let log_prob = gaussian::log_prob(&mean.expand([4, 1], false), &log_std, &actions);
    let gradients_of = |loss: Tensor| gradients(&loss, &[&mean, &log_std]);
    let (awac, metrics) = awac::actor_loss(&config, &log_prob, &advantages);
    assert!((metrics.weight.double_value(&[]) - total / 4.0).abs() < 1e-12);
    for gradient in gradients_of(awac) {
        assert!(gradient.double_value(&[0]).abs() < 1e-12);
    }
}

/// Makes a fresh agent for 3 numbers of observation and 2 of action.
type Make = Box<dyn Fn() -> Box<dyn Agent>>;

fn all() -> Vec<(&'static str, Make)> {
    let (kind, device) = F64;
    let iql = move |deterministic| {
        let hidden = vec![8];
        let config = IqlConfig {
            hidden,
            deterministic,
            actor_updates: Some(10),
            ..Default::default()
        };
        Box::new(Iql::new(config, 3, 2, kind, device)) as Box<dyn Agent>
    };
    vec![
        (
            "bc",
            Box::new(move || Box::new(Bc::new(BcConfig::default(), 3, 2, kind, device))),
        ),
        (
            "td3-bc",
            Box::new(move || {
                let config = Td3BcConfig {
                    hidden: vec![8],
                    ..Default::default()
                };
                Box::new(Td3Bc::new(config, 3, 2, kind, device))
            }),
        ),
        ("iql", Box::new(move || iql(false))),
        ("deterministic iql", Box::new(move || iql(true))),
        (
            "awac",
            Box::new(move || {
                let config = AwacConfig {
                    hidden: vec![8, 8],
                    ..Default::default()
                };
                Box::new(Awac::new(config, 3, 2, kind, device))
            }),
        ),
    ]
}

fn random_batch(seed: u64) -> Transitions {
    let mut draws = Seeded::new(seed);
    Transitions {
        observations: draws.normal("", &[16, 3]),
        actions: draws.uniform("", &[16, 2]),
        rewards: draws.normal("", &[16]),
        next_observations: draws.normal("", &[16, 3]),
        masks: Tensor::ones([16], F64),
        returns: None,
    }
}

#[test]
fn an_agent_goes_on_from_its_state_as_if_nothing_had_happened() {
    one_thread();
    for (name, make) in all() {
        let (mut ours, mut other) = (make(), make());
        for update in 0..3 {
            ours.update(&random_batch(update), &mut Seeded::new(update));
        }
        check_state(&other.state(), &ours.state()).unwrap();
        other.restore(&ours.state(), ours.updates());
        for update in 3..6 {
            let step = |agent: &mut Box<dyn Agent>| {
                agent
                    .update(&random_batch(update), &mut Seeded::new(update))
                    .read()
            };
            assert_eq!(step(&mut ours), step(&mut other), "{name}");
        }
        assert_eq!(ours.updates(), 6);
        for ((tensor, a), (_, b)) in ours.state().iter().zip(other.state()) {
            assert_eq!(*a, b, "{name}: {tensor}");
        }
    }
}

#[test]
fn actions_keep_to_their_bounds_and_exploring_changes_them() {
    one_thread();
    for (name, make) in all() {
        let agent = make();
        let observations = Seeded::new(5).normal("", &[64, 3]);
        let best = agent.act(&observations, None);
        let tried = agent.act(&observations, Some(&mut Seeded::new(6)));
        for actions in [&best, &tried] {
            assert_eq!(actions.size(), [64, 2]);
            assert!(!actions.requires_grad());
            assert!(actions.abs().max().double_value(&[]) <= 1.0, "{name}");
        }
        assert_eq!(best != tried, name != "bc", "{name}");
        let worth = agent.value(&observations, &best);
        assert_eq!(
            worth.map(|worth| worth.size()),
            (name != "bc").then(|| vec![64])
        );
    }
}

/// A reward that nothing can stand: the update that broke the training is named, and so is the tensor that
/// must not go into a checkpoint.
#[test]
fn a_training_that_diverges_is_named() {
    one_thread();
    for (name, make) in all().into_iter().filter(|(name, _)| *name != "bc") {
        let (mut agent, mut watch) = (make(), Watch::default());
        for update in 1..=6 {
            let mut batch = random_batch(update);
            if update == 4 {
                batch.rewards *= 1e200;
            }
            let figures: Figures = agent.update(&batch, &mut Seeded::new(update));
            watch.note(agent.updates(), figures);
        }
        let diverged = watch.read().unwrap_err();
        assert_eq!(
            (diverged.figure, diverged.update),
            ("critic_loss", 4),
            "{name}"
        );
        let state = agent.state();
        let refused = check_state(&state, &state).unwrap_err();
        assert!(
            matches!(refused, BadState::NotFinite { .. }),
            "{name}: {refused}"
        );
    }
}

/// What an algorithm teaches its front is the slope of its critics' loss (of the policy's, without critics).
fn teaches(make: impl Fn() -> Box<dyn Agent>, loss: &str) {
    let first = make();
    let state = first.state();
    let of = |change: f64| {
        let mut agent = make();
        agent.restore(&state, 1);
        let batch = random_batch(7);
        let _ = batch.observations.get(3).get(1).g_add_scalar_(change);
        let (figures, taught) = agent.update_through(&batch, &mut Seeded::new(8), true);
        let value = figures
            .read()
            .into_iter()
            .find(|(name, _)| *name == loss)
            .unwrap()
            .1;
        (value, taught.unwrap())
    };
    let taught = of(0.0).1;
    assert_eq!(taught.size(), [16, 3]);
    let slope = (of(1e-6).0 - of(-1e-6).0) / 2e-6;
    let ours = taught.double_value(&[3, 1]);
    assert!(
        (ours - slope).abs() < 1e-6 * slope.abs().max(1.0),
        "{loss}: {ours} {slope}"
    );
    assert!(slope.abs() > 1e-5);
}

#[test]
fn a_front_is_taught_by_the_critics_loss() {
    one_thread();
    let (kind, device) = F64;
    teaches(
        || Box::new(Bc::new(BcConfig::default(), 3, 2, kind, device)),
        "actor_loss",
    );
    teaches(
        || Box::new(Td3Bc::new(Td3BcConfig::default(), 3, 2, kind, device)),
        "critic_loss",
    );
    teaches(
        || Box::new(Iql::new(IqlConfig::default(), 3, 2, kind, device)),
        "critic_loss",
    );
    teaches(
        || Box::new(Awac::new(AwacConfig::default(), 3, 2, kind, device)),
        "critic_loss",
    );
}

/// The reward is in one cell of one camera's map: critics find it through the front, and a restored front goes
/// on the same.
#[test]
fn td3_bc_learns_from_maps() {
    one_thread();
    let (kind, device) = F64;
    let cameras = [("front".to_owned(), [2, 2, 3])];
    let front = || {
        let config = FrontConfig {
            spatial_features: 4,
            bottleneck: 16,
            proprio_latent: 4,
            lr: 1e-3,
        };
        MapFront::new(&config, &cameras, 2, kind, device)
    };
    let make = || {
        let front = front();
        let config = Td3BcConfig {
            hidden: vec![32],
            lr_critic: 1e-3,
            ..Default::default()
        };
        let agent = Td3Bc::new(config, front.width(), 1, kind, device);
        Sighted::new(front, Box::new(agent))
    };
    let mut ours = make();
    let started = ours.front().params().flat().copy();
    let batch = |seed: u64| {
        let mut draws = Seeded::new(seed);
        let mut sight = || Sight {
            maps: vec![draws.normal("", &[64, 2, 2, 3])],
            proprio: draws.normal("", &[64, 2]),
        };
        let (observations, next_observations) = (sight(), sight());
        let rewards = observations.maps[0].select(1, 1).select(1, 0).select(1, 2);
        SightTransitions {
            masks: rewards.zeros_like(),
            grasp_penalty: rewards.zeros_like(),
            actions: draws.uniform("", &[64, 1]),
            observations,
            next_observations,
            rewards,
            returns: None,
        }
    };
    let loss = |figures: Figures| figures.read()[0].1;
    let before = loss(ours.update(&batch(0), &mut Seeded::new(0)));
    for update in 1..1000 {
        ours.update(&batch(update), &mut Seeded::new(update));
    }
    let after = loss(ours.update(&batch(1000), &mut Seeded::new(0)));
    assert!(after < 0.1 * before, "{before} {after}");
    assert_ne!(started, *ours.front().params().flat());
    let mut other = make();
    check_state(&other.state(), &ours.state()).unwrap();
    other.restore(&ours.state(), ours.agent().updates());
    let next = |agent: &mut Sighted| agent.update(&batch(1001), &mut Seeded::new(1)).read();
    assert_eq!(next(&mut ours), next(&mut other));
    let at = batch(1002).observations;
    assert_eq!(ours.act(&at, None), other.act(&at, None));
}
