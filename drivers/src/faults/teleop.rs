//! A device in a person's hand that goes away when a plan says so.

use hilt_protocol::ActionSource;

use super::{FaultKind, FaultPlan};
use crate::{Intent, Teleop, TeleopError, TeleopEvent};

/// A teleop device with the faults of a plan: [`FaultKind::TeleopGone`].
#[derive(Debug)]
pub struct FaultyTeleop<T, N> {
    inner: T,
    plan: FaultPlan,
    origin_ns: u64,
    now_ns: N,
}

impl<T: Teleop, N: Fn() -> u64> FaultyTeleop<T, N> {
    /// `inner` with the faults of `plan`, whose times count from `origin_ns`; before that there
    /// are none. `now_ns` tells the time on the same clock, that of the run.
    pub fn new(inner: T, plan: FaultPlan, origin_ns: u64, now_ns: N) -> Self {
        Self {
            inner,
            plan,
            origin_ns,
            now_ns,
        }
    }

    fn check(&self) -> Result<(), TeleopError> {
        let since_ns = (self.now_ns)().checked_sub(self.origin_ns);
        let gone = |since_ns| self.plan.active(FaultKind::TeleopGone, 0, since_ns);
        match since_ns.and_then(gone) {
            Some(_) => Err(TeleopError("the device is gone (injected)".to_owned())),
            None => Ok(()),
        }
    }
}

impl<T: Teleop, N: Fn() -> u64> Teleop for FaultyTeleop<T, N> {
    fn source(&self) -> ActionSource {
        self.inner.source()
    }

    fn begin_episode(&mut self, seed: u64) {
        self.inner.begin_episode(seed);
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        self.check()?;
        self.inner.intent(now_ns)
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        self.check()?;
        self.inner.event()
    }

    fn verdict(&mut self) -> Option<bool> {
        self.check().ok().and_then(|()| self.inner.verdict())
    }
}

#[cfg(test)]
mod tests {
    use hilt_realtime::{Clock, Fake};

    use super::*;
    use crate::faults::FaultSpec;

    /// Always wants to stand still, and says one thing.
    struct Hand(Option<TeleopEvent>);

    impl Teleop for Hand {
        fn source(&self) -> ActionSource {
            ActionSource::Human
        }

        fn begin_episode(&mut self, _: u64) {}

        fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
            Ok(Some(Intent::still(now_ns)))
        }

        fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
            Ok(self.0.take())
        }

        fn verdict(&mut self) -> Option<bool> {
            Some(true)
        }
    }

    #[test]
    fn what_was_said_before_the_device_went_is_there_when_it_is_back() {
        let plan = FaultPlan {
            seed: 0,
            faults: vec![FaultSpec {
                kind: FaultKind::TeleopGone,
                from_s: 1.0,
                for_s: 1.0,
                index: 0,
                servo: None,
                magnitude: None,
            }],
        };
        let clock = Fake::at(500);
        let now_ns = {
            let clock = clock.clone();
            move || clock.now_ns()
        };
        let hand = Box::new(Hand(Some(TeleopEvent::Success))) as Box<dyn Teleop>;
        let mut teleop = FaultyTeleop::new(hand, plan, 500, now_ns);
        assert_eq!(teleop.intent(7), Ok(Some(Intent::still(7))));
        clock.advance_ns(1_000_000_000);
        assert!(teleop.intent(7).is_err());
        assert!(teleop.event().is_err());
        assert_eq!(teleop.verdict(), None);
        clock.advance_ns(1_000_000_000);
        assert_eq!(teleop.event(), Ok(Some(TeleopEvent::Success)));
        assert_eq!(teleop.event(), Ok(None));
        assert_eq!(teleop.verdict(), Some(true));
    }
}
