//! Which corner of the board each place of a grid is.

use std::collections::BTreeMap;

use super::{
    DetectError,
    grid::{Grid, Node},
    plane::Plane,
};
use crate::{
    board::{Board, Pattern, markers},
    homography::Homography,
};

/// What a grid becomes on the board: turned by quarters to the left, then moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    quarters: usize,
    column: i32,
    row: i32,
}

impl Turn {
    /// The corner's column and row on the board.
    fn corner(&self, (column, row): (i32, i32)) -> (i32, i32) {
        let (x, y) = turned((column, row), self.quarters);
        (x + self.column, y + self.row)
    }
}

fn turned((x, y): (i32, i32), quarters: usize) -> (i32, i32) {
    match quarters % 4 {
        0 => (x, y),
        1 => (y, -x),
        2 => (-x, -y),
        _ => (-y, x),
    }
}

/// The board's corners among those of a grid, by number.
pub fn place(
    grid: &Grid,
    plane: &Plane,
    board: &Board,
) -> Result<BTreeMap<usize, Node>, DetectError> {
    let turn = match board.pattern {
        Pattern::Checkerboard => whole(grid, board)?,
        Pattern::Charuco { .. } => by_markers(grid, plane, board)?,
    };
    let on_board = on_board(grid, board, turn);
    let (found, all) = (on_board.len(), board.corners());
    let needed = match board.pattern {
        Pattern::Checkerboard => all,
        Pattern::Charuco { .. } => super::LEAST_CORNERS.min(all),
    };
    if found < needed {
        return Err(DetectError::TooFew { found, needed, all });
    }
    Ok(on_board)
}

fn on_board(grid: &Grid, board: &Board, turn: Turn) -> BTreeMap<usize, Node> {
    let columns = board.inner_columns() as i32;
    let rows = board.rows as i32 - 1;
    let corners = grid.nodes.iter().filter_map(|(&place, &node)| {
        let (column, row) = turn.corner(place);
        let inside = (0..columns).contains(&column) && (0..rows).contains(&row);
        inside.then_some(((row * columns + column) as usize, node))
    });
    corners.collect()
}

/// Least and greatest column and row.
fn extent(grid: &Grid, quarters: usize) -> [(i32, i32); 2] {
    let places = grid.nodes.keys().map(|&place| turned(place, quarters));
    let none = [(i32::MAX, i32::MIN); 2];
    places.fold(none, |[x, y], (column, row)| {
        let with = |(least, most): (i32, i32), v: i32| (least.min(v), most.max(v));
        [with(x, column), with(y, row)]
    })
}

fn other_size(grid: &Grid, board: &Board) -> DetectError {
    let [columns, rows] = extent(grid, 0).map(|(least, most)| (most - least + 1) as u32);
    DetectError::OtherSize {
        found: [columns.max(rows), columns.min(rows)],
        wanted: [board.columns - 1, board.rows - 1],
    }
}

/// Where a checkerboard lies: where all its corners are found and its colours are right.
fn whole(grid: &Grid, board: &Board) -> Result<Turn, DetectError> {
    let (columns, rows) = (board.columns as i32 - 1, board.rows as i32 - 1);
    let mut best: Option<(usize, f64, Turn)> = None;
    for quarters in 0..4 {
        let [xs, ys] = extent(grid, quarters);
        // All ways in which the board covers as much as it can of the grid.
        let shifts = |(least, most): (i32, i32), size: i32| {
            let (a, b) = (-least, size - 1 - most);
            a.min(b)..=a.max(b)
        };
        for column in shifts(xs, columns) {
            for row in shifts(ys, rows) {
                let turn = Turn {
                    quarters,
                    column,
                    row,
                };
                if !has_right_colours(grid, turn) {
                    continue;
                }
                let count = on_board(grid, board, turn).len();
                let first = grid
                    .nodes
                    .iter()
                    .find(|(place, _)| turn.corner(**place) == (0, 0));
                let from_top_left = first.map_or(f64::MAX, |(_, node)| node.at[0] + node.at[1]);
                let better = best.is_none_or(|(most, nearest, _)| {
                    count > most || (count == most && from_top_left < nearest)
                });
                if better {
                    best = Some((count, from_top_left, turn));
                }
            }
        }
    }
    let [(left, right), (top, bottom)] = extent(grid, 0);
    let (across, down) = (right - left + 1, bottom - top + 1);
    let full = (across * down) as usize == grid.nodes.len();
    let smaller = across.max(down) < columns.max(rows) || across.min(down) < columns.min(rows);
    match best {
        // Something beside the board may look like a corner, but not like a row of them.
        Some((count, _, turn))
            if count == board.corners()
                && grid.nodes.len() - count < columns.min(rows) as usize =>
        {
            Ok(turn)
        }
        Some((count, _, _)) if count == board.corners() => Err(other_size(grid, board)),
        // Whole rows and columns, but not as many.
        _ if full && smaller && grid.nodes.len() > 4 => Err(other_size(grid, board)),
        Some((found, _, _)) => Err(DetectError::TooFew {
            found,
            needed: board.corners(),
            all: board.corners(),
        }),
        // It has the right size, and light and dark squares have changed places.
        None => Err(other_size(grid, board)),
    }
}

/// Right of and below a corner whose column and row are both even or both odd it is dark.
fn has_right_colours(grid: &Grid, turn: Turn) -> bool {
    // All nodes agree: one is enough.
    grid.nodes.iter().next().is_some_and(|(&place, node)| {
        let (column, row) = turn.corner(place);
        // After each quarter the square in question is the next one, of the other colour.
        let dark = node.dark_below_right == turn.quarters.is_multiple_of(2);
        dark == ((column + row).rem_euclid(2) == 0)
    })
}

/// Where a ChArUco board lies: where its markers say.
fn by_markers(grid: &Grid, plane: &Plane, board: &Board) -> Result<Turn, DetectError> {
    let squares: BTreeMap<usize, (i32, i32)> = (0..board.rows)
        .flat_map(|row| (0..board.columns).map(move |column| (column, row)))
        .filter_map(|(column, row)| {
            let marker = board.marker_at(column, row)?;
            Some((marker, (column as i32, row as i32)))
        })
        .collect();
    let mut votes: BTreeMap<Turn, usize> = BTreeMap::new();
    let (mut read, mut strange, mut mirrored) = (0, 0, 0);
    for cell in cells(grid) {
        let Some(cells) = marker_cells(grid, cell, plane, board) else {
            continue;
        };
        if let Some((marker, quarters)) = marker_of(cells) {
            read += 1;
            let Some(square) = squares.get(&marker) else {
                strange += 1;
                continue;
            };
            // The square's first corner: turned, another of its four.
            let (x, y) = cell;
            let (x, y) = match quarters {
                0 => (x, y),
                1 => (y, -x - 1),
                2 => (-x - 1, -y - 1),
                _ => (-y - 1, x),
            };
            let turn = Turn {
                quarters,
                column: square.0 - 1 - x,
                row: square.1 - 1 - y,
            };
            if has_right_colours(grid, turn) {
                *votes.entry(turn).or_default() += 1;
            }
        } else if marker_of(markers::mirrored(cells)).is_some() {
            mirrored += 1;
        }
    }
    if mirrored >= 2 && mirrored > read {
        return Err(DetectError::Mirrored { markers: mirrored });
    }
    let agreed = votes.iter().max_by_key(|(_, votes)| **votes);
    match agreed {
        // One in ten may be read wrong.
        Some((turn, &votes)) if votes >= 2 && 2 * votes > read && 10 * strange <= read => Ok(*turn),
        _ if read >= 2 => Err(DetectError::OtherMarkers {
            read,
            strange,
            agree: agreed.map_or(0, |(_, &votes)| votes),
        }),
        _ => Err(DetectError::NoMarkers {
            corners: grid.nodes.len(),
        }),
    }
}

/// All squares that touch the grid, by their corner with the least column and row.
fn cells(grid: &Grid) -> Vec<(i32, i32)> {
    let [(left, right), (top, bottom)] = extent(grid, 0);
    let rows = top - 1..=bottom;
    rows.flat_map(|y| (left - 1..=right).map(move |x| (x, y)))
        .collect()
}

/// Where a square is in the picture: its corner with the least column and row at (0, 0), the one
/// opposite at (1, 1). A square at the edge of the grid is known by the one beside it.
fn square(grid: &Grid, (x, y): (i32, i32)) -> Option<Homography> {
    let beside = [(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)];
    beside.into_iter().find_map(|(dx, dy)| {
        let corners = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(column, row)| {
            let (column, row) = (column + dx, row + dy);
            let node = grid.nodes.get(&(x + column, y + row))?;
            Some(([f64::from(column), f64::from(row)], node.at))
        });
        let [Some(a), Some(b), Some(c), Some(d)] = corners else {
            return None;
        };
        Homography::fit(&[a, b, c, d])
    })
}

/// The inner cells of the marker in a square, as the grid has them. `None`: no marker's frame there.
fn marker_cells(grid: &Grid, cell: (i32, i32), plane: &Plane, board: &Board) -> Option<u16> {
    let square = square(grid, cell)?;
    let side = markers::SIDE;
    let mut values = [0.0; markers::SIDE * markers::SIDE];
    for (i, value) in values.iter_mut().enumerate() {
        let along =
            |cell: usize| 0.5 + ((cell as f64 + 0.5) / side as f64 - 0.5) * board.marker_squares();
        let at = square.map([along(i % side), along(i / side)])?;
        let inside = at[0] >= 0.0
            && at[1] >= 0.0
            && at[0] <= plane.width as f64 - 1.0
            && at[1] <= plane.height as f64 - 1.0;
        *value = inside.then(|| plane.between(at))?;
    }
    let darkest = values.iter().copied().fold(f32::MAX, f32::min);
    let brightest = values.iter().copied().fold(f32::MIN, f32::max);
    let (mut frame, mut cells) = (0, 0_u16);
    for (i, value) in values.into_iter().enumerate() {
        let white = value > (darkest + brightest) / 2.0;
        let inner = 1..side - 1;
        if inner.contains(&(i % side)) && inner.contains(&(i / side)) {
            cells = cells << 1 | u16::from(white);
        } else if white {
            frame += 1;
        }
    }
    (frame <= 1 && brightest - darkest > 10.0).then_some(cells)
}

/// The marker that has these cells but for one at most, and how many quarters the cells must be turned to
/// the left to be it.
fn marker_of(cells: u16) -> Option<(usize, usize)> {
    let mut turned = cells;
    for quarters in 0..4 {
        let near = |marker: &u16| (marker ^ turned).count_ones() <= 1;
        if let Some(marker) = markers::MARKERS.iter().position(near) {
            return Some((marker, quarters));
        }
        turned = markers::turned(turned);
    }
    None
}
