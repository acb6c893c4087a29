//! The procedures that find what has to be known of one robot, once.
//!
//! - [`joints`]: which counts of a servo are which angle of its joint, kept by the servos and looked at
//!   again at every start; LeRobot's files in and out.
//! - [`board`]: the checkerboard or ChArUco board that cameras look at, and its drawing. [`picture`]: what
//!   it is drawn on and seen in. [`mod@detect`]: its corners in a camera's picture. [`pose`]: where it is,
//!   from one picture's corners.
//! - [`intrinsics`]: lens and sensor of a camera, from views of a board.
//! - [`hand_eye`]: where a camera is fixed, to a hand or to the room, and where to take its views.
//!   [`bases`]: where two arms stand to each other.
//! - [`latency`]: how late a camera's frames are, and how a joint swings for that.
//!
//! What they find are the values of [`hilt_protocol::calibration`]; [`mod@file`] keeps them beside the
//! rig's file. Procedures are pure functions of what was seen, so that what finds a real robot's values
//! is tested on the simulator's, which are known. Whoever asks a person, moves an arm or opens a
//! camera is the caller.
//!
//! All fits share one optimiser, [`least_squares`]; what a person is left to look at is a [`page`].
#![deny(missing_docs)]

pub mod bases;
pub mod board;
pub mod detect;
pub mod file;
pub mod hand_eye;
mod homography;
pub mod intrinsics;
pub mod joints;
pub mod latency;
pub mod least_squares;
pub mod page;
pub mod picture;
pub mod pose;
#[cfg(test)]
mod synthetic;
