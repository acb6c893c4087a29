//! A robot's recording: what it saw and did, whatever program wrote it down.
//!
//! Each form of file has a room of its own; here they become one thing, a [`RigSpec`] and the entries to be read
//! with it. Whoever learns from entries, shows or counts them knows no form.

use std::path::{Path, PathBuf};

use hilt_protocol::{CameraSpec, Entry, Image, Record, RigSpec};
use image::{
    RgbImage,
    imageops::{self, FilterType},
};

use crate::{
    ReadError, RunReader, find_runs,
    lerobot::{Dataset, LeRobotError},
    read_spec,
};

/// Why a recording cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A run cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A dataset of LeRobot's cannot.
    #[error(transparent)]
    LeRobot(#[from] LeRobotError),
    /// The folder cannot be looked through.
    #[error(transparent)]
    Folder(#[from] std::io::Error),
    /// There is nothing that is known here.
    #[error("{0} holds no run; record one with `hilt record`")]
    Nothing(PathBuf),
    /// Runs of several rigs in one folder.
    #[error("{other} was recorded on another rig than {first}")]
    Rigs {
        /// The first run.
        first: PathBuf,
        /// The first that is of another rig.
        other: PathBuf,
    },
    /// Whoever went through it wished to end.
    #[error("ended before the recording did")]
    Ended,
}

/// What a robot saw and did: a spec and the entries of one or more runs. It can be gone through again and again, and
/// needs the memory of an entry or an episode, however long it is.
#[derive(Clone, Debug)]
pub struct Recording {
    spec: RigSpec,
    /// The spec of its files; images may be wished in another size.
    as_written: RigSpec,
    form: Form,
}

/// Who wrote it.
#[derive(Clone, Debug)]
enum Form {
    /// Our own logs.
    Runs(Vec<PathBuf>),
    /// LeRobot.
    LeRobot(Dataset),
}

impl Recording {
    /// Opens what lies at `path`: a folder of runs, one run, or a dataset of LeRobot's. `told` is the rig of files that do not say it
    /// themselves; a run does.
    pub fn open(path: &Path, told: Option<&RigSpec>) -> Result<Self, RecordingError> {
        if Dataset::is_at(path) {
            return Self::of_lerobot(Dataset::open(path)?, told);
        }
        let runs = find_runs(path)?;
        let [first, others @ ..] = runs.as_slice() else {
            return Err(RecordingError::Nothing(path.to_owned()));
        };
        let spec = read_spec(first)?;
        for other in others {
            if read_spec(other)? != spec {
                let (first, other) = (first.clone(), other.clone());
                return Err(RecordingError::Rigs { first, other });
            }
        }
        let form = Form::Runs(runs);
        Ok(Self::of(spec, form))
    }

    fn of(spec: RigSpec, form: Form) -> Self {
        Self {
            as_written: spec.clone(),
            spec,
            form,
        }
    }

    /// The same with images of `side` × `side` pixels: each as a whole, by a triangle filter that widens when
    /// shrinking.
    pub fn resized(mut self, side: u32) -> Self {
        for camera in &mut self.spec.cameras {
            (camera.height, camera.width) = (side, side);
        }
        self
    }

    /// A dataset of LeRobot's that has cameras.
    pub(crate) fn of_lerobot(
        dataset: Dataset,
        told: Option<&RigSpec>,
    ) -> Result<Self, RecordingError> {
        let spec = dataset.spec(told)?;
        let form = Form::LeRobot(dataset);
        Ok(Self::of(spec, form))
    }

    /// What its entries have to be read with.
    pub fn spec(&self) -> &RigSpec {
        &self.spec
    }

    /// Its entries from the first on, run after run, each run in order.
    pub fn entries(&self) -> Box<dyn Iterator<Item = Result<Entry, RecordingError>> + '_> {
        let entries: Box<dyn Iterator<Item = _>> = match &self.form {
            Form::Runs(runs) => Box::new(runs.iter().flat_map(|run| of_run(run))),
            Form::LeRobot(dataset) => match dataset.entries(&self.as_written) {
                Ok(entries) => Box::new(entries.map(|entry| Ok(entry?))),
                Err(error) => Box::new(std::iter::once(Err(error.into()))),
            },
        };
        if self.spec == self.as_written {
            return entries;
        }
        let fitted = |mut entry: Entry| {
            let observation = match &mut entry.record {
                Record::Reset(observation) => observation,
                Record::Step(step) => &mut step.next,
            };
            for (image, camera) in observation.images.iter_mut().zip(&self.spec.cameras) {
                resize(image, camera);
            }
            entry
        };
        Box::new(entries.map(move |entry| entry.map(fitted)))
    }
}

fn of_run(run: &Path) -> Box<dyn Iterator<Item = Result<Entry, RecordingError>>> {
    match RunReader::open(run) {
        Ok(entries) => Box::new(entries.map(|entry| Ok(entry?))),
        Err(error) => Box::new(std::iter::once(Err(error.into()))),
    }
}

fn resize(image: &mut Image, camera: &CameraSpec) {
    let (height, width) = (camera.height, camera.width);
    if (image.height, image.width) == (height, width) {
        return;
    }
    // An image of another number of bytes than it says stays as it is; whoever reads it names it.
    if let Some(whole) = RgbImage::from_raw(image.width, image.height, image.rgb.to_vec()) {
        image.rgb = imageops::resize(&whole, width, height, FilterType::Triangle)
            .into_raw()
            .into();
        (image.height, image.width) = (height, width);
    }
}
