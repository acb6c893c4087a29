//! How much later than the motion a camera's frames are stamped: a joint swings as [`sweep`] says, and
//! the pictures show when.
//!
//! What a picture shows is some function of where the joint was when it was taken, whichever: a hand
//! before a table, or the whole room from a camera that rides along. So nothing is tracked. The changes
//! of the pictures are taken apart into their few strongest patterns (`signal`), and the delay is
//! sought at which these patterns together say best where the joint was. Which way is plus, and how far
//! a radian moves the picture, comes out of the same fit. Changes that have nothing to do with the joint,
//! light above all, stay in patterns of their own.

mod signal;
pub mod sweep;

#[cfg(test)]
mod tests;

use nalgebra::DMatrix;

pub use signal::Frame;
pub use sweep::{Sweep, SweepError};

/// Where a joint was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointSample {
    /// When, on the clock of the frames, nanoseconds.
    pub captured_ns: u64,
    /// Its position, radians.
    pub position_rad: f64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// A frame shows what was so much before its stamp, milliseconds; not below 0.
    pub delay_ms: f64,
    /// One standard deviation of it, milliseconds.
    pub spread_ms: f64,
    /// The part of the joint's motion that the pictures account for, 0 to 1.
    pub quality: f64,
    /// Where the pictures show the joint, at each frame's stamp: what a plot lays over the joint's own
    /// positions, as it is and then earlier by the delay.
    pub seen: Vec<JointSample>,
}

/// Why nothing came out.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LatencyError {
    /// Too little to go on.
    #[error(
        "{frames} frames over {seconds:.1} s have joint positions from {before_ms} ms before to {after_ms} ms after them; at least {LEAST_FRAMES} over {LEAST_S} s are needed: swing longer, and record the joint before the first frame and after the last",
        before_ms = LATEST_MS, after_ms = -EARLIEST_MS
    )]
    TooShort {
        /// Frames that can be used.
        frames: usize,
        /// From the first of them to the last.
        seconds: f64,
    },
    /// The camera's stamps do not go on.
    #[error(
        "frame {frame} is not stamped later than the one before it; the camera's driver gives stamps that cannot be used: give the latency in the rig's file, or use another camera"
    )]
    FrameStamps {
        /// Counted from 1.
        frame: usize,
    },
    /// The joint's do not.
    #[error("joint position {sample} is not later than the one before it")]
    JointStamps {
        /// Counted from 1.
        sample: usize,
    },
    /// A position that is none.
    #[error("joint position {sample} is not a finite number; the arm's joints were not read")]
    JointValue {
        /// Counted from 1.
        sample: usize,
    },
    /// They were not recorded at the same time.
    #[error(
        "the frames are stamped {apart_s:.1} s apart from the joint's positions: by another clock"
    )]
    Apart {
        /// From the middle of the ones to the middle of the others.
        apart_s: f64,
    },
    /// The joint did not swing.
    #[error(
        "the joint moved by {moved_rad:.3} rad; let it swing by at least {LEAST_SWING_RAD} rad"
    )]
    Still {
        /// From its lowest to its highest position.
        moved_rad: f64,
    },
    /// Nothing is to be seen at all.
    #[error("the pictures are dark or of one colour; take the cap off the lens, and give it light")]
    Dark,
    /// Each is the same.
    #[error(
        "all pictures are the same to the last bit; the camera gives an old one again and again: plug it in anew"
    )]
    Frozen,
    /// They show something else.
    #[error(
        "the pictures do not follow the joint ({:.0} % of its motion is seen in them); point the camera at the arm, let it swing farther, keep others out of the picture", quality * 100.0
    )]
    NotSeen {
        /// The part that is seen, 0 to 1.
        quality: f64,
    },
    /// More than one delay fits.
    #[error(
        "a delay of {first_ms:.0} ms and one of {second_ms:.0} ms fit alike; let the joint swing with a rhythm that changes"
    )]
    Ambiguous {
        /// The best.
        first_ms: f64,
        /// The next.
        second_ms: f64,
    },
    /// At the end of what is sought.
    #[error(
        "the frames are more than {LATEST_MS} ms late; the camera's buffers are too many, or its link too slow: use a smaller picture or another port"
    )]
    TooLate,
    /// A frame shows what comes.
    #[error(
        "the frames are stamped {early_ms:.0} ms before the motion that they show; the joint's positions are stamped too late, or by another clock"
    )]
    Early {
        /// By how much.
        early_ms: f64,
    },
}

/// Fewer frames say too little.
pub const LEAST_FRAMES: usize = 60;
/// Or of less time, seconds.
pub const LEAST_S: f64 = 2.0;
/// A smaller swing is lost between a servo's counts, radians.
pub const LEAST_SWING_RAD: f64 = 0.02;
/// Delays are sought from this …
const EARLIEST_MS: i64 = -100;
/// … to this, milliseconds.
const LATEST_MS: i64 = 600;
/// In these steps, before the best one is refined.
const STEP_MS: i64 = 4;
/// Less than this part of the joint's motion is none.
const LEAST_QUALITY: f64 = 0.5;

/// How late the frames are. Both in the order in which they were taken; the joint's positions from
/// before the first frame to after the last.
pub fn estimate(joint: &[JointSample], frames: &[Frame]) -> Result<Latency, LatencyError> {
    let lowest = joint
        .iter()
        .map(|sample| sample.position_rad)
        .fold(f64::INFINITY, f64::min);
    let highest = joint
        .iter()
        .map(|sample| sample.position_rad)
        .fold(f64::NEG_INFINITY, f64::max);
    in_order(joint, frames)?;
    let frames = covered(joint, frames)?;
    let moved_rad = highest - lowest;
    if moved_rad.is_nan() || moved_rad < LEAST_SWING_RAD {
        return Err(LatencyError::Still { moved_rad });
    }
    let patterns = signal::patterns(frames)?;
    let fit = Alignment::new(joint, frames, patterns);
    let grid: Vec<f64> = (EARLIEST_MS..=LATEST_MS)
        .step_by(STEP_MS as usize)
        .map(|ms| ms as f64 * 1e-3)
        .collect();
    let qualities: Vec<f64> = grid.iter().map(|delay| fit.quality(*delay)).collect();
    let best = (0..grid.len()).max_by(|a, b| qualities[*a].total_cmp(&qualities[*b]));
    let best = best.unwrap_or(0);
    let quality = qualities[best];
    if quality.is_nan() || quality < LEAST_QUALITY {
        return Err(LatencyError::NotSeen { quality });
    }
    if let Some(second) = rival(&qualities, best) {
        return Err(LatencyError::Ambiguous {
            first_ms: grid[best] * 1e3,
            second_ms: grid[second] * 1e3,
        });
    }
    if best + 1 == grid.len() {
        return Err(LatencyError::TooLate);
    }
    if best == 0 {
        let early_ms = -grid[0] * 1e3;
        return Err(LatencyError::Early { early_ms });
    }
    let delay_s = fit.refine(grid[best - 1], grid[best + 1]);
    let spread_s = fit.spread_s(delay_s);
    if delay_s + 3.0 * spread_s < -0.001 {
        let early_ms = -delay_s * 1e3;
        return Err(LatencyError::Early { early_ms });
    }
    Ok(Latency {
        delay_ms: delay_s.max(0.0) * 1e3,
        spread_ms: spread_s * 1e3,
        quality: fit.quality(delay_s),
        seen: fit.seen(delay_s),
    })
}

fn in_order(joint: &[JointSample], frames: &[Frame]) -> Result<(), LatencyError> {
    let back = frames
        .windows(2)
        .position(|two| two[1].stamped_ns <= two[0].stamped_ns);
    if let Some(before) = back {
        return Err(LatencyError::FrameStamps { frame: before + 2 });
    }
    let back = joint
        .windows(2)
        .position(|two| two[1].captured_ns <= two[0].captured_ns);
    if let Some(before) = back {
        return Err(LatencyError::JointStamps { sample: before + 2 });
    }
    let none = joint
        .iter()
        .position(|sample| !sample.position_rad.is_finite());
    match none {
        Some(before) => Err(LatencyError::JointValue { sample: before + 1 }),
        None => Ok(()),
    }
}

/// The frames for which the joint's position is known at every delay that is sought.
fn covered<'a>(joint: &[JointSample], frames: &'a [Frame]) -> Result<&'a [Frame], LatencyError> {
    let seconds = |of: &[Frame]| match of {
        [first, .., last] => (last.stamped_ns - first.stamped_ns) as f64 * 1e-9,
        _ => 0.0,
    };
    let none = LatencyError::TooShort {
        frames: 0,
        seconds: 0.0,
    };
    let ([first, .., last], [begin, .., end]) = (joint, frames) else {
        return Err(none);
    };
    let middle = |a: u64, b: u64| (a / 2 + b / 2) as f64 * 1e-9;
    if end.stamped_ns < first.captured_ns || begin.stamped_ns > last.captured_ns {
        let joints_s = middle(first.captured_ns, last.captured_ns);
        let apart_s = (middle(begin.stamped_ns, end.stamped_ns) - joints_s).abs();
        return Err(LatencyError::Apart { apart_s });
    }
    let from = first.captured_ns + LATEST_MS.unsigned_abs() * 1_000_000;
    let to = last
        .captured_ns
        .saturating_sub(EARLIEST_MS.unsigned_abs() * 1_000_000);
    let begin = frames.partition_point(|frame| frame.stamped_ns < from);
    let end = frames.partition_point(|frame| frame.stamped_ns <= to);
    let covered = frames.get(begin..end).unwrap_or_default();
    let (frames, seconds) = (covered.len(), seconds(covered));
    if frames < LEAST_FRAMES || seconds < LEAST_S {
        return Err(LatencyError::TooShort { frames, seconds });
    }
    Ok(covered)
}

/// Another summit, of which what is left is hardly more than at the best.
fn rival(qualities: &[f64], best: usize) -> Option<usize> {
    let summit = |i: usize| {
        let (before, after) = (i.saturating_sub(1), (i + 1).min(qualities.len() - 1));
        qualities[i] >= qualities[before] && qualities[i] >= qualities[after]
    };
    let near = |i: usize| {
        // Noise roughens the summit; between two of them it goes down.
        let between = &qualities[i.min(best)..=i.max(best)];
        let lowest = between.iter().copied().fold(f64::INFINITY, f64::min);
        lowest > qualities[i] - 0.05
    };
    let rest = |i: usize| 1.0 - qualities[i];
    let others = (0..qualities.len()).filter(|i| *i != best && summit(*i) && !near(*i));
    let close = others.filter(|i| rest(*i) < 2.0 * rest(best) + 0.02);
    close.max_by(|a, b| qualities[*a].total_cmp(&qualities[*b]))
}

/// The joint's motion beside the pictures' patterns.
struct Alignment<'a> {
    joint: &'a [JointSample],
    stamps_ns: Vec<u64>,
    /// A column for each pattern: how much of it each frame has. Of length 1, across each other and of
    /// mean 0.
    patterns: DMatrix<f64>,
}

impl<'a> Alignment<'a> {
    fn new(joint: &'a [JointSample], frames: &[Frame], patterns: DMatrix<f64>) -> Self {
        Self {
            joint,
            stamps_ns: frames.iter().map(|frame| frame.stamped_ns).collect(),
            patterns,
        }
    }

    /// Where the joint was at a time before each frame's stamp, less its mean.
    fn positions(&self, delay_s: f64) -> Vec<f64> {
        let delay_ns = (delay_s * 1e9).round() as i64;
        let at = self
            .stamps_ns
            .iter()
            .map(|stamp| self.at(stamp.saturating_add_signed(-delay_ns)));
        centred(at.collect())
    }

    /// Between two samples the joint goes straight.
    fn at(&self, time_ns: u64) -> f64 {
        let joint = self.joint;
        let after = joint.partition_point(|sample| sample.captured_ns < time_ns);
        let after = after.clamp(1, joint.len() - 1);
        let (a, b) = (joint[after - 1], joint[after]);
        let share =
            (time_ns as f64 - a.captured_ns as f64) / (b.captured_ns - a.captured_ns) as f64;
        a.position_rad + share.clamp(0.0, 1.0) * (b.position_rad - a.position_rad)
    }

    /// The part of a motion that the patterns account for, frame by frame.
    fn explained(&self, motion: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; motion.len()];
        for pattern in self.patterns.column_iter() {
            let share: f64 = pattern.iter().zip(motion).map(|(a, b)| a * b).sum();
            for (sum, part) in sum.iter_mut().zip(pattern.iter()) {
                *sum += share * part;
            }
        }
        sum
    }

    fn quality(&self, delay_s: f64) -> f64 {
        let motion = self.positions(delay_s);
        let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        squares(&self.explained(&motion)) / squares(&motion)
    }

    /// The summit between two delays, by golden section.
    fn refine(&self, mut low_s: f64, mut high_s: f64) -> f64 {
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        while high_s - low_s > 1e-5 {
            let (a, b) = (
                high_s - golden * (high_s - low_s),
                low_s + golden * (high_s - low_s),
            );
            match self.quality(a) > self.quality(b) {
                true => high_s = b,
                false => low_s = a,
            }
        }
        (low_s + high_s) / 2.0
    }

    /// One standard deviation of the delay, as of a fit of the delay and the patterns' shares. What is
    /// left is alike from frame to frame, and where the joint is far out more than where it is fast: so
    /// its own products are summed over the next few frames (Newey and West 1987).
    fn spread_s(&self, delay_s: f64) -> f64 {
        const STEP_S: f64 = 0.005;
        const NEXT: usize = 8;
        let left = |motion: &[f64]| -> Vec<f64> {
            let explained = self.explained(motion);
            motion.iter().zip(&explained).map(|(a, b)| a - b).collect()
        };
        let rest = left(&self.positions(delay_s));
        let earlier = self.positions(delay_s + STEP_S);
        let later = self.positions(delay_s - STEP_S);
        let speed = later
            .iter()
            .zip(&earlier)
            .map(|(a, b)| (a - b) / (2.0 * STEP_S));
        let speed = left(&speed.collect::<Vec<f64>>());
        let pushes: Vec<f64> = rest.iter().zip(&speed).map(|(a, b)| a * b).collect();
        let together = |apart: usize| -> f64 {
            let pairs = pushes.iter().zip(&pushes[apart..]);
            pairs.map(|(a, b)| a * b).sum()
        };
        let weights = (1..=NEXT).map(|apart| (apart, 1.0 - apart as f64 / (NEXT + 1) as f64));
        let sum = together(0)
            + weights
                .map(|(apart, w)| 2.0 * w * together(apart))
                .sum::<f64>();
        let frames = rest.len() as f64;
        let free = (frames - self.patterns.ncols() as f64 - 2.0).max(1.0);
        let slopes: f64 = speed.iter().map(|speed| speed * speed).sum();
        (sum.max(0.0) * frames / free).sqrt() / slopes
    }

    fn seen(&self, delay_s: f64) -> Vec<JointSample> {
        let delay_ns = (delay_s * 1e9).round() as i64;
        let joint = self
            .stamps_ns
            .iter()
            .map(|stamp| self.at(stamp.saturating_add_signed(-delay_ns)));
        let mean = joint.sum::<f64>() / self.stamps_ns.len() as f64;
        let explained = self.explained(&self.positions(delay_s));
        let frames = self.stamps_ns.iter().zip(explained);
        let seen = frames.map(|(stamp, position)| JointSample {
            captured_ns: *stamp,
            position_rad: mean + position,
        });
        seen.collect()
    }
}

/// Less its mean.
fn centred(mut values: Vec<f64>) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    for value in &mut values {
        *value -= mean;
    }
    values
}
