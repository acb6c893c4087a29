//! Inverse kinematics of arms of five, six and seven joints, against crate `k` on the same targets:
//! 10,000 poses within reach each, from a start whose joints are off by up to 0.2 rad.
//!
//! The two take turns, target by target, so that a busy machine slows both alike. Both are asked for
//! 0.1 mm and 0.01° and given as many iterations; of `k` the better of its default step and of whole
//! Newton steps is shown. It solves no pose for fewer than six joints: for those it is spared the
//! turn about z, which the other five numbers then settle. The same poses a metre farther out, which
//! cannot be had, show what a call costs at most. Prints one line of JSON per figure.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

#[path = "../tests/arms/mod.rs"]
mod arms;

use std::{path::Path, time::Instant};

use arms::{ARMS, arm, neighbour};
use hilt_kinematics::{Ik, IkOptions};
use hilt_protocol::{JointVector, noise::Uniforms};
use k::InverseKinematicsSolver as _;
use nalgebra::Isometry3;

const TARGETS: usize = 10_000;
const AWAY_RAD: f64 = 0.2;
const POSITION_M: f64 = 1e-4;
const ROTATION_RAD: f64 = 0.01 * std::f64::consts::PI / 180.0;

/// What one solver did.
#[derive(Default)]
struct Score {
    us: Vec<f64>,
    solved: usize,
}

impl Score {
    fn add(&mut self, began: Instant, solved: bool) {
        self.us.push(began.elapsed().as_secs_f64() * 1e6);
        self.solved += usize::from(solved);
    }

    fn mean_us(&self) -> f64 {
        self.us.iter().sum::<f64>() / self.us.len() as f64
    }

    /// Of every hundred the slowest but one.
    fn p99_us(&self) -> f64 {
        let mut us = self.us.clone();
        us.sort_by(f64::total_cmp);
        us[us.len() * 99 / 100]
    }

    fn solved_percent(&self) -> f64 {
        100.0 * self.solved as f64 / self.us.len() as f64
    }
}

/// The same arm for crate `k`.
struct Peer {
    arm: k::SerialChain<f64>,
    solver: k::JacobianIkSolver<f64>,
    wanted: k::Constraints,
}

impl Peer {
    fn new(name: &str, tip: &str, joints: usize, multiplier: f64, iterations: usize) -> Self {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/arms/{name}.urdf"));
        let tree = k::Chain::<f64>::from_urdf_file(place).unwrap();
        let arm = k::SerialChain::from_end(tree.find(tip).unwrap());
        assert_eq!(arm.dof(), joints);
        Self {
            arm,
            solver: k::JacobianIkSolver::new(POSITION_M, ROTATION_RAD, multiplier, iterations),
            wanted: k::Constraints {
                rotation_z: joints >= 6,
                ..k::Constraints::default()
            },
        }
    }

    fn solve(&self, goal: &Isometry3<f64>, start: &JointVector) -> bool {
        self.arm.set_joint_positions_unchecked(start.as_slice());
        let (at, turn) = (goal.translation.vector, goal.rotation.coords);
        let goal = k::Isometry3::from_parts(
            k::Translation3::new(at.x, at.y, at.z),
            k::UnitQuaternion::from_quaternion(k::nalgebra::Quaternion::new(
                turn.w, turn.x, turn.y, turn.z,
            )),
        );
        let answer = (self.solver).solve_with_constraints(&self.arm, &goal, &self.wanted);
        if answer.is_err() {
            return false;
        }
        let reached = self.arm.end_transform();
        let off = (reached.translation.vector - goal.translation.vector).norm();
        off <= POSITION_M && reached.rotation.angle_to(&goal.rotation) <= ROTATION_RAD
    }
}

fn row(name: &str, unit: &str, value: f64, peer: Option<f64>) {
    let row = serde_json::json!({
        "name": name, "value": value, "unit": unit,
        "peer": peer.map(|_| "k"), "peer_value": peer, "ratio": peer.map(|peer| value / peer),
    });
    println!("{row}");
}

fn main() {
    let mut slowest: Option<(f64, f64)> = None;
    for (name, _, tip) in ARMS {
        let ik = Ik::new(arm(name), IkOptions::default());
        let (joints, iterations) = (ik.chain().dof(), IkOptions::default().iterations);
        let peers = [0.5, 1.0].map(|step| Peer::new(name, tip, joints, step, iterations));
        let (mut ours, mut theirs) = (Score::default(), [Score::default(), Score::default()]);
        let mut out_of_reach = Score::default();
        let mut uniforms = Uniforms::new(1);
        for _ in 0..TARGETS {
            let (goal, start) = neighbour(ik.chain(), AWAY_RAD, &mut uniforms);
            let began = Instant::now();
            let solution = ik.solve(&goal, &start);
            let solved = solution.position_error_m <= POSITION_M
                && solution.rotation_error_rad <= ROTATION_RAD;
            ours.add(began, solved);
            for (peer, score) in peers.iter().zip(&mut theirs) {
                let began = Instant::now();
                let solved = peer.solve(&goal, &start);
                score.add(began, solved);
            }
            let mut far = goal;
            far.translation.vector += goal.translation.vector.normalize();
            let began = Instant::now();
            let solution = ik.solve(&far, &start);
            out_of_reach.add(began, solution.position_error_m <= POSITION_M);
        }
        assert_eq!(out_of_reach.solved, 0, "{name} reaches a metre farther");
        let [a, b] = theirs;
        let theirs = if a.solved > b.solved { a } else { b };
        row(
            &format!("kinematics.{name}.mean_us"),
            "us",
            ours.mean_us(),
            Some(theirs.mean_us()),
        );
        row(
            &format!("kinematics.{name}.p99_us"),
            "us",
            ours.p99_us(),
            Some(theirs.p99_us()),
        );
        row(
            &format!("kinematics.{name}.solved"),
            "%",
            ours.solved_percent(),
            Some(theirs.solved_percent()),
        );
        row(
            &format!("kinematics.{name}.out_of_reach_p99_us"),
            "us",
            out_of_reach.p99_us(),
            None,
        );
        let means = (ours.mean_us(), theirs.mean_us());
        slowest = Some(slowest.map_or(means, |(us, k)| if us > means.0 { (us, k) } else { means }));
    }
    // The arm that takes longest.
    if let Some((us, k)) = slowest {
        row("kinematics.ik_us", "us", us, Some(k));
    }
}
