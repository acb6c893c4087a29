//! AWAC, advantage-weighted actor-critic (Nair et al. 2020, arXiv 2006.09359): critics of the policy itself, and
//! a policy that imitates the data's actions weighted by how much better they are than its own.

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

/// Hyperparameters. The default is CORL's (tinkoff-ai/CORL@6afec90, `awac.py`), with the λ of its
/// configurations for the MuJoCo tasks (`configs/offline/awac/halfcheetah`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwacConfig {
    /// γ.
    pub discount: f64,
    /// τ of the critics' target.
    pub tau: f64,
    /// λ: weight exp(advantage / λ) of an action.
    pub lambda: f64,
    /// Where that weight is clamped.
    pub max_weight: f64,
    /// Step size of all networks.
    pub lr: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// Smallest action.
    pub min_action: f64,
    /// Largest action.
    pub max_action: f64,
}

impl Default for AwacConfig {
    fn default() -> Self {
        Self {
            discount: 0.99,
            tau: 0.005,
            lambda: 0.3333,
            max_weight: 100.0,
            lr: 3e-4,
            hidden: vec![256, 256, 256],
            min_action: -1.0,
            max_action: 1.0,
        }
    }
}

/// The agent: two critics with their target, and a Gaussian policy whose mean nothing squashes.
#[derive(Debug)]
pub struct Awac {
    config: AwacConfig,
    critics: Net,
    actor: Net,
    updates: u64,
}

/// Sum over the critics of the mean squared error: their values \[N, B\], one target \[B\].
pub fn critic_loss(q: &Tensor, target: &Tensor) -> (Tensor, CriticMetrics) {
    let loss = td::squared_errors(q, target).sum(None::<Kind>);
    let metrics = CriticMetrics::new(&loss, q, target);
    (loss, metrics)
}

/// What the actor's loss saw.
#[derive(Debug)]
pub struct ActorMetrics {
    /// The loss.
    pub loss: Tensor,
    /// Mean advantage of the data's actions.
    pub advantage: Tensor,
    /// Mean weight.
    pub weight: Tensor,
}

impl ActorMetrics {
    /// By name.
    pub fn figures(self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("actor_loss", self.loss),
            ("advantage", self.advantage),
            ("weight", self.weight),
        ]
    }
}

/// −mean of weight × log π(a), where the weight of an action is min(exp(advantage / λ), max) and takes no
/// gradient: log π and advantages \[B\].
pub fn actor_loss(
    config: &AwacConfig,
    log_prob: &Tensor,
    advantages: &Tensor,
) -> (Tensor, ActorMetrics) {
    assert_eq!(log_prob.size(), advantages.size());
    assert_eq!(log_prob.dim(), 1);
    let advantages = advantages.detach();
    let weights = (&advantages / config.lambda)
        .exp()
        .clamp_max(config.max_weight);
    let loss = -(&weights * log_prob).mean(None::<Kind>);
    let metrics = ActorMetrics {
        loss: loss.detach(),
        advantage: advantages.mean(None::<Kind>),
        weight: weights.mean(None::<Kind>),
    };
    (loss, metrics)
}

impl Awac {
    /// Fresh networks, from torch's generator, for observations and actions of these sizes. The critics'
    /// target starts as a copy.
    pub fn new(
        config: AwacConfig,
        observation: i64,
        action: i64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let sizes = |input, output| [&[input], config.hidden.as_slice(), &[output]].concat();
        let adam = AdamConfig::new(config.lr);
        let critics = Mlp::ensemble("critics", 2, &sizes(observation + action, 1));
        Self {
            critics: Net::new(critics.as_torch(), &[], adam, kind, device).with_target(),
            actor: gaussian::net(&sizes(observation, action), adam, kind, device),
            config,
            updates: 0,
        }
    }

    /// Both critics.
    pub fn critics(&self) -> &Net {
        &self.critics
    }

    /// The policy's network.
    pub fn actor(&self) -> &Net {
        &self.actor
    }

    /// A draw from the policy around this mean, within the actions' bounds \[B, A\].
    fn drawn(&self, mean: &Tensor, noise: &Tensor) -> Tensor {
        gaussian::sample(mean, self.actor.params().get(LOG_STD), noise)
            .clamp(self.config.min_action, self.config.max_action)
    }

    fn update_critics(
        &mut self,
        batch: &Transitions,
        state_actions: &Tensor,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (CriticMetrics, Option<Tensor>) {
        let next = &batch.next_observations;
        let noise = draws.normal("target", &batch.actions.size());
        let actions = self.drawn(&self.actor.value(next), &noise);
        let next_q = self.critics.target_value(&td::joined(next, &actions));
        let next_q = next_q.squeeze_dim(-1).amin(0, false);
        let target = td::target(batch, self.config.discount, &next_q);
        td::step(
            &mut self.critics,
            batch,
            state_actions,
            &target,
            critic_loss,
            through,
        )
    }

    fn update_actor(
        &mut self,
        batch: &Transitions,
        state_actions: &Tensor,
        draws: &mut dyn Draws,
    ) -> ActorMetrics {
        let rows = batch.rows();
        let noise = draws.normal("policy", &batch.actions.size());
        let pass = self.actor.forward(&batch.observations);
        let own = td::joined(&batch.observations, &self.drawn(&pass.out, &noise));
        // The data's actions and the policy's in one evaluation.
        let both = self.critics.value(&Tensor::cat(&[state_actions, &own], 0));
        let both = both.squeeze_dim(-1).amin(0, false);
        let advantages = both.narrow(0, 0, rows) - both.narrow(0, rows, rows);
        let log_std = self.actor.params().get(LOG_STD);
        let log_prob = gaussian::log_prob(&pass.out, log_std, &batch.actions);
        let (loss, metrics) = actor_loss(&self.config, &log_prob, &advantages);
        let mut grad = gradients(&loss, &[&pass.out, log_std]);
        let of_log_std = grad.split_off(1);
        let grads = self.actor.backward(&pass, &grad[0], of_log_std);
        self.actor.step(&grads);
        metrics
    }
}

impl Agent for Awac {
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        self.updates += 1;
        let state_actions = td::joined(&batch.observations, &batch.actions);
        let (critics, taught) = self.update_critics(batch, &state_actions, draws, through);
        let actor = self.update_actor(batch, &state_actions, draws);
        self.critics.track(self.config.tau);
        let figures = [critics.figures(), actor.figures()];
        (Figures(figures.into_iter().flatten().collect()), taught)
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn policy(&self) -> Policy<'_> {
        let head = Head::Mean {
            least: self.config.min_action,
            most: self.config.max_action,
        };
        Policy::new(&self.actor, head)
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        Some(td::least(&self.critics, observations, actions))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.critics.state("critics");
        state.extend(self.actor.state("actor"));
        state
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.critics.restore("critics", state);
        self.actor.restore("actor", state);
        self.updates = updates;
    }
}
