//! The script: who acts, which episodes are played, and when its phases are.

use std::{cell::RefCell, ops::Range, rc::Rc, sync::atomic::AtomicBool, time::Duration};

use hilt_drivers::{
    EpisodeStart, Intent, Teleop, TeleopError, TeleopEvent,
    faults::{FaultKind as Strike, FaultPlan, FaultSpec},
};
use hilt_protocol::{ActionSource, Observation, Progress, Record, RigSpec};
use hilt_realtime::Clock;
use hilt_runtime::{
    brain::{Brain, BrainError},
    cell::CellError,
    control::Mode,
    faulty::{FaultyBrain, FaultyJournal},
    learner_side::{Learner, LearnerSide},
    rig::Rig,
    run_log::{Journal, JournalError},
    session::{Flow, Outcome, Policy, Session, SessionError},
};
use hilt_sim::Truth;

use crate::{
    checks::check_always,
    stage::{self, ORIGIN_NS, Staged, Tick},
};

pub const MS: u64 = 1_000_000;
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
pub struct Ended {
    /// Steps, and how many of them by hand.
    pub outcome: Result<(u32, u32), String>,
    pub passing: bool,
}

/// A rig and what happened to it.
pub struct Play {
    pub rig: Rig,
    pub staged: Staged,
    pub ended: Vec<Ended>,
    /// When the policy's side set about a step.
    pub steps_ns: Vec<u64>,
    pub appends_ns: Vec<u64>,
    /// When the last episode began.
    pub last_ns: u64,
    /// What the cell said last, when that was an error.
    pub told: Option<String>,
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
            told: None,
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.staged.stage.now_ns()
    }

    pub fn mode(&self) -> Mode {
        self.staged.stage.last().unwrap().record.mode
    }

    /// One episode of `max_steps`; before step `pause.0` the policy thread is away for `pause.1` ns.
    pub fn episode(&mut self, max_steps: u32, pause: Option<(u32, u64)>) {
        self.last_ns = self.now_ns();
        let outcome = self.run(max_steps, pause);
        let passing = outcome.as_ref().is_err_and(SessionError::is_passing);
        let outcome = outcome.map(|o| (o.steps, o.intervened));
        let outcome = outcome.map_err(|error| error.to_string());
        self.told = outcome.as_ref().err().cloned();
        self.ended.push(Ended { outcome, passing });
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
    pub fn step(&mut self) -> Result<(), CellError> {
        let action = vec![0.5; self.rig.spec().action_dim()];
        let stepped = self.staged.cell.step(&action).map(|_| ());
        self.told = stepped.as_ref().err().map(CellError::to_string);
        stepped
    }
}

const IDLE_NS: u64 = 400 * MS;
const ARMED_NS: u64 = 200 * MS;
const SILENT_NS: u64 = 1200 * MS;
const FAULT_NS: u64 = 1000 * MS;

/// The script, up to the first episode that ends after `struck_ns`.
pub fn play(rig: &Rig, plan: &FaultPlan, struck_ns: u64) -> Play {
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
pub enum Phase {
    Idle,
    Armed,
    ByPolicy,
    ByHand,
    Held,
    Stopping,
    Fault,
}

impl Phase {
    pub const ALL: [Self; 7] = [
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
pub struct Times {
    armed_ns: u64,
    by_policy_ns: u64,
    by_hand_ns: u64,
    stopping_ns: u64,
    held_ns: u64,
    /// The policy's next step after it was silent.
    heard_ns: u64,
    pub fault_ns: u64,
}

pub fn spec(kind: Strike, from_ns: u64, for_ns: u64, index: usize) -> FaultSpec {
    FaultSpec {
        kind,
        from_s: (from_ns - ORIGIN_NS) as f64 * 1e-9,
        for_s: for_ns as f64 * 1e-9,
        index,
        servo: None,
        magnitude: None,
    }
}

pub fn plan(faults: Vec<FaultSpec>) -> FaultPlan {
    FaultPlan { seed: 7, faults }
}

/// What leads to the phase of that name: the device in the person's hand is gone; where that is the
/// fault itself, the disk is full.
pub fn first_fault(kind: Strike, at_ns: u64) -> FaultSpec {
    let kind = match kind {
        Strike::TeleopGone => Strike::DiskFull,
        _ => Strike::TeleopGone,
    };
    spec(kind, at_ns, 200 * MS, 0)
}

impl Times {
    /// Plays the script without a fault, and with the one that leads to the last phase.
    pub fn of(rig: &Rig) -> Self {
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
    pub fn strike(&self, kind: Strike, phase: Phase) -> (u64, u64) {
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
