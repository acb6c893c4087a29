//! Runs a fuzz target for a while, with the toolchain that is there.
//!
//! `cargo fuzz` wants a nightly compiler for the address sanitizer; coverage, which is what makes a
//! fuzzer find its way, needs only flags that the stable one has. Findings and corpus lie where
//! `cargo fuzz` would put them.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::process;

/// The targets: `fuzz/targets/NAME.rs`.
const TARGETS: [&str; 13] = [
    "wire",
    "run_log",
    "settings",
    "lerobot",
    "pickle",
    "feetech",
    "dynamixel",
    "camera",
    "urdf",
    "calibration",
    "table",
    "hdf5",
    "hil_serl",
];
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs one target, or all one after the other, `seconds` each.
pub fn run(root: &Path, target: Option<&str>, seconds: u64) -> Result<()> {
    if let Some(target) = target {
        let known = TARGETS.join(", ");
        ensure!(
            TARGETS.contains(&target),
            "there is no fuzz target {target}; there are {known}"
        );
    }
    let folder = root.join("fuzz");
    let host = host()?;
    for name in TARGETS {
        if target.is_some_and(|target| target != name) {
            continue;
        }
        println!("── fuzzing {name} for {seconds} s");
        let corpus = folder.join("corpus").join(name);
        let findings = folder.join("artifacts").join(name);
        for place in [&corpus, &findings] {
            fs::create_dir_all(place).with_context(|| format!("creating {}", place.display()))?;
        }
        // With a target named, the flags are for the fuzzer alone and not for build scripts.
        let build = [
            "build",
            "--quiet",
            "--release",
            "--target",
            &host,
            "--bin",
            name,
        ];
        let built = process::cargo(&build)
            .current_dir(&folder)
            .env("RUSTFLAGS", COVERAGE)
            .status()
            .context("cannot start cargo")?;
        ensure!(built.success(), "{name} does not build");
        let program = folder.join("target").join(&host).join("release").join(name);
        let status = Command::new(&program)
            .arg(&corpus)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg("-max_len=65536")
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(
            status.success(),
            "{name}: the fuzzer found something; the input lies in {}",
            findings.display()
        );
    }
    Ok(())
}

/// The compiler's own target.
fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
