//! RLPD: reinforcement learning with prior data (Ball et al. 2023, arXiv 2302.02948), in its authors' form
//! (ikostrikov/rlpd@c90fd4b, `rlpd/agents/sac/sac_learner.py` and `configs/rlpd_config.py`).
//!
//! Online learning that begins with data at hand: half of every batch is from it, which whoever samples sees
//! to (the two sources row by row in turn, so that every part has both). The agent is REDQ's ensemble with
//! LayerNorm in the critics, which bounds what they make of actions that nobody has tried.
//!
//! One [`Agent::update`] takes a batch of `update_to_data` equal parts: one critic update for each, then one of
//! policy and temperature on the last, with the critics after their steps. That order, the mean of the squared
//! errors, and the temperature's loss differ from [`super::redq`].

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    Agent, Draws, Figures, Transitions, gradients,
    policy::{Head, Policy},
    sac::{self, Errors, Judgement, Plan, SoftActorCritic, temperature_loss},
    tanh_gaussian::Squash,
    td::{self, CriticMetrics},
};

/// Hyperparameters. The default is the authors' `rlpd_config` with the ratio of their README.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RlpdConfig {
    /// N.
    pub critics: i64,
    /// M: how many of the target critics are asked; absent: all.
    pub asked: Option<i64>,
    /// Critic updates in one [`Agent::update`].
    pub update_to_data: i64,
    /// γ.
    pub discount: f64,
    /// Step size of the actor.
    pub actor_lr: f64,
    /// Step size of the critics.
    pub critic_lr: f64,
    /// Step size of the temperature.
    pub temperature_lr: f64,
    /// Decoupled weight decay of the critics, but for their biases.
    pub critic_weight_decay: Option<f64>,
    /// LayerNorm in the critics.
    pub critic_layer_norm: bool,
    /// τ of the target networks.
    pub target_update_rate: f64,
    /// Entropy that the temperature steers to; absent: −A/2.
    pub target_entropy: Option<f64>,
    /// Start of the temperature.
    pub initial_temperature: f64,
    /// Whether the target counts the next action's entropy.
    pub backup_entropy: bool,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<i64>,
}

impl Default for RlpdConfig {
    fn default() -> Self {
        Self {
            critics: 10,
            asked: Some(2),
            update_to_data: 20,
            discount: 0.99,
            actor_lr: 3e-4,
            critic_lr: 3e-4,
            temperature_lr: 3e-4,
            critic_weight_decay: None,
            critic_layer_norm: true,
            target_update_rate: 5e-3,
            target_entropy: None,
            initial_temperature: 1.0,
            backup_entropy: true,
            hidden: vec![256; 2],
        }
    }
}

/// The agent.
#[derive(Debug)]
pub struct Rlpd {
    config: RlpdConfig,
    target_entropy: f64,
    networks: SoftActorCritic,
    updates: u64,
}

impl Rlpd {
    /// Fresh networks, from torch's generator, for this many observation and action columns.
    pub fn new(
        config: RlpdConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
    ) -> Self {
        let networks = SoftActorCritic::new(Plan {
            observations,
            actions,
            hidden: &config.hidden,
            critics: config.critics,
            normed: config.critic_layer_norm,
            critic_weight_decay: config.critic_weight_decay.unwrap_or(0.0),
            actor_lr: config.actor_lr,
            critic_lr: config.critic_lr,
            temperature_lr: config.temperature_lr,
            log_alpha: config.initial_temperature.ln(),
            squash: Squash::Exact,
            options,
        });
        Self {
            target_entropy: config.target_entropy.unwrap_or(-(actions as f64) / 2.0),
            networks,
            updates: 0,
            config,
        }
    }

    /// Its networks.
    pub fn networks(&self) -> &SoftActorCritic {
        &self.networks
    }

    /// A step of the critics and their targets.
    fn update_critics(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (CriticMetrics, Option<Tensor>) {
        let config = &self.config;
        let nets = &mut self.networks;
        let asked = config.asked.filter(|&asked| asked != config.critics);
        let alpha = config.backup_entropy.then(|| nets.log_alpha.value().exp());
        let next_values = nets.next_values(batch, asked, alpha.as_ref(), draws);
        let y = td::target(batch, config.discount, &next_values);
        let (grads, metrics, taught) = nets.critic_gradients(batch, &y, Errors::Averaged, through);
        nets.critics.step(&grads);
        nets.critics.track(config.target_update_rate);
        (metrics, taught)
    }

    /// As [`Agent::update`], with the metrics of every critic update.
    pub fn update_with(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
    ) -> (Vec<CriticMetrics>, Figures) {
        let (critics, figures, _) = self.update_all(batch, draws, false);
        (critics, figures)
    }

    /// The same; with `through` also the gradient at the observations, each part's at its rows.
    fn update_all(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Vec<CriticMetrics>, Figures, Option<Tensor>) {
        let parts = self.config.update_to_data;
        let (critics, taught): (Vec<CriticMetrics>, Vec<Option<Tensor>>) = (0..parts)
            .map(|i| self.update_critics(&sac::part(batch, i, parts), draws, through))
            .unzip();
        let last = sac::part(batch, parts - 1, parts);
        let nets = &mut self.networks;
        let alpha = nets.log_alpha.value().exp();
        let (grads, actor) = nets.actor_gradients(&last, &alpha, Judgement::Mean, draws);
        nets.actor.step(&grads);
        let log_alpha = nets.log_alpha.leaf();
        let loss = temperature_loss(log_alpha, &actor.entropy, self.target_entropy);
        let grads = gradients(&loss, &[log_alpha]);
        nets.log_alpha.step(grads[0].shallow_clone());
        self.updates += 1;
        let figures = Figures(vec![
            ("actor_loss", actor.actor_loss),
            ("entropy", actor.entropy),
            ("temperature", alpha),
            ("temperature_loss", loss.detach()),
        ]);
        let taught: Option<Vec<Tensor>> = taught.into_iter().collect();
        (critics, figures, taught.map(|parts| Tensor::cat(&parts, 0)))
    }
}

impl Agent for Rlpd {
    /// The critics' figures are the last critic update's, as the authors'.
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        let (critics, mut figures, taught) = self.update_all(batch, draws, through);
        if let Some(last) = critics.into_iter().last() {
            figures.0.extend(last.figures());
        }
        (figures, taught)
    }

    fn parts(&self) -> i64 {
        self.config.update_to_data
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn policy(&self) -> Policy<'_> {
        Policy::new(&self.networks.actor, Head::TanhGaussian { scale: None })
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        let judgement = Judgement::Mean;
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
