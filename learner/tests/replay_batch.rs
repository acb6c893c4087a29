//! What of the replay reaches the agent: both observations' maps, the step between, the mixture.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use half::f16;
use hilt_learner::replay::{HostBatch, Layout, Replay, Row, RowFlags, Which, to_tensors};
use hilt_protocol::{RunId, noise::Uniforms};
use tch::{Device, Kind, Tensor};

const MAP: [i64; 3] = [2, 1, 3];
const ELEMENTS: usize = 6;
const LAYOUT: Layout = Layout {
    cameras: 2,
    frame_bytes: 2 * ELEMENTS,
    copies: 1,
    proprio: 2,
    action: 1,
};
const DEMONSTRATIONS: RunId = RunId(0);
const ONLINE: RunId = RunId(1);

/// A map in f16: camera and row are in its numbers, and so is each place.
fn map(camera: usize, number: f32) -> Vec<u8> {
    (0..ELEMENTS)
        .flat_map(|i| f16::from_f32(number + 0.25 * i as f32 + 64.0 * camera as f32).to_le_bytes())
        .collect()
}

/// Two episodes of five rows each: the first ends, of the second the time runs out.
fn push(replay: &mut Replay, run: RunId) {
    for sequence in 0..10 {
        let number = (run.0 * 16 + sequence) as f32;
        let frames = [map(0, number), map(1, number)];
        let row = Row {
            run,
            sequence,
            episode: sequence / 5,
            flags: RowFlags {
                reset: sequence % 5 == 0,
                terminated: sequence == 4,
                demonstration: run == DEMONSTRATIONS,
                ..RowFlags::default()
            },
            reward: number,
            grasp_penalty: -0.5 * number,
            action: &[number / 64.0],
            proprio: &[number, number + 100.0],
            frames: &[&frames[0], &frames[1]],
        };
        replay.push(&row).unwrap();
    }
}

fn store(runs: &[RunId]) -> (tempfile::TempDir, Replay) {
    let dir = tempfile::tempdir().unwrap();
    let mut replay = Replay::open(dir.path(), LAYOUT, [7; 64], 1000).unwrap();
    runs.iter().for_each(|&run| push(&mut replay, run));
    (dir, replay)
}

#[test]
fn tensors_hold_both_observations_and_the_step_between() {
    let (_dir, replay) = store(&[ONLINE]);
    let mut batch = HostBatch::new(LAYOUT, 200);
    assert!(replay.sample(Which::Online, 0..200, &mut Uniforms::new(2), &mut batch));
    let tensors = to_tensors(&batch, MAP, Device::Cpu);
    let (now, next) = (&tensors.observations, &tensors.next_observations);
    let places = Tensor::arange(ELEMENTS as i64, (Kind::Float, Device::Cpu)).reshape(MAP) * 0.25;
    let mut seen = [false; 10];
    for i in 0..200 {
        let number = tensors.rewards.double_value(&[i]);
        let sequence = number as usize - 16;
        seen[sequence] = true;
        for camera in 0..2 {
            let expected = |number: f64| &places + (number + 64.0 * camera as f64);
            assert_eq!(now.maps[camera].get(i), expected(number - 1.0));
            assert_eq!(next.maps[camera].get(i), expected(number));
        }
        let pair = |number: f64| Tensor::from_slice(&[number as f32, number as f32 + 100.0]);
        assert_eq!(now.proprio.get(i), pair(number - 1.0));
        assert_eq!(next.proprio.get(i), pair(number));
        assert_eq!(tensors.actions.double_value(&[i, 0]), number / 64.0);
        assert_eq!(tensors.grasp_penalty.double_value(&[i]), -0.5 * number);
        // Where time ran out (9) the value of the next observation counts, as anywhere but at 4.
        let mask = if sequence == 4 { 0.0 } else { 1.0 };
        assert_eq!(tensors.masks.double_value(&[i]), mask);
    }
    let steps = [false, true, true, true, true].repeat(2);
    assert_eq!(seen.to_vec(), steps, "every step is drawn, no reset is");
    assert_eq!(now.maps[0].size(), [200, MAP[0], MAP[1], MAP[2]]);
    assert_eq!(now.maps[0].kind(), Kind::Float);
}

/// Demonstrations in a batch of 10, or `None` when nothing can be drawn.
fn demonstrations(runs: &[RunId], share: f64) -> Option<usize> {
    let (_dir, replay) = store(runs);
    let mut batch = HostBatch::new(LAYOUT, 10);
    let filled = replay.sample_mixed(share, 1, &mut Uniforms::new(3), &mut batch);
    filled.then(|| batch.rewards().iter().filter(|&&r| r < 16.0).count())
}

#[test]
fn the_mixture_has_its_share_and_falls_back_to_what_there_is() {
    assert_eq!(demonstrations(&[DEMONSTRATIONS, ONLINE], 0.5), Some(5));
    assert_eq!(demonstrations(&[DEMONSTRATIONS, ONLINE], 0.2), Some(2));
    assert_eq!(demonstrations(&[DEMONSTRATIONS], 0.5), Some(10));
    assert_eq!(demonstrations(&[ONLINE], 0.5), Some(0));
    assert_eq!(demonstrations(&[], 0.5), None);
}

#[test]
fn draws_follow_the_seed() {
    let (_dir, replay) = store(&[DEMONSTRATIONS, ONLINE]);
    let draw = |seed| {
        let mut batch = HostBatch::new(LAYOUT, 32);
        assert!(replay.sample_mixed(0.5, 1, &mut Uniforms::new(seed), &mut batch));
        batch.rewards().to_vec()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
