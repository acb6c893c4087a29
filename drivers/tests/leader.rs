//! A leader arm of servos on the real serial path, led by hand: read, and never under torque.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use hilt_drivers::{
    Teleop,
    bus::{Family, Register, SerialWire, sts3215, xseries},
    emulated::{BusHandle, PtyBus},
    hands::{
        HandDevice, Leader, LeaderConfig,
        leader::{Clutch, FullStep},
    },
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic};

/// Somebody holds the joints: the first one here, the gripper there, counts.
fn lead(bus: &BusHandle, joint: f64, gripper: f64) {
    bus.look(|bus| {
        bus.put(1, joint);
        bus.put(6, gripper);
    });
}

/// What the leader says, led so, as soon as that is what is asked for.
fn led<T>(
    leader: &mut Leader,
    bus: &BusHandle,
    (joint, gripper): (f64, f64),
    mut look: impl FnMut(&hilt_drivers::Intent) -> Option<T>,
) -> T {
    loop {
        lead(bus, joint, gripper);
        Monotonic.sleep_until_ns(Monotonic.now_ns() + 10_000_000);
        if let Some(intent) = leader.intent(Monotonic.now_ns()).unwrap()
            && let Some(found) = look(&intent)
        {
            return found;
        }
    }
}

#[test]
fn leaders_of_feetech_servos_are_led_and_never_under_torque() {
    is_led_and_never_under_torque(Family::Sts3215, sts3215::TORQUE_ENABLE);
}

#[test]
fn leaders_of_dynamixel_servos_are_led_and_never_under_torque() {
    is_led_and_never_under_torque(Family::DynamixelX, xseries::TORQUE_ENABLE);
}

fn is_led_and_never_under_torque(family: Family, torque_enable: Register) {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = rig::bus(family);
    // As it was left: holding.
    bus.poke(6, torque_enable, 1);
    let mut pty = PtyBus::start(bus, &folder.path().join("bus")).unwrap();
    let wire = SerialWire::open(pty.path().to_str().unwrap(), 1_000_000).unwrap();
    let arm = Box::new(rig::arm(family, wire));
    let clutch = Clutch::new(LeaderConfig::default(), FullStep { m: 0.5, rad: 0.5 });
    let mut leader = Leader::start(arm, 0.1, clutch).unwrap();
    let bus = pty.handle();

    let (closed, open) = (2048.0, 2900.0);
    leader.take(true);
    led(&mut leader, &bus, (2048.0, closed), |intent| {
        assert_eq!(intent.motion[0], [0.0; 6], "a take-over is no jump");
        Some(())
    });
    // A tenth of a turn about y, of which the tool is half a metre away: within one step. Reads in
    // the middle of the hand's way are steps too, so they are summed.
    let (mut pitched, mut forth) = (0.0, 0.0);
    led(&mut leader, &bus, (2048.0 + 409.6, closed), |intent| {
        let [x, _, _, _, pitch, _] = intent.motion[0];
        (pitched, forth) = (pitched + 0.5 * pitch, forth + 0.5 * x);
        (pitched > 0.62).then_some(())
    });
    assert!((pitched - 0.628).abs() < 0.01, "{pitched} rad");
    assert!((forth - 0.4 * 0.628_f64.sin()).abs() < 0.01, "{forth} m");
    let told = led(&mut leader, &bus, (2048.0 + 409.6, open), |intent| {
        intent.gripper[0]
    });
    assert_eq!(told, GripperCommand::Open);

    for id in 1..=6 {
        let torque = bus.look(|bus| bus.peek(id, torque_enable));
        assert_eq!(torque, Some(0), "servo {id}");
    }
    pty.unplug();
    let gone = loop {
        if let Err(error) = leader.intent(Monotonic.now_ns()) {
            break error.to_string();
        }
    };
    assert!(gone.contains("the leader arm is gone"), "{gone}");
}
