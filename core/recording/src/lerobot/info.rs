//! The description of a dataset that we write, `meta/info.json`.

use hilt_protocol::RigSpec;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::layout::{ACTION, DONE, INTERVENTION, LABEL, PENALTY, REWARD, TRUNCATED};

/// The state of the arms.
pub(super) const STATE: &str = "observation.state";
/// Where LeRobot looks for files.
const DATA_PATH: &str = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
const VIDEO_PATH: &str = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4";
/// Files in a folder.
pub(super) const CHUNKS_SIZE: u64 = 1000;

/// What a feature's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 32-bit numbers.
    Float,
    /// 64-bit integers.
    Int,
    /// Yes or no.
    Bool,
    /// Pictures of this height and width, in a video.
    Video([u32; 2]),
}

impl Kind {
    /// What LeRobot calls it.
    pub fn dtype(self) -> &'static str {
        match self {
            Self::Float => "float32",
            Self::Int => "int64",
            Self::Bool => "bool",
            Self::Video(_) => "video",
        }
    }

    /// A number of a statistic, as LeRobot has it of such a feature: extremes are what the values are.
    pub fn statistic(self, name: &str, value: f64) -> Value {
        match (self, name) {
            (Self::Bool, "min" | "max") => json!(value != 0.0),
            (Self::Int, "min" | "max") => json!(value as i64),
            (Self::Video(_), _) => json!([[value]]),
            _ => json!(value),
        }
    }
}

/// One column of the dataset.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Feature {
    pub key: String,
    pub kind: Kind,
    /// Numbers a frame; of pictures their colours.
    pub width: usize,
    pub names: Option<Vec<String>>,
}

impl Feature {
    fn new(key: &str, kind: Kind, names: Option<Vec<String>>) -> Self {
        Self {
            key: key.to_owned(),
            kind,
            width: names.as_ref().map_or(1, Vec::len),
            names,
        }
    }

    /// The features of what this rig records, in order, the last five being those of every dataset.
    pub fn of(spec: &RigSpec) -> Vec<Self> {
        let mut features: Vec<Self> = (spec.cameras.iter())
            .map(|camera| {
                let key = format!("observation.images.{}", camera.name);
                let sides = ["height", "width", "channels"].map(String::from).to_vec();
                let kind = Kind::Video([camera.height, camera.width]);
                Self::new(&key, kind, Some(sides))
            })
            .collect();
        if !spec.proprio.is_empty() {
            features.push(Self::new(STATE, Kind::Float, Some(spec.proprio.clone())));
        }
        features.push(Self::new(ACTION, Kind::Float, Some(spec.action_names())));
        features.push(Self::new(REWARD, Kind::Float, None));
        features.push(Self::new(DONE, Kind::Bool, None));
        features.push(Self::new(TRUNCATED, Kind::Bool, None));
        if spec.mode.learned_gripper() {
            let names = Some(vec!["discrete_penalty".to_owned()]);
            features.push(Self::new(PENALTY, Kind::Float, names));
        }
        features.push(Self::new(INTERVENTION, Kind::Bool, None));
        let names = Some(vec!["success_label".to_owned()]);
        features.push(Self::new(LABEL, Kind::Float, names));
        features.push(Self::new("timestamp", Kind::Float, None));
        for key in ["frame_index", "episode_index", "index", "task_index"] {
            features.push(Self::new(key, Kind::Int, None));
        }
        features
    }

    /// The camera's size, if it is one.
    pub fn video(&self) -> Option<[u32; 2]> {
        match self.kind {
            Kind::Video(size) => Some(size),
            _ => None,
        }
    }

    fn json(&self, rate_hz: u32) -> Value {
        let Kind::Video([height, width]) = self.kind else {
            return json!({"dtype": self.kind.dtype(), "shape": [self.width], "names": self.names});
        };
        json!({
            "dtype": "video",
            "shape": [height, width, 3],
            "names": self.names,
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "av1",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": false,
                "video.fps": rate_hz,
                "video.channels": 3,
                "has_audio": false,
            },
        })
    }
}

/// All of the description.
#[derive(Debug, Serialize)]
pub(super) struct Info<'a> {
    codebase_version: &'static str,
    robot_type: Option<&'a str>,
    total_episodes: u64,
    total_frames: u64,
    total_tasks: u64,
    chunks_size: u64,
    data_files_size_in_mb: u32,
    video_files_size_in_mb: u32,
    fps: u32,
    splits: Value,
    data_path: &'static str,
    video_path: &'static str,
    features: Features<'a>,
}

/// In their own order, which a map of JSON does not keep.
#[derive(Debug)]
struct Features<'a> {
    features: &'a [Feature],
    rate_hz: u32,
}

impl Serialize for Features<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.features.len()))?;
        for feature in self.features {
            map.serialize_entry(&feature.key, &feature.json(self.rate_hz))?;
        }
        map.end()
    }
}

impl<'a> Info<'a> {
    /// Of so many episodes and frames, of one task. `sizes_mb` are the largest files of rows and of videos.
    pub fn new(
        features: &'a [Feature],
        rate_hz: u32,
        robot_type: Option<&'a str>,
        sizes_mb: [u32; 2],
        [episodes, frames]: [u64; 2],
    ) -> Self {
        Self {
            codebase_version: "v3.0",
            robot_type,
            total_episodes: episodes,
            total_frames: frames,
            total_tasks: 1,
            chunks_size: CHUNKS_SIZE,
            data_files_size_in_mb: sizes_mb[0],
            video_files_size_in_mb: sizes_mb[1],
            fps: rate_hz,
            splits: json!({"train": format!("0:{episodes}")}),
            data_path: DATA_PATH,
            video_path: VIDEO_PATH,
            features: Features { features, rate_hz },
        }
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::{Axis, CameraSpec, SetupMode};

    use super::*;

    #[test]
    fn every_column_of_an_action_has_its_name() {
        let camera = |name: &str| CameraSpec {
            name: name.into(),
            height: 64,
            width: 96,
        };
        let spec = |mode| RigSpec {
            mode,
            controlled_axes: vec![Axis::X, Axis::Yaw],
            cameras: vec![camera("front"), camera("wrist")],
            proprio: vec![],
            policy_hz: 10,
        };
        let one = spec(SetupMode::SingleArmFixedGripper);
        assert_eq!(one.action_names(), ["x", "yaw"]);
        let two = spec(SetupMode::DualArmLearnedGripper);
        let names = two.action_names();
        assert_eq!(names.len(), two.action_dim());
        assert_eq!(names[2..4], ["arm0_gripper", "arm1_x"]);
        let keys: Vec<String> = Feature::of(&one).into_iter().map(|f| f.key).collect();
        assert_eq!(keys[0], "observation.images.front");
        // Neither state nor a gripper's penalty.
        assert!(!keys.contains(&STATE.to_owned()) && !keys.contains(&PENALTY.to_owned()));
    }
}
