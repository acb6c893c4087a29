//! The proof: the control thread allocates nothing, frees nothing, waits for no lock, and calls the
//! system for nothing but sleep, clock and bus.
//!
//! - [`counting`]: what a thread allocates and frees, counted, also in C.
//! - [`fence`]: what it may ask of the system. At anything else the kernel ends the process.
//! - [`rig`]: the real loop, arms and fault decorators, over buses in memory or at a serial port;
//!   [`doubles`]: what stands in for the world around them.
//! - [`script`]: what happens to them: every mode, every outcome, every fault.
//!
//! As the kernel's answer is death, each part is a process of its own: this program, started again
//! by itself. Two are the proof; the others do one thing wrong each, and must be caught.
//!
//! What it does not show: a lock that is free. Taking it is no system call.

mod counting;
mod doubles;
mod fence;
mod rig;
mod script;

use std::{
    env,
    os::unix::{process::ExitStatusExt, thread::JoinHandleExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use hilt_realtime::{Clock, Monotonic, Wanted};
use hilt_runtime::{control::ControlLoop, faulty::FaultyClock};
use rustix::process::{Resource, Rlimit, setrlimit};

use counting::Counts;
use doubles::{Jumping, Misdeed};
use fence::{Call, Fence};
use rig::{MEMORY, PTY, Pace, Rig};
use script::Script;

/// How many ticks each rig runs, at least.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// With buses in memory.
    pub memory: u64,
    /// With a bus at a serial port, in which bytes take their time.
    pub pty: u64,
}

/// What was shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Ticks that were run, of both rigs.
    pub ticks: u64,
    /// Of these, over a serial port.
    pub pty_ticks: u64,
    /// By the control thread, in all of them.
    pub allocations: u64,
    /// By the control thread, in all of them.
    pub frees: u64,
    /// System calls that were made: those that cannot be taken from the list.
    pub calls: usize,
}

/// The first argument of the parts.
const PART: &str = "part-of-the-proof";

/// What one of the parts does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// Every scene, again and again.
    Proof,
    /// A little of it, with a misdeed.
    Doing(Misdeed),
    /// A little of it, with one call less on the list.
    Without(Call),
}

impl Part {
    fn all() -> impl Iterator<Item = Self> {
        let misdeeds = Misdeed::COUNTED.into_iter().chain(Misdeed::FENCED);
        let calls = Call::ALL.map(Self::Without);
        [Self::Proof]
            .into_iter()
            .chain(misdeeds.map(Self::Doing))
            .chain(calls)
    }

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Runs the part that this process was started for. `None`: it was not started by the proof.
pub fn part() -> Option<Result<()>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [first, name, rig, ticks] = arguments.as_slice() else {
        return None;
    };
    (first == PART).then(|| {
        let part = Part::all().find(|part| part.name() == *name);
        let pace = if rig == "pty" { PTY } else { MEMORY };
        play(part.context("there is no such part")?, pace, ticks.parse()?)
    })
}

/// What the control thread leaves.
#[derive(Default)]
struct Left {
    fenced: AtomicBool,
    done: AtomicBool,
    allocations: AtomicU64,
    frees: AtomicU64,
}

/// Starts the control thread, as [`hilt_runtime::control::spawn`] does, behind the fence and with its
/// allocations counted. It leaves what was counted, and never ends.
fn start_control(
    mut control: ControlLoop<FaultyClock<Jumping>>,
    fence: Option<Fence>,
    stop: &Arc<AtomicBool>,
) -> Result<(libc::pthread_t, Arc<Left>)> {
    let left = Arc::new(Left::default());
    let (leave, stopped) = (Arc::clone(&left), Arc::clone(stop));
    let (tell, told) = mpsc::channel();
    let body = move || {
        // Where it is granted; without it more ticks are missed, and the proof takes longer.
        let wanted = Wanted {
            priority: Some(80),
            ..Wanted::default()
        };
        wanted.apply();
        if let Some(Err(error)) = fence.map(|fence| fence.close()) {
            // It is waited for below.
            return drop(tell.send(error));
        }
        leave.fenced.store(true, Ordering::Release);
        let before = Counts::here();
        control.run(&stopped);
        let counts = Counts::here().since(before);
        leave
            .allocations
            .store(counts.allocations, Ordering::Relaxed);
        leave.frees.store(counts.frees, Ordering::Relaxed);
        leave.done.store(true, Ordering::Release);
        // To end a thread is none of a tick's business, and takes other calls.
        loop {
            Monotonic.sleep_until_ns(u64::MAX);
        }
    };
    let thread = thread::Builder::new().name("control".to_owned());
    let thread = thread.spawn(body)?;
    while !left.fenced.load(Ordering::Acquire) {
        if let Ok(error) = told.try_recv() {
            return Err(error);
        }
        thread::yield_now();
    }
    Ok((thread.as_pthread_t(), left))
}

/// Plays a part, and says what came of it in the last line.
fn play(part: Part, pace: Pace, ticks: u64) -> Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Many parts end by the kernel's hand; nobody wants to look at their memory.
    setrlimit(Resource::Core, none)?;
    ignore_signals()?;
    let (misdeed, without) = match part {
        Part::Proof => (None, None),
        Part::Doing(misdeed) => (Some(misdeed), None),
        Part::Without(call) => (None, Some(call)),
    };
    let rig = Rig::new(pace, ticks, misdeed, Path::new("."))?;
    let hooks = Arc::clone(&rig.side.hooks);
    let _held = hooks.lock.lock().unwrap_or_else(PoisonError::into_inner);

    // What the allocator does next is another matter, where the counters are what is looked at.
    let counted = misdeed.is_some_and(|misdeed| Misdeed::COUNTED.contains(&misdeed));
    let fence = match counted {
        true => None,
        false => Some(Fence::new(&rig.buses, without)?),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (thread, left) = start_control(rig.control, fence, &stop)?;
    let mut script = Script::new(rig.side, thread);
    script.run()?;
    let mut rounds = 0;
    if part == Part::Proof {
        script.plan()?;
        while rounds == 0 || script.ticks() < ticks {
            script.scenes()?;
            rounds += 1;
        }
        script.unplug()?;
    } else {
        while script.ticks() < ticks {
            script.signals(20)?;
        }
    }
    stop.store(true, Ordering::Relaxed);
    while !left.done.load(Ordering::Acquire) {
        script.turn();
    }
    script.end()?;
    if part == Part::Proof {
        script.check()?;
        println!(
            "{rounds} rounds of all scenes; {} ticks missed",
            script.missed()
        );
    }
    println!(
        "{} {} {}",
        script.ticks(),
        left.allocations.load(Ordering::Relaxed),
        left.frees.load(Ordering::Relaxed)
    );
    Ok(())
}

/// A handler that does nothing, and lets calls be interrupted.
fn ignore_signals() -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zeros is an action without flags; the handler touches nothing.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut())
    };
    ensure!(set == 0, "SIGUSR1 cannot be handled");
    Ok(())
}

/// Starts a part in a folder of its own.
fn start(part: Part, rig: &str, ticks: u64, folder: &Path) -> Result<Child> {
    let folder = folder.join(format!("{}-{rig}", part.name()));
    std::fs::create_dir(&folder)?;
    let program = env::current_exe()?;
    Ok(Command::new(program)
        .args([PART, &part.name(), rig, &ticks.to_string()])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

fn said(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{error}")
}

fn is_fenced(output: &Output) -> bool {
    output.status.signal() == Some(libc::SIGSYS)
}

/// Ticks, allocations and frees of a part that came to its end.
fn figures(rig: &str, output: &Output) -> Result<[u64; 3]> {
    let said = said(output);
    ensure!(
        !is_fenced(output),
        "{rig}: the control thread made a system call that is not on the list, in the last of these \
         scenes; `strace -f` names it\n{said}"
    );
    ensure!(output.status.success(), "{rig}: {}\n{said}", output.status);
    let last = said.lines().last().unwrap_or_default();
    let numbers: Vec<u64> = last
        .split(' ')
        .map_while(|word| word.parse().ok())
        .collect();
    match numbers.as_slice() {
        &[ticks, allocations, frees] => Ok([ticks, allocations, frees]),
        _ => bail!("{rig}: no figures\n{said}"),
    }
}

/// Proves it, over so many ticks.
pub fn prove(lengths: Lengths) -> Result<Shown> {
    let folder = tempfile::tempdir()?;
    let rigs = [("memory", lengths.memory), ("pty", lengths.pty)];
    let parts = rigs.map(|(rig, ticks)| (rig, start(Part::Proof, rig, ticks, folder.path())));
    let mut each = Vec::new();
    for (rig, part) in parts {
        let output = part?.wait_with_output()?;
        let [ticks, allocations, frees] = figures(rig, &output)?;
        println!("{rig}:\n{}", said(&output));
        ensure!(
            (allocations, frees) == (0, 0),
            "{rig}: the control thread allocated {allocations} times and freed {frees} times; a \
             breakpoint on `counting::count` in thread `control` shows where"
        );
        each.push(ticks);
    }
    for misdeed in Misdeed::COUNTED {
        let part = start(Part::Doing(misdeed), "memory", 1000, folder.path())?;
        let [_, allocations, frees] = figures("memory", &part.wait_with_output()?)?;
        ensure!(
            (allocations, frees) == (1, 1),
            "{misdeed:?} was counted as {allocations} allocations and {frees} frees"
        );
        println!("{misdeed:?}: counted");
    }
    for misdeed in Misdeed::FENCED {
        let part = start(Part::Doing(misdeed), "memory", 1000, folder.path())?;
        let output = part.wait_with_output()?;
        ensure!(
            is_fenced(&output),
            "{misdeed:?} was let through: {}",
            said(&output)
        );
        println!("{misdeed:?}: fenced off");
    }
    let mut calls = 0;
    for call in Call::ALL {
        let part = start(Part::Without(call), "pty", 50, folder.path())?;
        let output = part.wait_with_output()?;
        let is_made = is_fenced(&output);
        ensure!(
            is_made || output.status.success(),
            "{call:?}: {}",
            said(&output)
        );
        // Where the kernel shares its clock with programs, that one is not made.
        ensure!(
            is_made || call == Call::Time,
            "{} is on the list for nothing",
            call.name()
        );
        let made = if is_made { "made" } else { "not made" };
        println!("{}: {made}", call.name());
        calls += usize::from(is_made);
    }
    let &[memory_ticks, pty_ticks] = each.as_slice() else {
        bail!("two rigs");
    };
    Ok(Shown {
        ticks: memory_ticks + pty_ticks,
        pty_ticks,
        allocations: 0,
        frees: 0,
        calls,
    })
}
