//! Learning from images: what stands between the maps of a frozen encoder and an algorithm on vectors.
//!
//! A [`MapFront`] turns a [`Sight`] (maps of every camera, and proprioception) into features \[B, E\] by spatial
//! embeddings and a dense layer per camera, as HIL-SERL does. Its features are the algorithm's observations, so
//! that every algorithm can stand on it ([`Sighted`]). As in DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645) the
//! critics' loss alone trains it, the policy takes its features as they are, and it has no target: next
//! observations are seen by the front itself.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    Agent, Draws, Figures, Transitions,
    draws::Seeded,
    net::{kept, put_back},
    sight::{Sight, SightAgent, SightTransitions},
};
use crate::nn::{
    Adam, AdamConfig, Init, ParamSpec, Params,
    layers::{centre, layer_norm, linear, linear_specs, norm_specs},
    spatial,
};

/// Hyperparameters. The default is HIL-SERL's (rail-berkeley/hil-serl@5d02aed, `create_pixels`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrontConfig {
    /// Spatial features per channel.
    pub spatial_features: i64,
    /// Width of a camera's embedding.
    pub bottleneck: i64,
    /// Width of proprioception's embedding.
    pub proprio_latent: i64,
    /// Step size.
    pub lr: f64,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            spatial_features: 8,
            bottleneck: 256,
            proprio_latent: 64,
            lr: 3e-4,
        }
    }
}

impl FrontConfig {
    /// E: the size of the observations that an algorithm gets from a front of so many cameras.
    pub fn width(&self, cameras: usize) -> i64 {
        cameras as i64 * self.bottleneck + self.proprio_latent
    }
}

/// Per camera spatial embeddings, dense, LayerNorm, tanh; of proprioception dense, LayerNorm, tanh; side by
/// side, proprioception last.
#[derive(Debug)]
pub struct MapFront {
    cameras: Vec<(String, [i64; 3])>,
    proprio: i64,
    width: i64,
    params: Params,
    adam: Adam,
}

/// Features, kept for the way back.
#[derive(Debug)]
pub struct Seen {
    /// The features \[B, E\], without history.
    pub features: Tensor,
    /// The same with history, back to the leaves `spatial` and the front's dense layers.
    out: Tensor,
    /// Spatial features of each camera \[B, C·F\].
    spatial: Vec<Tensor>,
}

fn kernel(camera: &str) -> String {
    format!("front.{camera}.sle.kernel_hwcf")
}

impl MapFront {
    /// A fresh one, from torch's generator: per camera its name and its map's \[h, w, C\], and how many numbers
    /// of proprioception there are.
    pub fn new(
        config: &FrontConfig,
        cameras: &[(String, [i64; 3])],
        proprio: i64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let c = config;
        let mut specs = Vec::new();
        let dense = |specs: &mut Vec<ParamSpec>, name: &str, inputs: i64, outputs: i64| {
            specs.extend(linear_specs(
                &format!("front.{name}.dense"),
                inputs,
                outputs,
            ));
            specs.extend(norm_specs(&format!("front.{name}.norm"), outputs));
        };
        for (camera, [h, w, channels]) in cameras {
            specs.push(ParamSpec {
                name: kernel(camera),
                shape: vec![*h, *w, *channels, c.spatial_features],
                init: Init::Lecun(h * w * channels),
            });
            dense(
                &mut specs,
                camera,
                channels * c.spatial_features,
                c.bottleneck,
            );
        }
        dense(&mut specs, "proprio", proprio, c.proprio_latent);
        let params = Params::new(&specs, kind, device);
        let adam = Adam::new(AdamConfig::new(c.lr), &params, params.select(|_| true));
        Self {
            cameras: cameras.to_vec(),
            proprio,
            width: c.width(cameras.len()),
            params,
            adam,
        }
    }

    /// Cameras, each with its map's \[h, w, C\].
    pub fn cameras(&self) -> &[(String, [i64; 3])] {
        &self.cameras
    }

    /// P: how many numbers of proprioception there are.
    pub fn proprio(&self) -> i64 {
        self.proprio
    }

    /// E: the size of the observations that an algorithm gets.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Its parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// As [`SightAgent::centre_proprio`].
    pub fn centre_proprio(&self, mean: &[f32], std: &[f32]) {
        centre(&[&self.params], "front.proprio.dense", mean, std);
    }

    fn spatial(&self, sight: &Sight) -> Vec<Tensor> {
        assert_eq!(sight.maps.len(), self.cameras.len());
        let each = self.cameras.iter().zip(&sight.maps);
        each.map(|((camera, _), maps)| spatial::forward(self.params.get(&kernel(camera)), maps))
            .collect()
    }

    fn embed(&self, spatial: &[Tensor], proprio: &Tensor) -> Tensor {
        let embedding = |name: &str, x: &Tensor| {
            let dense = linear(&self.params, &format!("front.{name}.dense"), x);
            layer_norm(&self.params, &format!("front.{name}.norm"), &dense).tanh()
        };
        let mut parts: Vec<Tensor> = (self.cameras.iter().zip(spatial))
            .map(|((camera, _), x)| embedding(camera, x))
            .collect();
        parts.push(embedding("proprio", proprio));
        Tensor::cat(&parts, 1)
    }

    /// Features, and what the way back needs.
    pub fn forward(&self, sight: &Sight) -> Seen {
        let spatial: Vec<Tensor> = self
            .spatial(sight)
            .into_iter()
            .map(|x| x.set_requires_grad(true))
            .collect();
        let out = self.embed(&spatial, &sight.proprio);
        Seen {
            features: out.detach(),
            out,
            spatial,
        }
    }

    /// Features \[B, E\] alone, with no way back.
    pub fn value(&self, sight: &Sight) -> Tensor {
        no_grad(|| self.embed(&self.spatial(sight), &sight.proprio))
    }

    /// Gradients of its parameters, in their order, from that of its features.
    pub fn backward(&self, sight: &Sight, seen: &Seen, gradient: &Tensor) -> Vec<Tensor> {
        assert_eq!(gradient.size(), seen.features.size());
        let names = self.params.names();
        let place = |name: &str| names.iter().position(|own| own == name);
        let kernels: Vec<Option<usize>> = self
            .cameras
            .iter()
            .map(|(camera, _)| place(&kernel(camera)))
            .collect();
        let dense: Vec<usize> = (0..names.len())
            .filter(|i| !kernels.contains(&Some(*i)))
            .collect();
        let mut leaves: Vec<&Tensor> = dense.iter().map(|&i| self.params.leaf(i)).collect();
        leaves.extend(&seen.spatial);
        let along = (&seen.out * gradient.detach()).sum(None::<Kind>);
        let mut found = Tensor::run_backward(&[along], &leaves, false, false);
        let of_spatial = found.split_off(dense.len());
        let mut grads: Vec<Tensor> = names.iter().map(|_| Tensor::new()).collect();
        for (i, grad) in dense.into_iter().zip(found) {
            grads[i] = grad;
        }
        // Nothing flows into the maps: from here to the kernels it goes by hand.
        let cameras = kernels
            .into_iter()
            .flatten()
            .zip(&sight.maps)
            .zip(&of_spatial);
        for ((i, maps), grad) in cameras {
            grads[i] = spatial::backward(self.params.leaf(i), maps, grad);
        }
        grads
    }

    /// A step of the optimizer along gradients in the order of the parameters.
    pub fn step(&mut self, grads: &[Tensor]) {
        self.adam.step(&self.params, Some(grads));
    }

    /// Parameters and optimizer, to save.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        kept("front", &self.params, &self.adam)
    }

    /// Puts back what [`MapFront::state`] gave.
    pub fn restore(&mut self, state: &[(String, Tensor)]) {
        put_back("front", state, &self.params, &mut self.adam);
    }
}

/// An algorithm behind a front.
///
/// Grippers are columns of its actions like any other: between −1 (close) and 1 (open), a command from the middle on
/// (the robot's safety filter has it so). Its critics judge them together with the motion, so that their penalty
/// belongs in the reward.
pub struct Sighted {
    front: MapFront,
    agent: Box<dyn Agent>,
}

impl Sighted {
    /// `agent` was made for observations of the front's [`MapFront::width`].
    pub fn new(front: MapFront, agent: Box<dyn Agent>) -> Self {
        Self { front, agent }
    }

    /// The front.
    pub fn front(&self) -> &MapFront {
        &self.front
    }

    /// The algorithm.
    pub fn agent(&self) -> &dyn Agent {
        &*self.agent
    }

    /// One update of the algorithm and, along its critics' loss, of the front; both gradients are those at the
    /// old parameters.
    pub fn update(&mut self, batch: &SightTransitions, draws: &mut dyn Draws) -> Figures {
        let seen = self.front.forward(&batch.observations);
        let features = Transitions {
            observations: seen.features.shallow_clone(),
            next_observations: self.front.value(&batch.next_observations),
            actions: batch.actions.shallow_clone(),
            rewards: self.rewards(batch),
            masks: batch.masks.shallow_clone(),
            returns: batch.returns.as_ref().map(Tensor::shallow_clone),
        };
        let (figures, taught) = self.agent.update_through(&features, draws, true);
        if let Some(gradient) = taught {
            let grads = self.front.backward(&batch.observations, &seen, &gradient);
            self.front.step(&grads);
        }
        figures
    }

    /// As [`Agent::act`].
    pub fn act(&self, sight: &Sight, draws: Option<&mut dyn Draws>) -> Tensor {
        self.agent.act(&self.front.value(sight), draws)
    }
}

impl SightAgent for Sighted {
    fn update_seeded(&mut self, batch: &SightTransitions, seed: u64) -> Figures {
        let options = (batch.rewards.kind(), batch.rewards.device());
        let mut draws = Seeded::new(seed, self.updates(), options);
        self.update(batch, &mut draws)
    }

    fn updates(&self) -> u64 {
        self.agent.updates()
    }

    fn parts(&self) -> i64 {
        self.agent.parts()
    }

    fn go_online(&mut self) {
        self.agent.go_online();
    }

    fn centre_proprio(&self, mean: &[f32], std: &[f32]) {
        self.front.centre_proprio(mean, std);
    }

    fn rewards(&self, batch: &SightTransitions) -> Tensor {
        &batch.rewards + &batch.grasp_penalty
    }

    fn best(&self, sight: &Sight) -> Tensor {
        self.act(sight, None)
    }

    fn value(&self, sight: &Sight, actions: &Tensor) -> Option<Tensor> {
        self.agent.value(&self.front.value(sight), actions)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.agent.state();
        state.extend(self.front.state());
        state
    }

    fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.agent.restore(state, updates);
        self.front.restore(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn front() -> MapFront {
        let cameras = [
            ("front".to_owned(), [2, 3, 4]),
            ("wrist".to_owned(), [2, 2, 4]),
        ];
        let config = FrontConfig {
            spatial_features: 2,
            bottleneck: 5,
            proprio_latent: 3,
            lr: 1e-2,
        };
        MapFront::new(&config, &cameras, 6, F64.0, F64.1)
    }

    fn sight(rows: i64) -> Sight {
        Sight {
            maps: vec![
                Tensor::randn([rows, 2, 3, 4], F64),
                Tensor::randn([rows, 2, 2, 4], F64),
            ],
            proprio: Tensor::randn([rows, 6], F64),
        }
    }

    /// Every parameter's gradient against what its own change does.
    #[test]
    fn gradients_are_what_a_small_change_shows() {
        tch::set_num_threads(1);
        let (front, sight) = (front(), sight(3));
        assert_eq!(front.width(), 2 * 5 + 3);
        let way = Tensor::randn([3, front.width()], F64);
        let seen = front.forward(&sight);
        assert!(
            seen.features
                .allclose(&front.value(&sight), 1e-12, 1e-12, false)
        );
        assert!(!seen.features.requires_grad());
        let grads = front.backward(&sight, &seen, &way);
        let score = || {
            (front.value(&sight) * &way)
                .sum(None::<Kind>)
                .double_value(&[])
        };
        for (name, grad) in front.params().names().iter().zip(&grads) {
            let place = grad.numel() as i64 / 2;
            let entry = front.params().get(name).detach().view([-1]).get(place);
            let change = 1e-6;
            let _ = entry.shallow_clone().g_add_scalar_(change);
            let more = score();
            let _ = entry.shallow_clone().g_sub_scalar_(2.0 * change);
            let slope = (more - score()) / (2.0 * change);
            let _ = entry.shallow_clone().g_add_scalar_(change);
            let ours = grad.reshape([-1]).double_value(&[place]);
            assert!(
                (ours - slope).abs() < 1e-6 * slope.abs().max(1.0),
                "{name}: {ours} {slope}"
            );
        }
    }

    #[test]
    fn centring_is_the_same_as_normalising_the_input() {
        tch::set_num_threads(1);
        let (front, raw) = (front(), sight(3));
        let (mean, std) = (
            [0.5f32, -0.25, 0.0, 1.0, 2.0, 0.0],
            [0.125f32, 2.0, 1.0, 1.0, 0.5, 4.0],
        );
        let row = |values: &[f32]| Tensor::from_slice(values).to_kind(Kind::Double);
        let normalised = Sight {
            maps: raw.maps.iter().map(Tensor::shallow_clone).collect(),
            proprio: (&raw.proprio - row(&mean)) / row(&std),
        };
        let wanted = front.value(&normalised);
        front.centre_proprio(&mean, &std);
        assert!(front.value(&raw).allclose(&wanted, 1e-12, 1e-12, false));
    }
}
