//! What a robot sees, as algorithms take it: batches of [`SightTransitions`], and how an algorithm that learns from
//! them is driven, [`SightAgent`].
//!
//! There are two kinds: [`Alternating`], of an algorithm that is made for maps, and [`Sighted`], a front under any
//! algorithm on vectors.
//!
//! [`Alternating`]: super::sac_grasp::Alternating
//! [`Sighted`]: super::front::Sighted

use tch::Tensor;

use super::Figures;
use crate::vectors::turns;

/// What a robot sees and feels, B times.
#[derive(Debug)]
pub struct Sight {
    /// Maps \[B, h, w, C\], one per camera.
    pub maps: Vec<Tensor>,
    /// Proprioception \[B, P\].
    pub proprio: Tensor,
}

impl Sight {
    /// Several, one after the other.
    pub fn joined(parts: &[Self]) -> Self {
        let cameras = parts.first().map_or(0, |first| first.maps.len());
        let maps = |camera: usize| {
            let of_camera: Vec<&Tensor> = parts.iter().map(|part| &part.maps[camera]).collect();
            Tensor::cat(&of_camera, 0)
        };
        let proprio: Vec<&Tensor> = parts.iter().map(|part| &part.proprio).collect();
        Self {
            maps: (0..cameras).map(maps).collect(),
            proprio: Tensor::cat(&proprio, 0),
        }
    }

    fn mapped(&self, each: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            maps: self.maps.iter().map(&each).collect(),
            proprio: each(&self.proprio),
        }
    }

    fn with(&self, other: &Self, each: impl Fn(&Tensor, &Tensor) -> Tensor) -> Self {
        let maps = self.maps.iter().zip(&other.maps);
        Self {
            maps: maps.map(|(a, b)| each(a, b)).collect(),
            proprio: each(&self.proprio, &other.proprio),
        }
    }
}

/// B transitions of what is seen.
#[derive(Debug)]
pub struct SightTransitions {
    /// What was seen.
    pub observations: Sight,
    /// What was seen next.
    pub next_observations: Sight,
    /// Actions in ±1 \[B, A\]; a gripper's column holds −1 (close), 0 (stay) or 1 (open).
    pub actions: Tensor,
    /// Rewards \[B\].
    pub rewards: Tensor,
    /// Added to the reward where grippers are judged \[B\].
    pub grasp_penalty: Tensor,
    /// 0 where the episode terminated, else 1, also where time ran out \[B\].
    pub masks: Tensor,
    /// Discounted sum of rewards and penalties from here to the episode's end \[B\], for those who ask for it.
    /// Where the end is not known it is [`UNKNOWN_RETURN`].
    pub returns: Option<Tensor>,
}

impl SightTransitions {
    /// B.
    pub fn rows(&self) -> i64 {
        self.rewards.size()[0]
    }

    /// The first of them: a view.
    pub fn first(&self, rows: i64) -> Self {
        let first = |tensor: &Tensor| tensor.narrow(0, 0, rows);
        Self {
            observations: self.observations.mapped(first),
            next_observations: self.next_observations.mapped(first),
            actions: first(&self.actions),
            rewards: first(&self.rewards),
            grasp_penalty: first(&self.grasp_penalty),
            masks: first(&self.masks),
            returns: self.returns.as_ref().map(first),
        }
    }

    /// These and others as one batch, as [`interleaved`](crate::vectors::interleaved) has it.
    pub fn interleaved(&self, with: &Self) -> Self {
        let turns = turns(self.rows(), with.rows(), self.rewards.device());
        Self {
            observations: self.observations.with(&with.observations, &turns),
            next_observations: (self.next_observations).with(&with.next_observations, &turns),
            actions: turns(&self.actions, &with.actions),
            rewards: turns(&self.rewards, &with.rewards),
            grasp_penalty: turns(&self.grasp_penalty, &with.grasp_penalty),
            masks: turns(&self.masks, &with.masks),
            returns: (self.returns.as_ref())
                .zip(with.returns.as_ref())
                .map(|(a, b)| turns(a, b)),
        }
    }
}

/// A return that bounds nothing from below: less than any value, and a finite number all the same.
pub const UNKNOWN_RETURN: f32 = f32::MIN;

/// An algorithm on what a robot sees, as whoever trains drives it.
pub trait SightAgent {
    /// One update. Its random numbers follow from the run's seed and the update's number alone, so that a resumed
    /// run goes on as if it had never stopped.
    fn update_seeded(&mut self, batch: &SightTransitions, seed: u64) -> Figures;

    /// Updates made so far.
    fn updates(&self) -> u64;

    /// As [`super::Agent::parts`].
    fn parts(&self) -> i64 {
        1
    }

    /// From here on it learns online, for those that then learn otherwise.
    fn go_online(&mut self) {}

    /// Folds the normalisation (x − mean) / std of proprioception into its fresh first layer, so that the graph
    /// that the robot runs needs no normaliser.
    fn centre_proprio(&self, mean: &[f32], std: &[f32]);

    /// The rewards that its critics learn from \[B\]: with the grippers' penalty, if they judge these.
    fn rewards(&self, batch: &SightTransitions) -> Tensor;

    /// The best actions it knows \[B, A\], in ±1.
    fn best(&self, sight: &Sight) -> Tensor;

    /// What it thinks taking these actions is worth \[B\]; `None`: it has no critic.
    fn value(&self, sight: &Sight, actions: &Tensor) -> Option<Tensor>;

    /// Everything that the next update depends on, but for the number of updates.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Puts back what [`SightAgent::state`] gave, after it was checked ([`super::guard::check_state`]).
    fn restore(&mut self, state: &[(String, Tensor)], updates: u64);
}
