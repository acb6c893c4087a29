//! Updates per second of `sac-grasp` at batch 256 with two cameras, on this machine's cores.
//!
//! Rows (JSON lines on stdout): two 128×128 cameras as ResNet-10 maps of 4×4×512 — the frozen
//! encoder has been paid at insertion. The demo's narrow maps (4×4×64) go to stderr.

use std::time::Instant;

use hilt_learner::agents::sac_grasp::{
    Batch, GripperHead, SacGrasp, SacGraspConfig, SeededNoise, Shapes, Update,
};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 256;
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn batch(channels: i64) -> Batch {
    let maps = || {
        (0..2)
            .map(|_| Tensor::rand([BATCH, 4, 4, channels], F32))
            .collect()
    };
    Batch {
        maps: maps(),
        next_maps: maps(),
        proprio: Tensor::randn([BATCH, 12], F32),
        next_proprio: Tensor::randn([BATCH, 12], F32),
        actions: Tensor::rand([BATCH, 4], F32).round(),
        rewards: Tensor::rand([BATCH], F32).round(),
        masks: Tensor::ones([BATCH], F32),
        grasp_penalty: Tensor::zeros([BATCH], F32),
    }
}

/// Updates per second over at least three seconds.
fn rate(channels: i64, gripper: GripperHead, update: Update) -> f64 {
    let shapes = Shapes {
        cameras: ["front", "wrist"]
            .map(|c| (c.to_owned(), [4, 4, channels]))
            .to_vec(),
        proprio: 12,
        motion_columns: vec![0, 1, 2],
        gripper_columns: vec![3],
    };
    let config = SacGraspConfig {
        gripper,
        ..SacGraspConfig::default()
    };
    let dropout = config.dropout;
    let mut agent = SacGrasp::new(config, shapes, Kind::Float, Device::Cpu, 1);
    let batch = batch(channels);
    for _ in 0..3 {
        agent.update(&batch, update, &mut SeededNoise::new(1, 0, dropout, F32));
    }
    let (start, mut updates) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 3.0 {
        let mut noise = SeededNoise::new(1, updates, dropout, F32);
        agent.update(&batch, update, &mut noise);
        updates += 1;
    }
    updates as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    hilt_learner::memory::keep_freed();
    let categorical = GripperHead::Categorical { entropy: 0.01 };
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as i32;
    for threads in 1..=cores {
        tch::set_num_threads(threads);
        eprintln!(
            "4x4x64 maps, {threads} threads: {:.1} critic-only, {:.1} full updates/s",
            rate(64, categorical, Update::CriticOnly),
            rate(64, categorical, Update::Full)
        );
    }
    // LeRobot 0.4.4 with a frozen ResNet-10 encodes each batch: 3.67 s per update on 4 cores.
    let peer = 0.27;
    for (name, update) in [
        ("learner.critic_updates_per_s", Update::CriticOnly),
        ("learner.full_updates_per_s", Update::Full),
    ] {
        let value = rate(512, GripperHead::GraspCritic, update);
        let row = serde_json::json!({
            "name": name, "value": value, "unit": "1/s",
            "peer": "LeRobot 0.4.4 (cited)", "peer_value": peer, "ratio": value / peer,
        });
        println!("{row}");
    }
}
