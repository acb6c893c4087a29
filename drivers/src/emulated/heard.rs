//! What an emulated bus remembers of what was said to it.

use crate::bus::{Next, Protocol, Request, feetech};

/// Bytes of a request that are remembered: a sync write of ten servos' goals, speeds and times.
const KEPT: usize = 80;

/// A request that came.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When its last byte was through, nanoseconds.
    pub at_ns: u64,
    len: u8,
    bytes: [u8; KEPT],
}

impl Heard {
    /// A frame of which the last byte was through at `at_ns`.
    pub(super) fn new(at_ns: u64, frame: &[u8]) -> Self {
        let len = frame.len().min(KEPT);
        let mut bytes = [0; KEPT];
        bytes[..len].copy_from_slice(&frame[..len]);
        Self {
            at_ns,
            len: len as u8,
            bytes,
        }
    }

    /// The frame, or as much of it as is kept: its first 80 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// What it says on a bus of Feetech servos, where it says something and is kept whole.
    pub fn request(&self) -> Option<feetech::Request<'_>> {
        let frame = feetech::Frame::new_checked(self.bytes(), KEPT).ok()?;
        feetech::Request::parse(&frame)
    }

    /// What it says in either protocol. `room` is for its parameters: as many bytes as it has.
    pub fn said<'a>(&'a self, protocol: Protocol, room: &'a mut [u8]) -> Option<Request<'a>> {
        match protocol.next_request(self.bytes(), KEPT, room) {
            Next::Frame { said, .. } => said,
            Next::More { .. } => None,
        }
    }
}
