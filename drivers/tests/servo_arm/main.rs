//! The arm of servos against a bus on a fake clock: each way in which a bus goes wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bus;

use bus::{Bus, SPEED};
use hilt_drivers::{
    Arm, ArmError,
    bus::{
        Direction, Family, GripperServo, JointServo, ServoArm, ServoArmConfig, ServoArmConfigError,
        feetech::{LONGEST, Request, Scan, Status, scan},
        sts3215::{
            GOAL_POSITION, LOCK, PHASE, PHASE_MULTI_TURN, PRESENT_POSITION, RETURN_DELAY,
            TORQUE_ENABLE, TORQUE_LIMIT, radians_from_counts, status,
        },
    },
    conformance,
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::{GripperCommand, JointVector, noise::Uniforms};
use hilt_realtime::Clock;
use nalgebra::{Isometry3, Translation3, Vector3};

/// Time for one question, and for one and another.
const TICK_NS: u64 = 2_000_000;
const LONG_NS: u64 = 10_000_000;

fn chain() -> Chain {
    let joint = Joint {
        parent_from_joint: Translation3::new(0.0, 0.0, 0.1).into(),
        axis: Vector3::y_axis(),
        kind: JointKind::Revolute,
        lower: -1.5,
        upper: 1.5,
    };
    Chain::new(vec![joint; 5], Isometry3::identity()).unwrap()
}

fn config() -> ServoArmConfig {
    let joint = |id| JointServo {
        id,
        zero_counts: 2048,
        direction: if id == 2 {
            Direction::Against
        } else {
            Direction::Along
        },
    };
    ServoArmConfig {
        family: Family::Sts3215,
        joints: (1..=5).map(joint).collect(),
        gripper: GripperServo {
            id: 6,
            open_counts: 3000,
            closed_counts: 2000,
            open_width_m: 0.1,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        max_speed_rad_s: 10.0,
    }
}

fn arm(bus: &Bus) -> ServoArm<Bus> {
    ServoArm::new(bus.clone(), chain(), config()).unwrap()
}

/// Started, and read once without trouble.
fn running(bus: &Bus) -> ServoArm<Bus> {
    let mut arm = arm(bus);
    arm.start().unwrap();
    assert_eq!(read(&mut arm, bus, TICK_NS).unwrap().trouble, None);
    bus.heard();
    arm
}

fn read(
    arm: &mut ServoArm<Bus>,
    bus: &Bus,
    time_ns: u64,
) -> Result<hilt_drivers::ArmState, ArmError> {
    let now_ns = bus.clock.now_ns();
    arm.read_state(now_ns, now_ns + time_ns)
}

/// The requests among frames.
fn requests(frames: &[Vec<u8>]) -> Vec<Request<'_>> {
    let parse = |bytes| match scan(bytes, LONGEST) {
        Scan::Frame { frame, .. } => Request::parse(&frame).unwrap(),
        Scan::More { .. } => panic!("no frame"),
    };
    frames.iter().map(|bytes| parse(bytes)).collect()
}

fn questions(bus: &Bus) -> Vec<Vec<u8>> {
    let frames = bus.heard();
    let ids = requests(&frames).into_iter().filter_map(|r| match r {
        Request::SyncRead { ids, .. } => Some(ids.to_vec()),
        _ => None,
    });
    ids.collect()
}

#[test]
fn it_conforms() {
    for echo in [false, true] {
        let bus = Bus::new();
        bus.state().echo = echo;
        let clock = bus.clock.clone();
        let pass_ns = |duration_ns| {
            clock.advance_ns(duration_ns);
            clock.now_ns()
        };
        conformance::arm(&mut arm(&bus), pass_ns).unwrap();
    }
}

#[test]
fn a_tick_is_one_sync_read_and_one_sync_write() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    bus.state().servos[1].set(SPEED, -100);
    let begun_ns = bus.clock.now_ns();
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    // Six replies of ten bytes after a question of fourteen; the first is the oldest.
    assert_eq!(state.captured_ns, begun_ns + 240_000);
    assert_eq!(bus.clock.now_ns(), begun_ns + 740_000);
    assert_eq!(state.joints.as_slice()[0], radians_from_counts(-48.0));
    assert_eq!(state.joints.as_slice()[1], radians_from_counts(-2.0));
    assert_eq!(state.velocities.as_slice()[1], radians_from_counts(100.0));
    assert!((state.gripper_width_m - 0.025).abs() < 1e-9);
    assert!(arm.sent().is_empty());

    let target = JointVector::from_slice(&[0.1, 0.2, 0.3, -1.5, 0.0]).unwrap();
    arm.write(&target, GripperCommand::Closed).unwrap();
    let frames = bus.heard();
    assert_eq!(frames.len(), 2);
    assert_eq!(arm.sent(), frames[1]);
    assert_eq!(arm.will(), frames[1]);
    let goals = |bus: &Bus| -> Vec<i32> {
        let state = bus.state();
        state.servos.iter().map(|s| s.get(GOAL_POSITION)).collect()
    };
    assert_eq!(goals(&bus), [2113, 1918, 2244, 1070, 2048, 2000]);
}

#[test]
fn starting_moves_nothing_and_wears_nothing() {
    let bus = Bus::new();
    let mut arm = arm(&bus);
    arm.start().unwrap();
    for servo in &bus.state().servos {
        assert_eq!(servo.jump, Some(0), "servo {}", servo.id);
        assert_eq!(servo.get(RETURN_DELAY), 0);
        assert_eq!(servo.get(LOCK), 1);
    }
    assert_eq!(bus.state().servos[5].get(TORQUE_LIMIT), 0);
    // The lock is on before the first register that the flash memory keeps is written.
    let frames = bus.heard();
    let mut written = requests(&frames).into_iter().filter_map(|r| match r {
        Request::Write { address, .. } => Some(address),
        _ => None,
    });
    assert_eq!(written.next(), Some(LOCK.address));
    assert!(!written.any(|address| address < 40 && address != RETURN_DELAY.address));
    // Started again, it is left alone.
    arm.start().unwrap();
    assert!(bus.heard().is_empty());
}

/// A servo that holds a load stands a little below its goal: it keeps the goal.
#[test]
fn an_arm_that_holds_keeps_what_it_holds() {
    let bus = Bus::new();
    for servo in &mut bus.state().servos {
        servo.set(GOAL_POSITION, 1980 + 50 * i32::from(servo.id));
        servo.memory[usize::from(TORQUE_ENABLE.address)] = 1;
    }
    let mut arm = arm(&bus);
    arm.start().unwrap();
    arm.stop().unwrap();
    for servo in &bus.state().servos {
        let expected = 1980 + 50 * i32::from(servo.id);
        assert_eq!(servo.get(GOAL_POSITION), expected);
        assert_eq!(servo.get(PRESENT_POSITION), expected - 30);
    }
}

#[test]
fn the_grippers_torque_is_bounded() {
    let bus = Bus::new();
    for servo in &mut bus.state().servos {
        servo.set(TORQUE_LIMIT, 1000);
    }
    arm(&bus).start().unwrap();
    let limits: Vec<_> = bus
        .state()
        .servos
        .iter()
        .map(|s| s.get(TORQUE_LIMIT))
        .collect();
    assert_eq!(limits, [1000, 1000, 1000, 1000, 1000, 500]);
}

#[test]
fn a_servo_that_cannot_be_started_leaves_the_arm_stopped() {
    let bus = Bus::new();
    let multi_turn = 12 | i32::from(PHASE_MULTI_TURN);
    bus.state().servos[3].set(PHASE, multi_turn);
    let mut arm = arm(&bus);
    assert_eq!(arm.start(), Err(ArmError::Mode(4)));
    bus.state().servos[3].set(PHASE, 12);
    bus.tamper(|id, reply| if id == 5 { vec![] } else { reply });
    assert_eq!(arm.start(), Err(ArmError::Silent(5)));
    let zeros = chain().zeros();
    let refused = arm.write(&zeros, GripperCommand::Open);
    assert_eq!(refused, Err(ArmError::Stopped));
    assert!(bus.state().servos.iter().all(|s| s.jump.is_none()));
    // Nothing was commanded, so there is nothing to hold.
    assert!(arm.will().is_empty());
    assert_eq!(arm.stop(), Ok(()));
    bus.tamper(|_, reply| reply);
    arm.start().unwrap();
}

#[test]
fn before_the_first_value_there_is_no_state() {
    let bus = Bus::new();
    bus.tamper(|id, reply| if id == 4 { vec![] } else { reply });
    let mut arm = arm(&bus);
    assert_eq!(read(&mut arm, &bus, TICK_NS), Err(ArmError::Silent(4)));
    bus.tamper(|_, reply| reply);
    assert!(read(&mut arm, &bus, TICK_NS).is_ok());
}

#[test]
fn who_is_silent_keeps_the_old_value_and_its_age() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    let before = read(&mut arm, &bus, TICK_NS).unwrap();
    bus.tamper(|id, reply| if id == 3 { vec![] } else { reply });
    for servo in &mut bus.state().servos {
        servo.memory[usize::from(PRESENT_POSITION.address)] += 5;
    }
    bus.clock.advance_ns(1_000_000);
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    assert_eq!(state.trouble, Some(ArmError::Silent(3)));
    // The third reply came 200 µs after the first, which is what the state before is as old as.
    assert_eq!(state.captured_ns, before.captured_ns + 200_000);
    for (joint, (now, then)) in
        (0..).zip(state.joints.as_slice().iter().zip(before.joints.as_slice()))
    {
        assert_eq!(now == then, joint == 2, "joint {joint}");
    }
}

#[test]
fn who_is_missing_is_asked_again_when_there_is_time() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    let all = vec![1, 2, 3, 4, 5, 6];
    let mut replies = 0;
    let lose_first = move |id, reply| {
        replies += i32::from(id == 3);
        if id == 3 && replies == 1 {
            vec![]
        } else {
            reply
        }
    };
    bus.tamper(lose_first);
    let state = read(&mut arm, &bus, LONG_NS).unwrap();
    // It is named, though the second question was answered: somebody should look at the cable.
    assert_eq!(state.trouble, Some(ArmError::Silent(3)));
    assert!(state.captured_ns > bus.clock.now_ns() - LONG_NS);
    assert_eq!(questions(&bus), [all.clone(), vec![3]]);

    bus.tamper(lose_first);
    read(&mut arm, &bus, TICK_NS).unwrap();
    assert_eq!(questions(&bus), [all], "no time for another question");
}

/// Every bit of a reply: header, id, length, error byte, values and checksum.
#[test]
fn a_corrupted_reply_is_named_and_not_used() {
    for bit in 0..80 {
        let bus = Bus::new();
        let mut arm = running(&bus);
        let before = read(&mut arm, &bus, TICK_NS).unwrap();
        bus.tamper(move |id, mut reply| {
            reply[bit / 8] ^= u8::from(id == 3) << (bit % 8);
            reply
        });
        let state = read(&mut arm, &bus, TICK_NS).unwrap();
        assert_eq!(state.joints, before.joints);
        assert_eq!(state.trouble, Some(ArmError::Corrupted(3)), "bit {bit}");
    }
}

/// As [`Status::encode`] says it: with a checksum that fits.
fn said(id: u8, error: u8, parameters: &[u8]) -> Vec<u8> {
    let mut bytes = [0; LONGEST];
    let status = Status {
        id,
        error,
        parameters,
    };
    let end = status.encode(&mut bytes).unwrap();
    bytes[..end].to_vec()
}

#[test]
fn a_reply_of_somebody_else_is_named_and_not_used() {
    for other in [2, 4, 9] {
        let bus = Bus::new();
        let mut arm = running(&bus);
        let before = read(&mut arm, &bus, TICK_NS).unwrap();
        bus.tamper(move |id, reply| match id {
            3 => said(other, 0, &reply[5..9]),
            _ => reply,
        });
        let state = read(&mut arm, &bus, TICK_NS).unwrap();
        assert_eq!(state.joints, before.joints);
        let trouble = state.trouble;
        assert!(
            matches!(trouble, Some(ArmError::WrongId { .. })),
            "{trouble:?}"
        );
    }
}

#[test]
fn a_servos_own_error_is_named_and_its_value_used() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    {
        let servo = &mut bus.state().servos[4];
        servo.error = status::OVERLOAD;
        servo.memory[usize::from(PRESENT_POSITION.address)] += 7;
    }
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    let expected = ArmError::Servo {
        id: 5,
        bits: status::OVERLOAD,
    };
    assert_eq!(state.trouble, Some(expected));
    assert_eq!(state.joints.as_slice()[4], radians_from_counts(159.0));
}

#[test]
fn a_jump_is_not_believed_until_there_was_time_for_it() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    let before = read(&mut arm, &bus, TICK_NS).unwrap();
    let jumped = 2000 + 500;
    bus.state().servos[0].memory[56..58].copy_from_slice(&PRESENT_POSITION.encode(jumped)[..2]);
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    assert_eq!(state.trouble, Some(ArmError::Implausible(1)));
    assert_eq!(state.joints, before.joints);
    assert_eq!(state.captured_ns, before.captured_ns);
    // 500 counts are 0.77 rad: at 10 rad/s some 72 ms beside the slack.
    bus.clock.advance_ns(80_000_000);
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    assert_eq!(state.trouble, None);
    assert_eq!(state.joints.as_slice()[0], radians_from_counts(452.0));
    // So is a speed that there cannot be.
    bus.state().servos[0].set(SPEED, 30_000);
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    assert_eq!(state.trouble, Some(ArmError::Implausible(1)));
}

/// A reply that comes while its question is still on the line answers the question before.
#[test]
fn a_straggler_is_not_taken_for_new() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    let before = read(&mut arm, &bus, TICK_NS).unwrap();
    let soon_ns = bus.clock.now_ns() + 50_000;
    let straggler = said(1, 0, &[0xE0, 0x07, 0, 0]);
    bus.state().coming.push_back((soon_ns, straggler));
    bus.tamper(|id, reply| if id == 1 { vec![] } else { reply });
    let state = read(&mut arm, &bus, TICK_NS).unwrap();
    assert_eq!(state.trouble, Some(ArmError::Silent(1)));
    assert_eq!(state.joints, before.joints);
    assert_eq!(state.captured_ns, before.captured_ns);
}

#[test]
fn an_echo_is_no_trouble() {
    let bus = Bus::new();
    bus.state().echo = true;
    let mut config = config();
    // Where it is: these servos need no time to go anywhere.
    config.gripper.open_counts = 2250;
    let mut arm = ServoArm::new(bus.clone(), chain(), config).unwrap();
    arm.start().unwrap();
    for _ in 0..3 {
        let state = read(&mut arm, &bus, TICK_NS).unwrap();
        assert_eq!(state.trouble, None);
        arm.write(&state.joints, GripperCommand::Open).unwrap();
        bus.clock.advance_ns(1_000);
    }
    assert_eq!(arm.health(3).unwrap().errors, 0);
}

#[test]
fn stopping_holds_the_last_goal_each_time() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    let target = JointVector::from_slice(&[0.5; 5]).unwrap();
    arm.write(&target, GripperCommand::Open).unwrap();
    let goal = arm.will().to_vec();
    // It has not got there: the feedback is elsewhere.
    for servo in &mut bus.state().servos {
        servo.memory[usize::from(PRESENT_POSITION.address)] ^= 0x40;
    }
    read(&mut arm, &bus, TICK_NS).unwrap();
    bus.heard();
    arm.stop().unwrap();
    arm.stop().unwrap();
    assert_eq!(bus.heard(), [goal.clone(), goal.clone()]);
    assert_eq!(arm.sent(), [goal.clone(), goal.clone()].concat());
    let refused = arm.write(&target, GripperCommand::Open);
    assert_eq!(refused, Err(ArmError::Stopped));
    drop(arm);
    assert!(bus.heard().is_empty());
    let state = bus.state();
    assert!(state.servos.iter().all(|s| s.get(TORQUE_ENABLE) == 1));
}

#[test]
fn the_record_of_what_was_sent_is_bounded() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    for _ in 0..1000 {
        arm.stop().unwrap();
    }
    let frame = arm.will().to_vec();
    assert!(arm.sent().ends_with(&frame));
    assert_eq!(arm.sent().len() % frame.len(), 0);
}

#[test]
fn a_bus_that_is_gone_is_named_by_every_call() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    bus.state().gone = true;
    let gone = ArmError::Unplugged;
    assert_eq!(read(&mut arm, &bus, TICK_NS), Err(gone));
    let zeros = chain().zeros();
    assert_eq!(arm.write(&zeros, GripperCommand::Open), Err(gone));
    assert_eq!(arm.stop(), Err(gone));
    assert_eq!(arm.start(), Err(gone));
    // What holds the arm is still known, for whoever has another way to the wire.
    assert!(!arm.will().is_empty());
}

/// Replies that are lost, cut, and wrong in up to four bytes, id and length too.
#[test]
fn a_bad_line_puts_no_value_on_a_wrong_joint() {
    let bus = Bus::new();
    let mut arm = running(&bus);
    let mut random = Uniforms::new(3);
    bus.tamper(move |_, mut reply| {
        if random.range(0.0, 1.0) > 0.9 {
            let mut pick = |below: usize| random.range(0.0, below as f64) as usize;
            match pick(4) {
                0 => reply.clear(),
                1 => drop(reply.remove(pick(10))),
                _ => {
                    for _ in 0..=pick(4) {
                        let at = pick(10);
                        reply[at] = pick(256) as u8;
                    }
                }
            }
        }
        reply
    });
    let truth = [-48.0, -2.0, 52.0, 102.0, 152.0].map(radians_from_counts);
    let mut troubles = 0;
    for tick in 0..20_000 {
        let state = read(&mut arm, &bus, TICK_NS).unwrap();
        troubles += i32::from(state.trouble.is_some());
        for (value, truth) in state.joints.as_slice().iter().zip(truth) {
            // The joints are 50 counts apart, 0.077 rad; a wrong value whose checksum fits by
            // chance may be taken when it is as near as a joint can have moved.
            assert!(
                (value - truth).abs() < 0.077,
                "tick {tick}: {value} for {truth}"
            );
        }
        bus.clock.advance_ns(1_000_000);
    }
    assert!(troubles > 5_000, "{troubles}");
}

#[test]
fn what_cannot_be_an_arm_is_refused() {
    type Change = fn(&mut ServoArmConfig);
    let changes: [Change; 6] = [
        |c| c.joints.truncate(4),
        |c| c.joints[1].id = 1,
        |c| c.gripper.id = 254,
        |c| c.joints[2].zero_counts = 100,
        |c| c.gripper.open_counts = 2000,
        |c| c.max_speed_rad_s = f64::NAN,
    ];
    let refused = changes.map(|change| {
        let mut config = config();
        change(&mut config);
        config.check(&chain()).unwrap_err()
    });
    let [joints, twice, no_id, range, gripper, speed] = refused;
    let four = ServoArmConfigError::Joints {
        joints: 5,
        servos: 4,
    };
    assert_eq!(joints, four);
    assert_eq!(
        (twice, no_id),
        (ServoArmConfigError::Id(1), ServoArmConfigError::Id(254))
    );
    assert!(matches!(range, ServoArmConfigError::Range { joint: 2, .. }));
    assert_eq!(gripper, ServoArmConfigError::Gripper);
    assert_eq!(speed, ServoArmConfigError::NotPositive);
    assert_eq!(config().check(&chain()), Ok(()));
}
