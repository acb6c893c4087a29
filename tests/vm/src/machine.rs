//! What cases do to the machine they run in.

use std::{
    ffi::CString,
    fs::{self, File},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hilt_realtime::{Clock, Monotonic};
use rustix::{
    io::Errno,
    system::{delete_module, finit_module},
};

/// A guard against waiting for ever; no test depends on its length.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the kernel's modules are, with a line for each in `order`: its name, a colon, and what to
/// load in which order.
const MODULES: &str = "/modules";

/// Loads a kernel module, with parameters as those of `modprobe`, and what it needs. Does nothing
/// when it is loaded.
pub fn load(module: &str, parameters: &str) -> Result<()> {
    let order = fs::read_to_string(format!("{MODULES}/order")).context("the list of modules")?;
    let mut lines = order.lines().filter_map(|line| line.split_once(": "));
    let line = lines.find(|(name, _)| *name == module);
    let (_, order) = line.with_context(|| format!("module {module} is not in the machine"))?;
    for needed in order.split_whitespace() {
        let file = File::open(format!("{MODULES}/{needed}.ko"))
            .with_context(|| format!("module {needed}"))?;
        let own = if needed == module { parameters } else { "" };
        match finit_module(&file, &CString::new(own)?, 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => bail!("loading module {needed} {own}: {error}"),
        }
    }
    Ok(())
}

/// Removes a module: its devices are gone.
pub fn unload(module: &str) -> Result<()> {
    delete_module(&CString::new(module)?, 0).with_context(|| format!("unloading {module}"))
}

/// Waits until something is there; `what` is for the message if it never is.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begin.elapsed() > PATIENCE {
            bail!("waited {} s in vain: {what}", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(1));
    }
}

/// Waits until there is a file, or a link to one.
pub fn wait_for_file(path: &str) -> Result<()> {
    let exists = || Path::new(path).exists().then_some(());
    wait_for(&format!("there is no {path}"), exists)
}

/// Lets time pass, and gives what it is then, nanoseconds.
pub fn pass_ns(duration_ns: u64) -> u64 {
    Monotonic.sleep_until_ns(Monotonic.now_ns() + duration_ns);
    Monotonic.now_ns()
}
