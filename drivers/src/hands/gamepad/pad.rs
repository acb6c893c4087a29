//! What a gamepad's events mean. Pure: codes and values of Linux's input events in, axes and buttons
//! out.
//!
//! Codes are those of `linux/input-event-codes.h`, places those of the kernel's gamepad
//! specification, which not every driver keeps to ([`Names`]).

use crate::hands::{Heard, Meaning, Profile};

/// Absolute axes.
mod abs {
    pub const X: u16 = 0x00;
    pub const Y: u16 = 0x01;
    pub const Z: u16 = 0x02;
    pub const RX: u16 = 0x03;
    pub const RY: u16 = 0x04;
    pub const RZ: u16 = 0x05;
    pub const GAS: u16 = 0x09;
    pub const BRAKE: u16 = 0x0a;
    pub const HAT0X: u16 = 0x10;
    pub const HAT0Y: u16 = 0x11;
}

const SOUTH: u16 = 0x130;
const EAST: u16 = 0x131;
const NORTH: u16 = 0x133;
const WEST: u16 = 0x134;
const LEFT_SHOULDER: u16 = 0x136;
const RIGHT_SHOULDER: u16 = 0x137;
const LEFT_TRIGGER: u16 = 0x138;
const RIGHT_TRIGGER: u16 = 0x139;
const SELECT: u16 = 0x13a;
const START: u16 = 0x13b;

/// Buttons by their place, as the rig file names them. Numbers are the kernel's codes.
pub const PROFILE: Profile = Profile {
    // Sticks do not come back to their middle by themselves.
    deadband: 0.15,
    buttons: &[
        ("south", SOUTH, Meaning::Failure),
        ("east", EAST, Meaning::TakeOver),
        ("north", NORTH, Meaning::Success),
        ("west", WEST, Meaning::Rerecord),
        ("left-shoulder", LEFT_SHOULDER, Meaning::OtherArm),
        ("right-shoulder", RIGHT_SHOULDER, Meaning::Hold),
        ("left-trigger", LEFT_TRIGGER, Meaning::Open),
        ("right-trigger", RIGHT_TRIGGER, Meaning::Close),
        ("select", SELECT, Meaning::Stop),
        ("start", START, Meaning::Nothing),
    ],
};

/// What the two upper buttons' codes say, by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Where they are.
    Places,
    /// The letters on Microsoft's pads: its X, to the left, has the code of "north", its Y, on top,
    /// that of "west".
    Letters,
}

/// An absolute axis: what there is, and its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisRange {
    /// Its code.
    pub code: u16,
    /// Value at one end.
    pub minimum: i32,
    /// Value at the other.
    pub maximum: i32,
}

/// What an axis does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    /// Moves along an axis of the tool, this way.
    Moves(usize, f64),
    /// Is a button, down beyond its middle.
    Trigger(u16),
}

/// An axis with its role.
#[derive(Clone, Copy, Debug)]
struct Axis {
    range: AxisRange,
    role: Role,
}

impl Axis {
    /// From 0 at its minimum to 1 at its maximum.
    fn share(&self, value: i32) -> f64 {
        let (low, high) = (f64::from(self.range.minimum), f64::from(self.range.maximum));
        ((f64::from(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// A trigger is down beyond this share, and up below the other: one that trembles is not pressed
/// twice.
const TRIGGER_DOWN: f64 = 0.6;
const TRIGGER_UP: f64 = 0.4;

/// A gamepad.
#[derive(Clone, Debug)]
pub struct Pad {
    axes: Vec<Axis>,
    names: Names,
    deflections: [f64; 6],
    down: Vec<u16>,
    moved: bool,
}

impl Pad {
    /// One with these axes. `triggers_are_keys`: its triggers also report as buttons.
    pub fn new(ranges: &[AxisRange], triggers_are_keys: bool, names: Names) -> Self {
        // Where there is no second stick by that name, it has the triggers' axes, and these others.
        let own_stick = ranges.iter().any(|range| range.code == abs::RX);
        let role = |code| {
            Some(match code {
                // Values grow to the right and down.
                abs::X => Role::Moves(1, -1.0),
                abs::Y => Role::Moves(0, -1.0),
                abs::RX => Role::Moves(5, -1.0),
                abs::RY => Role::Moves(2, -1.0),
                abs::Z if !own_stick => Role::Moves(5, -1.0),
                abs::RZ if !own_stick => Role::Moves(2, -1.0),
                abs::HAT0X => Role::Moves(3, 1.0),
                abs::HAT0Y => Role::Moves(4, -1.0),
                _ if triggers_are_keys => return None,
                abs::Z | abs::BRAKE => Role::Trigger(LEFT_TRIGGER),
                abs::RZ | abs::GAS => Role::Trigger(RIGHT_TRIGGER),
                _ => return None,
            })
        };
        let known = ranges.iter().filter(|range| range.minimum < range.maximum);
        let axes = known.filter_map(|&range| {
            let role = role(range.code)?;
            Some(Axis { range, role })
        });
        Self {
            axes: axes.collect(),
            names,
            deflections: [0.0; 6],
            down: Vec::new(),
            moved: false,
        }
    }

    /// Codes of the buttons that have a name, as the device says them.
    pub fn key_codes() -> impl Iterator<Item = u16> {
        PROFILE.buttons.iter().map(|(_, code, _)| *code)
    }

    /// A button was pressed (1) or let go (0); 2 is a repetition and means nothing.
    pub fn key(&mut self, code: u16, value: i32, tell: &mut dyn FnMut(Heard)) {
        let place = match (self.names, code) {
            (Names::Letters, NORTH) => WEST,
            (Names::Letters, WEST) => NORTH,
            _ => code,
        };
        if value == 0 || value == 1 {
            self.press(place, value == 1, tell);
        }
    }

    fn press(&mut self, number: u16, down: bool, tell: &mut dyn FnMut(Heard)) {
        let place = self.down.iter().position(|n| *n == number);
        match (place, down) {
            (None, true) => self.down.push(number),
            (Some(place), false) => {
                self.down.swap_remove(place);
            }
            _ => return,
        }
        tell(Heard::Button(number, down));
    }

    /// Whether an axis moves the arm.
    pub fn moves(&self, code: u16) -> bool {
        let axis = self.axes.iter().find(|axis| axis.range.code == code);
        axis.is_some_and(|axis| matches!(axis.role, Role::Moves(..)))
    }

    /// An axis has a value.
    pub fn axis(&mut self, code: u16, value: i32, tell: &mut dyn FnMut(Heard)) {
        let Some(axis) = self.axes.iter().find(|axis| axis.range.code == code) else {
            return;
        };
        let share = axis.share(value);
        match axis.role {
            Role::Moves(index, way) => {
                let deflection = way * (2.0 * share - 1.0);
                self.moved |= self.deflections[index] != deflection;
                self.deflections[index] = deflection;
            }
            Role::Trigger(number) if share > TRIGGER_DOWN => self.press(number, true, tell),
            Role::Trigger(number) if share < TRIGGER_UP => self.press(number, false, tell),
            Role::Trigger(_) => {}
        }
    }

    /// What came belongs together, and is complete.
    pub fn sync(&mut self, tell: &mut dyn FnMut(Heard)) {
        if std::mem::take(&mut self.moved) {
            tell(Heard::Axes(self.deflections));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stick(code: u16) -> AxisRange {
        AxisRange {
            code,
            minimum: -32768,
            maximum: 32767,
        }
    }

    fn trigger(code: u16) -> AxisRange {
        AxisRange {
            code,
            minimum: 0,
            maximum: 255,
        }
    }

    /// As the kernel's xpad driver presents an Xbox 360 pad.
    fn xbox() -> Pad {
        let hat = |code| AxisRange {
            code,
            minimum: -1,
            maximum: 1,
        };
        let ranges = [
            stick(abs::X),
            stick(abs::Y),
            trigger(abs::Z),
            stick(abs::RX),
            stick(abs::RY),
            trigger(abs::RZ),
            hat(abs::HAT0X),
            hat(abs::HAT0Y),
        ];
        Pad::new(&ranges, false, Names::Letters)
    }

    fn play(pad: &mut Pad, act: impl Fn(&mut Pad, &mut dyn FnMut(Heard))) -> Vec<Heard> {
        let mut told = Vec::new();
        let tell: &mut dyn FnMut(Heard) = &mut |heard| told.push(heard);
        act(pad, tell);
        pad.sync(tell);
        told
    }

    #[test]
    fn sticks_and_cross_move_the_tool() {
        let mut pad = xbox();
        for (code, value, axis, expected) in [
            (abs::Y, -32768, 0, 1.0),
            (abs::X, -32768, 1, 1.0),
            (abs::RY, -32768, 2, 1.0),
            (abs::HAT0X, 1, 3, 1.0),
            (abs::HAT0Y, -1, 4, 1.0),
            (abs::RX, 32767, 5, -1.0),
        ] {
            let mut axes = pad.deflections;
            axes[axis] = expected;
            let told = play(&mut pad, |pad, tell| pad.axis(code, value, tell));
            assert_eq!(told, [Heard::Axes(axes)]);
            assert_eq!(play(&mut pad, |pad, tell| pad.axis(code, value, tell)), []);
        }
    }

    #[test]
    fn triggers_are_buttons_with_play_between_down_and_up() {
        let mut pad = xbox();
        let told = play(&mut pad, |pad, tell| {
            for value in [0, 140, 160, 255, 120, 150, 90, 130, 0] {
                pad.axis(abs::RZ, value, tell);
            }
        });
        let number = RIGHT_TRIGGER;
        assert_eq!(
            told,
            [Heard::Button(number, true), Heard::Button(number, false)]
        );
    }

    #[test]
    fn a_trigger_with_a_button_of_its_own_is_told_once() {
        let mut pad = Pad::new(&[stick(abs::RX), trigger(abs::Z)], true, Names::Places);
        let told = play(&mut pad, |pad, tell| {
            pad.key(LEFT_TRIGGER, 1, tell);
            pad.axis(abs::Z, 255, tell);
        });
        assert_eq!(told, [Heard::Button(LEFT_TRIGGER, true)]);
    }

    #[test]
    fn a_pad_without_a_second_stick_by_name_has_it_on_the_other_axes() {
        let ranges = [abs::X, abs::Y, abs::Z, abs::RZ, abs::GAS].map(trigger);
        let mut pad = Pad::new(&ranges, false, Names::Places);
        let told = play(&mut pad, |pad, tell| {
            pad.axis(abs::RZ, 0, tell);
            pad.axis(abs::GAS, 255, tell);
        });
        let up = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(told, [Heard::Button(RIGHT_TRIGGER, true), Heard::Axes(up)]);
    }

    #[test]
    fn the_upper_button_is_the_upper_button_on_every_pad() {
        for (names, code) in [(Names::Letters, WEST), (Names::Places, NORTH)] {
            let mut pad = Pad::new(&[], true, names);
            let told = play(&mut pad, |pad, tell| pad.key(code, 1, tell));
            assert_eq!(told, [Heard::Button(NORTH, true)]);
        }
    }

    proptest! {
        /// Any events at all: deflections stay in range, and presses and releases alternate.
        #[test]
        fn no_press_is_lost_or_doubled(
            events in prop::collection::vec((any::<bool>(), 0..0x140_u16, any::<i32>(), -1..3), 0..200)
        ) {
            let mut pad = xbox();
            let told = play(&mut pad, |pad, tell| {
                for (is_key, code, value, pressed) in &events {
                    if *is_key {
                        pad.key(*code, *pressed, tell);
                    } else {
                        pad.axis(*code % 0x12, *value, tell);
                    }
                    pad.sync(tell);
                }
            });
            let mut down = std::collections::BTreeSet::new();
            for heard in told {
                match heard {
                    Heard::Axes(axes) => {
                        prop_assert!(axes.iter().all(|v| (-1.0..=1.0).contains(v)));
                    }
                    Heard::Button(number, true) => prop_assert!(down.insert(number)),
                    Heard::Button(number, false) => prop_assert!(down.remove(&number)),
                }
            }
        }
    }
}
