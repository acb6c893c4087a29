//! Steps per second from actor to learner over TCP on this machine: two 128×128 images each (98,304
//! bytes), decoded, inserted into the replay as images, and acknowledged when the disk has them.
//! Prints one line of JSON; what the disk alone does with the same bytes goes to stderr.
//!
//! The peer's figure is LeRobot 0.4.4's for one transition as it sends them, as float32, without
//! its buffer; sent as uint8, which it does not, it reaches 1143/s. Its buffer is not on disk.

use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    ops::Range,
    path::Path,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hilt_learner::{
    ingest::Ingest,
    replay::{HostBatch, Replay, Which},
};
use hilt_link::{
    ActorConfig, ActorLink, EntrySource, LearnerConfig, LearnerLink, SourceError, WindowLimits,
};
use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step, noise::Uniforms,
};

const PEER_STEPS_PER_S: f64 = 494.0;
const MEASURED: Duration = Duration::from_secs(4);
/// How far the producer may be ahead of the acknowledgements, so that the stream is measured and
/// not the reading of a log.
const AHEAD: u64 = 300;
const RUN: RunId = RunId(1);
const SIDE: u32 = 128;
const STEP_BYTES: usize = 2 * 3 * (SIDE * SIDE) as usize;
/// Distinct frames, more than the processor's caches hold (48 MiB).
const FRAMES: u64 = 1024;
/// The disk alone: so many steps are written between two syncs.
const GROUP: u64 = 85;

fn spec() -> RigSpec {
    let camera = |name: &str| CameraSpec {
        name: name.to_owned(),
        height: SIDE,
        width: SIDE,
    };
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
        cameras: vec![camera("front"), camera("wrist")],
        proprio: (0..19).map(|i| format!("p{i}")).collect(),
        policy_hz: 10,
    }
}

/// Every step of the bench is made up: any of them can be read back, or compared with.
struct Endless(Vec<Arc<[u8]>>);

impl Endless {
    fn new() -> Self {
        let frame = |seed| {
            let mut stream = Uniforms::new(seed);
            let words = (0..SIDE * SIDE * 3 / 8).flat_map(|_| stream.bits().to_le_bytes());
            words.collect::<Arc<[u8]>>()
        };
        Self((0..FRAMES).map(frame).collect())
    }

    fn frame(&self, sequence: u64, camera: u64) -> &Arc<[u8]> {
        &self.0[((2 * sequence + camera) % FRAMES) as usize]
    }

    fn entry(&self, sequence: u64) -> Entry {
        let image = |camera| Image {
            captured_ns: sequence,
            height: SIDE,
            width: SIDE,
            rgb: self.frame(sequence, camera).clone(),
        };
        Entry {
            run: RUN,
            sequence,
            episode: 0,
            index: sequence as u32,
            record: Record::Step(Step {
                action: vec![0.1; 7],
                source: ActionSource::Policy,
                reward: sequence as f32,
                grasp_penalty: 0.0,
                terminated: false,
                truncated: false,
                label: None,
                policy_version: 1,
                noise_seed: sequence,
                next: Observation {
                    captured_ns: sequence,
                    proprio: vec![0.2; 19],
                    images: vec![image(0), image(1)],
                },
            }),
        }
    }
}

impl EntrySource for &'static Endless {
    fn read_from(
        &mut self,
        wanted: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SourceError> {
        let count = (max_bytes / 100_000).max(1);
        Ok(wanted.take(count).map(|s| self.entry(s)).collect())
    }
}

/// Steps per second that were acknowledged during [`MEASURED`].
fn measure(made: &'static Endless, replay: &RwLock<Replay>) -> Result<f64> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = vec![format!("tcp/{address}")];
    let learner = LearnerLink::open(LearnerConfig {
        session: "bench".to_owned(),
        listen: endpoint.clone(),
        queue_bytes: LearnerConfig::QUEUE_BYTES,
        resume: Default::default(),
    })?;
    let actor = ActorLink::open(
        ActorConfig {
            session: "bench".to_owned(),
            connect: endpoint,
            run: RUN,
            window: WindowLimits::default(),
        },
        Box::new(made),
    )?;
    let ingest = Ingest::images(spec())?;
    let (entries, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let steps_per_s = std::thread::scope(|scope| {
        let (learner, entries, ended) = (&learner, &entries, &ended);
        let ingesting = scope.spawn(move || {
            ingest.run(learner, replay, ended, |_| {
                entries.fetch_add(1, Ordering::Relaxed);
            })
        });
        let (begun, mut first, mut sequence) = (Instant::now(), None, 0);
        let value = loop {
            let acked = actor.stats().acked;
            if sequence < acked + AHEAD {
                actor.notify(made.entry(sequence));
                sequence += 1;
                continue;
            }
            let (since, from) = *first.get_or_insert((Instant::now(), acked));
            // The connection is made in the first moments.
            if acked == 0 {
                first = None;
            } else if since.elapsed() >= MEASURED {
                break (acked - from) as f64 / since.elapsed().as_secs_f64();
            }
            if begun.elapsed() > 10 * MEASURED || ingesting.is_finished() {
                break 0.0;
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        ended.store(true, Ordering::Relaxed);
        ingesting
            .join()
            .map_err(|_| anyhow::anyhow!("ingest panicked"))??;
        ensure!(value > 0.0, "no step was acknowledged");
        anyhow::Ok(value)
    })?;
    eprintln!("{:?}\n{:?}", actor.stats(), learner.stats());
    Ok(steps_per_s)
}

/// What was drawn from the replay is what was sent.
fn check(made: &Endless, replay: &Replay) -> Result<()> {
    let n = 512;
    let mut batch = HostBatch::new(replay.layout(), n);
    ensure!(replay.sample(Which::Online, 0..n, &mut Uniforms::new(1), &mut batch));
    for (i, &reward) in batch.rewards().iter().enumerate() {
        // The observation before the step of this reward.
        let sequence = reward as u64 - 1;
        for camera in 0..2 {
            let mut frames = batch.frames(camera as usize).chunks_exact(STEP_BYTES / 2);
            let same = frames.nth(i) == Some(&**made.frame(sequence, camera));
            ensure!(same, "step {sequence} came back changed");
        }
    }
    Ok(())
}

/// Steps per second when their bytes are just written to a file and synced in groups.
fn disk_alone(made: &Endless, dir: &Path) -> Result<f64> {
    let (mut file, start) = (File::create(dir.join("plain"))?, Instant::now());
    let mut steps = 0;
    while start.elapsed() < MEASURED / 4 {
        for step in steps..steps + GROUP {
            file.write_all(made.frame(step, 0))?;
            file.write_all(made.frame(step, 1))?;
        }
        file.sync_data()?;
        steps += GROUP;
    }
    Ok(steps as f64 / start.elapsed().as_secs_f64())
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().context("a folder for the store (TMPDIR chooses where)")?;
    let made: &'static Endless = Box::leak(Box::new(Endless::new()));
    let ingest = Ingest::images(spec())?;
    let (layout, identity) = (ingest.layout(), ingest.identity());
    let store = Replay::open(&dir.path().join("replay"), layout, identity, 1_000_000)?;
    let replay = RwLock::new(store);
    let value = measure(made, &replay)?;
    let store = replay
        .into_inner()
        .map_err(|_| anyhow::anyhow!("ingest panicked"))?;
    check(made, &store)?;
    let floor = disk_alone(made, dir.path())?;
    eprintln!("the disk alone, {GROUP} steps a sync: {floor:.0} steps/s");
    let row = serde_json::json!({
        "name": "stream.steps_per_s", "value": value.round(), "unit": "1/s",
        "peer": "LeRobot 0.4.4 (cited)", "peer_value": PEER_STEPS_PER_S,
        "ratio": value / PEER_STEPS_PER_S,
    });
    println!("{row}");
    Ok(())
}
