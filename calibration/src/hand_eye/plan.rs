//! Where to take the views: joints about a start that turn the hand about two axes at least, and keep
//! the board in the picture.
//!
//! Poses are drawn in the joints' space, so that they can be reached by an arm of any number of joints;
//! of those that may be used, the ones farthest from each other are taken.

use hilt_kinematics::Chain;
use hilt_protocol::{
    JointVector,
    calibration::{Frame, Intrinsics},
    noise::{Uniforms, mix},
};
use nalgebra::{Isometry3, Matrix3};

use super::start::LEVER_M;
use crate::board::Board;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanOptions {
    /// So many views.
    pub views: usize,
    /// No hand turned farther than this from the start, radians.
    pub turn_rad: f64,
    /// None moved farther, metres.
    pub reach_m: f64,
    /// Nothing that is carried comes below this on the way, metres in the base's frame.
    pub lowest_m: f64,
    /// No joint nearer to its limits, radians.
    pub margin_rad: f64,
    /// Of what is drawn.
    pub seed: u64,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            views: 20,
            turn_rad: 0.7,
            reach_m: 0.2,
            lowest_m: 0.03,
            margin_rad: 0.05,
            seed: 0,
        }
    }
}

/// What is known roughly of the camera and the board: by a ruler is enough.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The lens.
    pub intrinsics: &'a Intrinsics,
    /// The board.
    pub board: &'a Board,
    /// What the camera is fixed to.
    pub frame: Frame,
    /// Where it is there.
    pub frame_from_camera: Isometry3<f64>,
    /// The board, in the other frame.
    pub other_from_board: Isometry3<f64>,
}

/// Why there are no such joints.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The start is not one of the arm.
    #[error(
        "the arm is at joints that are not its own, or beyond their limits; move it inside them by hand"
    )]
    Start,
    /// The board is not seen from where the arm is.
    #[error(
        "the board is not in the picture from where the arm is now; move the hand until it is in the middle"
    )]
    Unseen,
    /// Too few.
    #[error(
        "only {found} of {wanted} views keep the board in the picture and the hand above {lowest_m:.2} m; start with the hand higher and the board in the middle of the picture, about 0.3 m away, or use a smaller board"
    )]
    TooFew {
        /// So many.
        found: usize,
        /// Of so many.
        wanted: usize,
        /// The lowest height that is allowed.
        lowest_m: f64,
    },
    /// All about one axis.
    #[error(
        "from here the hand can be turned by {:.0}° about one axis only; start with the joints farther from their limits", turned_rad.to_degrees()
    )]
    OneAxis {
        /// Root mean square between two views.
        turned_rad: f64,
    },
}

/// Poses that are drawn.
const DRAWN: usize = 40_000;
/// Of those that may be used, no more are compared.
const COMPARED: usize = 1500;
/// A board leaves so much of the picture's side free, so that a rough guess is enough.
const FREE: f64 = 0.04;
/// A board is seen at most so obliquely: cosine of the angle to its normal.
const OBLIQUE: f64 = 0.5;
/// The way between two views is looked at wherever a joint has moved so far, radians.
const ON_THE_WAY_RAD: f64 = 0.05;
/// Two views whose second axis is turned about less than this determine little.
const LEAST_ACROSS_RAD: f64 = 0.12;

/// Joints to take views at, in an order with short ways. The first is the start itself.
pub fn view_poses(
    chain: &Chain,
    start: &JointVector,
    options: &PlanOptions,
    sight: Option<&Sight>,
) -> Result<Vec<JointVector>, PlanError> {
    let joints = start.as_slice();
    let within = |q: &[f64], margin: f64| {
        let mut limits = q.iter().zip(chain.joints());
        limits.all(|(q, joint)| *q >= joint.lower + margin && *q <= joint.upper - margin)
    };
    if joints.len() != chain.dof() || !within(joints, -1e-9) {
        return Err(PlanError::Start);
    }
    let home = chain.base_from_tool(joints);
    if sight.is_some_and(|sight| !sight.sees(&home)) {
        return Err(PlanError::Unseen);
    }
    let ranges = ranges(chain, joints, options);
    let mut uniforms = Uniforms::new(mix(options.seed ^ 0x706c_616e_7669_6577));
    let mut candidates = vec![(*start, home)];
    for _ in 0..DRAWN {
        if candidates.len() > COMPARED {
            break;
        }
        let share = uniforms.range(0.2, 1.0);
        let mut drawn = *start;
        for (q, range) in drawn.as_mut_slice().iter_mut().zip(&ranges) {
            *q += share * uniforms.range(-range, *range);
        }
        let pose = chain.base_from_tool(drawn.as_slice());
        let away = home.inverse() * pose;
        let allowed = within(drawn.as_slice(), options.margin_rad)
            && away.rotation.angle() <= options.turn_rad
            && away.translation.vector.norm() <= options.reach_m
            && lowest_m(&pose, sight) >= options.lowest_m
            && sight.is_none_or(|sight| sight.sees(&pose));
        if allowed {
            candidates.push((drawn, pose));
        }
    }
    let chosen = far_apart(&candidates, options.views);
    let views = tour(chain, &chosen, options, sight);
    if views.len() < options.views {
        return Err(PlanError::TooFew {
            found: views.len(),
            wanted: options.views,
            lowest_m: options.lowest_m,
        });
    }
    let turned_rad = across_rad(chain, &views);
    if turned_rad < LEAST_ACROSS_RAD {
        return Err(PlanError::OneAxis { turned_rad });
    }
    Ok(views)
}

/// How far each joint may go: as far as the hand may turn, and less where it would carry the hand away.
fn ranges(chain: &Chain, joints: &[f64], options: &PlanOptions) -> Vec<f64> {
    let (_, jacobian) = chain.jacobian(joints);
    (0..chain.dof())
        .map(|i| {
            let carried_m = jacobian.fixed_view::<3, 1>(0, i).norm();
            options
                .turn_rad
                .min(1.5 * options.reach_m / carried_m.max(1e-6))
        })
        .collect()
}

impl Sight<'_> {
    fn camera_from_board(&self, base_from_hand: &Isometry3<f64>) -> Isometry3<f64> {
        let motion = match self.frame {
            Frame::Hand => base_from_hand.inverse(),
            Frame::Base => *base_from_hand,
        };
        self.frame_from_camera.inverse() * motion * self.other_from_board
    }

    /// Whether the whole board is in the picture, from its front and not too obliquely.
    fn sees(&self, base_from_hand: &Isometry3<f64>) -> bool {
        let camera_from_board = self.camera_from_board(base_from_hand);
        let [width, height] = self.board.size_m();
        let middle = camera_from_board * nalgebra::Point3::new(width / 2.0, height / 2.0, 0.0);
        let normal = camera_from_board.rotation * nalgebra::Vector3::z();
        if normal.dot(&middle.coords.normalize()) < OBLIQUE {
            return false;
        }
        let size = [self.intrinsics.width_px, self.intrinsics.height_px].map(f64::from);
        self.outline().into_iter().all(|corner| {
            let at = camera_from_board * corner;
            let pixel = self.intrinsics.project(at.coords.into());
            pixel.is_some_and(|pixel| {
                let mut sides = pixel.iter().zip(size);
                sides.all(|(at, size)| (FREE * size..(1.0 - FREE) * size).contains(at))
            })
        })
    }

    fn outline(&self) -> [nalgebra::Point3<f64>; 4] {
        let [width, height] = self.board.size_m();
        [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
            .map(|(x, y)| nalgebra::Point3::new(x, y, 0.0))
    }
}

/// Height of the lowest of what the arm carries: the hand, and the camera or the board's corners.
fn lowest_m(base_from_hand: &Isometry3<f64>, sight: Option<&Sight>) -> f64 {
    let mut lowest = base_from_hand.translation.z;
    if let Some(sight) = sight {
        match sight.frame {
            Frame::Hand => {
                let camera = base_from_hand * sight.frame_from_camera;
                lowest = lowest.min(camera.translation.z);
            }
            Frame::Base => {
                let base_from_board = base_from_hand * sight.other_from_board;
                for corner in sight.outline() {
                    lowest = lowest.min((base_from_board * corner).z);
                }
            }
        }
    }
    lowest
}

type Candidate = (JointVector, Isometry3<f64>);

/// So many, the first among them, each as far as can be from those before.
fn far_apart(candidates: &[Candidate], views: usize) -> Vec<Candidate> {
    let mut chosen = Vec::with_capacity(views);
    let mut away = vec![f64::INFINITY; candidates.len()];
    let mut next = 0;
    while chosen.len() < views.min(candidates.len()) {
        let (joints, pose) = candidates[next];
        chosen.push((joints, pose));
        for (away, (_, other)) in away.iter_mut().zip(candidates) {
            let apart = pose.inverse() * other;
            let apart = apart.rotation.angle() * LEVER_M + apart.translation.vector.norm();
            *away = away.min(apart);
        }
        let farthest = (0..away.len()).max_by(|a, b| away[*a].total_cmp(&away[*b]));
        next = farthest.unwrap_or(0);
    }
    chosen
}

/// How far the joint goes that goes farthest, radians.
fn far(from: &JointVector, to: &JointVector) -> f64 {
    let moves = from.as_slice().iter().zip(to.as_slice());
    moves.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Whether nothing that is carried comes below a height, metres in the base's frame, on the way that takes
/// all joints from the one to the other in proportion, its end included. The hand counts, and with a sight
/// the camera or the board as well. False of joints that are not this chain's, or no numbers.
pub fn is_clear(
    chain: &Chain,
    from: &JointVector,
    to: &JointVector,
    lowest_m: f64,
    sight: Option<&Sight>,
) -> bool {
    let known = |joints: &JointVector| {
        let joints = joints.as_slice();
        joints.len() == chain.dof() && joints.iter().all(|q| q.is_finite())
    };
    if !known(from) || !known(to) {
        return false;
    }
    let steps = (far(from, to) / ON_THE_WAY_RAD).ceil().max(1.0);
    (1..=steps as usize).all(|step| {
        let share = step as f64 / steps;
        let mut between = *from;
        for (q, to) in between.as_mut_slice().iter_mut().zip(to.as_slice()) {
            *q += share * (to - *q);
        }
        let pose = chain.base_from_tool(between.as_slice());
        self::lowest_m(&pose, sight) >= lowest_m
    })
}

/// From one to the nearest of the rest that can be got to without coming too low.
fn tour(
    chain: &Chain,
    chosen: &[Candidate],
    options: &PlanOptions,
    sight: Option<&Sight>,
) -> Vec<JointVector> {
    let mut rest: Vec<JointVector> = chosen.iter().map(|(joints, _)| *joints).collect();
    let mut at = rest.remove(0);
    let mut tour = vec![at];
    let clear = |a: &JointVector, b: &JointVector| is_clear(chain, a, b, options.lowest_m, sight);
    loop {
        let reached = (0..rest.len()).filter(|i| clear(&at, &rest[*i]));
        let nearest = reached.min_by(|a, b| far(&at, &rest[*a]).total_cmp(&far(&at, &rest[*b])));
        let Some(nearest) = nearest else {
            return tour;
        };
        at = rest.remove(nearest);
        tour.push(at);
    }
}

/// How much these turn about the second axis, root mean square between two.
fn across_rad(chain: &Chain, views: &[JointVector]) -> f64 {
    let poses: Vec<_> = views
        .iter()
        .map(|q| chain.base_from_tool(q.as_slice()))
        .collect();
    let (mut scatter, mut pairs) = (Matrix3::zeros(), 0.0);
    for (i, a) in poses.iter().enumerate() {
        for b in &poses[i + 1..] {
            let turn = (b.rotation.inverse() * a.rotation).scaled_axis();
            scatter += turn * turn.transpose();
            pairs += 1.0;
        }
    }
    let mut each: Vec<f64> = (scatter / f64::max(pairs, 1.0))
        .symmetric_eigenvalues()
        .iter()
        .copied()
        .collect();
    each.sort_by(f64::total_cmp);
    each[1].max(0.0).sqrt()
}
