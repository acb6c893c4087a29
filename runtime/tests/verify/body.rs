//! A rig of two arms of emulated servos, whose control loop runs on a clock that takes no time.

use std::sync::Arc;

use hilt_drivers::{
    Arm, ArmState, EpisodeStart,
    bus::{Direction, Family, GripperServo, JointServo, ServoArm, ServoArmConfig},
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, MemoryWire, ServoSetup},
    fake::FakeArmPair,
    faults::{FaultPlan, FaultyWire},
    sim::{Role, SimOperator},
};
use hilt_kinematics::Chain;
use hilt_protocol::{ArmCommand, Image, JointVector, MAX_ARMS};
use hilt_realtime::{Clock, Fake, newest};
use hilt_runtime::{
    cell::{Body, Cell, CellError},
    control::{
        ControlConfig, ControlLoop, FrameTimes, LoopCells, Mode, Order, Report, Targets,
        TickRecord, Wish,
    },
    decision::{Decision, Why, homeward},
    rig::Rig,
    tick::OutcomeCounts,
    tick_log::{About, ArmAbout, Began, TickLogSender},
};
use hilt_sim::Truth;
use ringbuf::{
    HeapCons, HeapRb,
    traits::{Consumer, Split},
};

/// Ticks that may wait to be written; the disk is waited for here, as no robot does.
const WAITING: u64 = 4000;

/// What a policy thread has of its control loop, on one thread with it.
pub struct FakeTime {
    control: ControlLoop<Fake>,
    clock: Fake,
    config: ControlConfig,
    orders: newest::Writer<Order>,
    order: Order,
    reports: newest::Reader<Report>,
    records: HeapCons<TickRecord>,
    frames: Arc<FrameTimes>,
    log: TickLogSender,
    home: JointVector,
    sequence: u64,
    decided: Vec<Decision>,
    script: Script,
}

/// What else happens to it, at which command.
#[derive(Clone, Copy, Default)]
pub struct Script {
    /// Given so long after its time that it is refused.
    pub late_command: u64,
    /// While it is followed the machine stands still, for some ticks.
    pub stall: u64,
    /// From here on the cameras are frozen for three policy periods.
    pub frozen: u64,
}

/// Six joints and the gripper, which stand where the chain's arm is at home. The first arm's servos
/// are Feetech's, the second's Dynamixel's.
fn servos(
    clock: &Fake,
    plan: &FaultPlan,
    arm: usize,
) -> (ServoArm<FaultyWire<MemoryWire>>, JointVector) {
    let mut fake = FakeArmPair::new(1).unwrap().arm(0);
    let home = fake.read_state(0, 0).unwrap().joints;
    let counts = |q: &f64| 2048.0 + q * 4096.0 / std::f64::consts::TAU;
    let joints = home.as_slice().iter().map(counts);
    let setups: Vec<_> = (1..)
        .zip(joints.chain([3000.0]))
        .map(|(id, counts)| ServoSetup {
            id,
            counts,
            rest_counts: 1000.0,
        })
        .collect();
    let family = match arm {
        0 => Family::Sts3215,
        _ => Family::DynamixelX,
    };
    let bus = EmulatedBus::of(family, &setups, BYTE_NS_1M_BAUD);
    let wire = FaultyWire::new(MemoryWire::new(bus, clock.clone()), plan.clone(), arm, 0);
    let joint = |id| JointServo {
        id,
        zero_counts: 2048,
        direction: Direction::Along,
    };
    let config = ServoArmConfig {
        family,
        joints: (1..=6).map(joint).collect(),
        gripper: GripperServo {
            id: 7,
            open_counts: 3000,
            closed_counts: 2000,
            open_width_m: 0.08,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        max_speed_rad_s: 12.0,
    };
    let mut arm = ServoArm::new(wire, fake.chain().clone(), config).unwrap();
    arm.start().unwrap();
    (arm, home)
}

/// A control loop of the rig's on `clock`, and what a log tells of it.
pub fn open(
    rig: &Rig,
    clock: &Fake,
    plan: &FaultPlan,
    script: Script,
    log: impl FnOnce(&About) -> TickLogSender,
) -> Cell {
    let (arms, homes): (Vec<_>, Vec<_>) = (0..2).map(|arm| servos(clock, plan, arm)).unzip();
    let chains: Vec<Chain> = arms.iter().map(|arm| arm.chain().clone()).collect();
    let config = rig.control(chains.iter());
    let mut targets: Targets = [None; MAX_ARMS];
    for (target, (home, bounds)) in targets.iter_mut().zip(homes.iter().zip(config.bounds)) {
        *target = bounds.map(|bounds| (bounds.clamp(*home), config.gripper));
    }
    let late_ns = config.tick_ns / 10;
    let began = Began {
        config,
        late_ns,
        targets,
        arms: arms.iter().map(ArmAbout::of).collect(),
    };
    let log = log(&About {
        rig: rig.to_toml().unwrap(),
        began,
    });
    let (orders, read_orders) = newest::newest(Order::default());
    let (write_reports, reports) = newest::newest(Report::default());
    let (records, read_records) = HeapRb::new(64).split();
    let frames = Arc::new(FrameTimes::default());
    let cells = LoopCells {
        orders: read_orders,
        reports: write_reports,
        frames: Arc::clone(&frames),
        records,
        wills: None,
    };
    let arms = arms.into_iter().map(|arm| Box::new(arm) as _).collect();
    let body = FakeTime {
        control: ControlLoop::new(clock.clone(), config, late_ns, arms, targets, cells),
        clock: clock.clone(),
        config,
        orders,
        order: Order::default(),
        reports,
        records: read_records,
        frames,
        log: log.clone(),
        home: homes[0],
        sequence: 0,
        decided: Vec::new(),
        script,
    };
    let mut cell = Cell::new(rig, Box::new(body), &chains);
    cell.log_to(log);
    cell
}

impl FakeTime {
    fn tick(&mut self, rest: bool) -> Report {
        self.order.written_ns = self.clock.now_ns();
        self.orders.write(self.order);
        let frozen = self.script.frozen..self.script.frozen + 3;
        if !frozen.contains(&self.sequence) {
            for camera in 0..self.config.cameras {
                self.frames.set(camera, self.clock.now_ns());
            }
        }
        self.control.tick(rest);
        if self.reports.read().ticks.is_multiple_of(16) {
            self.account();
        }
        self.reports.read()
    }

    fn account(&mut self) {
        self.log.ticks(self.records.pop_iter().collect());
        while self.log.waiting() > WAITING {
            std::thread::yield_now();
        }
    }

    fn tick_until(&mut self, there: impl Fn(&Report) -> bool) -> Report {
        for _ in 0..2000 {
            let report = self.tick(false);
            if there(&report) {
                return report;
            }
        }
        panic!("never there: {:?}", self.reports.read());
    }
}

impl Body for FakeTime {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn reset(&mut self, _: EpisodeStart) -> Result<Targets, CellError> {
        (self.order.wish, self.order.command) = (Wish::Rest, None);
        // A person looks, and resets when what was wrong is over.
        loop {
            self.tick_until(|report| matches!(report.mode, Mode::Idle | Mode::Fault));
            for _ in 0..200 {
                self.tick(false);
            }
            self.order.resets += 1;
            if self.tick(false).mode == Mode::Idle {
                break;
            }
        }
        self.order.wish = Wish::Run;
        let mut targets = self.tick_until(|report| report.mode == Mode::Armed).targets;
        let (bounds, period_ns) = (self.config.bounds, self.config.interpolation_ns);
        while let Some(next) = homeward(&targets, &self.home, &bounds, period_ns) {
            let now_ns = self.clock.now_ns();
            let followed = self.follow(ArmCommand {
                sequence: 0,
                activate_ns: now_ns,
                arms: next,
            });
            self.decided.push(Decision {
                now_ns,
                why: Why::Home {
                    from: targets,
                    home: self.home,
                },
                command: self.order.command,
                followed: followed.as_ref().ok().copied(),
                hash: 0,
            });
            followed?;
            targets = next;
        }
        Ok(targets)
    }

    fn states(&mut self) -> Result<Vec<ArmState>, CellError> {
        let states = self.reports.read().states;
        Ok(states.into_iter().flatten().collect())
    }

    fn frames(&mut self) -> Result<Vec<Image>, CellError> {
        let image = Image {
            captured_ns: self.clock.now_ns(),
            height: 32,
            width: 32,
            rgb: vec![0; 32 * 32 * 3].into(),
        };
        Ok(vec![image; self.config.cameras])
    }

    fn follow(&mut self, command: ArmCommand) -> Result<bool, CellError> {
        self.sequence += 1;
        let sequence = self.sequence;
        let mut command = ArmCommand {
            sequence,
            ..command
        };
        if sequence == self.script.late_command {
            command.activate_ns -= 200_000_000;
        }
        self.order.command = Some(command);
        for tick in 0..self.config.interpolation_ns / self.config.tick_ns {
            if sequence == self.script.stall && tick == 5 {
                self.clock.advance_ns(18_000_000);
            }
            self.tick(false);
        }
        let report = self.reports.read();
        match (report.mode, report.fault) {
            (Mode::Fault | Mode::Stopping, Some(fault)) => Err(CellError::Stopped(fault)),
            (Mode::Held, Some(fault)) => Err(CellError::Held(fault)),
            _ => Ok(report.refused_sequence < Some(sequence)),
        }
    }

    fn ordered(&self) -> Option<ArmCommand> {
        self.order.command
    }

    fn decided(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decided)
    }

    fn truth(&self) -> Option<Truth> {
        None
    }

    fn counts(&mut self) -> OutcomeCounts {
        self.reports.read().counts
    }

    fn operator(&self, _: &Rig, _: Role) -> Option<SimOperator> {
        None
    }
}

impl Drop for FakeTime {
    /// The safe stop: brought to a standstill, and some ticks more.
    fn drop(&mut self) {
        for _ in 0..100 {
            self.tick(true);
        }
        self.account();
    }
}
