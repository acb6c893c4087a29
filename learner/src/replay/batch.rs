//! Sampled transitions in plain buffers, and their way into tensors.

use tch::{Device, Kind, Tensor};

use super::segment::{Layout, RowView};
use crate::agents::sac_grasp::Batch;

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

    pub(super) fn fill(&mut self, slot: usize, from: RowView<'_>, to: RowView<'_>) {
        let Layout {
            cameras,
            frame_bytes,
            proprio,
            action,
        } = self.layout;
        for camera in 0..cameras {
            let range = slot * frame_bytes..(slot + 1) * frame_bytes;
            self.frames[camera][range.clone()].copy_from_slice(from.frame(camera));
            self.next_frames[camera][range].copy_from_slice(to.frame(camera));
        }
        from.copy_proprio(&mut self.proprio[slot * proprio..(slot + 1) * proprio]);
        to.copy_proprio(&mut self.next_proprio[slot * proprio..(slot + 1) * proprio]);
        to.copy_action(&mut self.actions[slot * action..(slot + 1) * action]);
        self.rewards[slot] = to.reward();
        self.masks[slot] = if to.flags().terminated { 0.0 } else { 1.0 };
        self.grasp_penalty[slot] = to.grasp_penalty();
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

    /// Frames of a camera \[B, frame bytes\].
    pub fn frames(&self, camera: usize) -> &[u8] {
        &self.frames[camera]
    }
}

/// The batch of an agent that works on maps \[h, w, C\], stored as f16.
pub fn to_tensors(batch: &HostBatch, map: [i64; 3], device: Device) -> Batch {
    let n = batch.size as i64;
    let [h, w, c] = map;
    let maps = |frames: &[Vec<u8>]| {
        let map = |bytes: &Vec<u8>| Tensor::from_data_size(bytes, &[n, h, w, c], Kind::Half);
        frames
            .iter()
            .map(|bytes| map(bytes).to_device(device).to_kind(Kind::Float))
            .collect()
    };
    let numbers =
        |values: &[f32], shape: &[i64]| Tensor::from_slice(values).reshape(shape).to_device(device);
    Batch {
        maps: maps(&batch.frames),
        next_maps: maps(&batch.next_frames),
        proprio: numbers(&batch.proprio, &[n, batch.layout.proprio as i64]),
        next_proprio: numbers(&batch.next_proprio, &[n, batch.layout.proprio as i64]),
        actions: numbers(&batch.actions, &[n, batch.layout.action as i64]),
        rewards: numbers(&batch.rewards, &[n]),
        masks: numbers(&batch.masks, &[n]),
        grasp_penalty: numbers(&batch.grasp_penalty, &[n]),
    }
}
