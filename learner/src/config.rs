//! What can be configured of a training, one typed tree. `--config FILE` gives a TOML file,
//! `--set a.b=v` changes single keys, the resolved tree is written beside the results.

use serde::{Deserialize, Serialize};

use crate::{
    agents::sac_grasp::{GripperHead, SacGraspConfig},
    classifier::ClassifierConfig,
    encoder::EncoderConfig,
    imitation::ImitationConfig,
    reward_model::RewardInput,
};

/// How the update loop runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Transitions per update.
    pub batch: usize,
    /// Share of a batch that comes from demonstrations and interventions (RLPD: one half).
    pub demonstration_share: f64,
    /// Critic updates per actor update (HIL-SERL: 2).
    pub cta_ratio: u64,
    /// Online transitions before the first update.
    pub start_after: usize,
    /// In lockstep, steps that the actor may take per update.
    pub steps_per_update: f64,
    /// Seconds between snapshots of the policy.
    pub snapshot_period_s: f64,
    /// Seconds between checkpoints.
    pub checkpoint_period_s: f64,
    /// Online rows to keep.
    pub capacity: usize,
    /// Threads of torch; the default leaves one core to the actor, which may share the machine.
    pub threads: i32,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            batch: 256,
            demonstration_share: 0.5,
            cta_ratio: 2,
            start_after: 100,
            steps_per_update: 1.0,
            snapshot_period_s: 2.0,
            checkpoint_period_s: 60.0,
            capacity: 200_000,
            threads: (cores as i32 - 1).clamp(1, 4),
        }
    }
}

/// The reward classifier's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// What it looks at.
    pub input: RewardInput,
    /// Its own trunk, when it looks at images.
    pub trunk: EncoderConfig,
    /// The head.
    pub network: ClassifierConfig,
    /// Frames per step, half of them successes.
    pub batch: i64,
    /// Gradient steps before reinforcement learning begins.
    pub steps: u64,
    /// Share of the labelled episodes that is held out to measure precision and recall.
    pub held_out: f64,
    /// Probability from which a frame counts as success (as in the rig file).
    pub threshold: f64,
    /// When a person's words in the run show so many mistakes, it is trained further…
    pub correction_mistakes: usize,
    /// … for so many steps.
    pub correction_steps: u64,
}

impl Default for RewardConfig {
    fn default() -> Self {
        let network = ClassifierConfig {
            lr: 1e-3,
            bottleneck: 64,
            hidden: 64,
            ..ClassifierConfig::default()
        };
        Self {
            input: RewardInput::Images,
            trunk: EncoderConfig {
                widths: vec![8, 16, 32, 32],
                ..EncoderConfig::narrow()
            },
            network,
            batch: 96,
            steps: 500,
            held_out: 0.15,
            threshold: 0.75,
            correction_mistakes: 3,
            correction_steps: 30,
        }
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerConfig {
    /// The encoder.
    pub encoder: EncoderConfig,
    /// Its pre-training.
    pub imitation: ImitationConfig,
    /// The learned reward.
    pub reward: RewardConfig,
    /// The agent.
    pub agent: SacGraspConfig,
    /// The update loop.
    pub train: TrainConfig,
}

impl Default for LearnerConfig {
    /// The lift demo's: a narrow encoder, the gripper as a categorical inside the critic, and the
    /// target entropy of the recipe.
    fn default() -> Self {
        let agent = SacGraspConfig {
            gripper: GripperHead::Categorical { entropy: 0.01 },
            target_entropy: Some(-1.5),
            ..SacGraspConfig::default()
        };
        Self {
            encoder: EncoderConfig::narrow(),
            imitation: ImitationConfig::default(),
            reward: RewardConfig::default(),
            agent,
            train: TrainConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::settings;

    use super::*;

    #[test]
    fn the_resolved_tree_reads_back_and_keys_can_be_set() {
        let text = toml::to_string(&LearnerConfig::default()).unwrap();
        let sets = [
            "train.batch=64".to_owned(),
            "agent.discount=0.95".to_owned(),
        ];
        let config: LearnerConfig = settings::parse("config.toml", &text, &sets).unwrap();
        assert_eq!((config.train.batch, config.agent.discount), (64, 0.95));
        assert_eq!(config.encoder, EncoderConfig::narrow());
        let unknown = ["train.bach=64".to_owned()];
        let error = settings::parse::<LearnerConfig>("config.toml", &text, &unknown)
            .unwrap_err()
            .to_string();
        assert!(error.contains("train.bach"), "{error}");
    }
}
