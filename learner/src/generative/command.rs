//! `hilt-learner generate`: a generation of a table, or the rows that a training was fed, to be looked at.
//!
//! | file in the folder | what it is |
//! |---|---|
//! | `generate.html` | the page to open: generated rows beside the real ones, and whether they are believed |
//! | `samples.npz` | the generated rows as a table; `samples-refused.npz` where they are not believed |
//! | `summary.json` | the same figures for programs |

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use hilt_protocol::{
    RigSpec,
    noise::{Uniforms, mix},
};
use hilt_recording::{
    Data,
    table::{Columns, Table, npz},
};
use hilt_show::plot::number;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::{
    check::{self, Report},
    fed::{self, Fed},
    generation::NotMade,
    layout::Layout,
    look::{self, Asked, Plane, median, numbers},
    page::{self, Shown},
    relevance::Conditions,
    replay::GenerativeReplay,
};
use crate::{
    agents::{Agent, Transitions, draws::Seeded},
    checkpoint::new_folder,
    config::LearnerConfig,
    metrics::write_atomically,
    show::Phase,
    stopped::Stopped,
    vectors::{Preparation, Scaling, prepare},
};

/// What to look at, and where to put it.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// A table: to generate of, or that which the training learns from.
    pub data: Option<PathBuf>,
    /// The folder of a training, whose rows are looked at.
    pub run: Option<PathBuf>,
    /// The rig of a recording that does not say it itself.
    pub rig: Option<RigSpec>,
    /// Folder for what comes out: none yet, or an empty one.
    pub out: PathBuf,
    /// Seed of every random draw.
    pub seed: u64,
    /// How rows are generated; of a training, as it is configured.
    pub config: LearnerConfig,
}

/// Curiosity learns for as many steps as there are rows, as on a task that gave them, but no longer.
const MOST_CURIOUS: u64 = 10_000;
/// Tell draws of one purpose from those of another.
const CURIOUS: u64 = 0x6765_6e65_6375_7269;
const CHECK: u64 = 0x6765_6e65_6368_6563;

/// Generates, or reads what was generated, and writes what there is to see. Ended by `stop` it leaves nothing.
pub fn run(options: &GenerateOptions, stop: &AtomicBool) -> Result<()> {
    check_unused(&options.out)?;
    let config = &options.config;
    let device = config.device.resolve()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = config.train.threads.map_or(cores as i32, i32::from);
    tch::set_num_threads(threads);
    let seen = match (&options.run, &options.data) {
        (Some(dir), data) => of_run(options, dir, data.as_deref(), device)?,
        (None, Some(path)) => of_data(options, path, device, stop)?,
        (None, None) => anyhow::bail!(
            "--data with a table to generate of, or --run with a training to look at: one of them is needed"
        ),
    };
    let found = Found::of(seen);
    Stopped::check(stop, "there was anything to see")?;
    let out = &options.out;
    new_folder(out, |dir| found.write(dir, options))
        .with_context(|| format!("--out {}", out.display()))?;
    println!(
        "{}\nthe page: {}",
        found.in_words(),
        out.join(PAGE).display()
    );
    Ok(())
}

const PAGE: &str = "generate.html";

/// Nothing of anybody's is written over, and that is found out before the work.
fn check_unused(out: &Path) -> Result<()> {
    let shown = out.display();
    match fs::read_dir(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("--out {shown}")),
        Ok(mut entries) => anyhow::ensure!(
            entries.next().is_none(),
            "--out {shown} is there already and not empty; choose another folder"
        ),
    }
    new_folder(out, |_| Ok::<_, io::Error>(())).context("--out")?;
    Ok(fs::remove_dir(out)?)
}

/// Generated rows, with what they are to be compared with.
struct Seen {
    title: String,
    layout: Layout,
    scaling: Scaling,
    /// As an agent sees them, and generated ones as the model made them \[M, d\].
    real: Transitions,
    generated: Tensor,
    report: Report,
    relevance: Option<Asked>,
    losses: Vec<(u64, f64)>,
    facts: Vec<(&'static str, String)>,
}

/// Relevances of rows, in the model's range; `asked` are in it already.
fn asked(
    config: &LearnerConfig,
    real: Option<&Tensor>,
    asked: Option<&Tensor>,
    generated: Option<&Tensor>,
) -> Result<Option<Asked>> {
    let Some((real, generated)) = real.zip(generated) else {
        return Ok(None);
    };
    let generative = &config.generative_replay;
    let conditions = Conditions::fit(real, generative.cond_top_frac)?;
    let finite = |of: &Tensor| {
        let mut of = numbers(of);
        of.retain(|relevance| relevance.is_finite());
        of
    };
    Ok(Some(Asked {
        name: generative.relevance.name(),
        real: finite(conditions.of_rows()),
        asked: asked.map(finite),
        generated: finite(&conditions.normalize(generated)),
    }))
}

/// A generation of a table.
fn of_data(
    options: &GenerateOptions,
    path: &Path,
    device: Device,
    stop: &AtomicBool,
) -> Result<Seen> {
    let (config, seed) = (&options.config, options.seed);
    let generative = &config.generative_replay;
    anyhow::ensure!(
        config.encoder_weights.is_none(),
        "--encoder-weights is for what a robot saw, and rows are of state vectors: leave it out"
    );
    let table = match Data::open(path, options.rig.as_ref()).context("--data")? {
        Data::Table(table) => table,
        Data::Recording(_) => anyhow::bail!(
            "--data {} is a robot's recording, of whose images nothing can be generated here. For its proprioception \
             make a table of it, by `hilt-learner convert {0} table.npz`; a training on it generates beside its updates \
             (--set generative_replay.enabled=true), and its metrics.jsonl has the figures",
            path.display()
        ),
    };
    let preparation = Preparation {
        held_out: 0.0,
        ..config.offline.preparation(seed)
    };
    let shown = || format!("--data {}", path.display());
    let data = prepare(&table, &preparation, (Kind::Float, device)).with_context(shown)?;
    let (scaling, data) = (data.scaling, data.train);
    check::enough(&generative.check, data.rows()).with_context(shown)?;
    let layout = Layout {
        observations: table.columns().observation as i64,
        actions: table.columns().action as i64,
    };
    let mut replay = GenerativeReplay::new(
        &super::config::GenerativeConfig {
            enabled: true,
            ..generative.clone()
        },
        layout,
        config.discount(),
        seed,
        device,
    )
    .context("generated experience is switched off")?;
    let real = data.slice(0, data.rows());
    let steps = MOST_CURIOUS.min(data.rows() as u64);
    let batch = |step: u64| {
        let mut stream = Uniforms::new(mix(seed ^ mix(CURIOUS ^ step)));
        Some(data.batch(&mut stream, config.offline.batch))
    };
    let curious = learn_relevance(&mut replay, steps, &batch, stop)?;
    let scores = replay.relevance(&real, None).with_context(
        || "a table alone has no agent to ask; a training that has one is looked at by --run",
    )?;
    let scores = scores.map(|scores| scores.to_device(Device::Cpu));
    let job = replay.job(&real, scores.as_ref().map(Tensor::copy));
    let (updates, rows) = (generative.diffusion.updates, generative.num_samples);
    let phase = RefCell::new(Some(Phase::new("diffusion", updates)));
    let told = |update, loss| {
        if let Some(phase) = &mut *phase.borrow_mut() {
            phase.stand(update, loss);
        }
        if update == updates {
            phase.take().into_iter().for_each(Phase::end);
            println!("diffusion: {updates} updates, loss {loss:.4}; {rows} rows are sampled now");
        }
    };
    let made = match job.run(&told, &|| !stop.load(Ordering::Relaxed)) {
        Err(NotMade::GivenUp) => return Err(Stopped::Before("rows were generated").into()),
        made => made.with_context(shown)?,
    };
    let of_generated = replay.relevance(&on_device(layout, &made.rows, device), None)?;
    let relevance = asked(
        config,
        scores.as_ref(),
        made.asked.as_ref(),
        of_generated.as_ref(),
    )?;
    let [trained_s, sampled_s] = made.took_s;
    let mut facts = vec![
        ("generated rows", made.rows.size()[0].to_string()),
        ("real rows", data.rows().to_string()),
        (
            "diffusion model",
            format!("{updates} updates in {trained_s:.0} s"),
        ),
        (
            "sampled",
            format!(
                "in {sampled_s:.0} s, by {} steps",
                generative.diffusion.sampler.steps
            ),
        ),
    ];
    facts.extend(curious.map(|loss| ("curiosity", format!("{steps} steps, loss {loss:.4}"))));
    Ok(Seen {
        title: path.display().to_string(),
        layout,
        scaling,
        real,
        generated: made.rows,
        report: made.report,
        relevance,
        losses: made.losses,
        facts,
    })
}

fn on_device(layout: Layout, rows: &Tensor, device: Device) -> Transitions {
    layout.transitions(&rows.to_device(device))
}

/// What judges relevance learns for some steps, if it learns at all; its last loss.
fn learn_relevance(
    replay: &mut GenerativeReplay,
    steps: u64,
    batch: &dyn Fn(u64) -> Option<Transitions>,
    stop: &AtomicBool,
) -> Result<Option<f64>> {
    let (mut phase, mut loss) = (None, None);
    for step in 1..=steps {
        Stopped::check(stop, "rows were generated")?;
        let Some(figures) = replay.learn(&|| batch(step)) else {
            return Ok(None);
        };
        let sum = figures.read().iter().map(|(_, loss)| loss).sum();
        loss = Some(sum);
        phase
            .get_or_insert_with(|| Phase::new("curiosity", steps))
            .stand(step, sum);
    }
    phase.into_iter().for_each(Phase::end);
    Ok(loss)
}

/// The rows that a training was fed.
fn of_run(
    options: &GenerateOptions,
    dir: &Path,
    data: Option<&Path>,
    device: Device,
) -> Result<Seen> {
    let config = &options.config;
    let Fed {
        scaling,
        real,
        replay,
        agent,
    } = fed::open(dir, data, config, device)?;
    let generated = (replay.rows().context("it has no generated rows")?).to_device(Device::Cpu);
    let layout = replay.layout();
    let rows = layout.rows(&real).to_device(Device::Cpu);
    let mut draws = Seeded::new(options.seed ^ CHECK, 0, (Kind::Float, Device::Cpu));
    let check = &config.generative_replay.check;
    let report = check::check(check, layout, &rows, &generated, &mut draws)
        .with_context(|| format!("--run {}", dir.display()))?;
    let agent: &dyn Agent = &*agent;
    let of_real = replay.relevance(&real, Some(&agent))?;
    let of_generated = replay.relevance(&on_device(layout, &generated, device), Some(&agent))?;
    let facts = vec![
        ("generated rows", generated.size()[0].to_string()),
        ("real rows", real.rows().to_string()),
        (
            "share of a batch",
            format!(
                "{:.0} %",
                100.0 * config.generative_replay.diffusion_sample_ratio
            ),
        ),
    ];
    Ok(Seen {
        title: dir.display().to_string(),
        layout,
        scaling,
        relevance: asked(config, of_real.as_ref(), None, of_generated.as_ref())?,
        real,
        generated,
        report,
        losses: vec![],
        facts,
    })
}

/// Everything that is written.
struct Found {
    shown: Shown,
    figures: Vec<(&'static str, f64)>,
    /// Generated rows as their task would have given them; absent where no row is whole.
    samples: Option<Table>,
}

impl Found {
    /// As an agent gets the rows, in the units of its task.
    fn of(seen: Seen) -> Self {
        let Seen {
            layout,
            scaling,
            report,
            ..
        } = seen;
        let given = |seen: &Transitions| {
            let rows = layout.rows(&scaling.undone(seen));
            rows.to_device(Device::Cpu)
        };
        let (real, generated) = (
            given(&seen.real),
            given(&layout.transitions(&seen.generated)),
        );
        let (count, real_count) = (generated.size()[0], real.size()[0]);
        let shown = Shown {
            title: seen.title,
            kind: format!("{count} generated rows beside {real_count} real ones"),
            refused: report.verdict.err().map(|reason| reason.to_string()),
            facts: seen.facts,
            columns: look::columns(layout, &real, &generated),
            plane: Plane::of(&real, &generated),
            followed: report.followed,
            distances: report.distances,
            relevance: seen.relevance,
            losses: (seen.losses.into_iter())
                .map(|(update, loss)| (update as f64, loss))
                .collect(),
        };
        Self {
            shown,
            figures: report.figures,
            samples: table(layout, &generated),
        }
    }

    fn samples_file(&self) -> &'static str {
        match self.shown.refused {
            None => "samples.npz",
            Some(_) => "samples-refused.npz",
        }
    }

    fn write(&self, dir: &Path, options: &GenerateOptions) -> Result<()> {
        if let Some(samples) = &self.samples {
            npz::write(&dir.join(self.samples_file()), samples)?;
        }
        write_atomically(&dir.join(PAGE), page::html(&self.shown).as_bytes())?;
        let summary = serde_json::to_vec_pretty(&self.summary(options))?;
        Ok(write_atomically(&dir.join("summary.json"), &summary)?)
    }

    fn summary(&self, options: &GenerateOptions) -> Value {
        let shown = &self.shown;
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let relevance = shown.relevance.as_ref().map(|of| {
            let rank = |of_rows: &[f64]| median(&of.ranks(of_rows));
            json!({
                "name": of.name,
                "median_rank_asked": of.asked.as_deref().map(rank),
                "median_rank_generated": rank(&of.generated),
            })
        });
        let figures: serde_json::Map<String, Value> = (self.figures.iter())
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        json!({
            "data": path(&options.data),
            "run": path(&options.run),
            "seed": options.seed,
            "believed": shown.refused.is_none(),
            "reason": shown.refused,
            "samples": self.samples.as_ref().map(|_| self.samples_file()),
            "rows": self.samples.as_ref().map_or(0, Table::len),
            "check": figures,
            "relevance": relevance,
            "diffusion_loss": shown.losses.last().map(|(_, loss)| loss),
            "columns": shown.columns,
            "generative_replay": options.config.generative_replay,
        })
    }

    fn in_words(&self) -> String {
        let shown = &self.shown;
        let far = (shown.columns.iter()).max_by(|a, b| a.distance.total_cmp(&b.distance));
        let far = far.map_or(String::new(), |column| {
            format!(
                "; the farthest column is `{}`, by {} standard deviations",
                column.name,
                number(column.distance)
            )
        });
        match &shown.refused {
            None => format!("{}: believed{far}", shown.kind),
            Some(reason) => format!("{}: not believed, for {reason}{far}", shown.kind),
        }
    }
}

/// Rows as a table, but for those with numbers that are none. None goes on from the one before: what did not terminate
/// was cut.
fn table(layout: Layout, rows: &Tensor) -> Option<Table> {
    let whole = rows.isfinite().all_dim(1, false).nonzero().squeeze_dim(1);
    let t = layout.transitions(&rows.index_select(0, &whole));
    let numbers = |of: &Tensor| {
        numbers(of)
            .into_iter()
            .map(|number| number as f32)
            .collect::<Vec<_>>()
    };
    let terminals: Vec<bool> = numbers(&t.masks).iter().map(|&mask| mask < 0.5).collect();
    let columns = Columns {
        observation: layout.observations as usize,
        action: layout.actions as usize,
        observations: numbers(&t.observations),
        actions: numbers(&t.actions),
        rewards: numbers(&t.rewards),
        next_observations: numbers(&t.next_observations),
        timeouts: terminals.iter().map(|terminal| !terminal).collect(),
        terminals,
    };
    Table::new(columns).ok()
}
