//! The transitions that `hil_serl.py` makes, as entries.

use std::{fs, path::Path};

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::hil_serl::{self, HilSerlError};

/// The cameras that `hil_serl.py` has too.
pub const CAMERAS: [(&str, u32, u32); 2] = [("front", 16, 16), ("wrist", 16, 24)];
pub const STATE: usize = 19;

pub fn cameras() -> Vec<CameraSpec> {
    let camera = |&(name, height, width): &(&str, u32, u32)| CameraSpec {
        name: name.into(),
        height,
        width,
    };
    CAMERAS.iter().map(camera).collect()
}

/// The observation that `hil_serl.py` has too.
pub fn observation(frame: usize, time: u64) -> Observation {
    let image = |camera: CameraSpec| {
        let bytes = camera.height as usize * camera.width as usize * 3;
        let number = |i: usize| ((i + 7 * frame + camera.name.len()) % 251) as u8;
        Image {
            captured_ns: time * 100_000_000,
            height: camera.height,
            width: camera.width,
            rgb: (0..bytes).map(number).collect(),
        }
    };
    Observation {
        captured_ns: time * 100_000_000,
        proprio: (0..STATE).map(|i| frame as f32 + i as f32 / 8.0).collect(),
        images: cameras().into_iter().map(image).collect(),
    }
}

/// The entries that the transitions of `hil_serl.py` are.
pub fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut frame = 0;
    for (episode, steps) in [3, 2].into_iter().enumerate() {
        let mut push = |index: u32, record: &dyn Fn(u64) -> Record| {
            let sequence = entries.len() as u64;
            entries.push(Entry {
                run: RunId(0),
                sequence,
                episode: episode as u64,
                index,
                record: record(sequence),
            });
        };
        push(0, &|time| Record::Reset(observation(frame, time)));
        for index in 1..=steps {
            let mut action: Vec<f32> = (0..7)
                .map(|i| ((i + frame) % 16) as f32 / 8.0 - 1.0)
                .collect();
            action[6] = [-1.0, 0.0, 1.0][frame % 3];
            let last = index == steps;
            push(index, &|time| {
                Record::Step(Step {
                    action: action.clone(),
                    source: ActionSource::Human,
                    reward: f32::from(u8::from(last && episode == 0)),
                    grasp_penalty: if frame % 2 == 1 { -0.02 } else { 0.0 },
                    terminated: last && episode == 0,
                    truncated: last && episode == 1,
                    label: None,
                    policy_version: 0,
                    noise_seed: 0,
                    next: observation(frame + 1, time),
                })
            });
            frame += 1;
        }
        frame += 1;
    }
    entries
}

/// Entries as they are, but for the run.
pub fn anonymous(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        entry.run = RunId(0);
    }
    entries
}

pub fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![
            Axis::X,
            Axis::Y,
            Axis::Z,
            Axis::Roll,
            Axis::Pitch,
            Axis::Yaw,
        ],
        cameras: cameras(),
        proprio: (0..STATE).map(|i| format!("state.{i}")).collect(),
        policy_hz: 10,
    }
}

pub fn write(path: &Path, entries: &[Entry]) -> u64 {
    let entries = entries
        .iter()
        .map(|entry| Ok::<_, HilSerlError>(entry.clone()));
    hil_serl::write(path, &spec(), entries).unwrap()
}

/// A file of the entries.
pub fn written(entries: &[Entry]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demos.pkl");
    write(&path, entries);
    fs::read(path).unwrap()
}
