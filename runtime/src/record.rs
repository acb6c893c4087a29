//! Records demonstrations, and labelled frames for the reward classifier.
//!
//! Demonstrations go to one run, `DIR`. What the classifier needs besides goes to another,
//! `DIR-labels`, because it is no part of a demonstration and covers the whole range of training:
//!
//! - the cube is lifted, held up and carried about (success);
//! - the operator closes on nothing, lifts an empty hand and carries that about in the same way (no
//!   success), so that the two differ in the cube alone;
//! - the hand wanders about the table, opening and closing (no success): what a policy does that
//!   has not learned yet.
//!
//! Frames around the threshold stay without a label, as a person would not know either.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, bail};
use hilt_drivers::{EpisodeStart, Teleop, TeleopEvent, sim::Role};
use hilt_protocol::{
    Axis, Image, Record, RigSpec, Step,
    noise::{Uniforms, mix},
};
use hilt_recording::{LOG_FILE, WriteError};
use hilt_sim::Truth;
use serde::Serialize;

use crate::{
    books::RunBooks,
    cell::Cell,
    decision::intent_action,
    evaluate::{BROKEN_EPISODES, is_passing},
    operator::{self, Operator},
    pace::Pace,
    rerun::{
        Target,
        live::{Live, Watched},
    },
    rig::Rig,
    run_log::{Journal, JournalError, RunLog, new_run},
    session::{Flow, Outcome, Policy, Seen, Session},
};

/// What to record.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// Successful demonstrations wanted.
    pub episodes: u32,
    /// Who demonstrates.
    pub demonstrator: Operator,
    /// Everything random is drawn from this.
    pub seed: u64,
    /// Folder of the demonstrations' run.
    pub out: PathBuf,
    /// Where Rerun shows everything that is tried, if anywhere.
    pub rerun: Option<Target>,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordSummary {
    /// Demonstrations kept.
    pub episodes: u32,
    /// Demonstrations tried.
    pub attempts: u32,
    /// Kept among tried.
    pub success_rate: f64,
    /// Mean time from reset to success, seconds on the run's clock.
    pub mean_time_to_success_s: f64,
    /// Their steps.
    pub steps: u64,
    /// Frames labelled success, in both runs.
    pub labelled_success: u64,
    /// Frames labelled no success, in both runs.
    pub labelled_failure: u64,
    /// `scripted` or `keyboard`: a scripted operator stands in for a person.
    pub operator: &'static str,
}

/// Steps after the end in which the hand, with or without the cube, is raised further and carried
/// about.
const CARRY_STEPS: u32 = 18;
/// Lifts over the whole range, for the labels only.
const LIFTS: u32 = 20;
/// Episodes of closing on nothing.
const MISSES: u32 = 20;
/// Episodes of wandering about, and their steps.
const WANDERS: u32 = 16;
const WANDER_STEPS: u32 = 60;
/// A cube this far from the threshold's height is clearly up, or clearly not, metres.
const CLEAR_UP_M: f64 = 0.01;
const CLEAR_DOWN_M: f64 = 0.02;
/// The steps before the success that stay without a label.
const UNSURE_STEPS: usize = 2;

/// Keeps an episode until it is known whether it is worth keeping.
#[derive(Default)]
struct Buffer(Vec<(Record, Option<Truth>)>);

impl Journal for Buffer {
    fn append(&mut self, record: Record, truth: Option<Truth>) -> Result<(), JournalError> {
        self.0.push((record, truth));
        Ok(())
    }
}

/// A frame's label, where it is clear: `None` around the threshold, `lifted_m`.
fn clear_label(truth: &Truth, lifted_m: f64) -> Option<bool> {
    if truth.lifted && truth.cube_height_m > lifted_m + CLEAR_UP_M {
        Some(true)
    } else if !truth.lifted && truth.cube_height_m < lifted_m - CLEAR_DOWN_M {
        Some(false)
    } else {
        None
    }
}

/// Labels whatever is clear by the truth.
fn label_clear(records: &mut [(Record, Option<Truth>)], lifted_m: f64) {
    for (record, truth) in records {
        if let (Record::Step(step), Some(truth)) = (record, truth) {
            step.label = clear_label(truth, lifted_m);
        }
    }
}

/// Labels what is clearly no success in a demonstration that ends in one.
fn label_demonstration(records: &mut [(Record, Option<Truth>)], lifted_m: f64) {
    let sure = records.len().saturating_sub(1 + UNSURE_STEPS);
    for (i, (record, truth)) in records.iter_mut().enumerate() {
        if let Record::Step(step) = record {
            let down = truth.is_none_or(|t| clear_label(&t, lifted_m) == Some(false));
            step.label = (i < sure && down).then_some(false);
        }
    }
}

/// Recorder: the devices and both logs.
struct Recorder<'a> {
    rig: &'a Rig,
    options: &'a RecordOptions,
    /// How high a lifted cube is, metres above its place.
    lifted_m: f64,
    cell: Cell,
    books: RunBooks,
    demonstrations: RunLog,
    labels: RunLog,
    counts: (u64, u64),
    see: &'a mut dyn FnMut(&[Image]),
    live: Option<Live>,
}

/// Records until there are enough demonstrations. `say` hears of every episode, `see` gets what
/// the cameras see while a person acts; `stop` ends it.
pub fn record(
    rig: &Rig,
    options: &RecordOptions,
    stop: &AtomicBool,
    mut say: impl FnMut(u32, &str),
    mut see: impl FnMut(&[Image]),
) -> anyhow::Result<RecordSummary> {
    let mut cell = Cell::open(rig)?;
    // Before the logs: nothing is left behind by a terminal that is none.
    let (mut teleop, help) = teleop(rig, options, &cell)?;
    let spec = rig.spec();
    let labels_dir = labels_dir(&options.out)?;
    // Both, before either is begun.
    for log in [&options.out, &labels_dir].map(|dir| dir.join(LOG_FILE)) {
        if log.exists() {
            return Err(WriteError::Exists(log).into());
        }
    }
    let run = new_run();
    let live = match &options.rerun {
        Some(target) => Live::begin(target, &spec, run, &mut |words| say(0, words))?,
        None => None,
    };
    let log = |dir: &Path, run, what: &str| {
        let metadata = BTreeMap::from([
            ("content".to_owned(), what.to_owned()),
            ("seed".to_owned(), options.seed.to_string()),
        ]);
        RunLog::create(dir, run, &spec, metadata, None)
    };
    let demonstrations = log(&options.out, run, "demonstrations")?;
    let books = RunBooks::begin(rig, &options.out, run, &mut cell)?;
    let mut recorder = Recorder {
        rig,
        options,
        lifted_m: rig.scene.clone().unwrap_or_default().arm.task().lifted_m,
        cell,
        books,
        demonstrations,
        labels: log(&labels_dir, new_run(), "labelled frames")?,
        counts: (0, 0),
        see: &mut see,
        live,
    };
    if !help.is_empty() {
        say(0, &help);
    }
    let summary = recorder.demonstrate(&mut *teleop, stop, &mut say)?;
    if options.demonstrator == Operator::Scripted {
        recorder.label(stop, &mut say)?;
    }
    let (labelled_success, labelled_failure) = recorder.counts;
    let last = recorder.cell.end();
    recorder.demonstrations.finish()?;
    recorder.labels.finish()?;
    recorder.books.finish(last)?;
    if let Some(words) = recorder.live.and_then(Live::end) {
        say(summary.episodes, &words);
    }
    let summary = RecordSummary {
        labelled_success,
        labelled_failure,
        ..summary
    };
    std::fs::write(
        options.out.join("summary.json"),
        serde_json::to_vec_pretty(&summary)?,
    )?;
    Ok(summary)
}

/// `DIR-labels` beside `DIR`.
fn labels_dir(out: &Path) -> anyhow::Result<PathBuf> {
    let name = out
        .file_name()
        .with_context(|| format!("--out {}: name a folder", out.display()))?;
    Ok(out.with_file_name(format!("{}-labels", name.to_string_lossy())))
}

/// Who demonstrates, and what to tell a person of their device.
fn teleop(
    rig: &Rig,
    options: &RecordOptions,
    cell: &Cell,
) -> anyhow::Result<(Box<dyn Teleop>, String)> {
    match options.demonstrator {
        Operator::Scripted => {
            let scripted = cell
                .operator(rig, Role::Demonstrate)
                .context("this rig has no scripted operator; use --operator keyboard")?;
            Ok((Box::new(scripted), String::new()))
        }
        person => Ok(operator::hands(person, rig, false)?),
    }
}

impl Recorder<'_> {
    fn by_person(&self) -> bool {
        self.options.demonstrator.is_person()
    }

    fn pace(&self) -> Pace {
        Pace::of(self.rig, self.by_person())
    }

    fn episode(
        &mut self,
        teleop: &mut dyn Teleop,
        start: EpisodeStart,
        max_steps: u32,
        stop: &AtomicBool,
        buffer: &mut Buffer,
    ) -> anyhow::Result<Outcome> {
        let (mut pace, person) = (self.pace(), self.by_person());
        let mut session = Session {
            cell: &mut self.cell,
            teleop: Some(teleop),
            rules: self.rig.classifier,
            episode: self.rig.episode,
            seed: start.seed,
            steps: 0,
        };
        // Nothing is random here but the start and the operator's own noise.
        session.episode.random_steps = 0;
        session.episode.max_steps = max_steps;
        let mut see = |images: &[Image]| {
            if person {
                (self.see)(images);
            }
        };
        let live = self.live.as_ref();
        let mut watched = Watched {
            journal: buffer,
            live,
        };
        let mut journal = Seen {
            journal: &mut watched,
            see: &mut see,
            took: &mut |stage, duration_ns| {
                self.books.took(stage, duration_ns);
                if let Some(live) = live {
                    live.took(stage, duration_ns);
                }
            },
        };
        let outcome = session.run_episode(&mut Policy::Nobody, start, &mut journal, |_, _| {
            pace.wait();
            if stop.load(Ordering::Relaxed) {
                Flow::End
            } else {
                Flow::Go
            }
        })?;
        let counts = self.cell.counts();
        self.books.tell(|news| {
            news.counts = counts;
            news.episodes += 1;
            news.env_steps += u64::from(outcome.steps);
            // What is kept of it is in the log.
            news.entries = self.demonstrations.entries() + self.labels.entries();
        });
        Ok(outcome)
    }

    fn demonstrate(
        &mut self,
        teleop: &mut dyn Teleop,
        stop: &AtomicBool,
        say: &mut impl FnMut(u32, &str),
    ) -> anyhow::Result<RecordSummary> {
        let (mut kept, mut attempts, mut steps, mut broken) = (0u32, 0u32, 0u64, 0);
        while kept < self.options.episodes {
            let seed = mix(self.options.seed ^ mix(0x6465_6d6f ^ (u64::from(attempts) << 32)));
            attempts += 1;
            let start = EpisodeStart {
                range_m: self.rig.episode.demonstration_range_m,
                seed,
            };
            let mut buffer = Buffer::default();
            if self.by_person() {
                let of = self.options.episodes;
                say(
                    kept,
                    &format!(
                        "demonstration {} of {of}: drive; enter when it is done",
                        kept + 1
                    ),
                );
            }
            let max_steps = self.rig.episode.max_steps;
            let outcome = match self.episode(teleop, start, max_steps, stop, &mut buffer) {
                Err(error) if is_passing(&error) && broken < BROKEN_EPISODES => {
                    broken += 1;
                    say(kept, &format!("broken off, and thrown away: {error}"));
                    continue;
                }
                outcome => outcome?,
            };
            broken = 0;
            if outcome.cut || outcome.said == Some(TeleopEvent::Stop) {
                break;
            }
            if !outcome.ending.terminated {
                say(kept, "not a success: thrown away");
                if attempts > 20 + 10 * self.options.episodes {
                    bail!("{kept} of {attempts} demonstrations succeeded; check rig and operator");
                }
                continue;
            }
            label_demonstration(&mut buffer.0, self.lifted_m);
            for (record, _) in buffer.0 {
                self.count(&record);
                self.demonstrations.add(record)?;
            }
            kept += 1;
            steps += u64::from(outcome.steps);
            if self.by_person() {
                say(
                    kept,
                    "hold it up and carry it about, until the next one begins",
                );
            }
            match self.carry(teleop, seed, true) {
                Ok(()) => say(kept, "recorded"),
                Err(error) if is_passing(&error) => {
                    say(kept, &format!("recorded; carrying was broken off: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        let period_s = 1.0 / f64::from(self.rig.policy_hz);
        Ok(RecordSummary {
            episodes: kept,
            attempts,
            success_rate: f64::from(kept) / f64::from(attempts.max(1)),
            mean_time_to_success_s: steps as f64 * period_s / f64::from(kept.max(1)),
            steps,
            labelled_success: 0,
            labelled_failure: 0,
            operator: self.options.demonstrator.name(),
        })
    }

    fn count(&mut self, record: &Record) {
        if let Record::Step(step) = record {
            self.counts.0 += u64::from(step.label == Some(true));
            self.counts.1 += u64::from(step.label == Some(false));
        }
    }

    /// After the end: up a little further, then carried about at that height.
    fn carry(&mut self, teleop: &mut dyn Teleop, seed: u64, success: bool) -> anyhow::Result<()> {
        let mut random = Uniforms::new(mix(seed ^ 0x686f_6c64));
        let raise = 2 + random.below(9) as u32;
        let way = std::f64::consts::TAU * random.open01();
        let carry = [way.cos(), way.sin()].map(|v| v * random.range(0.2, 1.0));
        let spec = self.cell.spec().clone();
        let mut pace = self.pace();
        for i in 0..=CARRY_STEPS {
            pace.wait();
            let intent = teleop.intent(self.cell.now_ns())?;
            let action = match intent {
                // A person carries it about by hand.
                Some(intent) if i < raise || self.by_person() => intent_action(&intent, &spec),
                _ if self.by_person() => vec![0.0; spec.action_dim()],
                _ => carry_action(&spec, carry),
            };
            let executed = self.cell.step(&action)?;
            if self.by_person() {
                (self.see)(&executed.next.images);
            }
            if i == 0 {
                // What was before belongs to the other run: the first frame here begins an episode.
                self.labels.add(Record::Reset(executed.next))?;
                continue;
            }
            let truth = self.cell.truth();
            let clear = truth.is_none_or(|t| clear_label(&t, self.lifted_m) == Some(success));
            let record = Record::Step(Step {
                action: executed.action,
                source: teleop.source(),
                reward: 0.0,
                grasp_penalty: 0.0,
                terminated: false,
                truncated: i == CARRY_STEPS,
                label: clear.then_some(success),
                policy_version: 0,
                noise_seed: 0,
                next: executed.next,
            });
            self.count(&record);
            self.labels.add(record)?;
        }
        Ok(())
    }

    /// Episodes for the classifier alone: lifts, misses and wanderings, anywhere in the range.
    fn label(&mut self, stop: &AtomicBool, say: &mut impl FnMut(u32, &str)) -> anyhow::Result<()> {
        let kinds = [
            (Role::Demonstrate, LIFTS, "what success looks like"),
            (Role::Miss, MISSES, "what failure looks like"),
            (Role::Wander, WANDERS, "what the hand looks like on its way"),
        ];
        for (kind, (role, episodes, what)) in kinds.into_iter().enumerate() {
            let mut operator = self
                .cell
                .operator(self.rig, role)
                .context("this rig has no scripted operator")?;
            for i in 0..episodes {
                let number = (kind as u64) << 40 | u64::from(i) << 32;
                let seed = mix(self.options.seed ^ mix(0x6c61_6265_6c00 ^ number));
                let start = EpisodeStart {
                    range_m: self.rig.episode.range_m,
                    seed,
                };
                let mut buffer = Buffer::default();
                let max_steps = match role {
                    Role::Wander => WANDER_STEPS,
                    _ => self.rig.episode.max_steps,
                };
                let outcome = self.episode(&mut operator, start, max_steps, stop, &mut buffer)?;
                if outcome.cut {
                    return Ok(());
                }
                label_clear(&mut buffer.0, self.lifted_m);
                for (record, _) in buffer.0 {
                    self.count(&record);
                    self.labels.add(record)?;
                }
                if role != Role::Wander {
                    let success = role == Role::Demonstrate && outcome.ending.terminated;
                    self.carry(&mut operator, seed, success)?;
                }
                say(self.options.episodes, &format!("{what}: recorded"));
            }
        }
        Ok(())
    }
}

/// An action that carries on the table's plane, as far as the spec has x and y.
fn carry_action(spec: &RigSpec, carry: [f64; 2]) -> Vec<f32> {
    let mut action = vec![0.0; spec.action_dim()];
    for (column, axis) in action.iter_mut().zip(&spec.controlled_axes) {
        match axis {
            Axis::X => *column = carry[0] as f32,
            Axis::Y => *column = carry[1] as f32,
            _ => {}
        }
    }
    action
}
