//! A device that follows a script, on a clock that stands still: it captures a frame each interval
//! into the oldest buffer that it was given, as the kernel's do, and is unplugged and silenced when
//! a test says so. It panics where a driver queues a buffer that it does not have.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use hilt_realtime::{Clock, Fake};
use rustix::io::Errno;

use super::{
    device::{Colours, Device, Filled, FourCc, Identity, Layout, Mode, Range},
    feed::Open,
};

pub const MS: u64 = 1_000_000;

/// What is particular to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// The device marks it as damaged.
    Flawed,
    /// Half of its bytes are missing.
    Short,
    /// The device captures it and delivers nothing.
    Lost,
}

/// The device, as a test sees and changes it.
#[derive(Debug)]
pub struct Script {
    pub identity: Identity,
    /// What is granted, if not what is asked for.
    pub grants: Option<Mode>,
    pub progressive: bool,
    pub grants_ns: Option<u64>,
    pub controls: HashMap<u32, (Range, i32)>,
    /// Controls that stay as they are.
    pub stubborn: bool,
    /// Between two frames, nanoseconds.
    pub interval_ns: u64,
    /// Captured so long before a frame is delivered; negative: after.
    pub stamped_before_ns: i64,
    /// Its stamps are of the monotonic clock.
    pub stamps: bool,
    pub odd: HashMap<u32, Odd>,
    pub plugged: bool,
    /// It streams and gives nothing.
    pub silent: bool,
    /// Reading a frame takes so long, nanoseconds.
    pub reading_ns: u64,
    /// What opening it says, when it is plugged in.
    pub opening: Option<Errno>,
    pub opened: usize,
    /// Frames that the driver took.
    pub delivered: u64,
    /// The number of the next frame.
    pub sequence: u32,
    next_ns: u64,
    queued: VecDeque<u32>,
    filled: VecDeque<Filled>,
    /// Buffers that the driver holds.
    pub held: Vec<u32>,
    mode: Option<Mode>,
}

/// The device and the clock it goes by. Clones are the same.
#[derive(Clone, Debug)]
pub struct Scripted {
    script: Arc<Mutex<Script>>,
    pub clock: Fake,
    frame: Arc<Mutex<Vec<u8>>>,
}

/// The device, opened.
#[derive(Debug)]
pub struct Opened {
    of: Scripted,
    frames: Vec<Vec<u8>>,
}

impl Scripted {
    /// One of 30 frames/s that gives `frame`.
    pub fn new(frame: Vec<u8>) -> Self {
        let script = Script {
            identity: Identity {
                driver: "uvcvideo".into(),
                card: "HD Pro Webcam C920".into(),
                bus: "usb-0000:00:14.0-2".into(),
                captures: true,
            },
            grants: None,
            progressive: true,
            grants_ns: None,
            controls: HashMap::new(),
            stubborn: false,
            interval_ns: 33 * MS,
            stamped_before_ns: 5_000_000,
            stamps: true,
            odd: HashMap::new(),
            plugged: true,
            silent: false,
            reading_ns: 0,
            opening: None,
            opened: 0,
            delivered: 0,
            sequence: 0,
            next_ns: 0,
            queued: VecDeque::new(),
            filled: VecDeque::new(),
            held: Vec::new(),
            mode: None,
        };
        Self {
            script: Arc::new(Mutex::new(script)),
            clock: Fake::at(1000 * MS),
            frame: Arc::new(Mutex::new(frame)),
        }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// From now on its frames are these bytes.
    pub fn show(&self, frame: Vec<u8>) {
        *self.frame.lock().unwrap() = frame;
    }

    pub fn opener(&self) -> Open<Opened> {
        let of = self.clone();
        Box::new(move |_: &Path| of.open())
    }

    pub fn open(&self) -> Result<Opened, Errno> {
        let mut script = self.script();
        if !script.plugged {
            return Err(Errno::NOENT);
        }
        if let Some(errno) = script.opening {
            return Err(errno);
        }
        script.opened += 1;
        script.sequence = 0;
        Ok(Opened {
            of: self.clone(),
            frames: Vec::new(),
        })
    }
}

impl Script {
    /// Captures what is due by `now_ns`.
    fn capture(&mut self, now_ns: u64, frame_bytes: u32) {
        while self.next_ns <= now_ns {
            let at_ns = self.next_ns;
            self.next_ns += self.interval_ns;
            if self.silent {
                continue;
            }
            let sequence = self.sequence;
            self.sequence += 1;
            let odd = self.odd.get(&sequence).copied();
            if odd == Some(Odd::Lost) {
                continue;
            }
            let Some(index) = self.queued.pop_front() else {
                continue;
            };
            self.filled.push_back(Filled {
                index,
                bytes: frame_bytes >> u32::from(odd == Some(Odd::Short)),
                flawed: odd == Some(Odd::Flawed),
                stamp_ns: self
                    .stamps
                    .then(|| at_ns.checked_add_signed(-self.stamped_before_ns).unwrap()),
                sequence,
            });
        }
    }
}

impl Opened {
    /// What happened until now.
    fn now(&self) -> Result<MutexGuard<'_, Script>, Errno> {
        let bytes = self.of.frame.lock().unwrap().len() as u32;
        let mut script = self.of.script();
        if !script.plugged {
            return Err(Errno::NODEV);
        }
        script.capture(self.of.clock.now_ns(), bytes);
        Ok(script)
    }
}

impl Device for Opened {
    fn identity(&self) -> Result<Identity, Errno> {
        Ok(self.of.script().identity.clone())
    }

    fn set_mode(&mut self, mode: Mode) -> Result<Layout, Errno> {
        let mut script = self.of.script();
        let mode = script.grants.unwrap_or(mode);
        script.mode = Some(mode);
        Ok(Layout {
            mode,
            progressive: script.progressive,
            stride_bytes: if mode.format == FourCc(u32::from_le_bytes(*b"YUYV")) {
                2 * mode.width
            } else {
                0
            },
            colours: Colours::default(),
        })
    }

    fn set_rate(&mut self, _fps: u32) -> Result<Option<u64>, Errno> {
        Ok(self.of.script().grants_ns)
    }

    fn control_range(&self, id: u32) -> Result<Option<Range>, Errno> {
        Ok(self.of.script().controls.get(&id).map(|control| control.0))
    }

    fn set_control(&mut self, id: u32, value: i32) -> Result<i32, Errno> {
        let mut script = self.of.script();
        let stubborn = script.stubborn;
        let control = script.controls.get_mut(&id).ok_or(Errno::INVAL)?;
        if !stubborn {
            control.1 = value;
        }
        Ok(control.1)
    }

    fn start(&mut self, buffers: u32) -> Result<usize, Errno> {
        let mut script = self.of.script();
        script.queued = (0..buffers).collect();
        script.filled.clear();
        script.held.clear();
        script.next_ns = self.of.clock.now_ns() + script.interval_ns;
        self.frames = vec![Vec::new(); buffers as usize];
        Ok(buffers as usize)
    }

    fn wait(&mut self, timeout_ns: u64) -> Result<bool, Errno> {
        let until_ns = self.of.clock.now_ns() + timeout_ns;
        loop {
            let script = self.now()?;
            if !script.filled.is_empty() {
                return Ok(true);
            }
            assert!(!script.queued.is_empty(), "it waits for no buffer at all");
            let next_ns = script.next_ns.min(until_ns);
            drop(script);
            self.of.clock.sleep_until_ns(next_ns);
            if next_ns == until_ns {
                return Ok(!self.now()?.filled.is_empty());
            }
        }
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Errno> {
        let mut script = self.now()?;
        let Some(filled) = script.filled.pop_front() else {
            return Ok(None);
        };
        script.held.push(filled.index);
        script.delivered += 1;
        drop(script);
        let frame = self.of.frame.lock().unwrap();
        self.frames[filled.index as usize] = frame[..filled.bytes as usize].to_vec();
        Ok(Some(filled))
    }

    fn bytes(&self, filled: &Filled) -> &[u8] {
        let reading_ns = self.of.script().reading_ns;
        self.of.clock.advance_ns(reading_ns);
        &self.frames[filled.index as usize]
    }

    fn queue(&mut self, filled: Filled) -> Result<(), Errno> {
        let mut script = self.now()?;
        let place = script.held.iter().position(|held| *held == filled.index);
        let place = place.expect("only a buffer that is held is queued");
        script.held.remove(place);
        script.queued.push_back(filled.index);
        Ok(())
    }
}
