//! Where a camera is fixed: to a hand, or to the room.

use hilt_calibration::hand_eye::{HandEye, hand_eye};
use hilt_protocol::calibration::Intrinsics;

use super::{
    CalibrateError, Station,
    views::{Shot, Tour, Watch, with_hand},
};
use crate::rig::Rig;

/// The lens of the rig's camera of this name.
pub fn lens(rig: &Rig, camera: &str) -> Result<Intrinsics, CalibrateError> {
    let calibration = rig
        .calibrated()
        .and_then(|calibration| calibration.camera(camera));
    let lens = calibration.and_then(|camera| camera.intrinsics.clone());
    lens.ok_or_else(|| CalibrateError::NoLens(camera.to_owned()))
}

/// Lets the arm go about, and finds it.
pub fn tour(
    station: &mut Station,
    tour: &Tour,
    lens: &Intrinsics,
    watch: &mut dyn Watch,
) -> Result<(HandEye, Vec<Shot>), CalibrateError> {
    let shots = tour.go(station, &|_| lens.clone(), watch)?;
    let found = hand_eye(lens, &tour.board, tour.frame, &with_hand(&shots))?;
    Ok((found, shots))
}
