//! hilt's control loop as the product runs it, over an arm that answers from memory: what is
//! measured is the loop, and no bus.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use hilt_drivers::{Arm, ArmError, ArmState, fake::FakeArmPair};
use hilt_kinematics::Chain;
use hilt_protocol::{ArmCommand, GripperCommand, JointVector, MAX_ARMS};
use hilt_realtime::{Awake, Clock, Monotonic, Wanted, newest};
use hilt_runtime::{
    control::{
        AgeLimits, ControlConfig, ControlLoop, ControlThread, FrameTimes, LoopCells, Order, Report,
        Targets, TickRecord, Wish, spawn,
    },
    rig::Rig,
    tick::Outcome,
};
use ringbuf::{
    HeapCons, HeapRb,
    traits::{Consumer, Split},
};

/// Ticks within this after the thread is ready are not counted: it has pages and caches to fill.
pub const WARM_UP_NS: u64 = 300_000_000;
/// As in `hilt_runtime::cell::realtime`.
const RECORDS: usize = 4096;
/// Who commands the arm looks at the loop so often.
const LOOK: Duration = Duration::from_millis(10);

/// What the loop moves, and within which bounds.
pub struct Body {
    chain: Chain,
    home: JointVector,
    config: ControlConfig,
    /// When the load's cameras had their newest frames.
    pub frames: Arc<FrameTimes>,
}

/// An arm that is where it was sent.
pub struct MemoryArm {
    chain: Chain,
    joints: JointVector,
}

impl Arm for MemoryArm {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn read_state(&mut self, now_ns: u64, _until_ns: u64) -> Result<ArmState, ArmError> {
        Ok(ArmState {
            captured_ns: now_ns,
            joints: self.joints,
            velocities: self.chain.zeros(),
            gripper_width_m: 0.0,
            trouble: None,
        })
    }

    fn write(&mut self, joints: &JointVector, _gripper: GripperCommand) -> Result<(), ArmError> {
        self.joints = *joints;
        Ok(())
    }

    fn start(&mut self) -> Result<(), ArmError> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        Ok(())
    }
}

impl Body {
    /// One arm, with the rig's limits. Nothing is ever too old: a load that starves the policy must
    /// not change what the loop does.
    pub fn new(rig: &Rig) -> Result<Self> {
        let mut arm = FakeArmPair::new(1)?.arm(0);
        let (chain, home) = (arm.chain().clone(), arm.read_state(0, 0)?.joints);
        let config = rig.control([&chain].into_iter());
        Ok(Self {
            config: ControlConfig {
                ages: AgeLimits::NONE,
                late_ns: u64::MAX,
                ..config
            },
            chain,
            home,
            frames: Arc::default(),
        })
    }

    /// The arm, at home.
    pub fn arm(&self) -> MemoryArm {
        MemoryArm {
            chain: self.chain.clone(),
            joints: self.home,
        }
    }

    /// Somewhere near home, ever elsewhere.
    fn targets(&self, step: u64) -> Targets {
        let mut joints = self.home;
        for q in joints.as_mut_slice() {
            *q += 0.1 * (step as f64 * 0.3).sin();
        }
        let mut targets = [None; MAX_ARMS];
        targets[0] = Some((joints, GripperCommand::Open));
        targets
    }
}

/// A control thread at work.
pub struct Running<'a> {
    /// First, so that it is dropped first.
    control: ControlThread,
    body: &'a Body,
    orders: newest::Writer<Order>,
    reports: newest::Reader<Report>,
    records: HeapCons<TickRecord>,
    taken: Vec<TickRecord>,
    period_ns: u64,
    command_ns: u64,
    sequence: u64,
    /// Ticks that are due from here on count.
    pub ready_ns: u64,
}

impl<'a> Running<'a> {
    pub fn start(body: &'a Body, wanted: Wanted, period_ns: u64) -> Result<Self> {
        let (orders, read_orders) = newest::newest(Order::default());
        let (write_reports, reports) = newest::newest(Report::default());
        let (records, read_records) = HeapRb::new(RECORDS).split();
        let cells = LoopCells {
            orders: read_orders,
            reports: write_reports,
            frames: Arc::clone(&body.frames),
            records,
            wills: None,
        };
        let config = ControlConfig {
            tick_ns: period_ns,
            ..body.config
        };
        let arms: Vec<Box<dyn Arm + Send>> = vec![Box::new(body.arm())];
        let standing = body.targets(0);
        let late_ns = period_ns / 10;
        let control = ControlLoop::new(Monotonic, config, late_ns, arms, standing, cells);
        let (tell, told) = mpsc::sync_channel(1);
        let control = spawn(control, move || {
            // Received below; if not, that thread is gone.
            let _ = tell.send(wanted.apply());
        })?;
        if let Some(missing) = told.recv()?.first() {
            bail!("granted before and not now: {missing}");
        }
        Ok(Self {
            control,
            body,
            orders,
            reports,
            records: read_records,
            taken: Vec::new(),
            period_ns,
            command_ns: 0,
            sequence: 0,
            ready_ns: Monotonic.now_ns() + WARM_UP_NS,
        })
    }

    /// Commands the arm as a policy does, and takes the records.
    pub fn look(&mut self) {
        let now_ns = Monotonic.now_ns();
        if now_ns >= self.command_ns {
            self.command_ns = now_ns + self.body.config.interpolation_ns;
            self.sequence += 1;
            self.orders.write(Order {
                written_ns: now_ns,
                wish: Wish::Run,
                command: Some(ArmCommand {
                    sequence: self.sequence,
                    activate_ns: now_ns,
                    arms: self.body.targets(self.sequence),
                }),
                ..Order::default()
            });
        }
        self.taken.extend(self.records.pop_iter());
    }

    /// Lets it run until `now_ns`.
    pub fn until(&mut self, until_ns: u64) {
        while Monotonic.now_ns() < until_ns {
            self.look();
            let left = Duration::from_nanos(until_ns.saturating_sub(Monotonic.now_ns()));
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Stops it. The ticks that were due from `ready_ns` until `end_ns`, and what they saw.
    pub fn finish(mut self, end_ns: u64) -> Result<Vec<TickRecord>> {
        self.look();
        let lost = self.reports.read().lost_records;
        ensure!(lost == 0, "{lost} records found no room in the ring");
        drop(self.control);
        let due = |record: &TickRecord| record.times.due_ns;
        let first_ns = self.taken.first().map(due).context("there was no tick")?;
        for record in &self.taken {
            let since_ns = (record.number - self.taken[0].number) * self.period_ns;
            let on_grid = due(record) == first_ns + since_ns;
            ensure!(on_grid, "the deadline of tick {} moved", record.number);
        }
        let wanted = self.ready_ns..end_ns;
        self.taken.retain(|record| wanted.contains(&due(record)));
        let follows = |r: &&TickRecord| matches!(r.outcome, Outcome::OnTime | Outcome::Late);
        let (following, all) = (self.taken.iter().filter(follows).count(), self.taken.len());
        ensure!(
            following == all,
            "the arm followed in {following} of {all} ticks"
        );
        Ok(self.taken)
    }
}

/// What the loop's records say of a block.
pub struct Measured {
    /// How late each tick woke, nanoseconds.
    pub late_ns: Vec<u64>,
    /// Number and wake-up of each tick, nanoseconds.
    pub wakes: Vec<(u64, u64)>,
    /// Ticks that were missed.
    pub missed: u64,
}

/// Runs the loop for `duration_ns`.
pub fn measure(body: &Body, wanted: Wanted, period_ns: u64, duration_ns: u64) -> Result<Measured> {
    // As the product does, and cyclictest.
    let _awake = Awake::ask().inspect_err(|missing| eprintln!("{missing}"));
    let mut running = Running::start(body, wanted, period_ns)?;
    let end_ns = running.ready_ns + duration_ns;
    running.until(end_ns);
    let records = running.finish(end_ns)?;
    Ok(Measured {
        late_ns: records.iter().map(|r| late_ns(r, period_ns)).collect(),
        wakes: records
            .iter()
            .map(|r| (r.number, r.times.woke_ns))
            .collect(),
        missed: records.iter().map(|r| r.missed).sum(),
    })
}

/// After the deadline that the thread slept for; the one that the tick is booked under comes
/// `missed` periods later.
fn late_ns(record: &TickRecord, period_ns: u64) -> u64 {
    let slept_until_ns = record.times.due_ns - record.missed * period_ns;
    record.times.woke_ns - slept_until_ns
}
