//! A person at the keyboard of the real program, in a terminal of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::{Command, Stdio};

use common::{
    pty::{AtTerminal, CTRL_C, ENTER},
    read_log, rig_file, until,
};
use hilt_protocol::{ActionSource, Record};

fn args(chore: &str, more: &[&str]) -> Vec<String> {
    let rig = rig_file("fake-dual.toml").display().to_string();
    let fixed = [chore, "--rig", &rig, "--set", "policy_hz=50"];
    fixed.iter().chain(more).map(|&s| s.to_owned()).collect()
}

/// The last number shown after `name`.
fn last_number(screen: &str, name: &str) -> f64 {
    let (_, after) = screen.rsplit_once(name).unwrap();
    let number: String = after
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_digit() || "-.".contains(*c))
        .collect();
    number.parse().unwrap()
}

#[test]
fn teleoperate_moves_the_arm_and_ends_in_order() {
    let mut person = AtTerminal::hilt(&args("teleoperate", &[]));
    person.sees("w/s forth and back", 0);
    person.sees("arm 1: tool x", 0);
    assert!(person.gives_keys());
    person.sees("▀", 0);
    let start_m = last_number(&person.screen(), "arm 0: tool x");
    let right_m = last_number(&person.screen(), "arm 1: tool x");
    let from = person.screen().len();
    person.press("ssc");
    person.sees("gripper closed", from);
    until("the arm is there", || {
        let moved_m = last_number(&person.screen(), "arm 0: tool x") - start_m;
        // Two taps, or a tap and a repeat: at least two steps of 2.5 cm.
        moved_m < -0.04
    });
    assert_eq!(last_number(&person.screen(), "arm 1: tool x"), right_m);
    let from = person.screen().len();
    // On and on, until the workspace ends.
    person.press(&"f".repeat(200));
    until("a limit is named", || {
        person.press("f");
        person.screen()[from..].contains("limits hit: workspace")
    });
    person.press(CTRL_C);
    let (status, screen) = person.end();
    assert!(status.success(), "{screen}");
    assert!(screen.contains("steps driven"), "{screen}");
}

#[test]
fn a_person_records_and_ctrl_c_leaves_a_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demos");
    let place = out.display().to_string();
    let more = ["--operator", "keyboard", "--episodes", "3", "--out", &place];
    let mut person = AtTerminal::hilt(&args("record", &more));
    person.sees("demonstration 1 of 3", 0);
    person.press_and_wait("wwc");
    person.press(ENTER);
    person.sees("carry it about", 0);
    person.sees("demonstration 2 of 3", 0);
    person.press("x");
    person.sees("thrown away", 0);
    person.press(CTRL_C);
    let (status, screen) = person.end();
    assert_eq!(status.code(), Some(130), "{screen}");
    assert!(screen.contains("1 demonstrations of"), "{screen}");
    let (entries, whole) = read_log(&out);
    assert!(whole);
    let steps: Vec<_> = (entries.iter())
        .filter_map(|entry| match &entry.record {
            Record::Step(step) => Some(step),
            Record::Reset(_) => None,
        })
        .collect();
    assert_eq!(entries.len(), steps.len() + 1, "one episode was kept");
    assert!(steps.iter().all(|s| s.source == ActionSource::Human));
    assert!(steps.iter().any(|s| s.action[0] > 0.1), "{steps:?}");
    let last = steps.last().unwrap();
    assert_eq!((last.terminated, last.reward), (true, 1.0));
    let (labels, whole) = read_log(&dir.path().join("demos-labels"));
    assert!(whole && !labels.is_empty());
}

#[test]
fn what_is_recorded_in_real_time_can_be_verified_and_driven_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("demos").display().to_string();
    let rig = rig_file("emulated-dual.toml").display().to_string();
    let record = ["record", "--operator", "keyboard", "--episodes", "1"];
    // A machine that others use as well stands still for longer than a robot's should.
    let patient = [
        "state_ms=2000",
        "frame_ms=2000",
        "policy_ms=5000",
        "jump_ms=20000",
    ];
    let patient = patient.map(|age| format!("ages.{age}"));
    let patience: Vec<&str> = patient.iter().flat_map(|age| ["--set", age]).collect();
    let rig = [&["--rig", &rig][..], &patience].concat();
    let mut person = AtTerminal::hilt(&[&record[..], &["--out", &place], &rig].concat());
    person.sees("demonstration 1 of 1", 0);
    person.press_and_wait("wwc");
    person.press(ENTER);
    let (status, screen) = person.end();
    assert!(status.success(), "{screen}");
    let replay = [&["replay", &place][..], &rig].concat();
    for again in [&["verify", &place][..], &replay] {
        let output = Command::new(env!("CARGO_BIN_EXE_hilt"))
            .args(again)
            .output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{again:?}: {text}");
        let says = ["identical", "steps driven"]
            .iter()
            .any(|says| text.contains(says));
        assert!(says, "{again:?}: {text}");
    }
}

#[test]
fn without_a_terminal_the_remedy_is_named_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("run").display().to_string();
    for more in [
        &["teleoperate"][..],
        &["record", "--operator", "keyboard", "--out", &place],
        &["actor", "--operator", "keyboard", "--out", &place],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_hilt"))
            .args(args(more[0], &more[1..]))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(text.contains("start it in a terminal"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn ctrl_c_ends_the_actor_while_it_waits_for_a_learner() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let place = out.display().to_string();
    // Nobody listens on the discard port.
    let more = ["--operator", "keyboard", "--connect", "tcp/127.0.0.1:9"];
    let mut args = args("actor", &more);
    args.extend(["--out".to_owned(), place]);
    let mut person = AtTerminal::hilt(&args);
    person.sees("waiting for the learner's encoder graph", 0);
    person.sees("h hand back", 0);
    person.press(CTRL_C);
    let (status, screen) = person.end();
    assert!(
        !status.success() && screen.contains("stopped while waiting"),
        "{screen}"
    );
    let (entries, _) = read_log(&out);
    assert!(entries.is_empty());
}

#[test]
fn a_full_disk_ends_the_run_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demos");
    let place = out.display().to_string();
    // No file may grow beyond 64 KiB: a demonstration of a few steps, but not what follows it.
    let mut hilt = Command::new("bash");
    let script = "ulimit -f 64; trap '' XFSZ; exec \"$0\" \"$@\"";
    hilt.args(["-c", script, env!("CARGO_BIN_EXE_hilt")]);
    hilt.args(args("record", &["--operator", "keyboard", "--out", &place]));
    let mut person = AtTerminal::start(hilt);
    person.sees("demonstration 1 of 20", 0);
    person.press(ENTER);
    let (status, screen) = person.end();
    assert!(!status.success());
    let words = "run.mcap: File too large";
    assert!(
        screen.contains(words) && screen.contains("--out"),
        "{screen}"
    );
    for run in [out, dir.path().join("demos-labels")] {
        let (entries, _) = read_log(&run);
        assert!(!entries.is_empty(), "what was written before can be read");
    }
}
