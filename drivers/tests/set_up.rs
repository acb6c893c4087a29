//! Looking for servos and setting them up, over a serial device with emulated servos behind it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use hilt_drivers::{
    bus::{
        Family, Protocol, Request, SerialWire, SetUpError, Settings, find, set_up, sts3215, xseries,
    },
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, Heard, PtyBus, ServoSetup},
};

const BOTH: [Family; 2] = [Family::Sts3215, Family::DynamixelX];

/// Servos at 1 Mbaud that hear at their own rate only.
fn bus(family: Family, ids: &[u8]) -> EmulatedBus {
    let setup = |id: &u8| ServoSetup {
        id: *id,
        counts: 2048.0,
        rest_counts: 2048.0,
    };
    let setups: Vec<_> = ids.iter().map(setup).collect();
    let mut bus = EmulatedBus::of(family, &setups, BYTE_NS_1M_BAUD);
    bus.heed_baud();
    bus
}

fn open(path: &Path) -> impl FnMut(u32) -> Result<SerialWire, hilt_drivers::bus::OpenError> {
    let path = path.to_str().unwrap().to_owned();
    move |baud| SerialWire::open(&path, baud)
}

#[test]
fn servos_of_either_family_are_found_at_their_rate() {
    for family in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let pty = PtyBus::start(bus(family, &[2, 5, 7]), &folder.path().join("bus")).unwrap();
        let mut rates = family.table().baud_rates.iter();
        let slow = rates.position(|rate| *rate == 57_600).unwrap() as i32;
        pty.handle()
            .look(|bus| bus.poke(5, family.table().baud_rate, slow));
        // On a machine that is busy an answer comes late now and then.
        let found = (0..20)
            .map(|_| find(open(pty.path()), &BOTH, &[1_000_000, 57_600], 1..=9).unwrap())
            .find(|found| found.len() == 3)
            .unwrap();
        let (model, name, firmware, protocol) = match family {
            Family::Sts3215 => (777, "STS3215", "3.10", Protocol::Feetech),
            Family::DynamixelX => (1200, "XL330-M288", "52", Protocol::Dynamixel),
        };
        let ids: Vec<_> = found.iter().map(|servo| (servo.id, servo.baud)).collect();
        assert_eq!(ids, [(2, 1_000_000), (7, 1_000_000), (5, 57_600)]);
        for servo in &found {
            assert_eq!(servo.protocol, protocol);
            assert_eq!((servo.model, servo.name), (model, Some(name)));
            assert_eq!(servo.firmware, firmware);
        }
    }
}

/// A servo as it comes from the maker, all alone, is given its place in an arm, and keeps it without
/// power.
#[test]
fn a_new_servo_is_set_up() {
    for family in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let mut new = bus(family, &[1]);
        match family {
            Family::Sts3215 => new.poke(1, sts3215::PHASE, 12 | 16),
            Family::DynamixelX => new.poke(1, xseries::OPERATING_MODE, 4),
        }
        let pty = PtyBus::start(new, &folder.path().join("bus")).unwrap();
        let to = Settings {
            id: 6,
            baud: 115_200,
        };
        let rates = [115_200, 1_000_000];
        let done = (0..20).find_map(|_| set_up(open(pty.path()), family, &rates, to).ok());
        let (_, after) = done.unwrap();
        assert_eq!((after.id, after.baud), (6, 115_200));
        let handle = pty.handle();
        handle.look(|bus| bus.power_cycle(6));
        let table = family.table();
        let kept = handle.look(|bus| {
            let read = |register| bus.peek(6, register).unwrap();
            [table.mode, table.return_delay, table.baud_rate].map(read)
        });
        let rate = table.baud_rates.iter().position(|rate| *rate == 115_200);
        assert_eq!(kept, [table.mode_position, 0, rate.unwrap() as i32]);
        if family == Family::Sts3215 {
            let locks = handle.look(|bus| {
                let read = |register| bus.peek(6, register).unwrap();
                [sts3215::LOCK, sts3215::PHASE].map(read)
            });
            assert_eq!(locks, [1, 12]);
        }
    }
}

/// Also when they share an id, as servos do that come from the maker.
#[test]
fn one_servo_at_a_time() {
    for (family, ids) in [(Family::Sts3215, [1, 4]), (Family::DynamixelX, [1, 1])] {
        let folder = tempfile::tempdir().unwrap();
        let pty = PtyBus::start(bus(family, &ids), &folder.path().join("bus")).unwrap();
        let to = Settings {
            id: 6,
            baud: 1_000_000,
        };
        let several =
            (0..20).find_map(
                |_| match set_up(open(pty.path()), family, &[1_000_000], to) {
                    Err(SetUpError::Several(ids)) => Some(ids),
                    _ => None,
                },
            );
        assert!(several.unwrap().starts_with(&[1]));
        let protocol = family.protocol();
        let writes = |heard: &Heard| {
            let mut room = [0; 80];
            matches!(heard.said(protocol, &mut room), Some(Request::Write { .. }))
        };
        assert!(!pty.handle().look(|bus| bus.heard().any(writes)));
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let pty = PtyBus::start(bus(Family::DynamixelX, &[]), &folder.path().join("bus")).unwrap();
    let refused = |id, baud| {
        let to = Settings { id, baud };
        set_up(open(pty.path()), Family::DynamixelX, &[1_000_000], to).unwrap_err()
    };
    assert!(matches!(
        refused(253, 1_000_000),
        SetUpError::Id { last: 252, .. }
    ));
    assert!(matches!(refused(6, 500_000), SetUpError::Baud { .. }));
    assert_eq!(pty.handle().look(|bus| bus.heard().count()), 0);
    assert!(matches!(refused(6, 1_000_000), SetUpError::Nobody));
}
