//! When the scripted operator takes over from the policy, and for how long.

use hilt_protocol::noise::{Uniforms, mix};
use serde::{Deserialize, Serialize};

use crate::Truth;

/// How ready the operator is to step in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TakeoverConfig {
    /// Steps without progress after which the policy counts as stuck.
    pub stuck_steps: u32,
    /// The probability of taking over a stuck policy, and of looking closely at how an episode
    /// ended, fades from 1 at the start of training…
    pub fade_fraction: f64,
    /// … to this, reached at about `fade_fraction` of the training.
    pub least_probability: f64,
    /// Takeovers in a whole run, at most; without a number there is no cap.
    pub max_interventions: Option<u32>,
}

impl Default for TakeoverConfig {
    fn default() -> Self {
        Self {
            stuck_steps: 5,
            fade_fraction: 0.6,
            least_probability: 0.15,
            max_interventions: None,
        }
    }
}

/// Less than this is no progress, metres.
const PROGRESS_M: f64 = 0.005;

/// Decides who acts, step by step. A pure function of its seed and what it is shown.
#[derive(Clone, Debug)]
pub struct TakeoverPolicy {
    config: TakeoverConfig,
    uniforms: Uniforms,
    interventions: u32,
    /// The greatest progress since the policy acts.
    best: Option<f64>,
    stuck: u32,
    /// Steps of the takeover that are left; `None`: the policy acts.
    left: Option<u32>,
}

impl TakeoverPolicy {
    /// For one run.
    pub fn new(config: TakeoverConfig, seed: u64) -> Self {
        Self {
            config,
            uniforms: Uniforms::new(mix(seed ^ 0x7461_6b65_6f76_6572)),
            interventions: 0,
            best: None,
            stuck: 0,
            left: None,
        }
    }

    /// An episode begins: the policy acts, and nothing has been seen of it yet.
    pub fn begin_episode(&mut self) {
        self.best = None;
        self.stuck = 0;
        self.left = None;
    }

    /// Takeovers so far in the run.
    pub fn interventions(&self) -> u32 {
        self.interventions
    }

    /// Whether the operator acts in this step. `training_fraction` is the share of the training
    /// that has passed, 0 to 1.
    pub fn operator_acts(&mut self, truth: &Truth, training_fraction: f64) -> bool {
        if let Some(left) = self.left {
            if left > 0 {
                self.left = Some(left - 1);
                return true;
            }
            self.begin_episode();
        }
        let now = progress(truth);
        match self.best {
            Some(best) if now < best + PROGRESS_M => self.stuck += 1,
            _ => {
                self.best = Some(now);
                self.stuck = 0;
            }
        }
        if self.stuck < self.config.stuck_steps {
            return false;
        }
        // Whether or not it is taken, the next chance comes after as many steps again.
        self.stuck = 0;
        let capped = self
            .config
            .max_interventions
            .is_some_and(|cap| self.interventions >= cap);
        if capped || self.uniforms.open01() >= self.probability(training_fraction) {
            return false;
        }
        self.interventions += 1;
        let to_the_end = self.uniforms.open01() < 0.5;
        let steps = if to_the_end {
            u32::MAX
        } else {
            4 + self.uniforms.below(7) as u32
        };
        self.left = Some(steps - 1);
        true
    }

    /// Whether the operator looks closely at how an episode ended that the policy did alone: as
    /// likely as a takeover of a stuck one.
    pub fn looks(&mut self, training_fraction: f64) -> bool {
        self.uniforms.open01() < self.probability(training_fraction)
    }

    fn probability(&self, training_fraction: f64) -> f64 {
        let faded = 1.0 - training_fraction / self.config.fade_fraction;
        // A fade of 0 gives no number: it is over at once.
        if faded.is_finite() {
            faded.max(self.config.least_probability)
        } else {
            self.config.least_probability
        }
    }
}

/// How far the task has come, metres: nearer to the cube, and the cube higher.
fn progress(truth: &Truth) -> f64 {
    let distance = (0..3)
        .map(|i| (truth.cube_position_m[i] - truth.tool_position_m[i]).powi(2))
        .sum::<f64>()
        .sqrt();
    truth.cube_height_m - distance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(distance_m: f64, height_m: f64) -> Truth {
        Truth {
            cube_position_m: [0.45, 0.0, 0.02 + height_m],
            cube_height_m: height_m,
            cube_yaw_rad: 0.0,
            tool_position_m: [0.45, distance_m, 0.02 + height_m],
            gripper_width_m: 0.084,
            gripper_closed_command: false,
            lifted: false,
        }
    }

    /// Lengths of the takeovers in episodes of `steps` steps in which nothing moves.
    fn takeovers(
        policy: &mut TakeoverPolicy,
        episodes: u32,
        steps: u32,
        fraction: f64,
    ) -> Vec<u32> {
        let mut lengths = Vec::new();
        for _ in 0..episodes {
            policy.begin_episode();
            let mut length = 0;
            for _ in 0..steps {
                if policy.operator_acts(&at(0.1, 0.0), fraction) {
                    length += 1;
                } else if length > 0 {
                    lengths.push(length);
                    length = 0;
                }
            }
            if length > 0 {
                lengths.push(length);
            }
        }
        lengths
    }

    #[test]
    fn progress_is_left_alone() {
        let mut policy = TakeoverPolicy::new(TakeoverConfig::default(), 1);
        policy.begin_episode();
        for i in 0..20 {
            assert!(!policy.operator_acts(&at(0.2 - 0.01 * f64::from(i), 0.0), 0.0));
        }
        for i in 0..20 {
            assert!(!policy.operator_acts(&at(0.01, 0.01 * f64::from(i)), 0.0));
        }
        assert_eq!(policy.interventions(), 0);
    }

    #[test]
    fn a_stuck_policy_is_taken_over_after_five_steps() {
        let mut policy = TakeoverPolicy::new(TakeoverConfig::default(), 1);
        policy.begin_episode();
        let acts: Vec<bool> = (0..6)
            .map(|_| policy.operator_acts(&at(0.1, 0.0), 0.0))
            .collect();
        assert_eq!(acts, [false, false, false, false, false, true]);
        assert_eq!(policy.interventions(), 1);
    }

    #[test]
    fn half_last_to_the_end_and_the_others_four_to_ten_steps() {
        let mut policy = TakeoverPolicy::new(TakeoverConfig::default(), 1);
        // So short that there is one takeover each.
        let lengths = takeovers(&mut policy, 1000, 17, 0.0);
        let to_the_end = lengths.iter().filter(|&&l| l == 12).count();
        assert!((400..600).contains(&to_the_end), "{to_the_end}");
        let short: Vec<u32> = lengths.into_iter().filter(|&l| l < 12).collect();
        assert!(short.contains(&10));
        assert!(
            short.iter().filter(|&&l| l < 4).count() < 250,
            "only those that the end cuts off"
        );
    }

    #[test]
    fn the_probability_fades_to_its_least() {
        let started = |fraction| {
            let mut policy = TakeoverPolicy::new(TakeoverConfig::default(), 7);
            takeovers(&mut policy, 2000, 6, fraction).len() as f64 / 2000.0
        };
        for (fraction, expected) in [(0.0, 1.0), (0.3, 0.5), (0.55, 0.15), (1.0, 0.15)] {
            let share = started(fraction);
            assert!(
                (share - expected).abs() < 0.04,
                "{share} at {fraction}, not {expected}"
            );
        }
    }

    #[test]
    fn endings_are_looked_at_as_often() {
        let mut policy = TakeoverPolicy::new(TakeoverConfig::default(), 7);
        let mut share = |fraction| (0..2000).filter(|_| policy.looks(fraction)).count();
        assert_eq!(share(0.0), 2000);
        assert!((200..400).contains(&share(0.9)));
    }

    #[test]
    fn the_cap_holds_over_the_run() {
        let config = TakeoverConfig {
            max_interventions: Some(3),
            ..TakeoverConfig::default()
        };
        let mut policy = TakeoverPolicy::new(config, 1);
        assert_eq!(takeovers(&mut policy, 50, 6, 0.0).len(), 3);
        assert_eq!(policy.interventions(), 3);
    }
}
