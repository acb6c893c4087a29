//! `hilt-learner`: the process that learns.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use hilt_learner::{
    config::{DeviceChoice, LearnerConfig},
    dataset::{Demonstrations, read_demonstrations},
    evaluation::{
        command::{self as evaluation, EvaluateOptions, Length, Video},
        render::{self, RenderOptions},
    },
    export,
    hybrid::{
        self, HybridOptions,
        task::{self, TaskOptions},
    },
    imitation::{Setup, Trunk, imitate},
    inspect::command::{self as inspection, InspectOptions},
    memory,
    metrics::write_atomically,
    offline::{
        self, OfflineOptions,
        batch::{self, BatchOptions},
    },
    presets,
    reward::{
        RewardInput,
        command::{self, ClassifierOptions},
    },
    show::Phase,
    stopped::Stopped,
    trained, trainings,
    video::FRAMES_PER_S,
};
use hilt_protocol::RigSpec;
use hilt_recording::{
    convert::{Conversion, Format},
    read_spec,
};
use hilt_show::Request;

#[derive(Parser)]
#[command(
    name = "hilt-learner",
    version,
    about = "Learns robot policies from demonstrations and the robot's stream"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trains any algorithm on data at hand.
    Offline(Offline),
    /// Trains on demonstrations and the robot's stream, or on a simulated task.
    Hybrid(Hybrid),
    /// Imitates demonstrations and exports the policy: the baseline.
    Imitation(Imitation),
    /// Lets a trained policy act in a simulated task, and says how well it did.
    Evaluate(Evaluate),
    /// Trains the reward classifier by itself, from folders of images, from runs, or from both.
    #[command(after_help = FOLDERS)]
    Classifier(Classifier),
    /// Writes data in another form: demonstrations of other programs as runs, runs for other programs.
    Convert(Convert),
    /// Films a trained policy in its task, a video per episode.
    Render(Render),
    /// Says what is in data, and what of it would hurt a training.
    Inspect(Inspect),
}

const FOLDERS: &str = "\
Folders of images: one folder per image key, and files of the same name but for the ending are the
same moment. With a single key the images may lie in the folder itself.

    successes/front/0001.png     failures/front/0001.png
    successes/wrist/0001.png     failures/wrist/0001.png

PNG and JPEG are read. Images of another size than the classifier's (reward.trunk.image_size, or
encoder.image_size with reward.input = \"maps\") are resized to it as a whole. Image keys are the
names of the rig's cameras, in the rig's order.

HIL-SERL's files (.pkl) are read too, as --success-dir and --failure-dir, or as --runs where `labels`
in their rows, or `success` and `failure` in their names, say which they are. Their images are resized
likewise; --image-keys names those of their cameras that count.

What is held out to measure it are whole episodes of runs, and whole stretches of a folder's files
in the order of their names, or of a file's rows.";

#[derive(Args)]
struct Common {
    /// Folder for what comes out.
    #[arg(long)]
    out: PathBuf,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the configuration begins [default: lift; a training that is resumed: what it was]. With a robot lift, hil-serl or pytorch-serl; for data at hand
    /// and for tasks bc, td3-bc, iql, iql-antmaze, awac, cql, cql-antmaze, cal-ql, sac, redq or rlpd.
    #[arg(long)]
    preset: Option<String>,
    /// Configuration file, over the preset.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Weights of the encoder, which is then not trained: HIL-SERL's resnet10_params.pkl, or a
    /// .safetensors file.
    #[arg(long, value_name = "FILE")]
    encoder_weights: Option<PathBuf>,
    /// The rig of data of other programs, which do not say it: the spec.json beside any run of its [default: guessed
    /// from the width of its actions].
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Changes one key of the configuration, as `train.batch=128`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

#[derive(Args)]
struct Offline {
    /// Table of transitions on state vectors (.npz, .hdf5 or .h5, with the names of D4RL), a folder of a robot's runs,
    /// or data of another program. Given more than once, or with --seeds, a batch: each with each seed, in
    /// OUT/NAME/seed-SEED, and in OUT a summary.
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<PathBuf>,
    /// Seeds of a batch, as 1,2,3.
    #[arg(long, value_delimiter = ',', conflicts_with = "seed")]
    seeds: Vec<u64>,
    #[command(flatten)]
    common: Common,
    /// Task that the policy is judged in, by its name in Gymnasium [default: held-out data judges it]. Of a batch: once
    /// for all, or once for each --data.
    #[arg(long, value_name = "ID")]
    env: Vec<String>,
    /// Goes on from the checkpoint in --out.
    #[arg(long)]
    resume: bool,
}

#[derive(Args)]
struct Hybrid {
    /// Demonstrations: a folder of runs, or data of another program; with --env a table of recorded steps.
    #[arg(long, required_unless_present = "env")]
    demos: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Folder of runs with labelled frames [default: the demonstrations' folder with `-labels`].
    #[arg(long, conflicts_with = "env")]
    labels: Option<PathBuf>,
    /// Starts from this classifier, a folder of `hilt-learner classifier`, instead of training one.
    /// Labelled frames, which it can do without, go beside a person's corrections.
    #[arg(long, value_name = "DIR", conflicts_with = "env")]
    classifier: Option<PathBuf>,
    /// Endpoint to listen on.
    #[arg(long, default_value = "tcp/127.0.0.1:7447", conflicts_with = "env")]
    listen: Vec<String>,
    /// Name shared with the actor.
    #[arg(long, default_value = "default", conflicts_with = "env")]
    session: String,
    /// Ends after so many updates; without this and --max-seconds it goes on until Ctrl-C.
    #[arg(long, conflicts_with = "env")]
    max_updates: Option<u64>,
    /// Ends so many seconds after the start of the process.
    #[arg(long, conflicts_with = "env")]
    max_seconds: Option<f64>,
    /// Goes on from the checkpoint in --out.
    #[arg(long)]
    resume: bool,
    /// Goes on from this agent, the `best` or `export` folder of a training, on the robot's runs or with --env on a
    /// table; its configuration is where this one begins, unless --preset is given. Updates count on from its own, so
    /// that schedules and random draws go on; --max-updates counts those made here.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    on_task: OnTask,
}

/// A simulated task in the robot's place.
#[derive(Args)]
#[command(next_help_heading = "On a simulated task")]
struct OnTask {
    /// Learns on this task, as Hopper-v5 or Pendulum-v1, without a robot.
    #[arg(long, value_name = "ID", conflicts_with = "encoder_weights")]
    env: Option<String>,
    /// Ends after so many steps of the task, those before --resume included [default: online.steps].
    #[arg(long, requires = "env")]
    max_steps: Option<u64>,
    /// Writes the steps that were taken as a table (.npz), the newest train.capacity of them.
    #[arg(long, value_name = "FILE", requires = "env")]
    log: Option<PathBuf>,
}

#[derive(Args)]
struct Imitation {
    /// Demonstrations: a folder of runs, or data of another program.
    #[arg(long)]
    demos: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Gradient steps; for a policy to act by, 3000 are enough for the loss to settle [default: imitation.steps, which
    /// is what an encoder takes].
    #[arg(long)]
    steps: Option<u64>,
}

#[derive(Args)]
struct Classifier {
    /// Folder of images that are successes, or of HIL-SERL's files (.pkl) of such.
    #[arg(long, value_name = "DIR")]
    success_dir: Option<PathBuf>,
    /// Folder of images that are not.
    #[arg(long, value_name = "DIR")]
    failure_dir: Option<PathBuf>,
    /// Cameras of the images, as front,wrist [default: the cameras of --runs].
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    image_keys: Vec<String>,
    /// Runs with labelled frames, or data of another program; may be given more than once.
    #[arg(long, value_name = "PATH")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Convert {
    /// Runs, a table, or data of other programs.
    from: PathBuf,
    /// What comes out; nothing may be there yet.
    to: PathBuf,
    /// The form of what comes out: runs, lerobot, hil-serl, npz, hdf5 or foxglove [default: by the ending].
    #[arg(long = "to", id = "format", value_name = "FORM")]
    format: Option<Format>,
    /// The rig of data that does not say it itself: the spec.json beside any of its runs.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Makes images so many pixels wide and high.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=4096))]
    image_size: Option<u32>,
    /// What the robot was to do, in a few words, for lerobot.
    #[arg(long, value_name = "WORDS")]
    task: Option<String>,
}

#[derive(Args)]
struct Evaluate {
    /// Folder of a training on state vectors (its best policy counts, if it has one), or of a policy in it.
    policy: PathBuf,
    /// The task, as Hopper-v5 [default: the one that it was trained on].
    #[arg(long, value_name = "ID")]
    env: Option<String>,
    /// Episodes to go through.
    #[arg(long, default_value_t = 100)]
    episodes: u64,
    /// Steps to go through instead; the episode in which they are reached is gone through to its end.
    #[arg(long, conflicts_with = "episodes")]
    steps: Option<u64>,
    /// Seed of the first episode; the others count on from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Acts as it explores, not as well as it can.
    #[arg(long)]
    stochastic: bool,
    /// Writes the steps as a table (.npz), to be learned from.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Films the first three episodes (.mp4, by ffmpeg).
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Width of the video in pixels.
    #[arg(long, default_value_t = 640, requires = "video")]
    width: u32,
    /// Height of the video in pixels.
    #[arg(long, default_value_t = 480, requires = "video")]
    height: u32,
}

#[derive(Args)]
struct Render {
    /// Folder of a training on state vectors (its best policy counts, if it has one), or of a policy in it [default: the
    /// training in ./ or ./runs, by itself or in a batch, whose policy was written last].
    run: Option<PathBuf>,
    /// Folder for the videos (.mp4, by ffmpeg), which are named by episode and return.
    #[arg(long)]
    out: PathBuf,
    /// The task, as Hopper-v5 [default: the one that it was trained on].
    #[arg(long, value_name = "ID")]
    env: Option<String>,
    /// Episodes to film.
    #[arg(long, default_value_t = 3)]
    episodes: u64,
    /// Seed of the first episode; the others count on from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Width in pixels, an even number.
    #[arg(long, default_value_t = 640)]
    width: u32,
    /// Height in pixels, an even number.
    #[arg(long, default_value_t = 480)]
    height: u32,
    /// Pictures a second, as near as whole steps of the task come; it goes on as fast as in its own time.
    #[arg(long, default_value_t = FRAMES_PER_S)]
    fps: f64,
}

#[derive(Args)]
struct Inspect {
    /// Table of transitions, or a robot's recording, of whatever form.
    data: PathBuf,
    /// Rig of a recording that does not say it itself: the spec.json that lies beside every run.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Writes a page with plots and frames (.html), in which everything is that it shows.
    #[arg(long, value_name = "PAGE")]
    out: Option<PathBuf>,
    /// Prints the figures for programs.
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    fn options(self) -> EvaluateOptions {
        EvaluateOptions {
            policy: self.policy,
            env: self.env,
            length: (self.steps).map_or(Length::Episodes(self.episodes), Length::Steps),
            seed: self.seed,
            stochastic: self.stochastic,
            log: self.log,
            video: self.video.map(|path| Video {
                path,
                size: [self.width, self.height],
            }),
            device: DeviceChoice::Cpu,
        }
    }
}

impl Common {
    fn resolve(&self) -> Result<LearnerConfig> {
        self.resolve_over(None)
    }

    fn rig(&self) -> Result<Option<RigSpec>> {
        (self.spec.as_deref().map(read_spec).transpose()).context("--spec")
    }

    /// As [`Common::resolve`] for a training, which begins where no preset is named with the configuration that it
    /// was resolved to before, if it is resumed, or with that of what it goes on from.
    fn resolve_for(&self, resume: bool, from: Option<&Path>) -> Result<LearnerConfig> {
        let begun = resume && self.out.join(trained::CONFIG_FILE).exists();
        self.resolve_over(if begun { Some(&self.out) } else { from })
    }

    fn resolve_over(&self, trained: Option<&Path>) -> Result<LearnerConfig> {
        let file = match &self.config {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
                Some((name, text))
            }
            None => None,
        };
        let file = file.as_ref().map(|(name, text)| (&**name, &**text));
        let mut config = match (&self.preset, trained) {
            (None, Some(dir)) => {
                let path = dir.join(trained::CONFIG_FILE);
                let name = path.display().to_string();
                let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
                LearnerConfig::resolve_over((&name, &text), file, &self.sets)?
            }
            (preset, _) => {
                let preset = preset.as_deref().unwrap_or(presets::DEFAULT);
                LearnerConfig::resolve(preset, file, &self.sets)?
            }
        };
        if let Some(path) = &self.encoder_weights {
            anyhow::ensure!(
                path.is_file(),
                "--encoder-weights {}: there is no such file",
                path.display()
            );
            config.encoder_weights = Some(path.clone());
        }
        Ok(config)
    }
}

impl Offline {
    fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let config = self.common.resolve_for(self.resume, None)?;
        let rig = self.common.rig()?;
        if self.data.len() > 1 || self.env.len() > 1 || !self.seeds.is_empty() {
            if self.seeds.is_empty() {
                self.seeds.push(self.common.seed);
            }
            let options = BatchOptions {
                data: self.data,
                rig,
                envs: self.env,
                seeds: self.seeds,
                out: self.common.out,
                resume: self.resume,
                config,
            };
            return batch::run(&options, stop);
        }
        let options = OfflineOptions {
            config,
            rig,
            data: self.data.remove(0),
            env: self.env.pop(),
            out: self.common.out,
            seed: self.common.seed,
            resume: self.resume,
        };
        offline::run(&options, stop)
    }
}

impl Hybrid {
    fn task_options(self) -> Result<TaskOptions> {
        let on_task = self.on_task;
        let mut config = (self.common).resolve_for(self.resume, self.from.as_deref())?;
        config.online.steps = on_task.max_steps.unwrap_or(config.online.steps);
        Ok(TaskOptions {
            env: on_task.env.unwrap_or_default(),
            demos: self.demos,
            from: self.from,
            out: self.common.out,
            log: on_task.log,
            seed: self.common.seed,
            resume: self.resume,
            config,
        })
    }
}

fn main() -> Result<()> {
    memory::keep_freed();
    let started = Instant::now();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter())
        .init();
    let stop = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stop);
    hilt_show::on_ctrl_c(move |request| match request {
        Request::InOrder => {
            on_signal.store(true, Ordering::Relaxed);
            eprintln!("ending in order; Ctrl-C again ends at once");
        }
        // The replay and the last checkpoint are on disk anyway.
        Request::AtOnce => hilt_show::exit_at_once(INTERRUPTED),
    })?;
    let result = run(Cli::parse().command, started, &stop);
    if let Err(error) = &result
        && let Some(stopped) = error.downcast_ref::<Stopped>()
    {
        eprintln!("{stopped}");
        std::process::exit(INTERRUPTED);
    }
    result
}

/// Exit status of what Ctrl-C has cut short. A training that Ctrl-C ends has its checkpoint and
/// its export, and ends with 0.
const INTERRUPTED: i32 = 130;

fn run(command: Command, started: Instant, stop: &AtomicBool) -> Result<()> {
    match command {
        Command::Offline(offline) => offline.run(stop),
        Command::Hybrid(hybrid) if hybrid.on_task.env.is_some() => {
            task::run(&hybrid.task_options()?, started, stop)
        }
        Command::Hybrid(hybrid) => {
            let options = HybridOptions {
                config: (hybrid.common).resolve_for(hybrid.resume, hybrid.from.as_deref())?,
                from: hybrid.from,
                rig: hybrid.common.rig()?,
                demos: hybrid.demos.unwrap_or_default(),
                labels: hybrid.labels,
                classifier: hybrid.classifier,
                out: hybrid.common.out,
                listen: hybrid.listen,
                session: hybrid.session,
                seed: hybrid.common.seed,
                max_updates: hybrid.max_updates.unwrap_or(u64::MAX),
                max_seconds: hybrid.max_seconds.unwrap_or(f64::INFINITY),
                resume: hybrid.resume,
            };
            hybrid::run(&options, started, stop)
        }
        Command::Evaluate(evaluate) => evaluation::run(&evaluate.options(), stop).map(|_| ()),
        Command::Convert(convert) => run_convert(convert, stop),
        Command::Render(render) => {
            let options = RenderOptions {
                run: (render.run).map_or_else(|| trainings::newest(Path::new(".")), Ok)?,
                env: render.env,
                out: render.out,
                episodes: render.episodes,
                seed: render.seed,
                size: [render.width, render.height],
                frames_per_s: render.fps,
                device: DeviceChoice::Cpu,
            };
            render::run(&options, stop).map(|_| ())
        }
        Command::Inspect(inspect) => {
            let options = InspectOptions {
                data: inspect.data,
                spec: inspect.spec,
                page: inspect.out,
                json: inspect.json,
            };
            inspection::run(&options, stop)
        }
        Command::Imitation(imitation) => run_imitation(&imitation, stop),
        Command::Classifier(classifier) => {
            let config = classifier.common.resolve()?;
            anyhow::ensure!(
                classifier.common.encoder_weights.is_none()
                    || config.reward.input == RewardInput::Maps,
                "--encoder-weights: with reward.input = \"images\" the classifier looks at images by a trunk of its \
                 own; leave it out, or give --set reward.input=maps"
            );
            let options = ClassifierOptions {
                config,
                rig: classifier.common.rig()?,
                success_dir: classifier.success_dir,
                failure_dir: classifier.failure_dir,
                image_keys: classifier.image_keys,
                runs: classifier.runs,
                out: classifier.common.out,
                seed: classifier.common.seed,
            };
            command::run(&options, stop)
        }
    }
}

fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("warn,hilt_learner=info,zenoh=error")
    })
}

fn run_convert(options: Convert, stop: &AtomicBool) -> Result<()> {
    let conversion = Conversion {
        from: options.from,
        to: options.to,
        format: options.format,
        spec: options.spec,
        image_side: options.image_size,
        task: options.task,
    };
    let mut show = hilt_show::Show::new("convert", None);
    let done = conversion.run(|count| {
        show.stand(count, || format!("{count} observations"));
        !stop.load(Ordering::Relaxed)
    });
    show.end();
    if done.is_err() {
        Stopped::check(stop, "all of it was converted")?;
    }
    println!("{}", done?);
    Ok(())
}

fn run_imitation(options: &Imitation, stop: &AtomicBool) -> Result<()> {
    let mut config = options.common.resolve()?;
    config.imitation.steps = options.steps.unwrap_or(config.imitation.steps);
    let summary_file = options.common.out.join("summary.json");
    anyhow::ensure!(
        !summary_file.exists(),
        "--out {} holds the results of a training; choose another folder",
        options.common.out.display()
    );
    let (spec, entries) = read_demonstrations(&options.demos, options.common.rig()?.as_ref())?;
    config.encoder.check(&spec.cameras)?;
    let samples = Demonstrations::from_entries(&entries, &spec);
    println!(
        "imitation: {} samples, {} steps",
        samples.len(),
        config.imitation.steps
    );
    tch::set_num_threads(std::thread::available_parallelism().map_or(1, usize::from) as i32);
    let go_on = |_, _| !stop.load(Ordering::Relaxed);
    let device = config.device.resolve()?;
    let given = config.given_encoder(device, options.common.seed)?;
    let setup = Setup {
        trunk: (given.as_ref()).map_or(Trunk::Fresh(&config.encoder), Trunk::Frozen),
        heads: &config.sac_grasp,
        config: &config.imitation,
        device,
        seed: options.common.seed,
    };
    let mut show = Phase::new("imitation", config.imitation.steps);
    let out = imitate(&samples, &spec, setup, |steps, loss| {
        show.stand(steps, loss);
        go_on(steps, loss)
    })?;
    show.end();
    Stopped::check(stop, "imitation was over")?;
    println!("imitation: {} steps, loss {:.4}", out.steps, out.loss);
    export::write_folder(
        &options.common.out.join("export"),
        &spec,
        &out.encoder,
        &out.policy,
        None,
    )?;
    let summary = serde_json::json!({ "steps": out.steps, "loss": out.loss });
    Ok(write_atomically(
        &summary_file,
        &serde_json::to_vec_pretty(&summary)?,
    )?)
}
