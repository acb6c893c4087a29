//! Arms.

use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector};

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
    /// A position that the joint cannot have reached since the one before.
    #[error("joint {0} reports a jump that it cannot have made")]
    Implausible(u8),
    /// The bus is gone.
    #[error("the bus is gone; plug the adapter in again, then start the arm")]
    Unplugged,
    /// The device does not answer or reports a fault of its own.
    #[error(
        "the arm does not answer or reports a fault; check power and cable, then start it again"
    )]
    Device,
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
