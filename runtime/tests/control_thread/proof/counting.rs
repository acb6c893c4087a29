//! Counts what a thread allocates and frees, in Rust, in C and in C++.
//!
//! This program defines the C library's own names, and a program's definitions win over a library's:
//! whoever calls `malloc`, be it Rust's allocator, `strdup` or `operator new`, comes through here and
//! is handed on to glibc under its other name. The counters are the thread's own and need no memory
//! that would have to be allocated.

use std::{cell::Cell, ffi::c_void, ptr};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static FREES: Cell<u64> = const { Cell::new(0) };
}

/// What a thread has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub allocations: u64,
    pub frees: u64,
}

impl Counts {
    /// The calling thread's.
    pub fn here() -> Self {
        Self {
            allocations: ALLOCATIONS.get(),
            frees: FREES.get(),
        }
    }

    /// What was done since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            allocations: self.allocations - before.allocations,
            frees: self.frees - before.frees,
        }
    }
}

fn count(counter: &'static std::thread::LocalKey<Cell<u64>>) {
    counter.set(counter.get() + 1);
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
    fn __libc_valloc(size: usize) -> *mut c_void;
    fn __libc_pvalloc(size: usize) -> *mut c_void;
    fn __libc_free(memory: *mut c_void);
}

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    count(&ALLOCATIONS);
    // SAFETY: any size is allowed.
    unsafe { __libc_malloc(size) }
}

#[unsafe(no_mangle)]
extern "C" fn calloc(items: usize, size: usize) -> *mut c_void {
    count(&ALLOCATIONS);
    // SAFETY: any numbers are allowed.
    unsafe { __libc_calloc(items, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    count(&ALLOCATIONS);
    // SAFETY: the caller's promise is handed on.
    unsafe { __libc_realloc(memory, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(memory: *mut c_void) {
    if !memory.is_null() {
        count(&FREES);
        // SAFETY: the caller's promise is handed on.
        unsafe { __libc_free(memory) }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(
    memory: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> i32 {
    if !alignment.is_power_of_two() || alignment < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let got = memalign(alignment, size);
    if got.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller gives a place to write to.
    unsafe { ptr::write(memory, got) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    memalign(alignment, size)
}

#[unsafe(no_mangle)]
extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    count(&ALLOCATIONS);
    // SAFETY: any numbers are allowed.
    unsafe { __libc_memalign(alignment, size) }
}

#[unsafe(no_mangle)]
extern "C" fn valloc(size: usize) -> *mut c_void {
    count(&ALLOCATIONS);
    // SAFETY: any size is allowed.
    unsafe { __libc_valloc(size) }
}

#[unsafe(no_mangle)]
extern "C" fn pvalloc(size: usize) -> *mut c_void {
    count(&ALLOCATIONS);
    // SAFETY: any size is allowed.
    unsafe { __libc_pvalloc(size) }
}
