//! The control loop's logic: a pure step from state and inputs to outputs.
//!
//! It interpolates joint targets from one command to the next over a policy period. One command
//! is for all arms: it has one sequence number and one activation deadline, comes into force for
//! all at the same tick, and is refused for all when it is late or does not name every arm. A
//! fault of one arm holds them all until the next reset.

use hilt_drivers::{Arm, ArmError, ArmState};
use hilt_protocol::{ArmCommand, GripperCommand, JointVector, MAX_ARMS};

/// A joint target and a gripper command, per arm.
pub type Targets = [Option<(JointVector, GripperCommand)>; MAX_ARMS];
/// What each arm reported in this tick; `None` for arms that the rig does not have.
pub type Reports = [Option<Result<ArmState, ArmError>>; MAX_ARMS];

/// What does not change in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Arms of the rig.
    pub arms: usize,
    /// The way to a command's target takes so long, nanoseconds: a policy period.
    pub interpolation_ns: u64,
    /// Time between ticks, nanoseconds: a tick's target is where the arm shall be at the next one.
    pub tick_ns: u64,
    /// A command is late when it is first seen longer than this after its activation, nanoseconds.
    pub late_ns: u64,
}

/// How a tick ended: in exactly one of these ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickOutcome {
    /// Targets went to all arms.
    Followed,
    /// There is no command yet.
    Idle,
    /// A new command came too late and was refused for all arms; the one before goes on.
    RefusedLate,
    /// A new command does not name every arm and was refused for all; the one before goes on.
    RefusedIncomplete,
    /// An arm has a fault; all are held.
    Held,
}

/// Ticks by outcome. Their sum is the number of ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// [`TickOutcome::Followed`].
    pub followed: u64,
    /// [`TickOutcome::Idle`].
    pub idle: u64,
    /// [`TickOutcome::RefusedLate`].
    pub refused_late: u64,
    /// [`TickOutcome::RefusedIncomplete`].
    pub refused_incomplete: u64,
    /// [`TickOutcome::Held`].
    pub held: u64,
}

impl TickCounts {
    /// All ticks.
    pub fn total(&self) -> u64 {
        self.followed + self.idle + self.refused_late + self.refused_incomplete + self.held
    }

    fn count(&mut self, outcome: TickOutcome) {
        match outcome {
            TickOutcome::Followed => self.followed += 1,
            TickOutcome::Idle => self.idle += 1,
            TickOutcome::RefusedLate => self.refused_late += 1,
            TickOutcome::RefusedIncomplete => self.refused_incomplete += 1,
            TickOutcome::Held => self.held += 1,
        }
    }
}

/// Which arm has which fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The arm, from 0.
    pub arm: usize,
    /// What it is.
    pub error: ArmError,
}

/// What the loop carries from tick to tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlState {
    /// Where the targets were when the command in force came into force.
    from: Targets,
    /// The targets of the last tick.
    last: Targets,
    active: Option<ArmCommand>,
    waiting: Option<ArmCommand>,
    newest_sequence: Option<u64>,
    fault: Option<Fault>,
    counts: TickCounts,
}

impl ControlState {
    /// For arms that stand at `targets`.
    pub fn at(targets: Targets) -> Self {
        Self {
            from: targets,
            last: targets,
            active: None,
            waiting: None,
            newest_sequence: None,
            fault: None,
            counts: TickCounts::default(),
        }
    }

    /// A new episode from `targets`: no command, no fault; sequence and counts go on.
    pub fn reset(&mut self, targets: Targets) {
        *self = Self {
            newest_sequence: self.newest_sequence,
            counts: self.counts,
            ..Self::at(targets)
        };
    }

    /// Ticks so far.
    pub fn counts(&self) -> TickCounts {
        self.counts
    }

    /// The fault that holds the arms, if any.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// An arm failed at being written to: all are held from here on.
    pub fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// What a tick sees.
#[derive(Clone, Copy, Debug)]
pub struct ControlInputs {
    /// Time of the tick on the run's clock.
    pub now_ns: u64,
    /// The newest command, the same one for many ticks.
    pub command: Option<ArmCommand>,
    /// What the arms reported.
    pub reports: Reports,
}

/// What a tick does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlOutputs {
    /// Where each arm is sent. All `None` when there is nothing to follow, or when held.
    pub targets: Targets,
    /// Stop all arms where they are.
    pub hold: bool,
    /// How the tick ended.
    pub outcome: TickOutcome,
}

/// One tick.
pub fn step(
    config: &ControlConfig,
    mut state: ControlState,
    inputs: &ControlInputs,
) -> (ControlState, ControlOutputs) {
    for (arm, report) in inputs.reports.iter().enumerate().take(config.arms) {
        let error = match report {
            Some(Ok(_)) => continue,
            Some(Err(error)) => *error,
            None => ArmError::Device,
        };
        state.fail(Fault { arm, error });
    }
    let refused = accept(config, &mut state, inputs);
    activate(&mut state, inputs.now_ns);
    let (targets, hold, outcome) = if state.fault.is_some() {
        ([None; MAX_ARMS], true, TickOutcome::Held)
    } else if let Some(command) = state.active {
        let targets = interpolate(config, &state.from, &command, inputs.now_ns);
        state.last = targets;
        (targets, false, refused.unwrap_or(TickOutcome::Followed))
    } else {
        (
            [None; MAX_ARMS],
            false,
            refused.unwrap_or(TickOutcome::Idle),
        )
    };
    state.counts.count(outcome);
    (
        state,
        ControlOutputs {
            targets,
            hold,
            outcome,
        },
    )
}

/// Takes a command that was not seen before, or says why not.
fn accept(
    config: &ControlConfig,
    state: &mut ControlState,
    inputs: &ControlInputs,
) -> Option<TickOutcome> {
    let command = inputs.command?;
    if state
        .newest_sequence
        .is_some_and(|newest| command.sequence <= newest)
    {
        return None;
    }
    state.newest_sequence = Some(command.sequence);
    if command.arms.iter().take(config.arms).any(Option::is_none) {
        return Some(TickOutcome::RefusedIncomplete);
    }
    if inputs.now_ns > command.activate_ns.saturating_add(config.late_ns) {
        return Some(TickOutcome::RefusedLate);
    }
    state.waiting = Some(command);
    None
}

fn activate(state: &mut ControlState, now_ns: u64) {
    if let Some(command) = state.waiting
        && now_ns >= command.activate_ns
    {
        state.waiting = None;
        state.from = state.last;
        state.active = Some(command);
    }
}

fn interpolate(
    config: &ControlConfig,
    from: &Targets,
    command: &ArmCommand,
    now_ns: u64,
) -> Targets {
    let passed = (now_ns.saturating_sub(command.activate_ns) + config.tick_ns) as f64;
    let share = (passed / config.interpolation_ns.max(1) as f64).clamp(0.0, 1.0);
    let mut targets = [None; MAX_ARMS];
    let arms = targets
        .iter_mut()
        .zip(from)
        .zip(&command.arms)
        .take(config.arms);
    for ((target, from), to) in arms {
        let Some((goal, gripper)) = to else { continue };
        let mut joints = *goal;
        if let Some((start, _)) = from {
            for (q, start) in joints.as_mut_slice().iter_mut().zip(start.as_slice()) {
                *q = start + (*q - start) * share;
            }
        }
        *target = Some((joints, *gripper));
    }
    targets
}

/// Reads the arms, takes a step, writes the arms: the thin shell around [`step`].
pub fn tick(
    config: &ControlConfig,
    state: &mut ControlState,
    arms: &mut [Box<dyn Arm>],
    command: Option<ArmCommand>,
    now_ns: u64,
) -> TickOutcome {
    let mut reports: Reports = [None; MAX_ARMS];
    for (report, arm) in reports.iter_mut().zip(arms.iter_mut()) {
        *report = Some(arm.read_state(now_ns, now_ns));
    }
    let (next, outputs) = step(
        config,
        *state,
        &ControlInputs {
            now_ns,
            command,
            reports,
        },
    );
    *state = next;
    let mut failed = outputs.hold;
    for (index, (arm, target)) in arms.iter_mut().zip(outputs.targets).enumerate() {
        if let Some((joints, gripper)) = target
            && let Err(error) = arm.write(&joints, gripper)
        {
            state.fail(Fault { arm: index, error });
            failed = true;
        }
    }
    if failed {
        for arm in arms {
            // The faulty one may not even hear this; the others do.
            let _ = arm.stop();
        }
    }
    outputs.outcome
}

#[cfg(test)]
mod tests {
    use hilt_drivers::{World, fake::FakeArmPair};

    use super::*;

    const CONFIG: ControlConfig = ControlConfig {
        arms: 2,
        interpolation_ns: 100,
        tick_ns: 0,
        late_ns: 10,
    };

    fn joints(value: f64) -> JointVector {
        JointVector::from_slice(&[value; 6]).unwrap()
    }

    fn at(value: f64) -> Targets {
        [Some((joints(value), GripperCommand::Open)); 2]
    }

    fn command(sequence: u64, activate_ns: u64, left: f64, right: f64) -> ArmCommand {
        let arms = [left, right].map(|v| Some((joints(v), GripperCommand::Closed)));
        ArmCommand {
            sequence,
            activate_ns,
            arms,
        }
    }

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
            command,
            reports: [Some(Ok(report)); 2],
        }
    }

    fn firsts(targets: &Targets) -> [f64; 2] {
        targets.map(|t| t.unwrap().0.as_slice()[0])
    }

    #[test]
    fn both_arms_start_at_the_same_tick_and_arrive_together() {
        let mut state = ControlState::at(at(0.0));
        let sent = Some(command(1, 50, 1.0, -2.0));
        let mut seen = Vec::new();
        for now_ns in [0, 40, 50, 100, 150, 400] {
            let (next, out) = step(&CONFIG, state, &inputs(now_ns, sent));
            state = next;
            seen.push((
                out.outcome,
                out.targets.map(|t| t.map(|t| t.0.as_slice()[0])),
            ));
        }
        assert_eq!(seen[0], (TickOutcome::Idle, [None, None]));
        assert_eq!(seen[1], (TickOutcome::Idle, [None, None]));
        assert_eq!(seen[2], (TickOutcome::Followed, [Some(0.0), Some(0.0)]));
        assert_eq!(seen[3], (TickOutcome::Followed, [Some(0.5), Some(-1.0)]));
        assert_eq!(seen[4], (TickOutcome::Followed, [Some(1.0), Some(-2.0)]));
        assert_eq!(seen[5], seen[4]);
        assert_eq!((state.counts().followed, state.counts().idle), (4, 2));
    }

    #[test]
    fn a_new_command_goes_on_from_where_the_targets_are() {
        let mut state = ControlState::at(at(0.0));
        (state, _) = step(&CONFIG, state, &inputs(0, Some(command(1, 0, 1.0, 1.0))));
        (state, _) = step(&CONFIG, state, &inputs(50, Some(command(1, 0, 1.0, 1.0))));
        let (state, out) = step(&CONFIG, state, &inputs(60, Some(command(2, 60, 0.0, 1.0))));
        assert_eq!(firsts(&out.targets), [0.5, 0.5]);
        let (_, out) = step(&CONFIG, state, &inputs(110, Some(command(2, 60, 0.0, 1.0))));
        assert_eq!(firsts(&out.targets), [0.25, 0.75]);
    }

    #[test]
    fn the_last_tick_of_a_period_asks_for_all_of_the_way() {
        let config = ControlConfig {
            tick_ns: 50,
            ..CONFIG
        };
        let mut state = ControlState::at(at(0.0));
        let mut seen = Vec::new();
        for now_ns in [0, 50] {
            let (next, out) = step(
                &config,
                state,
                &inputs(now_ns, Some(command(1, 0, 1.0, 1.0))),
            );
            state = next;
            seen.push(firsts(&out.targets)[0]);
        }
        assert_eq!(seen, [0.5, 1.0]);
    }

    #[test]
    fn a_late_command_is_refused_for_both_arms() {
        let mut state = ControlState::at(at(0.0));
        (state, _) = step(&CONFIG, state, &inputs(0, Some(command(1, 0, 1.0, 1.0))));
        let late = Some(command(2, 189, 5.0, 5.0));
        let (state, out) = step(&CONFIG, state, &inputs(200, late));
        assert_eq!(out.outcome, TickOutcome::RefusedLate);
        assert_eq!(firsts(&out.targets), [1.0, 1.0], "the one before goes on");
        let (state, out) = step(&CONFIG, state, &inputs(210, late));
        assert_eq!(out.outcome, TickOutcome::Followed, "it is refused once");
        let in_time = Some(command(3, 211, 5.0, 5.0));
        let (_, out) = step(&CONFIG, state, &inputs(221, in_time));
        assert_eq!(out.outcome, TickOutcome::Followed);
    }

    #[test]
    fn a_command_for_one_arm_of_two_is_refused_for_both() {
        let mut half = command(1, 0, 1.0, 1.0);
        half.arms[1] = None;
        let state = ControlState::at(at(0.0));
        let (state, out) = step(&CONFIG, state, &inputs(0, Some(half)));
        assert_eq!(
            (out.outcome, out.targets),
            (TickOutcome::RefusedIncomplete, [None; 2])
        );
        assert_eq!(state.counts().refused_incomplete, 1);
    }

    #[test]
    fn a_fault_of_one_arm_holds_both_until_the_reset() {
        let mut state = ControlState::at(at(0.0));
        let sent = Some(command(1, 0, 1.0, 1.0));
        (state, _) = step(&CONFIG, state, &inputs(0, sent));
        let mut bad = inputs(10, sent);
        bad.reports[1] = Some(Err(ArmError::Device));
        let (next, out) = step(&CONFIG, state, &bad);
        assert!(out.hold);
        assert_eq!((out.outcome, out.targets), (TickOutcome::Held, [None; 2]));
        assert_eq!(
            next.fault(),
            Some(Fault {
                arm: 1,
                error: ArmError::Device
            })
        );
        // The arm answers again: still held, also against a new command.
        let (mut state, out) = step(&CONFIG, next, &inputs(20, Some(command(2, 20, 1.0, 1.0))));
        assert_eq!(out.outcome, TickOutcome::Held);
        state.reset(at(0.3));
        let (state, out) = step(&CONFIG, state, &inputs(30, Some(command(3, 30, 1.0, 1.0))));
        assert_eq!(out.outcome, TickOutcome::Followed);
        assert_eq!(state.counts().total(), 4);
    }

    #[test]
    fn a_pulled_cable_stops_the_other_arm_where_it_is() {
        let mut pair = FakeArmPair::new(2).unwrap();
        let mut arms: Vec<Box<dyn Arm>> = vec![Box::new(pair.arm(0)), Box::new(pair.arm(1))];
        let here = arms[0].read_state(0, 0).unwrap().joints;
        let mut goal = here;
        goal.as_mut_slice()[0] += 1.0;
        let start: Targets = [Some((here, GripperCommand::Open)); 2];
        let mut state = ControlState::at(start);
        let sent = ArmCommand {
            sequence: 1,
            activate_ns: 0,
            arms: [Some((goal, GripperCommand::Open)); 2],
        };
        let mut outcomes = Vec::new();
        for i in 0..10u64 {
            pair.set_faulty(0, i >= 5);
            outcomes.push(tick(&CONFIG, &mut state, &mut arms, Some(sent), i * 10));
            pair.advance_ns(10).unwrap();
        }
        assert_eq!(outcomes[4..6], [TickOutcome::Followed, TickOutcome::Held]);
        let other = arms[1].read_state(100, 100).unwrap().joints.as_slice()[0];
        assert!(
            (other - here.as_slice()[0] - 0.4).abs() < 1e-9,
            "held at the fifth tick: {other}"
        );
        assert_eq!(
            arms[1].write(&here, GripperCommand::Open),
            Err(ArmError::Stopped)
        );
        assert_eq!(state.counts().total(), 10);
    }
}
