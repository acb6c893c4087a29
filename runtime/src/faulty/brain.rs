//! A policy that answers nonsense, or late, when a plan says so.

use hilt_drivers::faults::FaultKind;
use hilt_protocol::Observation;
use hilt_realtime::Clock;

use super::Faults;
use crate::{
    brain::{Brain, BrainError},
    tick::Stage,
};

/// A brain with the faults of a plan: [`FaultKind::PolicyNan`], [`FaultKind::PolicyLate`],
/// [`FaultKind::PolicyOutOfBounds`]; and [`FaultKind::LearnerGone`], while which it takes no new
/// weights.
#[derive(Clone, Debug)]
pub struct FaultyBrain<B, C> {
    inner: B,
    faults: Faults<C>,
}

impl<B, C> FaultyBrain<B, C> {
    /// `inner` with these faults.
    pub fn new(inner: B, faults: Faults<C>) -> Self {
        Self { inner, faults }
    }
}

impl<B: Brain, C: Clock + Clone> Brain for FaultyBrain<B, C> {
    fn act(
        &mut self,
        observation: &Observation,
        seed: u64,
        explore: bool,
    ) -> Result<Vec<f32>, BrainError> {
        let mut action = self.inner.act(observation, seed, explore)?;
        let fault = |kind| self.faults.active(kind, 0);
        if let Some(wrong) = fault(FaultKind::PolicyOutOfBounds) {
            for value in &mut action {
                *value = (wrong.magnitude as f32).copysign(*value);
            }
        }
        if fault(FaultKind::PolicyNan).is_some() {
            action.fill(f32::NAN);
        }
        if let Some(late) = fault(FaultKind::PolicyLate) {
            let clock = &self.faults.clock;
            clock.sleep_until_ns(clock.now_ns() + (late.magnitude * 1e9) as u64);
        }
        Ok(action)
    }

    fn judge(&mut self, observation: &Observation) -> Result<Option<f32>, BrainError> {
        self.inner.judge(observation)
    }

    fn version(&self) -> u64 {
        self.inner.version()
    }

    fn updates(&self) -> u64 {
        self.inner.updates()
    }

    fn swaps(&self) -> u64 {
        self.inner.swaps()
    }

    fn refresh(&mut self) {
        if self.faults.active(FaultKind::LearnerGone, 0).is_none() {
            self.inner.refresh();
        }
    }

    fn stages(&mut self) -> Vec<(Stage, u64)> {
        self.inner.stages()
    }
}
