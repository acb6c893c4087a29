//! Servos and the line between them and the host, without I/O.

use std::collections::VecDeque;

use super::{
    heard::Heard,
    servo::{Servo, ServoSetup, ServoView},
};
use crate::bus::{
    Family, Next, Register, Request, Status,
    dynamixel::{self, BROADCAST, FastReply, entries},
};

/// What a byte takes on a line of 1 Mbaud: ten bits.
pub const BYTE_NS_1M_BAUD: u64 = 10_000;

/// A start and a stop bit beside its own.
const BITS_OF_BYTE: u64 = 10;

/// Bytes that can be under way to the host; more are lost, as in an adapter's buffer.
const UNDER_WAY: usize = 4096;

/// Requests that are remembered.
const REMEMBERED: usize = 1024;

/// After so long a pause a request that is not whole is given up.
const PAUSE_NS: u64 = 5_000_000;

/// Bytes of the longest frame that goes over a bus.
const LONGEST: usize = dynamixel::LONGEST;

/// Bytes of the longest answer: a fast sync read's of all registers of some servos.
const LONGEST_ANSWER: usize = 2048;

/// A bus of servos of one family. Whoever owns it tells it the time: it goes by no clock. After it was
/// made it does not allocate.
///
/// The line is half-duplex: what is said goes over it byte by byte, after what was said before.
#[derive(Debug)]
pub struct EmulatedBus {
    family: Family,
    servos: Vec<Servo>,
    byte_ns: u64,
    heeds_baud: bool,
    /// Bits per second on the line, where that matters.
    line_baud: Option<u32>,
    echo: bool,
    /// The beginning of a request.
    incoming: [u8; LONGEST],
    incoming_len: usize,
    /// Bytes on their way to the host, and when each is through.
    outgoing: VecDeque<(u64, u8)>,
    /// When the line is free again.
    free_ns: u64,
    heard: VecDeque<Heard>,
    not_understood: u64,
}

impl EmulatedBus {
    /// STS3215 servos as they are switched on, on a line that takes `byte_ns` for a byte
    /// ([`BYTE_NS_1M_BAUD`]). 0: no time passes on the line, in return delays neither; hosts
    /// that reckon with the wire's time do not believe such answers.
    pub fn new(servos: &[ServoSetup], byte_ns: u64) -> Self {
        Self::of(Family::Sts3215, servos, byte_ns)
    }

    /// The same with servos of any family: those of the X series are XL330-M288.
    pub fn of(family: Family, servos: &[ServoSetup], byte_ns: u64) -> Self {
        let servo = |setup: &ServoSetup| {
            let mut servo = Servo::new(family, *setup);
            if let Some(baud) = (BITS_OF_BYTE * 1_000_000_000).checked_div(byte_ns) {
                servo.set_baud(baud as u32);
            }
            servo
        };
        Self {
            family,
            servos: servos.iter().map(servo).collect(),
            byte_ns,
            heeds_baud: false,
            line_baud: None,
            echo: false,
            incoming: [0; LONGEST],
            incoming_len: 0,
            outgoing: VecDeque::with_capacity(UNDER_WAY),
            free_ns: 0,
            heard: VecDeque::with_capacity(REMEMBERED),
            not_understood: 0,
        }
    }

    /// What its servos are.
    pub fn family(&self) -> Family {
        self.family
    }

    /// From now on only servos hear that are set to the host's rate: see
    /// [`EmulatedBus::set_line_baud`]. Without this they hear at any.
    pub fn heed_baud(&mut self) {
        self.heeds_baud = true;
    }

    /// The host's rate, bits per second. Told by who carries the bytes; nothing comes of it where
    /// rates are not heeded.
    pub fn set_line_baud(&mut self, baud: u32) {
        if !self.heeds_baud {
            return;
        }
        self.line_baud = Some(baud);
        self.byte_ns = BITS_OF_BYTE * 1_000_000_000 / u64::from(baud.max(1));
    }

    /// From now on the adapter sends the host's own bytes back to it, as some do.
    pub fn set_echo(&mut self, echo: bool) {
        self.echo = echo;
    }

    /// Lets the joints move until `now_ns`.
    pub fn advance(&mut self, now_ns: u64) {
        for servo in &mut self.servos {
            servo.advance(now_ns);
        }
    }

    /// The host hands `bytes` to the line at `now_ns`.
    pub fn hear(&mut self, now_ns: u64, bytes: &[u8]) {
        if now_ns > self.free_ns.saturating_add(PAUSE_NS) {
            self.incoming_len = 0;
        }
        self.free_ns = self.free_ns.max(now_ns);
        for byte in bytes {
            self.free_ns += self.byte_ns;
            if self.echo {
                self.send_byte(*byte);
            }
            self.incoming[self.incoming_len] = *byte;
            self.incoming_len += 1;
            self.understand();
        }
    }

    /// The bytes that are through at `now_ns`, as many as fit.
    pub fn say(&mut self, now_ns: u64, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        while count < buffer.len()
            && let Some((due_ns, byte)) = self.outgoing.front()
            && *due_ns <= now_ns
        {
            buffer[count] = *byte;
            count += 1;
            self.outgoing.pop_front();
        }
        count
    }

    /// When the first of the bytes on their way is through, and when the last.
    pub fn under_way_ns(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.outgoing.front()?, self.outgoing.back()?);
        Some((first.0, last.0))
    }

    /// A servo as it was when time was last let pass.
    pub fn servo(&self, id: u8) -> Option<ServoView> {
        let servo = self.servos.iter().find(|servo| servo.id() == id)?;
        Some(servo.view())
    }

    /// All servos, in the order in which they were given.
    pub fn servos(&self) -> impl Iterator<Item = ServoView> {
        self.servos.iter().map(Servo::view)
    }

    /// Whether any joint ever was without torque where it had something to fall.
    pub fn went_limp(&self) -> bool {
        self.servos().any(|servo| servo.went_limp)
    }

    /// Requests that came, oldest first: the last thousand.
    pub fn heard(&self) -> impl DoubleEndedIterator<Item = &Heard> {
        self.heard.iter()
    }

    /// How many frames came that say nothing a servo knows.
    pub fn not_understood(&self) -> u64 {
        self.not_understood
    }

    /// Somebody puts the joint of servo `id` there, counts.
    pub fn put(&mut self, id: u8, counts: f64) {
        self.each(id, |servo| servo.put(counts));
    }

    /// From now on the joints move by [`EmulatedBus::drive`] alone: something that knows the arm's
    /// masses moves them, by [`ServoView::goal_counts`] and [`ServoView::torque`]. `false`: again by
    /// themselves.
    pub fn set_driven(&mut self, driven: bool) {
        self.each(BROADCAST, |servo| servo.set_driven(driven));
    }

    /// The joint of servo `id` is there now and moves so fast: counts as the servo reports them,
    /// counts/s.
    pub fn drive(&mut self, id: u8, counts: f64, counts_per_s: f64) {
        self.each(id, |servo| servo.drive(counts, counts_per_s));
    }

    /// A hand turns the joint of servo `id` so far, counts of its sensor. Held in a hand, a joint falls
    /// only where [`EmulatedBus::set_driven`] is not said. One whose torque is on does not give way.
    pub fn turn(&mut self, id: u8, by_counts: f64) {
        self.each(id, |servo| servo.turn(by_counts));
    }

    /// Sets a register of servo `id` past the rules for hosts: its temperature, its status, ….
    pub fn poke(&mut self, id: u8, register: Register, value: i32) {
        self.each(id, |servo| servo.set(register, value));
    }

    /// A register of servo `id`.
    pub fn peek(&self, id: u8, register: Register) -> Option<i32> {
        let servo = self.servos.iter().find(|servo| servo.id() == id)?;
        Some(servo.get(register))
    }

    /// The power of servo `id` was away for a moment.
    pub fn power_cycle(&mut self, id: u8) {
        self.each(id, Servo::power_cycle);
    }

    fn each(&mut self, id: u8, mut act: impl FnMut(&mut Servo)) {
        self.servos
            .iter_mut()
            .filter(|servo| id == BROADCAST || servo.id() == id)
            .for_each(&mut act);
    }

    /// Whether servo number `i` listens, and is servo `id`.
    fn is(&self, i: usize, id: u8) -> bool {
        self.hears(i) && (id == BROADCAST || self.servos[i].id() == id)
    }

    fn hears(&self, i: usize) -> bool {
        self.line_baud
            .is_none_or(|baud| self.servos[i].baud() == baud)
    }

    /// Takes whole requests from what has come, and obeys.
    fn understand(&mut self) {
        let come = self.incoming;
        let mut room = [0; LONGEST];
        let mut rest = &come[..self.incoming_len];
        loop {
            let protocol = self.family.protocol();
            match protocol.next_request(rest, LONGEST, &mut room) {
                Next::Frame {
                    skipped,
                    bytes,
                    said,
                } => {
                    rest = &rest[skipped + bytes.len()..];
                    self.remember(bytes);
                    let at_ns = self.free_ns;
                    self.advance(at_ns);
                    for i in 0..self.servos.len() {
                        if self.hears(i) {
                            self.servos[i].hears(at_ns);
                        }
                    }
                    match said {
                        Some(request) => self.obey(&request),
                        None => self.not_understood += 1,
                    }
                }
                Next::More { skipped } => {
                    rest = &rest[skipped..];
                    self.incoming[..rest.len()].copy_from_slice(rest);
                    self.incoming_len = rest.len();
                    return;
                }
            }
        }
    }

    fn remember(&mut self, frame: &[u8]) {
        let heard = Heard::new(self.free_ns, frame);
        if self.heard.len() == REMEMBERED {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
    }

    fn obey(&mut self, request: &Request<'_>) {
        match *request {
            Request::Ping { id } => {
                for i in 0..self.servos.len() {
                    if self.is(i, id) {
                        let servo = &self.servos[i];
                        let (introduction, len) = servo.introduction();
                        self.answer(i, servo.error_bits(), &introduction[..len]);
                    }
                }
            }
            Request::Read { id, address, count } => {
                for i in 0..self.servos.len() {
                    if id != BROADCAST && self.is(i, id) {
                        self.answer_read(i, address, count);
                    }
                }
            }
            Request::Write { id, address, data } => {
                for i in 0..self.servos.len() {
                    if !self.is(i, id) {
                        continue;
                    }
                    let answers = id != BROADCAST && self.servos[i].answers_writes();
                    let refused = self.servos[i].write(address, data);
                    if answers {
                        let error = self.servos[i].error_bits() | refused;
                        self.answer(i, error, &[]);
                    }
                }
            }
            Request::SyncRead {
                address,
                count,
                ids,
            } => {
                for id in ids {
                    match (0..self.servos.len()).find(|i| self.is(*i, *id)) {
                        Some(i) => self.answer_read(i, address, count),
                        // The others wait for as long as it would speak.
                        None => {
                            let bytes = self.family.protocol().reply_bytes(count.into());
                            self.free_ns += self.byte_ns * bytes as u64;
                        }
                    }
                }
            }
            Request::FastSyncRead {
                address,
                count,
                ids,
            } => self.answer_together(address, count, ids),
            Request::SyncWrite {
                address,
                count,
                data,
            } => {
                for (id, data) in entries(data, count) {
                    for i in 0..self.servos.len() {
                        if self.is(i, id) {
                            self.servos[i].write(address, data);
                        }
                    }
                }
            }
        }
    }

    /// Servo number `i` sends its status with these registers.
    fn answer_read(&mut self, i: usize, address: u16, count: u16) {
        let mut parameters = [0; 256];
        let servo = &self.servos[i];
        let (Some(read), Some(parameters)) = (
            servo.read(address, count),
            parameters.get_mut(..usize::from(count)),
        ) else {
            return;
        };
        parameters.copy_from_slice(read);
        self.answer(i, servo.error_bits(), parameters);
    }

    fn answer(&mut self, i: usize, error: u8, parameters: &[u8]) {
        let servo = &self.servos[i];
        let delay_ns = servo.return_delay_ns();
        let id = servo.id();
        let status = Status {
            id,
            error,
            parameters,
        };
        let mut bytes = [0; LONGEST];
        let Ok(size) = self.family.protocol().encode_status(&status, &mut bytes) else {
            return;
        };
        self.send(delay_ns, &bytes[..size]);
    }

    /// The servos say one frame in turns; each waits for the one before, so one that is not there
    /// leaves the rest unsaid.
    fn answer_together(&mut self, address: u16, count: u16, ids: &[u8]) {
        let mut delay_ns = None;
        let mut bytes = [0; LONGEST_ANSWER];
        let statuses = ids.iter().map_while(|id| {
            let i = (0..self.servos.len()).find(|i| self.is(*i, *id))?;
            let servo = Some(&self.servos[i]).filter(|servo| servo.knows_fast())?;
            // Only the first waits for the host to be ready.
            delay_ns.get_or_insert(servo.return_delay_ns());
            Some(Status {
                id: *id,
                error: servo.error_bits(),
                parameters: servo.read(address, count)?,
            })
        });
        let size = FastReply::encode(ids.len(), count.into(), statuses, &mut bytes);
        if let (Some(delay_ns), Ok(size)) = (delay_ns, size) {
            self.send(delay_ns, &bytes[..size]);
        }
    }

    fn send(&mut self, delay_ns: u64, bytes: &[u8]) {
        if self.byte_ns > 0 {
            self.free_ns += delay_ns;
        }
        for byte in bytes {
            self.free_ns += self.byte_ns;
            self.send_byte(*byte);
        }
    }

    fn send_byte(&mut self, byte: u8) {
        if self.outgoing.len() < UNDER_WAY {
            self.outgoing.push_back((self.free_ns, byte));
        }
    }
}

#[cfg(test)]
mod tests;
