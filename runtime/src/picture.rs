//! Camera frames in a terminal, for the person at its keyboard: without them the arm of a simulated
//! rig is driven blind.

use std::fmt::Write;

use hilt_protocol::Image;

/// Between two frames, in characters.
const GAP: usize = 1;

/// The frames side by side, no larger than `columns` × `rows` characters: two pixels to each, the
/// upper one as its ink and the lower one as its paper. Empty when there is no room.
pub fn draw(images: &[Image], columns: usize, rows: usize) -> String {
    let count = images.len().max(1);
    let share = (columns + GAP) / count;
    let width = images
        .iter()
        .map(|image| {
            let (height, width) = (image.height.max(1) as usize, image.width as usize);
            width.min(2 * rows * width / height)
        })
        .fold(share.saturating_sub(GAP), usize::min);
    let height = |image: &Image| width * image.height as usize / (image.width.max(1) as usize) / 2;
    let lines = images.iter().map(height).max().unwrap_or(0);
    let mut text = String::new();
    for line in 0..lines {
        if line > 0 {
            text.push('\n');
        }
        for image in images {
            let mut before = [None; 2];
            for column in 0..width {
                let colours = [2 * line, 2 * line + 1].map(|y| pixel(image, column, y, width));
                for ((code, colour), before) in [38, 48].into_iter().zip(colours).zip(&mut before) {
                    if before.replace(colour) != Some(colour) {
                        let [r, g, b] = colour;
                        // Writing to a string does not fail.
                        let _ = write!(text, "\x1b[{code};2;{r};{g};{b}m");
                    }
                }
                text.push('▀');
            }
            text.push_str("\x1b[0m ");
        }
    }
    text
}

/// The colour for place (`x`, `y`) of a picture that is `width` wide; black outside. Coarse, so that
/// few colours change from place to place: a slow line to the terminal would hold the arm up.
fn pixel(image: &Image, x: usize, y: usize, width: usize) -> [u8; 3] {
    let full = image.width as usize;
    let (from_x, from_y) = (x * full / width, y * full / width);
    let at = 3 * (from_y * full + from_x);
    match image.rgb.get(at..at + 3) {
        Some(&[r, g, b]) => [r, g, b].map(|v| v & 0xf0),
        _ => [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(side: u32, rgb: Vec<u8>) -> Image {
        Image {
            captured_ns: 0,
            height: side,
            width: side,
            rgb: rgb.into(),
        }
    }

    #[test]
    fn two_pixels_are_a_character() {
        let one = image(2, vec![16, 16, 16, 17, 18, 19, 32, 32, 32, 48, 49, 50]);
        assert_eq!(
            draw(&[one], 80, 24),
            "\x1b[38;2;16;16;16m\x1b[48;2;32;32;32m▀\x1b[48;2;48;48;48m▀\x1b[0m "
        );
    }

    #[test]
    fn it_fits_into_the_terminal() {
        let frames = [
            image(64, vec![9; 64 * 64 * 3]),
            image(64, vec![7; 64 * 64 * 3]),
        ];
        for (columns, rows) in [(200, 60), (80, 60), (80, 10), (5, 3), (1, 1), (0, 0)] {
            let text = draw(&frames, columns, rows);
            let widths: Vec<usize> = (text.lines())
                .map(|line| line.matches('▀').count() + GAP)
                .collect();
            assert!(widths.len() <= rows, "{columns}x{rows}: {}", widths.len());
            assert!(
                widths.iter().all(|&w| w <= columns),
                "{columns}x{rows}: {widths:?}"
            );
        }
        let full = draw(&frames, 200, 60);
        assert_eq!(full.lines().count(), 32);
        assert_eq!(draw(&[], 80, 24), "");
    }
}
