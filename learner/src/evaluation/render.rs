//! `hilt-learner render`: videos of a trained policy in its task, one per episode.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use hilt_show::Show;

use super::{Evaluation, command::open, walk};
use crate::{
    config::DeviceChoice,
    stopped::Stopped,
    video::{Filmed, nearest_rate},
};

/// What to film, and how.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// The folder of a training, or of a policy in it.
    pub run: PathBuf,
    /// The task; absent, the one that the policy was trained for.
    pub env: Option<String>,
    /// Folder for the videos.
    pub out: PathBuf,
    /// How many.
    pub episodes: u64,
    /// Seed of the first episode; the others count on from it.
    pub seed: u64,
    /// Width and height, pixels.
    pub size: [u32; 2],
    /// Pictures a second, as near as whole steps of the task come. It goes on as fast as in its own time.
    pub frames_per_s: f64,
    /// Where tensors live.
    pub device: DeviceChoice,
}

/// Films the episodes, says what each came to, and returns it. Where `stop` is set it is what came until then.
pub fn run(options: &RenderOptions, stop: &AtomicBool) -> Result<Evaluation> {
    anyhow::ensure!(options.episodes > 0, "--episodes 0: it is at least 1");
    let asked = options.frames_per_s;
    anyhow::ensure!(
        (0.1..=1000.0).contains(&asked),
        "--fps {asked}: it is 0.1 to 1000 pictures a second"
    );
    let run = &options.run;
    let (trained, mut task) = open(run, options.env.as_deref(), options.device)?;
    let out = &options.out;
    check_unused(out)?;
    fs::create_dir_all(out).with_context(|| format!("--out {}", out.display()))?;
    let rate = nearest_rate(&*task, asked);
    println!(
        "{}: the policy in {}, {rate:.1} pictures a second (a step is {:.0} ms)",
        task.id(),
        run.display(),
        task.step_s() * 1e3
    );
    let mut show = Show::new("render", Some(options.episodes));
    let mut evaluation = Evaluation::default();
    let digits = options.episodes.to_string().len();
    for episode in 0..options.episodes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let number = format!("episode_{:0digits$}", episode + 1);
        // What it came to is known when it is over.
        let unnamed = out.join(format!("{number}.mp4"));
        let mut filmed = Filmed::begin(&mut *task, &unnamed, options.size, asked)?;
        let seed = options.seed.wrapping_add(episode);
        let mut act = |observation: &[f64]| trained.act(observation);
        // One that is cut leaves no video.
        let Some((sum, steps)) = walk(&mut filmed, seed, &mut act, &mut |_, _, _| (), stop) else {
            break;
        };
        filmed.end()?;
        let path = out.join(format!("{number}_return_{sum:.1}.mp4"));
        fs::rename(&unnamed, &path).with_context(|| path.display().to_string())?;
        show.say(&format!("{}: {steps} steps", path.display()));
        evaluation.returns.push(sum);
        evaluation.lengths.push(steps);
        show.stand(episode + 1, || format!("episodes, return {evaluation}"));
    }
    show.end();
    if evaluation.returns.is_empty() {
        Stopped::check(stop, "the first episode was over")?;
    }
    println!("{}: return {evaluation}", task.id());
    Ok(evaluation)
}

/// Videos of two policies are not mixed.
fn check_unused(out: &Path) -> Result<()> {
    let shown = out.display();
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("--out {shown}")),
    };
    for entry in entries {
        let name = entry.with_context(|| format!("--out {shown}"))?.file_name();
        let name = name.to_string_lossy();
        anyhow::ensure!(
            !(name.starts_with("episode_") && name.ends_with(".mp4")),
            "--out {shown} holds videos already ({name}); choose another folder"
        );
    }
    Ok(())
}
