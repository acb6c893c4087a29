//! A rig's devices, in lockstep on the thread that made them.

use hilt_drivers::{
    Arm, ArmError, ArmState, Camera, CameraError, EpisodeStart, World, WorldError,
    fake::FakeArmPair,
    sim::{LiftWorld, Role, SimOperator},
};
use hilt_kinematics::Chain;
use hilt_protocol::{ArmCommand, GripperCommand, MAX_ARMS, Observation, RigSpec};
use hilt_sim::Truth;

use crate::{
    control::{self, ControlConfig, ControlState, Fault, Targets, TickCounts},
    episode::{ArmFacts, proprio},
    rig::{Device, Rig},
    safety::{ActionRefused, ArmTarget, Filtered, LimitsHit, SafetyFilter},
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
    /// An arm has a fault; all arms are held where they are.
    #[error("arm {}: {}; all arms are held", .0.arm, .0.error)]
    Arm(Fault),
    /// The action was not executed.
    #[error(transparent)]
    Action(#[from] ActionRefused),
    /// The rig asks for what lockstep cannot do.
    #[error("{0}")]
    Rig(&'static str),
}

/// What an executed action led to.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The action that was really commanded.
    pub action: Vec<f32>,
    /// How many grippers were told to change.
    pub toggles: u32,
    /// What is seen now.
    pub next: Observation,
    /// What the classifier's predicates look at, per arm.
    pub facts: Vec<ArmFacts>,
    /// What held the action back, per arm.
    pub limits: Vec<LimitsHit>,
}

/// The devices and the state of their control loop.
pub struct Cell {
    spec: RigSpec,
    world: Box<dyn World>,
    lift: Option<LiftWorld>,
    arms: Vec<Box<dyn Arm>>,
    cameras: Vec<Box<dyn Camera>>,
    filters: Vec<SafetyFilter>,
    targets: Vec<ArmTarget>,
    toggled_ns: Vec<u64>,
    config: ControlConfig,
    state: ControlState,
    ticks_per_step: u32,
    sequence: u64,
}

impl Cell {
    /// Opens the rig's devices.
    pub fn open(rig: &Rig) -> Result<Self, CellError> {
        let spec = rig.spec();
        match (rig.device, &rig.scene) {
            (Device::LiftSim, Some(scene)) => {
                let world = LiftWorld::new(scene)?;
                let arms: Vec<Box<dyn Arm>> = vec![Box::new(world.arm())];
                let cameras = world
                    .cameras()
                    .into_iter()
                    .map(|c| Box::new(c) as _)
                    .collect();
                let mut cell = Self::new(rig, Box::new(world.clone()), arms, cameras)?;
                cell.lift = Some(world);
                Ok(cell)
            }
            _ => {
                let pair = FakeArmPair::new(spec.mode.arms())?;
                let arms = (0..spec.mode.arms())
                    .map(|i| Box::new(pair.arm(i)) as _)
                    .collect();
                let cameras = spec
                    .cameras
                    .iter()
                    .map(|c| Box::new(pair.camera(c.clone())) as _)
                    .collect();
                Self::new(rig, Box::new(pair), arms, cameras)
            }
        }
    }

    /// From devices that are open already; `arms` and `cameras` in the spec's order.
    pub fn new(
        rig: &Rig,
        world: Box<dyn World>,
        arms: Vec<Box<dyn Arm>>,
        cameras: Vec<Box<dyn Camera>>,
    ) -> Result<Self, CellError> {
        let spec = rig.spec();
        let fits = cameras.iter().map(|c| c.spec()).eq(&spec.cameras);
        if arms.len() != spec.mode.arms() || !fits {
            return Err(CellError::Rig(
                "the devices are not those of the rig's spec",
            ));
        }
        let filters = arms
            .iter()
            .map(|arm| SafetyFilter::new(arm.chain().clone(), &spec, rig.safety()))
            .collect();
        let config = ControlConfig {
            arms: arms.len(),
            interpolation_ns: rig.policy_period_ns(),
            tick_ns: rig.policy_period_ns() / u64::from(rig.ticks_per_step()),
            // In lockstep a command is there when its tick is.
            late_ns: 0,
        };
        let mut cell = Self {
            spec,
            world,
            lift: None,
            toggled_ns: vec![0; arms.len()],
            arms,
            cameras,
            filters,
            targets: Vec::new(),
            config,
            state: ControlState::at([None; MAX_ARMS]),
            ticks_per_step: rig.ticks_per_step(),
            sequence: 0,
        };
        cell.settle()?;
        Ok(cell)
    }

    /// The layout of actions and observations.
    pub fn spec(&self) -> &RigSpec {
        &self.spec
    }

    /// Time on the run's clock, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    /// What only a simulator knows; `None` where there is no task.
    pub fn truth(&self) -> Option<Truth> {
        self.world.truth()
    }

    /// Each arm's kinematics, and what its gripper was told.
    pub fn tools(&self) -> impl Iterator<Item = (&Chain, GripperCommand)> {
        let arms = self.filters.iter().zip(&self.targets);
        arms.map(|(filter, target)| (filter.chain(), target.gripper))
    }

    /// Ticks of the control loop so far, by outcome.
    pub fn counts(&self) -> TickCounts {
        self.state.counts()
    }

    /// The scripted operator of the rig's scene, if it has one.
    pub fn operator(&self, rig: &Rig, role: Role) -> Option<SimOperator> {
        let lift = self.lift.as_ref()?;
        Some(lift.operator(role, rig.operator.hand(), rig.limits.step_m))
    }

    /// Begins an episode.
    pub fn reset(&mut self, start: EpisodeStart) -> Result<Observation, CellError> {
        self.world.reset(start)?;
        self.settle()?;
        let states = self.arm_states()?;
        Ok(self.observe(&states)?)
    }

    /// Arms started, targets where the arms are, grippers as the mode begins.
    fn settle(&mut self) -> Result<(), CellError> {
        let now_ns = self.world.now_ns();
        let gripper = if self.spec.mode.learned_gripper() {
            GripperCommand::Open
        } else {
            GripperCommand::Closed
        };
        for (index, arm) in self.arms.iter_mut().enumerate() {
            arm.start()
                .map_err(|error| CellError::Arm(Fault { arm: index, error }))?;
        }
        let states = self.arm_states()?;
        self.targets = self
            .filters
            .iter()
            .zip(&states)
            .map(|(filter, state)| filter.target_at(state, gripper))
            .collect();
        // As if the gripper had been like this for long.
        self.toggled_ns.fill(now_ns.saturating_sub(1_000_000_000));
        self.state.reset(self.command_targets());
        Ok(())
    }

    fn command_targets(&self) -> Targets {
        let mut targets = [None; MAX_ARMS];
        for (slot, target) in targets.iter_mut().zip(&self.targets) {
            *slot = Some((target.joints, target.gripper));
        }
        targets
    }

    /// What the arms report now.
    pub fn arm_states(&mut self) -> Result<Vec<ArmState>, CellError> {
        let now_ns = self.world.now_ns();
        let reads = self.arms.iter_mut().enumerate();
        reads
            .map(|(arm, device)| {
                let fault = |error: ArmError| CellError::Arm(Fault { arm, error });
                device.read_state(now_ns, now_ns).map_err(fault)
            })
            .collect()
    }

    fn observe(&mut self, states: &[ArmState]) -> Result<Observation, CameraError> {
        let now_ns = self.world.now_ns();
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
        let images = self
            .cameras
            .iter_mut()
            .map(|c| c.newest())
            .collect::<Result<_, _>>()?;
        let captured_ns = states.iter().map(|s| s.captured_ns).min().unwrap_or(now_ns);
        Ok(Observation {
            captured_ns,
            proprio: numbers,
            images,
        })
    }

    /// Executes an action for one policy period, and observes.
    pub fn step(&mut self, action: &[f32]) -> Result<Executed, CellError> {
        let filtered = self.filter(action)?;
        let now_ns = self.world.now_ns();
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
            arms: self.command_targets(),
        };
        self.follow(command, now_ns)?;
        let states = self.arm_states()?;
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
            toggles: filtered.iter().map(|out| u32::from(out.toggled)).sum(),
            action: filtered.into_iter().flat_map(|out| out.commanded).collect(),
            next: self.observe(&states)?,
            facts,
        })
    }

    fn filter(&mut self, action: &[f32]) -> Result<Vec<Filtered>, CellError> {
        let (expected, got) = (self.spec.action_dim(), action.len());
        if expected != got {
            return Err(ActionRefused::Columns { expected, got }.into());
        }
        let states = self.arm_states()?;
        let columns = self.spec.columns_per_arm();
        let parts = action.chunks_exact(columns).enumerate();
        parts
            .zip(self.filters.iter().zip(&self.targets).zip(&states))
            .map(|((arm, part), ((filter, target), state))| {
                filter
                    .filter(target, part, state)
                    .map_err(|refused| match refused {
                        // Named by its place in the whole action.
                        ActionRefused::NotFinite(column) => {
                            ActionRefused::NotFinite(arm * columns + column).into()
                        }
                        other => other.into(),
                    })
            })
            .collect()
    }

    /// The control ticks of one policy period.
    fn follow(&mut self, command: ArmCommand, start_ns: u64) -> Result<(), CellError> {
        let period_ns = self.config.interpolation_ns;
        for tick in 1..=u64::from(self.ticks_per_step) {
            let now_ns = self.world.now_ns();
            control::tick(
                &self.config,
                &mut self.state,
                &mut self.arms,
                Some(command),
                now_ns,
            );
            if let Some(fault) = self.state.fault() {
                return Err(CellError::Arm(fault));
            }
            // From the start, so that a period that does not divide evenly does not drift.
            let until_ns = start_ns + period_ns * tick / u64::from(self.ticks_per_step);
            self.world.advance_ns(until_ns.saturating_sub(now_ns))?;
        }
        Ok(())
    }
}
