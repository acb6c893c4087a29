//! What acts and judges.

use hilt_protocol::{Observation, RigSpec, noise::Uniforms};

use crate::{
    inference::{EngineError, OnnxBrain},
    tick::Stage,
};

/// The brain could not answer.
#[derive(Debug, thiserror::Error)]
pub enum BrainError {
    /// Inference failed.
    #[error(transparent)]
    Inference(#[from] EngineError),
    /// There are no weights yet.
    #[error("the policy has no weights yet; the learner has not published a snapshot")]
    NoWeights,
}

/// A policy and a reward classifier.
pub trait Brain {
    /// The action for an observation, in the spec's action space. `explore`: sampled, with the
    /// noise of `seed`; else greedy.
    fn act(
        &mut self,
        observation: &Observation,
        seed: u64,
        explore: bool,
    ) -> Result<Vec<f32>, BrainError>;

    /// The classifier's probability of success, 0 to 1; `None` without a classifier's weights.
    fn judge(&mut self, observation: &Observation) -> Result<Option<f32>, BrainError>;

    /// Version of the policy snapshot in force; 0: none.
    fn version(&self) -> u64;

    /// Gradient updates behind the policy in force.
    fn updates(&self) -> u64;

    /// Times that the policy was exchanged.
    fn swaps(&self) -> u64 {
        0
    }

    /// Takes newly verified weights, if any; called between two steps.
    fn refresh(&mut self) {}

    /// What encoder and head took, if they ran since the last call, nanoseconds.
    fn stages(&mut self) -> Vec<(Stage, u64)> {
        Vec::new()
    }
}

impl Brain for OnnxBrain {
    fn act(
        &mut self,
        observation: &Observation,
        seed: u64,
        explore: bool,
    ) -> Result<Vec<f32>, BrainError> {
        if !self.can_act() {
            return Err(BrainError::NoWeights);
        }
        Ok(OnnxBrain::act(self, observation, seed, explore)?)
    }

    fn judge(&mut self, observation: &Observation) -> Result<Option<f32>, BrainError> {
        Ok(OnnxBrain::judge(self, observation)?)
    }

    fn version(&self) -> u64 {
        OnnxBrain::version(self)
    }

    fn updates(&self) -> u64 {
        OnnxBrain::updates(self)
    }

    fn stages(&mut self) -> Vec<(Stage, u64)> {
        OnnxBrain::stages(self)
    }

    fn swaps(&self) -> u64 {
        OnnxBrain::swaps(self)
    }

    fn refresh(&mut self) {
        for (graph, refused) in self.swap() {
            tracing::warn!("{}: {refused}; the old weights stay", graph.name());
        }
    }
}

/// A uniformly random action of the spec: motion in [-1, 1], grippers -1, 0 or 1.
pub fn random_action(spec: &RigSpec, seed: u64) -> Vec<f32> {
    let mut uniforms = Uniforms::new(seed);
    let grippers = spec.gripper_columns();
    (0..spec.action_dim())
        .map(|column| {
            if grippers.contains(&column) {
                uniforms.below(3) as f32 - 1.0
            } else {
                uniforms.range(-1.0, 1.0) as f32
            }
        })
        .collect()
}

/// Acts at random and judges nothing: walks a rig before there is a policy.
#[derive(Clone, Debug)]
pub struct RandomBrain {
    spec: RigSpec,
}

impl RandomBrain {
    /// For a rig of this spec.
    pub fn new(spec: RigSpec) -> Self {
        Self { spec }
    }
}

impl Brain for RandomBrain {
    fn act(&mut self, _: &Observation, seed: u64, _: bool) -> Result<Vec<f32>, BrainError> {
        Ok(random_action(&self.spec, seed))
    }

    fn judge(&mut self, _: &Observation) -> Result<Option<f32>, BrainError> {
        Ok(None)
    }

    fn version(&self) -> u64 {
        0
    }

    fn updates(&self) -> u64 {
        0
    }
}
