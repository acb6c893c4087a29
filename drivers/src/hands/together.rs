//! Devices together: one for each arm, and a keyboard beside.

use hilt_protocol::{ActionSource, MAX_ARMS};

use super::HandDevice;
use crate::{Intent, Teleop, TeleopError, TeleopEvent};

/// Two motions at once, of at most a full step.
fn sum(a: [f64; 6], b: [f64; 6]) -> [f64; 6] {
    std::array::from_fn(|axis| (a[axis] + b[axis]).clamp(-1.0, 1.0))
}

/// One device for each arm, in the arms' order. When a hand is on one of them, the person acts with
/// all arms.
pub struct PerArm(pub Vec<Box<dyn HandDevice>>);

impl Teleop for PerArm {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, seed: u64) {
        self.0.iter_mut().for_each(|one| one.begin_episode(seed));
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        let mut both: Option<Intent> = None;
        for (arm, device) in self.0.iter_mut().enumerate().take(MAX_ARMS) {
            let Some(one) = device.intent(now_ns)? else {
                continue;
            };
            let both = both.get_or_insert(Intent::still(one.captured_ns));
            both.captured_ns = both.captured_ns.min(one.captured_ns);
            (both.motion[arm], both.gripper[arm]) = (one.motion[0], one.gripper[0]);
        }
        Ok(both)
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        for device in &mut self.0 {
            if let Some(event) = device.event()? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn verdict(&mut self) -> Option<bool> {
        // All are asked: a word that stays would be taken for the next episode's.
        let said: Vec<_> = self.0.iter_mut().map(|one| one.verdict()).collect();
        said.into_iter().flatten().next()
    }
}

impl HandDevice for PerArm {
    fn take(&mut self, taken: bool) {
        self.0.iter_mut().for_each(|one| one.take(taken));
    }
}

/// A device in one hand and a keyboard under the other: its words count, and it takes over and
/// hands back for both.
pub struct WithKeys<H, K> {
    hand: H,
    keys: K,
    /// The keyboard says that the person acts.
    taken: bool,
}

impl<H: HandDevice, K: Teleop> WithKeys<H, K> {
    /// `keys` beside `hand`.
    pub fn new(hand: H, keys: K) -> Self {
        Self {
            hand,
            keys,
            taken: false,
        }
    }
}

impl<H: HandDevice, K: Teleop> Teleop for WithKeys<H, K> {
    fn source(&self) -> ActionSource {
        self.hand.source()
    }

    fn begin_episode(&mut self, seed: u64) {
        self.taken = false;
        self.hand.begin_episode(seed);
        self.keys.begin_episode(seed);
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        let keys = self.keys.intent(now_ns)?;
        if self.taken != keys.is_some() {
            self.taken = keys.is_some();
            self.hand.take(self.taken);
        }
        let (hand, keys) = match (self.hand.intent(now_ns)?, keys) {
            (Some(hand), Some(keys)) => (hand, keys),
            (hand, keys) => return Ok(hand.or(keys)),
        };
        Ok(Some(Intent {
            captured_ns: hand.captured_ns.min(keys.captured_ns),
            motion: std::array::from_fn(|arm| sum(hand.motion[arm], keys.motion[arm])),
            gripper: std::array::from_fn(|arm| keys.gripper[arm].or(hand.gripper[arm])),
        }))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        // What a person says must be heard also when the other device is gone.
        match self.keys.event()? {
            Some(event) => Ok(Some(event)),
            None => self.hand.event(),
        }
    }

    fn verdict(&mut self) -> Option<bool> {
        let hand = self.hand.verdict();
        self.keys.verdict().or(hand)
    }
}

impl HandDevice for Box<dyn HandDevice> {
    fn take(&mut self, taken: bool) {
        (**self).take(taken);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// Says what it was told to.
    #[derive(Clone, Default)]
    struct Script(Rc<RefCell<Said>>);

    #[derive(Default)]
    struct Said {
        intent: Option<Intent>,
        event: Option<TeleopEvent>,
        verdict: Option<bool>,
        taken: Vec<bool>,
    }

    impl Teleop for Script {
        fn source(&self) -> ActionSource {
            ActionSource::Human
        }

        fn begin_episode(&mut self, _: u64) {}

        fn intent(&mut self, _: u64) -> Result<Option<Intent>, TeleopError> {
            Ok(self.0.borrow().intent)
        }

        fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
            Ok(self.0.borrow_mut().event.take())
        }

        fn verdict(&mut self) -> Option<bool> {
            self.0.borrow_mut().verdict.take()
        }
    }

    impl HandDevice for Script {
        fn take(&mut self, taken: bool) {
            self.0.borrow_mut().taken.push(taken);
        }
    }

    fn moving(captured_ns: u64, by: f64) -> Intent {
        let mut intent = Intent::still(captured_ns);
        intent.motion[0] = [by; 6];
        intent
    }

    #[test]
    fn each_device_moves_its_arm() {
        let (left, right) = (Script::default(), Script::default());
        let mut both = PerArm(vec![Box::new(left.clone()), Box::new(right.clone())]);
        assert_eq!(both.intent(9), Ok(None));
        right.0.borrow_mut().intent = Some(moving(5, 0.5));
        let motion = both.intent(9).unwrap().unwrap().motion;
        assert_eq!(motion, [[0.0; 6], [0.5; 6]]);
        left.0.borrow_mut().intent = Some(moving(3, -1.0));
        let intent = both.intent(9).unwrap().unwrap();
        assert_eq!(intent.motion, [[-1.0; 6], [0.5; 6]]);
        assert_eq!(intent.captured_ns, 3, "the older");
    }

    #[test]
    fn a_keyboard_takes_over_for_the_hand_and_says_words() {
        let (hand, keys) = (Script::default(), Script::default());
        let mut both = WithKeys::new(hand.clone(), keys.clone());
        keys.0.borrow_mut().intent = Some(moving(1, 0.75));
        assert_eq!(both.intent(1), Ok(Some(moving(1, 0.75))));
        hand.0.borrow_mut().intent = Some(moving(0, 0.5));
        assert_eq!(both.intent(1), Ok(Some(moving(0, 1.0))));
        keys.0.borrow_mut().intent = None;
        assert_eq!(both.intent(1), Ok(Some(moving(0, 0.5))));
        assert_eq!(hand.0.borrow().taken, [true, false]);
        hand.0.borrow_mut().event = Some(TeleopEvent::Stop);
        keys.0.borrow_mut().event = Some(TeleopEvent::Success);
        let told: Vec<_> = std::iter::from_fn(|| both.event().unwrap()).collect();
        assert_eq!(told, [TeleopEvent::Success, TeleopEvent::Stop]);
        hand.0.borrow_mut().verdict = Some(false);
        keys.0.borrow_mut().verdict = Some(true);
        assert_eq!((both.verdict(), both.verdict()), (Some(true), None));
    }
}
