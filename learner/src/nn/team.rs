//! Work on the threads that torch itself computes with.
//!
//! torch's threads wait for the next operation by spinning, a few milliseconds long. Threads of our
//! own would have to share the cores with them; a piece of work that goes to the same team does not.

use std::{
    ffi::{c_uint, c_void},
    sync::{Mutex, PoisonError},
    vec,
};

/// Does `work` on every piece, on as many threads as torch was told to use.
pub fn share<T: Send>(pieces: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = (tch::get_num_threads().max(1) as usize).min(pieces.len());
    let task = Task {
        pieces: Mutex::new(pieces.into_iter()),
        work: &work,
    };
    if threads < 2 {
        return task.run();
    }
    match team() {
        Some(parallel) => {
            // SAFETY: libgomp calls `member` with this pointer on its threads, and returns when all
            // have returned: `task` outlives that. `Task<T>` is `Sync`, for `T: Send`.
            unsafe {
                parallel(
                    member::<T>,
                    std::ptr::from_ref(&task).cast_mut().cast(),
                    threads as c_uint,
                    0,
                );
            }
        }
        None => std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| task.run());
            }
            task.run();
        }),
    }
}

struct Task<'a, T> {
    pieces: Mutex<vec::IntoIter<T>>,
    work: &'a (dyn Fn(T) + Sync),
}

impl<T> Task<'_, T> {
    fn run(&self) {
        let next = || {
            let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
            pieces.next()
        };
        while let Some(piece) = next() {
            (self.work)(piece);
        }
    }
}

/// One thread's part. A panic in it ends the process: there is no way out through libgomp.
extern "C" fn member<T>(task: *mut c_void) {
    // SAFETY: `share` passes a `Task<T>` that lives until every member has returned, and all that
    // they do with it goes through a shared reference.
    let task = unsafe { &*task.cast::<Task<'_, T>>() };
    task.run();
}

/// `GOMP_parallel(body, data, threads, flags)`: what GCC makes of `#pragma omp parallel`.
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// libgomp's entry, if it is what torch was built with.
fn team() -> Option<Parallel> {
    // SAFETY: looks up a name among the libraries that are loaded.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr()) };
    // SAFETY: a function of this name has this type: it is part of libgomp's stable interface
    // (version GOMP_4.0).
    (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Parallel>(found) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        tch::set_num_threads(3);
        assert!(team().is_some() || cfg!(not(target_os = "linux")));
        for pieces in [0, 1, 2, 100] {
            let mut done = vec![0u32; pieces];
            let sum = AtomicU64::new(0);
            share(done.iter_mut().enumerate().collect(), |(i, count)| {
                *count += 1;
                sum.fetch_add(i as u64, Ordering::Relaxed);
            });
            assert!(done.iter().all(|&count| count == 1));
            let want: usize = (0..pieces).sum();
            assert_eq!(sum.load(Ordering::Relaxed), want as u64);
        }
    }
}
