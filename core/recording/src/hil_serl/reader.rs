//! Rows as entries, as a table, and as frames with a word on them.

use std::{
    io::{self, Read, Seek},
    iter::Peekable,
    path::{Path, PathBuf},
    sync::Arc,
    vec,
};

use hilt_protocol::{CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, Step};

use super::{
    Fault, HilSerlError, Place, files, in_file, in_outline, opened,
    rows::{self, Form, Row, Rows, Seen},
    spec::Fit,
};
use crate::{
    Opening,
    asked::Asked,
    pickle::Outline,
    table::{Columns, Table},
};

/// What files hold.
#[derive(Clone, Debug)]
pub enum Opened<R> {
    /// What a robot saw and did.
    Rig(R),
    /// Transitions on states alone.
    Table(Table),
}

/// Files with images, of one rig.
#[derive(Clone, Debug)]
pub struct Demonstrations {
    files: Vec<(PathBuf, RunId)>,
    form: Form,
    fit: Fit,
    as_it_is: bool,
}

/// Opens a file or a folder of files, and looks at every number in them; at images only when they are asked for.
/// `told` is their rig, if it is known.
pub fn open(path: &Path, told: Option<&RigSpec>) -> Result<Opened<Demonstrations>, HilSerlError> {
    let opening = Opening {
        told,
        ..Opening::default()
    };
    open_as(path, &opening)
}

pub(crate) fn open_as(
    path: &Path,
    opening: &Opening<'_>,
) -> Result<Opened<Demonstrations>, HilSerlError> {
    let as_it_is = opening.as_it_is;
    let files = files(path).map_err(in_file(path))?;
    let Some(first) = files.first() else {
        return Err(HilSerlError::Nothing(path.to_owned()));
    };
    let mut rig: Option<(Form, usize)> = None;
    let mut columns = Columns::default();
    let mut runs: Vec<(PathBuf, RunId)> = vec![];
    for file in &files {
        let (handle, length) = opened(file)?;
        let mut handle = Asked::new(handle, opening.go_on);
        let (rows, run) = transitions(&mut handle, length, file, as_it_is)?;
        let like_it = runs.iter().find(|(_, other)| *other == run);
        if let (Some((first, _)), false) = (like_it, as_it_is) {
            let (first, copy) = (first.clone(), file.clone());
            return Err(HilSerlError::Copy { first, copy });
        }
        runs.push((file.clone(), run));
        let action = rows.rows.first().map_or(0, |row| row.action.len());
        let (form, of_first) = rig.get_or_insert_with(|| (rows.form.clone(), action));
        same_rig((form, *of_first), (&rows.form, action), first, file)?;
        if form.cameras.is_empty() {
            add(&mut columns, rows);
        }
    }
    match rig {
        Some((form, action)) if !form.cameras.is_empty() => {
            let fit = Fit::of(&form, action, opening.told, first)?;
            Ok(Opened::Rig(Demonstrations {
                files: runs,
                form,
                fit,
                as_it_is,
            }))
        }
        _ => table(columns, path, as_it_is).map(Opened::Table),
    }
}

/// Opens a file of `length` bytes; `path` is what errors call it.
pub fn read_from<F: Read + Seek>(
    mut file: F,
    length: u64,
    path: &Path,
    told: Option<&RigSpec>,
) -> Result<Opened<(RigSpec, Entries<F>)>, HilSerlError> {
    let (rows, run) = transitions(&mut file, length, path, false)?;
    if rows.form.cameras.is_empty() {
        let mut columns = Columns::default();
        add(&mut columns, rows);
        return table(columns, path, false).map(Opened::Table);
    }
    let action = rows.rows.first().map_or(0, |row| row.action.len());
    let fit = Fit::of(&rows.form, action, told, path)?;
    let spec = fit.spec.clone();
    Ok(Opened::Rig((
        spec,
        Entries::new(file, path, rows, run, fit),
    )))
}

impl Demonstrations {
    /// What the entries have to be read with.
    pub fn spec(&self) -> &RigSpec {
        &self.fit.spec
    }

    /// The entries of all files, each a run.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, HilSerlError>> + '_ {
        let of_file =
            |(file, _): &(PathBuf, _)| (self.of_file(file)).unwrap_or_else(|error| failed(error));
        self.files.iter().flat_map(of_file)
    }

    /// The file and row of an entry: of a step its own, else that of the step which begins there.
    pub fn place_of(&self, entry: &Entry) -> Option<String> {
        let (file, _) = self.files.iter().find(|(_, run)| *run == entry.run)?;
        // Each episode has one entry more than it has rows.
        let step = u64::from(matches!(entry.record, Record::Step(_)));
        let row = entry.sequence.checked_sub(entry.episode + step)?;
        Some(format!("{}: row {row}", file.display()))
    }

    fn of_file(&self, path: &Path) -> Result<Each<Entry>, HilSerlError> {
        let (mut file, length) = opened(path)?;
        let (rows, run) = transitions(&mut file, length, path, self.as_it_is)?;
        if rows.form != self.form {
            return Err(in_file(path)(changed()));
        }
        let entries = Entries::new(file, path, rows, run, self.fit.clone());
        Ok(Box::new(entries))
    }
}

type Each<T> = Box<dyn Iterator<Item = Result<T, HilSerlError>>>;

/// A file that cannot be opened, where its contents are asked for.
fn failed<T: 'static>(error: HilSerlError) -> Each<T> {
    Box::new(std::iter::once(Err(error)))
}

fn changed() -> io::Error {
    io::Error::other("the file has changed since it was opened; open it again")
}

/// The rows of a file, and its identity.
fn transitions<F: Read + Seek>(
    file: &mut F,
    length: u64,
    path: &Path,
    as_it_is: bool,
) -> Result<(Rows<Row>, RunId), HilSerlError> {
    let outline = Outline::of(&mut *file, length).map_err(in_outline(path))?;
    let rows = rows::read(&outline, file, path, as_it_is, |at, form| {
        at.transition(form)
    })?;
    let columns = rows.rows.first().map_or(0, |row| row.action.len());
    let other = rows.rows.iter().position(|row| row.action.len() != columns);
    if let Some(row) = other {
        let fault = Fault::Width(columns, rows.rows[row].action.len());
        return Err(Place { path, row }.error("actions", fault));
    }
    let [a, b, c, d, e, f, g, h, ..] = outline.identity();
    Ok((rows, RunId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))))
}

fn same_rig(
    (form, action): (&Form, usize),
    (other_form, other_action): (&Form, usize),
    first: &Path,
    other: &Path,
) -> Result<(), HilSerlError> {
    let what = if form.cameras != other_form.cameras {
        "cameras"
    } else if form != other_form {
        "states"
    } else if action != other_action {
        "actions"
    } else {
        return Ok(());
    };
    let (first, other) = (first.to_owned(), other.to_owned());
    Err(HilSerlError::Rigs { first, other, what })
}

/// The rows of a file without images. What follows in another file is not what its last row led to.
fn add(columns: &mut Columns, rows: Rows<Row>) {
    for row in rows.rows {
        columns.observation = row.now.state.len();
        columns.action = row.action.len();
        columns.observations.extend(row.now.state);
        columns.actions.extend(row.action);
        columns.rewards.push(row.reward);
        columns.next_observations.extend(row.next.state);
        columns.terminals.push(row.terminated);
        columns.timeouts.push(row.truncated);
    }
    if let (Some(false), Some(timeout)) = (columns.terminals.last(), columns.timeouts.last_mut()) {
        *timeout = true;
    }
}

fn table(columns: Columns, path: &Path, as_it_is: bool) -> Result<Table, HilSerlError> {
    Table::of(columns, as_it_is).map_err(|source| HilSerlError::Table {
        path: path.to_owned(),
        source,
    })
}

/// RGB, one per camera.
type Images = Vec<Arc<[u8]>>;

/// The entries of a file.
pub struct Entries<F> {
    frames: Frames<F>,
    fit: Fit,
    rows: Peekable<vec::IntoIter<Row>>,
    run: RunId,
    sequence: u64,
    episode: u64,
    index: u32,
    /// The next row goes on with the episode.
    goes_on: bool,
    /// If it does not: the images that it begins with, where they have been fetched.
    begins_with: Option<Images>,
}

impl<F: Read + Seek> Entries<F> {
    fn new(file: F, path: &Path, rows: Rows<Row>, run: RunId, fit: Fit) -> Self {
        let cameras = &rows.form.cameras;
        let cameras = fit
            .cameras
            .iter()
            .map(|&place| (place, cameras[place].clone()));
        Self {
            frames: Frames {
                file,
                path: path.to_owned(),
                cameras: cameras.collect(),
            },
            fit,
            rows: rows.rows.into_iter().peekable(),
            run,
            sequence: 0,
            episode: 0,
            index: 0,
            goes_on: false,
            begins_with: None,
        }
    }

    fn entry(&mut self, record: Record) -> Entry {
        let entry = Entry {
            run: self.run,
            sequence: self.sequence,
            episode: self.episode,
            index: self.index,
            record,
        };
        self.sequence += 1;
        self.index += 1;
        entry
    }

    fn observation(&self, proprio: Vec<f32>, images: Images) -> Observation {
        let captured_ns = self.sequence * (1_000_000_000 / u64::from(self.fit.spec.policy_hz));
        Observation {
            captured_ns,
            proprio,
            images: self.frames.images(images, captured_ns),
        }
    }

    fn begin(&mut self) -> Result<Option<Entry>, HilSerlError> {
        let Some(row) = self.rows.peek_mut() else {
            return Ok(None);
        };
        // Nobody compares it with anything any more.
        let state = std::mem::take(&mut row.now.state);
        let images = match self.begins_with.take() {
            Some(images) => images,
            None => self.frames.fetch(&row.now)?,
        };
        if self.sequence > 0 {
            self.episode += 1;
        }
        (self.index, self.goes_on) = (0, true);
        let record = Record::Reset(self.observation(state, images));
        Ok(Some(self.entry(record)))
    }

    fn step(&mut self) -> Result<Option<Entry>, HilSerlError> {
        let Some(row) = self.rows.next() else {
            return Ok(None);
        };
        let images = self.frames.fetch(&row.next)?;
        self.goes_on = match self.rows.peek() {
            Some(following) if !row.terminated && !row.truncated => {
                match self.frames.compare(&row.next, &images, &following.now)? {
                    Compared::Same => true,
                    Compared::Other(fetched) => {
                        self.begins_with = fetched;
                        false
                    }
                }
            }
            _ => false,
        };
        let record = Record::Step(Step {
            action: self.fit.executed(row.action),
            source: row.source,
            reward: row.reward,
            grasp_penalty: row.grasp_penalty,
            terminated: row.terminated,
            // What was cut off has not come to its end.
            truncated: row.truncated || !(self.goes_on || row.terminated),
            label: row.label,
            policy_version: 0,
            noise_seed: 0,
            next: self.observation(row.next.state, images),
        });
        Ok(Some(self.entry(record)))
    }
}

impl<F: Read + Seek> Iterator for Entries<F> {
    type Item = Result<Entry, HilSerlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.goes_on {
            true => self.step(),
            false => self.begin(),
        };
        if entry.is_err() {
            self.rows = vec![].into_iter().peekable();
            self.goes_on = false;
        }
        entry.transpose()
    }
}

/// Whether a row goes on from the one before.
enum Compared {
    Same,
    /// It begins with these images, if they had to be fetched to say that.
    Other(Option<Images>),
}

/// The images in a file.
struct Frames<F> {
    file: F,
    path: PathBuf,
    /// Those that are wanted, and their places among a row's.
    cameras: Vec<(usize, CameraSpec)>,
}

impl<F: Read + Seek> Frames<F> {
    fn fetch(&mut self, seen: &Seen) -> Result<Images, HilSerlError> {
        let one = |(place, camera): &(usize, CameraSpec)| {
            let bytes = camera.height as usize * camera.width as usize * 3;
            seen.frames[*place].read(bytes, &mut self.file)
        };
        let images: io::Result<_> = self.cameras.iter().map(one).collect();
        images.map_err(in_file(&self.path))
    }

    /// Compares what a step led to, whose images have been fetched, with what the next row begins with.
    fn compare(
        &mut self,
        next: &Seen,
        images: &Images,
        begins: &Seen,
    ) -> Result<Compared, HilSerlError> {
        // What is no number in both is the same.
        let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
        if !next.state.iter().zip(&begins.state).all(same) {
            return Ok(Compared::Other(None));
        }
        let one_array = |(place, _): &(usize, _)| next.frames[*place].is(&begins.frames[*place]);
        if self.cameras.iter().all(one_array) {
            return Ok(Compared::Same);
        }
        let fetched = self.fetch(begins)?;
        Ok(match fetched == *images {
            true => Compared::Same,
            false => Compared::Other(Some(fetched)),
        })
    }

    fn images(&self, images: Images, captured_ns: u64) -> Vec<Image> {
        let images = self.cameras.iter().zip(images);
        let image = |((_, camera), rgb): (&(usize, CameraSpec), _)| Image {
            captured_ns,
            height: camera.height,
            width: camera.width,
            rgb,
        };
        images.map(image).collect()
    }
}

/// Frames with a person's word on them.
#[derive(Debug)]
pub struct Labelled {
    files: Vec<PathBuf>,
    success: Option<bool>,
    form: Form,
    frames: usize,
}

/// A frame with a person's word on it.
#[derive(Clone, Debug)]
pub struct LabelledFrame {
    /// One per camera, in the order of [`Labelled::cameras`].
    pub images: Vec<Image>,
    /// Success or not.
    pub success: bool,
}

/// Opens a file or a folder of files with frames that somebody said a word of. All observations are successes, or none,
/// as `success` says. If that is none, each row's `labels` says it; without these the file's name, in which HIL-SERL's
/// `record_success_fail.py` writes `success` or `failure`; or, in a file of ours, what a person said.
pub fn labelled(path: &Path, success: Option<bool>) -> Result<Labelled, HilSerlError> {
    let files = files(path).map_err(in_file(path))?;
    let Some(first) = files.first() else {
        return Err(HilSerlError::Nothing(path.to_owned()));
    };
    let mut of_first: Option<Form> = None;
    let mut frames = 0;
    for file in &files {
        let (mut handle, length) = opened(file)?;
        let rows = words(&mut handle, length, file, success)?;
        let form = of_first.get_or_insert_with(|| rows.form.clone());
        // States do not matter to a classifier of images.
        if form.cameras != rows.form.cameras {
            let (first, other) = (first.clone(), file.clone());
            let what = "cameras";
            return Err(HilSerlError::Rigs { first, other, what });
        }
        frames += rows.rows.iter().flatten().count();
    }
    match of_first {
        Some(form) if frames > 0 && !form.cameras.is_empty() => Ok(Labelled {
            files,
            success,
            form,
            frames,
        }),
        Some(form) if form.cameras.is_empty() => Err(HilSerlError::NoImages(path.to_owned())),
        _ => Err(HilSerlError::NoLabels(path.to_owned())),
    }
}

/// A file's observations, those that somebody said a word of.
fn words<F: Read + Seek>(
    file: &mut F,
    length: u64,
    path: &Path,
    success: Option<bool>,
) -> Result<Rows<Option<(Seen, bool)>>, HilSerlError> {
    let by_name = named(path);
    if success.is_some() && by_name.is_some() && success != by_name {
        return Err(HilSerlError::Named(path.to_owned()));
    }
    let outline = Outline::of(&mut *file, length).map_err(in_outline(path))?;
    rows::read(&outline, file, path, false, |at, form| {
        let seen = at.seen("observations", form)?;
        if let Some(label) = success.or(at.label()?).or(by_name) {
            return Ok(Some((seen, label)));
        }
        match at.label_of_next() {
            Some(label) => Ok(Some((at.seen("next_observations", form)?, label))),
            None => Ok(None),
        }
    })
}

/// What a file's name says of its frames.
fn named(path: &Path) -> Option<bool> {
    let name = path.file_name()?.to_string_lossy();
    match (name.contains("success"), name.contains("failure")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

impl Labelled {
    /// Sorted by name.
    pub fn cameras(&self) -> &[CameraSpec] {
        &self.form.cameras
    }

    /// How many frames there are, at least one.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.frames
    }

    /// The frames of all files.
    pub fn frames(&self) -> impl Iterator<Item = Result<LabelledFrame, HilSerlError>> + '_ {
        let of_file = |file: &PathBuf| (self.of_file(file)).unwrap_or_else(|error| failed(error));
        self.files.iter().flat_map(of_file)
    }

    fn of_file(&self, path: &Path) -> Result<Each<LabelledFrame>, HilSerlError> {
        let (mut file, length) = opened(path)?;
        let rows = words(&mut file, length, path, self.success)?;
        if rows.form.cameras != self.form.cameras {
            return Err(in_file(path)(changed()));
        }
        let mut frames = Frames {
            file,
            path: path.to_owned(),
            cameras: rows.form.cameras.into_iter().enumerate().collect(),
        };
        let frame = move |(seen, success): (Seen, bool)| {
            let images = frames.fetch(&seen)?;
            let images = frames.images(images, 0);
            Ok(LabelledFrame { images, success })
        };
        Ok(Box::new(rows.rows.into_iter().flatten().map(frame)))
    }
}
