//! A rig in real time: a control thread moves the arms, a thread per camera looks, and whoever asks
//! is the policy thread, which steps at absolute deadlines of its own.

use std::sync::{Arc, mpsc};

use hilt_drivers::{
    Arm, ArmState, EpisodeStart, Scene,
    emulated::PtyBus,
    sim::{LiveLift, Role, SimOperator},
};
use hilt_protocol::{ArmCommand, Image, JointVector, MAX_ARMS};
use hilt_realtime::{Awake, Clock, Missing, Monotonic, Wanted, keep_off, newest};
use hilt_sim::Truth;
use ringbuf::{HeapRb, traits::Split};

use super::{
    Body, Cell, CellError,
    cameras::{CameraThreads, Cameras, Eye},
    devices::Devices,
};
use crate::{
    control::{
        ControlConfig, ControlLoop, ControlThread, Deadlines, Fault, FaultKind, FrameTimes,
        JointBounds, LoopCells, Mode, Order, Report, Targets, Wish, spawn,
    },
    decision::{Decision, Why, homeward},
    faulty::Faults,
    rig::{ClockKind, Rig},
    supervisor::Supervised,
    tick::{OutcomeCounts, Stage},
    tick_log::{ArmAbout, Began},
};

/// Opens the rig's devices and starts its threads.
pub(super) fn open(rig: &Rig, faults: &Faults<Monotonic>) -> Result<Cell, CellError> {
    let wanted = keep_core(rig);
    Realtime::start(rig, Devices::open(rig, faults)?, wanted, faults)
}

/// Leaves the control thread's core to it: this thread, and all that it starts from here on, keep off.
/// So it is called before ONNX Runtime, zenoh and their like start theirs. Does nothing in lockstep.
pub fn keep_core(rig: &Rig) -> Wanted {
    let wanted = rig.realtime.wanted();
    if let (ClockKind::Monotonic, Some(core)) = (rig.clock, wanted.core)
        && let Err(missing) = keep_off(core)
    {
        tracing::warn!("{missing}");
    }
    wanted
}

/// What runs beside the policy thread; dropped in this order, the arms at a standstill first.
pub struct Threads {
    _control: ControlThread,
    _cameras: CameraThreads,
    _awake: Option<Awake>,
}

/// The policy thread's side of a rig in real time: `C` is its clock, `T` what runs beside it, which
/// brings the arms to a standstill when it is dropped.
pub struct Realtime<C = Monotonic, T = Threads> {
    threads: Option<T>,
    supervised: Option<Supervised>,
    clock: C,
    config: ControlConfig,
    orders: newest::Writer<Order>,
    order: Order,
    /// What goes with the next command.
    noted: Option<Fault>,
    /// The fault that stopped the arms, as the caller was told.
    told: Option<Fault>,
    reports: newest::Reader<Report>,
    cameras: Cameras,
    frames: Arc<FrameTimes>,
    oldest_intent_ns: u64,
    scene: Option<Box<dyn Scene>>,
    home: Option<JointVector>,
    lift: Option<LiveLift>,
    /// Of the policy's steps.
    deadlines: Deadlines,
    step_due_ns: u64,
    sequence: u64,
    decided: Vec<Decision>,
    stages: Vec<(Stage, u64)>,
    /// Last, so that they are there until the arms are held.
    _buses: Vec<PtyBus>,
}

/// Records that wait for the accounts: some seconds of them.
const RECORDS: usize = 4096;
/// Steps on the way home that may come too late on end: what is wrong does not pass.
const LATE_STEPS: u32 = 20;
/// So long, nanoseconds, the arms may take to come to a standstill, and inputs to come at first.
const SETTLE_NS: u64 = 10_000_000_000;

impl Realtime {
    /// Starts the arms and the threads. `wanted`: what the control thread asks of the system.
    pub fn start(
        rig: &Rig,
        mut devices: Devices,
        wanted: Wanted,
        faults: &Faults<Monotonic>,
    ) -> Result<Cell, CellError> {
        let system = |what| move |source| CellError::System { what, source };
        let cameras = devices.cameras.into_iter().enumerate();
        devices.cameras = cameras
            .map(|(index, camera)| Box::new(faults.camera(camera, index)) as _)
            .collect();
        let clocks = (Monotonic, faults.clock());
        Realtime::with(rig, devices, clocks, |control, eyes| {
            let cameras =
                CameraThreads::start(eyes).map_err(system("starting a camera's thread"))?;
            let (tell, told) = mpsc::sync_channel::<Vec<Missing>>(1);
            let control = spawn(control, move || {
                // Received below; if not, that thread is gone, and this one ends with it.
                let _ = tell.send(wanted.apply());
            })
            .map_err(system("starting the control thread"))?;
            let mut missing = told.recv().unwrap_or_default();
            let awake = Awake::ask().map_err(|deep| missing.push(deep)).ok();
            for missing in missing {
                tracing::warn!("{missing}");
            }
            Ok(Threads {
                _control: control,
                _cameras: cameras,
                _awake: awake,
            })
        })
    }
}

impl<C: Clock + 'static, T: 'static> Realtime<C, T> {
    /// As [`Realtime::start`], by any clocks, that of the policy and that of the control loop; `run`
    /// makes the control loop tick and the cameras look.
    pub fn with<L: Clock>(
        rig: &Rig,
        mut devices: Devices,
        (clock, loop_clock): (C, L),
        run: impl FnOnce(ControlLoop<L>, Vec<Eye>) -> Result<T, CellError>,
    ) -> Result<Cell, CellError> {
        let spec = rig.spec();
        let fits = (devices.cameras.iter().map(|c| c.spec())).eq(&spec.cameras);
        if devices.arms.len() != spec.mode.arms() || !fits {
            let problem = "the devices are not those of the rig's spec";
            return Err(CellError::Rig(problem.to_owned()));
        }
        let config = rig.control(devices.arms.iter().map(|arm| arm.chain()));
        let targets = start_arms(&mut devices.arms, &config, &clock)?;
        let chains: Vec<_> = (devices.arms.iter())
            .map(|arm| arm.chain().clone())
            .collect();
        let arms_about = devices.arms.iter().map(|arm| ArmAbout::of(&**arm));
        let arms_about = arms_about.collect();
        let frames = Arc::new(FrameTimes::default());
        let (cameras, eyes) = Cameras::new(devices.cameras, &frames);
        let (orders, read_orders) = newest::newest(Order::default());
        let (write_reports, reports) = newest::newest(Report::default());
        let (records, read_records) = HeapRb::new(RECORDS).split();
        let cells = LoopCells {
            orders: read_orders,
            reports: write_reports,
            frames: Arc::clone(&frames),
            records,
            wills: devices.wills,
        };
        // A tenth of a tick, as `accounting::Budgets` says of waking up.
        let late_ns = config.tick_ns / 10;
        let control = ControlLoop::new(loop_clock, config, late_ns, devices.arms, targets, cells);
        let threads = run(control, eyes)?;
        let now_ns = clock.now_ns();
        let body = Self {
            threads: Some(threads),
            supervised: devices.supervised,
            clock,
            deadlines: Deadlines::new(now_ns, config.interpolation_ns),
            config,
            orders,
            order: Order::default(),
            noted: None,
            told: None,
            reports,
            cameras,
            frames,
            oldest_intent_ns: rig.ages.intent_ns(),
            scene: devices.scene,
            home: devices.home,
            lift: devices.lift,
            step_due_ns: now_ns,
            sequence: 0,
            decided: Vec::new(),
            stages: Vec::new(),
            _buses: devices.buses,
        };
        let mut cell = Cell::new(rig, Box::new(body), &chains);
        cell.records = Some(read_records);
        cell.began = Some(Began {
            config,
            late_ns,
            targets,
            arms: arms_about,
        });
        Ok(cell)
    }

    fn tell(&mut self) {
        self.order.written_ns = self.clock.now_ns();
        self.orders.write(self.order);
    }

    /// Keeps giving signs of life until `there` holds.
    fn wait(&mut self, there: impl Fn(&Report) -> bool) -> Result<Report, CellError> {
        let until_ns = self.clock.now_ns() + SETTLE_NS;
        loop {
            self.tell();
            self.clock
                .sleep_until_ns(self.clock.now_ns() + self.config.tick_ns);
            let report = self.reports.read();
            if there(&report) {
                return Ok(report);
            }
            // A report from before the reset tells of what was, not of what is.
            if report.mode == Mode::Fault
                && report.resets == self.order.resets
                && let Some(fault) = report.fault
            {
                return Err(self.stopped(fault));
            }
            if self.clock.now_ns() > until_ns {
                return Err(self.unfit(&report));
            }
        }
    }

    /// A fault that is told: only such a one is reset.
    fn stopped(&mut self, fault: Fault) -> CellError {
        self.told = Some(fault);
        CellError::Stopped(fault)
    }

    /// Why the arms do not get ready.
    fn unfit(&self, report: &Report) -> CellError {
        let frames = self.frames.all();
        let oldest_ns = self
            .clock
            .now_ns()
            .saturating_sub(self.config.ages.frame_ns);
        let stale = (0..self.config.cameras).find(|&camera| frames[camera] < oldest_ns);
        CellError::Held(match (stale, report.fault) {
            (Some(camera), _) => Fault::at(FaultKind::FrameStale, camera),
            (None, Some(fault)) => fault,
            (None, None) => Fault::at(FaultKind::PolicySilent, 0),
        })
    }

    /// Waits until every camera has seen what is there now; the next step begins then.
    fn look_anew(&mut self) -> Result<(), CellError> {
        let (frames, since_ns) = (Arc::clone(&self.frames), self.clock.now_ns());
        let cameras = self.config.cameras;
        self.wait(|_| {
            frames.all()[..cameras]
                .iter()
                .all(|&seen_ns| seen_ns > since_ns)
        })?;
        self.clock.sleep_until_ns(self.deadlines.next_ns());
        self.step_due_ns = self.deadlines.wake(self.clock.now_ns()).due_ns;
        Ok(())
    }

    /// Brings the arms home, slowly, by commands like any others.
    fn go_home(&mut self, home: &JointVector, mut targets: Targets) -> Result<Targets, CellError> {
        let (bounds, period_ns) = (self.config.bounds, self.config.interpolation_ns);
        let mut late = 0;
        while let Some(next) = homeward(&targets, home, &bounds, period_ns) {
            let now_ns = self.clock.now_ns();
            let followed = self.follow(ArmCommand {
                sequence: self.sequence + 1,
                activate_ns: 0,
                arms: next,
            });
            let why = Why::Home {
                from: targets,
                home: *home,
            };
            self.decided.push(Decision {
                now_ns,
                why,
                command: self.order.command,
                followed: followed.as_ref().ok().copied(),
                hash: 0,
            });
            late = match followed? {
                true => 0,
                false => late + 1,
            };
            if late > LATE_STEPS {
                return Err(CellError::Held(Fault::at(FaultKind::PolicyLate, 0)));
            }
            if late == 0 {
                targets = next;
            }
        }
        Ok(targets)
    }
}

impl<C, T> Realtime<C, T> {
    /// Brings the arms to a standstill, and then ends who would hold them otherwise.
    fn close(&mut self) {
        drop(self.threads.take());
        if let Some(supervised) = self.supervised.take()
            && let Err(error) = supervised.end()
        {
            tracing::error!("{error}");
        }
    }
}

impl<C, T> Drop for Realtime<C, T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// A joint that stands farther outside its limits than one at rest on its stop: it would jump to them.
fn outside(bounds: &JointBounds, joints: &JointVector) -> Option<(usize, String)> {
    const PLAY_RAD: f64 = 0.03;
    let within = bounds.clamp(*joints);
    let pairs = joints.as_slice().iter().zip(within.as_slice());
    let mut outside = pairs
        .enumerate()
        .filter(|(_, (q, within))| (*q - *within).abs() > PLAY_RAD);
    outside.next().map(|(joint, (q, within))| {
        (
            joint,
            format!("reads {q:.2} rad, and its limit is {within:.2}"),
        )
    })
}

/// Starts the arms and reads where they stand.
fn start_arms(
    arms: &mut [Box<dyn Arm + Send>],
    config: &ControlConfig,
    clock: &impl Clock,
) -> Result<Targets, CellError> {
    let mut targets = [None; MAX_ARMS];
    let slots = targets.iter_mut().zip(&config.bounds);
    for (index, (arm, (target, bounds))) in arms.iter_mut().zip(slots).enumerate() {
        let stopped = |error| CellError::Stopped(Fault::of_arm(index, error));
        arm.start().map_err(stopped)?;
        let now_ns = clock.now_ns();
        // Not in a hurry yet: every servo may answer in its own time.
        let state = arm.read_state(now_ns, now_ns + 1_000_000_000);
        let state = state.map_err(stopped)?;
        if let Some((joint, words)) = bounds.and_then(|bounds| outside(&bounds, &state.joints)) {
            return Err(CellError::Rig(format!(
                "joint {joint} of arm {index} {words}; move it there by hand, or calibrate the arm: hilt calibrate \
                 joints"
            )));
        }
        *target = bounds.map(|bounds| (bounds.clamp(state.joints), config.gripper));
    }
    Ok(targets)
}

impl<C: Clock + 'static, T: 'static> Body for Realtime<C, T> {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn reset(&mut self, start: EpisodeStart) -> Result<Targets, CellError> {
        (self.order.wish, self.order.command) = (Wish::Rest, None);
        (self.order.fault, self.noted) = (None, None);
        let standing = self.wait(|report| matches!(report.mode, Mode::Idle | Mode::Fault))?;
        if let (Mode::Fault, Some(fault)) = (standing.mode, standing.fault)
            && self.told != Some(fault)
        {
            // It came between two steps: nobody has looked yet.
            return Err(self.stopped(fault));
        }
        self.told = None;
        let mut home = self.home;
        if let Some(scene) = &mut self.scene {
            scene.reset(start)?;
            home = scene.home(start)?.or(home);
        }
        self.order.resets += 1;
        let resets = self.order.resets;
        let since_ns = self.clock.now_ns();
        self.wait(|report| {
            let fresh = |state: &ArmState| state.captured_ns > since_ns;
            report.resets == resets && report.states.iter().flatten().all(fresh)
        })?;
        self.order.wish = Wish::Run;
        let report = self.wait(|report| report.mode == Mode::Armed)?;
        self.deadlines = Deadlines::new(self.clock.now_ns(), self.config.interpolation_ns);
        self.step_due_ns = self.deadlines.wake(self.clock.now_ns()).due_ns;
        let Some(home) = home else {
            return Ok(report.targets);
        };
        let targets = self.go_home(&home, report.targets)?;
        if let Some(scene) = &mut self.scene {
            scene.arm_is_home(start)?;
            self.look_anew()?;
        }
        Ok(targets)
    }

    fn states(&mut self) -> Result<Vec<ArmState>, CellError> {
        let report = self.reports.read();
        let states = report.states.iter().take(self.config.arms).enumerate();
        states
            .map(|(arm, state)| {
                let missing = || CellError::Stopped(Fault::at(FaultKind::StateStale, arm));
                state.ok_or_else(missing)
            })
            .collect()
    }

    fn frames(&mut self) -> Result<Vec<Image>, CellError> {
        let frames = match self.cameras.newest() {
            Ok(frames) => frames,
            Err((camera, error)) => {
                // It may be seen here before its last frame is too old for the control loop.
                self.fail(Fault::at(FaultKind::FrameStale, camera));
                return Err(error.into());
            }
        };
        let now_ns = self.clock.now_ns();
        let old =
            |image: &Image| now_ns.saturating_sub(image.captured_ns) > self.config.ages.frame_ns;
        let ages = frames
            .iter()
            .map(|image| now_ns.saturating_sub(image.captured_ns));
        self.stages
            .extend(ages.max().map(|age_ns| (Stage::FrameAge, age_ns)));
        match frames.iter().position(old) {
            Some(camera) => {
                let fault = Fault::at(FaultKind::FrameStale, camera);
                self.fail(fault);
                Err(CellError::Held(fault))
            }
            None => Ok(frames),
        }
    }

    fn follow(&mut self, command: ArmCommand) -> Result<bool, CellError> {
        // The sequence is the control loop's: the way home has its own commands.
        self.sequence += 1;
        let sequence = self.sequence;
        self.order.fault = self.noted.take();
        self.order.command = Some(ArmCommand {
            sequence,
            activate_ns: self.step_due_ns,
            ..command
        });
        self.tell();
        let took_ns = self.order.written_ns.saturating_sub(command.activate_ns);
        self.stages.push((Stage::Publish, took_ns));
        self.clock.sleep_until_ns(self.deadlines.next_ns());
        // Of a command that came late the loop may not have heard yet: what became of it is known
        // when it has.
        let until_ns = self.clock.now_ns() + self.config.interpolation_ns;
        let mut report = self.reports.read();
        while report.newest_sequence < Some(sequence) && self.clock.now_ns() < until_ns {
            self.clock
                .sleep_until_ns(self.clock.now_ns() + self.config.tick_ns);
            report = self.reports.read();
        }
        self.step_due_ns = self.deadlines.wake(self.clock.now_ns()).due_ns;
        if let Some(supervised) = &mut self.supervised
            && let Ok(Some(status)) = supervised.lost()
        {
            tracing::warn!(
                "the supervisor has ended ({status}); nobody holds the arms if this process dies: start it again soon"
            );
            self.supervised = None;
        }
        match (report.mode, report.fault) {
            (Mode::Fault | Mode::Stopping, Some(fault)) => Err(self.stopped(fault)),
            (Mode::Held, Some(fault)) => Err(CellError::Held(fault)),
            _ => Ok(report.newest_sequence >= Some(sequence)
                && report.refused_sequence < Some(sequence)),
        }
    }

    fn ordered(&self) -> Option<ArmCommand> {
        self.order.command
    }

    fn decided(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decided)
    }

    fn truth(&self) -> Option<Truth> {
        self.scene.as_ref()?.truth()
    }

    fn counts(&mut self) -> OutcomeCounts {
        self.reports.read().counts
    }

    fn report(&mut self) -> Option<Report> {
        Some(self.reports.read())
    }

    fn stages(&mut self) -> Vec<(Stage, u64)> {
        std::mem::take(&mut self.stages)
    }

    fn oldest_intent_ns(&self) -> u64 {
        self.oldest_intent_ns
    }

    fn fail(&mut self, fault: Fault) {
        self.order.fault = Some(fault);
        // What there is to tell of it, the fault itself, is told by whoever failed.
        let _ = self.wait(|report| report.mode != Mode::Running);
    }

    fn note(&mut self, fault: Fault) {
        self.noted.get_or_insert(fault);
    }

    fn end(&mut self) -> Option<Report> {
        self.close();
        Some(self.reports.read())
    }

    fn operator(&self, rig: &Rig, role: Role) -> Option<SimOperator> {
        let lift = self.lift.as_ref()?;
        Some(lift.operator(role, rig.operator.hand(), rig.limits.step_m))
    }
}
