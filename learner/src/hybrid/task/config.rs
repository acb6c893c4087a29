//! What can be chosen of learning on a task, besides the algorithm and what [`TrainConfig`] says for every
//! training.
//!
//! [`TrainConfig`]: crate::config::TrainConfig

use serde::{Deserialize, Serialize};

/// How learning on a task goes. Where an algorithm's authors chose otherwise its preset says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineConfig {
    /// Steps to take in the task (CleanRL's `sac_continuous_action.py`@004f8a0, `total_timesteps`; as RLPD's and
    /// CORL's).
    pub steps: u64,
    /// So many first steps are uniform in ±1 and nothing is learned meanwhile (CleanRL's `learning_starts`; REDQ's
    /// `start_steps`). An agent that goes on from elsewhere acts by itself at once.
    pub random_steps: u64,
    /// Updates after each step. An update of REDQ or RLPD is as many of the critics' as their `update_to_data`.
    pub updates_per_step: u64,
    /// Steps from one evaluation to the next (RLPD's `eval_interval`; CORL's `eval_freq`); 0: only at the end. An
    /// agent that goes on from elsewhere is also evaluated before its first step, to be compared with.
    pub eval_freq: u64,
    /// Episodes of an evaluation (RLPD's `eval_episodes`; CORL's `n_episodes`).
    pub num_eval: u64,
}

impl Default for OnlineConfig {
    fn default() -> Self {
        Self {
            steps: 1_000_000,
            random_steps: 5000,
            updates_per_step: 1,
            eval_freq: 5000,
            num_eval: 10,
        }
    }
}
