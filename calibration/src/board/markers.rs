//! The markers of OpenCV's dictionary `DICT_4X4_50`: four by four cells in a black frame one cell wide.

/// Cells along a marker's side, frame included.
pub const SIDE: usize = 6;

/// A marker's sixteen inner cells, row after row from the top left in the highest bit, 1 white. Their
/// place in the table is their number. Read from `cv2.aruco.getPredefinedDictionary(DICT_4X4_50)` of
/// OpenCV 4.14; a test compares.
pub const MARKERS: [u16; 50] = [
    0xb532, 0x0f9a, 0x332d, 0x9946, 0x549e, 0x79cd, 0x9e2e, 0xc4f2, 0xfeda, 0xcf56, 0xf991, 0x11a7,
    0x0eb7, 0x2a0f, 0x24b1, 0x263e, 0x4665, 0x6600, 0x6c5e, 0x76af, 0x868b, 0xb02b, 0xccd5, 0xdd82,
    0xfe47, 0x9471, 0xace4, 0xa554, 0x2123, 0x346f, 0x4415, 0x57b2, 0x9ecf, 0xf0cb, 0x08ae, 0x0929,
    0x1875, 0x04ff, 0x0df6, 0x1c5a, 0x1718, 0x2a28, 0x328c, 0x38b2, 0x24e8, 0x2eeb, 0x2d3f, 0x4b64,
    0x502e, 0x5013,
];

/// Whether a cell is white: column and row from the top left, frame included.
pub fn cell_is_white(marker: usize, column: usize, row: usize) -> bool {
    let inner = 1..SIDE - 1;
    inner.contains(&column)
        && inner.contains(&row)
        && MARKERS[marker] >> (15 - ((row - 1) * 4 + column - 1)) & 1 == 1
}

/// The cells, turned by a quarter to the left.
pub fn turned(cells: u16) -> u16 {
    (0..16).fold(0, |turned, i| {
        let (row, column) = (i / 4, i % 4);
        turned << 1 | cells >> (15 - (column * 4 + 3 - row)) & 1
    })
}

/// The cells as seen in a mirror: left is right.
pub fn mirrored(cells: u16) -> u16 {
    (0..16).fold(0, |mirrored, i| {
        let (row, column) = (i / 4, i % 4);
        mirrored << 1 | cells >> (15 - (row * 4 + 3 - column)) & 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_turn_and_mirror() {
        // The first row alone becomes the first column from below, and itself backwards.
        assert_eq!(turned(0b1010_0000_0000_0000), 0b0000_1000_0000_1000);
        assert_eq!(mirrored(0b1010_0001_0000_0000), 0b0101_1000_0000_0000);
        for cells in MARKERS {
            let four = (0..4).fold(cells, |cells, _| turned(cells));
            assert_eq!(four, cells);
            assert_eq!(mirrored(mirrored(cells)), cells);
        }
        assert!(cell_is_white(0, 1, 1) && !cell_is_white(0, 0, 0) && !cell_is_white(0, 2, 1));
    }

    #[test]
    fn no_marker_is_another_turned() {
        for (i, &a) in MARKERS.iter().enumerate() {
            for &b in &MARKERS[i..] {
                let mut b = b;
                for quarter in 0..4 {
                    let apart = (a ^ b).count_ones();
                    assert!(apart >= 3 || (quarter == 0 && a == b), "{a:x} {b:x}");
                    b = turned(b);
                }
            }
        }
    }
}
