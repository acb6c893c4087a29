//! Process 1 of the machine.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot},
};

use crate::cases::{CASES, Case};

/// Where results go; the first serial port is the console.
const RESULTS: &str = "/dev/ttyS1";

/// A guard against a case that hangs; none comes near it.
const LONGEST_CASE: Duration = Duration::from_secs(60);

/// Runs the cases whose names contain one of `words`, all without words, and switches the machine
/// off.
pub fn run(words: &[&str]) -> ExitCode {
    if let Err(error) = try_run(words) {
        eprintln!("{error:?}");
    }
    rustix::fs::sync();
    // Comes back only if it fails; then the kernel says on the console that its first program ended.
    let _ = reboot(RebootCommand::PowerOff);
    ExitCode::FAILURE
}

fn try_run(words: &[&str]) -> Result<()> {
    let file_systems = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ];
    for (kind, place) in file_systems {
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {place}"))?;
    }
    let mut results = OpenOptions::new().write(true).open(RESULTS);
    let results = results
        .as_mut()
        .map_err(|e| anyhow::anyhow!("{RESULTS}: {e}"))?;
    // It gives devices their stable names, by the same rules as on a robot's computer.
    let udev = Command::new("/lib/systemd/systemd-udevd")
        .arg("--daemon")
        .status();
    let udev = udev.context("starting udev")?;
    ensure!(udev.success(), "udev does not start ({udev})");
    for case in CASES {
        if words.is_empty() || words.iter().any(|word| case.name.contains(word)) {
            let result = observe(case)?;
            writeln!(results, "{result}").context("reporting")?;
        }
    }
    Ok(())
}

/// Runs a case and says how it went, as JSON.
fn observe(case: &Case) -> Result<serde_json::Value> {
    let [out, err] = ["/tmp/out", "/tmp/err"].map(Path::new);
    let begin = Instant::now();
    let mut child = Command::new("/proc/self/exe")
        .args(["--case", case.name])
        .stdin(Stdio::null())
        .stdout(File::create(out)?)
        .stderr(File::create(err)?)
        .spawn()
        .context("starting a case")?;
    let mut complaint = String::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > LONGEST_CASE && complaint.is_empty() {
            complaint = format!("it did not end in {} s\n", LONGEST_CASE.as_secs());
            child.kill()?;
        }
        sleep(Duration::from_millis(5));
    };
    if !status.success() {
        complaint += &String::from_utf8_lossy(&fs::read(err)?);
        complaint += &format!("({status})");
    }
    let says = match status.success() {
        true => fs::read_to_string(out)?.trim().to_owned(),
        false => complaint,
    };
    Ok(serde_json::json!({
        "case": case.name,
        "passed": status.success(),
        "took_ms": begin.elapsed().as_millis() as u64,
        "says": says,
    }))
}
