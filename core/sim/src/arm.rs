//! The arms that can stand at the table, and what the task is in the reach of each.

use hilt_protocol::noise::{Uniforms, mix};
use serde::{Deserialize, Serialize};

use crate::Start;

/// Which arm stands at the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArmKind {
    /// Six joints, a parallel gripper, gravity compensated.
    #[default]
    Desk6,
    /// The SO-101: five joints and a turning jaw, of bus servos.
    So101,
    /// The Koch v1.1: the same of Dynamixel servos, and smaller.
    Koch,
}

/// The lift task, and the distances that the scripted operator goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Task {
    /// Centre of the work area on the table, metres in the arm's base frame.
    pub centre_xy_m: [f64; 2],
    /// Height of the tool above the table at home, metres.
    pub home_height_m: f64,
    /// An episode begins with the tool so near home on each axis, metres.
    pub home_spread_m: f64,
    /// Half the cube's side, metres: also the height of its centre when it lies on the table.
    pub cube_half_m: f64,
    /// The cube counts as lifted when it is this far above its place on the table, metres.
    pub lifted_m: f64,
    /// Least and greatest height above the cube at which the operator gets over it, metres.
    pub(crate) hover_m: [f64; 2],
    /// A cube farther than this from the tool is not in the hand, metres.
    pub(crate) in_hand_m: f64,
    /// Steps that the fingers need to close.
    pub(crate) closing_steps: u32,
    /// How far above the cube a miss closes, metres …
    pub(crate) miss_above_m: [f64; 2],
    /// … or how far aside of it.
    pub(crate) miss_aside_m: [f64; 2],
    /// How far from the cube's place a wanderer goes on x and y, metres.
    pub(crate) wander_aside_m: f64,
    /// How high it goes, metres above the cube's place.
    pub(crate) wander_height_m: [f64; 2],
}

/// What the simulation has to know of an arm beside its MJCF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    /// Defaults, bodies and drives, in this order.
    pub mjcf: &'static str,
    /// Its joints, base to tip.
    pub joints: &'static [&'static str],
    /// What opens and closes.
    pub fingers: Fingers,
    /// A bent pose near home: where inverse kinematics starts when nothing else is known, radians.
    pub seed_joints: &'static [f64],
    /// Half widths of the mat that shows the work area, metres.
    pub mat_half_m: [f64; 2],
}

/// The gripper's joints, and how its width follows from them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fingers {
    /// Two that slide; the gap is the sum of their positions.
    Slide {
        joints: [&'static str; 2],
        open_m: f64,
    },
    /// One that turns.
    Jaw { joints: [&'static str; 1], jaw: Jaw },
}

/// A jaw that turns; closed, its angle and the gap are 0. Between that and open the gap is taken as
/// linear in the angle, as the driver of its servo takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jaw {
    /// Its angle when it is open, radians.
    pub open_rad: f64,
    /// The gap then, metres.
    pub open_width_m: f64,
}

impl Fingers {
    pub fn joints(&self) -> &[&'static str] {
        match self {
            Self::Slide { joints, .. } => joints,
            Self::Jaw { joints, .. } => joints,
        }
    }

    /// Where each of its joints is when the gripper is open, or closed.
    pub fn position(&self, closed: bool) -> f64 {
        match (self, closed) {
            (Self::Slide { .. }, true) => 0.0,
            (Self::Slide { open_m, .. }, false) => *open_m,
            (Self::Jaw { .. }, true) => 0.0,
            (Self::Jaw { jaw, .. }, false) => jaw.open_rad,
        }
    }

    /// The gap, metres, from the joints' positions.
    pub fn width_m(&self, positions: impl Iterator<Item = f64>) -> f64 {
        let sum: f64 = positions.sum();
        match self {
            Self::Slide { .. } => sum,
            Self::Jaw { jaw, .. } => jaw.open_width_m * sum / jaw.open_rad,
        }
    }
}

impl ArmKind {
    /// What the task is in its reach.
    pub const fn task(self) -> Task {
        match self {
            Self::Desk6 => Task {
                centre_xy_m: [0.45, 0.0],
                home_height_m: 0.18,
                home_spread_m: 0.03,
                cube_half_m: 0.02,
                lifted_m: 0.10,
                hover_m: [0.08, 0.11],
                in_hand_m: 0.03,
                closing_steps: 2,
                miss_above_m: [0.05, 0.07],
                miss_aside_m: [0.075, 0.095],
                wander_aside_m: 0.15,
                wander_height_m: [0.03, 0.22],
            },
            Self::So101 => Task {
                centre_xy_m: [0.205, 0.0],
                home_height_m: 0.10,
                home_spread_m: 0.02,
                cube_half_m: 0.015,
                lifted_m: 0.06,
                hover_m: [0.05, 0.07],
                // The jaw pushes the cube to the finger that stands.
                in_hand_m: 0.04,
                closing_steps: 4,
                miss_above_m: [0.04, 0.05],
                miss_aside_m: [0.065, 0.075],
                wander_aside_m: 0.07,
                wander_height_m: [0.0, 0.11],
            },
            Self::Koch => Task {
                centre_xy_m: [0.145, 0.0],
                home_height_m: 0.09,
                home_spread_m: 0.015,
                miss_aside_m: [0.06, 0.065],
                // Otherwise as the SO-101: cube and jaw are the same.
                ..Self::So101.task()
            },
        }
    }

    /// How many joints it has, the gripper apart.
    pub const fn joints(self) -> usize {
        self.model().joints.len()
    }

    /// Its jaw; `None`: its fingers slide, which no servo does.
    pub const fn jaw(self) -> Option<Jaw> {
        match self.model().fingers {
            Fingers::Slide { .. } => None,
            Fingers::Jaw { jaw, .. } => Some(jaw),
        }
    }

    pub(crate) const fn model(self) -> Model {
        match self {
            Self::Desk6 => Model {
                mjcf: include_str!("scene/desk6.xml"),
                joints: &["pan", "lift", "elbow", "pitch", "roll", "yaw"],
                fingers: Fingers::Slide {
                    joints: ["left", "right"],
                    open_m: 0.042,
                },
                seed_joints: &[0.0, 0.2, 0.3, -0.5, 0.0, 0.0],
                mat_half_m: [0.15, 0.17],
            },
            Self::So101 => Model {
                mjcf: include_str!("scene/so101.xml"),
                joints: &["pan", "lift", "elbow", "flex", "roll"],
                fingers: Fingers::Jaw {
                    joints: ["jaw"],
                    jaw: Jaw {
                        open_rad: 1.03,
                        open_width_m: 0.074,
                    },
                },
                seed_joints: &[0.0, -0.2, 0.4, 1.37, 0.0],
                mat_half_m: [0.075, 0.085],
            },
            Self::Koch => Model {
                mjcf: include_str!("scene/koch.xml"),
                seed_joints: &[0.0, -0.2, 0.5, 1.27, 0.0],
                mat_half_m: [0.065, 0.075],
                ..Self::So101.model()
            },
        }
    }
}

impl Task {
    /// The cube in the centre, the tool at home.
    pub fn start(&self) -> Start {
        Start {
            cube_xy_m: self.centre_xy_m,
            cube_yaw_rad: 0.0,
            home_offset_m: [0.0; 3],
        }
    }

    /// The start of a seed: the cube anywhere in a square with side `range_m` about the centre, at any
    /// yaw of its symmetry (±45°); the tool about home.
    pub fn random_start(&self, range_m: f64, seed: u64) -> Start {
        // Mixed, so that the streams of neighbouring seeds do not overlap.
        let mut uniforms = Uniforms::new(mix(seed ^ 0x7374_6172_7400));
        let half = range_m / 2.0;
        let eighth = std::f64::consts::FRAC_PI_4;
        let spread = self.home_spread_m;
        Start {
            cube_xy_m: (self.centre_xy_m).map(|centre| centre + uniforms.range(-half, half)),
            cube_yaw_rad: uniforms.range(-eighth, eighth),
            home_offset_m: std::array::from_fn(|_| uniforms.range(-spread, spread)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_fill_their_range_and_repeat() {
        let task = ArmKind::Desk6.task();
        let starts: Vec<Start> = (0..500).map(|seed| task.random_start(0.2, seed)).collect();
        for (seed, start) in starts.iter().enumerate() {
            assert_eq!(*start, task.random_start(0.2, seed as u64));
            for (xy, centre) in start.cube_xy_m.iter().zip(task.centre_xy_m) {
                assert!((xy - centre).abs() < 0.1);
            }
            assert!(start.cube_yaw_rad.abs() < std::f64::consts::FRAC_PI_4);
            assert!(start.home_offset_m.iter().all(|d| d.abs() < 0.03));
        }
        for quadrant in 0..4 {
            let sign = |bit: usize| if quadrant >> bit & 1 == 1 { 1.0 } else { -1.0 };
            let from_centre =
                |s: &Start, i: usize| (s.cube_xy_m[i] - task.centre_xy_m[i]) * sign(i);
            let far = starts
                .iter()
                .filter(|s| (0..2).all(|i| from_centre(s, i) > 0.05));
            // One in sixteen lands in each outer corner.
            assert!(far.count() > 15, "quadrant {quadrant}");
        }
    }
}
