//! TD3+BC (Fujimoto and Gu 2021, arXiv 2106.06860): twin critics, target smoothing and a delayed policy as in
//! TD3 (Fujimoto et al. 2018), and an actor that also stays near the actions of the data.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    Agent, Draws, Figures, Transitions, gradients,
    net::Net,
    policy::{Head, Policy},
    pulled_back,
    td::{self, CriticMetrics},
};
use crate::nn::{AdamConfig, Mlp};

/// Hyperparameters. The default is CORL's (tinkoff-ai/CORL@6afec90, `td3_bc.py`), but for what TD3 explores
/// with, of which CORL has nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Td3BcConfig {
    /// γ.
    pub discount: f64,
    /// τ of the targets.
    pub tau: f64,
    /// Standard deviation of the noise on the target's actions.
    pub policy_noise: f64,
    /// Where that noise is clipped.
    pub noise_clip: f64,
    /// Actor and targets move every so many updates.
    pub policy_freq: u64,
    /// α: the weight of Q beside the data's actions.
    pub alpha: f64,
    /// Step size of the actor.
    pub lr_actor: f64,
    /// Step size of the critics.
    pub lr_critic: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// Largest action.
    pub max_action: f64,
    /// Standard deviation of the noise that it explores with (TD3, sfujim/TD3: `expl_noise`).
    pub exploration_noise: f64,
}

impl Default for Td3BcConfig {
    fn default() -> Self {
        Self {
            discount: 0.99,
            tau: 0.005,
            policy_noise: 0.2,
            noise_clip: 0.5,
            policy_freq: 2,
            alpha: 2.5,
            lr_actor: 3e-4,
            lr_critic: 3e-4,
            hidden: vec![256, 256],
            max_action: 1.0,
            exploration_noise: 0.1,
        }
    }
}

/// The agent: a policy max·tanh(f(s)), two critics, and the targets of all three.
#[derive(Debug)]
pub struct Td3Bc {
    config: Td3BcConfig,
    actor: Net,
    critics: Net,
    updates: u64,
}

/// What the target's policy does, with noise that is clipped, within the bounds \[B, A\].
pub fn smoothed(config: &Td3BcConfig, actions: &Tensor, noise: &Tensor) -> Tensor {
    assert_eq!(noise.size(), actions.size());
    let (clip, max) = (config.noise_clip, config.max_action);
    (actions + (noise * config.policy_noise).clamp(-clip, clip)).clamp(-max, max)
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
    /// Its part that imitates: mean squared error.
    pub imitation: Tensor,
    /// λ.
    pub lambda: Tensor,
}

impl ActorMetrics {
    /// By name.
    pub fn figures(self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("actor_loss", self.loss),
            ("imitation_loss", self.imitation),
            ("lambda", self.lambda),
        ]
    }
}

/// −λ mean Q(s, π) + mean (π − a)², where λ = α / mean |Q(s, π)| takes no gradient: Q \[B\], π and the data's
/// actions a \[B, A\].
pub fn actor_loss(
    alpha: f64,
    q: &Tensor,
    policy: &Tensor,
    actions: &Tensor,
) -> (Tensor, ActorMetrics) {
    assert_eq!(policy.size(), actions.size());
    assert_eq!(q.size(), actions.size()[..1]);
    let lambda = q.detach().abs().mean(None::<Kind>).reciprocal() * alpha;
    let imitation = (policy - actions).square().mean(None::<Kind>);
    let loss = &imitation - q.mean(None::<Kind>) * &lambda;
    let metrics = ActorMetrics {
        loss: loss.detach(),
        imitation: imitation.detach(),
        lambda,
    };
    (loss, metrics)
}

impl Td3Bc {
    /// Fresh networks, from torch's generator, for observations and actions of these sizes. Targets start as
    /// copies.
    pub fn new(
        config: Td3BcConfig,
        observation: i64,
        action: i64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let hidden = config.hidden.as_slice();
        let actor = Mlp::one("actor", &[&[observation], hidden, &[action]].concat());
        let critics = [&[observation + action], hidden, &[1]].concat();
        let critics = Mlp::ensemble("critics", 2, &critics);
        let net = |mlp: Mlp, lr| {
            Net::new(mlp.as_torch(), &[], AdamConfig::new(lr), kind, device).with_target()
        };
        Self {
            actor: net(actor, config.lr_actor),
            critics: net(critics, config.lr_critic),
            config,
            updates: 0,
        }
    }

    /// The policy's network.
    pub fn actor(&self) -> &Net {
        &self.actor
    }

    /// Both critics.
    pub fn critics(&self) -> &Net {
        &self.critics
    }

    /// Actions from what the policy's network gives.
    fn squashed(&self, out: &Tensor) -> Tensor {
        match self.config.max_action {
            1.0 => out.tanh(),
            max => out.tanh() * max,
        }
    }

    fn update_critics(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (CriticMetrics, Option<Tensor>) {
        let c = &self.config;
        let next = &batch.next_observations;
        let target = no_grad(|| {
            let noise = draws.normal("target_policy", &batch.actions.size());
            let actions = smoothed(c, &self.squashed(&self.actor.target_value(next)), &noise);
            let q = self.critics.target_value(&td::joined(next, &actions));
            td::target(batch, c.discount, &q.squeeze_dim(-1).amin(0, false))
        });
        let state_actions = td::joined(&batch.observations, &batch.actions);
        td::step(
            &mut self.critics,
            batch,
            &state_actions,
            &target,
            critic_loss,
            through,
        )
    }

    fn update_actor(&mut self, batch: &Transitions) -> ActorMetrics {
        let pass = self.actor.forward(&batch.observations);
        let policy = self.squashed(&pass.out);
        // Only the first critic's word counts, and it takes no gradient of its own.
        let (first, params) = (self.critics.mlp().member(0), self.critics.params());
        let judged = first.forward(params, &td::joined(&batch.observations, &policy.detach()));
        let (loss, metrics) = actor_loss(
            self.config.alpha,
            &judged.out.squeeze_dim(-1),
            &policy,
            &batch.actions,
        );
        let grad = gradients(&loss, &[&judged.out, &policy]);
        let through_q = first.backward_input(params, &judged, &grad[0]);
        let at_policy = td::actions_part(&through_q, &batch.actions) + &grad[1];
        let grad = pulled_back(&policy, &at_policy, &pass.out);
        let grads = self.actor.backward(&pass, &grad, vec![]);
        self.actor.step(&grads);
        metrics
    }
}

impl Agent for Td3Bc {
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        self.updates += 1;
        let (critics, taught) = self.update_critics(batch, draws, through);
        let mut figures = critics.figures();
        if self.updates.is_multiple_of(self.config.policy_freq) {
            figures.extend(self.update_actor(batch).figures());
            self.critics.track(self.config.tau);
            self.actor.track(self.config.tau);
        }
        (Figures(figures), taught)
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn policy(&self) -> Policy<'_> {
        let head = Head::Tanh {
            most: self.config.max_action,
            noise: self.config.exploration_noise,
        };
        Policy::new(&self.actor, head)
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        Some(td::least(&self.critics, observations, actions))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.actor.state("actor");
        state.extend(self.critics.state("critics"));
        state
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.actor.restore("actor", state);
        self.critics.restore("critics", state);
        self.updates = updates;
    }
}
