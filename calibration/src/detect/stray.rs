//! Corners that do not lie as those beside them: something near the board's own was taken for it.

use std::collections::BTreeMap;

use crate::{board::Board, homography::Homography};

/// So far a corner may be from the middle of those on either side, in squares, once perspective is taken
/// away: lenses bend rows, but little from one square to the next.
const OFF_MIDDLE: f64 = 0.06;

/// So far from where the two before it lead.
const OFF_END: f64 = 0.15;

/// Removes them, the worst first: it makes those beside it look bad.
pub fn remove(corners: &mut BTreeMap<usize, [f64; 2]>, board: &Board) {
    while let Some(id) = worst(corners, board) {
        corners.remove(&id);
    }
}

fn worst(corners: &BTreeMap<usize, [f64; 2]>, board: &Board) -> Option<usize> {
    let flat = |id: usize| [board.corner_m(id).x, board.corner_m(id).y];
    let pairs: Vec<_> = corners
        .iter()
        .map(|(&id, &pixel)| (pixel, flat(id)))
        .collect();
    // On the board, in squares, where it is a square from each to the next.
    let to_board = Homography::fit(&pairs)?;
    let off = corners.iter().filter_map(|(&id, &pixel)| {
        let (at, wanted) = (to_board.map(pixel)?, flat(id));
        Some((id, [0, 1].map(|i| (at[i] - wanted[i]) / board.square_m)))
    });
    let off: BTreeMap<usize, [f64; 2]> = off.collect();
    let scores = off
        .keys()
        .filter_map(|&id| Some((id, score(&off, id, board)?)));
    let worst = scores.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (worst.1 > 1.0).then_some(worst.0)
}

/// How bad a corner is, above one too bad: in its row or in its column, whichever is better, for one that
/// is beside a bad one looks bad in one of them.
fn score(off: &BTreeMap<usize, [f64; 2]>, id: usize, board: &Board) -> Option<f64> {
    let columns = board.inner_columns() as i64;
    let (column, row) = (id as i64 % columns, id as i64 / columns);
    let at = |column: i64, row: i64| {
        let inside = (0..columns).contains(&column) && row >= 0;
        inside.then(|| off.get(&((row * columns + column) as usize)).copied())?
    };
    let here = at(column, row)?;
    let from = |wanted: [f64; 2]| (here[0] - wanted[0]).hypot(here[1] - wanted[1]);
    let along = |x: i64, y: i64| {
        let beside = |steps: i64| at(column + steps * x, row + steps * y);
        if let (Some(a), Some(b)) = (beside(-1), beside(1)) {
            return Some(from([0, 1].map(|i| (a[i] + b[i]) / 2.0)) / OFF_MIDDLE);
        }
        [1, -1].into_iter().find_map(|side| {
            let (a, b) = (beside(side)?, beside(2 * side)?);
            Some(from([0, 1].map(|i| 2.0 * a[i] - b[i])) / OFF_END)
        })
    };
    match (along(1, 0), along(0, 1)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_are_removed_and_nothing_beside_them() {
        let board = Board::checkerboard(8, 6, 0.03);
        let bend = |[x, y]: [f64; 2]| {
            // Perspective, and a lens that bends by a tenth of a square from one side to the other.
            let w = 1.0 + 0.8 * x + 0.5 * y;
            let (x, y) = (x / w, y / w);
            let r = 1.0 - 3.0 * (x * x + y * y);
            [900.0 * x * r, 900.0 * y * r]
        };
        let good = (0..board.corners()).map(|id| {
            let p = board.corner_m(id);
            (id, bend([p.x - 0.12, p.y - 0.09]))
        });
        let good: BTreeMap<usize, [f64; 2]> = good.collect();
        let mut seen = good.clone();
        remove(&mut seen, &board);
        assert_eq!(seen.len(), 35);
        // In a corner of the board, at an edge, and inside.
        for strays in [
            vec![0],
            vec![34],
            vec![3],
            vec![16],
            vec![0, 17],
            vec![6, 21, 31],
        ] {
            let mut seen = good.clone();
            for id in &strays {
                let pixel = seen.get_mut(id).unwrap();
                *pixel = [pixel[0] + 5.0, pixel[1] - 6.0];
            }
            remove(&mut seen, &board);
            let gone: Vec<usize> = (0..35).filter(|id| !seen.contains_key(id)).collect();
            assert_eq!(gone, strays);
        }
    }
}
