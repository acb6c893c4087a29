//! The loop: updates, and what goes out in between — figures, evaluations, the best policy, checkpoints.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{
    OfflineConfig,
    folder::{Folder, Kept},
    judge::{Criterion, Judge, Verdict},
};
use crate::{
    agents::guard::Watch, checkpoint::replace_folder, course::Course, evaluation::CUT,
    metrics::Curves, show,
};

/// A training under way.
pub(super) struct Training<'a> {
    course: &'a mut dyn Course,
    judge: Judge,
    folder: &'a Folder,
    config: &'a OfflineConfig,
    curves: Curves,
    watch: Watch,
    best: Option<(u64, f64)>,
    /// The newest evaluation, and the updates until then.
    last: Option<(u64, Verdict)>,
    /// The evaluation at these updates was cut; a resumed training makes up for it.
    due: bool,
    /// When this process began, and what others before it took.
    began: Instant,
    before_s: f64,
    /// What the updates alone took: making them, and waiting for the device where their figures are read.
    updating: Duration,
    /// Updates that the checkpoint has, and those that this process found.
    saved: Option<u64>,
    first: u64,
}

impl<'a> Training<'a> {
    /// One that goes on with a course where it stands.
    pub(super) fn new(
        course: &'a mut dyn Course,
        judge: Judge,
        folder: &'a Folder,
        config: &'a OfflineConfig,
        kept: Kept,
        began: Instant,
    ) -> Result<Self> {
        let first = course.updates();
        Ok(Self {
            course,
            judge,
            folder,
            config,
            curves: folder.curves(first)?,
            watch: Watch::default(),
            best: kept.best,
            last: None,
            due: kept.evaluation_due,
            began,
            before_s: kept.trained_s,
            updating: Duration::ZERO,
            saved: None,
            first,
        })
    }

    /// Trains until the updates are made or `stop` is set. Then the last policy is in `export/` and, if anything says
    /// which one is, the best in `best/`.
    pub(super) fn run(&mut self, show: &mut show::Training, stop: &AtomicBool) -> Result<()> {
        let c = self.config;
        if self.due {
            self.evaluate(show, stop)?;
        }
        while self.course.updates() < c.updates && !stop.load(Ordering::Relaxed) {
            let number = self.course.updates() + 1;
            let began = Instant::now();
            let figures = self.course.update();
            self.updating += began.elapsed();
            let figures = figures.with_context(|| format!("in update {number}"))?;
            self.watch.note(number, figures);
            let due = |every: u64| number.is_multiple_of(every);
            let (evaluate, keep) = (due(c.eval_freq), due(c.epoch_updates));
            if due(c.log_freq) || evaluate || keep {
                self.log(show)?;
            }
            if evaluate {
                self.evaluate(show, stop)?;
            }
            if keep {
                self.save()?;
            }
            show.stand(number);
        }
        self.log(show)?;
        let updates = self.course.updates();
        let evaluated = self.last.as_ref().map(|(updates, _)| *updates);
        if updates >= c.updates && evaluated != Some(updates) {
            self.evaluate(show, stop)?;
        }
        if self.saved != Some(updates) {
            self.save()?;
        }
        let export = self.folder.file("export");
        replace_folder(&export, |dir| self.course.export(dir))
    }

    /// Reads the figures of the updates since the last time, and writes their means.
    fn log(&mut self, show: &mut show::Training) -> Result<()> {
        let began = Instant::now();
        let means = self.watch.read();
        self.updating += began.elapsed();
        let means =
            means.map_err(|diverged| anyhow::anyhow!("{diverged}; {}", self.folder.last_good()))?;
        if means.is_empty() {
            return Ok(());
        }
        show.figures(&means);
        let updates = self.course.updates();
        let rate = (updates - self.first) as f64 / self.updating.as_secs_f64();
        let mut figures: Vec<(String, f64)> = (means.iter())
            .map(|(name, value)| (format!("train/{name}"), *value))
            .collect();
        figures.push(("train/updates_per_s".into(), rate));
        Ok(self.curves.write(updates, SystemTime::now(), &figures)?)
    }

    /// Looks at the policy, and keeps it if it is the best so far. Once `stop` is set it says nothing of it.
    fn evaluate(&mut self, show: &show::Training, stop: &AtomicBool) -> Result<()> {
        let verdict = self.judge.look(self.course, stop)?;
        let updates = self.course.updates();
        self.due = verdict.is_none();
        let Some(verdict) = verdict else {
            show.evaluated(&format!("{updates} updates: {CUT}"));
            return Ok(());
        };
        let best = self.best.map(|(_, score)| score);
        let mut words = format!("{updates} updates: {}", verdict.words);
        if let Some((criterion, score)) = verdict.score
            && criterion.better(score, best)
        {
            replace_folder(&self.folder.file("best"), |dir| self.course.export(dir))?;
            self.best = Some((updates, score));
            words.push_str(", the best so far");
        }
        if verdict.score.is_some() {
            show.evaluated(&words);
        }
        if !verdict.figures.is_empty() {
            let now = SystemTime::now();
            self.curves.write(updates, now, &verdict.figures)?;
        }
        self.last = Some((updates, verdict));
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let kept = Kept {
            best: self.best,
            trained_s: self.trained_s(),
            evaluation_due: self.due,
        };
        self.folder.save(self.course, &kept)?;
        self.saved = Some(self.course.updates());
        Ok(())
    }

    fn trained_s(&self) -> f64 {
        self.before_s + self.began.elapsed().as_secs_f64()
    }

    /// How it ended, in words.
    pub(super) fn in_words(&self) -> String {
        let (updates, seconds) = (self.course.updates(), self.trained_s());
        let best = match self.best {
            Some((at, _)) => format!("; the best policy, of update {at}, is in best"),
            None => String::new(),
        };
        format!("{updates} updates in {seconds:.0} s; the last policy is in export{best}")
    }

    /// How it went.
    pub(super) fn summary(&self) -> Map<String, Value> {
        let criterion = (self.last.as_ref())
            .and_then(|(_, verdict)| verdict.score)
            .map(|(criterion, _)| Criterion::name(criterion));
        let best = self
            .best
            .map(|(updates, score)| json!({ "updates": updates, "score": score }));
        let last = (self.last.as_ref()).map(|(updates, verdict)| {
            let mut figures: Map<String, Value> = (verdict.figures.iter())
                .map(|(name, value)| (name.clone(), Value::from(*value)))
                .collect();
            figures.insert("updates".into(), (*updates).into());
            figures
        });
        let mut summary = Map::new();
        summary.insert("updates".into(), self.course.updates().into());
        summary.insert("training_wall_s".into(), self.trained_s().into());
        summary.insert("criterion".into(), criterion.into());
        summary.insert("best".into(), best.into());
        summary.insert("last_evaluation".into(), last.into());
        summary
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, thread::sleep};

    use tch::Tensor;

    use super::*;
    use crate::{agents::Figures, config::LearnerConfig, offline::folder::Facts};

    /// So long it is looked at after each update.
    const LOOK: Duration = Duration::from_millis(20);

    /// Updates that take no time.
    #[derive(Default)]
    struct Quick<'a> {
        updates: u64,
        /// Set by its first action.
        stop: Option<&'a AtomicBool>,
    }

    impl Course for Quick<'_> {
        fn update(&mut self) -> Result<Figures> {
            self.updates += 1;
            Ok(Figures(vec![("loss", Tensor::from(1.0))]))
        }

        fn updates(&self) -> u64 {
            self.updates
        }

        fn held_out(&self) -> Result<Vec<(&'static str, f64)>> {
            sleep(LOOK);
            Ok(vec![])
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

        fn restore(&mut self, _: &[(String, Tensor)], updates: u64) {
            self.updates = updates;
        }

        fn export(&self, _: &Path) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_rate_is_of_updates_and_not_of_what_is_between_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), false).unwrap();
        let config = LearnerConfig::default();
        folder.begin(&Facts::new(), &config).unwrap();
        let offline = OfflineConfig {
            updates: 20,
            eval_freq: 1,
            log_freq: 1,
            ..config.offline
        };
        let judge = Judge {
            task: None,
            episodes: 1,
            seed: 1,
        };
        let mut course = Quick::default();
        let mut training = Training::new(
            &mut course,
            judge,
            &folder,
            &offline,
            Kept::default(),
            Instant::now(),
        )
        .unwrap();
        let mut show = show::Training::new("quick", offline.updates);
        training.run(&mut show, &AtomicBool::new(false)).unwrap();
        let text = std::fs::read_to_string(folder.file("metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let rate = last["train/updates_per_s"].as_f64().unwrap();
        assert!(rate > 1.0 / LOOK.as_secs_f64(), "{rate}");
    }
    /// Trains in a folder, with or without `stop` in the first evaluation; steps of the evaluations written, and what
    /// is kept.
    fn with_evaluations(dir: &Path, episodes: u64, stopped: bool) -> (Vec<u64>, Kept) {
        let folder = Folder::open(dir, true).unwrap();
        let config = LearnerConfig::default();
        let offline = OfflineConfig {
            updates: 6,
            eval_freq: 2,
            ..config.offline.clone()
        };
        let judge = Judge {
            task: Some(crate::tasks::open("Pendulum-v1").unwrap()),
            episodes,
            seed: 1,
        };
        let stop = AtomicBool::new(false);
        let mut course = Quick {
            stop: stopped.then_some(&stop),
            ..Quick::default()
        };
        let kept = folder.load(&mut course).unwrap();
        folder.begin(&Facts::new(), &config).unwrap();
        let began = Instant::now();
        let mut training =
            Training::new(&mut course, judge, &folder, &offline, kept, began).unwrap();
        let mut show = show::Training::new("quick", offline.updates);
        training.run(&mut show, &stop).unwrap();
        let text = std::fs::read_to_string(folder.file("metrics.jsonl")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let evaluated = lines.filter(|line| line["evaluation/return"].is_f64());
        let steps = evaluated
            .map(|line| line["step"].as_u64().unwrap())
            .collect();
        (steps, folder.load(&mut Quick::default()).unwrap())
    }

    #[test]
    fn told_to_stop_within_an_evaluation_it_keeps_none_and_makes_up_for_it() {
        let dir = tempfile::tempdir().unwrap();
        // For hours, if it were gone through.
        let (evaluations, kept) = with_evaluations(dir.path(), 1 << 32, true);
        assert_eq!((evaluations, kept.best), (vec![], None));
        assert!(kept.evaluation_due && !dir.path().join("best").exists());
        let (evaluations, kept) = with_evaluations(dir.path(), 1, false);
        assert_eq!(evaluations, [2, 4, 6]);
        assert!(!kept.evaluation_due);
        assert!(kept.best.is_some() && dir.path().join("best").exists());
    }
}
