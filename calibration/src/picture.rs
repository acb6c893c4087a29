//! Gray pictures: what a camera gives to be looked at, and what a board is drawn on.

/// A gray picture: rows from the top, a byte for each pixel, 0 black. The middle of the first pixel is
/// (0, 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gray {
    pub(crate) width_px: u32,
    pub(crate) height_px: u32,
    pub(crate) pixels: Vec<u8>,
}

/// Pixels that do not fill the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a picture of {width_px} x {height_px} has {expected} bytes, not {found}")]
pub struct PixelsError {
    /// Columns.
    pub width_px: u32,
    /// Rows.
    pub height_px: u32,
    /// How many bytes it has.
    pub expected: u64,
    /// How many there were.
    pub found: usize,
}

impl Gray {
    /// Of a byte for each pixel.
    pub fn new(width_px: u32, height_px: u32, pixels: Vec<u8>) -> Result<Self, PixelsError> {
        let expected = u64::from(width_px) * u64::from(height_px);
        if pixels.len() as u64 != expected {
            let found = pixels.len();
            return Err(PixelsError {
                width_px,
                height_px,
                expected,
                found,
            });
        }
        Ok(Self {
            width_px,
            height_px,
            pixels,
        })
    }

    /// Of red, green and blue bytes for each pixel, weighed as in ITU-R BT.601.
    pub fn from_rgb(width_px: u32, height_px: u32, rgb: &[u8]) -> Result<Self, PixelsError> {
        let expected = 3 * u64::from(width_px) * u64::from(height_px);
        if rgb.len() as u64 != expected {
            let found = rgb.len();
            return Err(PixelsError {
                width_px,
                height_px,
                expected,
                found,
            });
        }
        let luma = |[r, g, b]: [u8; 3]| {
            let sum = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
            ((sum + 500) / 1000) as u8
        };
        let pixels = rgb.chunks_exact(3).map(|p| luma([p[0], p[1], p[2]]));
        Self::new(width_px, height_px, pixels.collect())
    }

    /// Columns.
    pub fn width_px(&self) -> u32 {
        self.width_px
    }

    /// Rows.
    pub fn height_px(&self) -> u32 {
        self.height_px
    }

    /// All of it, row after row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// As seen in a mirror: left is right.
    pub fn mirrored(&self) -> Self {
        let mut mirrored = self.clone();
        let width = self.width_px.max(1) as usize;
        for row in mirrored.pixels.chunks_exact_mut(width) {
            row.reverse();
        }
        mirrored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_fill_it_and_colours_have_their_weights() {
        let error = Gray::new(3, 2, vec![0; 5]).unwrap_err().to_string();
        assert_eq!(error, "a picture of 3 x 2 has 6 bytes, not 5");
        let error = Gray::from_rgb(1, 1, &[0; 2]).unwrap_err();
        assert_eq!(error.expected, 3);
        let rgb = [255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255];
        let gray = Gray::from_rgb(2, 2, &rgb).unwrap();
        assert_eq!(gray.pixels(), [255, 76, 150, 29]);
        assert_eq!(gray.mirrored().pixels(), [76, 255, 29, 150]);
        assert!(
            Gray::new(0, 0, vec![])
                .unwrap()
                .mirrored()
                .pixels()
                .is_empty()
        );
    }
}
