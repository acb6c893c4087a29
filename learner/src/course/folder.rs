//! The folder of a training: what it stands on, and its last checkpoint.
//!
//! | file | what it is |
//! |---|---|
//! | `training.json` | what cannot change on the way: algorithm, seed, data; a resumed training is compared with it |
//! | `config.toml` | the configuration, resolved |
//! | `metrics.jsonl`, `events.out.tfevents.*` | figures over updates, the latter for TensorBoard |
//! | `runs/` | of a training on a robot's runs: the encoder, and what it sees of every frame |
//! | `checkpoint.safetensors` | everything that the next update depends on; one file, so that it is whole at any moment |
//! | `replay/` | of a training in a task: its steps, of which the checkpoint says where they begin and end |

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value};
use tch::Tensor;

use super::{Course, named};
use crate::{
    agents::guard::check_state,
    checkpoint::{read_tensors, recover_folder, write_tensors},
    config::LearnerConfig,
    generative::replay::Synthetic,
    metrics::{Curves, write_atomically},
};

/// What a training stands on, by name. A resumed one stands on the same.
pub type Facts = Map<String, Value>;

/// What a checkpoint keeps besides the course.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// Seconds of training until then.
    pub trained_s: f64,
    /// It was told to end within an evaluation, which is due still.
    pub evaluation_due: bool,
}

/// What a training on a robot's runs keeps besides.
pub const RUNS: &str = "runs";
/// The file in which a training says what it stands on.
pub const FACTS_FILE: &str = "training.json";
/// The last checkpoint.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
const EVALUATION_DUE: &str = "training.evaluation_due";

/// The folder of one training. If none has begun in it by the end, as one that was refused has not, it leaves nothing.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// It was not there before.
    made: bool,
    begun: Option<Facts>,
    /// One that ended before it had anything to go on from lies in it, and goes when this one begins.
    gives_way: bool,
    /// Held as long as the training lives; the system gives it back, however that ends.
    _lock: fs::File,
}

impl Folder {
    /// The folder for a new training, or with `resume` the one to go on in. It belongs to one training: what is there
    /// is gone on with, or left alone. Only one that ended before it had anything to go on from gives way to a new one.
    pub fn open(dir: &Path, resume: bool) -> Result<Self> {
        let shown = dir.display();
        let there = |name: &str| dir.join(name).exists();
        let is_kept = |name: &str| match name {
            "best" | "export" => dir.join(name).is_dir(),
            _ => dir.join(name).is_file(),
        };
        // Whatever a training writes, and the names that it puts aside and replaces.
        let others = [
            "summary.json",
            "state.json",
            "encoder.safetensors",
            "config.toml",
            "metrics.jsonl",
            "policy.json",
            CHECKPOINT_FILE,
            "best",
            "export",
        ];
        anyhow::ensure!(
            there(FACTS_FILE) || !others.into_iter().any(is_kept),
            "--out {shown} holds the results of another training; choose another folder"
        );
        let made = !dir.exists();
        fs::create_dir_all(dir).with_context(|| format!("creating {shown}"))?;
        let lock = fs::File::open(dir).with_context(|| format!("opening {shown}"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("--out {shown}: another training is at work in it; let it end, or choose another folder"))?;
        for kept in ["best", "export"] {
            recover_folder(&dir.join(kept)).with_context(|| format!("in {shown}"))?;
        }
        let mut begun = there(FACTS_FILE);
        anyhow::ensure!(
            resume || !begun || !(there(CHECKPOINT_FILE) || there("best")),
            "--out {shown} holds a training; go on with it by --resume, or choose another folder"
        );
        let gives_way = begun && !resume;
        begun &= resume;
        let begun = match begun {
            false => None,
            true => {
                let path = dir.join(FACTS_FILE);
                let text = fs::read(&path).with_context(|| path.display().to_string())?;
                Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)
            }
        };
        if resume && begun.is_none() {
            println!("{shown} holds nothing yet: a new training");
        }
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            made,
            begun,
            gives_way,
            _lock: lock,
        })
    }

    /// Whether it has a checkpoint.
    pub fn has_checkpoint(&self) -> bool {
        self.file(CHECKPOINT_FILE).exists()
    }

    /// Whether a training has begun in it, which is gone on with now.
    pub fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What that stands on.
    pub fn begun(&self) -> Option<&Facts> {
        self.begun.as_ref()
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Curves of the training after this update.
    pub fn curves(&self, updates: u64) -> io::Result<Curves> {
        match self.begun {
            None => Curves::begin(&self.dir, SystemTime::now()),
            Some(_) => Curves::resume(&self.dir, updates, SystemTime::now()),
        }
    }

    /// Compares what a resumed training stands on with what it began on.
    pub fn check(&self, facts: &Facts) -> Result<()> {
        let begun = self.begun.as_ref();
        if let Some((name, theirs, ours)) = begun.and_then(|begun| difference(begun, facts)) {
            anyhow::bail!(
                "--out {}: the training there began with {name} = {theirs}, this command has {ours}; repeat the command \
                 that began it, or choose another folder",
                self.dir.display()
            );
        }
        Ok(())
    }

    /// Writes what the training stands on and its configuration: from here on the folder is this training's.
    pub fn begin(&self, facts: &Facts, config: &LearnerConfig) -> Result<()> {
        if self.gives_way {
            let shown = self.dir.display();
            println!(
                "{shown}: the training there ended before its first checkpoint; a new one begins"
            );
            // Its facts at last: half of it removed is still nothing else.
            Curves::remove(&self.dir)?;
            fs::remove_file(self.file(FACTS_FILE)).with_context(|| format!("in {shown}"))?;
        }
        if self.begun.is_none() {
            write_atomically(&self.file(FACTS_FILE), &serde_json::to_vec_pretty(facts)?)?;
        }
        let config = toml::to_string(config)?;
        Ok(write_atomically(
            &self.file("config.toml"),
            config.as_bytes(),
        )?)
    }

    /// Keeps a course, if every number in its state is finite; else the last checkpoint stays.
    pub fn save(&self, course: &mut dyn Course, kept: &Kept) -> Result<()> {
        let mut state = course.state();
        check_state(&state, &state)
            .with_context(|| format!("at update {}; {}", course.updates(), self.last_good()))?;
        state.extend(course.progress(kept.trained_s)?);
        state.extend((course.synthetic()).map_or(vec![], Synthetic::kept));
        course
            .keep()
            .context("writing a checkpoint; the last one is as it was")?;
        if kept.evaluation_due {
            state.push((EVALUATION_DUE.into(), Tensor::from(1i64)));
        }
        let path = self.file(CHECKPOINT_FILE);
        write_tensors(&path, &state).context("writing a checkpoint; the last one is as it was")
    }

    /// Puts the last checkpoint into a course; without one the training begins.
    pub fn load(&self, course: &mut dyn Course) -> Result<Kept> {
        if !self.has_checkpoint() {
            return Ok(Kept::default());
        }
        let path = self.file(CHECKPOINT_FILE);
        let checkpoint = read_tensors(&path)?;
        let mut own = course.state();
        own.extend(course.progress(0.0)?);
        let trained_s = check_state(&own, &checkpoint)
            .map_err(anyhow::Error::from)
            .and_then(|()| {
                let trained_s = course.resume(&checkpoint)?;
                (course.synthetic_mut()).map_or(Ok(()), |own| own.restore(&checkpoint))?;
                Ok(trained_s)
            })
            .with_context(|| format!("{}: this training cannot go on from it", path.display()))?;
        Ok(Kept {
            trained_s,
            evaluation_due: named(&checkpoint, EVALUATION_DUE).is_ok(),
        })
    }

    /// In words, what can be gone on from.
    pub fn last_good(&self) -> String {
        let path = self.file(CHECKPOINT_FILE);
        match self.has_checkpoint() {
            true => format!("the checkpoint {} is good", path.display()),
            false => "there is no checkpoint yet".to_owned(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.made && !self.file(FACTS_FILE).exists() {
            // Whatever else is in it stays, and it with that.
            let _ = fs::remove_dir_all(self.file(RUNS));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// The first fact that differs: its name, the one begun with, and ours.
fn difference(begun: &Facts, now: &Facts) -> Option<(String, Value, Value)> {
    let of = |facts: &Facts, name: &str| facts.get(name).cloned().unwrap_or(Value::Null);
    let names = now.keys().chain(begun.keys());
    let pairs = names.map(|name| (name.clone(), of(begun, name), of(now, name)));
    pairs.into_iter().find(|(_, theirs, ours)| theirs != ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_training_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("out");
        let first = Folder::open(&dir, false).unwrap();
        let second = Folder::open(&dir, true).unwrap_err();
        assert!(
            format!("{second:#}").contains("another training is at work"),
            "{second:#}"
        );
        drop(first);
        assert!(Folder::open(&dir, true).is_ok());
    }
}
