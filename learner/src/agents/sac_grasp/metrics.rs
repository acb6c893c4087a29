//! Figures beside each loss.

/// What the critic loss saw.
#[derive(Clone, Debug, Default)]
pub struct CriticMetrics {
    /// The loss.
    pub critic_loss: f64,
    /// Mean of Q over members and batch.
    pub predicted_qs: f64,
    /// Mean target.
    pub target_qs: f64,
    /// Mean reward, bias included.
    pub rewards: f64,
}

/// What the grasp critic's loss saw.
#[derive(Clone, Debug, Default)]
pub struct GraspMetrics {
    /// The loss.
    pub grasp_critic_loss: f64,
    /// Mean value of the choices taken.
    pub predicted_grasp_qs: f64,
    /// Mean target.
    pub target_grasp_qs: f64,
    /// Mean reward with penalty.
    pub grasp_rewards: f64,
}

/// What actor and temperature losses saw.
#[derive(Clone, Debug, Default)]
pub struct ActorMetrics {
    /// The actor's loss.
    pub actor_loss: f64,
    /// −mean log π of the actor's own draw.
    pub entropy: f64,
    /// T before its step.
    pub temperature: f64,
    /// The temperature's loss.
    pub temperature_loss: f64,
}

/// One update's figures; absent parts were not trained.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Critics.
    pub critic: CriticMetrics,
    /// Grasp critic.
    pub grasp: Option<GraspMetrics>,
    /// Actor and temperature.
    pub actor: Option<ActorMetrics>,
}
