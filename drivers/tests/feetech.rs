//! The Feetech codec: the makers' frames, round trips, and whatever a bad line makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_drivers::bus::feetech::{
    Frame, FrameError, LONGEST, Request, Scan, Status, TooLong, entries, scan,
};
use proptest::{collection::vec, prelude::*};

fn encoded(request: Request) -> Vec<u8> {
    let mut buffer = [0; LONGEST];
    let bytes = request.encode(&mut buffer).unwrap();
    buffer[..bytes].to_vec()
}

fn status(id: u8, error: u8, parameters: &[u8]) -> Vec<u8> {
    let mut buffer = [0; LONGEST];
    let status = Status {
        id,
        error,
        parameters,
    };
    let bytes = status.encode(&mut buffer).unwrap();
    buffer[..bytes].to_vec()
}

/// Id, kind and parameters.
type Said = (u8, u8, Vec<u8>);

/// All frames in `bytes`, and the bytes that wait for more.
fn frames(mut bytes: &[u8], longest: usize) -> (Vec<Said>, &[u8]) {
    let mut out = Vec::new();
    loop {
        match scan(bytes, longest) {
            Scan::Frame { skipped, frame } => {
                out.push((frame.id(), frame.kind(), frame.parameters().to_vec()));
                bytes = &bytes[skipped + frame.bytes().len()..];
            }
            Scan::More { skipped } => return (out, &bytes[skipped..]),
        }
    }
}

/// Frames as the manual prints them.
#[test]
fn the_manuals_frames() {
    let ping = encoded(Request::Ping { id: 1 });
    assert_eq!(ping, [0xFF, 0xFF, 0x01, 0x02, 0x01, 0xFB]);
    assert_eq!(status(1, 0, &[]), [0xFF, 0xFF, 0x01, 0x02, 0x00, 0xFC]);
    let read = encoded(Request::Read {
        id: 1,
        address: 0x38,
        count: 2,
    });
    assert_eq!(read, [0xFF, 0xFF, 0x01, 0x04, 0x02, 0x38, 0x02, 0xBE]);
    let reply = status(1, 0, &[0x18, 0x05]);
    assert_eq!(reply, [0xFF, 0xFF, 0x01, 0x04, 0x00, 0x18, 0x05, 0xDD]);
    let write = encoded(Request::Write {
        id: 0xFE,
        address: 0x05,
        data: &[0x01],
    });
    assert_eq!(write, [0xFF, 0xFF, 0xFE, 0x04, 0x03, 0x05, 0x01, 0xF4]);
    let sync_read = encoded(Request::SyncRead {
        address: 0x38,
        count: 8,
        ids: &[1, 2],
    });
    let printed = [0xFF, 0xFF, 0xFE, 0x06, 0x82, 0x38, 0x08, 0x01, 0x02, 0x36];
    assert_eq!(sync_read, printed);
}

#[test]
fn what_does_not_fit_is_refused() {
    let ping = Request::Ping { id: 1 };
    assert_eq!(ping.encode(&mut [0; 5]), Err(TooLong { bytes: 6 }));
    let write = Request::Write {
        id: 1,
        address: 0,
        data: &[0; 253],
    };
    let refused = write.encode(&mut [0; 300]);
    assert_eq!(refused, Err(TooLong { bytes: 260 }));
}

#[test]
fn frames_are_refused_by_name() {
    let good = status(3, 0, &[1, 2]);
    let check = |bytes: &[u8], longest| Frame::new_checked(bytes, longest).map(|f| f.id());
    assert_eq!(check(&good, LONGEST), Ok(3));
    assert_eq!(check(&good, 7), Err(FrameError::Length));
    assert_eq!(check(&good[..7], LONGEST), Err(FrameError::Incomplete));
    assert_eq!(check(&good[1..], LONGEST), Err(FrameError::Header));
    assert_eq!(check(&[0xFF, 0xFF, 0xFF, 4], LONGEST), Err(FrameError::Id));
    assert_eq!(check(&[0xFF, 0xFF, 1, 1], LONGEST), Err(FrameError::Length));
    let mut bad = good.clone();
    bad[5] ^= 4;
    assert_eq!(check(&bad, LONGEST), Err(FrameError::Checksum));
}

#[test]
fn a_header_before_a_header_and_a_lost_byte_cost_no_good_frame() {
    let (lost, good) = (status(2, 0, &[1, 2, 3, 4]), status(3, 0, &[5, 6, 7, 8]));
    let mut bytes = vec![0xFF];
    bytes.extend(&lost[..6]);
    bytes.extend(&lost[7..]);
    bytes.extend(&good);
    let (found, rest) = frames(&bytes, good.len());
    assert_eq!(found, [(3, 0, vec![5, 6, 7, 8])]);
    assert!(rest.is_empty());
}

fn id() -> impl Strategy<Value = u8> {
    0u8..=0xFE
}

/// Bytes among which no header can hide, so that what is valid is known beforehand.
fn quiet(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    vec(0u8..0xFF, length)
}

proptest! {
    #[test]
    fn requests_come_back(
        id in id(),
        address: u8,
        count in 0u8..20,
        kind in 0..5,
        data in vec(any::<u8>(), 0..200),
    ) {
        let whole = data.len() - data.len() % (1 + usize::from(count));
        let request = match kind {
            0 => Request::Ping { id },
            1 => Request::Read { id, address, count },
            2 => Request::Write { id, address, data: &data },
            3 => Request::SyncRead { address, count, ids: &data },
            _ => Request::SyncWrite { address, count, data: &data[..whole] },
        };
        let bytes = encoded(request);
        let frame = Frame::new_checked(&bytes, LONGEST).unwrap();
        prop_assert_eq!(frame.bytes(), bytes.as_slice());
        prop_assert_eq!(Request::parse(&frame), Some(request));
        if let Request::SyncWrite { data, count, .. } = request {
            let mut joined = Vec::new();
            for (id, bytes) in entries(data, count) {
                joined.push(id);
                joined.extend(bytes);
            }
            prop_assert_eq!(joined.as_slice(), data);
        }
    }

    #[test]
    fn statuses_come_back(id in 0u8..0xFE, error: u8, parameters in vec(any::<u8>(), 0..=253)) {
        let bytes = status(id, error, &parameters);
        let frame = Frame::new_checked(&bytes, LONGEST).unwrap();
        let parsed = Status::parse(&frame);
        prop_assert_eq!(parsed, Some(Status { id, error, parameters: &parameters }));
    }

    /// Among noise, and cut anywhere into pieces as a line delivers them, every frame is found.
    #[test]
    fn frames_are_found_among_noise(
        parts in vec((quiet(0..12), 0u8..0xFE, quiet(4..=4)), 1..6),
        piece in 1usize..40,
    ) {
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for (noise, id, parameters) in parts {
            bytes.extend(noise);
            bytes.extend(status(id, 0, &parameters));
            sent.push((id, 0, parameters));
        }
        let (mut found, mut waiting) = (Vec::new(), Vec::new());
        for chunk in bytes.chunks(piece) {
            waiting.extend(chunk);
            let (more, rest) = frames(&waiting, 10);
            found.extend(more);
            waiting = rest.to_vec();
        }
        prop_assert_eq!(found, sent);
    }

    /// One flipped bit, in the id or the length as anywhere else: the frame is not taken, the one
    /// behind it is.
    #[test]
    fn a_flipped_bit_is_seen(
        first in (0u8..0xFE, quiet(4..=4)),
        second in (0u8..0xFE, quiet(4..=4)),
        bit in 0usize..80,
    ) {
        let mut bytes = status(first.0, 0, &first.1);
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes.extend(status(second.0, 0, &second.1));
        let (found, _) = frames(&bytes, 10);
        prop_assert!(!found.contains(&(first.0, 0, first.1.clone())) || first == second);
        prop_assert!(found.contains(&(second.0, 0, second.1)));
    }

    /// Whatever comes, it ends, and what was found is a frame and was there.
    #[test]
    fn any_bytes_end(bytes in vec(prop_oneof![Just(0xFFu8), any::<u8>()], 0..600), longest in 0usize..300) {
        match scan(&bytes, longest) {
            Scan::Frame { skipped, frame } => {
                prop_assert!(frame.bytes().len() <= longest);
                prop_assert_eq!(&bytes[skipped..skipped + frame.bytes().len()], frame.bytes());
                let _ = (Request::parse(&frame), Status::parse(&frame));
            }
            Scan::More { skipped } => {
                prop_assert!(skipped <= bytes.len());
                prop_assert!(bytes.len() - skipped < longest.max(4));
            }
        }
    }
}
