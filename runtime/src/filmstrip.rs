//! Episodes as pictures: a strip with a row per episode, and a film in which all run side by side.

use std::path::Path;

use hilt_protocol::Image;
use image::{
    Delay, DynamicImage, Frame, ImageError, Rgb, RgbImage,
    codecs::gif::{GifEncoder, Repeat},
};

/// Frames per episode.
const COLUMNS: usize = 8;
/// Each pixel of a frame is drawn as a square of so many.
const SCALE: u32 = 2;
/// Between frames, pixels.
const GAP: u32 = 4;

/// Frames of episodes, and whether each succeeded; all frames of one size.
pub type Episodes<'a> = &'a [(Vec<Image>, bool)];

/// Draws `episodes`. `None` when there is no frame.
pub fn draw(episodes: Episodes) -> Option<RgbImage> {
    let first = episodes.iter().flat_map(|(frames, _)| frames).next()?;
    let (width, height) = (first.width * SCALE + GAP, first.height * SCALE + GAP);
    let rows = u32::try_from(episodes.len()).ok()?;
    let mut strip = RgbImage::from_pixel(width * COLUMNS as u32 + GAP, height * rows + GAP, WHITE);
    for (row, (frames, _)) in (0u32..).zip(episodes) {
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
                    strip.put_pixel(left + x, top + y, Rgb([rgb[0], rgb[1], rgb[2]]));
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

/// A film is at most so large, so that a page can carry it: it skips frames until it is.
const FILM_BYTES: usize = 700_000;
/// Films have so many episodes in a row.
const FILM_COLUMNS: usize = 3;
/// A film stands still at its end for so long, milliseconds.
const LAST_MS: u32 = 1500;
/// Around an episode that succeeded, once it has, and around one that did not.
const GREEN: Rgb<u8> = Rgb([40, 160, 60]);
const RED: Rgb<u8> = Rgb([200, 60, 50]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

/// All episodes at one moment: frame `at` of each, or its last one in a frame of its result's
/// colour.
fn moment(episodes: Episodes, at: usize) -> Option<RgbImage> {
    let first = episodes.iter().flat_map(|(frames, _)| frames).next()?;
    let (width, height) = (first.width + 2 * GAP, first.height + 2 * GAP);
    let columns = episodes.len().min(FILM_COLUMNS) as u32;
    let rows = episodes.len().div_ceil(FILM_COLUMNS) as u32;
    let mut picture = RgbImage::from_pixel(columns * width, rows * height, WHITE);
    for (number, (frames, success)) in (0u32..).zip(episodes) {
        let Some(frame) = frames.get(at).or(frames.last()) else {
            continue;
        };
        if (frame.height, frame.width) != (first.height, first.width) {
            continue;
        }
        let (left, top) = (number % columns * width, number / columns * height);
        if at + 1 >= frames.len() {
            let colour = if *success { GREEN } else { RED };
            for y in 1..height - 1 {
                for x in 1..width - 1 {
                    picture.put_pixel(left + x, top + y, colour);
                }
            }
        }
        let rgb = frame.rgb.as_chunks::<3>().0;
        for y in 0..frame.height {
            for x in 0..frame.width {
                let pixel = rgb[(y * frame.width + x) as usize];
                picture.put_pixel(left + GAP + x, top + GAP + y, Rgb(pixel));
            }
        }
    }
    Some(picture)
}

/// An animated GIF of at most `most_bytes`, as smooth as these allow; `None` when there is no frame.
fn film(
    episodes: Episodes,
    policy_hz: u32,
    most_bytes: usize,
) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(last) = episodes.iter().map(|(frames, _)| frames.len()).max() else {
        return Ok(None);
    };
    let last = last.saturating_sub(1);
    let mut stride = 1;
    loop {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, 20);
        encoder.set_repeat(Repeat::Infinite)?;
        let step_ms = 1000 * stride as u32 / policy_hz.max(1);
        for at in (0..last).step_by(stride).chain([last]) {
            let Some(picture) = moment(episodes, at) else {
                return Ok(None);
            };
            let shown_ms = if at == last { LAST_MS } else { step_ms };
            let delay = Delay::from_numer_denom_ms(shown_ms, 1);
            let picture = DynamicImage::from(picture).into_rgba8();
            encoder.encode_frame(Frame::from_parts(picture, 0, 0, delay))?;
        }
        drop(encoder);
        if bytes.len() <= most_bytes || stride > last {
            return Ok(Some(bytes));
        }
        // About as many times too large as frames have to go.
        stride = (stride + 1).max(stride * bytes.len() / most_bytes);
    }
}

/// Films the episodes into a GIF file; does nothing when there is no frame.
pub fn write_film(path: &Path, episodes: Episodes, policy_hz: u32) -> Result<(), ImageError> {
    match film(episodes, policy_hz, FILM_BYTES)? {
        Some(bytes) => Ok(std::fs::write(path, bytes)?),
        None => Ok(()),
    }
}

/// Draws into a PNG file; does nothing when there is no frame.
pub fn write(path: &Path, episodes: Episodes) -> Result<(), ImageError> {
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

    fn frame(value: u8) -> Image {
        Image {
            captured_ns: 0,
            height: 16,
            width: 16,
            rgb: vec![value; 768].into(),
        }
    }

    #[test]
    fn a_film_ends_with_each_result() {
        let episodes = [
            (vec![frame(10), frame(20)], true),
            (vec![frame(30); 4], false),
        ];
        let picture = moment(&episodes, 0).unwrap();
        assert_eq!(picture.dimensions(), (48, 24));
        assert_eq!(picture.get_pixel(12, 12).0, [10; 3]);
        assert_eq!(picture.get_pixel(36, 12).0, [30; 3]);
        assert_eq!(*picture.get_pixel(2, 12), WHITE);
        let picture = moment(&episodes, 3).unwrap();
        assert_eq!(picture.get_pixel(12, 12).0, [20; 3], "the last frame stays");
        assert_eq!(
            (*picture.get_pixel(2, 2), *picture.get_pixel(26, 2)),
            (GREEN, RED)
        );
    }

    #[test]
    fn a_film_skips_frames_until_it_fits() {
        use image::{AnimationDecoder, codecs::gif::GifDecoder};

        /// How long its frames are shown, milliseconds.
        fn shown_ms(gif: &[u8]) -> Vec<u32> {
            let frames = GifDecoder::new(std::io::Cursor::new(gif))
                .unwrap()
                .into_frames();
            let delay = |frame: Frame| frame.delay().numer_denom_ms();
            frames
                .map(|frame| delay(frame.unwrap()))
                .map(|(numer, denom)| numer / denom)
                .collect()
        }
        // Noise does not compress.
        let mut random = hilt_protocol::noise::Uniforms::new(1);
        let mut noise = || Image {
            rgb: (0..768).map(|_| random.below(256) as u8).collect(),
            ..frame(0)
        };
        let episodes = [((0..41).map(|_| noise()).collect(), true)];
        let smooth = film(&episodes, 10, usize::MAX).unwrap().unwrap();
        let mut expected = vec![100; 40];
        expected.push(LAST_MS);
        assert_eq!(shown_ms(&smooth), expected);
        let small = film(&episodes, 10, smooth.len() / 3).unwrap().unwrap();
        assert!(
            small.len() <= smooth.len() / 3,
            "{} {}",
            small.len(),
            smooth.len()
        );
        let shown = shown_ms(&small);
        assert!(shown.len() > 5 && shown.len() < 15, "{shown:?}");
        assert_eq!(shown.last(), Some(&LAST_MS));
        assert!(film(&[(vec![], true)], 10, 1000).unwrap().is_none());
        assert!(film(&[], 10, 1000).unwrap().is_none());
    }

    #[test]
    fn each_frame_is_where_it_belongs() {
        let strip = draw(&[(vec![frame(1), frame(2)], true), (vec![frame(3)], false)]).unwrap();
        assert_eq!(strip.dimensions(), (8 * 36 + 4, 2 * 36 + 4));
        assert_eq!(strip.get_pixel(4, 4).0, [1; 3]);
        assert_eq!(strip.get_pixel(40, 35).0, [2; 3]);
        assert_eq!(strip.get_pixel(35, 71).0, [3; 3]);
        assert_eq!(strip.get_pixel(40, 40).0, [255; 3]);
        assert!(draw(&[(vec![], true)]).is_none());
    }
}
