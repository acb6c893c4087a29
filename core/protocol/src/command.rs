//! What goes to the arms of a rig.

/// Most arms of a rig.
pub const MAX_ARMS: usize = 2;
/// Most cameras of a rig.
pub const MAX_CAMERAS: usize = 8;
/// Most joints of an arm, gripper apart.
pub const MAX_JOINTS: usize = 7;

/// Joint values without allocation: radians (or rad/s), base to tip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointVector {
    values: [f64; MAX_JOINTS],
    len: usize,
}

impl JointVector {
    /// From a slice; `None` if it is longer than [`MAX_JOINTS`].
    pub fn from_slice(values: &[f64]) -> Option<Self> {
        let mut out = Self {
            values: [0.0; MAX_JOINTS],
            len: values.len(),
        };
        out.values.get_mut(..values.len())?.copy_from_slice(values);
        Some(out)
    }

    /// The values.
    pub fn as_slice(&self) -> &[f64] {
        &self.values[..self.len]
    }

    /// The values, to change.
    pub fn as_mut_slice(&mut self) -> &mut [f64] {
        &mut self.values[..self.len]
    }
}

/// Where a gripper is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GripperCommand {
    /// Fully open.
    Open,
    /// Closed on whatever is between the fingers.
    Closed,
}

/// One action for all arms of a rig. Both arms act on it together: it carries one sequence number
/// and one activation deadline, and is refused as a whole when it comes too late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmCommand {
    /// Counts up by one per command of a run.
    pub sequence: u64,
    /// Time on the run's clock at which all arms start on it, nanoseconds.
    pub activate_ns: u64,
    /// Joint targets and gripper per arm; `None` for arms that the rig does not have.
    pub arms: [Option<(JointVector, GripperCommand)>; MAX_ARMS],
}
