//! Lens and sensor of a camera.

use hilt_calibration::{
    board::Board,
    intrinsics::{self, IntrinsicsReport},
};
use hilt_protocol::calibration::Intrinsics;

use super::{
    CalibrateError, Station,
    views::{Shot, Tour, Watch, any_seen, seen},
};

/// What is taken for a lens of which nothing is known: one that sees 60° across.
fn guess(shots: &[Shot]) -> Intrinsics {
    let size = shots
        .first()
        .map(|shot| (shot.picture.width_px(), shot.picture.height_px()));
    let (width_px, height_px) = size.unwrap_or((640, 480));
    let (width, height) = (f64::from(width_px), f64::from(height_px));
    let focal_px = width / 2.0 / (std::f64::consts::PI / 6.0).tan();
    Intrinsics {
        date: String::new(),
        width_px,
        height_px,
        focal_px: [focal_px; 2],
        centre_px: [(width - 1.0) / 2.0, (height - 1.0) / 2.0],
        distortion: [0.0; 5],
        rms_px: 0.0,
        views: 0,
    }
}

/// From views that were taken.
pub fn of_shots(board: &Board, shots: &[Shot]) -> Result<IntrinsicsReport, CalibrateError> {
    any_seen(shots)?;
    Ok(intrinsics::calibrate(board, &seen(shots))?)
}

/// Views of an arm that goes about, with the lens not known yet.
pub fn tour(
    station: &mut Station,
    tour: &Tour,
    watch: &mut dyn Watch,
) -> Result<Vec<Shot>, CalibrateError> {
    // A lens found from a few views near each other is rough, and better than a guess.
    let rough = |shots: &[Shot]| match of_shots(&tour.board, shots) {
        Ok(report) => report.intrinsics,
        Err(_) => guess(shots),
    };
    tour.go(station, &rough, watch)
}
