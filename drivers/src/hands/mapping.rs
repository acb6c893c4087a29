//! What a device's axes and buttons mean, as the rig file says it. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What pressing a button means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// Nothing.
    Nothing,
    /// Open the gripper.
    Open,
    /// Close the gripper.
    Close,
    /// The task is done.
    Success,
    /// The task has failed.
    Failure,
    /// Throw this episode away.
    Rerecord,
    /// End the run.
    Stop,
    /// The person acts while it is down, also when they do not move.
    Hold,
    /// Take over, or hand back to the policy.
    TakeOver,
    /// From now on move the other arm of two.
    OtherArm,
}

/// A device of axes and buttons in the rig file: a SpaceMouse or a gamepad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandheldConfig {
    /// Which, one for each arm: a path in `/dev`, or the port that `hilt doctor` lists. Empty: those
    /// that are plugged in, in the order of their ports. One device moves two arms in turn.
    pub devices: Vec<PathBuf>,
    /// Share of an axis's way around its middle that counts as hands off; left out, what suits the
    /// device.
    pub deadband: Option<f64>,
    /// Factors of x, y, z, roll, pitch and yaw; negative ones turn an axis around. As it is, pushing
    /// away from the person is x: for a person behind the arm. Who faces it writes
    /// `[-1, -1, 1, -1, -1, 1]`.
    pub gain: [f64; 6],
    /// Hands count as on for so long after the last motion, seconds: between two moves the policy
    /// must not grab the arm.
    pub linger_s: f64,
    /// What buttons mean; those that are not named keep their meaning.
    pub buttons: BTreeMap<String, Meaning>,
}

impl Default for HandheldConfig {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            deadband: None,
            gain: [1.0; 6],
            linger_s: 0.5,
            buttons: BTreeMap::new(),
        }
    }
}

/// What is wrong with a device's configuration: the field, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("teleop.{field}: {problem}")]
pub struct ConfigError {
    /// The field of the rig file's `[teleop]` table.
    pub field: String,
    /// What it must be.
    pub problem: String,
}

impl ConfigError {
    /// Of this field.
    pub(crate) fn at(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// A kind of device, as the mapping sees it.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What suits it.
    pub deadband: f64,
    /// Its buttons: name in the rig file, number, what it means if nothing else is said.
    pub buttons: &'static [(&'static str, u16, Meaning)],
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Mapping {
    deadband: f64,
    gain: [f64; 6],
    pub(super) linger_ns: u64,
    meanings: BTreeMap<u16, Meaning>,
}

/// Largest factor of an axis: beyond it a touch is a full step.
const MOST_GAIN: f64 = 10.0;
/// Longest `linger_s`, seconds.
const MOST_LINGER_S: f64 = 60.0;

/// Checks the six factors of a `gain`.
pub(crate) fn check_gain(gain: &[f64; 6]) -> Result<(), ConfigError> {
    let fits = |g: &f64| g.is_finite() && g.abs() <= MOST_GAIN;
    match gain.iter().position(|g| !fits(g)) {
        Some(axis) => Err(ConfigError::at(
            format!("gain[{axis}]"),
            format!(
                "{} must be between -{MOST_GAIN} and {MOST_GAIN}",
                gain[axis]
            ),
        )),
        None => Ok(()),
    }
}

impl HandheldConfig {
    /// Checks it for a kind of device. A button that the kind has no name for can be written as its
    /// number.
    pub fn mapping(&self, profile: &Profile) -> Result<Mapping, ConfigError> {
        check_gain(&self.gain)?;
        let deadband = self.deadband.unwrap_or(profile.deadband);
        if !(0.0..=0.9).contains(&deadband) {
            let problem = format!("{deadband} must be between 0 and 0.9");
            return Err(ConfigError::at("deadband", problem));
        }
        if !(0.0..=MOST_LINGER_S).contains(&self.linger_s) {
            let problem = format!("{} must be between 0 and {MOST_LINGER_S} s", self.linger_s);
            return Err(ConfigError::at("linger_s", problem));
        }
        let named = profile.buttons.iter();
        let mut meanings: BTreeMap<_, _> = named.map(|(_, number, m)| (*number, *m)).collect();
        for (name, meaning) in &self.buttons {
            let known = profile.buttons.iter().find(|(known, ..)| known == name);
            let number = known.map(|(_, number, _)| *number);
            let Some(number) = number.or_else(|| name.parse().ok()) else {
                let names: Vec<_> = profile.buttons.iter().map(|(name, ..)| *name).collect();
                let problem = format!(
                    "no such button; there are {}, or its number",
                    names.join(", ")
                );
                return Err(ConfigError::at(format!("buttons.{name}"), problem));
            };
            meanings.insert(number, *meaning);
        }
        Ok(Mapping {
            deadband,
            gain: self.gain,
            linger_ns: (self.linger_s * 1e9) as u64,
            meanings,
        })
    }
}

impl Meaning {
    /// In a few words; `None`: there is nothing to say.
    fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::Nothing => return None,
            Self::Open => "open",
            Self::Close => "close",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Rerecord => "throw away",
            Self::Stop => "end",
            Self::Hold => "you act while it is down",
            Self::TakeOver => "take over, hand back",
            Self::OtherArm => "the other arm",
        })
    }
}

impl Mapping {
    /// What the buttons mean, in one line. `arms`: that it moves.
    pub fn words(&self, profile: &Profile, arms: usize) -> String {
        let words = self.meanings.iter().filter_map(|(number, meaning)| {
            if *meaning == Meaning::OtherArm && arms < 2 {
                return None;
            }
            let named = profile.buttons.iter().find(|(_, n, _)| n == number);
            let name = named.map_or_else(|| number.to_string(), |(name, ..)| (*name).to_owned());
            meaning.words().map(|words| format!("{name} {words}"))
        });
        words.collect::<Vec<_>>().join(" · ")
    }

    /// What pressing this button means.
    pub fn meaning(&self, button: u16) -> Meaning {
        self.meanings
            .get(&button)
            .copied()
            .unwrap_or(Meaning::Nothing)
    }

    /// The motion of an axis's deflection, both in [-1, 1]. It begins at zero at the deadband's edge,
    /// so that a slow start is slow.
    pub fn motion(&self, axis: usize, deflection: f64) -> f64 {
        let beyond = deflection.abs() - self.deadband;
        // A deflection that is no number moves nothing.
        if beyond <= 0.0 || beyond.is_nan() {
            return 0.0;
        }
        let share = (beyond / (1.0 - self.deadband)).min(1.0);
        (share.copysign(deflection) * self.gain[axis]).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROFILE: Profile = Profile {
        deadband: 0.1,
        buttons: &[("left", 0, Meaning::Close), ("right", 1, Meaning::Open)],
    };

    fn mapping(text: &str) -> Result<Mapping, String> {
        let config: HandheldConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.mapping(&PROFILE).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("deadband = 1.0", "teleop.deadband: 1 must be between"),
            ("deadband = nan", "teleop.deadband"),
            ("linger_s = -1.0", "teleop.linger_s"),
            ("gain = [1, 1, 1, inf, 1, 1]", "teleop.gain[3]"),
            (
                "buttons.top = \"open\"",
                "teleop.buttons.top: no such button; there are left, right",
            ),
            ("buttons.left = \"opne\"", "unknown variant `opne`"),
            ("deadbnd = 0.1", "unknown field `deadbnd`"),
        ] {
            let problem = mapping(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn buttons_keep_their_meaning_unless_they_are_named() {
        let mapping = mapping("buttons = { right = \"success\", 7 = \"stop\" }").unwrap();
        let meanings = [0, 1, 7, 8].map(|button| mapping.meaning(button));
        let (close, success) = (Meaning::Close, Meaning::Success);
        assert_eq!(meanings, [close, success, Meaning::Stop, Meaning::Nothing]);
    }

    #[test]
    fn a_line_says_what_the_buttons_mean() {
        let config = "buttons = { right = \"other-arm\", left = \"nothing\", 7 = \"stop\" }";
        let mapping = mapping(config).unwrap();
        assert_eq!(mapping.words(&PROFILE, 1), "7 end");
        assert_eq!(mapping.words(&PROFILE, 2), "right the other arm · 7 end");
    }

    #[test]
    fn motion_begins_at_the_edge_of_the_deadband() {
        let mapping = mapping("gain = [1, -1, 2, 1, 1, 0]").unwrap();
        for (axis, deflection, expected) in [
            (0, 0.1, 0.0),
            (0, 0.55, 0.5),
            (0, -1.0, -1.0),
            (1, 0.55, -0.5),
            (2, 0.55, 1.0),
            (2, 0.19, 0.2),
            (5, 1.0, 0.0),
            (0, f64::NAN, 0.0),
        ] {
            let motion = mapping.motion(axis, deflection);
            assert!((motion - expected).abs() < 1e-12, "{deflection}: {motion}");
        }
    }

    proptest! {
        #[test]
        fn motion_stays_within_a_step(
            axis in 0..6_usize,
            deflection in prop::num::f64::ANY,
            gain in prop::array::uniform6(-10.0..10.0_f64),
            deadband in 0.0..=0.9,
        ) {
            let config = HandheldConfig { deadband: Some(deadband), gain, ..Default::default() };
            let motion = config.mapping(&PROFILE).unwrap().motion(axis, deflection);
            prop_assert!((-1.0..=1.0).contains(&motion), "{motion}");
        }
    }
}
