//! Generated rows beside real ones, in numbers: how each column lies, where the rows lie together, and where relevance
//! lies.
//!
//! Shapes: N real rows, M generated ones, d columns.

use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use super::layout::Layout;
use crate::inspect::statistics::{Running, Spread};

/// Rows of a kind that are looked at, at most: spread evenly over all.
const ROWS: i64 = 100_000;
/// Dots of a kind in a plane.
const DOTS: i64 = 1500;
/// Bars of an axis.
const BARS: usize = 40;

/// A column of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// What stands in it.
    pub name: String,
    /// Of the real rows.
    pub real: Option<Spread>,
    /// Of the generated ones, of numbers that are finite.
    pub generated: Option<Spread>,
    /// Generated numbers that are none.
    pub not_finite: usize,
    /// How far the numbers of the ones have to go to become those of the others, on average (Wasserstein's first
    /// distance), in standard deviations of the real ones; where those never change, in the column's own unit.
    pub distance: f64,
    /// Both on one axis: real, generated.
    #[serde(skip)]
    pub shares: Shares<2>,
}

/// What share of several kinds of numbers lies in which part of one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares<const K: usize> {
    /// Where the first part begins.
    pub low: f64,
    /// How wide each is.
    pub width: f64,
    /// Of each kind and part.
    pub of: [Vec<f64>; K],
    /// Of each kind beyond either end.
    pub beyond: [f64; K],
}

/// Rows in the plane in which the real ones vary most, each column in standard deviations of the real ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Share of the real rows' variance along each axis.
    pub explained: [f64; 2],
    /// Some of the real rows.
    pub real: Vec<(f64, f64)>,
    /// Some of the generated ones.
    pub generated: Vec<(f64, f64)>,
}

/// How relevant rows are, and were asked to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which relevance.
    pub name: &'static str,
    /// Of the real rows.
    pub real: Vec<f64>,
    /// What was asked for, where that is known.
    pub asked: Option<Vec<f64>>,
    /// Of the generated rows.
    pub generated: Vec<f64>,
}

/// Some of the rows, evenly spread, the first among them.
fn thinned(rows: &Tensor, most: i64) -> Tensor {
    let count = rows.size()[0];
    let stride = (count + most - 1) / most.max(1);
    match stride {
        0 | 1 => rows.shallow_clone(),
        _ => rows.slice(0, 0, count, stride),
    }
}

/// The numbers of a tensor \[n\].
pub fn numbers(of: &Tensor) -> Vec<f64> {
    let of = of.to_device(tch::Device::Cpu).to_kind(Kind::Double);
    let of = of.contiguous().view([-1]);
    let mut numbers = vec![0.0; of.numel()];
    of.copy_data(&mut numbers, of.numel());
    numbers
}

/// Those that are finite, from the least to the greatest.
fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.retain(|number| number.is_finite());
    numbers.sort_unstable_by(f64::total_cmp);
    numbers
}

fn spread(numbers: &[f64]) -> Option<Spread> {
    let mut running = Running::default();
    numbers.iter().for_each(|&number| running.add(number));
    running.spread()
}

/// How far numbers have to go to become others, on average: the area between their two distributions. Both from the
/// least to the greatest; not a number where there are none.
pub fn wasserstein(a: &[f64], b: &[f64]) -> f64 {
    // A quantile is a whole number of parts of 1 / (|a| |b|).
    let (parts_of_a, parts_of_b) = (b.len() as u64, a.len() as u64);
    let (mut i, mut j, mut at, mut sum) = (0, 0, 0, 0.0);
    while i < a.len() && j < b.len() {
        let ends = ((i as u64 + 1) * parts_of_a, (j as u64 + 1) * parts_of_b);
        let to = ends.0.min(ends.1);
        sum += (to - at) as f64 * (a[i] - b[j]).abs();
        at = to;
        i += usize::from(ends.0 == to);
        j += usize::from(ends.1 == to);
    }
    sum / (parts_of_a * parts_of_b) as f64
}

/// Every column of real rows \[N, d\] and generated ones \[M, d\].
pub fn columns(layout: Layout, real: &Tensor, generated: &Tensor) -> Vec<Column> {
    let (real, generated) = (thinned(real, ROWS), thinned(generated, ROWS));
    let column = |place: i64| {
        let all = [&real, &generated].map(|rows| sorted(numbers(&rows.select(1, place))));
        let spreads = [spread(&all[0]), spread(&all[1])];
        let unit = spreads[0].map_or(1.0, |real| if real.std > 0.0 { real.std } else { 1.0 });
        Column {
            name: layout.name(place),
            real: spreads[0],
            generated: spreads[1],
            not_finite: generated.size()[0] as usize - all[1].len(),
            distance: wasserstein(&all[0], &all[1]) / unit,
            shares: Shares::of([&all[0], &all[1]], axis(spreads[0], spreads[1])),
        }
    };
    (0..layout.width()).map(column).collect()
}

/// From where to where an axis goes for both: over all, but no farther from the real ones than half their width.
fn axis(real: Option<Spread>, generated: Option<Spread>) -> (f64, f64) {
    let Some(real) = real else {
        return (0.0, 1.0);
    };
    let most = match real.max - real.min {
        0.0 => (real.min.abs() * 0.05).max(0.5),
        width => width / 2.0,
    };
    let all = generated.unwrap_or(real);
    let low = all.min.clamp(real.min - most, real.min);
    let high = all.max.clamp(real.max, real.max + most);
    match high > low {
        true => (low, high),
        false => (low - most, high + most),
    }
}

impl<const K: usize> Shares<K> {
    /// Of several kinds on an axis from the one number to the other.
    pub fn of(kinds: [&[f64]; K], (low, high): (f64, f64)) -> Self {
        let width = (high - low) / BARS as f64;
        let mut of = [const { Vec::new() }; K];
        let mut beyond = [0.0; K];
        for ((kind, of), beyond) in kinds.iter().zip(&mut of).zip(&mut beyond) {
            let mut counts = vec![0u64; BARS];
            for &number in *kind {
                if (low..=high).contains(&number) {
                    let place = ((number - low) / width) as usize;
                    counts[place.min(BARS - 1)] += 1;
                }
            }
            let all = kind.len().max(1) as f64;
            let inside: u64 = counts.iter().sum();
            *beyond = (kind.len() as u64 - inside) as f64 / all;
            *of = counts.iter().map(|&count| count as f64 / all).collect();
        }
        Self {
            low,
            width,
            of,
            beyond,
        }
    }

    /// From, to and share of each part of a kind.
    pub fn bars(&self, kind: usize) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let at = |place: usize| self.low + place as f64 * self.width;
        (self.of[kind].iter().enumerate())
            .map(move |(place, &share)| (at(place), at(place + 1), share))
    }
}

impl Plane {
    /// Of real rows \[N, d\] and generated ones \[M, d\]; `None` where fewer than two columns of the real ones change.
    pub fn of(real: &Tensor, generated: &Tensor) -> Option<Self> {
        no_grad(|| {
            let double = |rows: &Tensor| thinned(rows, ROWS).to_kind(Kind::Double);
            let (real, generated) = (double(real), double(generated));
            let mean = real.mean_dim(0, true, None::<Kind>);
            let std = real.std_dim(0, false, true);
            let changing = std.gt(0.0).squeeze_dim(0).nonzero().squeeze_dim(1);
            let columns = changing.size()[0];
            if columns < 2 {
                return None;
            }
            let scaled = |rows: &Tensor| ((rows - &mean) / &std).index_select(1, &changing);
            let standard = scaled(&real);
            let (values, vectors) = (standard.tr().matmul(&standard)).linalg_eigh("L");
            let values = values / real.size()[0] as f64;
            // Ascending: the last is the one along which they vary most.
            let axes = [columns - 1, columns - 2];
            let directions = axes.map(|axis| {
                let direction = vectors.select(1, axis);
                // Either way along it is one: that way in which its largest number is positive.
                let most = direction.abs().argmax(None, false).int64_value(&[]);
                let sign = direction.double_value(&[most]).signum();
                direction * sign
            });
            let dots = |rows: &Tensor| {
                let rows = scaled(&thinned(rows, DOTS));
                let [x, y] = [0, 1].map(|axis| numbers(&rows.mv(&directions[axis])));
                x.into_iter().zip(y).collect()
            };
            Some(Self {
                explained: axes.map(|axis| values.double_value(&[axis]) / columns as f64),
                real: dots(&real),
                generated: dots(&generated),
            })
        })
    }
}

impl Asked {
    /// Where relevances stand among those of the real rows: 0 below all, 1 above all, of equal ones in their middle.
    pub fn ranks(&self, of: &[f64]) -> Vec<f64> {
        let real = sorted(self.real.clone());
        let rank = |&relevance: &f64| {
            let below = real.partition_point(|&other| other < relevance);
            let up_to = real.partition_point(|&other| other <= relevance);
            (below + up_to) as f64 / (2 * real.len()).max(1) as f64
        };
        of.iter().map(rank).collect()
    }
}

/// The middle one of numbers, of an even count the higher of the two; not a number of none.
pub fn median(numbers: &[f64]) -> f64 {
    let numbers = sorted(numbers.to_vec());
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);
    const LAYOUT: Layout = Layout {
        observations: 1,
        actions: 1,
    };

    fn near(got: f64, wanted: f64) {
        assert!((got - wanted).abs() < 1e-9, "{got} is not {wanted}");
    }

    #[test]
    fn numbers_go_as_far_as_they_have_to() {
        near(wasserstein(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]), 5.0);
        near(wasserstein(&[0.0, 1.0], &[0.0, 1.0]), 0.0);
        // A half each of 0 and 1 to a third each of 0, 1 and 2: a sixth goes from 0 to 1, a third from 1 to 2.
        near(wasserstein(&[0.0, 1.0], &[0.0, 1.0, 2.0]), 0.5);
        near(wasserstein(&[0.0, 1.0, 2.0], &[0.0, 1.0]), 0.5);
        // (2 + 2.5 + 3 + 3.3) / 4.
        near(wasserstein(&[3.4, 3.9, 7.5, 7.8], &[1.4, 4.5]), 2.7);
        near(wasserstein(&[2.0], &[-1.0; 1000]), 3.0);
        assert!(wasserstein(&[], &[1.0]).is_nan() && wasserstein(&[1.0], &[]).is_nan());
    }

    #[test]
    fn a_shifted_column_is_as_far_as_it_was_shifted_in_standard_deviations() {
        // 0, 2, 0, 2 …: mean 1, standard deviation 1; the reward never changes.
        let real =
            Tensor::from_slice(&[0.0, 0.0, 7.0, 0.0, 0.0, 2.0, 4.0, 7.0, 2.0, 1.0]).view([2, 5]);
        let off = Tensor::from_slice(&[0.5, 0.0, 0.25, 0.0, 0.0]);
        let all = columns(LAYOUT, &real, &(&real + off));
        let names: Vec<&str> = all.iter().map(|column| &*column.name).collect();
        assert_eq!(
            names,
            [
                "observation 0",
                "action 0",
                "reward",
                "next observation 0",
                "terminal"
            ]
        );
        let distances: Vec<f64> = all.iter().map(|column| column.distance).collect();
        assert_eq!(distances, [0.5, 0.0, 0.25, 0.0, 0.0]);
        let spreads = [all[1].real.unwrap(), all[1].generated.unwrap()];
        assert_eq!(
            spreads.map(|of| [of.min, of.mean, of.std, of.max]),
            [[0.0, 2.0, 2.0, 4.0]; 2]
        );
        assert!(all.iter().all(|column| column.not_finite == 0));
    }

    #[test]
    fn numbers_that_are_none_are_counted_and_left_out() {
        let real = Tensor::rand([50, 5], OPTIONS);
        let generated = real.copy();
        let _ = generated.select(1, 2).narrow(0, 3, 4).fill_(f64::NAN);
        let _ = generated.select(1, 3).fill_(f64::INFINITY);
        let all = columns(LAYOUT, &real, &generated);
        let broken: Vec<usize> = all.iter().map(|column| column.not_finite).collect();
        assert_eq!(broken, [0, 0, 4, 50, 0]);
        assert!(all[2].distance.is_finite() && all[2].generated.is_some());
        assert!(all[3].distance.is_nan() && all[3].generated.is_none());
    }

    #[test]
    fn both_lie_on_one_axis_and_what_is_far_out_does_not_press_the_rest_together() {
        let real: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        let of = |generated: &[f64]| {
            let spreads = (spread(&real), spread(generated));
            Shares::of([&real, generated], axis(spreads.0, spreads.1))
        };
        let shares = of(&[0.5, 0.5, 100.0, -0.2]);
        near(shares.low, -0.2);
        near(shares.low + 40.0 * shares.width, 0.999 + 0.999 / 2.0);
        assert_eq!(shares.beyond, [0.0, 0.25]);
        for kind in 0..2 {
            let sum: f64 = shares.of[kind].iter().sum();
            near(sum + shares.beyond[kind], 1.0);
        }
        let (from, to, share) = shares.bars(1).find(|bar| bar.2 == 0.5).unwrap();
        assert!(from <= 0.5 && 0.5 < to && share == 0.5);
        // What never changes has an axis too.
        let same = [3.0; 9];
        let shares = Shares::of([&same, &same], axis(spread(&same), spread(&same)));
        assert!(shares.width > 0.0 && shares.beyond == [0.0, 0.0]);
        near(shares.of[0].iter().sum(), 1.0);
    }

    #[test]
    fn the_plane_is_that_in_which_real_rows_vary_most() {
        tch::manual_seed(2);
        // Three columns that go together, two of their own, one that never changes.
        let rows = |count: i64| {
            let one = Tensor::randn([count, 1], OPTIONS);
            let own = Tensor::randn([count, 2], OPTIONS);
            let same = Tensor::ones([count, 1], OPTIONS) * 7.0;
            Tensor::cat(&[&one * 100.0, -&one, &one * 3.0 + 2.0, own, same], 1)
        };
        let (real, generated) = (rows(4000), rows(300));
        let plane = Plane::of(&real, &generated).unwrap();
        near((plane.explained[0] * 5.0 / 3.0 * 100.0).round(), 100.0);
        assert!(
            (0.18..0.23).contains(&plane.explained[1]),
            "{:?}",
            plane.explained
        );
        assert!(plane.real.len() <= 1500 && plane.real.len() > 1000);
        assert_eq!(plane.generated.len(), 300);
        // Along the first axis lies √3 times what the three have in common, less its mean.
        let first = real.select(1, 0);
        let off = (first.double_value(&[0]) - first.mean(None::<Kind>).double_value(&[]))
            / first.std(false).double_value(&[]);
        assert!(
            (plane.real[0].0.abs() - off.abs() * 3f64.sqrt()).abs() < 0.2,
            "{off} {:?}",
            plane.real[0]
        );
        assert_eq!(
            Plane::of(&real.narrow(1, 4, 2), &generated.narrow(1, 4, 2)),
            None
        );
    }

    #[test]
    fn ranks_are_those_among_the_real_rows() {
        let asked = Asked {
            name: "return",
            real: vec![-3.0, 5.0, 1.0, 1.0],
            asked: None,
            generated: vec![],
        };
        assert_eq!(
            asked.ranks(&[-4.0, -3.0, 1.0, 2.0, 5.0, 6.0]),
            [0.0, 0.125, 0.5, 0.75, 0.875, 1.0]
        );
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, f64::NAN, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 4.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn of_many_rows_evenly_spread_ones_are_looked_at() {
        let rows = Tensor::arange(10, OPTIONS).unsqueeze(1);
        assert_eq!(numbers(&thinned(&rows, 4)), [0.0, 3.0, 6.0, 9.0]);
        assert_eq!(thinned(&rows, 10).size(), [10, 1]);
    }
}
