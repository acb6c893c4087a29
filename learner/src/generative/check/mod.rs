//! Whether generated rows can be believed. What is found is figures for the metrics, and a verdict: good, or which
//! figure of which column is beyond which bound.
//!
//! Some thousand rows are drawn of the real ones, a quarter of them held out, and some of the generated ones. It is
//! asked, and in this order told:
//!
//! - Are all numbers finite, and do they lie where real ones lie?
//! - Are the rows as different from each other as real ones are? A model that has collapsed makes one row again and
//!   again, which may be a good one.
//! - Does an action lead where it leads? A model learns outcomes (reward, next observation) from what was seen and
//!   done, on real rows, and is asked about generated ones. Nearest neighbours alone would not do: in the 23 numbers of
//!   HalfCheetah's observation and action no two rows are near enough for their outcomes to be alike. It is a ridge
//!   regression on the inputs and random features of them, which has a closed form: nothing to tune or to wait for, and
//!   it cannot diverge.
//! - Do rows lie where real rows lie, and are they no mere copies of them? By the distance to the nearest real row,
//!   with every column brought to standard deviation 1.
//!
//! What a distance or an error may be is never an absolute number. It is compared with real rows that are *held out*,
//! and with rows that are *garbage* though each of their numbers is real: outcomes of other rows, or columns shuffled
//! each by itself. And the held-out rows are those *like* the generated ones, each generated row's nearest by what was
//! seen and done: a model that is asked for what is rare or surprising is not to blame that a regression knows it less
//! well.
//!
//! Shapes: N real rows, G generated ones, d columns.

mod regression;
mod sample;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use self::sample::{Range, Sample};
use super::{
    layout::Layout,
    normalizer::{CannotNormalize, Normalizer, Scheme},
};
use crate::agents::Draws;

/// Bounds, and how many rows are looked at. The defaults are our own; tests say what passes and what does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// With fewer real rows nothing is trained or checked.
    pub least_rows: i64,
    /// Real rows that are looked at, a quarter of them held out.
    pub real_rows: i64,
    /// Generated rows that are looked at.
    pub generated_rows: i64,
    /// So much of a column's range a number may lie beyond it.
    pub margin: f64,
    /// Share of rows of which a column's number may lie beyond that.
    pub most_outside: f64,
    /// Generated rows' distances to each other are at least so much of real rows'.
    pub least_spread: f64,
    /// The error of an outcome is at most so many times that of held-out rows like the generated ones.
    pub most_error: f64,
    /// So much of a column's range an outcome may always be off: what a model of many columns resolves.
    pub resolution: f64,
    /// Distances to real rows may be so much of the way from those of held-out rows to those of shuffled columns.
    pub most_distance: f64,
    /// Share of the rows that may be copies of real ones.
    pub most_copies: f64,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            least_rows: 1000,
            real_rows: 20_000,
            generated_rows: 1000,
            margin: 0.1,
            most_outside: 0.05,
            least_spread: 0.1,
            most_error: 3.0,
            resolution: 0.03,
            most_distance: 0.5,
            most_copies: 0.5,
        }
    }
}

/// What cannot be checked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CannotCheck {
    /// Too few real rows.
    #[error(
        "{rows} transitions are too few to train a generative model on: {wanted} are needed, by \
         generative_replay.check.least_rows. Collect more, or set it lower"
    )]
    TooFew {
        /// That there are.
        rows: i64,
        /// That are needed.
        wanted: i64,
    },
    /// Nothing to look at.
    #[error("{0} generated rows are too few to be judged: {FEWEST_GENERATED} are needed")]
    TooFewGenerated(i64),
    /// A real row has a number that is none.
    #[error("the real rows cannot be learned from: {0}")]
    Real(#[from] CannotNormalize),
}

/// Why generated rows are not believed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Reason {
    /// NaN or infinity.
    #[error("{rows} of {of} generated rows have numbers that are none")]
    NotFinite {
        /// How many.
        rows: i64,
        /// Of how many.
        of: i64,
    },
    /// Numbers where no real ones are.
    #[error(
        "`{column}` lies outside of the real range in {share:.3} of the generated rows, and may in {bound:.3} of them"
    )]
    Outside {
        /// Where most do.
        column: String,
        /// Share of the rows.
        share: f64,
        /// At most.
        bound: f64,
    },
    /// Hardly different rows.
    #[error(
        "generated rows differ from each other {spread:.3} times as much as real ones, and should {bound:.3} times: \
         the model makes the same again and again"
    )]
    Collapsed {
        /// As a share of real rows' differences.
        spread: f64,
        /// At least.
        bound: f64,
    },
    /// Actions do not lead where they lead.
    #[error(
        "`{column}` does not follow from what was seen and done: it is off by {error:.3} standard deviations, and may \
         be by {bound:.3}; that of real rows is by {real:.3}"
    )]
    Dynamics {
        /// Where it is the farthest beyond its bound.
        column: String,
        /// Standard deviations of the column.
        error: f64,
        /// At most.
        bound: f64,
        /// That of held-out rows.
        real: f64,
    },
    /// Rows where no real ones are.
    #[error(
        "generated rows lie {distance:.3} from the nearest real one, and may lie {bound:.3}; held-out real ones lie \
         {real:.3}, in standard deviations per column"
    )]
    Far {
        /// Median.
        distance: f64,
        /// At most.
        bound: f64,
        /// Median of held-out rows.
        real: f64,
    },
    /// Nothing new.
    #[error("{share:.3} of the generated rows are copies of real ones, and {bound:.3} may be")]
    Copies {
        /// Of the rows.
        share: f64,
        /// At most.
        bound: f64,
    },
}

/// How well an outcome follows from what was seen and done, in standard deviations of its column.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// The column.
    pub column: i64,
    /// Root mean square error of generated rows.
    pub generated: f64,
    /// Of held-out real rows like them.
    pub real: f64,
    /// At most that of the generated ones.
    pub bound: f64,
}

/// How far rows lie from the nearest real one, in standard deviations per column; empty where numbers are not finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distances {
    /// Generated rows.
    pub generated: Vec<f64>,
    /// Held-out real rows like them.
    pub real: Vec<f64>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// By name, for the metrics. Only the first where numbers are not finite.
    pub figures: Vec<(&'static str, f64)>,
    /// Of each outcome that changes at all.
    pub followed: Vec<Followed>,
    /// From the nearest real rows.
    pub distances: Distances,
    /// Whether the rows are to be believed.
    pub verdict: Result<(), Reason>,
}

/// Fewer generated rows say nothing.
const FEWEST_GENERATED: i64 = 100;

/// Whether there are real rows enough to train on.
///
/// # Errors
/// [`CannotCheck::TooFew`] says how many are needed.
pub fn enough(config: &CheckConfig, rows: i64) -> Result<(), CannotCheck> {
    let wanted = config.least_rows;
    match rows >= wanted {
        true => Ok(()),
        false => Err(CannotCheck::TooFew { rows, wanted }),
    }
}

/// Looks at generated rows \[G, d\], as the model made them, beside the real ones \[N, d\] that it learned from.
///
/// # Errors
/// [`CannotCheck`]: too few rows, or real ones with numbers that are none.
pub fn check(
    config: &CheckConfig,
    layout: Layout,
    real: &Tensor,
    generated: &Tensor,
    draws: &mut dyn Draws,
) -> Result<Report, CannotCheck> {
    no_grad(|| {
        let rows = generated.size()[0];
        enough(config, real.size()[0])?;
        if rows < FEWEST_GENERATED {
            return Err(CannotCheck::TooFewGenerated(rows));
        }
        let normalizer = Normalizer::fit(Scheme::Standard(1.0), real, &[])?;
        let broken = rows - count(&generated.isfinite().all_dim(1, false));
        let mut figures = vec![("check_not_finite", broken as f64 / rows as f64)];
        if broken > 0 {
            return Ok(Report {
                figures,
                followed: vec![],
                distances: Distances::default(),
                verdict: Err(Reason::NotFinite {
                    rows: broken,
                    of: rows,
                }),
            });
        }
        let range = Range::of(real);
        let (outside, column) = range.outside(generated, config.margin);
        let sample = Sample::draw(config, layout, &normalizer, (real, generated), draws);
        let apart = sample.apart(draws);
        let followed = sample.followed(config, layout, &range.spans(&normalizer), draws);
        let worst = followed
            .iter()
            .max_by(|a, b| a.beyond().total_cmp(&b.beyond()));
        let mean = |of: fn(&Followed) -> f64| {
            let squares: f64 = followed.iter().map(|f| of(f).powi(2)).sum();
            (squares / followed.len().max(1) as f64).sqrt()
        };
        figures.extend([
            ("check_outside", outside),
            ("check_spread", apart.spread),
            ("check_dynamics_error", mean(|f| f.generated)),
            ("check_dynamics_error_real", mean(|f| f.real)),
            ("check_dynamics_worst", worst.map_or(0.0, Followed::beyond)),
            ("check_distance", apart.generated),
            ("check_distance_real", apart.real),
            ("check_copies", apart.copies),
        ]);
        // Where shuffled columns lie no farther than held-out rows, a distance says nothing.
        let far = apart.real + config.most_distance * (apart.shuffled - apart.real);
        let far = far.max(sample::UNSURE * apart.real);
        let verdict = if outside > config.most_outside {
            Err(Reason::Outside {
                column: layout.name(column),
                share: outside,
                bound: config.most_outside,
            })
        } else if apart.spread < config.least_spread {
            Err(Reason::Collapsed {
                spread: apart.spread,
                bound: config.least_spread,
            })
        } else if let Some(worst) = worst.filter(|worst| worst.beyond() > 1.0) {
            Err(Reason::Dynamics {
                column: layout.name(worst.column),
                error: worst.generated,
                bound: worst.bound,
                real: worst.real,
            })
        } else if apart.generated > far {
            Err(Reason::Far {
                distance: apart.generated,
                bound: far,
                real: apart.real,
            })
        } else if apart.copies > config.most_copies {
            Err(Reason::Copies {
                share: apart.copies,
                bound: config.most_copies,
            })
        } else {
            Ok(())
        };
        Ok(Report {
            figures,
            followed,
            distances: apart.distances,
            verdict,
        })
    })
}

impl Followed {
    /// Its error as a share of its bound.
    fn beyond(&self) -> f64 {
        self.generated / self.bound
    }
}

fn count(which: &Tensor) -> i64 {
    which.sum(Kind::Int64).int64_value(&[])
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{agents::draws::Seeded, tasks};

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);
    const LAYOUT: Layout = Layout {
        observations: 3,
        actions: 1,
    };

    /// Rows of Pendulum under random actions, whole episodes from this seed on.
    fn pendulum(seed: u64, episodes: u64) -> Tensor {
        let mut task = tasks::open("Pendulum-v1").unwrap();
        let mut actions = hilt_protocol::noise::Uniforms::new(seed);
        let mut rows: Vec<f64> = vec![];
        for episode in 0..episodes {
            let mut seen = task.reset(1000 * seed + episode);
            loop {
                let action = actions.range(-1.0, 1.0);
                let outcome = task.step(&[action]);
                rows.extend(&seen);
                rows.extend([action, outcome.reward]);
                rows.extend(&outcome.observation);
                rows.push(f64::from(outcome.terminated));
                if outcome.terminated || outcome.truncated {
                    break;
                }
                seen = outcome.observation;
            }
        }
        let rows = Tensor::from_slice(&rows).view([-1, LAYOUT.width()]);
        rows.to_kind(Kind::Float)
    }

    fn judged_by(config: &CheckConfig, real: &Tensor, generated: &Tensor) -> Report {
        tch::set_num_threads(1);
        let mut draws = Seeded::new(7, 0, OPTIONS);
        check(config, LAYOUT, real, generated, &mut draws).unwrap()
    }

    fn judged(real: &Tensor, generated: &Tensor) -> Report {
        judged_by(&CheckConfig::default(), real, generated)
    }

    /// 5000 real rows, and 1000 of other episodes.
    fn rows() -> (Tensor, Tensor) {
        (pendulum(1, 25), pendulum(2, 5))
    }

    /// Each of these columns in an order of its own.
    fn shuffled(rows: &Tensor, columns: std::ops::Range<i64>) -> Tensor {
        let rows = rows.copy();
        let mut draws = Seeded::new(3, 0, OPTIONS);
        for column in columns {
            let order = draws.members("order", rows.size()[0], rows.size()[0]);
            let own = rows.select(1, column);
            own.shallow_clone().copy_(&own.index_select(0, &order));
        }
        rows
    }

    /// Every number off by this share of its column's standard deviation.
    fn noisy(rows: &Tensor, share: f64) -> Tensor {
        tch::manual_seed(1);
        rows + Tensor::randn_like(rows) * rows.std_dim(0, true, true) * share
    }

    #[track_caller]
    fn refused(report: &Report, parts: &[&str]) {
        let reason = report.verdict.as_ref().expect_err("it was believed");
        let message = reason.to_string();
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn real_rows_of_other_episodes_are_believed_and_those_that_a_good_model_would_make() {
        let (real, other) = rows();
        for rows in [other.copy(), noisy(&other, 0.01), noisy(&other, 0.03)] {
            let report = judged(&real, &rows);
            assert_eq!(report.verdict, Ok(()), "{:?}", report.figures);
        }
    }

    /// A model that is asked for the highest relevance makes rows of a part of the space, and is not to blame for it.
    #[test]
    fn rows_out_of_the_top_fraction_are_believed() {
        let (real, _) = rows();
        let other = pendulum(2, 25);
        let rewards = other.select(1, LAYOUT.reward());
        for column in [rewards.shallow_clone(), -rewards] {
            let top = column.argsort_stable(true, 0, true).narrow(0, 0, 500);
            let report = judged(&real, &other.index_select(0, &top));
            assert_eq!(report.verdict, Ok(()), "{:?}", report.figures);
        }
    }

    #[test]
    fn outcomes_that_do_not_follow_are_refused_and_named() {
        let (real, other) = rows();
        for column in LAYOUT.outcomes() {
            let report = judged(&real, &shuffled(&other, column..column + 1));
            refused(&report, &[&LAYOUT.name(column), "does not follow"]);
        }
        refused(
            &judged(&real, &shuffled(&other, 5..8)),
            &["next observation"],
        );
        let report = judged(&real, &noisy(&other, 0.2));
        refused(&report, &["does not follow"]);
    }

    #[test]
    fn one_row_again_and_again_is_refused() {
        let (real, other) = rows();
        let same = other.narrow(0, 3, 1).expand([1000, -1], false).copy();
        refused(&judged(&real, &same), &["0.000 times"]);
        // Hardly different ones are no better.
        let std = real.std_dim(0, true, true);
        let near = &same + Tensor::randn_like(&same) * std * 1e-3;
        refused(&judged(&real, &near), &["the same again and again"]);
    }

    #[test]
    fn copies_are_refused_though_they_are_good_rows() {
        let (real, other) = rows();
        let copies = real.narrow(0, 500, 1000);
        refused(&judged(&real, &copies), &["copies"]);
        // Also among as many others, where as many are not allowed; and where few of the real rows are looked at.
        let half = Tensor::cat(&[&copies.narrow(0, 0, 700), &other.narrow(0, 0, 300)], 0);
        refused(&judged(&real, &half), &["copies"]);
        let few = CheckConfig {
            real_rows: 1500,
            ..CheckConfig::default()
        };
        refused(&judged_by(&few, &real, &copies), &["copies"]);
        assert_eq!(judged_by(&few, &real, &other).verdict, Ok(()));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let (real, other) = rows();
        for value in [f64::NAN, f64::INFINITY] {
            let rows = other.copy();
            let _ = rows.get(17).get(2).fill_(value);
            let report = judged(&real, &rows);
            refused(&report, &["1 of 1000 generated rows"]);
            assert_eq!(report.figures, [("check_not_finite", 0.001)]);
        }
    }

    #[test]
    fn numbers_where_no_real_ones_are_are_refused_and_a_few_are_not() {
        let (real, other) = rows();
        for (count, believed) in [(10, true), (100, false)] {
            let rows = other.copy();
            let mut rewards = rows.select(1, LAYOUT.reward()).narrow(0, 0, count);
            let _ = rewards.g_add_scalar_(20.0);
            let report = judged(&real, &rows);
            let outside = matches!(report.verdict, Err(Reason::Outside { .. }));
            assert_eq!(outside, !believed, "{:?}", report.verdict);
            if !believed {
                refused(&report, &["reward", "0.100", "0.050"]);
            }
        }
        // Where a column never changes there is no range at all.
        let rows = other.copy();
        let _ = rows.select(1, LAYOUT.terminal()).fill_(0.4);
        refused(&judged(&real, &rows), &["terminal", "outside"]);
    }

    /// Whatever the outcomes are: with this it is not asked how well they follow.
    #[test]
    fn rows_far_from_all_real_ones_are_refused() {
        let (real, other) = rows();
        let anything_follows = CheckConfig {
            most_error: f64::INFINITY,
            resolution: f64::INFINITY,
            ..CheckConfig::default()
        };
        let report = judged_by(&anything_follows, &real, &other);
        assert_eq!(report.verdict, Ok(()));
        let report = judged_by(&anything_follows, &real, &shuffled(&other, 0..8));
        refused(&report, &["from the nearest real one"]);
    }

    #[test]
    fn the_same_draws_give_the_same_report() {
        let (real, other) = rows();
        assert_eq!(judged(&real, &other), judged(&real, &other));
    }

    #[test]
    fn too_few_rows_are_told_with_the_number_wanted() {
        let (real, other) = rows();
        let mut draws = Seeded::new(7, 0, OPTIONS);
        let config = CheckConfig::default();
        let few = real.narrow(0, 0, 999);
        let error = check(&config, LAYOUT, &few, &other, &mut draws).unwrap_err();
        assert_eq!(Err(&error), enough(&config, 999).as_ref());
        let message = error.to_string();
        for part in ["999", "1000", "least_rows"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(enough(&config, 1000), Ok(()));
        let error = check(&config, LAYOUT, &real, &other.narrow(0, 0, 99), &mut draws);
        assert_eq!(error, Err(CannotCheck::TooFewGenerated(99)));
        let _ = real.get(4).get(1).fill_(f64::NAN);
        let error = check(&config, LAYOUT, &real, &other, &mut draws).unwrap_err();
        assert!(error.to_string().contains("row 4"), "{error}");
    }
}
