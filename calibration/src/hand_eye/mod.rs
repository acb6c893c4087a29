//! Where a camera is fixed: to the hand, looking at a board that lies still (eye in hand), or to the
//! room, looking at a board in the hand (eye to hand).
//!
//! Of each view two things are known: where the arm says that its hand is, and the corners of the board
//! in the picture. Sought are the camera's mounting and the board's place. `start` finds both in
//! closed form, whatever a few bad views say; `refine` then fits (`fit`) both to all corners at once.
//!
//! An arm does not know exactly where its hand is: backlash, bent links, a servo's count. If only the
//! pixels' error counted, each view would be trusted to a fraction of a millimetre, and the result would
//! claim as much. So each view's corners are weighed by what moves them: noise of the corners, known from
//! how well each picture fits a flat board by itself, and an error of the hand's pose, estimated from how
//! much the views disagree. With an arm that is exact this is the plain reprojection error. Nor is the
//! lens known exactly: its focal length and centre are fitted along, held to what they were measured as.
//!
//! A view that disagrees far more than the others is left out and named; a [`Verdict`] says in words
//! whether what came out is good, and what to do where it is not. [`view_poses`] is where to take views, and
//! [`is_clear`] whether the way there is.

mod fit;
mod plan;
mod refine;
mod start;
mod verdict;

#[cfg(test)]
mod tests;

pub(crate) use fit::{LENS, LensKnown};
pub use plan::{PlanError, PlanOptions, Sight, is_clear, view_poses};
pub use verdict::{GOOD, Verdict};
pub(crate) use verdict::{Known, more};

use std::fmt;

use hilt_protocol::calibration::{Frame, Intrinsics, Mounting, Spread};
use nalgebra::{Isometry3, Matrix3, Matrix6, Vector3};

use crate::{
    board::{Board, BoardError, BoardView, Corner, Pattern},
    pose::{self, PoseError, Refined},
};

/// Fewer usable views than this say nothing of how good they are.
pub const LEAST_VIEWS: usize = 5;

/// One picture, and where the arm said that the hand was.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Pose of the hand (the chain's tool) in the arm's base frame.
    pub base_from_hand: Isometry3<f64>,
    /// The corners seen.
    pub seen: BoardView,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct HandEye {
    /// What the camera is fixed to.
    pub frame: Frame,
    /// Pose of the camera in that frame.
    pub frame_from_camera: Isometry3<f64>,
    /// Where the board is: in the base's frame where the camera is in the hand, in the hand's where the
    /// camera is not.
    pub other_from_board: Isometry3<f64>,
    /// Covariance of a small move (the first three, metres) and turn (radians) of the camera in its own
    /// frame.
    pub covariance: Matrix6<f64>,
    /// The same in two numbers.
    pub spread: Spread,
    /// The arm's own error, one standard deviation of a view's: how far the hand was from where the arm
    /// said.
    pub arm: Spread,
    /// Noise of a corner along an axis, one standard deviation, pixels.
    pub corner_px: f64,
    /// Root mean square distance between corners seen and predicted, of the views that were used.
    pub rms_px: f64,
    /// Of each view, in the order given.
    pub views: Vec<ViewResult>,
    /// How much the hand was turned, root mean square between two views about the best, the second and
    /// the third axis, radians; the axes are the columns, in `frame`'s own frame.
    pub turned_rad: [f64; 3],
    /// Those axes.
    pub axes: Matrix3<f64>,
    pub(crate) lens: LensKnown,
}

/// What came out of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewResult {
    /// Where the result predicts the view's corners, in their order, pixels; empty where it cannot.
    pub predicted: Vec<[f64; 2]>,
    /// Root mean square distance of those from what was seen, pixels.
    pub rms_px: f64,
    /// How far the hand was from where the arm said: what is likely, where the view was used; what this
    /// picture alone shows, where it was not.
    pub off: Option<Spread>,
    /// Why it was left out.
    pub left_out: Option<LeftOut>,
}

/// Why a view was left out.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LeftOut {
    /// It has no pose.
    #[error("{0}")]
    Pose(#[from] PoseError),
    /// The arm did not say where its hand was.
    #[error("has a pose of the hand that is not of finite numbers; the arm's joints were not read")]
    NoHand,
    /// Its corners are where no flat board has them.
    #[error(
        "its corners are {rms_px:.1} px from those of a flat board: the picture is blurred, the board bent, or corners were taken for others"
    )]
    Corners {
        /// Root mean square, pixels.
        rms_px: f64,
    },
    /// It says something else than the others.
    #[error(
        "it disagrees with the others by {}: the arm or the board moved while it was taken, or slipped",
        Known(off)
    )]
    Disagrees {
        /// By how much.
        off: Spread,
    },
}

/// Why nothing came out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HandEyeError {
    /// The board cannot be.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// A picture that is not of the size that the lens was measured with.
    #[error("view {view} {source}")]
    PictureSize {
        /// Counted from 1.
        view: usize,
        /// The sizes.
        source: PoseError,
    },
    /// Too few views.
    #[error(
        "{usable} of {taken} views can be used and {LEAST_VIEWS} are the least: take more{}",
        first.map(|(number, why)| format!(" (view {number} {why})")).unwrap_or_default()
    )]
    TooFew {
        /// That show the board.
        usable: usize,
        /// All.
        taken: usize,
        /// The first that does not, counted from 1, and why.
        first: Option<(usize, LeftOut)>,
    },
    /// The hand was moved, and not turned.
    #[error(
        "the hand was turned by {:.1}° between views: where the camera is fixed does not follow from moving alone; take views in which it is turned by 20° or more, about two axes", turned_rad.to_degrees()
    )]
    NotTurned {
        /// Root mean square between two views.
        turned_rad: f64,
    },
    /// About one axis only.
    #[error(
        "the {holder} was turned about {axis} alone: where the camera is along {axis} is not determined; take views that are turned by 20° or more about {missing} as well",
        holder = turner(*frame), missing = axis.across()
    )]
    OneAxis {
        /// In which frame the axis is.
        frame: Frame,
        /// About which.
        axis: Axis,
    },
    /// The board is larger or smaller than was said.
    #[error(
        "the board's squares seem to be {:.1} mm, not {:.1} mm: measure one and correct the board's size; if it is right, calibrate the lens again",
        seems_m * 1e3, said_m * 1e3
    )]
    BoardSize {
        /// A square's side as the arm's motion shows it, metres.
        seems_m: f64,
        /// As was said.
        said_m: f64,
    },
    /// The pictures are mirrored.
    #[error(
        "the pictures are mirrored: the board moves to the other side in them; switch off the camera's mirror (horizontal flip), and calibrate its lens again if that was done with it on"
    )]
    Mirrored,
    /// The arm's poses and the pictures do not go together.
    #[error(
        "where the arm says its hand is and what the camera sees differ by {:.0} mm and {:.1}° from view to view, in {disagreeing} of {taken} views too far: the joints' calibration or the kinematics is of another arm (hilt calibrate joints), or the camera or the board is loose or not on what it is said to be on",
        off.translation_m * 1e3, off.rotation_rad.to_degrees()
    )]
    OtherArm {
        /// Root mean square.
        off: Spread,
        /// Views beyond what an arm's error is.
        disagreeing: usize,
        /// All that show the board.
        taken: usize,
    },
}

/// A direction, as a person is told it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis(pub Vector3<f64>);

impl Axis {
    /// The coordinate axis that it is within 25° of, 0 to 2.
    fn nearest(&self) -> Option<usize> {
        let along = self.0.abs();
        (along.max() > 0.906 * self.0.norm()).then(|| along.imax())
    }

    fn numbers(&self) -> String {
        let [x, y, z] = self.0.normalize().into();
        format!("({x:.1}, {y:.1}, {z:.1})")
    }

    /// The axes about which something else would be a turn.
    fn across(&self) -> String {
        match self.nearest() {
            Some(0) => "y or z".into(),
            Some(1) => "x or z".into(),
            Some(_) => "x or y".into(),
            None => format!("an axis across {}", self.numbers()),
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nearest() {
            Some(axis) => f.write_str(["x", "y", "z"][axis]),
            None => write!(f, "the axis {}", self.numbers()),
        }
    }
}

/// What is turned, and in whose frame the axes are.
fn turner(frame: Frame) -> &'static str {
    match frame {
        Frame::Hand => "hand",
        Frame::Base => "hand, as the base sees it,",
    }
}

impl HandEye {
    /// What the calibration's file keeps of it: measured at this time, of the arm of this number. It goes
    /// with [`HandEye::lens`], which the file has to keep as well.
    pub fn mounting(&self, date: &str, arm: usize) -> Mounting {
        Mounting {
            date: date.to_owned(),
            frame: self.frame,
            arm,
            frame_from_camera: self.frame_from_camera.into(),
            spread: self.spread,
            views: self.used(),
        }
    }

    /// The focal length of that [`HandEye::lens`] over the given one's. Farther than one percent from 1
    /// the given one is doubtful, and [`HandEye::verdict`] says so.
    pub fn focal(&self) -> f64 {
        self.lens.lens[0].exp()
    }

    /// The lens with which arm and pictures go together best: the one that was given, with a focal length
    /// and a centre within what such a lens is known to.
    ///
    /// The mounting is the best one for this lens, not for the given one: with that, it predicts the board
    /// some pixels beside where it is seen. Whoever keeps [`HandEye::mounting`] keeps this lens in place of
    /// the given one.
    pub fn lens(&self, given: &Intrinsics) -> Intrinsics {
        fit::bent(given, &self.lens.lens.into())
    }

    /// Views that went into it.
    pub fn used(&self) -> usize {
        let used = self.views.iter().filter(|view| view.left_out.is_none());
        used.count()
    }

    /// Views that did not, counted from 1, and why.
    pub fn left_out(&self) -> impl Iterator<Item = (usize, LeftOut)> {
        let views = (1..).zip(&self.views);
        views.filter_map(|(number, view)| Some((number, view.left_out?)))
    }

    /// What a person has to know.
    pub fn verdict(&self) -> Verdict {
        verdict::verdict(self)
    }
}

/// One view that shows the board.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Its number among all views.
    index: usize,
    /// Where the arm said that the hand was.
    base_from_hand: Isometry3<f64>,
    /// The motion in X⁻¹ M Y: from what the board is fixed to, to what the camera is.
    motion: Isometry3<f64>,
    corners: Vec<Corner>,
    /// Where the picture alone says that the board is.
    board: Refined,
    /// Where else it may be; the second is of the corners in the opposite order.
    others: Vec<(Refined, Order)>,
}

/// A checkerboard does not tell which way up it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    AsSeen,
    Opposite,
}

/// Where the camera is fixed, from views of a board.
pub fn hand_eye(
    intrinsics: &Intrinsics,
    board: &Board,
    frame: Frame,
    views: &[View],
) -> Result<HandEye, HandEyeError> {
    board.check()?;
    for (view, taken) in (1..).zip(views) {
        pose::check_size(intrinsics, &taken.seen)
            .map_err(|source| HandEyeError::PictureSize { view, source })?;
    }
    let (mut shown, mut left_out) = show(intrinsics, board, frame, views);
    blurred(&mut shown, &mut left_out);
    let mirrored = |why: &Option<LeftOut>| *why == Some(LeftOut::Pose(PoseError::Mirrored));
    if left_out.iter().filter(|why| mirrored(why)).count() * 2 > views.len() {
        return Err(HandEyeError::Mirrored);
    }
    if shown.len() < LEAST_VIEWS {
        let mut reasons = (1..).zip(&left_out);
        return Err(HandEyeError::TooFew {
            usable: shown.len(),
            taken: views.len(),
            first: reasons.find_map(|(number, why)| Some((number, (*why)?))),
        });
    }
    let (turned_rad, axes) = turns(&shown);
    if turned_rad[0] < LEAST_TURN_RAD {
        let turned_rad = turned_rad[0];
        return Err(HandEyeError::NotTurned { turned_rad });
    }
    if turned_rad[1] < LEAST_TURN_RAD {
        let axis = Axis(axes.column(0).into_owned());
        return Err(HandEyeError::OneAxis { frame, axis });
    }
    let problem = refine::Problem {
        intrinsics,
        board,
        frame,
        shown,
    };
    let solved = refine::solve(problem)?;
    let mut results: Vec<ViewResult> = left_out.into_iter().map(unused).collect();
    for view in &solved.views {
        results[view.index] = view.result.clone();
    }
    Ok(HandEye {
        frame,
        frame_from_camera: solved.frame_from_camera,
        other_from_board: solved.other_from_board,
        covariance: solved.covariance,
        spread: spread_of(&solved.covariance),
        arm: solved.arm,
        corner_px: solved.corner_px,
        rms_px: solved.rms_px,
        lens: solved.lens,
        views: results,
        turned_rad,
        axes,
    })
}

/// Less than this between two views, root mean square, is no turn.
const LEAST_TURN_RAD: f64 = 0.06;

fn unused(left_out: Option<LeftOut>) -> ViewResult {
    ViewResult {
        predicted: Vec::new(),
        rms_px: f64::NAN,
        off: None,
        left_out,
    }
}

/// A pose's covariance in two numbers: the root mean square length of the move and of the turn.
pub(crate) fn spread_of(covariance: &Matrix6<f64>) -> Spread {
    let trace = |at: usize| {
        covariance
            .fixed_view::<3, 3>(at, at)
            .trace()
            .max(0.0)
            .sqrt()
    };
    Spread {
        translation_m: trace(0),
        rotation_rad: trace(3),
    }
}

/// The views that show the board; of the others, why not.
fn show(
    intrinsics: &Intrinsics,
    board: &Board,
    frame: Frame,
    views: &[View],
) -> (Vec<Shown>, Vec<Option<LeftOut>>) {
    let (mut shown, mut left_out) = (Vec::new(), vec![None; views.len()]);
    for (index, view) in views.iter().enumerate() {
        let hand = view.base_from_hand.to_homogeneous();
        if !hand.iter().all(|value| value.is_finite()) {
            left_out[index] = Some(LeftOut::NoHand);
            continue;
        }
        match pose::poses(intrinsics, board, &view.seen.corners) {
            Ok((best, other)) => {
                let mut others: Vec<_> = other
                    .map(|other| (other, Order::AsSeen))
                    .into_iter()
                    .collect();
                let all = view.seen.corners.len() == board.corners();
                if board.pattern == Pattern::Checkerboard && all {
                    let opposite = |pose: &Refined| (turned_round(pose, board), Order::Opposite);
                    let rounds: Vec<_> = others.iter().map(|(pose, _)| opposite(pose)).collect();
                    others.push(opposite(&best));
                    others.extend(rounds);
                }
                shown.push(Shown {
                    index,
                    base_from_hand: view.base_from_hand,
                    motion: match frame {
                        Frame::Hand => view.base_from_hand.inverse(),
                        Frame::Base => view.base_from_hand,
                    },
                    corners: view.seen.corners.clone(),
                    board: best,
                    others,
                });
            }
            Err(why) => left_out[index] = Some(LeftOut::Pose(why)),
        }
    }
    (shown, left_out)
}

/// The same corners, taken for those of the board turned by half a turn.
fn turned_round(pose: &Refined, board: &Board) -> Refined {
    let [width, height] = board.size_m();
    let half = Isometry3::new(
        Vector3::new(width, height, 0.0),
        Vector3::new(0.0, 0.0, std::f64::consts::PI),
    );
    let change = pose::adjoint(&half);
    Refined {
        camera_from_board: pose.camera_from_board * half,
        rms_px: pose.rms_px,
        information: change.tr_mul(&pose.information) * change,
    }
}

/// Leaves out views whose corners fit a flat board far worse than the others' do.
fn blurred(shown: &mut Vec<Shown>, left_out: &mut [Option<LeftOut>]) {
    let typical = median(shown.iter().map(|view| view.board.rms_px));
    let most = (4.0 * typical).max(typical + 0.5);
    shown.retain(|view| {
        let rms_px = view.board.rms_px;
        let keep = rms_px <= most;
        if !keep {
            left_out[view.index] = Some(LeftOut::Corners { rms_px });
        }
        keep
    });
}

/// How much the motion turns between two views: root mean square about its principal axes, the most
/// first, and these axes.
fn turns(shown: &[Shown]) -> ([f64; 3], Matrix3<f64>) {
    let mut scatter = Matrix3::zeros();
    let mut pairs = 0.0;
    for (i, a) in shown.iter().enumerate() {
        for b in &shown[i + 1..] {
            let turn = (b.motion.rotation * a.motion.rotation.inverse()).scaled_axis();
            scatter += turn * turn.transpose();
            pairs += 1.0;
        }
    }
    let eigen = (scatter / f64::max(pairs, 1.0)).symmetric_eigen();
    let mut order = [0, 1, 2];
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let axes = order.map(|i| eigen.eigenvectors.column(i).into_owned());
    let turned = order.map(|i| eigen.eigenvalues[i].max(0.0).sqrt());
    (turned, Matrix3::from_columns(&axes))
}

/// The middle one; NaN of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}
