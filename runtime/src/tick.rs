//! Words for one tick of the control loop: how it ended, what it was busy with, and for how long.

use serde::{Deserialize, Serialize};

/// How a tick ended: in exactly one of these ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Targets went to all arms, in time.
    OnTime,
    /// Targets went to all arms, but the tick began or ended later than its budget allows.
    Late,
    /// The tick was not run at all: its whole period had passed when the one before ended.
    Missed,
    /// There is no command yet.
    Idle,
    /// A new command came too late and was refused for all arms; the one before goes on.
    RefusedLate,
    /// A new command does not name every arm and was refused for all; the one before goes on.
    RefusedIncomplete,
    /// An input is too old or not fit for use; the arms are held until it is back.
    Held,
    /// The arms are being brought to a standstill.
    Stopping,
    /// A fault holds the arms until a person resets it.
    Stopped,
}

impl Outcome {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::OnTime,
        Self::Late,
        Self::Missed,
        Self::Idle,
        Self::RefusedLate,
        Self::RefusedIncomplete,
        Self::Held,
        Self::Stopping,
        Self::Stopped,
    ];

    /// As it is called in logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnTime => "on time",
            Self::Late => "late",
            Self::Missed => "missed",
            Self::Idle => "idle",
            Self::RefusedLate => "refused late",
            Self::RefusedIncomplete => "refused incomplete",
            Self::Held => "held",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// Ticks by outcome. Their sum is the number of ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts([u64; Outcome::ALL.len()]);

impl OutcomeCounts {
    /// `n` more ticks ended like this.
    pub fn add(&mut self, outcome: Outcome, n: u64) {
        self.0[outcome as usize] += n;
    }

    /// `n` ticks did not end like this after all.
    pub fn take(&mut self, outcome: Outcome, n: u64) {
        self.0[outcome as usize] -= n;
    }

    /// Ticks that ended like this.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// All ticks.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What time is spent on, and what is measured against a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Control: from the deadline to the thread's running.
    Wake,
    /// Control: reading the arms.
    StateRead,
    /// Control: deciding, the pure step.
    Safety,
    /// Control: writing the arms.
    CommandWrite,
    /// Policy: age of the oldest frame when it is used.
    FrameAge,
    /// Policy: the encoder.
    Encode,
    /// Policy: the head.
    Head,
    /// Policy: from the head's answer to the command's being there for the control thread.
    Publish,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Wake,
        Self::StateRead,
        Self::Safety,
        Self::CommandWrite,
        Self::FrameAge,
        Self::Encode,
        Self::Head,
        Self::Publish,
    ];

    /// As it is called in logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::StateRead => "state read",
            Self::Safety => "safety",
            Self::CommandWrite => "command write",
            Self::FrameAge => "frame age",
            Self::Encode => "encode",
            Self::Head => "head",
            Self::Publish => "publish",
        }
    }
}

/// When a tick did what, nanoseconds on the run's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickTimes {
    /// Its deadline: when it should have begun.
    pub due_ns: u64,
    /// When it began.
    pub woke_ns: u64,
    /// When the arms were read.
    pub read_ns: u64,
    /// When it was decided what to do.
    pub decided_ns: u64,
    /// When the arms were written.
    pub written_ns: u64,
}
