//! Reading a dataset: its frames as entries of a rig, or as a table where there is no camera.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hilt_protocol::{CameraSpec, RigSpec, RunId};
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    entries::Entries,
    error::LeRobotError,
    frames::{self, Episode, Episodes, Frame, Frames},
    grippers::{self, Held, Unclear},
    layout::{ACTION, INFO_FILE, Layout, Place, Stored},
    rows::Rows,
};
use crate::{
    guess,
    table::{Columns, Table},
};

/// The list of episodes, in the dataset's folder.
pub(super) const EPISODES: &str = "meta/episodes";
/// The rig's spec, where we wrote the dataset.
pub(super) const SPEC_FILE: &str = "meta/hilt-spec.json";
/// Rows at a time, of actions alone.
const BATCH: usize = 4096;

/// A dataset of LeRobot's, opened. It can be gone through again and again, in the memory of a few frames.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) dir: PathBuf,
    pub(super) layout: Layout,
    /// Files of the list of episodes, in order.
    lists: Vec<PathBuf>,
    pub(super) run: RunId,
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
        Self::open_as(dir, false)
    }

    /// The same; with `as_it_is` to be looked at, NaN and infinities too.
    pub(crate) fn open_as(dir: &Path, as_it_is: bool) -> Result<Self, LeRobotError> {
        let (mut layout, description) = Layout::read(dir)?;
        layout.as_it_is = as_it_is;
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

    /// Whether rows seem to show what their action led to, and not what it was chosen from: see [`Dataset::entries`].
    pub fn seen_late(&self) -> bool {
        self.layout.seen_late()
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
    /// A row is taken for what was seen and what was then done, as `lerobot-record` writes it. LeRobot's program for
    /// HIL-SERL, `gym_manipulator`, puts what was seen *after* the action beside it: there every observation is a step
    /// too late, and the rows do not say so ([`Dataset::seen_late`] is a guess by their columns).
    ///
    /// An episode's last observation is not in the dataset: its last frame stands for it. An episode ends by time-out
    /// unless it says that it did not: `next.success`, `next.truncated`, or `next.done` with a reward above zero. Without
    /// `complementary_info.is_intervention` all of it is a person's.
    ///
    /// # Errors
    /// [`LeRobotError::Told`] if the spec is another dataset's.
    pub fn entries(&self, spec: &RigSpec) -> Result<Entries<'_>, LeRobotError> {
        let cameras = self.looked_through(spec)?;
        Ok(Entries::new(self, cameras, spec.gripper_columns()))
    }

    /// The whole dataset as a table, its actions as they are: of one without cameras. Episodes end as in
    /// [`Dataset::entries`].
    ///
    /// # Errors
    /// What is wrong with a file, or [`LeRobotError::Table`] without observations.
    pub fn table(&self) -> Result<Table, LeRobotError> {
        let (mut table, mut walk) = (Building::new(&self.layout), self.walk());
        while let Some(episode) = walk.episode()? {
            let mut frame = walk.frame(self, &episode, 0, &[])?;
            for place in 1..episode.length {
                let next = walk.frame(self, &episode, place, &[])?;
                table.add(&frame, Some(&next));
                frame = next;
            }
            table.add(&frame, None);
        }
        walk.check_end(self)?;
        table.whole(&self.dir, self.layout.as_it_is)
    }

    pub(super) fn walk(&self) -> Walk {
        let videos = self
            .layout
            .cameras
            .iter()
            .filter(|camera| camera.stored == Stored::Video);
        let videos = videos.map(|camera| camera.key.clone()).collect();
        Walk {
            episodes: Episodes::new(self.lists.clone(), videos, self.layout.episodes),
            rows: None,
        }
    }

    /// Whether these columns of the action, grippers', are as LeRobot counts: 0 (close), 1 (stay), 2 (open).
    pub(super) fn counts_from_0(&self, columns: &[usize]) -> Result<bool, LeRobotError> {
        // Who put it there says so; we do.
        if self.dir.join(SPEC_FILE).exists() {
            return Ok(true);
        }
        let mut held = vec![Held::default(); columns.len()];
        let (mut walk, mut newest) = (self.walk(), None);
        while let Some(episode) = walk.episode()? {
            if columns.is_empty() || newest.replace(episode.data) == Some(episode.data) {
                continue;
            }
            let path = self.dir.join(self.layout.data_file(episode.data)?);
            let file = frames::open(&path, &self.dir.join(EPISODES))?;
            let rows = Rows::open(file, &path, &[ACTION], BATCH)?;
            let (mut rows, as_it_is) = (rows.looked_at(self.layout.as_it_is), self.layout.as_it_is);
            let width = self.layout.action_width();
            while let Some(batch) = rows.batch()? {
                let numbers = batch.numbers(ACTION, width)?;
                for (row, action) in numbers.chunks(width).enumerate() {
                    for (held, &column) in held.iter_mut().zip(columns) {
                        let looked_at = as_it_is && !action[column].is_finite();
                        if !looked_at && !held.add(action[column]) {
                            return Err(no_command(path, batch.row(row), column, action[column]));
                        }
                    }
                }
            }
        }
        grippers::count_from_0(&held).map_err(|Unclear { column, what }| LeRobotError::Gripper {
            path: self.layout.path.clone(),
            column: self.layout.action.names[columns[column]].clone(),
            what,
        })
    }
}

/// A gripper's number that is none.
pub(super) fn no_command(path: PathBuf, row: u64, place: usize, got: f32) -> LeRobotError {
    LeRobotError::Value {
        path,
        key: ACTION.into(),
        row,
        place,
        got: got.to_string(),
        remedy: "a gripper's are 0 (close), 1 (stay), 2 (open), or from -1 to 1 where no meta/hilt-spec.json is; mend \
                 what wrote it, or, if it is no gripper's, say the rig with --spec spec.json",
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

/// Reads one file of rows as a table, given its dataset's description; `path` is what errors call it. Episodes are as
/// the rows say, each after the other from its first frame on.
///
/// # Errors
/// What is wrong with the description or the rows.
pub fn read_from(description: &[u8], rows: Vec<u8>, path: &Path) -> Result<Table, LeRobotError> {
    let layout = Layout::parse(description, path)?;
    let mut frames = Frames::open(Bytes::from(rows), path, &layout, &[])?;
    let mut table = Building::new(&layout);
    let mut last: Option<Frame> = None;
    while let Some(frame) = frames.next()? {
        // Rows that are all alike need hardly a byte: these cannot be.
        let (episode, place) = match &last {
            Some(last) if last.episode == frame.episode => {
                (last.episode, last.frame.saturating_add(1))
            }
            Some(last) if last.episode > frame.episode => (last.episode.saturating_add(1), 0),
            _ => (frame.episode, 0),
        };
        if (frame.episode, frame.frame) != (episode, place) {
            return Err(out_of_order(path, episode, place, &frame));
        }
        if let Some(last) = last.take() {
            table.add(&last, (place > 0).then_some(&frame));
        }
        last = Some(frame);
    }
    if let Some(last) = last {
        table.add(&last, None);
    }
    table.whole(path, false)
}

/// `frame` is there, where frame `place` of `episode` should be.
fn out_of_order(path: &Path, episode: u64, place: u64, frame: &Frame) -> LeRobotError {
    LeRobotError::Order {
        path: path.to_owned(),
        row: frame.row,
        episode,
        frame: place,
        got_episode: frame.episode,
        got_frame: frame.frame,
    }
}

/// A table, row by row.
struct Building(Columns);

impl Building {
    fn new(layout: &Layout) -> Self {
        Self(Columns {
            observation: layout.proprio().len(),
            action: layout.action_width(),
            ..Columns::default()
        })
    }

    /// Adds a frame; `next` follows it in its episode.
    fn add(&mut self, frame: &Frame, next: Option<&Frame>) {
        let columns = &mut self.0;
        columns.observations.extend(&frame.proprio);
        columns.actions.extend(&frame.action);
        columns.rewards.push(frame.reward);
        columns
            .next_observations
            .extend(&next.unwrap_or(frame).proprio);
        let ends = next.is_none();
        columns.terminals.push(ends && frame.terminated());
        columns.timeouts.push(ends && !frame.terminated());
    }

    fn whole(self, path: &Path, as_it_is: bool) -> Result<Table, LeRobotError> {
        Table::of(self.0, as_it_is).map_err(|cause| LeRobotError::Table {
            path: path.to_owned(),
            cause,
        })
    }
}

/// Frames episode after episode.
pub(super) struct Walk {
    episodes: Episodes,
    /// The file of rows that is open.
    rows: Option<(Place, Frames)>,
}

impl Walk {
    pub(super) fn episode(&mut self) -> Result<Option<Episode>, LeRobotError> {
        self.episodes.next()
    }

    /// The frame at a place of an episode; places and episodes come in order. `cameras`: which are looked through.
    pub(super) fn frame(
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
            return Err(out_of_order(&rows.path, episode.episode, place, &frame));
        }
        Ok(frame)
    }

    /// The file of rows that is open.
    pub(super) fn path(&self) -> PathBuf {
        (self.rows.as_ref()).map_or_else(PathBuf::new, |(_, frames)| frames.path.clone())
    }

    /// Whether all episodes came.
    pub(super) fn check_end(&self, dataset: &Dataset) -> Result<(), LeRobotError> {
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
