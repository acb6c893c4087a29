//! The two protocols by the words that both have: what is asked, what is answered.
//!
//! Dynamixel's protocol 2.0 grew out of the one that Feetech uses, and can say all that this one
//! can. So its [`Request`] and [`Status`] are the words, whichever bytes they become.

use super::{dynamixel, feetech};

pub use super::dynamixel::{Request, Status};

/// How servos are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// [`feetech`]: STS and SMS series.
    Feetech,
    /// [`dynamixel`]: protocol 2.0.
    Dynamixel,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Feetech => "Feetech",
            Self::Dynamixel => "Dynamixel 2.0",
        })
    }
}

/// A request that cannot be said: too long for its buffer or for the protocol, or not in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this protocol has no such request, or it is too long")]
pub struct Unsayable;

/// The next frame among bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a, T> {
    /// A valid one.
    Frame {
        /// Bytes before it, which belong to none.
        skipped: usize,
        /// The frame.
        bytes: &'a [u8],
        /// What it says, where it says such a thing.
        said: Option<T>,
    },
    /// None yet: the first `skipped` bytes belong to none.
    More {
        /// Bytes that can be thrown away.
        skipped: usize,
    },
}

impl Protocol {
    /// The highest id that a servo can have.
    pub fn last_id(self) -> u8 {
        match self {
            Self::Feetech => feetech::BROADCAST - 1,
            Self::Dynamixel => dynamixel::LAST_ID,
        }
    }

    /// Bytes of a reply with so many parameters, where nothing has to be stuffed.
    pub fn reply_bytes(self, count: usize) -> usize {
        count
            + match self {
                Self::Feetech => feetech::OVERHEAD,
                Self::Dynamixel => dynamixel::OVERHEAD,
            }
    }

    /// The same for all that can be stuffed: one byte for three, the error byte among them.
    pub fn longest_reply(self, count: usize) -> usize {
        match self {
            Self::Feetech => self.reply_bytes(count),
            Self::Dynamixel => self.reply_bytes(count) + count.div_ceil(3),
        }
    }

    /// Writes the frame to the beginning of `buffer`; gives its length.
    pub fn encode(self, request: &Request<'_>, buffer: &mut [u8]) -> Result<usize, Unsayable> {
        let small = |number: u16| u8::try_from(number).map_err(|_| Unsayable);
        if self == Self::Dynamixel {
            return request.encode(buffer).map_err(|_| Unsayable);
        }
        let request = match *request {
            Request::Ping { id } => feetech::Request::Ping { id },
            Request::Read { id, address, count } => feetech::Request::Read {
                id,
                address: small(address)?,
                count: small(count)?,
            },
            Request::Write { id, address, data } => feetech::Request::Write {
                id,
                address: small(address)?,
                data,
            },
            Request::SyncRead {
                address,
                count,
                ids,
            } => feetech::Request::SyncRead {
                address: small(address)?,
                count: small(count)?,
                ids,
            },
            Request::FastSyncRead { .. } => return Err(Unsayable),
            Request::SyncWrite {
                address,
                count,
                data,
            } => feetech::Request::SyncWrite {
                address: small(address)?,
                count: small(count)?,
                data,
            },
        };
        request.encode(buffer).map_err(|_| Unsayable)
    }

    /// Writes a servo's answer to the beginning of `buffer`; gives its length.
    pub fn encode_status(self, status: &Status<'_>, buffer: &mut [u8]) -> Result<usize, Unsayable> {
        match self {
            Self::Feetech => feetech::Status {
                id: status.id,
                error: status.error,
                parameters: status.parameters,
            }
            .encode(buffer)
            .map_err(|_| Unsayable),
            Self::Dynamixel => status.encode(buffer).map_err(|_| Unsayable),
        }
    }

    /// The next request among `bytes`, of a bus's host. `room` is for its parameters.
    pub fn next_request<'a>(
        self,
        bytes: &'a [u8],
        longest: usize,
        room: &'a mut [u8],
    ) -> Next<'a, Request<'a>> {
        match self {
            Self::Feetech => match feetech::scan(bytes, longest) {
                feetech::Scan::Frame { skipped, frame } => Next::Frame {
                    skipped,
                    bytes: frame.bytes(),
                    said: feetech::Request::parse(&frame).map(widened),
                },
                feetech::Scan::More { skipped } => Next::More { skipped },
            },
            Self::Dynamixel => match dynamixel::scan(bytes, longest) {
                dynamixel::Scan::Frame { skipped, frame } => Next::Frame {
                    skipped,
                    bytes: frame.bytes(),
                    said: Request::parse(&frame, room),
                },
                dynamixel::Scan::More { skipped } => Next::More { skipped },
            },
        }
    }

    /// The next answer of a servo among `bytes`. `room` is for its parameters.
    pub fn next_status<'a>(
        self,
        bytes: &'a [u8],
        longest: usize,
        room: &'a mut [u8],
    ) -> Next<'a, Status<'a>> {
        match self {
            Self::Feetech => match feetech::scan(bytes, longest) {
                feetech::Scan::Frame { skipped, frame } => Next::Frame {
                    skipped,
                    bytes: frame.bytes(),
                    said: feetech::Status::parse(&frame).map(|status| Status {
                        id: status.id,
                        error: status.error,
                        parameters: status.parameters,
                    }),
                },
                feetech::Scan::More { skipped } => Next::More { skipped },
            },
            Self::Dynamixel => match dynamixel::scan(bytes, longest) {
                dynamixel::Scan::Frame { skipped, frame } => Next::Frame {
                    skipped,
                    bytes: frame.bytes(),
                    said: Status::parse(&frame, room),
                },
                dynamixel::Scan::More { skipped } => Next::More { skipped },
            },
        }
    }
}

fn widened(request: feetech::Request<'_>) -> Request<'_> {
    match request {
        feetech::Request::Ping { id } => Request::Ping { id },
        feetech::Request::Read { id, address, count } => Request::Read {
            id,
            address: address.into(),
            count: count.into(),
        },
        feetech::Request::Write { id, address, data } => Request::Write {
            id,
            address: address.into(),
            data,
        },
        feetech::Request::SyncRead {
            address,
            count,
            ids,
        } => Request::SyncRead {
            address: address.into(),
            count: count.into(),
            ids,
        },
        feetech::Request::SyncWrite {
            address,
            count,
            data,
        } => Request::SyncWrite {
            address: address.into(),
            count: count.into(),
            data,
        },
    }
}
