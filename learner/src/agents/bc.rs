//! Behaviour cloning: the policy imitates the data. As in CORL (`any_percent_bc.py`) it is deterministic and
//! learns by squared error.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    Agent, Draws, Figures, Transitions, gradients,
    net::Net,
    policy::{Head, Policy},
};
use crate::nn::{AdamConfig, Mlp};

/// Hyperparameters. The default is CORL's (tinkoff-ai/CORL@6afec90, `any_percent_bc.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BcConfig {
    /// Step size.
    pub lr: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
}

impl Default for BcConfig {
    fn default() -> Self {
        Self {
            lr: 3e-4,
            hidden: vec![256, 256],
        }
    }
}

/// The agent: a policy tanh(f(s)).
#[derive(Debug)]
pub struct Bc {
    actor: Net,
    updates: u64,
}

/// Mean squared error over batch and columns, of actions \[B, A\].
pub fn actor_loss(predicted: &Tensor, actions: &Tensor) -> Tensor {
    assert_eq!(predicted.size(), actions.size());
    (predicted - actions).square().mean(None::<Kind>)
}

impl Bc {
    /// A fresh network, from torch's generator, for observations and actions of these sizes.
    pub fn new(
        config: BcConfig,
        observation: i64,
        action: i64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let sizes = [&[observation], config.hidden.as_slice(), &[action]].concat();
        let mlp = Mlp::one("actor", &sizes).as_torch();
        Self {
            actor: Net::new(mlp, &[], AdamConfig::new(config.lr), kind, device),
            updates: 0,
        }
    }

    /// The policy's network.
    pub fn actor(&self) -> &Net {
        &self.actor
    }
}

impl Agent for Bc {
    fn update_through(
        &mut self,
        batch: &Transitions,
        _: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        self.updates += 1;
        let pass = self.actor.forward(&batch.observations);
        let loss = actor_loss(&pass.out.tanh(), &batch.actions);
        let grad = gradients(&loss, &[&pass.out]);
        let (grads, taught) = self.actor.backward_through(&pass, &grad[0], through);
        self.actor.step(&grads);
        (Figures(vec![("actor_loss", loss.detach())]), taught)
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    /// It has no noise of its own to explore with.
    fn policy(&self) -> Policy<'_> {
        let head = Head::Tanh {
            most: 1.0,
            noise: 0.0,
        };
        Policy::new(&self.actor, head)
    }

    fn value(&self, _: &Tensor, _: &Tensor) -> Option<Tensor> {
        None
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.actor.state("actor")
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.actor.restore("actor", state);
        self.updates = updates;
    }
}
