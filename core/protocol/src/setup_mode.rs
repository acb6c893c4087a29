//! HIL-SERL's four setup modes, by the names its users type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How many arms a rig has and whether the policy works the grippers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetupMode {
    /// One arm; the gripper stays as it is (closed, in HIL-SERL's rigs).
    SingleArmFixedGripper,
    /// One arm; the policy opens and closes the gripper.
    SingleArmLearnedGripper,
    /// Two arms; the grippers stay as they are.
    DualArmFixedGripper,
    /// Two arms; the policy works both grippers.
    DualArmLearnedGripper,
}

impl SetupMode {
    /// All modes, in the order of the documentation.
    pub const ALL: [Self; 4] = [
        Self::SingleArmFixedGripper,
        Self::SingleArmLearnedGripper,
        Self::DualArmFixedGripper,
        Self::DualArmLearnedGripper,
    ];

    /// Number of arms: 1 or 2.
    pub fn arms(self) -> usize {
        match self {
            Self::SingleArmFixedGripper | Self::SingleArmLearnedGripper => 1,
            Self::DualArmFixedGripper | Self::DualArmLearnedGripper => 2,
        }
    }

    /// Whether an action has a gripper column per arm.
    pub fn learned_gripper(self) -> bool {
        matches!(
            self,
            Self::SingleArmLearnedGripper | Self::DualArmLearnedGripper
        )
    }

    /// The name used in rig files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleArmFixedGripper => "single-arm-fixed-gripper",
            Self::SingleArmLearnedGripper => "single-arm-learned-gripper",
            Self::DualArmFixedGripper => "dual-arm-fixed-gripper",
            Self::DualArmLearnedGripper => "dual-arm-learned-gripper",
        }
    }
}

impl fmt::Display for SetupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `{0}` is not a setup mode. Use one of single-arm-fixed-gripper, single-arm-learned-gripper,
/// dual-arm-fixed-gripper, dual-arm-learned-gripper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a setup mode; use one of single-arm-fixed-gripper, single-arm-learned-gripper, \
     dual-arm-fixed-gripper, dual-arm-learned-gripper"
)]
pub struct UnknownSetupMode(pub String);

impl FromStr for SetupMode {
    type Err = UnknownSetupMode;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| UnknownSetupMode(name.to_owned()))
    }
}
