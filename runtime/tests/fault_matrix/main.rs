//! Every fault, in every phase of a run, in every setup mode: seen in time, answered as the table of
//! faults says, no arm ever limp or beyond its limits, and told in words.
//!
//! A run is a script: it stands idle, arms, moves by the policy, moves by a person's hand, stops for
//! the next episode, is held because the policy is silent, and stands in a fault. Played once without
//! the fault it says when each phase is; played again, the fault strikes there. The clock is a fake
//! one, so both are the same up to that moment.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checks;
mod script;
mod stage;

use checks::Struck;
use hilt_drivers::faults::FaultKind as Strike;
use hilt_protocol::SetupMode;
use hilt_runtime::control::{Answer, FaultKind};
use script::{Phase, Times};

/// A fault, how bad, and as what the control loop shall see it.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Strike,
    magnitude: Option<f64>,
    servo: Option<u8>,
    index: usize,
    seen_as: FaultKind,
}

fn cases(arms: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in Strike::ALL {
        let seen_as = match kind {
            Strike::ServoSilent => FaultKind::ServoSilent,
            Strike::ReplyCorrupted => FaultKind::ReplyCorrupted,
            Strike::WrongId => FaultKind::WrongId,
            Strike::ErrorByte => FaultKind::ServoError,
            Strike::BusUnplugged => FaultKind::BusLost,
            Strike::CameraFrozen | Strike::CameraLate | Strike::CameraGone => FaultKind::FrameStale,
            Strike::TeleopGone => FaultKind::TeleopGone,
            Strike::PolicyNan => FaultKind::PolicyNotFinite,
            Strike::PolicyLate => FaultKind::PolicySilent,
            Strike::PolicyOutOfBounds => FaultKind::PolicyOutOfBounds,
            Strike::LearnerGone => FaultKind::LearnerGone,
            Strike::DiskFull => FaultKind::LogFailed,
            Strike::ClockJump => FaultKind::ClockJump,
        };
        let case = Case {
            kind,
            magnitude: None,
            servo: None,
            index: 0,
            seen_as,
        };
        let devices = match kind {
            kind if kind.strikes_a_wire() => arms,
            Strike::CameraFrozen | Strike::CameraLate | Strike::CameraGone => 2,
            _ => 1,
        };
        for index in 0..devices {
            cases.push(Case { index, ..case });
            if kind.strikes_a_wire() && kind != Strike::BusUnplugged {
                let servo = Some(3);
                cases.push(Case {
                    index,
                    servo,
                    ..case
                });
            }
        }
        // Late, but not so late that the policy is given up; a clock that runs backwards.
        match kind {
            Strike::PolicyLate => cases.push(Case {
                magnitude: Some(0.15),
                seen_as: FaultKind::PolicyLate,
                ..case
            }),
            Strike::ClockJump => cases.push(Case {
                magnitude: Some(-1.0),
                ..case
            }),
            _ => {}
        }
    }
    cases
}

/// What must come of it in this phase; `None`: nothing, because the fault cannot exist there.
fn answer(case: &Case, phase: Phase) -> Option<Answer> {
    let answer = case.seen_as.row().answer;
    match case.kind {
        kind if kind.strikes_a_wire() => Some(answer),
        Strike::ClockJump => Some(answer),
        // Nobody looks while the arms rest; in a fault they are held anyway.
        Strike::CameraFrozen | Strike::CameraLate | Strike::CameraGone => {
            (!matches!(phase, Phase::Idle | Phase::Stopping | Phase::Fault)).then_some(answer)
        }
        // Held arms follow no command, however late it is.
        Strike::PolicyLate if case.seen_as == FaultKind::PolicyLate => {
            matches!(phase, Phase::Armed | Phase::ByPolicy).then_some(answer)
        }
        // Not asked while a person acts.
        Strike::PolicyNan | Strike::PolicyLate | Strike::PolicyOutOfBounds => {
            matches!(phase, Phase::Armed | Phase::ByPolicy | Phase::Held).then_some(answer)
        }
        _ => (!matches!(phase, Phase::Idle | Phase::Stopping | Phase::Fault)).then_some(answer),
    }
}

fn matrix(mode: SetupMode) {
    let mut wrong = Vec::new();
    let mut cells = 0;
    for acceleration_rad_s2 in [None, Some(4.0)] {
        let rig = stage::rig(mode, acceleration_rad_s2);
        let times = Times::of(&rig);
        for case in cases(mode.arms()) {
            for phase in Phase::ALL {
                let (from_ns, for_ns) = times.strike(case.kind, phase);
                let struck = Struck {
                    rig: &rig,
                    case,
                    phase,
                    from_ns,
                    for_ns,
                };
                cells += 1;
                if let Err(panic) = std::panic::catch_unwind(|| struck.check(&times)) {
                    let fixed = || panic.downcast_ref::<&str>().map(|&words| words.to_owned());
                    let words = panic.downcast_ref::<String>().cloned().or_else(fixed);
                    let words = words.unwrap_or_default();
                    wrong.push(format!(
                        "{phase:?} {acceleration_rad_s2:?} {case:?}: {words}"
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {cells}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn one_arm_with_a_fixed_gripper() {
    matrix(SetupMode::SingleArmFixedGripper);
}

#[test]
fn one_arm_with_a_learned_gripper() {
    matrix(SetupMode::SingleArmLearnedGripper);
}

#[test]
fn two_arms_with_fixed_grippers() {
    matrix(SetupMode::DualArmFixedGripper);
}

#[test]
fn two_arms_with_learned_grippers() {
    matrix(SetupMode::DualArmLearnedGripper);
}
