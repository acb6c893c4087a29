//! From the learner's new weights to the robot's acting on them, over zenoh TCP on this machine.
//!
//! The learner's side builds a snapshot of an agent of the demo's size, with its probe, and publishes
//! it. On the robot's side the loader thread verifies it while the policy thread acts without a
//! pause, as in lockstep, and looks for new weights before each step. Both ends are in one process:
//! one clock.
//!
//! Rows (JSON lines on stdout): `snapshot.publish_to_active_ms`, the median, counted from before the
//! snapshot is built to the return of the swap; `snapshot.swap_us`, p99, what the policy thread pays
//! for taking it. The rest of both distributions goes to stderr: the tail of the first belongs to
//! whoever else wants the cores.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hilt_learner::onnx::Weights;
use hilt_link::{ActorConfig, ActorLink, LearnerConfig, LearnerLink, RunLog, WindowLimits};
use hilt_protocol::{GraphName, ModelSnapshot, Observation, RunId};
use hilt_runtime::{
    inference::{Engine, OnnxBrain, PolicyFiles},
    learner_side::snapshots,
};
use hilt_tests::Untrained;

const SNAPSHOTS: u64 = 300;
const WARM_UP: u64 = 20;
const OBSERVATIONS: u64 = 8;
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A swap as the policy thread saw it.
struct Swapped {
    version: u64,
    at: Instant,
    took: Duration,
}

/// Acts without a pause until `ended`; tells of every swap.
fn act(
    mut brain: OnnxBrain,
    seen: &[Observation],
    ended: &AtomicBool,
    swaps: &mpsc::Sender<Swapped>,
) -> Result<()> {
    for step in 0.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let before = brain.version();
        let start = Instant::now();
        let refused = brain.swap();
        let (at, version) = (Instant::now(), brain.version());
        if let Some((graph, refused)) = refused.first() {
            anyhow::bail!("{}: {refused}", graph.name());
        }
        if version != before {
            let took = at - start;
            swaps.send(Swapped { version, at, took })?;
        }
        if brain.can_act() {
            brain.act(&seen[step % seen.len()], step as u64, true)?;
        }
    }
    Ok(())
}

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * share) as usize]
}

fn row(name: &str, unit: &str, value: f64) {
    let row = serde_json::json!({
        "name": name, "value": value, "unit": unit,
        "peer": null, "peer_value": null, "ratio": null,
    });
    println!("{row}");
}

fn main() -> Result<()> {
    let made = Untrained::new(1)?;
    let graphs = made.graphs(Weights::Inputs);
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = vec![format!("tcp/{address}")];
    let learner = LearnerLink::open(LearnerConfig {
        session: "bench".to_owned(),
        listen: endpoint.clone(),
        queue_bytes: LearnerConfig::QUEUE_BYTES,
        resume: Default::default(),
    })?;
    learner.serve_graph(&graphs.encoder);
    learner.serve_graph(&graphs.policy);

    let link = Arc::new(ActorLink::open(
        ActorConfig {
            session: "bench".to_owned(),
            connect: endpoint,
            run: RunId(1),
            window: WindowLimits::default(),
        },
        // No step is sent.
        Box::new(RunLog::new("nowhere".into())),
    )?);
    let files = PolicyFiles {
        encoder: link.fetch_graph(GraphName::Encoder, PATIENCE)?,
        policy: link.fetch_graph(GraphName::Policy, PATIENCE)?,
        classifier: None,
    };
    let engine = Engine::open(&made.rig.providers, made.rig.inference_threads)?;
    let (arrival, arrivals) = mpsc::channel();
    let brain = OnnxBrain::load(&engine, &made.spec, &files, |graph| {
        let (mut source, arrival) = (snapshots(Arc::clone(&link), graph), arrival.clone());
        Some(Box::new(move |timeout| {
            let snapshot = source(timeout)?;
            // Nobody listens any more: the bench is over.
            let _ = arrival.send(Instant::now());
            Some(snapshot)
        }))
    })?;
    let seen: Vec<Observation> = (0..OBSERVATIONS).map(|s| made.observation(s)).collect();

    let (ended, (sender, swaps)) = (AtomicBool::new(false), mpsc::channel());
    let (mut whole, mut built, mut carried, mut verified, mut took) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    thread::scope(|scope| {
        let acting = scope.spawn(|| act(brain, &seen, &ended, &sender));
        let mut publish = || -> Result<()> {
            for version in 1..=WARM_UP + SNAPSHOTS {
                let start = Instant::now();
                let snapshot = made.snapshot(&graphs.policy, version);
                let ready = Instant::now();
                learner.publish_snapshot(&snapshot);
                let swapped = swaps
                    .recv_timeout(PATIENCE)
                    .context("the snapshot did not become active")?;
                ensure!(swapped.version == version, "another version became active");
                let arrived = arrivals.recv()?;
                if version > WARM_UP {
                    whole.push(swapped.at - start);
                    built.push(ready - start);
                    carried.push(arrived - ready);
                    verified.push(swapped.at - arrived);
                    took.push(swapped.took);
                }
                bytes = size(&snapshot);
                // At any moment of the policy's step.
                thread::sleep(Duration::from_micros(version * 997 % 3000));
            }
            Ok(())
        };
        let published = publish();
        ended.store(true, Ordering::Relaxed);
        let acted = acting
            .join()
            .map_err(|_| anyhow::anyhow!("the policy thread panicked"))?;
        acted.and(published)
    })?;

    for (what, times) in [
        ("publish to active", &mut whole),
        ("- to build the snapshot", &mut built),
        ("- on its way", &mut carried),
        ("- to verify it, and to the end of the step", &mut verified),
        ("swap", &mut took),
    ] {
        eprintln!(
            "{what}: p50 {:?}, p99 {:?}, worst {:?}",
            percentile(times, 0.5),
            percentile(times, 0.99),
            percentile(times, 1.0)
        );
    }
    eprintln!("{SNAPSHOTS} snapshots of {} KiB", bytes >> 10);
    let milliseconds = percentile(&mut whole, 0.5).as_secs_f64() * 1e3;
    row("snapshot.publish_to_active_ms", "ms", milliseconds);
    let microseconds = percentile(&mut took, 0.99).as_secs_f64() * 1e6;
    row("snapshot.swap_us", "us", microseconds);
    Ok(())
}

fn size(snapshot: &ModelSnapshot) -> usize {
    snapshot.weights.iter().map(|w| 4 * w.data.len()).sum()
}
