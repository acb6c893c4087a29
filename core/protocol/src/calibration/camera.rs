//! What a camera sees, and from where.

use serde::{Deserialize, Serialize};

use super::{CalibrationError, Pose, value};

/// What was measured of one camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraCalibration {
    /// Its name in the rig.
    pub name: String,
    /// The device that it was measured of, as the rig's file names it; none for a simulated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How much later than what they show its frames are stamped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Lens and sensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intrinsics: Option<Intrinsics>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounting: Option<Mounting>,
}

/// How late a camera's frames are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// When it was measured: RFC 3339, UTC.
    pub date: String,
    /// A frame shows what was so much before its stamp, milliseconds.
    pub delay_ms: f64,
    /// One standard deviation of it.
    pub spread_ms: f64,
}

/// A pinhole with the distortion of Brown and Conrady, as OpenCV has it: with x = X/Z, y = Y/Z of a
/// point in the camera's frame (x right, y down, z forward), r² = x² + y²,
///
/// - x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²)
/// - y' = y (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 y²) + 2 p2 x y
/// - u = fx x' + cx, v = fy y' + cy
///
/// The middle of the first pixel is (0, 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intrinsics {
    /// When it was measured: RFC 3339, UTC.
    pub date: String,
    /// Columns of the pictures that it was measured from.
    pub width_px: u32,
    /// Rows.
    pub height_px: u32,
    /// fx and fy.
    pub focal_px: [f64; 2],
    /// cx and cy.
    pub centre_px: [f64; 2],
    /// k1, k2, p1, p2, k3.
    pub distortion: [f64; 5],
    /// Root mean square of what is left between corners seen and corners predicted, pixels.
    pub rms_px: f64,
    /// Views that went into it.
    pub views: usize,
}

/// What a camera is fixed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frame {
    /// The base of an arm: the camera looks on.
    Base,
    /// The hand of an arm: the camera rides along. The frame is the chain's tool.
    Hand,
}

/// One standard deviation of a pose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Of its translation, metres.
    pub translation_m: f64,
    /// Of its rotation, radians.
    pub rotation_rad: f64,
}

/// Where a camera stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mounting {
    /// When it was measured: RFC 3339, UTC.
    pub date: String,
    /// What it is fixed to …
    pub frame: Frame,
    /// … of the arm of this number.
    pub arm: usize,
    /// Pose of the camera (x right, y down, z forward) in that frame.
    pub frame_from_camera: Pose,
    /// One standard deviation of it.
    pub spread: Spread,
    /// Views that went into it.
    pub views: usize,
}

impl Spread {
    pub(super) fn check(&self, field: &str) -> Result<(), CalibrationError> {
        let spreads = [self.translation_m, self.rotation_rad];
        match spreads
            .iter()
            .all(|spread| (0.0..f64::INFINITY).contains(spread))
        {
            true => Ok(()),
            false => {
                let problem = "is not two finite numbers that are not below zero";
                Err(value(format!("{field}.spread"), problem))
            }
        }
    }
}

impl CameraCalibration {
    /// Nothing measured yet.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device: None,
            latency: None,
            intrinsics: None,
            mounting: None,
        }
    }

    pub(super) fn check(&self, field: &str) -> Result<(), CalibrationError> {
        if let Some(latency) = &self.latency {
            for (name, ms) in [
                ("delay_ms", latency.delay_ms),
                ("spread_ms", latency.spread_ms),
            ] {
                if !(0.0..=10_000.0).contains(&ms) {
                    let problem = format!("is {ms}; it must be 0 to 10000");
                    return Err(value(format!("{field}.latency.{name}"), problem));
                }
            }
        }
        if let Some(intrinsics) = &self.intrinsics {
            intrinsics.check(&format!("{field}.intrinsics"))?;
        }
        if let Some(mounting) = &self.mounting {
            let field = format!("{field}.mounting");
            mounting.spread.check(&field)?;
            let pose = &mounting.frame_from_camera;
            pose.check(&format!("{field}.frame_from_camera"))?;
        }
        Ok(())
    }
}

impl Intrinsics {
    fn check(&self, field: &str) -> Result<(), CalibrationError> {
        for (name, px) in [("width_px", self.width_px), ("height_px", self.height_px)] {
            if !(1..=65_535).contains(&px) {
                let problem = format!("is {px}; it must be 1 to 65535");
                return Err(value(format!("{field}.{name}"), problem));
            }
        }
        if !self.focal_px.iter().all(|f| f.is_finite() && *f > 0.0) {
            let problem = format!("is {:?}; both must be above zero", self.focal_px);
            return Err(value(format!("{field}.focal_px"), problem));
        }
        let (centre, distortion) = (&self.centre_px, &self.distortion);
        let mut numbers = centre.iter().chain(distortion).chain([&self.rms_px]);
        if !numbers.all(|number| number.is_finite()) {
            let problem = "has a centre, a distortion or an rms_px that is not finite";
            return Err(value(field.to_owned(), problem));
        }
        Ok(())
    }

    /// Where a point in the camera's frame, metres, is seen, pixels; it need not be inside the picture.
    /// `None`: it is not in front of the camera.
    pub fn project(&self, camera_point_m: [f64; 3]) -> Option<[f64; 2]> {
        let [x, y, z] = camera_point_m;
        if z <= 0.0 || !(x / z).is_finite() || !(y / z).is_finite() {
            return None;
        }
        let [x, y] = self.distort([x / z, y / z]);
        Some([0, 1].map(|i| self.focal_px[i] * [x, y][i] + self.centre_px[i]))
    }

    /// Where the lens bends a ray to: x/z and y/z in, x' and y' out.
    pub fn distort(&self, ray: [f64; 2]) -> [f64; 2] {
        let [x, y] = ray;
        let [k1, k2, p1, p2, k3] = self.distortion;
        let r2 = x * x + y * y;
        let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
        [
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ]
    }

    /// The ray, as x/z and y/z, that is seen at a pixel: the inverse of [`Intrinsics::distort`] and the
    /// pinhole, by Newton's method. `None` where the lens has no inverse: outside the range in which its
    /// distortion grows steadily.
    pub fn ray(&self, pixel: [f64; 2]) -> Option<[f64; 2]> {
        let goal = [0, 1].map(|i| (pixel[i] - self.centre_px[i]) / self.focal_px[i]);
        let [k1, k2, p1, p2, k3] = self.distortion;
        let [mut x, mut y] = goal;
        for _ in 0..30 {
            let [u, v] = self.distort([x, y]);
            let (du, dv) = (goal[0] - u, goal[1] - v);
            if du.hypot(dv) < 1e-12 {
                return Some([x, y]);
            }
            let r2 = x * x + y * y;
            let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
            let slope = k1 + r2 * (2.0 * k2 + 3.0 * k3 * r2);
            let a = radial + 2.0 * slope * x * x + 2.0 * p1 * y + 6.0 * p2 * x;
            let b = 2.0 * slope * x * y + 2.0 * p1 * x + 2.0 * p2 * y;
            let d = radial + 2.0 * slope * y * y + 6.0 * p1 * y + 2.0 * p2 * x;
            let det = a * d - b * b;
            if det.is_nan() || det <= 1e-9 {
                return None;
            }
            (x, y) = (x + (d * du - b * dv) / det, y + (a * dv - b * du) / det);
        }
        let [u, v] = self.distort([x, y]);
        ((goal[0] - u).hypot(goal[1] - v) < 1e-9).then_some([x, y])
    }

    /// Those of pictures that show a part of these, scaled: `crop` is left, top, width and height of
    /// the part, pixels, `to` the new columns and rows. So a policy's small pictures have theirs.
    pub fn cropped_and_scaled(&self, crop: [f64; 4], to: [u32; 2]) -> Self {
        let scale = [f64::from(to[0]) / crop[2], f64::from(to[1]) / crop[3]];
        let mut small = self.clone();
        [small.width_px, small.height_px] = to;
        for (i, scale) in scale.into_iter().enumerate() {
            small.focal_px[i] *= scale;
            // A pixel's middle is half a pixel from its edge, at either size.
            small.centre_px[i] = (self.centre_px[i] + 0.5 - crop[i]) * scale - 0.5;
        }
        small.rms_px *= (scale[0] * scale[1]).sqrt();
        small
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(distortion: [f64; 5]) -> Intrinsics {
        Intrinsics {
            date: String::new(),
            width_px: 640,
            height_px: 480,
            focal_px: [600.0, 590.0],
            centre_px: [330.0, 235.0],
            distortion,
            rms_px: 0.1,
            views: 12,
        }
    }

    #[test]
    fn a_point_is_seen_where_the_formula_says() {
        // By hand: x = .1, y = -.2, r² = .05, radial = 1 + .1*.05 - .2*.0025 + .05*.000125.
        let lens = lens([0.1, -0.2, 0.01, -0.02, 0.05]);
        let [u, v] = lens.project([0.2, -0.4, 2.0]).unwrap();
        let radial = 1.0 + 0.005 - 0.0005 + 0.00000625;
        let x = 0.1 * radial + 2.0 * 0.01 * -0.02 - 0.02 * (0.05 + 0.02);
        let y = -0.2 * radial + 0.01 * (0.05 + 0.08) + 2.0 * -0.02 * -0.02;
        assert!((u - (600.0 * x + 330.0)).abs() < 1e-9, "{u}");
        assert!((v - (590.0 * y + 235.0)).abs() < 1e-9, "{v}");
        assert_eq!(lens.project([0.1, 0.1, 0.0]), None);
        assert_eq!(lens.project([0.1, 0.1, -1.0]), None);
    }

    #[test]
    fn a_pixel_gives_back_its_ray() {
        for distortion in [
            [0.0; 5],
            [-0.3, 0.1, 1e-3, -2e-3, 0.0],
            [0.2, -0.1, -2e-3, 1e-3, 0.02],
        ] {
            let lens = lens(distortion);
            for (column, row) in [(0, 0), (639, 479), (320, 240), (639, 0), (17, 401)] {
                let pixel = [f64::from(column), f64::from(row)];
                let [x, y] = lens.ray(pixel).unwrap();
                let [u, v] = lens.project([x, y, 1.0]).unwrap();
                assert!(
                    (u - pixel[0]).abs() < 1e-6 && (v - pixel[1]).abs() < 1e-6,
                    "{u} {v}"
                );
            }
        }
        // Bends back before it gets there: nothing is seen at that pixel.
        assert_eq!(lens([-2.0, 0.0, 0.0, 0.0, 0.0]).ray([639.0, 0.0]), None);
    }

    #[test]
    fn small_pictures_see_the_same() {
        let whole = lens([-0.2, 0.05, 1e-3, 1e-3, 0.0]);
        let small = whole.cropped_and_scaled([80.0, 0.0, 480.0, 480.0], [128, 128]);
        let point = [0.1, -0.15, 1.0];
        let (a, b) = (whole.project(point).unwrap(), small.project(point).unwrap());
        // Edges at the edges: pixel coordinates count from the first one's middle.
        let wanted = [
            (a[0] + 0.5 - 80.0) * 128.0 / 480.0 - 0.5,
            (a[1] + 0.5) * 128.0 / 480.0 - 0.5,
        ];
        assert!((b[0] - wanted[0]).abs() < 1e-9 && (b[1] - wanted[1]).abs() < 1e-9);
    }
}
