//! Sampled transitions in plain buffers, and their way into tensors.

use hilt_protocol::noise::Uniforms;
use tch::{Device, Kind, Tensor};

use super::segment::{Layout, RowView};
use crate::{
    agents::sight::{Sight, SightTransitions, UNKNOWN_RETURN},
    augment::{PADDING_PX, seeded_offsets, shift},
    config::FrameStore,
    encoder::Encoder,
};

/// B transitions, one buffer per field, made once and filled again and again.
#[derive(Debug)]
pub struct HostBatch {
    layout: Layout,
    size: usize,
    frames: Vec<Vec<u8>>,
    next_frames: Vec<Vec<u8>>,
    proprio: Vec<f32>,
    next_proprio: Vec<f32>,
    actions: Vec<f32>,
    rewards: Vec<f32>,
    masks: Vec<f32>,
    grasp_penalty: Vec<f32>,
    /// Empty where nobody asked for them.
    returns: Vec<f32>,
}

impl HostBatch {
    /// Buffers for `size` transitions.
    pub fn new(layout: Layout, size: usize) -> Self {
        let frames = || vec![vec![0; size * layout.frame_bytes]; layout.cameras];
        let numbers = |width: usize| vec![0.0; size * width];
        Self {
            layout,
            size,
            frames: frames(),
            next_frames: frames(),
            proprio: numbers(layout.proprio),
            next_proprio: numbers(layout.proprio),
            actions: numbers(layout.action),
            rewards: numbers(1),
            masks: numbers(1),
            grasp_penalty: numbers(1),
            returns: vec![],
        }
    }

    /// Number of transitions.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Puts a transition, in these copies of its two observations, into a slot, with its return if that is asked
    /// for.
    pub(super) fn fill(
        &mut self,
        slot: usize,
        [from, to]: [RowView<'_>; 2],
        [from_copy, to_copy]: [usize; 2],
        returned: Option<f32>,
    ) {
        let Layout {
            cameras,
            frame_bytes,
            proprio,
            action,
            ..
        } = self.layout;
        for camera in 0..cameras {
            let range = slot * frame_bytes..(slot + 1) * frame_bytes;
            self.frames[camera][range.clone()].copy_from_slice(from.frame(camera, from_copy));
            self.next_frames[camera][range].copy_from_slice(to.frame(camera, to_copy));
        }
        from.copy_proprio(&mut self.proprio[slot * proprio..(slot + 1) * proprio]);
        to.copy_proprio(&mut self.next_proprio[slot * proprio..(slot + 1) * proprio]);
        to.copy_action(&mut self.actions[slot * action..(slot + 1) * action]);
        self.rewards[slot] = to.reward();
        self.masks[slot] = if to.flags().terminated { 0.0 } else { 1.0 };
        self.grasp_penalty[slot] = to.grasp_penalty();
        if let Some(returned) = returned {
            self.returns.resize(self.size, UNKNOWN_RETURN);
            self.returns[slot] = returned;
        }
    }

    /// Rewards \[B\].
    pub fn rewards(&self) -> &[f32] {
        &self.rewards
    }

    /// 0 where the episode terminated, else 1 \[B\].
    pub fn masks(&self) -> &[f32] {
        &self.masks
    }

    /// Actions \[B, A\].
    pub fn actions(&self) -> &[f32] {
        &self.actions
    }

    /// Proprioception of the observations \[B, P\].
    pub fn proprio(&self) -> &[f32] {
        &self.proprio
    }

    /// Proprioception of the next observations \[B, P\].
    pub fn next_proprio(&self) -> &[f32] {
        &self.next_proprio
    }

    /// A camera's frames of the observations \[B, frame bytes\].
    pub fn frames(&self, camera: usize) -> &[u8] {
        &self.frames[camera]
    }

    /// A camera's frames of the next observations \[B, frame bytes\].
    pub fn next_frames(&self, camera: usize) -> &[u8] {
        &self.next_frames[camera]
    }

    /// The agent's batch, with these maps of the observations and the next ones.
    fn with_maps(&self, [maps, next_maps]: [Vec<Tensor>; 2], device: Device) -> SightTransitions {
        let n = self.size as i64;
        let numbers = |values: &[f32], shape: &[i64]| {
            Tensor::from_slice(values).reshape(shape).to_device(device)
        };
        let proprio = |values: &[f32]| numbers(values, &[n, self.layout.proprio as i64]);
        SightTransitions {
            observations: Sight {
                maps,
                proprio: proprio(&self.proprio),
            },
            next_observations: Sight {
                maps: next_maps,
                proprio: proprio(&self.next_proprio),
            },
            actions: numbers(&self.actions, &[n, self.layout.action as i64]),
            rewards: numbers(&self.rewards, &[n]),
            masks: numbers(&self.masks, &[n]),
            grasp_penalty: numbers(&self.grasp_penalty, &[n]),
            returns: (!self.returns.is_empty()).then(|| numbers(&self.returns, &[n])),
        }
    }
}

/// The batch of an agent, on the encoder's device, from what is stored; `random` shifts images.
pub fn seen(
    batch: &HostBatch,
    store: FrameStore,
    encoder: &Encoder,
    random: &mut Uniforms,
) -> SightTransitions {
    let device = encoder.params().flat().device();
    match store {
        FrameStore::Maps => to_tensors(batch, encoder.config().map_shape(), device),
        FrameStore::Images => encode_shifted(batch, encoder, random),
    }
}

/// The batch of an agent that works on maps \[h, w, C\], from a store of maps.
pub fn to_tensors(batch: &HostBatch, map: [i64; 3], device: Device) -> SightTransitions {
    let [h, w, c] = map;
    let shape = [batch.size as i64, h, w, c];
    let maps = |frames: &Vec<Vec<u8>>| {
        let map = |bytes: &Vec<u8>| Tensor::from_data_size(bytes, &shape, Kind::Half);
        frames
            .iter()
            .map(|bytes| map(bytes).to_device(device).to_kind(Kind::Float))
            .collect()
    };
    batch.with_maps([&batch.frames, &batch.next_frames].map(maps), device)
}

/// The batch of an agent that works on maps, from a store of images: shifted and encoded.
pub fn encode_shifted(
    batch: &HostBatch,
    encoder: &Encoder,
    random: &mut Uniforms,
) -> SightTransitions {
    let device = encoder.params().flat().device();
    let images = shifted_images(batch, encoder.config().image_size, random, device);
    // A camera at a time: a layer's activations take many times the memory of the images.
    let encode = |images: Vec<Tensor>| images.iter().map(|i| encoder.encode(i)).collect();
    batch.with_maps(images.map(encode), device)
}

/// The images u8 \[B, `side`, `side`, 3\] of observations and next observations, per camera, as
/// HIL-SERL augments them: each observation is shifted by an offset of its own, which all cameras
/// share; the next observation by another one.
pub fn shifted_images(
    batch: &HostBatch,
    side: i64,
    random: &mut Uniforms,
    device: Device,
) -> [Vec<Tensor>; 2] {
    let n = batch.size as i64;
    [&batch.frames, &batch.next_frames].map(|frames| {
        let offsets = seeded_offsets(n, PADDING_PX, random).to_device(device);
        let image = |bytes: &Vec<u8>| {
            let images = Tensor::from_slice(bytes).view([n, side, side, 3]);
            shift(&images.to_device(device), &offsets, PADDING_PX)
        };
        frames.iter().map(image).collect()
    })
}
