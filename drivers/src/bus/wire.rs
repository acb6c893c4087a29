//! What carries a bus's bytes.

use std::os::fd::BorrowedFd;

/// Why no bytes go or come. `Copy`, because it is handled on the control path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The device is gone.
    #[error("the serial device is gone; plug it in again")]
    Unplugged,
    /// The operating system refused, with this error number.
    #[error("the serial device refuses (os error {0})")]
    Os(i32),
}

/// A serial line, seen from the host. Never allocates, and waits only in [`Wire::read`].
pub trait Wire: Send {
    /// Time on the clock that deadlines are given in, nanoseconds.
    fn now_ns(&self) -> u64;

    /// Hands all of `bytes` to the line.
    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError>;

    /// What has come: waits for at least one byte, at the latest until `until_ns`. 0: time is out.
    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError>;

    /// Throws away what has come and was not read.
    fn drain(&mut self) -> Result<(), WireError>;

    /// The line's descriptor, for a process that shall be able to write when this one is gone.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
