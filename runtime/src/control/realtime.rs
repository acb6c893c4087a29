//! The control loop on the monotonic clock: one thread, absolute deadlines.
//!
//! What it shares with others goes through cells that never make it wait: orders and reports are
//! newest values, the frames' times are atomic numbers, and its records go into a bounded ring. A
//! record that finds the ring full is dropped and counted; the tick's outcome is counted anyway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use hilt_drivers::{Arm, ArmState};
use hilt_protocol::{MAX_ARMS, MAX_CAMERAS};
use hilt_realtime::{Clock, newest};
use ringbuf::{HeapProd, traits::Producer};

use super::{
    deadline::Deadlines,
    faults::Fault,
    machine::{Mode, Wish},
    shell::{TickRecord, tick},
    step::{ControlConfig, ControlState, Order, Targets},
};
use crate::tick::{Outcome, OutcomeCounts, TickTimes};

/// When each camera's newest frame was captured, nanoseconds on the run's clock; 0: none yet.
/// Written by the cameras' threads, read by the control thread at every tick.
#[derive(Debug, Default)]
pub struct FrameTimes([AtomicU64; MAX_CAMERAS]);

impl FrameTimes {
    /// Camera `camera` has a frame of `captured_ns`.
    pub fn set(&self, camera: usize, captured_ns: u64) {
        if let Some(time) = self.0.get(camera) {
            time.store(captured_ns, Ordering::Relaxed);
        }
    }

    /// All of them.
    pub fn all(&self) -> [u64; MAX_CAMERAS] {
        std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed))
    }
}

/// What the loop tells whoever commands it: the newest of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Ticks so far, missed ones included.
    pub ticks: u64,
    /// Time of the last tick, nanoseconds.
    pub now_ns: u64,
    /// The mode.
    pub mode: Mode,
    /// The fault that the mode is about.
    pub fault: Option<Fault>,
    /// The arms' newest states that could be read.
    pub states: [Option<ArmState>; MAX_ARMS],
    /// Where the arms are being sent.
    pub targets: Targets,
    /// The newest command that was seen.
    pub newest_sequence: Option<u64>,
    /// The newest command that was refused.
    pub refused_sequence: Option<u64>,
    /// Resets that were seen.
    pub resets: u64,
    /// Ticks by outcome.
    pub counts: OutcomeCounts,
    /// Records that the ring had no room for.
    pub lost_records: u64,
}

/// The loop's ends of the cells that it shares.
pub struct LoopCells {
    /// The newest order.
    pub orders: newest::Reader<Order>,
    /// The newest report.
    pub reports: newest::Writer<Report>,
    /// The frames' times.
    pub frames: Arc<FrameTimes>,
    /// What every tick saw and did.
    pub records: HeapProd<TickRecord>,
    /// What somebody who outlives this process needs to stop the arms.
    pub wills: Option<Box<dyn Wills>>,
}

/// Where the arms' wills go at every tick. Must neither lock nor allocate nor call the system.
pub trait Wills: Send {
    /// The loop lives: what each arm is to be sent when it does not any more. `armed`: the arms may
    /// be moving.
    fn beat(&mut self, armed: bool, wills: &[&[u8]]);

    /// Somebody has taken the buses, because the loop seemed dead.
    fn overtaken(&self) -> bool;
}

/// The loop.
pub struct ControlLoop<C> {
    clock: C,
    config: ControlConfig,
    /// A tick that begins later than this after its deadline is late, nanoseconds.
    late_ns: u64,
    state: ControlState,
    arms: Vec<Box<dyn Arm + Send>>,
    cells: LoopCells,
    deadlines: Deadlines,
    number: u64,
    report: Report,
}

/// The arms may take so many tenths of a tick to answer: two of six servos each at 200 Hz have time to
/// be asked, and writing them takes the half of it.
const READ_TENTHS: u64 = 7;

impl<C: Clock> ControlLoop<C> {
    /// A loop whose first tick is a period from now. The arms are started and stand at `targets`.
    pub fn new(
        clock: C,
        config: ControlConfig,
        late_ns: u64,
        arms: Vec<Box<dyn Arm + Send>>,
        targets: Targets,
        cells: LoopCells,
    ) -> Self {
        let first_ns = clock.now_ns() + config.tick_ns;
        Self {
            deadlines: Deadlines::new(first_ns, config.tick_ns),
            clock,
            config,
            late_ns,
            state: ControlState::at(targets),
            arms,
            cells,
            number: 0,
            report: Report {
                targets,
                ..Report::default()
            },
        }
    }

    /// Sleeps until the next deadline and takes its tick. `rest`: whatever the orders say, the arms
    /// are brought to a standstill.
    pub fn tick(&mut self, rest: bool) -> TickRecord {
        let until_ns = self.deadlines.until_ns(self.clock.now_ns());
        self.clock.sleep_until_ns(until_ns);
        let woke_ns = self.clock.now_ns();
        let slot = self.deadlines.wake(woke_ns);
        if slot.missed > 0 {
            self.state.recount(None, Outcome::Missed, slot.missed);
            self.number += slot.missed;
        }
        let mut order = self.cells.orders.read();
        if rest {
            order.wish = Wish::Rest;
        }
        let overtaken = self.cells.wills.as_ref().is_some_and(|w| w.overtaken());
        let mut record = tick(
            &self.config,
            &mut self.state,
            &mut self.arms,
            &self.clock,
            slot.due_ns,
            woke_ns,
            slot.due_ns + self.config.tick_ns / 10 * READ_TENTHS,
            order,
            self.cells.frames.all(),
            overtaken,
        );
        // In idle the arms hold by their servos alone; only then nobody has to act.
        self.beat(self.state.mode() != Mode::Idle);
        record.number = self.number;
        record.missed = slot.missed;
        let timed = timed(
            record.outcome,
            &record.times,
            self.late_ns,
            self.config.tick_ns,
        );
        if timed != record.outcome {
            record.outcome = timed;
            self.state.recount(Some(Outcome::OnTime), Outcome::Late, 1);
        }
        self.number += 1;
        if self.cells.records.try_push(record).is_err() {
            self.report.lost_records += 1;
        }
        self.tell(&record);
        record
    }

    fn beat(&mut self, armed: bool) {
        if let Some(wills) = &mut self.cells.wills {
            let mut each: [&[u8]; MAX_ARMS] = [&[]; MAX_ARMS];
            for (will, arm) in each.iter_mut().zip(&self.arms) {
                *will = arm.will();
            }
            wills.beat(armed, &each[..self.arms.len().min(MAX_ARMS)]);
        }
    }

    fn tell(&mut self, record: &TickRecord) {
        let report = &mut self.report;
        for (newest, read) in report.states.iter_mut().zip(&record.inputs.reports) {
            if let Some(Ok(state)) = read {
                *newest = Some(*state);
            }
        }
        report.ticks = self.number;
        report.now_ns = record.times.woke_ns;
        report.mode = record.mode;
        report.fault = record.fault;
        report.targets = self.state.targets();
        report.newest_sequence = self.state.newest_sequence();
        report.refused_sequence = self.state.refused_sequence();
        report.resets = record.inputs.order.resets;
        report.counts = self.state.counts();
        self.cells.reports.write(*report);
    }

    /// When the next tick is due, nanoseconds.
    pub fn next_ns(&self) -> u64 {
        self.deadlines.next_ns()
    }

    /// The state, to look at.
    pub fn state(&self) -> &ControlState {
        &self.state
    }

    /// Ticks until `stop`, then brings the arms to a standstill and stops them. The arms hold.
    pub fn run(&mut self, stop: &AtomicBool) {
        // To get ready may have taken the thread long: locking memory alone takes a tenth of a
        // second. No tick was missed by that.
        let first_ns = self.clock.now_ns() + self.config.tick_ns;
        self.deadlines = Deadlines::new(first_ns, self.config.tick_ns);
        while !stop.load(Ordering::Relaxed) {
            self.tick(false);
        }
        // Braking takes as long as it takes; a thousand ticks are more than any arm needs.
        for _ in 0..1000 {
            if matches!(self.tick(true).mode, Mode::Idle | Mode::Fault) {
                break;
            }
        }
        for arm in &mut self.arms {
            // Whoever does not hear this has been told of by a fault before.
            let _ = arm.stop();
        }
        self.beat(false);
    }
}

/// How a tick ended when its times are known too: one that went well is late when it began more than
/// `late_ns` after its deadline, or ended after the next one.
pub fn timed(outcome: Outcome, times: &TickTimes, late_ns: u64, tick_ns: u64) -> Outcome {
    let late = times.woke_ns.saturating_sub(times.due_ns) > late_ns
        || times.written_ns.saturating_sub(times.due_ns) > tick_ns;
    match outcome {
        Outcome::OnTime if late => Outcome::Late,
        other => other,
    }
}

/// A running control thread. Dropping it brings the arms to a standstill first.
pub struct ControlThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread; `prepare` runs on it first, to ask the system for what it needs.
pub fn spawn<C: Clock + Send + 'static>(
    mut control: ControlLoop<C>,
    prepare: impl FnOnce() + Send + 'static,
) -> std::io::Result<ControlThread> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            prepare();
            control.run(&stopped);
        })?;
    Ok(ControlThread {
        stop,
        thread: Some(thread),
    })
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread ended by a panic; the arms hold their last target");
        }
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::GripperCommand;
    use hilt_realtime::Fake;
    use ringbuf::{
        HeapRb,
        traits::{Consumer, Split},
    };

    use super::{super::step::AgeLimits, *};

    #[test]
    fn what_the_thread_needs_to_get_ready_is_no_missed_tick() {
        let config = ControlConfig {
            arms: 0,
            cameras: 0,
            interpolation_ns: 100,
            tick_ns: 10,
            late_ns: 10,
            bounds: [None; MAX_ARMS],
            ages: AgeLimits::NONE,
            following_rad: f64::INFINITY,
            gripper: GripperCommand::Open,
        };
        let (records, mut taken) = HeapRb::new(4).split();
        let cells = LoopCells {
            orders: newest::newest(Order::default()).1,
            reports: newest::newest(Report::default()).0,
            frames: Arc::default(),
            records,
            wills: None,
        };
        let clock = Fake::at(0);
        let targets = Targets::default();
        let mut control = ControlLoop::new(clock.clone(), config, 1, Vec::new(), targets, cells);
        clock.advance_ns(1005);
        control.run(&AtomicBool::new(true));
        let first: TickRecord = taken.try_pop().unwrap();
        assert_eq!((first.missed, first.times.due_ns), (0, 1015));
    }
}
