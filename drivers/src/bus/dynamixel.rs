//! Dynamixel's protocol 2.0 as bytes: no I/O, no allocation.
//!
//! Both directions have one layout:
//!
//! ```text
//! FF FF FD 00 │ id │ length (2) │ instruction │ parameters … │ CRC-16 (2)
//! ```
//!
//! `length` counts instruction, parameters and CRC. A status has the instruction 0x55 and an error
//! byte before its parameters. Two-byte numbers have their low byte first.
//!
//! So that no header shows up inside, from the instruction to the last parameter every `FF FF FD` is
//! followed by one more `FD`, which length and CRC count: *stuffing*. That is why the view,
//! [`Frame`], gives bytes as they are on the line, and [`Request::parse`] and [`Status::parse`] want
//! room to put the parameters together in.
//!
//! The answer to a fast sync read is one frame that the servos say in turns, without stuffing:
//! [`FastReply`] takes it apart while it comes.
//!
//! Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0" and "CRC Calculation".

/// The id that all servos listen to and none has.
pub const BROADCAST: u8 = 0xFE;

/// The highest id of a servo: 253 and 255 could be taken for parts of a header.
pub const LAST_ID: u8 = 252;

/// Bytes of a status beside its parameters.
pub const OVERHEAD: usize = 11;

/// Bytes of a fast sync read's answer beside its blocks, and of a block beside what was read.
pub const FAST_OVERHEAD: usize = 8;
/// See [`FAST_OVERHEAD`].
pub const BLOCK_OVERHEAD: usize = 4;

/// Bytes of the longest frame that is made here: 255 registers, with stuffing.
pub const LONGEST: usize = 384;

/// In a status: the servo has a fault of its own; its register for hardware errors says which.
pub const ALERT: u8 = 0x80;

mod field {
    pub const HEADER: [u8; 4] = [0xFF, 0xFF, 0xFD, 0x00];
    pub const ID: usize = 4;
    pub const LENGTH: usize = 5;
    pub const INSTRUCTION: usize = 7;
    pub const PARAMETERS: usize = 8;
    pub const CRC_BYTES: usize = 2;
}

mod instruction {
    pub const PING: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE: u8 = 0x03;
    pub const STATUS: u8 = 0x55;
    pub const SYNC_READ: u8 = 0x82;
    pub const SYNC_WRITE: u8 = 0x83;
    pub const FAST_SYNC_READ: u8 = 0x8A;
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin with FF FF FD 00.
    #[error("the frame has no header")]
    Header,
    /// 253 and 255 are no ids.
    #[error("the frame has no valid id")]
    Id,
    /// The length is impossible or longer than what is asked for.
    #[error("the frame's length cannot be right")]
    Length,
    /// Right so far, but bytes are missing.
    #[error("the frame is not complete")]
    Incomplete,
    /// The CRC does not fit.
    #[error("the frame's CRC is wrong")]
    Crc,
}

/// A frame does not fit: into the buffer, or into the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes does not fit; its buffer or the protocol ends before")]
pub struct TooLong {
    /// What it would take.
    pub bytes: usize,
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x8005;
            }
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The CRC-16 of `bytes` after others whose CRC is `before` (0 for none): polynomial 0x8005,
/// highest bit first.
pub fn crc(before: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(before, |crc, byte| {
        crc << 8 ^ CRC_TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// A view of one whole frame whose header, id, length and CRC are right. Accessors do not panic.
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
            Some(0xFD | 0xFF) => return Err(FrameError::Id),
            Some(_) => {}
        }
        let Some(&[low, high]) = bytes.get(field::LENGTH..field::INSTRUCTION) else {
            return Err(FrameError::Incomplete);
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        let end = field::INSTRUCTION + length;
        if length < 1 + field::CRC_BYTES || end > longest {
            return Err(FrameError::Length);
        }
        let Some(bytes) = bytes.get(..end) else {
            return Err(FrameError::Incomplete);
        };
        let (said, check) = bytes.split_at(end - field::CRC_BYTES);
        if crc(0, said).to_le_bytes() != check {
            return Err(FrameError::Crc);
        }
        Ok(Self { bytes })
    }

    /// Whom it is for, or from.
    pub fn id(&self) -> u8 {
        self.bytes[field::ID]
    }

    /// What it is; 0x55 for a status.
    pub fn instruction(&self) -> u8 {
        self.bytes[field::INSTRUCTION]
    }

    /// The whole frame.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The parameters without their stuffing, put together in `room`. `None`: they do not fit, or
    /// stuffing is missing.
    pub fn parameters<'b>(&self, room: &'b mut [u8]) -> Option<&'b [u8]> {
        let stuffed = &self.bytes[field::PARAMETERS..self.bytes.len() - field::CRC_BYTES];
        let mut pattern = Pattern::default();
        // An instruction can be no part of the pattern.
        let mut len = 0;
        let mut bytes = stuffed.iter();
        while let Some(byte) = bytes.next() {
            *room.get_mut(len)? = *byte;
            len += 1;
            if pattern.ends_with(*byte) && bytes.next() != Some(&0xFD) {
                return None;
            }
        }
        Some(&room[..len])
    }
}

/// Watches bytes go by for FF FF FD.
#[derive(Default)]
struct Pattern {
    /// How many FF came last; more than two are two.
    ffs: u8,
}

impl Pattern {
    /// Whether the pattern ends with this byte.
    fn ends_with(&mut self, byte: u8) -> bool {
        let ends = self.ffs == 2 && byte == 0xFD;
        self.ffs = if byte == 0xFF { 2.min(self.ffs + 1) } else { 0 };
        ends
    }
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
/// wrong bytes. What looks like a header and is no frame costs one byte, so the frame behind it is
/// found.
///
/// `longest` is the size of the longest frame that can be meant. A corrupted length makes the
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
    /// Are you there? Answered with model number (2 bytes) and firmware version.
    Ping {
        /// Who is asked; [`BROADCAST`] for all, who answer one after the other.
        id: u8,
    },
    /// Reads `count` bytes from `address` on.
    Read {
        /// Who is asked.
        id: u8,
        /// The first register.
        address: u16,
        /// Bytes to read.
        count: u16,
    },
    /// Writes `data` from `address` on.
    Write {
        /// Who is told; [`BROADCAST`] for all, and then nobody answers.
        id: u8,
        /// The first register.
        address: u16,
        /// The bytes.
        data: &'a [u8],
    },
    /// The same read of several servos, which answer one after the other in the order of `ids`.
    SyncRead {
        /// The first register.
        address: u16,
        /// Bytes to read of each.
        count: u16,
        /// Who is asked.
        ids: &'a [u8],
    },
    /// The same, answered in one frame: see [`FastReply`]. Servos of the X series know it from
    /// firmware 45 on (430, 540) or 46 (330).
    FastSyncRead {
        /// The first register.
        address: u16,
        /// Bytes to read of each.
        count: u16,
        /// Who is asked.
        ids: &'a [u8],
    },
    /// Several servos' own values for the same registers. Nobody answers.
    SyncWrite {
        /// The first register.
        address: u16,
        /// Bytes for each.
        count: u16,
        /// For each servo its id and its `count` bytes: see [`entries`].
        data: &'a [u8],
    },
}

/// The entries of a sync write: each servo's id and bytes. A rest too short for an entry is left
/// out.
pub fn entries(data: &[u8], count: u16) -> impl Iterator<Item = (u8, &[u8])> {
    data.chunks_exact(1 + usize::from(count))
        .map(|entry| (entry[0], &entry[1..]))
}

impl<'a> Request<'a> {
    /// What a frame says, when it is a request that there is. `room` is for its parameters.
    pub fn parse(frame: &Frame<'_>, room: &'a mut [u8]) -> Option<Self> {
        use instruction::{FAST_SYNC_READ, PING, READ, SYNC_READ, SYNC_WRITE, WRITE};
        let id = frame.id();
        let parameters: &'a [u8] = frame.parameters(room)?;
        if frame.instruction() == PING {
            return parameters.is_empty().then_some(Self::Ping { id });
        }
        let (&[low, high], rest) = parameters.split_first_chunk()?;
        let address = u16::from_le_bytes([low, high]);
        if frame.instruction() == WRITE {
            let data = rest;
            return Some(Self::Write { id, address, data });
        }
        let (&[low, high], rest) = rest.split_first_chunk()?;
        let count = u16::from_le_bytes([low, high]);
        let of_all = id == BROADCAST;
        let whole = rest.len() % (1 + usize::from(count)) == 0;
        match frame.instruction() {
            READ if rest.is_empty() => Some(Self::Read { id, address, count }),
            SYNC_READ if of_all => Some(Self::SyncRead {
                address,
                count,
                ids: rest,
            }),
            FAST_SYNC_READ if of_all => Some(Self::FastSyncRead {
                address,
                count,
                ids: rest,
            }),
            SYNC_WRITE if of_all && whole => Some(Self::SyncWrite {
                address,
                count,
                data: rest,
            }),
            _ => None,
        }
    }

    /// Writes the frame to the beginning of `buffer`; gives its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        use instruction::{FAST_SYNC_READ, PING, READ, SYNC_READ, SYNC_WRITE, WRITE};
        let two = |a: u16, b: u16| {
            let ([a, b], [c, d]) = (a.to_le_bytes(), b.to_le_bytes());
            [a, b, c, d]
        };
        match *self {
            Self::Ping { id } => put(buffer, id, PING, &[], &[]),
            Self::Read { id, address, count } => put(buffer, id, READ, &two(address, count), &[]),
            Self::Write { id, address, data } => {
                put(buffer, id, WRITE, &address.to_le_bytes(), data)
            }
            Self::SyncRead {
                address,
                count,
                ids,
            } => put(buffer, BROADCAST, SYNC_READ, &two(address, count), ids),
            Self::FastSyncRead {
                address,
                count,
                ids,
            } => put(buffer, BROADCAST, FAST_SYNC_READ, &two(address, count), ids),
            Self::SyncWrite {
                address,
                count,
                data,
            } => put(buffer, BROADCAST, SYNC_WRITE, &two(address, count), data),
        }
    }
}

/// What a servo answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Who answers.
    pub id: u8,
    /// What was wrong with the request, a number, and [`ALERT`].
    pub error: u8,
    /// What was read.
    pub parameters: &'a [u8],
}

impl<'a> Status<'a> {
    /// What a frame says, as a servo's own status. `room` is for its parameters.
    pub fn parse(frame: &Frame<'_>, room: &'a mut [u8]) -> Option<Self> {
        if frame.id() == BROADCAST || frame.instruction() != instruction::STATUS {
            return None;
        }
        let (error, parameters) = frame.parameters(room)?.split_first()?;
        Some(Self {
            id: frame.id(),
            error: *error,
            parameters,
        })
    }

    /// Writes the frame to the beginning of `buffer`; gives its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let first = [self.error];
        put(
            buffer,
            self.id,
            instruction::STATUS,
            &first,
            self.parameters,
        )
    }
}

/// Fills a buffer, and goes on counting where it ends.
struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.buffer.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }
}

/// One frame, its parameters in two pieces.
fn put(
    buffer: &mut [u8],
    id: u8,
    instruction: u8,
    first: &[u8],
    second: &[u8],
) -> Result<usize, TooLong> {
    let mut out = Writer { buffer, len: 0 };
    for byte in field::HEADER.into_iter().chain([id, 0, 0, instruction]) {
        out.push(byte);
    }
    let mut pattern = Pattern::default();
    for byte in first.iter().chain(second) {
        out.push(*byte);
        if pattern.ends_with(*byte) {
            out.push(0xFD);
        }
    }
    let last = out.len;
    let bytes = last + field::CRC_BYTES;
    let too_long = TooLong { bytes };
    let length = u16::try_from(bytes - field::INSTRUCTION).map_err(|_| too_long)?;
    let out = buffer.get_mut(..bytes).ok_or(too_long)?;
    out[field::LENGTH..field::INSTRUCTION].copy_from_slice(&length.to_le_bytes());
    let check = crc(0, &out[..last]).to_le_bytes();
    out[last..].copy_from_slice(&check);
    Ok(bytes)
}

/// What [`FastReply::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A servo's answer, at the end of the first `used` bytes.
    Status {
        /// Bytes that are done with.
        used: usize,
        /// What it says.
        status: Status<'a>,
    },
    /// Nothing whole: the first `used` bytes are done with, the rest is to be continued.
    More {
        /// Bytes that are done with.
        used: usize,
    },
}

/// The answer to a fast sync read, taken apart while it comes:
///
/// ```text
/// FF FF FD 00 │ FE │ length (2) │ 55 │ error │ id │ data … │ CRC │ error │ id │ data … │ CRC …
/// ```
///
/// Each CRC is that of everything before it, so a servo's block can be believed when it is there,
/// and after one that is wrong none can.
#[derive(Clone, Copy, Debug)]
pub struct FastReply {
    count: usize,
    header: [u8; FAST_OVERHEAD],
    /// Of all that was taken, once the header has come.
    crc: Option<u16>,
    left: usize,
}

impl FastReply {
    /// The answer of so many servos of which `count` bytes each were read.
    pub fn new(servos: usize, count: usize) -> Self {
        // All servos that there can be, with all registers: 65,000 bytes.
        let length = (Self::bytes(servos, count) - field::INSTRUCTION) as u16;
        let [low, high] = length.to_le_bytes();
        let [a, b, c, d] = field::HEADER;
        Self {
            count,
            header: [a, b, c, d, BROADCAST, low, high, instruction::STATUS],
            crc: None,
            left: servos,
        }
    }

    /// Bytes of the whole answer.
    pub fn bytes(servos: usize, count: usize) -> usize {
        FAST_OVERHEAD + servos * (BLOCK_OVERHEAD + count)
    }

    /// Writes the answer of `servos` servos to the beginning of `buffer`; gives its length. Where
    /// there are fewer `statuses`, it ends with the last of them.
    pub fn encode<'a>(
        servos: usize,
        count: usize,
        statuses: impl Iterator<Item = Status<'a>>,
        buffer: &mut [u8],
    ) -> Result<usize, TooLong> {
        let mut out = Writer { buffer, len: 0 };
        let header = Self::new(servos, count).header;
        header.into_iter().for_each(|byte| out.push(byte));
        let mut check = crc(0, &header);
        for status in statuses {
            for byte in [status.error, status.id].iter().chain(status.parameters) {
                out.push(*byte);
                check = crc(check, &[*byte]);
            }
            let said = check.to_le_bytes();
            said.into_iter().for_each(|byte| out.push(byte));
            check = crc(check, &said);
        }
        let (bytes, room) = (out.len, out.buffer.len());
        (bytes <= room).then_some(bytes).ok_or(TooLong { bytes })
    }

    /// The next block of what has come. `bytes` begin where the last call's `used` ended. `junk` is
    /// set when bytes belong to nothing.
    pub fn next<'a>(&mut self, bytes: &'a [u8], junk: &mut bool) -> Block<'a> {
        let mut used = 0;
        while self.crc.is_none() {
            let rest = &bytes[used..];
            let common = rest.len().min(FAST_OVERHEAD);
            if rest[..common] != self.header[..common] {
                used += 1;
                *junk = true;
            } else if common < FAST_OVERHEAD {
                return Block::More { used };
            } else {
                used += FAST_OVERHEAD;
                self.crc = Some(crc(0, &self.header));
            }
        }
        let end = used + BLOCK_OVERHEAD + self.count;
        let (Some(before), Some(block)) = (self.crc, bytes.get(used..end)) else {
            return Block::More { used };
        };
        let (said, check) = block.split_at(block.len() - field::CRC_BYTES);
        if self.left == 0 || crc(before, said).to_le_bytes() != check {
            *junk = true;
            self.left = 0;
            return Block::More { used: bytes.len() };
        }
        self.crc = Some(crc(before, block));
        self.left -= 1;
        Block::Status {
            used: end,
            status: Status {
                id: said[1],
                error: said[0],
                parameters: &said[2..],
            },
        }
    }
}
