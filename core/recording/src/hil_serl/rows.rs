//! A file's rows, checked; large images stay in the file until they are asked for.

use std::{
    io::{self, Read, Seek},
    path::Path,
    sync::Arc,
};

use hilt_protocol::{ActionSource, CameraSpec};

use super::{Fault, HilSerlError, Place, STATE};
use crate::pickle::{Array, DType, FarArray, Outline, Pickle, Value};

/// A transition.
#[derive(Debug)]
pub(super) struct Row {
    pub now: Seen,
    pub next: Seen,
    pub action: Vec<f32>,
    pub reward: f32,
    pub grasp_penalty: f32,
    pub terminated: bool,
    pub truncated: bool,
    pub source: ActionSource,
    /// A person's word on `next`.
    pub label: Option<bool>,
}

/// An observation.
#[derive(Debug)]
pub(super) struct Seen {
    pub state: Vec<f32>,
    /// In the order of the cameras' names.
    pub frames: Vec<Frame>,
}

/// An image.
#[derive(Debug)]
pub(super) enum Frame {
    /// One or several frames, one after the other; the last is the image.
    Here(Arc<[u8]>),
    Far(FarArray),
}

impl Frame {
    /// RGB, row-major (height, width, 3).
    pub fn read(&self, bytes: usize, file: &mut (impl Read + Seek)) -> io::Result<Arc<[u8]>> {
        match self {
            Self::Here(image) => Ok(Arc::clone(image)),
            Self::Far(array) => Ok(last(&array.read(file)?, bytes)),
        }
    }

    /// Whether they are one array of the file, or were made of one.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Far(one), Self::Far(other)) => one.place() == other.place(),
            (Self::Here(one), Self::Here(other)) => one == other,
            _ => false,
        }
    }
}

/// The last frame of a stack, of which each has so many bytes.
fn last(stack: &Array<'_>, bytes: usize) -> Arc<[u8]> {
    let all = stack.row_major();
    all[all.len().saturating_sub(bytes)..].into()
}

/// What all observations of a file have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    /// Sorted by name.
    pub cameras: Vec<CameraSpec>,
    /// Names of the numbers of `state`, where the file says them.
    pub names: Option<Vec<String>>,
    /// How many numbers `state` has.
    pub state: usize,
}

/// Rows of a file that are alike.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub form: Form,
    pub rows: Vec<T>,
}

/// A row that is being read: a dictionary.
pub(super) struct At<'p, 'a, 'f, F> {
    row: Value<'p, 'a>,
    place: Place<'f>,
    file: &'f mut F,
    /// Numbers may be none.
    as_it_is: bool,
}

/// The rows of an outline, each made by `one`, which is given the form of the rows before. `as_it_is`: numbers that
/// somebody would learn may be none.
pub(super) fn read<T, F: Read + Seek>(
    outline: &Outline,
    file: &mut F,
    path: &Path,
    as_it_is: bool,
    one: impl Fn(&mut At<'_, '_, '_, F>, &mut Option<Form>) -> Result<T, HilSerlError>,
) -> Result<Rows<T>, HilSerlError> {
    let pickle = Pickle::of_outline(outline).map_err(|source| HilSerlError::Pickle {
        path: path.to_owned(),
        source,
    })?;
    let root = pickle.root();
    let Some(values) = root.items() else {
        return Err(HilSerlError::NoList {
            path: path.to_owned(),
            found: root.describe(),
        });
    };
    let (mut form, mut rows) = (None, Vec::new());
    for (row, value) in values.enumerate() {
        let place = Place { path, row };
        if value.entries().is_none() {
            return Err(place.error("", Fault::Kind("a dictionary", value.describe())));
        }
        let mut at = At {
            row: value,
            place,
            file,
            as_it_is,
        };
        rows.push(one(&mut at, &mut form)?);
    }
    match form {
        Some(form) => Ok(Rows { form, rows }),
        None => Err(HilSerlError::Empty(path.to_owned())),
    }
}

impl<'p, 'a, F: Read + Seek> At<'p, 'a, '_, F> {
    /// A transition.
    pub fn transition(&mut self, form: &mut Option<Form>) -> Result<Row, HilSerlError> {
        let now = self.seen("observations", form)?;
        let next = self.seen("next_observations", form)?;
        let action = self.value("actions")?;
        let action = self.vector("actions", action)?;
        let reward = self.one("rewards", self.value("rewards")?)?;
        let info = |key| self.info(key);
        let penalty = self.row.get("grasp_penalty").or(info("grasp_penalty"));
        let grasp_penalty = match penalty {
            Some(value) => self.one("grasp_penalty", value)?,
            None => 0.0,
        };
        let done = self.flag_at("dones", self.value("dones")?)? != 0.0;
        let mask = match self.row.get("masks") {
            Some(mask) => self.flag_at("masks", mask)?,
            None => f32::from(u8::from(!done)),
        };
        let flag = |key| self.flag(key);
        let success = flag("succeed").unwrap_or(reward > 0.0);
        // What gymnasium calls them, if whoever wrote the file told the two apart.
        let (terminated, truncated) = match (flag("terminated"), flag("truncated")) {
            (Some(terminated), Some(truncated)) => (terminated, truncated),
            _ => {
                let terminated = done && mask == 0.0 && success;
                (terminated, done && !terminated)
            }
        };
        let source = match info("source").and_then(|source| source.text()) {
            None => ActionSource::Human,
            Some(name) => super::source_named(name).ok_or_else(|| {
                let fault = Fault::Kind("human, policy, scripted or random", format!("`{name}`"));
                self.place.error("infos.source", fault)
            })?,
        };
        Ok(Row {
            now,
            next,
            action,
            reward,
            grasp_penalty,
            terminated,
            truncated,
            source,
            label: self.label_of_next(),
        })
    }

    fn info(&self, key: &str) -> Option<Value<'p, 'a>> {
        self.row.get("infos").and_then(|infos| infos.get(key))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        let number = self.info(key).and_then(|value| value.number());
        number.map(|number| number != 0.0)
    }

    /// What a person said of `next_observations`, where a file of ours has it.
    pub fn label_of_next(&self) -> Option<bool> {
        self.flag("label")
    }

    /// What a person said of `observations`.
    pub fn label(&self) -> Result<Option<bool>, HilSerlError> {
        let Some(value) = self.row.get("labels") else {
            return Ok(None);
        };
        match value.number() {
            Some(0.0) => Ok(Some(false)),
            Some(1.0) => Ok(Some(true)),
            Some(other) => Err(self.place.error("labels", Fault::Flag(other))),
            None => Err(self.kind("labels", "0 or 1", value)),
        }
    }

    /// An observation of the form that others have, or that others will have to have.
    pub fn seen(
        &mut self,
        key: &'static str,
        form: &mut Option<Form>,
    ) -> Result<Seen, HilSerlError> {
        let value = self.value(key)?;
        let (mut state, mut names, mut cameras) = (Vec::new(), None, Vec::new());
        let mut frames = Vec::new();
        match value.entries() {
            // A state by itself.
            None => state = self.vector(key, value)?,
            Some(entries) => {
                for (name, value) in entries {
                    let key = format!("{key}.{name}");
                    if name == STATE {
                        (state, names) = self.state(&key, value)?;
                        continue;
                    }
                    let (height, width, frame) = self.frame(&key, value)?;
                    let name = name.to_owned();
                    cameras.push(CameraSpec {
                        name,
                        height,
                        width,
                    });
                    frames.push(frame);
                }
            }
        }
        let found = Form {
            cameras,
            names,
            state: state.len(),
        };
        let form = form.get_or_insert_with(|| found.clone());
        if *form != found {
            return Err(self.place.error(key, different(form, &found)));
        }
        Ok(Seen { state, frames })
    }

    /// Numbers and, where they are told by a dictionary, their names.
    fn state(
        &mut self,
        key: &str,
        value: Value<'p, 'a>,
    ) -> Result<(Vec<f32>, Option<Vec<String>>), HilSerlError> {
        let Some(parts) = value.entries() else {
            return Ok((self.vector(key, value)?, None));
        };
        let (mut state, mut names) = (Vec::new(), Vec::new());
        for (name, part) in parts {
            let numbers = self.vector(&format!("{key}.{name}"), part)?;
            match numbers.len() {
                1 => names.push(name.to_owned()),
                count => names.extend((0..count).map(|i| format!("{name}.{i}"))),
            }
            state.extend(numbers);
        }
        Ok((state, Some(names)))
    }

    fn frame(&self, key: &str, value: Value<'p, 'a>) -> Result<(u32, u32, Frame), HilSerlError> {
        const WANTED: &str = "a uint8 array of shape [height, width, 3] or [frames, height, width, 3], sides of 16 to 4096";
        let wrong = || self.kind(key, WANTED, value);
        let (shape, dtype) = match (value.array(), value.far_array()) {
            (Some(array), _) => (array.shape(), array.dtype()),
            (_, Some(array)) => (array.shape(), array.dtype()),
            _ => return Err(wrong()),
        };
        let (frames, height, width) = match *shape {
            [height, width, 3] => (1, height, width),
            [frames, height, width, 3] => (frames, height, width),
            _ => return Err(wrong()),
        };
        let side = |side| {
            u32::try_from(side)
                .ok()
                .filter(|side| (16..=4096).contains(side))
        };
        let (Some(rows), Some(columns)) = (side(height), side(width)) else {
            return Err(wrong());
        };
        if frames == 0 || dtype != DType::Unsigned(1) {
            return Err(wrong());
        }
        match (value.array(), value.far_array()) {
            (Some(array), _) => Ok((rows, columns, Frame::Here(last(array, height * width * 3)))),
            (_, Some(array)) => Ok((rows, columns, Frame::Far(array.clone()))),
            _ => Err(wrong()),
        }
    }

    fn value(&self, key: &'static str) -> Result<Value<'p, 'a>, HilSerlError> {
        (self.row.get(key)).ok_or_else(|| self.place.error(key, Fault::Missing))
    }

    fn kind(&self, key: &str, wanted: &'static str, value: Value<'p, 'a>) -> HilSerlError {
        self.place.error(key, Fault::Kind(wanted, value.describe()))
    }

    /// A single number.
    fn one(&self, key: &str, value: Value<'p, 'a>) -> Result<f32, HilSerlError> {
        match value.number() {
            Some(number) => self.checked(key, 0, number),
            None => Err(self.kind(key, "a number", value)),
        }
    }

    /// A single number that says yes or no: there it must be one.
    fn flag_at(&self, key: &str, value: Value<'p, 'a>) -> Result<f32, HilSerlError> {
        let number = self.one(key, value)?;
        match number.is_finite() {
            true => Ok(number),
            false => Err(self.place.error(key, Fault::NotFinite(0, number.into()))),
        }
    }

    /// The nearest number of 32 bits.
    fn checked(&self, key: &str, index: usize, number: f64) -> Result<f32, HilSerlError> {
        let near = number as f32;
        match near.is_finite() || self.as_it_is {
            true => Ok(near),
            false => Err(self.place.error(key, Fault::NotFinite(index, number))),
        }
    }

    /// Numbers: of a list, or of an array with one index; of one with two the last row, as frames are stacked.
    fn vector(&mut self, key: &str, value: Value<'p, 'a>) -> Result<Vec<f32>, HilSerlError> {
        const WANTED: &str = "an array of numbers of shape [n] or [1, n]";
        let fetched = (value.far_array()).map(|far| far.read(self.file));
        let fetched = fetched.transpose().map_err(|e| self.place.io(e))?;
        if let Some(array) = value.array().or(fetched.as_ref()) {
            let width = match *array.shape() {
                [] => 1,
                [width] => width,
                [rows, width] if rows > 0 => width,
                _ => return Err(self.kind(key, WANTED, value)),
            };
            let all = array.numbers();
            let before = all.len().saturating_sub(width);
            let numbers = all.skip(before).enumerate();
            return numbers.map(|(i, n)| self.checked(key, i, n)).collect();
        }
        let Some(items) = value.items() else {
            return Err(self.kind(key, WANTED, value));
        };
        let number = |(i, item): (usize, Value<'p, 'a>)| match item.number() {
            Some(number) => self.checked(key, i, number),
            None => Err(self.kind(&format!("{key}[{i}]"), "a number", item)),
        };
        items.enumerate().map(number).collect()
    }
}

/// Why an observation is not like those before.
fn different(before: &Form, found: &Form) -> Fault {
    if before.state != found.state {
        return Fault::Width(before.state, found.state);
    }
    let named = |form: &Form| {
        let names = form
            .cameras
            .iter()
            .map(|c| format!("{} {}×{}", c.name, c.height, c.width));
        names.collect::<Vec<_>>().join(", ")
    };
    match before.cameras == found.cameras {
        true => Fault::Names,
        false => Fault::Cameras(named(before), named(found)),
    }
}
