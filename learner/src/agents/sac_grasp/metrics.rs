//! Figures beside each loss. All are \[\], on the agent's device.

use tch::{Kind, Tensor};

use crate::agents::Figures;

/// What the critic loss saw.
#[derive(Debug)]
pub struct CriticMetrics {
    /// The loss.
    pub critic_loss: Tensor,
    /// Mean of Q over members and batch.
    pub predicted_qs: Tensor,
    /// Mean target.
    pub target_qs: Tensor,
    /// Mean reward, bias included.
    pub rewards: Tensor,
}

/// What the grasp critic's loss saw.
#[derive(Debug)]
pub struct GraspMetrics {
    /// The loss.
    pub grasp_critic_loss: Tensor,
    /// Mean value of the choices taken.
    pub predicted_grasp_qs: Tensor,
    /// Mean target.
    pub target_grasp_qs: Tensor,
    /// Mean reward with penalty.
    pub grasp_rewards: Tensor,
}

/// What the actor's loss saw.
#[derive(Debug)]
pub struct ActorMetrics {
    /// The loss.
    pub actor_loss: Tensor,
    /// −mean log π of the actor's own draw.
    pub entropy: Tensor,
    /// T before its step.
    pub temperature: Tensor,
}

/// One update's figures; absent parts were not trained.
#[derive(Debug)]
pub struct Metrics {
    /// Critics.
    pub critic: CriticMetrics,
    /// Grasp critic.
    pub grasp: Option<GraspMetrics>,
    /// Actor.
    pub actor: Option<ActorMetrics>,
    /// The temperature's loss, of an update that trained the actor.
    pub temperature_loss: Option<Tensor>,
}

impl Metrics {
    /// By name.
    pub fn figures(self) -> Figures {
        let critic = self.critic;
        let mut figures = vec![
            ("critic_loss", critic.critic_loss),
            ("predicted_q", critic.predicted_qs),
            ("target_q", critic.target_qs),
            ("batch_reward", critic.rewards),
        ];
        if let Some(grasp) = self.grasp {
            figures.extend([
                ("grasp_critic_loss", grasp.grasp_critic_loss),
                ("predicted_grasp_q", grasp.predicted_grasp_qs),
                ("target_grasp_q", grasp.target_grasp_qs),
            ]);
        }
        if let Some(actor) = self.actor {
            figures.extend([
                ("actor_loss", actor.actor_loss),
                ("entropy", actor.entropy),
                ("temperature", actor.temperature),
            ]);
        }
        figures.extend(self.temperature_loss.map(|loss| ("temperature_loss", loss)));
        Figures(figures)
    }
}

pub(super) fn mean_of(x: &Tensor) -> Tensor {
    x.detach().mean(None::<Kind>)
}
