//! What soft actor-critics must come to, where it is known in closed form.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_learner::agents::{
    Agent, Transitions,
    cal_ql::{CalQl, CalQlConfig},
    cql::{self, Cql, CqlConfig},
    draws::Seeded,
    redq::{Redq, RedqConfig},
    rlpd::{Rlpd, RlpdConfig},
    sac::{Sac, SacConfig},
    tanh_gaussian::{Squash, TanhGaussian},
};
use tch::{Device, Kind, Tensor};

const SINGLE: (Kind, Device) = (Kind::Float, Device::Cpu);
const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Networks so small that torch's threads would only wait for each other; weights from this seed.
fn small(seed: i64) {
    tch::set_num_threads(1);
    tch::manual_seed(seed);
}

fn uniform(seed: u64, shape: &[i64]) -> Tensor {
    use hilt_learner::agents::Draws;
    Seeded::new(seed, u64::MAX, SINGLE).uniform("states", shape)
}

/// The policy a = tanh(0.5 n) whatever it sees: all weights of the actor 0, log σ = ln 0.5 by the last bias.
fn careless(sac: &Sac) -> (f64, f64) {
    let actor = sac.networks().actor.params();
    actor.set_flat(&actor.flat().zeros_like());
    let log_std = 0.5f64.ln();
    let last = actor.names().last().unwrap();
    assert_eq!(actor.get(last).size(), [2]);
    actor.set(
        last,
        &Tensor::from_slice(&[0.0, log_std]).to_kind(Kind::Float),
    );
    // Its mean square and entropy, over the middles of a fine grid of the normal.
    let grid = Tensor::linspace(-8.0, 8.0, 16_001, DOUBLE).unsqueeze(1);
    let weight = (grid.square() * -0.5).exp().squeeze_dim(1);
    let weight = &weight / weight.sum(None::<Kind>);
    let policy = TanhGaussian {
        mean: Tensor::zeros([1], DOUBLE),
        log_std: Tensor::full([1], log_std, DOUBLE),
    };
    let sample = policy.sample(&grid, Squash::Exact);
    let mean = |x: Tensor| (x * &weight).sum(None::<Kind>).double_value(&[]);
    (
        mean(sample.actions.squeeze_dim(1).square()),
        -mean(sample.log_prob),
    )
}

fn tiny(rows: i64, seed: u64) -> Transitions {
    let of = |part: u64, shape: &[i64]| uniform(seed * 8 + part, shape);
    Transitions {
        observations: of(0, &[rows, 3]),
        actions: of(1, &[rows, 2]),
        rewards: of(2, &[rows]),
        next_observations: of(3, &[rows, 3]),
        masks: of(4, &[rows]).gt(-0.5).to_kind(Kind::Float),
        returns: Some(of(5, &[rows])),
    }
}

/// An agent of each kind, with small networks; REDQ and RLPD take their batch in two parts.
fn agents() -> Vec<(&'static str, Box<dyn Agent>)> {
    let hidden = vec![8, 8];
    let cql = CqlConfig {
        lagrange_gap: Some(0.8),
        sampled_actions: 3,
        actor_hidden: hidden.clone(),
        critic_hidden: hidden.clone(),
        ..CqlConfig::default()
    };
    let cal_ql = CalQlConfig {
        cql: cql.clone(),
        ..CalQlConfig::default()
    };
    let sac = SacConfig {
        hidden: hidden.clone(),
        ..SacConfig::default()
    };
    let redq = RedqConfig {
        critics: 3,
        update_to_data: 2,
        hidden: hidden.clone(),
        ..RedqConfig::default()
    };
    let rlpd = RlpdConfig {
        critics: 3,
        update_to_data: 2,
        hidden,
        ..RlpdConfig::default()
    };
    vec![
        ("CQL", Box::new(Cql::new(cql, 3, 2, SINGLE))),
        ("Cal-QL", Box::new(CalQl::new(cal_ql, 3, 2, SINGLE))),
        ("SAC", Box::new(Sac::new(sac, 3, 2, SINGLE))),
        ("REDQ", Box::new(Redq::new(redq, 3, 2, SINGLE))),
        ("RLPD", Box::new(Rlpd::new(rlpd, 3, 2, SINGLE))),
    ]
}

#[test]
fn restored_agents_go_on_as_if_they_had_never_stopped() {
    small(4);
    for ((name, mut ours), (_, mut other)) in agents().into_iter().zip(agents()) {
        let go = |agent: &mut dyn Agent| {
            let step = agent.updates();
            let mut draws = Seeded::new(3, step, SINGLE);
            agent.update(&tiny(12, step), &mut draws).read()
        };
        for _ in 0..3 {
            go(&mut *ours);
        }
        other.restore(&ours.state(), ours.updates());
        for _ in 0..2 {
            let (a, b) = (go(&mut *ours), go(&mut *other));
            assert_eq!(a, b, "{name}");
            assert!(a.iter().all(|(_, value)| value.is_finite()), "{name} {a:?}");
        }
        assert_eq!((ours.updates(), other.updates()), (5, 5));
        let batch = tiny(4, 99);
        let greedy = |agent: &dyn Agent| agent.act(&batch.observations, None);
        assert_eq!(greedy(&*ours), greedy(&*other), "{name}");
        assert_eq!(greedy(&*ours).size(), [4, 2]);
        let value = ours.value(&batch.observations, &batch.actions);
        assert_eq!(value.unwrap().size(), [4], "{name}");
    }
}

/// What teaches a front is the gradient of the critics' loss at the observations: a small step against it makes
/// that loss smaller by as much as it says. The target stays as it is, since it is made of the next ones.
#[test]
fn the_gradient_at_the_observations_is_the_critics_losss() {
    small(9);
    for (name, agent) in agents() {
        let fresh = agent.state();
        let loss = |batch: &Transitions, through: bool| {
            let (_, mut same) = agents().into_iter().find(|(n, _)| *n == name).unwrap();
            same.restore(&fresh, 0);
            let (figures, taught) =
                same.update_through(batch, &mut Seeded::new(3, 0, SINGLE), through);
            let figures = figures.read();
            let of = |wanted: &[&str]| -> f64 {
                let of = |name: &&str| figures.iter().find(|(n, _)| n == name).unwrap().1;
                wanted.iter().map(of).sum()
            };
            let loss = match name {
                "CQL" | "Cal-QL" => of(&[
                    "qf1_loss",
                    "qf2_loss",
                    "cql_min_qf1_loss",
                    "cql_min_qf2_loss",
                ]),
                _ => of(&["critic_loss"]),
            };
            (loss, taught)
        };
        let batch = tiny(12, 1);
        let (before, taught) = loss(&batch, true);
        let taught = taught.unwrap();
        assert_eq!(taught.size(), [12, 3], "{name}");
        assert!(loss(&batch, false).1.is_none());
        if matches!(name, "REDQ" | "RLPD") {
            // The figures are the last part's, and so must be the step.
            let _ = taught.narrow(0, 0, 6).zero_();
        }
        let step = 1e-2 / taught.norm().double_value(&[]);
        let moved = Transitions {
            observations: &batch.observations - &taught * step,
            ..tiny(12, 1)
        };
        let (after, _) = loss(&moved, false);
        let foretold = taught.square().sum(None::<Kind>).double_value(&[]) * step;
        println!("{name}: {before} {after}, foretold {foretold}");
        if !matches!(name, "CQL" | "Cal-QL") {
            assert!(((before - after) / foretold - 1.0).abs() < 0.05, "{name}");
        } else {
            // The policy's draws move too, which are not differentiated.
            assert!(after < before, "{name}");
        }
    }
}

/// Discounted LQR: s' = 0.6 s + 0.5 a, r = −s² − 0.3 a², with the entropy counted by α = 0.2. The value of a
/// policy that draws its action whatever it sees is −p s² − c, and so the critics are known.
#[test]
fn the_critics_of_a_linear_task_are_its_quadratic() {
    small(5);
    let (a, b, cost, gamma, alpha) = (0.6, 0.5, 0.3, 0.8, 0.2f64);
    let config = SacConfig {
        discount: gamma,
        lr: 3e-3,
        target_update_rate: 0.05,
        initial_temperature: alpha,
        hidden: vec![64, 64],
        ..SacConfig::default()
    };
    let mut sac = Sac::new(config, 1, 1, SINGLE);
    let (square, entropy) = careless(&sac);
    let p = 1.0 / (1.0 - gamma * a * a);
    // c = E[0.3 a²] − α H + γ (p b² E[a²] + c).
    let c = (cost * square - alpha * entropy + gamma * p * b * b * square) / (1.0 - gamma);
    let q = |s: &Tensor, action: &Tensor| {
        let next = s * a + action * b;
        let value = next.square() * -p - c;
        -s.square() - action.square() * cost + value * gamma
    };
    for update in 0..1500 {
        let s = uniform(2 * update, &[256, 1]) * 1.5;
        let action = uniform(2 * update + 1, &[256, 1]);
        let batch = Transitions {
            next_observations: &s * a + &action * b,
            rewards: (-s.square() - action.square() * cost).squeeze_dim(1),
            masks: Tensor::ones([256], SINGLE),
            observations: s,
            actions: action,
            returns: None,
        };
        sac.update_critics(&batch, &mut Seeded::new(1, update, SINGLE), false);
    }
    let (s, action) = (uniform(1 << 40, &[1000, 1]), uniform(1 << 41, &[1000, 1]));
    let (got, want) = (
        sac.value(&s, &action).unwrap(),
        q(&s, &action).squeeze_dim(1),
    );
    let off = (got - &want)
        .square()
        .mean(None::<Kind>)
        .sqrt()
        .double_value(&[]);
    let spread = want.std(true).double_value(&[]);
    println!("off by {off:.4} of a spread of {spread:.3}");
    assert!(off < 0.1 * spread, "off by {off} of {spread}");
}

/// Reward 1 for ever, in a state where each step ends the episode and in one where time runs out: 1 against
/// 1 / (1 − γ).
#[test]
fn a_terminal_state_is_worth_nothing_and_a_time_out_what_follows() {
    small(6);
    let config = RedqConfig {
        critics: 3,
        asked: 1,
        update_to_data: 1,
        policy_delay: 1,
        discount: 0.8,
        lr: 3e-3,
        target_update_rate: 0.05,
        // No entropy to count, from the first step on.
        first_temperature: 0.0,
        hidden: vec![32],
        ..RedqConfig::default()
    };
    let mut agent = Redq::new(config, 1, 1, SINGLE);
    agent.networks().log_alpha.set(&Tensor::from(-30f32));
    for update in 0..1200 {
        // ±1: the episode ends at the latter.
        let s = Tensor::cat(
            &[
                Tensor::ones([32, 1], SINGLE),
                -Tensor::ones([32, 1], SINGLE),
            ],
            0,
        );
        let batch = Transitions {
            masks: s.squeeze_dim(1).clamp_min(0.0),
            rewards: Tensor::ones([64], SINGLE),
            actions: uniform(update, &[64, 1]),
            next_observations: s.copy(),
            observations: s,
            returns: None,
        };
        agent.update(&batch, &mut Seeded::new(2, update, SINGLE));
    }
    let s = Tensor::from_slice(&[1f32, -1.0]).view([2, 1]);
    let worth = agent.value(&s, &Tensor::zeros([2, 1], SINGLE)).unwrap();
    let (goes_on, ends) = (worth.double_value(&[0]), worth.double_value(&[1]));
    println!("{goes_on:.3} {ends:.3}");
    assert!(
        (goes_on - 5.0).abs() < 0.15 && (ends - 1.0).abs() < 0.05,
        "{goes_on} {ends}"
    );
}

/// A bandit with four arms, a table for a critic: CQL's stationary point is where
/// 2 β (Q − r) + weight (softmax(Q) − β) = 0 for every arm, β being the data's frequencies. It lies
/// below r where the data is scarce.
#[test]
fn a_bandits_values_are_where_cqls_gradient_is_zero() {
    tch::set_num_threads(1);
    let counts = [6i64, 3, 2, 1];
    let rewards = Tensor::from_slice(&[0.5, 1.0, -0.2, 0.8]);
    let arms = Tensor::from_slice(&[0i64, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3]);
    let beta = Tensor::from_slice(&counts).to_kind(Kind::Double) / 12.0;
    let config = CqlConfig {
        weight: 1.5,
        ..CqlConfig::default()
    };
    // Every row's sampled actions: each arm three times, at a density that makes up for it.
    let log_density = Tensor::full([12, 12], 3f64.ln(), DOUBLE);
    let mut table = Tensor::zeros([2, 4], DOUBLE).set_requires_grad(true);
    let gradient = |table: &Tensor| {
        let of_data = table.index_select(1, &arms).unsqueeze(2);
        let sampled = (table.repeat([1, 3]).unsqueeze(1)).expand([2, 12, 12], true);
        let q = Tensor::cat(&[of_data, sampled], 2);
        let y = rewards.index_select(0, &arms);
        let (loss, _, _) = cql::critic_loss(&q, &y, &log_density, None, &config);
        Tensor::run_backward(&[loss], &[table], false, false).remove(0)
    };
    for _ in 0..3000 {
        let next = table.detach() - gradient(&table) * 0.3;
        table = next.set_requires_grad(true);
    }
    let q = table.detach();
    let left = &beta * (&q - &rewards) * 2.0 + (q.softmax(-1, None::<Kind>) - &beta) * 1.5;
    assert!(left.abs().max().double_value(&[]) < 1e-10);
    let lowered = Vec::<f64>::try_from((&rewards - &q).get(0)).unwrap();
    println!("{lowered:?}");
    assert!(lowered[3] > 0.3 && lowered[0] < 0.0, "{lowered:?}");
}
