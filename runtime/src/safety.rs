//! What an arm may be told: from an action to a joint target, and back to the action that was
//! really commanded. Pure.
//!
//! In this order: the action is clipped to [-1, 1] and scaled to a step of the Cartesian target;
//! the target is kept on a leash to the measured pose and inside the workspace; inverse kinematics
//! gives joints within their limits; the joints' step is held to their speed. Where one of these
//! bites, the stored action is what was left of it.

use hilt_drivers::ArmState;
use hilt_kinematics::{Chain, Ik, IkOptions};
use hilt_protocol::{Axis, GripperCommand, JointVector, RigSpec};
use nalgebra::{Isometry3, UnitQuaternion, Vector3};

/// Bounds on what any action may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SafetyLimits {
    /// Metres of a full translation column.
    pub step_m: f64,
    /// Radians of a full rotation column.
    pub step_rad: f64,
    /// The target stays so near the measured tool on each axis, metres.
    pub leash_m: f64,
    /// … and so near its orientation, radians.
    pub leash_rad: f64,
    /// Lowest corner of the tool's workspace, metres in the arm's base frame.
    pub workspace_min_m: [f64; 3],
    /// Highest corner.
    pub workspace_max_m: [f64; 3],
    /// Fastest joint, rad/s.
    pub joint_velocity_rad_s: f64,
    /// Time between actions, seconds.
    pub period_s: f64,
    /// What an arm of seven joints is drawn to where its tool does not care, radians.
    pub posture: Option<JointVector>,
}

/// What an arm is heading for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmTarget {
    /// The tool's target.
    pub base_from_tool: Isometry3<f64>,
    /// The joints that belong to it, radians.
    pub joints: JointVector,
    /// The gripper's command.
    pub gripper: GripperCommand,
}

/// Why an action is not executed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionRefused {
    /// A column is NaN or infinite.
    #[error("column {0} of the action is not a finite number")]
    NotFinite(usize),
    /// It does not have the columns of the rig's spec.
    #[error("the action has {got} columns, the rig's spec {expected}")]
    Columns {
        /// What the spec says.
        expected: usize,
        /// What came.
        got: usize,
    },
}

/// An action after the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Filtered {
    /// What the arm is told.
    pub target: ArmTarget,
    /// The same as columns of an action: motion in [-1, 1]; gripper -1, 0 or 1.
    pub commanded: Vec<f32>,
    /// The gripper's command changed.
    pub toggled: bool,
    /// What held the action back.
    pub limits: LimitsHit,
}

/// Which limits held an action back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsHit {
    /// A column may not be beyond [-1, 1].
    pub bounds: bool,
    /// The target may not be farther from the measured tool.
    pub leash: bool,
    /// The target may not leave the workspace.
    pub workspace: bool,
    /// The joints may not be faster.
    pub speed: bool,
    /// No joints within their limits reach the target.
    pub reach: bool,
}

impl LimitsHit {
    /// Whether any was hit.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// The names of those that were hit.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.bounds, "bounds"),
            (self.leash, "leash"),
            (self.workspace, "workspace"),
            (self.speed, "speed"),
            (self.reach, "reach"),
        ];
        let hit = all.into_iter().filter(|(hit, _)| *hit);
        hit.map(|(_, name)| name).collect()
    }
}

/// The target counts as met by its joints when no farther than this, metres and radians.
const MET_M: f64 = 1e-3;
const MET_RAD: f64 = 1e-2;
/// A gripper column beyond this is a command: the middle between "stay" and either end.
const GRIPPER_THRESHOLD: f32 = 0.5;

/// The filter of one arm.
#[derive(Clone, Debug)]
pub struct SafetyFilter {
    ik: Ik,
    limits: SafetyLimits,
    axes: Vec<Axis>,
    learned_gripper: bool,
}

impl SafetyFilter {
    /// For an arm of this chain in a rig of this spec.
    pub fn new(chain: Chain, spec: &RigSpec, limits: SafetyLimits) -> Self {
        // Six joints have nothing to spare: which pose of the elbow is best is a question of seven.
        let posture = limits.posture.filter(|_| chain.dof() > 6);
        let options = IkOptions {
            posture,
            ..IkOptions::default()
        };
        Self {
            ik: Ik::new(chain, options),
            limits,
            axes: spec.controlled_axes.clone(),
            learned_gripper: spec.mode.learned_gripper(),
        }
    }

    /// The chain it knows the arm by.
    pub fn chain(&self) -> &Chain {
        self.ik.chain()
    }

    /// The target of an arm that stays at `joints`.
    pub fn target_at(&self, joints: &JointVector, gripper: GripperCommand) -> ArmTarget {
        let mut joints = *joints;
        self.chain().clamp(joints.as_mut_slice());
        ArmTarget {
            base_from_tool: self.chain().base_from_tool(joints.as_slice()),
            joints,
            gripper,
        }
    }

    /// Columns of an action that belong to one arm.
    pub fn columns(&self) -> usize {
        self.axes.len() + usize::from(self.learned_gripper)
    }

    /// Filters one arm's columns of an action.
    pub fn filter(
        &self,
        target: &ArmTarget,
        action: &[f32],
        measured: &ArmState,
    ) -> Result<Filtered, ActionRefused> {
        if action.len() != self.columns() {
            return Err(ActionRefused::Columns {
                expected: self.columns(),
                got: action.len(),
            });
        }
        if let Some(column) = action.iter().position(|v| !v.is_finite()) {
            return Err(ActionRefused::NotFinite(column));
        }
        let mut limits = LimitsHit {
            bounds: action.iter().any(|v| v.abs() > 1.0),
            ..LimitsHit::default()
        };
        let goal = self.goal(target, action, measured, &mut limits);
        let (base_from_tool, joints) = self.joints_for(target, &goal, &mut limits);
        let gripper = match action.get(self.axes.len()) {
            Some(&v) if v < -GRIPPER_THRESHOLD => GripperCommand::Closed,
            Some(&v) if v > GRIPPER_THRESHOLD => GripperCommand::Open,
            _ => target.gripper,
        };
        let next = ArmTarget {
            base_from_tool,
            joints,
            gripper,
        };
        let commanded = self.commanded(target, &next, action.get(self.axes.len()).copied());
        Ok(Filtered {
            target: next,
            commanded,
            toggled: gripper != target.gripper,
            limits,
        })
    }

    /// The Cartesian target: a step on from the last one, on the leash, in the workspace.
    fn goal(
        &self,
        target: &ArmTarget,
        action: &[f32],
        measured: &ArmState,
        hit: &mut LimitsHit,
    ) -> Isometry3<f64> {
        let limits = &self.limits;
        let mut shift = Vector3::zeros();
        let mut turn = Vector3::zeros();
        for (axis, &value) in self.axes.iter().zip(action) {
            let value = f64::from(value.clamp(-1.0, 1.0));
            match axis {
                Axis::X => shift.x = value,
                Axis::Y => shift.y = value,
                Axis::Z => shift.z = value,
                Axis::Roll => turn.x = value,
                Axis::Pitch => turn.y = value,
                Axis::Yaw => turn.z = value,
            }
        }
        let mut goal = target.base_from_tool;
        goal.translation.vector += shift * limits.step_m;
        goal.rotation = UnitQuaternion::from_scaled_axis(turn * limits.step_rad) * goal.rotation;
        let here = self.chain().base_from_tool(measured.joints.as_slice());
        for i in 0..3 {
            let (at, wanted) = (here.translation.vector[i], goal.translation.vector[i]);
            let near = wanted.clamp(at - limits.leash_m, at + limits.leash_m);
            let inside = near.clamp(limits.workspace_min_m[i], limits.workspace_max_m[i]);
            hit.leash |= near != wanted;
            hit.workspace |= inside != near;
            goal.translation.vector[i] = inside;
        }
        let apart = (goal.rotation * here.rotation.inverse()).scaled_axis();
        if apart.norm() > limits.leash_rad {
            let kept = apart * (limits.leash_rad / apart.norm());
            goal.rotation = UnitQuaternion::from_scaled_axis(kept) * here.rotation;
            hit.leash = true;
        }
        goal
    }

    /// Joints for the goal, no faster than allowed, and the pose that they really mean.
    fn joints_for(
        &self,
        target: &ArmTarget,
        goal: &Isometry3<f64>,
        hit: &mut LimitsHit,
    ) -> (Isometry3<f64>, JointVector) {
        let mut joints = self.ik.solve(goal, &target.joints).joints;
        let largest = joints
            .as_slice()
            .iter()
            .zip(target.joints.as_slice())
            .map(|(to, from)| (to - from).abs())
            .fold(0.0, f64::max);
        let allowed = self.limits.joint_velocity_rad_s * self.limits.period_s;
        hit.speed = largest > allowed;
        if hit.speed {
            // All joints by the same share, so that the way stays the same.
            let share = allowed / largest;
            for (to, from) in joints
                .as_mut_slice()
                .iter_mut()
                .zip(target.joints.as_slice())
            {
                *to = from + (*to - from) * share;
            }
        }
        let reached = self.chain().base_from_tool(joints.as_slice());
        if near(&reached, goal) {
            return (*goal, joints);
        }
        // A joint that is too slow gets there later.
        hit.reach = !hit.speed;
        if self.outside_m(&reached) > self.outside_m(&target.base_from_tool) + MET_M {
            // What inverse kinematics found nearest lies outside: better not to move.
            (target.base_from_tool, target.joints)
        } else {
            (reached, joints)
        }
    }

    /// How far a pose is outside the workspace, metres on the worst axis; 0 inside.
    fn outside_m(&self, pose: &Isometry3<f64>) -> f64 {
        (0..3)
            .map(|i| {
                let at = pose.translation.vector[i];
                (self.limits.workspace_min_m[i] - at).max(at - self.limits.workspace_max_m[i])
            })
            .fold(0.0, f64::max)
    }

    fn commanded(&self, from: &ArmTarget, to: &ArmTarget, gripper: Option<f32>) -> Vec<f32> {
        let shift = to.base_from_tool.translation.vector - from.base_from_tool.translation.vector;
        let rotation = to.base_from_tool.rotation * from.base_from_tool.rotation.inverse();
        let turn = rotation.scaled_axis() / self.limits.step_rad;
        let shift = shift / self.limits.step_m;
        let mut columns: Vec<f32> = self
            .axes
            .iter()
            .map(|axis| match axis {
                Axis::X => shift.x,
                Axis::Y => shift.y,
                Axis::Z => shift.z,
                Axis::Roll => turn.x,
                Axis::Pitch => turn.y,
                Axis::Yaw => turn.z,
            })
            .map(|value| value.clamp(-1.0, 1.0) as f32)
            .collect();
        if let Some(gripper) = gripper {
            columns.push(if gripper < -GRIPPER_THRESHOLD {
                -1.0
            } else if gripper > GRIPPER_THRESHOLD {
                1.0
            } else {
                0.0
            });
        }
        columns
    }
}

fn near(a: &Isometry3<f64>, b: &Isometry3<f64>) -> bool {
    (a.translation.vector - b.translation.vector).norm() < MET_M
        && a.rotation.angle_to(&b.rotation) < MET_RAD
}

#[cfg(test)]
mod tests {
    use hilt_drivers::{Arm, fake::FakeArmPair};
    use hilt_protocol::{CameraSpec, SetupMode};
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SafetyLimits = SafetyLimits {
        step_m: 0.025,
        step_rad: 0.1,
        leash_m: 0.05,
        leash_rad: 0.3,
        workspace_min_m: [0.1, -0.2, 0.1],
        workspace_max_m: [0.6, 0.2, 0.5],
        joint_velocity_rad_s: 3.0,
        period_s: 0.1,
        posture: None,
    };

    fn filter_with(axes: &[Axis], limits: SafetyLimits) -> (SafetyFilter, ArmState) {
        let mut arm = FakeArmPair::new(1).unwrap().arm(0);
        let spec = RigSpec {
            mode: SetupMode::SingleArmLearnedGripper,
            controlled_axes: axes.to_vec(),
            cameras: vec![CameraSpec {
                name: "front".into(),
                height: 16,
                width: 16,
            }],
            proprio: vec![],
            policy_hz: 10,
        };
        let state = arm.read_state(0, 0).unwrap();
        (SafetyFilter::new(arm.chain().clone(), &spec, limits), state)
    }

    fn xyz() -> (SafetyFilter, ArmState) {
        filter_with(&[Axis::X, Axis::Y, Axis::Z], LIMITS)
    }

    #[test]
    fn a_small_action_is_commanded_as_it_is() {
        let (filter, state) = xyz();
        let target = filter.target_at(&state.joints, GripperCommand::Open);
        let out = filter
            .filter(&target, &[0.5, -0.25, 0.3, -0.9], &state)
            .unwrap();
        for (got, want) in out.commanded.iter().zip([0.5, -0.25, 0.3, -1.0]) {
            assert!((got - want).abs() < 1e-5, "{:?}", out.commanded);
        }
        assert_eq!(
            (out.target.gripper, out.toggled),
            (GripperCommand::Closed, true)
        );
        let again = filter
            .filter(&out.target, &[0.0, 0.0, 0.0, -1.0], &state)
            .unwrap();
        assert!(!again.toggled);
    }

    #[test]
    fn turns_are_commanded_as_they_are() {
        let (filter, state) = filter_with(&[Axis::Roll, Axis::Yaw], LIMITS);
        let target = filter.target_at(&state.joints, GripperCommand::Open);
        let out = filter.filter(&target, &[0.4, -0.6, 0.0], &state).unwrap();
        for (got, want) in out.commanded.iter().zip([0.4, -0.6, 0.0]) {
            assert!((got - want).abs() < 1e-4, "{:?}", out.commanded);
        }
    }

    #[test]
    fn the_leash_stops_a_target_that_the_arm_does_not_follow() {
        let (filter, state) = xyz();
        let start = filter.target_at(&state.joints, GripperCommand::Open);
        let mut target = start;
        let mut last = Vec::new();
        for _ in 0..5 {
            let out = filter
                .filter(&target, &[0.0, 1.0, 0.0, 0.0], &state)
                .unwrap();
            (target, last) = (out.target, out.commanded);
        }
        let gone = target.base_from_tool.translation.y - start.base_from_tool.translation.y;
        assert!((gone - 0.05).abs() < 1e-9, "{gone}");
        assert_eq!(
            last[1], 0.0,
            "what is stored is what was left of the action"
        );
    }

    #[test]
    fn what_held_an_action_back_is_named() {
        let (filter, state) = xyz();
        let target = filter.target_at(&state.joints, GripperCommand::Open);
        let hit = |filter: &SafetyFilter, target: &ArmTarget, action: [f32; 4]| {
            let out = filter.filter(target, &action, &state).unwrap();
            (out.limits.names(), out.target)
        };
        assert_eq!(hit(&filter, &target, [0.5, 0.5, 0.0, -1.0]).0, [""; 0]);
        assert_eq!(hit(&filter, &target, [0.5, 0.5, 0.0, 1.5]).0, ["bounds"]);
        let mut far = target;
        for _ in 0..2 {
            far = hit(&filter, &far, [0.0, 1.0, 0.0, 0.0]).1;
        }
        assert_eq!(hit(&filter, &far, [0.0, 1.0, 0.0, 0.0]).0, ["leash"]);
        let height = target.base_from_tool.translation.z;
        let low = SafetyLimits {
            workspace_min_m: [0.1, -0.2, height - 0.01],
            ..LIMITS
        };
        let axes = [Axis::X, Axis::Y, Axis::Z];
        let (narrow, _) = filter_with(&axes, low);
        assert_eq!(
            hit(&narrow, &target, [0.0, 0.0, -1.0, 0.0]).0,
            ["workspace"]
        );
        let slow = SafetyLimits {
            joint_velocity_rad_s: 0.1,
            ..LIMITS
        };
        let (slow, _) = filter_with(&axes, slow);
        assert_eq!(hit(&slow, &target, [0.0, 1.0, 0.0, 0.0]).0, ["speed"]);
        let wide = SafetyLimits {
            workspace_max_m: [5.0; 3],
            leash_m: 1.0,
            step_m: 1.0,
            joint_velocity_rad_s: 20.0,
            period_s: 1.0,
            ..LIMITS
        };
        let (wide, _) = filter_with(&axes, wide);
        assert_eq!(hit(&wide, &target, [1.0, 0.0, 0.0, 0.0]).0, ["reach"]);
    }

    #[test]
    fn a_slow_joint_limit_slows_the_command() {
        let limits = SafetyLimits {
            joint_velocity_rad_s: 0.1,
            ..LIMITS
        };
        let (filter, state) = filter_with(&[Axis::X, Axis::Y, Axis::Z], limits);
        let target = filter.target_at(&state.joints, GripperCommand::Open);
        let out = filter
            .filter(&target, &[0.0, 1.0, 0.0, 0.0], &state)
            .unwrap();
        assert!(
            out.commanded[1] > 0.01 && out.commanded[1] < 0.9,
            "{:?}",
            out.commanded
        );
        for (to, from) in out
            .target
            .joints
            .as_slice()
            .iter()
            .zip(target.joints.as_slice())
        {
            assert!((to - from).abs() <= 0.01 + 1e-12);
        }
    }

    #[test]
    fn what_is_no_number_moves_nothing() {
        let (filter, state) = xyz();
        let target = filter.target_at(&state.joints, GripperCommand::Open);
        for (column, value) in [(0, f32::NAN), (3, f32::INFINITY)] {
            let mut action = [0.0; 4];
            action[column] = value;
            let refused = filter.filter(&target, &action, &state).unwrap_err();
            assert_eq!(refused, ActionRefused::NotFinite(column));
        }
        let short = filter.filter(&target, &[0.0; 3], &state).unwrap_err();
        assert_eq!(
            short,
            ActionRefused::Columns {
                expected: 4,
                got: 3
            }
        );
    }

    proptest! {
        #[test]
        fn no_walk_leaves_workspace_limits_or_speed(
            actions in prop::collection::vec(prop::array::uniform7(-3.0f32..3.0), 1..40)
        ) {
            let axes = [Axis::X, Axis::Y, Axis::Z, Axis::Roll, Axis::Pitch, Axis::Yaw];
            let (filter, mut state) = filter_with(&axes, LIMITS);
            let mut target = filter.target_at(&state.joints, GripperCommand::Open);
            for action in actions {
                let out = filter.filter(&target, &action, &state).unwrap();
                for i in 0..3 {
                    let at = out.target.base_from_tool.translation.vector[i];
                    prop_assert!(at > LIMITS.workspace_min_m[i] - 2.0 * MET_M);
                    prop_assert!(at < LIMITS.workspace_max_m[i] + 2.0 * MET_M);
                }
                let means = filter.chain().base_from_tool(out.target.joints.as_slice());
                prop_assert!(near(&means, &out.target.base_from_tool));
                let joints = out.target.joints.as_slice().iter().zip(filter.chain().joints());
                for ((q, joint), from) in joints.zip(target.joints.as_slice()) {
                    prop_assert!(*q >= joint.lower && *q <= joint.upper);
                    prop_assert!((q - from).abs() <= 0.3 + 1e-9);
                }
                prop_assert!(out.commanded.iter().all(|v| (-1.0..=1.0).contains(v)));
                target = out.target;
                state.joints = target.joints;
            }
        }
    }
}
