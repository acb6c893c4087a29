//! Points where four fields meet, two dark and two bright, opposite each other: what corners of a board
//! are, and little else.

use std::f64::consts::{PI, TAU};

use super::plane::Plane;

/// A saddle of the picture's brightness.
#[derive(Clone, Copy, Debug)]
pub struct Saddle {
    /// Where, pixels.
    pub at: [f64; 2],
    /// Directions of the four edges that meet there, each further to the right (clockwise as seen) than
    /// the one before; between the first and the second it is bright. Unit vectors.
    pub edges: [[f64; 2]; 4],
    /// Gray levels between bright and dark, at least.
    pub contrast: f32,
}

/// How much the picture is blurred before it is looked at; nothing smaller than this is seen.
const SIGMA_PX: f32 = 1.5;

/// How much to measure the directions of edges.
const FINE_PX: f32 = 0.8;

/// Radius of the circle round a saddle on which its edges are looked for: inside the white round a
/// marker, outside of what blur makes of the middle.
const CIRCLE_PX: f64 = 3.0;

/// Samples on it.
const AROUND: usize = 32;

/// How far along an edge it is looked at, one standard deviation in sides of a square: a lens bends it
/// further on.
const SPREAD: f64 = 0.12;

/// More are no board.
const MOST: usize = 1500;

/// Contrast below which there is only noise, gray levels.
const LEAST_CONTRAST: f32 = 6.0;

/// Finds them, the strongest first.
pub fn saddles(plane: &Plane) -> Vec<Saddle> {
    let (smooth, fine) = (plane.smoothed(SIGMA_PX), plane.smoothed(FINE_PX));
    let (width, height) = (plane.width, plane.height);
    if width < 8 || height < 8 {
        return vec![];
    }
    // Minus the determinant of the second derivatives: above zero where they differ in sign.
    let mut strength = vec![0.0; width * height];
    for y in 2..height - 2 {
        for x in 2..width - 2 {
            let [xx, xy, yy] = curvature(&smooth, x as isize, y as isize);
            strength[y * width + x] = (xy * xy - xx * yy).max(0.0);
        }
    }
    let strongest = strength.iter().copied().fold(0.0, f32::max);
    let least = (0.01 * strongest).max(strength_of(LEAST_CONTRAST));
    let mut found = vec![];
    for y in 2..height - 2 {
        for x in 2..width - 2 {
            let i = y * width + x;
            if strength[i] < least || !is_peak(&strength, width, i) {
                continue;
            }
            found.extend(saddle_at(&smooth, &fine, x as isize, y as isize));
        }
    }
    found.sort_by(|a: &Saddle, b| b.contrast.total_cmp(&a.contrast));
    found.truncate(MOST);
    found
}

/// Where four quarters of a plane, bright and dark by turns with this contrast, meet, blurred by
/// SIGMA_PX, the mixed derivative is contrast / (π σ²); the strength is its square.
fn strength_of(contrast: f32) -> f32 {
    (contrast / (PI as f32 * SIGMA_PX * SIGMA_PX)).powi(2)
}

fn is_peak(strength: &[f32], width: usize, i: usize) -> bool {
    (0..25).filter(|&k| k != 12).all(|k| {
        let other = i + k / 5 * width + k % 5 - 2 * width - 2;
        // Of two that are equal the first.
        strength[other] < strength[i] || (strength[other] == strength[i] && other > i)
    })
}

fn curvature(plane: &Plane, x: isize, y: isize) -> [f32; 3] {
    let at = |dx, dy| plane.at(x + dx, y + dy);
    let middle = 2.0 * at(0, 0);
    let mixed = at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1);
    [
        at(1, 0) + at(-1, 0) - middle,
        mixed / 4.0,
        at(0, 1) + at(0, -1) - middle,
    ]
}

fn saddle_at(smooth: &Plane, fine: &Plane, x: isize, y: isize) -> Option<Saddle> {
    let [xx, xy, yy] = curvature(smooth, x, y).map(f64::from);
    let [gx, gy] = smooth.slope(x, y);
    let det = xx * yy - xy * xy;
    if det >= 0.0 {
        return None;
    }
    // Where the slope is zero.
    let (dx, dy) = ((xy * gy - yy * gx) / det, (xy * gx - xx * gy) / det);
    if dx.hypot(dy) > 2.0 {
        return None;
    }
    let at = [x as f64 + dx, y as f64 + dy];
    let edges = edges(fine, at)?;
    let strength = (-det).sqrt() as f32;
    Some(Saddle {
        at,
        edges,
        contrast: strength * PI as f32 * SIGMA_PX * SIGMA_PX,
    })
}

/// The edges that meet in a point: where a circle round it goes from dark to bright and from bright to dark,
/// twice each and opposite each other. (The second derivatives do not say it: however narrow the bright
/// fields are, blurred by a Gaussian they curve up as much as the dark ones curve down.)
fn edges(fine: &Plane, at: [f64; 2]) -> Option<[[f64; 2]; 4]> {
    let direction = |step: f64| {
        let angle = step / AROUND as f64 * TAU;
        [angle.cos(), angle.sin()]
    };
    let mut values = [0.0; AROUND];
    for (step, value) in values.iter_mut().enumerate() {
        let [x, y] = direction(step as f64);
        *value = fine.between([at[0] + CIRCLE_PX * x, at[1] + CIRCLE_PX * y]);
    }
    let darkest = values.iter().copied().fold(f32::MAX, f32::min);
    let brightest = values.iter().copied().fold(f32::MIN, f32::max);
    let middle = (darkest + brightest) / 2.0;
    // Each with whether it is bright after it.
    let mut crossings = vec![];
    for step in 0..AROUND {
        let (a, b) = (values[step] - middle, values[(step + 1) % AROUND] - middle);
        if (a < 0.0) != (b < 0.0) {
            crossings.push((step as f64 + f64::from(a / (a - b)), b >= 0.0));
        }
    }
    let [first, second, third, fourth] = *crossings.as_slice() else {
        return None;
    };
    let opposite = |a: f64, b: f64| ((b - a) / AROUND as f64 * TAU - PI).abs() < 0.5;
    if !opposite(first.0, third.0) || !opposite(second.0, fourth.0) {
        return None;
    }
    let mut edges = [first, second, third, fourth];
    if !first.1 {
        edges.rotate_left(1);
    }
    Some(edges.map(|(step, _)| direction(step)))
}

/// The point in which the edges near `start` meet, to a fraction of a pixel: where the slopes of the
/// picture are at right angles to the way to it (Förstner and Gülch, 1987). `slopes` is the picture, hardly
/// smoothed; `sides` lead along the edges to the four corners beside this one, those that are opposite each
/// other two places apart. Slopes count the less the further they are from an edge: `part` of the square's
/// height is one standard deviation. `None`: the edges do not meet near `start`.
pub fn refined(
    slopes: &Plane,
    start: [f64; 2],
    sides: [[f64; 2]; 4],
    part: f64,
) -> Option<[f64; 2]> {
    let length = |side: [f64; 2]| side[0].hypot(side[1]);
    let cross = |a: [f64; 2], b: [f64; 2]| a[0] * b[1] - a[1] * b[0];
    let strips = [0, 1, 2, 3].map(|i| {
        let (side, beside) = (sides[i], sides[(i + 1) % 4]);
        let (length, height) = (length(side), cross(side, beside).abs() / length(side));
        Strip {
            along: [side[0] / length, side[1] / length],
            spread_px: (SPREAD * length).clamp(2.0, 6.0),
            width_px: (part * height).clamp(0.8, 4.0),
        }
    });
    let shortest = sides.into_iter().map(length).fold(f64::MAX, f64::min);
    let reach = 2.5
        * strips
            .iter()
            .map(|strip| strip.spread_px)
            .fold(0.0, f64::max);
    let mut at = start;
    for _ in 0..20 {
        let [left, top] = at.map(|v| (v - reach).ceil().max(1.0) as isize);
        let right = ((at[0] + reach) as isize).min(slopes.width as isize - 2);
        let bottom = ((at[1] + reach) as isize).min(slopes.height as isize - 2);
        let (mut a, mut b, mut c, mut u, mut v) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for y in top..=bottom {
            for x in left..=right {
                let (dx, dy) = (x as f64 - at[0], y as f64 - at[1]);
                let weight = strips
                    .iter()
                    .map(|strip| strip.weight([dx, dy]))
                    .fold(0.0, f64::max);
                if weight < 0.01 {
                    continue;
                }
                let [gx, gy] = slopes.slope(x, y);
                let along = gx * dx + gy * dy;
                a += weight * gx * gx;
                b += weight * gx * gy;
                c += weight * gy * gy;
                u += weight * gx * along;
                v += weight * gy * along;
            }
        }
        let det = a * c - b * b;
        // One edge alone, or none.
        if det.is_nan() || det <= 1e-3 * (a + c) * (a + c) {
            return None;
        }
        let (dx, dy) = ((c * u - b * v) / det, (a * v - b * u) / det);
        at = [at[0] + dx, at[1] + dy];
        let off = (at[0] - start[0]).hypot(at[1] - start[1]);
        if off.is_nan() || off > 0.2 * shortest {
            return None;
        }
        if dx.hypot(dy) < 1e-3 {
            break;
        }
    }
    Some(at)
}

/// Along one edge, from the corner.
struct Strip {
    along: [f64; 2],
    /// Standard deviations of the weight, along the edge and across it, pixels.
    spread_px: f64,
    width_px: f64,
}

impl Strip {
    /// How much a slope counts so far from the corner.
    fn weight(&self, [dx, dy]: [f64; 2]) -> f64 {
        let along = dx * self.along[0] + dy * self.along[1];
        let across = dx * self.along[1] - dy * self.along[0];
        let off = (across / self.width_px).powi(2) + (along / self.spread_px).powi(2);
        match along >= 0.0 {
            true => (-0.5 * off).exp(),
            false => 0.0,
        }
    }
}
