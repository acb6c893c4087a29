//! `sac-grasp`: HIL-SERL's agent (Luo et al. 2024, arXiv 2410.21845) — soft actor-critic (Haarnoja
//! et al. 2018) on the maps of a frozen encoder, with a critic for the grippers beside it.
//!
//! One encoder head (spatial embeddings per camera, proprioception) serves all networks. The
//! critics and the grasp critic train it; the actor's gradient stops at the cameras' embeddings but
//! does reach proprioception, as in the reference. Dropout is on only where the *actor* encodes.
//!
//! Three ways to work a gripper ([`GripperHead`]):
//! - `fixed`: there is none to learn; plain SAC.
//! - `grasp-critic`: HIL-SERL's double DQN on {close, stay, open} (9 joint choices for two arms).
//! - `categorical`: the critics take state and motion and give one value per choice; the gripper's
//!   policy is softmax(min Q / entropy). It shares what the critics learn, and learned faster in
//!   our lift task.
//!
//! Every loss has an Adam of its own over the parameters it can touch, all gradients are taken at
//! the old parameters, and a loss that is skipped still moves its parameters by leftover momentum:
//! this is what the reference's summed optimizers do.

mod acting;
mod alternating;
mod checkpoint;
mod config;
mod draws;
mod metrics;
mod networks;

use tch::{Device, Kind, Tensor, no_grad};

pub use self::{
    alternating::Alternating,
    config::{GripperHead, SacGraspConfig, Shapes},
    draws::{Loss, Noise, SeededNoise},
    metrics::{ActorMetrics, CriticMetrics, GraspMetrics, Metrics},
};

use self::{
    metrics::mean_of,
    networks::{Encoding, Sample, sle_kernel},
};
use super::sight::SightTransitions;
use crate::nn::{Adam, AdamConfig, Params, spatial};

/// Which networks an update trains. HIL-SERL alternates: `cta_ratio − 1` critic updates, then one
/// full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Critics only.
    CriticOnly,
    /// Critics, actor and temperature.
    Full,
}

/// A loss with its gradients, before any step: what golden tests look at.
#[derive(Debug)]
pub struct Gradients {
    /// Per optimizer ("critic", "grasp_critic", "actor", "temperature"): parameter name → gradient.
    pub of: Vec<(&'static str, Vec<(String, Tensor)>)>,
}

/// The agent: parameters, targets, optimizers, and the number of updates made.
#[derive(Debug)]
pub struct SacGrasp {
    config: SacGraspConfig,
    shapes: Shapes,
    params: Params,
    target: Params,
    critic_adam: Adam,
    grasp_adam: Option<Adam>,
    actor_adam: Adam,
    temperature_adam: Adam,
    updates: u64,
}

impl SacGrasp {
    /// Fresh networks from torch's generator seeded with `seed`. Targets start as copies.
    pub fn new(
        config: SacGraspConfig,
        shapes: Shapes,
        kind: Kind,
        device: Device,
        seed: u64,
    ) -> Self {
        tch::manual_seed(seed as i64);
        let params = Params::new(&Self::specs(&config, &shapes), kind, device);
        let target =
            params.frozen_copy(|n| !n.starts_with("actor.") && !n.starts_with("temperature."));
        let adam = |wanted: fn(&str) -> bool| {
            Adam::new(AdamConfig::new(config.lr), &params, params.select(wanted))
        };
        let critic_adam = adam(|n| n.starts_with("encoder.") || n.starts_with("critic"));
        let grasp_adam = (config.gripper == GripperHead::GraspCritic)
            .then(|| adam(|n| n.starts_with("encoder.") || n.starts_with("grasp_critic.")));
        let actor_adam = adam(|n| n.starts_with("encoder.proprio.") || n.starts_with("actor."));
        let temperature_adam = adam(|n| n == "temperature.raw");
        Self {
            config,
            shapes,
            params,
            target,
            critic_adam,
            grasp_adam,
            actor_adam,
            temperature_adam,
            updates: 0,
        }
    }

    /// Hyperparameters.
    pub fn config(&self) -> &SacGraspConfig {
        &self.config
    }

    /// Sizes.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The online networks.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The target networks.
    pub fn target(&self) -> &Params {
        &self.target
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    // --- gradients and draws ---------------------------------------------------------------

    /// Gradients of a loss for an optimizer's leaves. Spatial features are leaves of the graph; from
    /// them the chain rule is taken to their kernels by hand.
    fn gradients(
        &self,
        loss: Tensor,
        adam: &Adam,
        b: &Prepared,
        features: &[Tensor],
        keep_graph: bool,
    ) -> Vec<Tensor> {
        let mut leaves = adam.leaves(&self.params);
        let own = leaves.len();
        leaves.extend(features);
        let mut grads = Tensor::run_backward(&[loss], &leaves, keep_graph, false);
        let of_features = grads.split_off(own);
        let cameras = self.shapes.cameras.iter().zip(b.maps).zip(&of_features);
        for (((camera, _), maps), grad) in cameras {
            let name = sle_kernel(camera);
            let is_kernel = |&place: &usize| self.params.names()[place] == name;
            if let Some(k) = adam.places().iter().position(is_kernel) {
                grads[k] = spatial::backward(self.params.get(&name), maps, grad);
            }
        }
        grads
    }

    /// Factors of the spatial features: 0, or what makes up for those that are 0.
    fn dropout(&self, loss: Loss, batch: i64, noise: &mut dyn Noise) -> Vec<Tensor> {
        let features = |channels: i64| channels * self.config.spatial_features;
        let mask = |(camera, [_, _, c]): &(String, [i64; 3])| {
            let mut keep = noise.keep(loss, camera, &[batch, features(*c)]);
            keep.g_div_scalar_(1.0 - self.config.dropout)
        };
        self.shapes.cameras.iter().map(mask).collect()
    }

    /// The joint gripper choice of each row as an index \[B\]: 3·first + second for two.
    pub fn choice(&self, actions: &Tensor) -> Tensor {
        let column = |&c: &i64| actions.select(1, c).round().to_kind(Kind::Int64) + 1;
        let choice = self
            .shapes
            .gripper_columns
            .iter()
            .map(column)
            .reduce(|joint, next| joint * 3 + next);
        choice
            .unwrap_or_else(|| Tensor::zeros([actions.size()[0]], (Kind::Int64, actions.device())))
    }

    /// A critic's values \[B\] of the gripper choices in these actions, where it has one for each choice.
    fn of_choice(&self, q: Tensor, actions: &Tensor) -> Tensor {
        let q = match self.config.gripper {
            GripperHead::Categorical { .. } => {
                q.gather(1, &self.choice(actions).unsqueeze(1), false)
            }
            _ => q,
        };
        q.squeeze_dim(1)
    }

    fn motion(&self, actions: &Tensor) -> Tensor {
        actions.index_select(
            1,
            &Tensor::from_slice(&self.shapes.motion_columns).to_device(actions.device()),
        )
    }

    /// softmax(min Q / entropy) \[B, choices\].
    fn gripper_policy(min_q: &Tensor, entropy: f64) -> Tensor {
        (min_q / entropy).softmax(-1, None::<Kind>)
    }

    fn min(values: &[Tensor]) -> Tensor {
        values
            .iter()
            .skip(1)
            .fold(values[0].shallow_clone(), |least, v| least.minimum(v))
    }

    fn biased(&self, rewards: &Tensor) -> Tensor {
        match self.config.reward_bias {
            0.0 => rewards.shallow_clone(),
            bias => rewards + bias,
        }
    }

    /// What the critics are rewarded with \[B\]. A categorical gripper is judged by them too, so its penalty belongs
    /// in it.
    pub fn rewards(&self, batch: &SightTransitions) -> Tensor {
        let rewards = self.biased(&batch.rewards);
        match self.config.gripper {
            GripperHead::Categorical { .. } => rewards + &batch.grasp_penalty,
            _ => rewards,
        }
    }

    // --- losses ----------------------------------------------------------------------------

    /// What several losses need of the next observations.
    fn next(&self, b: &Prepared) -> Next {
        no_grad(|| {
            let features = self.features(&self.target, b.next_maps);
            Next {
                features: self.features(&self.params, b.next_maps),
                target: (self.encode(&self.target, &features, b.next_proprio, None)).joined(),
            }
        })
    }

    /// The policy's own draw at the next observations; dropout is on, as wherever it encodes.
    fn next_sample(&self, loss: Loss, b: &Prepared, next: &Next, noise: &mut dyn Noise) -> Sample {
        let keep = Some(self.dropout(loss, b.size, noise));
        let encoding = self.encode(&self.params, &next.features, b.next_proprio, keep);
        let motion = self.shapes.motion_columns.len() as i64;
        self.sample(&encoding.joined(), &noise.normal(loss, &[b.size, motion]))
    }

    /// y = r + γ·mask·min Q̄(s', a') \[B\], with a' from the policy.
    fn critic_target(
        &self,
        b: &Prepared,
        next: &Next,
        rewards: &Tensor,
        noise: &mut dyn Noise,
    ) -> Tensor {
        no_grad(|| {
            let drawn = self.next_sample(Loss::Critic, b, next, noise);
            let mut qs = self.critics(&self.target, &next.target, &drawn.motion);
            if let Some(count) = self.config.critic_subsample {
                qs = noise
                    .subsample(count, qs.len())
                    .into_iter()
                    .map(|j| qs[j].shallow_clone())
                    .collect();
            }
            let least = Self::min(&qs);
            let value = match self.config.gripper {
                GripperHead::Categorical { entropy } => (Self::gripper_policy(&least, entropy)
                    * &least)
                    .sum_dim_intlist([1].as_slice(), false, None::<Kind>),
                _ => least.squeeze_dim(1),
            };
            let mut y = rewards + b.masks * value * self.config.discount;
            if self.config.backup_entropy {
                // As in the reference: neither discounted nor masked.
                y -= self.temperature() * drawn.log_prob;
            }
            assert_eq!(y.size(), [b.size]);
            y
        })
    }

    /// Mean squared error over members and batch.
    fn critic_loss(
        &self,
        encoded: &Tensor,
        b: &Prepared,
        rewards: &Tensor,
        y: &Tensor,
    ) -> (Tensor, CriticMetrics) {
        let qs: Vec<Tensor> = self
            .critics(&self.params, encoded, &self.motion(b.actions))
            .into_iter()
            .map(|q| self.of_choice(q, b.actions))
            .collect();
        let qs = Tensor::stack(&qs, 0);
        assert_eq!(qs.size(), [self.config.critics as i64, b.size]);
        let loss = (&qs - y.unsqueeze(0)).square().mean(None::<Kind>);
        let metrics = CriticMetrics {
            critic_loss: mean_of(&loss),
            predicted_qs: mean_of(&qs),
            target_qs: mean_of(y),
            rewards: mean_of(rewards),
        };
        (loss, metrics)
    }

    /// Double DQN (van Hasselt et al. 2016) on reward plus grasp penalty.
    fn grasp_loss(
        &self,
        encoded: &Tensor,
        b: &Prepared,
        next: &Next,
        rewards: &Tensor,
    ) -> (Tensor, GraspMetrics) {
        let rewards = rewards + b.grasp_penalty;
        let y = no_grad(|| {
            let online = self
                .encode(&self.params, &next.features, b.next_proprio, None)
                .joined();
            let best = self.grasp_critic(&self.params, &online).argmax(1, true);
            let value = self
                .grasp_critic(&self.target, &next.target)
                .gather(1, &best, false)
                .squeeze_dim(1);
            &rewards + b.masks * value * self.config.discount
        });
        let q = self.grasp_critic(&self.params, encoded);
        let q = q
            .gather(1, &self.choice(b.actions).unsqueeze(1), false)
            .squeeze_dim(1);
        assert_eq!(q.size(), [b.size]);
        let loss = (&q - &y).square().mean(None::<Kind>);
        let metrics = GraspMetrics {
            grasp_critic_loss: mean_of(&loss),
            predicted_grasp_qs: mean_of(&q),
            target_grasp_qs: mean_of(&y),
            grasp_rewards: mean_of(&rewards),
        };
        (loss, metrics)
    }

    /// −mean(mean_j Q_j(s, a) − T·log π). The critics see the encoding without dropout and take no
    /// gradient but through the action.
    fn actor_loss(
        &self,
        features: &[Tensor],
        encoded: &Tensor,
        b: &Prepared,
        noise: &mut dyn Noise,
    ) -> (Tensor, ActorMetrics) {
        let keep = self.dropout(Loss::Actor, b.size, noise);
        let features: Vec<Tensor> = features.iter().map(Tensor::detach).collect();
        let own = self.encode(&self.params, &features, b.proprio, Some(keep));
        let own = Encoding {
            cameras: own.cameras.detach(),
            proprio: own.proprio,
        };
        let motion = self.shapes.motion_columns.len() as i64;
        let drawn = self.sample(&own.joined(), &noise.normal(Loss::Actor, &[b.size, motion]));
        let qs = self.critics(&self.params, &encoded.detach(), &drawn.motion);
        let value = match self.config.gripper {
            GripperHead::Categorical { entropy } => {
                let weights = Self::gripper_policy(&Self::min(&qs), entropy).detach();
                let mean = Tensor::stack(&qs, 0).mean_dim([0].as_slice(), false, None::<Kind>);
                (weights * mean).sum_dim_intlist([1].as_slice(), false, None::<Kind>)
            }
            _ => Tensor::stack(&qs, 0)
                .mean_dim([0].as_slice(), false, None::<Kind>)
                .squeeze_dim(1),
        };
        assert_eq!(value.size(), [b.size]);
        let temperature = self.temperature().detach();
        let loss = -(value - &temperature * &drawn.log_prob).mean(None::<Kind>);
        let metrics = ActorMetrics {
            actor_loss: mean_of(&loss),
            entropy: -mean_of(&drawn.log_prob),
            temperature,
        };
        (loss, metrics)
    }

    /// T·(entropy − target entropy), with the entropy of a draw of its own at the next observation.
    fn temperature_loss(&self, b: &Prepared, next: &Next, noise: &mut dyn Noise) -> Tensor {
        let entropy = no_grad(|| {
            let drawn = self.next_sample(Loss::Temperature, b, next, noise);
            -drawn.log_prob.mean(None::<Kind>)
        });
        let columns = match self.config.gripper {
            GripperHead::Categorical { .. } => self.shapes.motion_columns.len() as i64,
            // As in the reference, though the entropy is the motion's alone.
            _ => self.shapes.action(),
        };
        let target = (self.config.target_entropy).unwrap_or(-(columns as f64) / 2.0);
        self.temperature() * (entropy - target)
    }

    // --- the update ------------------------------------------------------------------------

    /// One update. Losses, gradients (at the old parameters), steps, targets.
    pub fn update(
        &mut self,
        batch: &SightTransitions,
        update: Update,
        noise: &mut dyn Noise,
    ) -> Metrics {
        self.update_with(batch, update, noise, |_| ())
    }

    /// As [`SacGrasp::update`]; `look` sees the gradients before the steps.
    pub fn update_with(
        &mut self,
        batch: &SightTransitions,
        update: Update,
        noise: &mut dyn Noise,
        look: impl FnOnce(&Gradients),
    ) -> Metrics {
        let b = Prepared::of(batch);
        let grasp_rewards = self.biased(&batch.rewards);
        let rewards = self.rewards(batch);
        let next = self.next(&b);
        let y = self.critic_target(&b, &next, &rewards, noise);
        let features: Vec<Tensor> = (self.features(&self.params, b.maps).into_iter())
            .map(|features| features.set_requires_grad(true))
            .collect();
        let encoded = (self.encode(&self.params, &features, b.proprio, None)).joined();
        let (critic_loss, critic) = self.critic_loss(&encoded, &b, &rewards, &y);
        let two = self.grasp_adam.is_some();
        let critic_grads = self.gradients(critic_loss, &self.critic_adam, &b, &features, two);
        let grasp = self.grasp_adam.as_ref().map(|adam| {
            let (loss, metrics) = self.grasp_loss(&encoded, &b, &next, &grasp_rewards);
            (self.gradients(loss, adam, &b, &features, false), metrics)
        });
        let full = (update == Update::Full).then(|| {
            let (loss, metrics) = self.actor_loss(&features, &encoded, &b, noise);
            let actor =
                Tensor::run_backward(&[loss], &self.actor_adam.leaves(&self.params), false, false);
            let loss = self.temperature_loss(&b, &next, noise);
            let leaves = self.temperature_adam.leaves(&self.params);
            let temperature = Tensor::run_backward(&[&loss], &leaves, false, false);
            Trained {
                actor,
                temperature,
                metrics,
                temperature_loss: loss.detach(),
            }
        });
        let mut all = vec![("critic", &self.critic_adam, Some(&critic_grads))];
        all.extend(
            self.grasp_adam
                .as_ref()
                .map(|a| ("grasp_critic", a, grasp.as_ref().map(|g| &g.0))),
        );
        all.push(("actor", &self.actor_adam, full.as_ref().map(|f| &f.actor)));
        all.push((
            "temperature",
            &self.temperature_adam,
            full.as_ref().map(|f| &f.temperature),
        ));
        look(&self.named(&all));
        self.critic_adam.step(&self.params, Some(&critic_grads));
        if let (Some(adam), Some((grads, _))) = (self.grasp_adam.as_mut(), grasp.as_ref()) {
            adam.step(&self.params, Some(grads));
        }
        self.actor_adam
            .step(&self.params, full.as_ref().map(|f| f.actor.as_slice()));
        self.temperature_adam.step(
            &self.params,
            full.as_ref().map(|f| f.temperature.as_slice()),
        );
        self.target
            .track(&self.params, self.config.target_update_rate);
        self.updates += 1;
        let (actor, temperature_loss) = full.map(|f| (f.metrics, f.temperature_loss)).unzip();
        Metrics {
            critic,
            grasp: grasp.map(|g| g.1),
            actor,
            temperature_loss,
        }
    }

    fn named(&self, all: &[(&'static str, &Adam, Option<&Vec<Tensor>>)]) -> Gradients {
        let names = |adam: &Adam| {
            adam.places()
                .iter()
                .map(|&i| self.params.names()[i].clone())
                .collect::<Vec<_>>()
        };
        let of = all.iter().filter_map(|(loss, adam, grads)| {
            let named = names(adam).into_iter().zip(grads.as_ref()?.iter());
            Some((
                *loss,
                named
                    .filter(|(_, g)| g.defined())
                    .map(|(n, g)| (n, g.shallow_clone()))
                    .collect(),
            ))
        });
        Gradients { of: of.collect() }
    }

    /// Overwrites one parameter, online or target: for golden tests and for loading weights.
    pub fn set(&self, target: bool, name: &str, value: &Tensor) {
        if target {
            self.target.set(name, value)
        } else {
            self.params.set(name, value)
        }
    }
}

/// A batch, and its size.
struct Prepared<'a> {
    size: i64,
    maps: &'a [Tensor],
    next_maps: &'a [Tensor],
    proprio: &'a Tensor,
    next_proprio: &'a Tensor,
    actions: &'a Tensor,
    masks: &'a Tensor,
    grasp_penalty: &'a Tensor,
}

impl<'a> Prepared<'a> {
    fn of(b: &'a SightTransitions) -> Self {
        Self {
            size: b.actions.size()[0],
            maps: &b.observations.maps,
            next_maps: &b.next_observations.maps,
            proprio: &b.observations.proprio,
            next_proprio: &b.next_observations.proprio,
            actions: &b.actions,
            masks: &b.masks,
            grasp_penalty: &b.grasp_penalty,
        }
    }
}

/// What a full update makes besides the critics'.
struct Trained {
    actor: Vec<Tensor>,
    temperature: Vec<Tensor>,
    metrics: ActorMetrics,
    temperature_loss: Tensor,
}

/// The next observations, encoded as far as it is the same for all losses.
struct Next {
    /// Spatial features with the online weights.
    features: Vec<Tensor>,
    /// The target networks' encoding.
    target: Tensor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centring_is_the_same_as_normalising_the_input() {
        let shapes = Shapes {
            cameras: vec![("front".into(), [2, 2, 4])],
            proprio: 3,
            motion_columns: vec![0, 1],
            gripper_columns: vec![],
        };
        let config = SacGraspConfig {
            gripper: GripperHead::Fixed,
            hidden: vec![8, 8],
            ..SacGraspConfig::default()
        };
        let options = (Kind::Double, Device::Cpu);
        let agent = SacGrasp::new(config, shapes, options.0, options.1, 1);
        let maps = [Tensor::randn([5, 2, 2, 4], options)];
        let raw = Tensor::randn([5, 3], options);
        let (mean, std) = ([0.5f32, -0.25, 0.0], [0.125f32, 2.0, 1.0]);
        let row = |v: &[f32]| Tensor::from_slice(v).to_kind(Kind::Double);
        let want = agent.encoded(&maps, &((&raw - row(&mean)) / row(&std)));
        agent.centre_proprio(&mean, &std);
        let got = agent.encoded(&maps, &raw);
        assert!((got - want).abs().max().double_value(&[]) < 1e-12);
        assert_eq!(
            agent.target().get("encoder.proprio.dense.bias"),
            &agent.params().get("encoder.proprio.dense.bias").detach()
        );
    }
}
