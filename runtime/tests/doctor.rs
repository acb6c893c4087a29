//! `hilt doctor` as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use hilt_runtime::{
    doctor::{self, Level},
    rig::Rig,
};

fn run(command: &mut Command) -> Option<Output> {
    command.args(["doctor"]).output().ok()
}

#[test]
fn what_must_be_mended_is_said_with_its_remedy_and_by_the_exit_status() {
    let hilt = || Command::new(env!("CARGO_BIN_EXE_hilt"));
    let as_it_is = run(&mut hilt()).unwrap();
    let without_library = run(hilt().env("ORT_DYLIB_PATH", "/nowhere/lib.so")).unwrap();
    for output in [&as_it_is, &without_library] {
        let text = String::from_utf8_lossy(&output.stdout);
        let must_be_mended = text.contains("MEND");
        assert_eq!(
            output.status.code(),
            Some(i32::from(must_be_mended)),
            "{text}"
        );
        assert!(text.contains("p99"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
    let text = String::from_utf8_lossy(&without_library.stdout);
    let line = text
        .lines()
        .find(|line| line.contains("/nowhere/lib.so"))
        .unwrap();
    assert!(line.starts_with("MEND  ONNX Runtime"), "{line}");
    assert!(line.contains("cargo xtask setup"), "{line}");
}

fn rig(overrides: &[&str]) -> Rig {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/emulated-dual.toml");
    let overrides: Vec<String> = overrides.iter().map(|&s| s.to_owned()).collect();
    Rig::read(&file, &overrides).unwrap()
}

#[test]
fn the_rigs_own_devices_are_asked() {
    let findings = doctor::hardware(&rig(&[])).unwrap();
    let subjects: Vec<_> = findings.iter().map(|f| (f.subject, f.level)).collect();
    let ok = |subject| (subject, Level::Ok);
    assert_eq!(
        subjects,
        [
            ok("arm"),
            ok("servos"),
            ok("arm"),
            ok("servos"),
            ok("camera"),
            ok("camera")
        ],
        "{findings:?}"
    );
    let gone = rig(&["ports=[\"/nowhere/a\", \"/nowhere/b\"]"]);
    let error = doctor::hardware(&gone).unwrap_err().to_string();
    assert!(error.contains("/nowhere/a"), "{error}");
}

#[test]
fn the_arms_are_left_alone_unless_somebody_agrees() {
    let rig = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/emulated-dual.toml");
    let mut hilt = Command::new(env!("CARGO_BIN_EXE_hilt"));
    hilt.args(["doctor", "--hardware", "--rig"]).arg(rig);
    let output = hilt.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("reads fresh states"), "{text}");
}
