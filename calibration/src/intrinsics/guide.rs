//! What views of the board are still to be taken.

use std::fmt;

use nalgebra::{Isometry3, Vector3};

use super::bundle;
use crate::board::{Board, BoardView};

/// So many views are enough if they differ.
pub const WANTED_VIEWS: usize = 12;

/// A board is tilted when it is by so much, radians.
const TILTED: f64 = 0.26;

/// A view is new when its corners are so far from those of all others, root mean square, in widths of the
/// picture.
const NEW: f64 = 0.06;

/// What a set of views lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// More of them.
    Views {
        /// How many more.
        more: usize,
    },
    /// Corners of the board near a corner of the picture.
    Corner {
        /// At its top, or at its bottom.
        top: bool,
        /// On its left, or on its right.
        left: bool,
    },
    /// The board held at an angle.
    Tilt(Tilt),
}

/// Which side of the board is nearer to the camera, as the picture shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tilt {
    /// Its top.
    Top,
    /// Its bottom.
    Bottom,
    /// Its left.
    Left,
    /// Its right.
    Right,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Views { more } => write!(f, "{more} more views"),
            Self::Corner { top, left } => {
                let top = if *top { "top" } else { "bottom" };
                let left = if *left { "left" } else { "right" };
                write!(f, "the board at the picture's {top} {left}")
            }
            Self::Tilt(tilt) => {
                let side = match tilt {
                    Tilt::Top => "top",
                    Tilt::Bottom => "bottom",
                    Tilt::Left => "left",
                    Tilt::Right => "right",
                };
                write!(f, "the board tilted, its {side} nearer to the camera")
            }
        }
    }
}

/// What these views lack; nothing: they are enough. Views of another board or of pictures of another size
/// are passed over.
pub fn missing(board: &Board, views: &[BoardView]) -> Vec<Missing> {
    let Some(first) = views.first() else {
        return all();
    };
    let maps = views
        .iter()
        .filter_map(|view| bundle::board_to_pixels(board, view));
    let maps: Vec<_> = maps.collect();
    let lens = bundle::first_lens(first.width_px, first.height_px, &maps);
    let poses = maps.iter().filter_map(|map| bundle::first_pose(&lens, map));
    missing_of(views.iter(), &poses.collect::<Vec<_>>())
}

fn all() -> Vec<Missing> {
    missing_of([].iter(), &[])
}

/// The same, with the poses known: `camera_from_board`.
pub(super) fn missing_of<'a>(
    views: impl Iterator<Item = &'a BoardView> + Clone,
    poses: &[Isometry3<f64>],
) -> Vec<Missing> {
    let mut missing = vec![];
    if poses.len() < WANTED_VIEWS {
        let more = WANTED_VIEWS - poses.len();
        missing.push(Missing::Views { more });
    }
    for (top, left) in [(true, true), (true, false), (false, true), (false, false)] {
        let seen = views.clone().any(|view| {
            // The outer third: a board has a margin, and its inner corners are a square further in.
            let at = |value: f64, size: u32, first: bool| {
                let part = value / f64::from(size);
                if first { part < 0.33 } else { part > 0.67 }
            };
            let mut corners = view.corners.iter();
            corners.any(|corner| {
                at(corner.pixel[0], view.width_px, left) && at(corner.pixel[1], view.height_px, top)
            })
        });
        if !seen {
            missing.push(Missing::Corner { top, left });
        }
    }
    for tilt in [Tilt::Top, Tilt::Bottom, Tilt::Left, Tilt::Right] {
        if !poses.iter().any(|pose| is_tilted(pose, tilt)) {
            missing.push(Missing::Tilt(tilt));
        }
    }
    missing
}

fn is_tilted(pose: &Isometry3<f64>, tilt: Tilt) -> bool {
    // Points away from the camera, and to the side that is nearer.
    let normal = pose.rotation * Vector3::z();
    let towards = match tilt {
        Tilt::Top => -normal.y,
        Tilt::Bottom => normal.y,
        Tilt::Left => -normal.x,
        Tilt::Right => normal.x,
    };
    towards > TILTED.sin()
}

/// Whether a view shows something that none of these does. One that hardly differs only makes the fit
/// slower.
pub fn is_new(views: &[BoardView], view: &BoardView) -> bool {
    views.iter().all(|other| differ(other, view) > NEW)
}

/// How far common corners are apart, root mean square, in widths of the picture; without common corners,
/// infinitely.
pub(super) fn differ(a: &BoardView, b: &BoardView) -> f64 {
    let (mut squares, mut both) = (0.0, 0);
    for corner in &a.corners {
        if let Some(other) = b.corners.iter().find(|other| other.id == corner.id) {
            let away = [0, 1].map(|i| corner.pixel[i] - other.pixel[i]);
            squares += away[0] * away[0] + away[1] * away[1];
            both += 1;
        }
    }
    match both {
        0 => f64::INFINITY,
        both => (squares / f64::from(both)).sqrt() / f64::from(a.width_px.max(1)),
    }
}
