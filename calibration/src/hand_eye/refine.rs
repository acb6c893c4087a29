//! Which views to use, how far to trust the arm, and the fit to all corners of these, in turn until
//! nothing changes.

use hilt_protocol::calibration::{Frame, Intrinsics, Spread};
use nalgebra::{DMatrix, DVector, Isometry3, Matrix6, SMatrix, Vector3, Vector6};

use super::{
    Axis, HandEyeError, LEAST_VIEWS, LeftOut, Order, Shown, ViewResult,
    fit::{JointFit, LensKnown, State, Weighed, Weight, bent, sized},
    median, spread_of,
    start::{self, Guess, Scale},
};
use crate::{
    board::{Board, Corner},
    least_squares,
    pose::{self, as_change, nudged, reprojection},
};

/// What is to be solved.
pub(crate) struct Problem<'a> {
    pub intrinsics: &'a Intrinsics,
    pub board: &'a Board,
    pub frame: Frame,
    pub shown: Vec<Shown>,
}

/// What came out.
pub(crate) struct Solved {
    pub frame_from_camera: Isometry3<f64>,
    pub other_from_board: Isometry3<f64>,
    pub covariance: Matrix6<f64>,
    pub arm: Spread,
    pub corner_px: f64,
    pub rms_px: f64,
    pub lens: LensKnown,
    pub views: Vec<SolvedView>,
}

/// Of one view.
pub(crate) struct SolvedView {
    pub index: usize,
    pub result: ViewResult,
}

/// A view is left out whose square distance, in standard deviations, is more: of normal noise in six
/// directions one in a million is.
const OUTLIER: f64 = 38.0;
/// No detector finds corners better than this, pixels.
const LEAST_CORNER_PX: f64 = 0.02;
/// A square's side that is wrong by less may be the lens's focal length as well, which is measured to
/// half a percent.
const SIZE_TOLERANCE: f64 = 0.015;
/// An arm of bus servos, with play in every joint, errs by less than this.
const MOST_ARM: Spread = Spread {
    translation_m: 0.015,
    rotation_rad: 0.07,
};

/// What a view says of the hand, near where the state predicts it.
struct Off {
    /// From where the arm says to where the picture shows the hand, in its own frame: a step of Gauss
    /// and Newton from the prediction. A flat board's other pose does not matter there.
    change: Vector6<f64>,
    /// Covariance of that by the corners' noise.
    corners: Matrix6<f64>,
    /// Its inverse.
    information: Matrix6<f64>,
}

impl Off {
    /// What of it is the arm's error, likely, and not the corners' noise.
    fn likely(&self, arm: [f64; 2]) -> Spread {
        let arm = arm_covariance(arm);
        let share = (arm + self.corners).try_inverse();
        let share = share.map_or_else(Matrix6::zeros, |inverse| arm * inverse);
        length_of(&(share * self.change))
    }
}

fn length_of(change: &Vector6<f64>) -> Spread {
    Spread {
        translation_m: change.fixed_rows::<3>(0).norm(),
        rotation_rad: change.fixed_rows::<3>(3).norm(),
    }
}

/// Metres, with a turn as long as it is far from here to the board.
fn length(off: &Spread) -> f64 {
    off.translation_m + start::LEVER_M * off.rotation_rad
}

/// The fit, settled on which views to use and how far to trust the arm.
struct Settled {
    state: State,
    covariance: DMatrix<f64>,
    /// How far each view is from the arm's word.
    offs: Vec<Spread>,
    used: Vec<bool>,
    /// One standard deviation along and about each axis.
    arm: [f64; 2],
    /// Corners, in the order that fits.
    corners: Vec<Vec<Corner>>,
}

/// Solves it, for the mounting, or says what is wrong with the views.
pub(crate) fn solve(problem: Problem) -> Result<Solved, HandEyeError> {
    let motions: Vec<_> = problem.shown.iter().map(|view| view.motion).collect();
    let boards = problem
        .shown
        .iter()
        .map(|view| view.board.camera_from_board);
    let boards: Vec<_> = boards.collect();
    let said = start::guess(&motions, &boards, Scale::Said);
    let sought = start::guess(&motions, &boards, Scale::Sought);
    let (Some(said), Some(sought)) = (said, sought) else {
        return Err(problem.still());
    };
    if sought.scale < 0.0 && sought.off_m < 0.5 * said.off_m {
        return Err(HandEyeError::Mirrored);
    }
    let corner_px = problem.corner_px();
    if sought.scale > 0.0
        && let Ok(settled) = problem.settle(&sought, Scale::Sought, corner_px)
        && problem.other_arm(&settled).is_none()
    {
        let (scale, sigma) = (settled.state.scale, settled.covariance[(12, 12)].sqrt());
        if (scale - 1.0).abs() > SIZE_TOLERANCE.max(5.0 * sigma * scale) {
            let said_m = problem.board.square_m;
            return Err(HandEyeError::BoardSize {
                seems_m: scale * said_m,
                said_m,
            });
        }
    }
    let settled = problem.settle(&said, Scale::Said, corner_px)?;
    match problem.other_arm(&settled) {
        Some(error) => Err(error),
        None => Ok(problem.solved(settled, corner_px)),
    }
}

impl Problem<'_> {
    /// Noise of a corner along an axis: by how well each picture fits a flat board by itself.
    fn corner_px(&self) -> f64 {
        let each = self.shown.iter().map(|view| {
            let corners = view.corners.len() as f64;
            view.board.rms_px.powi(2) * corners / (2.0 * corners - 6.0)
        });
        median(each).sqrt().max(LEAST_CORNER_PX)
    }

    /// The arm turns and the board in the pictures does not.
    fn still(&self) -> HandEyeError {
        let spread = Spread {
            translation_m: 0.0,
            rotation_rad: super::turns(&self.shown).0[0],
        };
        HandEyeError::OtherArm {
            off: spread,
            disagreeing: self.shown.len(),
            taken: self.shown.len(),
        }
    }

    /// Where the state says that the board is in the camera's frame.
    fn camera_from_board(&self, state: &State, motion: &Isometry3<f64>) -> Isometry3<f64> {
        state.frame_from_camera.inverse() * motion * state.other_from_board
    }

    /// How far the hand is from where the arm says, when the board is where `seen` is.
    fn apart(&self, state: &State, view: &Shown, seen: &pose::Refined) -> Spread {
        let mut camera_from_board = seen.camera_from_board;
        camera_from_board.translation.vector *= state.scale;
        let (x, y) = (&state.frame_from_camera, &state.other_from_board);
        let motion = x * camera_from_board * y.inverse();
        let base_from_hand = match self.frame {
            Frame::Hand => motion.inverse(),
            Frame::Base => motion,
        };
        length_of(&as_change(
            &(view.base_from_hand.inverse() * base_from_hand),
        ))
    }

    /// The pose among those that the picture allows that agrees best, and its corners' order.
    fn choose(&self, state: &State, view: &Shown) -> (Spread, Order) {
        let worst_px = 2.0 * view.board.rms_px + 0.2;
        let mut best = (self.apart(state, view, &view.board), Order::AsSeen);
        for (pose, order) in &view.others {
            let apart = self.apart(state, view, pose);
            // What is clearly better, not what noise makes so.
            if pose.rms_px <= worst_px && length(&apart) < 0.5 * length(&best.0) {
                best = (apart, *order);
            }
        }
        best
    }

    /// What a view says near the prediction. `None`: the board is predicted out of sight.
    fn off(&self, state: &State, view: &Shown, corners: &[Corner], corner_px: f64) -> Option<Off> {
        let (residual, moved) = self.moved_by_hand(state, view, corners);
        let information = moved.tr_mul(&moved).fixed_view::<6, 6>(0, 0) / corner_px.powi(2);
        let covariance = information.try_inverse()?;
        let push = moved.tr_mul(&residual).fixed_rows::<6>(0) / corner_px.powi(2);
        let change = -(covariance * push);
        change.iter().all(|value| value.is_finite()).then_some(Off {
            change,
            corners: covariance,
            information,
        })
    }

    fn settle(&self, guess: &Guess, scale: Scale, corner_px: f64) -> Result<Settled, HandEyeError> {
        let mut state = State {
            frame_from_camera: guess.frame_from_camera,
            other_from_board: guess.other_from_board,
            scale: guess.scale,
            lens: [0.0; 3],
        };
        let first = self
            .shown
            .iter()
            .map(|view| length(&self.choose(&state, view).0));
        let first: Vec<f64> = first.collect();
        // Whoever is much farther than the middle one does not help at first.
        let near = 3.0 * median(first.iter().copied());
        let mut used: Vec<bool> = first.iter().map(|off| *off <= near).collect();
        let (mut arm, mut rounds) = ([0.0; 2], 0);
        loop {
            let orders = self.shown.iter().map(|view| self.choose(&state, view).1);
            let views = self.shown.iter().zip(orders);
            let corners = views.map(|(view, order)| ordered(&view.corners, order, self.board));
            let corners: Vec<Vec<Corner>> = corners.collect();
            let views = self.shown.iter().zip(&corners);
            let offs = views.map(|(view, corners)| self.off(&state, view, corners, corner_px));
            let offs: Vec<Option<Off>> = offs.collect();
            let (used_before, arm_before) = (used.clone(), arm);
            arm = arm_noise(&offs, &used);
            if rounds > 0 {
                used = offs.iter().map(|off| agrees(off.as_ref(), arm)).collect();
                arm = arm_noise(&offs, &used);
            }
            let agree = used.iter().filter(|used| **used).count();
            if agree < LEAST_VIEWS.max(self.shown.len() / 2) {
                return Err(self.disagree(&state, self.shown.len() - agree));
            }
            let fit = self.fit(&state, scale, &corners, &used, arm, corner_px);
            let fitted = fit.and_then(|fit| least_squares::fit(&fit, state.clone()).ok());
            let fitted = fitted.ok_or_else(|| self.disagree(&state, self.shown.len()))?;
            let covariance = fitted.covariance.ok_or_else(|| {
                let along = fitted.weakest.0.fixed_rows::<3>(0).into_owned();
                HandEyeError::OneAxis {
                    frame: self.frame,
                    axis: Axis(fitted.state.frame_from_camera * along),
                }
            })?;
            state = fitted.state;
            rounds += 1;
            let steady = (0..2).all(|i| (arm[i] - arm_before[i]).abs() <= 0.02 * arm[i] + 1e-6);
            if rounds == ROUNDS || (rounds > 2 && steady && used == used_before) {
                let near = offs.iter().zip(&used);
                let far = self.shown.iter().map(|view| self.choose(&state, view).0);
                let apart = near.zip(far).map(|((off, used), far)| match off {
                    Some(off) if *used => off.likely(arm),
                    _ => far,
                });
                return Ok(Settled {
                    offs: apart.collect(),
                    state,
                    covariance,
                    used,
                    arm,
                    corners,
                });
            }
        }
    }

    fn fit(
        &self,
        state: &State,
        scale: Scale,
        corners: &[Vec<Corner>],
        used: &[bool],
        arm: [f64; 2],
        corner_px: f64,
    ) -> Option<JointFit<'_>> {
        let views = self.shown.iter().zip(corners).zip(used);
        let used = views.filter(|(_, used)| **used);
        let weighed = used.map(|((view, corners), _)| {
            let (_, moved) = self.moved_by_hand(state, view, corners);
            Some(Weighed {
                motion: view.motion,
                corners: corners.clone(),
                weight: Weight::new(moved, arm, corner_px)?,
            })
        });
        Some(JointFit {
            intrinsics: self.intrinsics,
            board: self.board,
            views: weighed.collect::<Option<_>>()?,
            scale,
        })
    }

    /// A view's residual, pixels, and how a small error of the hand's pose moves it.
    fn moved_by_hand(
        &self,
        state: &State,
        view: &Shown,
        corners: &[Corner],
    ) -> (DVector<f64>, DMatrix<f64>) {
        const STEP: f64 = 1e-6;
        let board = sized(self.board, state.scale);
        let intrinsics = bent(self.intrinsics, &state.lens);
        let at = |change: &Vector6<f64>| {
            let motion = match self.frame {
                Frame::Hand => nudged(&view.base_from_hand, change).inverse(),
                Frame::Base => nudged(&view.base_from_hand, change),
            };
            let mut out = DVector::zeros(2 * corners.len());
            let pose = self.camera_from_board(state, &motion);
            reprojection(&intrinsics, &board, corners, &pose, out.as_mut_slice());
            out
        };
        let columns: Vec<DVector<f64>> = (0..6)
            .map(|i| {
                let mut change = Vector6::zeros();
                change[i] = STEP;
                (at(&change) - at(&-change)) / (2.0 * STEP)
            })
            .collect();
        (at(&Vector6::zeros()), DMatrix::from_columns(&columns))
    }

    fn disagree(&self, state: &State, disagreeing: usize) -> HandEyeError {
        let offs = self.shown.iter().map(|view| self.choose(state, view).0);
        let offs: Vec<Spread> = offs.collect();
        HandEyeError::OtherArm {
            off: Spread {
                translation_m: median(offs.iter().map(|off| off.translation_m)),
                rotation_rad: median(offs.iter().map(|off| off.rotation_rad)),
            },
            disagreeing,
            taken: self.shown.len(),
        }
    }

    /// What remains is more than an arm's error can be.
    fn other_arm(&self, settled: &Settled) -> Option<HandEyeError> {
        let off = arm_spread(settled.arm);
        let beyond =
            off.translation_m > MOST_ARM.translation_m || off.rotation_rad > MOST_ARM.rotation_rad;
        let farther = |off: &&Spread| {
            off.translation_m > MOST_ARM.translation_m || off.rotation_rad > MOST_ARM.rotation_rad
        };
        beyond.then(|| HandEyeError::OtherArm {
            off,
            disagreeing: settled.offs.iter().filter(farther).count(),
            taken: self.shown.len(),
        })
    }

    fn solved(&self, settled: Settled, corner_px: f64) -> Solved {
        let (state, mut squares, mut corners) = (&settled.state, 0.0, 0);
        let intrinsics = bent(self.intrinsics, &state.lens);
        let mut views = Vec::with_capacity(self.shown.len());
        for (i, view) in self.shown.iter().enumerate() {
            let pose = self.camera_from_board(state, &view.motion);
            let (ids, used) = (&settled.corners[i], settled.used[i]);
            let predicted: Option<Vec<[f64; 2]>> = ids
                .iter()
                .map(|corner| {
                    let point = pose * self.board.corner_m(corner.id);
                    intrinsics.project(point.coords.into())
                })
                .collect();
            let predicted = predicted.unwrap_or_default();
            let away = predicted.iter().zip(ids).map(|(at, corner)| {
                (at[0] - corner.pixel[0]).powi(2) + (at[1] - corner.pixel[1]).powi(2)
            });
            let sum: f64 = away.sum();
            if used {
                squares += sum;
                corners += predicted.len();
            }
            let off = settled.offs[i];
            views.push(SolvedView {
                index: view.index,
                result: ViewResult {
                    rms_px: match predicted.is_empty() {
                        true => f64::NAN,
                        false => pose::rms_px(sum, predicted.len()),
                    },
                    predicted,
                    off: Some(off),
                    left_out: (!used).then_some(LeftOut::Disagrees { off }),
                },
            });
        }
        Solved {
            frame_from_camera: state.frame_from_camera,
            other_from_board: state.other_from_board,
            covariance: settled.covariance.fixed_view::<6, 6>(0, 0).into_owned(),
            arm: arm_spread(settled.arm),
            corner_px,
            rms_px: pose::rms_px(squares, corners),
            lens: LensKnown {
                lens: state.lens.into(),
                with_camera: with_camera(&settled.covariance),
            },
            views,
        }
    }
}

/// The camera's place and the lens, out of all unknowns.
fn with_camera(covariance: &DMatrix<f64>) -> SMatrix<f64, 9, 9> {
    let at = |i: usize| if i < 6 { i } else { i + 6 };
    SMatrix::from_fn(|i, j| covariance[(at(i), at(j))])
}

/// Rounds of choosing views, weighing them and fitting. Most settle in three.
const ROUNDS: usize = 8;

fn arm_spread(arm: [f64; 2]) -> Spread {
    spread_of(&arm_covariance(arm))
}

fn ordered(corners: &[Corner], order: Order, board: &Board) -> Vec<Corner> {
    let renamed = corners.iter().map(|corner| Corner {
        id: match order {
            Order::AsSeen => corner.id,
            Order::Opposite => board.corners() - 1 - corner.id,
        },
        pixel: corner.pixel,
    });
    renamed.collect()
}

/// Whether a view is as far off as its corners' noise and the arm's error make likely.
fn agrees(off: Option<&Off>, arm: [f64; 2]) -> bool {
    off.is_some_and(|off| {
        let inverse = (off.corners + arm_covariance(arm)).try_inverse();
        inverse.is_some_and(|inverse| (off.change.transpose() * inverse * off.change).x < OUTLIER)
    })
}

/// The arm's own error along and about each axis: what makes the views' disagreement as likely as can be,
/// beside their corners' noise (the fixed point of MacKay, "Bayesian interpolation", 1992). A moment's
/// estimate would be ruled by the views that know least.
fn arm_noise(offs: &[Option<Off>], used: &[bool]) -> [f64; 2] {
    let used = offs.iter().zip(used).filter(|(_, used)| **used);
    let used: Vec<&Off> = used.filter_map(|(off, _)| off.as_ref()).collect();
    let views = used.len() as f64;
    // Twelve unknowns have taken up their part of what was seen.
    let grown = 6.0 * views / (6.0 * views - 12.0).max(1.0);
    let mut arm = [0.02, 0.1];
    for _ in 0..200 {
        let covariance = arm_covariance(arm);
        let Some(inverse) = covariance.try_inverse() else {
            return [0.0; 2];
        };
        let (mut squares, mut known) = ([0.0; 2], [0.0; 2]);
        for off in &used {
            let Some(rest) = (off.information + inverse).try_inverse() else {
                continue;
            };
            let likely = rest * off.information * off.change;
            for i in 0..2 {
                squares[i] += likely.fixed_rows::<3>(3 * i).norm_squared();
                let trace = rest.fixed_view::<3, 3>(3 * i, 3 * i).trace();
                known[i] += 3.0 - trace / (arm[i] * arm[i]);
            }
        }
        let before = arm;
        for i in 0..2 {
            arm[i] = (grown * squares[i] / known[i].max(1e-9))
                .sqrt()
                .max(LEAST_ARM);
        }
        if (0..2).all(|i| (arm[i] - before[i]).abs() < 1e-3 * before[i]) {
            break;
        }
    }
    arm
}

/// Metres or radians: less is none, and can still be divided by.
const LEAST_ARM: f64 = 1e-7;

fn arm_covariance(arm: [f64; 2]) -> Matrix6<f64> {
    Matrix6::from_diagonal(&Vector6::from_fn(|i, _| arm[i / 3] * arm[i / 3]))
}

/// The direction in which a camera's place is known worst, in the frame that it is fixed to, and how
/// well, metres.
pub(crate) fn weakest(
    frame_from_camera: &Isometry3<f64>,
    covariance: &Matrix6<f64>,
) -> (Vector3<f64>, f64) {
    let eigen = covariance
        .fixed_view::<3, 3>(0, 0)
        .into_owned()
        .symmetric_eigen();
    let worst = eigen.eigenvalues.imax();
    let along = frame_from_camera * eigen.eigenvectors.column(worst).into_owned();
    (along, eigen.eigenvalues[worst].max(0.0).sqrt())
}
