//! The rigs of the proof: the real loop, arms and fault decorator, with emulated servos at the end.

use std::{
    os::fd::{AsRawFd, RawFd},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
use hilt_drivers::{
    Arm, ArmError,
    bus::{
        Direction, Family, GripperServo, JointServo, SerialWire, ServoArm, ServoArmConfig, Wire,
    },
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, PtyBus, ServoSetup},
    faults::{FaultKind, FaultPlan, FaultSpec},
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::{GripperCommand, MAX_ARMS};
use hilt_realtime::{Clock, newest};
use hilt_runtime::{
    control::{
        AgeLimits, ControlConfig, ControlLoop, FrameTimes, JointBounds, LoopCells, Order, Report,
        TickRecord,
    },
    faulty::{Faults, FaultyClock},
};
use nalgebra::{Isometry3, Translation3, Vector3};
use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Producer, Split},
};

use super::doubles::{Act, Hooks, Jumping, Misdeed, OwnWire, Stoppable, Supervisor};

const MS: u64 = 1_000_000;

/// Which rig, and how fast it goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Whether its buses are at serial ports; else they are in memory.
    pub is_serial: bool,
    pub arms: usize,
    pub tick_ns: u64,
    /// A policy step.
    pub step_ns: u64,
    pub ages: AgeLimits,
    /// A fault of the plan is on for so long, and then there is none for the second time.
    pub fault_ns: (u64, u64),
    /// Records that the ring has room for.
    pub records: usize,
    /// What a byte takes on the line.
    byte_ns: u64,
}

/// Two arms whose buses are in memory: ten thousand ticks a second.
pub const MEMORY: Pace = Pace {
    is_serial: false,
    arms: 2,
    tick_ns: MS / 10,
    step_ns: 10 * MS,
    ages: AgeLimits {
        state_ns: 5 * MS,
        frame_ns: 10 * MS,
        policy_ns: 20 * MS,
        astray_ns: 10 * MS,
        tick_ns: 50 * MS,
    },
    fault_ns: (200 * MS, 600 * MS),
    records: 512,
    byte_ns: 100,
};

/// One arm at a serial port, at 1 Mbaud. Half a tick is enough to ask a servo that did not answer
/// once more.
pub const PTY: Pace = Pace {
    is_serial: true,
    arms: 1,
    tick_ns: 8 * MS,
    step_ns: 80 * MS,
    ages: AgeLimits {
        state_ns: 40 * MS,
        frame_ns: 60 * MS,
        policy_ns: 100 * MS,
        astray_ns: 60 * MS,
        tick_ns: 200 * MS,
    },
    fault_ns: (200 * MS, 400 * MS),
    records: 16,
    byte_ns: BYTE_NS_1M_BAUD,
};

impl Pace {
    /// Every fault that strikes the control thread, in turn and for long enough. Those of wires at one
    /// arm after the other: of one servo and of all, of every reply and of a share.
    fn faults(&self, ticks: u64) -> FaultPlan {
        const KINDS: [FaultKind; 6] = [
            FaultKind::ServoSilent,
            FaultKind::ReplyCorrupted,
            FaultKind::WrongId,
            FaultKind::ErrorByte,
            FaultKind::BusUnplugged,
            FaultKind::ClockJump,
        ];
        let (on_ns, off_ns) = self.fault_ns;
        // A busy machine misses ticks, and takes longer than it should.
        let count = 3 * ticks * self.tick_ns / (on_ns + off_ns) + 10;
        let fault = |n: u64| {
            let (round, kind) = (n / 6, KINDS[(n % 6) as usize]);
            let of_reply = kind.strikes_a_wire() && kind != FaultKind::BusUnplugged;
            let jump_s = self.ages.tick_ns as f64 * 1.5e-9;
            FaultSpec {
                kind,
                from_s: (n * (on_ns + off_ns) + off_ns) as f64 * 1e-9,
                for_s: on_ns as f64 * 1e-9,
                index: match kind.strikes_a_wire() {
                    true => round as usize % self.arms,
                    false => 0,
                },
                servo: (of_reply && round % 2 == 0).then_some(3),
                magnitude: match kind {
                    FaultKind::ClockJump => Some(jump_s),
                    _ => (of_reply && round % 3 == 2).then_some(0.5),
                },
            }
        };
        FaultPlan {
            seed: 5,
            faults: (0..count).map(fault).collect(),
        }
    }

    fn arm<W: Wire>(&self, wire: W) -> Result<ServoArm<W>> {
        let joint = Joint {
            parent_from_joint: Translation3::new(0.0, 0.0, 0.1).into(),
            axis: Vector3::y_axis(),
            kind: JointKind::Revolute,
            lower: -1.5,
            upper: 1.5,
        };
        let chain = Chain::new(vec![joint; 5], Isometry3::identity())?;
        let servo = |id| JointServo {
            id,
            zero_counts: 2048,
            direction: Direction::Along,
        };
        let config = ServoArmConfig {
            family: Family::Sts3215,
            joints: (1..=5).map(servo).collect(),
            gripper: GripperServo {
                id: 6,
                open_counts: 2300,
                closed_counts: 2048,
                open_width_m: 0.1,
                closed_width_m: 0.0,
            },
            baud: (10_000_000_000 / self.byte_ns) as u32,
            max_speed_rad_s: 10.0,
        };
        Ok(ServoArm::new(wire, chain, config)?)
    }

    fn bus(&self) -> EmulatedBus {
        let setup = |id| ServoSetup {
            id,
            counts: 2048.0,
            rest_counts: 1200.0,
        };
        EmulatedBus::new(&[1, 2, 3, 4, 5, 6].map(setup), self.byte_ns)
    }
}

/// Does it until it goes well: on a machine that is busy the other end answers late now and then.
fn patiently<T>(mut act: impl FnMut() -> Result<T, ArmError>) -> Result<T, ArmError> {
    let tries = (0..50).find_map(|_| act().ok());
    tries.map_or_else(act, Ok)
}

/// A loop, and all that there is on its other side.
pub struct Rig {
    pub control: ControlLoop<FaultyClock<Jumping>>,
    /// The buses' descriptors.
    pub buses: Vec<RawFd>,
    pub side: OtherSide,
}

/// The other ends of a loop's cells, and its world.
pub struct OtherSide {
    pub pace: Pace,
    pub clock: Jumping,
    pub orders: newest::Writer<Order>,
    pub reports: newest::Reader<Report>,
    pub frames: Arc<FrameTimes>,
    pub records: HeapCons<TickRecord>,
    pub hooks: Arc<Hooks>,
    world: World,
}

enum World {
    Memory(Vec<HeapProd<Act>>),
    Serial(Vec<PtyBus>),
}

impl OtherSide {
    /// Does something to an arm's bus.
    pub fn act(&mut self, arm: usize, act: Act) {
        match &mut self.world {
            // Done at the next tick; what finds no room is done again by who waits for its effect.
            World::Memory(acts) => drop(acts[arm].try_push(act)),
            World::Serial(buses) => buses[arm].handle().look(|bus| act.on(bus)),
        }
    }

    /// Pulls the buses that can be pulled, for good.
    pub fn unplug(&mut self) -> bool {
        match &mut self.world {
            World::Memory(_) => false,
            World::Serial(buses) => {
                buses.iter_mut().for_each(PtyBus::unplug);
                true
            }
        }
    }

    /// Whether servos that had not answered were asked once more in a tick.
    pub fn asked_again(&self) -> bool {
        use hilt_drivers::bus::feetech::Request;
        let World::Serial(buses) = &self.world else {
            return false;
        };
        let of_some = |request: Option<Request<'_>>| matches!(request, Some(Request::SyncRead { ids, .. }) if ids.len() < 6);
        let mut buses = buses.iter().map(PtyBus::handle);
        buses.any(|bus| bus.look(|bus| bus.heard().any(|heard| of_some(heard.request()))))
    }
}

impl Rig {
    /// Made to last for about so many ticks. `folder`: for the serial ports' names.
    pub fn new(pace: Pace, ticks: u64, misdeed: Option<Misdeed>, folder: &Path) -> Result<Self> {
        let clock = Jumping::default();
        let hooks = Arc::new(Hooks::default());
        let faults = Faults::begin(Some(pace.faults(ticks)), clock.clone());
        let mut arms: Vec<Box<dyn Arm + Send>> = Vec::new();
        let mut buses = Vec::new();
        let world = if pace.is_serial {
            let mut ptys = Vec::new();
            for arm in 0..pace.arms {
                let pty = PtyBus::start(pace.bus(), &folder.join(format!("bus{arm}")))?;
                let path = pty.path().to_str().context("the port's name")?;
                let wire = SerialWire::open(path, 1_000_000)?;
                let fd = wire
                    .descriptor()
                    .context("a serial port has a descriptor")?;
                buses.push(fd.as_raw_fd());
                arms.push(Box::new(pace.arm(faults.wire(wire, arm))?));
                ptys.push(pty);
            }
            World::Serial(ptys)
        } else {
            let mut acts = Vec::new();
            for arm in 0..pace.arms {
                let (tell, told) = HeapRb::new(16).split();
                let wire = OwnWire {
                    bus: pace.bus(),
                    acts: told,
                };
                arms.push(Box::new(pace.arm(faults.wire(wire, arm))?));
                acts.push(tell);
            }
            World::Memory(acts)
        };
        let mut targets = [None; MAX_ARMS];
        let mut bounds = [None; MAX_ARMS];
        let slots = targets.iter_mut().zip(&mut bounds);
        for (arm, (target, bounds)) in arms.iter_mut().zip(slots) {
            patiently(|| arm.start())?;
            let state = patiently(|| {
                let now_ns = clock.now_ns();
                arm.read_state(now_ns, now_ns + 100 * MS)
            })?;
            let (mut lower, mut upper) = (arm.chain().zeros(), arm.chain().zeros());
            lower.as_mut_slice().fill(-1.5);
            upper.as_mut_slice().fill(1.5);
            *target = Some((state.joints, GripperCommand::Open));
            *bounds = Some(JointBounds {
                lower,
                upper,
                velocity_rad_s: 2.0,
                acceleration_rad_s2: 100.0,
            });
        }
        let config = ControlConfig {
            arms: pace.arms,
            cameras: 1,
            interpolation_ns: pace.step_ns,
            tick_ns: pace.tick_ns,
            late_ns: pace.step_ns,
            bounds,
            ages: pace.ages,
            following_rad: 0.3,
            gripper: GripperCommand::Open,
        };
        let supervisor = Supervisor::new(Arc::clone(&hooks), misdeed);
        let (orders, read_orders) = newest::newest(Order::default());
        let (write_reports, reports) = newest::newest(Report::default());
        let (write_records, records) = HeapRb::new(pace.records).split();
        let frames = Arc::new(FrameTimes::default());
        let cells = LoopCells {
            orders: read_orders,
            reports: write_reports,
            frames: Arc::clone(&frames),
            records: write_records,
            wills: Some(Box::new(supervisor)),
        };
        let stoppable = arms.into_iter().map(|arm| {
            let hooks = Arc::clone(&hooks);
            Box::new(Stoppable { arm, hooks }) as Box<dyn Arm + Send>
        });
        let late_ns = pace.tick_ns / 10;
        let control = ControlLoop::new(
            faults.clock(),
            config,
            late_ns,
            stoppable.collect(),
            targets,
            cells,
        );
        let side = OtherSide {
            pace,
            clock,
            orders,
            reports,
            frames,
            records,
            hooks,
            world,
        };
        Ok(Self {
            control,
            buses,
            side,
        })
    }
}
