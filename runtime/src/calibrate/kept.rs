//! The rig's calibration file, as its commands read and write it.

use std::{path::PathBuf, time::SystemTime};

use hilt_calibration::file::{self, FileError};
use hilt_protocol::calibration::Calibration;

use crate::rig::Rig;

/// Why nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The rig's file does not say where.
    #[error(
        "the rig's file names no calibration; write this line at its top: calibration = \"{0}.calibration.toml\""
    )]
    Nowhere(String),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Puts what was found into the rig's calibration file; all else in it stays. Gives the file's path.
pub fn keep(rig: &Rig, change: impl FnOnce(&mut Calibration)) -> Result<PathBuf, KeepError> {
    let path = place(rig)?;
    // Read anew: another procedure may have written it since the rig was read.
    let mut calibration = file::read_or_new(&path, &rig.name)?;
    change(&mut calibration);
    file::write(&path, &calibration)?;
    Ok(path)
}

/// Where it is kept. Asked before anything is measured, so that nothing is measured in vain.
pub fn place(rig: &Rig) -> Result<PathBuf, KeepError> {
    let nowhere = || KeepError::Nowhere(rig.name.clone());
    rig.calibration_file.clone().ok_or_else(nowhere)
}

/// Now, as files say it: RFC 3339, UTC.
pub fn date() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hilt_protocol::calibration::Latency;

    use super::*;

    fn latency(delay_ms: f64) -> Latency {
        Latency {
            date: "2026-11-21T12:00:00Z".into(),
            delay_ms,
            spread_ms: 0.5,
        }
    }

    #[test]
    fn what_is_found_is_added_to_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let text = include_str!("../../../rigs/lift-sim.toml");
        let none = Rig::parse("desk.toml", dir.path(), text, &[]).unwrap();
        let error = keep(&none, |_| {}).unwrap_err().to_string();
        assert!(
            error.contains("calibration = \"desk.calibration.toml\""),
            "{error}"
        );
        let text = format!("calibration = \"c.toml\"\n{text}");
        let rig = Rig::parse("desk.toml", dir.path(), &text, &[]).unwrap();
        keep(&rig, |c| {
            c.camera_mut("front").latency = Some(latency(20.0))
        })
        .unwrap();
        // The rig in memory knows nothing of it, the file does.
        let path = keep(&rig, |c| {
            c.camera_mut("wrist").latency = Some(latency(30.0))
        })
        .unwrap();
        let kept = file::read(Path::new(&path), "desk").unwrap();
        assert_eq!(kept.camera("front").unwrap().latency, Some(latency(20.0)));
        assert_eq!(kept.camera("wrist").unwrap().latency, Some(latency(30.0)));
        let again = Rig::parse("desk.toml", dir.path(), &text, &[]).unwrap();
        assert_eq!(again.latency_ns("wrist"), 30_000_000);
    }

    #[test]
    fn a_date_is_one_that_others_read() {
        let date = date();
        assert!(
            humantime::parse_rfc3339(&date).is_ok() && date.ends_with('Z'),
            "{date}"
        );
    }
}
