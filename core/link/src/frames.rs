//! How entries lie in a zenoh payload: several in a row, each with a header that says which it is,
//! so that a duplicate is recognised before anything is decoded.

use hilt_protocol::RunId;

/// Where the learner stands with a run. Default: it knows nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// First sequence that has not arrived.
    pub received: u64,
    /// First sequence that is not on disk; at most `received`.
    pub durable: u64,
}

impl Position {
    /// 16 bytes: received, durable; little-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.received.to_le_bytes());
        out[8..].copy_from_slice(&self.durable.to_le_bytes());
        out
    }

    /// `None` unless `bytes` are 16 and tell of no more durable than received.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (received, durable) = bytes.split_at_checked(8)?;
        let position = Self {
            received: u64::from_le_bytes(received.try_into().ok()?),
            durable: u64::from_le_bytes(durable.try_into().ok()?),
        };
        (position.durable <= position.received).then_some(position)
    }
}

/// Bytes of a [`Header`].
pub const HEADER_BYTES: usize = 20;

/// Stands before each entry's bytes: run (8), sequence (8), length (4); little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which run.
    pub run: RunId,
    /// Which entry of it.
    pub sequence: u64,
    /// How many bytes the entry has.
    pub length: u32,
}

impl Header {
    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&self.run.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..].copy_from_slice(&self.length.to_le_bytes());
        out
    }
}

/// The first entry in `bytes` and what comes after it. `None` if `bytes` end too early.
pub fn split_first(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (run, rest) = bytes.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let header = Header {
        run: RunId(u64::from_le_bytes(*run)),
        sequence: u64::from_le_bytes(*sequence),
        length: u32::from_le_bytes(*length),
    };
    let (entry, rest) = rest.split_at_checked(header.length as usize)?;
    Some((header, entry, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_back_and_cut_ones_are_refused(
            entries in proptest::collection::vec(
                (any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)),
                1..6,
            ),
            cut in 1usize..20,
        ) {
            let mut bytes = Vec::new();
            for (run, sequence, body) in &entries {
                let (run, sequence, length) = (RunId(*run), *sequence, body.len() as u32);
                bytes.extend(Header { run, sequence, length }.to_bytes());
                bytes.extend(body);
            }
            let mut rest = &bytes[..];
            for (run, sequence, body) in &entries {
                let (header, entry, after) = split_first(rest).unwrap();
                prop_assert_eq!((header.run.0, header.sequence), (*run, *sequence));
                prop_assert_eq!(entry, &body[..]);
                rest = after;
            }
            prop_assert!(rest.is_empty());

            let mut rest = &bytes[..bytes.len() - cut];
            let mut whole = 0;
            while let Some((_, _, after)) = split_first(rest) {
                rest = after;
                whole += 1;
            }
            prop_assert!(whole < entries.len());
        }

        #[test]
        fn positions_come_back(received in any::<u64>(), durable in any::<u64>()) {
            let position = Position { received, durable };
            let back = Position::from_bytes(&position.to_bytes());
            prop_assert_eq!(back, (durable <= received).then_some(position));
            prop_assert_eq!(Position::from_bytes(&position.to_bytes()[1..]), None);
        }
    }
}
