//! An episode that is being written down: its numbers in memory, its pictures on their way into films.

use std::path::Path;

use hilt_protocol::{Observation, RigSpec, Step};

use super::{
    info::{self, Feature},
    layout,
    stats::{Colours, Stats},
    tables::Column,
    write_error::WriteError,
    writer::Written,
};
use crate::film::{Codec, Film};

/// An episode that goes on.
pub(super) struct Ongoing {
    pub frames: u64,
    /// What was written before it.
    before: Written,
    /// One for each feature that is no camera.
    pub columns: Vec<Column>,
    pub films: Vec<Film>,
    colours: Vec<Colours>,
}

impl Ongoing {
    /// Begins the episode after those. Its films become files in `folder`.
    pub fn begin(
        folder: &Path,
        spec: &RigSpec,
        features: &[Feature],
        before: Written,
    ) -> Result<Self, WriteError> {
        let films = spec.cameras.iter().enumerate().map(|(i, camera)| {
            let (size, rate) = ([camera.width, camera.height], f64::from(spec.policy_hz));
            let file = format!("film-{}-{i}.mp4", before.episodes);
            Film::begin(&folder.join(file), size, rate, Codec::Av1)
        });
        Ok(Self {
            frames: 0,
            before,
            columns: (features.iter())
                .filter_map(|feature| Column::empty(feature.kind))
                .collect(),
            films: films.collect::<Result<_, _>>()?,
            colours: spec.cameras.iter().map(|_| Colours::new()).collect(),
        })
    }

    /// Adds a step with what was seen before it; both are of the rig.
    pub fn add(
        &mut self,
        spec: &RigSpec,
        features: &[Feature],
        seen: &Observation,
        step: &Step,
    ) -> Result<(), WriteError> {
        for (i, image) in seen.images.iter().enumerate() {
            self.films[i].add(&image.rgb)?;
            self.colours[i].add(&image.rgb, [image.height, image.width]);
        }
        let mut action = step.action.clone();
        for column in spec.gripper_columns() {
            action[column] += 1.0;
        }
        let timestamp = (self.frames as f64 / f64::from(spec.policy_hz)) as f32;
        let numbers = features.iter().filter(|feature| feature.video().is_none());
        for (feature, column) in numbers.zip(&mut self.columns) {
            match (feature.key.as_str(), column) {
                (info::STATE, Column::Float(values)) => values.extend(&seen.proprio),
                (layout::ACTION, Column::Float(values)) => values.extend(&action),
                (layout::REWARD, Column::Float(values)) => values.push(step.reward),
                (layout::PENALTY, Column::Float(values)) => values.push(step.grasp_penalty),
                (layout::LABEL, Column::Float(values)) => {
                    values.push(step.label.map_or(-1.0, |label| f32::from(u8::from(label))));
                }
                (_, Column::Float(values)) => values.push(timestamp),
                (layout::DONE, Column::Bool(values)) => values.push(step.terminated),
                (layout::TRUNCATED, Column::Bool(values)) => values.push(step.truncated),
                (_, Column::Bool(values)) => values.push(step.source.is_intervention()),
                ("frame_index", Column::Int(values)) => values.push(self.frames),
                ("episode_index", Column::Int(values)) => values.push(self.before.episodes),
                ("index", Column::Int(values)) => values.push(self.before.frames + self.frames),
                // There is one task.
                (_, Column::Int(values)) => values.push(0),
            }
        }
        self.frames += 1;
        Ok(())
    }

    /// Everything written, once this is.
    pub fn after(&self) -> Written {
        Written {
            episodes: self.before.episodes + 1,
            frames: self.before.frames + self.frames,
        }
    }

    /// Of each feature; there is at least one frame.
    pub fn stats(&self, features: &[Feature]) -> Vec<Stats> {
        let (mut colours, mut columns) = (self.colours.iter(), self.columns.iter());
        let of = |feature: &Feature| match feature.video() {
            Some(_) => colours.next().map(Colours::stats),
            None => columns
                .next()
                .map(|column| Stats::of_rows(&column.numbers(), feature.width)),
        };
        features.iter().filter_map(of).collect()
    }
}
