//! Arms.

use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector};

use crate::bus::{Health, ServoArmConfig};

/// What an arm reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmState {
    /// Time of capture on the run's clock, nanoseconds; that of the oldest value, where not all are
    /// of the same age.
    pub captured_ns: u64,
    /// Joint positions, radians, base to tip.
    pub joints: JointVector,
    /// Joint velocities, rad/s.
    pub velocities: JointVector,
    /// Gap between the fingers, metres.
    pub gripper_width_m: f64,
    /// What went wrong at this read, though there still is a state: values that did not come are
    /// those from before, with their own time of capture.
    pub trouble: Option<ArmError>,
}

/// Why an arm did not do what was asked. `Copy`, because it is handled on the control path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// The arm was stopped and takes no targets.
    #[error("the arm is stopped; start it before sending targets")]
    Stopped,
    /// A target has the wrong number of joints.
    #[error("a target of {got} joints for an arm of {expected}")]
    Joints {
        /// The arm's joints.
        expected: usize,
        /// The target's.
        got: usize,
    },
    /// A target is NaN or infinite.
    #[error("the target of joint {0} is not a finite number")]
    NotFinite(usize),
    /// A target lies outside the joint's limits.
    #[error("the target of joint {0} is outside its limits")]
    OutOfLimits(usize),
    /// A servo gives no answer.
    #[error("servo {0} does not answer; check its cable, its power and its id")]
    Silent(u8),
    /// What came back is no valid reply.
    #[error("the reply of servo {0} is corrupted; check the bus cable and what runs beside it")]
    Corrupted(u8),
    /// A valid reply of somebody who was not asked.
    #[error("servo {got} answered in place of servo {expected}; two servos may share an id")]
    WrongId {
        /// Who was asked.
        expected: u8,
        /// Who answered.
        got: u8,
    },
    /// A servo reports an error of its own.
    #[error(
        "servo {id} reports an error (status bits {bits:#010b}); see its manual, let it cool down or free its joint"
    )]
    Servo {
        /// The servo.
        id: u8,
        /// Its error byte.
        bits: u8,
    },
    /// A position that the servo cannot have reached since the one before.
    #[error("servo {0} reports a jump that it cannot have made")]
    Implausible(u8),
    /// A servo is set up for something else than positions, or holds outside the turn of its goals.
    #[error(
        "servo {0} does not go to positions, or counts turns and is not in that of its goals; switch it off and on, or set it up for positions within one turn (Feetech: mode 0 and bit 4 of the phase register clear; Dynamixel: operating mode 3)"
    )]
    Mode(u8),
    /// The bus is gone.
    #[error("the bus is gone; plug the adapter in again, then start the arm")]
    Unplugged,
    /// The device does not answer or reports a fault of its own.
    #[error(
        "the arm does not answer or reports a fault; check power and cable, then start it again"
    )]
    Device,
}

impl ArmError {
    /// As four bytes, for logs; [`ArmError::from_bytes`] reads them.
    pub fn to_bytes(self) -> [u8; 4] {
        let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        match self {
            Self::Stopped => [1, 0, 0, 0],
            Self::Joints { expected, got } => [2, small(expected), small(got), 0],
            Self::NotFinite(joint) => [3, small(joint), 0, 0],
            Self::OutOfLimits(joint) => [4, small(joint), 0, 0],
            Self::Silent(id) => [5, id, 0, 0],
            Self::Corrupted(id) => [6, id, 0, 0],
            Self::WrongId { expected, got } => [7, expected, got, 0],
            Self::Servo { id, bits } => [8, id, bits, 0],
            Self::Implausible(joint) => [9, joint, 0, 0],
            Self::Mode(id) => [12, id, 0, 0],
            Self::Unplugged => [10, 0, 0, 0],
            Self::Device => [11, 0, 0, 0],
        }
    }

    /// Whether it is the device that failed; else the command was refused before it came there.
    pub fn is_of_device(self) -> bool {
        !matches!(
            self,
            Self::Stopped | Self::Joints { .. } | Self::NotFinite(_) | Self::OutOfLimits(_)
        )
    }

    /// From what [`ArmError::to_bytes`] gave; `None` for anything else.
    pub fn from_bytes(bytes: [u8; 4]) -> Option<Self> {
        let [kind, a, b, 0] = bytes else { return None };
        Some(match (kind, a, b) {
            (1, 0, 0) => Self::Stopped,
            (2, expected, got) => Self::Joints {
                expected: expected.into(),
                got: got.into(),
            },
            (3, joint, 0) => Self::NotFinite(joint.into()),
            (4, joint, 0) => Self::OutOfLimits(joint.into()),
            (5, id, 0) => Self::Silent(id),
            (6, id, 0) => Self::Corrupted(id),
            (7, expected, got) => Self::WrongId { expected, got },
            (8, id, bits) => Self::Servo { id, bits },
            (9, joint, 0) => Self::Implausible(joint),
            (12, id, 0) => Self::Mode(id),
            (10, 0, 0) => Self::Unplugged,
            (11, 0, 0) => Self::Device,
            _ => return None,
        })
    }
}

/// How an arm's commands become bytes: what a [`Replica`](crate::Replica) needs to make the same
/// ones without the device.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// It has no wire.
    None,
    /// Those of a [`RemoteArm`](crate::remote::RemoteArm).
    Remote,
    /// Those of a [`ServoArm`](crate::bus::ServoArm).
    Servos(ServoArmConfig),
}

/// A local arm: calls return at once, on the thread that owns its bus.
pub trait Arm {
    /// Its kinematics, with the joint limits.
    fn chain(&self) -> &Chain;

    /// The newest state. `now_ns` is the time of the call on the run's clock; the state carries
    /// the time of its own capture. A bus may wait for replies, and ask again, until `until_ns`.
    fn read_state(&mut self, now_ns: u64, until_ns: u64) -> Result<ArmState, ArmError>;

    /// Sends joint targets (radians) and the gripper's command. A target that is refused moves
    /// nothing.
    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError>;

    /// Lets it take targets, from where it is. Does nothing when it is started already.
    fn start(&mut self) -> Result<(), ArmError>;

    /// Holds the arm where it is and refuses targets until [`Arm::start`]. Idempotent.
    fn stop(&mut self) -> Result<(), ArmError>;

    /// Lets a person lead it by hand: its torque is off, and what it holds falls. For leader arms only,
    /// before they are read; nothing in a run asks it of an arm that works. Does nothing where there
    /// is no torque.
    fn let_go(&mut self) -> Result<(), ArmError> {
        Ok(())
    }

    /// How its servos are: each is asked, and waited for, so it is not for a tick. Empty where there are
    /// none.
    fn examine(&mut self) -> Result<Vec<Health>, ArmError> {
        Ok(Vec::new())
    }

    /// What has gone to the device's wire by [`Arm::write`] and [`Arm::stop`] since the last
    /// [`Arm::read_state`]. Empty for devices without a wire.
    fn sent(&self) -> &[u8] {
        &[]
    }

    /// What somebody who has nothing but the device's wire writes there to make it hold where it
    /// was sent last. Empty for devices without a wire.
    fn will(&self) -> &[u8] {
        &[]
    }

    /// How its commands become bytes.
    fn encoding(&self) -> Encoding {
        Encoding::None
    }
}

/// The checks that every arm makes before a target goes to its bus.
pub(crate) fn check_target(chain: &Chain, joints: &JointVector) -> Result<(), ArmError> {
    // Rounding of a limit on its way through other units must not stop an arm that stands at it.
    const SLACK: f64 = 1e-9;
    let values = joints.as_slice();
    if values.len() != chain.dof() {
        return Err(ArmError::Joints {
            expected: chain.dof(),
            got: values.len(),
        });
    }
    for (i, (value, joint)) in values.iter().zip(chain.joints()).enumerate() {
        if !value.is_finite() {
            return Err(ArmError::NotFinite(i));
        }
        if *value < joint.lower - SLACK || *value > joint.upper + SLACK {
            return Err(ArmError::OutOfLimits(i));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_what_its_bytes_say() {
        let expected = [
            ArmError::Stopped,
            ArmError::Joints {
                expected: 6,
                got: 5,
            },
            ArmError::NotFinite(3),
            ArmError::OutOfLimits(6),
            ArmError::Silent(253),
            ArmError::Corrupted(1),
            ArmError::WrongId {
                expected: 4,
                got: 200,
            },
            ArmError::Servo { id: 2, bits: 0x21 },
            ArmError::Implausible(5),
            ArmError::Mode(9),
            ArmError::Unplugged,
            ArmError::Device,
        ];
        let mut kinds = Vec::new();
        for error in expected {
            let bytes = error.to_bytes();
            assert_eq!(ArmError::from_bytes(bytes), Some(error));
            kinds.push(bytes[0]);
        }
        kinds.sort();
        assert_eq!(kinds, (1..=12).collect::<Vec<_>>(), "one for each kind");
        for bytes in [[0; 4], [13, 0, 0, 0], [1, 1, 0, 0], [5, 1, 0, 1]] {
            assert_eq!(ArmError::from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
