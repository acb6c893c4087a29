//! A simulated rig in lockstep: arms, physics and cameras on the thread that asks, as fast as it can.

use hilt_drivers::{
    Arm, ArmState, Camera, EpisodeStart, World,
    fake::FakeArmPair,
    sim::{LiftWorld, Role, SimOperator},
};
use hilt_protocol::{ArmCommand, Image, MAX_ARMS, MAX_CAMERAS};
use hilt_realtime::Fake;
use hilt_sim::Truth;

use super::{Body, Cell, CellError};
use crate::{
    control::{
        AgeLimits, ControlConfig, ControlState, Fault, Mode, Order, Targets, TickRecord, Wish, tick,
    },
    rig::{Device, Rig},
    tick::OutcomeCounts,
    tick_log::{ArmAbout, Began},
};

/// Opens the rig's devices.
pub(super) fn open(rig: &Rig) -> Result<Cell, CellError> {
    let spec = rig.spec();
    match (rig.device, &rig.scene) {
        (Device::LiftSim, Some(scene)) => {
            let world = LiftWorld::new(scene)?;
            let arms: Vec<Box<dyn Arm>> = vec![Box::new(world.arm())];
            let cameras = (world.cameras().into_iter())
                .map(|c| Box::new(c) as _)
                .collect();
            let mut body = Lockstep::new(rig, Box::new(world.clone()), arms, cameras)?;
            body.lift = Some(world);
            Ok(body.into_cell(rig))
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
            Ok(Lockstep::new(rig, Box::new(pair), arms, cameras)?.into_cell(rig))
        }
    }
}

/// The devices and the state of their control loop.
pub struct Lockstep {
    world: Box<dyn World>,
    lift: Option<LiftWorld>,
    arms: Vec<Box<dyn Arm>>,
    cameras: Vec<Box<dyn Camera>>,
    config: ControlConfig,
    state: ControlState,
    ticks_per_step: u64,
    clock: Fake,
    ordered: Option<ArmCommand>,
}

impl Lockstep {
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
            let problem = "the devices are not those of the rig's spec";
            return Err(CellError::Rig(problem.to_owned()));
        }
        let mut config = rig.control(arms.iter().map(|arm| arm.chain()));
        // In lockstep a command is there when its tick is, and nothing ages.
        (config.late_ns, config.ages) = (0, AgeLimits::NONE);
        config.following_rad = f64::INFINITY;
        Ok(Self {
            world,
            lift: None,
            arms,
            cameras,
            config,
            state: ControlState::at([None; MAX_ARMS]),
            ticks_per_step: u64::from(rig.ticks_per_step()),
            clock: Fake::default(),
            ordered: None,
        })
    }

    /// The cell with this body.
    pub fn into_cell(self, rig: &Rig) -> Cell {
        let chains: Vec<_> = self.arms.iter().map(|arm| arm.chain().clone()).collect();
        let began = Began {
            config: self.config,
            late_ns: self.config.tick_ns,
            targets: self.state.targets(),
            arms: self.arms.iter().map(|arm| ArmAbout::of(&**arm)).collect(),
        };
        let mut cell = Cell::new(rig, Box::new(self), &chains);
        cell.began = Some(began);
        cell
    }

    fn tick(&mut self, command: Option<ArmCommand>, wish: Wish) -> TickRecord {
        let now_ns = self.world.now_ns();
        self.clock.set_ns(now_ns);
        let order = Order {
            written_ns: now_ns,
            wish,
            command,
            ..Order::default()
        };
        tick(
            &self.config,
            &mut self.state,
            &mut self.arms,
            &self.clock,
            now_ns,
            now_ns,
            now_ns,
            order,
            [0; MAX_CAMERAS],
            false,
        )
    }

    /// Brings the arms that still can to a standstill.
    fn stop(&mut self) -> Result<(), CellError> {
        /// More than any arm needs.
        const TICKS: u32 = 1000;
        for _ in 0..TICKS {
            if self.tick(None, Wish::Rest).mode == Mode::Fault {
                break;
            }
            self.world.advance_ns(self.config.tick_ns)?;
        }
        Ok(())
    }
}

impl Body for Lockstep {
    fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    fn reset(&mut self, start: EpisodeStart) -> Result<Targets, CellError> {
        self.world.reset(start)?;
        let stopped = |arm, error| CellError::Stopped(Fault::of_arm(arm, error));
        for (index, arm) in self.arms.iter_mut().enumerate() {
            arm.start().map_err(|error| stopped(index, error))?;
        }
        let gripper = self.config.gripper;
        let mut targets = [None; MAX_ARMS];
        for ((target, state), bounds) in targets
            .iter_mut()
            .zip(self.states()?)
            .zip(&self.config.bounds)
        {
            *target = bounds.map(|bounds| (bounds.clamp(state.joints), gripper));
        }
        self.state.reset(targets);
        Ok(targets)
    }

    fn states(&mut self) -> Result<Vec<ArmState>, CellError> {
        let now_ns = self.world.now_ns();
        let reads = self.arms.iter_mut().enumerate();
        reads
            .map(|(arm, device)| {
                let stopped = |error| CellError::Stopped(Fault::of_arm(arm, error));
                device.read_state(now_ns, now_ns).map_err(stopped)
            })
            .collect()
    }

    fn frames(&mut self) -> Result<Vec<Image>, CellError> {
        let frames = self.cameras.iter_mut().map(|camera| camera.newest());
        Ok(frames.collect::<Result<_, _>>()?)
    }

    fn follow(&mut self, command: ArmCommand) -> Result<bool, CellError> {
        self.ordered = Some(command);
        let start_ns = self.world.now_ns();
        let period_ns = self.config.interpolation_ns;
        for tick in 1..=self.ticks_per_step {
            self.tick(Some(command), Wish::Run);
            if let Some(fault) = self.state.fault() {
                self.stop()?;
                return Err(CellError::Stopped(fault));
            }
            // From the start, so that a period that does not divide evenly does not drift.
            let until_ns = start_ns + period_ns * tick / self.ticks_per_step;
            let now_ns = self.world.now_ns();
            self.world.advance_ns(until_ns.saturating_sub(now_ns))?;
        }
        Ok(true)
    }

    fn ordered(&self) -> Option<ArmCommand> {
        self.ordered
    }

    fn truth(&self) -> Option<Truth> {
        self.world.truth()
    }

    fn counts(&mut self) -> OutcomeCounts {
        self.state.counts()
    }

    fn operator(&self, rig: &Rig, role: Role) -> Option<SimOperator> {
        let lift = self.lift.as_ref()?;
        Some(lift.operator(role, rig.operator.hand(), rig.limits.step_m))
    }
}
