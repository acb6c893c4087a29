//! The scripted operator: stands in for a person in simulated runs, and everything that reports on
//! such a run says so. It sees the truth, as a person sees the table.

use std::collections::VecDeque;

use hilt_protocol::noise::{Uniforms, mix};
use serde::{Deserialize, Serialize};

use crate::{Truth, arm::Task};

/// The operator's hand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorConfig {
    /// Share of full speed, in (0, 1].
    pub speed: f64,
    /// Standard deviation of the noise on each motion column, in units of the action.
    pub noise_std: f64,
    /// The operator sees the cube as it was so many steps ago; the own hand is felt at once.
    pub reaction_steps: usize,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            speed: 1.0,
            noise_std: 0.15,
            reaction_steps: 0,
        }
    }
}

/// What the operator tries in an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intention {
    /// Grasp the cube and lift it, again if it slipped.
    Lift,
    /// Close beside the cube, or above it, and raise an empty hand: what failure looks like, for
    /// the reward classifier.
    Miss,
    /// Go about over the table, opening and closing now and then: what is no success although the
    /// hand may be anywhere.
    Wander,
}

/// What the operator does in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatorAction {
    /// x, y, z in [-1, 1], in the arm's base frame; 1 is `step_m`.
    pub motion: [f64; 3],
    /// -1 close, 0 stay, 1 open.
    pub gripper: i8,
    /// The intention is fulfilled: the cube is up, or the empty hand is.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Over the cube, then down to it, with an open hand.
    Approach,
    /// Waiting for the fingers, so many steps so far.
    Close(u32),
    /// Up.
    Raise,
}

/// Near enough above the cube to go down, metres.
const ALIGNED_M: f64 = 0.012;
/// Farther aside than this a low hand rises first, so that it does not push the cube, metres.
const BESIDE_M: f64 = 0.03;
/// Near enough to the height of the grasp to close, metres.
const DOWN_M: f64 = 0.008;
/// Near enough to a waypoint, metres.
const WAYPOINT_NEAR_M: f64 = 0.02;
/// Share of the remaining way that a step asks for: the arm lags behind its target, so asking for
/// all of it overshoots.
const GAIN: f64 = 0.9;

/// One episode's, or one takeover's, operator. A pure function of its seed and what it is shown.
#[derive(Clone, Debug)]
pub struct ScriptedOperator {
    task: Task,
    config: OperatorConfig,
    intention: Intention,
    step_m: f64,
    uniforms: Uniforms,
    /// `None` until the first step shows whether the hand is closed.
    phase: Option<Phase>,
    /// What is still to be seen, oldest first.
    seen: VecDeque<Truth>,
    /// How high to wait above the cube until aligned, metres; drawn per attempt.
    hover_m: f64,
    /// A miss's grasp: metres above the cube's centre, and aside of it.
    miss_above_m: f64,
    miss_aside_m: f64,
    miss_turn_rad: f64,
    /// Where a wanderer is going: metres from the cube's place on the table.
    waypoint_m: [f64; 3],
}

impl ScriptedOperator {
    /// An operator for one episode or takeover of a task. `step_m`: metres of a full motion column.
    pub fn new(
        task: Task,
        config: OperatorConfig,
        intention: Intention,
        step_m: f64,
        seed: u64,
    ) -> Self {
        let mut uniforms = Uniforms::new(mix(seed ^ 0x6f70_6572_6174));
        let hover_m = within(&mut uniforms, task.hover_m);
        let above = uniforms.open01() < 0.3;
        Self {
            task,
            config,
            intention,
            step_m,
            phase: None,
            seen: VecDeque::with_capacity(config.reaction_steps + 1),
            hover_m,
            miss_above_m: if above {
                within(&mut uniforms, task.miss_above_m)
            } else {
                0.0
            },
            miss_aside_m: if above {
                0.0
            } else {
                within(&mut uniforms, task.miss_aside_m)
            },
            miss_turn_rad: uniforms.range(-1.0, 1.0),
            waypoint_m: waypoint(&task, &mut uniforms),
            uniforms,
        }
    }

    /// The next action.
    pub fn act(&mut self, truth: &Truth) -> OperatorAction {
        self.seen.push_back(*truth);
        if self.seen.len() > self.config.reaction_steps + 1 {
            self.seen.pop_front();
        }
        let seen = *self.seen.front().unwrap_or(truth);
        let (way, gripper) = match self.intention {
            Intention::Wander => self.wander(&seen, truth.tool_position_m),
            Intention::Lift | Intention::Miss => self.decide(&seen, truth.tool_position_m),
        };
        let motion = way.map(|metres| {
            let speed = self.config.speed;
            let wanted = (GAIN * metres / self.step_m).clamp(-speed, speed);
            (wanted + self.config.noise_std * self.uniforms.normal()).clamp(-1.0, 1.0)
        });
        let raised = seen.tool_position_m[2] - self.task.cube_half_m > self.task.lifted_m;
        let done = match self.intention {
            Intention::Lift => seen.lifted,
            Intention::Miss => self.phase == Some(Phase::Raise) && raised,
            Intention::Wander => false,
        };
        OperatorAction {
            motion,
            gripper,
            done,
        }
    }

    /// The way to go from `tool`, metres, and the gripper's command.
    fn decide(&mut self, seen: &Truth, tool: [f64; 3]) -> ([f64; 3], i8) {
        // A cube that fell off the table, or was never on it, is looked for on the table.
        let [x, y, z] = seen.cube_position_m;
        let cube = [x, y, z.max(self.task.cube_half_m)];
        let between = |a: [f64; 3], b: [f64; 3]| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
        let up = [0.0, 0.0, 2.0 * self.step_m];
        let phase = self.phase.unwrap_or(if seen.gripper_closed_command {
            Phase::Raise
        } else {
            Phase::Approach
        });
        let (phase, way, gripper) = match phase {
            Phase::Approach => {
                let aim = self.aim(cube);
                let way = between(aim, tool);
                let aside = way[0].hypot(way[1]);
                if seen.gripper_closed_command {
                    (Phase::Approach, up, 1)
                } else if aside < ALIGNED_M && way[2].abs() < DOWN_M {
                    (Phase::Close(0), [way[0], way[1], 0.0], -1)
                } else if aside < ALIGNED_M {
                    (Phase::Approach, way, 0)
                } else if aside > BESIDE_M && way[2] > -0.5 * self.hover_m {
                    (Phase::Approach, up, 0)
                } else {
                    let rise = way[2] + self.hover_m;
                    (Phase::Approach, [way[0], way[1], rise], 0)
                }
            }
            Phase::Close(steps) if steps + 1 < self.task.closing_steps => {
                (Phase::Close(steps + 1), [0.0; 3], 0)
            }
            Phase::Close(_) => (Phase::Raise, up, 0),
            Phase::Raise => {
                // Both as they were at one time.
                let off = between(cube, seen.tool_position_m)
                    .iter()
                    .map(|d| d * d)
                    .sum::<f64>()
                    .sqrt();
                if self.intention == Intention::Lift && off > self.task.in_hand_m {
                    self.hover_m = within(&mut self.uniforms, self.task.hover_m);
                    (Phase::Approach, up, 1)
                } else {
                    (Phase::Raise, up, 0)
                }
            }
        };
        self.phase = Some(phase);
        (way, gripper)
    }

    /// From waypoint to waypoint, mostly near the cube; the hand opens and closes as it comes.
    fn wander(&mut self, seen: &Truth, tool: [f64; 3]) -> ([f64; 3], i8) {
        let [x, y, _] = seen.cube_position_m;
        let aim = [
            x + self.waypoint_m[0],
            y + self.waypoint_m[1],
            self.task.cube_half_m + self.waypoint_m[2],
        ];
        let way: [f64; 3] = std::array::from_fn(|i| aim[i] - tool[i]);
        if way.iter().all(|d| d.abs() < WAYPOINT_NEAR_M) || self.uniforms.open01() < 0.05 {
            self.waypoint_m = waypoint(&self.task, &mut self.uniforms);
        }
        let toggles = self.uniforms.open01() < 0.08;
        let gripper = match (toggles, seen.gripper_closed_command) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => -1,
        };
        (way, gripper)
    }

    /// Where to close: on the cube, or where a miss goes.
    fn aim(&self, cube: [f64; 3]) -> [f64; 3] {
        if self.intention == Intention::Lift {
            return cube;
        }
        // Aside is towards the centre, give or take, so that it stays within the work area.
        let [x, y] = self.task.centre_xy_m;
        let inward = (y - cube[1]).atan2(x - cube[0]);
        let (sin, cos) = (inward + self.miss_turn_rad).sin_cos();
        [
            cube[0] + self.miss_aside_m * cos,
            cube[1] + self.miss_aside_m * sin,
            cube[2] + self.miss_above_m,
        ]
    }
}

fn within(uniforms: &mut Uniforms, [low, high]: [f64; 2]) -> f64 {
    uniforms.range(low, high)
}

/// Low ones are beside the cube or over it; most are as high as a hand that has just lifted.
fn waypoint(task: &Task, uniforms: &mut Uniforms) -> [f64; 3] {
    let near = uniforms.open01() < 0.5;
    let aside = if near { 0.03 } else { task.wander_aside_m };
    [
        uniforms.range(-aside, aside),
        uniforms.range(-aside, aside),
        within(uniforms, task.wander_height_m),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ArmKind;

    const TASK: Task = ArmKind::Desk6.task();

    fn truth(tool: [f64; 3], cube: [f64; 3], closed: bool) -> Truth {
        Truth {
            cube_position_m: cube,
            cube_height_m: cube[2] - TASK.cube_half_m,
            cube_yaw_rad: 0.0,
            tool_position_m: tool,
            gripper_width_m: if closed { 0.04 } else { 0.084 },
            gripper_closed_command: closed,
            lifted: closed && cube[2] > TASK.cube_half_m + TASK.lifted_m,
        }
    }

    fn steady(reaction_steps: usize) -> ScriptedOperator {
        let config = OperatorConfig {
            speed: 1.0,
            noise_std: 0.0,
            reaction_steps,
        };
        ScriptedOperator::new(TASK, config, Intention::Lift, 0.025, 1)
    }

    const CUBE: [f64; 3] = [0.45, 0.05, 0.02];

    #[test]
    fn it_goes_over_the_cube_then_down_then_closes_then_up() {
        let far = steady(0).act(&truth([0.45, -0.1, 0.18], CUBE, false));
        assert_eq!((far.motion[1], far.gripper), (1.0, 0));
        assert!(far.motion[2] < 0.0, "18 cm is above hovering height");

        let over = steady(0).act(&truth([0.45, 0.05, 0.10], CUBE, false));
        assert_eq!((over.motion, over.gripper), ([0.0, 0.0, -1.0], 0));

        let mut operator = steady(0);
        let down = truth([0.45, 0.05, 0.021], CUBE, false);
        assert_eq!(operator.act(&down).gripper, -1);
        let held = truth([0.45, 0.05, 0.021], CUBE, true);
        assert_eq!(operator.act(&held).motion, [0.0; 3]);
        let raise = operator.act(&held);
        assert_eq!((raise.motion, raise.gripper), ([0.0, 0.0, 1.0], 0));
        let up = operator.act(&truth([0.45, 0.05, 0.13], [0.45, 0.05, 0.13], true));
        assert!(up.done);
    }

    #[test]
    fn it_takes_over_from_any_state() {
        // The policy holds the cube: up with it.
        let held = steady(0).act(&truth([0.45, 0.05, 0.06], [0.45, 0.05, 0.06], true));
        assert_eq!((held.motion[2], held.gripper), (1.0, 0));
        // The policy has closed on nothing: open, and away from the table.
        let empty = steady(0).act(&truth([0.40, -0.05, 0.02], CUBE, true));
        assert_eq!((empty.motion[2], empty.gripper), (1.0, 1));
        // A low hand beside the cube rises before it moves aside.
        let low = steady(0).act(&truth([0.45, 0.0, 0.02], CUBE, false));
        assert_eq!(low.motion, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn reaction_is_late_by_so_many_steps() {
        let before = truth([0.45, 0.05, 0.10], CUBE, false);
        let moved = truth([0.45, 0.05, 0.10], [0.45, -0.05, 0.02], false);
        let mut operator = steady(2);
        operator.act(&before);
        assert_eq!(operator.act(&moved).motion[1], 0.0);
        assert_eq!(operator.act(&moved).motion[1], 0.0);
        assert!(operator.act(&moved).motion[1] < 0.0);
    }

    #[test]
    fn equal_seeds_act_alike_and_others_do_not() {
        let act = |seed| {
            let config = OperatorConfig::default();
            ScriptedOperator::new(TASK, config, Intention::Lift, 0.025, seed).act(&truth(
                [0.4, 0.0, 0.18],
                CUBE,
                false,
            ))
        };
        assert_eq!(act(3), act(3));
        assert_ne!(act(3).motion, act(4).motion);
    }
}
