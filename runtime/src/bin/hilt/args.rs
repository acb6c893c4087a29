//! What may be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use hilt_recording::convert::Format;
use hilt_runtime::rerun::Target;

use crate::{calibrate::args::Calibrate, rig_args::RigArgs};

/// Reinforcement learning on a real robot arm: the robot's side.
#[derive(Parser)]
#[command(name = "hilt", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
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
    /// List the serial ports, and the servos that answer there: ids, models, firmware.
    FindPort {
        /// This port alone; all at USB if not given.
        #[arg(long, value_name = "PATH")]
        port: Option<PathBuf>,
        /// Ask at this rate, bits per second; may be given more than once. The usual ones if not given.
        #[arg(long = "baud", value_name = "RATE")]
        bauds: Vec<u32>,
        /// Ask no id above this one, to be done sooner.
        #[arg(long, value_name = "ID")]
        last_id: Option<u8>,
    },
    /// List the cameras, with the formats, sizes and rates that they offer, and what a person may hold.
    FindCameras,
    /// Give servos their ids and rate, one alone on the bus at a time: those of a rig's arm one after
    /// the other, or a single one.
    SetupMotors {
        /// The rig whose arm it is.
        #[arg(
            long,
            value_name = "FILE",
            conflicts_with = "port",
            required_unless_present = "port"
        )]
        rig: Option<PathBuf>,
        /// Overrides a value of the rig, as `key.subkey=value`; may be given more than once.
        #[arg(long = "set", value_name = "KEY=VALUE", requires = "rig")]
        set: Vec<String>,
        /// Number of the arm, from 0.
        #[arg(long, default_value_t = 0)]
        arm: usize,
        /// The leader of that number, not the arm.
        #[arg(long, requires = "rig")]
        leader: bool,
        /// A single servo: its bus's port …
        #[arg(long, value_name = "PATH", requires_all = ["family", "id"])]
        port: Option<PathBuf>,
        /// … what it is …
        #[arg(long, value_enum)]
        family: Option<ServoFamily>,
        /// … the id that it gets …
        #[arg(long)]
        id: Option<u8>,
        /// … and its rate, bits per second.
        #[arg(long, default_value_t = 1_000_000)]
        baud: u32,
    },
    /// Measure what has to be known of the rig, once: joints, cameras, where they stand, how late they are.
    Calibrate {
        #[command(subcommand)]
        what: Calibrate,
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
        /// Show everything that is tried in a Rerun viewer, or put it in a file for one.
        #[arg(long, value_name = "HOST:PORT|FILE.rrd", num_args = 0..=1, default_missing_value = "")]
        rerun: Option<Target>,
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
        /// Show the run in a Rerun viewer as it goes, or put it in a file for one.
        #[arg(long, value_name = "HOST:PORT|FILE.rrd", num_args = 0..=1, default_missing_value = "")]
        rerun: Option<Target>,
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
    /// Write a run, or a folder of runs, in the form of another program.
    Export {
        /// The run's folder, or a folder of runs.
        #[arg(value_name = "RUN-DIR")]
        from: PathBuf,
        /// What comes out; nothing may be there yet.
        out: PathBuf,
        /// The form of what comes out: runs, lerobot, hil-serl, npz, hdf5 or foxglove; by the ending if not given.
        #[arg(long, value_name = "FORM")]
        to: Option<Format>,
        /// Make images so many pixels wide and high.
        #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=4096))]
        image_size: Option<u32>,
        /// What the robot was to do, in a few words, for lerobot.
        #[arg(long, value_name = "WORDS")]
        task: Option<String>,
    },
    /// Show what was recorded in a Rerun viewer: cameras, states, actions, rewards, interventions, timing.
    View {
        /// A run, a folder of runs, a dataset of LeRobot's, HIL-SERL's transitions, or a table (.npz).
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// The rig of data that does not say it itself.
        #[arg(long, value_name = "spec.json")]
        spec: Option<PathBuf>,
        /// Write a file for the viewer instead; nothing may be there yet.
        #[arg(long, value_name = "FILE.rrd", conflicts_with = "connect")]
        save: Option<PathBuf>,
        /// Where the viewer listens; here if not given, and it is started if it does not run.
        #[arg(long, value_name = "HOST:PORT")]
        connect: Option<String>,
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

#[derive(Clone, Copy, ValueEnum)]
pub enum ServoFamily {
    /// Feetech STS3215 and its like: SO-100, SO-101.
    Sts3215,
    /// Dynamixel X: Koch, ALOHA, ViperX, WidowX.
    DynamixelX,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Who {
    /// The scripted operator, which stands in for a person.
    Scripted,
    /// A person at this keyboard.
    Keyboard,
    /// A person with the device that the rig's file names.
    Teleop,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Helper {
    /// The scripted operator, which stands in for a person.
    Scripted,
    /// A person at this keyboard.
    Keyboard,
    /// A person with the device that the rig's file names.
    Teleop,
    /// Nobody.
    None,
}
