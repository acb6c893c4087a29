//! A wire with servos at its other end: one request at a time, and its replies.

use super::{Protocol, Register, Request, Status, Wire, WireError, inbox::Inbox};
use crate::ArmError;

/// Bytes of the longest request: a sync write of all goals in the longer protocol, with stuffing.
pub(super) const REQUEST_BYTES: usize = 80;

/// What an adapter and two schedulers take, beside the wire's time, from a request to its reply. A
/// USB adapter is asked once a millisecond.
pub(super) const TURNAROUND_NS: u64 = 1_000_000;

/// How long a single servo has for an answer outside the control loop, and how often it is asked.
const ANSWER_NS: u64 = 20_000_000;
const ANSWER_TRIES: usize = 3;

/// Writes of a register before it is given up.
const WRITE_TRIES: usize = 3;

/// How long it has to say that it was told. Its response level may be that it says nothing; what it
/// was told is read back in any case.
const ACKNOWLEDGE_NS: u64 = 5_000_000;

/// How long a line is silent before it is taken to stay so, and when that is not waited for longer.
const QUIET_NS: u64 = 10_000_000;
const QUIET_WITHIN_NS: u64 = 100_000_000;

pub(super) struct Line<W> {
    wire: W,
    protocol: Protocol,
    baud: u32,
    inbox: Inbox,
    request: [u8; REQUEST_BYTES],
    request_len: usize,
    /// Until then at least the line is busy with what was written.
    busy_ns: u64,
}

impl<W: Wire> Line<W> {
    pub fn new(wire: W, protocol: Protocol, baud: u32) -> Self {
        Self {
            wire,
            protocol,
            baud,
            inbox: Inbox::new(protocol),
            request: [0; REQUEST_BYTES],
            request_len: 0,
            busy_ns: 0,
        }
    }

    pub fn wire(&self) -> &W {
        &self.wire
    }

    pub fn into_wire(self) -> W {
        self.wire
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn now_ns(&self) -> u64 {
        self.wire.now_ns()
    }

    /// What so many bytes take on the wire.
    pub fn wire_ns(&self, bytes: usize) -> u64 {
        // A byte is ten bits on the line: a start and a stop bit beside its own.
        bytes as u64 * 10 * 1_000_000_000 / u64::from(self.baud)
    }

    /// Writes a frame that nobody answers.
    pub fn say(&mut self, frame: &[u8]) -> Result<(), ArmError> {
        let begin_ns = self.busy_ns.max(self.wire.now_ns());
        self.wire.write(frame).map_err(arm_error)?;
        self.busy_ns = begin_ns + self.wire_ns(frame.len());
        Ok(())
    }

    /// Puts a request on the line, to be answered as [`Inbox::begin`] is told. Gives the earliest time
    /// at which all of it can have been there: taken before the write, because the replies may be
    /// here when a thread that was interrupted comes back from it. Until when the line is busy with
    /// it, behind what was written before, is [`Line::busy_ns`].
    pub fn send(
        &mut self,
        request: &Request<'_>,
        count: usize,
        together: Option<usize>,
    ) -> Result<u64, ArmError> {
        let bytes = self.protocol.encode(request, &mut self.request);
        self.request_len = bytes.map_err(|_| ArmError::Device)?;
        self.wire.drain().map_err(arm_error)?;
        self.inbox.begin(count, together);
        let now_ns = self.wire.now_ns();
        let frame = &self.request[..self.request_len];
        self.wire.write(frame).map_err(arm_error)?;
        let takes_ns = self.wire_ns(self.request_len);
        self.busy_ns = self.busy_ns.max(now_ns) + takes_ns;
        Ok(now_ns + takes_ns)
    }

    /// Until then at least the line is busy with what was written.
    pub fn busy_ns(&self) -> u64 {
        self.busy_ns
    }

    /// Waits for bytes, at the latest until `until_ns`; whether there were any.
    pub fn receive(&mut self, until_ns: u64) -> Result<bool, ArmError> {
        let space = self.inbox.space();
        let came = self.wire.read(space, until_ns).map_err(arm_error)?;
        self.inbox.came(came);
        Ok(came > 0)
    }

    /// The next reply among what has come.
    pub fn next(&mut self) -> Option<Status<'_>> {
        self.inbox.next(&self.request[..self.request_len])
    }

    /// Whether there were bytes that belong to no reply.
    pub fn junk(&self) -> bool {
        self.inbox.junk()
    }

    /// Reads registers of one servo into all of `data`; gives its error byte.
    pub fn read(&mut self, id: u8, first: Register, data: &mut [u8]) -> Result<u8, ArmError> {
        let request = Request::Read {
            id,
            address: first.address.into(),
            count: data.len() as u16,
        };
        let mut trouble = ArmError::Silent(id);
        for _ in 0..ANSWER_TRIES {
            match self.exchange(id, &request, data, ANSWER_NS)? {
                Ok(error) => return Ok(error),
                Err(error) => trouble = error,
            }
            self.settle()?;
        }
        Err(trouble)
    }

    /// One request and its one reply, whose parameters go to `data`: its error byte, or what went
    /// wrong with it.
    pub fn exchange(
        &mut self,
        id: u8,
        request: &Request<'_>,
        data: &mut [u8],
        patience_ns: u64,
    ) -> Result<Result<u8, ArmError>, ArmError> {
        self.send(request, data.len(), None)?;
        let until_ns = self.busy_ns + patience_ns;
        while self.receive(until_ns)? {
            if let Some(status) = self.next() {
                if status.id != id {
                    return Ok(Err(ArmError::WrongId {
                        expected: id,
                        got: status.id,
                    }));
                }
                data.copy_from_slice(status.parameters);
                return Ok(Ok(status.error));
            }
        }
        Ok(Err(match self.junk() {
            true => ArmError::Corrupted(id),
            false => ArmError::Silent(id),
        }))
    }

    /// Tells a servo. Whether it took effect shows when it is read back.
    pub fn tell(&mut self, id: u8, register: Register, value: i32) -> Result<(), ArmError> {
        let mut room = [0; 4];
        let request = Request::Write {
            id,
            address: register.address.into(),
            data: register.encoded(value, &mut room),
        };
        if self
            .exchange(id, &request, &mut [], ACKNOWLEDGE_NS)?
            .is_err()
        {
            self.settle()?;
        }
        Ok(())
    }

    /// Writes a register and reads it back; whether it holds the value then. Nothing is written where it
    /// holds it already.
    pub fn put(&mut self, id: u8, register: Register, value: i32) -> Result<bool, ArmError> {
        for _ in 0..WRITE_TRIES {
            match self.number(id, register) {
                Ok(holds) if holds == value => return Ok(true),
                Err(error @ (ArmError::Unplugged | ArmError::Device)) => return Err(error),
                _ => self.tell(id, register, value)?,
            }
        }
        Ok(self.number(id, register)? == value)
    }

    /// What a register of a servo holds.
    pub fn number(&mut self, id: u8, register: Register) -> Result<i32, ArmError> {
        let mut data = [0; 4];
        let data = &mut data[..usize::from(register.bytes).min(4)];
        self.read(id, register, data)?;
        register.decode(register, data).ok_or(ArmError::Device)
    }

    /// Waits until nothing comes any more, so that what is late is not taken for an answer to what
    /// is asked next.
    pub fn settle(&mut self) -> Result<(), ArmError> {
        let give_up_ns = self.wire.now_ns() + QUIET_WITHIN_NS;
        loop {
            let now_ns = self.wire.now_ns();
            let came = self.wire.read(&mut [0; 64], now_ns + QUIET_NS);
            if came.map_err(arm_error)? == 0 || now_ns >= give_up_ns {
                return Ok(());
            }
        }
    }
}

fn arm_error(error: WireError) -> ArmError {
    match error {
        WireError::Unplugged => ArmError::Unplugged,
        WireError::Os(_) => ArmError::Device,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use hilt_realtime::{Clock, Fake};

    use super::*;

    /// A servo whose answers come so late and hold this byte.
    struct Slow {
        clock: Fake,
        answers: VecDeque<(u64, u8)>,
        coming: Vec<(u64, u8)>,
    }

    impl Wire for Slow {
        fn now_ns(&self) -> u64 {
            self.clock.now_ns()
        }

        fn write(&mut self, _: &[u8]) -> Result<(), WireError> {
            let (late_ns, value) = self.answers.pop_front().unwrap_or((u64::MAX / 2, 0));
            self.coming.push((self.now_ns() + late_ns, value));
            self.coming.sort();
            Ok(())
        }

        fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
            if self
                .coming
                .first()
                .is_none_or(|(at_ns, _)| *at_ns > until_ns)
            {
                self.clock.sleep_until_ns(until_ns);
                return Ok(0);
            }
            let (at_ns, value) = self.coming.remove(0);
            self.clock.sleep_until_ns(at_ns);
            let status = Status {
                id: 1,
                error: 0,
                parameters: &[value],
            };
            Ok(Protocol::Feetech.encode_status(&status, buffer).unwrap())
        }

        fn drain(&mut self) -> Result<(), WireError> {
            let now_ns = self.now_ns();
            self.coming.retain(|(at_ns, _)| *at_ns > now_ns);
            Ok(())
        }
    }

    /// The first answer comes after its time, when the servo was asked again, and would be there
    /// before the answer to what is asked then.
    #[test]
    fn a_late_answer_is_not_taken_for_the_next_one() {
        const MS: u64 = 1_000_000;
        let wire = Slow {
            clock: Fake::at(0),
            answers: [(25 * MS, 1), (MS, 2), (5 * MS, 3)].into(),
            coming: Vec::new(),
        };
        let mut line = Line::new(wire, Protocol::Feetech, 1_000_000);
        let mut read = || {
            let mut data = [0];
            let read = line.read(1, Register::byte(40), &mut data);
            read.map(|_| data[0])
        };
        assert_eq!([read(), read()], [Ok(2), Ok(3)]);
    }
}
