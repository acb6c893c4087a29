//! An arm of STS3215 servos on one bus, as SO-100 and SO-101 are.
//!
//! A tick costs one sync read (position and speed of all servos) and one sync write (the goals of
//! all). Every servo's values have their own time of capture, that of the reply's arrival: one that
//! does not answer keeps its old values with their old time, and the state is as old as its oldest.
//!
//! Nothing here cuts torque: a stopped, forgotten or unplugged arm stands where it was sent last.

mod bring_up;
mod commands;
mod config;
mod inbox;
mod round;

use bring_up::{LONGEST_PIECE, MOST_WRITES, PIECES, Registers};
use commands::GOALS_BYTES;
use config::MAX_SERVOS;
use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector};
use inbox::Inbox;
use round::{Places, Round, Sample};

use super::{
    Wire, WireError,
    feetech::{OVERHEAD, Request},
    sts3215::{
        Feedback, PRESENT_POSITION, PRESENT_SPEED, Register, TORQUE_ENABLE, counts_from_radians,
    },
};
use crate::{Arm, ArmError, ArmState, Encoding};

pub(crate) use commands::{Commands, Goals};
pub use config::{Direction, GripperServo, JointServo, ServoArmConfig, ServoArmConfigError};

/// Position and speed.
const READ_BYTES: u8 = PRESENT_SPEED.address + PRESENT_SPEED.bytes - PRESENT_POSITION.address;

/// Bytes of the longest request: a sync read's or a sync write's.
const REQUEST_BYTES: usize = GOALS_BYTES;

/// What an adapter and two schedulers take, beside the wire's time, from a request to its reply. A
/// USB adapter is asked once a millisecond.
const TURNAROUND_NS: u64 = 1_000_000;

/// How far a joint may seem to have jumped beyond its highest speed, radians: noise of the sensor
/// and of the time of capture.
const JUMP_SLACK_RAD: f64 = 0.05;

/// How long a single servo has for an answer outside the control loop, and how often it is asked.
const ANSWER_NS: u64 = 20_000_000;
const ANSWER_TRIES: usize = 3;

/// How long it has to say that it was told. Its response level may be that it says nothing; what it
/// was told is read back in any case.
const ACKNOWLEDGE_NS: u64 = 5_000_000;

/// Most torque of the gripper, thousandths: it may close on things for long.
const GRIPPER_TORQUE: i32 = 500;

/// An arm of STS3215 servos.
pub struct ServoArm<W> {
    wire: W,
    commands: Commands,
    ids: [u8; MAX_SERVOS],
    servos: usize,
    values: [Option<Sample>; MAX_SERVOS],
    inbox: Inbox,
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
        Ok(Self {
            wire,
            commands: Commands::new(chain, config)?,
            ids,
            servos,
            values: [None; MAX_SERVOS],
            inbox: Inbox::new(),
        })
    }

    /// What carries its bytes; [`Wire::descriptor`] is for who shall hold the arm when this process
    /// is gone.
    pub fn wire(&self) -> &W {
        &self.wire
    }

    /// What servo `id` tells about itself: temperature, load, supply. Waits for its answer, so it
    /// is not for a tick.
    pub fn feedback(&mut self, id: u8) -> Result<Feedback, ArmError> {
        let mut data = [0; Feedback::BYTES as usize];
        self.read(id, PRESENT_POSITION, &mut data)?;
        Feedback::parse(&data).ok_or(ArmError::Device)
    }

    fn config(&self) -> &ServoArmConfig {
        self.commands.config()
    }

    fn wire_ns(&self, bytes: usize) -> u64 {
        // A byte is ten bits on the line: a start and a stop bit beside its own.
        bytes as u64 * 10 * 1_000_000_000 / u64::from(self.config().baud)
    }

    fn replies_ns(&self, servos: usize) -> u64 {
        self.wire_ns(servos * (OVERHEAD + usize::from(READ_BYTES)))
    }

    /// What asking so many servos takes until the last has answered.
    fn ask_ns(&self, servos: usize) -> u64 {
        self.wire_ns(OVERHEAD + 2 + servos) + self.replies_ns(servos) + TURNAROUND_NS
    }

    /// Puts a request on an otherwise silent line. Gives its length, and the earliest time at which
    /// all of it can have been there: taken before the write, because the replies may be here when
    /// a thread that was interrupted comes back from it.
    fn send(
        &mut self,
        request: Request,
        buffer: &mut [u8; REQUEST_BYTES],
    ) -> Result<(usize, u64), ArmError> {
        let bytes = request.encode(buffer).map_err(|_| ArmError::Device)?;
        self.wire.drain().map_err(arm_error)?;
        self.inbox.begin();
        let sent_ns = self.wire.now_ns() + self.wire_ns(bytes);
        self.wire.write(&buffer[..bytes]).map_err(arm_error)?;
        Ok((bytes, sent_ns))
    }

    /// Asks the servos at these places for position and speed. Ends when all have answered, at
    /// `until_ns`, or, where `may_ask_again`, when the line is silent and there is time to ask those
    /// who have not answered once more.
    fn ask(
        &mut self,
        asked: Places,
        until_ns: u64,
        may_ask_again: bool,
    ) -> Result<([Option<Sample>; MAX_SERVOS], Option<ArmError>), ArmError> {
        let ids = self.ids;
        let ids = &ids[..self.servos];
        let mut data = [0; MAX_SERVOS];
        let mut servos = 0;
        for (id, _) in ids.iter().zip(asked).filter(|(_, asked)| *asked) {
            data[servos] = *id;
            servos += 1;
        }
        let request = Request::SyncRead {
            address: PRESENT_POSITION.address,
            count: READ_BYTES,
            ids: &data[..servos],
        };
        let mut buffer = [0; REQUEST_BYTES];
        // What comes while the request is still on the line was asked for before.
        let (sent, earliest_ns) = self.send(request, &mut buffer)?;
        let mut heard_ns = earliest_ns;
        let mut round = Round::new(ids, asked);
        while !round.complete() {
            let missing = count(round.missing());
            let silent_ns = heard_ns + self.replies_ns(missing) + TURNAROUND_NS;
            let again = may_ask_again && silent_ns + self.ask_ns(missing) <= until_ns;
            let wait_ns = if again { silent_ns } else { until_ns };
            let space = self.inbox.space();
            let came = self.wire.read(space, wait_ns).map_err(arm_error)?;
            if came == 0 {
                break;
            }
            heard_ns = self.wire.now_ns();
            self.inbox.came(came);
            while let Some(status) = self.inbox.next(&buffer[..sent], READ_BYTES) {
                let number = |r: Register| r.decode(PRESENT_POSITION, status.parameters);
                let numbers = number(PRESENT_POSITION).zip(number(PRESENT_SPEED));
                let Some((counts, counts_per_s)) = numbers.filter(|_| heard_ns >= earliest_ns)
                else {
                    continue;
                };
                let sample = Sample {
                    captured_ns: heard_ns,
                    counts,
                    counts_per_s,
                };
                round.reply(status.id, status.error, sample);
            }
        }
        Ok(round.finish(self.inbox.junk()))
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

    /// Reads registers of one servo into all of `data`.
    fn read(&mut self, id: u8, first: Register, data: &mut [u8]) -> Result<(), ArmError> {
        let count = data.len() as u8;
        let address = first.address;
        let request = Request::Read { id, address, count };
        let mut trouble = ArmError::Silent(id);
        for _ in 0..ANSWER_TRIES {
            let answer = self.exchange(request, count, ANSWER_NS, data)?;
            match answer {
                None => return Ok(()),
                Some(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    /// One request and its one reply, whose parameters go to `data`; what went wrong, if it did.
    fn exchange(
        &mut self,
        request: Request,
        count: u8,
        patience_ns: u64,
        data: &mut [u8],
    ) -> Result<Option<ArmError>, ArmError> {
        let (Request::Read { id, .. } | Request::Write { id, .. }) = request else {
            return Ok(Some(ArmError::Device));
        };
        let mut buffer = [0; REQUEST_BYTES];
        let (sent, sent_ns) = self.send(request, &mut buffer)?;
        let until_ns = sent_ns + patience_ns;
        loop {
            let space = self.inbox.space();
            let came = self.wire.read(space, until_ns).map_err(arm_error)?;
            if came == 0 {
                return Ok(Some(match self.inbox.junk() {
                    true => ArmError::Corrupted(id),
                    false => ArmError::Silent(id),
                }));
            }
            self.inbox.came(came);
            if let Some(status) = self.inbox.next(&buffer[..sent], count) {
                if status.id != id {
                    return Ok(Some(ArmError::WrongId {
                        expected: id,
                        got: status.id,
                    }));
                }
                data.copy_from_slice(status.parameters);
                return Ok(None);
            }
        }
    }

    fn tell(&mut self, id: u8, register: Register, value: i32) -> Result<(), ArmError> {
        let bytes = register.encode(value);
        let request = Request::Write {
            id,
            address: register.address,
            data: &bytes[..usize::from(register.bytes)],
        };
        // Whether it took effect shows when it is read back.
        self.exchange(request, 0, ACKNOWLEDGE_NS, &mut [])?;
        Ok(())
    }

    fn registers(&mut self, id: u8) -> Result<Registers, ArmError> {
        let mut data = [[0; LONGEST_PIECE]; PIECES.len()];
        for ((first, count), bytes) in PIECES.iter().zip(&mut data) {
            self.read(id, *first, &mut bytes[..usize::from(*count)])?;
        }
        Registers::parse(&data).ok_or(ArmError::Device)
    }

    /// Makes a servo ready for torque; gives its goal, which is where it is or what it holds.
    fn prepare(&mut self, id: u8) -> Result<i32, ArmError> {
        let most_torque = (id == self.config().gripper.id).then_some(GRIPPER_TORQUE);
        for _ in 0..MOST_WRITES {
            let registers = self.registers(id)?;
            if !registers.fits() {
                return Err(ArmError::Mode(id));
            }
            match registers.next_write(most_torque) {
                Some((register, value)) => self.tell(id, register, value)?,
                None => return Ok(registers.goal),
            }
        }
        Err(ArmError::Device)
    }

    fn hold(&mut self, id: u8) -> Result<(), ArmError> {
        for _ in 0..MOST_WRITES {
            let mut torque = [0];
            self.read(id, TORQUE_ENABLE, &mut torque)?;
            if torque == [1] {
                return Ok(());
            }
            self.tell(id, TORQUE_ENABLE, 1)?;
        }
        Err(ArmError::Device)
    }

    /// Sends goals, and keeps them as those that hold the arm.
    fn command(&mut self, goals: Goals) -> Result<(), ArmError> {
        self.wire.write(goals.frame()).map_err(arm_error)?;
        self.commands.wrote(goals);
        Ok(())
    }
}

fn arm_error(error: WireError) -> ArmError {
    match error {
        WireError::Unplugged => ArmError::Unplugged,
        WireError::Os(_) => ArmError::Device,
    }
}

fn count(places: Places) -> usize {
    places.iter().filter(|place| **place).count()
}

impl<W: Wire> Arm for ServoArm<W> {
    fn chain(&self) -> &Chain {
        self.commands.chain()
    }

    /// Asks all servos, and once more those that did not answer, if that can end by `until_ns`.
    fn read_state(&mut self, _now_ns: u64, until_ns: u64) -> Result<ArmState, ArmError> {
        self.commands.forget_sent();
        let mut asked: Places = std::array::from_fn(|place| place < self.servos);
        let mut trouble = None;
        for may_ask_again in [true, false] {
            let (fresh, found) = self.ask(asked, until_ns, may_ask_again)?;
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
            let missing = count(asked);
            let now_ns = self.wire.now_ns();
            if missing == 0 || now_ns + self.ask_ns(missing) > until_ns {
                break;
            }
        }
        self.state(trouble)
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        let goals = self.commands.target(joints, gripper)?;
        self.command(goals)
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
            self.hold(*id)?;
        }
        let goals = Goals::new(ids.iter().copied().zip(goals));
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
