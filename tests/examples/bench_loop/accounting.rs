//! What a tick pays for being in the books, without load: handing its record on and counting its
//! outcome on the control thread, and booking it on another.

use std::{fmt, time::Instant};

use anyhow::{Context, Result};
use hilt_realtime::Wanted;
use hilt_runtime::{
    accounting::{Accounts, Budgets},
    control::TickRecord,
    tick::OutcomeCounts,
};
use hilt_tests::statistics::quantile;
use ringbuf::{
    HeapRb,
    traits::{Consumer, Producer, Split},
};

use super::ours::{Body, Running};

/// As many as the ring holds, so that none is in a cache when it is written again.
const BATCH: usize = 4096;
const BATCHES: usize = 60;
const PERIOD_NS: u64 = 1_000_000;

/// Per tick, the medians of batches.
pub struct Cost {
    hand_on_ns: f64,
    count_ns: f64,
    book_ns: f64,
}

impl Cost {
    /// All of it.
    pub fn total_ns(&self) -> f64 {
        self.hand_on_ns + self.count_ns + self.book_ns
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accounting: {:.0} ns to hand a tick's record on, {:.1} ns to count it; on the other \
             thread {:.0} ns to book it",
            self.hand_on_ns, self.count_ns, self.book_ns
        )
    }
}

/// The size of a record, bytes, and what it costs.
pub fn measure(body: &Body) -> Result<(usize, Cost)> {
    let mut running = Running::start(body, Wanted::default(), PERIOD_NS)?;
    let end_ns = running.ready_ns + BATCH as u64 * PERIOD_NS;
    running.until(end_ns);
    let records = running.finish(end_ns)?;
    let record = |i: usize| &records[i % records.len()];

    let (mut ring, mut taken) = HeapRb::<TickRecord>::new(BATCH).split();
    let mut counts = OutcomeCounts::default();
    let mut accounts = Accounts::new(Budgets::new(PERIOD_NS, 100 * PERIOD_NS));
    let mut batches = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..BATCHES {
        let [hand_on, count, book] = &mut batches;
        let start = Instant::now();
        for i in 0..BATCH {
            // There is room for as many.
            let _ = std::hint::black_box(ring.try_push(*record(i)));
        }
        hand_on.push(start.elapsed().as_nanos() as u64);
        let start = Instant::now();
        for i in 0..BATCH {
            std::hint::black_box(&mut counts).add(record(i).outcome, 1);
        }
        count.push(start.elapsed().as_nanos() as u64);
        let all: Vec<TickRecord> = taken.pop_iter().collect();
        let start = Instant::now();
        for record in &all {
            std::hint::black_box(&mut accounts).tick(record.outcome, &record.times);
        }
        book.push(start.elapsed().as_nanos() as u64);
    }
    accounts.check(&counts)?;
    let mut medians = batches.iter_mut().map(|batch| quantile(batch, 0.5));
    let mut next = || {
        let median = medians.next().flatten().context("nothing was measured")?;
        anyhow::Ok(median as f64 / BATCH as f64)
    };
    let cost = Cost {
        hand_on_ns: next()?,
        count_ns: next()?,
        book_ns: next()?,
    };
    Ok((size_of::<TickRecord>(), cost))
}
