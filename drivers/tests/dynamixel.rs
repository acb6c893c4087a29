//! The Dynamixel codec: the maker's frames, round trips, and whatever a bad line makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_drivers::bus::dynamixel::{
    ALERT, BROADCAST, Block, FastReply, Frame, FrameError, LONGEST, OVERHEAD, Request, Scan,
    Status, TooLong, entries, scan,
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

/// Id, error and parameters.
type Said = (u8, u8, Vec<u8>);

/// All statuses in `bytes`, and the bytes that wait for more.
fn statuses(mut bytes: &[u8], longest: usize) -> (Vec<Said>, &[u8]) {
    let (mut out, mut room) = (Vec::new(), [0; LONGEST]);
    loop {
        match scan(bytes, longest) {
            Scan::Frame { skipped, frame } => {
                if let Some(status) = Status::parse(&frame, &mut room) {
                    out.push((status.id, status.error, status.parameters.to_vec()));
                }
                bytes = &bytes[skipped + frame.bytes().len()..];
            }
            Scan::More { skipped } => return (out, &bytes[skipped..]),
        }
    }
}

/// Bytes as the manual writes them.
fn hex(text: &str) -> Vec<u8> {
    let bytes = text.split_whitespace();
    bytes.map(|b| u8::from_str_radix(b, 16).unwrap()).collect()
}

/// Frames as the e-Manual prints them.
#[test]
fn the_manuals_frames() {
    let requests = [
        (Request::Ping { id: 1 }, "FF FF FD 00 01 03 00 01 19 4E"),
        (
            Request::Ping { id: BROADCAST },
            "FF FF FD 00 FE 03 00 01 31 42",
        ),
        (
            Request::Read {
                id: 1,
                address: 132,
                count: 4,
            },
            "FF FF FD 00 01 07 00 02 84 00 04 00 1D 15",
        ),
        (
            Request::Write {
                id: 1,
                address: 116,
                data: &[0, 2, 0, 0],
            },
            "FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89",
        ),
        (
            Request::SyncRead {
                address: 132,
                count: 4,
                ids: &[1, 2],
            },
            "FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA",
        ),
        (
            Request::FastSyncRead {
                address: 132,
                count: 4,
                ids: &[3, 7, 4],
            },
            "FF FF FD 00 FE 0A 00 8A 84 00 04 00 03 07 04 20 F2",
        ),
        (
            Request::SyncWrite {
                address: 116,
                count: 4,
                data: &[1, 150, 0, 0, 0, 2, 170, 0, 0, 0],
            },
            "FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87",
        ),
    ];
    for (request, printed) in requests {
        assert_eq!(encoded(request), hex(printed), "{request:?}");
    }
    let replies = [
        (
            1,
            &[6, 4, 38][..],
            "FF FF FD 00 01 07 00 55 00 06 04 26 65 5D",
        ),
        (2, &[6, 4, 38], "FF FF FD 00 02 07 00 55 00 06 04 26 6F 6D"),
        (
            1,
            &[166, 0, 0, 0],
            "FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0",
        ),
        (
            2,
            &[31, 8, 0, 0],
            "FF FF FD 00 02 08 00 55 00 1F 08 00 00 BA BE",
        ),
        (1, &[], "FF FF FD 00 01 04 00 55 00 A1 0C"),
    ];
    for (id, parameters, printed) in replies {
        assert_eq!(status(id, 0, parameters), hex(printed));
    }
}

#[test]
fn the_manuals_answer_to_a_fast_sync_read() {
    let printed = hex(
        "FF FF FD 00 FE 19 00 55 00 03 A6 00 00 00 84 08 00 07 1F 08 00 00 16 CA \
         00 04 FF 03 00 00 D1 9E",
    );
    let said = [(3, [166, 0, 0, 0]), (7, [31, 8, 0, 0]), (4, [255, 3, 0, 0])];
    let statuses = said.iter().map(|(id, parameters)| Status {
        id: *id,
        error: 0,
        parameters,
    });
    let mut buffer = [0; 64];
    let bytes = FastReply::encode(3, 4, statuses, &mut buffer).unwrap();
    assert_eq!(buffer[..bytes], printed);
    assert_eq!(bytes, FastReply::bytes(3, 4));
    // It is a frame as any other, too.
    assert!(Frame::new_checked(&printed, LONGEST).is_ok());
    let expected = said.map(|(id, parameters)| (id, parameters.to_vec()));
    for piece in 1..=printed.len() {
        let (found, junk) = fast(&printed, 3, 4, piece);
        assert_eq!((&found[..], junk), (&expected[..], false), "{piece}");
    }
}

/// The blocks in `bytes`, which come in pieces; and whether there was anything else.
fn fast(bytes: &[u8], servos: usize, count: usize, piece: usize) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut reply = FastReply::new(servos, count);
    let (mut waiting, mut found, mut junk) = (Vec::new(), Vec::new(), false);
    for piece in bytes.chunks(piece) {
        waiting.extend_from_slice(piece);
        loop {
            match reply.next(&waiting, &mut junk) {
                Block::Status { used, status } => {
                    found.push((status.id, status.parameters.to_vec()));
                    waiting.drain(..used);
                }
                Block::More { used } => {
                    waiting.drain(..used);
                    break;
                }
            }
        }
    }
    (found, junk)
}

#[test]
fn what_does_not_fit_is_refused() {
    let ping = Request::Ping { id: 1 };
    assert_eq!(ping.encode(&mut [0; 9]), Err(TooLong { bytes: 10 }));
    let data = vec![0; 65_536];
    let write = Request::Write {
        id: 1,
        address: 0,
        data: &data,
    };
    let refused = write.encode(&mut vec![0; 70_000]);
    assert_eq!(refused, Err(TooLong { bytes: 65_548 }));
}

#[test]
fn frames_are_refused_by_name() {
    let good = status(3, 0, &[1, 2]);
    let check = |bytes: &[u8], longest| Frame::new_checked(bytes, longest).map(|f| f.id());
    assert_eq!(check(&good, LONGEST), Ok(3));
    assert_eq!(check(&good, 12), Err(FrameError::Length));
    assert_eq!(check(&good[..12], LONGEST), Err(FrameError::Incomplete));
    assert_eq!(check(&good[1..], LONGEST), Err(FrameError::Header));
    let with = |place: usize, byte| {
        let mut bytes = good.clone();
        bytes[place] = byte;
        check(&bytes, LONGEST)
    };
    assert_eq!(with(3, 0xFD), Err(FrameError::Header));
    assert_eq!(with(4, 0xFD), Err(FrameError::Id));
    assert_eq!(with(5, 2), Err(FrameError::Length));
    assert_eq!(with(9, 7), Err(FrameError::Crc));
}

/// A header among the data is stuffed, on its way there and back.
#[test]
fn no_header_shows_up_inside() {
    let data = [0xFF, 0xFF, 0xFD, 0x00, 0xFF, 0xFF, 0xFF, 0xFD, 0xFD];
    let bytes = status(1, 0, &data);
    assert_eq!(bytes.len(), OVERHEAD + data.len() + 2);
    let (found, _) = statuses(&bytes, LONGEST);
    assert_eq!(found, [(1, 0, data.to_vec())]);
    // Without its stuffing it is a frame and says nothing.
    let mut bare = status(1, 0, &[1, 2, 3, 4]);
    bare[9..12].copy_from_slice(&data[..3]);
    let last = bare.len() - 2;
    let check = hilt_drivers::bus::dynamixel::crc(0, &bare[..last]);
    bare[last..].copy_from_slice(&check.to_le_bytes());
    let frame = Frame::new_checked(&bare, LONGEST).unwrap();
    assert_eq!(Status::parse(&frame, &mut [0; 64]), None);
}

fn id() -> impl Strategy<Value = u8> {
    prop_oneof![0u8..=252, Just(BROADCAST)]
}

/// Bytes that like to look like a header.
fn awkward(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![Just(0xFFu8), Just(0xFD), Just(0), any::<u8>()],
        length,
    )
}

proptest! {
    #[test]
    fn requests_come_back(
        id in id(),
        address: u16,
        count in 0u16..20,
        kind in 0..6,
        data in awkward(0..200),
    ) {
        let whole = data.len() - data.len() % (1 + usize::from(count));
        let request = match kind {
            0 => Request::Ping { id },
            1 => Request::Read { id, address, count },
            2 => Request::Write { id, address, data: &data },
            3 => Request::SyncRead { address, count, ids: &data },
            4 => Request::FastSyncRead { address, count, ids: &data },
            _ => Request::SyncWrite { address, count, data: &data[..whole] },
        };
        let bytes = encoded(request);
        let frame = Frame::new_checked(&bytes, LONGEST).unwrap();
        prop_assert_eq!(frame.bytes(), bytes.as_slice());
        let mut room = [0; LONGEST];
        prop_assert_eq!(Request::parse(&frame, &mut room), Some(request));
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
    fn statuses_come_back(id in 0u8..=252, error: u8, parameters in awkward(0..=250)) {
        let bytes = status(id, error | ALERT, &parameters);
        let (found, rest) = statuses(&bytes, LONGEST);
        prop_assert_eq!(found, [(id, error | ALERT, parameters)]);
        prop_assert!(rest.is_empty());
    }

    /// Among noise, and cut anywhere into pieces as a line delivers them, every frame is found.
    #[test]
    fn frames_are_found_among_noise(
        parts in vec((vec(0u8..0xFF, 0..12), 0u8..=252, awkward(8..=8)), 1..6),
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
            let (more, rest) = statuses(&waiting, 24);
            found.extend(more);
            waiting = rest.to_vec();
        }
        prop_assert_eq!(found, sent);
    }

    /// Up to three wrong bits, in the id or the length as anywhere else: the frame is not taken, and
    /// the ones behind it are as soon as there are more bytes than it can have claimed.
    #[test]
    fn flipped_bits_are_seen(
        first in (0u8..=252, vec(0u8..0xFD, 8..=8)),
        second in (0u8..=252, vec(0u8..0xFD, 8..=8)),
        bits in proptest::collection::hash_set(0usize..19 * 8, 1..=3),
    ) {
        let mut bytes = status(first.0, 0, &first.1);
        for bit in bits {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes.extend(status(second.0, 0, &second.1));
        bytes.extend([0; 24]);
        let (found, _) = statuses(&bytes, 24);
        prop_assert_eq!(found, [(second.0, 0, second.1)]);
    }

    /// Blocks up to the first wrong byte are believed, none after it.
    #[test]
    fn a_fast_answer_is_believed_until_it_is_wrong(
        values in vec(awkward(8..=8), 1..8),
        wrong in any::<proptest::sample::Index>(),
        by in 1u8..=255,
        noise in vec(0u8..0xFF, 0..9),
        piece in 1usize..60,
    ) {
        let ids = 1u8..;
        let all: Vec<_> = ids.zip(values).collect();
        let statuses = all.iter().map(|(id, v)| Status { id: *id, error: 0, parameters: v });
        let mut buffer = [0; 256];
        let size = FastReply::encode(all.len(), 8, statuses, &mut buffer).unwrap();
        let good = [&noise[..], &buffer[..size]].concat();
        let (found, junk) = fast(&good, all.len(), 8, piece);
        prop_assert_eq!((&found, junk), (&all, !noise.is_empty()));
        let mut bad = good.clone();
        let place = wrong.index(size);
        bad[noise.len() + place] ^= by;
        let believed = place.saturating_sub(8) / 12;
        let believed = if place < 8 { 0 } else { believed };
        let (found, _) = fast(&bad, all.len(), 8, piece);
        prop_assert_eq!(&found[..], &all[..believed]);
    }

    /// Whatever comes, it ends, and what was found is a frame and was there.
    #[test]
    fn any_bytes_end(bytes in awkward(0..600), longest in 0usize..300) {
        match scan(&bytes, longest) {
            Scan::Frame { skipped, frame } => {
                prop_assert!(frame.bytes().len() <= longest);
                prop_assert_eq!(&bytes[skipped..skipped + frame.bytes().len()], frame.bytes());
                let (mut room, mut other) = ([0; LONGEST], [0; LONGEST]);
                let _ = (Request::parse(&frame, &mut room), Status::parse(&frame, &mut other));
            }
            Scan::More { skipped } => {
                prop_assert!(skipped <= bytes.len());
                prop_assert!(bytes.len() - skipped < longest.max(7));
            }
        }
        let _ = fast(&bytes, 3, 4, 7);
    }
}
