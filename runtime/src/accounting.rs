//! The books of a run's loops: how every tick ended, and what every stage took of its budget.
//!
//! ```text
//! control thread ── one record a tick ──▶ bounded queue ─┐
//! policy thread ─── its stage times ────▶ bounded queue ─┴─▶ Accounts ──▶ Timing
//! ```
//!
//! The threads that have deadlines only measure. They hand what they measured to a thread of normal
//! priority, which alone owns the [`Accounts`]; when a queue is full they lose the record, and count
//! that. The control thread also counts its outcomes itself, so that [`Accounts::check`] can tell
//! whether every tick is in the books.

use hdrhistogram::Histogram;

use crate::{
    rig::ClockKind,
    status::{OutcomeTicks, StageFigures, Timing},
    tick::{Outcome, OutcomeCounts, Stage, TickTimes},
};

/// Stages of the control thread: each is measured in every tick that runs.
pub const CONTROL_STAGES: [Stage; 4] = [
    Stage::Wake,
    Stage::StateRead,
    Stage::Safety,
    Stage::CommandWrite,
];

/// Stages of the policy thread.
pub const POLICY_STAGES: [Stage; 4] = [Stage::FrameAge, Stage::Encode, Stage::Head, Stage::Publish];

/// Older frames are a fault, so that more than this is never acted on.
const FRAME_AGE_NS: u64 = 100_000_000;

/// What each stage may take, nanoseconds. A longer one is counted, and no fault by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets([u64; Stage::ALL.len()]);

impl Budgets {
    /// Shares of the two periods.
    ///
    /// Of the control period: a tenth for waking up (100 µs at 1 kHz, where ros2_control warns as
    /// well), a half for reading the arms, a tenth for deciding, a quarter for writing. Reading and
    /// writing six bus servos at 1 Mbaud take 740 and 260 µs on the wire. The last twentieth is for
    /// handing the tick's record on and going to sleep. Arms that do not answer are waited for a little
    /// longer than their budget (`control::realtime`), and that is counted.
    ///
    /// Of the policy period: six tenths for the encoder, two for the head, one for making the
    /// action a command. Frames may be 100 ms old, whatever the period is.
    pub fn new(control_period_ns: u64, policy_period_ns: u64) -> Self {
        let mut budgets = Self([0; Stage::ALL.len()]);
        for stage in Stage::ALL {
            budgets.0[stage as usize] = match stage {
                Stage::Wake | Stage::Safety => control_period_ns / 10,
                Stage::StateRead => control_period_ns / 2,
                Stage::CommandWrite => control_period_ns / 4,
                Stage::FrameAge => FRAME_AGE_NS,
                Stage::Encode => policy_period_ns / 10 * 6,
                Stage::Head => policy_period_ns / 10 * 2,
                Stage::Publish => policy_period_ns / 10,
            };
        }
        budgets
    }

    /// The same with another budget for one stage.
    pub fn with(mut self, stage: Stage, budget_ns: u64) -> Self {
        self.0[stage as usize] = budget_ns;
        self
    }

    /// What a stage may take, nanoseconds.
    pub fn of(&self, stage: Stage) -> u64 {
        self.0[stage as usize]
    }
}

/// Durations above this are counted as this; the maximum is kept exactly.
const HISTOGRAM_MAX_NS: u64 = 10_000_000_000;
const HISTOGRAM_DIGITS: u8 = 3;

/// One stage's account.
#[derive(Clone, Debug)]
struct Account {
    budget_ns: u64,
    over_budget: u64,
    max_ns: u64,
    /// Holds the count as well. It never grows, and takes any value.
    durations_ns: Histogram<u64>,
}

impl Account {
    fn new(budget_ns: u64) -> Self {
        let Ok(durations_ns) = Histogram::new_with_max(HISTOGRAM_MAX_NS, HISTOGRAM_DIGITS) else {
            unreachable!("bounds and digits are constants that hdrhistogram takes")
        };
        Self {
            budget_ns,
            over_budget: 0,
            max_ns: 0,
            durations_ns,
        }
    }

    fn add(&mut self, duration_ns: u64) {
        self.over_budget += u64::from(duration_ns > self.budget_ns);
        self.max_ns = self.max_ns.max(duration_ns);
        self.durations_ns.saturating_record(duration_ns);
    }

    fn figures(&self, stage: Stage) -> StageFigures {
        let us = |ns: u64| ns as f64 / 1000.0;
        let measured = !self.durations_ns.is_empty();
        // The histogram answers with the upper end of a bin, which may lie above the maximum.
        let quantile = |q| us(self.durations_ns.value_at_quantile(q).min(self.max_ns));
        StageFigures {
            stage,
            budget_us: us(self.budget_ns),
            count: self.durations_ns.len(),
            over_budget: self.over_budget,
            p50_us: measured.then(|| quantile(0.5)),
            p99_us: measured.then(|| quantile(0.99)),
            p999_us: measured.then(|| quantile(0.999)),
            max_us: measured.then(|| us(self.max_ns)),
        }
    }
}

/// The books do not balance: a mistake in hilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbalanced {
    /// A tick is in no account, or in two.
    #[error("{accounted} ticks are in the accounts and {lost} were lost, of {ticks} counted")]
    Ticks {
        /// Ticks that the control thread counted.
        ticks: u64,
        /// Ticks in the accounts.
        accounted: u64,
        /// Ticks whose record was lost.
        lost: u64,
    },
    /// More ticks are booked under an outcome than there were.
    #[error("{accounted} ticks are booked as {}, of {counted} counted", outcome.name())]
    Outcome {
        /// Which.
        outcome: Outcome,
        /// Ticks that the control thread counted.
        counted: u64,
        /// Ticks in the accounts.
        accounted: u64,
    },
    /// A tick ran without one of its stages, or a stage was counted twice.
    #[error("the stage {} was measured {count} times in {ran} ticks", stage.name())]
    Stage {
        /// Which.
        stage: Stage,
        /// Its measurements.
        count: u64,
        /// Ticks in the accounts that ran.
        ran: u64,
    },
}

/// The books. Taking a tick costs well below a microsecond and allocates nothing.
#[derive(Clone, Debug)]
pub struct Accounts {
    stages: [Account; Stage::ALL.len()],
    outcomes: OutcomeCounts,
    lost_ticks: u64,
    lost_policy: u64,
}

impl Accounts {
    /// Empty books.
    pub fn new(budgets: Budgets) -> Self {
        Self {
            stages: Stage::ALL.map(|stage| Account::new(budgets.of(stage))),
            outcomes: OutcomeCounts::default(),
            lost_ticks: 0,
            lost_policy: 0,
        }
    }

    /// A tick ended. One that was missed has no times: `times` is then not looked at. A stage that
    /// ended before it began, as after a jump of the clock, counts as 0.
    pub fn tick(&mut self, outcome: Outcome, times: &TickTimes) {
        self.outcomes.add(outcome, 1);
        if outcome == Outcome::Missed {
            return;
        }
        let ends_ns = [
            times.due_ns,
            times.woke_ns,
            times.read_ns,
            times.decided_ns,
            times.written_ns,
        ];
        for (stage, ends_ns) in CONTROL_STAGES.into_iter().zip(ends_ns.windows(2)) {
            self.stages[stage as usize].add(ends_ns[1].saturating_sub(ends_ns[0]));
        }
    }

    /// `n` ticks were not run at all.
    pub fn missed(&mut self, n: u64) {
        self.outcomes.add(Outcome::Missed, n);
    }

    /// One of [`POLICY_STAGES`] took so long. The control thread's stages come with their ticks.
    pub fn policy(&mut self, stage: Stage, duration_ns: u64) {
        debug_assert!(POLICY_STAGES.contains(&stage), "{stage:?}");
        self.stages[stage as usize].add(duration_ns);
    }

    /// The queue had no room for the records of `n` ticks, run or missed.
    pub fn lost(&mut self, n: u64) {
        self.lost_ticks += n;
    }

    /// The queue had no room for `n` measurements of the policy.
    pub fn lost_policy(&mut self, n: u64) {
        self.lost_policy += n;
    }

    /// Ticks in the books, by outcome. Lost ones are not among them.
    pub fn outcomes(&self) -> &OutcomeCounts {
        &self.outcomes
    }

    /// Whether every tick is in the books exactly once, with all of its stages. `counted` is the
    /// control thread's own count after its last tick, when all its records have been taken.
    pub fn check(&self, counted: &OutcomeCounts) -> Result<(), Unbalanced> {
        let (ticks, accounted) = (counted.total(), self.outcomes.total());
        if ticks != accounted + self.lost_ticks {
            let lost = self.lost_ticks;
            return Err(Unbalanced::Ticks {
                ticks,
                accounted,
                lost,
            });
        }
        for outcome in Outcome::ALL {
            let (counted, accounted) = (counted.of(outcome), self.outcomes.of(outcome));
            if accounted > counted {
                return Err(Unbalanced::Outcome {
                    outcome,
                    counted,
                    accounted,
                });
            }
        }
        let ran = accounted - self.outcomes.of(Outcome::Missed);
        for stage in CONTROL_STAGES {
            let count = self.stages[stage as usize].durations_ns.len();
            if count != ran {
                return Err(Unbalanced::Stage { stage, count, ran });
            }
        }
        Ok(())
    }

    /// The figures so far. `outcomes` are the control thread's own counts where they are at hand,
    /// else [`Accounts::outcomes`]. By a simulated clock nothing is known of deadlines: late and
    /// missed ticks, and all stages, are then not measured.
    pub fn timing(&self, clock: ClockKind, outcomes: &OutcomeCounts) -> Timing {
        let measured = clock == ClockKind::Monotonic;
        let stages = Stage::ALL.map(|stage| self.stages[stage as usize].figures(stage));
        Timing {
            clock,
            ticks: outcomes.total(),
            outcomes: Outcome::ALL
                .map(|outcome| {
                    let timed = matches!(outcome, Outcome::Late | Outcome::Missed);
                    OutcomeTicks {
                        outcome,
                        ticks: (measured || !timed).then(|| outcomes.of(outcome)),
                    }
                })
                .to_vec(),
            stages: measured.then(|| stages.to_vec()),
            lost_ticks: self.lost_ticks,
            lost_policy: self.lost_policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTROL_NS: u64 = 2_000_000;
    const POLICY_NS: u64 = 100_000_000;

    fn accounts() -> Accounts {
        Accounts::new(Budgets::new(CONTROL_NS, POLICY_NS))
    }

    /// A tick whose control stages took so long, in their order.
    fn times(lasted_ns: [u64; 4]) -> TickTimes {
        let [wake, read, safety, write] = lasted_ns;
        let due_ns = 77_000;
        TickTimes {
            due_ns,
            woke_ns: due_ns + wake,
            read_ns: due_ns + wake + read,
            decided_ns: due_ns + wake + read + safety,
            written_ns: due_ns + wake + read + safety + write,
        }
    }

    fn figures(accounts: &Accounts, stage: Stage) -> StageFigures {
        let timing = accounts.timing(ClockKind::Monotonic, accounts.outcomes());
        timing.stages.unwrap()[stage as usize]
    }

    fn ticks(accounts: &Accounts, outcome: Outcome) -> Option<u64> {
        let timing = accounts.timing(ClockKind::Monotonic, accounts.outcomes());
        timing.outcomes[outcome as usize].ticks
    }

    #[test]
    fn the_stages_are_the_control_threads_and_the_policys() {
        let both = [CONTROL_STAGES, POLICY_STAGES].concat();
        assert_eq!(both, Stage::ALL);
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn the_budgets_of_a_thread_fit_into_its_period() {
        let budgets = Budgets::new(CONTROL_NS, POLICY_NS);
        let control: u64 = CONTROL_STAGES.map(|stage| budgets.of(stage)).iter().sum();
        assert!(control < CONTROL_NS);
        let work = [Stage::Encode, Stage::Head, Stage::Publish];
        let policy: u64 = work.map(|stage| budgets.of(stage)).iter().sum();
        assert!(policy < POLICY_NS);
        assert!(Stage::ALL.iter().all(|&stage| budgets.of(stage) > 0));
        // Six bus servos at 1 Mbaud and 500 Hz.
        assert!(budgets.of(Stage::StateRead) > 620_000);
        assert!(budgets.of(Stage::CommandWrite) > 260_000);
        let other = budgets.with(Stage::Head, 7);
        assert_eq!(other.of(Stage::Head), 7);
        assert_eq!(other.of(Stage::Encode), budgets.of(Stage::Encode));
    }

    #[test]
    fn every_outcome_has_a_counter_that_moves_alone() {
        for outcome in Outcome::ALL {
            let mut accounts = accounts();
            accounts.tick(outcome, &times([1; 4]));
            for other in Outcome::ALL {
                let expected = u64::from(other == outcome);
                assert_eq!(ticks(&accounts, other), Some(expected), "{outcome:?}");
            }
            let ran = u64::from(outcome != Outcome::Missed);
            for stage in CONTROL_STAGES {
                assert_eq!(figures(&accounts, stage).count, ran, "{outcome:?}");
            }
        }
        let mut accounts = accounts();
        accounts.missed(5);
        assert_eq!(ticks(&accounts, Outcome::Missed), Some(5));
        assert_eq!(figures(&accounts, Stage::Wake).count, 0);
    }

    #[test]
    fn every_control_stage_is_measured_and_counted_over_its_budget_alone() {
        let budgets = Budgets::new(CONTROL_NS, POLICY_NS);
        for (index, slow) in CONTROL_STAGES.into_iter().enumerate() {
            let mut accounts = accounts();
            let mut lasted_ns = CONTROL_STAGES.map(|stage| budgets.of(stage));
            // All of the budget is within it.
            accounts.tick(Outcome::OnTime, &times(lasted_ns));
            lasted_ns[index] += 1;
            accounts.tick(Outcome::OnTime, &times(lasted_ns));
            for (stage, lasted_ns) in CONTROL_STAGES.into_iter().zip(lasted_ns) {
                let figures = figures(&accounts, stage);
                assert_eq!(figures.count, 2);
                assert_eq!(figures.over_budget, u64::from(stage == slow), "{stage:?}");
                assert_eq!(figures.max_us, Some(lasted_ns as f64 / 1000.0));
            }
            for stage in POLICY_STAGES {
                assert_eq!(figures(&accounts, stage).count, 0);
            }
        }
    }

    #[test]
    fn every_policy_stage_is_measured_and_counted_over_its_budget_alone() {
        let budgets = Budgets::new(CONTROL_NS, POLICY_NS);
        for stage in POLICY_STAGES {
            let mut accounts = accounts();
            accounts.policy(stage, budgets.of(stage));
            accounts.policy(stage, budgets.of(stage) + 1);
            for other in Stage::ALL {
                let figures = figures(&accounts, other);
                let (count, over) = if other == stage { (2, 1) } else { (0, 0) };
                assert_eq!((figures.count, figures.over_budget), (count, over));
                assert_eq!(figures.max_us.is_some(), count > 0);
                assert_eq!(figures.p50_us.is_some(), count > 0);
            }
        }
    }

    #[test]
    fn quantiles_are_near_the_true_ones_and_never_above_the_maximum() {
        let mut accounts = accounts();
        for ns in (1..=100_000).rev() {
            accounts.policy(Stage::Head, ns);
        }
        let head = figures(&accounts, Stage::Head);
        for (value, expected_us) in [
            (head.p50_us, 50.0),
            (head.p99_us, 99.0),
            (head.p999_us, 99.9),
        ] {
            let error = (value.unwrap() - expected_us).abs() / expected_us;
            assert!(error <= 1e-3, "{value:?} for {expected_us}");
        }
        assert_eq!(head.max_us, Some(100.0));
        // Longer than the histogram reaches: the exact maximum is kept.
        accounts.policy(Stage::Encode, u64::MAX);
        let encode = figures(&accounts, Stage::Encode);
        assert_eq!(encode.max_us, Some(u64::MAX as f64 / 1000.0));
        assert!(encode.p50_us >= Some(HISTOGRAM_MAX_NS as f64 / 1000.0));
        accounts.policy(Stage::Publish, 0);
        assert_eq!(figures(&accounts, Stage::Publish).p999_us, Some(0.0));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_make_a_stage_of_centuries() {
        let mut accounts = accounts();
        let jumped = TickTimes {
            woke_ns: 5,
            ..times([10; 4])
        };
        accounts.tick(Outcome::OnTime, &jumped);
        assert_eq!(figures(&accounts, Stage::Wake).max_us, Some(0.0));
    }

    #[test]
    fn in_lockstep_nothing_is_said_of_deadlines() {
        let mut accounts = accounts();
        accounts.tick(Outcome::OnTime, &times([1; 4]));
        accounts.tick(Outcome::Held, &times([1; 4]));
        let timing = accounts.timing(ClockKind::Simulated, accounts.outcomes());
        assert_eq!(timing.stages, None);
        assert_eq!(timing.ticks, 2);
        for row in &timing.outcomes {
            let timed = matches!(row.outcome, Outcome::Late | Outcome::Missed);
            assert_eq!(row.ticks.is_none(), timed, "{row:?}");
        }
        let json = serde_json::to_value(&timing).unwrap();
        assert!(json.get("stages").is_none());
    }

    #[test]
    fn books_that_do_not_balance_are_refused() {
        let mut accounts = accounts();
        let mut counted = OutcomeCounts::default();
        counted.add(Outcome::OnTime, 2);
        accounts.tick(Outcome::OnTime, &times([1; 4]));
        assert_eq!(
            accounts.check(&counted),
            Err(Unbalanced::Ticks {
                ticks: 2,
                accounted: 1,
                lost: 0
            })
        );
        accounts.lost(1);
        assert_eq!(accounts.check(&counted), Ok(()));
        let mut other = OutcomeCounts::default();
        other.add(Outcome::Held, 2);
        let error = accounts.check(&other).unwrap_err();
        assert!(
            error.to_string().contains("1 ticks are booked as on time"),
            "{error}"
        );
        accounts.stages[Stage::Safety as usize].add(1);
        let error = accounts.check(&counted).unwrap_err();
        assert!(error.to_string().contains("safety"), "{error}");
    }

    /// What the threads may hand over.
    #[derive(Clone, Debug)]
    enum Call {
        Tick(Outcome, TickTimes),
        Missed(u64),
        Policy(Stage, u64),
        Lost(Outcome, u64),
        LostPolicy(u64),
    }

    fn call() -> impl Strategy<Value = Call> {
        let outcome = prop::sample::select(Outcome::ALL.to_vec());
        let instant = prop_oneof![0..10_000_000u64, any::<u64>()];
        let tick = (outcome.clone(), prop::array::uniform5(instant.clone())).prop_map(
            |(outcome, [due_ns, woke_ns, read_ns, decided_ns, written_ns])| {
                let times = TickTimes {
                    due_ns,
                    woke_ns,
                    read_ns,
                    decided_ns,
                    written_ns,
                };
                Call::Tick(outcome, times)
            },
        );
        let stage = prop::sample::select(POLICY_STAGES.to_vec());
        prop_oneof![
            4 => tick,
            1 => (0..1000u64).prop_map(Call::Missed),
            2 => (stage, instant).prop_map(|(stage, ns)| Call::Policy(stage, ns)),
            1 => (outcome, 0..1000u64).prop_map(|(outcome, n)| Call::Lost(outcome, n)),
            1 => (0..1000u64).prop_map(Call::LostPolicy),
        ]
    }

    proptest! {
        #[test]
        fn the_books_balance_after_any_calls(calls in prop::collection::vec(call(), 0..200)) {
            let mut accounts = accounts();
            let mut counted = OutcomeCounts::default();
            let (mut measured, mut lost, mut lost_policy) = ([0; Stage::ALL.len()], 0, 0);
            for call in calls {
                match call {
                    Call::Tick(outcome, times) => {
                        counted.add(outcome, 1);
                        accounts.tick(outcome, &times);
                    }
                    Call::Missed(n) => {
                        counted.add(Outcome::Missed, n);
                        accounts.missed(n);
                    }
                    Call::Policy(stage, ns) => {
                        measured[stage as usize] += 1;
                        accounts.policy(stage, ns);
                    }
                    Call::Lost(outcome, n) => {
                        counted.add(outcome, n);
                        lost += n;
                        accounts.lost(n);
                    }
                    Call::LostPolicy(n) => {
                        lost_policy += n;
                        accounts.lost_policy(n);
                    }
                }
                prop_assert_eq!(accounts.check(&counted), Ok(()));
            }
            let ran = accounts.outcomes().total() - accounts.outcomes().of(Outcome::Missed);
            for stage in CONTROL_STAGES {
                measured[stage as usize] = ran;
            }
            let timing = accounts.timing(ClockKind::Monotonic, &counted);
            let sum: u64 = timing.outcomes.iter().filter_map(|row| row.ticks).sum();
            prop_assert_eq!((sum, timing.ticks), (counted.total(), counted.total()));
            prop_assert_eq!((timing.lost_ticks, timing.lost_policy), (lost, lost_policy));
            for (row, count) in timing.stages.unwrap().into_iter().zip(measured) {
                prop_assert_eq!(row.count, count);
                prop_assert!(row.over_budget <= row.count);
                prop_assert_eq!(row.over_budget > 0, row.max_us > Some(row.budget_us));
                prop_assert!(row.p50_us <= row.p99_us && row.p99_us <= row.p999_us);
                prop_assert!(row.p999_us <= row.max_us);
            }
        }
    }
}
