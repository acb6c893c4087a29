//! The other side of the loop: a policy, a person and the world's accidents, scene after scene, until
//! the loop has been in every mode, ended ticks in every way and met every fault.
//!
//! A scene waits for its effect, not for a time: a busy machine makes the play longer, not another.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use anyhow::{Result, bail, ensure};
use hilt_drivers::{ArmError, bus::sts3215};
use hilt_protocol::{ArmCommand, GripperCommand, JointVector, MAX_ARMS};
use hilt_realtime::{Clock, Monotonic};
use hilt_runtime::{
    control::{Fault, FaultKind, Mode, Order, Report, TickRecord, Wish, faults},
    tick::Outcome,
};
use ringbuf::traits::Consumer;

use super::{doubles::Act, rig::OtherSide};

/// Between two looks at the cells.
const TURN_NS: u64 = 1_000_000;

/// So often a scene looks for its effect before it is given up: minutes, where it takes seconds.
const PATIENCE_TURNS: u64 = 200_000;

const MODES: [Mode; 6] = [
    Mode::Idle,
    Mode::Armed,
    Mode::Running,
    Mode::Held,
    Mode::Stopping,
    Mode::Fault,
];

/// What the records have told: how many ticks each.
#[derive(Default)]
struct Seen {
    records: u64,
    modes: [u64; MODES.len()],
    outcomes: [u64; Outcome::ALL.len()],
    /// Ticks that the fault held or stopped, or in which it was counted.
    faults: [u64; faults::TABLE.len()],
    /// What arms said, by its first byte in logs.
    errors: BTreeMap<u8, u64>,
    last: Mode,
    /// How often the arms were started again.
    starts: u64,
    /// Records that found no room.
    lost: u64,
}

impl Seen {
    fn take(&mut self, record: &TickRecord) {
        self.records += 1;
        self.modes[record.mode as usize] += 1;
        self.outcomes[record.outcome as usize] += 1;
        self.outcomes[Outcome::Missed as usize] += record.missed;
        let told = [record.fault, record.inputs.order.fault];
        for fault in told.into_iter().flatten() {
            self.faults[fault.kind as usize] += 1;
        }
        if record.outcome == Outcome::RefusedLate {
            self.faults[FaultKind::PolicyLate as usize] += 1;
        }
        let troubles = record.inputs.reports.iter().map(|report| match report {
            Some(Ok(state)) => state.trouble,
            Some(Err(error)) => Some(*error),
            None => None,
        });
        for error in troubles.chain(record.written).flatten() {
            *self.errors.entry(error.to_bytes()[0]).or_default() += 1;
        }
        self.starts += u64::from(self.last == Mode::Fault && record.mode != Mode::Fault);
        self.last = record.mode;
    }

    fn mode(&self, mode: Mode) -> u64 {
        self.modes[mode as usize]
    }

    fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    fn fault(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }

    fn said(&self, error: ArmError) -> u64 {
        let ticks = self.errors.get(&error.to_bytes()[0]);
        ticks.copied().unwrap_or(0)
    }

    fn unplugged(&self) -> u64 {
        self.said(ArmError::Unplugged)
    }

    /// Everything there is, with how many ticks it was seen in.
    fn all(&self) -> Vec<(String, u64)> {
        let modes = MODES.map(|mode| (format!("mode {}", mode.name()), self.mode(mode)));
        let outcomes = Outcome::ALL.map(|outcome| {
            let name = format!("outcome {}", outcome.name());
            (name, self.outcome(outcome))
        });
        let faults =
            faults::TABLE.map(|row| (format!("fault {:?}", row.kind), self.fault(row.kind)));
        let said = [
            ArmError::Stopped,
            ArmError::Silent(0),
            ArmError::Corrupted(0),
            ArmError::WrongId {
                expected: 0,
                got: 0,
            },
            ArmError::Servo { id: 0, bits: 0 },
            ArmError::Implausible(0),
            ArmError::Mode(0),
            ArmError::Unplugged,
        ];
        let errors = said.map(|error| {
            let name = format!("{error:?}");
            let name = name.split(['(', ' ']).next().unwrap_or_default();
            (format!("an arm said {name}"), self.said(error))
        });
        let rest = [
            ("arms started again", self.starts),
            ("records lost", self.lost),
        ];
        let rest = rest.map(|(name, times)| (name.to_owned(), times));
        (modes.into_iter().chain(outcomes).chain(faults))
            .chain(errors)
            .chain(rest)
            .collect()
    }
}

/// What is wrong with the next command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    NotANumber,
    OneArmMissing,
    FewJoints,
    Late,
}

/// The play.
pub struct Script {
    side: OtherSide,
    /// The control thread, which does not end before this process does.
    thread: libc::pthread_t,
    seen: Seen,
    order: Order,
    report: Report,
    next_step_ns: u64,
    /// The policy, its commands, the camera and the keeper of the records do what they should.
    policy_lives: bool,
    commands: bool,
    camera_lives: bool,
    records_are_kept: bool,
    flaw: Option<Flaw>,
    said: Vec<String>,
}

impl Script {
    pub fn new(side: OtherSide, thread: libc::pthread_t) -> Self {
        Self {
            side,
            thread,
            seen: Seen::default(),
            order: Order::default(),
            report: Report::default(),
            next_step_ns: 0,
            policy_lives: true,
            commands: true,
            camera_lives: true,
            records_are_kept: true,
            flaw: None,
            said: Vec::new(),
        }
    }

    /// Ticks that were run.
    pub fn ticks(&self) -> u64 {
        self.report.ticks - self.missed()
    }

    /// Ticks that were not.
    pub fn missed(&self) -> u64 {
        self.report.counts.of(Outcome::Missed)
    }

    /// So that what ends the process is found in the last scene that was named, each once.
    fn say(&mut self, scene: &str) {
        if !self.said.iter().any(|said| said == scene) {
            println!("{scene}");
            self.said.push(scene.to_owned());
        }
    }

    /// A look at all cells.
    pub fn turn(&mut self) {
        Monotonic.sleep_until_ns(Monotonic.now_ns() + TURN_NS);
        let side = &mut self.side;
        while self.records_are_kept
            && let Some(record) = side.records.try_pop()
        {
            self.seen.take(&record);
        }
        self.report = side.reports.read();
        self.seen.lost = self.report.lost_records;
        let now_ns = side.clock.now_ns();
        if self.camera_lives {
            side.frames.set(0, now_ns);
        }
        // A person who resets at once, in vain while something else is still wrong.
        if self.report.mode == Mode::Fault && self.report.resets == self.order.resets {
            self.order.resets += 1;
            self.order.fault = None;
        }
        if self.policy_lives {
            if self.commands && Monotonic.now_ns() >= self.next_step_ns {
                self.next_step_ns = Monotonic.now_ns() + side.pace.step_ns;
                let sequence = self.order.command.map_or(0, |c| c.sequence) + 1;
                self.order.command = Some(command(side, sequence, now_ns, self.flaw));
            }
            self.order.written_ns = now_ns;
            side.orders.write(self.order);
        }
    }

    /// Turns until the effect is there.
    fn until(&mut self, scene: &str, there: impl Fn(&Seen, &Report) -> bool) -> Result<()> {
        self.say(scene);
        for _ in 0..PATIENCE_TURNS {
            self.turn();
            if there(&self.seen, &self.report) {
                return Ok(());
            }
        }
        let now = (self.report.mode, self.report.fault, self.report.counts);
        bail!("{scene}: it never comes to that; {now:?}");
    }

    /// Does `on` to a running loop, and `off` when its effect is there. The plan's faults
    /// come in between, and hide what comes second: then it is done again.
    fn strike(
        &mut self,
        scene: &str,
        count: impl Fn(&Seen) -> u64,
        on: impl Fn(&mut Self),
        off: impl Fn(&mut Self),
    ) -> Result<()> {
        self.say(scene);
        let turns = 2 * self.side.pace.ages.tick_ns / TURN_NS;
        for _ in 0..PATIENCE_TURNS / turns {
            self.run()?;
            let before = count(&self.seen);
            on(self);
            let mut there = false;
            for _ in 0..turns {
                self.turn();
                there = count(&self.seen) > before;
                if there {
                    break;
                }
            }
            off(self);
            if there {
                return self.run();
            }
        }
        bail!("{scene}: it never comes to that");
    }

    fn fault(
        &mut self,
        kind: FaultKind,
        on: impl Fn(&mut Self),
        off: impl Fn(&mut Self),
    ) -> Result<()> {
        self.strike(&format!("{kind:?}"), |seen| seen.fault(kind), on, off)
    }

    /// Until targets go to the arms.
    pub fn run(&mut self) -> Result<()> {
        self.order.wish = Wish::Run;
        let sent = |seen: &Seen| seen.outcome(Outcome::OnTime) + seen.outcome(Outcome::Late);
        let before = sent(&self.seen);
        self.until("running", |seen, report| {
            sent(seen) > before && report.mode == Mode::Running
        })
    }

    /// Every scene once.
    pub fn scenes(&mut self) -> Result<()> {
        self.rest()?;
        self.inputs()?;
        self.orders()?;
        self.time()?;
        self.arms()?;
        self.strike(
            "records are lost",
            |seen| seen.lost,
            |play| play.records_are_kept = false,
            |play| play.records_are_kept = true,
        )?;
        self.signals(100)
    }

    fn rest(&mut self) -> Result<()> {
        self.run()?;
        self.order.wish = Wish::Rest;
        self.until("rest", |_, report| report.mode == Mode::Idle)?;
        self.commands = false;
        self.order.wish = Wish::Run;
        self.until("armed", |_, report| report.mode == Mode::Armed)?;
        self.commands = true;
        self.run()
    }

    fn inputs(&mut self) -> Result<()> {
        self.fault(
            FaultKind::FrameStale,
            |play| play.camera_lives = false,
            |play| play.camera_lives = true,
        )?;
        self.fault(
            FaultKind::PolicySilent,
            |play| play.policy_lives = false,
            |play| play.policy_lives = true,
        )
    }

    fn orders(&mut self) -> Result<()> {
        for kind in [
            FaultKind::PolicyNotFinite,
            FaultKind::PolicyOutOfBounds,
            FaultKind::LearnerGone,
            FaultKind::TeleopGone,
            FaultKind::LogFailed,
        ] {
            self.fault(
                kind,
                |play| play.order.fault = Some(Fault::at(kind, 0)),
                |play| play.order.fault = None,
            )?;
        }
        for (flaw, outcome) in [
            (Flaw::NotANumber, Outcome::RefusedIncomplete),
            (Flaw::OneArmMissing, Outcome::RefusedIncomplete),
            (Flaw::FewJoints, Outcome::RefusedIncomplete),
            (Flaw::Late, Outcome::RefusedLate),
        ] {
            self.strike(
                &format!("command: {flaw:?}"),
                |seen| seen.outcome(outcome),
                |play| play.flaw = Some(flaw),
                |play| play.flaw = None,
            )?;
        }
        Ok(())
    }

    fn time(&mut self) -> Result<()> {
        let pace = self.side.pace;
        for outcome in [Outcome::Missed, Outcome::Late] {
            // Ticks are missed, and the one after them begins in the middle of its period.
            let stall_ns = 5 * pace.tick_ns / 2;
            self.strike(
                "a stall",
                |seen| seen.outcome(outcome),
                |play| play.side.hooks.stall_ns.store(stall_ns, Ordering::Relaxed),
                |_| {},
            )?;
        }
        let (state_ns, jump_ns) = (pace.ages.state_ns as i64, pace.ages.tick_ns as i64);
        for (ahead_ns, kind) in [
            (3 * jump_ns / 2, FaultKind::ClockJump),
            (-3 * jump_ns / 2, FaultKind::ClockJump),
            // The buses' clock and the loop's part.
            ((state_ns + jump_ns) / 2, FaultKind::StateStale),
        ] {
            self.fault(
                kind,
                |play| play.side.clock.set(ahead_ns),
                |play| play.side.clock.set(0),
            )?;
        }
        Ok(())
    }

    fn arms(&mut self) -> Result<()> {
        self.fault(
            FaultKind::Overtaken,
            |play| play.side.hooks.overtaken.store(true, Ordering::Relaxed),
            |play| play.side.hooks.overtaken.store(false, Ordering::Relaxed),
        )?;
        self.fault(
            FaultKind::TargetRefused,
            |play| play.side.hooks.stops_an_arm.store(true, Ordering::Relaxed),
            |_| {},
        )?;
        let arm = self.side.pace.arms - 1;
        let push = Act::Put {
            servo: 2,
            counts: 3500.0,
        };
        self.fault(
            FaultKind::Implausible,
            |play| play.side.act(arm, push),
            |_| {},
        )?;
        // A servo that lost its power for a moment sinks.
        let limp = Act::Poke {
            servo: 2,
            register: sts3215::TORQUE_ENABLE,
            value: 0,
        };
        self.fault(FaultKind::Astray, |play| play.side.act(arm, limp), |_| {})?;
        // A servo that is set to turn like a wheel. It shows when the arm is started again.
        let mode = |value| Act::Poke {
            servo: 4,
            register: sts3215::MODE,
            value,
        };
        self.fault(
            FaultKind::DeviceFault,
            |play| {
                play.side.act(arm, mode(1));
                play.order.fault = Some(Fault::at(FaultKind::TeleopGone, 0));
            },
            |play| play.side.act(arm, mode(0)),
        )
    }

    /// Signals that wake the control thread from whatever it waits for.
    pub fn signals(&mut self, count: u32) -> Result<()> {
        self.say("signals");
        for _ in 0..count {
            self.turn();
            // SAFETY: the thread never ends before this process does.
            let sent = unsafe { libc::pthread_kill(self.thread, libc::SIGUSR1) };
            ensure!(sent == 0, "a signal was not sent: {sent}");
        }
        self.run()
    }

    /// Waits until the plan's faults have come.
    pub fn plan(&mut self) -> Result<()> {
        for kind in [
            FaultKind::ServoSilent,
            FaultKind::ReplyCorrupted,
            FaultKind::WrongId,
            FaultKind::ServoError,
            FaultKind::BusLost,
            FaultKind::ClockJump,
        ] {
            let scene = format!("of the plan: {kind:?}");
            self.until(&scene, |seen, _| seen.fault(kind) > 0)?;
        }
        // It takes time, which a busy machine has not always left in a tick.
        self.say("a servo is asked once more");
        for _ in 0..PATIENCE_TURNS {
            self.turn();
            if !self.side.pace.is_serial || self.side.asked_again() {
                return Ok(());
            }
        }
        bail!("no servo that did not answer was asked once more in the same tick");
    }

    /// Pulls the buses that can be pulled, for good.
    pub fn unplug(&mut self) -> Result<()> {
        if self.side.unplug() {
            let before = self.seen.unplugged();
            // More ticks than a fault of the plan has.
            self.until("the buses are pulled", |seen, _| {
                seen.unplugged() > before + 100
            })?;
        }
        Ok(())
    }

    /// Turns until all records of a loop that has ended are read.
    pub fn end(&mut self) -> Result<()> {
        self.turn();
        let (records, lost) = (self.seen.records, self.seen.lost);
        ensure!(
            records + lost == self.ticks(),
            "{records} records, {lost} lost, of {} ticks",
            self.ticks()
        );
        Ok(())
    }

    /// Shows what was gone through, and whether anything was not.
    pub fn check(&self) -> Result<()> {
        let seen = self.seen.all();
        for (name, times) in &seen {
            println!("{times:>9}  {name}");
        }
        let unseen: Vec<_> = seen.iter().filter(|(_, times)| *times == 0).collect();
        ensure!(unseen.is_empty(), "this was not gone through: {unseen:?}");
        Ok(())
    }
}

/// A command for all arms, to one side and to the other in turn.
fn command(side: &OtherSide, sequence: u64, now_ns: u64, flaw: Option<Flaw>) -> ArmCommand {
    let (radians, gripper) = match sequence % 2 {
        0 => (0.4, GripperCommand::Open),
        _ => (-0.4, GripperCommand::Closed),
    };
    let mut values = [radians; 5];
    if flaw == Some(Flaw::NotANumber) {
        values[3] = f64::NAN;
    }
    let few = if flaw == Some(Flaw::FewJoints) { 4 } else { 5 };
    let mut arms = [None; MAX_ARMS];
    for arm in arms.iter_mut().take(side.pace.arms) {
        *arm = JointVector::from_slice(&values[..few]).map(|joints| (joints, gripper));
    }
    if flaw == Some(Flaw::OneArmMissing) {
        arms[0] = None;
    }
    let age_ns = match flaw {
        Some(Flaw::Late) => 3 * side.pace.step_ns,
        _ => 0,
    };
    ArmCommand {
        sequence,
        activate_ns: now_ns - age_ns,
        arms,
    }
}
