//! Every bit of every field comes back; what is cut is told; what is dropped is counted.

mod arbitrary;

use std::{
    io::{self, Cursor},
    sync::Mutex,
};

use hilt_drivers::{
    ArmError, ArmState, Encoding, Intent,
    bus::{Direction, Family, GripperServo, JointServo, ServoArmConfig},
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::{ActionSource, ArmCommand, GripperCommand, JointVector, MAX_CAMERAS};
use nalgebra::{Isometry3, Vector3};
use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use super::*;
use crate::{
    control::{
        AgeLimits, ControlConfig, ControlInputs, Fault, JointBounds, Mode, Order, Sent, Wish,
    },
    decision::{By, Choice, Stand, Why},
    safety::ArmTarget,
    tick::{Outcome, TickTimes},
};

proptest! {
    #[test]
    fn every_field_of_a_tick_comes_back(tick in arbitrary::tick()) {
        let read = decode_tick(&encode_tick(&tick)).unwrap();
        // `Debug` tells -0.0 from 0.0, and every number from its neighbours.
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", tick));
    }

    #[test]
    fn every_field_of_a_decision_comes_back(decision in arbitrary::decision()) {
        let read = decode_decision(&encode_decision(&decision)).unwrap();
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", decision));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (decode_tick(&bytes), decode_decision(&bytes), Began::decode(&bytes));
    }

    #[test]
    fn a_damaged_tick_is_an_error_or_another_tick(
        tick in arbitrary::tick(),
        damage in (any::<prop::sample::Index>(), 1u8..=255),
    ) {
        let mut bytes = encode_tick(&tick);
        let place = damage.0.index(bytes.len());
        bytes[place] ^= damage.1;
        if let Ok(read) = decode_tick(&bytes) {
            let _ = encode_tick(&read);
        }
    }
}

/// No field has the value that protobuf leaves out.
fn full_tick() -> TickRecord {
    let joints = JointVector::from_slice(&[1.0, 2.0]).unwrap();
    let state = ArmState {
        captured_ns: 1,
        joints,
        velocities: joints,
        gripper_width_m: f64::from_bits(0x7ff8_0000_0000_0001),
        trouble: Some(ArmError::Silent(3)),
    };
    let targets = [Some((joints, GripperCommand::Closed)); 2];
    let fault = Some(Fault::of_arm(1, ArmError::Device));
    TickRecord {
        number: 1,
        missed: 2,
        times: TickTimes {
            due_ns: 1,
            woke_ns: 2,
            read_ns: 3,
            decided_ns: 4,
            written_ns: 5,
        },
        inputs: ControlInputs {
            now_ns: 6,
            order: Order {
                written_ns: 7,
                wish: Wish::Run,
                command: Some(ArmCommand {
                    sequence: 8,
                    activate_ns: 9,
                    arms: targets,
                }),
                fault,
                resets: 10,
            },
            reports: [Some(Err(ArmError::Device)), Some(Ok(state))],
            frames_ns: [1; MAX_CAMERAS],
            overtaken: true,
        },
        outcome: Outcome::Late,
        mode: Mode::Running,
        fault,
        written: [Some(ArmError::Unplugged); 2],
        sent: [Sent::new(&[1, 2]); 2],
        hash: 11,
    }
}

fn full_decision() -> Decision {
    let tick = full_tick();
    let Some(Ok(state)) = tick.inputs.reports[1] else {
        panic!("a state");
    };
    let command = tick.inputs.order.command;
    let intent = Intent {
        captured_ns: 1,
        motion: [[0.5; 6]; 2],
        gripper: [Some(GripperCommand::Closed); 2],
    };
    let target = ArmTarget {
        base_from_tool: Isometry3::identity(),
        joints: state.joints,
        gripper: GripperCommand::Closed,
    };
    Decision {
        now_ns: 1,
        why: Why::Step {
            choice: Choice {
                by: By::Intent(intent),
                source: ActionSource::Human,
                noise_seed: 2,
                policy_version: 3,
            },
            stands: vec![Stand { state, target }],
            action: vec![0.5],
        },
        command,
        followed: Some(false),
        hash: 4,
    }
}

fn about() -> About {
    let joint = |kind| Joint {
        parent_from_joint: Isometry3::translation(0.0, 0.0, 0.1),
        axis: Vector3::y_axis(),
        kind,
        lower: -1.0,
        upper: 1.5,
    };
    let chain = |kind| Chain::new(vec![joint(kind); 2], Isometry3::identity()).unwrap();
    let joints = JointVector::from_slice(&[0.25, -0.0]).unwrap();
    let bounds = JointBounds {
        lower: JointVector::from_slice(&[-1.0; 2]).unwrap(),
        upper: JointVector::from_slice(&[1.5; 2]).unwrap(),
        velocity_rad_s: 2.0,
        acceleration_rad_s2: f64::INFINITY,
    };
    let servo = |id| JointServo {
        id,
        zero_counts: 2048,
        direction: Direction::Against,
    };
    let servos = ServoArmConfig {
        family: Family::DynamixelX,
        joints: vec![servo(1), servo(2)],
        gripper: GripperServo {
            id: 3,
            open_counts: 3000,
            closed_counts: 2000,
            open_width_m: 0.1,
            closed_width_m: 0.01,
        },
        baud: 1_000_000,
        max_speed_rad_s: 9.5,
    };
    let arms = vec![
        ArmAbout {
            chain: chain(JointKind::Revolute),
            encoding: Encoding::Servos(servos),
            will: vec![1, 2, 3],
        },
        ArmAbout {
            chain: chain(JointKind::Prismatic),
            encoding: Encoding::Remote,
            will: Vec::new(),
        },
    ];
    About {
        rig: "mode = \"dual\"".to_owned(),
        began: Began {
            config: ControlConfig {
                arms: 2,
                cameras: 1,
                interpolation_ns: 100,
                tick_ns: 10,
                late_ns: 20,
                bounds: [Some(bounds); 2],
                ages: AgeLimits {
                    state_ns: 1,
                    frame_ns: 2,
                    policy_ns: 3,
                    astray_ns: 5,
                    tick_ns: 4,
                },
                following_rad: 0.25,
                gripper: GripperCommand::Closed,
            },
            late_ns: 30,
            targets: [
                Some((joints, GripperCommand::Open)),
                Some((joints, GripperCommand::Closed)),
            ],
            arms,
        },
    }
}

#[test]
fn numbers_that_are_none_keep_their_bits() {
    let read = decode_tick(&encode_tick(&full_tick())).unwrap();
    let Some(Ok(state)) = read.inputs.reports[1] else {
        panic!("a state");
    };
    assert_eq!(state.gripper_width_m.to_bits(), 0x7ff8_0000_0000_0001);
}

#[test]
fn what_was_logged_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = TickLog::create(dir.path(), &about()).unwrap();
    let sender = log.sender();
    let tick = |number| TickRecord {
        number,
        inputs: ControlInputs {
            reports: [None; 2],
            ..full_tick().inputs
        },
        ..full_tick()
    };
    sender.ticks((0..10).map(tick).collect());
    let mut decision = full_decision();
    if let Why::Step { stands, .. } = &mut decision.why {
        stands[0].state.gripper_width_m = 0.5;
    }
    sender.decision(decision.clone());
    sender.ticks((10..20).map(tick).collect());
    assert_eq!(log.finish(), Losses::default());
    assert_eq!(sender.waiting(), 0);
    sender.decision(decision.clone());
    sender.ticks(vec![tick(20), tick(21)]);
    let late = Losses {
        ticks: 2,
        decisions: 1,
    };
    assert_eq!(sender.losses(), late, "it has ended");

    let mut reader = TickLogReader::open(dir.path()).unwrap();
    assert_eq!(reader.about(), &about());
    let read: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!(reader.cut(), None);
    let mut expected: Vec<_> = (0..20).map(|n| Logged::Tick(Box::new(tick(n)))).collect();
    expected.insert(10, Logged::Decision(Box::new(sealed(decision))));
    assert_eq!(read, expected);
    assert!(
        TickLog::create(dir.path(), &about()).is_err(),
        "never again"
    );
}

#[test]
fn a_cut_file_gives_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(TICKS_FILE);
    let schema = schema::bytes();
    let about = about();
    let mut writer = ChannelWriter::create(&path, metadata(&about), &channels(&schema)).unwrap();
    let before = std::fs::metadata(&path).unwrap().len() as usize;
    writer.append(BEGAN, 0, 0, &about.began.encode()).unwrap();
    writer.flush().unwrap();
    let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
    for number in 0..10 {
        let tick = TickRecord {
            number,
            ..full_tick()
        };
        append(&mut writer, &[Message::Ticks(vec![tick; 3])]).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for (groups, end) in ends.iter().enumerate() {
        for cut in [*end, *end + 7, *end + 100] {
            std::fs::write(&path, &bytes[..cut as usize]).unwrap();
            let mut reader = TickLogReader::open(dir.path()).unwrap();
            assert_eq!(reader.by_ref().map(Result::unwrap).count(), 3 * groups);
            assert!(reader.cut().is_some());
        }
    }
    std::fs::write(&path, &bytes[..before + 20]).unwrap();
    let error = TickLogReader::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("how the run began"), "{error}");
}

/// A disk that takes nothing before it is let, and has room for so many bytes.
struct Disk {
    inner: Cursor<Vec<u8>>,
    gate: Arc<Mutex<()>>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.gate.lock().unwrap());
        if self.inner.position() as usize + bytes.len() > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

fn on(disk: Disk) -> TickLog {
    let schema = schema::bytes();
    let path = Path::new(TICKS_FILE);
    let about = about();
    let channels = channels(&schema);
    let writer = ChannelWriter::over(disk, path, metadata(&about), &channels, None).unwrap();
    TickLog::over(writer, &about).unwrap()
}

#[test]
fn a_full_disk_drops_and_counts_and_makes_nobody_wait() {
    let log = on(Disk {
        inner: Cursor::default(),
        gate: Arc::default(),
        room: 20_000,
    });
    let sender = log.sender();
    for _ in 0..100 {
        sender.ticks(vec![full_tick(); 20]);
        sender.decision(full_decision());
    }
    // It may all have come within one group, or some before.
    let losses = log.finish();
    assert!(losses.ticks > 0 && losses.ticks <= 2000, "{losses:?}");
    let whole = (2000 - losses.ticks) / 20;
    assert!((100 - losses.decisions).abs_diff(whole) <= 1, "{losses:?}");
    assert_eq!(sender.waiting(), 0);
}

#[test]
fn a_disk_that_hangs_drops_and_counts_exactly() {
    let gate = Arc::new(Mutex::new(()));
    let log = on(Disk {
        inner: Cursor::default(),
        gate: Arc::clone(&gate),
        room: usize::MAX,
    });
    let shut = gate.lock().unwrap();
    let sender = log.sender();
    // A group is in the thread's hands, and a queue behind it.
    for _ in 0..40 {
        sender.ticks(vec![full_tick(); 1000]);
    }
    let (lost_ticks, waiting) = (sender.losses().ticks, sender.waiting());
    for _ in 0..3 * QUEUE_MESSAGES {
        sender.decision(full_decision());
    }
    let lost_decisions = sender.losses().decisions;
    drop(shut);
    let losses = log.finish();
    assert!(waiting <= QUEUE_TICKS, "{waiting}");
    assert!(lost_ticks >= 40_000 - 2 * QUEUE_TICKS, "{lost_ticks}");
    let most = (2 * QUEUE_MESSAGES) as u64;
    assert!(lost_decisions >= 3 * QUEUE_MESSAGES as u64 - most);
    let lost = (losses.ticks, losses.decisions);
    assert_eq!(
        lost,
        (lost_ticks, lost_decisions),
        "what came in was written"
    );
}

/// Every field of the schema is there, and nothing that the schema does not know.
fn assert_complete(message: &DynamicMessage) {
    let name = message.descriptor().full_name().to_owned();
    assert_eq!(message.unknown_fields().count(), 0, "{name}");
    for field in message.descriptor().fields() {
        let either = ["state", "error", "step", "home", "remote", "servos"].contains(&field.name());
        let or_other = either || ["will", "slides", "arm"].contains(&field.name());
        assert!(
            message.has_field(&field) || or_other,
            "{name}.{}",
            field.name()
        );
        match message.get_field(&field).as_ref() {
            Value::Message(inner) if message.has_field(&field) => assert_complete(inner),
            Value::List(list) => {
                let inner = list.iter().filter_map(Value::as_message);
                inner.for_each(assert_complete);
            }
            _ => {}
        }
    }
}

#[test]
fn other_tools_find_every_field_by_the_schema_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut about = about();
    about.began.targets[0] = about.began.targets[1];
    let log = TickLog::create(dir.path(), &about).unwrap();
    let home = Decision {
        why: Why::Home {
            from: about.began.targets,
            home: JointVector::from_slice(&[1.0]).unwrap(),
        },
        ..full_decision()
    };
    log.sender().ticks(vec![full_tick()]);
    log.sender().decision(full_decision());
    log.sender().decision(home);
    log.finish();
    let bytes = std::fs::read(dir.path().join(TICKS_FILE)).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let read: Vec<_> = messages
        .map(|message| {
            let message = message.unwrap();
            let schema = message.channel.schema.as_ref().unwrap();
            assert_eq!(schema.encoding, "protobuf");
            let pool = DescriptorPool::decode(schema.data.as_ref()).unwrap();
            let kind = pool.get_message_by_name(&schema.name).unwrap();
            DynamicMessage::decode(kind, message.data.as_ref()).unwrap()
        })
        .collect();
    assert_eq!(read.len(), 4);
    read[..3].iter().for_each(|message| {
        // An intent has no policy's output.
        if message.descriptor().name() != "Decision" {
            assert_complete(message);
        }
    });
    let get = |message: &DynamicMessage, name: &str| {
        message.get_field_by_name(name).unwrap().into_owned()
    };
    let mode = get(&read[1], "mode").as_enum_number().unwrap();
    let pool = read[1].descriptor().parent_pool().clone();
    let modes = pool.get_enum_by_name("hilt.Mode").unwrap();
    assert_eq!(modes.get_value(mode).unwrap().name(), "Mode_Running");
    let step = get(&read[2], "step");
    let step = step.as_message().unwrap();
    assert_eq!(get(step, "noise_seed"), Value::U64(2));
    assert_eq!(get(step, "by"), Value::EnumNumber(1));
    assert!(get(&read[3], "home").as_message().is_some());
    let unknown = read.iter().map(|message| message.unknown_fields().count());
    assert_eq!(unknown.sum::<usize>(), 0);
}
