//! Pictures of real numbers, to smooth and to measure in.

use crate::picture::Gray;

/// A picture of real numbers; at least one pixel.
pub struct Plane {
    pub width: usize,
    pub height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// `None`: no pixel.
    pub fn of(picture: &Gray) -> Option<Self> {
        let values = picture.pixels().iter().map(|&p| f32::from(p)).collect();
        let (width, height) = (picture.width_px() as usize, picture.height_px() as usize);
        (width > 0 && height > 0).then_some(Self {
            width,
            height,
            values,
        })
    }

    /// At a pixel; the edge goes on outside.
    pub fn at(&self, x: isize, y: isize) -> f32 {
        let x = x.clamp(0, self.width as isize - 1) as usize;
        let y = y.clamp(0, self.height as isize - 1) as usize;
        self.values[y * self.width + x]
    }

    /// Between pixels, linearly.
    pub fn between(&self, [x, y]: [f64; 2]) -> f32 {
        // What is not finite or far outside is at the edge.
        let x = x.clamp(0.0, self.width as f64 - 1.0);
        let y = y.clamp(0.0, self.height as f64 - 1.0);
        let (column, row) = (x as isize, y as isize);
        let (right, down) = (x.fract() as f32, y.fract() as f32);
        let mix = |row| self.at(column, row) * (1.0 - right) + self.at(column + 1, row) * right;
        mix(row) * (1.0 - down) + mix(row + 1) * down
    }

    /// Of half the size: four pixels become one. (x, y) is at (2 x + 0.5, 2 y + 0.5) in this one.
    pub fn halved(&self) -> Self {
        let (width, height) = ((self.width / 2).max(1), (self.height / 2).max(1));
        let mean = |i: usize| {
            let (x, y) = ((i % width * 2) as isize, (i / width * 2) as isize);
            let sum = self.at(x, y) + self.at(x + 1, y) + self.at(x, y + 1) + self.at(x + 1, y + 1);
            sum / 4.0
        };
        Self {
            width,
            height,
            values: (0..width * height).map(mean).collect(),
        }
    }

    /// Blurred by a Gaussian.
    pub fn smoothed(&self, sigma_px: f32) -> Self {
        let radius = (3.0 * sigma_px).ceil() as isize;
        let weight = |i: isize| (-0.5 * (i as f32 / sigma_px).powi(2)).exp();
        let sum: f32 = (-radius..=radius).map(weight).sum();
        let weights: Vec<f32> = (-radius..=radius).map(|i| weight(i) / sum).collect();
        let (width, height) = (self.width, self.height);
        let mut along = vec![0.0; width * height];
        let mut padded = vec![0.0; width + 2 * radius as usize];
        for (row, out) in along.chunks_exact_mut(width).enumerate() {
            for (i, value) in padded.iter_mut().enumerate() {
                *value = self.at(i as isize - radius, row as isize);
            }
            for (out, window) in out.iter_mut().zip(padded.windows(weights.len())) {
                *out = window.iter().zip(&weights).map(|(v, w)| v * w).sum();
            }
        }
        let mut values = vec![0.0; width * height];
        for (row, out) in values.chunks_exact_mut(width).enumerate() {
            for (i, weight) in weights.iter().enumerate() {
                let from = (row as isize + i as isize - radius).clamp(0, height as isize - 1);
                let from = &along[from as usize * width..][..width];
                for (out, value) in out.iter_mut().zip(from) {
                    *out += weight * value;
                }
            }
        }
        Self {
            width,
            height,
            values,
        }
    }

    /// Change to the right and downwards, per pixel.
    pub fn slope(&self, x: isize, y: isize) -> [f64; 2] {
        let right = self.at(x + 1, y) - self.at(x - 1, y);
        let down = self.at(x, y + 1) - self.at(x, y - 1);
        [f64::from(right) / 2.0, f64::from(down) / 2.0]
    }

    /// Gray levels between its darkest and its brightest twentieth.
    pub fn contrast(&self) -> f32 {
        let mut values = self.values.clone();
        values.sort_unstable_by(f32::total_cmp);
        let twentieth = values.len() / 20;
        values[values.len() - 1 - twentieth] - values[twentieth]
    }
}
