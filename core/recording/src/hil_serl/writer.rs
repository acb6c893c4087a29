//! Transitions as HIL-SERL keeps them.

use std::{
    io::{self, Write},
    path::Path,
};

use hilt_protocol::{ActionSource, Entry, Observation, RigSpec, Step};

use super::{HilSerlError, SOURCES, STATE};
use crate::{
    Steps,
    pickle::{DType, PickleWriter},
    table::Table,
    whole::{NotWritten, not_written, whole},
};

/// Writes the transitions of entries to a file, which appears once it is whole. Each image is written once: what a
/// step led to and what the next begins with are one array. An entry whose predecessor is missing makes no transition.
/// How many were written.
///
/// Times, versions of policies and seeds of noise are not kept.
pub fn write<E: From<HilSerlError>>(
    path: &Path,
    spec: &RigSpec,
    entries: impl IntoIterator<Item = Result<Entry, E>>,
) -> Result<u64, E> {
    if spec.cameras.iter().any(|camera| camera.name == STATE) {
        return Err(HilSerlError::Camera(path.to_owned()).into());
    }
    let refused = |error: NotWritten| HilSerlError::from(error);
    let named = |cause| refused(not_written(path)(cause));
    whole(
        path,
        &|| true,
        |error| refused(error).into(),
        |out| {
            let mut rows = Rows::new(out).map_err(named)?;
            let mut steps = Steps::default();
            for entry in entries {
                let entry = entry?;
                match steps.next(&entry) {
                    Some((before, step)) => {
                        (rows.step(spec, &before, step)).map_err(named)?;
                    }
                    None => rows.forget(),
                }
            }
            match rows.finish().map_err(named)? {
                0 => Err(HilSerlError::Empty(path.to_owned()).into()),
                count => Ok(count),
            }
        },
    )
}

/// Writes a table of states as transitions without images.
pub fn write_table(path: &Path, table: &Table) -> Result<(), HilSerlError> {
    save_table(path, table, &|| true)
}

/// [`write_table`], unless `go_on` says no.
pub(crate) fn save_table(
    path: &Path,
    table: &Table,
    go_on: &dyn Fn() -> bool,
) -> Result<(), HilSerlError> {
    whole(path, go_on, HilSerlError::from, |out| {
        Ok(write_rows(out, table).map_err(not_written(path))?)
    })
}

/// The list of transitions.
struct Rows<W> {
    out: PickleWriter<W>,
    count: u64,
    /// The last observation's arrays, by the numbers that Python keeps them under: its state and its images.
    kept: Option<Vec<u32>>,
}

/// How a step ended and whose it was.
struct About {
    terminated: bool,
    truncated: bool,
    /// A table does not say.
    source: Option<ActionSource>,
    label: Option<bool>,
}

impl<W: Write> Rows<W> {
    fn new(out: W) -> io::Result<Self> {
        let mut out = PickleWriter::new(out)?;
        out.list()?;
        Ok(Self {
            out,
            count: 0,
            kept: None,
        })
    }

    fn finish(self) -> io::Result<u64> {
        self.out.finish()?.flush()?;
        Ok(self.count)
    }

    /// What comes next is not what the last step led to.
    fn forget(&mut self) {
        self.kept = None;
    }

    fn step(&mut self, spec: &RigSpec, now: &Observation, step: &Step) -> io::Result<()> {
        self.out.dictionary()?;
        self.out.text("observations")?;
        match self.kept.take() {
            Some(arrays) => self.again(spec, &arrays)?,
            None => drop(self.observation(spec, now)?),
        }
        self.out.text("next_observations")?;
        self.kept = Some(self.observation(spec, &step.next)?);
        self.action(&step.action)?;
        if spec.mode.learned_gripper() {
            self.out.text("grasp_penalty")?;
            self.out.number(f64::from(step.grasp_penalty))?;
        }
        let about = About {
            terminated: step.terminated,
            truncated: step.truncated,
            source: Some(step.source),
            label: step.label,
        };
        self.end(step.reward, &about)
    }

    /// An observation; the numbers of its arrays.
    fn observation(&mut self, spec: &RigSpec, seen: &Observation) -> io::Result<Vec<u32>> {
        self.out.dictionary()?;
        self.out.text(STATE)?;
        self.floats(&[1, seen.proprio.len()], &seen.proprio)?;
        let mut arrays = vec![self.out.keep()?];
        for (camera, image) in spec.cameras.iter().zip(&seen.images) {
            self.out.text(&camera.name)?;
            let shape = [1, image.height as usize, image.width as usize, 3];
            self.out.array(DType::Unsigned(1), &shape, &image.rgb)?;
            arrays.push(self.out.keep()?);
        }
        self.out.end()?;
        Ok(arrays)
    }

    /// The observation of these arrays.
    fn again(&mut self, spec: &RigSpec, arrays: &[u32]) -> io::Result<()> {
        self.out.dictionary()?;
        let names = std::iter::once(STATE).chain(spec.cameras.iter().map(|c| &*c.name));
        for (name, &array) in names.zip(arrays) {
            self.out.text(name)?;
            self.out.kept(array)?;
        }
        self.out.end()
    }

    fn floats(&mut self, shape: &[usize], numbers: &[f32]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.out.array(DType::Float(4), shape, &bytes)
    }

    fn action(&mut self, action: &[f32]) -> io::Result<()> {
        self.out.text("actions")?;
        self.floats(&[action.len()], action)
    }

    /// The rest of a row. Only where the task ended is the mask 0: what follows a time-out is worth something.
    fn end(&mut self, reward: f32, about: &About) -> io::Result<()> {
        let out = &mut self.out;
        out.text("rewards")?;
        out.number(f64::from(reward))?;
        out.text("masks")?;
        out.number(f64::from(u8::from(!about.terminated)))?;
        out.text("dones")?;
        out.bool(about.terminated || about.truncated)?;
        out.text("infos")?;
        out.dictionary()?;
        out.text("terminated")?;
        out.bool(about.terminated)?;
        out.text("truncated")?;
        out.bool(about.truncated)?;
        let source = (SOURCES.iter()).find(|(_, source)| Some(*source) == about.source);
        if let Some((name, _)) = source {
            out.text("source")?;
            out.text(name)?;
        }
        if let Some(label) = about.label {
            out.text("label")?;
            out.bool(label)?;
        }
        out.end()?;
        out.end()?;
        out.append()?;
        self.count += 1;
        Ok(())
    }
}

fn write_rows(out: impl Write, table: &Table) -> io::Result<()> {
    let mut rows = Rows::new(out)?;
    let columns = table.columns();
    for row in 0..table.len() {
        let states = [
            ("observations", table.observation(row)),
            ("next_observations", table.next_observation(row)),
        ];
        rows.out.dictionary()?;
        for (key, state) in states {
            rows.out.text(key)?;
            rows.out.dictionary()?;
            rows.out.text(STATE)?;
            rows.floats(&[1, state.len()], state)?;
            rows.out.end()?;
        }
        rows.action(table.action(row))?;
        let about = About {
            terminated: columns.terminals[row],
            truncated: columns.timeouts[row],
            source: None,
            label: None,
        };
        rows.end(columns.rewards[row], &about)?;
    }
    rows.finish()?;
    Ok(())
}
