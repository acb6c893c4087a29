//! Frames that show numbers: what cameras see where there is nothing to see.

use hilt_protocol::{CameraSpec, Image};

/// A frame with one bar for each of `values`, from the top down; each fills its share, 0 to 1, of the
/// width.
pub(crate) fn draw(spec: &CameraSpec, values: &[f64], captured_ns: u64) -> Image {
    let (height, width) = (spec.height as usize, spec.width as usize);
    let mut rgb = vec![32u8; height * width * 3];
    for (row, pixels) in rgb.chunks_exact_mut(width * 3).enumerate() {
        let Some(value) = values.get(row * values.len() / height) else {
            continue;
        };
        let filled = (value * width as f64) as usize;
        for pixel in pixels.chunks_exact_mut(3).take(filled) {
            pixel.copy_from_slice(&[40, 140, 200]);
        }
    }
    Image {
        captured_ns,
        height: spec.height,
        width: spec.width,
        rgb: rgb.into(),
    }
}
