//! The scripted operator on the simulated arm, with a minimal stand-in for the robot process
//! between them: scaled action → target within box and leash → inverse kinematics → 100 ms.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use hilt_kinematics::{Ik, IkOptions};
use hilt_sim::{
    ArmKind, Intention, OperatorConfig, SceneConfig, ScriptedOperator, Simulation,
    base_from_tool_down,
};

/// What the rig's file says of an arm's limits.
struct Limits {
    step_m: f64,
    leash_m: f64,
    box_m: [[f64; 2]; 3],
}

const DESK6: Limits = Limits {
    step_m: 0.025,
    leash_m: 0.05,
    box_m: [[0.30, 0.60], [-0.16, 0.16], [0.018, 0.30]],
};
const SO101: Limits = Limits {
    step_m: 0.02,
    leash_m: 0.04,
    box_m: [[0.14, 0.27], [-0.075, 0.075], [0.012, 0.13]],
};
const STEP_NS: u64 = 100_000_000;
const KOCH: Limits = Limits {
    step_m: 0.018,
    leash_m: 0.036,
    box_m: [[0.085, 0.185], [-0.065, 0.065], [0.012, 0.11]],
};

struct Rig {
    arm: ArmKind,
    limits: Limits,
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
    fn new(arm: ArmKind, limits: Limits) -> Self {
        let config = SceneConfig {
            arm,
            cameras: Vec::new(),
            ..SceneConfig::default()
        };
        let simulation = Simulation::new(&config).unwrap();
        let ik = Ik::new(simulation.chain().clone(), IkOptions::default());
        Self {
            arm,
            limits,
            simulation,
            ik,
            drops: 0,
        }
    }

    fn operator(
        &self,
        config: OperatorConfig,
        intention: Intention,
        seed: u64,
    ) -> ScriptedOperator {
        ScriptedOperator::new(self.arm.task(), config, intention, self.limits.step_m, seed)
    }

    fn episode(&mut self, mut operator: ScriptedOperator, range_m: f64, seed: u64) -> Outcome {
        let sim = &mut self.simulation;
        let Limits {
            step_m,
            leash_m,
            box_m,
        } = self.limits;
        sim.reset(&self.arm.task().random_start(range_m, seed))
            .unwrap();
        let mut joints = sim.arm_state().q;
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
                target[i] = (target[i] + action.motion[i] * step_m)
                    .clamp(box_m[i][0], box_m[i][1])
                    .clamp(tool - leash_m, tool + leash_m);
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
                let operator = self.operator(config, Intention::Lift, seed);
                self.episode(operator, range_m, seed)
            })
            .collect();
        assert!(
            outcomes.iter().all(|o| o.strayed_m < self.limits.leash_m),
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
    let (lifted, steps) =
        Rig::new(ArmKind::Desk6, DESK6).lifts(OperatorConfig::default(), 0.20, 40);
    assert!(lifted >= 38, "{lifted} of 40");
    assert!((11.0..18.0).contains(&steps), "{steps} steps");
}

#[test]
fn arms_of_servos_lift_from_anywhere_and_slowly_from_the_centre() {
    for (mut rig, range_m) in [
        (Rig::new(ArmKind::So101, SO101), 0.10),
        (Rig::new(ArmKind::Koch, KOCH), 0.07),
    ] {
        let (lifted, steps) = rig.lifts(OperatorConfig::default(), range_m, 40);
        assert!(lifted >= 38, "{lifted} of 40");
        assert!((9.0..18.0).contains(&steps), "{steps} steps");
        let slow = OperatorConfig {
            speed: 0.4,
            ..OperatorConfig::default()
        };
        let (lifted, steps) = rig.lifts(slow, 0.03, 40);
        assert!(lifted >= 38, "{lifted} of 40");
        assert!((15.0..36.0).contains(&steps), "{steps} steps");
    }
}

#[test]
fn a_slow_operator_lifts_from_the_centre() {
    let config = OperatorConfig {
        speed: 0.4,
        ..OperatorConfig::default()
    };
    let (lifted, steps) = Rig::new(ArmKind::Desk6, DESK6).lifts(config, 0.06, 40);
    assert!(lifted >= 38, "{lifted} of 40");
    assert!((24.0..36.0).contains(&steps), "{steps} steps");
}

#[test]
fn a_late_operator_still_lifts() {
    let config = OperatorConfig {
        reaction_steps: 1,
        ..OperatorConfig::default()
    };
    let (lifted, _) = Rig::new(ArmKind::Desk6, DESK6).lifts(config, 0.20, 20);
    assert!(lifted >= 17, "{lifted} of 20");
}

#[test]
fn a_miss_raises_a_closed_and_empty_hand() {
    for (mut rig, range_m) in [
        (Rig::new(ArmKind::Desk6, DESK6), 0.20),
        (Rig::new(ArmKind::So101, SO101), 0.10),
        (Rig::new(ArmKind::Koch, KOCH), 0.07),
    ] {
        let mut raised = 0;
        let task = rig.arm.task();
        for seed in 0..20 {
            let config = OperatorConfig::default();
            let operator = rig.operator(config, Intention::Miss, seed);
            let outcome = rig.episode(operator, range_m, seed);
            let truth = rig.simulation.truth();
            assert!(!outcome.lifted);
            assert!(truth.cube_height_m < 0.01, "seed {seed}: {truth:?}");
            let empty = truth.gripper_closed_command && truth.gripper_width_m < 0.01;
            raised += usize::from(empty && truth.tool_position_m[2] > task.lifted_m);
        }
        assert!(raised >= 19, "{raised} of 20");
    }
}

#[test]
fn a_cube_that_slips_is_grasped_again() {
    let mut rig = Rig::new(ArmKind::Desk6, DESK6);
    let mut lifted = 0;
    for seed in 0..10 {
        rig.drops = 1;
        let operator = rig.operator(OperatorConfig::default(), Intention::Lift, seed);
        let outcome = rig.episode(operator, 0.10, seed);
        assert_eq!(rig.drops, 0, "the cube was in the air once");
        lifted += usize::from(outcome.lifted);
    }
    assert!(lifted >= 9, "{lifted} of 10");
}
