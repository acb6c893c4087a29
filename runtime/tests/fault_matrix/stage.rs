//! A rig in real time without real time: the control loop, the cameras and the policy of a rig of
//! bus servos, on one thread and a fake clock. All of it is the product's code but the clock: while
//! the policy sleeps, the loop ticks and the cameras look.

use std::{cell::RefCell, path::Path, rc::Rc, sync::atomic::AtomicBool};

use hilt_drivers::{
    Arm,
    bus::{
        Direction, Family, GripperServo, JointServo, ServoArm, ServoArmConfig,
        feetech::{Request, entries},
        sts3215::GOAL_POSITION,
    },
    emulated::{BYTE_NS_1M_BAUD, BusHandle, EmulatedBus, EmulatedCamera, MemoryWire, ServoSetup},
    fake::FakeArmPair,
    faults::FaultPlan,
};
use hilt_kinematics::Chain;
use hilt_protocol::{JointVector, SetupMode};
use hilt_realtime::{Clock, Fake};
use hilt_runtime::{
    cell::{Cell, cameras::Eye, devices::Devices, realtime::Realtime},
    control::{ControlLoop, TickRecord},
    faulty::{Faults, FaultyClock},
    rig::Rig,
};

/// Ticks of the control loop.
pub const TICK_NS: u64 = 10_000_000;
/// Frames of the cameras.
const FRAME_NS: u64 = 1_000_000_000 / 30;
/// The joints' servos are 1 to 6, the gripper's is 7.
pub const JOINTS: usize = 6;
/// Where a joint falls without torque.
const FALL_COUNTS: f64 = 600.0;

/// A rig of one or two arms of seven servos and two cameras, 100 ticks and 10 policy steps a second.
pub fn rig(mode: SetupMode, acceleration_rad_s2: Option<f64>) -> Rig {
    let text = format!(
        r#"
        mode = "{mode}"
        controlled_axes = ["x", "y", "z"]
        device = "fake"
        clock = "simulated"
        policy_hz = 10
        control_hz = 100

        [limits]
        step_m = 0.025
        leash_m = 0.1
        workspace_min_m = [0.05, -0.4, 0.02]
        workspace_max_m = [0.8, 0.4, 0.7]
        joint_velocity_rad_s = 2.0

        [episode]
        max_steps = 18

        [[cameras]]
        name = "front"
        width = 16
        height = 16

        [[cameras]]
        name = "wrist"
        width = 16
        height = 16
        "#
    );
    let set = acceleration_rad_s2.map(|a| format!("limits.joint_acceleration_rad_s2={a:?}"));
    let set: Vec<_> = set.into_iter().collect();
    Rig::parse("stage.toml", Path::new("."), &text, &set).unwrap()
}

/// The arm's kinematics, and where it stands at first.
pub fn arm() -> (Chain, JointVector) {
    let mut fake = FakeArmPair::new(1).unwrap().arm(0);
    let home = fake.read_state(0, 0).unwrap().joints;
    (fake.chain().clone(), home)
}

pub fn servos() -> ServoArmConfig {
    let joint = |id| JointServo {
        id,
        zero_counts: 2048,
        direction: Direction::Along,
    };
    ServoArmConfig {
        family: Family::Sts3215,
        joints: (1..=JOINTS as u8).map(joint).collect(),
        gripper: GripperServo {
            id: JOINTS as u8 + 1,
            open_counts: 3000,
            closed_counts: 2000,
            open_width_m: 0.08,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        max_speed_rad_s: 10.0,
    }
}

fn bus(home: &JointVector) -> EmulatedBus {
    let config = servos();
    let joints = config.joints.iter().zip(home.as_slice());
    let joints = joints.map(|(servo, q)| {
        let counts = f64::from(servo.goal(*q));
        ServoSetup {
            id: servo.id,
            counts,
            rest_counts: counts - FALL_COUNTS,
        }
    });
    let gripper = ServoSetup {
        id: config.gripper.id,
        counts: 3000.0,
        rest_counts: 2000.0,
    };
    let setups: Vec<_> = joints.chain([gripper]).collect();
    EmulatedBus::new(&setups, BYTE_NS_1M_BAUD)
}

/// A tick, and when it really began.
#[derive(Clone, Debug)]
pub struct Tick {
    pub at_ns: u64,
    pub record: TickRecord,
}

/// The goals of all servos of an arm, counts, as its bus heard them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goals {
    pub at_ns: u64,
    pub counts: [i32; JOINTS + 1],
}

struct Machine {
    control: ControlLoop<FaultyClock<Fake>>,
    clock: FaultyClock<Fake>,
    eyes: Vec<(Eye, u64)>,
    ticks: Vec<Tick>,
    buses: Vec<BusHandle>,
    goals: Vec<Vec<Goals>>,
}

impl Machine {
    /// When the next tick really is due.
    fn due_ns(&self, now_ns: u64) -> u64 {
        let left_ns = self.control.next_ns().saturating_sub(self.clock.now_ns());
        now_ns + left_ns.min(TICK_NS)
    }

    fn run_until(&mut self, until_ns: u64, fake: &Fake) {
        loop {
            let due_ns = self.due_ns(fake.now_ns());
            let eye = self.eyes.iter_mut().min_by_key(|(_, due_ns)| *due_ns);
            match eye {
                Some((eye, eye_ns)) if *eye_ns <= due_ns && *eye_ns <= until_ns => {
                    fake.sleep_until_ns(*eye_ns);
                    eye.look();
                    *eye_ns += FRAME_NS;
                }
                _ if due_ns > until_ns => return,
                _ => {
                    let record = self.control.tick(false);
                    self.ticks.push(Tick {
                        at_ns: due_ns,
                        record,
                    });
                    self.hear();
                }
            }
        }
    }

    /// Keeps what the buses heard since it was called last: they forget.
    fn hear(&mut self) {
        for (bus, kept) in self.buses.iter().zip(&mut self.goals) {
            let last_ns = kept.last().map_or(0, |goals| goals.at_ns);
            let mut new = bus.look(|bus| {
                let new = bus.heard().rev().take_while(|h| h.at_ns > last_ns);
                let goals = new.filter_map(|heard| goals_of(heard.request()?, heard.at_ns));
                goals.collect::<Vec<_>>()
            });
            new.reverse();
            kept.append(&mut new);
        }
    }
}

fn goals_of(request: Request<'_>, at_ns: u64) -> Option<Goals> {
    let Request::SyncWrite {
        address,
        count,
        data,
    } = request
    else {
        return None;
    };
    assert_eq!(address, GOAL_POSITION.address);
    let mut counts = [0; JOINTS + 1];
    for (slot, (id, data)) in counts.iter_mut().zip(entries(data, count)) {
        *slot = GOAL_POSITION.decode(GOAL_POSITION, data).unwrap();
        assert!(id > 0 && usize::from(id) <= JOINTS + 1);
    }
    Some(Goals { at_ns, counts })
}

/// The policy's clock: sleeping on it is what lets everything else happen.
#[derive(Clone)]
pub struct Stage {
    pub fake: Fake,
    machine: Rc<RefCell<Option<Machine>>>,
}

impl Clock for Stage {
    fn now_ns(&self) -> u64 {
        self.fake.now_ns()
    }

    fn sleep_until_ns(&self, deadline_ns: u64) {
        if let Some(machine) = self.machine.borrow_mut().as_mut() {
            machine.run_until(deadline_ns, &self.fake);
        }
        self.fake.sleep_until_ns(deadline_ns);
    }
}

impl Stage {
    pub fn sleep_ns(&self, duration_ns: u64) {
        self.sleep_until_ns(self.now_ns() + duration_ns);
    }

    /// Every tick so far.
    pub fn ticks(&self) -> Vec<Tick> {
        let machine = self.machine.borrow();
        machine.as_ref().map_or_else(Vec::new, |m| m.ticks.clone())
    }

    /// The newest of them.
    pub fn last(&self) -> Option<Tick> {
        self.machine.borrow().as_ref()?.ticks.last().cloned()
    }

    /// What each bus was told.
    pub fn goals(&self) -> Vec<Vec<Goals>> {
        let machine = self.machine.borrow();
        machine.as_ref().map_or_else(Vec::new, |m| m.goals.clone())
    }
}

/// What is dropped when the run ends: the loop brings the arms to a standstill.
struct Running(Stage);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(machine) = self.0.machine.borrow_mut().as_mut() {
            machine.control.run(&AtomicBool::new(true));
        }
    }
}

/// A rig with these faults, whose times count from [`ORIGIN_NS`] on the fake clock.
pub struct Staged {
    pub stage: Stage,
    pub cell: Cell,
    pub buses: Vec<BusHandle>,
    pub faults: Faults<Stage>,
}

pub const ORIGIN_NS: u64 = 10_000_000_000;

pub fn open(rig: &Rig, plan: &FaultPlan) -> Staged {
    let fake = Fake::at(ORIGIN_NS);
    let stage = Stage {
        fake: fake.clone(),
        machine: Rc::default(),
    };
    let faults = Faults::begin(Some(plan.clone()), fake.clone());
    let of_the_policy = Faults::begin(Some(plan.clone()), stage.clone());
    let (chain, home) = arm();
    let (mut arms, mut buses) = (Vec::<Box<dyn Arm + Send>>::new(), Vec::new());
    for index in 0..rig.mode.arms() {
        let wire = MemoryWire::new(bus(&home), fake.clone());
        buses.push(wire.handle());
        let wire = faults.wire(wire, index);
        arms.push(Box::new(
            ServoArm::new(wire, chain.clone(), servos()).unwrap(),
        ));
    }
    let cameras = rig.spec().cameras.into_iter().enumerate();
    let cameras = cameras.map(|(index, spec)| {
        let camera = EmulatedCamera::new(buses.clone(), spec);
        Box::new(faults.camera(camera, index)) as _
    });
    let devices = Devices {
        arms,
        cameras: cameras.collect(),
        scene: None,
        home: Some(home),
        wills: None,
        supervised: None,
        buses: Vec::new(),
        lift: None,
    };
    let clocks = (stage.clone(), faults.clock());
    let cell = Realtime::with(rig, devices, clocks, |control, eyes| {
        let now_ns = fake.now_ns();
        *stage.machine.borrow_mut() = Some(Machine {
            control,
            clock: faults.clock(),
            eyes: eyes.into_iter().map(|eye| (eye, now_ns)).collect(),
            ticks: Vec::new(),
            goals: vec![Vec::new(); buses.len()],
            buses: buses.clone(),
        });
        Ok(Running(stage.clone()))
    });
    Staged {
        faults: of_the_policy,
        stage: stage.clone(),
        cell: cell.unwrap(),
        buses,
    }
}
