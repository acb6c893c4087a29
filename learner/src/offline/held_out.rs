//! How an agent does on data that it does not learn from.

use tch::{Device, Kind, Tensor};

use crate::course::judge::{ADVANTAGE_WEIGHTED_ERROR, IMITATION_ERROR};

/// A weight exp(advantage) is clamped there, as IQL and AWAC do.
const MOST_WEIGHT: f64 = 100.0;

/// What the critics say of B rows, each \[B\].
pub(super) struct Values {
    /// Q(s, a).
    pub data: Tensor,
    /// Q(s, π(s)).
    pub policy: Tensor,
    /// r + γ m Q(s', π(s')) − Q(s, a).
    pub td: Tensor,
}

/// B rows, judged.
pub(super) struct Judged {
    /// Mean squared error of the policy's action \[B\].
    error: Tensor,
    /// Absent without a critic.
    values: Option<Values>,
}

impl Judged {
    /// Of the data's actions a and the policy's best ones π(s) \[B, A\].
    pub(super) fn new(data: &Tensor, policy: &Tensor, values: Option<Values>) -> Self {
        let error = (policy - data).square().mean_dim(1, false, None::<Kind>);
        Self { error, values }
    }

    /// The first `rows` of them.
    pub(super) fn first(self, rows: i64) -> Self {
        let first = |x: Tensor| x.narrow(0, 0, rows);
        let values = self.values.map(|values| Values {
            data: first(values.data),
            policy: first(values.policy),
            td: first(values.td),
        });
        Self {
            error: first(self.error),
            values,
        }
    }
}

/// Figures over all rows:
/// - `q_data`, `q_policy`: mean Q(s, a) and mean Q(s, π(s));
/// - `td_error`: mean |r + γ m Q(s', π(s')) − Q(s, a)|;
/// - `advantage_weighted_error`: mean over columns of (π(s) − a)², weighted by exp of the advantage Q(s, a) −
///   Q(s, π(s)) in standard deviations from its mean, at most 100; weights sum up to 1. The scale of rewards does not
///   matter to it;
/// - `imitation_error`: the same with equal weights.
///
/// Without a critic the last alone.
pub(super) fn figures(of_slices: &[Judged]) -> Vec<(&'static str, f64)> {
    if of_slices.is_empty() {
        return vec![];
    }
    // On the host: Apple's GPU has no f64.
    let joined =
        |parts: Vec<&Tensor>| (Tensor::cat(&parts, 0).to_device(Device::Cpu)).to_kind(Kind::Double);
    let mean = |x: &Tensor| x.mean(None::<Kind>).double_value(&[]);
    let errors = joined(of_slices.iter().map(|judged| &judged.error).collect());
    let mut figures = vec![];
    let values: Option<Vec<&Values>> = (of_slices.iter())
        .map(|judged| judged.values.as_ref())
        .collect();
    if let Some(values) = values {
        let column = |of: fn(&Values) -> &Tensor| joined(values.iter().map(|v| of(v)).collect());
        let (data, policy) = (column(|v| &v.data), column(|v| &v.policy));
        let td = column(|v| &v.td).abs();
        let advantage = &data - &policy;
        let spread = advantage
            .std(false)
            .double_value(&[])
            .max(f64::MIN_POSITIVE);
        let standard = (&advantage - mean(&advantage)) / spread;
        let weights = standard.exp().clamp_max(MOST_WEIGHT);
        let weights = &weights / weights.sum(Kind::Double);
        figures.extend([
            ("q_data", mean(&data)),
            ("q_policy", mean(&policy)),
            ("td_error", mean(&td)),
            (
                ADVANTAGE_WEIGHTED_ERROR,
                (weights * &errors).sum(Kind::Double).double_value(&[]),
            ),
        ]);
    }
    figures.push((IMITATION_ERROR, mean(&errors)));
    figures
}
