//! Bad input is named before it does harm.
//!
//! Whoever makes a batch, or loads a data set, checks it there ([`check_batch`]): on the host, once, before it
//! goes to a device. Whoever trains hands every update's figures to a [`Watch`], which reads them together when
//! somebody wants them: a loss that diverged is found with the number of its update, and no update waits for
//! the device. Whoever writes or reads a checkpoint checks it ([`check_state`]), so that the last one on disk
//! stays good.

use tch::{Device, Kind, Tensor};

use super::{Figures, Transitions};

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadBatch {
    /// A tensor does not fit the agent or the other tensors.
    #[error(
        "`{tensor}` has shape {got:?}, the agent needs {wanted:?}: is it data of another task, or was the \
         agent made for other sizes?"
    )]
    Shape {
        /// Which.
        tensor: &'static str,
        /// Its shape.
        got: Vec<i64>,
        /// What it should be.
        wanted: Vec<i64>,
    },
    /// A number is NaN or infinite.
    #[error(
        "`{tensor}` has {value} in row {row}, column {column}: leave that transition out, or mend what wrote it"
    )]
    NotFinite {
        /// Which.
        tensor: &'static str,
        /// Row, from 0.
        row: i64,
        /// Column, from 0.
        column: i64,
        /// NaN or infinity.
        value: f64,
    },
    /// A number is outside of what it can be.
    #[error(
        "`{tensor}` has {value} in row {row}, column {column}, it must lie in {least} to 1: {remedy}"
    )]
    Range {
        /// Which.
        tensor: &'static str,
        /// Row, from 0.
        row: i64,
        /// Column, from 0.
        column: i64,
        /// What is there.
        value: f64,
        /// The smallest that may be; the largest is 1.
        least: f64,
        /// What to do.
        remedy: &'static str,
    },
}

/// So far beyond ±1 an action may lie: what rounding makes of a bound.
pub const SLACK: f64 = 1e-4;

/// Row, column and value of the first number that `bad` \[...\] points at.
fn first(tensor: &Tensor, bad: &Tensor) -> Option<(i64, i64, f64)> {
    let places = bad.reshape([-1]).nonzero();
    if places.size()[0] == 0 {
        return None;
    }
    let place = places.int64_value(&[0, 0]);
    let columns = tensor.size().get(1).copied().unwrap_or(1);
    let value = tensor.reshape([-1]).double_value(&[place]);
    Some((place / columns, place % columns, value))
}

/// The first number that is NaN or infinite. Looks at numbers one by one only if their sum is.
fn not_finite(tensor: &Tensor) -> Option<(i64, i64, f64)> {
    let sum = tensor.sum(Kind::Double).double_value(&[]);
    if sum.is_finite() {
        return None;
    }
    first(tensor, &tensor.isfinite().logical_not())
}

fn beyond(
    tensor: &'static str,
    values: &Tensor,
    least: f64,
    remedy: &'static str,
) -> Result<(), BadBatch> {
    if values.numel() == 0 {
        return Ok(());
    }
    let (low, high) = (
        values.min().double_value(&[]),
        values.max().double_value(&[]),
    );
    if low >= least - SLACK && high <= 1.0 + SLACK {
        return Ok(());
    }
    let outside = values.lt(least - SLACK).logical_or(&values.gt(1.0 + SLACK));
    match first(values, &outside) {
        None => Ok(()),
        Some((row, column, value)) => Err(BadBatch::Range {
            tensor,
            row,
            column,
            value,
            least,
            remedy,
        }),
    }
}

/// Shapes, numbers and ranges of a batch, or of a whole data set, for an agent that takes observations and
/// actions of these sizes. Reads the numbers: call it where they are on the host.
pub fn check_batch(batch: &Transitions, observation: i64, action: i64) -> Result<(), BadBatch> {
    let rows = batch.actions.size().first().copied().unwrap_or(0);
    let mut tensors = vec![
        ("observations", &batch.observations, vec![rows, observation]),
        ("actions", &batch.actions, vec![rows, action]),
        ("rewards", &batch.rewards, vec![rows]),
        (
            "next_observations",
            &batch.next_observations,
            vec![rows, observation],
        ),
        ("masks", &batch.masks, vec![rows]),
    ];
    if let Some(returns) = &batch.returns {
        tensors.push(("returns", returns, vec![rows]));
    }
    for (tensor, values, wanted) in &tensors {
        let got = values.size();
        if got != *wanted {
            let (tensor, wanted) = (*tensor, wanted.clone());
            return Err(BadBatch::Shape {
                tensor,
                got,
                wanted,
            });
        }
    }
    for (tensor, values, _) in tensors {
        if let Some((row, column, value)) = not_finite(values) {
            return Err(BadBatch::NotFinite {
                tensor,
                row,
                column,
                value,
            });
        }
    }
    beyond(
        "actions",
        &batch.actions,
        -1.0,
        "scale the actions to ±1 by the bounds of their space",
    )?;
    beyond(
        "masks",
        &batch.masks,
        0.0,
        "it is 0 where the episode terminated, else 1",
    )
}

/// A loss went where it does not come back from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "`{figure}` is {value} at update {update}: the training diverged. Go on from the last checkpoint with a \
     smaller step size, and look at the scale of observations and rewards"
)]
pub struct Diverged {
    /// Which figure.
    pub figure: &'static str,
    /// NaN or infinity.
    pub value: f64,
    /// The update, from 1.
    pub update: u64,
}

/// Figures of updates that nobody has read yet.
#[derive(Debug, Default)]
pub struct Watch {
    unchecked: Vec<(u64, &'static str, Tensor)>,
    /// Of those that were: the sum of each figure, and of how many.
    sums: Vec<(&'static str, f64, f64)>,
}

impl Watch {
    /// Keeps the figures of an update. They stay on the device, one small tensor each, until [`Watch::check`].
    pub fn note(&mut self, update: u64, figures: Figures) {
        let own = figures.0.into_iter();
        self.unchecked
            .extend(own.map(|(name, value)| (update, name, value.detach())));
    }

    /// Looks at the figures since the last time; waits for the device, once. The first that is not finite is an
    /// error, after which nothing is left to read.
    pub fn check(&mut self) -> Result<(), Diverged> {
        let unchecked = std::mem::take(&mut self.unchecked);
        if unchecked.is_empty() {
            return Ok(());
        }
        let mut sums = std::mem::take(&mut self.sums);
        let alike = |value: &Tensor| match value.device() {
            // Apple's GPU has no f64.
            Device::Mps => value.to_kind(Kind::Float),
            _ => value.to_kind(Kind::Double),
        };
        let together: Vec<Tensor> = unchecked.iter().map(|(_, _, value)| alike(value)).collect();
        let together = (Tensor::stack(&together, 0).to_device(Device::Cpu)).to_kind(Kind::Double);
        let mut values = vec![0f64; unchecked.len()];
        together.copy_data(&mut values, unchecked.len());
        for ((update, figure, _), value) in unchecked.into_iter().zip(values) {
            if !value.is_finite() {
                return Err(Diverged {
                    figure,
                    value,
                    update,
                });
            }
            match sums.iter_mut().find(|(name, _, _)| *name == figure) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1.0),
                None => sums.push((figure, value, 1.0)),
            }
        }
        self.sums = sums;
        Ok(())
    }

    /// The mean of each figure since the last time they were read, in the order of their first appearance, after a
    /// [`Watch::check`].
    pub fn read(&mut self) -> Result<Vec<(&'static str, f64)>, Diverged> {
        self.check()?;
        let means = std::mem::take(&mut self.sums).into_iter();
        Ok(means
            .map(|(name, sum, count)| (name, sum / count))
            .collect())
    }
}

/// What is wrong with an agent's state.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadState {
    /// The agent has a tensor that the state lacks.
    #[error("the state has no `{tensor}`: it is one of another algorithm")]
    Missing {
        /// Which.
        tensor: String,
    },
    /// A tensor of another size.
    #[error(
        "`{tensor}` has shape {got:?}, this agent's has {wanted:?}: give it the sizes and layers that the \
         state was made with"
    )]
    Shape {
        /// Which.
        tensor: String,
        /// Its shape.
        got: Vec<i64>,
        /// The agent's.
        wanted: Vec<i64>,
    },
    /// A number is NaN or infinite.
    #[error(
        "`{tensor}` has {value} at place {place}: the training diverged before this state was kept"
    )]
    NotFinite {
        /// Which.
        tensor: String,
        /// Place among its numbers, from 0.
        place: i64,
        /// NaN or infinity.
        value: f64,
    },
}

/// Whether `state` is one that an agent whose own state is `own` can go on from. With its own it says whether
/// every number in it is finite: before a checkpoint is written.
pub fn check_state(own: &[(String, Tensor)], state: &[(String, Tensor)]) -> Result<(), BadState> {
    for (name, ours) in own {
        let tensor = name.clone();
        let Some((_, given)) = state.iter().find(|(other, _)| other == name) else {
            return Err(BadState::Missing { tensor });
        };
        let (got, wanted) = (given.size(), ours.size());
        if got != wanted {
            return Err(BadState::Shape {
                tensor,
                got,
                wanted,
            });
        }
        if let Some((place, _, value)) = not_finite(&given.to_device(Device::Cpu).reshape([-1])) {
            return Err(BadState::NotFinite {
                tensor,
                place,
                value,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Transitions {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, tch::kind::FLOAT_CPU);
        Transitions {
            observations: zeros(&[4, 3]),
            actions: zeros(&[4, 2]),
            rewards: zeros(&[4]),
            next_observations: zeros(&[4, 3]),
            masks: zeros(&[4]),
            returns: Some(zeros(&[4])),
        }
    }

    #[test]
    fn a_bad_number_is_named_with_its_tensor_and_row() {
        assert_eq!(check_batch(&batch(), 3, 2), Ok(()));
        for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let bad = batch();
            let _ = bad.next_observations.get(2).get(1).fill_(value);
            let said = check_batch(&bad, 3, 2).unwrap_err().to_string();
            let start = format!("`next_observations` has {shown} in row 2, column 1");
            assert!(said.starts_with(&start), "{said}");
        }
        let bad = batch();
        let _ = bad.returns.as_ref().unwrap().get(3).fill_(f64::NAN);
        let found = check_batch(&bad, 3, 2).unwrap_err();
        assert!(matches!(
            found,
            BadBatch::NotFinite {
                tensor: "returns",
                row: 3,
                column: 0,
                ..
            }
        ));
        // Their sum is beyond f32, the numbers are not.
        let large = batch();
        let _ = large.rewards.shallow_clone().fill_(3e38);
        assert_eq!(check_batch(&large, 3, 2), Ok(()));
    }

    #[test]
    fn another_action_space_is_named() {
        let found = check_batch(&batch(), 3, 7).unwrap_err();
        let (got, wanted) = (vec![4, 2], vec![4, 7]);
        assert_eq!(
            found,
            BadBatch::Shape {
                tensor: "actions",
                got,
                wanted
            }
        );
        let bad = Transitions {
            rewards: Tensor::zeros([4, 1], tch::kind::FLOAT_CPU),
            ..batch()
        };
        let found = check_batch(&bad, 3, 2).unwrap_err();
        assert!(matches!(
            found,
            BadBatch::Shape {
                tensor: "rewards",
                ..
            }
        ));
        let bad = batch();
        let _ = bad.actions.get(1).get(0).fill_(-2.0);
        let said = check_batch(&bad, 3, 2).unwrap_err().to_string();
        assert!(
            said.starts_with("`actions` has -2 in row 1, column 0, it must lie in -1 to 1"),
            "{said}"
        );
        let bad = batch();
        let _ = bad.masks.get(0).fill_(-1.0);
        let found = check_batch(&bad, 3, 2).unwrap_err();
        assert!(matches!(
            found,
            BadBatch::Range {
                tensor: "masks",
                row: 0,
                ..
            }
        ));
    }

    #[test]
    fn a_watch_gives_means_and_the_update_that_diverged() {
        let figures = |loss: f64| Figures(vec![("loss", Tensor::from(loss))]);
        let mut watch = Watch::default();
        assert_eq!(watch.read(), Ok(vec![]));
        watch.note(1, figures(1.0));
        watch.note(
            2,
            Figures(vec![("loss", Tensor::from(4.0)), ("q", Tensor::from(7f32))]),
        );
        assert_eq!(watch.check(), Ok(()));
        watch.note(3, figures(4.0));
        assert_eq!(watch.read(), Ok(vec![("loss", 3.0), ("q", 7.0)]));
        for (update, loss) in [(4, 1.0), (5, f64::NEG_INFINITY), (6, f64::NAN)] {
            watch.note(update, figures(loss));
        }
        let (figure, value) = ("loss", f64::NEG_INFINITY);
        assert_eq!(
            watch.read(),
            Err(Diverged {
                figure,
                value,
                update: 5
            })
        );
        assert_eq!(watch.read(), Ok(vec![]));
    }

    #[test]
    fn a_state_of_another_network_or_with_nan_is_refused() {
        let state = |values: &[f32]| vec![("actor.params".to_owned(), Tensor::from_slice(values))];
        let own = state(&[1.0, 2.0]);
        assert_eq!(check_state(&own, &own), Ok(()));
        let said = check_state(&own, &state(&[1.0])).unwrap_err().to_string();
        assert!(
            said.starts_with("`actor.params` has shape [1], this agent's has [2]"),
            "{said}"
        );
        let tensor = "actor.params".to_owned();
        assert_eq!(check_state(&own, &[]), Err(BadState::Missing { tensor }));
        let found = check_state(&own, &state(&[1.0, f32::NAN])).unwrap_err();
        assert!(matches!(found, BadState::NotFinite { place: 1, .. }));
    }
}
