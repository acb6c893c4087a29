//! Training the reward classifier on labelled frames, and measuring it on episodes held out.

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

/// Frames as tensors, with the rows of each label.
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

    fn with(&self, label: bool) -> &[i64] {
        if label {
            &self.positive
        } else {
            &self.negative
        }
    }

    /// Images \[n, H, W, 3\] per camera of `n` frames with this label, drawn at random.
    fn draw(&self, label: bool, n: i64) -> Vec<Tensor> {
        let rows = self.with(label);
        let places = Tensor::randint(rows.len() as i64, [n], (Kind::Int64, Device::Cpu));
        let rows = Tensor::from_slice(rows).index_select(0, &places);
        (self.images.iter())
            .map(|images| images.index_select(0, &rows))
            .collect()
    }
}

/// Shifts each image by itself and changes its brightness.
fn augment(images: &Tensor) -> Tensor {
    let n = images.size()[0];
    let offsets = draw_offsets(n, SHIFT_PX, Device::Cpu);
    let gain = Tensor::rand([n, 1, 1, 1], (Kind::Float, Device::Cpu)) * (2.0 * BRIGHTNESS)
        + (1.0 - BRIGHTNESS);
    let images = shift(images, &offsets, SHIFT_PX).to_kind(Kind::Float);
    (images * gain).clamp(0.0, 255.0)
}

/// What the model looks at, of these images: themselves, or their maps.
fn inputs(images: Vec<Tensor>, maps_of: Option<&Encoder>, device: Device) -> Vec<Tensor> {
    let one = |images: Tensor| match maps_of {
        Some(encoder) => encoder.encode(&images),
        None => images.to_device(device),
    };
    images.into_iter().map(one).collect()
}

/// A classifier with all that it is trained on.
pub struct RewardTraining {
    spec: RigSpec,
    config: RewardConfig,
    model: RewardModel,
    /// The frozen encoder, for a model on maps.
    maps_of: Option<Encoder>,
    train: Frames,
    held_out: Frames,
    /// Words of a person during the run.
    corrections: LabelledFrames,
    steps: u64,
}

impl RewardTraining {
    /// Whole episodes are held out; which ones depends on `seed` alone.
    pub fn new(
        model: RewardModel,
        frames: &LabelledFrames,
        spec: &RigSpec,
        config: &RewardConfig,
        seed: u64,
    ) -> Result<Self, LabelsMissing> {
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
        Ok(Self {
            spec: spec.clone(),
            config: config.clone(),
            model,
            maps_of: None,
            train: Frames::of(frames, &training, spec),
            held_out: Frames::of(frames, &held_out, spec),
            corrections: LabelledFrames::default(),
            steps: 0,
        })
    }

    /// The encoder whose maps a model on maps looks at.
    pub fn look_at_maps_of(&mut self, encoder: Encoder) {
        self.maps_of = Some(encoder);
    }

    /// The classifier as it is now.
    pub fn model(&self) -> &RewardModel {
        &self.model
    }

    fn inputs(&self, images: Vec<Tensor>) -> Vec<Tensor> {
        inputs(
            images,
            self.maps_of.as_ref(),
            self.model.head().params().flat().device(),
        )
    }

    /// Makes the configured steps, or fewer if `go_on` says no; it sees steps and running loss.
    pub fn train(&mut self, mut go_on: impl FnMut(u64, f64) -> bool) {
        let mut running = f64::NAN;
        while self.steps < self.config.steps && go_on(self.steps, running) {
            let loss = self.step(None);
            running = if running.is_nan() {
                loss
            } else {
                running + (loss - running) / 50.0
            };
        }
    }

    /// One balanced batch. Where a person corrected frames of a label, they are half of its part.
    fn step(&mut self, corrected: Option<&Frames>) -> f64 {
        let half = self.config.batch / 2;
        let mut batch: Vec<Vec<Tensor>> = Vec::new();
        for label in [true, false] {
            let fresh = corrected.filter(|frames| !frames.with(label).is_empty());
            let from_run = fresh.map_or(0, |_| half / 2);
            batch.push(self.train.draw(label, half - from_run));
            batch.extend(fresh.map(|frames| frames.draw(label, from_run)));
        }
        let images = (0..self.spec.cameras.len())
            .map(|k| {
                let parts: Vec<&Tensor> = batch.iter().map(|part| &part[k]).collect();
                augment(&Tensor::cat(&parts, 0))
            })
            .collect();
        let inputs = self.inputs(images);
        let options = (Kind::Float, self.model.head().params().flat().device());
        let labels = Tensor::cat(
            &[
                Tensor::ones([half, 1], options),
                Tensor::zeros([half, 1], options),
            ],
            0,
        );
        let keep = self.model.head().draw_keep(2 * half);
        self.steps += 1;
        self.model.step(&inputs, &labels, &keep)
    }

    /// Takes a person's words on frames of the run. Where the classifier had enough of them wrong
    /// it is trained a little further, half on them: true if so.
    pub fn correct(&mut self, frames: LabelledFrames) -> bool {
        if frames.is_empty() {
            return false;
        }
        self.corrections.append(frames);
        let rows: Vec<usize> = (0..self.corrections.len()).collect();
        let corrections = Frames::of(&self.corrections, &rows, &self.spec);
        let (hits, called) = self.verdicts(&corrections);
        let mistakes = (called - hits) + (corrections.positive.len() - hits);
        if mistakes < self.config.correction_mistakes {
            return false;
        }
        for _ in 0..self.config.correction_steps {
            self.step(Some(&corrections));
        }
        true
    }

    /// True successes among those that it calls so, and how many it calls so.
    fn verdicts(&self, frames: &Frames) -> (usize, usize) {
        let mut counts = [0, 0];
        for (place, label) in [true, false].into_iter().enumerate() {
            for rows in frames.with(label).chunks(256) {
                let rows = Tensor::from_slice(rows);
                let images = frames.images.iter().map(|i| i.index_select(0, &rows));
                let probability = self.model.probability(&self.inputs(images.collect()));
                let called = probability.gt(self.config.threshold).sum(Kind::Int64);
                counts[place] += called.int64_value(&[]) as usize;
            }
        }
        (counts[0], counts[0] + counts[1])
    }

    /// How good it is on the episodes that it was not trained on.
    pub fn measure(&self) -> RewardReport {
        let (hits, called) = self.verdicts(&self.held_out);
        let positives = self.held_out.positive.len();
        let share = |part: usize, whole: usize| {
            if whole == 0 {
                f64::NAN
            } else {
                part as f64 / whole as f64
            }
        };
        RewardReport {
            precision: share(hits, called),
            recall: share(hits, positives),
            held_out: positives + self.held_out.negative.len(),
            steps: self.steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hilt_protocol::{Axis, CameraSpec, SetupMode};

    use super::*;
    use crate::{classifier::ClassifierConfig, encoder::EncoderConfig};

    fn spec() -> RigSpec {
        RigSpec {
            mode: SetupMode::SingleArmFixedGripper,
            controlled_axes: vec![Axis::X],
            cameras: vec![CameraSpec {
                name: "front".into(),
                height: 16,
                width: 16,
            }],
            proprio: vec!["x".into()],
            policy_hz: 10,
        }
    }

    /// Frames of one colour each.
    fn frames(of: &[([u8; 3], bool)]) -> LabelledFrames {
        let mut frames = LabelledFrames::default();
        for (i, (rgb, label)) in of.iter().enumerate() {
            let image: Arc<[u8]> = rgb.iter().copied().cycle().take(16 * 16 * 3).collect();
            frames.images.push(vec![image]);
            frames.labels.push(*label);
            frames.episode.push(i as u64);
        }
        frames
    }

    /// Red is success, black is not; then a policy finds green, which nobody had thought of.
    #[test]
    fn a_person_s_words_correct_it_and_agreement_leaves_it_alone() {
        tch::set_num_threads(1);
        let spec = spec();
        let config = RewardConfig {
            trunk: EncoderConfig {
                image_size: 16,
                widths: vec![4, 8],
                ..EncoderConfig::narrow()
            },
            network: ClassifierConfig {
                lr: 3e-3,
                bottleneck: 16,
                hidden: 16,
                ..ClassifierConfig::default()
            },
            batch: 16,
            steps: 600,
            held_out: 0.2,
            ..RewardConfig::default()
        };
        let model = RewardModel::on_images(
            config.network.clone(),
            config.trunk.clone(),
            &spec,
            Device::Cpu,
            3,
        )
        .unwrap();
        let (red, black, green) = ([200, 20, 20], [10, 10, 10], [20, 200, 20]);
        let base: Vec<_> = (0..60)
            .map(|i| {
                if i % 2 == 0 {
                    (red, true)
                } else {
                    (black, false)
                }
            })
            .collect();
        let mut training = RewardTraining::new(model, &frames(&base), &spec, &config, 1).unwrap();
        training.train(|steps, loss| steps < 30 || loss > 0.02);
        let report = training.measure();
        assert_eq!((report.precision, report.recall), (1.0, 1.0));
        assert!(!training.correct(frames(&[(red, true), (black, false)])));
        let says = |training: &RewardTraining, rgb: [u8; 3]| {
            let one = Frames::of(&frames(&[(rgb, true)]), &[0], &spec);
            training.verdicts(&one).1 == 1
        };
        // Whatever it says of green, the opposite is the person's word.
        let was = says(&training, green);
        let words = [(green, !was); 3];
        for _ in 0..20 {
            training.correct(frames(&words));
        }
        assert_eq!(says(&training, green), !was);
        assert!(says(&training, red) && !says(&training, black));
    }
}
