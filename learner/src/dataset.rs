//! Recorded entries as the trainers want them: demonstrations for imitation, labelled frames for
//! the classifier. Pure: reading files is `hilt_recording`'s, training is the trainers'.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context, Result};
use hilt_protocol::{Entry, Observation, Record, RigSpec};
use hilt_recording::{Data, Recording, table::Table};

use crate::ingest::Ingest;

/// Pairs of observation and action, in recorded order.
#[derive(Debug, Default)]
pub struct Demonstrations {
    /// Per sample, one RGB frame per camera (height, width, 3).
    pub images: Vec<Vec<Arc<[u8]>>>,
    /// Per sample, `RigSpec::proprio_dim` numbers.
    pub proprio: Vec<Vec<f32>>,
    /// Per sample, `RigSpec::action_dim` numbers.
    pub actions: Vec<Vec<f32>>,
    /// Per sample, from the tool to where the tool first closed its gripper in this episode
    /// (metres, base frame); `None` where the episode never closes or has no tool position.
    pub to_grasp_m: Vec<Option<[f32; 3]>>,
    /// Per sample, the episode it comes from: held-out sets are made of whole episodes.
    pub episode: Vec<u64>,
}

/// Frames with a person's word on them.
#[derive(Debug, Default)]
pub struct LabelledFrames {
    /// Per frame, one RGB image per camera.
    pub images: Vec<Vec<Arc<[u8]>>>,
    /// Success or not.
    pub labels: Vec<bool>,
    /// Episode of each frame (unique over all sources): held-out sets are made of whole episodes.
    pub episode: Vec<u64>,
}

fn frames(observation: &Observation) -> Vec<Arc<[u8]>> {
    observation
        .images
        .iter()
        .map(|image| Arc::clone(&image.rgb))
        .collect()
}

/// Where the spec keeps the first arm's tool position, if it does.
fn tool_columns(spec: &RigSpec) -> Option<[usize; 3]> {
    let find = |suffix: &str| spec.proprio.iter().position(|name| name.ends_with(suffix));
    Some([find("tool_x")?, find("tool_y")?, find("tool_z")?])
}

fn tool(columns: Option<[usize; 3]>, observation: &Observation) -> Option<[f32; 3]> {
    let [x, y, z] = columns?;
    let p = &observation.proprio;
    Some([*p.get(x)?, *p.get(y)?, *p.get(z)?])
}

impl Demonstrations {
    /// From the entries of one or more runs, each in order.
    pub fn from_entries(entries: &[Entry], spec: &RigSpec) -> Self {
        let tool_columns = tool_columns(spec);
        let gripper = spec.gripper_columns();
        let mut out = Self::default();
        let mut by_episode: BTreeMap<(u64, u64), Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            by_episode
                .entry((entry.run.0, entry.episode))
                .or_default()
                .push(entry);
        }
        for (ordinal, episode) in by_episode.values().enumerate() {
            let closes = |pair: &&[&Entry]| match &pair[1].record {
                Record::Step(step) => gripper.iter().any(|&c| step.action[c] < -0.5),
                Record::Reset(_) => false,
            };
            let pairs: Vec<&[&Entry]> = episode
                .windows(2)
                .filter(|p| p[1].sequence == p[0].sequence + 1)
                .collect();
            let grasp = pairs
                .iter()
                .find(|p| closes(p))
                .and_then(|p| tool(tool_columns, p[0].observation()));
            for pair in pairs {
                let Record::Step(step) = &pair[1].record else {
                    continue;
                };
                let observation = pair[0].observation();
                let here = tool(tool_columns, observation);
                out.images.push(frames(observation));
                out.proprio.push(observation.proprio.clone());
                out.actions.push(step.action.clone());
                out.to_grasp_m.push(
                    grasp
                        .zip(here)
                        .map(|(g, h)| std::array::from_fn(|i| g[i] - h[i])),
                );
                out.episode.push(ordinal as u64);
            }
        }
        out
    }

    /// Mean and standard deviation of each number of proprioception, as [`statistics`] has them.
    pub fn proprio_statistics(&self) -> (Vec<f32>, Vec<f32>) {
        statistics(&self.proprio)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

impl LabelledFrames {
    /// Takes every observation that a person labelled.
    pub fn from_entries(entries: &[Entry]) -> Self {
        let mut out = Self::default();
        let mut episodes: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for entry in entries {
            let Record::Step(step) = &entry.record else {
                continue;
            };
            let Some(label) = step.label else { continue };
            let next = episodes.len() as u64;
            let episode = *episodes.entry((entry.run.0, entry.episode)).or_insert(next);
            out.images.push(frames(&step.next));
            out.labels.push(label);
            out.episode.push(episode);
        }
        out
    }

    /// Takes more frames. Their episodes are taken as other ones.
    pub fn append(&mut self, more: Self) {
        let first = self.episode.iter().max().map_or(0, |last| last + 1);
        self.images.extend(more.images);
        self.labels.extend(more.labels);
        self.episode.extend(more.episode.iter().map(|e| first + e));
    }

    /// Leaves out the oldest beyond `most` frames.
    pub fn keep_newest(&mut self, most: usize) {
        let old = self.len().saturating_sub(most);
        self.images.drain(..old);
        self.labels.drain(..old);
        self.episode.drain(..old);
    }

    /// Frames labelled success.
    pub fn positives(&self) -> usize {
        self.labels.iter().filter(|&&label| label).count()
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Mean and standard deviation of each column; one that (nearly) never changes gets 1, so that it is not blown up.
pub fn statistics(rows: &[Vec<f32>]) -> (Vec<f32>, Vec<f32>) {
    let columns = rows.first().map_or(0, Vec::len);
    let n = rows.len().max(1) as f64;
    let column = |c: usize| rows.iter().map(move |row| f64::from(row[c]));
    (0..columns)
        .map(|c| {
            let mean = column(c).sum::<f64>() / n;
            let std = (column(c).map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean as f32, if std < 1e-3 { 1.0 } else { std as f32 })
        })
        .unzip()
}

/// Everything of a recording at once, and what it has to be read with; `rig` is that of one that does not say it.
pub fn read_all(path: &Path, rig: Option<&RigSpec>) -> Result<(RigSpec, Vec<Entry>)> {
    let recording = Recording::open(path, rig)?;
    let entries = recording.entries().collect::<Result<_, _>>()?;
    Ok((recording.spec().clone(), entries))
}

/// [`read_all`] of what is to be imitated: a number that is none, or that no action can have, is an error before
/// anything is trained.
pub fn read_demonstrations(path: &Path, rig: Option<&RigSpec>) -> Result<(RigSpec, Vec<Entry>)> {
    let (spec, entries) = read_all(path, rig)?;
    (entries.iter())
        .try_for_each(Ingest::check)
        .with_context(|| format!("--demos {}", path.display()))?;
    Ok((spec, entries))
}

/// A table of state vectors.
pub fn read_table(path: &Path) -> Result<Table> {
    match Data::open(path, None)? {
        Data::Table(table) => Ok(table),
        Data::Recording(_) => anyhow::bail!(
            "{} is a robot's recording; a table of state vectors is needed here",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::{ActionSource, Axis, CameraSpec, Image, RunId, SetupMode, Step};

    use super::*;

    fn spec() -> RigSpec {
        RigSpec {
            mode: SetupMode::SingleArmLearnedGripper,
            controlled_axes: vec![Axis::X],
            cameras: vec![CameraSpec {
                name: "front".into(),
                height: 16,
                width: 16,
            }],
            proprio: ["tool_x", "tool_y", "tool_z"].map(str::to_owned).to_vec(),
            policy_hz: 10,
        }
    }

    fn observation(x: f32) -> Observation {
        let image = Image {
            captured_ns: 0,
            height: 16,
            width: 16,
            rgb: vec![0; 768].into(),
        };
        Observation {
            captured_ns: 0,
            proprio: vec![x, 0.0, 0.0],
            images: vec![image],
        }
    }

    fn step(sequence: u64, x: f32, gripper: f32, label: Option<bool>) -> Entry {
        let record = Record::Step(Step {
            action: vec![0.5, gripper],
            source: ActionSource::Human,
            reward: 0.0,
            grasp_penalty: 0.0,
            terminated: false,
            truncated: false,
            label,
            policy_version: 0,
            noise_seed: 0,
            next: observation(x),
        });
        Entry {
            run: RunId(1),
            sequence,
            episode: 0,
            index: sequence as u32,
            record,
        }
    }

    fn reset() -> Entry {
        Entry {
            run: RunId(1),
            sequence: 0,
            episode: 0,
            index: 0,
            record: Record::Reset(observation(0.0)),
        }
    }

    #[test]
    fn pairs_observation_with_the_action_taken_there() {
        let entries = [
            reset(),
            step(1, 0.1, 0.0, None),
            step(2, 0.2, -1.0, None),
            step(3, 0.3, 0.0, None),
        ];
        let d = Demonstrations::from_entries(&entries, &spec());
        assert_eq!(d.len(), 3);
        assert_eq!(d.actions[1], [0.5, -1.0]);
        assert_eq!(d.proprio[1][0], 0.1);
        // It closed at x = 0.1, the observation before the closing action.
        assert_eq!(d.to_grasp_m[0].unwrap()[0], 0.1);
        assert!((d.to_grasp_m[2].unwrap()[0] + 0.1).abs() < 1e-6);
        let (mean, std) = d.proprio_statistics();
        assert!((mean[0] - 0.1).abs() < 1e-6 && (std[0] - 0.0816).abs() < 1e-3);
        assert_eq!(std[1], 1.0, "a constant is left as it is");
    }

    #[test]
    fn a_gap_makes_no_pair() {
        let entries = [reset(), step(2, 0.2, 0.0, None), step(3, 0.3, 0.0, None)];
        assert_eq!(Demonstrations::from_entries(&entries, &spec()).len(), 1);
    }

    #[test]
    fn only_labelled_frames_reach_the_classifier() {
        let entries = [
            reset(),
            step(1, 0.1, 0.0, None),
            step(2, 0.2, 0.0, Some(false)),
            step(3, 0.3, 0.0, Some(true)),
        ];
        let f = LabelledFrames::from_entries(&entries);
        assert_eq!((f.len(), f.positives()), (2, 1));
    }

    #[test]
    fn the_oldest_frames_go_first() {
        let labels = [Some(false), Some(true), Some(true)];
        let steps = (1..).zip(labels).map(|(i, label)| step(i, 0.0, 0.0, label));
        let entries: Vec<Entry> = [reset()].into_iter().chain(steps).collect();
        let mut frames = LabelledFrames::from_entries(&entries);
        frames.keep_newest(5);
        assert_eq!(frames.len(), 3);
        frames.keep_newest(2);
        assert_eq!((frames.len(), frames.positives()), (2, 2));
        assert_eq!((frames.images.len(), frames.episode.len()), (2, 2));
    }
}
