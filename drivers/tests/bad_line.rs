//! A bad line, for long: 1 % of the replies lost and 1 % spoilt, over 100,000 ticks for each family.
//! No value lands on a wrong joint, nothing is allocated, and what passes the check though it is wrong
//! is counted. In a program of its own: the allocator counts for all of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hilt_drivers::{
    Arm, ArmError,
    bus::{Family, Wire, WireError, sts3215::counts_from_radians, xseries},
    emulated::MemoryWire,
};
use hilt_protocol::{GripperCommand, noise::Uniforms};
use hilt_realtime::{Clock, Fake};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all is handed on to the system's allocator; the counter takes no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TICKS: u32 = 100_000;
const MS: u64 = 1_000_000;

/// How replies lie in what comes in one go.
#[derive(Clone, Copy)]
enum Layout6 {
    /// One after the other: bytes of each, and where its id and length are.
    Apart(usize, usize, usize),
    /// In one frame: bytes before the first, bytes of each; the id is each one's second.
    Together(usize, usize),
}

/// Spoils and loses replies.
struct BadLine {
    inner: MemoryWire,
    layout: Layout6,
    random: Uniforms,
    bytes: [u8; 512],
    lost: u64,
    spoilt: u64,
}

impl BadLine {
    /// Loses or spoils the replies in `bytes[..count]`; gives how many bytes are left.
    fn strike(&mut self, count: usize) -> usize {
        let (first, size, id, length) = match self.layout {
            Layout6::Apart(size, id, length) => (0, size, id, length),
            Layout6::Together(first, size) => (first, size, 1, 0),
        };
        // The answer of all servos, not of a single one.
        if count != first + 6 * size {
            return count;
        }
        let mut left = count;
        for servo in (0..6).rev() {
            let from = first + servo * size;
            match self.random.below(100) {
                0 => {
                    self.lost += 1;
                    // Those behind it in the same frame are lost with it.
                    let to = match self.layout {
                        Layout6::Apart(..) => from + size,
                        Layout6::Together(..) => left,
                    };
                    self.bytes.copy_within(to..left, from);
                    left -= to - from;
                }
                1 => {
                    self.spoilt += 1;
                    match self.random.below(4) {
                        0 => self.wrong(from + id),
                        1 => self.wrong(from + length),
                        _ => {
                            for _ in 0..2 + self.random.below(3) {
                                let place = self.random.below(size as u64) as usize;
                                self.wrong(from + place);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        left
    }

    fn wrong(&mut self, place: usize) {
        self.bytes[place] ^= 1 + self.random.below(255) as u8;
    }
}

impl Wire for BadLine {
    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.inner.write(bytes)
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        let came = self.inner.read(&mut self.bytes, until_ns)?;
        let left = self.strike(came);
        buffer[..left].copy_from_slice(&self.bytes[..left]);
        // All that came was lost: the rest of the time passes.
        if came > 0 && left == 0 {
            return self.inner.read(buffer, until_ns);
        }
        Ok(left)
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.inner.drain()
    }
}

/// Drives an arm over such a line; `share` of the spoilt replies pass the family's check by chance.
fn drive(name: &str, family: Family, layout: Layout6, firmware: Option<i32>, share: f64) {
    let clock = Fake::at(MS);
    let wire = MemoryWire::new(rig::bus(family), clock.clone());
    let bus = wire.handle();
    if let Some(version) = firmware {
        bus.look(|bus| (1..=6).for_each(|id| bus.poke(id, xseries::FIRMWARE, version)));
    }
    let line = BadLine {
        inner: wire,
        layout,
        random: Uniforms::new(11),
        bytes: [0; 512],
        lost: 0,
        spoilt: 0,
    };
    let mut arm = rig::arm(family, line);
    while arm.start().is_err() {}
    // Joints 50 counts apart, so that a value of another one is known as such, and near enough to
    // each other to be a plausible move.
    let mut target = arm.chain().zeros();
    for (i, joint) in target.as_mut_slice().iter_mut().enumerate() {
        *joint = f64::from(i as u32) * 50.0 / counts_from_radians(1.0);
    }
    arm.write(&target, GripperCommand::Open).unwrap();
    let mut truth = [0; 5];
    for _ in 0..200 {
        let now_ns = clock.now_ns();
        let _ = arm.read_state(now_ns, now_ns + 8 * MS);
        clock.set_ns(now_ns + 10 * MS);
    }
    let counts_of = |radians: f64| (2048.0 + counts_from_radians(radians)).round() as i32;
    for (id, counts) in (1..).zip(&mut truth) {
        *counts = bus.look(|bus| bus.servo(id).unwrap().counts.round() as i32);
    }
    assert_eq!(truth, [2048, 2098, 2148, 2198, 2248]);

    let (mut good, mut troubled, mut implausible) = (0, 0, 0);
    let (mut of_another, mut residual) = (0, 0);
    let mut last = truth;
    let before = CALLS.get();
    for _ in 0..TICKS {
        let now_ns = clock.now_ns();
        // Time to ask those again whose answer did not come.
        let state = arm.read_state(now_ns, now_ns + 8 * MS).unwrap();
        match state.trouble {
            None => good += 1,
            Some(ArmError::Implausible(_)) => implausible += 1,
            Some(_) => troubled += 1,
        }
        for (place, radians) in state.joints.as_slice().iter().enumerate() {
            let counts = counts_of(*radians);
            // Counted once: a wrong value stays until the next one comes.
            if counts != truth[place] && counts != last[place] {
                residual += 1;
                of_another += u32::from(truth.contains(&counts));
            }
            last[place] = counts;
        }
        arm.write(&target, GripperCommand::Open).unwrap();
        clock.set_ns(now_ns + 10 * MS);
    }
    assert_eq!(CALLS.get() - before, 0, "allocations");
    assert_eq!(of_another, 0, "values on a wrong joint");
    let line = arm.wire();
    let (lost, spoilt) = (line.lost, line.spoilt);
    let passed = residual + implausible;
    println!(
        "{name}: {TICKS} ticks, {good} without trouble, {lost} replies lost, {spoilt} spoilt; \
         {passed} of these passed the check ({:.1e} of them, a random check would let {share:.1e} \
         pass), {implausible} of them could not be, {residual} wrong values were taken; \
         0 values on a wrong joint, 0 allocations",
        f64::from(passed) / spoilt as f64,
    );
    assert!(lost > 5_000 && spoilt > 5_000 && troubled > 5_000 && good > 80_000);
    // Three times as many as by chance would be a check that does not check.
    assert!(f64::from(passed) <= 3.0 + 3.0 * share * spoilt as f64);
}

#[test]
fn a_bad_line_puts_no_value_on_a_wrong_joint() {
    let sts = Layout6::Apart(10, 2, 3);
    drive("Feetech", Family::Sts3215, sts, None, 1.0 / 256.0);
    let share = 1.0 / 65_536.0;
    let apart = Layout6::Apart(19, 4, 5);
    let x = Family::DynamixelX;
    drive("Dynamixel, sync read", x, apart, Some(44), share);
    let together = Layout6::Together(8, 12);
    drive("Dynamixel, fast sync read", x, together, None, share);
}
