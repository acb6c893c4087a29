//! Before servos are an arm: who is on a port, and giving each its id and rate.

use std::ops::RangeInclusive;

use super::{
    Family, OpenError, Protocol, Request, Wire, family::version, line::Line, sts3215 as sts,
};
use crate::ArmError;

/// Rates at which servos of either family leave the factory or are commonly used, bits per second.
pub const USUAL_BAUD_RATES: [u32; 4] = [1_000_000, 57_600, 115_200, 500_000];

/// How long a servo has for its answer, beside the wire's time: it may wait for half a millisecond,
/// and adapter and schedulers take theirs.
const PATIENCE_NS: u64 = 4_000_000;

/// Pings, and writes of an id, before they are given up.
const TRIES: usize = 3;

/// A servo that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// The rate at which it answered, bits per second.
    pub baud: u32,
    /// Its id.
    pub id: u8,
    /// Its model's number.
    pub model: u16,
    /// Its model, where it is known.
    pub name: Option<&'static str>,
    /// Version of its firmware.
    pub firmware: String,
    /// Several servos answer to this id, or what answers cannot be understood.
    pub shared: bool,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            protocol,
            baud,
            id,
            model,
            firmware,
            ..
        } = self;
        if self.shared {
            return write!(f, "servo {id}: several at once, {protocol} at {baud} baud");
        }
        let name = self.name.unwrap_or("unknown model");
        write!(
            f,
            "servo {id}: {name} ({model}), firmware {firmware}, {protocol} at {baud} baud"
        )
    }
}

/// Why servos cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The port does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The port is lost meanwhile.
    #[error(transparent)]
    Bus(ArmError),
}

/// Why a servo is not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// Servos cannot be looked for.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Nobody answers.
    #[error(
        "no servo answers; connect one, and check the power of the bus, the cable and the family"
    )]
    Nobody,
    /// Not one servo alone.
    #[error(
        "several servos answer, to the ids {0:?}; leave only the one that is to be set up on the bus"
    )]
    Several(Vec<u8>),
    /// The servo cannot have this id.
    #[error("id {id} is none: {protocol} servos have 0 to {last}")]
    Id {
        /// What was asked for.
        id: u8,
        /// The servo's.
        protocol: Protocol,
        /// The highest.
        last: u8,
    },
    /// The servo has no such rate.
    #[error("{protocol} servos have no rate of {baud} baud; they have {rates:?}")]
    Baud {
        /// What was asked for.
        baud: u32,
        /// The servo's.
        protocol: Protocol,
        /// What there is.
        rates: &'static [u32],
    },
    /// A register does not take its value, or the servo is silent after it.
    #[error(
        "servo {id} does not take its {what}, or has fallen silent; switch it off and on, then begin again"
    )]
    NotTaken {
        /// The servo.
        id: u8,
        /// What.
        what: &'static str,
    },
}

/// What a servo shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its id.
    pub id: u8,
    /// Its rate, bits per second.
    pub baud: u32,
}

/// Who answers on a port: asks every id of `ids`, of every family, at every rate. `open` opens the
/// port at a rate: [`SerialWire::open`](super::SerialWire::open). Takes 5 ms for each that nobody
/// answers.
///
/// A servo is found once, at the first rate at which it answers.
pub fn find<W: Wire>(
    mut open: impl FnMut(u32) -> Result<W, OpenError>,
    families: &[Family],
    bauds: &[u32],
    ids: RangeInclusive<u8>,
) -> Result<Vec<Found>, FindError> {
    let mut found: Vec<Found> = Vec::new();
    for baud in bauds {
        for family in families {
            let protocol = family.protocol();
            let mut line = Line::new(open(*baud)?, protocol, *baud);
            for id in ids.clone().take_while(|id| *id <= protocol.last_id()) {
                let known = |other: &Found| (other.protocol, other.id) == (protocol, id);
                if found.iter().any(known) {
                    continue;
                }
                let servo = ask(&mut line, *family, *baud, id).map_err(FindError::Bus)?;
                found.extend(servo);
            }
        }
    }
    Ok(found)
}

/// Pings a servo and asks who it is.
fn ask<W: Wire>(
    line: &mut Line<W>,
    family: Family,
    baud: u32,
    id: u8,
) -> Result<Option<Found>, ArmError> {
    let answer = ping(line, id)?;
    if answer == Answer::None {
        return Ok(None);
    }
    let mut model = [0; 2];
    let mut firmware = [0; 2];
    let table = family.table();
    let firmware = &mut firmware[..table.firmware_bytes.min(2).into()];
    let read = line
        .read(id, table.model, &mut model)
        .and_then(|_| line.read(id, table.firmware, firmware));
    if read == Err(ArmError::Unplugged) {
        return Err(ArmError::Unplugged);
    }
    let model = u16::from_le_bytes(model);
    Ok(Some(Found {
        protocol: family.protocol(),
        baud,
        id,
        model,
        name: table.name(model),
        firmware: version(firmware),
        shared: answer == Answer::Several || read.is_err(),
    }))
}

/// Who answers to an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    One,
    Several,
}

/// Asks whether a servo is there, and waits for a second answer. Servos that share an id speak at
/// once, so that nothing can be understood, or one after the other.
fn ping<W: Wire>(line: &mut Line<W>, id: u8) -> Result<Answer, ArmError> {
    let request = Request::Ping { id };
    // A Dynamixel servo introduces itself.
    let count = match line.protocol() {
        Protocol::Feetech => 0,
        Protocol::Dynamixel => 3,
    };
    let patience_ns = line.wire_ns(line.protocol().longest_reply(count)) + PATIENCE_NS;
    let mut unclear = false;
    for _ in 0..TRIES {
        line.send(&request, count, None)?;
        let mut until_ns = line.busy_ns() + patience_ns;
        let (mut answers, mut others) = (0, 0);
        while line.receive(until_ns)? {
            while let Some(status) = line.next() {
                match status.id == id {
                    true => answers += 1,
                    // It was asked before, and is late.
                    false => others += 1,
                }
            }
            until_ns = line.now_ns() + patience_ns;
        }
        match (answers, line.junk()) {
            (0, false) if !unclear && others == 0 => return Ok(Answer::None),
            (1, false) => return Ok(Answer::One),
            (2.., _) => return Ok(Answer::Several),
            // A bad line, or several that spoke at once.
            _ => unclear |= line.junk(),
        }
    }
    Ok(match unclear {
        true => Answer::Several,
        false => Answer::None,
    })
}

/// Gives the one servo that is on the bus its id and rate, and makes it go to positions within one
/// turn and answer at once. It loses its torque. It is looked for at `bauds`, and refused when
/// several answer. Gives it as it was and as it answers then.
pub fn set_up<W: Wire>(
    mut open: impl FnMut(u32) -> Result<W, OpenError>,
    family: Family,
    bauds: &[u32],
    to: Settings,
) -> Result<(Found, Found), SetUpError> {
    let (protocol, table) = (family.protocol(), family.table());
    let last = protocol.last_id();
    if to.id > last {
        let id = to.id;
        return Err(SetUpError::Id { id, protocol, last });
    }
    let rate = table.baud_rates.iter().position(|rate| *rate == to.baud);
    let rate = rate.ok_or(SetUpError::Baud {
        baud: to.baud,
        protocol,
        rates: table.baud_rates,
    })? as i32;
    // Looked for twice: a second servo whose answer was missed would be set up with the first.
    let mut answering = find(&mut open, &[family], bauds, 0..=last)?;
    for servo in find(&mut open, &[family], bauds, 0..=last)? {
        if answering.iter().all(|known| known.id != servo.id) {
            answering.push(servo);
        }
    }
    let before = answering.pop().ok_or(SetUpError::Nobody)?;
    if !answering.is_empty() || before.shared {
        let ids = answering.iter().chain([&before]).map(|servo| servo.id);
        return Err(SetUpError::Several(ids.collect()));
    }

    let opened = open(before.baud).map_err(FindError::Open)?;
    let mut line = Line::new(opened, protocol, before.baud);
    let mut set = |id, register, value, what| put(&mut line, id, register, value, what);
    set(before.id, table.torque, 0, "torque")?;
    if family == Family::Sts3215 {
        set(before.id, sts::LOCK, 0, "lock")?;
        set_bits(&mut line, before.id)?;
    }
    let mut set = |id, register, value, what| put(&mut line, id, register, value, what);
    set(before.id, table.return_delay, 0, "return delay")?;
    set(before.id, table.mode, table.mode_position, "mode")?;
    // From here on it answers under its new id, then at its new rate.
    told(&mut line, before.id, table.id, to.id.into(), to.id)?;
    line.tell(to.id, table.baud_rate, rate)
        .map_err(FindError::Bus)?;
    drop(line);
    let opened = open(to.baud).map_err(FindError::Open)?;
    let mut line = Line::new(opened, protocol, to.baud);
    put(&mut line, to.id, table.baud_rate, rate, "rate")?;
    if family == Family::Sts3215 {
        put(&mut line, to.id, sts::LOCK, 1, "lock")?;
    }
    let after = ask(&mut line, family, to.baud, to.id).map_err(FindError::Bus)?;
    let after = after.ok_or(SetUpError::NotTaken {
        id: to.id,
        what: "id",
    })?;
    Ok((before, after))
}

/// Clears the bit that lets an STS3215 count several turns; the others are the maker's.
fn set_bits<W: Wire>(line: &mut Line<W>, id: u8) -> Result<(), SetUpError> {
    let mut phase = [0];
    line.read(id, sts::PHASE, &mut phase)
        .map_err(FindError::Bus)?;
    let phase = i32::from(phase[0] & !sts::PHASE_MULTI_TURN);
    put(line, id, sts::PHASE, phase, "phase")
}

/// Writes a register and reads it back.
fn put<W: Wire>(
    line: &mut Line<W>,
    id: u8,
    register: super::Register,
    value: i32,
    what: &'static str,
) -> Result<(), SetUpError> {
    match line.put(id, register, value) {
        Ok(true) => Ok(()),
        Err(error @ (ArmError::Unplugged | ArmError::Device)) => Err(FindError::Bus(error).into()),
        _ => Err(SetUpError::NotTaken { id, what }),
    }
}

/// Gives it its new id, under which it answers from then on.
fn told<W: Wire>(
    line: &mut Line<W>,
    id: u8,
    register: super::Register,
    value: i32,
    answers_as: u8,
) -> Result<(), SetUpError> {
    for _ in 0..TRIES {
        line.tell(id, register, value).map_err(FindError::Bus)?;
        if ping(line, answers_as).map_err(FindError::Bus)? == Answer::One {
            return Ok(());
        }
    }
    Err(SetUpError::NotTaken { id, what: "id" })
}
