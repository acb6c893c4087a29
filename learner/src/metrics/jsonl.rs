//! Figures as JSON, one object per line, flushed as they come: what the report plots and what a person greps.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::write_atomically;

/// An append-only `.jsonl` file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens (or goes on with) the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with(path, OpenOptions::new().create(true).append(true))
    }

    /// Begins the file, which must not be there yet.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::with(path, OpenOptions::new().create_new(true).append(true))
    }

    fn with(path: &Path, options: &OpenOptions) -> io::Result<Self> {
        let file = options.open(path).map_err(|e| named(path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes one line.
    pub fn write(&mut self, figures: Map<String, Value>) -> io::Result<()> {
        // One write call per line: a killed process leaves whole lines.
        let line = format!("{}\n", Value::Object(figures));
        (self.file.write_all(line.as_bytes())).map_err(|e| named(&self.path, &e))
    }
}

/// Leaves out of the file, if it is there, what is no whole line and lines whose `step` is beyond this one.
pub(super) fn keep_up_to(path: &Path, step: u64) -> io::Result<()> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(named(path, &e)),
    };
    let kept = |line: &&str| {
        let figures: Result<Map<String, Value>, _> = serde_json::from_str(line);
        let at = figures
            .ok()
            .and_then(|figures| figures.get("step")?.as_u64());
        at.is_some_and(|at| at <= step)
    };
    let lines: String = text
        .lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect();
    if lines == text {
        return Ok(());
    }
    write_atomically(path, lines.as_bytes())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_across_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        for updates in [1, 2] {
            let mut figures = Map::new();
            figures.insert("updates".into(), updates.into());
            MetricsFile::open(&path).unwrap().write(figures).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"updates\":1}\n{\"updates\":2}\n");
    }
}
