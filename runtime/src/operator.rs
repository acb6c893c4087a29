//! Who acts in the policy's place: the scripted operator of a simulated rig, or a person.

use hilt_drivers::{
    Teleop, TeleopError,
    bus::{SerialWire, ServoArm},
    hands::{
        self, HandDevice, Leader, LeaderConfig, PerArm, TeleopConfig, WithKeys,
        leader::{Clutch, FullStep},
    },
    keyboard::{self, Keyboard},
};

use crate::rig::{Rig, ServoArmSettings};

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
    let keyboard = || Keyboard::open(rig.mode.arms());
    let keys = keyboard::help(&rig.spec(), policy);
    let (name, device) = match (operator, &rig.teleop) {
        (Operator::Teleop, Some(TeleopConfig::Spacemouse(config))) => (
            "SpaceMouse",
            hands::open_spacemouse(config, rig.mode.arms())?,
        ),
        (Operator::Teleop, Some(TeleopConfig::Gamepad(config))) => {
            ("gamepad", hands::open_gamepad(config, rig.mode.arms())?)
        }
        (Operator::Teleop, Some(TeleopConfig::Leader(config))) => ("leader", leaders(rig, config)?),
        (Operator::Teleop, None) => {
            let problem = "the rig's file names no device; give it a table [teleop], or use \
                           --operator keyboard";
            return Err(TeleopError(problem.to_owned()));
        }
        _ => return Ok((Box::new(keyboard()?), keys)),
    };
    Ok(match keyboard() {
        Ok(keyboard) => {
            let both = WithKeys::new(device, keyboard);
            (Box::new(both), format!("{name}, and beside it {keys}"))
        }
        // Its own buttons say all that is needed; a leader has none.
        Err(error) if name == "leader" => return Err(error),
        Err(_) => (Box::new(device), name.to_owned()),
    })
}

/// The leaders' buses are read and never written a goal: their torque stays off.
fn leaders(rig: &Rig, config: &LeaderConfig) -> Result<Box<dyn HandDevice>, TeleopError> {
    let step = FullStep {
        m: rig.limits.step_m,
        rad: rig.limits.step_rad,
    };
    let open = |leader: &ServoArmSettings| {
        let refused = |error: &dyn std::fmt::Display| {
            TeleopError(format!("the leader at {}: {error}", leader.port.display()))
        };
        let wire = SerialWire::open(&leader.port.to_string_lossy(), leader.servos.baud);
        let wire = wire.map_err(|e| refused(&e))?;
        let chain = leader.chain().map_err(|e| refused(&e))?;
        let fingers = &leader.servos.gripper;
        let widest_m = fingers.open_width_m.max(fingers.closed_width_m);
        let arm = ServoArm::new(wire, chain, leader.servos.clone()).map_err(|e| refused(&e))?;
        let clutch = Clutch::new(config.clone(), step);
        let leader = Leader::start(Box::new(arm), widest_m, clutch)?;
        Ok(Box::new(leader) as Box<dyn HandDevice>)
    };
    let mut leaders = (rig.leaders.iter().map(open)).collect::<Result<Vec<_>, TeleopError>>()?;
    Ok(match leaders.len() {
        1 => leaders.remove(0),
        _ => Box::new(PerArm(leaders)),
    })
}
