//! Diffusion against what can be worked out by hand, where the data are normal: the best network and its loss, the
//! way from noise to rows and where it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_learner::{
    agents::{Draws, draws::Seeded},
    generative::{
        denoiser::{Architecture, DenoiserConfig},
        diffusion::{Diffusion, DiffusionConfig, Wanted},
        edm::EdmConfig,
        sampler::{Asked, Model, Sampler, SamplerConfig, Solver},
    },
};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn one_thread() {
    // So small that threads would only wait for each other.
    tch::set_num_threads(1);
}

/// The mean loss of a denoiser at one noise, and its standard error, over rows of N(0, `std`²).
fn loss_at(
    edm: &EdmConfig,
    sigma: f64,
    std: f64,
    denoise: impl Fn(&Tensor) -> Tensor,
) -> (f64, f64) {
    let count = 200_000;
    let mut drawn = Seeded::new(7, 0, F64);
    let rows = drawn.normal("rows", &[count, 1]) * std;
    let noisy = &rows + drawn.normal("noise", &[count, 1]) * sigma;
    let denoised = denoise(&noisy);
    let sigmas = Tensor::full([count], sigma, F64);
    let loss = edm.loss(&denoised, &rows, &sigmas).double_value(&[]);
    let of_row = (denoised - rows).square() * edm.weight(&sigmas).unsqueeze(1);
    let spread = of_row.std(true).double_value(&[]);
    (loss, spread / (count as f64).sqrt())
}

/// Data of the size that the model expects: a network that says nothing is the best, and errs by 1 at every noise.
/// Data of another size s: the best denoiser's loss is s² (σ² + 1) / (s² + σ²).
#[test]
fn the_best_network_on_normal_rows_errs_by_what_it_must() {
    one_thread();
    let edm = EdmConfig::default();
    for sigma in [0.002, 0.05, 0.5, 1.0, 7.0, 80.0] {
        let scales = edm.scales(&Tensor::full([1], sigma, F64));
        let nothing = |x: &Tensor| scales.denoised(x, &x.zeros_like());
        let (loss, error) = loss_at(&edm, sigma, 1.0, nothing);
        assert!((loss - 1.0).abs() < 5.0 * error, "σ {sigma}: {loss}");
        // Anything that it says makes it worse.
        for something in [-0.3, 0.3] {
            let says = |x: &Tensor| scales.denoised(x, &(x * &scales.input * something));
            let (worse, _) = loss_at(&edm, sigma, 1.0, says);
            assert!(worse > loss + 0.05, "σ {sigma}: {worse}, {loss}");
        }
        for std in [0.3, 2.0] {
            let (data, noise) = (std * std, sigma * sigma);
            let best = |x: &Tensor| x * (data / (data + noise));
            let (loss, error) = loss_at(&edm, sigma, std, best);
            let must = data * (noise + 1.0) / (data + noise);
            assert!((loss - must).abs() < 5.0 * error, "σ {sigma}, s {std}");
        }
    }
}

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A small one, from a start that does not depend on torch's generator, which is everybody's.
fn small(architecture: Architecture, conditions: i64, size: f64) -> Diffusion {
    one_thread();
    let config = DiffusionConfig {
        denoiser: DenoiserConfig {
            architecture,
            width: 32,
            depth: 2,
            embedding: 16,
            ..DenoiserConfig::default()
        },
        updates: 600,
        lr: 5e-3,
        sampler: SamplerConfig {
            solver: Solver::DpmPlusPlus2m,
            steps: 20,
            guidance: 1.0,
            ..SamplerConfig::default()
        },
        ..DiffusionConfig::default()
    };
    let diffusion = Diffusion::new(config, 2, conditions, F32);
    let params = diffusion.params().flat();
    let start = Seeded::new(0, 0, F32).normal("start", &params.size());
    diffusion.params().set_flat(&(start * size));
    diffusion
}

/// Mean and standard deviation of 4000 rows, asked for with this condition.
fn made(diffusion: &Diffusion, condition: Option<f64>) -> (f64, f64) {
    let conditions = condition.map(|value| Tensor::full([4000], value, F32));
    let wanted = Wanted {
        rows: 4000,
        conditions: conditions.as_ref(),
        limits: None,
    };
    let mut draws = Seeded::new(2, 0, F32);
    let rows = diffusion.sample(&wanted, &mut draws, &|| true).unwrap();
    assert_eq!(rows.size(), [4000, 2]);
    let (mean, std) = (rows.mean(Kind::Double), rows.std(true));
    (mean.double_value(&[]), std.double_value(&[]))
}

/// So a network that learns from N(0, 1) comes to a loss of 1, and what it makes is N(0, 1).
#[test]
fn a_network_learns_normal_rows() {
    let mut diffusion = small(Architecture::Pgr, 0, 0.3);
    let mut drawn = Seeded::new(1, 0, F32);
    let mut losses = vec![];
    for update in 0..600 {
        let rows = drawn.normal("rows", &[128, 2]);
        let figures = diffusion.step(&rows, None, &mut Seeded::new(1, update, F32));
        losses.push(figures.read()[0].1);
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[500..]));
    // 100 batches of 256 numbers with a variance of about 2: a standard error of .009.
    assert!(first > 1.5 && (last - 1.0).abs() < 0.04, "{first} {last}");
    let (mean, std) = made(&diffusion, None);
    assert!(mean.abs() < 0.1 && (std - 1.0).abs() < 0.1, "{mean} {std}");
}

/// Rows of N(c, .3²), c being a condition between −1 and 1, come as they are asked for. Where nothing is asked they
/// come from all of them (a variance of .3² + 1 / 3) with PGR's network; SynthER's takes that for a condition of 0.
#[test]
fn a_network_learns_what_rows_are_asked_to_be_like() {
    for architecture in [Architecture::Pgr, Architecture::Synther] {
        let mut diffusion = small(architecture, 1, 0.1);
        let mut drawn = Seeded::new(1, 0, F32);
        for update in 0..600 {
            let conditions = drawn.uniform("conditions", &[128]);
            let rows = drawn.normal("rows", &[128, 2]) * 0.3 + conditions.unsqueeze(1);
            let mut draws = Seeded::new(1, update, F32);
            diffusion.step(&rows, Some(&conditions), &mut draws);
        }
        let all = (0.3f64.powi(2) + 1.0 / 3.0).sqrt();
        let pgr = architecture == Architecture::Pgr;
        for (condition, must, within) in [
            (Some(-0.6), 0.3, 0.1),
            (Some(0.6), 0.3, 0.1),
            // Learned from a quarter of the rows.
            (None, all, 0.2),
        ] {
            let (mean, std) = made(&diffusion, condition);
            let what = format!("{architecture:?}, {condition:?}: {mean} {std}");
            assert!((mean - condition.unwrap_or(0.0)).abs() < 0.15, "{what}");
            assert!(!pgr || (std - must).abs() < within, "{what}");
        }
    }
}

/// The exact denoiser of N(mean, std²), of one mean with and one without the condition.
struct Normal {
    with: f64,
    without: f64,
    std: f64,
}

impl Model for Normal {
    fn denoised(&self, x: &Tensor, sigma: f64, asked: &[Asked]) -> Vec<Tensor> {
        let (data, noise) = (self.std * self.std, sigma * sigma);
        let of = |asked: &Asked| {
            let mean = match asked {
                Asked::Conditional => self.with,
                Asked::Unconditional => self.without,
            };
            (x * data + mean * noise) / (data + noise)
        };
        asked.iter().map(of).collect()
    }
}

const ONE: Normal = Normal {
    with: 0.3,
    without: 0.3,
    std: 0.5,
};

/// Where these standard normals end.
fn ends(model: &Normal, config: SamplerConfig, normal: &[f64]) -> Vec<f64> {
    ends_of_seed(model, config, normal, 0)
}

/// With the noise that is put back by this seed.
fn ends_of_seed(model: &Normal, config: SamplerConfig, normal: &[f64], seed: u64) -> Vec<f64> {
    let sampler = Sampler {
        config: &config,
        edm: &EdmConfig::default(),
        model,
        conditional: true,
        limits: None,
    };
    let normal = Tensor::from_slice(normal).unsqueeze(1);
    let mut draws = Seeded::new(seed, 0, F64);
    let rows = sampler.run(&normal, &mut draws, &mut |_| true).unwrap();
    Vec::try_from(rows.squeeze_dim(1)).unwrap()
}

fn config(solver: Solver, steps: usize) -> SamplerConfig {
    SamplerConfig {
        solver,
        steps,
        eta: 0.0,
        churn: 0.0,
        guidance: 1.0,
        ..SamplerConfig::default()
    }
}

const NORMALS: [f64; 4] = [-1.0, 0.0, 1.0, 2.0];
/// Where the equation itself leads: mean + (x₀ − mean) s / √(s² + 80²).
const EXACT: [f64; 4] = [-0.201_865_198, 0.298_125_037, 0.798_115_271, 1.298_105_506];

fn off(ends: &[f64]) -> f64 {
    let off = ends
        .iter()
        .zip(EXACT)
        .map(|(end, exact)| (end - exact).abs());
    off.fold(0.0, f64::max)
}

#[test]
fn the_second_order_scheme_gives_its_known_numbers() {
    let known = [-0.229_603_23, 0.298_021_41, 0.825_646_04, 1.353_270_68];
    let got = ends(&ONE, config(Solver::Heun, 18), &NORMALS);
    for (got, known) in got.iter().zip(known) {
        assert!((got - known).abs() < 1e-8, "{got} {known}");
    }
}

/// Both are of second order: four times nearer with twice the steps.
#[test]
fn both_solvers_go_where_the_equation_leads() {
    for solver in [Solver::Heun, Solver::DpmPlusPlus2m] {
        let off = |steps| off(&ends(&ONE, config(solver, steps), &NORMALS));
        let (some, twice, many) = (off(128), off(256), off(1024));
        assert!(
            (3.5..4.5).contains(&(some / twice)),
            "{solver:?}: {some} {twice}"
        );
        assert!(many < 2e-5, "{solver:?}: {many}");
    }
}

/// What the other solver is for: nearer with as many looks at the network, and with a third of them.
#[test]
fn the_multistep_solver_is_nearer_at_less_cost() {
    for steps in [6, 8, 12, 18, 32, 64] {
        let heun = off(&ends(&ONE, config(Solver::Heun, steps), &NORMALS));
        let ours = |steps| off(&ends(&ONE, config(Solver::DpmPlusPlus2m, steps), &NORMALS));
        let (as_many, half) = (ours(2 * steps - 1), ours(steps));
        assert!(as_many < heun / 2.0, "{steps}: {as_many}, {heun}");
        assert!(half < heun, "{steps}: {half}, {heun}");
    }
    // 10 looks instead of 35.
    let heun = off(&ends(&ONE, config(Solver::Heun, 18), &NORMALS));
    let ours = off(&ends(&ONE, config(Solver::DpmPlusPlus2m, 10), &NORMALS));
    assert!(ours < heun, "{ours} {heun}");
}

/// Guided, both go to the same rows: to the mean without the condition and (1 + w) / 2 of the way to that with it.
#[test]
fn guidance_means_the_same_to_both_solvers() {
    let model = Normal {
        with: 0.8,
        without: 0.2,
        std: 0.5,
    };
    for (guidance, mean) in [(0.0, 0.2), (1.0, 0.8), (2.0, 1.1), (3.0, 1.4)] {
        for solver in [Solver::Heun, Solver::DpmPlusPlus2m] {
            let config = SamplerConfig {
                guidance,
                ..config(solver, 1024)
            };
            let end = ends(&model, config, &[0.0])[0];
            // From 0 the equation does not quite lead to the mean.
            let must = mean * (1.0 - 0.5 / (0.25 + 80.0f64.powi(2)).sqrt());
            // Heun's steps are of first order where their halves go different ways.
            assert!((end - must).abs() < 5e-3, "{solver:?} w {guidance}: {end}");
        }
    }
}

/// Noise that is put back and taken away again leaves the rows' distribution as it was.
#[test]
fn churn_leaves_the_distribution() {
    one_thread();
    let normals = Seeded::new(5, 0, F64).normal("normals", &[20_000]);
    let normals = Vec::<f64>::try_from(normals).unwrap();
    let churned = SamplerConfig {
        churn: 40.0,
        churn_noise: 1.0,
        ..config(Solver::Heun, 128)
    };
    let without = ends(&ONE, config(Solver::Heun, 128), &normals);
    let with = ends(&ONE, churned, &normals);
    assert_ne!(with, without);
    let with = Tensor::from_slice(&with);
    let (mean, std) = (with.mean(Kind::Double), with.std(true));
    // Standard errors: .0035 and .0025.
    assert!((mean.double_value(&[]) - 0.3).abs() < 0.02, "{mean}");
    assert!((std.double_value(&[]) - 0.5).abs() < 0.02, "{std}");
}

/// Noise that DPM-Solver++ puts back leaves the rows' distribution as it was, guided or not. What it does away with is
/// where they began: with data of deviation s, s / √(s² + 80²) to the power of η is how much of that is left, as a
/// correlation.
#[test]
fn noise_put_back_leaves_the_distribution_and_not_the_start() {
    one_thread();
    let normals = Seeded::new(5, 0, F64).normal("normals", &[20_000]);
    let started = Vec::<f64>::try_from(&normals).unwrap();
    let model = Normal {
        with: 0.8,
        without: 0.2,
        std: 0.5,
    };
    for (eta, steps) in [(0.2, 256), (1.0, 96), (2.0, 128)] {
        for (guidance, must) in [(1.0, 0.8), (2.0, 1.1)] {
            let config = SamplerConfig {
                eta,
                guidance,
                ..config(Solver::DpmPlusPlus2m, steps)
            };
            let ended = Tensor::from_slice(&ends(&model, config, &started));
            let [mean, std] = [ended.mean(Kind::Double), ended.std(true)];
            let alike = ((&ended - &mean) * (&normals - normals.mean(Kind::Double)))
                .mean(Kind::Double)
                .double_value(&[]);
            let [mean, std] = [mean, std].map(|of| of.double_value(&[]));
            let alike = alike / (std * normals.std(true).double_value(&[]));
            let left = (0.5 / (0.25 + 80.0f64.powi(2)).sqrt()).powf(eta);
            let what = format!("η {eta}, w {guidance}: {mean} {std} {alike}, {left}");
            // Standard errors: .0035, .0025 and .007.
            assert!((mean - must).abs() < 0.01, "{what}");
            assert!((std - 0.5).abs() < 0.01, "{what}");
            assert!((alike - left).abs() < 0.03, "{what}");
        }
    }
}

#[test]
fn noise_put_back_is_the_seeds() {
    let of = |eta: f64, seed: u64| {
        let config = SamplerConfig {
            eta,
            ..config(Solver::DpmPlusPlus2m, 16)
        };
        ends_of_seed(&ONE, config, &NORMALS, seed)
    };
    assert_eq!(of(1.0, 3), of(1.0, 3));
    assert_ne!(of(1.0, 3), of(1.0, 4));
    assert_ne!(of(1.0, 3), of(0.0, 3));
    assert_eq!(of(0.0, 3), of(0.0, 4));
}
