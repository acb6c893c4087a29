//! The board that cameras look at: a checkerboard, or a ChArUco board, which has a marker in each white
//! square, so that it is also known when a part of it is hidden, and which way up it is.

use nalgebra::Point3;
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
            Pattern::Charuco { marker_m } => (columns * rows / 2, Some(marker_m)),
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
}
