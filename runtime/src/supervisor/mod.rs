//! A second process that holds the arms when the robot process is gone or hangs.
//!
//! The robot process starts its own binary once more, as `hilt supervise`, and hands it over a socket
//! a duplicate of each bus and a shared memory. At every tick the control thread leaves there, with
//! plain stores, what makes the arms hold ([`wills`]). The supervisor ([`run`]) watches two things:
//!
//! - the socket, which the kernel closes however the robot process ends;
//! - the count of ticks. A hang is seen by it alone, and the death of a large process first: the
//!   kernel closes the files of a process only when it has taken its memory (and written its core
//!   dump), which lasts longer than an arm may go on.
//!
//! When either says that the robot process is gone (`watch`, a pure function) and the arms are
//! armed, it takes over (`hold`): it writes the wills to the buses, and goes on with that until
//! somebody ends it or no bus is left. Two writers on a bus break each other's frames, so a control
//! thread that comes back after a stall looks at `taken_over` before it writes, and ends in a fault.
//!
//! What it cannot do: a signal that kills every process of a control group, and the loss of the
//! whole computer, are the devices' own watchdogs' business.

mod hand_over;
mod hold;
mod process;
mod shared;
mod watch;

use std::{
    io::{self, Read},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use hilt_realtime::wills::{self, Reader, Writer};

use crate::control::Wills;

pub use hand_over::MAX_BUSES;
pub use process::run;
pub use shared::Shared;

/// The first argument of a supervisor: `hilt supervise`. Nobody types it.
pub const COMMAND: &str = "supervise";

/// The control thread's end: wills and heartbeat.
///
/// At every tick, after the commands went out, `beat(armed, arms.map(Arm::will))`; before anything
/// goes to a bus, `taken_over()`. A loop that ends in order stops its arms and then beats once more
/// with `armed` false; from then on it may pause.
pub type WillWriter = Writer<Shared>;

impl Wills for WillWriter {
    fn beat(&mut self, armed: bool, wills: &[&[u8]]) {
        // Too long a will, or too many, would have been refused when the supervisor was started;
        // the control thread cannot mend it, and the wills from before stay in force.
        let _ = Writer::beat(self, armed, wills.iter().copied());
    }

    fn overtaken(&self) -> bool {
        self.taken_over()
    }
}

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// More buses than one message carries.
    #[error("{0} buses are too many for one supervisor; it holds at most {MAX_BUSES}")]
    TooMany(usize),
    /// No memory to share.
    #[error("cannot make the memory that the supervisor shares ({0}); free some memory")]
    Memory(io::Error),
    /// The program does not start.
    #[error(
        "cannot start the supervisor, {program} ({source}); is /proc mounted, and may one more process be started?"
    )]
    Process {
        /// What was to be started.
        program: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// The program started and went, or did not take what it was given.
    #[error("the supervisor does not take over the buses ({0}); it has said why on stderr")]
    HandOver(io::Error),
}

/// Why a supervisor did not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// The last beat left armed arms: this is no end in order.
    #[error(
        "the control loop has ended with armed arms, so the supervisor holds them; support them, then end process {0}"
    )]
    Armed(u32),
    /// The last beat left armed arms, and there is no supervisor any more.
    #[error(
        "the control loop has ended with armed arms and the supervisor is gone: nobody tells the arms to hold; support them"
    )]
    Lost,
    /// It has taken over before.
    #[error("the supervisor has taken over and holds the arms; support them, then end process {0}")]
    TakenOver(u32),
}

/// Starts a supervisor for these buses, one per arm, before the control thread begins to tick.
/// `program` is `hilt`.
///
/// It takes over when an armed control thread has not beaten for `stall`. The death of a large process
/// is seen by that too, so this is most of the time in which a dead robot's arm stops. To be called
/// before this thread is pinned to a core: the supervisor runs where its parent may run.
pub fn start(
    program: &Path,
    buses: &[BorrowedFd<'_>],
    stall: Duration,
) -> Result<(Supervised, WillWriter), StartError> {
    let mut program = Command::new(program);
    program.arg0("hilt").arg(COMMAND);
    if buses.len() > MAX_BUSES {
        return Err(StartError::TooMany(buses.len()));
    }
    let memory = shared::make(buses.len()).map_err(StartError::Memory)?;
    let words = Shared::map(&memory, buses.len()).map_err(StartError::Memory)?;
    let (mut line, its_line) = UnixStream::pair().map_err(StartError::HandOver)?;
    // It must not keep alive what a pipe's other end waits for, nor a folder from being unmounted.
    program
        .stdin(Stdio::from(OwnedFd::from(its_line)))
        .stdout(Stdio::null())
        .current_dir("/");
    let mut process = program.spawn().map_err(|source| StartError::Process {
        program: program.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    // The command has the other end of the line, and must not keep it open here.
    drop(program);
    let taken = hand_over::give(&line, &memory, buses, stall).and_then(|()| {
        let mut ready = [0];
        line.read_exact(&mut ready)
    });
    if let Err(error) = taken {
        drop(line);
        // It ends by itself without its line; a robot must not leave a dead child about.
        let _ = process.wait();
        return Err(StartError::HandOver(error));
    }
    let supervised = Supervised {
        _line: line,
        process,
        memory: Reader::new(words.clone()),
    };
    Ok((supervised, wills::Writer::new(words)))
}

/// A robot process under supervision. Dropping this is what dying is: armed arms are held then.
#[derive(Debug)]
pub struct Supervised {
    /// Never written: its end of file says that the robot process is gone.
    _line: UnixStream,
    process: Child,
    memory: Reader<Shared>,
}

impl Supervised {
    /// The supervisor's process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How the supervisor ended, if it did though nobody asked it to: the arms are not guarded any
    /// more. To be asked now and then, on any thread but the control thread.
    pub fn lost(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Ends the supervision in order and waits until the supervisor is gone, and with it its
    /// duplicates of the buses. The control thread's last beat must have said that nothing is armed.
    pub fn end(self) -> Result<(), EndError> {
        let Self {
            _line: line,
            mut process,
            memory,
        } = self;
        let id = process.id();
        // An error can only mean that there is no such child any more.
        let is_gone = |process: &mut Child| !matches!(process.try_wait(), Ok(None));
        let mut left = memory.nothing();
        memory.read(&mut left);
        match (left.armed, memory.taken_over()) {
            (true, _) if is_gone(&mut process) => return Err(EndError::Lost),
            (true, false) => return Err(EndError::Armed(id)),
            _ => {}
        }
        drop(line);
        while !is_gone(&mut process) {
            if memory.taken_over() {
                return Err(EndError::TakenOver(id));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
