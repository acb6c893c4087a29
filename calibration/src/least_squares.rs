//! The method of Levenberg and Marquardt (Marquardt 1963, with Nielsen's damping, 1999) for fits of
//! some hundred unknowns.
//!
//! A [`Fit`] says what its state is and how far it is from what was seen. Poses are no vectors: a state
//! is moved by a small change in its tangent space, so that no angle wraps and no quaternion has to be
//! brought back to unit length. The Jacobian is by central differences there.

use nalgebra::{DMatrix, DVector};

/// Something that is to be fitted.
pub trait Fit {
    /// What is sought.
    type State: Clone;

    /// Numbers of a change of it.
    fn unknowns(&self) -> usize;

    /// How many residuals there are.
    fn residuals(&self) -> usize;

    /// The state, moved by a small change.
    fn moved(&self, state: &Self::State, change: &DVector<f64>) -> Self::State;

    /// Differences between what was seen and what the state predicts, in the same unit for all, or each
    /// divided by its own uncertainty. A state that predicts nothing gives what is not finite.
    fn residual(&self, state: &Self::State, out: &mut DVector<f64>);

    /// Steps of the central differences, one for each unknown.
    fn steps(&self) -> DVector<f64> {
        DVector::repeat(self.unknowns(), 1e-6)
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Fitted<S> {
    /// The best state.
    pub state: S,
    /// What is left there.
    pub residual: DVector<f64>,
    /// Covariance of a small change of the state, by the spread of what is left: s² (JᵀJ)⁻¹ with
    /// s² the sum of squares over residuals less unknowns. `None`: some direction is not determined.
    pub covariance: Option<DMatrix<f64>>,
    /// The direction in which the state is known worst, of length 1, and how much the residual changes
    /// along it (the least singular value of the Jacobian).
    pub weakest: (DVector<f64>, f64),
    /// Iterations.
    pub iterations: usize,
}

impl<S> Fitted<S> {
    /// Root mean square of what is left.
    pub fn rms(&self) -> f64 {
        (self.residual.norm_squared() / self.residual.len().max(1) as f64).sqrt()
    }
}

/// Why nothing came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Fewer residuals than unknowns.
    #[error("{residuals} measurements for {unknowns} unknowns; take more views")]
    TooFew {
        /// What was measured.
        residuals: usize,
        /// What is sought.
        unknowns: usize,
    },
    /// The start predicts nothing.
    #[error("the first guess does not predict what was seen; a view may be of something else")]
    Start,
}

const ITERATIONS: usize = 60;

/// Fits from `start`.
pub fn fit<F: Fit>(fit: &F, start: F::State) -> Result<Fitted<F::State>, FitError> {
    let (residuals, unknowns) = (fit.residuals(), fit.unknowns());
    if residuals < unknowns {
        return Err(FitError::TooFew {
            residuals,
            unknowns,
        });
    }
    let mut state = start;
    let mut residual = DVector::zeros(residuals);
    fit.residual(&state, &mut residual);
    let mut cost = residual.norm_squared();
    if !cost.is_finite() {
        return Err(FitError::Start);
    }
    let mut jacobian = jacobian_at(fit, &state);
    let mut damping = 1e-3 * jacobian_scale(&jacobian);
    let (mut grow, mut iterations) = (2.0, 0);
    let mut tried = DVector::zeros(residuals);
    while iterations < ITERATIONS {
        iterations += 1;
        let normal = jacobian.tr_mul(&jacobian);
        let gradient = jacobian.tr_mul(&residual);
        let damped = &normal + DMatrix::identity(unknowns, unknowns) * damping;
        let Some(change) = damped.cholesky().map(|factor| factor.solve(&-&gradient)) else {
            damping *= grow;
            grow *= 2.0;
            continue;
        };
        let next = fit.moved(&state, &change);
        fit.residual(&next, &mut tried);
        let next_cost = tried.norm_squared();
        // What the linear model promised.
        let promised = change.dot(&(&change * damping - &gradient));
        if next_cost.is_finite() && next_cost < cost {
            let gained = cost - next_cost;
            let ratio = gained / promised.max(f64::MIN_POSITIVE);
            (state, cost) = (next, next_cost);
            residual.copy_from(&tried);
            damping *= (1.0 - (2.0 * ratio - 1.0).powi(3)).max(1.0 / 3.0);
            grow = 2.0;
            if gained <= 1e-14 * cost {
                break;
            }
            jacobian = jacobian_at(fit, &state);
        } else {
            if promised <= 1e-14 * cost || !damping.is_finite() {
                break;
            }
            damping *= grow;
            grow *= 2.0;
        }
    }
    let jacobian = jacobian_at(fit, &state);
    let (covariance, weakest) = certainty(&jacobian, cost);
    Ok(Fitted {
        state,
        residual,
        covariance,
        weakest,
        iterations,
    })
}

fn jacobian_at<F: Fit>(fit: &F, state: &F::State) -> DMatrix<f64> {
    let (residuals, unknowns) = (fit.residuals(), fit.unknowns());
    let steps = fit.steps();
    let mut jacobian = DMatrix::zeros(residuals, unknowns);
    let mut change = DVector::zeros(unknowns);
    let (mut ahead, mut behind) = (DVector::zeros(residuals), DVector::zeros(residuals));
    for i in 0..unknowns {
        change[i] = steps[i];
        fit.residual(&fit.moved(state, &change), &mut ahead);
        change[i] = -steps[i];
        fit.residual(&fit.moved(state, &change), &mut behind);
        change[i] = 0.0;
        ahead -= &behind;
        jacobian.set_column(i, &(&ahead / (2.0 * steps[i])));
    }
    jacobian
}

fn jacobian_scale(jacobian: &DMatrix<f64>) -> f64 {
    let longest = jacobian.column_iter().map(|c| c.norm_squared());
    longest.fold(f64::MIN_POSITIVE, f64::max)
}

fn certainty(jacobian: &DMatrix<f64>, cost: f64) -> (Option<DMatrix<f64>>, (DVector<f64>, f64)) {
    let unknowns = jacobian.ncols();
    let eigen = jacobian.tr_mul(jacobian).symmetric_eigen();
    let least = eigen.eigenvalues.imin();
    let (smallest, largest) = (eigen.eigenvalues[least], eigen.eigenvalues.max());
    let direction = eigen.eigenvectors.column(least).into_owned();
    let weakest = (direction, smallest.max(0.0).sqrt());
    // Below this the differences' own error is what is seen.
    if smallest.is_nan() || smallest <= 1e-13 * largest {
        return (None, weakest);
    }
    let inverse = eigen.eigenvalues.map(|value| 1.0 / value);
    let vectors = &eigen.eigenvectors;
    let covariance = vectors * DMatrix::from_diagonal(&inverse) * vectors.transpose();
    let spare = jacobian.nrows().saturating_sub(unknowns).max(1);
    (Some(covariance * (cost / spare as f64)), weakest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = a exp(b x), at some x.
    struct Growth {
        seen: Vec<(f64, f64)>,
    }

    impl Fit for Growth {
        type State = [f64; 2];

        fn unknowns(&self) -> usize {
            2
        }

        fn residuals(&self) -> usize {
            self.seen.len()
        }

        fn moved(&self, state: &[f64; 2], change: &DVector<f64>) -> [f64; 2] {
            [state[0] + change[0], state[1] + change[1]]
        }

        fn residual(&self, [a, b]: &[f64; 2], out: &mut DVector<f64>) {
            for (out, (x, y)) in out.iter_mut().zip(&self.seen) {
                *out = a * (b * x).exp() - y;
            }
        }
    }

    fn growth(xs: usize, noise: f64) -> Growth {
        let seen = (0..xs).map(|i| {
            let x = i as f64 / 10.0;
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            (x, 2.0 * (-0.7 * x).exp() + sign * noise)
        });
        Growth {
            seen: seen.collect(),
        }
    }

    #[test]
    fn what_is_exact_is_found_exactly() {
        let fitted = fit(&growth(30, 0.0), [0.5, 0.5]).unwrap();
        assert!((fitted.state[0] - 2.0).abs() < 1e-9, "{:?}", fitted.state);
        assert!((fitted.state[1] + 0.7).abs() < 1e-9, "{:?}", fitted.state);
        assert!(fitted.rms() < 1e-9);
    }

    #[test]
    fn its_covariance_is_the_one_of_the_linear_model() {
        let (growth, noise) = (growth(40, 1e-3), 1e-3);
        let fitted = fit(&growth, [1.0, 0.0]).unwrap();
        let [a, b] = fitted.state;
        let analytic = DMatrix::from_fn(40, 2, |row, column| {
            let (x, _) = growth.seen[row];
            let e = (b * x).exp();
            if column == 0 { e } else { a * x * e }
        });
        let inverse = analytic.tr_mul(&analytic).try_inverse().unwrap();
        let wanted = inverse * (noise * noise * 40.0 / 38.0);
        let covariance = fitted.covariance.unwrap();
        assert!(
            (&covariance - &wanted).norm() < 0.02 * wanted.norm(),
            "{covariance} {wanted}"
        );
    }

    #[test]
    fn what_is_not_determined_is_said() {
        // At x = 0 alone b does not matter.
        let growth = Growth {
            seen: vec![(0.0, 2.0), (0.0, 2.1), (0.0, 1.9)],
        };
        let fitted = fit(&growth, [1.0, 0.3]).unwrap();
        assert!(fitted.covariance.is_none());
        assert!(fitted.weakest.0[1].abs() > 0.99);
        assert!((fitted.state[0] - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_start_that_predicts_nothing_and_too_few_measurements() {
        let error = fit(&growth(30, 0.0), [f64::NAN, 0.0]).unwrap_err();
        assert_eq!(error, FitError::Start);
        let error = fit(&growth(1, 0.0), [1.0, 0.0]).unwrap_err();
        assert!(matches!(
            error,
            FitError::TooFew {
                residuals: 1,
                unknowns: 2
            }
        ));
    }
}
