//! REDQ: randomized ensembled double Q-learning (Chen et al. 2021, arXiv 2101.05982), in its authors' form
//! (watchernyu/REDQ@7b5d1bf, `redq/algos/redq_sac.py`).
//!
//! Each step of experience is learned from many times (the update-to-data ratio). What keeps that from
//! overestimating: N critics, of which each target asks M drawn at random for their least judgement. The
//! policy learns from the mean of all N.
//!
//! One [`Agent::update`] is what follows one step of experience: the batch holds `update_to_data` equal parts,
//! one for each critic update, and the policy learns in every `policy_delay`th of these and the last. With
//! N = M = 2 and 1 of each it is SAC but for the mean.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    Agent, Draws, Figures, Transitions, gradients,
    policy::{Head, Policy},
    sac::{self, Errors, Judgement, Plan, SoftActorCritic, log_temperature_loss},
    tanh_gaussian::Squash,
    td,
};

/// Hyperparameters. The default is the constructor's of the authors' `REDQSACAgent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedqConfig {
    /// N.
    pub critics: i64,
    /// M: how many of the target critics are asked.
    pub asked: i64,
    /// Critic updates in one [`Agent::update`].
    pub update_to_data: i64,
    /// The policy learns in every so manyth of them, and in the last.
    pub policy_delay: i64,
    /// γ.
    pub discount: f64,
    /// Step size of every Adam.
    pub lr: f64,
    /// τ of the target networks (1 − the authors' `polyak`).
    pub target_update_rate: f64,
    /// Entropy that the temperature steers to; absent: −A. (The authors' table after MBPO: Hopper −1,
    /// HalfCheetah and Walker2d −3, Ant −4, Humanoid −2.)
    pub target_entropy: Option<f64>,
    /// The temperature until log α's first step, after which it is exp(log α), and log α starts at 0: the
    /// authors' code does so.
    pub first_temperature: f64,
    /// Widths of the hidden layers of actor and critics.
    pub hidden: Vec<i64>,
}

impl Default for RedqConfig {
    fn default() -> Self {
        Self {
            critics: 10,
            asked: 2,
            update_to_data: 20,
            policy_delay: 20,
            discount: 0.99,
            lr: 3e-4,
            target_update_rate: 5e-3,
            target_entropy: None,
            first_temperature: 0.2,
            hidden: vec![256; 2],
        }
    }
}

/// The agent.
#[derive(Debug)]
pub struct Redq {
    config: RedqConfig,
    target_entropy: f64,
    networks: SoftActorCritic,
    updates: u64,
}

impl Redq {
    /// Fresh networks, from torch's generator, for this many observation and action columns.
    pub fn new(
        config: RedqConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
    ) -> Self {
        let networks = SoftActorCritic::new(Plan {
            observations,
            actions,
            hidden: &config.hidden,
            critics: config.critics,
            normed: false,
            critic_weight_decay: 0.0,
            actor_lr: config.lr,
            critic_lr: config.lr,
            temperature_lr: config.lr,
            log_alpha: 0.0,
            squash: Squash::Guarded,
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

    /// The temperature in use \[\].
    pub fn temperature(&self) -> Tensor {
        let log_alpha = &self.networks.log_alpha;
        match log_alpha.steps() {
            0 => log_alpha.value().full_like(self.config.first_temperature),
            _ => log_alpha.value().exp(),
        }
    }

    /// Whether the policy learns in the `inner`th critic update, from 0.
    fn policy_is_due(&self, inner: i64) -> bool {
        (inner + 1) % self.config.policy_delay == 0 || inner + 1 == self.config.update_to_data
    }

    /// One critic update, and one of policy and temperature where it is `due`. Gradients are of the parameters
    /// before any step, but that the temperature's step comes before the critics'.
    fn update_once(
        &mut self,
        batch: &Transitions,
        (due, through): (bool, bool),
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
    ) -> (Figures, Option<Tensor>) {
        let asked = (self.config.asked != self.config.critics).then_some(self.config.asked);
        let alpha = self.temperature();
        let nets = &mut self.networks;
        let next_values = nets.next_values(batch, asked, Some(&alpha), draws);
        let y = td::target(batch, self.config.discount, &next_values);
        let (critic_grads, critic, taught) =
            nets.critic_gradients(batch, &y, Errors::Summed, through);
        look("critics", &critic_grads);
        let mut figures = critic.figures();
        let actor_grads = due.then(|| {
            let (grads, actor) = nets.actor_gradients(batch, &alpha, Judgement::Mean, draws);
            look("actor", &grads);
            let log_alpha = nets.log_alpha.leaf();
            let loss = log_temperature_loss(log_alpha, &actor.entropy, self.target_entropy);
            let alpha_grads = gradients(&loss, &[log_alpha]);
            look("log_alpha", &alpha_grads);
            nets.log_alpha.step(alpha_grads[0].shallow_clone());
            figures.extend([
                ("actor_loss", actor.actor_loss),
                ("entropy", actor.entropy),
                ("temperature", alpha),
                ("temperature_loss", loss.detach()),
            ]);
            grads
        });
        nets.critics.step(&critic_grads);
        if let Some(grads) = actor_grads {
            nets.actor.step(&grads);
        }
        nets.critics.track(self.config.target_update_rate);
        (Figures(figures), taught)
    }

    /// As [`Agent::update`], with the figures of every critic update; `look` sees the gradients of each network
    /// ("critics", "actor", "log_alpha"), in the order of its parameters.
    pub fn update_with(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
    ) -> Vec<Figures> {
        self.update_all(batch, draws, look, false).0
    }

    /// The same; with `through` also the gradient at the observations, each part's at its rows.
    fn update_all(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
        through: bool,
    ) -> (Vec<Figures>, Option<Tensor>) {
        let parts = self.config.update_to_data;
        let (figures, taught): (Vec<Figures>, Vec<Option<Tensor>>) = (0..parts)
            .map(|inner| {
                let part = sac::part(batch, inner, parts);
                let due = self.policy_is_due(inner);
                self.update_once(&part, (due, through), draws, look)
            })
            .unzip();
        self.updates += 1;
        let taught: Option<Vec<Tensor>> = taught.into_iter().collect();
        (figures, taught.map(|parts| Tensor::cat(&parts, 0)))
    }
}

impl Agent for Redq {
    /// The figures are the last critic update's, as the authors'.
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        let (figures, taught) = self.update_all(batch, draws, &mut |_, _| (), through);
        (figures.into_iter().last().unwrap_or_default(), taught)
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
