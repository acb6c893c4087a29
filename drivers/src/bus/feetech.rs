//! Feetech's servo protocol (STS and SMS series) as bytes: no I/O, no allocation.
//!
//! Both directions have one layout, that of Dynamixel's protocol 1.0:
//!
//! ```text
//! FF FF │ id │ length │ kind │ parameters … │ checksum
//! ```
//!
//! `length` counts kind, parameters and checksum; the checksum is the complement of the sum from
//! `id` on. `kind` is the instruction in a request and the error bits in a status. So the two look
//! alike, and only who spoke tells them apart: an adapter that echoes shows requests among replies.
//!
//! [`Frame`] is a view over bytes that were checked; [`Request`] and [`Status`] are what can be said
//! in them; [`scan`] finds the next frame among bytes that may be anything. Source: Feetech's
//! "Communication Protocol User Manual" (191218).

/// The id that all servos listen to and none has.
pub const BROADCAST: u8 = 0xFE;

/// Bytes of a frame beside its parameters.
pub const OVERHEAD: usize = 6;

/// Bytes of the longest frame that the length byte can say.
pub const LONGEST: usize = 4 + 255;

mod field {
    pub const HEADER: [u8; 2] = [0xFF, 0xFF];
    pub const ID: usize = 2;
    pub const LENGTH: usize = 3;
    pub const KIND: usize = 4;
    pub const PARAMETERS: usize = 5;
}

mod instruction {
    pub const PING: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE: u8 = 0x03;
    pub const SYNC_READ: u8 = 0x82;
    pub const SYNC_WRITE: u8 = 0x83;
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin with FF FF.
    #[error("the frame has no header")]
    Header,
    /// 255 is no id: it would be part of the header.
    #[error("the frame has no valid id")]
    Id,
    /// The length byte is impossible or longer than what is asked for.
    #[error("the frame's length byte cannot be right")]
    Length,
    /// Right so far, but bytes are missing.
    #[error("the frame is not complete")]
    Incomplete,
    /// The checksum does not fit.
    #[error("the frame's checksum is wrong")]
    Checksum,
}

/// A frame does not fit: into the buffer, or into the length byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes does not fit; its buffer or the protocol ends before")]
pub struct TooLong {
    /// What it would take.
    pub bytes: usize,
}

/// A view of one whole frame whose header, id, length and checksum are right. Accessors do not
/// panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, at most `longest` bytes long.
    pub fn new_checked(bytes: &'a [u8], longest: usize) -> Result<Self, FrameError> {
        let begins = bytes.iter().zip(field::HEADER).all(|(a, b)| *a == b);
        if !begins {
            return Err(FrameError::Header);
        }
        match bytes.get(field::ID) {
            None => return Err(FrameError::Incomplete),
            Some(0xFF) => return Err(FrameError::Id),
            Some(_) => {}
        }
        let Some(length) = bytes.get(field::LENGTH) else {
            return Err(FrameError::Incomplete);
        };
        let end = field::KIND + usize::from(*length);
        if *length < 2 || end > longest {
            return Err(FrameError::Length);
        }
        let Some(bytes) = bytes.get(..end) else {
            return Err(FrameError::Incomplete);
        };
        if checksum(&bytes[field::ID..end - 1]) != bytes[end - 1] {
            return Err(FrameError::Checksum);
        }
        Ok(Self { bytes })
    }

    /// Whom it is for, or from.
    pub fn id(&self) -> u8 {
        self.bytes[field::ID]
    }

    /// The instruction, or the error bits.
    pub fn kind(&self) -> u8 {
        self.bytes[field::KIND]
    }

    /// The parameters.
    pub fn parameters(&self) -> &'a [u8] {
        &self.bytes[field::PARAMETERS..self.bytes.len() - 1]
    }

    /// The whole frame.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The complement of the sum of all bytes from the id up to here.
fn checksum(bytes: &[u8]) -> u8 {
    !bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// What [`scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A valid frame, after `skipped` bytes that belong to none.
    Frame {
        /// Bytes before it.
        skipped: usize,
        /// The frame.
        frame: Frame<'a>,
    },
    /// No whole frame yet: the first `skipped` bytes belong to none, the rest may be the beginning
    /// of one.
    More {
        /// Bytes that can be thrown away.
        skipped: usize,
    },
}

/// Finds the first valid frame in bytes that may also hold noise, pieces of frames and frames with
/// wrong bytes. Whatever looks like a header and is no frame costs two bytes at most, so the frame
/// behind it is found.
///
/// `longest` is the size of the longest frame that can be meant. A corrupted length byte makes the
/// scanner wait for no more bytes than that: a reader that knows the size of its replies gives it.
pub fn scan(bytes: &[u8], longest: usize) -> Scan<'_> {
    for skipped in 0..bytes.len() {
        match Frame::new_checked(&bytes[skipped..], longest) {
            Ok(frame) => return Scan::Frame { skipped, frame },
            Err(FrameError::Incomplete) => return Scan::More { skipped },
            Err(_) => {}
        }
    }
    Scan::More {
        skipped: bytes.len(),
    }
}

/// What the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Are you there? Answered by a status without parameters.
    Ping {
        /// Who is asked.
        id: u8,
    },
    /// Reads `count` bytes from `address` on.
    Read {
        /// Who is asked.
        id: u8,
        /// The first register.
        address: u8,
        /// Bytes to read.
        count: u8,
    },
    /// Writes `data` from `address` on.
    Write {
        /// Who is told; [`BROADCAST`] for all, and then nobody answers.
        id: u8,
        /// The first register.
        address: u8,
        /// The bytes.
        data: &'a [u8],
    },
    /// The same read of several servos, which answer one after the other in the order of `ids`.
    SyncRead {
        /// The first register.
        address: u8,
        /// Bytes to read of each.
        count: u8,
        /// Who is asked.
        ids: &'a [u8],
    },
    /// Several servos' own values for the same registers. Nobody answers.
    SyncWrite {
        /// The first register.
        address: u8,
        /// Bytes for each.
        count: u8,
        /// For each servo its id and its `count` bytes: see [`entries`].
        data: &'a [u8],
    },
}

/// The entries of a sync write: each servo's id and bytes. A rest too short for an entry is left
/// out.
pub fn entries(data: &[u8], count: u8) -> impl Iterator<Item = (u8, &[u8])> {
    data.chunks_exact(1 + usize::from(count))
        .map(|entry| (entry[0], &entry[1..]))
}

impl<'a> Request<'a> {
    /// What a frame says, when it is a request that there is.
    pub fn parse(frame: &Frame<'a>) -> Option<Self> {
        let id = frame.id();
        let request = match (frame.kind(), frame.parameters()) {
            (instruction::PING, []) => Self::Ping { id },
            (instruction::READ, &[address, count]) => Self::Read { id, address, count },
            (instruction::WRITE, [address, data @ ..]) => Self::Write {
                id,
                address: *address,
                data,
            },
            (instruction::SYNC_READ, [address, count, ids @ ..]) if id == BROADCAST => {
                Self::SyncRead {
                    address: *address,
                    count: *count,
                    ids,
                }
            }
            (instruction::SYNC_WRITE, [address, count, data @ ..])
                if id == BROADCAST && data.len() % (1 + usize::from(*count)) == 0 =>
            {
                Self::SyncWrite {
                    address: *address,
                    count: *count,
                    data,
                }
            }
            _ => return None,
        };
        Some(request)
    }

    /// Writes the frame to the beginning of `buffer`; gives its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        use instruction::{PING, READ, SYNC_READ, SYNC_WRITE, WRITE};
        match *self {
            Self::Ping { id } => put(buffer, id, PING, &[], &[]),
            Self::Read { id, address, count } => put(buffer, id, READ, &[address, count], &[]),
            Self::Write { id, address, data } => put(buffer, id, WRITE, &[address], data),
            Self::SyncRead {
                address,
                count,
                ids,
            } => put(buffer, BROADCAST, SYNC_READ, &[address, count], ids),
            Self::SyncWrite {
                address,
                count,
                data,
            } => put(buffer, BROADCAST, SYNC_WRITE, &[address, count], data),
        }
    }
}

/// What a servo answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Who answers.
    pub id: u8,
    /// What is wrong with it: the bits of the servo's status register.
    pub error: u8,
    /// What was read.
    pub parameters: &'a [u8],
}

impl<'a> Status<'a> {
    /// What a frame says, as a status. [`BROADCAST`] answers never: that is a request's echo.
    pub fn parse(frame: &Frame<'a>) -> Option<Self> {
        (frame.id() != BROADCAST).then(|| Self {
            id: frame.id(),
            error: frame.kind(),
            parameters: frame.parameters(),
        })
    }

    /// Writes the frame to the beginning of `buffer`; gives its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        put(buffer, self.id, self.error, &[], self.parameters)
    }
}

/// One frame, its parameters in two pieces.
fn put(buffer: &mut [u8], id: u8, kind: u8, first: &[u8], second: &[u8]) -> Result<usize, TooLong> {
    let split = field::PARAMETERS + first.len();
    let last = split + second.len();
    let bytes = last + 1;
    let too_long = TooLong { bytes };
    let length = u8::try_from(bytes - field::KIND).map_err(|_| too_long)?;
    let out = buffer.get_mut(..bytes).ok_or(too_long)?;
    out[..field::ID].copy_from_slice(&field::HEADER);
    out[field::ID] = id;
    out[field::LENGTH] = length;
    out[field::KIND] = kind;
    out[field::PARAMETERS..split].copy_from_slice(first);
    out[split..last].copy_from_slice(second);
    out[last] = checksum(&out[field::ID..last]);
    Ok(bytes)
}
