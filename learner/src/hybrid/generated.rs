//! The synthetic replay in the folder of a robot's training. Its rows can be a gigabyte, and change once in a generation:
//! they lie in a file of their own, which is written then and not with every checkpoint.
//!
//! | file | what it is |
//! |---|---|
//! | `generative.safetensors` | what changes all the time, and the number of the generation that is in use |
//! | `generative-N.safetensors` | what came of generation N: its rows, and the model where the next one goes on from it |
//!
//! Rows are there before anything names them, and go when nothing does any more: killed at any moment, a training finds
//! those that belong to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tch::Tensor;

use crate::{
    checkpoint::{read_tensors, write_tensors},
    course::{State, named},
};

/// Of a file's name, what is before the number, and what ends it.
const NAME: &str = "generative";
const ENDING: &str = ".safetensors";
/// Among the tensors, the number of the generation in use; 0: none.
const IN_USE: &str = "generative.in_use";

/// It.
pub(crate) struct Generated {
    dir: PathBuf,
    /// The generation whose file is on disk and belongs to this training; 0: none.
    on_disk: u64,
}

impl Generated {
    /// That of a training in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            on_disk: 0,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{ENDING}"))
    }

    fn file_of(&self, generation: u64) -> PathBuf {
        self.file(&format!("{NAME}-{generation}"))
    }

    /// What was saved last, if anything was.
    ///
    /// # Errors
    /// If it cannot be read, or the rows that belong to it are not there.
    pub fn load(&mut self) -> Result<Option<Vec<(String, Tensor)>>> {
        let path = self.file(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let mut kept = read_tensors(&path)?;
        let in_use = named(&kept, IN_USE).with_context(|| path.display().to_string())?;
        self.on_disk = in_use.int64_value(&[]) as u64;
        if self.on_disk > 0 {
            kept.extend(read_tensors(&self.file_of(self.on_disk))?);
        }
        Ok(Some(kept))
    }

    /// Keeps what changes all the time, and what came of generation `in_use`, which is nothing where that is 0.
    ///
    /// # Errors
    /// If it cannot be written. Then what was saved before is as it was.
    pub fn save(
        &mut self,
        in_use: u64,
        mut changing: Vec<(String, Tensor)>,
        made: &State,
    ) -> io::Result<()> {
        let is_new = in_use != self.on_disk;
        if is_new && in_use > 0 {
            write_tensors(&self.file_of(in_use), made)?;
        }
        changing.push((IN_USE.to_owned(), Tensor::from(in_use as i64)));
        write_tensors(&self.file(NAME), &changing)?;
        self.on_disk = in_use;
        match is_new {
            true => self.remove_others(),
            false => Ok(()),
        }
    }

    /// Removes what came of other generations than the one in use.
    fn remove_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = (name.to_str())
                .and_then(|name| {
                    name.strip_prefix(NAME)?
                        .strip_prefix('-')?
                        .strip_suffix(ENDING)
                })
                .and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|number| number != self.on_disk) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(name: &str, value: i64) -> Vec<(String, Tensor)> {
        vec![(name.to_owned(), Tensor::from(value))]
    }

    /// With which count and which rows the training in `dir` would go on.
    fn found(dir: &Path) -> (i64, Option<i64>) {
        let kept = Generated::new(dir).load().unwrap().unwrap();
        let value = |name: &str| Some(named(&kept, name).ok()?.int64_value(&[]));
        (value("count").unwrap(), value("rows"))
    }

    fn files(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let mut names =
            Vec::from_iter(names.map(|f| f.unwrap().file_name().into_string().unwrap()));
        names.sort();
        names
    }

    #[test]
    fn rows_are_written_once_in_a_generation() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        fs::write(dir.join("generative-notes.txt"), "somebody's").unwrap();
        let mut generated = Generated::new(dir);
        assert!(generated.load().unwrap().is_none());
        generated.save(0, tensors("count", 1), &[]).unwrap();
        assert_eq!(found(dir), (1, None));
        generated
            .save(3, tensors("count", 2), &tensors("rows", 30))
            .unwrap();
        assert_eq!(found(dir), (2, Some(30)));
        // Other rows of the same generation there are not: these would have been written.
        generated
            .save(3, tensors("count", 3), &tensors("rows", 31))
            .unwrap();
        assert_eq!(found(dir), (3, Some(30)));
        generated
            .save(4, tensors("count", 4), &tensors("rows", 40))
            .unwrap();
        assert_eq!(found(dir), (4, Some(40)));
        let all = [
            "generative-4.safetensors",
            "generative-notes.txt",
            "generative.safetensors",
        ];
        assert_eq!(files(dir), all);
        // Of an older projection.
        generated.save(0, tensors("count", 5), &[]).unwrap();
        assert_eq!(found(dir), (5, None));
        assert_eq!(files(dir), all[1..]);
    }

    #[test]
    fn killed_between_two_files_a_training_goes_on_with_the_rows_that_belong_to_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let mut first = Generated::new(dir);
        first
            .save(1, tensors("count", 1), &tensors("rows", 10))
            .unwrap();
        // The next rows were there, and nothing named them yet.
        write_tensors(&first.file_of(2), &tensors("rows", 20)).unwrap();
        assert_eq!(found(dir), (1, Some(10)));
        let mut second = Generated::new(dir);
        second.load().unwrap();
        second
            .save(1, tensors("count", 2), &tensors("rows", 10))
            .unwrap();
        assert_eq!(found(dir), (2, Some(10)));
        // Made anew they are others.
        second
            .save(2, tensors("count", 3), &tensors("rows", 21))
            .unwrap();
        assert_eq!(found(dir), (3, Some(21)));
        assert_eq!(
            files(dir),
            ["generative-2.safetensors", "generative.safetensors"]
        );
        fs::remove_file(second.file_of(2)).unwrap();
        let error = Generated::new(dir).load().unwrap_err().to_string();
        assert!(error.contains("generative-2.safetensors"), "{error}");
    }
}
