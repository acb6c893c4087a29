//! Cal-QL: calibrated Q-learning (Nakamoto et al. 2023, arXiv 2303.05479), as CORL keeps it
//! (tinkoff-ai/CORL@6afec90, `algorithms/finetune/cal_ql.py`).
//!
//! It is [`Cql`] but for one thing: what it pushes down is no lower than the return that the data shows from
//! there on, so that values stay on the scale of true ones and going on online does not first unlearn. Online
//! the bound is lifted, and half of each batch is the offline data, which whoever samples sees to.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    Agent, Draws, Figures, Transitions,
    cql::{Cql, CqlConfig},
    policy::Policy,
};
use crate::nn::mlp::Start;

/// Hyperparameters. The default is CORL's `TrainConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalQlConfig {
    /// What it shares with CQL; offline.
    pub cql: CqlConfig,
    /// Weight of the conservative part online (CORL's `cql_alpha_online`).
    pub online_weight: f64,
}

impl Default for CalQlConfig {
    fn default() -> Self {
        let cql = CqlConfig {
            critic_hidden: vec![256; 2],
            ..CqlConfig::default()
        };
        Self {
            cql,
            online_weight: 10.0,
        }
    }
}

/// Values Q \[M, B, 1 + 3n\] in the order of [`super::cql::critic_loss`], those of the policy's actions (the last
/// 2n) held at or above the rows' returns \[B\].
pub fn calibrate(q: &Tensor, returns: &Tensor) -> Tensor {
    let size = q.size();
    let [_, rows, columns] = size[..] else {
        panic!("Q must be [M, B, 1 + 3n], not {size:?}")
    };
    assert_eq!(returns.size(), [rows]);
    let kept = 1 + (columns - 1) / 3;
    let bounded = q.narrow(2, kept, columns - kept);
    let bounded = bounded.maximum(&returns.unsqueeze(1));
    Tensor::cat(&[&q.narrow(2, 0, kept), &bounded], 2)
}

/// The agent.
#[derive(Debug)]
pub struct CalQl {
    cql: Cql,
    online_weight: f64,
    online: bool,
}

impl CalQl {
    /// Fresh networks, from torch's generator, for this many observation and action columns. It begins offline.
    pub fn new(
        config: CalQlConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
    ) -> Self {
        let start = match config.cql.orthogonal_init {
            true => Start::Orthogonal {
                last: std::f64::consts::SQRT_2,
            },
            false => Start::TorchSmallLast,
        };
        Self {
            cql: Cql::starting(config.cql, observations, actions, options, [start; 2]),
            online_weight: config.online_weight,
            online: false,
        }
    }

    /// What it shares with CQL.
    pub fn cql(&self) -> &Cql {
        &self.cql
    }

    /// As [`Cql::update_with`].
    pub fn update_with(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
    ) -> Figures {
        self.update_all(batch, draws, look, false).0
    }

    fn update_all(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        look: &mut dyn FnMut(&'static str, &[Tensor]),
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        let online = self.online;
        let held = |q: &Tensor| match (online, &batch.returns) {
            (true, _) => q.shallow_clone(),
            (false, Some(returns)) => calibrate(q, returns),
            (false, None) => panic!("Cal-QL needs each transition's return"),
        };
        self.cql.update_all(batch, draws, look, through, &held)
    }
}

const ONLINE: &str = "online";

impl Agent for CalQl {
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>) {
        self.update_all(batch, draws, &mut |_, _| (), through)
    }

    fn go_online(&mut self) {
        self.online = true;
        self.cql.set_weight(self.online_weight);
    }

    fn updates(&self) -> u64 {
        self.cql.updates()
    }

    fn policy(&self) -> Policy<'_> {
        self.cql.policy()
    }

    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        self.cql.value(observations, actions)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.cql.state();
        let online = i64::from(self.online);
        state.push((ONLINE.to_owned(), Tensor::from(online)));
        state
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.cql.restore(state, updates);
        let online = state.iter().find(|(name, _)| name == ONLINE);
        if online.is_some_and(|(_, online)| online.int64_value(&[]) == 1) {
            self.go_online();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_policys_actions_are_held_at_the_return() {
        let q = Tensor::arange(14, (Kind::Double, Device::Cpu)).view([1, 2, 7]);
        let held = calibrate(&q, &Tensor::from_slice(&[5.0, 0.0]));
        let row = |b: i64| Vec::<f64>::try_from(held.get(0).get(b)).unwrap();
        assert_eq!(row(0), [0.0, 1.0, 2.0, 5.0, 5.0, 5.0, 6.0]);
        assert_eq!(row(1), [7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0]);
    }

    #[test]
    fn its_state_says_that_it_is_online() {
        let config = || CalQlConfig {
            online_weight: 3.0,
            ..CalQlConfig::default()
        };
        let agent = || CalQl::new(config(), 2, 1, (Kind::Float, Device::Cpu));
        let (mut ours, mut other) = (agent(), agent());
        other.restore(&ours.state(), 0);
        assert!(!other.online);
        ours.go_online();
        other.restore(&ours.state(), 7);
        assert!(other.online);
        assert_eq!((other.cql.config().weight, other.updates()), (3.0, 7));
    }
}
