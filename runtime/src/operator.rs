//! Who acts in the policy's place: the scripted operator of a simulated rig, or a person.

use hilt_calibration::joints;
use hilt_drivers::{
    Teleop, TeleopError,
    bus::{SerialWire, ServoArm},
    hands::{self, LeaderArm, TeleopConfig, leader::FullStep},
    keyboard,
};

use crate::rig::Rig;

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The scripted operator of a simulated rig, which stands in for a person.
    Scripted,
    /// A person at the keyboard.
    Keyboard,
    /// A person with the device that the rig's file names, and a keyboard beside it where there is a
    /// terminal.
    Teleop,
}

impl Operator {
    /// As on the command line and in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scripted => "scripted",
            Self::Keyboard => "keyboard",
            Self::Teleop => "teleop",
        }
    }

    /// Whether it is a person, who lives in real time and wants to see what the cameras see.
    pub fn is_person(self) -> bool {
        self != Self::Scripted
    }
}

/// Who drives where nobody says: a person, with the device that the rig's file names if it does.
pub fn person(rig: &Rig) -> Operator {
    match rig.teleop {
        Some(_) => Operator::Teleop,
        None => Operator::Keyboard,
    }
}

/// A person's device, and what to tell them of it. `policy`: there is one to take over from.
pub fn hands(
    operator: Operator,
    rig: &Rig,
    policy: bool,
) -> Result<(Box<dyn Teleop>, String), TeleopError> {
    let config = match (operator, &rig.teleop) {
        (Operator::Teleop, Some(config)) => config.clone(),
        (Operator::Teleop, None) => {
            let problem = "the rig's file names no device; give it a table [teleop], or use \
                           --operator keyboard";
            return Err(TeleopError(problem.to_owned()));
        }
        _ => TeleopConfig::Keyboard,
    };
    let step = FullStep {
        m: rig.limits.step_m,
        rad: rig.limits.step_rad,
    };
    let keys = keyboard::help(&rig.spec(), policy);
    let mut open_leader = |_: &_, arm| leader(rig, arm);
    hands::open(&config, rig.mode.arms(), step, &mut open_leader, keys)
}

/// The leader of an arm; its servos have not been spoken to.
fn leader(rig: &Rig, arm: usize) -> Result<LeaderArm, TeleopError> {
    let missing = || TeleopError(format!("the rig's file names no leader for arm {arm}"));
    let leader = rig.leaders.get(arm).ok_or_else(missing)?;
    let refused = |error: &dyn std::fmt::Display| {
        TeleopError(format!("the leader at {}: {error}", leader.port.display()))
    };
    let wire = SerialWire::open(&leader.port.to_string_lossy(), leader.servos.baud);
    let mut wire = wire.map_err(|e| refused(&e))?;
    if let Some(measured) = &leader.measured {
        wire = joints::known(wire, &leader.servos, measured).map_err(|e| refused(&e))?;
    }
    let chain = leader.chain().map_err(|e| refused(&e))?;
    let fingers = &leader.servos.gripper;
    let widest_m = fingers.open_width_m.max(fingers.closed_width_m);
    let arm = ServoArm::new(wire, chain, leader.servos.clone()).map_err(|e| refused(&e))?;
    let arm = Box::new(arm);
    Ok(LeaderArm { arm, widest_m })
}
