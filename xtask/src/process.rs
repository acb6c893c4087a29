//! Programs that run side by side: started, shown, interrupted and waited for together.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(50);

/// How many times a person has pressed Ctrl-C.
#[derive(Clone, Default)]
pub struct Interrupts(Arc<AtomicUsize>);

impl Interrupts {
    /// Counts SIGINT, SIGTERM and SIGHUP from now on instead of ending at once.
    pub fn install() -> Result<Self> {
        let interrupts = Self::default();
        let count = interrupts.0.clone();
        hilt_show::on_ctrl_c(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(interrupts)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Where a program's output goes.
pub enum Output<'a> {
    /// To this terminal as it is; the program may draw progress bars of its own.
    Terminal,
    /// Line by line to a file, and above the bar of the one who watches.
    Watched {
        /// The log file.
        log: &'a Path,
        /// The bar that must not be overwritten.
        bar: &'a ProgressBar,
    },
}

/// A started program with the name it has in messages.
pub struct Running {
    name: String,
    child: Child,
    log: Option<PathBuf>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` in a process group of its own: a Ctrl-C in the terminal reaches it once,
    /// through [`finish`], and not a second time from the terminal itself.
    pub fn start(name: &str, command: &mut Command, output: Output) -> Result<Self> {
        command.process_group(0).stdin(Stdio::null());
        if let Output::Watched { .. } = output {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("{name}: cannot start {:?}", command.get_program()))?;
        let (mut readers, mut path) = (Vec::new(), None);
        if let Output::Watched { log, bar } = output {
            let file =
                File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
            let file = Arc::new(Mutex::new(file));
            path = Some(log.to_owned());
            let streams: [Option<Box<dyn Read + Send>>; 2] = [
                child.stdout.take().map(|s| Box::new(s) as _),
                child.stderr.take().map(|s| Box::new(s) as _),
            ];
            for stream in streams.into_iter().flatten() {
                let (name, bar, file) = (name.to_owned(), bar.clone(), file.clone());
                readers.push(thread::spawn(move || relay(&name, stream, &file, &bar)));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            log: path,
            readers,
            ended: None,
        })
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .with_context(|| format!("waiting for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Asks it to end.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        if self.ended.is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It may have ended meanwhile; the next poll sees that.
            let _ = kill_process(pid, signal);
        }
    }

    /// Name, exit and where to read more, for an error.
    fn epitaph(&self, status: ExitStatus) -> String {
        let log = self
            .log
            .as_ref()
            .map(|log| format!("; its output is in {}", log.display()))
            .unwrap_or_default();
        format!("{} failed ({status}){log}", self.name)
    }
}

/// Copies lines to the log and, above the bar, to the terminal. Bytes that are not UTF-8 pass.
fn relay(name: &str, stream: impl Read, log: &Mutex<File>, bar: &ProgressBar) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(stream.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        if let Ok(mut log) = log.lock() {
            // A full disk must not stop the reader: the program would block on its pipe.
            let _ = log.write_all(&line);
        }
        let text = String::from_utf8_lossy(&line);
        // How far it is, the bar says better.
        if !text.starts_with(&format!("{name}: ")) {
            bar.suspend(|| println!("{name} │ {}", text.trim_end()));
        }
        line.clear();
    }
}

/// Waits until all have ended.
///
/// `children[0]` leads: when it has ended well, the others get `grace` to end by themselves and are
/// then interrupted. When one fails the rest are interrupted, waited for, and the error names the
/// one that failed first. The first Ctrl-C is forwarded as SIGINT, the second kills.
pub fn finish(
    children: &mut [Running],
    grace: Duration,
    interrupts: &Interrupts,
    mut watch: impl FnMut(),
) -> Result<()> {
    let (mut seen, mut failed, mut led_until, mut stopping) = (0, None, None, false);
    loop {
        let mut running = 0;
        for child in children.iter_mut() {
            match child.poll()? {
                None => running += 1,
                Some(status) if !status.success() && failed.is_none() => {
                    failed = Some(child.epitaph(status));
                }
                Some(_) => {}
            }
        }
        if running == 0 {
            break;
        }
        let pressed = interrupts.count();
        if pressed > seen {
            seen = pressed;
            let kill = pressed > 1;
            let names: Vec<&str> = children
                .iter()
                .filter(|child| child.ended.is_none())
                .map(|child| child.name.as_str())
                .collect();
            if !kill {
                eprintln!(
                    "stopping {}; Ctrl-C again kills without a checkpoint",
                    names.join(" and ")
                );
            }
            for child in children.iter() {
                child.signal(if kill { Signal::KILL } else { Signal::INT });
            }
            stopping = true;
        }
        if children[0].ended.is_some_and(|status| status.success()) && led_until.is_none() {
            led_until = Some(Instant::now() + grace);
        }
        let overdue = led_until.is_some_and(|until| Instant::now() >= until);
        if !stopping && (failed.is_some() || overdue) {
            stopping = true;
            for child in children.iter().filter(|child| child.ended.is_none()) {
                let why = failed.as_deref().unwrap_or("its counterpart has ended");
                eprintln!("stopping {}: {why}", child.name);
                child.interrupt();
            }
        }
        watch();
        thread::sleep(POLL);
    }
    for child in children.iter_mut() {
        for reader in child.readers.drain(..) {
            // A reader that panicked has lost output lines, not the result.
            let _ = reader.join();
        }
    }
    if interrupts.count() > 0 {
        bail!("interrupted");
    }
    match failed {
        Some(epitaph) => bail!(epitaph),
        None => Ok(()),
    }
}

/// Runs one program to its end on this terminal.
pub fn run(name: &str, command: &mut Command, interrupts: &Interrupts) -> Result<()> {
    let child = Running::start(name, command, Output::Terminal)?;
    finish(&mut [child], Duration::ZERO, interrupts, || {})
}

/// The cargo that runs this.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Where cargo puts what it builds.
pub fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn start(name: &str, script: &str) -> Running {
        Running::start(name, &mut shell(script), Output::Terminal).unwrap()
    }

    const LONG: Duration = Duration::from_secs(3600);

    /// A script that waits for `file` before it goes on with `then`.
    fn once(file: &Path, then: &str) -> String {
        format!(
            "while [ ! -e '{}' ]; do sleep .02; done; {then}",
            file.display()
        )
    }

    /// Makes `ready` when it can be interrupted; then ends as `on_interrupt` says, or with 9 when
    /// nobody has interrupted it for half a minute.
    fn patient(ready: &Path, on_interrupt: &str) -> String {
        let ready = ready.display();
        format!(
            "trap '{on_interrupt}' INT; touch '{ready}'; \
             i=0; while [ $i -lt 600 ]; do sleep .05; i=$((i+1)); done; exit 9"
        )
    }

    #[test]
    fn a_failure_names_the_program_and_its_exit_and_stops_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let mut children = [
            start("the actor", &patient(&ready, "exit 0")),
            start("the learner", &once(&ready, "exit 3")),
        ];
        let error = finish(&mut children, LONG, &Interrupts::default(), || {}).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the learner") && text.contains('3'), "{text}");
        assert!(
            children[0].ended.unwrap().success(),
            "it was interrupted, not killed"
        );
    }

    #[test]
    fn those_who_are_led_end_after_their_grace() {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let mut children = [
            start("leader", &once(&ready, "exit 0")),
            start("led", &patient(&ready, "exit 0")),
        ];
        let grace = Duration::from_millis(100);
        finish(&mut children, grace, &Interrupts::default(), || {}).unwrap();
        assert!(children[1].ended.unwrap().success());
    }

    #[test]
    fn ctrl_c_reaches_every_program_and_ends_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let ready = ["one", "two"].map(|name| dir.path().join(name));
        let interrupts = Interrupts::default();
        let mut children = ready
            .each_ref()
            .map(|path| start("program", &patient(path, "exit 0")));
        let error = finish(&mut children, LONG, &interrupts, || {
            if ready.iter().all(|path| path.exists()) {
                interrupts.0.store(1, Ordering::SeqCst);
            }
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(children.iter().all(|child| child.ended.unwrap().success()));
    }

    #[test]
    fn a_second_ctrl_c_kills_what_ignores_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, asked) = (dir.path().join("ready"), dir.path().join("asked"));
        let interrupts = Interrupts::default();
        let on_interrupt = format!("touch {}", asked.display());
        let mut children = [start("deaf", &patient(&ready, &on_interrupt))];
        finish(&mut children, LONG, &interrupts, || {
            let pressed = usize::from(ready.exists()) + usize::from(asked.exists());
            interrupts.0.store(pressed, Ordering::SeqCst);
        })
        .unwrap_err();
        assert_eq!(children[0].ended.unwrap().code(), None, "ended by a signal");
    }

    #[test]
    fn watched_output_is_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let bar = ProgressBar::hidden();
        let output = Output::Watched {
            log: &log,
            bar: &bar,
        };
        let child = Running::start("p", &mut shell("echo out; echo err >&2"), output).unwrap();
        finish(&mut [child], LONG, &Interrupts::default(), || {}).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("out\n") && text.contains("err\n"), "{text}");
    }
}
