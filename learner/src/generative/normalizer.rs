//! Brings rows to the range that the diffusion model works in, column by column, and what it makes back.
//!
//! Min-max: to −1 … 1. Standard: mean 0, and a given standard deviation. The formulas are SynthER's (`norm.py`), with
//! its ε, but for three things. Columns that are to be skipped are skipped by min-max too. A column that is one and
//! the same number in every row comes back as that number, where SynthER's comes back within ε of it. And statistics
//! are reckoned and kept in f64: in f32 ε is lost beside a large number, and the width of its column is 0.
//!
//! Nothing is clamped here: that is the sampler's.
//!
//! Shapes: N or B rows, d columns.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::agents::net::part;

/// Added to a column's largest value, or to its standard deviation, so that none is divided by 0 (SynthER: 1e-5).
pub const EPSILON: f64 = 1e-5;

/// How a column is brought to its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Its smallest value to −1, its largest to 1.
    #[default]
    MinMax,
    /// Its mean to 0, its standard deviation (of n − 1) to this. SynthER's is 1.
    Standard(f64),
}

/// What a normaliser cannot be made of.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CannotNormalize {
    /// A number is NaN or infinite.
    #[error(
        "column {column} has {value} in row {row}, and nothing can be normalised by it: leave that row out, or mend \
         what wrote it"
    )]
    NotFinite {
        /// Row, from 0.
        row: i64,
        /// Column, from 0.
        column: i64,
        /// NaN or infinity.
        value: f64,
    },
    /// There are fewer than two rows.
    #[error("{0} rows are too few to normalise by: 2 or more are needed")]
    TooFew(i64),
}

/// y = (x − from) × gain + to, column by column.
#[derive(Debug)]
pub struct Normalizer {
    /// \[d\], f64, as the two that follow.
    from: Tensor,
    gain: Tensor,
    to: Tensor,
    /// Of a column that never changes 0, else 1 / gain.
    back: Tensor,
}

impl Normalizer {
    /// One for these rows \[N, d\]. Columns out of `skip` stay as they are.
    ///
    /// # Errors
    /// [`CannotNormalize`]: a number that is none, or fewer than two rows.
    pub fn fit(scheme: Scheme, rows: &Tensor, skip: &[i64]) -> Result<Self, CannotNormalize> {
        let [count, _] = rows.size()[..] else {
            panic!("rows must be [N, d], not {:?}", rows.size())
        };
        if count < 2 {
            return Err(CannotNormalize::TooFew(count));
        }
        let rows = rows.detach();
        not_finite(&rows)?;
        let double = |values: Tensor| values.to_kind(Kind::Double);
        let (min, max) = (rows.amin(0, false), rows.amax(0, false));
        let constant = min.eq_tensor(&max);
        let (min, max) = (double(min), double(max));
        let (from, gain, to) = match scheme {
            Scheme::MinMax => {
                let gain = 2.0 / (max + EPSILON - &min);
                (min.copy(), gain, -min.ones_like())
            }
            Scheme::Standard(target) => {
                let mean = rows.mean_dim(0, false, Kind::Double);
                let std = double(rows.std_dim(0, true, false));
                (mean, target / (std + EPSILON), min.zeros_like())
            }
        };
        for &column in skip {
            // 0, but where the column never changes: from there it comes back.
            let start = min.get(column) * constant.get(column);
            from.get(column).copy_(&start);
            to.get(column).copy_(&start);
            let _ = gain.get(column).fill_(1.0);
        }
        // A mean of many equal numbers may be a rounding away from them.
        let from = min.where_self(&constant, &from);
        let back = gain.reciprocal() * constant.logical_not();
        Ok(Self {
            from,
            gain,
            to,
            back,
        })
    }

    /// d.
    pub fn columns(&self) -> i64 {
        self.from.size()[0]
    }

    /// Rows \[B, d\] in the model's range.
    pub fn normalize(&self, rows: &Tensor) -> Tensor {
        let of = |values: &Tensor| like(values, rows);
        (rows - of(&self.from)) * of(&self.gain) + of(&self.to)
    }

    /// The model's rows \[B, d\] as those it learned from.
    pub fn unnormalize(&self, rows: &Tensor) -> Tensor {
        let of = |values: &Tensor| like(values, rows);
        (rows - of(&self.to)) * of(&self.back) + of(&self.from)
    }

    /// All that it is, to save.
    pub fn state(&self, name: &str) -> Vec<(String, Tensor)> {
        let parts = [&self.from, &self.gain, &self.to, &self.back];
        let named = |(part, values): (&str, &Tensor)| (format!("{name}.{part}"), values.copy());
        PARTS.into_iter().zip(parts).map(named).collect()
    }

    /// What [`Normalizer::state`] gave, on the device on which it lies. A part that is missing is a mistake of the
    /// caller, who checks a file before: it panics.
    pub fn of_state(name: &str, state: &[(String, Tensor)]) -> Self {
        let [from, gain, to, back] =
            PARTS.map(|wanted| part(state, &format!("{name}.{wanted}")).copy());
        Self {
            from,
            gain,
            to,
            back,
        }
    }
}

const PARTS: [&str; 4] = ["from", "gain", "to", "back"];

/// In the kind and on the device of the rows that they meet.
fn like(values: &Tensor, rows: &Tensor) -> Tensor {
    values.to_device(rows.device()).to_kind(rows.kind())
}

/// Looks at numbers one by one only if their sum is none.
fn not_finite(rows: &Tensor) -> Result<(), CannotNormalize> {
    if rows.sum(Kind::Double).double_value(&[]).is_finite() {
        return Ok(());
    }
    let places = rows.isfinite().logical_not().nonzero();
    if places.size()[0] == 0 {
        return Ok(());
    }
    let (row, column) = (places.int64_value(&[0, 0]), places.int64_value(&[0, 1]));
    Err(CannotNormalize::NotFinite {
        row,
        column,
        value: rows.double_value(&[row, column]),
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    const SCHEMES: [Scheme; 3] = [Scheme::MinMax, Scheme::Standard(1.0), Scheme::Standard(0.5)];

    /// Columns of all widths; the third is constant, so large that f32 knows no ε beside it.
    fn rows(kind: Kind) -> Tensor {
        tch::manual_seed(1);
        let rows = Tensor::randn([500, 5], (kind, Device::Cpu));
        let wide = [1.0, 1e-3, 0.0, 1e4, 3.0];
        let about = [0.0, 2.0, 5000.1, -7.0, -100.0];
        let of = |values: &[f64]| Tensor::from_slice(values).to_kind(kind);
        rows * of(&wide) + of(&about)
    }

    /// Relative to each column's largest number: what is off beside the middle of a wide one is off by so much.
    fn near(a: &Tensor, b: &Tensor, tolerance: f64) {
        let off = (a - b).abs() / b.abs().amax(0, true);
        let most = off.max().double_value(&[]);
        assert!(most <= tolerance, "{most}");
    }

    #[test]
    fn what_was_normalised_comes_back() {
        for (kind, tolerance) in [(Kind::Double, 1e-14), (Kind::Float, 1e-6)] {
            let rows = rows(kind);
            for scheme in SCHEMES {
                for skip in [&[][..], &[0, 2, 4]] {
                    let normalizer = Normalizer::fit(scheme, &rows, skip).unwrap();
                    let normalized = normalizer.normalize(&rows);
                    assert_eq!(normalized.kind(), kind);
                    near(&normalizer.unnormalize(&normalized), &rows, tolerance);
                }
            }
        }
    }

    #[test]
    fn columns_are_brought_to_their_range() {
        let rows = rows(Kind::Double);
        let normalized = |scheme| {
            Normalizer::fit(scheme, &rows, &[])
                .unwrap()
                .normalize(&rows)
        };
        let all = normalized(Scheme::MinMax);
        for column in [0, 1, 3, 4] {
            let column = all.select(1, column);
            assert_eq!(column.min().double_value(&[]), -1.0);
            let most = column.max().double_value(&[]);
            assert!((0.99..1.0).contains(&most), "{most}");
        }
        let all = normalized(Scheme::Standard(0.5)).select(1, 3);
        assert!(all.mean(None::<Kind>).double_value(&[]).abs() < 1e-12);
        assert!((all.std(true).double_value(&[]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_constant_column_comes_back_as_exactly_that_constant_and_nothing_is_divided_by_zero() {
        for kind in [Kind::Double, Kind::Float] {
            let rows = rows(kind);
            for scheme in SCHEMES {
                for skip in [&[][..], &[2]] {
                    let normalizer = Normalizer::fit(scheme, &rows, skip).unwrap();
                    let normalized = normalizer.normalize(&rows);
                    assert!(bool::try_from(normalized.isfinite().all()).unwrap());
                    let made = normalizer.unnormalize(&(&normalized + 0.7));
                    assert_eq!(made.select(1, 2), rows.select(1, 2), "{scheme:?} {kind:?}");
                }
            }
        }
    }

    /// The reference's bug: min-max ignores the columns that are to be skipped.
    #[test]
    fn skipped_columns_stay_as_they_are_under_every_scheme() {
        let rows = rows(Kind::Double);
        for scheme in SCHEMES {
            let normalizer = Normalizer::fit(scheme, &rows, &[0, 3]).unwrap();
            let normalized = normalizer.normalize(&rows);
            for column in [0, 3] {
                assert_eq!(normalized.select(1, column), rows.select(1, column));
                let made = normalizer.unnormalize(&normalized);
                assert_eq!(made.select(1, column), rows.select(1, column));
            }
            assert_ne!(normalized.select(1, 4), rows.select(1, 4));
        }
    }

    /// The reference's bug, as far as it is the normaliser's: nothing is clamped here, so that what a step of the
    /// sampler gives may lie outside.
    #[test]
    fn nothing_is_clamped() {
        let rows = rows(Kind::Double);
        for scheme in SCHEMES {
            let normalizer = Normalizer::fit(scheme, &rows, &[]).unwrap();
            let outside = Tensor::full([1, 5], 3.0, (Kind::Double, Device::Cpu));
            let again = normalizer.normalize(&normalizer.unnormalize(&outside));
            assert!((again.double_value(&[0, 0]) - 3.0).abs() < 1e-9);
        }
    }

    #[test]
    fn what_cannot_be_normalised_is_named_with_its_place() {
        for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let rows = rows(Kind::Float);
            let _ = rows.get(17).get(3).fill_(value);
            for scheme in SCHEMES {
                let error = Normalizer::fit(scheme, &rows, &[]).unwrap_err();
                let message = error.to_string();
                for part in ["column 3", "row 17", shown] {
                    assert!(message.contains(part), "{message}");
                }
            }
        }
        let one = rows(Kind::Float).narrow(0, 0, 1);
        let error = Normalizer::fit(Scheme::MinMax, &one, &[]).unwrap_err();
        assert_eq!(error, CannotNormalize::TooFew(1));
    }

    #[test]
    fn a_state_goes_on_the_same() {
        let rows = rows(Kind::Float);
        for scheme in SCHEMES {
            let ours = Normalizer::fit(scheme, &rows, &[1]).unwrap();
            let other = Normalizer::of_state("rows", &ours.state("rows"));
            assert_eq!(other.columns(), 5);
            let normalized = ours.normalize(&rows);
            assert_eq!(other.normalize(&rows), normalized);
            assert_eq!(
                other.unnormalize(&normalized),
                ours.unnormalize(&normalized)
            );
        }
    }
}
