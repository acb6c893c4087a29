//! The procedures from end to end on the simulator: pictures that it draws go in, what comes out is
//! compared with what is known of the scene.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod latency;
mod lens;
mod mounting;
#[path = "../support/opencv.rs"]
mod opencv;
mod stage;

use hilt_calibration::{board::Board, detect::detect};
use stage::{FRONT, Stage, WRIST, cells, so101, so101_board};

#[test]
fn the_rigs_boards_are_the_one_that_its_comment_names() {
    let board: Board = "charuco:8x6:20:15".parse().unwrap();
    assert_eq!(board, so101_board());
    for drawn in so101().boards {
        assert_eq!(drawn.cells, cells(&board));
        assert_eq!(drawn.size_m, board.size_m());
    }
}

#[test]
fn corners_are_found_where_they_are() {
    for (mut stage, camera) in [(Stage::so101(), WRIST), (Stage::desk6(), FRONT)] {
        let lens = stage.lens(camera);
        let (mut squares, mut count) = (0.0, 0);
        for look in stage.looks(camera, 8, 1) {
            let camera_from_board = stage.camera_from_board(camera, &look.base_from_hand);
            let view = detect(&look.picture, &stage.board).unwrap();
            for corner in &view.corners {
                let point = camera_from_board * stage.board.corner_m(corner.id);
                let truth = lens.project(point.coords.into()).unwrap();
                let off = [0, 1].map(|i| corner.pixel[i] - truth[i]);
                squares += off[0] * off[0] + off[1] * off[1];
                count += 1;
            }
        }
        let rms_px = (squares / f64::from(count)).sqrt();
        println!("{count} corners, {rms_px:.3} px off");
        assert!(count >= 8 * 30 && rms_px < 0.15, "{count} {rms_px}");
    }
}
