//! An episode is recorded, and the rig is driven through it again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use hilt_runtime::{
    cell::Cell,
    operator::Operator,
    pace::Pace,
    record::{RecordOptions, record},
    replay::{Episode, ReplayError, Replayed, replay},
    rig::Rig,
};

fn rig(name: &str, overrides: &[&str]) -> Rig {
    let rigs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs");
    let overrides: Vec<String> = overrides.iter().map(|&s| s.to_owned()).collect();
    Rig::read(&rigs.join(name), &overrides).unwrap()
}

fn recorded(dir: &Path) {
    let options = RecordOptions {
        episodes: 2,
        demonstrator: Operator::Scripted,
        seed: 5,
        out: dir.to_owned(),
        rerun: None,
    };
    let stop = AtomicBool::new(false);
    let lift = rig("lift-sim.toml", &[]);
    record(&lift, &options, &stop, |_, _| {}, |_| {}).unwrap();
}

fn drive(rig: &Rig, episode: &Episode, stop_after: usize) -> Result<Replayed, ReplayError> {
    let mut cell = Cell::open(rig).unwrap();
    let stop = AtomicBool::new(stop_after == 0);
    let mut pace = Pace::of(rig, false);
    replay(rig, &mut cell, episode, &mut pace, &stop, |stood| {
        stop.store(stood.step == stop_after, Ordering::Relaxed);
    })
}

#[test]
fn an_arm_does_again_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    recorded(&dir);
    let lift = rig("lift-sim.toml", &[]);
    let (first, second) = (Episode::read(&dir, None), Episode::read(&dir, Some(1)));
    let (first, second) = (first.unwrap(), second.unwrap());
    for episode in [&first, &second] {
        let replayed = drive(&lift, episode, usize::MAX).unwrap();
        assert_eq!(
            (replayed.steps, replayed.of),
            (episode.steps(), episode.steps())
        );
        // Within a tenth of a millimetre, but where the fingers met a cube that is elsewhere now.
        let Replayed {
            mean_off_m,
            most_off_m,
            ..
        } = replayed;
        assert!(0.0 < mean_off_m && mean_off_m <= most_off_m, "{replayed:?}");
        assert!(mean_off_m < 0.002 && most_off_m < 0.02, "{replayed:?}");
    }
    let stopped = drive(&lift, &first, 3).unwrap();
    assert_eq!((stopped.steps, stopped.of), (3, first.steps()));

    let error = Episode::read(&dir, Some(9)).unwrap_err().to_string();
    assert!(
        error.ends_with("no episode 9 with steps; there are 0 to 1"),
        "{error}"
    );
    let refused = |rig: Rig| drive(&rig, &first, 0).unwrap_err().to_string();
    for (rig, words) in [
        (
            rig("fake-dual.toml", &[]),
            "mode is single-arm-learned-gripper",
        ),
        (
            rig("lift-sim.toml", &["controlled_axes=[\"x\", \"y\"]"]),
            "controlled_axes is x, y, z",
        ),
        (
            rig("lift-sim.toml", &["policy_hz=5"]),
            "policy_hz is 10, the rig's 5",
        ),
        (
            rig("lift-sim.toml", &["limits.step_m=0.02"]),
            "--set limits.step_m",
        ),
    ] {
        let error = refused(rig);
        assert!(error.contains(words), "{error}");
    }
    let low = rig(
        "lift-sim.toml",
        &["limits.workspace_max_m=[0.60, 0.16, 0.06]"],
    );
    let error = drive(&low, &first, usize::MAX).unwrap_err().to_string();
    assert!(error.starts_with("arm 0 stays "), "{error}");
}

#[test]
fn what_is_no_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Episode::read(folder.path(), None),
        Err(ReplayError::Read(_))
    ));
}
