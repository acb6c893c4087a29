//! What the trained networks say: actions, and what these are worth.

use hilt_protocol::NamedTensor;
use tch::{Kind, Tensor, no_grad};

use super::{GripperHead, SacGrasp};
use crate::agents::sight::Sight;

impl SacGrasp {
    /// What the exported policy graph computes: actions \[B, A\]. `explore` is 0 (greedy) or 1;
    /// `gumbel` \[B, choices\].
    pub fn act(
        &self,
        maps: &[Tensor],
        proprio: &Tensor,
        normal: &Tensor,
        gumbel: &Tensor,
        explore: f64,
    ) -> Tensor {
        no_grad(|| {
            let encoded = self.encoded(maps, proprio);
            let (mean, std) = self.actor(&self.params, &encoded);
            let motion = (mean + std * normal * explore).tanh();
            let choice = match self.config.gripper {
                GripperHead::Fixed => return motion,
                GripperHead::GraspCritic => {
                    self.grasp_critic(&self.params, &encoded).argmax(1, false)
                }
                GripperHead::Categorical { entropy } => {
                    let q = Self::min(&self.critics(&self.params, &encoded, &motion));
                    (q / entropy + gumbel * explore).argmax(1, false)
                }
            };
            let actions = Tensor::zeros(
                [motion.size()[0], self.shapes.action()],
                (motion.kind(), motion.device()),
            );
            for (k, &column) in self.shapes.motion_columns.iter().enumerate() {
                actions.select(1, column).copy_(&motion.select(1, k as i64));
            }
            let grippers = self.shapes.gripper_columns.len();
            for (k, &column) in self.shapes.gripper_columns.iter().enumerate() {
                let digit = choice
                    .floor_divide_scalar(3i64.pow((grippers - 1 - k) as u32))
                    .remainder(3);
                actions.select(1, column).copy_(&(digit - 1));
            }
            actions
        })
    }

    /// The best actions it knows \[B, A\].
    pub fn best(&self, sight: &Sight) -> Tensor {
        let options = (sight.proprio.kind(), sight.proprio.device());
        let none = |columns: i64| Tensor::zeros([sight.proprio.size()[0], columns], options);
        let normal = none(self.shapes.motion_columns.len() as i64);
        let gumbel = none(self.shapes.choices());
        self.act(&sight.maps, &sight.proprio, &normal, &gumbel, 0.0)
    }

    /// The critics' mean value of actions \[B\]. A grasp critic, which judges grippers alone, has no part in it.
    pub fn value(&self, sight: &Sight, actions: &Tensor) -> Tensor {
        no_grad(|| {
            let encoded = self.encoded(&sight.maps, &sight.proprio);
            let qs = self.critics(&self.params, &encoded, &self.motion(actions));
            let qs: Vec<Tensor> = (qs.into_iter())
                .map(|q| self.of_choice(q, actions))
                .collect();
            Tensor::stack(&qs, 0).mean_dim(0, false, None::<Kind>)
        })
    }

    /// The parameters that the policy graph takes as inputs.
    pub fn policy_weights(&self) -> Vec<NamedTensor> {
        let critics = matches!(self.config.gripper, GripperHead::Categorical { .. });
        let grasp = self.config.gripper == GripperHead::GraspCritic;
        self.params.export(|n| {
            n.starts_with("encoder.")
                || n.starts_with("actor.")
                || (critics && n.starts_with("critic"))
                || (grasp && n.starts_with("grasp_critic."))
        })
    }
}
