//! Reading a dataset: its frames as entries of a rig, or as a table where there is no camera.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hilt_protocol::{
    ActionSource, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, Step,
};
use sha2::{Digest, Sha256};

use super::{
    error::LeRobotError,
    frames::{self, Episode, Episodes, Frame, Frames},
    layout::{ACTION, Camera, INFO_FILE, Layout, Place, Stored},
    rows::Rows,
    video::VideoReader,
};
use crate::{
    guess,
    table::{Columns, Table},
};

/// The list of episodes, in the dataset's folder.
const EPISODES: &str = "meta/episodes";
/// The rig's spec, where we wrote the dataset.
pub(super) const SPEC_FILE: &str = "meta/hilt-spec.json";
/// Rows at a time, of actions alone.
const BATCH: usize = 4096;

/// A dataset of LeRobot's, opened. It can be gone through again and again, in the memory of a few frames.
#[derive(Clone, Debug)]
pub struct Dataset {
    dir: PathBuf,
    layout: Layout,
    /// Files of the list of episodes, in order.
    lists: Vec<PathBuf>,
    run: RunId,
}

impl Dataset {
    /// Whether a folder is one.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(INFO_FILE).is_file()
    }

    /// Opens the dataset in `dir`.
    ///
    /// # Errors
    /// [`LeRobotError`] if it is of another version, or its description or list of episodes is not there or says
    /// what cannot be.
    pub fn open(dir: &Path) -> Result<Self, LeRobotError> {
        let (layout, description) = Layout::read(dir)?;
        let lists = find_lists(&dir.join(EPISODES))?;
        if lists.is_empty() || layout.episodes == 0 {
            return Err(LeRobotError::Nothing(dir.to_owned()));
        }
        // The list has extremes and means of every episode in it: that stands for the content.
        let mut hash = Sha256::new_with_prefix(&description);
        for list in &lists {
            let mut file = frames::open(list, &layout.path)?;
            io::copy(&mut file, &mut hash).map_err(|cause| LeRobotError::Io {
                path: list.clone(),
                cause,
            })?;
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        Ok(Self {
            dir: dir.to_owned(),
            layout,
            lists,
            run: RunId(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        })
    }

    /// Whether there are pictures: without, it is no recording of a rig, but a [`Dataset::table`].
    pub fn has_cameras(&self) -> bool {
        !self.layout.cameras.is_empty()
    }

    /// The rig: as `told`, else as we wrote beside the dataset, else as its actions look. All sizes are as they are in
    /// the dataset; cameras that a rig told does not have are not looked through.
    ///
    /// # Errors
    /// [`LeRobotError::Told`] if widths, or names and sizes of cameras, are others in the dataset;
    /// [`LeRobotError::Guess`] if nothing comes to mind.
    pub fn spec(&self, told: Option<&RigSpec>) -> Result<RigSpec, LeRobotError> {
        let path = self.layout.path.clone();
        if !self.has_cameras() {
            return Err(LeRobotError::NoCamera(path));
        }
        let spec = match (told, self.written_spec()?) {
            (Some(told), _) => told.clone(),
            (None, Some(written)) => written,
            (None, None) => {
                let cameras = self.layout.cameras.iter().map(|camera| camera.spec.clone());
                let (width, proprio) = (self.layout.action_width(), self.layout.proprio());
                // A rate is whole in a spec; times stay as they are.
                let rate = self.layout.rate_hz.round() as u32;
                return guess::spec(width, cameras.collect(), proprio, rate)
                    .map_err(|cause| LeRobotError::Guess { path, cause });
            }
        };
        spec.validate().map_err(|e| LeRobotError::spec(path, e))?;
        self.looked_through(&spec)?;
        Ok(spec)
    }

    fn written_spec(&self) -> Result<Option<RigSpec>, LeRobotError> {
        let path = self.dir.join(SPEC_FILE);
        let wrong = |what: String| LeRobotError::Spec {
            path: path.clone(),
            what,
        };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Places of a rig's cameras in ours.
    fn looked_through(&self, spec: &RigSpec) -> Result<Vec<usize>, LeRobotError> {
        let layout = &self.layout;
        let wrong = |what: String| LeRobotError::Told {
            path: layout.path.clone(),
            what,
        };
        for (what, wanted, got) in [
            ("an action", spec.action_dim(), layout.action_width()),
            ("proprioception", spec.proprio_dim(), layout.proprio().len()),
        ] {
            if wanted != got {
                return Err(wrong(format!(
                    "{what} has {wanted} numbers, in the dataset {got}"
                )));
            }
        }
        let place = |wanted: &CameraSpec| {
            let ours = layout.cameras.iter().map(|camera| &camera.spec);
            let size = |camera: &CameraSpec| {
                format!("`{}` ({}×{})", camera.name, camera.width, camera.height)
            };
            (ours.clone().position(|camera| camera == wanted)).ok_or_else(|| {
                let there: Vec<String> = ours.map(size).collect();
                let there = there.join(", ");
                wrong(format!(
                    "camera {} is not in the dataset, there are {there}",
                    size(wanted)
                ))
            })
        };
        spec.cameras.iter().map(place).collect()
    }

    /// All entries, episode after episode, of a rig that [`Dataset::spec`] gave: one run, whose times are counts of
    /// frames over the dataset's rate.
    ///
    /// An episode's last observation is not in the dataset: its last frame stands for it. An episode ends by time-out
    /// unless it says that it did not: `next.success`, `next.truncated`, or `next.done` with a reward above zero. Without
    /// `complementary_info.is_intervention` all of it is a person's.
    ///
    /// # Errors
    /// [`LeRobotError::Told`] if the spec is another dataset's.
    pub fn entries(&self, spec: &RigSpec) -> Result<Entries<'_>, LeRobotError> {
        Ok(Entries {
            dataset: self,
            cameras: self.looked_through(spec)?,
            may_be_grippers: spec.gripper_columns(),
            counted_from_0: None,
            walk: self.walk(),
            films: self.layout.cameras.iter().map(|_| None).collect(),
            last: None,
            sequence: 0,
            episode: 0,
            ended: false,
        })
    }

    /// The whole dataset as a table, its actions as they are: of one without cameras. Episodes end as in
    /// [`Dataset::entries`].
    ///
    /// # Errors
    /// What is wrong with a file, or [`LeRobotError::Table`] without observations.
    pub fn table(&self) -> Result<Table, LeRobotError> {
        let mut columns = Columns {
            observation: self.layout.proprio().len(),
            action: self.layout.action_width(),
            ..Columns::default()
        };
        let mut walk = self.walk();
        while let Some(episode) = walk.episode()? {
            let mut next = vec![];
            for place in 0..episode.length {
                let frame = walk.frame(self, &episode, place, &[])?;
                columns.observations.extend(&frame.proprio);
                if place > 0 {
                    columns.next_observations.extend(&frame.proprio);
                }
                columns.actions.extend(&frame.action);
                columns.rewards.push(frame.reward);
                let last = place + 1 == episode.length;
                columns.terminals.push(last && frame.terminated());
                columns.timeouts.push(last && !frame.terminated());
                next = frame.proprio;
            }
            columns.next_observations.extend(next);
        }
        walk.check_end(self)?;
        Table::new(columns).map_err(|cause| LeRobotError::Table {
            path: self.dir.clone(),
            cause,
        })
    }

    fn walk(&self) -> Walk {
        let videos = self
            .layout
            .cameras
            .iter()
            .filter(|camera| camera.stored == Stored::Video);
        let videos = videos.map(|camera| camera.key.clone()).collect();
        Walk {
            episodes: Episodes::new(self.lists.clone(), videos),
            rows: None,
        }
    }

    /// Whether all of these columns hold 0, 1 and 2 alone: grippers as LeRobot has them (close, stay, open).
    fn counts_from_0(&self, columns: &[usize]) -> Result<bool, LeRobotError> {
        let (mut walk, mut newest) = (self.walk(), None);
        while let Some(episode) = walk.episode()? {
            if newest.replace(episode.data) == Some(episode.data) {
                continue;
            }
            let path = self.dir.join(self.layout.data_file(episode.data)?);
            let file = frames::open(&path, &self.dir.join(EPISODES))?;
            let mut rows = Rows::open(file, &path, &[ACTION], BATCH)?;
            let width = self.layout.action_width();
            while let Some(batch) = rows.batch()? {
                let numbers = batch.numbers(ACTION, width)?;
                let other = |&number: &f32| ![0.0, 1.0, 2.0].contains(&number);
                let mut actions = numbers.chunks(width);
                if actions.any(|action| columns.iter().any(|&column| other(&action[column]))) {
                    return Ok(false);
                }
            }
        }
        Ok(!columns.is_empty())
    }
}

/// The files of a list of episodes, as LeRobot sorts them.
fn find_lists(dir: &Path) -> Result<Vec<PathBuf>, LeRobotError> {
    let io = |cause| LeRobotError::Io {
        path: dir.to_owned(),
        cause,
    };
    let below = |dir: &Path| -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut lists = vec![];
    for chunk in below(dir).map_err(io)? {
        if chunk.is_dir() {
            lists.extend(below(&chunk).map_err(io)?);
        }
    }
    lists.retain(|list| list.extension().is_some_and(|ending| ending == "parquet"));
    lists.sort();
    Ok(lists)
}

/// Frames episode after episode.
struct Walk {
    episodes: Episodes,
    /// The file of rows that is open.
    rows: Option<(Place, Frames)>,
}

impl Walk {
    fn episode(&mut self) -> Result<Option<Episode>, LeRobotError> {
        self.episodes.next()
    }

    /// The frame at a place of an episode; places and episodes come in order. `cameras`: which are looked through.
    fn frame(
        &mut self,
        dataset: &Dataset,
        episode: &Episode,
        place: u64,
        cameras: &[usize],
    ) -> Result<Frame, LeRobotError> {
        if self
            .rows
            .as_ref()
            .is_none_or(|(place, _)| *place != episode.data)
        {
            let path = dataset.dir.join(dataset.layout.data_file(episode.data)?);
            let file = frames::open(&path, &dataset.dir.join(EPISODES))?;
            let frames = Frames::open(file, &path, &dataset.layout, cameras)?;
            self.rows = Some((episode.data, frames));
        }
        let Some((_, rows)) = &mut self.rows else {
            return Err(LeRobotError::Nothing(dataset.dir.clone()));
        };
        let Some(frame) = rows.next()? else {
            return Err(LeRobotError::Ends {
                path: rows.path.clone(),
                rows: rows.rows(),
                episode: episode.episode,
                frame: place,
            });
        };
        if (frame.episode, frame.frame) != (episode.episode, place) {
            return Err(LeRobotError::Order {
                path: rows.path.clone(),
                row: frame.row,
                episode: episode.episode,
                frame: place,
                got_episode: frame.episode,
                got_frame: frame.frame,
            });
        }
        Ok(frame)
    }

    /// Whether all episodes came.
    fn check_end(&self, dataset: &Dataset) -> Result<(), LeRobotError> {
        let (said, read) = (dataset.layout.episodes, self.episodes.read());
        if said == read {
            return Ok(());
        }
        Err(LeRobotError::Info {
            path: dataset.layout.path.clone(),
            key: "total_episodes".into(),
            what: format!(
                "is {said}, but {EPISODES} lists {read}: the dataset is not whole, copy it again"
            ),
        })
    }
}

/// A video that is being looked at.
struct Film {
    path: PathBuf,
    reader: VideoReader,
}

/// The entries of a dataset, in order. After an error there are none.
pub struct Entries<'a> {
    dataset: &'a Dataset,
    /// Those that are looked through, in the order of the rig's.
    cameras: Vec<usize>,
    may_be_grippers: Vec<usize>,
    /// Whether they count 0, 1, 2; `None`: not looked at yet.
    counted_from_0: Option<bool>,
    walk: Walk,
    /// One place per camera of the dataset.
    films: Vec<Option<Film>>,
    /// The newest frame, whose action is not told yet.
    last: Option<Seen>,
    sequence: u64,
    episode: u64,
    ended: bool,
}

/// A frame with its pictures.
struct Seen {
    of: Episode,
    frame: Frame,
    /// In the order of the rig's cameras.
    pictures: Vec<Arc<[u8]>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, LeRobotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

impl Entries<'_> {
    fn entry(&mut self) -> Result<Option<Entry>, LeRobotError> {
        let Some(last) = self.last.take() else {
            return self.reset();
        };
        let place = last.frame.frame + 1;
        let ends = place == last.of.length;
        // What an episode's last action led to nobody kept: its last frame stands for it.
        let next = match ends {
            true => self.observation(&last.frame, &last.pictures),
            false => {
                let seen = self.see(last.of.clone(), place)?;
                let observation = self.observation(&seen.frame, &seen.pictures);
                self.last = Some(seen);
                observation
            }
        };
        let (action, source) = (self.action(&last.frame)?, source(&last.frame));
        let terminated = ends && last.frame.terminated();
        let record = Record::Step(Step {
            action,
            source,
            reward: last.frame.reward,
            grasp_penalty: last.frame.penalty,
            terminated,
            truncated: ends && !terminated,
            label: None,
            policy_version: 0,
            noise_seed: 0,
            next,
        });
        let index = u32::try_from(place).map_err(|_| LeRobotError::Info {
            path: self.dataset.dir.join(EPISODES),
            key: "length".into(),
            what: format!("is {}: no episode is that long", last.of.length),
        })?;
        let entry = self.make(index, record);
        self.episode += u64::from(ends);
        Ok(Some(entry))
    }

    fn reset(&mut self) -> Result<Option<Entry>, LeRobotError> {
        let Some(episode) = self.walk.episode()? else {
            self.walk.check_end(self.dataset)?;
            return Ok(None);
        };
        let seen = self.see(episode, 0)?;
        let record = Record::Reset(self.observation(&seen.frame, &seen.pictures));
        self.last = Some(seen);
        Ok(Some(self.make(0, record)))
    }

    fn make(&mut self, index: u32, record: Record) -> Entry {
        let sequence = self.sequence;
        self.sequence += 1;
        Entry {
            run: self.dataset.run,
            sequence,
            episode: self.episode,
            index,
            record,
        }
    }

    /// The next frame of an episode, and what the cameras showed.
    fn see(&mut self, of: Episode, place: u64) -> Result<Seen, LeRobotError> {
        let frame = self.walk.frame(self.dataset, &of, place, &self.cameras)?;
        let cameras = &self.dataset.layout.cameras;
        let videos = cameras.iter().map(|camera| camera.stored == Stored::Video);
        // Places of a camera's own kind among those before it.
        let mut film = 0;
        let mut places: Vec<Option<usize>> = vec![];
        for is_video in videos {
            places.push(is_video.then_some(film));
            film += usize::from(is_video);
        }
        // All are begun before the first is waited for, so that they are decoded side by side.
        for &at in &self.cameras {
            if let Some(film) = places[at] {
                let (file, from_s) = of.videos[film];
                self.films[at] = Some(self.dataset.film(
                    self.films[at].take(),
                    &cameras[at],
                    file,
                    from_s + frame.time_s,
                )?);
            }
        }
        let mut pictures = vec![];
        let mut stored = frame.pictures.iter();
        for &at in &self.cameras {
            let camera = &cameras[at];
            let size = [camera.spec.width, camera.spec.height];
            let rgb = match (places[at], &mut self.films[at]) {
                (Some(film), Some(Film { reader, .. })) => {
                    let (_, from_s) = of.videos[film];
                    let shown = reader.at(from_s + frame.time_s);
                    let shown = shown.map_err(|cause| LeRobotError::Video {
                        key: camera.key.clone(),
                        episode: of.episode,
                        frame: place,
                        cause,
                    })?;
                    shown.rgb
                }
                _ => {
                    let png = stored.next().map_or(&[] as &[u8], Vec::as_slice);
                    frames::decode(png, size).map_err(|what| LeRobotError::Picture {
                        path: self.dataset.dir.join(EPISODES),
                        key: camera.key.clone(),
                        row: frame.row,
                        what,
                    })?
                }
            };
            pictures.push(rgb);
        }
        Ok(Seen {
            of,
            frame,
            pictures,
        })
    }

    fn observation(&self, frame: &Frame, pictures: &[Arc<[u8]>]) -> Observation {
        // Exact for the first hundred days.
        let captured_ns = (self.sequence as f64 / self.dataset.layout.rate_hz * 1e9).round() as u64;
        let images = self.cameras.iter().zip(pictures).map(|(&at, rgb)| {
            let camera = &self.dataset.layout.cameras[at].spec;
            Image {
                captured_ns,
                height: camera.height,
                width: camera.width,
                rgb: rgb.clone(),
            }
        });
        Observation {
            captured_ns,
            proprio: frame.proprio.clone(),
            images: images.collect(),
        }
    }

    /// The action as our rigs have it: a gripper is -1 to close, 0 to stay, 1 to open.
    fn action(&mut self, frame: &Frame) -> Result<Vec<f32>, LeRobotError> {
        let counted_from_0 = match self.counted_from_0 {
            Some(known) => known,
            None => self.dataset.counts_from_0(&self.may_be_grippers)?,
        };
        self.counted_from_0 = Some(counted_from_0);
        let mut action = frame.action.clone();
        if counted_from_0 {
            for &column in &self.may_be_grippers {
                action[column] -= 1.0;
            }
        }
        Ok(action)
    }
}

impl Dataset {
    /// The video of a camera, ready for a frame at `time_s`: `open` if that is it and not past the frame.
    fn film(
        &self,
        open: Option<Film>,
        camera: &Camera,
        file: Place,
        time_s: f64,
    ) -> Result<Film, LeRobotError> {
        let path = self.dir.join(self.layout.video_file(&camera.key, file)?);
        if let Some(film) = open
            && film.path == path
            && film
                .reader
                .newest_s()
                .is_none_or(|newest_s| newest_s < time_s)
        {
            return Ok(film);
        }
        // Asked here, so that the error says who names it.
        drop(frames::open(&path, &self.dir.join(EPISODES))?);
        let size = [camera.spec.width, camera.spec.height];
        let reader =
            VideoReader::open(&path, size, time_s).map_err(|cause| LeRobotError::Video {
                key: camera.key.clone(),
                episode: 0,
                frame: 0,
                cause,
            })?;
        Ok(Film { path, reader })
    }
}

/// A dataset without a word on interventions is of demonstrations.
fn source(frame: &Frame) -> ActionSource {
    match frame.intervention {
        Some(false) => ActionSource::Policy,
        Some(true) | None => ActionSource::Human,
    }
}
