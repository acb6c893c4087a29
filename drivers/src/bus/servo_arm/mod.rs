//! An arm of servos on one bus: SO-100 and SO-101 (Feetech), Koch, ViperX and others (Dynamixel X).
//!
//! A tick costs one sync read (position and speed of all servos) and one sync write (the goals of
//! all). Every servo's values have their own time of capture, that of the reply's arrival: one that
//! does not answer keeps its old values with their old time, and the state is as old as its oldest.
//! Where a tick has time left, now and then one servo is asked how it is ([`Health`]).
//!
//! Nothing but [`Arm::let_go`] cuts torque: a stopped, forgotten or unplugged arm stands where it was
//! sent last. Servos of the X series watch the bus besides, from the first target on: when nobody has
//! spoken for 100 ms, they stand where they are. [`Arm::start`] makes them go on.

mod bring_up;
mod commands;
mod config;
mod health;
mod round;

use bring_up::{MOST_WRITES, Registers};
use config::MAX_SERVOS;
use health::{Monitor, Question};
use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector};
use round::{Places, Round, Sample};

use super::{
    Family, Request, Wire,
    dynamixel::FastReply,
    line::{Line, TURNAROUND_NS},
    sts3215::counts_from_radians,
    xseries::{BUS_WATCHDOG, WATCHDOG_UNIT_NS},
};
use crate::{Arm, ArmError, ArmState, Encoding};

pub(crate) use commands::{Commands, Goals};
pub use config::{Direction, GripperServo, JointServo, ServoArmConfig, ServoArmConfigError};
pub use health::Health;

/// How far a joint may seem to have jumped beyond its highest speed, radians: noise of the sensor
/// and of the time of capture.
const JUMP_SLACK_RAD: f64 = 0.05;

/// How long the servos' bus watchdogs wait, in their units: 100 ms.
const WATCHDOG_UNITS: i32 = 5;

/// How long all servos have to show that they know the fast sync read, and how often.
const PROBE_NS: u64 = 20_000_000;
const PROBE_TRIES: usize = 3;

/// An arm of servos.
pub struct ServoArm<W> {
    line: Line<W>,
    commands: Commands,
    ids: [u8; MAX_SERVOS],
    servos: usize,
    values: [Option<Sample>; MAX_SERVOS],
    monitor: Monitor,
    /// All servos answer a fast sync read; not known before the first start.
    fast: Option<bool>,
    /// A target went out since it was started.
    moved: bool,
    /// The bus watchdogs are on.
    watched: bool,
    /// When something was last said on the bus.
    spoke_ns: u64,
}

impl<W: Wire> ServoArm<W> {
    /// An arm that was not spoken to yet; [`Arm::start`] prepares its servos. Deadlines and times
    /// of capture are on the wire's clock.
    pub fn new(wire: W, chain: Chain, config: ServoArmConfig) -> Result<Self, ServoArmConfigError> {
        let servos = config.joints.len() + 1;
        let mut ids = [0; MAX_SERVOS];
        for (place, id) in ids.iter_mut().zip(config.ids()) {
            *place = id;
        }
        let (family, baud) = (config.family, config.baud);
        Ok(Self {
            commands: Commands::new(chain, config)?,
            line: Line::new(wire, family.protocol(), baud),
            ids,
            servos,
            values: [None; MAX_SERVOS],
            monitor: Monitor::new(family),
            fast: None,
            moved: false,
            watched: false,
            spoke_ns: 0,
        })
    }

    /// What carries its bytes; [`Wire::descriptor`] is for who shall hold the arm when this process
    /// is gone.
    pub fn wire(&self) -> &W {
        self.line.wire()
    }

    /// How servo `id` is. Waits for its answer, so it is not for a tick.
    pub fn health(&mut self, id: u8) -> Result<Health, ArmError> {
        let family = self.family();
        let mut data = [0; health::LONGEST];
        let (first, count) = Question::State.registers(family);
        let data = &mut data[..usize::from(count)];
        self.line.read(id, first, data)?;
        let captured_ns = self.line.now_ns();
        let health = health::parse(family, data).ok_or(ArmError::Device)?;
        let mut errors = [0];
        let (first, _) = Question::Error.registers(family);
        self.line.read(id, first, &mut errors)?;
        Ok(Health {
            id,
            captured_ns,
            errors: errors[0],
            ..health
        })
    }

    /// What the servos told about themselves beside the ticks; a servo that told nothing yet is not
    /// among them.
    pub fn healths(&self) -> impl Iterator<Item = Health> {
        self.monitor.healths()
    }

    fn config(&self) -> &ServoArmConfig {
        self.commands.config()
    }

    fn family(&self) -> Family {
        self.config().family
    }

    /// Bytes that are read of each servo in a tick.
    fn count(&self) -> usize {
        self.family().table().feedback().1.into()
    }

    fn replies_ns(&self, servos: usize, fast: bool) -> u64 {
        let bytes = match fast {
            true => FastReply::bytes(servos, self.count()),
            false => servos * self.line.protocol().reply_bytes(self.count()),
        };
        self.line.wire_ns(bytes)
    }

    /// What asking so many servos takes until the last has answered.
    fn ask_ns(&self, servos: usize) -> u64 {
        let request = self.line.protocol().reply_bytes(4 + servos);
        self.line.wire_ns(request) + self.replies_ns(servos, false) + TURNAROUND_NS
    }

    /// Asks the servos at these places for position and speed. Ends when all have answered, at
    /// `until_ns`, or, where `may_ask_again`, when the line is silent and there is time to ask those
    /// who have not answered once more.
    fn ask(
        &mut self,
        asked: Places,
        until_ns: u64,
        may_ask_again: bool,
        fast: bool,
    ) -> Result<([Option<Sample>; MAX_SERVOS], Option<ArmError>), ArmError> {
        let family = self.family();
        let (first, count) = family.table().feedback();
        let ids = self.ids;
        let ids = &ids[..self.servos];
        let mut data = [0; MAX_SERVOS];
        let mut servos = 0;
        for (id, _) in ids.iter().zip(asked).filter(|(_, asked)| *asked) {
            data[servos] = *id;
            servos += 1;
        }
        let (address, ids_asked) = (first.address.into(), &data[..servos]);
        let count = u16::from(count);
        let request = match fast {
            true => Request::FastSyncRead {
                address,
                count,
                ids: ids_asked,
            },
            false => Request::SyncRead {
                address,
                count,
                ids: ids_asked,
            },
        };
        // What comes while the request is still on the line was asked for before.
        let together = fast.then_some(servos);
        let earliest_ns = self.line.send(&request, count.into(), together)?;
        let mut heard_ns = self.line.busy_ns();
        self.spoke_ns = heard_ns;
        let mut round = Round::new(ids, asked);
        while !round.complete() {
            let missing = places(round.missing());
            let silent_ns = heard_ns + self.replies_ns(missing, fast) + TURNAROUND_NS;
            let again = may_ask_again && silent_ns + self.ask_ns(missing) <= until_ns;
            let wait_ns = if again { silent_ns } else { until_ns };
            if !self.line.receive(wait_ns)? {
                break;
            }
            heard_ns = self.line.now_ns();
            while let Some(status) = self.line.next() {
                let sample = Sample::parse(family, status.parameters, heard_ns);
                let Some(sample) = sample.filter(|_| heard_ns >= earliest_ns) else {
                    continue;
                };
                let (id, error) = (status.id, status.error);
                let place = ids.iter().position(|other| *other == id);
                let errors = place.map_or(0, |place| self.monitor.replied(place, error));
                round.reply(id, errors, sample);
            }
        }
        Ok(round.finish(self.line.junk()))
    }

    /// Asks a servo how it is, when it is time for that and there is time for it.
    fn look_after(&mut self, until_ns: u64) -> Result<(), ArmError> {
        let Some((place, question)) = self.monitor.next(self.servos) else {
            return Ok(());
        };
        let (first, count) = question.registers(self.family());
        let protocol = self.line.protocol();
        let bytes = protocol.reply_bytes(4) + protocol.longest_reply(count.into());
        let patience_ns = self.line.wire_ns(bytes) + TURNAROUND_NS;
        if self.line.now_ns() + patience_ns > until_ns {
            return Ok(());
        }
        let id = self.ids[place];
        let request = Request::Read {
            id,
            address: first.address.into(),
            count: count.into(),
        };
        let mut data = [0; health::LONGEST];
        let data = &mut data[..usize::from(count)];
        // What is lost is asked again when its turn comes.
        if let Ok(error) = self.line.exchange(id, &request, data, patience_ns)? {
            let now_ns = self.line.now_ns();
            self.monitor.replied(place, error);
            let unwatched = self.monitor.answered((place, question), id, data, now_ns);
            self.watched &= !unwatched;
        }
        Ok(())
    }

    /// Sees to the bus watchdogs, where there are any: they are switched on once it moves, and a
    /// silence for which they stop the servos is noted.
    fn keep_watch(&mut self) -> Result<(), ArmError> {
        let waits_ns = WATCHDOG_UNITS as u64 * WATCHDOG_UNIT_NS;
        if self.watched && self.line.now_ns() > self.spoke_ns + waits_ns {
            self.monitor.was_silent(self.servos);
        }
        if self.family() == Family::DynamixelX && self.moved && !self.watched {
            let ids = self.ids[..self.servos].iter();
            let units = ids.map(|id| (*id, WATCHDOG_UNITS));
            let frame = Goals::of(self.family(), BUS_WATCHDOG, units);
            self.line.say(frame.frame())?;
            self.watched = true;
        }
        Ok(())
    }

    /// Whether a joint can have got from one value to the next.
    fn plausible(&self, old: Option<Sample>, new: Sample) -> bool {
        let fastest = counts_from_radians(self.config().max_speed_rad_s);
        let slack = counts_from_radians(JUMP_SLACK_RAD);
        let jumps = old.is_some_and(|old| {
            let elapsed_s = new.captured_ns.saturating_sub(old.captured_ns) as f64 * 1e-9;
            f64::from((new.counts - old.counts).abs()) > fastest * elapsed_s + slack
        });
        !jumps && f64::from(new.counts_per_s.abs()) <= fastest
    }

    fn state(&self, trouble: Option<ArmError>) -> Result<ArmState, ArmError> {
        let mut joints = self.chain().zeros();
        let mut velocities = self.chain().zeros();
        let mut captured_ns = u64::MAX;
        let mut gripper_width_m = 0.0;
        for (place, value) in self.values.iter().enumerate().take(self.servos) {
            let Some(value) = value else {
                return Err(ArmError::Silent(self.ids[place]));
            };
            captured_ns = captured_ns.min(value.captured_ns);
            match self.config().joints.get(place) {
                Some(servo) => {
                    joints.as_mut_slice()[place] = servo.radians(value.counts);
                    velocities.as_mut_slice()[place] = servo.radians_per_s(value.counts_per_s);
                }
                None => gripper_width_m = self.config().gripper.width_m(value.counts),
            }
        }
        Ok(ArmState {
            captured_ns,
            joints,
            velocities,
            gripper_width_m,
            trouble,
        })
    }

    /// Makes a servo ready for torque; gives its goal, which is where it is or what it holds.
    fn prepare(&mut self, id: u8) -> Result<i32, ArmError> {
        let family = self.family();
        let is_gripper = id == self.config().gripper.id;
        for _ in 0..MOST_WRITES {
            let line = &mut self.line;
            let read = |first, data: &mut [u8]| line.read(id, first, data).map(|_| ());
            let registers = Registers::read(family, read)?.ok_or(ArmError::Device)?;
            if !registers.fits(is_gripper) {
                return Err(ArmError::Mode(id));
            }
            if registers.errors() != 0 {
                let bits = registers.errors();
                return Err(ArmError::Servo { id, bits });
            }
            match registers.next_write(is_gripper) {
                Some((register, value)) => self.line.tell(id, register, value)?,
                None => return Ok(registers.goal()),
            }
        }
        Err(ArmError::Device)
    }

    fn switch_torque(&mut self, id: u8, on: bool) -> Result<(), ArmError> {
        let torque = self.family().table().torque;
        for _ in 0..MOST_WRITES {
            let mut is_on = [0];
            self.line.read(id, torque, &mut is_on)?;
            if is_on == [u8::from(on)] {
                return Ok(());
            }
            self.line.tell(id, torque, i32::from(on))?;
        }
        Err(ArmError::Device)
    }

    /// Whether all servos answer a fast sync read: older firmware says nothing.
    fn probe_fast(&mut self) -> Result<bool, ArmError> {
        if self.family() != Family::DynamixelX {
            return Ok(false);
        }
        let all: Places = std::array::from_fn(|place| place < self.servos);
        for _ in 0..PROBE_TRIES {
            let until_ns = self.line.now_ns() + PROBE_NS;
            let (fresh, _) = self.ask(all, until_ns, false, true)?;
            if fresh.iter().flatten().count() == self.servos {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends goals, and keeps them as those that hold the arm.
    fn command(&mut self, goals: Goals) -> Result<(), ArmError> {
        self.line.say(goals.frame())?;
        self.spoke_ns = self.line.now_ns();
        self.commands.wrote(goals);
        Ok(())
    }
}

fn places(places: Places) -> usize {
    places.iter().filter(|place| **place).count()
}

impl<W: Wire> Arm for ServoArm<W> {
    fn chain(&self) -> &Chain {
        self.commands.chain()
    }

    /// Asks all servos, and once more those that did not answer, if that can end by `until_ns`.
    fn read_state(&mut self, _now_ns: u64, until_ns: u64) -> Result<ArmState, ArmError> {
        self.commands.forget_sent();
        self.keep_watch()?;
        let mut asked: Places = std::array::from_fn(|place| place < self.servos);
        let mut trouble = None;
        for may_ask_again in [true, false] {
            let fast = self.fast == Some(true) && may_ask_again;
            let (fresh, found) = self.ask(asked, until_ns, may_ask_again, fast)?;
            trouble = trouble.or(found);
            for (place, sample) in fresh.into_iter().enumerate() {
                let Some(sample) = sample else { continue };
                asked[place] = false;
                if self.plausible(self.values[place], sample) {
                    self.values[place] = Some(sample);
                } else {
                    trouble = trouble.or(Some(ArmError::Implausible(self.ids[place])));
                }
            }
            let missing = places(asked);
            if missing == 0 {
                self.look_after(until_ns)?;
            }
            let now_ns = self.line.now_ns();
            if missing == 0 || now_ns + self.ask_ns(missing) > until_ns {
                break;
            }
        }
        self.state(trouble)
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        let goals = self.commands.target(joints, gripper)?;
        self.command(goals)?;
        self.moved = true;
        Ok(())
    }

    /// Prepares every servo while it is as it is, then switches torque on: each holds where it is,
    /// or, if it held something already, what it held. Takes some ten milliseconds.
    fn start(&mut self) -> Result<(), ArmError> {
        if self.commands.is_started() {
            return Ok(());
        }
        let ids = self.ids;
        let ids = &ids[..self.servos];
        let mut goals = [0; MAX_SERVOS];
        for (id, goal) in ids.iter().zip(&mut goals) {
            *goal = self.prepare(*id)?;
        }
        for id in ids {
            self.switch_torque(*id, true)?;
        }
        // The watchdogs were cleared.
        (self.moved, self.watched) = (false, false);
        self.monitor.forget_errors();
        if self.fast.is_none() {
            self.fast = Some(self.probe_fast()?);
        }
        let goals = Goals::new(self.family(), ids.iter().copied().zip(goals));
        self.commands.start(goals);
        Ok(())
    }

    /// Sends the last goals once more, at every call.
    fn stop(&mut self) -> Result<(), ArmError> {
        match self.commands.stop() {
            Some(goals) => self.command(goals),
            None => Ok(()),
        }
    }

    /// Prepares every servo besides: it answers without delay.
    fn let_go(&mut self) -> Result<(), ArmError> {
        let ids = self.ids;
        for id in &ids[..self.servos] {
            self.switch_torque(*id, false)?;
            self.prepare(*id)?;
            // Being told a goal may have switched it on.
            self.switch_torque(*id, false)?;
        }
        Ok(())
    }

    fn examine(&mut self) -> Result<Vec<Health>, ArmError> {
        let ids = self.ids;
        let servos = ids[..self.servos].iter();
        servos.map(|id| self.health(*id)).collect()
    }

    fn sent(&self) -> &[u8] {
        self.commands.sent()
    }

    fn will(&self) -> &[u8] {
        self.commands.will()
    }

    fn encoding(&self) -> Encoding {
        Encoding::Servos(self.config().clone())
    }
}
