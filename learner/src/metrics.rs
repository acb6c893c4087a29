//! Figures over time, one JSON object per line, flushed as they come: what the report plots and
//! what a person greps.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

/// An append-only `.jsonl` file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens (or goes on with) the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes one line.
    pub fn write(&mut self, figures: Map<String, Value>) -> io::Result<()> {
        // One write call per line: a killed process leaves whole lines.
        let line = format!("{}\n", Value::Object(figures));
        self.file
            .write_all(line.as_bytes())
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path.display())))
    }
}

/// Writes a small file whole: beside its place, then renamed into it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("partial");
    let name = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut file = File::create(&beside).map_err(name)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(name)?;
    std::fs::rename(&beside, path).map_err(name)
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

    #[test]
    fn a_written_file_replaces_the_old_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary.json");
        write_atomically(&path, b"old and long").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(!path.with_extension("partial").exists());
    }
}
