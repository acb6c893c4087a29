//! What data is, in numbers.

use std::{collections::BTreeMap, fmt};

use hilt_protocol::{Entry, RigSpec};
use serde::Serialize;

use super::statistics::Spread;

/// Everything that is counted of data.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Where it lies.
    pub data: String,
    /// The rig of a recording; a table has none.
    pub rig: Option<RigSpec>,
    /// Runs of a recording, in the order in which they come.
    pub runs: Vec<Run>,
    /// Steps of all episodes.
    pub steps: u64,
    /// Episodes, in the order in which they come.
    pub episodes: Vec<Episode>,
    /// Steps of an episode.
    pub lengths: Option<Spread>,
    /// Sum of an episode's rewards.
    pub returns: Option<Spread>,
    /// Columns of observation, action and reward.
    pub numbers: Vec<Number>,
    /// Steps by who chose their action: `policy`, `human`, `scripted operator`, `random`.
    pub sources: BTreeMap<&'static str, u64>,
    /// Steps whose action a person chose, or who stands in for one.
    pub intervened_steps: u64,
    /// Stretches of such steps.
    pub interventions: u64,
    /// Observations that a person called a success.
    pub labelled_success: u64,
    /// Observations that a person called no success.
    pub labelled_failure: u64,
    /// Cameras of a recording.
    pub cameras: Vec<Camera>,
    /// How fast a recording goes on.
    pub rate: Option<Rate>,
    /// Whether the observation before an action seems to be what it led to: [`Recording::seen_late`].
    ///
    /// [`Recording::seen_late`]: hilt_recording::Recording::seen_late
    pub seen_late: bool,
    /// What is not as it should be.
    pub troubles: Troubles,
    /// Why not all of it could be read; the figures are of what came before.
    pub unread: Option<String>,
}

/// A run of the robot process.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its name.
    pub run: String,
    /// Entries that were read of it.
    pub entries: u64,
}

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The task ended.
    Terminated,
    /// Time ran out.
    Truncated,
    /// Nothing says that it ended.
    Cut,
}

/// An episode.
#[derive(Clone, Debug, Serialize)]
pub struct Episode {
    /// Its first entry, or its first row.
    pub place: Place,
    /// Steps.
    pub steps: u32,
    /// Sum of the rewards.
    #[serde(rename = "return")]
    pub sum: f64,
    /// How it ended.
    pub end: End,
    /// Steps whose action a person chose, or who stands in for one.
    pub intervened_steps: u32,
    /// A person's word on its last observation: success or not.
    pub label: Option<bool>,
}

/// What a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Of a recording its proprioception, of a table what is observed.
    Observation,
    /// What was done.
    Action,
    /// What it was worth.
    Reward,
}

/// A column.
#[derive(Clone, Debug, Serialize)]
pub struct Number {
    /// What it belongs to.
    pub group: Group,
    /// Its name.
    pub name: String,
    /// Numbers that are finite.
    pub count: u64,
    /// What these came to.
    pub spread: Option<Spread>,
    /// NaN and infinities.
    pub not_finite: Met,
    /// Of an action, numbers outside ±1.
    pub beyond: Met,
}

impl Number {
    /// Whether there is more than one of it, and all are the same.
    pub fn is_constant(&self) -> bool {
        self.count > 1 && self.spread.is_some_and(|of| of.min == of.max)
    }
}

/// A camera.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames that were read.
    pub frames: u64,
    /// Frames that are the one before in the same episode: every byte the same, or the time of capture.
    pub repeated: Met,
    /// Those of them that have its time of capture.
    pub same_time: u64,
    /// Those of them during which proprioception changed: the picture stood while the arm moved.
    pub stale: Met,
    /// The most stale frames on end.
    pub longest_stale: u64,
}

/// How fast a recording goes on: from one observation of an episode to the next.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// What the rig is to do, steps per second.
    pub nominal_hz: f64,
    /// What it did: one over the median period.
    pub median_hz: f64,
    /// Half of the periods are shorter, seconds.
    pub median_s: f64,
    /// Of a hundred one is longer, seconds.
    pub p99_s: f64,
    /// The longest, seconds.
    pub max_s: f64,
    /// How many there are.
    pub periods: u64,
}

/// What is not as it should be, counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Troubles {
    /// Entries that are not of the rig's shapes, by what is wrong with them.
    pub misfits: BTreeMap<String, Met>,
    /// Places before which entries are missing: the sequence or the index leaves some out.
    pub holes: Met,
    /// Entries that these lack.
    pub missing_entries: u64,
    /// Entries that come again or out of order.
    pub again: Met,
    /// Episodes without their first observation.
    pub headless: Met,
    /// Steps after the end of their episode.
    pub after_end: Met,
    /// Periods of more than 1.5 times the nominal one.
    pub gaps: Met,
    /// Observations that are not later than the one before.
    pub backwards: Met,
    /// Episodes without an end, though another follows.
    pub cut: Met,
    /// Runs that end within an episode.
    pub open: Met,
    /// Episodes without a step, though another follows.
    pub empty: Met,
}

impl Troubles {
    /// So many entries more are missing.
    pub(super) fn missing(&mut self, entries: u64) {
        self.missing_entries = self.missing_entries.saturating_add(entries);
    }
}

/// A place in the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// Of a recording.
    Entry {
        /// The run's name.
        run: String,
        /// The episode within the run.
        episode: u64,
        /// The observation within the episode.
        index: u32,
    },
    /// Of a table.
    Row {
        /// From 0.
        row: usize,
    },
}

impl Place {
    /// Where an entry is.
    pub fn of(entry: &Entry) -> Self {
        Self::Entry {
            run: entry.run.to_string(),
            episode: entry.episode,
            index: entry.index,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry {
                run,
                episode,
                index,
            } => write!(f, "run {run}, episode {episode}, index {index}"),
            Self::Row { row } => write!(f, "row {row}"),
        }
    }
}

/// Something that was met: how often, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Met {
    /// How often.
    pub times: u64,
    /// The first places, [`Met::PLACES`] at most.
    pub places: Vec<Place>,
}

impl Met {
    /// So many places are kept.
    pub const PLACES: usize = 3;

    /// Once more, here.
    pub fn at(&mut self, place: impl FnOnce() -> Place) {
        self.times += 1;
        if self.places.len() < Self::PLACES {
            self.places.push(place());
        }
    }
}
