//! Kinematics may run on the control thread: it does not touch the heap.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hilt_kinematics::{Chain, Ik, IkOptions, Joint, JointKind};
use nalgebra::{Isometry3, Translation3, Vector3};

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
    let joint = |axis, z: f64| Joint {
        parent_from_joint: Translation3::new(0.0, 0.0, z).into(),
        axis,
        kind: JointKind::Revolute,
        lower: -2.0,
        upper: 2.0,
    };
    let (x, y, z) = (Vector3::x_axis(), Vector3::y_axis(), Vector3::z_axis());
    let joints = vec![
        joint(z, 0.1),
        joint(y, 0.2),
        joint(y, 0.3),
        joint(y, 0.3),
        joint(x, 0.1),
        joint(z, 0.1),
    ];
    let chain = Chain::new(joints, Isometry3::identity()).unwrap();
    let ik = Ik::new(chain, IkOptions::default());
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
    assert_eq!(ALLOCATIONS.get(), before);
}
