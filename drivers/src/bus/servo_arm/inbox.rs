//! What comes in after a request: the echo of the request, replies, and whatever else.

use crate::bus::feetech::{OVERHEAD, Scan, Status, scan};

/// Room for the replies of all servos, an echo, and as much noise again.
const SIZE: usize = 512;

/// Bytes that wait to be understood.
pub(super) struct Inbox {
    bytes: [u8; SIZE],
    start: usize,
    end: usize,
    may_echo: bool,
    junk: bool,
}

impl Inbox {
    pub fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            start: 0,
            end: 0,
            may_echo: false,
            junk: false,
        }
    }

    /// A request goes out: what came before is of no interest.
    pub fn begin(&mut self) {
        (self.start, self.end) = (0, 0);
        (self.may_echo, self.junk) = (true, false);
    }

    /// Whether there were bytes that belong to no reply.
    pub fn junk(&self) -> bool {
        self.junk
    }

    /// Where the next bytes go; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        // Cannot be: what waits is shorter than one frame. But a full inbox would never end.
        if self.end == SIZE {
            (self.end, self.junk) = (0, true);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes have come.
    pub fn came(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(SIZE);
    }

    /// The next reply with `count` parameters. `sent`: the request, whose echo is no reply.
    pub fn next(&mut self, sent: &[u8], count: u8) -> Option<Status<'_>> {
        let Self {
            bytes,
            start,
            end,
            may_echo,
            junk,
        } = self;
        if *may_echo {
            let waiting = &bytes[*start..*end];
            let common = waiting.len().min(sent.len());
            if waiting[..common] != sent[..common] {
                *may_echo = false;
            } else if common < sent.len() {
                return None;
            } else {
                *start += common;
                *may_echo = false;
            }
        }
        let count = usize::from(count);
        loop {
            match scan(&bytes[*start..*end], OVERHEAD + count) {
                Scan::More { skipped } => {
                    *start += skipped;
                    *junk |= skipped > 0;
                    return None;
                }
                Scan::Frame { skipped, frame } => {
                    *start += skipped + frame.bytes().len();
                    *junk |= skipped > 0;
                    match Status::parse(&frame) {
                        Some(status) if status.parameters.len() == count => return Some(status),
                        _ => *junk = true,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 8] = [0xFF, 0xFF, 1, 4, 2, 56, 1, 0xC1];
    const REPLY: [u8; 7] = [0xFF, 0xFF, 1, 3, 0, 9, 0xF2];

    fn put(inbox: &mut Inbox, bytes: &[u8]) {
        inbox.space()[..bytes.len()].copy_from_slice(bytes);
        inbox.came(bytes.len());
    }

    #[test]
    fn an_echo_is_stripped_also_in_pieces() {
        let mut inbox = Inbox::new();
        for split in 0..REQUEST.len() {
            inbox.begin();
            put(&mut inbox, &REQUEST[..split]);
            assert_eq!(inbox.next(&REQUEST, 1), None);
            put(&mut inbox, &REQUEST[split..]);
            put(&mut inbox, &REPLY);
            let reply = inbox.next(&REQUEST, 1).map(|s| (s.id, s.parameters[0]));
            assert_eq!(reply, Some((1, 9)), "split at {split}");
            assert_eq!(inbox.next(&REQUEST, 1), None);
            assert!(!inbox.junk());
        }
    }

    #[test]
    fn replies_of_another_size_and_noise_are_junk() {
        let mut inbox = Inbox::new();
        inbox.begin();
        put(&mut inbox, &REPLY);
        assert_eq!(inbox.next(&REQUEST, 2), None);
        assert!(inbox.junk());
        inbox.begin();
        assert!(!inbox.junk());
        for _ in 0..100 {
            put(&mut inbox, &[0xFF, 3, 0xFF, 0xFF, 0x80, 1, 2]);
            assert_eq!(inbox.next(&REQUEST, 1), None);
        }
        put(&mut inbox, &REPLY);
        assert!(inbox.next(&REQUEST, 1).is_some());
        assert!(inbox.junk());
    }
}
