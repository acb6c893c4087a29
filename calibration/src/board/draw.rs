//! A board as a picture: for screens and simulators, and as SVG for a printer.

use std::fmt::Write as _;

use super::{Board, Pattern, markers};
use crate::picture::Gray;

/// Samples along a pixel's side.
const SAMPLES: u32 = 4;

/// The white round a printed board, millimetres.
const MARGIN_MM: f64 = 12.0;

/// The place for text and scale bar under it.
const FOOT_MM: f64 = 22.0;

impl Board {
    /// Whether it is white at a point of its plane, in squares from its top left; all round it is.
    pub fn is_white(&self, x: f64, y: f64) -> bool {
        let (columns, rows) = (f64::from(self.columns), f64::from(self.rows));
        if !((0.0..columns).contains(&x) && (0.0..rows).contains(&y)) {
            return true;
        }
        let (column, row) = (x as u32, y as u32);
        let Some(marker) = self.marker_at(column, row) else {
            return (column + row) % 2 == 1;
        };
        let side = self.marker_squares() / markers::SIDE as f64;
        let cell = |along: f64| (along.fract() - 0.5) / side + markers::SIDE as f64 / 2.0;
        let (column, row) = (cell(x), cell(y));
        let inside = 0.0..markers::SIDE as f64;
        !(inside.contains(&column) && inside.contains(&row))
            || markers::cell_is_white(marker, column as usize, row as usize)
    }

    /// The number of the marker in a square; none in a black one, and none on a plain checkerboard.
    pub fn marker_at(&self, column: u32, row: u32) -> Option<usize> {
        let charuco = matches!(self.pattern, Pattern::Charuco { .. });
        let before = (row * self.columns + column) as usize;
        // Of each two squares that follow one another one is white.
        (charuco && (column + row) % 2 == 1).then_some(before / 2)
    }

    /// Side of its markers, in squares; 0 without.
    pub(crate) fn marker_squares(&self) -> f64 {
        match self.pattern {
            Pattern::Checkerboard => 0.0,
            Pattern::Charuco { marker_m } => marker_m / self.square_m,
        }
    }

    /// Draws it, upright, black and white, with white all round. With eight pixels for each cell of a
    /// marker no edge falls inside a pixel; where one does, the pixel is gray. The board must have passed
    /// [`Board::check`].
    pub fn draw(&self, square_px: u32, margin_px: u32) -> Gray {
        let square_px = square_px.max(1);
        let [width, height] =
            [self.columns, self.rows].map(|squares| squares * square_px + 2 * margin_px);
        let at = |pixel: u32, sample: u32| {
            let sample = (f64::from(sample) + 0.5) / f64::from(SAMPLES);
            (f64::from(pixel) - f64::from(margin_px) + sample) / f64::from(square_px)
        };
        let mut pixels = Vec::with_capacity(width as usize * height as usize);
        for row in 0..height {
            for column in 0..width {
                let samples =
                    (0..SAMPLES * SAMPLES).map(|i| (at(column, i % SAMPLES), at(row, i / SAMPLES)));
                let white = samples.filter(|&(x, y)| self.is_white(x, y)).count() as u32;
                pixels.push((white * 255 / (SAMPLES * SAMPLES)) as u8);
            }
        }
        Gray {
            width_px: width,
            height_px: height,
            pixels,
        }
    }

    /// Draws it for a printer, true to scale, with a bar to measure and its data as text under it. The
    /// board must have passed [`Board::check`].
    pub fn svg(&self) -> String {
        let mm = |squares: f64| squares * self.square_m * 1e3;
        let [width, height] = self.size_m().map(|m| m * 1e3);
        let (page_width, page_height) =
            (width + 2.0 * MARGIN_MM, height + 2.0 * MARGIN_MM + FOOT_MM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{page_width:.3}mm\" height=\"{page_height:.3}mm\" \
             viewBox=\"{:.3} {:.3} {page_width:.3} {page_height:.3}\" shape-rendering=\"crispEdges\">\n",
            -MARGIN_MM, -MARGIN_MM
        );
        let mut rectangle = |x: f64, y: f64, side: [f64; 2], fill: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.4}\" y=\"{y:.4}\" width=\"{:.4}\" height=\"{:.4}\" fill=\"{fill}\"/>",
                side[0], side[1]
            );
        };
        let page = [page_width, page_height];
        rectangle(-MARGIN_MM, -MARGIN_MM, page, "white");
        for (row, column) in (0..self.rows).flat_map(|r| (0..self.columns).map(move |c| (r, c))) {
            let (x, y) = (f64::from(column), f64::from(row));
            if (column + row) % 2 == 0 {
                rectangle(mm(x), mm(y), [mm(1.0); 2], "black");
            }
            let Some(marker) = self.marker_at(column, row) else {
                continue;
            };
            let side = self.marker_squares();
            let (left, top) = (x + (1.0 - side) / 2.0, y + (1.0 - side) / 2.0);
            rectangle(mm(left), mm(top), [mm(side); 2], "black");
            let cell = side / markers::SIDE as f64;
            for i in 0..markers::SIDE * markers::SIDE {
                let (column, row) = (i % markers::SIDE, i / markers::SIDE);
                if markers::cell_is_white(marker, column, row) {
                    let (x, y) = (left + column as f64 * cell, top + row as f64 * cell);
                    rectangle(mm(x), mm(y), [mm(cell); 2], "white");
                }
            }
        }
        // As long as a ruler shows well and the page has room for.
        let bar_mm = (width / 10.0).floor().clamp(1.0, 10.0) * 10.0;
        let (foot, bar_mm) = (height + MARGIN_MM, bar_mm.min(width));
        rectangle(0.0, foot, [bar_mm, 1.0], "black");
        let lines = [
            format!(
                "This bar is {bar_mm:.1} mm long. Print at 100 %, glue on something flat, and measure."
            ),
            format!("{self}"),
        ];
        for (line, text) in lines.iter().enumerate() {
            let y = foot + 6.0 + 5.0 * line as f64;
            let _ = writeln!(
                svg,
                "<text x=\"0\" y=\"{y:.3}\" font-family=\"sans-serif\" font-size=\"3\">{text}</text>"
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_numbered_along_the_rows() {
        for (columns, rows) in [(5, 4), (4, 5), (7, 5), (6, 4)] {
            let board = Board::charuco(columns, rows, 0.03, 0.022);
            let squares = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
            let seen: Vec<usize> = squares.filter_map(|(c, r)| board.marker_at(c, r)).collect();
            let wanted: Vec<usize> = (0..(columns * rows / 2) as usize).collect();
            assert_eq!(seen, wanted, "{columns} x {rows}");
        }
        assert_eq!(Board::checkerboard(5, 4, 0.03).marker_at(1, 0), None);
    }

    #[test]
    fn a_drawing_has_sharp_edges_where_they_belong() {
        let board = Board::charuco(4, 3, 0.04, 0.03);
        let picture = board.draw(64, 16);
        assert_eq!((picture.width_px(), picture.height_px()), (288, 224));
        let at = |x: usize, y: usize| picture.pixels()[y * 288 + x];
        assert!(picture.pixels().iter().all(|&p| p == 0 || p == 255));
        // Margin, first square, the white round marker 0, its frame, its first cells 1 0 1 1.
        assert_eq!((at(15, 15), at(16, 16), at(79, 16)), (255, 0, 0));
        assert_eq!((at(80, 16), at(87, 23), at(88, 24)), (255, 255, 0));
        let cells = [0, 1, 2, 3].map(|i| at(88 + 8 + 8 * i + 4, 24 + 8 + 4));
        assert_eq!(cells, [255, 0, 255, 255]);
        // Edges inside pixels are gray.
        let picture = Board::checkerboard(3, 3, 0.03).draw(1, 0);
        assert_eq!(picture.pixels(), [0, 255, 0, 255, 0, 255, 0, 255, 0]);
    }

    #[test]
    fn a_print_shows_what_the_drawing_shows() {
        let board = Board::charuco(5, 4, 0.04, 0.03);
        let (picture, px_per_mm, margin_px) = (board.draw(64, 8), 1.6, 8.0);
        let mut painted = vec![7; picture.pixels().len()];
        let svg = board.svg();
        for line in svg.lines().filter(|line| line.starts_with("<rect")) {
            let word = |name: &str| line.split(&format!(" {name}=\"")).nth(1).unwrap();
            let number = |name: &str| {
                let text = word(name).split('"').next().unwrap();
                text.parse::<f64>().unwrap() * px_per_mm
            };
            let (left, top) = (number("x") + margin_px, number("y") + margin_px);
            let (right, bottom) = (left + number("width"), top + number("height"));
            let fill = if word("fill").starts_with("white") {
                255
            } else {
                0
            };
            for (i, painted) in painted.iter_mut().enumerate() {
                let (x, y) = (i % picture.width_px as usize, i / picture.width_px as usize);
                let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
                if (left..right).contains(&x) && (top..bottom).contains(&y) {
                    *painted = fill;
                }
            }
        }
        assert_eq!(painted, picture.pixels());
    }

    #[test]
    fn a_print_is_true_to_scale_and_says_what_it_is() {
        let svg = Board::charuco(7, 5, 0.03, 0.022).svg();
        assert!(
            svg.contains("width=\"234.000mm\" height=\"196.000mm\""),
            "{svg}"
        );
        assert!(svg.contains("<rect x=\"30.0000\" y=\"30.0000\" width=\"30.0000\""));
        assert!(svg.contains("This bar is 100.0 mm long"));
        assert!(svg.contains("ChArUco board of 7 x 5 squares of 30 mm with markers of 22 mm"));
        // Black squares and markers, white cells, the page and the bar.
        let white: u32 = (0..17).map(|i| markers::MARKERS[i].count_ones()).sum();
        assert_eq!(svg.matches("<rect").count() as u32, 18 + 17 + white + 2);
        let small = Board::checkerboard(3, 3, 0.002).svg();
        assert!(small.contains("This bar is 6.0 mm long"));
    }
}
