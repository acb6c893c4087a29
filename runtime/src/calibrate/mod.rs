//! The shells around the procedures of [`hilt_calibration`]: they ask a person, move the arms, look
//! through the cameras, and put what was found into the rig's calibration file.
//!
//! - [`station::Station`]: the rig as a procedure wants it, its arms told joints, its cameras at full
//!   size.
//! - [`kept`]: the calibration file.

pub mod kept;
pub mod station;

pub use station::{Station, StationError};
