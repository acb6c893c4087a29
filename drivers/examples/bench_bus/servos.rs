//! Six servos read and written, as often as it goes: over a pseudo-terminal whose other end takes
//! the time of a wire at 1 Mbaud, and in memory on a clock that stands, which leaves our own work.

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use hilt_drivers::{
    Arm, ArmError,
    bus::{
        Direction, Family, GripperServo, JointServo, SerialWire, ServoArm, ServoArmConfig, Wire,
    },
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, MemoryWire, PtyBus, ServoSetup},
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Fake, Monotonic};
use nalgebra::{Isometry3, Vector3};
use rustypot::DynamixelProtocolHandler;

use crate::row;

const IDS: [u8; 6] = [1, 2, 3, 4, 5, 6];
const BAUD: u32 = 1_000_000;
/// Each is measured so often in turns, and the best counts: others use the machine too.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// A tick has so long for its answers.
const PATIENCE_NS: u64 = 20_000_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

pub fn measure() -> Outcome<()> {
    let families = [
        (Family::Sts3215, "bus.feetech6_hz"),
        (Family::DynamixelX, "bus.dynamixel6_hz"),
    ];
    for (family, name) in families {
        let (mut ours, mut theirs) = (Pace::default(), Pace::default());
        for _ in 0..ROUNDS {
            ours.keep_better(arm_over_pty(family)?);
            theirs.keep_better(rustypot_over_pty(family)?);
        }
        eprintln!(
            "{name}: {} of {} ticks with trouble; the median tick takes {:.0} us, rustypot's {:.0}",
            ours.troubled, ours.ticks, ours.median_us, theirs.median_us
        );
        row(
            name,
            ours.hz,
            "1/s",
            Some(("rustypot, the same bus", theirs.hz)),
        );
        let floor_us = floor_us(family);
        let (busy, alone) = (ours.median_us - floor_us, work_us(family)?);
        eprintln!("{name}: the wire takes {floor_us:.0} us of a tick, our own work {alone:.1} us");
        if family == Family::Sts3215 {
            row("bus.overhead_us", busy, "us", None);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Pace {
    hz: f64,
    median_us: f64,
    ticks: usize,
    troubled: usize,
}

impl Pace {
    fn keep_better(&mut self, other: Self) {
        if other.hz > self.hz {
            *self = other;
        }
    }

    /// Ticks for a while; one says whether there was trouble.
    fn of(mut tick: impl FnMut() -> Outcome<bool>) -> Outcome<Self> {
        // Whatever is done for the first time.
        for _ in 0..100 {
            tick()?;
        }
        let begin = Instant::now();
        let (mut times, mut troubled) = (Vec::new(), 0);
        while begin.elapsed() < ROUND {
            let tick_begin = Instant::now();
            troubled += usize::from(tick()?);
            times.push(tick_begin.elapsed());
        }
        let took = begin.elapsed();
        times.sort();
        Ok(Self {
            hz: times.len() as f64 / took.as_secs_f64(),
            median_us: times[times.len() / 2].as_secs_f64() * 1e6,
            ticks: times.len(),
            troubled,
        })
    }
}

fn bus(family: Family) -> EmulatedBus {
    let setup = |id| ServoSetup {
        id,
        counts: 2048.0,
        rest_counts: 2048.0,
    };
    EmulatedBus::of(family, &IDS.map(setup), BYTE_NS_1M_BAUD)
}

fn arm<W: Wire>(family: Family, wire: W) -> Outcome<ServoArm<W>> {
    let joint = Joint {
        parent_from_joint: Isometry3::translation(0.0, 0.0, 0.1),
        axis: Vector3::y_axis(),
        kind: JointKind::Revolute,
        lower: -1.5,
        upper: 1.5,
    };
    let chain = Chain::new(vec![joint; 5], Isometry3::identity())?;
    let joint = |id| JointServo {
        id,
        zero_counts: 2048,
        direction: Direction::Along,
    };
    let config = ServoArmConfig {
        family,
        joints: (1..=5).map(joint).collect(),
        gripper: GripperServo {
            id: 6,
            open_counts: 2048,
            closed_counts: 2000,
            open_width_m: 0.1,
            closed_width_m: 0.0,
        },
        baud: BAUD,
        max_speed_rad_s: 12.0,
    };
    let mut arm = ServoArm::new(wire, chain, config)?;
    let mut tried = 0;
    while let Err(error) = arm.start() {
        tried += 1;
        if tried == 50 {
            return Err(error.into());
        }
    }
    Ok(arm)
}

/// One read and one write; whether there was trouble.
fn tick<W: Wire>(arm: &mut ServoArm<W>) -> Outcome<bool> {
    let now_ns = arm.wire().now_ns();
    let troubled = match arm.read_state(now_ns, now_ns + PATIENCE_NS) {
        Ok(state) => black_box(state).trouble.is_some(),
        Err(ArmError::Silent(_)) => true,
        Err(error) => return Err(error.into()),
    };
    let target = arm.chain().zeros();
    arm.write(&target, GripperCommand::Open)?;
    Ok(troubled)
}

fn plugged(family: Family) -> Outcome<(tempfile::TempDir, PtyBus, String)> {
    let folder = tempfile::tempdir()?;
    let pty = PtyBus::start(bus(family), &folder.path().join("bus"))?;
    let path = pty.path().to_string_lossy().into_owned();
    Ok((folder, pty, path))
}

fn arm_over_pty(family: Family) -> Outcome<Pace> {
    let (_folder, _pty, path) = plugged(family)?;
    let mut arm = arm(family, SerialWire::open(&path, BAUD)?)?;
    Pace::of(|| tick(&mut arm))
}

/// The same questions and goals by an independent client.
fn rustypot_over_pty(family: Family) -> Outcome<Pace> {
    let (_folder, pty, path) = plugged(family)?;
    let table = family.table();
    // As an arm would have set it.
    let handle = pty.handle();
    handle.look(|bus| {
        IDS.iter()
            .for_each(|id| bus.poke(*id, table.return_delay, 0))
    });
    let port = serialport::new(path, BAUD).timeout(Duration::from_millis(20));
    let mut port = port.open()?;
    let handler = match family {
        Family::Sts3215 => DynamixelProtocolHandler::v1(),
        Family::DynamixelX => DynamixelProtocolHandler::v2().with_fast_sync_read(),
    };
    let (first, count) = table.feedback();
    let goal = table.goal.encode(2048)[..usize::from(table.goal.bytes)].to_vec();
    let goals = vec![goal; IDS.len()];
    Pace::of(|| {
        let read = handler.sync_read(port.as_mut(), &IDS, first.address, count);
        handler.sync_write(port.as_mut(), &IDS, table.goal.address, &goals)?;
        Ok(black_box(read).is_err())
    })
}

/// Bytes on the wire in a tick, at 10 µs each.
fn floor_us(family: Family) -> f64 {
    let (_, count) = family.table().feedback();
    let servos = IDS.len();
    let (count, goal) = (usize::from(count), usize::from(family.table().goal.bytes));
    let bytes = match family {
        Family::Sts3215 => (8 + servos) + servos * (6 + count) + 8 + servos * (1 + goal),
        // One fast sync read.
        Family::DynamixelX => (14 + servos) + 8 + servos * (4 + count) + 14 + servos * (1 + goal),
    };
    bytes as f64 * BYTE_NS_1M_BAUD as f64 * 1e-3
}

/// What a tick costs where nothing is waited for: the emulated servos' own work is in it.
fn work_us(family: Family) -> Outcome<f64> {
    const TICKS: u32 = 20_000;
    let clock = Fake::at(Monotonic.now_ns());
    let mut arm = arm(family, MemoryWire::new(bus(family), clock))?;
    let begin = Instant::now();
    for _ in 0..TICKS {
        tick(&mut arm)?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(TICKS))
}
