//! Episodes as one picture: a row per episode, frames from left to right.

use std::path::Path;

use hilt_protocol::Image;
use image::{ImageError, RgbImage};

/// Frames per episode.
const COLUMNS: usize = 8;
/// Each pixel of a frame is drawn as a square of so many.
const SCALE: u32 = 2;
/// Between frames, pixels.
const GAP: u32 = 4;

/// Draws `episodes`, each its frames in order, all of one size. `None` when there is no frame.
pub fn draw(episodes: &[Vec<Image>]) -> Option<RgbImage> {
    let first = episodes.iter().flatten().next()?;
    let (width, height) = (first.width * SCALE + GAP, first.height * SCALE + GAP);
    let rows = u32::try_from(episodes.len()).ok()?;
    let white = image::Rgb([255, 255, 255]);
    let mut strip = RgbImage::from_pixel(width * COLUMNS as u32 + GAP, height * rows + GAP, white);
    for (row, frames) in (0u32..).zip(episodes) {
        for (column, at) in (0u32..).zip(spread(frames.len())) {
            let frame = &frames[at];
            if (frame.height, frame.width) != (first.height, first.width) {
                continue;
            }
            let (left, top) = (GAP + column * width, GAP + row * height);
            for y in 0..frame.height * SCALE {
                for x in 0..frame.width * SCALE {
                    let from = ((y / SCALE * frame.width + x / SCALE) * 3) as usize;
                    let rgb = &frame.rgb[from..from + 3];
                    strip.put_pixel(left + x, top + y, image::Rgb([rgb[0], rgb[1], rgb[2]]));
                }
            }
        }
    }
    Some(strip)
}

/// At most [`COLUMNS`] of `count` frames, evenly, the first and the last among them.
fn spread(count: usize) -> Vec<usize> {
    if count <= COLUMNS {
        return (0..count).collect();
    }
    (0..COLUMNS)
        .map(|i| (i * (count - 1) + (COLUMNS - 1) / 2) / (COLUMNS - 1))
        .collect()
}

/// Draws into a PNG file; does nothing when there is no frame.
pub fn write(path: &Path, episodes: &[Vec<Image>]) -> Result<(), ImageError> {
    match draw(episodes) {
        Some(strip) => strip.save(path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spread_from_first_to_last() {
        assert_eq!(spread(3), [0, 1, 2]);
        assert_eq!(spread(8), [0, 1, 2, 3, 4, 5, 6, 7]);
        let many = spread(100);
        assert_eq!((many.len(), many[0], many[7]), (8, 0, 99));
        assert!(many.windows(2).all(|w| w[0] < w[1]));
        let nine = spread(9);
        assert!(
            nine.windows(2).all(|w| w[0] < w[1]) && nine[7] == 8,
            "{nine:?}"
        );
    }

    #[test]
    fn each_frame_is_where_it_belongs() {
        let frame = |value: u8| Image {
            captured_ns: 0,
            height: 16,
            width: 16,
            rgb: vec![value; 768].into(),
        };
        let strip = draw(&[vec![frame(1), frame(2)], vec![frame(3)]]).unwrap();
        assert_eq!(strip.dimensions(), (8 * 36 + 4, 2 * 36 + 4));
        assert_eq!(strip.get_pixel(4, 4).0, [1; 3]);
        assert_eq!(strip.get_pixel(40, 35).0, [2; 3]);
        assert_eq!(strip.get_pixel(35, 71).0, [3; 3]);
        assert_eq!(strip.get_pixel(40, 40).0, [255; 3]);
        assert!(draw(&[vec![]]).is_none());
    }
}
