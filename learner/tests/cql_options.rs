//! What CORL's configurations can choose of CQL beside what its recorded updates show.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_learner::{
    agents::{
        Agent, Draws, Transitions,
        cal_ql::{CalQl, CalQlConfig},
        cql::{Cql, CqlConfig},
        draws::Seeded,
        net::Net,
        tanh_gaussian::{Squash, TanhGaussian},
    },
    nn::Params,
};
use tch::{Device, Kind, Tensor};

const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);
const OBSERVATIONS: i64 = 4;
const ACTIONS: i64 = 2;
const ROWS: i64 = 8;

fn config() -> CqlConfig {
    CqlConfig {
        sampled_actions: 3,
        actor_hidden: vec![16, 12],
        critic_hidden: vec![16, 12],
        ..CqlConfig::default()
    }
}

fn agent(config: CqlConfig) -> Cql {
    tch::set_num_threads(1);
    tch::manual_seed(3);
    Cql::new(config, OBSERVATIONS, ACTIONS, OPTIONS)
}

fn batch() -> Transitions {
    tch::manual_seed(4);
    Transitions {
        observations: Tensor::randn([ROWS, OBSERVATIONS], OPTIONS),
        actions: Tensor::randn([ROWS, ACTIONS], OPTIONS).tanh(),
        rewards: Tensor::randn([ROWS], OPTIONS),
        next_observations: Tensor::randn([ROWS, OBSERVATIONS], OPTIONS),
        masks: Tensor::ones([ROWS], OPTIONS),
        returns: Some(Tensor::randn([ROWS], OPTIONS)),
    }
}

/// W Wᵀ, or Wᵀ W, whichever is smaller, is `gain`² of the identity.
fn assert_orthogonal(weight: &Tensor, gain: f64) {
    let weight = weight.detach();
    let turned = weight.transpose(0, 1);
    let (one, other) = match weight.size()[0] <= weight.size()[1] {
        true => (&weight, &turned),
        false => (&turned, &weight),
    };
    let product = one.matmul(other);
    let wanted = Tensor::eye(product.size()[0], OPTIONS) * gain * gain;
    assert!(product.allclose(&wanted, 1e-9, 1e-9, false), "{product:?}");
}

fn largest(params: &Params, name: &str) -> f64 {
    params.get(name).detach().abs().max().double_value(&[])
}

/// CORL, `init_module_weights` of algorithms/offline/cql.py and of algorithms/finetune/cal_ql.py.
#[test]
fn networks_start_as_corls_do() {
    let sqrt2 = std::f64::consts::SQRT_2;
    let starts_orthogonal = |net: &Net, member: Option<i64>, last: f64| {
        for (layer, gain) in [(0, sqrt2), (1, sqrt2), (2, last)] {
            let name = format!("{}.{layer}", net.mlp().name());
            let weight = net.params().get(&format!("{name}.weight"));
            match member {
                Some(member) => assert_orthogonal(&weight.get(member), gain),
                None => assert_orthogonal(weight, gain),
            }
            assert_eq!(largest(net.params(), &format!("{name}.bias")), 0.0);
        }
    };
    let starts_small = |net: &Net| {
        let name = net.mlp().name();
        let fans: i64 = net.mlp().sizes()[2..].iter().sum();
        let most = 0.01 * (6.0 / fans as f64).sqrt();
        let last = largest(net.params(), &format!("{name}.2.weight"));
        assert!(last > 0.5 * most && last <= most, "{last} of {most}");
        assert_eq!(largest(net.params(), &format!("{name}.2.bias")), 0.0);
        let bound = 1.0 / (net.mlp().sizes()[1] as f64).sqrt();
        let inner = largest(net.params(), &format!("{name}.1.bias"));
        assert!(inner > 0.5 * bound && inner <= bound, "{inner} of {bound}");
    };
    let cql = agent(config());
    starts_orthogonal(cql.critics(), Some(0), 0.01);
    starts_orthogonal(cql.critics(), Some(1), 0.01);
    assert_eq!(cql.critics().target().flat(), cql.critics().params().flat());
    starts_small(cql.actor());

    let plain = || CqlConfig {
        orthogonal_init: false,
        ..config()
    };
    starts_small(agent(plain()).critics());
    starts_small(agent(plain()).actor());

    let cal_ql = |cql: CqlConfig| {
        let config = CalQlConfig {
            cql,
            ..CalQlConfig::default()
        };
        CalQl::new(config, OBSERVATIONS, ACTIONS, OPTIONS)
    };
    let orthogonal = cal_ql(config());
    starts_orthogonal(orthogonal.cql().critics(), Some(1), sqrt2);
    starts_orthogonal(orthogonal.cql().actor(), None, sqrt2);
    starts_small(cal_ql(plain()).cql().actor());
}

/// Remembers what was drawn for the target.
struct Watched {
    draws: Seeded,
    target: Option<Tensor>,
}

impl Draws for Watched {
    fn normal(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        let drawn = self.draws.normal(name, shape);
        if name == "target" {
            self.target = Some(drawn.shallow_clone());
        }
        drawn
    }
    fn uniform(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        self.draws.uniform(name, shape)
    }
    fn members(&mut self, name: &'static str, count: i64, of: i64) -> Tensor {
        self.draws.members(name, count, of)
    }
}

/// CORL: the largest over the draws of the lesser of both targets, and log π of that same draw.
#[test]
fn the_target_is_of_the_best_of_several_draws() {
    let mut agent = agent(CqlConfig {
        max_target_backup: true,
        backup_entropy: true,
        alpha_multiplier: 0.7,
        ..config()
    });
    // Critics that start small hardly tell actions apart.
    let critics = agent.critics();
    let flat = critics.params().flat();
    let stirred = flat.detach() + Tensor::randn(flat.size(), OPTIONS) * 0.5;
    critics.target().set_flat(&stirred);
    let batch = batch();
    let mut draws = Watched {
        draws: Seeded::new(1, 0, OPTIONS),
        target: None,
    };
    let of = |agent: &Cql, row: i64, normal: &Tensor| {
        let seen = batch.next_observations.narrow(0, row, 1);
        let own = |name: &str| agent.actor().params().get(name).detach();
        let (multiplier, offset) = (own("actor.log_std_multiplier"), own("actor.log_std_offset"));
        let policy =
            TanhGaussian::of_head(&agent.actor().value(&seen), Some((&multiplier, &offset)));
        let draw = policy.sample(normal, Squash::Exact);
        let input = Tensor::cat(&[&seen, &draw.actions], 1);
        let q = agent.critics().target_value(&input).min().double_value(&[]);
        (q, draw.log_prob.double_value(&[0]))
    };
    let mut before = self::agent(config());
    before.restore(&agent.state(), 0);
    let figures = agent.update(&batch, &mut draws).read();
    let drawn = draws.target.unwrap();
    assert_eq!(drawn.size(), [ROWS, 3, ACTIONS]);
    let mut sum = 0.0;
    let mut firsts = 0;
    for row in 0..ROWS {
        let each: Vec<(f64, f64)> = (0..3)
            .map(|k| of(&before, row, &drawn.get(row).narrow(0, k, 1)))
            .collect();
        let best = (0..3).max_by(|&a, &b| each[a].0.total_cmp(&each[b].0));
        let best = best.unwrap();
        firsts += usize::from(best == 0);
        sum += each[best].0 - 0.7 * each[best].1;
    }
    assert!(firsts < ROWS as usize, "the first is not always the best");
    let (_, got) = (figures.iter())
        .find(|(name, _)| *name == "average_target_q")
        .unwrap();
    assert!((got - sum / ROWS as f64).abs() < 1e-9, "{got} {sum}");
}

#[test]
fn targets_move_in_every_so_manyth_update() {
    let mut agent = agent(CqlConfig {
        target_update_period: 3,
        ..config()
    });
    let first = agent.critics().target().flat().copy();
    let moved = (1..=6u64).map(|update| {
        let before = agent.critics().target().flat().copy();
        agent.update(&batch(), &mut Seeded::new(1, update, OPTIONS));
        before != *agent.critics().target().flat()
    });
    let moved: Vec<bool> = moved.collect();
    assert_eq!(moved, [false, false, true, false, false, true]);
    assert_ne!(first, *agent.critics().target().flat());
}

/// Whatever the critics think, until the last update of the imitation.
#[test]
fn first_the_actor_imitates_the_data() {
    let bc_steps = 1200;
    let mut agent = agent(CqlConfig {
        bc_steps,
        policy_lr: 3e-3,
        ..config()
    });
    let batch = batch();
    let off = |agent: &Cql| {
        let apart = agent.act(&batch.observations, None) - &batch.actions;
        apart.square().mean(None::<Kind>).double_value(&[])
    };
    let first = off(&agent);
    let mut gradients_change_with_critics = Vec::new();
    for update in 0..bc_steps + 1 {
        let draws = || Seeded::new(1, update, OPTIONS);
        if update == 0 || update + 1 >= bc_steps {
            let mut seen = Vec::new();
            for stir in [0.0, 1.0] {
                let mut copy = self::agent(agent.config().clone());
                copy.restore(&agent.state(), agent.updates());
                let flat = copy.critics().params().flat();
                copy.critics()
                    .params()
                    .set_flat(&(flat.detach() * (1.0 + stir) + stir));
                copy.update_with(&batch, &mut draws(), &mut |name, grads| {
                    if name == "actor" {
                        seen.push(grads[0].copy());
                    }
                });
            }
            gradients_change_with_critics.push(seen[0] != seen[1]);
        }
        if update < bc_steps {
            agent.update(&batch, &mut draws());
        }
    }
    assert_eq!(gradients_change_with_critics, [false, false, true]);
    assert!(off(&agent) < 0.1 * first, "{} of {first}", off(&agent));
}
