//! `hilt verify`: a run recomputed from its log, bit for bit.
//!
//! Every tick is taken again by the code that took it, from what the log says that it saw, with
//! [replicas](hilt_drivers::Replica) of the arms: the bytes for the arms, the mode, the fault, the
//! outcome and the state's hash must be those of the log. Every decision is made again from what it
//! was made from, and every command that the control loop saw must be that of its decision.
//!
//! Inference is no arithmetic that is the same everywhere: [`recheck`] runs encoder and policy again on
//! the logged frames, with the weights that the run kept, and compares with a tolerance.
//!
//! A log with a hole, or one that was cut, is verified up to there and is *incomplete*.

mod inference;
mod replay;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use hilt_protocol::ArmCommand;
use replay::Replay;

pub use inference::{Recheck, RecheckError, recheck};

use crate::{
    control::{Fault, TickRecord},
    decision::{Choice, Decision, Rules, Why},
    rig::{ClockKind, Rig, RigError},
    safety::SafetyFilter,
    tick::Outcome,
    tick_log::{About, Logged, TICKS_FILE, TickLogError, TickLogReader, encode_decision, sealed},
};

/// Why a run cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing to verify.
    #[error(
        "{0} is not there; `hilt actor` keeps one for a rig in real time (clock = \"monotonic\"): name such a run's folder"
    )]
    NoLog(PathBuf),
    /// Its log.
    #[error(transparent)]
    Log(#[from] TickLogError),
    /// Its rig.
    #[error("the rig in the log: {0}")]
    Rig(#[from] RigError),
    /// Its arms.
    #[error("{path}: the arms in the log cannot be: {reason}")]
    Arms {
        /// The log.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Something that is not as in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What.
    pub what: String,
    /// As the log has it.
    pub logged: String,
    /// As it is when it is computed again.
    pub recomputed: String,
}

/// The first tick that is not as in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct TickDivergence {
    /// Its number.
    pub number: u64,
    /// Its time, nanoseconds on the run's clock.
    pub now_ns: u64,
    /// Seconds from the first tick to it.
    pub at_s: f64,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// The first decision that is not as in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionDivergence {
    /// Its place among the decisions, from 0.
    pub place: u64,
    /// Its command's number; `None`: it has no command.
    pub sequence: Option<u64>,
    /// When it was made, nanoseconds on the run's clock.
    pub now_ns: u64,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Ticks that were taken again.
    pub ticks: u64,
    /// Ticks that were not run.
    pub missed: u64,
    /// Decisions that were made again.
    pub decisions: u64,
    /// Commands that the control loop saw and that are those of their decisions.
    pub commands: u64,
    /// From the first tick to the last, seconds.
    pub seconds: f64,
    /// Ticks by the mode after them.
    pub modes: BTreeMap<&'static str, u64>,
    /// Ticks by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Each fault that came up, and at which second.
    pub faults: Vec<(f64, String)>,
    /// Times that the policy was exchanged.
    pub swaps: u64,
    /// The first tick that differs.
    pub tick: Option<TickDivergence>,
    /// The first decision that differs.
    pub decision: Option<DecisionDivergence>,
    /// Why it is not all of the run that was verified.
    pub incomplete: Vec<String>,
    /// The run was in lockstep, where ticks are not logged.
    pub lockstep: bool,
}

impl Verdict {
    /// Something differs.
    pub fn diverges(&self) -> bool {
        self.tick.is_some() || self.decision.is_some()
    }

    /// Exit status: 0 identical, 1 divergent, 2 incomplete.
    pub fn status(&self) -> i32 {
        match (self.diverges(), self.incomplete.is_empty()) {
            (true, _) => 1,
            (false, true) => 0,
            (false, false) => 2,
        }
    }
}

/// Verifies the run in `dir`.
pub fn verify(dir: &Path) -> Result<Verdict, VerifyError> {
    let file = dir.join(TICKS_FILE);
    if !file.exists() {
        return Err(VerifyError::NoLog(file));
    }
    let mut log = TickLogReader::open(dir)?;
    let about = log.about().clone();
    let rig = Rig::parse("ticks.mcap", dir, &about.rig, &[])?;
    let mut verifier = Verifier::new(&about, &rig).map_err(|reason| VerifyError::Arms {
        path: dir.to_owned(),
        reason,
    })?;
    for logged in &mut log {
        match logged {
            Ok(Logged::Tick(tick)) => verifier.tick(&tick),
            Ok(Logged::Decision(decision)) => verifier.decision(&decision),
            Err(error) => {
                verifier.verdict.incomplete.push(error.to_string());
                break;
            }
        }
    }
    if let Some(cut) = log.cut() {
        let cut = format!("the log is cut {cut}; was the run killed, or the disk full?");
        verifier.verdict.incomplete.push(cut);
    }
    Ok(verifier.end())
}

struct Verifier {
    rules: Rules,
    replay: Replay,
    tick_ns: u64,
    first_ns: Option<u64>,
    last: Option<TickRecord>,
    /// Ticks cannot be taken again any more.
    lost: bool,
    fault: Option<Fault>,
    version: Option<u64>,
    /// The newest command that a tick saw.
    newest: Option<u64>,
    /// Commands that were seen, and in which tick first, until their decisions come.
    seen: BTreeMap<u64, (ArmCommand, u64)>,
    /// Decisions' commands, until they are seen.
    decided: BTreeMap<u64, (ArmCommand, u64)>,
    verdict: Verdict,
}

impl Verifier {
    fn new(about: &About, rig: &Rig) -> Result<Self, String> {
        let (spec, began) = (rig.spec(), &about.began);
        if began.arms.len() != spec.mode.arms() {
            return Err("the rig has another number of them".to_owned());
        }
        let filter = |arm: &crate::tick_log::ArmAbout| {
            SafetyFilter::new(arm.chain.clone(), &spec, rig.safety())
        };
        Ok(Self {
            rules: Rules {
                filters: began.arms.iter().map(filter).collect(),
                spec,
                bounds: began.config.bounds,
                period_ns: began.config.interpolation_ns,
            },
            replay: Replay::new(began)?,
            tick_ns: began.config.tick_ns,
            first_ns: None,
            last: None,
            lost: false,
            fault: None,
            version: None,
            newest: None,
            seen: BTreeMap::new(),
            decided: BTreeMap::new(),
            verdict: Verdict {
                lockstep: rig.clock == ClockKind::Simulated,
                ..Verdict::default()
            },
        })
    }

    fn tick(&mut self, tick: &TickRecord) {
        if self.lost {
            return;
        }
        let now_ns = tick.inputs.now_ns;
        let first_ns = *self.first_ns.get_or_insert(now_ns);
        let at_s = now_ns.saturating_sub(first_ns) as f64 * 1e-9;
        let mut differences = self.place(tick, at_s);
        if self.lost {
            return;
        }
        differences.extend(self.replay.take(tick));
        if !differences.is_empty() {
            self.lost = true;
            self.verdict.tick = Some(TickDivergence {
                number: tick.number,
                now_ns,
                at_s,
                differences,
            });
            return;
        }
        self.count(tick, at_s);
        self.see(tick);
        self.last = Some(*tick);
    }

    /// A tick's place in the run: numbers without holes but for those that were missed, and deadlines
    /// on their grid.
    fn place(&mut self, tick: &TickRecord, at_s: f64) -> Vec<Difference> {
        let last = self
            .last
            .as_ref()
            .map(|last| (last.number, last.times.due_ns));
        let next = last.map_or(0, |(number, _)| number + 1);
        let number = next + tick.missed;
        if tick.number > number {
            self.lost = true;
            self.verdict.incomplete.push(format!(
                "{} ticks before tick {} ({at_s:.3} s) are not in the log, because the disk or the \
                 queue to it was full; no tick after them can be recomputed",
                tick.number - number,
                tick.number,
            ));
            return Vec::new();
        }
        let mut differences = Vec::new();
        let mut compare = |what: &str, logged: u64, recomputed: u64| {
            if logged != recomputed {
                differences.push(Difference {
                    what: what.to_owned(),
                    logged: logged.to_string(),
                    recomputed: recomputed.to_string(),
                });
            }
        };
        compare("the tick's number", tick.number, number);
        if let Some((_, due_ns)) = last {
            let slots = (tick.missed + 1).saturating_mul(self.tick_ns);
            let due_ns = due_ns.saturating_add(slots);
            // Only a clock that ran backwards moves the grid, and only to an earlier time.
            let moved = tick.times.due_ns < due_ns && tick.times.due_ns <= tick.times.woke_ns;
            if !moved {
                compare("its deadline, ns", tick.times.due_ns, due_ns);
            }
        }
        differences
    }

    fn count(&mut self, tick: &TickRecord, at_s: f64) {
        let verdict = &mut self.verdict;
        verdict.ticks += 1;
        verdict.missed += tick.missed;
        verdict.seconds = at_s;
        *verdict.modes.entry(tick.mode.name()).or_default() += 1;
        *verdict.outcomes.entry(tick.outcome.name()).or_default() += 1;
        if tick.missed > 0 {
            let missed = verdict.outcomes.entry(Outcome::Missed.name());
            *missed.or_default() += tick.missed;
        }
        if let Some(fault) = tick.fault.filter(|fault| self.fault != Some(*fault)) {
            verdict.faults.push((at_s, fault.to_string()));
        }
        self.fault = tick.fault;
    }

    /// A command that was not seen before must be that of its decision.
    fn see(&mut self, tick: &TickRecord) {
        let Some(command) = tick.inputs.order.command else {
            return;
        };
        if self.newest >= Some(command.sequence) {
            return;
        }
        self.newest = Some(command.sequence);
        match self.decided.remove(&command.sequence) {
            Some((decided, place)) => self.compare(&command, &decided, place, tick.number),
            None => {
                self.seen.insert(command.sequence, (command, tick.number));
            }
        }
    }

    fn compare(&mut self, seen: &ArmCommand, decided: &ArmCommand, place: u64, tick: u64) {
        if bits(seen) == bits(decided) {
            self.verdict.commands += 1;
        } else if self.verdict.decision.is_none() {
            self.verdict.decision = Some(DecisionDivergence {
                place,
                sequence: Some(decided.sequence),
                now_ns: decided.activate_ns,
                differences: vec![Difference {
                    what: format!("the command as tick {tick} saw it"),
                    logged: format!("{seen:?}"),
                    recomputed: format!("{decided:?}"),
                }],
            });
        }
    }

    fn decision(&mut self, decision: &Decision) {
        let place = self.verdict.decisions;
        self.verdict.decisions += 1;
        if let Why::Step { choice, .. } = &decision.why {
            self.swap(choice);
        }
        let differences = self.differences(decision);
        if !differences.is_empty() {
            self.verdict.decision.get_or_insert(DecisionDivergence {
                place,
                sequence: decision.command.map(|command| command.sequence),
                now_ns: decision.now_ns,
                differences,
            });
            return;
        }
        let Some(command) = decision.command else {
            return;
        };
        match self.seen.remove(&command.sequence) {
            Some((seen, tick)) => self.compare(&seen, &command, place, tick),
            None => {
                self.decided.insert(command.sequence, (command, place));
            }
        }
    }

    fn swap(&mut self, choice: &Choice) {
        let version = choice.policy_version;
        let before = self.version.replace(version);
        self.verdict.swaps += u64::from(before.is_some_and(|before| before != version));
    }

    fn differences(&self, decision: &Decision) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut differ = |what: &str, logged: String, recomputed: String| {
            found.push(Difference {
                what: what.to_owned(),
                logged,
                recomputed,
            });
        };
        let Some(again) = decision.again(&self.rules) else {
            let words = "cannot be made from what the log has";
            differ("the decision", "made".to_owned(), words.to_owned());
            return found;
        };
        if encode_decision(&again) != encode_decision(decision) {
            let action = |decision: &Decision| match &decision.why {
                Why::Step { action, .. } => format!("{action:?}"),
                Why::Home { .. } => String::new(),
            };
            if action(decision) != action(&again) {
                differ("the action", action(decision), action(&again));
            }
            let command = |decision: &Decision| format!("{:?}", decision.command);
            if command(decision) != command(&again) {
                differ("the command", command(decision), command(&again));
            }
        }
        let hash = sealed(decision.clone()).hash;
        if hash != decision.hash {
            let logged = format!("{:016x}", decision.hash);
            differ("the decision's hash", logged, format!("{hash:016x}"));
        }
        found
    }

    fn end(mut self) -> Verdict {
        let verdict = &mut self.verdict;
        if verdict.ticks == 0 && !verdict.lockstep && !verdict.diverges() {
            verdict.incomplete.push("the log has no tick".to_owned());
        }
        if let Some((sequence, (_, tick))) = self.seen.first_key_value()
            && !self.lost
        {
            verdict.incomplete.push(format!(
                "{} commands have no decision in the log; the first is command {sequence}, seen in \
                 tick {tick}",
                self.seen.len(),
            ));
        }
        self.verdict
    }
}

/// To tell -0.0 from 0.0.
fn bits(command: &ArmCommand) -> String {
    format!("{command:?}")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match self.status() {
            0 => "identical to the last bit",
            1 => "DIVERGENT",
            _ => "identical as far as it goes, but INCOMPLETE",
        };
        match self.lockstep {
            true => write!(f, "a run in lockstep, whose ticks are not logged; ")?,
            false => write!(
                f,
                "{} ticks over {:.1} s ({} missed), ",
                self.ticks, self.seconds, self.missed
            )?,
        }
        writeln!(f, "{} decisions: {result}", self.decisions)?;
        let list = |counts: &BTreeMap<&str, u64>| {
            let words = counts.iter().map(|(name, n)| format!("{name} {n}"));
            words.collect::<Vec<_>>().join(", ")
        };
        if self.ticks > 0 {
            writeln!(f, "modes seen: {}", list(&self.modes))?;
            writeln!(f, "outcomes: {}", list(&self.outcomes))?;
            let commands = self.commands;
            writeln!(f, "commands that are those of their decisions: {commands}")?;
        }
        writeln!(f, "policy swaps: {}", self.swaps)?;
        match self.faults.len() {
            0 => writeln!(f, "faults: none")?,
            n => writeln!(f, "faults: {n}")?,
        }
        const MOST: usize = 20;
        for (at_s, words) in self.faults.iter().take(MOST) {
            writeln!(f, "  {at_s:9.3} s  {words}")?;
        }
        if self.faults.len() > MOST {
            writeln!(f, "  and {} more", self.faults.len() - MOST)?;
        }
        if let Some(tick) = &self.tick {
            let (number, at_s, now_ns) = (tick.number, tick.at_s, tick.now_ns);
            writeln!(
                f,
                "the first divergent tick is {number}, {at_s:.3} s into the run ({now_ns} ns):"
            )?;
            write_differences(f, &tick.differences)?;
        }
        if let Some(decision) = &self.decision {
            let place = decision.place;
            match decision.sequence {
                Some(n) => write!(f, "the first divergent decision is {place}, of command {n}")?,
                None => write!(
                    f,
                    "the first divergent decision is {place}, without command"
                )?,
            }
            writeln!(f, " ({} ns):", decision.now_ns)?;
            write_differences(f, &decision.differences)?;
        }
        for why in &self.incomplete {
            writeln!(f, "incomplete: {why}")?;
        }
        Ok(())
    }
}

fn write_differences(f: &mut fmt::Formatter<'_>, differences: &[Difference]) -> fmt::Result {
    for difference in differences {
        writeln!(f, "  {}:", difference.what)?;
        writeln!(f, "    in the log: {}", difference.logged)?;
        writeln!(f, "    recomputed: {}", difference.recomputed)?;
    }
    Ok(())
}
