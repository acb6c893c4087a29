//! What a policy step decides: from whoever acts to the command of all arms. Pure.
//!
//! A [`Decision`] holds what went in and what came out, so that the same functions can be asked
//! again ([`Decision::again`]) and must say the same, bit for bit.

use hilt_drivers::{ArmState, Intent};
use hilt_protocol::{
    ActionSource, ArmCommand, Axis, GripperCommand, JointVector, MAX_ARMS, RigSpec,
};

use crate::{
    brain::random_action,
    control::{JointBounds, Targets},
    safety::{ActionRefused, ArmTarget, Filtered, SafetyFilter},
};

/// Where an action comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// A person, or who stands in for one.
    Intent(Intent),
    /// The policy, which gave this.
    Policy(Vec<f32>),
    /// Chance, drawn from the step's seed.
    Random,
    /// Nobody: the arms stay.
    Nobody,
}

/// Who acts in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Where the action comes from.
    pub by: By,
    /// As whose it is recorded.
    pub source: ActionSource,
    /// What the step's chance is drawn from.
    pub noise_seed: u64,
    /// The policy in force; 0: none.
    pub policy_version: u64,
}

impl Choice {
    /// An action that is given, whoever gives it.
    pub fn given(action: &[f32]) -> Self {
        Self {
            by: By::Policy(action.to_vec()),
            source: ActionSource::Policy,
            noise_seed: 0,
            policy_version: 0,
        }
    }

    /// The action, in the action space of the spec.
    pub fn action(&self, spec: &RigSpec) -> Vec<f32> {
        match &self.by {
            By::Intent(intent) => intent_action(intent, spec),
            By::Policy(action) => action.clone(),
            By::Random => random_action(spec, self.noise_seed),
            By::Nobody => vec![0.0; spec.action_dim()],
        }
    }
}

/// A person's intent as an action of the spec.
pub fn intent_action(intent: &Intent, spec: &RigSpec) -> Vec<f32> {
    let mut action = Vec::with_capacity(spec.action_dim());
    for (motion, gripper) in intent
        .motion
        .iter()
        .zip(intent.gripper)
        .take(spec.mode.arms())
    {
        action.extend(spec.controlled_axes.iter().map(|axis| match axis {
            Axis::X => motion[0] as f32,
            Axis::Y => motion[1] as f32,
            Axis::Z => motion[2] as f32,
            Axis::Roll => motion[3] as f32,
            Axis::Pitch => motion[4] as f32,
            Axis::Yaw => motion[5] as f32,
        }));
        if spec.mode.learned_gripper() {
            action.push(match gripper {
                Some(GripperCommand::Closed) => -1.0,
                Some(GripperCommand::Open) => 1.0,
                None => 0.0,
            });
        }
    }
    action
}

/// How an arm stands when it is decided where it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stand {
    /// What it reports.
    pub state: ArmState,
    /// Where it is heading.
    pub target: ArmTarget,
}

/// An action for all arms through each arm's filter.
pub fn filter(
    spec: &RigSpec,
    filters: &[SafetyFilter],
    stands: &[Stand],
    action: &[f32],
) -> Result<Vec<Filtered>, ActionRefused> {
    let (expected, got) = (spec.action_dim(), action.len());
    if expected != got {
        return Err(ActionRefused::Columns { expected, got });
    }
    let columns = spec.columns_per_arm();
    let parts = action.chunks_exact(columns).enumerate();
    parts
        .zip(filters.iter().zip(stands))
        .map(|((arm, part), (filter, stand))| {
            let filtered = filter.filter(&stand.target, part, &stand.state);
            filtered.map_err(|refused| match refused {
                // Named by its place in the whole action.
                ActionRefused::NotFinite(column) => {
                    ActionRefused::NotFinite(arm * columns + column)
                }
                other => other,
            })
        })
        .collect()
}

/// What the arms are told to reach these targets.
pub fn targets<'a>(heading: impl IntoIterator<Item = &'a ArmTarget>) -> Targets {
    let mut targets = [None; MAX_ARMS];
    for (slot, target) in targets.iter_mut().zip(heading) {
        *slot = Some((target.joints, target.gripper));
    }
    targets
}

/// An arm is home when no joint is farther from it, radians.
const HOME_RAD: f64 = 0.02;
/// On the way home the joints take this share of their highest speed.
const HOME_SHARE: f64 = 0.3;

/// A policy period of `period_ns` on the arms' way from `from` to `home`, slowly; `None`: they are
/// there.
pub fn homeward(
    from: &Targets,
    home: &JointVector,
    bounds: &[Option<JointBounds>; MAX_ARMS],
    period_ns: u64,
) -> Option<Targets> {
    let (mut targets, mut farthest) = (*from, 0.0f64);
    for (target, bounds) in targets.iter_mut().zip(bounds) {
        let (Some((joints, _)), Some(bounds)) = (target, bounds) else {
            continue;
        };
        let step = bounds.velocity_rad_s * HOME_SHARE * (period_ns as f64 * 1e-9);
        for (q, home) in joints.as_mut_slice().iter_mut().zip(home.as_slice()) {
            farthest = farthest.max((home - *q).abs());
            *q += (home - *q).clamp(-step, step);
        }
    }
    (farthest >= HOME_RAD).then_some(targets)
}

/// What led to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// A step.
    Step {
        /// Who acts.
        choice: Choice,
        /// How the arms stand.
        stands: Vec<Stand>,
        /// What is really commanded, as an action; empty where the action was refused.
        action: Vec<f32>,
    },
    /// The way home, before an episode.
    Home {
        /// Where the arms are being sent.
        from: Targets,
        /// Where home is.
        home: JointVector,
    },
}

/// A decision, what it was made from and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// When, nanoseconds on the run's clock.
    pub now_ns: u64,
    /// What led to it.
    pub why: Why,
    /// The command; `None` where the action was refused.
    pub command: Option<ArmCommand>,
    /// Whether the arms followed it; `None` where that is not known, because they were stopped.
    pub followed: Option<bool>,
    /// Over all of it: what the log's writer makes and what verification makes again.
    pub hash: u64,
}

/// What does not change in a run and decisions are made by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The layout of actions.
    pub spec: RigSpec,
    /// One for each arm.
    pub filters: Vec<SafetyFilter>,
    /// What each arm's joints may do.
    pub bounds: [Option<JointBounds>; MAX_ARMS],
    /// A policy period, nanoseconds.
    pub period_ns: u64,
}

impl Decision {
    /// What is decided from the same by the same rules. `None`: what it is made from cannot be; a
    /// rig never makes such a one.
    pub fn again(&self, rules: &Rules) -> Option<Self> {
        let (why, arms) = match &self.why {
            Why::Step { choice, stands, .. } => {
                if stands.len() != rules.filters.len() || !fit(stands, &rules.filters) {
                    return None;
                }
                let action = choice.action(&rules.spec);
                let filtered = filter(&rules.spec, &rules.filters, stands, &action).ok();
                let arms = filtered
                    .as_ref()
                    .map(|f| targets(f.iter().map(|f| &f.target)));
                let commanded = filtered.into_iter().flatten().flat_map(|f| f.commanded);
                let why = Why::Step {
                    choice: choice.clone(),
                    stands: stands.clone(),
                    action: commanded.collect(),
                };
                (why, arms)
            }
            Why::Home { from, home } => {
                let arms = homeward(from, home, &rules.bounds, rules.period_ns);
                (self.why.clone(), arms)
            }
        };
        let command = match (self.command, arms) {
            (Some(command), Some(arms)) => Some(ArmCommand { arms, ..command }),
            (None, Some(arms)) => Some(ArmCommand {
                sequence: 0,
                activate_ns: 0,
                arms,
            }),
            (_, None) => None,
        };
        Some(Self {
            why,
            command,
            ..self.clone()
        })
    }
}

/// The filters' arithmetic is for finite joints of their own arms.
fn fit(stands: &[Stand], filters: &[SafetyFilter]) -> bool {
    stands.iter().zip(filters).all(|(stand, filter)| {
        let joints = [stand.state.joints, stand.target.joints];
        let pose = stand.target.base_from_tool;
        let mut numbers = pose
            .translation
            .vector
            .iter()
            .chain(pose.rotation.coords.iter());
        let whole = |joints: &JointVector| {
            joints.as_slice().len() == filter.chain().dof()
                && joints.as_slice().iter().all(|q| q.is_finite())
        };
        joints.iter().all(whole) && numbers.all(|v| v.is_finite())
    })
}

#[cfg(test)]
mod tests {
    use hilt_protocol::GripperCommand;

    use super::*;

    fn joints(value: f64) -> JointVector {
        JointVector::from_slice(&[value; 2]).unwrap()
    }

    #[test]
    fn the_way_home_ends_at_home_and_is_slow() {
        let bounds = JointBounds {
            lower: joints(-3.0),
            upper: joints(3.0),
            velocity_rad_s: 1.0,
            acceleration_rad_s2: 10.0,
        };
        let bounds = [Some(bounds), None];
        let home = joints(0.5);
        let mut targets = [Some((joints(-0.5), GripperCommand::Open)), None];
        let mut commands = 0;
        while let Some(next) = homeward(&targets, &home, &bounds, 100_000_000) {
            let step = next[0].unwrap().0.as_slice()[0] - targets[0].unwrap().0.as_slice()[0];
            assert!(step > 0.0 && step < 0.03 + 1e-9, "{step}");
            targets = next;
            commands += 1;
        }
        let at = targets[0].unwrap().0.as_slice()[0];
        assert!((at - 0.5).abs() < HOME_RAD, "{at}");
        assert_eq!(commands, 33);
        assert_eq!(targets[1], None);
    }
}
