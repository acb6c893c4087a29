//! Writing a dataset that LeRobot loads, trains on and shows.
//!
//! What is on the disk is a whole dataset after every episode, whenever the program dies. Files are written in a folder
//! beside the others, `.writing`, and renamed into their places when all of an episode is there: first what it
//! consists of, then what speaks of it, `meta/info.json` last. A file that takes one more episode is written anew, and
//! so files are kept small.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use hilt_protocol::{Entry, Observation, Record, RigSpec, SpecError, Step};
use parquet::errors::ParquetError;
use serde_json::Value;

use super::{
    info::{self, CHUNKS_SIZE, Feature, Info},
    layout::{self, INFO_FILE, Place},
    reader::SPEC_FILE,
    stats::{Colours, Stats},
    tables::{self, Column, Listed, Reel},
};
use crate::{
    RecordingError,
    film::{self, Codec, Film, FilmError},
};

/// Files that are not whole yet.
const BESIDE: &str = ".writing";
const STATS_FILE: &str = "meta/stats.json";
const TASKS_FILE: &str = "meta/tasks.parquet";

/// How a dataset is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the robot was to do, in a few words: policies that understand language are given it.
    pub task: String,
    /// What LeRobot calls such a robot, if it knows it.
    pub robot_type: Option<String>,
    /// The largest file of rows. It is written anew for each episode that it takes.
    pub data_files_size_in_mb: u32,
    /// The largest video, likewise.
    pub video_files_size_in_mb: u32,
}

impl Options {
    /// Of this task, and otherwise as it is good for most.
    pub fn of_task(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            robot_type: None,
            data_files_size_in_mb: 8,
            video_files_size_in_mb: 32,
        }
    }
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// With at least one frame.
    pub episodes: u64,
    /// One for each step.
    pub frames: u64,
}

/// Why a dataset cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What was to be written cannot be read.
    #[error(transparent)]
    Read(#[from] RecordingError),
    /// There is something already.
    #[error("{0} is not empty: a dataset is written into a new folder")]
    There(PathBuf),
    /// There is nothing to write.
    #[error("{0} was not written: there is no episode with a step in it")]
    Nothing(PathBuf),
    /// The rig is none.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A camera cannot be called so.
    #[error(
        "camera `{0}`: in a dataset of LeRobot's no name has a slash in it; give it another in the spec"
    )]
    Name(String),
    /// An entry is not of the rig, or holds no numbers.
    #[error("run {run}, episode {episode}, index {index}: {what}")]
    Entry {
        /// Of the entry.
        run: hilt_protocol::RunId,
        /// Of the entry.
        episode: u64,
        /// Of the entry.
        index: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A video was not made.
    #[error(transparent)]
    Film(#[from] FilmError),
    /// A table was not written.
    #[error("{}: {cause}", path.display())]
    Table {
        /// Its file.
        path: PathBuf,
        /// What happened.
        cause: ParquetError,
    },
    /// The system failed.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

/// Writes the dataset `dir`, a new folder, of everything that a rig of this `spec` did.
///
/// Each step is a frame: what was seen before it, the action, and how it went. What was seen after an episode's last step is
/// in no dataset of LeRobot's. `next.done` says that the task ended; that time ran out is `next.truncated`, which
/// LeRobot leaves alone. Columns of grippers are 0 (close), 1 (stay), 2 (open), as its grasp critic has them. Where an entry is
/// missing, an episode ends and another begins.
///
/// # Errors
/// [`WriteError`]. What was written until then is a whole dataset, but for the first episode, whose folder is removed.
pub fn write(
    dir: &Path,
    spec: &RigSpec,
    entries: impl IntoIterator<Item = Result<Entry, RecordingError>>,
    options: Options,
) -> Result<Written, WriteError> {
    let mut writer = Writer::begin(dir, spec, options)?;
    for entry in entries {
        writer.add(&entry?)?;
    }
    writer.finish()
}

/// A dataset that is being written, entry by entry; see [`write()`]. One that is dropped keeps the episodes that have ended.
pub struct Writer {
    dir: PathBuf,
    spec: RigSpec,
    options: Options,
    features: Vec<Feature>,
    /// What was seen last, and by which entry.
    seen: Option<Seen>,
    /// The episode that goes on, once it has a step.
    open: Option<Open>,
    written: Written,
    /// Of everything written, one for each feature.
    stats: Vec<Stats>,
    rows: Growing<RecordBatch>,
    reels: Vec<Growing<()>>,
    list: Growing<Listed>,
}

struct Seen {
    entry: [u64; 3],
    observation: Observation,
}

/// An episode that goes on.
struct Open {
    frames: u64,
    /// One for each feature that is no camera.
    columns: Vec<Column>,
    films: Vec<Film>,
    colours: Vec<Colours>,
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

impl Writer {
    /// Begins the dataset `dir`, a folder that is not there yet, or empty.
    ///
    /// # Errors
    /// [`WriteError::There`] if something is in it; what is wrong with the spec; what the system said.
    pub fn begin(dir: &Path, spec: &RigSpec, options: Options) -> Result<Self, WriteError> {
        spec.validate()?;
        if let Some(camera) = spec.cameras.iter().find(|camera| camera.name.contains('/')) {
            return Err(WriteError::Name(camera.name.clone()));
        }
        let io = |cause| io_error(dir, cause);
        fs::create_dir_all(dir).map_err(io)?;
        if fs::read_dir(dir).map_err(io)?.next().is_some() {
            return Err(WriteError::There(dir.to_owned()));
        }
        let dir = fs::canonicalize(dir).map_err(io)?;
        fs::create_dir(dir.join(BESIDE)).map_err(|cause| io_error(&dir, cause))?;
        Ok(Self {
            features: Feature::of(spec),
            reels: spec.cameras.iter().map(|_| Growing::new()).collect(),
            spec: spec.clone(),
            options,
            seen: None,
            open: None,
            written: Written::default(),
            stats: vec![],
            rows: Growing::new(),
            list: Growing::new(),
            dir,
        })
    }

    /// Takes the next entry. An episode is in the dataset when this has returned for the entry that ended it.
    ///
    /// # Errors
    /// [`WriteError`]; then the dataset is to be dropped.
    pub fn add(&mut self, entry: &Entry) -> Result<(), WriteError> {
        self.check(entry)?;
        let here = [entry.run.0, entry.episode, u64::from(entry.index)];
        let before = self.seen.take();
        let mut ended = true;
        // Where what the step began with is not there, it is no frame.
        if let (Record::Step(step), Some(before)) = (&entry.record, before) {
            let [run, episode, index] = before.entry;
            if [run, episode, index + 1] == here {
                self.add_frame(&before.observation, step)?;
                ended = step.terminated || step.truncated;
            }
        }
        if ended {
            self.end_episode()?;
        }
        let observation = entry.observation().clone();
        self.seen = Some(Seen {
            entry: here,
            observation,
        });
        Ok(())
    }

    /// Ends the last episode, also if it is not over.
    ///
    /// # Errors
    /// [`WriteError::Nothing`] if there was none.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        self.end_episode()?;
        match self.written.episodes {
            0 => Err(WriteError::Nothing(self.dir.clone())),
            _ => Ok(self.written),
        }
    }

    /// Whether the entry is of the rig, and holds numbers.
    fn check(&self, entry: &Entry) -> Result<(), WriteError> {
        let wrong = |what: String| WriteError::Entry {
            run: entry.run,
            episode: entry.episode,
            index: entry.index,
            what,
        };
        let numbers = |name: &str, values: &[f32], wanted: usize| {
            if values.len() != wanted {
                let got = values.len();
                return Err(wrong(format!(
                    "{name} has {got} numbers, by the spec it has {wanted}"
                )));
            }
            match values.iter().position(|value| !value.is_finite()) {
                Some(i) => Err(wrong(format!("number {i} of {name} is {}", values[i]))),
                None => Ok(()),
            }
        };
        let observation = entry.observation();
        numbers("proprio", &observation.proprio, self.spec.proprio_dim())?;
        if let Record::Step(step) = &entry.record {
            numbers("action", &step.action, self.spec.action_dim())?;
            numbers("reward and penalty", &[step.reward, step.grasp_penalty], 2)?;
        }
        let (got, wanted) = (observation.images.len(), self.spec.cameras.len());
        if got != wanted {
            return Err(wrong(format!(
                "there are {got} pictures, by the spec {wanted}"
            )));
        }
        for (image, camera) in observation.images.iter().zip(&self.spec.cameras) {
            let (height, width) = (camera.height, camera.width);
            let bytes = height as usize * width as usize * 3;
            if [image.height, image.width] != [height, width] || image.rgb.len() != bytes {
                return Err(wrong(format!(
                    "the picture of camera `{}` is {}×{} with {} bytes, by the spec {width}×{height} with {bytes}",
                    camera.name,
                    image.width,
                    image.height,
                    image.rgb.len()
                )));
            }
        }
        Ok(())
    }

    fn add_frame(&mut self, before: &Observation, step: &Step) -> Result<(), WriteError> {
        let rate_hz = self.spec.policy_hz;
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let open = Open::begin(&self.dir.join(BESIDE), &self.spec, &self.features)?;
                self.open.insert(open)
            }
        };
        for (i, image) in before.images.iter().enumerate() {
            open.films[i].add(&image.rgb)?;
            open.colours[i].add(&image.rgb, [image.height, image.width]);
        }
        let mut action = step.action.clone();
        for column in self.spec.gripper_columns() {
            action[column] += 1.0;
        }
        let frame = open.frames;
        let episode = self.written.episodes;
        let index = self.written.frames + frame;
        let numbers = self
            .features
            .iter()
            .filter(|feature| feature.video().is_none());
        for (feature, column) in numbers.zip(&mut open.columns) {
            match (feature.key.as_str(), column) {
                (info::STATE, Column::Float(values)) => values.extend(&before.proprio),
                (layout::ACTION, Column::Float(values)) => values.extend(&action),
                (layout::REWARD, Column::Float(values)) => values.push(step.reward),
                (layout::PENALTY, Column::Float(values)) => values.push(step.grasp_penalty),
                ("timestamp", Column::Float(values)) => {
                    values.push((frame as f64 / f64::from(rate_hz)) as f32);
                }
                (layout::DONE, Column::Bool(values)) => values.push(step.terminated),
                (layout::TRUNCATED, Column::Bool(values)) => values.push(step.truncated),
                (layout::INTERVENTION, Column::Bool(values)) => {
                    values.push(step.source.is_intervention());
                }
                ("frame_index", Column::Int(values)) => values.push(frame as i64),
                ("episode_index", Column::Int(values)) => values.push(episode as i64),
                ("index", Column::Int(values)) => values.push(index as i64),
                // There is one task.
                (_, Column::Int(values)) => values.push(0),
                (_, Column::Float(_) | Column::Bool(_)) => {}
            }
        }
        open.frames += 1;
        Ok(())
    }

    /// Puts the episode into the dataset, if there is one.
    fn end_episode(&mut self) -> Result<(), WriteError> {
        match self.open.take() {
            Some(open) => self.stage(open)?.commit(),
            None => Ok(()),
        }
    }

    /// Writes all files that the dataset has with this episode, but not into their places.
    fn stage(&mut self, open: Open) -> Result<Staged, WriteError> {
        let mut staged = Staged {
            beside: self.dir.join(BESIDE),
            dir: self.dir.clone(),
            moves: vec![],
        };
        let first = self.written.frames;
        let frames = [first, first + open.frames];
        let stats = open.stats(&self.features);
        let reels = self.add_films(open.films, open.frames, &mut staged)?;
        let rows = self.add_rows(&open.columns, open.frames, &mut staged)?;

        let bytes = self.list.estimate(1);
        self.list
            .make_room(bytes, self.options.data_files_size_in_mb);
        self.list.frames += 1;
        let index = self.written.episodes;
        let list = self.list.place;
        self.list.parts.push(Listed {
            index,
            frames,
            rows,
            reels,
            list,
            stats: stats.clone(),
        });
        self.stats = match index {
            0 => stats,
            _ => self
                .stats
                .iter()
                .zip(&stats)
                .map(|(all, new)| all.and(new))
                .collect(),
        };
        self.written = Written {
            episodes: index + 1,
            frames: frames[1],
        };
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
            film.end()?;
            let mut new = staged.beside.join(film_name(i));
            let bytes = fs::metadata(&new)
                .map_err(|cause| io_error(&new, cause))?
                .len();
            video.make_room(bytes, self.options.video_files_size_in_mb);
            let whole = staged.dir.join(place_of(video.place));
            if video.frames > 0 {
                let joined = staged.beside.join(format!("joined-{i}.mp4"));
                film::join(&[&whole, &new], &joined, Codec::Av1)?;
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

impl Drop for Writer {
    fn drop(&mut self) {
        // The programs that make its films end first. What cannot be removed is in nobody's way.
        self.open = None;
        let _ = fs::remove_dir_all(self.dir.join(BESIDE));
        if self.written.episodes == 0 {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

impl Open {
    fn begin(beside: &Path, spec: &RigSpec, features: &[Feature]) -> Result<Self, WriteError> {
        let films = spec.cameras.iter().enumerate().map(|(i, camera)| {
            let (size, rate) = ([camera.width, camera.height], f64::from(spec.policy_hz));
            Film::begin(&beside.join(film_name(i)), size, rate, Codec::Av1)
        });
        Ok(Self {
            frames: 0,
            columns: features
                .iter()
                .filter_map(|feature| Column::empty(feature.kind))
                .collect(),
            films: films.collect::<Result<_, _>>()?,
            colours: spec.cameras.iter().map(|_| Colours::new()).collect(),
        })
    }

    /// Of each feature; there is at least one frame.
    fn stats(&self, features: &[Feature]) -> Vec<Stats> {
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

fn film_name(camera: usize) -> String {
    format!("film-{camera}.mp4")
}

fn io_error(path: &Path, cause: io::Error) -> WriteError {
    let path = path.to_owned();
    WriteError::Io { path, cause }
}

fn table_error(path: &Path, cause: ArrowError) -> WriteError {
    let (path, cause) = (path.to_owned(), cause.into());
    WriteError::Table { path, cause }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hilt_protocol::{ActionSource, Axis, CameraSpec, Image, RunId, SetupMode};

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

    /// An episode of two steps.
    fn episode(episode: u64) -> Vec<Entry> {
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
        let step = |index| {
            Record::Step(Step {
                action: vec![0.5],
                source: ActionSource::Policy,
                reward: 0.0,
                grasp_penalty: 0.0,
                terminated: index == 2,
                truncated: false,
                label: None,
                policy_version: 0,
                noise_seed: 0,
                next: seen(index),
            })
        };
        let records = [Record::Reset(seen(0)), step(1), step(2)];
        let entry = |(index, record)| Entry {
            run: RunId(1),
            sequence: 0,
            episode,
            index,
            record,
        };
        (0..).zip(records).map(entry).collect()
    }

    #[test]
    fn between_any_two_moves_there_is_a_whole_dataset() {
        if std::process::Command::new("ffmpeg")
            .arg("-version")
            .output()
            .is_err()
        {
            println!("SKIPPED: there is no ffmpeg here; apt install ffmpeg");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("dataset");
        let mut writer = Writer::begin(&dir, &spec(), Options::of_task("wait")).unwrap();
        for whole in 0..4_u64 {
            let [reset, first, second] = <[Entry; 3]>::try_from(episode(whole)).unwrap();
            writer.add(&reset).unwrap();
            writer.add(&first).unwrap();
            let Record::Step(step) = &second.record else {
                panic!("no step");
            };
            writer.add_frame(first.observation(), step).unwrap();
            let open = writer.open.take().unwrap();
            let staged = writer.stage(open).unwrap();
            let last = staged.moves.len() - 1;
            assert!(staged.moves[last].1.ends_with(INFO_FILE));
            for (i, one) in staged.moves.into_iter().enumerate() {
                let (beside, dir) = (staged.beside.clone(), staged.dir.clone());
                let moves = vec![one];
                Staged { beside, dir, moves }.commit().unwrap();
                let wanted = whole + u64::from(i == last);
                if wanted > 0 {
                    let recording = Recording::open(&writer.dir, None).unwrap();
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
