//! Ticks taken again: the same state, the same inputs, the same step, arms without devices.

use std::cell::Cell;

use hilt_drivers::{ArmError, Replica};
use hilt_realtime::Clock;

use super::Difference;
use crate::{
    control::{ControlConfig, ControlState, Fault, TickRecord, tick, timed},
    tick::TickTimes,
    tick_log::{Began, encode_tick},
};

/// A clock that says what it said then, each time once; at last the last for ever.
struct Script {
    times: [u64; 3],
    next: Cell<usize>,
}

impl Script {
    fn new(times: &TickTimes) -> Self {
        Self {
            times: [times.read_ns, times.decided_ns, times.written_ns],
            next: Cell::new(0),
        }
    }
}

impl Clock for Script {
    fn now_ns(&self) -> u64 {
        let place = self.next.get();
        self.next.set((place + 1).min(self.times.len() - 1));
        self.times[place]
    }

    fn sleep_until_ns(&self, _deadline_ns: u64) {}
}

/// A control loop taken again.
pub(super) struct Replay {
    config: ControlConfig,
    late_ns: u64,
    state: ControlState,
    #[expect(clippy::vec_box, reason = "as a tick takes them")]
    arms: Vec<Box<Replica>>,
}

impl Replay {
    /// From its beginning; the error says why there can be none.
    pub fn new(began: &Began) -> Result<Self, String> {
        let replica = |arm: &crate::tick_log::ArmAbout| {
            let replica = Replica::new(arm.chain.clone(), &arm.encoding, &arm.will);
            replica.map(Box::new).map_err(|e| e.to_string())
        };
        Ok(Self {
            config: began.config,
            late_ns: began.late_ns,
            state: ControlState::at(began.targets),
            arms: began.arms.iter().map(replica).collect::<Result<_, _>>()?,
        })
    }

    /// Takes a tick again and says what is not as in the log.
    pub fn take(&mut self, logged: &TickRecord) -> Vec<Difference> {
        let inputs = &logged.inputs;
        for (index, arm) in self.arms.iter_mut().enumerate() {
            let report = inputs.reports[index].unwrap_or(Err(ArmError::Device));
            let will = logged.sent[index].as_slice();
            arm.tell(report, logged.written[index], will);
        }
        let due_ns = logged.times.due_ns;
        let mut again = tick(
            &self.config,
            &mut self.state,
            &mut self.arms,
            &Script::new(&logged.times),
            due_ns,
            logged.times.woke_ns,
            due_ns,
            inputs.order,
            inputs.frames_ns,
            inputs.overtaken,
        );
        (again.number, again.missed) = (logged.number, logged.missed);
        again.outcome = timed(
            again.outcome,
            &again.times,
            self.late_ns,
            self.config.tick_ns,
        );
        if encode_tick(&again) == encode_tick(logged) {
            return Vec::new();
        }
        differences(logged, &again)
    }
}

fn differences(logged: &TickRecord, again: &TickRecord) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |what: String, logged: String, again: String| {
        if logged != again {
            found.push(Difference {
                what,
                logged,
                recomputed: again,
            });
        }
    };
    let time = |ns: u64| format!("{ns} ns");
    compare(
        "the tick's time".to_owned(),
        time(logged.inputs.now_ns),
        time(again.inputs.now_ns),
    );
    let mode = |record: &TickRecord| record.mode.name().to_owned();
    compare("the mode".to_owned(), mode(logged), mode(again));
    let fault = |fault: Option<Fault>| fault.map_or("none".to_owned(), |f| format!("{f} ({f:?})"));
    compare(
        "the fault".to_owned(),
        fault(logged.fault),
        fault(again.fault),
    );
    let outcome = |record: &TickRecord| record.outcome.name().to_owned();
    compare("the outcome".to_owned(), outcome(logged), outcome(again));
    for arm in 0..logged.sent.len() {
        let report = |record: &TickRecord| format!("{:?}", record.inputs.reports[arm]);
        compare(format!("arm {arm}'s report"), report(logged), report(again));
        let sent = |record: &TickRecord| hex(record.sent[arm].as_slice());
        compare(
            format!("arm {arm}'s command bytes"),
            sent(logged),
            sent(again),
        );
        let said = |record: &TickRecord| {
            record.written[arm].map_or("no error".to_owned(), |e| format!("{e} ({e:?})"))
        };
        compare(
            format!("what arm {arm} said to them"),
            said(logged),
            said(again),
        );
    }
    let hash = |record: &TickRecord| format!("{:016x}", record.hash);
    compare("the state hash".to_owned(), hash(logged), hash(again));
    found
}

/// Bytes as people write them.
fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match bytes.is_empty() {
        true => "none".to_owned(),
        false => bytes.join(" "),
    }
}
