//! Episodes: what an observation holds besides images, and how a step ends. Pure.

use hilt_drivers::{ArmState, TeleopEvent};
use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, SetupMode};
use serde::{Deserialize, Serialize};

use crate::safety::ArmTarget;

/// Numbers of proprioception per arm, in order. SI units in the arm's base frame; the command is
/// 1 open, -1 closed; the time since it changed saturates at one second.
pub const PROPRIO: [&str; 12] = [
    "tool_x",
    "tool_y",
    "tool_z",
    "target_error_x",
    "target_error_y",
    "target_error_z",
    "tool_velocity_x",
    "tool_velocity_y",
    "tool_velocity_z",
    "gripper_width",
    "gripper_command",
    "gripper_since",
];

/// Names of a mode's proprioception, arm after arm.
pub fn proprio_names(mode: SetupMode) -> Vec<String> {
    let prefixes: &[&str] = if mode.arms() == 1 {
        &[""]
    } else {
        &["left.", "right."]
    };
    prefixes
        .iter()
        .flat_map(|prefix| PROPRIO.iter().map(move |name| format!("{prefix}{name}")))
        .collect()
}

/// One arm's proprioception.
pub fn proprio(
    chain: &Chain,
    state: &ArmState,
    target: &ArmTarget,
    gripper_since_s: f64,
) -> [f32; PROPRIO.len()] {
    let (base_from_tool, jacobian) = chain.jacobian(state.joints.as_slice());
    let tool = base_from_tool.translation.vector;
    let error = target.base_from_tool.translation.vector - tool;
    let mut velocity = [0.0; 3];
    for (joint, qd) in state.velocities.as_slice().iter().enumerate() {
        for (axis, v) in velocity.iter_mut().enumerate() {
            *v += jacobian[(axis, joint)] * qd;
        }
    }
    let command = match target.gripper {
        GripperCommand::Open => 1.0,
        GripperCommand::Closed => -1.0,
    };
    [
        tool.x,
        tool.y,
        tool.z,
        error.x,
        error.y,
        error.z,
        velocity[0],
        velocity[1],
        velocity[2],
        state.gripper_width_m,
        command,
        gripper_since_s.clamp(0.0, 1.0),
    ]
    .map(|v| v as f32)
}

/// When the reward classifier's word counts as success.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierRules {
    /// The probability must be above this.
    pub threshold: f32,
    /// An arm's tool must be at least so high, metres in its base frame.
    pub tool_z_min_m: Option<f64>,
    /// … and its gripper commanded closed.
    pub gripper_closed: bool,
}

impl Default for ClassifierRules {
    fn default() -> Self {
        Self {
            threshold: 0.75,
            tool_z_min_m: None,
            gripper_closed: false,
        }
    }
}

/// What the state predicates look at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmFacts {
    /// Height of the tool in the arm's base frame, metres.
    pub tool_z_m: f64,
    /// Whether the gripper is commanded closed.
    pub closed: bool,
}

impl ClassifierRules {
    /// Whether the state predicates hold for any of the arms.
    pub fn predicates_hold(&self, arms: &[ArmFacts]) -> bool {
        arms.iter().any(|arm| {
            self.tool_z_min_m.is_none_or(|least| arm.tool_z_m >= least)
                && (arm.closed || !self.gripper_closed)
        })
    }

    /// Whether an observation is a success. Without a probability it is not.
    pub fn success(&self, probability: Option<f32>, arms: &[ArmFacts]) -> bool {
        probability.is_some_and(|p| p > self.threshold) && self.predicates_hold(arms)
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ending {
    /// 1 for success, else 0.
    pub reward: f32,
    /// The task ended.
    pub terminated: bool,
    /// Time ran out, or a person stopped the episode.
    pub truncated: bool,
    /// A person's word on the next observation.
    pub label: Option<bool>,
}

impl Ending {
    /// Whether the episode is over.
    pub fn over(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// Ends step number `steps` (from 1) of an episode. `judged`: the classifier says success.
/// `verdict` is asked only when the episode is over without a word from the person. A person's
/// word stands above the classifier's.
pub fn end_step(
    steps: u32,
    max_steps: u32,
    judged: bool,
    said: Option<TeleopEvent>,
    verdict: impl FnOnce() -> Option<bool>,
) -> Ending {
    let word = match said {
        Some(TeleopEvent::Success) => Some(true),
        Some(TeleopEvent::Failure) => Some(false),
        Some(TeleopEvent::Rerecord | TeleopEvent::Stop) => {
            return Ending {
                truncated: true,
                ..Ending::default()
            };
        }
        None if judged || steps >= max_steps => verdict(),
        None => return Ending::default(),
    };
    let success = word.unwrap_or(judged);
    Ending {
        reward: f32::from(u8::from(success)),
        terminated: success,
        // A failure is no end of the task: the value of where it stopped still counts.
        truncated: !success,
        label: word,
    }
}

#[cfg(test)]
mod tests {
    use hilt_drivers::{Arm, fake::FakeArmPair};

    use super::*;

    fn end(steps: u32, judged: bool, said: Option<TeleopEvent>, verdict: Option<bool>) -> Ending {
        end_step(steps, 100, judged, said, || verdict)
    }

    #[test]
    fn terminated_and_truncated_are_two_things() {
        assert_eq!(end(5, false, None, Some(true)), Ending::default());
        let success = Ending {
            reward: 1.0,
            terminated: true,
            ..Ending::default()
        };
        assert_eq!(end(5, true, None, None), success);
        let time_out = Ending {
            truncated: true,
            ..Ending::default()
        };
        assert_eq!(end(100, false, None, None), time_out);
        assert_eq!(
            end(100, true, None, None),
            success,
            "success in the last step is success"
        );
    }

    #[test]
    fn a_persons_word_stands_above_the_classifiers() {
        let yes = Ending {
            reward: 1.0,
            terminated: true,
            truncated: false,
            label: Some(true),
        };
        let no = Ending {
            reward: 0.0,
            terminated: false,
            truncated: true,
            label: Some(false),
        };
        assert_eq!(end(5, false, Some(TeleopEvent::Success), None), yes);
        assert_eq!(end(5, true, Some(TeleopEvent::Failure), None), no);
        assert_eq!(end(5, true, None, Some(false)), no);
        assert_eq!(end(100, false, None, Some(true)), yes);
        assert_eq!(end(100, false, None, Some(false)), no);
        let stopped = end(5, true, Some(TeleopEvent::Stop), Some(true));
        assert_eq!(
            stopped,
            Ending {
                truncated: true,
                ..Ending::default()
            }
        );
    }

    #[test]
    fn predicates_stand_beside_the_threshold() {
        let rules = ClassifierRules {
            threshold: 0.75,
            tool_z_min_m: Some(0.08),
            gripper_closed: true,
        };
        let at = |tool_z_m, closed| [ArmFacts { tool_z_m, closed }];
        assert!(rules.success(Some(0.8), &at(0.09, true)));
        assert!(
            !rules.success(Some(0.75), &at(0.09, true)),
            "above the threshold, not at it"
        );
        assert!(!rules.success(Some(0.8), &at(0.07, true)));
        assert!(!rules.success(Some(0.8), &at(0.09, false)));
        assert!(!rules.success(None, &at(0.09, true)));
        assert!(!rules.success(Some(f32::NAN), &at(0.09, true)));
    }

    #[test]
    fn two_arms_have_twice_the_numbers() {
        assert_eq!(proprio_names(SetupMode::SingleArmLearnedGripper).len(), 12);
        let names = proprio_names(SetupMode::DualArmFixedGripper);
        assert_eq!((names.len(), names[0].as_str()), (24, "left.tool_x"));
        assert_eq!(names[12], "right.tool_x");
    }

    #[test]
    fn proprioception_is_what_its_names_say() {
        let mut arm = FakeArmPair::new(1).unwrap().arm(0);
        let mut state = arm.read_state(0, 0).unwrap();
        let tool = arm.chain().base_from_tool(state.joints.as_slice());
        let mut aim = tool;
        aim.translation.z += 0.01;
        let target = ArmTarget {
            base_from_tool: aim,
            joints: state.joints,
            gripper: GripperCommand::Closed,
        };
        // The first joint turns about z: the tool moves along y at its radius.
        state.velocities.as_mut_slice()[0] = 2.0;
        let p = proprio(arm.chain(), &state, &target, 7.0);
        assert!((f64::from(p[2]) - tool.translation.z).abs() < 1e-6);
        assert!((p[5] - 0.01).abs() < 1e-6);
        assert!((f64::from(p[7]) - 2.0 * tool.translation.x).abs() < 1e-5);
        assert_eq!((p[10], p[11]), (-1.0, 1.0));
    }
}
