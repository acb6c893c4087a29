//! A bus of servos on a fake clock, with the wire's timing and with faults.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use hilt_drivers::bus::{
    Wire, WireError,
    feetech::{BROADCAST, LONGEST, Request, Scan, Status, entries, scan},
    sts3215::{
        GOAL_POSITION, PHASE, PRESENT_POSITION, PRESENT_SPEED, RETURN_DELAY, Register,
        TORQUE_ENABLE,
    },
};
use hilt_realtime::{Clock, Fake};

/// A byte at 1 Mbaud.
const BYTE_NS: u64 = 10_000;

/// What a servo says instead of its reply: 0 to many bytes.
type Tamper = Box<dyn FnMut(u8, Vec<u8>) -> Vec<u8> + Send>;

pub struct Servo {
    pub id: u8,
    pub memory: [u8; 128],
    /// Its error byte.
    pub error: u8,
    /// Goal minus position, at the moment in which torque came on.
    pub jump: Option<i32>,
}

impl Servo {
    pub fn get(&self, register: Register) -> i32 {
        let at = usize::from(register.address);
        register.decode(register, &self.memory[at..]).unwrap()
    }

    pub fn set(&mut self, register: Register, value: i32) {
        let bytes = register.encode(value);
        let bytes = &bytes[..usize::from(register.bytes)];
        self.put(register.address, bytes);
    }

    fn put(&mut self, address: u8, bytes: &[u8]) {
        let limp = self.get(TORQUE_ENABLE) == 0;
        let at = usize::from(address);
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        if self.get(TORQUE_ENABLE) == 1 {
            let jump = self.get(GOAL_POSITION) - self.get(PRESENT_POSITION);
            if limp {
                self.jump = Some(jump);
            }
            // It goes there at once, but for what its load makes it sag.
            if self.jump.is_some() {
                let goal = self.get(GOAL_POSITION);
                let bytes = PRESENT_POSITION.encode(goal);
                self.memory[56..58].copy_from_slice(&bytes[..2]);
            }
        }
    }
}

pub struct State {
    pub servos: Vec<Servo>,
    /// Everything that the host has written, frame by frame.
    pub heard: Vec<Vec<u8>>,
    pub echo: bool,
    pub gone: bool,
    pub tamper: Tamper,
    /// When it arrives, and what.
    pub coming: VecDeque<(u64, Vec<u8>)>,
}

#[derive(Clone)]
pub struct Bus {
    pub clock: Fake,
    state: Arc<Mutex<State>>,
}

impl Bus {
    /// Servos 1 to 6, limp, at 2000, 2050, 2100 … counts, as they come from the maker.
    pub fn new() -> Self {
        let servos = (1..=6).map(|id| {
            let mut servo = Servo {
                id,
                memory: [0; 128],
                error: 0,
                jump: None,
            };
            servo.set(RETURN_DELAY, 250);
            servo.set(PHASE, 12);
            servo.set(PRESENT_POSITION, 1950 + 50 * i32::from(id));
            servo
        });
        let state = State {
            servos: servos.collect(),
            heard: Vec::new(),
            echo: false,
            gone: false,
            tamper: Box::new(|_, reply| reply),
            coming: VecDeque::new(),
        };
        Self {
            clock: Fake::at(1_000_000_000),
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the servos say from now on instead of their replies.
    pub fn tamper(&self, tamper: impl FnMut(u8, Vec<u8>) -> Vec<u8> + Send + 'static) {
        self.state().tamper = Box::new(tamper);
    }

    /// The frames since the last call.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state().heard)
    }
}

impl State {
    fn answer(&mut self, request: Request, mut at_ns: u64) {
        let (asked, address, count) = match request {
            Request::Ping { id } => (vec![id], 0, 0),
            Request::Read { id, address, count } => (vec![id], address, count),
            Request::SyncRead {
                address,
                count,
                ids,
            } => (ids.to_vec(), address, count),
            Request::Write { id, address, data } => {
                for servo in &mut self.servos {
                    if id == servo.id || id == BROADCAST {
                        servo.put(address, data);
                    }
                }
                (vec![id], 0, 0)
            }
            Request::SyncWrite {
                address,
                count,
                data,
            } => {
                for (id, bytes) in entries(data, count) {
                    for servo in self.servos.iter_mut().filter(|s| s.id == id) {
                        servo.put(address, bytes);
                    }
                }
                (vec![], 0, 0)
            }
        };
        for id in asked {
            let Some(servo) = self.servos.iter().find(|s| s.id == id) else {
                continue;
            };
            let at = usize::from(address);
            let status = Status {
                id,
                error: servo.error,
                parameters: &servo.memory[at..at + usize::from(count)],
            };
            let mut reply = [0; LONGEST];
            let bytes = status.encode(&mut reply).unwrap();
            let reply = (self.tamper)(id, reply[..bytes].to_vec());
            at_ns += BYTE_NS * bytes as u64;
            if !reply.is_empty() {
                self.coming.push_back((at_ns, reply));
            }
        }
    }
}

impl Wire for Bus {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let state = &mut *self.state();
        if state.gone {
            return Err(WireError::Unplugged);
        }
        let end_ns = self.clock.now_ns() + BYTE_NS * bytes.len() as u64;
        if state.echo {
            // As a line delivers it: not in one piece.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            state.coming.push_back((end_ns, first.to_vec()));
            state.coming.push_back((end_ns, second.to_vec()));
        }
        let Scan::Frame { skipped: 0, frame } = scan(bytes, LONGEST) else {
            panic!("the host wrote no frame: {bytes:?}");
        };
        assert_eq!(frame.bytes(), bytes);
        state.heard.push(bytes.to_vec());
        state.answer(Request::parse(&frame).unwrap(), end_ns);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        let state = &mut *self.state();
        if state.gone {
            return Err(WireError::Unplugged);
        }
        let Some((at_ns, bytes)) = state.coming.pop_front_if(|(at_ns, _)| *at_ns <= until_ns)
        else {
            self.clock.sleep_until_ns(until_ns);
            return Ok(0);
        };
        self.clock.sleep_until_ns(at_ns);
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn drain(&mut self) -> Result<(), WireError> {
        let state = &mut *self.state();
        if state.gone {
            return Err(WireError::Unplugged);
        }
        let now_ns = self.clock.now_ns();
        state.coming.retain(|(at_ns, _)| *at_ns > now_ns);
        Ok(())
    }
}

/// The speed register, so that tests can make a servo move.
pub const SPEED: Register = PRESENT_SPEED;
