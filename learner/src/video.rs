//! Videos of a task: its pictures, made a film by the `ffmpeg` program.
//!
//! [`Filmed`] is a task that is filmed while it goes on. Whoever drives it notices nothing; what went wrong
//! with the film is told at its end.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hilt_recording::beside;

use crate::tasks::{Outcome, PictureError, Task};

/// Why there is no video.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
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
    /// The task could not be drawn.
    #[error(transparent)]
    Task(#[from] PictureError),
    /// The program failed.
    #[error(
        "the video {} was not made: ffmpeg (which needs its encoder libx264) said: {said}",
        path.display()
    )]
    Program {
        /// Of the video.
        path: PathBuf,
        /// On its stderr.
        said: String,
    },
    /// The system failed.
    #[error("the video {}: {cause}", path.display())]
    Io {
        /// Of the video.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A video that is being made: beside its place, until it is whole. One that is dropped before its end leaves
/// nothing.
pub struct Film {
    program: Child,
    path: PathBuf,
    picture_bytes: usize,
}

impl Film {
    /// Begins the video `path`, an `.mp4` file.
    ///
    /// # Errors
    /// [`VideoError`] without the program, for another kind of file, odd sides, or a folder that is not there.
    pub fn begin(
        path: &Path,
        [width, height]: [u32; 2],
        frames_per_s: f64,
    ) -> Result<Self, VideoError> {
        Self::begin_by(OsStr::new("ffmpeg"), path, [width, height], frames_per_s)
    }

    fn begin_by(
        program: &OsStr,
        path: &Path,
        [width, height]: [u32; 2],
        frames_per_s: f64,
    ) -> Result<Self, VideoError> {
        if path.extension() != Some(OsStr::new("mp4")) {
            return Err(VideoError::Name(path.to_owned()));
        }
        // Colours are kept for two by two pixels, as every player can show it.
        if [width, height]
            .iter()
            .any(|&side| !(16..=4096).contains(&side) || side % 2 > 0)
        {
            return Err(VideoError::Size { width, height });
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
                "libx264",
                "-pix_fmt",
                "yuv420p",
                "-movflags",
                "+faststart",
                "-f",
                "mp4",
            ])
            .arg(&beside)
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
                picture_bytes: width as usize * height as usize * 3,
            }),
            Err(error) => {
                fs::remove_file(&beside).map_err(|cause| io_error(path, cause))?;
                Err(match error.kind() {
                    io::ErrorKind::NotFound => VideoError::NoProgram {
                        program: program.to_string_lossy().into_owned(),
                    },
                    _ => io_error(path, error),
                })
            }
        }
    }

    /// Adds a picture: RGB, height × width × 3 bytes, row 0 on top.
    ///
    /// # Errors
    /// [`VideoError::Picture`] for another size; what the program said when it takes no more.
    pub fn add(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        if rgb.len() != self.picture_bytes {
            return Err(VideoError::Picture {
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

    /// Puts the whole video in its place.
    ///
    /// # Errors
    /// [`VideoError::Program`] when the program failed; then the place is as it was.
    pub fn end(mut self) -> Result<(), VideoError> {
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
            .map_err(|cause| io_error(&self.path, cause))
    }

    fn failed(&mut self) -> VideoError {
        drop(self.program.stdin.take());
        let mut said = String::new();
        let read = (self.program.stderr.as_mut()).map(|stderr| stderr.read_to_string(&mut said));
        if let Some(Err(error)) = read {
            said = error.to_string();
        }
        VideoError::Program {
            path: self.path.clone(),
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

fn io_error(path: &Path, cause: io::Error) -> VideoError {
    let path = path.to_owned();
    VideoError::Io { path, cause }
}

/// As near to this as whole steps of a task come.
const FRAMES_PER_S: f64 = 30.0;

/// A task that is filmed, as fast as it goes in its own time.
pub struct Filmed<'a> {
    task: &'a mut dyn Task,
    film: Result<Film, VideoError>,
    size: [u32; 2],
    /// A picture at each so many steps.
    stride: u32,
    /// Since the episode began.
    steps: u32,
}

impl<'a> Filmed<'a> {
    /// Begins a video of this task, `size` being width and height in pixels.
    ///
    /// # Errors
    /// As [`Film::begin`].
    pub fn begin(task: &'a mut dyn Task, path: &Path, size: [u32; 2]) -> Result<Self, VideoError> {
        let stride = (1.0 / (FRAMES_PER_S * task.step_s())).round().max(1.0);
        let film = Film::begin(path, size, 1.0 / (task.step_s() * stride))?;
        Ok(Self {
            task,
            film: Ok(film),
            size,
            stride: stride as u32,
            steps: 0,
        })
    }

    /// Puts the video in its place.
    ///
    /// # Errors
    /// The first thing that went wrong; then there is no video.
    pub fn end(self) -> Result<(), VideoError> {
        self.film?.end()
    }

    fn see(&mut self) {
        let Ok(film) = &mut self.film else { return };
        let [width, height] = self.size;
        let picture = self.task.picture(width, height);
        let added = (picture.map_err(VideoError::from)).and_then(|rgb| film.add(&rgb));
        if let Err(error) = added {
            self.film = Err(error);
        }
    }
}

impl Task for Filmed<'_> {
    fn id(&self) -> &'static str {
        self.task.id()
    }

    fn observations(&self) -> usize {
        self.task.observations()
    }

    fn actions(&self) -> usize {
        self.task.actions()
    }

    fn most_steps(&self) -> u32 {
        self.task.most_steps()
    }

    fn step_s(&self) -> f64 {
        self.task.step_s()
    }

    fn reset(&mut self, seed: u64) -> Vec<f64> {
        let observation = self.task.reset(seed);
        self.steps = 0;
        self.see();
        observation
    }

    fn step(&mut self, action: &[f64]) -> Outcome {
        let outcome = self.task.step(action);
        self.steps += 1;
        if self.steps.is_multiple_of(self.stride) {
            self.see();
        }
        outcome
    }

    fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
        self.task.picture(width, height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{self, pendulum::Pendulum};

    /// Whether there is ffmpeg here. Not all tests need it; those that do say so when it is not.
    fn has_ffmpeg() -> bool {
        let there = Command::new("ffmpeg")
            .arg("-version")
            .stdout(Stdio::null())
            .status()
            .is_ok();
        if !there {
            println!("SKIPPED: there is no ffmpeg here; apt install ffmpeg");
        }
        there
    }

    /// Width, height and pictures of a video, by its own program.
    fn probe(path: &Path) -> String {
        let out = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-count_frames",
                "-of",
                "csv=p=0",
                "-show_entries",
            ])
            .arg("stream=width,height,r_frame_rate,nb_read_frames")
            .arg(path)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// The first picture of a video.
    fn first(path: &Path) -> Vec<u8> {
        let out = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(path)
            .args(["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .output();
        out.unwrap().stdout
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn without_ffmpeg_the_remedy_is_named_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4");
        let film = Film::begin_by(OsStr::new("no-such-ffmpeg"), &path, [16, 16], 20.0);
        let message = film.err().unwrap().to_string();
        assert!(message.contains("no-such-ffmpeg"), "{message}");
        assert!(message.contains("apt install ffmpeg"), "{message}");
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn what_can_be_no_video_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &str, size| {
            let film = Film::begin(&dir.path().join(name), size, 20.0);
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
        let mut film = Film::begin_by(OsStr::new("ls"), &path, [256, 256], 20.0).unwrap();
        let picture = vec![0; 256 * 256 * 3];
        let error = (0..100).find_map(|_| film.add(&picture).err());
        let message = error
            .unwrap_or_else(|| film.end().err().unwrap())
            .to_string();
        assert!(
            message.contains("film.mp4") && message.contains("ls:"),
            "{message}"
        );
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn a_task_is_filmed_in_its_own_time_and_goes_on_as_ever() {
        if !has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        // One step a picture, and one in four.
        for (id, steps, rate, pictures) in [
            ("Pendulum-v1", 10, "20/1", 11),
            ("Hopper-v5", 9, "125/4", 3),
        ] {
            if tasks::ids().all(|known| known != id) {
                continue;
            }
            let path = dir.path().join(id).with_extension("mp4");
            let (mut task, mut alone) = (tasks::open(id).unwrap(), tasks::open(id).unwrap());
            let mut filmed = Filmed::begin(&mut *task, &path, [96, 64]).unwrap();
            assert_eq!(filmed.reset(4), alone.reset(4));
            let picture = alone.picture(96, 64).unwrap();
            let action = vec![0.2; filmed.actions()];
            for _ in 0..steps {
                assert_eq!(filmed.step(&action), alone.step(&action));
            }
            filmed.end().unwrap();
            assert_eq!(probe(&path), format!("96,64,{rate},{pictures}"));
            // Compressed, but the same.
            let first = first(&path);
            assert_eq!(first.len(), picture.len());
            let differences = first
                .iter()
                .zip(&picture)
                .map(|(a, b)| f64::from(a.abs_diff(*b)));
            let mean = differences.sum::<f64>() / first.len() as f64;
            assert!(mean < 8.0, "{id}: {mean} levels");
        }
        assert!(files(dir.path()) <= 2);
    }

    #[test]
    fn one_that_is_not_ended_leaves_nothing_and_a_wrong_picture_is_refused() {
        if !has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4");
        fs::write(&path, "an older one").unwrap();
        let mut film = Film::begin(&path, [16, 16], 20.0).unwrap();
        film.add(&[7; 16 * 16 * 3]).unwrap();
        let message = film.add(&[7; 5]).err().unwrap().to_string();
        assert!(message.contains("768 bytes, not 5"), "{message}");
        drop(film);
        assert_eq!(fs::read(&path).unwrap(), b"an older one");
        assert_eq!(files(dir.path()), 1);
    }

    #[test]
    fn a_task_that_cannot_be_drawn_goes_on_and_is_told_of_at_the_end() {
        if !has_ffmpeg() {
            return;
        }
        /// Of a pendulum, but without pictures.
        struct Blind(Pendulum);
        impl Task for Blind {
            fn id(&self) -> &'static str {
                "Blind"
            }
            fn observations(&self) -> usize {
                self.0.observations()
            }
            fn actions(&self) -> usize {
                self.0.actions()
            }
            fn most_steps(&self) -> u32 {
                self.0.most_steps()
            }
            fn step_s(&self) -> f64 {
                self.0.step_s()
            }
            fn reset(&mut self, seed: u64) -> Vec<f64> {
                self.0.reset(seed)
            }
            fn step(&mut self, action: &[f64]) -> Outcome {
                self.0.step(action)
            }
            fn picture(&mut self, _: u32, _: u32) -> Result<Vec<u8>, PictureError> {
                let reason = "there is no light".to_owned();
                Err(PictureError {
                    id: "Blind",
                    reason,
                })
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut blind = Blind(Pendulum::default());
        let mut filmed = Filmed::begin(&mut blind, &dir.path().join("film.mp4"), [16, 16]).unwrap();
        filmed.reset(1);
        filmed.step(&[0.0]);
        let message = filmed.end().unwrap_err().to_string();
        assert!(message.contains("there is no light"), "{message}");
        assert_eq!(files(dir.path()), 0);
    }
}
