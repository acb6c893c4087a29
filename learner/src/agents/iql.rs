//! IQL, implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169): V is an expectile of Q over the data's
//! actions, Q is learned from V, and the policy imitates the data's actions weighted by their advantage. No
//! action that is not in the data is ever asked for its value.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    Agent, Draws, Figures, Transitions,
    gaussian::{self, LOG_STD},
    gradients,
    net::Net,
    policy::{Head, Policy},
    td::{self, CriticMetrics},
};
use crate::nn::{AdamConfig, Mlp};

/// Hyperparameters. The default is CORL's (tinkoff-ai/CORL@6afec90, `iql.py`), but for the noise to explore
/// with, which is that of its `finetune/iql.py`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IqlConfig {
    /// γ.
    pub discount: f64,
    /// τ of the critics' target.
    pub tau: f64,
    /// The expectile that V is of Q (CORL: `iql_tau`; .9 for its antmaze).
    pub expectile: f64,
    /// β: weight exp(β advantage) of an action (10 for CORL's antmaze).
    pub beta: f64,
    /// Where that weight is clamped.
    pub max_weight: f64,
    /// The policy is tanh(f(s)) itself; else a Gaussian around it.
    pub deterministic: bool,
    /// Step size of the actor at the start; it falls along a cosine.
    pub lr_actor: f64,
    /// Updates until the actor's step size is 0; if it goes on, it rises again in as many. Absent: those of the
    /// training offline (`offline.updates`), as in CORL; an agent made without it keeps its step size.
    pub actor_updates: Option<u64>,
    /// Step size of the critics.
    pub lr_q: f64,
    /// Step size of V.
    pub lr_v: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// Standard deviation of the noise that a deterministic policy explores with.
    pub exploration_noise: f64,
}

impl Default for IqlConfig {
    fn default() -> Self {
        Self {
            discount: 0.99,
            tau: 0.005,
            expectile: 0.7,
            beta: 3.0,
            max_weight: 100.0,
            deterministic: false,
            lr_actor: 3e-4,
            actor_updates: None,
            lr_q: 3e-4,
            lr_v: 3e-4,
            hidden: vec![256, 256],
            exploration_noise: 0.03,
        }
    }
}

/// The agent: V, two critics with their target, and a policy.
#[derive(Debug)]
pub struct Iql {
    config: IqlConfig,
    v: Net,
    critics: Net,
    actor: Net,
    updates: u64,
}

/// What V's loss saw.
#[derive(Debug)]
pub struct ValueMetrics {
    /// The loss.
    pub loss: Tensor,
    /// Mean of V.
    pub v: Tensor,
    /// Mean advantage.
    pub advantage: Tensor,
}

impl ValueMetrics {
    /// By name.
    pub fn figures(self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("value_loss", self.loss),
            ("v", self.v),
            ("advantage", self.advantage),
        ]
    }
}

/// Mean of |τ − \[u < 0\]| u², where u = Q − V is the advantage: V and the target's Q \[B\].
pub fn value_loss(expectile: f64, v: &Tensor, q: &Tensor) -> (Tensor, ValueMetrics) {
    assert_eq!(v.size(), q.size());
    assert_eq!(v.dim(), 1);
    let advantage = q - v;
    let below = advantage.detach().lt(0.0).to_kind(v.kind());
    let weight = (below - expectile).abs();
    let loss = (weight * advantage.square()).mean(None::<Kind>);
    let metrics = ValueMetrics {
        loss: loss.detach(),
        v: v.detach().mean(None::<Kind>),
        advantage: advantage.detach().mean(None::<Kind>),
    };
    (loss, metrics)
}

/// Mean over critics and batch of the squared error: values \[N, B\], one target \[B\].
pub fn critic_loss(q: &Tensor, target: &Tensor) -> (Tensor, CriticMetrics) {
    let loss = td::squared_errors(q, target).mean(None::<Kind>);
    let metrics = CriticMetrics::new(&loss, q, target);
    (loss, metrics)
}

/// What the actor's loss saw.
#[derive(Debug)]
pub struct ActorMetrics {
    /// The loss.
    pub loss: Tensor,
    /// Mean weight.
    pub weight: Tensor,
}

impl ActorMetrics {
    /// By name.
    pub fn figures(self) -> Vec<(&'static str, Tensor)> {
        vec![("actor_loss", self.loss), ("weight", self.weight)]
    }
}

/// Mean of weight × how far the policy is from an action: −log π(a), or |π − a|². All \[B\]; weights take no
/// gradient.
pub fn actor_loss(weights: &Tensor, distances: &Tensor) -> (Tensor, ActorMetrics) {
    assert_eq!(weights.size(), distances.size());
    assert_eq!(weights.dim(), 1);
    let loss = (weights.detach() * distances).mean(None::<Kind>);
    let metrics = ActorMetrics {
        loss: loss.detach(),
        weight: weights.mean(None::<Kind>),
    };
    (loss, metrics)
}

/// Step size of update number `update`, from 1: lr/2 (1 + cos(π (update − 1) / updates)). Behind the end it rises
/// again, as torch's `CosineAnnealingLR` does: online that is what moves the actor.
pub fn cosine(lr: f64, update: u64, updates: u64) -> f64 {
    let done = (update - 1) as f64 / updates as f64;
    lr / 2.0 * (1.0 + (std::f64::consts::PI * done).cos())
}

impl Iql {
    /// Fresh networks, from torch's generator, for observations and actions of these sizes. The critics'
    /// target starts as a copy.
    pub fn new(
        config: IqlConfig,
        observation: i64,
        action: i64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let sizes = |input, output| [&[input], config.hidden.as_slice(), &[output]].concat();
        let net = |mlp: Mlp, lr| Net::new(mlp.as_torch(), &[], AdamConfig::new(lr), kind, device);
        let v = Mlp::one("v", &sizes(observation, 1));
        let critics = Mlp::ensemble("critics", 2, &sizes(observation + action, 1));
        let policy = sizes(observation, action);
        let actor = match config.deterministic {
            true => net(Mlp::one("actor", &policy), config.lr_actor),
            false => gaussian::net(&policy, AdamConfig::new(config.lr_actor), kind, device),
        };
        Self {
            v: net(v, config.lr_v),
            critics: net(critics, config.lr_q).with_target(),
            actor,
            config,
            updates: 0,
        }
    }

    /// V.
    pub fn v(&self) -> &Net {
        &self.v
    }

    /// Both critics.
    pub fn critics(&self) -> &Net {
        &self.critics
    }

    /// The policy's network.
    pub fn actor(&self) -> &Net {
        &self.actor
    }

    /// V's step. Gives the advantages \[B\] before it.
    fn update_value(
        &mut self,
        batch: &Transitions,
        state_actions: &Tensor,
    ) -> (Tensor, ValueMetrics) {
        let q = self
            .critics
            .target_value(state_actions)
            .squeeze_dim(-1)
            .amin(0, false);
        let pass = self.v.forward(&batch.observations);
        let v = pass.out.squeeze_dim(-1);
        let (loss, metrics) = value_loss(self.config.expectile, &v, &q);
        let grad = gradients(&loss, &[&pass.out]);
        let grads = self.v.backward(&pass, &grad[0], vec![]);
        self.v.step(&grads);
        (q - v.detach(), metrics)
    }

    fn update_critics(
        &mut self,
        batch: &Transitions,
        state_actions: &Tensor,
        next_v: &Tensor,
        through: bool,
    ) -> (CriticMetrics, Option<Tensor>) {
        let target = td::target(batch, self.config.discount, next_v);
        td::step(
            &mut self.critics,
            batch,
            state_actions,
            &target,
            critic_loss,
            through,
        )
    }

    fn update_actor(&mut self, batch: &Transitions, advantages: &Tensor) -> ActorMetrics {
        let c = &self.config;
        let weights = (advantages * c.beta).exp().clamp_max(c.max_weight);
        let pass = self.actor.forward(&batch.observations);
        let mean = pass.out.tanh();
        let (grads, metrics) = match c.deterministic {
            true => {
                let away = (&mean - &batch.actions).square();
                let away = away.sum_dim_intlist(1, false, None::<Kind>);
                let (loss, metrics) = actor_loss(&weights, &away);
                let grad = gradients(&loss, &[&pass.out]);
                (self.actor.backward(&pass, &grad[0], vec![]), metrics)
            }
            false => {
                let log_std = self.actor.params().get(LOG_STD);
                let away = -gaussian::log_prob(&mean, log_std, &batch.actions);
                let (loss, metrics) = actor_loss(&weights, &away);
                let mut grad = gradients(&loss, &[&pass.out, log_std]);
                let of_log_std = grad.split_off(1);
                (self.actor.backward(&pass, &grad[0], of_log_std), metrics)
            }
        };
        if let Some(updates) = c.actor_updates {
            let lr = cosine(c.lr_actor, self.updates, updates);
            self.actor.set_lr(lr);
        }
        self.actor.step(&grads);
        metrics
    }
}

impl Agent for Iql {
    fn update_through(
        &mut self,
        batch: &Transitions,
        _: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        self.updates += 1;
        let state_actions = td::joined(&batch.observations, &batch.actions);
        let next_v = self.v.value(&batch.next_observations).squeeze_dim(-1);
        let (advantages, value) = self.update_value(batch, &state_actions);
        let (critics, taught) = self.update_critics(batch, &state_actions, &next_v, through);
        self.critics.track(self.config.tau);
        let actor = self.update_actor(batch, &advantages);
        let figures = [value.figures(), critics.figures(), actor.figures()];
        (Figures(figures.into_iter().flatten().collect()), taught)
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn policy(&self) -> Policy<'_> {
        let head = match self.config.deterministic {
            true => Head::Tanh {
                most: 1.0,
                noise: self.config.exploration_noise,
            },
            false => Head::TanhMean,
        };
        Policy::new(&self.actor, head)
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        Some(td::least(&self.critics, observations, actions))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.v.state("v");
        state.extend(self.critics.state("critics"));
        state.extend(self.actor.state("actor"));
        state
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.v.restore("v", state);
        self.critics.restore("critics", state);
        self.actor.restore("actor", state);
        self.updates = updates;
    }
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn the_step_size_falls_to_zero_and_rises_again() {
        let wanted = [(1, 2.0), (6, 1.0), (11, 0.0), (16, 1.0), (21, 2.0)];
        for (update, lr) in wanted {
            assert!((cosine(2.0, update, 10) - lr).abs() < 1e-12, "{update}");
        }
    }
}
