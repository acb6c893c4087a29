//! From the rig file to devices.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    Found, HandDevice, HandheldConfig, PerArm, WithKeys, gamepad,
    hand::Hand,
    handheld::{Device, Handheld},
    leader::{Clutch, FullStep, Leader, LeaderConfig, TakeOver},
    mapping::{ConfigError, Profile},
    spacemouse,
};
use crate::{Arm, Teleop, TeleopError, keyboard::Keyboard};

/// The rig file's `[teleop]` table: what a person holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "device", rename_all = "kebab-case")]
pub enum TeleopConfig {
    /// The keyboard of the terminal alone.
    #[default]
    Keyboard,
    /// A SpaceMouse.
    Spacemouse(HandheldConfig),
    /// A gamepad.
    Gamepad(HandheldConfig),
    /// An unpowered arm that is led by hand.
    Leader(LeaderConfig),
}

impl TeleopConfig {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Keyboard => Ok(()),
            Self::Spacemouse(config) => config.mapping(&spacemouse::PROFILE).map(drop),
            Self::Gamepad(config) => config.mapping(&gamepad::PROFILE).map(drop),
            Self::Leader(config) => config.check(),
        }
    }
}

/// A leader's arm, not spoken to yet.
pub struct LeaderArm {
    /// The arm.
    pub arm: Box<dyn Arm + Send>,
    /// Between its fingers when they are open, metres.
    pub widest_m: f64,
}

/// Opens what a person holds, with the keyboard of the terminal beside it if there is one, and says
/// in a line or two how it is used.
///
/// `arms`: that the rig has. `step`: a full step of the rig's actions. `open_leader` opens the bus of
/// a leader, given the number of the rig's arm that follows it. `keys_help`: what is said of the
/// keyboard.
pub fn open(
    config: &TeleopConfig,
    arms: usize,
    step: FullStep,
    open_leader: &mut dyn FnMut(&LeaderConfig, usize) -> Result<LeaderArm, TeleopError>,
    keys_help: String,
) -> Result<(Box<dyn Teleop>, String), TeleopError> {
    config.check().map_err(|e| TeleopError(e.to_string()))?;
    let (hand, help) = match config {
        TeleopConfig::Keyboard => return Ok((Box::new(Keyboard::open(arms)?), keys_help)),
        TeleopConfig::Spacemouse(config) => SPACEMOUSE.open(config, arms)?,
        TeleopConfig::Gamepad(config) => GAMEPAD.open(config, arms)?,
        TeleopConfig::Leader(config) => leaders(config, arms, step, open_leader)?,
    };
    let by_key = matches!(config, TeleopConfig::Leader(c) if c.take_over == TakeOver::Key);
    match Keyboard::open(arms) {
        Ok(keys) => {
            let help = format!("{help}\n{keys_help}");
            Ok((Box::new(WithKeys::new(hand, keys)), help))
        }
        Err(error) if by_key => Err(TeleopError(format!(
            "with teleop.take_over = \"key\" a leader needs keys: {}",
            error.0
        ))),
        Err(_) => Ok((Box::new(hand), help)),
    }
}

/// All devices that a hand could hold, each with the `device` that it is in a rig file.
pub fn list() -> Result<Vec<(&'static str, Found)>, TeleopError> {
    let mut found = Vec::new();
    for kind in [&SPACEMOUSE, &GAMEPAD] {
        found.extend((kind.list)()?.into_iter().map(|found| (kind.device, found)));
    }
    Ok(found)
}

fn leaders(
    config: &LeaderConfig,
    arms: usize,
    step: FullStep,
    open_leader: &mut dyn FnMut(&LeaderConfig, usize) -> Result<LeaderArm, TeleopError>,
) -> Result<(Box<dyn HandDevice>, String), TeleopError> {
    let mut devices = Vec::new();
    for arm in 0..arms {
        let led = open_leader(config, arm)?;
        let clutch = Clutch::new(config.clone(), step);
        let leader = Leader::start(led.arm, led.widest_m, clutch)?;
        devices.push(Box::new(leader) as Box<dyn HandDevice>);
    }
    let help = match config.take_over {
        TakeOver::Key => "leader: press t in each episode and then lead it; h lets go",
        TakeOver::Motion => "leader: lead it to take over, hold it still to hand back",
    };
    Ok((together(devices), help.to_owned()))
}

fn together(mut devices: Vec<Box<dyn HandDevice>>) -> Box<dyn HandDevice> {
    match devices.len() {
        1 => devices.remove(0),
        _ => Box::new(PerArm(devices)),
    }
}

/// A kind of device, as it is opened.
struct Kind {
    /// In the rig file.
    device: &'static str,
    name: &'static str,
    profile: Profile,
    list: fn() -> Result<Vec<Found>, TeleopError>,
    open: fn(&Path) -> Result<Box<dyn Device>, TeleopError>,
}

const SPACEMOUSE: Kind = Kind {
    device: "spacemouse",
    name: "SpaceMouse",
    profile: spacemouse::PROFILE,
    list: spacemouse::list,
    open: |path| Ok(Box::new(spacemouse::open(path)?)),
};

const GAMEPAD: Kind = Kind {
    device: "gamepad",
    name: "gamepad",
    profile: gamepad::PROFILE,
    list: || Ok(gamepad::list()),
    open: |path| Ok(Box::new(gamepad::open(path)?)),
};

/// Opens SpaceMice, for a rig with so many arms.
pub fn open_spacemouse(
    config: &HandheldConfig,
    arms: usize,
) -> Result<Box<dyn HandDevice>, TeleopError> {
    SPACEMOUSE.open(config, arms).map(|(device, _)| device)
}

/// Opens gamepads, for a rig with so many arms.
pub fn open_gamepad(
    config: &HandheldConfig,
    arms: usize,
) -> Result<Box<dyn HandDevice>, TeleopError> {
    GAMEPAD.open(config, arms).map(|(device, _)| device)
}

impl Kind {
    fn open(
        &self,
        config: &HandheldConfig,
        arms: usize,
    ) -> Result<(Box<dyn HandDevice>, String), TeleopError> {
        let mapping = config
            .mapping(&self.profile)
            .map_err(|e| TeleopError(e.to_string()))?;
        let paths = choose(self.name, &config.devices, self.list, arms)?;
        let each = match paths.len() {
            1 => arms,
            _ => 1,
        };
        let help = format!("{}: {}", self.name, mapping.words(&self.profile, each));
        let devices = paths.iter().map(|path| {
            let hand = Hand::new(mapping.clone(), each);
            let device = Handheld::start((self.open)(path)?, hand)?;
            Ok(Box::new(device) as Box<dyn HandDevice>)
        });
        let devices = devices.collect::<Result<Vec<_>, TeleopError>>()?;
        Ok((together(devices), help))
    }
}

/// Which of those that are plugged in: one, or one for each arm.
fn choose(
    kind: &str,
    wanted: &[PathBuf],
    list: impl FnOnce() -> Result<Vec<Found>, TeleopError>,
    arms: usize,
) -> Result<Vec<PathBuf>, TeleopError> {
    if wanted.len() > arms {
        return Err(TeleopError(format!(
            "teleop.devices names {} for {arms} arm(s)",
            wanted.len()
        )));
    }
    if !wanted.is_empty() && wanted.iter().all(|path| path.starts_with("/dev")) {
        return Ok(wanted.to_vec());
    }
    let mut found = list()?;
    found.sort_by(|a, b| (&a.port, &a.path).cmp(&(&b.port, &b.path)));
    if wanted.is_empty() {
        return match found.len() {
            0 => Err(TeleopError(format!(
                "there is no {kind}; plug it in, and see that who runs this may read it \
                 (`hilt doctor` lists what there is)"
            ))),
            1 => Ok(vec![found.remove(0).path]),
            n if n == arms => Ok(found.into_iter().map(|f| f.path).collect()),
            n => Err(TeleopError(format!(
                "there are {n} of them for {arms} arm(s); name those to use in teleop.devices: {}",
                names(&found)
            ))),
        };
    }
    let one = |wanted: &PathBuf| {
        if wanted.starts_with("/dev") {
            return Ok(wanted.clone());
        }
        let port = wanted.to_string_lossy();
        let there = found.iter().find(|f| f.port.as_deref() == Some(&*port));
        there.map(|f| f.path.clone()).ok_or_else(|| {
            TeleopError(format!(
                "teleop.devices names {port}, where there is no {kind}; there are: {}",
                names(&found)
            ))
        })
    };
    wanted.iter().map(one).collect()
}

fn names(found: &[Found]) -> String {
    let names = found.iter().map(|f| match &f.port {
        Some(port) => port.clone(),
        None => f.path.display().to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ports: &[&str]) -> Vec<Found> {
        let one = |(number, port): (usize, &&str)| Found {
            name: "SpaceMouse Compact".to_owned(),
            path: format!("/dev/hidraw{number}").into(),
            port: Some((*port).to_owned()),
            problem: None,
        };
        ports.iter().enumerate().map(one).collect()
    }

    fn chosen(wanted: &[&str], ports: &[&str], arms: usize) -> Result<Vec<String>, String> {
        let wanted: Vec<_> = wanted.iter().map(PathBuf::from).collect();
        let paths = choose("SpaceMouse", &wanted, || Ok(found(ports)), arms);
        let names = |paths: Vec<PathBuf>| paths.iter().map(|p| p.display().to_string()).collect();
        paths.map(names).map_err(|e| e.to_string())
    }

    #[test]
    fn devices_are_those_that_are_there_or_those_that_are_named() {
        let two = ["usb-2/input0", "usb-1/input0"];
        for (wanted, ports, arms, expected) in [
            (&[][..], &two[..1], 1, &["/dev/hidraw0"][..]),
            (&[], &two[..1], 2, &["/dev/hidraw0"]),
            (&[], &two, 2, &["/dev/hidraw1", "/dev/hidraw0"]),
            (&["usb-2/input0"], &two, 1, &["/dev/hidraw0"]),
            (
                &["/dev/hidraw7", "usb-1/input0"],
                &two,
                2,
                &["/dev/hidraw7", "/dev/hidraw1"],
            ),
        ] {
            assert_eq!(chosen(wanted, ports, arms).unwrap(), expected);
        }
        for (wanted, ports, arms, expected) in [
            (&[][..], &[][..], 1, "there is no SpaceMouse"),
            (&[], &two, 1, "usb-1/input0, usb-2/input0"),
            (&["usb-3"], &two, 1, "names usb-3"),
            (&["/dev/a", "/dev/b"], &[], 1, "names 2 for 1 arm"),
        ] {
            let problem = chosen(wanted, ports, arms).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn a_table_says_its_device_and_what_it_does_not_know() {
        let parse = |text: &str| toml::from_str::<TeleopConfig>(text);
        let keyboard = parse("device = \"keyboard\"").unwrap();
        assert_eq!(keyboard, TeleopConfig::default());
        let mouse = parse("device = \"spacemouse\"\ndeadband = 0.2").unwrap();
        let TeleopConfig::Spacemouse(config) = &mouse else {
            panic!("{mouse:?}");
        };
        assert_eq!(config.deadband, Some(0.2));
        mouse.check().unwrap();
        let pad = parse("device = \"gamepad\"\nbuttons = { start = \"stop\" }").unwrap();
        pad.check().unwrap();
        let text = toml::to_string(&pad).unwrap();
        assert_eq!(parse(&text).unwrap(), pad);
        for (text, expected) in [
            ("device = \"joystick\"", "joystick"),
            ("device = \"spacemouse\"\ngian = 1", "gian"),
            ("device = \"leader\"\ndeadband = 1.0", "deadband"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
        }
        let wrong = parse("device = \"gamepad\"\nbuttons = { left = \"stop\" }").unwrap();
        assert_eq!(wrong.check().unwrap_err().field, "buttons.left");
    }
}
