//! What a small robot saw, and small algorithms to learn from it.

use std::{collections::BTreeMap, path::Path};

use hilt_learner::{config::LearnerConfig, encoder::EncoderConfig};
use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step, noise::Uniforms,
};
use hilt_recording::RunWriter;

/// All there are.
pub const ALGORITHMS: [&str; 10] = [
    "sac-grasp",
    "bc",
    "td3-bc",
    "iql",
    "awac",
    "cql",
    "cal-ql",
    "sac",
    "redq",
    "rlpd",
];
/// Of a picture, pixels.
const SIDE: u32 = 16;

/// A small one of this algorithm.
pub fn config(algorithm: &str) -> LearnerConfig {
    let mut sets: Vec<String> = [
        "front.bottleneck=8",
        "front.proprio_latent=4",
        "front.spatial_features=2",
        "sac_grasp.hidden=[16,16]",
        "sac_grasp.bottleneck=8",
        "cql.sampled_actions=2",
        "cal_ql.cql.sampled_actions=2",
        "redq.update_to_data=2",
        "rlpd.update_to_data=3",
        "rlpd.critics=3",
        "redq.critics=3",
    ]
    .map(str::to_owned)
    .to_vec();
    for hidden in ["bc", "td3_bc", "iql", "awac", "sac", "redq", "rlpd"] {
        sets.push(format!("{hidden}.hidden=[8]"));
    }
    for hidden in ["cql", "cal_ql.cql"] {
        sets.push(format!("{hidden}.critic_hidden=[8]"));
        sets.push(format!("{hidden}.actor_hidden=[8]"));
    }
    sets.push(format!("algorithm=\"{algorithm}\""));
    let mut config = LearnerConfig::resolve("lift", None, &sets).unwrap();
    config.encoder = EncoderConfig {
        image_size: i64::from(SIDE),
        stem_kernel: 5,
        stem_pool: false,
        widths: vec![4, 8],
        groups: 2,
    };
    config.train.batch = 8;
    config
}

/// An arm with a gripper, two cameras and proprioception.
pub fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X, Axis::Z],
        cameras: ["front", "wrist"]
            .map(|name| CameraSpec {
                name: name.into(),
                height: SIDE,
                width: SIDE,
            })
            .to_vec(),
        proprio: vec!["tool_x".into(), "tool_z".into()],
        policy_hz: 10,
    }
}

fn observation(random: &mut Uniforms) -> Observation {
    let images = (0..2).map(|_| Image {
        captured_ns: 0,
        height: SIDE,
        width: SIDE,
        rgb: (0..SIDE * SIDE * 3).map(|_| random.bits() as u8).collect(),
    });
    Observation {
        captured_ns: 0,
        images: images.collect(),
        // Raw numbers of a robot: far from 0, and close together.
        proprio: vec![0.4 + 0.01 * random.normal() as f32, 0.2],
    }
}

/// A run of three episodes of six steps, the last with a reward.
pub fn entries(run: RunId) -> Vec<Entry> {
    let mut random = Uniforms::new(run.0);
    let mut entries = vec![];
    for episode in 0..3 {
        for index in 0..=6 {
            let next = observation(&mut random);
            let record = match index {
                0 => Record::Reset(next),
                _ => Record::Step(Step {
                    action: vec![
                        random.range(-1.0, 1.0) as f32,
                        random.range(-1.0, 1.0) as f32,
                        random.below(3) as f32 - 1.0,
                    ],
                    source: ActionSource::ScriptedOperator,
                    reward: f32::from(u8::from(index == 6)),
                    grasp_penalty: if index == 3 { -0.1 } else { 0.0 },
                    terminated: index == 6,
                    truncated: false,
                    label: None,
                    policy_version: 0,
                    noise_seed: 0,
                    next,
                }),
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

/// Writes entries as a run.
pub fn write_run(dir: &Path, spec: &RigSpec, entries: &[Entry]) {
    let mut writer = RunWriter::create(dir, entries[0].run, spec, BTreeMap::new()).unwrap();
    for entry in entries {
        writer.append(entry).unwrap();
    }
    writer.finish().unwrap();
}
