//! The accounts of the actor's loops, `timing.json`, as a section of the report.

use std::{fmt::Write, fs, io, path::Path};

use anyhow::{Context, Result};
use hilt_show::plot::number;
use serde::Deserialize;

#[derive(Deserialize)]
struct Timing {
    ticks: u64,
    outcomes: Vec<Outcome>,
    /// Absent where deadlines were not measured.
    stages: Option<Vec<Stage>>,
    lost_ticks: u64,
    lost_policy: u64,
}

#[derive(Deserialize)]
struct Outcome {
    outcome: String,
    ticks: Option<u64>,
}

#[derive(Deserialize)]
struct Stage {
    stage: String,
    budget_us: f64,
    count: u64,
    over_budget: u64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
}

/// The section from the `timing.json` at `path`; nothing where there is none.
pub fn section(path: &Path) -> Result<String> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        bytes => bytes.with_context(|| format!("reading {}", path.display()))?,
    };
    let timing: Timing =
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?;
    Ok(html(&timing))
}

fn html(timing: &Timing) -> String {
    let mut html = format!(
        "<h2>Control loop</h2>\n<table><tr><th>ticks</th><td>{}</td></tr>",
        timing.ticks
    );
    for row in &timing.outcomes {
        let ticks = row.ticks.map_or("not measured".into(), |n| n.to_string());
        let name = words(&row.outcome);
        let _ = write!(html, "<tr><th>{name}</th><td>{ticks}</td></tr>");
    }
    html += "</table>\n";
    match &timing.stages {
        Some(stages) => html += &table(stages),
        None => html += "<p>What the stages took was not measured.</p>\n",
    }
    if timing.lost_ticks + timing.lost_policy > 0 {
        let _ = writeln!(
            html,
            "<p class=\"note\">Missing among the stages: the times of {} ticks, {} times of the \
policy.</p>",
            timing.lost_ticks, timing.lost_policy
        );
    }
    html
}

fn table(stages: &[Stage]) -> String {
    let mut html = String::from(
        "<table><tr><th>stage, µs</th><th>budget</th><th>median</th><th>p99</th><th>p99.9</th>\
<th>longest</th><th>over budget</th><th>of</th></tr>",
    );
    for row in stages {
        let times = [row.p50_us, row.p99_us, row.p999_us, row.max_us];
        let budget = number(row.budget_us);
        let _ = write!(html, "<tr><th>{}</th><td>{budget}</td>", words(&row.stage));
        for us in times {
            let text = us.map_or("not measured".into(), number);
            let over = us.is_some_and(|us| us > row.budget_us);
            let text = if over { format!("<b>{text}</b>") } else { text };
            let _ = write!(html, "<td>{text}</td>");
        }
        let _ = write!(
            html,
            "<td>{}</td><td>{}</td></tr>",
            row.over_budget, row.count
        );
    }
    html + "</table>\n"
}

/// `refused_late` in words.
fn words(name: &str) -> String {
    hilt_show::html::escape(&name.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: &str = r#"{"clock": "monotonic", "ticks": 101, "lost_ticks": 2, "lost_policy": 3,
"outcomes": [{"outcome": "on_time", "ticks": 100}, {"outcome": "missed", "ticks": 1}], "stages": [
{"stage": "state_read", "budget_us": 1000, "count": 100, "over_budget": 1,
 "p50_us": 600.5, "p99_us": 610, "p999_us": 1200, "max_us": 1200.25},
{"stage": "head", "budget_us": 20000, "count": 0, "over_budget": 0,
 "p50_us": null, "p99_us": null, "p999_us": null, "max_us": null}]}"#;

    const LOCKSTEP: &str = r#"{"clock": "simulated", "ticks": 7, "lost_ticks": 0, "lost_policy": 0,
"outcomes": [{"outcome": "on_time", "ticks": 7}, {"outcome": "missed", "ticks": null}]}"#;

    fn section_of(json: &str) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timing.json");
        fs::write(&path, json).unwrap();
        section(&path)
    }

    #[test]
    fn stages_stand_against_their_budgets() {
        let html = section_of(MEASURED).unwrap();
        for part in [
            "<th>ticks</th><td>101</td>",
            "<th>on time</th><td>100</td>",
            "<th>missed</th><td>1</td>",
            "<th>state read</th><td>1000</td><td>600.5</td><td>610</td><td><b>1200</b></td>\
<td><b>1200</b></td><td>1</td><td>100</td>",
            "<th>head</th><td>20000</td><td>not measured</td>",
            "the times of 2 ticks, 3 times",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn what_was_not_measured_is_no_zero() {
        let html = section_of(LOCKSTEP).unwrap();
        assert!(html.contains("<th>missed</th><td>not measured</td>"));
        assert!(html.contains("stages took was not measured"));
        assert!(!html.contains("Missing among"));
    }

    #[test]
    fn without_accounts_there_is_no_section_and_broken_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let none = section(&dir.path().join("timing.json")).unwrap();
        assert_eq!(none, "");
        let error = format!("{:#}", section_of("{").unwrap_err());
        assert!(error.contains("timing.json"), "{error}");
    }
}
