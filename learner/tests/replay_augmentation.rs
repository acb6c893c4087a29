//! Random shifts on the way from the replay to the agent: of images in each batch, or of maps made
//! when the frame came. Whatever is drawn is a shift of the right frame, and never of another one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, path::Path, sync::RwLock};

use half::f16;
use hilt_learner::{
    config::{FrameStore, TrainConfig},
    encoder::{Encoder, EncoderConfig},
    ingest::Ingest,
    replay::{
        HostBatch, Layout, Replay, Row, RowFlags, Which, encode_shifted, shifted_images, to_tensors,
    },
};
use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step, noise::Uniforms,
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const SIDE: usize = 16;
const CAMERAS: usize = 2;
const RUN: RunId = RunId(5);

fn spec() -> RigSpec {
    let camera = |name: &str| CameraSpec {
        name: name.to_owned(),
        height: SIDE as u32,
        width: SIDE as u32,
    };
    RigSpec {
        mode: SetupMode::SingleArmFixedGripper,
        controlled_axes: vec![Axis::X, Axis::Y],
        cameras: ["front", "wrist"].map(camera).to_vec(),
        proprio: vec!["x".to_owned()],
        policy_hz: 10,
    }
}

fn encoder() -> Encoder {
    tch::set_num_threads(1);
    let config = EncoderConfig {
        image_size: SIDE as i64,
        widths: vec![4, 8],
        ..EncoderConfig::narrow()
    };
    Encoder::new(config, Kind::Float, Device::Cpu, 1)
}

/// Pixels that no other frame has.
fn pixels(sequence: u64, camera: usize) -> Vec<u8> {
    let mut random = Uniforms::new(sequence * 16 + camera as u64);
    (0..SIDE * SIDE * 3).map(|_| random.bits() as u8).collect()
}

/// Episodes of these lengths in steps; every other one terminates. A step's reward is its number.
fn entries(episodes: &[u32]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (episode, &steps) in (0..).zip(episodes) {
        for index in 0..=steps {
            let sequence = entries.len() as u64;
            let image = |camera| Image {
                captured_ns: sequence,
                height: SIDE as u32,
                width: SIDE as u32,
                rgb: pixels(sequence, camera).into(),
            };
            let next = Observation {
                captured_ns: sequence,
                proprio: vec![sequence as f32],
                images: (0..CAMERAS).map(image).collect(),
            };
            let step = |next| Step {
                action: vec![sequence as f32 / 64.0; 2],
                source: ActionSource::Policy,
                reward: sequence as f32,
                grasp_penalty: 0.0,
                terminated: index == steps && episode % 2 == 0,
                truncated: index == steps && episode % 2 == 1,
                label: None,
                policy_version: 1,
                noise_seed: sequence,
                next,
            };
            entries.push(Entry {
                run: RUN,
                sequence,
                episode,
                index,
                record: match index {
                    0 => Record::Reset(next),
                    _ => Record::Step(step(next)),
                },
            });
        }
    }
    entries
}

fn train(store: FrameStore, shifted_copies: usize) -> TrainConfig {
    TrainConfig {
        store,
        shifted_copies,
        ..TrainConfig::default()
    }
}

fn open(dir: &Path, ingest: &Ingest) -> Replay {
    Replay::open(dir, ingest.layout(), ingest.identity(), 10_000).unwrap()
}

/// A store of these entries as the configuration says.
fn store(dir: &Path, encoder: &Encoder, train: &TrainConfig, entries: &[Entry]) -> Replay {
    let ingest = Ingest::new(spec(), encoder, train).unwrap();
    let replay = RwLock::new(open(dir, &ingest));
    for entry in entries {
        ingest.push(entry, false, &replay).unwrap();
    }
    replay.into_inner().unwrap()
}

fn sample(replay: &Replay, seed: u64, size: usize) -> (HostBatch, Uniforms) {
    let mut batch = HostBatch::new(replay.layout(), size);
    let mut random = Uniforms::new(seed);
    assert!(replay.sample(Which::Online, 0..size, &mut random, &mut batch));
    (batch, random)
}

/// The shifts \[y, x\] of up to four pixels that make `image` of `frame`. Written without the
/// product's shift.
fn shifts_between(frame: &[u8], image: &[u8]) -> Vec<[i64; 2]> {
    let last = SIDE as i64 - 1;
    let is_shift = |&[dy, dx]: &[i64; 2]| {
        (0..=last).all(|y| {
            (0..=last).all(|x| {
                let (from_y, from_x) = ((y + dy).clamp(0, last), (x + dx).clamp(0, last));
                let place = |y: i64, x: i64| (y as usize * SIDE + x as usize) * 3;
                let (from, to) = (place(from_y, from_x), place(y, x));
                frame[from..from + 3] == image[to..to + 3]
            })
        })
    };
    let all = (-4..=4).flat_map(|dy| (-4..=4).map(move |dx| [dy, dx]));
    all.filter(is_shift).collect()
}

/// The one shift by which slot `slot` of all cameras shows observation `sequence`.
fn shift_of(images: &[Tensor], slot: usize, sequence: u64) -> [i64; 2] {
    let per_camera = images.iter().enumerate().map(|(camera, images)| {
        let image = Vec::<u8>::try_from(images.get(slot as i64).flatten(0, 2)).unwrap();
        match shifts_between(&pixels(sequence, camera), &image)[..] {
            [shift] => shift,
            ref shifts => panic!("slot {slot}, camera {camera}: {shifts:?} of {sequence}"),
        }
    });
    let shifts: BTreeSet<_> = per_camera.collect();
    assert_eq!(
        shifts.len(),
        1,
        "the cameras of an observation are shifted together"
    );
    shifts.into_iter().next().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]
    #[test]
    fn a_batch_of_images_is_shifts_of_the_right_frames(
        episodes in prop::collection::vec(1..6u32, 1..5),
        seed in any::<u64>(),
    ) {
        let encoder = encoder();
        let dir = tempfile::tempdir().unwrap();
        let entries = entries(&episodes);
        let replay = store(dir.path(), &encoder, &train(FrameStore::Images, 0), &entries);
        let (batch, mut random) = sample(&replay, seed, 48);
        let [now, next] = shifted_images(&batch, SIDE as i64, &mut random, Device::Cpu);
        for slot in 0..batch.len() {
            let sequence = batch.rewards()[slot] as u64;
            // Where an episode begins there is no step to draw.
            prop_assert!(matches!(entries[sequence as usize].record, Record::Step(_)));
            prop_assert_eq!(batch.proprio()[slot], sequence as f32 - 1.0);
            prop_assert_eq!(batch.next_proprio()[slot], sequence as f32);
            shift_of(&now, slot, sequence - 1);
            shift_of(&next, slot, sequence);
        }
    }
}

#[test]
fn both_observations_are_shifted_by_every_offset_each_by_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let images = train(FrameStore::Images, 0);
    let replay = store(dir.path(), &encoder(), &images, &entries(&[5]));
    let (batch, mut random) = sample(&replay, 1, 1000);
    let [now, next] = shifted_images(&batch, SIDE as i64, &mut random, Device::Cpu);
    let shifts: Vec<_> = (0..batch.len())
        .map(|slot| {
            let sequence = batch.rewards()[slot] as u64;
            (
                shift_of(&now, slot, sequence - 1),
                shift_of(&next, slot, sequence),
            )
        })
        .collect();
    let now: BTreeSet<_> = shifts.iter().map(|pair| pair.0).collect();
    let next: BTreeSet<_> = shifts.iter().map(|pair| pair.1).collect();
    assert_eq!((now.len(), next.len()), (81, 81));
    let same = shifts.iter().filter(|(now, next)| now == next).count();
    assert!(
        same < 40,
        "{same} of 1000 pairs share their offset, not about 12"
    );
}

#[test]
fn what_the_agent_gets_is_the_map_of_the_shifted_image_also_after_a_restart() {
    let (encoder, images) = (encoder(), train(FrameStore::Images, 0));
    let dir = tempfile::tempdir().unwrap();
    let replay = store(dir.path(), &encoder, &images, &entries(&[4, 3]));
    let made = |replay: &Replay, seed: u64| {
        let (batch, mut random) = sample(replay, seed, 32);
        let mut again = random;
        let made = encode_shifted(&batch, &encoder, &mut random);
        let images = shifted_images(&batch, SIDE as i64, &mut again, Device::Cpu);
        let sights = [&made.observations, &made.next_observations];
        for (sight, images) in sights.into_iter().zip(&images) {
            for (map, image) in sight.maps.iter().zip(images) {
                assert_eq!(*map, encoder.encode(image));
            }
        }
        assert_eq!(made.rewards, Tensor::from_slice(batch.rewards()));
        made
    };
    let first = made(&replay, 7);
    assert_ne!(
        first.observations.maps[0],
        made(&replay, 8).observations.maps[0]
    );
    drop(replay);
    let ingest = Ingest::new(spec(), &encoder, &images).unwrap();
    let second = made(&open(dir.path(), &ingest), 7);
    assert_eq!(first.observations.maps, second.observations.maps);
    assert_eq!(first.next_observations.maps, second.next_observations.maps);
}

#[test]
fn one_seed_draws_the_same_rows_whatever_is_stored() {
    let (encoder, entries) = (encoder(), entries(&[5, 1, 7]));
    let stores = [
        train(FrameStore::Maps, 0),
        train(FrameStore::Maps, 1),
        train(FrameStore::Maps, 3),
        train(FrameStore::Images, 0),
    ];
    let rows = stores.map(|train| {
        let dir = tempfile::tempdir().unwrap();
        let replay = store(dir.path(), &encoder, &train, &entries);
        assert_eq!(replay.statistics().rows, entries.len(), "each frame once");
        let (batch, _) = sample(&replay, 11, 64);
        let numbers = [
            batch.rewards(),
            batch.masks(),
            batch.actions(),
            batch.proprio(),
        ];
        numbers.map(<[f32]>::to_vec)
    });
    assert!(rows.iter().all(|other| *other == rows[0]));
    let masks = &rows[0][1];
    assert!(masks.contains(&0.0) && masks.contains(&1.0));
}

/// The maps of a stored row, per copy.
fn stored_maps(replay: &Replay, sequence: u64, camera: usize) -> Vec<Vec<f32>> {
    let row = replay.row(RUN, sequence).unwrap();
    let numbers = |bytes: &[u8]| {
        let pairs = bytes.chunks_exact(2);
        pairs
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect()
    };
    let copies = 0..replay.layout().copies;
    copies
        .map(|copy| numbers(row.frame(camera, copy)))
        .collect()
}

/// Row `i` is the map of `frame` under the i-th shift.
fn maps_of_all_shifts(encoder: &Encoder, frame: &[u8]) -> Vec<Vec<f32>> {
    let last = SIDE as i64 - 1;
    let map = |[dy, dx]: [i64; 2]| {
        let places = (0..=last).flat_map(|y| (0..=last).map(move |x| (y, x)));
        let image: Vec<u8> = places
            .flat_map(|(y, x)| {
                let (y, x) = ((y + dy).clamp(0, last), (x + dx).clamp(0, last));
                let from = (y as usize * SIDE + x as usize) * 3;
                frame[from..from + 3].to_vec()
            })
            .collect();
        let image = Tensor::from_slice(&image).view([1, SIDE as i64, SIDE as i64, 3]);
        Vec::<f32>::try_from(encoder.encode(&image).flatten(0, -1)).unwrap()
    };
    let shifts = (-4..=4).flat_map(|dy| (-4..=4).map(move |dx| [dy, dx]));
    shifts.map(map).collect()
}

#[test]
fn copies_are_maps_of_the_frame_and_of_shifts_of_it() {
    const COPIES: usize = 4;
    let encoder = encoder();
    let dir = tempfile::tempdir().unwrap();
    let maps = train(FrameStore::Maps, COPIES);
    let entries = entries(&[3, 2]);
    let replay = store(dir.path(), &encoder, &maps, &entries);
    let close = |a: &[f32], b: &[f32]| {
        // Half a unit in the last of eleven places, and a little for another order of summation.
        a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= b.abs() / 1024.0 + 1e-4)
    };
    let mut different = BTreeSet::new();
    for sequence in 0..entries.len() as u64 {
        let shifts = (0..CAMERAS).map(|camera| {
            let all = maps_of_all_shifts(&encoder, &pixels(sequence, camera));
            let copies = stored_maps(&replay, sequence, camera);
            let which = |copy: &Vec<f32>| {
                let matching: Vec<usize> = (0..81).filter(|&i| close(copy, &all[i])).collect();
                assert_eq!(matching.len(), 1, "{sequence}/{camera}: {matching:?}");
                matching[0]
            };
            copies.iter().map(which).collect::<Vec<usize>>()
        });
        let shifts: Vec<_> = shifts.collect();
        assert_eq!(shifts[0], shifts[1], "the cameras are shifted together");
        assert_eq!(
            (shifts[0].len(), shifts[0][0]),
            (COPIES, 40),
            "the first is not shifted"
        );
        let distinct: BTreeSet<_> = shifts[0].iter().collect();
        assert_eq!(distinct.len(), COPIES);
        different.insert(shifts[0].clone());
    }
    assert!(different.len() > 1, "each frame has shifts of its own");
    // Made again, as after a lost acknowledgement, a row is the same.
    let other = tempfile::tempdir().unwrap();
    let again = store(other.path(), &encoder, &maps, &entries[4..5]);
    assert_eq!(stored_maps(&again, 4, 1), stored_maps(&replay, 4, 1));
}

/// A frame's byte says whose it is.
fn mark(sequence: u64, camera: usize, copy: usize) -> u8 {
    (sequence * 12 + camera as u64 * 6 + copy as u64) as u8
}

fn marked(dir: &Path, copies: usize, episodes: &[u64]) -> Replay {
    let layout = Layout {
        cameras: CAMERAS,
        frame_bytes: 3,
        copies,
        proprio: 0,
        action: 0,
    };
    let mut replay = Replay::open(dir, layout, [7; 64], 1000).unwrap();
    let rows = (0..)
        .zip(episodes)
        .flat_map(|(episode, &n)| (0..=n).map(move |i| (episode, i)));
    for (sequence, (episode, index)) in (0..).zip(rows) {
        let frame = |camera| -> Vec<u8> {
            let copy = |copy| [mark(sequence, camera, copy); 3];
            (0..copies).flat_map(copy).collect()
        };
        let frames = [frame(0), frame(1)];
        let row = Row {
            run: RUN,
            sequence,
            episode,
            flags: RowFlags {
                reset: index == 0,
                ..RowFlags::default()
            },
            reward: sequence as f32,
            grasp_penalty: 0.0,
            action: &[],
            proprio: &[],
            frames: &[&frames[0], &frames[1]],
        };
        replay.push(&row).unwrap();
    }
    replay
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]
    #[test]
    fn a_draw_is_one_copy_of_each_observation(
        copies in 1..6usize,
        episodes in prop::collection::vec(1..5u64, 1..4),
        seed in any::<u64>(),
    ) {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let one = sample(&marked(dirs[0].path(), 1, &episodes), seed, 600).0;
        let replay = marked(dirs[1].path(), copies, &episodes);
        let (batch, _) = sample(&replay, seed, 600);
        prop_assert_eq!(batch.rewards(), one.rewards());
        let mut pairs = BTreeSet::new();
        for (slot, &reward) in batch.rewards().iter().enumerate() {
            let sequence = reward as u64;
            let copy_of = |sequence, frames: [&[u8]; CAMERAS]| {
                let shown = frames.map(|frames| &frames[3 * slot..3 * slot + 3]);
                (0..copies).find(|&copy| {
                    (0..CAMERAS).all(|camera| shown[camera] == [mark(sequence, camera, copy); 3])
                })
            };
            let now = copy_of(sequence - 1, [batch.frames(0), batch.frames(1)]);
            let next = copy_of(sequence, [batch.next_frames(0), batch.next_frames(1)]);
            prop_assert!(now.is_some() && next.is_some(), "step {}", sequence);
            pairs.insert((now, next));
        }
        prop_assert_eq!(pairs.len(), copies * copies, "each with each");
        drop(replay);
        let again = sample(&marked(dirs[1].path(), copies, &episodes), seed, 600).0;
        for camera in 0..CAMERAS {
            prop_assert_eq!(again.frames(camera), batch.frames(camera));
            prop_assert_eq!(again.next_frames(camera), batch.next_frames(camera));
        }
    }
}

#[test]
fn a_store_of_other_copies_or_of_the_other_kind_is_refused_with_the_remedy() {
    let encoder = encoder();
    let dir = tempfile::tempdir().unwrap();
    let written = train(FrameStore::Maps, 3);
    drop(store(dir.path(), &encoder, &written, &entries(&[2])));
    let refused = |train: &TrainConfig| {
        let ingest = Ingest::new(spec(), &encoder, train).unwrap();
        let open = Replay::open(dir.path(), ingest.layout(), ingest.identity(), 1000);
        open.unwrap_err().to_string()
    };
    let copies = refused(&train(FrameStore::Maps, 2));
    for words in [
        "segment-00000000",
        "go on with train.shifted_copies = 3",
        "--out",
    ] {
        assert!(copies.contains(words), "{copies}");
    }
    let none = refused(&train(FrameStore::Maps, 0));
    assert!(none.contains("train.shifted_copies = 3, not 1"), "{none}");
    let images = refused(&train(FrameStore::Images, 0));
    assert!(images.contains("go on with train.store = maps"), "{images}");
    assert_eq!(
        open(
            dir.path(),
            &Ingest::new(spec(), &encoder, &written).unwrap()
        )
        .len(Which::Online),
        2
    );

    // A map of 16 × 16 × 3 bytes is no image, though its rows are as long.
    let dir = tempfile::tempdir().unwrap();
    let images = Ingest::new(spec(), &encoder, &train(FrameStore::Images, 0)).unwrap();
    drop(store(
        dir.path(),
        &encoder,
        &train(FrameStore::Images, 0),
        &entries(&[2]),
    ));
    let mut maps = images.identity();
    maps[32..].fill(1);
    let open = Replay::open(dir.path(), images.layout(), maps, 1000);
    let error = open.unwrap_err().to_string();
    assert!(error.contains("train.store = images, not maps"), "{error}");
}

#[test]
fn copies_cost_their_bytes_and_the_first_is_what_a_store_without_them_holds() {
    let (encoder, entries) = (encoder(), entries(&[2]));
    let make = |copies| {
        let dir = tempfile::tempdir().unwrap();
        let replay = store(
            dir.path(),
            &encoder,
            &train(FrameStore::Maps, copies),
            &entries,
        );
        (dir, replay)
    };
    let ((_one, one), (_five, five)) = (make(0), make(5));
    let more = five.layout().row_bytes() - one.layout().row_bytes();
    assert_eq!(more, 4 * CAMERAS * one.layout().frame_bytes);
    let (maps, _) = sample(&one, 3, 16);
    let batch = to_tensors(&maps, encoder.config().map_shape(), Device::Cpu);
    for slot in 0..16 {
        let sequence = maps.rewards()[slot] as u64;
        let stored = Tensor::from_slice(&stored_maps(&five, sequence, 1)[0]);
        let drawn = batch.next_observations.maps[1]
            .get(slot as i64)
            .flatten(0, -1);
        assert!(drawn.allclose(&stored, 1e-3, 1e-4, false));
    }
}
