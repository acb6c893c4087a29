//! What a rig looks like to a policy: the layout of actions and observations, derived from the
//! setup mode, the controlled axes and the cameras.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{MAX_CAMERAS, SetupMode};

/// One axis of the body-frame twist that an arm follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Translation along x, in the arm's base frame.
    X,
    /// Translation along y, in the arm's base frame.
    Y,
    /// Translation along z, in the arm's base frame.
    Z,
    /// Rotation about x.
    Roll,
    /// Rotation about y.
    Pitch,
    /// Rotation about z.
    Yaw,
}

impl Axis {
    /// All six, in the order of a twist.
    pub const ALL: [Self; 6] = [
        Self::X,
        Self::Y,
        Self::Z,
        Self::Roll,
        Self::Pitch,
        Self::Yaw,
    ];

    /// The name used in rig files.
    pub fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Y => "y",
            Self::Z => "z",
            Self::Roll => "roll",
            Self::Pitch => "pitch",
            Self::Yaw => "yaw",
        }
    }
}

/// One camera as the policy sees it: RGB, 8 bits, row-major (height, width, 3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSpec {
    /// Name of the camera, also the suffix of the graph's input `map.<name>`.
    pub name: String,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// Everything that a policy depends on. Two rigs with equal specs can exchange policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RigSpec {
    /// Arms and grippers.
    pub mode: SetupMode,
    /// Axes that the policy moves, the same for each arm, in the order of the action's columns.
    pub controlled_axes: Vec<Axis>,
    /// Cameras, in the order of `Observation::images`.
    pub cameras: Vec<CameraSpec>,
    /// Names of the numbers in `Observation::proprio`, for all arms.
    pub proprio: Vec<String>,
    /// Policy steps per second.
    pub policy_hz: u32,
}

/// SHA-256 of a [`RigSpec`]'s canonical text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpecHash(pub [u8; 32]);

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpecHash({self})")
    }
}

/// Why a [`RigSpec`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// `controlled_axes` is empty: name at least one of x, y, z, roll, pitch, yaw.
    #[error("controlled_axes is empty; name at least one of x, y, z, roll, pitch, yaw")]
    NoAxis,
    /// An axis is named twice.
    #[error("controlled_axes names `{0}` twice")]
    AxisTwice(&'static str),
    /// There is no camera.
    #[error("cameras is empty; a policy needs at least one camera")]
    NoCamera,
    /// There are too many cameras.
    #[error("there are {0} cameras; a rig has at most 8")]
    Cameras(usize),
    /// Two cameras have one name.
    #[error("two cameras are named `{0}`")]
    CameraTwice(String),
    /// A camera has no pixels, or more than 4096 on a side.
    #[error("camera `{0}` is {1}x{2}; each side must be 16 to 4096 pixels")]
    CameraSize(String, u32, u32),
    /// The policy's rate is outside 1 to 1000 Hz.
    #[error("policy_hz is {0}; it must be 1 to 1000")]
    Rate(u32),
}

impl RigSpec {
    /// Checks what the types cannot.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.controlled_axes.is_empty() {
            return Err(SpecError::NoAxis);
        }
        for (i, axis) in self.controlled_axes.iter().enumerate() {
            if self.controlled_axes[..i].contains(axis) {
                return Err(SpecError::AxisTwice(axis.name()));
            }
        }
        if self.cameras.is_empty() {
            return Err(SpecError::NoCamera);
        }
        if self.cameras.len() > MAX_CAMERAS {
            return Err(SpecError::Cameras(self.cameras.len()));
        }
        for (i, camera) in self.cameras.iter().enumerate() {
            if self.cameras[..i].iter().any(|c| c.name == camera.name) {
                return Err(SpecError::CameraTwice(camera.name.clone()));
            }
            if !(16..=4096).contains(&camera.height) || !(16..=4096).contains(&camera.width) {
                return Err(SpecError::CameraSize(
                    camera.name.clone(),
                    camera.height,
                    camera.width,
                ));
            }
        }
        if !(1..=1000).contains(&self.policy_hz) {
            return Err(SpecError::Rate(self.policy_hz));
        }
        Ok(())
    }

    /// Columns of an action per arm: the controlled axes, then the gripper if it is learned.
    pub fn columns_per_arm(&self) -> usize {
        self.controlled_axes.len() + usize::from(self.mode.learned_gripper())
    }

    /// A name for each column of an action: its axis or `gripper`, with two arms after `arm0_` or `arm1_`.
    pub fn action_names(&self) -> Vec<String> {
        let gripper = self.mode.learned_gripper().then_some("gripper");
        let columns = || (self.controlled_axes.iter().map(|axis| axis.name())).chain(gripper);
        match self.mode.arms() {
            1 => columns().map(str::to_owned).collect(),
            arms => (0..arms)
                .flat_map(|arm| columns().map(move |name| format!("arm{arm}_{name}")))
                .collect(),
        }
    }

    /// Columns of an action: arm after arm.
    pub fn action_dim(&self) -> usize {
        self.columns_per_arm() * self.mode.arms()
    }

    /// Columns that hold motion, in order. For two arms with learned grippers and full twists
    /// these are 0..6 and 7..13.
    pub fn motion_columns(&self) -> Vec<usize> {
        let axes = self.controlled_axes.len();
        let per_arm = self.columns_per_arm();
        (0..self.mode.arms())
            .flat_map(|arm| (0..axes).map(move |i| arm * per_arm + i))
            .collect()
    }

    /// Columns that hold a gripper command, one per arm, or none.
    pub fn gripper_columns(&self) -> Vec<usize> {
        if !self.mode.learned_gripper() {
            return Vec::new();
        }
        let per_arm = self.columns_per_arm();
        (0..self.mode.arms())
            .map(|arm| arm * per_arm + per_arm - 1)
            .collect()
    }

    /// Numbers in `Observation::proprio`.
    pub fn proprio_dim(&self) -> usize {
        self.proprio.len()
    }

    /// Hash of the canonical text form; equal specs and only equal specs share it.
    pub fn hash(&self) -> SpecHash {
        use fmt::Write;
        let mut text = format!("hilt-spec-1\nmode={}\nhz={}\n", self.mode, self.policy_hz);
        // Writing to a String cannot fail.
        for axis in &self.controlled_axes {
            let _ = writeln!(text, "axis={}", axis.name());
        }
        for c in &self.cameras {
            let _ = writeln!(text, "camera={:?} {} {}", c.name, c.height, c.width);
        }
        for p in &self.proprio {
            let _ = writeln!(text, "proprio={p:?}");
        }
        SpecHash(Sha256::digest(text.as_bytes()).into())
    }
}
