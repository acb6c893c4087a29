//! A tick of the arm of servos allocates nothing, whatever the bus does. In a program of its own:
//! the allocator counts for all of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hilt_drivers::{
    Arm, ArmError,
    bus::{
        Direction, Family, GripperServo, JointServo, ServoArm, ServoArmConfig, Wire, WireError,
        feetech::{LONGEST, Request, Scan, Status, entries, scan},
    },
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::{GripperCommand, noise::Uniforms};
use nalgebra::{Isometry3, Vector3};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: all is handed on to the system's allocator; the counter takes no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Servos that go where they are told at once, on a line with faults, without an allocation.
struct Line {
    now_ns: u64,
    memories: [[u8; 128]; 6],
    coming: [u8; 512],
    end: usize,
    random: Uniforms,
    /// Share of bytes that are wrong.
    errors: f64,
    gone: bool,
}

impl Line {
    fn reply(&mut self, place: usize, address: u8, count: u8) {
        let at = usize::from(address);
        let status = Status {
            id: place as u8 + 1,
            error: 0,
            parameters: &self.memories[place][at..at + usize::from(count)],
        };
        self.end += status.encode(&mut self.coming[self.end..]).unwrap();
    }

    fn put(&mut self, id: u8, address: u8, data: &[u8]) {
        let (place, at) = (usize::from(id) - 1, usize::from(address));
        self.memories[place][at..at + data.len()].copy_from_slice(data);
    }
}

impl Wire for Line {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        if self.gone {
            return Err(WireError::Unplugged);
        }
        let Scan::Frame { frame, .. } = scan(bytes, LONGEST) else {
            return Ok(());
        };
        match Request::parse(&frame).unwrap() {
            Request::Ping { id } => self.reply(usize::from(id) - 1, 0, 0),
            Request::Read { id, address, count } => {
                self.reply(usize::from(id) - 1, address, count);
            }
            Request::Write { id, address, data } => {
                self.put(id, address, data);
                self.reply(usize::from(id) - 1, 0, 0);
            }
            Request::SyncRead {
                address,
                count,
                ids,
            } => {
                for id in ids {
                    self.reply(usize::from(*id) - 1, address, count);
                }
            }
            Request::SyncWrite {
                address,
                count,
                data,
            } => {
                for (id, data) in entries(data, count) {
                    self.put(id, address, data);
                }
            }
        }
        for byte in &mut self.coming[..self.end] {
            if self.random.range(0.0, 1.0) < self.errors {
                *byte ^= 0xA5;
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        if self.gone {
            return Err(WireError::Unplugged);
        }
        let bytes = std::mem::take(&mut self.end);
        buffer[..bytes].copy_from_slice(&self.coming[..bytes]);
        let next_ns = match bytes {
            0 => until_ns,
            _ => self.now_ns + 10_000 * bytes as u64 + 200_000,
        };
        self.now_ns = self.now_ns.max(next_ns);
        Ok(bytes)
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.end = 0;
        // Gone for good somewhere on the way, so that this path is walked too.
        self.gone |= self.now_ns > 60_000_000_000;
        Ok(())
    }
}

#[test]
fn no_tick_allocates() {
    let joint = Joint {
        parent_from_joint: Isometry3::identity(),
        axis: Vector3::y_axis(),
        kind: JointKind::Revolute,
        lower: -1.5,
        upper: 1.5,
    };
    let chain = Chain::new(vec![joint; 5], Isometry3::identity()).unwrap();
    let config = ServoArmConfig {
        family: Family::Sts3215,
        joints: (1..=5)
            .map(|id| JointServo {
                id,
                zero_counts: 2048,
                direction: Direction::Along,
            })
            .collect(),
        gripper: GripperServo {
            id: 6,
            open_counts: 2048,
            closed_counts: 2000,
            open_width_m: 0.1,
            closed_width_m: 0.0,
        },
        baud: 1_000_000,
        max_speed_rad_s: 10.0,
    };
    let mut memory = [0; 128];
    memory[42..44].copy_from_slice(&2048u16.to_le_bytes());
    memory[56..58].copy_from_slice(&2048u16.to_le_bytes());
    let line = Line {
        now_ns: 0,
        memories: [memory; 6],
        coming: [0; 512],
        end: 0,
        random: Uniforms::new(5),
        errors: 0.002,
        gone: false,
    };
    let mut arm = ServoArm::new(line, chain, config).unwrap();
    while arm.start().is_err() {}

    let (mut good, mut troubled, mut gone) = (0, 0, 0);
    let before = CALLS.get();
    for tick in 0u64..100_000 {
        let now_ns = arm.wire().now_ns();
        // Every other tick has time to ask again.
        let time_ns = 2_000_000 + tick % 2 * 3_000_000;
        let target = match arm.read_state(now_ns, now_ns + time_ns) {
            Ok(state) => {
                match state.trouble {
                    None => good += 1,
                    Some(_) => troubled += 1,
                }
                state.joints
            }
            Err(error) => {
                assert_eq!(error, ArmError::Unplugged);
                gone += 1;
                arm.chain().zeros()
            }
        };
        let written = arm.write(&target, GripperCommand::Open);
        assert_eq!(written.is_ok(), gone == 0);
        if tick % 100 == 0 {
            assert_eq!(arm.stop().is_ok(), gone == 0);
            while gone == 0 && arm.start().is_err() {}
        }
    }
    assert_eq!(CALLS.get() - before, 0);
    let walked = [good, troubled, gone];
    assert!(walked.iter().all(|ticks| *ticks > 1_000), "{walked:?}");
}
