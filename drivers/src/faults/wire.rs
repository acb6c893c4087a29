//! A serial line that loses, spoils and forges replies, or is pulled out, when a plan says so.

use std::os::fd::BorrowedFd;

use hilt_protocol::noise::{Uniforms, mix};

use super::{FaultKind, FaultPlan};
use crate::bus::{
    Next, Protocol, Request, Status, Wire, WireError,
    dynamixel::{self, ALERT, Block, FAST_OVERHEAD, FastReply},
};

/// What [`FaultKind::ErrorByte`] makes a Feetech servo report: overload. A Dynamixel servo reports
/// that there is an error, and knows of none when it is asked which.
pub const ERROR_BITS: u8 = 0x20;

/// Bytes of the longest reply.
const LONGEST: usize = dynamixel::LONGEST;

/// Most servos that answer in one frame.
const TOGETHER: usize = 16;

/// Room for the replies of more servos than a bus has, or for three of the longest.
const ROOM: usize = 1024;

/// A wire with the faults of a plan: [`FaultKind::ServoSilent`], [`FaultKind::ReplyCorrupted`],
/// [`FaultKind::WrongId`], [`FaultKind::ErrorByte`], [`FaultKind::BusUnplugged`].
///
/// Replies are struck whole, one at a time: while a fault is on, a reply is held back until its
/// last byte or the reader's time-out, whichever comes first. A silent servo still hears. Nothing is
/// allocated, and equal seeds do equal things to equal replies.
#[derive(Debug)]
pub struct FaultyWire<W> {
    inner: W,
    plan: FaultPlan,
    arm: usize,
    origin_ns: u64,
    random: Uniforms,
    /// What the host speaks, by what it said last.
    protocol: Protocol,
    /// How many servos were asked to answer in one frame, and for how many bytes each.
    together: Option<(usize, usize)>,
    /// What has come: `ready` bytes that can be given away, then a reply that is not whole yet.
    bytes: [u8; ROOM],
    ready: usize,
    len: usize,
}

impl<W: Wire> FaultyWire<W> {
    /// `inner`, which is the bus of arm number `arm`, with the faults of `plan`, whose times count
    /// from `origin_ns` on the wire's clock; before that there are none.
    pub fn new(inner: W, plan: FaultPlan, arm: usize, origin_ns: u64) -> Self {
        let random = Uniforms::new(mix(plan.seed ^ mix(arm as u64)));
        Self {
            inner,
            plan,
            arm,
            origin_ns,
            random,
            protocol: Protocol::Feetech,
            together: None,
            bytes: [0; ROOM],
            ready: 0,
            len: 0,
        }
    }

    /// Nanoseconds since the plan's origin.
    fn since_ns(&self) -> Option<u64> {
        self.inner.now_ns().checked_sub(self.origin_ns)
    }

    fn check_plugged(&mut self) -> Result<(), WireError> {
        let since_ns = self.since_ns();
        let pulled = |since_ns| {
            self.plan
                .active(FaultKind::BusUnplugged, self.arm, since_ns)
                .is_some()
        };
        if since_ns.is_some_and(pulled) {
            (self.ready, self.len) = (0, 0);
            return Err(WireError::Unplugged);
        }
        Ok(())
    }

    /// Whether replies are struck now.
    fn strikes(&self) -> bool {
        const REPLIES: [FaultKind; 4] = [
            FaultKind::ServoSilent,
            FaultKind::ReplyCorrupted,
            FaultKind::WrongId,
            FaultKind::ErrorByte,
        ];
        self.since_ns().is_some_and(|since_ns| {
            REPLIES
                .iter()
                .any(|kind| self.plan.active(*kind, self.arm, since_ns).is_some())
        })
    }

    /// Whether a reply of servo `id` is struck by this fault.
    fn draw(&mut self, kind: FaultKind, id: u8) -> bool {
        let Some(since_ns) = self.since_ns() else {
            return false;
        };
        let mut faults = self.plan.all_active(kind, self.arm, since_ns);
        faults.any(|fault| fault.concerns(id) && self.random.open01() < fault.magnitude)
    }

    /// Learns from what the host says how it will be answered.
    fn overhear(&mut self, bytes: &[u8]) {
        let mut room = [0; LONGEST];
        for protocol in [Protocol::Dynamixel, Protocol::Feetech] {
            let next = protocol.next_request(bytes, LONGEST, &mut room);
            if let Next::Frame {
                skipped: 0, said, ..
            } = next
            {
                self.protocol = protocol;
                self.together = match said {
                    Some(Request::FastSyncRead { count, ids, .. }) => {
                        Some((ids.len(), count.into()))
                    }
                    _ => None,
                };
                return;
            }
        }
    }

    /// Strikes every whole reply that has come.
    fn strike(&mut self) {
        let mut room = [0; LONGEST];
        loop {
            let waiting = &self.bytes[self.ready..self.len];
            match self.protocol.next_status(waiting, LONGEST, &mut room) {
                Next::Frame {
                    skipped,
                    bytes,
                    said,
                } => {
                    let (id, size) = (said.map(|status| status.id), bytes.len());
                    self.ready += skipped;
                    match (id, self.together) {
                        (Some(id), _) => self.strike_reply(id, size),
                        (None, Some(layout)) => self.strike_together(size, layout),
                        // An echo.
                        (None, None) => self.ready += size,
                    }
                }
                Next::More { skipped } => {
                    self.ready += skipped;
                    // No reply is so long: it is noise.
                    if self.len == ROOM {
                        self.ready = self.len;
                    }
                    return;
                }
            }
        }
    }

    /// Strikes the reply of servo `id`, the `size` bytes at `ready`, and makes it ready.
    fn strike_reply(&mut self, id: u8, size: usize) {
        let (from, to) = (self.ready, self.ready + size);
        if self.draw(FaultKind::ServoSilent, id) {
            self.bytes.copy_within(to..self.len, from);
            self.len -= size;
            return;
        }
        let (said_id, error) = self.forged(id);
        if (said_id, error) != (id, 0) {
            self.forge(from, to, said_id, error);
        }
        if self.draw(FaultKind::ReplyCorrupted, id) {
            corrupt(&mut self.bytes[from..to], &mut self.random);
        }
        self.ready = to;
    }

    /// The id that servo `id` says it has, and the error bits that it adds.
    fn forged(&mut self, id: u8) -> (u8, u8) {
        let (mut said, mut error) = (id, 0);
        if self.draw(FaultKind::WrongId, id) {
            // Any id but the right one, the broadcast's and those of no servo.
            let last = u64::from(self.protocol.last_id());
            said = ((u64::from(id) + 1 + self.random.below(last - 1)) % (last + 1)) as u8;
        }
        if self.draw(FaultKind::ErrorByte, id) {
            error = match self.protocol {
                Protocol::Feetech => ERROR_BITS,
                Protocol::Dynamixel => ALERT,
            };
        }
        (said, error)
    }

    /// Writes the reply again with this id and these error bits, its check right. A reply that had
    /// to be stuffed otherwise then stays as it is.
    fn forge(&mut self, from: usize, to: usize, id: u8, error: u8) {
        let (mut room, mut scratch) = ([0; LONGEST], [0; LONGEST]);
        let reply = &self.bytes[from..to];
        let Next::Frame {
            said: Some(status), ..
        } = self.protocol.next_status(reply, LONGEST, &mut room)
        else {
            return;
        };
        let forged = Status {
            id,
            error: status.error | error,
            ..status
        };
        if let Ok(size) = self.protocol.encode_status(&forged, &mut scratch)
            && size == to - from
        {
            self.bytes[from..to].copy_from_slice(&scratch[..size]);
        }
    }

    /// The same for the answer of several servos in one frame. One that is silent keeps those behind
    /// it from speaking.
    fn strike_together(&mut self, size: usize, (servos, count): (usize, usize)) {
        let (from, to) = (self.ready, self.ready + size);
        let (mut whole, mut room) = ([0; LONGEST], [0; LONGEST]);
        whole[..size].copy_from_slice(&self.bytes[from..to]);
        let mut reply = FastReply::new(servos, count);
        let mut statuses = [None; TOGETHER];
        let mut spoilt = [false; TOGETHER];
        let (mut rest, mut junk) = (&whole[..size], false);
        for (place, spoilt) in statuses.iter_mut().zip(&mut spoilt) {
            let Block::Status { used, status } = reply.next(rest, &mut junk) else {
                break;
            };
            rest = &rest[used..];
            if self.draw(FaultKind::ServoSilent, status.id) {
                break;
            }
            let (id, error) = self.forged(status.id);
            *spoilt = self.draw(FaultKind::ReplyCorrupted, status.id);
            *place = Some(Status {
                id,
                error: status.error | error,
                ..status
            });
        }
        let said = statuses.iter().copied().map_while(|status| status);
        let Ok(len) = FastReply::encode(servos, count, said, &mut room) else {
            self.ready = to;
            return;
        };
        let len = len.min(size);
        let block = (size - FAST_OVERHEAD) / servos.max(1);
        for (blocks, _) in room[FAST_OVERHEAD.min(len)..len]
            .chunks_mut(block.max(1))
            .zip(spoilt)
            .filter(|(_, spoilt)| *spoilt)
        {
            corrupt(blocks, &mut self.random);
        }
        self.bytes[from..from + len].copy_from_slice(&room[..len]);
        self.bytes.copy_within(to..self.len, from + len);
        self.len -= size - len;
        self.ready = from + len;
    }

    /// Gives away what is ready.
    fn deliver(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.ready.min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.copy_within(count..self.len, 0);
        self.ready -= count;
        self.len -= count;
        count
    }
}

/// Changes two to four bytes, wherever they are.
fn corrupt(reply: &mut [u8], random: &mut Uniforms) {
    let wrong = (2 + random.below(3) as usize).min(reply.len());
    let mut places = [usize::MAX; 4];
    for i in 0..wrong {
        let mut place = random.below(reply.len() as u64) as usize;
        while places[..i].contains(&place) {
            place = (place + 1) % reply.len();
        }
        places[i] = place;
        reply[place] ^= 1 + random.below(255) as u8;
    }
}

impl<W: Wire> Wire for FaultyWire<W> {
    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.check_plugged()?;
        self.overhear(bytes);
        self.inner.write(bytes)
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        self.check_plugged()?;
        loop {
            if self.ready > 0 {
                return Ok(self.deliver(buffer));
            }
            if self.len == 0 && !self.strikes() {
                let count = self.inner.read(buffer, until_ns)?;
                // It may have been pulled while this waited.
                return self.check_plugged().map(|()| count);
            }
            let count = self.inner.read(&mut self.bytes[self.len..], until_ns)?;
            self.check_plugged()?;
            self.len += count;
            if count == 0 {
                self.ready = self.len;
                return Ok(self.deliver(buffer));
            }
            self.strike();
        }
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.check_plugged()?;
        (self.ready, self.len) = (0, 0);
        self.inner.drain()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use hilt_realtime::{Clock, Fake};

    use super::*;
    use crate::{
        bus::feetech::{self, Scan, Status},
        faults::FaultSpec,
    };

    const SECOND_NS: u64 = 1_000_000_000;

    /// Gives what it was given, in pieces of three bytes.
    struct Line(VecDeque<u8>, Fake);

    impl Wire for Line {
        fn now_ns(&self) -> u64 {
            self.1.now_ns()
        }

        fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
            self.0.extend(bytes);
            Ok(())
        }

        fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
            let count = buffer.len().min(3).min(self.0.len());
            for (to, from) in buffer.iter_mut().zip(self.0.drain(..count)) {
                *to = from;
            }
            if count == 0 {
                self.1.sleep_until_ns(until_ns);
            }
            Ok(count)
        }

        fn drain(&mut self) -> Result<(), WireError> {
            self.0.clear();
            Ok(())
        }
    }

    fn wire(clock: &Fake, faults: &[(FaultKind, Option<u8>, f64)]) -> FaultyWire<Line> {
        let faults = faults.iter().map(|(kind, servo, share)| FaultSpec {
            kind: *kind,
            from_s: 1.0,
            for_s: 1.0,
            index: 1,
            servo: *servo,
            magnitude: Some(*share),
        });
        let plan = FaultPlan {
            seed: 5,
            faults: faults.collect(),
        };
        FaultyWire::new(Line(VecDeque::new(), clock.clone()), plan, 1, 0)
    }

    /// Replies of servos 1 to 6, four bytes each.
    fn replies() -> Vec<Vec<u8>> {
        let reply = |id: u8| {
            let mut bytes = [0; 32];
            let parameters = &[id, 2, 0xFF, 4];
            let status = Status {
                id,
                error: 0,
                parameters,
            };
            let size = status.encode(&mut bytes).unwrap();
            bytes[..size].to_vec()
        };
        (1..=6).map(reply).collect()
    }

    /// Everything that comes until the line is quiet.
    fn all(wire: &mut impl Wire) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 64]);
        loop {
            match wire.read(&mut buffer, 0).unwrap() {
                0 => return bytes,
                count => bytes.extend(&buffer[..count]),
            }
        }
    }

    fn heard(wire: &mut impl Wire) -> Vec<(u8, u8)> {
        let bytes = all(wire);
        let (mut heard, mut rest) = (Vec::new(), &bytes[..]);
        while let Scan::Frame { skipped, frame } = feetech::scan(rest, 32) {
            heard.push((frame.id(), frame.kind()));
            rest = &rest[skipped + frame.bytes().len()..];
        }
        heard
    }

    #[test]
    fn a_silent_servo_is_missed_and_the_others_are_heard() {
        let clock = Fake::at(SECOND_NS);
        let mut wire = wire(&clock, &[(FaultKind::ServoSilent, Some(3), 1.0)]);
        wire.write(&replies().concat()).unwrap();
        assert_eq!(heard(&mut wire), [1, 2, 4, 5, 6].map(|id| (id, 0)));
        clock.set_ns(2 * SECOND_NS);
        wire.write(&replies()[2]).unwrap();
        assert_eq!(heard(&mut wire), [(3, 0)]);
    }

    #[test]
    fn a_share_of_replies_is_lost() {
        let clock = Fake::at(SECOND_NS);
        let mut wire = wire(&clock, &[(FaultKind::ServoSilent, None, 0.25)]);
        let mut came = 0;
        for _ in 0..500 {
            wire.write(&replies().concat()).unwrap();
            came += heard(&mut wire).len();
        }
        // 3000 replies, 750 lost on average, standard deviation 24.
        assert!((2150..2350).contains(&came), "{came}");
    }

    #[test]
    fn corruption_hits_several_bytes_anywhere_and_repeats_with_the_seed() {
        let clock = Fake::at(SECOND_NS);
        let spoil = || {
            let mut wire = wire(&clock, &[(FaultKind::ReplyCorrupted, Some(2), 1.0)]);
            let spoil = |_| {
                wire.write(&replies().concat()).unwrap();
                all(&mut wire)
            };
            (0..200).map(spoil).collect::<Vec<_>>()
        };
        let spoilt = spoil();
        assert_eq!(spoilt, spoil());
        let good = replies().concat();
        let mut places = HashSet::new();
        for bytes in spoilt {
            assert_eq!(bytes.len(), good.len());
            let wrong: Vec<usize> = (0..good.len()).filter(|i| bytes[*i] != good[*i]).collect();
            assert!((2..=4).contains(&wrong.len()), "{wrong:?}");
            places.extend(wrong);
        }
        // The second reply, from its header to its checksum.
        assert_eq!(places, (10..20).collect());
    }

    #[test]
    fn forged_replies_are_valid() {
        let clock = Fake::at(SECOND_NS);
        let faults = [
            (FaultKind::WrongId, Some(1), 1.0),
            (FaultKind::ErrorByte, Some(4), 1.0),
        ];
        let mut wire = wire(&clock, &faults);
        for _ in 0..300 {
            wire.write(&replies().concat()).unwrap();
            let heard = heard(&mut wire);
            assert_eq!(heard.len(), 6);
            assert!(heard[0].0 != 1 && heard[0].0 < 254 && heard[0].1 == 0);
            assert_eq!(heard[3], (4, ERROR_BITS));
            assert_eq!([heard[1], heard[2]], [(2, 0), (3, 0)]);
        }
    }

    #[test]
    fn a_pulled_bus_takes_and_gives_nothing_until_it_is_back() {
        let clock = Fake::at(0);
        let mut wire = wire(&clock, &[(FaultKind::BusUnplugged, None, 1.0)]);
        let mut buffer = [0; 8];
        wire.write(&[1, 2, 3]).unwrap();
        assert_eq!(wire.read(&mut buffer, 0), Ok(3));
        clock.set_ns(SECOND_NS);
        assert_eq!(wire.write(&[1]), Err(WireError::Unplugged));
        assert_eq!(wire.read(&mut buffer, 0), Err(WireError::Unplugged));
        assert_eq!(wire.drain(), Err(WireError::Unplugged));
        clock.set_ns(2 * SECOND_NS);
        wire.write(&[4]).unwrap();
        assert_eq!(wire.read(&mut buffer, 0), Ok(1));
        // Pulled while it waits for a byte.
        clock.set_ns(0);
        let waited = wire.read(&mut buffer, SECOND_NS);
        assert_eq!(waited, Err(WireError::Unplugged));
    }

    #[test]
    fn what_no_fault_strikes_passes_as_it_is() {
        let noise = [0xFF, 0xFF, 0xFF, 7, 0, 0xFF, 0xFF, 2, 200, 1, 2, 3];
        for at_ns in [0, SECOND_NS] {
            let clock = Fake::at(at_ns);
            let mut wire = wire(&clock, &[(FaultKind::ErrorByte, Some(9), 1.0)]);
            let bytes = [&noise[..], &replies().concat(), &noise, &[0xFF]].concat();
            wire.write(&bytes).unwrap();
            assert_eq!(all(&mut wire), bytes);
        }
    }

    #[test]
    fn what_is_drained_does_not_come() {
        let clock = Fake::at(SECOND_NS);
        let mut wire = wire(&clock, &[(FaultKind::ErrorByte, None, 1.0)]);
        wire.write(&replies().concat()).unwrap();
        assert_eq!(wire.read(&mut [0; 4], 0), Ok(4));
        wire.drain().unwrap();
        assert_eq!(wire.read(&mut [0; 4], 0), Ok(0));
    }

    #[test]
    fn nothing_strikes_before_the_origin() {
        let clock = Fake::at(SECOND_NS);
        let mut wire = wire(&clock, &[(FaultKind::BusUnplugged, None, 1.0)]);
        wire.origin_ns = 2 * SECOND_NS;
        assert_eq!(wire.write(&[1]), Ok(()));
    }
}
