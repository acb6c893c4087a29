//! What can be chosen, and the sizes of what goes in and out.

use hilt_protocol::RigSpec;
use serde::{Deserialize, Serialize};

/// How the grippers are worked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum GripperHead {
    /// No gripper columns.
    Fixed,
    /// HIL-SERL's double DQN.
    GraspCritic,
    /// One value per choice inside the critic; softmax temperature `entropy` (in units of Q).
    Categorical {
        /// Softmax temperature.
        entropy: f64,
    },
}

/// Hyperparameters. The default is HIL-SERL's (rail-berkeley/hil-serl@5d02aed, launcher and
/// `create_pixels`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SacGraspConfig {
    /// Gripper head; must fit the setup mode.
    pub gripper: GripperHead,
    /// γ.
    pub discount: f64,
    /// τ of the target networks.
    pub target_update_rate: f64,
    /// Step size of every Adam.
    pub lr: f64,
    /// Number of critics.
    pub critics: usize,
    /// Draw this many target critics per update (with replacement) for the minimum; absent: all.
    pub critic_subsample: Option<usize>,
    /// Subtract T·log π' in the target.
    pub backup_entropy: bool,
    /// Start of the temperature T.
    pub temperature_init: f64,
    /// Entropy that T steers to; absent: −(action columns)/2, and with a categorical gripper, whose
    /// choice has no part in it, −(motion columns)/2.
    pub target_entropy: Option<f64>,
    /// Added to each reward.
    pub reward_bias: f64,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// Spatial features per channel.
    pub spatial_features: i64,
    /// Width of a camera's embedding.
    pub bottleneck: i64,
    /// Width of proprioception's embedding.
    pub proprio_latent: i64,
    /// Dropout of the spatial features in the actor's encoding.
    pub dropout: f64,
    /// Clip of the policy's standard deviation.
    pub std_min: f64,
    /// Clip of the policy's standard deviation.
    pub std_max: f64,
}

impl Default for SacGraspConfig {
    fn default() -> Self {
        Self {
            gripper: GripperHead::GraspCritic,
            discount: 0.97,
            target_update_rate: 0.005,
            lr: 3e-4,
            critics: 2,
            critic_subsample: None,
            backup_entropy: false,
            temperature_init: 1e-2,
            target_entropy: None,
            reward_bias: 0.0,
            hidden: vec![256, 256],
            spatial_features: 8,
            bottleneck: 256,
            proprio_latent: 64,
            dropout: 0.1,
            std_min: 1e-5,
            std_max: 5.0,
        }
    }
}

/// Sizes of what goes in and out.
#[derive(Clone, Debug, PartialEq)]
pub struct Shapes {
    /// Per camera its name and its map's \[h, w, C\].
    pub cameras: Vec<(String, [i64; 3])>,
    /// Numbers of proprioception.
    pub proprio: i64,
    /// Columns of an action that hold motion.
    pub motion_columns: Vec<i64>,
    /// Columns of an action that hold a gripper command in {−1, 0, 1}.
    pub gripper_columns: Vec<i64>,
}

impl Shapes {
    /// Of a rig whose encoder gives maps \[h, w, C\].
    pub fn of(spec: &RigSpec, map: [i64; 3]) -> Self {
        let columns = |list: Vec<usize>| list.into_iter().map(|c| c as i64).collect();
        Self {
            cameras: spec.cameras.iter().map(|c| (c.name.clone(), map)).collect(),
            proprio: spec.proprio_dim() as i64,
            motion_columns: columns(spec.motion_columns()),
            gripper_columns: columns(spec.gripper_columns()),
        }
    }

    /// Columns of an action.
    pub fn action(&self) -> i64 {
        (self.motion_columns.len() + self.gripper_columns.len()) as i64
    }

    /// Joint gripper choices: 3 per gripper.
    pub fn choices(&self) -> i64 {
        3i64.pow(self.gripper_columns.len() as u32)
    }
}
