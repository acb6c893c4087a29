//! Somebody else's client, `rustypot`, on our emulated buses: it says the same bytes as we do, and
//! understands what they answer; then our arm reads what it wrote.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use std::{error::Error, time::Duration};

use hilt_drivers::{
    Arm, ArmError,
    bus::{Family, Register, Request, SerialWire, sts3215},
    emulated::PtyBus,
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic};
use rustypot::DynamixelProtocolHandler;
use serialport::SerialPort;

const IDS: [u8; 6] = [1, 2, 3, 4, 5, 6];

/// Does it until it goes well: on a machine that is busy the other end answers late now and then.
fn patiently<T, E: std::fmt::Display>(mut act: impl FnMut() -> Result<T, E>) -> T {
    let mut tried = 1;
    loop {
        match act() {
            Ok(done) => return done,
            Err(error) => assert!(tried < 50, "{error}"),
        }
        tried += 1;
    }
}

struct Client {
    port: Box<dyn SerialPort>,
    handler: DynamixelProtocolHandler,
}

impl Client {
    fn new(family: Family, path: &str) -> Self {
        let port = serialport::new(path, 1_000_000);
        let port = port.timeout(Duration::from_millis(100)).open().unwrap();
        let handler = match family {
            Family::Sts3215 => DynamixelProtocolHandler::v1(),
            Family::DynamixelX => DynamixelProtocolHandler::v2(),
        };
        Self { port, handler }
    }

    fn ask<T>(
        &mut self,
        mut what: impl FnMut(
            &DynamixelProtocolHandler,
            &mut dyn SerialPort,
        ) -> Result<T, Box<dyn Error>>,
    ) -> T {
        patiently(|| what(&self.handler, self.port.as_mut()))
    }

    fn read(&mut self, id: u8, register: Register) -> i32 {
        let bytes = self.ask(|h, port| h.read(port, id, register.address, register.bytes));
        register.decode(register, &bytes).unwrap()
    }

    fn write(&mut self, id: u8, register: Register, value: i32) {
        let mut room = [0; 4];
        let bytes = register.encoded(value, &mut room);
        self.ask(|h, port| h.write(port, id, register.address, bytes));
    }

    fn sync_read(&mut self, register: Register) -> Vec<i32> {
        let all = self.ask(|h, port| h.sync_read(port, &IDS, register.address, register.bytes));
        let number = |bytes: &Vec<u8>| register.decode(register, bytes).unwrap();
        all.iter().map(number).collect()
    }

    fn sync_write(&mut self, register: Register, values: &[i32]) {
        let bytes = |value: &i32| register.encode(*value)[..usize::from(register.bytes)].to_vec();
        let all: Vec<_> = values.iter().map(bytes).collect();
        self.ask(|h, port| h.sync_write(port, &IDS, register.address, &all));
    }
}

/// The last frame that a bus has heard.
fn last(pty: &PtyBus) -> Vec<u8> {
    pty.handle()
        .look(|bus| bus.heard().next_back().unwrap().bytes().to_vec())
}

fn ours(family: Family, request: Request<'_>) -> Vec<u8> {
    let mut bytes = [0; 128];
    let size = family.protocol().encode(&request, &mut bytes).unwrap();
    bytes[..size].to_vec()
}

fn meets(family: Family) {
    let folder = tempfile::tempdir().unwrap();
    let pty = PtyBus::start(rig::bus(family), &folder.path().join("bus")).unwrap();
    let path = pty.path().to_str().unwrap();
    let table = family.table();
    let mut client = Client::new(family, path);

    // It finds the servos, and they are what they are.
    assert!(client.ask(|h, port| h.ping(port, 3)));
    assert_eq!(last(&pty), ours(family, Request::Ping { id: 3 }));
    let model = match family {
        Family::Sts3215 => 777,
        Family::DynamixelX => 1200,
    };
    assert_eq!(client.read(3, table.model), model);
    let read = Request::Read {
        id: 3,
        address: table.model.address.into(),
        count: 2,
    };
    assert_eq!(last(&pty), ours(family, read));

    // It moves them.
    for id in IDS {
        client.write(id, table.torque, 1);
    }
    let write = Request::Write {
        id: 6,
        address: table.torque.address.into(),
        data: &[1],
    };
    assert_eq!(last(&pty), ours(family, write));
    let goals = IDS.map(|id| 2048 + 10 * i32::from(id));
    client.sync_write(table.goal, &goals);
    let mut data = Vec::new();
    for (id, goal) in IDS.iter().zip(goals) {
        data.push(*id);
        data.extend(&table.goal.encode(goal)[..usize::from(table.goal.bytes)]);
    }
    let sync_write = Request::SyncWrite {
        address: table.goal.address.into(),
        count: table.goal.bytes.into(),
        data: &data,
    };
    patiently(|| match client.sync_read(table.position) == goals {
        true => Ok(()),
        false => Err("they are still on their way"),
    });
    let heard = pty.handle().look(|bus| {
        let bytes = bus.heard().map(|heard| heard.bytes().to_vec());
        bytes.collect::<Vec<_>>()
    });
    assert!(heard.contains(&ours(family, sync_write)));
    let (address, count) = (table.position.address.into(), table.position.bytes.into());
    let ids = &IDS;
    let sync_read = Request::SyncRead {
        address,
        count,
        ids,
    };
    assert_eq!(last(&pty), ours(family, sync_read));
    if family == Family::DynamixelX {
        client.handler.set_fast_sync_read(true);
        assert_eq!(client.sync_read(table.position), goals);
        let fast = Request::FastSyncRead {
            address,
            count,
            ids,
        };
        assert_eq!(last(&pty), ours(family, fast));
    }
    drop(client);

    // Our arm finds them where it left them.
    let wire = SerialWire::open(path, 1_000_000).unwrap();
    let mut arm = rig::arm(family, wire);
    patiently(|| arm.start());
    let state = patiently(|| {
        let now_ns = Monotonic.now_ns();
        let state = arm.read_state(now_ns, now_ns + 50_000_000)?;
        state.trouble.map_or(Ok(state), Err::<_, ArmError>)
    });
    let radians = |counts: i32| sts3215::radians_from_counts(f64::from(counts - 2048));
    for (joint, goal) in state.joints.as_slice().iter().zip(goals) {
        assert_eq!(*joint, radians(goal));
    }
    let target = arm.chain().zeros();
    arm.write(&target, GripperCommand::Closed).unwrap();
    drop(arm);

    // And it finds what our arm has written.
    let mut client = Client::new(family, path);
    let expected = [2048, 2048, 2048, 2048, 2048, 2000];
    patiently(|| match client.sync_read(table.goal) == expected {
        true => Ok(()),
        false => Err("the goals have not come"),
    });
    assert!(!pty.handle().look(|bus| bus.went_limp()));
}

#[test]
fn it_meets_feetech_servos() {
    meets(Family::Sts3215);
}

#[test]
fn it_meets_dynamixel_servos() {
    meets(Family::DynamixelX);
}
