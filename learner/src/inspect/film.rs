//! Some episodes to be looked at: the first, a middle and the last one, with a few small frames and a thinned curve of
//! what was observed.
//!
//! Which episode is the middle one is known when all are over. Until then evenly spread ones are kept, small, and the
//! newest as it is: its frames are shared with the entries that brought them.

use std::io;

use hilt_protocol::{Image, Observation};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use super::{figures::Episode, statistics::Thinned};

/// Frames of an episode that are shown at most …
const FRAMES: usize = 9;
/// … of so many, from which they are chosen when the last is known.
const FRAMES_KEPT: usize = 32;
/// Points of a curve at most, besides the last.
const POINTS: usize = 200;
/// Episodes that are kept until the middle one is known.
const EPISODES: usize = 8;
/// The longer side of a small frame, pixels.
const SIDE: u32 = 112;
/// Numbers of an observation that are drawn at most.
pub const CURVES: usize = 24;

/// An episode as it is shown.
#[derive(Clone, Debug)]
pub struct Film {
    /// Its place among all episodes, from 0.
    pub ordinal: u64,
    /// Its figures.
    pub episode: Episode,
    /// Seconds since its beginning, or steps of a table; and the first [`CURVES`] numbers of what was observed.
    pub curve: Vec<(f64, Vec<f32>)>,
    /// Indices of frames, and one frame per camera.
    pub frames: Vec<(u32, Vec<Small>)>,
}

/// A frame made small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Small {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Small {
    /// Every pixel the mean of a square of `image`, which has all of its pixels.
    pub fn of(image: &Image) -> Self {
        let factor = image.width.max(image.height).div_ceil(SIDE).max(1);
        let (width, height) = (
            (image.width / factor).max(1),
            (image.height / factor).max(1),
        );
        let pixels = image.rgb.as_chunks::<3>().0;
        let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
        for y in 0..height {
            for x in 0..width {
                let (mut sum, mut count) = ([0u32; 3], 0);
                for row in y * factor..((y + 1) * factor).min(image.height) {
                    let from = row as usize * image.width as usize;
                    let columns = x * factor..((x + 1) * factor).min(image.width);
                    for column in columns {
                        let pixel = pixels[from + column as usize];
                        sum = [0, 1, 2].map(|i| sum[i] + u32::from(pixel[i]));
                        count += 1;
                    }
                }
                rgb.extend(sum.map(|sum| (sum / count.max(1)) as u8));
            }
        }
        Self { width, height, rgb }
    }

    /// As a PNG file.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.rgb, self.width, self.height, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)?;
        Ok(png)
    }
}

/// A [`Film`] in the making.
pub struct Sketch {
    wanted: bool,
    begun_ns: u64,
    curve: Thinned<(f64, Vec<f32>)>,
    frames: Thinned<(u32, Vec<Image>)>,
    last_point: Option<(f64, Vec<f32>)>,
    last_frames: Option<(u32, Vec<Image>)>,
}

impl Sketch {
    /// The next observation of a recording's episode; `whole` says whether all frames have all of their pixels.
    pub fn see(&mut self, observation: &Observation, index: u32, whole: bool) {
        if !self.wanted {
            return;
        }
        if self.curve.offered() == 0 {
            self.begun_ns = observation.captured_ns;
        }
        let since_ns = observation.captured_ns.saturating_sub(self.begun_ns);
        self.point(since_ns as f64 * 1e-9, &observation.proprio);
        if whole {
            let frames = (index, observation.images.clone());
            self.frames.offer(|| frames.clone());
            self.last_frames = Some(frames);
        }
    }

    /// The next point of the curve.
    pub fn point(&mut self, at: f64, numbers: &[f32]) {
        if !self.wanted {
            return;
        }
        let point = (at, numbers[..numbers.len().min(CURVES)].to_vec());
        self.curve.offer(|| point.clone());
        self.last_point = Some(point);
    }

    fn develop(&self, ordinal: u64, episode: &Episode) -> Film {
        let kept = self.curve.kept().iter().map(|(_, point)| point.clone());
        let mut curve: Vec<_> = kept.collect();
        if let Some(last) = &self.last_point
            && curve.last() != Some(last)
        {
            curve.push(last.clone());
        }
        let kept = self.frames.kept().iter().map(|(_, frames)| frames);
        let mut frames: Vec<&(u32, Vec<Image>)> = kept.collect();
        if let Some(last) = &self.last_frames
            && frames.last().is_none_or(|(index, _)| *index != last.0)
        {
            frames.push(last);
        }
        let small =
            |(index, images): &(u32, Vec<Image>)| (*index, images.iter().map(Small::of).collect());
        Film {
            ordinal,
            episode: episode.clone(),
            curve,
            frames: spread(frames.len()).map(|at| small(frames[at])).collect(),
        }
    }
}

/// At most [`FRAMES`] of `count`, evenly, the first and the last among them.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(FRAMES);
    let last = shown.saturating_sub(1).max(1);
    (0..shown).map(move |i| (i * (count - 1) + last / 2) / last)
}

/// Films of a stream of episodes.
pub struct Films {
    wanted: bool,
    kept: Thinned<Film>,
    last: Option<(Sketch, Episode)>,
}

impl Films {
    /// Of none, where they are not `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            kept: Thinned::new(EPISODES),
            last: None,
        }
    }

    /// For the episode that begins.
    pub fn sketch(&self) -> Sketch {
        Sketch {
            wanted: self.wanted,
            begun_ns: 0,
            curve: Thinned::new(POINTS),
            frames: Thinned::new(FRAMES_KEPT),
            last_point: None,
            last_frames: None,
        }
    }

    /// The episode is over.
    pub fn take(&mut self, sketch: Sketch, episode: &Episode) {
        if !self.wanted {
            return;
        }
        let ordinal = self.kept.offered();
        self.kept.offer(|| sketch.develop(ordinal, episode));
        self.last = Some((sketch, episode.clone()));
    }

    /// The first, one near the middle and the last; each once.
    pub fn finish(self) -> Vec<Film> {
        let Some((sketch, episode)) = self.last else {
            return Vec::new();
        };
        let last = sketch.develop(self.kept.offered() - 1, &episode);
        let middle = last.ordinal / 2;
        let kept = self.kept.kept();
        let nearest = (kept.iter()).min_by_key(|(ordinal, _)| ordinal.abs_diff(middle));
        let mut films: Vec<Film> = (kept.first().into_iter().chain(nearest))
            .map(|(_, film)| film.clone())
            .chain([last])
            .collect();
        films.dedup_by_key(|film| film.ordinal);
        films
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::figures::{End, Place};

    fn image(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Image {
        let at = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Image {
            captured_ns: 0,
            height,
            width,
            rgb: at.flat_map(|(x, y)| [value(x, y), 1, 2]).collect(),
        }
    }

    #[test]
    fn a_frame_is_made_small_by_means_of_squares() {
        let small = Small::of(&image(16, 16, |x, y| (16 * y + x) as u8));
        assert_eq!((small.width, small.height), (16, 16));
        assert_eq!(small.rgb[..6], [0, 1, 2, 1, 1, 2]);
        // By 3, and what is left over at the edges is not shown.
        let small = Small::of(&image(300, 200, |x, y| (x % 3 * 10 + y % 3) as u8));
        assert_eq!((small.width, small.height), (100, 66));
        assert_eq!(small.rgb.len(), 3 * 100 * 66);
        assert!(
            small
                .rgb
                .as_chunks::<3>()
                .0
                .iter()
                .all(|p| *p == [11, 1, 2])
        );
        // As narrow as can be.
        assert_eq!(Small::of(&image(16, 4096, |_, _| 7)).width, 1);
        assert!(small.png().unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn frames_are_spread_from_the_first_to_the_last() {
        for (count, wanted) in [
            (0, vec![]),
            (1, vec![0]),
            (2, vec![0, 1]),
            (9, (0..9).collect()),
            (33, (0..9).map(|i| 4 * i).collect()),
        ] {
            assert_eq!(spread(count).collect::<Vec<_>>(), wanted);
        }
        let odd: Vec<usize> = spread(13).collect();
        assert_eq!((odd.len(), odd[0], odd[8]), (9, 0, 12));
        assert!(odd.windows(2).all(|w| w[0] < w[1]), "{odd:?}");
    }

    fn episode(row: usize) -> Episode {
        Episode {
            place: Place::Row { row },
            steps: 1,
            sum: 0.0,
            end: End::Cut,
            intervened_steps: 0,
            label: None,
        }
    }

    #[test]
    fn the_first_a_middle_and_the_last_are_shown_once_each() {
        for (count, wanted) in [
            (0, vec![]),
            (1, vec![0]),
            (2, vec![0, 1]),
            (3, vec![0, 1, 2]),
            (40, vec![0, 16, 39]),
        ] {
            let mut films = Films::new(true);
            for row in 0..count {
                let mut sketch = films.sketch();
                (0..1000).for_each(|at| sketch.point(f64::from(at), &[row as f32; 30]));
                films.take(sketch, &episode(row));
            }
            let films = films.finish();
            let ordinals: Vec<u64> = films.iter().map(|film| film.ordinal).collect();
            assert_eq!(ordinals, wanted);
            for film in films {
                assert_eq!(
                    film.episode.place,
                    Place::Row {
                        row: film.ordinal as usize
                    }
                );
                assert!(film.curve.len() <= POINTS + 1 && film.curve.len() > POINTS / 2);
                assert_eq!(film.curve.last().unwrap().0, 999.0);
                assert_eq!(film.curve[0].1, [film.ordinal as f32; CURVES]);
            }
        }
    }
}
