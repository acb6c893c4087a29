//! What comes in after a request: the echo of the request, replies, and whatever else.

use super::{
    Next, Protocol, Status,
    dynamixel::{Block, FastReply},
};

/// Room for the replies of all servos, an echo, and as much noise again.
const SIZE: usize = 512;

/// Most parameters of a reply.
pub(super) const MOST: usize = 64;

/// Bytes that wait to be understood.
pub(super) struct Inbox {
    protocol: Protocol,
    bytes: [u8; SIZE],
    start: usize,
    end: usize,
    /// Parameters of each reply to this request.
    count: usize,
    /// They come as one frame.
    fast: Option<FastReply>,
    may_echo: bool,
    junk: bool,
    /// The parameters of the last reply.
    parameters: [u8; MOST],
}

impl Inbox {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            bytes: [0; SIZE],
            start: 0,
            end: 0,
            count: 0,
            fast: None,
            may_echo: false,
            junk: false,
            parameters: [0; MOST],
        }
    }

    /// A request goes out, to be answered with `count` parameters each; `together`: by so many
    /// servos in one frame. What came before is of no interest.
    pub fn begin(&mut self, count: usize, together: Option<usize>) {
        (self.start, self.end) = (0, 0);
        (self.may_echo, self.junk) = (true, false);
        self.count = count.min(MOST);
        self.fast = together.map(|servos| FastReply::new(servos, self.count));
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

    /// The next reply. `sent`: the request, whose echo is no reply.
    pub fn next(&mut self, sent: &[u8]) -> Option<Status<'_>> {
        self.strip_echo(sent)?;
        let (id, error) = match self.fast {
            Some(_) => self.next_block(),
            None => self.next_frame(),
        }?;
        Some(Status {
            id,
            error,
            parameters: &self.parameters[..self.count],
        })
    }

    /// `None`: it has come in part.
    fn strip_echo(&mut self, sent: &[u8]) -> Option<()> {
        if !self.may_echo {
            return Some(());
        }
        let waiting = &self.bytes[self.start..self.end];
        let common = waiting.len().min(sent.len());
        if waiting[..common] != sent[..common] {
            self.may_echo = false;
        } else if common < sent.len() {
            return None;
        } else {
            self.start += common;
            self.may_echo = false;
        }
        Some(())
    }

    fn next_frame(&mut self) -> Option<(u8, u8)> {
        let longest = self.protocol.longest_reply(self.count);
        let mut room = [0; 2 * MOST];
        loop {
            let waiting = &self.bytes[self.start..self.end];
            match self.protocol.next_status(waiting, longest, &mut room) {
                Next::More { skipped } => {
                    self.start += skipped;
                    self.junk |= skipped > 0;
                    return None;
                }
                Next::Frame {
                    skipped,
                    bytes,
                    said,
                } => {
                    self.start += skipped + bytes.len();
                    self.junk |= skipped > 0;
                    match said {
                        Some(status) if status.parameters.len() == self.count => {
                            self.parameters[..self.count].copy_from_slice(status.parameters);
                            return Some((status.id, status.error));
                        }
                        _ => self.junk = true,
                    }
                }
            }
        }
    }

    fn next_block(&mut self) -> Option<(u8, u8)> {
        let waiting = &self.bytes[self.start..self.end];
        match self.fast.as_mut()?.next(waiting, &mut self.junk) {
            Block::More { used } => {
                self.start += used;
                None
            }
            Block::Status { used, status } => {
                self.start += used;
                self.parameters[..self.count].copy_from_slice(status.parameters);
                Some((status.id, status.error))
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
        let mut inbox = Inbox::new(Protocol::Feetech);
        for split in 0..REQUEST.len() {
            inbox.begin(1, None);
            put(&mut inbox, &REQUEST[..split]);
            assert_eq!(inbox.next(&REQUEST), None);
            put(&mut inbox, &REQUEST[split..]);
            put(&mut inbox, &REPLY);
            let reply = inbox.next(&REQUEST).map(|s| (s.id, s.parameters[0]));
            assert_eq!(reply, Some((1, 9)), "split at {split}");
            assert_eq!(inbox.next(&REQUEST), None);
            assert!(!inbox.junk());
        }
    }

    #[test]
    fn replies_of_another_size_and_noise_are_junk() {
        let mut inbox = Inbox::new(Protocol::Feetech);
        inbox.begin(2, None);
        put(&mut inbox, &REPLY);
        assert_eq!(inbox.next(&REQUEST), None);
        assert!(inbox.junk());
        inbox.begin(1, None);
        assert!(!inbox.junk());
        for _ in 0..100 {
            put(&mut inbox, &[0xFF, 3, 0xFF, 0xFF, 0x80, 1, 2]);
            assert_eq!(inbox.next(&REQUEST), None);
        }
        put(&mut inbox, &REPLY);
        assert!(inbox.next(&REQUEST).is_some());
        assert!(inbox.junk());
    }
}
