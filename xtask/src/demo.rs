//! The main job, end to end: demonstrations, a learner and an actor as two processes, evaluation
//! against imitation alone, and one page that shows it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf, absolute},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    figures::{self, Episode},
    process::{self, Interrupts, Output, Running},
    report,
};

/// What makes lockstep of a rig whose buses are emulated: the same arm, without its buses.
const LOCKSTEP: [&str; 2] = ["device=lift-sim", "clock=simulated"];
const DEMONSTRATIONS: &str = "20";
/// The actor's randomness must not repeat the demonstrations'.
const ACTOR_SEED_OFFSET: u64 = 1000;
/// What the actor may take to end after the learner has said that training is over.
const ACTOR_GRACE: Duration = Duration::from_secs(60);

/// What a person can choose about the demo.
#[derive(clap::Args, Debug, Serialize)]
pub struct Options {
    /// The robot. One of emulated buses is trained in lockstep and evaluated over its buses in real time.
    #[arg(long, value_name = "FILE", default_value = "rigs/lift-sim.toml")]
    rig: PathBuf,
    /// The run's folder, which must not exist yet or be empty [default: runs/lift-SEED-TIME].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of demonstrations, training and the operator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seed of the evaluation's starts.
    #[arg(long, default_value_t = 10_001)]
    eval_seed: u64,
    /// Evaluation episodes, for the policy and for imitation each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    eval_episodes: u64,
    /// TCP port between learner and actor [default: a free one].
    #[arg(long)]
    port: Option<u16>,
    /// The learner's gradient updates: what the training needs, however fast the machine is.
    #[arg(long, default_value_t = 22_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_updates: u64,
    /// It ends after so many seconds all the same.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    max_seconds: u64,
    /// A setting, as often as wanted: `learner.KEY=VALUE` for the learner, `KEY=VALUE` for the rig.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Trains a second time, with this setting besides, and reports both: as often as wanted, as `--set`.
    #[arg(long, value_name = "KEY=VALUE")]
    compare: Vec<String>,
}

/// Runs all stages; the error names the stage that failed.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let (learner_settings, rig_settings) = split_settings(&options.settings);
    let compared = split_settings(&options.compare);
    let emulated = has_emulated_buses(&root.join(&options.rig))?;
    let lockstep: &[&str] = if emulated { &LOCKSTEP } else { &[] };
    let out = prepare_folder(root, options)?;
    let job = Job {
        root,
        target: process::target_folder(root),
        out: &out,
        lockstep_settings: lockstep.iter().map(|&s| s.to_owned()).collect(),
        rig_settings,
        learner_settings,
        compared,
        interrupts: Interrupts::install()?,
        options,
    };
    println!("the run's folder is {}", out.display());
    println!("a scripted operator stands in for a person: it demonstrates and takes over");
    let mut stages: Vec<(&str, Stage)> = vec![
        ("building hilt and hilt-learner", Job::build),
        ("recording 20 demonstrations", Job::record),
        ("training: learner and actor, joined by zenoh", Job::train),
        ("evaluating the policy, operator absent", Job::evaluate),
        ("training imitation alone, for comparison", Job::imitate),
        ("evaluating imitation alone", Job::evaluate_imitation),
    ];
    if emulated {
        println!("training is in lockstep, on the same arm without its buses");
        stages[3].0 = "evaluating the policy over the buses in real time, operator absent";
        stages.push(("evaluating the policy in lockstep", Job::evaluate_lockstep));
    }
    if !options.compare.is_empty() {
        let title = "training again with the settings to compare";
        stages.insert(3, (title, Job::train_compared));
    }
    let mut seconds = Map::new();
    for (i, (title, stage)) in stages.iter().enumerate() {
        println!("── {}/{} {title}", i + 1, stages.len());
        let start = Instant::now();
        stage(&job).with_context(|| {
            format!(
                "{title} did not succeed; what there is lies in {}",
                out.display()
            )
        })?;
        let taken = start.elapsed().as_secs_f64();
        println!("── {}/{} done in {taken:.0} s", i + 1, stages.len());
        seconds.insert((*title).into(), taken.into());
    }
    conclude(&out, options, seconds)
}

type Stage<'a> = fn(&Job<'a>) -> Result<()>;

/// Everything a stage needs.
struct Job<'a> {
    root: &'a Path,
    target: PathBuf,
    out: &'a Path,
    /// For every stage but the policy's evaluation.
    lockstep_settings: Vec<String>,
    rig_settings: Vec<String>,
    learner_settings: Vec<String>,
    /// The learner's and the rig's, of the training to compare.
    compared: (Vec<String>, Vec<String>),
    interrupts: Interrupts,
    options: &'a Options,
}

impl Job<'_> {
    fn build(&self) -> Result<()> {
        let args = [
            "build",
            "--release",
            "-p",
            "hilt-runtime",
            "-p",
            "hilt-learner",
            "--bins",
        ];
        process::run(
            "cargo build",
            process::cargo(&args).current_dir(self.root),
            &self.interrupts,
        )
    }

    fn record(&self) -> Result<()> {
        let mut command = self.hilt("record");
        command
            .args([
                "--episodes",
                DEMONSTRATIONS,
                "--operator",
                "scripted",
                "--seed",
            ])
            .arg(self.options.seed.to_string())
            .arg("--out")
            .arg(self.out.join("demos"))
            .args(set_arguments(&self.lockstep_settings));
        self.run_rig("hilt record", &mut command)
    }

    fn train(&self) -> Result<()> {
        self.train_in(self.out, &[], &[])
    }

    fn train_compared(&self) -> Result<()> {
        let (learner, rig) = &self.compared;
        let place = self.out.join(figures::COMPARED);
        fs::create_dir(&place).with_context(|| format!("cannot create {}", place.display()))?;
        self.train_in(&place, learner, rig)
    }

    /// Learner and actor, with these settings besides, into folders of `place`.
    fn train_in(&self, place: &Path, of_learner: &[String], of_rig: &[String]) -> Result<()> {
        let Options {
            seed,
            max_updates,
            max_seconds,
            ..
        } = self.options;
        let port = match self.options.port {
            Some(port) => port,
            None => free_port()?,
        };
        let endpoint = format!("tcp/127.0.0.1:{port}");
        let mut learner = self.learner("hybrid");
        learner
            .arg("--demos")
            .arg(self.out.join("demos"))
            .arg("--out")
            .arg(place.join("learner"))
            .args(["--listen", &endpoint, "--seed", &seed.to_string()])
            .args(["--max-updates", &max_updates.to_string()])
            .args(["--max-seconds", &max_seconds.to_string()])
            .args(set_arguments(&self.learner_settings))
            .args(set_arguments(of_learner));
        let mut actor = self.hilt("actor");
        actor
            .args(["--connect", &endpoint, "--seed"])
            .arg(seed.wrapping_add(ACTOR_SEED_OFFSET).to_string())
            .arg("--out")
            .arg(place.join("actor"))
            .args(set_arguments(&self.lockstep_settings))
            .args(set_arguments(&self.rig_settings))
            .args(set_arguments(of_rig));

        let bar = ProgressBar::new(*max_updates).with_style(
            ProgressStyle::with_template("{elapsed} {bar:30} {pos}/{len} updates  {msg}")
                .context("progress bar template")?,
        );
        let start = |name: &str, command: &mut Command| {
            let log = place.join(format!("{name}.log"));
            let output = Output::Watched {
                log: &log,
                bar: &bar,
            };
            Running::start(name, command, output)
        };
        let mut children = vec![start("learner", &mut learner)?];
        match start("actor", &mut actor) {
            Ok(actor) => children.push(actor),
            Err(error) => {
                children[0].interrupt();
                process::finish(&mut children, ACTOR_GRACE, &self.interrupts, || {})?;
                return Err(error);
            }
        }
        let mut watcher = Watcher::new(place, bar);
        process::finish(&mut children, ACTOR_GRACE, &self.interrupts, || {
            watcher.look()
        })?;
        watcher.end();
        Ok(())
    }

    fn evaluate(&self) -> Result<()> {
        self.evaluate_policy("learner", "eval", &[])
    }

    fn evaluate_lockstep(&self) -> Result<()> {
        self.evaluate_policy("learner", "eval-lockstep", &self.lockstep_settings)
    }

    fn imitate(&self) -> Result<()> {
        let mut command = self.learner("imitation");
        command
            .arg("--demos")
            .arg(self.out.join("demos"))
            .arg("--out")
            .arg(self.out.join("imitation"))
            .args(["--steps", "3000", "--seed", &self.options.seed.to_string()]);
        process::run("hilt-learner imitation", &mut command, &self.interrupts)
    }

    fn evaluate_imitation(&self) -> Result<()> {
        self.evaluate_policy("imitation", "eval-imitation", &self.lockstep_settings)
    }

    /// All get the same starts.
    fn evaluate_policy(&self, trained: &str, place: &str, settings: &[String]) -> Result<()> {
        let mut command = self.hilt("evaluate");
        command
            .arg("--policy")
            .arg(self.out.join(trained).join("export"))
            .args(["--episodes", &self.options.eval_episodes.to_string()])
            .args(["--seed", &self.options.eval_seed.to_string()])
            .arg("--out")
            .arg(self.out.join(place))
            .args(set_arguments(settings));
        self.run_rig("hilt evaluate", &mut command)
    }

    fn run_rig(&self, name: &str, command: &mut Command) -> Result<()> {
        command.args(set_arguments(&self.rig_settings));
        process::run(name, command, &self.interrupts)
    }

    fn hilt(&self, chore: &str) -> Command {
        let mut command = self.program("hilt");
        command.args([chore, "--rig"]).arg(&self.options.rig);
        command
    }

    fn learner(&self, chore: &str) -> Command {
        let mut command = self.program("hilt-learner");
        command.arg(chore);
        command
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.target.join("release").join(name));
        command.current_dir(self.root);
        command
    }
}

/// Shows how the training goes, from the files that learner and actor append to.
struct Watcher<'a> {
    out: &'a Path,
    bar: ProgressBar,
    start: Instant,
    looked: Instant,
    told: Instant,
}

impl<'a> Watcher<'a> {
    fn new(out: &'a Path, bar: ProgressBar) -> Self {
        let now = Instant::now();
        Self {
            out,
            bar,
            start: now,
            looked: now,
            told: now,
        }
    }

    fn look(&mut self) {
        if self.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.looked = Instant::now();
        let (updates, text) = self.standing();
        // Where no bar is drawn (a log file, a pipe) a line now and then takes its place.
        if self.bar.is_hidden() && self.told.elapsed() >= Duration::from_secs(30) {
            self.told = Instant::now();
            let elapsed = self.start.elapsed().as_secs_f64();
            println!("{elapsed:.0} s  updates {updates}  {text}");
        }
        self.bar.set_position(updates);
        self.bar.set_message(text);
    }

    /// Updates made, and the rest in words.
    fn standing(&self) -> (u64, String) {
        let episodes: Vec<Episode> = figures::lines(&self.out.join("actor/episodes.jsonl"));
        let metrics: Vec<Map<String, Value>> =
            figures::lines(&self.out.join("learner/metrics.jsonl"));
        let updates = latest(&metrics, "updates").unwrap_or(0.0) as u64;
        (updates, status_line(&episodes, &metrics))
    }

    fn end(&self) {
        self.bar.finish_and_clear();
        let (updates, text) = self.standing();
        println!("updates {updates}  {text}");
    }
}

/// The newest value of a figure.
fn latest(metrics: &[Map<String, Value>], key: &str) -> Option<f64> {
    let mut newest_first = metrics.iter().rev();
    newest_first.find_map(|line| line.get(key)?.as_f64())
}

/// The newest state in words. A rate that nobody has reported is left out.
fn status_line(episodes: &[Episode], metrics: &[Map<String, Value>]) -> String {
    let newest = figures::newest(episodes);
    let latest = |key: &str| latest(metrics, key);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let parts = [
        ("episodes", Some(episodes.len().to_string())),
        ("success", figures::success_rate(newest).map(percent)),
        (
            "interventions",
            figures::intervention_rate(newest).map(percent),
        ),
        (
            "updates/s",
            latest("updates_per_s").map(|n| format!("{n:.1}")),
        ),
        ("steps/s", latest("steps_per_s").map(|n| format!("{n:.1}"))),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
        .collect();
    parts.join("  ")
}

/// Merges the figures, draws the page, prints the table.
fn conclude(out: &Path, options: &Options, seconds: Map<String, Value>) -> Result<()> {
    let (mut summary, missing) = figures::merge(out, options.seed)?;
    summary.insert("eval_seed".into(), options.eval_seed.into());
    let page = report::page(out, &summary)?;
    write(&out.join("report.html"), page.as_bytes())?;
    write(
        &out.join("summary.json"),
        &serde_json::to_vec_pretty(&summary)?,
    )?;
    let run = json!({ "options": options, "stage_s": seconds });
    write(&out.join("demo.json"), &serde_json::to_vec_pretty(&run)?)?;
    for (key, value) in &summary {
        println!("{key:38} {}", report::shown(value));
    }
    println!("see {}", out.join("report.html").display());
    if !missing.is_empty() {
        bail!("the programs left no {}", missing.join(", no "));
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Whether the arms of a rig hang on emulated buses, which go by the machine's clock alone.
fn has_emulated_buses(rig: &Path) -> Result<bool> {
    let text = fs::read_to_string(rig).with_context(|| format!("--rig {}", rig.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("--rig {}", rig.display()))?;
    Ok(table.get("device").and_then(|device| device.as_str()) == Some("emulated"))
}

/// Keys under `learner.` are the learner's, without that prefix, and so are those under `generative_replay.`, which no rig
/// has; the rest are the rig's.
fn split_settings(settings: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut learner, mut rig) = (vec![], vec![]);
    for setting in settings {
        match setting.strip_prefix("learner.") {
            Some(own) => learner.push(own.to_owned()),
            None if setting.starts_with("generative_replay.") => learner.push(setting.clone()),
            None => rig.push(setting.clone()),
        }
    }
    (learner, rig)
}

fn set_arguments(settings: &[String]) -> impl Iterator<Item = &str> {
    settings.iter().flat_map(|setting| ["--set", setting])
}

/// Creates the run's folder; a used one is refused, so that two runs are never mixed.
fn prepare_folder(root: &Path, options: &Options) -> Result<PathBuf> {
    let out = match &options.out {
        Some(out) => absolute(out).context("--out")?,
        None => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("the clock is before 1970")?;
            let name = format!("lift-{}-{}", options.seed, utc(now.as_secs()));
            root.join("runs").join(name)
        }
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let used = fs::read_dir(&out)
        .with_context(|| format!("reading {}", out.display()))?
        .next()
        .is_some();
    ensure!(
        !used,
        "{} is not empty; name another folder with --out",
        out.display()
    );
    Ok(out)
}

/// `20261121T034837Z` for seconds since 1970. Days to date as in Howard Hinnant's "chrono-compatible
/// low-level date algorithms": years begin in March, so that the leap day is the last one.
fn utc(unix_s: u64) -> String {
    let (days, s) = (unix_s / 86_400, unix_s % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + 400 * era + u64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        s / 3600,
        s / 60 % 60,
        s % 60
    )
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free TCP port")?;
    Ok(listener.local_addr().context("no free TCP port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_go_to_the_one_they_are_for() {
        let settings = [
            "learner.sac_grasp.discount=0.97",
            "scene.cube_range_m=0.2",
            "learners=1",
            "generative_replay.enabled=true",
        ]
        .map(str::to_owned);
        let (learner, rig) = split_settings(&settings);
        let wanted = ["sac_grasp.discount=0.97", "generative_replay.enabled=true"];
        assert_eq!(learner, wanted);
        assert_eq!(rig, ["scene.cube_range_m=0.2", "learners=1"]);
        assert_eq!(
            set_arguments(&learner[..1]).collect::<Vec<_>>(),
            ["--set", "sac_grasp.discount=0.97"]
        );
    }

    #[test]
    fn dates_across_leap_days() {
        assert_eq!(utc(0), "19700101T000000Z");
        assert_eq!(utc(951_827_696), "20000229T123456Z");
        assert_eq!(utc(1_709_251_199), "20240229T235959Z");
        assert_eq!(utc(1_709_251_200), "20240301T000000Z");
        assert_eq!(utc(1_798_761_599), "20261231T235959Z");
    }

    #[test]
    fn rigs_of_emulated_buses_are_known() {
        let rigs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs");
        let emulated = |name| has_emulated_buses(&rigs.join(name)).unwrap();
        assert!(emulated("so101-emulated.toml") && !emulated("lift-sim.toml"));
        assert!(has_emulated_buses(&rigs.join("nobody.toml")).is_err());
    }

    #[test]
    fn a_used_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            rig: "rigs/lift-sim.toml".into(),
            out: Some(dir.path().join("new/run")),
            seed: 1,
            eval_seed: 2,
            eval_episodes: 3,
            port: None,
            max_updates: 1000,
            max_seconds: 4,
            settings: Vec::new(),
            compare: Vec::new(),
        };
        let out = prepare_folder(dir.path(), &options).unwrap();
        assert!(out.is_dir());
        fs::write(out.join("summary.json"), "{}").unwrap();
        assert!(prepare_folder(dir.path(), &options).is_err());
    }

    #[test]
    fn the_status_line_leaves_out_what_is_not_known() {
        assert_eq!(status_line(&[], &[]), "episodes 0");
        let episode = Episode {
            steps: 10,
            success: true,
            intervened_steps: 5,
        };
        let metrics = [json!({"updates": 30, "updates_per_s": 16.25})]
            .map(|v| v.as_object().unwrap().clone());
        let text = status_line(&[episode], &metrics);
        assert_eq!(
            text,
            "episodes 1  success 100 %  interventions 50 %  updates/s 16.2"
        );
    }
}
