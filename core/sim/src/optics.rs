//! From what MuJoCo draws, which is a perfect pinhole's, to what a camera with a lens sees.
//!
//! The pinhole is drawn wider than the lens sees, and at twice its resolution. Each pixel of the lens's
//! picture is the mean of four places in it, half a pixel apart, so that edges stay where they are and
//! are as smooth as a sensor's.

use hilt_protocol::{
    calibration::Intrinsics,
    noise::{Uniforms, mix},
};

use crate::SceneCamera;

/// Pixels drawn for one of the lens's, in each direction.
const FINER: f64 = 2.0;
/// More columns or rows than this are not drawn.
const LARGEST_PX: f64 = 8192.0;

/// The pinhole that is drawn for a lens; its axis goes through the middle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Source {
    pub width: u32,
    pub height: u32,
    focal_px: f64,
}

impl Source {
    /// The one for a camera: `None` where it has no lens, `Err` says why none can be drawn.
    pub fn of(camera: &SceneCamera) -> Option<Result<Self, String>> {
        camera.lens.as_ref()?;
        Some(Self::wide_enough(&camera.intrinsics()))
    }

    fn wide_enough(lens: &Intrinsics) -> Result<Self, String> {
        let [columns, rows] = [lens.width_px, lens.height_px];
        let edges = (0..=columns)
            .flat_map(|column| [(column, 0), (column, rows)])
            .chain((0..=rows).flat_map(|row| [(0, row), (columns, row)]));
        let mut widest = [0.0_f64; 2];
        for (column, row) in edges {
            let ray = corner_ray(lens, column, row).ok_or_else(|| {
                format!(
                    "bends so much that nothing is seen at pixel ({column}, {row}); its distortion must \
                     grow steadily to the picture's edge"
                )
            })?;
            widest = [0, 1].map(|i| widest[i].max(ray[i].abs()));
        }
        let focal_px = FINER * lens.focal_px[0].max(lens.focal_px[1]);
        // One more, so that each place has neighbours.
        let [half_width, half_height] = widest.map(|tangent| (focal_px * tangent).ceil() + 1.0);
        if half_width.max(half_height) > LARGEST_PX / 2.0 {
            return Err(format!(
                "sees so wide that {} x {} pixels would have to be drawn for it; a longer focal length or \
                 fewer pixels",
                2.0 * half_width,
                2.0 * half_height
            ));
        }
        Ok(Self {
            width: 2 * half_width as u32,
            height: 2 * half_height as u32,
            focal_px,
        })
    }

    /// Its vertical field of view.
    pub fn fovy_deg(&self) -> f64 {
        let tangent = f64::from(self.height) / 2.0 / self.focal_px;
        2.0 * tangent.atan().to_degrees()
    }
}

/// The ray through the upper left corner of a pixel.
fn corner_ray(lens: &Intrinsics, column: u32, row: u32) -> Option<[f64; 2]> {
    lens.ray([f64::from(column) - 0.5, f64::from(row) - 0.5])
}

/// Between which pixels of the source a place lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The upper left one of four.
    first: u32,
    /// How far from it to the right and down, 0 to 1.
    to: [f32; 2],
}

/// What is drawn for a lens, and where each of its pixels is in it.
#[derive(Clone, Debug)]
pub(crate) struct Optics {
    source: Source,
    /// Four for each pixel.
    places: Vec<Place>,
}

impl Optics {
    /// For a camera that was checked; `None` where it has no lens.
    pub fn of(camera: &SceneCamera) -> Option<Self> {
        let source = Source::of(camera)?.ok()?;
        let lens = camera.intrinsics();
        let (columns, rows) = (lens.width_px, lens.height_px);
        let line = |row| {
            let rays = (0..=columns).map(|column| corner_ray(&lens, column, row));
            rays.map(Option::unwrap_or_default).collect::<Vec<_>>()
        };
        let mut places = Vec::with_capacity(4 * columns as usize * rows as usize);
        let mut below = line(0);
        for row in 0..rows {
            let above = std::mem::replace(&mut below, line(row + 1));
            for (above, below) in above.windows(2).zip(below.windows(2)) {
                for (right, down) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                    let ray = [0, 1].map(|i| {
                        let above = above[0][i] + right * (above[1][i] - above[0][i]);
                        let below = below[0][i] + right * (below[1][i] - below[0][i]);
                        above + down * (below - above)
                    });
                    places.push(source.place(ray));
                }
            }
        }
        Some(Self { source, places })
    }

    /// Draws the lens's picture from the pinhole's; both three bytes a pixel.
    pub fn bend(&self, drawn: &[u8], seen: &mut [u8]) {
        let row = 3 * self.source.width as usize;
        for (pixel, places) in seen.chunks_exact_mut(3).zip(self.places.chunks_exact(4)) {
            let mut sum = [0.0_f32; 3];
            for place in places {
                let at = 3 * place.first as usize;
                // Two neighbours, and the two below.
                let two = |at: usize| drawn.get(at..).and_then(<[u8]>::first_chunk::<6>);
                let (Some(above), Some(below)) = (two(at), two(at + row)) else {
                    continue;
                };
                let [right, down] = place.to;
                let mix = |pair: &[u8; 6], i: usize| {
                    let (a, b) = (f32::from(pair[i]), f32::from(pair[i + 3]));
                    a + right * (b - a)
                };
                for (i, sum) in sum.iter_mut().enumerate() {
                    let (above, below) = (mix(above, i), mix(below, i));
                    *sum += above + down * (below - above);
                }
            }
            for (byte, sum) in pixel.iter_mut().zip(sum) {
                *byte = rounded(sum / 4.0);
            }
        }
    }
}

impl Source {
    fn place(&self, ray: [f64; 2]) -> Place {
        let size = [self.width, self.height].map(f64::from);
        let [column, row] = [0, 1].map(|i| {
            let place = self.focal_px * ray[i] + size[i] / 2.0 - 0.5;
            place.clamp(0.0, size[i] - 1.001)
        });
        Place {
            first: row as u32 * self.width + column as u32,
            to: [column.fract() as f32, row.fract() as f32],
        }
    }
}

/// The nearest level; below and above them the first and the last.
fn rounded(level: f32) -> u8 {
    // A cast cuts off, and keeps within bounds.
    (level + 0.5) as u8
}

/// Adds to each pixel, all its colours alike, what a sensor adds: normal, of this standard deviation.
/// `picture` says which one of a camera's it is.
pub(crate) fn add_noise(rgb: &mut [u8], levels: f64, camera: usize, picture: u64) {
    let mut uniforms = Uniforms::new(mix(mix(camera as u64 + 0x6361_6d65_7261) ^ picture));
    // Box and Muller give two at a time.
    for two in rgb.chunks_mut(6) {
        let radius = levels * (-2.0 * uniforms.open01().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * uniforms.open01()).sin_cos();
        for (pixel, part) in two.chunks_mut(3).zip([cos, sin]) {
            let noise = (radius * part) as f32;
            for byte in pixel {
                *byte = rounded(f32::from(*byte) + noise);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mount, SceneLens};

    fn camera(distortion: [f64; 5]) -> SceneCamera {
        SceneCamera {
            name: "front".into(),
            width: 64,
            height: 48,
            mount: Mount::World,
            position_m: [0.8, 0.0, 0.4],
            look_at_m: [0.4, 0.0, 0.0],
            fovy_deg: None,
            lens: Some(SceneLens {
                focal_px: [60.0, 58.0],
                centre_px: [33.0, 22.0],
                distortion,
            }),
            noise_levels: 0.0,
            latency_ms: 0.0,
        }
    }

    #[test]
    fn what_is_drawn_at_a_ray_is_seen_where_the_lens_bends_it() {
        let camera = camera([-0.3, 0.1, 1e-3, -2e-3, 0.0]);
        let optics = Optics::of(&camera).unwrap();
        let source = optics.source;
        // Red says how far to the right, green how far down.
        let mut drawn = Vec::new();
        for row in 0..source.height {
            for column in 0..source.width {
                let level = |at: u32, of: u32| (250 * at / of) as u8;
                drawn.extend([level(column, source.width), level(row, source.height), 9]);
            }
        }
        let mut seen = vec![0; 64 * 48 * 3];
        optics.bend(&drawn, &mut seen);
        let lens = camera.intrinsics();
        for (column, row) in [(0_u32, 0_u32), (63, 0), (0, 47), (63, 47), (31, 20)] {
            let ray = lens.ray([f64::from(column), f64::from(row)]).unwrap();
            let pixel = &seen[3 * (row * 64 + column) as usize..][..3];
            for (i, of) in [source.width, source.height].into_iter().enumerate() {
                let at = source.focal_px * ray[i] + f64::from(of) / 2.0 - 0.5;
                let wanted = 250.0 * at / f64::from(of);
                // Levels are whole numbers, rounded down when they are drawn.
                let off = f64::from(pixel[i]) - wanted;
                assert!((-1.1..0.6).contains(&off), "({column}, {row}): {off}");
            }
            assert_eq!(pixel[2], 9);
        }
    }

    #[test]
    fn a_lens_that_cannot_be_drawn_is_refused() {
        let problem = |camera: &SceneCamera| Source::of(camera).unwrap().unwrap_err();
        let text = problem(&camera([-2.0, 0.0, 0.0, 0.0, 0.0]));
        assert!(text.contains("nothing is seen at pixel"), "{text}");
        let mut wide = camera([0.0; 5]);
        wide.width = 4096;
        wide.lens.as_mut().unwrap().focal_px = [2000.0, 200.0];
        wide.height = 4096;
        let text = problem(&wide);
        assert!(text.contains("would have to be drawn"), "{text}");
    }

    #[test]
    fn noise_is_as_large_as_it_is_said_and_differs_from_picture_to_picture() {
        let noisy = |picture| {
            let mut rgb = vec![100; 3 * 10_000];
            add_noise(&mut rgb, 4.0, 1, picture);
            rgb
        };
        let rgb = noisy(0);
        let off = rgb.chunks_exact(3).map(|pixel| f64::from(pixel[0]) - 100.0);
        let (sum, squares) = off.fold((0.0, 0.0), |(sum, squares), off| {
            (sum + off, squares + off * off)
        });
        assert!((sum / 1e4_f64).abs() < 0.15, "{sum}");
        assert!(((squares / 1e4_f64).sqrt() - 4.0).abs() < 0.15, "{squares}");
        assert!(rgb.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
        assert_eq!(noisy(0), rgb);
        assert_ne!(noisy(1), rgb);
    }
}
