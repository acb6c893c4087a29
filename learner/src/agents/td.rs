//! What critics that learn by temporal differences share.

use tch::{Kind, Tensor};

use super::{Transitions, gradients, net::Net};

/// What a critic reads: observations \[B, O\] and actions \[B, A\] side by side.
pub fn joined(observations: &Tensor, actions: &Tensor) -> Tensor {
    assert_eq!(observations.size()[0], actions.size()[0]);
    Tensor::cat(&[observations, actions], 1)
}

/// The actions' part \[B, A\] of the gradient \[B, O + A\] of what [`joined`] gave.
pub fn actions_part(gradient: &Tensor, actions: &Tensor) -> Tensor {
    let (whole, own) = (gradient.size(), actions.size());
    assert_eq!(whole[0], own[0]);
    gradient.narrow(1, whole[1] - own[1], own[1])
}

/// r + γ m V(s') \[B\]: an episode that ran out of time goes on in V(s'), one that terminated does not.
pub fn target(batch: &Transitions, discount: f64, next_value: &Tensor) -> Tensor {
    assert_eq!(next_value.size(), [batch.rows()]);
    &batch.rewards + &batch.masks * next_value * discount
}

/// Mean squared error of N critics' values \[N, B\] against one target \[B\]: \[N\].
pub fn squared_errors(q: &Tensor, target: &Tensor) -> Tensor {
    let size = q.size();
    assert_eq!(size.len(), 2);
    assert_eq!(target.size(), size[1..]);
    (q - target).square().mean_dim(1, false, None::<Kind>)
}

/// What a critics' loss saw.
#[derive(Debug)]
pub struct CriticMetrics {
    /// The loss.
    pub loss: Tensor,
    /// Mean of Q over critics and batch.
    pub q: Tensor,
    /// Mean target.
    pub target: Tensor,
}

impl CriticMetrics {
    /// Of critics' values \[N, B\] and their target \[B\].
    pub fn new(loss: &Tensor, q: &Tensor, target: &Tensor) -> Self {
        Self {
            loss: loss.detach(),
            q: q.detach().mean(None::<Kind>),
            target: target.mean(None::<Kind>),
        }
    }

    /// By name.
    pub fn figures(self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("critic_loss", self.loss),
            ("q", self.q),
            ("target_q", self.target),
        ]
    }
}

/// What the lesser of two critics, or the least of more, thinks of actions \[B\].
pub fn least(critics: &Net, observations: &Tensor, actions: &Tensor) -> Tensor {
    let q = critics.value(&joined(observations, actions));
    q.squeeze_dim(-1).amin(0, false)
}

/// Gradients of the critics' parameters, of the loss of their values \[N, B\] against one target \[B\]; they read
/// `state_actions` ([`joined`]). `through` asks for the loss's gradient there too, at the observations \[B, O\].
pub fn critic_gradients(
    critics: &Net,
    batch: &Transitions,
    state_actions: &Tensor,
    target: &Tensor,
    loss: impl Fn(&Tensor, &Tensor) -> (Tensor, CriticMetrics),
    through: bool,
) -> (Vec<Tensor>, CriticMetrics, Option<Tensor>) {
    let pass = critics.forward(state_actions);
    let (loss, metrics) = loss(&pass.out.squeeze_dim(-1), target);
    let of_values = gradients(&loss, &[&pass.out]);
    let (params, taught) = critics.backward_through(&pass, &of_values[0], through);
    let columns = batch.observations.size()[1];
    let at_observations = |of_each: Tensor| {
        let of_all = of_each.sum_dim_intlist(0, false, None::<Kind>);
        of_all.narrow(1, 0, columns)
    };
    (params, metrics, taught.map(at_observations))
}

/// The critics' step along [`critic_gradients`].
pub fn step(
    critics: &mut Net,
    batch: &Transitions,
    state_actions: &Tensor,
    target: &Tensor,
    loss: impl Fn(&Tensor, &Tensor) -> (Tensor, CriticMetrics),
    through: bool,
) -> (CriticMetrics, Option<Tensor>) {
    let (grads, metrics, taught) =
        critic_gradients(critics, batch, state_actions, target, loss, through);
    critics.step(&grads);
    (metrics, taught)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_terminated_does_not_go_on() {
        let row = |values: &[f64]| Tensor::from_slice(values);
        let batch = Transitions {
            observations: Tensor::zeros([3, 1], tch::kind::DOUBLE_CPU),
            actions: Tensor::zeros([3, 1], tch::kind::DOUBLE_CPU),
            rewards: row(&[1.0, 2.0, 3.0]),
            next_observations: Tensor::zeros([3, 1], tch::kind::DOUBLE_CPU),
            masks: row(&[1.0, 0.0, 1.0]),
            returns: None,
        };
        let target = target(&batch, 0.5, &row(&[10.0, 10.0, 20.0]));
        assert_eq!(target, row(&[6.0, 2.0, 13.0]));
        let errors = squared_errors(&Tensor::stack(&[&target + 1.0, &target + 3.0], 0), &target);
        assert_eq!(errors, row(&[1.0, 9.0]));
    }
}
