//! The scripted operator on the simulated arm, with a minimal stand-in for the robot process
//! between them: scaled action → target within box and leash → inverse kinematics → 100 ms.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use hilt_kinematics::{Ik, IkOptions};
use hilt_protocol::JointVector;
use hilt_sim::{
    Intention, OperatorConfig, SceneConfig, ScriptedOperator, Simulation, base_from_tool_down,
    random_start,
};

const STEP_M: f64 = 0.025;
const LEASH_M: f64 = 0.05;
const BOX_M: [[f64; 2]; 3] = [[0.30, 0.60], [-0.16, 0.16], [0.018, 0.30]];
const STEP_NS: u64 = 100_000_000;

struct Rig {
    simulation: Simulation,
    ik: Ik,
    /// So many times the hand loses the cube once it is 6 cm up.
    drops: u32,
}

struct Outcome {
    lifted: bool,
    steps: u32,
    /// Physics diverged or the arm strayed: never expected.
    strayed_m: f64,
}

impl Rig {
    fn new() -> Self {
        let config = SceneConfig {
            cameras: Vec::new(),
            ..SceneConfig::default()
        };
        let simulation = Simulation::new(&config).unwrap();
        let ik = Ik::new(simulation.chain().clone(), IkOptions::default());
        Self {
            simulation,
            ik,
            drops: 0,
        }
    }

    fn episode(&mut self, mut operator: ScriptedOperator, range_m: f64, seed: u64) -> Outcome {
        let sim = &mut self.simulation;
        sim.reset(&random_start(range_m, seed)).unwrap();
        let mut joints = JointVector::from_slice(&sim.arm_state().q).unwrap();
        let mut target = sim.truth().tool_position_m;
        let mut strayed_m = 0.0f64;
        for step in 0..100 {
            let truth = sim.truth();
            let action = operator.act(&truth);
            if action.done {
                return Outcome {
                    lifted: truth.lifted,
                    steps: step,
                    strayed_m,
                };
            }
            for i in 0..3 {
                assert!(action.motion[i].abs() <= 1.0);
                let tool = truth.tool_position_m[i];
                target[i] = (target[i] + action.motion[i] * STEP_M)
                    .clamp(BOX_M[i][0], BOX_M[i][1])
                    .clamp(tool - LEASH_M, tool + LEASH_M);
            }
            let closed = match action.gripper {
                -1 => true,
                1 => false,
                _ => truth.gripper_closed_command,
            };
            let slips = self.drops > 0 && truth.cube_position_m[2] > 0.08;
            let closed = if slips {
                self.drops -= 1;
                // A moment with the fingers open; the command is as before.
                sim.set_command(joints.as_slice(), false).unwrap();
                sim.advance_ns(2 * STEP_NS);
                true
            } else {
                closed
            };
            let solution = self.ik.solve(&base_from_tool_down(target), &joints);
            joints = solution.joints;
            sim.set_command(joints.as_slice(), closed).unwrap();
            sim.advance_ns(STEP_NS);
            let tool = sim.truth().tool_position_m;
            for i in 0..3 {
                strayed_m = strayed_m.max((tool[i] - target[i]).abs());
            }
        }
        Outcome {
            lifted: sim.truth().lifted,
            steps: 100,
            strayed_m,
        }
    }

    /// Lifts of `episodes`, and the mean steps of those.
    fn lifts(&mut self, config: OperatorConfig, range_m: f64, episodes: u64) -> (usize, f64) {
        let outcomes: Vec<Outcome> = (0..episodes)
            .map(|seed| {
                let operator = ScriptedOperator::new(config, Intention::Lift, STEP_M, seed);
                self.episode(operator, range_m, seed)
            })
            .collect();
        assert!(
            outcomes.iter().all(|o| o.strayed_m < LEASH_M),
            "the arm follows its target"
        );
        let steps: Vec<u32> = outcomes
            .iter()
            .filter(|o| o.lifted)
            .map(|o| o.steps)
            .collect();
        let mean = f64::from(steps.iter().sum::<u32>()) / steps.len().max(1) as f64;
        println!(
            "{} of {episodes} lifted, {mean} steps on average",
            steps.len()
        );
        (steps.len(), mean)
    }
}

#[test]
fn at_full_speed_the_operator_lifts_from_anywhere() {
    let (lifted, steps) = Rig::new().lifts(OperatorConfig::default(), 0.20, 40);
    assert!(lifted >= 38, "{lifted} of 40");
    assert!((11.0..18.0).contains(&steps), "{steps} steps");
}

#[test]
fn a_slow_operator_lifts_from_the_centre() {
    let config = OperatorConfig {
        speed: 0.4,
        ..OperatorConfig::default()
    };
    let (lifted, steps) = Rig::new().lifts(config, 0.06, 40);
    assert!(lifted >= 38, "{lifted} of 40");
    assert!((24.0..36.0).contains(&steps), "{steps} steps");
}

#[test]
fn a_late_operator_still_lifts() {
    let config = OperatorConfig {
        reaction_steps: 1,
        ..OperatorConfig::default()
    };
    let (lifted, _) = Rig::new().lifts(config, 0.20, 20);
    assert!(lifted >= 17, "{lifted} of 20");
}

#[test]
fn a_miss_raises_a_closed_and_empty_hand() {
    let mut rig = Rig::new();
    let mut raised = 0;
    for seed in 0..20 {
        let config = OperatorConfig::default();
        let operator = ScriptedOperator::new(config, Intention::Miss, STEP_M, seed);
        let outcome = rig.episode(operator, 0.20, seed);
        let truth = rig.simulation.truth();
        assert!(!outcome.lifted);
        assert!(truth.cube_position_m[2] < 0.03, "seed {seed}: {truth:?}");
        let empty = truth.gripper_closed_command && truth.gripper_width_m < 0.01;
        raised += usize::from(empty && truth.tool_position_m[2] > 0.10);
    }
    assert!(raised >= 19, "{raised} of 20");
}

#[test]
fn a_cube_that_slips_is_grasped_again() {
    let mut rig = Rig::new();
    let mut lifted = 0;
    for seed in 0..10 {
        rig.drops = 1;
        let operator =
            ScriptedOperator::new(OperatorConfig::default(), Intention::Lift, STEP_M, seed);
        let outcome = rig.episode(operator, 0.10, seed);
        assert_eq!(rig.drops, 0, "the cube was in the air once");
        lifted += usize::from(outcome.lifted);
    }
    assert!(lifted >= 9, "{lifted} of 10");
}
