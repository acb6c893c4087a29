//! Where a camera is fixed: to a hand, or to the room.

use hilt_calibration::hand_eye::{HandEye, hand_eye};
use hilt_protocol::calibration::Intrinsics;

use super::{
    CalibrateError, Station,
    views::{Shot, Tour, Watch, with_hand},
};
use crate::rig::Rig;

/// The lens of the rig's camera of this name, if it was measured of the device that is there, at its size.
pub fn lens(rig: &Rig, camera: &str) -> Result<Intrinsics, CalibrateError> {
    let missing = || CalibrateError::NoLens(camera.to_owned());
    let calibration = rig.calibrated().and_then(|c| c.camera(camera));
    let measured = calibration.ok_or_else(missing)?;
    let lens = measured.intrinsics.clone().ok_or_else(missing)?;
    let settings = rig.cameras.iter().find(|other| other.name == camera);
    if let Some(v4l2) = settings.and_then(|camera| camera.v4l2.as_ref()) {
        let device = Some(v4l2.device.display().to_string());
        if measured.device != device || (lens.width_px, lens.height_px) != (v4l2.width, v4l2.height)
        {
            return Err(missing());
        }
    }
    Ok(lens)
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
