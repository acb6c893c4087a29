//! The programs in Python that other tests ask are there, at the versions that were pinned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/python.rs"]
mod support;

#[test]
fn python_knows_the_programs_that_files_are_exchanged_with() {
    let Some(out) = support::python::<&str>("versions.py", &[]) else {
        return;
    };
    let versions: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(versions["lerobot"], "0.4.4");
    assert_eq!(versions["codebase"], "v3.0");
}
