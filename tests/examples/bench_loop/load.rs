//! What the machine is made to do beside the loop.

use std::{
    env,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use hilt_drivers::{Camera, sim::LiveLift};
use hilt_learner::onnx::Weights;
use hilt_protocol::{ModelSnapshot, Observation};
use hilt_realtime::{Clock, Monotonic, cores};
use hilt_runtime::{
    control::FrameTimes,
    inference::{Engine, OnnxBrain},
};
use hilt_tests::Untrained;
use rustix::process::{Pid, Signal, kill_process};

/// More than one, so that the encoder's maps of the one before are of no use.
const OBSERVATIONS: u64 = 8;
/// Of the cameras.
const FRAME_NS: u64 = 1_000_000_000 / 30;
/// If this process is killed, `stress-ng` ends by itself after so many seconds.
const STRESS_S: u64 = 900;

/// A swap as the policy thread saw it.
pub struct Swapped {
    /// What became active.
    pub version: u64,
    /// How long the policy thread was busy with it.
    pub took: Duration,
}

/// The load, until it is stopped.
pub struct Load {
    /// Where the loader's next snapshot is put.
    pub snapshots: mpsc::Sender<ModelSnapshot>,
    /// What the policy thread says.
    pub swaps: mpsc::Receiver<Swapped>,
    /// To be copied with another version.
    pub snapshot: ModelSnapshot,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<u64>>>,
    stress: Vec<Child>,
}

impl Load {
    /// Starts it, and waits until the policy acts. `core`: the loop's.
    pub fn start(made: &Untrained, frames: &Arc<FrameTimes>, core: Option<usize>) -> Result<Self> {
        let graphs = made.graphs(Weights::Inputs);
        let snapshot = made.snapshot(&graphs.policy, 1);
        let engine = Engine::open(&made.rig.providers, made.rig.inference_threads)?;
        let (snapshots, arriving) = mpsc::channel::<ModelSnapshot>();
        let mut arriving = Some(arriving);
        let brain = OnnxBrain::load(&engine, &made.spec, &graphs, |_| {
            // Asked for once: there is no classifier.
            let arriving = arriving.take()?;
            Some(Box::new(move |timeout| arriving.recv_timeout(timeout).ok()))
        })?;
        snapshots.send(snapshot.clone())?;

        let ending = Arc::new(AtomicBool::new(false));
        let (tell, swaps) = mpsc::channel();
        let seen: Vec<_> = (0..OBSERVATIONS).map(|s| made.observation(s)).collect();
        let over = Arc::clone(&ending);
        let mut threads = vec![thread::spawn(move || act(brain, &seen, &over, &tell))];
        swaps.recv().context("the policy got no weights")?;

        let scene = made.rig.scene.as_ref().context("the rig has no scene")?;
        for (index, camera) in LiveLift::new(scene)?.cameras().into_iter().enumerate() {
            let (over, frames) = (Arc::clone(&ending), Arc::clone(frames));
            threads.push(thread::spawn(move || film(camera, index, &over, &frames)));
        }
        Ok(Self {
            snapshots,
            swaps,
            snapshot,
            ending,
            threads,
            stress: stress(core)?,
        })
    }

    /// Ends it, and says how much was done.
    pub fn stop(mut self) -> Result<()> {
        self.end();
        for stress in &mut self.stress {
            let ended = stress.try_wait()?;
            ensure!(ended.is_none(), "stress-ng ended before its time");
        }
        let mut done = Vec::new();
        for thread in self.threads.drain(..) {
            done.push(
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread of the load panicked"))??,
            );
        }
        eprintln!("the load: {done:?} policy steps and frames of each camera");
        Ok(())
    }

    fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
        for stress in &mut self.stress {
            // SIGTERM: it ends its workers. That it is gone already is said by `stop`.
            if let Some(pid) = i32::try_from(stress.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = stress.wait();
        }
    }
}

/// Acts without a pause; tells of every swap. Returns the steps taken.
fn act(
    mut brain: OnnxBrain,
    seen: &[Observation],
    over: &AtomicBool,
    swaps: &mpsc::Sender<Swapped>,
) -> Result<u64> {
    let mut steps = 0;
    while !over.load(Ordering::Relaxed) {
        let (before, start_ns) = (brain.version(), Monotonic.now_ns());
        let refused = brain.swap();
        let took = Duration::from_nanos(Monotonic.now_ns() - start_ns);
        if let Some((graph, refused)) = refused.first() {
            return Err(anyhow!("{}: {refused}", graph.name()));
        }
        let version = brain.version();
        if version != before {
            // Nobody listens any more: the bench is over.
            let _ = swaps.send(Swapped { version, took });
        }
        match brain.can_act() {
            true => {
                brain.act(&seen[steps as usize % seen.len()], steps, true)?;
                steps += 1;
            }
            false => thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(steps)
}

/// Renders at the rate of a camera. Returns the frames.
fn film(
    mut camera: impl Camera,
    index: usize,
    over: &AtomicBool,
    frames: &FrameTimes,
) -> Result<u64> {
    let (mut due_ns, mut rendered) = (Monotonic.now_ns(), 0);
    while !over.load(Ordering::Relaxed) {
        frames.set(index, camera.newest()?.captured_ns);
        rendered += 1;
        due_ns = (due_ns + FRAME_NS).max(Monotonic.now_ns());
        Monotonic.sleep_until_ns(due_ns);
    }
    Ok(rendered)
}

/// Workers of `stress-ng` at normal priority on every core: on the loop's own for processor, disk and
/// memory, always the same, so that blocks can be compared; on the others for processor and memory.
fn stress(core: Option<usize>) -> Result<Vec<Child>> {
    let (own, others): (Vec<_>, Vec<_>) =
        (cores::usable().into_iter()).partition(|&usable| Some(usable) == core);
    let start = |cores: Vec<usize>, more: &[&str]| {
        let mut command = Command::new("stress-ng");
        command.args(["--quiet", "--vm", "1", "--vm-bytes", "64m"]);
        command.args(more).arg("--temp-path").arg(env::temp_dir());
        command.arg("--cpu").arg(cores.len().to_string());
        command.arg("--taskset").arg(cores::ranges(cores));
        command.arg("--timeout").arg(format!("{STRESS_S}s"));
        let child = command.stdin(Stdio::null()).spawn();
        child.context("cannot run stress-ng; install it with: apt-get install stress-ng")
    };
    let mut children = vec![start(own, &["--io", "1"])?];
    if !others.is_empty() {
        children.push(start(others, &[])?);
    }
    Ok(children)
}
