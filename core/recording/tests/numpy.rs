//! Archives of tables, there and back with numpy itself. It is fetched by `cargo xtask setup` and `cargo xtask test`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use hilt_recording::table::{Columns, Table, npz};
use serde_json::json;

const ROWS: usize = 1000;

/// The numbers that `tables.py` has too.
fn table() -> Table {
    let eighths = |count: usize, of: fn(usize) -> f32| (0..count).map(of).collect::<Vec<_>>();
    Table::new(Columns {
        observation: 3,
        action: 2,
        observations: eighths(3 * ROWS, |i| i as f32 / 8.0),
        actions: eighths(2 * ROWS, |i| (i % 16) as f32 / 8.0 - 1.0),
        rewards: eighths(ROWS, |i| i as f32 / 8.0 - 50.0),
        next_observations: eighths(3 * ROWS, |i| (i + 3) as f32 / 8.0),
        terminals: (0..ROWS).map(|i| i % 70 == 69).collect(),
        timeouts: (0..ROWS).map(|i| i % 100 == 99).collect(),
    })
    .unwrap()
}

/// Runs `tables.py`; what it printed.
fn python(task: &str, place: &Path) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tables.py");
    // numpy comes with OpenCV. Set by `.cargo/config.toml`, for the build and for what cargo runs.
    let packages = std::env::var_os("OPENCV_PYTHONPATH").expect("run the tests with cargo");
    let out = Command::new("python3")
        .arg(script)
        .args([task.as_ref(), place.as_os_str()])
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENBLAS_NUM_THREADS", "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("python3 is missing");
    assert!(
        out.status.success(),
        "tables.py {task} failed; if numpy is missing, fetch it once with: cargo xtask setup"
    );
    out.stdout
}

#[test]
fn what_numpy_wrote_is_read() {
    let dir = tempfile::tempdir().unwrap();
    python("write", dir.path());
    for name in ["double", "single", "compressed", "fortran", "other-names"] {
        let path = dir.path().join(name).with_extension("npz");
        assert!(npz::read(&path).unwrap() == table(), "{name}");
    }
}

#[test]
fn numpy_reads_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.npz");
    let table = table();
    npz::write(&path, &table).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&python("read", &path)).unwrap();
    let columns = table.columns();
    let wanted = json!({
        "observations": ["float32", [ROWS, 3], columns.observations],
        "actions": ["float32", [ROWS, 2], columns.actions],
        "rewards": ["float32", [ROWS], columns.rewards],
        "next_observations": ["float32", [ROWS, 3], columns.next_observations],
        "terminals": ["bool", [ROWS], columns.terminals],
        "timeouts": ["bool", [ROWS], columns.timeouts],
    });
    assert!(read == wanted);
}
