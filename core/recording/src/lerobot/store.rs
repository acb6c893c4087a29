//! The files of a dataset that is being written, episode by episode.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use hilt_protocol::RigSpec;
use serde_json::Value;

use super::{
    info::{CHUNKS_SIZE, Feature, Info},
    layout::{INFO_FILE, Place},
    ongoing::Ongoing,
    reader::SPEC_FILE,
    stats::Stats,
    tables::{self, Column, Listed, Reel},
    write_error::{WriteError, io_error, table_error},
    writer::{Options, Written},
};
use crate::film::{self, Codec, Film};

/// Files that are not whole yet.
const BESIDE: &str = ".writing";
const STATS_FILE: &str = "meta/stats.json";
const TASKS_FILE: &str = "meta/tasks.parquet";

/// What is on the disk, and what of it is written anew with the next episode.
pub(super) struct Store {
    dir: PathBuf,
    spec: RigSpec,
    options: Options,
    features: Vec<Feature>,
    written: Written,
    /// Of everything written, one for each feature.
    stats: Vec<Stats>,
    rows: Growing<RecordBatch>,
    /// One for each camera.
    reels: Vec<Growing<()>>,
    list: Growing<Listed>,
}

/// The newest of some numbered files.
struct Growing<T> {
    place: Place,
    bytes: u64,
    frames: u64,
    /// What is in it.
    parts: Vec<T>,
}

impl<T> Growing<T> {
    fn new() -> Self {
        Self {
            place: Place { chunk: 0, file: 0 },
            bytes: 0,
            frames: 0,
            parts: vec![],
        }
    }

    /// Goes on to the next file if this one would grow beyond `most_mb` with `bytes` more.
    fn make_room(&mut self, bytes: u64, most_mb: u32) {
        if self.frames == 0 || self.bytes + bytes < u64::from(most_mb) << 20 {
            return;
        }
        let Place { chunk, file } = self.place;
        let place = match file + 1 {
            CHUNKS_SIZE => Place {
                chunk: chunk + 1,
                file: 0,
            },
            file => Place { chunk, file },
        };
        *self = Self {
            place,
            ..Self::new()
        };
    }

    /// As many bytes as so many frames more may need.
    fn estimate(&self, frames: u64) -> u64 {
        (self.bytes * frames).checked_div(self.frames).unwrap_or(0)
    }
}

impl Store {
    /// Of a dataset in this folder, which is not there yet, or empty.
    pub fn begin(dir: &Path, spec: &RigSpec, options: Options) -> Result<Self, WriteError> {
        let io = |cause| io_error(dir, cause);
        fs::create_dir_all(dir).map_err(io)?;
        if fs::read_dir(dir).map_err(io)?.next().is_some() {
            return Err(WriteError::There(dir.to_owned()));
        }
        let dir = fs::canonicalize(dir).map_err(io)?;
        fs::create_dir(dir.join(BESIDE)).map_err(io)?;
        Ok(Self {
            features: Feature::of(spec),
            reels: spec.cameras.iter().map(|_| Growing::new()).collect(),
            spec: spec.clone(),
            options,
            written: Written::default(),
            stats: vec![],
            rows: Growing::new(),
            list: Growing::new(),
            dir,
        })
    }

    /// Where films are made.
    pub fn beside(&self) -> PathBuf {
        self.dir.join(BESIDE)
    }

    pub fn written(&self) -> Written {
        self.written
    }

    /// Puts an episode into the dataset.
    pub fn add(&mut self, episode: Ongoing) -> Result<(), WriteError> {
        self.stage(episode)?.commit()
    }

    /// Writes all files that the dataset has with this episode, but not into their places.
    fn stage(&mut self, episode: Ongoing) -> Result<Staged, WriteError> {
        let mut staged = Staged {
            beside: self.dir.join(BESIDE),
            dir: self.dir.clone(),
            moves: vec![],
        };
        let (index, first) = (self.written.episodes, self.written.frames);
        let stats = episode.stats(&self.features);
        self.written = episode.after();
        let rows = self.add_rows(&episode.columns, episode.frames, &mut staged)?;
        let reels = self.add_films(episode.films, episode.frames, &mut staged)?;
        let bytes = self.list.estimate(1);
        self.list
            .make_room(bytes, self.options.data_files_size_in_mb);
        self.list.frames += 1;
        self.stats = match index {
            0 => stats.clone(),
            _ => (self.stats.iter().zip(&stats))
                .map(|(all, new)| all.and(new))
                .collect(),
        };
        self.list.parts.push(Listed {
            index,
            frames: [first, self.written.frames],
            rows,
            reels,
            list: self.list.place,
            stats,
        });
        self.speak_of_it(&mut staged)?;
        Ok(staged)
    }

    /// A video for each camera, with this episode at its end; where in it.
    fn add_films(
        &mut self,
        films: Vec<Film>,
        frames: u64,
        staged: &mut Staged,
    ) -> Result<Vec<Reel>, WriteError> {
        let rate_hz = f64::from(self.spec.policy_hz);
        let mut reels = vec![];
        let cameras = self
            .features
            .iter()
            .filter(|feature| feature.video().is_some());
        for (i, (film, camera)) in films.into_iter().zip(cameras).enumerate() {
            let video = &mut self.reels[i];
            let place_of = |place: Place| {
                format!(
                    "videos/{}/chunk-{:03}/file-{:03}.mp4",
                    camera.key, place.chunk, place.file
                )
            };
            let mut new = film.end()?;
            let bytes = fs::metadata(&new)
                .map_err(|cause| io_error(&new, cause))?
                .len();
            video.make_room(bytes, self.options.video_files_size_in_mb);
            let whole = staged.dir.join(place_of(video.place));
            if video.frames > 0 {
                let joined = staged.beside.join(format!("joined-{i}.mp4"));
                film::join(&[&whole, &new], &joined, Codec::Av1)?;
                fs::remove_file(&new).map_err(|cause| io_error(&new, cause))?;
                new = joined;
            }
            let file = File::open(&new).and_then(|file| {
                file.sync_all()?;
                file.metadata()
            });
            video.bytes = file.map_err(|cause| io_error(&new, cause))?.len();
            let from_s = video.frames as f64 / rate_hz;
            video.frames += frames;
            let to_s = video.frames as f64 / rate_hz;
            reels.push(Reel {
                place: video.place,
                from_s,
                to_s,
            });
            staged.moves.push((new, whole));
        }
        Ok(reels)
    }

    /// The rows, in a file with those before; in which.
    fn add_rows(
        &mut self,
        columns: &[Column],
        frames: u64,
        staged: &mut Staged,
    ) -> Result<Place, WriteError> {
        let features: Vec<&Feature> = (self
            .features
            .iter()
            .filter(|feature| feature.video().is_none()))
        .collect();
        let bytes = self.rows.estimate(frames);
        self.rows
            .make_room(bytes, self.options.data_files_size_in_mb);
        let place = self.rows.place;
        let path = format!(
            "data/chunk-{:03}/file-{:03}.parquet",
            place.chunk, place.file
        );
        let path = staged.dir.join(path);
        let rows = tables::rows(&features, columns).map_err(|cause| table_error(&path, cause))?;
        self.rows.parts.push(rows);
        self.rows.frames += frames;
        let note = tables::rows_note(&features);
        self.rows.bytes = staged.table("rows.parquet", path, &self.rows.parts, Some(note))?;
        Ok(place)
    }

    /// All files of `meta/`, with the newest episode in them.
    fn speak_of_it(&mut self, staged: &mut Staged) -> Result<(), WriteError> {
        let dir = staged.dir.clone();
        let task = &self.options.task;
        if self.written.episodes == 1 {
            staged.json("spec.json", dir.join(SPEC_FILE), &self.spec)?;
            let path = dir.join(TASKS_FILE);
            let tasks = tables::task(task).map_err(|cause| table_error(&path, cause))?;
            staged.table("tasks.parquet", path, &[tasks], Some(tables::task_note()))?;
        }
        let place = self.list.place;
        let path = format!(
            "meta/episodes/chunk-{:03}/file-{:03}.parquet",
            place.chunk, place.file
        );
        let path = dir.join(path);
        let list = tables::list(&self.features, task, &self.list.parts)
            .map_err(|cause| table_error(&path, cause))?;
        self.list.bytes = staged.table("episodes.parquet", path, &[list], None)?;

        let stats = self
            .features
            .iter()
            .zip(&self.stats)
            .map(|(feature, stats)| {
                let json = stats.json(|name, number| feature.kind.statistic(name, number));
                (feature.key.clone(), json)
            });
        let stats: serde_json::Map<String, Value> = stats.collect();
        staged.json("stats.json", dir.join(STATS_FILE), &stats)?;
        let info = Info::new(
            &self.features,
            self.spec.policy_hz,
            self.options.robot_type.as_deref(),
            [
                self.options.data_files_size_in_mb,
                self.options.video_files_size_in_mb,
            ],
            [self.written.episodes, self.written.frames],
        );
        staged.json("info.json", dir.join(INFO_FILE), &info)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(self.beside());
        if !self.dir.join(INFO_FILE).exists() {
            for folder in ["videos", "data", "meta"] {
                let _ = fs::remove_dir_all(self.dir.join(folder));
            }
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// Files that are written and wait until all of them are.
struct Staged {
    beside: PathBuf,
    dir: PathBuf,
    /// From where to where, in order.
    moves: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    fn table(
        &mut self,
        name: &str,
        place: PathBuf,
        batches: &[RecordBatch],
        note: Option<tables::Note>,
    ) -> Result<u64, WriteError> {
        let path = self.beside.join(name);
        let bytes = tables::save(&path, batches, note).map_err(|cause| WriteError::Table {
            path: place.clone(),
            cause,
        })?;
        self.moves.push((path, place));
        Ok(bytes)
    }

    fn json(
        &mut self,
        name: &str,
        place: PathBuf,
        value: &impl serde::Serialize,
    ) -> Result<(), WriteError> {
        let path = self.beside.join(name);
        let written = File::create(&path).and_then(|mut file| {
            serde_json::to_writer_pretty(&mut file, value)?;
            file.sync_all()
        });
        written.map_err(|cause| io_error(&place, cause))?;
        self.moves.push((path, place));
        Ok(())
    }

    /// Puts all in their places, one after the other, each step down to the disk.
    fn commit(self) -> Result<(), WriteError> {
        for (from, to) in self.moves {
            let moved = to.parent().map_or(Ok(()), |folder| {
                fs::create_dir_all(folder)?;
                fs::rename(&from, &to)?;
                File::open(folder)?.sync_all()
            });
            moved.map_err(|cause| io_error(&to, cause))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hilt_protocol::{
        ActionSource, Axis, CameraSpec, Entry, Image, Observation, SetupMode, Step,
    };

    use super::*;
    use crate::Recording;

    fn spec() -> RigSpec {
        RigSpec {
            mode: SetupMode::SingleArmFixedGripper,
            controlled_axes: vec![Axis::X],
            cameras: vec![CameraSpec {
                name: "front".into(),
                height: 64,
                width: 64,
            }],
            proprio: vec!["x".into()],
            policy_hz: 10,
        }
    }

    /// An episode of two steps, each with what was seen before it.
    fn episode() -> [(Observation, Step); 2] {
        let seen = |index: u32| Observation {
            captured_ns: 0,
            proprio: vec![index as f32],
            images: vec![Image {
                captured_ns: 0,
                height: 64,
                width: 64,
                rgb: Arc::from(vec![80; 64 * 64 * 3]),
            }],
        };
        let step = |index| Step {
            action: vec![0.5],
            source: ActionSource::Policy,
            reward: 0.0,
            grasp_penalty: 0.0,
            terminated: index == 1,
            truncated: false,
            label: None,
            policy_version: 0,
            noise_seed: 0,
            next: seen(index + 1),
        };
        [0, 1].map(|index| (seen(index), step(index)))
    }

    #[test]
    fn between_any_two_moves_there_is_a_whole_dataset() {
        if !crate::ffmpeg::has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("dataset");
        let mut store = Store::begin(&dir, &spec(), Options::of_task("wait")).unwrap();
        for whole in 0..4_u64 {
            let (beside, features) = (store.beside(), Feature::of(&spec()));
            let mut ongoing = Ongoing::begin(&beside, &spec(), &features, store.written()).unwrap();
            for (seen, step) in episode() {
                ongoing.add(&spec(), &features, &seen, &step).unwrap();
            }
            let staged = store.stage(ongoing).unwrap();
            let last = staged.moves.len() - 1;
            assert!(staged.moves[last].1.ends_with(INFO_FILE));
            for (i, one) in staged.moves.into_iter().enumerate() {
                let (beside, dir) = (staged.beside.clone(), staged.dir.clone());
                let moves = vec![one];
                Staged { beside, dir, moves }.commit().unwrap();
                let wanted = whole + u64::from(i == last);
                if wanted > 0 {
                    let recording = Recording::open(&store.dir, None).unwrap();
                    let read: Vec<Entry> = recording.entries().map(Result::unwrap).collect();
                    assert_eq!(read.len() as u64, 3 * wanted, "after move {i}");
                }
            }
        }
    }

    #[test]
    fn a_full_file_is_followed_by_the_next_and_a_full_folder_too() {
        let mut file = Growing::<()>::new();
        let full = 3 << 20;
        file.make_room(full, 2);
        assert_eq!(
            file.place,
            Place { chunk: 0, file: 0 },
            "the first part goes in anyway"
        );
        for i in 1..=CHUNKS_SIZE {
            (file.bytes, file.frames) = (1 << 20, 10);
            file.make_room((1 << 20) - 1, 2);
            assert_eq!(file.frames, 10, "there is room");
            assert_eq!(file.estimate(5), 1 << 19);
            file.make_room(1 << 20, 2);
            let (chunk, file_in_it) = (i / CHUNKS_SIZE, i % CHUNKS_SIZE);
            assert_eq!(
                file.place,
                Place {
                    chunk,
                    file: file_in_it
                }
            );
            assert_eq!((file.bytes, file.frames), (0, 0));
        }
    }
}
