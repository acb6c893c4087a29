//! `hilt`: the robot process.
//!
//! - [`args`]: what may be typed.
//! - [`runs`]: commands that run a rig.
//! - [`devices`]: commands for whoever puts a robot together.
//! - [`machine`]: commands that look at machine and devices, or at what a run left.

mod args;
mod calibrate;
mod devices;
mod machine;
mod rig_args;
mod runs;

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use clap::Parser;
use hilt_drivers::{
    SavedTerminal,
    bus::{Family, Settings},
};
use hilt_recording::convert::Conversion;
use hilt_runtime::{
    actor::ActorOptions,
    doctor::Needs,
    evaluate::EvaluateOptions,
    operator::Operator,
    record::RecordOptions,
    replay::Episode,
    rerun::Target,
    rig::{Rig, Take},
    supervisor, top,
};
use hilt_show::Request;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command, Helper, ServoFamily, Who};

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
            machine::doctor(&rig.as_ref().map_or_else(Needs::default, Needs::of))?;
            match rig.filter(|_| hardware) {
                Some(rig) => machine::examine_hardware(&rig, yes),
                None => Ok(()),
            }
        }
        Command::FindPort {
            port,
            bauds,
            last_id,
        } => devices::find_port(port, bauds, last_id),
        Command::FindCameras => devices::find_cameras(),
        Command::SetupMotors {
            rig,
            set,
            arm,
            leader,
            port,
            family,
            id,
            baud,
        } => match (rig, port, family, id) {
            (_, Some(port), Some(family), Some(id)) => {
                let family = match family {
                    ServoFamily::Sts3215 => Family::Sts3215,
                    ServoFamily::DynamixelX => Family::DynamixelX,
                };
                devices::set_up_motor(&port, family, Settings { id, baud })
            }
            (Some(rig), ..) => {
                devices::set_up_arm(&Rig::read_taking(&rig, &set, Take::Nothing)?, arm, leader)
            }
            _ => bail!("name a rig with --rig, or a servo with --port, --family and --id"),
        },
        Command::Calibrate { what } => calibrate::calibrate(what, stop),
        Command::Teleoperate { rig, seed } => runs::teleoperate(&rig.read()?, seed, stop),
        Command::Replay { dir, episode, rig } => {
            runs::replay(&rig.read()?, &Episode::read(&dir, episode)?, stop)
        }
        Command::Record {
            rig,
            episodes,
            operator,
            seed,
            out,
            rerun,
        } => {
            let demonstrator = match operator {
                Who::Scripted => Operator::Scripted,
                Who::Keyboard => Operator::Keyboard,
                Who::Teleop => Operator::Teleop,
            };
            runs::record(
                &rig.read()?,
                &RecordOptions {
                    episodes,
                    demonstrator,
                    seed,
                    out,
                    rerun,
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
            rerun,
        } => {
            let operator = match operator {
                Helper::Scripted => Some(Operator::Scripted),
                Helper::Keyboard => Some(Operator::Keyboard),
                Helper::Teleop => Some(Operator::Teleop),
                Helper::None => None,
            };
            runs::act(
                &rig.read()?,
                &ActorOptions {
                    connect,
                    session,
                    seed,
                    out,
                    operator,
                    rerun,
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
            runs::evaluate(
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
        Command::Verify { dir } => machine::verify(&dir),
        Command::Export {
            from,
            out,
            to,
            image_size,
            task,
        } => {
            let conversion = Conversion {
                from,
                to: out,
                format: to,
                spec: None,
                image_side: image_size,
                task,
            };
            machine::export(&conversion, stop)
        }
        Command::View {
            data,
            spec,
            save,
            connect,
        } => {
            let target = match save {
                Some(file) => Target::File(file),
                None => Target::Viewer(connect),
            };
            machine::view(&data, spec.as_deref(), &target, stop)
        }
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
