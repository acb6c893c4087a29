//! Elucidated diffusion against recorded numbers of PGR's classes, driven by the files alone: noise levels, losses and
//! gradients, whole updates, averaged weights, sampled rows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use common::{
    Golden,
    generative::{compare, denoiser_config, edm_config, number, within},
};
use hilt_learner::{
    agents::Draws,
    generative::{
        diffusion::{Diffusion, DiffusionConfig},
        ema::{Ema, EmaConfig},
        sampler::{Asked, Model, Sampler, SamplerConfig, Solver},
    },
    nn::{Init, ParamSpec, Params},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The recorded draws of one update, or of one sampling.
struct Recorded<'a> {
    golden: &'a Golden,
    kind: Kind,
    /// Which of an update's, where there are several.
    update: Option<i64>,
    /// How often each was asked for.
    asked: BTreeMap<&'static str, i64>,
}

impl<'a> Recorded<'a> {
    fn new(golden: &'a Golden, kind: Kind, update: Option<i64>) -> Self {
        let asked = BTreeMap::new();
        Self {
            golden,
            kind,
            update,
            asked,
        }
    }

    /// The next one of this name and shape.
    fn next(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        let all = self.golden.get(&format!("noise.{name}"));
        let count = self.asked.entry(name).or_insert(0);
        let own = match (self.update, all.dim() > shape.len()) {
            (Some(update), _) => all.get(update),
            (None, true) => all.get(*count),
            (None, false) => all.shallow_clone(),
        };
        *count += 1;
        assert_eq!(own.size(), shape, "{name}");
        own.to_kind(self.kind)
    }
}

impl Draws for Recorded<'_> {
    fn normal(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        self.next(name, shape)
    }

    /// A mask is recorded as 0 and 1.
    fn uniform(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        self.next(name, shape) * 2.0 - 1.0
    }

    fn members(&mut self, name: &'static str, _: i64, _: i64) -> Tensor {
        panic!("no members are recorded, {name} was asked for")
    }
}

fn config(h: &Value) -> DiffusionConfig {
    DiffusionConfig {
        denoiser: denoiser_config(h),
        edm: edm_config(h),
        sampler: SamplerConfig {
            solver: Solver::Heun,
            steps: h["num_sample_steps"].as_u64().unwrap_or(8) as usize,
            eta: 0.0,
            churn: number(h, "S_churn"),
            churn_min_sigma: number(h, "S_tmin"),
            churn_max_sigma: number(h, "S_tmax"),
            churn_noise: number(h, "S_noise"),
            guidance: number(h, "cfg"),
            bf16: false,
        },
        lr: number(h, "lr"),
        weight_decay: number(h, "wd"),
        condition_dropout: number(h, "drop"),
        ..DiffusionConfig::default()
    }
}

/// One of the file's shape, with the recorded parameters, in the averaged weights too.
fn recorded(golden: &Golden, config: DiffusionConfig, kind: Kind) -> Diffusion {
    // So small that threads would only wait for each other.
    tch::set_num_threads(1);
    let h = golden.hyper();
    let size = |key: &str| h[key].as_i64().unwrap();
    let options = (kind, Device::Cpu);
    let diffusion = Diffusion::new(config, size("D"), size("cond_dim"), options);
    let load = |(name, value): (&str, &Tensor)| {
        diffusion.params().set(name, value);
        diffusion.averaged().set(name, value);
    };
    let loaded = golden.under("init.denoiser.").map(load).count();
    assert_eq!(loaded, diffusion.params().names().len());
    diffusion
}

type Check = fn(&Golden, DiffusionConfig, Kind) -> Result<(), String>;

/// In f64, and in f32.
fn both(stem: &str, config: fn(&Value) -> DiffusionConfig, check: Check) {
    let golden = Golden::read(stem);
    for kind in [Kind::Double, Kind::Float] {
        let config = config(&golden.hyper());
        if let Err(difference) = check(&golden, config, kind) {
            panic!("{stem}, {kind:?}: {difference}");
        }
    }
}

/// What is wrong, and how to make it so.
type Mistake = (&'static str, fn(&mut DiffusionConfig));

/// Each of these would be noticed, in the files that are in the repository.
fn noticed(stem: &str, config: fn(&Value) -> DiffusionConfig, check: Check, mistakes: &[Mistake]) {
    let golden = Golden::read_own(stem);
    for (name, mistake) in mistakes {
        let mut wrong = config(&golden.hyper());
        mistake(&mut wrong);
        let found = check(&golden, wrong, Kind::Double);
        assert!(found.is_err(), "{stem}: nobody noticed another {name}");
    }
}

// Noise levels.

fn precond(golden: &Golden, config: DiffusionConfig, kind: Kind) -> Result<(), String> {
    let expect = |name: &str| golden.get(&format!("expect.{name}"));
    let edm = config.edm;
    let scales = |name: &str| edm.scales(&golden.get(name).to_kind(kind));
    let all = scales("in.sigma");
    let weight = edm.weight(&golden.get("in.sigma").to_kind(kind));
    for (name, got) in [
        ("c_skip", &all.skip),
        ("c_out", &all.out),
        ("c_in", &all.input),
        ("c_noise", &all.noise),
        ("loss_weight", &weight),
    ] {
        compare(name, got, expect(name), kind)?;
    }
    let at_zero = edm.scales(&Tensor::zeros([1], (kind, Device::Cpu))).noise;
    compare("c_noise at 0", &at_zero, expect("c_noise_at_zero"), kind)?;
    let mut schedules = 0;
    for (steps, want) in golden.under("expect.schedule.") {
        let steps = steps.parse().unwrap();
        let levels = edm.schedule(steps);
        compare("schedule", &Tensor::from_slice(&levels), want, Kind::Double)?;
        let sampler = SamplerConfig {
            steps,
            ..config.sampler
        };
        let churned = levels.iter().map(|&sigma| sampler.churned(sigma));
        let churned = Tensor::from_slice(&churned.collect::<Vec<_>>());
        let want = expect(&format!("gamma.{steps}"));
        compare("churn", &churned, want, Kind::Double)?;
        schedules += 1;
    }
    assert!(schedules > 0);
    let diffusion = recorded(golden, config, kind);
    let (x, sigma) = (golden.get("in.x").to_kind(kind), golden.get("in.x_sigma"));
    let cond = golden.get("in.cond").to_kind(kind);
    for (form, asked, cond) in [
        ("cond", Asked::Conditional, Some(&cond)),
        ("uncond", Asked::Unconditional, None),
    ] {
        let model = diffusion.model(cond);
        let of_row = |row: i64| {
            let sigma = sigma.double_value(&[row]);
            let all = model.denoised(&x, sigma, &[asked]).remove(0);
            all.narrow(0, row, 1)
        };
        let rows: Vec<Tensor> = (0..x.size()[0]).map(of_row).collect();
        let denoised = Tensor::cat(&rows, 0);
        compare(form, &denoised, expect(&format!("denoised_{form}")), kind)?;
        let clamped = denoised.clamp(-1.0, 1.0);
        let want = expect(&format!("denoised_{form}_clamped"));
        compare("clamped", &clamped, want, kind)?;
    }
    Ok(())
}

// Losses and gradients.

/// Each kind of loss that is recorded: with or without condition, and mask.
fn train(golden: &Golden, config: DiffusionConfig, kind: Kind) -> Result<(), String> {
    let x = golden.normalized("x", golden.get("batch.x"));
    let cond = golden.normalized("cond", golden.get("batch.cond"));
    compare("x", &x, golden.get("expect.x_normalized"), Kind::Double)?;
    compare(
        "cond",
        &cond,
        golden.get("expect.cond_normalized"),
        Kind::Double,
    )?;
    let (x, cond) = (x.to_kind(kind), cond.to_kind(kind));
    for form in ["uncond", "cond", "masked"] {
        let mut config = config.clone();
        if form == "cond" {
            config.condition_dropout = 0.0;
        }
        let diffusion = recorded(golden, config, kind);
        let cond = (form != "uncond").then_some(&cond);
        let mut draws = Recorded::new(golden, kind, None);
        let (loss, grads) = diffusion.gradients(&x, cond, &mut draws);
        let want = match kind {
            Kind::Double => format!("expect.{form}.loss"),
            _ => format!("expect_f32.{form}.loss"),
        };
        compare(form, &loss, golden.get(&want), kind)?;
        let norms = grads.iter().filter(|grad| grad.defined()).map(Tensor::norm);
        let norm = Tensor::stack(&norms.collect::<Vec<_>>(), 0).norm();
        let want = golden.get(&format!("expect_f32.{form}.grad_norm"));
        compare("gradient's length", &norm, want, Kind::Float)?;
        let learn = |name: &&String| *name != "time_mlp.0.weights";
        let names = diffusion.params().names().iter().filter(learn);
        let mut compared = 0;
        for (name, grad) in names.zip(&grads).filter(|(_, grad)| grad.defined()) {
            let want = golden.get(&format!("expect.{form}.grad.denoiser.{name}"));
            compare(&format!("{form}: {name}"), grad, want, kind)?;
            compared += 1;
        }
        let recorded = golden.under(&format!("expect.{form}.grad.")).count();
        assert_eq!(compared, recorded);
    }
    Ok(())
}

// Whole updates.

fn trainer_config(h: &Value) -> DiffusionConfig {
    let ema = &h["ema"];
    let scheduler = h["scheduler"].as_str().unwrap();
    // "cosine annealing to 0 over 10 steps, …".
    let updates = scheduler
        .split(' ')
        .find_map(|word| word.parse().ok().filter(|&n: &u64| n > 0));
    DiffusionConfig {
        betas: [0, 1].map(|i| h["betas"][i].as_f64().unwrap()),
        clip_norm: number(h, "clip_grad_norm"),
        updates: updates.unwrap(),
        ema: ema_config(ema),
        ..config(h)
    }
}

fn ema_config(h: &Value) -> EmaConfig {
    let count = |key: &str| h[key].as_u64().unwrap();
    EmaConfig {
        beta: number(h, "beta"),
        every: count("update_every"),
        copy_until: count("update_after_step"),
        inverse_gamma: number(h, "inv_gamma"),
        power: number(h, "power"),
    }
}

fn trainer(golden: &Golden, config: DiffusionConfig, kind: Kind) -> Result<(), String> {
    let h = golden.hyper();
    assert_eq!(number(&h, "adam_eps"), 1e-8);
    let mut diffusion = recorded(golden, config, kind);
    let double = kind == Kind::Double;
    let mut after = 0;
    for update in 0..h["steps"].as_i64().unwrap() {
        let normalized = |name: &str| {
            let raw = golden.get(&format!("batch.{name}")).get(update);
            golden.normalized(name, &raw).to_kind(kind)
        };
        let at = |name: &str| golden.get(&format!("expect.{name}")).get(update);
        let lr = Tensor::from(diffusion.lr());
        within("step size", &lr, &at("lr"), &Tensor::from(1e-15))?;
        let mut draws = Recorded::new(golden, kind, Some(update));
        let (x, cond) = (normalized("x"), normalized("cond"));
        let figures = diffusion.step(&x, Some(&cond), &mut draws);
        let (name, loss) = &figures.0[0];
        assert_eq!(*name, "loss");
        compare(&format!("loss {update}"), loss, &at("loss"), kind)?;
        let kept = diffusion.config().ema.kept(update as u64 + 1);
        let want = at("ema_decay_after");
        compare(
            "kept of the average",
            &Tensor::from(kept),
            &want,
            Kind::Double,
        )?;
        // In f32 a first step of Adam is little more than a gradient's sign.
        let step = format!("expect.after_step.{}", update + 1);
        for (set, params) in [
            ("denoiser", diffusion.params()),
            ("ema", diffusion.averaged()),
        ] {
            let recorded = golden.under(&step).filter(|_| double);
            for (name, want) in recorded {
                if let Some(name) = name.strip_prefix(&format!(".{set}.")) {
                    compare(
                        &format!("{set} after {update}: {name}"),
                        params.get(name),
                        want,
                        kind,
                    )?;
                    after += 1;
                }
            }
        }
    }
    let recorded = golden.under("expect.after_step.").count();
    assert_eq!(after, if double { recorded } else { 0 });
    Ok(())
}

// Averaged weights.

fn ema(golden: &Golden, config: EmaConfig) -> Result<(), String> {
    let steps = Vec::<i64>::try_from(golden.get("in.step_grid")).unwrap();
    let kept: Vec<f64> = steps.iter().map(|&step| config.kept(step as u64)).collect();
    let want = golden.get("expect.decay_at_step");
    compare("kept", &Tensor::from_slice(&kept), want, Kind::Double)?;
    let weights = golden.get("in.w");
    let spec = ParamSpec {
        name: "w".to_owned(),
        shape: vec![weights.size()[1]],
        init: Init::Constant(0.0),
    };
    let params = Params::new(&[spec], Kind::Double, Device::Cpu);
    let mut ema = Ema::new(config, &params);
    for update in 0..weights.size()[0] {
        params.set("w", &weights.get(update));
        ema.follow(&params);
        let want = golden.get("expect.ema").get(update);
        compare(
            &format!("update {update}"),
            ema.params().get("w"),
            &want,
            Kind::Double,
        )?;
    }
    Ok(())
}

// Sampled rows.

/// Every variant of the file. It does not say of each whether noise was put back: with or without it, one of the two
/// must give the recorded numbers.
fn sample(golden: &Golden, config: DiffusionConfig, kind: Kind) -> Result<(), String> {
    let h = golden.hyper();
    let diffusion = recorded(golden, config, kind);
    let mut churned = 0;
    for (variant, how) in h["variants"].as_object().unwrap() {
        let sampler = SamplerConfig {
            guidance: number(how, "cfg_scale") + diffusion.config().sampler.guidance
                - number(&h, "cfg"),
            ..diffusion.config().sampler
        };
        let without = SamplerConfig {
            churn: 0.0,
            ..sampler
        };
        let follow = |sampler| follow(golden, &diffusion, &sampler, (variant, how), kind);
        match follow(sampler) {
            Ok(()) => churned += 1,
            Err(difference) => follow(without).map_err(|_| difference)?,
        }
    }
    assert!(churned > 0, "no variant is one with churn");
    Ok(())
}

/// One variant: its last rows, and the states before each step.
fn follow(
    golden: &Golden,
    diffusion: &Diffusion,
    config: &SamplerConfig,
    (variant, how): (&str, &Value),
    kind: Kind,
) -> Result<(), String> {
    let cond = golden
        .normalized("cond", golden.get("batch.cond"))
        .to_kind(kind);
    let cond = (!how["cond"].is_null()).then_some(&cond);
    let clamp = how["clamp"].as_bool().unwrap();
    let size = golden.get("noise.init").size();
    let ones = Tensor::ones([size[1]], (kind, Device::Cpu));
    let sampler = Sampler {
        config,
        edm: &diffusion.config().edm,
        model: &diffusion.model(cond),
        conditional: cond.is_some(),
        limits: clamp.then_some(&ones),
    };
    let mut draws = Recorded::new(golden, kind, None);
    let normal = draws.normal("init", &size);
    let mut states = vec![];
    let rows = sampler.run(&normal, &mut draws, &mut |x| {
        states.push(x.shallow_clone());
        true
    });
    let rows = golden.unnormalized("x", &rows.unwrap());
    if kind == Kind::Float {
        let allowed = if clamp { 5e-5 } else { 1e-4 };
        let want = golden.get(&format!("expect_f32.{variant}.sample"));
        return within(variant, &rows, want, &Tensor::from(allowed));
    }
    for (step, state) in states.iter().enumerate() {
        let want = golden.get(&format!("sample.{variant}.steps.{step:03}.x"));
        compare(&format!("{variant} before {step}"), state, want, kind)?;
    }
    let want = golden.get(&format!("expect.{variant}.sample"));
    compare(variant, &rows, want, kind)
}

#[test]
fn golden_edm_precond() {
    both("edm_precond", config, precond);
}

#[test]
fn golden_edm_train() {
    both("edm_train", config, train);
}

#[test]
fn golden_edm_trainer_steps() {
    both("edm_trainer_steps", trainer_config, trainer);
}

#[test]
fn golden_edm_ema() {
    let golden = Golden::read("edm_ema");
    ema(&golden, ema_config(&golden.hyper())).unwrap();
}

#[test]
fn golden_edm_sample_n8() {
    both("edm_sample_n8", config, sample);
}

#[test]
fn golden_edm_sample_n18() {
    both("edm_sample_n18", config, sample);
}

#[test]
fn mistakes_of_noise_levels_are_noticed() {
    let mistakes: &[Mistake] = &[
        ("σ_data", |c| c.edm.sigma_data *= 1.01),
        ("σ_min", |c| c.edm.sigma_min *= 1.01),
        ("σ_max", |c| c.edm.sigma_max *= 1.01),
        ("ρ", |c| c.edm.rho *= 1.01),
        ("churn", |c| c.sampler.churn *= 0.1),
        ("least noise with churn", |c| {
            c.sampler.churn_min_sigma *= 2.0
        }),
        ("most noise with churn", |c| {
            c.sampler.churn_max_sigma *= 0.5
        }),
    ];
    noticed("edm_precond", config, precond, mistakes);
}

#[test]
fn mistakes_of_the_loss_are_noticed() {
    let mistakes: &[Mistake] = &[
        ("σ_data", |c| c.edm.sigma_data *= 1.01),
        ("mean of ln σ", |c| c.edm.p_mean += 0.01),
        ("deviation of ln σ", |c| c.edm.p_std *= 1.01),
        ("dropout", |c| c.condition_dropout = 0.0),
    ];
    noticed("edm_train", config, train, mistakes);
}

#[test]
fn mistakes_of_the_trainer_are_noticed() {
    let mistakes: &[Mistake] = &[
        ("step size", |c| c.lr *= 1.01),
        ("first decay", |c| c.betas[0] = 0.91),
        ("second decay", |c| c.betas[1] = 0.999),
        ("weight decay", |c| c.weight_decay += 0.01),
        ("clip", |c| c.clip_norm *= 0.5),
        ("schedule", |c| c.updates += 1),
        ("average", |c| c.ema.power *= 1.01),
        ("start of the average", |c| c.ema.copy_until += 1),
    ];
    noticed("edm_trainer_steps", trainer_config, trainer, mistakes);
}

#[test]
fn mistakes_of_the_average_are_noticed() {
    let golden = Golden::read_own("edm_ema");
    let right = ema_config(&golden.hyper());
    let mistakes: [fn(&mut EmaConfig); 4] = [
        |c| c.every += 1,
        |c| c.copy_until += 10,
        |c| c.beta = 0.9,
        |c| c.inverse_gamma = 1.1,
    ];
    for (i, mistake) in mistakes.iter().enumerate() {
        let mut wrong = right;
        mistake(&mut wrong);
        assert!(ema(&golden, wrong).is_err(), "mistake {i}");
    }
}

#[test]
fn mistakes_of_the_sampler_are_noticed() {
    let mistakes: &[Mistake] = &[
        ("number of steps", |c| c.sampler.steps -= 1),
        ("churn", |c| c.sampler.churn *= 0.01),
        ("size of its noise", |c| c.sampler.churn_noise = 1.0),
        ("least noise with churn", |c| {
            c.sampler.churn_min_sigma = 1.0
        }),
        ("most noise with churn", |c| c.sampler.churn_max_sigma = 1.0),
        ("guidance", |c| c.sampler.guidance += 0.01),
        ("σ_min", |c| c.edm.sigma_min *= 1.01),
    ];
    noticed("edm_sample_n8", config, sample, mistakes);
}
