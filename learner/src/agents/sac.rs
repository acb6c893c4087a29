//! SAC: soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), and what those that grew from it share.
//!
//! Critics learn the reward plus the discounted value of what the policy would do next, its entropy included;
//! the policy learns to please them while staying random; a temperature α weighs the two and steers the
//! entropy to a given one.
//!
//! [`super::redq`] and [`super::rlpd`] do the same with N critics, M of which are asked for a target, and with
//! several critic updates for one of the policy. SAC is the case N = M = 2 and one update, but for the
//! actor's loss: here it is about the lesser critic's judgement, there about the mean of all.
//!
//! Shapes: B rows, O observation columns, A action columns, N critics.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    Agent, Draws, Figures, Transitions, gradients,
    net::Net,
    policy::{Head, Policy},
    scalar::Scalar,
    tanh_gaussian::{Squash, TanhGaussian, policy_gradients},
    td::{self, CriticMetrics},
};
use crate::nn::{AdamConfig, Mlp};

/// Hyperparameters. The default is the paper's table 1, with the automatic temperature of its section 5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SacConfig {
    /// γ.
    pub discount: f64,
    /// Step size of every Adam.
    pub lr: f64,
    /// τ of the target networks.
    pub target_update_rate: f64,
    /// Entropy that the temperature steers to; absent: −A.
    pub target_entropy: Option<f64>,
    /// Start of the temperature; the paper has none, this is CleanRL's and most others'.
    pub initial_temperature: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<i64>,
}

impl Default for SacConfig {
    fn default() -> Self {
        Self {
            discount: 0.99,
            lr: 3e-4,
            target_update_rate: 5e-3,
            target_entropy: None,
            initial_temperature: 1.0,
            hidden: vec![256; 2],
        }
    }
}

// --- losses --------------------------------------------------------------------------------

/// How the critics' squared errors become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// Sum over the critics of each one's mean: SAC, REDQ.
    Summed,
    /// Mean over critics and rows: RLPD.
    Averaged,
}

/// Squared errors of Q \[N, B\] to y \[B\].
pub fn critic_loss(q: &Tensor, y: &Tensor, errors: Errors) -> (Tensor, CriticMetrics) {
    let of_each = td::squared_errors(q, y);
    let loss = match errors {
        Errors::Summed => of_each.sum(None::<Kind>),
        Errors::Averaged => of_each.mean(None::<Kind>),
    };
    let metrics = CriticMetrics::new(&loss, q, y);
    (loss, metrics)
}

/// What an actor makes of its critics' judgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The least: SAC, CQL.
    Least,
    /// The mean: REDQ, RLPD.
    Mean,
}

impl Judgement {
    /// Q \[N, B\] to \[B\].
    pub fn of(self, q: &Tensor) -> Tensor {
        match self {
            Self::Least => q.amin(0, false),
            Self::Mean => q.mean_dim(0, false, None::<Kind>),
        }
    }
}

/// What an actor's loss saw; all \[\].
#[derive(Debug)]
pub struct ActorMetrics {
    /// The loss.
    pub actor_loss: Tensor,
    /// −mean log π.
    pub entropy: Tensor,
}

/// mean(α log π − Q) for log π \[B\], Q \[N, B\] of the same actions, and α \[\].
pub fn actor_loss(
    log_prob: &Tensor,
    q: &Tensor,
    alpha: &Tensor,
    judgement: Judgement,
) -> (Tensor, ActorMetrics) {
    let [_, rows] = q.size()[..] else {
        panic!("Q must be [N, B], not {:?}", q.size())
    };
    assert_eq!(log_prob.size(), [rows]);
    let loss = (alpha * log_prob - judgement.of(q)).mean(None::<Kind>);
    let metrics = ActorMetrics {
        actor_loss: loss.detach(),
        entropy: -log_prob.detach().mean(None::<Kind>),
    };
    (loss, metrics)
}

/// α (entropy − target entropy), for α = exp(log α): SAC, RLPD.
pub fn temperature_loss(log_alpha: &Tensor, entropy: &Tensor, target_entropy: f64) -> Tensor {
    log_alpha.exp() * (entropy - target_entropy)
}

/// log α (entropy − target entropy): CQL, REDQ.
pub fn log_temperature_loss(log_alpha: &Tensor, entropy: &Tensor, target_entropy: f64) -> Tensor {
    log_alpha * (entropy - target_entropy)
}

// --- what SAC, REDQ and RLPD are made of ---------------------------------------------------

/// An actor, N critics with their targets, and log α, each with its optimizer.
#[derive(Debug)]
pub struct SoftActorCritic {
    /// The policy: means, then log σ.
    pub actor: Net,
    /// The critics.
    pub critics: Net,
    /// Log of the temperature.
    pub log_alpha: Scalar,
    squash: Squash,
}

/// What they are to be.
pub(super) struct Plan<'a> {
    pub(super) observations: i64,
    pub(super) actions: i64,
    pub(super) hidden: &'a [i64],
    pub(super) critics: i64,
    /// Critics with LayerNorm.
    pub(super) normed: bool,
    /// Weight decay of the critics' weights, not of their biases.
    pub(super) critic_weight_decay: f64,
    pub(super) actor_lr: f64,
    pub(super) critic_lr: f64,
    pub(super) temperature_lr: f64,
    pub(super) log_alpha: f64,
    pub(super) squash: Squash,
    pub(super) options: (Kind, Device),
}

impl SoftActorCritic {
    pub(super) fn new(plan: Plan) -> Self {
        let layers = |input: i64, output: i64| {
            let mut sizes = vec![input];
            sizes.extend_from_slice(plan.hidden);
            sizes.push(output);
            sizes
        };
        let (kind, device) = plan.options;
        let actor = Mlp::one("actor", &layers(plan.observations, 2 * plan.actions));
        let sizes = layers(plan.observations + plan.actions, 1);
        let critics = Mlp::ensemble("critics", plan.critics, &sizes);
        let critics = match plan.normed {
            true => critics.normed(),
            false => critics,
        };
        let critic_adam = AdamConfig {
            weight_decay: plan.critic_weight_decay,
            ..AdamConfig::new(plan.critic_lr)
        };
        Self {
            actor: Net::new(actor, &[], AdamConfig::new(plan.actor_lr), kind, device),
            critics: Net::new(critics, &[], critic_adam, kind, device)
                .decaying(|name| !name.ends_with("bias"))
                .with_target(),
            log_alpha: Scalar::new(
                "log_alpha",
                plan.log_alpha,
                plan.temperature_lr,
                plan.options,
            ),
            squash: plan.squash,
        }
    }

    /// min Q̄(s', a') \[B\] over `asked` of the targets, or all, at the policy's draw a', less α' log π' where
    /// the entropy counts.
    pub(super) fn next_values(
        &self,
        batch: &Transitions,
        asked: Option<i64>,
        entropy: Option<&Tensor>,
        draws: &mut dyn Draws,
    ) -> Tensor {
        no_grad(|| {
            let observations = &batch.next_observations;
            let normal = draws.normal("next_action", &batch.actions.size());
            let policy = TanhGaussian::of_head(&self.actor.value(observations), None);
            let next = policy.sample(&normal, self.squash);
            let input = td::joined(observations, &next.actions);
            let q = match asked {
                Some(asked) => {
                    let all = self.critics.params().leaf(0).size()[0];
                    let members = draws.members("ensemble_idx", asked, all);
                    self.critics.target_value_of(&members, &input)
                }
                None => self.critics.target_value(&input),
            };
            let least = q.squeeze_dim(-1).amin(0, false);
            assert_eq!(least.size(), [batch.rows()]);
            match entropy {
                Some(alpha) => least - alpha * next.log_prob,
                None => least,
            }
        })
    }

    /// Gradients of the critics' parameters, and with `through` that of the observations \[B, O\].
    pub(super) fn critic_gradients(
        &self,
        batch: &Transitions,
        y: &Tensor,
        errors: Errors,
        through: bool,
    ) -> (Vec<Tensor>, CriticMetrics, Option<Tensor>) {
        let state_actions = td::joined(&batch.observations, &batch.actions);
        let loss = |q: &Tensor, y: &Tensor| critic_loss(q, y, errors);
        td::critic_gradients(&self.critics, batch, &state_actions, y, loss, through)
    }

    pub(super) fn actor_gradients(
        &self,
        batch: &Transitions,
        alpha: &Tensor,
        judgement: Judgement,
        draws: &mut dyn Draws,
    ) -> (Vec<Tensor>, ActorMetrics) {
        let normal = draws.normal("action", &batch.actions.size());
        let pass = self.actor.forward(&batch.observations);
        let drawn = TanhGaussian::of_head(&pass.out, None).sample(&normal, self.squash);
        let input = td::joined(&batch.observations, &drawn.actions.detach());
        let judged = self.critics.forward(&input);
        let q = judged.out.squeeze_dim(-1);
        let (loss, metrics) = actor_loss(&drawn.log_prob, &q, alpha, judgement);
        let of_out = policy_gradients(&loss, &self.critics, &judged, &drawn, &[&pass.out]);
        (self.actor.backward(&pass, &of_out[0], vec![]), metrics)
    }

    pub(super) fn value(
        &self,
        observations: &Tensor,
        actions: &Tensor,
        judgement: Judgement,
    ) -> Tensor {
        let q = self.critics.value(&td::joined(observations, actions));
        judgement.of(&q.squeeze_dim(-1))
    }

    pub(super) fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.actor.state("actor");
        state.extend(self.critics.state("critics"));
        state.extend(self.log_alpha.state());
        state
    }

    pub(super) fn restore(&mut self, state: &[(String, Tensor)]) {
        self.actor.restore("actor", state);
        self.critics.restore("critics", state);
        self.log_alpha.restore(state);
    }
}

/// The `part`th of `parts` equal parts of a batch, whose rows they must divide.
pub(super) fn part(batch: &Transitions, part: i64, parts: i64) -> Transitions {
    let rows = batch.rows() / parts;
    assert_eq!(rows * parts, batch.rows(), "{parts} parts of the batch");
    let of = |tensor: &Tensor| tensor.narrow(0, part * rows, rows);
    Transitions {
        observations: of(&batch.observations),
        actions: of(&batch.actions),
        rewards: of(&batch.rewards),
        next_observations: of(&batch.next_observations),
        masks: of(&batch.masks),
        returns: batch.returns.as_ref().map(of),
    }
}

// --- SAC -----------------------------------------------------------------------------------

/// The agent.
#[derive(Debug)]
pub struct Sac {
    config: SacConfig,
    target_entropy: f64,
    networks: SoftActorCritic,
    updates: u64,
}

impl Sac {
    /// Fresh networks, from torch's generator, for this many observation and action columns.
    pub fn new(
        config: SacConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
    ) -> Self {
        let networks = SoftActorCritic::new(Plan {
            observations,
            actions,
            hidden: &config.hidden,
            critics: 2,
            normed: false,
            critic_weight_decay: 0.0,
            actor_lr: config.lr,
            critic_lr: config.lr,
            temperature_lr: config.lr,
            log_alpha: config.initial_temperature.ln(),
            squash: Squash::Exact,
            options,
        });
        Self {
            target_entropy: config.target_entropy.unwrap_or(-(actions as f64)),
            networks,
            updates: 0,
            config,
        }
    }

    /// Its networks.
    pub fn networks(&self) -> &SoftActorCritic {
        &self.networks
    }

    /// A step of the critics and their targets; `through` as in [`Agent::update_through`].
    pub fn update_critics(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (CriticMetrics, Option<Tensor>) {
        let nets = &mut self.networks;
        let alpha = nets.log_alpha.value().exp();
        let next_values = nets.next_values(batch, None, Some(&alpha), draws);
        let y = td::target(batch, self.config.discount, &next_values);
        let (grads, metrics, taught) = nets.critic_gradients(batch, &y, Errors::Summed, through);
        nets.critics.step(&grads);
        nets.critics.track(self.config.target_update_rate);
        (metrics, taught)
    }
}

impl Agent for Sac {
    /// Critics, then actor and temperature with the critics after their step.
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        let (critic, taught) = self.update_critics(batch, draws, through);
        let nets = &mut self.networks;
        let alpha = nets.log_alpha.value().exp();
        let (grads, actor) = nets.actor_gradients(batch, &alpha, Judgement::Least, draws);
        nets.actor.step(&grads);
        let log_alpha = nets.log_alpha.leaf();
        let loss = temperature_loss(log_alpha, &actor.entropy, self.target_entropy);
        let grads = gradients(&loss, &[log_alpha]);
        nets.log_alpha.step(grads[0].shallow_clone());
        self.updates += 1;
        let mut figures = critic.figures();
        figures.extend([
            ("actor_loss", actor.actor_loss),
            ("entropy", actor.entropy),
            ("temperature", alpha),
            ("temperature_loss", loss.detach()),
        ]);
        (Figures(figures), taught)
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn policy(&self) -> Policy<'_> {
        Policy::new(&self.networks.actor, Head::TanhGaussian { scale: None })
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        let judgement = Judgement::Least;
        Some(self.networks.value(observations, actions, judgement))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.networks.state()
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.networks.restore(state);
        self.updates = updates;
    }
}
