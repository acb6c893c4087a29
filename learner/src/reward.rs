//! Training the reward classifier on labelled frames, through the frozen encoder.

use std::time::{Duration, Instant};

use hilt_protocol::{RigSpec, noise::mix};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    augment::{draw_offsets, shift},
    classifier::Classifier,
    config::RewardConfig,
    dataset::LabelledFrames,
    encoder::Encoder,
};

/// How good it is on episodes that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassifierReport {
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

    fn maps(&self, encoder: &Encoder, rows: &Tensor, shift_px: i64) -> Vec<Tensor> {
        let picked = self.images.iter().map(|images| {
            let images = images.index_select(0, rows);
            if shift_px == 0 {
                return encoder.encode(&images);
            }
            let images = shift(
                &images,
                &draw_offsets(rows.size()[0], shift_px, Device::Cpu),
                shift_px,
            );
            let gain =
                Tensor::rand([rows.size()[0], 1, 1, 1], (Kind::Float, Device::Cpu)) * 0.4 + 0.8;
            encoder.encode(&(images.to_kind(Kind::Float) * gain).clamp(0.0, 255.0))
        });
        picked.collect()
    }
}

/// Trains on balanced batches until the time is over or `go_on` says no, and measures on whole
/// episodes that were held out.
pub fn train_classifier(
    frames: &LabelledFrames,
    spec: &RigSpec,
    encoder: &Encoder,
    config: &RewardConfig,
    seed: u64,
    mut go_on: impl FnMut(u64, f64) -> bool,
) -> Result<(Classifier, ClassifierReport), LabelsMissing> {
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
    let cameras = spec
        .cameras
        .iter()
        .map(|c| (c.name.clone(), encoder.config().map_shape()))
        .collect();
    let device = encoder.params().flat().device();
    let mut classifier =
        Classifier::new(config.network.clone(), cameras, Kind::Float, device, seed);
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
        let maps = train.maps(encoder, &rows, 4);
        let keep = classifier.draw_keep(2 * half);
        let (loss, _) = classifier.step(&maps, &labels, &keep);
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
        let probability = classifier.probability(&measured.maps(encoder, &rows, 0));
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
    let report = ClassifierReport {
        precision: share(hits, called),
        recall: share(hits, measured.positive.len()),
        held_out: held_out.len(),
        steps,
    };
    Ok((classifier, report))
}
