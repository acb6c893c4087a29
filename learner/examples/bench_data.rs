//! Frames per second from data on disk into replay: what two 128×128 cameras showed, as our own run, as LeRobot's
//! dataset (AV1 videos) and as HIL-SERL's transitions. A frame is a step with the pictures of both cameras.
//!
//! Rows (JSON lines on stdout), with LeRobot itself in the same run as the peer, where `cargo xtask setup` has
//! installed it:
//! - `data.FORM_frames_per_s`: into a replay of images. The peer only goes through its dataset, frame by frame.
//! - `data.lerobot_replay_frames_per_s`: the same figure, beside the peer when it fills its own replay.
//! - `data.read_FORM_frames_per_s`: read alone. The peer is its `DataLoader`, batches of 64, in one process.
//! - `data.lerobot_maps_frames_per_s`: into a replay of ResNet-10 maps, which one core encodes: what that costs.
//!
//! The time until the disk has the replay is not in them, and the files are in the page cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, RwLock},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use hilt_learner::{
    encoder::{Encoder, EncoderConfig},
    ingest::Ingest,
    replay::{Replay, Which},
};
use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
    noise::{Uniforms, mix},
};
use hilt_recording::{
    Data, Recording, RunWriter,
    convert::{Format, convert},
};
use serde::Deserialize;
use tch::{Device, Kind};

const SIDE: u32 = 128;
const EPISODES: u64 = 10;
const EPISODE_STEPS: u32 = 300;
const FRAMES: u64 = EPISODES * EPISODE_STEPS as u64;
/// With what was seen first in each episode.
const ENTRIES: u64 = FRAMES + EPISODES;
/// Encoding them takes long enough.
const ENCODED: u64 = 60;
/// Each figure is of at least so much time.
const SECONDS: f64 = 3.0;

fn spec() -> RigSpec {
    let camera = |name: &str| CameraSpec {
        name: name.into(),
        height: SIDE,
        width: SIDE,
    };
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X, Axis::Y, Axis::Z],
        cameras: vec![camera("front"), camera("wrist")],
        proprio: (0..12).map(|i| format!("state.{i}")).collect(),
        policy_hz: 10,
    }
}

/// A textured table, a block that moves over it, and a sensor's noise: neither flat nor random, like a camera's.
fn picture(camera: u64, at: u64) -> Arc<[u8]> {
    let mut random = Uniforms::new(mix(at * 2 + camera));
    let block = [at * 3 % 100, at * 2 % 90];
    let pixel = |i: u64| {
        let (row, column) = (i / u64::from(SIDE), i % u64::from(SIDE));
        let inside = row.wrapping_sub(block[0]) < 24 && column.wrapping_sub(block[1]) < 24;
        let texture = mix(row / 4 * 64 + column / 4 + camera * 4096) % 32;
        let level = if inside { 180 } else { 60 + row / 2 + texture };
        let bits = random.bits();
        [0, 8, 16].map(|shift| (level + shift + (bits >> shift) % 8) as u8)
    };
    (0..u64::from(SIDE * SIDE)).flat_map(pixel).collect()
}

/// What both cameras showed.
type Pictures = [Arc<[u8]>; 2];

fn observation(at: u64, pictures: &Pictures) -> Observation {
    let captured_ns = at * 100_000_000;
    let image = |rgb: &Arc<[u8]>| Image {
        captured_ns,
        height: SIDE,
        width: SIDE,
        rgb: rgb.clone(),
    };
    Observation {
        captured_ns,
        proprio: (0..12).map(|i| (at + i) as f32 / 100.0).collect(),
        images: pictures.iter().map(image).collect(),
    }
}

/// An entry of episodes that all show these pictures.
fn entry(sequence: u64, pictures: &[Pictures]) -> Entry {
    let rows = pictures.len() as u64;
    let (episode, index) = (sequence / rows, (sequence % rows) as u32);
    let seen = observation(sequence, &pictures[index as usize]);
    let terminated = index == EPISODE_STEPS;
    let record = match index {
        0 => Record::Reset(seen),
        _ => Record::Step(Step {
            action: vec![0.25, -0.5, 0.75, 1.0],
            source: ActionSource::Human,
            reward: f32::from(u8::from(terminated)),
            grasp_penalty: 0.0,
            terminated,
            truncated: false,
            label: None,
            policy_version: 0,
            noise_seed: 0,
            next: seen,
        }),
    };
    Entry {
        run: RunId(7),
        sequence,
        episode,
        index,
        record,
    }
}

/// A run, and the same as other programs keep it: name and place of each.
fn write(dir: &Path) -> Result<[(&'static str, PathBuf); 3]> {
    let [run, lerobot, hil_serl] = ["run", "lerobot", "hil_serl.pkl"].map(|name| dir.join(name));
    let mut writer = RunWriter::create(&run, RunId(7), &spec(), Default::default())?;
    let pictures: Vec<Pictures> = (0..=u64::from(EPISODE_STEPS))
        .map(|at| [0, 1].map(|camera| picture(camera, at)))
        .collect();
    for sequence in 0..ENTRIES {
        writer.append(&entry(sequence, &pictures))?;
        // As the robot writes it.
        writer.flush()?;
    }
    writer.finish()?;
    let data = Data::open(&run, None)?;
    let start = Instant::now();
    convert(&data, &lerobot, Format::LeRobot, "push the block", |_| true)?;
    let rate = FRAMES as f64 / start.elapsed().as_secs_f64();
    eprintln!("written as LeRobot's dataset: {rate:.0} frames/s");
    convert(&data, &hil_serl, Format::HilSerl, "", |_| true)?;
    Ok([("run", run), ("lerobot", lerobot), ("hil_serl", hil_serl)])
}

/// What LeRobot itself comes to, frames per second.
#[derive(Deserialize)]
struct LeRobot {
    version: String,
    decoder: String,
    /// `dataset[i]`, one after the other.
    frame_by_frame: f64,
    /// A loader's batches, in its own process.
    batches: f64,
    /// By a process for each core.
    batches_by_workers: f64,
    /// An episode into its own replay, in memory.
    into_its_replay: f64,
}

/// Has LeRobot read its dataset; nothing where it is not installed.
fn lerobot(dataset: &Path, home: &Path) -> Result<Option<LeRobot>> {
    // Set by `.cargo/config.toml` for what cargo runs.
    let python = env::var_os("HILT_PYTHON").filter(|python| Path::new(python).exists());
    let Some(python) = python else {
        eprintln!(
            "LeRobot is not installed, so that it is no peer; get it with: cargo xtask setup"
        );
        return Ok(None);
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench_data.py");
    let out = Command::new(python)
        .arg(script)
        .arg(dataset)
        .env("HF_HOME", home)
        .env("HF_HUB_OFFLINE", "1")
        .env("CUDA_VISIBLE_DEVICES", "")
        // Its pictures are so small that threads would wait for each other more than they help.
        .env("OMP_NUM_THREADS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .context("cannot start Python")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "LeRobot cannot read it: {said}");
    let measured: LeRobot = serde_json::from_slice(&out.stdout)?;
    eprintln!(
        "LeRobot {} ({}): {:.0} frames/s one by one, {:.0} in batches, {:.0} by a process for each core, {:.0} into its own replay",
        measured.version,
        measured.decoder,
        measured.frame_by_frame,
        measured.batches,
        measured.batches_by_workers,
        measured.into_its_replay
    );
    Ok(Some(measured))
}

/// What was done in some time: frames, seconds.
type Done = (u64, f64);

/// Does it again and again; frames per second.
fn rate(mut once: impl FnMut() -> Result<Done>) -> Result<f64> {
    let (mut frames, mut seconds) = (0, 0.0);
    while seconds < SECONDS {
        let (more, took_s) = once()?;
        frames += more;
        seconds += took_s;
    }
    Ok(frames as f64 / seconds)
}

fn read(path: &Path) -> Result<Done> {
    let (start, mut frames) = (Instant::now(), 0);
    for entry in Recording::open(path, None)?.entries() {
        frames += u64::from(matches!(entry?.record, Record::Step(_)));
    }
    ensure!(frames == FRAMES, "{frames} frames, not {FRAMES}");
    Ok((frames, start.elapsed().as_secs_f64()))
}

/// Reads the first entries into a new replay, without waiting for the disk to have it.
fn fill(path: &Path, dir: &Path, ingest: &Ingest, entries: u64) -> Result<Done> {
    let start = Instant::now();
    let place = dir.join("replay");
    let replay = Replay::open(&place, ingest.layout(), ingest.identity(), usize::MAX)?;
    let replay = RwLock::new(replay);
    let recording = Recording::open(path, None)?;
    for entry in recording.entries().take(entries as usize) {
        ingest.push(&entry?, true, &replay)?;
    }
    let took_s = start.elapsed().as_secs_f64();
    let replay = replay.into_inner().context("a push panicked")?;
    let frames = replay.len(Which::Demonstrations) as u64;
    ensure!(frames >= entries - EPISODES, "only {frames} frames");
    drop(replay);
    fs::remove_dir_all(&place)?;
    Ok((frames, took_s))
}

fn row(name: &str, value: f64, peer: Option<(String, f64)>) {
    let ratio = peer.as_ref().map(|(_, peer)| value / peer);
    let (peer, peer_value) = peer.unzip();
    let row = serde_json::json!({
        "name": name, "value": value, "unit": "frames/s",
        "peer": peer, "peer_value": peer_value, "ratio": ratio,
    });
    println!("{row}");
}

fn main() -> Result<()> {
    hilt_learner::memory::keep_freed();
    let dir = tempfile::tempdir().context("a folder for the data (TMPDIR chooses where)")?;
    let forms = write(dir.path())?;
    let [_, (_, dataset), _] = &forms;
    let peer = lerobot(dataset, dir.path())?;
    let images = Ingest::images(spec())?;
    for (name, path) in &forms {
        let peer = peer.as_ref().filter(|_| path == dataset);
        let of_peer = |how: &str, figure: fn(&LeRobot) -> f64| {
            peer.map(|peer| (format!("LeRobot {}{how}", peer.version), figure(peer)))
        };
        let value = rate(|| fill(path, dir.path(), &images, ENTRIES))?;
        let one_by_one = of_peer("", |peer| peer.frame_by_frame);
        row(&format!("data.{name}_frames_per_s"), value, one_by_one);
        if path == dataset {
            let into_its = of_peer(", ReplayBuffer", |peer| peer.into_its_replay);
            row("data.lerobot_replay_frames_per_s", value, into_its);
        }
        let batches = of_peer(", DataLoader", |peer| peer.batches);
        let value = rate(|| read(path))?;
        row(&format!("data.read_{name}_frames_per_s"), value, batches);
    }
    // As when entries come from a robot.
    tch::set_num_threads(1);
    let config = EncoderConfig::resnet10();
    let encoder = Encoder::new(config, Kind::Float, Device::Cpu, 1);
    let maps = Ingest::maps(spec(), &encoder, 1);
    let value = rate(|| fill(dataset, dir.path(), &maps, ENCODED))?;
    row("data.lerobot_maps_frames_per_s", value, None);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("load: {}", load.trim());
    Ok(())
}
