//! The robot's side of reliable delivery as a state machine without I/O: which entry of the log is
//! sent next, what is on its way, and when to ask the learner where it stands.

use std::collections::VecDeque;

use crate::frames::Position;

/// How much may be on its way without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Most entries.
    pub entries: usize,
    /// Bytes from which on nothing more is sent: exceeded by less than one entry.
    pub bytes: usize,
    /// Without an acknowledgement for so long, the learner is asked where it stands.
    pub patience_ns: u64,
}

impl Default for WindowLimits {
    /// Some hundred entries with two 128×128 cameras; half of what a learner's queue holds.
    fn default() -> Self {
        Self {
            entries: 1024,
            bytes: 32 << 20,
            patience_ns: 1_000_000_000,
        }
    }
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Sequence of the first entry to send.
    pub first: u64,
    /// Most entries, at least 1.
    pub entries: usize,
    /// Send no further entry once so many bytes went out; at least 1.
    pub bytes: usize,
}

/// A cursor over one run's log. All sequences below `acked` are on the learner's disk; those in
/// `acked..next` are on their way; those in `next..logged` wait.
#[derive(Debug)]
pub struct SendWindow {
    limits: WindowLimits,
    acked: u64,
    next: u64,
    logged: u64,
    /// Size of each entry in `acked..next`; 0 where the size is not known any more.
    sizes: VecDeque<usize>,
    bytes: usize,
    in_step: bool,
    quiet_since_ns: u64,
}

impl SendWindow {
    /// A window at the beginning of an empty log, out of step with the learner.
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            acked: 0,
            next: 0,
            logged: 0,
            sizes: VecDeque::new(),
            bytes: 0,
            in_step: false,
            quiet_since_ns: 0,
        }
    }

    /// The log holds everything up to and including `sequence`.
    pub fn logged_up_to(&mut self, sequence: u64) {
        self.logged = self.logged.max(sequence.saturating_add(1));
    }

    /// Whether nothing may be sent before the learner has said where it stands ([`Self::align`]).
    pub fn needs_position(&self) -> bool {
        !self.in_step
    }

    /// The connection or the learner is gone: what was on its way may be lost.
    pub fn lost(&mut self) {
        self.in_step = false;
    }

    /// The learner stands at `position`: send from there on. What it has received but not yet
    /// written stays on its way; what it does not have is sent again, even if another learner
    /// (one whose disk is gone) had acknowledged it.
    pub fn align(&mut self, position: Position, now_ns: u64) {
        let durable = position.durable.min(self.logged);
        let received = position.received.clamp(durable, self.logged);
        let old = std::mem::take(&mut self.sizes);
        let size = |sequence: u64| {
            let at = sequence.checked_sub(self.acked)?;
            old.get(usize::try_from(at).ok()?).copied()
        };
        self.sizes = (durable..received).map(|s| size(s).unwrap_or(0)).collect();
        self.bytes = self.sizes.iter().sum();
        self.acked = durable;
        self.next = received;
        self.in_step = true;
        self.quiet_since_ns = now_ns;
    }

    /// What may be sent now, if anything.
    pub fn room(&self) -> Option<Room> {
        let entries = self.limits.entries.max(1).checked_sub(self.sizes.len())?;
        let waiting = usize::try_from(self.logged - self.next).unwrap_or(usize::MAX);
        let entries = entries.min(waiting);
        let bytes = self.limits.bytes.max(1).saturating_sub(self.bytes);
        (self.in_step && entries > 0 && bytes > 0).then_some(Room {
            first: self.next,
            entries,
            bytes,
        })
    }

    /// The entry that was next (see [`Self::room`]) went out with `bytes` bytes.
    pub fn sent(&mut self, bytes: usize, now_ns: u64) {
        if self.sizes.is_empty() {
            self.quiet_since_ns = now_ns;
        }
        self.sizes.push_back(bytes);
        self.bytes += bytes;
        self.next += 1;
    }

    /// Everything up to and including `sequence` is durable. `false` if that is not news, or is
    /// about entries that were not sent.
    pub fn ack(&mut self, sequence: u64, now_ns: u64) -> bool {
        if sequence < self.acked || sequence >= self.next {
            return false;
        }
        let Ok(count) = usize::try_from(sequence + 1 - self.acked) else {
            return false;
        };
        self.bytes -= self.sizes.drain(..count).sum::<usize>();
        self.acked = sequence + 1;
        self.quiet_since_ns = now_ns;
        true
    }

    /// Goes out of step when the learner's patience-long silence says that something may be lost.
    pub fn check_silence(&mut self, now_ns: u64) {
        if self.silent_at().is_some_and(|at| at <= now_ns) {
            self.in_step = false;
        }
    }

    /// When [`Self::check_silence`] has something to do next.
    pub fn silent_at(&self) -> Option<u64> {
        (self.in_step && !self.sizes.is_empty())
            .then(|| self.quiet_since_ns.saturating_add(self.limits.patience_ns))
    }

    /// First sequence that is not acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Sequence of the entry to be sent next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// One past the last sequence of the log.
    pub fn logged(&self) -> u64 {
        self.logged
    }

    /// Entries on their way.
    pub fn in_flight(&self) -> usize {
        self.sizes.len()
    }

    /// Bytes on their way.
    pub fn in_flight_bytes(&self) -> usize {
        self.bytes
    }
}
