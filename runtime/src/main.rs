//! `hilt`: the robot process.

use std::{
    cell::{Cell, RefCell},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use hilt_drivers::SavedTerminal;
use hilt_protocol::Image;
use hilt_runtime::{
    actor::{self, ActorOptions, Standing, Watch},
    books::RunBooks,
    cell::{Cell as Devices, realtime::keep_core},
    doctor::{self, Level, Needs},
    evaluate::{self, EvaluateOptions},
    inference::Engine,
    operator::{self, Operator},
    pace::Pace,
    picture,
    record::{self, RecordOptions},
    replay::{self, Episode, Stood},
    rig::Rig,
    supervisor,
    teleoperate::{self, View},
    top,
    verify::{self, Recheck},
    view,
};
use hilt_show::{Request, Show};
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
    /// Look at this machine: whether it can run a rig, and what to do where it cannot.
    Doctor {
        /// The rig's file; the machine alone is looked at without one.
        #[arg(long, value_name = "FILE")]
        rig: Option<PathBuf>,
        /// Overrides a value of the rig, as `key.subkey=value`; may be given more than once.
        #[arg(long = "set", value_name = "KEY=VALUE", requires = "rig")]
        set: Vec<String>,
        /// Ask the rig's arms and cameras too. The arms move.
        #[arg(long, requires = "rig")]
        hardware: bool,
        /// Do not ask whether the arms may move.
        #[arg(long, requires = "hardware")]
        yes: bool,
    },
    /// Drive the rig by hand, with the device that its file names or this keyboard; nothing is recorded.
    Teleoperate {
        #[command(flatten)]
        rig: RigArgs,
        /// Starts are drawn from this.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Drive the rig through a recorded episode: the same actions, and nobody who corrects them.
    Replay {
        /// The run's folder.
        #[arg(value_name = "RUN-DIR")]
        dir: PathBuf,
        /// Number of the episode; the run's first if not given.
        #[arg(long)]
        episode: Option<u64>,
        #[command(flatten)]
        rig: RigArgs,
    },
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
    /// Recompute a run from its log, bit for bit. Exit status: 0 identical, 1 divergent, 2 incomplete
    /// or not to be read.
    Verify {
        /// The run's folder.
        #[arg(value_name = "RUN-DIR")]
        dir: PathBuf,
    },
    /// Show how a run stands, live: its ticks, stages, inputs, policy and learner.
    Top {
        /// The run's folder; the newest one here or in ./runs if not given.
        #[arg(value_name = "RUN-DIR")]
        dir: Option<PathBuf>,
        /// Print it once, as plain text; so it is also done where there is no terminal.
        #[arg(long)]
        once: bool,
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
        let rig = Rig::read(&self.rig, &self.set)?;
        keep_core(&rig);
        Ok(Rig {
            // This very program, also when its file has been replaced since.
            supervisor: Some("/proc/self/exe".into()),
            ..rig
        })
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// The scripted operator, which stands in for a person.
    Scripted,
    /// A person at this keyboard.
    Keyboard,
    /// A person with the device that the rig's file names.
    Teleop,
}

#[derive(Clone, Copy, ValueEnum)]
enum Helper {
    /// The scripted operator, which stands in for a person.
    Scripted,
    /// A person at this keyboard.
    Keyboard,
    /// A person with the device that the rig's file names.
    Teleop,
    /// Nobody.
    None,
}

fn main() -> anyhow::Result<()> {
    // Started by a robot process, not typed by anybody: it must not open, load or catch anything.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == supervisor::COMMAND)
    {
        supervisor::run();
    }
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,zenoh=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let terminal = SavedTerminal::of_stdin().ok();
    hilt_show::on_ctrl_c(move |request| match request {
        Request::InOrder => {
            flag.store(true, Ordering::Relaxed);
            eprintln!("ending in order; Ctrl-C again ends at once");
        }
        // The log holds everything up to the last step anyway.
        Request::AtOnce => {
            let _ = terminal.as_ref().map(SavedTerminal::restore);
            hilt_show::exit_at_once(INTERRUPTED);
        }
    })
    .context("cannot catch Ctrl-C")?;
    let result = run(Cli::parse().command, &stop);
    if let Err(error) = &result
        && stop.load(Ordering::Relaxed)
    {
        eprintln!("{error:#}");
        std::process::exit(INTERRUPTED);
    }
    result
}

/// Exit status of what Ctrl-C has cut short. An actor that Ctrl-C ends has done what there was to
/// do, and ends with 0.
const INTERRUPTED: i32 = 130;

fn run(command: Command, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    match command {
        Command::Doctor {
            rig,
            set,
            hardware,
            yes,
        } => {
            let rig = rig.map(|file| Rig::read(&file, &set)).transpose()?;
            doctor(&rig.as_ref().map_or_else(Needs::default, Needs::of))?;
            match rig.filter(|_| hardware) {
                Some(rig) => examine_hardware(&rig, yes),
                None => Ok(()),
            }
        }
        Command::Teleoperate { rig, seed } => teleoperate(&rig.read()?, seed, stop),
        Command::Replay { dir, episode, rig } => {
            replay(&rig.read()?, &Episode::read(&dir, episode)?, stop)
        }
        Command::Record {
            rig,
            episodes,
            operator,
            seed,
            out,
        } => {
            let demonstrator = match operator {
                Who::Scripted => Operator::Scripted,
                Who::Keyboard => Operator::Keyboard,
                Who::Teleop => Operator::Teleop,
            };
            record(
                &rig.read()?,
                &RecordOptions {
                    episodes,
                    demonstrator,
                    seed,
                    out,
                },
                stop,
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
                Helper::Scripted => Some(Operator::Scripted),
                Helper::Keyboard => Some(Operator::Keyboard),
                Helper::Teleop => Some(Operator::Teleop),
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
                stop,
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
                stop,
            )
        }
        Command::Verify { dir } => verify(&dir),
        Command::Top { dir, once } => {
            let dir = top::find(dir.as_deref())?;
            match once || !std::io::stdout().is_terminal() {
                true => print!("{}", top::once(&dir)?),
                false => top::watch(&dir, stop)?,
            }
            Ok(())
        }
    }
}

fn doctor(needs: &Needs) -> anyhow::Result<()> {
    let folder = std::env::current_dir().context("the working folder cannot be found")?;
    let (facts, lateness) = doctor::examine(&folder, needs)?;
    let findings = doctor::findings(&facts, needs);
    print!(
        "{}",
        doctor::report(&findings, std::io::stdout().is_terminal())
    );
    println!("\na thread with what is granted above wakes late by {lateness}");
    if findings.iter().any(|finding| finding.level == Level::Mend) {
        bail!("the rig does not run before what is marked MEND is done");
    }
    Ok(())
}

fn examine_hardware(rig: &Rig, yes: bool) -> anyhow::Result<()> {
    println!("\n{}", doctor::WARNING);
    if !yes && !agreed("type yes to go on: ")? {
        bail!("the arms were left alone");
    }
    let findings = doctor::hardware(rig)?;
    print!(
        "{}",
        doctor::report(&findings, std::io::stdout().is_terminal())
    );
    if findings.iter().any(|finding| finding.level == Level::Mend) {
        bail!("a device does not do what it must");
    }
    Ok(())
}

/// Asks whoever started this program.
fn agreed(question: &str) -> std::io::Result<bool> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Ends the program with the verdict as its status.
fn verify(dir: &Path) -> ! {
    let status = match verify::verify(dir) {
        Ok(verdict) => {
            print!("{verdict}");
            match verify_inference(dir) {
                Ok(recheck) => {
                    print!("{recheck}");
                    if recheck.off > 0 { 1 } else { verdict.status() }
                }
                Err(error) => {
                    println!("inference was not rechecked: {error}");
                    verdict.status()
                }
            }
        }
        Err(error) => {
            eprintln!("{error}");
            2
        }
    };
    std::process::exit(status)
}

fn verify_inference(dir: &Path) -> anyhow::Result<Recheck> {
    let rig = Rig::read(&dir.join("rig.toml"), &[])?;
    let engine = Engine::open(&rig.providers, rig.inference_threads)?;
    Ok(verify::recheck(dir, &engine)?)
}

/// Opens the rig for what is not recorded, shows how it goes, and gives the accounts at the end.
fn drive<T>(
    rig: &Rig,
    name: &'static str,
    length: Option<u64>,
    go: impl FnOnce(&mut Devices, &mut Show) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut cell = Devices::open(rig)?;
    let books = RunBooks::unrecorded(rig, name, &mut cell)?;
    let mut show = Show::new(name, length);
    let gone = go(&mut cell, &mut show)?;
    show.end();
    let last = cell.end();
    let books = books.finish(last)?;
    if last.is_some() {
        println!("{}", view::report_text(&books));
    }
    Ok(gone)
}

fn teleoperate(rig: &Rig, seed: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let steps = drive(rig, "teleoperate", None, |cell, show| {
        let (mut teleop, help) = operator::hands(operator::person(rig), rig, false)?;
        show.say(&help);
        let mut pace = Pace::of(rig, true);
        let see = |view: &View| {
            show.stand(view.steps, || {
                format!("{}\n{}", view.words(), picture(&view.images))
            });
        };
        let steps = teleoperate::teleoperate(rig, cell, &mut *teleop, &mut pace, seed, stop, see)?;
        Ok(steps)
    })?;
    println!("{steps} steps driven");
    Ok(())
}

fn replay(rig: &Rig, episode: &Episode, stop: &AtomicBool) -> anyhow::Result<()> {
    let length = episode.steps() as u64;
    let replayed = drive(rig, "replay", Some(length), |cell, show| {
        let mut pace = Pace::of(rig, true);
        let see = |stood: &Stood| show.stand(stood.step as u64, || picture(&stood.images));
        Ok(replay::replay(rig, cell, episode, &mut pace, stop, see)?)
    })?;
    println!(
        "{} of {} steps driven; the tool was {:.1} mm from where it had been on average, {:.1} mm at most",
        replayed.steps,
        replayed.of,
        1e3 * replayed.mean_off_m,
        1e3 * replayed.most_off_m
    );
    if replayed.steps < replayed.of {
        bail!("stopped before the episode's end");
    }
    Ok(())
}

fn record(rig: &Rig, options: &RecordOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    if options.demonstrator == Operator::Scripted {
        println!("a scripted operator demonstrates; it stands in for a person");
    }
    let length = Some(u64::from(options.episodes));
    let show = RefCell::new(Show::new("demonstrations", length));
    let kept = Cell::new(0);
    let say = |so_far, words: &str| {
        kept.set(u64::from(so_far));
        if options.demonstrator.is_person() {
            show.borrow().say(words);
        }
        show.borrow_mut().stand(kept.get(), || words.to_owned());
    };
    let see = |images: &[Image]| {
        let picture = || format!("\n{}", picture(images));
        show.borrow_mut().stand(kept.get(), picture);
    };
    let summary = record::record(rig, options, stop, say, see)?;
    show.into_inner().end();
    println!(
        "{} demonstrations of {} tried, {:.1} s each on average; labelled frames: {} success, {} not",
        summary.episodes,
        summary.attempts,
        summary.mean_time_to_success_s,
        summary.labelled_success,
        summary.labelled_failure
    );
    if stop.load(Ordering::Relaxed) {
        bail!("stopped before the recording was complete; what there is can be used");
    }
    Ok(())
}

fn engine(rig: &Rig) -> anyhow::Result<Engine> {
    let engine = Engine::open(&rig.providers, rig.inference_threads)?;
    println!("the networks run on {}", engine.provider().name());
    Ok(engine)
}

/// What the cameras see, as large as the terminal has room for below a few lines.
fn picture(images: &[Image]) -> String {
    const LINES: u16 = 8;
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) => {
            let rows = size.ws_row.saturating_sub(LINES);
            picture::draw(images, usize::from(size.ws_col), usize::from(rows))
        }
        Err(_) => String::new(),
    }
}

struct Screen {
    show: Show,
    /// What a person sees.
    images: Vec<Image>,
}

impl Watch for Screen {
    fn say(&mut self, words: &str) {
        self.show.say(words);
    }

    fn stand(&mut self, standing: &Standing) {
        let images = &self.images;
        self.show.stand(standing.env_steps, || {
            let (steps, words) = (standing.env_steps, standing.words());
            match images.is_empty() {
                true => format!("{steps} steps, {words}"),
                false => format!("{steps} steps, {words}\n{}", picture(images)),
            }
        });
    }

    fn see(&mut self, images: &[Image]) {
        self.images = images.to_vec();
    }
}

fn act(rig: &Rig, options: &ActorOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    if options.operator == Some(Operator::Scripted) {
        println!(
            "a scripted operator takes over when the policy is stuck; it stands in for a person"
        );
    }
    let engine = engine(rig)?;
    let mut screen = Screen {
        show: Show::new("actor", None),
        images: Vec::new(),
    };
    let summary = actor::run(rig, &engine, options, stop, &mut screen)?;
    screen.show.end();
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
    let engine = engine(rig)?;
    let show = Mutex::new(Show::new("evaluation", Some(u64::from(options.episodes))));
    let began = Instant::now();
    let summary = evaluate::evaluate(rig, &engine, options, stop, |so_far| {
        let mut show = show.lock().unwrap_or_else(PoisonError::into_inner);
        show.stand(u64::from(so_far.episodes), || so_far.words(began.elapsed()));
    })?;
    show.into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .end();
    let time = summary
        .mean_time_to_success_s
        .map_or("–".to_owned(), |s| format!("{s:.1} s"));
    println!(
        "success {:.1} % of {} episodes (95 % lower bound {:.1} %), mean time to success {time}",
        summary.success_rate * 100.0,
        summary.episodes,
        summary.success_lower95 * 100.0
    );
    if summary.episodes < options.episodes {
        bail!("stopped before all {} episodes", options.episodes);
    }
    Ok(())
}
