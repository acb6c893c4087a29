//! How well a policy does: episodes of a task, and what they came to. [`command`]: for a trained policy by itself;
//! [`render`]: to be looked at.

pub mod command;
pub mod render;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::tasks::{Outcome, Task};

/// Episodes that were gone through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Sum of each episode's rewards.
    pub returns: Vec<f64>,
    /// Steps of each.
    pub lengths: Vec<u32>,
}

impl Evaluation {
    /// Mean return; NaN of no episode.
    pub fn mean(&self) -> f64 {
        mean(&self.returns)
    }

    /// Standard deviation of the returns, those of all episodes being meant, not of a sample of them (as
    /// numpy's `std`); NaN of no episode.
    pub fn std(&self) -> f64 {
        let middle = self.mean();
        let squares: Vec<f64> = self.returns.iter().map(|r| (r - middle).powi(2)).collect();
        mean(&squares).sqrt()
    }

    /// Mean number of steps; NaN of no episode.
    pub fn mean_length(&self) -> f64 {
        let lengths: Vec<f64> = self.lengths.iter().map(|&length| length.into()).collect();
        mean(&lengths)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The return, its spread, over how many episodes of which length.
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mean, std, episodes) = (self.mean(), self.std(), self.returns.len());
        let length = self.mean_length();
        let s = if episodes == 1 { "" } else { "s" };
        write!(
            f,
            "{mean:.1} ± {std:.1} over {episodes} episode{s} of {length:.1} steps"
        )
    }
}

/// Goes through so many episodes of a task, the i-th beginning from `seed + i`, with the actions in ±1 \[A\]
/// that `act` gives at observations \[O\]. `None`: `stop` was set before the last one was over. What the first few
/// came to is not comparable with what all of them come to.
pub fn evaluate(
    task: &mut dyn Task,
    act: &mut dyn FnMut(&[f64]) -> Vec<f64>,
    episodes: u64,
    seed: u64,
    stop: &AtomicBool,
) -> Option<Evaluation> {
    let mut evaluation = Evaluation::default();
    for episode in 0..episodes {
        let seed = seed.wrapping_add(episode);
        let (sum, steps) = walk(task, seed, act, &mut |_, _, _| (), stop)?;
        evaluation.returns.push(sum);
        evaluation.lengths.push(steps);
    }
    Some(evaluation)
}

/// Gets every step's observation \[O\], action \[A\] and outcome.
pub type See<'a> = dyn FnMut(&[f64], &[f64], &Outcome) + 'a;

/// One episode: its return and its steps. `None`: `stop` was set before it was over.
pub fn walk(
    task: &mut dyn Task,
    seed: u64,
    act: &mut dyn FnMut(&[f64]) -> Vec<f64>,
    see: &mut See,
    stop: &AtomicBool,
) -> Option<(f64, u32)> {
    let mut observation = task.reset(seed);
    let (mut sum, mut steps) = (0.0, 0);
    while !stop.load(Ordering::Relaxed) {
        let action = act(&observation);
        let outcome = task.step(&action);
        see(&observation, &action, &outcome);
        sum += outcome.reward;
        steps += 1;
        if outcome.terminated || outcome.truncated {
            return Some((sum, steps));
        }
        observation = outcome.observation;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::PictureError;

    /// Counts up from the seed; each step pays what it was at times the action, and 3 is the end. Time runs
    /// out after four steps.
    struct Count {
        at: f64,
        steps: u32,
    }

    impl Task for Count {
        fn id(&self) -> &'static str {
            "Count"
        }

        fn most_steps(&self) -> u32 {
            4
        }

        fn step_s(&self) -> f64 {
            1.0
        }

        fn picture(&mut self, _: u32, _: u32) -> Result<Vec<u8>, PictureError> {
            Ok(vec![])
        }

        fn observations(&self) -> usize {
            1
        }

        fn actions(&self) -> usize {
            1
        }

        fn reset(&mut self, seed: u64) -> Vec<f64> {
            (self.at, self.steps) = (seed as f64, 0);
            vec![self.at]
        }

        fn step(&mut self, action: &[f64]) -> Outcome {
            let reward = self.at * action[0];
            self.at += 1.0;
            self.steps += 1;
            Outcome {
                observation: vec![self.at],
                reward,
                terminated: self.at == 3.0,
                truncated: self.steps == 4,
            }
        }
    }

    #[test]
    fn episodes_begin_from_their_seeds_and_end_either_way() {
        let mut task = Count { at: 0.0, steps: 0 };
        let mut seen = vec![];
        let mut act = |observation: &[f64]| {
            seen.push(observation[0]);
            vec![0.5]
        };
        let evaluation = evaluate(&mut task, &mut act, 3, 1, &AtomicBool::new(false)).unwrap();
        // 1 and 2; 2; 3, 4, 5 and 6 until time ran out.
        assert_eq!(seen, [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(evaluation.returns, [1.5, 1.0, 9.0]);
        assert_eq!(evaluation.lengths, [2, 1, 4]);
        let spread = ((2.3333f64.powi(2) + 2.8333f64.powi(2) + 5.1667f64.powi(2)) / 3.0).sqrt();
        assert!((evaluation.std() - spread).abs() < 1e-3);
        assert_eq!(
            evaluation.to_string(),
            "3.8 ± 3.7 over 3 episodes of 2.3 steps"
        );
    }

    #[test]
    fn told_to_stop_it_ends_within_an_episode() {
        let mut task = Count { at: 0.0, steps: 0 };
        let stop = AtomicBool::new(false);
        let mut act = |observation: &[f64]| {
            stop.store(observation[0] == 4.0, Ordering::Relaxed);
            vec![0.5]
        };
        assert_eq!(evaluate(&mut task, &mut act, 3, 1, &stop), None);
        // Of the third episode, which is of four.
        assert_eq!(task.steps, 2);
    }

    #[test]
    fn one_episode_is_one_and_none_is_no_number() {
        let mut task = Count { at: 0.0, steps: 0 };
        let go_on = AtomicBool::new(false);
        let one = evaluate(&mut task, &mut |_| vec![1.0], 1, 2, &go_on).unwrap();
        assert_eq!(one.to_string(), "2.0 ± 0.0 over 1 episode of 1.0 steps");
        assert!(Evaluation::default().mean().is_nan());
    }
}
