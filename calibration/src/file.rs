//! The calibration file beside a rig's: read whole, written whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use hilt_protocol::calibration::{Calibration, CalibrationError};

/// Why a calibration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("{0} is not there; calibrate with: hilt calibrate joints --rig FILE")]
    Missing(PathBuf),
    /// The system refuses.
    #[error("{path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} {source}; correct it, or move it away and calibrate anew")]
    Content {
        /// The file.
        path: PathBuf,
        /// What.
        source: CalibrationError,
    },
    /// It is another rig's.
    #[error(
        "{path} is the calibration of rig `{found}`, not of `{rig}`; name a file of its own in the rig's `calibration`, or move this one away"
    )]
    OtherRig {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wanted it.
        rig: String,
    },
}

/// Reads the calibration of the rig of this name.
pub fn read(path: &Path, rig: &str) -> Result<Calibration, FileError> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => system(path, source),
    })?;
    let calibration = Calibration::from_toml(&text).map_err(|source| content(path, source))?;
    if calibration.rig != rig {
        return Err(FileError::OtherRig {
            path: path.to_owned(),
            found: calibration.rig,
            rig: rig.to_owned(),
        });
    }
    Ok(calibration)
}

/// As [`read`]; nothing measured yet where there is no file.
pub fn read_or_new(path: &Path, rig: &str) -> Result<Calibration, FileError> {
    match read(path, rig) {
        Err(FileError::Missing(_)) => Ok(Calibration::of_rig(rig)),
        read => read,
    }
}

/// Writes it in the place of what was there, whole or not at all.
pub fn write(path: &Path, calibration: &Calibration) -> Result<(), FileError> {
    let text = calibration
        .to_toml()
        .map_err(|source| content(path, source))?;
    // What cannot be read back is not written.
    Calibration::from_toml(&text).map_err(|source| content(path, source))?;
    write_text(path, &text)
}

/// Room on the disk that a calibration of the largest rig does not need.
const ROOM_BYTES: usize = 1 << 16;

/// Whether a file can be written there, tried beside it; what is there stays as it is. To be asked before
/// servos are written to: what they keep then is in no file if this one cannot be written.
pub fn can_be_written(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Err(system(path, io::ErrorKind::IsADirectory.into()));
    }
    in_turn(path, |beside| {
        put(beside, &[0; ROOM_BYTES])?;
        fs::remove_file(beside)
    })
}

/// Writes a text in the place of what was there; whoever reads meanwhile, or after the power went, finds
/// the old one or this one. What a write that was killed left beside it goes with the next one.
pub fn write_text(path: &Path, text: &str) -> Result<(), FileError> {
    in_turn(path, |beside| {
        put(beside, text.as_bytes())?;
        fs::rename(beside, path)
    })
}

/// Does something with the name beside a file. All have the same, so they do it one at a time, where the
/// file system knows how; what fails leaves nothing there.
fn in_turn(path: &Path, act: impl Fn(&Path) -> io::Result<()>) -> Result<(), FileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    let _ = folder.as_ref().map(File::lock);
    act(&beside).map_err(|source| {
        // It may not even have been made.
        let _ = fs::remove_file(&beside);
        system(path, source)
    })?;
    // It is done. If the folder cannot be synced, the old file may come back with the power, whole.
    let _ = folder.as_ref().map(File::sync_all);
    Ok(())
}

/// A file of its own, on the disk.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn system(path: &Path, source: io::Error) -> FileError {
    let path = path.to_owned();
    FileError::System { path, source }
}

fn content(path: &Path, source: CalibrationError) -> FileError {
    let path = path.to_owned();
    FileError::Content { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_only_by_its_own_rig() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("so101.calibration.toml");
        let error = read(&path, "so101").unwrap_err().to_string();
        assert!(error.contains("hilt calibrate joints"), "{error}");
        let mut calibration = read_or_new(&path, "so101").unwrap();
        write(&path, &calibration).unwrap();
        calibration.camera_mut("front").device = Some("/dev/video0".into());
        write(&path, &calibration).unwrap();
        assert_eq!(read(&path, "so101").unwrap(), calibration);
        let error = read(&path, "koch").unwrap_err().to_string();
        assert!(error.contains("of rig `so101`, not of `koch`"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_fails_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("so101.calibration.toml");
        let good = Calibration::of_rig("so101");
        write(&path, &good).unwrap();
        let mut bad = good.clone();
        bad.camera_mut("");
        bad.camera_mut("front");
        bad.cameras[0].name = "front".into();
        let error = write(&path, &bad).unwrap_err().to_string();
        assert!(error.contains("`front` again"), "{error}");
        assert_eq!(read(&path, "so101").unwrap(), good);
        // A folder stands where the file should be: the rename fails.
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        write(&folder, &good).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn whether_it_can_be_written_is_known_and_nothing_comes_of_asking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("so101.calibration.toml");
        can_be_written(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        write_text(&path, "old").unwrap();
        can_be_written(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        for nowhere in [dir.path().to_owned(), dir.path().join("none/c.toml")] {
            let error = can_be_written(&nowhere).unwrap_err().to_string();
            assert!(error.contains(&nowhere.display().to_string()), "{error}");
        }
        // The name beside it is taken by what cannot be written over.
        fs::create_dir(dir.path().join("so101.calibration.toml.partial")).unwrap();
        can_be_written(&path).unwrap_err();
    }

    #[test]
    fn two_who_write_at_once_both_write_the_whole_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("so101.calibration.toml");
        let texts = ["a".repeat(100_000), "b".repeat(200_000)];
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| {
                    for _ in 0..20 {
                        write_text(&path, text).unwrap();
                        assert!(texts.contains(&fs::read_to_string(&path).unwrap()));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// The file of the process that is killed in the middle of a write.
    #[cfg(unix)]
    const DOOMED: &str = "HILT_TEST_DOOMED_FILE";

    /// This test runs itself once more, where no file may be longer than a kilobyte: the system kills who
    /// writes on.
    #[test]
    #[cfg(unix)]
    fn a_write_that_is_killed_leaves_the_old_file_and_the_next_one_nothing_else() {
        use std::{os::unix::process::ExitStatusExt, process::Command};
        if let Some(path) = std::env::var_os(DOOMED) {
            write_text(Path::new(&path), &"new ".repeat(1000)).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("so101.calibration.toml");
        write_text(&path, "old").unwrap();
        for _ in 0..2 {
            let killed = Command::new("sh")
                .args(["-c", "ulimit -c 0; ulimit -f 1; exec \"$0\" \"$@\""])
                .arg(std::env::current_exe().unwrap())
                .arg("a_write_that_is_killed")
                .env(DOOMED, &path)
                .output()
                .unwrap();
            assert!(killed.status.signal().is_some(), "{killed:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        }
        write_text(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
