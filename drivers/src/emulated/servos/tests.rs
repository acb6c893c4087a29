use super::*;
use crate::bus::feetech::{self, Request, Scan, Status};
use crate::bus::sts3215::{
    GOAL_POSITION, POSITION_OFFSET, PRESENT_POSITION, PRESENT_SPEED, RESPONSE_LEVEL, RETURN_DELAY,
    STATUS, TORQUE_ENABLE,
};

const MS: u64 = 1_000_000;

fn bus(byte_ns: u64) -> EmulatedBus {
    let setup = |id| ServoSetup {
        id,
        counts: 1000.0 + 10.0 * f64::from(id),
        rest_counts: 500.0,
    };
    EmulatedBus::new(&[1, 2, 3].map(setup), byte_ns)
}

fn tell(bus: &mut EmulatedBus, now_ns: u64, request: Request<'_>) {
    let mut bytes = [0; 64];
    let size = request.encode(&mut bytes).unwrap();
    bus.hear(now_ns, &bytes[..size]);
}

/// Id, error and parameters of every status that is through.
fn replies(bus: &mut EmulatedBus, now_ns: u64) -> Vec<(u8, u8, Vec<u8>)> {
    let mut bytes = [0; 512];
    let count = bus.say(now_ns, &mut bytes);
    let (mut replies, mut rest) = (Vec::new(), &bytes[..count]);
    while let Scan::Frame { skipped, frame } = feetech::scan(rest, 64) {
        assert_eq!(skipped, 0);
        let status = Status::parse(&frame).unwrap();
        replies.push((status.id, status.error, status.parameters.to_vec()));
        rest = &rest[frame.bytes().len()..];
    }
    assert!(rest.is_empty());
    replies
}

#[test]
fn it_answers_pings_reads_and_writes_of_the_servo_that_is_meant() {
    let mut bus = bus(0);
    tell(&mut bus, 0, Request::Ping { id: 2 });
    tell(&mut bus, 0, Request::Ping { id: 7 });
    assert_eq!(replies(&mut bus, 0), [(2, 0, vec![])]);
    let read = Request::Read {
        id: 3,
        address: PRESENT_POSITION.address,
        count: 2,
    };
    tell(&mut bus, 0, read);
    assert_eq!(replies(&mut bus, 0), [(3, 0, vec![6, 4])]);
    let write = Request::Write {
        id: 3,
        address: TORQUE_ENABLE.address,
        data: &[1],
    };
    tell(&mut bus, 0, write);
    assert_eq!(replies(&mut bus, 0), [(3, 0, vec![])]);
    let torque: Vec<bool> = bus.servos().map(|servo| servo.torque).collect();
    assert_eq!(torque, [false, false, true]);
    bus.poke(3, STATUS, 0x20);
    tell(&mut bus, 0, write);
    assert_eq!(replies(&mut bus, 0), [(3, 0x20, vec![])]);
    bus.poke(3, RESPONSE_LEVEL, 0);
    tell(&mut bus, 0, write);
    assert_eq!(replies(&mut bus, 0), [], "response level 0");
}

#[test]
fn what_is_said_to_all_at_once_is_obeyed_in_silence() {
    let mut bus = bus(0);
    let write = Request::Write {
        id: BROADCAST,
        address: TORQUE_ENABLE.address,
        data: &[1],
    };
    tell(&mut bus, 0, write);
    let goals = Request::SyncWrite {
        address: GOAL_POSITION.address,
        count: 2,
        data: &[1, 0xE8, 3, 3, 0xD0, 7],
    };
    tell(&mut bus, 0, goals);
    assert_eq!(replies(&mut bus, 0), []);
    assert!(bus.servos().all(|servo| servo.torque));
    let goals: Vec<f64> = bus.servos().map(|servo| servo.goal_counts).collect();
    assert_eq!(goals, [1000.0, 1020.0, 2000.0]);
    bus.advance(5_000 * MS);
    assert_eq!(bus.servo(3).unwrap().counts, 2000.0);
    assert!(!bus.went_limp());
    bus.power_cycle(3);
    assert!(bus.went_limp());
}

#[test]
fn driven_joints_are_where_they_are_driven_and_report_it() {
    let mut bus = bus(0);
    bus.set_driven(true);
    bus.poke(2, POSITION_OFFSET, -100);
    let write = Request::Write {
        id: BROADCAST,
        address: TORQUE_ENABLE.address,
        data: &[1, 0, 0xD0, 7],
    };
    tell(&mut bus, 0, write);
    bus.advance(1_000 * MS);
    let stands = bus.servo(1).unwrap();
    assert_eq!((stands.counts, stands.goal_counts), (1010.0, 2000.0));
    assert!(stands.torque);
    bus.drive(2, 1234.4, -50.0);
    bus.advance(2_000 * MS);
    let view = bus.servo(2).unwrap();
    assert_eq!((view.counts, view.counts_per_s), (1234.4, -50.0));
    assert_eq!(bus.peek(2, PRESENT_POSITION), Some(1234));
    assert_eq!(bus.peek(2, PRESENT_SPEED), Some(-50));
    // Left to itself it goes on from there.
    bus.set_driven(false);
    bus.advance(5_000 * MS);
    assert_eq!(bus.servo(2).unwrap().counts, 2000.0);
}

#[test]
fn a_sync_read_is_answered_in_its_order_with_the_wires_timing() {
    let mut bus = bus(BYTE_NS_1M_BAUD);
    let zero_delay = Request::Write {
        id: BROADCAST,
        address: RETURN_DELAY.address,
        data: &[0],
    };
    tell(&mut bus, 0, zero_delay);
    let read = Request::SyncRead {
        address: PRESENT_POSITION.address,
        count: 2,
        ids: &[3, 9, 1],
    };
    // 11 bytes of request, two replies of 8 bytes and the silence of one.
    let begin_ns = 10 * MS;
    tell(&mut bus, begin_ns, read);
    let first_ns = begin_ns + 12 * BYTE_NS_1M_BAUD;
    let last_ns = begin_ns + (11 + 3 * 8) * BYTE_NS_1M_BAUD;
    assert_eq!(bus.under_way_ns(), Some((first_ns, last_ns)));
    assert_eq!(bus.say(first_ns - 1, &mut [0; 8]), 0);
    assert_eq!(bus.say(last_ns - 1, &mut [0; 64]), 15);
    assert_eq!(bus.say(last_ns, &mut [0; 64]), 1);
}

#[test]
fn a_new_servo_takes_half_a_millisecond_to_answer() {
    let mut bus = bus(BYTE_NS_1M_BAUD);
    tell(&mut bus, 0, Request::Ping { id: 1 });
    let first_ns = 7 * BYTE_NS_1M_BAUD + 500_000;
    assert_eq!(bus.under_way_ns().unwrap().0, first_ns);
}

#[test]
fn an_echo_comes_before_the_answer() {
    let mut bus = bus(0);
    bus.set_echo(true);
    tell(&mut bus, 0, Request::Ping { id: 1 });
    let mut bytes = [0; 32];
    assert_eq!(bus.say(0, &mut bytes), 12);
    assert_eq!(
        bytes[..12],
        [255, 255, 1, 2, 1, 251, 255, 255, 1, 2, 0, 252]
    );
}

#[test]
fn requests_are_kept_with_their_times() {
    let mut bus = bus(BYTE_NS_1M_BAUD);
    tell(&mut bus, 3 * MS, Request::Ping { id: 9 });
    let last = bus.heard().next_back().unwrap();
    assert_eq!(last.at_ns, 3 * MS + 6 * BYTE_NS_1M_BAUD);
    assert_eq!(last.request(), Some(Request::Ping { id: 9 }));
    for _ in 0..2 * REMEMBERED {
        tell(&mut bus, 3 * MS, Request::Ping { id: 8 });
    }
    assert_eq!(bus.heard().count(), REMEMBERED);
}

#[test]
fn noise_pieces_and_wrong_checksums_do_not_keep_it_from_hearing() {
    let mut bus = bus(0);
    bus.hear(0, &[1, 2, 0xFF, 0xFF, 1, 2, 1, 0]);
    tell(&mut bus, 0, Request::Ping { id: 1 });
    assert_eq!(replies(&mut bus, 0).len(), 1);
    // The beginning of a long frame, then nothing for a while.
    bus.hear(0, &[0xFF, 0xFF, 1, 200, 3]);
    tell(&mut bus, 6 * MS, Request::Ping { id: 1 });
    assert_eq!(replies(&mut bus, 6 * MS).len(), 1);
    assert_eq!(bus.not_understood(), 0);
    // Nothing a servo knows: instruction 9.
    bus.hear(6 * MS, &[0xFF, 0xFF, 1, 2, 9, 243]);
    assert_eq!(bus.not_understood(), 1);
}
