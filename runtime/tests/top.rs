//! `hilt top`, in a terminal and without one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use common::pty::{AtTerminal, CTRL_C};
use hilt_runtime::{
    accounting::{Accounts, Budgets},
    rig::ClockKind,
    status::{Status, unix_now_s},
    tick::{Outcome, TickTimes},
};

/// A run that stood like this just now.
fn stands(dir: &Path, mode: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let mut accounts = Accounts::new(Budgets::new(2_000_000, 100_000_000));
    accounts.tick(Outcome::Held, &TickTimes::default());
    let status = Status {
        run: "0123456789abcdef".into(),
        rig: "rigs/so101.toml".into(),
        unix_s: unix_now_s(),
        ended: false,
        timing: accounts.timing(ClockKind::Monotonic, accounts.outcomes()),
        mode: mode.into(),
        fault: None,
        faults: BTreeMap::new(),
        policy_version: 1,
        swaps: 0,
        episodes: 0,
        env_steps: 0,
        entries: 0,
        acknowledged: 0,
        learner_alive: None,
        log_losses: 0,
        inputs_ms: BTreeMap::new(),
    };
    status.write(dir).unwrap();
}

fn hilt(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hilt"))
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap()
}

#[test]
fn a_terminal_shows_what_is_new_and_is_given_back() {
    const LEAVES: &str = "\u{1b}[?1049l";
    for key in ["q", CTRL_C] {
        let dir = tempfile::tempdir().unwrap();
        stands(dir.path(), "armed");
        let mut person = AtTerminal::hilt(&["top", &dir.path().display().to_string()]);
        person.sees("ARMED", 0);
        person.sees("held", 0);
        assert!(person.gives_keys());
        stands(dir.path(), "stopping");
        person.sees("STOPPING", 0);
        // Another key is none of its business.
        person.press("x");
        person.press(key);
        let (status, screen) = person.end();
        assert!(status.success(), "{screen}");
        assert!(screen.contains(LEAVES), "{screen}");
    }
}

#[test]
fn without_a_terminal_it_is_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    stands(&dir.path().join("runs/lift/actor"), "running");
    for args in [&["top"][..], &["top", "--once"], &["top", "runs/lift"]] {
        let output = hilt(args, dir.path());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}");
        assert!(text.starts_with("RUNNING\n"), "{text}");
        assert!(text.contains("run 0123456789abcdef"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn where_there_is_no_run_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let output = hilt(&["top"], dir.path());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(words.contains("name a run's folder"), "{words}");
}
