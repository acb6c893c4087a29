//! What drives a learner through its steps: figures, evaluations, checkpoints, and the best policy kept.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use hilt_recording::table::{Columns, Table, npz};
use hilt_show::{Rate, Show, per_s};
use tch::{Kind, Tensor};

use super::{
    TaskOptions,
    learner::{For, Learner, seed_for},
};
use crate::{
    agents::guard::{Watch, check_state},
    checkpoint::{read_tensors, replace_folder, write_tensors},
    evaluation::{Evaluation, evaluate},
    metrics::{Curves, write_atomically},
    offline::folder::{Facts, Folder},
    tasks::Task,
    trained::{self, About},
    vectors::VectorData,
};

const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
const SUMMARY_FILE: &str = "summary.json";
/// Names of what a checkpoint has besides the agent's state.
const PROGRESS: &str = "online.progress";
const BEST: &str = "online.best";
const REPLAY: &str = "online.replay.";
/// Figures are read, and a line of them written, once in so many steps.
const LOG_STEPS: u64 = 1000;

/// A training on a task.
pub(super) struct Training<'a> {
    options: &'a TaskOptions,
    folder: &'a Folder,
    learner: Learner,
    judge: Box<dyn Task>,
    /// Mean return of the best policy so far, and the steps behind it.
    best: Option<(f64, u64)>,
    /// The last evaluation, and the steps behind it.
    evaluated: Option<(u64, Evaluation)>,
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
        mut learner: Learner,
        judge: Box<dyn Task>,
    ) -> Result<Self> {
        let recorded = learner.recorded.as_ref().map(VectorData::rows);
        let facts = Facts::from_iter([
            (
                "algorithm".to_owned(),
                options.config.algorithm.name().into(),
            ),
            ("env".to_owned(), learner.task.id().into()),
            ("seed".to_owned(), options.seed.into()),
            ("demos.rows".to_owned(), recorded.into()),
        ]);
        folder.check(&facts)?;
        let kept = restore(&folder.file(CHECKPOINT_FILE), &mut learner)?;
        // Only now: a resumed training that was refused keeps the settings that it had.
        let curves = folder.curves(learner.steps)?;
        folder.begin(&facts, &options.config)?;
        if learner.steps > 0 {
            let updates = learner.agent.updates();
            println!("resumed at {} steps, {updates} updates", learner.steps);
        }
        Ok(Self {
            options,
            folder,
            learner,
            judge,
            best: kept.best,
            evaluated: None,
            curves,
            watch: Watch::default(),
            ended: Evaluation::default(),
            trained_s: kept.trained_s,
        })
    }

    /// Goes on until all steps are taken or `stop` is set.
    pub fn run(mut self, started: Instant, stop: &AtomicBool) -> Result<()> {
        let online = self.options.config.online.clone();
        let before_s = self.trained_s;
        let period = Duration::from_secs_f64(self.options.config.train.checkpoint_period_s);
        let (mut checkpointed, mut rate) = (Instant::now(), Rate::default());
        let mut show = Show::new(&self.options.env, Some(online.steps));
        // What it can do already is what it will be compared with.
        if self.learner.steps == 0 && self.options.from.is_some() {
            self.evaluate(&show)?;
        }
        while self.learner.steps < online.steps && !stop.load(Ordering::Relaxed) {
            let stepped = self.learner.step()?;
            for (number, figures) in stepped.updates {
                self.watch.note(number, figures);
            }
            if let Some((sum, steps)) = stepped.ended {
                self.ended.returns.push(sum);
                self.ended.lengths.push(steps);
            }
            let steps = self.learner.steps;
            rate.add(started.elapsed(), steps);
            show.stand(steps, || self.words(rate.per_s()));
            self.trained_s = before_s + started.elapsed().as_secs_f64();
            if steps.is_multiple_of(LOG_STEPS) {
                self.log(rate.per_s())?;
            }
            if online.eval_freq > 0 && steps.is_multiple_of(online.eval_freq) {
                self.evaluate(&show)?;
            }
            if checkpointed.elapsed() >= period {
                self.checkpoint()?;
                checkpointed = Instant::now();
            }
        }
        let stopped = self.learner.steps < online.steps;
        let evaluated = self.evaluated.as_ref().map(|(steps, _)| *steps);
        if !stopped && evaluated != Some(self.learner.steps) {
            self.evaluate(&show)?;
        }
        show.end();
        self.end()
    }

    fn words(&self, steps_per_s: Option<f64>) -> String {
        let last = self.ended.returns.last();
        let last = last.map_or(String::new(), |sum| format!(", last return {sum:.1}"));
        let best = self.best.map_or(String::new(), |(mean, steps)| {
            format!(", best evaluation {mean:.1} at {steps}")
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

    /// Goes through episodes, the same ones every time, and keeps the policy if it is the best so far.
    fn evaluate(&mut self, show: &Show) -> Result<()> {
        self.read_watch()?;
        let Self { learner, judge, .. } = self;
        let first = seed_for(learner.plan.seed, For::Evaluation);
        let episodes = self.options.config.online.num_eval;
        let mut act = |observation: &[f64]| learner.act(observation);
        let evaluation = evaluate(&mut **judge, &mut act, episodes, first);
        let steps = learner.steps;
        show.say(&format!("{steps} steps: return {evaluation}"));
        let mean = evaluation.mean();
        let figures = [
            ("return", mean),
            ("return_std", evaluation.std()),
            ("episode_length", evaluation.mean_length()),
        ];
        self.write(&figures.map(|(name, value)| (format!("evaluation/{name}"), value)))?;
        if self.best.is_none_or(|(best, _)| mean > best) {
            self.best = Some((mean, steps));
            self.keep("best")?;
        }
        self.evaluated = Some((steps, evaluation));
        Ok(())
    }

    /// Writes the policy as it is into a folder of this name.
    fn keep(&self, name: &str) -> Result<()> {
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
        let put = |dir: &Path| trained::write(dir, &*learner.agent, &about, &options.config);
        Ok(replace_folder(&self.folder.file(name), put)?)
    }

    fn end(mut self) -> Result<()> {
        self.checkpoint()?;
        self.keep("export")?;
        if let Some(log) = &self.options.log {
            npz::write(log, &self.learner.replay.table()?)?;
        }
        let last = self.evaluated.as_ref().map(|(_, evaluation)| evaluation);
        let summary = serde_json::json!({
            "env": self.options.env,
            "algorithm": self.options.config.algorithm.name(),
            "seed": self.options.seed,
            "steps": self.learner.steps,
            "updates": self.learner.agent.updates(),
            "training_wall_s": self.trained_s,
            "best_return": self.best.map(|(mean, _)| mean),
            "best_at_step": self.best.map(|(_, steps)| steps),
            "last_return": last.map(Evaluation::mean),
            "last_return_std": last.map(Evaluation::std),
        });
        let bytes = serde_json::to_vec_pretty(&summary)?;
        Ok(write_atomically(&self.folder.file(SUMMARY_FILE), &bytes)?)
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
        if let Some((mean, steps)) = self.best {
            state.push((BEST.into(), Tensor::from_slice(&[mean, steps as f64])));
        }
        if !learner.replay.is_empty() {
            state.extend(tensors(learner.replay.table()?.columns()));
        }
        write_tensors(&path, &state).context("writing a checkpoint; the last one is as it was")
    }
}

/// What a checkpoint keeps besides the learner.
#[derive(Default)]
struct Kept {
    best: Option<(f64, u64)>,
    trained_s: f64,
}

/// Puts a checkpoint into a learner, if there is one.
fn restore(path: &Path, learner: &mut Learner) -> Result<Kept> {
    if !path.exists() {
        return Ok(Kept::default());
    }
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
    let best = of(BEST).map(numbers).transpose()?;
    let best = best.and_then(|best| Some((*best.first()?, *best.get(1)? as u64)));
    let (o, a) = (learner.task.observations(), learner.task.actions());
    if let Some(columns) = columns(&state, o, a) {
        let table = Table::new(columns?).with_context(wrong)?;
        learner.replay.extend(&table).with_context(wrong)?;
    }
    Ok(Kept { best, trained_s })
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
