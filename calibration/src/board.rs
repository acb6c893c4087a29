//! The board that cameras look at: a checkerboard, or a ChArUco board, which has a marker in each white
//! square, so that it is also known when a part of it is hidden, and which way up it is.

use std::{fmt, str::FromStr};

use nalgebra::Point3;
use serde::{Deserialize, Serialize};

mod draw;
pub mod markers;

/// A flat board. Its frame: the origin at the first inner corner's square's outer corner (the board's
/// top left), x along the rows to the right, y down the columns, z into the board, so that a camera in
/// front of it that sees it upright has its axes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Squares in a row.
    pub columns: u32,
    /// Squares in a column.
    pub rows: u32,
    /// Side of a square, metres.
    pub square_m: f64,
    /// Its pattern.
    pub pattern: Pattern,
}

/// What a board shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Pattern {
    /// Black and white squares alone. All inner corners must be seen.
    Checkerboard,
    /// With markers of OpenCV's dictionary `DICT_4X4_50` in the white squares, numbered along the rows,
    /// the first square of the first row black, as OpenCV's `CharucoBoard` since version 4.6.
    Charuco {
        /// Side of a marker, metres.
        marker_m: f64,
    },
}

/// Words that name no board.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no board; write charuco:COLUMNSxROWS:SQUARE:MARKER or checkerboard:COLUMNSxROWS:SQUARE, squares \
     counted, lengths in millimetres, as in charuco:7x5:38:28"
)]
pub struct BoardWordsError(String);

impl FromStr for Board {
    type Err = BoardWordsError;

    /// From words as in `charuco:7x5:38:28` or `checkerboard:9x6:25`.
    fn from_str(words: &str) -> Result<Self, BoardWordsError> {
        let parts: Vec<&str> = words.split(':').collect();
        let board = || {
            let (columns, rows) = parts.get(1)?.split_once('x')?;
            let (columns, rows) = (columns.parse().ok()?, rows.parse().ok()?);
            let metres = |place: usize| parts.get(place)?.parse::<f64>().ok().map(|mm| mm / 1e3);
            let board = match (*parts.first()?, parts.len()) {
                ("charuco", 4) => Self::charuco(columns, rows, metres(2)?, metres(3)?),
                ("checkerboard", 3) => Self::checkerboard(columns, rows, metres(2)?),
                _ => return None,
            };
            Some(board)
        };
        board().ok_or_else(|| BoardWordsError(words.to_owned()))
    }
}

/// An inner corner that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corner {
    /// Its number: along the rows from the top left, 0 to [`Board::corners`] - 1.
    pub id: usize,
    /// Where, pixels; the middle of the first pixel is (0, 0).
    pub pixel: [f64; 2],
}

/// What one picture shows of a board.
#[derive(Clone, Debug, PartialEq)]
pub struct BoardView {
    /// Columns of the picture.
    pub width_px: u32,
    /// Rows of the picture.
    pub height_px: u32,
    /// The corners that were found, by number, each at most once.
    pub corners: Vec<Corner>,
}

/// Why there can be no such board.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum BoardError {
    /// Too few squares, or too many for the dictionary.
    #[error(
        "a board has 3 to 30 squares along each side and at most 50 markers, not {columns} x {rows}"
    )]
    Squares {
        /// In a row.
        columns: u32,
        /// In a column.
        rows: u32,
    },
    /// A length that cannot be.
    #[error(
        "a square of {square_m} m with a marker of {marker_m} m; measure the print, a marker is smaller than its square"
    )]
    Lengths {
        /// Of a square.
        square_m: f64,
        /// Of a marker; 0 where there is none.
        marker_m: f64,
    },
}

impl Board {
    /// A checkerboard of so many squares.
    pub fn checkerboard(columns: u32, rows: u32, square_m: f64) -> Self {
        Self {
            columns,
            rows,
            square_m,
            pattern: Pattern::Checkerboard,
        }
    }

    /// A ChArUco board of so many squares.
    pub fn charuco(columns: u32, rows: u32, square_m: f64, marker_m: f64) -> Self {
        Self {
            columns,
            rows,
            square_m,
            pattern: Pattern::Charuco { marker_m },
        }
    }

    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), BoardError> {
        let (columns, rows, square_m) = (self.columns, self.rows, self.square_m);
        let sides = 3..=30;
        let (markers, marker_m) = match self.pattern {
            Pattern::Checkerboard => (0, None),
            Pattern::Charuco { marker_m } => (columns.saturating_mul(rows) / 2, Some(marker_m)),
        };
        if !sides.contains(&columns) || !sides.contains(&rows) || markers > 50 {
            return Err(BoardError::Squares { columns, rows });
        }
        let fits = marker_m.is_none_or(|marker_m| marker_m > 0.0 && marker_m < square_m);
        if !(square_m.is_finite() && square_m > 0.0 && fits) {
            let marker_m = marker_m.unwrap_or(0.0);
            return Err(BoardError::Lengths { square_m, marker_m });
        }
        Ok(())
    }

    /// How many inner corners it has.
    pub fn corners(&self) -> usize {
        self.inner_columns() * (self.rows as usize).saturating_sub(1)
    }

    /// Inner corners in a row.
    pub fn inner_columns(&self) -> usize {
        (self.columns as usize).saturating_sub(1)
    }

    /// Where an inner corner is in the board's frame, metres.
    pub fn corner_m(&self, id: usize) -> Point3<f64> {
        let (row, column) = (id / self.inner_columns(), id % self.inner_columns());
        Point3::new(
            (column + 1) as f64 * self.square_m,
            (row + 1) as f64 * self.square_m,
            0.0,
        )
    }

    /// Its whole size, metres: width and height.
    pub fn size_m(&self) -> [f64; 2] {
        [self.columns, self.rows].map(|squares| f64::from(squares) * self.square_m)
    }

    /// Whether it looks the same after half a turn, so that nobody can say which corner is the first: a
    /// checkerboard whose sides have both an even or both an odd number of squares. Enough for a lens,
    /// useless to find where a camera stands.
    pub fn is_ambiguous(&self) -> bool {
        self.pattern == Pattern::Checkerboard && (self.columns + self.rows).is_multiple_of(2)
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // To a thousandth of a millimetre: a length as 0.022 has no tail of nines.
        let mm = |m: f64| (m * 1e6).round() / 1e3;
        let (columns, rows, square) = (self.columns, self.rows, mm(self.square_m));
        match self.pattern {
            Pattern::Checkerboard => {
                write!(
                    f,
                    "checkerboard of {columns} x {rows} squares of {square} mm"
                )
            }
            Pattern::Charuco { marker_m } => write!(
                f,
                "ChArUco board of {columns} x {rows} squares of {square} mm with markers of {} mm (DICT_4X4_50)",
                mm(marker_m)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_named_in_words() {
        let board: Board = "charuco:7x5:38:28".parse().unwrap();
        assert_eq!(board, Board::charuco(7, 5, 0.038, 0.028));
        let board: Board = "checkerboard:9x6:25.5".parse().unwrap();
        assert_eq!(board, Board::checkerboard(9, 6, 0.0255));
        for words in [
            "",
            "charuco",
            "charuco:7x5:38",
            "checkerboard:9:25",
            "chess:9x6:25",
            "charuco:7x5:a:b",
            "checkerboard:9x-6:25",
            "checkerboard:9x6:25:18",
        ] {
            let error = words.parse::<Board>().unwrap_err().to_string();
            assert!(error.contains("charuco:7x5:38:28"), "{error}");
        }
    }

    #[test]
    fn boards_that_cannot_be_are_refused() {
        assert_eq!(Board::charuco(10, 10, 0.03, 0.022).check(), Ok(()));
        for (columns, rows) in [(2, 5), (5, 31), (11, 10), (70_000, 70_000)] {
            let error = Board::charuco(columns, rows, 0.03, 0.022).check();
            assert_eq!(error, Err(BoardError::Squares { columns, rows }));
        }
        for (square_m, marker_m) in [(0.0, 0.022), (f64::NAN, 0.01), (0.03, 0.03), (0.03, 0.0)] {
            let error = Board::charuco(7, 5, square_m, marker_m)
                .check()
                .unwrap_err();
            assert!(error.to_string().contains("measure the print"), "{error}");
        }
    }

    #[test]
    fn corners_are_numbered_along_the_rows() {
        let board = Board::checkerboard(7, 5, 0.03);
        assert_eq!(board.corners(), 24);
        assert_eq!(board.corner_m(0), Point3::new(0.03, 0.03, 0.0));
        assert_eq!(board.corner_m(7), Point3::new(0.06, 0.06, 0.0));
    }

    #[test]
    fn a_board_is_ambiguous_when_half_a_turn_leaves_it_the_same() {
        for (columns, rows) in [(7, 5), (6, 4), (7, 6), (4, 5), (5, 5)] {
            let board = Board::checkerboard(columns, rows, 1.0);
            let turned = board
                .draw(2, 0)
                .pixels()
                .iter()
                .rev()
                .copied()
                .collect::<Vec<_>>();
            assert_eq!(board.is_ambiguous(), turned == board.draw(2, 0).pixels());
            assert!(!Board::charuco(columns, rows, 0.03, 0.022).is_ambiguous());
        }
    }
}
