//! What is shown, where and when.
//!
//! | path | what |
//! |---|---|
//! | `/cameras/<name>` | the frame, at the time of its own capture |
//! | `/state/<name>` | a number of the arms' state |
//! | `/action/<column>` | what was commanded, in the action's units, at the time of the observation that it led to |
//! | `/reward`, `/grasp_penalty`, `/intervention` | of the step; an intervention is 1, everything else 0 |
//! | `/episode` | in words: where one begins, how it ended |
//! | `/timing/step_ms` | from one observation of an episode to the next |
//! | `/timing/frame_age_ms/<camera>` | how much older the frame is than the arms' state |
//! | `/timing/<stage>_ms` | what a stage of a tick or a policy step took |
//! | `/control` | in words: how ticks end, whenever that changes |
//!
//! There are two time lines: `step`, the entry's sequence in its run, and `run_time`, the run's clock.

use hilt_protocol::{Entry, Image, Record, RigSpec, Step};
use hilt_recording::table::Table;

use crate::{
    control::TickRecord,
    tick::{Outcome, Stage},
};

/// When, on the time lines that know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The entry's sequence in its run; a table's row.
    pub step: Option<u64>,
    /// The run's clock, nanoseconds.
    pub run_time_ns: Option<u64>,
}

/// What.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A camera's frame.
    Image(Image),
    /// A number, a point of a curve.
    Scalar(f64),
    /// A line of text.
    Text(String),
}

/// One thing at one place and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The entity's path, part by part; parts may hold any letters.
    pub path: Vec<String>,
    /// When.
    pub at: Moment,
    /// What.
    pub content: Content,
}

impl Shown {
    fn new(path: &[&str], at: Moment, content: Content) -> Self {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        Self { path, at, content }
    }

    fn scalar(path: &[&str], at: Moment, value: impl Into<f64>) -> Self {
        Self::new(path, at, Content::Scalar(value.into()))
    }

    fn text(path: &[&str], at: Moment, text: String) -> Self {
        Self::new(path, at, Content::Text(text))
    }
}

/// A run's entries and ticks, one after the other.
pub struct Scenes {
    spec: RigSpec,
    /// Names of the action's columns.
    columns: Vec<String>,
    /// When the episode's observation before was captured.
    before_ns: Option<u64>,
    /// How the tick before ended.
    outcome: Option<Outcome>,
}

impl Scenes {
    /// Of a run with this spec.
    pub fn new(spec: &RigSpec) -> Self {
        Self {
            columns: spec.action_names(),
            spec: spec.clone(),
            before_ns: None,
            outcome: None,
        }
    }

    /// What an entry shows.
    pub fn of_entry(&mut self, entry: &Entry) -> Vec<Shown> {
        let observation = entry.observation();
        let now_ns = observation.captured_ns;
        let at = Moment {
            step: Some(entry.sequence),
            run_time_ns: Some(now_ns),
        };
        let mut shown = Vec::new();
        for (camera, image) in self.spec.cameras.iter().zip(&observation.images) {
            let captured = Moment {
                run_time_ns: Some(image.captured_ns),
                ..at
            };
            let frame = Content::Image(image.clone());
            shown.push(Shown::new(&["cameras", &camera.name], captured, frame));
            let age = ms(image.captured_ns, now_ns);
            shown.push(Shown::scalar(
                &["timing", "frame_age_ms", &camera.name],
                at,
                age,
            ));
        }
        let state = self.spec.proprio.iter().zip(&observation.proprio);
        shown.extend(state.map(|(name, value)| Shown::scalar(&["state", name], at, *value)));
        match &entry.record {
            Record::Reset(_) => {
                self.before_ns = None;
                let words = format!("episode {} begins", entry.episode);
                shown.push(Shown::text(&["episode"], at, words));
            }
            Record::Step(step) => shown.extend(self.of_step(entry, step, at)),
        }
        self.before_ns = Some(now_ns);
        shown
    }

    fn of_step(&self, entry: &Entry, step: &Step, at: Moment) -> Vec<Shown> {
        let action = self.columns.iter().zip(&step.action);
        let mut shown: Vec<_> = action
            .map(|(name, value)| Shown::scalar(&["action", name], at, *value))
            .collect();
        shown.push(Shown::scalar(&["reward"], at, step.reward));
        if self.spec.mode.learned_gripper() {
            shown.push(Shown::scalar(&["grasp_penalty"], at, step.grasp_penalty));
        }
        let intervention = u8::from(step.source.is_intervention());
        shown.push(Shown::scalar(&["intervention"], at, intervention));
        if let Some(before_ns) = self.before_ns {
            let took = ms(before_ns, step.next.captured_ns);
            shown.push(Shown::scalar(&["timing", "step_ms"], at, took));
        }
        let end = match (step.terminated, step.truncated) {
            (true, _) => "terminated: the task came to its end",
            (false, true) => "truncated: time ran out, or it was stopped",
            (false, false) => return shown,
        };
        let words = format!(
            "episode {} ends after {} steps with reward {}, {end}",
            entry.episode, entry.index, step.reward
        );
        shown.push(Shown::text(&["episode"], at, words));
        shown
    }

    /// What a tick of the control loop shows, at its deadline.
    pub fn of_tick(&mut self, tick: &TickRecord) -> Vec<Shown> {
        let times = &tick.times;
        let at = Moment {
            step: None,
            run_time_ns: Some(times.due_ns),
        };
        let mut shown = Vec::new();
        if tick.outcome != Outcome::Missed {
            let moments = [
                times.due_ns,
                times.woke_ns,
                times.read_ns,
                times.decided_ns,
                times.written_ns,
            ];
            let stages = [
                Stage::Wake,
                Stage::StateRead,
                Stage::Safety,
                Stage::CommandWrite,
            ];
            for (stage, ends) in stages.into_iter().zip(moments.windows(2)) {
                shown.push(of_stage(at, stage, ms(ends[0], ends[1])));
            }
        }
        if self.outcome.replace(tick.outcome) != Some(tick.outcome) {
            let words = format!("from tick {} on: {}", tick.number, tick.outcome.name());
            shown.push(Shown::text(&["control"], at, words));
        }
        shown
    }
}

/// What a stage of the policy's step `step` took.
pub fn of_policy_stage(step: u64, stage: Stage, duration_ns: u64) -> Shown {
    let at = Moment {
        step: Some(step),
        run_time_ns: None,
    };
    of_stage(at, stage, ms(0, duration_ns))
}

fn of_stage(at: Moment, stage: Stage, took_ms: f64) -> Shown {
    let name = format!("{}_ms", stage.name().replace(' ', "_"));
    Shown::scalar(&["timing", &name], at, took_ms)
}

/// What a table's row shows: it knows no time, no names and no cameras.
pub fn of_row(table: &Table, row: usize) -> Vec<Shown> {
    let at = Moment {
        step: Some(row as u64),
        run_time_ns: None,
    };
    let columns = [
        ("state", table.observation(row)),
        ("action", table.action(row)),
    ];
    let mut shown = Vec::new();
    for (path, values) in columns {
        let numbered = (0..).zip(values);
        shown.extend(
            numbered
                .map(|(i, value): (usize, _)| Shown::scalar(&[path, &i.to_string()], at, *value)),
        );
    }
    shown.push(Shown::scalar(&["reward"], at, table.columns().rewards[row]));
    if table.ends(row) {
        let end = match table.columns().terminals[row] {
            true => "terminated: the task came to its end",
            false => "truncated: time ran out, or the next row does not go on from it",
        };
        shown.push(Shown::text(
            &["episode"],
            at,
            format!("an episode ends, {end}"),
        ));
    }
    shown
}

/// From one time to another, milliseconds.
fn ms(from_ns: u64, to_ns: u64) -> f64 {
    let apart = from_ns.abs_diff(to_ns) as f64 / 1e6;
    if to_ns < from_ns { -apart } else { apart }
}
