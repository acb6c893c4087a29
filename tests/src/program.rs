//! Child processes.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// A test that waits so long hangs. Nothing here takes a tenth of it, also on a slow machine.
const HANGS: Duration = Duration::from_secs(240);

/// The robot's program.
pub fn hilt() -> Command {
    program("hilt")
}

/// The learner's program.
pub fn learner() -> Command {
    program("hilt-learner")
}

/// A program of this workspace: cargo puts it into the folder above the tests'.
fn program(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let folder: PathBuf = test.ancestors().nth(2).unwrap().to_owned();
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there; run `cargo build` first (`cargo test --workspace` does it by itself)",
        path.display()
    );
    Command::new(path)
}

/// The tests of one file take turns: each runs several programs.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running child process. Dropping it kills it; so does the end of the test's thread, however
/// that comes.
pub struct Program {
    name: &'static str,
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Starts `command`; `name` stands for it in messages.
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE");
        // SAFETY: between fork and exec only this one system call is made, which allocates nothing
        // and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        let readers = streams.into_iter().map(|stream| {
            let output = Arc::clone(&output);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n') {
                    let Ok(line) = line else { break };
                    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                    output.push_str(&String::from_utf8_lossy(&line));
                    output.push('\n');
                }
            })
        });
        Self {
            name,
            readers: readers.collect(),
            child,
            output,
            ended: None,
        }
    }

    /// What it has said so far, on both streams.
    pub fn output(&self) -> String {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How often it has said `words`.
    pub fn times_said(&self, words: &str) -> usize {
        self.output().matches(words).count()
    }

    /// Waits until it has said `words`.
    pub fn says(&mut self, words: &str) {
        self.says_again(words, 0);
    }

    /// Waits until it has said `words` more than `times` times.
    pub fn says_again(&mut self, words: &str, times: usize) {
        let output = Arc::clone(&self.output);
        until(words, &mut [self], || {
            let output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.matches(words).count() > times
        });
    }

    /// Whether it is still there.
    pub fn runs(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended.is_none()
    }

    /// Ctrl-C, as `timeout` and other wrappers pass it on: to the program, and to its group once
    /// more.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(20));
        self.signal(Signal::INT);
    }

    /// Without a chance to do anything, and waits until it is gone.
    pub fn kill(mut self) -> String {
        self.signal(Signal::KILL);
        self.ends().1
    }

    fn signal(&mut self, signal: Signal) {
        if self.runs() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.unwrap(), signal).unwrap();
        }
    }

    /// Waits for its end: how it ended and all that it said.
    pub fn ends(mut self) -> (ExitStatus, String) {
        let since = Instant::now();
        while self.runs() {
            assert!(
                since.elapsed() < HANGS,
                "{} hangs\n{}",
                self.name,
                self.story()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (self.ended.unwrap(), self.output())
    }

    /// Waits for its end, which has to be a good one; what it said.
    pub fn ends_well(self) -> String {
        let name = self.name;
        let (status, output) = self.ends();
        assert!(status.success(), "{name} ended with {status}\n{output}");
        output
    }

    /// Waits for its end, which has to be exit status `code`; what it said.
    pub fn ends_with(self, code: i32) -> String {
        let name = self.name;
        let (status, output) = self.ends();
        assert_eq!(
            status.code(),
            Some(code),
            "{name} ended with {status}\n{output}"
        );
        output
    }

    fn story(&self) -> String {
        format!("── {} said:\n{}", self.name, self.output())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.runs() {
            // It may end by itself at this very moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until `done`. Fails, with what the programs said, when one of them ends before that or
/// the test hangs.
pub fn until(what: &str, programs: &mut [&mut Program], mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    loop {
        if done() {
            return;
        }
        let gone: Vec<&str> = programs
            .iter_mut()
            .filter_map(|program| (!program.runs()).then_some(program.name))
            .collect();
        if !gone.is_empty() || since.elapsed() > HANGS {
            // What it said last may still be on its way.
            std::thread::sleep(Duration::from_millis(200));
            if done() {
                return;
            }
            let mut stories = String::new();
            for program in programs.iter() {
                let _ = writeln!(stories, "{}", program.story());
            }
            panic!("never happened: {what} (ended before: {gone:?})\n{stories}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
