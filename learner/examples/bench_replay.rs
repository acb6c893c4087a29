//! Bytes on disk per stored step, for two 128×128 cameras, as ResNet-10 maps and as images.
//!
//! Rows (JSON lines on stdout): what the file system has given the store's folder, divided by the
//! steps in it: headers, episodes' first observations and the unused end of the last segment count.
//! Push and sample rates go to stderr, those of the demo's narrow maps (4×4×64) too, without and with
//! shifted copies; the files are then in the page cache.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use hilt_learner::replay::{HostBatch, Layout, Replay, Row, RowFlags, Which};
use hilt_protocol::{RunId, noise::Uniforms};

/// Enough that the last segment's unused end (under 16 MiB) is below 1 KiB per step.
const STEPS: u64 = 20_000;
const EPISODE_STEPS: u64 = 100;
const BATCH: usize = 256;
const BATCHES: u32 = 40;

fn layout(frame_bytes: usize, copies: usize) -> Layout {
    Layout {
        cameras: 2,
        frame_bytes,
        copies,
        proprio: 12,
        action: 7,
    }
}

/// Frames that a file system cannot compress.
fn frame(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Uniforms::new(seed);
    (0..bytes / 8)
        .flat_map(|_| random.bits().to_le_bytes())
        .collect()
}

/// Bytes that the file system has set aside for the files of a folder.
fn bytes_on_disk(dir: &Path) -> Result<u64> {
    fs::read_dir(dir)?.try_fold(0, |sum, file| Ok(sum + file?.metadata()?.blocks() * 512))
}

/// Pushes [`STEPS`] steps in episodes of [`EPISODE_STEPS`].
fn fill(replay: &mut Replay, layout: Layout) -> Result<()> {
    let frames = [1, 2].map(|seed| frame(layout.copies * layout.frame_bytes, seed));
    let frames = [frames[0].as_slice(), frames[1].as_slice()];
    let rows = STEPS / EPISODE_STEPS * (EPISODE_STEPS + 1);
    for sequence in 0..rows {
        let index = sequence % (EPISODE_STEPS + 1);
        let row = Row {
            run: RunId(1),
            sequence,
            episode: sequence / (EPISODE_STEPS + 1),
            flags: RowFlags {
                reset: index == 0,
                terminated: index == EPISODE_STEPS,
                ..RowFlags::default()
            },
            reward: 0.0,
            grasp_penalty: 0.0,
            action: &[0.0; 7],
            proprio: &[0.0; 12],
            frames: &frames,
        };
        replay.push(&row)?;
    }
    Ok(())
}

/// Fills a store and returns its bytes per step.
fn measure(name: &str, layout: Layout) -> Result<f64> {
    let dir = tempfile::tempdir().context("a folder for the store (TMPDIR chooses where)")?;
    let mut replay = Replay::open(dir.path(), layout, [0; 64], STEPS as usize * 2)?;

    let start = Instant::now();
    fill(&mut replay, layout)?;
    let push_s = start.elapsed().as_secs_f64();
    replay.sync()?;
    let durable_s = start.elapsed().as_secs_f64();
    let steps = replay.len(Which::Online) as u64;
    ensure!(
        steps == STEPS,
        "{steps} steps can be sampled, not all {STEPS}"
    );

    let mut batch = HostBatch::new(layout, BATCH);
    let mut random = Uniforms::new(3);
    replay.sample(Which::Online, 0..BATCH, &mut random, &mut batch);
    let start = Instant::now();
    for _ in 0..BATCHES {
        replay.sample(Which::Online, 0..BATCH, &mut random, &mut batch);
    }
    let sample_ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(BATCHES);
    let rate = |seconds: f64| STEPS as f64 / seconds;
    eprintln!(
        "{name}: push {:.0} steps/s ({:.0} durable), {sample_ms:.2} ms per batch of {BATCH}",
        rate(push_s),
        rate(durable_s)
    );

    Ok(bytes_on_disk(dir.path())? as f64 / steps as f64)
}

fn main() -> Result<()> {
    let narrow = 4 * 4 * 64 * 2;
    measure("4x4x64 maps", layout(narrow, 1))?;
    measure("4x4x64 maps, 4 shifted copies", layout(narrow, 4))?;
    for (name, frame_bytes) in [
        ("replay.map_bytes_per_step", 4 * 4 * 512 * 2),
        ("replay.image_bytes_per_step", 128 * 128 * 3),
    ] {
        let row = serde_json::json!({
            "name": name, "value": measure(name, layout(frame_bytes, 1))?, "unit": "B",
            "peer": null, "peer_value": null, "ratio": null,
        });
        println!("{row}");
    }
    Ok(())
}
