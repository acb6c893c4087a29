//! The actor of a training run: episodes with the learner's policy, a person (or the scripted
//! operator) who takes over, rewards from the classifier, every step logged and streamed.

use std::{
    cell::{Cell as StdCell, RefCell},
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hilt_drivers::{EpisodeStart, Teleop, TeleopEvent, sim::Role};
use hilt_link::{ActorConfig, ActorLink, WindowLimits};
use hilt_protocol::{Image, noise::mix};
use hilt_realtime::Monotonic;
use hilt_show::{Rate, per_s, percent};
use serde::Serialize;

use crate::{
    books::RunBooks,
    brain::Brain,
    cell::Cell,
    faulty::{Faults, FaultyBrain, FaultyJournal},
    inference::{Engine, Kept},
    learner_side::LearnerSide,
    operator::{self, Operator},
    pace::Pace,
    rerun::{
        Target,
        live::{Live, Watched},
    },
    rig::{ClockKind, Rig},
    run_log::{RunLog, new_run},
    session::{Confusion, Flow, Outcome, Policy, Seen, Session},
    status::Timing,
    view,
};

/// When so many episodes on end are broken off, the run ends: what is wrong does not pass.
const BROKEN_EPISODES: u32 = 20;
/// Episodes at the beginning and at the end over which rates are reported.
const WINDOW: usize = 20;

/// How to run.
#[derive(Clone, Debug)]
pub struct ActorOptions {
    /// Where the learner listens, for example `tcp/127.0.0.1:7447`.
    pub connect: Vec<String>,
    /// The name that actor and learner share.
    pub session: String,
    /// Everything random is drawn from this.
    pub seed: u64,
    /// Folder of the run's log and results.
    pub out: PathBuf,
    /// Who takes over when the policy is stuck; `None`: nobody.
    pub operator: Option<Operator>,
    /// Where Rerun shows it, if anywhere.
    pub rerun: Option<Target>,
}

/// One line of `episodes.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeRow {
    /// 0, 1, 2, … within the run.
    pub episode: u64,
    /// Its steps.
    pub steps: u32,
    /// Success by the simulator's truth; absent on a real robot.
    pub success: Option<bool>,
    /// Whether the classifier said success.
    pub success_classifier: bool,
    /// The episode's reward.
    pub reward: f32,
    /// How many of its steps a person or the operator took.
    pub intervened_steps: u32,
    /// Seconds since the process began.
    pub wall_s: f64,
    /// Steps of the run so far.
    pub env_steps: u64,
    /// Policy in force at its end.
    pub policy_version: u64,
    /// Gradient updates behind that policy.
    pub updates: u64,
}

/// `summary.json` of a run.
#[derive(Clone, Debug, Serialize)]
pub struct ActorSummary {
    /// Seed of the run.
    pub seed: u64,
    /// Whose time the run went by.
    pub clock: ClockKind,
    /// `scripted` (it stands in for a person), `keyboard` or `none`.
    pub operator: &'static str,
    /// Episodes that ended.
    pub episodes: u64,
    /// Steps.
    pub env_steps: u64,
    /// Steps taken by the operator, as a share, over the first 20 episodes.
    pub intervention_rate_first: Option<f64>,
    /// … and over the last 20.
    pub intervention_rate_last: Option<f64>,
    /// Success by the truth over the last 20 episodes, operator's help included.
    pub success_last: Option<f64>,
    /// Of the episodes that the classifier ended as successes, the share that were, by the truth.
    pub classifier_precision: Option<f64>,
    /// Of the successes that it was left to judge, the share that it saw.
    pub classifier_recall: Option<f64>,
    /// Episodes that it called a success and a person (or the operator) did not.
    pub corrected_episodes: u64,
    /// The counts behind precision and recall.
    pub classifier: Confusion,
    /// Seconds from start to end, waiting for the learner included.
    pub wall_s: f64,
    /// Of these, seconds spent waiting for the learner.
    pub waited_s: f64,
    /// Entries in the log.
    pub entries: u64,
    /// Entries that the learner had acknowledged at the end.
    pub acknowledged: u64,
    /// Ticks of the control loop that were missed; `"not measured"` in lockstep.
    pub missed_ticks: serde_json::Value,
    /// Episodes that an unfit input broke off.
    pub broken_episodes: u64,
    /// The accounts of the control loop.
    pub timing: Timing,
}

/// How a run stands, for whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Episodes that ended.
    pub episodes: u64,
    /// Steps of the run.
    pub env_steps: u64,
    /// Success over the last 20 episodes: by the truth, or by the reward without one.
    pub success_last: Option<f64>,
    /// Share of the operator's steps over the last 20 episodes.
    pub intervention_last: Option<f64>,
    /// Steps per second, lately.
    pub steps_per_s: Option<f64>,
    /// The learner's gradient updates.
    pub updates: u64,
    /// … and how many it makes per second, lately.
    pub updates_per_s: Option<f64>,
    /// Policy in force; 0: none.
    pub policy_version: u64,
    /// How many steps the learner allows so far.
    pub allowed_steps: u64,
}

impl Standing {
    /// In words, on one line.
    pub fn words(&self) -> String {
        format!(
            "{} episodes, of the last {WINDOW}: success {}, interventions {}; {} steps/s; policy {}, \
             {} updates, {} updates/s",
            self.episodes,
            percent(self.success_last),
            percent(self.intervention_last),
            per_s(self.steps_per_s),
            self.policy_version,
            self.updates,
            per_s(self.updates_per_s),
        )
    }
}

/// Shows a run while it goes.
pub trait Watch {
    /// A sentence for the user.
    fn say(&mut self, words: &str);
    /// Before every step.
    fn stand(&mut self, standing: &Standing);
    /// What the cameras see, for a person who acts.
    fn see(&mut self, _images: &[Image]) {}
}

/// Rates over the first and the last episodes.
#[derive(Debug, Default)]
struct Rates {
    first: Vec<(u32, u32)>,
    last: VecDeque<(u32, u32, bool)>,
    confusion: Confusion,
    corrected: u64,
    episodes: u64,
}

impl Rates {
    fn add(&mut self, outcome: &Outcome) {
        let (steps, intervened) = (outcome.steps, outcome.intervened);
        if self.first.len() < WINDOW {
            self.first.push((steps, intervened));
        }
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        let success = outcome.truth.unwrap_or(outcome.ending.terminated);
        self.last.push_back((steps, intervened, success));
        self.confusion.add(&outcome.confusion);
        self.corrected += u64::from(outcome.judged && outcome.ending.label == Some(false));
        self.episodes += 1;
    }

    fn intervention_first(&self) -> Option<f64> {
        share(self.first.iter().copied())
    }

    fn intervention_last(&self) -> Option<f64> {
        share(
            self.last
                .iter()
                .map(|&(steps, intervened, _)| (steps, intervened)),
        )
    }

    fn success_last(&self) -> Option<f64> {
        let good = self.last.iter().filter(|(_, _, success)| *success).count();
        (!self.last.is_empty()).then(|| good as f64 / self.last.len() as f64)
    }
}

fn share(counts: impl Iterator<Item = (u32, u32)>) -> Option<f64> {
    let (all, part) = counts.fold((0u64, 0u64), |(all, part), (steps, intervened)| {
        (all + u64::from(steps), part + u64::from(intervened))
    });
    (all > 0).then(|| part as f64 / all as f64)
}

/// Runs until the learner has finished, or `stop`.
pub fn run(
    rig: &Rig,
    engine: &Engine,
    options: &ActorOptions,
    stop: &AtomicBool,
    watch: &mut dyn Watch,
) -> anyhow::Result<ActorSummary> {
    let began = Instant::now();
    let spec = rig.spec();
    let faults = Faults::begin(rig.faults.clone(), Monotonic);
    if let Some(words) = faults.words() {
        watch.say(&words);
    }
    let mut cell = Cell::open_with(rig, &faults)?;
    // Before there is a log: nothing is left behind by a terminal that is none.
    let helper = helper(rig, options, &cell)?;
    let mut teleop = helper.teleop.map(|teleop| faults.teleop(teleop));
    let by_person = options.operator.is_some_and(Operator::is_person);
    if let Some(help) = helper.help {
        watch.say(&help);
    }
    let run = new_run();
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("--out {}", options.out.display()))?;
    let config = ActorConfig {
        session: options.session.clone(),
        connect: options.connect.clone(),
        run,
        window: WindowLimits::default(),
    };
    let live = match &options.rerun {
        Some(target) => Live::begin(target, &spec, run, &mut |words| watch.say(words))?,
        None => None,
    };
    let link = Arc::new(ActorLink::open(
        config,
        Box::new(hilt_link::RunLog::new(options.out.clone())),
    )?);
    let metadata = BTreeMap::from([
        ("content".to_owned(), "training".to_owned()),
        ("seed".to_owned(), options.seed.to_string()),
    ]);
    let mut log = RunLog::create(&options.out, run, &spec, metadata, Some(Arc::clone(&link)))?;
    let books = RefCell::new(RunBooks::begin(rig, &options.out, run, &mut cell)?);
    let (brain, learner) = LearnerSide::meet(
        Arc::clone(&link),
        engine,
        &spec,
        rig.clock == ClockKind::Simulated,
        rig.episode.random_steps > 0,
        &Kept::of_run(&options.out),
        stop,
        &mut |words| watch.say(words),
    )?;
    let mut brain = FaultyBrain::new(brain, faults.clone());
    let mut learner = learner.with_faults(faults.clone());
    let rows_path = options.out.join("episodes.jsonl");
    let mut rows =
        BufWriter::new(File::create(&rows_path).with_context(|| rows_path.display().to_string())?);
    let mut session = Session {
        cell: &mut cell,
        teleop: teleop.as_mut().map(|teleop| teleop as &mut dyn Teleop),
        rules: rig.classifier,
        episode: rig.episode,
        seed: options.seed,
        steps: 0,
    };
    let mut journal = FaultyJournal::new(&mut log, faults);
    let mut rates = Rates::default();
    let logged = StdCell::new(0u64);
    // Episodes that an unfit input broke off, and how many of them on end.
    let (mut broken_episodes, mut broken) = (0, 0);
    let mut waited = Duration::ZERO;
    let mut pace = Pace::of(rig, by_person);
    let (mut step_rate, mut update_rate) = (Rate::default(), Rate::default());
    loop {
        let seed = mix(options.seed ^ mix(0x7472_6169_6e00 + rates.episodes));
        let start = EpisodeStart {
            range_m: rig.episode.range_m,
            seed,
        };
        let mut policy = Policy::Brain(&mut brain);
        let shown = RefCell::new(&mut *watch);
        let mut watched = Watched {
            journal: &mut journal,
            live: live.as_ref(),
        };
        let mut journal = Seen {
            journal: &mut watched,
            see: &mut |images| {
                logged.set(logged.get() + 1);
                if by_person {
                    shown.borrow_mut().see(images);
                }
            },
            took: &mut |stage, duration_ns| {
                books.borrow_mut().took(stage, duration_ns);
                if let Some(live) = &live {
                    live.took(stage, duration_ns);
                }
            },
        };
        let outcome = session.run_episode(&mut policy, start, &mut journal, |policy, steps| {
            helper
                .trust
                .set(steps as f64 / rig.operator.training_steps as f64);
            let asked = Instant::now();
            let may_act = steps < rig.episode.random_steps;
            let (flow, policy_version, swaps) = match policy {
                Policy::Brain(brain) => {
                    let mut say = |words: &str| shown.borrow_mut().say(words);
                    let flow = learner.before_step(&mut **brain, steps, may_act, stop, &mut say);
                    (flow, brain.version(), brain.swaps())
                }
                Policy::Nobody => (Flow::Go, 0, 0),
            };
            waited += asked.elapsed();
            let progress = learner.progress();
            step_rate.add(began.elapsed(), steps);
            update_rate.add(began.elapsed(), progress.map_or(0, |p| p.updates));
            shown.borrow_mut().stand(&Standing {
                episodes: rates.episodes,
                env_steps: steps,
                success_last: rates.success_last(),
                intervention_last: rates.intervention_last(),
                steps_per_s: step_rate.per_s(),
                updates: progress.map_or(0, |p| p.updates),
                updates_per_s: update_rate.per_s(),
                policy_version,
                allowed_steps: progress.map_or(0, |p| p.allowed_steps),
            });
            books.borrow().tell(|news| {
                (news.policy_version, news.swaps) = (policy_version, swaps);
                (news.episodes, news.env_steps) = (rates.episodes, steps);
                news.entries = logged.get();
                news.acknowledged = link.stats().acked;
                news.learner_alive = Some(learner.is_alive());
            });
            // The learner may have been waited for: the person's time goes on from here.
            pace.wait();
            flow
        });
        let outcome = match outcome {
            Err(error) if error.is_passing() && broken < BROKEN_EPISODES => {
                broken += 1;
                broken_episodes += 1;
                watch.say(&format!("the episode was broken off: {error}"));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                continue;
            }
            outcome => outcome?,
        };
        broken = 0;
        let counts = session.cell.counts();
        books.borrow().tell(|news| news.counts = counts);
        if outcome.cut {
            // Its steps are in the log and count as such; the episode is in no rate.
            break;
        }
        if outcome.said == Some(TeleopEvent::Rerecord) {
            watch.say("thrown away by the person; the log keeps it as a truncated episode");
        }
        rates.add(&outcome);
        let row = EpisodeRow {
            episode: rates.episodes - 1,
            steps: outcome.steps,
            success: outcome.truth,
            success_classifier: outcome.judged,
            reward: outcome.ending.reward,
            intervened_steps: outcome.intervened,
            wall_s: began.elapsed().as_secs_f64(),
            env_steps: session.steps,
            policy_version: brain.version(),
            updates: brain.updates(),
        };
        serde_json::to_writer(&mut rows, &row)?;
        writeln!(rows)?;
        rows.flush()?;
        if outcome.said == Some(TeleopEvent::Stop) {
            break;
        }
    }
    let env_steps = session.steps;
    let entries = log.entries();
    let last = cell.end();
    log.finish()?;
    if let Some(words) = live.and_then(Live::end) {
        watch.say(&words);
    }
    if link.stats().acked < entries && link.learner().alive {
        watch.say("the rest is on its way to the learner; Ctrl-C again leaves it in the log");
    }
    link.drain(Duration::from_secs(5));
    books.borrow().tell(|news| {
        (news.env_steps, news.episodes) = (env_steps, rates.episodes);
        (news.entries, news.acknowledged) = (entries, link.stats().acked);
        news.learner_alive = Some(link.learner().alive);
    });
    let books = books.into_inner().finish(last)?;
    watch.say(&view::report_text(&books));
    let summary = ActorSummary {
        seed: options.seed,
        clock: rig.clock,
        operator: options.operator.map_or("none", Operator::name),
        episodes: rates.episodes,
        env_steps,
        intervention_rate_first: rates.intervention_first(),
        intervention_rate_last: rates.intervention_last(),
        success_last: rates.success_last(),
        classifier_precision: rates.confusion.precision(),
        classifier_recall: rates.confusion.recall(),
        corrected_episodes: rates.corrected,
        classifier: rates.confusion,
        wall_s: began.elapsed().as_secs_f64(),
        waited_s: waited.as_secs_f64(),
        entries,
        acknowledged: link.stats().acked,
        missed_ticks: match books.timing.missed() {
            Some(missed) => missed.into(),
            None => "not measured".into(),
        },
        broken_episodes,
        timing: books.timing,
    };
    std::fs::write(
        options.out.join("summary.json"),
        serde_json::to_vec_pretty(&summary)?,
    )?;
    Ok(summary)
}

/// Whoever takes over.
#[derive(Default)]
struct Helper {
    /// Their device.
    teleop: Option<Box<dyn Teleop>>,
    /// What a person should know of it.
    help: Option<String>,
    /// Where the scripted one is told how far the training is.
    trust: Rc<StdCell<f64>>,
}

fn helper(rig: &Rig, options: &ActorOptions, cell: &Cell) -> anyhow::Result<Helper> {
    match options.operator {
        None => Ok(Helper::default()),
        Some(Operator::Scripted) => {
            let takeover = rig.operator.takeover;
            let seed = options.seed;
            let operator = cell
                .operator(rig, Role::Intervene { takeover, seed })
                .context("this rig has no scripted operator; use --operator keyboard or none")?;
            Ok(Helper {
                trust: operator.training_fraction(),
                teleop: Some(Box::new(operator)),
                help: None,
            })
        }
        Some(person) => {
            let (teleop, help) = operator::hands(person, rig, true)?;
            Ok(Helper {
                teleop: Some(teleop),
                help: Some(help),
                ..Helper::default()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(steps: u32, intervened: u32, success: bool) -> Outcome {
        Outcome {
            steps,
            intervened,
            truth: Some(success),
            ..Outcome::default()
        }
    }

    #[test]
    fn rates_are_over_the_first_and_the_last_twenty_episodes() {
        let mut rates = Rates::default();
        assert_eq!(rates.intervention_first(), None);
        for _ in 0..20 {
            rates.add(&outcome(10, 5, false));
        }
        for _ in 0..15 {
            rates.add(&outcome(30, 0, true));
        }
        assert_eq!(rates.intervention_first(), Some(0.5));
        // 5 episodes of 10 steps, 25 of them the operator's; 15 of 30 steps, none of them.
        assert_eq!(rates.intervention_last(), Some(25.0 / 500.0));
        assert_eq!(rates.success_last(), Some(0.75));
        assert_eq!(rates.episodes, 35);
    }
}
