//! How a control loop began: all that its ticks depend on and that does not change, and where the
//! arms stood.

use hilt_drivers::{
    Arm, Encoding,
    bus::{Direction, Family, GripperServo, JointServo, ServoArmConfig},
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::{GripperCommand, JointVector};
use nalgebra::{Unit, Vector3};
use prost::Message;

use super::{
    convert::{
        Result, by_arm, gripper, joints, needed, parse, per_arm, pose_from, pose_to, targets_from,
        targets_to, wrong,
    },
    pb,
};
use crate::control::{AgeLimits, ControlConfig, JointBounds, Targets};

/// How an arm is to be commanded again without its device.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmAbout {
    /// Its kinematics.
    pub chain: Chain,
    /// How its commands become bytes.
    pub encoding: Encoding,
    /// What it was held by at the beginning.
    pub will: Vec<u8>,
}

impl ArmAbout {
    /// Of an arm that was started.
    pub fn of(arm: &(impl Arm + ?Sized)) -> Self {
        Self {
            chain: arm.chain().clone(),
            encoding: arm.encoding(),
            will: arm.will().to_vec(),
        }
    }
}

/// How a control loop began.
#[derive(Clone, Debug, PartialEq)]
pub struct Began {
    /// What it goes by.
    pub config: ControlConfig,
    /// A tick that begins later than this after its deadline is late, nanoseconds.
    pub late_ns: u64,
    /// Where the arms stood.
    pub targets: Targets,
    /// The arms, started.
    pub arms: Vec<ArmAbout>,
}

impl Began {
    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let config = &self.config;
        pb::Began {
            config: Some(pb::Config {
                arms: config.arms as u32,
                cameras: config.cameras as u32,
                interpolation_ns: config.interpolation_ns,
                tick_ns: config.tick_ns,
                late_command_ns: config.late_ns,
                bounds: per_arm(&config.bounds, bounds_to),
                state_age_ns: config.ages.state_ns,
                frame_age_ns: config.ages.frame_ns,
                policy_age_ns: config.ages.policy_ns,
                tick_age_ns: config.ages.tick_ns,
                gripper_closed: config.gripper == GripperCommand::Closed,
                following_rad: Some(config.following_rad),
                astray_age_ns: config.ages.astray_ns,
            }),
            late_tick_ns: self.late_ns,
            targets: targets_to(&self.targets),
            arms: self.arms.iter().map(arm_to).collect(),
        }
        .encode_to_vec()
    }

    /// From its bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let began: pb::Began = parse(bytes)?;
        let config = needed(began.config, "config")?;
        let began = Self {
            config: ControlConfig {
                arms: config.arms as usize,
                cameras: config.cameras as usize,
                interpolation_ns: config.interpolation_ns,
                tick_ns: config.tick_ns,
                late_ns: config.late_command_ns,
                bounds: by_arm(config.bounds.iter().map(bounds_from))?,
                ages: AgeLimits {
                    state_ns: config.state_age_ns,
                    frame_ns: config.frame_age_ns,
                    policy_ns: config.policy_age_ns,
                    astray_ns: config.astray_age_ns,
                    tick_ns: config.tick_age_ns,
                },
                following_rad: needed(config.following_rad, "following_rad")?,
                gripper: gripper(config.gripper_closed),
            },
            late_ns: began.late_tick_ns,
            targets: targets_from(&began.targets)?,
            arms: began.arms.iter().map(arm_from).collect::<Result<_>>()?,
        };
        began.check()?;
        Ok(began)
    }

    /// What the loop's arithmetic relies on.
    fn check(&self) -> Result<()> {
        let config = &self.config;
        if config.arms != self.arms.len() || config.cameras > hilt_protocol::MAX_CAMERAS {
            return Err(wrong("config", "is for another number of arms or cameras"));
        }
        let finite = |v: &JointVector| v.as_slice().iter().all(|q| q.is_finite());
        for (place, (bounds, target)) in config.bounds.iter().zip(&self.targets).enumerate() {
            let joints = self.arms.get(place).map(|arm| arm.chain.dof());
            if let Some((target, _)) = target
                && !(joints == Some(target.as_slice().len()) && finite(target))
            {
                return Err(wrong("targets", "are not those of the arms"));
            }
            let Some(bounds) = bounds else { continue };
            let (lower, upper) = (bounds.lower.as_slice(), bounds.upper.as_slice());
            let whole = joints == Some(lower.len())
                && joints == Some(upper.len())
                && lower.iter().zip(upper).all(|(lower, upper)| lower <= upper)
                && bounds.velocity_rad_s >= 0.0
                && bounds.acceleration_rad_s2 >= 0.0;
            if !whole {
                return Err(wrong("bounds", "are not those of the arms"));
            }
        }
        Ok(())
    }
}

fn bounds_to(arm: u32, bounds: &JointBounds) -> pb::Bounds {
    pb::Bounds {
        arm,
        lower: bounds.lower.as_slice().to_vec(),
        upper: bounds.upper.as_slice().to_vec(),
        velocity_rad_s: Some(bounds.velocity_rad_s),
        acceleration_rad_s2: Some(bounds.acceleration_rad_s2),
    }
}

fn bounds_from(bounds: &pb::Bounds) -> Result<(u32, JointBounds)> {
    let read = JointBounds {
        lower: joints(&bounds.lower, "lower")?,
        upper: joints(&bounds.upper, "upper")?,
        velocity_rad_s: needed(bounds.velocity_rad_s, "velocity_rad_s")?,
        acceleration_rad_s2: needed(bounds.acceleration_rad_s2, "acceleration_rad_s2")?,
    };
    Ok((bounds.arm, read))
}

fn arm_to(arm: &ArmAbout) -> pb::Arm {
    let joint = |joint: &Joint| pb::Joint {
        parent_from_joint: pose_to(&joint.parent_from_joint),
        axis: joint.axis.iter().copied().collect(),
        slides: joint.kind == JointKind::Prismatic,
        lower: Some(joint.lower),
        upper: Some(joint.upper),
    };
    pb::Arm {
        joints: arm.chain.joints().iter().map(joint).collect(),
        last_from_tool: pose_to(arm.chain.last_from_tool()),
        remote: arm.encoding == Encoding::Remote,
        servos: match &arm.encoding {
            Encoding::Servos(config) => Some(servos_to(config)),
            Encoding::None | Encoding::Remote => None,
        },
        will: arm.will.clone(),
    }
}

fn arm_from(arm: &pb::Arm) -> Result<ArmAbout> {
    let joint = |joint: &pb::Joint| {
        let &[x, y, z] = &joint.axis[..] else {
            return Err(wrong("axis", "is not of three numbers"));
        };
        Ok(Joint {
            parent_from_joint: pose_from(&joint.parent_from_joint, "parent_from_joint")?,
            axis: Unit::new_unchecked(Vector3::new(x, y, z)),
            kind: match joint.slides {
                true => JointKind::Prismatic,
                false => JointKind::Revolute,
            },
            lower: needed(joint.lower, "lower")?,
            upper: needed(joint.upper, "upper")?,
        })
    };
    let joints = arm.joints.iter().map(joint).collect::<Result<_>>()?;
    let tool = pose_from(&arm.last_from_tool, "last_from_tool")?;
    Ok(ArmAbout {
        chain: Chain::new(joints, tool).map_err(|_| wrong("joints", "make no chain"))?,
        encoding: match (&arm.servos, arm.remote) {
            (Some(servos), false) => Encoding::Servos(servos_from(servos)?),
            (None, true) => Encoding::Remote,
            (None, false) => Encoding::None,
            (Some(_), true) => return Err(wrong("remote", "is no arm of servos")),
        },
        will: arm.will.clone(),
    })
}

fn servos_to(config: &ServoArmConfig) -> pb::Servos {
    let joint = |servo: &JointServo| pb::Servo {
        id: servo.id.into(),
        zero_counts: servo.zero_counts.into(),
        against: servo.direction == Direction::Against,
    };
    pb::Servos {
        joints: config.joints.iter().map(joint).collect(),
        gripper_id: config.gripper.id.into(),
        open_counts: config.gripper.open_counts.into(),
        closed_counts: config.gripper.closed_counts.into(),
        open_width_m: Some(config.gripper.open_width_m),
        closed_width_m: Some(config.gripper.closed_width_m),
        baud: config.baud,
        max_speed_rad_s: Some(config.max_speed_rad_s),
        dynamixel: config.family == Family::DynamixelX,
    }
}

fn servos_from(servos: &pb::Servos) -> Result<ServoArmConfig> {
    fn small<T: TryFrom<u32>>(number: u32) -> Result<T> {
        T::try_from(number).map_err(|_| wrong("servos", "hold a number that is too large"))
    }
    let joint = |servo: &pb::Servo| {
        Ok(JointServo {
            id: small(servo.id)?,
            zero_counts: small(servo.zero_counts)?,
            direction: match servo.against {
                true => Direction::Against,
                false => Direction::Along,
            },
        })
    };
    Ok(ServoArmConfig {
        family: match servos.dynamixel {
            true => Family::DynamixelX,
            false => Family::Sts3215,
        },
        joints: servos.joints.iter().map(joint).collect::<Result<_>>()?,
        gripper: GripperServo {
            id: small(servos.gripper_id)?,
            open_counts: small(servos.open_counts)?,
            closed_counts: small(servos.closed_counts)?,
            open_width_m: needed(servos.open_width_m, "open_width_m")?,
            closed_width_m: needed(servos.closed_width_m, "closed_width_m")?,
        },
        baud: servos.baud,
        max_speed_rad_s: needed(servos.max_speed_rad_s, "max_speed_rad_s")?,
    })
}
