//! How punctual the control loop is: hilt's own, with its step, its records and an arm in memory,
//! beside `cyclictest` on the same core, at the same priority, with the same load.
//!
//! - [`load`]: what else the machine is made to do: inference, two rendering cameras, `stress-ng`.
//! - [`ours`]: the control loop as the product runs it, and what its records say.
//! - [`peers`]: `cyclictest`, or what takes its place without privileges; and a loop that sleeps for
//!   what is left of its period.
//! - [`swaps`]: new policy weights all the time, and what the loop notices of them.
//! - [`accounting`]: what a tick pays for its record.
//!
//! The two take turns in blocks, and which one begins changes from pair to pair. A tick's lateness
//! is counted from the deadline that it slept for, also where that is so long ago that the loop
//! calls it missed: so does `cyclictest`. Only ratios of a shared machine's figures mean anything.
//!
//! Rows (JSON lines on stdout): `loop.500hz.…` and `loop.1khz.…`: `p50_us`, `p99_us`, `p999_us`;
//! `loop.drift_ms_per_10s`, `loop.accounting_ns`, `loop.missed_by_swap`, `loop.swap_us`. For the
//! reader, on stderr: intervals, the worst, and what the system did not grant.

mod accounting;
mod load;
mod ours;
mod peers;
mod swaps;

use anyhow::{Context, Result};
use hilt_realtime::{Missing, Wanted, cores, keep_off};
use hilt_tests::{
    Untrained,
    statistics::{Pair, drift_ms_per_10s, quantiles, ratio, ratio_interval},
};

use load::Load;
use ours::Body;

/// Pairs of blocks at each rate, and a block's length: a minute for either side.
const PAIRS: u64 = 24;
const BLOCK_NS: u64 = 2_500_000_000;
const RATES: [(&str, u64); 2] = [("500hz", 2_000_000), ("1khz", 1_000_000)];
/// As the product's (`hilt_runtime::rig::Realtime`).
const PRIORITY: u8 = 80;

/// What loop and peers get of the system, the same for all.
fn granted() -> Result<Wanted> {
    let core = cores::spare_here();
    match core {
        Some(core) => keep_off(core)?,
        None => eprintln!("there is only one core: the loop shares it with everything else"),
    }
    let mut wanted = Wanted {
        core: core.or(cores::usable().first().copied()),
        priority: Some(PRIORITY),
        lock_memory: true,
    };
    // Tried on a thread of its own, with which priority and core end.
    let missing = std::thread::spawn(move || wanted.apply());
    for missing in missing.join().unwrap_or_default() {
        eprintln!("{missing}");
        match missing {
            Missing::Priority { .. } | Missing::PriorityRefused { .. } => {
                eprintln!(
                    "cyclictest does not start without it: the peer is a bare loop instead, and \
                     both run at normal priority"
                );
                wanted.priority = None;
            }
            Missing::MemoryLimit { .. } | Missing::MemoryRefused { .. } => {
                wanted.lock_memory = false;
            }
            _ => {}
        }
    }
    Ok(wanted)
}

fn row(name: &str, unit: &str, value: f64, peer: Option<(&str, f64)>) {
    let row = serde_json::json!({
        "name": name, "value": value, "unit": unit,
        "peer": peer.map(|peer| peer.0),
        "peer_value": peer.map(|peer| peer.1),
        "ratio": peer.map(|peer| value / peer.1),
    });
    println!("{row}");
}

/// Blocks of hilt's loop and of `cyclictest` in turns; what each of ours was like.
fn take_turns(
    body: &Body,
    wanted: Wanted,
    period_ns: u64,
) -> Result<(Vec<Pair>, Vec<ours::Measured>)> {
    let (mut pairs, mut ours) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mine = || ours::measure(body, wanted, period_ns, BLOCK_NS);
        let theirs = || match wanted.priority {
            Some(priority) => peers::cyclictest(wanted, priority, period_ns, BLOCK_NS),
            None => peers::bare(wanted, period_ns, BLOCK_NS),
        };
        let (measured, late_ns) = if pair % 2 == 0 {
            (mine()?, theirs()?)
        } else {
            let late_ns = theirs()?;
            (mine()?, late_ns)
        };
        pairs.push([measured.late_ns.clone(), late_ns]);
        ours.push(measured);
    }
    Ok((pairs, ours))
}

fn rows_of_rate(rate: &str, peer: &str, pairs: &[Pair], ours: &[ours::Measured]) -> Result<()> {
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        let both = quantiles(pairs.iter(), share).context("a side has no ticks")?;
        let [low, high] = ratio_interval(pairs, share, 1).context("a side has no ticks")?;
        let [value, peer_value] = both.map(|ns| ns as f64 * 1e-3);
        let times = ratio(both);
        eprintln!("{rate} {name}: ×{times:.3} of {peer}, 95 % within {low:.3} to {high:.3}");
        let name = format!("loop.{rate}.{name}_us");
        row(&name, "us", value, Some((peer, peer_value)));
    }
    let worst = quantiles(pairs.iter(), 1.0).context("a side has no ticks")?;
    let [value, peer_value] = worst.map(|ns| ns / 1000);
    let missed: u64 = ours.iter().map(|measured| measured.missed).sum();
    eprintln!("{rate} worst: {value} us, {peer} {peer_value} us; missed ticks: {missed}");
    Ok(())
}

/// The middle of what the blocks show.
fn drift(blocks: &[Vec<(u64, u64)>], period_ns: u64) -> Result<f64> {
    let drifts = blocks
        .iter()
        .map(|wakes| drift_ms_per_10s(wakes, period_ns));
    let mut drifts: Vec<f64> = drifts.collect::<Option<_>>().context("too few ticks")?;
    drifts.sort_by(f64::total_cmp);
    drifts.get(drifts.len() / 2).copied().context("no blocks")
}

fn main() -> Result<()> {
    let wanted = granted()?;
    let made = Untrained::new(1)?;
    let body = Body::new(&made.rig)?;
    let (record, cost) = accounting::measure(&body)?;
    eprintln!("{cost}; a record has {record} bytes");

    let peer = wanted.priority.map_or("bare loop", |_| "cyclictest");
    let load = Load::start(&made, &body.frames, wanted.core)?;
    let mut at_500hz = Vec::new();
    for (rate, period_ns) in RATES {
        let (pairs, ours) = take_turns(&body, wanted, period_ns)?;
        rows_of_rate(rate, peer, &pairs, &ours)?;
        if at_500hz.is_empty() {
            at_500hz = ours.into_iter().map(|measured| measured.wakes).collect();
        }
    }
    let period_ns = RATES[0].1;
    let relative = peers::relative_sleep(&body, wanted, period_ns, 4 * BLOCK_NS)?;
    row(
        "loop.drift_ms_per_10s",
        "ms",
        drift(&at_500hz, period_ns)?,
        Some(("relative sleep", drift(&[relative], period_ns)?)),
    );
    row("loop.accounting_ns", "ns", cost.total_ns(), None);
    let swaps = swaps::measure(&body, wanted, period_ns, &load)?;
    eprintln!("{swaps}");
    row("loop.missed_by_swap", "ticks", swaps.missed_by_swap(), None);
    row("loop.swap_us", "us", swaps.p99_us(), None);
    load.stop()
}
