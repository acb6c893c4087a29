//! What of the replay reaches the agent: both observations' maps, the step between, the mixture.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use half::f16;
use hilt_learner::{
    agents::sight::UNKNOWN_RETURN,
    replay::{HostBatch, Layout, Replay, Row, RowFlags, Which, to_tensors},
};
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

/// A row of episodes of five rows each, of which the first ends; these flags and those that it has by that.
fn push_row(replay: &mut Replay, run: RunId, sequence: u64, flags: RowFlags) {
    let number = (run.0 * 16 + sequence) as f32;
    let frames = [map(0, number), map(1, number)];
    let row = Row {
        run,
        sequence,
        episode: sequence / 5,
        flags: RowFlags {
            reset: sequence.is_multiple_of(5),
            terminated: sequence == 4,
            demonstration: run == DEMONSTRATIONS,
            ..flags
        },
        reward: number,
        grasp_penalty: -0.5 * number,
        action: &[number / 64.0],
        proprio: &[number, number + 100.0],
        frames: &[&frames[0], &frames[1]],
    };
    replay.push(&row).unwrap();
}

/// Two episodes: the first ends, of the second nobody knows.
fn push(replay: &mut Replay, run: RunId) {
    for sequence in 0..10 {
        push_row(replay, run, sequence, RowFlags::default());
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

/// By sequence number, the returns of the steps that are stored.
fn returns(replay: &Replay) -> Vec<(u64, f32)> {
    let mut batch = HostBatch::new(LAYOUT, 16);
    let filled = replay.in_order(Which::Online, 0, &mut batch);
    let tensors = to_tensors(&batch, MAP, Device::Cpu);
    let returns = tensors.returns.unwrap();
    let row = |i: usize| {
        (
            batch.rewards()[i] as u64 - 16,
            returns.double_value(&[i as i64]) as f32,
        )
    };
    let mut rows: Vec<(u64, f32)> = (0..filled).map(row).collect();
    rows.sort_by_key(|row| row.0);
    rows
}

#[test]
fn returns_are_known_as_soon_as_the_end_is_however_rows_come() {
    // Rewards 16 + sequence and penalties half of that, less: episodes 0 to 4, which ends, and 5 to 9, of which
    // nobody knows the end.
    let step = |sequence: u64| 0.5 * (16 + sequence) as f32;
    let mut after = 0.0;
    let mut first: Vec<(u64, f32)> = (1..5)
        .rev()
        .map(|sequence| {
            after = step(sequence) + 0.5 * after;
            (sequence, after)
        })
        .collect();
    first.reverse();
    let unknown = |sequence: u64| (sequence, UNKNOWN_RETURN);
    let open: Vec<(u64, f32)> = [first.clone(), (6..10).map(unknown).collect()].concat();
    let (dir, mut replay) = store(&[ONLINE]);
    let mut batch = HostBatch::new(LAYOUT, 4);
    replay.in_order(Which::Online, 0, &mut batch);
    assert!(
        to_tensors(&batch, MAP, Device::Cpu).returns.is_none(),
        "nobody asked"
    );
    replay.reckon_returns(0.5);
    assert_eq!(returns(&replay), open);
    drop(replay);

    let orders: [&[u64]; 4] = [
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        &[4, 2, 0, 3, 1, 10, 6, 8, 9, 7, 5],
        &[5, 6, 8, 9, 10, 7, 1, 2, 4, 0, 3],
    ];
    // The reset of the next episode shows that the second was over at 9.
    let mut ended = first;
    after = 0.0;
    let second: Vec<(u64, f32)> = (6..10)
        .rev()
        .map(|sequence| {
            after = step(sequence) + 0.5 * after;
            (sequence, after)
        })
        .collect();
    ended.extend(second.iter().rev());
    for order in orders {
        let dir = tempfile::tempdir().unwrap();
        let mut replay = Replay::open(dir.path(), LAYOUT, [7; 64], 1000).unwrap();
        replay.reckon_returns(0.5);
        for &sequence in order {
            push_row(&mut replay, ONLINE, sequence, RowFlags::default());
        }
        assert_eq!(returns(&replay), ended, "{order:?}");
        drop(replay);
        let mut replay = Replay::open(dir.path(), LAYOUT, [7; 64], 1000).unwrap();
        replay.reckon_returns(0.5);
        assert_eq!(returns(&replay), ended, "{order:?}, opened again");
    }
    // The last step of all says itself that time ran out.
    let dir_of_truncated = tempfile::tempdir().unwrap();
    let mut replay = Replay::open(dir_of_truncated.path(), LAYOUT, [7; 64], 1000).unwrap();
    replay.reckon_returns(0.5);
    for sequence in 0..10 {
        let truncated = sequence == 9;
        push_row(
            &mut replay,
            ONLINE,
            sequence,
            RowFlags {
                truncated,
                ..RowFlags::default()
            },
        );
    }
    assert_eq!(returns(&replay), ended);
    drop(dir);
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

/// An intervention is drawn as a demonstration and as what the robot did, and is one transition all the same.
#[test]
fn in_the_order_of_all_each_transition_comes_once() {
    let (_dir, mut replay) = store(&[ONLINE]);
    let other = RunId(2);
    for sequence in 0..5 {
        let flags = RowFlags {
            intervention: true,
            ..RowFlags::default()
        };
        push_row(&mut replay, other, sequence, flags);
    }
    push(&mut replay, DEMONSTRATIONS);
    assert_eq!(replay.len(Which::Online), 8 + 4);
    assert_eq!(replay.len(Which::Demonstrations), 8 + 4);
    assert_eq!(replay.all_len(), 8 + 8 + 4);
    // Slice by slice, as whoever goes through all of them.
    let mut batch = HostBatch::new(LAYOUT, 6);
    let (mut rewards, mut slices) = (vec![], vec![]);
    loop {
        let rows = replay.all_in_order(rewards.len(), &mut batch);
        if rows == 0 {
            break;
        }
        slices.push(rows);
        rewards.extend_from_slice(&batch.rewards()[..rows]);
    }
    assert_eq!(slices, [6, 6, 6, 2]);
    let steps = |run: u64, count: u64| {
        let of_run = (0..count).filter(|sequence| sequence % 5 != 0);
        of_run.map(move |sequence| (16 * run + sequence) as f32)
    };
    let wanted: Vec<f32> = (steps(0, 10).chain(steps(1, 10)).chain(steps(2, 5))).collect();
    assert_eq!(rewards, wanted);
}
