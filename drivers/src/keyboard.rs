//! A person at a terminal.
//!
//! | key | means |
//! |---|---|
//! | `w` `s` | away from, towards the arm's base (x) |
//! | `a` `d` | left, right (y) |
//! | `r` `f` | up, down (z) |
//! | `u` `j`, `i` `k`, `q` `e` | turn the tool: roll, pitch, yaw |
//! | with shift | the same, a quarter of the way |
//! | `o` `c` | open, close the gripper |
//! | tab | the other arm |
//! | `t`, `h` | take over, hand back to the policy |
//! | enter, backspace | success, failure |
//! | `x` | throw this episode away |
//! | esc, Ctrl-C | end the run |
//!
//! A motion key takes over as well. From then on the person acts, also while no key is down, until
//! they hand back or the next episode begins: between two keys the policy must not grab the arm.
//!
//! Terminals report no key releases. A key that is tapped is one step of motion; one that repeats
//! goes on for a moment after its last repeat.

use std::{collections::VecDeque, time::Duration};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use hilt_protocol::{ActionSource, Axis, GripperCommand, MAX_ARMS, RigSpec};

use crate::{Intent, SavedTerminal, Teleop, TeleopError, TeleopEvent, terminal::KeyMode};

/// A key that comes again within this time is held down: terminals wait up to two thirds of a
/// second before the first repeat, nanoseconds.
const REPEAT_NS: u64 = 750_000_000;
/// A held key's motion goes on for so long after a repeat: longer than between two of them,
/// nanoseconds.
const HELD_NS: u64 = 150_000_000;
/// Share of a full step that a key with shift asks for.
const FINE: f64 = 0.25;

/// A motion key that was pressed.
#[derive(Clone, Copy, Debug)]
struct Held {
    way: f64,
    pressed_ns: u64,
    /// It moves until then.
    until_ns: u64,
    /// No intent has carried it yet.
    fresh: bool,
}

/// What the keys said so far. Pure: keys and times in, intents and events out.
#[derive(Debug, Default)]
pub struct Keys {
    arm: usize,
    arms: usize,
    /// The person acts.
    hands_on: bool,
    /// Per arm and axis.
    held: [[Option<Held>; 6]; MAX_ARMS],
    /// Gripper commands that no intent has carried yet.
    gripper: [Option<GripperCommand>; MAX_ARMS],
    events: VecDeque<TeleopEvent>,
    verdict: Option<bool>,
}

impl Keys {
    /// For a rig with so many arms.
    pub fn new(arms: usize) -> Self {
        Self {
            arms: arms.clamp(1, MAX_ARMS),
            ..Self::default()
        }
    }

    /// A key was pressed or repeated at `now_ns`.
    pub fn press(&mut self, key: KeyEvent, now_ns: u64) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.say(TeleopEvent::Stop, None);
            }
            KeyCode::Char('o') => self.grip(GripperCommand::Open),
            KeyCode::Char('c') => self.grip(GripperCommand::Closed),
            KeyCode::Char('t') => self.hands_on = true,
            KeyCode::Char('h') => self.hand_back(),
            KeyCode::Tab => self.arm = (self.arm + 1) % self.arms,
            KeyCode::Enter => self.say(TeleopEvent::Success, Some(true)),
            KeyCode::Backspace => self.say(TeleopEvent::Failure, Some(false)),
            KeyCode::Char('x') => self.say(TeleopEvent::Rerecord, None),
            KeyCode::Esc => self.say(TeleopEvent::Stop, None),
            KeyCode::Char(letter) => {
                if let Some((axis, way)) = motion(letter.to_ascii_lowercase()) {
                    let share = if letter.is_ascii_uppercase() {
                        FINE
                    } else {
                        1.0
                    };
                    self.hold(axis, share * way, now_ns);
                }
            }
            _ => {}
        }
    }

    fn hold(&mut self, axis: usize, way: f64, now_ns: u64) {
        self.hands_on = true;
        let held = &mut self.held[self.arm][axis];
        let repeats = held.is_some_and(|before| {
            before.way == way && now_ns.saturating_sub(before.pressed_ns) < REPEAT_NS
        });
        *held = Some(Held {
            way,
            pressed_ns: now_ns,
            until_ns: if repeats { now_ns + HELD_NS } else { now_ns },
            fresh: true,
        });
    }

    fn grip(&mut self, command: GripperCommand) {
        self.hands_on = true;
        self.gripper[self.arm] = Some(command);
    }

    fn hand_back(&mut self) {
        self.hands_on = false;
        self.held = Default::default();
        self.gripper = Default::default();
    }

    fn say(&mut self, event: TeleopEvent, verdict: Option<bool>) {
        self.events.push_back(event);
        self.verdict = verdict.or(self.verdict);
    }

    /// What is wanted at `now_ns`; `None` while the policy acts.
    pub fn intent(&mut self, now_ns: u64) -> Option<Intent> {
        if !self.hands_on {
            return None;
        }
        let mut intent = Intent::still(now_ns);
        for (motion, held) in intent.motion.iter_mut().zip(&mut self.held) {
            for (column, held) in motion.iter_mut().zip(held) {
                if let Some(held) = held
                    && (std::mem::take(&mut held.fresh) || now_ns < held.until_ns)
                {
                    *column = held.way;
                }
            }
        }
        intent.gripper = std::mem::take(&mut self.gripper);
        Some(intent)
    }

    /// An episode begins with the policy acting and nothing said, but for a wish to stop.
    pub fn begin_episode(&mut self) {
        let stop = self
            .events
            .contains(&TeleopEvent::Stop)
            .then_some(TeleopEvent::Stop);
        *self = Self {
            arm: self.arm,
            arms: self.arms,
            events: stop.into_iter().collect(),
            ..Self::default()
        };
    }
}

/// The axis (x, y, z, roll, pitch, yaw) of a letter, and the way along it.
fn motion(letter: char) -> Option<(usize, f64)> {
    Some(match letter {
        'w' => (0, 1.0),
        's' => (0, -1.0),
        'a' => (1, 1.0),
        'd' => (1, -1.0),
        'r' => (2, 1.0),
        'f' => (2, -1.0),
        'u' => (3, 1.0),
        'j' => (3, -1.0),
        'i' => (4, 1.0),
        'k' => (4, -1.0),
        'q' => (5, 1.0),
        'e' => (5, -1.0),
        _ => return None,
    })
}

/// One line that says which keys do what on a rig of this spec. `policy`: one acts when the person
/// does not.
pub fn help(spec: &RigSpec, policy: bool) -> String {
    let mut parts = Vec::new();
    for axis in &spec.controlled_axes {
        parts.push(match axis {
            Axis::X => "w/s forth and back",
            Axis::Y => "a/d left and right",
            Axis::Z => "r/f up and down",
            Axis::Roll => "u/j roll",
            Axis::Pitch => "i/k pitch",
            Axis::Yaw => "q/e yaw",
        });
    }
    parts.push("with shift: finer");
    if spec.mode.learned_gripper() {
        parts.push("o/c open and close");
    }
    if spec.mode.arms() > 1 {
        parts.push("tab the other arm");
    }
    if policy {
        parts.push("t take over");
        parts.push("h hand back");
    }
    parts.extend([
        "enter success",
        "backspace failure",
        "x throw away",
        "esc or Ctrl-C end",
    ]);
    format!("keys: {}", parts.join(" · "))
}

/// The keyboard of this process's terminal, which gives keys one by one while this lives.
#[derive(Debug)]
pub struct Keyboard {
    keys: Keys,
    now_ns: u64,
    _mode: KeyMode,
}

impl Keyboard {
    /// Takes the terminal at standard input. `arms`: how many the rig has.
    pub fn open(arms: usize) -> Result<Self, TeleopError> {
        let mode = SavedTerminal::of_stdin().and_then(KeyMode::enter);
        let mode = mode.map_err(|e| {
            TeleopError(format!(
                "there are no keys to read ({e}); start it in a terminal, without a pipe or a \
                 redirected input, or choose another --operator"
            ))
        })?;
        Ok(Self {
            keys: Keys::new(arms),
            now_ns: 0,
            _mode: mode,
        })
    }

    fn read(&mut self) -> Result<(), TeleopError> {
        let gone = |e: std::io::Error| TeleopError(format!("the terminal is gone ({e})"));
        while event::poll(Duration::ZERO).map_err(gone)? {
            if let Event::Key(key) = event::read().map_err(gone)? {
                self.keys.press(key, self.now_ns);
            }
        }
        Ok(())
    }
}

impl Teleop for Keyboard {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _seed: u64) {
        // What was pressed on the way home is not said of this episode. An error comes again.
        let _ = self.read();
        self.keys.begin_episode();
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        self.now_ns = now_ns;
        self.read()?;
        Ok(self.keys.intent(now_ns))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        self.read()?;
        Ok(self.keys.events.pop_front())
    }

    fn verdict(&mut self) -> Option<bool> {
        self.keys.verdict.take()
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::{CameraSpec, SetupMode};

    use super::*;

    const MS: u64 = 1_000_000;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    fn up(keys: &mut Keys, now_ns: u64) -> f64 {
        keys.intent(now_ns).unwrap().motion[0][2]
    }

    #[test]
    fn a_tap_is_one_step() {
        let mut keys = Keys::new(1);
        assert_eq!(keys.intent(0), None);
        keys.press(key(KeyCode::Char('r')), 0);
        assert_eq!([up(&mut keys, 0), up(&mut keys, 1)], [1.0, 0.0]);
        keys.press(key(KeyCode::Char('F')), 2);
        // However late the next step comes.
        assert_eq!(up(&mut keys, 5_000 * MS), -0.25);
    }

    #[test]
    fn a_held_key_moves_until_shortly_after_its_last_repeat() {
        let mut keys = Keys::new(1);
        for pressed in [0, 600 * MS, 640 * MS] {
            keys.press(key(KeyCode::Char('r')), pressed);
            keys.intent(pressed);
        }
        assert_eq!(up(&mut keys, 640 * MS + HELD_NS - 1), 1.0);
        assert_eq!(up(&mut keys, 640 * MS + HELD_NS), 0.0);
        // The other way is no repeat.
        keys.press(key(KeyCode::Char('f')), 900 * MS);
        assert_eq!(up(&mut keys, 900 * MS), -1.0);
        assert_eq!(up(&mut keys, 901 * MS), 0.0);
    }

    #[test]
    fn the_person_acts_until_they_hand_back_or_the_next_episode() {
        let mut keys = Keys::new(1);
        keys.press(key(KeyCode::Char('w')), 0);
        keys.intent(0);
        assert_eq!(keys.intent(60_000 * MS), Some(Intent::still(60_000 * MS)));
        keys.press(key(KeyCode::Char('w')), 60_000 * MS);
        keys.press(key(KeyCode::Char('h')), 60_000 * MS);
        assert_eq!(keys.intent(60_000 * MS), None);
        keys.press(key(KeyCode::Char('t')), 60_001 * MS);
        assert_eq!(
            keys.intent(60_001 * MS),
            Some(Intent::still(60_001 * MS)),
            "what was held before is forgotten"
        );
        keys.begin_episode();
        assert_eq!(keys.intent(60_002 * MS), None);
    }

    #[test]
    fn a_gripper_key_is_carried_once() {
        let mut keys = Keys::new(1);
        for (letter, command) in [('c', GripperCommand::Closed), ('o', GripperCommand::Open)] {
            keys.press(key(KeyCode::Char(letter)), 0);
            assert_eq!(keys.intent(0).unwrap().gripper[0], Some(command));
            assert_eq!(keys.intent(0).unwrap().gripper[0], None);
        }
    }

    #[test]
    fn tab_moves_the_other_arm_of_two() {
        let mut keys = Keys::new(2);
        keys.press(key(KeyCode::Tab), 0);
        keys.press(key(KeyCode::Char('w')), 0);
        let intent = keys.intent(0).unwrap();
        assert_eq!((intent.motion[0][0], intent.motion[1][0]), (0.0, 1.0));
        let mut one = Keys::new(1);
        one.press(key(KeyCode::Tab), 0);
        one.press(key(KeyCode::Char('w')), 0);
        assert_eq!(one.intent(0).unwrap().motion[0][0], 1.0);
    }

    #[test]
    fn what_is_said_is_queued_in_order() {
        let mut keys = Keys::new(1);
        keys.press(key(KeyCode::Enter), 0);
        keys.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), 0);
        assert_eq!(keys.events, [TeleopEvent::Success, TeleopEvent::Stop]);
        assert_eq!(keys.verdict, Some(true));
        assert_eq!(keys.intent(0), None, "Ctrl-C moves nothing");
        keys.begin_episode();
        assert_eq!(keys.events, [TeleopEvent::Stop], "a wish to stop stays");
    }

    #[test]
    fn the_help_names_the_keys_that_this_rig_has() {
        let mut spec = RigSpec {
            mode: SetupMode::SingleArmFixedGripper,
            controlled_axes: vec![Axis::X, Axis::Yaw],
            cameras: vec![CameraSpec {
                name: "front".into(),
                height: 16,
                width: 16,
            }],
            proprio: vec![],
            policy_hz: 10,
        };
        let line = help(&spec, false);
        assert!(line.contains("w/s") && line.contains("q/e") && line.contains("Ctrl-C"));
        assert!(
            ["a/d", "o/c", "tab", "hand back"]
                .iter()
                .all(|k| !line.contains(k)),
            "{line}"
        );
        spec.mode = SetupMode::DualArmLearnedGripper;
        let line = help(&spec, true);
        assert!(
            ["o/c", "tab", "h hand back"]
                .iter()
                .all(|k| line.contains(k)),
            "{line}"
        );
    }
}
