//! Whether the algorithms learn, each for three seeds: return on a task, beside what it has to beat.
//!
//! `cargo xtask bench learning`, or a part of it: `cargo xtask bench learning --only td3_bc`. Hours in all, each row
//! within one CPU hour; it can be stopped at any time, goes on where it was, and trains nothing twice. Everything is in
//! target/bench/learning: the log, a folder for each training, and `report.md`.
//!
//! 1. A medium-quality log of HalfCheetah, made as D4RL made its own: SAC is stopped early, and its policy, exploring,
//!    takes 100,000 steps.
//! 2. Offline, on that log: BC, TD3+BC, IQL, CQL, AWAC, Cal-QL. All have to beat BC.
//! 3. From offline to online: Cal-QL goes on from its offline policy, RLPD learns with the log beside it.
//! 4. Without any log: SAC and REDQ on the pendulum.
//!
//! 5. With a diffusion model's transitions in half of each batch: PGR beside REDQ with the same updates for each step, on the
//!    pendulum and on Hopper. The four together take less than two CPU hours.
//!
//! Rows (JSON lines on stdout): mean return of the last policies, not of the best ones, over 20 episodes and three
//! seeds; the spread is the standard deviation over the seeds. Curves: step and return, one for each seed.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use hilt_learner::{
    config::{DeviceChoice, LearnerConfig},
    evaluation::command::{self, EvaluateOptions, Length},
    hybrid::task::{self, TaskOptions},
    metrics::write_atomically,
    offline::{self, OfflineOptions},
    vectors::Summary,
};
use hilt_recording::table::npz;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const SEEDS: [u64; 3] = [1, 2, 3];
const EPISODES: u64 = 20;
/// Of the episodes that count; those within a training are others.
const EVALUATION_SEED: u64 = 1_000_000;
const CHEETAH: &str = "HalfCheetah-v5";
const PENDULUM: &str = "Pendulum-v1";
const HOPPER: &str = "Hopper-v5";
const LOG_STEPS: u64 = 100_000;

/// What a trial learns from.
#[derive(Clone, Copy)]
enum From {
    /// The log.
    Log,
    /// The task, with the log beside it, and where it is named from what another trial left.
    TaskAndLog(Option<&'static str>),
    /// The task alone.
    Task,
}

struct Trial {
    name: &'static str,
    env: &'static str,
    preset: &'static str,
    from: From,
    /// Updates on a log, steps on a task.
    length: u64,
    sets: &'static [&'static [&'static str]],
    /// What it has to beat.
    peer: Option<&'static str>,
}

/// Fewer sampled actions (4 of 10) and smaller networks (two layers of three) than CORL's, so that three seeds take an hour, and the step
/// size of the actor in CQL's own code for Gymnasium's tasks, 1e-4, since there are fewer updates.
const SMALL_CQL: &[&str] = &[
    "cql.sampled_actions=4",
    "cql.actor_hidden=[256,256]",
    "cql.critic_hidden=[256,256]",
    "cql.policy_lr=1e-4",
];
const SMALL_CAL_QL: &[&str] = &[
    "cal_ql.cql.sampled_actions=4",
    "cal_ql.cql.actor_hidden=[256,256]",
    "cal_ql.cql.critic_hidden=[256,256]",
    "cal_ql.cql.policy_lr=1e-4",
    NORMALIZED,
];
/// Online its conservatism steps back, as in CORL's files for Adroit. With 10 there as well, CORL's default, what it had
/// learned was lost in the first thousands of steps here, and came back slowly.
const ONLINE_CAL_QL: &[&str] = &[
    "cal_ql.cql.sampled_actions=4",
    "cal_ql.cql.actor_hidden=[256,256]",
    "cal_ql.cql.critic_hidden=[256,256]",
    "cal_ql.cql.policy_lr=1e-4",
    "cal_ql.online_weight=1.0",
];
/// REDQ on the pendulum, with and without generated experience.
const PENDULUM_REDQ: &[&str] = &[
    "redq.lr=1e-3",
    "redq.hidden=[64,64]",
    "redq.update_to_data=5",
    "redq.policy_delay=5",
    "redq.critics=5",
    "train.batch=128",
    "online.random_steps=1000",
];
/// Its models have seen 1,000 to 4,000 steps.
const PENDULUM_PGR: &[&str] = &[
    "generative_replay.retrain_diffusion_every=1000",
    "generative_replay.lag_steps=500",
    "generative_replay.num_samples=20_000",
];
/// REDQ on Hopper, with and without: PGR's two critics, ten updates for each step instead of twenty.
const HOPPER_REDQ: &[&str] = &[
    "redq.critics=2",
    "redq.update_to_data=10",
    "redq.policy_delay=10",
    "redq.target_entropy=-1",
    "online.random_steps=1000",
];
const HOPPER_PGR: &[&str] = &[
    "generative_replay.retrain_diffusion_every=2500",
    "generative_replay.lag_steps=1000",
];
/// Rewards divided by the spread of the returns, as IQL's authors do for these tasks (CORL for some of them): critics come to
/// smaller values in fewer updates, and weights exp(advantage) are not cut off from the start.
const NORMALIZED: &str = "offline.rewards.normalize=true";
/// Where the log comes from: SAC stopped at about a third of what it comes to in a million steps, as D4RL's.
const MEDIUM_STEPS: u64 = 60_000;

const fn offline(name: &'static str, preset: &'static str, length: u64) -> Trial {
    Trial {
        name,
        env: CHEETAH,
        preset,
        from: From::Log,
        length,
        sets: &[],
        peer: Some("bc"),
    }
}

const TRIALS: [Trial; 13] = [
    Trial {
        peer: Some("log"),
        ..offline("bc", "bc", 100_000)
    },
    offline("td3_bc", "td3-bc", 100_000),
    Trial {
        sets: &[&[NORMALIZED]],
        ..offline("iql", "iql", 80_000)
    },
    Trial {
        sets: &[&[NORMALIZED]],
        ..offline("awac", "awac", 40_000)
    },
    Trial {
        sets: &[SMALL_CQL],
        ..offline("cql", "cql", 40_000)
    },
    Trial {
        sets: &[SMALL_CAL_QL],
        ..offline("cal_ql", "cal-ql", 30_000)
    },
    Trial {
        from: From::TaskAndLog(Some("cal_ql")),
        sets: &[ONLINE_CAL_QL],
        peer: Some("cal_ql"),
        ..offline("cal_ql_online", "cal-ql", 8_000)
    },
    // Four critic updates for a step instead of twenty.
    Trial {
        from: From::TaskAndLog(None),
        sets: &[&["rlpd.update_to_data=4", "online.random_steps=1000"]],
        peer: Some("log"),
        ..offline("rlpd", "rlpd", 12_000)
    },
    Trial {
        name: "sac",
        env: PENDULUM,
        preset: "sac",
        from: From::Task,
        length: 5000,
        sets: &[&[
            "sac.lr=2e-3",
            "sac.hidden=[64,64]",
            "train.batch=128",
            "online.random_steps=1000",
        ]],
        peer: None,
    },
    Trial {
        name: "redq",
        env: PENDULUM,
        preset: "redq",
        from: From::Task,
        length: 5000,
        sets: &[PENDULUM_REDQ],
        peer: None,
    },
    Trial {
        name: "pgr",
        env: PENDULUM,
        preset: "pgr-cpu",
        from: From::Task,
        length: 5000,
        sets: &[PENDULUM_REDQ, PENDULUM_PGR],
        peer: Some("redq"),
    },
    Trial {
        name: "redq_hopper",
        env: HOPPER,
        preset: "redq",
        from: From::Task,
        length: 12_000,
        sets: &[HOPPER_REDQ],
        peer: None,
    },
    Trial {
        name: "pgr_hopper",
        env: HOPPER,
        preset: "pgr-cpu",
        from: From::Task,
        length: 12_000,
        sets: &[HOPPER_REDQ, HOPPER_PGR],
        peer: Some("redq_hopper"),
    },
];

/// What a trial came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    /// Mean return of each seed's last policy; of the log its own, once.
    returns: Vec<f64>,
    /// Of all seeds; of a bench that was stopped in between only what came after.
    cpu_s: f64,
    curves: Vec<Vec<(f64, f64)>>,
}

impl Found {
    fn mean(&self) -> f64 {
        self.returns.iter().sum::<f64>() / self.returns.len() as f64
    }

    /// Mean of all evaluations within the trainings: whoever learns earlier has more.
    fn over_the_training(&self) -> f64 {
        let values = self.curves.iter().flatten().map(|(_, value)| value);
        let count = values.clone().count();
        values.sum::<f64>() / count as f64
    }

    fn spread(&self) -> f64 {
        let mean = self.mean();
        let squares = self.returns.iter().map(|r| (r - mean).powi(2));
        (squares.sum::<f64>() / self.returns.len() as f64).sqrt()
    }
}

/// The bench's folder, and what was found in it so far.
struct Bench {
    dir: PathBuf,
    stop: AtomicBool,
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn config(preset: &str, sets: &[&[&str]]) -> Result<LearnerConfig> {
    let common = ["device=\"cpu\"", "train.threads=1"].as_slice();
    let sets = std::iter::once(&common).chain(sets).copied().flatten();
    let sets: Vec<String> = sets.map(|&set| set.into()).collect();
    Ok(LearnerConfig::resolve(preset, None, &sets)?)
}

impl Bench {
    fn log(&self) -> PathBuf {
        self.dir.join("medium.npz")
    }

    fn seed_dir(&self, name: &str, seed: u64) -> PathBuf {
        self.dir.join(name).join(format!("seed-{seed}"))
    }

    fn found(&self, name: &str) -> Option<Found> {
        let text = fs::read(self.dir.join(name).join("found.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn keep(&self, name: &str, found: &Found) -> Result<()> {
        fs::create_dir_all(self.dir.join(name))?;
        let path = self.dir.join(name).join("found.json");
        Ok(write_atomically(&path, &serde_json::to_vec_pretty(found)?)?)
    }

    /// The log, made if it is not there.
    fn make_log(&self) -> Result<Found> {
        if let Some(found) = self.found("log") {
            return Ok(found);
        }
        let (began, out) = (cpu_s(), self.dir.join("medium-sac"));
        println!("{CHEETAH}: SAC, {MEDIUM_STEPS} steps, then {LOG_STEPS} more to be recorded");
        let mut config = config("sac", &[&["online.num_eval=3"]])?;
        config.online.steps = MEDIUM_STEPS;
        let options = TaskOptions {
            env: CHEETAH.into(),
            demos: None,
            from: None,
            out: out.clone(),
            log: None,
            seed: SEEDS[0],
            resume: out.exists(),
            config,
        };
        task::run(&options, Instant::now(), &self.stop)?;
        let options = EvaluateOptions {
            length: Length::Steps(LOG_STEPS),
            stochastic: true,
            log: Some(self.log()),
            ..self.judge(&out)
        };
        command::run(&options, &self.stop)?;
        let table = npz::read(&self.log())?;
        println!("{}", Summary::of(&table));
        let found = Found {
            returns: vec![Summary::of(&table).returns.mean],
            cpu_s: cpu_s() - began,
            curves: vec![curve(&out)?],
        };
        self.keep("log", &found)?;
        Ok(found)
    }

    /// How the last policy of a training is judged.
    fn judge(&self, training: &Path) -> EvaluateOptions {
        EvaluateOptions {
            policy: training.join("export"),
            env: None,
            length: Length::Episodes(EPISODES),
            seed: EVALUATION_SEED,
            stochastic: false,
            log: None,
            video: None,
            device: DeviceChoice::Cpu,
        }
    }

    fn measure(&self, trial: &Trial) -> Result<Found> {
        if let Some(found) = self.found(trial.name) {
            return Ok(found);
        }
        let began = cpu_s();
        let mut found = Found {
            returns: vec![],
            cpu_s: 0.0,
            curves: vec![],
        };
        for seed in SEEDS {
            println!("{}, seed {seed}", trial.name);
            let out = self.seed_dir(trial.name, seed);
            self.train(trial, seed, &out)?;
            let evaluation = command::run(&self.judge(&out), &self.stop)?;
            found.returns.push(evaluation.mean());
            found.curves.push(curve(&out)?);
        }
        found.cpu_s = cpu_s() - began;
        self.keep(trial.name, &found)?;
        Ok(found)
    }

    fn train(&self, trial: &Trial, seed: u64, out: &Path) -> Result<()> {
        let mut config = config(trial.preset, trial.sets)?;
        let every = (trial.length / 10).max(1);
        (config.offline.num_eval, config.online.num_eval) = (3, 3);
        (config.offline.eval_freq, config.online.eval_freq) = (every, every);
        let env = trial.env.to_owned();
        let (demos, from) = match trial.from {
            From::Log => {
                config.offline.updates = trial.length;
                // All of it is learned from: the task is the judge.
                config.offline.held_out = 0.0;
                let options = OfflineOptions {
                    rig: None,
                    data: self.log(),
                    env: Some(env),
                    out: out.to_owned(),
                    seed,
                    resume: out.exists(),
                    config,
                };
                return offline::run(&options, &self.stop);
            }
            From::Task => (None, None),
            From::TaskAndLog(from) => (
                Some(self.log()),
                from.map(|name| self.seed_dir(name, seed).join("export")),
            ),
        };
        config.online.steps = trial.length;
        let options = TaskOptions {
            env,
            demos,
            from,
            out: out.to_owned(),
            log: None,
            seed,
            resume: out.exists(),
            config,
        };
        task::run(&options, Instant::now(), &self.stop)
    }

    fn row_name(name: &str) -> String {
        let trial = TRIALS.iter().find(|trial| trial.name == name);
        let env = trial.map_or(CHEETAH, |trial| trial.env);
        let task = env.split('-').next().unwrap_or(env).to_lowercase();
        let alone = name.strip_suffix(&format!("_{task}")).unwrap_or(name);
        format!("learning.{task}.{alone}")
    }

    fn print_row(&self, name: &str, peer: Option<&str>, found: &Found) {
        let beaten = peer.and_then(|peer| Some((peer, self.found(peer)?.mean())));
        let row = serde_json::json!({
            "name": Self::row_name(name),
            "value": found.mean(),
            "unit": "return",
            "peer": beaten.map(|(peer, _)| peer),
            "peer_value": beaten.map(|(_, mean)| mean),
            // Of costs it would say the contrary.
            "ratio": beaten.filter(|(_, mean)| *mean > 0.0).map(|(_, mean)| found.mean() / mean),
            "spread": found.spread(),
            "curves": found.curves,
        });
        println!("{row}");
    }

    /// Name, peer and result of all that was found so far, by this run and others before.
    fn all_found(&self) -> Vec<(&'static str, Option<&'static str>, Found)> {
        let trials = TRIALS.iter().map(|trial| (trial.name, trial.peer));
        let all = [("log", None)].into_iter().chain(trials);
        all.filter_map(|(name, peer)| Some((name, peer, self.found(name)?)))
            .collect()
    }

    fn report(&self) -> Result<()> {
        let mut text = String::from(
            "# Learning\n\nReturn of the last policy, mean over seeds ± standard deviation over them; and of all evaluations within the training.\n\n\
             | row | return | of each seed | over the training | to beat | CPU minutes |\n|---|---|---|---|---|---|\n",
        );
        for (name, peer, found) in self.all_found() {
            let each: Vec<String> = found.returns.iter().map(|r| format!("{r:.1}")).collect();
            let beaten = peer.and_then(|peer| {
                let of = self.found(peer)?;
                Some(format!("{peer} {:.1} ± {:.1}", of.mean(), of.spread()))
            });
            writeln!(
                text,
                "| {} | {:.1} ± {:.1} | {} | {:.1} | {} | {:.0} |",
                Self::row_name(name),
                found.mean(),
                found.spread(),
                each.join(", "),
                found.over_the_training(),
                beaten.unwrap_or_default(),
                found.cpu_s / 60.0
            )?;
        }
        text.push_str("\n## Curves\n\nStep and return of an evaluation within the training, mean over the seeds.\n");
        for trial in &TRIALS {
            let Some(found) = self.found(trial.name) else {
                continue;
            };
            let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for &(step, value) in found.curves.iter().flatten() {
                at.entry(step as u64).or_default().push(value);
            }
            let point = |(step, values): (u64, Vec<f64>)| {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                format!("{step}: {mean:.0}")
            };
            let points: Vec<String> = at.into_iter().map(point).collect();
            writeln!(
                text,
                "\n{}: {}",
                Self::row_name(trial.name),
                points.join(", ")
            )?;
        }
        Ok(write_atomically(
            &self.dir.join("report.md"),
            text.as_bytes(),
        )?)
    }
}

/// Steps and returns of the evaluations within a training.
fn curve(out: &Path) -> Result<Vec<(f64, f64)>> {
    let text = fs::read_to_string(out.join("metrics.jsonl"))?;
    let mut points = vec![];
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("a line of metrics.jsonl")?;
        let number = |name: &str| line.get(name).and_then(Value::as_f64);
        points.extend(number("step").zip(number("evaluation/return")));
    }
    Ok(points)
}

fn main() -> Result<()> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let known: Vec<&str> = ["log"]
        .into_iter()
        .chain(TRIALS.iter().map(|trial| trial.name))
        .collect();
    for name in &only {
        ensure!(
            known.contains(&name.as_str()),
            "there is no part {name}; there are {}",
            known.join(", ")
        );
    }
    let asked = |name: &str| only.is_empty() || only.iter().any(|asked| asked == name);
    let bench = Bench {
        dir: PathBuf::from("target/bench/learning"),
        stop: AtomicBool::new(false),
    };
    fs::create_dir_all(&bench.dir)?;
    let needs_log = |trial: &Trial| asked(trial.name) && !matches!(trial.from, From::Task);
    if asked("log") || TRIALS.iter().any(needs_log) {
        bench.make_log()?;
    }
    for trial in TRIALS.iter().filter(|trial| asked(trial.name)) {
        let begins_from = match trial.from {
            From::TaskAndLog(Some(other)) => TRIALS.iter().find(|trial| trial.name == other),
            _ => None,
        };
        for trial in begins_from.into_iter().chain([trial]) {
            bench.measure(trial)?;
            bench.report()?;
        }
    }
    for (name, peer, found) in bench.all_found() {
        bench.print_row(name, peer, &found);
    }
    Ok(())
}
