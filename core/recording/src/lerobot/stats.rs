//! What LeRobot wants to know of each feature before it trains: extremes, mean, deviation and quantiles.

use std::cmp::Ordering;

use serde_json::{Value, json};

/// What is known of a column, by LeRobot's names.
pub(super) const STATISTICS: [&str; 9] = [
    "min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99",
];
/// The shares of the numbers that lie below the quantiles, the last five of them.
const SHARES: [f64; 5] = [0.01, 0.10, 0.50, 0.90, 0.99];

/// How one column of numbers is distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub std: f64,
    pub quantiles: [f64; 5],
}

impl Spread {
    /// Of some numbers, at least one, all finite.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        let levels = values.iter().map(|&value| (value, 1));
        Self::of_sorted(levels, values.len() as u64)
    }

    /// Of `total` numbers, from the smallest value on, with how many there are of each.
    fn of_sorted(levels: impl Iterator<Item = (f64, u64)> + Clone, total: u64) -> Self {
        let count = total as f64;
        let sum: f64 = levels
            .clone()
            .map(|(value, times)| value * times as f64)
            .sum();
        let mean = sum / count;
        let squares = levels
            .clone()
            .map(|(value, times)| (value - mean).powi(2) * times as f64);
        // The value of that rank. LeRobot has the place in a bin, a 5,000th of the range wide, where it lies.
        let at = |rank: u64| {
            let mut before = 0;
            let mut levels = levels.clone();
            let found = levels.find(|(_, times)| {
                before += times;
                before >= rank
            });
            found.map_or(mean, |(value, _)| value)
        };
        Self {
            min: at(1),
            max: at(total),
            mean,
            std: (squares.sum::<f64>() / count).sqrt(),
            quantiles: SHARES.map(|share| at(((share * count).ceil() as u64).max(1))),
        }
    }

    /// As LeRobot puts the parts of a dataset together: extremes, mean and deviation of all, and of the quantiles the
    /// mean, each part by the numbers in it.
    fn and(&self, counts: [f64; 2], other: &Self) -> Self {
        let [ours, theirs] = counts.map(|count| count / (counts[0] + counts[1]));
        let mean = self.mean * ours + other.mean * theirs;
        let variance = |part: &Self| part.std.powi(2) + (part.mean - mean).powi(2);
        let mut quantiles = self.quantiles;
        for (quantile, theirs_is) in quantiles.iter_mut().zip(other.quantiles) {
            *quantile = *quantile * ours + theirs_is * theirs;
        }
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            mean,
            std: (variance(self) * ours + variance(other) * theirs).sqrt(),
            quantiles,
        }
    }
}

/// How the columns of a feature are distributed over some frames.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stats {
    pub columns: Vec<Spread>,
    /// Frames.
    pub count: u64,
}

impl Stats {
    /// Of rows of `width` numbers, one after the other; at least one row.
    pub fn of_rows(rows: &[f64], width: usize) -> Self {
        let column = |i: usize| rows.iter().copied().skip(i).step_by(width).collect();
        Self {
            columns: (0..width).map(|i| Spread::of(column(i))).collect(),
            count: (rows.len() / width) as u64,
        }
    }

    /// Together with further frames.
    pub fn and(&self, other: &Self) -> Self {
        let counts = [self.count as f64, other.count as f64];
        let columns = self.columns.iter().zip(&other.columns);
        Self {
            columns: columns.map(|(a, b)| a.and(counts, b)).collect(),
            count: self.count + other.count,
        }
    }

    /// One of [`STATISTICS`] of each column.
    pub fn of_each(&self, statistic: usize) -> Vec<f64> {
        let pick = |column: &Spread| {
            let [q01, q10, q50, q90, q99] = column.quantiles;
            let (min, max) = (column.min, column.max);
            [min, max, column.mean, column.std, q01, q10, q50, q90, q99][statistic]
        };
        self.columns.iter().map(pick).collect()
    }

    /// As it is in `meta/stats.json`; `value` puts one number of a statistic as the feature has it.
    pub fn json(&self, value: impl Fn(&str, f64) -> Value) -> Value {
        let mut map = serde_json::Map::new();
        for (i, name) in STATISTICS.into_iter().enumerate() {
            let numbers = self.of_each(i).into_iter().map(|n| value(name, n));
            map.insert(name.into(), numbers.collect());
        }
        map.insert("count".into(), json!([self.count]));
        Value::Object(map)
    }
}

/// How often each value occurs in each colour of some pictures.
#[derive(Clone, Debug)]
pub(super) struct Colours {
    levels: [[u64; 256]; 3],
    pictures: u64,
}

impl Colours {
    pub fn new() -> Self {
        Self {
            levels: [[0; 256]; 3],
            pictures: 0,
        }
    }

    /// Counts a picture, of which LeRobot leaves out rows and columns if it is large.
    pub fn add(&mut self, rgb: &[u8], [height, width]: [u32; 2]) {
        let longest = height.max(width) as usize;
        let stride = if longest < 300 { 1 } else { longest / 150 };
        let (width, pixels) = (width as usize * 3, 3 * stride);
        for row in rgb.chunks_exact(width.max(1)).step_by(stride) {
            for pixel in row.chunks(pixels) {
                for (levels, &value) in self.levels.iter_mut().zip(pixel) {
                    levels[usize::from(value)] += 1;
                }
            }
        }
        self.pictures += 1;
    }

    /// In [0, 1], a column for each colour; at least one picture.
    pub fn stats(&self) -> Stats {
        let spread = |levels: &[u64; 256]| {
            let sorted = (levels.iter().enumerate())
                .filter(|(_, times)| **times > 0)
                .map(|(value, &times)| (value as f64 / 255.0, times));
            Spread::of_sorted(sorted, levels.iter().sum())
        };
        Stats {
            columns: self.levels.iter().map(spread).collect(),
            count: self.pictures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_column_everything_is_known() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((spread.min, spread.max, spread.mean), (1.0, 100.0, 50.5));
        assert!((spread.std - 28.866_07).abs() < 1e-4);
        assert_eq!(spread.quantiles, [1.0, 10.0, 50.0, 90.0, 99.0]);
        let one = Spread::of(vec![3.0]);
        assert_eq!((one.std, one.quantiles), (0.0, [3.0; 5]));
    }

    #[test]
    fn two_parts_are_as_the_whole_but_for_the_quantiles() {
        let numbers: Vec<f64> = (0..30).map(|i| f64::from(i * i % 17)).collect();
        let whole = Stats::of_rows(&numbers, 2);
        let parts = Stats::of_rows(&numbers[..8], 2).and(&Stats::of_rows(&numbers[8..], 2));
        assert_eq!(parts.count, 15);
        for (a, b) in whole.columns.iter().zip(&parts.columns) {
            assert_eq!((a.min, a.max), (b.min, b.max));
            assert!((a.mean - b.mean).abs() < 1e-12 && (a.std - b.std).abs() < 1e-12);
        }
    }

    #[test]
    fn colours_are_counted_apart_and_large_pictures_thinned() {
        let mut colours = Colours::new();
        colours.add(&[0, 51, 255, 0, 102, 255], [1, 2]);
        let stats = colours.stats();
        assert_eq!(stats.count, 1);
        assert_eq!(stats.columns[0].max, 0.0);
        assert_eq!((stats.columns[1].min, stats.columns[1].max), (0.2, 0.4));
        assert_eq!((stats.columns[2].mean, stats.columns[2].std), (1.0, 0.0));
        let mut large = Colours::new();
        large.add(&vec![9; 600 * 16 * 3], [16, 600]);
        assert_eq!(large.levels[0][9], 4 * 150);
    }
}
