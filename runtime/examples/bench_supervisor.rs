//! How long an arm goes on after its robot process was killed: from SIGKILL in mid-motion to the first
//! hold on the wire, and until the arm stands. The whole robot process is there: an arm of emulated
//! servos behind a pseudo-terminal, the control thread, the supervisor.
//!
//! This program is all three processes: the one that kills, the robot and its supervisor.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use hilt_drivers::{
    EpisodeStart,
    bus::feetech::Request,
    emulated::{Heard, PtyBus, desk_arm},
};
use hilt_protocol::noise::mix;
use hilt_realtime::{Clock, Monotonic};
use hilt_runtime::{brain::random_action, cell::Cell, rig::Rig, supervisor};
use rustix::process::{Pid, Signal, kill_process};

const KILLS: usize = 40;
/// A servo that turns faster is in motion, counts per second.
const MOVING: f64 = 50.0;
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(supervisor::COMMAND) => supervisor::run(),
        Some("robot") => robot(arguments.get(2).context("robot PORT")?),
        _ => kills(),
    }
}

/// Moves its arm about until it is killed.
fn robot(port: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/emulated-dual.toml");
    let set = [
        "mode=single-arm-learned-gripper".to_owned(),
        format!("ports=[{port:?}]"),
        // What a busy machine does to frames is not measured here.
        "ages.frame_ms=5000".to_owned(),
    ];
    let mut rig = Rig::read(&file, &set)?;
    rig.supervisor = Some(PathBuf::from("/proc/self/exe"));
    let mut cell = Cell::open(&rig)?;
    let (range_m, seed) = (0.0, 0);
    cell.reset(EpisodeStart { range_m, seed })?;
    for step in 0.. {
        cell.step(&random_action(&rig.spec(), mix(step / 4)))?;
    }
    Ok(())
}

/// Kills robots, and says how long their arms went on.
fn kills() -> Result<()> {
    let (mut held_ms, mut stood_ms) = (Vec::new(), Vec::new());
    for kill in 0..KILLS {
        let (held_ns, stood_ns) = killed().with_context(|| format!("kill {kill}"))?;
        held_ms.push(held_ns as f64 * 1e-6);
        stood_ms.push(stood_ns as f64 * 1e-6);
    }
    for (name, mut all) in [("kill_to_hold", held_ms), ("kill_to_standstill", stood_ms)] {
        all.sort_by(f64::total_cmp);
        let (middle, last) = (all[all.len() / 2], all[all.len() - 1]);
        for (what, value) in [("p50", middle), ("max", last)] {
            println!(
                r#"{{"name":"supervisor.{name}_{what}_ms","value":{value},"unit":"ms","peer":null,"peer_value":null,"ratio":null}}"#
            );
        }
    }
    Ok(())
}

/// From the kill to the first hold after it, and until the arm stands, nanoseconds.
fn killed() -> Result<(u64, u64)> {
    let link = env::temp_dir().join(format!("hilt-bench-bus-{}", std::process::id()));
    let bus = PtyBus::start(desk_arm::bus(), &link)?;
    let fastest = || {
        bus.handle().look(|bus| {
            let speeds = bus.servos().map(|servo| servo.counts_per_s.abs());
            speeds.fold(0.0, f64::max)
        })
    };
    let mut robot = Command::new("/proc/self/exe")
        .arg("robot")
        .arg(bus.path())
        .stderr(Stdio::piped())
        .spawn()?;
    until("it moves", || fastest() > MOVING)?;
    let kill_ns = Monotonic.now_ns();
    robot.kill()?;
    let sets_goals = |heard: &&Heard| {
        heard.at_ns > kill_ns && matches!(heard.request(), Some(Request::SyncWrite { .. }))
    };
    // The robot's own last goal may be on the wire when it dies: two that are alike are a hold.
    let hold_ns = || {
        bus.handle().look(|bus| {
            let goals: Vec<_> = bus.heard().filter(sets_goals).collect();
            let hold = goals
                .windows(2)
                .find(|two| two[0].bytes() == two[1].bytes());
            hold.map(|two| two[0].at_ns)
        })
    };
    until("the arm is told to hold", || hold_ns().is_some())?;
    let held_ns = hold_ns().context("it was there")?;
    until("it stands", || fastest() < 1.0)?;
    let stood_ns = Monotonic.now_ns();
    robot.wait()?;
    let words = robot.stderr.take().context("the robot has no stderr")?;
    for line in BufReader::new(words).lines() {
        if let Some((_, id)) = line?.split_once("kill ") {
            let id = Pid::from_raw(id.trim().parse()?).context("no process")?;
            kill_process(id, Signal::TERM)?;
            return Ok((held_ns - kill_ns, stood_ns - kill_ns));
        }
    }
    bail!("the supervisor has not said how to end it")
}

fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let began_ns = Monotonic.now_ns();
    while !done() {
        if u128::from(Monotonic.now_ns() - began_ns) > PATIENCE.as_nanos() {
            bail!("never happened: {what}");
        }
        Monotonic.sleep_until_ns(Monotonic.now_ns() + 200_000);
    }
    Ok(())
}
