//! The thread that keeps a run's books: it takes the control thread's records out of their ring,
//! books them, hands them on to the tick log, and tells a few times a second how the run stands.
//!
//! It has a normal priority, and nobody waits for it. What it cannot take in time is counted as lost.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hilt_protocol::MAX_ARMS;
use ringbuf::{HeapCons, traits::Consumer};

use crate::{
    accounting::{Accounts, Budgets, Unbalanced},
    control::{Fault, FaultKind, Report, TickRecord},
    rig::{ClockKind, Rig},
    status::{Status, unix_now_s},
    tick::{OutcomeCounts, Stage},
};

/// What the policy's side knows of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    /// Policy in force; 0: none.
    pub policy_version: u64,
    /// Times that the policy was exchanged.
    pub swaps: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Steps of the run.
    pub env_steps: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Of these, the learner has acknowledged.
    pub acknowledged: u64,
    /// Whether the learner answers; `None`: this run has none.
    pub learner_alive: Option<bool>,
    /// Ticks and decisions that the tick log had no room for.
    pub log_losses: u64,
    /// Ticks by outcome, of a run in lockstep, which has no records.
    pub counts: OutcomeCounts,
}

/// Which run it is.
#[derive(Clone, Debug)]
pub struct About {
    /// Where the status goes; `None`: nowhere.
    pub dir: Option<PathBuf>,
    /// The run.
    pub run: String,
    /// The rig's name.
    pub rig: String,
}

/// Takes the records that were booked.
pub type Onward = Box<dyn FnMut(&[TickRecord]) + Send>;

/// The running thread.
pub struct Bookkeeper {
    news: Arc<Mutex<News>>,
    stages: SyncSender<(Stage, u64)>,
    lost_stages: u64,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<Keeper>>,
}

/// Measurements of the policy that may wait.
const STAGES: usize = 1024;
/// The ring is emptied so often: it holds seconds.
const ROUND: Duration = Duration::from_millis(20);
/// So often the run's standing is told.
const TELL: Duration = Duration::from_millis(250);

impl Bookkeeper {
    /// Starts the thread. `records`: those of the control thread; `None` in lockstep.
    pub fn start(
        rig: &Rig,
        about: About,
        records: Option<HeapCons<TickRecord>>,
        onward: Onward,
    ) -> std::io::Result<Self> {
        let policy_ns = rig.policy_period_ns();
        let control_ns = policy_ns / u64::from(rig.ticks_per_step());
        let cameras = rig.spec().cameras;
        let (stages, measured) = sync_channel(STAGES);
        let news = Arc::new(Mutex::new(News::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let keeper = Keeper {
            accounts: Accounts::new(Budgets::new(control_ns, policy_ns)),
            clock: rig.clock,
            about,
            cameras: cameras.into_iter().map(|camera| camera.name).collect(),
            records,
            measured,
            onward,
            batch: Vec::new(),
            newest: None,
            faults: BTreeMap::new(),
            next: 0,
            news: Arc::clone(&news),
            is_told_of: false,
        };
        let over = Arc::clone(&ending);
        let thread = std::thread::Builder::new()
            .name("bookkeeper".to_owned())
            .spawn(move || keeper.keep(&over))?;
        Ok(Self {
            news,
            stages,
            lost_stages: 0,
            ending,
            thread: Some(thread),
        })
    }

    /// A stage of the policy took so long.
    pub fn took(&mut self, stage: Stage, duration_ns: u64) {
        if let Err(TrySendError::Full(_)) = self.stages.try_send((stage, duration_ns)) {
            self.lost_stages += 1;
        }
    }

    /// Something is new.
    pub fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Books what is left and says the last word. `last`: the control thread's own, after its last
    /// tick; `None` in lockstep.
    pub fn finish(mut self, last: Option<Report>) -> Option<(Status, Result<(), Unbalanced>)> {
        let mut keeper = self.end()?;
        keeper.accounts.lost_policy(self.lost_stages);
        Some(keeper.close(last))
    }

    fn end(&mut self) -> Option<Keeper> {
        self.ending.store(true, Ordering::Relaxed);
        let keeper = self.thread.take()?.join();
        if keeper.is_err() {
            tracing::error!("the bookkeeper ended by a panic; the run's figures are lost");
        }
        keeper.ok()
    }
}

impl Drop for Bookkeeper {
    /// A run that an error ends leaves its figures as well.
    fn drop(&mut self) {
        if let Some(keeper) = self.end() {
            // Nobody is left to be told whether they balance.
            let _ = keeper.close(None);
        }
    }
}

/// What the thread owns.
struct Keeper {
    accounts: Accounts,
    clock: ClockKind,
    about: About,
    cameras: Vec<String>,
    records: Option<HeapCons<TickRecord>>,
    measured: Receiver<(Stage, u64)>,
    onward: Onward,
    batch: Vec<TickRecord>,
    newest: Option<TickRecord>,
    faults: BTreeMap<FaultKind, u64>,
    /// Number of the tick after the newest.
    next: u64,
    news: Arc<Mutex<News>>,
    /// The disk's refusal of the status was told of.
    is_told_of: bool,
}

impl Keeper {
    fn keep(mut self, over: &AtomicBool) -> Self {
        let mut told = Instant::now();
        loop {
            // Asked before the ring is emptied: what came before the end is booked.
            let ends = over.load(Ordering::Relaxed);
            self.take();
            if ends {
                return self;
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let status = self.status(self.counts(), false);
                self.write(&status);
            }
            std::thread::sleep(ROUND);
        }
    }

    /// Empties the ring and the queue.
    fn take(&mut self) {
        for (stage, duration_ns) in self.measured.try_iter() {
            self.accounts.policy(stage, duration_ns);
        }
        let Some(records) = &mut self.records else {
            return;
        };
        self.batch.extend(records.pop_iter());
        for record in &self.batch {
            // What is missing between two numbers, and was not missed, is lost.
            let first = record.number - record.missed;
            self.accounts.lost(first.saturating_sub(self.next));
            self.accounts.missed(record.missed);
            self.accounts.tick(record.outcome, &record.times);
            self.next = record.number + 1;
            for kind in begun(self.newest.as_ref(), record).into_iter().flatten() {
                *self.faults.entry(kind).or_default() += 1;
            }
            self.newest = Some(*record);
        }
        if !self.batch.is_empty() {
            (self.onward)(&self.batch);
            self.batch.clear();
        }
    }

    fn counts(&self) -> OutcomeCounts {
        match self.clock {
            ClockKind::Monotonic => *self.accounts.outcomes(),
            ClockKind::Simulated => self.news().counts,
        }
    }

    fn news(&self) -> News {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, counts: OutcomeCounts, ended: bool) -> Status {
        let news = self.news();
        let newest = self.newest.as_ref();
        Status {
            run: self.about.run.clone(),
            rig: self.about.rig.clone(),
            unix_s: unix_now_s(),
            ended,
            timing: self.accounts.timing(self.clock, &counts),
            mode: newest
                .map_or("lockstep", |record| record.mode.name())
                .to_owned(),
            fault: newest.and_then(|record| Some(record.fault?.to_string())),
            faults: (self.faults.iter())
                .map(|(kind, times)| (kind.row().words.to_owned(), *times))
                .collect(),
            policy_version: news.policy_version,
            swaps: news.swaps,
            episodes: news.episodes,
            env_steps: news.env_steps,
            entries: news.entries,
            acknowledged: news.acknowledged,
            learner_alive: news.learner_alive,
            log_losses: news.log_losses,
            inputs_ms: newest
                .map(|record| self.ages_ms(record))
                .unwrap_or_default(),
        }
    }

    fn ages_ms(&self, record: &TickRecord) -> BTreeMap<String, Option<f64>> {
        let inputs = &record.inputs;
        let age = |then_ns: u64| inputs.now_ns.saturating_sub(then_ns) as f64 * 1e-6;
        let mut ages = BTreeMap::new();
        for (arm, report) in inputs.reports.iter().enumerate() {
            if let Some(report) = report {
                let captured_ns = report.ok().map(|state| state.captured_ns);
                ages.insert(format!("arm {arm}"), captured_ns.map(age));
            }
        }
        for (camera, &frame_ns) in self.cameras.iter().zip(&inputs.frames_ns) {
            ages.insert(
                format!("camera {camera}"),
                (frame_ns > 0).then(|| age(frame_ns)),
            );
        }
        let written_ns = inputs.order.written_ns;
        ages.insert(
            "policy".to_owned(),
            (written_ns > 0).then(|| age(written_ns)),
        );
        ages
    }

    /// The disk may refuse; the run goes on without, and it is told of once.
    fn write(&mut self, status: &Status) {
        if let Some(dir) = &self.about.dir
            && let Err(error) = status.write(dir)
            && !self.is_told_of
        {
            tracing::warn!("{error}");
            self.is_told_of = true;
        }
    }

    fn close(mut self, last: Option<Report>) -> (Status, Result<(), Unbalanced>) {
        let counts = match last {
            Some(last) => {
                self.accounts.lost(last.ticks.saturating_sub(self.next));
                last.counts
            }
            None => self.counts(),
        };
        let checked = match last {
            Some(_) => self.accounts.check(&counts),
            None => Ok(()),
        };
        let status = self.status(counts, true);
        self.write(&status);
        if let Some(dir) = &self.about.dir
            && let Err(error) = status.timing.write(dir)
        {
            tracing::warn!("{error}");
        }
        (status, checked)
    }
}

/// The faults that began with a tick: what holds or stops the arms now and did not before, and what
/// came with a new order or from an arm in spite of which the run goes on.
fn begun(before: Option<&TickRecord>, now: &TickRecord) -> [Option<FaultKind>; 4] {
    let kind = |record: &TickRecord| record.fault.map(|fault| fault.kind);
    let ordered = |record: &TickRecord| record.inputs.order.fault.map(|fault| fault.kind);
    let troubles = |record: &TickRecord| {
        record.inputs.reports.map(|report| match report {
            Some(Ok(state)) => state.trouble.map(|error| Fault::of_arm(0, error).kind),
            _ => None,
        })
    };
    let new =
        |was: Option<Option<FaultKind>>, is: Option<FaultKind>| is.filter(|_| was != Some(is));
    let fault = new(before.map(kind), kind(now));
    // The same fault of two steps in succession is two faults: each has spoilt a step.
    let written_ns = |record: &TickRecord| record.inputs.order.written_ns;
    let is_new_order = before.map(written_ns) != Some(written_ns(now));
    let order = ordered(now).filter(|kind| is_new_order && fault != Some(*kind));
    let arms: [Option<FaultKind>; MAX_ARMS] = std::array::from_fn(|arm| {
        new(
            before.map(|record| troubles(record)[arm]),
            troubles(now)[arm],
        )
    });
    let [left, right] = arms.map(|kind| kind.filter(|kind| fault != Some(*kind)));
    [fault, order, left, right]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hilt_drivers::{Arm, ArmError, fake::FakeArmPair};
    use hilt_realtime::Fake;

    use super::*;
    use crate::control::{ControlState, Order, tick};

    /// A tick of two arms that stand.
    fn record() -> TickRecord {
        const RIG: &str = include_str!("../../rigs/fake-dual.toml");
        let rig = Rig::parse("rig.toml", Path::new("."), RIG, &[]).unwrap();
        let pair = FakeArmPair::new(2).unwrap();
        let mut arms = [0, 1].map(|arm| Box::new(pair.arm(arm)));
        let config = rig.control(arms.iter().map(|arm| arm.chain()));
        let mut state = ControlState::at([None; MAX_ARMS]);
        let (order, frames_ns) = (Order::default(), [0; 8]);
        let clock = Fake::default();
        tick(
            &config, &mut state, &mut arms, &clock, 0, 0, 0, order, frames_ns, false,
        )
    }

    #[test]
    fn what_lasts_is_one_fault_and_every_spoilt_step_is_one() {
        let mut ticks = vec![record(); 6];
        for (number, tick) in ticks.iter_mut().enumerate() {
            tick.fault = (2..5)
                .contains(&number)
                .then(|| Fault::at(FaultKind::FrameStale, 0));
            tick.inputs.order.fault = Some(Fault::at(FaultKind::PolicyOutOfBounds, 0));
            tick.inputs.order.written_ns = number as u64 / 3;
            let silent = (number == 1).then_some(ArmError::Silent(3));
            for report in tick.inputs.reports.iter_mut().flatten().flatten() {
                report.trouble = silent;
            }
        }
        let mut counted: BTreeMap<FaultKind, u64> = BTreeMap::new();
        let mut before = None;
        for tick in &ticks {
            for kind in begun(before, tick).into_iter().flatten() {
                *counted.entry(kind).or_default() += 1;
            }
            before = Some(tick);
        }
        let expected = [
            // Of both arms.
            (FaultKind::ServoSilent, 2),
            (FaultKind::FrameStale, 1),
            (FaultKind::PolicyOutOfBounds, 2),
        ];
        assert_eq!(counted, expected.into());
    }
}
