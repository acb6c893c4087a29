//! The loop: steps, and what goes out in between: figures, evaluations, the best policy, checkpoints.

use std::{
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use hilt_show::{Rate, Show, per_s};
use serde::{Deserialize, Serialize};

use super::{
    Course,
    folder::{Facts, Folder, Kept},
    judge::{Judge, Verdict},
};
use crate::{
    agents::guard::{Diverged, Watch, check_state},
    checkpoint::replace_folder,
    config::LearnerConfig,
    generative::replay::Synthetic,
    metrics::{Curves, write_atomically},
};

/// The folder of the best policy. Its score is in there, so that the two never come apart.
const BEST: &str = "best";
const SCORE_FILE: &str = "score.json";
/// From one checkpoint to the next at least so many times what the last one took.
const CHECKPOINT_TIMES: u32 = 20;

/// How long a training is, and when something goes out, in steps.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Steps to make.
    pub length: u64,
    /// From one line of figures to the next; there is one with every evaluation as well.
    pub log: u64,
    /// From one evaluation to the next; 0: only at the end.
    pub evaluate: u64,
    /// Whether it is evaluated before its first step, to be compared with.
    pub evaluate_first: bool,
    /// From one checkpoint to the next.
    pub checkpoint: Checkpoints,
}

/// When there is a checkpoint.
#[derive(Clone, Copy, Debug)]
pub enum Checkpoints {
    /// After every so many steps, with a line of figures.
    Steps(u64),
    /// After so much time, or more where writing one takes long.
    Time(Duration),
}

/// The best policy so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// What policies are compared by.
    #[serde(alias = "return")]
    pub score: f64,
    /// Steps behind it.
    pub step: u64,
}

/// A training under way.
pub struct Training<'a> {
    course: &'a mut dyn Course,
    folder: &'a Folder,
    judge: Judge,
    pace: Pace,
    curves: Curves,
    watch: Watch,
    /// The updates' figures in the last line of them.
    figures: Vec<(&'static str, f64)>,
    best: Option<Best>,
    /// The newest evaluation, and the steps until then.
    last: Option<(u64, Verdict)>,
    /// The one after these steps was cut; a resumed training makes up for it.
    due: bool,
    /// When this process began, and what others before it took.
    began: Instant,
    before_s: f64,
    /// What the steps alone took: making them, and waiting for the device where their figures are read.
    stepping: Duration,
    /// Steps until the last line of figures, and what they took.
    logged: (u64, Duration),
    /// Steps that the checkpoint has; when it was written, and how long that took.
    saved: Option<u64>,
    saved_at: Instant,
    saving: Duration,
}

impl<'a> Training<'a> {
    /// A new one, or the one that is in the folder. What it stands on must be what that began on.
    pub fn begin(
        course: &'a mut dyn Course,
        folder: &'a Folder,
        (facts, config): (&Facts, &LearnerConfig),
        judge: Judge,
        pace: Pace,
        began: Instant,
    ) -> Result<Self> {
        folder.check(facts)?;
        let kept = folder.load(course)?;
        let best = match folder.is_begun() {
            true => best(folder)?,
            false => None,
        };
        // Only now: a resumed training that was refused keeps the settings that it had.
        folder.begin(facts, config)?;
        let steps = course.steps();
        if steps > 0 {
            println!("resumed at {steps} {}", course.unit());
        }
        Ok(Self {
            course,
            folder,
            judge,
            pace,
            curves: folder.curves(steps)?,
            watch: Watch::default(),
            figures: vec![],
            best,
            last: None,
            due: kept.evaluation_due,
            began,
            before_s: kept.trained_s,
            stepping: Duration::ZERO,
            logged: (steps, Duration::ZERO),
            saved: None,
            saved_at: Instant::now(),
            saving: Duration::ZERO,
        })
    }

    /// Trains until the steps are made or `stop` is set. Then the last policy is in `export/` and, if anything says
    /// which one is, the best in `best/`.
    pub fn run(&mut self, title: &str, stop: &AtomicBool) -> Result<()> {
        let mut show = Show::new(title, Some(self.pace.length));
        let ended = self.steps(&mut show, stop);
        show.end();
        if let Some(own) = self.course.synthetic() {
            println!("generated experience: {}", own.account());
        }
        ended
    }

    fn steps(&mut self, show: &mut Show, stop: &AtomicBool) -> Result<()> {
        let (pace, mut rate) = (self.pace, Rate::default());
        if self.due || pace.evaluate_first && self.course.steps() == 0 {
            self.evaluate(show, stop)?;
        }
        while self.course.steps() < pace.length && !stop.load(Ordering::Relaxed) {
            let before = self.course.steps();
            self.step(stop)?;
            let steps = self.course.steps();
            if steps == before {
                continue;
            }
            if let Some(own) = self.course.synthetic_mut() {
                for words in own.account_mut().news() {
                    show.say(&format!("{steps} {}: {words}", self.course.unit()));
                }
            }
            let due = |every: u64| steps.is_multiple_of(every);
            let (evaluate, keep) = (due(pace.evaluate), self.is_checkpoint_due(steps));
            let told = matches!(pace.checkpoint, Checkpoints::Steps(_)) && keep;
            if due(pace.log) || evaluate || told {
                self.log()?;
            }
            if evaluate {
                self.evaluate(show, stop)?;
            }
            if keep {
                self.save()?;
            }
            rate.add(self.stepping, steps);
            show.stand(steps, || {
                let words = self.course.words(&self.figures, self.best);
                format!("{}, {}/s{words}", self.course.unit(), per_s(rate.per_s()))
            });
        }
        self.log()?;
        let steps = self.course.steps();
        let judged = self.last.as_ref().map(|(steps, _)| *steps);
        if steps >= pace.length && judged != Some(steps) && !self.due {
            self.evaluate(show, stop)?;
        }
        if self.saved != Some(steps) {
            self.save()?;
        }
        let export = self.folder.file("export");
        replace_folder(&export, |dir| self.course.export(dir))
    }

    fn step(&mut self, stop: &AtomicBool) -> Result<()> {
        let began = Instant::now();
        let advanced = self.course.advance(stop);
        self.stepping += began.elapsed();
        for (number, figures) in advanced.map_err(|error| self.reason(error))? {
            self.watch.note(number, figures);
        }
        Ok(())
    }

    /// Why a step or an evaluation failed: of a training that diverged that is the reason, not what it did next.
    fn reason(&mut self, error: anyhow::Error) -> anyhow::Error {
        if let Err(diverged) = self.look(Watch::check) {
            return diverged;
        }
        // An update with good figures can have left an agent without any good number.
        let state = self.course.state();
        let (updates, last_good) = (self.course.updates(), self.folder.last_good());
        match check_state(&state, &state) {
            Err(fault) => anyhow!("after update {updates}: {fault}; {last_good}"),
            Ok(()) => error,
        }
    }

    /// Looks at the updates' figures; a loss that diverged is an error.
    fn look<T>(&mut self, how: impl FnOnce(&mut Watch) -> Result<T, Diverged>) -> Result<T> {
        let began = Instant::now();
        let looked = how(&mut self.watch);
        self.stepping += began.elapsed();
        looked.map_err(|diverged| anyhow!("{diverged}; {}", self.folder.last_good()))
    }

    /// A line of figures, the means since the last one.
    fn log(&mut self) -> Result<()> {
        let steps = self.course.steps();
        let (before, took) = self.logged;
        if steps == before {
            return Ok(());
        }
        self.figures = self.look(Watch::read)?;
        let rate = (steps - before) as f64 / (self.stepping - took).as_secs_f64();
        self.logged = (steps, self.stepping);
        let mut told = self.course.told(self.trained_s());
        told.extend((self.course.synthetic_mut()).map_or(vec![], Synthetic::told));
        let mut figures: Vec<_> = (self.figures.iter().chain(&told))
            .map(|(name, value)| (format!("train/{name}"), *value))
            .collect();
        figures.push((format!("train/{}_per_s", self.course.unit()), rate));
        Ok(self.curves.write(steps, SystemTime::now(), &figures)?)
    }

    /// Looks at the policy, and keeps it if it is the best so far. Once `stop` is set it says nothing of it.
    fn evaluate(&mut self, show: &Show, stop: &AtomicBool) -> Result<()> {
        let looked = self.judge.look(self.course, stop);
        let verdict = looked.map_err(|error| self.reason(error))?;
        let (step, unit) = (self.course.steps(), self.course.unit());
        self.due = verdict.is_none();
        let Some(verdict) = verdict else {
            show.say(&format!(
                "{step} {unit}: the evaluation was cut; --resume begins with it"
            ));
            return Ok(());
        };
        let mut words = format!("{step} {unit}: {}", verdict.words);
        if let Some((criterion, score)) = verdict.score {
            if criterion.better(score, self.best.map(|best| best.score)) {
                let best = Best { score, step };
                let text = serde_json::to_vec_pretty(&best)?;
                let state = self.course.state();
                check_state(&state, &state).with_context(|| {
                    let last_good = self.folder.last_good();
                    format!("after {step} {unit}, whose policy is not kept; {last_good}")
                })?;
                replace_folder(&self.folder.file(BEST), |dir| {
                    self.course.export(dir)?;
                    anyhow::Ok(write_atomically(&dir.join(SCORE_FILE), &text)?)
                })?;
                self.best = Some(best);
                words.push_str(", the best so far");
            }
            show.say(&words);
        }
        if !verdict.figures.is_empty() {
            let now = SystemTime::now();
            self.curves.write(step, now, &verdict.figures)?;
        }
        self.last = Some((step, verdict));
        Ok(())
    }

    fn is_checkpoint_due(&self, steps: u64) -> bool {
        match self.pace.checkpoint {
            Checkpoints::Steps(every) => steps.is_multiple_of(every),
            Checkpoints::Time(period) => {
                self.saved_at.elapsed() >= pause_after(self.saving, period)
            }
        }
    }

    /// Writes a checkpoint.
    pub fn save(&mut self) -> Result<()> {
        let began = Instant::now();
        // They go into the next line all the same.
        self.look(Watch::check)?;
        let kept = Kept {
            trained_s: self.trained_s(),
            evaluation_due: self.due,
        };
        self.folder.save(self.course, &kept)?;
        self.saved = Some(self.course.steps());
        (self.saved_at, self.saving) = (Instant::now(), began.elapsed());
        Ok(())
    }

    /// What is trained.
    pub fn course(&self) -> &dyn Course {
        self.course
    }

    /// Seconds of training until now, those of processes before this one included.
    pub fn trained_s(&self) -> f64 {
        self.before_s + self.began.elapsed().as_secs_f64()
    }

    /// The best policy so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// The newest evaluation of this process, and the steps until then.
    pub fn last(&self) -> Option<(u64, &Verdict)> {
        self.last.as_ref().map(|(steps, verdict)| (*steps, verdict))
    }
}

/// When the next checkpoint is due after one that took so long.
fn pause_after(took: Duration, period: Duration) -> Duration {
    period.max(took * CHECKPOINT_TIMES)
}

/// The best policy's score, if one was kept.
fn best(folder: &Folder) -> Result<Option<Best>> {
    let path = folder.file(BEST).join(SCORE_FILE);
    let named = || path.display().to_string();
    let text = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(named)?,
    };
    Ok(Some(serde_json::from_slice(&text).with_context(named)?))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, thread::sleep};

    use serde_json::Value;
    use tch::Tensor;

    use super::*;
    use crate::{
        agents::Figures,
        course::{State, judge::IMITATION_ERROR},
    };

    /// So long it is looked at after each update.
    const LOOK: Duration = Duration::from_millis(20);

    /// Updates that take no time, and whose loss is their number.
    #[derive(Default)]
    struct Quick<'a> {
        updates: u64,
        /// Set by its first action.
        stop: Option<&'a AtomicBool>,
        held_out: Vec<(&'static str, f64)>,
    }

    impl Course for Quick<'_> {
        fn advance(&mut self, _: &AtomicBool) -> Result<Vec<(u64, Figures)>> {
            self.updates += 1;
            let figures = Figures(vec![("loss", Tensor::from(self.updates as f64))]);
            Ok(vec![(self.updates, figures)])
        }

        fn updates(&self) -> u64 {
            self.updates
        }

        fn held_out(&self) -> Result<Vec<(&'static str, f64)>> {
            sleep(LOOK);
            Ok(self.held_out.clone())
        }

        fn act(&self, _: &[f64]) -> Option<Vec<f64>> {
            if let Some(stop) = self.stop {
                stop.store(true, Ordering::Relaxed);
            }
            Some(vec![0.0])
        }

        fn state(&self) -> Vec<(String, Tensor)> {
            vec![]
        }

        fn restore(&mut self, _: &State, updates: u64) {
            self.updates = updates;
        }

        fn export(&self, _: &Path) -> Result<()> {
            Ok(())
        }
    }

    /// Trains in a folder, with or without `stop` in the first evaluation of so many episodes of a task; the lines that
    /// were written, and whether an evaluation is due.
    fn train(dir: &Path, pace: Pace, episodes: Option<u64>, stopped: bool) -> (Vec<Value>, bool) {
        let folder = Folder::open(dir, true).unwrap();
        let judge = Judge {
            task: episodes.map(|_| crate::tasks::open("Pendulum-v1").unwrap()),
            episodes: episodes.unwrap_or(0),
            first: 1,
        };
        let stop = AtomicBool::new(false);
        let mut course = Quick {
            stop: stopped.then_some(&stop),
            ..Quick::default()
        };
        let (facts, config) = (Facts::new(), LearnerConfig::default());
        let of = (&facts, &config);
        let training = Training::begin(&mut course, &folder, of, judge, pace, Instant::now());
        training.unwrap().run("quick", &stop).unwrap();
        let text = fs::read_to_string(folder.file("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let kept = folder.load(&mut Quick::default()).unwrap();
        (lines.collect(), kept.evaluation_due)
    }

    fn pace(length: u64, evaluate: u64) -> Pace {
        Pace {
            length,
            log: 1,
            evaluate,
            evaluate_first: false,
            checkpoint: Checkpoints::Steps(5000),
        }
    }

    #[test]
    fn the_rate_is_of_updates_and_not_of_what_is_between_them() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, _) = train(dir.path(), pace(20, 1), None, false);
        // One that was not disturbed says it.
        let rates = (lines.iter()).filter_map(|line| line["train/updates_per_s"].as_f64());
        let rate = rates.fold(0.0, f64::max);
        assert!(rate > 1.0 / LOOK.as_secs_f64(), "{rate}");
    }

    #[test]
    fn a_checkpoint_between_two_lines_takes_nothing_from_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let pace = Pace {
            log: 10,
            // After the first update there is one at once.
            checkpoint: Checkpoints::Time(Duration::ZERO),
            ..pace(20, 0)
        };
        let (lines, _) = train(dir.path(), pace, None, false);
        let means = lines.iter().filter_map(|line| line["train/loss"].as_f64());
        assert_eq!(means.collect::<Vec<_>>(), [5.5, 15.5]);
    }

    #[test]
    fn told_to_stop_within_an_evaluation_it_keeps_none_and_makes_up_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join(BEST);
        let evaluations = |lines: Vec<Value>| -> Vec<u64> {
            let evaluated = lines
                .iter()
                .filter(|line| line["evaluation/return"].is_f64());
            evaluated
                .map(|line| line["step"].as_u64().unwrap())
                .collect()
        };
        // For hours, if it were gone through.
        let (lines, due) = train(dir.path(), pace(6, 2), Some(1 << 32), true);
        assert_eq!(
            (evaluations(lines), due, best.exists()),
            (vec![], true, false)
        );
        let (lines, due) = train(dir.path(), pace(6, 2), Some(1), false);
        assert_eq!(
            (evaluations(lines), due, best.exists()),
            (vec![2, 4, 6], false, true)
        );
    }

    #[test]
    fn a_held_out_error_that_is_no_number_ends_it_and_is_never_the_best() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), false).unwrap();
        let judge = Judge {
            task: None,
            episodes: 0,
            first: 1,
        };
        let mut course = Quick {
            held_out: vec![(IMITATION_ERROR, f64::NAN)],
            ..Quick::default()
        };
        let (facts, config) = (Facts::new(), LearnerConfig::default());
        let (of, began) = ((&facts, &config), Instant::now());
        let training = Training::begin(&mut course, &folder, of, judge, pace(2, 2), began);
        let error = training.unwrap().run("quick", &AtomicBool::new(false));
        let error = format!("{:#}", error.unwrap_err());
        let words = "at update 2: held_out/imitation_error is not a number";
        assert!(error.contains(words), "{error}");
        assert!(!dir.path().join(BEST).exists());
    }

    #[test]
    fn checkpoints_take_a_twentieth_of_the_time_at_most() {
        let s = Duration::from_secs_f64;
        assert_eq!(pause_after(s(0.5), s(60.0)), s(60.0));
        assert_eq!(pause_after(s(6.0), s(60.0)), s(120.0));
    }
}
