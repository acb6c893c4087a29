//! Rig files and settings that are no good: the program says where, which field, and what would be
//! right, and does nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use hilt_tests::{Program, hilt, lift_rig};

/// Runs `hilt record` on a rig, which must fail and leave nothing; what it said.
fn refused(rig: &Path, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = hilt();
    command
        .args(["record", "--episodes", "1", "--rig"])
        .arg(rig)
        .arg("--out")
        .arg(&out)
        .args(arguments);
    let said = Program::start("hilt record", &mut command).ends_with(1);
    assert!(!out.exists(), "{said}");
    said
}

/// What the lift rig's file says, what a person makes of it, and the words of the answer besides
/// the place.
const MISTAKES: [(&str, &str, &[&str]); 26] = [
    // An unknown field.
    (
        "max_steps = 60",
        "max_stepz = 100",
        &["unknown field `max_stepz`", "`max_steps`"],
    ),
    (
        "[classifier]",
        "[clasifier]",
        &["unknown field `clasifier`", "`classifier`"],
    ),
    (
        "timestep_s = 0.004",
        "time_s = 0.004",
        &["unknown field `time_s`", "`timestep_s`"],
    ),
    // A missing one: the place is its table's.
    (
        "[episode]\nmax_steps = 60",
        "[episode]",
        &["missing field `max_steps`"],
    ),
    // A wrong type.
    (
        "policy_hz = 10",
        "policy_hz = \"often\"",
        &["policy_hz", "string \"often\", expected u32"],
    ),
    (
        "policy_hz = 10",
        "policy_hz = -10",
        &["policy_hz", "`-10`, expected u32"],
    ),
    (
        "step_m = 0.025",
        "step_m = [1]",
        &["step_m", "expected f64"],
    ),
    (
        "workspace_min_m = [0.30, -0.16, 0.008]",
        "workspace_min_m = [0.30, -0.16]",
        &["workspace_min_m", "expected an array of length 3"],
    ),
    // An unknown name.
    (
        "mode = \"single-arm-learned-gripper\"",
        "mode = \"three-arms\"",
        &["mode", "`three-arms`", "`dual-arm-fixed-gripper`"],
    ),
    (
        "clock = \"simulated\"",
        "clock = \"sundial\"",
        &["clock", "`monotonic`"],
    ),
    (
        "providers = [\"cpu\"]",
        "providers = [\"tpu\"]",
        &["providers", "`tensorrt`, `cuda`, `cpu`"],
    ),
    (
        "mount = \"world\"",
        "mount = \"ceiling\"",
        &["mount", "`world` or `wrist`"],
    ),
    // An impossible value.
    (
        "policy_hz = 10",
        "policy_hz = 0",
        &["`policy_hz` is 0; it must be 1 to 1000"],
    ),
    (
        "control_hz = 50",
        "control_hz = 55",
        &["`control_hz` is 55", "a multiple of policy_hz (10)"],
    ),
    (
        "range_m = 0.20",
        "range_m = -0.2",
        &["`episode.range_m` is -0.2; it must be 0 to 0.5"],
    ),
    (
        "max_steps = 60",
        "max_steps = 0",
        &["`episode.max_steps` is 0; it must be 1 to"],
    ),
    (
        "gripper_penalty = -0.02",
        "gripper_penalty = 0.02",
        &["`episode.gripper_penalty` is 0.02; it must be -1 to 0"],
    ),
    (
        "workspace_max_m = [0.60, 0.16, 0.30]",
        "workspace_max_m = [0.60, -0.2, 0.30]",
        &["`limits.workspace_max_m` is -0.2 on y, not above workspace_min_m (-0.16)"],
    ),
    (
        "noise_std = 0.15",
        "noise_std = nan",
        &["`operator.noise_std` is NaN; it must be 0 to 1"],
    ),
    (
        "height = 64",
        "height = 0",
        &["`scene.cameras[0].height` is 0; it must be 16 to 4096"],
    ),
    (
        "name = \"wrist\"",
        "name = \"front\"",
        &["`scene.cameras[1].name` `front` is used twice"],
    ),
    (
        "controlled_axes = [\"x\", \"y\", \"z\"]",
        "controlled_axes = []",
        &["at least one of x, y, z"],
    ),
    (
        "inference_threads = 1",
        "inference_threads = 0",
        &["`inference_threads` is 0", "1 to 256"],
    ),
    (
        "mode = \"single-arm-learned-gripper\"",
        "mode = \"dual-arm-learned-gripper\"",
        &["`mode` is dual-arm-learned-gripper; the lift scene has one arm"],
    ),
    // A model that is not there.
    (
        "inference_threads = 1",
        "model = \"no/such\"",
        &[
            "`model` has no encoder.onnx (",
            "no/such/encoder.onnx); name a folder",
        ],
    ),
    // No TOML at all.
    ("[episode]", "[episode", &["unclosed table"]),
];

#[test]
fn each_mistake_is_answered_with_file_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("rig.toml");
    let lift = std::fs::read_to_string(lift_rig()).unwrap();
    for (right, wrong, words) in MISTAKES {
        // Whole lines, but for the comments that may follow.
        let at = lift.find(&format!("\n{right}")).unwrap() + 1;
        let text = format!("{}{wrong}{}", &lift[..at], &lift[at + right.len()..]);
        std::fs::write(&path, text).unwrap();
        let said = refused(&path, &[]);
        let line = lift[..at].lines().count() + 1;
        let place = format!("{}:{line}: ", path.display());
        for word in words.iter().copied().chain([place.as_str()]) {
            assert!(said.contains(word), "{wrong}: no {word:?} in\n{said}");
        }
    }
}

#[test]
fn settings_are_named_when_they_are_to_blame() {
    for (setting, words) in [
        (
            "nonsense=1",
            "unknown field `nonsense`, expected one of `mode`",
        ),
        (
            "episode.max_stepz=7",
            "unknown field `max_stepz`, expected one of `max_steps`",
        ),
        ("episode.max_steps=many", "string \"many\", expected u32"),
        (
            "operator.speed=7",
            "`operator.speed` is 7; it must be 0.01 to 1",
        ),
        ("episode.max_steps", "write it as key.subkey=value"),
        ("mode.arms=2", "`mode` is not a table"),
        ("model=/no/such", "`model` has no encoder.onnx"),
    ] {
        let said = refused(&lift_rig(), &["--set", setting]);
        let place = format!("--set {setting}: ");
        assert!(said.contains(&place) && said.contains(words), "{said}");
    }
}

#[test]
fn a_rig_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("none.toml"), dir.path().to_owned()] {
        let said = refused(&path, &[]);
        let place = format!("{}: ", path.display());
        assert!(said.contains(&place) && said.contains("--rig"), "{said}");
    }
}
