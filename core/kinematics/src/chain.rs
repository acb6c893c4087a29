//! Forward kinematics and the Jacobian.

use hilt_protocol::{JointVector, MAX_JOINTS};
use nalgebra::{Isometry3, SMatrix, Translation3, Unit, UnitQuaternion, Vector3};

/// How a joint moves along its axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointKind {
    /// Turns about the axis; radians.
    Revolute,
    /// Slides along the axis; metres.
    Prismatic,
}

/// One joint, placed in the frame that the joint before it moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Joint {
    /// Pose of the joint's frame, at zero, in its parent's frame.
    pub parent_from_joint: Isometry3<f64>,
    /// Axis in the joint's own frame.
    pub axis: Unit<Vector3<f64>>,
    /// Revolute or prismatic.
    pub kind: JointKind,
    /// Lowest allowed value.
    pub lower: f64,
    /// Highest allowed value.
    pub upper: f64,
}

/// Why joints make no chain.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// Too many, or none.
    #[error("a chain has 1 to {MAX_JOINTS} joints, not {0}")]
    Joints(usize),
    /// A limit is not finite, or lower is above upper.
    #[error("joint {0}: its limits {1} to {2} are not a range")]
    Limits(usize, f64, f64),
}

/// Columns are joints, rows linear (0..3) and angular (3..6) velocity of the tool in the base
/// frame. Columns beyond the chain's joints are zero.
pub type Jacobian = SMatrix<f64, 6, MAX_JOINTS>;

/// A serial arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    joints: Vec<Joint>,
    last_from_tool: Isometry3<f64>,
    /// As many zeros as joints: what a solution starts as, so that none is allocated later.
    zeros: JointVector,
}

impl Joint {
    fn motion(&self, value: f64) -> Isometry3<f64> {
        match self.kind {
            JointKind::Revolute => Isometry3::from_parts(
                Translation3::identity(),
                UnitQuaternion::from_axis_angle(&self.axis, value),
            ),
            JointKind::Prismatic => Translation3::from(self.axis.into_inner() * value).into(),
        }
    }
}

impl Chain {
    /// A chain of these joints, base first, and the tool's pose in the last joint's frame.
    pub fn new(joints: Vec<Joint>, last_from_tool: Isometry3<f64>) -> Result<Self, ChainError> {
        let zeros = JointVector::from_slice(&vec![0.0; joints.len()])
            .filter(|zeros| !zeros.as_slice().is_empty())
            .ok_or(ChainError::Joints(joints.len()))?;
        for (i, j) in joints.iter().enumerate() {
            if !(j.lower.is_finite() && j.upper.is_finite() && j.lower <= j.upper) {
                return Err(ChainError::Limits(i, j.lower, j.upper));
            }
        }
        Ok(Self {
            joints,
            last_from_tool,
            zeros,
        })
    }

    /// The joints.
    pub fn joints(&self) -> &[Joint] {
        &self.joints
    }

    /// Pose of the tool in the last joint's frame.
    pub fn last_from_tool(&self) -> &Isometry3<f64> {
        &self.last_from_tool
    }

    /// Number of joints.
    pub fn dof(&self) -> usize {
        self.joints.len()
    }

    /// One zero per joint.
    pub fn zeros(&self) -> JointVector {
        self.zeros
    }

    /// Brings values into the joints' limits.
    pub fn clamp(&self, q: &mut [f64]) {
        for (q, joint) in q.iter_mut().zip(&self.joints) {
            *q = q.clamp(joint.lower, joint.upper);
        }
    }

    /// Pose of the tool in the base frame. `q` has [`Chain::dof`] values.
    pub fn base_from_tool(&self, q: &[f64]) -> Isometry3<f64> {
        debug_assert_eq!(q.len(), self.dof());
        let last = self
            .joints
            .iter()
            .zip(q)
            .fold(Isometry3::identity(), |pose, (joint, &q)| {
                pose * joint.parent_from_joint * joint.motion(q)
            });
        last * self.last_from_tool
    }

    /// Pose of the tool and the geometric Jacobian there.
    pub fn jacobian(&self, q: &[f64]) -> (Isometry3<f64>, Jacobian) {
        debug_assert_eq!(q.len(), self.dof());
        let mut pose = Isometry3::identity();
        let mut axes = [(Vector3::zeros(), Vector3::zeros()); MAX_JOINTS];
        for ((joint, &q), slot) in self.joints.iter().zip(q).zip(&mut axes) {
            pose *= joint.parent_from_joint;
            *slot = (pose.translation.vector, pose * joint.axis.into_inner());
            pose *= joint.motion(q);
        }
        let tool = pose * self.last_from_tool;
        let mut jacobian = Jacobian::zeros();
        for (i, (joint, (origin, axis))) in self.joints.iter().zip(axes).enumerate() {
            let (linear, angular) = match joint.kind {
                JointKind::Revolute => (axis.cross(&(tool.translation.vector - origin)), axis),
                JointKind::Prismatic => (axis, Vector3::zeros()),
            };
            jacobian.fixed_view_mut::<3, 1>(0, i).copy_from(&linear);
            jacobian.fixed_view_mut::<3, 1>(3, i).copy_from(&angular);
        }
        (tool, jacobian)
    }
}
