//! What is asked of a run.

use hilt_drivers::{
    bus::sts3215::counts_from_radians,
    faults::{FaultKind as Strike, FaultPlan, FaultSpec},
};
use hilt_realtime::Clock;
use hilt_runtime::{
    cell::CellError,
    control::{Answer, FaultKind, Mode, faults::Bound},
    rig::Rig,
    tick,
};

use crate::{
    Case, answer,
    script::{MS, Phase, Play, Times, first_fault, plan, play, spec},
    stage::{self, Goals, JOINTS, TICK_NS, Tick},
};

/// What holds at any time, whatever happens.
pub fn check_always(rig: &Rig, play: &Play) {
    let stage = &play.staged.stage;
    let config = rig.control(std::iter::empty());
    for tick in stage.ticks() {
        let (record, inputs) = (&tick.record, &tick.record.inputs);
        if record.mode == Mode::Running {
            let age_ns = |then_ns: u64| inputs.now_ns.saturating_sub(then_ns);
            let frames = &inputs.frames_ns[..config.cameras];
            assert!(frames.iter().all(|ns| age_ns(*ns) <= config.ages.frame_ns));
            assert!(age_ns(inputs.order.written_ns) <= config.ages.policy_ns);
            for report in inputs.reports.iter().take(config.arms) {
                let state = report.unwrap().unwrap();
                assert!(age_ns(state.captured_ns) <= config.ages.state_ns);
            }
        }
    }
    for bus in &play.staged.buses {
        assert!(!bus.look(|bus| bus.went_limp()), "an arm was limp");
        assert!(bus.look(|bus| bus.servos().all(|servo| servo.torque)));
    }
    let tick_s = TICK_NS as f64 * 1e-9;
    let fastest = counts_from_radians(rig.limits.joint_velocity_rad_s * tick_s);
    let (chain, _) = stage::arm();
    let servos = stage::servos();
    for goals in stage.goals() {
        for pair in goals.windows(2) {
            for i in 0..JOINTS {
                let step = f64::from(pair[1].counts[i] - pair[0].counts[i]).abs();
                assert!(
                    step <= fastest + 1.01,
                    "joint {i} was sent {step} counts in a tick, at {} ns",
                    pair[1].at_ns
                );
                let limits = &chain.joints()[i];
                let (low, high) = (
                    servos.joints[i].goal(limits.lower),
                    servos.joints[i].goal(limits.upper),
                );
                assert!((low..=high).contains(&pair[1].counts[i]));
            }
        }
        // Over so many ticks that a count, which goals are rounded to, is little.
        const SPAN: usize = 4;
        let span_s = SPAN as f64 * tick_s;
        let hardest = rig
            .limits
            .joint_acceleration_rad_s2
            .unwrap_or(f64::INFINITY);
        let hardest = counts_from_radians(hardest * span_s * span_s);
        for walk in goals.windows(2 * SPAN + 1) {
            let (first, middle, last) = (&walk[0], &walk[SPAN], &walk[2 * SPAN]);
            if last.at_ns - first.at_ns > 2 * SPAN as u64 * TICK_NS + TICK_NS / 2 {
                continue;
            }
            for i in 0..JOINTS {
                let [a, b, c] = [first, middle, last].map(|goals| f64::from(goals.counts[i]));
                let change = (c - 2.0 * b + a).abs();
                assert!(
                    change <= hardest + 2.01,
                    "joint {i} changed its way by {change} counts, at {} ns",
                    middle.at_ns
                );
            }
        }
    }
}

/// A case in a phase of a rig.
pub struct Struck<'a> {
    pub rig: &'a Rig,
    pub case: Case,
    pub phase: Phase,
    pub from_ns: u64,
    pub for_ns: u64,
}

impl Struck<'_> {
    fn plan(&self, times: &Times) -> FaultPlan {
        let fault = FaultSpec {
            magnitude: self.case.magnitude,
            servo: self.case.servo,
            ..spec(self.case.kind, self.from_ns, self.for_ns, self.case.index)
        };
        let first =
            (self.phase == Phase::Fault).then(|| first_fault(self.case.kind, times.fault_ns));
        plan(first.into_iter().chain([fault]).collect())
    }

    /// The first tick that saw it, its place in the run.
    fn seen(&self, ticks: &[Tick], play: &Play) -> Option<usize> {
        let (case, from_ns) = (&self.case, self.from_ns);
        let is_it = |tick: &Tick| {
            let record = &tick.record;
            let about = match case.seen_as.row().answer {
                Answer::GoOn => record.inputs.order.fault,
                _ => record.fault,
            };
            about.is_some_and(|fault| {
                fault.kind == case.seen_as && usize::from(fault.place) == case.index
            })
        };
        let found = |tick: &Tick| match case.seen_as {
            FaultKind::PolicyLate => {
                tick.record.outcome == tick::Outcome::RefusedLate
                    && play
                        .steps_ns
                        .iter()
                        .any(|s| *s >= from_ns && *s < tick.at_ns)
            }
            _ => is_it(tick),
        };
        let mut all = (ticks.iter().enumerate()).filter(|(_, t)| t.at_ns >= from_ns && found(t));
        // The first command after the pause in which the rig is armed is late in any case.
        let late = case.seen_as == FaultKind::PolicyLate && self.phase == Phase::Armed;
        all.nth(usize::from(late)).map(|(place, _)| place)
    }

    /// When it must have been seen, by the table.
    fn bound_ns(&self, ticks: &[Tick], play: &Play) -> u64 {
        let config = self.rig.control(std::iter::empty());
        let after = |all: &[u64]| {
            let next = all.iter().find(|at_ns| **at_ns >= self.from_ns);
            *next.expect("the policy goes on")
        };
        match self.case.seen_as.row().bound {
            Bound::Ticks(_) if self.case.seen_as == FaultKind::PolicyLate => {
                let steps = 1 + u64::from(self.phase == Phase::Armed);
                after(&play.steps_ns) + steps * (150 * MS + 2 * TICK_NS)
            }
            Bound::Ticks(n) => {
                let first = ticks.iter().position(|t| t.at_ns >= self.from_ns).unwrap();
                ticks[first + n as usize - 1].at_ns
            }
            Bound::StateAge => self.from_ns + config.ages.state_ns + TICK_NS,
            Bound::Following => self.from_ns + config.ages.astray_ns + 2 * TICK_NS,
            Bound::FrameAge => self.from_ns + config.ages.frame_ns + TICK_NS,
            Bound::PolicyAge => after(&play.steps_ns) + config.ages.policy_ns + TICK_NS,
            // The tick after the one in which the order is given sees it.
            Bound::PolicyStep if self.case.seen_as == FaultKind::LogFailed => {
                after(&play.appends_ns) + 2 * TICK_NS
            }
            Bound::PolicyStep => after(&play.steps_ns) + 2 * TICK_NS,
        }
    }

    pub fn check(&self, times: &Times) {
        let mut play = play(self.rig, &self.plan(times), self.from_ns);
        let answer = answer(&self.case, self.phase);
        let ticks = play.staged.stage.ticks();
        let until_ns = self.from_ns + self.for_ns;
        if self.phase == Phase::Fault {
            return self.check_in_fault(&mut play);
        }
        if answer == Some(Answer::Stop) {
            // What only an episode can meet is met by the next one.
            if play.mode() != Mode::Fault && self.seen(&ticks, &play).is_none() {
                play.episode(6, None);
            }
            play.staged.stage.sleep_ns(300 * MS);
            self.check_refused(&mut play);
            play.staged
                .stage
                .sleep_ns(until_ns.saturating_sub(play.now_ns()) + 50 * MS);
            self.check_refused(&mut play);
        }
        let told = play.ended.last().map(|ended| format!("{ended:?}"));
        let freed_ns = play.now_ns();
        let so_far = play.staged.stage.ticks();
        let missed: u64 = so_far.iter().map(|tick| tick.record.missed).sum();
        self.recover(&mut play);
        match answer {
            None => {
                let calm = |tick: &Tick| tick.record.mode != Mode::Fault;
                assert!(ticks.iter().all(calm));
                if self.phase == Phase::ByHand {
                    assert!(told.unwrap().contains("Ok((18, 10))"));
                }
            }
            Some(answer) => self.check_answer(answer, &play, told, freed_ns),
        }
        if self.case.kind != Strike::ClockJump {
            assert_eq!(missed, 0, "ticks were missed");
        }
        check_always(self.rig, &play);
        let Play { staged, .. } = play;
        drop(staged.cell);
        for bus in &staged.buses {
            bus.look(|bus| {
                bus.advance(staged.stage.now_ns() + 1000 * MS);
                assert!(!bus.went_limp() && bus.servos().all(|servo| servo.torque));
            });
        }
    }

    /// Stopped arms follow nobody.
    fn check_refused(&self, play: &mut Play) {
        assert_eq!(play.mode(), Mode::Fault);
        // Before the first reset there are no steps.
        if self.phase != Phase::Idle {
            let error = play.step().unwrap_err();
            assert!(matches!(error, CellError::Stopped(_)), "{error}");
            assert_eq!(play.mode(), Mode::Fault);
        }
    }

    /// With the fault gone and, where it needs one, a reset, the rig works as before.
    fn recover(&self, play: &mut Play) {
        let last = play.staged.stage.last().unwrap().record;
        let stopped = last.fault.filter(|_| last.mode == Mode::Fault);
        let untold = stopped
            .map(|fault| CellError::Stopped(fault).to_string())
            .filter(|words| play.told.as_ref() != Some(words));
        for attempt in 0..10 {
            play.episode(6, None);
            let ended = play.ended.last().unwrap();
            match &ended.outcome {
                // A fault that stopped the arms while nobody asked is told first, and not reset before.
                _ if attempt == 0 && untold.is_some() => {
                    assert_eq!(ended.outcome.as_ref().err(), untold.as_ref());
                }
                Ok(outcome) => {
                    assert_eq!(*outcome, (6, 0));
                    let moved = play.staged.stage.goals().iter().all(|goals| {
                        let mut new = goals.iter().filter(|g| g.at_ns > play.last_ns);
                        let first = new.next().unwrap().counts;
                        new.any(|g| g.counts[..JOINTS] != first[..JOINTS])
                    });
                    assert!(moved, "after the reset nothing moves");
                    return;
                }
                Err(error) => assert!(ended.passing, "not the same again: {error}"),
            }
        }
        panic!("it never went on: {:?}", play.ended);
    }

    fn check_answer(&self, answer: Answer, play: &Play, told: Option<String>, freed_ns: u64) {
        let ticks = play.staged.stage.ticks();
        let seen = self.seen(&ticks, play);
        let Some(seen) = seen else {
            panic!("it was never seen; {:?}", play.ended);
        };
        let (at_ns, bound_ns) = (ticks[seen].at_ns, self.bound_ns(&ticks, play));
        if self.case.seen_as == FaultKind::FrameStale {
            assert!(at_ns <= self.from_ns + 150 * MS);
        }
        assert!(
            at_ns <= bound_ns,
            "seen {} ms after its bound",
            (at_ns - bound_ns) as f64 * 1e-6
        );
        let row = self.case.seen_as.row();
        match answer {
            Answer::GoOn => {
                let now = &play.ended.last().unwrap().outcome;
                assert_eq!(*now, Ok((6, 0)));
                if self.phase != Phase::Held {
                    assert_eq!(
                        told.unwrap(),
                        "Ended { outcome: Ok((18, 10)), passing: false }"
                    );
                }
                return;
            }
            Answer::Hold => {
                assert_eq!(ticks[seen].record.mode, Mode::Held);
                // Held arms are held by two; the episode tells the one that is left.
                let told = told.unwrap();
                let why = self.phase == Phase::Held || self.says(&told, row.words);
                assert!(why, "`{told}` does not say why");
            }
            Answer::Stop => {
                let mode = ticks[seen].record.mode;
                assert!(matches!(mode, Mode::Stopping | Mode::Fault));
                let fault = ticks[seen].record.fault.unwrap();
                let words = fault.to_string();
                if self.phase != Phase::Idle {
                    let told = told.unwrap();
                    assert!(self.says(&told, &words), "`{told}` does not say `{words}`");
                }
            }
        }
        self.check_held(play, &ticks, seen, freed_ns);
        if self.case.kind.strikes_a_wire() {
            self.check_other_arm(&ticks);
        }
    }

    /// An arm that does not answer keeps the other from answering for no more than a tick.
    fn check_other_arm(&self, ticks: &[Tick]) {
        let other = 1 - self.case.index;
        for tick in ticks.iter().filter(|t| t.at_ns >= self.from_ns) {
            let inputs = &tick.record.inputs;
            if let Some(report) = &inputs.reports[other] {
                let state = report.as_ref().expect("the other arm's bus is whole");
                let age_ns = inputs.now_ns.saturating_sub(state.captured_ns);
                assert!(
                    age_ns < 2 * TICK_NS,
                    "the other arm's state is {age_ns} ns old"
                );
            }
        }
    }

    /// The session's error says what it was.
    fn says(&self, told: &str, words: &str) -> bool {
        match self.case.seen_as {
            FaultKind::TeleopGone => told.contains("gone"),
            FaultKind::LogFailed => told.contains("space"),
            FaultKind::PolicyNotFinite => told.contains("not a finite number"),
            // By its number, or by its name where it says itself that it is gone.
            FaultKind::FrameStale => told.contains("camera"),
            _ => told.contains(words.split(';').next().unwrap()),
        }
    }

    /// From the tick that saw it on, the arms go no farther than braking needs, until they are
    /// freed.
    fn check_held(&self, play: &Play, ticks: &[Tick], seen: usize, freed_ns: u64) {
        let at_ns = ticks[seen].at_ns;
        let runs = |t: &Tick| t.record.mode == Mode::Running;
        let resumed = ticks[seen..].iter().find(|t| runs(t)).map(|t| t.at_ns);
        let until_ns = match self.case.seen_as.row().answer {
            Answer::Stop => freed_ns,
            _ => resumed.unwrap_or(u64::MAX),
        };
        let tick_s = TICK_NS as f64 * 1e-9;
        let braking = self.rig.limits.joint_acceleration_rad_s2;
        for (arm, goals) in play.staged.stage.goals().iter().enumerate() {
            let lost = self.case.kind == Strike::BusUnplugged && self.case.index == arm;
            let first = goals
                .iter()
                .position(|g| g.at_ns >= at_ns)
                .unwrap_or(goals.len());
            let later: Vec<&Goals> = goals[first..]
                .iter()
                .take_while(|g| g.at_ns < until_ns)
                .collect();
            if lost {
                let heard =
                    |g: &&Goals| (self.from_ns..self.from_ns + self.for_ns).contains(&g.at_ns);
                assert_eq!(goals.iter().find(heard), None, "nobody hears on a lost bus");
            } else {
                let told = later
                    .first()
                    .is_some_and(|g| g.at_ns <= at_ns + 2 * TICK_NS);
                assert!(told, "arm {arm} was told nothing within two ticks");
            }
            let Some(before) = first.checked_sub(1).map(|i| &goals[i]) else {
                continue;
            };
            for i in 0..JOINTS {
                let start = f64::from(before.counts[i]);
                let speed = match first.checked_sub(2).map(|k| &goals[k]) {
                    Some(one) if before.at_ns - one.at_ns < 2 * TICK_NS => {
                        (start - f64::from(one.counts[i])).abs()
                    }
                    _ => 0.0,
                };
                let (way, ticks_on) = match braking {
                    None => (0.0, 0.0),
                    Some(a) => {
                        let a = counts_from_radians(a * tick_s * tick_s);
                        let speed = speed + 1.0;
                        (speed * speed / (2.0 * a) + speed + 1.0, speed / a + 2.0)
                    }
                };
                let still_ns = at_ns + (ticks_on * TICK_NS as f64) as u64 + 2 * TICK_NS;
                let mut at_rest = None;
                for goals in &later {
                    let now = f64::from(goals.counts[i]);
                    assert!(
                        (now - start).abs() <= way,
                        "arm {arm} joint {i} went {} counts on",
                        now - start
                    );
                    if goals.at_ns > still_ns {
                        assert_eq!(*at_rest.get_or_insert(now), now, "it stands");
                    }
                }
            }
        }
    }

    /// In a fault another one changes nothing: the first is told, and a reset after both goes on.
    fn check_in_fault(&self, play: &mut Play) {
        let ticks = play.staged.stage.ticks();
        let first = ticks
            .iter()
            .position(|t| t.record.mode == Mode::Fault)
            .unwrap();
        let about = ticks[first].record.fault;
        for tick in &ticks[first..] {
            assert_eq!((tick.record.mode, tick.record.fault), (Mode::Fault, about));
        }
        self.check_refused(play);
        let stood_ns = ticks[first].at_ns + 2 * TICK_NS;
        for goals in play.staged.stage.goals() {
            let mut later = goals.iter().filter(|g| g.at_ns > stood_ns);
            let held = later.next().unwrap().counts;
            assert!(later.all(|g| g.counts == held));
        }
        self.recover(play);
        check_always(self.rig, play);
    }
}
