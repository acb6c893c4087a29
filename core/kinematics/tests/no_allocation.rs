//! Kinematics may run on the control thread: it does not touch the heap.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod arms;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use arms::{ARMS, arm};
use hilt_kinematics::{Ik, IkOptions};
use nalgebra::Isometry3;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn solving_allocates_nothing() {
    for (name, _, _) in ARMS {
        let chain = arm(name);
        let posture = chain.zeros();
        for posture in [None, Some(posture)] {
            let options = IkOptions {
                posture,
                ..IkOptions::default()
            };
            let ik = Ik::new(chain.clone(), options);
            let mut q = ik.chain().zeros();

            let before = ALLOCATIONS.get();
            assert!(before > 0, "the counter counts");
            for i in 0..100 {
                // In reach, out of reach, not a number.
                let x = if i == 50 {
                    f64::NAN
                } else {
                    0.02 * f64::from(i)
                };
                q = ik.solve(&Isometry3::translation(x, 0.1, 0.5), &q).joints;
            }
            assert_eq!(ALLOCATIONS.get(), before, "{name}");
        }
    }
}
