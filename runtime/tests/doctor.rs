//! `hilt doctor` as a user runs it.

use std::process::{Command, Output};

fn doctor(command: &mut Command) -> Option<Output> {
    command.args(["doctor"]).output().ok()
}

#[test]
fn what_must_be_mended_is_said_with_its_remedy_and_by_the_exit_status() {
    let hilt = || Command::new(env!("CARGO_BIN_EXE_hilt"));
    let as_it_is = doctor(&mut hilt()).unwrap();
    let without_library = doctor(hilt().env("ORT_DYLIB_PATH", "/nowhere/lib.so")).unwrap();
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
