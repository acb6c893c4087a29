//! What a dataset says of itself in `meta/info.json`, as far as reading needs it.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use hilt_protocol::CameraSpec;
use serde_json::{Map, Value};

use super::error::LeRobotError;

/// The description, in the dataset's folder.
pub(super) const INFO_FILE: &str = "meta/info.json";
/// LeRobot's own words for what is not an observation.
pub(super) const ACTION: &str = "action";
pub(super) const REWARD: &str = "next.reward";
pub(super) const DONE: &str = "next.done";
pub(super) const TRUNCATED: &str = "next.truncated";
pub(super) const SUCCESS: &str = "next.success";
pub(super) const PENALTY: &str = "complementary_info.discrete_penalty";
pub(super) const INTERVENTION: &str = "complementary_info.is_intervention";
/// Our own: what a person said of a step, 1 success, 0 failure, -1 nothing.
pub(super) const LABEL: &str = "complementary_info.success_label";
/// What the arms and the world around them are like: both are proprioception here.
const STATES: [&str; 2] = ["observation.state", "observation.environment_state"];
/// A description is some tens of kilobytes.
const LONGEST_INFO: u64 = 1 << 26;

/// How the pictures of a camera are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// In a video beside the rows.
    Video,
    /// In the rows, each a PNG file.
    Image,
}

/// A camera of the dataset.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Camera {
    /// Name of the feature.
    pub key: String,
    pub spec: CameraSpec,
    pub stored: Stored,
}

/// A feature of some numbers a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vector {
    /// Name of the feature.
    pub key: String,
    /// Name of each number.
    pub names: Vec<String>,
}

/// What is in the rows, and where the files are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Of the description.
    pub path: PathBuf,
    /// Rows are looked at as they are, NaN and infinities too.
    pub as_it_is: bool,
    /// Frames per second.
    pub rate_hz: f64,
    pub episodes: u64,
    /// Sorted by their features' names.
    pub cameras: Vec<Camera>,
    pub states: Vec<Vector>,
    pub action: Vector,
    /// Names of the features of one number that say how a step went.
    pub says: Vec<&'static str>,
    data_path: String,
    video_path: String,
}

impl Layout {
    /// Reads the description of the dataset in `dir`.
    pub fn read(dir: &Path) -> Result<(Self, Vec<u8>), LeRobotError> {
        let path = dir.join(INFO_FILE);
        let io = |cause| LeRobotError::Io {
            path: path.clone(),
            cause,
        };
        let bytes = fs::metadata(&path).map_err(io)?.len();
        if bytes > LONGEST_INFO {
            let what = format!("has {bytes} bytes: it is no description of a dataset");
            return Err(info(&path, "", what));
        }
        let bytes = fs::read(&path).map_err(io)?;
        Ok((Self::parse(&bytes, &path)?, bytes))
    }

    /// Reads a description; `path` is what errors call it.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, LeRobotError> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|e| info(path, "", format!("cannot be read: {e}")))?;
        let Some(map) = value.as_object() else {
            return Err(info(path, "", "is no object".into()));
        };
        let text = |key: &str| match map.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) | None => Ok(String::new()),
            Some(other) => Err(info(path, key, format!("is {other}, it must be a text"))),
        };
        check_version(&text("codebase_version")?, path)?;
        let rate = map.get("fps").and_then(Value::as_f64);
        let rate_hz = rate
            .filter(|rate| (0.5..=1000.0).contains(rate))
            .ok_or_else(|| {
                let what = "must be frames per second, 1 to 1000";
                info(path, "fps", what.into())
            })?;
        let episodes = map.get("total_episodes").and_then(Value::as_u64);
        let episodes = episodes
            .ok_or_else(|| info(path, "total_episodes", "must be a number, 0 or more".into()))?;
        let Some(Value::Object(features)) = map.get("features") else {
            return Err(info(path, "features", "must be an object".into()));
        };
        let features = Features {
            map: features,
            path,
        };
        let action = features.vector(ACTION)?.ok_or_else(|| {
            let keys: Vec<&str> = features.map.keys().map(String::as_str).collect();
            let what = format!("holds no `{ACTION}`; there are {}", keys.join(", "));
            info(path, "features", what)
        })?;
        let states = STATES
            .iter()
            .filter_map(|key| features.vector(key).transpose());
        let says = [
            REWARD,
            DONE,
            TRUNCATED,
            SUCCESS,
            PENALTY,
            INTERVENTION,
            LABEL,
        ];
        Ok(Self {
            path: path.to_owned(),
            as_it_is: false,
            rate_hz,
            episodes,
            cameras: features.cameras()?,
            states: states.collect::<Result<_, _>>()?,
            action,
            says: (says.into_iter())
                .filter(|key| features.map.contains_key(*key))
                .collect(),
            data_path: text("data_path")?,
            video_path: text("video_path")?,
        })
    }

    /// Whether it is what `gym_manipulator`, LeRobot's program for HIL-SERL, records: rows end with `next.done`, and
    /// have nothing by which other programs, ours too, tell endings and interventions. It puts beside an action what was
    /// seen after it (0.4).
    pub fn seen_late(&self) -> bool {
        let says = |key: &str| self.says.contains(&key);
        says(REWARD) && says(DONE) && ![TRUNCATED, SUCCESS, INTERVENTION].into_iter().any(says)
    }

    /// Numbers of an action.
    pub fn action_width(&self) -> usize {
        self.action.names.len()
    }

    /// Names of the numbers of an observation.
    pub fn proprio(&self) -> Vec<String> {
        self.states
            .iter()
            .flat_map(|state| state.names.clone())
            .collect()
    }

    /// The file of rows, below the dataset's folder.
    pub fn data_file(&self, place: Place) -> Result<PathBuf, LeRobotError> {
        self.fill("data_path", &self.data_path, "", place)
    }

    /// The video of a camera, below the dataset's folder.
    pub fn video_file(&self, key: &str, place: Place) -> Result<PathBuf, LeRobotError> {
        self.fill("video_path", &self.video_path, key, place)
    }

    fn fill(
        &self,
        name: &str,
        template: &str,
        video_key: &str,
        place: Place,
    ) -> Result<PathBuf, LeRobotError> {
        let wrong = |what: &str| {
            let example = "it is like data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
            info(
                &self.path,
                name,
                format!("is {template:?}, {what}; {example}"),
            )
        };
        let (mut filled, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| wrong("a brace is open"))?;
            let (name, digits) = inside.split_once(':').unwrap_or((inside, "d"));
            let number = match name {
                "video_key" => None,
                "chunk_index" => Some(place.chunk),
                "file_index" => Some(place.file),
                _ => return Err(wrong("it has a name that is not known")),
            };
            match (number, digits) {
                (None, _) => filled.push_str(video_key),
                (Some(number), "d") => filled.push_str(&number.to_string()),
                (Some(number), "03d") => filled.push_str(&format!("{number:03}")),
                (Some(number), "06d") => filled.push_str(&format!("{number:06}")),
                _ => return Err(wrong("it has digits that are not known")),
            }
            rest = after;
        }
        filled.push_str(rest);
        let path = PathBuf::from(filled);
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.as_os_str().is_empty() {
            return Err(wrong("which is no file in the dataset's folder"));
        }
        Ok(path)
    }
}

/// Which of the numbered files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub chunk: u64,
    pub file: u64,
}

fn check_version(version: &str, path: &Path) -> Result<(), LeRobotError> {
    let number = version.trim_start_matches('v');
    let remedy = match number.split('.').next() {
        Some("3") => return Ok(()),
        Some("2") => {
            ": convert it with LeRobot's own script, python -m \
             lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id=NAME (v2.0 first to v2.1, by an older LeRobot)"
        }
        Some("1") => ": convert it with LeRobot's own scripts, version by version",
        Some("") | None => ", as its `codebase_version` has to say",
        Some(_) => ": it is of a later LeRobot; export it from there as v3.0",
    };
    Err(LeRobotError::Version {
        path: path.to_owned(),
        version: format!("{version:?}"),
        remedy,
    })
}

/// The features of the description.
struct Features<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl Features<'_> {
    fn wrong(&self, key: &str, what: String) -> LeRobotError {
        info(self.path, &format!("features.{key}"), what)
    }

    fn dtype(&self, key: &str) -> &str {
        (self.map.get(key))
            .and_then(|feature| feature.get("dtype")?.as_str())
            .unwrap_or("")
    }

    fn shape(&self, key: &str) -> Result<Vec<usize>, LeRobotError> {
        let shape = (self.map.get(key)).and_then(|feature| feature.get("shape")?.as_array());
        let sides = shape.map(|sides| {
            let side = |side: &Value| side.as_u64().and_then(|side| usize::try_from(side).ok());
            sides.iter().map(side).collect::<Option<Vec<_>>>()
        });
        sides
            .flatten()
            .ok_or_else(|| self.wrong(key, "has no `shape` of whole numbers".into()))
    }

    /// A feature of some numbers a row, if there is one of this name.
    fn vector(&self, key: &str) -> Result<Option<Vector>, LeRobotError> {
        if !self.map.contains_key(key) {
            return Ok(None);
        }
        let shape = self.shape(key)?;
        let &[width @ 1..=MOST_NUMBERS] = shape.as_slice() else {
            let what = format!("has shape {shape:?}, it must be one side of 1 to {MOST_NUMBERS}");
            return Err(self.wrong(key, what));
        };
        let names = self.map.get(key).and_then(|feature| feature.get("names"));
        let stem = key.rsplit('.').next().unwrap_or(key);
        Ok(Some(Vector {
            key: key.to_owned(),
            names: names_of(names, width)
                .unwrap_or_else(|| (0..width).map(|i| format!("{stem}_{i}")).collect()),
        }))
    }

    fn cameras(&self) -> Result<Vec<Camera>, LeRobotError> {
        let mut cameras = vec![];
        for key in self.map.keys() {
            let stored = match self.dtype(key) {
                "video" => Stored::Video,
                "image" => Stored::Image,
                other if key.starts_with("observation.image") => {
                    let what = format!(
                        "is of dtype {other:?}: pictures are read from dtype video or image, 8 bits a colour"
                    );
                    return Err(self.wrong(key, what));
                }
                _ => continue,
            };
            let [height, width] = self.size(key)?;
            let name = (key.strip_prefix("observation.images."))
                .or_else(|| key.strip_prefix("observation."));
            let spec = CameraSpec {
                name: name.unwrap_or(key).to_owned(),
                height,
                width,
            };
            cameras.push(Camera {
                key: key.clone(),
                spec,
                stored,
            });
        }
        // A map of JSON may be in any order.
        cameras.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(cameras)
    }

    /// Height and width of a camera's pictures: LeRobot has both orders of the sides, and says which in `names`.
    fn size(&self, key: &str) -> Result<[u32; 2], LeRobotError> {
        let shape = self.shape(key)?;
        let names = self
            .map
            .get(key)
            .and_then(|feature| feature.get("names")?.as_array());
        let named = |name: &str| {
            let place = names?
                .iter()
                .position(|n| n.as_str().is_some_and(|n| n.starts_with(name)));
            shape.get(place?)
        };
        let sides = match (shape.as_slice(), named("channel")) {
            ([_, _, _], Some(3)) => named("height").zip(named("width")),
            ([height, width, 3] | [3, height, width], None) => Some((height, width)),
            _ => None,
        };
        let side = |side: &usize| {
            u32::try_from(*side)
                .ok()
                .filter(|side| (1..=1 << 14).contains(side))
        };
        let sides = sides.and_then(|(height, width)| Some([side(height)?, side(width)?]));
        sides.ok_or_else(|| {
            let what = format!(
                "has shape {shape:?}: pictures have height, width and 3 channels, in the order that `names` says"
            );
            self.wrong(key, what)
        })
    }
}

/// No robot has more joints.
const MOST_NUMBERS: usize = 4096;

/// A name for each of the numbers: a list, a list under one name, or a place under each name.
fn names_of(names: Option<&Value>, width: usize) -> Option<Vec<String>> {
    match names? {
        Value::Array(names) if names.len() == width => names
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect(),
        Value::Object(map) if map.len() == width && map.values().all(Value::is_u64) => {
            let mut places: Vec<(&Value, &String)> =
                map.iter().map(|(n, place)| (place, n)).collect();
            places.sort_by_key(|(place, _)| place.as_u64());
            Some(places.into_iter().map(|(_, name)| name.clone()).collect())
        }
        Value::Object(map) if map.len() == 1 => names_of(map.values().next(), width),
        _ => None,
    }
}

fn info(path: &Path, key: &str, what: String) -> LeRobotError {
    LeRobotError::Info {
        path: path.to_owned(),
        key: key.to_owned(),
        what,
    }
}
