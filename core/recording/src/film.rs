//! Films: pictures that become a video by the `ffmpeg` program, which encodes beside us.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{NotWritten, beside, whole::not_written};

/// Why there is no film.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The program that makes it is not there.
    #[error(
        "videos are made by the program `{program}`, which is not installed; get it with: apt install ffmpeg"
    )]
    NoProgram {
        /// Its name.
        program: String,
    },
    /// Its file would be of another kind.
    #[error("a video's file ends in .mp4, not {}", .0.display())]
    Name(PathBuf),
    /// A picture's sides are not those of a film.
    #[error(
        "a video is an even number of pixels wide and high, 16 to 4096 of them, not {width}×{height}"
    )]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// A picture is not one of this film.
    #[error("a picture of the video {} is {expected} bytes, not {got}", path.display())]
    Picture {
        /// Of the video.
        path: PathBuf,
        /// Width × height × 3.
        expected: usize,
        /// What was passed.
        got: usize,
    },
    /// The program failed.
    #[error(
        "the video {} was not made: ffmpeg (which needs its encoder {encoder}, as Debian's has it) said: {said}",
        path.display()
    )]
    Program {
        /// Of the video.
        path: PathBuf,
        /// What it was to use.
        encoder: &'static str,
        /// On its stderr.
        said: String,
    },
    /// The system failed.
    #[error("the video {0}")]
    Io(NotWritten),
}

/// How pictures are made small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// H.264, which every player shows.
    H264,
    /// AV1 as LeRobot's datasets have it: every second picture stands for itself, so that any is quickly found.
    Av1,
}

impl Codec {
    fn encoder(self) -> &'static str {
        match self {
            Self::H264 => "libx264",
            Self::Av1 => "libsvtav1",
        }
    }

    /// Options besides the encoder.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::H264 => &[],
            Self::Av1 => &["-g", "2", "-crf", "30", "-preset", "12"],
        }
    }
}

/// A video that is being made: beside its place, until it is whole. One that is dropped before its end leaves
/// nothing.
pub struct Film {
    program: Child,
    path: PathBuf,
    codec: Codec,
    picture_bytes: usize,
}

impl Film {
    /// Begins the video `path`, an `.mp4` file.
    ///
    /// # Errors
    /// [`FilmError`] without the program, for another kind of file, odd sides, or a folder that is not there.
    pub fn begin(
        path: &Path,
        [width, height]: [u32; 2],
        frames_per_s: f64,
        codec: Codec,
    ) -> Result<Self, FilmError> {
        let program = OsStr::new("ffmpeg");
        Self::begin_by(program, path, [width, height], frames_per_s, codec)
    }

    fn begin_by(
        program: &OsStr,
        path: &Path,
        [width, height]: [u32; 2],
        frames_per_s: f64,
        codec: Codec,
    ) -> Result<Self, FilmError> {
        if path.extension() != Some(OsStr::new("mp4")) {
            return Err(FilmError::Name(path.to_owned()));
        }
        // Colours are kept for two by two pixels, as every player can show it.
        if [width, height]
            .iter()
            .any(|&side| !(16..=4096).contains(&side) || side % 2 > 0)
        {
            return Err(FilmError::Size { width, height });
        }
        let beside = beside(path);
        // Asked here, because the program would name the file beside it.
        fs::File::create(&beside).map_err(|cause| io_error(path, cause))?;
        let spawned = Command::new(program)
            .args([
                "-loglevel",
                "error",
                "-y",
                "-f",
                "rawvideo",
                "-pixel_format",
                "rgb24",
            ])
            .args(["-video_size", &format!("{width}x{height}")])
            .args(["-framerate", &frames_per_s.to_string(), "-i", "-"])
            .args([
                "-c:v",
                codec.encoder(),
                "-pix_fmt",
                "yuv420p",
                "-movflags",
                "+faststart",
                "-f",
                "mp4",
            ])
            .args(codec.options())
            .arg(&beside)
            // SVT-AV1 else says all its settings where errors are read.
            .env("SVT_LOG", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: it is told to end when its input does.
            .process_group(0)
            .spawn();
        match spawned {
            Ok(program) => Ok(Self {
                program,
                path: path.to_owned(),
                codec,
                picture_bytes: width as usize * height as usize * 3,
            }),
            Err(error) => {
                fs::remove_file(&beside).map_err(|cause| io_error(path, cause))?;
                Err(started(path, program, error))
            }
        }
    }

    /// Adds a picture: RGB, height × width × 3 bytes, row 0 on top.
    ///
    /// # Errors
    /// [`FilmError::Picture`] for another size; what the program said when it takes no more.
    pub fn add(&mut self, rgb: &[u8]) -> Result<(), FilmError> {
        if rgb.len() != self.picture_bytes {
            return Err(FilmError::Picture {
                path: self.path.clone(),
                expected: self.picture_bytes,
                got: rgb.len(),
            });
        }
        match self
            .program
            .stdin
            .as_mut()
            .map(|input| input.write_all(rgb))
        {
            Some(Ok(())) => Ok(()),
            // It has ended; why is on its stderr.
            Some(Err(_)) | None => Err(self.failed()),
        }
    }

    /// Puts the whole video in its place; which.
    ///
    /// # Errors
    /// [`FilmError::Program`] when the program failed; then the place is as it was.
    pub fn end(mut self) -> Result<PathBuf, FilmError> {
        drop(self.program.stdin.take());
        let status = self.program.wait();
        if !status
            .map_err(|cause| io_error(&self.path, cause))?
            .success()
        {
            return Err(self.failed());
        }
        let beside = beside(&self.path);
        (fs::File::open(&beside).and_then(|file| file.sync_all()))
            .and_then(|()| fs::rename(beside, &self.path))
            .map_err(|cause| io_error(&self.path, cause))?;
        Ok(self.path.clone())
    }

    fn failed(&mut self) -> FilmError {
        drop(self.program.stdin.take());
        let mut said = String::new();
        let read = (self.program.stderr.as_mut()).map(|stderr| stderr.read_to_string(&mut said));
        if let Some(Err(error)) = read {
            said = error.to_string();
        }
        FilmError::Program {
            path: self.path.clone(),
            encoder: self.codec.encoder(),
            said: said.trim().to_owned(),
        }
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        // All of it fails after `end`, when there is neither.
        let _ = self.program.kill();
        let _ = self.program.wait();
        let _ = fs::remove_file(beside(&self.path));
    }
}

/// Makes one video of several that have the same sides, rate and codec, one after the other, without encoding them
/// again. `path` is none of them, and a file that is there already is written over.
///
/// # Errors
/// [`FilmError::NoProgram`] without ffmpeg; what the program said when it failed.
pub fn join(parts: &[&Path], path: &Path, codec: Codec) -> Result<(), FilmError> {
    let list: String = (parts.iter())
        .map(|part| {
            format!(
                "file '{}'\n",
                part.display().to_string().replace('\'', "'\\''")
            )
        })
        .collect();
    let list_path = path.with_extension("parts");
    fs::write(&list_path, list).map_err(|cause| io_error(path, cause))?;
    let out = Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-y",
            "-f",
            "concat",
            "-safe",
            "0",
            "-i",
        ])
        .arg(&list_path)
        .args(["-c", "copy", "-movflags", "+faststart", "-f", "mp4"])
        .arg(path)
        .stdin(Stdio::null())
        .process_group(0)
        .output();
    let removed = fs::remove_file(&list_path);
    let out = out.map_err(|error| started(path, OsStr::new("ffmpeg"), error))?;
    if !out.status.success() {
        return Err(FilmError::Program {
            path: path.to_owned(),
            encoder: codec.encoder(),
            said: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        });
    }
    removed.map_err(|cause| io_error(path, cause))
}

fn io_error(path: &Path, cause: io::Error) -> FilmError {
    FilmError::Io(not_written(path)(cause))
}

fn started(path: &Path, program: &OsStr, error: io::Error) -> FilmError {
    match error.kind() {
        io::ErrorKind::NotFound => FilmError::NoProgram {
            program: program.to_string_lossy().into_owned(),
        },
        _ => io_error(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn without_ffmpeg_the_remedy_is_named_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4");
        let program = OsStr::new("no-such-ffmpeg");
        let film = Film::begin_by(program, &path, [16, 16], 20.0, Codec::H264);
        let message = film.err().unwrap().to_string();
        assert!(message.contains("no-such-ffmpeg"), "{message}");
        assert!(message.contains("apt install ffmpeg"), "{message}");
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn what_can_be_no_video_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &str, size| {
            let film = Film::begin(&dir.path().join(name), size, 20.0, Codec::Av1);
            film.err().unwrap().to_string()
        };
        assert!(error("film.avi", [16, 16]).contains("film.avi"));
        assert!(error("film.mp4", [16, 15]).contains("16×15"));
        assert!(error("film.mp4", [0, 16]).contains("0×16"));
        assert!(error("nowhere/film.mp4", [16, 16]).contains("nowhere/film.mp4"));
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn a_program_that_fails_is_heard_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4");
        // It takes none of ffmpeg's options, and ends at once.
        let program = OsStr::new("ls");
        let mut film = Film::begin_by(program, &path, [256, 256], 20.0, Codec::Av1).unwrap();
        let picture = vec![0; 256 * 256 * 3];
        let error = (0..100).find_map(|_| film.add(&picture).err());
        let message = error
            .unwrap_or_else(|| film.end().err().unwrap())
            .to_string();
        for part in ["film.mp4", "ls:", "libsvtav1"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(files(dir.path()), 0);
    }
}
