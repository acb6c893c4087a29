//! What a hand on a device of axes and buttons wants. Pure: axes, buttons and times in, intents and
//! events out.

use std::collections::{BTreeSet, VecDeque};

use hilt_protocol::{GripperCommand, MAX_ARMS};

use super::mapping::{Mapping, Meaning};
use crate::{Intent, TeleopEvent};

/// A hand. It acts while it moves an axis or works the gripper and a while after (`linger_s`), while
/// it keeps a [`Meaning::Hold`] button down, and between two presses of a [`Meaning::TakeOver`] one.
#[derive(Clone, Debug)]
pub struct Hand {
    mapping: Mapping,
    arms: usize,
    arm: usize,
    motion: [f64; 6],
    /// It acts until then.
    lingers_until_ns: Option<u64>,
    /// Buttons that are down and mean [`Meaning::Hold`].
    holds: BTreeSet<u16>,
    taken: bool,
    /// Gripper commands that no intent has carried yet.
    gripper: [Option<GripperCommand>; MAX_ARMS],
    events: VecDeque<TeleopEvent>,
    verdict: Option<bool>,
}

impl Hand {
    /// A hand that is off, for a rig with so many arms.
    pub fn new(mapping: Mapping, arms: usize) -> Self {
        Self {
            mapping,
            arms: arms.clamp(1, MAX_ARMS),
            arm: 0,
            motion: [0.0; 6],
            lingers_until_ns: None,
            holds: BTreeSet::new(),
            taken: false,
            gripper: [None; MAX_ARMS],
            events: VecDeque::new(),
            verdict: None,
        }
    }

    /// Where the axes are, each in [-1, 1]: x away from the person, y to their left, z up, and turns
    /// about these.
    pub fn deflect(&mut self, axes: [f64; 6], now_ns: u64) {
        self.motion = std::array::from_fn(|axis| self.mapping.motion(axis, axes[axis]));
        if self.motion != [0.0; 6] {
            self.touch(now_ns);
        }
    }

    /// A button went down or up.
    pub fn button(&mut self, number: u16, down: bool, now_ns: u64) {
        let meaning = self.mapping.meaning(number);
        if !down {
            self.holds.remove(&number);
            return;
        }
        match meaning {
            Meaning::Nothing => {}
            Meaning::Open => self.grip(GripperCommand::Open, now_ns),
            Meaning::Close => self.grip(GripperCommand::Closed, now_ns),
            Meaning::Success => self.say(TeleopEvent::Success, Some(true)),
            Meaning::Failure => self.say(TeleopEvent::Failure, Some(false)),
            Meaning::Rerecord => self.say(TeleopEvent::Rerecord, None),
            Meaning::Stop => self.say(TeleopEvent::Stop, None),
            Meaning::Hold => {
                self.holds.insert(number);
            }
            Meaning::TakeOver => self.take(!self.taken),
            Meaning::OtherArm => self.arm = (self.arm + 1) % self.arms,
        }
    }

    /// From now on the person acts until they hand back, or hands back.
    pub fn take(&mut self, taken: bool) {
        self.taken = taken;
        if !taken {
            self.lingers_until_ns = None;
            self.gripper = [None; MAX_ARMS];
        }
    }

    fn touch(&mut self, now_ns: u64) {
        self.lingers_until_ns = Some(now_ns + self.mapping.linger_ns);
    }

    fn grip(&mut self, command: GripperCommand, now_ns: u64) {
        self.touch(now_ns);
        self.gripper[self.arm] = Some(command);
    }

    fn say(&mut self, event: TeleopEvent, verdict: Option<bool>) {
        self.events.push_back(event);
        self.verdict = verdict.or(self.verdict);
    }

    /// What it wants at `now_ns`, known since `captured_ns`; `None`: it is off.
    pub fn intent(&mut self, now_ns: u64, captured_ns: u64) -> Option<Intent> {
        let moves = self.motion != [0.0; 6] || self.gripper != [None; MAX_ARMS];
        let lingers = self.lingers_until_ns.is_some_and(|until| now_ns < until);
        if !(moves || lingers || self.taken || !self.holds.is_empty()) {
            return None;
        }
        let mut intent = Intent::still(captured_ns);
        intent.motion[self.arm] = self.motion;
        intent.gripper = std::mem::take(&mut self.gripper);
        Some(intent)
    }

    /// The oldest thing said that was not taken yet.
    pub fn event(&mut self) -> Option<TeleopEvent> {
        self.events.pop_front()
    }

    /// Whether the episode was a success, if it was said.
    pub fn verdict(&mut self) -> Option<bool> {
        self.verdict.take()
    }

    /// An episode begins with nothing said, but for a wish to stop. Buttons and axes are where they
    /// are.
    pub fn begin_episode(&mut self) {
        self.take(false);
        self.events.retain(|event| *event == TeleopEvent::Stop);
        self.verdict = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hands::{HandheldConfig, mapping::Profile};

    const MS: u64 = 1_000_000;
    const MEANINGS: &[(&str, u16, Meaning)] = &[
        ("close", 0, Meaning::Close),
        ("open", 1, Meaning::Open),
        ("success", 2, Meaning::Success),
        ("failure", 3, Meaning::Failure),
        ("rerecord", 4, Meaning::Rerecord),
        ("stop", 5, Meaning::Stop),
        ("hold", 6, Meaning::Hold),
        ("take", 7, Meaning::TakeOver),
        ("other", 8, Meaning::OtherArm),
    ];

    fn hand(arms: usize) -> Hand {
        let profile = Profile {
            deadband: 0.1,
            buttons: MEANINGS,
        };
        Hand::new(HandheldConfig::default().mapping(&profile).unwrap(), arms)
    }

    fn press(hand: &mut Hand, number: u16, now_ns: u64) {
        hand.button(number, true, now_ns);
        hand.button(number, false, now_ns);
    }

    #[test]
    fn motion_takes_over_and_standing_still_gives_back() {
        let mut hand = hand(1);
        hand.deflect([0.09; 6], 0);
        assert_eq!(hand.intent(0, 0), None, "within the deadband");
        hand.deflect([1.0, 0.0, 0.0, 0.0, 0.0, -1.0], MS);
        let intent = hand.intent(MS, 7).unwrap();
        assert_eq!(intent.motion[0], [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
        assert_eq!(intent.captured_ns, 7);
        hand.deflect([0.0; 6], 2 * MS);
        assert_eq!(hand.intent(500 * MS, 9), Some(Intent::still(9)));
        assert_eq!(hand.intent(501 * MS, 9), None);
    }

    #[test]
    fn a_person_acts_while_the_button_is_down() {
        let mut hand = hand(1);
        hand.button(6, true, 0);
        assert_eq!(hand.intent(60_000 * MS, 0), Some(Intent::still(0)));
        hand.begin_episode();
        assert!(hand.intent(60_000 * MS, 0).is_some(), "it is still down");
        hand.button(6, false, 60_000 * MS);
        assert_eq!(hand.intent(60_000 * MS, 0), None);
    }

    #[test]
    fn take_over_holds_until_it_is_pressed_again_or_the_next_episode() {
        let mut hand = hand(1);
        for end in [|hand: &mut Hand| press(hand, 7, 0), Hand::begin_episode] {
            press(&mut hand, 7, 0);
            assert!(hand.intent(60_000 * MS, 0).is_some());
            end(&mut hand);
            assert_eq!(hand.intent(60_000 * MS, 0), None);
        }
    }

    #[test]
    fn handing_back_forgets_what_was_not_carried() {
        let mut hand = hand(1);
        press(&mut hand, 7, 0);
        press(&mut hand, 0, 0);
        press(&mut hand, 7, 0);
        assert_eq!(hand.intent(0, 0), None);
    }

    #[test]
    fn a_gripper_button_is_carried_once_by_the_arm_in_hand() {
        let mut hand = hand(2);
        press(&mut hand, 0, 0);
        press(&mut hand, 8, 0);
        press(&mut hand, 1, 0);
        let both = [Some(GripperCommand::Closed), Some(GripperCommand::Open)];
        // However late the next step comes.
        assert_eq!(hand.intent(5_000 * MS, 0).unwrap().gripper, both);
        assert_eq!(hand.intent(5_000 * MS, 0), None);
        hand.deflect([1.0; 6], 0);
        let motion = hand.intent(0, 0).unwrap().motion;
        assert_eq!(motion, [[0.0; 6], [1.0; 6]], "the other arm");
    }

    #[test]
    fn all_that_is_said_is_told_once_and_in_order() {
        let mut hand = hand(1);
        let said = [2, 4, 3, 2, 5];
        said.iter().for_each(|button| press(&mut hand, *button, 0));
        let told: Vec<_> = std::iter::from_fn(|| hand.event()).collect();
        use TeleopEvent::*;
        assert_eq!(told, [Success, Rerecord, Failure, Success, Stop]);
        assert_eq!((hand.verdict(), hand.verdict()), (Some(true), None));
        assert_eq!(hand.intent(0, 0), None, "words move nothing");
    }

    #[test]
    fn an_episode_begins_with_nothing_said_but_a_wish_to_stop() {
        let mut hand = hand(1);
        [2, 5, 3].iter().for_each(|b| press(&mut hand, *b, 0));
        hand.begin_episode();
        let told: Vec<_> = std::iter::from_fn(|| hand.event()).collect();
        assert_eq!(told, [TeleopEvent::Stop]);
        assert_eq!(hand.verdict(), None);
    }
}
