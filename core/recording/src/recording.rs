//! A robot's recording: what it saw and did, whatever program wrote it down.
//!
//! Each form of file has a room of its own; here they become one thing, a [`RigSpec`] and the entries to be read
//! with it. Whoever learns from entries, shows or counts them knows no form.

use std::{
    iter,
    path::{Path, PathBuf},
};

use hilt_protocol::{CameraSpec, Entry, Image, Record, RigSpec};
use image::{
    RgbImage,
    imageops::{self, FilterType},
};

use crate::{
    ReadError, RunReader, find_runs,
    hil_serl::{Demonstrations, HilSerlError},
    lerobot::{Dataset, LeRobotError},
    read_spec,
};

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A run cannot.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file of HIL-SERL's cannot.
    #[error(transparent)]
    HilSerl(#[from] HilSerlError),
    /// A dataset of LeRobot's cannot.
    #[error(transparent)]
    LeRobot(#[from] LeRobotError),
    /// The folder cannot be looked through.
    #[error(transparent)]
    Folder(#[from] std::io::Error),
    /// There is nothing that is known here.
    #[error(
        "{0} holds no run, no dataset of LeRobot's and no .pkl of HIL-SERL's; record a run with `hilt record`, or name a table's \
         file (.npz, .hdf5)"
    )]
    Nothing(PathBuf),
    /// Runs of several rigs in one folder.
    #[error("{other} was recorded on another rig than {first}")]
    Rigs {
        /// The first run.
        first: PathBuf,
        /// The first that is of another rig.
        other: PathBuf,
    },
    /// Runs are not of the rig that they are said to be of.
    #[error(
        "{0} was recorded on another rig than --spec says; a run says its own: leave --spec out"
    )]
    Told(PathBuf),
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
    /// Our own logs, and whether any number is read as it is.
    Runs(Vec<PathBuf>, bool),
    /// HIL-SERL.
    HilSerl(Box<Demonstrations>),
    /// LeRobot.
    LeRobot(Box<Dataset>),
}

type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, RecordingError>> + 'a>;

impl Recording {
    /// The runs in a folder, or the one that it is.
    pub fn of_runs(path: &Path) -> Result<Self, RecordingError> {
        Self::of_runs_as(path, false)
    }

    pub(crate) fn of_runs_as(path: &Path, as_it_is: bool) -> Result<Self, RecordingError> {
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
        Ok(Self::of(spec, Form::Runs(runs, as_it_is)))
    }

    /// A dataset of LeRobot's that has cameras.
    pub(crate) fn of_lerobot(
        dataset: Dataset,
        told: Option<&RigSpec>,
    ) -> Result<Self, RecordingError> {
        let spec = dataset.spec(told)?;
        Ok(Self::of(spec, Form::LeRobot(Box::new(dataset))))
    }

    /// Demonstrations of HIL-SERL's that have cameras.
    pub(crate) fn of_hil_serl(demonstrations: Demonstrations) -> Self {
        let spec = demonstrations.spec().clone();
        Self::of(spec, Form::HilSerl(Box::new(demonstrations)))
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

    /// Where an entry is, in words for a person: the folder of its run, or its file and row there.
    pub fn place_of(&self, entry: &Entry) -> String {
        let place = match &self.form {
            Form::Runs(runs, _) => {
                let is_it = |place: &&PathBuf| {
                    let first = RunReader::open(place).ok().and_then(|mut run| run.next());
                    matches!(first, Some(Ok(first)) if first.run == entry.run)
                };
                (runs.iter().find(is_it)).map(|folder| folder.display().to_string())
            }
            Form::HilSerl(files) => files.place_of(entry),
            Form::LeRobot(_) => None,
        };
        place.unwrap_or_else(|| {
            let (episode, index) = (entry.episode, entry.index);
            format!("run {}, episode {episode}, index {index}", entry.run)
        })
    }

    /// Whether the observation before an action seems to be what it led to, as in some datasets of LeRobot's.
    pub fn seen_late(&self) -> bool {
        matches!(&self.form, Form::LeRobot(dataset) if dataset.seen_late())
    }

    /// What its entries have to be read with.
    pub fn spec(&self) -> &RigSpec {
        &self.spec
    }

    /// Its entries from the first on, run after run, each run in order.
    pub fn entries(&self) -> Entries<'_> {
        let entries: Entries<'_> = match &self.form {
            Form::Runs(runs, as_it_is) => {
                Box::new(runs.iter().flat_map(|run| of_run(run, *as_it_is)))
            }
            Form::HilSerl(files) => Box::new(files.entries().map(|entry| Ok(entry?))),
            Form::LeRobot(dataset) => match dataset.entries(&self.as_written) {
                Ok(entries) => Box::new(entries.map(|entry| Ok(entry?))),
                Err(error) => Box::new(iter::once(Err(error.into()))),
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

fn of_run(run: &Path, as_it_is: bool) -> Entries<'static> {
    match RunReader::open_as(run, as_it_is) {
        Ok(entries) => Box::new(entries.map(|entry| Ok(entry?))),
        Err(error) => Box::new(iter::once(Err(error.into()))),
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
