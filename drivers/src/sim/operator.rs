//! The scripted operator of the lift scene, who stands in for a person.

use std::{cell::Cell, collections::VecDeque, rc::Rc};

use hilt_protocol::{
    ActionSource, GripperCommand,
    noise::{Uniforms, mix},
};
use hilt_sim::{
    Intention, OperatorConfig, ScriptedOperator, TakeoverConfig, TakeoverPolicy, Task, Truth,
};

use crate::{Intent, Teleop, TeleopError, TeleopEvent};

/// What the scripted operator is there for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Every step is the operator's; says success when the cube is up.
    Demonstrate,
    /// Closes on nothing and lifts nothing; says failure when the empty hand is up.
    Miss,
    /// Goes about over the table, opening and closing; says nothing.
    Wander,
    /// Watches the policy and steps in when it is stuck.
    Intervene {
        /// How ready to.
        takeover: TakeoverConfig,
        /// What its chances are drawn from.
        seed: u64,
    },
}

/// The scripted operator as a teleop device: it stands in for a person and sees what a person at
/// the table would see, the truth.
pub struct SimOperator {
    truth: Box<dyn Fn() -> Result<Truth, TeleopError>>,
    task: Task,
    role: Role,
    config: OperatorConfig,
    step_m: f64,
    takeover: Option<TakeoverPolicy>,
    hand: ScriptedOperator,
    random: Uniforms,
    acting: bool,
    acted: bool,
    events: VecDeque<TeleopEvent>,
    said: bool,
    training_fraction: Rc<Cell<f64>>,
}

impl SimOperator {
    pub(super) fn new(
        truth: Box<dyn Fn() -> Result<Truth, TeleopError>>,
        task: Task,
        role: Role,
        config: OperatorConfig,
        step_m: f64,
    ) -> Self {
        let act = |intention| ScriptedOperator::new(task, config, intention, step_m, 0);
        let (takeover, hand) = match role {
            Role::Demonstrate => (None, act(Intention::Lift)),
            Role::Miss => (None, act(Intention::Miss)),
            Role::Wander => (None, act(Intention::Wander)),
            Role::Intervene { takeover, seed } => (
                Some(TakeoverPolicy::new(takeover, seed)),
                act(Intention::Lift),
            ),
        };
        Self {
            truth,
            task,
            role,
            config,
            step_m,
            takeover,
            hand,
            random: Uniforms::new(0),
            acting: false,
            acted: false,
            events: VecDeque::new(),
            said: false,
            training_fraction: Rc::new(Cell::new(0.0)),
        }
    }

    /// Where the caller tells how much of the training has passed, 0 to 1: as training goes on the
    /// operator trusts the policy more.
    pub fn training_fraction(&self) -> Rc<Cell<f64>> {
        Rc::clone(&self.training_fraction)
    }

    fn new_hand(&mut self) {
        let intention = match self.role {
            Role::Miss => Intention::Miss,
            Role::Wander => Intention::Wander,
            Role::Demonstrate | Role::Intervene { .. } => Intention::Lift,
        };
        let seed = self.random.bits();
        self.hand = ScriptedOperator::new(self.task, self.config, intention, self.step_m, seed);
    }

    fn say(&mut self, event: TeleopEvent) {
        if !self.said {
            self.said = true;
            self.events.push_back(event);
        }
    }
}

impl Teleop for SimOperator {
    fn source(&self) -> ActionSource {
        ActionSource::ScriptedOperator
    }

    fn begin_episode(&mut self, seed: u64) {
        self.random = Uniforms::new(mix(seed ^ 0x6861_6e64));
        self.events.clear();
        (self.acting, self.acted, self.said) = (false, false, false);
        if let Some(takeover) = &mut self.takeover {
            takeover.begin_episode();
        }
        self.new_hand();
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        let truth = (self.truth)()?;
        let acts = match &mut self.takeover {
            Some(takeover) => takeover.operator_acts(&truth, self.training_fraction.get()),
            None => true,
        };
        if acts && !self.acting && self.takeover.is_some() {
            self.new_hand();
        }
        self.acting = acts;
        if !acts {
            return Ok(None);
        }
        self.acted = true;
        let action = self.hand.act(&truth);
        let mut intent = Intent::still(now_ns);
        intent.motion[0][..3].copy_from_slice(&action.motion);
        intent.gripper[0] = match action.gripper {
            -1 => Some(GripperCommand::Closed),
            1 => Some(GripperCommand::Open),
            _ => None,
        };
        if self.role == Role::Miss && action.done {
            self.say(TeleopEvent::Failure);
        }
        Ok(Some(intent))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        // The button of a person who has had a hand in this episode and sees the cube up.
        let lifts = matches!(self.role, Role::Demonstrate | Role::Intervene { .. });
        if self.acted && lifts && (self.truth)()?.lifted {
            self.say(TeleopEvent::Success);
        }
        Ok(self.events.pop_front())
    }

    /// Of an episode with a hand in it always; of the policy's own, as closely as the operator
    /// watches by now.
    fn verdict(&mut self) -> Option<bool> {
        let looks = |takeover: &mut TakeoverPolicy| takeover.looks(self.training_fraction.get());
        let knows = self.acted || self.takeover.as_mut().is_some_and(looks);
        if !knows {
            return None;
        }
        (self.truth)().ok().map(|truth| truth.lifted)
    }
}
