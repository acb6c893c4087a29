//! Where the bases of two arms stand to each other, by a camera that sees a board in the hand of each.

use hilt_calibration::bases::{BaseToBase, base_to_base};
use hilt_protocol::calibration::{Frame, Intrinsics};

use super::{
    CalibrateError, Station,
    views::{Shot, Tour, Watch, with_hand},
};

/// Lets one arm after the other go about. `ready` is asked before and after each, with the number of the arm
/// and whether its hand is to take the board or to give it back. `tour` says of the first what it says of both.
pub fn tours(
    station: &mut Station,
    tour: &Tour,
    lens: &Intrinsics,
    mut ready: impl FnMut(&mut Station, usize, bool) -> Result<(), CalibrateError>,
    watch: &mut dyn Watch,
) -> Result<(BaseToBase, [Vec<Shot>; 2]), CalibrateError> {
    let mut shots = [Vec::new(), Vec::new()];
    for (arm, shots) in shots.iter_mut().enumerate() {
        ready(station, arm, true)?;
        let tour = Tour {
            arm,
            frame: Frame::Base,
            ..tour.clone()
        };
        *shots = tour.go(station, &|_| lens.clone(), watch)?;
        ready(station, arm, false)?;
    }
    let views = [with_hand(&shots[0]), with_hand(&shots[1])];
    let found = base_to_base(lens, [&tour.board; 2], [&views[0], &views[1]])?;
    Ok((found, shots))
}
