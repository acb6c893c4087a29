//! The step against everything that can go wrong.

use hilt_drivers::{ArmError, ArmState};
use hilt_protocol::{ArmCommand, GripperCommand, JointVector, MAX_CAMERAS};

use super::{
    faults::{Bound, TABLE},
    *,
};
use crate::tick::Outcome;

const TICK_NS: u64 = 10;

fn joints(value: f64) -> JointVector {
    JointVector::from_slice(&[value; 6]).unwrap()
}

fn at(value: f64) -> Targets {
    [Some((joints(value), GripperCommand::Open)); 2]
}

/// Ticks of ten nanoseconds; a joint may do whatever it is told, in no time.
fn config() -> ControlConfig {
    let bounds = JointBounds {
        lower: joints(-10.0),
        upper: joints(10.0),
        velocity_rad_s: f64::INFINITY,
        acceleration_rad_s2: f64::INFINITY,
    };
    ControlConfig {
        arms: 2,
        cameras: 1,
        interpolation_ns: 100,
        tick_ns: TICK_NS,
        late_ns: 10,
        bounds: [Some(bounds); 2],
        ages: AgeLimits {
            state_ns: 50,
            frame_ns: 100,
            policy_ns: 300,
            astray_ns: 80,
            tick_ns: 1000,
        },
        following_rad: 5.0,
        gripper: GripperCommand::Open,
    }
}

fn command(sequence: u64, activate_ns: u64, left: f64, right: f64) -> ArmCommand {
    let arms = [left, right].map(|v| Some((joints(v), GripperCommand::Closed)));
    ArmCommand {
        sequence,
        activate_ns,
        arms,
    }
}

/// Everything is fit at `now_ns`.
fn inputs(now_ns: u64, command: Option<ArmCommand>) -> ControlInputs {
    let report = ArmState {
        captured_ns: now_ns,
        joints: joints(0.0),
        velocities: joints(0.0),
        gripper_width_m: 0.0,
        trouble: None,
    };
    ControlInputs {
        now_ns,
        order: Order {
            written_ns: now_ns,
            wish: Wish::Run,
            command,
            ..Order::default()
        },
        reports: [Some(Ok(report)); 2],
        frames_ns: [now_ns; MAX_CAMERAS],
        overtaken: false,
    }
}

fn firsts(outputs: &ControlOutputs) -> Option<[f64; 2]> {
    match &outputs.sending {
        Sending::Targets(targets) => Some(targets.map(|t| t.unwrap().0.as_slice()[0])),
        _ => None,
    }
}

/// A loop that runs after a command that was given at 0, until before `now_ns`.
fn running(now_ns: u64) -> ControlState {
    let mut state = ControlState::at(at(0.0));
    for now_ns in (0..now_ns).step_by(TICK_NS as usize) {
        step(
            &config(),
            &mut state,
            &inputs(now_ns, Some(command(1, 0, 1.0, 1.0))),
        );
    }
    assert_eq!(state.mode(), Mode::Running);
    state
}

#[test]
fn both_arms_start_at_the_same_tick_and_arrive_together() {
    let mut state = ControlState::at(at(0.0));
    let sent = Some(command(1, 50, 1.0, -2.0));
    let mut seen = Vec::new();
    for now_ns in [0, 40, 50, 100, 140, 400] {
        let out = step(&config(), &mut state, &inputs(now_ns, sent));
        seen.push((out.outcome, firsts(&out)));
    }
    assert_eq!(seen[0], (Outcome::Idle, None));
    assert_eq!(seen[1], (Outcome::Idle, None));
    assert_eq!(seen[2], (Outcome::OnTime, Some([0.1, -0.2])));
    assert_eq!(seen[3], (Outcome::OnTime, Some([0.6, -1.2])));
    assert_eq!(seen[4], (Outcome::OnTime, Some([1.0, -2.0])));
    assert_eq!(seen[5], seen[4]);
    let counts = state.counts();
    assert_eq!(
        (counts.of(Outcome::OnTime), counts.of(Outcome::Idle)),
        (4, 2)
    );
}

#[test]
fn a_new_command_goes_on_from_where_the_targets_are() {
    let mut state = running(50);
    let out = step(
        &config(),
        &mut state,
        &inputs(50, Some(command(2, 50, 0.0, 1.0))),
    );
    assert_eq!(firsts(&out), Some([0.45, 0.55]));
    let out = step(
        &config(),
        &mut state,
        &inputs(90, Some(command(2, 50, 0.0, 1.0))),
    );
    assert_eq!(firsts(&out), Some([0.25, 0.75]));
}

#[test]
fn a_late_command_is_refused_for_both_arms() {
    let mut state = running(200);
    let late = Some(command(2, 189, 5.0, 5.0));
    let out = step(&config(), &mut state, &inputs(200, late));
    assert_eq!(out.outcome, Outcome::RefusedLate);
    assert_eq!(firsts(&out), Some([1.0, 1.0]), "the one before goes on");
    let out = step(&config(), &mut state, &inputs(210, late));
    assert_eq!(out.outcome, Outcome::OnTime, "it is refused once");
    let in_time = Some(command(3, 211, 5.0, 5.0));
    let out = step(&config(), &mut state, &inputs(221, in_time));
    assert_eq!(
        (out.outcome, firsts(&out)),
        (Outcome::OnTime, Some([1.4, 1.4]))
    );
}

#[test]
fn a_command_that_is_not_fit_for_one_arm_is_refused_for_both() {
    let mut half = command(1, 0, 1.0, 1.0);
    half.arms[1] = None;
    let not_a_number = command(1, 0, 1.0, f64::NAN);
    let mut short = command(1, 0, 1.0, 1.0);
    short.arms[0] = Some((
        JointVector::from_slice(&[0.0; 5]).unwrap(),
        GripperCommand::Open,
    ));
    for unfit in [half, not_a_number, short] {
        let mut state = ControlState::at(at(0.0));
        let out = step(&config(), &mut state, &inputs(0, Some(unfit)));
        assert_eq!(
            (out.outcome, out.sending),
            (Outcome::RefusedIncomplete, Sending::Nothing)
        );
        assert_eq!(state.counts().of(Outcome::RefusedIncomplete), 1);
    }
}

/// What is wrong from tick 20 on, for each way of it.
fn wrong(kind: FaultKind) -> impl Fn(&mut ControlInputs, u64) {
    move |inputs, since_ns| {
        let silent_since = |inputs: &mut ControlInputs, trouble| {
            if let Some(Ok(state)) = &mut inputs.reports[1] {
                state.captured_ns -= since_ns + TICK_NS;
                state.trouble = trouble;
            }
        };
        match kind {
            FaultKind::ServoSilent => silent_since(inputs, Some(ArmError::Silent(3))),
            FaultKind::ReplyCorrupted => silent_since(inputs, Some(ArmError::Corrupted(3))),
            FaultKind::WrongId => {
                let (expected, got) = (3, 4);
                silent_since(inputs, Some(ArmError::WrongId { expected, got }));
            }
            FaultKind::Implausible => silent_since(inputs, Some(ArmError::Implausible(2))),
            FaultKind::StateStale => silent_since(inputs, None),
            FaultKind::ServoError => {
                if let Some(Ok(state)) = &mut inputs.reports[1] {
                    state.trouble = Some(ArmError::Servo { id: 3, bits: 32 });
                }
            }
            FaultKind::Astray => {
                if let Some(Ok(state)) = &mut inputs.reports[1] {
                    state.joints.as_mut_slice()[3] = -9.0;
                }
            }
            FaultKind::BusLost => inputs.reports[1] = Some(Err(ArmError::Unplugged)),
            FaultKind::DeviceFault => inputs.reports[1] = None,
            FaultKind::TargetRefused => inputs.reports[1] = Some(Err(ArmError::Stopped)),
            FaultKind::FrameStale => inputs.frames_ns[0] -= since_ns + TICK_NS,
            FaultKind::PolicySilent => inputs.order.written_ns -= since_ns + TICK_NS,
            FaultKind::ClockJump => inputs.now_ns += 2000,
            FaultKind::Overtaken => inputs.overtaken = true,
            FaultKind::PolicyLate => {
                let late_ns = inputs.now_ns - 11;
                inputs.order.command = Some(command(2 + since_ns, late_ns, 1.0, 1.0));
            }
            FaultKind::TeleopGone
            | FaultKind::PolicyNotFinite
            | FaultKind::PolicyOutOfBounds
            | FaultKind::LearnerGone
            | FaultKind::LogFailed => inputs.order.fault = Some(Fault::at(kind, 0)),
        }
    }
}

/// How many ticks after its beginning a fault is seen at the latest.
fn bound_ticks(kind: FaultKind) -> u64 {
    let ages = config().ages;
    let after = |age_ns: u64| age_ns / TICK_NS + 1;
    match kind.row().bound {
        Bound::Ticks(n) => u64::from(n),
        Bound::StateAge => after(ages.state_ns),
        Bound::FrameAge => after(ages.frame_ns),
        Bound::PolicyAge => after(ages.policy_ns),
        // It counts from the tick that sees it first.
        Bound::Following => after(ages.astray_ns) + 1,
        Bound::PolicyStep => 1,
    }
}

#[test]
fn every_fault_is_seen_within_its_bound_and_answered_as_the_table_says() {
    for row in TABLE {
        let spoil = wrong(row.kind);
        let mut state = running(200);
        let moving = Some(command(2, 200, 3.0, 3.0));
        step(&config(), &mut state, &inputs(200, moving));
        let mut first = None;
        for tick in 0..100 {
            let mut seen = inputs(210 + tick * TICK_NS, moving);
            spoil(&mut seen, tick * TICK_NS);
            step(&config(), &mut state, &seen);
            let told = state.fault().map(|fault| fault.kind) == Some(row.kind);
            if told || (row.answer == Answer::GoOn && tick == 0) {
                first.get_or_insert(tick + 1);
            }
        }
        let first = first.unwrap_or_else(|| panic!("{:?} was never seen", row.kind));
        assert!(
            first <= bound_ticks(row.kind),
            "{:?} after {first} ticks",
            row.kind
        );
        let mode = match row.answer {
            Answer::GoOn => Mode::Running,
            Answer::Hold => Mode::Held,
            Answer::Stop => Mode::Fault,
        };
        assert_eq!(state.mode(), mode, "{:?}", row.kind);
    }
}

#[test]
fn an_age_at_its_limit_is_no_fault_and_one_tick_more_is() {
    for kind in [
        FaultKind::StateStale,
        FaultKind::FrameStale,
        FaultKind::PolicySilent,
    ] {
        let mut state = running(200);
        let spoil = wrong(kind);
        for tick in 0..bound_ticks(kind) {
            assert_eq!(state.fault(), None, "{kind:?}");
            let mut seen = inputs(200 + tick * TICK_NS, None);
            spoil(&mut seen, tick * TICK_NS);
            step(&config(), &mut state, &seen);
        }
        assert_eq!(state.fault().map(|f| f.kind), Some(kind));
    }
}

#[test]
fn a_fault_of_one_arm_stops_both_until_the_reset() {
    let mut state = running(50);
    let mut bad = inputs(50, Some(command(1, 0, 1.0, 1.0)));
    bad.reports[1] = Some(Err(ArmError::Device));
    let out = step(&config(), &mut state, &bad);
    assert_eq!(out.outcome, Outcome::Stopping);
    assert_eq!(firsts(&out), Some([0.5, 0.5]), "where both were sent last");
    assert_eq!(state.fault(), Some(Fault::of_arm(1, ArmError::Device)));
    // The arm answers again: still stopped, also against a new command.
    let out = step(
        &config(),
        &mut state,
        &inputs(60, Some(command(2, 60, 1.0, 1.0))),
    );
    assert_eq!(
        (out.outcome, out.sending),
        (Outcome::Stopped, Sending::Stop)
    );
    // A person resets it: the arms rest, and are then started where they are; nothing old is followed.
    let mut reset = inputs(70, Some(command(2, 60, 1.0, 1.0)));
    (reset.order.resets, reset.order.wish) = (1, Wish::Rest);
    let out = step(&config(), &mut state, &reset);
    assert_eq!((state.mode(), out.sending), (Mode::Idle, Sending::Nothing));
    assert_eq!(state.targets()[0].unwrap().0, joints(0.0), "as measured");
    reset.now_ns = 75;
    let out = step(&config(), &mut state, &reset);
    assert_eq!((state.mode(), out.sending), (Mode::Idle, Sending::Start));
    let mut again = inputs(80, Some(command(3, 80, 1.0, 1.0)));
    again.order.resets = 1;
    let out = step(&config(), &mut state, &again);
    assert_eq!(
        (out.outcome, firsts(&out)),
        (Outcome::OnTime, Some([0.1, 0.1]))
    );
    assert_eq!(state.counts().total(), 10);
}

/// Arms that need some ticks to stop, on their way.
fn heavy() -> (ControlConfig, ControlState) {
    let mut config = config();
    for bounds in config.bounds.iter_mut().flatten() {
        (bounds.velocity_rad_s, bounds.acceleration_rad_s2) = (1e7, 1e14);
    }
    let mut state = ControlState::at(at(0.0));
    for now_ns in [0, 10, 20, 30] {
        let sent = Some(command(1, 0, 1.0, 1.0));
        step(&config, &mut state, &inputs(now_ns, sent));
    }
    (config, state)
}

#[test]
fn arms_that_are_held_for_a_moment_go_on_braking_until_their_new_command_is_due() {
    let (config, mut state) = heavy();
    let mut unfit = inputs(40, None);
    unfit.order.fault = Some(Fault::at(FaultKind::PolicyNotFinite, 0));
    step(&config, &mut state, &unfit);
    assert_eq!(state.mode(), Mode::Held);
    let before = state.targets();
    let out = step(
        &config,
        &mut state,
        &inputs(50, Some(command(2, 500, 1.0, 1.0))),
    );
    assert_eq!(state.mode(), Mode::Running);
    assert_eq!(out.sending, Sending::Targets(state.targets()));
    assert_ne!(state.targets(), before);
    for now_ns in (60..200).step_by(10) {
        step(&config, &mut state, &inputs(now_ns, None));
    }
    let out = step(&config, &mut state, &inputs(200, None));
    assert_eq!(out.sending, Sending::Nothing);
}

#[test]
fn an_arm_that_did_not_hear_goes_on_from_what_it_heard_last() {
    let (config, mut state) = heavy();
    let sent = Some(command(1, 0, 1.0, 1.0));
    let heard = state.targets();
    let mut bad = inputs(40, sent);
    bad.reports[1] = Some(Err(ArmError::Unplugged));
    for _ in 0..3 {
        let out = step(&config, &mut state, &bad);
        assert_eq!(out.outcome, Outcome::Stopping);
        state.written(0, &[], None);
        state.written(1, &[], Some(ArmError::Unplugged));
    }
    assert_ne!(state.targets()[0], heard[0], "it brakes");
    assert_eq!(state.targets()[1], heard[1]);
}

#[test]
fn after_a_reset_an_arm_that_sank_a_little_is_held_where_it_was_sent() {
    let mut state = running(200);
    let mut rest = inputs(200, None);
    rest.order.wish = Wish::Rest;
    step(&config(), &mut state, &rest);
    (rest.now_ns, rest.order.resets) = (210, 1);
    for report in rest.reports.iter_mut().flatten().flatten() {
        (report.captured_ns, report.joints) = (210, joints(0.95));
        report.joints.as_mut_slice()[5] = 0.5;
    }
    step(&config(), &mut state, &rest);
    assert_eq!(state.mode(), Mode::Idle);
    (rest.now_ns, rest.order.resets) = (220, 2);
    step(&config(), &mut state, &rest);
    let mut held = joints(1.0);
    held.as_mut_slice()[5] = 0.5;
    assert_eq!(state.targets()[0].unwrap(), (held, GripperCommand::Open));
}

#[test]
fn one_changed_bit_of_what_comes_in_changes_the_hash() {
    let seen = inputs(200, Some(command(2, 200, 3.0, 3.0)));
    let hash = |seen: &ControlInputs| {
        let mut state = running(200);
        step(&config(), &mut state, seen);
        state.hash()
    };
    let honest = hash(&seen);
    assert_eq!(hash(&seen), honest);
    let flip = |value: &mut f64| *value = f64::from_bits(value.to_bits() ^ 1);
    let mut changed = vec![seen; 6];
    if let Some(Ok(state)) = &mut changed[0].reports[1] {
        flip(&mut state.velocities.as_mut_slice()[5]);
    }
    if let Some(Ok(state)) = &mut changed[1].reports[0] {
        flip(&mut state.gripper_width_m);
    }
    changed[2].frames_ns[7] ^= 1;
    changed[3].now_ns ^= 1;
    if let Some((joints, _)) = &mut changed[4].order.command.as_mut().unwrap().arms[0] {
        flip(&mut joints.as_mut_slice()[2]);
    }
    changed[5].order.written_ns ^= 1;
    for (i, changed) in changed.iter().enumerate() {
        assert_ne!(hash(changed), honest, "{i}");
    }
}
