//! Several trainings as one command: every data set with every seed, one after the other, as papers report them.
//!
//! | in `--out` | what it is |
//! |---|---|
//! | `<data>/seed-<k>/` | what a training by itself leaves |
//! | `config.toml` | the configuration that all of them have |
//! | `summary.json`, `summary.md` | means and standard deviations over the seeds that are finished |
//!
//! One that fails is named at the end, and the others go on. A resumed batch goes on with what is not finished; seeds
//! and data sets may be added to it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use hilt_protocol::RigSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OfflineOptions;
use crate::{
    config::LearnerConfig, course::folder::FACTS_FILE, metrics::write_atomically, stopped::Stopped,
    tasks, trained::CONFIG_FILE,
};

const SUMMARY_FILE: &str = "summary.json";
const TABLE_FILE: &str = "summary.md";
const SOURCES_FILE: &str = "batch.json";

/// What to train from, and where to.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// The data sets; each goes by the name of its file or folder.
    pub data: Vec<PathBuf>,
    /// The rig of recordings that do not say it themselves.
    pub rig: Option<RigSpec>,
    /// Tasks that the policies are judged in: none, one for all, or one per data set.
    pub envs: Vec<String>,
    /// The seeds; every data set is trained from with each.
    pub seeds: Vec<u64>,
    /// Folder for everything that comes out.
    pub out: PathBuf,
    /// Go on with what is not finished in `out`.
    pub resume: bool,
    /// Hyperparameters of them all.
    pub config: LearnerConfig,
}

/// What goes by a name in a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Source {
    path: String,
    env: Option<String>,
}

/// One training of a batch.
struct Job {
    data: String,
    seed: u64,
    options: OfflineOptions,
}

impl Job {
    fn name(&self) -> String {
        format!("{}, seed {}", self.data, self.seed)
    }
}

/// Trains until all are finished or `stop` is set, and sums up what is finished. An error if one failed.
pub fn run(options: &BatchOptions, stop: &AtomicBool) -> Result<()> {
    let jobs = jobs(options)?;
    begin(options, &jobs)?;
    let mut failed = vec![];
    for (index, job) in jobs.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (name, number) = (job.name(), index + 1);
        let trained = match result(job) {
            Ok(Some(_)) => {
                println!("── {name} ({number} of {}): is finished", jobs.len());
                continue;
            }
            Ok(None) => {
                println!("── {name} ({number} of {})", jobs.len());
                super::run(&job.options, stop)
            }
            Err(error) => Err(error),
        };
        match trained {
            Ok(()) => (),
            // Ctrl-C before its first update: as one that was not begun.
            Err(error) if error.is::<Stopped>() => break,
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                failed.push(format!("{name}: {error:#}"));
            }
        }
    }
    let rows = sum_up(&jobs)?;
    let table = table(&rows);
    print!("{table}");
    let finished: usize = rows.iter().map(|row| row.results.len()).sum();
    let summary = json!({
        "algorithm": options.config.algorithm.name(),
        "trainings": jobs.len(),
        "finished": finished,
        "failed": failed,
        "data": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    let write = |name: &str, bytes: &[u8]| {
        let path = options.out.join(name);
        write_atomically(&path, bytes).with_context(|| path.display().to_string())
    };
    write(SUMMARY_FILE, &serde_json::to_vec_pretty(&summary)?)?;
    write(TABLE_FILE, table.as_bytes())?;
    anyhow::ensure!(
        failed.is_empty(),
        "{} of {} trainings failed; mend what they name and repeat the command with --resume, which leaves alone what is \
         finished\n  {}",
        failed.len(),
        jobs.len(),
        failed.join("\n  ")
    );
    if finished < jobs.len() {
        println!(
            "{finished} of {} are finished; go on by --resume",
            jobs.len()
        );
    }
    Ok(())
}

/// Every data set with every seed.
fn jobs(options: &BatchOptions) -> Result<Vec<Job>> {
    let (data, envs, seeds) = (&options.data, &options.envs, &options.seeds);
    anyhow::ensure!(
        envs.len() <= 1 || envs.len() == data.len(),
        "--env is given {} times and --data {} times; give it once for all, or once for each in the same order",
        envs.len(),
        data.len()
    );
    for (index, seed) in seeds.iter().enumerate() {
        anyhow::ensure!(
            !seeds[..index].contains(seed),
            "--seeds has {seed} twice; leave one of them out"
        );
    }
    // Before hours go into the first of them.
    for path in data {
        fs::metadata(path).with_context(|| format!("--data {}", path.display()))?;
    }
    for env in envs {
        tasks::open(env).context("--env")?;
    }
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    let mut jobs = vec![];
    for (index, path) in data.iter().enumerate() {
        let name = name(path)?;
        if let Some(other) = names.insert(name.clone(), path) {
            anyhow::bail!(
                "--data {} and --data {} would both be called {name} in {}; rename one of them",
                other.display(),
                path.display(),
                options.out.display()
            );
        }
        jobs.extend(seeds.iter().map(|&seed| Job {
            data: name.clone(),
            seed,
            options: OfflineOptions {
                data: path.clone(),
                rig: options.rig.clone(),
                env: envs.get(index).or(envs.first()).cloned(),
                out: options.out.join(&name).join(format!("seed-{seed}")),
                seed,
                resume: options.resume,
                config: options.config.clone(),
            },
        }));
    }
    Ok(jobs)
}

/// What a data set is called: its file without the ending, or its folder.
fn name(path: &Path) -> Result<String> {
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    let name = name.and_then(|name| name.to_str());
    let name = name.with_context(|| {
        let path = path.display();
        format!(
            "--data {path}: in a batch it goes by its name, and this has none; give its whole path"
        )
    })?;
    Ok(name.to_owned())
}

/// Makes the folder this batch's.
fn begin(options: &BatchOptions, jobs: &[Job]) -> Result<()> {
    let (out, shown) = (&options.out, options.out.display());
    anyhow::ensure!(
        !out.join(FACTS_FILE).exists(),
        "--out {shown} holds a training by itself; choose another folder"
    );
    let begun = [CONFIG_FILE, SUMMARY_FILE].map(|name| out.join(name).exists());
    anyhow::ensure!(
        options.resume || !begun.contains(&true),
        "--out {shown} holds trainings; go on with them by --resume, or choose another folder"
    );
    fs::create_dir_all(out).with_context(|| format!("creating {shown}"))?;
    let begun = read_sources(out)?;
    let mut sources = begun.clone();
    for job in jobs {
        let whole = fs::canonicalize(&job.options.data);
        let whole = whole.with_context(|| format!("--data {}", job.options.data.display()))?;
        let source = Source {
            path: whole.display().to_string(),
            env: job.options.env.clone(),
        };
        let theirs = begun.get(&job.data);
        anyhow::ensure!(
            theirs.is_none_or(|theirs| *theirs == source),
            "--out {shown}: what is called {} there was another file, or judged in another task, when it began; choose \
             another folder",
            job.data
        );
        sources.insert(job.data.clone(), source);
    }
    let path = out.join(SOURCES_FILE);
    write_atomically(&path, &serde_json::to_vec_pretty(&sources)?)
        .with_context(|| path.display().to_string())?;
    let config = toml::to_string(&options.config)?;
    let path = out.join(CONFIG_FILE);
    write_atomically(&path, config.as_bytes()).with_context(|| path.display().to_string())
}

/// The data sets of the batch in a folder, by name.
fn read_sources(out: &Path) -> Result<BTreeMap<String, Source>> {
    let path = out.join(SOURCES_FILE);
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).with_context(|| path.display().to_string())?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Where the batch in a folder has its trainings, a folder per data set; nowhere, if it holds none.
pub(crate) fn folders(out: &Path) -> Vec<PathBuf> {
    // A file of that name can be another program's.
    let sources = read_sources(out).unwrap_or_default();
    sources.into_keys().map(|data| out.join(data)).collect()
}

/// What came out of a training: figures by name.
type Figures = BTreeMap<String, f64>;

/// A finished training.
struct Finished {
    /// What its policies were compared by.
    criterion: Option<String>,
    /// Of the last evaluation, and `best`; with the updates until either.
    figures: Figures,
}

/// What came of a training; `None` if it is not finished.
fn result(job: &Job) -> Result<Option<Finished>> {
    let path = job.options.out.join(SUMMARY_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let summary: Value =
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
    let ours = job.options.config.algorithm.name();
    let theirs = summary["algorithm"].as_str().unwrap_or("another program");
    anyhow::ensure!(
        theirs == ours,
        "{}: a training by {theirs}, and this one is by {ours}; choose another --out",
        path.display()
    );
    let updates = summary["updates"].as_u64();
    // One that was told to end within its last evaluation has that to make up for.
    let judged = summary["last_evaluation"]["updates"].as_u64() == updates;
    if updates < Some(job.options.config.offline.updates) || !judged {
        return Ok(None);
    }
    let last = summary["last_evaluation"].as_object();
    let last = last
        .into_iter()
        .flatten()
        .map(|(name, value)| match &**name {
            "updates" => ("last_at_update".to_owned(), value),
            _ => (name.clone(), value),
        });
    let best = &summary["best"];
    let best = [
        ("best", &best["score"]),
        ("best_at_update", &best["updates"]),
    ];
    let named = last.chain(best.map(|(name, value)| (name.to_owned(), value)));
    let figures = named.filter_map(|(name, value)| Some((name, value.as_f64()?)));
    Ok(Some(Finished {
        criterion: summary["criterion"].as_str().map(str::to_owned),
        figures: figures.collect(),
    }))
}

/// The finished trainings on one data set.
struct Row {
    data: String,
    seeds: usize,
    results: Vec<(u64, Finished)>,
}

/// Those of every data set, in the order of the command.
fn sum_up(jobs: &[Job]) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = vec![];
    for job in jobs {
        if rows.last().is_none_or(|row| row.data != job.data) {
            rows.push(Row {
                data: job.data.clone(),
                seeds: 0,
                results: vec![],
            });
        }
        // One that cannot be read has been named as failed.
        if let (Some(row), result) = (rows.last_mut(), result(job)) {
            row.seeds += 1;
            row.results
                .extend(result.ok().flatten().map(|found| (job.seed, found)));
        }
    }
    Ok(rows)
}

/// Mean, and standard deviation of the sample (n − 1), which a single number has none of.
fn spread(numbers: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = numbers.len() as f64;
    let mean = (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / n)?;
    let square: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    Some((mean, (n > 1.0).then(|| (square / (n - 1.0)).sqrt())))
}

impl Row {
    fn criterion(&self) -> Option<&str> {
        self.results.first()?.1.criterion.as_deref()
    }

    /// A figure of every seed that has it.
    fn numbers(&self, figure: &str) -> Vec<f64> {
        let of = |(_, result): &(u64, Finished)| result.figures.get(figure).copied();
        self.results.iter().filter_map(of).collect()
    }

    fn json(&self) -> Value {
        let names = self
            .results
            .iter()
            .flat_map(|(_, result)| result.figures.keys());
        let figures: BTreeMap<&String, Value> = names
            .filter_map(|name| {
                let (mean, std) = spread(&self.numbers(name))?;
                Some((name, json!({ "mean": mean, "std": std })))
            })
            .collect();
        let seeds: BTreeMap<String, &Figures> = (self.results.iter())
            .map(|(seed, result)| (seed.to_string(), &result.figures))
            .collect();
        json!({
            "data": self.data,
            "criterion": self.criterion(),
            "figures": figures,
            "seeds": seeds,
        })
    }

    /// The spread of a figure in words.
    fn words(&self, figure: &str) -> String {
        match spread(&self.numbers(figure)) {
            None => "–".to_owned(),
            Some((mean, std)) => {
                let digits = if mean.abs() < 100.0 { 4 } else { 1 };
                let std = std.map(|std| format!(" ± {std:.digits$}"));
                format!("{mean:.digits$}{}", std.unwrap_or_default())
            }
        }
    }
}

/// A table in Markdown that can be read as it is.
fn table(rows: &[Row]) -> String {
    let head = ["data", "seeds", "judged by", "best", "last"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let criterion = row.criterion().unwrap_or("–");
        let group = if criterion == "return" {
            "evaluation"
        } else {
            "held_out"
        };
        [
            row.data.clone(),
            format!("{} of {}", row.results.len(), row.seeds),
            criterion.to_owned(),
            row.words("best"),
            row.words(&format!("{group}/{criterion}")),
        ]
    });
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or_default()
    });
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            // Writing into a string does not fail.
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in widths {
                let _ = write!(text, "|{:-<width$}", "", width = width + 2);
            }
            text.push_str("|\n");
        }
    }
    text.push_str("\nMean ± standard deviation over seeds (of the sample, n − 1).\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_no_deviation_and_none_no_mean() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some((3.0, None)));
        assert_eq!(spread(&[1.0, 2.0, 3.0]), Some((2.0, Some(1.0))));
    }

    #[test]
    fn the_table_is_aligned_and_says_what_is_missing() {
        let finished = |best: f64| Finished {
            criterion: Some("return".into()),
            figures: BTreeMap::from([
                ("best".into(), best),
                ("evaluation/return".into(), best - 1.0),
            ]),
        };
        let rows = [
            Row {
                data: "hopper".into(),
                seeds: 3,
                results: vec![(1, finished(3000.0)), (2, finished(3001.0))],
            },
            Row {
                data: "ant".into(),
                seeds: 3,
                results: vec![],
            },
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "| data   | seeds  | judged by | best         | last         |",
                "|--------|--------|-----------|--------------|--------------|",
                "| hopper | 2 of 3 | return    | 3000.5 ± 0.7 | 2999.5 ± 0.7 |",
                "| ant    | 0 of 3 | –         | –            | –            |",
            ]
        );
        let json = rows[0].json();
        assert_eq!(json["figures"]["best"]["mean"], 3000.5);
        assert_eq!(json["seeds"]["2"]["best"], 3001.0);
        assert_eq!(rows[1].json()["criterion"], Value::Null);
    }
}
