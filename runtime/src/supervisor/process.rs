//! The supervisor's process, from its first instruction to its last.

use std::{
    io::{self, IsTerminal, Write},
    process,
    time::Duration,
};

use hilt_realtime::{
    Clock, Monotonic,
    wills::{Left, Reader},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read, write},
    mm::{MlockAllFlags, mlockall},
    process::setsid,
    stdio::{stderr, stdin},
};

use super::{
    hand_over::{self, Given},
    hold,
    shared::Shared,
    watch::{Cause, PERIOD_NS, Seen, Verdict, Watch},
};

/// Supervises the robot process that has started this one; what `hilt supervise` does, before it
/// reads an argument, loads a library or catches a signal. Ends the process.
pub fn run() -> ! {
    process::exit(match supervise() {
        Ok(()) => 0,
        Err(error) => {
            say(&format!(
                "cannot take what the robot process gives ({error}); `hilt` starts this by itself, there is nothing to gain by hand"
            ));
            2
        }
    })
}

fn supervise() -> io::Result<()> {
    part_from_the_robot();
    let Given {
        memory,
        buses,
        stall_ns,
    } = hand_over::take(stdin())?;
    let robot = Reader::new(Shared::map(&memory, buses.len())?);
    drop(memory);
    be_urgent();
    let mut left = robot.nothing();
    let mut watch = Watch::new(stall_ns, Monotonic.now_ns());
    write(stdin(), b"!")?;
    let cause = loop {
        let gone = wait_for_the_end_of_the_line();
        robot.read(&mut left);
        let seen = Seen {
            gone,
            beats: left.beats,
            armed: left.armed,
        };
        match watch.look(Monotonic.now_ns(), seen) {
            Verdict::Wait => {}
            Verdict::End => return Ok(()),
            Verdict::TakeOver(cause) => break cause,
        }
    };
    robot.take_over();
    // A control thread that goes on in this very moment may have left newer ones.
    robot.read(&mut left);
    let will_be_told = || {
        let_signals_end_this();
        say(&what_happened(cause, &left));
    };
    hold::hold(buses, &left, will_be_told, |arm, error| {
        say(&format!(
            "the bus of arm {arm} is gone ({error}): nobody tells it to hold any more. Support the arm, then plug its adapter in again"
        ));
    });
    Ok(())
}

/// Leaves what it has in common with the robot process: its terminal's Ctrl-C and hang-up, and its
/// files and sockets, whose other ends must learn of its death.
fn part_from_the_robot() {
    // Refused to the leader of a group, which only a shell makes of it.
    let _ = setsid();
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: to ignore a signal runs no code of ours. Whoever ends all processes of a service
        // wants the robot to end in order, and then this one ends too.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    const AFTER_STDERR: libc::c_uint = 3;
    // SAFETY: this is the process's first action: nothing in it owns a descriptor yet. An old kernel
    // that has no such call leaves them open, which does no harm to what this process is for.
    unsafe { libc::syscall(libc::SYS_close_range, AFTER_STDERR, libc::c_uint::MAX, 0) };
}

/// Before every program that is not as urgent as a control thread, and never waiting for memory.
/// Without the right to it this process does what it can; the robot process says how to grant it.
fn be_urgent() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is valid, and 0 is this process.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) };
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
}

/// From now on somebody must be able to end this process.
fn let_signals_end_this() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: what the kernel does by itself runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Waits one period, or until the robot process is gone: whether it is.
fn wait_for_the_end_of_the_line() -> bool {
    let period = Timespec {
        tv_sec: 0,
        tv_nsec: PERIOD_NS as i64,
    };
    let line = stdin();
    match poll(&mut [PollFd::new(&line, PollFlags::IN)], Some(&period)) {
        Ok(0) | Err(Errno::INTR | Errno::AGAIN) => false,
        // The robot process says nothing on it: what there is to read is the end.
        Ok(_) => !matches!(read(line, &mut [0; 8]), Ok(1..) | Err(Errno::INTR)),
        Err(_) => true,
    }
}

fn what_happened(cause: Cause, left: &Left) -> String {
    let happened = match cause {
        Cause::Gone => "the robot process is gone while its arms were armed".to_owned(),
        Cause::Stalled { for_ns } => format!(
            "the robot process has not ticked for {} ms while its arms were armed",
            for_ns / 1_000_000
        ),
    };
    let silent: Vec<_> = (0..left.wills.len())
        .filter(|&arm| left.wills[arm].bytes().is_empty())
        .map(|arm| arm.to_string())
        .collect();
    let but = match silent.is_empty() {
        true => String::new(),
        false => format!(
            "\nBUT nothing is known that makes arm {} hold: keep away from it",
            silent.join(", ")
        ),
    };
    format!(
        "{happened}.\nThe arms hold their last position; torque stays on. Support them before you cut the power.{but}\nThis goes on until you end it: kill {}",
        process::id()
    )
}

/// On stderr, if that takes it soon: whoever reads there must not keep arms from being held.
fn say(words: &str) {
    const SOON: Duration = Duration::from_millis(50);
    let soon = Timespec {
        tv_sec: 0,
        tv_nsec: SOON.as_nanos() as i64,
    };
    let err = stderr();
    if !matches!(
        poll(&mut [PollFd::new(&err, PollFlags::OUT)], Some(&soon)),
        Ok(1..)
    ) {
        return;
    }
    let mut words = format!("hilt supervisor: {words}\n");
    if io::stderr().is_terminal() {
        // The robot process may have died while it had the terminal in raw mode.
        words = words.replace('\n', "\r\n");
    }
    let _ = io::stderr().write_all(words.as_bytes());
}
