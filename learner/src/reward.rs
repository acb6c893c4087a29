//! Training the reward classifier on labelled frames, and measuring it on episodes held out.

use std::time::{Duration, Instant};

use hilt_protocol::{RigSpec, noise::mix};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    augment::{draw_offsets, shift},
    config::RewardConfig,
    dataset::LabelledFrames,
    encoder::Encoder,
    reward_model::RewardModel,
};

/// Largest shift of an image, pixels.
const SHIFT_PX: i64 = 4;
/// Largest relative change of brightness.
const BRIGHTNESS: f64 = 0.2;

/// How good it is on episodes that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RewardReport {
    /// Of the frames that it calls success, the share that is.
    pub precision: f64,
    /// Of the successes, the share that it calls so.
    pub recall: f64,
    /// Frames held out.
    pub held_out: usize,
    /// Gradient steps made.
    pub steps: u64,
}

/// Why there is nothing to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsMissing {
    /// No frame is labelled a success.
    #[error("no frame is labelled a success; press the success button while recording")]
    Successes,
    /// No frame is labelled a failure.
    #[error("no frame is labelled a failure; record some attempts that fail")]
    Failures,
}

struct Frames {
    images: Vec<Tensor>,
    positive: Vec<i64>,
    negative: Vec<i64>,
}

impl Frames {
    fn of(all: &LabelledFrames, rows: &[usize], spec: &RigSpec) -> Self {
        let n = rows.len() as i64;
        let camera = |(k, c): (usize, &hilt_protocol::CameraSpec)| {
            let bytes: Vec<u8> = rows
                .iter()
                .flat_map(|&i| all.images[i][k].iter().copied())
                .collect();
            Tensor::from_slice(&bytes).view([n, i64::from(c.height), i64::from(c.width), 3])
        };
        let with = |label: bool| {
            (0..rows.len())
                .filter(|&i| all.labels[rows[i]] == label)
                .map(|i| i as i64)
                .collect()
        };
        let images = spec.cameras.iter().enumerate().map(camera).collect();
        Self {
            images,
            positive: with(true),
            negative: with(false),
        }
    }

    /// Images \[B, H, W, 3\] per camera of these rows, shifted and brightened if `augmented`.
    fn images(&self, rows: &Tensor, augmented: bool) -> Vec<Tensor> {
        let n = rows.size()[0];
        let picked = self.images.iter().map(|images| {
            let images = images.index_select(0, rows);
            if !augmented {
                return images;
            }
            let offsets = draw_offsets(n, SHIFT_PX, Device::Cpu);
            let gain = Tensor::rand([n, 1, 1, 1], (Kind::Float, Device::Cpu)) * (2.0 * BRIGHTNESS)
                + (1.0 - BRIGHTNESS);
            let images = shift(&images, &offsets, SHIFT_PX).to_kind(Kind::Float);
            (images * gain).clamp(0.0, 255.0)
        });
        picked.collect()
    }
}

/// What the model looks at, of these images: themselves, or their maps.
fn inputs(images: Vec<Tensor>, maps_of: Option<&Encoder>, device: Device) -> Vec<Tensor> {
    let one = |images: Tensor| match maps_of {
        Some(encoder) => encoder.encode(&images),
        None => images.to_device(device),
    };
    images.into_iter().map(one).collect()
}

/// Trains a model further, on balanced batches, until the time is over or `go_on` says no, and
/// measures it on whole episodes that were held out. `maps_of`: the frozen encoder, for a model on
/// maps. Which episodes are held out depends on `seed` and on them alone, so that a later training
/// on more frames holds out the same.
pub fn train_reward(
    model: &mut RewardModel,
    frames: &LabelledFrames,
    spec: &RigSpec,
    maps_of: Option<&Encoder>,
    config: &RewardConfig,
    seed: u64,
    mut go_on: impl FnMut(u64, f64) -> bool,
) -> Result<RewardReport, LabelsMissing> {
    if frames.positives() == 0 {
        return Err(LabelsMissing::Successes);
    }
    if frames.positives() == frames.len() {
        return Err(LabelsMissing::Failures);
    }
    let is_held_out =
        |i: &usize| (mix(seed ^ frames.episode[*i]) % 1000) as f64 / 1000.0 < config.held_out;
    let (held_out, mut training): (Vec<usize>, Vec<usize>) =
        (0..frames.len()).partition(is_held_out);
    let both = |rows: &[usize]| {
        rows.iter().any(|&i| frames.labels[i]) && rows.iter().any(|&i| !frames.labels[i])
    };
    if !both(&training) {
        training = (0..frames.len()).collect();
    }
    let train = Frames::of(frames, &training, spec);
    let device = model.head().params().flat().device();
    let half = config.batch / 2;
    let pick = |of: &[i64]| {
        let places = Tensor::randint(of.len() as i64, [half], (Kind::Int64, Device::Cpu));
        Tensor::from_slice(of).index_select(0, &places)
    };
    let labels = Tensor::cat(
        &[
            Tensor::ones([half, 1], (Kind::Float, device)),
            Tensor::zeros([half, 1], (Kind::Float, device)),
        ],
        0,
    );
    let (start, time) = (Instant::now(), Duration::from_secs_f64(config.seconds));
    let (mut steps, mut running) = (0u64, f64::NAN);
    while start.elapsed() < time && go_on(steps, running) {
        let rows = Tensor::cat(&[pick(&train.positive), pick(&train.negative)], 0);
        let inputs = inputs(train.images(&rows, true), maps_of, device);
        let keep = model.head().draw_keep(2 * half);
        let loss = model.step(&inputs, &labels, &keep);
        running = if running.is_nan() {
            loss
        } else {
            running + (loss - running) / 50.0
        };
        steps += 1;
    }
    let measured = Frames::of(frames, &held_out, spec);
    let (mut hits, mut called) = (0usize, 0usize);
    for first in (0..held_out.len()).step_by(256) {
        let last = (first + 256).min(held_out.len());
        let rows = Tensor::arange_start(first as i64, last as i64, (Kind::Int64, Device::Cpu));
        let probability =
            model.probability(&inputs(measured.images(&rows, false), maps_of, device));
        for (place, &frame) in held_out[first..last].iter().enumerate() {
            if probability.double_value(&[place as i64]) > config.threshold {
                called += 1;
                hits += usize::from(frames.labels[frame]);
            }
        }
    }
    let share = |part: usize, whole: usize| {
        if whole == 0 {
            f64::NAN
        } else {
            part as f64 / whole as f64
        }
    };
    Ok(RewardReport {
        precision: share(hits, called),
        recall: share(hits, measured.positive.len()),
        held_out: held_out.len(),
        steps,
    })
}
