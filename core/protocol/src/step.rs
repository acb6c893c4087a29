//! One step of experience.

use std::{fmt, str::FromStr, sync::Arc};

/// Identity of one run of the robot process: its start in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for RunId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// One camera frame at the policy's size: RGB, 8 bits, row-major (height, width, 3).
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// Time of capture on the run's clock, nanoseconds.
    pub captured_ns: u64,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// `height * width * 3` bytes, shared so that log and stream need no copy.
    pub rgb: Arc<[u8]>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Image({}x{} at {} ns)",
            self.height, self.width, self.captured_ns
        )
    }
}

/// What the policy saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Time of the arm state's capture on the run's clock, nanoseconds.
    pub captured_ns: u64,
    /// Arm state; names and order are `RigSpec::proprio`.
    pub proprio: Vec<f32>,
    /// One frame per camera, in the order of `RigSpec::cameras`.
    pub images: Vec<Image>,
}

/// Whose action was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActionSource {
    /// The policy's.
    Policy,
    /// A person's, who took over: an intervention. During recording: the demonstration itself.
    Human,
    /// A scripted stand-in for a person. Treated as `Human` by the learner, told apart in reports.
    ScriptedOperator,
    /// Uniformly random, before the policy is trusted.
    Random,
}

impl ActionSource {
    /// Whether the step belongs in the demonstration replay as well.
    pub fn is_intervention(self) -> bool {
        matches!(self, Self::Human | Self::ScriptedOperator)
    }
}

/// An executed action and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The filtered command that went to the arm, mapped back to the action space: motion columns
    /// in [-1, 1]; gripper columns -1 (close), 0 (stay) or 1 (open).
    pub action: Vec<f32>,
    /// Who chose it.
    pub source: ActionSource,
    /// Reward of this transition, from the reward classifier (or the person's label).
    pub reward: f32,
    /// Added to the reward of the grasp critic: negative when a command changed a gripper's state.
    pub grasp_penalty: f32,
    /// The task ended here: no bootstrapping from the next observation.
    pub terminated: bool,
    /// Time ran out, or a person stopped the episode: bootstrap as usual.
    pub truncated: bool,
    /// What a person said of the *next* observation, if anything: success or not.
    pub label: Option<bool>,
    /// Version of the policy snapshot in force (0: none).
    pub policy_version: u64,
    /// Seed of the exploration noise, an input of the policy graph; see [`crate::noise`].
    pub noise_seed: u64,
    /// What the action led to.
    pub next: Observation,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An episode begins with this observation.
    Reset(Observation),
    /// A step, ending in its next observation.
    Step(Step),
}

/// One line of the run's story: unit of the log, of the stream, and of acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which run.
    pub run: RunId,
    /// 0, 1, 2, … within the run, without holes. Where one is missing, the transition across the
    /// gap cannot be sampled.
    pub sequence: u64,
    /// 0, 1, 2, … within the run.
    pub episode: u64,
    /// The observation's place in its episode: 0 for the reset.
    pub index: u32,
    /// The content.
    pub record: Record,
}

impl Entry {
    /// The observation that this entry adds.
    pub fn observation(&self) -> &Observation {
        match &self.record {
            Record::Reset(observation) => observation,
            Record::Step(step) => &step.next,
        }
    }
}
