//! Devices in a person's hands: SpaceMouse, gamepad, leader arm.
//!
//! - [`Device`]: a device of axes and buttons, one file each: [`spacemouse`], [`gamepad`]. A thread
//!   of its own reads it ([`Handheld`]): of the axes the newest value counts, of the buttons every
//!   press is kept.
//! - [`Mapping`] says what they mean, by the rig file's [`HandheldConfig`]; [`Hand`] makes intents
//!   and events of them.
//! - [`Leader`]: an unpowered arm; what its tool does is the motion.
//! - [`PerArm`] has a device for each arm, [`WithKeys`] a keyboard beside it.
//!
//! All of these are a [`Teleop`] with one thing more, [`HandDevice`]. [`TeleopConfig`] is the rig
//! file's table that says which, [`open`](fn@open) opens them, [`list`] says what is plugged in.

mod hand;
mod handheld;
mod mapping;
mod open;
mod together;

pub mod gamepad;
pub mod leader;
pub mod spacemouse;

use std::path::PathBuf;

use crate::Teleop;

pub use hand::Hand;
pub use handheld::{Device, Handheld, Heard};
pub use leader::{Leader, LeaderConfig};
pub use mapping::{ConfigError, HandheldConfig, Mapping, Meaning, Profile};
pub use open::{LeaderArm, TeleopConfig, list, open, open_gamepad, open_spacemouse};
pub use together::{PerArm, WithKeys};

/// A device in a hand, beside which there may be a keyboard.
pub trait HandDevice: Teleop {
    /// From now on the person acts until they hand back, or they hand back: said by other means than
    /// the device's own.
    fn take(&mut self, taken: bool);
}

/// A device that is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it calls itself.
    pub name: String,
    /// Its path in `/dev`. It may be another one the next time.
    pub path: PathBuf,
    /// Where it is plugged in, if that is known: the same the next time.
    pub port: Option<String>,
    /// Why it cannot be used, and what to do about it.
    pub problem: Option<String>,
}
