//! A learner that cannot be reached when a plan says so.

use std::time::Duration;

use hilt_drivers::faults::FaultKind;
use hilt_protocol::Progress;
use hilt_realtime::Clock;

use super::Faults;
use crate::learner_side::Learner;

/// A learner with the faults of a plan: [`FaultKind::LearnerGone`]. What it has sent before is kept
/// from the actor too; what the actor sends goes on its way.
pub struct FaultyLearner<C> {
    inner: Box<dyn Learner>,
    faults: Faults<C>,
}

impl<C: Clock + Clone> FaultyLearner<C> {
    /// `inner` with these faults.
    pub fn new(inner: Box<dyn Learner>, faults: Faults<C>) -> Self {
        Self { inner, faults }
    }

    fn is_gone(&self) -> bool {
        self.faults.active(FaultKind::LearnerGone, 0).is_some()
    }
}

impl<C: Clock + Clone> Learner for FaultyLearner<C> {
    fn is_alive(&self) -> bool {
        !self.is_gone() && self.inner.is_alive()
    }

    fn progress(&self) -> Option<Progress> {
        self.inner.progress().filter(|_| !self.is_gone())
    }

    fn wait_progress(&self, timeout: Duration, wanted: &dyn Fn(&Progress) -> bool) {
        self.inner.wait_progress(timeout, wanted);
    }
}
