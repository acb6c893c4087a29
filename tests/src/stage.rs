//! Where a test plays: demonstrations, an endpoint, and a small training.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use hilt_protocol::{
    ActionSource, Entry, Image, Observation, Record, RigSpec, RunId, Step, noise::Uniforms,
};
use hilt_recording::RunWriter;
use hilt_runtime::rig::Rig;
use tempfile::TempDir;

use crate::{Program, hilt, learner};

/// Episodes of a demonstrations' run, and the steps of each.
const EPISODES: u64 = 4;
const STEPS: u32 = 8;

/// The learner's configuration, made small: it trains on eight transitions at a time from the
/// twentieth on, and lets the actor run free.
const SMALL: [&str; 9] = [
    "imitation.steps=5",
    "imitation.batch=8",
    "reward.steps=5",
    "reward.batch=8",
    "train.batch=8",
    "train.threads=1",
    "train.start_after=20",
    "train.steps_per_update=1000.0",
    "train.snapshot_period_s=0.2",
];

/// The rig file of the lift scene.
pub fn lift_rig() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/lift-sim.toml")
}

/// A folder of its own with demonstrations, and a port of its own.
pub struct Stage {
    folder: TempDir,
    endpoint: String,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// With demonstrations for the lift rig.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = Rig::read(&lift_rig(), &[]).unwrap().spec();
        write_demonstrations(&folder.path().join("demos"), &spec);
        // Free now; known before anybody listens, so that either program can start first.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp/{}", free.local_addr().unwrap());
        Self { folder, endpoint }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the learner listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `hilt-learner hybrid` with its results in `out`.
    pub fn hybrid(&self, out: &str) -> Command {
        let mut command = learner();
        command
            .arg("hybrid")
            .arg("--demos")
            .arg(self.path("demos"))
            .arg("--out")
            .arg(self.path(out))
            .args(["--listen", &self.endpoint, "--max-seconds", "3600"]);
        for setting in SMALL {
            command.args(["--set", setting]);
        }
        command
    }

    /// [`Self::hybrid`] in the folder `learner`, started. `arguments` are added.
    pub fn start_learner(&self, arguments: &[&str]) -> Program {
        Program::start("the learner", self.hybrid("learner").args(arguments))
    }

    /// `hilt actor` with its run in `out`. Its episodes are short.
    pub fn actor(&self, out: &str) -> Command {
        let mut command = hilt();
        command
            .arg("actor")
            .arg("--rig")
            .arg(lift_rig())
            .arg("--out")
            .arg(self.path(out))
            .args(["--connect", &self.endpoint, "--set", "episode.max_steps=10"]);
        command
    }

    /// [`Self::actor`] in the folder `actor`, started.
    pub fn start_actor(&self) -> Program {
        Program::start("the actor", &mut self.actor("actor"))
    }

    /// Bytes in the actor's log: it grows with every step.
    pub fn log_bytes(&self) -> u64 {
        let log = self.path("actor").join(hilt_recording::LOG_FILE);
        std::fs::metadata(log).map_or(0, |metadata| metadata.len())
    }

    /// Bytes that the actor's log grows by in `steps` steps.
    pub fn bytes_of_steps(steps: u64) -> u64 {
        let spec = Rig::read(&lift_rig(), &[]).unwrap().spec();
        let images = spec.cameras.iter();
        steps
            * images
                .map(|c| u64::from(c.height * c.width * 3))
                .sum::<u64>()
    }

    /// Policy version and updates of the last episode that the actor finished.
    pub fn policy_of_actor(&self) -> (u64, u64) {
        let path = self.path("actor").join("episodes.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let Some(last) = whole.lines().last() else {
            return (0, 0);
        };
        let row: serde_json::Value = serde_json::from_str(last).unwrap();
        let number = |key: &str| row[key].as_u64().unwrap();
        (number("policy_version"), number("updates"))
    }
}

/// Writes a run of demonstrations to `dir` and labelled frames to `dir`-labels, as `hilt record`
/// lays them out. The arm goes one way while the picture grows bright, and a bright picture is a
/// success.
pub fn write_demonstrations(dir: &Path, spec: &RigSpec) {
    let labels = PathBuf::from(format!("{}-labels", dir.display()));
    for (folder, run) in [(dir, RunId(11)), (labels.as_path(), RunId(12))] {
        let mut writer = RunWriter::create(folder, run, spec, BTreeMap::new()).unwrap();
        for entry in demonstration_entries(run, spec) {
            writer.append(&entry).unwrap();
        }
        writer.finish().unwrap();
    }
}

fn demonstration_entries(run: RunId, spec: &RigSpec) -> Vec<Entry> {
    let mut random = Uniforms::new(run.0);
    let mut entries = Vec::new();
    for episode in 0..EPISODES {
        for index in 0..=STEPS {
            let level = 20 + 25 * index as u8;
            let mut image = |height: u32, width: u32| Image {
                captured_ns: u64::from(index),
                height,
                width,
                rgb: (0..height * width * 3)
                    .map(|_| level + random.below(16) as u8)
                    .collect(),
            };
            let images = spec.cameras.iter().map(|c| image(c.height, c.width));
            let next = Observation {
                captured_ns: u64::from(index),
                images: images.collect(),
                proprio: (0..spec.proprio_dim())
                    .map(|i| (i as f32 * 0.1) + index as f32 * 0.01)
                    .collect(),
            };
            let record = if index == 0 {
                Record::Reset(next)
            } else {
                Record::Step(Step {
                    action: vec![if index < STEPS / 2 { 0.5 } else { -1.0 }; spec.action_dim()],
                    source: ActionSource::ScriptedOperator,
                    reward: f32::from(u8::from(index == STEPS)),
                    grasp_penalty: 0.0,
                    terminated: index == STEPS,
                    truncated: false,
                    label: Some(index > STEPS / 2),
                    policy_version: 0,
                    noise_seed: 0,
                    next,
                })
            };
            entries.push(Entry {
                run,
                sequence: entries.len() as u64,
                episode,
                index,
                record,
            });
        }
    }
    entries
}
