//! Inverse kinematics of arms of five, six and seven joints, against crate `k` on the same targets:
//! 10,000 poses within reach each, from a start whose joints are off by up to 0.2 rad.
//!
//! The two take turns, target by target, so that a busy machine slows both alike. Both are asked for
//! 0.1 mm and 0.01° and given as many iterations; of `k` the better of its default step and of whole
//! Newton steps is shown. It solves no pose for fewer than six joints: for those it is spared the
//! turn about z, which the other five numbers then settle. The same poses a metre farther out, which
//! cannot be had, show what a call costs at most.
//!
//! Of both the time is that of the call alone; whether its joints are a solution is asked of [`Chain`]
//! afterwards. Prints one line of JSON per figure. `kinematics.ik_us` is the mean of the slowest arm's
//! calls; the claim is of each call (20 µs), so beside it stand their slowest hundredth and the share
//! of them that took longer.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

#[path = "../tests/arms/mod.rs"]
mod arms;

use std::{hint::black_box, path::Path, time::Instant};

use arms::{ARMS, arm, neighbour};
use hilt_kinematics::{Chain, Ik, IkOptions};
use hilt_protocol::{JointVector, noise::Uniforms};
use k::InverseKinematicsSolver as _;
use nalgebra::Isometry3;

const TARGETS: usize = 10_000;
const AWAY_RAD: f64 = 0.2;
const POSITION_M: f64 = 1e-4;
const ROTATION_RAD: f64 = 0.01 * std::f64::consts::PI / 180.0;

/// What a call may take.
const CLAIM_US: f64 = 20.0;

/// What one solver did.
#[derive(Default)]
struct Score {
    us: Vec<f64>,
    solved: usize,
}

/// Gives what a call gives, and how long it took, microseconds.
fn timed<T>(call: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let given = black_box(call());
    (began.elapsed().as_secs_f64() * 1e6, given)
}

/// Whether the tool is there with these joints.
fn meets(chain: &Chain, joints: &[f64], goal: &Isometry3<f64>) -> bool {
    let reached = chain.base_from_tool(joints);
    let off = (reached.translation.vector - goal.translation.vector).norm();
    let inside = joints.iter().zip(chain.joints());
    let inside = inside.filter(|(q, joint)| (joint.lower..=joint.upper).contains(*q));
    inside.count() == chain.dof()
        && off <= POSITION_M
        && reached.rotation.angle_to(&goal.rotation) <= ROTATION_RAD
}

impl Score {
    fn add(&mut self, us: f64, solved: bool) {
        self.us.push(us);
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

    /// Calls that took longer than they may.
    fn slow_percent(&self) -> f64 {
        let slow = self.us.iter().filter(|us| **us > CLAIM_US).count();
        100.0 * slow as f64 / self.us.len() as f64
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

    /// The goal as `k` has it.
    fn goal(goal: &Isometry3<f64>) -> k::Isometry3<f64> {
        let (at, turn) = (goal.translation.vector, goal.rotation.coords);
        k::Isometry3::from_parts(
            k::Translation3::new(at.x, at.y, at.z),
            k::UnitQuaternion::from_quaternion(k::nalgebra::Quaternion::new(
                turn.w, turn.x, turn.y, turn.z,
            )),
        )
    }

    /// Whether it says to have solved it. Its joints are then the arm's.
    fn solve(&self, goal: &k::Isometry3<f64>, start: &JointVector) -> bool {
        self.arm.set_joint_positions_unchecked(start.as_slice());
        (self.solver)
            .solve_with_constraints(&self.arm, goal, &self.wanted)
            .is_ok()
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
    let mut slowest: Option<(Score, Score)> = None;
    for (name, _, tip) in ARMS {
        let ik = Ik::new(arm(name), IkOptions::default());
        let chain = ik.chain();
        let (joints, iterations) = (chain.dof(), IkOptions::default().iterations);
        let peers = [0.5, 1.0].map(|step| Peer::new(name, tip, joints, step, iterations));
        let (mut ours, mut theirs) = (Score::default(), [Score::default(), Score::default()]);
        let mut out_of_reach = Score::default();
        let mut uniforms = Uniforms::new(1);
        for _ in 0..TARGETS {
            let (goal, start) = neighbour(chain, AWAY_RAD, &mut uniforms);
            let (us, solution) = timed(|| ik.solve(&goal, &start));
            ours.add(us, meets(chain, solution.joints.as_slice(), &goal));
            let theirs_goal = Peer::goal(&goal);
            for (peer, score) in peers.iter().zip(&mut theirs) {
                let (us, solved) = timed(|| peer.solve(&theirs_goal, &start));
                score.add(
                    us,
                    solved && meets(chain, &peer.arm.joint_positions(), &goal),
                );
            }
            let mut far = goal;
            far.translation.vector += goal.translation.vector.normalize();
            let (us, solution) = timed(|| ik.solve(&far, &start));
            out_of_reach.add(us, meets(chain, solution.joints.as_slice(), &far));
        }
        assert_eq!(out_of_reach.solved, 0, "{name} reaches a metre farther");
        let [a, b] = theirs;
        let theirs = if a.solved > b.solved { a } else { b };
        let of = |what: &str| format!("kinematics.{name}.{what}");
        rows(
            &of("mean_us"),
            &of("p99_us"),
            &of("over_20us"),
            &ours,
            &theirs,
        );
        let (solved, theirs_solved) = (ours.solved_percent(), theirs.solved_percent());
        row(&of("solved"), "%", solved, Some(theirs_solved));
        row(
            &of("out_of_reach_p99_us"),
            "us",
            out_of_reach.p99_us(),
            None,
        );
        let is_slower = |slowest: &Score| ours.mean_us() > slowest.mean_us();
        if slowest.as_ref().is_none_or(|(s, _)| is_slower(s)) {
            slowest = Some((ours, theirs));
        }
    }
    if let Some((ours, theirs)) = slowest {
        println!("kinematics.ik_us is the mean of the calls of the arm that takes longest");
        let [mean, p99, over] =
            ["ik_us", "ik_p99_us", "ik_over_20us"].map(|of| format!("kinematics.{of}"));
        rows(&mean, &p99, &over, &ours, &theirs);
    }
}

/// How long the calls took: their mean, the slowest but one of a hundred, how many took too long.
fn rows(mean: &str, p99: &str, over: &str, ours: &Score, theirs: &Score) {
    row(mean, "us", ours.mean_us(), Some(theirs.mean_us()));
    row(p99, "us", ours.p99_us(), Some(theirs.p99_us()));
    row(over, "%", ours.slow_percent(), Some(theirs.slow_percent()));
}
