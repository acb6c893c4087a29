//! Pictures of a board through a known lens, ray by ray, so that what they show is known exactly.

use std::{f64::consts::TAU, sync::OnceLock};

use hilt_calibration::{
    board::{Board, BoardView, Corner},
    picture::Gray,
};
use hilt_protocol::calibration::Intrinsics;
use nalgebra::{Isometry3, Point3, Rotation3, Translation3, UnitQuaternion, Vector3};

/// Samples along a pixel's side.
const SAMPLES: u32 = 4;

/// What a camera does to what it sees.
#[derive(Clone, Copy)]
pub struct Look {
    /// Blur of lens and focus, standard deviation in pixels.
    pub blur_px: f64,
    /// Noise of each pixel, standard deviation in gray levels.
    pub noise: f64,
    /// How much darker the corners of the picture are, 0 to 1.
    pub vignette: f64,
    /// How much darker its left edge is than its right one, 0 to 1.
    pub gradient: f64,
    /// Gray level of what is black.
    pub black: f64,
    /// Of what is white.
    pub white: f64,
}

/// An ordinary camera in an ordinary room.
pub const ORDINARY: Look = Look {
    blur_px: 0.7,
    noise: 2.5,
    vignette: 0.3,
    gradient: 0.3,
    black: 30.0,
    white: 220.0,
};

/// A camera of which everything is known.
pub struct Camera {
    pub lens: Intrinsics,
    /// Where each sample's ray goes, x/z and y/z; not known before a picture is wanted.
    rays: OnceLock<Vec<Option<[f32; 2]>>>,
}

/// Numbers that look random and are the same each time (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// Evenly from 0 to 1.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly between two values.
    pub fn between(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.next()
    }

    /// Normal, with a standard deviation of one.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.next()).ln()).sqrt() * (TAU * self.next()).cos()
    }
}

pub fn lens(size: [u32; 2], focal: f64, centre_off: [f64; 2], distortion: [f64; 5]) -> Intrinsics {
    let [width_px, height_px] = size;
    Intrinsics {
        date: String::new(),
        width_px,
        height_px,
        focal_px: [focal, focal * 1.01],
        centre_px: [
            f64::from(width_px) / 2.0 + centre_off[0],
            f64::from(height_px) / 2.0 + centre_off[1],
        ],
        distortion,
        rms_px: 0.0,
        views: 0,
    }
}

impl Camera {
    pub fn new(lens: Intrinsics) -> Self {
        let rays = OnceLock::new();
        Self { lens, rays }
    }

    fn rays(&self) -> Vec<Option<[f32; 2]>> {
        let mut random = Random(7);
        let mut rays = vec![];
        for row in 0..self.lens.height_px {
            for column in 0..self.lens.width_px {
                for i in 0..SAMPLES * SAMPLES {
                    // Somewhere in each of a pixel's parts: evenly spaced samples would move edges that
                    // run along pixels.
                    let mut at = |pixel: u32, part: u32| {
                        let part = f64::from(part) + random.next();
                        f64::from(pixel) - 0.5 + part / f64::from(SAMPLES)
                    };
                    let pixel = [at(column, i % SAMPLES), at(row, i / SAMPLES)];
                    rays.push(self.lens.ray(pixel).map(|ray| ray.map(|v| v as f32)));
                }
            }
        }
        rays
    }

    /// What it sees of a board, with one square's width of white round it, on a gray table.
    pub fn view(
        &self,
        board: &Board,
        camera_from_board: &Isometry3<f64>,
        look: &Look,
        seed: u64,
    ) -> Gray {
        self.view_of(camera_from_board, look, seed, |x, y| {
            let (x, y) = (x / board.square_m, y / board.square_m);
            let (columns, rows) = (f64::from(board.columns), f64::from(board.rows));
            let on = (-1.0..columns + 1.0).contains(&x) && (-1.0..rows + 1.0).contains(&y);
            match on {
                true => f64::from(u8::from(board.is_white(x, y))),
                false => 0.45,
            }
        })
    }

    /// What it sees of a plane whose brightness at a point, metres, is 0 to 1.
    pub fn view_of(
        &self,
        camera_from_plane: &Isometry3<f64>,
        look: &Look,
        seed: u64,
        brightness: impl Fn(f64, f64) -> f64,
    ) -> Gray {
        let (width, height) = (self.lens.width_px as usize, self.lens.height_px as usize);
        let plane_from_camera = camera_from_plane.inverse();
        let eye = plane_from_camera.translation.vector;
        let turn = plane_from_camera.rotation.to_rotation_matrix();
        let samples = (SAMPLES * SAMPLES) as usize;
        let rays = self.rays.get_or_init(|| self.rays());
        let mut values: Vec<f64> = rays
            .chunks_exact(samples)
            .map(|rays| {
                let of = |ray: &Option<[f32; 2]>| {
                    let Some([x, y]) = *ray else { return 0.0 };
                    let way = turn * Vector3::new(f64::from(x), f64::from(y), 1.0);
                    let far = -eye.z / way.z;
                    match far > 0.0 {
                        true => brightness(eye.x + far * way.x, eye.y + far * way.y),
                        false => 0.2,
                    }
                };
                // Most pixels show one colour: their corners say it.
                let corners = [0, 3, 12, 15].map(|i| of(&rays[i]));
                match corners.iter().all(|&value| value == corners[0]) {
                    true => corners[0],
                    false => rays.iter().map(of).sum::<f64>() / samples as f64,
                }
            })
            .collect();
        blur(&mut values, width, look.blur_px);
        let mut random = Random(seed);
        let (half_width, half_height) = (width as f64 / 2.0, height as f64 / 2.0);
        let pixels = values.iter().enumerate().map(|(i, value)| {
            let (x, y) = ((i % width) as f64, (i / width) as f64);
            let (u, v) = (x / half_width - 1.0, y / half_height - 1.0);
            let light = (1.0 - look.vignette * (u * u + v * v) / 2.0)
                * (1.0 - look.gradient * (1.0 - u) / 2.0);
            let level = (look.black + value * (look.white - look.black)) * light;
            (level + look.noise * random.normal())
                .round()
                .clamp(0.0, 255.0) as u8
        });
        Gray::new(self.lens.width_px, self.lens.height_px, pixels.collect()).unwrap()
    }

    /// Where it sees a corner, exactly.
    pub fn corner(&self, board: &Board, camera_from_board: &Isometry3<f64>, id: usize) -> [f64; 2] {
        let p = camera_from_board * board.corner_m(id);
        self.lens.project([p.x, p.y, p.z]).unwrap()
    }

    /// What a detector would give of a view, with this much noise on each corner, pixels.
    pub fn corners(
        &self,
        board: &Board,
        camera_from_board: &Isometry3<f64>,
        noise_px: f64,
        seed: u64,
    ) -> BoardView {
        let mut random = Random(seed);
        let corner = |id| {
            let pixel = self.corner(board, camera_from_board, id);
            let pixel = pixel.map(|v| v + noise_px * random.normal());
            Corner { id, pixel }
        };
        BoardView {
            width_px: self.lens.width_px,
            height_px: self.lens.height_px,
            corners: (0..board.corners()).map(corner).collect(),
        }
    }

    /// Whether it sees the whole board, with this much of the picture left over round it.
    pub fn sees(&self, board: &Board, camera_from_board: &Isometry3<f64>, left_px: f64) -> bool {
        let [width_m, height_m] = board.size_m();
        let (width, height) = (
            f64::from(self.lens.width_px),
            f64::from(self.lens.height_px),
        );
        // Edges too, which a lens may bend outwards.
        (0..40).all(|i| {
            let t = f64::from(i % 10) / 10.0;
            let (x, y) = match i / 10 {
                0 => (t, 0.0),
                1 => (1.0, t),
                2 => (1.0 - t, 1.0),
                _ => (0.0, 1.0 - t),
            };
            let p = camera_from_board * Point3::new(x * width_m, y * height_m, 0.0);
            self.lens.project([p.x, p.y, p.z]).is_some_and(|[x, y]| {
                // A lens that bends back sees nothing twice.
                let ray = self.lens.ray([x, y]);
                let true_ray =
                    ray.is_some_and(|r| (r[0] - p.x / p.z).hypot(r[1] - p.y / p.z) < 1e-6);
                let across = left_px..width - 1.0 - left_px;
                let down = left_px..height - 1.0 - left_px;
                true_ray && across.contains(&x) && down.contains(&y)
            })
        })
    }

    /// Poses as a person would take them who follows the guide: all over the picture, tilted to all
    /// sides, near and far, turned a little.
    pub fn poses(&self, board: &Board, count: usize, seed: u64) -> Vec<Isometry3<f64>> {
        let mut random = Random(seed);
        let [width_m, height_m] = board.size_m();
        let mut poses = vec![];
        for _ in 0..100_000 {
            if poses.len() == count {
                break;
            }
            let fill = random.between(0.35, 0.8);
            let distance = width_m * self.lens.focal_px[0] / (fill * f64::from(self.lens.width_px));
            let pixel = [
                random.between(0.1, 0.9) * f64::from(self.lens.width_px),
                random.between(0.1, 0.9) * f64::from(self.lens.height_px),
            ];
            let Some([x, y]) = self.lens.ray(pixel) else {
                continue;
            };
            let (tilt, towards) = (random.between(0.1, 0.75), random.between(0.0, TAU));
            let axis = Vector3::new(towards.cos(), towards.sin(), 0.0);
            let roll = random.between(-0.5, 0.5);
            let pose = Isometry3::from_parts(
                Translation3::new(x * distance, y * distance, distance),
                UnitQuaternion::from_rotation_matrix(
                    &(Rotation3::new(axis * tilt) * Rotation3::new(Vector3::z() * roll)),
                ),
            ) * Translation3::new(-width_m / 2.0, -height_m / 2.0, 0.0);
            if self.sees(board, &pose, 12.0) {
                poses.push(pose);
            }
        }
        assert_eq!(poses.len(), count, "the board does not fit this lens");
        poses
    }
}

/// By a Gaussian, along rows and then columns.
fn blur(values: &mut [f64], width: usize, sigma: f64) {
    if sigma <= 0.0 {
        return;
    }
    let radius = (3.0 * sigma).ceil() as isize;
    let weight = |i: isize| (-0.5 * (i as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    let height = values.len() / width;
    for (dx, dy) in [(1, 0), (0, 1)] {
        let old = values.to_vec();
        let at = |x: isize, y: isize| {
            let x = x.clamp(0, width as isize - 1) as usize;
            old[y.clamp(0, height as isize - 1) as usize * width + x]
        };
        for (i, value) in values.iter_mut().enumerate() {
            let (x, y) = ((i % width) as isize, (i / width) as isize);
            let near = (-radius..=radius).map(|k| weight(k) / sum * at(x + k * dx, y + k * dy));
            *value = near.sum();
        }
    }
}
