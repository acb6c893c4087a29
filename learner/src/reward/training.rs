//! Training the reward classifier on labelled frames, and measuring it on episodes held out.

use std::collections::{BTreeMap, BTreeSet};

use hilt_protocol::{CameraSpec, noise::mix};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::RewardModel;
use crate::{
    augment::{draw_offsets, shift},
    config::RewardConfig,
    dataset::LabelledFrames,
    encoder::Encoder,
};

/// Largest shift of an image, pixels.
const SHIFT_PX: i64 = 4;
/// Largest relative change of brightness.
const BRIGHTNESS: f64 = 0.2;

/// So many corrections are kept, the newest: a run of days must not grow, nor take longer and longer
/// to look at them all.
const CORRECTIONS: usize = 2048;

/// Right and wrong of the classifier's verdicts on frames, against a person's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Both say success.
    pub true_positives: usize,
    /// Only the classifier says success.
    pub false_positives: usize,
    /// Only the person says success.
    pub false_negatives: usize,
    /// Neither does.
    pub true_negatives: usize,
}

impl Confusion {
    /// Frames.
    pub fn frames(&self) -> usize {
        self.true_positives + self.true_negatives + self.mistakes()
    }

    /// Frames that it has wrong.
    pub fn mistakes(&self) -> usize {
        self.false_positives + self.false_negatives
    }

    /// Of the frames that it calls success, the share that is; `None` where it calls none so.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.false_positives)
    }

    /// Of the successes, the share that it calls so; `None` where there is none.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }
}

fn share(part: usize, rest: usize) -> Option<f64> {
    (part + rest > 0).then(|| part as f64 / (part + rest) as f64)
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
    fn of(all: &LabelledFrames, rows: &[usize], cameras: &[CameraSpec]) -> Self {
        let n = rows.len() as i64;
        let camera = |(k, c): (usize, &CameraSpec)| {
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
        let images = cameras.iter().enumerate().map(camera).collect();
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

/// Rows to train on, and rows held out: about `held_out` of the episodes, whole ones, which ones
/// depends on `seed` alone. The first have frames of both labels if there are any; the second too,
/// where enough episodes are there.
fn split(frames: &LabelledFrames, held_out: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    // Frames of each label per episode, in an order drawn from the seed.
    let mut episodes: BTreeMap<(u64, u64), [usize; 2]> = BTreeMap::new();
    let place = |row: usize| (mix(seed ^ frames.episode[row]) % 1000, frames.episode[row]);
    for row in 0..frames.len() {
        episodes.entry(place(row)).or_default()[usize::from(frames.labels[row])] += 1;
    }
    let chosen = |(drawn, _): &&(u64, u64)| (*drawn as f64) < held_out * 1000.0;
    let mut out: BTreeSet<(u64, u64)> = episodes.keys().filter(chosen).copied().collect();
    let count = |of: &dyn Fn(&(u64, u64)) -> bool, label: usize| -> usize {
        let those = episodes.iter().filter(|(episode, _)| of(episode));
        those.map(|(_, labels)| labels[label]).sum()
    };
    let stays = |out: &BTreeSet<(u64, u64)>, label| count(&|e| !out.contains(e), label);
    for label in [0, 1] {
        while stays(&out, label) == 0 {
            let Some(back) = out.iter().rfind(|e| episodes[*e][label] > 0).copied() else {
                break;
            };
            out.remove(&back);
        }
    }
    for label in [0, 1] {
        if held_out <= 0.0 || count(&|e| out.contains(e), label) > 0 {
            continue;
        }
        let spare = |(_, labels): &(&(u64, u64), &[usize; 2])| {
            labels[label] > 0 && [0, 1].iter().all(|&l| stays(&out, l) > labels[l])
        };
        let more = (episodes.iter())
            .filter(|(episode, _)| !out.contains(*episode))
            .find(spare);
        out.extend(more.map(|(episode, _)| *episode));
    }
    (0..frames.len()).partition(|&row| !out.contains(&place(row)))
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
    cameras: Vec<CameraSpec>,
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
    /// Of a fresh model. Whole episodes are held out; which ones depends on `seed` alone.
    pub fn new(
        model: RewardModel,
        frames: &LabelledFrames,
        cameras: &[CameraSpec],
        config: &RewardConfig,
        seed: u64,
    ) -> Result<Self, LabelsMissing> {
        if frames.positives() == 0 {
            return Err(LabelsMissing::Successes);
        }
        if frames.positives() == frames.len() {
            return Err(LabelsMissing::Failures);
        }
        let (training, held_out) = split(frames, config.held_out, seed);
        let mut made = Self::given(model, &LabelledFrames::default(), cameras, config);
        made.train = Frames::of(frames, &training, cameras);
        made.held_out = Frames::of(frames, &held_out, cameras);
        Ok(made)
    }

    /// Of a model that is trained already; all frames, if there are any, go beside the corrections.
    /// None is held out: the model may know them.
    pub fn given(
        model: RewardModel,
        frames: &LabelledFrames,
        cameras: &[CameraSpec],
        config: &RewardConfig,
    ) -> Self {
        let rows: Vec<usize> = (0..frames.len()).collect();
        Self {
            cameras: cameras.to_vec(),
            config: config.clone(),
            model,
            maps_of: None,
            train: Frames::of(frames, &rows, cameras),
            held_out: Frames::of(frames, &[], cameras),
            corrections: LabelledFrames::default(),
            steps: 0,
        }
    }

    /// The encoder whose maps a model on maps looks at.
    pub fn look_at_maps_of(&mut self, encoder: Encoder) {
        self.maps_of = Some(encoder);
    }

    /// The classifier as it is now.
    pub fn model(&self) -> &RewardModel {
        &self.model
    }

    /// Gradient steps made.
    pub fn steps(&self) -> u64 {
        self.steps
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

    /// One balanced batch. Where a person corrected frames of a label, they are half of its part, or
    /// all of it where there are no others.
    fn step(&mut self, corrected: Option<&Frames>) -> f64 {
        let half = self.config.batch / 2;
        let mut batch: Vec<Vec<Tensor>> = Vec::new();
        for label in [true, false] {
            let fresh = corrected.filter(|frames| !frames.with(label).is_empty());
            let known = !self.train.with(label).is_empty();
            let from_run = match fresh {
                Some(_) if known => half / 2,
                Some(_) => half,
                None => 0,
            };
            if known {
                batch.push(self.train.draw(label, half - from_run));
            }
            batch.extend(fresh.map(|frames| frames.draw(label, from_run)));
        }
        let images = (0..self.cameras.len())
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
    /// it is trained a little further, half on them: true if so. That needs frames of both labels,
    /// or it would learn to say always the same.
    pub fn correct(&mut self, frames: LabelledFrames) -> bool {
        if frames.is_empty() {
            return false;
        }
        self.corrections.append(frames);
        self.corrections.keep_newest(CORRECTIONS);
        let rows: Vec<usize> = (0..self.corrections.len()).collect();
        let corrections = Frames::of(&self.corrections, &rows, &self.cameras);
        let has =
            |label| !(self.train.with(label).is_empty() && corrections.with(label).is_empty());
        if !(has(true) && has(false))
            || self.verdicts(&corrections).mistakes() < self.config.correction_mistakes
        {
            return false;
        }
        for _ in 0..self.config.correction_steps {
            self.step(Some(&corrections));
        }
        true
    }

    fn verdicts(&self, frames: &Frames) -> Confusion {
        let called = |label| {
            let chunks = frames.with(label).chunks(256);
            let in_chunk = |rows: &[i64]| {
                let rows = Tensor::from_slice(rows);
                let images = frames.images.iter().map(|i| i.index_select(0, &rows));
                let probability = self.model.probability(&self.inputs(images.collect()));
                let called = probability.gt(self.config.threshold).sum(Kind::Int64);
                called.int64_value(&[]) as usize
            };
            chunks.map(in_chunk).sum::<usize>()
        };
        let (hits, false_alarms) = (called(true), called(false));
        Confusion {
            true_positives: hits,
            false_positives: false_alarms,
            false_negatives: frames.positive.len() - hits,
            true_negatives: frames.negative.len() - false_alarms,
        }
    }

    /// How good it is on the episodes that it was not trained on.
    pub fn measure(&self) -> Confusion {
        self.verdicts(&self.held_out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{encoder::EncoderConfig, reward::classifier::ClassifierConfig};

    fn cameras() -> [CameraSpec; 1] {
        [CameraSpec {
            name: "front".into(),
            height: 16,
            width: 16,
        }]
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

    const RED: [u8; 3] = [200, 20, 20];
    const BLACK: [u8; 3] = [10, 10, 10];
    const GREEN: [u8; 3] = [20, 200, 20];

    fn config() -> RewardConfig {
        RewardConfig {
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
        }
    }

    fn model() -> RewardModel {
        tch::set_num_threads(1);
        let RewardConfig { network, trunk, .. } = config();
        RewardModel::on_images(network, trunk, &cameras(), Device::Cpu, 3).unwrap()
    }

    fn says(training: &RewardTraining, rgb: [u8; 3]) -> bool {
        let one = Frames::of(&frames(&[(rgb, true)]), &[0], &cameras());
        training.verdicts(&one).true_positives == 1
    }

    /// Red is success, black is not; then a policy finds green, which nobody had thought of.
    #[test]
    fn a_person_s_words_correct_it_and_agreement_leaves_it_alone() {
        let base: Vec<_> = (0..60)
            .map(|i| {
                if i % 2 == 0 {
                    (RED, true)
                } else {
                    (BLACK, false)
                }
            })
            .collect();
        let mut training =
            RewardTraining::new(model(), &frames(&base), &cameras(), &config(), 1).unwrap();
        training.train(|steps, loss| steps < 30 || loss > 0.02);
        let held_out = training.measure();
        assert_eq!(held_out.mistakes(), 0);
        assert_eq!(
            (held_out.precision(), held_out.recall()),
            (Some(1.0), Some(1.0))
        );
        assert!(!training.correct(frames(&[(RED, true), (BLACK, false)])));
        // Whatever it says of green, the opposite is the person's word.
        let was = says(&training, GREEN);
        let words = [(GREEN, !was); 3];
        for _ in 0..20 {
            training.correct(frames(&words));
        }
        assert_eq!(says(&training, GREEN), !was);
        assert!(says(&training, RED) && !says(&training, BLACK));
    }

    /// With nothing to rehearse it learns from a person's words alone, once they are of both kinds.
    #[test]
    fn a_given_classifier_is_corrected_without_any_labelled_frames() {
        let config = RewardConfig {
            correction_mistakes: 1,
            ..config()
        };
        let none = LabelledFrames::default();
        let mut training = RewardTraining::given(model(), &none, &cameras(), &config);
        assert_eq!(training.measure().frames(), 0);
        // Whatever it says of red, the opposite is the person's word, and green is not like red.
        let word = !says(&training, RED);
        assert!(!training.correct(frames(&[(RED, word)])));
        assert_eq!(training.steps(), 0);
        for _ in 0..20 {
            training.correct(frames(&[(RED, word), (GREEN, !word)]));
        }
        assert!(training.steps() > 0);
        assert_eq!(says(&training, RED), word);
        assert_eq!(says(&training, GREEN), !word);
    }

    #[test]
    fn both_labels_are_trained_on_and_held_out_as_far_as_the_episodes_go() {
        let kinds = |frames: &LabelledFrames, rows: &[usize]| {
            [true, false].map(|label| rows.iter().any(|&i| frames.labels[i] == label))
        };
        // Two episodes of each label, or of one only one.
        let four = frames(&[(RED, true), (RED, true), (BLACK, false), (BLACK, false)]);
        let three = frames(&[(RED, true), (BLACK, false), (BLACK, false)]);
        for seed in 0..50 {
            for share in [0.01, 0.3, 0.99] {
                let (train, out) = split(&four, share, seed);
                assert_eq!(train.len() + out.len(), 4);
                assert_eq!(kinds(&four, &train), [true, true], "{seed} {share}");
                assert_eq!(kinds(&four, &out), [true, true], "{seed} {share}");
                let (train, out) = split(&three, share, seed);
                assert_eq!(kinds(&three, &train), [true, true]);
                assert_eq!(kinds(&three, &out), [false, true]);
            }
            assert_eq!(split(&four, 0.0, seed).1, [0; 0]);
        }
    }

    #[test]
    fn episodes_stay_whole() {
        let mut all = frames(&[(RED, true); 40]);
        for (i, label) in all.labels.iter_mut().enumerate() {
            *label = i % 4 == 3;
            all.episode[i] = i as u64 / 4;
        }
        let (train, out) = split(&all, 0.3, 7);
        assert!(out.len() >= 4 && train.len() >= 4);
        assert!(out.iter().all(|i| !train.iter().any(|t| t / 4 == i / 4)));
    }
}
