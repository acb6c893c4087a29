//! Whatever a serial line delivers is scanned to its end, and every frame in it is said again byte
//! for byte.
#![no_main]

// The file alone: the drivers as a whole would bring MuJoCo, which a codec does not need.
#[path = "../../drivers/src/bus/feetech.rs"]
mod feetech;

use feetech::{LONGEST, OVERHEAD, Request, Scan, Status, entries, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((longest, mut bytes)) = input.split_first() else {
        return;
    };
    let longest = OVERHEAD + usize::from(*longest);
    let mut again = [0; LONGEST];
    loop {
        match scan(bytes, longest) {
            Scan::Frame { skipped, frame } => {
                if let Some(request) = Request::parse(&frame) {
                    assert_eq!(request.encode(&mut again), Ok(frame.bytes().len()));
                    assert_eq!(&again[..frame.bytes().len()], frame.bytes());
                    if let Request::SyncWrite { count, data, .. } = request {
                        let of_each = entries(data, count).map(|(_, bytes)| 1 + bytes.len());
                        assert_eq!(of_each.sum::<usize>(), data.len());
                    }
                }
                if let Some(status) = Status::parse(&frame) {
                    assert_eq!(status.encode(&mut again), Ok(frame.bytes().len()));
                    assert_eq!(&again[..frame.bytes().len()], frame.bytes());
                }
                bytes = &bytes[skipped + frame.bytes().len()..];
            }
            Scan::More { skipped } => {
                assert!(bytes.len() - skipped < longest.max(OVERHEAD));
                return;
            }
        }
    }
});
