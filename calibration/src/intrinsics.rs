//! Lens and sensor of a camera, from views of a board (Zhang 2000): focal lengths, centre and distortion,
//! such that the board's corners are predicted where they were seen.
//!
//! [`missing`] and [`is_new`] guide whoever takes the views; [`calibrate`] says at the end how good the
//! lens is known, which views it left out and why.

use std::fmt;

use hilt_protocol::calibration::Intrinsics;
use nalgebra::{Isometry3, Vector3};

use crate::{
    board::{Board, BoardError, BoardView},
    detect::LEAST_CORNERS,
    least_squares::{self, FitError, Fitted},
    pose::{self, Refined},
};

mod bundle;
mod guide;

use bundle::{Bundle, Free, LENS, State};
pub use guide::{Missing, Tilt, WANTED_VIEWS, is_new, missing};

/// With fewer views nothing is said.
pub const LEAST_VIEWS: usize = 4;

/// Views whose corners are nearer to each other than this are the same, in widths of the picture.
const SAME: f64 = 0.01;

/// Boards whose directions differ by less are parallel, radians.
const PARALLEL: f64 = 0.12;

/// A view is bad when its corners are so much further from where they should be than those of the others …
const FAR_FACTOR: f64 = 2.5;

/// … and so far at least, pixels.
const FAR_PX: f64 = 0.3;

/// A view is of something else when one plane cannot explain it to so many squares.
const OTHER_SQUARES: f64 = 0.3;

/// Corners that are left so far from where they should be are explained by no lens, pixels.
const MISFIT_PX: f64 = 1.5;

/// A good fit is no further off, pixels.
const GOOD_PX: f64 = 0.5;

/// A good fit knows focal length and centre to this part of the focal length, one standard deviation.
const GOOD_PART: f64 = 0.0025;

/// k3 is sought after only if it is so many standard deviations from zero: through the corners of most
/// lenses it is noise, and bends the picture where no corner was seen.
const SEEN_DEVIATIONS: f64 = 4.0;

/// What is known of a lens, and how well.
#[derive(Clone, Debug)]
pub struct IntrinsicsReport {
    /// The lens; its date is empty, the caller has the clock.
    pub intrinsics: Intrinsics,
    /// One standard deviation of each value.
    pub deviation: Deviation,
    /// Each view, in the order in which they were given.
    pub views: Vec<ViewReport>,
    /// What to think of it.
    pub verdict: Verdict,
}

/// Standard deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// Of fx and fy, pixels.
    pub focal_px: [f64; 2],
    /// Of cx and cy, pixels.
    pub centre_px: [f64; 2],
    /// Of k1, k2, p1, p2, k3; 0 of k3 where it was not seen.
    pub distortion: [f64; 5],
}

/// One view.
#[derive(Clone, Debug)]
pub struct ViewReport {
    /// Why it was left out of the fit, if it was.
    pub left_out: Option<LeftOut>,
    /// Pose of the board in the camera's frame; `None`: it has none that explains the view.
    pub camera_from_board: Option<Isometry3<f64>>,
    /// Root mean square of the residuals, pixels; 0 without a pose.
    pub rms_px: f64,
    /// For each of the view's corners where it was seen less where it should be, pixels; empty without a
    /// pose.
    pub residuals_px: Vec<[f64; 2]>,
}

/// Why a view was left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LeftOut {
    /// Too few corners, or all on one line.
    FewCorners {
        /// Corners.
        found: usize,
    },
    /// They do not lie as on a flat board of these squares.
    NotTheBoard,
    /// They are much further from where they should be than those of the others.
    FarOff {
        /// Root mean square over its corners, pixels.
        rms_px: f64,
        /// The same over the others', pixels.
        others_px: f64,
    },
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::FewCorners { found } => write!(
                f,
                "{found} corners, or all on one line; {LEAST_CORNERS} that are not are needed"
            ),
            Self::NotTheBoard => write!(f, "its corners do not lie as on the flat board described"),
            Self::FarOff { rms_px, others_px } => write!(
                f,
                "its corners are {rms_px:.2} px from where they should be, those of the others {others_px:.2} px; the board moved or was bent, or the picture is blurred"
            ),
        }
    }
}

/// What a person is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Good.
    Good {
        /// Root mean square over all corners, pixels.
        rms_px: f64,
        /// Views.
        views: usize,
    },
    /// What is there fits, but something has not been seen.
    TakeMore {
        /// What.
        missing: Vec<Missing>,
    },
    /// The views do not say it well enough.
    Vague {
        /// The least known of focal lengths and centre, one standard deviation in parts of the focal
        /// length.
        part: f64,
        /// What would.
        missing: Vec<Missing>,
    },
    /// Corners are far from where they should be.
    Rough {
        /// Root mean square over all corners, pixels.
        rms_px: f64,
    },
}

impl Verdict {
    /// Whether the lens may be used.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |missing: &[Missing]| {
            let missing: Vec<String> = missing.iter().map(Missing::to_string).collect();
            missing.join("; ")
        };
        match self {
            Self::Good { rms_px, views } => write!(f, "good: {rms_px:.2} px over {views} views"),
            Self::TakeMore { missing } => write!(f, "take more views: {}", list(missing)),
            Self::Vague { part, missing } if missing.is_empty() => write!(
                f,
                "take more views, nearer and at more of an angle: the lens is known to {:.1} % only",
                part * 100.0
            ),
            Self::Vague { part, missing } => write!(
                f,
                "take more views, the lens is known to {:.1} % only: {}",
                part * 100.0,
                list(missing)
            ),
            Self::Rough { rms_px } => write!(
                f,
                "rough: corners are {rms_px:.2} px from where they should be; is the board flat, the picture sharp, and was the board held still?"
            ),
        }
    }
}

/// Why nothing is known of a lens.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IntrinsicsError {
    /// The board cannot be.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Too few views.
    #[error(
        "{usable} of {views} views are usable, at least {LEAST_VIEWS} are needed and {WANTED_VIEWS} are better; take more, with the board in other places and at other angles"
    )]
    TooFew {
        /// Views that can be used.
        usable: usize,
        /// Views that were given.
        views: usize,
    },
    /// Pictures of several sizes.
    #[error(
        "view {view} is of a picture of {} x {} pixels, the first of one of {} x {}; take all with the camera's one mode that the rig uses",
        found[0], found[1], first[0], first[1]
    )]
    PictureSize {
        /// The view's index.
        view: usize,
        /// Columns and rows of its picture.
        found: [u32; 2],
        /// Of the first view's.
        first: [u32; 2],
    },
    /// Corners that the board does not have.
    #[error(
        "view {view} has corner {corner} and the board described has {corners}; the views are of a board of another size"
    )]
    NoSuchCorner {
        /// The view's index.
        view: usize,
        /// The corner's number.
        corner: usize,
        /// Corners of the board.
        corners: usize,
    },
    /// Corners that are not where any board's are.
    #[error("view {view} has a corner twice, or one that is nowhere; detect it again")]
    BrokenView {
        /// The view's index.
        view: usize,
    },
    /// Corners that do not lie as on this board.
    #[error(
        "in {views} views the corners do not lie as on a flat {board}; are they of a board of another size, or is it bent?"
    )]
    OtherBoard {
        /// How many.
        views: usize,
        /// The board that was described.
        board: Board,
    },
    /// One view many times.
    #[error(
        "all views are the same; move the board over the whole picture, and hold it at an angle to each side"
    )]
    SamePose,
    /// The focal length cannot be told from the distance.
    #[error(
        "hold the board at an angle: all views are nearly parallel ({degrees:.0} degrees apart), so the focal length is not determined"
    )]
    Parallel {
        /// The greatest angle between two of them.
        degrees: f64,
    },
    /// Something else cannot be told.
    #[error(
        "the views do not determine the lens; move the board over the whole picture, and hold it at an angle to each side"
    )]
    Undetermined,
    /// No lens sees this.
    #[error(
        "no lens explains the views: corners stay {rms_px:.1} px from where they should be; is the board flat, do all views come from one camera with its focus fixed?"
    )]
    Misfit {
        /// Root mean square over all corners, pixels.
        rms_px: f64,
    },
}

impl From<FitError> for IntrinsicsError {
    fn from(_: FitError) -> Self {
        Self::Undetermined
    }
}

/// Finds the lens through which these views of a board were taken.
///
/// Views that are bad are left out and named, each with its reason. Corners are numbered as [`Board`]
/// says; a checkerboard that is the same after half a turn will do.
pub fn calibrate(board: &Board, views: &[BoardView]) -> Result<IntrinsicsReport, IntrinsicsError> {
    board.check()?;
    check(board, views)?;
    let mut left_out: Vec<Option<LeftOut>> = vec![None; views.len()];
    let mut maps = vec![];
    for (view, left_out) in views.iter().zip(&mut left_out) {
        match bundle::board_to_pixels(board, view) {
            Some(map) if view.corners.len() >= LEAST_CORNERS => {
                if misfit_squares(board, view, &map) > OTHER_SQUARES {
                    *left_out = Some(LeftOut::NotTheBoard);
                }
                maps.push(Some(map));
            }
            _ => {
                let found = view.corners.len();
                *left_out = Some(LeftOut::FewCorners { found });
                maps.push(None);
            }
        }
    }
    let others = left_out
        .iter()
        .filter(|left| **left == Some(LeftOut::NotTheBoard))
        .count();
    if 2 * others > views.len() {
        let board = *board;
        return Err(IntrinsicsError::OtherBoard {
            views: others,
            board,
        });
    }
    let mut used: Vec<usize> = (0..views.len())
        .filter(|&i| left_out[i].is_none())
        .collect();
    let few = |usable| IntrinsicsError::TooFew {
        usable,
        views: views.len(),
    };
    if used.len() < LEAST_VIEWS {
        return Err(few(used.len()));
    }
    let first = &views[used[0]];
    if used.iter().all(|&i| guide::differ(first, &views[i]) < SAME) {
        return Err(IntrinsicsError::SamePose);
    }
    let used_maps: Vec<_> = used.iter().filter_map(|&i| maps[i]).collect();
    let lens = bundle::first_lens(first.width_px, first.height_px, &used_maps);
    let poses = used_maps.iter().map(|map| bundle::first_pose(&lens, map));
    let poses: Option<Vec<_>> = poses.collect();
    let mut state = State {
        lens,
        poses: poses.ok_or(IntrinsicsError::Undetermined)?,
    };
    let most_bad = used.len() / 3;
    loop {
        let mut bundle = Bundle {
            board,
            views: used.iter().map(|&i| &views[i]).collect(),
            free: Free::WithoutK3,
        };
        state.lens.distortion[4] = 0.0;
        let fitted = least_squares::fit(&bundle, state)?;
        let fitted = with_k3(&mut bundle, fitted)?;
        let rms: Vec<f64> = (0..used.len())
            .map(|view| rms_px(&bundle.left(&fitted.state, view)))
            .collect();
        let bad = worst(&rms);
        let removed = left_out
            .iter()
            .filter(|l| matches!(l, Some(LeftOut::FarOff { .. })))
            .count();
        if let Some((view, others_px)) = bad
            && removed < most_bad
            && used.len() > LEAST_VIEWS
        {
            let rms_px = rms[view];
            left_out[used[view]] = Some(LeftOut::FarOff { rms_px, others_px });
            used.remove(view);
            state = fitted.state;
            state.poses.remove(view);
            continue;
        }
        let degrees = apart(&fitted.state.poses).to_degrees();
        if degrees < PARALLEL.to_degrees() {
            return Err(IntrinsicsError::Parallel { degrees });
        }
        let rms_px = fitted.rms() * std::f64::consts::SQRT_2;
        if rms_px > MISFIT_PX {
            return Err(IntrinsicsError::Misfit { rms_px });
        }
        return report(&bundle, fitted, views, &used, &left_out);
    }
}

/// What a caller may have got wrong.
fn check(board: &Board, views: &[BoardView]) -> Result<(), IntrinsicsError> {
    let size = |view: &BoardView| [view.width_px, view.height_px];
    for (i, view) in views.iter().enumerate() {
        let (found, first) = (size(view), size(&views[0]));
        if found != first {
            return Err(IntrinsicsError::PictureSize {
                view: i,
                found,
                first,
            });
        }
        let mut seen = vec![false; board.corners()];
        for corner in &view.corners {
            let Some(seen) = seen.get_mut(corner.id) else {
                return Err(IntrinsicsError::NoSuchCorner {
                    view: i,
                    corner: corner.id,
                    corners: board.corners(),
                });
            };
            if *seen || !corner.pixel.iter().all(|v| v.is_finite()) {
                return Err(IntrinsicsError::BrokenView { view: i });
            }
            *seen = true;
        }
    }
    Ok(())
}

/// How far corners are from where one plane would have them, root mean square, in squares. A lens's
/// distortion is far below one.
fn misfit_squares(board: &Board, view: &BoardView, map: &crate::homography::Homography) -> f64 {
    let off = view.corners.iter().map(|corner| {
        let p = board.corner_m(corner.id);
        let at = |x: f64| map.map([x, p.y]);
        let (Some(a), Some(b)) = (at(p.x), at(p.x + board.square_m)) else {
            return f64::INFINITY;
        };
        let square_px = (b[0] - a[0]).hypot(b[1] - a[1]);
        ((corner.pixel[0] - a[0]).hypot(corner.pixel[1] - a[1]) / square_px).powi(2)
    });
    (off.sum::<f64>() / view.corners.len() as f64).sqrt()
}

fn rms_px(residuals: &[[f64; 2]]) -> f64 {
    let squares = residuals.iter().map(|[x, y]| x * x + y * y).sum();
    pose::rms_px(squares, residuals.len())
}

/// The view that is far worse than the others, if there is one, and the others' median.
fn worst(rms: &[f64]) -> Option<(usize, f64)> {
    let (view, &worst) = rms.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let mut others: Vec<f64> = rms.to_vec();
    others.remove(view);
    others.sort_by(f64::total_cmp);
    let median = *others.get(others.len() / 2)?;
    (worst > FAR_PX && worst > FAR_FACTOR * median).then_some((view, median))
}

/// The greatest angle between two boards, radians.
fn apart(poses: &[Isometry3<f64>]) -> f64 {
    let normals: Vec<_> = poses
        .iter()
        .map(|pose| pose.rotation * Vector3::z())
        .collect();
    let pairs = normals
        .iter()
        .flat_map(|a| normals.iter().map(move |b| a.angle(b)));
    pairs.fold(0.0, f64::max)
}

/// With k3, if it is seen.
fn with_k3(bundle: &mut Bundle, fitted: Fitted<State>) -> Result<Fitted<State>, IntrinsicsError> {
    bundle.free = Free::All;
    let all = least_squares::fit(bundle, fitted.state.clone())?;
    let deviation = all
        .covariance
        .as_ref()
        .map(|covariance| bundle::deviations(&all.state.lens, covariance, Free::All)[LENS - 1]);
    let k3 = all.state.lens.distortion[4];
    if deviation.is_some_and(|deviation| k3.abs() > SEEN_DEVIATIONS * deviation) {
        return Ok(all);
    }
    bundle.free = Free::WithoutK3;
    Ok(fitted)
}

fn report(
    bundle: &Bundle,
    fitted: Fitted<State>,
    views: &[BoardView],
    used: &[usize],
    left_out: &[Option<LeftOut>],
) -> Result<IntrinsicsReport, IntrinsicsError> {
    let covariance = fitted
        .covariance
        .as_ref()
        .ok_or(IntrinsicsError::Undetermined)?;
    let mut intrinsics = fitted.state.lens.clone();
    intrinsics.rms_px = fitted.rms() * std::f64::consts::SQRT_2;
    intrinsics.views = used.len();
    let [fx, fy, cx, cy, distortion @ ..] =
        bundle::deviations(&intrinsics, covariance, bundle.free);
    let deviation = Deviation {
        focal_px: [fx, fy],
        centre_px: [cx, cy],
        distortion,
    };
    let reports = views.iter().enumerate().map(|(i, view)| {
        let (pose, residuals_px) = match used.iter().position(|&used| used == i) {
            Some(place) => {
                let residuals = bundle.left(&fitted.state, place);
                (Some(fitted.state.poses[place]), residuals)
            }
            None => alone(bundle.board, view, &intrinsics),
        };
        ViewReport {
            left_out: left_out[i],
            camera_from_board: pose,
            rms_px: rms_px(&residuals_px),
            residuals_px,
        }
    });
    let views: Vec<ViewReport> = reports.collect();
    let poses = used.iter().filter_map(|&i| views[i].camera_from_board);
    let missing = guide::missing_of(bundle.views.iter().copied(), &poses.collect::<Vec<_>>());
    let focal = intrinsics.focal_px[0].min(intrinsics.focal_px[1]);
    let part = [fx, fy, cx, cy].into_iter().fold(0.0, f64::max) / focal;
    let rms_px = intrinsics.rms_px;
    let verdict = if rms_px > GOOD_PX {
        Verdict::Rough { rms_px }
    } else if part > GOOD_PART {
        Verdict::Vague { part, missing }
    } else if missing.is_empty() {
        let views = intrinsics.views;
        Verdict::Good { rms_px, views }
    } else {
        Verdict::TakeMore { missing }
    };
    Ok(IntrinsicsReport {
        intrinsics,
        deviation,
        views,
        verdict,
    })
}

/// Pose and residuals of a view by itself, through a lens that is known.
fn alone(
    board: &Board,
    view: &BoardView,
    lens: &Intrinsics,
) -> (Option<Isometry3<f64>>, Vec<[f64; 2]>) {
    match pose::poses(lens, board, &view.corners) {
        Ok((
            Refined {
                camera_from_board, ..
            },
            _,
        )) => {
            let residuals = bundle::left(lens, board, view, &camera_from_board);
            (Some(camera_from_board), residuals)
        }
        Err(_) => (None, vec![]),
    }
}
