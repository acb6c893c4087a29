//! From entries to replay rows: each new frame goes through the frozen encoder once, or is kept as
//! it is. [`Ingest::run`] is the thread that takes them from the link.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use half::slice::HalfFloatSliceExt;
use hilt_link::{LearnerLink, WindowLimits};
use hilt_protocol::{
    CameraSpec, Entry, Image, Record, RigSpec, RunId,
    noise::{Uniforms, mix},
};
use tch::{Device, Tensor};

use crate::{
    agents::guard::SLACK,
    augment::{PADDING_PX, copies_offsets, shift},
    config::{FrameStore, TrainConfig},
    encoder::Encoder,
    replay::{Identity, Layout, Pushed, Replay, Row, RowFlags, SegmentError},
};

/// Why an entry cannot be learned from.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It does not fit the rig's spec.
    #[error("entry {sequence} of run {run} does not fit the rig: its {what} differs")]
    Spec {
        /// The run.
        run: RunId,
        /// The sequence number.
        sequence: u64,
        /// Which part.
        what: &'static str,
    },
    /// A number that cannot be.
    #[error("entry {sequence} of run {run}: `{tensor}` has {value} in column {column}; {remedy}")]
    Value {
        /// The run.
        run: RunId,
        /// The sequence number.
        sequence: u64,
        /// Which part.
        tensor: &'static str,
        /// Its column, from 0.
        column: usize,
        /// What is there.
        value: f32,
        /// What to do.
        remedy: &'static str,
    },
    /// Images of several sizes have no common row.
    #[error(
        "camera `{0}` has another image size than the first one: a store of images needs one size"
    )]
    ImageSizes(String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] SegmentError),
}

/// What a row keeps of an image.
enum Frames {
    /// Its bytes.
    Images,
    /// The frozen encoder's maps of it and of its shifts.
    Maps {
        encoder: Box<Encoder>,
        copies: usize,
    },
}

/// Makes rows of entries and pushes them.
pub struct Ingest {
    spec: RigSpec,
    frames: Frames,
    layout: Layout,
}

impl Ingest {
    /// Rows of what the training's configuration says.
    pub fn new(spec: RigSpec, encoder: &Encoder, train: &TrainConfig) -> Result<Self, IngestError> {
        match train.store {
            FrameStore::Images => Self::images(spec),
            FrameStore::Maps => Ok(Self::maps(spec, encoder, train.shifted_copies.max(1))),
        }
    }

    /// Rows of `copies` maps per frame, with a copy of the encoder of its own, so that it can work
    /// on a thread of its own. The first map is of the frame as it is, the one that the robot acts
    /// on: with few copies, random shifts alone would leave it out.
    pub fn maps(spec: RigSpec, encoder: &Encoder, copies: usize) -> Self {
        let map_bytes = 2 * encoder.config().map_shape().iter().product::<i64>() as usize;
        Self {
            layout: layout(&spec, map_bytes, copies),
            frames: Frames::Maps {
                encoder: Box::new(encoder.copy()),
                copies,
            },
            spec,
        }
    }

    /// Rows of images, which must have one size.
    pub fn images(spec: RigSpec) -> Result<Self, IngestError> {
        let bytes = |camera: &CameraSpec| camera.height as usize * camera.width as usize * 3;
        let frame_bytes = spec.cameras.first().map_or(0, bytes);
        if let Some(other) = spec.cameras.iter().find(|c| bytes(c) != frame_bytes) {
            return Err(IngestError::ImageSizes(other.name.clone()));
        }
        Ok(Self {
            layout: layout(&spec, frame_bytes, 1),
            frames: Frames::Images,
            spec,
        })
    }

    /// Layout of its rows.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What its rows belong to.
    pub fn identity(&self) -> Identity {
        let mut identity = [0; 64];
        identity[..32].copy_from_slice(&self.spec.hash().0);
        if let Frames::Maps { encoder, .. } = &self.frames {
            identity[32..].copy_from_slice(&encoder.hash());
        }
        identity
    }

    /// What the row keeps of each camera's image.
    fn frames<'a>(&self, entry: &'a Entry) -> Result<Vec<Cow<'a, [u8]>>, IngestError> {
        let wrong = |what| IngestError::Spec {
            run: entry.run,
            sequence: entry.sequence,
            what,
        };
        let images = &entry.observation().images;
        if images.len() != self.spec.cameras.len() {
            return Err(wrong("number of cameras"));
        }
        // One shift of an observation for all cameras, as in HIL-SERL. It depends on the entry alone:
        // whoever makes this row again makes the same.
        let offsets = match self.frames {
            Frames::Maps { copies, .. } if copies > 1 => {
                let seed = mix(mix(entry.run.0) ^ entry.sequence);
                let mut random = Uniforms::new(seed);
                Some(copies_offsets(copies, PADDING_PX, &mut random))
            }
            _ => None,
        };
        let frame = |(image, camera): (&'a Image, &CameraSpec)| {
            if (image.height, image.width) != (camera.height, camera.width) {
                return Err(wrong("image size"));
            }
            Ok(match &self.frames {
                Frames::Images => Cow::Borrowed(&*image.rgb),
                Frames::Maps { encoder, .. } => Cow::Owned(maps(encoder, image, offsets.as_ref())),
            })
        };
        images.iter().zip(&self.spec.cameras).map(frame).collect()
    }

    /// The first number of an entry that is none, or that no action can have.
    pub fn check(entry: &Entry) -> Result<(), IngestError> {
        let look = |tensor, values: &[f32], bad: fn(f32) -> bool, remedy| {
            let Some(column) = values.iter().position(|&value| bad(value)) else {
                return Ok(());
            };
            Err(IngestError::Value {
                run: entry.run,
                sequence: entry.sequence,
                tensor,
                column,
                value: values[column],
                remedy,
            })
        };
        const MEND: &str = "mend what wrote it, or leave that run out";
        let none = |value: f32| !value.is_finite();
        look("proprio", &entry.observation().proprio, none, MEND)?;
        let Record::Step(step) = &entry.record else {
            return Ok(());
        };
        look("action", &step.action, none, MEND)?;
        let beyond = |value: f32| value.abs() > 1.0 + SLACK as f32;
        let scale = "actions lie in ±1: scale them by the bounds of their space";
        look("action", &step.action, beyond, scale)?;
        look("reward", &[step.reward], none, MEND)?;
        look("grasp_penalty", &[step.grasp_penalty], none, MEND)
    }

    /// Makes an entry's row and pushes it. `demonstration`: it comes from a recording.
    pub fn push(
        &self,
        entry: &Entry,
        demonstration: bool,
        replay: &RwLock<Replay>,
    ) -> Result<Pushed, IngestError> {
        Self::check(entry)?;
        let frames = self.frames(entry)?;
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
        let mut row = Row {
            run: entry.run,
            sequence: entry.sequence,
            episode: entry.episode,
            flags: RowFlags {
                reset: true,
                demonstration,
                ..RowFlags::default()
            },
            reward: 0.0,
            grasp_penalty: 0.0,
            action: &[],
            proprio: &entry.observation().proprio,
            frames: &frames,
        };
        if let Record::Step(step) = &entry.record {
            row.flags = RowFlags {
                reset: false,
                terminated: step.terminated,
                truncated: step.truncated,
                intervention: step.source.is_intervention(),
                demonstration,
            };
            (row.reward, row.grasp_penalty, row.action) =
                (step.reward, step.grasp_penalty, &step.action);
        }
        // Encoding is done: the store is held only for the copy.
        let mut store = replay.write().unwrap_or_else(PoisonError::into_inner);
        Ok(store.push(&row)?)
    }

    /// Takes entries from the link into the store until `ended` is set, and acknowledges them in
    /// groups, when the disk has them. `take` sees those that are new. One that does not fit
    /// the rig, or has a number that cannot be, is named in the log and left out. However it ends, by a panic as well, it sets `ended`
    /// itself, because training without new data would hide it.
    pub fn run(
        &self,
        link: &LearnerLink,
        replay: &RwLock<Replay>,
        ended: &AtomicBool,
        mut take: impl FnMut(&Entry),
    ) -> Result<(), IngestError> {
        let _ends = Ends(ended);
        // The other cores are for the updates.
        tch::set_num_threads(1);
        let mut group = Group::default();
        let mut store = |entry: &Entry| match self.push(entry, false, replay) {
            Ok(Pushed::New) => {
                take(entry);
                Ok(())
            }
            Ok(Pushed::Duplicate) => Ok(()),
            Err(error @ (IngestError::Spec { .. } | IngestError::Value { .. })) => {
                tracing::error!("{error}; it is left out");
                Ok(())
            }
            Err(error) => Err(error),
        };
        while !ended.load(Ordering::Relaxed) {
            if let Some(entry) = link.recv(RECEIVE) {
                store(&entry)?;
                group.add(&entry, Instant::now());
            }
            if group.is_due(Instant::now()) {
                acknowledge(&mut group, link, replay)?;
            }
        }
        acknowledge(&mut group, link, replay)
    }
}

/// Sets a flag when it goes.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn acknowledge(
    group: &mut Group,
    link: &LearnerLink,
    replay: &RwLock<Replay>,
) -> Result<(), IngestError> {
    // Shared, so that the updates go on sampling while the disk works.
    let store = replay.read().unwrap_or_else(PoisonError::into_inner);
    store.sync()?;
    drop(store);
    for (run, sequence) in std::mem::take(group).last {
        link.ack(run, sequence);
    }
    Ok(())
}

/// How long to wait for an entry before looking at the rest.
const RECEIVE: Duration = Duration::from_millis(20);
/// The oldest entry waits about so long for its acknowledgement.
const GROUP_AGE: Duration = Duration::from_millis(200);

/// Entries in the store that were not acknowledged yet.
#[derive(Default)]
struct Group {
    /// Per run.
    last: BTreeMap<RunId, u64>,
    entries: usize,
    bytes: usize,
    since: Option<Instant>,
}

impl Group {
    fn add(&mut self, entry: &Entry, now: Instant) {
        let images = &entry.observation().images;
        self.last.insert(entry.run, entry.sequence);
        self.entries += 1;
        self.bytes += images.iter().map(|image| image.rgb.len()).sum::<usize>();
        self.since.get_or_insert(now);
    }

    /// Whether the disk is worth asking: some time went by, or a quarter of the actor's window is
    /// used up: what has been acknowledged by then keeps the stream going meanwhile.
    fn is_due(&self, now: Instant) -> bool {
        let window = WindowLimits::default();
        self.entries >= window.entries / 4
            || self.bytes >= window.bytes / 4
            || self.since.is_some_and(|since| now - since >= GROUP_AGE)
    }
}

fn layout(spec: &RigSpec, frame_bytes: usize, copies: usize) -> Layout {
    Layout {
        cameras: spec.cameras.len(),
        frame_bytes,
        copies,
        proprio: spec.proprio_dim(),
        action: spec.action_dim(),
    }
}

/// An image's map in f16, or one for each offset by which it is shifted, one after the other.
fn maps(encoder: &Encoder, image: &Image, offsets_yx: Option<&Tensor>) -> Vec<u8> {
    let [height, width] = [image.height, image.width].map(i64::from);
    let mut images = Tensor::from_slice(&image.rgb).view([1, height, width, 3]);
    if let Some(offsets) = offsets_yx {
        let copies = images.expand([offsets.size()[0], -1, -1, -1], false);
        images = shift(&copies, offsets, PADDING_PX);
    }
    let map = encoder.encode(&images).to_device(Device::Cpu);
    let mut numbers = vec![0f32; map.numel()];
    map.copy_data(&mut numbers, map.numel());
    let mut halves = vec![half::f16::ZERO; numbers.len()];
    halves.convert_from_f32_slice(&numbers);
    bytemuck::cast_slice(&halves).to_vec()
}

#[cfg(test)]
mod tests {
    use hilt_protocol::Observation;

    use super::*;

    /// A reset with one image of `side`×`side` pixels.
    fn entry(run: u64, sequence: u64, side: u32) -> Entry {
        Entry {
            run: RunId(run),
            sequence,
            episode: 0,
            index: 0,
            record: Record::Reset(Observation {
                captured_ns: 0,
                proprio: Vec::new(),
                images: vec![Image {
                    captured_ns: 0,
                    height: side,
                    width: side,
                    rgb: vec![0; (side * side * 3) as usize].into(),
                }],
            }),
        }
    }

    #[test]
    fn the_disk_is_asked_before_the_actors_window_is_full_or_after_a_while() {
        let now = Instant::now();
        let window = WindowLimits::default();
        let due_after = |side: u32| {
            let mut group = Group::default();
            (0..window.entries)
                .take_while(|&sequence| {
                    group.add(&entry(1, sequence as u64, side), now);
                    !group.is_due(now)
                })
                .count()
        };
        let large = 3 * 512 * 512;
        assert_eq!(due_after(16), window.entries / 4 - 1);
        assert_eq!(due_after(512), window.bytes / 4 / large);

        let mut group = Group::default();
        assert!(!group.is_due(now + GROUP_AGE), "nothing was written");
        group.add(&entry(1, 7, 16), now);
        group.add(&entry(2, 3, 16), now + GROUP_AGE / 2);
        group.add(&entry(1, 8, 16), now + GROUP_AGE / 2);
        assert!(!group.is_due(now + GROUP_AGE / 2));
        assert!(group.is_due(now + GROUP_AGE), "the oldest one waits");
        assert_eq!(group.last, [(RunId(1), 8), (RunId(2), 3)].into());
    }
}
