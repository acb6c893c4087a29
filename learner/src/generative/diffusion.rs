//! A diffusion model of rows as whoever generates drives it: network, optimizer and averaged weights together.
//!
//! A training is so many updates long, over which the step size falls to 0; then rows are sampled from the averaged
//! weights. Losses that diverge show in an update's figures, and in [`Diffusion::state`].

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    denoiser::{Condition, Denoiser, DenoiserConfig, Pass},
    edm::EdmConfig,
    ema::{Ema, EmaConfig},
    sampler::{Asked, Model, Sampler, SamplerConfig},
};
use crate::{
    agents::{
        Draws, Figures, gradients,
        iql::cosine,
        net::{kept, part, put_back},
    },
    nn::{Adam, AdamConfig, Params, adam, product},
};

/// A diffusion model. The default is PGR's (renwang435/pgr@b52b41b, `Trainer` and its configurations).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionConfig {
    /// The network.
    pub denoiser: DenoiserConfig,
    /// Noise levels.
    pub edm: EdmConfig,
    /// From noise to rows.
    pub sampler: SamplerConfig,
    /// The averaged weights.
    pub ema: EmaConfig,
    /// Rows per update.
    pub batch: i64,
    /// Updates of a training, over which the step size falls to 0 along half a cosine.
    pub updates: u64,
    /// Step size of the first update.
    pub lr: f64,
    /// Adam's decays.
    pub betas: [f64; 2],
    /// Decoupled, of all parameters but the biases (so of LayerNorms' weights too: the reference means to leave them
    /// out and looks for another name).
    pub weight_decay: f64,
    /// The most that the gradient of all parameters together is long.
    pub clip_norm: f64,
    /// With this probability a row's condition is dropped in an update, so that the network learns to do without.
    pub condition_dropout: f64,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            denoiser: DenoiserConfig::default(),
            edm: EdmConfig::default(),
            sampler: SamplerConfig::default(),
            ema: EmaConfig::default(),
            batch: 256,
            updates: 100_000,
            lr: 3e-4,
            betas: [0.9, 0.99],
            weight_decay: 0.0,
            clip_norm: 1.0,
            condition_dropout: 0.25,
        }
    }
}

/// What is to be sampled.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// N.
    pub rows: i64,
    /// What each is to be like \[N\] or \[N, C\], normalised as in training; `None`: anything.
    pub conditions: Option<&'a Tensor>,
    /// Where normalised rows lie: see [`Sampler::limits`].
    pub limits: Option<&'a Tensor>,
}

/// A diffusion model of normalised rows \[d\], by conditions of C numbers.
#[derive(Debug)]
pub struct Diffusion {
    config: DiffusionConfig,
    columns: i64,
    conditions: i64,
    denoiser: Denoiser,
    params: Params,
    adam: Adam,
    ema: Ema,
    /// Updates when the present training began.
    began: i64,
}

impl Diffusion {
    /// A fresh one, from torch's generator, for rows of so many columns and conditions of so many numbers (0: it
    /// knows none).
    pub fn new(
        config: DiffusionConfig,
        columns: i64,
        conditions: i64,
        (kind, device): (Kind, Device),
    ) -> Self {
        let denoiser = Denoiser::new(&config.denoiser, columns, conditions);
        let params = Params::new(&denoiser.specs(), kind, device);
        let constants = AdamConfig {
            beta1: config.betas[0],
            beta2: config.betas[1],
            weight_decay: config.weight_decay,
            ..AdamConfig::new(config.lr)
        };
        let places = params.select(|name| denoiser.learns(name));
        let adam =
            Adam::new(constants, &params, places).decaying(&params, |name| !name.ends_with("bias"));
        Self {
            ema: Ema::new(config.ema, &params),
            columns,
            conditions,
            denoiser,
            params,
            adam,
            began: 0,
            config,
        }
    }

    /// How it is made.
    pub fn config(&self) -> &DiffusionConfig {
        &self.config
    }

    /// Rows are sampled so from now on.
    pub fn set_sampler(&mut self, sampler: SamplerConfig) {
        self.config.sampler = sampler;
    }

    /// The network's parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The averaged weights.
    pub fn averaged(&self) -> &Params {
        self.ema.params()
    }

    /// Updates made.
    pub fn steps(&self) -> u64 {
        self.adam.steps() as u64
    }

    /// Another training begins, from the weights that there are: the step size starts anew.
    pub fn begin_again(&mut self) {
        self.began = self.adam.steps();
    }

    /// Conditions of `rows` rows, as the network takes them \[rows, C\].
    fn matrix(&self, conditions: Option<&Tensor>, rows: i64) -> Option<Tensor> {
        conditions.map(|all| all.reshape([rows, self.conditions]))
    }

    /// The loss of normalised rows \[B, d\] with conditions \[B\] or \[B, C\] \[\], and its gradients in the order of
    /// the parameters that learn; undefined where one had no part in it.
    pub fn gradients(
        &self,
        rows: &Tensor,
        conditions: Option<&Tensor>,
        draws: &mut dyn Draws,
    ) -> (Tensor, Vec<Tensor>) {
        let count = rows.size()[0];
        assert_eq!(rows.size(), [count, self.columns]);
        let edm = &self.config.edm;
        let sigma = edm.sigmas(&draws.normal("n", &[count]));
        let noisy = rows + draws.normal("eps", &rows.size()) * sigma.unsqueeze(1);
        let conditions = self.matrix(conditions, count);
        let dropout = self.config.condition_dropout;
        let kept = (conditions.is_some() && dropout > 0.0).then(|| {
            // Uniform in ±1.
            let drawn = draws.uniform("cond_mask", &[count, 1]);
            drawn.ge(2.0 * dropout - 1.0).to_kind(rows.kind())
        });
        let condition = conditions.as_ref().map(|values| Condition {
            values,
            kept: kept.as_ref(),
        });
        let scales = edm.scales(&sigma.unsqueeze(1));
        let (seen, time) = (&noisy * &scales.input, scales.noise.squeeze_dim(1));
        let pass: Pass = (self.denoiser).forward(&self.params, &seen, &time, condition);
        let loss = edm.loss(&scales.denoised(&noisy, &pass.out), rows, &sigma);
        let grad = gradients(&loss, &[&pass.out]);
        let all = self.denoiser.backward(&self.params, &pass, &grad[0]);
        let learns = |place: &usize| self.adam.places().contains(place);
        let all = all.into_iter().enumerate();
        let learned = all.filter(|(place, _)| learns(place));
        (loss.detach(), learned.map(|(_, grad)| grad).collect())
    }

    /// One update, on normalised rows \[B, d\] with conditions \[B\] or \[B, C\]. Its figures: the loss, and how long
    /// the gradient was before it was clipped.
    pub fn step(
        &mut self,
        rows: &Tensor,
        conditions: Option<&Tensor>,
        draws: &mut dyn Draws,
    ) -> Figures {
        let (loss, mut grads) = self.gradients(rows, conditions, draws);
        let norm = adam::clip(&mut grads, self.config.clip_norm);
        self.adam.set_lr(self.lr());
        self.adam.step(&self.params, Some(&grads));
        self.ema.follow(&self.params);
        Figures(vec![("loss", loss), ("grad_norm", norm)])
    }

    /// Step size of the next update; behind a training's end 0.
    pub fn lr(&self) -> f64 {
        let updates = self.config.updates;
        let update = (self.adam.steps() - self.began) as u64 + 1;
        cosine(self.config.lr, update.min(updates + 1), updates)
    }

    /// What denoises rows by the averaged weights, asked with these conditions \[B\] or \[B, C\].
    pub fn model(&self, conditions: Option<&Tensor>) -> Averaged<'_> {
        let params = self.ema.params();
        let conditions = conditions.map(|all| all.reshape([-1, self.conditions]));
        let with = conditions.map(|all| self.denoiser.remember(params, Some(&all)));
        let without = self.denoiser.remember(params, None);
        let both = with.as_ref().map(|with| {
            let without = without.expand_as(with);
            Tensor::cat(&[&without, with], 0)
        });
        Averaged {
            diffusion: self,
            without,
            with,
            both,
        }
    }

    /// Normalised rows \[N, d\] out of noise, by the averaged weights, a number of them at a time. `None`: `go_on`,
    /// which is asked between any two steps, said no.
    pub fn sample(
        &self,
        wanted: &Wanted,
        draws: &mut dyn Draws,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Tensor> {
        let at_once = product::rows_together(self.params.flat()).min(MOST_AT_ONCE);
        let conditions = self.matrix(wanted.conditions, wanted.rows);
        let some = |first: i64| {
            let count = at_once.min(wanted.rows - first);
            let conditions = conditions.as_ref().map(|all| all.narrow(0, first, count));
            let sampler = Sampler {
                config: &self.config.sampler,
                edm: &self.config.edm,
                model: &self.model(conditions.as_ref()),
                conditional: conditions.is_some(),
                limits: wanted.limits,
            };
            let normal = draws.normal("init", &[count, self.columns]);
            no_grad(|| sampler.run(&normal, draws, &mut |_| go_on()))
        };
        let firsts = (0..wanted.rows).step_by(at_once as usize);
        let parts: Option<Vec<Tensor>> = firsts.map(some).collect();
        parts.map(|parts| Tensor::cat(&parts, 0))
    }

    /// Everything that the next update and the next sample depend on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let (averaged, followed) = self.ema.state();
        let mut state = kept("denoiser", &self.params, &self.adam);
        state.extend([
            ("denoiser.averaged".to_owned(), averaged),
            (
                "denoiser.followed".to_owned(),
                Tensor::from(followed as i64),
            ),
            ("denoiser.began".to_owned(), Tensor::from(self.began)),
        ]);
        state
    }

    /// Puts back what [`Diffusion::state`] gave. A part that is missing or of another size is a mistake of the
    /// caller, who checks a file before ([`crate::agents::guard::check_state`]): it panics.
    pub fn restore(&mut self, state: &[(String, Tensor)]) {
        put_back("denoiser", state, &self.params, &mut self.adam);
        let count = |name: &str| part(state, name).int64_value(&[]);
        let followed = count("denoiser.followed") as u64;
        (self.ema).restore(part(state, "denoiser.averaged"), followed);
        self.began = count("denoiser.began");
    }
}

/// So many rows are sampled together at most, where memory is what bounds them: a wide layer's output is then
/// 256 MB.
const MOST_AT_ONCE: i64 = 1 << 15;

/// The averaged weights with some rows' conditions.
#[derive(Debug)]
pub struct Averaged<'a> {
    diffusion: &'a Diffusion,
    /// What the network remembers of no condition \[1, n\], of the rows' own \[B, n\], and of the one above the
    /// other \[2 B, n\].
    without: Tensor,
    with: Option<Tensor>,
    both: Option<Tensor>,
}

impl Model for Averaged<'_> {
    fn denoised(&self, x: &Tensor, sigma: f64, asked: &[Asked]) -> Vec<Tensor> {
        let remembered = match (asked, &self.with, &self.both) {
            ([Asked::Unconditional], ..) => &self.without,
            ([Asked::Conditional], Some(with), _) => with,
            ([Asked::Unconditional, Asked::Conditional], _, Some(both)) => both,
            _ => panic!("{asked:?} of a model that has no conditions"),
        };
        let Diffusion {
            config,
            denoiser,
            ema,
            ..
        } = self.diffusion;
        let sigma = Tensor::from(sigma);
        let scales = config.edm.scales(&sigma);
        let time = (scales.noise.reshape([1]))
            .to_kind(x.kind())
            .to_device(x.device());
        let seen = (x * &scales.input).repeat([asked.len() as i64, 1]);
        let said = denoiser.at_level(ema.params(), &seen, &time, remembered, config.sampler.bf16);
        let said = said.chunk(asked.len() as i64, 0);
        let denoised = said.iter().map(|said| scales.denoised(x, said));
        denoised.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agents::{draws::Seeded, guard::check_state},
        generative::{denoiser::Architecture, sampler::Solver},
    };

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn small(architecture: Architecture, conditions: i64) -> Diffusion {
        // So small that threads would only wait for each other.
        tch::set_num_threads(1);
        tch::manual_seed(2);
        let config = DiffusionConfig {
            denoiser: DenoiserConfig {
                architecture,
                width: 12,
                depth: 2,
                embedding: 8,
                ..DenoiserConfig::default()
            },
            sampler: SamplerConfig {
                solver: Solver::DpmPlusPlus2m,
                steps: 4,
                // Rows that go some at a time would have other noise put back than together.
                eta: 0.0,
                ..SamplerConfig::default()
            },
            updates: 10,
            ..DiffusionConfig::default()
        };
        Diffusion::new(config, 2, conditions, OPTIONS)
    }

    fn learn(diffusion: &mut Diffusion, update: u64) -> Vec<(&'static str, f64)> {
        let rows = Tensor::arange(32, OPTIONS).sin().view([16, 2]);
        let conditions = rows.select(1, 0);
        let conditions = (diffusion.conditions > 0).then_some(&conditions);
        let mut draws = Seeded::new(1, update, OPTIONS);
        diffusion.step(&rows, conditions, &mut draws).read()
    }

    fn sampled(diffusion: &Diffusion, wanted: &Wanted) -> Tensor {
        let mut draws = Seeded::new(3, 0, OPTIONS);
        diffusion.sample(wanted, &mut draws, &|| true).unwrap()
    }

    #[test]
    fn its_state_goes_on_the_same() {
        for architecture in [Architecture::Pgr, Architecture::Synther] {
            let (mut ours, mut other) = (small(architecture, 1), small(architecture, 1));
            (0..15).for_each(|update| drop(learn(&mut ours, update)));
            ours.begin_again();
            learn(&mut ours, 15);
            let state = ours.state();
            check_state(&other.state(), &state).unwrap();
            other.restore(&state);
            assert_eq!((other.steps(), other.lr()), (16, ours.lr()));
            assert_eq!(learn(&mut ours, 16), learn(&mut other, 16));
            assert_eq!(ours.params().flat(), other.params().flat());
            let wanted = Wanted {
                rows: 5,
                conditions: Some(&Tensor::linspace(-1.0, 1.0, 5, OPTIONS)),
                limits: None,
            };
            assert_eq!(sampled(&ours, &wanted), sampled(&other, &wanted));
        }
    }

    #[test]
    fn the_step_size_falls_to_nothing_and_starts_anew() {
        let mut diffusion = small(Architecture::Pgr, 0);
        let first = diffusion.lr();
        assert_eq!(first, 3e-4);
        (0..10).for_each(|update| drop(learn(&mut diffusion, update)));
        assert!(diffusion.lr() < 1e-12);
        (10..15).for_each(|update| drop(learn(&mut diffusion, update)));
        assert!(diffusion.lr() < 1e-12);
        diffusion.begin_again();
        assert_eq!(diffusion.lr(), first);
    }

    /// Rows that go some at a time are what they are together, each by its own condition.
    #[test]
    fn many_rows_go_some_at_a_time() {
        for architecture in [Architecture::Pgr, Architecture::Synther] {
            let mut diffusion = small(architecture, 1);
            learn(&mut diffusion, 0);
            let rows = 2 * product::rows_together(diffusion.params().flat()) + 5;
            let conditions = Tensor::linspace(-1.0, 1.0, rows, OPTIONS);
            let wanted = Wanted {
                rows,
                conditions: Some(&conditions),
                limits: None,
            };
            let some = sampled(&diffusion, &wanted);
            let sampler = Sampler {
                config: &diffusion.config.sampler,
                edm: &diffusion.config.edm,
                model: &diffusion.model(Some(&conditions)),
                conditional: true,
                limits: None,
            };
            let mut draws = Seeded::new(3, 0, OPTIONS);
            let normal = draws.normal("init", &[rows, 2]);
            let all = sampler.run(&normal, &mut draws, &mut |_| true).unwrap();
            assert!(some.allclose(&all, 1e-3, 1e-4, false));
        }
    }

    #[test]
    fn it_stops_when_it_is_told_to_and_stays_within_limits() {
        let diffusion = small(Architecture::Pgr, 0);
        let limits = Tensor::from_slice(&[0.01f32, f32::INFINITY]);
        let wanted = Wanted {
            rows: 50,
            conditions: None,
            limits: Some(&limits),
        };
        let mut draws = Seeded::new(3, 0, OPTIONS);
        assert!(diffusion.sample(&wanted, &mut draws, &|| false).is_none());
        let within = sampled(&diffusion, &wanted).abs().amax(0, false);
        assert!(within.double_value(&[0]) <= 0.011 && within.double_value(&[1]) > 0.1);
        let none = Wanted {
            limits: None,
            ..wanted
        };
        let free = sampled(&diffusion, &none).abs().amax(0, false);
        assert!(free.double_value(&[0]) > 0.1);
    }

    #[test]
    fn what_is_no_number_shows_in_the_figures() {
        let mut diffusion = small(Architecture::Pgr, 0);
        let rows = Tensor::full([4, 2], f64::NAN, OPTIONS);
        let figures = diffusion.step(&rows, None, &mut Seeded::new(1, 0, OPTIONS));
        assert!(figures.read().iter().all(|(_, value)| value.is_nan()));
        assert!(check_state(&diffusion.state(), &diffusion.state()).is_err());
    }

    /// 26.2 and 6.7 million at 41 columns.
    #[test]
    fn the_networks_are_as_large_as_the_references() {
        for (config, conditions, millions) in [
            (DenoiserConfig::default(), 1, 26.2),
            (DenoiserConfig::synther(), 0, 6.7),
        ] {
            let specs = Denoiser::new(&config, 41, conditions).specs();
            let sizes = specs.iter().map(|spec| spec.shape.iter().product::<i64>());
            let size = sizes.sum::<i64>() as f64 / 1e6;
            assert!((size - millions).abs() < 0.05, "{size}");
        }
    }
}
