//! Whether servos are those that a file was measured of.

use std::fmt;

use hilt_drivers::{
    ArmError,
    bus::{Family, Kept, Maintenance, ServoArmConfig, Turns, Wire},
};
use hilt_protocol::calibration::{ArmCalibration, ServoIdentity};

use super::{GRIPPER, recorder::TURN};

/// What is other about one servo than the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What the servo turns.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// What is other.
    pub what: What,
}

/// See [`Difference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// It cannot be asked.
    #[error("{0}")]
    Silent(ArmError),
    /// It is of another model.
    #[error("is of model {is}, and {was} was calibrated: it was exchanged")]
    Model {
        /// The file's.
        was: u16,
        /// The servo's.
        is: u16,
    },
    /// It has another firmware.
    #[error(
        "has firmware {is}, and one with {was} was calibrated: it was exchanged, or its firmware was"
    )]
    Firmware {
        /// The file's.
        was: String,
        /// The servo's.
        is: String,
    },
    /// It keeps nothing of a calibration.
    #[error("is as it left the factory: it was exchanged or reset")]
    AsNew,
    /// It keeps another one's.
    #[error(
        "keeps offset {is_offset} and goals from {} to {}, calibrated were {was_offset} and {} to {}: it was exchanged, or another program calibrated it", .is.0, .is.1, .was.0, .was.1
    )]
    Rehomed {
        /// The file's offset.
        was_offset: i32,
        /// The servo's.
        is_offset: i32,
        /// The file's lowest and highest goals.
        was: (u16, u16),
        /// The servo's.
        is: (i32, i32),
    },
    /// Its positions are others.
    #[error("has another operating mode or drive mode than it was calibrated with")]
    Mode,
}

/// Why servos are not those of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The file is of another family.
    Family {
        /// The file's.
        was: String,
        /// The rig's.
        is: &'static str,
    },
    /// Two servos have each other's id: which.
    Crossed(String, String),
    /// No servo is as it was: it is another arm, or its file another's.
    OtherArm,
    /// Some are not.
    Servos(Vec<Difference>),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family { was, is } => {
                write!(f, "the calibration is of {was} servos, the rig's are {is}: ")?;
            }
            Self::Crossed(a, b) => {
                return write!(
                    f,
                    "the servos of {a} and {b} have each other's ids: give each its own again with \
                     hilt setup-motors, or calibrate this arm: hilt calibrate joints"
                );
            }
            Self::OtherArm => f.write_str(
                "no servo of this arm keeps what the calibration says: it is another arm's (are two \
                 ports exchanged?), or another program has calibrated all of it. ",
            )?,
            Self::Servos(differences) => {
                for Difference { name, id, what } in differences {
                    write!(f, "servo {id} ({name}) {what}. ")?;
                }
                if differences.iter().all(|d| matches!(d.what, What::Silent(_))) {
                    return f.write_str("Check cable and power");
                }
            }
        }
        f.write_str("Calibrate this arm again: hilt calibrate joints")
    }
}

impl std::error::Error for Mismatch {}

/// Asks the servos at an open port whether they are those of the calibration, and gives the port back: a
/// question to each, some ten milliseconds.
pub fn known<W: Wire>(
    wire: W,
    config: &ServoArmConfig,
    of: &ArmCalibration,
) -> Result<W, Mismatch> {
    let mut servos = Maintenance::new(wire, config.family, config.baud);
    check(&mut servos, of)?;
    Ok(servos.into_wire())
}

/// Asks each servo of an arm who it is and what it keeps, one question each, and compares. Nothing is
/// written, and arms that hold go on to.
///
/// Bus servos have no serial number: one that was exchanged for another of the same model and firmware
/// that keeps the same offset and limits is not told apart, nor does it matter then, but for how its horn
/// sits.
pub fn check<W: Wire>(servos: &mut Maintenance<W>, of: &ArmCalibration) -> Result<(), Mismatch> {
    let is = servos.family().name();
    if of.family != is {
        let was = of.family.clone();
        return Err(Mismatch::Family { was, is });
    }
    let mut differences = Vec::new();
    let mut found = Vec::new();
    for (place, servo) in of.servos().enumerate() {
        let kept = servos.kept(servo.id);
        let what = match &kept {
            Err(error) => Some(What::Silent(*error)),
            Ok(kept) => difference(servo, kept),
        };
        let joint = of.joints.get(place);
        let name = joint.map_or(GRIPPER, |joint| &joint.name).to_owned();
        found.push((name.clone(), servo, kept.clone().ok()));
        let id = servo.id;
        differences.extend(what.map(|what| Difference { name, id, what }));
        // Nobody else is there to be asked.
        if matches!(kept, Err(ArmError::Unplugged | ArmError::Device)) {
            break;
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    if let Some((a, b)) = crossed(&found) {
        return Err(Mismatch::Crossed(a, b));
    }
    let foreign = |d: &Difference| matches!(d.what, What::Rehomed { .. } | What::Model { .. });
    let all = differences.len() == of.joints.len() + 1;
    Err(match all && differences.iter().all(foreign) {
        true => Mismatch::OtherArm,
        false => Mismatch::Servos(differences),
    })
}

fn difference(file: &ServoIdentity, kept: &Kept) -> Option<What> {
    if file.model != kept.model {
        let (was, is) = (file.model, kept.model);
        return Some(What::Model { was, is });
    }
    if file.firmware != kept.firmware {
        let (was, is) = (file.firmware.clone(), kept.firmware.clone());
        return Some(What::Firmware { was, is });
    }
    if !same_counts(file, kept) {
        if (kept.offset_counts, kept.lowest_counts, kept.highest_counts) == (0, 0, TURN - 1) {
            return Some(What::AsNew);
        }
        return Some(What::Rehomed {
            was_offset: file.offset_counts,
            is_offset: kept.offset_counts,
            was: (file.lowest_counts, file.highest_counts),
            is: (kept.lowest_counts, kept.highest_counts),
        });
    }
    let must_count_turns = kept.family == Family::DynamixelX && file.offset_counts % TURN != 0;
    let counts = match kept.turns {
        None => false,
        Some(turns) => !must_count_turns || turns == Turns::Many,
    };
    (!counts || kept.reversed).then_some(What::Mode)
}

/// Offsets that are whole turns apart are the same to a servo that counts turns.
fn same_counts(file: &ServoIdentity, kept: &Kept) -> bool {
    let apart = file.offset_counts - kept.offset_counts;
    let same = match kept.family {
        Family::Sts3215 => apart == 0,
        Family::DynamixelX => apart % TURN == 0,
    };
    same && i32::from(file.lowest_counts) == kept.lowest_counts
        && i32::from(file.highest_counts) == kept.highest_counts
}

/// Two that keep what the other shall.
fn crossed(found: &[(String, &ServoIdentity, Option<Kept>)]) -> Option<(String, String)> {
    for (place, (name, file, kept)) in found.iter().enumerate() {
        for (other_name, other_file, other_kept) in &found[..place] {
            if let (Some(kept), Some(other_kept)) = (kept, other_kept)
                && !same_counts(file, kept)
                && same_counts(file, other_kept)
                && same_counts(other_file, kept)
            {
                return Some((other_name.clone(), name.clone()));
            }
        }
    }
    None
}
