//! Finds a board's corners in a picture.
//!
//! Corners are where four squares meet: saddles of the brightness (`saddles`). Edges lead from one to
//! the next and give each its column and row (`grid`). Which corner of the board that is, the size and
//! the colours say, or the markers (`place`). Then each is found again to a fraction of a pixel, in the
//! full picture, and one that does not lie as its neighbours do is none (`stray`). Large pictures are first looked at smaller, which is faster and sees blurred corners.

use std::collections::BTreeMap;

use crate::{
    board::{Board, BoardError, BoardView, Corner, Pattern},
    picture::Gray,
};

mod grid;
mod place;
mod plane;
mod saddles;
mod stray;

use grid::Node;
use plane::Plane;

/// Fewer corners say too little about a view.
pub const LEAST_CORNERS: usize = 6;

/// Pictures are halved until their longer side has no more than this.
const SMALL_PX: usize = 1000;

/// How much it is smoothed before edges are measured in it: noise less, and markers stay apart from the
/// squares round them.
const SLOPES_PX: f32 = 0.6;

/// A picture whose dark and bright differ by less shows nothing, gray levels.
const LEAST_CONTRAST: f32 = 20.0;

/// Why no corner of the board is given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DetectError {
    /// The board cannot be.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Nothing to see.
    #[error(
        "the picture has hardly any contrast ({contrast:.0} of 255 gray levels); take the cap off the lens, or make it brighter"
    )]
    Dark {
        /// Between its dark and its bright parts, gray levels.
        contrast: f32,
    },
    /// No edges.
    #[error(
        "the picture is blurred: its sharpest edges are {edge_px:.0} pixels wide; focus the lens, hold the board still"
    )]
    Blurred {
        /// Width of its sharpest edges, pixels.
        edge_px: f64,
    },
    /// No squares.
    #[error("no board in the picture; hold it wholly into the picture, and nearer")]
    NoBoard,
    /// A part of it.
    #[error(
        "{found} corners of the board's {all} are seen, {needed} are needed; hold it wholly into the picture, nearer and less steeply, with no finger on it"
    )]
    TooFew {
        /// Seen.
        found: usize,
        /// Needed.
        needed: usize,
        /// The board has.
        all: usize,
    },
    /// Another board, or a part of it.
    #[error(
        "a board with {} x {} inner corners is seen, not one with {} x {}; hold up the board that was described, wholly, or describe this one",
        found[0], found[1], wanted[0], wanted[1]
    )]
    OtherSize {
        /// Inner corners along its longer side and its shorter one.
        found: [u32; 2],
        /// Inner corners in a row and in a column of the board that was described.
        wanted: [u32; 2],
    },
    /// Left is right.
    #[error(
        "the picture is mirrored ({markers} markers read only in a mirror); switch the camera's mirroring off"
    )]
    Mirrored {
        /// Markers that were read so.
        markers: usize,
    },
    /// Markers, but not where they should be.
    #[error(
        "{read} markers are seen, and {agree} of them stand as on the board that was described ({strange} are not on it); is it of another size, or an older kind of ChArUco board?"
    )]
    OtherMarkers {
        /// Markers that were read.
        read: usize,
        /// Of which so many agree where the board is.
        agree: usize,
        /// Markers that the board does not have.
        strange: usize,
    },
    /// Squares without markers.
    #[error(
        "squares are seen ({corners} corners), but no two markers of DICT_4X4_50 in them; is it a plain checkerboard, of another dictionary, too far away, or is the picture blurred?"
    )]
    NoMarkers {
        /// Corners that were seen.
        corners: usize,
    },
}

/// Finds the corners of a board.
///
/// Of a checkerboard all inner corners must be seen, of a ChArUco board [`LEAST_CORNERS`]. Corners are
/// numbered as [`Board`] says. A checkerboard that [looks the same after half a
/// turn](Board::is_ambiguous) is taken to be the way up in which its first corner is nearer to the
/// picture's top left: good for a lens, of no use for where a camera stands. A mirrored picture of a
/// ChArUco board is refused; one of a checkerboard cannot be told from an unmirrored one.
pub fn detect(picture: &Gray, board: &Board) -> Result<BoardView, DetectError> {
    board.check()?;
    let full = Plane::of(picture).ok_or(DetectError::NoBoard)?;
    let slopes = full.smoothed(SLOPES_PX);
    let (mut levels, mut scale) = (vec![full], 1.0);
    while let Some(level) = levels.last()
        && level.width.max(level.height) > SMALL_PX
    {
        levels.push(level.halved());
        scale *= 2.0;
    }
    let mut best: Result<Vec<Corner>, DetectError> = Err(DetectError::NoBoard);
    for level in levels.iter().rev() {
        let found = found_in(level, board).and_then(|nodes| {
            let mut corners = refined(&nodes, scale, &slopes, board);
            stray::remove(&mut corners, board);
            enough(corners, board)
        });
        best = match (best, found) {
            (Ok(best), Ok(found)) if found.len() > best.len() => Ok(found),
            (Ok(best), _) => Ok(best),
            (Err(_), Ok(found)) => Ok(found),
            (Err(best), Err(DetectError::NoBoard)) => Err(best),
            (Err(_), Err(found)) => Err(found),
        };
        if best
            .as_ref()
            .is_ok_and(|best| best.len() == board.corners())
        {
            break;
        }
        scale /= 2.0;
    }
    let corners = best.map_err(|error| match error {
        DetectError::NoBoard => why_none(&levels[0]),
        error => error,
    })?;
    Ok(BoardView {
        width_px: picture.width_px(),
        height_px: picture.height_px(),
        corners,
    })
}

/// The board's corners as far as they are seen, in pixels of this plane.
fn found_in(plane: &Plane, board: &Board) -> Result<BTreeMap<usize, Node>, DetectError> {
    let saddles = saddles::saddles(plane);
    let mut all = BTreeMap::new();
    let mut error = None;
    for grid in grid::grids(plane, &saddles) {
        match place::place(&grid, plane, board) {
            // A board with something across it falls into parts.
            Ok(nodes) => {
                for (id, node) in nodes {
                    all.entry(id).or_insert(node);
                }
            }
            // The largest one's.
            Err(e) => error = error.or(Some(e)),
        }
    }
    match (all.is_empty(), error) {
        (false, _) => Ok(all),
        (true, error) => Err(error.unwrap_or(DetectError::NoBoard)),
    }
}

/// The corners in pixels of the full picture; `scale` of those is one of the nodes' plane.
fn refined(
    nodes: &BTreeMap<usize, Node>,
    scale: f64,
    slopes: &Plane,
    board: &Board,
) -> BTreeMap<usize, [f64; 2]> {
    let in_full = |at: [f64; 2]| at.map(|v| scale * v + (scale - 1.0) / 2.0);
    let columns = board.inner_columns();
    // So near to an edge, in squares, that a marker's are far away.
    let part = match board.pattern {
        Pattern::Checkerboard => 0.2,
        Pattern::Charuco { .. } => (1.0 - board.marker_squares()) / 8.0,
    };
    let corner = |(&id, node): (&usize, &Node)| {
        let at = in_full(node.at);
        let side = |id: Option<usize>| {
            let other = in_full(nodes.get(&id?)?.at);
            Some([other[0] - at[0], other[1] - at[1]])
        };
        let right = side((id % columns + 1 < columns).then_some(id + 1));
        let left = side((id % columns > 0).then(|| id - 1));
        let (up, down) = (side(id.checked_sub(columns)), side(Some(id + columns)));
        let back = |side: [f64; 2]| [-side[0], -side[1]];
        // Where there is none, as on the other side; where there is none either, as it must be.
        let across = right.or(left.map(back));
        let along = down.or(up.map(back));
        let across = across.or(along.map(|[x, y]| [y, -x]))?;
        let along = along.unwrap_or([-across[1], across[0]]);
        let sides = [
            across,
            along,
            left.unwrap_or(back(across)),
            up.unwrap_or(back(along)),
        ];
        Some((id, saddles::refined(slopes, at, sides, part)?))
    };
    nodes.iter().filter_map(corner).collect()
}

fn enough(corners: BTreeMap<usize, [f64; 2]>, board: &Board) -> Result<Vec<Corner>, DetectError> {
    let (found, all) = (corners.len(), board.corners());
    let needed = match board.pattern {
        Pattern::Checkerboard => all,
        Pattern::Charuco { .. } => LEAST_CORNERS.min(all),
    };
    match found >= needed {
        true => Ok(corners
            .into_iter()
            .map(|(id, pixel)| Corner { id, pixel })
            .collect()),
        false => Err(DetectError::TooFew { found, needed, all }),
    }
}

/// Why there is not even one square.
fn why_none(full: &Plane) -> DetectError {
    let contrast = full.contrast();
    if contrast < LEAST_CONTRAST {
        return DetectError::Dark { contrast };
    }
    // So smooth that noise has no slopes to speak of.
    let smooth = full.smoothed(2.0);
    let steepest = (0..smooth.width * smooth.height).map(|i| {
        let (x, y) = (i % smooth.width, i / smooth.width);
        let [right, down] = smooth.slope(x as isize, y as isize);
        right.hypot(down)
    });
    let edge_px = f64::from(contrast) / steepest.fold(1e-9, f64::max);
    // A sharp one is five wide after that.
    match edge_px > 12.0 {
        true => DetectError::Blurred { edge_px },
        false => DetectError::NoBoard,
    }
}
