//! CQL: conservative Q-learning (Kumar et al. 2020, arXiv 2006.04779) on a soft actor-critic, in the form with
//! importance sampling that CORL keeps (tinkoff-ai/CORL@6afec90, `algorithms/offline/cql.py`).
//!
//! Critics learn the usual target, and beside it that no action is worth more than those of the data: a
//! soft maximum over random actions and the policy's own is pushed down, the data's action up. With
//! Lagrange, a multiplier α' keeps the gap between the two at a given size.
//!
//! All losses are taken with the parameters from before the update. The actor looks at each observation and
//! next observation once, whatever the number of its draws, and all actions that are judged at an
//! observation are one batch.
//!
//! Shapes: B rows, O observation columns, A action columns, n sampled actions of a kind.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    Agent, Draws, Figures, Transitions, gradients,
    net::Net,
    policy::{Head, Policy},
    sac::{ActorMetrics, Judgement, actor_loss, log_temperature_loss},
    scalar::Scalar,
    tanh_gaussian::{Sample, Squash, TanhGaussian, policy_gradients},
    td,
};
use crate::nn::{
    AdamConfig, Mlp, ParamSpec,
    mlp::{Pass, Start},
    params::Init,
};

/// Hyperparameters. The default is CORL's `TrainConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CqlConfig {
    /// γ.
    pub discount: f64,
    /// Step size of the actor and of its temperature.
    pub policy_lr: f64,
    /// Step size of the critics and of α'.
    pub critic_lr: f64,
    /// τ of the target networks.
    pub target_update_rate: f64,
    /// They move every so many updates.
    pub target_update_period: u64,
    /// Updates in which the actor first imitates the data: log π of its actions stands for Q. CORL's files have 0;
    /// its code for more takes log π of fresh draws, where this takes that of the data's actions.
    pub bc_steps: u64,
    /// Entropy that the temperature steers to; absent: −A.
    pub target_entropy: Option<f64>,
    /// The temperature is exp(log α) times this.
    pub alpha_multiplier: f64,
    /// Whether the target counts the next action's entropy.
    pub backup_entropy: bool,
    /// The target is of the best of n draws at the next observation, not of one (CORL's files for antmaze and for
    /// Cal-QL).
    pub max_target_backup: bool,
    /// n: random actions, and draws of the policy at the observation and at the next one.
    pub sampled_actions: i64,
    /// Softness of the maximum over sampled actions.
    pub softness: f64,
    /// Weight of the conservative part (CORL's `cql_alpha`).
    pub weight: f64,
    /// With Lagrange: the gap that α' keeps (CORL's antmaze: 0.8). Absent: no α'.
    pub lagrange_gap: Option<f64>,
    /// Bounds on each row's gap (CORL's antmaze: from −200).
    pub clip: Option<[f64; 2]>,
    /// Start of the number that multiplies the actor's log σ.
    pub log_std_multiplier: f64,
    /// Start of the number that is added to the actor's log σ.
    pub log_std_offset: f64,
    /// Critics start orthogonal, and in Cal-QL the actor too; what does not starts as torch's layers do. Last layers
    /// start small, but for Cal-QL's orthogonal ones.
    pub orthogonal_init: bool,
    /// Widths of the actor's hidden layers.
    pub actor_hidden: Vec<i64>,
    /// Widths of the critics' hidden layers.
    pub critic_hidden: Vec<i64>,
}

impl Default for CqlConfig {
    fn default() -> Self {
        Self {
            discount: 0.99,
            policy_lr: 3e-5,
            critic_lr: 3e-4,
            target_update_rate: 5e-3,
            target_update_period: 1,
            bc_steps: 0,
            target_entropy: None,
            alpha_multiplier: 1.0,
            backup_entropy: false,
            max_target_backup: false,
            sampled_actions: 10,
            softness: 1.0,
            weight: 10.0,
            lagrange_gap: None,
            clip: None,
            log_std_multiplier: 1.0,
            log_std_offset: -1.0,
            orthogonal_init: true,
            actor_hidden: vec![256; 3],
            critic_hidden: vec![256; 3],
        }
    }
}

/// What the critics' loss saw, of each critic \[2\].
#[derive(Debug)]
pub struct CriticMetrics {
    /// Mean squared error to the target.
    pub td_loss: Tensor,
    /// The conservative part, weighted.
    pub conservative_loss: Tensor,
    /// Mean gap between the soft maximum and the data's action.
    pub diff: Tensor,
    /// Mean Q of random actions.
    pub q_random: Tensor,
    /// Mean Q of the policy's actions at the next observation.
    pub q_next: Tensor,
    /// Mean Q of the policy's actions.
    pub q_current: Tensor,
    /// Mean over rows of the standard deviation over a row's actions.
    pub q_std: Tensor,
}

/// The critics' loss: of each critic the mean squared error to `y` \[B\], and the gap between the soft maximum
/// over the sampled actions and the data's action, times `weight` and, with Lagrange, times `multiplier` and
/// less the gap that is kept.
///
/// `q` \[2, B, 1 + 3n\]: of the data's action, then random ones, then draws at the next observation, then draws
/// at this one. `log_density` \[B, 3n\]: of the sampled ones, without history. `multiplier` \[\]: α', which
/// the second loss, −(sum of the conservative parts)/2, is for.
pub fn critic_loss(
    q: &Tensor,
    y: &Tensor,
    log_density: &Tensor,
    multiplier: Option<&Tensor>,
    config: &CqlConfig,
) -> (Tensor, Tensor, CriticMetrics) {
    let (rows, n) = (y.size()[0], log_density.size()[1] / 3);
    assert_eq!(log_density.size(), [rows, 3 * n]);
    assert_eq!(q.size(), [2, rows, 1 + 3 * n]);
    let of_rows = |x: Tensor| x.mean_dim(-1, false, None::<Kind>);
    let q_data = q.select(2, 0);
    let td_loss = of_rows((&q_data - y).square());

    let logits = (q.narrow(2, 1, 3 * n) - log_density) / config.softness;
    let most = logits.logsumexp(-1, false) * config.softness;
    let mut gap = most - &q_data;
    if let Some([least, most]) = config.clip {
        gap = gap.clamp(least, most);
    }
    let diff = of_rows(gap);
    let conservative_loss = match (multiplier, config.lagrange_gap) {
        (Some(multiplier), Some(kept)) => (&diff - kept) * multiplier * config.weight,
        _ => &diff * config.weight,
    };
    assert_eq!(conservative_loss.size(), [2]);

    let loss = (&td_loss + &conservative_loss).sum(None::<Kind>);
    let multiplier_loss = conservative_loss.sum(None::<Kind>) * -0.5;
    let metrics = no_grad(|| {
        let values = q.detach();
        let kind = |which: i64| {
            (values.narrow(2, 1 + which * n, n)).mean_dim([1i64, 2].as_slice(), false, None::<Kind>)
        };
        CriticMetrics {
            td_loss: td_loss.detach(),
            conservative_loss: conservative_loss.detach(),
            diff: diff.detach(),
            q_random: kind(0),
            q_next: kind(1),
            q_current: kind(2),
            q_std: of_rows(values.std_dim(-1, true, false)),
        }
    });
    (loss, multiplier_loss, metrics)
}

/// The agent.
#[derive(Debug)]
pub struct Cql {
    config: CqlConfig,
    target_entropy: f64,
    actor: Net,
    critics: Net,
    log_alpha: Scalar,
    log_alpha_prime: Scalar,
    updates: u64,
}

const MULTIPLIER: &str = "actor.log_std_multiplier";
const OFFSET: &str = "actor.log_std_offset";

impl Cql {
    /// Fresh networks, from torch's generator, for this many observation and action columns.
    pub fn new(
        config: CqlConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
    ) -> Self {
        let critics = match config.orthogonal_init {
            true => Start::Orthogonal { last: 0.01 },
            false => Start::TorchSmallLast,
        };
        let starts = [Start::TorchSmallLast, critics];
        Self::starting(config, observations, actions, options, starts)
    }

    /// The same; actor and critics start so.
    pub(super) fn starting(
        config: CqlConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
        [actor_start, critic_start]: [Start; 2],
    ) -> Self {
        let layers = |input: i64, hidden: &[i64], output: i64| {
            let mut sizes = vec![input];
            sizes.extend_from_slice(hidden);
            sizes.push(output);
            sizes
        };
        let (kind, device) = options;
        let number = |name: &str, start: f64| ParamSpec {
            name: name.to_owned(),
            shape: vec![],
            init: Init::Constant(start),
        };
        let actor = Net::new(
            Mlp::one(
                "actor",
                &layers(observations, &config.actor_hidden, 2 * actions),
            )
            .starting(actor_start),
            &[
                number(MULTIPLIER, config.log_std_multiplier),
                number(OFFSET, config.log_std_offset),
            ],
            AdamConfig::new(config.policy_lr),
            kind,
            device,
        );
        let sizes = layers(observations + actions, &config.critic_hidden, 1);
        let critics = Net::new(
            Mlp::ensemble("critics", 2, &sizes).starting(critic_start),
            &[],
            AdamConfig::new(config.critic_lr),
            kind,
            device,
        )
        .with_target();
        Self {
            target_entropy: config.target_entropy.unwrap_or(-(actions as f64)),
            actor,
            critics,
            log_alpha: Scalar::new("log_alpha", 0.0, config.policy_lr, options),
            log_alpha_prime: Scalar::new("log_alpha_prime", 1.0, config.critic_lr, options),
            updates: 0,
            config,
        }
    }

    /// Hyperparameters.
    pub fn config(&self) -> &CqlConfig {
        &self.config
    }

    /// The policy's network: means, then log σ.
    pub fn actor(&self) -> &Net {
        &self.actor
    }

    /// The two critics.
    pub fn critics(&self) -> &Net {
        &self.critics
    }

    /// Log of the temperature.
    pub fn log_alpha(&self) -> &Scalar {
        &self.log_alpha
    }

    /// Log of α'.
    pub fn log_alpha_prime(&self) -> &Scalar {
        &self.log_alpha_prime
    }

    /// Another weight of the conservative part from now on.
    pub(super) fn set_weight(&mut self, weight: f64) {
        self.config.weight = weight;
    }

    fn drawn_from(&self, out: &Tensor) -> TanhGaussian {
        let own = |name: &str| self.actor.params().get(name);
        TanhGaussian::of_head(out, Some((own(MULTIPLIER), own(OFFSET))))
    }

    /// As [`Agent::update`]; `look` sees the gradients of each network ("actor", "critics", "log_alpha",
    /// "log_alpha_prime") before the steps, in the order of its parameters.
    pub fn update_with(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
    ) -> Figures {
        self.update_all(batch, draws, look, false, &Tensor::shallow_clone)
            .0
    }

    /// The same; `through` as in [`Agent::update_through`], `held` changes the values that the critics' loss is
    /// made of ([`critic_loss`]).
    pub(super) fn update_all(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
        through: bool,
        held: &dyn Fn(&Tensor) -> Tensor,
    ) -> (Figures, Option<Tensor>) {
        let (rows, n, config) = (batch.rows(), self.config.sampled_actions, &self.config);

        // Actor and temperature.
        let pass = self.actor.forward(&batch.observations);
        let alpha = self.log_alpha.value().exp() * config.alpha_multiplier;
        let (actor_grads, actor) = self.actor_gradients(batch, &pass, &alpha, draws);
        let log_alpha = self.log_alpha.leaf();
        let alpha_loss = log_temperature_loss(log_alpha, &actor.entropy, self.target_entropy);
        let alpha_grads = gradients(&alpha_loss, &[log_alpha]);

        // Critics: the target, and the sampled actions.
        let next_out = self.actor.value(&batch.next_observations);
        let next_values = self.next_values(batch, &next_out, &alpha, draws);
        let y = td::target(batch, config.discount, &next_values);
        let (sampled, log_density) = self.sampled(batch, &pass.out.detach(), &next_out, draws);
        let columns = 1 + 3 * n;
        let actions = Tensor::cat(&[&batch.actions.unsqueeze(1), &sampled], 1);
        let judged = (self.critics).forward(&beside(&batch.observations, &actions));
        let q = held(&judged.out.view([2, rows, columns]));
        let multiplier =
            (config.lagrange_gap).map(|_| self.log_alpha_prime.leaf().exp().clamp(0.0, 1e6));
        let (loss, loss_of_multiplier, critic) =
            critic_loss(&q, &y, &log_density, multiplier.as_ref(), config);
        let of_values = Tensor::run_backward(&[loss], &[&judged.out], multiplier.is_some(), false);
        let (critic_grads, taught) =
            (self.critics).backward_through(&judged, &of_values[0], through);
        // Each observation stands beside all of its actions.
        let taught = taught.map(|of_each| {
            let of_all = of_each.sum_dim_intlist(0, false, None::<Kind>);
            let of_rows =
                (of_all.view([rows, columns, -1])).sum_dim_intlist(1, false, None::<Kind>);
            of_rows.narrow(1, 0, batch.observations.size()[1])
        });
        let multiplier_grads = (multiplier.as_ref())
            .map(|_| gradients(&loss_of_multiplier, &[self.log_alpha_prime.leaf()]));

        // Steps.
        if let Some(grads) = multiplier_grads {
            look("log_alpha_prime", &grads);
            self.log_alpha_prime.step(grads[0].shallow_clone());
        }
        look("log_alpha", &alpha_grads);
        look("actor", &actor_grads);
        look("critics", &critic_grads);
        self.log_alpha.step(alpha_grads[0].shallow_clone());
        self.actor.step(&actor_grads);
        self.critics.step(&critic_grads);
        self.updates += 1;
        if self
            .updates
            .is_multiple_of(self.config.target_update_period)
        {
            self.critics.track(self.config.target_update_rate);
        }

        let multiplier =
            multiplier.map(|multiplier| (multiplier.detach(), loss_of_multiplier.detach()));
        let mut figures = figures(&critic, next_values.mean(None::<Kind>), multiplier);
        figures.0.extend([
            ("policy_loss", actor.actor_loss),
            ("log_pi", -actor.entropy),
            ("alpha_loss", alpha_loss.detach()),
            ("alpha", alpha),
        ]);
        (figures, taught)
    }

    /// Gradients of the actor's parameters, from its pass over the observations. It prefers what the critics value
    /// most, or while it only imitates, what the data has.
    fn actor_gradients(
        &self,
        batch: &Transitions,
        pass: &Pass,
        alpha: &Tensor,
        draws: &mut dyn Draws,
    ) -> (Vec<Tensor>, ActorMetrics) {
        let policy = self.drawn_from(&pass.out);
        let normal = draws.normal("policy", &batch.actions.size());
        let drawn = policy.sample(&normal, Squash::Exact);
        let own = [MULTIPLIER, OFFSET].map(|name| self.actor.params().get(name));
        let of = [&pass.out, own[0], own[1]];
        let (mut grads, metrics) = if self.updates < self.config.bc_steps {
            let of_data = policy.log_prob(&batch.actions).unsqueeze(0);
            let (loss, metrics) = actor_loss(&drawn.log_prob, &of_data, alpha, Judgement::Least);
            (gradients(&loss, &of), metrics)
        } else {
            let input = Tensor::cat(&[&batch.observations, &drawn.actions.detach()], 1);
            let judged = self.critics.forward(&input);
            let q = judged.out.squeeze_dim(-1);
            let (loss, metrics) = actor_loss(&drawn.log_prob, &q, alpha, Judgement::Least);
            let grads = policy_gradients(&loss, &self.critics, &judged, &drawn, &of);
            (grads, metrics)
        };
        let of_own = grads.split_off(1);
        (self.actor.backward(pass, &grads[0], of_own), metrics)
    }

    /// What the next observations are worth \[B\]: the lesser of the targets' values of one draw, or of the best of
    /// n draws, less α log π of it where the entropy counts.
    fn next_values(
        &self,
        batch: &Transitions,
        next_out: &Tensor,
        alpha: &Tensor,
        draws: &mut dyn Draws,
    ) -> Tensor {
        let config = &self.config;
        let (rows, actions) = (batch.rows(), batch.actions.size()[1]);
        let normal = match config.max_target_backup {
            true => draws.normal("target", &[rows, config.sampled_actions, actions]),
            false => draws.normal("target", &[rows, actions]).unsqueeze(1),
        };
        let n = normal.size()[1];
        no_grad(|| {
            let policy = self.drawn_from(next_out).repeated();
            let next = policy.sample(&normal, Squash::Exact);
            let input = beside(&batch.next_observations, &next.actions);
            let q = self.critics.target_value(&input).view([2, rows, n]);
            let (best, which) = q.amin(0, false).max_dim(1, true);
            let value = match config.backup_entropy {
                true => best - alpha * next.log_prob.gather(1, &which, false),
                false => best,
            };
            value.squeeze_dim(1)
        })
    }

    /// Actions to push down \[B, 3n, A\] and the log of the density that each comes from \[B, 3n\]: random ones,
    /// then the policy's at the next observation, then those at this one.
    fn sampled(
        &self,
        batch: &Transitions,
        out: &Tensor,
        next_out: &Tensor,
        draws: &mut dyn Draws,
    ) -> (Tensor, Tensor) {
        let (rows, n) = (batch.rows(), self.config.sampled_actions);
        let actions = batch.actions.size()[1];
        no_grad(|| {
            let random = draws.uniform("cql_random_actions", &[rows, n, actions]);
            let mut draw = |name, out: &Tensor| -> Sample {
                let normal = draws.normal(name, &[rows, n, actions]);
                self.drawn_from(out)
                    .repeated()
                    .sample(&normal, Squash::Exact)
            };
            let current = draw("cql_current", out);
            let next = draw("cql_next", next_out);
            // Uniform in ±1 of A columns.
            let of_random = -(actions as f64) * std::f64::consts::LN_2;
            let of_random = Tensor::full([rows, n], of_random, (out.kind(), out.device()));
            (
                Tensor::cat(&[&random, &next.actions, &current.actions], 1),
                Tensor::cat(&[&of_random, &next.log_prob, &current.log_prob], 1),
            )
        })
    }
}

/// Each observation \[B, O\] beside each of its k actions \[B, k, A\]: \[B·k, O + A\].
fn beside(observations: &Tensor, actions: &Tensor) -> Tensor {
    let count = actions.size()[1];
    let observations = observations.unsqueeze(1).expand([-1, count, -1], true);
    Tensor::cat(&[&observations, actions], 2).flatten(0, 1)
}

/// Under CORL's names.
fn figures(c: &CriticMetrics, next_value: Tensor, multiplier: Option<(Tensor, Tensor)>) -> Figures {
    let (alpha_prime, alpha_prime_loss) =
        multiplier.unwrap_or_else(|| (next_value.zeros_like(), next_value.zeros_like()));
    Figures(vec![
        ("qf1_loss", c.td_loss.get(0)),
        ("qf2_loss", c.td_loss.get(1)),
        ("cql_min_qf1_loss", c.conservative_loss.get(0)),
        ("cql_min_qf2_loss", c.conservative_loss.get(1)),
        ("cql_qf1_diff", c.diff.get(0)),
        ("cql_qf2_diff", c.diff.get(1)),
        ("cql_q1_rand", c.q_random.get(0)),
        ("cql_q2_rand", c.q_random.get(1)),
        ("cql_q1_next_actions", c.q_next.get(0)),
        ("cql_q2_next_actions", c.q_next.get(1)),
        ("cql_q1_current_actions", c.q_current.get(0)),
        ("cql_q2_current_actions", c.q_current.get(1)),
        ("cql_std_q1", c.q_std.get(0)),
        ("cql_std_q2", c.q_std.get(1)),
        ("average_target_q", next_value),
        ("alpha_prime", alpha_prime),
        ("alpha_prime_loss", alpha_prime_loss),
    ])
}

impl Agent for Cql {
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        self.update_all(
            batch,
            draws,
            &mut |_, _| (),
            through,
            &Tensor::shallow_clone,
        )
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn policy(&self) -> Policy<'_> {
        let scale = Some((MULTIPLIER, OFFSET));
        Policy::new(&self.actor, Head::TanhGaussian { scale })
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        Some(td::least(&self.critics, observations, actions))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.actor.state("actor");
        state.extend(self.critics.state("critics"));
        state.extend(self.log_alpha.state());
        state.extend(self.log_alpha_prime.state());
        state
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.actor.restore("actor", state);
        self.critics.restore("critics", state);
        self.log_alpha.restore(state);
        self.log_alpha_prime.restore(state);
        self.updates = updates;
    }
}
