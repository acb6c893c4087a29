//! What the loop is compared to.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hilt_drivers::Arm;
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic, Wanted};

use super::ours::{Body, WARM_UP_NS};

/// How late each tick of `cyclictest` woke, nanoseconds.
///
/// It prints every value (`-v`), in nanoseconds (`-N`): it keeps them in memory, and another of its
/// threads prints them.
pub fn cyclictest(
    wanted: Wanted,
    priority: u8,
    period_ns: u64,
    duration_ns: u64,
) -> Result<Vec<u64>> {
    let (warm_up, ticks) = (WARM_UP_NS / period_ns, duration_ns / period_ns);
    let mut command = Command::new("cyclictest");
    command.args(["--verbose", "--nsecs", "--threads=1"]);
    command.arg(format!("--interval={}", period_ns / 1000));
    command.arg(format!("--loops={}", warm_up + ticks));
    if let Some(core) = wanted.core {
        command.arg(format!("--affinity={core}"));
    }
    command.arg(format!("--priority={priority}"));
    if wanted.lock_memory {
        command.arg("--mlockall");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cyclictest; install it with: apt-get install rt-tests")?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({})",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let late_ns: Vec<u64> = text.lines().filter_map(value).collect();
    let (all, got) = (warm_up + ticks, late_ns.len());
    ensure!(got as u64 == all, "{command:?} gave {got} values of {all}");
    Ok(late_ns[warm_up as usize..].to_vec())
}

/// The same of the barest loop that sleeps until its deadlines: what is left for a comparison where
/// there is no real-time priority, without which `cyclictest` does not start.
pub fn bare(wanted: Wanted, period_ns: u64, duration_ns: u64) -> Result<Vec<u64>> {
    let work = move || {
        wanted.apply();
        let mut due_ns = Monotonic.now_ns();
        let (warm_up, ticks) = (WARM_UP_NS / period_ns, duration_ns / period_ns);
        let mut late_ns = Vec::with_capacity((warm_up + ticks) as usize);
        for _ in 0..warm_up + ticks {
            due_ns += period_ns;
            Monotonic.sleep_until_ns(due_ns);
            let now_ns = Monotonic.now_ns();
            late_ns.push(now_ns - due_ns);
            due_ns += (now_ns - due_ns) / period_ns * period_ns;
        }
        late_ns.split_off(warm_up as usize)
    };
    let thread = std::thread::spawn(work).join();
    thread.map_err(|_| anyhow::anyhow!("the bare loop panicked"))
}

/// Of a line `thread: count: value`; other lines are talk.
fn value(line: &str) -> Option<u64> {
    let mut numbers = line.split(':').map(|number| number.trim().parse());
    match [numbers.next()?, numbers.next()?, numbers.next()?] {
        [Ok(0), Ok(_), Ok(value)] => Some(value),
        _ => None,
    }
}

/// Number and wake-up, nanoseconds, of the ticks of a loop that sleeps for what is left of its
/// period after its work, as LeRobot's `precise_sleep(1 / fps - dt)`; same core, same priority.
pub fn relative_sleep(
    body: &Body,
    wanted: Wanted,
    period_ns: u64,
    duration_ns: u64,
) -> Result<Vec<(u64, u64)>> {
    let mut arm = body.arm();
    let work = move || {
        wanted.apply();
        let mut wakes = Vec::with_capacity((duration_ns / period_ns) as usize);
        let period = Duration::from_nanos(period_ns);
        for number in 0..duration_ns / period_ns {
            let start = Instant::now();
            let now_ns = Monotonic.now_ns();
            wakes.push((number, now_ns));
            let state = arm.read_state(now_ns, now_ns)?;
            arm.write(&state.joints, GripperCommand::Open)?;
            std::thread::sleep(period.saturating_sub(start.elapsed()));
        }
        Ok(wakes)
    };
    let thread = std::thread::spawn(work).join();
    thread.map_err(|_| anyhow::anyhow!("the relative loop panicked"))?
}
