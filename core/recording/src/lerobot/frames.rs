//! The frames of a dataset: rows of its Parquet files, and the list of episodes that says where they lie.

use std::{
    fs::File,
    io::{self, Cursor},
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{ColorType, ImageDecoder, codecs::png::PngDecoder};
use parquet::file::reader::ChunkReader;

use super::{
    error::LeRobotError,
    layout::{
        ACTION, DONE, INTERVENTION, LABEL, Layout, PENALTY, Place, REWARD, SUCCESS, Stored,
        TRUNCATED,
    },
    rows::{Batch, Rows},
};

/// Rows at a time, of numbers alone.
const BATCH: usize = 256;
/// Rows at a time with pictures in them.
const BATCH_OF_PICTURES: usize = 16;
const EPISODE: &str = "episode_index";
const FRAME: &str = "frame_index";
const TIME: &str = "timestamp";

/// One row: what was seen, what was done then, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Row of its file.
    pub row: u64,
    pub episode: u64,
    /// Place in its episode.
    pub frame: u64,
    /// Since the episode began, seconds.
    pub time_s: f64,
    pub proprio: Vec<f32>,
    pub action: Vec<f32>,
    pub reward: f32,
    pub penalty: f32,
    pub done: Option<bool>,
    pub truncated: Option<bool>,
    pub success: Option<bool>,
    /// Whether a person acted; `None`: it does not say.
    pub intervention: Option<bool>,
    /// Whether a person called it a success.
    pub label: Option<bool>,
    /// Encoded pictures, of the cameras that are stored in the rows.
    pub pictures: Vec<Vec<u8>>,
}

/// The frames of one file, in order.
pub(super) struct Frames {
    pub path: PathBuf,
    rows: Rows,
    columns: Columns,
    waiting: std::vec::IntoIter<Frame>,
}

/// What is read of a row.
struct Columns {
    /// Name and width.
    states: Vec<(String, usize)>,
    action: usize,
    says: Vec<&'static str>,
    pictures: Vec<String>,
}

impl Frames {
    /// Opens a file of rows. `cameras`: features of the cameras that are looked through.
    pub fn open(
        file: impl ChunkReader + 'static,
        path: &Path,
        layout: &Layout,
        cameras: &[usize],
    ) -> Result<Self, LeRobotError> {
        let states = layout
            .states
            .iter()
            .map(|state| (state.key.clone(), state.names.len()));
        let pictures = (cameras.iter().map(|&at| &layout.cameras[at]))
            .filter(|camera| camera.stored == Stored::Image);
        let columns = Columns {
            states: states.collect(),
            action: layout.action_width(),
            says: layout.says.clone(),
            pictures: pictures.map(|camera| camera.key.clone()).collect(),
        };
        let mut keys = vec![EPISODE, FRAME, TIME, ACTION];
        keys.extend(&columns.says);
        keys.extend(columns.states.iter().map(|(key, _)| key.as_str()));
        keys.extend(columns.pictures.iter().map(String::as_str));
        let batch = if columns.pictures.is_empty() {
            BATCH
        } else {
            BATCH_OF_PICTURES
        };
        let rows = Rows::open(file, path, &keys, batch)?.looked_at(layout.as_it_is);
        Ok(Self {
            path: path.to_owned(),
            rows,
            columns,
            waiting: vec![].into_iter(),
        })
    }

    /// The next frame.
    pub fn next(&mut self) -> Result<Option<Frame>, LeRobotError> {
        loop {
            if let Some(frame) = self.waiting.next() {
                return Ok(Some(frame));
            }
            let Some(batch) = self.rows.batch()? else {
                return Ok(None);
            };
            self.waiting = self.columns.frames(&batch)?.into_iter();
        }
    }

    /// Rows that there are, once all were read.
    pub fn rows(&self) -> u64 {
        self.rows.read()
    }
}

impl Columns {
    fn frames(&self, batch: &Batch) -> Result<Vec<Frame>, LeRobotError> {
        let episodes = batch.counts(EPISODE)?;
        let frames = batch.counts(FRAME)?;
        let times = batch.reals(TIME)?;
        let actions = batch.numbers(ACTION, self.action)?;
        let mut states = vec![];
        for (key, width) in &self.states {
            states.push((*width, batch.numbers(key, *width)?));
        }
        let mut pictures = vec![];
        for key in &self.pictures {
            pictures.push(batch.pictures(key)?);
        }
        let number = |key| {
            self.says
                .contains(&key)
                .then(|| batch.numbers(key, 1))
                .transpose()
        };
        let flag = |key| {
            self.says
                .contains(&key)
                .then(|| batch.flags(key))
                .transpose()
        };
        let (rewards, penalties) = (number(REWARD)?, number(PENALTY)?);
        let (done, truncated, success) = (flag(DONE)?, flag(TRUNCATED)?, flag(SUCCESS)?);
        let interventions = flag(INTERVENTION)?;
        let labels = (self.says.contains(&LABEL))
            .then(|| batch.labels(LABEL))
            .transpose()?;
        let at = |flags: &Option<Vec<bool>>, row: usize| flags.as_ref().map(|flags| flags[row]);
        let rows = (0..batch.len()).map(|row| {
            let of =
                |width: usize, numbers: &[f32]| numbers[row * width..(row + 1) * width].to_vec();
            let proprio = states
                .iter()
                .flat_map(|(width, numbers)| of(*width, numbers));
            Frame {
                row: batch.row(row),
                episode: episodes[row],
                frame: frames[row],
                time_s: times[row],
                proprio: proprio.collect(),
                action: of(self.action, &actions),
                reward: rewards.as_ref().map_or(0.0, |rewards| rewards[row]),
                penalty: penalties.as_ref().map_or(0.0, |penalties| penalties[row]),
                done: at(&done, row),
                truncated: at(&truncated, row),
                success: at(&success, row),
                intervention: at(&interventions, row),
                label: labels.as_ref().and_then(|labels| labels[row]),
                pictures: pictures
                    .iter()
                    .map(|bytes| bytes.value(row).to_vec())
                    .collect(),
            }
        });
        Ok(rows.collect())
    }
}

impl Frame {
    /// How the episode ended whose last frame this is: whether it terminated. LeRobot writes one `next.done` for
    /// success and time-out alike, so that the reward has to tell them apart.
    pub fn terminated(&self) -> bool {
        match (self.truncated, self.success) {
            (Some(true), _) => false,
            (_, Some(success)) => success,
            (Some(false), None) => self.done.unwrap_or(false),
            (None, None) => self.done.unwrap_or(false) && self.reward > 0.0,
        }
    }
}

/// Decodes a picture of `size` (width, height): RGB, row 0 on top.
pub(super) fn decode(png: &[u8], size: [u32; 2]) -> Result<Arc<[u8]>, String> {
    let decoder = PngDecoder::new(Cursor::new(png)).map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    // Looked at before anything is decoded: a small file may hold a large picture.
    if [width, height] != size {
        let [wide, high] = size;
        return Err(format!(
            "it is {width}×{height}, meta/info.json says {wide}×{high}"
        ));
    }
    let colours = decoder.color_type();
    if colours != ColorType::Rgb8 {
        return Err(format!("it is of {colours:?}, read is RGB of 8 bits"));
    }
    let mut rgb = vec![0; width as usize * height as usize * 3];
    decoder.read_image(&mut rgb).map_err(|e| e.to_string())?;
    Ok(rgb.into())
}

/// Where an episode lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Episode {
    pub episode: u64,
    /// Frames.
    pub length: u64,
    /// The file of its rows.
    pub data: Place,
    /// Of each camera that is a video: the file, and where it begins in it, seconds.
    pub videos: Vec<(Place, f64)>,
}

/// The list of episodes, in order.
pub(super) struct Episodes {
    /// Its files that are still to come, the next one last.
    files: Vec<PathBuf>,
    rows: Option<(PathBuf, Rows)>,
    /// Features of the cameras that are videos.
    videos: Vec<String>,
    waiting: std::vec::IntoIter<Episode>,
    read: u64,
    total: u64,
}

impl Episodes {
    /// Of these files, `total` of them: a writer that died may have left one more, of which nothing else speaks yet.
    pub fn new(mut files: Vec<PathBuf>, videos: Vec<String>, total: u64) -> Self {
        files.reverse();
        Self {
            files,
            rows: None,
            videos,
            waiting: vec![].into_iter(),
            read: 0,
            total,
        }
    }

    /// The next one.
    pub fn next(&mut self) -> Result<Option<Episode>, LeRobotError> {
        loop {
            if self.read == self.total {
                return Ok(None);
            }
            if let Some(episode) = self.waiting.next() {
                self.read += 1;
                return Ok(Some(episode));
            }
            if self.rows.is_none() {
                let Some(path) = self.files.pop() else {
                    return Ok(None);
                };
                let rows = open_episodes(open(&path, &path)?, &path, &self.videos)?;
                self.rows = Some((path, rows));
            }
            let Some((path, rows)) = &mut self.rows else {
                continue;
            };
            match rows.batch()? {
                Some(batch) => self.waiting = episodes(&batch, path, &self.videos)?.into_iter(),
                None => self.rows = None,
            }
        }
    }

    /// Episodes so far.
    pub fn read(&self) -> u64 {
        self.read
    }
}

fn video_key(key: &str, what: &str) -> String {
    format!("videos/{key}/{what}")
}

/// Opens a file of the list.
pub(super) fn open_episodes(
    file: impl ChunkReader + 'static,
    path: &Path,
    videos: &[String],
) -> Result<Rows, LeRobotError> {
    let mut keys: Vec<String> = [
        "episode_index",
        "length",
        "data/chunk_index",
        "data/file_index",
    ]
    .map(str::to_owned)
    .into();
    for video in videos {
        let what = ["chunk_index", "file_index", "from_timestamp"];
        keys.extend(what.map(|what| video_key(video, what)));
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    Rows::open(file, path, &keys, BATCH)
}

/// The episodes of some rows of the list.
pub(super) fn episodes(
    batch: &Batch,
    path: &Path,
    videos: &[String],
) -> Result<Vec<Episode>, LeRobotError> {
    let (index, lengths) = (batch.counts(EPISODE)?, batch.counts("length")?);
    let places = |chunk: &str, file: &str| -> Result<Vec<Place>, LeRobotError> {
        let chunks = batch.counts(chunk)?.into_iter();
        let places = chunks.zip(batch.counts(file)?);
        Ok(places.map(|(chunk, file)| Place { chunk, file }).collect())
    };
    let data = places("data/chunk_index", "data/file_index")?;
    let mut films = vec![];
    for video in videos {
        let chunk = video_key(video, "chunk_index");
        let places = places(&chunk, &video_key(video, "file_index"))?;
        films.push((places, batch.reals(&video_key(video, "from_timestamp"))?));
    }
    let rows = (0..batch.len()).map(|row| {
        if lengths[row] == 0 {
            return Err(LeRobotError::Empty {
                path: path.to_owned(),
                episode: index[row],
            });
        }
        Ok(Episode {
            episode: index[row],
            length: lengths[row],
            data: data[row],
            videos: films
                .iter()
                .map(|(places, from)| (places[row], from[row]))
                .collect(),
        })
    });
    rows.collect()
}

/// Opens a file that `by` names.
pub(super) fn open(path: &Path, by: &Path) -> Result<File, LeRobotError> {
    File::open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => LeRobotError::Missing {
            path: path.to_owned(),
            by: by.to_owned(),
        },
        _ => LeRobotError::Io {
            path: path.to_owned(),
            cause,
        },
    })
}
