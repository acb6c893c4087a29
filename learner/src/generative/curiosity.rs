//! Curiosity: how much a transition surprises a model of what actions do (Pathak et al. 2017, arXiv 1705.05363), as
//! PGR has it (`conditional_nets.py`).
//!
//! Observations become features φ. An inverse network tells the action from the features before and after it, so that
//! features are about what actions change. A forward network tells the features after from those before and the
//! action; its error is the relevance of a transition.
//!
//! The forward network: layers on \[φ(s), a\], then rounds h ← R(\[R(\[h, a\]), a\]) + h of one module R (PGR's list of
//! eight modules holds one eight times), then layers on \[h, a\]. The action goes in again each time.
//!
//! Shapes: B rows, O observation columns, A action columns, H features.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    agents::{
        Figures, Transitions, gradients,
        net::{kept, part, put_back},
    },
    nn::{
        Adam, AdamConfig, ParamSpec, Params,
        layers::{linear, norm_specs},
        params::Init,
    },
};

/// Hyperparameters. The default is PGR's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CuriosityConfig {
    /// H, also of the hidden layers (PGR: 256).
    pub hidden: i64,
    /// Rounds of the shared module (PGR: `resnet_time` 4).
    pub rounds: i64,
    /// Step size of Adam (PGR: 1e-4).
    pub lr: f64,
}

impl Default for CuriosityConfig {
    fn default() -> Self {
        Self {
            hidden: 256,
            rounds: 4,
            lr: 1e-4,
        }
    }
}

/// Layers of each half of the forward network, at these places of its list.
const FORWARD: [i64; 5] = [0, 2, 4, 6, 8];
const FEATURE: [i64; 3] = [0, 2, 4];
const RESIDUAL: [i64; 2] = [0, 2];
/// Linear layers of the inverse network, and the norm behind each but the last.
const INVERSE: [i64; 3] = [0, 3, 6];
const NORMS: [&str; 2] = ["inverse_net.1", "inverse_net.4"];

/// torch's `BatchNorm1d`: how far running statistics move, and what is added to a variance.
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// What BatchNorm remembers of the batches it saw \[H\].
#[derive(Debug)]
struct Running {
    mean: Tensor,
    variance: Tensor,
}

/// What the networks say of a batch.
struct Said {
    /// φ(s') \[B, H\].
    next_features: Tensor,
    /// What the forward network takes them for \[B, H\].
    foretold: Tensor,
    /// φ(s) and φ(s') side by side \[B, 2 H\].
    both: Tensor,
}

/// The model.
#[derive(Debug)]
pub struct Curiosity {
    rounds: i64,
    params: Params,
    adam: Adam,
    running: [Running; 2],
}

impl Curiosity {
    /// A fresh one, from torch's generator, for these many observation and action columns. Layers start as torch's
    /// `nn.Linear`.
    pub fn new(
        config: &CuriosityConfig,
        observations: i64,
        actions: i64,
        options: (Kind, Device),
    ) -> Self {
        let h = config.hidden;
        let mut specs = vec![];
        stack(&mut specs, "feature", &FEATURE, observations, h);
        let widths = [2 * h, h, h, actions];
        for (k, place) in INVERSE.into_iter().enumerate() {
            let name = format!("inverse_net.{place}");
            specs.extend(linear_specs(&name, widths[k], widths[k + 1]));
        }
        specs.extend(NORMS.iter().flat_map(|name| norm_specs(name, h)));
        stack(&mut specs, "residual.0", &RESIDUAL, h + actions, h);
        stack(&mut specs, "forward_net_1", &FORWARD, h + actions, h);
        stack(&mut specs, "forward_net_2", &FORWARD, h + actions, h);
        let params = Params::new(&specs, options.0, options.1);
        let adam = AdamConfig::new(config.lr);
        Self {
            rounds: config.rounds,
            adam: Adam::new(adam, &params, params.select(|_| true)),
            params,
            running: NORMS.map(|_| Running {
                mean: Tensor::zeros([h], options),
                variance: Tensor::ones([h], options),
            }),
        }
    }

    /// Its parameters, by the names that PGR's modules have.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Steps made.
    pub fn steps(&self) -> i64 {
        self.adam.steps()
    }

    /// Linear layers with Swish between them.
    fn layers(&self, name: &str, places: &[i64], x: &Tensor) -> Tensor {
        let mut x = x.shallow_clone();
        for (k, place) in places.iter().enumerate() {
            if k > 0 {
                x = x.silu();
            }
            x = linear(&self.params, &format!("{name}.{place}"), &x);
        }
        x
    }

    fn say(&self, batch: &Transitions) -> Said {
        let seen = [&batch.observations, &batch.next_observations];
        let features = self.layers("feature", &FEATURE, &Tensor::cat(&seen, 0));
        let [before, after] = [0, 1].map(|k| features.narrow(0, k * batch.rows(), batch.rows()));
        let beside = |h: &Tensor| Tensor::cat(&[h, &batch.actions], 1);
        let residual = |h: &Tensor| self.layers("residual.0", &RESIDUAL, &beside(h));
        let mut h = self.layers("forward_net_1", &FORWARD, &beside(&before));
        for _ in 0..self.rounds {
            h = residual(&residual(&h)) + h;
        }
        Said {
            foretold: self.layers("forward_net_2", &FORWARD, &beside(&h)),
            both: Tensor::cat(&[&before, &after], 1),
            next_features: after,
        }
    }

    /// The actions that the inverse network tells \[B, A\]. In training by the batch's own statistics, which the
    /// running ones move toward.
    fn tell_actions(&self, said: &Said, training: bool) -> Tensor {
        let mut x = said.both.shallow_clone();
        for (k, place) in INVERSE.iter().enumerate() {
            x = linear(&self.params, &format!("inverse_net.{place}"), &x);
            if let (Some(name), Some(running)) = (NORMS.get(k), self.running.get(k)) {
                let get = |what: &str| Some(self.params.get(&format!("{name}.{what}")));
                let (mean, variance) = (Some(&running.mean), Some(&running.variance));
                let (weight, bias) = (get("weight"), get("bias"));
                x = x
                    .batch_norm(weight, bias, mean, variance, training, MOMENTUM, EPS, false)
                    .silu();
            }
        }
        x
    }

    /// One step of Adam on real transitions, two or more: mean (φ(s') − φ̂)², whose φ(s') is not taught by it, plus
    /// mean (a − â)².
    pub fn step(&mut self, batch: &Transitions) -> Figures {
        let said = self.say(batch);
        let mean_square = |x: Tensor| x.square().mean(None::<Kind>);
        let forward = mean_square(said.next_features.detach() - &said.foretold);
        let inverse = mean_square(&batch.actions - self.tell_actions(&said, true));
        let grads = gradients(&(&forward + &inverse), &self.adam.leaves(&self.params));
        self.adam.step(&self.params, Some(&grads));
        Figures(vec![
            ("curiosity_forward_loss", forward.detach()),
            ("curiosity_inverse_loss", inverse.detach()),
        ])
    }

    /// How much each transition surprises it \[B\]: the mean over the features of (φ(s') − φ̂)².
    pub fn relevance(&self, batch: &Transitions) -> Tensor {
        no_grad(|| {
            let said = self.say(batch);
            let errors = (said.next_features - said.foretold).square();
            errors.mean_dim(1, false, None::<Kind>)
        })
    }

    /// The actions that it takes for those between two observations \[B, A\], by its running statistics.
    pub fn actions(&self, batch: &Transitions) -> Tensor {
        no_grad(|| self.tell_actions(&self.say(batch), false))
    }

    /// Everything that its next step depends on, running statistics too.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = kept("curiosity", &self.params, &self.adam);
        for (name, running) in NORMS.iter().zip(&self.running) {
            for (what, values) in [("mean", &running.mean), ("variance", &running.variance)] {
                state.push((format!("curiosity.{name}.running_{what}"), values.copy()));
            }
        }
        state
    }

    /// Puts back what [`Curiosity::state`] gave. A part that is missing or of another size is a mistake of the
    /// caller, who checks a file before: it panics.
    pub fn restore(&mut self, state: &[(String, Tensor)]) {
        put_back("curiosity", state, &self.params, &mut self.adam);
        for (name, running) in NORMS.iter().zip(&mut self.running) {
            for (what, values) in [
                ("mean", &mut running.mean),
                ("variance", &mut running.variance),
            ] {
                values.copy_(part(state, &format!("curiosity.{name}.running_{what}")));
            }
        }
    }
}

/// Specs of linear layers at these places, the first of `inputs` columns and all others square.
fn stack(specs: &mut Vec<ParamSpec>, name: &str, places: &[i64], inputs: i64, width: i64) {
    for (k, place) in places.iter().enumerate() {
        let inputs = if k == 0 { inputs } else { width };
        specs.extend(linear_specs(&format!("{name}.{place}"), inputs, width));
    }
}

fn linear_specs(name: &str, inputs: i64, outputs: i64) -> [ParamSpec; 2] {
    [("weight", vec![outputs, inputs]), ("bias", vec![outputs])].map(|(what, shape)| ParamSpec {
        name: format!("{name}.{what}"),
        shape,
        init: Init::Linear(inputs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn small() -> Curiosity {
        let config = CuriosityConfig {
            hidden: 16,
            lr: 3e-3,
            ..CuriosityConfig::default()
        };
        Curiosity::new(&config, 3, 2, OPTIONS)
    }

    /// An action moves the first two numbers of what is seen.
    fn known(rows: i64) -> Transitions {
        let observations = Tensor::randn([rows, 3], OPTIONS);
        let actions = Tensor::rand([rows, 2], OPTIONS) * 2.0 - 1.0;
        let moved = Tensor::cat(&[&actions, &Tensor::zeros([rows, 1], OPTIONS)], 1);
        Transitions {
            next_observations: &observations + moved,
            rewards: Tensor::zeros([rows], OPTIONS),
            masks: Tensor::ones([rows], OPTIONS),
            observations,
            actions,
            returns: None,
        }
    }

    fn mean(x: &Tensor) -> f64 {
        x.mean(None::<Kind>).double_value(&[])
    }

    #[test]
    fn what_it_has_not_seen_surprises_it_more_than_what_it_knows() {
        tch::set_num_threads(1);
        tch::manual_seed(2);
        let mut curiosity = small();
        let mut last = vec![];
        for _ in 0..600 {
            last = curiosity.step(&known(64)).read();
        }
        let inverse = last[1];
        assert_eq!(inverse.0, "curiosity_inverse_loss");
        assert!(inverse.1 < 0.1, "{inverse:?}");
        let new = known(200);
        let off = (curiosity.actions(&new) - &new.actions).square();
        assert!(mean(&off) < 0.1, "{}", mean(&off));
        let mut strange = known(200);
        strange.next_observations += 2.0;
        let (strange, known) = (
            mean(&curiosity.relevance(&strange)),
            mean(&curiosity.relevance(&known(200))),
        );
        assert!(strange > 5.0 * known, "{strange} {known}");
    }

    /// A row's relevance is its own: it hangs neither on the rows beside it nor on what was asked before.
    #[test]
    fn relevance_is_each_row_s_own_and_changes_nothing() {
        tch::manual_seed(3);
        let mut curiosity = small();
        curiosity.step(&known(8));
        let batch = known(10);
        let before = curiosity.state();
        let all = curiosity.relevance(&batch);
        assert_eq!(all.size(), [10]);
        let cut = |x: &Tensor| x.narrow(0, 4, 1);
        let one = Transitions {
            observations: cut(&batch.observations),
            actions: cut(&batch.actions),
            rewards: cut(&batch.rewards),
            next_observations: cut(&batch.next_observations),
            masks: cut(&batch.masks),
            returns: None,
        };
        let alone = curiosity.relevance(&one);
        assert!(alone.allclose(&cut(&all), 1e-12, 1e-12, false));
        assert_eq!(curiosity.state(), before);
    }

    #[test]
    fn a_restored_one_goes_on_the_same_with_its_running_statistics() {
        tch::manual_seed(4);
        let (mut ours, mut other) = (small(), small());
        for _ in 0..3 {
            ours.step(&known(16));
        }
        let state = ours.state();
        assert!(state.iter().any(|(name, _)| name.ends_with("running_mean")));
        other.restore(&state);
        let batch = known(16);
        ours.step(&batch);
        other.step(&batch);
        assert_eq!(ours.state(), other.state());
        assert_eq!(other.steps(), 4);
    }

    #[test]
    fn one_module_serves_all_rounds() {
        let residuals = |rounds| {
            let config = CuriosityConfig {
                hidden: 8,
                rounds,
                ..CuriosityConfig::default()
            };
            let curiosity = Curiosity::new(&config, 3, 2, OPTIONS);
            let names = curiosity.params().names().iter();
            names.filter(|name| name.starts_with("residual")).count()
        };
        assert_eq!(residuals(1), 4);
        assert_eq!(residuals(4), 4);
    }
}
