//! Every fault, in every phase of a run, in every setup mode: seen in time, answered as the table of
//! faults says, no arm ever limp or beyond its limits, and told in words.
//!
//! A run is a script: it stands idle, arms, moves by the policy, moves by a person's hand, stops for
//! the next episode, is held because the policy is silent, and stands in a fault. Played once without
//! the fault it says when each phase is; played again, the fault strikes there. The clock is a fake
//! one, so both are the same up to that moment.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{cell::RefCell, ops::Range, rc::Rc, sync::atomic::AtomicBool, time::Duration};

use common::stage::{self, Goals, JOINTS, ORIGIN_NS, Staged, TICK_NS, Tick};
use hilt_drivers::{
    EpisodeStart, Intent, Teleop, TeleopError, TeleopEvent,
    bus::sts3215::counts_from_radians,
    faults::{FaultKind as Strike, FaultPlan, FaultSpec},
};
use hilt_protocol::{ActionSource, Observation, Progress, Record, RigSpec, SetupMode};
use hilt_realtime::Clock;
use hilt_runtime::{
    brain::{Brain, BrainError},
    cell::CellError,
    control::{Answer, FaultKind, Mode, faults::Bound},
    faulty::{FaultyBrain, FaultyJournal},
    learner_side::{Learner, LearnerSide},
    rig::Rig,
    run_log::{Journal, JournalError},
    session::{Flow, Outcome, Policy, Session, SessionError},
    tick,
};
use hilt_sim::Truth;

const MS: u64 = 1_000_000;
/// A person acts in these steps of an episode.
const BY_HAND: Range<u32> = 8..18;

/// To and fro, and up and down, so that all joints move and nobody leaves the workspace.
fn to_and_fro(step: u32) -> [f32; 3] {
    let way = if (step / 4).is_multiple_of(2) {
        1.0
    } else {
        -1.0
    };
    [0.3 * way, 0.8 * way, -0.4 * way]
}

struct Scripted {
    spec: RigSpec,
    step: Rc<RefCell<u32>>,
}

impl Brain for Scripted {
    fn act(&mut self, _: &Observation, _: u64, _: bool) -> Result<Vec<f32>, BrainError> {
        let step = *self.step.borrow();
        let mut action = Vec::new();
        for _ in 0..self.spec.mode.arms() {
            action.extend(to_and_fro(step));
            if self.spec.mode.learned_gripper() {
                action.push(if step.is_multiple_of(2) { 1.0 } else { -1.0 });
            }
        }
        Ok(action)
    }

    fn judge(&mut self, _: &Observation) -> Result<Option<f32>, BrainError> {
        Ok(None)
    }

    fn version(&self) -> u64 {
        1
    }

    fn updates(&self) -> u64 {
        1
    }
}

struct Hand {
    step: Rc<RefCell<u32>>,
}

impl Teleop for Hand {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _: u64) {}

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        let step = *self.step.borrow();
        if !BY_HAND.contains(&step) {
            return Ok(None);
        }
        let mut intent = Intent::still(now_ns);
        for motion in &mut intent.motion {
            for (to, from) in motion.iter_mut().zip(to_and_fro(step)) {
                *to = f64::from(from);
            }
        }
        Ok(Some(intent))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        Ok(None)
    }

    fn verdict(&mut self) -> Option<bool> {
        None
    }
}

/// A learner that is always there.
struct There;

impl Learner for There {
    fn is_alive(&self) -> bool {
        true
    }

    fn progress(&self) -> Option<Progress> {
        None
    }

    fn wait_progress(&self, _: Duration, _: &dyn Fn(&Progress) -> bool) {}
}

struct Nowhere;

impl Journal for Nowhere {
    fn append(&mut self, _: Record, _: Option<Truth>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Tells when it was asked.
struct Timed<'a, J> {
    inner: J,
    clock: &'a stage::Stage,
    asked_ns: &'a mut Vec<u64>,
}

impl<J: Journal> Journal for Timed<'_, J> {
    fn append(&mut self, record: Record, truth: Option<Truth>) -> Result<(), JournalError> {
        self.asked_ns.push(self.clock.now_ns());
        self.inner.append(record, truth)
    }
}

/// How an episode ended.
#[derive(Debug)]
struct Ended {
    /// Steps, and how many of them by hand.
    outcome: Result<(u32, u32), String>,
    passing: bool,
}

/// A rig and what happened to it.
struct Play {
    rig: Rig,
    staged: Staged,
    ended: Vec<Ended>,
    /// When the policy's side set about a step.
    steps_ns: Vec<u64>,
    appends_ns: Vec<u64>,
    /// When the last episode began.
    last_ns: u64,
}

impl Play {
    fn open(rig: &Rig, plan: &FaultPlan) -> Self {
        Self {
            rig: rig.clone(),
            staged: stage::open(rig, plan),
            ended: Vec::new(),
            steps_ns: Vec::new(),
            appends_ns: Vec::new(),
            last_ns: 0,
        }
    }

    fn now_ns(&self) -> u64 {
        self.staged.stage.now_ns()
    }

    fn mode(&self) -> Mode {
        self.staged.stage.last().unwrap().record.mode
    }

    /// One episode of `max_steps`; before step `pause.0` the policy thread is away for `pause.1` ns.
    fn episode(&mut self, max_steps: u32, pause: Option<(u32, u64)>) {
        self.last_ns = self.now_ns();
        let outcome = self.run(max_steps, pause);
        let passing = outcome.as_ref().is_err_and(SessionError::is_passing);
        let outcome = outcome.map(|o| (o.steps, o.intervened));
        self.ended.push(Ended {
            outcome: outcome.map_err(|error| error.to_string()),
            passing,
        });
    }

    fn run(&mut self, max_steps: u32, pause: Option<(u32, u64)>) -> Result<Outcome, SessionError> {
        let Staged {
            stage,
            cell,
            faults,
            ..
        } = &mut self.staged;
        let step = Rc::new(RefCell::new(0));
        let mut brain = FaultyBrain::new(
            Scripted {
                spec: self.rig.spec(),
                step: Rc::clone(&step),
            },
            faults.clone(),
        );
        let hand = Hand {
            step: Rc::clone(&step),
        };
        let mut teleop = faults.teleop(hand);
        let mut learner = LearnerSide::new(Box::new(There), false).with_faults(faults.clone());
        let mut nowhere = Nowhere;
        let mut journal = Timed {
            inner: FaultyJournal::new(&mut nowhere, faults.clone()),
            clock: stage,
            asked_ns: &mut self.appends_ns,
        };
        let mut session = Session {
            cell,
            teleop: Some(&mut teleop),
            rules: self.rig.classifier,
            episode: self.rig.episode,
            seed: 1,
            steps: 0,
        };
        session.episode.max_steps = max_steps;
        let start = EpisodeStart {
            range_m: 0.0,
            seed: 1,
        };
        let steps_ns = &mut self.steps_ns;
        let stop = AtomicBool::new(false);
        let mut policy = Policy::Brain(&mut brain);
        session.run_episode(&mut policy, start, &mut journal, |policy, taken| {
            let Policy::Brain(brain) = policy else {
                return Flow::End;
            };
            *step.borrow_mut() = taken as u32;
            if let Some((at, long_ns)) = pause
                && at == taken as u32
            {
                stage.sleep_ns(long_ns);
            }
            steps_ns.push(stage.now_ns());
            learner.before_step(&mut **brain, taken, true, &stop, &mut |_| {})
        })
    }

    /// A step that nobody has reset anything for.
    fn step(&mut self) -> Result<(), CellError> {
        let action = vec![0.5; self.rig.spec().action_dim()];
        self.staged.cell.step(&action).map(|_| ())
    }
}

const IDLE_NS: u64 = 400 * MS;
const ARMED_NS: u64 = 200 * MS;
const SILENT_NS: u64 = 1200 * MS;
const FAULT_NS: u64 = 1000 * MS;

/// The script, up to the first episode that ends after `struck_ns`.
fn play(rig: &Rig, plan: &FaultPlan, struck_ns: u64) -> Play {
    let mut play = Play::open(rig, plan);
    play.staged.stage.sleep_ns(IDLE_NS);
    let scenes = [
        (18, Some((0, ARMED_NS)), 0),
        (18, Some((4, SILENT_NS)), 0),
        (6, None, FAULT_NS),
        (6, None, 0),
    ];
    for (steps, pause, then_ns) in scenes {
        if play.now_ns() > struck_ns {
            return play;
        }
        play.episode(steps, pause);
        play.staged.stage.sleep_ns(then_ns);
    }
    play
}

/// Where in a run a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Armed,
    ByPolicy,
    ByHand,
    Held,
    Stopping,
    Fault,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::Armed,
        Self::ByPolicy,
        Self::ByHand,
        Self::Held,
        Self::Stopping,
        Self::Fault,
    ];
}

/// When the phases of a script are, as it goes without the fault.
#[derive(Debug)]
struct Times {
    armed_ns: u64,
    by_policy_ns: u64,
    by_hand_ns: u64,
    stopping_ns: u64,
    held_ns: u64,
    /// The policy's next step after it was silent.
    heard_ns: u64,
    fault_ns: u64,
}

fn spec(kind: Strike, from_ns: u64, for_ns: u64, index: usize) -> FaultSpec {
    FaultSpec {
        kind,
        from_s: (from_ns - ORIGIN_NS) as f64 * 1e-9,
        for_s: for_ns as f64 * 1e-9,
        index,
        servo: None,
        magnitude: None,
    }
}

fn plan(faults: Vec<FaultSpec>) -> FaultPlan {
    FaultPlan { seed: 7, faults }
}

/// What leads to the phase of that name: the device in the person's hand is gone; where that is the
/// fault itself, the disk is full.
fn first_fault(kind: Strike, at_ns: u64) -> FaultSpec {
    let kind = match kind {
        Strike::TeleopGone => Strike::DiskFull,
        _ => Strike::TeleopGone,
    };
    spec(kind, at_ns, 200 * MS, 0)
}

impl Times {
    /// Plays the script without a fault, and with the one that leads to the last phase.
    fn of(rig: &Rig) -> Self {
        let calm = play(rig, &FaultPlan::default(), u64::MAX);
        let ticks = calm.staged.stage.ticks();
        check_always(rig, &calm);
        let outcomes: Vec<_> = calm.ended.iter().map(|e| e.outcome.clone().ok()).collect();
        assert_eq!(outcomes, [Some((18, 10)), None, Some((6, 0)), Some((6, 0))]);
        assert!(calm.ended[1].passing, "{:?}", calm.ended);
        let at = |mode, after_ns| {
            let of = |t: &&Tick| t.record.mode == mode && t.at_ns > after_ns;
            ticks.iter().find(of).unwrap().at_ns
        };
        let stopping_ns = at(Mode::Stopping, calm.steps_ns[17]);
        let held_ns = at(Mode::Held, stopping_ns);
        let third = 18 + 5;
        Self {
            armed_ns: at(Mode::Armed, 0),
            by_policy_ns: calm.steps_ns[2],
            by_hand_ns: calm.steps_ns[9],
            stopping_ns,
            held_ns,
            heard_ns: calm.steps_ns[third - 1],
            fault_ns: calm.steps_ns[third + 2],
        }
    }

    /// From when to when a fault of this kind strikes in this phase.
    fn strike(&self, kind: Strike, phase: Phase) -> (u64, u64) {
        // What only the policy's side can have: where it does nothing, it is over before it does.
        let of_policy = kind as usize >= Strike::TeleopGone as usize && kind != Strike::ClockJump;
        let long_ns = 500 * MS;
        match phase {
            Phase::Idle => (ORIGIN_NS + 150 * MS, 200 * MS),
            Phase::Armed => (self.armed_ns + 61 * MS, long_ns),
            Phase::ByPolicy => (self.by_policy_ns + 33 * MS, long_ns),
            Phase::ByHand => (self.by_hand_ns + 33 * MS, long_ns),
            Phase::Stopping if of_policy => (self.stopping_ns - MS, 15 * MS),
            Phase::Stopping => (self.stopping_ns - MS, long_ns),
            Phase::Held if kind == Strike::DiskFull => (self.heard_ns - 50 * MS, 2500 * MS),
            Phase::Held if of_policy => (self.heard_ns - 50 * MS, long_ns),
            Phase::Held => (self.held_ns + 100 * MS, long_ns),
            Phase::Fault => (self.fault_ns + 500 * MS, 300 * MS),
        }
    }
}

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

/// What holds at any time, whatever happens.
fn check_always(rig: &Rig, play: &Play) {
    let stage = &play.staged.stage;
    let config = rig.control(std::iter::empty());
    for tick in stage.ticks() {
        let (record, inputs) = (&tick.record, &tick.record.inputs);
        if record.mode == Mode::Running {
            let age_ns = |then_ns: u64| inputs.now_ns.saturating_sub(then_ns);
            let frames = &inputs.frames_ns[..config.cameras];
            assert!(frames.iter().all(|ns| age_ns(*ns) <= config.ages.frame_ns));
            assert!(age_ns(inputs.order.written_ns) <= config.ages.policy_ns);
            for report in inputs.reports.iter().take(config.arms) {
                let state = report.unwrap().unwrap();
                assert!(age_ns(state.captured_ns) <= config.ages.state_ns);
            }
        }
    }
    for bus in &play.staged.buses {
        assert!(!bus.look(|bus| bus.went_limp()), "an arm was limp");
        assert!(bus.look(|bus| bus.servos().all(|servo| servo.torque)));
    }
    let tick_s = TICK_NS as f64 * 1e-9;
    let fastest = counts_from_radians(rig.limits.joint_velocity_rad_s * tick_s);
    let (chain, _) = stage::arm();
    let servos = stage::servos();
    for goals in stage.goals() {
        for pair in goals.windows(2) {
            for i in 0..JOINTS {
                let step = f64::from(pair[1].counts[i] - pair[0].counts[i]).abs();
                assert!(
                    step <= fastest + 1.01,
                    "joint {i} was sent {step} counts in a tick, at {} ns",
                    pair[1].at_ns
                );
                let limits = &chain.joints()[i];
                let (low, high) = (
                    servos.joints[i].goal(limits.lower),
                    servos.joints[i].goal(limits.upper),
                );
                assert!((low..=high).contains(&pair[1].counts[i]));
            }
        }
        // Over so many ticks that a count, which goals are rounded to, is little.
        const SPAN: usize = 4;
        let span_s = SPAN as f64 * tick_s;
        let hardest = rig
            .limits
            .joint_acceleration_rad_s2
            .unwrap_or(f64::INFINITY);
        let hardest = counts_from_radians(hardest * span_s * span_s);
        for walk in goals.windows(2 * SPAN + 1) {
            let (first, middle, last) = (&walk[0], &walk[SPAN], &walk[2 * SPAN]);
            if last.at_ns - first.at_ns > 2 * SPAN as u64 * TICK_NS + TICK_NS / 2 {
                continue;
            }
            for i in 0..JOINTS {
                let [a, b, c] = [first, middle, last].map(|goals| f64::from(goals.counts[i]));
                let change = (c - 2.0 * b + a).abs();
                assert!(
                    change <= hardest + 2.01,
                    "joint {i} changed its way by {change} counts, at {} ns",
                    middle.at_ns
                );
            }
        }
    }
}

/// A case in a phase of a rig.
struct Struck<'a> {
    rig: &'a Rig,
    case: Case,
    phase: Phase,
    from_ns: u64,
    for_ns: u64,
}

impl Struck<'_> {
    fn plan(&self, times: &Times) -> FaultPlan {
        let fault = FaultSpec {
            magnitude: self.case.magnitude,
            servo: self.case.servo,
            ..spec(self.case.kind, self.from_ns, self.for_ns, self.case.index)
        };
        let first =
            (self.phase == Phase::Fault).then(|| first_fault(self.case.kind, times.fault_ns));
        plan(first.into_iter().chain([fault]).collect())
    }

    /// The first tick that saw it, its place in the run.
    fn seen(&self, ticks: &[Tick], play: &Play) -> Option<usize> {
        let (case, from_ns) = (&self.case, self.from_ns);
        let is_it = |tick: &Tick| {
            let record = &tick.record;
            let about = match case.seen_as.row().answer {
                Answer::GoOn => record.inputs.order.fault,
                _ => record.fault,
            };
            about.is_some_and(|fault| {
                fault.kind == case.seen_as && usize::from(fault.place) == case.index
            })
        };
        let found = |tick: &Tick| match case.seen_as {
            FaultKind::PolicyLate => {
                tick.record.outcome == tick::Outcome::RefusedLate
                    && play
                        .steps_ns
                        .iter()
                        .any(|s| *s >= from_ns && *s < tick.at_ns)
            }
            _ => is_it(tick),
        };
        ticks.iter().position(|t| t.at_ns >= from_ns && found(t))
    }

    /// When it must have been seen, by the table.
    fn bound_ns(&self, ticks: &[Tick], play: &Play) -> u64 {
        let config = self.rig.control(std::iter::empty());
        let after = |all: &[u64]| {
            let next = all.iter().find(|at_ns| **at_ns >= self.from_ns);
            *next.expect("the policy goes on")
        };
        match self.case.seen_as.row().bound {
            Bound::Ticks(_) if self.case.seen_as == FaultKind::PolicyLate => {
                after(&play.steps_ns) + 150 * MS + 2 * TICK_NS
            }
            Bound::Ticks(n) => {
                let first = ticks.iter().position(|t| t.at_ns >= self.from_ns).unwrap();
                ticks[first + n as usize - 1].at_ns
            }
            Bound::StateAge => self.from_ns + config.ages.state_ns + TICK_NS,
            Bound::FrameAge => self.from_ns + config.ages.frame_ns + TICK_NS,
            Bound::PolicyAge => after(&play.steps_ns) + config.ages.policy_ns + TICK_NS,
            // The tick after the one in which the order is given sees it.
            Bound::PolicyStep if self.case.seen_as == FaultKind::LogFailed => {
                after(&play.appends_ns) + 2 * TICK_NS
            }
            Bound::PolicyStep => after(&play.steps_ns) + 2 * TICK_NS,
        }
    }

    fn check(&self, times: &Times) {
        let mut play = play(self.rig, &self.plan(times), self.from_ns);
        let answer = answer(&self.case, self.phase);
        let ticks = play.staged.stage.ticks();
        let until_ns = self.from_ns + self.for_ns;
        if self.phase == Phase::Fault {
            return self.check_in_fault(&mut play);
        }
        if answer == Some(Answer::Stop) {
            // What only an episode can meet is met by the next one.
            if play.mode() != Mode::Fault && self.seen(&ticks, &play).is_none() {
                play.episode(6, None);
            }
            play.staged.stage.sleep_ns(300 * MS);
            self.check_refused(&mut play);
            play.staged
                .stage
                .sleep_ns(until_ns.saturating_sub(play.now_ns()) + 50 * MS);
            self.check_refused(&mut play);
        }
        let told = play.ended.last().map(|ended| format!("{ended:?}"));
        let freed_ns = play.now_ns();
        let missed = |play: &Play| {
            play.staged
                .stage
                .ticks()
                .iter()
                .map(|t| t.record.missed)
                .sum()
        };
        let missed: u64 = missed(&play);
        self.recover(&mut play);
        match answer {
            None => {
                let calm = |tick: &Tick| tick.record.mode != Mode::Fault;
                assert!(ticks.iter().all(calm));
                if self.phase == Phase::ByHand {
                    assert!(told.unwrap().contains("Ok((18, 10))"));
                }
            }
            Some(answer) => self.check_answer(answer, &play, told, freed_ns),
        }
        if self.case.kind != Strike::ClockJump {
            assert_eq!(missed, 0, "ticks were missed");
        }
        check_always(self.rig, &play);
        let Play { staged, .. } = play;
        drop(staged.cell);
        for bus in &staged.buses {
            bus.look(|bus| {
                bus.advance(staged.stage.now_ns() + 1000 * MS);
                assert!(!bus.went_limp() && bus.servos().all(|servo| servo.torque));
            });
        }
    }

    /// Stopped arms follow nobody.
    fn check_refused(&self, play: &mut Play) {
        assert_eq!(play.mode(), Mode::Fault);
        // Before the first reset there are no steps.
        if self.phase != Phase::Idle {
            let error = play.step().unwrap_err();
            assert!(matches!(error, CellError::Stopped(_)), "{error}");
            assert_eq!(play.mode(), Mode::Fault);
        }
    }

    /// With the fault gone and, where it needs one, a reset, the rig works as before.
    fn recover(&self, play: &mut Play) {
        for _ in 0..10 {
            play.episode(6, None);
            let ended = play.ended.last().unwrap();
            match &ended.outcome {
                Ok(outcome) => {
                    assert_eq!(*outcome, (6, 0));
                    let moved = play.staged.stage.goals().iter().all(|goals| {
                        let mut new = goals.iter().filter(|g| g.at_ns > play.last_ns);
                        let first = new.next().unwrap().counts;
                        new.any(|g| g.counts[..JOINTS] != first[..JOINTS])
                    });
                    assert!(moved, "after the reset nothing moves");
                    return;
                }
                Err(error) => assert!(ended.passing, "not the same again: {error}"),
            }
        }
        panic!("it never went on: {:?}", play.ended);
    }

    fn check_answer(&self, answer: Answer, play: &Play, told: Option<String>, freed_ns: u64) {
        let ticks = play.staged.stage.ticks();
        let seen = self.seen(&ticks, play);
        let Some(seen) = seen else {
            panic!("it was never seen; {:?}", play.ended);
        };
        let (at_ns, bound_ns) = (ticks[seen].at_ns, self.bound_ns(&ticks, play));
        if self.case.seen_as == FaultKind::FrameStale {
            assert!(at_ns <= self.from_ns + 150 * MS);
        }
        assert!(
            at_ns <= bound_ns,
            "seen {} ms after its bound",
            (at_ns - bound_ns) as f64 * 1e-6
        );
        let row = self.case.seen_as.row();
        match answer {
            Answer::GoOn => {
                let now = &play.ended.last().unwrap().outcome;
                assert_eq!(*now, Ok((6, 0)));
                if self.phase != Phase::Held {
                    assert_eq!(
                        told.unwrap(),
                        "Ended { outcome: Ok((18, 10)), passing: false }"
                    );
                }
                return;
            }
            Answer::Hold => {
                assert_eq!(ticks[seen].record.mode, Mode::Held);
                // Held arms are held by two; the episode tells the one that is left.
                let told = told.unwrap();
                let why = self.phase == Phase::Held || self.says(&told, row.words);
                assert!(why, "`{told}` does not say why");
            }
            Answer::Stop => {
                let mode = ticks[seen].record.mode;
                assert!(matches!(mode, Mode::Stopping | Mode::Fault));
                let fault = ticks[seen].record.fault.unwrap();
                let words = fault.to_string();
                if self.phase != Phase::Idle {
                    let told = told.unwrap();
                    assert!(self.says(&told, &words), "`{told}` does not say `{words}`");
                }
            }
        }
        self.check_held(play, &ticks, seen, freed_ns);
        if self.case.kind.strikes_a_wire() {
            self.check_other_arm(&ticks);
        }
    }

    /// An arm that does not answer keeps the other from answering for no more than a tick.
    fn check_other_arm(&self, ticks: &[Tick]) {
        let other = 1 - self.case.index;
        for tick in ticks.iter().filter(|t| t.at_ns >= self.from_ns) {
            let inputs = &tick.record.inputs;
            if let Some(report) = &inputs.reports[other] {
                let state = report.as_ref().expect("the other arm's bus is whole");
                let age_ns = inputs.now_ns.saturating_sub(state.captured_ns);
                assert!(
                    age_ns < 2 * TICK_NS,
                    "the other arm's state is {age_ns} ns old"
                );
            }
        }
    }

    /// The session's error says what it was.
    fn says(&self, told: &str, words: &str) -> bool {
        match self.case.seen_as {
            FaultKind::TeleopGone => told.contains("gone"),
            FaultKind::LogFailed => told.contains("space"),
            FaultKind::PolicyNotFinite => told.contains("not a finite number"),
            // By its number, or by its name where it says itself that it is gone.
            FaultKind::FrameStale => told.contains("camera"),
            _ => told.contains(words.split(';').next().unwrap()),
        }
    }

    /// From the tick that saw it on, the arms go no farther than braking needs, until they are
    /// freed.
    fn check_held(&self, play: &Play, ticks: &[Tick], seen: usize, freed_ns: u64) {
        let at_ns = ticks[seen].at_ns;
        let runs = |t: &Tick| t.record.mode == Mode::Running;
        let resumed = ticks[seen..].iter().find(|t| runs(t)).map(|t| t.at_ns);
        let until_ns = match self.case.seen_as.row().answer {
            Answer::Stop => freed_ns,
            _ => resumed.unwrap_or(u64::MAX),
        };
        let tick_s = TICK_NS as f64 * 1e-9;
        let braking = self.rig.limits.joint_acceleration_rad_s2;
        for (arm, goals) in play.staged.stage.goals().iter().enumerate() {
            let lost = self.case.kind == Strike::BusUnplugged && self.case.index == arm;
            let first = goals
                .iter()
                .position(|g| g.at_ns >= at_ns)
                .unwrap_or(goals.len());
            let later: Vec<&Goals> = goals[first..]
                .iter()
                .take_while(|g| g.at_ns < until_ns)
                .collect();
            if lost {
                let heard =
                    |g: &&Goals| (self.from_ns..self.from_ns + self.for_ns).contains(&g.at_ns);
                assert_eq!(goals.iter().find(heard), None, "nobody hears on a lost bus");
            } else {
                let told = later
                    .first()
                    .is_some_and(|g| g.at_ns <= at_ns + 2 * TICK_NS);
                assert!(told, "arm {arm} was told nothing within two ticks");
            }
            let Some(before) = first.checked_sub(1).map(|i| &goals[i]) else {
                continue;
            };
            for i in 0..JOINTS {
                let start = f64::from(before.counts[i]);
                let speed = match first.checked_sub(2).map(|k| &goals[k]) {
                    Some(one) if before.at_ns - one.at_ns < 2 * TICK_NS => {
                        (start - f64::from(one.counts[i])).abs()
                    }
                    _ => 0.0,
                };
                let (way, ticks_on) = match braking {
                    None => (0.0, 0.0),
                    Some(a) => {
                        let a = counts_from_radians(a * tick_s * tick_s);
                        let speed = speed + 1.0;
                        (speed * speed / (2.0 * a) + speed + 1.0, speed / a + 2.0)
                    }
                };
                let still_ns = at_ns + (ticks_on * TICK_NS as f64) as u64 + 2 * TICK_NS;
                let mut at_rest = None;
                for goals in &later {
                    let now = f64::from(goals.counts[i]);
                    assert!(
                        (now - start).abs() <= way,
                        "arm {arm} joint {i} went {} counts on",
                        now - start
                    );
                    if goals.at_ns > still_ns {
                        assert_eq!(*at_rest.get_or_insert(now), now, "it stands");
                    }
                }
            }
        }
    }

    /// In a fault another one changes nothing: the first is told, and a reset after both goes on.
    fn check_in_fault(&self, play: &mut Play) {
        let ticks = play.staged.stage.ticks();
        let first = ticks
            .iter()
            .position(|t| t.record.mode == Mode::Fault)
            .unwrap();
        let about = ticks[first].record.fault;
        for tick in &ticks[first..] {
            assert_eq!((tick.record.mode, tick.record.fault), (Mode::Fault, about));
        }
        self.check_refused(play);
        let stood_ns = ticks[first].at_ns + 2 * TICK_NS;
        for goals in play.staged.stage.goals() {
            let mut later = goals.iter().filter(|g| g.at_ns > stood_ns);
            let held = later.next().unwrap().counts;
            assert!(later.all(|g| g.counts == held));
        }
        self.recover(play);
        check_always(self.rig, play);
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
                    let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    wrong.push(format!(
                        "{phase:?} {acceleration_rad_s2:?} {case:?}: {words}"
                    ));
                }
            }
        }
    }
    println!("{mode}: {cells} cells");
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
