//! Recorded entries as the trainers want them: demonstrations for imitation, labelled frames for
//! the classifier. Entries are gone through one by one; whatever is kept of them says so.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use hilt_protocol::{Entry, Observation, Record, RigSpec, RunId};
use hilt_recording::{Data, DataError, Opening, Recording, Steps, table::Table};

use crate::{ingest::Ingest, stopped::Stopped};

/// The numbers of pairs of observation and action, in recorded order. Their frames are kept by whoever needs them.
#[derive(Debug)]
pub struct Demonstrations {
    /// Per sample, `RigSpec::proprio_dim` numbers.
    pub proprio: Vec<Vec<f32>>,
    /// Per sample, `RigSpec::action_dim` numbers.
    pub actions: Vec<Vec<f32>>,
    /// Entries that they were made of.
    pub entries: u64,
    /// Where the spec keeps the first arm's tool position, if it does.
    tool_columns: Option<[usize; 3]>,
    gripper_columns: Vec<usize>,
    steps: Steps,
    episodes: Vec<Episode>,
}

/// Samples of an episode, from the first up to the next one's.
#[derive(Debug)]
struct Episode {
    run: RunId,
    number: u64,
    first: usize,
    /// The sample in which a gripper is first told to close.
    closes: Option<usize>,
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
    /// Run and number of the last frame's episode, if it may go on.
    last: Option<(RunId, u64)>,
}

/// Where the spec keeps the first arm's tool position, if it does.
fn tool_columns(spec: &RigSpec) -> Option<[usize; 3]> {
    let find = |suffix: &str| spec.proprio.iter().position(|name| name.ends_with(suffix));
    Some([find("tool_x")?, find("tool_y")?, find("tool_z")?])
}

impl Demonstrations {
    /// Of a rig, without any yet.
    pub fn of(spec: &RigSpec) -> Self {
        Self {
            proprio: vec![],
            actions: vec![],
            entries: 0,
            tool_columns: tool_columns(spec),
            gripper_columns: spec.gripper_columns(),
            steps: Steps::default(),
            episodes: vec![],
        }
    }

    /// Takes the next entry of one or more runs, each in order. What was seen where the sample begins that it makes, if
    /// it makes one.
    pub fn take(&mut self, entry: &Entry) -> Option<Observation> {
        self.entries += 1;
        let (seen, step) = self.steps.next(entry)?;
        let (run, number, sample) = (entry.run, entry.episode, self.len());
        let of_last = self.episodes.last().map(|last| (last.run, last.number));
        if of_last != Some((run, number)) {
            self.episodes.push(Episode {
                run,
                number,
                first: sample,
                closes: None,
            });
        }
        if (self.gripper_columns.iter()).any(|&column| step.action[column] < -0.5)
            && let Some(episode) = self.episodes.last_mut()
        {
            episode.closes.get_or_insert(sample);
        }
        self.proprio.push(seen.proprio.clone());
        self.actions.push(step.action.clone());
        Some(seen)
    }

    /// Per sample, from the tool to where the tool first closed its gripper in this episode
    /// (metres, base frame); `None` where the episode never closes or has no tool position.
    pub fn to_grasp_m(&self) -> Vec<Option<[f32; 3]>> {
        let next = self.episodes.iter().skip(1).map(|episode| episode.first);
        let ends = next.chain([self.len()]);
        let of = |(episode, end): (&Episode, usize)| {
            let grasp = episode.closes.and_then(|sample| self.tool(sample));
            (episode.first..end).map(move |sample| {
                let (grasp, here) = (grasp?, self.tool(sample)?);
                Some(std::array::from_fn(|i| grasp[i] - here[i]))
            })
        };
        self.episodes.iter().zip(ends).flat_map(of).collect()
    }

    fn tool(&self, sample: usize) -> Option<[f32; 3]> {
        let [x, y, z] = self.tool_columns?;
        let p = &self.proprio[sample];
        Some([*p.get(x)?, *p.get(y)?, *p.get(z)?])
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
    /// Takes the observation of an entry, if a person labelled it. Entries of an episode follow one another.
    pub fn take(&mut self, entry: &Entry) {
        let Record::Step(step) = &entry.record else {
            return;
        };
        let Some(label) = step.label else { return };
        let here = (entry.run, entry.episode);
        let goes_on = self.last.replace(here) == Some(here);
        let episode = match self.episode.last() {
            Some(&last) if goes_on => last,
            Some(&last) => last + 1,
            None => 0,
        };
        let images = step.next.images.iter();
        self.images
            .push(images.map(|image| Arc::clone(&image.rgb)).collect());
        self.labels.push(label);
        self.episode.push(episode);
    }

    /// Adds a frame of this episode, counted from 0 without a gap.
    pub fn push(&mut self, images: Vec<Arc<[u8]>>, label: bool, episode: u64) {
        self.images.push(images);
        self.labels.push(label);
        self.episode.push(episode);
    }

    /// Takes more frames. Their episodes are taken as other ones.
    pub fn append(&mut self, more: Self) {
        let first = self.episode.iter().max().map_or(0, |last| last + 1);
        self.images.extend(more.images);
        self.labels.extend(more.labels);
        self.episode.extend(more.episode.iter().map(|e| first + e));
        self.last = None;
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

/// Told to end, and what that comes before.
pub type Until<'a> = (&'a AtomicBool, &'static str);

/// Opens data, until it is told to end. `rig` is that of a recording that does not say it itself; `as_it_is` as in
/// [`Opening`].
pub fn open_data(
    path: &Path,
    rig: Option<&RigSpec>,
    as_it_is: bool,
    (stop, before): Until<'_>,
) -> Result<Data> {
    let opening = Opening {
        told: rig,
        as_it_is,
        go_on: &|| !stop.load(Ordering::Relaxed),
    };
    let opened = Data::open_as(path, &opening);
    if opened.is_err() {
        Stopped::check(stop, before)?;
    }
    Ok(opened?)
}

/// [`open_data`] of a recording that is learned from; a table is an error.
pub fn open_recording(path: &Path, rig: Option<&RigSpec>, until: Until<'_>) -> Result<Recording> {
    match open_data(path, rig, false, until)? {
        Data::Recording(recording) => Ok(recording),
        Data::Table(_) => Err(DataError::NoCameras(path.to_owned()).into()),
    }
}

/// Goes through the entries of a recording, until it is told to end. An error of `take` names the entry's place.
pub fn each_entry(
    recording: &Recording,
    (stop, before): Until<'_>,
    mut take: impl FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    for entry in recording.entries() {
        Stopped::check(stop, before)?;
        let entry = entry?;
        take(&entry).with_context(|| recording.place_of(&entry))?;
    }
    Ok(())
}

/// [`each_entry`] of what is to be imitated: a number that is none, or that no action can have, is an error.
pub fn each_demonstration(
    recording: &Recording,
    until: Until<'_>,
    mut take: impl FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    each_entry(recording, until, |entry| {
        Ingest::check(entry)?;
        take(entry)
    })
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

    fn demonstrations(entries: &[Entry]) -> Demonstrations {
        let mut demonstrations = Demonstrations::of(&spec());
        let before = entries.iter().map(|entry| demonstrations.take(entry));
        let begun: Vec<_> = before.flatten().map(|seen| seen.proprio).collect();
        assert_eq!(begun, demonstrations.proprio);
        demonstrations
    }

    fn labelled(entries: &[Entry]) -> LabelledFrames {
        let mut frames = LabelledFrames::default();
        entries.iter().for_each(|entry| frames.take(entry));
        frames
    }

    #[test]
    fn pairs_observation_with_the_action_taken_there() {
        let entries = [
            reset(),
            step(1, 0.1, 0.0, None),
            step(2, 0.2, -1.0, None),
            step(3, 0.3, 0.0, None),
        ];
        let d = demonstrations(&entries);
        assert_eq!(d.len(), 3);
        assert_eq!(d.actions[1], [0.5, -1.0]);
        assert_eq!(d.proprio[1][0], 0.1);
        // It closed at x = 0.1, the observation before the closing action.
        let to_grasp_m = d.to_grasp_m();
        assert_eq!(to_grasp_m[0].unwrap()[0], 0.1);
        assert!((to_grasp_m[2].unwrap()[0] + 0.1).abs() < 1e-6);
        let (mean, std) = d.proprio_statistics();
        assert!((mean[0] - 0.1).abs() < 1e-6 && (std[0] - 0.0816).abs() < 1e-3);
        assert_eq!(std[1], 1.0, "a constant is left as it is");
    }

    #[test]
    fn a_gap_makes_no_pair() {
        let entries = [reset(), step(2, 0.2, 0.0, None), step(3, 0.3, 0.0, None)];
        assert_eq!(demonstrations(&entries).len(), 1);
    }

    #[test]
    fn only_labelled_frames_reach_the_classifier() {
        let entries = [
            reset(),
            step(1, 0.1, 0.0, None),
            step(2, 0.2, 0.0, Some(false)),
            step(3, 0.3, 0.0, Some(true)),
        ];
        let f = labelled(&entries);
        assert_eq!((f.len(), f.positives()), (2, 1));
    }

    #[test]
    fn each_episode_has_a_grasp_of_its_own_or_none() {
        let of = |episode: u64, entries: Vec<Entry>| {
            entries.into_iter().map(move |mut entry| {
                (entry.episode, entry.sequence) = (episode, entry.sequence + 10 * episode);
                entry
            })
        };
        let closes = vec![
            reset(),
            step(1, 0.1, -1.0, Some(true)),
            step(2, 0.3, 0.0, Some(true)),
        ];
        let never = vec![reset(), step(1, 0.1, 0.0, Some(false))];
        let all: Vec<Entry> = of(0, closes.clone())
            .chain(of(1, never))
            .chain(of(2, closes))
            .collect();
        let d = demonstrations(&all);
        let along_x: Vec<_> = d.to_grasp_m().iter().map(|to| to.map(|to| to[0])).collect();
        assert_eq!(
            along_x,
            [Some(0.0), Some(-0.1), None, Some(0.0), Some(-0.1)]
        );
        let mut frames = labelled(&all);
        assert_eq!(frames.episode, [0, 0, 1, 2, 2]);
        frames.append(labelled(&all));
        assert_eq!(frames.episode[5..], [3, 3, 4, 5, 5]);
        // The last of these was appended: what comes now goes on with none.
        frames.take(&all[7]);
        assert_eq!(frames.episode[10..], [6]);
    }

    #[test]
    fn the_oldest_frames_go_first() {
        let labels = [Some(false), Some(true), Some(true)];
        let steps = (1..).zip(labels).map(|(i, label)| step(i, 0.0, 0.0, label));
        let entries: Vec<Entry> = [reset()].into_iter().chain(steps).collect();
        let mut frames = labelled(&entries);
        frames.keep_newest(5);
        assert_eq!(frames.len(), 3);
        frames.keep_newest(2);
        assert_eq!((frames.len(), frames.positives()), (2, 2));
        assert_eq!((frames.images.len(), frames.episode.len()), (2, 2));
    }
}
