//! What benches compute from what they measured. Pure.

use hilt_protocol::noise::Uniforms;

/// Two things measured in turns, a block of one right beside a block of the other: whatever else
/// the machine does, it does to both.
pub type Pair = [Vec<u64>; 2];

/// The value that a share of all values does not exceed (nearest rank); `None` without values.
/// Reorders them.
pub fn quantile(values: &mut [u64], share: f64) -> Option<u64> {
    let rank = (values.len() as f64 * share).ceil() as usize;
    let index = rank.clamp(1, values.len().max(1)) - 1;
    (index < values.len()).then(|| *values.select_nth_unstable(index).1)
}

/// The quantile of either side, over all blocks; `None` where a side has no values.
pub fn quantiles<'a>(
    pairs: impl Iterator<Item = &'a Pair> + Clone,
    share: f64,
) -> Option<[u64; 2]> {
    let side = |side: usize| {
        let mut pooled: Vec<u64> = pairs
            .clone()
            .flat_map(|pair| &pair[side])
            .copied()
            .collect();
        quantile(&mut pooled, share)
    };
    Some([side(0)?, side(1)?])
}

/// Of the first side's quantile to the second's.
pub fn ratio([a, b]: [u64; 2]) -> f64 {
    a as f64 / b as f64
}

/// Where that ratio lies with 95 % confidence, by the bootstrap: whole pairs are drawn, because
/// what is measured within a block is not independent of one another.
pub fn ratio_interval(pairs: &[Pair], share: f64, seed: u64) -> Option<[f64; 2]> {
    const RESAMPLES: usize = 1000;
    let mut random = Uniforms::new(seed);
    let mut ratios = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let drawn: Vec<&Pair> = (0..pairs.len())
            .map(|_| &pairs[random.below(pairs.len() as u64) as usize])
            .collect();
        ratios.push(ratio(quantiles(drawn.into_iter(), share)?));
    }
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[((RESAMPLES - 1) as f64 * share) as usize];
    Some([at(0.025), at(0.975)])
}

/// How far a loop runs away from its period, milliseconds in 10 s. `wakes` are the numbers of its
/// ticks, and when each began in nanoseconds; `None` where there are too few.
///
/// Compared are the medians of the first and the last tenth: a late tick alone is no drift.
pub fn drift_ms_per_10s(wakes: &[(u64, u64)], period_ns: u64) -> Option<f64> {
    let (first, tenth) = (wakes.first()?, wakes.len() / 10);
    let behind_ns = |&(number, woke_ns): &(u64, u64)| {
        (woke_ns - first.1) as i64 - ((number - first.0) * period_ns) as i64
    };
    let middle_ns = |part: &[(u64, u64)]| {
        let mut behind_ns: Vec<i64> = part.iter().map(behind_ns).collect();
        behind_ns.sort();
        Some((
            part.get(part.len() / 2)?.1,
            *behind_ns.get(behind_ns.len() / 2)?,
        ))
    };
    let (begin_ns, before_ns) = middle_ns(&wakes[..tenth])?;
    let (end_ns, after_ns) = middle_ns(&wakes[wakes.len() - tenth..])?;
    Some((after_ns - before_ns) as f64 / (end_ns - begin_ns) as f64 * 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut hundred: Vec<u64> = (1..=100).rev().collect();
        for (share, value) in [(0.0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)] {
            assert_eq!(quantile(&mut hundred, share), Some(value), "{share}");
        }
        assert_eq!(quantile(&mut [], 0.5), None);
        let pairs = [[vec![1, 2], vec![10]], [vec![3], vec![]]];
        assert_eq!(quantiles(pairs.iter(), 1.0), Some([3, 10]));
        assert_eq!(quantiles(pairs[1..].iter(), 1.0), None);
    }

    /// Blocks of 200 values about a level that differs from pair to pair, one side `factor` times
    /// the other.
    fn pairs(factor: f64) -> Vec<Pair> {
        let mut random = Uniforms::new(3);
        let mut block = |level: f64| -> Vec<u64> {
            (0..200)
                .map(|_| (level * random.range(0.8, 1.2)) as u64)
                .collect()
        };
        let level = |pair: u64| 10_000.0 * (1 + pair % 4) as f64;
        (0..12)
            .map(|pair| [block(level(pair) * factor), block(level(pair))])
            .collect()
    }

    #[test]
    fn the_interval_holds_the_true_ratio_and_is_narrow_where_the_blocks_agree() {
        for factor in [0.5, 1.0, 1.5] {
            for share in [0.5, 0.99] {
                let pairs = pairs(factor);
                let [low, high] = ratio_interval(&pairs, share, 7).unwrap();
                let point = ratio(quantiles(pairs.iter(), share).unwrap());
                assert!(low <= factor && factor <= high, "{factor}: {low} to {high}");
                assert!(low <= point && point <= high);
                assert!(high - low < 0.3 * factor, "{factor}: {low} to {high}");
            }
        }
        assert_eq!(
            ratio_interval(&pairs(1.5), 0.5, 7),
            ratio_interval(&pairs(1.5), 0.5, 7)
        );
        assert_eq!(ratio_interval(&[[vec![], vec![]]], 0.5, 7), None);
    }

    #[test]
    fn one_odd_block_makes_the_interval_wide() {
        let mut odd = pairs(1.0);
        odd[5][0].iter_mut().for_each(|value| *value *= 50);
        let [low, high] = ratio_interval(&odd, 0.99, 7).unwrap();
        assert!(low < 1.2 && high > 10.0, "{low} to {high}");
    }

    /// Ticks of 2 ms for 10 s, each `extra_ns` longer than that, and some late.
    fn wakes(extra_ns: u64, missing: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
        let late_ns = |number: u64| {
            if number.is_multiple_of(7) {
                900_000
            } else {
                number % 5
            }
        };
        (0..5000)
            .filter(|&number| !missing(number))
            .map(|number| {
                (
                    number,
                    77 + number * (2_000_000 + extra_ns) + late_ns(number),
                )
            })
            .collect()
    }

    #[test]
    fn drift_is_what_adds_up_and_neither_lateness_nor_missed_ticks() {
        let drift = |wakes: &[(u64, u64)]| drift_ms_per_10s(wakes, 2_000_000).unwrap();
        assert!(drift(&wakes(0, |_| false)).abs() < 1e-4);
        assert!(drift(&wakes(0, |number| (1000..1400).contains(&number))).abs() < 1e-4);
        // 60 µs in each of 5000 ticks.
        let drifted = drift(&wakes(60_000, |_| false));
        assert!((drifted - 300.0 / 1.03).abs() < 0.1, "{drifted}");
        assert_eq!(drift_ms_per_10s(&[], 1), None);
        assert_eq!(drift_ms_per_10s(&[(0, 5)], 1), None);
    }
}
