//! `hilt-learner`: the process that learns.
//!
//! - [`args`]: what may be typed.

mod args;

use std::{
    fs,
    io::IsTerminal,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use hilt_learner::{
    config::{DeviceChoice, LearnerConfig},
    dataset::{Demonstrations, each_demonstration, open_recording},
    evaluation::{
        command::{self as evaluation, EvaluateOptions, Length, Video},
        render::{self, RenderOptions},
    },
    export,
    frames::Frames,
    generative::command::{self as generation, GenerateOptions},
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
};
use hilt_protocol::RigSpec;
use hilt_recording::{convert::Conversion, read_spec};
use hilt_show::Request;

use args::{Cli, Command, Common, Convert, Evaluate, Generate, Hybrid, Imitation, Offline};

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

impl Generate {
    fn run(self, stop: &AtomicBool) -> Result<()> {
        let options = GenerateOptions {
            rig: self.common.rig()?,
            data: self.data,
            run: self.run,
            out: self.common.out.clone(),
            seed: self.common.seed,
        };
        let configure = |preset: &'static str| {
            let mut common = self.common.clone();
            if options.run.is_none() {
                common.preset.get_or_insert_with(|| preset.to_owned());
            }
            common.resolve_over(options.run.as_deref())
        };
        generation::run(&options, &configure, stop)
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
        Command::Generate(generate) => generate.run(stop),
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
    let until = (stop, "imitation was over");
    let demos = open_recording(&options.demos, options.common.rig()?.as_ref(), until)?;
    let spec = demos.spec().clone();
    config.encoder.check(&spec.cameras)?;
    let out = &options.common.out;
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let mut samples = Demonstrations::of(&spec);
    let mut frames = Frames::begin(out, &spec.cameras)?;
    let read = each_demonstration(&demos, until, |entry| {
        if let Some(seen) = samples.take(entry) {
            frames.push(&seen.images)?;
        }
        Ok(())
    });
    read.with_context(|| format!("--demos {}", options.demos.display()))?;
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
    let out = imitate((&samples, &frames), &spec, setup, |steps, loss| {
        show.stand(steps, loss);
        go_on(steps, loss)
    })?;
    show.end();
    Stopped::check(until.0, until.1)?;
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
