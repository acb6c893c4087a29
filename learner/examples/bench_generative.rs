//! Updates and samples per second of the diffusion models that make transitions, PGR's and SynthER's, at 42 columns
//! (17 numbers of observation, 6 of action, reward and terminal), one thread.
//!
//! Rows (JSON lines on stdout), with PyTorch in the same run as the peer, where `cargo xtask setup` has installed it
//! (`bench_generative.py`: the references' networks, losses, optimizers and samplers, written plainly):
//! - `generative.NETWORK_train_steps_per_s`: an update at batch 256.
//! - `generative.NETWORK_samples_per_s`: 16 steps of the references' sampler, guided in PGR's; in bf16 where the
//!   processor has it, which is beside the table on stderr that shows what that changes.
//! - `generative.samples_per_s_equal_quality`: PGR's, guided, by the solver that needs the network least among those
//!   that come as near to the data as the references' setting of 128 steps does, on a mixture whose samples are
//!   known. The peer is that setting.
//!
//! All are per second of processor time: on a machine with other work the same as per second on an idle one.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use hilt_learner::{
    agents::draws::Seeded,
    generative::{
        denoiser::DenoiserConfig,
        diffusion::{Diffusion, DiffusionConfig, Wanted},
        sampler::{SamplerConfig, Solver},
    },
};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const COLUMNS: i64 = 42;
const BATCH: i64 = 256;
/// As many as are sampled together.
const SAMPLES: i64 = 476;
/// What the references come to with their own code, 16 steps (cited).
const CITED: [(&str, f64, f64); 2] = [("PGR", 1.49, 27.0), ("SynthER", 6.1, 170.0)];

#[derive(Deserialize)]
struct Figures {
    train: f64,
    sample: f64,
}

/// What PyTorch comes to.
#[derive(Deserialize)]
struct Peer {
    version: String,
    pgr: Figures,
    synther: Figures,
}

fn peer() -> Result<Option<Peer>> {
    // Set by `.cargo/config.toml` for what cargo runs.
    let python = env::var_os("HILT_PYTHON").filter(|python| Path::new(python).exists());
    let Some(python) = python else {
        eprintln!(
            "PyTorch is not installed, so that it is no peer; get it with: cargo xtask setup"
        );
        return Ok(None);
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench_generative.py");
    let out = Command::new(python)
        .arg(script)
        .arg(COLUMNS.to_string())
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("OMP_NUM_THREADS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .context("cannot start Python")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "PyTorch fails: {said}");
    Ok(Some(serde_json::from_slice(&out.stdout)?))
}

/// Seconds of processor time that this process has taken.
fn processor_s() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// How many it makes per second, over at least five.
fn rate(mut make: impl FnMut() -> i64) -> f64 {
    make();
    let (start, mut made) = (processor_s(), 0);
    while processor_s() - start < 5.0 {
        made += make();
    }
    made as f64 / (processor_s() - start)
}

fn row(name: &str, value: f64, unit: &str, peer: Option<(String, f64)>) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!(
        "{name}: load {}",
        load.split(' ').next().unwrap_or_default()
    );
    let ratio = peer.as_ref().map(|(_, peer)| value / peer);
    let (peer, peer_value) = peer.unzip();
    let row = serde_json::json!({
        "name": name, "value": value, "unit": unit,
        "peer": peer, "peer_value": peer_value, "ratio": ratio,
    });
    println!("{row}");
}

fn train_rate(model: &mut Diffusion, conditions: Option<&Tensor>) -> f64 {
    let rows = Tensor::rand([BATCH, COLUMNS], F32) * 2.0 - 1.0;
    rate(|| {
        let mut draws = Seeded::new(1, model.steps(), F32);
        model.step(&rows, conditions, &mut draws);
        1
    })
}

fn sample(model: &Diffusion, rows: i64, conditions: Option<&Tensor>, seed: u64) -> Tensor {
    let limits = Tensor::ones([1], F32);
    let wanted = Wanted {
        rows,
        conditions,
        limits: Some(&limits),
    };
    let mut draws = Seeded::new(seed, 0, F32);
    let sampled = model.sample(&wanted, &mut draws, &|| true);
    sampled.expect("nobody said no")
}

fn sample_rate(model: &mut Diffusion, sampler: SamplerConfig, conditional: bool) -> f64 {
    model.set_sampler(sampler);
    let conditions = conditional.then(|| Tensor::rand([SAMPLES], F32));
    rate(|| {
        let sampled = sample(model, SAMPLES, conditions.as_ref(), 1);
        sampled.size()[0]
    })
}

/// Rows of a mixture of eight Gaussians in as many dimensions, of different widths, and which of them each is from.
fn mixture(rows: i64, seed: i64) -> (Tensor, Tensor) {
    const DIMENSIONS: i64 = 8;
    tch::manual_seed(1);
    let centres = (Tensor::rand([8, DIMENSIONS], F32) * 2.0 - 1.0) * 0.7;
    let widths = Tensor::rand([8, DIMENSIONS], F32) * 0.08 + 0.01;
    tch::manual_seed(seed);
    let of = Tensor::randint(8, [rows], (Kind::Int64, Device::Cpu));
    let (centres, widths) = (centres.index_select(0, &of), widths.index_select(0, &of));
    let rows = centres + widths * Tensor::randn([rows, DIMENSIONS], F32);
    (rows.clamp(-1.0, 1.0), of.to_kind(Kind::Float) / 7.0)
}

/// Sliced Wasserstein distance of as many rows each, over 256 directions.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    tch::manual_seed(2);
    let directions = Tensor::randn([a.size()[1], 256], F32);
    let directions = &directions / directions.norm_scalaropt_dim(2, [0], true);
    let sorted = |rows: &Tensor| rows.matmul(&directions).sort(0, false).0;
    let apart = sorted(a) - sorted(b);
    apart.abs().mean(Kind::Float).double_value(&[])
}

/// Mean and standard deviation.
fn moments(of: &[f64]) -> (f64, f64) {
    let mean = of.iter().sum::<f64>() / of.len() as f64;
    let square = of.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (square / (of.len() - 1) as f64).sqrt())
}

const ROWS: i64 = 4096;
const SEEDS: u64 = 8;

/// A small model that has learned the mixture, and the solver of fewest steps that comes as near to it as the
/// references' setting.
fn equal_quality() -> SamplerConfig {
    let config = DiffusionConfig {
        denoiser: DenoiserConfig {
            width: 96,
            depth: 3,
            embedding: 64,
            ..DenoiserConfig::default()
        },
        updates: 4000,
        lr: 1e-3,
        ..DiffusionConfig::default()
    };
    let (data, conditions) = mixture(1 << 15, 3);
    let mut model = Diffusion::new(config.clone(), data.size()[1], 1, F32);
    while model.steps() < config.updates {
        let first = (model.steps() as i64 * BATCH) % data.size()[0];
        let [rows, conditions] = [&data, &conditions].map(|all| all.narrow(0, first, BATCH));
        let mut draws = Seeded::new(5, model.steps(), F32);
        model.step(&rows, Some(&conditions), &mut draws);
    }
    let (held_out, conditions) = mixture(ROWS, 4);
    let reference = SamplerConfig::default();
    let plain = |sampler: SamplerConfig| SamplerConfig {
        guidance: 1.0,
        ..sampler
    };
    let mut sampled = |sampler: SamplerConfig, seed: u64| {
        model.set_sampler(sampler);
        sample(&model, ROWS, Some(&conditions), seed)
    };
    // Where guidance leads only the reference says; this is shown, and decides nothing.
    let guided_reference = sampled(reference, 100);
    let mut distances = |sampler: SamplerConfig| {
        let of = |to: &Tensor,
                  sampler: SamplerConfig,
                  sampled: &mut dyn FnMut(SamplerConfig, u64) -> Tensor| {
            let all: Vec<f64> = (0..SEEDS)
                .map(|seed| distance(&sampled(sampler, seed), to))
                .collect();
            moments(&all)
        };
        [
            of(&held_out, plain(sampler), &mut sampled),
            of(&guided_reference, sampler, &mut sampled),
        ]
    };
    let show = |sampler: &SamplerConfig, [plain, guided]: [(f64, f64); 2]| {
        eprintln!(
            "{:?}, {} steps, η {}, churn {}, bf16 {}: distance to held-out rows {:.5} ± {:.5}, guided to the reference's {:.5} ± {:.5}",
            sampler.solver,
            sampler.steps,
            sampler.eta,
            sampler.churn,
            sampler.bf16,
            plain.0,
            plain.1,
            guided.0,
            guided.1
        );
    };
    let of_data = distance(&held_out, &mixture(ROWS, 6).0);
    eprintln!("other rows of the data themselves: {of_data:.5}");
    let bounds = distances(reference);
    show(&reference, bounds);
    let rounded = SamplerConfig {
        bf16: true,
        ..reference
    };
    show(&rounded, distances(rounded));
    let mut best = None;
    for (solver, churn, eta) in [
        (Solver::Heun, reference.churn, 0.0),
        (Solver::Heun, 0.0, 0.0),
        (Solver::DpmPlusPlus2m, 0.0, 0.0),
        (Solver::DpmPlusPlus2m, 0.0, 1.0),
        (Solver::DpmPlusPlus2m, 0.0, 2.0),
    ] {
        for steps in [8, 12, 16, 20, 24, 32, 48, 64] {
            let sampler = SamplerConfig {
                solver,
                steps,
                eta,
                churn,
                bf16: true,
                ..reference
            };
            let found = distances(sampler);
            show(&sampler, found);
            let (mean, spread) = bounds[0];
            let as_near = found[0].0 <= mean + spread;
            if as_near && best.is_none_or(|best| evaluations(&sampler) < evaluations(&best)) {
                best = Some(sampler);
            }
        }
    }
    best.unwrap_or(reference)
}

/// How often the network is asked for a guided row.
fn evaluations(sampler: &SamplerConfig) -> usize {
    match sampler.solver {
        Solver::Heun => 3 * sampler.steps - 1,
        Solver::DpmPlusPlus2m => 2 * sampler.steps,
    }
}

fn main() -> Result<()> {
    hilt_learner::memory::keep_freed();
    tch::set_num_threads(1);
    for (name, train, sample) in CITED {
        eprintln!("{name}'s own code (cited): {train} updates/s, {sample} samples/s");
    }
    let peer = peer()?;
    let beside = |what: &str, of: fn(&Peer) -> f64| {
        peer.as_ref().map(|peer| {
            let version = peer.version.split('+').next().unwrap_or_default();
            let name = format!("PyTorch {version}, {what}");
            (name, of(peer))
        })
    };
    const PLAINLY: &str = "the reference's network and sampler written plainly";
    let in_16 = SamplerConfig {
        steps: 16,
        ..SamplerConfig::default()
    };
    let rounded = SamplerConfig {
        bf16: true,
        ..in_16
    };
    let conditions = Tensor::rand([BATCH], F32);
    let mut pgr = Diffusion::new(DiffusionConfig::default(), COLUMNS, 1, F32);
    let train = train_rate(&mut pgr, Some(&conditions));
    let name = "generative.pgr_train_steps_per_s";
    row(
        name,
        train,
        "updates/s",
        beside(PLAINLY, |peer| peer.pgr.train),
    );
    let config = DiffusionConfig {
        denoiser: DenoiserConfig::synther(),
        ..DiffusionConfig::default()
    };
    let mut synther = Diffusion::new(config, COLUMNS, 0, F32);
    let train = train_rate(&mut synther, None);
    let name = "generative.synther_train_steps_per_s";
    row(
        name,
        train,
        "updates/s",
        beside(PLAINLY, |peer| peer.synther.train),
    );
    for (name, model, conditional, of) in [
        (
            "pgr",
            &mut pgr,
            true,
            (|peer| peer.pgr.sample) as fn(&Peer) -> f64,
        ),
        ("synther", &mut synther, false, |peer| peer.synther.sample),
    ] {
        let in_f32 = sample_rate(model, in_16, conditional);
        eprintln!("{name}, 16 steps in f32: {in_f32:.1} samples/s");
        let name = format!("generative.{name}_samples_per_s");
        let value = sample_rate(model, rounded, conditional);
        row(&name, value, "samples/s", beside(PLAINLY, of));
    }
    let best = equal_quality();
    eprintln!("as near as the reference's 128 steps: {best:?}");
    let value = sample_rate(&mut pgr, best, true);
    // Its time is the network's.
    let fewer = |peer: &Peer| {
        let times = evaluations(&SamplerConfig::default()) as f64;
        let in_16 = SamplerConfig {
            steps: 16,
            ..SamplerConfig::default()
        };
        peer.pgr.sample * evaluations(&in_16) as f64 / times
    };
    let what = "the reference's 128 steps, reckoned from 16";
    row(
        "generative.samples_per_s_equal_quality",
        value,
        "samples/s",
        beside(what, fewer),
    );
    Ok(())
}
