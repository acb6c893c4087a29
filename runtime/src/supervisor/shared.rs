//! The memory that robot and supervisor share.

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::Arc,
};

use hilt_realtime::wills::{self, AtomicU64};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create},
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

fn bytes(arms: usize) -> usize {
    wills::words(arms) * size_of::<AtomicU64>()
}

/// Memory without a name, all zero, for the wills of so many arms. It cannot shrink.
pub(super) fn make(arms: usize) -> io::Result<OwnedFd> {
    let memory = memfd_create(
        "hilt-wills",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    ftruncate(&memory, bytes(arms) as u64)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(memory)
}

/// The shared memory, in this process. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mapping>);

#[derive(Debug)]
struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: it is a piece of memory that is there until it is dropped, and all access is to atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Shared {
    /// Maps what [`make`] made for so many arms. Its pages are there at once, so that no beat waits
    /// for one.
    pub(super) fn map(memory: &impl AsFd, arms: usize) -> io::Result<Self> {
        let length = bytes(arms);
        let shrinks = !fcntl_get_seals(memory)?.contains(SealFlags::SHRINK);
        if shrinks || fstat(memory)?.st_size != length as i64 {
            return Err(Errno::INVAL.into());
        }
        // SAFETY: a new mapping where the kernel finds room, over no memory of this process.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                memory,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self(Arc::new(Mapping {
            start,
            words: wills::words(arms),
        })))
    }
}

impl Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping starts at a page, has room for so many words, lives as long as `self`,
        // and cannot shrink, by its seal. What other processes do to it are changes of atomics.
        unsafe { slice::from_raw_parts(self.0.start.as_ptr(), self.0.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody borrows from it any more. It cannot
        // fail for a mapping that is there.
        let _ = unsafe {
            munmap(
                self.start.as_ptr().cast(),
                self.words * size_of::<AtomicU64>(),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hilt_realtime::wills::{Reader, Writer};

    #[test]
    fn two_mappings_are_one_memory() {
        let memory = make(2).unwrap();
        let mut writer = Writer::new(Shared::map(&memory, 2).unwrap());
        let reader = Reader::new(Shared::map(&memory, 2).unwrap());
        writer.beat(true, [&b"left"[..], b"right"]).unwrap();
        let mut left = reader.nothing();
        reader.read(&mut left);
        assert_eq!(left.wills[1].bytes(), b"right");
        reader.take_over();
        assert!(writer.taken_over());
    }

    #[test]
    fn memory_of_another_size_or_that_can_shrink_is_refused() {
        assert!(Shared::map(&make(1).unwrap(), 2).is_err());
        let loose = memfd_create("loose", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&loose, bytes(1) as u64).unwrap();
        assert!(Shared::map(&loose, 1).is_err());
    }
}
