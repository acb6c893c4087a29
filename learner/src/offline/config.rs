//! What can be chosen of a training on data at hand, besides its algorithm.

use serde::{Deserialize, Serialize};

use crate::vectors::{Preparation, RewardScale};

/// The section `[offline]`. Where nothing else is said, a default is CORL's (tinkoff-ai/CORL@6afec90, the
/// `TrainConfig` of its offline algorithms); in brackets its name there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineConfig {
    /// Updates to make (`max_timesteps`).
    pub updates: u64,
    /// Transitions per update, or per part of one for the algorithms whose updates have parts (`batch_size`).
    pub batch: usize,
    /// Updates from one checkpoint to the next; CORL keeps one with each evaluation.
    pub epoch_updates: u64,
    /// Updates from one evaluation to the next.
    pub eval_freq: u64,
    /// Episodes of an evaluation in a task (`n_episodes`).
    pub num_eval: u64,
    /// Updates from one line of figures to the next; their means are written. CORL writes every update's.
    pub log_freq: u64,
    /// Share of the data that is held out, to look at how it goes where there is no task. CORL holds out nothing.
    pub held_out: f64,
    /// Whether observations are brought to mean 0 and standard deviation 1 (`normalize`).
    pub normalize_observations: bool,
    /// What becomes of rewards (`normalize_reward`, `reward_scale`, `reward_bias`).
    pub rewards: RewardScale,
    /// The task gives one and the same reward until its goal, so that an episode that did not reach it is worth that
    /// for ever. Cal-QL alone asks (`is_sparse_reward`).
    pub sparse_rewards: bool,
}

impl Default for OfflineConfig {
    fn default() -> Self {
        Self {
            updates: 1_000_000,
            batch: 256,
            epoch_updates: 5000,
            eval_freq: 5000,
            num_eval: 10,
            log_freq: 200,
            held_out: 0.05,
            normalize_observations: true,
            rewards: RewardScale::default(),
            sparse_rewards: false,
        }
    }
}

impl OfflineConfig {
    /// What becomes of a table before it is trained on with this seed, where nobody asks for returns.
    pub fn preparation(&self, seed: u64) -> Preparation {
        Preparation {
            held_out: self.held_out,
            seed,
            normalize: self.normalize_observations,
            rewards: self.rewards,
            returns: None,
        }
    }
}
