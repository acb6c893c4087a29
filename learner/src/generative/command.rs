//! `hilt-learner generate`: a generation of a table or a recording, or the rows that a training was fed, to be looked at.
//!
//! Of what a robot saw, rows are what a training there makes of it: components of the encoder's maps, then proprioception.
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
    Data, Recording,
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
    relevance::{Conditions, Critic},
    replay::{GenerativeReplay, Synthetic},
    robot::Robot,
};
use crate::{
    agents::{Transitions, draws::Seeded},
    checkpoint::new_folder,
    config::LearnerConfig,
    dataset::open_data,
    metrics::write_atomically,
    presets,
    show::Phase,
    stopped::Stopped,
    vectors::{Preparation, Scaling, prepare},
};

/// What to look at, and where to put it.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// A table or a recording: to generate of, or that which the training learns from.
    pub data: Option<PathBuf>,
    /// The folder of a training, whose rows are looked at.
    pub run: Option<PathBuf>,
    /// The rig of a recording that does not say it itself.
    pub rig: Option<RigSpec>,
    /// Folder for what comes out: none yet, or an empty one.
    pub out: PathBuf,
    /// Seed of every random draw.
    pub seed: u64,
}

/// How rows are generated, where nothing is said by this preset; of a training, as it is configured.
pub type Configure<'a> = dyn Fn(&'static str) -> Result<LearnerConfig> + 'a;

/// Curiosity learns for as many steps as there are rows, as on a task that gave them, but no longer.
const MOST_CURIOUS: u64 = 10_000;
/// Tell draws of one purpose from those of another.
const CURIOUS: u64 = 0x6765_6e65_6375_7269;
const CHECK: u64 = 0x6765_6e65_6368_6563;

/// Generates, or reads what was generated, and writes what there is to see. Ended by `stop` it leaves nothing.
pub fn run(options: &GenerateOptions, configure: &Configure, stop: &AtomicBool) -> Result<()> {
    check_unused(&options.out)?;
    let out = &options.out;
    let mut found = None;
    let made = new_folder(out, |dir| {
        let (seen, config) = match (&options.run, &options.data) {
            (Some(run), data) => {
                let config = configure(presets::DEFAULT)?;
                (of_run(options, &config, run, data.as_deref())?, config)
            }
            (None, Some(path)) => {
                let opened = open_data(path, options.rig.as_ref(), false, (stop, STOPPED));
                match opened.context("--data")? {
                    Data::Table(table) => {
                        let config = configure(presets::GENERATE)?;
                        (of_table(options, &config, (path, &table), stop)?, config)
                    }
                    Data::Recording(recording) => {
                        let config = configure(presets::DEFAULT)?;
                        let seen = of_recording(options, &config, (path, &recording), dir, stop);
                        (seen?, config)
                    }
                }
            }
            (None, None) => anyhow::bail!(
                "--data with a table or a recording to generate of, or --run with a training to look at: one of them \
                 is needed"
            ),
        };
        let seen = Found::of(seen);
        Stopped::check(stop, STOPPED)?;
        seen.write(dir, options, &config)
            .with_context(|| format!("--out {}", out.display()))?;
        found = Some(seen);
        Ok::<_, anyhow::Error>(())
    });
    // That somebody ended it is nothing about the data.
    made.map_err(|error| {
        error
            .downcast::<Stopped>()
            .map_or_else(|error| error, Into::into)
    })?;
    if let Some(found) = found {
        println!(
            "{}\nthe page: {}",
            found.in_words(),
            out.join(PAGE).display()
        );
    }
    Ok(())
}

/// Where rows are made and looked at, with as many threads as a training takes.
fn device(config: &LearnerConfig) -> Result<Device> {
    let device = config.device.resolve()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tch::set_num_threads(config.train.threads.map_or(cores as i32, i32::from));
    Ok(device)
}

/// What Ctrl-C comes before.
const STOPPED: &str = "there was anything to see";
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

impl Seen {
    /// With these facts as well.
    fn with(mut self, facts: Vec<(&'static str, String)>) -> Self {
        self.facts.extend(facts);
        self
    }
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
fn of_table(
    options: &GenerateOptions,
    config: &LearnerConfig,
    (path, table): (&Path, &Table),
    stop: &AtomicBool,
) -> Result<Seen> {
    let device = device(config)?;
    anyhow::ensure!(
        config.encoder_weights.is_none(),
        "--encoder-weights is for what a robot saw, and rows are of state vectors: leave it out"
    );
    let preparation = Preparation {
        held_out: 0.0,
        ..config.offline.preparation(options.seed)
    };
    let shown = || format!("--data {}", path.display());
    let data = prepare(table, &preparation, (Kind::Float, device)).with_context(shown)?;
    let layout = Layout {
        observations: table.columns().observation as i64,
        actions: table.columns().action as i64,
    };
    let (generative, discount) = (switched_on(config), config.discount());
    let mut replay = GenerativeReplay::new(
        &generative.generative_replay,
        layout,
        discount,
        options.seed,
        device,
    )
    .context("generated experience is switched off")?;
    let all = data.train.slice(0, data.train.rows());
    let seen = of_data(options, config, path, (&mut replay, &all), stop)?;
    Ok(Seen {
        scaling: data.scaling,
        ..seen
    })
}

/// This configuration, with generated experience.
fn switched_on(config: &LearnerConfig) -> LearnerConfig {
    let mut config = config.clone();
    config.generative_replay.enabled = true;
    config
}

/// A generation of what a robot saw. What it takes on the way lies in `dir`, and is gone then.
fn of_recording(
    options: &GenerateOptions,
    config: &LearnerConfig,
    (path, recording): (&Path, &Recording),
    dir: &Path,
    stop: &AtomicBool,
) -> Result<Seen> {
    let setting = (device(config)?, options.seed);
    let config = switched_on(config);
    let scratch = dir.join("seen");
    let mut robot = Robot::of_recording(recording, &scratch, &config, setting, (stop, STOPPED))
        .with_context(|| format!("--data {}", path.display()))?;
    let seen = robot.look(|replay, real, _| of_data(options, &config, path, (replay, real), stop));
    let seen = seen?.with(robot.facts());
    drop(robot);
    fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    Ok(seen)
}

/// A generation of real rows.
fn of_data(
    options: &GenerateOptions,
    config: &LearnerConfig,
    path: &Path,
    (replay, real): (&mut GenerativeReplay, &Transitions),
    stop: &AtomicBool,
) -> Result<Seen> {
    let (generative, seed) = (&config.generative_replay, options.seed);
    let (layout, device) = (replay.layout(), real.rewards.device());
    let shown = || format!("--data {}", path.display());
    check::enough(&generative.check, real.rows()).with_context(shown)?;
    let steps = MOST_CURIOUS.min(real.rows() as u64);
    let batch = |step: u64| {
        let mut stream = Uniforms::new(mix(seed ^ mix(CURIOUS ^ step)));
        Some(real.drawn(&mut stream, config.offline.batch))
    };
    let curious = learn_relevance(replay, steps, &batch, stop)?;
    let scores = replay.relevance(real, None).with_context(
        || "data alone has no agent to ask; a training that has one is looked at by --run",
    )?;
    let scores = scores.map(|scores| scores.to_device(Device::Cpu));
    let job = replay.job(real, scores.as_ref().map(Tensor::copy));
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
        ("real rows", real.rows().to_string()),
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
        scaling: Scaling::default(),
        real: real.mapped(Tensor::shallow_clone),
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
    config: &LearnerConfig,
    dir: &Path,
    data: Option<&Path>,
) -> Result<Seen> {
    let device = device(config)?;
    if let Some(mut robot) = Robot::of_run(dir, options.rig.as_ref(), config, device)? {
        anyhow::ensure!(
            data.is_none(),
            "--data: a robot's training has what it learns from; leave --data out"
        );
        let seen = robot
            .look(|replay, real, agent| was_fed(options, config, dir, (&*replay, real, agent)))?;
        return Ok(seen.with(robot.facts()));
    }
    let Fed {
        scaling,
        real,
        replay,
        agent,
    } = fed::open(dir, data, config, device)?;
    let seen = was_fed(options, config, dir, (&replay, &real, &&*agent))?;
    Ok(Seen { scaling, ..seen })
}

/// What is generated in a replay, beside what is real, as this agent thinks.
fn was_fed(
    options: &GenerateOptions,
    config: &LearnerConfig,
    dir: &Path,
    (replay, real, agent): (&GenerativeReplay, &Transitions, &dyn Critic),
) -> Result<Seen> {
    let generated =
        (replay.rows()).with_context(|| fed::nothing_believed(dir, replay.account()))?;
    let generated = generated.to_device(Device::Cpu);
    let (layout, device) = (replay.layout(), real.rewards.device());
    let rows = layout.rows(real).to_device(Device::Cpu);
    let mut draws = Seeded::new(options.seed ^ CHECK, 0, (Kind::Float, Device::Cpu));
    let check = &config.generative_replay.check;
    let report = check::check(check, layout, &rows, &generated, &mut draws)
        .with_context(|| format!("--run {}", dir.display()))?;
    let of_real = replay.relevance(real, Some(agent))?;
    let of_generated = replay.relevance(&on_device(layout, &generated, device), Some(agent))?;
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
        scaling: Scaling::default(),
        relevance: asked(config, of_real.as_ref(), None, of_generated.as_ref())?,
        real: real.mapped(Tensor::shallow_clone),
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

    fn write(&self, dir: &Path, options: &GenerateOptions, config: &LearnerConfig) -> Result<()> {
        if let Some(samples) = &self.samples {
            npz::write(&dir.join(self.samples_file()), samples)?;
        }
        write_atomically(&dir.join(PAGE), page::html(&self.shown).as_bytes())?;
        let summary = serde_json::to_vec_pretty(&self.summary(options, config))?;
        Ok(write_atomically(&dir.join("summary.json"), &summary)?)
    }

    fn summary(&self, options: &GenerateOptions, config: &LearnerConfig) -> Value {
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
            "generative_replay": config.generative_replay,
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
