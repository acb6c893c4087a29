//! How good a policy is while it trains, and which of two is the better one.

use std::sync::atomic::AtomicBool;

use anyhow::Result;

use super::Course;
use crate::{evaluation::evaluate, tasks::Task};

/// What [`Course::held_out`] calls the error of the policy's actions, weighted by the advantage of the data's.
pub const ADVANTAGE_WEIGHTED_ERROR: &str = "advantage_weighted_error";
/// What it calls their plain error.
pub const IMITATION_ERROR: &str = "imitation_error";

/// What policies are compared by.
///
/// Without a task the error of the policy's actions decides, on data that it did not learn from: how far they are
/// from the data's, those counting most that the critics think better than the policy's own. It says which
/// policy is nearer to the best of what was recorded, and not which would come further: if there is a task, give it.
/// A critic's own value would not do, for the worst ones have the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Mean return of episodes in a task; more is better.
    Return,
    /// [`ADVANTAGE_WEIGHTED_ERROR`]; less is better.
    AdvantageWeightedError,
    /// [`IMITATION_ERROR`], where there is no critic; less is better.
    ImitationError,
}

impl Criterion {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Return => "return",
            Self::AdvantageWeightedError => ADVANTAGE_WEIGHTED_ERROR,
            Self::ImitationError => IMITATION_ERROR,
        }
    }

    /// Whether a score is better than another. No number never is.
    pub fn better(self, score: f64, than: Option<f64>) -> bool {
        match than {
            None => !score.is_nan(),
            Some(than) if self == Self::Return => score > than,
            Some(than) => score < than,
        }
    }
}

/// What an evaluation came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Figures by name, a group before the slash.
    pub figures: Vec<(String, f64)>,
    /// What decides, if there is anything to go by.
    pub score: Option<(Criterion, f64)>,
    /// In words.
    pub words: String,
}

impl Verdict {
    /// A figure.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let found = self.figures.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| *value)
    }
}

/// Looks at a policy: in a task if there is one, and on held-out data.
pub struct Judge {
    /// The task.
    pub task: Option<Box<dyn Task>>,
    /// Episodes in it; the same ones each time.
    pub episodes: u64,
    /// Seed of the first of them. It follows from the training's, and its episodes are others than `hilt-learner
    /// evaluate` takes, so that a policy that was chosen for its luck here shows it there.
    pub first: u64,
}

impl Judge {
    /// Evaluates a course's policy. `None`: `stop` was set before the episodes in the task were over.
    pub fn look(&mut self, course: &dyn Course, stop: &AtomicBool) -> Result<Option<Verdict>> {
        let mut verdict = Verdict::default();
        if let Some(task) = &mut self.task {
            let mut none = false;
            let actions = task.actions();
            let mut act = |observation: &[f64]| {
                course.act(observation).unwrap_or_else(|| {
                    none = true;
                    vec![0.0; actions]
                })
            };
            let evaluation = evaluate(&mut **task, &mut act, self.episodes, self.first, stop);
            anyhow::ensure!(
                !none,
                "--env: this policy acts on more than a task shows; leave --env out"
            );
            let Some(evaluation) = evaluation else {
                return Ok(None);
            };
            verdict.words = format!("return {evaluation}");
            verdict.score = Some((Criterion::Return, evaluation.mean()));
            let figures = [
                ("return", evaluation.mean()),
                ("return_std", evaluation.std()),
                ("episode_length", evaluation.mean_length()),
            ];
            let named = figures.map(|(name, value)| (format!("evaluation/{name}"), value));
            verdict.figures.extend(named);
        }
        let held_out = course.held_out()?;
        // A return that is none can be the task's doing: it is never the best, and the training goes on.
        if let Some((name, _)) = held_out.iter().find(|(_, value)| value.is_nan()) {
            let updates = course.updates();
            anyhow::bail!("evaluating at update {updates}: held_out/{name} is not a number");
        }
        for criterion in [Criterion::AdvantageWeightedError, Criterion::ImitationError] {
            let found = held_out.iter().find(|(name, _)| *name == criterion.name());
            if let (None, Some((name, value))) = (&verdict.score, found) {
                verdict.words = format!("held out: {} {value:.4}", name.replace('_', " "));
                verdict.score = Some((criterion, *value));
            }
        }
        let named = (held_out.into_iter()).map(|(name, value)| (format!("held_out/{name}"), value));
        verdict.figures.extend(named);
        Ok(Some(verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_return_is_better_and_less_error() {
        let (more, less) = (Criterion::Return, Criterion::AdvantageWeightedError);
        assert!(more.better(-3.0, None) && less.better(3.0, None));
        assert!(more.better(2.0, Some(1.0)) && !more.better(1.0, Some(1.0)));
        assert!(less.better(1.0, Some(2.0)) && !less.better(2.0, Some(2.0)));
        for than in [None, Some(1.0)] {
            assert!(!more.better(f64::NAN, than) && !less.better(f64::NAN, than));
        }
    }
}
