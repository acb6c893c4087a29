//! Figures over time, for the report, for whoever greps, and for TensorBoard.
//!
//! - [`MetricsFile`]: one JSON object per line.
//! - [`EventFile`]: TensorBoard's event files.
//! - [`Curves`]: named numbers over steps, in both.

mod jsonl;
mod tensorboard;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Map;

pub use jsonl::MetricsFile;
pub use tensorboard::EventFile;
use tensorboard::PREFIX;

/// The file of [`Curves`] that has a JSON object per line.
pub const LINES: &str = "metrics.jsonl";

/// Named numbers over the steps of a run, in its folder: [`LINES`] with `step`, `time_s` (Unix) and the names as keys,
/// and an event file of TensorBoard, which shows names as `group/name`.
#[derive(Debug)]
pub struct Curves {
    lines: MetricsFile,
    events: EventFile,
}

impl Curves {
    /// Begins the curves of a run. They are not mixed with those of another that are there.
    pub fn begin(dir: &Path, now: SystemTime) -> io::Result<Self> {
        Ok(Self {
            lines: MetricsFile::create(&dir.join(LINES))?,
            events: EventFile::create(dir, None, now)?,
        })
    }

    /// Goes on with those of a run that is resumed after `step`. What was written of later steps goes: they come
    /// again.
    pub fn resume(dir: &Path, step: u64, now: SystemTime) -> io::Result<Self> {
        let lines = dir.join(LINES);
        jsonl::keep_up_to(&lines, step)?;
        Ok(Self {
            lines: MetricsFile::open(&lines)?,
            events: EventFile::create(dir, Some(step + 1), now)?,
        })
    }

    /// Removes those that are in a folder.
    pub fn remove(dir: &Path) -> io::Result<()> {
        let named = |path: &Path, e: io::Error| {
            io::Error::new(e.kind(), format!("{}: {e}", path.display()))
        };
        for file in fs::read_dir(dir).map_err(|e| named(dir, e))? {
            let path = file.map_err(|e| named(dir, e))?.path();
            let name = path.file_name().and_then(OsStr::to_str);
            if name.is_some_and(|name| name == LINES || name.starts_with(PREFIX)) {
                fs::remove_file(&path).map_err(|e| named(&path, e))?;
            }
        }
        Ok(())
    }

    /// Writes the figures of a step. A number that is not finite is `null` in the lines.
    pub fn write(
        &mut self,
        step: u64,
        now: SystemTime,
        figures: &[(impl AsRef<str>, f64)],
    ) -> io::Result<()> {
        let mut line = Map::new();
        line.insert("step".to_owned(), step.into());
        line.insert("time_s".to_owned(), unix_s(now).into());
        let own =
            |(name, value): &(_, f64)| (AsRef::<str>::as_ref(name).to_owned(), (*value).into());
        line.extend(figures.iter().map(own));
        self.lines.write(line)?;
        self.events.scalars(step, now, figures)
    }
}

/// Seconds since 1970.
fn unix_s(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Writes a small file whole: beside its place, then renamed into it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = hilt_recording::beside(path);
    let name = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut file = File::create(&beside).map_err(name)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(name)?;
    std::fs::rename(&beside, path).map_err(name)
}

/// Whether a file can be put there, found out before the work that is to go into it.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    let name = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if path.is_dir() {
        return Err(name(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let beside = hilt_recording::beside(path);
    File::create(&beside)
        .and_then(|_| std::fs::remove_file(&beside))
        .map_err(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn lines(dir: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join(LINES)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_resumed_run_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut curves = Curves::begin(dir.path(), at(100)).unwrap();
        for step in [0, 10, 20] {
            curves
                .write(step, at(100 + step), &[("train/loss", step as f64)])
                .unwrap();
        }
        drop(curves);
        // Killed within a line.
        let path = dir.path().join(LINES);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"step\":2");
        std::fs::write(&path, text).unwrap();

        let mut curves = Curves::resume(dir.path(), 10, at(200)).unwrap();
        curves
            .write(20, at(220), &[("train/loss", f64::NAN)])
            .unwrap();
        let wanted = [
            serde_json::json!({ "step": 0, "time_s": 100.0, "train/loss": 0.0 }),
            serde_json::json!({ "step": 10, "time_s": 110.0, "train/loss": 10.0 }),
            serde_json::json!({ "step": 20, "time_s": 220.0, "train/loss": null }),
        ];
        assert_eq!(lines(dir.path()), wanted);
        // One event file per process.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        let error = Curves::begin(dir.path(), at(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().starts_with(&path.display().to_string()));
    }

    #[test]
    fn a_run_that_was_never_written_of_can_be_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let mut curves = Curves::resume(dir.path(), 10, at(200)).unwrap();
        curves
            .write(20, at(220), &[("loss".to_owned(), 1.0)])
            .unwrap();
        assert_eq!(lines(dir.path()).len(), 1);
    }

    #[test]
    fn a_written_file_replaces_the_old_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary.json");
        write_atomically(&path, b"old and long").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(!hilt_recording::beside(&path).exists());
    }
}
