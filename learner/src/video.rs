//! Videos of a task.
//!
//! [`Filmed`] is a task that is filmed while it goes on. Whoever drives it notices nothing; what went wrong
//! with the film is told at its end.

use std::path::Path;

use hilt_recording::film::{Codec, Film, FilmError};

use crate::tasks::{Outcome, PictureError, Task};

/// Why there is no video.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The film was not made.
    #[error(transparent)]
    Film(#[from] FilmError),
    /// The task could not be drawn.
    #[error(transparent)]
    Task(#[from] PictureError),
}

/// What is enough for the eye.
pub const FRAMES_PER_S: f64 = 30.0;

/// A picture at each so many steps of a task comes nearest to this rate.
fn stride(task: &dyn Task, frames_per_s: f64) -> u32 {
    // At most that of a `u32`, where it saturates.
    (1.0 / (frames_per_s * task.step_s())).round().max(1.0) as u32
}

/// The rate of a task's pictures that is nearest to this one, per second.
pub fn nearest_rate(task: &dyn Task, frames_per_s: f64) -> f64 {
    1.0 / (task.step_s() * f64::from(stride(task, frames_per_s)))
}

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
    /// Begins a video of this task, `size` being width and height in pixels, with pictures as near to `frames_per_s`
    /// as whole steps of the task come.
    ///
    /// # Errors
    /// As [`Film::begin`].
    pub fn begin(
        task: &'a mut dyn Task,
        path: &Path,
        size: [u32; 2],
        frames_per_s: f64,
    ) -> Result<Self, VideoError> {
        let stride = stride(task, frames_per_s);
        let rate = nearest_rate(task, frames_per_s);
        let film = Film::begin(path, size, rate, Codec::H264)?;
        Ok(Self {
            task,
            film: Ok(film),
            size,
            stride,
            steps: 0,
        })
    }

    /// Puts the video in its place.
    ///
    /// # Errors
    /// The first thing that went wrong; then there is no video.
    pub fn end(self) -> Result<(), VideoError> {
        self.film?.end()?;
        Ok(())
    }

    fn see(&mut self) {
        let Ok(film) = &mut self.film else { return };
        let [width, height] = self.size;
        let picture = self.task.picture(width, height);
        let added = (picture.map_err(VideoError::from)).and_then(|rgb| Ok(film.add(&rgb)?));
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
    use std::{fs, process::Command};

    use super::*;
    use crate::{
        ffmpeg::has_ffmpeg,
        tasks::{self, pendulum::Pendulum},
    };

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
            let mut filmed = Filmed::begin(&mut *task, &path, [96, 64], FRAMES_PER_S).unwrap();
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
        let mut film = Film::begin(&path, [16, 16], 20.0, Codec::H264).unwrap();
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
        let mut filmed = Filmed::begin(
            &mut blind,
            &dir.path().join("film.mp4"),
            [16, 16],
            FRAMES_PER_S,
        )
        .unwrap();
        filmed.reset(1);
        filmed.step(&[0.0]);
        let message = filmed.end().unwrap_err().to_string();
        assert!(message.contains("there is no light"), "{message}");
        assert_eq!(files(dir.path()), 0);
    }
}
