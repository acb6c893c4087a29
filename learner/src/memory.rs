//! How this process holds memory.

/// Keeps freed memory in the process. An update frees and asks again for the same few hundred
/// megabytes; given back to the kernel in between, every page of it is mapped and zeroed anew, which
/// took an eighth of the time (4×4×512 maps, batch 256). Called once, first thing in `main`.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes two numbers of the allocator; no other thread runs yet, and any
    // value is allowed (one that is refused changes nothing).
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
