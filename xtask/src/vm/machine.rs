//! QEMU, started and watched.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// A guard against a machine that hangs; on a slow computer it takes a tenth of it.
const LONGEST_RUN: Duration = Duration::from_secs(600);

/// Emulated wholly, as KVM is not to be had in every container, and on a time of its own: an
/// instruction takes a nanosecond, waiting takes none of ours. So what is measured inside does not
/// hang on how busy this computer is, and is nearly the same at every run.
const OPTIONS: &str = "-nodefaults -no-user-config -display none -no-reboot -cpu max -m 512 \
    -accel tcg,thread=single -smp 1 -icount shift=0,sleep=off";

/// A USB adapter of FTDI's, plugged in. The other end of its line is the machine's third serial
/// port; the socket between them is in the folder of the machine's files.
const ADAPTER: &str = "-device qemu-xhci \
    -chardev socket,id=far,path=adapter,server=on,wait=off -device usb-serial,chardev=far \
    -chardev socket,id=near,path=adapter -serial chardev:near";

/// Lines of the console that are shown when something went wrong.
const LAST_LINES: usize = 60;

/// Boots the machine, hands each line of its second serial port to `said`, and returns when it has
/// switched itself off. `words` go to its first program; the console is written to `console`.
pub fn run(
    vmlinux: &Path,
    image: &Path,
    console: &Path,
    words: &[String],
    said: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    watch(&mut command(vmlinux, image, console, words), said)?;
    let text = fs::read(console).unwrap_or_default();
    let panicked = String::from_utf8_lossy(&text).contains("Kernel panic");
    ensure!(!panicked, "the machine's kernel panicked");
    Ok(())
}

fn command(vmlinux: &Path, image: &Path, console: &Path, words: &[String]) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(OPTIONS.split_whitespace())
        .arg("-kernel")
        .arg(vmlinux)
        .arg("-initrd")
        .arg(image)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args([
            "-chardev",
            "stdio,id=results,signal=off",
            "-serial",
            "chardev:results",
        ])
        .args(ADAPTER.split_whitespace())
        .arg("-append")
        .arg(format!(
            "console=ttyS0 panic=-1 quiet -- {}",
            words.join(" ")
        ))
        .current_dir(console.parent().unwrap_or(Path::new(".")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    qemu
}

/// Ends with the machine, also when somebody gives up waiting.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(qemu: &mut Command, mut said: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut machine = Machine(qemu.spawn().context("cannot start qemu-system-x86_64")?);
    let results = machine.0.stdout.take().context("QEMU has no output")?;
    let mut complaints = machine.0.stderr.take().context("QEMU has no errors")?;
    let (lines, come) = mpsc::sync_channel(64);
    let reader = thread::Builder::new().name("results".into());
    // It ends when QEMU does, whose end of the pipe is the only other one.
    let reader = reader.spawn(move || {
        for line in BufReader::new(results).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    })?;
    let begin = Instant::now();
    loop {
        let left = LONGEST_RUN.saturating_sub(begin.elapsed());
        match come.recv_timeout(left) {
            Ok(line) => said(line.trim())?,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the machine is not done after {} s", LONGEST_RUN.as_secs())
            }
        }
    }
    let status = machine.0.wait().context("waiting for QEMU")?;
    // The pipe is closed, so both end at once.
    let _ = reader.join();
    let mut words = String::new();
    complaints.read_to_string(&mut words)?;
    ensure!(status.success(), "QEMU failed ({status}): {}", words.trim());
    Ok(())
}

/// What the machine said last on its console.
pub fn last_words(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    format!(
        "its console ({}) ends with:\n{}",
        console.display(),
        last.join("\n")
    )
}
