//! A bus of emulated Dynamixel servos by itself: what it says, and how long that takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_drivers::{
    bus::{
        Family, Next, Protocol, Request,
        dynamixel::{ALERT, BROADCAST, Block, FastReply},
        xseries as x,
    },
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, ServoSetup},
};

const MS: u64 = 1_000_000;
const IDS: [u8; 3] = [1, 2, 3];

fn bus() -> EmulatedBus {
    let setup = |id| ServoSetup {
        id,
        counts: 1000.0 + f64::from(id),
        rest_counts: 500.0,
    };
    let mut bus = EmulatedBus::of(Family::DynamixelX, &IDS.map(setup), BYTE_NS_1M_BAUD);
    IDS.iter().for_each(|id| bus.poke(*id, x::RETURN_DELAY, 0));
    bus
}

/// Says it at `now_ns`; gives how many bytes that were.
fn tell(bus: &mut EmulatedBus, now_ns: u64, request: Request<'_>) -> u64 {
    let mut bytes = [0; 128];
    let size = request.encode(&mut bytes).unwrap();
    bus.hear(now_ns, &bytes[..size]);
    size as u64
}

fn said(bus: &mut EmulatedBus) -> Vec<u8> {
    let mut bytes = [0; 1024];
    let count = bus.say(u64::MAX, &mut bytes);
    bytes[..count].to_vec()
}

/// Id, error and parameters of every status.
fn replies(bus: &mut EmulatedBus) -> Vec<(u8, u8, Vec<u8>)> {
    let bytes = said(bus);
    let (mut replies, mut rest, mut room) = (Vec::new(), &bytes[..], [0; 256]);
    while let Next::Frame { bytes, said, .. } =
        Protocol::Dynamixel.next_status(rest, 256, &mut room)
    {
        let status = said.unwrap();
        replies.push((status.id, status.error, status.parameters.to_vec()));
        rest = &rest[bytes.len()..];
    }
    assert!(rest.is_empty());
    replies
}

fn positions() -> (u16, u16) {
    (
        x::PRESENT_POSITION.address.into(),
        x::PRESENT_POSITION.bytes.into(),
    )
}

#[test]
fn everybody_introduces_itself_in_turn() {
    let mut bus = bus();
    tell(&mut bus, 0, Request::Ping { id: BROADCAST });
    let introduction = vec![0xB0, 0x04, 52];
    assert_eq!(
        replies(&mut bus),
        IDS.map(|id| (id, 0, introduction.clone()))
    );
    bus.poke(2, x::HARDWARE_ERROR, 0x20);
    tell(&mut bus, MS, Request::Ping { id: 2 });
    assert_eq!(replies(&mut bus), [(2, ALERT, introduction)]);
}

#[test]
fn writes_are_acknowledged_or_refused() {
    let mut bus = bus();
    let mut write = |at_ms: u64, register: hilt_drivers::bus::Register, value| {
        let mut room = [0; 4];
        let request = Request::Write {
            id: 3,
            address: register.address.into(),
            data: register.encoded(value, &mut room),
        };
        tell(&mut bus, at_ms * MS, request);
        replies(&mut bus)
    };
    assert_eq!(write(1, x::TORQUE_ENABLE, 1), [(3, 0, vec![])]);
    assert_eq!(write(2, x::ID, 9), [(3, 7, vec![])]);
    assert_eq!(write(3, x::GOAL_POSITION, 5000), [(3, 6, vec![])]);
    assert_eq!(write(4, x::STATUS_RETURN_LEVEL, 1), [(3, 0, vec![])]);
    assert_eq!(write(5, x::GOAL_POSITION, 2000), []);
    assert_eq!(bus.peek(3, x::GOAL_POSITION), Some(2000));
}

#[test]
fn a_sync_read_takes_a_frame_for_each_and_a_fast_one_a_frame_for_all() {
    let (address, count) = positions();
    let mut bus = bus();
    let begin_ns = MS;
    let request = Request::SyncRead {
        address,
        count,
        ids: &IDS,
    };
    let bytes = tell(&mut bus, begin_ns, request) + 3 * (11 + 4);
    let last_ns = bus.under_way_ns().unwrap().1;
    assert_eq!(last_ns, begin_ns + bytes * BYTE_NS_1M_BAUD);
    let expected = [0xE9, 0xEA, 0xEB].map(|low| vec![low, 3, 0, 0]);
    let heard: Vec<_> = replies(&mut bus).into_iter().map(|r| r.2).collect();
    assert_eq!(heard, expected);

    let begin_ns = 10 * MS;
    let request = Request::FastSyncRead {
        address,
        count,
        ids: &IDS,
    };
    let bytes = tell(&mut bus, begin_ns, request) + 8 + 3 * (4 + 4);
    let last_ns = bus.under_way_ns().unwrap().1;
    assert_eq!(last_ns, begin_ns + bytes * BYTE_NS_1M_BAUD);
    let bytes = said(&mut bus);
    let (mut reply, mut rest) = (FastReply::new(3, 4), &bytes[..]);
    for (id, expected) in IDS.into_iter().zip(expected) {
        let Block::Status { used, status } = reply.next(rest, &mut false) else {
            panic!("there is no answer of servo {id}");
        };
        assert_eq!((status.id, status.parameters), (id, &expected[..]));
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
}

/// The servos behind one that is not there, or too old to know of it, wait for it in vain.
#[test]
fn a_fast_answer_ends_where_a_servo_is_missing() {
    let (address, count) = positions();
    for (ids, old, blocks) in [
        ([1, 9, 3], None, 1),
        ([3, 2, 1], Some(2), 1),
        ([9, 1, 2], None, 0),
    ] {
        let mut bus = bus();
        if let Some(id) = old {
            bus.poke(id, x::FIRMWARE, 45);
        }
        let request = Request::FastSyncRead {
            address,
            count,
            ids: &ids,
        };
        tell(&mut bus, 0, request);
        let expected = match blocks {
            0 => 0,
            blocks => FastReply::bytes(blocks, count.into()),
        };
        assert_eq!(said(&mut bus).len(), expected, "{ids:?}");
    }
}
