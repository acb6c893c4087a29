//! `hilt`: the robot process.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hilt_runtime::{
    actor::{self, ActorOptions, Standing, Watch},
    evaluate::{self, EvaluateOptions},
    record::{self, Demonstrator, RecordOptions},
    rig::Rig,
};
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

/// Reinforcement learning on a real robot arm: the robot's side.
#[derive(Parser)]
#[command(name = "hilt", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Record demonstrations, and labelled frames for the reward classifier.
    Record {
        #[command(flatten)]
        rig: RigArgs,
        /// Successful demonstrations wanted.
        #[arg(long, default_value_t = 20)]
        episodes: u32,
        /// Who demonstrates.
        #[arg(long, value_enum, default_value_t = Who::Scripted)]
        operator: Who,
        /// Everything random is drawn from this.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Folder of the recording; labelled frames go to the folder beside it, DIR-labels.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Run episodes for a learner: its policy acts, the operator takes over when it is stuck.
    Actor {
        #[command(flatten)]
        rig: RigArgs,
        /// Where the learner listens; may be given more than once.
        #[arg(long, value_name = "ENDPOINT", default_value = "tcp/127.0.0.1:7447")]
        connect: Vec<String>,
        /// The name that actor and learner share.
        #[arg(long, default_value = "default")]
        session: String,
        /// Who takes over.
        #[arg(long, value_enum, default_value_t = Helper::Scripted)]
        operator: Helper,
        /// Everything random is drawn from this.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Folder of the run's log and results.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Evaluate an exported policy: greedy, nobody takes over, judged by the simulator's truth.
    Evaluate {
        #[command(flatten)]
        rig: RigArgs,
        /// Folder with encoder.onnx and policy.onnx; the rig's `model` if not given.
        #[arg(long, value_name = "DIR")]
        policy: Option<PathBuf>,
        /// Episodes.
        #[arg(long, default_value_t = 200)]
        episodes: u32,
        /// Starts are drawn from this.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Folder of the results.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Threads, each with a simulation of its own; as many as there are cores if not given.
        #[arg(long)]
        workers: Option<usize>,
    },
}

#[derive(Args)]
struct RigArgs {
    /// The rig's file.
    #[arg(long, value_name = "FILE", default_value = "rigs/lift-sim.toml")]
    rig: PathBuf,
    /// Overrides a value of the rig, as `key.subkey=value`; may be given more than once.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RigArgs {
    fn read(&self) -> anyhow::Result<Rig> {
        Ok(Rig::read(&self.rig, &self.set)?)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// The scripted operator, which stands in for a person.
    Scripted,
    /// A person at this keyboard.
    Keyboard,
}

#[derive(Clone, Copy, ValueEnum)]
enum Helper {
    /// The scripted operator, which stands in for a person.
    Scripted,
    /// A person at this keyboard.
    Keyboard,
    /// Nobody.
    None,
}

fn main() -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,zenoh=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            // Asked twice: the log holds everything up to the last step anyway.
            std::process::exit(130);
        }
    })
    .context("cannot catch Ctrl-C")?;
    match Cli::parse().command {
        Command::Record {
            rig,
            episodes,
            operator,
            seed,
            out,
        } => {
            let demonstrator = match operator {
                Who::Scripted => Demonstrator::Scripted,
                Who::Keyboard => Demonstrator::Keyboard,
            };
            record(
                &rig.read()?,
                &RecordOptions {
                    episodes,
                    demonstrator,
                    seed,
                    out,
                },
                &stop,
            )
        }
        Command::Actor {
            rig,
            connect,
            session,
            operator,
            seed,
            out,
        } => {
            let operator = match operator {
                Helper::Scripted => Some(Demonstrator::Scripted),
                Helper::Keyboard => Some(Demonstrator::Keyboard),
                Helper::None => None,
            };
            act(
                &rig.read()?,
                &ActorOptions {
                    connect,
                    session,
                    seed,
                    out,
                    operator,
                },
                &stop,
            )
        }
        Command::Evaluate {
            rig,
            policy,
            episodes,
            seed,
            out,
            workers,
        } => {
            let rig = rig.read()?;
            let policy = policy
                .or_else(|| rig.model.clone())
                .context("no policy: give --policy DIR, or `model` in the rig's file")?;
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let workers = workers.unwrap_or(cores);
            evaluate(
                &rig,
                &EvaluateOptions {
                    policy,
                    episodes,
                    seed,
                    out,
                    workers,
                },
                &stop,
            )
        }
    }
}

fn bar(length: u64, template: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(template)?.progress_chars("█▉ ");
    Ok(ProgressBar::new(length).with_style(style))
}

/// Above the bar, or alone where there is no terminal to draw one on.
fn tell(bar: &ProgressBar, words: &str) {
    if bar.is_hidden() {
        println!("{words}");
    } else {
        bar.println(words);
    }
}

fn record(rig: &Rig, options: &RecordOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    if options.demonstrator == Demonstrator::Scripted {
        println!("a scripted operator demonstrates; it stands in for a person");
    }
    let bar = bar(
        u64::from(options.episodes),
        "demonstrations {bar:30} {pos}/{len} {msg}",
    )?;
    let summary = record::record(rig, options, stop, |kept, words| {
        bar.set_position(u64::from(kept));
        bar.set_message(words.to_owned());
    })?;
    bar.finish_and_clear();
    println!(
        "{} demonstrations of {} tried, {:.1} s each on average; labelled frames: {} success, {} not",
        summary.episodes,
        summary.attempts,
        summary.mean_time_to_success_s,
        summary.labelled_success,
        summary.labelled_failure
    );
    Ok(())
}

struct Screen(ProgressBar);

impl Watch for Screen {
    fn say(&mut self, words: &str) {
        tell(&self.0, words);
    }

    fn stand(&mut self, s: &Standing) {
        self.0.set_length(s.allowed_steps.max(s.env_steps));
        self.0.set_position(s.env_steps);
        let percent = |share: Option<f64>| match share {
            Some(share) => format!("{:.0} %", share * 100.0),
            None => "–".to_owned(),
        };
        self.0.set_message(format!(
            "episode {}, last 20: success {}, interventions {}; {:.1} steps/s, {} updates",
            s.episodes,
            percent(s.success_last),
            percent(s.intervention_last),
            s.steps_per_s,
            s.updates
        ));
    }
}

fn act(rig: &Rig, options: &ActorOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    if options.operator == Some(Demonstrator::Scripted) {
        println!(
            "a scripted operator takes over when the policy is stuck; it stands in for a person"
        );
    }
    let mut screen = Screen(bar(0, "steps {pos} {msg}")?);
    let summary = actor::run(rig, options, stop, &mut screen)?;
    screen.0.finish_and_clear();
    println!(
        "{} episodes, {} steps in {:.0} s ({:.0} s of them waiting for the learner); log and results in {}",
        summary.episodes,
        summary.env_steps,
        summary.wall_s,
        summary.waited_s,
        options.out.display()
    );
    Ok(())
}

fn evaluate(rig: &Rig, options: &EvaluateOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    let bar = bar(
        u64::from(options.episodes),
        "evaluation {bar:30} {pos}/{len} {msg}",
    )?;
    let summary = evaluate::evaluate(rig, options, stop, |finished, good| {
        bar.set_position(u64::from(finished));
        bar.set_message(format!("{good} lifted"));
    })?;
    bar.finish_and_clear();
    let time = summary
        .mean_time_to_success_s
        .map_or("–".to_owned(), |s| format!("{s:.1} s"));
    println!(
        "success {:.1} % of {} episodes (95 % lower bound {:.1} %), mean time to success {time}",
        summary.success_rate * 100.0,
        summary.episodes,
        summary.success_lower95 * 100.0
    );
    Ok(())
}
