//! What the tests of the robot process share.
#![allow(clippy::unwrap_used, dead_code)] // each test file uses a part

pub mod acting;
pub mod learner;
pub mod onnx;
pub mod pty;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use hilt_protocol::Entry;
use hilt_recording::RunReader;
use hilt_runtime::inference::{Engine, Provider};

/// Long enough for a loaded machine; nothing waits so long when all is well.
pub const LONG: Duration = Duration::from_secs(60);

/// ONNX Runtime, which a process opens once.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&[Provider::Cpu], 1).unwrap())
}

/// A rig's file of this repository.
pub fn rig_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../rigs")
        .join(name)
}

/// Waits until `done`; fails the test, with `what`, if that never happens.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All entries of a run, and whether its log is whole.
pub fn read_log(dir: &Path) -> (Vec<Entry>, bool) {
    let mut reader = RunReader::open(dir).unwrap();
    let entries = reader.by_ref().collect::<Result<_, _>>().unwrap();
    (entries, reader.cut().is_none())
}
