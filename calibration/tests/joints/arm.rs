//! An arm on an emulated bus, and somebody who moves it by hand and presses keys.

use std::{collections::VecDeque, io};

use hilt_calibration::joints::{Key, Screen, Subject, View};
use hilt_drivers::{
    bus::{Direction, Family, Maintenance, ServoArmConfig, Wire, WireError, sts3215, xseries},
    emulated::{BYTE_NS_1M_BAUD, BusHandle, EmulatedBus, MemoryWire, ServoSetup, lift_config},
};
use hilt_kinematics::Chain;
use hilt_protocol::noise::Uniforms;
use hilt_realtime::Fake;
use hilt_sim::ArmKind;

pub const DATE: &str = "2026-11-21T12:00:00Z";

/// How the arm was put together: nobody who calibrates it knows.
#[derive(Clone, Debug)]
pub struct Built {
    /// Where each servo's sensor is when its joint is at zero, counts; the gripper's when it is closed.
    pub zeros: Vec<i32>,
    /// Which way its counts grow.
    pub directions: Vec<Direction>,
    /// Counts from zero at which a joint meets its stops: least and greatest angle.
    pub stops: Vec<(i32, i32)>,
}

impl Built {
    /// Somehow. Stops are a little beyond the shape's limits.
    pub fn somehow(chain: &Chain, random: &mut Uniforms) -> Self {
        let counts = |angle: f64| sts3215::counts_from_radians(angle).round() as i32;
        let stops = chain.joints().iter().map(|joint| {
            let beyond = |random: &mut Uniforms| random.below(40) as i32;
            (
                counts(joint.lower) - beyond(random),
                counts(joint.upper) + beyond(random),
            )
        });
        let mut stops: Vec<_> = stops.collect();
        stops.push((0, 900 + random.below(300) as i32));
        let zeros = stops.iter().map(|_| random.below(4096) as i32).collect();
        let directions = stops.iter().map(|_| match random.below(2) {
            0 => Direction::Along,
            _ => Direction::Against,
        });
        Self {
            directions: directions.collect(),
            zeros,
            stops,
        }
    }

    /// The sensor of servo number `place` when its joint is so many counts from zero.
    pub fn sensor(&self, place: usize, counts: i32) -> i32 {
        self.zeros[place]
            + match self.directions[place] {
                Direction::Along => counts,
                Direction::Against => -counts,
            }
    }
}

/// An arm, limp, and where its joints are.
pub struct Bench {
    pub kind: ArmKind,
    pub config: ServoArmConfig,
    pub chain: Chain,
    pub built: Built,
    pub clock: Fake,
    pub bus: BusHandle,
    /// Where the joints are, counts from zero.
    pub at: Vec<i32>,
}

impl Bench {
    pub fn new(kind: ArmKind, seed: u64) -> Self {
        let chain = hilt_sim::chain(kind).unwrap();
        let built = Built::somehow(&chain, &mut Uniforms::new(seed));
        Self::of(kind, built)
    }

    pub fn of(kind: ArmKind, built: Built) -> Self {
        let config = lift_config(kind).unwrap();
        let at = vec![100; built.zeros.len()];
        let setups = config.ids().enumerate().map(|(place, id)| ServoSetup {
            id,
            counts: f64::from(built.sensor(place, at[place]).rem_euclid(4096)),
            rest_counts: 0.0,
        });
        let setups: Vec<_> = setups.collect();
        let mut bus = EmulatedBus::of(config.family, &setups, BYTE_NS_1M_BAUD);
        // Hands hold it: it does not fall.
        bus.set_driven(true);
        let clock = Fake::at(1_000_000_000);
        Self {
            chain: hilt_sim::chain(kind).unwrap(),
            bus: MemoryWire::new(bus, clock.clone()).handle(),
            config,
            built,
            clock,
            kind,
            at,
        }
    }

    pub fn family(&self) -> Family {
        self.config.family
    }

    pub fn servos(&self) -> Maintenance<MemoryWire> {
        self.servos_on(self.bus.wire())
    }

    pub fn servos_on<W: Wire>(&self, wire: W) -> Maintenance<W> {
        Maintenance::new(wire, self.config.family, self.config.baud)
    }

    pub fn subject(&self, reference_rad: Option<&[f64]>) -> Subject {
        Subject::new(&self.config, self.chain.clone(), reference_rad).unwrap()
    }

    /// A hand brings a joint there, counts from zero.
    pub fn move_to(&mut self, place: usize, counts: i32) {
        let by = self.built.sensor(place, counts) - self.built.sensor(place, self.at[place]);
        let id = self.config.ids().nth(place).unwrap();
        self.bus.look(|bus| bus.turn(id, f64::from(by)));
        self.at[place] = counts;
    }

    /// What servo number `place` reports.
    pub fn reports(&self, place: usize) -> i32 {
        let id = self.config.ids().nth(place).unwrap();
        let register = self.config.family.table().position;
        self.bus.look(|bus| bus.peek(id, register).unwrap())
    }

    /// What an earlier calibration or another program left in the servos.
    pub fn leave_traces(&self, random: &mut Uniforms) {
        for id in self.config.ids() {
            self.bus.look(|bus| match self.config.family {
                Family::Sts3215 => {
                    let offset = random.below(4095) as i32 - 2047;
                    bus.poke(id, sts3215::POSITION_OFFSET, offset);
                }
                Family::DynamixelX => {
                    let offset = random.below(8192) as i32 - 4096;
                    bus.poke(id, xseries::HOMING_OFFSET, offset);
                    let mode = [xseries::MODE_POSITION, xseries::MODE_EXTENDED_POSITION];
                    bus.poke(id, xseries::OPERATING_MODE, mode[random.below(2) as usize]);
                    bus.poke(id, xseries::DRIVE_MODE, random.below(2) as i32);
                }
            });
            // It reports by what it keeps now.
            self.bus.look(|bus| bus.turn(id, 0.0));
        }
    }
}

/// Does as they are told, at a hand's pace.
pub struct Person<'a> {
    pub bench: &'a mut Bench,
    pub reference: Vec<i32>,
    /// Where to bring which joint next.
    way: VecDeque<(usize, i32)>,
    stays: u32,
    asked: Option<(usize, Option<usize>)>,
    /// Counts between two looks.
    pub pace: i32,
    /// What they do otherwise in a step: its number, and the joints' ways.
    pub instead: Option<(usize, Vec<(usize, i32)>)>,
    /// Presses this instead, when they have done what this step asks.
    pub presses: Option<(usize, Key)>,
    /// Presses this when they are told that.
    pub when_told: Option<(&'static str, Key)>,
    /// Everything that was wrong.
    pub told: Vec<String>,
    pub asks: Vec<String>,
    /// So often they looked, and said that they have done what was asked.
    looks: usize,
    said: usize,
}

/// Whoever is asked more often gives up.
const PATIENCE: usize = 30;

/// A hand stays so many looks where it is to stay.
const STAYS: u32 = 14;

impl<'a> Person<'a> {
    pub fn at(bench: &'a mut Bench, reference_rad: Option<&[f64]>) -> Self {
        let joints = bench.chain.dof();
        let counts = |angle: &f64| sts3215::counts_from_radians(*angle).round() as i32;
        let reference = reference_rad.map_or(vec![0; joints], |r| r.iter().map(counts).collect());
        Self {
            bench,
            reference,
            way: VecDeque::new(),
            stays: 0,
            asked: None,
            pace: 90,
            instead: None,
            presses: None,
            when_told: None,
            told: Vec::new(),
            asks: Vec::new(),
            looks: 0,
            said: 0,
        }
    }

    fn plan(&mut self, view: &View) {
        let step = view.step.0;
        let joints = self.bench.chain.dof();
        if let Some((other, way)) = &self.instead
            && *other == step
        {
            self.way = way.iter().copied().collect();
            self.instead = None;
            return;
        }
        let stops = &self.bench.built.stops;
        match step {
            2 => self.way = self.reference.iter().copied().enumerate().collect(),
            3 => {
                let joint = view.bars.iter().position(|bar| bar.good.is_some()).unwrap();
                self.way = [(joint, self.bench.at[joint] + 120)].into();
            }
            4 => {
                for (joint, (low, high)) in stops.iter().enumerate().take(joints) {
                    for to in [*low, *high, self.reference[joint]] {
                        self.way.push_back((joint, to));
                    }
                }
            }
            5 => self.way = [(joints, stops[joints].0)].into(),
            6 => self.way = [(joints, stops[joints].1)].into(),
            _ => {}
        }
    }
}

impl Screen for Person<'_> {
    fn show(&mut self, view: &View) -> io::Result<()> {
        self.looks += 1;
        assert!(self.looks < 20_000, "it does not end: {view:?}");
        let direction = (view.step.0 == 3)
            .then(|| view.bars.iter().position(|bar| bar.good.is_some()))
            .flatten();
        let asked = (view.step.0, direction);
        if self.asked != Some(asked) {
            self.asked = Some(asked);
            self.way.clear();
            self.asks.extend(view.ask.iter().cloned());
            self.plan(view);
            self.stays = STAYS;
        }
        if self.told.last() != view.wrong.last() {
            self.told.extend(view.wrong.iter().cloned());
        }
        let Some((joint, to)) = self.way.front().copied() else {
            self.stays = self.stays.saturating_sub(1);
            return Ok(());
        };
        let at = self.bench.at[joint];
        let next = at + (to - at).clamp(-self.pace, self.pace);
        self.bench.move_to(joint, next);
        if next == to {
            self.stays = self.stays.saturating_sub(1);
            if self.stays == 0 {
                self.way.pop_front();
                self.stays = STAYS;
            }
        }
        Ok(())
    }

    fn key(&mut self) -> io::Result<Option<Key>> {
        if !self.way.is_empty() || self.stays > 0 {
            return Ok(None);
        }
        self.stays = STAYS;
        if let Some((step, key)) = self.presses
            && self.asked.is_some_and(|(asked, _)| asked == step)
        {
            self.presses = None;
            self.asked = None;
            return Ok(Some(key));
        }
        let told = |(words, _): &(&str, Key)| self.told.iter().any(|told| told.contains(words));
        if let Some((_, key)) = self.when_told.filter(told) {
            self.when_told = None;
            return Ok(Some(key));
        }
        self.said += 1;
        Ok(Some(match self.said > PATIENCE {
            true => Key::Quit,
            false => Key::Next,
        }))
    }
}

/// A wire on which something happens to what goes and comes.
pub struct Struck<W, H, S> {
    pub inner: W,
    /// Whether a frame of the host's arrives.
    pub hears: H,
    /// Changes what the servos say.
    pub says: S,
}

impl<W, H, S> Wire for Struck<W, H, S>
where
    W: Wire,
    H: FnMut(&[u8]) -> bool + Send,
    S: FnMut(&mut [u8]) + Send,
{
    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match (self.hears)(bytes) {
            true => self.inner.write(bytes),
            false => Ok(()),
        }
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        let count = self.inner.read(buffer, until_ns)?;
        (self.says)(&mut buffer[..count]);
        Ok(count)
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.inner.drain()
    }
}
