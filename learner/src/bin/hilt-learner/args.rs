//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hilt_learner::video::FRAMES_PER_S;
use hilt_recording::convert::Format;

#[derive(Parser)]
#[command(
    name = "hilt-learner",
    version,
    about = "Learns robot policies from demonstrations and the robot's stream"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
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
    /// Generates more of data, or takes what a training generated, and shows it beside what is real. Where --preset is
    /// not given, it is pgr-cpu for tables, and lift for what a robot saw.
    Generate(Generate),
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

#[derive(Args, Clone)]
pub struct Common {
    /// Folder for what comes out.
    #[arg(long)]
    pub out: PathBuf,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the configuration begins [default: lift; a training that is resumed: what it was]. With a robot lift, hil-serl or pytorch-serl; for data at hand
    /// and for tasks bc, td3-bc, iql, iql-antmaze, awac, cql, cql-antmaze, cal-ql, sac, redq, rlpd, pgr, pgr-guide or pgr-cpu.
    #[arg(long)]
    pub preset: Option<String>,
    /// Configuration file, over the preset.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Weights of the encoder, which is then not trained: HIL-SERL's resnet10_params.pkl, or a
    /// .safetensors file.
    #[arg(long, value_name = "FILE")]
    pub encoder_weights: Option<PathBuf>,
    /// The rig of data of other programs, which do not say it: the spec.json beside any run of its [default: guessed
    /// from the width of its actions].
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Changes one key of the configuration, as `train.batch=128`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

#[derive(Args)]
pub struct Offline {
    /// Table of transitions on state vectors (.npz, .hdf5 or .h5, with the names of D4RL), a folder of a robot's runs,
    /// or data of another program. Given more than once, or with --seeds, a batch: each with each seed, in
    /// OUT/NAME/seed-SEED, and in OUT a summary.
    #[arg(long, value_name = "PATH", required = true)]
    pub data: Vec<PathBuf>,
    /// Seeds of a batch, as 1,2,3.
    #[arg(long, value_delimiter = ',', conflicts_with = "seed")]
    pub seeds: Vec<u64>,
    #[command(flatten)]
    pub common: Common,
    /// Task that the policy is judged in, by its name in Gymnasium [default: held-out data judges it]. Of a batch: once
    /// for all, or once for each --data.
    #[arg(long, value_name = "ID")]
    pub env: Vec<String>,
    /// Goes on from the checkpoint in --out.
    #[arg(long)]
    pub resume: bool,
}

#[derive(Args)]
pub struct Hybrid {
    /// Demonstrations: a folder of runs, or data of another program; with --env a table of recorded steps.
    #[arg(long, required_unless_present = "env")]
    pub demos: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
    /// Folder of runs with labelled frames [default: the demonstrations' folder with `-labels`].
    #[arg(long, conflicts_with = "env")]
    pub labels: Option<PathBuf>,
    /// Starts from this classifier, a folder of `hilt-learner classifier`, instead of training one.
    /// Labelled frames, which it can do without, go beside a person's corrections.
    #[arg(long, value_name = "DIR", conflicts_with = "env")]
    pub classifier: Option<PathBuf>,
    /// Endpoint to listen on.
    #[arg(long, default_value = "tcp/127.0.0.1:7447", conflicts_with = "env")]
    pub listen: Vec<String>,
    /// Name shared with the actor.
    #[arg(long, default_value = "default", conflicts_with = "env")]
    pub session: String,
    /// Ends after so many updates; without this and --max-seconds it goes on until Ctrl-C.
    #[arg(long, conflicts_with = "env")]
    pub max_updates: Option<u64>,
    /// Ends so many seconds after the start of the process.
    #[arg(long, conflicts_with = "env")]
    pub max_seconds: Option<f64>,
    /// Goes on from the checkpoint in --out.
    #[arg(long)]
    pub resume: bool,
    /// Goes on from this agent, the `best` or `export` folder of a training, on the robot's runs or with --env on a
    /// table; its configuration is where this one begins, unless --preset is given. Updates count on from its own, so
    /// that schedules and random draws go on; --max-updates counts those made here.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub on_task: OnTask,
}

/// A simulated task in the robot's place.
#[derive(Args)]
#[command(next_help_heading = "On a simulated task")]
pub struct OnTask {
    /// Learns on this task, as Hopper-v5 or Pendulum-v1, without a robot.
    #[arg(long, value_name = "ID", conflicts_with = "encoder_weights")]
    pub env: Option<String>,
    /// Ends after so many steps of the task, those before --resume included [default: online.steps].
    #[arg(long, requires = "env")]
    pub max_steps: Option<u64>,
    /// Writes the steps that were taken as a table (.npz), the newest train.capacity of them.
    #[arg(long, value_name = "FILE", requires = "env")]
    pub log: Option<PathBuf>,
}

#[derive(Args)]
pub struct Imitation {
    /// Demonstrations: a folder of runs, or data of another program.
    #[arg(long)]
    pub demos: PathBuf,
    #[command(flatten)]
    pub common: Common,
    /// Gradient steps; for a policy to act by, 3000 are enough for the loss to settle [default: imitation.steps, which
    /// is what an encoder takes].
    #[arg(long)]
    pub steps: Option<u64>,
}

#[derive(Args)]
pub struct Classifier {
    /// Folder of images that are successes, or of HIL-SERL's files (.pkl) of such.
    #[arg(long, value_name = "DIR")]
    pub success_dir: Option<PathBuf>,
    /// Folder of images that are not.
    #[arg(long, value_name = "DIR")]
    pub failure_dir: Option<PathBuf>,
    /// Cameras of the images, as front,wrist [default: the cameras of --runs].
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub image_keys: Vec<String>,
    /// Runs with labelled frames, or data of another program; may be given more than once.
    #[arg(long, value_name = "PATH")]
    pub runs: Vec<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct Convert {
    /// Runs, a table, or data of other programs.
    pub from: PathBuf,
    /// What comes out; nothing may be there yet.
    pub to: PathBuf,
    /// The form of what comes out: runs, lerobot, hil-serl, npz, hdf5 or foxglove [default: by the ending].
    #[arg(long = "to", id = "format", value_name = "FORM")]
    pub format: Option<Format>,
    /// The rig of data that does not say it itself: the spec.json beside any of its runs.
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Makes images so many pixels wide and high.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub image_size: Option<u32>,
    /// What the robot was to do, in a few words, for lerobot.
    #[arg(long, value_name = "WORDS")]
    pub task: Option<String>,
}

#[derive(Args)]
pub struct Evaluate {
    /// Folder of a training on state vectors (its best policy counts, if it has one), or of a policy in it.
    pub policy: PathBuf,
    /// The task, as Hopper-v5 [default: the one that it was trained on].
    #[arg(long, value_name = "ID")]
    pub env: Option<String>,
    /// Episodes to go through.
    #[arg(long, default_value_t = 100)]
    pub episodes: u64,
    /// Steps to go through instead; the episode in which they are reached is gone through to its end.
    #[arg(long, conflicts_with = "episodes")]
    pub steps: Option<u64>,
    /// Seed of the first episode; the others count on from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Acts as it explores, not as well as it can.
    #[arg(long)]
    pub stochastic: bool,
    /// Writes the steps as a table (.npz), to be learned from.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Films the first three episodes (.mp4, by ffmpeg).
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    /// Width of the video in pixels.
    #[arg(long, default_value_t = 640, requires = "video")]
    pub width: u32,
    /// Height of the video in pixels.
    #[arg(long, default_value_t = 480, requires = "video")]
    pub height: u32,
}

#[derive(Args)]
pub struct Render {
    /// Folder of a training on state vectors (its best policy counts, if it has one), or of a policy in it [default: the
    /// training in ./ or ./runs, by itself or in a batch, whose policy was written last].
    pub run: Option<PathBuf>,
    /// Folder for the videos (.mp4, by ffmpeg), which are named by episode and return.
    #[arg(long)]
    pub out: PathBuf,
    /// The task, as Hopper-v5 [default: the one that it was trained on].
    #[arg(long, value_name = "ID")]
    pub env: Option<String>,
    /// Episodes to film.
    #[arg(long, default_value_t = 3)]
    pub episodes: u64,
    /// Seed of the first episode; the others count on from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Width in pixels, an even number.
    #[arg(long, default_value_t = 640)]
    pub width: u32,
    /// Height in pixels, an even number.
    #[arg(long, default_value_t = 480)]
    pub height: u32,
    /// Pictures a second, as near as whole steps of the task come; it goes on as fast as in its own time.
    #[arg(long, default_value_t = FRAMES_PER_S)]
    pub fps: f64,
}

#[derive(Args)]
pub struct Inspect {
    /// Table of transitions, or a robot's recording, of whatever form.
    pub data: PathBuf,
    /// Rig of a recording that does not say it itself: the spec.json that lies beside every run.
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Writes a page with plots and frames (.html), in which everything is that it shows.
    #[arg(long, value_name = "PAGE")]
    pub out: Option<PathBuf>,
    /// Prints the figures for programs.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Generate {
    /// Table of transitions on state vectors, or a robot's recording, of which more is generated; with --run the table
    /// that the training learns from.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Folder of a training with generated experience: what it was fed is shown, and nothing is trained.
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}
