//! The agent as HIL-SERL trains it: some updates of the critics alone, then a full one.

use tch::Tensor;

use super::{SacGrasp, SeededNoise, Update};
use crate::agents::{
    Figures,
    sight::{Sight, SightAgent, SightTransitions},
};

/// The agent, and how many of its updates are full.
#[derive(Debug)]
pub struct Alternating {
    agent: SacGrasp,
    cta_ratio: u64,
}

impl Alternating {
    /// Of every `cta_ratio` updates the last is full.
    pub fn new(agent: SacGrasp, cta_ratio: u64) -> Self {
        Self { agent, cta_ratio }
    }

    /// The agent.
    pub fn agent(&self) -> &SacGrasp {
        &self.agent
    }
}

impl SightAgent for Alternating {
    fn update_seeded(&mut self, batch: &SightTransitions, seed: u64) -> Figures {
        let number = self.agent.updates();
        let options = (batch.rewards.kind(), batch.rewards.device());
        let dropout = self.agent.config().dropout;
        let mut noise = SeededNoise::new(seed, number, dropout, options);
        let update = match (number + 1).is_multiple_of(self.cta_ratio) {
            true => Update::Full,
            false => Update::CriticOnly,
        };
        self.agent.update(batch, update, &mut noise).figures()
    }

    fn updates(&self) -> u64 {
        self.agent.updates()
    }

    fn centre_proprio(&self, mean: &[f32], std: &[f32]) {
        self.agent.centre_proprio(mean, std);
    }

    fn rewards(&self, batch: &SightTransitions) -> Tensor {
        self.agent.rewards(batch)
    }

    fn best(&self, sight: &Sight) -> Tensor {
        self.agent.best(sight)
    }

    fn value(&self, sight: &Sight, actions: &Tensor) -> Option<Tensor> {
        Some(self.agent.value(sight, actions))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.agent.state()
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.agent.restore(state, updates);
    }
}
