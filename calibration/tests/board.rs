//! Boards as we draw them are the boards that OpenCV knows.

mod support;

use std::collections::BTreeMap;

use hilt_calibration::board::{Board, markers};
use support::opencv;

#[test]
fn our_markers_are_those_of_opencvs_dictionary() {
    let theirs: Vec<u16> = opencv::ask("markers", (), &[]);
    assert_eq!(theirs, markers::MARKERS);
}

#[test]
fn opencv_finds_the_same_corners_on_our_drawing() {
    for (columns, rows) in [(7, 5), (6, 4), (5, 6), (4, 7)] {
        let board = Board::charuco(columns, rows, 0.04, 0.03);
        let seen: Vec<BTreeMap<usize, [f64; 2]>> =
            opencv::ask("charuco", opencv::board(&board), &[board.draw(64, 40)]);
        assert_eq!(seen[0].len(), board.corners(), "{board}");
        for (&id, pixel) in &seen[0] {
            let wanted = board.corner_m(id).coords / 0.04 * 64.0;
            // An edge lies half a pixel before the middle of the pixel after it.
            let off = [0, 1].map(|i| pixel[i] - (wanted[i] + 40.0 - 0.5));
            assert!(off[0].hypot(off[1]) < 0.1, "{board}, corner {id}: {off:?}");
        }
    }
}
