//! From entries to replay rows: each new frame goes through the frozen encoder once.

use half::slice::HalfFloatSliceExt;
use hilt_protocol::{Entry, Record, RigSpec};
use tch::{Device, Tensor};

use crate::{
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
        run: hilt_protocol::RunId,
        /// The sequence number.
        sequence: u64,
        /// Which part.
        what: &'static str,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] SegmentError),
}

/// Encodes entries and pushes them.
pub struct Ingest {
    spec: RigSpec,
    encoder: Encoder,
}

/// Layout of a store of maps for this rig and encoder.
pub fn layout(spec: &RigSpec, encoder: &Encoder) -> Layout {
    Layout {
        cameras: spec.cameras.len(),
        frame_bytes: 2 * encoder.config().map_shape().iter().product::<i64>() as usize,
        proprio: spec.proprio_dim(),
        action: spec.action_dim(),
    }
}

/// Identity of a store of maps for this rig and encoder.
pub fn identity(spec: &RigSpec, encoder: &Encoder) -> Identity {
    let mut identity = [0; 64];
    identity[..32].copy_from_slice(&spec.hash().0);
    identity[32..].copy_from_slice(&encoder.hash());
    identity
}

impl Ingest {
    /// With a copy of the encoder of its own, so that it can work on a thread of its own.
    pub fn new(spec: RigSpec, encoder: &Encoder) -> Self {
        Self {
            spec,
            encoder: encoder.copy(),
        }
    }

    /// A row's maps in f16, camera after camera.
    fn maps(&self, entry: &Entry) -> Result<Vec<Vec<u8>>, IngestError> {
        let wrong = |what| IngestError::Spec {
            run: entry.run,
            sequence: entry.sequence,
            what,
        };
        let images = &entry.observation().images;
        if images.len() != self.spec.cameras.len() {
            return Err(wrong("number of cameras"));
        }
        let encode = |(image, camera): (&hilt_protocol::Image, &hilt_protocol::CameraSpec)| {
            if (image.height, image.width) != (camera.height, camera.width) {
                return Err(wrong("image size"));
            }
            let shape = [1, i64::from(image.height), i64::from(image.width), 3];
            let maps = self
                .encoder
                .encode(&Tensor::from_slice(&image.rgb).view(shape))
                .to_device(Device::Cpu);
            let mut numbers = vec![0f32; maps.numel()];
            maps.copy_data(&mut numbers, maps.numel());
            let mut halves = vec![half::f16::ZERO; numbers.len()];
            halves.convert_from_f32_slice(&numbers);
            Ok(bytemuck::cast_slice(&halves).to_vec())
        };
        images.iter().zip(&self.spec.cameras).map(encode).collect()
    }

    /// Encodes and pushes an entry. `demonstration`: it comes from a recording.
    pub fn push(
        &self,
        entry: &Entry,
        demonstration: bool,
        replay: &std::sync::RwLock<Replay>,
    ) -> Result<Pushed, IngestError> {
        let maps = self.maps(entry)?;
        let frames: Vec<&[u8]> = maps.iter().map(Vec::as_slice).collect();
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
                intervention: step.source.is_intervention(),
                demonstration,
            };
            (row.reward, row.grasp_penalty, row.action) =
                (step.reward, step.grasp_penalty, &step.action);
        }
        // Encoding is done: the store is held only for the copy.
        let mut store = replay
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(store.push(&row)?)
    }
}
