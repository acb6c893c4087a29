//! One camera of the scene: where it is, what its lens does, and how late its frames are.

use std::fmt::Write;

use hilt_protocol::calibration::Intrinsics;
use nalgebra::{Isometry3, Vector3};
use serde::{Deserialize, Serialize};

use super::{Mount, Problem, pose_of};
use crate::optics::Source;

/// One camera of the scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneCamera {
    /// Its name in the rig.
    pub name: String,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What it is fixed to.
    #[serde(default)]
    pub mount: Mount,
    /// Where it is, metres in the mount's frame.
    pub position_m: [f64; 3],
    /// A point on its axis, metres in the mount's frame; without a lens the middle of its picture.
    pub look_at_m: [f64; 3],
    /// Vertical field of view of a perfect pinhole, degrees; or it has a lens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fovy_deg: Option<f64>,
    /// Standard deviation of its pixels' noise, of 255 gray levels.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub noise_levels: f64,
    /// So much earlier than it is stamped is what a frame shows, milliseconds: as of a camera whose
    /// driver keeps frames back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latency_ms: f64,
    /// The lens, for what calibrates cameras; or it has a field of view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lens: Option<SceneLens>,
}

/// What a lens does, as [`Intrinsics`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneLens {
    /// fx and fy.
    pub focal_px: [f64; 2],
    /// cx and cy; the middle of the first pixel is (0, 0).
    pub centre_px: [f64; 2],
    /// k1, k2, p1, p2, k3.
    #[serde(default)]
    pub distortion: [f64; 5],
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl SceneCamera {
    /// What a perfect calibration of it finds.
    pub fn intrinsics(&self) -> Intrinsics {
        let [width, height] = [self.width, self.height].map(f64::from);
        let lens = self.lens.unwrap_or_else(|| {
            let half_rad = self.fovy_deg.unwrap_or(f64::NAN).to_radians() / 2.0;
            SceneLens {
                focal_px: [height / 2.0 / half_rad.tan(); 2],
                centre_px: [(width - 1.0) / 2.0, (height - 1.0) / 2.0],
                distortion: [0.0; 5],
            }
        });
        Intrinsics {
            date: String::new(),
            width_px: self.width,
            height_px: self.height,
            focal_px: lens.focal_px,
            centre_px: lens.centre_px,
            distortion: lens.distortion,
            rms_px: 0.0,
            views: 0,
        }
    }

    /// Pose of the camera (x right, y down, z forward) in its mount's frame; `None` where the scene is
    /// refused.
    pub(crate) fn mount_from_camera(&self) -> Option<Isometry3<f64>> {
        let (right, up) = self.axes()?;
        Some(pose_of(self.position_m.into(), right, -up))
    }

    /// Nanoseconds of its latency.
    pub(crate) fn latency_ns(&self) -> u64 {
        (self.latency_ms * 1e6).round() as u64
    }

    /// The size at which MuJoCo draws for it, columns and rows.
    pub(super) fn drawn_px(&self) -> [u32; 2] {
        match Source::of(self) {
            Some(Ok(source)) => [source.width, source.height],
            _ => [self.width, self.height],
        }
    }

    /// The field that cannot be, and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            let problem = format!("is {:?}; use letters, digits, `_` and `-`", self.name);
            return Err(("name", problem));
        }
        for (name, px) in [("width", self.width), ("height", self.height)] {
            if !(16..=4096).contains(&px) {
                return Err((name, format!("is {px}; it must be 16 to 4096")));
            }
        }
        match (self.fovy_deg, &self.lens) {
            (Some(fovy), None) if (1.0..=170.0).contains(&fovy) => {}
            (Some(fovy), None) => {
                return Err(("fovy_deg", format!("is {fovy}; it must be 1 to 170")));
            }
            (None, Some(lens)) => lens.check()?,
            (Some(_), Some(_)) => {
                let problem = "and fovy_deg are both given; a lens has a field of view, leave one";
                return Err(("lens", problem.into()));
            }
            (None, None) => {
                return Err((
                    "fovy_deg",
                    "is missing; give it, or a lens in its place".into(),
                ));
            }
        }
        if let Some(Err(problem)) = Source::of(self) {
            return Err(("lens", problem));
        }
        if !(0.0..=100.0).contains(&self.noise_levels) {
            let problem = format!("is {}; it must be 0 to 100", self.noise_levels);
            return Err(("noise_levels", problem));
        }
        if !(0.0..=2000.0).contains(&self.latency_ms) {
            let problem = format!("is {}; it must be 0 to 2000", self.latency_ms);
            return Err(("latency_ms", problem));
        }
        if self.axes().is_none() {
            let problem = "and position_m must be two points, finite and apart".to_owned();
            return Err(("look_at_m", problem));
        }
        Ok(())
    }

    pub(super) fn write_mjcf(&self, xml: &mut String) {
        let Some((right, up)) = self.axes() else {
            return;
        };
        let fovy_deg = match Source::of(self) {
            Some(Ok(source)) => source.fovy_deg(),
            _ => self.fovy_deg.unwrap_or(45.0),
        };
        let [x, y, z] = self.position_m;
        // Writing to a String cannot fail.
        let _ = writeln!(
            xml,
            r#"<camera name="{}" pos="{x} {y} {z}" fovy="{fovy_deg}" xyaxes="{} {} {} {} {} {}"/>"#,
            self.name, right.x, right.y, right.z, up.x, up.y, up.z
        );
        if self.mount == Mount::Wrist {
            // Its housing, so that other cameras see it; behind the lens, so that it does not.
            let behind = 0.012 * right.cross(&up);
            let at = Vector3::from(self.position_m) + behind;
            let _ = writeln!(
                xml,
                r#"<geom class="hub" type="box" size="0.012 0.012 0.008" pos="{} {} {}" mass="0.02"/>"#,
                at.x, at.y, at.z
            );
        }
    }

    /// Right and up of its picture, in its mount's frame. Up is as near as can be to the room's z, or for
    /// a camera on the hand to the hand's x, which points away from the arm.
    pub(super) fn axes(&self) -> Option<(Vector3<f64>, Vector3<f64>)> {
        let towards = Vector3::from(self.look_at_m) - Vector3::from(self.position_m);
        let forward = towards
            .try_normalize(1e-6)
            .filter(|f| f.iter().all(|v| v.is_finite()))?;
        let (up, otherwise) = match self.mount {
            Mount::World => (Vector3::z(), Vector3::x()),
            Mount::Wrist => (Vector3::x(), Vector3::z()),
        };
        let right = forward
            .cross(&up)
            .try_normalize(1e-3)
            .or_else(|| forward.cross(&otherwise).try_normalize(1e-3))?;
        Some((right, right.cross(&forward)))
    }
}

impl SceneLens {
    fn check(&self) -> Result<(), Problem> {
        let focal = self.focal_px;
        if !focal.iter().all(|f| f.is_finite() && *f > 0.0) {
            let problem = format!("is {focal:?}; both must be above zero");
            return Err(("lens.focal_px", problem));
        }
        if !self.centre_px.iter().all(|c| c.is_finite()) {
            let problem = format!("is {:?}; both must be finite", self.centre_px);
            return Err(("lens.centre_px", problem));
        }
        if !self.distortion.iter().all(|k| k.is_finite()) {
            let problem = format!("is {:?}; all must be finite", self.distortion);
            return Err(("lens.distortion", problem));
        }
        Ok(())
    }
}
