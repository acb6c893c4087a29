//! The shells around the procedures of [`hilt_calibration`]: they ask a person, move the arms, look
//! through the cameras, and put what was found into the rig's calibration file.
//!
//! - [`station::Station`]: the rig as a procedure wants it, its arms told joints, its cameras at full
//!   size.
//! - [`joints`]: a person leads the arm through its joints' ranges; LeRobot's files in and out.
//! - [`views`]: pictures of a board: of a person who holds it, of files, or of an arm that goes about.
//! - [`lens`], [`mounting`], [`bases`], [`latency`]: a procedure each.
//! - [`kept`]: the calibration file.

pub mod bases;
pub mod joints;
pub mod kept;
pub mod latency;
pub mod lens;
pub mod mounting;
pub mod station;
pub mod views;

use hilt_calibration::{
    bases::BasesError,
    hand_eye::{HandEyeError, PlanError},
    intrinsics::IntrinsicsError,
    latency::{LatencyError, SweepError},
};

pub use station::{Station, StationError};

/// Why a procedure found nothing.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The rig.
    #[error(transparent)]
    Station(#[from] StationError),
    /// The file.
    #[error(transparent)]
    Keep(#[from] kept::KeepError),
    /// Where the arm is to go.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The views.
    #[error(transparent)]
    Views(#[from] views::ViewsError),
    /// The lens.
    #[error(transparent)]
    Lens(#[from] IntrinsicsError),
    /// The mounting.
    #[error(transparent)]
    Mounting(#[from] HandEyeError),
    /// The bases.
    #[error(transparent)]
    Bases(#[from] BasesError),
    /// The swing.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// The latency.
    #[error(transparent)]
    Latency(#[from] LatencyError),
    /// Its lens has to be known first.
    #[error(
        "the lens of camera `{0}`, of this device at this size, is not calibrated; run: hilt calibrate intrinsics --rig FILE --camera {0}"
    )]
    NoLens(String),
}
