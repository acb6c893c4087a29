//! A rig that moves pictures about, for whoever writes datasets.

use std::sync::Arc;

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};

/// One arm with a gripper and two cameras of different sides.
pub fn spec() -> RigSpec {
    let camera = |name: &str, height, width| CameraSpec {
        name: name.into(),
        height,
        width,
    };
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X, Axis::Y, Axis::Z],
        cameras: vec![camera("front", 64, 96), camera("wrist", 80, 64)],
        proprio: ["x", "y", "z", "gripper", "force"]
            .map(String::from)
            .to_vec(),
        policy_hz: 10,
    }
}

/// What this rig sees at a time.
pub fn observation(spec: &RigSpec, episode: u64, index: u32) -> Observation {
    let at = episode as f32 + index as f32 / 8.0;
    let captured_ns = u64::from(index) * 100_000_000;
    let image = |camera: &CameraSpec| {
        let (height, width) = (camera.height, camera.width);
        let pixel = |i: u32| {
            let (row, column) = (i / width, i % width);
            let ball = row.abs_diff(20 + index % 30).pow(2) + column.abs_diff(30).pow(2) < 100;
            let level = if ball { 200 } else { (column * 2) as u8 };
            [level, (row * 3) as u8, (episode * 40 % 250) as u8]
        };
        Image {
            captured_ns,
            height,
            width,
            rgb: (0..height * width).flat_map(pixel).collect::<Arc<[u8]>>(),
        }
    };
    Observation {
        captured_ns,
        proprio: (0..spec.proprio.len())
            .map(|i| at * (i as f32 + 0.1))
            .collect(),
        images: spec.cameras.iter().map(image).collect(),
    }
}

/// How an episode ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Terminated,
    Truncated,
    /// It does not.
    Open,
}

/// A run of such episodes, each of so many steps, numbered from 0 on.
pub fn entries(spec: &RigSpec, episodes: &[(u32, End)]) -> Vec<Entry> {
    let mut entries = vec![];
    for (&(steps, end), episode) in episodes.iter().zip(0..) {
        for index in 0..=steps {
            let seen = observation(spec, episode, index);
            let record = match index {
                0 => Record::Reset(seen),
                _ => {
                    let last = index == steps;
                    let terminated = last && end == End::Terminated;
                    Record::Step(Step {
                        action: action(spec, episode, index - 1),
                        source: match index % 3 {
                            0 => ActionSource::Human,
                            _ => ActionSource::Policy,
                        },
                        reward: f32::from(u8::from(terminated)),
                        grasp_penalty: if index % 4 == 0 { -0.02 } else { 0.0 },
                        terminated,
                        truncated: last && end == End::Truncated,
                        label: [None, Some(false), Some(true)][index as usize % 3],
                        policy_version: 0,
                        noise_seed: 0,
                        next: seen,
                    })
                }
            };
            let sequence = entries.len() as u64;
            entries.push(Entry {
                run: RunId(7),
                sequence,
                episode,
                index,
                record,
            });
        }
    }
    entries
}

/// What it does then.
fn action(spec: &RigSpec, episode: u64, index: u32) -> Vec<f32> {
    let motion = |i: usize| ((i as u32 + index) % 16) as f32 / 8.0 - 1.0 + episode as f32 / 64.0;
    let mut action: Vec<f32> = (0..spec.action_dim()).map(motion).collect();
    for column in spec.gripper_columns() {
        action[column] = (index % 3) as f32 - 1.0;
    }
    action
}
