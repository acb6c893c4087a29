//! Everything that can go wrong in a run, in one table: how soon it is seen and what is done then.

use hilt_drivers::ArmError;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A servo has not answered for too long.
    ServoSilent,
    /// Its replies have been unreadable for too long.
    ReplyCorrupted,
    /// Another servo answers in its place.
    WrongId,
    /// A servo reports an error of its own.
    ServoError,
    /// A joint reports positions that it cannot have reached.
    Implausible,
    /// A joint is not where it was sent: it is blocked, overloaded, or has lost its power.
    Astray,
    /// The bus is gone.
    BusLost,
    /// The arm is stopped, or refuses a target that the loop has checked: a mistake in hilt.
    TargetRefused,
    /// The arm's device reports a fault that it cannot name.
    DeviceFault,
    /// An arm's state is too old, and nothing says why.
    StateStale,
    /// A camera's newest frame is too old: it is late, frozen or gone.
    FrameStale,
    /// The device with which a person takes over is gone.
    TeleopGone,
    /// The policy's action is not a number.
    PolicyNotFinite,
    /// The policy's action was held back by the limits.
    PolicyOutOfBounds,
    /// The policy's command came after its deadline.
    PolicyLate,
    /// The policy has given no sign for too long.
    PolicySilent,
    /// The learner does not answer.
    LearnerGone,
    /// The run's log cannot be written.
    LogFailed,
    /// The clock ran backwards, or the whole machine stood still.
    ClockJump,
    /// The supervisor has taken the buses.
    Overtaken,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It is counted and the run goes on.
    GoOn,
    /// All arms are brought to a standstill within their limits and held. The run goes on by itself
    /// with the first command after the input is fit again.
    Hold,
    /// All arms are brought to a standstill within their limits and held, torque on, until a person
    /// has looked and reset it.
    Stop,
}

/// When it is seen at the latest, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// After so many control ticks.
    Ticks(u32),
    /// One tick after the arms' state has reached its age limit (`ages.state_ms`).
    StateAge,
    /// One tick after a joint has been farther from where it was sent than `limits.following_rad`
    /// for its limit (`ages.astray_ms`).
    Following,
    /// One tick after the newest frame has reached its age limit (`ages.frame_ms`).
    FrameAge,
    /// One tick after the policy's last sign has reached its age limit (`ages.policy_ms`).
    PolicyAge,
    /// At the policy's next step.
    PolicyStep,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is wrong.
    pub kind: FaultKind,
    /// In words.
    pub words: &'static str,
    /// When it is seen.
    pub bound: Bound,
    /// What is done.
    pub answer: Answer,
    /// What a person does.
    pub remedy: &'static str,
}

const fn row(
    kind: FaultKind,
    words: &'static str,
    bound: Bound,
    answer: Answer,
    remedy: &'static str,
) -> Row {
    Row {
        kind,
        words,
        bound,
        answer,
        remedy,
    }
}

/// The table, in the order of [`FaultKind`].
///
/// A fault of an arm or of the clock stops: what the arm does meanwhile is not known, so a person
/// looks before it moves again. A device that a person must be able to use stops for the same
/// reason. An input of the policy only holds: when it is back, nothing has been lost. What concerns
/// neither arm nor policy goes on.
pub const TABLE: [Row; 20] = {
    use {Answer::*, Bound::*, FaultKind::*};
    [
        row(
            ServoSilent,
            "a servo does not answer",
            StateAge,
            Stop,
            "check its cable, its power and its id",
        ),
        row(
            ReplyCorrupted,
            "a servo's replies are corrupted",
            StateAge,
            Stop,
            "check the bus cable, and what runs beside it",
        ),
        row(
            WrongId,
            "another servo answers in its place",
            StateAge,
            Stop,
            "look for two servos with one id",
        ),
        row(
            ServoError,
            "a servo reports an error",
            Ticks(SERVO_ERROR_TICKS),
            Stop,
            "let it cool down, free its joint, check the supply's voltage",
        ),
        row(
            Implausible,
            "a joint reports impossible positions",
            StateAge,
            Stop,
            "check the servo's gears and its calibration",
        ),
        row(
            Astray,
            "a joint is not where it was sent",
            Following,
            Stop,
            "free the arm, check that every servo has power, lower its speed or its load",
        ),
        row(
            BusLost,
            "the bus is gone",
            Ticks(1),
            Stop,
            "plug the adapter in again, then start again",
        ),
        row(
            TargetRefused,
            "the arm refuses its target",
            Ticks(1),
            Stop,
            "report it with this run's folder: hilt has checked the target before",
        ),
        row(
            DeviceFault,
            "the arm reports a fault",
            Ticks(1),
            Stop,
            "check power and cable",
        ),
        row(
            StateStale,
            "an arm's state is too old",
            StateAge,
            Stop,
            "see `hilt doctor` for the bus's latency",
        ),
        row(
            FrameStale,
            "a camera gives no new frames",
            FrameAge,
            Hold,
            "plug it in again; the run goes on by itself",
        ),
        row(
            TeleopGone,
            "the device to take over with is gone",
            PolicyStep,
            Stop,
            "plug it in again: without it nobody can take over",
        ),
        row(
            PolicyNotFinite,
            "the policy's action is not a number",
            PolicyStep,
            Hold,
            "look at the learner's losses; the run goes on with the next good action",
        ),
        row(
            PolicyOutOfBounds,
            "the policy's action is held back by the limits",
            PolicyStep,
            GoOn,
            "nothing: what was commanded is what is learned from",
        ),
        row(
            PolicyLate,
            "the policy's command came too late",
            Ticks(1),
            GoOn,
            "lower policy_hz, or give inference a faster provider",
        ),
        row(
            PolicySilent,
            "the policy gives no sign",
            PolicyAge,
            Hold,
            "see `hilt top` for the stage that takes so long",
        ),
        row(
            LearnerGone,
            "the learner does not answer",
            PolicyStep,
            GoOn,
            "start it again; the log keeps every step for it",
        ),
        row(
            LogFailed,
            "the run's log cannot be written",
            PolicyStep,
            Stop,
            "free some space or choose another folder with --out",
        ),
        row(
            ClockJump,
            "the clock jumped, or the machine stood still",
            Ticks(1),
            Stop,
            "do not suspend the machine; see `hilt doctor` for its clock",
        ),
        row(
            Overtaken,
            "the supervisor has taken the buses",
            Ticks(1),
            Stop,
            "the control thread hung; see `hilt doctor`, then start again",
        ),
    ]
};

/// A servo's error counts as such when it was there in so many ticks on end: a sag of the supply
/// while all joints start is none.
pub const SERVO_ERROR_TICKS: u32 = 3;

impl FaultKind {
    /// Its line of the table.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// A fault and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// With which arm or camera, from 0; 0 for what there is one of.
    pub place: u8,
    /// What the arm said, if it was one.
    pub error: Option<ArmError>,
}

impl Fault {
    /// Of an arm, by what it said.
    pub fn of_arm(arm: usize, error: ArmError) -> Self {
        Self {
            kind: kind_of(error),
            place: arm as u8,
            error: Some(error),
        }
    }

    /// Without an arm's words.
    pub fn at(kind: FaultKind, place: usize) -> Self {
        Self {
            kind,
            place: place as u8,
            error: None,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let row = self.kind.row();
        match (self.error, self.kind) {
            (Some(error), _) => write!(f, "arm {}: {error}", self.place),
            (None, FaultKind::FrameStale) => {
                write!(f, "camera {}: {}; {}", self.place, row.words, row.remedy)
            }
            (None, _) => write!(f, "{}; {}", row.words, row.remedy),
        }
    }
}

/// What an arm's words mean.
fn kind_of(error: ArmError) -> FaultKind {
    match error {
        ArmError::Silent(_) => FaultKind::ServoSilent,
        ArmError::Corrupted(_) => FaultKind::ReplyCorrupted,
        ArmError::WrongId { .. } => FaultKind::WrongId,
        ArmError::Servo { .. } => FaultKind::ServoError,
        ArmError::Implausible(_) => FaultKind::Implausible,
        ArmError::Unplugged => FaultKind::BusLost,
        ArmError::Device | ArmError::Mode(_) => FaultKind::DeviceFault,
        ArmError::Stopped
        | ArmError::Joints { .. }
        | ArmError::NotFinite(_)
        | ArmError::OutOfLimits(_) => FaultKind::TargetRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_line() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, place, "{:?}", row.kind);
            assert_eq!(row.kind.row(), row);
            assert!(!row.words.is_empty() && !row.remedy.is_empty());
        }
    }

    #[test]
    fn an_arms_words_stay_its_words() {
        let fault = Fault::of_arm(1, ArmError::Silent(4));
        assert_eq!(fault.kind, FaultKind::ServoSilent);
        assert!(
            fault.to_string().starts_with("arm 1: servo 4 does not"),
            "{fault}"
        );
        let frame = Fault::at(FaultKind::FrameStale, 2).to_string();
        assert!(frame.starts_with("camera 2: ") && frame.contains("plug it in"));
    }
}
