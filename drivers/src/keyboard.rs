//! A person at a terminal.
//!
//! | key | means |
//! |---|---|
//! | `w` `s` | away from, towards the arm's base (x) |
//! | `a` `d` | left, right (y) |
//! | `r` `f` | up, down (z) |
//! | `q` `e` | turn the tool (yaw) |
//! | space | open or close the gripper |
//! | tab | the other arm |
//! | enter, backspace | success, failure |
//! | `x` | throw this episode away |
//! | esc, Ctrl-C | end the run |
//!
//! Terminals report no key releases. A motion therefore lasts a moment after the last repeat of its
//! key; while any is fresh the person has taken over.

use std::{collections::VecDeque, time::Duration};

use crossterm::{
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    terminal,
};
use hilt_protocol::{ActionSource, GripperCommand, MAX_ARMS};

use crate::{Intent, Teleop, TeleopError, TeleopEvent};

/// A key counts as held so long after its last press or repeat: longer than terminals wait before
/// their first repeat, nanoseconds.
const HELD_NS: u64 = 300_000_000;

/// What the keys said so far. Pure: keys and times in, intents and events out.
#[derive(Debug, Default)]
pub struct Keys {
    arm: usize,
    arms: usize,
    /// Per arm and axis: direction and the time of the last press.
    held: [[Option<(f64, u64)>; 6]; MAX_ARMS],
    closed: [bool; MAX_ARMS],
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
        let mut hold = |axis: usize, direction: f64| {
            self.held[self.arm][axis] = Some((direction, now_ns));
        };
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.events.push_back(TeleopEvent::Stop);
            }
            KeyCode::Char('w') => hold(0, 1.0),
            KeyCode::Char('s') => hold(0, -1.0),
            KeyCode::Char('a') => hold(1, 1.0),
            KeyCode::Char('d') => hold(1, -1.0),
            KeyCode::Char('r') => hold(2, 1.0),
            KeyCode::Char('f') => hold(2, -1.0),
            KeyCode::Char('q') => hold(5, 1.0),
            KeyCode::Char('e') => hold(5, -1.0),
            KeyCode::Char(' ') => {
                let closed = &mut self.closed[self.arm];
                *closed = !*closed;
                self.gripper[self.arm] = Some(if *closed {
                    GripperCommand::Closed
                } else {
                    GripperCommand::Open
                });
            }
            KeyCode::Tab => self.arm = (self.arm + 1) % self.arms,
            KeyCode::Enter => self.say(TeleopEvent::Success, Some(true)),
            KeyCode::Backspace => self.say(TeleopEvent::Failure, Some(false)),
            KeyCode::Char('x') => self.say(TeleopEvent::Rerecord, None),
            KeyCode::Esc => self.say(TeleopEvent::Stop, None),
            _ => {}
        }
    }

    fn say(&mut self, event: TeleopEvent, verdict: Option<bool>) {
        self.events.push_back(event);
        self.verdict = verdict.or(self.verdict);
    }

    /// What is wanted at `now_ns`; `None` when no key is held.
    pub fn intent(&mut self, now_ns: u64) -> Option<Intent> {
        let mut intent = Intent::still(now_ns);
        let mut any = false;
        for (arm, axes) in self.held.iter().enumerate() {
            for (axis, held) in axes.iter().enumerate() {
                if let Some((direction, at_ns)) = held
                    && now_ns.saturating_sub(*at_ns) < HELD_NS
                {
                    intent.motion[arm][axis] = *direction;
                    any = true;
                }
            }
        }
        intent.gripper = std::mem::take(&mut self.gripper);
        any |= intent.gripper.iter().any(Option::is_some);
        any.then_some(intent)
    }

    /// An episode begins with open grippers and nothing said, but for a wish to stop.
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

/// The keyboard of this process's terminal, in raw mode while it lives.
#[derive(Debug)]
pub struct Keyboard {
    keys: Keys,
    now_ns: u64,
}

impl Keyboard {
    /// Puts the terminal into raw mode. `arms`: how many the rig has.
    pub fn open(arms: usize) -> Result<Self, TeleopError> {
        terminal::enable_raw_mode()
            .map_err(|e| TeleopError(format!("no terminal to read keys from: {e}")))?;
        Ok(Self {
            keys: Keys::new(arms),
            now_ns: 0,
        })
    }

    fn read(&mut self) -> Result<(), TeleopError> {
        let gone = |e: std::io::Error| TeleopError(e.to_string());
        while event::poll(Duration::ZERO).map_err(gone)? {
            if let Event::Key(key) = event::read().map_err(gone)? {
                self.keys.press(key, self.now_ns);
            }
        }
        Ok(())
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Err(e) = terminal::disable_raw_mode() {
            tracing::warn!("the terminal stays in raw mode ({e}); type `reset`");
        }
    }
}

impl Teleop for Keyboard {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _seed: u64) {
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
    use super::*;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn a_motion_ends_soon_after_its_last_repeat() {
        let mut keys = Keys::new(1);
        assert_eq!(keys.intent(0), None);
        keys.press(key(KeyCode::Char('r')), 1_000);
        let intent = keys.intent(2_000).unwrap();
        assert_eq!(intent.motion[0], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(keys.intent(1_000 + HELD_NS), None);
    }

    #[test]
    fn space_toggles_and_is_carried_once() {
        let mut keys = Keys::new(1);
        keys.press(key(KeyCode::Char(' ')), 0);
        assert_eq!(
            keys.intent(0).unwrap().gripper[0],
            Some(GripperCommand::Closed)
        );
        assert_eq!(keys.intent(0), None);
        keys.press(key(KeyCode::Char(' ')), 0);
        assert_eq!(
            keys.intent(0).unwrap().gripper[0],
            Some(GripperCommand::Open)
        );
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
    }
}
