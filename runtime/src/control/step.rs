//! One tick of the control loop as a pure step: from state and inputs to state and outputs.
//!
//! It looks for what is wrong, lets the [mode](super::machine) follow from it, and sends each arm
//! along its [reference](super::reference). One command is for all arms: it has one sequence number
//! and one activation deadline, comes into force for all at the same tick, and is refused for all
//! when it is late or not fit for every arm. A fault of one arm stops them all.

use hilt_drivers::{ArmError, ArmState};
use hilt_protocol::{ArmCommand, GripperCommand, JointVector, MAX_ARMS, MAX_CAMERAS};

use super::{
    faults::{Fault, FaultKind, SERVO_ERROR_TICKS},
    hash::Hash64,
    machine::{self, Events, Mode, Wish},
    reference::{JointBounds, Reference},
};
use crate::tick::{Outcome, OutcomeCounts};

/// A joint target and a gripper command, per arm.
pub type Targets = [Option<(JointVector, GripperCommand)>; MAX_ARMS];
/// What each arm reported in this tick; `None` for arms that the rig does not have.
pub type Reports = [Option<Result<ArmState, ArmError>>; MAX_ARMS];

/// How old what the loop acts on may be, nanoseconds. In lockstep, where nothing ages, all are
/// [`AgeLimits::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimits {
    /// The arms' state.
    pub state_ns: u64,
    /// The cameras' newest frames.
    pub frame_ns: u64,
    /// The policy's last sign.
    pub policy_ns: u64,
    /// A joint that is not where it was sent.
    pub astray_ns: u64,
    /// The tick before this one: what is longer ago is no lateness but a jump of the clock.
    pub tick_ns: u64,
}

impl AgeLimits {
    /// Nothing is ever too old.
    pub const NONE: Self = Self {
        state_ns: u64::MAX,
        frame_ns: u64::MAX,
        policy_ns: u64::MAX,
        astray_ns: u64::MAX,
        tick_ns: u64::MAX,
    };
}

/// What does not change in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlConfig {
    /// Arms of the rig.
    pub arms: usize,
    /// Cameras of the rig.
    pub cameras: usize,
    /// The way to a command's target takes so long, nanoseconds: a policy period.
    pub interpolation_ns: u64,
    /// Time between ticks, nanoseconds: a tick's target is where the arm shall be at the next one.
    pub tick_ns: u64,
    /// A command is late when it is first seen longer than this after its activation, nanoseconds.
    pub late_ns: u64,
    /// What each arm's joints may do.
    pub bounds: [Option<JointBounds>; MAX_ARMS],
    /// How old inputs may be.
    pub ages: AgeLimits,
    /// How far a joint may be from where it was sent, radians.
    pub following_rad: f64,
    /// What the grippers are told after a reset.
    pub gripper: GripperCommand,
}

/// What whoever commands the arms tells the loop: the newest of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Order {
    /// When it was written, nanoseconds: the policy's sign of life.
    pub written_ns: u64,
    /// What is wanted of the arms.
    pub wish: Wish,
    /// The newest command, the same one for many ticks.
    pub command: Option<ArmCommand>,
    /// What the policy's side found wrong at its last step.
    pub fault: Option<Fault>,
    /// How often the arms were reset: by a person after a fault, or for an episode.
    pub resets: u64,
}

/// What a tick sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlInputs {
    /// Time of the tick on the run's clock, nanoseconds.
    pub now_ns: u64,
    /// The newest order.
    pub order: Order,
    /// What the arms reported.
    pub reports: Reports,
    /// When each camera's newest frame was captured, nanoseconds; 0: there is none yet.
    pub frames_ns: [u64; MAX_CAMERAS],
    /// The supervisor has taken the buses: nothing may be written any more.
    pub overtaken: bool,
}

/// What is sent to the arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sending {
    /// Nothing: they hold where they were sent last.
    Nothing,
    /// These targets.
    Targets(Targets),
    /// That they stop, hold, and take no targets until they are started again.
    Stop,
    /// That they are started again, from where they are.
    Start,
}

/// What a tick does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlOutputs {
    /// What is sent to the arms.
    pub sending: Sending,
    /// How the tick ended, its timing apart.
    pub outcome: Outcome,
}

/// What the loop carries from tick to tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlState {
    mode: Mode,
    fault: Option<Fault>,
    references: [Option<Reference>; MAX_ARMS],
    /// The references before this tick moved them.
    before: [Option<Reference>; MAX_ARMS],
    /// Where the references were when the command in force came into force.
    from: [Option<JointVector>; MAX_ARMS],
    /// When that was, nanoseconds.
    since_ns: u64,
    active: Option<ArmCommand>,
    waiting: Option<ArmCommand>,
    newest_sequence: Option<u64>,
    refused_sequence: Option<u64>,
    resets: u64,
    /// The arms are started again at the next tick.
    starts_next: bool,
    /// Ticks on end in which the arm reported an error of a servo.
    servo_errors: [u32; MAX_ARMS],
    /// Since when a joint of the arm has been astray, nanoseconds.
    astray_ns: [Option<u64>; MAX_ARMS],
    last_ns: Option<u64>,
    counts: OutcomeCounts,
    /// Over everything that came in and went out so far.
    hash: u64,
}

impl ControlState {
    /// For arms that stand at `targets`.
    pub fn at(targets: Targets) -> Self {
        let references = targets.map(|t| t.map(|(joints, gripper)| Reference::at(joints, gripper)));
        Self {
            mode: Mode::Idle,
            fault: None,
            references,
            before: references,
            from: [None; MAX_ARMS],
            since_ns: 0,
            active: None,
            waiting: None,
            newest_sequence: None,
            refused_sequence: None,
            resets: 0,
            starts_next: false,
            servo_errors: [0; MAX_ARMS],
            astray_ns: [None; MAX_ARMS],
            last_ns: None,
            counts: OutcomeCounts::default(),
            hash: 0,
        }
    }

    /// A new episode of a simulated rig, whose arms stand at `targets` now: no command, no fault;
    /// sequence and counts go on.
    pub fn reset(&mut self, targets: Targets) {
        *self = Self {
            newest_sequence: self.newest_sequence,
            resets: self.resets,
            counts: self.counts,
            hash: self.hash,
            ..Self::at(targets)
        };
    }

    /// Ticks so far.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    /// Counts ticks that were not run, or that turned out otherwise after the step.
    pub(super) fn recount(&mut self, from: Option<Outcome>, to: Outcome, n: u64) {
        if let Some(from) = from {
            self.counts.take(from, n);
        }
        self.counts.add(to, n);
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The fault that stops or holds the arms, if any.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The newest command that was seen.
    pub fn newest_sequence(&self) -> Option<u64> {
        self.newest_sequence
    }

    /// The newest command that was refused.
    pub fn refused_sequence(&self) -> Option<u64> {
        self.refused_sequence
    }

    /// Where the arms are being sent.
    pub fn targets(&self) -> Targets {
        self.references.map(|r| r.map(|r| (r.joints, r.gripper)))
    }

    /// Over everything that came in and went out so far: equal only if all of it was.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What was written to the arms, and how it went: an arm that failed stops all.
    pub(super) fn written(&mut self, arm: usize, sent: &[u8], result: Option<ArmError>) {
        let mut hash = Hash64::from(self.hash);
        hash.bytes(sent);
        hash.error(result);
        self.hash = hash.finish();
        if let Some(error) = result {
            // It holds what it heard last, and goes on from there.
            self.references[arm] =
                self.before[arm].map(|before| Reference::at(before.joints, before.gripper));
            let fault = Fault::of_arm(arm, error);
            let events = Events {
                wish: Some(Wish::Run),
                fault: Some(fault),
                still: self.is_still(),
                ..Events::default()
            };
            (self.mode, self.fault) = machine::next(self.mode, self.fault, &events);
        }
    }

    fn is_still(&self) -> bool {
        self.references.iter().flatten().all(Reference::is_still)
    }
}

/// One tick. `state` is changed in place, because it is large and a tick is short.
pub fn step(
    config: &ControlConfig,
    state: &mut ControlState,
    inputs: &ControlInputs,
) -> ControlOutputs {
    let mut hash = Hash64::from(state.hash);
    hash.inputs(inputs);
    let before = state.mode;
    state.before = state.references;
    let wrong = gravest(config, state, inputs);
    let (refused, fresh) = accept(config, state, inputs);
    let events = Events {
        wish: Some(inputs.order.wish),
        fault: wrong,
        command: fresh,
        still: state.is_still(),
        reset: inputs.order.resets > state.resets,
    };
    state.resets = inputs.order.resets;
    state.last_ns = Some(inputs.now_ns);
    (state.mode, state.fault) = machine::next(before, state.fault, &events);
    let mended = before == Mode::Fault && state.mode != Mode::Fault;
    if mended || (events.reset && before == Mode::Idle) {
        stand_where_they_are(config, state, inputs);
    }
    // Started a tick later, when whoever guards the arms knows that they are at rest: it takes longer
    // than a tick.
    let starts = std::mem::replace(&mut state.starts_next, mended);
    let sending = match move_on(config, state, inputs.now_ns) {
        _ if inputs.overtaken => Sending::Nothing,
        Sending::Stop => Sending::Stop,
        _ if starts => Sending::Start,
        sending => sending,
    };
    let outcome = match state.mode {
        Mode::Fault => Outcome::Stopped,
        Mode::Stopping => Outcome::Stopping,
        Mode::Held => Outcome::Held,
        _ => match refused {
            Some(refused) => refused,
            None if state.active.is_some() => Outcome::OnTime,
            None => Outcome::Idle,
        },
    };
    state.counts.add(outcome, 1);
    hash.outputs(state.mode, state.fault, &sending, outcome);
    state.hash = hash.finish();
    ControlOutputs { sending, outcome }
}

/// The gravest of what is wrong; the first of equals.
fn gravest(
    config: &ControlConfig,
    state: &mut ControlState,
    inputs: &ControlInputs,
) -> Option<Fault> {
    let now_ns = inputs.now_ns;
    let mut worst: Option<Fault> = None;
    let mut found = |fault: Fault| {
        let graver = |than: Fault| fault.kind.row().answer > than.kind.row().answer;
        if worst.is_none_or(graver) {
            worst = Some(fault);
        }
    };
    if inputs.overtaken {
        found(Fault::at(FaultKind::Overtaken, 0));
    }
    let jumped = |last_ns: u64| now_ns < last_ns || now_ns - last_ns > config.ages.tick_ns;
    if state.last_ns.is_some_and(jumped) {
        found(Fault::at(FaultKind::ClockJump, 0));
    }
    let older = |than_ns: u64, limit_ns: u64| now_ns.saturating_sub(than_ns) > limit_ns;
    for (arm, report) in inputs.reports.iter().enumerate().take(config.arms) {
        let errors = &mut state.servo_errors[arm];
        match report {
            Some(Ok(report)) => {
                *errors = match report.trouble {
                    Some(ArmError::Servo { .. }) => *errors + 1,
                    _ => 0,
                };
                if *errors >= SERVO_ERROR_TICKS
                    && let Some(error) = report.trouble
                {
                    found(Fault::of_arm(arm, error));
                }
                let since_ns = &mut state.astray_ns[arm];
                let reference = state.references[arm].as_ref();
                *since_ns = match reference {
                    Some(reference) if is_astray(config, state.mode, reference, report) => {
                        since_ns.or(Some(now_ns))
                    }
                    _ => None,
                };
                if since_ns.is_some_and(|since_ns| older(since_ns, config.ages.astray_ns)) {
                    found(Fault::at(FaultKind::Astray, arm));
                }
                if older(report.captured_ns, config.ages.state_ns) {
                    found(match report.trouble {
                        Some(error) => Fault::of_arm(arm, error),
                        None => Fault::at(FaultKind::StateStale, arm),
                    });
                }
            }
            Some(Err(error)) => found(Fault::of_arm(arm, *error)),
            None => found(Fault::of_arm(arm, ArmError::Device)),
        }
    }
    if let Some(fault) = inputs.order.fault {
        found(fault);
    }
    if inputs.order.wish == Wish::Run {
        for (camera, &frame_ns) in inputs.frames_ns.iter().enumerate().take(config.cameras) {
            if older(frame_ns, config.ages.frame_ns) {
                found(Fault::at(FaultKind::FrameStale, camera));
            }
        }
        if older(inputs.order.written_ns, config.ages.policy_ns) {
            found(Fault::at(FaultKind::PolicySilent, 0));
        }
    }
    worst
}

/// Whether a joint that is being moved or held is not where it was sent. At rest a person may have
/// put the arm elsewhere.
fn is_astray(config: &ControlConfig, mode: Mode, reference: &Reference, report: &ArmState) -> bool {
    let away = |(sent, is): (&f64, &f64)| (sent - is).abs() > config.following_rad;
    let mut joints = (reference.joints.as_slice().iter()).zip(report.joints.as_slice());
    matches!(mode, Mode::Running | Mode::Held | Mode::Stopping) && joints.any(away)
}

/// Looks at a command that was not seen before: why it is refused, or that it is fresh.
fn accept(
    config: &ControlConfig,
    state: &mut ControlState,
    inputs: &ControlInputs,
) -> (Option<Outcome>, bool) {
    let Some(command) = inputs.order.command else {
        return (None, false);
    };
    if state
        .newest_sequence
        .is_some_and(|newest| command.sequence <= newest)
    {
        return (None, false);
    }
    state.newest_sequence = Some(command.sequence);
    let fit = |(target, reference): (&Option<(JointVector, _)>, &Option<Reference>)| {
        let joints = reference.map_or(0, |r| r.joints.as_slice().len());
        target.is_some_and(|(target, _)| {
            target.as_slice().len() == joints && target.as_slice().iter().all(|q| q.is_finite())
        })
    };
    let mut arms = command.arms.iter().zip(&state.references).take(config.arms);
    let refused = if !arms.all(fit) {
        Some(Outcome::RefusedIncomplete)
    } else if inputs.now_ns > command.activate_ns.saturating_add(config.late_ns) {
        Some(Outcome::RefusedLate)
    } else {
        None
    };
    match refused {
        Some(_) => state.refused_sequence = Some(command.sequence),
        None => state.waiting = Some(command),
    }
    (refused, refused.is_none())
}

/// After a reset the arms hold where they were sent last, if they are still about there,
/// because the measured pose of an arm under load is a little lower each time; else where they are.
fn stand_where_they_are(config: &ControlConfig, state: &mut ControlState, inputs: &ControlInputs) {
    /// An arm that was moved by more than this, radians, was moved by hand.
    const MOVED_RAD: f64 = 0.1;
    let reports = inputs.reports.iter().zip(&config.bounds);
    for (reference, (report, bounds)) in state.references.iter_mut().zip(reports) {
        let (Some(reference), Some(Ok(report)), Some(bounds)) = (reference, report, bounds) else {
            continue;
        };
        let mut joints = reference.joints;
        let measured = report.joints.as_slice().iter().enumerate();
        for (i, &q) in measured.take(joints.as_slice().len()) {
            let (lower, upper) = (bounds.lower.as_slice()[i], bounds.upper.as_slice()[i]);
            if (joints.as_slice()[i] - q).abs() > MOVED_RAD {
                joints.as_mut_slice()[i] = q.clamp(lower, upper);
            }
        }
        *reference = Reference::at(joints, config.gripper);
    }
    (state.active, state.waiting) = (None, None);
}

/// Moves the references on by a tick, and says what is sent for it.
fn move_on(config: &ControlConfig, state: &mut ControlState, now_ns: u64) -> Sending {
    let dt_s = config.tick_ns as f64 * 1e-9;
    match state.mode {
        Mode::Fault => {
            (state.active, state.waiting) = (None, None);
            return Sending::Stop;
        }
        Mode::Idle | Mode::Armed => {
            (state.active, state.waiting) = (None, None);
            return Sending::Nothing;
        }
        Mode::Held | Mode::Stopping => {
            (state.active, state.waiting) = (None, None);
            brake(config, state);
        }
        Mode::Running => {
            activate(state, now_ns);
            let Some(command) = state.active else {
                // Held a moment ago, and its new command is for later: they may be braking still.
                if state.is_still() {
                    return Sending::Nothing;
                }
                brake(config, state);
                return Sending::Targets(state.targets());
            };
            let passed_ns = now_ns.saturating_sub(state.since_ns) + config.tick_ns;
            let share = passed_ns as f64 / config.interpolation_ns.max(1) as f64;
            let share = share.clamp(0.0, 1.0);
            let arms = state.references.iter_mut().zip(&state.from);
            let goals = command.arms.iter().zip(&config.bounds);
            for ((reference, from), (goal, bounds)) in arms.zip(goals) {
                let (Some(reference), Some(from), Some((goal, gripper)), Some(bounds)) =
                    (reference, from, goal, bounds)
                else {
                    continue;
                };
                let mut wanted = *goal;
                for (q, start) in wanted.as_mut_slice().iter_mut().zip(from.as_slice()) {
                    *q = start + (*q - start) * share;
                }
                reference.gripper = *gripper;
                reference.follow(bounds, &wanted, goal, dt_s);
            }
        }
    }
    Sending::Targets(state.targets())
}

/// A tick toward a standstill.
fn brake(config: &ControlConfig, state: &mut ControlState) {
    let dt_s = config.tick_ns as f64 * 1e-9;
    for (reference, bounds) in state.references.iter_mut().zip(&config.bounds) {
        if let (Some(reference), Some(bounds)) = (reference, bounds) {
            reference.brake(bounds, dt_s);
        }
    }
}

fn activate(state: &mut ControlState, now_ns: u64) {
    if let Some(command) = state.waiting
        && now_ns >= command.activate_ns
    {
        state.waiting = None;
        state.from = state.references.map(|r| r.map(|r| r.joints));
        state.since_ns = now_ns;
        state.active = Some(command);
    }
}
