//! Gymnasium's Hopper, HalfCheetah and Walker2d, by [`hilt_sim::Locomotion`].

use hilt_sim::Locomotion;

use super::{Outcome, PictureError, Task};

/// The names that [`super::open`] knows.
pub(super) fn ids() -> impl Iterator<Item = &'static str> {
    Locomotion::ids()
}

impl Task for Locomotion {
    fn id(&self) -> &'static str {
        self.id()
    }

    fn observations(&self) -> usize {
        self.observations()
    }

    fn actions(&self) -> usize {
        self.actions()
    }

    fn most_steps(&self) -> u32 {
        self.most_steps()
    }

    fn step_s(&self) -> f64 {
        self.step_s()
    }

    fn reset(&mut self, seed: u64) -> Vec<f64> {
        self.reset(seed)
    }

    fn step(&mut self, action: &[f64]) -> Outcome {
        let moved = self.step(action);
        Outcome {
            observation: moved.observation,
            reward: moved.reward,
            terminated: moved.terminated,
            truncated: moved.truncated,
        }
    }

    fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
        let (id, picture) = (self.id(), self.picture(width, height));
        picture.map_err(|e| PictureError {
            id,
            reason: e.to_string(),
        })
    }
}
