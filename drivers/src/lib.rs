//! What a rig is made of: arms, cameras, and something a person holds.
//!
//! - [`Arm`]: a *local* arm, whose bus is on the thread that calls it. It reports a state with the
//!   time of its capture, takes joint targets, and stops on demand, as often as one likes.
//! - [`Camera`]: gives its newest frame, at the policy's size, with the time of its capture.
//! - [`Teleop`]: what a person wants ([`Intent`], newest value) and what they say
//!   ([`TeleopEvent`], queued). The scripted operator of simulated rigs is one too, and says so
//!   through [`Teleop::source`].
//! - [`Scene`]: the reset and the truth of a simulated rig, and [`World`], one whose time stands still
//!   until it is told to pass. A real rig has neither.
//!
//! Behind them:
//!
//! - arms: [`bus`], servos on a serial line, Feetech's and Dynamixel's; [`franka`], behind a server of its
//!   own; [`remote`], any that has a thread to itself;
//! - cameras: [`v4l2`], those of the kernel;
//! - hands: [`keyboard`], and what a person holds, [`hands`]: SpaceMouse, gamepad, leader arm;
//! - without hardware: [`emulated`], servos that answer the real protocols; [`sim`], the MuJoCo lift
//!   scene; [`fake`], arms that follow exactly.
//!
//! [`faults`] breaks any of them on purpose, by a plan.
//!
//! Each trait comes with one suite in [`conformance`] that every implementation passes.
#![deny(missing_docs)]

mod arm;
mod bars;
pub mod bus;
mod camera;
pub mod conformance;
pub mod emulated;
pub mod fake;
pub mod faults;
pub mod franka;
pub mod hands;
pub mod keyboard;
pub mod remote;
mod replica;
pub mod sim;
mod teleop;
mod terminal;
pub mod v4l2;
mod world;

pub use arm::{Arm, ArmError, ArmState, Encoding};
pub use camera::{Backdated, Camera, CameraError};
pub use replica::Replica;
pub use teleop::{Intent, Teleop, TeleopError, TeleopEvent};
pub use terminal::SavedTerminal;
pub use world::{EpisodeStart, Scene, World, WorldError};
