//! Figures of a stream that is not kept: their memory does not grow with it.

use std::collections::BTreeMap;

use serde::Serialize;

/// Least, mean, standard deviation (of all, not of a sample) and greatest of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
    /// The greatest.
    pub max: f64,
}

/// A [`Spread`] in the making, by Welford's recurrence: a sum of squares would lose what a small deviation of large
/// numbers is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    count: u64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Running {
    /// One more, a finite one.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        (self.min, self.max) = match self.count {
            1 => (value, value),
            _ => (self.min.min(value), self.max.max(value)),
        };
        let off = value - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (value - self.mean);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What they came to; `None` of none.
    pub fn spread(&self) -> Option<Spread> {
        (self.count > 0).then(|| Spread {
            min: self.min,
            mean: self.mean,
            std: (self.squares / self.count as f64).sqrt(),
            max: self.max,
        })
    }
}

/// How many numbers lie where: bins of one width, a power of two that grows with what comes, so that there are never
/// more than [`Histogram::MOST`] of them.
#[derive(Clone, Debug)]
pub struct Histogram {
    exponent: i32,
    bins: BTreeMap<i64, u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            exponent: -40,
            bins: BTreeMap::new(),
        }
    }
}

impl Histogram {
    /// Bins, from the first to the last, empty ones among them.
    pub const MOST: i64 = 64;
    /// Places up to here are whole numbers of an `f64`.
    const FARTHEST: f64 = (1i64 << 52) as f64;

    /// One more, a finite one.
    pub fn add(&mut self, value: f64) {
        while (value / self.width()).abs() >= Self::FARTHEST {
            self.coarsen();
        }
        let place = (value / self.width()).floor() as i64;
        *self.bins.entry(place).or_default() += 1;
        while self.span() > Self::MOST {
            self.coarsen();
        }
    }

    fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    fn span(&self) -> i64 {
        let ends = self.bins.keys().next().zip(self.bins.keys().next_back());
        ends.map_or(0, |(first, last)| last - first + 1)
    }

    fn coarsen(&mut self) {
        self.exponent += 1;
        for (place, count) in std::mem::take(&mut self.bins) {
            *self.bins.entry(place.div_euclid(2)).or_default() += count;
        }
    }

    /// From, to and how many of each bin that is not empty, in order.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        let width = self.width();
        (self.bins.iter())
            .map(move |(&place, &count)| (place as f64 * width, (place + 1) as f64 * width, count))
    }
}

/// Evenly spread items of a stream whose end is not known, the first among them: every n-th, n doubling as it goes on.
#[derive(Clone, Debug)]
pub struct Thinned<T> {
    most: usize,
    stride: u64,
    offered: u64,
    kept: Vec<(u64, T)>,
}

impl<T> Thinned<T> {
    /// Of which at most so many are kept, and more than half as many where there are so many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.next_multiple_of(2).max(2),
            stride: 1,
            offered: 0,
            kept: Vec::new(),
        }
    }

    /// The next one, made only where it is kept.
    pub fn offer(&mut self, make: impl FnOnce() -> T) {
        let at = self.offered;
        self.offered += 1;
        if !at.is_multiple_of(self.stride) {
            return;
        }
        if self.kept.len() == self.most {
            self.stride *= 2;
            let stride = self.stride;
            self.kept.retain(|(at, _)| at.is_multiple_of(stride));
        }
        if at.is_multiple_of(self.stride) {
            self.kept.push((at, make()));
        }
    }

    /// How many there were.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// Those that were kept, each with its place among all.
    pub fn kept(&self) -> &[(u64, T)] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use hilt_protocol::noise::Uniforms;

    use super::*;

    #[test]
    fn spreads_are_those_of_all_numbers_at_once() {
        let mut random = Uniforms::new(3);
        let values: Vec<f64> = (0..1000).map(|_| 1e6 + random.normal()).collect();
        let mut running = Running::default();
        assert_eq!(running.spread(), None);
        values.iter().for_each(|&value| running.add(value));
        let got = running.spread().unwrap();
        let mean = values.iter().sum::<f64>() / 1000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!((got.mean - mean).abs() < 1e-6);
        assert!((got.std - variance.sqrt()).abs() < 1e-6, "{got:?}");
        assert_eq!(
            got.min,
            values.iter().copied().fold(f64::INFINITY, f64::min)
        );
        assert_eq!(got.max, values.iter().copied().fold(0.0, f64::max));
        assert_eq!(running.count(), 1000);
    }

    #[test]
    fn a_histogram_counts_each_number_where_it_lies() {
        let mut random = Uniforms::new(4);
        let values: Vec<f64> = (0..5000).map(|_| 3.0 * random.normal()).collect();
        let mut histogram = Histogram::default();
        values.iter().for_each(|&value| histogram.add(value));
        let bins: Vec<_> = histogram.bins().collect();
        let most = Histogram::MOST as usize;
        assert!((most / 4..=most).contains(&bins.len()), "{}", bins.len());
        for (from, to, count) in bins {
            let wanted = values.iter().filter(|v| (from..to).contains(*v)).count();
            assert_eq!(count, wanted as u64, "{from} to {to}");
        }
    }

    #[test]
    fn a_histogram_takes_whatever_is_finite() {
        let mut histogram = Histogram::default();
        for value in [
            0.0,
            -1.0,
            1.0,
            1e-30,
            f64::from(f32::MAX),
            f64::from(f32::MIN),
        ] {
            histogram.add(value);
        }
        let bins: Vec<_> = histogram.bins().collect();
        assert_eq!(bins.iter().map(|bin| bin.2).sum::<u64>(), 6);
        assert!(bins.iter().all(|bin| bin.0.is_finite() && bin.1 > bin.0));
        let mut one = Histogram::default();
        (0..9).for_each(|_| one.add(-0.25));
        let bins: Vec<_> = one.bins().collect();
        assert!(
            bins.len() == 1 && bins[0].0 == -0.25 && bins[0].2 == 9,
            "{bins:?}"
        );
    }

    #[test]
    fn what_is_thinned_is_even_and_bounded() {
        for count in [1, 7, 8, 9, 16, 17, 1000] {
            let mut thinned = Thinned::new(8);
            (0..count).for_each(|i| thinned.offer(|| i));
            let kept = thinned.kept();
            assert_eq!((kept[0].0, thinned.offered()), (0, count));
            assert!(
                kept.len() <= 8 && kept.len() >= count.min(5) as usize,
                "{count}: {kept:?}"
            );
            assert!(kept.iter().all(|(at, i)| at == i));
            let strides: Vec<u64> = kept.windows(2).map(|w| w[1].0 - w[0].0).collect();
            assert!(
                strides.iter().all(|&s| s == strides[0]),
                "{count}: {kept:?}"
            );
            let last = kept.last().unwrap().0;
            assert!(
                kept.len() == 1 || last + strides[0] >= count,
                "{count}: {kept:?}"
            );
        }
    }
}
