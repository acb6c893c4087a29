//! Faults on purpose: a rig's `[faults]` table, applied to whatever the robot process is made of.
//!
//! [`Faults`] is the plan with the run's clock and its begin, and decorates: wires, cameras and the
//! teleop device by [`hilt_drivers::faults`]; here the policy ([`FaultyBrain`]), the learner
//! ([`FaultyLearner`]), the run's log ([`FaultyJournal`]) and the control loop's clock
//! ([`FaultyClock`]). Everything is decorated always: an empty plan changes nothing, and the code
//! that meets the faults is the code that runs without them.

mod brain;
mod clock;
mod journal;
mod learner;

use hilt_drivers::{
    Camera, Teleop,
    bus::Wire,
    faults::{self, FaultKind, FaultPlan, FaultyCamera, FaultyTeleop, FaultyWire},
};
use hilt_realtime::Clock;

pub use brain::FaultyBrain;
pub use clock::FaultyClock;
pub use journal::FaultyJournal;
pub use learner::FaultyLearner;

/// The faults of a run: a plan, and the moment on the run's clock from which its times count.
#[derive(Clone, Debug)]
pub struct Faults<C> {
    plan: FaultPlan,
    origin_ns: u64,
    clock: C,
}

impl<C: Clock + Clone> Faults<C> {
    /// Those of `plan`, whose times count from now. `None`: there are none.
    pub fn begin(plan: Option<FaultPlan>, clock: C) -> Self {
        Self {
            plan: plan.unwrap_or_default(),
            origin_ns: clock.now_ns(),
            clock,
        }
    }

    /// The fault of this kind that is on now at device `index`. Does not allocate.
    pub fn active(&self, kind: FaultKind, index: usize) -> Option<faults::Fault> {
        self.active_at(kind, index, self.clock.now_ns())
    }

    /// As [`Faults::active`], at `now_ns` on the run's clock.
    fn active_at(&self, kind: FaultKind, index: usize, now_ns: u64) -> Option<faults::Fault> {
        let since_ns = now_ns.checked_sub(self.origin_ns)?;
        self.plan.active(kind, index, since_ns)
    }

    /// What there is to say of them when a run begins; `None` where there are none.
    pub fn words(&self) -> Option<String> {
        let all = &self.plan.faults;
        let first_s = all.iter().map(|fault| fault.from_s).reduce(f64::min)?;
        Some(format!(
            "this rig breaks on purpose: {} faults are in its [faults] table, the first {first_s} s \
             from now",
            all.len()
        ))
    }

    /// The wire of arm number `arm`, which goes by the run's clock.
    pub fn wire<W: Wire>(&self, wire: W, arm: usize) -> FaultyWire<W> {
        FaultyWire::new(wire, self.plan.clone(), arm, self.origin_ns)
    }

    /// Camera number `index`, whose frames are stamped by the run's clock.
    pub fn camera<T: Camera>(
        &self,
        camera: T,
        index: usize,
    ) -> FaultyCamera<T, impl Fn() -> u64 + use<T, C>> {
        let clock = self.clock.clone();
        let now_ns = move || clock.now_ns();
        FaultyCamera::new(camera, self.plan.clone(), index, self.origin_ns, now_ns)
    }

    /// What a person takes over with.
    pub fn teleop<T: Teleop>(&self, teleop: T) -> FaultyTeleop<T, impl Fn() -> u64 + use<T, C>> {
        let clock = self.clock.clone();
        let now_ns = move || clock.now_ns();
        FaultyTeleop::new(teleop, self.plan.clone(), self.origin_ns, now_ns)
    }

    /// The clock that the control loop shall see.
    pub fn clock(&self) -> FaultyClock<C> {
        FaultyClock::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use hilt_drivers::faults::FaultSpec;
    use hilt_protocol::{Observation, Progress, Record};
    use hilt_realtime::Fake;
    use hilt_sim::Truth;

    use super::*;
    use crate::{
        brain::{Brain, BrainError},
        learner_side::Learner,
        run_log::{Journal, JournalError},
    };

    const SECOND_NS: u64 = 1_000_000_000;

    /// One fault from 1 s to 2 s; the clock stands at its origin, which is not zero.
    fn faults(kind: FaultKind, magnitude: Option<f64>) -> (Fake, Faults<Fake>) {
        let clock = Fake::at(7 * SECOND_NS);
        let fault = FaultSpec {
            kind,
            from_s: 1.0,
            for_s: 1.0,
            index: 0,
            servo: None,
            magnitude,
        };
        let plan = FaultPlan {
            seed: 0,
            faults: vec![fault],
        };
        let faults = Faults::begin(Some(plan), clock.clone());
        (clock, faults)
    }

    fn observation() -> Observation {
        Observation {
            captured_ns: 0,
            proprio: vec![],
            images: vec![],
        }
    }

    /// Always says the same; counts what it took.
    #[derive(Clone, Default)]
    struct Steady(Rc<Cell<u32>>);

    impl Brain for Steady {
        fn act(&mut self, _: &Observation, _: u64, _: bool) -> Result<Vec<f32>, BrainError> {
            Ok(vec![0.5, -0.25])
        }

        fn judge(&mut self, _: &Observation) -> Result<Option<f32>, BrainError> {
            Ok(Some(0.125))
        }

        fn version(&self) -> u64 {
            3
        }

        fn updates(&self) -> u64 {
            4
        }

        fn swaps(&self) -> u64 {
            5
        }

        fn refresh(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    fn act<C: Clock + Clone>(brain: &mut FaultyBrain<Steady, C>) -> Vec<f32> {
        brain.act(&observation(), 0, true).unwrap()
    }

    #[test]
    fn a_policy_says_nan_while_the_plan_says_so_and_judges_as_before() {
        let (clock, faults) = faults(FaultKind::PolicyNan, None);
        let mut brain = FaultyBrain::new(Steady::default(), faults);
        assert_eq!(act(&mut brain), [0.5, -0.25]);
        clock.advance_ns(SECOND_NS);
        assert!(act(&mut brain).iter().all(|v| v.is_nan()));
        assert_eq!(brain.judge(&observation()).unwrap(), Some(0.125));
        assert_eq!((brain.version(), brain.updates(), brain.swaps()), (3, 4, 5));
        clock.advance_ns(SECOND_NS);
        assert_eq!(act(&mut brain), [0.5, -0.25]);
    }

    #[test]
    fn a_policy_out_of_bounds_keeps_its_signs() {
        let (clock, faults) = faults(FaultKind::PolicyOutOfBounds, Some(7.0));
        clock.advance_ns(SECOND_NS);
        let mut brain = FaultyBrain::new(Steady::default(), faults);
        assert_eq!(act(&mut brain), [7.0, -7.0]);
    }

    #[test]
    fn a_late_policy_takes_the_runs_time() {
        let (clock, faults) = faults(FaultKind::PolicyLate, Some(0.25));
        clock.advance_ns(SECOND_NS);
        let mut brain = FaultyBrain::new(Steady::default(), faults);
        assert_eq!(act(&mut brain), [0.5, -0.25]);
        assert_eq!(clock.now_ns(), 8 * SECOND_NS + SECOND_NS / 4);
    }

    /// Is there, and finished.
    struct There;

    impl Learner for There {
        fn is_alive(&self) -> bool {
            true
        }

        fn progress(&self) -> Option<Progress> {
            Some(Progress {
                learner_run: 1,
                updates: 2,
                entries: 3,
                allowed_steps: 4,
                finished: true,
            })
        }

        fn wait_progress(&self, _: std::time::Duration, _: &dyn Fn(&Progress) -> bool) {}
    }

    #[test]
    fn a_learner_that_is_gone_says_nothing_and_its_snapshots_are_not_taken() {
        let (clock, faults) = faults(FaultKind::LearnerGone, None);
        let inner = Steady::default();
        let mut brain = FaultyBrain::new(inner.clone(), faults.clone());
        let learner = FaultyLearner::new(Box::new(There), faults);
        for (there, taken) in [(true, 1), (false, 1), (true, 2)] {
            brain.refresh();
            assert_eq!(inner.0.get(), taken);
            assert_eq!(learner.is_alive(), there);
            assert_eq!(learner.progress().is_some(), there);
            clock.advance_ns(SECOND_NS);
        }
    }

    struct Kept(u32);

    impl Journal for Kept {
        fn append(&mut self, _: Record, _: Option<Truth>) -> Result<(), JournalError> {
            self.0 += 1;
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_once_as_the_log_tells_it_and_ends_the_log() {
        let (clock, faults) = faults(FaultKind::DiskFull, None);
        let mut kept = Kept(0);
        let mut journal = FaultyJournal::new(&mut kept, faults);
        let mut append = || journal.append(Record::Reset(observation()), None);
        append().unwrap();
        clock.advance_ns(SECOND_NS);
        let error = append().unwrap_err();
        assert!(matches!(error, JournalError::Write(_)));
        let words = error.to_string();
        assert!(
            words.contains("space") && words.contains("--out"),
            "{words}"
        );
        clock.advance_ns(SECOND_NS);
        assert!(matches!(append(), Err(JournalError::Ended)));
        assert_eq!(kept.0, 1);
    }

    #[test]
    fn a_clock_jumps_there_and_back_and_sleeps_by_what_it_shows() {
        for (magnitude, shown_s) in [(None, 9), (Some(-3.0), 5)] {
            let (real, faults) = faults(FaultKind::ClockJump, magnitude);
            let clock = faults.clock();
            assert_eq!(clock.now_ns(), real.now_ns());
            clock.sleep_until_ns(real.now_ns() + SECOND_NS);
            assert_eq!(real.now_ns(), 8 * SECOND_NS);
            assert_eq!(clock.now_ns(), shown_s * SECOND_NS);
            clock.sleep_until_ns(shown_s * SECOND_NS + SECOND_NS / 2);
            assert_eq!(real.now_ns(), 8 * SECOND_NS + SECOND_NS / 2);
            real.advance_ns(SECOND_NS);
            assert_eq!(clock.now_ns(), real.now_ns());
        }
    }

    #[test]
    fn a_run_says_that_it_breaks_on_purpose() {
        let (clock, faults) = faults(FaultKind::ClockJump, None);
        let words = faults.words().unwrap();
        assert!(words.contains("1 faults") && words.contains("first 1 s"));
        assert_eq!(Faults::begin(None, clock).words(), None);
    }
}
