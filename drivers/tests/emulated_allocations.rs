//! Nothing below the control loop allocates: an emulated bus in memory, the fault decorator and the
//! arm, through every fault of a wire. In a program of its own: the allocator counts for all of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rig;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use hilt_drivers::{
    Arm,
    bus::Family,
    emulated::MemoryWire,
    faults::{FaultPlan, FaultyWire},
};
use hilt_protocol::GripperCommand;
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

#[test]
fn no_tick_allocates() {
    no_tick_of(Family::Sts3215);
    no_tick_of(Family::DynamixelX);
}

fn no_tick_of(family: Family) {
    let clock = Fake::at(1);
    let wire = MemoryWire::new(rig::bus(family), clock.clone());
    let plan = FaultPlan::random(4, Duration::from_secs(600), 1, 0);
    let mut arm = rig::arm(family, FaultyWire::new(wire, plan, 0, 0));
    arm.start().unwrap();
    let target = arm.chain().zeros();
    let (mut good, mut troubled, mut refused) = (0, 0, 0);
    let before = CALLS.get();
    for _ in 0..60_000 {
        let now_ns = clock.now_ns();
        match arm.read_state(now_ns, now_ns + 5_000_000) {
            Ok(state) if state.trouble.is_none() => good += 1,
            Ok(_) => troubled += 1,
            Err(_) => refused += 1,
        }
        let _ = arm.write(&target, GripperCommand::Open);
        clock.sleep_until_ns(now_ns + 10_000_000);
    }
    assert_eq!(CALLS.get() - before, 0);
    let walked = [good, troubled, refused];
    assert!(walked.iter().all(|ticks| *ticks > 500), "{walked:?}");
}
