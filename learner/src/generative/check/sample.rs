//! Rows that are looked at, and what is measured of them.

use tch::{Kind, Tensor};

use super::{CheckConfig, Distances, Followed, count, regression::Regression};
use crate::{
    agents::Draws,
    generative::{
        layout::Layout,
        look::numbers,
        normalizer::{EPSILON, Normalizer},
    },
};

/// Distances below it are none, standard deviations per column: real rows may be the same again and again.
const NO_DISTANCE: f64 = 1e-4;
/// A row so near to a real one, in median distances of held-out rows, is a copy of it.
const COPY: f64 = 0.05;
/// Held-out errors are known to so much: a bound never lies nearer to them.
pub(super) const UNSURE: f64 = 1.5;

/// Smallest and largest number of each column \[d\], f64.
pub(super) struct Range {
    min: Tensor,
    max: Tensor,
}

impl Range {
    pub(super) fn of(rows: &Tensor) -> Self {
        Self {
            min: rows.amin(0, false).to_kind(Kind::Double),
            max: rows.amax(0, false).to_kind(Kind::Double),
        }
    }

    /// Share of rows whose number lies beyond, in the column where most do, and which it is.
    pub(super) fn outside(&self, rows: &Tensor, margin: f64) -> (f64, i64) {
        // A constant may be off by what a normaliser adds.
        let far = (&self.max - &self.min) * margin + EPSILON * (self.max.abs() + 1.0);
        let bound = |values: Tensor| values.to_kind(rows.kind());
        let below = rows.lt_tensor(&bound(&self.min - &far));
        let above = rows.gt_tensor(&bound(&self.max + &far));
        let shares = below.logical_or(&above).mean_dim(0, false, Kind::Double);
        let (most, column) = shares.max_dim(0, false);
        (most.double_value(&[]), column.int64_value(&[]))
    }

    /// Widths in standard deviations \[d\].
    pub(super) fn spans(&self, normalizer: &Normalizer) -> Tensor {
        let [low, high] =
            [&self.min, &self.max].map(|ends| normalizer.normalize(&ends.unsqueeze(0)));
        (high - low).squeeze_dim(0)
    }
}

/// Rows that are looked at, f64, every column with standard deviation 1, terminals 0 or 1 as they will be kept.
pub(super) struct Sample {
    /// Of what was seen and done.
    inputs: i64,
    /// Real ones to learn from.
    known: Tensor,
    /// Other real ones.
    held_out: Tensor,
    generated: Tensor,
    /// Of the held-out ones each generated one's nearest, by what was seen and done.
    like: Tensor,
    /// What share of all real rows the known ones are.
    share: f64,
}

/// Medians of distances to the nearest known row, standard deviations per column.
pub(super) struct Apart {
    pub(super) generated: f64,
    /// Of held-out rows.
    pub(super) real: f64,
    /// Of rows whose columns were shuffled.
    pub(super) shuffled: f64,
    /// Generated rows' distances to each other, as a share of as many real ones'.
    pub(super) spread: f64,
    /// Share of the generated rows that are copies, of what can be told for sure.
    pub(super) copies: f64,
    /// What the first two are the medians of.
    pub(super) distances: Distances,
}

impl Sample {
    pub(super) fn draw(
        config: &CheckConfig,
        layout: Layout,
        normalizer: &Normalizer,
        (real, generated): (&Tensor, &Tensor),
        draws: &mut dyn Draws,
    ) -> Self {
        let mut some = |rows: &Tensor, name: &'static str, most: i64| {
            let all = rows.size()[0];
            let chosen = draws
                .members(name, most.min(all), all)
                .to_device(rows.device());
            let rows = rows.index_select(0, &chosen).to_kind(Kind::Double);
            normalizer.normalize(&layout.settled(&rows))
        };
        let chosen = some(real, "real", config.real_rows);
        let generated = some(generated, "generated", config.generated_rows);
        let count = chosen.size()[0];
        let out = count / 4;
        let (held_out, known) = (chosen.narrow(0, 0, out), chosen.narrow(0, out, count - out));
        let inputs = layout.inputs().end;
        let seen = |rows: &Tensor| rows.narrow(1, 0, inputs);
        let (_, nearest) = nearest(&seen(&generated), &seen(&held_out));
        Self {
            inputs,
            like: held_out.index_select(0, &nearest),
            share: known.size()[0] as f64 / real.size()[0] as f64,
            known,
            held_out,
            generated,
        }
    }

    pub(super) fn apart(&self, draws: &mut dyn Draws) -> Apart {
        let columns = self.known.size()[1];
        let per_column = (columns as f64).sqrt();
        let to_known = |rows: &Tensor| nearest(rows, &self.known).0 / per_column;
        let (generated, real) = (to_known(&self.generated), to_known(&self.like));
        let usual = median(&real).max(NO_DISTANCE);
        let near = |distances: &Tensor| {
            let near = count(&distances.lt(COPY * usual)) as f64;
            near / distances.size()[0] as f64
        };
        let (rows, others) = (self.generated.size()[0], self.held_out.size()[0]);
        // As many as surely are nearer than real rows are to each other: two standard errors less.
        let by_chance = near(&to_known(&self.held_out));
        let error = ((by_chance + 1.0 / others as f64) / rows as f64).sqrt();
        let copies = (near(&generated) - by_chance - 2.0 * error) / self.share;
        let same = self.known.narrow(0, 0, rows.min(self.known.size()[0]));
        let between = |rows: &Tensor| median(&(nearest_other(rows) / per_column));
        Apart {
            generated: median(&generated),
            real: usual,
            shuffled: median(&to_known(&shuffled(&self.like, draws))),
            spread: between(&self.generated) / between(&same).max(NO_DISTANCE),
            copies: copies.clamp(0.0, 1.0),
            distances: Distances {
                generated: numbers(&generated),
                real: numbers(&real),
            },
        }
    }

    /// How well each outcome that changes follows; `spans` \[d\] are the columns' ranges in standard deviations.
    pub(super) fn followed(
        &self,
        config: &CheckConfig,
        layout: Layout,
        spans: &Tensor,
        draws: &mut dyn Draws,
    ) -> Vec<Followed> {
        let outcomes = layout.outcomes();
        let part = |rows: &Tensor| {
            let columns = outcomes.end - outcomes.start;
            let seen = rows.narrow(1, 0, self.inputs);
            (seen, rows.narrow(1, outcomes.start, columns))
        };
        let (seen, came) = part(&self.known);
        let model = Regression::fit(&seen, &came, draws);
        let errors = |seen: &Tensor, came: &Tensor| {
            let squares = (model.foretell(seen) - came).square();
            let means = squares.mean_dim(0, false, None::<Kind>).sqrt();
            (0..means.size()[0])
                .map(|k| means.double_value(&[k]))
                .collect::<Vec<_>>()
        };
        let (seen, came) = part(&self.generated);
        let generated = errors(&seen, &came);
        let (seen, came) = part(&self.like);
        let real = errors(&seen, &came);
        let others = errors(&seen, &came.roll([came.size()[0] / 2], [0]));
        let one = |k: usize| {
            let column = outcomes.start + k as i64;
            let span = spans.double_value(&[column]);
            let (real, other) = (real[k], others[k]);
            let bound = (config.most_error * real).min((real + other) / 2.0);
            Followed {
                column,
                generated: generated[k],
                real,
                bound: bound.max(UNSURE * real).max(config.resolution * span),
            }
        };
        let changes = |column: &Followed| spans.double_value(&[column.column]) > 0.0;
        (0..generated.len()).map(one).filter(changes).collect()
    }
}

/// Each row's distance to the nearest of others, and which that is.
fn nearest(rows: &Tensor, others: &Tensor) -> (Tensor, Tensor) {
    // Some at a time: all distances at once would take much memory.
    let parts = rows.split(256, 0);
    let parts = parts.iter();
    let (distances, places): (Vec<_>, Vec<_>) = parts
        .map(|part| Tensor::cdist(part, others, 2.0, None).min_dim(1, false))
        .unzip();
    (Tensor::cat(&distances, 0), Tensor::cat(&places, 0))
}

/// Each row's distance to the nearest other one of them.
fn nearest_other(rows: &Tensor) -> Tensor {
    let distances = Tensor::cdist(rows, rows, 2.0, None);
    let _ = distances.diagonal(0, 0, 1).fill_(f64::INFINITY);
    distances.amin(1, false)
}

/// Each column in an order of its own.
fn shuffled(rows: &Tensor, draws: &mut dyn Draws) -> Tensor {
    let (count, columns) = (rows.size()[0], rows.size()[1]);
    let mut column = |k| {
        let order = draws
            .members("shuffled", count, count)
            .to_device(rows.device());
        rows.select(1, k).index_select(0, &order)
    };
    Tensor::stack(&(0..columns).map(&mut column).collect::<Vec<_>>(), 1)
}

fn median(values: &Tensor) -> f64 {
    values.median().double_value(&[])
}
