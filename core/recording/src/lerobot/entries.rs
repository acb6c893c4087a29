//! The frames of a dataset as a rig's entries, with what its cameras showed.

use std::{path::PathBuf, sync::Arc};

use hilt_protocol::{ActionSource, Entry, Image, Observation, Record, Step};

use super::{
    error::LeRobotError,
    frames::{self, Episode, Frame},
    layout::{Camera, Stored},
    reader::{Dataset, EPISODES, Walk, no_command},
    video::{VideoError, VideoReader},
};

/// A video that is being looked at.
struct Film {
    path: PathBuf,
    reader: VideoReader,
}

/// The entries of a dataset, in order. After an error there are none.
pub struct Entries<'a> {
    dataset: &'a Dataset,
    /// Those that are looked through, in the order of the rig's.
    cameras: Vec<usize>,
    /// Columns of the action.
    grippers: Vec<usize>,
    /// Whether they count 0, 1, 2; `None`: not looked at yet.
    counted_from_0: Option<bool>,
    walk: Walk,
    /// One place per camera of the dataset.
    films: Vec<Option<Film>>,
    /// Which of an episode's videos is a camera's, one place per camera of the dataset.
    videos: Vec<Option<usize>>,
    /// The newest frame, whose action is not told yet.
    last: Option<Seen>,
    sequence: u64,
    episode: u64,
    ended: bool,
}

/// A frame with its pictures.
struct Seen {
    of: Episode,
    frame: Frame,
    /// In the order of the rig's cameras.
    pictures: Vec<Arc<[u8]>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, LeRobotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

impl<'a> Entries<'a> {
    /// `cameras`: those of the dataset that are looked through; `grippers`: columns of the action.
    pub(super) fn new(dataset: &'a Dataset, cameras: Vec<usize>, grippers: Vec<usize>) -> Self {
        let mut videos = 0..;
        let video = |camera: &Camera| match camera.stored {
            Stored::Video => videos.next(),
            Stored::Image => None,
        };
        let all = &dataset.layout.cameras;
        Self {
            dataset,
            cameras,
            grippers,
            counted_from_0: None,
            walk: dataset.walk(),
            films: all.iter().map(|_| None).collect(),
            videos: all.iter().map(video).collect(),
            last: None,
            sequence: 0,
            episode: 0,
            ended: false,
        }
    }

    fn entry(&mut self) -> Result<Option<Entry>, LeRobotError> {
        let Some(last) = self.last.take() else {
            return self.reset();
        };
        let place = last.frame.frame + 1;
        let ends = place == last.of.length;
        // What an episode's last action led to nobody kept: its last frame stands for it.
        let next = match ends {
            true => self.observation(&last.frame, &last.pictures),
            false => {
                let seen = self.see(last.of.clone(), place)?;
                let observation = self.observation(&seen.frame, &seen.pictures);
                self.last = Some(seen);
                observation
            }
        };
        let (action, source) = (self.action(&last.frame)?, source(&last.frame));
        let terminated = ends && last.frame.terminated();
        let record = Record::Step(Step {
            action,
            source,
            reward: last.frame.reward,
            grasp_penalty: last.frame.penalty,
            terminated,
            truncated: ends && !terminated,
            label: last.frame.label,
            policy_version: 0,
            noise_seed: 0,
            next,
        });
        let index = u32::try_from(place).map_err(|_| LeRobotError::Info {
            path: self.dataset.dir.join(EPISODES),
            key: "length".into(),
            what: format!("is {}: no episode is that long", last.of.length),
        })?;
        let entry = self.make(index, record);
        self.episode += u64::from(ends);
        Ok(Some(entry))
    }

    fn reset(&mut self) -> Result<Option<Entry>, LeRobotError> {
        let Some(episode) = self.walk.episode()? else {
            self.walk.check_end(self.dataset)?;
            return Ok(None);
        };
        let seen = self.see(episode, 0)?;
        let record = Record::Reset(self.observation(&seen.frame, &seen.pictures));
        self.last = Some(seen);
        Ok(Some(self.make(0, record)))
    }

    fn make(&mut self, index: u32, record: Record) -> Entry {
        let sequence = self.sequence;
        self.sequence += 1;
        Entry {
            run: self.dataset.run,
            sequence,
            episode: self.episode,
            index,
            record,
        }
    }

    /// The next frame of an episode, and what the cameras showed.
    fn see(&mut self, of: Episode, place: u64) -> Result<Seen, LeRobotError> {
        let frame = self.walk.frame(self.dataset, &of, place, &self.cameras)?;
        let cameras = &self.dataset.layout.cameras;
        // All are begun before the first is waited for, so that they are decoded side by side.
        for &at in &self.cameras {
            if let Some(video) = self.videos[at] {
                let film = self.films[at].take();
                let film = self.dataset.film(film, &cameras[at], &of, &frame, video)?;
                self.films[at] = Some(film);
            }
        }
        let mut pictures = vec![];
        let mut stored = frame.pictures.iter();
        for &at in &self.cameras {
            let camera = &cameras[at];
            let size = [camera.spec.width, camera.spec.height];
            let rgb = match (self.videos[at], &mut self.films[at]) {
                (Some(video), Some(Film { reader, .. })) => {
                    let (_, from_s) = of.videos[video];
                    let shown = reader.at(from_s + frame.time_s);
                    let shown = shown.map_err(|cause| of_video(camera, &frame, cause))?;
                    shown.rgb
                }
                _ => {
                    let png = stored.next().map_or(&[] as &[u8], Vec::as_slice);
                    frames::decode(png, size).map_err(|what| LeRobotError::Picture {
                        path: self.walk.path(),
                        key: camera.key.clone(),
                        row: frame.row,
                        what,
                    })?
                }
            };
            pictures.push(rgb);
        }
        Ok(Seen {
            of,
            frame,
            pictures,
        })
    }

    fn observation(&self, frame: &Frame, pictures: &[Arc<[u8]>]) -> Observation {
        // Exact for the first hundred days.
        let captured_ns = (self.sequence as f64 / self.dataset.layout.rate_hz * 1e9).round() as u64;
        let images = self.cameras.iter().zip(pictures).map(|(&at, rgb)| {
            let camera = &self.dataset.layout.cameras[at].spec;
            Image {
                captured_ns,
                height: camera.height,
                width: camera.width,
                rgb: rgb.clone(),
            }
        });
        Observation {
            captured_ns,
            proprio: frame.proprio.clone(),
            images: images.collect(),
        }
    }

    /// The action as our rigs have it: a gripper is -1 to close, 0 to stay, 1 to open.
    fn action(&mut self, frame: &Frame) -> Result<Vec<f32>, LeRobotError> {
        let counted_from_0 = match self.counted_from_0 {
            Some(known) => known,
            None => self.dataset.counts_from_0(&self.grippers)?,
        };
        self.counted_from_0 = Some(counted_from_0);
        let mut action = frame.action.clone();
        if counted_from_0 {
            for &column in &self.grippers {
                let looked_at = self.dataset.layout.as_it_is && !action[column].is_finite();
                if !looked_at && ![0.0, 1.0, 2.0].contains(&action[column]) {
                    let path = self.walk.path();
                    return Err(no_command(path, frame.row, column, action[column]));
                }
                action[column] -= 1.0;
            }
        }
        Ok(action)
    }
}

impl Dataset {
    /// The video of a camera, ready for a frame: `open`, if that is it and not past the frame.
    fn film(
        &self,
        open: Option<Film>,
        camera: &Camera,
        of: &Episode,
        frame: &Frame,
        video: usize,
    ) -> Result<Film, LeRobotError> {
        let (file, from_s) = of.videos[video];
        let time_s = from_s + frame.time_s;
        let path = self.dir.join(self.layout.video_file(&camera.key, file)?);
        let ahead = |film: &Film| {
            film.reader
                .newest_s()
                .is_none_or(|newest_s| newest_s < time_s)
        };
        if let Some(film) = open.filter(|film| film.path == path && ahead(film)) {
            return Ok(film);
        }
        // Asked here, so that the error says who names it.
        drop(frames::open(&path, &self.dir.join(EPISODES))?);
        let size = [camera.spec.width, camera.spec.height];
        let reader = VideoReader::open(&path, size, time_s);
        let reader = reader.map_err(|cause| of_video(camera, frame, cause))?;
        Ok(Film { path, reader })
    }
}

fn of_video(camera: &Camera, frame: &Frame, cause: VideoError) -> LeRobotError {
    LeRobotError::Video {
        key: camera.key.clone(),
        episode: frame.episode,
        frame: frame.frame,
        cause,
    }
}

/// A dataset without a word on interventions is of demonstrations.
fn source(frame: &Frame) -> ActionSource {
    match frame.intervention {
        Some(false) => ActionSource::Policy,
        Some(true) | None => ActionSource::Human,
    }
}
