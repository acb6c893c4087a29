//! Who acts in the policy's place: the scripted operator of a simulated rig, or a person.

use hilt_drivers::{
    Teleop, TeleopError,
    keyboard::{self, Keyboard},
};

use crate::rig::Rig;

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The scripted operator of a simulated rig, which stands in for a person.
    Scripted,
    /// A person at the keyboard.
    Keyboard,
}

impl Operator {
    /// As on the command line and in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scripted => "scripted",
            Self::Keyboard => "keyboard",
        }
    }

    /// Whether it is a person, who lives in real time and wants to see what the cameras see.
    pub fn is_person(self) -> bool {
        self != Self::Scripted
    }
}

/// A person's device, and what to tell them of it. `policy`: there is one to take over from.
pub fn hands(rig: &Rig, policy: bool) -> Result<(Box<dyn Teleop>, String), TeleopError> {
    let keyboard = Keyboard::open(rig.mode.arms())?;
    Ok((Box::new(keyboard), keyboard::help(&rig.spec(), policy)))
}
