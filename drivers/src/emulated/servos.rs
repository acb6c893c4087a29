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
mod tests {
    use super::*;
    use crate::bus::feetech::{self, Request, Scan, Status};
    use crate::bus::sts3215::{
        GOAL_POSITION, POSITION_OFFSET, PRESENT_POSITION, PRESENT_SPEED, RESPONSE_LEVEL,
        RETURN_DELAY, STATUS, TORQUE_ENABLE,
    };

    const MS: u64 = 1_000_000;

    fn bus(byte_ns: u64) -> EmulatedBus {
        let setup = |id| ServoSetup {
            id,
            counts: 1000.0 + 10.0 * f64::from(id),
            rest_counts: 500.0,
        };
        EmulatedBus::new(&[1, 2, 3].map(setup), byte_ns)
    }

    fn tell(bus: &mut EmulatedBus, now_ns: u64, request: Request<'_>) {
        let mut bytes = [0; 64];
        let size = request.encode(&mut bytes).unwrap();
        bus.hear(now_ns, &bytes[..size]);
    }

    /// Id, error and parameters of every status that is through.
    fn replies(bus: &mut EmulatedBus, now_ns: u64) -> Vec<(u8, u8, Vec<u8>)> {
        let mut bytes = [0; 512];
        let count = bus.say(now_ns, &mut bytes);
        let (mut replies, mut rest) = (Vec::new(), &bytes[..count]);
        while let Scan::Frame { skipped, frame } = feetech::scan(rest, 64) {
            assert_eq!(skipped, 0);
            let status = Status::parse(&frame).unwrap();
            replies.push((status.id, status.error, status.parameters.to_vec()));
            rest = &rest[frame.bytes().len()..];
        }
        assert!(rest.is_empty());
        replies
    }

    #[test]
    fn it_answers_pings_reads_and_writes_of_the_servo_that_is_meant() {
        let mut bus = bus(0);
        tell(&mut bus, 0, Request::Ping { id: 2 });
        tell(&mut bus, 0, Request::Ping { id: 7 });
        assert_eq!(replies(&mut bus, 0), [(2, 0, vec![])]);
        let read = Request::Read {
            id: 3,
            address: PRESENT_POSITION.address,
            count: 2,
        };
        tell(&mut bus, 0, read);
        assert_eq!(replies(&mut bus, 0), [(3, 0, vec![6, 4])]);
        let write = Request::Write {
            id: 3,
            address: TORQUE_ENABLE.address,
            data: &[1],
        };
        tell(&mut bus, 0, write);
        assert_eq!(replies(&mut bus, 0), [(3, 0, vec![])]);
        let torque: Vec<bool> = bus.servos().map(|servo| servo.torque).collect();
        assert_eq!(torque, [false, false, true]);
        bus.poke(3, STATUS, 0x20);
        tell(&mut bus, 0, write);
        assert_eq!(replies(&mut bus, 0), [(3, 0x20, vec![])]);
        bus.poke(3, RESPONSE_LEVEL, 0);
        tell(&mut bus, 0, write);
        assert_eq!(replies(&mut bus, 0), [], "response level 0");
    }

    #[test]
    fn what_is_said_to_all_at_once_is_obeyed_in_silence() {
        let mut bus = bus(0);
        let write = Request::Write {
            id: BROADCAST,
            address: TORQUE_ENABLE.address,
            data: &[1],
        };
        tell(&mut bus, 0, write);
        let goals = Request::SyncWrite {
            address: GOAL_POSITION.address,
            count: 2,
            data: &[1, 0xE8, 3, 3, 0xD0, 7],
        };
        tell(&mut bus, 0, goals);
        assert_eq!(replies(&mut bus, 0), []);
        assert!(bus.servos().all(|servo| servo.torque));
        let goals: Vec<f64> = bus.servos().map(|servo| servo.goal_counts).collect();
        assert_eq!(goals, [1000.0, 1020.0, 2000.0]);
        bus.advance(5_000 * MS);
        assert_eq!(bus.servo(3).unwrap().counts, 2000.0);
        assert!(!bus.went_limp());
        bus.power_cycle(3);
        assert!(bus.went_limp());
    }

    #[test]
    fn driven_joints_are_where_they_are_driven_and_report_it() {
        let mut bus = bus(0);
        bus.set_driven(true);
        bus.poke(2, POSITION_OFFSET, -100);
        let write = Request::Write {
            id: BROADCAST,
            address: TORQUE_ENABLE.address,
            data: &[1, 0, 0xD0, 7],
        };
        tell(&mut bus, 0, write);
        bus.advance(1_000 * MS);
        let stands = bus.servo(1).unwrap();
        assert_eq!((stands.counts, stands.goal_counts), (1010.0, 2000.0));
        assert!(stands.torque);
        bus.drive(2, 1234.4, -50.0);
        bus.advance(2_000 * MS);
        let view = bus.servo(2).unwrap();
        assert_eq!((view.counts, view.counts_per_s), (1234.4, -50.0));
        assert_eq!(bus.peek(2, PRESENT_POSITION), Some(1234));
        assert_eq!(bus.peek(2, PRESENT_SPEED), Some(-50));
        // Left to itself it goes on from there.
        bus.set_driven(false);
        bus.advance(5_000 * MS);
        assert_eq!(bus.servo(2).unwrap().counts, 2000.0);
    }

    #[test]
    fn a_sync_read_is_answered_in_its_order_with_the_wires_timing() {
        let mut bus = bus(BYTE_NS_1M_BAUD);
        let zero_delay = Request::Write {
            id: BROADCAST,
            address: RETURN_DELAY.address,
            data: &[0],
        };
        tell(&mut bus, 0, zero_delay);
        let read = Request::SyncRead {
            address: PRESENT_POSITION.address,
            count: 2,
            ids: &[3, 9, 1],
        };
        // 11 bytes of request, two replies of 8 bytes and the silence of one.
        let begin_ns = 10 * MS;
        tell(&mut bus, begin_ns, read);
        let first_ns = begin_ns + 12 * BYTE_NS_1M_BAUD;
        let last_ns = begin_ns + (11 + 3 * 8) * BYTE_NS_1M_BAUD;
        assert_eq!(bus.under_way_ns(), Some((first_ns, last_ns)));
        assert_eq!(bus.say(first_ns - 1, &mut [0; 8]), 0);
        assert_eq!(bus.say(last_ns - 1, &mut [0; 64]), 15);
        assert_eq!(bus.say(last_ns, &mut [0; 64]), 1);
    }

    #[test]
    fn a_new_servo_takes_half_a_millisecond_to_answer() {
        let mut bus = bus(BYTE_NS_1M_BAUD);
        tell(&mut bus, 0, Request::Ping { id: 1 });
        let first_ns = 7 * BYTE_NS_1M_BAUD + 500_000;
        assert_eq!(bus.under_way_ns().unwrap().0, first_ns);
    }

    #[test]
    fn an_echo_comes_before_the_answer() {
        let mut bus = bus(0);
        bus.set_echo(true);
        tell(&mut bus, 0, Request::Ping { id: 1 });
        let mut bytes = [0; 32];
        assert_eq!(bus.say(0, &mut bytes), 12);
        assert_eq!(
            bytes[..12],
            [255, 255, 1, 2, 1, 251, 255, 255, 1, 2, 0, 252]
        );
    }

    #[test]
    fn requests_are_kept_with_their_times() {
        let mut bus = bus(BYTE_NS_1M_BAUD);
        tell(&mut bus, 3 * MS, Request::Ping { id: 9 });
        let last = bus.heard().next_back().unwrap();
        assert_eq!(last.at_ns, 3 * MS + 6 * BYTE_NS_1M_BAUD);
        assert_eq!(last.request(), Some(Request::Ping { id: 9 }));
        for _ in 0..2 * REMEMBERED {
            tell(&mut bus, 3 * MS, Request::Ping { id: 8 });
        }
        assert_eq!(bus.heard().count(), REMEMBERED);
    }

    #[test]
    fn noise_pieces_and_wrong_checksums_do_not_keep_it_from_hearing() {
        let mut bus = bus(0);
        bus.hear(0, &[1, 2, 0xFF, 0xFF, 1, 2, 1, 0]);
        tell(&mut bus, 0, Request::Ping { id: 1 });
        assert_eq!(replies(&mut bus, 0).len(), 1);
        // The beginning of a long frame, then nothing for a while.
        bus.hear(0, &[0xFF, 0xFF, 1, 200, 3]);
        tell(&mut bus, 6 * MS, Request::Ping { id: 1 });
        assert_eq!(replies(&mut bus, 6 * MS).len(), 1);
        assert_eq!(bus.not_understood(), 0);
        // Nothing a servo knows: instruction 9.
        bus.hear(6 * MS, &[0xFF, 0xFF, 1, 2, 9, 243]);
        assert_eq!(bus.not_understood(), 1);
    }
}
