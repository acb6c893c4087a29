//! What a rig's file says about running on the monotonic clock.

use hilt_realtime::{Wanted, cores};
use serde::{Deserialize, Serialize};

use crate::control::AgeLimits;

/// How old what is acted on may be, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ages {
    /// The arms' state. A servo whose replies fail for so long stops the arms.
    pub state_ms: f64,
    /// The cameras' newest frames. Older ones hold the arms.
    pub frame_ms: f64,
    /// What a person's device says. Older words stop the arms: nobody can take over any more.
    pub intent_ms: f64,
    /// The policy's last sign; four policy periods if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_ms: Option<f64>,
    /// A command, counted from the policy step that it is for; one policy period if not given.
    /// Older ones are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_ms: Option<f64>,
    /// A joint that is farther from where it was sent than `limits.following_rad`. After so long it does
    /// not follow any more, and the arms are stopped.
    pub astray_ms: f64,
    /// The control loop's last tick. After so long the supervisor takes the buses and holds the arms.
    pub loop_ms: f64,
    /// The tick before. What is longer ago is no lateness but a machine that stood still.
    pub jump_ms: f64,
}

impl Default for Ages {
    /// 100 ms for a frame: three of a camera's 30 Hz. 50 ms for the state, which is five hundredths
    /// of a radian at one radian a second. 80 ms for the loop: a dead robot's arm is to be held within
    /// 100 ms.
    fn default() -> Self {
        Self {
            state_ms: 50.0,
            frame_ms: 100.0,
            intent_ms: 200.0,
            policy_ms: None,
            command_ms: None,
            astray_ms: 200.0,
            loop_ms: 80.0,
            jump_ms: 1000.0,
        }
    }
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

impl Ages {
    /// As the control loop wants them, for a policy of this period.
    pub fn limits(&self, policy_period_ns: u64) -> AgeLimits {
        AgeLimits {
            state_ns: ns(self.state_ms),
            frame_ns: ns(self.frame_ms),
            policy_ns: self.policy_ms.map_or(4 * policy_period_ns, ns),
            astray_ns: ns(self.astray_ms),
            tick_ns: ns(self.jump_ms),
        }
    }

    /// An intent's oldest age, nanoseconds.
    pub fn intent_ns(&self) -> u64 {
        ns(self.intent_ms)
    }

    /// A command's oldest age, nanoseconds.
    pub fn command_ns(&self, policy_period_ns: u64) -> u64 {
        self.command_ms.map_or(policy_period_ns, ns)
    }
}

/// What the control thread asks of the system. What it does not get is said once, with the remedy,
/// and the run goes on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Realtime {
    /// The core that is the control thread's own; an isolated one, or the last, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<usize>,
    /// Its priority under SCHED_FIFO, 1 to 99; 0: scheduled like any other thread.
    pub priority: u8,
    /// Whether the process's memory is kept from being swapped out.
    pub lock_memory: bool,
}

impl Default for Realtime {
    fn default() -> Self {
        Self {
            core: None,
            priority: 80,
            lock_memory: true,
        }
    }
}

impl Realtime {
    /// The same, asked of this machine.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            core: self.core.or_else(cores::spare_here),
            priority: (self.priority > 0).then_some(self.priority),
            lock_memory: self.lock_memory,
        }
    }
}
