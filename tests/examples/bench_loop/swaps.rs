//! New weights for the policy, one after the other, and what the loop notices of them.

use std::{fmt, time::Duration};

use anyhow::{Context, Result, ensure};
use hilt_protocol::ModelSnapshot;
use hilt_realtime::{Clock, Monotonic, Wanted};
use hilt_runtime::control::TickRecord;
use hilt_tests::statistics::quantile;

use super::{
    load::Load,
    ours::{Body, Running},
};

const SWAPS: u64 = 1000;
/// After the swap the weights of before are still to be freed, when the next ones come.
const AFTER_NS: u64 = 4_000_000;
/// Longer than any swap takes.
const PATIENCE_NS: u64 = 20_000_000_000;

/// What was found.
pub struct Swaps {
    /// Ticks in the windows with a swap, and in those without.
    ticks: [u64; 2],
    /// Missed ones of these.
    missed: [u64; 2],
    took_ns: Vec<u64>,
    with_p50: Duration,
}

impl Swaps {
    /// Ticks missed beside a swap, less those missed in as many windows of the same length without.
    pub fn missed_by_swap(&self) -> f64 {
        self.missed[0] as f64 - self.missed[1] as f64
    }

    /// What the policy thread pays for a swap.
    pub fn p99_us(&self) -> f64 {
        let mut took_ns = self.took_ns.clone();
        quantile(&mut took_ns, 0.99).map_or(f64::NAN, |ns| ns as f64 * 1e-3)
    }
}

impl fmt::Display for Swaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([with, without], [of_with, of_without]) = (self.missed, self.ticks);
        write!(
            f,
            "{SWAPS} swaps, each about {:?} from snapshot to acting: {with} of {of_with} ticks \
             missed beside them, {without} of {of_without} in as many windows without",
            self.with_p50
        )
    }
}

/// Windows with a swap and windows without take turns, all while the loop runs.
pub fn measure(body: &Body, wanted: Wanted, period_ns: u64, load: &Load) -> Result<Swaps> {
    let mut running = Running::start(body, wanted, period_ns)?;
    running.until(running.ready_ns);
    let (mut windows, mut took_ns) = ([Vec::new(), Vec::new()], Vec::new());
    for swap in 0..SWAPS {
        let start_ns = Monotonic.now_ns();
        let snapshot = ModelSnapshot {
            version: load.snapshot.version + 1 + swap,
            ..load.snapshot.clone()
        };
        let version = snapshot.version;
        load.snapshots.send(snapshot)?;
        let swapped = loop {
            running.look();
            if let Ok(swapped) = load.swaps.recv_timeout(Duration::from_millis(2)) {
                break swapped;
            }
            let waited_ns = Monotonic.now_ns() - start_ns;
            ensure!(
                waited_ns < PATIENCE_NS,
                "snapshot {version} did not become active"
            );
        };
        ensure!(swapped.version == version, "another version became active");
        took_ns.push(swapped.took.as_nanos() as u64);
        running.until(Monotonic.now_ns() + AFTER_NS);
        let end_ns = Monotonic.now_ns();
        windows[0].push((start_ns, end_ns));
        running.until(end_ns + (end_ns - start_ns));
        windows[1].push((end_ns, Monotonic.now_ns().min(end_ns + (end_ns - start_ns))));
    }
    let records = running.finish(Monotonic.now_ns())?;
    let mut lasted_ns: Vec<u64> = windows[0].iter().map(|(start, end)| end - start).collect();
    let with_p50 = quantile(&mut lasted_ns, 0.5).context("there was no swap")?;
    let [with, without] = windows.map(|windows| count(&records, &windows, period_ns));
    Ok(Swaps {
        ticks: [with.0, without.0],
        missed: [with.1, without.1],
        took_ns,
        with_p50: Duration::from_nanos(with_p50),
    })
}

/// Ticks that were due within one of the windows, which are in order; and missed ones of them.
fn count(records: &[TickRecord], windows: &[(u64, u64)], period_ns: u64) -> (u64, u64) {
    let inside = |due_ns: u64| {
        let next = windows.partition_point(|(start_ns, _)| *start_ns <= due_ns);
        next > 0 && due_ns < windows[next - 1].1
    };
    let (mut ticks, mut missed) = (0, 0);
    for record in records {
        ticks += u64::from(inside(record.times.due_ns));
        for back in 1..=record.missed {
            let was_missed = u64::from(inside(record.times.due_ns - back * period_ns));
            (ticks, missed) = (ticks + was_missed, missed + was_missed);
        }
    }
    (ticks, missed)
}
