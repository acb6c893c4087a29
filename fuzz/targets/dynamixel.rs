//! Whatever a serial line delivers is scanned to its end, and every frame in it is said again byte
//! for byte; the same bytes as the answer to a fast sync read.
#![no_main]

// The file alone: the drivers as a whole would bring MuJoCo, which a codec does not need.
#[path = "../../drivers/src/bus/dynamixel.rs"]
mod dynamixel;

use dynamixel::{
    Block, FAST_OVERHEAD, FastReply, LONGEST, OVERHEAD, Request, Scan, Status, entries, scan,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((longest, bytes)) = input.split_first() else {
        return;
    };
    frames(OVERHEAD + usize::from(*longest), bytes);
    fast(usize::from(longest % 8), usize::from(longest / 8), bytes);
});

fn frames(longest: usize, mut bytes: &[u8]) {
    let (mut again, mut room) = ([0; LONGEST], [0; LONGEST]);
    loop {
        match scan(bytes, longest) {
            Scan::Frame { skipped, frame } => {
                if let Some(request) = Request::parse(&frame, &mut room) {
                    assert_eq!(request.encode(&mut again), Ok(frame.bytes().len()));
                    assert_eq!(&again[..frame.bytes().len()], frame.bytes());
                    if let Request::SyncWrite { count, data, .. } = request {
                        let of_each = entries(data, count).map(|(_, bytes)| 1 + bytes.len());
                        assert_eq!(of_each.sum::<usize>(), data.len());
                    }
                }
                if let Some(status) = Status::parse(&frame, &mut room) {
                    assert_eq!(status.encode(&mut again), Ok(frame.bytes().len()));
                    assert_eq!(&again[..frame.bytes().len()], frame.bytes());
                }
                bytes = &bytes[skipped + frame.bytes().len()..];
            }
            Scan::More { skipped } => {
                assert!(bytes.len() - skipped < longest);
                return;
            }
        }
    }
}

/// The header is put before the bytes, or the fuzzer would have to find its length first.
fn fast(servos: usize, count: usize, bytes: &[u8]) {
    let mut whole = vec![0; FAST_OVERHEAD];
    let none = std::iter::empty();
    assert_eq!(
        FastReply::encode(servos, count, none, &mut whole),
        Ok(FAST_OVERHEAD)
    );
    whole.extend(bytes);
    let (mut reply, mut found) = (FastReply::new(servos, count), Vec::new());
    let (mut bytes, mut junk) = (&whole[..], false);
    loop {
        match reply.next(bytes, &mut junk) {
            Block::Status { used, status } => {
                found.push(status);
                bytes = &bytes[used..];
            }
            Block::More { used } => {
                assert!(used <= bytes.len());
                break;
            }
        }
    }
    assert!(found.len() <= servos);
    let mut again = vec![0; FastReply::bytes(servos, count)];
    let size = FastReply::encode(servos, count, found.iter().copied(), &mut again);
    let size = size.expect("what was read is no longer than what can be said");
    assert_eq!(again[..size], whole[..size]);
}
