//! The policy of soft actor-critics: actions are tanh of a normal draw, and the network gives mean and log σ.
//!
//! Shapes: … any leading dimensions, A action columns.

use std::f64::consts::{LN_2, TAU};

use tch::{Kind, Tensor, no_grad};

use super::{gradients, net::Net};
use crate::nn::mlp::Pass;

/// log σ is clamped to this, in all references.
pub const LOG_STD: (f64, f64) = (-20.0, 2.0);

/// How log π takes account of the tanh: −Σ ln(1 − tanh²z) in one of two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// 2 (ln 2 − z − softplus(−2z)): the same number, without losing digits (CQL, RLPD, HIL-SERL).
    Exact,
    /// ln(1 − tanh²z + 10⁻⁶), which stays finite though it loses digits (REDQ).
    Guarded,
}

/// The normal before the tanh.
#[derive(Debug)]
pub struct TanhGaussian {
    /// Mean \[…, A\].
    pub mean: Tensor,
    /// log σ \[…, A\], clamped to [`LOG_STD`].
    pub log_std: Tensor,
}

/// Actions and their log-probabilities.
#[derive(Debug)]
pub struct Sample {
    /// In ±1 \[…, A\].
    pub actions: Tensor,
    /// log π \[…\].
    pub log_prob: Tensor,
}

impl TanhGaussian {
    /// Of a network's output \[…, 2A\]: means, then log σ, to be multiplied and moved by `scale` if given.
    pub fn of_head(out: &Tensor, scale: Option<(&Tensor, &Tensor)>) -> Self {
        let halves = out.chunk(2, -1);
        let log_std = match scale {
            Some((multiplier, offset)) => multiplier * &halves[1] + offset,
            None => halves[1].shallow_clone(),
        };
        Self {
            mean: halves[0].shallow_clone(),
            log_std: log_std.clamp(LOG_STD.0, LOG_STD.1),
        }
    }

    /// The same n times \[B, n, A\], of \[B, A\], for draws of that shape.
    pub fn repeated(&self) -> Self {
        Self {
            mean: self.mean.unsqueeze(1),
            log_std: self.log_std.unsqueeze(1),
        }
    }

    /// The action of a standard normal draw \[…, A\], and its log-probability.
    pub fn sample(&self, normal: &Tensor, squash: Squash) -> Sample {
        let z = &self.mean + self.log_std.exp() * normal;
        let actions = z.tanh();
        let log_prob = self.density(&z, normal, &actions, squash);
        assert_eq!(log_prob.dim() + 1, actions.dim());
        Sample { actions, log_prob }
    }

    /// log π \[…\] of actions \[…, A\] that came from elsewhere. No draw ends at ±1: what lies there is taken for
    /// 10⁻⁶ less.
    pub fn log_prob(&self, actions: &Tensor) -> Tensor {
        let z = actions.clamp(1e-6 - 1.0, 1.0 - 1e-6).atanh();
        let normal = (&z - &self.mean) * (-&self.log_std).exp();
        self.density(&z, &normal, actions, Squash::Exact)
    }

    /// log π of tanh z, where z is σ · `normal` off the mean.
    fn density(&self, z: &Tensor, normal: &Tensor, actions: &Tensor, squash: Squash) -> Tensor {
        // The density of N(μ, σ²) at z is that of the standard normal at the draw, over σ.
        let density = normal.square() * -0.5 - 0.5 * TAU.ln() - &self.log_std;
        let squashed = match squash {
            Squash::Exact => (LN_2 - z - (z * -2.0).softplus()) * 2.0,
            Squash::Guarded => {
                let slope: Tensor = 1.0 - actions.square();
                (slope + 1e-6).log()
            }
        };
        (density - squashed).sum_dim_intlist(-1, false, None::<Kind>)
    }

    /// The action in the middle.
    pub fn best(&self) -> Tensor {
        self.mean.tanh()
    }
}

/// Gradients of an actor's loss through log π and through the critics' judgement of its actions.
///
/// `judged` is the critics' pass over \[observations, actions\]; `loss` is made of its output and of
/// `sample.log_prob`. By hand it goes from the critics' output to their input, where the actions are the last
/// columns; no gradient of the critics' weights is taken. `of` are leaves that `sample` was made of.
pub fn policy_gradients(
    loss: &Tensor,
    critics: &Net,
    judged: &Pass,
    sample: &Sample,
    of: &[&Tensor],
) -> Vec<Tensor> {
    let of_values = Tensor::run_backward(&[loss], &[&judged.out], true, false);
    let of_actions = no_grad(|| {
        let of_inputs = critics.backward_input(judged, &of_values[0]);
        let columns = sample.actions.size()[1];
        let first = of_inputs.size()[2] - columns;
        (of_inputs.narrow(2, first, columns)).sum_dim_intlist(0, false, None::<Kind>)
    });
    assert_eq!(of_actions.size(), sample.actions.size());
    // `loss` knows log π's part; this adds the actions' part.
    gradients(
        &(loss + (&sample.actions * of_actions).sum(None::<Kind>)),
        of,
    )
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{AdamConfig, Mlp};

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn near(a: &Tensor, b: &Tensor, tolerance: f64) {
        assert_eq!(a.size(), b.size());
        let off = (a.detach() - b.detach()).abs().max().double_value(&[]);
        assert!(off < tolerance, "{off}");
    }

    /// The density over actions sums to 1, and both forms agree where 1 − tanh² is far above 10⁻⁶.
    #[test]
    fn log_prob_is_that_of_the_action() {
        let head = Tensor::from_slice(&[0.3, -0.7]).view([1, 2]);
        let policy = TanhGaussian::of_head(&head, None);
        // All actions on a grid, as the draws that lead to them.
        let actions = Tensor::linspace(-0.99999, 0.99999, 400_001, OPTIONS).unsqueeze(1);
        let normal = (actions.atanh() - &policy.mean) / policy.log_std.exp();
        let step = 2.0 * 0.99999 / 400_000.0;
        for squash in [Squash::Exact, Squash::Guarded] {
            let sample = policy.sample(&normal, squash);
            near(&sample.actions, &actions, 1e-9);
            if squash == Squash::Exact {
                near(&policy.log_prob(&actions), &sample.log_prob, 1e-9);
            }
            let sum = sample.log_prob.exp().sum(None::<Kind>).double_value(&[]) * step;
            assert!((sum - 1.0).abs() < 1e-3, "{squash:?} {sum}");
        }
    }

    #[test]
    fn what_comes_back_by_hand_is_what_torch_gives() {
        let mlp = Mlp::ensemble("critics", 3, &[5, 8, 1]);
        let critics = Net::new(mlp, &[], AdamConfig::new(0.1), OPTIONS.0, OPTIONS.1);
        let observations = Tensor::randn([6, 3], OPTIONS);
        let head = Tensor::randn([6, 4], OPTIONS).set_requires_grad(true);
        let normal = Tensor::randn([6, 2], OPTIONS);
        let loss = |log_prob: &Tensor, q: &Tensor| {
            (log_prob * 0.3 - q.squeeze_dim(-1).amin(0, false)).mean(None::<Kind>)
        };
        let draw = || TanhGaussian::of_head(&head, None).sample(&normal, Squash::Exact);
        let sample = draw();
        let input = Tensor::cat(&[&observations, &sample.actions.detach()], 1);
        let judged = critics.forward(&input);
        let ours = policy_gradients(
            &loss(&sample.log_prob, &judged.out),
            &critics,
            &judged,
            &sample,
            &[&head],
        );
        let sample = draw();
        let p = critics.params();
        let input = Tensor::cat(&[&observations, &sample.actions], 1);
        let q = Vec::from_iter((0..3).map(|j| {
            let of = |name: &str| p.get(name).get(j);
            let hidden = input.linear(&of("critics.0.weight"), Some(&of("critics.0.bias")));
            (hidden.relu()).linear(&of("critics.1.weight"), Some(&of("critics.1.bias")))
        }));
        let theirs = gradients(&loss(&sample.log_prob, &Tensor::stack(&q, 0)), &[&head]);
        near(&ours[0], &theirs[0], 1e-12);
    }
}
