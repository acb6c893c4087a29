//! A robot process dies, hangs or ends in order, and what its supervisor then does to the buses.
//!
//! The robot is this program once more, as its test [`robot`]; its supervisor is `hilt supervise`.
//! A bus is a pseudo-terminal of which the test has the other end.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{BufRead, BufReader},
    iter,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use hilt_runtime::supervisor::{self, Supervised, WillWriter};
use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open},
    io::{Errno, FdFlags, fcntl_setfd},
    process::{Pid, Signal, getpid, kill_process, kill_process_group},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

use common::{LONG, until};

/// A frame as robots send them: it shows by itself whether it is whole.
fn frame(kind: u8, number: u64) -> [u8; 18] {
    let mut frame = [0xA5; 18];
    frame[1] = kind;
    frame[2..10].copy_from_slice(&number.to_le_bytes());
    frame[10..].copy_from_slice(&(!number).to_le_bytes());
    frame
}

const COMMAND: u8 = b'C';
const HOLD: u8 = b'H';

/// The whole frames in `bytes`, found as a servo finds them: by their heads.
fn frames(bytes: &[u8]) -> Vec<(u8, u64)> {
    let is_one = |bytes: &&[u8]| {
        let number = u64::from_le_bytes(bytes[2..10].try_into().unwrap());
        [COMMAND, HOLD].contains(&bytes[1]) && *bytes == frame(bytes[1], number)
    };
    let found = bytes.windows(18).filter(is_one);
    found
        .map(|one| (one[1], u64::from(one[2]) | u64::from(one[3]) << 8))
        .collect()
}

// --- the robot's side ---

const SCRIPT: &str = "ROBOT_OF_THE_SUPERVISOR_TESTS";
const BUSES: &str = "BUSES_OF_THE_SUPERVISOR_TESTS";
const TAKEN_OVER: i32 = 3;

struct Robot {
    buses: Vec<OwnedFd>,
    supervised: Supervised,
    wills: WillWriter,
    tick: u64,
}

impl Robot {
    fn start(stall: Duration) -> Self {
        let paths = std::env::var(BUSES).unwrap();
        let open_bus = |path: &str| {
            let bus = open(
                path,
                OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let bus = bus.unwrap();
            let mut line = tcgetattr(&bus).unwrap();
            line.make_raw();
            tcsetattr(&bus, OptionalActions::Now, &line).unwrap();
            bus
        };
        let buses: Vec<_> = paths.split(':').map(open_bus).collect();
        let descriptors: Vec<_> = buses.iter().map(AsFd::as_fd).collect();
        let (supervised, wills) =
            supervisor::start(Path::new(env!("CARGO_BIN_EXE_hilt")), &descriptors, stall).unwrap();
        let tick = 0;
        Self {
            buses,
            supervised,
            wills,
            tick,
        }
    }

    fn send(&self, bytes: &[u8]) {
        for bus in &self.buses {
            rustix::io::write(bus, bytes).unwrap();
        }
    }

    /// A tick of a control loop in motion. A frame takes two writes, so that a death can fall
    /// between them.
    fn tick(&mut self) {
        if self.wills.taken_over() {
            println!("taken over");
            std::process::exit(TAKEN_OVER);
        }
        self.tick += 1;
        let command = frame(COMMAND, self.tick);
        self.send(&command[..9]);
        self.send(&command[9..]);
        let will = frame(HOLD, self.tick);
        self.wills
            .beat(true, self.buses.iter().map(|_| &will[..]))
            .unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }

    fn ticks(&mut self, number: u64) {
        (0..number).for_each(|_| self.tick());
    }

    fn tick_for_ever(&mut self) -> ! {
        println!("supervisor: {}", self.supervised.id());
        loop {
            self.tick();
        }
    }
}

fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    unreachable!("killed");
}

/// No test by itself, but the process that the others start.
#[test]
fn robot() {
    let Ok(script) = std::env::var(SCRIPT) else {
        return;
    };
    match script.as_str() {
        "dies in a beat" => {
            let mut robot = Robot::start(LONG);
            robot.ticks(50);
            robot.send(&frame(COMMAND, 51)[..9]);
            let will = frame(HOLD, 51);
            let wills = iter::once(&will[..]).chain(iter::once_with(|| die()));
            robot.wills.beat(true, wills).unwrap();
        }
        "ticks" => Robot::start(LONG).tick_for_ever(),
        "ticks, and stalls soon" => Robot::start(Duration::from_millis(50)).tick_for_ever(),
        "ticks, and listens" => {
            let socket = UnixListener::bind(std::env::var("SOCKET").unwrap()).unwrap();
            fcntl_setfd(&socket, FdFlags::empty()).unwrap();
            Robot::start(LONG).tick_for_ever()
        }
        "ends in order" => {
            let mut robot = Robot::start(LONG);
            robot.ticks(20);
            robot.wills.beat(false, []).unwrap();
            println!("{:?}", robot.supervised.end());
        }
        "ends with armed arms" => {
            let mut robot = Robot::start(LONG);
            robot.ticks(20);
            println!("{}", robot.supervised.end().unwrap_err());
        }
        "dies idle" => {
            let mut robot = Robot::start(LONG);
            robot.ticks(20);
            robot.wills.beat(false, []).unwrap();
            die();
        }
        "loses its supervisor" => {
            let mut robot = Robot::start(LONG);
            assert!(robot.supervised.lost().unwrap().is_none());
            kill(robot.supervised.id(), Signal::KILL);
            until("the loss is known", || {
                robot.supervised.lost().unwrap().is_some()
            });
            robot.ticks(20);
            println!("{:?}", robot.supervised.end());
        }
        _ => panic!("no such script: {script}"),
    }
    std::process::exit(0);
}

// --- the tests' side ---

fn pid(process: u32) -> Pid {
    Pid::from_raw(process as i32).unwrap()
}

fn kill(process: u32, signal: Signal) {
    kill_process(pid(process), signal).unwrap();
}

/// Where bytes come from, and those that have come.
struct Source<T> {
    end: T,
    bytes: Vec<u8>,
}

impl<T: AsFd> Source<T> {
    fn new(end: T) -> Self {
        let flags = fcntl_getfl(&end).unwrap();
        fcntl_setfl(&end, flags | OFlags::NONBLOCK).unwrap();
        let bytes = Vec::new();
        Self { end, bytes }
    }

    /// Reads what has come. Whether nothing more can come: nobody has the other end.
    fn ended(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match rustix::io::read(&self.end, &mut bytes) {
                Ok(0) | Err(Errno::IO | Errno::CONNRESET) => return true,
                Ok(read) => self.bytes.extend(&bytes[..read]),
                Err(Errno::AGAIN) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn frames(&mut self) -> Vec<(u8, u64)> {
        self.ended();
        frames(&self.bytes)
    }

    /// The numbers of the wills on this bus.
    fn holds(&mut self) -> Vec<u64> {
        let holds = self.frames().into_iter().filter(|frame| frame.0 == HOLD);
        holds.map(|frame| frame.1).collect()
    }

    fn last_command(&mut self) -> u64 {
        let mut frames = self.frames().into_iter().rev();
        frames.find(|frame| frame.0 == COMMAND).unwrap().1
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }
}

/// A robot process, seen from outside. When this is dropped the buses are gone, and with them the
/// supervisor.
struct Outside {
    buses: Vec<Source<OwnedFd>>,
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    err: Source<ChildStderr>,
}

impl Outside {
    fn start(script: &str, buses: usize) -> Self {
        Self::start_with(script, buses, Path::new(""))
    }

    fn start_with(script: &str, buses: usize, socket: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let buses: Vec<_> = iter::repeat_with(|| openpt(flags).unwrap())
            .take(buses)
            .collect();
        let path = |bus| {
            grantpt(bus).unwrap();
            unlockpt(bus).unwrap();
            ptsname(bus, Vec::new()).unwrap().into_string().unwrap()
        };
        let paths: Vec<_> = buses.iter().map(path).collect();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["robot", "--exact", "--nocapture"])
            .env(SCRIPT, script)
            .env(BUSES, paths.join(":"))
            .env("SOCKET", socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            buses: buses.into_iter().map(Source::new).collect(),
            out: BufReader::new(process.stdout.take().unwrap()),
            err: Source::new(process.stderr.take().unwrap()),
            process,
        }
    }

    /// Waits for a line that the robot says; its end, if it never does, fails the test.
    fn wait_for(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(
                self.out.read_line(&mut line).unwrap() > 0,
                "ended without {words:?}"
            );
        }
        line
    }

    /// Waits until it ticks; the supervisor's process.
    fn wait_until_it_ticks(&mut self) -> u32 {
        let line = self.wait_for("supervisor: ");
        // Not all are commands if a loaded machine has kept it from ticking.
        until("it ticks", || self.buses[0].frames().len() >= 10);
        line.trim().rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn kill(&self, signal: Signal) {
        kill(self.process.id(), signal);
    }

    fn kill_group(&self, signal: Signal) {
        kill_process_group(pid(self.process.id()), signal).unwrap();
    }

    fn status(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Waits for the wills that come at once, and one of those that keep coming.
    fn wait_until_held(&mut self) {
        for bus in &mut self.buses {
            until("the arm is held", || bus.holds().len() >= 5);
        }
    }

    /// Waits until nobody is left who could say something, and returns what was said.
    fn last_words(&mut self) -> String {
        until("robot and supervisor are gone", || self.err.ended());
        self.err.text()
    }

    /// The supervisor's process, by its own word.
    fn supervisor(&mut self) -> u32 {
        until("the supervisor says what happened", || {
            self.err.ended();
            self.err.text().ends_with('\n') && self.err.text().contains("kill ")
        });
        let text = self.err.text();
        let (_, process) = text.rsplit_once("kill ").unwrap();
        process.trim().parse().unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_robot_killed_in_a_beat_and_in_a_frame_is_held_by_its_last_whole_wills() {
    let mut robot = Outside::start("dies in a beat", 2);
    assert_eq!(robot.status().signal(), Some(9));
    robot.wait_until_held();
    for bus in &mut robot.buses {
        let holds = bus.holds();
        assert!(holds.iter().all(|hold| *hold == 50), "{holds:?}");
        assert_eq!(bus.last_command(), 50);
    }
    robot.supervisor();
    robot.buses.pop();
    until("the lost bus is told", || {
        robot.err.ended();
        robot.err.text().contains("the bus of arm 1 is gone")
    });
    let held = robot.buses[0].holds().len();
    until("the other arm is held on", || {
        robot.buses[0].holds().len() > held
    });
    robot.buses.pop();
    let words = robot.last_words();
    assert!(
        words.contains("the robot process is gone while its arms were armed"),
        "{words}"
    );
    assert!(words.contains("the bus of arm 0 is gone"), "{words}");
}

#[test]
fn a_robot_killed_at_any_moment_is_held_where_it_was_sent_last() {
    for _ in 0..5 {
        let mut robot = Outside::start("ticks", 1);
        robot.wait_until_it_ticks();
        robot.kill(Signal::KILL);
        robot.wait_until_held();
        let bus = &mut robot.buses[0];
        let (holds, sent) = (bus.holds(), bus.last_command());
        // It may have died between the command and the will that belongs to it.
        assert!(
            holds[0] == sent || holds[0] + 1 == sent,
            "{holds:?} after {sent}"
        );
        assert!(holds.iter().all(|hold| *hold == holds[0]), "{holds:?}");
    }
}

#[test]
fn a_robot_that_hangs_loses_its_arms_and_is_told_when_it_comes_back() {
    let mut robot = Outside::start("ticks, and stalls soon", 1);
    robot.wait_until_it_ticks();
    // To its whole group, as Ctrl-Z does.
    robot.kill_group(Signal::STOP);
    robot.wait_until_held();
    robot.kill(Signal::CONT);
    robot.wait_for("taken over");
    assert_eq!(robot.status().code(), Some(TAKEN_OVER));
    let supervisor = robot.supervisor();
    assert!(
        robot.err.text().contains("has not ticked for"),
        "{}",
        robot.err.text()
    );
    let frames = robot.buses[0].frames();
    let since = frames.iter().skip_while(|frame| frame.0 != HOLD);
    let commands = since.filter(|frame| frame.0 == COMMAND).count();
    assert!(
        commands <= 1,
        "more than the tick in which it was stopped: {frames:?}"
    );

    let held = robot.buses[0].holds().len();
    until("it is held on", || robot.buses[0].holds().len() > held);
    kill(supervisor, Signal::TERM);
    robot.last_words();
    assert!(robot.buses[0].ended(), "the bus is free again");
}

#[test]
fn an_end_in_order_ends_the_supervisor_without_a_word() {
    let mut robot = Outside::start("ends in order", 1);
    robot.wait_for("Ok(())");
    assert!(robot.status().success());
    assert_eq!(robot.last_words(), "");
    assert!(robot.buses[0].ended(), "the bus is free again");
    assert_eq!(robot.buses[0].last_command(), 20);
    assert!(robot.buses[0].holds().is_empty());
}

#[test]
fn an_end_with_armed_arms_is_none() {
    let mut robot = Outside::start("ends with armed arms", 1);
    robot.wait_for("the supervisor holds them");
    robot.wait_until_held();
    assert_eq!(robot.buses[0].holds()[0], 20);
}

#[test]
fn an_idle_robot_may_die() {
    let mut robot = Outside::start("dies idle", 1);
    assert_eq!(robot.last_words(), "");
    assert!(robot.buses[0].ended());
    assert!(robot.buses[0].holds().is_empty());
}

#[test]
fn a_robot_learns_that_its_supervisor_is_lost() {
    let mut robot = Outside::start("loses its supervisor", 1);
    robot.wait_for("Err(Lost)");
    assert!(robot.status().success());
}

#[test]
fn what_ends_a_whole_group_or_service_does_not_end_the_supervisor() {
    for signal in [Signal::INT, Signal::HUP, Signal::TERM] {
        let mut robot = Outside::start("ticks", 1);
        let supervisor = robot.wait_until_it_ticks();
        kill(supervisor, signal);
        robot.kill_group(signal);
        robot.wait_until_held();
        assert_eq!(robot.status().signal(), Some(signal.as_raw()));
        assert_eq!(robot.supervisor(), supervisor);
    }
}

#[test]
fn the_robots_sockets_die_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut robot = Outside::start_with("ticks, and listens", 1, &path);
    robot.wait_until_it_ticks();
    let mut peer = Source::new(UnixStream::connect(&path).unwrap());
    assert!(!peer.ended());
    robot.kill(Signal::KILL);
    until("the peer learns it", || peer.ended());
    robot.wait_until_held();
}

#[test]
fn by_hand_it_says_that_it_is_not_for_hands() {
    let output = Command::new(env!("CARGO_BIN_EXE_hilt"))
        .arg(supervisor::COMMAND)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("`hilt` starts this by itself"), "{words}");
}

#[test]
fn a_program_that_is_no_supervisor_is_no_supervisor() {
    let error = supervisor::start(Path::new("true"), &[], LONG).unwrap_err();
    assert!(error.to_string().contains("does not take over"), "{error}");
    let error = supervisor::start(Path::new("/no/such/program"), &[], LONG).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}
