//! What changes from picture to picture, in a few numbers for each.

use nalgebra::DMatrix;

use super::{LEAST_FRAMES, LatencyError};
use crate::picture::Gray;

/// Cells of a thumbnail at most, across and down.
const CELLS: [u32; 2] = [64, 48];
/// Patterns that are kept. A hand that goes to and fro needs two or three, the light one.
const PATTERNS: usize = 6;
/// A picture whose gray varies less, of 255, shows nothing.
const LEAST_CONTRAST: f64 = 1.5;

/// What is kept of one picture: the means of its cells, which have little of the pixels' noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The stamp that the camera gave it, nanoseconds.
    pub stamped_ns: u64,
    cells: Vec<f32>,
}

impl Frame {
    /// Of a picture.
    pub fn new(stamped_ns: u64, picture: &Gray) -> Self {
        let (width, height) = (picture.width_px(), picture.height_px());
        let (across, down) = (CELLS[0].min(width), CELLS[1].min(height));
        let mut cells = Vec::with_capacity((across * down) as usize);
        for row in 0..down {
            let rows = row * height / down..(row + 1) * height / down;
            for column in 0..across {
                let columns = column * width / across..(column + 1) * width / across;
                let (mut sum, mut count) = (0u64, 0u64);
                for y in rows.clone() {
                    let from = (y * width) as usize;
                    let line = &picture.pixels()
                        [from + columns.start as usize..from + columns.end as usize];
                    sum += line.iter().map(|pixel| u64::from(*pixel)).sum::<u64>();
                    count += line.len() as u64;
                }
                cells.push(sum as f32 / count.max(1) as f32);
            }
        }
        Self { stamped_ns, cells }
    }

    /// Of mean 0 and spread 1: so light that grows brighter and dimmer is gone. The spread as it was.
    fn normal(&self) -> (Vec<f64>, f64) {
        let count = self.cells.len().max(1) as f64;
        let mean = self.cells.iter().map(|cell| f64::from(*cell)).sum::<f64>() / count;
        let from_mean = self.cells.iter().map(|cell| f64::from(*cell) - mean);
        let mut cells: Vec<f64> = from_mean.collect();
        let spread = (cells.iter().map(|cell| cell * cell).sum::<f64>() / count).sqrt();
        for cell in &mut cells {
            *cell /= spread.max(1e-6);
        }
        (cells, spread)
    }
}

/// The strongest patterns of change: how much each frame has of each, a column per pattern, of length 1
/// and of mean 0 (the left singular vectors of frames × cells). There is one at least.
pub(super) fn patterns(frames: &[Frame]) -> Result<DMatrix<f64>, LatencyError> {
    let normal: Vec<(Vec<f64>, f64)> = frames.iter().map(Frame::normal).collect();
    let dark = normal
        .iter()
        .filter(|(_, spread)| *spread < LEAST_CONTRAST)
        .count();
    if dark * 2 > frames.len() {
        return Err(LatencyError::Dark);
    }
    if frames.windows(2).all(|two| two[0].cells == two[1].cells) {
        return Err(LatencyError::Frozen);
    }
    let cells = frames
        .iter()
        .map(|frame| frame.cells.len())
        .min()
        .unwrap_or(0);
    let mut change = DMatrix::from_fn(cells, frames.len(), |cell, frame| normal[frame].0[cell]);
    for mut row in change.row_iter_mut() {
        let mean = row.mean();
        row.add_scalar_mut(-mean);
    }
    let eigen = change.tr_mul(&change).symmetric_eigen();
    let mut order: Vec<usize> = (0..frames.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let strongest = eigen.eigenvalues[order[0]];
    let kept = order
        .into_iter()
        .take(PATTERNS.min(frames.len() * PATTERNS / LEAST_FRAMES));
    // Less, of cells whose spread is 1, is what rounding leaves of light that grew brighter and dimmer.
    let rounding = 1e-12 * (cells * frames.len()) as f64;
    let least = rounding.max(1e-9 * strongest);
    let kept = kept.filter(|i| eigen.eigenvalues[*i] > least);
    let columns: Vec<_> = kept
        .map(|i| eigen.eigenvectors.column(i).into_owned())
        .collect();
    if columns.is_empty() {
        return Err(LatencyError::NotSeen { quality: 0.0 });
    }
    Ok(DMatrix::from_columns(&columns))
}
