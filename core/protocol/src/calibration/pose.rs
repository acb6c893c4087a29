//! A pose as files keep it.

use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion, Vector3};
use serde::{Deserialize, Serialize};

use super::{CalibrationError, value};

/// Where one frame stands in another: `x_parent = R x_child + t`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    /// The child's origin in the parent's frame, metres.
    pub translation_m: [f64; 3],
    /// The child's rotation in the parent's frame, a unit quaternion, its real part first.
    pub rotation_wxyz: [f64; 4],
}

impl Pose {
    /// Where both frames are the same.
    pub fn identity() -> Self {
        Isometry3::identity().into()
    }

    pub(super) fn check(&self, field: &str) -> Result<(), CalibrationError> {
        if !self.translation_m.iter().all(|t| t.is_finite()) {
            let field = format!("{field}.translation_m");
            return Err(value(field, "is not three finite numbers"));
        }
        let norm: f64 = self.rotation_wxyz.iter().map(|q| q * q).sum();
        // Written with six digits by hand it still counts.
        if !(1.0 - 1e-5..1.0 + 1e-5).contains(&norm) {
            let field = format!("{field}.rotation_wxyz");
            return Err(value(field, "is no unit quaternion (w, x, y, z)"));
        }
        Ok(())
    }
}

impl From<Isometry3<f64>> for Pose {
    fn from(pose: Isometry3<f64>) -> Self {
        let (t, q) = (pose.translation.vector, pose.rotation);
        Self {
            translation_m: [t.x, t.y, t.z],
            rotation_wxyz: [q.w, q.i, q.j, q.k],
        }
    }
}

impl From<Pose> for Isometry3<f64> {
    fn from(pose: Pose) -> Self {
        let [w, i, j, k] = pose.rotation_wxyz;
        Self::from_parts(
            Translation3::from(Vector3::from(pose.translation_m)),
            UnitQuaternion::from_quaternion(Quaternion::new(w, i, j, k)),
        )
    }
}
