//! Benchmarks are examples that print one JSON row per figure; this collects the rows.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use hilt_show::plot::number;
use serde::{Deserialize, Serialize};

use crate::{process, setup};

/// Name, package, its folder, example.
const BENCHES: [(&str, &str, &str, &str); 14] = [
    (
        "kinematics",
        "hilt-kinematics",
        "core/kinematics",
        "bench_kinematics",
    ),
    ("sim", "hilt-sim", "core/sim", "bench_sim"),
    ("policy", "hilt-tests", "tests", "bench_policy"),
    ("learner", "hilt-learner", "learner", "bench_learner"),
    ("stream", "hilt-learner", "learner", "bench_stream"),
    ("snapshot", "hilt-tests", "tests", "bench_snapshot"),
    ("replay", "hilt-learner", "learner", "bench_replay"),
    ("data", "hilt-learner", "learner", "bench_data"),
    ("generative", "hilt-learner", "learner", "bench_generative"),
    ("proof", "hilt-runtime", "runtime", "bench_proof"),
    ("loop", "hilt-tests", "tests", "bench_loop"),
    ("bus", "hilt-drivers", "drivers", "bench_bus"),
    ("supervisor", "hilt-runtime", "runtime", "bench_supervisor"),
    (LEARNING, "hilt-learner", "learner", "bench_learning"),
];
/// It takes hours, and runs only by its name.
const LEARNING: &str = "learning";

/// One figure, with what it is compared to.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    value: f64,
    unit: String,
    peer: Option<String>,
    peer_value: Option<f64>,
    /// `value / peer_value`.
    ratio: Option<f64>,
    /// Standard deviation, where `value` is a mean of several runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spread: Option<f64>,
    /// How each of them came to it: steps and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    curves: Option<Vec<Vec<(f64, f64)>>>,
}

/// Runs one benchmark, or parts of it where it has some, or all but the longest, one after the other.
pub fn run(root: &Path, name: Option<&str>, parts: &[String]) -> Result<()> {
    let known: Vec<&str> = BENCHES.iter().map(|bench| bench.0).collect();
    if let Some(name) = name {
        ensure!(
            known.contains(&name),
            "there is no benchmark {name}; there are {}",
            known.join(", ")
        );
    }
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (bench, package, place, example) in BENCHES {
        if name.map_or(bench == LEARNING, |name| name != bench) {
            continue;
        }
        ensure!(
            parts.is_empty() || bench == LEARNING,
            "{bench} has no parts; {LEARNING} has"
        );
        let source = format!("{place}/examples/{example}");
        let is_there = |end: &str| root.join(format!("{source}{end}")).exists();
        if !is_there(".rs") && !is_there("/main.rs") {
            if name.is_some() {
                bail!("{bench}: {source} is not there yet");
            }
            println!("── {bench}: SKIPPED, {source} is not there yet");
            continue;
        }
        println!("── {bench}");
        if bench == "loop" {
            setup::loop_programs()?;
        }
        let measured = measure(root, package, example, parts);
        let rows = measured.with_context(|| format!("benchmark {bench}"))?;
        print!("{}", table(&rows));
        let path = folder.join(format!("{bench}.json"));
        fs::write(&path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn measure(root: &Path, package: &str, example: &str, parts: &[String]) -> Result<Vec<Row>> {
    let mut arguments = vec![
        "run",
        "--quiet",
        "--release",
        "-p",
        package,
        "--example",
        example,
        "--",
    ];
    arguments.extend(parts.iter().map(String::as_str));
    let mut child = process::cargo(&arguments)
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("the example has no output")?;
    let mut rows = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("reading the example's output")?;
        match row(&line) {
            Some(row) => rows.push(row?),
            None => println!("{line}"),
        }
    }
    let status = child.wait().context("waiting for the example")?;
    ensure!(status.success(), "{example} failed ({status})");
    ensure!(!rows.is_empty(), "{example} printed no row");
    Ok(rows)
}

/// A line that begins an object is meant as a row; others are for the reader.
fn row(line: &str) -> Option<Result<Row>> {
    line.starts_with('{')
        .then(|| serde_json::from_str(line).with_context(|| format!("not a row: {line}")))
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        text += &format!(
            "{:width$}  {:>10} {:<6}",
            row.name,
            number(row.value),
            row.unit
        );
        if let Some(spread) = row.spread {
            text += &format!("  ± {}", number(spread));
        }
        if let (Some(peer), Some(value)) = (&row.peer, row.peer_value) {
            text += &format!("  {peer}: {}", number(value));
        }
        if let Some(ratio) = row.ratio {
            text += &format!("  ×{}", number(ratio));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_from_talk_and_bad_rows_are_errors() {
        assert!(row("warming up").is_none());
        let line =
            r#"{"name":"a.b","value":2.0,"unit":"1/s","peer":"x","peer_value":0.5,"ratio":4.0}"#;
        let good = row(line).unwrap().unwrap();
        assert_eq!((good.name.as_str(), good.ratio), ("a.b", Some(4.0)));
        let lone =
            r#"{"name":"a","value":1,"unit":"ms","peer":null,"peer_value":null,"ratio":null}"#;
        assert_eq!(row(lone).unwrap().unwrap().peer, None);
        assert!(row(r#"{"name":"a","value":"fast"}"#).unwrap().is_err());
        let shown = table(&[good]);
        assert!(
            shown.contains("a.b") && shown.contains("x: 0.5") && shown.contains("×4"),
            "{shown}"
        );
    }
}
