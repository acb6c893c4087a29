//! What drives a learner through its steps: figures, evaluations, checkpoints, and the best policy kept.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use hilt_recording::table::{Columns, Table, npz};
use hilt_show::{Rate, Show, per_s};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    TaskOptions,
    learner::{For, Learner, seed_for},
};
use crate::{
    agents::guard::{BadBatch, Watch, check_state},
    checkpoint::{read_tensors, replace_folder, write_tensors},
    evaluation::{CUT, Evaluation, evaluate},
    metrics::{Curves, write_atomically},
    offline::{
        folder::{Facts, Folder},
        judge::Criterion,
    },
    tasks::Task,
    trained::{self, About},
};

const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
const SUMMARY_FILE: &str = "summary.json";
/// The folder of the best policy. Its score is in there, so that the two never come apart.
const BEST: &str = "best";
const SCORE_FILE: &str = "score.json";
/// Names of what a checkpoint has besides the agent's state.
const PROGRESS: &str = "online.progress";
const EVALUATION_DUE: &str = "online.evaluation_due";
const REPLAY: &str = "online.replay.";
/// Figures are read, and a line of them written, once in so many steps.
const LOG_STEPS: u64 = 1000;
/// From one checkpoint to the next at least so many times what the last one took: a long replay is written whole.
const CHECKPOINT_TIMES: u32 = 20;

/// How well the best policy so far does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Score {
    /// Mean return of its evaluation.
    #[serde(rename = "return")]
    mean: f64,
    /// Steps behind it.
    step: u64,
}

/// A training on a task.
pub(super) struct Training<'a> {
    options: &'a TaskOptions,
    folder: &'a Folder,
    learner: Learner,
    judge: Box<dyn Task>,
    best: Option<Score>,
    /// The last evaluation, and the steps behind it.
    evaluated: Option<(u64, Evaluation)>,
    /// The one behind these steps was cut; a resumed training makes up for it.
    due: bool,
    curves: Curves,
    watch: Watch,
    /// Returns and lengths of the episodes since the last line.
    ended: Evaluation,
    trained_s: f64,
}

impl<'a> Training<'a> {
    /// A new one, or the one that is in the folder.
    pub fn begin(
        options: &'a TaskOptions,
        folder: &'a Folder,
        facts: &Facts,
        mut learner: Learner,
        judge: Box<dyn Task>,
    ) -> Result<Self> {
        folder.check(facts)?;
        let path = folder.file(CHECKPOINT_FILE);
        let checkpoint = path.exists();
        anyhow::ensure!(
            checkpoint || !folder.is_begun() || options.from.is_some() || learner.fresh,
            "--out {}: the training there was stopped before its first checkpoint; name what it goes on from once \
             more, by --from",
            options.out.display()
        );
        let (trained_s, due) = match checkpoint {
            true => restore(&path, &mut learner)?,
            false => (0.0, false),
        };
        let best = match folder.is_begun() {
            true => score(&folder.file(BEST).join(SCORE_FILE))?,
            false => None,
        };
        // Only now: a resumed training that was refused keeps the settings that it had.
        folder.begin(facts, &options.config)?;
        let curves = folder.curves(learner.steps)?;
        if learner.steps > 0 {
            let updates = learner.agent.updates();
            println!("resumed at {} steps, {updates} updates", learner.steps);
        }
        let mut training = Self {
            options,
            folder,
            learner,
            judge,
            best,
            evaluated: None,
            due,
            curves,
            watch: Watch::default(),
            ended: Evaluation::default(),
            trained_s,
        };
        if !checkpoint && !training.learner.fresh {
            // Whoever resumes it need not name again what it went on from.
            training.checkpoint()?;
        }
        Ok(training)
    }

    /// Goes on until all steps are taken or `stop` is set.
    pub fn run(mut self, started: Instant, stop: &AtomicBool) -> Result<()> {
        let online = self.options.config.online.clone();
        let before_s = self.trained_s;
        let period = Duration::from_secs_f64(self.options.config.train.checkpoint_period_s);
        let (mut checkpointed, mut pause) = (Instant::now(), period);
        // Of the time that steps and updates take, evaluations and checkpoints aside.
        let (mut rate, mut learning) = (Rate::default(), Duration::ZERO);
        let mut show = Show::new(&self.options.env, Some(online.steps));
        // What it can do already is what it will be compared with.
        if self.due || self.learner.steps == 0 && !self.learner.fresh {
            self.evaluate(&show, stop)?;
        }
        while self.learner.steps < online.steps && !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let stepped = self.learner.step().map_err(|bad| self.diverged(bad))?;
            learning += began.elapsed();
            for (number, figures) in stepped.updates {
                self.watch.note(number, figures);
            }
            if let Some((sum, steps)) = stepped.ended {
                self.ended.returns.push(sum);
                self.ended.lengths.push(steps);
            }
            let steps = self.learner.steps;
            rate.add(learning, steps);
            show.stand(steps, || self.words(rate.per_s()));
            self.trained_s = before_s + started.elapsed().as_secs_f64();
            if steps.is_multiple_of(LOG_STEPS) {
                self.log(rate.per_s())?;
            }
            if online.eval_freq > 0 && steps.is_multiple_of(online.eval_freq) {
                self.evaluate(&show, stop)?;
            }
            if checkpointed.elapsed() >= pause {
                let began = Instant::now();
                self.checkpoint()?;
                checkpointed = Instant::now();
                pause = pause_after(began.elapsed(), period);
            }
        }
        let evaluated = self.evaluated.as_ref().map(|(steps, _)| *steps);
        if self.learner.steps >= online.steps && evaluated != Some(self.learner.steps) {
            self.evaluate(&show, stop)?;
        }
        show.end();
        self.end()
    }

    fn words(&self, steps_per_s: Option<f64>) -> String {
        let last = self.ended.returns.last();
        let last = last.map_or(String::new(), |sum| format!(", last return {sum:.1}"));
        let best = self.best.map_or(String::new(), |best| {
            format!(", best evaluation {:.1} at {}", best.mean, best.step)
        });
        format!("steps, {}/s{last}{best}", per_s(steps_per_s))
    }

    fn write(&mut self, figures: &[(String, f64)]) -> Result<()> {
        let steps = self.learner.steps;
        Ok(self.curves.write(steps, SystemTime::now(), figures)?)
    }

    /// A line of figures; a loss that diverged is an error.
    fn log(&mut self, steps_per_s: Option<f64>) -> Result<()> {
        let mut figures = self.read_watch()?;
        figures.extend(steps_per_s.map(|rate| ("steps_per_s", rate)));
        let updates = self.learner.agent.updates() as f64;
        figures.extend([("updates", updates), ("wall_s", self.trained_s)]);
        let ended = std::mem::take(&mut self.ended);
        if !ended.returns.is_empty() {
            figures.extend([
                ("return", ended.mean()),
                ("episode_length", ended.mean_length()),
            ]);
        }
        let named = figures.into_iter();
        let named: Vec<_> = named
            .map(|(name, value)| (format!("train/{name}"), value))
            .collect();
        self.write(&named)
    }

    fn read_watch(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let means = self.watch.read();
        means.map_err(|diverged| anyhow::anyhow!("{diverged}; {}", self.folder.last_good()))
    }

    /// Why a step could not be kept: of a training that diverged that is the reason, not what it did next.
    fn diverged(&mut self, bad: BadBatch) -> anyhow::Error {
        if let Err(diverged) = self.read_watch() {
            return diverged;
        }
        // An update with good figures can have left an agent without any good number.
        let state = self.learner.agent.state();
        match check_state(&state, &state) {
            Err(fault) => anyhow::anyhow!(
                "after update {}: {fault}; {}",
                self.learner.agent.updates(),
                self.folder.last_good()
            ),
            Ok(()) => {
                let (step, env) = (self.learner.steps + 1, &self.options.env);
                anyhow::Error::from(bad).context(format!("in step {step} of {env}"))
            }
        }
    }

    /// Goes through episodes, the same ones every time, and keeps the policy if it is the best so far. Once `stop` is
    /// set it says nothing of it.
    fn evaluate(&mut self, show: &Show, stop: &AtomicBool) -> Result<()> {
        self.read_watch()?;
        let Self { learner, judge, .. } = self;
        let first = seed_for(learner.plan.seed, For::Evaluation);
        let episodes = self.options.config.online.num_eval;
        let mut act = |observation: &[f64]| learner.act(observation);
        let evaluation = evaluate(&mut **judge, &mut act, episodes, first, stop);
        let steps = learner.steps;
        self.due = evaluation.is_none();
        let Some(evaluation) = evaluation else {
            show.say(&format!("{steps} steps: {CUT}"));
            return Ok(());
        };
        show.say(&format!("{steps} steps: return {evaluation}"));
        let mean = evaluation.mean();
        let figures = [
            ("return", mean),
            ("return_std", evaluation.std()),
            ("episode_length", evaluation.mean_length()),
        ];
        self.write(&figures.map(|(name, value)| (format!("evaluation/{name}"), value)))?;
        if Criterion::Return.better(mean, self.best.map(|best| best.mean)) {
            let best = Score { mean, step: steps };
            self.keep(BEST, Some(best))?;
            self.best = Some(best);
        }
        self.evaluated = Some((steps, evaluation));
        Ok(())
    }

    /// Writes the policy as it is into a folder of this name, with how well it does.
    fn keep(&self, name: &str, score: Option<Score>) -> Result<()> {
        let Self {
            learner, options, ..
        } = self;
        let about = About {
            algorithm: options.config.algorithm,
            observations: learner.task.observations(),
            actions: learner.task.actions(),
            env: Some(options.env.clone()),
            updates: learner.agent.updates(),
            scaling: learner.scaling.clone(),
        };
        let put = |dir: &Path| {
            trained::write(dir, &*learner.agent, &about, &options.config)?;
            match score {
                None => Ok(()),
                Some(score) => {
                    write_atomically(&dir.join(SCORE_FILE), &serde_json::to_vec_pretty(&score)?)
                }
            }
        };
        Ok(replace_folder(&self.folder.file(name), put)?)
    }

    fn end(mut self) -> Result<()> {
        self.checkpoint()?;
        self.keep("export", None)?;
        let last = self.evaluated.as_ref().map(|(_, evaluation)| evaluation);
        let summary = serde_json::json!({
            "env": self.options.env,
            "algorithm": self.options.config.algorithm.name(),
            "seed": self.options.seed,
            "steps": self.learner.steps,
            "updates": self.learner.agent.updates(),
            "training_wall_s": self.trained_s,
            "best_return": self.best.map(|best| best.mean),
            "best_at_step": self.best.map(|best| best.step),
            "last_return": last.map(Evaluation::mean),
            "last_return_std": last.map(Evaluation::std),
        });
        let bytes = serde_json::to_vec_pretty(&summary)?;
        write_atomically(&self.folder.file(SUMMARY_FILE), &bytes)?;
        match &self.options.log {
            None => Ok(()),
            Some(log) if self.learner.replay.is_empty() => {
                println!("no step was taken: {} is not written", log.display());
                Ok(())
            }
            Some(log) => Ok(npz::write(log, &self.learner.replay.table()?)?),
        }
    }

    /// One file, whole at any moment. If a number in it is not finite the last one stays.
    fn checkpoint(&mut self) -> Result<()> {
        self.read_watch()?;
        let learner = &self.learner;
        let path = self.folder.file(CHECKPOINT_FILE);
        let mut state = learner.agent.state();
        check_state(&state, &state)
            .with_context(|| format!("{} stays as it was", path.display()))?;
        let counts = [learner.steps, learner.episodes, learner.agent.updates()];
        let counts = counts.map(|count| count as f64);
        let progress = [counts[0], counts[1], counts[2], self.trained_s];
        state.push((PROGRESS.into(), Tensor::from_slice(&progress)));
        if self.due {
            state.push((EVALUATION_DUE.into(), Tensor::from(1i64)));
        }
        if !learner.replay.is_empty() {
            state.extend(tensors(learner.replay.table()?.columns()));
        }
        write_tensors(&path, &state).context("writing a checkpoint; the last one is as it was")
    }
}

/// When the next checkpoint is due after one that took so long.
fn pause_after(took: Duration, period: Duration) -> Duration {
    period.max(took * CHECKPOINT_TIMES)
}

/// The score of the best policy, if one was kept.
fn score(path: &Path) -> Result<Option<Score>> {
    let named = || path.display().to_string();
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(
            serde_json::from_slice(&read.with_context(named)?).with_context(named)?,
        )),
    }
}

/// Puts a checkpoint into a learner; seconds of training until then, and whether an evaluation is due.
fn restore(path: &Path, learner: &mut Learner) -> Result<(f64, bool)> {
    let wrong = || format!("{}: this training cannot go on from it", path.display());
    let state = read_tensors(path)?;
    let mut wanted = learner.agent.state();
    wanted.push((PROGRESS.into(), Tensor::zeros([4], tch::kind::DOUBLE_CPU)));
    check_state(&wanted, &state).with_context(wrong)?;
    let of = |name: &str| state.iter().find(|(own, _)| own == name).map(|(_, t)| t);
    let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double));
    let progress = of(PROGRESS).map(numbers).transpose()?.unwrap_or_default();
    let [steps, episodes, updates, trained_s] = progress[..] else {
        anyhow::bail!(wrong());
    };
    learner.agent.restore(&state, updates as u64);
    (learner.steps, learner.episodes) = (steps as u64, episodes as u64);
    let (o, a) = (learner.task.observations(), learner.task.actions());
    if let Some(columns) = columns(&state, o, a) {
        let table = Table::new(columns?).with_context(wrong)?;
        learner.replay.extend(&table).with_context(wrong)?;
    }
    Ok((trained_s, of(EVALUATION_DUE).is_some()))
}

/// The columns of a table, by name.
fn tensors(columns: &Columns) -> Vec<(String, Tensor)> {
    let flags = |flags: &[bool]| Tensor::from_slice(flags);
    let numbers = |numbers: &[f32]| Tensor::from_slice(numbers);
    let named = [
        ("observations", numbers(&columns.observations)),
        ("actions", numbers(&columns.actions)),
        ("rewards", numbers(&columns.rewards)),
        ("next_observations", numbers(&columns.next_observations)),
        ("terminals", flags(&columns.terminals)),
        ("timeouts", flags(&columns.timeouts)),
    ];
    named
        .map(|(name, tensor)| (format!("{REPLAY}{name}"), tensor))
        .into()
}

/// What [`tensors`] made of them, if there was anything.
fn columns(
    state: &[(String, Tensor)],
    observation: usize,
    action: usize,
) -> Option<Result<Columns>> {
    let of = |name: &str| {
        let found = state
            .iter()
            .find(|(own, _)| own.strip_prefix(REPLAY) == Some(name));
        found.map(|(_, tensor)| tensor)
    };
    of("rewards")?;
    let column = |name: &str| of(name).with_context(|| format!("the replay has no `{name}`"));
    let numbers = |name: &str| Ok::<_, anyhow::Error>(Vec::<f32>::try_from(column(name)?)?);
    let flags = |name: &str| Ok::<_, anyhow::Error>(Vec::<bool>::try_from(column(name)?)?);
    let all = || {
        Ok(Columns {
            observation,
            action,
            observations: numbers("observations")?,
            actions: numbers("actions")?,
            rewards: numbers("rewards")?,
            next_observations: numbers("next_observations")?,
            terminals: flags("terminals")?,
            timeouts: flags("timeouts")?,
        })
    };
    Some(all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_take_a_twentieth_of_the_time_at_most() {
        let s = Duration::from_secs_f64;
        assert_eq!(pause_after(s(0.5), s(60.0)), s(60.0));
        assert_eq!(pause_after(s(6.0), s(60.0)), s(120.0));
    }
}
