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
    /// It is worse than what it would take the place of may be.
    #[error("it is not good, so what was there stays (--keep-anyway writes it)")]
    NotGood,
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The calibration's file.
    pub path: PathBuf,
    /// What rested on what was there before, and has to be measured again.
    pub gone: Vec<String>,
}

/// Puts what was found into the rig's calibration file; all that does not rest on it stays. `put` says whether
/// it took the place of something: what is not good (`is_good` is false) does not.
pub fn keep(
    rig: &Rig,
    is_good: bool,
    put: impl FnOnce(&mut Calibration) -> bool,
) -> Result<Kept, KeepError> {
    let path = place(rig)?;
    // Read anew: another procedure may have written it since the rig was read.
    let before = file::read_or_new(&path, &rig.name)?;
    let mut calibration = before.clone();
    if put(&mut calibration) && !is_good {
        return Err(KeepError::NotGood);
    }
    file::write(&path, &calibration)?;
    let cameras = before.cameras.iter().filter(|was| {
        let now = calibration.camera(&was.name);
        was.mounting.is_some() && now.is_some_and(|now| now.mounting.is_none())
    });
    let mut gone: Vec<_> = cameras
        .map(|camera| format!("where camera {} is fixed", camera.name))
        .collect();
    if before.bases.is_some() && calibration.bases.is_none() {
        gone.push("where the bases stand".to_owned());
    }
    Ok(Kept { path, gone })
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
        let error = keep(&none, true, |_| false).unwrap_err().to_string();
        assert!(
            error.contains("calibration = \"desk.calibration.toml\""),
            "{error}"
        );
        let text = format!("calibration = \"c.toml\"\n{text}");
        let rig = Rig::parse("desk.toml", dir.path(), &text, &[]).unwrap();
        let put = |name: &'static str, delay_ms: f64| {
            move |c: &mut Calibration| {
                let place = &mut c.camera_mut(name).latency;
                place.replace(latency(delay_ms)).is_some()
            }
        };
        keep(&rig, true, put("front", 20.0)).unwrap();
        // The rig in memory knows nothing of it, the file does. What is not good may fill a gap …
        let path = keep(&rig, false, put("wrist", 30.0)).unwrap().path;
        // … and does not take the place of anything.
        let error = keep(&rig, false, put("front", 99.0)).unwrap_err();
        assert!(matches!(error, KeepError::NotGood), "{error}");
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
