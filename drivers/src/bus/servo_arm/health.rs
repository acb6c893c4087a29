//! How the servos are, learnt beside the ticks: one question to one servo, now and then.

use super::config::MAX_SERVOS;
use crate::bus::{
    Family, Register,
    dynamixel::ALERT,
    sts3215::{PRESENT_LOAD, PRESENT_TEMPERATURE, PRESENT_VOLTAGE, STATUS},
    xseries::{self as x, BUS_WATCHDOG, HARDWARE_ERROR, PRESENT_PWM, WATCHDOG_TRIPPED, hardware},
};

/// Ticks from one question to the next.
const EVERY_TICKS: u32 = 32;

/// Bytes of the longest answer.
pub(super) const LONGEST: usize = 23;

/// What a servo told about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// The servo.
    pub id: u8,
    /// When it told, nanoseconds.
    pub captured_ns: u64,
    /// Duty of the motor's voltage, −1 to 1.
    pub duty: f64,
    /// Supply, volts.
    pub supply_v: f64,
    /// Temperature, °C.
    pub temperature_c: f64,
    /// What is wrong, bits: [`status`](crate::bus::sts3215::status) of an STS3215,
    /// [`hardware`] of a Dynamixel X.
    pub errors: u8,
}

/// What a servo is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Duty, supply, temperature.
    State,
    /// What is wrong with it.
    Error,
    /// Whether its bus watchdog has stopped it.
    Watchdog,
}

impl Question {
    /// The first register and bytes.
    pub fn registers(self, family: Family) -> (Register, u8) {
        match (self, family) {
            (Self::State, Family::Sts3215) => (PRESENT_LOAD, PRESENT_LOAD.through(STATUS)),
            (Self::State, Family::DynamixelX) => {
                (PRESENT_PWM, PRESENT_PWM.through(x::PRESENT_TEMPERATURE))
            }
            (Self::Error, Family::Sts3215) => (STATUS, 1),
            (Self::Error, Family::DynamixelX) => (HARDWARE_ERROR, 1),
            (Self::Watchdog, _) => (BUS_WATCHDOG, 1),
        }
    }
}

/// A question's number in the round of all.
fn question(number: usize, family: Family) -> Question {
    const OF_X: [Question; 3] = [Question::State, Question::Error, Question::Watchdog];
    match family {
        Family::Sts3215 => Question::State,
        Family::DynamixelX => OF_X[number % OF_X.len()],
    }
}

/// What is known of the servos, by place, and what is asked next. A pure decision.
pub(super) struct Monitor {
    family: Family,
    ticks: u32,
    turn: usize,
    errors: [u8; MAX_SERVOS],
    /// Who has to be asked at once.
    urgent: [Option<Question>; MAX_SERVOS],
    healths: [Option<Health>; MAX_SERVOS],
}

impl Monitor {
    pub fn new(family: Family) -> Self {
        Self {
            family,
            ticks: 0,
            turn: 0,
            errors: [0; MAX_SERVOS],
            urgent: [None; MAX_SERVOS],
            healths: [None; MAX_SERVOS],
        }
    }

    /// The servos were made ready: whatever was wrong is not any more.
    pub fn forget_errors(&mut self) {
        self.errors = [0; MAX_SERVOS];
        self.urgent = [None; MAX_SERVOS];
    }

    /// What is known, where something is.
    pub fn healths(&self) -> impl Iterator<Item = Health> {
        self.healths.iter().flatten().copied()
    }

    /// A reply carried this error byte: what is wrong with its servo.
    pub fn replied(&mut self, place: usize, error: u8) -> u8 {
        let errors = &mut self.errors[place];
        match self.family {
            Family::Sts3215 => *errors = error,
            Family::DynamixelX if error & ALERT == 0 => *errors &= hardware::SILENCE,
            Family::DynamixelX if *errors & !hardware::SILENCE == 0 => {
                *errors |= hardware::UNREAD;
                self.urgent[place] = Some(Question::Error);
            }
            Family::DynamixelX => {}
        }
        *errors
    }

    /// Nobody has spoken for longer than the bus watchdog waits: the servos stand, and take no goals.
    pub fn was_silent(&mut self, servos: usize) {
        for place in 0..servos {
            self.errors[place] |= hardware::SILENCE;
            self.urgent[place] = Some(Question::Watchdog);
        }
    }

    /// A tick passes: who is asked what, if anybody.
    pub fn next(&mut self, servos: usize) -> Option<(usize, Question)> {
        let urgent = self.urgent.iter().position(Option::is_some);
        if let Some((place, question)) = urgent.zip(urgent.and_then(|place| self.urgent[place])) {
            return Some((place, question));
        }
        self.ticks += 1;
        if self.ticks < EVERY_TICKS {
            return None;
        }
        self.ticks = 0;
        self.turn = self.turn.wrapping_add(1);
        Some((
            self.turn % servos,
            question(self.turn / servos, self.family),
        ))
    }

    /// A servo has answered. Gives whether its bus watchdog is off.
    pub fn answered(
        &mut self,
        (place, question): (usize, Question),
        id: u8,
        data: &[u8],
        captured_ns: u64,
    ) -> bool {
        if self.urgent[place] == Some(question) {
            self.urgent[place] = None;
        }
        let errors = &mut self.errors[place];
        match question {
            Question::State => {
                let errors = *errors;
                let health = parse(self.family, data);
                self.healths[place] = health.map(|health| Health {
                    id,
                    captured_ns,
                    errors: health.errors | errors,
                    ..health
                });
            }
            Question::Error => *errors = *errors & hardware::SILENCE | data[0],
            Question::Watchdog => {
                let units = BUS_WATCHDOG.decode(BUS_WATCHDOG, data);
                *errors &= !hardware::SILENCE;
                if units == Some(WATCHDOG_TRIPPED) {
                    *errors |= hardware::SILENCE;
                }
                return units == Some(0);
            }
        }
        false
    }
}

/// From the bytes of [`Question::State`]; the id and the time are not among them.
pub(super) fn parse(family: Family, data: &[u8]) -> Option<Health> {
    let (first, _) = Question::State.registers(family);
    let number = |register: Register| register.decode(first, data);
    let (duty, supply, temperature, errors) = match family {
        Family::Sts3215 => (
            f64::from(number(PRESENT_LOAD)?) / 1000.0,
            number(PRESENT_VOLTAGE)?,
            number(PRESENT_TEMPERATURE)?,
            number(STATUS)? as u8,
        ),
        Family::DynamixelX => (
            f64::from(number(PRESENT_PWM)?) / f64::from(x::WHOLE_PWM),
            number(x::PRESENT_VOLTAGE)?,
            number(x::PRESENT_TEMPERATURE)?,
            0,
        ),
    };
    Some(Health {
        id: 0,
        captured_ns: 0,
        duty,
        supply_v: f64::from(supply) / 10.0,
        temperature_c: f64::from(temperature),
        errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_has_units() {
        let sts = parse(Family::Sts3215, &[0x2C, 5, 121, 40, 0, 4]).unwrap();
        let expected = Health {
            id: 0,
            captured_ns: 0,
            duty: -0.3,
            supply_v: 12.1,
            temperature_c: 40.0,
            errors: 4,
        };
        assert_eq!(sts, expected);
        let mut data = [0; LONGEST];
        data[..2].copy_from_slice(&(-885i16).to_le_bytes());
        (data[20], data[22]) = (119, 36);
        let x = parse(Family::DynamixelX, &data).unwrap();
        assert_eq!((x.duty, x.supply_v, x.temperature_c), (-1.0, 11.9, 36.0));
        assert_eq!(parse(Family::DynamixelX, &data[..22]), None);
    }

    #[test]
    fn everybody_is_asked_everything_in_turn() {
        for (family, questions) in [(Family::Sts3215, 1), (Family::DynamixelX, 3)] {
            let mut monitor = Monitor::new(family);
            let asked: Vec<_> = (0..EVERY_TICKS * 6 * questions)
                .filter_map(|_| monitor.next(6))
                .collect();
            assert_eq!(asked.len(), 6 * questions as usize);
            for (i, one) in asked.iter().enumerate() {
                assert!(!asked[..i].contains(one), "{one:?} twice");
            }
        }
    }

    #[test]
    fn an_alert_is_looked_into_at_once() {
        let mut monitor = Monitor::new(Family::DynamixelX);
        assert_eq!(monitor.replied(2, ALERT), hardware::UNREAD);
        let asked = monitor.next(6).unwrap();
        assert_eq!(asked, (2, Question::Error));
        assert_eq!(monitor.next(6), Some(asked), "until it has answered");
        monitor.answered(asked, 3, &[hardware::OVERLOAD], 0);
        assert_eq!(monitor.next(6), None);
        assert_eq!(monitor.replied(2, ALERT), hardware::OVERLOAD);
        assert_eq!(monitor.replied(2, 0), 0);
    }

    #[test]
    fn after_silence_every_watchdog_is_looked_at() {
        let mut monitor = Monitor::new(Family::DynamixelX);
        monitor.was_silent(2);
        assert_eq!(monitor.replied(0, 0), hardware::SILENCE);
        for (place, units, errors) in [(0, 0xFF, hardware::SILENCE), (1, 5, 0)] {
            let asked = monitor.next(2).unwrap();
            assert_eq!(asked, (place, Question::Watchdog));
            assert!(!monitor.answered(asked, 1, &[units], 0));
            assert_eq!(monitor.replied(place, 0), errors);
        }
        assert!(monitor.answered((1, Question::Watchdog), 1, &[0], 0));
        monitor.forget_errors();
        assert_eq!(monitor.replied(0, 0), 0);
    }
}
