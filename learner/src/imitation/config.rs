//! What can be chosen of imitation: the section `[imitation]`.

use serde::{Deserialize, Serialize};

/// How to imitate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImitationConfig {
    /// Gradient steps.
    pub steps: u64,
    /// Samples per step.
    pub batch: i64,
    /// AdamW's step size.
    pub lr: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Largest shift of an image, pixels.
    pub shift_px: i64,
    /// Largest relative change of brightness.
    pub brightness: f64,
    /// Weight of the auxiliary target, per metre².
    pub grasp_weight: f64,
}

impl Default for ImitationConfig {
    /// The lift recipe's: see the demo.
    fn default() -> Self {
        Self {
            steps: 700,
            batch: 64,
            lr: 5e-4,
            weight_decay: 1e-4,
            shift_px: 4,
            brightness: 0.2,
            grasp_weight: 100.0,
        }
    }
}
