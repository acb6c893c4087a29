//! In which mode the arms are, and how one leads to another. Pure.
//!
//! ```text
//!            run, all fit          a command
//!   Idle ───────────────▶ Armed ───────────────▶ Running ◀──────┐
//!    ▲ ▲                    │                     │     │       │ fit again, a new command
//!    │ │ rest               │       an input unfit│     └─────▶ Held
//!    │ └────────────────────┴──────┐              │ rest        │ rest
//!    │ still                       │              ▼             │
//!    └────────────────────────── Stopping ◀───────┴─────────────┘
//!    ▲                             ▲ │ still, by a fault
//!    │ reset                       │ ▼
//!    └──────────────────────────  Fault     (a fault that stops leads to Stopping from anywhere)
//! ```

use super::faults::{Answer, Fault};

/// What the arms are about. In every mode the torque is on and the arms hold or follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// They stand, and no command is followed.
    #[default]
    Idle,
    /// All is fit; the first command sets them going.
    Armed,
    /// They follow commands.
    Running,
    /// They are brought to a standstill and held until an input is fit again.
    Held,
    /// They are brought to a standstill because the run rests or by a fault.
    Stopping,
    /// They are held until a person has reset the fault.
    Fault,
}

impl Mode {
    /// As it is called in logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Armed => "armed",
            Self::Running => "running",
            Self::Held => "held",
            Self::Stopping => "stopping",
            Self::Fault => "fault",
        }
    }
}

/// What whoever commands the arms wants of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wish {
    /// To stand.
    #[default]
    Rest,
    /// To follow commands.
    Run,
}

/// What a tick knows that changes the mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// What is wanted.
    pub wish: Option<Wish>,
    /// What is wrong now, the gravest of it.
    pub fault: Option<Fault>,
    /// A command has come that was not seen before.
    pub command: bool,
    /// The reference does not move.
    pub still: bool,
    /// A person has looked and reset the fault.
    pub reset: bool,
}

/// The mode after a tick, and the fault that it is about: the one that stopped the arms, or the one
/// that holds them.
pub fn next(mode: Mode, latched: Option<Fault>, events: &Events) -> (Mode, Option<Fault>) {
    let (mut mode, mut latched) = (mode, latched);
    // More than one arrow may be walked in a tick; no walk is longer than the modes are many.
    for _ in 0..6 {
        let (to, fault) = arrow(mode, latched, events);
        if (to, fault) == (mode, latched) {
            break;
        }
        (mode, latched) = (to, fault);
    }
    (mode, latched)
}

fn arrow(mode: Mode, latched: Option<Fault>, events: &Events) -> (Mode, Option<Fault>) {
    let answer = events.fault.map(|fault| fault.kind.row().answer);
    let stopped_by = latched.filter(|fault| fault.kind.row().answer == Answer::Stop);
    // The first fault that stops is the one that is told: later ones are often its consequences.
    let stop = match (stopped_by, answer) {
        (Some(first), _) => Some(first),
        (None, Some(Answer::Stop)) => events.fault,
        _ => None,
    };
    match mode {
        Mode::Fault if events.reset && answer != Some(Answer::Stop) => (Mode::Idle, None),
        Mode::Fault => (Mode::Fault, latched),
        _ if stop.is_some() && events.still => (Mode::Fault, stop),
        _ if stop.is_some() => (Mode::Stopping, stop),
        Mode::Stopping if events.still => (Mode::Idle, None),
        Mode::Stopping => (Mode::Stopping, None),
        Mode::Idle => match (events.wish, answer) {
            (Some(Wish::Run), None | Some(Answer::GoOn)) => (Mode::Armed, None),
            _ => (Mode::Idle, None),
        },
        _ if events.wish != Some(Wish::Run) => (Mode::Stopping, None),
        _ if answer == Some(Answer::Hold) => (Mode::Held, events.fault),
        Mode::Armed | Mode::Held if events.command => (Mode::Running, None),
        Mode::Held => (Mode::Held, latched),
        Mode::Armed | Mode::Running => (mode, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::faults::{FaultKind, TABLE};

    const RUN: Events = Events {
        wish: Some(Wish::Run),
        fault: None,
        command: false,
        still: true,
        reset: false,
    };

    fn fault(kind: FaultKind) -> Option<Fault> {
        Some(Fault::at(kind, 0))
    }

    #[test]
    fn a_run_from_idle_to_idle() {
        let (mode, _) = next(Mode::Idle, None, &RUN);
        assert_eq!(mode, Mode::Armed);
        let go = Events {
            command: true,
            still: false,
            ..RUN
        };
        assert_eq!(next(mode, None, &go).0, Mode::Running);
        // A command that is there at the beginning sets the arms going at once.
        assert_eq!(next(Mode::Idle, None, &go).0, Mode::Running);
        let rest = Events {
            wish: Some(Wish::Rest),
            still: false,
            ..RUN
        };
        assert_eq!(next(Mode::Running, None, &rest).0, Mode::Stopping);
        let still = Events {
            still: true,
            ..rest
        };
        assert_eq!(next(Mode::Stopping, None, &still).0, Mode::Idle);
    }

    #[test]
    fn an_unfit_input_holds_and_a_new_command_goes_on() {
        let unfit = Events {
            fault: fault(FaultKind::FrameStale),
            ..RUN
        };
        let (mode, latched) = next(Mode::Running, None, &unfit);
        assert_eq!((mode, latched), (Mode::Held, unfit.fault));
        assert_eq!(next(mode, latched, &RUN).0, Mode::Held, "no command yet");
        let unfit_still = Events {
            command: true,
            ..unfit
        };
        assert_eq!(next(mode, latched, &unfit_still).0, Mode::Held);
        let back = Events {
            command: true,
            ..RUN
        };
        assert_eq!(next(mode, latched, &back), (Mode::Running, None));
        assert_eq!(next(Mode::Idle, None, &unfit).0, Mode::Idle, "not armed");
    }

    #[test]
    fn the_first_fault_that_stops_is_told_until_it_is_reset() {
        let moving = Events {
            fault: fault(FaultKind::BusLost),
            still: false,
            ..RUN
        };
        let (mode, latched) = next(Mode::Running, None, &moving);
        assert_eq!((mode, latched), (Mode::Stopping, fault(FaultKind::BusLost)));
        let later = Events {
            fault: fault(FaultKind::ClockJump),
            still: true,
            ..RUN
        };
        let (mode, latched) = next(mode, latched, &later);
        assert_eq!((mode, latched), (Mode::Fault, fault(FaultKind::BusLost)));
        let command = Events {
            command: true,
            ..RUN
        };
        assert_eq!(next(mode, latched, &command), (mode, latched));
        let reset_in_vain = Events {
            reset: true,
            ..later
        };
        assert_eq!(next(mode, latched, &reset_in_vain).0, Mode::Fault);
        let reset = Events {
            reset: true,
            wish: Some(Wish::Rest),
            ..RUN
        };
        assert_eq!(next(mode, latched, &reset), (Mode::Idle, None));
    }

    fn any_events() -> impl Strategy<Value = Events> {
        let kinds = prop::option::of(0..TABLE.len());
        (
            any::<bool>(),
            kinds,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(|(run, kind, command, still, reset)| Events {
                wish: Some(if run { Wish::Run } else { Wish::Rest }),
                fault: kind.map(|i| Fault::at(TABLE[i].kind, 0)),
                command,
                still,
                reset,
            })
    }

    proptest! {
        #[test]
        fn no_walk_moves_an_arm_that_must_not(events in prop::collection::vec(any_events(), 1..60)) {
            let (mut mode, mut latched) = (Mode::Idle, None);
            for events in events {
                let before = mode;
                (mode, latched) = next(mode, latched, &events);
                let answer = events.fault.map(|f| f.kind.row().answer);
                if answer == Some(Answer::Stop) {
                    prop_assert!(matches!(mode, Mode::Stopping | Mode::Fault));
                }
                if answer == Some(Answer::Hold) {
                    prop_assert_ne!(mode, Mode::Running);
                }
                if before == Mode::Fault && !events.reset {
                    prop_assert_eq!(mode, Mode::Fault);
                }
                if events.wish == Some(Wish::Rest) {
                    prop_assert!(!matches!(mode, Mode::Armed | Mode::Running | Mode::Held));
                }
                // A mode that is about a fault names it, and no other does.
                let about = latched.map(|f| f.kind.row().answer);
                match mode {
                    Mode::Held => prop_assert_eq!(about, Some(Answer::Hold)),
                    Mode::Fault => prop_assert_eq!(about, Some(Answer::Stop)),
                    Mode::Stopping => prop_assert!(about != Some(Answer::Hold)),
                    _ => prop_assert_eq!(about, None),
                }
                // What is found once is found again: nothing changes without a cause.
                let again = Events { command: false, reset: false, ..events };
                let (same, _) = next(mode, latched, &again);
                prop_assert_eq!(same, mode);
            }
        }
    }
}
