//! Programs in Python that files are exchanged with: lerobot, numpy, h5py, mcap.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::Command,
};

/// Runs a script that lies beside this file, with arguments, in the environment that `cargo xtask setup` makes; what it
/// printed. Where that is not installed it says so and gives nothing.
pub fn python<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> Option<Vec<u8>> {
    // Set by `.cargo/config.toml`, for the build and for what cargo runs.
    let program = std::env::var_os("HILT_PYTHON").expect("run the tests with cargo");
    if !Path::new(&program).exists() {
        println!(
            "SKIPPED: Python's programs are not installed; fetch them with: cargo xtask setup"
        );
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/support")
        .join(script);
    // What Hugging Face's packages keep for later.
    let home = tempfile::tempdir().expect("no folder for temporary files");
    let out = Command::new(program)
        .arg(path)
        .args(arguments)
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1")
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("OMP_NUM_THREADS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python cannot be run");
    let arguments: Vec<OsString> = arguments.iter().map(|a| a.as_ref().to_owned()).collect();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "{script} {arguments:?} failed:\n{said}"
    );
    Some(out.stdout)
}
