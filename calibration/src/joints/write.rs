//! A plan becomes what the servos keep, and then the value for the file.

use std::fmt;

use hilt_drivers::{
    ArmError,
    bus::{Keep, KeepError, Kept, Maintenance, Wire},
};
use hilt_protocol::calibration::{
    ArmCalibration, GripperCalibration, JointCalibration, ServoIdentity,
};

use super::{GRIPPER, Plan, recorder::wrapped};

/// How far a limp joint may have moved while its servo was written to, counts. What is beyond it is a
/// servo that means something else by its offset.
const MOST_SLIP: i32 = 150;

/// Why the servos do not keep a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteError {
    /// What the servo turns.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// What went wrong.
    pub problem: WriteProblem,
    /// What of the arm keeps the new calibration already; the servo that failed may keep a part of it.
    /// `None`: nothing was written to any.
    pub written: Option<Vec<String>>,
}

/// What went wrong with one servo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteProblem {
    /// It does not keep it.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// It reports to be elsewhere than it must with what it keeps.
    #[error(
        "it reports a position {0} counts from where it must be with its new offset; hold the arm still meanwhile, else its firmware means something else by it"
    )]
    Elsewhere(i32),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            id,
            problem,
            written,
        } = self;
        write!(f, "servo {id} ({name}): {problem}. ")?;
        match written {
            None => f.write_str("Nothing was written, and the old calibration file still holds"),
            Some(written) => {
                let others = match written.is_empty() {
                    true => "No other servo was written to".to_owned(),
                    false => format!("Written already: {}", written.join(", ")),
                };
                write!(
                    f,
                    "{others}. The old calibration file does not match these servos any more, and no new one is written: calibrate again"
                )
            }
        }
    }
}

impl std::error::Error for WriteError {}

/// Writes the plan to its servos, which must be limp (but those that keep it already), reads all back, and
/// gives the calibration of arm number `index`, measured at `date` (RFC 3339, UTC). Every servo is asked
/// before any is written to; whether the file [can be written](crate::file::can_be_written) is the caller's
/// to ask before that.
pub fn write<W: Wire>(
    servos: &mut Maintenance<W>,
    plan: &Plan,
    index: usize,
    date: &str,
) -> Result<ArmCalibration, WriteError> {
    let joints = plan.joints.iter();
    let all: Vec<_> = joints
        .map(|joint| (joint.name.as_str(), joint.id, joint.keep))
        .chain([(GRIPPER, plan.gripper.id, plan.gripper.keep)])
        .collect();
    let failed = |(name, id, _): (&str, u8, Keep), problem, written| WriteError {
        name: name.to_owned(),
        id,
        problem,
        written,
    };
    for servo in &all {
        let ready = is_ready(servos, servo.1, servo.2);
        ready.map_err(|error| failed(*servo, error.into(), None))?;
    }
    let mut written = Vec::new();
    let mut identities = Vec::new();
    for servo in &all {
        let (id, keep) = (servo.1, servo.2);
        let stood = stands(servos, id).map_err(|problem| {
            let written = (!written.is_empty()).then(|| written.clone());
            failed(*servo, problem, written)
        })?;
        let kept = write_one(servos, id, keep, stood);
        let kept = kept.map_err(|problem| failed(*servo, problem, Some(written.clone())))?;
        identities.push(identity(servo.1, &kept));
        written.push(servo.0.to_owned());
    }
    let mut identities = identities.into_iter();
    let joints = plan.joints.iter().zip(&mut identities);
    let joints = joints.map(|(joint, servo)| JointCalibration {
        name: joint.name.clone(),
        zero_counts: joint.zero_counts,
        direction: joint.direction,
        servo,
    });
    let joints = joints.collect();
    let gripper = &plan.gripper;
    let servo = identities.next();
    let servo = servo.ok_or_else(|| {
        let problem = KeepError::Bus(ArmError::Device).into();
        failed((GRIPPER, gripper.id, gripper.keep), problem, None)
    })?;
    Ok(ArmCalibration {
        index,
        date: date.to_owned(),
        family: plan.family.name().to_owned(),
        joints,
        gripper: GripperCalibration {
            open_counts: gripper.open_counts,
            closed_counts: gripper.closed_counts,
            servo,
        },
    })
}

fn is_ready<W: Wire>(servos: &mut Maintenance<W>, id: u8, keep: Keep) -> Result<(), KeepError> {
    let kept = servos.kept(id)?;
    match kept.holds(&keep) || !servos.holds(id)? {
        true => Ok(()),
        false => Err(KeepError::Holds),
    }
}

/// Where a servo's sensor is.
fn stands<W: Wire>(servos: &mut Maintenance<W>, id: u8) -> Result<i32, WriteProblem> {
    let kept = servos.kept(id).map_err(KeepError::Bus)?;
    let position = servos.position(id).map_err(KeepError::Bus)?;
    Ok(kept.sensor_counts(position))
}

fn write_one<W: Wire>(
    servos: &mut Maintenance<W>,
    id: u8,
    keep: Keep,
    stood: i32,
) -> Result<Kept, WriteProblem> {
    let kept = servos.keep(id, keep)?;
    let position = servos.position(id).map_err(KeepError::Bus)?;
    let slip = wrapped(kept.sensor_counts(position) - stood);
    match slip.abs() > MOST_SLIP {
        true => Err(WriteProblem::Elsewhere(slip)),
        false => Ok(kept),
    }
}

fn identity(id: u8, kept: &Kept) -> ServoIdentity {
    // A servo that keeps a plan keeps limits within its turn.
    let counts = |counts: i32| counts.clamp(0, i32::from(u16::MAX)) as u16;
    ServoIdentity {
        id,
        model: kept.model,
        firmware: kept.firmware.clone(),
        offset_counts: kept.offset_counts,
        lowest_counts: counts(kept.lowest_counts),
        highest_counts: counts(kept.highest_counts),
    }
}
