//! The loop: updates, and what goes out in between — figures, evaluations, the best policy, checkpoints.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{
    OfflineConfig,
    folder::{Folder, Kept},
    judge::{Criterion, Judge, Verdict},
};
use crate::{
    agents::guard::Watch, checkpoint::replace_folder, course::Course, metrics::Curves, show,
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
    /// When this process began, and what others before it took.
    began: Instant,
    before_s: f64,
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
            began,
            before_s: kept.trained_s,
            saved: None,
            first,
        })
    }

    /// Trains until the updates are made or `stop` is set. Then the last policy is in `export/` and, if anything says
    /// which one is, the best in `best/`.
    pub(super) fn run(&mut self, show: &mut show::Training, stop: &AtomicBool) -> Result<()> {
        let c = self.config;
        while self.course.updates() < c.updates && !stop.load(Ordering::Relaxed) {
            let number = self.course.updates() + 1;
            let figures = self.course.update();
            let figures = figures.with_context(|| format!("in update {number}"))?;
            self.watch.note(number, figures);
            let due = |every: u64| number.is_multiple_of(every);
            let (evaluate, keep) = (due(c.eval_freq), due(c.epoch_updates));
            if due(c.log_freq) || evaluate || keep {
                self.log(show)?;
            }
            if evaluate {
                self.evaluate(show)?;
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
            self.evaluate(show)?;
        }
        if self.saved != Some(updates) {
            self.save()?;
        }
        let export = self.folder.file("export");
        replace_folder(&export, |dir| self.course.export(dir))
    }

    /// Reads the figures of the updates since the last time, and writes their means.
    fn log(&mut self, show: &mut show::Training) -> Result<()> {
        let means = self
            .watch
            .read()
            .map_err(|diverged| anyhow::anyhow!("{diverged}; {}", self.folder.last_good()))?;
        if means.is_empty() {
            return Ok(());
        }
        show.figures(&means);
        let updates = self.course.updates();
        let passed_s = self.began.elapsed().as_secs_f64();
        let rate = (updates - self.first) as f64 / passed_s;
        let mut figures: Vec<(String, f64)> = (means.iter())
            .map(|(name, value)| (format!("train/{name}"), *value))
            .collect();
        figures.push(("train/updates_per_s".into(), rate));
        Ok(self.curves.write(updates, SystemTime::now(), &figures)?)
    }

    /// Looks at the policy, and keeps it if it is the best so far.
    fn evaluate(&mut self, show: &show::Training) -> Result<()> {
        let verdict = self.judge.look(self.course)?;
        let updates = self.course.updates();
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
