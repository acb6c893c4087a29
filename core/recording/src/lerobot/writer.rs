//! Writing a dataset that LeRobot loads, trains on and shows.
//!
//! What is on the disk is a whole dataset after every episode, whenever the program dies. Files are written in a folder
//! beside the others, `.writing`, and renamed into their places when all of an episode is there: first what it
//! consists of, then what speaks of it, `meta/info.json` last. A file that takes one more episode is written anew, and
//! so files are kept small. While films are encoded and files written, the next episode is taken already.

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use hilt_protocol::{Entry, Observation, Record, RigSpec, Step};

use super::{
    info::Feature,
    ongoing::Ongoing,
    store::Store,
    write_error::{WriteError, io_error},
};
use crate::{RecordingError, Steps};

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

/// Writes the dataset `dir`, a new folder, of everything that a rig of this `spec` did.
///
/// Each step is a frame: what was seen before it, the action, and how it went. What was seen after an episode's last step is
/// in no dataset of LeRobot's. `next.done` says that the task ended; that time ran out is `next.truncated`, which
/// LeRobot leaves alone. What a person said of a step is `complementary_info.success_label`, 1 success, 0 failure, -1
/// nothing; it is of what the step led to, which the next row shows, and of the last step no row. Columns of grippers are 0 (close), 1 (stay), 2 (open), as its grasp critic has them. Where an entry is
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
    /// Where films are made.
    beside: PathBuf,
    spec: RigSpec,
    features: Vec<Feature>,
    steps: Steps,
    /// The episode that goes on, once it has a step.
    ongoing: Option<Ongoing>,
    /// What was handed over to the thread.
    handed: Written,
    /// Until it went wrong, or ended.
    thread: Option<Background>,
}

/// Waits for an episode's films and puts it into the dataset, while the next one goes on.
struct Background {
    episodes: SyncSender<Ongoing>,
    thread: JoinHandle<Result<Written, WriteError>>,
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
        let mut store = Store::begin(dir, spec, options)?;
        let beside = store.beside();
        // One episode waits, whose numbers are in memory.
        let (sender, receiver) = sync_channel::<Ongoing>(0);
        let thread = thread::Builder::new()
            .name("dataset".to_owned())
            .spawn(move || {
                for episode in receiver {
                    store.add(episode)?;
                }
                Ok(store.written())
            });
        Ok(Self {
            dir: dir.to_owned(),
            beside,
            features: Feature::of(spec),
            spec: spec.clone(),
            steps: Steps::default(),
            ongoing: None,
            handed: Written::default(),
            thread: Some(Background {
                episodes: sender,
                thread: thread.map_err(|cause| io_error(dir, cause))?,
            }),
        })
    }

    /// Takes the next entry. An episode that it ends is put into the dataset in the background.
    ///
    /// # Errors
    /// What is wrong with the entry, or went wrong with an episode before it; then the dataset is to be dropped.
    pub fn add(&mut self, entry: &Entry) -> Result<(), WriteError> {
        self.check(entry)?;
        let mut ended = true;
        // Where what the step began with is not there, it is no frame.
        if let Some((before, step)) = self.steps.next(entry) {
            self.add_frame(&before, step)
                .map_err(|error| self.cause_of(error))?;
            ended = step.terminated || step.truncated;
        }
        if ended {
            self.end_episode()?;
        }
        Ok(())
    }

    /// Ends the last episode, also if it is not over, and waits until all of them are in the dataset.
    ///
    /// # Errors
    /// [`WriteError::Nothing`] if there was none; what went wrong with one.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        self.end_episode()?;
        match self.settle()? {
            Written { episodes: 0, .. } => Err(WriteError::Nothing(self.dir.clone())),
            written => Ok(written),
        }
    }

    fn add_frame(&mut self, seen: &Observation, step: &Step) -> Result<(), WriteError> {
        let (spec, features) = (&self.spec, &self.features);
        let ongoing = match &mut self.ongoing {
            Some(ongoing) => ongoing,
            None => {
                let begun = Ongoing::begin(&self.beside, spec, features, self.handed)?;
                self.ongoing.insert(begun)
            }
        };
        ongoing.add(spec, features, seen, step)
    }

    /// Hands the episode over, if there is one.
    fn end_episode(&mut self) -> Result<(), WriteError> {
        let Some(episode) = self.ongoing.take() else {
            return Ok(());
        };
        self.handed = episode.after();
        let sent = self
            .thread
            .as_ref()
            .map(|thread| thread.episodes.send(episode));
        match sent {
            Some(Ok(())) => Ok(()),
            // It has ended; why it says itself.
            _ => self.settle().map(|_| ()),
        }
    }

    /// What went wrong with an episode before, whose end takes the folder of films with it; else this.
    fn cause_of(&mut self, error: WriteError) -> WriteError {
        self.settle().err().unwrap_or(error)
    }

    /// Waits for the thread.
    fn settle(&mut self) -> Result<Written, WriteError> {
        let Some(Background { episodes, thread }) = self.thread.take() else {
            return Err(WriteError::GivenUp(self.dir.clone()));
        };
        drop(episodes);
        match thread.join() {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
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
            let is_command = |value: f32| [-1.0, 0.0, 1.0].contains(&value);
            let mut grippers = self.spec.gripper_columns().into_iter();
            if let Some(column) = grippers.find(|&column| !is_command(step.action[column])) {
                return Err(wrong(format!(
                    "number {column} of action is {}, and a gripper's is -1 (close), 0 (stay) or 1 (open)",
                    step.action[column]
                )));
            }
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
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The programs that make its films end first. What went wrong nobody asks for any more.
        self.ongoing = None;
        if let Some(Background { episodes, thread }) = self.thread.take() {
            drop(episodes);
            let _ = thread.join();
        }
    }
}
