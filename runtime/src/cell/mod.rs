//! A rig's arms and cameras as whoever chooses actions sees them: reset, observe, execute an action
//! for a policy period.
//!
//! What an action means is the same on every clock: [`crate::safety`] makes it a joint target and
//! says what was really commanded. Who moves the arms there is the cell's [`Body`]: in
//! [`lockstep`] the thread that asks, in [`realtime`] a control thread.

pub mod cameras;
pub mod devices;
pub mod lockstep;
pub mod realtime;

use hilt_drivers::{ArmState, CameraError, EpisodeStart, WorldError, sim::Role, sim::SimOperator};
use hilt_kinematics::Chain;
use hilt_protocol::{ArmCommand, GripperCommand, Image, JointVector, Observation, RigSpec};
use hilt_realtime::Monotonic;
use hilt_sim::Truth;
use ringbuf::HeapCons;

use crate::{
    control::{Fault, FaultKind, Report, Targets, TickRecord},
    decision::{self, Choice, Decision, Stand, Why},
    episode::{ArmFacts, proprio},
    faulty::Faults,
    rig::{ClockKind, Rig, first_gripper},
    safety::{ActionRefused, ArmTarget, LimitsHit, SafetyFilter},
    tick::{OutcomeCounts, Stage},
    tick_log::{Began, TickLogSender},
};

/// Why the cell stopped working.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// The simulated world failed.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A camera gives nothing.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// A fault holds all arms until a person has looked.
    #[error("{0}; all arms are held")]
    Stopped(Fault),
    /// An input is not fit; all arms are held until it is.
    #[error("{0}; all arms are held until then")]
    Held(Fault),
    /// The action was not executed.
    #[error(transparent)]
    Action(#[from] ActionRefused),
    /// The rig asks for what its clock cannot do.
    #[error("{0}")]
    Rig(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    System {
        /// What was wanted of it.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// What an executed action led to.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The action that was really commanded.
    pub action: Vec<f32>,
    /// Whether it was followed; `false`: it came too late and the arms stayed.
    pub followed: bool,
    /// How many grippers were told to change.
    pub toggles: u32,
    /// What is seen now.
    pub next: Observation,
    /// What the classifier's predicates look at, per arm.
    pub facts: Vec<ArmFacts>,
    /// What held the action back, per arm.
    pub limits: Vec<LimitsHit>,
    /// What the cell's own stages took, nanoseconds; empty where nothing is measured.
    pub stages: Vec<(Stage, u64)>,
}

/// What moves the arms and looks through the cameras.
pub trait Body {
    /// Time on the run's clock, nanoseconds.
    fn now_ns(&self) -> u64;

    /// Begins an episode: the arms stand still where it begins, ready to follow. Gives where they
    /// are being sent, in the order of the arms.
    fn reset(&mut self, start: EpisodeStart) -> Result<Targets, CellError>;

    /// What the arms report.
    fn states(&mut self) -> Result<Vec<ArmState>, CellError>;

    /// The cameras' newest frames.
    fn frames(&mut self) -> Result<Vec<Image>, CellError>;

    /// Brings the arms to a command's targets, and returns when its policy period is over. `false`:
    /// the command came too late and was not followed; the arms stay where the last one sent them.
    fn follow(&mut self, command: ArmCommand) -> Result<bool, CellError>;

    /// The newest command that it followed or tried to, with the number and the time that it gave it.
    fn ordered(&self) -> Option<ArmCommand>;

    /// What it decided on its own since the last call: the arms' way home.
    fn decided(&mut self) -> Vec<Decision> {
        Vec::new()
    }

    /// What only a simulator knows; `None` where there is no task.
    fn truth(&self) -> Option<Truth>;

    /// Ticks of the control loop so far, by outcome.
    fn counts(&mut self) -> OutcomeCounts;

    /// The newest that the control thread tells; `None` in lockstep, where there is none.
    fn report(&mut self) -> Option<Report> {
        None
    }

    /// What the policy's stages took since the last call, nanoseconds.
    fn stages(&mut self) -> Vec<(Stage, u64)> {
        Vec::new()
    }

    /// A person's intent that is older than this, nanoseconds, is not acted on.
    fn oldest_intent_ns(&self) -> u64 {
        u64::MAX
    }

    /// Something is wrong with what commands the arms: it is answered as the table of faults says.
    fn fail(&mut self, _fault: Fault) {}

    /// Something is wrong, and the next command is given all the same: it goes with that command.
    fn note(&mut self, _fault: Fault) {}

    /// Brings the arms to a standstill for good; the control thread's last word.
    fn end(&mut self) -> Option<Report> {
        None
    }

    /// The scripted operator of the rig's scene, if it has one.
    fn operator(&self, rig: &Rig, role: Role) -> Option<SimOperator>;
}

/// The devices, and what an action means for them.
pub struct Cell {
    spec: RigSpec,
    body: Box<dyn Body>,
    filters: Vec<SafetyFilter>,
    targets: Vec<ArmTarget>,
    toggled_ns: Vec<u64>,
    gripper: GripperCommand,
    sequence: u64,
    records: Option<HeapCons<TickRecord>>,
    began: Option<Began>,
    log: Option<TickLogSender>,
}

impl Cell {
    /// Opens the rig's devices, in lockstep or in real time as its clock says. The times of its
    /// faults count from now.
    pub fn open(rig: &Rig) -> Result<Self, CellError> {
        let faults = Faults::begin(rig.faults.clone(), Monotonic);
        if let Some(words) = faults.words() {
            tracing::warn!("{words}");
        }
        Self::open_with(rig, &faults)
    }

    /// As [`Cell::open`], with these faults.
    pub fn open_with(rig: &Rig, faults: &Faults<Monotonic>) -> Result<Self, CellError> {
        match rig.clock {
            ClockKind::Simulated => lockstep::open(rig),
            ClockKind::Monotonic => realtime::open(rig, faults),
        }
    }

    /// Over a body whose arms have these chains.
    pub fn new<'a>(
        rig: &Rig,
        body: Box<dyn Body>,
        chains: impl IntoIterator<Item = &'a Chain>,
    ) -> Self {
        let spec = rig.spec();
        let filter = |chain: &Chain| SafetyFilter::new(chain.clone(), &spec, rig.safety());
        let filters: Vec<_> = chains.into_iter().map(filter).collect();
        Self {
            gripper: first_gripper(&spec),
            toggled_ns: vec![0; filters.len()],
            targets: Vec::new(),
            filters,
            spec,
            body,
            sequence: 0,
            records: None,
            began: None,
            log: None,
        }
    }

    /// The layout of actions and observations.
    pub fn spec(&self) -> &RigSpec {
        &self.spec
    }

    /// Time on the run's clock, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.body.now_ns()
    }

    /// What only a simulator knows; `None` where there is no task.
    pub fn truth(&self) -> Option<Truth> {
        self.body.truth()
    }

    /// Each arm's kinematics, and what its gripper was told.
    pub fn tools(&self) -> impl Iterator<Item = (&Chain, GripperCommand)> {
        let arms = self.filters.iter().zip(&self.targets);
        arms.map(|(filter, target)| (filter.chain(), target.gripper))
    }

    /// Ticks of the control loop so far, by outcome.
    pub fn counts(&mut self) -> OutcomeCounts {
        self.body.counts()
    }

    /// The newest that the control thread tells; `None` in lockstep, where there is none.
    pub fn report(&mut self) -> Option<Report> {
        self.body.report()
    }

    /// A person's intent that is older than this, nanoseconds, is not acted on.
    pub fn oldest_intent_ns(&self) -> u64 {
        self.body.oldest_intent_ns()
    }

    /// Something is wrong with what commands the arms: it is answered as the table of faults says.
    pub fn fail(&mut self, fault: Fault) {
        self.body.fail(fault);
    }

    /// Something is wrong, and the next step is taken all the same: the loop's records tell it.
    pub fn note(&mut self, fault: Fault) {
        self.body.note(fault);
    }

    /// Brings the arms to a standstill for good; the control thread's last word, `None` in lockstep.
    pub fn end(&mut self) -> Option<Report> {
        self.body.end()
    }

    /// What every tick of the control thread sees and does; once, and `None` in lockstep.
    pub fn take_records(&mut self) -> Option<HeapCons<TickRecord>> {
        self.records.take()
    }

    /// How the control loop began, for its log; `None` where nobody has said.
    pub fn began(&self) -> Option<&Began> {
        self.began.as_ref()
    }

    /// Every decision goes to `log` from now on.
    pub fn log_to(&mut self, log: TickLogSender) {
        self.log = Some(log);
    }

    fn log(&self, decision: Decision) {
        if let Some(log) = &self.log {
            log.decision(decision);
        }
    }

    /// The scripted operator of the rig's scene, if it has one.
    pub fn operator(&self, rig: &Rig, role: Role) -> Option<SimOperator> {
        self.body.operator(rig, role)
    }

    /// Begins an episode.
    pub fn reset(&mut self, start: EpisodeStart) -> Result<Observation, CellError> {
        let standing = self.body.reset(start);
        for decision in self.body.decided() {
            self.log(decision);
        }
        let standing = standing?;
        let joints = standing.iter().flatten().map(|(joints, _)| joints);
        let arms = self.filters.iter().zip(joints);
        self.targets = arms
            .map(|(filter, joints)| filter.target_at(joints, self.gripper))
            .collect();
        // As if the gripper had been like this for long.
        let long_ago_ns = self.body.now_ns().saturating_sub(1_000_000_000);
        self.toggled_ns.fill(long_ago_ns);
        let states = self.body.states()?;
        self.observe(&states)
    }

    /// What the arms report now.
    pub fn arm_states(&mut self) -> Result<Vec<ArmState>, CellError> {
        self.body.states()
    }

    fn observe(&mut self, states: &[ArmState]) -> Result<Observation, CellError> {
        let now_ns = self.body.now_ns();
        let mut numbers = Vec::with_capacity(self.spec.proprio_dim());
        for (((filter, state), target), toggled_ns) in self
            .filters
            .iter()
            .zip(states)
            .zip(&self.targets)
            .zip(&self.toggled_ns)
        {
            let since_s = now_ns.saturating_sub(*toggled_ns) as f64 * 1e-9;
            numbers.extend(proprio(filter.chain(), state, target, since_s));
        }
        let images = self.body.frames()?;
        let captured_ns = states.iter().map(|s| s.captured_ns).min().unwrap_or(now_ns);
        Ok(Observation {
            captured_ns,
            proprio: numbers,
            images,
        })
    }

    /// Executes an action for one policy period, and observes.
    pub fn step(&mut self, action: &[f32]) -> Result<Executed, CellError> {
        self.execute(Choice::given(action))
    }

    /// Executes what whoever acts has chosen for one policy period, and observes.
    pub fn execute(&mut self, choice: Choice) -> Result<Executed, CellError> {
        let stands = self.stands()?;
        let action = choice.action(&self.spec);
        let filtered = decision::filter(&self.spec, &self.filters, &stands, &action);
        let now_ns = self.body.now_ns();
        let decided = |action, command, followed| Decision {
            now_ns,
            why: Why::Step {
                choice,
                stands,
                action,
            },
            command,
            followed,
            hash: 0,
        };
        let filtered = match filtered {
            Ok(filtered) => filtered,
            Err(refused) => {
                // Logged first: to fail waits until the arms are held.
                self.log(decided(Vec::new(), None, None));
                if matches!(refused, ActionRefused::NotFinite(_)) {
                    self.body.fail(Fault::at(FaultKind::PolicyNotFinite, 0));
                }
                return Err(refused.into());
            }
        };
        if filtered.iter().any(|out| out.limits.any()) {
            self.body.note(Fault::at(FaultKind::PolicyOutOfBounds, 0));
        }
        let before = (self.targets.clone(), self.toggled_ns.clone());
        for ((target, toggled_ns), out) in self
            .targets
            .iter_mut()
            .zip(&mut self.toggled_ns)
            .zip(&filtered)
        {
            *target = out.target;
            if out.toggled {
                *toggled_ns = now_ns;
            }
        }
        self.sequence += 1;
        let command = ArmCommand {
            sequence: self.sequence,
            activate_ns: now_ns,
            arms: decision::targets(&self.targets),
        };
        let followed = self.body.follow(command);
        let commanded: Vec<_> = (filtered.iter())
            .flat_map(|out| out.commanded.iter().copied())
            .collect();
        let known = followed.as_ref().ok().copied();
        self.log(decided(commanded.clone(), self.body.ordered(), known));
        if !matches!(followed, Ok(true)) {
            (self.targets, self.toggled_ns) = before;
        }
        let followed = followed?;
        let states = self.body.states()?;
        let facts = self
            .filters
            .iter()
            .zip(&states)
            .zip(&self.targets)
            .map(|((filter, state), target)| ArmFacts {
                tool_z_m: filter
                    .chain()
                    .base_from_tool(state.joints.as_slice())
                    .translation
                    .z,
                closed: target.gripper == GripperCommand::Closed,
            })
            .collect();
        Ok(Executed {
            limits: filtered.iter().map(|out| out.limits).collect(),
            toggles: match followed {
                true => filtered.iter().map(|out| u32::from(out.toggled)).sum(),
                false => 0,
            },
            action: match followed {
                true => commanded,
                // What was commanded is to stay.
                false => vec![0.0; self.spec.action_dim()],
            },
            followed,
            next: self.observe(&states)?,
            stages: self.body.stages(),
            facts,
        })
    }

    /// Sends one arm to these joints for one policy period; the others stay. For procedures that think in
    /// joints: it passes by the safety filter, and the control loop alone bounds limits, velocity and
    /// acceleration. `false`: it came too late and the arms stay.
    pub fn drive(&mut self, arm: usize, joints: &JointVector) -> Result<bool, CellError> {
        self.stands()?;
        let gripper = self.targets[arm].gripper;
        let target = self.filters[arm].target_at(joints, gripper);
        let before = std::mem::replace(&mut self.targets[arm], target);
        self.sequence += 1;
        let followed = self.body.follow(ArmCommand {
            sequence: self.sequence,
            activate_ns: self.body.now_ns(),
            arms: decision::targets(&self.targets),
        });
        if !matches!(followed, Ok(true)) {
            self.targets[arm] = before;
        }
        followed
    }

    /// Tells an arm's gripper, with the next command.
    pub fn grip(&mut self, arm: usize, gripper: GripperCommand) {
        if let Some(target) = self.targets.get_mut(arm) {
            target.gripper = gripper;
        }
    }

    /// Where an arm is being sent, radians.
    pub fn target(&self, arm: usize) -> Option<JointVector> {
        self.targets.get(arm).map(|target| target.joints)
    }

    /// The cameras' newest frames.
    pub fn frames(&mut self) -> Result<Vec<Image>, CellError> {
        self.body.frames()
    }

    fn stands(&mut self) -> Result<Vec<Stand>, CellError> {
        if self.targets.is_empty() {
            let first = "the arms do not stand anywhere yet; reset the cell before its first step";
            return Err(CellError::Rig(first.to_owned()));
        }
        let states = self.body.states()?;
        let arms = states.into_iter().zip(&self.targets);
        Ok(arms
            .map(|(state, &target)| Stand { state, target })
            .collect())
    }
}
